"""How answers look: tables with colours, glyphs and times told from now on a terminal; plain aligned columns in a pipe.

Text that users, jobs or files wrote is never obeyed: no markup, no control characters.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES: dict[str, str] = {
    "succeeded": "green",
    "failed": "bold red",
    "timed_out": "bold red",
    "abandoned": "red",
    "cancelled": "yellow",
    "upstream_failed": "red dim",
    "skipped": "dim",
    "running": "bold cyan",
    "submitted": "cyan",
    "claimed": "cyan",
    "queued": "cyan",
    "ready": "blue",
    "waiting": "dim",
    "held": "blue",
    "backoff": "yellow",
    "approval": "bold magenta",
    "doubt": "bold magenta",
    "paused": "yellow",
}
_GLYPHS: dict[str, tuple[str, str]] = {
    "succeeded": ("✓", "+"),
    "failed": ("✗", "x"),
    "timed_out": ("✗", "x"),
    "cancelled": ("■", "-"),
    "upstream_failed": ("✗", "x"),
    "skipped": ("–", "-"),
    "running": ("●", "*"),
    "submitted": ("◌", "o"),
    "claimed": ("◌", "o"),
    "queued": ("◌", "o"),
    "ready": ("○", "o"),
    "waiting": ("○", "."),
    "held": ("○", "."),
    "backoff": ("↻", "~"),
    "approval": ("?", "?"),
    "doubt": ("?", "?"),
}


class Cell(NamedTuple):
    text: str
    style: str = ""


class Column(NamedTuple):
    title: str
    right: bool = False
    wraps: bool = False
    """May take several lines, or be cut; all other columns stay whole."""


class Terminal:
    """Where one stream's output goes. `rich` says whether it is a terminal that people look at."""

    def __init__(self, stream: IO[str], *, no_color: bool = False) -> None:
        self.stream = stream
        self.no_color = no_color or bool(os.environ.get("NO_COLOR"))
        self.rich = stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "")
        self.unicode = "utf" in (getattr(stream, "encoding", None) or "").lower()
        self._console: Console | None = None

    @property
    def console(self) -> "Console":
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self.stream,
                no_color=self.no_color or None,
                highlight=False,
                markup=False,
                emoji=False,
                force_terminal=self.rich,
            )
        return self._console

    @property
    def width(self) -> int:
        return shutil.get_terminal_size((100, 24)).columns

    def glyph(self, status: str) -> str:
        return _GLYPHS.get(status, ("·", "."))[0 if self.unicode else 1]

    def status(self, status: str) -> Cell:
        """A status as a cell: glyph and word on a terminal, the word alone in a pipe."""
        return Cell(f"{self.glyph(status)} {status}" if self.rich else status, STYLES.get(status, ""))

    def line(self, *parts: str | Cell) -> None:
        """A line of pieces, each with its style."""
        if not self.rich:
            print("".join(clean(part if isinstance(part, str) else part.text) for part in parts), file=self.stream)
            return
        self.console.print(self.text(*parts), soft_wrap=True)

    def text(self, *parts: str | Cell) -> "Text":
        from rich.text import Text

        text = Text()
        for part in parts:
            cell = Cell(part) if isinstance(part, str) else part
            text.append(clean(cell.text), style=cell.style or None)
        return text

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]], *, indent: int = 0) -> None:
        cells = [[Cell(one) if isinstance(one, str) else one for one in row] for row in rows]
        kept = [index for index in range(len(columns)) if any(row[index].text for row in cells)]
        if self.rich:
            self.console.print(self._rich_table(columns, cells, kept, indent))
            return
        shown = [[clean(row[index].text) for index in kept] for row in cells]
        titles = [columns[index].title.upper() for index in kept]
        widths = [max(map(len, column)) for column in zip(titles, *shown, strict=True)]
        for row in [titles, *shown]:
            padded = (
                text.rjust(width) if columns[index].right else text.ljust(width)
                for index, text, width in zip(kept, row, widths, strict=True)
            )
            print(" " * indent + "  ".join(padded).rstrip(), file=self.stream)

    def _rich_table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: Sequence[int], indent: int = 0
    ) -> object:
        from rich.padding import Padding
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.show_header = any(columns[index].title for index in kept)
        for index in kept:
            column = columns[index]
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.wraps,
                overflow="fold" if column.wraps else "ellipsis",
                min_width=None if column.wraps else min(max(len(row[index].text) for row in rows), 60),
            )
        for row in rows:
            table.add_row(*(self.text(row[index]) for index in kept))
        return Padding(table, (0, 0, 0, indent)) if indent else table

    def moment(self, at: datetime | None, now: datetime) -> str:
        """`3 min ago` on a terminal, the instant itself in a pipe."""
        if at is None:
            return ""
        return relative(at, now) if self.rich else instant(at)


def clean(text: str) -> str:
    """The text without anything that a terminal would obey; line ends become spaces."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else " " if letter in "\n\t\r" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: datetime) -> str:
    """The time of day with milliseconds, UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for big, small, unit, lesser in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86_400, 3600, "d", "h")):
        if whole < big * (60 if big < 3600 else 24) or unit == "d":
            rest = whole % big // small
            return f"{whole // big} {unit}" + (f" {rest} {lesser}" if rest else "")
    raise AssertionError(seconds)


def relative(at: datetime, now: datetime) -> str:
    """`just now`, `3 min ago`, `in 5 h`: the largest unit alone."""
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    if size < 2:
        return "just now" if seconds <= 0 else "now"
    for unit, length, most in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 129_600), ("d", 86_400, 10**12)):
        if size < most:
            count = int(size // length)
            return f"in {count} {unit}" if seconds > 0 else f"{count} {unit} ago"
    raise AssertionError(size)


def counts(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def short_tally(terminal: Terminal, jobs: Iterable[tuple[str, int]]) -> str:
    """`59 ✓  2 ✗` on a terminal, where words would not fit; the words in a pipe."""
    if not terminal.rich:
        return tally(jobs)
    found: dict[str, int] = {}
    order = list(STYLES)
    for status, count in sorted(jobs, key=lambda one: order.index(one[0]) if one[0] in order else 0):
        glyph = terminal.glyph(status)
        found[glyph] = found.get(glyph, 0) + count
    return "  ".join(f"{count:,} {glyph}" for glyph, count in found.items() if count)


def tally(jobs: Iterable[tuple[str, int]]) -> str:
    """`5 succeeded, 2 running, 1 waiting`: what is under way first."""
    order = list(STYLES)
    found = sorted(
        ((status, count) for status, count in jobs if count),
        key=lambda one: order.index(one[0]) if one[0] in order else 0,
    )
    return ", ".join(f"{count:,} {status}" for status, count in found)
