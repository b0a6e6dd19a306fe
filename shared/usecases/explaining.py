"""How a run that others wait for is doing, for their explanation: read when it is asked for, and not followed further."""

from collections.abc import Callable, Sequence
from datetime import datetime

from shared.errors import CorruptStream, NotFound, UnknownEvents
from shared.explain import Condition, why_run
from shared.ids import RunId, run_stream, workflow_of, workflow_stream
from shared.state.run import NotRequested, Run
from shared.state.workflow import NotRegistered, WorkflowState
from shared.usecases.loading import Loader


def upstream_of(loader: Loader, now: datetime, *, at: datetime | None) -> Callable[[RunId], Sequence[Condition]]:
    """`at`: a moment of the past that is explained; None for now."""

    def look(awaited: RunId) -> Sequence[Condition]:
        streams = run_stream(awaited), workflow_stream(workflow_of(awaited))
        try:
            run, workflow = (
                (loader.load(stream) if at is None else loader.load_as_of(stream, at=at)).state for stream in streams
            )
            assert isinstance(run, Run | NotRequested)
            assert isinstance(workflow, WorkflowState | NotRegistered)
            live = workflow.live if isinstance(workflow, WorkflowState) else None
            plan = loader.plans(live.document) if live is not None else None
        except (CorruptStream, UnknownEvents, NotFound):
            return ()
        return why_run(run, awaited, now, workflow=workflow, plan=plan)

    return look
