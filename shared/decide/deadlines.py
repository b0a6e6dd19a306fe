"""When time alone changes something about a job: one list, read by the decisions that act on it, by the due row that must not
be later, and by the explanation that names what will happen next.
"""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from shared.state.run import Backoff, Claimed, Doubted, JobState, Queued, Ready, Submitted
from shared.workflow.document import EcsJob, EmrJob, SsmJob

What = Literal["retry", "queue_timeout", "start_timeout", "run_timeout", "total_timeout", "flag_stop", "give_up_doubt"]


class Deadline(NamedTuple):
    at: datetime
    what: What


def deadlines(state: JobState, job: EcsJob | EmrJob | SsmJob, round_number: int) -> list[Deadline]:
    """What time will do to this job, unordered; empty when only others can change it."""
    found: list[Deadline] = []
    phase = state.phase
    match phase:
        case Backoff():
            found.append(Deadline(phase.retry_at, "retry"))
            _total(found, state, job, round_number, None)
        case Ready():
            _add(found, phase.since, job.timeouts.queue_minutes, "queue_timeout")
            _total(found, state, job, round_number, None)
        case Queued() | Claimed() | Submitted() | Doubted():
            if phase.stop is not None:
                if phase.stop.flagged_at is None:
                    found.append(Deadline(phase.stop.flag_at, "flag_stop"))
                return found
            match phase:
                case Queued() | Claimed():
                    _add(found, phase.queued_at, job.timeouts.queue_minutes, "queue_timeout")
                case Submitted(started_at=None):
                    _add(found, phase.submitted_at, job.timeouts.start_minutes, "start_timeout")
                    _add(found, phase.submitted_at, job.timeouts.run_minutes, "run_timeout")
                case Submitted(started_at=started_at):
                    _add(found, started_at, job.timeouts.run_minutes, "run_timeout")
                case Doubted(resolve_at=resolve_at):
                    if resolve_at is not None:
                        found.append(Deadline(resolve_at, "give_up_doubt"))
                    return found
            _total(found, state, job, round_number, phase.queued_at)
        case _:
            pass
    return found


def first_queued_at(state: JobState, round_number: int, current: datetime | None) -> datetime | None:
    """When the first attempt of this round was queued."""
    for attempt in state.attempts:
        if attempt.round == round_number:
            return attempt.queued_at
    return current


def _total(
    found: list[Deadline], state: JobState, job: EcsJob | EmrJob | SsmJob, round_number: int, current: datetime | None
) -> None:
    if job.timeouts.total_minutes is not None:
        _add(found, first_queued_at(state, round_number, current), job.timeouts.total_minutes, "total_timeout")


def _add(found: list[Deadline], since: datetime | None, minutes: float | None, what: What) -> None:
    if since is not None and minutes is not None:
        found.append(Deadline(since + timedelta(minutes=minutes), what))
