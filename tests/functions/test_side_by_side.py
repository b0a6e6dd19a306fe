"""Tasks of one batch wait side by side, and decide as if they had waited one after the other."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import pytest

from bench.deployed import Target
from functions.status.handler import make_handler as status_handler
from shared.bootstrap.threads import WORKERS, Threads
from shared.codec import events_in
from shared.effects import CheckHolders
from shared.errors import StoreUnavailable, TargetSilent
from shared.ids import Handle, RunId, WorkflowName, run_stream
from shared.ports import Report, Request
from shared.usecases.work import Work
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import Context, dispatch, sqs_event, state_of

DEADLINE_SECONDS = 30
WIDTH = 4


@dataclass
class Together(Target):
    """Takes a start only when as many others are being asked for at the same time."""

    def __post_init__(self) -> None:
        self.gate = Barrier(WIDTH, timeout=DEADLINE_SECONDS)

    def start(self, request: Request) -> Handle:
        self.gate.wait()
        return super().start(request)


def wide_run(deployed: Deployed, target: Target) -> RunId:
    vars(deployed.aws)["executors"] = {"ecs": target, "emr": target, "ssm": target}
    deployed.target = target
    jobs = [{"name": f"part-{n}", "type": "ecs", "image": "x", "command": ["load", str(n)]} for n in range(WIDTH)]
    deployed.aws.control.register(json.dumps({"name": "wide", "jobs": jobs}).encode(), name="wide.json", by="ann")
    return deployed.aws.control.request_run(WorkflowName("wide"), {}, by="ann").run


@pytest.mark.parametrize("takes_token", [True, False], ids=["with a token", "claimed first"])
def test_jobs_that_are_ready_together_are_asked_for_together_and_once(deployed: Deployed, takes_token: bool) -> None:
    target = Together()
    target.takes_token = takes_token
    run = wide_run(deployed, target)
    assert dispatch(deployed) == {"batchItemFailures": []}
    assert (len(target.started), target.asked) == (WIDTH, WIDTH)
    assert {job.phase.__class__.__name__ for job in state_of(deployed, run).jobs.values()} == {"Submitted"}
    claims = [
        event
        for record in deployed.aws.store.read(run_stream(run))
        for event in events_in(record.body)
        if type(event).__name__ == "AttemptClaimed"
    ]
    assert len(claims) == (0 if takes_token else WIDTH)


def test_what_is_told_of_many_runs_is_stored_for_each_of_them(deployed: Deployed) -> None:
    runs = [wide_run(deployed, deployed.target) for _ in range(2 * WORKERS)]
    dispatch(deployed)
    started = deployed.target.started.values()
    assert len(started) == WIDTH * len(runs)
    told = [Report(one.token, one.run, one.job, one.attempt, "succeeded", exit_code=0) for one in started]
    assert deployed.aws.work.record(told) == []
    assert {state_of(deployed, run).outcome for run in runs} == {"succeeded"}


def test_all_tasks_are_done_before_the_first_failure_is_raised() -> None:
    done: list[int] = []

    def task(number: int) -> None:
        done.append(number)
        if number in (2, 5):
            raise RuntimeError(f"task {number}")

    with pytest.raises(RuntimeError, match="task 2"):
        Threads()([lambda number=number: task(number) for number in range(20)])  # type: ignore[misc]
    assert sorted(done) == list(range(20))


def test_no_task_and_one_task_need_no_threads() -> None:
    threads = Threads()
    done: list[str] = []
    threads([])
    threads([lambda: done.append("one")])
    assert done == ["one"]
    assert isinstance(threads._pool, ThreadPoolExecutor)
    assert not threads._pool._threads


def test_events_are_looked_into_side_by_side_and_one_told_fifty_times_once(deployed: Deployed) -> None:  # fault 32
    gate = Barrier(WIDTH, timeout=DEADLINE_SECONDS)
    told: list[str] = []

    def tell(event: Mapping[str, Any]) -> list[Report]:
        told.append(event["id"])
        gate.wait()
        if event["id"] == "2":
            raise TargetSilent("no answer")
        return []

    handler = status_handler(tell, lambda _: [], deployed.aws.effects, side_by_side=deployed.aws.side_by_side)
    answer = handler(sqs_event(*[json.dumps({"id": str(n)}) for n in range(WIDTH)] * 10, "no JSON"), Context())
    assert sorted(told) == [str(n) for n in range(WIDTH)]
    failed = {int(one["itemIdentifier"]) for one in answer["batchItemFailures"]}
    assert failed == {2 + WIDTH * n for n in range(10)} | {10 * WIDTH}


def test_a_look_at_holders_that_fails_or_changes_nothing_hands_over_no_other_look(deployed: Deployed) -> None:
    """The sweep looks again. Handed over by themselves, looks met those of every sweep and bred: the simulator counted a thousand in an hour."""
    jobs = [{"name": "load", "type": "ecs", "image": "x", "command": ["load"]}]
    document = json.dumps({"name": "wide", "overlap": "queue", "jobs": jobs}).encode()
    deployed.aws.control.register(document, name="wide.json", by="ann")
    deployed.aws.control.request_run(WorkflowName("wide"), {}, by="ann")
    deployed.messages()
    look = CheckHolders(WorkflowName("wide"))
    assert deployed.aws.work([look]) == []
    assert not [message for message in deployed.messages() if "CheckHolders" in message]

    class Throttled:
        def __call__(self, *_: object) -> None:
            raise StoreUnavailable("throttled")

    work = Work(deployed.aws.transact, deployed.aws.dispatch, Throttled(), Throttled(), deliver=lambda _: None)  # type: ignore[arg-type]
    assert work([look]) == []
