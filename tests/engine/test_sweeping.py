"""A sweep that somebody interferes with between any two of its steps: rows are moved and removed only from where they were read, and only when what they
stand for is done. I7, faults 42 and 58.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from shared.decide.commands import CancelJob, RecordReport
from shared.effects import Effect, ObserveAttempt, StartAttempt
from shared.errors import StoreUnavailable
from shared.ids import Handle, JobName
from shared.usecases.loading import Loaded
from shared.usecases.sweep import Sweep
from tests.engine.fakes import Behaviour, Node, World, drive
from tests.engine.test_deciding import FOR_EVER, RUN, STREAM, asked_for

A = JobName("a")


class Interfering:
    """A queue of effects at which somebody else does something, or that takes nothing."""

    def __init__(self, meanwhile: Any) -> None:
        self.taken: list[Effect] = []
        self._meanwhile = meanwhile

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        self._meanwhile()
        self.taken += effects


def sweep_of(node: Node, *, effects: Any = None, settle: Any = None) -> Sweep:
    world = node.world
    return Sweep(node.transact, world.dues, effects or node.queue, settle or node.settle, now=world.clock)


def due(world: World) -> Any:
    """Moves the clock to the row of the run."""
    row = world.dues.get(STREAM)
    assert row is not None
    world.clock.now = row
    return row


def nothing() -> None:
    return None


def test_a_row_that_was_lowered_while_effects_were_handed_over_is_not_raised() -> None:
    world = World({"a": FOR_EVER})
    drive(world, [lambda node: asked_for(node, "a")], until=lambda world: bool(world.targets.executions))
    due(world)
    writer = Node(world)
    cancel = CancelJob(A, "ann")
    meddling = Interfering(lambda: writer.transact(STREAM, cancel, by="ann", cause="test"))
    sweep_of(Node(world), effects=meddling)()
    lowered = world.dues.get(STREAM)
    assert lowered is not None
    assert lowered <= world.clock.now + timedelta(seconds=60)


def test_a_run_that_is_reopened_while_its_end_is_settled_keeps_its_row() -> None:
    world = World({"a": Behaviour(seconds=1)})
    drive(
        world,
        [lambda node: asked_for(node, "a")],
        until=lambda world: bool(world.runs()) and world.runs()[RUN].finished,
    )
    due(world)
    writer = Node(world)

    def reopened(loaded: Loaded) -> None:
        if loaded.stream == STREAM:
            writer.control.rerun(RUN, by="ann", jobs=[A])

    sweep_of(Node(world), settle=reopened)()
    assert not world.runs()[RUN].finished
    assert world.dues.get(STREAM) is not None


def test_a_row_stays_where_it_is_when_nothing_could_be_handed_over() -> None:
    """Fault 58: whoever sweeps next finds it."""
    world = World()
    asked_for(Node(world), "a")
    row = due(world)

    def refuses() -> None:
        raise StoreUnavailable("said the test")

    with pytest.raises(StoreUnavailable):
        sweep_of(Node(world), effects=Interfering(refuses))()
    assert world.dues.get(STREAM) == row
    found = Interfering(nothing)
    sweep_of(Node(world), effects=found)()
    assert StartAttempt(RUN, A, 1) in found.taken


def test_a_sweep_looks_at_what_is_stored_and_not_at_what_its_process_remembers() -> None:
    world = World({"a": FOR_EVER})
    asked_for(Node(world), "a")
    old = Node(world)
    old.transact.current(STREAM)
    Node(world).transact(STREAM, RecordReport(A, 1, "running", Handle("h1")), by="other", cause="test")
    due(world)
    found = Interfering(nothing)
    sweep_of(old, effects=found)()
    assert StartAttempt(RUN, A, 1) not in found.taken


def test_a_stream_that_cannot_be_settled_waits_its_turn_behind_the_others() -> None:
    """Fault 48: rows that stay first would fill every page."""
    world = World({"a": Behaviour(seconds=1)})
    drive(
        world,
        [lambda node: asked_for(node, "a")],
        until=lambda world: bool(world.runs()) and world.runs()[RUN].finished,
    )
    row = due(world)

    def fails(_: Loaded) -> None:
        raise ValueError("said the test")

    sweep = sweep_of(Node(world), settle=fails)
    sweep()
    moved = world.dues.get(STREAM)
    assert moved is not None
    assert moved > row
    assert STREAM in sweep.refused


def test_a_sweep_that_comes_late_asks_the_targets_whose_moment_has_passed() -> None:
    """Faults 21 and 34: an end that nobody tells is found by looking."""
    world = World({"a": FOR_EVER})
    drive(world, [lambda node: asked_for(node, "a")], until=lambda world: bool(world.targets.executions))
    asked: list[Effect] = []
    for _ in range(3):
        due(world)
        world.clock.now += timedelta(seconds=5)
        found = Interfering(nothing)
        sweep_of(Node(world), effects=found)()
        asked += found.taken
    assert ObserveAttempt(RUN, A, 1) in asked
