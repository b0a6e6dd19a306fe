"""A calendar's state: its days as they are now. Folded from the stream `calendar#<name>`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from shared.errors import CorruptStream, UnknownEvents
from shared.events import CalendarRegistered, Event, UnknownEvent
from shared.workflow.days import CalendarDays


@dataclass(frozen=True, slots=True)
class CalendarState:
    """The state of an empty stream has version 0: there is no such calendar."""

    name: str = ""
    version: int = 0
    days: tuple[str, ...] = ()
    timezone: str | None = None
    description: str = ""
    at: datetime | None = None
    """When the version was registered."""
    by: str = ""
    source: str = ""

    def days_now(self) -> CalendarDays | None:
        """What schedules are told; None if there is no such calendar."""
        return CalendarDays(self.version, self.days, self.timezone) if self.version else None


def fold_calendar(events: Iterable[tuple[datetime, Event]], state: CalendarState = CalendarState()) -> CalendarState:
    """Fold events, each with the time of its commit. Raises `CorruptStream`, `UnknownEvents`."""
    for at, event in events:
        match event:
            case CalendarRegistered(version=version) if version == state.version + 1:
                state = CalendarState(
                    event.calendar,
                    version,
                    event.days,
                    event.timezone,
                    event.description,
                    at,
                    event.by,
                    event.source,
                )
            case UnknownEvent():
                raise UnknownEvents(f"an event of type {event.type} is newer than this code")
            case _:
                raise CorruptStream(f"{event.type} cannot follow in the stream of a calendar")
    return state
