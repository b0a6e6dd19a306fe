"""What the engine makes durable together: an end that could not be stored is stored later, and nothing is started of which the file does not know."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from local.engine import Engine
from local.home import Home
from shared.effects import Effect, StartAttempt
from shared.errors import StoreUnavailable
from shared.ids import run_stream
from shared.state.run import Run
from tests.engine.test_engine import another_process, ask, engine, finished, home, job, run_until, state_of

__all__ = ["engine", "home"]


def test_an_end_that_could_not_be_stored_is_stored_when_it_can_be(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 44: nobody tells it a second time, and looking comes minutes later."""
    run = ask(engine.parts, job("a", "true"))
    batch = engine.parts.store.batch
    refused: list[str] = []

    @contextmanager
    def refuses_the_end_once() -> Iterator[None]:
        with batch():
            yield
            if not refused and state_of(engine.parts, run).finished:
                refused.append("the disk is full for a moment")
                raise StoreUnavailable(refused[0])

    monkeypatch.setattr(engine.parts.store, "batch", refuses_the_end_once)
    run_until(engine, finished(engine, run))
    assert refused
    assert state_of(engine.parts, run).outcome == "succeeded"


def test_an_effect_leaves_when_its_commit_is_durable(
    engine: Engine, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 1 and 58, I11: whoever takes over reads of everything that was started."""
    send = engine._queue.send
    known: list[bool] = []
    with another_process(home) as other:

        def watched(effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
            sent = list(effects)
            for effect in sent:
                if isinstance(effect, StartAttempt):
                    state = other.loader.load(run_stream(effect.run)).state
                    known.append(effect.attempt in _begun(state, effect))
            send(sent, delay_seconds=delay_seconds)

        monkeypatch.setattr(engine._queue, "send", watched)
        run = ask(engine.parts, job("a", "true"), job("b", "true", "a"))
        run_until(engine, finished(engine, run))
    assert len(known) >= 2
    assert all(known)


def _begun(state: object, effect: StartAttempt) -> set[int]:
    if not isinstance(state, Run):
        return set()
    job_state = state.jobs[effect.job]
    under_way = getattr(job_state.phase, "attempt", 0)
    return {under_way, *(one.attempt for one in job_state.attempts)}
