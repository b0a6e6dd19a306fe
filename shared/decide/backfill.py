"""The rules of a backfill: which instants of a schedule are run, in which order and how many at once, each of them once.

**One instant never runs twice at once.** The first run of an instant is the schedule's own, `<workflow>@<instant>`, whoever asks for it; to run it
again is to ask for the next number, `<workflow>@<instant>.2`, and only when the run before it has ended. So two who want the same instant
at the same time, two backfills or a backfill and the schedule, ask for the same run, and only one of them gets it: the other is told that it was
taken. No lock is needed, and none can be lost.

What became of an instant so far stands in other streams. Whoever sends `AdvanceBackfill` has read them and says what he saw; one look can be old
by the time it is decided on, and then the numbers see to it that nothing runs twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, assert_never

from shared import schedule
from shared.decide.commands import (
    AdvanceBackfill,
    BackfillCommand,
    CancelBackfill,
    Look,
    PauseBackfill,
    RecordRunEnd,
    RequestBackfill,
    ResumeBackfill,
)
from shared.decide.run import SLICE_BYTES, check_request, text_bytes
from shared.errors import InvalidInput, NotFound, Problem, Rejected
from shared.events import (
    BackfillCancelled,
    BackfillFinished,
    BackfillInstantsSkipped,
    BackfillPaused,
    BackfillRequested,
    BackfillResumed,
    BackfillRunAdmitted,
    BackfillRunEnded,
    Event,
)
from shared.ids import instant_run
from shared.schedule import Instant
from shared.secrecy import shortened
from shared.state.backfill import BackfillState, NoBackfill, evolve_backfill, request_of
from shared.state.run import Plans
from shared.workflow.nearest import shown
from shared.workflow.timing import Schedule

INSTANTS_MAX = 10_000
"""Instants that one backfill may have: a year of hours, or a day every eight seconds. Whoever has more asks for it in parts."""
ACTIVE_MAX = 100
"""Runs of one backfill that may be active at once."""
INSTANTS_SLICE = 50
"""Instants that one decision comes to; each takes a look at another stream."""
REASON_MAX = 1_000
"""Characters of a reason that go into an event."""
_MOMENT = timedelta(microseconds=1)
_YEARS = (1970, 9000)


class BackfillDraft:
    """Events decided so far and the state they lead to, as `RunDraft` is for a run."""

    def __init__(self, state: NoBackfill | BackfillState, plans: Plans, now: datetime) -> None:
        self.state = state
        self.plans = plans
        self.now = max(now, state.at) if isinstance(state, BackfillState) else now
        self.events: list[Event] = []
        self.bytes = 0
        self.truncated = False

    def emit(self, event: Event) -> None:
        self.state = evolve_backfill(self.state, event, self.now)
        self.events.append(event)
        self.bytes += text_bytes(event)

    @property
    def room(self) -> bool:
        return self.bytes < SLICE_BYTES

    @property
    def requested(self) -> BackfillState:
        assert isinstance(self.state, BackfillState)
        return self.state

    def freeze(self) -> NoBackfill | BackfillState:
        return self.state


def decide_backfill(
    state: NoBackfill | BackfillState, command: BackfillCommand, *, now: datetime, plans: Plans
) -> list[Event]:
    """What happens because of `command`. Raises `Rejected` (or `NotFound`) with the reason when it is not allowed."""
    draft = BackfillDraft(state, plans, now)
    decide_backfill_on(draft, command)
    return draft.events


def decide_backfill_on(draft: BackfillDraft, command: BackfillCommand) -> None:
    if isinstance(command, RequestBackfill):
        _request(draft, command)
        return
    if not isinstance(draft.state, BackfillState):
        raise NotFound("there is no such backfill")
    state = draft.state
    match command:
        case AdvanceBackfill():
            _advance(draft, command)
        case RecordRunEnd():
            admitted = state.active.get(command.run)
            if admitted is not None:
                at = admitted.event.scheduled_at
                draft.emit(BackfillRunEnded(run=command.run, scheduled_at=at, outcome=command.outcome))
                _finish_if_over(draft)
        case PauseBackfill():
            _must_go_on(state, "paused")
            if state.pause is None:
                draft.emit(BackfillPaused(by=command.by, reason=_short(command.reason)))
        case ResumeBackfill():
            _must_go_on(state, "resumed")
            if state.pause is not None:
                draft.emit(BackfillResumed(by=command.by))
        case CancelBackfill():
            if state.cancel is None:
                _must_go_on(state, "cancelled")
                draft.emit(BackfillCancelled(by=command.by, reason=_short(command.reason)))
                _finish_if_over(draft)
        case _:
            assert_never(command)


def _must_go_on(state: BackfillState, what: str) -> None:
    if state.outcome is not None:
        raise Rejected(f"it has finished already ({state.outcome}), so it cannot be {what}")
    if state.cancel is not None:
        raise Rejected(f"it was cancelled by {state.cancel.by}, so it cannot be {what}")


# --- the request ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Range:
    """The instants that a request means."""

    since: datetime
    """Included."""
    until: datetime
    """Not included."""
    count: int
    first: Instant
    last: Instant


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a backfill would do."""

    range: Range
    looked: int
    """Instants whose runs were looked at: the first ones in its order, so many and no more."""
    to_run: int
    """Of those."""
    runs: Mapping[str, int]
    """Of those, by what became of them: `none`, `active`, `succeeded`, `failed`, `cancelled`, `unreadable`, `excluded`."""
    odd: tuple[Instant, ...]
    """The first ones to which a change of the clocks did something."""
    odd_count: int


def moment_in(text: str, rule: Schedule | None, place: str) -> datetime:
    """An end of a range as people write it: an instant with its zone, or a day or wall time of the schedule's zone. `InvalidInput`."""
    try:
        # Python takes `2026` and `20260101` for days as well; people mean other things by them.
        at = datetime.fromisoformat(text) if text[4:5] == "-" else None
        if at is not None and at.utcoffset() is None:
            at = at.replace(tzinfo=rule.zone if rule is not None else UTC)
        if at is not None and _YEARS[0] <= at.year <= _YEARS[1]:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    hint = "write a day, 2026-01-31, or an instant with its zone, 2026-01-31T02:30:00Z"
    raise InvalidInput([Problem(place, f"{shown(text)} is neither a day nor an instant", hint)])


def range_of(rule: Schedule | None, since: datetime, until: datetime, now: datetime, *, max_active: int = 1) -> Range:
    """What a request for these instants means now: those that are still to come belong to the schedule. `InvalidInput` with every problem."""
    problems: list[Problem] = []
    if not 1 <= max_active <= ACTIVE_MAX:
        problems.append(Problem("max_active", f"is {max_active}", f"between 1 and {ACTIVE_MAX} runs at once"))
    if rule is None:
        hint = "a backfill runs the instants of a schedule; `runfold run` asks for one run"
        problems.append(Problem("workflow", "has no schedule", hint))
    cut = min(until, now)
    if until <= since:
        problems.append(Problem("until", "is not after `from`", "it names the first moment that is not meant any more"))
    elif cut <= since:
        hint = "a backfill runs instants that have passed; those to come are the schedule's"
        problems.append(Problem("from", "is not in the past", hint))
    if problems:
        raise InvalidInput(problems)
    assert rule is not None
    after, last_moment = since - _MOMENT, cut - _MOMENT
    count = schedule.count_between(rule, after, last_moment, INSTANTS_MAX + 1)
    if count == 0:
        raise InvalidInput([Problem("from", "has no instant of the schedule before `until`", "look at `runfold plan`")])
    if count > INSTANTS_MAX:
        hint = "ask for it in parts, one after the other"
        raise InvalidInput([Problem("until", f"leaves more than {INSTANTS_MAX:,} instants", hint)])
    first, last = schedule.due(rule, after, last_moment, limit=1), schedule.latest(rule, after, last_moment, 1)
    return Range(since, cut, count, first[0], last[0])


def asked_range(rule: Schedule | None, since: str, until: str, now: datetime, *, max_active: int = 1) -> Range:
    """`range_of` what people wrote. `InvalidInput` with every problem."""
    problems: list[Problem] = []
    moments: list[datetime] = []
    for place, text in (("from", since), ("until", until)):
        try:
            moments.append(moment_in(text, rule, place))
        except InvalidInput as invalid:
            problems += invalid.problems
    if problems:
        raise InvalidInput(problems)
    return range_of(rule, moments[0], moments[1], now, max_active=max_active)


def _request(draft: BackfillDraft, command: RequestBackfill) -> None:
    if isinstance(draft.state, BackfillState):
        return
    try:
        meant = range_of(
            draft.plans(command.document).workflow.schedule,
            command.range_from,
            command.range_until,
            draft.now,
            max_active=command.max_active,
        )
    except InvalidInput as invalid:
        raise Rejected(f"the backfill cannot be: {invalid}") from invalid
    previous = command.previous_success_at
    requested = BackfillRequested(
        backfill=command.backfill,
        workflow=command.workflow,
        document=command.document,
        document_version=command.document_version,
        range_from=meant.since,
        range_until=meant.until,
        count=meant.count,
        order=command.order,
        which=command.which,
        max_active=command.max_active,
        parameters=dict(command.parameters),
        # Later than what it comes to first would be told of an instant as its past.
        previous_success_at=previous if previous is not None and previous < meant.first.at else None,
        by=command.by,
        reason=_short(command.reason),
    )
    draft.emit(requested)
    # Every run must be able to hold what it is asked for with.
    check_request(request_of(draft.requested, _admitted(draft, meant.first.at, 1)))


# --- going on ---------------------------------------------------------------------------------------------------------


def coming(state: BackfillState, plans: Plans, limit: int) -> list[Instant]:
    """The next instants in the backfill's order, whether or not it may come to them now. Costs what it answers."""
    rule = plans(state.request.document).workflow.schedule
    assert rule is not None
    after, until = state.request.range_from - _MOMENT, state.request.range_until - _MOMENT
    if state.request.order == "oldest":
        return schedule.due(rule, max(after, state.last or after), until, limit=limit)
    before = min(until, state.last - _MOMENT) if state.last is not None else until
    return list(reversed(schedule.latest(rule, after, before, limit)))


def instants_of(rule: Schedule, meant: Range) -> list[Instant]:
    """All of them, oldest first."""
    return schedule.due(rule, meant.since - _MOMENT, meant.until - _MOMENT, limit=INSTANTS_MAX)


def _advance(draft: BackfillDraft, command: AdvanceBackfill) -> None:
    state = draft.requested
    if not state.goes_on:
        return
    following = coming(state, draft.plans, INSTANTS_SLICE + 1)
    skipped: list[datetime] = []
    why = ""

    def tell_skipped() -> None:
        if skipped:
            draft.emit(BackfillInstantsSkipped(instants=tuple(skipped), reason=why))
            skipped.clear()

    for instant in islice(following, INSTANTS_SLICE):
        look = command.looks.get(instant.at)
        if look is None or not draft.requested.goes_on or not draft.room:
            break
        reason = needs_none(state.request.which, look)
        if reason and reason != why:
            tell_skipped()
        if reason:
            why = reason
            skipped.append(instant.at)
        else:
            tell_skipped()
            draft.emit(_admitted(draft, instant.at, look.number + 1))
    tell_skipped()
    _finish_if_over(draft)
    draft.truncated = bool(draft.events) and draft.requested.goes_on


def needs_none(which: Literal["all", "missing", "failed"], look: Look) -> str:
    """Why an instant needs no run; empty when it does."""
    match look.status:
        case "none":
            return "it has no run, and those that failed are meant" if which == "failed" else ""
        case "active":
            return "its run is active"
        case "unreadable":
            return "the history of its run cannot be read"
        case "excluded":
            return look.reason
        case "succeeded":
            return "" if which == "all" else "its run succeeded"
        case "failed" | "cancelled":
            return "its run is there" if which == "missing" else ""


def _admitted(draft: BackfillDraft, at: datetime, number: int) -> BackfillRunAdmitted:
    state = draft.requested
    rule = draft.plans(state.request.document).workflow.schedule
    assert rule is not None
    start, end = schedule.interval_of(rule, at)
    previous = state.previous_success_at
    return BackfillRunAdmitted(
        run=instant_run(state.request.workflow, at, number),
        scheduled_at=at,
        interval_start=start,
        interval_end=end,
        previous_success_at=previous if previous is not None and previous < at else None,
    )


def _finish_if_over(draft: BackfillDraft) -> None:
    state = draft.requested
    if state.outcome is not None or state.active:
        return
    if state.cancel is None and coming(state, draft.plans, 1):
        return
    bad = state.failed or state.cancelled
    draft.emit(
        BackfillFinished(
            outcome="cancelled" if state.cancel is not None else "failed" if bad else "succeeded",
            succeeded=state.succeeded,
            failed=state.failed,
            cancelled=state.cancelled,
            skipped=state.skipped,
            left=max(state.request.count - state.settled, 0) if state.cancel is not None else 0,
        )
    )


def _short(text: str) -> str:
    return shortened(text, REASON_MAX)
