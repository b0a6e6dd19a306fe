"""A run's side of pools: which attempts want a place, and what becomes of one that was granted."""

from datetime import datetime
from typing import Protocol

from shared.decide.commands import TakePlace
from shared.events import Event, PlaceTaken, PlaceWanted
from shared.ids import JobName, PoolName
from shared.state.pool import Place
from shared.state.run import Claimed, Doubted, JobState, Queued, Ready, Run, RunFold, Submitted, Wanting


class Draft(Protocol):
    """What is needed of a `RunDraft`."""

    fold: RunFold
    now: datetime

    def emit(self, event: Event) -> None: ...

    @property
    def room(self) -> bool: ...


def want_place(draft: Draft, name: JobName) -> bool:
    """Have a job whose conditions hold wait for its place in a pool; False for one that needs none, or is to ask later."""
    pool = draft.fold.plan.jobs[name].pool
    if pool is None or not draft.fold.may_ask(PoolName(pool.name)):
        return False
    _ask(draft, name)
    return True


def ask_for_places(draft: Draft) -> bool:
    """Have ready jobs ask for places, as many as the run could use; whether all of them fitted into this decision."""
    while (name := draft.fold.next_unasked()) is not None:
        if not draft.room:
            return False
        _ask(draft, name)
    return True


def _ask(draft: Draft, name: JobName) -> None:
    job = draft.fold.plan.jobs[name]
    assert job.pool is not None
    draft.emit(
        PlaceWanted(
            job=name,
            attempt=len(draft.fold.jobs[name].attempts) + 1,
            pool=PoolName(job.pool.name),
            weight=job.pool.weight,
            priority=job.priority,
        )
    )


def take_place(draft: Draft, command: TakePlace) -> bool:
    """Whether the place is wanted, and was taken. A place for what is over, or was not asked for, changes nothing: it is given back."""
    fold = draft.fold
    if fold.cancel is not None or fold.round != command.round:
        return False
    match fold.jobs.get(command.job):
        case JobState(phase=Wanting(attempt=attempt, pool=pool)) if (attempt, pool) == (command.attempt, command.pool):
            draft.emit(PlaceTaken(job=command.job, attempt=attempt))
            return True
        case _:
            return False


def holds_place(run: Run, pool: PoolName, place: Place) -> bool:
    """Whether this attempt is under way, or about to be, and counts on its place in the pool."""
    if run.round != place.round or place.job not in run.jobs:
        return False
    match run.jobs[place.job]:
        case JobState(phase=Ready(pool=held), attempts=attempts):
            return held == pool and len(attempts) + 1 == place.attempt
        case (
            JobState(phase=Queued(attempt=attempt) | Claimed(attempt=attempt) | Submitted(attempt=attempt))
            | JobState(phase=Doubted(attempt=attempt))
        ):
            of_job = run.plan.jobs[place.job].pool
            return attempt == place.attempt and of_job is not None and of_job.name == pool
        case _:
            return False


def wants_place(run: Run, pool: PoolName, place: Place) -> bool:
    """Whether this attempt waits for its place in the pool."""
    if run.round != place.round or run.cancel is not None or place.job not in run.jobs:
        return False
    phase = run.jobs[place.job].phase
    return isinstance(phase, Wanting) and (phase.attempt, phase.pool) == (place.attempt, pool)
