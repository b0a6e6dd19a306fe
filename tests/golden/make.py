"""Makes the golden streams: histories that this release wrote, frozen beside what they fold to, for every later release to read.

Run as `python -m tests.golden.make NAME…` for streams that do not exist yet. A golden file is never made anew: if a change of the
code makes one fail, histories in the world fold differently too, and it is the change that is wrong. The stories together hold every
event; a new event needs a new story.
"""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from shared import codec
from shared.decide.commands import (
    AcceptDocument,
    AdmitRun,
    Advance,
    CancelJob,
    CancelRun,
    DocumentCommand,
    DropHeldRun,
    MarkJob,
    PauseWorkflow,
    RecordSilence,
    RecordStopSent,
    RejectDocument,
    ReleaseClaim,
    RemoveDocument,
    ResumeWorkflow,
    Tick,
    UnregisterWorkflow,
)
from shared.decide.document import DocumentDraft
from shared.events import Event
from shared.ids import Digest, JobName, RunId, WorkflowName
from shared.state.document import Upload, fold_document
from shared.state.run import Run, fold
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan, compile_plan
from tests.rules.sentences import (
    NOON,
    claim,
    document,
    ended,
    given,
    given_workflow,
    hours,
    job,
    minutes,
    register,
    reopen,
    report,
    request_of,
    requested,
    seconds,
)

HERE = Path(__file__).parent

Commits = list[tuple[datetime, tuple[Event, ...]]]


def an_ordinary_night() -> tuple[list[Plan], Commits]:
    plan = document(
        job("extract"),
        job("transform", after=["extract"], retry=3, type="ecs"),
        job("check", after=["extract"], when="jobs.extract.outputs.rows > 10"),
        job("alarm", after=["transform"], when="any_failed"),
        job("publish", after=["transform", "check"], when="all_done"),
        parallelism=2,
    )
    request = {"start_after": NOON + minutes(5), "parameters": {"region": "eu", "größe": 1.5}, "admitted": True}
    request |= {"requested_by": "ada", "note": "by hand", "files": {"in.csv": "artifact:1"}}
    story = given(requested(plan, request=request), minutes(5), Advance())
    story = story.given(claim("extract", send_before=story.now + minutes(1)), seconds(2))
    story = story.given(report("extract", "running", handle="h-1", started_at=story.now), minutes(3))
    outputs = {"rows": 12, "names": ["a", "b"], "nested": {"x": None}}
    story = story.given(
        report("extract", "succeeded", handle="h-1", exit_code=0, outputs=outputs, files={"out.csv": "artifact:2"})
    )
    story = story.given(report("transform", "submitted", handle="h-2"), minutes(2))
    story = story.given(report("transform", "running", handle="h-2", started_at=story.now), seconds(1))
    story = story.given(report("transform", "running", handle="h-stray"), seconds(1))
    story = story.given(report("transform", "failed", handle="h-2", exit_code=3, reason="disk full"), minutes(1))
    story = story.given(report("check", "succeeded", handle="h-3"), Advance(), minutes(1))
    story = story.given(
        report("transform", "succeeded", 2, handle="h-4"), report("transform", "failed", 2, handle="h-4")
    )
    return [plan], list(story.given(minutes(1), report("publish", "succeeded", handle="h-5")).history)


def doubts_and_stops() -> tuple[list[Plan], Commits]:
    lost = {"policy": "assume_lost", "after_minutes": 5}
    plan = document(
        job("released"),
        job("silent", doubt=lost, retry=2),
        job("asked", doubt={"policy": "ask"}),
        job("slow", timeouts={"queue_minutes": 1, "run_minutes": 2, "total_minutes": 60}, retry=2),
        job("stopped"),
        job("flagged"),
    )
    story = given(requested(plan))
    for name in ("released", "silent", "asked"):
        story = story.given(claim(name, send_before=story.now + minutes(1)))
    story = story.given(seconds(1), ReleaseClaim(JobName("released"), 1, "one", "throttled", 30.0))
    story = story.given(
        RecordSilence(JobName("silent"), 1, "timed out"), RecordSilence(JobName("asked"), 1, "timed out")
    )
    story = story.given(report("slow", "running", handle="h-4"), report("stopped", "submitted", handle="h-5"))
    story = story.given(report("flagged", "submitted", handle="h-6"), CancelJob(JobName("flagged"), "ada", "enough"))
    story = story.given(CancelJob(JobName("stopped"), "ada", "enough"), RecordStopSent(JobName("stopped"), 1))
    story = story.given(seconds(5), report("stopped", "cancelled", handle="h-5", exit_code=143))
    story = story.given(minutes(3), Advance(), report("slow", "failed", handle="h-4", exit_code=137))
    story = story.given(minutes(3), Advance(), minutes(1), Advance(), report("silent", "running", handle="h-late"))
    story = story.given(minutes(10), Advance(), MarkJob(JobName("asked"), "succeeded", "bob", "the table is there"))
    return [plan], list(story.history)


def cancelled_and_reopened() -> tuple[list[Plan], Commits]:
    plan = document(job("a"), job("b", after=["a"]), job("gone", after=["a"]))
    newer = document(job("a"), job("b", after=["a"]), job("new", after=["b"]))
    story = given(requested(plan), report("a", "succeeded", handle="h-1", outputs={"n": 1}), minutes(1))
    story = story.given(report("gone", "failed", handle="h-2"), CancelRun("ada", "wrong day"), seconds(3))
    story = story.given(report("b", "cancelled"), hours(1))
    story = story.given(reopen(newer, failed=True, version=2, changes=("gone: removed",), request="r-1"), minutes(1))
    story = story.given(report("b", "failed", 2, handle="h-3", exit_code=1), minutes(1))
    story = story.given(MarkJob(JobName("b"), "skipped", "bob", "not needed"), reopen(plan, failed=True, request="r-2"))
    return [plan, newer], list(story.given(report("gone", "succeeded", 2, handle="h-4")).history)


def a_workflows_life() -> tuple[list[Plan], Commits]:
    one = document(job("load"), schedule={"cron": "0 * * * *", "catchup": "latest"}, overlap="queue")
    two = document(job("load"), schedule={"cron": "0 * * * *", "catchup": "none"}, overlap="skip")
    three = document(job("load"), schedule={"cron": "30 * * * *", "catchup": "all"}, overlap="cancel_running")
    by_hand = RunId("nightly@by-hand")
    story = given_workflow(register(one), hours(1), Tick(), AdmitRun(request_of(one, by_hand)), hours(1), Tick())
    story = story.given(DropHeldRun(by_hand, "ada", "changed my mind"), ended("nightly@2026-03-02T13:00:00Z"))
    story = story.given(
        register(two), hours(1), Tick(), PauseWorkflow("ada", "holiday"), hours(50), ResumeWorkflow("ada")
    )
    story = story.given(register(three), hours(1), Tick(), hours(1), Tick(), UnregisterWorkflow("ada", "over"))
    return [one, two, three], list(story.given(register(one), ended("nightly@2026-03-02T14:00:00Z", "failed")).history)


def an_uploads_life() -> tuple[list[Plan], Commits]:
    commits: Commits = []
    state = Upload()
    commands: list[DocumentCommand] = [
        AcceptDocument("etag-1", WorkflowName("nightly"), Digest("d" * 64)),
        RejectDocument("etag-2", ("jobs[0].name: is missing", "größe: unknown")),
        RemoveDocument("delete-1"),
    ]
    for number, command in enumerate(commands):
        draft = DocumentDraft(state, NOON + minutes(number))
        draft.decide(command)
        commits.append((draft.now, tuple(draft.events)))
        state = draft.state
    return [], commits


STORIES: dict[str, Callable[[], tuple[list[Plan], Commits]]] = {
    "run-an-ordinary-night": an_ordinary_night,
    "run-doubts-and-stops": doubts_and_stops,
    "run-cancelled-and-reopened": cancelled_and_reopened,
    "workflow-a-life": a_workflows_life,
    "document-a-life": an_uploads_life,
}


def outcome_of(kind: str, documents: list[Any], commits: list[Any]) -> Any:
    """What the stored commits fold to, as JSON in words that do not depend on how the state is built."""
    timed = [
        (datetime.fromisoformat(commit["at"]), event)
        for commit in commits
        for event in codec.events_in(json.dumps(commit["events"], ensure_ascii=False))
    ]
    plans = {
        Digest(one["digest"]): compile_plan(Workflow.model_validate(one["document"]), Digest(one["digest"]))
        for one in documents
    }
    match kind:
        case "run":
            run = fold(timed, plans.__getitem__)
            assert isinstance(run, Run)
            return _run_seen(run)
        case "workflow":
            workflow = fold_workflow(timed, NotRegistered())
            assert isinstance(workflow, WorkflowState)
            return _workflow_seen(workflow)
        case _:
            upload = fold_document(timed)
            return {
                "upload": upload.upload,
                "workflow": upload.workflow,
                "problems": list(upload.problems),
                "removed": upload.removed,
            }


def _run_seen(run: Run) -> Any:
    return {
        "status": run.status,
        "round": run.round,
        "document_version": run.document_version,
        "started_at": _moment(run.started_at),
        "finished_at": _moment(run.finished_at),
        "counts": [run.active, run.unfinished, run.flagged, run.doubted, run.stopping],
        "tally": dict(sorted(run.tally.items())),
        "cancelled_by": run.cancel.by if run.cancel else None,
        "live": sorted(run.live),
        "jobs": {
            name: {
                "status": run.jobs[name].status,
                "outputs": dict(run.jobs[name].outputs or {}),
                "files": dict(run.jobs[name].files or {}),
                "strays": sorted(run.jobs[name].strays or {}),
                "attempts": [
                    {
                        "attempt": one.attempt,
                        "round": one.round,
                        "status": one.status,
                        "handle": one.handle,
                        "exit_code": one.exit_code,
                        "failure": one.failure,
                        "reason": one.reason,
                        "late": list(one.late),
                        "queued_at": _moment(one.queued_at),
                        "started_at": _moment(one.started_at),
                        "recorded_at": _moment(one.recorded_at),
                    }
                    for one in run.jobs[name].attempts
                ],
            }
            for name in run.plan.jobs
        },
    }


def _workflow_seen(state: WorkflowState) -> Any:
    return {
        "name": state.name,
        "versions": [[version.number, version.document] for version in state.versions],
        "live": state.live.number if state.live else None,
        "paused_by": state.pause.by if state.pause else None,
        "watermark": _moment(state.watermark),
        "next_at": _moment(state.next_at),
        "holders": {run: _moment(state.holders[run].admitted_at) for run in sorted(state.holders)},
        "held": [one.run for one in state.held],
        "previous_success_at": _moment(state.previous_success_at),
    }


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def make(name: str) -> Path:
    plans, history = STORIES[name]()
    documents = [
        {"digest": plan.digest, "document": plan.workflow.model_dump(mode="json", exclude_defaults=True)}
        for plan in plans
    ]
    commits = [{"at": at.isoformat(), "events": json.loads(codec.body_of(events))} for at, events in history]
    outcome = outcome_of(name.partition("-")[0], documents, commits)
    path = HERE / f"{name}.json"
    frozen = {"documents": documents, "commits": commits, "outcome": outcome}
    with path.open("x", encoding="utf-8") as file:
        json.dump(frozen, file, ensure_ascii=False, indent=1)
        file.write("\n")
    return path


if __name__ == "__main__":
    for wanted in sys.argv[1:] or STORIES:
        print(make(wanted))
