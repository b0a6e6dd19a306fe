"""The rules of a calendar: each registration of other days is a version, and the same again is none."""

from datetime import datetime

from shared.decide.commands import RegisterCalendar
from shared.events import CalendarRegistered, Event
from shared.secrecy import without_secrets
from shared.state.calendar import CalendarState, fold_calendar


def decide_calendar(state: CalendarState, command: RegisterCalendar) -> list[Event]:
    same = (state.days, state.timezone, state.description) == (command.days, command.timezone, command.description)
    if state.version and same:
        return []
    return [
        CalendarRegistered(
            calendar=command.calendar,
            version=state.version + 1,
            days=command.days,
            timezone=command.timezone,
            description=command.description,
            by=command.by,
            source=without_secrets(command.source),
        )
    ]


class CalendarDraft:
    """As `RunDraft` is for a run."""

    def __init__(self, state: CalendarState, now: datetime) -> None:
        self.state = state
        self.now = now
        self.events: list[Event] = []
        self.truncated = False
        self.room = True

    def decide(self, command: RegisterCalendar) -> None:
        events = decide_calendar(self.state, command)
        self.state = fold_calendar(((self.now, event) for event in events), self.state)
        self.events.extend(events)

    def freeze(self) -> CalendarState:
        return self.state
