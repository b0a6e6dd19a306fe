"""How a run does against the clock: the part of a run's state that `deadline` and `late` are about."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.events import RunRequested


@dataclass(frozen=True, slots=True)
class Pace:
    """Of the present round of a run."""

    since: datetime
    """From when its time is counted."""
    started_at: datetime | None = None
    """When its first attempt was queued."""
    late_due_at: datetime | None = None
    """The moment after which it was late, once that is recorded."""
    late_cause: Literal["start", "duration"] | None = None
    missed_due_at: datetime | None = None
    """The deadline that it missed, once that is recorded."""


def first_pace(request: RunRequested, at: datetime) -> Pace:
    """Of a run that was requested in a commit at that moment. What fills up the past has no deadline in the past."""
    if request.scheduled_at is not None and request.trigger == "schedule":
        return Pace(request.scheduled_at)
    return Pace(at if request.start_after is None else max(at, request.start_after))
