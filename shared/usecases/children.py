"""Runs that stand for attempts of other runs: the executor of jobs of type `workflow`, whose target is this engine itself.

What it promises: one token, one run, however often it is asked for; a child is admitted by its workflow's limits as any run that is asked
for; what it says of a child is what the child's own stream says. A child that a person does again after its parent has ended is nobody's.
"""

import json
from collections.abc import Sequence
from typing import Any

from shared.decide.commands import CancelRun, DropHeldRun
from shared.decide.run import PAYLOAD_BYTES_MAX
from shared.errors import (
    CorruptStream,
    InvalidInput,
    NotFound,
    Rejected,
    TargetRefused,
    TargetUnavailable,
    UnknownEvents,
)
from shared.events import ParentJob, RunRequested
from shared.ids import Handle, JobName, RunId, WorkflowName, child_run, run_stream, workflow_of, workflow_stream
from shared.ports import Reference, Report, ReportStatus, Request
from shared.state.run import BAD_OUTCOMES, Done, Run
from shared.state.workflow import HELD_MAX, WorkflowState
from shared.usecases.requesting import ask_for, check_files
from shared.usecases.transact import Transact
from shared.workflow.document import WorkflowJob
from shared.workflow.parameters import fill

DEPTH_MAX = 10
"""Runs above a child. Ours: nobody nests deeper on purpose, and a workflow that calls itself must end somewhere."""


class ChildRuns:
    """An `Executor`. Errors of the store come through as they are: the effect is carried out again."""

    takes_token = True
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    def start(self, request: Request) -> Handle:
        body = request.body
        child = child_run(WorkflowName(body["workflow"]), request.token)
        if isinstance(self._transact.current(run_stream(child)).state, Run):
            return Handle(child)
        parent = self._run(request.run)
        above = parent.request.parent.depth if parent is not None and parent.request.parent is not None else 0
        if above >= DEPTH_MAX:
            raise TargetRefused(
                f"{above} runs stand above this one, each of which asked for the next: no more are begun"
            )
        state = self._transact.current(workflow_stream(workflow_of(child))).state
        if not isinstance(state, WorkflowState):
            raise TargetRefused(f"there is no workflow {body['workflow']}")
        asked = self._asked(request, child, state, above + 1)
        try:
            ask_for(self._transact, asked, by=request.run)
        except NotFound as error:
            raise TargetRefused(str(error)) from error
        except Rejected as error:
            if len(state.held) >= HELD_MAX:
                raise TargetUnavailable(str(error)) from error
            raise TargetRefused(str(error)) from error
        return Handle(child)

    def _asked(self, request: Request, child: RunId, state: WorkflowState, depth: int) -> RunRequested:
        number = request.body.get("version")
        version = state.live if number is None else state.version(number)
        if state.live is None:
            raise TargetRefused(f"{state.name} was unregistered")
        if version is None:
            raise TargetRefused(f"{state.name} has no version {number}; it has 1 to {len(state.versions)}")
        document = self._transact.loader.plans(version.document).workflow
        try:
            parameters = fill(document.parameters, request.body.get("parameters", {}))
            check_files(document, ())
        except InvalidInput as error:
            raise TargetRefused(f"{state.name} cannot be run so: {error}") from error
        return RunRequested(
            run=child,
            workflow=state.name,
            document=version.document,
            document_version=version.number,
            parameters=parameters,
            trigger="parent",
            previous_success_at=state.previous_success_at,
            requested_by=request.run,
            parent=ParentJob(run=request.run, job=request.job, attempt=request.attempt, depth=depth),
        )

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        reports: list[Report] = []
        for reference in references:
            try:
                report = self._observe(reference)
            except (CorruptStream, UnknownEvents):
                # Nobody can say how it is, and the others are not to wait for that.
                continue
            if report is not None:
                reports.append(report)
        return reports

    def _observe(self, reference: Reference) -> Report | None:
        job = self._job(reference)
        if job is None:
            return None
        child = _child(reference, job)
        for _ in range(2):
            found = self._run(child)
            if found is not None:
                return self._of_run(reference, job, found)
            workflow = self._transact.current(workflow_stream(workflow_of(child))).state
            if isinstance(workflow, WorkflowState) and workflow.knows(child):
                return self._there(reference, job, child, "submitted")
            # Between the two looks it may have begun, and even ended: only when it is not there after that either, nobody has it.
        if reference.handle is None:
            return _report(reference, "missing")
        return _report(reference, "cancelled", child, reason=f"the run {child} was dropped before it was let in")

    def _of_run(self, reference: Reference, job: WorkflowJob, child: Run) -> Report:
        run = child.run
        if not job.wait or child.outcome is None:
            return self._there(reference, job, run, "submitted" if child.started_at is None else "running", child)
        told: dict[str, Any] = {"started_at": child.started_at, "ended_at": child.finished_at}
        match child.outcome:
            case "succeeded":
                wrong, outputs = _outputs(child, job.outputs_from)
                if wrong:
                    return _report(reference, "failed", run, failure="user", reason=wrong, **told)
                return _report(reference, "succeeded", run, outputs=outputs, **told)
            case "failed":
                return _report(reference, "failed", run, failure="user", reason=_failure(child), **told)
            case "cancelled":
                by = child.cancel.by if child.cancel is not None else ""
                reason = f"the run {run} was cancelled" + (f" by {by}" if by else "")
                return _report(reference, "cancelled", run, reason=reason, **told)

    def _there(
        self, reference: Reference, job: WorkflowJob, child: RunId, status: ReportStatus, found: Run | None = None
    ) -> Report:
        if not job.wait:
            return _report(reference, "succeeded", child, outputs={"run": child})
        return _report(reference, status, child, started_at=found.started_at if found is not None else None)

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:  # noqa: ARG002  (each job of the child has its own)
        job = self._job(reference)
        if job is None:
            return
        child = _child(reference, job)
        reason = f"{reference.job} of {reference.run} is to end"
        found = self._run(child)
        try:
            if found is not None:
                if found.outcome is None and (found.round == 1 or self._is_open(reference)):
                    command = CancelRun(by=reference.run, reason=reason)
                    self._transact(run_stream(child), command, by="dispatch", cause="cancel")
                return
            stream = workflow_stream(workflow_of(child))
            workflow = self._transact.current(stream).state
            if not isinstance(workflow, WorkflowState) or not workflow.knows(child):
                return
            if child in workflow.holders:
                raise TargetUnavailable(f"{child} is about to begin")
            self._transact(stream, DropHeldRun(child, reference.run, reason), by="dispatch", cause="DropHeldRun")
        except Rejected:
            # It has ended meanwhile.
            return

    def _job(self, reference: Reference) -> WorkflowJob | None:
        parent = self._run(reference.run)
        job = parent.plan.jobs.get(reference.job) if parent is not None else None
        return job if isinstance(job, WorkflowJob) else None

    def _is_open(self, reference: Reference) -> bool:
        parent = self._run(reference.run)
        state = parent.jobs.get(reference.job) if parent is not None else None
        return state is not None and state.is_open and len(state.attempts) + 1 == reference.attempt

    def _run(self, run: RunId) -> Run | None:
        state = self._transact.current(run_stream(run)).state
        return state if isinstance(state, Run) else None


def _child(reference: Reference, job: WorkflowJob) -> RunId:
    # A later round may be of a document in which the job runs another workflow.
    return RunId(reference.handle) if reference.handle else child_run(WorkflowName(job.workflow), reference.token)


def _report(reference: Reference, status: ReportStatus, child: RunId | None = None, **fields: Any) -> Report:
    handle = Handle(child) if child is not None else None
    return Report(reference.token, reference.run, reference.job, reference.attempt, status, handle=handle, **fields)


def _failure(child: Run) -> str:
    """Which of its jobs failed first, in the document's order, and why."""
    for name in child.plan.jobs:
        phase = child.jobs[name].phase
        if isinstance(phase, Done) and phase.outcome in BAD_OUTCOMES - {"upstream_failed"}:
            return f"the run {child.run} failed: {name} {phase.outcome}" + (f": {phase.reason}" if phase.reason else "")
    return f"the run {child.run} failed"


def _outputs(child: Run, wanted: str | None) -> tuple[str, dict[str, Any]]:
    """What is wrong with the child's outputs, or empty; and the outputs."""
    if wanted is not None:
        state = child.jobs.get(JobName(wanted))
        if state is None:
            return f"the run {child.run} has no job {wanted} whose outputs could be taken", {}
        return "", dict(state.outputs or {})
    outputs: dict[str, Any] = {}
    size = 0
    for name in child.plan.jobs:
        found = child.jobs[name].outputs
        if found:
            size += len(name) + len(json.dumps(found, ensure_ascii=False).encode())
            if size > PAYLOAD_BYTES_MAX:
                return (
                    f"the outputs of all jobs of {child.run} take more than {PAYLOAD_BYTES_MAX:,} bytes: name the job whose "
                    "outputs are wanted, in `outputs_from`"
                ), {}
            outputs[name] = dict(found)
    return "", outputs
