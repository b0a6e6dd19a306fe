"""Every single crash and every single failing call on the way of a job to its target and back, for each kind of target: enumerated, not sampled.

The process ends before and after each call of a port or of a target's API (faults 1, 4, 58), and each call to a target fails in each way a call can (faults 2, 3,
15, 17). Whatever the point: the run ends as it would have, each attempt was executed once, and the checker finds nothing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from shared.errors import InvalidInput, NotFound, Rejected
from shared.ids import RunId, WorkflowName, keyed_run
from shared.usecases.control import Control
from tests.simulation.deployment import HOST, Deployment
from tests.simulation.kernel import BEGIN, Kernel
from tests.simulation.models.model import FAILURES, Behaviour
from tests.simulation.play import judge, quietly, runs_of
from tests.simulation.workload import CLUSTER, SHARED_CLUSTER, STEP

NAME = WorkflowName("small")
RUN = keyed_run(NAME, "one")
TARGETS: dict[str, dict[str, Any]] = {
    "ecs": {"type": "ecs", "image": "registry/load:3", "command": ["load"]},
    "emr cluster": {"type": "emr", "cluster": CLUSTER, "steps": [STEP]},
    "emr steps": {"type": "emr", "cluster_id": SHARED_CLUSTER, "steps": [STEP]},
    "ssm": {"type": "ssm", "host": HOST, "script": "/opt/etl/load.sh"},
}
DAYS_MAX = 4


@dataclass(frozen=True)
class Kind:
    """A run, what people do to it, and how its jobs behave."""

    fields: dict[str, Any]
    behaviour: Behaviour
    cancel_after: float | None = None


KINDS = {
    "success": Kind({}, Behaviour(seconds=(30.0,))),
    "retry": Kind(
        {"retry": {"attempts": 2, "delay_seconds": 5, "jitter": 0}}, Behaviour(seconds=(30.0,), exit_codes=(3, 0))
    ),
    "cancel": Kind({}, Behaviour(seconds=(3600.0,)), cancel_after=400.0),
}


def played(target: str, kind: Kind, prepare: Callable[[Kernel], None]) -> tuple[Kernel, Deployment]:
    """One run of two jobs, in order, to its end."""
    kernel = Kernel(1)
    kernel.orderly = True
    deployment = Deployment(kernel, lambda _run, _job, _attempt: kind.behaviour)
    job = TARGETS[target] | kind.fields
    document = {"name": NAME, "jobs": [{"name": "a", **job}, {"name": "b", "after": ["a"], **job}]}
    data = json.dumps(document).encode()
    prepare(kernel)
    asks: list[tuple[float, Callable[[Control], Any]]] = [
        (0, lambda control: control.register(data, name="small.json", by="ann")),
        (1, lambda control: control.request_run(NAME, {}, by="ann", key="one")),
    ]
    if kind.cancel_after is not None:
        asks.append((kind.cancel_after, lambda control: control.cancel(RUN, by="ann", reason="a mistake")))
    insist(kernel, deployment, asks)

    def settled() -> bool:
        return (
            kernel.now > BEGIN + timedelta(minutes=10) and deployment.idle and deployment.tables.dues.next_at() is None
        )

    kernel.run(settled, deadline=BEGIN + timedelta(days=DAYS_MAX))
    return kernel, deployment


def insist(kernel: Kernel, deployment: Deployment, asks: Sequence[tuple[float, Callable[[Control], Any]]]) -> None:
    """Ask for one thing after the other, each until it is answered."""
    if not asks:
        return
    (seconds, ask), *following = asks

    def over(_: Any, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Rejected | NotFound | InvalidInput):
            kernel.after(1, lambda: deployment.call(ask, over))
        else:
            insist(kernel, deployment, following)

    kernel.after(seconds, lambda: deployment.call(ask, over))


def end_of(deployment: Deployment) -> tuple[str | None, dict[str, tuple[str, int]]]:
    state = runs_of(deployment)[RunId(RUN)]
    return state.outcome, {name: (job.status, len(job.attempts)) for name, job in sorted(state.jobs.items())}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_crash_at_any_point_changes_nothing_in_the_end(target: str, kind: str) -> None:
    with quietly():
        kernel, deployment = played(target, KINDS[kind], lambda kernel: setattr(kernel, "point_names", []))
        judge(1, kernel, deployment)
        expected, names = end_of(deployment), kernel.point_names
        assert names is not None
        assert len(names) > 30
        assert expected[0] == ("cancelled" if kind == "cancel" else "succeeded")
        for point in range(1, kernel.points + 1):
            crashed, deployment = played(target, KINDS[kind], lambda kernel, at=point: setattr(kernel, "crash_at", at))  # type: ignore[misc]
            where = f"crash at point {point}: {names[point - 1]}"
            assert crashed.injected["crash"] == 1, where
            try:
                judge(1, crashed, deployment)
                assert end_of(deployment) == expected
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from error


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_call_to_a_target_that_fails_changes_nothing_in_the_end(target: str, kind: str, how: str) -> None:
    with quietly():
        kernel, deployment = played(target, KINDS[kind], lambda _: None)
        expected = end_of(deployment)[0]
        for number in range(1, kernel.calls + 1):
            failed, deployment = played(
                target,
                KINDS[kind],
                lambda kernel, at=number: setattr(kernel, "fail_at", (at, how)),  # type: ignore[misc]
            )
            where = f"call {number} to {target} {how}"
            try:
                judge(1, failed, deployment)
                assert end_of(deployment)[0] == expected
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from error
