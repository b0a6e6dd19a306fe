"""When time alone changes something about a job: one list, read by the decisions that act on it, by the due row that must not
be later, and by the explanation that names what will happen next.
"""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from shared.state.run import Asking, Backoff, Claimed, Doubted, JobState, Queued, Ready, Submitted, Wanting
from shared.workflow.document import AnyJob

What = Literal[
    "retry",
    "queue_timeout",
    "start_timeout",
    "run_timeout",
    "total_timeout",
    "flag_stop",
    "give_up_doubt",
    "approval_timeout",
]


class Deadline(NamedTuple):
    at: datetime
    what: What


def deadlines(state: JobState, job: AnyJob, round_number: int) -> list[Deadline]:
    """What time will do to this job, unordered; empty when only others can change it."""
    found: list[Deadline] = []
    phase = state.phase
    timeouts = job.timeouts
    queued_at: datetime | None = None
    match phase:
        case Backoff():
            found.append(Deadline(phase.retry_at, "retry"))
        case Asking(expires_at=expires_at):
            if expires_at is not None:
                found.append(Deadline(expires_at, "approval_timeout"))
            return found
        case Ready() | Wanting():
            _add(found, phase.since, timeouts.queue_minutes, "queue_timeout")
        case Queued() | Claimed() | Submitted() | Doubted():
            queued_at = phase.queued_at
            if isinstance(phase, Doubted) and phase.resolve_at is not None:
                found.append(Deadline(phase.resolve_at, "give_up_doubt"))
            if phase.stop is not None:
                # Whatever else would be too late, it is being ended already.
                if phase.stop.flagged_at is None:
                    found.append(Deadline(phase.stop.flag_at, "flag_stop"))
                return found
            match phase:
                case Queued(ready_at=ready_at) | Claimed(ready_at=ready_at):
                    _add(found, ready_at or queued_at, timeouts.queue_minutes, "queue_timeout")
                case Submitted(started_at=None, submitted_at=submitted_at):
                    _add(found, submitted_at, timeouts.start_minutes, "start_timeout")
                case Submitted(started_at=started_at) | Doubted(started_at=started_at):
                    _add(found, started_at, timeouts.run_minutes, "run_timeout")
        case _:
            return found
    last = total_deadline(state, job, round_number, queued_at)
    if last is not None:
        found.append(Deadline(last, "total_timeout"))
    return found


def total_deadline(state: JobState, job: AnyJob, round_number: int, queued_at: datetime | None) -> datetime | None:
    """When the job has taken too long over all attempts of this round, of which one was queued at `queued_at`."""
    if job.timeouts.total_minutes is None:
        return None
    first = first_queued_at(state, round_number, queued_at)
    return None if first is None else first + timedelta(minutes=job.timeouts.total_minutes)


def first_queued_at(state: JobState, round_number: int, current: datetime | None) -> datetime | None:
    """When the first attempt of this round was queued."""
    for attempt in state.attempts:
        if attempt.round == round_number:
            return attempt.queued_at
    return current


def _add(found: list[Deadline], since: datetime | None, minutes: float | None, what: What) -> None:
    if since is not None and minutes is not None:
        found.append(Deadline(since + timedelta(minutes=minutes), what))
