"""When a run is late, and by when it must have ended: one list, read by the decision that says so, by the due row that must not be
later, and by the explanation that names what will happen next.

Each is decided at most once a round: the event changes the pace, and with it the list. A run that ends is looked at once more before
its end is stored, so that what was late between two looks is late all the same.
"""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from shared.events import DeadlineMissed, RunBecameLate
from shared.state.lateness import Pace
from shared.workflow.document import Workflow


class Moment(NamedTuple):
    at: datetime
    what: Literal["start", "duration", "deadline"]


def moments(pace: Pace, workflow: Workflow) -> list[Moment]:
    """What the clock will have to say of a run that has not ended, ascending; it was said already where it is missing."""
    found: list[Moment] = []
    late = workflow.late
    if late is not None and pace.late_due_at is None:
        if late.start_minutes is not None and pace.started_at is None:
            found.append(Moment(pace.since + timedelta(minutes=late.start_minutes), "start"))
        if late.expected_minutes is not None and pace.started_at is not None:
            found.append(Moment(pace.started_at + timedelta(minutes=late.expected_minutes), "duration"))
    if workflow.deadline is not None and pace.missed_due_at is None:
        found.append(Moment(pace.since + timedelta(minutes=workflow.deadline.minutes), "deadline"))
    return sorted(found)


def lateness_events(pace: Pace, workflow: Workflow, now: datetime) -> list[RunBecameLate | DeadlineMissed]:
    """What the clock says by now and nobody has recorded."""
    if workflow.late is None and workflow.deadline is None:
        return []
    found: list[RunBecameLate | DeadlineMissed] = []
    for at, what in moments(pace, workflow):
        if at > now:
            continue
        if what == "deadline":
            found.append(DeadlineMissed(due_at=at))
        else:
            found.append(RunBecameLate(cause=what, due_at=at))
    return found
