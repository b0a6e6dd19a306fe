"""Runs that wait for other runs and for people, in a play: a workflow whose jobs are runs of those of the workload, and decisions that come,
come twice, come from somebody who may not make them, or never come.

What must hold: each attempt of a job of type `workflow` is one run, which names it; the attempt ended as that run did; and of those that may
not decide nobody did. That every run ends at all, children of runs that were cancelled among them, is asked of all runs.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from shared.events import JobApproved, JobRejected
from shared.ids import JobName, RunId, WorkflowName, keyed_run
from shared.state.run import Run
from shared.usecases.control import Control
from tests.simulation.deployment import Deployment
from tests.simulation.kernel import Kernel
from tests.simulation.workload import Workload

SHARE = 0.4
"""Of plays that have such runs."""
OUTER = WorkflowName("outer")
MIDDLE = WorkflowName("middle")
STRANGER = "eve"
CALLS = (JobName("call"), JobName("call-again"))
GO = JobName("go")


class Waiting:
    """Its own randomness, so that plays without such runs are as they would be without this."""

    def __init__(self, kernel: Kernel, workload: Workload, seed: int) -> None:
        self._random = random.Random(f"waiting of {seed}")
        self._kernel = kernel
        self._workload = workload
        self._asked: list[RunId] = []
        self._documents: dict[WorkflowName, dict[str, Any]] = {}

    def begin(self, deployment: Deployment, hours: float) -> None:
        rng = self._random
        if rng.random() >= SHARE:
            return
        nested = rng.random() < 0.3
        self._documents[OUTER] = self._document(OUTER, MIDDLE if nested else rng.choice(self._workload.names))
        if nested:
            self._documents[MIDDLE] = self._document(MIDDLE, rng.choice(self._workload.names))
        self.upload(deployment)
        for number in range(rng.randint(1, 3)):
            self._kernel.after(rng.uniform(60, hours * 2400), lambda number=number: self._ask(deployment, number))  # type: ignore[misc]
        for _ in range(rng.randint(2, 8)):
            act = rng.choice(("approve", "approve", "approve", "reject", "stranger", "cancel", "cancel call", "rerun"))
            self._kernel.after(rng.uniform(300, hours * 3600), lambda act=act: self._act(deployment, act))  # type: ignore[misc]

    def upload(self, deployment: Deployment) -> None:
        for name, document in self._documents.items():
            deployment.upload(f"workflows/{name}.json", json.dumps(document).encode())

    def _document(self, name: WorkflowName, called: WorkflowName) -> dict[str, Any]:
        rng = self._random
        retry = {"attempts": rng.randint(1, 2), "delay_seconds": rng.choice((0, 60))}
        jobs = [self._call(CALLS[0], called, [], retry)]
        if rng.random() < 0.7:
            jobs.append(self._approval())
        if rng.random() < 0.5:
            jobs.append(self._call(CALLS[1], called, [str(jobs[-1]["name"])], retry))
        document: dict[str, Any] = {"name": name, "jobs": jobs}
        if rng.random() < 0.3:
            document["max_active_runs"] = 1
        return document

    def _call(self, name: JobName, called: WorkflowName, after: list[str], retry: dict[str, Any]) -> dict[str, Any]:
        rng = self._random
        job: dict[str, Any] = {"name": name, "type": "workflow", "workflow": called, "after": after, "retry": retry}
        if rng.random() < 0.3:
            job["timeouts"] = {rng.choice(("queue_minutes", "run_minutes", "total_minutes")): rng.randint(2, 40)}
        if rng.random() < 0.15:
            job["wait"] = False
        return job

    def _approval(self) -> dict[str, Any]:
        rng = self._random
        job: dict[str, Any] = {"name": GO, "type": "approval", "after": rng.choice(([], [CALLS[0]])), "by": ["ann"]}
        if rng.random() < 0.6:
            job |= {"timeout_minutes": rng.randint(5, 60), "on_timeout": rng.choice(("fail", "approve", "skip"))}
        return job

    def _ask(self, deployment: Deployment, number: int) -> None:
        key = f"o{number}"
        self._asked.append(keyed_run(OUTER, key))
        for _ in range(2 if self._random.random() < 0.2 else 1):
            self._workload.insist(deployment, lambda control: control.request_run(OUTER, {}, by="ann", key=key))

    def _act(self, deployment: Deployment, act: str) -> None:
        if not self._asked:
            return
        run = self._random.choice(self._asked)
        request = f"r{self._random.getrandbits(32):08x}"
        acts: dict[str, Callable[[Control], Any]] = {
            "approve": lambda control: control.decide(run, GO, "approved", by="ann", role=None, reason="fine"),
            "reject": lambda control: control.decide(run, GO, "rejected", by="ann", role=None, reason="no"),
            "stranger": lambda control: control.decide(run, GO, "approved", by=STRANGER, role="admin"),
            "cancel": lambda control: control.cancel(run, by="bob", reason="a mistake"),
            "cancel call": lambda control: control.cancel(run, by="bob", reason="a mistake", job=CALLS[0]),
            "rerun": lambda control: control.rerun(run, by="bob", failed=True, request=request),
        }
        for _ in range(2 if act == "approve" and self._random.random() < 0.3 else 1):
            self._workload.insist(deployment, acts[act])


def untrue_of_children(runs: dict[RunId, Run]) -> Iterator[str]:
    """What parents say of their children, and children of their parents. For histories of which nothing was lost."""
    for run, state in runs.items():
        for name, job in state.jobs.items():
            document = state.plan.jobs[name]
            if document.type != "workflow":
                continue
            for attempt in job.attempts:
                child = runs.get(RunId(attempt.handle or ""))
                who = f"attempt {attempt.attempt} of {name} of {run}"
                if child is None:
                    # What nobody waits for may be dropped after it was asked for.
                    if attempt.status == "succeeded" and document.wait:
                        yield f"{who} succeeded, and was no run: {attempt.handle}"
                    continue
                parent = child.request.parent
                if parent is None or (parent.run, parent.job, parent.attempt) != (run, name, attempt.attempt):
                    yield f"{who} is {child.run}, which was started for {parent}"
                # A round that a person asked for is not the parent's.
                told = {"succeeded": "succeeded", "failed": "failed"}.get(attempt.status)
                if told and document.wait and child.round == 1 and child.outcome != told:
                    yield f"{who} {attempt.status}, and {child.run} {child.outcome}"
    for run, state in runs.items():
        parent = state.request.parent
        if parent is None:
            continue
        above = runs.get(parent.run)
        known = above.jobs.get(parent.job) if above is not None else None
        if known is None or len(known.attempts) < parent.attempt:
            yield f"{run} was started for an attempt that never was: {parent}"
            continue
        handle = known.attempts[parent.attempt - 1].handle or ""
        if handle not in ("", str(run)):
            yield f"{run} was started for {parent}, which is {handle}"
        if (
            not handle
            and str(run) not in map(str, known.strays or ())
            and state.outcome == "succeeded"
            and state.round == 1
        ):
            yield f"{run} went on to its end for {parent}, which never knew it"


def untrue_of_decisions(events: Iterator[Any]) -> Iterator[str]:
    for event in events:
        if isinstance(event, JobApproved | JobRejected) and event.by == STRANGER:
            yield f"{event.by} decided on {event.job}"
