"""What happened outside becomes runs: looks which workflows listen, asks each one's live document, and has the run let in or records why
there is none.

What it promises: an event told twice, or by two at once, is one run, for the run's id follows from the workflow, the trigger and what
tells events apart. Once a call returns, the fate of the event is stored for every workflow that listens; one that raises is made again.
Nothing is asked of the index but where to look: what fits is for the document that is live.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from shared.decide.commands import AdmitRun, RefuseEvent, RequestRun
from shared.decide.run import check_request
from shared.decide.triggers import is_turned_away, trigger_named
from shared.effects import TellListener
from shared.errors import InvalidInput, NotFound, Problem, Rejected, TargetRefused
from shared.events import RunRequested
from shared.ids import RunId, WorkflowName, is_name, run_stream, workflow_stream
from shared.ports import PAGE_MAX
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.triggers import (
    CHAIN_MAX,
    DELIVERY_LENGTH_MAX,
    Occurrence,
    fits,
    is_signed,
    is_timely,
    keys_of,
    outcome_occurrence,
    parameters_of,
    plain_run_of,
    run_of,
    webhook_occurrence,
)
from shared.usecases.loading import Loaded, Loader
from shared.usecases.transact import Transact
from shared.workflow.document import Workflow
from shared.workflow.triggers import WINDOW_SECONDS_MAX, AnyTrigger, WebhookTrigger, WorkflowTrigger

logger = logging.getLogger("runfold.triggers")

RING_WORKFLOWS_MAX = 1_000
"""Workflows looked at, one behind the other, for whether triggers form a ring."""

Fate = Literal["started", "known", "held", "missed", "refused"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an event for one trigger."""

    workflow: WorkflowName
    trigger: str
    run: RunId
    """That it is, or would have been."""
    fate: Fate
    """`known`: it had its fate before."""
    reason: str = ""


def taken_object(taken: Taken) -> dict[str, str]:
    """For the API and the command line."""
    return {
        "workflow": taken.workflow,
        "trigger": taken.trigger,
        "run": taken.run,
        "fate": taken.fate,
        "reason": taken.reason,
    }


class Listeners(Protocol):
    """Where to look; `shared.ports.Views` is one."""

    def listeners(self, key: str, *, after: str = "", limit: int = PAGE_MAX) -> list[WorkflowName]: ...


Allows = Callable[[Workflow], bool]


class Triggers:
    def __init__(self, transact: Transact, listeners: Listeners) -> None:
        self._transact = transact
        self._listeners = listeners

    def __call__(self, occurrence: Occurrence, *, by: str, allows: Allows | None = None) -> list[Taken]:
        """Everything that the event starts. `allows`: which workflows' triggers may be asked; None: all."""
        taken: list[Taken] = []
        for workflow in listening(self._listeners, keys_of(occurrence)):
            taken += take(self._transact, workflow, occurrence, by=by, allows=allows)
        return taken

    def signed(self, request: "SignedRequest", *, read_secret: "ReadSecret", now: datetime) -> Taken | None:
        """See `take_signed`."""
        return take_signed(self._transact, request, read_secret=read_secret, now=now)


def listening(listeners: Listeners, keys: Iterable[str]) -> list[WorkflowName]:
    """The workflows that may have a trigger under one of the keys, each once."""
    found: dict[WorkflowName, None] = {}
    for key in keys:
        after = ""
        while page := listeners.listeners(key, after=after):
            found.update(dict.fromkeys(page))
            after = page[-1]
            if len(page) < PAGE_MAX:
                break
    return list(found)


def take(
    transact: Transact,
    workflow: WorkflowName,
    occurrence: Occurrence,
    *,
    by: str,
    trigger: str | None = None,
    allows: Allows | None = None,
) -> list[Taken]:
    """What the event starts in one workflow, through every trigger that it fits or through the one that is named."""
    state = transact.current(workflow_stream(workflow)).state
    if not isinstance(state, WorkflowState) or state.live is None:
        return []
    document = transact.loader.plans(state.live.document).workflow
    if allows is not None and not allows(document):
        return []
    return [
        _take(transact, state, document, one, occurrence, by)
        for one in document.triggers or ()
        if (trigger is None or one.name == trigger) and fits(one, occurrence)
    ]


def _take(
    transact: Transact, state: WorkflowState, document: Workflow, trigger: AnyTrigger, occurrence: Occurrence, by: str
) -> Taken:
    name = state.name
    assert state.live is not None
    run = plain_run_of(name, trigger, occurrence)
    try:
        run = run_of(name, trigger, occurrence)
        if _has_its_fate(transact, state, run):
            return Taken(name, trigger.name, run, "known")
        limited = document.overlap != "allow" or document.max_active_runs is not None
        request = RunRequested(
            run=run,
            workflow=name,
            document=state.live.document,
            document_version=state.live.number,
            parameters=parameters_of(trigger, occurrence, document.parameters),
            previous_success_at=state.previous_success_at,
            trigger="event",
            trigger_name=trigger.name,
            trigger_event=occurrence.subject,
            chain=occurrence.chain + 1 if occurrence.kind == "workflow" else 0,
            admitted=limited or state.pause is not None,
            requested_by=by,
        )
        _check(document, request)
    except InvalidInput as invalid:
        return _refuse(transact, name, trigger, run, occurrence, tuple(str(one) for one in invalid.problems), by)
    cause = f"trigger:{trigger.name}:{run}"
    if not request.admitted:
        decided = transact(run_stream(run), RequestRun(request), by=by, cause=cause)
        return Taken(name, trigger.name, run, "started" if decided.events else "known")
    decided = transact(workflow_stream(name), AdmitRun(request), by=by, cause=cause)
    after = decided.loaded.state
    assert isinstance(after, WorkflowState)
    if not decided.events:
        return Taken(name, trigger.name, run, "known")
    held = next((one.reason for one in after.held if one.run == run), None)
    if held is not None:
        return Taken(name, trigger.name, run, "held", held)
    away = next((one.reason for one in after.turned_away if one.run == run), None)
    return Taken(name, trigger.name, run, "started") if away is None else Taken(name, trigger.name, run, "missed", away)


def _has_its_fate(transact: Transact, state: WorkflowState, run: RunId) -> bool:
    if state.knows(run) or is_turned_away(state, run):
        return True
    return isinstance(transact.current(run_stream(run)).state, Run)


def _check(document: Workflow, request: RunRequested) -> None:
    """What else a run may not be; `InvalidInput`."""
    if any(file.upload is not None for job in document.jobs for file in job.inputs):
        raise InvalidInput([Problem("files", "the run needs files, and an event gives none", "take them from `s3`")])
    if request.chain > CHAIN_MAX:
        raise InvalidInput([Problem("", f"{CHAIN_MAX} runs have started each other in a row: is there a ring?")])
    try:
        check_request(request)
    except Rejected as reason:
        raise InvalidInput([Problem("parameters", str(reason))]) from None


def _refuse(
    transact: Transact,
    workflow: WorkflowName,
    trigger: AnyTrigger,
    run: RunId,
    occurrence: Occurrence,
    problems: tuple[str, ...],
    by: str,
) -> Taken:
    command = RefuseEvent(run, trigger.name, occurrence.subject, occurrence.content, problems)
    transact(workflow_stream(workflow), command, by=by, cause=f"trigger:{trigger.name}:{run}")
    return Taken(workflow, trigger.name, run, "refused", "; ".join(problems[:3]))


# --- signed requests --------------------------------------------------------------------------------------------------

ReadSecret = Callable[[str], bytes]
"""The secret that a reference means. `NotFound`, `TargetRefused`: there is none; `StoreUnavailable`: not for now."""
_DELIVERY = re.compile(rf"[A-Za-z0-9._-]{{0,{DELIVERY_LENGTH_MAX}}}")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What somebody sent to a webhook's address, none of it believed yet."""

    workflow: str
    trigger: str
    timestamp: str
    delivery: str
    signature: str
    body: bytes


def take_signed(transact: Transact, request: SignedRequest, *, read_secret: ReadSecret, now: datetime) -> Taken | None:
    """Take a request whose signature holds, in its time. None for every other, without saying why: whoever cannot sign learns nothing,
    not even which webhooks there are. `InvalidInput` if what was signed is not JSON."""
    # What can be seen without reading anything comes first: strangers must not cost much.
    if not _DELIVERY.fullmatch(request.delivery) or not is_timely(request.timestamp, now, WINDOW_SECONDS_MAX):
        return None
    if not is_name(request.workflow):
        return None
    workflow = WorkflowName(request.workflow)
    state = transact.current(workflow_stream(workflow)).state
    live = state.live if isinstance(state, WorkflowState) else None
    document = transact.loader.plans(live.document).workflow if live is not None else None
    trigger = trigger_named(document, request.trigger) if document is not None else None
    if not isinstance(trigger, WebhookTrigger) or not is_timely(request.timestamp, now, trigger.window_seconds):
        return None
    try:
        secret = read_secret(trigger.secret)
    except (NotFound, TargetRefused) as error:
        logger.error("webhook %s of %s: %s", trigger.name, workflow, error)
        return None
    signed = (request.workflow, request.trigger, request.timestamp, request.delivery, request.body)
    if not is_signed(secret, *signed, request.signature):
        return None
    occurrence = webhook_occurrence(request.delivery, request.body, now)
    by = f"webhook:{trigger.name}"
    return next(iter(take(transact, workflow, occurrence, by=by, trigger=trigger.name)), None)


# --- ends of runs -----------------------------------------------------------------------------------------------------


def listeners_of_end(listeners: Listeners, loaded: Loaded) -> Iterator[TellListener]:
    """Whom to tell of a run that has ended. It must be handed over before the run's row says that nothing is left to do."""
    run = loaded.state
    if isinstance(run, Run) and run.outcome is not None:
        for workflow in listening(listeners, (f"workflow:{run.request.workflow}",)):
            yield TellListener(workflow, run.run, run.outcome)


def tell_listener(transact: Transact, effect: TellListener) -> list[Taken]:
    """Take the end of a run as an event. The run is read, so that whoever hears of it late or twice hears the same."""
    run = transact.current(run_stream(effect.run)).state
    if not isinstance(run, Run):
        return []
    request = run.request
    occurrence = outcome_occurrence(
        run.run,
        request.workflow,
        effect.outcome,
        at=run.finished_at,
        scheduled_at=request.scheduled_at,
        parameters=request.parameters,
        chain=request.chain,
    )
    return take(transact, effect.workflow, occurrence, by="scheduler")


def check_no_ring(loader: Loader, document: Workflow) -> None:
    """Raise `InvalidInput` if a run of this workflow would, by the ends of others, start the next one of itself, and so on for ever."""
    came_from: dict[str, str] = {}
    waiting = [(one.workflow, "") for one in _upstream(document)]
    while waiting and len(came_from) < RING_WORKFLOWS_MAX:
        name, below = waiting.pop(0)
        if name == document.name:
            ring = [name]
            while below:
                ring.append(below)
                below = came_from[below]
            place = next(
                position
                for position, one in enumerate(document.triggers or ())
                if isinstance(one, WorkflowTrigger) and one.workflow == ring[-1]
            )
            told = " → ".join([*ring, name])
            raise InvalidInput(
                [Problem(f"triggers[{place}].workflow", f"closes a ring: {told}", "remove one of these triggers")]
            )
        if name in came_from or not is_name(name):
            continue
        came_from[name] = below
        state = loader.load(workflow_stream(WorkflowName(name))).state
        if isinstance(state, WorkflowState) and state.live is not None:
            waiting += [(one.workflow, name) for one in _upstream(loader.plans(state.live.document).workflow)]


def _upstream(document: Workflow) -> list[WorkflowTrigger]:
    return [one for one in document.triggers or () if isinstance(one, WorkflowTrigger)]
