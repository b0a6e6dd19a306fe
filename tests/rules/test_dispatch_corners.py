"""Corners of dispatch in which deliberate bugs (`docs/mutants.md`) were not noticed by its other sentences."""

import json
from collections.abc import Sequence
from datetime import timedelta

import pytest

from shared.decide.commands import CancelJob, RecordStopSent
from shared.decide.run import SECOND_LOOK_AFTER
from shared.effects import StopAttempt
from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.ports import Reference, Report
from shared.state.run import Doubted
from tests.rules.sentences import seconds
from tests.rules.test_dispatch import DOCUMENT, LOAD, RUN, START, Target, World


def test_a_person_who_wants_to_be_asked_is_not_answered_by_another_start() -> None:
    """I2."""
    document = json.loads(DOCUMENT)
    document["jobs"][0]["doubt"] = {"policy": "ask"}
    world = World(document=json.dumps(document).encode())
    world.in_doubt()
    for _ in range(3):
        assert isinstance(world.look(2 * SECOND_LOOK_AFTER, status="missing"), Doubted)
    assert len(world.target.started) == 1


def test_a_look_counts_from_when_it_began_however_long_it_takes() -> None:
    """Faults 27 and 59: what came to show while everything was looked through was not there to be found."""
    world = World()

    class Tedious(Target):
        def observe(self, references: Sequence[Reference]) -> list[Report]:
            world.now += 2 * SECOND_LOOK_AFTER
            return super().observe(references)

    world.in_doubt()
    tedious = Tedious()
    tedious.tells = {"status": "missing"}
    world.target.observe = tedious.observe  # type: ignore[method-assign]
    assert isinstance(world.look(SECOND_LOOK_AFTER - seconds(1), status="missing"), Doubted)
    assert len(world.target.started) == 1


@pytest.mark.parametrize("error", [TargetUnavailable, TargetSilent, TargetRefused])
def test_a_stop_that_the_target_did_not_take_is_not_recorded_as_sent(error: type[Exception]) -> None:
    """I12: it is asked for again within a minute, and not only when somebody flags it."""
    world = World()
    world.learn(world.dispatch.start(START))
    world.learn([(RUN, CancelJob(LOAD, "ada"))])

    def refuses(reference: Reference, *, grace_seconds: float) -> None:
        raise error("said the test")

    taken = world.target.stop
    world.target.stop = refuses  # type: ignore[method-assign]
    world.target.tells = {"status": "running", "handle": "c/s"}
    world.now += timedelta(minutes=1)
    assert world.dispatch.stop(StopAttempt(RUN, LOAD, 1)) == []
    world.target.stop = taken  # type: ignore[method-assign]
    assert world.dispatch.stop(StopAttempt(RUN, LOAD, 1)) == [(RUN, RecordStopSent(LOAD, 1))]
