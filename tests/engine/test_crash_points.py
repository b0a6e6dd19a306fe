"""The process ends before and after every single call of a port, for a run of each kind; a new one takes over on the same stores.
Whatever the point: the same end, each attempt executed once, nothing stuck, the lists true. Faults 1, 4 and 58.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from shared.errors import Rejected
from shared.ids import RunId, WorkflowName, keyed_run, run_stream
from shared.state.notices import NoticeLog
from shared.views.rows import run_row
from tests.engine.fakes import Behaviour, Node, World, check_executions, check_invariants, drive, ends

NAME = WorkflowName("small")

Ask = Callable[[Node], None]


def job(name: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs", "image": "x", "after": list(after), **fields}


def register(*jobs: dict[str, Any], **fields: Any) -> Ask:
    document = json.dumps({"name": NAME, "jobs": list(jobs), **fields}).encode()
    return lambda node: void(node.control.register(document, name="small.json", by="ann"))


def request(key: str = "one") -> Ask:
    return lambda node: void(node.control.request_run(NAME, {}, by="ann", key=key))


def run_of(key: str = "one") -> RunId:
    return keyed_run(NAME, key)


def cancel(node: Node) -> None:
    try:
        node.control.cancel(run_of(), by="ann", reason="a mistake")
    except Rejected as reason:
        # Asked again after a crash, it has come true meanwhile.
        assert "cancelled" in str(reason)  # noqa: PT017


def void(_: object) -> None:
    return None


@dataclass(frozen=True)
class Kind:
    asks: Sequence[Ask]
    behaviours: dict[str, Behaviour]
    outcome: str = "succeeded"


KINDS = {
    "success": Kind((register(job("a"), job("b", "a")), request()), {}),
    "retry": Kind(
        (register(job("a", retry={"attempts": 3, "delay_seconds": 5})), request()),
        {"a": Behaviour(exit_codes=(1, 1, 0))},
    ),
    "cancel": Kind(
        (register(job("a"), job("b", "a")), request(), cancel),
        {"a": Behaviour(seconds=1e8)},
        outcome="cancelled",
    ),
    "timeout": Kind(
        (register(job("a", timeouts={"run_minutes": 30}), job("b", "a", when="all_done")), request()),
        {"a": Behaviour(seconds=1e8)},
        outcome="failed",
    ),
    "fan-out and join": Kind(
        (
            register(
                job("a"), job("b1", "a"), job("b2", "a"), job("b3", "a"), job("c", "b1", "b2", "b3"), parallelism=2
            ),
            request(),
        ),
        {"b2": Behaviour(seconds=25)},
    ),
    "notices": Kind(
        (
            register(
                job("a", retry={"attempts": 2, "delay_seconds": 5}),
                late={"expected_minutes": 0.01},
                notify=[
                    {"on": ["started", "succeeded", "late"], "email": "team@example.com"},
                    {"on": ["succeeded"], "command": ["x"]},
                ],
            ),
            request(),
        ),
        {"a": Behaviour(exit_codes=(1, 0))},
    ),
    "admission": Kind((register(job("a"), overlap="queue"), request("one"), request("two")), {}),
}


def played(kind: Kind, *, crash_at: frozenset[int], takes_token: bool, recovers: bool) -> World:
    world = World(kind.behaviours, takes_token=takes_token, runs_at_once=takes_token)
    world.points.crash_at = crash_at
    drive(world, kind.asks, make=lambda world: Node(world, recovers=recovers))
    return world


def check(world: World, kind: Kind, expected: dict[str, Any]) -> None:
    assert ends(world) == expected
    assert {state.outcome for state in world.runs().values()} == {kind.outcome}
    check_executions(world)
    check_invariants(world)
    check_notices(world)
    for run, state in world.runs().items():
        version = world.store.read(run_stream(run))[-1].version
        assert world.views.get_run(run) == run_row(state, version)


def check_notices(world: World) -> None:
    """Everything that was planned was told, nothing else, and more than once only where a process ended in between."""
    planned: list[str] = []
    for stream in world.store.streams("notices"):
        state = world.loader().load(stream).state
        assert isinstance(state, NoticeLog)
        assert {one.status for one in state.sending} == {"sent"}
        planned += [one.notice.id for one in state.sending]
    assert set(world.letters.taken) == set(planned)
    assert len(planned) == len(set(planned))
    assert len(world.letters.taken) - len(planned) <= world.crashes


@pytest.mark.parametrize("takes_token", [True, False], ids=["with token", "without token"])
@pytest.mark.parametrize("recovers", [True, False], ids=["start refills", "sweep alone"])
@pytest.mark.parametrize("name", KINDS)
def test_a_crash_at_any_port_call_changes_nothing_in_the_end(name: str, recovers: bool, takes_token: bool) -> None:
    kind = KINDS[name]
    whole = played(kind, crash_at=frozenset(), takes_token=takes_token, recovers=recovers)
    assert whole.crashes == 0
    expected = ends(whole)
    check(whole, kind, expected)
    points = whole.points.count
    assert points > 20
    for point in range(1, points + 1):
        world = played(kind, crash_at=frozenset({point}), takes_token=takes_token, recovers=recovers)
        assert world.crashes == 1
        try:
            check(world, kind, expected)
        except AssertionError as error:
            raise AssertionError(f"{name}: crash at {world.points.names[point - 1]} ({point})") from error
