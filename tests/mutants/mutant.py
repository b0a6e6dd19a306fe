"""What a deliberate bug is: text that stands in one file exactly once, and what stands there instead."""

from dataclasses import dataclass
from pathlib import Path


class Stale(Exception):
    """The code has changed, and nobody has said what the bug looks like now."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`docs/mutants.md` says why it would hurt. `likely`: tests to try before all others, as words of pytest's command line."""

    name: str
    file: str
    old: str
    new: str
    likely: tuple[str, ...] = ()

    def applied(self, tree: Path) -> str:
        """The file's text with the bug in it. Raises `Stale` unless what it replaces is there exactly once."""
        path = tree / self.file
        text = path.read_text() if path.exists() else ""
        there = text.count(self.old)
        if there != 1:
            raise Stale(f"{self.name}: what it replaces is {there} times in {self.file}, and must be there once")
        return text.replace(self.old, self.new)
