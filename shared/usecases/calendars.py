"""Calendars: registered, looked up, listed; and whether the calendars that a workflow names are there."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from shared.decide.commands import RegisterCalendar
from shared.errors import NotFound, Problem
from shared.ids import calendar_stream, is_name
from shared.secrecy import without_secrets
from shared.state.calendar import CalendarState
from shared.usecases.loading import Loader
from shared.usecases.transact import Transact
from shared.workflow.calendar import Calendar
from shared.workflow.document import Workflow
from shared.workflow.nearest import listed, shown

NAMES_COMPARED_MAX = 1_000
"""Calendars looked at for "did you mean"."""
NAMES_SHOWN_MAX = 20


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


def calendars(loader: Loader, *, after: str = "", limit: int) -> tuple[list[CalendarState], str]:
    """A page of calendars by name, and the name after which the next one begins; empty at the end."""
    names = list(islice(loader.calendars(after=after), limit + 1))
    return [loader.calendar(name) for name in names[:limit]], names[limit - 1] if len(names) > limit else ""


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


def _existing(loader: Loader, name: str) -> str:
    names = list(islice(loader.calendars(), NAMES_COMPARED_MAX))
    near = get_close_matches(name[:64], names, n=1)
    if near:
        return f": did you mean {near[0]}?"
    if not names:
        return ""
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return f": there are {listed(names[:NAMES_SHOWN_MAX], NAMES_SHOWN_MAX)}{more}"
