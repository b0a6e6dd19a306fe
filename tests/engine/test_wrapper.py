"""The wrapper that runs a job at most once on a host and leaves its exit code, under every shell that is here."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.executors.process import WRAPPER, Step, wrapper_argv
from shared.executors.process.evidence import end_of

WAIT_SECONDS_MAX = 10.0
SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


@pytest.mark.parametrize("name", ["dash", "bash", "busybox"])
def test_every_shell_that_hosts_have_is_tried(name: str) -> None:
    if name not in SHELLS:
        reason = f"needs the shell {name}: install the package {name}"
        # Where it counts, nothing is left out unnoticed.
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)


def shell_words(name: str) -> list[str]:
    return [name, "sh"] if name == "busybox" else [name]


@pytest.fixture(params=SHELLS)
def wrapper(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """The words that run the wrapper under one shell, with `tmp_path/guard` as its guard."""

    def words(*rest: str) -> list[str]:
        return [*shell_words(request.param), WRAPPER, "-g", str(tmp_path / "guard"), *rest]

    return words


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False)


@pytest.mark.parametrize("code", [0, 1, 3, 126, 137, 255])
def test_the_exit_code_is_recorded_and_answered(wrapper: Callable[..., list[str]], tmp_path: Path, code: int) -> None:
    answer = run(wrapper("--", "/bin/sh", "-c", f"exit {code}"))
    assert answer.returncode == code
    assert (tmp_path / "guard/exit").read_text() == f"{code}\n"
    assert answer.stdout == f"runfold: exit {code}\n"


def test_194_is_recorded_but_never_reaches_the_agent_that_would_reboot_the_host(
    wrapper: Callable[..., list[str]], tmp_path: Path
) -> None:  # fault 25
    assert run(wrapper("--", "/bin/sh", "-c", "exit 194")).returncode == 1
    assert (tmp_path / "guard/exit").read_text() == "194\n"


def test_on_a_full_disk_nothing_begins_and_the_code_says_why(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "job").symlink_to("/dev/full")
    assert run(wrapper("--", "/bin/sh", "-c", f"echo begun >{tmp_path}/proof")).returncode == 73
    assert (guard / "exit").read_text() == f"73 no file can be written in {guard}\n"
    assert not (tmp_path / "proof").exists()


def test_a_second_delivery_runs_nothing_and_answers_with_the_first_result(
    wrapper: Callable[..., list[str]], tmp_path: Path
) -> None:  # fault 24
    words = wrapper("--", "/bin/sh", "-c", f"echo once >>{tmp_path}/proof; exit 7")
    assert run(words).returncode == 7
    again = run(words)
    assert (again.returncode, again.stdout) == (7, "runfold: exit 7\n")
    assert (tmp_path / "proof").read_text() == "once\n"


def test_a_second_delivery_while_the_first_runs_says_so_or_waits_when_asked_to(
    wrapper: Callable[..., list[str]], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    job = ["/bin/sh", "-c", f"read line <{tmp_path}/gate; exit 5"]
    with subprocess.Popen(wrapper("--", *job), stdout=subprocess.DEVNULL) as first:
        until((tmp_path / "guard/job").exists)
        answer = run(wrapper("--", *job))
        assert (answer.returncode, answer.stdout) == (75, "runfold: running\n")
        with subprocess.Popen(wrapper("-w", "--", *job), stdout=subprocess.DEVNULL) as waiting:
            (tmp_path / "gate").write_text("go\n")
            assert waiting.wait(WAIT_SECONDS_MAX) == 5
        assert first.wait(WAIT_SECONDS_MAX) == 5


def test_a_second_delivery_after_the_first_was_killed_does_not_guess(
    wrapper: Callable[..., list[str]], tmp_path: Path
) -> None:
    with subprocess.Popen(wrapper("--", "sleep", "30"), start_new_session=True) as first:
        until((tmp_path / "guard/job").exists)
        os.killpg(first.pid, signal.SIGKILL)
    answer = run(wrapper("--", "true"))
    assert (answer.returncode, answer.stdout) == (70, "runfold: unknown\n")


def test_of_ten_deliveries_at_once_one_runs(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:
    words = wrapper("--", "/bin/sh", "-c", f"echo once >>{tmp_path}/proof")
    rivals = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(10)]
    assert {rival.wait(WAIT_SECONDS_MAX) for rival in rivals} <= {0, 75}
    assert (tmp_path / "proof").read_text() == "once\n"


def test_the_wrapper_outlives_a_signal_to_its_group_and_records_what_it_did_to_the_job(
    wrapper: Callable[..., list[str]], tmp_path: Path
) -> None:
    words = wrapper("--", "/bin/sh", "-c", f"echo ready >{tmp_path}/ready; exec sleep 30")
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        until((tmp_path / "ready").exists)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(WAIT_SECONDS_MAX) == 143
    assert (tmp_path / "guard/exit").read_text() == "143\n"
    assert (tmp_path / "guard/err").read_text() == ""


def test_work_stopped_before_it_began_never_begins(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard/stop").write_text("0\n")
    assert run(wrapper("--", "touch", str(tmp_path / "proof"))).returncode == 143
    assert not (tmp_path / "proof").exists()


HOSTILE = [
    "a b",
    "",
    '"',
    "'",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "x\ny\n",
    "-n",
    "--",
    "*",
    "\\",
    "ü",
    "$HOME",
]


def test_arguments_arrive_as_they_were_given(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:  # fault 53
    show = "import sys; sys.stdout.write(repr(sys.argv[1:]))"
    assert run(wrapper("--", sys.executable, "-c", show, *HOSTILE)).returncode == 0
    assert (tmp_path / "guard/out").read_text() == repr(HOSTILE)
    assert not list(tmp_path.rglob("pwned"))


def test_arguments_of_steps_arrive_as_they_were_given(tmp_path: Path) -> None:  # fault 53
    show = (sys.executable, "-c", "import sys; print(repr(sys.argv[1:]))", *HOSTILE)
    steps = [Step(show, "step 1/2 $(touch pwned) \\n"), Step(show, "step 2/2 -n")]
    for shell in SHELLS:
        guard = tmp_path / shell
        words = wrapper_argv(steps, str(guard))
        assert run([*shell_words(shell), *words[1:]]).returncode == 0
        lines = (guard / "out").read_text().splitlines()
        assert lines == ["step 1/2 $(touch pwned) \\n", repr(HOSTILE), "step 2/2 -n", repr(HOSTILE)]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(("action", "ran"), [("CANCEL_AND_WAIT", "one "), ("CONTINUE", "one two ")])
def test_a_failing_step_decides_the_result_and_only_continue_lets_the_rest_run(
    tmp_path: Path, action: str, ran: str
) -> None:
    def step(word: str, code: int) -> Step:
        return Step(("/bin/sh", "-c", f"printf '{word} '; exit {code}"), action=action)

    for shell in SHELLS:
        guard = tmp_path / shell
        words = wrapper_argv([step("one", 4), step("two", 0)], str(guard))
        assert run([*shell_words(shell), *words[1:]]).returncode == 4
        assert (guard / "out").read_text() == ran


def test_the_job_sees_its_directory_no_terminal_and_none_of_the_wrappers_variables(
    wrapper: Callable[..., list[str]], tmp_path: Path
) -> None:
    show = "cat; pwd; env | grep -c ^rf_"
    run(wrapper("-d", str(tmp_path), "--", "/bin/sh", "-c", show))
    assert (tmp_path / "guard/out").read_text() == f"{tmp_path}\n0\n"


def test_a_directory_that_cannot_be_entered_is_named(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:
    assert run(wrapper("-d", "/nowhere at all", "--", "true")).returncode == 126
    end = end_of(str(tmp_path / "guard"))
    assert end is not None
    assert end.why == "the working directory /nowhere at all cannot be entered"


def test_output_is_kept_where_the_host_wants_it_as_well(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:
    assert run(wrapper("-l", str(tmp_path / "copy"), "--", "/bin/sh", "-c", "echo o; echo e >&2")).returncode == 0
    assert ((tmp_path / "copy.out").read_text(), (tmp_path / "copy.err").read_text()) == ("o\n", "e\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else without being asked")
def test_the_job_runs_as_the_user_it_names(wrapper: Callable[..., list[str]], tmp_path: Path) -> None:
    assert (
        run(wrapper("-d", "/", "-u", "nobody", "--", "/bin/sh", "-c", 'id -un; echo "$1"', "sh", "-x $(id)")).returncode
        == 0
    )
    assert (tmp_path / "guard/out").read_text() == "nobody\n-x $(id)\n"


def test_half_an_exit_code_is_none(tmp_path: Path) -> None:
    (tmp_path / "exit").write_text("1")
    assert end_of(str(tmp_path)) is None
    (tmp_path / "exit").write_text("13\n")
    assert end_of(str(tmp_path)) is not None
