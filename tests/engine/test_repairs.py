"""What is lost is repaired within a bounded time, what comes twice changes nothing, and writers who meet do not undo each other.

Everything here runs on a clock that only the test moves.
"""

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from shared.codec import record_of
from shared.decide.commands import CancelJob
from shared.effects import Effect, TellWorkflow
from shared.errors import Rejected, UnknownEvents
from shared.events import UnknownEvent
from shared.ids import CommitId, JobName, RunId, StreamName, WorkflowName, keyed_run, run_stream
from shared.ports import FIRST_HASH
from tests.engine.fakes import NOON, Behaviour, Node, World, check_executions, check_invariants, drive, ends


def job(name: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs", "image": "x", "after": list(after), **fields}


def register(*jobs: dict[str, Any], name: str = "small", **fields: Any) -> Callable[[Node], None]:
    document = json.dumps({"name": name, "jobs": list(jobs), **fields}).encode()

    def ask(node: Node) -> None:
        node.control.register(document, name="small.json", by="ann")

    return ask


def request(key: str = "one", *, name: str = "small") -> Callable[[Node], None]:
    def ask(node: Node) -> None:
        node.control.request_run(WorkflowName(name), {}, by="ann", key=key)

    return ask


def run_of(key: str = "one", *, name: str = "small") -> RunId:
    return keyed_run(WorkflowName(name), key)


DIAMOND = register(job("a"), job("b", "a"), job("c", "a"), job("d", "b", "c"))


def outcomes(world: World) -> list[str | None]:
    return [state.outcome for _, state in sorted(world.runs().items())]


# --- lost and repeated ----------------------------------------------------------------------------------------------------


def test_effects_that_are_lost_after_every_commit_are_handed_over_by_the_sweep_within_a_minute_each() -> None:
    world = World()
    seen: set[Effect] = set()

    def lost_once(effect: Effect) -> bool:
        first = effect not in seen
        seen.add(effect)
        return first

    drive(world, [DIAMOND, request()], make=lambda world: Node(world, loses=lost_once))
    assert outcomes(world) == ["succeeded"]
    finished_at = world.runs()[run_of()].finished_at
    assert finished_at is not None
    # Three layers, each found by the sweep a minute after it was queued, and ten seconds of work.
    assert finished_at - NOON <= timedelta(seconds=3 * (60 + 10) + 2)
    check_executions(world)
    check_invariants(world)


def test_an_end_that_nobody_tells_is_found_by_looking() -> None:
    """Fault 34."""
    world = World({"a": Behaviour(seconds=100)})
    world.targets.news = list  # type: ignore[method-assign]
    drive(world, [register(job("a")), request()])
    finished_at = world.runs()[run_of()].finished_at
    assert finished_at is not None
    assert finished_at - NOON <= timedelta(seconds=601)


@pytest.mark.parametrize("takes_token", [True, False], ids=["with token", "without token"])
def test_every_effect_may_come_three_times(takes_token: bool) -> None:
    """Faults 14 and 32."""
    asks = [register(job("a", retry={"attempts": 2}), job("b", "a"), overlap="queue"), request("one"), request("two")]
    worlds = []
    for copies in (1, 3):
        world = World({"a": Behaviour(exit_codes=(1, 0))}, takes_token=takes_token, runs_at_once=takes_token)
        drive(world, asks, make=partial(Node, copies=copies))
        check_executions(world)
        check_invariants(world)
        worlds.append(world)
    assert ends(worlds[0]) == ends(worlds[1])
    assert outcomes(worlds[1]) == ["succeeded", "succeeded"]


def test_an_end_that_its_workflow_never_heard_of_blocks_it_for_minutes_and_not_for_ever() -> None:
    world = World()
    asks = [register(job("a"), overlap="queue"), request("one"), request("two")]
    drive(world, asks, make=lambda world: Node(world, loses=lambda effect: isinstance(effect, TellWorkflow)))
    assert outcomes(world) == ["succeeded", "succeeded"]
    second = world.runs()[run_of("two")]
    assert second.requested_at - NOON <= timedelta(seconds=2 + 300 + 60)


def test_a_process_may_end_at_any_two_instants() -> None:
    """Fault 58."""
    asks = [DIAMOND, request()]
    whole = World()
    drive(whole, asks)
    randomness = random.Random(58)
    for _ in range(150):
        world = World()
        world.points.crash_at = frozenset(randomness.sample(range(1, whole.points.count * 2), 4))
        drive(world, asks)
        assert ends(world) == ends(whole), sorted(world.points.crash_at)
        check_executions(world)
        check_invariants(world)


def test_a_retry_without_delay_does_not_wait_for_anything() -> None:
    world = World({"a": Behaviour(seconds=1, exit_codes=(1, 0))})
    drive(world, [register(job("a", retry={"attempts": 2, "delay_seconds": 0})), request()])
    assert outcomes(world) == ["succeeded"]
    finished_at = world.runs()[run_of()].finished_at
    assert finished_at is not None
    assert finished_at - NOON <= timedelta(seconds=4)


# --- writers who meet -----------------------------------------------------------------------------------------------------


def test_a_row_is_never_raised_over_a_commit_that_the_sweep_did_not_see() -> None:
    """A sweep loads a stream; before it raises the row, somebody commits what is due earlier."""
    world = World({"a": Behaviour(seconds=1e8)})
    drive(
        world, [register(job("a", stop_grace_seconds=1)), request()], until=lambda world: bool(world.targets.executions)
    )
    sweeper, writer = Node(world), Node(world)
    raise_to = world.dues.raise_to

    def commit_first(stream: StreamName, *, seen: datetime, at: datetime) -> bool:
        world.dues.raise_to = raise_to  # type: ignore[method-assign]
        writer.transact(stream, CancelJob(JobName("a"), "ann"), by="ann", cause="test")
        return raise_to(stream, seen=seen, at=at)

    row = world.dues.get(run_stream(run_of()))
    assert row is not None
    world.clock.now = row
    world.dues.raise_to = commit_first  # type: ignore[method-assign]
    sweeper.sweep()
    lowered = world.dues.get(run_stream(run_of()))
    assert lowered is not None
    # A stop that is lost must be handed over again within a minute, whatever the sweep believed.
    assert lowered <= world.clock.now + timedelta(seconds=60)


def test_a_row_that_was_swept_away_before_its_first_commit_is_written_again() -> None:
    world = World()
    drive(world, [register(job("a"))])
    writer, sweeper = Node(world), Node(world)
    append = world.store.append

    def swept_first(record: Any) -> None:
        world.store.append = append  # type: ignore[method-assign]
        now, world.clock.now = world.clock.now, world.clock.now + timedelta(seconds=61)
        sweeper.sweep()
        world.clock.now = now
        append(record)

    world.store.append = swept_first  # type: ignore[method-assign]
    request()(writer)
    assert world.dues.get(run_stream(run_of())) is not None


def test_a_row_that_went_with_an_end_and_came_back_later_is_not_taken_for_the_old_one() -> None:
    """One process remembers a run's row; meanwhile the run ends, its row goes at once, and somebody reopens it."""
    world = World({"a": Behaviour(seconds=10)})
    remembers = Node(world)
    register(job("a"))(remembers)
    request()(remembers)
    stream = run_stream(run_of())
    row = world.dues.get(stream)
    assert row is not None
    drive(world, [], until=lambda world: world.runs()[run_of()].finished)
    # As the engine of one machine does, long before the row is due.
    assert world.dues.remove(stream, seen=row)
    Node(world).control.rerun(run_of(), by="ann", jobs=[JobName("a")])
    there = world.dues.get(stream)
    assert there is not None
    assert there > row
    world.dues.raise_to(stream, seen=there, at=there + timedelta(hours=1))
    remembers.transact(stream, CancelJob(JobName("a"), "bob"), by="bob", cause="test")
    lowered = world.dues.get(stream)
    assert lowered is not None
    assert lowered <= world.clock.now + timedelta(seconds=60)


def test_two_processes_that_decide_on_the_same_state_both_get_their_way() -> None:
    """Fault 42."""
    world = World({"a": Behaviour(seconds=1e8), "b": Behaviour(seconds=1e8)})
    drive(world, [register(job("a"), job("b")), request()], until=lambda world: len(world.targets.executions) == 2)
    one, other = Node(world), Node(world)
    one.control.cancel(run_of(), by="ann", job=JobName("a"))
    # This one still holds the state from before.
    other.control.cancel(run_of(), by="bob", job=JobName("b"))
    state = world.runs()[run_of()]
    assert state.stopping == 2


@pytest.mark.parametrize("seed", range(30))
def test_a_person_who_meddles_at_any_moment_leaves_a_run_that_ends(seed: int) -> None:
    """Fault 56."""
    randomness = random.Random(seed)
    world = World({"b": Behaviour(seconds=30, exit_codes=(1, 0))}, takes_token=bool(seed % 2))
    person: list[Node] = []

    def meddle(node: Node) -> None:
        # A process of its own, whose states are as old as its last look.
        other = person[0] if person and randomness.random() < 0.5 else Node(world)
        person[:] = [other]
        name = JobName(randomness.choice("abcd"))
        try:
            match randomness.randrange(4):
                case 0:
                    other.control.cancel(run_of(), by="ann", job=name)
                case 1:
                    other.control.mark(run_of(), name, "succeeded", by="ann", reason="I know")
                case 2:
                    other.control.rerun(run_of(), by="ann", failed=True)
                case _:
                    other.control.cancel(run_of(), by="ann")
        except Rejected:
            return

    drive(world, [DIAMOND, request(), *[meddle] * 6])
    assert outcomes(world) != [None]
    check_executions(world)
    check_invariants(world)


# --- what one stream must not do to others ------------------------------------------------------------------------------------


def test_a_stream_of_a_newer_release_is_left_alone_and_the_others_go_on() -> None:
    """Fault 48."""
    world = World()
    strange = run_stream(RunId("strange@1"))
    event = UnknownEvent(type="RunTeleported", fields={})
    world.store.append(
        record_of(
            strange,
            version=1,
            commit_id=CommitId("c"),
            at=NOON,
            by="newer",
            cause="",
            previous_hash=FIRST_HASH,
            events=[event],
        )
    )
    world.dues.lower(strange, NOON)
    nodes: list[Node] = []

    def make(world: World) -> Node:
        nodes.append(Node(world))
        return nodes[-1]

    asks = [register(job("a")), request()]
    store = world.store
    drive(world, asks, make=make, until=lambda _: len(store.read(run_stream(run_of()))) > 1 and not_alive(world))
    assert "RunTeleported" in nodes[0].sweep.refused[strange]
    with pytest.raises(UnknownEvents):
        nodes[0].transact.current(strange)
    assert len(world.store.read(strange)) == 1
    # It is looked at every minute, not all the time.
    row = world.dues.get(strange)
    assert row is not None
    assert world.clock.now < row <= world.clock.now + timedelta(seconds=60)


def not_alive(world: World) -> bool:
    return world.dues.get(run_stream(run_of())) is None


def test_a_clock_that_is_set_back_an_hour_breaks_nothing() -> None:
    """Faults 36 and 59."""
    world = World({"a": Behaviour(seconds=5)})

    def set_back(node: Node) -> None:
        assert node.world.runs()[run_of()].jobs[JobName("a")].is_open
        world.clock.now -= timedelta(hours=1)
        for execution in world.targets.executions.values():
            execution.started_at -= timedelta(hours=1)
            execution.ends_at -= timedelta(hours=1)

    drive(world, [register(job("a"), job("b", "a")), request(), set_back])
    assert outcomes(world) == ["succeeded"]
    times = [record.at for record in world.store.read(run_stream(run_of()))]
    assert times == sorted(times)
    check_executions(world)
    check_invariants(world)


# --- schedules and admission --------------------------------------------------------------------------------------------------


def scheduled(seconds: int, *, behaviour_seconds: float = 1.0, **fields: Any) -> World:
    """Run a workflow that is due every second for so long, and let what is under way or waits end."""
    world = World({"a": Behaviour(seconds=behaviour_seconds)})
    rule = {"rate": "1 second", "end": (NOON + timedelta(seconds=seconds)).isoformat()}
    drive(world, [register(job("a"), schedule=rule, **fields)])
    return world


def test_a_schedule_of_every_second_makes_one_run_of_every_second() -> None:
    """I6."""
    world = scheduled(20)
    instants = sorted(state.request.scheduled_at for state in world.runs().values() if state.request.scheduled_at)
    assert len(instants) >= 20
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in pairwise(instants))
    assert set(outcomes(world)) == {"succeeded"}


def most_at_once(world: World) -> int:
    moments = [(run.started_at, run.finished_at) for run in world.runs().values() if run.started_at and run.finished_at]
    return max(sum(begin <= at < end for begin, end in moments) for at, _ in moments)


def test_overlap_queue_runs_one_after_the_other_and_drops_none() -> None:
    """Fault 40."""
    world = scheduled(10, behaviour_seconds=3, overlap="queue")
    assert most_at_once(world) == 1
    assert len(world.runs()) >= 10
    assert set(outcomes(world)) == {"succeeded"}


def test_overlap_skip_runs_one_and_says_what_it_skips() -> None:
    """Fault 40."""
    world = scheduled(10, behaviour_seconds=3, overlap="skip")
    assert most_at_once(world) == 1
    assert 2 <= len(world.runs()) <= 5
    skipped = sum("InstantSkipped" in record.body for record in world.store.read(StreamName("workflow#small")))
    assert skipped >= 5


def test_overlap_cancel_running_lets_the_newest_win() -> None:
    """Fault 40."""
    world = scheduled(10, behaviour_seconds=30, overlap="cancel_running")
    outcome = outcomes(world)
    assert outcome[:-1] == ["cancelled"] * (len(outcome) - 1)
    assert outcome[-1] == "succeeded"
    assert len(outcome) >= 10


def test_no_more_than_max_active_runs_are_active() -> None:
    world = scheduled(10, behaviour_seconds=5, max_active_runs=3)
    assert most_at_once(world) == 3
    assert set(outcomes(world)) == {"succeeded"}


def test_a_moment_in_the_past_runs_at_once() -> None:
    world = World()
    drive(world, [register(job("a"), schedule={"at": "2026-02-01T00:00:00Z"})])
    (state,) = world.runs().values()
    assert state.requested_at == NOON
    assert state.outcome == "succeeded"


def test_a_schedule_that_slept_for_hours_catches_up_as_its_policy_says() -> None:
    """Fault 39."""
    counts = {}
    for catchup in ("none", "latest", "all"):
        world = World()
        rule = {"cron": "0 * * * *", "catchup": catchup, "catchup_max": 100}
        ask = register(job("a"), schedule=rule)
        drive(world, [ask], until=lambda world: bool(world.dues.next_at()))
        # Nothing runs for five and a half hours.
        world.clock.now += timedelta(hours=5, minutes=30)
        drive(world, [], until=lambda world: bool(world.runs()) or world.clock.now > NOON + timedelta(hours=5.6))
        drive(world, [lambda node: node.control.pause(WorkflowName("small"), by="ann")])
        counts[catchup] = len(world.runs())
    assert counts["all"] - counts["latest"] == 4
    assert counts["latest"] == 1
    assert counts["none"] <= 1


def test_pausing_between_two_crashes_holds() -> None:
    world = World()
    drive(world, [register(job("a"), schedule={"rate": "1 minute"})], until=lambda world: bool(world.runs()))
    world.points.crash_at = frozenset({world.points.count + 2})
    drive(world, [lambda node: node.control.pause(WorkflowName("small"), by="ann")])
    assert world.crashes == 1
    before = len(world.runs())
    world.clock.now += timedelta(hours=1)
    drive(world, [], until=lambda _: True)
    assert len(world.runs()) == before
