"""Jobs on a host over a real SSH server: one sshd of our own on this machine, with keys that live as long as the tests.

The client is the real one as well; a few lines in front of it only tell it which host keys are known, so that nothing of the
user's own configuration is read or written.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shared.executors.process import HostSettings
from shared.executors.process.system import descendants
from shared.executors.ssh import Remote
from shared.ports import Report, Request
from tests.contract.test_executor_process import SECRET, World, is_over
from tests.engine.test_wrapper import HOSTILE

WAIT_SECONDS_MAX = 10.0
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
USER = pwd.getpwuid(os.geteuid()).pw_name

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Sshd:
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def host(self) -> HostSettings:
        return HostSettings(f"{USER}@127.0.0.1", self.port, str(self.folder / "key"))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if SSHD is None or shutil.which("ssh") is None:
        reason = "needs a real SSH server and client: install the package openssh-server"
        # Where it counts, nothing is left out unnoticed.
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("key", "host_key", "other_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "throw-away", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    if os.geteuid() == 0:
        # Its own privilege separation wants the directory that the system's start script makes.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    shutil.copy(folder / "key.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nPrintMotd no\nKexAlgorithms curve25519-sha256\nMaxStartups 100\n"
    )
    host_key = (folder / "host_key.pub").read_text().rpartition(" ")[0]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        until(lambda: b"listening" in (folder / "log").read_bytes())
        yield Sshd(folder, port, process)
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS_MAX)


@pytest.fixture
def far(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An executor that knows the host `far`."""
    path = with_known_hosts(tmp_path, sshd.folder / "known")
    monkeypatch.setenv("PATH", path)
    world = World(tmp_path / "home", hosts={"far": sshd.host()}, environment={"PATH": path})
    yield world
    for one in world.home.rglob("pid"):
        if not (one.parent / "exit").exists():
            os.killpg(int(one.read_text()), signal.SIGKILL)


def with_known_hosts(folder: Path, known: Path) -> str:
    """A PATH on which ssh knows these host keys and reads no other configuration."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "config").write_text(f"UserKnownHostsFile {known}\nGlobalKnownHostsFile /dev/null\nIdentitiesOnly yes\n")
    (folder / "bin/ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh", path=os.defpath)} -F {folder}/config "$@"\n')
    (folder / "bin/ssh").chmod(0o755)
    return f"{folder}/bin:{os.environ['PATH']}"


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (answer := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return answer


def far_request(tmp_path: Path, world: World, *commands: str, **more: Any) -> Request:
    return world.request(type="ssm", host="far", commands=commands, guard_directory=str(tmp_path / "guards"), **more)


def guard_on_host(tmp_path: Path, request: Request) -> Path:
    return tmp_path / "guards" / request.token


def begun(far: World, request: Request) -> str:
    """Its first line of output."""
    far.executor.start(request)
    return str(far.until(lambda: (far.directory(request) / "out").exists() and far.out(request)))


def attempt_of(far: World, request: Request, **changes: Any) -> Path:
    """A guard as the executor prepares it, for driving `Remote` by hand."""
    guard = far.directory(request)
    (guard / "work").mkdir(parents=True)
    host = far.settings["hosts"]["far"]
    facts = {"ssh": host.ssh, "port": host.port, "identity": host.identity, "token": request.token}
    facts |= {"guard_directory": request.body["guard_directory"], "variables": [], "outputs": []}
    facts |= {"words": ["/bin/sh", "-c", request.body["commands"][0]], **changes}
    (guard / "remote.json").write_text(json.dumps(facts))
    return guard


# --- running ------------------------------------------------------------------------------------------------------------


def test_a_job_runs_on_the_host_with_its_files_and_brings_back_what_it_made(far: World, tmp_path: Path) -> None:
    request = far_request(
        tmp_path,
        far,
        "cat in/put; echo err >&2; pwd; head -c 300000 /dev/zero",
        'echo "{\\"n\\": 1}" >"$RUNFOLD_OUTPUTS"; mkdir sub; echo made >sub/made',
        inputs=[{"path": "in/put", "content": "input\n"}],
        outputs=[{"path": "sub/made"}, {"path": "not made", "optional": True}],
    )
    report = far.run(request)
    assert (report.status, report.outputs) == ("succeeded", {"n": 1}), report
    assert (far.home / report.files["sub/made"]).read_text() == "made\n"
    assert far.out(request) == f"input\n{guard_on_host(tmp_path, request)}/work\n" + "\0" * 300_000
    assert (far.directory(request) / "err").read_text() == "err\n"


def test_hostile_arguments_arrive_as_they_are(far: World, tmp_path: Path) -> None:  # fault 53
    show = f"exec {sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \"$@\""
    hostile = [*HOSTILE, "'; touch pwned; '", "\t", "é\U0001f600", "{{ssm:x}}", "%s%n", "~", "!!"]
    request = far_request(tmp_path, far, show, args=tuple(hostile), environment={"A": "'$(touch pwned)'\n"})
    assert far.run(request).status == "succeeded"
    assert json.loads(far.out(request)) == hostile
    assert not list(tmp_path.rglob("pwned"))


def test_values_reach_the_job_but_no_command_line_and_no_file(far: World, tmp_path: Path) -> None:  # I13
    request = far_request(
        tmp_path,
        far,
        'printf %s "$SECRET-$PLAIN-$RUNFOLD_JOB-$TZ-$LEAK" | cksum; exec sleep 60',
        secrets={"SECRET": "env:TOKEN_HERE"},
        environment={"PLAIN": "$(id) 'x'"},
    )
    begun(far, request)
    text = f"{SECRET}-$(id) 'x'-load-UTC-"
    expected = subprocess.run(["cksum"], input=text.encode(), capture_output=True, check=True).stdout.decode()
    assert far.out(request) == expected
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert SECRET.encode() not in one.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    far.executor.stop(far.reference(request), grace_seconds=0)
    assert far.end(request).status == "cancelled"


@pytest.mark.parametrize("code", [1, 137, 194, 255])
def test_the_exit_code_is_the_jobs_own(far: World, tmp_path: Path, code: int) -> None:  # fault 25
    report = far.run(far_request(tmp_path, far, f"exit {code}"))
    assert (report.status, report.failure, report.exit_code) == ("failed", "user", code)


def test_a_directory_that_the_host_does_not_have_is_named(far: World, tmp_path: Path) -> None:
    report = far.run(far_request(tmp_path, far, "true", working_directory="/nowhere/at all"))
    assert report.exit_code == 126
    assert "/nowhere/at all cannot be entered" in (far.directory(far_request(tmp_path, far)) / "err").read_text()


# --- stopping -----------------------------------------------------------------------------------------------------------


def test_a_stop_ends_the_job_on_the_host(far: World, tmp_path: Path) -> None:  # fault 30
    request = far_request(tmp_path, far, "echo $$", "exec sleep 60")
    pid = int(begun(far, request))
    far.executor.stop(far.reference(request), grace_seconds=5)
    report = far.end(request)
    assert (report.status, report.exit_code) == ("cancelled", 143)
    until(lambda: is_over(pid))


def test_a_job_that_ignores_the_stop_is_killed_on_the_host_after_the_grace(far: World, tmp_path: Path) -> None:
    request = far_request(tmp_path, far, "trap '' TERM", "echo $$", "while :; do sleep 1; done")
    pid = int(begun(far, request))
    far.executor.stop(far.reference(request), grace_seconds=0)
    report = far.end(request)
    # 143 where the host's note of the code comes later than this side waits for it: the stop is what is reported then.
    assert (report.status, report.exit_code) in {("cancelled", 137), ("cancelled", 143)}
    until(lambda: is_over(pid))


def test_a_stop_before_anything_was_sent_is_no_doubt(far: World, tmp_path: Path) -> None:
    far.settings["hosts"]["far"] = replace(far.settings["hosts"]["far"], port=closed_port())
    far.again()
    request = far_request(tmp_path, far, "touch proof")
    far.executor.start(request)
    until((far.directory(request) / "ssh.log").exists)
    far.executor.stop(far.reference(request), grace_seconds=5)
    assert far.end(request).status == "cancelled"
    assert not guard_on_host(tmp_path, request).exists()


# --- broken connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_broken_connection_neither_ends_nor_repeats_the_job(
    far: World, sshd: Sshd, tmp_path: Path, side: str
) -> None:  # D23
    os.mkfifo(tmp_path / "gate")
    request = far_request(
        tmp_path,
        far,
        f"echo begun | tee -a {tmp_path}/proof; echo e1 >&2",
        f"read x <{tmp_path}/gate",
        "echo e2 >&2; exit 9",
    )
    begun(far, request)
    if side == "client":
        kill_ssh(far, request)
    else:
        for pid in descendants(sshd.process.pid):
            # With its parent gone, one of them may end by itself.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    (tmp_path / "gate").write_text("\n")
    report = far.end(request)
    assert (report.status, report.exit_code) == ("failed", 9)
    assert (tmp_path / "proof").read_text() == "begun\n"
    assert far.out(request) == "begun\n"
    assert (far.directory(request) / "err").read_text() == "e1\ne2\n"


def test_an_engine_started_anew_learns_the_code_through_all_of_it(far: World, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    request = far_request(tmp_path, far, "echo begun", f"read x <{tmp_path}/gate", "exit 11")
    begun(far, request)
    far.again()
    far.executor.attach([far.reference(request)])
    kill_ssh(far, request)
    assert far.look(request).status == "running"
    (tmp_path / "gate").write_text("\n")
    assert far.end(request).exit_code == 11


def test_the_one_that_looks_on_is_replaced_when_it_is_killed(far: World, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    request = far_request(tmp_path, far, f"echo begun | tee -a {tmp_path}/proof", f"read x <{tmp_path}/gate", "exit 12")
    begun(far, request)
    wrapper = int((far.directory(request) / "pid").read_text())
    (parent, child, *_) = descendants(wrapper)
    os.kill(child, signal.SIGKILL)
    until(lambda: [one for one in descendants(parent) if one != child])
    (tmp_path / "gate").write_text("\n")
    assert far.end(request).exit_code == 12
    assert far.out(request) == "begun\n"
    assert (tmp_path / "proof").read_text() == "begun\n"


def test_when_all_that_looked_on_was_killed_the_outcome_is_unknown_and_never_the_killing(
    far: World, tmp_path: Path
) -> None:  # I12
    request = far_request(tmp_path, far, "echo $$", "exec sleep 60")
    pid = int(begun(far, request))
    for one in descendants(int((far.directory(request) / "pid").read_text())):
        os.kill(one, signal.SIGKILL)
    report = far.end(request)
    assert (report.status, report.exit_code) == ("unknown", None), report
    assert "may still run on its host" in report.reason
    os.kill(pid, signal.SIGKILL)


def kill_ssh(far: World, request: Request) -> None:
    wrapper = int((far.directory(request) / "pid").read_text())

    def clients() -> list[int]:
        return [one for one in descendants(wrapper) if b"ssh\0-" in Path(f"/proc/{one}/cmdline").read_bytes()]

    for pid in until(clients):
        os.kill(pid, signal.SIGKILL)


# --- hosts that cannot be had -----------------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def failed(far: World, guard: Path, request: Request) -> tuple[list[float], Report]:
    """The pauses between tries, and the report in the end."""
    pauses: list[float] = []
    with pytest.raises(SystemExit):
        Remote(guard, pauses.append).deliver()
    for name, text in (("pid", "4194304\n"), ("job", "1/0 4194304\n"), ("exit", "1\n")):
        (guard / name).write_text(text)
    return pauses, far.look(request)


def test_a_host_that_cannot_be_reached_is_an_infrastructure_failure_after_some_tries(
    far: World, tmp_path: Path
) -> None:
    request = far_request(tmp_path, far, "touch proof")
    pauses, report = failed(far, attempt_of(far, request, port=closed_port()), request)
    assert pauses == [1, 2, 4, 8]
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert "cannot be reached over SSH: " in report.reason
    assert "Connection refused" in report.reason


@pytest.mark.parametrize("known", ["", "[127.0.0.1]:{port} {other}\n"])
def test_a_host_whose_key_is_another_or_not_known_gets_nothing(
    far: World, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    other = (sshd.folder / "other_key.pub").read_text().rpartition(" ")[0]
    (tmp_path / "known").write_text(known.format(port=sshd.port, other=other))
    monkeypatch.setenv("PATH", with_known_hosts(tmp_path, tmp_path / "known"))
    # What a careless configuration of the user says is overruled.
    with (tmp_path / "config").open("a") as config:
        config.write("StrictHostKeyChecking no\n")
    request = far_request(tmp_path, far, "touch proof")
    _, report = failed(far, attempt_of(far, request), request)
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert "Host key verification failed" in report.reason
    assert not (tmp_path / "guards").exists()
    assert (tmp_path / "known").read_text() == known.format(port=sshd.port, other=other)


def test_a_key_that_the_host_does_not_take_is_told(far: World, sshd: Sshd, tmp_path: Path) -> None:
    request = far_request(tmp_path, far, "touch proof")
    _, report = failed(far, attempt_of(far, request, identity=str(sshd.folder / "other_key")), request)
    assert "Permission denied (publickey" in report.reason


def test_a_host_that_falls_silent_after_the_work_was_sent_is_waited_for(far: World, tmp_path: Path) -> None:  # I12
    request = far_request(tmp_path, far, "exit 0")
    guard = attempt_of(far, request, port=closed_port())
    (guard / "sent").touch()

    class Enough(Exception):
        pass

    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise Enough

    with pytest.raises(Enough):
        Remote(guard, pause).deliver()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not (guard / "problem.json").exists()


def test_delivered_twice_it_runs_once(far: World, tmp_path: Path) -> None:  # fault 24
    request = far_request(
        tmp_path, far, f"echo once >>{tmp_path}/proof; sleep 0.2; echo end >>{tmp_path}/proof; exit 3"
    )
    remote = Remote(attempt_of(far, request))
    remote.deliver()
    remote.deliver()
    until((guard_on_host(tmp_path, request) / "exit").exists)
    remote.deliver()
    assert (guard_on_host(tmp_path, request) / "exit").read_text() == "3\n"
    time.sleep(0.1)
    assert (tmp_path / "proof").read_text() == "once\nend\n"


def test_what_the_hosts_start_files_print_is_taken_for_nothing(far: World, tmp_path: Path) -> None:
    """A shell that greets, as `.bashrc` files do, stands between sshd and our text."""
    request = far_request(tmp_path, far, "exit 4")
    script = tmp_path / "bin/ssh"
    script.write_text(script.read_text().replace("exec ", "echo Welcome; printf hello; exec "))
    assert far.run(request).exit_code == 4
