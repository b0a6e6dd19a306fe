"""What holds for a workflow: each scheduled instant is exactly one of run, skip or miss (I6), and runs stay within their limit (I5).

What was due is asked of `schedule` again. Should the time zone database have changed since, an instant near a change of the clocks
may be reported that was right at its time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared import schedule
from shared.decide.instants import bound_of, turn_spacing
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
    TriggerRefused,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.ids import RunId, StreamName, instant_text, workflow_stream
from shared.state.run import Plans
from shared.state.workflow import TURNED_AWAY_KEPT
from shared.usecases.verify.violation import Found
from shared.workflow.days import Exclusion
from shared.workflow.document import Workflow
from shared.workflow.timing import Schedule

COUNT_MAX = 100_000
"""Beyond this many instants in one stretch, missed ones are not counted exactly, by us or by who recorded them."""
_SECOND = timedelta(seconds=1)


@dataclass
class WorkflowChecker:
    stream: StreamName
    plans: Plans
    _document: Workflow | None = None
    """The live one."""
    _versions: int = 0
    _watermark: datetime | None = None
    _restarts: bool = False
    """A schedule has become live, and the next move of the watermark says from where on it counts."""
    _last: datetime | None = None
    """The latest instant that became a run, a skip or a miss."""
    _stretch: int = 0
    """Instants dealt with since the watermark last moved."""
    _holders: set[RunId] = field(default_factory=set)
    _held: set[RunId] = field(default_factory=set)
    _next_start: datetime | None = None
    """The next turn of a scheduled run."""
    _missed: dict[RunId, None] = field(default_factory=dict)
    """Events that became no run for good, the newest."""
    _displaced: set[RunId] = field(default_factory=set)
    """Holders that were told to make way, and have not ended."""

    def check(self, event: Event, at: datetime) -> Iterator[Found]:
        if self._versions == 0 and not isinstance(event, WorkflowRegistered):
            yield "I8", f"{event.type} is the workflow's first event"
            return
        match event:
            case WorkflowRegistered():
                yield from self._registered(event, at)
            case WorkflowUnregistered():
                yield from self._nothing_left_over(at, "was unregistered")
                self._document = None
            case WatermarkMoved():
                yield from self._moved(event)
            case RunAdmitted():
                yield from self._admitted(event, at)
            case RunHeld():
                yield from self._deal_with_request(event.request, at)
                self._held.add(event.run)
            case HeldRunDropped():
                if event.run not in self._held:
                    yield "I6", f"{event.run} was dropped from the queue, and was not in it"
                self._held.discard(event.run)
            case InstantSkipped():
                yield from self._deal_with(event.scheduled_at, event.scheduled_at, 1)
            case InstantsExcluded():
                yield from self._excluded(event)
                yield from self._deal_with(event.first_at, event.last_at, event.count)
            case InstantsMissed():
                yield from self._deal_with(event.first_at, event.last_at, event.count)
            case RunReleased():
                if event.run not in self._holders:
                    yield "I3", f"{event.run} gave its place back, and had none"
                self._holders.discard(event.run)
                self._displaced.discard(event.run)
            case TriggerRefused() | TriggerMissed():
                yield from self._turned_away(event)
            case WorkflowPaused() | WorkflowResumed():
                pass
            case _:
                yield "I8", f"{event.type} does not belong into a workflow's stream"

    def _turned_away(self, event: TriggerRefused | TriggerMissed) -> Iterator[Found]:
        """Each event that a trigger waits for has one fate."""
        if event.run in self._holders or event.run in self._held:
            yield (
                "I6",
                f"{event.run} is a run, and its event was {'missed' if isinstance(event, TriggerMissed) else 'refused'}",
            )
        if event.run in self._missed:
            yield "I6", f"the event of {event.run} had been missed, and was turned away again"
        if isinstance(event, TriggerMissed):
            self._missed[event.run] = None
            # The engine remembers no more either.
            while len(self._missed) > TURNED_AWAY_KEPT:
                self._missed.pop(next(iter(self._missed)))

    def end_of_commit(self) -> Iterator[Found]:
        if self._stretch:
            yield "I6", f"{self._stretch} scheduled instants were dealt with, and the watermark did not move with them"
            self._stretch = 0

    def _registered(self, event: WorkflowRegistered, at: datetime) -> Iterator[Found]:
        if self._versions == 0 and workflow_stream(event.workflow) != self.stream:
            yield "I8", f"the stream holds the workflow {event.workflow}"
        if event.version != self._versions + 1:
            yield "I8", f"version {event.version} was registered after version {self._versions}"
        document = self.plans(event.document).workflow
        goes_on = self._document is not None and self._document.schedule == document.schedule
        if not goes_on or self._watermark is None:
            yield from self._nothing_left_over(at, "got another schedule")
            self._restarts = True
        self._versions = event.version
        self._document = document

    def _nothing_left_over(self, at: datetime, what: str) -> Iterator[Found]:
        """When a schedule ends, all its instants up to then must have been dealt with."""
        rule = self._rule()
        if rule is not None and self._watermark is not None:
            left = schedule.due(rule, self._watermark, at, limit=1)
            if left:
                yield (
                    "I6",
                    f"the workflow {what}, and {instant_text(left[0].at)} had become neither a run, a skip nor a miss",
                )

    def _rule(self) -> Schedule | None:
        return self._document.schedule if self._document is not None else None

    def _moved(self, event: WatermarkMoved) -> Iterator[Found]:
        rule = self._rule()
        if self._restarts:
            self._restarts = False
        elif self._watermark is not None and event.until < self._watermark:
            yield "I6", f"the watermark went back from {self._watermark.isoformat()} to {event.until.isoformat()}"
        elif rule is not None and self._watermark is not None:
            due = schedule.count_between(rule, self._watermark, event.until, COUNT_MAX)
            if due != self._stretch and due < COUNT_MAX:
                yield (
                    "I6",
                    f"of the {due} instants due after {instant_text(self._watermark)} and until {instant_text(event.until)}, "
                    f"{self._stretch} became a run, a skip or a miss",
                )
        self._watermark = event.until
        self._stretch = 0
        following = schedule.upcoming(rule, event.until, 1) if rule is not None else []
        right = following[0].at if following else None
        if event.next_at != right:
            shown = instant_text(right) if right is not None else "none"
            yield "I6", f"the next instant is said to be {event.next_at}, and is {shown}"

    def _deal_with_request(self, request: RunRequested, at: datetime) -> Iterator[Found]:
        if request.trigger == "schedule" and request.scheduled_at is not None:
            yield from self._deal_with(request.scheduled_at, request.scheduled_at, 1)
            yield from self._may_run(request.scheduled_at, at)

    def _may_run(self, instant: datetime, at: datetime) -> Iterator[Found]:
        """That an instant which became a run was neither too late nor excluded, as far as the document alone tells."""
        rule = self._rule()
        if rule is None:
            return
        bound = bound_of(rule)
        if bound is not None and at - instant > bound:
            yield "I6", f"{instant_text(instant)} became a run {at - instant} late, and may be {bound} late at most"
        own = self._own_days(rule)
        if own is not None and (found := own.of(instant)) is not None:
            yield "I6", f"{instant_text(instant)} became a run, and {found.reason}"

    def _own_days(self, rule: Schedule) -> Exclusion | None:
        """The days that the schedule itself excludes; what calendars said then stands in their own streams."""
        if rule.exclude is None or not rule.exclude.days:
            return None
        return Exclusion(rule.exclude.model_copy(update={"calendars": ()}), rule.timezone, {})

    def _excluded(self, event: InstantsExcluded) -> Iterator[Found]:
        rule = self._rule()
        exclude = rule.exclude if rule is not None else None
        if rule is None or exclude is None:
            yield "I6", f"{instant_text(event.first_at)} is excluded, and the schedule excludes nothing"
        elif event.calendar:
            if event.calendar not in exclude.calendars:
                yield "I6", f"{instant_text(event.first_at)} is excluded by {event.calendar}, which it does not name"
        else:
            own = self._own_days(rule)
            for instant in dict.fromkeys((event.first_at, event.last_at)):
                if own is None or (found := own.of(instant)) is None or found.day != event.day:
                    yield "I6", f"{instant_text(instant)} is excluded, and no day of the schedule is {event.day}"

    def _deal_with(self, first: datetime, last: datetime, count: int) -> Iterator[Found]:
        rule = self._rule()
        self._stretch += count
        if self._last is not None and first <= self._last:
            yield "I6", f"the instant {instant_text(first)} was dealt with twice"
        self._last = last if self._last is None else max(self._last, last)
        for instant in dict.fromkeys((first, last)):
            if rule is None or not schedule.due(rule, instant - _SECOND, instant, limit=1):
                yield "I6", f"{instant_text(instant)} is not an instant of the schedule"
            elif self._watermark is not None and instant <= self._watermark:
                yield "I6", f"{instant_text(instant)} is before the watermark, so it had been dealt with"

    def _turn(self, event: RunAdmitted, at: datetime) -> Iterator[Found]:
        """Scheduled runs begin no closer together than `starts_per_minute` allows."""
        rule = self._rule()
        spacing = turn_spacing(rule) if rule is not None else None
        if spacing is None or event.request.trigger != "schedule" or event.displaces:
            return
        if event.next_start_at is None:
            yield "I5", f"{event.run} was let in without a turn, and the schedule has them"
            return
        turn = event.next_start_at - spacing
        if self._next_start is not None and turn + _SECOND < self._next_start:
            yield "I5", f"{event.run} had its turn at {turn}, and the next one was at {self._next_start}"
        if (event.request.start_after or at) + _SECOND < turn:
            yield "I5", f"{event.run} began before its turn at {turn}"
        self._next_start = event.next_start_at

    def _admitted(self, event: RunAdmitted, at: datetime) -> Iterator[Found]:
        if event.run in self._holders:
            yield "I6", f"{event.run} was admitted twice"
        if event.run in self._missed:
            yield "I6", f"{event.run} was admitted, and its event had been missed"
        if event.run in self._held:
            self._held.discard(event.run)
        else:
            yield from self._deal_with_request(event.request, at)
        yield from self._turn(event, at)
        self._holders.add(event.run)
        limit = self._limit()
        self._displaced.update(event.displaces)
        active = len(self._holders - self._displaced)
        if limit is not None and active > limit:
            yield "I5", f"{event.run} makes {active} active runs, and {limit} are allowed"

    def _limit(self) -> int | None:
        if self._document is None:
            return None
        if self._document.max_active_runs is not None:
            return self._document.max_active_runs
        return 1 if self._document.overlap == "queue" else None
