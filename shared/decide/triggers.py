"""The rules of events that start runs: which become none, and why. The run itself is let in as any that is asked for.

Each event has one fate: the run that it is, or a record of why there is none. Told again, it keeps its fate, except that what was refused
is judged anew under another version of the document.
"""

from typing import Literal

from shared.decide.commands import RefuseEvent
from shared.events import RunRequested, TriggerMissed, TriggerRefused
from shared.secrecy import without_secrets
from shared.state.workflow import WorkflowState
from shared.workflow.document import Workflow
from shared.workflow.triggers import AnyTrigger

PROBLEMS_MAX = 10
"""Of one event, that are recorded."""
PROBLEM_LENGTH_MAX = 500


def trigger_named(document: Workflow, name: str) -> AnyTrigger | None:
    return next((one for one in document.triggers or () if one.name == name), None)


def is_turned_away(state: WorkflowState, run: str) -> bool:
    """Whether the event that would be this run has its fate already, and may not be judged anew."""
    return any(
        one.run == run and (one.how != "refused" or _is_live(state, one.document_version)) for one in state.turned_away
    )


def is_kept_out(
    state: WorkflowState, document: Workflow, request: RunRequested
) -> TriggerMissed | Literal["until the pause ends", "for good"] | None:
    """Whether an event may not become a run now; None if it may."""
    if is_turned_away(state, request.run):
        return "for good"
    trigger = trigger_named(document, request.trigger_name)
    if trigger is None:
        # The document was replaced since the event was looked at.
        return missed(request, "its trigger is gone")
    if state.pause is None:
        return None
    if trigger.while_paused == "queue":
        return "until the pause ends"
    return missed(request, "the workflow was paused")


def missed(request: RunRequested, reason: str) -> TriggerMissed:
    return TriggerMissed(run=request.run, trigger=request.trigger_name, event=request.trigger_event, reason=reason)


def refused(state: WorkflowState, command: RefuseEvent) -> list[TriggerRefused]:
    if state.live is None or is_turned_away(state, command.run) or state.knows(command.run):
        return []
    problems = [without_secrets(problem)[:PROBLEM_LENGTH_MAX] for problem in command.problems[:PROBLEMS_MAX]]
    return [
        TriggerRefused(
            run=command.run,
            trigger=command.trigger,
            event=command.event,
            problems=tuple(problems),
            content=command.content,
            document_version=state.live.number,
        )
    ]


def _is_live(state: WorkflowState, version: int) -> bool:
    return state.live is not None and state.live.number == version
