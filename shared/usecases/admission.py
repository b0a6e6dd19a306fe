"""Keeps workflows and their runs in step: opens admitted runs, cancels displaced ones, hears of ends, and looks for itself at runs
that hold a place, so that a lost message never blocks a workflow.
"""

from shared.decide.commands import CancelRun, ReleaseRun, RequestRun, Tick
from shared.effects import (
    CancelBackfilled,
    CancelDisplaced,
    CheckBackfill,
    CheckHolders,
    ContinueBackfill,
    OpenRun,
    TellBackfill,
    TellListener,
    TellWorkflow,
    TickWorkflow,
)
from shared.errors import CorruptStream, Rejected, UnknownEvents
from shared.ids import StreamName, WorkflowName, backfill_stream, run_stream, workflow_stream
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.backfills import BackfillEffect, Backfills
from shared.usecases.transact import Transact
from shared.usecases.triggers import tell_listener

AdmissionEffect = OpenRun | CancelDisplaced | TellWorkflow | TellListener | TickWorkflow | CheckHolders | BackfillEffect


class Admission:
    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._backfills = Backfills(transact)

    def __call__(self, effect: AdmissionEffect) -> StreamName:
        """Carry the effect out; the stream that it is about."""
        match effect:
            case OpenRun(request=request):
                self.open_run(effect)
                return run_stream(request.run)
            case CancelDisplaced(run=run):
                self.cancel_displaced(effect)
                return run_stream(run)
            case TellWorkflow():
                self.tell_workflow(effect)
            case TellListener():
                tell_listener(self._transact, effect)
            case TickWorkflow():
                self.tick(effect)
            case CheckHolders():
                self.check_holders(effect)
            case ContinueBackfill() | TellBackfill() | CheckBackfill() | CancelBackfilled():
                self._backfills(effect)
                return backfill_stream(effect.backfill)
        return workflow_stream(effect.workflow)

    def open_run(self, effect: OpenRun) -> None:
        request = effect.request
        if request.backfill is not None:
            self._backfills.open_run(request)
            return
        self._transact(run_stream(request.run), RequestRun(request), by="scheduler", cause=f"admit:{request.run}")

    def cancel_displaced(self, effect: CancelDisplaced) -> None:
        command = CancelRun(by="scheduler", reason=f"{effect.by_run} takes its place (overlap: cancel_running)")
        try:
            self._transact(run_stream(effect.run), command, by="scheduler", cause=f"displace:{effect.by_run}")
        except Rejected:
            # It had ended by itself.
            return

    def tell_workflow(self, effect: TellWorkflow) -> None:
        command = ReleaseRun(effect.run, effect.outcome)
        self._to_workflow(effect.workflow, command, f"end:{effect.run}")

    def tick(self, effect: TickWorkflow) -> None:
        self._to_workflow(effect.workflow, Tick(), "tick")

    def check_holders(self, effect: CheckHolders) -> None:
        """Ask the runs that hold a place how they are, and open those that were admitted and never began."""
        state = self._transact.current(workflow_stream(effect.workflow)).state
        if not isinstance(state, WorkflowState):
            return
        for run, holder in state.holders.items():
            try:
                found = self._transact.current(run_stream(run)).state
            except (CorruptStream, UnknownEvents):
                # It keeps its place: nobody can say that it has ended. The others must not wait for that.
                continue
            if not isinstance(found, Run):
                self.open_run(OpenRun(holder.request))
            elif found.outcome is not None:
                self._to_workflow(effect.workflow, ReleaseRun(run, found.outcome), f"check:{run}")

    def _to_workflow(self, workflow: WorkflowName, command: ReleaseRun | Tick, cause: str) -> None:
        try:
            self._transact(workflow_stream(workflow), command, by="scheduler", cause=cause)
        except Rejected:
            # The workflow is gone: nobody is waiting to hear.
            return
