"""Makes what is derived true again from the events alone: lists, due rows, snapshots, bells. `runfold rebuild`.

It may be done while an engine runs, broken off at any moment and done again: what is right already is only read, and nothing that an
engine writes meanwhile is undone. Events are never written. Memory grows with the largest runs, not with the store.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.effects import NO_PATIENCE
from shared.errors import CorruptStream, NotFound, UnknownEvents
from shared.ids import BackfillId, RunId, StreamName, WorkflowName, kind_of, subject_of
from shared.ports import PAGE_MAX, Dues, EventStore, Views
from shared.usecases.loading import Loaded, Loader
from shared.usecases.verify.store import Derive, Row, listed_streams, needed_by, shown_in, streams_of, version_of

KINDS = ("workflow", "backfill", "run", "notices")
"""Streams that lists show. Workflows first: there are few, and they start what is due."""
TOGETHER = 50
"""Streams mended in one batch of the store."""
ROUNDS_MAX = 100
"""Of one stream that moves each time its row is put; its engine derives what is newer."""

What = Literal["missing", "behind", "wrong", "orphan", "due", "problem"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was not as the events say; mended unless it is a `problem` or this is a dry run.

    `missing`: not in its list. `behind`: as of an older version, which is usual for what is alive. `wrong`: it contradicts the events, or is ahead
    of them. `orphan`: listed without any event. `due`: alive, and nobody would have looked at it in time. `problem`: its history
    cannot be read; nothing was changed.
    """

    what: What
    stream: StreamName
    message: str


@dataclass(frozen=True, slots=True)
class Looked:
    """How far it has come."""

    runs: int
    workflows: int
    stream: StreamName


@dataclass(frozen=True, slots=True)
class _Mend:
    loaded: Loaded
    row: bool
    """Whether its row is to be put."""
    first: bool
    """Whether the row that is there must go first: a put would not replace it."""
    due: datetime | None


def rebuild(
    store: EventStore,
    loader: Loader,
    views: Views,
    dues: Dues,
    *,
    derive: Derive,
    settle: Callable[[Loaded], None],
    now: datetime,
    patience: timedelta = NO_PATIENCE,
    dry_run: bool = False,
    progress: Callable[[Looked], None] | None = None,
) -> Iterator[Difference]:
    """Compare everything derived with the events, and mend it as the answers are taken; without taking them nothing is done.

    `derive` says what lists should show, `settle` makes rows, bells and snapshot of a stream's newest version true. `patience` is that of the
    engine whose stores these are.
    """
    counted = dict.fromkeys(KINDS, 0)
    for kind in KINDS:
        together: list[_Mend] = []
        for stream in streams_of(store, kind):
            counted[kind] += 1
            if progress is not None:
                progress(Looked(counted["run"], counted["workflow"], stream))
            try:
                # From the first commit on: a snapshot is derived as well.
                loaded = loader.load_as_of(stream)
                right = derive(stream, loaded.state, loaded.version)
            except (CorruptStream, UnknownEvents, NotFound) as error:
                yield Difference("problem", stream, str(error))
                continue
            found, mend = _compared(loaded, right, views, dues, now, patience)
            yield from found
            together.append(mend)
            if len(together) == TOGETHER:
                _mend(together, store, loader, views, dues, settle, dry_run)
                together = []
        _mend(together, store, loader, views, dues, settle, dry_run)
    yield from _orphans(store, views, dry_run)


def _compared(
    loaded: Loaded,
    right: Row | None,
    views: Views,
    dues: Dues,
    now: datetime,
    patience: timedelta,
) -> tuple[list[Difference], _Mend]:
    stream = loaded.stream
    found: list[Difference] = []
    shown = shown_in(views, stream) if right is not None else None
    if right is not None and shown is None:
        found.append(Difference("missing", stream, "was not listed"))
    elif right is not None and shown != right:
        version = version_of(shown)
        if version < loaded.version:
            found.append(
                Difference("behind", stream, f"was listed as of version {version}, and is at {loaded.version}")
            )
        elif version > loaded.version:
            found.append(Difference("wrong", stream, f"was listed at version {version}, and has {loaded.version}"))
        else:
            fields = [name for name in right.__slots__ if getattr(shown, name) != getattr(right, name)]
            found.append(Difference("wrong", stream, ", ".join(fields)))
    row = bool(found)
    first = any(one.what == "wrong" for one in found)
    needed = needed_by(loaded.state, dues.get(stream), now, patience)
    if needed is not None:
        found.append(Difference("due", stream, f"nobody would have looked at it by {needed.isoformat()}"))
    # Now rather than then: whatever was to be handed over since may be lost as well.
    return found, _Mend(loaded, row, first, now if needed is not None else None)


def _mend(
    together: list[_Mend],
    store: EventStore,
    loader: Loader,
    views: Views,
    dues: Dues,
    settle: Callable[[Loaded], None],
    dry_run: bool,
) -> None:
    if dry_run or not together:
        return
    with store.batch():
        for one in together:
            if one.due is not None:
                dues.lower(one.loaded.stream, one.due)
            if one.first:
                _remove(views, one.loaded.stream)
            # The bells of a workflow are not read here, so they are made true whatever its row says.
            if one.row or kind_of(one.loaded.stream) == "workflow":
                _settle(one.loaded, store, loader, settle)
            else:
                loader.keep_snapshot(one.loaded)


def _settle(loaded: Loaded, store: EventStore, loader: Loader, settle: Callable[[Loaded], None]) -> None:
    """Until what was put is the newest: with the row that was taken away a newer one may have gone that was put just before."""
    for _ in range(ROUNDS_MAX):
        settle(loaded)
        if not store.read(loaded.stream, after=loaded.version, limit=1):
            return
        loaded = loader.load(loaded.stream, loaded)


def _remove(views: Views, stream: StreamName) -> None:
    subject = subject_of(stream)
    match kind_of(stream):
        case "run":
            views.remove_run(RunId(subject))
        case "backfill":
            views.remove_backfill(BackfillId(subject))
        case "notices":
            views.remove_notices(StreamName(subject))
        case _:
            views.remove_workflow(WorkflowName(subject))


def _orphans(store: EventStore, views: Views, dry_run: bool) -> Iterator[Difference]:
    """What is listed and has no events. A row is put after its commit, so such a one cannot be about to get any."""
    for stream in listed_streams(views, PAGE_MAX):
        if not store.read(stream, limit=1):
            yield Difference("orphan", stream, "was listed and has no events")
            if not dry_run:
                _remove(views, stream)
