"""What EMR says of steps while they are being cancelled, and while their cluster ends; and until when a request may be sent."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import TargetUnavailable
from shared.executors.aws import ANSWER_SECONDS
from shared.executors.emr import EmrExecutor
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Reference, Request

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN, JOB = RunId("nightly@1"), JobName("load")
TOKEN = attempt_token(RUN, JOB, 1)
STEPS = Reference(TOKEN, RUN, JOB, 1, Handle("j-1/s-1"))


class Emr:
    """Answers about one step, one answer after the other, the last one for ever, and takes whatever is asked."""

    meta = SimpleNamespace(config=SimpleNamespace(retries={"total_max_attempts": 1}))

    def __init__(self, *states: str, cluster: str = "WAITING") -> None:
        self.states = list(states)
        self.cluster = cluster
        self.taken: list[dict[str, Any]] = []

    def list_steps(self, **_: Any) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {
            "Steps": [{"Id": "s-1", "Name": "load", "Status": {"State": state, "Timeline": {"StartDateTime": NOON}}}]
        }

    def describe_cluster(self, **_: Any) -> dict[str, Any]:
        return {"Cluster": {"Name": "shared", "Status": {"State": self.cluster}}}

    def add_job_flow_steps(self, **asked: Any) -> dict[str, Any]:
        self.taken.append(asked)
        return {"StepIds": ["s-1"]}


def executor_on(client: Emr) -> EmrExecutor:
    return EmrExecutor(client, None, now=lambda: NOON)  # type: ignore[arg-type]


def test_a_step_that_is_being_cancelled_has_not_ended() -> None:
    """Fault 20: it may still succeed."""
    executor = executor_on(Emr("CANCEL_PENDING", "COMPLETED"))
    assert [report.status for report in executor.observe([STEPS])] == ["running"]
    assert [report.status for report in executor.observe([STEPS])] == ["succeeded"]


def test_a_step_that_ended_while_its_cluster_did_is_looked_at_again() -> None:
    """Fault 18, and not: it was running when it was listed, and both had ended when the cluster was looked at."""
    executor = executor_on(Emr("RUNNING", "COMPLETED", cluster="TERMINATED"))
    assert [report.status for report in executor.observe([STEPS])] == ["succeeded"]
    executor = executor_on(Emr("PENDING", cluster="TERMINATED_WITH_ERRORS"))
    assert [report.status for report in executor.observe([STEPS])] == ["failed"]


@pytest.mark.parametrize(("left", "sent"), [(ANSWER_SECONDS - 1, 0), (ANSWER_SECONDS + 1, 1)])
def test_nothing_is_sent_whose_answer_could_come_after_others_may_look(left: int, sent: int) -> None:
    """I1: bringing inputs took its time."""
    client = Emr("PENDING")
    step = {"Name": "load", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}
    body = {"type": "emr", "cluster_id": "j-1", "steps": [step]}
    request = Request(TOKEN, RUN, JOB, 1, body, send_before=NOON + timedelta(seconds=left))
    if sent:
        assert executor_on(client).start(request) == "j-1/s-1"
    else:
        with pytest.raises(TargetUnavailable):
            executor_on(client).start(request)
    assert len(client.taken) == sent
