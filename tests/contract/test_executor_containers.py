"""Jobs in containers of this machine, with a program in the container engine's place: which words it is given, and that nothing
becomes of a job that did not become of its container."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.errors import TargetRefused
from shared.executors.process.system import descendants
from tests.contract.test_executor_process import RUN, SECRET, World, is_over, now

CONTAINER_ENGINE = """#!{python}
# Stands for `docker`: a container is a session of its own beside this program, which passes signals and the exit code on.
import json, os, signal, subprocess, sys, time
state, words = os.environ["DOCKER_STATE"], sys.argv[1:]
with open(state + "/calls", "a") as calls:
    calls.write(json.dumps([words, {{name: value for name, value in os.environ.items() if not name.startswith("LC_")}}]) + "\\n")
def read(name):
    try:
        with open(state + "/" + name) as file:
            return file.read()
    except FileNotFoundError:
        sys.exit("No such container")
if words[0] == "run":
    options, rest, flags, env = {{}}, words[1:], ("--rm",), {{}}
    while rest[0].startswith("--"):
        word = rest.pop(0)
        if word not in flags:
            value = rest.pop(0)
            if word == "--env":
                name, given, text = value.partition("=")
                env[name] = text if given else os.environ[name]
            options[word] = value
    image, command = rest[0], rest[1:]
    if image == "slow":
        time.sleep(60)
    if image == "none":
        print("Unable to find image 'none' locally", file=sys.stderr)
        sys.exit(125)
    name = options["--name"]
    mount = dict(one.partition("=")[::2] for one in next(__import__("csv").reader([options["--mount"]])))
    if options["--workdir"] == mount["target"]:
        os.chdir(mount["source"])
    env["RUNFOLD_OUTPUTS"] = env["RUNFOLD_OUTPUTS"].replace(mount["target"], mount["source"])
    first = [options["--entrypoint"]] if "--entrypoint" in options else []
    supervisor = os.fork()
    if supervisor == 0:
        os.setsid()
        for mine in (signal.SIGTERM, signal.SIGINT):
            signal.signal(mine, signal.SIG_IGN)
        inside = subprocess.Popen(first + command, env=dict(env, PATH="/usr/bin:/bin"), start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        for file, text in ((options["--cidfile"], "0123"), (state + "/" + name, str(inside.pid))):
            with open(file + ".new", "w") as new:
                new.write(text)
            os.rename(file + ".new", file)
        code = inside.wait()
        with open(state + "/" + name + ".code", "w") as file:
            file.write(str(code if code >= 0 else 128 - code))
        os._exit(0)
    os.waitpid(supervisor, 0)
    code = int(read(name + ".code"))
    os.unlink(state + "/" + name)
    sys.exit(code)
pid = int(read(words[-1]))
if words[0] == "stop":
    os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + int(words[2])
    while not os.path.exists(state + "/" + words[-1] + ".code"):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            break
        time.sleep(0.01)
elif words[0] == "kill":
    os.killpg(pid, signal.SIGKILL)
elif words[0] == "wait":
    while not os.path.exists(state + "/" + words[-1] + ".code"):
        time.sleep(0.01)
    print(read(words[-1] + ".code"))
"""


class Containers(World):
    """With a program in Docker's place that remembers how it was called and runs the command."""

    def calls(self, kind: str = "run") -> list[tuple[list[str], dict[str, str]]]:
        path = self.home.parent / "state/calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(words, seen) for words, seen in map(json.loads, lines) if words[0] == kind]


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Containers]:
    for name in ("bin", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/docker").write_text(CONTAINER_ENGINE.format(python=sys.executable))
    (tmp_path / "bin/docker").chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "DOCKER_STATE": f"{tmp_path}/state"}
    yield Containers(tmp_path / "home, with a comma", containers="docker", environment=environment)
    for file in (tmp_path / "state").glob("runfold-*"):
        # Whatever a failed test left running.
        if file.suffix != ".code" and not is_over(int(file.read_text())):
            os.killpg(int(file.read_text()), signal.SIGKILL)


def test_an_image_is_run_with_all_that_the_job_says(docker: Containers) -> None:
    request = docker.request(
        image="registry/load:3",
        command=(
            "-c",
            'echo "$A-$B-$RUNFOLD_JOB-$HTTP_PROXY"; cat in; echo "{\\"n\\": 1}" >"$RUNFOLD_OUTPUTS"; echo x >made',
            "sh",
        ),
        entry_point=("/bin/sh", "-e"),
        cpu=512,
        memory=1024,
        user="1000:1000",
        gpu=1,
        environment={"A": "a b\n", "HTTP_PROXY": "http://proxy"},
        secrets={"B": "env:TOKEN_HERE"},
        inputs=[{"path": "in", "content": "input\n"}],
        outputs=[{"path": "made"}],
    )
    report = docker.run(request)
    guard = docker.directory(request)
    assert (report.status, report.outputs) == ("succeeded", {"n": 1}), (report, (guard / "err").read_text())
    assert (docker.home / report.files["made"]).read_text() == "x\n"
    assert docker.out(request) == f"a b\n-{SECRET}-load-http://proxy\ninput\n"
    ((words, seen),) = docker.calls()
    name = words[words.index("--name") + 1]
    assert name.startswith(f"runfold-{request.token}-")
    told = [
        f"RUNFOLD_{key}={value}"
        for key, value in {
            "RUN": RUN,
            "JOB": "load",
            "ATTEMPT": "1",
            "WORKFLOW": "nightly",
            "TOKEN": request.token,
            "OUTPUTS": "/runfold/work/outputs.json",
            "CPU": "512",
            "MEMORY": "1024",
        }.items()
    ]
    assert words == [
        "run", "--rm", "--name", name, "--cidfile", f"{guard}/container",
        "--mount", f'type=bind,"source={guard}/work",target=/runfold/work', "--workdir", "/runfold/work",
        "--cpus", "0.5", "--memory", "1024m", "--gpus", "1", "--user", "1000:1000",
        "--env", "A", "--env", "HTTP_PROXY=http://proxy", "--env", "B", *[word for one in told for word in ("--env", one)],
        "--entrypoint", "/bin/sh", "registry/load:3", "-e", *request.body["command"],
    ]  # fmt: skip
    assert SECRET not in json.dumps(words)  # I13
    assert seen["B"] == SECRET
    assert "HTTP_PROXY" not in seen
    assert "LEAK" not in seen
    for path in docker.home.rglob("*"):
        # The job has printed it itself.
        assert path.name == "out" or not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_an_image_may_run_its_own_command_and_have_its_own_directory(docker: Containers) -> None:
    docker.run(docker.request(image="etl", working_directory="/app"))
    files = docker.request("files", image="etl", working_directory="/app", inputs=[{"path": "in", "content": ""}])
    docker.run(files)
    (plain, _), (shared, _) = docker.calls()
    assert (plain[-1], plain[plain.index("--workdir") + 1]) == ("etl", "/app")
    assert plain[plain.index("--mount") + 1].endswith(",target=/runfold/work")
    assert shared[shared.index("--mount") + 1].endswith(",target=/app")


@pytest.mark.parametrize("code", [0, 3, 125, 137, 194])
def test_the_exit_code_of_a_container_is_the_jobs_own(docker: Containers, code: int) -> None:
    report = docker.run(docker.shell(f"exit {code}", image="etl"))
    assert (report.exit_code, report.failure) == (code, "user" if code else None)


def test_an_image_that_cannot_be_had_is_not_the_jobs_fault(docker: Containers) -> None:
    request = docker.shell("true", image="none")
    report = docker.run(request)
    assert (report.status, report.failure, report.exit_code) == ("failed", "infrastructure", 125)
    assert "could not start the image" in report.reason
    assert "Unable to find image" in (docker.directory(request) / "err").read_text()


@pytest.mark.parametrize("grace", [0.0, 30.0])
def test_a_container_is_stopped_by_name(docker: Containers, grace: float) -> None:
    request = docker.shell(
        'echo "$$"; [ "$1" = 30.0 ] || trap "" TERM; while :; do sleep 0.05; done', str(grace), image="etl"
    )
    docker.executor.start(request)
    pid = int(docker.until(lambda: (docker.directory(request) / "out").exists() and docker.out(request)))
    docker.executor.stop(docker.reference(request), grace_seconds=grace)
    report = docker.end(request)
    assert (report.status, report.exit_code) == ("cancelled", 143 if grace else 137)
    ((words, _),) = docker.calls("stop")
    ((run, _),) = docker.calls()
    assert words == ["stop", "-t", str(int(grace)), run[run.index("--name") + 1]]
    docker.until(partial(is_over, pid))
    docker.until(lambda: docker.executor.tick(now()) is None)


def test_a_container_whose_engine_forgets_the_stop_is_killed_by_name(docker: Containers, tmp_path: Path) -> None:
    engine = tmp_path / "bin/docker"
    engine.write_text(engine.read_text().replace('words[0] == "stop"', 'words[0] == "never"'))
    request = docker.shell('echo "$$"; trap "" TERM; while :; do sleep 0.05; done', image="etl")
    docker.executor.start(request)
    pid = int(docker.until(lambda: (docker.directory(request) / "out").exists() and docker.out(request)))
    docker.executor.stop(docker.reference(request), grace_seconds=0)
    docker.executor.tick(now())
    assert not docker.calls("kill")
    docker.executor.tick(now() + timedelta(seconds=6))
    report = docker.end(request)
    assert (report.status, report.exit_code) == ("cancelled", 137)
    docker.until(partial(is_over, pid))


def test_a_stop_while_the_image_is_still_being_brought_ends_it(docker: Containers) -> None:
    request = docker.shell("touch proof", image="slow")
    docker.executor.start(request)
    docker.until(docker.calls)
    docker.executor.stop(docker.reference(request), grace_seconds=30)
    assert docker.end(request).status == "cancelled"


def test_the_death_of_the_program_that_stands_for_a_container_is_not_the_jobs(
    docker: Containers, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    request = docker.shell(f"echo begun; read x <'{tmp_path}/gate'; exit 6", image="etl")
    docker.executor.start(request)
    docker.until(lambda: (docker.directory(request) / "out").exists() and docker.out(request))
    docker.again()
    docker.executor.attach([docker.reference(request)])
    wrapper = int((docker.directory(request) / "pid").read_text())
    _, client, *_ = descendants(wrapper)
    os.kill(client, signal.SIGKILL)
    docker.until(lambda: docker.calls("wait"))
    assert docker.look(request).status == "running"
    (tmp_path / "gate").write_text("\n")
    assert docker.end(request).exit_code == 6
    # When nobody is left who would learn it, nobody pretends to know.
    other = docker.shell("echo begun; sleep 60", job="other", image="etl")
    docker.executor.start(other)
    docker.until(lambda: (docker.directory(other) / "out").exists() and docker.out(other))
    wrapper = int((docker.directory(other) / "pid").read_text())
    for pid in descendants(wrapper)[:2]:
        os.kill(pid, signal.SIGKILL)
    report = docker.end(other)
    assert report.status == "unknown"
    assert f"may still run in the container runfold-{other.token}" in report.reason
    docker.executor.stop(docker.reference(other), grace_seconds=0)
    docker.until(lambda: docker.calls("stop"))


def test_two_starts_that_do_not_know_of_each_other_make_one_container(docker: Containers) -> None:
    request = docker.shell("exit 0", image="etl")
    docker.executor.start(request)
    docker.again()
    docker.executor.start(request)
    assert docker.end(request).status == "succeeded"
    assert len(docker.calls()) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"image": "--privileged"}, "is not the name of an image"),
        ({"image": "etl", "secrets": {"DOCKER_HOST": "env:TOKEN_HERE"}}, "give it another"),
        ({"image": "etl", "working_directory": "app", "outputs": [{"path": "x"}]}, "must begin with"),
    ],
)
def test_what_no_container_can_be_given_is_refused(docker: Containers, body: Any, message: str) -> None:
    with pytest.raises(TargetRefused, match=message) as refusal:
        docker.executor.start(docker.request(**body))
    assert SECRET not in str(refusal.value)
    assert not docker.calls()


def test_without_the_container_engine_the_job_is_refused_with_what_to_install(tmp_path: Path) -> None:
    world = World(tmp_path, containers="podman", environment={"PATH": str(tmp_path)})
    with pytest.raises(TargetRefused, match="no `podman` on the PATH: install it"):
        world.executor.start(world.request(image="etl"))
    script = world.request(type="ssm", commands=("exit 0",))
    assert world.run(script).status == "succeeded"
