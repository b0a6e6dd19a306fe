"""When a workflow runs, as the user writes it: the `schedule` of a document.

These models check and keep what was written; they compute no instants (that is `shared/schedule.py`). Every error is
a sentence that says what is wrong and what would be right. Whatever is accepted here can be dumped to JSON and read
again to an equal model, and does not depend on when it was read.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from shared.workflow.cron import CronError, parse_cron
from shared.workflow.days import Exclude

CATCHUP_MAX_DEFAULT: Final = 100
CATCHUP_MAX_LIMIT: Final = 10_000
"""Runs started at once for instants that were missed; as many as one decision may lead to."""
JITTER_SECONDS_MAX: Final = 86_400
"""A day: whoever wants runs further from their instants wants other instants."""
MISFIRE_MINUTES_MAX: Final = 366 * 24 * 60
STARTS_PER_MINUTE_MAX: Final = 1_000
PERIOD_SECONDS_MAX: Final = 36_525 * 86_400
"""A hundred years: longer is a typo."""
YEAR_FIRST: Final = 1970
YEAR_LAST: Final = 9999
_TIMEZONE_CHARACTERS_MAX: Final = 100

Catchup = Literal["none", "latest", "all"]
GapPolicy = Literal["skip", "run_after"]
OverlapPolicy = Literal["first", "second", "both"]

_SECONDS: Final[Mapping[str, int]] = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 604_800,
}


def _wrong(problem: str) -> PydanticCustomError:
    # Passed as a value, not as the template: the user's own braces must not be taken for placeholders.
    return PydanticCustomError("schedule", "{problem}", {"problem": problem})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def period_seconds(period: str | int) -> int:
    """Seconds in `5 minutes`, `1 hour`, `rate(7 days)` or a plain number of seconds.

    Raises ValueError saying what would be right.
    """
    if isinstance(period, int):
        seconds, unit = period, "second"
    else:
        inner = re.fullmatch(r"\s*rate\s*\((.*)\)\s*", period, re.IGNORECASE | re.DOTALL)
        match = re.fullmatch(r"\s*([0-9]{1,12})\s*([A-Za-z]+)\s*", inner.group(1) if inner else period)
        if match is None:
            raise ValueError(
                f"{_shown(period)} is not a period: write a whole number and a unit, for example 5 minutes "
                "(units are seconds, minutes, hours, days and weeks)"
            )
        unit = match.group(2).lower().removesuffix("s")
        if unit not in _SECONDS:
            near = [name for name in _SECONDS if name.startswith(unit)]
            near = near or difflib.get_close_matches(unit, _SECONDS, 1)
            hint = f"; did you mean {near[0]}s?" if near else ""
            raise ValueError(
                f"{_shown(match.group(2))} is not a unit of time: units are seconds, minutes, hours, days and "
                f"weeks{hint}"
            )
        seconds = int(match.group(1)) * _SECONDS[unit]
    if not 1 <= seconds <= PERIOD_SECONDS_MAX:
        raise ValueError(
            f"a period of {period} is out of range: periods go from 1 second to "
            f"{PERIOD_SECONDS_MAX // 86_400} days (a hundred years)"
        )
    return seconds


def _read_period(value: object, *, unit_needed: bool) -> object:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and not unit_needed):
        try:
            period_seconds(value)
        except ValueError as problem:
            raise _wrong(str(problem)) from None
        return value
    number = "" if unit_needed else " or a whole number of seconds"
    raise _wrong(f"{_shown(value)} is not a period: write text such as 5 minutes{number}")


def _read_rate(value: object) -> object:
    return None if value is None else _read_period(value, unit_needed=True)


def _read_every(value: object) -> object:
    return _read_period(value, unit_needed=False)


def _read_cron(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong(f'{_shown(value)} is not a cron expression: write text, for example "0 2 * * *"')
    try:
        parse_cron(value)
    except CronError as problem:
        raise _wrong(str(problem)) from None
    return value


def _moment(name: str, *, whole_day_is_midnight: bool) -> Callable[[object], object]:
    """A reader of one moment in ISO format, or the date object that a YAML reader makes of one."""

    def read(value: object) -> object:
        if value is None:
            return None
        example = f"{name} is written like 2026-03-29T02:30:00 (wall time in timezone) or 2026-03-29T00:30:00Z"
        moment: datetime
        is_date = False
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment, is_date = datetime(value.year, value.month, value.day), True  # noqa: DTZ001
        elif isinstance(value, str):
            text = value.strip()
            wrapped = re.fullmatch(r"at\s*\((.*)\)", text, re.IGNORECASE | re.DOTALL) if name == "at" else None
            text = wrapped.group(1).strip() if wrapped else text
            is_date = ":" not in text and "T" not in text.upper()
            try:
                moment = datetime.fromisoformat(text)
            except ValueError as problem:
                reason = f" ({problem})" if "must be" in str(problem) or "out of range" in str(problem) else ""
                raise _wrong(f"{_shown(value)} is not a moment{reason}: {example}") from None
        else:
            raise _wrong(f"{_shown(value)} is not a moment: {example}")
        if is_date and not whole_day_is_midnight:
            raise _wrong(f"{_shown(str(value))} is a day, not a moment: write the time too; {example}")
        if not YEAR_FIRST <= moment.year <= YEAR_LAST:
            raise _wrong(f"{name} is in the year {moment.year}: years go from {YEAR_FIRST} to {YEAR_LAST}")
        if moment.microsecond:
            raise _wrong(f"{name} has a fraction of a second: write whole seconds; {example}")
        return moment

    return read


def _choice(name: str, choices: tuple[str, ...]) -> Callable[[object], object]:
    def read(value: object) -> object:
        if isinstance(value, str) and value in choices:
            return value
        near = difflib.get_close_matches(value[:40].lower(), choices, 1) if isinstance(value, str) else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _wrong(f"{name} {_shown(value)} is not known: write one of {', '.join(choices)}{hint}")

    return read


@lru_cache(maxsize=1)
def _zone_names() -> dict[str, str]:
    """Lower-case spellings a person may try (the whole name, or only the city) and the name meant."""
    names = sorted(available_timezones())
    by_spelling = {name.rpartition("/")[2].lower(): name for name in reversed(names)}
    return by_spelling | {name.lower(): name for name in names}


def read_timezone(value: object) -> object:
    """The IANA name it is; raises what pydantic takes for an error, with the nearest name."""
    if not isinstance(value, str):
        raise _wrong(f"timezone {_shown(value)} is not a name: write an IANA name such as Europe/Berlin or UTC")
    try:
        # Names of the copies with leap seconds, and of this machine's own setting, would load but mean other things.
        if value and len(value) <= _TIMEZONE_CHARACTERS_MAX and value.partition("/")[0] not in _NOT_ZONES:
            ZoneInfo(value)
            return value
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # The last is what a folder of the database ("Europe") gives.
        pass
    tried = value[:_TIMEZONE_CHARACTERS_MAX].strip().lower().replace(" ", "_")
    near = difflib.get_close_matches(tried, _zone_names(), 1, cutoff=0.7)
    hint = f"; did you mean {_zone_names()[near[0]]}?" if near else ""
    raise _wrong(f"timezone {_shown(value)} is not known: write an IANA name such as Europe/Berlin or UTC{hint}")


_NOT_ZONES: Final = frozenset({"posix", "right", "posixrules", "localtime", "Factory"})


def _read_catchup_max(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= CATCHUP_MAX_LIMIT:
        return value
    raise _wrong(f"catchup_max {_shown(value)} is out of range: write a whole number from 1 to {CATCHUP_MAX_LIMIT}")


def _whole(name: str, least: int, most: int) -> Callable[[object], object]:
    def read(value: object) -> object:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
            return value
        raise _wrong(f"{name} {_shown(value)} is out of range: write a whole number from {least} to {most}")

    return read


def _whole_schema(least: int, most: int) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, {"type": "null"}]})


def _moment_schema(example: str) -> WithJsonSchema:
    # Not "format: date-time": that demands an offset, and wall time in the schedule's zone has none.
    return WithJsonSchema({"type": "string", "examples": [example, f"{example}Z"]})


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Interval(_Model):
    """A fixed period in real seconds, counted from an anchor. Clock changes do not touch it."""

    every: Annotated[
        str | int,
        BeforeValidator(_read_every),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "examples": ["1440 minutes", "36 hours", "7 days"]},
                    {"type": "integer", "minimum": 1, "maximum": PERIOD_SECONDS_MAX},
                ]
            }
        ),
    ]
    """The period: text such as `1440 minutes`, or a whole number of seconds."""
    anchor: Annotated[
        datetime,
        BeforeValidator(_moment("anchor", whole_day_is_midnight=True)),
        _moment_schema("2026-01-01T06:00:00"),
    ]
    """The first instant; the others follow from it by whole periods. Without an offset: wall time in `timezone`."""

    @model_validator(mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        if isinstance(value, (dict, cls)):
            return value
        raise _wrong(
            f'interval {_shown(value)} is not an object: write {{"every": "1440 minutes", "anchor": '
            '"2026-01-01T06:00:00"}, or use "rate" for a period without an anchor'
        )


class ClockChange(_Model):
    """What becomes of times of day that a change of the clocks leaves out or shows twice.

    Only for cron expressions that name times of day, and for `at`. An expression whose minute or hour is `*`, `*/n`
    or `m/n` repeats all day: it fires whenever the wall clock matches, so it keeps ticking through a repeated hour and
    makes nothing up for a missing one. `rate` and `interval` count real seconds.
    """

    gap: Annotated[GapPolicy, BeforeValidator(_choice("gap", get_args(GapPolicy)))] = "run_after"
    """A time that does not exist in spring: `run_after` runs once, at the first instant after the gap; `skip` not."""
    overlap: Annotated[OverlapPolicy, BeforeValidator(_choice("overlap", get_args(OverlapPolicy)))] = "first"
    """A time that comes twice in autumn: run at the `first`, at the `second` or at `both`. `at` never runs twice: for
    it, `both` means `first`."""

    @model_validator(mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        if isinstance(value, (dict, cls)):
            return value
        raise _wrong(f'dst {_shown(value)} is not an object: write {{"gap": "run_after", "overlap": "first"}}')


_KINDS: Final = ("cron", "rate", "interval", "at")


class Schedule(_Model):
    """When a workflow runs: exactly one of `cron`, `rate`, `interval` and `at`, and how to read it."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in _KINDS]})

    cron: Annotated[str | None, BeforeValidator(_read_cron)] = Field(
        default=None, examples=["0 2 * * *", "*/15 8-18 * * MON-FRI", "@daily", "cron(0 18 ? * MON-FRI *)"]
    )
    """Five fields (minute, hour, day of month, month, day of week; Sunday is 0 or 7; or a macro such as `@daily`) or
    AWS's six (a year at the end, Sunday is 1, one day field is `?`), in wall time of `timezone`. In five fields a day
    matches when either day field does, or both if one of them starts with `*`."""
    rate: Annotated[str | None, BeforeValidator(_read_rate)] = Field(
        default=None, examples=["5 minutes", "1 hour", "7 days", "rate(5 minutes)"]
    )
    """A period in real time, counted from `start`, or without one from 1970-01-01T00:00:00Z, so that it never depends
    on when the workflow was registered."""
    interval: Interval | None = None
    """A period in real time, counted from an anchor."""
    at: Annotated[
        datetime | None,
        BeforeValidator(_moment("at", whole_day_is_midnight=False)),
        WithJsonSchema({"type": ["string", "null"], "examples": ["2026-03-29T02:30:00", "2026-03-29T00:30:00Z"]}),
    ] = None
    """One instant, once. Without an offset: wall time in `timezone`."""

    timezone: Annotated[str, BeforeValidator(read_timezone)] = Field(
        default="UTC", examples=["Europe/Berlin", "America/New_York"]
    )
    """The IANA time zone of every wall time in this schedule."""
    start: Annotated[
        datetime | None,
        BeforeValidator(_moment("start", whole_day_is_midnight=True)),
        WithJsonSchema({"type": ["string", "null"], "examples": ["2026-01-01", "2026-01-01T06:00:00"]}),
    ] = None
    """No instant before this one. Without an offset: wall time in `timezone`; a day alone means its midnight."""
    end: Annotated[
        datetime | None,
        BeforeValidator(_moment("end", whole_day_is_midnight=False)),
        WithJsonSchema({"type": ["string", "null"], "examples": ["2026-12-31T23:59:59"]}),
    ] = None
    """No instant after this one (an instant exactly then still runs). Without an offset: wall time in `timezone`."""
    catchup: Annotated[Catchup, BeforeValidator(_choice("catchup", get_args(Catchup)))] = "none"
    """Instants that passed while nothing could start them: run `none`, the `latest`, or `all` of them."""
    catchup_max: Annotated[
        int,
        BeforeValidator(_read_catchup_max),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": CATCHUP_MAX_LIMIT}),
    ] = CATCHUP_MAX_DEFAULT
    """At most this many missed instants are run with `catchup: all`: the most recent ones."""
    dst: ClockChange = ClockChange()
    """What to do with times of day that a change of the clocks leaves out or shows twice."""
    exclude: Exclude | None = None
    """Days on which nothing runs. Their instants are skipped, each with the day and the calendar that names it."""
    misfire_minutes: Annotated[
        int | None,
        BeforeValidator(_whole("misfire_minutes", 1, MISFIRE_MINUTES_MAX)),
        _whole_schema(1, MISFIRE_MINUTES_MAX),
    ] = None
    """How late an instant may still become a run; later it is missed. Absent: 5 minutes with `catchup: none`, and any time
    otherwise."""
    jitter_seconds: Annotated[
        int | None,
        BeforeValidator(_whole("jitter_seconds", 1, JITTER_SECONDS_MAX)),
        _whole_schema(1, JITTER_SECONDS_MAX),
    ] = None
    """Each run begins up to this many seconds after its instant, always the same for the same workflow and instant, so that a
    thousand schedules of midnight do not all begin at midnight. The instant and the run's id stay."""
    starts_per_minute: Annotated[
        int | None,
        BeforeValidator(_whole("starts_per_minute", 1, STARTS_PER_MINUTE_MAX)),
        _whole_schema(1, STARTS_PER_MINUTE_MAX),
    ] = None
    """At most this many scheduled runs are let in a minute, evenly spaced; the others wait in order. It tames what `catchup` brings
    after an outage."""

    @model_validator(mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        if isinstance(value, (dict, cls)):
            return value
        raise _wrong(f'schedule {_shown(value)} is not an object: write for example {{"cron": "0 2 * * *"}}')

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        kinds = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if not kinds:
            raise _wrong(
                "a schedule says exactly one of cron, rate, interval and at, and this one says none: add for example "
                '"cron": "0 2 * * *"'
            )
        if len(kinds) > 1:
            raise _wrong(
                f"a schedule says exactly one of cron, rate, interval and at, and this one says "
                f"{' and '.join(kinds)}: keep one, or split the workflow"
            )
        return self

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.at is not None and (self.start is not None or self.end is not None):
            raise _wrong("at is one instant, which start and end cannot bound: leave them out")
        if self.start is not None and self.end is not None and self._ends_before(self.start, self.end):
            raise _wrong(
                f"end {self.end.isoformat()} is before start {self.start.isoformat()}, so nothing would ever run: "
                "write an end after the start, or swap them"
            )
        return self

    def _ends_before(self, start: datetime, end: datetime) -> bool:
        if start.tzinfo is None and end.tzinfo is None:
            return end < start
        zone = self.zone
        moments = [
            moment if moment.tzinfo else moment.replace(tzinfo=zone, fold=fold)
            for moment, fold in ((start, 0), (end, 1))
        ]
        # Differences, not conversions: those overflow in the last hours of the year 9999.
        return (moments[1] - _EPOCH) < (moments[0] - _EPOCH)

    @property
    def zone(self) -> ZoneInfo:
        """The zone itself. It reads the time zone database the first time, and only then."""
        return ZoneInfo(self.timezone)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
