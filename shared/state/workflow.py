"""A workflow's state: its versions, whether it is paused, how far its schedule has been dealt with, and which of its runs hold a
place. Folded from the stream `workflow#<name>`; the rules stand in `decide/workflow.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from immutables import Map

from shared.errors import CorruptStream, UnknownEvents
from shared.events import (
    Event,
    HeldRunDropped,
    InstantSkipped,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    RunReleased,
    RunRequested,
    UnknownEvent,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.ids import Digest, RunId, WorkflowName


@dataclass(frozen=True, slots=True)
class Version:
    number: int
    document: Digest
    registered_at: datetime
    by: str
    source: str


@dataclass(frozen=True, slots=True)
class Pause:
    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Holder:
    """An admitted run that has not been heard of as ended."""

    admitted_at: datetime
    scheduled_at: datetime | None
    request: RunRequested


@dataclass(frozen=True, slots=True)
class Held:
    """A run that waits to be let in."""

    run: RunId
    request: RunRequested
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """The state of an empty stream."""


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowState:
    name: WorkflowName
    versions: tuple[Version, ...]
    live: Version | None
    """None when unregistered."""
    at: datetime
    """Of the newest commit."""
    changed_at: datetime
    """When the live version, or its absence, began."""
    pause: Pause | None = None
    watermark: datetime | None = None
    """Scheduled instants up to here are dealt with."""
    next_at: datetime | None = None
    """The next scheduled instant of the live version."""
    holders: "Map[RunId, Holder]" = Map()  # noqa: RUF009  (immutable)
    held: tuple[Held, ...] = ()
    """In the order in which they will be let in."""
    previous_success_at: datetime | None = None
    """The latest scheduled instant whose run succeeded."""

    def version(self, number: int) -> Version | None:
        """The version of that number; numbers are dense from 1."""
        return self.versions[number - 1] if 1 <= number <= len(self.versions) else None


def fold_workflow(
    events: Iterable[tuple[datetime, Event]], state: NotRegistered | WorkflowState = NotRegistered()
) -> NotRegistered | WorkflowState:
    """Fold events, each with the time of its commit. Raises `CorruptStream`, `UnknownEvents`."""
    for at, event in events:
        state = evolve_workflow(state, event, at)
    return state


def evolve_workflow(state: NotRegistered | WorkflowState, event: Event, at: datetime) -> NotRegistered | WorkflowState:
    match state, event:
        case _, UnknownEvent():
            raise UnknownEvents(f"an event of type {event.type} is newer than this code")
        case NotRegistered(), WorkflowRegistered(version=1):
            version = Version(1, event.document, at, event.by, event.source)
            return WorkflowState(event.workflow, (version,), version, at, at)
        case WorkflowState(), WorkflowRegistered() if event.version == len(state.versions) + 1:
            version = Version(event.version, event.document, at, event.by, event.source)
            return replace(state, versions=(*state.versions, version), live=version, at=at, changed_at=at)
        case WorkflowState(live=Version()), WorkflowUnregistered():
            return replace(state, live=None, next_at=None, at=at, changed_at=at)
        case WorkflowState(pause=None), WorkflowPaused():
            return replace(state, pause=Pause(at, event.by, event.reason), at=at)
        case WorkflowState(pause=Pause()), WorkflowResumed():
            return replace(state, pause=None, at=at)
        case WorkflowState(), WatermarkMoved():
            return replace(state, watermark=event.until, next_at=event.next_at, at=at)
        case WorkflowState(), InstantSkipped() | InstantsMissed():
            return replace(state, at=at)
        case WorkflowState(), RunAdmitted():
            held = tuple(one for one in state.held if one.run != event.run)
            holders = state.holders.set(event.run, Holder(at, event.request.scheduled_at, event.request))
            return replace(state, holders=holders, held=held, at=at)
        case WorkflowState(), RunHeld():
            return replace(state, held=(*state.held, Held(event.run, event.request, at, event.reason)), at=at)
        case WorkflowState(), HeldRunDropped():
            return replace(state, held=tuple(one for one in state.held if one.run != event.run), at=at)
        case WorkflowState(), RunReleased() if event.run in state.holders:
            previous = state.previous_success_at
            if event.outcome == "succeeded" and event.scheduled_at is not None:
                previous = max(previous, event.scheduled_at) if previous is not None else event.scheduled_at
            return replace(state, holders=state.holders.delete(event.run), previous_success_at=previous, at=at)
        case _:
            raise CorruptStream(f"{event.type} cannot follow in the stream of a workflow: {type(state).__name__}")
