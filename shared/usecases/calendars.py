"""Calendars: registered, looked up, listed; and whether the calendars that a workflow names are there."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import islice

from shared import schedule
from shared.decide.commands import RegisterCalendar
from shared.decide.instants import Calendars, exclusion_of
from shared.errors import InvalidInput, NotFound, Problem
from shared.ids import calendar_stream, is_name
from shared.schedule import Instant, OddDay
from shared.secrecy import without_secrets
from shared.state.calendar import CalendarState
from shared.usecases.loading import Loader
from shared.usecases.transact import Transact
from shared.workflow.calendar import Calendar
from shared.workflow.document import Workflow
from shared.workflow.nearest import listed, shown
from shared.workflow.timing import Schedule

NAMES_COMPARED_MAX = 1_000
"""Calendars looked at for "did you mean"."""
NAMES_SHOWN_MAX = 20
ODD_AHEAD = timedelta(days=366)
ODD_DAYS_MAX = 50


@dataclass(frozen=True, slots=True)
class RegisteredCalendar:
    calendar: str
    version: int
    changed: bool
    """False when these very days were registered already."""


def register_calendar(transact: Transact, calendar: Calendar, *, by: str, source: str) -> RegisteredCalendar:
    command = RegisterCalendar(
        calendar.calendar,
        calendar.days,
        calendar.timezone,
        without_secrets(calendar.description),
        by,
        without_secrets(source),
    )
    decided = transact(calendar_stream(calendar.calendar), command, by=by, cause="calendar")
    state = decided.loaded.state
    assert isinstance(state, CalendarState)
    return RegisteredCalendar(calendar.calendar, state.version, bool(decided.events))


def find_calendar(loader: Loader, name: str) -> CalendarState:
    """`NotFound` with the nearest name."""
    state = loader.calendar(name) if is_name(name) else CalendarState()
    if not state.version:
        raise NotFound(f"there is no calendar {shown(name)}{_existing(loader, name)}")
    return state


def calendars(loader: Loader, *, cursor: str = "", limit: int) -> tuple[list[CalendarState], str]:
    """A page of calendars by name, and the next page's cursor, empty at the end. `InvalidInput` for what is no cursor."""
    names = list(islice(loader.calendars(after=_name_in(cursor)), limit + 1))
    following = urlsafe_b64encode(names[limit - 1].encode()).decode().rstrip("=") if len(names) > limit else ""
    return [loader.calendar(name) for name in names[:limit]], following


def _name_in(cursor: str) -> str:
    try:
        name = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (Base64Error, ValueError):
        name = "?"
    if cursor and not is_name(name):
        raise InvalidInput([Problem("cursor", "is not one of this list", "begin without one")])
    return name


def check_calendars(loader: Loader, document: Workflow) -> None:
    """Raise InvalidInput with each calendar that the workflow's schedule names and that is not there."""
    unknown = tuple(unknown_calendars(loader, document))
    if unknown:
        raise InvalidInput(unknown)


def unknown_calendars(loader: Loader, document: Workflow) -> Iterator[Problem]:
    """Each calendar that the workflow's schedule names and that is not there, with what there is."""
    exclude = document.schedule.exclude if document.schedule is not None else None
    for position, name in enumerate(exclude.calendars if exclude is not None else ()):
        if not loader.calendar(name).version:
            yield Problem(
                f"schedule.exclude.calendars[{position}]",
                f"there is no calendar `{shown(name)}`",
                _existing(loader, name).removeprefix(": ")
                or "register it first: a document with `calendar` and `days`",
            )


@dataclass(frozen=True, slots=True)
class Coming:
    """When a schedule is due next, and the days of the year ahead on which it does not simply do what it says."""

    instants: tuple[Instant, ...]
    odd_days: tuple[OddDay, ...]


def coming(rule: Schedule | None, calendars: Calendars, *, after: datetime, count: int) -> Coming:
    """The next `count` instants and the first odd days, by the calendars as they are now."""
    if rule is None:
        return Coming((), ())
    exclusion = exclusion_of(rule, calendars)
    instants = schedule.marked(schedule.upcoming(rule, after, count), exclusion)
    odd = schedule.odd_days(rule, after, after + ODD_AHEAD, exclusion, limit=ODD_DAYS_MAX) if count else []
    return Coming(tuple(instants), tuple(odd))


def _existing(loader: Loader, name: str) -> str:
    names = list(islice(loader.calendars(), NAMES_COMPARED_MAX))
    near = get_close_matches(name[:64], names, n=1)
    if near:
        return f": did you mean {near[0]}?"
    if not names:
        return ""
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return f": there are {listed(names[:NAMES_SHOWN_MAX], NAMES_SHOWN_MAX)}{more}"
