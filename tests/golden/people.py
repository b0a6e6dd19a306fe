"""Golden stories of runs that wait: for the decision of a person, or for another run."""

from datetime import datetime

from shared.decide.commands import AdmitRun, Advance, CancelJob, DecideApproval, DropHeldRun, MarkJob
from shared.events import Event, ParentJob
from shared.ids import JobName, RunId
from shared.workflow.plan import Plan
from tests.rules.sentences import (
    document,
    given,
    given_workflow,
    job,
    minutes,
    register,
    reopen,
    report,
    request_of,
    requested,
    seconds,
)

Commits = list[tuple[datetime, tuple[Event, ...]]]


def _approval(name: str, **fields: object) -> dict[str, object]:
    return {"name": name, "type": "approval", **fields}


def decisions() -> tuple[list[Plan], Commits]:
    soon = {"run_minutes": 30}
    plan = document(
        job("count"),
        _approval(
            "yes", after=["count"], message="Load {{ jobs.count.outputs.rows }} rows?", by=["anna", "role:author"]
        ),
        _approval("yes-at-once"),
        _approval("no"),
        _approval("no-at-once"),
        _approval("late", timeouts=soon),
        _approval("late-but-yes", timeouts=soon, on_timeout="approve"),
        _approval("late-and-skipped", timeouts=soon, on_timeout="skip"),
        _approval("dropped"),
        _approval("marked"),
        job("load", after=["yes"]),
    )
    story = given(requested(plan), seconds(30), report("count", "succeeded", handle="h-1", outputs={"rows": 7}))

    def says(name: str, verdict: str, reason: str = "") -> DecideApproval:
        return DecideApproval(JobName(name), verdict, "anna", None if name == "yes" else "operator", reason)  # type: ignore[arg-type]

    story = story.given(minutes(1), says("yes", "approved", "as many as ever"), says("yes-at-once", "approved"))
    story = story.given(minutes(1), says("no", "rejected", "not today"), says("no-at-once", "rejected"))
    story = story.given(minutes(1), CancelJob(JobName("dropped"), "ada"))
    story = story.given(MarkJob(JobName("marked"), "skipped", "ada", "nobody needs it"), minutes(30), Advance())
    story = story.given(report("load", "succeeded", handle="h-2"), minutes(1))
    return [plan], list(story.given(reopen(plan, "no"), minutes(1), says("no", "approved")).history)


def a_child() -> tuple[list[Plan], Commits]:
    plan = document(job("load"))
    parent = ParentJob(run=RunId("outer@1"), job=JobName("call"), attempt=2, depth=1)
    request = {"parent": parent, "trigger": "parent", "requested_by": "outer@1"}
    return [plan], list(given(requested(plan, request=request), report("load", "succeeded", handle="h-1")).history)


def a_childs_place() -> tuple[list[Plan], Commits]:
    plan = document(job("load"), max_active_runs=1)
    parent = ParentJob(run=RunId("outer@1"), job=JobName("call"), attempt=1, depth=3)
    first = request_of(plan, RunId("nightly@1"), admitted=True)
    child = request_of(plan, RunId("nightly@2"), admitted=True, parent=parent, trigger="parent")
    story = given_workflow(register(plan), AdmitRun(first), AdmitRun(child), minutes(1))
    return [plan], list(story.given(DropHeldRun(child.run, "outer@1", "call of outer@1 is to end")).history)
