"""Why a job waits for a place in a pool: who holds it, who comes first, and when its turn may come."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import islice

from shared.explain.conditions import NAMES_MAX, Condition, count_of, first_of, names_of, time_of
from shared.ids import JobName, PoolName, workflow_of
from shared.state.pool import NoPool, Place, PoolState
from shared.state.run import Ready, Run, Wanting

Pool = NoPool | PoolState
NO_POOLS: Mapping[PoolName, Pool] = {}
POOLS_MAX = 20
"""Pools that one explanation of a run looks at."""
FORESEEN_MAX = 1_000
"""Places in the line for which a start is foreseen."""


def pools_of(run: Run, job: JobName | None = None) -> list[PoolName]:
    """The pools that must be known to explain the run, or one of its jobs."""
    if job is not None:
        phase = run.job(job).phase
        return [phase.pool] if isinstance(phase, Wanting) else []
    waiting = (run.jobs[name].phase for name in run.plan.by_rank if name in run.live)
    named = dict.fromkeys(phase.pool for phase in waiting if isinstance(phase, Wanting))
    return list(islice(named, POOLS_MAX))


def waits_in_line(
    run: Run, name: JobName, phase: Wanting, pool: Pool, now: datetime, bound: str, *, names_others: bool
) -> Condition:
    """Of a job that asked for a place. `bound`: a sentence of what time will do to it. `names_others`: whoever asks may know of runs
    of other workflows."""
    place = Place(run.run, name, phase.attempt, run.round)
    if not isinstance(pool, PoolState) or (place not in pool.awaited and place not in pool.held):
        return Condition(
            "pool",
            name,
            f"{name} waits for a place in the pool {phase.pool}, which has not heard of it yet.{bound}",
            since=phase.since,
            clears="when the pool hears of it, within a minute",
        )
    if place in pool.held:
        return Condition(
            "pool",
            name,
            f"{name} was granted a place in the pool {phase.pool} at {time_of(pool.held[place].granted_at)} and has not heard of "
            f"it yet.{bound}",
            since=phase.since,
            clears="when it hears of it, within a minute",
        )
    known = [one for one in oldest_first(pool) if names_others or workflow_of(one.run) == run.request.workflow]
    holders = [_shown(one) for one in known[:NAMES_MAX]]
    if len(known) < len(pool.held):
        holders.append(count_of(len(pool.held) - len(known), "job") + " of other workflows")
    weight = pool.weight_of(place)
    text = f"{name} waits for {'a place' if weight == 1 else f'{weight} places'} in the pool {phase.pool}: "
    if pool.capacity == 0:
        text += "it is closed, its capacity is 0."
    else:
        text += f"{pool.used} of {pool.capacity} {'is' if pool.used == 1 else 'are'} held by {names_of(holders)}."
    if pool.declared is None:
        text += " Nobody has set its capacity, so it is 1."
    ahead = pool.ahead_of(place)
    text += f" {count_of(ahead, 'other')} stand{'s' if ahead == 1 else ''} in the line before it." if ahead else ""
    expected = expected_starts(pool, now, ahead + 1).get(place)
    if expected is not None:
        text += f" Going by how long these jobs usually take, its turn comes at about {time_of(expected)}."
    else:
        text += " When its turn comes is not known."
    if pool.capacity == 0:
        clears = f"runfold pools set {phase.pool} CAPACITY"
    elif ahead:
        clears = f"when {count_of(ahead, 'other')} before it had a place and there is room for it"
    else:
        clears = (
            f"when {names_of(holders, 'or')} ends" if len(holders) <= 3 else "when one of those that hold places ends"
        )
    return Condition("pool", name, text + bound, since=phase.since, clears=clears, holders=first_of(holders))


def waits_to_ask(run: Run, name: JobName, phase: Ready, pool: PoolName, bound: str) -> Condition:
    """Of a job whose run has asked for as many places as it could use."""
    limit = run.plan.workflow.parallelism
    return Condition(
        "pool",
        name,
        f"{name} needs a place in the pool {pool}, and {count_of(limit, 'job')} of this run, as many as may be under way at once "
        f"(parallelism), wait for one there or have one.{bound}",
        since=phase.since,
        clears="when one of those ends",
    )


def expected_starts(pool: PoolState, now: datetime, most: int = FORESEEN_MAX) -> dict[Place, datetime]:
    """When the first of the line would get their places if everybody held them as long as usual. Where that is not known of somebody
    who would have to end first, nothing is said of those behind him."""
    starts: dict[Place, datetime] = {}
    if pool.capacity == 0:
        return starts
    ends: list[tuple[datetime, int]] = []
    for place, held in pool.held.items():
        if (usually := pool.usually(place)) is not None:
            ends.append((max(held.granted_at + timedelta(seconds=usually), now), held.weight))
    heapify(ends)
    free, at = pool.free, now
    for place in islice(pool.in_line(), min(most, FORESEEN_MAX)):
        weight = pool.weight_of(place)
        while weight > free:
            if not ends:
                return starts
            end, given_back = heappop(ends)
            at, free = max(at, end), free + given_back
        free -= weight
        starts[place] = at
        if (usually := pool.usually(place)) is not None:
            heappush(ends, (at + timedelta(seconds=usually), weight))
    return starts


def oldest_first(pool: PoolState) -> list[Place]:
    """Who holds places, longest first."""
    return sorted(pool.held, key=lambda place: (pool.held[place].granted_at, place))


def _shown(place: Place) -> str:
    return f"{place.job} of {place.run}"
