"""Pools in a play: jobs of all workflows share one of capacity 2, which somebody closes and opens again at bad moments.

What must hold: no more goes on at the targets at one time than the pool has, as far as histories know what went on; every grant is within the
capacity (`verify`, I5); and when every run has ended nobody holds a place, or waits for one.
"""

import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from shared.codec import events_in
from shared.events import PlaceGranted
from shared.ids import PoolName, RunId, Token, attempt_token, pool_stream
from shared.state.pool import PoolState
from shared.state.run import Run
from shared.usecases.loading import Loader, PlanCache
from tests.simulation.deployment import Deployment
from tests.simulation.kernel import Kernel
from tests.simulation.workload import Workload

POOL = PoolName("warehouse")
CAPACITY = 2
SHARE = 0.4
"""Of plays that have a pool."""


class Pools:
    """Its own randomness, so that plays without a pool are as they would be without this."""

    def __init__(self, kernel: Kernel, workload: Workload, seed: int) -> None:
        self._random = random.Random(f"pools of {seed}")
        self._kernel = kernel
        self._workload = workload
        self._plays = self._random.random() < SHARE
        if self._plays:
            workload.decorate = self._decorate
            for document in workload.documents.values():
                self._decorate(document)

    def _decorate(self, document: dict[str, Any]) -> None:
        for job in document["jobs"]:
            if self._random.random() < 0.6 and "for_each" not in job and job["type"] != "approval":
                job["pool"] = POOL if self._random.random() < 0.7 else {"name": POOL, "weight": CAPACITY}
                job["priority"] = self._random.choice((0, 0, 5))

    def begin(self, deployment: Deployment, hours: float) -> None:
        if not self._plays:
            return
        self._kernel.after(self._random.uniform(0, 600), lambda: self._set(deployment, CAPACITY))
        for _ in range(self._random.randint(0, 2)):
            moment = self._random.uniform(600, hours * 3600)
            self._kernel.after(moment, lambda: self._set(deployment, 0))
            self._kernel.after(moment + self._random.uniform(10, 3600), lambda: self._set(deployment, CAPACITY))

    def _set(self, deployment: Deployment, capacity: int) -> None:
        self._workload.insist(deployment, lambda control: control.set_pool(POOL, capacity, by="ann"))


def untrue_of_pools(deployment: Deployment, runs: dict[RunId, Run]) -> Iterator[str]:
    tables = deployment.tables
    pool = Loader(tables.events, PlanCache(tables.documents)).load(pool_stream(POOL)).state
    if not isinstance(pool, PoolState):
        return
    for place in pool.held:
        yield f"{place} still holds a place"
    for place in pool.awaited:
        yield f"{place} still waits for a place"
    # What a restore forgot went on beside what was begun after it.
    if deployment.restored_at is None:
        yield from _at_once(deployment, runs)


def _at_once(deployment: Deployment, runs: dict[RunId, Run]) -> Iterator[str]:
    """Executions whose end their histories know: what was given up or stopped may have gone on beside what took its place."""
    weights: dict[Token, int] = {}
    for record in deployment.tables.events.read(pool_stream(POOL), limit=1_000):
        for event in events_in(record.body):
            if isinstance(event, PlaceGranted) and _ended_by_itself(runs.get(event.run), event):
                weights[attempt_token(event.run, event.job, event.attempt)] = event.weight
    moments: list[tuple[datetime, int, Token]] = []
    for one in deployment.ledger.executions:
        if one.token in weights and one.outcome in ("succeeded", "failed") and one.ended_at is not None:
            moments.append((one.began_at, weights[one.token], one.token))
            moments.append((one.ended_at, -weights[one.token], one.token))
    used = 0
    for at, weight, token in sorted(moments):
        used += weight
        if used > CAPACITY:
            yield f"at {at} {used} were going on of {CAPACITY}, with {token}"


def _ended_by_itself(run: Run | None, event: PlaceGranted) -> bool:
    if run is None or event.job not in run.jobs:
        return False
    attempts = run.jobs[event.job].attempts
    if not 1 <= event.attempt <= len(attempts):
        return False
    one = attempts[event.attempt - 1]
    return not one.assumed and not one.late and (one.status == "succeeded" or one.failure == "user")
