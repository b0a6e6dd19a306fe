"""Brings the read models up to date with a stream's state. Doing it twice, late or out of order is harmless: an older version changes
nothing."""

from shared.ports import Views
from shared.state.backfill import BackfillState
from shared.state.notices import NoticeLog
from shared.state.run import Plans, Run
from shared.state.workflow import WorkflowState
from shared.triggers import listens
from shared.views.rows import backfill_row, notice_row, run_row, workflow_row


def derive(views: Views, state: object, version: int, plans: Plans) -> None:
    """Put the rows that follow from a stream's state at `version`; states without rows put none."""
    match state:
        case Run():
            views.put_run(run_row(state, version))
        case WorkflowState():
            newest = state.live or state.versions[-1]
            # First, so that a row that is as new as its stream says that this has been done as well.
            derive_listeners(views, state, plans)
            views.put_workflow(workflow_row(state, version, plans(newest.document)))
        case BackfillState():
            views.put_backfill(backfill_row(state, version, plans(state.request.document)))
        case NoticeLog() if state.sending:
            views.put_notices(notice_row(state, version))
        case _:
            pass


def derive_listeners(views: Views, state: WorkflowState, plans: Plans) -> None:
    """Have the workflow found by what its live document's triggers wait for."""
    triggers = plans(state.live.document).workflow.triggers if state.live is not None else None
    keys = {key for one in triggers or () for key in listens(one)}
    views.put_listeners(state.name, generation_of(state), sorted(keys))


def generation_of(state: WorkflowState) -> int:
    """Grows whenever what is live changes, a workflow being taken out of service included."""
    return 2 * len(state.versions) + (state.live is None)
