"""Commits for store tests: chained as real ones are, their events short."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shared import codec
from shared.events import RunOpened
from shared.ids import CommitId, RunId, StreamName, run_stream
from shared.ports import FIRST_HASH, EventStore, Record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STREAM = run_stream(RunId("nightly@2026-03-01T12:00:00Z"))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def commit_after(before: Record | None, *, stream: StreamName = STREAM, commit_id: str = "") -> Record:
    """The commit that follows `before`, or the stream's first one."""
    version = before.version + 1 if before else 1
    return codec.record_of(
        stream,
        version=version,
        commit_id=CommitId(commit_id or f"commit-{version}"),
        at=NOON + timedelta(seconds=version, microseconds=version),
        by="engine",
        cause=f"report-{version} “ü”",
        previous_hash=before.hash if before else FIRST_HASH,
        events=[RunOpened()],
    )


def chain(length: int, *, stream: StreamName = STREAM) -> list[Record]:
    records: list[Record] = []
    for _ in range(length):
        records.append(commit_after(records[-1] if records else None, stream=stream))
    return records


def append_all(store: EventStore, records: Sequence[Record]) -> None:
    for record in records:
        store.append(record)


def whole_stream(store: EventStore, *, stream: StreamName = STREAM, page: int = 1_000) -> list[Record]:
    records: list[Record] = []
    while more := store.read(stream, after=len(records), limit=page):
        records += more
    return records
