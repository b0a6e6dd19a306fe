"""The rules of a pool: who asks stands in the line, whoever is first in it gets a place as soon as there is room for it, and what is given
back is granted anew in the same commit.

Higher priority goes first, and among equals who came first. Nobody overtakes the first of the line: where there is not yet room for a
heavy place, what becomes free is kept for it. Who has waited for `PATIENCE` goes before every priority, so that nobody starves.
"""

from datetime import datetime, timedelta
from typing import assert_never

from shared.decide.commands import GrantPlaces, PoolCommand, ReleasePlace, RequestPlace, SetCapacity
from shared.decide.run import SLICE, SLICE_BYTES, text_bytes
from shared.errors import InvalidInput, Problem, Rejected
from shared.events import Event, PlaceGranted, PlaceReleased, PlaceRequested, PlaceWithdrawn, PoolResized
from shared.ids import is_name
from shared.secrecy import without_secrets
from shared.state.pool import NoPool, Place, PoolState, evolve_pool
from shared.workflow.document import POOL_CAPACITY_MAX

AWAITED_MAX = 100_000
"""Places that may be waited for in one pool; whoever is turned away asks again, as for a request that was lost."""
PATIENCE = timedelta(hours=1)
"""Who has stood in the line for so long goes before those of higher priority."""
REASON_MAX = 200
"""Characters of a reason that go into an event."""


class PoolDraft:
    """Events decided so far and the state they lead to, as `RunDraft` is for a run."""

    def __init__(self, state: NoPool | PoolState, now: datetime) -> None:
        self.state = state
        # Clocks differ; a commit is never earlier than the one before it.
        self.now = max(now, state.at) if isinstance(state, PoolState) else now
        self.events: list[Event] = []
        self.bytes = 0
        self.truncated = False

    def emit(self, event: Event) -> None:
        self.state = evolve_pool(self.state, event, self.now)
        self.events.append(event)
        self.bytes += text_bytes(event)

    @property
    def room(self) -> bool:
        """Whether a decision may go on; a batch of commands should end before this is False."""
        return len(self.events) < SLICE and self.bytes < SLICE_BYTES

    def freeze(self) -> NoPool | PoolState:
        return self.state


def decide_pool(state: NoPool | PoolState, command: PoolCommand, *, now: datetime) -> list[Event]:
    """What happens because of `command`. Raises `Rejected` with the reason when it is not allowed."""
    draft = PoolDraft(state, now)
    decide_pool_on(draft, command)
    return draft.events


def decide_pool_on(draft: PoolDraft, command: PoolCommand) -> None:
    match command:
        case SetCapacity():
            _set_capacity(draft, command)
        case RequestPlace():
            _request(draft, command)
        case ReleasePlace():
            _release(draft, command.place, command.reason)
        case GrantPlaces():
            pass
        case _:
            assert_never(command)
    _grant(draft)


def next_in_line(state: PoolState, now: datetime) -> Place | None:
    """Whose turn it is, whether there is room for it or not."""
    chosen: Place | None = None
    for place in state.heads():
        if chosen is None or (
            state.awaited[place].since <= now - PATIENCE and state.awaited[place].since < state.awaited[chosen].since
        ):
            chosen = place
    return chosen


def grantable(state: PoolState, now: datetime) -> Place | None:
    """Whose turn it is, if there is room for it."""
    if not state.awaited or state.free <= 0:
        return None
    place = next_in_line(state, now)
    return place if place is not None and state.weight_of(place) <= state.free else None


def _set_capacity(draft: PoolDraft, command: SetCapacity) -> None:
    if not is_name(command.pool):
        raise InvalidInput(
            [Problem("pool", f"{command.pool!r} is no name", "1 to 64 letters, digits, `_`, `.` and `-`")]
        )
    if not 0 <= command.capacity <= POOL_CAPACITY_MAX:
        raise InvalidInput(
            [Problem("capacity", f"{command.capacity} is no capacity", f"0 (closed) to {POOL_CAPACITY_MAX}")]
        )
    if isinstance(draft.state, PoolState) and draft.state.declared == command.capacity:
        return
    draft.emit(PoolResized(pool=command.pool, capacity=command.capacity, by=command.by))


def _request(draft: PoolDraft, command: RequestPlace) -> None:
    state = draft.state
    if isinstance(state, PoolState):
        if command.place in state.held or command.place in state.awaited:
            return
        if len(state.awaited) >= AWAITED_MAX:
            raise Rejected(f"{AWAITED_MAX:,} places in {command.pool} are waited for already")
    run, job, attempt, round_number = command.place
    draft.emit(
        PlaceRequested(
            pool=command.pool,
            run=run,
            job=job,
            attempt=attempt,
            round=round_number,
            weight=command.weight,
            priority=command.priority,
            asked_at=command.asked_at,
        )
    )


def _release(draft: PoolDraft, place: Place, reason: str) -> None:
    state = draft.state
    if not isinstance(state, PoolState):
        return
    run, job, attempt, round_number = place
    if place in state.held:
        reason = without_secrets(reason)[:REASON_MAX]
        draft.emit(PlaceReleased(run=run, job=job, attempt=attempt, round=round_number, reason=reason))
    elif place in state.awaited:
        draft.emit(PlaceWithdrawn(run=run, job=job, attempt=attempt, round=round_number))


def _grant(draft: PoolDraft) -> None:
    while isinstance(draft.state, PoolState):
        place = grantable(draft.state, draft.now)
        if place is None:
            return
        if draft.events and not draft.room:
            draft.truncated = True
            return
        run, job, attempt, round_number = place
        weight = draft.state.weight_of(place)
        draft.emit(PlaceGranted(run=run, job=job, attempt=attempt, round=round_number, weight=weight))
