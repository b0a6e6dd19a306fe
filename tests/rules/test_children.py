"""Runs that stand for attempts of other runs: asked for once, heard of when they end, cancelled with who asked for them."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.decide.commands import Advance
from shared.effects import AdvanceRun, Effect, ObserveAttempt, StartAttempt, StopAttempt, TellParent, pending_of_run
from shared.errors import InvalidInput
from shared.explain import Condition, why_job, with_children
from shared.ids import Handle, JobName, RunId, WorkflowName, attempt_token, child_run, run_stream
from shared.ports import Reference, Report, Request
from shared.state.run import Done, Queued, Run, Submitted
from shared.stores.files import LocalFiles
from shared.stores.memory import MemoryDocuments, MemoryDues, MemoryStore, MemoryWaiters
from shared.usecases.admission import Admission
from shared.usecases.children import DEPTH_MAX
from shared.usecases.control import Control
from shared.usecases.dispatch import Dispatch
from shared.usecases.loading import Loader, PlanCache
from shared.usecases.transact import Transact
from shared.usecases.waits import Waits
from shared.usecases.work import Work
from tests.rules.sentences import NOON, minutes

CALL = JobName("call")
LOAD = JobName("load")
EFFECTS_MAX = 2_000
"""Carried out until nothing is left; more means that they breed."""


class Hosts:
    """Takes everything, and tells what it was told to."""

    takes_token = True
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(self) -> None:
        self.started: dict[tuple[RunId, JobName, int], Request] = {}
        self.ends: dict[tuple[RunId, JobName, int], dict[str, Any]] = {}

    def start(self, request: Request) -> Handle:
        self.started[request.run, request.job, request.attempt] = request
        return Handle(f"h-{request.token}")

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        return [
            Report(
                one.token,
                one.run,
                one.job,
                one.attempt,
                handle=Handle(f"h-{one.token}"),
                **self.ends.get((one.run, one.job, one.attempt), {"status": "running"}),
            )
            for one in references
        ]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        self.ends.setdefault((reference.run, reference.job, reference.attempt), {"status": "cancelled"})


class World:
    """One process with a queue of effects, which may lose some."""

    def __init__(self) -> None:
        self.now = NOON
        self.queue: list[Effect] = []
        self.lost: type[Any] | None = None
        self.hosts = Hosts()
        self.documents = MemoryDocuments()
        ids = iter(range(100_000))
        self.store = MemoryStore()
        loader = Loader(self.store, PlanCache(self.documents))
        new_id = lambda: f"id{next(ids):06}"  # noqa: E731
        self.transact = Transact(self.store, MemoryDues(), loader, self, now=lambda: self.now, new_id=new_id)
        kinds = dict.fromkeys(("ecs", "emr", "ssm"), self.hosts)
        self.dispatch = Dispatch(self.transact, kinds, now=lambda: self.now, claimer="one")
        waits = Waits(self.transact, MemoryWaiters(), LocalFiles(), now=lambda: self.now)
        self.work = Work(self.transact, self.dispatch, Admission(self.transact), waits, deliver=lambda _: None)
        self.control = Control(self.transact, self.documents, new_id=new_id)

    def send(self, effects: Any, *, delay_seconds: float = 0) -> None:
        if not delay_seconds:
            self.queue += [one for one in effects if self.lost is None or not isinstance(one, self.lost)]

    def register(self, name: str, *jobs: dict[str, Any], **fields: Any) -> None:
        document = {"name": name, "jobs": list(jobs), **fields}
        self.control.register(json.dumps(document).encode(), name=f"{name}.json", by="ada")

    def asked(self, name: str, **parameters: Any) -> RunId:
        run = self.control.request_run(WorkflowName(name), parameters, by="ada").run
        self.settle()
        return run

    def settle(self) -> None:
        for _ in range(EFFECTS_MAX):
            if not self.queue:
                return
            effect = self.queue.pop(0)
            self.queue += self.work([effect])
        raise AssertionError(f"effects breed: {self.queue[:5]}")

    def ends(self, run: RunId, job: str = "load", attempt: int = 1, **how: Any) -> None:
        """The work of that job ends, and its host tells."""
        key = (run, JobName(job), attempt)
        self.hosts.ends[key] = {"status": "succeeded", **how}
        self.queue.append(ObserveAttempt(*key))
        self.settle()

    def sweep(self, *runs: RunId, after: timedelta = minutes(20)) -> None:
        """Somebody looks at these runs, as a sweep does."""
        self.now += after
        for run in runs:
            self.send(pending_of_run(self.run(run), self.now))
        self.settle()

    def run(self, run: RunId) -> Run:
        state = self.transact.current(run_stream(run)).state
        assert isinstance(state, Run)
        return state

    def is_there(self, run: RunId) -> bool:
        return isinstance(self.transact.current(run_stream(run)).state, Run)

    def statuses(self, run: RunId) -> dict[str, str]:
        found = self.run(run)
        return {str(name): found.jobs[name].status for name in found.plan.jobs}


def work(name: str = "load", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ssm", "host": "h", "commands": ["true"], **fields}


def call(workflow: str = "inner", name: str = "call", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "workflow", "workflow": workflow, "retry": {"delay_seconds": 0}, **fields}


def child_of(parent: RunId, workflow: str = "inner", *, job: str = "call", attempt: int = 1) -> RunId:
    return child_run(WorkflowName(workflow), attempt_token(parent, JobName(job), attempt))


def world(**inner: Any) -> World:
    made = World()
    made.register("inner", work(), **inner)
    return made


def outer(made: World, **fields: Any) -> RunId:
    made.register("outer", call(**fields), work("after", after=["call"]))
    return made.asked("outer")


def test_a_job_is_a_run_of_another_workflow_and_ends_as_that_does() -> None:
    made = world()
    parent = outer(made)
    child = child_of(parent)
    assert made.run(child).request.parent is not None
    assert made.run(child).request.trigger == "parent"
    assert made.statuses(parent) == {"call": "running", "after": "waiting"}
    made.ends(child, outputs={"rows": 7})
    assert made.run(child).outcome == "succeeded"
    assert made.statuses(parent)["call"] == "succeeded"
    assert made.run(parent).jobs[CALL].outputs == {"load": {"rows": 7}}
    assert made.statuses(parent)["after"] != "waiting"


def test_the_outputs_of_one_job_are_taken_as_they_are() -> None:
    made = world()
    parent = outer(made, outputs_from="load")
    made.ends(child_of(parent), outputs={"rows": 7})
    assert made.run(parent).jobs[CALL].outputs == {"rows": 7}


def test_outputs_of_a_job_that_the_child_does_not_have_fail_the_job() -> None:
    made = world()
    parent = outer(made, outputs_from="lod")
    made.ends(child_of(parent))
    phase = made.run(parent).jobs[CALL].phase
    assert isinstance(phase, Done)
    assert phase.outcome == "failed"
    assert "has no job lod" in phase.reason


def test_parameters_are_rendered_and_keep_their_types() -> None:
    made = World()
    schema = {"type": "object", "properties": {"day": {"type": "string"}, "count": {"type": "integer"}}}
    made.register("inner", work(), parameters=schema)
    made.register(
        "outer", call(parameters={"day": "on {{ params.day }}", "count": "{{ params.count }}"}), parameters=schema
    )
    parent = made.asked("outer", day="monday", count=3)
    assert made.run(child_of(parent)).request.parameters == {"day": "on monday", "count": 3}


@pytest.mark.parametrize(
    ("call_fields", "says"),
    [
        ({"workflow": "nowhere"}, "there is no workflow nowhere"),
        ({"version": 7}, "has no version 7"),
        ({"parameters": {"days": 1}}, "cannot be run so"),
    ],
)
def test_what_can_never_be_run_fails_the_job_at_once(call_fields: dict[str, Any], says: str) -> None:
    made = World()
    made.register("inner", work(), parameters={"type": "object", "additionalProperties": False})
    made.register("outer", {**call(), **call_fields})
    phase = made.run(made.asked("outer")).jobs[CALL].phase
    assert isinstance(phase, Done)
    assert phase.outcome == "failed"
    assert says in phase.reason


def test_a_pinned_version_is_run_whatever_is_live() -> None:
    made = world()
    made.register("inner", work(), work("new"))
    parent = outer(made, version=1)
    assert list(made.statuses(child_of(parent))) == ["load"]


def test_the_same_start_delivered_twice_is_one_run() -> None:
    made = world()
    parent = outer(made)
    before = made.transact.current(run_stream(child_of(parent))).version
    made.work([StartAttempt(parent, CALL, 1), StartAttempt(parent, CALL, 1)])
    made.settle()
    assert made.transact.current(run_stream(child_of(parent))).version == before
    assert made.statuses(parent)["call"] == "running"


def test_a_start_whose_answer_was_never_written_down_is_found_again() -> None:
    """The process dies between asking for the child and recording it."""
    made = world()
    made.register("outer", call())
    parent = made.control.request_run(WorkflowName("outer"), {}, by="ada").run
    made.dispatch.start(StartAttempt(parent, CALL, 1))
    made.queue.clear()
    assert isinstance(made.run(parent).jobs[CALL].phase, Queued)
    made.sweep(child_of(parent))
    assert isinstance(made.run(parent).jobs[CALL].phase, Submitted)


def test_an_end_that_was_never_told_is_found_by_the_next_poll() -> None:
    made = world()
    parent = outer(made)
    made.lost = TellParent
    made.ends(child_of(parent))
    assert made.statuses(parent)["call"] == "running"
    made.sweep(parent)
    assert made.statuses(parent)["call"] == "succeeded"


def test_an_end_that_was_never_told_is_told_again_by_the_child() -> None:
    made = world()
    parent = outer(made)
    made.lost = TellParent
    made.ends(child_of(parent))
    made.lost = None
    made.sweep(child_of(parent), after=minutes(1))
    assert made.statuses(parent)["call"] == "succeeded"


def test_a_child_that_fails_is_tried_again_as_another_run() -> None:
    made = world()
    parent = outer(made, retry={"attempts": 2, "delay_seconds": 1})
    first = child_of(parent)
    made.ends(first, status="failed", failure="user", reason="boom")
    assert made.statuses(parent)["call"] == "backoff"
    made.now += minutes(1)
    made.queue.append(AdvanceRun(parent))
    made.settle()
    second = child_of(parent, attempt=2)
    assert second != first
    made.ends(second)
    assert made.statuses(parent)["call"] == "succeeded"
    attempts = made.run(parent).jobs[CALL].attempts
    assert [str(one.handle) for one in attempts] == [first, second]
    assert "load failed: boom" in attempts[0].reason


def test_cancelling_the_parent_cancels_the_child_and_waits_for_its_end() -> None:
    made = world()
    parent = outer(made)
    child = child_of(parent)
    made.control.cancel(parent, by="ada", reason="wrong day")
    made.settle()
    assert made.run(child).cancel is not None
    assert made.run(parent).outcome is None
    made.ends(child, status="cancelled")
    assert (made.run(child).outcome, made.run(parent).outcome) == ("cancelled", "cancelled")


def test_a_job_that_takes_too_long_ends_its_child() -> None:
    made = world()
    parent = outer(made, timeout_minutes=10)
    child = child_of(parent)
    made.now += minutes(11)
    made.transact(run_stream(parent), Advance(), by="test", cause="time")
    made.settle()
    made.ends(child, status="cancelled")
    assert made.statuses(parent)["call"] == "timed_out"


def test_a_child_that_somebody_else_cancels_counts_as_cancelled() -> None:
    made = world()
    parent = outer(made)
    child = child_of(parent)
    made.control.cancel(child, by="bob")
    made.settle()
    made.ends(child, status="cancelled")
    phase = made.run(parent).jobs[CALL].phase
    assert isinstance(phase, Done)
    assert (phase.outcome, "by bob" in phase.reason) == ("cancelled", True)


def test_a_child_waits_for_the_limit_of_its_workflow() -> None:
    made = world(max_active_runs=1)
    rival = made.asked("inner")
    parent = outer(made)
    child = child_of(parent)
    assert not made.is_there(child)
    assert made.statuses(parent)["call"] == "submitted"
    made.ends(rival)
    assert made.is_there(child)
    made.ends(child)
    assert made.statuses(parent)["call"] == "succeeded"


def test_a_held_child_that_is_dropped_ends_the_job() -> None:
    made = world(max_active_runs=1)
    made.asked("inner")
    parent = outer(made)
    made.control.cancel(child_of(parent), by="bob")
    made.settle()
    phase = made.run(parent).jobs[CALL].phase
    assert isinstance(phase, Done)
    assert (phase.outcome, "dropped" in phase.reason) == ("cancelled", True)


def test_cancelling_the_parent_drops_a_held_child() -> None:
    made = world(max_active_runs=1)
    rival = made.asked("inner")
    parent = outer(made)
    made.control.cancel(parent, by="ada")
    made.settle()
    assert made.run(parent).outcome == "cancelled"
    made.ends(rival)
    assert not made.is_there(child_of(parent))


def test_a_child_begun_by_a_process_that_died_while_the_parent_was_cancelled_is_ended() -> None:
    """The start was under way when the stop found nothing: the child tells the parent that it is there, and is cancelled."""
    made = world()
    made.register("outer", call())
    parent = made.control.request_run(WorkflowName("outer"), {}, by="ada").run
    made.queue.clear()
    asked_late = StartAttempt(parent, CALL, 1)
    phase = made.run(parent).jobs[CALL].phase
    assert isinstance(phase, Queued)
    request = made.dispatch._render(made.run(parent), CALL, 1)
    made.control.cancel(parent, by="ada")
    made.settle()
    assert made.run(parent).outcome == "cancelled"
    made.dispatch._children.start(request)
    made.queue.clear()
    child = child_of(parent)
    made.work([asked_late])
    made.sweep(child, after=minutes(1))
    assert made.run(child).cancel is not None


def test_a_child_done_again_by_hand_after_the_parents_end_changes_nothing() -> None:
    made = world()
    made.register("outer", call())
    parent = made.asked("outer")
    child = child_of(parent)
    made.ends(child, status="failed", failure="user", reason="boom")
    assert made.run(parent).outcome == "failed"
    made.control.rerun(child, by="ada")
    made.settle()
    made.work([StopAttempt(parent, CALL, 1, Handle(child))])
    made.sweep(child, parent, after=minutes(1))
    assert made.run(child).cancel is None
    made.ends(child, attempt=2)
    assert (made.run(child).outcome, made.run(parent).outcome) == ("succeeded", "failed")
    assert made.statuses(parent)["call"] == "failed"


def test_a_rerun_of_the_parent_asks_for_another_child() -> None:
    made = world()
    made.register("outer", call())
    parent = made.asked("outer")
    made.ends(child_of(parent), status="failed", failure="user")
    made.control.rerun(parent, by="ada", failed=True)
    made.settle()
    assert made.is_there(child_of(parent, attempt=2))
    made.ends(child_of(parent, attempt=2))
    assert made.run(parent).outcome == "succeeded"


def test_a_job_that_does_not_wait_ends_when_the_run_is_asked_for() -> None:
    made = world()
    parent = outer(made, wait=False)
    child = child_of(parent)
    assert made.statuses(parent)["call"] == "succeeded"
    assert made.run(parent).jobs[CALL].outputs == {"run": child}
    made.control.cancel(parent, by="ada")
    made.settle()
    assert made.run(child).cancel is None


def test_a_workflow_that_calls_itself_is_refused() -> None:
    made = World()
    with pytest.raises(InvalidInput, match="outer, which is this workflow"):
        made.register("outer", call("outer"))
    made.register("a", call("b"))
    made.register("b", call("c"), work())
    with pytest.raises(InvalidInput, match="b → c"):
        made.register("c", work(), call("a"))
    with pytest.raises(InvalidInput, match=r"jobs\[0\].workflow"):
        made.register("c", call("a"))
    made.register("c", call("d"))


def test_calls_that_could_not_be_seen_end_at_a_bound() -> None:
    """A version that calls itself, pinned: nothing that is live shows it."""
    made = World()
    made.register("inner", call("inner", version=2))
    made.register("inner", call("inner", name="call", version=1), description="another")
    parent = made.asked("inner")
    run, depth = parent, 0
    while made.is_there(child_of(run)):
        run, depth = child_of(run), depth + 1
    assert depth == DEPTH_MAX
    assert made.run(parent).outcome == "failed"


def test_why_names_the_child_and_says_how_it_is() -> None:
    made = world(max_active_runs=1)
    rival = made.asked("inner")
    parent = outer(made)
    child = child_of(parent)

    def told() -> Condition:
        def run(name: RunId) -> Run | None:
            return made.run(name) if made.is_there(name) else None

        (found,) = with_children(why_job(made.run(parent), CALL, made.now), run, made.now)
        return found

    assert child in told().message
    assert "limit holds it back" in told().message
    made.ends(rival)
    assert "That run is running." in told().message
    assert [one.subject for one in told().chain] == ["load"]


def test_children_of_children_end_with_the_first_run() -> None:
    made = world()
    made.register("middle", call("inner"))
    made.register("outer", call("middle"))
    top = made.asked("outer")
    middle = child_of(top, "middle")
    bottom = child_of(middle)
    parent = made.run(bottom).request.parent
    assert parent is not None
    assert parent.depth == 2
    made.control.cancel(top, by="ada")
    made.settle()
    made.ends(bottom, status="cancelled")
    assert {made.run(run).outcome for run in (top, middle, bottom)} == {"cancelled"}
