"""A backfill's state: what was asked for, how far it has come, and what became of each instant. Folded from the stream `backfill#<id>`; the
rules stand in `decide/backfill.py`.

The instants themselves are not kept: the pinned document's schedule gives them again, from the last one that was dealt with. What became of
each is, some hundred bytes an instant.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from immutables import Map

from shared.errors import CorruptStream, UnknownEvents
from shared.events import (
    BackfillCancelled,
    BackfillFinished,
    BackfillInstantsSkipped,
    BackfillPaused,
    BackfillRequested,
    BackfillResumed,
    BackfillRunAdmitted,
    BackfillRunEnded,
    Event,
    RunRequested,
    UnknownEvent,
)
from shared.ids import BackfillId, RunId
from shared.state.workflow import Pause

InstantStatus = Literal["active", "succeeded", "failed", "cancelled", "taken", "skipped"]
BackfillStatus = Literal["running", "paused", "cancelling", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class NoBackfill:
    """The state of an empty stream."""


@dataclass(frozen=True, slots=True)
class InstantSeen:
    """What became of an instant that the backfill came to."""

    status: InstantStatus
    at: datetime
    """Since when."""
    run: RunId | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BackfillState:
    request: BackfillRequested
    requested_at: datetime
    at: datetime
    """Of the newest commit."""
    active: "Map[RunId, Admitted]" = Map()  # noqa: RUF009  (immutable)
    instants: "Map[datetime, InstantSeen]" = Map()  # noqa: RUF009  (immutable)
    """Every one that was come to."""
    last: datetime | None = None
    """The instant that was come to last: the next ones follow it, in the backfill's order."""
    previous_success_at: datetime | None = None
    """The latest instant whose run is known to have succeeded, where that is earlier than what is still to come."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    """Those that another took included."""
    pause: Pause | None = None
    cancel: Pause | None = None
    """Who cancelled it, when and why."""
    outcome: Literal["succeeded", "failed", "cancelled"] | None = None
    finished_at: datetime | None = None

    @property
    def backfill(self) -> BackfillId:
        return self.request.backfill

    @property
    def status(self) -> BackfillStatus:
        if self.outcome is not None:
            return self.outcome
        if self.cancel is not None:
            return "cancelling"
        return "paused" if self.pause is not None else "running"

    @property
    def settled(self) -> int:
        """Instants that nothing more happens to."""
        return self.succeeded + self.failed + self.cancelled + self.skipped

    @property
    def goes_on(self) -> bool:
        """Whether it may come to another instant now."""
        return (
            self.outcome is None
            and self.pause is None
            and self.cancel is None
            and len(self.active) < self.request.max_active
        )


@dataclass(frozen=True, slots=True)
class Admitted:
    """A run that began and has not been heard of as ended."""

    at: datetime
    event: BackfillRunAdmitted


def request_of(state: BackfillState, admitted: BackfillRunAdmitted) -> RunRequested:
    """What the run is asked for with: the same whenever it is asked for."""
    request = state.request
    return RunRequested(
        run=admitted.run,
        workflow=request.workflow,
        document=request.document,
        document_version=request.document_version,
        parameters=request.parameters,
        trigger="backfill",
        scheduled_at=admitted.scheduled_at,
        interval_start=admitted.interval_start,
        interval_end=admitted.interval_end,
        previous_success_at=admitted.previous_success_at,
        requested_by=request.by,
        note=request.reason,
        backfill=request.backfill,
    )


def fold_backfill(
    events: Iterable[tuple[datetime, Event]], state: NoBackfill | BackfillState = NoBackfill()
) -> NoBackfill | BackfillState:
    """Fold events, each with the time of its commit. Raises `CorruptStream`, `UnknownEvents`."""
    for at, event in events:
        state = evolve_backfill(state, event, at)
    return state


def evolve_backfill(state: NoBackfill | BackfillState, event: Event, at: datetime) -> NoBackfill | BackfillState:
    match state, event:
        case _, UnknownEvent():
            raise UnknownEvents(f"an event of type {event.type} is newer than this code")
        case NoBackfill(), BackfillRequested():
            previous = event.previous_success_at
            return BackfillState(event, at, at, previous_success_at=previous)
        case BackfillState(outcome=None), BackfillRunAdmitted() if event.scheduled_at not in state.instants:
            return replace(
                state,
                active=state.active.set(event.run, Admitted(at, event)),
                instants=state.instants.set(event.scheduled_at, InstantSeen("active", at, event.run)),
                last=event.scheduled_at,
                at=at,
            )
        case BackfillState(outcome=None), BackfillInstantsSkipped() if event.instants:
            with state.instants.mutate() as instants:
                for instant in event.instants:
                    instants[instant] = InstantSeen("skipped", at, reason=event.reason)
                seen = instants.finish()
            skipped = state.skipped + len(event.instants)
            return replace(state, instants=seen, last=event.instants[-1], skipped=skipped, at=at)
        case BackfillState(outcome=None), BackfillRunEnded() if event.run in state.active:
            return _ended(state, event, at)
        case BackfillState(outcome=None, pause=None), BackfillPaused():
            return replace(state, pause=Pause(at, event.by, event.reason), at=at)
        case BackfillState(outcome=None, pause=Pause()), BackfillResumed():
            return replace(state, pause=None, at=at)
        case BackfillState(outcome=None, cancel=None), BackfillCancelled():
            return replace(state, cancel=Pause(at, event.by, event.reason), at=at)
        case BackfillState(outcome=None), BackfillFinished() if not state.active:
            return replace(state, outcome=event.outcome, finished_at=at, at=at)
        case _:
            raise CorruptStream(f"{event.type} cannot follow in the stream of a backfill: {type(state).__name__}")


def _ended(state: BackfillState, event: BackfillRunEnded, at: datetime) -> BackfillState:
    previous = state.previous_success_at
    if event.outcome == "succeeded" and state.request.order == "oldest":
        # Everything that is still to come is later than this.
        previous = event.scheduled_at if previous is None else max(previous, event.scheduled_at)
    return replace(
        state,
        active=state.active.delete(event.run),
        instants=state.instants.set(event.scheduled_at, InstantSeen(event.outcome, at, event.run)),
        previous_success_at=previous,
        succeeded=state.succeeded + (event.outcome == "succeeded"),
        failed=state.failed + (event.outcome == "failed"),
        cancelled=state.cancelled + (event.outcome == "cancelled"),
        skipped=state.skipped + (event.outcome == "taken"),
        at=at,
    )
