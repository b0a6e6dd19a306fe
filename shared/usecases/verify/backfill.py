"""What holds for a backfill: each instant of its range is come to once, in its order, and ends in exactly one way (I6), and no more of its runs
are active at once than it may have (I5).

Like the instants of a workflow, those of a backfill are asked of `schedule` again.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared import schedule
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
from shared.ids import RunId, StreamName, backfill_stream, instant_text
from shared.state.run import Plans
from shared.usecases.verify.violation import Found

_SECOND = timedelta(seconds=1)


@dataclass
class BackfillChecker:
    stream: StreamName
    plans: Plans
    _request: BackfillRequested | None = None
    _seen: set[datetime] = field(default_factory=set)
    _last: datetime | None = None
    _active: dict[RunId, datetime] = field(default_factory=dict)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _paused: bool = False
    _cancelled: bool = False
    _finished: bool = False

    def check(self, event: Event) -> Iterator[Found]:
        if isinstance(event, BackfillRequested):
            if self._request is not None:
                yield "I6", "it was asked for twice"
            if backfill_stream(event.backfill) != self.stream:
                yield "I8", f"the stream holds the backfill {event.backfill}"
            self._request = event
            return
        if self._request is None:
            yield "I8", f"{event.type} is the backfill's first event"
            return
        if self._finished:
            yield "I3", f"{event.type} follows its end"
        match event:
            case BackfillRunAdmitted():
                yield from self._comes_to(event.scheduled_at)
                if event.run in self._active:
                    yield "I6", f"{event.run} was begun twice"
                self._active[event.run] = event.scheduled_at
                if len(self._active) > self._request.max_active:
                    yield (
                        "I5",
                        f"{event.run} makes {len(self._active)} active runs, and {self._request.max_active} are allowed",
                    )
            case BackfillInstantsSkipped():
                for instant in event.instants:
                    yield from self._comes_to(instant)
                self._outcomes["skipped"] += len(event.instants)
            case BackfillRunEnded():
                if self._active.pop(event.run, None) != event.scheduled_at:
                    yield "I3", f"the end of {event.run} was recorded, and it was not active for that instant"
                self._outcomes["skipped" if event.outcome == "taken" else event.outcome] += 1
            case BackfillPaused():
                self._paused = True
            case BackfillResumed():
                self._paused = False
            case BackfillCancelled():
                self._cancelled = True
            case BackfillFinished():
                yield from self._ends(event)
            case _:
                yield "I8", f"{event.type} does not belong into a backfill's stream"

    def _comes_to(self, at: datetime) -> Iterator[Found]:
        request = self._request
        assert request is not None
        if self._paused or self._cancelled:
            yield "I6", f"it came to {instant_text(at)} although it was {'cancelled' if self._cancelled else 'paused'}"
        if at in self._seen:
            yield "I6", f"it came to {instant_text(at)} twice"
        elif self._last is not None and (at > self._last) != (request.order == "oldest"):
            yield "I6", f"it came to {instant_text(at)} after {instant_text(self._last)}, {request.order} first"
        rule = self.plans(request.document).workflow.schedule
        within = request.range_from <= at < request.range_until
        if not within or rule is None or not schedule.due(rule, at - _SECOND, at, limit=1):
            yield "I6", f"{instant_text(at)} is not an instant of its range"
        self._seen.add(at)
        self._last = at

    def _ends(self, event: BackfillFinished) -> Iterator[Found]:
        request = self._request
        assert request is not None
        self._finished = True
        if self._active:
            yield "I3", f"it finished while {len(self._active)} of its runs were active"
        told = {"succeeded": event.succeeded, "failed": event.failed}
        told |= {"cancelled": event.cancelled, "skipped": event.skipped}
        for outcome, count in told.items():
            if count != self._outcomes[outcome]:
                yield "I6", f"it is said that {count} instants {outcome}, and {self._outcomes[outcome]} did"
        if not self._cancelled and len(self._seen) != request.count:
            yield "I6", f"it finished after {len(self._seen)} of its {request.count} instants"
