"""Days on which nothing is to run, as users write them: the `exclude` of a schedule, and calendars, which are documents of their own.

Pure: texts are checked and compiled, and a day is in a list or not. Which day an instant falls on is asked of a zone: the schedule's,
or the calendar's own where it names one. Nothing is removed from a schedule here; an excluded instant stays an instant, and whoever
deals with it says why it did not become a run.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from shared.ids import NAME_PATTERN

DAYS_MAX: Final = 1_000
"""Entries of one list: a calendar of twenty years' holidays, and it fits one event with room to spare."""
CALENDARS_MAX: Final = 20
"""Calendars that one schedule names: each is read when an instant is due."""
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_YEARLY: Final = re.compile(r"(\d{2})-(\d{2})")
_LEAP_YEAR: Final = 2024
_EXAMPLE: Final = (
    "write 2026-12-25, a range 2026-12-24/2027-01-01, a day of every year 12-25, or a weekday such as saturday"
)

CalendarName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]


def _wrong(problem: str) -> PydanticCustomError:
    return PydanticCustomError("schedule", "{problem}", {"problem": problem})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_day(value: object) -> object:
    """One entry in the form that is kept: weekdays in full and lower case, everything else as it is written."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise _wrong(f"{_shown(value)} is not a day: {_EXAMPLE}")
    text = value.strip()
    weekday = _weekday(text)
    if weekday is not None:
        return weekday
    first, is_range, last = text.partition("/")
    backwards = False
    try:
        if is_range:
            backwards = _date(first) > _date(last)
        elif yearly := _YEARLY.fullmatch(text):
            date(_LEAP_YEAR, int(yearly[1]), int(yearly[2]))
        else:
            _date(text)
    except ValueError:
        raise _wrong(f"{_shown(value)} is not a day: {_EXAMPLE}") from None
    if backwards:
        raise _wrong(f"{_shown(value)} ends before it begins, so it holds no day: write the earlier day first")
    return text


def _date(text: str) -> date:
    if _DAY.fullmatch(text) is None:
        # `date.fromisoformat` also reads 20261225 and 2026-W52-5, which nobody should have to read in a calendar.
        raise ValueError(text)
    return date.fromisoformat(text)


def _weekday(text: str) -> str | None:
    lower = text.lower()
    return next((name for name in WEEKDAYS if lower in (name, name[:3])), None)


Day = Annotated[
    str,
    BeforeValidator(_read_day),
    WithJsonSchema({"type": "string", "examples": ["2026-12-25", "2026-12-24/2027-01-01", "12-25", "saturday"]}),
]


def _read_list(value: object) -> object:
    # A schedule is looked at before it is read, and from then on pydantic takes JSON's lists for Python's, which are no tuples.
    return tuple(value) if isinstance(value, list) else value


class Exclude(BaseModel):
    """Days on which a schedule starts nothing: each of its instants that falls on one is skipped, and says so."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    days: Annotated[tuple[Day, ...], BeforeValidator(_read_list)] = Field(default=(), max_length=DAYS_MAX)
    """Days in the schedule's time zone: dates, ranges of dates (both ends excluded too), days of every year, weekdays."""
    calendars: Annotated[tuple[CalendarName, ...], BeforeValidator(_read_list)] = Field(
        default=(), max_length=CALENDARS_MAX
    )
    """Calendars by name: lists of days that many schedules share. They count as they are when an instant is dealt with."""

    @model_validator(mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        if isinstance(value, (dict, cls)):
            return value
        raise _wrong(
            f'exclude {_shown(value)} is not an object: write {{"days": ["2026-12-25", "saturday"]}}, or '
            '{"calendars": ["bank-holidays"]}'
        )


class DaySet:
    """A list of days, compiled: `of(day)` costs the same for one entry and for a thousand."""

    def __init__(self, days: tuple[str, ...]) -> None:
        self._dates: set[date] = set()
        self._yearly: set[tuple[int, int]] = set()
        self._weekdays: set[int] = set()
        ranges: list[tuple[date, date]] = []
        for text in days:
            first, is_range, last = text.partition("/")
            if text in WEEKDAYS:
                self._weekdays.add(WEEKDAYS.index(text))
            elif is_range:
                ranges.append((_date(first), _date(last)))
            elif yearly := _YEARLY.fullmatch(text):
                self._yearly.add((int(yearly[1]), int(yearly[2])))
            else:
                self._dates.add(_date(text))
        self._begins: list[date] = []
        self._ends: list[date] = []
        for begin, end in sorted(ranges):
            if self._ends and begin <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def holds(self, day: date) -> bool:
        return day.weekday() in self._weekdays or self.holds_by_date(day)

    def holds_by_date(self, day: date) -> bool:
        """Whether the day is there for its date, and not only for its weekday."""
        if day in self._dates or (day.month, day.day) in self._yearly:
            return True
        before = bisect_right(self._begins, day)
        return before > 0 and day <= self._ends[before - 1]


@lru_cache(maxsize=1024)
def day_set(days: tuple[str, ...]) -> DaySet:
    return DaySet(days)


@dataclass(frozen=True, slots=True)
class CalendarDays:
    """What a calendar says: its version, its days, and its own time zone if it has one."""

    version: int
    days: tuple[str, ...]
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Excluded:
    """Why an instant is excluded."""

    day: date
    """The day that it falls on."""
    calendar: str = ""
    """The calendar that names the day; empty when the schedule itself does."""
    version: int = 0
    """Of the calendar; 0 when the schedule names one that is not there."""
    weekday: bool = False
    """The day is excluded for its weekday, not for its date."""

    @property
    def reason(self) -> str:
        if not self.calendar:
            return f"{self.day.isoformat()}, a {WEEKDAYS[self.day.weekday()].capitalize()}, is excluded by the schedule"
        if not self.version:
            return f"the calendar {self.calendar}, which the schedule names, is not there, so {self.day.isoformat()} may be excluded"
        return f"{self.day.isoformat()} is excluded by the calendar {self.calendar}, version {self.version}"


class Exclusion:
    """The excluded days of one schedule, with the calendars that it names as they are now."""

    def __init__(self, exclude: Exclude, timezone: str, calendars: Mapping[str, CalendarDays]) -> None:
        """A calendar that is named and is not among `calendars` excludes every day: running on a holiday cannot be taken back."""
        own = ZoneInfo(timezone)
        self._lists: list[tuple[str, int, ZoneInfo, DaySet | None]] = []
        if exclude.days:
            self._lists.append(("", 0, own, day_set(exclude.days)))
        for name in dict.fromkeys(exclude.calendars):
            calendar = calendars.get(name)
            if calendar is None:
                self._lists.append((name, 0, own, None))
            elif calendar.days:
                zone = ZoneInfo(calendar.timezone) if calendar.timezone is not None else own
                self._lists.append((name, calendar.version, zone, day_set(calendar.days)))

    def of(self, at: datetime) -> Excluded | None:
        """Why an instant (aware) is excluded; None if it is not. The schedule's own days come first, then calendars in order."""
        for calendar, version, zone, days in self._lists:
            day = at.astimezone(zone).date()
            if days is None:
                return Excluded(day, calendar)
            if days.holds(day):
                return Excluded(day, calendar, version, weekday=not days.holds_by_date(day))
        return None

    def dates(self, after: datetime, until: datetime) -> list[date]:
        """Days that are excluded for their date, not their weekday, from one day before `after` to one day after `until`."""
        found: list[date] = []
        day, last = (after - timedelta(days=1)).date(), (until + timedelta(days=1)).date()
        while day <= last:
            if any(days is not None and days.holds_by_date(day) for _, _, _, days in self._lists):
                found.append(day)
            day += timedelta(days=1)
        return found

    def __bool__(self) -> bool:
        return bool(self._lists)
