"""Output with times: the marks made while a job writes, and reading its lines back page by page.

The job writes into plain files, so that nothing needs to run for it to write. While it runs, the engine notes now and then how long
the files have become; each note is a mark, a line of fixed width in `times`. A line of output carries the time of the first mark
that covers it: it was there then. What no mark covers carries the time at which its file was last written.

Pages read only what they show, so a gigabyte of output costs no more than a kilobyte (fault 28).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from shared.errors import InvalidInput, Problem

PAGE_BYTES_MAX = 1 << 22
LINE_BYTES_MAX = 1 << 16
"""A longer line is shown in pieces of this size."""
MARK_BYTES = 42
"""`milliseconds out err`, 13 digits each, with separators."""

Stream = Literal["out", "err"]


@dataclass(frozen=True, slots=True)
class LogLine:
    at: datetime
    """When the line was surely there; UTC."""
    stream: Stream
    text: str
    """Without the newline; bytes that are not UTF-8 are shown as U+FFFD."""
    host: str = ""
    """With several hosts, which."""


@dataclass(frozen=True, slots=True)
class LogPage:
    lines: tuple[LogLine, ...]
    cursor: str
    """Where the next page begins; opaque, and valid for as long as the attempt is kept."""
    complete: bool
    """Whether nothing can follow."""


@dataclass(frozen=True, slots=True)
class Source:
    """The output of one process."""

    directory: str
    host: str = ""


def write_mark(directory: str, at: datetime, out: int, err: int) -> None:
    """Note how long the output is. Sizes never shrink, times never go back but for a changed clock, which is harmless."""
    text = f"{round(at.timestamp() * 1000):013d} {out:013d} {err:013d}\n".encode()
    descriptor = os.open(f"{directory}/times", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        # A mark cut short by a full disk would put every later one out of step.
        if surplus := os.fstat(descriptor).st_size % MARK_BYTES:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - surplus)
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def read_page(
    sources: Sequence[Source],
    *,
    stream: Stream | None,
    after_cursor: str,
    limit_bytes: int,
    ended: bool,
) -> LogPage:
    """The lines after the cursor, in the order in which they were noticed, about `limit_bytes` of them.

    `stream`: None for both. `ended` says that nothing more will be written; before that, a line without its newline is
    held back. A cursor that is none of ours: `InvalidInput`.
    """
    streams: tuple[Stream, ...] = ("out", "err")
    readers = [_Reader(source, name) for source in sources for name in streams if stream in (None, name)]
    offsets = _offsets_in(after_cursor, len(readers))
    budget = max(1, min(limit_bytes, PAGE_BYTES_MAX))
    lines: list[LogLine] = []
    try:
        for reader, offset in zip(readers, offsets, strict=True):
            reader.begin(offset, budget, ended)
        left = budget
        while left > 0:
            heads = [(head[0], index) for index, reader in enumerate(readers) if (head := reader.head) is not None]
            if not heads:
                break
            _, index = min(heads)
            line, size = readers[index].take()
            lines.append(line)
            left -= size
        complete = ended and all(reader.exhausted for reader in readers)
        return LogPage(tuple(lines), "-".join(str(reader.offset) for reader in readers), complete)
    finally:
        for reader in readers:
            reader.close()


class _Reader:
    """The lines of one file from an offset on, one look ahead."""

    def __init__(self, source: Source, name: Stream) -> None:
        self._source = source
        self._name = name
        self._column = 1 if name == "out" else 2
        self._file = _open(f"{source.directory}/{name}")
        self._times = _open(f"{source.directory}/times")
        self._marks = os.fstat(self._times).st_size // MARK_BYTES if self._times is not None else 0
        self._mark: tuple[int, int] | None = None
        self._buffer = b""
        self._start = 0
        self.offset = 0
        self.exhausted = True
        self.head: tuple[int, bytes] | None = None

    def begin(self, offset: int, bytes_max: int, ended: bool) -> None:
        self.offset = offset
        if self._file is None:
            return
        facts = os.fstat(self._file)
        self._written_ms = facts.st_mtime_ns // 1_000_000
        # One byte more than a page tells whether the last line goes on; a whole line must fit in any case.
        self._buffer = os.pread(self._file, bytes_max + LINE_BYTES_MAX, offset)
        self._whole = ended and offset + len(self._buffer) >= facts.st_size
        self._next_mark = self._first_mark_beyond(offset)
        self._look()

    def take(self) -> tuple[LogLine, int]:
        assert self.head is not None
        milliseconds, data = self.head
        self._start += len(data)
        self.offset += len(data)
        self._look()
        text = data.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
        return LogLine(at, self._name, text, self._source.host), len(data)

    def close(self) -> None:
        for descriptor in (self._file, self._times):
            if descriptor is not None:
                os.close(descriptor)

    def _look(self) -> None:
        end = self._buffer.find(b"\n", self._start, self._start + LINE_BYTES_MAX) + 1
        if end == 0:
            rest = len(self._buffer) - self._start
            end = self._start + LINE_BYTES_MAX if rest >= LINE_BYTES_MAX else len(self._buffer) if self._whole else 0
        data = self._buffer[self._start : end] if end > self._start else b""
        self.head = (self._time_of(self.offset + len(data)), data) if data else None
        self.exhausted = not data and (self._file is None or self._whole)

    def _time_of(self, end: int) -> int:
        """Of the first mark at which the file reached `end`."""
        while self._next_mark < self._marks:
            if self._mark is None or self._mark[0] != self._next_mark:
                self._mark_at, size = self._read_mark(self._next_mark)
                self._mark = (self._next_mark, size)
            if self._mark[1] >= end:
                return self._mark_at
            self._next_mark += 1
        return self._written_ms

    def _first_mark_beyond(self, offset: int) -> int:
        low, high = 0, self._marks
        while low < high:
            middle = (low + high) // 2
            if self._read_mark(middle)[1] > offset:
                high = middle
            else:
                low = middle + 1
        return low

    def _read_mark(self, number: int) -> tuple[int, int]:
        assert self._times is not None
        fields = os.pread(self._times, MARK_BYTES, number * MARK_BYTES).split()
        return int(fields[0]), int(fields[self._column])


def _offsets_in(cursor: str, count: int) -> list[int]:
    if not cursor:
        return [0] * count
    parts = cursor.split("-")
    if len(parts) != count or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise InvalidInput([Problem("cursor", "is not one of this log", "leave it out to read from the beginning")])
    return [int(part) for part in parts]


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
