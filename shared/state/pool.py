"""A pool's state: its capacity, who holds how much of it, and who stands in the line. Folded from the stream `pool#<name>`; the rules
stand in `decide/pool.py`.

Every step costs the same whether ten stand in the line or ten thousand: maps share structure, and each priority's line is a set of
small integers that gives its first at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from immutables import Map

from shared.errors import CorruptStream, UnknownEvents
from shared.events import (
    Event,
    PlaceGranted,
    PlaceReleased,
    PlaceRequested,
    PlaceWithdrawn,
    PoolResized,
    UnknownEvent,
)
from shared.ids import JobName, PoolName, RunId, WorkflowName, workflow_of
from shared.state.ranks import EMPTY, Ranks, add, first, remove

UNDECLARED_CAPACITY = 1
"""Of a pool that nobody gave a capacity: whoever shares a pool wants a limit, and the tightest keeps work going without harm."""
USUAL_MAX = 500
"""Jobs of which a pool remembers how long they usually hold a place."""
USUAL_SHARE = 0.3
"""How much the newest stay counts in what is usual."""


class Place(NamedTuple):
    """What a place is for. Whoever asks twice asks for one place; what is over for one round never comes back to life."""

    run: RunId
    job: JobName
    attempt: int
    round: int


@dataclass(frozen=True, slots=True)
class Held:
    """A place that is taken."""

    weight: int
    granted_at: datetime


@dataclass(frozen=True, slots=True)
class Awaited:
    """A place in the line."""

    weight: int
    priority: int
    asked_at: datetime
    since: datetime
    """When it came to stand in the line."""
    number: int
    """Its position among those of its priority, never used again while any of them waits."""


@dataclass(frozen=True, slots=True)
class Line:
    """Those of one priority, in the order of their coming."""

    base: int
    """The number that bit 0 stands for."""
    waiting: Ranks
    places: "Map[int, Place]"


@dataclass(frozen=True, slots=True)
class NoPool:
    """The state of an empty stream."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolState:
    name: PoolName
    at: datetime
    """Of the newest commit."""
    declared: int | None = None
    """The capacity that somebody set; None: nobody did."""
    declared_by: str = ""
    used: int = 0
    """The weight of all places held."""
    held: "Map[Place, Held]" = Map()  # noqa: RUF009  (immutable)
    awaited: "Map[Place, Awaited]" = Map()  # noqa: RUF009  (immutable)
    lines: "Map[int, Line]" = Map()  # noqa: RUF009  (immutable)
    """By priority; only those in which somebody waits."""
    priorities: tuple[int, ...] = ()
    """Of the lines, highest first."""
    usual: "Map[tuple[WorkflowName, JobName], float]" = Map()  # noqa: RUF009  (immutable)
    """How many seconds attempts of a job usually hold their place."""

    @property
    def capacity(self) -> int:
        return UNDECLARED_CAPACITY if self.declared is None else self.declared

    @property
    def free(self) -> int:
        """Less than 0 when the capacity was lowered below what is held."""
        return self.capacity - self.used

    def heads(self) -> Iterator[Place]:
        """The first of each line, highest priority first."""
        for priority in self.priorities:
            line = self.lines[priority]
            yield line.places[line.base + first(line.waiting)]

    def in_line(self) -> Iterator[Place]:
        """All that wait, in the order of priority and then of their coming."""
        for priority in self.priorities:
            line = self.lines[priority]
            waiting = line.waiting
            while waiting != EMPTY:
                bit = first(waiting)
                waiting = remove(waiting, bit)
                yield line.places[line.base + bit]

    def ahead_of(self, place: Place) -> int:
        """How many stand in the line before this place."""
        awaited = self.awaited[place]
        before = 0
        for priority in self.priorities:
            line = self.lines[priority]
            if priority > awaited.priority:
                before += line.waiting.bit_count()
            elif priority == awaited.priority:
                return before + (line.waiting & ((1 << (awaited.number - line.base)) - 1)).bit_count()
        return before

    def weight_of(self, place: Place) -> int:
        """What a place that is waited for takes: never more than the pool has, so that nothing waits for ever."""
        return min(self.awaited[place].weight, max(self.capacity, 1))

    def usually(self, place: Place) -> float | None:
        """Seconds for which attempts of this job held their places; None: nothing is known."""
        return self.usual.get((workflow_of(place.run), place.job))


def fold_pool(events: Iterable[tuple[datetime, Event]], state: NoPool | PoolState = NoPool()) -> NoPool | PoolState:
    """Fold events, each with the time of its commit. Raises `CorruptStream`, `UnknownEvents`."""
    for at, event in events:
        state = evolve_pool(state, event, at)
    return state


def evolve_pool(state: NoPool | PoolState, event: Event, at: datetime) -> NoPool | PoolState:
    match state, event:
        case _, UnknownEvent():
            raise UnknownEvents(f"an event of type {event.type} is newer than this code")
        case NoPool(), PoolResized() | PlaceRequested():
            return evolve_pool(PoolState(event.pool, at), event, at)
        case PoolState(), PoolResized():
            return replace(state, declared=event.capacity, declared_by=event.by, at=at)
        case PoolState(), PlaceRequested():
            place = Place(event.run, event.job, event.attempt, event.round)
            if place not in state.held and place not in state.awaited:
                return _stood_in_line(state, place, event, at)
        case PoolState(), PlaceGranted():
            place = Place(event.run, event.job, event.attempt, event.round)
            if place in state.awaited:
                left = _left_line(state, place)
                held = left.held.set(place, Held(event.weight, at))
                return replace(left, held=held, used=left.used + event.weight, at=at)
        case PoolState(), PlaceReleased():
            place = Place(event.run, event.job, event.attempt, event.round)
            if place in state.held:
                return _released(state, place, at, ended=not event.reason)
        case PoolState(), PlaceWithdrawn():
            place = Place(event.run, event.job, event.attempt, event.round)
            if place in state.awaited:
                return replace(_left_line(state, place), at=at)
        case _:
            pass
    raise CorruptStream(f"{event.type} cannot follow in the stream of a pool: {type(state).__name__}")


def _stood_in_line(state: PoolState, place: Place, event: PlaceRequested, at: datetime) -> PoolState:
    line = state.lines.get(event.priority)
    priorities = state.priorities
    if line is None:
        line = Line(0, EMPTY, Map())
        priorities = tuple(sorted((*priorities, event.priority), reverse=True))
    bit = line.waiting.bit_length()
    number = line.base + bit
    return replace(
        state,
        awaited=state.awaited.set(place, Awaited(event.weight, event.priority, event.asked_at, at, number)),
        lines=state.lines.set(event.priority, Line(line.base, add(line.waiting, bit), line.places.set(number, place))),
        priorities=priorities,
        at=at,
    )


def _left_line(state: PoolState, place: Place) -> PoolState:
    awaited = state.awaited[place]
    line = state.lines[awaited.priority]
    waiting = remove(line.waiting, awaited.number - line.base)
    if waiting == EMPTY:
        return replace(
            state,
            awaited=state.awaited.delete(place),
            lines=state.lines.delete(awaited.priority),
            priorities=tuple(one for one in state.priorities if one != awaited.priority),
        )
    # Those that have gone take no room, so that the numbers stay small however long somebody is waiting.
    gone = first(waiting)
    left = Line(line.base + gone, waiting >> gone, line.places.delete(awaited.number))
    return replace(state, awaited=state.awaited.delete(place), lines=state.lines.set(awaited.priority, left))


def _released(state: PoolState, place: Place, at: datetime, *, ended: bool) -> PoolState:
    held = state.held[place]
    usual = state.usual
    key = (workflow_of(place.run), place.job)
    before = usual.get(key)
    # What was given back unused says nothing of how long the work takes.
    if ended and (before is not None or len(usual) < USUAL_MAX):
        seconds = (at - held.granted_at).total_seconds()
        usual = usual.set(key, seconds if before is None else before + USUAL_SHARE * (seconds - before))
    return replace(state, held=state.held.delete(place), used=state.used - held.weight, usual=usual, at=at)
