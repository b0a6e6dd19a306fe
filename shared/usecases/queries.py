"""What can be read: runs and workflows now and at any past moment, lists, histories, reasons, coming instants, output, files.

What it promises: nothing here writes or decides. Every answer costs in proportion to what it shows, and every list is bounded. A
run that its workflow holds back is there already: as it will be when it begins, at version 0.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from shared import schedule
from shared.codec import events_in
from shared.decide.backfill import Rehearsed
from shared.decide.instants import exclusion_of
from shared.errors import InvalidInput, NotFound, Problem
from shared.events import Event, RunRequested
from shared.explain import Condition, pools_of, why_job, why_run, with_children
from shared.ids import (
    BackfillId,
    Digest,
    JobName,
    PoolName,
    RunId,
    StreamName,
    WorkflowName,
    backfill_stream,
    digest_of,
    is_backfill,
    is_name,
    pool_stream,
    run_stream,
    workflow_of,
    workflow_stream,
)
from shared.ports import (
    SCANNED_MAX,
    Artifacts,
    BackfillRow,
    EventStore,
    LogLine,
    Logs,
    LogSource,
    NoticeRow,
    Record,
    RunFilter,
    RunRow,
    RunSort,
    StoredFile,
    Views,
    WorkflowRow,
)
from shared.state.backfill import BackfillState
from shared.state.calendar import CalendarState
from shared.state.pool import NoPool, PoolState
from shared.state.run import Doubted, NotRequested, Run, Submitted, evolve
from shared.state.workflow import NotRegistered, Version, WorkflowState
from shared.usecases.backfills import rehearse
from shared.usecases.calendars import Coming, calendars, check_calendars, coming, find_calendar
from shared.usecases.calls import circles
from shared.usecases.documents import difference, read_document
from shared.usecases.explaining import upstream_of
from shared.usecases.loading import Loaded, Loader
from shared.usecases.pools import FoundPool, find_pool, list_pools
from shared.usecases.triggers import check_no_ring
from shared.workflow.document import Workflow
from shared.workflow.nearest import shown
from shared.workflow.plan import Plan
from shared.workflow.reading import canonical

RUN_LENGTH_MAX = 256
INSTANTS_MAX = 1_000
"""Coming instants in one answer."""
LOOKS_MAX = 20
"""Pages read for one page of a list of which the reader may see only some; the page may then be short, but has a cursor."""
KEPT_WEIGHT_MAX = 2_000
"""Jobs of runs kept folded: whoever polls a run pays for what is new, and memory stays bounded."""
FILE_NAME_LENGTH_MAX = 1_024

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9_.:+-]*")


def is_run(text: str) -> bool:
    """Whether the text can be a run's id; what cannot is never looked for in a store or on a disk (fault 57)."""
    return len(text) <= RUN_LENGTH_MAX and _RUN.fullmatch(text) is not None and ".." not in text


# --- answers --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AsOf:
    """A past moment of a stream: a version of it, or an instant."""

    version: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundRun:
    run: Run
    version: int
    """Of its stream; 0 for one that has not begun."""
    held_since: datetime | None = None
    """Its workflow holds it back since then."""
    held_reason: str = ""


@dataclass(frozen=True, slots=True)
class FoundWorkflow:
    state: WorkflowState
    version: int
    """Of its stream."""
    plan: Plan
    """Of the live document, or of the last one."""


@dataclass(frozen=True, slots=True)
class Why:
    at: datetime
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What registering a document would do."""

    document: Workflow
    change: Literal["new", "changed", "unchanged", "again"]
    """`again`: it was unregistered."""
    state: WorkflowState | None
    differences: tuple[str, ...]
    coming: Coming

    @property
    def next_version(self) -> int | None:
        if self.change == "unchanged":
            return None
        return 1 if self.state is None else len(self.state.versions) + 1


@dataclass(frozen=True, slots=True)
class FoundBackfill:
    state: BackfillState
    version: int
    """Of its stream."""
    plan: Plan
    """Of the document that its runs have."""


@dataclass(frozen=True, slots=True)
class Output:
    """A page of an attempt's output, or why there is none."""

    attempt: int | None
    """None when the job has not begun."""
    lines: tuple[LogLine, ...] = ()
    cursor: str = ""
    complete: bool = False
    absent: str = ""
    """A sentence; empty when there is output, or may be soon."""
    ended: bool = False
    """Whether the attempt has; output may still be on its way."""


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """A page of a list of runs."""

    rows: list[RunRow]
    cursor: str
    """Of the next page; empty at the end."""
    scan: "Scan | None"
    """None where a list is kept that is just what was asked for."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What finding a page took."""

    rows: int | None
    """Rows looked at; None for whoever may not know how many there are."""
    stopped: bool
    """Whether the page ended at the bound, with more to look at."""


Sees = Callable[[str, frozenset[str]], bool]
"""Whether somebody may see a workflow of that name with those tags."""


class Queries:
    """For one thread at a time."""

    def __init__(
        self,
        *,
        loader: Loader,
        events: EventStore,
        views: Views,
        logs: Logs,
        artifacts: Artifacts,
        now: Callable[[], datetime],
    ) -> None:
        self._loader = loader
        self._events = events
        self._views = views
        self._logs = logs
        self._artifacts = artifacts
        self._now = now
        self._kept: OrderedDict[StreamName, Loaded] = OrderedDict()
        self._weight = 0

    # Workflows.

    def workflow(self, name: str) -> FoundWorkflow:
        """The newest state; `NotFound`."""
        if is_name(name):
            loaded = self._load(workflow_stream(WorkflowName(name)))
            if isinstance(loaded.state, WorkflowState):
                return FoundWorkflow(loaded.state, loaded.version, self._plan_of(loaded.state))
        raise NotFound(f"there is no workflow {shown(name)}")

    def version(self, found: FoundWorkflow, number: int) -> tuple[Version, Workflow]:
        version = found.state.version(number)
        if version is None:
            raise NotFound(f"{found.state.name} has no version {number}; it has 1 to {len(found.state.versions)}")
        return version, self._loader.plans(version.document).workflow

    def differences(self, found: FoundWorkflow, old: int, new: int) -> tuple[str, ...]:
        """What changed from one version to another, a line for each thing."""
        return tuple(difference(self.version(found, old)[1], self.version(found, new)[1]))

    def instants(
        self, found: FoundWorkflow, *, after: datetime | None = None, count: int
    ) -> tuple[schedule.Instant, ...]:
        """When the live version is due next; nothing for one that is unregistered or has no schedule."""
        timing = found.plan.workflow.schedule
        if found.state.live is None or timing is None:
            return ()
        instants = schedule.upcoming(timing, after or self._now(), min(count, INSTANTS_MAX))
        return tuple(schedule.marked(instants, exclusion_of(timing, self._loader.calendar_days)))

    def plan(self, data: bytes, *, name: str, instants: int) -> Planned:
        """What registering this document would do. `InvalidInput` with every problem."""
        document = read_document(data, name=name)
        check_no_ring(self._loader, document)
        if problems := circles(document, self._live_or_none):
            raise InvalidInput(problems)
        check_calendars(self._loader, document)
        state = self._load(workflow_stream(WorkflowName(document.name))).state
        due = coming(
            document.schedule, self._loader.calendar_days, after=self._now(), count=min(instants, INSTANTS_MAX)
        )
        if not isinstance(state, WorkflowState):
            return Planned(document, "new", None, (), due)
        newest = (state.live or state.versions[-1]).document
        same = newest == digest_of(canonical(document))
        differences = () if same else tuple(difference(self._loader.plans(newest).workflow, document))
        change: Literal["again", "unchanged", "changed"]
        change = "again" if state.live is None else "unchanged" if same else "changed"
        return Planned(document, change, state, differences, due)

    def _live_or_none(self, workflow: WorkflowName) -> Workflow | None:
        state = self._load(workflow_stream(workflow)).state
        if not isinstance(state, WorkflowState) or state.live is None:
            return None
        return self._loader.plans(state.live.document).workflow

    def workflows(self, sees: Sees | None, *, cursor: str, limit: int) -> tuple[list[WorkflowRow], str]:
        """By name, and the next page's cursor, empty at the end. `sees`: None for whoever sees everything."""
        found: list[WorkflowRow] = []
        for _ in range(LOOKS_MAX):
            rows, cursor = self._views.workflows(cursor=cursor, limit=limit - len(found))
            found += [row for row in rows if sees is None or sees(row.workflow, frozenset(row.tags))]
            if len(found) >= limit or not cursor:
                break
        return found, cursor

    # Calendars.

    def calendars(self, *, cursor: str, limit: int) -> tuple[list[CalendarState], str]:
        """By name, and the next page's cursor, empty at the end."""
        return calendars(self._loader, cursor=cursor, limit=limit)

    def calendar(self, name: str) -> CalendarState:
        """The newest version; `NotFound`."""
        return find_calendar(self._loader, name)

    # Pools.

    def pools(self, *, cursor: str, limit: int) -> tuple[list[FoundPool], str]:
        return list_pools(self._events, self._loader, cursor=cursor, limit=limit)

    def pool(self, name: str) -> FoundPool:
        return find_pool(self._loader, name)

    # Runs.

    def runs(
        self, where: RunFilter, sees: Sees | None, *, sort: RunSort = "newest", cursor: str, limit: int
    ) -> FoundRuns:
        """In the order of requests. `sees`: None for whoever sees everything.

        A page for which rows have to be looked through, because of the filter or of what may be seen, ends at a bound: it may
        be short, or empty, and have a cursor all the same.
        """
        found: list[RunRow] = []
        looked = 0
        for _ in range(LOOKS_MAX):
            page = self._views.runs(where, sort=sort, cursor=cursor, limit=limit - len(found))
            cursor = page.cursor
            looked += page.scanned or len(page.rows)
            found += [row for row in page.rows if sees is None or sees(row.workflow, frozenset(row.tags))]
            if len(found) >= limit or not cursor or looked >= SCANNED_MAX:
                break
        if sees is None and where.is_listed:
            return FoundRuns(found, cursor, None)
        stopped = bool(cursor) and len(found) < limit
        return FoundRuns(found, cursor, Scan(looked if sees is None else None, stopped))

    def run(self, text: str, as_of: AsOf | None = None) -> FoundRun:
        """A run as it is, or as it was. `NotFound` also for a moment before it was asked for."""
        run = self._run_id(text)
        stream = run_stream(run)
        newest = self._load(stream)
        if as_of is None:
            if isinstance(newest.state, Run):
                return FoundRun(newest.state, newest.version)
            return self._held(run, newest)
        if as_of.version is not None and as_of.version > newest.version:
            raise NotFound(f"{run} has no version {as_of.version}; it has {newest.version}")
        if as_of.version == newest.version and isinstance(newest.state, Run):
            return FoundRun(newest.state, newest.version)
        then = self._loader.load_as_of(stream, version=as_of.version, at=as_of.at)
        if isinstance(then.state, Run):
            return FoundRun(then.state, then.version)
        if isinstance(newest.state, Run):
            raise NotFound(f"{run} did not exist then; it was asked for at {newest.state.requested_at.isoformat()}")
        raise NotFound(f"there is no run {run}")

    def job(self, run: Run, name: str) -> JobName:
        """`NotFound` when the run has no job of that name."""
        if run.find(JobName(name)) is None:
            raise NotFound(f"{run.run} has no job {shown(name)}")
        return JobName(name)

    def why(self, text: str, job: str | None = None, as_of: AsOf | None = None, *, names_others: bool = True) -> Why:
        """Every unmet condition of a run, also of one that does not exist (yet), or of one of its jobs."""
        run = self._run_id(text)
        stream, owner = run_stream(run), workflow_stream(workflow_of(run))
        if as_of is None:
            loaded, workflow, now = self._load(stream), self._load(owner).state, self._now()
        else:
            loaded = self._loader.load_as_of(stream, version=as_of.version, at=as_of.at)
            now = as_of.at or loaded.at or self._now()
            workflow = self._loader.load_as_of(owner, at=now).state
        state = loaded.state
        assert isinstance(state, Run | NotRequested)
        assert isinstance(workflow, WorkflowState | NotRegistered)
        known = workflow if isinstance(workflow, WorkflowState) else None
        upstream = upstream_of(self._loader, now, at=None if as_of is None else now)
        if job is not None:
            if not isinstance(state, Run):
                state = self._held(run, loaded).run
            named = self.job(state, job)
            pools = self._pools(pools_of(state, named), now if as_of is not None else None)
            conditions = why_job(
                state, named, now, workflow=known, pools=pools, upstream=upstream, names_others=names_others
            )
            return Why(now, tuple(self._with_children(conditions, now, as_of) if names_others else conditions))
        plan = self._loader.plans(known.live.document) if known is not None and known.live is not None else None
        history = () if isinstance(state, Run) else self._history(owner, now)
        pools = self._pools(pools_of(state), now if as_of is not None else None) if isinstance(state, Run) else {}
        rule = plan.workflow.schedule if plan is not None else None
        exclusion = exclusion_of(rule, self._loader.calendar_days) if rule is not None and as_of is None else None
        conditions = why_run(
            state,
            run,
            now,
            workflow=workflow,
            plan=plan,
            history=history,
            pools=pools,
            exclusion=exclusion,
            upstream=upstream,
            names_others=names_others,
        )
        return Why(now, tuple(self._with_children(conditions, now, as_of) if names_others else conditions))

    def _with_children(self, conditions: list[Condition], now: datetime, as_of: AsOf | None) -> list[Condition]:
        def child(run: RunId) -> Run | None:
            stream = run_stream(run)
            state = (self._load(stream) if as_of is None else self._loader.load_as_of(stream, at=now)).state
            return state if isinstance(state, Run) else None

        return with_children(conditions, child, now)

    def commits(self, stream: StreamName, *, after: int, limit: int) -> list[Record]:
        """What happened, in order: versions greater than `after`."""
        return self._events.read(stream, after=after, limit=limit)

    # Backfills.

    def alerts(
        self, workflow: str | None, since: datetime | None, sees: Sees | None, *, cursor: str, limit: int
    ) -> tuple[list[NoticeRow], str]:
        """What was told of runs and workflows, and the next page's cursor. `sees`: None for whoever sees everything."""
        found: list[NoticeRow] = []
        for _ in range(LOOKS_MAX):
            rows, cursor = self._views.notices(workflow=workflow, since=since, cursor=cursor, limit=limit - len(found))
            for row in rows:
                known = None if sees is None else self._views.get_workflow(row.workflow)
                if sees is None or sees(row.workflow, frozenset(known.tags if known is not None else ())):
                    found.append(row)
            if len(found) >= limit or not cursor:
                break
        return found, cursor

    def backfills(
        self, workflow: WorkflowName | None, sees: Sees | None, *, cursor: str, limit: int
    ) -> tuple[list[BackfillRow], str]:
        """The newest first, and the next page's cursor, empty at the end. `sees`: None for whoever sees everything."""
        found: list[BackfillRow] = []
        for _ in range(LOOKS_MAX):
            rows, cursor = self._views.backfills(workflow, cursor=cursor, limit=limit - len(found))
            found += [row for row in rows if sees is None or sees(row.workflow, frozenset(row.tags))]
            if len(found) >= limit or not cursor:
                break
        return found, cursor

    def backfill(self, text: str) -> FoundBackfill:
        """The newest state; `NotFound`."""
        if is_backfill(text):
            loaded = self._load(backfill_stream(BackfillId(text)))
            if isinstance(loaded.state, BackfillState):
                return FoundBackfill(loaded.state, loaded.version, self._loader.plans(loaded.state.request.document))
        raise NotFound(f"there is no backfill {shown(text)}")

    def rehearse_backfill(
        self,
        found: FoundWorkflow,
        since: str,
        until: str,
        *,
        order: Literal["oldest", "newest"],
        which: Literal["all", "missing", "failed"],
        max_active: int,
    ) -> Rehearsed:
        """What asking for a backfill would mean now; nothing is written. `InvalidInput` with every problem."""
        return rehearse(
            self._loader,
            found.state,
            since,
            until,
            order=order,
            which=which,
            max_active=max_active,
            now=self._now(),
        )

    # Output and files.

    def output(
        self,
        run: Run,
        job: JobName,
        attempt: int | None,
        *,
        stream: Literal["out", "err"] | None,
        cursor: str,
        bytes_max: int,
    ) -> Output:
        """A page of what an attempt wrote, by default the newest one's. `NotFound` for an attempt that never was."""
        state = run.job(job)
        known = [one.attempt for one in state.attempts]
        if state.is_open:
            known.append(state.phase.attempt)  # type: ignore[union-attr]  # open phases have one
        if attempt is None:
            if not known:
                ended = state.status in _ENDED
                over = "ended without being started" if ended else "has not been started"
                return Output(None, absent=f"{job} {over}, so it wrote nothing", complete=ended, ended=ended)
            attempt = known[-1]
        elif attempt not in known:
            raise NotFound(f"{job} in {run.run} has no attempt {attempt}; it has {len(known)}")
        ended = not state.is_open or attempt != known[-1]
        try:
            source = _log_source(run, job, attempt)
            page = self._logs.page(source, stream=stream, cursor=cursor, bytes_max=bytes_max)
        except NotFound as reason:
            return Output(attempt, cursor=cursor, absent=str(reason), complete=ended, ended=ended)
        return Output(attempt, page.lines, page.cursor, page.complete, absent=page.absent, ended=ended)

    def file_size(self, run: RunId, address: str) -> int | None:
        return self._artifacts.size(run, address)

    def file(self, run: RunId, address: str) -> StoredFile:
        return self._artifacts.fetch(run, address)

    # Loading.

    def forget(self) -> None:
        """Drop what is kept in memory."""
        self._kept.clear()
        self._weight = 0

    def _load(self, stream: StreamName) -> Loaded:
        known = self._kept.pop(stream, None)
        if known is not None:
            self._weight -= _weight(known)
        loaded = self._loader.load(stream, known)
        if loaded.version:
            self._kept[stream] = loaded
            self._weight += _weight(loaded)
            while self._weight > KEPT_WEIGHT_MAX and len(self._kept) > 1:
                self._weight -= _weight(self._kept.popitem(last=False)[1])
        return loaded

    def _held(self, run: RunId, loaded: Loaded) -> FoundRun:
        name = workflow_of(run)
        workflow = self._load(workflow_stream(name)).state if is_name(name) else None
        if isinstance(workflow, WorkflowState):
            for held in workflow.held:
                if held.run == run:
                    return FoundRun(self._as_requested(held.request, held.since), 0, held.since, held.reason)
            holder = workflow.holders.get(run)
            if holder is not None and loaded.version == 0:
                return FoundRun(self._as_requested(holder.request, holder.admitted_at), 0)
        raise NotFound(f"there is no run {run}")

    def _as_requested(self, request: RunRequested, at: datetime) -> Run:
        state = evolve(NotRequested(), request, at, self._loader.plans)
        assert isinstance(state, Run)
        return state

    def _pools(self, names: Sequence[PoolName], at: datetime | None) -> dict[PoolName, NoPool | PoolState]:
        """As they are, or as they were at an instant."""
        pools: dict[PoolName, NoPool | PoolState] = {}
        for name in names:
            stream = pool_stream(name)
            state = (self._load(stream) if at is None else self._loader.load_as_of(stream, at=at)).state
            assert isinstance(state, NoPool | PoolState)
            pools[name] = state
        return pools

    def _plan_of(self, state: WorkflowState) -> Plan:
        digest: Digest = (state.live or state.versions[-1]).document
        return self._loader.plans(digest)

    def _history(self, stream: StreamName, until: datetime) -> Iterator[tuple[datetime, Event]]:
        for record in self._loader.records(stream):
            if record.at > until:
                return
            for event in events_in(record.body):
                yield record.at, event

    def _run_id(self, text: str) -> RunId:
        if not is_run(text) or not is_name(workflow_of(RunId(text))):
            raise NotFound(f"there is no run {shown(text)}")
        return RunId(text)


def _log_source(run: Run, job: JobName, attempt: int) -> LogSource:
    target, phase = run.plan.jobs[job].type, run.job(job).phase
    for one in run.job(job).attempts:
        if one.attempt == attempt:
            ended_at = one.ended_at or one.recorded_at
            return LogSource(run.run, job, attempt, target, one.handle, ended_at)
    handle = phase.handle if isinstance(phase, Submitted | Doubted) else None
    return LogSource(run.run, job, attempt, target, handle)


_ENDED = frozenset({"succeeded", "failed", "timed_out", "cancelled", "skipped", "upstream_failed"})


def as_of_in(text: str) -> AsOf:
    """A version (`17`) or an instant with its zone (`2026-03-29T02:30:00Z`). Raises `InvalidInput`."""
    if re.fullmatch(r"[1-9][0-9]{0,8}", text):
        return AsOf(version=int(text))
    try:
        at = datetime.fromisoformat(text)
        # Python takes `2026` and `20260329` for days; nobody means an instant by them.
        if at.utcoffset() is not None:
            return AsOf(at=at.astimezone(UTC))
    except (ValueError, OverflowError):
        pass
    hint = "write a version, 17, or an instant with its zone, 2026-03-29T02:30:00Z (in a URL a + is %2B)"
    raise InvalidInput([Problem("as_of", f"{shown(text)} is neither a version nor an instant", hint)])


def _weight(loaded: Loaded) -> int:
    return 1 + (len(loaded.state.jobs) + len(loaded.state.items) if isinstance(loaded.state, Run) else 0)
