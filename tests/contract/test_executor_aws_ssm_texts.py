"""The texts that hosts get, run by a shell of this machine: what the agent sees, and what a stop or a look that comes first forbids."""

import subprocess
from pathlib import Path

import pytest

from shared.executors.ssm.script import Facts, look_text, start_text, stop_text
from shared.ids import JobName, RunId, attempt_token
from shared.ports import Request

RUN, JOB = RunId("nightly@1"), JobName("load")
TOKEN = attempt_token(RUN, JOB, 1)
SECONDS_MAX = 60


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return Facts(TOKEN, RUN, JOB, 1, str(tmp_path / "guard"), False, {}, ())


def start(facts: Facts, *commands: str) -> str:
    body = {"type": "ssm", "host": "h", "commands": list(commands)}
    return start_text(Request(TOKEN, RUN, JOB, 1, body), facts, None)


def delivered(text: str) -> subprocess.CompletedProcess[str]:
    """As the agent runs it."""
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def last_words(answer: subprocess.CompletedProcess[str]) -> str:
    return [line for line in answer.stdout.splitlines() if line.startswith("runfold ")][-1]


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (3, 3), (194, 1)])
def test_the_agent_sees_the_exit_code_unless_it_would_reboot_the_host(facts: Facts, code: int, seen: int) -> None:
    """Fault 25: it takes 194 as a wish to run everything again."""
    first = delivered(start(facts, f"exit {code}"))
    assert first.returncode == seen
    assert last_words(first).split()[2:] == ["exit", str(code)]
    again = delivered(start(facts, f"exit {code}"))
    assert (again.returncode, last_words(again)) == (seen, last_words(first))


def test_a_second_delivery_runs_nothing(facts: Facts, tmp_path: Path) -> None:
    """Fault 24."""
    for _ in range(2):
        assert delivered(start(facts, f"echo ran >>{tmp_path}/runs")).returncode == 0
    assert (tmp_path / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("first", ["stop", "look"])
def test_what_was_stopped_or_found_not_to_have_begun_never_begins(facts: Facts, tmp_path: Path, first: str) -> None:
    """I1, faults 23 and 30: the delivery that comes afterwards."""
    before = delivered(stop_text(facts, 1) if first == "stop" else look_text(facts))
    assert before.returncode == 0
    if first == "look":
        assert last_words(before).endswith(" nothing")
    after = delivered(start(facts, f"touch {tmp_path}/ran"))
    assert not (tmp_path / "ran").exists()
    assert after.returncode != 0
    assert "stopped before it began" in last_words(after)
