"""What a process decides, stores and hands over while others write and stores fail: nothing that it refuses, or takes for done, rests on a state
that is old, nobody's commit is taken for one's own, and what leaves is what was stored. Faults 42 and 43.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from shared.decide.commands import CancelJob, CancelRun, RecordReport
from shared.effects import AdvanceRun, Effect
from shared.errors import StoreUnavailable
from shared.ids import JobName, RunId, WorkflowName, keyed_run, run_stream
from shared.state.run import Backoff
from shared.usecases.control import Control
from shared.usecases.transact import Rhythm, Transact
from tests.engine.fakes import Behaviour, Node, World, check_invariants, drive

SMALL = WorkflowName("small")
RUN = keyed_run(SMALL, "one")
STREAM = run_stream(RUN)
FOR_EVER = Behaviour(seconds=1e8)


def asked_for(node: Node, *jobs: str, **fields: Any) -> RunId:
    of_jobs = {"retry": fields.pop("retry")} if "retry" in fields else {}
    document = {
        "name": SMALL,
        "jobs": [{"name": name, "type": "ecs", "image": "x", **of_jobs} for name in jobs],
        **fields,
    }
    node.control.register(json.dumps(document).encode(), name="small.json", by="ann")
    return node.control.request_run(SMALL, {}, by="ann", key="one").run


def sent(node: Node) -> list[Effect]:
    return [effect for _, effect in node.queue.receive(1_000)]


def ended_and_reopened(*, cancelled: bool) -> tuple[World, Node]:
    """A process that knows of the end of a run, and not that another one reopened it."""
    world = World({"a": FOR_EVER if cancelled else Behaviour(seconds=1)})
    asks = [lambda node: asked_for(node, "a")]
    if cancelled:
        asks.append(lambda node: node.control.cancel(RUN, by="ann"))
    drive(world, asks)
    old = Node(world)
    assert old.transact.current(STREAM).state.outcome  # type: ignore[union-attr]
    Node(world).control.rerun(RUN, by="ann", jobs=[JobName("a")])
    return world, old


@pytest.mark.parametrize("cancelled", [False, True], ids=["it would be refused", "it would be nothing new"])
def test_a_person_is_answered_from_what_is_so_now(cancelled: bool) -> None:
    world, old = ended_and_reopened(cancelled=cancelled)
    old.transact(STREAM, CancelRun("bob"), by="bob", cause="test")
    cancel = world.runs()[RUN].cancel
    assert cancel is not None
    assert cancel.by == "bob"


def test_two_processes_with_the_same_cause_are_two() -> None:
    world = World({"a": FOR_EVER, "b": FOR_EVER})
    asked_for(Node(world), "a", "b")
    one, other = Node(world), Node(world)
    for node in (one, other):
        node.transact.current(STREAM)
    one.transact(STREAM, CancelJob(JobName("a"), "ann"), by="ann", cause="double click")
    other.transact(STREAM, CancelJob(JobName("b"), "ann"), by="ann", cause="double click")
    assert world.runs()[RUN].stopping == 2


def test_who_is_refused_in_a_batch_that_takes_several_commits_is_the_one_who_asked_for_it() -> None:
    world = World()
    first, *others = [f"j{number}" for number in range(1_000)]
    asked_for(Node(world), first, *others, parallelism=1)
    commands = [CancelJob(JobName(name), "ann") for name in (*others, "none")]
    decided = Node(world).transact.batch(STREAM, commands, by="ann", cause="test")
    assert list(decided.rejected) == [len(others)]
    assert dict(world.runs()[RUN].tally) == {"cancelled": len(others)}


def test_what_did_not_fit_a_commit_is_gone_on_with_at_once() -> None:
    world = World()
    node = Node(world)
    asked_for(node, *(f"j{number}" for number in range(700)), parallelism=1_000)
    assert world.runs()[RUN].active < 700
    assert AdvanceRun(RUN) in sent(node)


def test_nothing_is_handed_over_before_its_commit_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 44: what would be started is known to no event."""
    world = World()
    asked_for(Node(world), "a")
    node = Node(world, recovers=False)

    def throttled(_: object) -> None:
        raise StoreUnavailable("said the test")

    monkeypatch.setattr(world.store, "append", throttled)
    with pytest.raises(StoreUnavailable):
        node.transact(STREAM, CancelJob(JobName("a"), "ann"), by="ann", cause="test")
    assert sent(node) == []


def test_a_commit_is_never_earlier_than_the_one_before_it() -> None:
    """I9, fault 59."""
    world = World({"a": FOR_EVER})
    asked_for(Node(world), "a")
    world.clock.now -= timedelta(hours=1)
    Node(world).transact(STREAM, CancelJob(JobName("a"), "ann"), by="ann", cause="test")
    times = [record.at for record in world.store.read(STREAM)]
    assert times == sorted(times)
    check_invariants(world)


def test_a_run_that_goes_on_after_its_end_has_a_due_row_again() -> None:
    """I7: its row went with the end, however rarely runs are looked at."""
    world = World({"a": Behaviour(seconds=1)})
    drive(world, [lambda node: asked_for(node, "a")])
    assert world.dues.get(STREAM) is None
    node = Node(world)
    rhythm = Rhythm(every=timedelta(minutes=12), skew=timedelta(minutes=5))
    seldom = Transact(
        world.store, world.dues, world.loader(), node.queue, now=world.clock, new_id=world.new_id, rhythm=rhythm
    )
    Control(seldom, world.documents, new_id=world.new_id).rerun(RUN, by="ann", jobs=[JobName("a")])
    row = world.dues.get(STREAM)
    assert row is not None
    assert row <= world.clock.now + timedelta(minutes=18)


def test_a_message_that_is_to_come_back_is_never_delivered_before_its_time() -> None:
    """What comes a moment early is in vain, and the retry would wait for the sweep."""
    world = World({"a": Behaviour(seconds=1, exit_codes=(1, 0))})
    delays: list[float] = []

    class Timed:
        def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
            if AdvanceRun(RUN) in list(effects):
                delays.append(delay_seconds)

    asked_for(Node(world), "a", retry={"attempts": 2, "delay_seconds": 7, "jitter": 1})
    waits = Transact(
        world.store, world.dues, world.loader(), Timed(), now=world.clock, new_id=world.new_id, effects_wait=True
    )
    waits(STREAM, RecordReport(JobName("a"), 1, "failed", exit_code=1), by="test", cause="test")
    backoff = world.runs()[RUN].jobs[JobName("a")].phase
    assert isinstance(backoff, Backoff)
    waited = (backoff.retry_at - world.clock.now).total_seconds()
    assert not waited.is_integer()
    assert [delay >= waited for delay in delays] == [True]
