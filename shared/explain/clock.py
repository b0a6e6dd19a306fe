"""What the clock says of a run: that it is late, that it missed its deadline, or when it will."""

from datetime import timedelta

from shared.decide.lateness import moments
from shared.explain.conditions import Condition, time_of
from shared.state.run import Run


def against_the_clock(run: Run) -> list[Condition]:
    """Of a run that has not ended. Nothing where its document says nothing."""
    found: list[Condition] = []
    pace = run.pace
    if pace.late_due_at is not None:
        why = "nothing of it had started" if pace.late_cause == "start" else "it goes on for longer than expected"
        found.append(
            Condition("late", run.run, f"It is late since {time_of(pace.late_due_at)}: {why}.", since=pace.late_due_at)
        )
    if pace.missed_due_at is not None:
        text = f"It missed its deadline, {time_of(pace.missed_due_at)}."
        found.append(Condition("deadline_missed", run.run, text, since=pace.missed_due_at))
        return found
    deadline = run.plan.workflow.deadline
    if deadline is not None and any(one.what == "deadline" for one in moments(pace, run.plan.workflow)):
        at = pace.since + timedelta(minutes=deadline.minutes)
        text = f"It has to have ended by {time_of(at)}."
        found.append(Condition("deadline", run.run, text, since=pace.since, clears_at=at))
    return found
