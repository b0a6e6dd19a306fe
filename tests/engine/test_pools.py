"""Pools in the real engine: real processes of several runs share a capacity, and whatever was lost comes back."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.engine import Engine
from local.home import Home
from shared.decide.commands import ReleasePlace, RequestPlace
from shared.ids import JobName, PoolName, RunId, pool_stream
from shared.state.pool import Place, PoolState
from shared.usecases.verify import verify
from tests.engine.test_engine import another_process, ask, finished, job, run_until, state_of

POOL = PoolName("warehouse")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def engine(home: Home) -> Iterator[Engine]:
    with Engine(home) as made:
        yield made


def pool_of(engine: Engine) -> PoolState:
    state = engine.parts.loader.load(pool_stream(POOL)).state
    assert isinstance(state, PoolState)
    return state


def overlapping(marks: Path) -> int:
    """The most that ran at one time: each job leaves the moments of its beginning and end."""
    moments: list[tuple[float, int]] = []
    for mark in marks.iterdir():
        begun, ended = (float(word) for word in mark.read_text().split())
        moments += [(begun, 1), (ended, -1)]
    most = now = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


def marking(marks: Path, name: str) -> str:
    return f"b=$(date +%s.%N); sleep 0.1; echo $b $(date +%s.%N) > {marks}/{name}"


def test_jobs_of_several_runs_share_a_pool_and_leave_it_empty(engine: Engine, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    engine.parts.control.set_pool(POOL, 2, by="ann")
    runs = [
        ask(
            engine.parts,
            *(job(f"j{one}", marking(marks, f"{name}-{one}"), pool=POOL) for one in range(4)),
            name=name,
        )
        for name in ("shop", "till")
    ]
    run_until(engine, finished(engine, *runs))
    assert all(state_of(engine.parts, run).outcome == "succeeded" for run in runs)
    assert overlapping(marks) == 2
    run_until(engine, lambda: pool_of(engine).used == 0 and not pool_of(engine).awaited)
    assert not list(verify(engine.parts.store, engine.parts.plans, now=state_of(engine.parts, runs[0]).at))


def test_a_capacity_that_another_process_sets_is_heard_of_at_once(engine: Engine, home: Home) -> None:
    engine.parts.control.set_pool(POOL, 0, by="ann")
    run = ask(engine.parts, job("a", "true", pool=POOL))
    run_until(engine, lambda: pool_of(engine).awaited)
    with another_process(home) as parts:
        assert parts.control.set_pool(POOL, 1, by="ben")
        assert not parts.control.set_pool(POOL, 1, by="ben")
    run_until(engine, finished(engine, run))


def test_what_is_granted_to_nobody_is_found_at_the_next_start_and_given_back(home: Home) -> None:
    """A lost release: the pool asks the runs themselves. Fault 4."""
    with Engine(home) as engine:
        ghost = Place(RunId("gone@1"), JobName("a"), 1, 1)
        request = RequestPlace(POOL, ghost, 1, 0, engine.parts.loader.load(pool_stream(POOL)).at or _now())
        engine.parts.transact(pool_stream(POOL), request, by="test", cause="test")
        assert pool_of(engine).used == 1
    with Engine(home) as engine:
        run = ask(engine.parts, job("a", "true", pool=POOL))
        run_until(engine, finished(engine, run))
        run_until(engine, lambda: pool_of(engine).used == 0)


def test_a_lost_grant_is_told_again_at_the_next_start(home: Home) -> None:
    with Engine(home) as engine:
        engine.parts.control.set_pool(POOL, 1, by="ann")
        other = Place(RunId("gone@1"), JobName("a"), 1, 1)
        engine.parts.transact(pool_stream(POOL), RequestPlace(POOL, other, 1, 0, _now()), by="test", cause="test")
    with another_process(home) as parts:
        run = ask(parts, job("a", "true", pool=POOL))
        mine = Place(run, JobName("a"), 1, 1)
        parts.transact(pool_stream(POOL), RequestPlace(POOL, mine, 1, 0, _now()), by="test", cause="test")
        # Granted here, and nobody tells the run.
        parts.transact(pool_stream(POOL), ReleasePlace(other), by="test", cause="test")
    with Engine(home) as engine:
        assert mine in pool_of(engine).held
        run_until(engine, finished(engine, run))


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
