"""The nearest valid name to one that was written: "did you mean".

Comparing texts costs, and a document may hold ten thousand names of which thousands are wrong; so every reading has
one budget of comparisons, and when it is used up problems are reported without a suggestion.
"""

from collections.abc import Collection
from difflib import get_close_matches

from shared.secrecy import without_secrets

COMPARISONS_MAX = 40_000
"""Comparisons for one reading: some 0.2 s in the worst case."""
WORD_LENGTH_MAX = 64
"""Longer words are no slip of the finger, and comparing them is quadratic in their length."""
CUTOFF = 0.65
"""How alike two words must be, of 1."""
SHOWN_FROM_MAX = 10_000
"""Characters of a text that are searched for secrets before a piece of it is shown."""


class Nearest:
    """Suggestions within one budget."""

    def __init__(self) -> None:
        self._left = COMPARISONS_MAX

    def to(self, word: str, candidates: Collection[str]) -> str | None:
        """The candidate most like the word; None when nothing is near, or the budget is used up."""
        if not word or len(word) > WORD_LENGTH_MAX or len(candidates) > self._left:
            return None
        self._left -= len(candidates)
        folded = {candidate.casefold(): candidate for candidate in reversed(list(candidates))}
        found = get_close_matches(word.casefold(), folded, n=1, cutoff=CUTOFF)
        return folded[found[0]] if found else None

    def hint(self, word: str, candidates: Collection[str], otherwise: str = "") -> str:
        """`did you mean `x`?`, or what is given for when nothing is near."""
        near = self.to(word, candidates)
        return f"did you mean `{near}`?" if near is not None else otherwise


def shown(text: object, length_max: int = 60) -> str:
    """A piece of the user's text for a message: one line, printable, bounded, and without what looks like a secret."""
    whole = without_secrets(str(text)[:SHOWN_FROM_MAX])
    clean = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in whole[: length_max + 1]
    )
    return clean if len(clean) <= length_max else clean[:length_max] + "…"


def listed(words: Collection[str], count_max: int = 12) -> str:
    """`a, b or c`, bounded."""
    some = [shown(word) for _, word in zip(range(count_max), words, strict=False)]
    if len(words) > count_max:
        return ", ".join(some) + f" and {len(words) - count_max} more"
    return " or ".join(filter(None, [", ".join(some[:-1]), some[-1]])) if some else "nothing"
