"""Events in a play: a workflow waits for events of the world and for the ends of another's runs, and is told of them late, twice, and by
functions that die over it.

What must hold: whatever was answered as a run is that run, and no event is two; every run that an event started is of an event that there
was; and each end of a run that came after the workflow was known to wait for it has its fate.
"""

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared.codec import events_in
from shared.events import RunFinished
from shared.ids import RunId, WorkflowName, run_stream, triggered_run, workflow_stream
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.loading import Loader, PlanCache
from tests.simulation.deployment import Deployment
from tests.simulation.kernel import Kernel
from tests.simulation.stores import Tables
from tests.simulation.workload import Workload

LISTENING = WorkflowName("listening")
SHARE = 0.3
"""Of plays that have events."""
TRIES_MAX = 60


class Triggers:
    """Its own randomness, so that plays without events are as they would be without this."""

    def __init__(self, kernel: Kernel, workload: Workload, seed: int) -> None:
        self._random = random.Random(f"triggers of {seed}")
        self._kernel = kernel
        self._workload = workload
        self.leading = workload.names[0]
        self.taken: dict[str, set[RunId]] = {}
        """Of each event that became a run at once: the runs that were named."""
        self.sent: set[str] = set()
        self.begun = False
        self.known_from: datetime | None = None
        """From when on the ends of the other's runs find who listens."""

    def begin(self, deployment: Deployment, hours: float) -> None:
        rng = self._random
        if rng.random() >= SHARE:
            return
        self.begun = True
        deployment.upload(f"workflows/{LISTENING}.json", json.dumps(self._document()).encode())
        self._look(deployment)
        for number in range(rng.randint(2, 8)):
            self._kernel.after(rng.uniform(10, hours * 3600), partial(self._send, deployment, f"e{number}"))
        for _ in range(rng.choice((0, 0, 2))):
            self._kernel.after(rng.uniform(600, hours * 3600), lambda: self._pause(deployment))

    def _look(self, deployment: Deployment) -> None:
        if LISTENING in deployment.tables.views.listeners(f"workflow:{self.leading}"):
            # Clocks differ, and a time of commit is its writer's.
            self.known_from = self._kernel.now + timedelta(minutes=10)
        else:
            self._kernel.after(60, lambda: self._look(deployment))

    def _document(self) -> dict[str, Any]:
        rng = self._random
        paused = rng.choice(("skip", "queue"))
        document: dict[str, Any] = {
            "name": LISTENING,
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "triggers": [
                {
                    "name": "told",
                    "type": "event",
                    "pattern": {"source": ["world"]},
                    "parameters": {"n": "{{ event.detail.n }}"},
                    "while_paused": paused,
                },
                {
                    "name": "after",
                    "type": "workflow",
                    "workflow": self.leading,
                    "outcome": "any",
                    "while_paused": paused,
                },
            ],
            "jobs": [{"name": "hear", "type": "ecs", "image": "registry/load:3", "command": ["load"]}],
        }
        if rng.random() < 0.5:
            document["max_active_runs"] = 1
        return document

    def _pause(self, deployment: Deployment) -> None:
        self._workload.insist(deployment, lambda control: control.pause(LISTENING, by="bob", reason="maintenance"))
        resume = self._random.uniform(60, 1800)
        self._kernel.after(
            resume,
            lambda: self._workload.insist(deployment, lambda control: control.resume(LISTENING, by="bob")),
        )

    def _send(self, deployment: Deployment, id_: str) -> None:
        """As EventBridge does: at least once, and again for as long as it fails; now and then hours late."""
        rng = self._random
        self.sent.add(id_)
        # One in five says what the workflow does not take.
        detail: dict[str, Any] = {"n": "many" if rng.random() < 0.2 else 1}
        event = {"id": id_, "source": "world", "detail-type": "Happened", "detail": detail}
        for _ in range(rng.choice((1, 2, 3))):
            self._kernel.after(rng.choice((0.1, 0.3, 5.0, 4000.0)), lambda: self._deliver(deployment, event))

    def _deliver(self, deployment: Deployment, event: dict[str, Any], tries: int = 0) -> None:
        def over(answer: Any, error: BaseException | None) -> None:
            if error is not None and tries < TRIES_MAX:
                self._kernel.after(60.0 * (tries + 1), lambda: self._deliver(deployment, event, tries + 1))
            for told in answer["taken"] if error is None else ():
                run, _, fate = told.partition(" ")
                if fate == "started":
                    self.taken.setdefault(event["id"], set()).add(RunId(run))

        if not deployment.invoke("trigger", event, over):
            self._kernel.after(1, lambda: self._deliver(deployment, event, tries))


def untrue_of_triggers(tables: Tables, runs: dict[RunId, Run], triggers: Triggers, *, restored: bool) -> Iterator[str]:
    if not triggers.begun or restored:
        # What was answered before a restore may be lost with the history that it was founded on.
        return
    ids = {triggered_run(LISTENING, "told", f"source:{id_}"): id_ for id_ in triggers.sent}
    ends = {triggered_run(LISTENING, "after", f"source:{run}"): run for run in runs}
    for run, state in runs.items():
        if state.request.trigger == "event" and run not in ids and run not in ends:
            yield f"{run} is of no event that there was"
    for id_, named in triggers.taken.items():
        if named != {triggered_run(LISTENING, "told", f"source:{id_}")}:
            yield f"the event {id_} became {sorted(named)}"
        for run in sorted(named - set(runs)):
            yield f"the event {id_} was said to be {run}, and there is none"
    yield from _unheard(tables, runs, triggers)


def _unheard(tables: Tables, runs: dict[RunId, Run], triggers: Triggers) -> Iterator[str]:
    state = Loader(tables.events, PlanCache(tables.documents)).load(workflow_stream(LISTENING)).state
    if triggers.known_from is None or not isinstance(state, WorkflowState):
        return
    fates = {one.run for one in state.turned_away} | set(state.holders) | {one.run for one in state.held} | set(runs)
    for run, upstream in runs.items():
        ended = _ended_at(tables, run) if upstream.request.workflow == triggers.leading else None
        if ended is None or ended < triggers.known_from:
            continue
        if triggered_run(LISTENING, "after", f"source:{run}") not in fates:
            yield f"{run} ended at {ended}, and {LISTENING} never heard of it"


def _ended_at(tables: Tables, run: RunId) -> datetime | None:
    for record in tables.events.read(run_stream(run)):
        if any(isinstance(event, RunFinished) for event in events_in(record.body)):
            return record.at
    return None
