"""Checks one stream, or every stream of a store, page by page: memory grows with the largest run, not with the store."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.codec import events_in
from shared.decide.deadlines import deadlines
from shared.decide.lateness import moments as moments_of_pace
from shared.decide.places import holds_place, wants_place
from shared.effects import NO_PATIENCE, due_of_backfill, due_of_notices, due_of_pool, due_of_run, due_of_workflow
from shared.errors import CorruptStream, NotFound, UnknownEvents
from shared.events import CalendarRegistered, DocumentAccepted, DocumentRejected, DocumentRemoved, Event, UnknownEvent
from shared.ids import (
    BackfillId,
    RunId,
    StreamName,
    WorkflowName,
    backfill_stream,
    calendar_stream,
    kind_of,
    notices_stream,
    run_stream,
    subject_of,
    workflow_stream,
)
from shared.ports import (
    PAGE_MAX,
    BackfillRow,
    Dues,
    EventStore,
    NoticeRow,
    Record,
    RunFilter,
    RunRow,
    Views,
    WorkflowRow,
)
from shared.state.backfill import BackfillState, NoBackfill, fold_backfill
from shared.state.calendar import CalendarState, fold_calendar
from shared.state.document import Upload, fold_document
from shared.state.notices import NoticeLog, fold_notices
from shared.state.pool import NoPool, Place, PoolState, fold_pool
from shared.state.run import NotRequested, Plans, Run, RunState, fold
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.usecases.verify.backfill import BackfillChecker
from shared.usecases.verify.commits import CommitChecker
from shared.usecases.verify.notices import NoticesChecker, untold
from shared.usecases.verify.pool import PoolChecker
from shared.usecases.verify.run import RunChecker
from shared.usecases.verify.violation import Found, Handles, Invariant, Violation
from shared.usecases.verify.workflow import WorkflowChecker

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
Row = RunRow | WorkflowRow | BackfillRow | NoticeRow
Derive = Callable[[StreamName, State, int], Row | None]
"""Makes the row that views should have for a state at a version; None for streams without one."""

KINDS = ("document", "calendar", "workflow", "run", "backfill", "pool", "notices")

VIOLATIONS_MAX = 100
"""Of one stream: what follows from the first is not worth more lines."""
POLL_SLACK = timedelta(minutes=10)
"""Polls move to a coarser grid with age, so a row written earlier may name a slightly later one than we compute now."""
PLACE_GRACE = timedelta(minutes=15)
"""A pool looks at who holds its places every five minutes, and gives back what is held by nobody."""
VIEW_GRACE = timedelta(minutes=1)
"""Views follow the events within a second; without due rows to go by, this late is lost."""
FLAG_GRACE = timedelta(minutes=5)
"""Between the moment when a stop is to be flagged and the sweep that does it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a check has come."""

    streams: int
    commits: int
    events: int
    stream: StreamName
    handles_forgotten: int = 0
    """Not 0: the store has more executions than are remembered, so I1 across streams is checked for the recent ones only."""
    skipped: int = 0
    """Runs that were asked for before `since`."""


def verify_stream(
    records: Iterable[Record],
    plans: Plans,
    *,
    stream: StreamName | None = None,
    handles: Handles | None = None,
    causes: frozenset[str] | None = None,
    swept_until: datetime | None = None,
) -> list[Violation]:
    """Check one history from its beginning. An empty one is fine.

    `causes`: the kinds of causes that are known, for I11. `swept_until`: a moment until which time has surely been looked at, so that
    a stop due to be flagged before it must have been (I12).
    """
    checker: StreamChecker | None = None
    found: list[Violation] = []
    for record in records:
        if checker is None:
            checker = StreamChecker(stream or record.stream, plans, handles or Handles(), causes)
        found += checker.check(record)
    if checker is not None and swept_until is not None:
        found += checker.unflagged(swept_until)
    return found


def verify(
    store: EventStore,
    plans: Plans,
    *,
    now: datetime,
    dues: Dues | None = None,
    views: Views | None = None,
    derive: Derive | None = None,
    causes: frozenset[str] | None = None,
    since: datetime | None = None,
    patience: timedelta = NO_PATIENCE,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Violation]:
    """Check every stream, and, where given, that due rows (I7) and views (I8, with `derive`) agree with it.

    `since`: of runs only those that were asked for then or later, whole. `patience` is that of the engine whose stores these are.
    Reads only. Streams may move meanwhile: what is said of rows and views is looked at again before it is reported.
    """
    handles = Handles()
    streams = commits = events = skipped = 0
    for kind in KINDS:
        for stream in streams_of(store, kind):
            if kind == "run" and since is not None and _began_before(store, stream, since):
                skipped += 1
                if progress is not None:
                    progress(Progress(streams, commits, events, stream, handles.forgotten, skipped))
                continue
            checker = StreamChecker(stream, plans, handles, causes)
            streams += 1
            for page in _pages(store, stream):
                for record in page:
                    yield from checker.check(record)
                commits += len(page)
                if progress is not None:
                    progress(Progress(streams, commits, checker.events + events, stream, handles.forgotten, skipped))
            events += checker.events
            around = list(_around(checker, now, dues, views, derive, patience))
            if isinstance(checker.state, PoolState):
                around += _held_by_nobody(checker, checker.state, store, plans, now)
            if isinstance(checker.state, Run) and dues is not None and dues.get(stream) is None:
                # Its row stays until everybody is told.
                around += _untold(checker, checker.state, store)
            if around and not store.read(stream, after=checker.version, limit=1):
                yield from around
    if views is not None:
        yield from _listed_without_events(store, views, since)


def _began_before(store: EventStore, stream: StreamName, since: datetime) -> bool:
    first = store.read(stream, limit=1)
    return bool(first) and first[0].at < since


def _listed_without_events(store: EventStore, views: Views, since: datetime | None) -> Iterator[Violation]:
    for stream in listed_streams(views, PAGE_MAX, since=since):
        first = store.read(stream, limit=1)
        if not first:
            yield Violation(
                "I8", stream, 0, "it is listed, and there is no event of it: rebuild the lists, or restore it"
            )
        elif first[0].version != 1:
            # Streams are found by their first commits, so this one was not looked at above.
            yield Violation("I9", stream, first[0].version, "its first commit is gone")


def listed_streams(views: Views, limit: int, *, since: datetime | None = None) -> Iterator[StreamName]:
    """Of every workflow, backfill, stream of notices and run that lists show, page by page; of runs those that were asked for since then."""
    cursor = ""
    while True:
        workflows, cursor = views.workflows(cursor=cursor, limit=limit)
        yield from (workflow_stream(row.workflow) for row in workflows)
        if not cursor:
            break
    while True:
        backfills, cursor = views.backfills(cursor=cursor, limit=limit)
        yield from (backfill_stream(row.backfill) for row in backfills)
        if not cursor:
            break
    while True:
        told, cursor = views.notices(cursor=cursor, limit=limit)
        yield from (notices_stream(row.source) for row in told)
        if not cursor:
            break
    while True:
        page = views.runs(RunFilter(since=since), cursor=cursor, limit=limit)
        yield from (run_stream(row.run) for row in page.rows)
        cursor = page.cursor
        if not cursor:
            return


def streams_of(store: EventStore, kind: str) -> Iterator[StreamName]:
    """Every stream of a kind, page by page."""
    after = ""
    while page := store.streams(kind, after=after, limit=PAGE_MAX):
        yield from page
        after = page[-1]


def _pages(store: EventStore, stream: StreamName) -> Iterator[list[Record]]:
    after = 0
    while page := store.read(stream, after=after, limit=PAGE_MAX):
        yield page
        if len(page) < PAGE_MAX:
            return
        # A store that gives what it was not asked for must not keep us here for ever.
        after = max(page[-1].version, after + 1)


class StreamChecker:
    """Follows one stream with everything that can be checked about it alone."""

    def __init__(
        self, stream: StreamName, plans: Plans, handles: Handles, causes: frozenset[str] | None = None
    ) -> None:
        self.stream = stream
        self.version = 0
        self.events = 0
        self.at: datetime | None = None
        self.state: State | None = _empty(stream)
        """None when the history cannot be folded."""
        self._plans = plans
        self._commits = CommitChecker(stream, causes)
        kind = kind_of(stream)
        self._run = RunChecker(stream, plans, handles) if kind == "run" else None
        self._workflow = WorkflowChecker(stream, plans) if kind == "workflow" else None
        self._backfill = BackfillChecker(stream, plans) if kind == "backfill" else None
        self._pool = PoolChecker(stream) if kind == "pool" else None
        self._notices = NoticesChecker(stream) if kind == "notices" else None
        self._readable = True
        self._said = 0

    def check(self, record: Record) -> list[Violation]:
        return list(self._bounded(self._check(record), record.version))

    def unflagged(self, swept_until: datetime) -> list[Violation]:
        """Stops that should have been flagged by then (I12)."""
        late = [one for one in self.pending_stops() if one[1] + FLAG_GRACE < swept_until]
        return list(self._bounded((("I12", _unflagged(name, at)) for name, at in late), self.version))

    def pending_stops(self) -> list[tuple[str, datetime]]:
        """Attempts whose stop is neither confirmed nor flagged, and when it is to be."""
        if self._run is None or not self._readable:
            return []
        return [(f"attempt {one.attempt} of {one.job}", one.flag_at) for one in self._run.pending_stops()]

    def violation(self, invariant: Invariant, message: str) -> Violation:
        return Violation(invariant, self.stream, self.version, message)

    def _check(self, record: Record) -> Iterator[Found]:
        yield from self._commits.check(record)
        self.version, self.at = record.version, record.at
        if not self._readable:
            return
        try:
            events = events_in(record.body)
        except CorruptStream as error:
            self._stop_reading()
            yield "I9", str(error)
            return
        self.events += len(events)
        if not events:
            yield "I11", "it holds no event"
        if any(isinstance(event, UnknownEvent) for event in events):
            # Written by a newer release: it may be shown, but this code cannot judge it (fault 48).
            self._stop_reading()
            return
        try:
            for event in events:
                yield from self._of(event, record)
            if self._workflow is not None:
                yield from self._workflow.end_of_commit()
        except NotFound as error:
            # Without its document nothing more can be said of the stream.
            self._stop_reading()
            yield "I8", f"the document it was made with is gone: {error}"
            return
        yield from self._fold(events, record)

    def _of(self, event: Event, record: Record) -> Iterator[Found]:
        if self._run is not None:
            yield from self._run.check(event, record.at, record.cause)
        elif self._workflow is not None:
            yield from self._workflow.check(event, record.at)
        elif self._backfill is not None:
            yield from self._backfill.check(event)
        elif isinstance(event, CalendarRegistered):
            if calendar_stream(event.calendar) != self.stream:
                yield "I8", f"the stream holds the calendar {event.calendar}"
        elif self._pool is not None:
            yield from self._pool.check(event)
        elif self._notices is not None:
            yield from self._notices.check(event)
        elif not isinstance(event, DocumentAccepted | DocumentRejected | DocumentRemoved):
            yield "I8", f"{event.type} does not belong into this stream"

    def _fold(self, events: tuple[Event, ...], record: Record) -> Iterator[Found]:
        pairs = [(record.at, event) for event in events]
        try:
            match self.state:
                case NotRequested() | Run():
                    self.state = fold(pairs, self._plans, self.state)
                case NotRegistered() | WorkflowState():
                    self.state = fold_workflow(pairs, self.state)
                case CalendarState():
                    self.state = fold_calendar(pairs, self.state)
                case NoPool() | PoolState():
                    self.state = fold_pool(pairs, self.state)
                case Upload():
                    self.state = fold_document(pairs, self.state)
                case NoBackfill() | BackfillState():
                    self.state = fold_backfill(pairs, self.state)
                case NoticeLog():
                    self.state = fold_notices(pairs, self.state)
                case None:
                    pass
        except (CorruptStream, UnknownEvents) as error:
            self.state = None
            yield "I8", f"the history cannot be folded: {error}"

    def _stop_reading(self) -> None:
        self._readable = False
        self.state = None

    def _bounded(self, found: Iterable[Found], version: int) -> Iterator[Violation]:
        for invariant, message in found:
            self._said += 1
            if self._said <= VIOLATIONS_MAX:
                yield Violation(invariant, self.stream, version, message)


def _empty(stream: StreamName) -> State | None:
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
        case _:
            return None


def _unflagged(name: str, at: datetime) -> str:
    return f"the stop of {name} is not confirmed, and was to be flagged at {at.isoformat()}"


# --- what stands beside the events ------------------------------------------------------------------------------------


def _around(
    checker: StreamChecker,
    now: datetime,
    dues: Dues | None,
    views: Views | None,
    derive: Derive | None,
    patience: timedelta,
) -> Iterator[Violation]:
    state = checker.state
    if state is None or isinstance(state, NotRequested | NotRegistered | NoBackfill | NoPool):
        return
    row = dues.get(checker.stream) if dues is not None else None
    if dues is not None:
        yield from _due(checker, state, row, now, patience)
    if views is not None and derive is not None:
        yield from _view(checker, state, views, derive, row, dues is not None, now)


def _untold(checker: StreamChecker, run: Run, store: EventStore) -> Iterator[Violation]:
    if not run.finished or not run.plan.workflow.notify:
        return
    commits = ((one.version, one.at, events_in(one.body)) for page in _pages(store, checker.stream) for one in page)
    planned = (
        event for page in _pages(store, notices_stream(checker.stream)) for one in page for event in events_in(one.body)
    )
    for invariant, message in untold(run, checker.stream, commits, planned):
        yield checker.violation(invariant, message)


def _held_by_nobody(
    checker: StreamChecker, pool: PoolState, store: EventStore, plans: Plans, now: datetime
) -> Iterator[Violation]:
    """Places that no attempt has or waits for, longer than the pool's own look takes to notice (I5)."""
    by_run: dict[RunId, list[Place]] = {}
    for place, held in pool.held.items():
        if held.granted_at <= now - PLACE_GRACE:
            by_run.setdefault(place.run, []).append(place)
    for name, places in by_run.items():
        run: RunState = NotRequested()
        ended_at: datetime | None = None
        try:
            for page in _pages(store, run_stream(name)):
                run = fold(((one.at, event) for one in page for event in events_in(one.body)), plans, run)
                ended_at = page[-1].at
        except (CorruptStream, UnknownEvents, NotFound):
            # Said of the run itself; nobody can say that its attempts have ended.
            continue
        if ended_at is not None and ended_at > now - PLACE_GRACE:
            continue
        for place in places:
            alive = isinstance(run, Run) and (holds_place(run, pool.name, place) or wants_place(run, pool.name, place))
            if not alive:
                text = f"attempt {place.attempt} of {place.job} in {place.run} holds a place, and is not under way"
                yield checker.violation("I5", text)


def needed_by(state: State, row: datetime | None, now: datetime, patience: timedelta) -> datetime | None:
    """By when a stream must be looked at, if its due row does not see to that; None if it does, or if nothing can happen any more."""
    needed: datetime | None = None
    first: datetime | None = None
    match state:
        case Run() if not state.finished:
            needed = due_of_run(state, now, patience=patience)
            moments = (
                one.at for name in state.live for one in deadlines(state.job(name), state.plan.jobs[name], state.round)
            )
            late = (one.at for one in moments_of_pace(state.pace, state.plan.workflow))
            first = min((*moments, *late), default=None)
        case WorkflowState():
            needed = due_of_workflow(state, now)
            first = state.due_next
        case BackfillState():
            needed = due_of_backfill(state, now)
        case PoolState():
            needed = due_of_pool(state, now)
        case NoticeLog():
            needed = due_of_notices(state, now)
        case _:
            pass
    if needed is None:
        return None
    if row is None:
        return needed if first is None else min(first, needed)
    if first is not None and row > first:
        return first
    return needed if row > needed + POLL_SLACK else None


def _due(
    checker: StreamChecker, state: State, row: datetime | None, now: datetime, patience: timedelta
) -> Iterator[Violation]:
    needed = needed_by(state, row, now, patience)
    if needed is not None and row is None:
        yield checker.violation("I7", "it is alive and has no due row, so nobody will look at it")
        return
    if needed is not None and row is not None:
        yield checker.violation(
            "I7", f"its due row is at {row.isoformat()}, and it is to be looked at by {needed.isoformat()}"
        )
    if row is None:
        return
    for name, flag_at in checker.pending_stops():
        # A row later than that: somebody looked, or will look, without flagging it.
        if flag_at < row:
            yield checker.violation("I12", _unflagged(name, flag_at))


def _view(
    checker: StreamChecker,
    state: State,
    views: Views,
    derive: Derive,
    due: datetime | None,
    dues_known: bool,
    now: datetime,
) -> Iterator[Violation]:
    right = derive(checker.stream, state, checker.version)
    if right is None:
        return
    shown = shown_in(views, checker.stream)
    version = version_of(shown)
    if version == checker.version:
        if shown != right:
            wrong = [name for name in right.__slots__ if getattr(shown, name) != getattr(right, name)]
            yield checker.violation("I8", f"the views show another {', '.join(wrong)} than the events: rebuild them")
    elif version > checker.version:
        yield checker.violation(
            "I8", f"the views show version {version}, and the stream has {checker.version}: rebuild them"
        )
    else:
        # A view may lag; its stream's due row stays until it does not.
        assert checker.at is not None
        lost = due is None if dues_known else now - checker.at > VIEW_GRACE
        if lost:
            what = "nothing" if shown is None else f"version {version}"
            yield checker.violation("I8", f"the views show {what} of version {checker.version}: rebuild them")


def shown_in(views: Views, stream: StreamName) -> Row | None:
    """The row that lists show for a stream."""
    subject = subject_of(stream)
    match kind_of(stream):
        case "run":
            return views.get_run(RunId(subject))
        case "backfill":
            return views.get_backfill(BackfillId(subject))
        case "notices":
            return views.get_notices(StreamName(subject))
        case _:
            return views.get_workflow(WorkflowName(subject))


def version_of(row: Row | None) -> int:
    """Of the stream when the row was derived; 0 when there is none."""
    return 0 if row is None else row.stream_version if isinstance(row, WorkflowRow) else row.version
