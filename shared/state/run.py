"""A run's state, and the fold that makes it: `evolve(state, event) -> state`, total or the stream is corrupt.

State is immutable and shares structure: an event costs what it touches, whatever the number of jobs. Folding a history uses one
builder (`RunFold`) for all its events and freezes once. Folding reads the pinned document's graph, never a policy: what a
decision led to stands in the event.

`FOLD_VERSION` changes whenever a fold of the same events gives another state, so that old snapshots are ignored.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from immutables import Map, MapMutation

from shared.errors import CorruptStream, UnknownEvents
from shared.events import (
    ApprovalAsked,
    ApprovalExpired,
    AttemptCancelled,
    AttemptClaimed,
    AttemptDoubted,
    AttemptFailed,
    AttemptQueued,
    AttemptStarted,
    AttemptSubmitted,
    AttemptSucceeded,
    ClaimReleased,
    DeadlineMissed,
    Event,
    ItemsCancelRequested,
    ItemsExpanded,
    ItemsJoined,
    ItemsSettled,
    JobApproved,
    JobMarked,
    JobRejected,
    JobSettled,
    JobsReady,
    LateReported,
    PlaceTaken,
    PlaceWanted,
    RunBecameLate,
    RunCancelRequested,
    RunFinished,
    RunOpened,
    RunReopened,
    RunRequested,
    StartAsked,
    StopFlagged,
    StopRequested,
    StopSent,
    UnknownEvent,
    WaitBegun,
    WaitExpired,
    WaitFailed,
    WaitMet,
)
from shared.ids import Digest, Handle, JobName, PoolName, RunId, item_name, item_of
from shared.state import waits
from shared.state.fan import Fan, FanCancel, Unstarted, counted, fresh, members
from shared.state.fan import ended as one_less
from shared.state.lateness import Pace, first_pace
from shared.state.ranks import EMPTY, Ranks, add, first, remove
from shared.workflow.document import FailureClass, Outcome
from shared.workflow.plan import Plan

FOLD_VERSION = 6

Plans = Callable[[Digest], Plan]
"""Gives the compiled document of a digest."""

BAD_OUTCOMES = frozenset({"failed", "timed_out", "cancelled", "upstream_failed"})


if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    # An event makes two or three of these, and a class that freezes itself at run time takes four times as long to make. The type
    # checker still refuses every assignment.
    def record(*, frozen, slots):
        return dataclass(slots=slots)


# --- phases of a job --------------------------------------------------------------------------------------------------


@record(frozen=True, slots=True)
class Waiting:
    """Some of `after` have not ended; the others are counted by how they did. With `remaining` 0 the job awaits its decision."""

    since: datetime
    remaining: int
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0


@record(frozen=True, slots=True)
class Wanting:
    """Conditions hold; waits for a place in a pool, which it was or will be asked for."""

    since: datetime
    attempt: int
    pool: PoolName
    weight: int
    priority: int


@record(frozen=True, slots=True)
class Ready:
    """Conditions hold; waits for a place."""

    since: datetime
    pool: PoolName | None = None
    """Where it has a place already, which waits with it."""


@record(frozen=True, slots=True)
class Stop:
    """A stop that was asked for."""

    cause: Literal["cancel", "timeout", "mark"]
    reason: str
    requested_at: datetime
    flag_at: datetime
    sent_at: datetime | None = None
    flagged_at: datetime | None = None


@record(frozen=True, slots=True)
class Queued:
    """Decided; may have been asked of the target under its token already."""

    attempt: int
    queued_at: datetime
    stop: Stop | None = None
    not_before: datetime | None = None
    """After a claim was given back: when to ask again."""
    reason: str = ""
    ready_at: datetime | None = None
    """When its conditions held, where that was earlier than `queued_at`."""
    untaken: bool = False
    """The target took neither the first request under its token nor any since: nothing can have been begun unheard, but by `asking`."""
    asking: str = ""
    """Who may be asking just now, or died while asking."""


@record(frozen=True, slots=True)
class Claimed:
    """One claimer may be sending the request."""

    attempt: int
    queued_at: datetime
    stop: Stop | None
    claimed_at: datetime
    claimer: str
    request: Mapping[str, Any]
    send_before: datetime
    ready_at: datetime | None = None
    asked_from: datetime | None = None
    """When the first claim was made whose request may have been heard; None: this one."""


@record(frozen=True, slots=True)
class Submitted:
    """The target has it."""

    attempt: int
    queued_at: datetime
    stop: Stop | None
    handle: Handle
    submitted_at: datetime
    started_at: datetime | None = None


@record(frozen=True, slots=True)
class Doubted:
    """Asked, and cannot know whether it was done."""

    attempt: int
    queued_at: datetime
    stop: Stop | None
    since: datetime
    reason: str
    policy: Literal["wait", "assume_lost", "ask"]
    resolve_at: datetime | None
    handle: Handle | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    request: Mapping[str, Any] | None = None
    """Of the claim, where there was one: it says where to look."""
    asked_from: datetime | None = None
    """As in `Claimed`; None where nobody claimed."""


@record(frozen=True, slots=True)
class Backoff:
    """Failed, and will be tried again."""

    since: datetime
    retry_at: datetime
    failure: FailureClass
    reason: str


@record(frozen=True, slots=True)
class Asking:
    """Waits for a person's decision, and holds no place."""

    since: datetime
    message: str
    expires_at: datetime | None = None


@record(frozen=True, slots=True)
class FannedOut:
    """A job with `for_each` whose items are being done; it holds no place itself."""

    since: datetime


@record(frozen=True, slots=True)
class Done:
    """Ended, for this round."""

    outcome: Outcome
    at: datetime
    reason: str = ""
    marked_by: str = ""


Open = Queued | Claimed | Submitted | Doubted
"""Attempts under way: they hold a place."""
_OPEN = (Queued, Claimed, Submitted, Doubted)
Phase = Waiting | Wanting | Ready | Open | Backoff | Asking | FannedOut | Done


@record(frozen=True, slots=True)
class Attempt:
    """An attempt that ended."""

    attempt: int
    round: int
    status: Literal["succeeded", "failed", "timed_out", "cancelled", "abandoned"]
    """`abandoned`: a person settled the job while nobody could tell what became of this attempt."""
    queued_at: datetime
    recorded_at: datetime
    handle: Handle | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    failure: FailureClass | None = None
    reason: str = ""
    late: tuple[str, ...] = ()
    """Contrary reports that came after the end."""
    assumed: bool = False
    """Nobody saw it end: a policy or a person gave it up, so that it may still be running."""


@record(frozen=True, slots=True)
class JobState:
    phase: Phase
    attempts: tuple[Attempt, ...] = ()
    """Those that ended, over all rounds; the one under way is in the phase."""
    outputs: Mapping[str, Any] | None = None
    """Of the latest success."""
    files: Mapping[str, str] | None = None
    strays: Mapping[Handle, int] | None = None
    """Executions under our tokens, with their attempts, that are not the ones we count on; each was recorded and is to be stopped."""

    @property
    def is_open(self) -> bool:
        return isinstance(self.phase, _OPEN)

    @property
    def status(self) -> str:
        """One word for people and lists."""
        match self.phase:
            case Waiting():
                return "waiting"
            case Ready() | Wanting():
                return "ready"
            case Queued():
                return "queued"
            case Claimed():
                return "claimed"
            case Submitted(started_at=started_at):
                return "running" if started_at is not None else "submitted"
            case Doubted():
                return "doubt"
            case Backoff():
                return "backoff"
            case Asking():
                return "approval"
            case FannedOut():
                return "running"
            case Done(outcome=outcome):
                return outcome


@dataclass(frozen=True, slots=True)
class PoolUse:
    """What a run has to do with one pool."""

    places: int = 0
    """Jobs that wait for a place or have one."""
    unasked: Ranks = EMPTY
    """Ready jobs that wait until another of this run needs its place no more: a run asks for no more than it could use."""


@dataclass(frozen=True, slots=True)
class Cancel:
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NotRequested:
    """A run that nobody asked for yet: the state of an empty stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A run at one version of its stream."""

    run: RunId
    request: RunRequested
    requested_at: datetime
    plan: Plan
    document_version: int
    at: datetime
    """Of the newest commit."""
    jobs: "Map[JobName, JobState]"
    """Those of the document."""
    live: "Map[JobName, bool]"
    """Jobs with an attempt under way, in backoff, before a person, or ready with a bound on that: those that time can do something to."""
    unsettled: Ranks
    """Jobs whose `after` have all ended and that have no decision yet."""
    ready: Ranks
    """Jobs that wait for a place."""
    active: int
    """Attempts under way."""
    unfinished: int
    """Jobs that have not ended."""
    tally: Mapping[str, int]
    """Jobs that ended, by outcome."""
    round: int
    opened: bool
    pace: Pace
    cancel: Cancel | None = None
    outcome: Literal["succeeded", "failed", "cancelled"] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reopen_requests: frozenset[str] = frozenset()
    flagged: int = 0
    """Stops that were flagged for a person and are still open."""
    doubted: int = 0
    """Attempts in doubt."""
    stopping: int = 0
    """Attempts under way that a person, or the run's cancellation, wants to end."""
    asking: int = 0
    """Jobs that wait for a person's decision."""
    removed: "Map[JobName, tuple[Attempt, ...]]" = Map()  # noqa: RUF009  (immutable)
    """Attempts of jobs that a newer document does not have, and of items of jobs that expand anew: should one come back, its attempts are
    numbered on from these."""
    gates: waits.Gates = Map()  # noqa: RUF009  (immutable)
    """What jobs, or under the empty name the whole run, wait or waited for outside."""
    pools: "Map[PoolName, PoolUse]" = Map()  # noqa: RUF009  (immutable)
    items: "Map[JobName, JobState]" = Map()  # noqa: RUF009  (immutable)
    """Items of jobs with `for_each` that something has happened to, by their names."""
    fans: "Map[JobName, Fan]" = Map()  # noqa: RUF009  (immutable)
    """Of each job with `for_each` that has expanded, all its items."""
    fanned: int = 0
    """How many more pieces of work have not ended than `unfinished` tells, because some jobs are many."""

    @property
    def cancelling(self) -> bool:
        """Some jobs still have to hear of the cancellation."""
        return self.cancel is not None and self.unfinished + self.fanned > self.stopping

    @property
    def finished(self) -> bool:
        return self.outcome is not None

    @property
    def status(self) -> str:
        if self.outcome is not None:
            return self.outcome
        return "running" if self.started_at is not None else "waiting"

    def job(self, name: JobName) -> JobState:
        """A job, or an item by its own name; `KeyError` if there is none."""
        state = self.find(name)
        if state is None:
            raise KeyError(name)
        return state

    def find(self, name: JobName) -> JobState | None:
        return self.jobs.get(name) or _item_state(name, self.items, self.fans, self.removed)


def _item_state(
    name: JobName,
    items: "Map[JobName, JobState] | MapMutation[JobName, JobState]",
    fans: "Map[JobName, Fan] | MapMutation[JobName, Fan]",
    removed: "Map[JobName, tuple[Attempt, ...]]",
) -> JobState | None:
    """An item's state; one that nothing has happened to has none of its own, and is as all its like."""
    state = items.get(name)
    if state is not None:
        return state
    named = item_of(name)
    fan = fans.get(named[0]) if named is not None else None
    if named is None or fan is None or named[1] >= fan.count:
        return None
    attempts = removed.get(name, ())
    if fan.todo >> named[1] & 1:
        return JobState(Ready(fan.since), attempts)
    never = fan.unstarted
    assert never is not None, f"{name} neither waits nor has ended"
    return JobState(Done(never.outcome, never.at, never.reason), attempts)


RunState = NotRequested | Run


def fold(events: Iterable[tuple[datetime, Event]], plans: Plans, state: RunState = NotRequested()) -> RunState:
    """Fold events, each with the time of its commit, onto a state. Linear in events plus the edges of the jobs they end.

    Raises `CorruptStream` for a history that cannot have happened, `UnknownEvents` at an event of a newer release.
    """
    builder = RunFold(state, plans)
    for at, event in events:
        builder.apply(event, at)
    return builder.freeze()


def evolve(state: RunState, event: Event, at: datetime, plans: Plans) -> RunState:
    builder = RunFold(state, plans)
    builder.apply(event, at)
    return builder.freeze()


class RunFold:
    """A run's state under construction: applies events in place, then freezes. Nobody else sees it before that."""

    def __init__(self, state: RunState, plans: Plans) -> None:
        self.plans = plans
        self.run: Run | None = None
        if isinstance(state, Run):
            self._thaw(state)

    def _thaw(self, run: Run) -> None:
        self.run = run
        self.plan = run.plan
        self.at = run.at
        self.jobs: MapMutation[JobName, JobState] = run.jobs.mutate()
        self.live: MapMutation[JobName, bool] = run.live.mutate()
        self.unsettled = run.unsettled
        self.ready = run.ready
        self.active = run.active
        self.unfinished = run.unfinished
        self.tally = dict(run.tally)
        self.round = run.round
        self.opened = run.opened
        self.pace = run.pace
        self.cancel = run.cancel
        self.outcome = run.outcome
        self.started_at = run.started_at
        self.finished_at = run.finished_at
        self.document_version = run.document_version
        self.reopen_requests = run.reopen_requests
        self.flagged = run.flagged
        self.doubted = run.doubted
        self.stopping = run.stopping
        self.asking = run.asking
        self.removed = run.removed
        self.gates = run.gates
        self.pools = run.pools
        self.items: MapMutation[JobName, JobState] = run.items.mutate()
        self.fans: MapMutation[JobName, Fan] = run.fans.mutate()
        self.fanned = run.fanned

    def freeze(self) -> RunState:
        """The state so far; the builder may go on afterwards."""
        if self.run is None:
            return NotRequested()
        frozen = Run(
            run=self.run.run,
            request=self.run.request,
            requested_at=self.run.requested_at,
            plan=self.plan,
            document_version=self.document_version,
            at=self.at,
            jobs=self.jobs.finish(),
            live=self.live.finish(),
            unsettled=self.unsettled,
            ready=self.ready,
            active=self.active,
            unfinished=self.unfinished,
            tally=self.tally,
            round=self.round,
            opened=self.opened,
            pace=self.pace,
            cancel=self.cancel,
            outcome=self.outcome,
            started_at=self.started_at,
            finished_at=self.finished_at,
            reopen_requests=self.reopen_requests,
            flagged=self.flagged,
            doubted=self.doubted,
            stopping=self.stopping,
            asking=self.asking,
            removed=self.removed,
            gates=self.gates,
            pools=self.pools,
            items=self.items.finish(),
            fans=self.fans.finish(),
            fanned=self.fanned,
        )
        self._thaw(frozen)
        return frozen

    def apply(self, event: Event, at: datetime) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is None:
            if isinstance(event, UnknownEvent):
                raise UnknownEvents(f"an event of type {event.type} is newer than this code")
            raise CorruptStream(f"{event.type} cannot stand in a run's stream")
        if self.run is None:
            if not isinstance(event, RunRequested):
                raise CorruptStream(f"{event.type} cannot be a run's first event")
            self._requested(event, at)
            return
        self.at = at
        if self.outcome is not None and not isinstance(event, RunReopened | LateReported | JobMarked):
            raise CorruptStream(f"{event.type} cannot follow the end of the run")
        handler(self, event, at)

    # What a decision needs of a state under construction.

    def job(self, name: JobName) -> JobState:
        state = self.find(name)
        if state is None:
            raise KeyError(name)
        return state

    def find(self, name: JobName) -> JobState | None:
        """A job, or an item by its own name."""
        return self.jobs.get(name) or _item_state(name, self.items, self.fans, self.removed)

    def all_items(self) -> "tuple[Map[JobName, JobState], Map[JobName, Fan]]":
        """As `all_jobs`, the items that something happened to, and what is known of all together."""
        items, fans = self.items.finish(), self.fans.finish()
        self.items, self.fans = items.mutate(), fans.mutate()
        return items, fans

    def all_jobs(self) -> "Map[JobName, JobState]":
        """The jobs as they are now, for reading as a whole; costs nothing."""
        frozen = self.jobs.finish()
        self.jobs = frozen.mutate()
        return frozen

    def live_jobs(self) -> "Map[JobName, bool]":
        """As `all_jobs`, those that time can do something to."""
        frozen = self.live.finish()
        self.live = frozen.mutate()
        return frozen

    def next_unsettled(self) -> JobName | None:
        """Take the next job whose `after` have all ended and that has no decision yet."""
        if not self.has_unsettled():
            return None
        rank = first(self.unsettled)
        self.unsettled = remove(self.unsettled, rank)
        return self.plan.by_rank[rank]

    def next_ready(self) -> JobName | None:
        """Take the first of the jobs that wait for a place."""
        if not self.has_ready():
            return None
        rank = first(self.ready)
        self.ready = remove(self.ready, rank)
        name = self.plan.by_rank[rank]
        fan = self.fans.get(name)
        return name if fan is None else item_name(name, first(fan.todo))

    def put_back(self, name: JobName) -> None:
        """It was taken, and no decision was made."""
        self.unsettled = add(self.unsettled, self.plan.rank[name])

    def next_unasked(self) -> JobName | None:
        """The next ready job that may ask for a place in its pool."""
        # A map's order differs from process to process; the same state gives the same decision.
        ranks = [
            first(use.unasked)
            for use in self.pools.values()
            if use.unasked != EMPTY and use.places < self.plan.workflow.parallelism
        ]
        return self.plan.by_rank[min(ranks)] if ranks else None

    def may_ask(self, pool: PoolName) -> bool:
        """Whether one more job may ask this pool at once, without overtaking another."""
        use = self.pools.get(pool)
        return use is None or (use.unasked == EMPTY and use.places < self.plan.workflow.parallelism)

    def has_unsettled(self) -> bool:
        return self.unsettled != EMPTY

    def has_ready(self) -> bool:
        return self.ready != EMPTY

    # One method for each event.

    def _requested(self, event: RunRequested, at: datetime) -> None:
        plan = self.plans(event.document)
        jobs: MapMutation[JobName, JobState] = Map().mutate()
        unsettled: Ranks = EMPTY
        # States are immutable, so jobs that wait for equally many share one.
        waiting = {remaining: JobState(Waiting(at, remaining)) for remaining in set(plan.waits.values())}
        for name, remaining in plan.waits.items():
            jobs[name] = waiting[remaining]
            if remaining == 0:
                unsettled = add(unsettled, plan.rank[name])
        self._thaw(
            Run(
                run=event.run,
                request=event,
                requested_at=at,
                plan=plan,
                document_version=event.document_version,
                at=at,
                jobs=jobs.finish(),
                live=Map(),
                unsettled=unsettled,
                ready=EMPTY,
                active=0,
                unfinished=len(plan.jobs),
                tally={},
                round=1,
                opened=event.start_after is None,
                pace=first_pace(event, at),
            )
        )

    def _opened(self, event: RunOpened, at: datetime) -> None:
        if self.opened:
            raise CorruptStream("a run opens once")
        self.opened = True

    def _wait_begun(self, event: WaitBegun, at: datetime) -> None:
        if event.job != waits.WHOLE_RUN:
            match self._get(event.job).phase:
                case Waiting(remaining=0):
                    # Its decision awaits the end of the waits.
                    self.unsettled = remove(self.unsettled, self.plan.rank[event.job])
                case phase:
                    raise _impossible(event, event.job, phase)
        self.gates = waits.begun(self.gates, event, at)

    def _wait_ended(self, event: WaitMet | WaitFailed | WaitExpired, at: datetime) -> None:
        self.gates = waits.ended(self.gates, event, at)
        if event.job != waits.WHOLE_RUN and not waits.is_open(self.gates[event.job]):
            match self._get(event.job).phase:
                case Waiting(remaining=0):
                    self.unsettled = add(self.unsettled, self.plan.rank[event.job])
                case _:
                    # A person ended it meanwhile.
                    pass

    def _jobs_ready(self, event: JobsReady, at: datetime) -> None:
        for name in event.jobs:
            state = self._get(name)
            match state.phase:
                case Waiting(remaining=0) | Backoff():
                    pass
                case phase:
                    raise _impossible(event, name, phase)
            if name not in self.jobs:
                self._waits_for_place(name, state, Ready(at))
                self._item_ready(name)
                continue
            rank = self.plan.rank[name]
            self._take(rank)
            self._waits_for_place(name, state, Ready(at))
            if (pool := self.plan.jobs[name].pool) is None:
                self.ready = add(self.ready, rank)
            else:
                self._use_pool(PoolName(pool.name), rank, ask_later=True)

    def _place_wanted(self, event: PlaceWanted, at: datetime) -> None:
        state = self._get(event.job)
        match state.phase:
            case Waiting(remaining=0) | Backoff() | Ready(pool=None):
                pass
            case phase:
                raise _impossible(event, event.job, phase)
        if event.attempt != len(state.attempts) + 1:
            raise CorruptStream(f"attempt {event.attempt} of {event.job} cannot follow {len(state.attempts)}")
        self._take(self.plan.rank[event.job])
        self._use_pool(event.pool, self.plan.rank[event.job], places=1)
        since = state.phase.since if isinstance(state.phase, Ready) else at
        self._put(event.job, state, Wanting(since, event.attempt, event.pool, event.weight, event.priority))
        # Should the pool not have heard of it, it is asked again.
        self.live[event.job] = True

    def _place_taken(self, event: PlaceTaken, _at: datetime) -> None:
        state = self._get(event.job)
        phase = state.phase
        if not isinstance(phase, Wanting) or phase.attempt != event.attempt:
            raise _impossible(event, event.job, phase)
        self.live.pop(event.job, None)
        self._waits_for_place(event.job, state, Ready(phase.since, phase.pool))
        self.ready = add(self.ready, self.plan.rank[event.job])

    def _use_pool(self, pool: PoolName, rank: int, *, places: int = 0, ask_later: bool = False) -> None:
        """Count a place more or less; the job of that rank need not ask any more, or is to ask later."""
        use = self.pools.get(pool, _UNUSED)
        unasked = add(use.unasked, rank) if ask_later else remove(use.unasked, rank)
        now = PoolUse(use.places + places, unasked)
        if now != _UNUSED:
            self.pools = self.pools.set(pool, now)
        elif pool in self.pools:
            self.pools = self.pools.delete(pool)

    def _leave_pool(self, name: JobName, phase: Phase) -> None:
        pool = self.plan.jobs[name].pool
        if pool is None or isinstance(phase, Waiting | Backoff):
            return
        asked = not isinstance(phase, Ready) or phase.pool is not None
        self._use_pool(PoolName(pool.name), self.plan.rank[name], places=-1 if asked else 0)

    def _waits_for_place(self, name: JobName, state: JobState, ready: Ready) -> None:
        self._put(name, state, ready)
        timeouts = self.plan.jobs[name].timeouts
        if timeouts.queue_minutes is not None or (timeouts.total_minutes is not None and state.attempts):
            self.live[name] = True
        elif state.attempts:
            self.live.pop(name, None)

    def _settled(self, event: JobSettled, at: datetime) -> None:
        state = self._get(event.job)
        if not isinstance(state.phase, Waiting | Wanting | Ready | Backoff | Asking):
            raise _impossible(event, event.job, state.phase)
        self._end(event.job, state, Done(event.outcome, at, event.reason))

    def _expanded(self, event: ItemsExpanded, at: datetime) -> None:
        state = self._get(event.job)
        if event.job not in self.jobs or not isinstance(state.phase, Waiting) or state.phase.remaining:
            raise _impossible(event, event.job, state.phase)
        self._take(self.plan.rank[event.job])
        self._put(event.job, state, FannedOut(at))
        self.fanned += event.count - 1
        if self.started_at is None:
            self.started_at = at
        self._know(
            event.job,
            fresh(at, event.count, event.items, tolerated=event.tolerated, max_parallel=event.max_parallel),
        )

    def _items_settled(self, event: ItemsSettled, at: datetime) -> None:
        fan = self._fan(event.job, event)
        ending = fan.todo | fan.resting
        if not ending or ending.bit_count() != event.count:
            raise CorruptStream(
                f"{event.count} items of {event.job} cannot be settled, for {ending.bit_count()} are left"
            )
        for index in members(ending):
            name = item_name(event.job, index)
            state = self.items.get(name)
            if state is not None:
                self.live.pop(name, None)
                self._put(name, state, Done(event.outcome, at, event.reason))
        self.fanned -= event.count
        self._know(
            event.job,
            replace(
                fan,
                todo=EMPTY,
                resting=EMPTY,
                left=fan.left - event.count,
                tally=counted(fan, event.outcome, event.count),
                unstarted=Unstarted(event.outcome, at, event.reason),
            ),
        )

    def _items_cancel_requested(self, event: ItemsCancelRequested, at: datetime) -> None:
        fan = self._fan(event.job, event)
        if fan.cancel is not None:
            raise CorruptStream(f"{event.job} is cancelled once")
        self._know(event.job, replace(fan, cancel=FanCancel(event.by, event.reason, at)))

    def _items_joined(self, event: ItemsJoined, at: datetime) -> None:
        fan = self._fan(event.job, event)
        if fan.left:
            raise CorruptStream(f"{event.job} cannot have ended with {fan.left} items that have not")
        self.fanned += 1
        self._know(event.job, replace(fan, joined=True))
        self._end(event.job, self.jobs[event.job], Done(event.outcome, at, event.reason))

    def _queued(self, event: AttemptQueued, at: datetime) -> None:
        state = self._get(event.job)
        ready_at: datetime | None = None
        match state.phase:
            case Ready(since=since):
                ready_at = since
            case Waiting(remaining=0) | Backoff():
                pass
            case phase:
                raise _impossible(event, event.job, phase)
        if event.attempt != len(state.attempts) + 1:
            raise CorruptStream(f"attempt {event.attempt} of {event.job} cannot follow {len(state.attempts)}")
        if event.job not in self.jobs:
            if event.job not in self.items:
                # It could have begun for as long as its like; that others went first is no delay of its own.
                ready_at = None
            self._item_begun(event.job)
        else:
            self._take(self.plan.rank[event.job])
        self._put(event.job, state, Queued(event.attempt, at, ready_at=ready_at))
        self.live[event.job] = True
        self.active += 1
        if self.pace.started_at is None:
            self.pace = replace(self.pace, started_at=at)
        if self.started_at is None:
            self.started_at = at

    def _claimed(self, event: AttemptClaimed, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if isinstance(phase, Submitted | Claimed) or (isinstance(phase, Doubted) and phase.handle is not None):
            raise _impossible(event, event.job, phase)
        self._leave_doubt(phase)
        ready_at = phase.ready_at if isinstance(phase, Queued) else None
        asked_from = phase.asked_from if isinstance(phase, Doubted) else None
        claimed = Claimed(
            event.attempt,
            phase.queued_at,
            phase.stop,
            at,
            event.claimer,
            event.request,
            event.send_before,
            ready_at,
            asked_from,
        )
        self._put(event.job, state, claimed)

    def _claim_released(self, event: ClaimReleased, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        # Where the target takes tokens, what was queued is the claim.
        if not isinstance(phase, Claimed | Queued):
            raise _impossible(event, event.job, phase)
        untaken = event.first or (isinstance(phase, Queued) and phase.untaken)
        queued = Queued(
            event.attempt, phase.queued_at, phase.stop, event.retry_at, event.reason, phase.ready_at, untaken
        )
        self._put(event.job, state, queued)

    def _start_asked(self, event: StartAsked, _at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if not isinstance(phase, Queued):
            raise _impossible(event, event.job, phase)
        asked = replace(
            phase,
            not_before=event.not_before,
            untaken=phase.untaken and not event.unheard,
            asking=event.claimer or phase.asking,
        )
        self._put(event.job, state, asked)

    def _submitted(self, event: AttemptSubmitted, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if isinstance(phase, Submitted):
            raise _impossible(event, event.job, phase)
        self._leave_doubt(phase)
        submitted_at, started_at = at, event.started_at
        if isinstance(phase, Doubted) and phase.handle is not None:
            if phase.handle != event.handle:
                raise _impossible(event, event.job, phase)
            submitted_at, started_at = phase.submitted_at or at, started_at or phase.started_at
        self._put(
            event.job,
            state,
            Submitted(event.attempt, phase.queued_at, phase.stop, event.handle, submitted_at, started_at),
        )

    def _started(self, event: AttemptStarted, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if not isinstance(phase, Submitted) or phase.started_at is not None:
            raise _impossible(event, event.job, phase)
        started = Submitted(
            phase.attempt, phase.queued_at, phase.stop, phase.handle, phase.submitted_at, event.started_at
        )
        self._put(event.job, state, started)

    def _succeeded(self, event: AttemptSucceeded, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        attempt = self._ended_attempt(phase, "succeeded", at, event.exit_code, event.started_at, event.ended_at)
        ended = JobState(state.phase, (*state.attempts, attempt), event.outputs, event.files, state.strays)
        self._end(event.job, ended, Done("succeeded", at))

    def _failed(self, event: AttemptFailed, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        status: Literal["timed_out", "failed"] = "timed_out" if event.failure == "timeout" else "failed"
        attempt = self._ended_attempt(
            phase,
            status,
            at,
            event.exit_code,
            event.started_at,
            event.ended_at,
            event.failure,
            event.reason,
            assumed=event.assumed,
        )
        outputs = event.outputs or state.outputs
        ended = JobState(state.phase, (*state.attempts, attempt), outputs, state.files, state.strays)
        if event.retry_at is None:
            self._end(event.job, ended, Done(status, at, event.reason))
            return
        self._leave_pool(event.job, phase)
        self._leave(phase)
        if event.job not in self.jobs:
            self._item_rests(event.job, phase)
        backoff = Backoff(at, event.retry_at, event.failure, event.reason)
        self._put(event.job, ended, backoff)
        self.live[event.job] = True

    def _cancelled(self, event: AttemptCancelled, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        attempt = self._ended_attempt(
            phase,
            "cancelled",
            at,
            event.exit_code,
            event.started_at,
            event.ended_at,
            "cancelled",
            event.reason,
            assumed=event.assumed,
        )
        ended = JobState(state.phase, (*state.attempts, attempt), state.outputs, state.files, state.strays)
        self._end(event.job, ended, Done("cancelled", at, event.reason))

    def _doubted(self, event: AttemptDoubted, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if isinstance(phase, Doubted):
            raise _impossible(event, event.job, phase)
        submitted = phase if isinstance(phase, Submitted) else None
        claimed = phase if isinstance(phase, Claimed) else None
        doubted = Doubted(
            event.attempt,
            phase.queued_at,
            phase.stop,
            at,
            event.reason,
            event.policy,
            event.resolve_at,
            submitted.handle if submitted else None,
            submitted.submitted_at if submitted else None,
            submitted.started_at if submitted else None,
            claimed.request if claimed else None,
            (claimed.asked_from or claimed.claimed_at) if claimed else None,
        )
        self.doubted += 1
        self._put(event.job, state, doubted)

    def _stop_requested(self, event: StopRequested, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if phase.stop is not None:
            if phase.stop.cause != "timeout":
                raise _impossible(event, event.job, phase)
            if phase.stop.flagged_at is not None:
                self.flagged -= 1
        if event.cause != "timeout":
            self.stopping += 1
            if event.job not in self.jobs:
                parent, _, fan = self._fan_of(event.job)
                self._know(parent, replace(fan, stopping=fan.stopping + 1))
        stop = Stop(event.cause, event.reason, at, event.flag_at)
        self._store(event.job, replace(state, phase=replace(phase, stop=stop)))

    def _stop_sent(self, event: StopSent, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if phase.stop is None or phase.stop.sent_at is not None:
            raise _impossible(event, event.job, phase)
        self._store(event.job, replace(state, phase=replace(phase, stop=replace(phase.stop, sent_at=at))))

    def _stop_flagged(self, event: StopFlagged, at: datetime) -> None:
        state, phase = self._open(event.job, event.attempt, event)
        if phase.stop is None or phase.stop.flagged_at is not None:
            raise _impossible(event, event.job, phase)
        self.flagged += 1
        self._store(event.job, replace(state, phase=replace(phase, stop=replace(phase.stop, flagged_at=at))))

    def _late(self, event: LateReported, at: datetime) -> None:
        state = self._get(event.job)
        strays = state.strays
        if event.handle is not None:
            strays = {**(strays or {}), event.handle: event.attempt}
        if isinstance(state.phase, _OPEN) and state.phase.attempt == event.attempt and event.handle is not None:
            # A second execution beside the one that is bound.
            self._store(event.job, replace(state, strays=strays))
            return
        if not 1 <= event.attempt <= len(state.attempts):
            raise CorruptStream(f"a late report names attempt {event.attempt} of {event.job}, which has not ended")
        attempts = list(state.attempts)
        ended = attempts[event.attempt - 1]
        attempts[event.attempt - 1] = replace(ended, late=(*ended.late, event.report))
        self._store(event.job, replace(state, attempts=tuple(attempts), strays=strays))

    def _marked(self, event: JobMarked, at: datetime) -> None:
        state = self._get(event.job)
        phase = state.phase
        done = Done(event.outcome, at, event.reason, event.by)
        match phase:
            case Done(outcome=outcome) if event.job not in self.jobs:
                parent, _, fan = self._fan_of(event.job)
                if fan.joined:
                    raise _impossible(event, event.job, phase)
                fan = replace(fan, tally=counted(fan, outcome, -1))
                self._know(parent, replace(fan, tally=counted(fan, event.outcome, 1)))
                self._put(event.job, state, done)
            case Done(outcome=outcome):
                self._tally(outcome, -1)
                self._tally(event.outcome, 1)
                self._recount(event.job, outcome, event.outcome)
                self.jobs[event.job] = replace(state, phase=done)
            case Queued() | Claimed() | Submitted() | Doubted():
                given_up = isinstance(phase, Doubted) or (phase.stop is not None and phase.stop.flagged_at is not None)
                if not given_up:
                    raise _impossible(event, event.job, phase)
                attempt = self._ended_attempt(
                    phase, "abandoned", at, None, None, None, None, event.reason, assumed=True
                )
                self._end(event.job, replace(state, attempts=(*state.attempts, attempt)), done)
            case Waiting() | Wanting() | Ready() | Backoff() | Asking():
                self._end(event.job, state, done)
            case FannedOut():
                raise _impossible(event, event.job, phase)

    def _approval_asked(self, event: ApprovalAsked, at: datetime) -> None:
        state = self._get(event.job)
        if not isinstance(state.phase, Waiting) or state.phase.remaining:
            raise _impossible(event, event.job, state.phase)
        self._take(self.plan.rank[event.job])
        self._put(event.job, state, Asking(at, event.message, event.expires_at))
        self.live[event.job] = True
        self.asking += 1

    def _approved(self, event: JobApproved, at: datetime) -> None:
        self._decided(event, Done("succeeded", at, event.reason), by=event.by)

    def _rejected(self, event: JobRejected, at: datetime) -> None:
        reason = f"rejected by {event.by}" + (f": {event.reason}" if event.reason else "")
        self._decided(event, Done("failed", at, reason), by=event.by)

    def _expired(self, event: ApprovalExpired, at: datetime) -> None:
        self._decided(event, Done(event.outcome, at, "nobody decided in time"), by="")

    def _decided(self, event: JobApproved | JobRejected | ApprovalExpired, done: Done, *, by: str) -> None:
        state = self._get(event.job)
        if not isinstance(state.phase, Asking):
            raise _impossible(event, event.job, state.phase)
        if done.outcome == "succeeded":
            outputs = {"approved_by": by, "at": _instant(done.at), "reason": done.reason}
            state = replace(state, outputs=outputs)
        self._end(event.job, state, done)

    def _cancel_requested(self, event: RunCancelRequested, at: datetime) -> None:
        if self.cancel is not None:
            raise CorruptStream("a run is cancelled once a round")
        self.cancel = Cancel(event.by, event.reason, at)

    def _reopened(self, event: RunReopened, at: datetime) -> None:
        if self.outcome is None:
            raise CorruptStream("a run that has not finished cannot be reopened")
        plan = self.plans(event.document)
        old = self.all_jobs()
        items, fans = self.all_items()
        again = reopened_jobs(old, plan, event.jobs, failed=event.failed)
        continued = continued_fans(fans, self.plan, plan, event.jobs, again)
        removed = self.removed.mutate()
        for name, dropped in old.items():
            if name not in plan.jobs and dropped.attempts:
                removed[name] = dropped.attempts
        kept = self._items_reopened(event, items, fans, again, continued, removed, plan, at)
        jobs: MapMutation[JobName, JobState] = Map().mutate()
        tally: dict[str, int] = {}
        unsettled: Ranks = EMPTY
        for name, job in plan.jobs.items():
            state = old.get(name)
            if state is not None and name in kept:
                jobs[name] = JobState(FannedOut(at), strays=state.strays)
                continue
            if state is not None and name not in again:
                if not isinstance(state.phase, Done):
                    raise CorruptStream(f"{name} has not ended and is not reopened")
                jobs[name] = state
                tally[state.phase.outcome] = tally.get(state.phase.outcome, 0) + 1
                continue
            counts = {"succeeded": 0, "failed": 0, "skipped": 0}
            remaining = 0
            for before in dict.fromkeys(job.after):
                ended = old.get(JobName(before))
                if before in again or ended is None or not isinstance(ended.phase, Done):
                    remaining += 1
                else:
                    counts[_counted_as(ended.phase.outcome)] += 1
            if state is not None:
                attempts, strays = state.attempts, state.strays
            else:
                attempts, strays = removed.pop(name, ()), None
            jobs[name] = JobState(Waiting(at, remaining, **counts), attempts, strays=strays)
            if remaining == 0:
                unsettled = add(unsettled, plan.rank[name])
        self.gates = waits.kept(self.gates, self.plan, plan)
        self.plan = plan
        self.document_version = event.document_version
        self.jobs = jobs
        self.live = Map().mutate()
        self.unsettled = unsettled
        self.ready = EMPTY
        self.active = 0
        self.tally = tally
        self.unfinished = len(plan.jobs) - sum(tally.values())
        self.round += 1
        self.pace = Pace(at)
        self.removed = removed.finish()
        self.cancel = None
        self.outcome = None
        self.finished_at = None
        self.flagged = 0
        self.doubted = 0
        self.stopping = 0
        self.pools = Map()
        self.asking = 0
        self.fanned = sum(fan.left - 1 for fan in kept.values())
        for name, fan in kept.items():
            self._know(name, fan)
        if event.request:
            self.reopen_requests |= {event.request}
        if event.parameters is not None:
            assert self.run is not None
            request = self.run.request.model_copy(update={"parameters": event.parameters})
            self.run = replace(self.run, request=request)

    def _became_late(self, event: RunBecameLate, _at: datetime) -> None:
        if self.pace.late_due_at is not None:
            raise CorruptStream("a run becomes late once a round")
        self.pace = replace(self.pace, late_due_at=event.due_at, late_cause=event.cause)

    def _deadline_missed(self, event: DeadlineMissed, _at: datetime) -> None:
        if self.pace.missed_due_at is not None:
            raise CorruptStream("a run misses its deadline once a round")
        self.pace = replace(self.pace, missed_due_at=event.due_at)

    def _items_reopened(
        self,
        event: RunReopened,
        items: "Map[JobName, JobState]",
        fans: "Map[JobName, Fan]",
        again: frozenset[JobName],
        continued: frozenset[JobName],
        removed: "MapMutation[JobName, tuple[Attempt, ...]]",
        plan: Plan,
        at: datetime,
    ) -> dict[JobName, Fan]:
        """Keep the items that a new round does not touch; the others are as before their first attempt, but for its number. The jobs of
        which some are done again."""
        named = {name for name in event.jobs if name not in plan.jobs}
        todo: dict[JobName, Ranks] = dict.fromkeys(continued, EMPTY)
        counts: dict[JobName, dict[str, int]] = {name: dict(fans[name].outcomes) for name in continued}
        left: MapMutation[JobName, JobState] = items.mutate()
        for name, state in items.items():
            of = item_of(name)
            assert of is not None
            parent, index = of
            if parent in plan.jobs and parent not in again:
                continue
            if parent in continued:
                assert isinstance(state.phase, Done)
                outcome = state.phase.outcome
                if name not in named and not (event.failed and outcome in BAD_OUTCOMES):
                    continue
                todo[parent] = add(todo[parent], index)
                counts[parent][outcome] -= 1
            if state.attempts:
                removed[name] = state.attempts
            del left[name]
        kept: dict[JobName, Fan] = {}
        changed = fans.mutate()
        for parent, fan in fans.items():
            if parent not in plan.jobs or (parent in again and parent not in continued):
                del changed[parent]
            elif parent in continued:
                kept[parent] = self._fan_reopened(event, fan, todo[parent], counts[parent], items, parent, named, at)
        self.items, self.fans = left, changed
        return kept

    def _fan_reopened(
        self,
        event: RunReopened,
        fan: Fan,
        todo: Ranks,
        counts: dict[str, int],
        items: "Map[JobName, JobState]",
        parent: JobName,
        named: set[JobName],
        at: datetime,
    ) -> Fan:
        unstarted = fan.unstarted
        if unstarted is not None:
            every = event.failed and unstarted.outcome in BAD_OUTCOMES
            for index in range(fan.count):
                name = item_name(parent, index)
                if name not in items and (every or name in named):
                    todo = add(todo, index)
                    counts[unstarted.outcome] -= 1
            unstarted = None if every else unstarted
        kept = replace(fan, tally={outcome: number for outcome, number in counts.items() if number})
        return replace(
            kept,
            since=at,
            todo=todo,
            left=todo.bit_count(),
            unstarted=unstarted,
            bad_before=kept.bad,
            cancel=None,
            joined=False,
        )

    def _finished(self, event: RunFinished, at: datetime) -> None:
        if self.unfinished:
            raise CorruptStream(f"a run with {self.unfinished} unfinished jobs cannot have finished")
        self.outcome = event.outcome
        self.finished_at = at

    # Pieces that several events share.

    def _put(self, name: JobName, state: JobState, phase: Phase) -> None:
        self._store(name, JobState(phase, state.attempts, state.outputs, state.files, state.strays))

    def _store(self, name: JobName, state: JobState) -> None:
        if name in self.jobs:
            self.jobs[name] = state
        else:
            self.items[name] = state

    # Items: each of these keeps the counts of their job in step.

    def _fan(self, name: JobName, event: Event) -> Fan:
        fan = self.fans.get(name)
        if fan is None or fan.joined:
            raise CorruptStream(f"{event.type} cannot be about {name}, which has no items under way")
        return fan

    def _fan_of(self, name: JobName) -> tuple[JobName, int, Fan]:
        named = item_of(name)
        fan = self.fans.get(named[0]) if named is not None else None
        if named is None or fan is None:
            raise CorruptStream(f"the run has no job {name}")
        return *named, fan

    def _know(self, name: JobName, fan: Fan) -> None:
        """Keep what is known of a job's items, and with it whether one may begin, or something is to be decided of all."""
        self.fans[name] = fan
        rank = self.plan.rank[name]
        self.ready = add(self.ready, rank) if fan.startable else remove(self.ready, rank)
        self.unsettled = add(self.unsettled, rank) if fan.undecided else remove(self.unsettled, rank)

    def _item_ready(self, name: JobName) -> None:
        parent, index, fan = self._fan_of(name)
        self._know(parent, replace(fan, todo=add(fan.todo, index), resting=remove(fan.resting, index)))

    def _item_begun(self, name: JobName) -> None:
        parent, index, fan = self._fan_of(name)
        resting = remove(fan.resting, index) if fan.resting else fan.resting
        self._know(parent, replace(fan, todo=remove(fan.todo, index), resting=resting, active=fan.active + 1))

    def _item_rests(self, name: JobName, phase: Open) -> None:
        parent, index, fan = self._fan_of(name)
        self._know(parent, replace(_without_attempt(fan, phase), resting=add(fan.resting, index)))

    def _item_ended(self, name: JobName, phase: Phase, outcome: Outcome) -> None:
        parent, index, fan = self._fan_of(name)
        if isinstance(phase, _OPEN):
            fan = _without_attempt(fan, phase)
        else:
            fan = replace(fan, todo=remove(fan.todo, index), resting=remove(fan.resting, index))
        self.fanned -= 1
        self._know(parent, one_less(fan, outcome))

    def _take(self, rank: int) -> None:
        """A decision about that job was made: it waits for none any more."""
        self.unsettled = remove(self.unsettled, rank)
        self.ready = remove(self.ready, rank)

    def _get(self, name: JobName) -> JobState:
        state = self.jobs.get(name) or self.find(name)
        if state is None:
            raise CorruptStream(f"the run has no job {name}")
        return state

    def _open(self, name: JobName, attempt: int, event: Event) -> tuple[JobState, Open]:
        state = self._get(name)
        phase = state.phase
        if not isinstance(phase, _OPEN) or phase.attempt != attempt:
            raise _impossible(event, name, phase)
        return state, phase

    def _ended_attempt(
        self,
        phase: Open,
        status: Literal["succeeded", "failed", "timed_out", "cancelled", "abandoned"],
        at: datetime,
        exit_code: int | None,
        started_at: datetime | None,
        ended_at: datetime | None,
        failure: FailureClass | None = None,
        reason: str = "",
        *,
        assumed: bool = False,
    ) -> Attempt:
        handle = submitted_at = None
        if isinstance(phase, Submitted | Doubted):
            handle, submitted_at = phase.handle, phase.submitted_at
            started_at = started_at or phase.started_at
        return Attempt(
            phase.attempt,
            self.round,
            status,
            phase.queued_at,
            at,
            handle,
            submitted_at,
            started_at,
            ended_at,
            exit_code,
            failure,
            reason,
            assumed=assumed,
        )

    def _leave_doubt(self, phase: Phase) -> None:
        if isinstance(phase, Doubted):
            self.doubted -= 1

    def _leave(self, phase: Open) -> None:
        self._leave_doubt(phase)
        if phase.stop is not None:
            if phase.stop.flagged_at is not None:
                self.flagged -= 1
            if phase.stop.cause != "timeout":
                self.stopping -= 1
        self.active -= 1

    def _end(self, name: JobName, state: JobState, done: Done) -> None:
        item = name not in self.jobs
        if isinstance(state.phase, _OPEN):
            self._leave(state.phase)
        elif not item:
            self._take(self.plan.rank[name])
            if isinstance(state.phase, Asking):
                self.asking -= 1
        self._leave_pool(name, state.phase)
        self.live.pop(name, None)
        self._put(name, state, done)
        if item:
            self._item_ended(name, state.phase, done.outcome)
            return
        self.unfinished -= 1
        self._tally(done.outcome, 1)
        counted = _counted_as(done.outcome)
        for dependent in self.plan.dependents[name]:
            other = self.jobs[dependent]
            phase = other.phase
            if isinstance(phase, Waiting):
                waiting = Waiting(
                    phase.since,
                    phase.remaining - 1,
                    phase.succeeded + (counted == "succeeded"),
                    phase.failed + (counted == "failed"),
                    phase.skipped + (counted == "skipped"),
                )
                self._put(dependent, other, waiting)
                if waiting.remaining == 0:
                    self.unsettled = add(self.unsettled, self.plan.rank[dependent])

    def _tally(self, outcome: Outcome, by: int) -> None:
        count = self.tally.get(outcome, 0) + by
        if count:
            self.tally[outcome] = count
        else:
            self.tally.pop(outcome, None)

    def _recount(self, name: JobName, before: Outcome, after: Outcome) -> None:
        """Correct the counts of dependents that have no decision yet when a job's outcome is declared anew."""
        old, new = _counted_as(before), _counted_as(after)
        for dependent in self.plan.dependents[name]:
            other = self.jobs[dependent]
            if isinstance(other.phase, Waiting):
                counts = {kind: getattr(other.phase, kind) for kind in ("succeeded", "failed", "skipped")}
                counts[old] -= 1
                counts[new] += 1
                self.jobs[dependent] = replace(other, phase=replace(other.phase, **counts))


_UNUSED = PoolUse()


def continued_fans(
    fans: "Map[JobName, Fan]", old: Plan, new: Plan, named: tuple[JobName, ...], again: frozenset[JobName]
) -> frozenset[JobName]:
    """Of the jobs with `for_each` that a new round does again, those that keep their list and the items that are not to be done again: nobody
    named the job itself, nothing before it is done again, and the document tells the list as before."""
    found: set[JobName] = set()
    for name, fan in fans.items():
        if name not in again or name in named or not fan.joined:
            continue
        was, is_now = old.jobs[name], new.jobs[name]
        if was.for_each == is_now.for_each and again.isdisjoint(map(JobName, is_now.after)):
            found.add(name)
    return frozenset(found)


def reopened_jobs(
    jobs: "Map[JobName, JobState]", plan: Plan, named: tuple[JobName, ...], *, failed: bool
) -> frozenset[JobName]:
    """The jobs of `plan` that a new round does again: those named, those new to the document, those that ended badly if
    `failed`, and everything that depends on any of them."""
    roots = [name for name in named if name in plan.jobs]
    # An item is part of its job, and what depends on that depends on it.
    roots += [
        of[0] for name in named if name not in plan.jobs and (of := item_of(name)) is not None and of[0] in plan.jobs
    ]
    for name in plan.jobs:
        state = jobs.get(name)
        if state is None or (failed and isinstance(state.phase, Done) and state.phase.outcome in BAD_OUTCOMES):
            roots.append(name)
    return plan.downstream(tuple(roots))


def _without_attempt(fan: Fan, phase: Open) -> Fan:
    wanted_to_end = phase.stop is not None and phase.stop.cause != "timeout"
    return replace(fan, active=fan.active - 1, stopping=fan.stopping - wanted_to_end)


def _counted_as(outcome: Outcome) -> Literal["succeeded", "failed", "skipped"]:
    if outcome == "succeeded" or outcome == "skipped":
        return outcome
    return "failed"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _impossible(event: Event, job: JobName, phase: Phase) -> CorruptStream:
    return CorruptStream(f"{event.type} cannot follow {type(phase).__name__} for job {job}")


_HANDLERS: dict[type, Callable[[RunFold, Any, datetime], None]] = {
    RunRequested: lambda fold, event, at: _again(event),
    RunOpened: RunFold._opened,
    WaitBegun: RunFold._wait_begun,
    WaitMet: RunFold._wait_ended,
    WaitFailed: RunFold._wait_ended,
    WaitExpired: RunFold._wait_ended,
    JobsReady: RunFold._jobs_ready,
    JobSettled: RunFold._settled,
    ItemsExpanded: RunFold._expanded,
    ItemsSettled: RunFold._items_settled,
    ItemsCancelRequested: RunFold._items_cancel_requested,
    ItemsJoined: RunFold._items_joined,
    AttemptQueued: RunFold._queued,
    AttemptClaimed: RunFold._claimed,
    ClaimReleased: RunFold._claim_released,
    StartAsked: RunFold._start_asked,
    AttemptSubmitted: RunFold._submitted,
    AttemptStarted: RunFold._started,
    AttemptSucceeded: RunFold._succeeded,
    AttemptFailed: RunFold._failed,
    AttemptCancelled: RunFold._cancelled,
    AttemptDoubted: RunFold._doubted,
    StopRequested: RunFold._stop_requested,
    StopSent: RunFold._stop_sent,
    StopFlagged: RunFold._stop_flagged,
    LateReported: RunFold._late,
    JobMarked: RunFold._marked,
    PlaceWanted: RunFold._place_wanted,
    PlaceTaken: RunFold._place_taken,
    ApprovalAsked: RunFold._approval_asked,
    JobApproved: RunFold._approved,
    JobRejected: RunFold._rejected,
    ApprovalExpired: RunFold._expired,
    RunCancelRequested: RunFold._cancel_requested,
    RunReopened: RunFold._reopened,
    RunBecameLate: RunFold._became_late,
    DeadlineMissed: RunFold._deadline_missed,
    RunFinished: RunFold._finished,
}


def _again(event: RunRequested) -> None:
    raise CorruptStream(f"{event.run} was requested twice")
