"""What is believed of what Systems Manager shows: whose words they are, whether all of them are there, and whether every host has spoken."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from shared.executors.ssm import SsmExecutor, SsmSettings
from shared.executors.ssm.executor import OUTPUT_SHOWN
from shared.executors.ssm.script import Facts, look_text
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Reference, Report

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN, JOB = RunId("nightly@1"), JobName("load")
TOKEN = attempt_token(RUN, JOB, 1)
SENT = Reference(TOKEN, RUN, JOB, 1, Handle("command-1"))
HOSTS = ("i-0123456789abcdef0", "i-0123456789abcdef1")


class Ssm:
    """Shows one command for so many hosts, and what some of them have answered."""

    meta = SimpleNamespace(config=SimpleNamespace(retries={"total_max_attempts": 1}))

    def __init__(self, *invocations: dict[str, Any], hosts: int = 1, whole: str = "") -> None:
        self._invocations = list(invocations)
        self._hosts = hosts
        self._whole = whole
        self.asked_whole = 0

    def list_commands(self, **_: Any) -> dict[str, Any]:
        facts = Facts(TOKEN, RUN, JOB, 1, "/var/lib/runfold/guard", self._hosts > 1, {}, ())
        ended = len(self._invocations) == self._hosts
        command = {
            "CommandId": "command-1",
            "Comment": TOKEN,
            "Status": "Success" if ended else "InProgress",
            "TargetCount": self._hosts,
            "Parameters": {"commands": [look_text(facts)]},
        }
        return {"Commands": [command]}

    def list_command_invocations(self, **_: Any) -> dict[str, Any]:
        return {"CommandInvocations": self._invocations}

    def get_command_invocation(self, **_: Any) -> dict[str, Any]:
        self.asked_whole += 1
        return {"StandardOutputContent": self._whole}


def ended(status: str, output: str, code: int, host: str = HOSTS[0]) -> dict[str, Any]:
    plugin = {"ResponseCode": code, "Output": output, "ResponseStartDateTime": NOON, "ResponseFinishDateTime": NOON}
    return {
        "CommandId": "command-1",
        "InstanceId": host,
        "Status": status,
        "StatusDetails": status,
        "RequestedDateTime": NOON,
        "CommandPlugins": [plugin],
    }


def words(*lines: str) -> str:
    return "".join(f"runfold {TOKEN} {line}\n" for line in lines)


def observed(client: Ssm) -> Report:
    executor = SsmExecutor(client, SsmSettings(), None, now=lambda: NOON)  # type: ignore[arg-type]
    (report,) = executor.observe([SENT])
    return report


def test_one_host_does_not_speak_for_those_that_have_not_appeared() -> None:
    """Fault 29: hosts found by tag come one after the other."""
    first, second = (ended("Success", words("exit 0"), 0, host) for host in HOSTS)
    assert observed(Ssm(first, hosts=2)).status == "running"
    assert observed(Ssm(first, second, hosts=2)).status == "succeeded"


def test_a_job_that_prints_our_words_and_fails_has_failed() -> None:
    report = observed(Ssm(ended("Failed", words("exit 0"), 3)))
    assert (report.status, report.exit_code, report.failure) == ("failed", 3, "user")


@pytest.mark.parametrize("length", [OUTPUT_SHOWN, OUTPUT_SHOWN + 50, OUTPUT_SHOWN + 100])
def test_of_output_that_may_have_been_cut_off_the_end_is_read_elsewhere(length: int) -> None:
    """Fault 28: the job's outputs stand at its end."""
    outputs = b64encode(json.dumps({"rows": 3}).encode()).decode()
    whole = "x" * length + "\n" + words(f"outputs {outputs}", "exit 0")
    client = Ssm(ended("Success", whole[:length], 0), whole=whole)
    assert observed(client).outputs == {"rows": 3}
    assert client.asked_whole == 1
