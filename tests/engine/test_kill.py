"""`kill -9` of the engine, and of the wrappers it keeps, at seeded instants under load: every job runs exactly once, the run succeeds,
and the history is whole. When engine and wrapper both die, the exit code is lost: that is doubt, never a second run.

Real processes; the instants follow from the seed, what they hit does not, so a failure is told with everything that was killed.
"""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.home import Home, wake
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.ids import JobName, RunId, WorkflowName, run_stream, workflow_stream
from shared.state.run import Doubted, Run
from shared.usecases.verify import verify
from tests.engine.fakes import derived

LAYERS, WIDTH = 10, 6
"""60 jobs; each waits for two of the layer before."""
LONELY, ORPHAN = JobName("lonely"), JobName("orphan")
UP_SECONDS = 60.0
END_SECONDS = 240.0
"""Long, because whatever else the machine does slows the fifty starts of an engine down; nothing waits for it that goes well."""


class Nothing:
    """The engine finds by itself what commits of others led to."""

    def send(self, effects: Any, *, delay_seconds: float = 0) -> None:
        pass


class World:
    """A home, the engine process on it, and another process's eyes: ours."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path / "home")
        self.home.make()
        self.files = path / "files"
        self.files.mkdir()
        self.parts: LocalParts = local_parts(self.home.database, self.home.documents, Nothing())
        self.process: subprocess.Popen[bytes] | None = None
        self.killed: list[str] = []

    def start_engine(self) -> None:
        assert self.process is None
        with (self.files.parent / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.engine.run_engine", str(self.home.path)],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], UP_SECONDS)
        assert ready, "the engine did not come up"
        assert self.process.stdout.readline() == b"up\n", self.log()

    def kill_engine(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        self.killed.append("engine")

    def close(self) -> None:
        if self.process is not None:
            self.kill_engine()
        for pid, _ in self.wrappers():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.parts.close()

    def wrappers(self) -> list[tuple[int, str]]:
        """Processes that are wrappers of this home, with their guards, oldest first."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"-g" in words and words[words.index(b"-g") + 1].startswith(os.fsencode(self.home.path)):
                        # A wrapper leads its session; the subshell that it splits off does not.
                        fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                        if int(fields[3]) == int(entry.name):
                            found.append((int(entry.name), os.fsdecode(words[words.index(b"-g") + 1])))
        return sorted(found)

    def kill_wrapper(self, randomness: random.Random) -> None:
        """One that this engine started, and let the engine learn how the program ends that it leaves behind. If the one that
        started it were dead, nobody would be told."""
        assert self.process is not None
        wrappers = [one for one in self.wrappers() if parent_of(one[0]) == self.process.pid]
        if wrappers:
            pid, guard = randomness.choice(wrappers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.killed.append(f"wrapper {guard.removeprefix(str(self.home.path))}")
            self.wait_until(lambda: Path(guard, "exit").exists() and not self.is_wrapper(pid))

    def is_wrapper(self, pid: int) -> bool:
        return any(pid == other for other, _ in self.wrappers())

    def request(self, jobs: list[dict[str, Any]], **more: Any) -> RunId:
        document = {"name": "many", "jobs": jobs, **more}
        registered = self.parts.control.register(json.dumps(document).encode(), name="many.json", by="test")
        requested = self.parts.control.request_run(registered.workflow, {}, by="test")
        wake(self.home)
        return requested.run

    def run(self, run: RunId) -> Run:
        state = self.parts.transact.current(run_stream(run)).state
        assert isinstance(state, Run)
        return state

    def wait_until(self, holds: Any, *, seconds: float = END_SECONDS) -> None:
        give_up = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < give_up, self.log()
            assert self.process is None or self.process.poll() is None, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return f"killed: {self.killed}\n" + (self.files.parent / "engine.log").read_text()[-4000:]

    def appending(self, name: str, seconds: float, after: list[str]) -> dict[str, Any]:
        """A job that appends one line to its own file."""
        script = f'echo "$RUNFOLD_ATTEMPT" >> {self.files}/{name}; sleep {seconds}'
        return {"name": name, "type": "ecs", "image": "x", "command": ["sh", "-c", script], "after": after}

    def lines(self) -> dict[str, list[str]]:
        return {path.name: path.read_text().splitlines() for path in self.files.iterdir()}


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


def sixty(world: World, randomness: random.Random, seconds_max: float) -> list[dict[str, Any]]:
    jobs = []
    for layer in range(LAYERS):
        for place in range(WIDTH):
            before = [f"j{layer - 1}-{place}", f"j{layer - 1}-{(place + 1) % WIDTH}"] if layer else []
            jobs.append(world.appending(f"j{layer}-{place}", round(randomness.uniform(0.01, seconds_max), 3), before))
    return jobs


def check_exactly_once(world: World, run: RunId) -> None:
    state = world.run(run)
    assert state.outcome == "succeeded", (dict(state.tally), world.log())
    assert world.lines() == {name: ["1"] for name in state.jobs}, world.log()
    for name, job in state.jobs.items():
        assert [one.status for one in job.attempts] == ["succeeded"], (name, world.log())
        assert job.attempts[0].exit_code == 0
    # What is kept in memory over all those conflicts is what the events say.
    assert world.parts.loader.load(run_stream(run)).version == world.parts.transact.current(run_stream(run)).version


def kill_again_and_again(world: World, seed: int, kills: int, *, seconds_max: float) -> None:
    randomness = random.Random(seed)
    world.start_engine()
    run = world.request(sixty(world, randomness, seconds_max), parallelism=8)
    for _ in range(kills):
        time.sleep(randomness.uniform(0.0, 0.25))
        if randomness.random() < 0.2:
            world.kill_wrapper(randomness)
        else:
            world.kill_engine()
            # Dead for a while, or for no time at all.
            time.sleep(randomness.choice((0.0, 0.0, 0.1)))
            world.start_engine()
    world.wait_until(lambda: world.run(run).finished)
    check_exactly_once(world, run)
    world.wait_until(lambda: (row := world.parts.views.get_run(run)) is not None and row.status == "succeeded")
    check_invariants(world)


def check_invariants(world: World) -> None:
    """What `runfold verify` checks, when nobody writes any more."""
    world.kill_engine()
    parts = world.parts
    found = verify(
        parts.store, parts.plans, now=utc_now(), dues=parts.dues, views=parts.views, derive=derived(parts.plans)
    )
    assert [str(violation) for violation in found] == []


def test_eight_kills_repeat_and_lose_nothing(world: World) -> None:
    kill_again_and_again(world, seed=8, kills=8, seconds_max=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 3))
def test_fifty_kills_repeat_and_lose_nothing(world: World, seed: int) -> None:
    kill_again_and_again(world, seed=seed, kills=50, seconds_max=6.0)


@pytest.mark.slow
def test_a_schedule_of_every_second_misses_and_repeats_no_instant_over_kills(world: World) -> None:
    """Fault 37."""
    script = f'echo x >> {world.files}/"$RUNFOLD_RUN"'
    job = {"name": "a", "type": "ecs", "image": "x", "command": ["sh", "-c", script]}
    rule = {"rate": "1 second", "catchup": "all"}
    document = json.dumps({"name": "clockwork", "jobs": [job], "schedule": rule, "overlap": "queue"}).encode()
    # Dropped, and not registered by us: the engine may die in the middle of that, too.
    (world.home.workflows / "clockwork.json").write_bytes(document)
    randomness = random.Random(37)
    for _ in range(8):
        world.start_engine()
        time.sleep(randomness.uniform(0.0, 0.6))
        world.kill_engine()
    world.start_engine()
    world.wait_until(lambda: len(world.lines()) >= 5)
    world.parts.control.unregister(WorkflowName("clockwork"), by="ann")
    wake(world.home)
    workflow = workflow_stream(WorkflowName("clockwork"))
    world.wait_until(lambda: not world.parts.loader.workflow(WorkflowName("clockwork")).holders)
    instants = []
    for stream in world.parts.store.streams("run"):
        state = world.parts.loader.load(stream).state
        assert isinstance(state, Run)
        assert state.outcome == "succeeded"
        assert state.request.scheduled_at is not None
        instants.append(state.request.scheduled_at)
    instants.sort()
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in pairwise(instants)), world.log()
    assert world.lines() == {f"clockwork@{at:%Y-%m-%dT%H:%M:%SZ}": ["x"] for at in instants}
    check_invariants(world)
    assert world.parts.loader.load(workflow).version > len(instants)


def test_a_job_whose_engine_and_wrapper_are_both_killed_is_in_doubt_and_never_runs_again(world: World) -> None:
    world.start_engine()
    run = world.request([world.appending("lonely", 0.3, []), world.appending("after", 0.01, ["lonely"])])
    world.wait_until(lambda: world.lines().get("lonely") == ["1"])
    wrapper, _ = world.wrappers()[0]
    world.kill_engine()
    os.kill(wrapper, signal.SIGKILL)
    # The program ends now, and nobody is there to be told how.
    time.sleep(0.5)
    world.start_engine()
    world.wait_until(lambda: isinstance(world.run(run).jobs[LONELY].phase, Doubted))
    world.kill_engine()
    world.start_engine()
    time.sleep(0.3)
    assert isinstance(world.run(run).jobs[LONELY].phase, Doubted)
    assert world.lines() == {"lonely": ["1"]}
    row = world.parts.views.get_run(run)
    assert row is not None
    assert row.attention == ("doubt",)
    # Only a named person gets it out.
    world.parts.control.mark(run, LONELY, "succeeded", by="ann", reason="the file is there")
    wake(world.home)
    world.wait_until(lambda: world.run(run).finished)
    assert world.run(run).outcome == "succeeded"
    assert world.lines() == {"lonely": ["1"], "after": ["1"]}


def test_a_program_that_outlives_engine_and_wrapper_is_taken_up_and_ends_as_doubt(world: World) -> None:
    world.start_engine()
    run = world.request([world.appending("orphan", 6.0, [])])
    world.wait_until(lambda: world.lines().get("orphan") == ["1"])
    wrapper, _ = world.wrappers()[0]
    world.kill_engine()
    os.kill(wrapper, signal.SIGKILL)
    world.start_engine()
    time.sleep(0.2)
    assert not isinstance(world.run(run).jobs[ORPHAN].phase, Doubted), "it still runs"
    world.wait_until(lambda: isinstance(world.run(run).jobs[ORPHAN].phase, Doubted))
    assert world.lines() == {"orphan": ["1"]}


def test_a_stop_that_is_under_way_when_the_engine_is_killed_is_carried_on(world: World) -> None:
    world.start_engine()
    script = f'trap "" TERM; echo 1 >> {world.files}/stubborn; while :; do sleep 0.05; done'
    stubborn = {
        "name": "stubborn",
        "type": "ecs",
        "image": "x",
        "command": ["sh", "-c", script],
        "stop_grace_seconds": 1,
    }
    run = world.request([stubborn])
    world.wait_until(lambda: world.lines().get("stubborn") == ["1"])
    world.parts.control.cancel(run, by="ann")
    wake(world.home)
    world.wait_until(lambda: any("StopSent" in one.body for one in world.parts.loader.records(run_stream(run))))
    world.kill_engine()
    world.start_engine()
    world.wait_until(lambda: world.run(run).finished)
    assert world.run(run).outcome == "cancelled"
    assert world.wrappers() == []


@pytest.mark.slow
def test_a_timeout_and_a_retry_that_fall_due_while_the_engine_is_dead_happen_when_it_is_back(world: World) -> None:
    world.start_engine()
    script = f'echo "$RUNFOLD_ATTEMPT" >> {world.files}/late; test "$RUNFOLD_ATTEMPT" = 2 || sleep 60'
    late = {
        "name": "late",
        "type": "ecs",
        "image": "x",
        "command": ["sh", "-c", script],
        "timeouts": {"run_minutes": 0.01},
        "retry": {"timeout": {"attempts": 2, "delay_seconds": 0.5}},
    }
    run = world.request([late])
    world.wait_until(lambda: world.lines().get("late") == ["1"])
    world.kill_engine()
    time.sleep(0.8)
    world.start_engine()
    world.wait_until(lambda: bool(world.run(run).jobs[JobName("late")].attempts))
    world.kill_engine()
    time.sleep(0.6)
    world.start_engine()
    world.wait_until(lambda: world.run(run).finished)
    assert world.run(run).outcome == "succeeded"
    assert world.lines() == {"late": ["1", "2"]}
