"""What an event of ECS is taken for: a report where it carries everything, and otherwise a reason to look."""

from types import SimpleNamespace
from typing import Any

import pytest

from shared.executors.ecs import EcsExecutor, EcsSettings
from shared.executors.ecs.definition import MAIN
from shared.ids import JobName, RunId, attempt_token

RUN, JOB = RunId("nightly@1"), JobName("load")
ARN = "arn:aws:ecs:eu-central-1:123456789012:task/default/0001"
VARIABLES = {"RUNFOLD_RUN": RUN, "RUNFOLD_JOB": JOB, "RUNFOLD_ATTEMPT": "1"}


class Described:
    """A client that describes one task, and counts how often it is asked."""

    meta = SimpleNamespace(config=SimpleNamespace(retries={"total_max_attempts": 1}))

    def __init__(self, task: dict[str, Any]) -> None:
        self.asked = 0
        self._task = task

    def describe_tasks(self, *, cluster: str, tasks: list[str]) -> dict[str, Any]:
        self.asked += 1
        assert (cluster, tasks) == ("default", [ARN])
        return {"tasks": [self._task], "failures": []}


def stopped(exit_code: int | None, *, token: str = attempt_token(RUN, JOB, 1), **facts: Any) -> dict[str, Any]:
    container = {"name": MAIN} | ({} if exit_code is None else {"exitCode": exit_code})
    environment = [{"name": name, "value": value} for name, value in VARIABLES.items()]
    return {
        "taskArn": ARN,
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "startedBy": token,
        "overrides": {"containerOverrides": [{"name": MAIN, "environment": environment}]},
        "containers": [container],
        "stopCode": "EssentialContainerExited",
        **facts,
    }


def executor_on(client: Described) -> EcsExecutor:
    return EcsExecutor(client, EcsSettings(subnets=("subnet-1",)), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "status"), [(0, "succeeded"), (3, "failed")])
def test_an_event_that_leaves_the_exit_code_out_is_a_reason_to_look(code: int, status: str) -> None:
    """Fault 12: a task that ended without one is in doubt, and this one did not."""
    client = Described(stopped(code))
    (report,) = executor_on(client).reports_of({"source": "aws.ecs", "detail": stopped(None)})
    assert (report.status, report.exit_code) == (status, code)
    assert client.asked == 1


def test_an_event_that_tells_everything_is_enough() -> None:
    client = Described({})
    (report,) = executor_on(client).reports_of({"source": "aws.ecs", "detail": stopped(3)})
    assert (report.status, report.exit_code, report.handle) == ("failed", 3, ARN)
    assert client.asked == 0


def test_a_task_that_only_carries_our_variables_is_not_ours() -> None:
    """Fault 33: anybody can copy them; the token is what we gave."""
    client = Described(stopped(0))
    assert executor_on(client).reports_of({"source": "aws.ecs", "detail": stopped(0, token="somebody else")}) == []
