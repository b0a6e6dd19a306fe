"""What an executor owes (`shared.ports.Executor`), kept by the one that starts processes of this machine."""

import hashlib
import http.server
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidInput, NotFound, TargetRefused
from shared.executors.process import HostSettings, ProcessExecutor
from shared.executors.process.system import descendants, is_wrapper_of, process
from shared.executors.ssh import Remote
from shared.ids import JobName, RunId, attempt_token
from shared.ports import Executor, Reference, Report, Request

RUN = RunId("nightly@2026-11-22T02:00:00Z")
SECRET = "correct-horse-battery"
WAIT_SECONDS_MAX = 10.0
ENDED = ("succeeded", "failed", "cancelled", "unknown", "missing")


def now() -> datetime:
    return datetime.now(UTC)


class World:
    """An executor on a fresh home, driven as an engine's loop would."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        self.settings = settings
        self.again()

    def again(self) -> None:
        """The engine is started anew: everything in memory is forgotten."""
        environment = {"PATH": os.environ["PATH"], "HOME": "/", "USER": "root", "TOKEN_HERE": SECRET, "LEAK": "engine"}
        environment |= self.settings.get("environment", {})
        rest = {key: value for key, value in self.settings.items() if key != "environment"}
        self.executor = ProcessExecutor(self.home, environment=environment, now=now, **rest)

    def request(
        self, job: str = "load", attempt: int = 1, *, inputs: Any = (), outputs: Any = (), **body: Any
    ) -> Request:
        name = JobName(job)
        body = {"type": "ecs", "image": "none", **body} if "type" not in body else body
        return Request(attempt_token(RUN, name, attempt), RUN, name, attempt, body, tuple(inputs), tuple(outputs))

    def shell(self, text: str, *args: str, **more: Any) -> Request:
        return self.request(command=("/bin/sh", "-c", text, "sh", *args), **more)

    def reference(self, request: Request, handle: Any = None) -> Reference:
        return Reference(request.token, request.run, request.job, request.attempt, handle, request.outputs)

    def look(self, request: Request) -> Report:
        return self.executor.observe([self.reference(request)])[0]

    def directory(self, request: Request) -> Path:
        return self.home / "runs" / request.run / request.job / str(request.attempt)

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not (answer := condition()):
            assert time.monotonic() < deadline
            self.executor.tick(now())
            time.sleep(0.005)
        return answer

    def end(self, request: Request) -> Report:
        """Wait until it ended."""

        def ended() -> Report | None:
            self.executor.reap()
            report = self.look(request)
            return report if report.status in ENDED else None

        report: Report = self.until(ended)
        return report

    def run(self, request: Request) -> Report:
        self.executor.start(request)
        return self.end(request)

    def out(self, request: Request) -> str:
        return (self.directory(request) / "out").read_text()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    # Whatever a failed test left running. Only numbers that lie here are asked about: somebody else's wrappers run on this machine.
    for path in world.home.rglob("pid"):
        text = path.read_text().strip()
        if text.isdigit() and is_wrapper_of(int(text), str(path.parent)):
            os.killpg(int(text), signal.SIGKILL)


def test_it_keeps_the_protocol(world: World) -> None:
    executor: Executor = world.executor
    assert executor.takes_token


# --- starting and ending ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 137, 194])
def test_the_exit_code_is_reported(world: World, code: int) -> None:
    report = world.run(world.shell(f"exit {code}"))
    assert (report.status, report.exit_code) == (("failed", code) if code else ("succeeded", 0))
    assert report.failure == ("user" if code else None)
    assert report.started_at is not None
    assert report.ended_at is not None
    assert report.started_at <= report.ended_at <= now()


def test_more_processes_than_descriptors_are_taken_up_and_leave_some_for_everything_else(world: World) -> None:
    requests = [world.shell("read line <../../../gate", job=f"j{number}") for number in range(12)]
    (world.home / "runs" / RUN).mkdir(parents=True)
    os.mkfifo(world.home / "runs" / RUN / "gate")
    for request in requests:
        world.executor.start(request)
    world.until(lambda: all((world.directory(one) / "job").exists() for one in requests))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard))
    try:
        world.again()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # An engine of another process: they are not its children.
    world.executor._me = 0
    world.executor.attach([world.reference(request) for request in requests])
    assert len(world.executor.watch_fds()) == 8
    assert world.executor.needs_polling
    gate = os.open(world.home / "runs" / RUN / "gate", os.O_RDWR)
    os.write(gate, b"\n" * 12)
    ended: set[JobName] = set()

    def all_ended() -> bool:
        ready, _, _ = select.select(list(world.executor.watch_fds()), [], [], 0)
        for descriptor in ready:
            ended.update(one.job for one in world.executor.fd_ready(descriptor))
        ended.update(one.job for one in world.executor.reap())
        return len(ended) == 12

    world.until(all_ended)
    os.close(gate)
    assert {world.look(request).status for request in requests} == {"succeeded"}


def test_a_death_by_signal_is_named(world: World) -> None:
    report = world.run(world.shell("kill -9 $$"))
    assert (report.exit_code, report.reason) == (137, "exit code 137 (SIGKILL)")


def test_a_program_that_a_full_disk_kept_from_beginning_failed_for_the_machine(world: World) -> None:
    request = world.shell("exit 0")
    directory = world.directory(request)
    directory.mkdir(parents=True)
    # What is written there is answered as by a full disk: the file is there, and nothing is in it.
    (directory / "job").symlink_to("/dev/full")
    report = world.run(request)
    assert (report.status, report.failure, report.exit_code) == ("failed", "infrastructure", 73)
    assert "no file can be written" in report.reason
    ours = world.run(world.shell("exit 73", attempt=2))
    assert (ours.failure, ours.exit_code) == ("user", 73)


def test_a_program_that_is_not_there_fails_and_says_so(world: World) -> None:
    report = world.run(world.request(command=("no-such-program",)))
    assert (report.status, report.failure, report.exit_code) == ("failed", "user", 127)
    assert "not found" in report.reason


def test_starting_twice_runs_once_and_answers_the_same_handle(world: World, tmp_path: Path) -> None:
    request = world.shell(f"echo once >>{tmp_path}/proof")
    handle = world.executor.start(request)
    assert world.executor.start(request) == handle
    world.again()
    assert world.executor.start(request) == handle
    assert world.end(request).status == "succeeded"
    assert world.executor.start(request) == handle
    assert world.end(request).status == "succeeded"
    assert (tmp_path / "proof").read_text() == "once\n"


def test_two_starts_that_do_not_know_of_each_other_run_once(world: World, tmp_path: Path) -> None:
    request = world.shell(f"echo once >>{tmp_path}/proof; sleep 0.1")
    first = world.executor
    first.start(request)
    world.again()
    world.executor.start(request)
    assert world.end(request).status == "succeeded"
    assert (tmp_path / "proof").read_text() == "once\n"


def test_what_was_never_started_is_missing(world: World) -> None:
    assert world.look(world.shell("true")).status == "missing"


def test_an_end_is_told_once_without_asking(world: World) -> None:
    request = world.shell("exit 0")
    world.executor.start(request)
    ended = world.until(world.executor.reap)
    assert [(one.run, one.job, one.attempt) for one in ended] == [(RUN, "load", 1)]
    assert world.executor.reap() == []
    assert world.executor.running() == []


def test_children_of_others_are_left_to_them(world: World) -> None:
    stranger = subprocess.Popen(["true"])
    detached = subprocess.Popen(["true"], start_new_session=True)
    world.executor.leave(detached.pid)
    for pid in (stranger.pid, detached.pid):
        world.until(partial(is_over, pid))
    assert world.run(world.shell("exit 3")).exit_code == 3
    assert (stranger.wait(), detached.wait()) == (0, 0)


# --- what the job sees ----------------------------------------------------------------------------------------------------


def test_the_job_sees_its_own_variables_and_none_of_the_engines(world: World) -> None:
    request = world.request(command=("env",), environment={"MINE": "a b\n$(c)"}, cpu=512, memory=1024)
    world.run(request)
    work = world.directory(request) / "work"
    lines = world.out(request)
    for line in (
        "MINE=a b\n$(c)\n",
        "TZ=UTC\n",
        "RUNFOLD_CPU=512\n",
        "RUNFOLD_MEMORY=1024\n",
        f"RUNFOLD_RUN={RUN}\n",
        "RUNFOLD_JOB=load\n",
        "RUNFOLD_ATTEMPT=1\n",
        "RUNFOLD_WORKFLOW=nightly\n",
        f"RUNFOLD_OUTPUTS={work}/outputs.json\n",
        f"PWD={work}\n",
    ):
        assert line in lines
    assert "LEAK" not in lines
    assert SECRET not in lines


def test_hostile_arguments_arrive_as_they_are(world: World) -> None:  # fault 53
    hostile = ["; rm -rf /tmp/x", "$(touch pwned)", "`touch pwned`", "a  b", "x\ny", "-rf", "", "'\"", "{{ssm:x}}", "é"]
    show = "import json,sys; print(json.dumps(sys.argv[1:]))"
    request = world.request(command=(sys.executable, "-c", show, *hostile))
    world.run(request)
    assert json.loads(world.out(request)) == hostile
    script = world.request("scripted", type="ssm", commands=(f"{sys.executable} -c '{show}' \"$@\"",), args=hostile)
    assert world.run(script).status == "succeeded"
    assert json.loads(world.out(script)) == hostile
    assert not list(world.home.rglob("pwned"))


@pytest.mark.parametrize("argument", ["a\0b", "\ud800"])
def test_what_no_process_can_be_given_is_refused(world: World, argument: str) -> None:
    with pytest.raises(TargetRefused, match="cannot be passed"):
        world.executor.start(world.request(command=("echo", argument)))


def test_arguments_too_long_for_a_process_are_refused(world: World) -> None:
    with pytest.raises(TargetRefused, match="too long"):
        world.executor.start(world.request(command=("echo", *["x" * 16_000] * 400)))


def test_secrets_reach_the_job_and_nothing_else(world: World, tmp_path: Path) -> None:  # I13
    kept = tmp_path / "secret"
    kept.write_text(f"{SECRET}-in-file\n")
    kept.chmod(0o600)
    request = world.shell(
        'printf %s "$A$B" | sha256sum', secrets={"A": "env:TOKEN_HERE", "B": f"file:{kept}"}, inputs=[]
    )
    report = world.run(request)
    assert world.out(request).split()[0] == hashlib.sha256(f"{SECRET}{SECRET}-in-file".encode()).hexdigest()
    assert SECRET not in repr(report)
    for path in world.home.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:NOT_HERE", "no variable NOT_HERE"),
        ("file:/nowhere", "cannot be read"),
        ("file:relative", "begins with"),
        ("file:/", "is not a file"),
        ("arn:aws:secretsmanager:eu-west-1:1:secret:x", "one machine cannot read"),
        ("file:OPEN", "chmod 600"),
    ],
)
def test_secrets_that_cannot_be_had_are_refused_with_what_to_do(
    world: World, tmp_path: Path, reference: str, message: str
) -> None:
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(TargetRefused, match=message) as refusal:
        world.executor.start(world.shell("true", secrets={"A": reference.replace("OPEN", str(tmp_path / "open"))}))
    assert SECRET not in str(refusal.value)


def test_a_secrets_arn_may_be_mapped_to_a_variable(tmp_path: Path) -> None:
    world = World(tmp_path, secret_variables={"arn:aws:x": "TOKEN_HERE"})
    assert world.run(world.shell(f'test "$A" = {SECRET}', secrets={"A": "arn:aws:x"})).status == "succeeded"


# --- types of job -----------------------------------------------------------------------------------------------------------


def test_a_container_without_a_command_is_refused(world: World) -> None:
    with pytest.raises(TargetRefused, match="give the job a `command`"):
        world.executor.start(world.request())


def step(name: str, *words: str, **more: str) -> Mapping[str, Any]:
    return {"Name": name, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": words}, **more}


def test_steps_run_in_order_under_their_names(world: World) -> None:
    request = world.request(type="emr", steps=[step("first", "echo", "1"), step("second", "echo", "2")])
    assert world.run(request).status == "succeeded"
    assert world.out(request) == "step 1/2 first\n1\nstep 2/2 second\n2\n"


def test_a_cluster_brings_its_own_steps_and_a_failure_ends_them(world: World) -> None:
    steps = [step("first", "false", ActionOnFailure="TERMINATE_CLUSTER"), step("second", "echo", "2")]
    request = world.request(type="emr", cluster={"Steps": steps}, steps=[])
    assert world.run(request).exit_code == 1
    assert world.out(request) == "step 1/2 first\n"


def test_a_spark_step_needs_a_spark(world: World, tmp_path: Path) -> None:
    spark = step(
        "count", "spark-submit", "--master", "yarn", "--deploy-mode", "cluster", "--name", "x", "app.py", "--master"
    )
    request = world.request(type="emr", steps=[spark])
    with pytest.raises(TargetRefused, match="SPARK_HOME"):
        world.executor.start(request)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/spark-submit").write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    (tmp_path / "bin/spark-submit").chmod(0o755)
    world = World(tmp_path / "other", environment={"SPARK_HOME": str(tmp_path)})
    assert world.run(request).status == "succeeded"
    assert world.out(request) == "step 1/1 count\n--master local[*] --name x app.py --master "


def test_commands_stop_at_the_first_that_fails(world: World) -> None:
    request = world.request(type="ssm", commands=("echo $1", "false", "echo never"), args=("x y",))
    assert world.run(request).exit_code == 1
    assert world.out(request) == "x y\n"


def test_a_script_runs_where_the_job_says(world: World, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text('#!/bin/sh\npwd; echo "$1"; echo made >made.txt')
    (tmp_path / "job.sh").chmod(0o755)
    request = world.request(
        type="ssm",
        host="warehouse",
        script=str(tmp_path / "job.sh"),
        args=("1",),
        working_directory=str(tmp_path),
        log_directory=str(tmp_path),
        outputs=[{"path": "made.txt"}],
    )
    report = world.run(request)
    assert report.status == "succeeded", report
    assert (world.home / report.files["made.txt"]).read_text() == "made\n"
    assert world.out(request) == f"{tmp_path}\n1\n"
    assert (tmp_path / f"{RUN}.load.1.out").read_text() == f"{tmp_path}\n1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user without a password")
def test_another_user_runs_the_job_where_the_home_lets_it_through() -> None:
    home = Path(tempfile.mkdtemp(prefix="runfold-run-as-"))
    try:
        world = World(home)
        request = world.request(
            type="ssm",
            host="localhost",
            run_as="nobody",
            commands=("id -un", 'echo "{\\"who\\": \\"$(id -un)\\"}" > "$RUNFOLD_OUTPUTS"'),
        )
        with pytest.raises(TargetRefused, match=r"chmod o\+x"):
            world.executor.start(request)
        home.chmod(0o711)
        world.executor.start(request)
        report = world.end(request)
        assert report.status == "succeeded", report
        assert report.outputs == {"who": "nobody"}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_several_hosts_succeed_only_together(world: World) -> None:
    text = (
        'echo "$RUNFOLD_HOST" >name; echo "{\\"h\\": \\"$RUNFOLD_HOST\\"}" >outputs.json; test "$RUNFOLD_HOST" != "$1"'
    )
    good = world.request(
        "good", type="ssm", hosts=("a", "b"), commands=(text,), args=("-",), outputs=[{"path": "name"}]
    )
    report = world.run(good)
    assert report.status == "succeeded"
    assert report.outputs == {"a": {"h": "a"}, "b": {"h": "b"}}
    assert {path: (world.home / at).read_text() for path, at in report.files.items()} == {
        "a/name": "a\n",
        "b/name": "b\n",
    }
    bad = world.request("bad", type="ssm", hosts=("a", "b"), commands=(text,), args=("b",))
    report = world.run(bad)
    assert (report.status, report.exit_code, report.reason) == ("failed", 1, "host b: exit code 1")
    # The codes are written before the wrappers themselves have ended.
    world.until(lambda: [*world.executor.reap(), *world.executor.running()] == [])


def test_tags_find_hosts_and_none_found_is_refused(tmp_path: Path) -> None:  # fault 29
    world = World(tmp_path, hosts={"a": HostSettings(tags={"role": "db"}), "b": HostSettings(tags={"role": "web"})})
    request = world.request(type="ssm", tag={"role": "db"}, commands=('echo "$RUNFOLD_HOST" >&2',))
    assert world.run(request).status == "succeeded"
    assert (world.directory(request) / "hosts/a/err").read_text() == "a\n"
    with pytest.raises(TargetRefused, match="role=cache"):
        world.executor.start(world.request("other", type="ssm", tag={"role": "cache"}, commands=("true",)))


def test_without_a_host_list_every_name_is_this_machine_and_the_log_says_so(world: World) -> None:
    request = world.request(type="ssm", host="warehouse", commands=("echo done", "echo err >&2"))
    assert world.run(request).status == "succeeded"
    assert world.out(request) == "done\n"
    assert (world.directory(request) / "err").read_text() == (
        "runfold: there is no host list (`hosts` in settings.yaml), so warehouse is taken to be this machine\nerr\n"
    )
    here = world.request("here", type="ssm", host="localhost", commands=("true",))
    world.run(here)
    assert (world.directory(here) / "err").read_text() == ""


def test_with_a_host_list_a_name_that_is_not_in_it_never_runs_here(tmp_path: Path) -> None:
    world = World(tmp_path, hosts={"warehouse": HostSettings(), "lake": HostSettings(ssh="etl@lake")})
    for body in ({"host": "warehuose"}, {"hosts": ("lake", "warehuose")}):
        with pytest.raises(TargetRefused) as refusal:
            world.executor.start(world.request(type="ssm", commands=("true",), **body))
        assert str(refusal.value) == (
            "the host warehuose is not known here (did you mean warehouse?): known are lake, localhost, warehouse. Add it under "
            "`hosts` in settings.yaml, as `warehuose: {ssh: user@host}`, or `warehuose: {}` if it is this machine"
        )
    assert not (tmp_path / "runs").exists()
    for name in ("warehouse", "localhost"):
        request = world.request(name, type="ssm", host=name, commands=("true",))
        assert world.run(request).status == "succeeded"
        assert (world.directory(request) / "err").read_text() == ""


def test_what_has_begun_is_followed_when_the_settings_would_now_refuse_it(tmp_path: Path) -> None:
    world = World(tmp_path, environment={"OLD": "x"})
    request = world.shell("exit 7", secrets={"A": "env:OLD"})
    world.run(request)
    world.settings = {}
    world.again()
    world.executor.start(request)
    assert world.end(request).exit_code == 7
    with pytest.raises(TargetRefused, match="no variable OLD"):
        world.executor.start(world.shell("true", attempt=2, secrets={"A": "env:OLD"}))


# --- stopping ---------------------------------------------------------------------------------------------------------------


def test_a_stop_asks_the_whole_tree_and_the_attempt_is_cancelled(world: World) -> None:
    request = world.shell("sleep 60 & echo ready; wait")
    world.executor.start(request)
    world.until(lambda: world.directory(request).joinpath("out").exists() and "ready" in world.out(request))
    world.executor.stop(world.reference(request), grace_seconds=30)
    report = world.end(request)
    assert (report.status, report.exit_code) == ("cancelled", 143)
    world.until(lambda: world.executor.tick(now()) is None)
    world.again()
    assert world.look(request).status == "cancelled"


def test_a_tree_that_ignores_the_stop_is_killed_after_the_grace_wherever_it_hides(world: World) -> None:  # fault 30
    hidden = "import os,signal,time\nsignal.signal(15,1)\nos.fork() and os._exit(0)\nos.setsid()\nopen('hidden','w').write(str(os.getpid())+' ')\ntime.sleep(60)"
    request = world.shell('trap "" TERM; "$1" -c "$2"; echo ready; while :; do sleep 1; done', sys.executable, hidden)
    world.executor.start(request)
    path = world.directory(request) / "work/hidden"
    world.until(lambda: path.exists() and path.read_text().endswith(" ") and "ready" in world.out(request))
    world.executor.stop(world.reference(request), grace_seconds=0.1)
    report = world.end(request)
    assert (report.status, report.exit_code) == ("cancelled", 137)
    world.until(lambda: world.executor.tick(now()) is None)
    assert is_over(int(path.read_text()))


def test_a_stop_leaves_the_same_attempt_of_another_home_alone(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    request = world.shell("sleep 60")
    for one in (world, other):
        one.executor.start(request)
        one.until((one.directory(request) / "job").exists)
    world.executor.stop(world.reference(request), grace_seconds=0)
    assert world.end(request).status == "cancelled"
    world.until(lambda: world.executor.tick(now()) is None)
    assert other.look(request).status == "running"
    other.executor.stop(other.reference(request), grace_seconds=0)
    assert other.end(request).status == "cancelled"


def test_stopping_what_has_ended_changes_nothing(world: World) -> None:  # fault 56
    request = world.shell("exit 0")
    world.run(request)
    world.executor.stop(world.reference(request), grace_seconds=1)
    assert world.look(request).status == "succeeded"


def test_what_was_stopped_before_it_began_never_begins(world: World, tmp_path: Path) -> None:
    request = world.shell(f"touch {tmp_path}/proof")
    world.executor.stop(world.reference(request), grace_seconds=1)
    assert world.look(request).status == "cancelled"
    assert world.run(request).status == "cancelled"
    assert not (tmp_path / "proof").exists()


# --- restarts and accidents ---------------------------------------------------------------------------------------------------


def test_a_restarted_engine_is_told_of_the_end_of_work_it_did_not_start(world: World, tmp_path: Path) -> None:
    # The engine that starts it is a process of its own and is killed, so the work is nobody's child here.
    request = world.shell("echo begun; sleep 1; exit 9")
    engine = f"""
import os, signal
from pathlib import Path
from tests.contract.test_executor_process import World
world = World(Path({str(world.home)!r}))
request = world.shell("echo begun; sleep 1; exit 9")
world.executor.start(request)
world.until(lambda: world.directory(request).joinpath("out").exists() and world.out(request))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(engine).returncode == -signal.SIGKILL
    world.executor.attach([world.reference(request)])
    assert world.look(request).status == "running"
    (descriptor,) = world.executor.watch_fds()
    assert select.select([descriptor], [], [], WAIT_SECONDS_MAX)[0] == [descriptor]
    assert [one.job for one in world.executor.fd_ready(descriptor)] == ["load"]
    assert world.executor.watch_fds() == {}
    assert world.look(request).exit_code == 9


def test_what_ended_while_no_engine_lived_is_told_when_attached(world: World) -> None:
    request = world.shell("exit 4")
    world.run(request)
    world.again()
    world.executor.attach([world.reference(request)])
    assert [one.job for one in world.executor.reap()] == ["load"]
    assert world.look(request).exit_code == 4


@pytest.mark.parametrize("look", ["while it runs", "when both have ended"])
def test_the_code_of_a_job_whose_wrapper_was_killed_is_still_learnt(world: World, tmp_path: Path, look: str) -> None:
    os.mkfifo(tmp_path / "gate")
    engine = f"""
import os, signal
from pathlib import Path
from shared.executors.process import become_subreaper
from tests.contract.test_executor_process import World, is_over
assert become_subreaper()
world = World(Path({str(world.home)!r}))
request = world.shell("echo begun; read line <$1; exit 6", {str(tmp_path / "gate")!r})
world.executor.start(request)
world.until(lambda: world.directory(request).joinpath("out").exists() and world.out(request))
wrapper = int((world.directory(request) / "pid").read_text())
os.kill(wrapper, signal.SIGKILL)
world.until(lambda: is_over(wrapper))
if {look == "while it runs"}:
    assert world.look(request).status == "running"
    assert world.executor.reap() == []
Path({str(tmp_path / "gate")!r}).write_text("go\\n")
world.until(lambda: is_over(int((world.directory(request) / "job").read_text().split()[1])))
assert [one.job for one in world.executor.reap()] == ["load"]
report = world.look(request)
assert (report.status, report.exit_code) == ("failed", 6), report
"""
    answer = run_python(engine)
    assert answer.returncode == 0, answer.stderr
    assert world.look(world.shell("")).exit_code == 6


def test_wrapper_and_job_killed_while_no_engine_lived_are_unknown_and_never_guessed(world: World) -> None:
    request = world.shell("sleep 60")
    world.executor.start(request)
    world.until((world.directory(request) / "job").exists)
    os.killpg(int((world.directory(request) / "pid").read_text()), signal.SIGKILL)
    # On a busy machine the program is still dying when the wrapper is dead.
    world.until(lambda: not world.executor.reap() and world.look(request).status == "unknown")
    world.again()
    world.executor.attach([world.reference(request)])
    assert world.look(request).status == "unknown"


def test_a_wrapper_killed_before_it_began_anything_gives_the_work_back(world: World, tmp_path: Path) -> None:
    request = world.shell(f"echo once >>{tmp_path}/proof")
    world.directory(request).mkdir(parents=True)
    # A number that no process has.
    (world.directory(request) / "pid").write_text("4194304\n")
    assert world.look(request).status == "missing"
    assert world.run(request).status == "succeeded"
    assert (tmp_path / "proof").read_text() == "once\n"


def test_a_claim_of_before_the_machine_went_down_is_unknown(world: World) -> None:
    request = world.shell("true")
    world.directory(request).mkdir(parents=True)
    claim = world.directory(request) / "pid"
    claim.write_text("4194304\n")
    os.utime(claim, (1, 1))
    assert world.look(request).status == "unknown"


def test_another_process_with_the_wrappers_number_is_not_taken_for_it(world: World) -> None:
    request = world.shell("true")
    world.directory(request).mkdir(parents=True)
    (world.directory(request) / "pid").write_text(f"{os.getpid()}\n")
    (world.directory(request) / "job").write_text(f"1/0 {os.getpid()}\n")
    assert world.look(request).status == "unknown"


# --- hosts over SSH -------------------------------------------------------------------------------------------------------------

SSH_STAND_IN = """#!/bin/sh
# Does what sshd does with the words after `--`: the host's name goes, the rest is one line for the user's shell.
while [ "$1" != -- ]; do shift; done
shift
[ "$1" != root@down ] || exit 255
shift
exec env -i HOME="$SSH_HOME" PATH="$PATH" sh -c "$*"
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH_STAND_IN)
    (tmp_path / "bin/ssh").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    hosts = {"far": HostSettings(ssh="root@far"), "down": HostSettings(ssh="root@down")}
    return World(tmp_path / "home", hosts=hosts, environment={"PATH": path})


def far_request(world: World, tmp_path: Path, *commands: str, **more: Any) -> Request:
    environment = {"SSH_HOME": str(tmp_path)}
    return world.request(type="ssm", host="far", commands=commands, environment=environment, **more)


def test_a_job_on_another_host_gets_its_inputs_and_brings_back_what_it_made(far: World, tmp_path: Path) -> None:
    request = far_request(
        far,
        tmp_path,
        "cat in; printf '%s|' \"$@\"; echo err >&2; echo ${#A}",
        'echo "{\\"n\\": 1}" >"$RUNFOLD_OUTPUTS"; echo made >made',
        args=("a b", "$(id)", "'", "x\ny"),
        secrets={"A": "env:TOKEN_HERE"},
        guard_directory=str(tmp_path / "guards"),
        inputs=[{"path": "in", "content": "input\n"}],
        outputs=[{"path": "made"}],
    )
    report = far.run(request)
    assert (report.status, report.outputs) == ("succeeded", {"n": 1}), report
    assert (far.home / report.files["made"]).read_text() == "made\n"
    assert far.out(request) == f"input\na b|$(id)|'|x\ny|{len(SECRET)}\n"
    assert (far.directory(request) / "err").read_text() == "err\n"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()  # I13


def test_a_broken_connection_neither_ends_nor_repeats_the_job(far: World, tmp_path: Path) -> None:  # D23
    os.mkfifo(tmp_path / "gate")
    request = far_request(far, tmp_path, "echo one", f"read x <{tmp_path}/gate || true", "echo two; exit 5")
    far.executor.start(request)
    far.until(lambda: (far.directory(request) / "out").exists() and far.out(request))
    wrapper = int((far.directory(request) / "pid").read_text())
    (helper,) = descendants(wrapper)[:1]
    # The looking on is the helper's only child; the job has a session of its own.
    far.until(lambda: descendants(helper))
    for pid in descendants(helper):
        os.kill(pid, signal.SIGKILL)
    (tmp_path / "gate").write_text("\n")
    assert far.end(request).exit_code == 5
    assert far.out(request) == "one\ntwo\n"


def test_a_stop_reaches_the_job_on_the_other_host(far: World, tmp_path: Path) -> None:  # fault 30
    request = far_request(far, tmp_path, "echo $$", "exec sleep 60")
    far.executor.start(request)
    far.until(lambda: (far.directory(request) / "out").exists() and far.out(request))
    far.executor.stop(far.reference(request), grace_seconds=5)
    assert far.end(request).status == "cancelled"
    far.until(lambda: is_over(int(far.out(request))))


def test_a_host_that_never_answers_is_an_infrastructure_failure(far: World, tmp_path: Path) -> None:
    facts = {"ssh": "root@down", "port": 22, "token": "t", "variables": [], "words": ["true"], "outputs": []}
    (tmp_path / "guard/work").mkdir(parents=True)
    (tmp_path / "guard/remote.json").write_text(json.dumps(facts))
    pauses: list[float] = []
    with pytest.raises(SystemExit):
        Remote(tmp_path / "guard", pauses.append).deliver()
    assert pauses == [1, 2, 4, 8]
    problem = json.loads((tmp_path / "guard/problem.json").read_text())
    assert problem == {"failure": "infrastructure", "reason": "root@down cannot be reached over SSH"}


def test_a_stop_that_no_host_heard_leaves_the_outcome_unknown(far: World) -> None:  # I12
    request = far.request(type="ssm", host="down", commands=("true",))
    guard = far.directory(request)
    (guard / "work").mkdir(parents=True)
    facts = {"ssh": "root@down", "port": 22, "token": request.token}
    for name, text in (("remote.json", json.dumps(facts)), ("pid", "4194304\n"), ("stop", "1\n")):
        (guard / name).write_text(text)
    with pytest.raises(SystemExit):
        Remote(guard, lambda _seconds: None).pass_on_stop()
    (guard / "exit").write_text("1\n")
    report = far.look(request)
    assert (report.status, report.reason) == (
        "unknown",
        "root@down cannot be reached over SSH: the job there may still run",
    )


# --- files in and out -----------------------------------------------------------------------------------------------------------


def test_outputs_are_reported_and_declared_files_are_kept(world: World) -> None:
    outputs = [{"path": "report.csv", "save": True}, {"path": "sub/x"}, {"path": "maybe", "optional": True}]
    request = world.shell(
        "echo '{\"rows\": 3}' >outputs.json; echo a >report.csv; mkdir sub; echo b >sub/x", outputs=outputs
    )
    report = world.run(request)
    assert report.outputs == {"rows": 3}
    assert set(report.files) == {"report.csv", "sub/x"}
    assert (world.home / report.files["sub/x"]).read_text() == "b\n"
    assert world.look(request).files == report.files
    world.again()
    assert world.look(request).files == report.files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("true", "declared output report.csv is missing"),
        ("ln -s /etc/passwd report.csv", "leads out of"),
        ("mkdir report.csv", "is not a file"),
        ("mkfifo report.csv", "is not a file"),
        ("ln -s /etc report.csv", "leads out of"),
        ("touch report.csv; echo '{\"a\": NaN}' >outputs.json", "NaN"),
        ("touch report.csv; echo '[1]' >outputs.json", "must hold an object"),
        ("touch report.csv; echo '{' >outputs.json", "not JSON"),
        ('touch report.csv; printf \'{"a": "\\377"}\' >outputs.json', "not JSON"),
        ("touch report.csv; mkfifo outputs.json", "not a file"),
        ("touch report.csv; mkdir outputs.json", "not a file"),
        ("touch report.csv; ln -s /etc/passwd outputs.json", "cannot be read"),
        ("touch report.csv; head -c 70000 /dev/zero >outputs.json", "larger than 65536 bytes"),
        ('touch report.csv; head -c 60000 /dev/zero | tr "\\0" "[" >outputs.json', "not JSON"),
    ],
)
def test_a_success_that_left_the_wrong_things_behind_is_a_failure(
    world: World, text: str, reason: str
) -> None:  # fault 55
    report = world.run(world.shell(text, outputs=[{"path": "report.csv"}]))
    assert (report.status, report.failure, report.exit_code) == ("failed", "user", 0)
    assert reason in report.reason


def test_inputs_lie_in_the_working_directory_before_the_job_starts(world: World, tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("url\n")
    artifact = world.home / "runs/x/_files/a/1/made.txt"
    artifact.parent.mkdir(parents=True)
    artifact.write_text("artifact\n")
    inputs = [
        {"path": "sub/content.txt", "content": "content\n"},
        {"path": "url.txt", "url": f"file://{tmp_path}/there.txt", "sha256": hashlib.sha256(b"url\n").hexdigest()},
        {"path": "made.txt", "artifact": "runs/x/_files/a/1/made.txt"},
    ]
    request = world.shell("cat sub/content.txt url.txt made.txt; echo more >>made.txt", inputs=inputs)
    report = world.run(request)
    assert report.status == "succeeded", report
    assert world.out(request) == "content\nurl\nartifact\n"
    assert artifact.read_text() == "artifact\n"


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code = int(self.path.strip("/").partition("?")[0])
        self.send_response(code)
        # Code 206 stands for a server that promises more than it sends.
        self.send_header("Content-Length", "5" if code != 206 else "50")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_answer_that_is_no_success_never_becomes_a_file(world: World, server: str) -> None:
    wrong = "0" * 64
    for number, (path, failure, reason) in enumerate(
        [
            ("/404?key=hush", "user", f"{server}/404 answered 404"),
            ("/500", "infrastructure", "answered 500"),
            ("/206", "infrastructure", "5 of 50 bytes"),
            ("/200", "user", "SHA-256"),
        ]
    ):
        inputs = [{"path": "in", "url": server + path, "sha256": wrong}]
        request = world.shell("touch began", job=f"j{number}", inputs=inputs)
        report = world.run(request)
        assert (report.status, report.failure) == ("failed", failure), report
        assert reason in report.reason
        assert "hush" not in report.reason
        work = world.directory(request) / "work"
        assert not (work / "began").exists()
        assert not (work / "in").exists()
    request = world.shell("cat in", inputs=[{"path": "in", "url": f"{server}/200"}])
    assert world.run(request).status == "succeeded"
    assert world.out(request) == "hello"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", ""])
def test_an_input_may_not_leave_the_working_directory(world: World, path: str) -> None:
    with pytest.raises(TargetRefused, match="inside the job's working directory"):
        world.executor.start(world.shell("true", inputs=[{"path": path, "content": "x"}]))


# --- logs ---------------------------------------------------------------------------------------------------------------------------


def test_lines_come_back_with_times_in_the_order_they_came(world: World, tmp_path: Path) -> None:
    # One for each: whoever opens the first again may meet the writer that has not closed it yet.
    for gate in ("first", "second"):
        os.mkfifo(tmp_path / gate)
    request = world.shell(f"echo one; read x <{tmp_path}/first; echo two >&2; read x <{tmp_path}/second; printf three")
    world.executor.start(request)
    directory = world.directory(request)
    world.until(lambda: (directory / "out").exists() and world.out(request))
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    world.executor.note_output(noon)
    page = world.executor.read_log(RUN, "load", 1)
    assert [(line.at, line.stream, line.text) for line in page.lines] == [(noon, "out", "one")]
    assert not page.complete
    (tmp_path / "first").write_text("\n")
    world.until((directory / "err").read_text)
    world.executor.note_output(noon + timedelta(seconds=1))
    world.executor.note_output(noon + timedelta(seconds=2))
    (tmp_path / "second").write_text("\n")
    world.end(request)
    rest = world.executor.read_log(RUN, "load", 1, after_cursor=page.cursor)
    assert [(line.stream, line.text) for line in rest.lines] == [("err", "two"), ("out", "three")]
    assert rest.lines[0].at == noon + timedelta(seconds=1)
    assert rest.complete
    everything = world.executor.read_log(RUN, "load", 1)
    assert everything.lines == page.lines + rest.lines
    assert [line.text for line in world.executor.read_log(RUN, "load", 1, stream="err").lines] == ["two"]


def test_two_megabytes_and_bytes_that_are_no_text_are_harmless(world: World) -> None:  # fault 28
    request = world.shell("head -c 2000000 /dev/urandom; yes line | head -n 200000 >&2")
    assert world.run(request).status == "succeeded"
    cursor, size, pages = "", 0, 0
    while True:
        page = world.executor.read_log(RUN, "load", 1, after_cursor=cursor, limit_bytes=200_000)
        size += sum(line.text == "line" for line in page.lines if line.stream == "err")
        cursor, pages = page.cursor, pages + 1
        if page.complete:
            break
        assert pages < 100
    assert size == 200_000
    assert pages > 10


def test_a_gigabyte_is_read_in_pages(world: World) -> None:  # fault 28
    request = world.shell('echo first; truncate -s 1000000000 "$1"; echo last', "../out")
    world.run(request)
    started = time.process_time()
    page = world.executor.read_log(RUN, "load", 1, limit_bytes=1000)
    assert page.lines[0].text == "first"
    assert not page.complete
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("run", "job", "attempt"),
    [
        ("../../etc", "load", 1),
        (RUN, "../load", 1),
        (RUN, "load", 0),
        ("a@b/../c", "x", 1),
        (RUN, "", 1),
        ("w@..", "x", 1),
    ],
)
def test_a_log_cannot_be_asked_for_outside_of_the_runs(
    world: World, run: str, job: str, attempt: int
) -> None:  # fault 57
    with pytest.raises(NotFound):
        world.executor.read_log(run, job, attempt)


def test_a_cursor_that_is_none_is_refused(world: World) -> None:
    world.run(world.shell("true"))
    for cursor in ("x", "1", "1-2-3", "-1-0", "../x"):
        with pytest.raises(InvalidInput):
            world.executor.read_log(RUN, "load", 1, after_cursor=cursor)


def is_over(pid: int) -> bool:
    found = process(pid)
    return found is None or found.ended


def run_python(text: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", text]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, cwd=Path(__file__).parents[2])
