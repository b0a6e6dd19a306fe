"""From commits to states: loads a stream, incrementally where something is known of it, and folds it.

A snapshot saves reading and is never believed without proof: its fold version must be ours, and the commit it claims to end with
must have the hash it names.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Protocol

from shared.codec import check_chain, events_in
from shared.errors import CorruptStream, NotFound
from shared.events import Event
from shared.ids import (
    Digest,
    RunId,
    StreamName,
    WorkflowName,
    calendar_stream,
    kind_of,
    run_stream,
    subject_of,
    workflow_stream,
)
from shared.ports import FIRST_HASH, PAGE_MAX, Documents, EventStore, Record, Snapshot, Snapshots
from shared.state import snapshot
from shared.state.backfill import BackfillState, NoBackfill, fold_backfill
from shared.state.calendar import CalendarState, fold_calendar
from shared.state.document import Upload, fold_document
from shared.state.notices import NoticeLog, fold_notices
from shared.state.pool import NoPool, PoolState, fold_pool
from shared.state.run import FOLD_VERSION, NotRequested, Run, RunState, fold
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.workflow.days import CalendarDays
from shared.workflow.plan import Plan, compile_plan
from shared.workflow.reading import load as load_document

State = (
    RunState
    | NotRegistered
    | WorkflowState
    | CalendarState
    | Upload
    | NoBackfill
    | BackfillState
    | NoPool
    | PoolState
    | NoticeLog
)

PLANS_MAX = 256
"""Compiled documents kept in memory."""
SNAPSHOT_EVERY = 500
"""Commits between snapshots: reading that many takes a few milliseconds, so fewer are not worth a write."""

CALENDARS_KEPT_MAX = 256
"""Calendars of which a process remembers what it read; forgetting costs reading them again."""
SNAPSHOT_SHARE = 4
"""Of a history that is long already, so many parts: a cold reader reads at most one of them behind the snapshot."""

SNAPSHOTS_REMEMBERED_MAX = 10_000
"""Streams of which a process remembers how far it kept them; forgetting costs a write too many."""


class Read(Protocol):
    """The shape of `EventStore.read`."""

    def __call__(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]: ...


class PlanCache:
    """Documents by digest, compiled, shared by all runs; the same digest is for ever the same plan."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._plans: OrderedDict[Digest, Plan] = OrderedDict()
        self._moving = Lock()

    def __call__(self, digest: Digest) -> Plan:
        plan = self._plans.get(digest)
        if plan is None:
            plan = compile_plan(load_document(self._documents.get(digest)), digest)
        with self._moving:
            self._plans[digest] = plan
            self._plans.move_to_end(digest)
            if len(self._plans) > PLANS_MAX:
                self._plans.popitem(last=False)
        return plan


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stream's state at a version; version 0 is a stream without commits."""

    stream: StreamName
    state: State
    version: int
    hash: str
    at: datetime | None


def empty_state(stream: StreamName) -> State:
    match kind_of(stream):
        case "run":
            return NotRequested()
        case "workflow":
            return NotRegistered()
        case "calendar":
            return CalendarState()
        case "pool":
            return NoPool()
        case "document":
            return Upload()
        case "backfill":
            return NoBackfill()
        case "notices":
            return NoticeLog()
        case kind:
            raise CorruptStream(f"streams of kind {kind!r} are not known to this release")


class Loader:
    """Loads and folds streams."""

    def __init__(
        self, events: EventStore, plans: PlanCache, snapshots: Snapshots | None = None, *, lately: Read | None = None
    ) -> None:
        """`lately`: a cheaper `EventStore.read` that may not know the newest commits."""
        self._events = events
        self._lately = lately or events.read
        self._snapshots = snapshots
        self._kept_versions: dict[StreamName, int] = {}
        self._calendars: dict[str, Loaded] = {}
        self.plans = plans

    def load(self, stream: StreamName, known: Loaded | None = None, *, lately: bool = False) -> Loaded:
        """The newest state. `known` saves reading what is known. Raises `CorruptStream`, `UnknownEvents`.

        `lately`: the newest or one of a moment before, for those whom a conditional write, or a version to expect, tells if it was old.
        """
        if known is None and self._snapshots is not None and kind_of(stream) == "run":
            # Nearly all runs are short, and asking each for a snapshot would cost a read more than it could save.
            first = (self._lately if lately else self._events.read)(stream, limit=SNAPSHOT_EVERY)
            begun = self._fold(Loaded(stream, empty_state(stream), 0, FIRST_HASH, None), first)
            if len(first) < SNAPSHOT_EVERY:
                return begun
            known = self._from_snapshot(stream) or begun
        loaded = known or Loaded(stream, empty_state(stream), 0, FIRST_HASH, None)
        for page in self._pages(stream, loaded.version, self._lately if lately else self._events.read):
            loaded = self._fold(loaded, page)
        return loaded

    def load_as_of(self, stream: StreamName, *, version: int | None = None, at: datetime | None = None) -> Loaded:
        """The state as it was at a version (included) or an instant (commits at that instant included)."""
        loaded = Loaded(stream, empty_state(stream), 0, FIRST_HASH, None)
        for page in self._pages(stream, 0):
            wanted = [
                record
                for record in page
                if (version is None or record.version <= version) and (at is None or record.at <= at)
            ]
            loaded = self._fold(loaded, wanted)
            if len(wanted) < len(page):
                break
        return loaded

    def records(self, stream: StreamName, *, after: int = 0) -> Iterator[Record]:
        for page in self._pages(stream, after):
            yield from page

    def run(self, run: RunId) -> Run:
        """The newest state of a run; `NotFound` if nobody asked for it."""
        state = self.load(run_stream(run)).state
        if not isinstance(state, Run):
            raise NotFound(f"there is no run {run}")
        return state

    def workflow(self, workflow: WorkflowName) -> WorkflowState:
        state = self.load(workflow_stream(workflow)).state
        if not isinstance(state, WorkflowState):
            raise NotFound(f"there is no workflow {workflow}")
        return state

    def calendar(self, name: str) -> CalendarState:
        """The newest state of a calendar; of version 0 if there is none."""
        loaded = self.load(calendar_stream(name), self._calendars.get(name))
        assert isinstance(loaded.state, CalendarState)
        if loaded.version:
            if len(self._calendars) >= CALENDARS_KEPT_MAX:
                self._calendars.clear()
            self._calendars[name] = loaded
        return loaded.state

    def calendar_days(self, name: str) -> CalendarDays | None:
        """What schedules are told of a calendar; None if there is none."""
        return self.calendar(name).days_now()

    def calendars(self, *, after: str = "") -> Iterator[str]:
        """The names of all calendars that come after one, in order."""
        after = calendar_stream(after) if after else ""
        while page := self._events.streams("calendar", after=after, limit=PAGE_MAX):
            yield from map(subject_of, page)
            after = page[-1]

    def keep_snapshot(self, loaded: Loaded) -> None:
        """Keep what was folded if enough was stored since this process kept the last, so that the next cold reader begins there."""
        if self._snapshots is None or not isinstance(loaded.state, Run):
            return
        kept = self._kept_versions.get(loaded.stream, 0)
        # The longer the history, the longer the state, and the fewer of it: all snapshots together cost no more than a few of the last.
        if loaded.version - kept < max(SNAPSHOT_EVERY, kept // SNAPSHOT_SHARE):
            return
        self._snapshots.put(
            Snapshot(loaded.stream, loaded.version, FOLD_VERSION, loaded.hash, snapshot.dump(loaded.state))
        )
        if len(self._kept_versions) >= SNAPSHOTS_REMEMBERED_MAX:
            self._kept_versions.clear()
        self._kept_versions[loaded.stream] = loaded.version

    def _fold(self, loaded: Loaded, records: list[Record]) -> Loaded:
        if not records:
            return loaded
        check_chain(records, after_hash=loaded.hash, after_version=loaded.version)
        state = fold_records(records, loaded.state, self.plans)
        last = records[-1]
        return Loaded(loaded.stream, state, last.version, last.hash, last.at)

    def _pages(self, stream: StreamName, after: int, read: "Read | None" = None) -> Iterator[list[Record]]:
        while True:
            page = (read or self._events.read)(stream, after=after, limit=PAGE_MAX)
            if page:
                yield page
                after = page[-1].version
            if len(page) < PAGE_MAX:
                return

    def _from_snapshot(self, stream: StreamName) -> Loaded | None:
        if self._snapshots is None or kind_of(stream) != "run":
            return None
        kept = self._snapshots.get(stream, FOLD_VERSION)
        if kept is None:
            return None
        proof = self._events.read(stream, after=kept.version - 1, limit=1)
        if not proof or proof[0].version != kept.version or proof[0].hash != kept.hash:
            return None
        try:
            state = snapshot.load(kept.body, self.plans)
        except ValueError:
            # Damaged; the events are all there is to need.
            return None
        return Loaded(stream, state, kept.version, kept.hash, proof[0].at)


def fold_records(records: list[Record], state: State, plans: PlanCache) -> State:
    """Fold commits onto a state of the stream's kind."""
    pairs = _pairs(records)
    match state:
        case NotRequested() | Run():
            return fold(pairs, plans, state)
        case NotRegistered() | WorkflowState():
            return fold_workflow(pairs, state)
        case CalendarState():
            return fold_calendar(pairs, state)
        case NoPool() | PoolState():
            return fold_pool(pairs, state)
        case Upload():
            return fold_document(pairs, state)
        case NoBackfill() | BackfillState():
            return fold_backfill(pairs, state)
        case NoticeLog():
            return fold_notices(pairs, state)


def _pairs(records: list[Record]) -> Iterator[tuple[datetime, Event]]:
    for record in records:
        for event in events_in(record.body):
            yield record.at, event
