"""Brings the read models up to date with a stream's state. Doing it twice, late or out of order is harmless: an older version changes
nothing."""

from shared.ports import Views
from shared.state.backfill import BackfillState
from shared.state.run import Plans, Run
from shared.state.workflow import WorkflowState
from shared.views.rows import backfill_row, run_row, workflow_row


def derive(views: Views, state: object, version: int, plans: Plans) -> None:
    """Put the rows that follow from a stream's state at `version`; states without rows put none."""
    match state:
        case Run():
            views.put_run(run_row(state, version))
        case WorkflowState():
            newest = state.live or state.versions[-1]
            views.put_workflow(workflow_row(state, version, plans(newest.document)))
        case BackfillState():
            views.put_backfill(backfill_row(state, version, plans(state.request.document)))
        case _:
            pass
