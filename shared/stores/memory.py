"""The ports on plain dicts, for tests and simulation.

They keep every promise of the ports within one process, any number of threads, and forget everything with it.
"""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import islice

from shared.errors import Conflict, NotFound
from shared.ids import BackfillId, Digest, RunId, StreamName, WorkflowName, digest_of, kind_of, workflow_of
from shared.ports import (
    PAGE_MAX,
    SCANNED_MAX,
    BackfillRow,
    DueRow,
    NoticeRow,
    Record,
    RunFilter,
    RunPage,
    RunRow,
    RunSort,
    Snapshot,
    Waiter,
    WorkflowRow,
)
from shared.stores.paging import (
    Place,
    backfill_place,
    bounded,
    name_cursor,
    name_place,
    nearest_list,
    run_cursor,
    run_page,
    run_place,
)
from shared.stores.rows import matches


class MemoryStore:
    """An `EventStore`; also says, like the SQLite one, what moved since a position."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commits: dict[StreamName, list[Record]] = {}
        self._moved: list[StreamName] = []

    def append(self, record: Record) -> None:
        with self._lock:
            commits = self._commits.setdefault(record.stream, [])
            if record.version == len(commits) + 1:
                commits.append(record)
                self._moved.append(record.stream)
            elif record.version > len(commits) or commits[record.version - 1].commit_id != record.commit_id:
                raise Conflict(f"{record.stream}: version {record.version} is not the next one")

    def read(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        with self._lock:
            return self._commits.get(stream, [])[after : after + bounded(limit)]

    def streams(self, kind: str, *, after: str = "", limit: int = PAGE_MAX) -> list[StreamName]:
        with self._lock:
            names = [name for name, commits in self._commits.items() if commits and kind_of(name) == kind]
        return sorted(name for name in names if name > after)[: bounded(limit)]

    def batch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def position(self) -> int:
        """Of the newest commit of all; 0 when there is none."""
        with self._lock:
            return len(self._moved)

    def moved_since(self, position: int, limit: int = PAGE_MAX) -> list[tuple[int, StreamName]]:
        """Every commit after `position` in the order of appending: its position and its stream."""
        with self._lock:
            moved = self._moved[position : position + bounded(limit)]
        return [(position + number, stream) for number, stream in enumerate(moved, start=1)]


class MemoryDues:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[StreamName, datetime] = {}

    def get(self, stream: StreamName) -> datetime | None:
        with self._lock:
            return self._rows.get(stream)

    def lower(self, stream: StreamName, at: datetime) -> None:
        with self._lock:
            self._rows[stream] = min(self._rows.get(stream, at), at)

    def raise_to(self, stream: StreamName, *, seen: datetime, at: datetime) -> bool:
        with self._lock:
            if self._rows.get(stream) != seen:
                return False
            self._rows[stream] = at
            return True

    def remove(self, stream: StreamName, *, seen: datetime) -> bool:
        with self._lock:
            if self._rows.get(stream) != seen:
                return False
            del self._rows[stream]
            return True

    def due(self, now: datetime, *, limit: int = PAGE_MAX) -> list[DueRow]:
        with self._lock:
            rows = sorted((at, stream) for stream, at in self._rows.items() if at <= now)
        return [DueRow(stream, at) for at, stream in rows[: bounded(limit)]]

    def next_at(self) -> datetime | None:
        with self._lock:
            return min(self._rows.values(), default=None)


class MemorySnapshots:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshots: dict[tuple[StreamName, int], Snapshot] = {}

    def get(self, stream: StreamName, fold_version: int) -> Snapshot | None:
        with self._lock:
            return self._snapshots.get((stream, fold_version))

    def put(self, snapshot: Snapshot) -> None:
        key = (snapshot.stream, snapshot.fold_version)
        with self._lock:
            kept = self._snapshots.get(key)
            if kept is None or kept.version <= snapshot.version:
                self._snapshots[key] = snapshot

    def clear(self) -> None:
        with self._lock:
            self._snapshots.clear()


class MemoryViews:
    def __init__(self, *, scanned_max: int = SCANNED_MAX) -> None:
        self._lock = threading.Lock()
        self._scanned_max = scanned_max
        self._runs: dict[RunId, RunRow] = {}
        self._workflows: dict[WorkflowName, WorkflowRow] = {}
        self._backfills: dict[BackfillId, BackfillRow] = {}
        self._listening: dict[WorkflowName, tuple[int, frozenset[str]]] = {}
        self._notices: dict[StreamName, NoticeRow] = {}

    def put_run(self, row: RunRow) -> None:
        with self._lock:
            kept = self._runs.get(row.run)
            if kept is None or kept.version < row.version:
                self._runs[row.run] = row

    def get_run(self, run: RunId) -> RunRow | None:
        with self._lock:
            return self._runs.get(run)

    def runs(
        self, where: RunFilter = RunFilter(), *, sort: RunSort = "newest", cursor: str = "", limit: int = 50
    ) -> RunPage:
        listed = nearest_list(where)
        with self._lock:
            rows = {(row.requested_at, row.run): row for row in self._runs.values() if matches(listed, row)}
        places = sorted(rows, reverse=sort == "newest")

        def runs_after(place: Place | None, count: int) -> list[tuple[Place, RunRow | None]]:
            behind = (one for one in places if place is None or (one < place if sort == "newest" else one > place))
            return [(one, rows[one] if matches(where, rows[one]) else None) for one in islice(behind, count)]

        return run_page(where, runs_after, sort=sort, cursor=cursor, limit=limit, scanned_max=self._scanned_max)

    def remove_run(self, run: RunId) -> None:
        with self._lock:
            self._runs.pop(run, None)

    def put_workflow(self, row: WorkflowRow) -> None:
        with self._lock:
            kept = self._workflows.get(row.workflow)
            if kept is None or kept.stream_version < row.stream_version:
                self._workflows[row.workflow] = row

    def get_workflow(self, workflow: WorkflowName) -> WorkflowRow | None:
        with self._lock:
            return self._workflows.get(workflow)

    def remove_workflow(self, workflow: WorkflowName) -> None:
        with self._lock:
            self._workflows.pop(workflow, None)

    def workflows(self, *, cursor: str = "", limit: int = 50) -> tuple[list[WorkflowRow], str]:
        limit = bounded(limit)
        after = name_place(cursor) if cursor else ""
        with self._lock:
            rest = sorted((row for row in self._workflows.values() if row.workflow > after), key=_name)
        page = rest[:limit]
        return page, name_cursor(page[-1].workflow) if len(rest) > limit else ""

    def put_backfill(self, row: BackfillRow) -> None:
        with self._lock:
            kept = self._backfills.get(row.backfill)
            if kept is None or kept.version < row.version:
                self._backfills[row.backfill] = row

    def get_backfill(self, backfill: BackfillId) -> BackfillRow | None:
        with self._lock:
            return self._backfills.get(backfill)

    def remove_backfill(self, backfill: BackfillId) -> None:
        with self._lock:
            self._backfills.pop(backfill, None)

    def backfills(
        self, workflow: WorkflowName | None = None, *, cursor: str = "", limit: int = 50
    ) -> tuple[list[BackfillRow], str]:
        limit = bounded(limit)
        before = name_place(cursor) if cursor else None
        with self._lock:
            rows = {backfill_place(row): row for row in self._backfills.values() if workflow in (None, row.workflow)}
        behind = [place for place in sorted(rows, reverse=True) if before is None or place < before]
        page = [rows[place] for place in behind[:limit]]
        return page, name_cursor(behind[limit - 1]) if len(behind) > limit else ""

    def put_listeners(self, workflow: WorkflowName, generation: int, keys: Sequence[str]) -> None:
        with self._lock:
            if generation >= self._listening.get(workflow, (0, frozenset()))[0]:
                self._listening[workflow] = (generation, frozenset(keys))

    def listeners(self, key: str, *, after: str = "", limit: int = PAGE_MAX) -> list[WorkflowName]:
        with self._lock:
            found = sorted(name for name, (_, keys) in self._listening.items() if key in keys and name > after)
        return found[: bounded(limit)]

    def put_notices(self, row: NoticeRow) -> None:
        with self._lock:
            kept = self._notices.get(row.source)
            if kept is None or kept.version < row.version:
                self._notices[row.source] = row

    def get_notices(self, source: StreamName) -> NoticeRow | None:
        with self._lock:
            return self._notices.get(source)

    def notices(
        self, *, workflow: str | None = None, since: datetime | None = None, cursor: str = "", limit: int = 50
    ) -> tuple[list[NoticeRow], str]:
        limit = bounded(limit)
        before = run_place(cursor) if cursor else None
        with self._lock:
            rows = sorted(self._notices.values(), key=_told, reverse=True)
        rest = [
            row
            for row in rows
            if (before is None or _told(row) < before)
            and (workflow is None or row.workflow == workflow)
            and (since is None or row.at >= since)
        ]
        page = rest[:limit]
        return page, run_cursor(_told(page[-1])) if len(rest) > limit else ""

    def remove_notices(self, source: StreamName) -> None:
        with self._lock:
            self._notices.pop(source, None)

    def clear(self) -> None:
        with self._lock:
            self._runs.clear()
            self._workflows.clear()
            self._notices.clear()
            self._backfills.clear()


class MemoryWaiters:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: set[Waiter] = set()

    def add(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.add(waiter)

    def remove(self, waiter: Waiter) -> None:
        with self._lock:
            self._waiters.discard(waiter)

    def of(self, workflow: WorkflowName, *, awaited: str | None = None, limit: int = PAGE_MAX) -> list[Waiter]:
        with self._lock:
            found = sorted(
                one
                for one in self._waiters
                if workflow_of(RunId(one.awaited)) == workflow and awaited in (None, one.awaited)
            )
        return found[: bounded(limit)]


class MemoryDocuments:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: dict[Digest, bytes] = {}

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        with self._lock:
            self._documents[digest] = data
        return digest

    def get(self, digest: Digest) -> bytes:
        with self._lock:
            if digest not in self._documents:
                raise NotFound(f"there is no document {digest}")
            return self._documents[digest]


def _name(row: WorkflowRow) -> str:
    return row.workflow


def _told(row: NoticeRow) -> Place:
    return row.at, RunId(row.source)
