"""Templates (`"s3://b/{{ params.region }}"`) and expressions (`"outcomes.extract == 'succeeded'"`) in documents.

Pure, total and bounded: no text and no value makes this hang, grow or run anything, and the same text with the same
context gives the same result in every process. A text without `{{` is not a template and costs nothing. What values
hold is never read as a template. The language is described in docs/templates.md, its bounds in `bounds.py`.

A context is a mapping of the roots in `names.ROOTS` (and `item`) to JSON values and aware datetimes:
`{"run": "nightly@…", "params": {…}, "jobs": {"extract": {"outputs": {…}, "outcome": "succeeded"}}, …}`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.template.language import (
        ROOTS,
        TIMES,
        Json,
        Names,
        check,
        check_expression,
        evaluate,
        render,
        render_text,
        render_tree,
    )

__all__ = [
    "ROOTS",
    "TIMES",
    "Json",
    "Names",
    "check",
    "check_expression",
    "evaluate",
    "is_template",
    "render",
    "render_text",
    "render_tree",
]


def is_template(text: str) -> bool:
    """Whether rendering can change the text."""
    return "{{" in text


def __getattr__(name: str) -> Any:
    # Most functions meet a template rarely or never: the language is imported with the first one.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shared.template import language

    found = globals()[name] = getattr(language, name)
    return found
