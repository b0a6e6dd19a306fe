"""The rules of a workflow: registration, pause, and admission, where scheduled instants up to a watermark become run, skip or
missed, each exactly once, by the one commit that moves the watermark.

The instants come from `schedule.due` alone, so it does not matter who rings the bell, how often, or how late.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import assert_never

from shared import schedule
from shared.decide.commands import (
    AdmitRun,
    DropHeldRun,
    PauseWorkflow,
    RefuseEvent,
    RegisterWorkflow,
    ReleaseRun,
    ResumeWorkflow,
    Tick,
    UnregisterWorkflow,
    WorkflowCommand,
)
from shared.decide.instants import (
    MISSED_COUNT_MAX,
    Calendars,
    ToExclude,
    ToMiss,
    ToRun,
    begins_at,
    exclusion_of,
    no_calendars,
    turn_spacing,
    verdicts,
)
from shared.decide.run import PAYLOAD_BYTES_MAX, SLICE_BYTES, check_request, text_bytes
from shared.decide.triggers import is_kept_out, missed, refused
from shared.errors import InvalidInput, NotFound, Rejected
from shared.events import (
    Event,
    HeldRunDropped,
    InstantsExcluded,
    InstantSkipped,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    RunReleased,
    RunRequested,
    TriggerMissed,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.ids import RunId, scheduled_run
from shared.schedule import Instant
from shared.secrecy import shortened
from shared.state.run import Plans
from shared.state.workflow import HELD_MAX, NotRegistered, WorkflowState, evolve_workflow
from shared.workflow.document import Workflow
from shared.workflow.parameters import fill
from shared.workflow.timing import Schedule

INSTANTS_SLICE = 100
"""Runs that one decision lets in or holds before it is cut."""
TEXT_MAX = 1_000
"""Characters of a reason that go into an event."""
WALKED_MAX = 40_000
"""Instants that one decision excludes or gives up one after the other before it is cut: half a second of walking."""


class WorkflowDraft:
    """Events decided so far and the state they lead to, as `RunDraft` is for a run."""

    def __init__(
        self,
        state: NotRegistered | WorkflowState,
        plans: Plans,
        now: datetime,
        calendars: Calendars = no_calendars,
    ) -> None:
        self.state = state
        self.plans = plans
        self.calendars = calendars
        # Clocks differ; a commit is never earlier than the one before it, and no watermark goes back.
        self.now = max(now, state.at) if isinstance(state, WorkflowState) else now
        self.events: list[Event] = []
        self.bytes = 0
        self.truncated = False

    def emit(self, event: Event) -> None:
        self.state = evolve_workflow(self.state, event, self.now)
        self.events.append(event)
        self.bytes += text_bytes(event)

    @property
    def room(self) -> bool:
        """Whether a decision may go on; a batch of commands should end before this is False."""
        return len(self.events) < INSTANTS_SLICE and self.bytes < SLICE_BYTES

    def room_for(self, event: Event) -> bool:
        return self.room and self.bytes + text_bytes(event) < SLICE_BYTES

    @property
    def registered(self) -> WorkflowState:
        assert isinstance(self.state, WorkflowState)
        return self.state

    def document(self) -> Workflow:
        live = self.registered.live
        assert live is not None
        return self.plans(live.document).workflow

    def freeze(self) -> NotRegistered | WorkflowState:
        return self.state


def decide_workflow(
    state: NotRegistered | WorkflowState,
    command: WorkflowCommand,
    *,
    now: datetime,
    plans: Plans,
    calendars: Calendars = no_calendars,
) -> list[Event]:
    """What happens because of `command`. Raises `Rejected` (or `NotFound`) with the reason when it is not allowed."""
    draft = WorkflowDraft(state, plans, now, calendars)
    decide_workflow_on(draft, command)
    return draft.events


def decide_workflow_on(draft: WorkflowDraft, command: WorkflowCommand) -> None:
    if isinstance(command, RegisterWorkflow):
        _register(draft, command)
        return
    if not isinstance(draft.state, WorkflowState):
        raise NotFound("there is no such workflow")
    match command:
        case UnregisterWorkflow():
            if draft.registered.live is not None:
                _close_schedule(draft, "the workflow was unregistered")
                draft.emit(WorkflowUnregistered(by=command.by, reason=_short(command.reason)))
                _let_in(draft)
        case PauseWorkflow():
            if draft.registered.pause is None:
                _deal_with_due(draft)
                draft.emit(WorkflowPaused(by=command.by, reason=_short(command.reason)))
        case ResumeWorkflow():
            pause = draft.registered.pause
            if pause is not None:
                draft.emit(WorkflowResumed(by=command.by))
                _deal_with_due(draft, paused=pause.at)
                _let_in(draft)
        case Tick():
            _deal_with_due(draft)
            _let_in(draft)
        case AdmitRun():
            _admit_on_request(draft, command.request)
        case RefuseEvent():
            for event in refused(draft.registered, command):
                draft.emit(event)
        case DropHeldRun():
            for held in draft.registered.held:
                if held.run == command.run:
                    reason = _short(command.reason)
                    draft.emit(HeldRunDropped(run=held.run, by=command.by, reason=reason, parent=held.request.parent))
                    break
        case ReleaseRun():
            holder = draft.registered.holders.get(command.run)
            if holder is not None:
                draft.emit(RunReleased(run=command.run, outcome=command.outcome, scheduled_at=holder.scheduled_at))
                _let_in(draft)
        case _:
            assert_never(command)


def _register(draft: WorkflowDraft, command: RegisterWorkflow) -> None:
    state = draft.state
    new = draft.plans(command.document).workflow.schedule
    old: Schedule | None = None
    kept = False
    if isinstance(state, WorkflowState):
        if state.live is not None and state.live.document == command.document:
            return
        old = draft.plans(state.versions[-1].document).workflow.schedule
        kept = state.live is not None and old is not None and old == new and state.watermark is not None
        if not kept:
            # What was due under the document that is being replaced is still its business.
            _close_schedule(draft, "the schedule was replaced")
    number = len(draft.state.versions) + 1 if isinstance(draft.state, WorkflowState) else 1
    draft.emit(
        WorkflowRegistered(
            workflow=command.workflow,
            document=command.document,
            version=number,
            by=command.by,
            source=command.source,
        )
    )
    if not kept:
        if new is not None:
            _move_watermark(draft, _first_watermark(new, draft.now, draft.registered.watermark, old))
        elif draft.registered.next_at is not None:
            draft.emit(WatermarkMoved(until=draft.now, next_at=None))
    _deal_with_due(draft)
    _let_in(draft)


def _close_schedule(draft: WorkflowDraft, reason: str) -> None:
    """Deal with every instant up to now before the live schedule ends: none is left to whatever comes after it."""
    truncated = draft.truncated
    _deal_with_due(draft)
    draft.truncated = truncated
    state = draft.registered
    if state.live is None or state.next_at is None or state.next_at > draft.now or state.watermark is None:
        return
    rule = draft.document().schedule
    assert rule is not None
    # Paused, or too many for one commit: those that would have had to wait for a later one are given up.
    _record_missed(draft, rule, state.watermark, draft.now, reason)
    _move_watermark(draft, draft.now)


def _first_watermark(new: Schedule, now: datetime, before: datetime | None, old: Schedule | None) -> datetime:
    """Where a schedule that has just become live begins: now, unless its own past is asked for."""
    if new.at is not None:
        # A one-off in the past runs at once, unless it was there before and has been dealt with.
        one_off = schedule.latest(new, _LONG_AGO, now, 1)
        done = before is not None and old is not None and schedule.latest(old, _LONG_AGO, before, 1) == one_off
        if one_off and not (done and old is not None and old.at is not None):
            return one_off[0].at - timedelta(seconds=1)
        return now
    if before is None and new.catchup != "none" and new.start is not None:
        # Nothing is due before `start`, so the beginning of time would do as well, at more cost.
        return min(now, _aware(new) - timedelta(seconds=1))
    return now


_LONG_AGO = datetime.fromisoformat("1970-01-02T00:00:00+00:00")


def _aware(new: Schedule) -> datetime:
    assert new.start is not None
    return new.start if new.start.tzinfo is not None else new.start.replace(tzinfo=new.zone)


def _move_watermark(draft: WorkflowDraft, until: datetime, *, stalled: bool = False) -> None:
    document = draft.document()
    following = schedule.upcoming(document.schedule, until, 1) if document.schedule is not None else []
    draft.emit(WatermarkMoved(until=until, next_at=following[0].at if following else None, stalled=stalled))


def _deal_with_due(draft: WorkflowDraft, *, paused: datetime | None = None) -> None:
    """Make every instant between the watermark and now into a run, a skip or a miss. `paused`: since when, if until now."""
    state = draft.registered
    if state.live is None or state.pause is not None or state.next_at is None or state.next_at > draft.now:
        return
    document = draft.document()
    rule = document.schedule
    assert rule is not None
    assert state.watermark is not None
    dealt, walked, largest = state.watermark, 0, 0
    exclusion = exclusion_of(rule, draft.calendars)
    for verdict in verdicts(rule, state.watermark, draft.now, paused, exclusion):
        if draft.registered.is_full and rule.catchup == "all":
            # None of them is to be lost: they stay due, and are dealt with as those who wait are let in.
            if dealt > state.watermark or not state.stalled:
                _move_watermark(draft, dealt, stalled=True)
            return
        if dealt > state.watermark and not (draft.room and draft.bytes + largest < SLICE_BYTES and walked < WALKED_MAX):
            # The watermark stops at the last instant dealt with; the next command goes on from there.
            draft.truncated = True
            _move_watermark(draft, dealt)
            return
        before = draft.bytes
        match verdict:
            case ToRun(instant):
                _admit_scheduled(draft, document, instant)
                dealt = instant.at
            case ToMiss(first, last, count, reason):
                draft.emit(InstantsMissed(first_at=first, last_at=last, count=count, reason=reason))
                dealt, walked = last, walked + (count if exclusion is not None else 0)
            case ToExclude(first, last, count, excluded):
                draft.emit(
                    InstantsExcluded(
                        first_at=first,
                        last_at=last,
                        count=count,
                        day=excluded.day,
                        calendar=excluded.calendar,
                        calendar_version=excluded.version,
                        reason=excluded.reason,
                    )
                )
                dealt, walked = last, walked + count
        largest = max(largest, draft.bytes - before)
    _move_watermark(draft, draft.now)


def _record_missed(draft: WorkflowDraft, rule: Schedule, after: datetime, until: datetime, reason: str) -> None:
    if until <= after:
        return
    first = schedule.due(rule, after, until, limit=1)
    if not first:
        return
    last = schedule.latest(rule, after, until, 1)
    draft.emit(
        InstantsMissed(
            first_at=first[0].at,
            last_at=last[0].at,
            count=schedule.count_between(rule, after, until, MISSED_COUNT_MAX),
            reason=reason,
        )
    )


def _admit_scheduled(draft: WorkflowDraft, document: Workflow, instant: Instant) -> None:
    state = draft.registered
    assert state.live is not None
    assert document.schedule is not None
    try:
        parameters = fill(document.parameters, {})
    except InvalidInput as invalid:
        # Checked when the document was registered, by rules that may have been others then. One instant must not hold up the rest.
        draft.emit(InstantSkipped(scheduled_at=instant.at, reason=_short(f"no parameters to run with: {invalid}")))
        return
    start, end = schedule.interval_of(document.schedule, instant.at)
    rule = document.schedule
    spacing = turn_spacing(rule)
    begin = begins_at(rule, state.name, instant.at, draft.now)
    request = RunRequested(
        run=scheduled_run(state.name, instant.at),
        workflow=state.name,
        document=state.live.document,
        document_version=state.live.number,
        parameters=parameters,
        trigger="schedule",
        scheduled_at=instant.at,
        interval_start=start,
        interval_end=end,
        previous_success_at=state.previous_success_at,
        start_after=begin if begin > draft.now else None,
        admitted=True,
    )
    if state.knows(request.run):
        # The same instant under a schedule that was there before: it is a run already.
        return
    if text_bytes(request) > PAYLOAD_BYTES_MAX:
        reason = f"the parameters' defaults take more than {PAYLOAD_BYTES_MAX:,} bytes"
        draft.emit(InstantSkipped(scheduled_at=instant.at, reason=reason))
        return
    limit = limit_of(document)
    if limit is None or len(state.holders) < limit:
        _admit_or_wait(draft, request, limit, spacing)
        return
    match document.overlap:
        case "skip":
            draft.emit(
                InstantSkipped(
                    scheduled_at=instant.at, reason=f"overlap is skip and {_named(state.holders)} is still active"
                )
            )
        case "cancel_running":
            staying = [run for run, holder in state.holders.items() if holder.displaced_by is None]
            staying.sort(key=lambda run: (state.holders[run].admitted_at, run))
            displaced = tuple(staying[: max(len(staying) - limit + 1, 0)])
            draft.emit(RunAdmitted(run=request.run, request=request, displaces=displaced))
        case "allow" | "queue":
            _hold(draft, request, limit)


def limit_of(document: Workflow) -> int | None:
    """How many runs of the workflow may be active; None for any number."""
    if document.max_active_runs is not None:
        return document.max_active_runs
    return None if document.overlap == "allow" else 1


def _admit_or_wait(
    draft: WorkflowDraft, request: RunRequested, limit: int | None, spacing: timedelta | None = None
) -> None:
    state = draft.registered
    ahead = [one for one in state.waiting if spacing is not None or not state.before_its_turn(one.request, draft.now)]
    if ahead and (limit is not None or spacing is not None):
        # Whoever waited longer goes first; but who waits for a turn of the schedule keeps nobody from what is asked for.
        _hold(draft, request, limit)
    elif spacing is not None and state.before_its_turn(request, draft.now):
        _hold(draft, request, None)
    else:
        draft.emit(_admitted(draft, request, spacing))


def _admitted(draft: WorkflowDraft, request: RunRequested, spacing: timedelta | None) -> RunAdmitted:
    """Let in, and to begin at its turn where scheduled runs begin one by one."""
    if spacing is None or request.trigger != "schedule":
        return RunAdmitted(run=request.run, request=request)
    turn = max(draft.registered.next_start_at or draft.now, draft.now)
    if turn > (request.start_after or draft.now):
        request = request.model_copy(update={"start_after": turn})
    return RunAdmitted(run=request.run, request=request, next_start_at=turn + spacing)


def _hold(draft: WorkflowDraft, request: RunRequested, limit: int | None) -> None:
    """`limit` None: what holds it is the pause, or that its turn has not come."""
    state = draft.registered
    if len(state.held) >= HELD_MAX:
        reason = f"{HELD_MAX} runs are waiting already"
        if request.trigger == "event":
            draft.emit(missed(request, reason))
            return
        if request.scheduled_at is None:
            raise Rejected(reason)
        draft.emit(InstantSkipped(scheduled_at=request.scheduled_at, reason=reason))
        return
    if limit is not None and len(state.holders) >= limit:
        reason = f"{limit} active at once: {_named(state.holders)}"
    elif request.trigger == "schedule" and state.next_start_at is not None:
        reason = "starts_per_minute: it waits for its turn"
    elif limit is None:
        reason = "the workflow is paused"
    else:
        reason = "others have waited longer"
    draft.emit(RunHeld(run=request.run, request=request, reason=reason))


def _admit_on_request(draft: WorkflowDraft, request: RunRequested) -> None:
    state = draft.registered
    if state.knows(request.run):
        return
    check_request(request)
    if state.live is None:
        raise Rejected(f"{state.name} is not registered any more")
    document = draft.document()
    if request.trigger == "event" and (kept_out := is_kept_out(state, document, request)) is not None:
        if isinstance(kept_out, TriggerMissed):
            draft.emit(kept_out)
        elif kept_out == "until the pause ends":
            _hold(draft, request, None)
        return
    limit = document.max_active_runs or (1 if document.overlap == "queue" else None)
    if limit is None or len(state.holders) < limit:
        _admit_or_wait(draft, request, limit)
    else:
        _hold(draft, request, limit)


def _let_in(draft: WorkflowDraft) -> None:
    """Admit those who wait while there is room; after the end of the workflow, tell them that they wait in vain."""
    state = draft.registered
    rule = draft.document().schedule if state.live is not None else None
    spacing = turn_spacing(rule) if rule is not None else None
    for held in state.held if state.live is None else state.waiting:
        state = draft.registered
        event: Event
        if state.live is None:
            event = HeldRunDropped(run=held.run, reason="the workflow was unregistered", parent=held.request.parent)
        else:
            limit = limit_of(draft.document())
            if limit is not None and len(state.holders) >= limit:
                return
            if spacing is not None and state.before_its_turn(held.request, draft.now):
                # Behind it may stand one that somebody asked for.
                continue
            # What succeeded while it waited counts, and a beginning that has passed meanwhile does not.
            start = held.request.start_after
            request = held.request.model_copy(
                update={
                    "previous_success_at": state.previous_success_at,
                    "start_after": start if start is not None and start > draft.now else None,
                }
            )
            event = _admitted(draft, request, spacing)
        if draft.events and not draft.room_for(event):
            draft.truncated = True
            return
        draft.emit(event)


def _named(runs: Iterable[RunId], most: int = 3) -> str:
    names = sorted(runs)
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _short(text: str) -> str:
    return shortened(text, TEXT_MAX)
