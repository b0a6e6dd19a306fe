"""What becomes of a schedule's instants: which are to be runs, which are excluded or given up, and when a run of one begins.

Pure and without a view of the workflow: `decide/workflow.py` lets in, holds and records. Every instant between two moments is in exactly
one verdict, in order, so that whoever records them one after the other forgets none, however often it is cut.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared import schedule
from shared.ids import WorkflowName, instant_text
from shared.schedule import Instant
from shared.workflow.days import CalendarDays, Excluded, Exclusion
from shared.workflow.timing import Schedule

MISFIRE_GRACE = timedelta(minutes=5)
"""With `catchup: none`, an instant still becomes a run when it is dealt with this late: schedules and sweeps are not exact."""
MISSED_COUNT_MAX = 100_000
"""Beyond this many, missed instants are no longer counted exactly."""
LOOKS_MAX = 100_000
"""Instants over which the newest that are not excluded are looked for."""

_INSTANT = timedelta(microseconds=1)

Calendars = Callable[[str], CalendarDays | None]
"""A calendar by its name, as it is now; None if there is none."""


def no_calendars(_name: str) -> CalendarDays | None:
    return None


@dataclass(frozen=True, slots=True)
class ToRun:
    instant: Instant


@dataclass(frozen=True, slots=True)
class ToMiss:
    first: datetime
    last: datetime
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class ToExclude:
    first: datetime
    last: datetime
    count: int
    excluded: Excluded


Verdict = ToRun | ToMiss | ToExclude


def exclusion_of(rule: Schedule, calendars: Calendars) -> Exclusion | None:
    """The schedule's excluded days with the calendars that it names as they are now; None if it has none."""
    if rule.exclude is None:
        return None
    named = {name: found for name in rule.exclude.calendars if (found := calendars(name)) is not None}
    return Exclusion(rule.exclude, rule.timezone, named) or None


def verdicts(
    rule: Schedule, after: datetime, now: datetime, paused: datetime | None, exclusion: Exclusion | None
) -> Iterator[Verdict]:
    """What becomes of every instant with `after < at <= now`, ascending. `paused`: since when the workflow was, if until now."""
    wanted = _wanted(rule, after, now, paused, exclusion)
    missed_until = wanted[0].at - timedelta(seconds=1) if wanted else now
    why = "the workflow was paused" if paused is not None else "nothing was there to start it"
    bound = bound_of(rule)
    if bound is not None and after < (too_late := min(now - bound - _INSTANT, missed_until)):
        late = f"{why}; more than {rule.misfire_minutes} minutes late (misfire_minutes)"
        yield from _missed(rule, after, too_late, late, exclusion)
        after = too_late
    yield from _missed(rule, after, missed_until, f"{why}; catchup is {rule.catchup}", exclusion)
    if exclusion is None:
        yield from map(ToRun, wanted)
        return
    position = 0
    for stretch in schedule.stretches(rule, missed_until, now, exclusion) if wanted else ():
        if stretch.excluded is not None:
            yield ToExclude(stretch.first, stretch.last, stretch.count, stretch.excluded)
            continue
        yield from map(ToRun, wanted[position : position + stretch.count])
        position += stretch.count


def bound_of(rule: Schedule) -> timedelta | None:
    """How late an instant may still become a run; None for any time."""
    return timedelta(minutes=rule.misfire_minutes) if rule.misfire_minutes is not None else None


def _wanted(
    rule: Schedule, after: datetime, now: datetime, paused: datetime | None, exclusion: Exclusion | None
) -> list[Instant]:
    """The instants that become runs, by the catch-up policy, ascending; always the newest part of what is due."""
    bound = bound_of(rule)
    if rule.catchup == "none" and rule.at is None and paused is not None:
        # Being late is forgiven to clocks and sweeps; a pause was meant.
        return []
    if bound is not None:
        # An instant that is late by just as much as it may be still runs.
        after = max(after, now - bound - _INSTANT)
    elif rule.catchup == "none" and rule.at is None:
        after = max(after, now - MISFIRE_GRACE)
    most = 1 if rule.at is not None or rule.catchup == "latest" else rule.catchup_max
    if exclusion is None:
        return schedule.latest(rule, after, now, most)
    return schedule.latest_open(rule, after, now, most, exclusion, looks=LOOKS_MAX)


def _missed(
    rule: Schedule, after: datetime, until: datetime, reason: str, exclusion: Exclusion | None
) -> Iterator[ToMiss | ToExclude]:
    if until <= after:
        return
    if exclusion is None:
        first = schedule.due(rule, after, until, limit=1)
        if first:
            last = schedule.latest(rule, after, until, 1)
            count = schedule.count_between(rule, after, until, MISSED_COUNT_MAX)
            yield ToMiss(first[0].at, last[0].at, count, reason)
        return
    for stretch in schedule.stretches(rule, after, until, exclusion):
        if stretch.excluded is not None:
            yield ToExclude(stretch.first, stretch.last, stretch.count, stretch.excluded)
        else:
            yield ToMiss(stretch.first, stretch.last, stretch.count, reason)


# --- when a run begins ------------------------------------------------------------------------------------------------


def jitter_of(rule: Schedule, workflow: WorkflowName, at: datetime) -> timedelta:
    """How long after its instant a run begins: the same for the same workflow and instant, whoever asks and whenever."""
    if rule.jitter_seconds is None:
        return timedelta(0)
    drawn = hashlib.sha256(f"{workflow}\x1f{instant_text(at)}".encode()).digest()
    return timedelta(seconds=int.from_bytes(drawn[:8]) % (rule.jitter_seconds + 1))


def begins_at(rule: Schedule, workflow: WorkflowName, at: datetime, now: datetime) -> datetime:
    """When the run of an instant is to begin, as far as `jitter_seconds` says.

    What is dealt with late is spread from now on: after an outage everything is late, and must not begin at once for that.
    """
    return (at if now - at <= MISFIRE_GRACE else now) + jitter_of(rule, workflow, at)


def turn_spacing(rule: Schedule) -> timedelta | None:
    """The time between the turns of two scheduled runs; None without `starts_per_minute`."""
    return timedelta(seconds=60 / rule.starts_per_minute) if rule.starts_per_minute is not None else None
