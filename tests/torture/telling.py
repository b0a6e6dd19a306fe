"""What a section of the torture came to, and how its progress is told."""

import sys
import time
from dataclasses import dataclass, field


class Unfit(Exception):
    """This machine cannot do that to an engine; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    summary: str
    """One line of numbers."""
    problems: list[str] = field(default_factory=list)
    """What does not hold; empty when all is well."""


class Teller:
    """Lines with the seconds since the section began."""

    def __init__(self, section: str) -> None:
        self._section = section
        self._began = time.monotonic()

    def progress(self, text: str) -> None:
        sys.stdout.write(f"{self._section:>9} {time.monotonic() - self._began:6.0f} s  {text}\n")
        sys.stdout.flush()
