"""The cron grammar: text in, sets of minutes, hours and days out.

Two dialects, told apart by the number of fields:

* **five fields**, the standard: `minute hour day-of-month month day-of-week`, with `*`, lists, ranges, steps and names,
  Sunday as 0 or 7, and macros such as `@daily`. When both day fields are restricted a day needs to match only *one*
  of them; when either starts with `*` (also `*/2`) it must match both. That is the rule of Vixie cron and of Debian.
* **six fields**, AWS's: `minute hour day-of-month month day-of-week year`, with or without `cron( )` around them.
  Sunday is 1, and exactly one of the two day fields is `?`.

`L` (last), `W` (nearest working day) and `#` (n-th weekday of the month) are understood in both. `5/15` means "from 5
on, every 15", so `0/15` is `*/15`.

Promises: reading an expression never takes long and never raises anything but `CronError`, whose text names every
field that is wrong and what would be right. Knows nothing of zones: walking time is `shared/schedule.py`.
"""

import calendar
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

_T = TypeVar("_T")

CHARACTERS_MAX: Final = 2_000
"""Longer than the longest sensible expression (every value of every field, listed)."""

YEAR_FIRST: Final = 1970
YEAR_LAST: Final = 2199
"""AWS's own limits for the year field."""

MACROS: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAYS_A_WEEK: Final = 7
_SATURDAY: Final = 6
_SUNDAY: Final = 0
_NTH_MAX: Final = 5
_BEFORE_LAST_MAX: Final = 30


class CronError(ValueError):
    """The expression is wrong; the text is made of sentences that say what would be right."""


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression as sets. Weekdays count from Sunday = 0, whatever the dialect counted from."""

    seconds_of_day: tuple[int, ...]
    """Every hour and minute that matches, as seconds after midnight, ascending."""
    months: frozenset[int]
    years: frozenset[int] | None
    """None: every year."""
    days: frozenset[int]
    days_before_last: frozenset[int]
    """`L` is 0, `L-3` is 3."""
    nearest_workdays: frozenset[int]
    """`15W` is 15."""
    last_workday: bool
    """`LW`."""
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    """`FRI#2` is (5, 2)."""
    last_weekdays: frozenset[int]
    """`FRIL` is 5."""
    any_day_field: bool
    """Whether a day that matches one of the two day fields is enough."""
    follows_clock: bool
    """Whether it repeats all day (minute or hour is `*`, `*/n` or `m/n`) instead of naming times of day.

    Decides what a change of the clocks means; see `shared/schedule.py`.
    """

    def days_of(self, year: int, month: int) -> list[int]:
        """The days of that month on which it fires, ascending."""
        if month not in self.months or (self.years is not None and year not in self.years):
            return []
        first_weekday = (calendar.weekday(year, month, 1) + 1) % _DAYS_A_WEEK
        length = calendar.monthrange(year, month)[1]

        def weekday(day: int) -> int:
            return (first_weekday + day - 1) % _DAYS_A_WEEK

        by_date = {day for day in self.days if day <= length}
        by_date |= {length - before for before in self.days_before_last if before < length}
        by_date |= {_nearest_workday(day, length, weekday) for day in self.nearest_workdays if day <= length}
        if self.last_workday:
            by_date.add(_nearest_workday(length, length, weekday))

        def matches_weekday(day: int) -> bool:
            return (
                weekday(day) in self.weekdays
                or (weekday(day), (day - 1) // _DAYS_A_WEEK + 1) in self.nth_weekdays
                or (weekday(day) in self.last_weekdays and day > length - _DAYS_A_WEEK)
            )

        if self.any_day_field:
            return [day for day in range(1, length + 1) if day in by_date or matches_weekday(day)]
        return [day for day in sorted(by_date) if matches_weekday(day)]


def _nearest_workday(day: int, length: int, weekday: Callable[[int], int]) -> int:
    """Monday to Friday, and never in another month."""
    if weekday(day) == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday(day) == _SUNDAY:
        return day + 1 if day < length else day - 2
    return day


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    plural: str
    low: int
    high: int
    names: Mapping[str, int]
    counted: str = ""
    """Said after the range where counting is a trap."""
    step_hint: str = ""

    def range_text(self) -> str:
        return f"{self.plural} go from {self.low} to {self.high}{self.counted}"

    def number(self, text: str) -> int:
        if text in self.names:
            return self.names[text]
        if text.isascii() and text.isdigit():
            # Python refuses to read integers of thousands of digits; nothing here has more than four.
            value = int(text) if len(text) <= len(str(YEAR_LAST)) else self.high + 1
            if not self.low <= value <= self.high:
                raise CronError(f"{self.name} {text[:20]} is out of range: {self.range_text()}")
            return value
        hint = ""
        if self.names and text.isalpha():
            near = [name for name in self.names if text.startswith(name)]
            near = near or difflib.get_close_matches(text[:20], self.names, 1)
            hint = f"; did you mean {near[0]}?" if near else f" (names are {', '.join(self.names)})"
        raise CronError(
            f"{_shown(text)} is not a {self.name}: {self.range_text()}, and *, ranges such as "
            f"{self._example_range()}, steps such as */2 and lists with commas are allowed{hint}"
        )

    def _example_range(self) -> str:
        return f"{self.low + 1}-{self.low + 3}"

    def numbers(self, text: str) -> frozenset[int]:
        """What one element of a list (`*`, `5`, `5-10`, `*/15`, `5-30/5`, `5/15`) stands for."""
        base, slash, step_text = text.partition("/")
        step = 1
        if slash:
            step = self._step(step_text)
        if base == "*":
            low, high = self.low, self.high
            # In five fields Sunday has two numbers; counted twice, */2 would hit Saturday and Sunday.
            if self.high - self.low == _DAYS_A_WEEK:
                high -= 1
        elif "-" in base:
            low_text, _, high_text = base.partition("-")
            low, high = self.number(low_text), self.number(high_text)
            if high_text == "SUN" and self.high == _DAYS_A_WEEK and self.low == 0:
                high = _DAYS_A_WEEK
            if low > high:
                raise CronError(
                    f"{self.name} range {base} runs backwards: write {high_text}-{low_text}, or "
                    f"{low_text}-{self.high},{self.low}-{high_text} to go past the end"
                )
        else:
            low = self.number(base)
            high = self.high if slash else low
        return frozenset(range(low, high + 1, step))

    def _step(self, text: str) -> int:
        count = self.high - self.low + 1
        if not (text.isascii() and text.isdigit()) or set(text) == {"0"}:
            raise CronError(f"{self.name} step /{text[:20]} is not a step: write a whole number from 1 to {count}")
        step = int(text) if len(text) <= len(str(YEAR_LAST)) else count + 1
        if step > count:
            raise CronError(
                f"{self.name} step /{text[:20]} is larger than the field: {self.range_text()}, so steps go from 1 "
                f"to {count}{self.step_hint}"
            )
        return step


_STEP_HINT: Final = ' (for a longer period use "rate" or "interval" instead of "cron")'
_MINUTE: Final = _Field("minute", "minutes", 0, 59, {}, step_hint=_STEP_HINT)
_HOUR: Final = _Field("hour", "hours", 0, 23, {}, step_hint=_STEP_HINT)
_DAY: Final = _Field("day of month", "days of month", 1, 31, {}, step_hint=_STEP_HINT)
_MONTH: Final = _Field("month", "months", 1, 12, {name: number for number, name in enumerate(_MONTH_NAMES, 1)})
_WEEKDAY: Final = _Field(
    "day of week",
    "days of week",
    0,
    7,
    {name: number for number, name in enumerate(_WEEKDAY_NAMES)},
    " (Sunday is 0 or 7)",
)
_AWS_WEEKDAY: Final = _Field(
    "day of week",
    "days of week",
    1,
    7,
    {name: number for number, name in enumerate(_WEEKDAY_NAMES, 1)},
    " (AWS counts from Sunday = 1 in six fields)",
)
_YEAR: Final = _Field("year", "years", YEAR_FIRST, YEAR_LAST, {})


@lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Read an expression of either dialect. Raises `CronError` naming every field that is wrong."""
    if len(text) > CHARACTERS_MAX:
        raise CronError(f"the cron expression has {len(text)} characters: at most {CHARACTERS_MAX} are allowed")
    fields, wrapped = _fields_of(text)
    aws = len(fields) == 6
    if wrapped and not aws:
        raise CronError(
            f"cron( ) has {_counted(len(fields))} inside: it takes AWS's six, minute hour day-of-month month "
            "day-of-week year, for example cron(0 2 * * ? *)"
        )
    if not aws and len(fields) != 5:
        raise CronError(
            f"the cron expression has {_counted(len(fields))}: write five, minute hour day-of-month month "
            'day-of-week, for example "0 2 * * *", or AWS\'s six, with a year at the end and ? for one of the days'
        )
    return _read_fields([field.upper() for field in fields], aws=aws)


def _fields_of(text: str) -> tuple[list[str], bool]:
    stripped = text.strip()
    if stripped.startswith("@"):
        return _macro(stripped).split(), False
    wrapper = re.match(r"(cron|rate|at)\s*\(", stripped, re.IGNORECASE)
    if wrapper is None:
        return stripped.split(), False
    kind = wrapper.group(1).lower()
    if kind != "cron":
        raise CronError(f'{_shown(text)} is not a cron expression: write it under "{kind}" instead of "cron"')
    if not stripped.endswith(")"):
        raise CronError(f"{_shown(text)} opens a bracket and does not close it: write cron(0 2 * * ? *)")
    return stripped[wrapper.end() : -1].split(), True


def _macro(text: str) -> str:
    name = text.lower()
    if name in MACROS:
        return MACROS[name]
    if name == "@reboot":
        raise CronError(f"@reboot names no time: write one of {', '.join(MACROS)}, or five fields")
    near = difflib.get_close_matches(name[:20], MACROS, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise CronError(f"{_shown(text)} is not known: write one of {', '.join(MACROS)}, or five fields{hint}")


def _read_fields(fields: list[str], *, aws: bool) -> Cron:
    problems: list[str] = []

    def attempt(read: Callable[[str], _T], text: str, otherwise: _T) -> _T:
        try:
            return read(text)
        except CronError as problem:
            problems.append(str(problem))
            return otherwise

    none: frozenset[int] = frozenset()
    minute, hour, day, month, weekday = fields[:5]
    minutes = attempt(_list_of(_MINUTE), minute, none)
    hours = attempt(_list_of(_HOUR), hour, none)
    months = attempt(_list_of(_MONTH), month, none)
    years: frozenset[int] | None = None
    if aws and fields[5] != "*":
        years = attempt(_list_of(_YEAR), fields[5], none)
    problem = _question_marks(day, weekday, aws=aws)
    if problem:
        problems.append(problem)
    day = "*" if day == "?" else day
    weekday = "*" if weekday == "?" else weekday
    days = attempt(_days_of_month, day, _DaysOfMonth())
    weekdays = attempt(lambda text: _days_of_week(text, aws=aws), weekday, _DaysOfWeek())
    if problems:
        raise CronError("; ".join(problems))
    return Cron(
        seconds_of_day=tuple(h * 3600 + m * 60 for h in sorted(hours) for m in sorted(minutes)),
        months=months,
        years=years,
        days=days.days,
        days_before_last=days.before_last,
        nearest_workdays=days.nearest_workdays,
        last_workday=days.last_workday,
        weekdays=weekdays.days,
        nth_weekdays=weekdays.nth,
        last_weekdays=weekdays.last,
        any_day_field=not day.startswith("*") and not weekday.startswith("*"),
        follows_clock=_repeats(minute) or _repeats(hour),
    )


def _list_of(field: _Field) -> Callable[[str], frozenset[int]]:
    return lambda text: frozenset[int]().union(*(field.numbers(part) for part in text.split(",")))


def _question_marks(day: str, weekday: str, *, aws: bool) -> str:
    marks = [day, weekday].count("?")
    if aws and marks != 1:
        return (
            "in six fields exactly one of day-of-month and day-of-week is ?: write for example 0 2 * * ? * for every "
            "day (six fields are AWS's, minute first and year last; seconds cannot be given)"
        )
    if not aws and marks:
        return "? belongs to AWS's six fields: in five fields write * instead"
    return ""


def _repeats(text: str) -> bool:
    return text.startswith("*") or re.fullmatch(r"[0-9]+/[0-9]+", text) is not None


@dataclass(frozen=True, slots=True)
class _DaysOfMonth:
    days: frozenset[int] = frozenset()
    before_last: frozenset[int] = frozenset()
    nearest_workdays: frozenset[int] = frozenset()
    last_workday: bool = False


def _days_of_month(text: str) -> _DaysOfMonth:
    days: set[int] = set()
    before_last: set[int] = set()
    nearest: set[int] = set()
    last_workday = False
    for part in text.split(","):
        if part in ("LW", "WL"):
            last_workday = True
        elif part == "L":
            before_last.add(0)
        elif match := re.fullmatch(r"L-([0-9]{1,4})", part):
            before = int(match.group(1))
            if before > _BEFORE_LAST_MAX:
                raise CronError(f"day of month {part} is out of range: L-1 to L-{_BEFORE_LAST_MAX} count back")
            before_last.add(before)
        elif match := re.fullmatch(r"([0-9]+)W", part):
            nearest.add(_DAY.number(match.group(1)))
        elif "#" in part:
            raise CronError(
                f"day of month {_shown(part)} uses #, which counts weekdays: move it to the day-of-week field"
            )
        else:
            days |= _DAY.numbers(part)
    return _DaysOfMonth(frozenset(days), frozenset(before_last), frozenset(nearest), last_workday)


@dataclass(frozen=True, slots=True)
class _DaysOfWeek:
    days: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()
    last: frozenset[int] = frozenset()


def _days_of_week(text: str, *, aws: bool) -> _DaysOfWeek:
    field = _AWS_WEEKDAY if aws else _WEEKDAY
    days: set[int] = set()
    nth: set[tuple[int, int]] = set()
    last: set[int] = set()

    def from_sunday(number: int) -> int:
        return (number - field.low) % _DAYS_A_WEEK

    for part in text.split(","):
        if "#" in part:
            weekday, _, count = part.partition("#")
            if count not in [str(number) for number in range(1, _NTH_MAX + 1)]:
                raise CronError(
                    f"day of week {_shown(part)} counts wrongly: after # write 1 to {_NTH_MAX}, for example MON#1 "
                    "for the first Monday of the month"
                )
            nth.add((from_sunday(field.number(weekday)), int(count)))
        elif part == "L":
            # Alone, L is the last day of the week: Saturday, on AWS as in Quartz.
            days.add(_SATURDAY)
        elif part.endswith("L") and len(part) > 1:
            last.add(from_sunday(field.number(part[:-1])))
        else:
            days |= {from_sunday(number) for number in field.numbers(part)}
    return _DaysOfWeek(frozenset(days), frozenset(nth), frozenset(last))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _counted(fields: int) -> str:
    return "1 field" if fields == 1 else f"{fields} fields"
