"""Whether a failed attempt is followed by another, and when. Each class of failure has a budget of its own in each round."""

from datetime import datetime, timedelta
from hashlib import sha256

from shared.ids import JobName, RunId, attempt_token
from shared.state.run import Attempt
from shared.workflow.document import ClassRetry, FailureClass, Retry

INFRASTRUCTURE_ATTEMPTS = 3
"""Ours: a host may die twice in a row; a third time is worth a person's look."""
CAPACITY_ATTEMPTS = 100
CAPACITY_DELAY_MAX_SECONDS = 300.0
"""Ours: with delays growing to five minutes, 100 tries ride out a shortage of about eight hours."""


def retry_at(
    retry: Retry,
    *,
    run: RunId,
    job: JobName,
    attempt: int,
    failure: FailureClass,
    earlier: tuple[Attempt, ...],
    round_number: int,
    now: datetime,
) -> datetime | None:
    """When the attempt after `attempt` may start; None if its budget is used up. `earlier` are the attempts before it."""
    budget, rule = budget_of(retry, failure)
    failed = 1 + sum(1 for one in earlier if one.round == round_number and one.failure == failure)
    if failed >= budget:
        return None
    first = rule.delay_seconds if rule.delay_seconds is not None else retry.delay_seconds
    backoff = rule.backoff if rule.backoff is not None else retry.backoff
    longest = rule.delay_max_seconds if rule.delay_max_seconds is not None else retry.delay_max_seconds
    # The exponent is bounded because a float overflows long before 1,000 doublings.
    delay = min(first * backoff ** min(failed - 1, 64), longest)
    # A hash gives a spread that is the same whenever it is computed, and different for each attempt.
    share = int.from_bytes(sha256(attempt_token(run, job, attempt).encode()).digest()[:4]) / 2**32
    return now + timedelta(seconds=min(delay * (1 + retry.jitter * (share - 0.5)), longest))


def budget_of(retry: Retry, failure: FailureClass) -> tuple[int, ClassRetry]:
    """How many attempts may fail this way in one round, and the rule for what follows them."""
    match failure:
        case "user":
            return retry.attempts, ClassRetry()
        case "timeout":
            return retry.timeout.attempts or retry.attempts, retry.timeout
        case "infrastructure":
            return retry.infrastructure.attempts or max(INFRASTRUCTURE_ATTEMPTS, retry.attempts), retry.infrastructure
        case "capacity":
            rule = retry.capacity
            if rule.delay_max_seconds is None:
                rule = rule.model_copy(update={"delay_max_seconds": CAPACITY_DELAY_MAX_SECONDS})
            return rule.attempts or CAPACITY_ATTEMPTS, rule
        case "cancelled" | "refused":
            return 1, ClassRetry()
