"""What answers of AWS prove about a request, and how far around its time it is looked for: the same for every executor on AWS."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws import failure_of
from shared.executors.search import LOOK_BACK, SKEW, asked_between
from shared.ids import JobName, RunId, attempt_token
from shared.ports import Reference

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN, JOB = RunId("nightly@1"), JobName("load")


def answered(code: str, status: int, retries: int = 0) -> ClientError:
    facts: Any = {
        "Error": {"Code": code, "Message": "said the test"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": retries},
    }
    return ClientError(facts, "RunJobFlow")


@pytest.mark.parametrize(
    ("error", "once", "proves"),
    [
        (answered("ValidationException", 400), True, TargetRefused),
        (answered("AccessDeniedException", 403), True, TargetRefused),
        (answered("ThrottlingException", 400), True, TargetUnavailable),
        (answered("ExpiredTokenException", 400), True, TargetUnavailable),
        # Whatever they call it: a server that failed may have done it before (faults 2 and 17).
        (answered("InternalServerError", 500), True, TargetSilent),
        (answered("ServiceUnavailable", 503), True, TargetSilent),
        (answered("Bad Gateway", 502), True, TargetSilent),
        (ReadTimeoutError(endpoint_url="https://emr"), True, TargetSilent),
        (ConnectTimeoutError(endpoint_url="https://emr"), True, TargetUnavailable),
        # What the SDK sent before may have been heard.
        (ConnectTimeoutError(endpoint_url="https://emr"), False, TargetSilent),
        (answered("ValidationException", 400, retries=1), False, TargetSilent),
    ],
)
def test_only_a_clear_answer_proves_that_nothing_was_taken(error: Exception, once: bool, proves: type[Any]) -> None:
    assert type(failure_of(error, "start it", once=once)) is proves


def test_work_is_looked_for_as_far_around_its_request_as_clocks_may_differ() -> None:
    """I1, fault 59: with a target whose clock is behind, it seems older than the request for it."""
    asked = Reference(attempt_token(RUN, JOB, 1), RUN, JOB, 1, None, (), None, NOON, NOON + timedelta(minutes=1))
    later = NOON + timedelta(hours=1)
    assert asked_between(asked, later) == (NOON - SKEW, NOON + timedelta(minutes=1) + SKEW)
    assert asked_between(asked, NOON + timedelta(minutes=2)) == (NOON - SKEW, None)
    unknown = Reference(attempt_token(RUN, JOB, 1), RUN, JOB, 1, None)
    assert asked_between(unknown, later) == (later - LOOK_BACK, None)
