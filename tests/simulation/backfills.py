"""Backfills in a play: somebody asks for about ten instants, two at a time, and pauses, resumes or cancels at bad moments.

What must hold, by the order in which the store took the commits, which no clock can confuse: never more than two of its runs are under way; no
two runs of an instant are; every instant is come to once, and ends in one way; and each backfill ends.
"""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from shared.codec import events_in
from shared.events import RunFinished
from shared.ids import BackfillId, RunId, StreamName, WorkflowName, keyed_backfill, kind_of, subject_of
from shared.state.backfill import BackfillState
from shared.state.run import Run
from shared.usecases.control import Control
from shared.usecases.loading import Loader, PlanCache
from tests.simulation.deployment import Deployment
from tests.simulation.kernel import Kernel
from tests.simulation.stores import Tables
from tests.simulation.workload import Workload

INSTANTS = 10
MAX_ACTIVE = 2
SHARE = 0.35
"""Of plays that have backfills."""


class Backfills:
    """Its own randomness, so that plays without backfills are as they would be without this."""

    def __init__(self, kernel: Kernel, workload: Workload, seed: int) -> None:
        self._random = random.Random(f"backfills of {seed}")
        self._kernel = kernel
        self._workload = workload
        self._asked: list[BackfillId] = []

    def begin(self, deployment: Deployment, hours: float) -> None:
        rng = self._random
        if rng.random() >= SHARE:
            return
        for number in range(rng.choice((1, 1, 2))):
            self._kernel.after(rng.uniform(60, hours * 1800), lambda number=number: self._ask(deployment, number))  # type: ignore[misc]
        for _ in range(rng.randint(0, 3)):
            act = rng.choice(("pause", "resume", "resume", "cancel"))
            self._kernel.after(rng.uniform(600, hours * 3600), lambda act=act: self._act(deployment, act))  # type: ignore[misc]

    def _ask(self, deployment: Deployment, number: int) -> None:
        rng, key = self._random, f"b{number}"
        name = rng.choice(self._workload.names)
        rule = self._workload.documents[name].get("schedule", {}).get("cron", "0 * * * *")
        apart = timedelta(minutes=20 if rule.startswith("*/20") else 60)
        now = self._kernel.now
        since, until = (now - INSTANTS * apart).isoformat(), now.isoformat()
        order, which = rng.choice(("oldest", "newest")), rng.choice(("missing", "missing", "all", "failed"))
        self._asked.append(keyed_backfill(name, key))

        def ask(control: Control) -> Any:
            asked: Any = {"order": order, "which": which, "max_active": MAX_ACTIVE, "now": self._kernel.now}
            return control.request_backfill(name, since, until, by="ann", key=key, **asked)

        for _ in range(2 if rng.random() < 0.2 else 1):
            self._workload.insist(deployment, ask)

    def _act(self, deployment: Deployment, act: str) -> None:
        for backfill in self._asked:
            self._insist(deployment, backfill, act)

    def _insist(self, deployment: Deployment, backfill: BackfillId, act: str) -> None:
        def ask(control: Control) -> None:
            match act:
                case "pause":
                    control.pause_backfill(backfill, by="bob", reason="lunch")
                case "resume":
                    control.resume_backfill(backfill, by="bob")
                case _:
                    control.cancel_backfill(backfill, by="bob", reason="the end")

        self._workload.insist(deployment, ask)

    def wind_up(self, deployment: Deployment, tidied: int) -> None:
        """First what is paused goes on; what has not ended at the second look is cancelled."""
        for backfill, state in backfills_of(deployment.tables).items():
            if state.outcome is None and (tidied > 1 or state.pause is not None):
                self._insist(deployment, backfill, "cancel" if tidied > 1 else "resume")


def backfills_of(tables: Tables) -> dict[BackfillId, BackfillState]:
    loader = Loader(tables.events, PlanCache(tables.documents))
    found = {}
    for stream in tables.events.streams("backfill"):
        state = loader.load(stream).state
        assert isinstance(state, BackfillState)
        found[state.backfill] = state
    return found


def untrue_of_backfills(tables: Tables, runs: dict[RunId, Run]) -> Iterator[str]:
    for backfill, state in backfills_of(tables).items():
        if state.outcome is None:
            yield f"{backfill} has not ended: {state.status}, {sorted(state.active)}"
        if state.cancel is None and len(state.instants) != state.request.count:
            yield f"{backfill} came to {len(state.instants)} of its {state.request.count} instants"
        for at, seen in state.instants.items():
            if seen.run is None or seen.status == "skipped":
                continue
            run = runs.get(seen.run)
            mine = run is not None and run.request.backfill == backfill
            if seen.status in ("active", "taken") and mine:
                yield f"{backfill}: {seen.run} is {seen.status}"
            if seen.status not in ("active", "taken") and not mine:
                yield f"{backfill}: {seen.run} of {at} {seen.status}, and is not its own"
    yield from _at_once(tables, runs)


def _at_once(tables: Tables, runs: dict[RunId, Run]) -> Iterator[str]:
    """Commits in the order in which the store took them: who begins while others have not ended for the first time."""
    under_way: dict[BackfillId, set[RunId]] = {}
    of_instant: dict[str, RunId] = {}
    versions: dict[StreamName, int] = {}
    for stream in _moves(tables):
        if kind_of(stream) != "run":
            continue
        versions[stream] = versions.get(stream, 0) + 1
        run = RunId(subject_of(stream))
        state = runs[run]
        (record,) = tables.events.read(stream, after=versions[stream] - 1, limit=1)
        events = events_in(record.body)
        backfill, instant = state.request.backfill, _instant_of(run)
        if versions[stream] == 1:
            if instant and (before := of_instant.get(instant)) is not None:
                yield f"{run} began while {before} was under way"
            of_instant[instant] = run
            if backfill is not None:
                under_way.setdefault(backfill, set()).add(run)
                if len(under_way[backfill]) > MAX_ACTIVE:
                    yield f"{backfill} has {len(under_way[backfill])} runs under way: {sorted(under_way[backfill])}"
        if any(isinstance(event, RunFinished) for event in events):
            if of_instant.get(instant) == run:
                del of_instant[instant]
            if backfill is not None:
                under_way[backfill].discard(run)


def _moves(tables: Tables) -> Iterator[StreamName]:
    position = 0
    while moved := tables.events.moved_since(position):
        yield from (stream for _, stream in moved)
        position = moved[-1][0]


def _instant_of(run: RunId) -> str:
    """The instant whose run it is, whatever its number; empty for a run of no instant."""
    workflow, _, rest = run.partition("@")
    return f"{WorkflowName(workflow)}@{rest.partition('Z')[0]}" if "T" in rest and "Z" in rest else ""
