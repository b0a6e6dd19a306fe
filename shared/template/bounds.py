"""The bounds of the template language: with them, every check and every rendering ends, soon and in little memory."""

TEXT_LENGTH_MAX = 16 * 1024
"""Characters in one text that holds a template. Texts without `{{` are not templates and have no bound here."""

BRACKET_DEPTH_MAX = 16
"""Brackets inside brackets. The parser recurses about fourteen frames for each, so this comes before parsing."""

PREFIXES_MAX = 100
"""Signs, `not`s and `if`s in one expression: the other ways to make the parser recurse."""

NODES_MAX = 1000
"""Names, values and operations in all expressions of one text together."""

TREE_DEPTH_MAX = 120
"""How deep operations of one expression may stand in each other; a chain of 100 `+` is 100 deep."""

RENDERED_LENGTH_MAX = 256 * 1024
"""Characters in a rendered text, and in every text that a filter or operator makes on the way there."""

VALUE_SIZE_MAX = 4 * 1024 * 1024
"""Size, about that of its JSON, of a list or mapping that a template passes on as such."""

VALUE_DEPTH_MAX = 64
"""Lists and mappings inside each other, in a value passed on and in a document rendered by `render_tree`."""

DOCUMENT_SIZE_MAX = 16 * 1024 * 1024
"""What all templates of one `render_tree` may produce together."""

WORK_MAX = 16 * 1024 * 1024
"""Characters and elements that filters and comparisons may look at, for one call of ours as a whole."""

INTEGER_BITS_MAX = 256
"""Integers that are calculated with or written; enough for any identifier, too few to eat memory."""

COMPILED_MAX = 512
"""Parsed templates that are kept."""
