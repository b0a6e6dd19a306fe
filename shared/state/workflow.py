"""A workflow's state: its versions, whether it is paused, how far its schedule has been dealt with, and which of its runs hold a
place. Folded from the stream `workflow#<name>`; the rules stand in `decide/workflow.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from immutables import Map

from shared.errors import CorruptStream, UnknownEvents
from shared.events import (
    Event,
    HeldRunDropped,
    InstantsExcluded,
    InstantSkipped,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    RunReleased,
    RunRequested,
    TriggerMissed,
    TriggerRefused,
    UnknownEvent,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.ids import Digest, RunId, WorkflowName

HELD_MAX = 1_000
"""Runs that may wait to be let in; a schedule that outruns its workflow for ever must not grow without bound."""
TURNS_AHEAD = timedelta(seconds=90)
"""Runs whose turn comes within this are let in at once, to begin at their turn: a sweep comes once a minute, and may be late."""


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
    """To open the run with, should it turn out never to have begun."""
    displaced_by: RunId | None = None
    """The run that takes its place; it is to be cancelled."""


@dataclass(frozen=True, slots=True)
class Held:
    """A run that waits to be let in."""

    run: RunId
    request: RunRequested
    since: datetime
    reason: str


TURNED_AWAY_KEPT = 200
"""Of the events that became no run, the newest that are remembered, so that one told again is not recorded again. Sources tell an event
again within a day or not at all; beyond this it would be recorded twice, and one that was missed could become the one run that it is."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """An event that became no run."""

    run: RunId
    """That it would have been."""
    trigger: str
    event: str
    at: datetime
    how: Literal["refused", "missed", "dropped"]
    reason: str
    document_version: int = 0
    """With `refused`: under which it was."""


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
    stalled: bool = False
    """Instants that are due stay so, as long as nobody more can wait."""
    holders: "Map[RunId, Holder]" = Map()  # noqa: RUF009  (immutable)
    held: tuple[Held, ...] = ()
    """In the order in which they will be let in."""
    previous_success_at: datetime | None = None
    """The latest scheduled instant whose run succeeded."""
    turned_away: tuple[TurnedAway, ...] = ()
    """Events that became no run, the newest last; at most `TURNED_AWAY_KEPT`."""
    next_start_at: datetime | None = None
    """The next turn of a scheduled run, where `starts_per_minute` spaces them; None as long as nothing does."""

    def version(self, number: int) -> Version | None:
        """The version of that number; numbers are dense from 1."""
        return self.versions[number - 1] if 1 <= number <= len(self.versions) else None

    @property
    def waiting(self) -> tuple[Held, ...]:
        """Who would be let in if there were room: a pause stops scheduled and triggered starts, also of those that were due before it."""
        if self.pause is None:
            return self.held
        return tuple(one for one in self.held if one.request.trigger not in ("schedule", "event"))

    @property
    def is_full(self) -> bool:
        """Whether nobody more can wait."""
        return len(self.held) >= HELD_MAX

    @property
    def due_next(self) -> datetime | None:
        """The next scheduled instant, if it is dealt with as soon as it comes."""
        if self.live is None or self.pause is not None or (self.stalled and self.is_full):
            return None
        return self.next_at

    def before_its_turn(self, request: RunRequested, now: datetime) -> bool:
        """Whether a run must wait, whatever room there is, because scheduled runs are let in one by one."""
        if request.trigger != "schedule" or self.next_start_at is None:
            return False
        return self.next_start_at - now >= TURNS_AHEAD

    def turn_at(self, now: datetime) -> datetime | None:
        """When the first of those who wait is let in by time alone; None if it is not time that keeps them."""
        if not self.waiting or self.next_start_at is None:
            return None
        early = all(self.before_its_turn(one.request, now) for one in self.waiting)
        # One second later than the first moment that is not too early: rows and clocks are not exact.
        return self.next_start_at - TURNS_AHEAD + timedelta(seconds=1) if early else None

    def knows(self, run: RunId) -> bool:
        """Whether the run holds a place or waits for one."""
        return run in self.holders or any(one.run == run for one in self.held)


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
            return replace(state, watermark=event.until, next_at=event.next_at, stalled=event.stalled, at=at)
        case WorkflowState(), InstantSkipped() | InstantsMissed() | InstantsExcluded():
            return replace(state, at=at)
        case WorkflowState(), RunAdmitted() if event.run not in state.holders:
            holders = state.holders.set(event.run, Holder(at, event.request.scheduled_at, event.request))
            for displaced in event.displaces:
                if displaced in holders:
                    holders = holders.set(displaced, replace(holders[displaced], displaced_by=event.run))
            turn = event.next_start_at if event.next_start_at is not None else state.next_start_at
            held = _without(state.held, event.run)
            return replace(state, holders=holders, held=held, next_start_at=turn, at=at)
        case WorkflowState(), RunHeld() if not state.knows(event.run):
            return replace(state, held=(*state.held, Held(event.run, event.request, at, event.reason)), at=at)
        case WorkflowState(), HeldRunDropped() if any(one.run == event.run for one in state.held):
            dropped = next(one.request for one in state.held if one.run == event.run)
            turned_away = state.turned_away
            if dropped.trigger == "event":
                name, what = dropped.trigger_name, dropped.trigger_event
                turned_away = _and(turned_away, TurnedAway(event.run, name, what, at, "dropped", event.reason))
            return replace(state, held=_without(state.held, event.run), turned_away=turned_away, at=at)
        case WorkflowState(), TriggerRefused():
            reason = "; ".join(event.problems)
            away = TurnedAway(event.run, event.trigger, event.event, at, "refused", reason, event.document_version)
            return replace(state, turned_away=_and(state.turned_away, away), at=at)
        case WorkflowState(), TriggerMissed():
            away = TurnedAway(event.run, event.trigger, event.event, at, "missed", event.reason)
            return replace(state, turned_away=_and(state.turned_away, away), at=at)
        case WorkflowState(), RunReleased() if event.run in state.holders:
            previous = state.previous_success_at
            if event.outcome == "succeeded" and event.scheduled_at is not None:
                previous = max(previous, event.scheduled_at) if previous is not None else event.scheduled_at
            return replace(state, holders=state.holders.delete(event.run), previous_success_at=previous, at=at)
        case _:
            raise CorruptStream(f"{event.type} cannot follow in the stream of a workflow: {type(state).__name__}")


def _without(held: tuple[Held, ...], run: RunId) -> tuple[Held, ...]:
    # Who is let in almost always stands first; then nothing is compared.
    if held and held[0].run == run:
        return held[1:]
    return tuple(one for one in held if one.run != run)


def _and(turned_away: tuple[TurnedAway, ...], one: TurnedAway) -> tuple[TurnedAway, ...]:
    # Judged again under another document, an event has its newest reason alone.
    return (*(other for other in turned_away if other.run != one.run), one)[-TURNED_AWAY_KEPT:]
