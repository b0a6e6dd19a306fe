"""A run that somebody asks for, on its way to its stream, or to its workflow's where that limits how many are active."""

from collections.abc import Collection
from dataclasses import dataclass

from shared.decide.commands import AdmitRun, RequestRun
from shared.errors import InvalidInput, Problem
from shared.events import RunRequested
from shared.ids import RunId, run_stream, workflow_stream
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.transact import Transact
from shared.workflow.document import Workflow


@dataclass(frozen=True, slots=True)
class Requested:
    run: RunId
    held: bool
    """Whether it waits for a limit of its workflow."""
    new: bool


def ask_for(transact: Transact, request: RunRequested, *, by: str) -> Requested:
    """Ask for a run under an id of its own; asked for twice, it is the same run. Raises `Rejected`."""
    run = request.run
    if isinstance(transact.current(run_stream(run)).state, Run):
        return Requested(run, held=False, new=False)
    stream = workflow_stream(request.workflow)
    state = transact.current(stream).state
    if not isinstance(state, WorkflowState) or not _limits(transact, state, request):
        decided = transact(run_stream(run), RequestRun(request), by=by, cause=f"request:{run}")
        return Requested(run, held=False, new=bool(decided.events))
    admitted = request.model_copy(update={"admitted": True})
    decided = transact(stream, AdmitRun(admitted), by=by, cause=f"request:{run}")
    after = decided.loaded.state
    assert isinstance(after, WorkflowState)
    return Requested(run, held=any(one.run == run for one in after.held), new=bool(decided.events))


def _limits(transact: Transact, state: WorkflowState, request: RunRequested) -> bool:
    """Whether the live document limits how many runs are active; what is pinned to an older version counts as the others do."""
    digest = state.live.document if state.live is not None else request.document
    document = transact.loader.plans(digest).workflow
    return document.overlap != "allow" or document.max_active_runs is not None


def check_files(document: Workflow, files: Collection[str]) -> None:
    """Whether these are the names of the files that a run must be given. `InvalidInput` with every problem."""
    wanted = {given.upload for job in document.jobs for given in job.inputs if given.upload is not None}
    problems = [
        Problem(f"files.{name}", "the run needs this file", "give it: `runfold run --file NAME=PATH`, or `files`")
        for name in sorted(wanted - set(files))
    ]
    problems += [
        Problem(f"files.{name}", "no job of this workflow takes a file of this name")
        for name in sorted(set(files) - wanted)
    ]
    if problems:
        raise InvalidInput(problems)
