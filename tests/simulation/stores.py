"""Stores as functions meet them: in memory, true to their ports, and with everything that DynamoDB and S3 may do on the way.

A call takes time, may be refused, may be carried out and go unanswered, and is a point where its process may be killed. What is read
without consistency may be some moments old.
"""

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from shared.errors import Conflict, StoreUnavailable
from shared.ids import StreamName
from shared.ports import PAGE_MAX, DueRow, Record
from shared.stores.memory import MemoryDocuments, MemoryDues, MemorySnapshots, MemoryStore, MemoryViews, MemoryWaiters
from tests.simulation.kernel import Kernel

LAG_SECONDS = (0.0, 0.0, 0.0, 0.3, 2.0)
"""How old what is read without consistency may be."""
WRITES = frozenset(
    {
        "append",
        "lower",
        "raise_to",
        "remove",
        "add",
        "put",
        "put_run",
        "put_workflow",
        "put_backfill",
        "put_listeners",
        "remove_run",
        "remove_workflow",
    }
)


class Tables:
    """What outlives every process."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.events = MemoryStore()
        self.dues = MemoryDues()
        self.views = MemoryViews()
        self.documents = MemoryDocuments()
        self.snapshots = MemorySnapshots()
        self.waiters = MemoryWaiters()
        self.uploads: dict[str, tuple[bytes, str]] = {}
        """Objects under `workflows/`, with what identifies their content."""
        self.moved: Callable[[Record], None] = lambda _: None
        """Told of every commit: the table's stream."""
        self.row_lowered: Callable[[datetime], None] = lambda _: None
        self._stored: list[tuple[datetime, Record]] = []
        """Every commit, and when it was stored by the store's own clock."""
        self._recent: deque[tuple[datetime, StreamName, int]] = deque()
        self._rows: deque[tuple[datetime, StreamName, datetime | None]] = deque()

    def append(self, record: Record) -> None:
        before = self.events.position()
        self.events.append(record)
        if self.events.position() > before:
            self._stored.append((self.kernel.now, record))
            self._recent.append((self.kernel.now, record.stream, record.version))
            self.moved(record)

    def restored(self, moment: datetime) -> list[Record]:
        """Have new tables, with the commits that were stored until then and nothing else; the commits that are lost by that."""
        kept = [one for one in self._stored if one[0] <= moment]
        lost = [record for at, record in self._stored if at > moment]
        self._stored = kept
        self.events, self.dues, self.views = MemoryStore(), MemoryDues(), MemoryViews()
        self.snapshots = MemorySnapshots()
        for _, record in kept:
            self.events.append(record)
        self._recent.clear()
        self._rows.clear()
        return lost

    def read_lately(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        """Without the commits of the last moments, at times."""
        lag = timedelta(seconds=self.kernel.pick(LAG_SECONDS))
        while self._recent and self.kernel.now - self._recent[0][0] > timedelta(seconds=max(LAG_SECONDS)):
            self._recent.popleft()
        hidden = {version for at, name, version in self._recent if name == stream and self.kernel.now - at < lag}
        found = self.events.read(stream, after=after, limit=limit)
        if hidden:
            self.kernel.sometimes("read a moment too early")
            found = [record for record in found if record.version < min(hidden)]
        return found

    def due(self, now: datetime, *, limit: int = PAGE_MAX) -> list[DueRow]:
        """The index of due rows follows the table by a moment: what moved just now may still stand where it was, or not yet anywhere."""
        found = self.dues.due(now, limit=limit)
        lag = timedelta(seconds=self.kernel.pick(LAG_SECONDS))
        while self._rows and self.kernel.now - self._rows[0][0] > timedelta(seconds=max(LAG_SECONDS)):
            self._rows.popleft()
        before = {}
        for at, stream, row in reversed(self._rows):
            if self.kernel.now - at < lag:
                before[stream] = row
        if not before:
            return found
        self.kernel.sometimes("the index of due rows lagged")
        kept = [row for row in found if row.stream not in before]
        kept += [DueRow(stream, row) for stream, row in before.items() if row is not None and row <= now]
        return sorted(kept, key=lambda row: (row.at, row.stream))[:limit]

    def row_changed(self, stream: StreamName, before: datetime | None) -> None:
        self._rows.append((self.kernel.now, stream, before))


class Port:
    """One process's way to a port."""

    def __init__(self, kernel: Kernel, name: str, port: Any, *, methods: tuple[str, ...]) -> None:
        self._kernel = kernel
        self._name = name
        self._port = port
        self._methods = methods

    def __getattr__(self, method: str) -> Any:
        do = getattr(self._port, method)
        if method not in self._methods:
            return do
        kernel, name = self._kernel, f"{self._name}.{method}"

        def call(*arguments: Any, **named: Any) -> Any:
            kernel.point(f"before {name}")
            if kernel.running is not None and kernel.happens("a store is throttled"):
                raise StoreUnavailable(f"{name}: throttled")
            answer = do(*arguments, **named)
            kernel.point(f"after {name}")
            if kernel.running is not None and method in WRITES and kernel.happens("a write goes unanswered"):
                raise StoreUnavailable(f"{name}: no answer")
            return answer

        return call


class EventsPort:
    """The events table for one process. What goes unanswered is put again with the same commit id, as the SDK does."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.kernel = tables.kernel
        self.streams = tables.events.streams
        self.batch = tables.events.batch

    def append(self, record: Record) -> None:
        kernel = self._tables.kernel
        try:
            self._tables.append(record)
        except Conflict:
            kernel.sometimes("a conflict")
            raise
        if kernel.running is not None and kernel.happens("the SDK puts twice"):
            kernel.point("between a put and the SDK's second")
            self._tables.append(record)

    def read(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        return self._tables.events.read(stream, after=after, limit=limit)

    def read_lately(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        return self._tables.read_lately(stream, after=after, limit=limit)


class DuesPort:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.get = tables.dues.get
        self.next_at = tables.dues.next_at
        self.due = tables.due

    def lower(self, stream: StreamName, at: datetime) -> None:
        self._moving(stream)
        self._tables.dues.lower(stream, at)
        self._tables.row_lowered(at)

    def raise_to(self, stream: StreamName, *, seen: datetime, at: datetime) -> bool:
        self._moving(stream)
        return self._tables.dues.raise_to(stream, seen=seen, at=at)

    def remove(self, stream: StreamName, *, seen: datetime) -> bool:
        self._moving(stream)
        return self._tables.dues.remove(stream, seen=seen)

    def _moving(self, stream: StreamName) -> None:
        self._tables.row_changed(stream, self._tables.dues.get(stream))
