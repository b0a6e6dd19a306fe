"""What people and programs ask for: register, run, cancel, rerun, mark, pause. Each is one or two commands; the rules that allow or
refuse them stand in `decide/`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal

from shared.decide.access import Role
from shared.decide.backfill import asked_range
from shared.decide.commands import (
    AcceptDocument,
    CancelBackfill,
    CancelJob,
    CancelRun,
    DecideApproval,
    DropHeldRun,
    MarkJob,
    PauseBackfill,
    PauseWorkflow,
    RegisterWorkflow,
    RejectDocument,
    RemoveDocument,
    ReopenRun,
    RequestBackfill,
    ResumeBackfill,
    ResumeWorkflow,
    SetCapacity,
    UnregisterWorkflow,
)
from shared.errors import InvalidInput, NotFound, Problem, Rejected
from shared.events import RunRequested
from shared.ids import (
    BackfillId,
    Digest,
    JobName,
    PoolName,
    RunId,
    WorkflowName,
    backfill_stream,
    digest_of,
    document_stream,
    fresh_backfill,
    fresh_run,
    is_backfill,
    is_name,
    keyed_backfill,
    keyed_run,
    pool_stream,
    run_stream,
    scheduled_instant,
    workflow_of,
    workflow_stream,
)
from shared.ports import Documents
from shared.secrecy import without_secrets
from shared.state.backfill import BackfillState
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.calendars import RegisteredCalendar, check_calendars, register_calendar
from shared.usecases.calls import circles
from shared.usecases.documents import difference, read_any, read_document
from shared.usecases.requesting import Requested, ask_for, check_files
from shared.usecases.transact import Transact
from shared.usecases.triggers import check_no_ring
from shared.usecases.waitable import check_waitable
from shared.workflow.calendar import Calendar
from shared.workflow.document import Workflow
from shared.workflow.nearest import shown
from shared.workflow.parameters import fill, is_declared
from shared.workflow.reading import canonical

NAMES_COMPARED_MAX = 1_000
"""Names looked at for "did you mean"."""


@dataclass(frozen=True, slots=True)
class Registered:
    workflow: WorkflowName
    version: int
    changed: bool
    """False when this very document was live already."""
    differences: tuple[str, ...]
    """What is new against the version before, for people."""


@dataclass(frozen=True, slots=True)
class AskedBackfill:
    backfill: BackfillId
    count: int
    """Instants in its range."""
    new: bool


class Control:
    """`by` names who asks, in every call; it is recorded with what was asked."""

    def __init__(
        self,
        transact: Transact,
        documents: Documents,
        *,
        new_id: Callable[[], str],
        known_workflows: Callable[[], Sequence[str]] = list,
        files: str = "",
    ) -> None:
        """`files`: how the addresses begin of the files that this engine looks for when runs wait for them."""
        self._files = files
        self._transact = transact
        self._documents = documents
        self._new_id = new_id
        self._known_workflows = known_workflows

    # Workflows.

    def register(self, data: bytes, *, name: str, by: str, source: str = "") -> Registered:
        """Make a document the live version of its workflow. `InvalidInput` with every problem; then nothing changed."""
        return self.register_document(read_document(data, name=name), by=by, source=source or name)

    def register_document(self, document: Workflow, *, by: str, source: str) -> Registered:
        check_no_ring(self._transact.loader, document)
        check_calendars(self._transact.loader, document)
        digest = self._documents.put(canonical(document))
        return self._make_live(WorkflowName(document.name), digest, by=by, source=source)

    def register_version(self, workflow: WorkflowName, number: int, *, by: str) -> Registered:
        """Roll back, or forward: make an earlier document live again, as a new version."""
        state = self.workflow(workflow)
        version = state.version(number)
        if version is None:
            raise NotFound(f"{workflow} has no version {number}; it has 1 to {len(state.versions)}")
        earlier = self._transact.loader.plans(version.document).workflow
        check_no_ring(self._transact.loader, earlier)
        return self._make_live(workflow, version.document, by=by, source=f"version {number}")

    def _never_met(self, document: Workflow) -> Iterator[Problem]:
        """What the document waits for in vain."""

        def known(name: str) -> Workflow | None:
            return self._live_or_none(WorkflowName(name))

        def nearest(name: str) -> str:
            near = get_close_matches(name, list(self._known_workflows())[:NAMES_COMPARED_MAX], n=1)
            return f"did you mean `{near[0]}`?" if near else ""

        return check_waitable(document, known, self._transact.now(), files=self._files, nearest=nearest)

    def _make_live(self, workflow: WorkflowName, digest: Digest, *, by: str, source: str) -> Registered:
        document = self._transact.loader.plans(digest).workflow
        problems = [*circles(document, self._live_or_none), *self._never_met(document)]
        if problems:
            raise InvalidInput(problems)
        stream = workflow_stream(workflow)
        before = self._transact.current(stream).state
        old = before.live if isinstance(before, WorkflowState) else None
        command = RegisterWorkflow(workflow, digest, by, without_secrets(source))
        decided = self._transact(stream, command, by=by, cause="register")
        state = decided.loaded.state
        assert isinstance(state, WorkflowState)
        assert state.live is not None
        plans = self._transact.loader.plans
        differences = (
            difference(plans(old.document).workflow, plans(digest).workflow)
            if old is not None and old.document != digest
            else ()
        )
        return Registered(workflow, state.live.number, bool(decided.events), tuple(differences))

    def register_calendar(self, calendar: Calendar, *, by: str, source: str) -> RegisteredCalendar:
        """Make these the days of a calendar; schedules that name it follow it from their next instant on."""
        return register_calendar(self._transact, calendar, by=by, source=source)

    def unregister(self, workflow: WorkflowName, *, by: str, reason: str = "") -> None:
        self._to_workflow(workflow, UnregisterWorkflow(by, reason), by)

    def pause(self, workflow: WorkflowName, *, by: str, reason: str = "") -> None:
        self._to_workflow(workflow, PauseWorkflow(by, reason), by)

    def resume(self, workflow: WorkflowName, *, by: str) -> None:
        self._to_workflow(workflow, ResumeWorkflow(by), by)

    def _live_or_none(self, workflow: WorkflowName) -> Workflow | None:
        state = self._transact.current(workflow_stream(workflow)).state
        if not isinstance(state, WorkflowState) or state.live is None:
            return None
        return self._transact.loader.plans(state.live.document).workflow

    def set_pool(self, pool: str, capacity: int, *, by: str) -> bool:
        """Give a pool its capacity; whether that was another than before. `InvalidInput`."""
        if not is_name(pool):
            raise InvalidInput(
                [Problem("pool", f"{shown(pool)} is no name", "1 to 64 letters, digits, `_`, `.` and `-`")]
            )
        name = PoolName(pool)
        return bool(self._transact(pool_stream(name), SetCapacity(name, capacity, by), by=by, cause="pools").events)

    def live_document(self, workflow: WorkflowName) -> Workflow:
        """`Rejected` when it was unregistered."""
        state = self.workflow(workflow)
        if state.live is None:
            raise Rejected(f"{workflow} was unregistered; register it again to run it")
        return self._transact.loader.plans(state.live.document).workflow

    def workflow(self, workflow: WorkflowName) -> WorkflowState:
        """The newest state; `NotFound` with the nearest name."""
        if is_name(workflow):
            state = self._transact.current(workflow_stream(workflow)).state
            if isinstance(state, WorkflowState):
                return state
        raise NotFound(f"there is no workflow {workflow}{self._nearest(workflow)}")

    # Uploads.

    def upload(self, key: str, upload: str, data: bytes, *, by: str) -> Registered | RegisteredCalendar:
        """Register what was uploaded under `key`, a workflow or a calendar; good or bad, the upload's own stream remembers what
        became of it.

        `InvalidInput` when it is bad: the last good version stays live.
        """
        stream = document_stream(key)
        try:
            document = read_any(data, name=key)
            if isinstance(document, Calendar):
                calendar = self.register_calendar(document, by=by, source=key)
                accept = AcceptDocument(upload, WorkflowName(""), digest_of(data), calendar.calendar)
                self._transact(stream, accept, by=by, cause=f"upload:{upload}")
                return calendar
            registered = self.register_document(document, by=by, source=key)
        except InvalidInput as invalid:
            problems = tuple(str(problem) for problem in invalid.problems)
            self._transact(stream, RejectDocument(upload, problems), by=by, cause=f"upload:{upload}")
            raise
        digest = self._live_digest(registered.workflow)
        command = AcceptDocument(upload, registered.workflow, digest)
        self._transact(stream, command, by=by, cause=f"upload:{upload}")
        return registered

    def upload_removed(self, key: str, upload: str, *, by: str) -> None:
        """The object is gone. The workflow stays registered: removing a file by accident must not stop the nights."""
        self._transact(document_stream(key), RemoveDocument(upload), by=by, cause=f"removed:{upload}")

    def _live_digest(self, workflow: WorkflowName) -> Digest:
        live = self.workflow(workflow).live
        assert live is not None
        return live.document

    # Runs.

    def request_run(
        self,
        workflow: WorkflowName,
        parameters: Mapping[str, Any],
        *,
        by: str,
        key: str = "",
        start_after: datetime | None = None,
        files: Mapping[str, str] | None = None,
        note: str = "",
    ) -> Requested:
        """Ask for a run now, or not before `start_after`. The same `key` again gives the same run."""
        state = self.workflow(workflow)
        if state.live is None:
            raise Rejected(f"{workflow} was unregistered; register it again to run it")
        document = self._transact.loader.plans(state.live.document).workflow
        values = fill(document.parameters, parameters)
        check_files(document, files or {})
        run = keyed_run(workflow, key) if key else fresh_run(workflow, self._new_id())
        request = RunRequested(
            run=run,
            workflow=workflow,
            document=state.live.document,
            document_version=state.live.number,
            parameters=values,
            start_after=start_after,
            previous_success_at=state.previous_success_at,
            files=dict(files or {}),
            requested_by=by,
            note=without_secrets(note),
        )
        return ask_for(self._transact, request, by=by)

    def cancel(self, run: RunId, *, by: str, reason: str = "", job: JobName | None = None) -> None:
        """Ask a run, or one job of it, to end; a run that waits for its workflow's limit is dropped."""
        stream = run_stream(run)
        if job is not None:
            self._transact(stream, CancelJob(job, by, reason), by=by, cause="cancel")
            return
        if not isinstance(self._transact.current(stream).state, Run):
            workflow = self._transact.current(workflow_stream(workflow_of(run))).state
            if isinstance(workflow, WorkflowState) and any(one.run == run for one in workflow.held):
                self._to_workflow(workflow.name, DropHeldRun(run, by, reason), by)
                return
            raise self._no_run(run)
        self._transact(stream, CancelRun(by, reason), by=by, cause="cancel")

    def mark(
        self,
        run: RunId,
        job: JobName,
        outcome: Literal["succeeded", "failed", "skipped"],
        *,
        by: str,
        reason: str,
    ) -> None:
        self.run(run)
        self._transact(run_stream(run), MarkJob(job, outcome, by, reason), by=by, cause="mark")

    def decide(
        self,
        run: RunId,
        job: JobName,
        verdict: Literal["approved", "rejected"],
        *,
        by: str,
        role: Role | None,
        reason: str = "",
    ) -> None:
        """Say yes or no to a job that waits for that. `role`: the greatest that whoever asks has on the workflow. `NotAllowed`."""
        self.run(run)
        self._transact(run_stream(run), DecideApproval(job, verdict, by, role, reason), by=by, cause=verdict)

    def rerun(
        self,
        run: RunId,
        *,
        by: str,
        jobs: Sequence[JobName] = (),
        failed: bool = False,
        document: Literal["pinned", "latest"] | int = "pinned",
        reason: str = "",
        request: str = "",
    ) -> tuple[str, ...]:
        """Begin a new round of a finished run; how its document differs from the one before is returned and recorded."""
        state = self.run(run)
        digest, number = self._document_for(state, document)
        plans = self._transact.loader.plans
        changes = tuple(difference(state.plan.workflow, plans(digest).workflow)) if digest != state.plan.digest else ()
        command = ReopenRun(
            jobs=tuple(jobs),
            failed=failed or not jobs,
            document=digest,
            document_version=number,
            changes=changes[:100],
            by=by,
            reason=reason,
            request=request,
            parameters=_other_parameters(state, plans(digest).workflow) if changes else None,
        )
        self._transact(run_stream(run), command, by=by, cause="rerun")
        return changes

    # Backfills.

    def request_backfill(
        self,
        workflow: WorkflowName,
        since: str,
        until: str,
        *,
        by: str,
        order: Literal["oldest", "newest"] = "oldest",
        which: Literal["all", "missing", "failed"] = "missing",
        max_active: int = 1,
        parameters: Mapping[str, Any] | None = None,
        reason: str = "",
        key: str = "",
        now: datetime,
    ) -> AskedBackfill:
        """Ask for the instants of a workflow's schedule from `since` on and before `until`, as `moment_in` reads them. The same `key` again gives
        the same backfill. `InvalidInput` with every problem; nothing is written then."""
        state = self.workflow(workflow)
        backfill = keyed_backfill(workflow, key) if key else fresh_backfill(workflow, self._new_id())
        if key and isinstance(known := self._transact.current(backfill_stream(backfill)).state, BackfillState):
            return AskedBackfill(backfill, known.request.count, new=False)
        if state.live is None:
            raise Rejected(f"{workflow} was unregistered; register it again to run it")
        document = self._transact.loader.plans(state.live.document).workflow
        meant = asked_range(document.schedule, since, until, now, max_active=max_active)
        values = fill(document.parameters, parameters or {})
        check_files(document, {})
        command = RequestBackfill(
            backfill=backfill,
            workflow=workflow,
            document=state.live.document,
            document_version=state.live.number,
            range_from=meant.since,
            range_until=meant.until,
            order=order,
            which=which,
            max_active=max_active,
            parameters=values,
            previous_success_at=state.previous_success_at,
            by=by,
            reason=reason,
        )
        decided = self._transact(backfill_stream(backfill), command, by=by, cause=f"request:{backfill}")
        return AskedBackfill(backfill, meant.count, new=bool(decided.events))

    def pause_backfill(self, backfill: BackfillId, *, by: str, reason: str = "") -> None:
        self._to_backfill(backfill, PauseBackfill(by, reason), by)

    def resume_backfill(self, backfill: BackfillId, *, by: str) -> None:
        self._to_backfill(backfill, ResumeBackfill(by), by)

    def cancel_backfill(self, backfill: BackfillId, *, by: str, reason: str = "") -> None:
        """Begin no more of its runs, and ask the active ones to end."""
        self._to_backfill(backfill, CancelBackfill(by, reason), by)

    def _to_backfill(
        self, backfill: BackfillId, command: PauseBackfill | ResumeBackfill | CancelBackfill, by: str
    ) -> None:
        if not is_backfill(backfill):
            raise NotFound(f"there is no backfill {shown(backfill)}; `runfold backfill` lists them")
        stream = backfill_stream(backfill)
        if not isinstance(self._transact.current(stream).state, BackfillState):
            raise NotFound(f"there is no backfill {backfill}; `runfold backfill` lists them")
        self._transact(stream, command, by=by, cause=type(command).__name__)

    def run(self, run: RunId) -> Run:
        state = self._transact.current(run_stream(run)).state
        if not isinstance(state, Run):
            raise self._no_run(run)
        return state

    def _document_for(self, run: Run, document: Literal["pinned", "latest"] | int) -> tuple[Digest, int]:
        if document == "pinned":
            return run.plan.digest, run.document_version
        workflow = self.workflow(run.request.workflow)
        version = workflow.live if document == "latest" else workflow.version(document)
        if version is None and document == "latest":
            raise Rejected(f"{workflow.name} was unregistered, so no version is the latest: name one by its number")
        if version is None:
            raise NotFound(f"{workflow.name} has no version {document}; it has 1 to {len(workflow.versions)}")
        return version.document, version.number

    def _no_run(self, run: RunId) -> NotFound:
        if scheduled_instant(run) is not None:
            return NotFound(f"there is no run {run} (yet): `runfold why {run}` tells more")
        return NotFound(f"there is no run {run}; `runfold runs` lists them")

    def _to_workflow(
        self,
        workflow: WorkflowName,
        command: UnregisterWorkflow | PauseWorkflow | ResumeWorkflow | DropHeldRun,
        by: str,
    ) -> None:
        self.workflow(workflow)
        self._transact(workflow_stream(workflow), command, by=by, cause=type(command).__name__)

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name, list(self._known_workflows())[:NAMES_COMPARED_MAX], n=1)
        return f": did you mean {near[0]}?" if near else "; `runfold workflows` lists them"


def _other_parameters(run: Run, document: Workflow) -> dict[str, Any] | None:
    """What the run is given under another document: what it has as far as that declares it, the rest by default. None when
    that is what it has. Raises InvalidInput."""
    schema = document.parameters
    has = run.request.parameters
    try:
        values = fill(schema, {name: value for name, value in has.items() if is_declared(schema, name)})
    except InvalidInput as error:
        hint = f"the run was asked for under another document: ask for a new one, `runfold run {run.request.workflow}`"
        raise InvalidInput([replace(problem, hint=hint) for problem in error.problems]) from None
    return None if values == has else values
