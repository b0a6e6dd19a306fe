"""Backfills with everything around them: what is lost is repaired, who meets does not run an instant twice, and no crash leaves anything behind.

Everything here runs on a clock that only the test moves.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from shared.effects import CancelBackfilled, ContinueBackfill, Effect, OpenRun, TellBackfill
from shared.errors import InvalidInput, NotFound, Rejected
from shared.events import RunRequested
from shared.ids import BackfillId, RunId, WorkflowName, backfill_stream, instant_run, keyed_backfill, scheduled_run
from shared.state.backfill import BackfillState, request_of
from shared.usecases.backfills import rehearse
from shared.usecases.loading import Loader, PlanCache
from tests.engine.fakes import NOON, Behaviour, Node, World, check_executions, check_invariants, drive

NIGHTLY = WorkflowName("nightly")
Ask = Callable[[Node], None]


def register(**fields: Any) -> Ask:
    job = {"name": "load", "type": "ecs", "image": "x"}
    document = json.dumps({"name": NIGHTLY, "jobs": [job], "schedule": {"cron": "0 0 * * *"}, **fields}).encode()

    def ask(node: Node) -> None:
        node.control.register(document, name="nightly.json", by="ann")

    return ask


def day(number: int) -> datetime:
    """Midnight, so many days before today."""
    return NOON.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=number)


def request(first: int = 4, last: int = 1, *, key: str = "one", **fields: Any) -> Ask:
    """The midnights from `first` to `last` days before today."""

    def ask(node: Node) -> None:
        node.control.request_backfill(
            NIGHTLY,
            day(first).isoformat(),
            (day(last) + timedelta(hours=1)).isoformat(),
            by="ann",
            key=key,
            now=node.world.clock.now,
            **fields,
        )

    return ask


def cancel(node: Node, key: str = "one") -> None:
    try:
        node.control.cancel_backfill(keyed_backfill(NIGHTLY, key), by="bob", reason="the wrong range")
    except Rejected:
        # It had finished.
        return


def run_now(node: Node) -> None:
    node.control.request_run(NIGHTLY, {}, by="ann", key="by hand")


def backfill_in(world: World, key: str = "one") -> BackfillState:
    loader = Loader(world.store, PlanCache(world.documents))
    state = loader.load(backfill_stream(keyed_backfill(NIGHTLY, key))).state
    assert isinstance(state, BackfillState)
    return state


def ended(world: World, *keys: str) -> bool:
    return all(backfill_in(world, key).outcome is not None for key in keys or ("one",))


def settled(world: World) -> bool:
    """Nothing that is asked for goes on; the schedule, paused or not, is not waited for."""
    keys = list(world.store.streams("backfill"))
    loader = Loader(world.store, PlanCache(world.documents))
    states = [loader.load(stream).state for stream in keys]
    over = all(isinstance(state, BackfillState) and state.outcome is not None for state in states)
    return bool(states) and over and all(run.finished for run in world.runs().values())


def most_active(world: World) -> int:
    """How many runs of the backfill were under way at once, by the runs' own histories."""
    moments: list[tuple[datetime, int]] = []
    for state in world.runs().values():
        if state.request.backfill is not None:
            moments.append((state.requested_at, 1))
            if state.finished_at is not None:
                moments.append((state.finished_at, -1))
    # Ends first: a run that begins at the very moment when another ends begins after it.
    active, most = 0, 0
    for _, change in sorted(moments):
        active += change
        most = max(most, active)
    return most


def test_a_backfill_runs_every_instant_once_and_never_more_at_once_than_it_may() -> None:
    world = World()
    drive(world, [register(), request(8, 1, max_active=2)], until=settled)
    state = backfill_in(world)
    assert (state.outcome, state.succeeded) == ("succeeded", 8)
    assert most_active(world) == 2
    assert sorted(world.runs()) == sorted(scheduled_run(NIGHTLY, day(number)) for number in range(1, 9))
    check_executions(world)
    check_invariants(world)


def test_a_paused_workflow_is_backfilled_and_its_limit_counts_the_schedules_runs_alone() -> None:
    world = World()

    def pause(node: Node) -> None:
        node.control.pause(NIGHTLY, by="ann")

    limited = register(overlap="queue", max_active_runs=1)
    node = drive(world, [limited, pause, request(3, 1, max_active=3)], until=lambda _: len(world.runs()) == 3)
    assert len(backfill_in(world).active) == 3
    run_now(node)
    node.turn()
    assert len(world.runs()) == 4, "a run that a person asks for is not kept waiting by those of a backfill"


@pytest.mark.parametrize("lost", [ContinueBackfill, OpenRun, TellBackfill])
def test_whatever_message_is_lost_the_sweep_goes_on(lost: type[Effect]) -> None:
    """Each kind of message is lost every time it is not sent by a sweep's look."""
    world = World()
    sent = Counter[str]()

    def loses(effect: Effect) -> bool:
        sent[type(effect).__name__] += 1
        return isinstance(effect, lost) and sent[type(effect).__name__] % 2 == 1

    drive(world, [register(), request(3, 1)], make=partial(Node, loses=loses), until=settled)
    assert sent[lost.__name__] >= 3
    assert backfill_in(world).succeeded == 3
    check_executions(world)
    check_invariants(world)


def test_every_end_that_is_lost_is_found_in_the_runs_own_streams() -> None:
    world = World()
    make = partial(Node, loses=lambda effect: isinstance(effect, TellBackfill))
    begun = world.clock.now
    drive(world, [register(), request(3, 1)], make=make, until=settled)
    assert backfill_in(world).succeeded == 3
    assert world.clock.now - begun < timedelta(minutes=20), "a look every five minutes, for each of three"
    check_invariants(world)


def test_every_message_twice_runs_every_instant_once() -> None:
    world = World()
    drive(world, [register(), request(5, 1, max_active=3)], make=partial(Node, copies=2), until=settled)
    assert backfill_in(world).succeeded == 5
    assert len(world.runs()) == 5
    check_executions(world)
    check_invariants(world)


def test_two_backfills_of_the_same_instants_run_none_of_them_twice_at_once() -> None:
    world = World()
    asks = [register(), request(4, 1, key="one", max_active=4), request(4, 1, key="two", max_active=4, order="newest")]
    drive(world, asks, until=settled)
    one, two = backfill_in(world, "one"), backfill_in(world, "two")
    assert one.succeeded + two.succeeded == 4
    assert one.skipped + two.skipped == 4
    assert len(world.runs()) == 4
    check_executions(world)
    check_invariants(world)


def test_who_asks_for_the_same_run_at_the_same_moment_is_told_that_it_was_taken() -> None:
    world = World()
    # Nothing that is decided is carried out, so each sees that there is no run.
    deaf = Node(world, loses=lambda _: True)
    register()(deaf)
    for key in ("one", "two"):
        request(1, 1, key=key)(deaf)
        deaf.admission(ContinueBackfill(keyed_backfill(NIGHTLY, key)))
    drive(world, [], until=settled)
    seen = [next(iter(backfill_in(world, key).instants.values())).status for key in ("one", "two")]
    assert sorted(seen) == ["succeeded", "taken"]
    assert list(world.runs()) == [scheduled_run(NIGHTLY, day(1))]
    check_executions(world)
    check_invariants(world)


def test_catching_up_does_not_run_again_what_a_backfill_ran() -> None:
    """The schedule asks for the very run that the backfill had asked for."""
    world = World()
    node = Node(world)
    register(schedule={"cron": "0 0 * * *", "catchup": "all"}, overlap="queue")(node)
    node.control.pause(NIGHTLY, by="ann")
    world.clock.now = day(-3) + timedelta(hours=1)
    drive(world, [request(-1, -2)], until=settled)
    drive(
        world,
        [lambda node: node.control.resume(NIGHTLY, by="ann")],
        until=lambda _: len(world.runs()) == 3 and settled(world),
    )
    assert sorted(world.runs()) == [scheduled_run(NIGHTLY, day(number)) for number in (-1, -2, -3)]
    triggers = [run.request.trigger for _, run in sorted(world.runs().items())]
    assert triggers == ["backfill", "backfill", "schedule"]
    check_executions(world)


def test_a_cancellation_ends_what_is_active_and_begins_nothing_more() -> None:
    world = World({"load": Behaviour(seconds=3_600)})
    drive(world, [register(), request(5, 1, max_active=2), cancel], until=settled)
    state = backfill_in(world)
    assert state.outcome == "cancelled"
    assert len(world.runs()) == state.succeeded + state.cancelled <= 2
    check_executions(world)
    check_invariants(world)


def deaf_admissions(world: World, *keys: str) -> None:
    """Backfills that have let their first runs in, with every message of that lost."""
    deaf = Node(world, loses=lambda _: True)
    register()(deaf)
    for key in keys:
        request(2, 1, key=key, max_active=2)(deaf)
        deaf.admission(ContinueBackfill(keyed_backfill(NIGHTLY, key)))


def test_a_run_whose_begin_is_still_on_its_way_is_cancelled_all_the_same() -> None:
    """The message that begins it comes after the one that cancels it."""
    world = World()
    deaf_admissions(world, "one")
    backfill = keyed_backfill(NIGHTLY, "one")
    requests = [_request_of(world, run) for run in sorted(backfill_in(world).active)]
    node = Node(world, loses=lambda _: True, recovers=False)
    cancel(node)
    for one in requests:
        node.admission(CancelBackfilled(backfill, one))
        node.admission(OpenRun(one))
    assert [run.cancel is not None for run in world.runs().values()] == [True, True]
    drive(world, [], until=settled)
    assert {run.outcome for run in world.runs().values()} == {"cancelled"}
    assert world.targets.executions == {}
    assert backfill_in(world).cancelled == 2
    check_invariants(world)


def test_who_comes_second_hears_at_once_that_the_run_was_taken() -> None:
    world = World()
    deaf_admissions(world, "one", "two")
    node = Node(world, loses=lambda _: True, recovers=False)
    for key in ("one", "two"):
        for run in sorted(backfill_in(world, key).active):
            node.admission(OpenRun(_request_of(world, run, key)))
    assert len(backfill_in(world, "one").active) == 2
    assert {one.status for one in backfill_in(world, "two").instants.values()} == {"taken"}


def _request_of(world: World, run: RunId, key: str = "one") -> RunRequested:
    state = backfill_in(world, key)
    return request_of(state, state.active[run].event)


def test_runs_that_failed_are_run_again_as_the_next_run_of_their_instant() -> None:
    behaviours = {"load": Behaviour(exit_codes=(1,))}
    world = World(behaviours)
    drive(world, [register(), request(2, 1)], until=settled)
    assert backfill_in(world).failed == 2
    behaviours["load"] = Behaviour()
    drive(world, [request(3, 1, key="two", which="failed")], until=settled)
    two = backfill_in(world, "two")
    assert (two.succeeded, two.skipped) == (2, 1)
    assert instant_run(NIGHTLY, day(2), 2) in world.runs()
    check_invariants(world)


def test_a_rehearsal_tells_what_would_be_run_and_writes_nothing() -> None:
    world = World()
    node = drive(world, [register(), request(2, 2)], until=settled)
    before = world.store.position()
    loader = Loader(world.store, PlanCache(world.documents))
    told = rehearse(
        loader,
        loader.workflow(NIGHTLY),
        day(4).date().isoformat(),
        day(0).date().isoformat(),
        order="oldest",
        which="missing",
        max_active=1,
        now=world.clock.now,
    )
    assert (told.range.count, told.looked, told.to_run) == (4, 4, 3)
    assert told.runs == {"none": 3, "succeeded": 1}
    assert world.store.position() == before
    assert node is not None


def test_what_cannot_be_asked_for_is_refused_with_every_problem_and_writes_nothing() -> None:
    world = World()
    node = Node(world)
    register()(node)
    before = world.store.position()
    ask = partial(node.control.request_backfill, NIGHTLY, by="ann", now=world.clock.now)
    with pytest.raises(InvalidInput) as raised:
        ask("yesterday", "20260101")
    assert [problem.path for problem in raised.value.problems] == ["from", "until"]
    with pytest.raises(InvalidInput):
        ask(day(2).isoformat(), day(1).isoformat(), parameters={"unknown": 1})
    with pytest.raises(NotFound):
        node.control.pause_backfill(BackfillId("nightly@b1"), by="ann")
    with pytest.raises(NotFound):
        node.control.pause_backfill(BackfillId("no such@thing"), by="ann")
    assert world.store.position() == before


def test_an_end_that_never_was_is_not_believed() -> None:
    """A message may come from before a restore: it tells of an end that was lost, and the run is active."""
    world = World({"load": Behaviour(seconds=3_600)})
    node = Node(world)
    register()(node)
    request(2, 1)(node)
    node.turn()
    (active,) = backfill_in(world).active
    node.admission(TellBackfill(keyed_backfill(NIGHTLY, "one"), active))
    assert list(backfill_in(world).active) == [active]


def test_the_same_key_asks_once() -> None:
    world = World()
    node = Node(world)
    register()(node)
    request()(node)
    before = world.store.position()
    request()(node)
    assert world.store.position() == before


# --- crashes at every point -------------------------------------------------------------------------------------------


ASKS: dict[str, list[Ask]] = {
    "runs": [register(), request(3, 1, max_active=2)],
    "cancelled": [register(), request(4, 1, max_active=2), cancel],
}


@pytest.mark.parametrize("recovers", [True, False], ids=["start refills", "sweep alone"])
@pytest.mark.parametrize("name", ASKS)
def test_a_backfill_that_crashes_anywhere_ends_as_it_should(name: str, recovers: bool) -> None:
    """Faults 1 and 4: the process ends before and after every call of a port."""
    whole = World()
    drive(whole, ASKS[name], make=partial(Node, recovers=recovers), until=settled)
    for point in range(1, whole.points.count + 1):
        world = World()
        world.points.crash_at = frozenset({point})
        drive(world, ASKS[name], make=partial(Node, recovers=recovers), until=settled)
        state = backfill_in(world)
        assert most_active(world) <= 2, point
        if name == "runs":
            assert (state.outcome, state.succeeded, len(world.runs())) == ("succeeded", 3, 3), point
        else:
            assert state.outcome in ("cancelled", "succeeded"), point
            assert state.settled == len(world.runs()) <= 4, point
        check_executions(world)
        check_invariants(world)
