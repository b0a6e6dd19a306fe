"""Time: EventBridge Scheduler rings for a workflow, or for the sweep of every minute.

A ring only says "look": the instants come from the document. A ring that is lost, late, double or meant for a schedule that is gone
therefore does no harm, and the sweep alone would do.
"""

from collections.abc import Callable
from typing import Any

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.effects import TickWorkflow
from shared.ids import WorkflowName, is_name

logger = logger_of("scheduler")
metrics = metrics_of("scheduler")


def make_handler(sweep: Callable[[], int], refused: Callable[[], int], tick: Callable[[TickWorkflow], None]) -> Handler:
    """`sweep` looks at due streams and answers how many; `refused` says how many cannot be folded; `tick` deals with a workflow's
    due instants."""

    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        workflow = event.get("workflow")
        if isinstance(workflow, str) and is_name(workflow):
            with logger.append_context_keys(workflow=workflow):
                tick(TickWorkflow(WorkflowName(workflow)))
            return {"ticked": workflow}
        looked_at = sweep()
        # A scheduler that has gone silent is seen by this metric missing.
        metrics.add_metric("Sweeps", "Count", 1)
        metrics.add_metric("StreamsDue", "Count", looked_at)
        metrics.add_metric("StreamsRefused", "Count", refused())
        return {"looked_at": looked_at}

    return doorway(logger, metrics, handle)
