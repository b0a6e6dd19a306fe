"""What holds of jobs that a person decides: asked in their turn, decided by those who are named, in time, once."""

from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

from shared.events import ApprovalAsked, ApprovalExpired, JobApproved, JobRejected
from shared.usecases.verify.violation import Found
from shared.workflow.document import AnyJob, ApprovalJob, Outcome

ApprovalEvent = ApprovalAsked | JobApproved | JobRejected | ApprovalExpired
APPROVAL_EVENTS = (ApprovalAsked, JobApproved, JobRejected, ApprovalExpired)
_AFTER_TIME: dict[str, Outcome] = {"fail": "timed_out", "approve": "succeeded", "skip": "skipped"}


def check_decision(
    event: JobApproved | JobRejected | ApprovalExpired, job: AnyJob, expires_at: datetime | None, at: datetime
) -> Iterator[Found]:
    """A decision about a job that was asked for, until when."""
    name = event.job
    if not isinstance(job, ApprovalJob):
        yield "I8", f"{event.type} is about {name}, which is a job of type {job.type}"
        return
    if isinstance(event, ApprovalExpired):
        if expires_at is None or at < expires_at:
            yield "I4", f"the time to decide on {name} ended at {at.isoformat()}, before it was over"
        if event.outcome != _AFTER_TIME[job.on_timeout]:
            yield (
                "I8",
                f"nobody decided on {name} in time, and it ended as {event.outcome}: on_timeout is {job.on_timeout}",
            )
        return
    if not event.by:
        yield "I3", f"{event.type} of {name} names nobody"
    roles = not job.by or any(one.startswith("role:") for one in job.by)
    # What roles somebody had then is not recorded; where only names stand in the document, the name tells it all.
    if not roles and event.by not in job.by:
        yield "I3", f"{event.by} decided on {name}, and only {', '.join(job.by)} may"
    if expires_at is not None and at >= expires_at:
        yield "I4", f"{event.by} decided on {name} at {at.isoformat()}, after {expires_at.isoformat()}"


def outcome_of(event: JobApproved | JobRejected | ApprovalExpired) -> Outcome:
    match event:
        case JobApproved():
            return "succeeded"
        case JobRejected():
            return "failed"
        case ApprovalExpired():
            return event.outcome
        case _:
            assert_never(event)
