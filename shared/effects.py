"""What should happen in the world because of facts.

`effects_of` is the normal way: it costs what the decision costs. `pending` recomputes from the state alone what should be under
way, and is how a start or a sweep repairs whatever was lost. Carrying an effect out twice is harmless.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.decide.deadlines import deadlines
from shared.decide.lateness import moments as moments_of_pace
from shared.decide.pool import grantable
from shared.decide.waits import due_looks
from shared.events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptQueued,
    AttemptSubmitted,
    AttemptSucceeded,
    BackfillCancelled,
    BackfillRequested,
    BackfillResumed,
    BackfillRunAdmitted,
    BackfillRunEnded,
    ClaimReleased,
    Event,
    HeldRunDropped,
    JobMarked,
    JobSettled,
    LateReported,
    NoticesPlanned,
    ParentJob,
    PlaceGranted,
    PlaceWanted,
    RunAdmitted,
    RunFinished,
    RunRequested,
    StartAsked,
    StopRequested,
    WaitBegun,
)
from shared.ids import (
    BackfillId,
    Digest,
    Handle,
    JobName,
    PoolName,
    RunId,
    StreamName,
    WorkflowName,
    notices_stream,
    workflow_of,
)
from shared.state.backfill import BackfillState, NoBackfill, request_of
from shared.state.notices import NoticeLog, Sending
from shared.state.pool import NoPool, Place, PoolState
from shared.state.run import (
    Asking,
    Claimed,
    Doubted,
    JobState,
    NotRequested,
    Queued,
    Run,
    RunFold,
    Stop,
    Submitted,
    Wanting,
)
from shared.state.waits import WHOLE_RUN, failed, is_open, waits_of
from shared.state.workflow import NotRegistered, WorkflowState
from shared.workflow.plan import Plan

HANDOVER_SECONDS = 60
"""An attempt still queued after this is handed over again; a stop not yet accepted likewise."""
POLL_FIRST_SECONDS = {"ecs": 600, "emr": 60, "ssm": 60, "workflow": 600}
"""ECS events, and what a child tells its parent, are sure to come and polls are a net; EMR and SSM events are best effort, so these are
always polled."""
POLL_LAST_SECONDS = 600
NO_PATIENCE = timedelta(0)
"""Patience is how long a look may wait that repairs, or confirms, what normally tells by itself: a hand-over, and the poll of a target whose
events are guaranteed. What time decides (retries, time-outs, polls that are the only news) never waits."""
ASKING_SECONDS = 3600
"""How often a run is looked at of which nothing is awaited but a person's decision."""
CHECK_HOLDERS_SECONDS = 300
"""How often a workflow looks at the runs that hold its places, so that a lost end never blocks."""


@dataclass(frozen=True, slots=True)
class StartAttempt:
    run: RunId
    job: JobName
    attempt: int


@dataclass(frozen=True, slots=True)
class StopAttempt:
    run: RunId
    job: JobName
    attempt: int
    handle: Handle | None = None
    """Set when the execution to stop is not the one that is bound."""


@dataclass(frozen=True, slots=True)
class ObserveAttempt:
    run: RunId
    job: JobName
    attempt: int


@dataclass(frozen=True, slots=True)
class AdvanceRun:
    run: RunId


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Request the run in its own stream."""

    request: RunRequested


@dataclass(frozen=True, slots=True)
class CancelDisplaced:
    run: RunId
    by_run: RunId


@dataclass(frozen=True, slots=True)
class TellWorkflow:
    """A run that was admitted has ended."""

    workflow: WorkflowName
    run: RunId
    outcome: Literal["succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class TellListener:
    """A workflow may have a trigger for how runs of another end, and this one ended so."""

    workflow: WorkflowName
    run: RunId
    """That ended."""
    outcome: Literal["succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class TellParent:
    """A run that stands for an attempt of another run began, or ended."""

    run: RunId
    """The parent."""
    job: JobName
    attempt: int
    child: RunId


@dataclass(frozen=True, slots=True)
class TickWorkflow:
    workflow: WorkflowName


@dataclass(frozen=True, slots=True)
class CheckHolders:
    workflow: WorkflowName


@dataclass(frozen=True, slots=True)
class ContinueBackfill:
    """Look at the next instants, and run those that are to be run."""

    backfill: BackfillId


@dataclass(frozen=True, slots=True)
class TellBackfill:
    """A run of a backfill has ended; how, is read from its stream."""

    backfill: BackfillId
    run: RunId


@dataclass(frozen=True, slots=True)
class CheckBackfill:
    backfill: BackfillId


@dataclass(frozen=True, slots=True)
class CancelBackfilled:
    """A run whose backfill was cancelled is to end."""

    backfill: BackfillId
    request: RunRequested
    """To begin it with, should it not have begun: what is cancelled begins no more."""


@dataclass(frozen=True, slots=True)
class LookAtWaits:
    """See whether what the run waits for outside is there."""

    run: RunId


@dataclass(frozen=True, slots=True)
class AskForPlace:
    """A run's attempt wants a place in a pool."""

    pool: PoolName
    place: Place
    weight: int
    priority: int
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class GiveBackPlace:
    """Whoever had this place, or waited for it, needs it no more."""

    pool: PoolName
    place: Place


@dataclass(frozen=True, slots=True)
class TellOfPlace:
    """The pool granted this place; the run takes it, or it is given back."""

    pool: PoolName
    place: Place


@dataclass(frozen=True, slots=True)
class AdvancePool:
    """There is room for more of those who wait."""

    pool: PoolName


@dataclass(frozen=True, slots=True)
class CheckPlaces:
    """Ask the runs whose attempts hold places whether they still do."""

    pool: PoolName


_MAY_LEAVE = (AttemptSucceeded, AttemptFailed, AttemptCancelled, JobSettled, JobMarked)


@dataclass(frozen=True, slots=True)
class PlanNoticesOf:
    """Plan what is to be told of a stream, which its follower has seen and may not write."""

    stream: StreamName


@dataclass(frozen=True, slots=True)
class DeliverNotice:
    """Hand a notice to its channel."""

    stream: StreamName
    notice: str


Effect = (
    PlanNoticesOf
    | DeliverNotice
    | StartAttempt
    | StopAttempt
    | ObserveAttempt
    | AdvanceRun
    | OpenRun
    | CancelDisplaced
    | TellWorkflow
    | TellListener
    | TellParent
    | TickWorkflow
    | CheckHolders
    | ContinueBackfill
    | TellBackfill
    | CheckBackfill
    | CancelBackfilled
    | LookAtWaits
    | AskForPlace
    | GiveBackPlace
    | TellOfPlace
    | AdvancePool
    | CheckPlaces
)


def effects_of_run(run: Run, events: Iterable[Event]) -> list[Effect]:
    """The effects of events that have just been committed; `run` is the state after them."""
    effects: list[Effect] = []
    for event in events:
        match event:
            case AttemptQueued():
                effects.append(StartAttempt(run.run, event.job, event.attempt))
            case StopRequested():
                effects.append(StopAttempt(run.run, event.job, event.attempt))
            case AttemptSubmitted() if _to_be_stopped(run, event):
                # The stop was asked for before anybody knew what to stop.
                effects.append(StopAttempt(run.run, event.job, event.attempt))
            case AttemptFailed(assumed=True) | AttemptCancelled(assumed=True) | JobMarked():
                effects.extend(_given_up(run, event.job))
            case LateReported(handle=handle) if handle is not None:
                effects.append(StopAttempt(run.run, event.job, event.attempt, handle))
            case WaitBegun() if LookAtWaits(run.run) not in effects:
                effects.append(LookAtWaits(run.run))
            case RunRequested():
                effects.extend(_told_to_parent(run.run, event.parent))
            case RunFinished():
                effects.extend(_told_of_the_end(run))
            case PlaceWanted():
                effects.append(_ask_for_place(run, event.job, event, run.at))
            case _:
                pass
        if isinstance(event, _MAY_LEAVE):
            effects.extend(_places_left(run, event))
    return effects


def _ask_for_place(run: Run, job: JobName, wanted: PlaceWanted | Wanting, asked_at: datetime) -> "AskForPlace":
    place = Place(run.run, job, wanted.attempt, run.round)
    return AskForPlace(wanted.pool, place, wanted.weight, wanted.priority, asked_at)


def _places_left(
    run: Run, event: "AttemptSucceeded | AttemptFailed | AttemptCancelled | JobSettled | JobMarked"
) -> "list[Effect]":
    """What a job no longer needs of its pool. Giving back what it never had changes nothing; in one round it never wants it again."""
    job = run.plan.jobs.get(event.job)
    if job is None or job.pool is None:
        return []
    attempts: tuple[int, ...]
    match event:
        case JobMarked():
            # Whether it waited in the line or had begun.
            made = len(run.jobs[event.job].attempts)
            attempts = (made, made + 1)
        case JobSettled(outcome="cancelled" | "timed_out"):
            attempts = (len(run.jobs[event.job].attempts) + 1,)
        case JobSettled():
            # Settled by its condition, so that it never came to want a place.
            return []
        case _:
            attempts = (event.attempt,)
    return [
        GiveBackPlace(PoolName(job.pool.name), Place(run.run, event.job, attempt, run.round))
        for attempt in attempts
        if attempt
    ]


def _told_to_parent(child: RunId, parent: ParentJob | None) -> list[Effect]:
    return [] if parent is None else [TellParent(parent.run, parent.job, parent.attempt, child)]


def timed_effects_of_run(run: Run, events: Iterable[Event]) -> list[tuple[datetime, Effect]]:
    """What becomes due because of these events, and when: for a queue that can wait. The due row covers all of it, a little later."""
    timed: list[tuple[datetime, Effect]] = []
    for event in events:
        match event:
            case AttemptFailed(retry_at=at) if at is not None:
                timed.append((at, AdvanceRun(run.run)))
            case ClaimReleased(retry_at=at) | StartAsked(not_before=at):
                timed.append((at, StartAttempt(run.run, event.job, event.attempt)))
            case RunRequested(start_after=at) if at is not None:
                timed.append((at, AdvanceRun(run.run)))
            case WaitBegun(deadline_at=at) if at is not None:
                timed.append((at, LookAtWaits(run.run)))
            case _:
                pass
    return timed


def _to_be_stopped(run: Run, event: AttemptSubmitted) -> bool:
    state = run.find(event.job)
    return (
        state is not None
        and isinstance(state.phase, Submitted)
        and state.phase.attempt == event.attempt
        and state.phase.stop is not None
    )


def _given_up(run: Run, job: JobName) -> list[Effect]:
    """Work that was given up without seeing its end must not go on beside what takes its place."""
    state = run.find(job)
    if state is None or not state.attempts:
        return []
    last = state.attempts[-1]
    if not last.assumed or last.handle is None or last.recorded_at != run.at:
        return []
    return [StopAttempt(run.run, job, last.attempt, last.handle)]


def effects_of_workflow(events: Iterable[Event]) -> list[Effect]:
    effects: list[Effect] = []
    for event in events:
        match event:
            case RunAdmitted():
                effects.extend(CancelDisplaced(displaced, event.run) for displaced in event.displaces)
                effects.append(OpenRun(event.request))
            case HeldRunDropped():
                effects.extend(_told_to_parent(event.run, event.parent))
            case _:
                pass
    return effects


def _told_of_the_end(run: Run) -> list[Effect]:
    """Whoever counts the run among his own hears how it ended."""
    if run.outcome is None:
        # It was reopened in the same commit.
        return []
    effects: list[Effect] = []
    if run.request.admitted:
        effects.append(TellWorkflow(workflow_of(run.run), run.run, run.outcome))
    if run.request.backfill is not None:
        effects.append(TellBackfill(run.request.backfill, run.run))
    effects.extend(_told_to_parent(run.run, run.request.parent))
    return effects


def pending_of_run(
    run: Run | NotRequested,
    now: datetime,
    *,
    everything: bool = False,
    since: datetime | None = None,
    patience: timedelta = NO_PATIENCE,
) -> list[Effect]:
    """What should be under way and may have been lost. With `everything` (at a start, when memory is gone) also what
    was handed over just now; without, only what is due. Targets are asked about what fell due after `since`, the moment of the
    due row that led here; without it, within the last `HANDOVER_SECONDS`, so that a sweep every minute misses nothing. With patience,
    looks come rarely, and each asks about everything that would otherwise wait for the next."""
    if isinstance(run, NotRequested):
        return []
    if run.finished:
        return _told_of_the_end(run)
    effects: list[Effect] = []
    if run.round == 1:
        # Whoever asked for it may have died before that was written down; a round that a person asked for is not the parent's business.
        effects.extend(_told_to_parent(run.run, run.request.parent))
    advance = needs_advance(run, now) or any(at <= now for at, _ in moments_of_pace(run.pace, run.plan.workflow))
    looked = min(since, now) if since is not None else now - timedelta(seconds=HANDOVER_SECONDS)
    # A map's order differs from process to process; what is handed over first should not.
    for name in sorted(run.live, key=run.plan.order):
        state = run.job(name)
        if any(deadline.at <= now for deadline in deadlines(state, run.plan.jobs[name], run.round)):
            advance = True
        effects.extend(_pending_of_job(run, name, state, now, everything, looked, patience))
        if everything:
            effects.extend(_strays(run, name, state))
    if advance:
        effects.append(AdvanceRun(run.run))
    looks = due_looks(run, looked - timedelta(microseconds=1)) if run.gates else []
    if looks and (everything or min(looks) <= now):
        effects.append(LookAtWaits(run.run))
    return effects


def pending_of_jobs(run: Run | NotRequested, jobs: Sequence[JobName], now: datetime) -> list[Effect]:
    """What a command that changes nothing hands over again, for the jobs it names: starts, and stops not yet accepted.

    Never a look at the target: that would answer with a command that changes nothing, and so on for ever.
    """
    if isinstance(run, NotRequested):
        return []
    effects: list[Effect] = pending_of_run(run, now) if run.finished else []
    for name in dict.fromkeys(jobs):
        state = run.find(name)
        if state is None:
            continue
        effects.extend(_strays(run, name, state))
        for effect in _pending_of_job(run, name, state, now, everything=True, looked=now):
            if isinstance(effect, StartAttempt) or (isinstance(effect, StopAttempt) and not _stop_accepted(state)):
                effects.append(effect)
    return effects


def _stop_accepted(state: JobState) -> bool:
    match state.phase:
        case Queued(stop=stop) | Claimed(stop=stop) | Submitted(stop=stop) | Doubted(stop=stop):
            return stop is not None and stop.sent_at is not None
        case _:
            return False


def _strays(run: Run, name: JobName, state: JobState) -> list[Effect]:
    return [StopAttempt(run.run, name, attempt, handle) for handle, attempt in (state.strays or {}).items()]


def _pending_of_job(
    run: Run,
    name: JobName,
    state: JobState,
    now: datetime,
    everything: bool,
    looked: datetime,
    patience: timedelta = NO_PATIENCE,
) -> list[Effect]:
    match state.phase:
        case Queued() | Claimed() | Submitted() | Doubted() as phase if phase.stop is not None:
            if everything or _stop_again_at(phase.stop, looked - timedelta(microseconds=1)) <= now:
                return [StopAttempt(run.run, name, phase.attempt)]
            return []
        case Queued(attempt=attempt, queued_at=queued_at, not_before=not_before):
            if everything or now >= (not_before or queued_at + timedelta(seconds=HANDOVER_SECONDS)):
                return [StartAttempt(run.run, name, attempt)]
            return []
        case Claimed(attempt=attempt, send_before=send_before):
            return [ObserveAttempt(run.run, name, attempt)] if now >= send_before else []
        case Wanting(since=since) as phase:
            again = _ever_more_seldom(since, HANDOVER_SECONDS, looked - timedelta(microseconds=1))
            return [_ask_for_place(run, name, phase, since)] if everything or again <= now else []
        case Submitted(attempt=attempt, submitted_at=submitted_at) if patience and _tells_by_itself(run, name):
            # Half, so that nothing waits for the next look that is nearer to this one.
            return [ObserveAttempt(run.run, name, attempt)] if everything or now - submitted_at >= patience / 2 else []
        case Submitted(attempt=attempt) | Doubted(attempt=attempt):
            if everything or poll_at(run, name, state, looked - timedelta(microseconds=1)) <= now:
                return [ObserveAttempt(run.run, name, attempt)]
            return []
        case _:
            return []


def needs_advance(run: Run, now: datetime) -> bool:
    """Whether the run could go on by itself: decisions that were cut, or whose moment has come."""
    if run.finished:
        return False
    if run.unfinished == 0 or run.cancelling:
        return True
    fold = RunFold(run, _no_plans)
    if run.cancel is not None:
        # A job of which every item has ended, and that has not.
        return fold.has_unsettled()
    if not run.opened:
        after = run.request.start_after
        return after is None or after <= now
    if waits_of(run.plan, WHOLE_RUN):
        gate = run.gates.get(WHOLE_RUN, ())
        if is_open(gate):
            return False
        if not gate or failed(gate) is not None:
            return True
    if fold.has_unsettled() or (run.active < run.plan.workflow.parallelism and fold.has_ready()):
        return True
    return fold.next_unasked() is not None


def due_of_run(run: Run | NotRequested, now: datetime, *, patience: timedelta = NO_PATIENCE) -> datetime | None:
    """The earliest moment after `now` at which this run must be looked at; None when nothing can happen any more."""
    if isinstance(run, NotRequested) or run.finished:
        return None
    moments: list[datetime] = []
    if not run.opened and run.request.start_after is not None:
        moments.append(run.request.start_after)
    if needs_advance(run, now):
        moments.append(now + timedelta(seconds=HANDOVER_SECONDS))
    for name in run.live:
        moments.append(due_of_job(run, name, now, patience=patience))
    moments.extend(at for at, _ in moments_of_pace(run.pace, run.plan.workflow))
    moments.extend(due_looks(run, now))
    later = [moment for moment in moments if moment > now]
    # Something due at this very moment is being handed over now; if that is lost, the next look repairs it.
    return min(later) if len(later) == len(moments) and later else _soon(later, now)


def _soon(later: list[datetime], now: datetime) -> datetime:
    return min([*later, now + timedelta(seconds=HANDOVER_SECONDS)])


def due_of_job(run: Run, name: JobName, now: datetime, *, patience: timedelta = NO_PATIENCE) -> datetime:
    """When this job must be looked at next."""
    state = run.job(name)
    moments = [deadline.at for deadline in deadlines(state, run.plan.jobs[name], run.round)]
    match state.phase:
        case Queued() | Claimed() | Submitted() | Doubted() as phase if phase.stop is not None:
            moments.append(_stop_again_at(phase.stop, now))
        case Queued(queued_at=queued_at, not_before=not_before):
            moments.append(not_before or queued_at + timedelta(seconds=HANDOVER_SECONDS) + patience)
        case Claimed(send_before=send_before):
            moments.append(send_before)
        case Submitted() if _tells_by_itself(run, name):
            moments.append(poll_at(run, name, state, now) + patience)
        case Submitted() | Doubted():
            moments.append(poll_at(run, name, state, now))
        case Wanting(since=since):
            moments.append(_ever_more_seldom(since, HANDOVER_SECONDS, now))
        case Asking(expires_at=None):
            # Nothing but a person can change it.
            moments.append(now + timedelta(seconds=ASKING_SECONDS))
        case _:
            # Only time can do something to it, and when is known.
            pass
    # What is past and was not done yet is tried again after a while, not in a loop.
    again = now + timedelta(seconds=HANDOVER_SECONDS)
    return min((moment if moment > now else again for moment in moments), default=again)


def _tells_by_itself(run: Run, name: JobName) -> bool:
    """Whether its target's events are guaranteed, so that polls are a net and nothing more."""
    return run.plan.jobs[name].type in {"ecs", "workflow"}


def poll_at(run: Run, name: JobName, state: JobState, after: datetime) -> datetime:
    """The first moment after `after` at which the target is asked how it goes. No event records a poll: the moments follow
    from when the attempt was submitted, further apart as it grows older."""
    phase = state.phase
    assert isinstance(phase, Submitted | Doubted)
    since = phase.submitted_at if isinstance(phase, Submitted) else phase.since
    first = POLL_FIRST_SECONDS[run.plan.jobs[name].type] if isinstance(phase, Submitted) else POLL_FIRST_SECONDS["ssm"]
    return _ever_more_seldom(since, first, after)


def _stop_again_at(stop: Stop, after: datetime) -> datetime:
    """The first moment after `after` at which a stop that has no effect is sent again: it may be deaf for days, and each costs a call or more."""
    return _ever_more_seldom(stop.sent_at or stop.requested_at, HANDOVER_SECONDS, after)


def _ever_more_seldom(since: datetime, first: float, after: datetime) -> datetime:
    age = max((after - since).total_seconds(), 0.0)
    # Every `first` seconds in the first ten periods, then every tenth of the age up to the longest.
    period = min(max(first, age / 10), max(first, POLL_LAST_SECONDS))
    step = max(int(period // first), 1) * first
    return since + timedelta(seconds=(int(age // step) + 1) * step)


def pending_of_workflow(
    state: WorkflowState | NotRegistered, now: datetime, *, everything: bool = False
) -> list[Effect]:
    if isinstance(state, NotRegistered):
        return []
    effects: list[Effect] = []
    ticking = state.due_next is not None and state.due_next <= now
    ready = any(not state.before_its_turn(one.request, now) for one in state.waiting)
    # Room or a turn: whether it is the one of the two that was lacking, the document tells.
    ready = ready and (not state.holders or state.next_start_at is not None)
    if ticking or ready or (state.held and state.live is None):
        effects.append(TickWorkflow(state.name))
    for run, holder in sorted(state.holders.items()):
        if holder.displaced_by is not None:
            effects.append(CancelDisplaced(run, holder.displaced_by))
    old = now - timedelta(seconds=CHECK_HOLDERS_SECONDS)
    if state.holders and (everything or any(holder.admitted_at <= old for holder in state.holders.values())):
        effects.append(CheckHolders(state.name))
    return effects


def effects_of_notices(state: NoticeLog, events: Iterable[Event]) -> list[Effect]:
    stream = notices_stream(state.source)
    return [
        DeliverNotice(stream, notice.id)
        for event in events
        if isinstance(event, NoticesPlanned)
        for notice in event.notices
    ]


def pending_of_notices(state: NoticeLog, now: datetime, *, everything: bool = False) -> list[Effect]:
    """What was planned and is neither sent nor given up. With `everything`, also what was handed over just now."""
    stream = notices_stream(state.source)
    return [
        DeliverNotice(stream, one.notice.id)
        for one in state.open
        if _deliver_at(one) <= now or (everything and one.retry_at is None)
    ]


def due_of_notices(state: NoticeLog, now: datetime) -> datetime | None:
    """When to look at them again; None when all are sent or given up."""
    again = now + timedelta(seconds=HANDOVER_SECONDS)
    return min((at if (at := _deliver_at(one)) > now else again for one in state.open), default=None)


def _deliver_at(one: Sending) -> datetime:
    return one.retry_at if one.retry_at is not None else one.planned_at + timedelta(seconds=HANDOVER_SECONDS)


def due_of_workflow(state: WorkflowState | NotRegistered, now: datetime) -> datetime | None:
    if isinstance(state, NotRegistered):
        return None
    moments: list[datetime] = []
    if state.due_next is not None:
        moments.append(state.due_next if state.due_next > now else now + timedelta(seconds=1))
    turn = state.turn_at(now) if state.live is not None else None
    if turn is not None:
        moments.append(turn)
    if state.holders or state.waiting or (state.held and state.live is None):
        moments.append(now + timedelta(seconds=CHECK_HOLDERS_SECONDS))
    return min(moments, default=None)


def effects_of_backfill(state: BackfillState, events: Iterable[Event]) -> list[Effect]:
    """`state` is the one after the events."""
    effects: list[Effect] = []
    advance = False
    for event in events:
        match event:
            case BackfillRunAdmitted() if state.cancel is None:
                effects.append(OpenRun(request_of(state, event)))
            case BackfillCancelled():
                effects.extend(_cancelled_runs(state))
            case BackfillRequested() | BackfillResumed() | BackfillRunEnded():
                advance = True
            case _:
                pass
    if advance and state.goes_on:
        effects.append(ContinueBackfill(state.backfill))
    return effects


def _cancelled_runs(state: BackfillState) -> list[Effect]:
    return [
        CancelBackfilled(state.backfill, request_of(state, admitted.event))
        for _, admitted in sorted(state.active.items())
    ]


def pending_of_backfill(state: BackfillState | NoBackfill, now: datetime, *, everything: bool = False) -> list[Effect]:
    if isinstance(state, NoBackfill) or state.outcome is not None:
        return []
    effects: list[Effect] = []
    if state.goes_on:
        effects.append(ContinueBackfill(state.backfill))
    if state.cancel is not None:
        effects.extend(_cancelled_runs(state))
    old = now - timedelta(seconds=CHECK_HOLDERS_SECONDS)
    if state.active and (everything or any(admitted.at <= old for admitted in state.active.values())):
        effects.append(CheckBackfill(state.backfill))
    return effects


def due_of_backfill(state: BackfillState | NoBackfill, now: datetime) -> datetime | None:
    if isinstance(state, NoBackfill) or state.outcome is not None:
        return None
    if state.goes_on:
        return now + timedelta(seconds=HANDOVER_SECONDS)
    return now + timedelta(seconds=CHECK_HOLDERS_SECONDS) if state.active else None


def effects_of_pool(state: PoolState, events: Iterable[Event]) -> list[Effect]:
    return [
        TellOfPlace(state.name, Place(event.run, event.job, event.attempt, event.round))
        for event in events
        if isinstance(event, PlaceGranted)
    ]


def pending_of_pool(state: PoolState | NoPool, now: datetime, *, everything: bool = False) -> list[Effect]:
    """A grant that nobody told of, or a place that nobody gave back, is found by asking the runs themselves."""
    if isinstance(state, NoPool):
        return []
    effects: list[Effect] = []
    if grantable(state, now) is not None:
        effects.append(AdvancePool(state.name))
    old = now - timedelta(seconds=CHECK_HOLDERS_SECONDS)
    since = (*(held.granted_at for held in state.held.values()), *(state.awaited[one].since for one in state.heads()))
    if since and (everything or min(since) <= old):
        effects.append(CheckPlaces(state.name))
    return effects


def pending_of_places(state: PoolState | NoPool, places: Iterable[Place]) -> list[Effect]:
    """What a request that changes nothing hands over again: whoever asks for a place that is his has not heard of it."""
    if isinstance(state, NoPool):
        return []
    return [TellOfPlace(state.name, place) for place in dict.fromkeys(places) if place in state.held]


def due_of_pool(state: PoolState | NoPool, now: datetime) -> datetime | None:
    if isinstance(state, NoPool) or not (state.held or state.awaited):
        return None
    if grantable(state, now) is not None:
        return now + timedelta(seconds=1)
    return now + timedelta(seconds=CHECK_HOLDERS_SECONDS)


def _no_plans(digest: Digest) -> Plan:
    raise AssertionError(f"no document is needed here: {digest}")
