"""Jobs that are a person's decision: who may decide, until when, and what follows. The rules of the run itself stand in `run.py`.

What it promises: nobody who is not named by the document decides, whatever else they may do to the run.
"""

from datetime import datetime, timedelta

from shared.decide.access import RANK, Role
from shared.workflow.document import ApprovalJob

ROLE_PREFIX = "role:"
ANYBODY: Role = "operator"
"""Who decides where the document names nobody: whoever may cancel the run, or do it again."""


def may_decide(job: ApprovalJob, name: str, role: Role | None) -> bool:
    """Whether somebody of that name, whose greatest role on this workflow is `role`, may."""
    rank = RANK[role] if role is not None else 0
    for approver in job.by or (ROLE_PREFIX + ANYBODY,):
        needed = approver.removeprefix(ROLE_PREFIX)
        if approver.startswith(ROLE_PREFIX):
            if rank >= RANK.get(needed, max(RANK.values()) + 1):  # type: ignore[call-overload]
                return True
        elif name and name == approver:
            return True
    return False


def approvers(job: ApprovalJob) -> str:
    """Who may decide, in words: `anna, bob or anybody with the role author`."""
    named = [one for one in job.by if not one.startswith(ROLE_PREFIX)]
    roles = [one.removeprefix(ROLE_PREFIX) for one in job.by or (ROLE_PREFIX + ANYBODY,) if one.startswith(ROLE_PREFIX)]
    if roles:
        # Roles include each other, so the least one says it all.
        least = min(roles, key=lambda role: RANK.get(role, 0))  # type: ignore[call-overload]
        named.append(f"anybody with the role {least}")
    return " or ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def expires_at(job: ApprovalJob, asked_at: datetime) -> datetime | None:
    minutes = job.timeouts.run_minutes
    return None if minutes is None else asked_at + timedelta(minutes=minutes)
