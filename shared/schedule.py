"""When runs are due: from a `Schedule` and a stretch of time to instants. Nothing else decides it, so engines agree.

Pure: no clock is read, nothing is remembered; the same schedule and the same time zone database give the same instants.

**Cron counts in the wall time of its zone.** Between two changes of the clocks that is plain arithmetic; at a change:

* An expression that *names times of day* (`30 2 * * *`) follows the schedule's `dst` policy. `gap: run_after` (the
  default) runs times that were left out once, together, at the first instant after the gap, unless the schedule has an
  instant there anyway; `gap: skip` does not run them. Of times shown twice, `overlap` runs the `first` (the default),
  the `second`, or `both`. A day that a zone skipped entirely (Samoa, 30 December 2011) is a gap like any other.
* An expression that *repeats* (its minute or hour is `*`, `*/n` or `m/n`: `*/15 * * * *`, `0 * * * *`) fires at each
  real instant whose wall time matches: it goes on ticking through the repeated hour, and nothing is made up for a gap.
  `dst` does not touch it. This is what Debian's cron does.

**Rates and intervals count real seconds**, from the anchor on and never before it: an interval's anchor and a rate's
`start` are their first instants. A rate without `start` counts from 1970-01-01T00:00:00Z, so that registering it
again never moves it. **`at`** is one instant; as wall time it follows `dst`, but never twice. `start` and `end` both
belong to the schedule; as wall time in a gap they mean the gap's end, in an overlap `start` means the first and `end`
the second.

Instants are whole seconds between 1970 and 9999-12-30. Every search is bounded: by its arguments, or by
`SEARCH_YEARS` (the calendar repeats after that), so a cron for 30 February simply has no instants.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from shared.workflow.cron import parse_cron
from shared.workflow.days import Excluded, Exclusion
from shared.workflow.timing import ClockChange, Schedule, period_seconds

DUE_LIMIT_DEFAULT: Final = 10_000
SEARCH_YEARS: Final = 400
"""How far `upcoming` and `previous` look. The Gregorian calendar, weekdays included, repeats after 400 years."""

STRETCH_MAX: Final = 20_000
"""Instants in one stretch: a fifth of a second of walking."""

Note = Literal["", "gap_shifted", "overlap_first", "overlap_second"]

# Inside this module moments are whole seconds since 1970: an "instant" in UTC, a "wall" as the zone's clocks show it.
_DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
# A zone east of Greenwich shows 1970 before UTC has it; its first instants are not lost.
_FIRST: Final = -_DAY
_LAST: Final = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH) // _SECOND
_SEARCH: Final = SEARCH_YEARS * 366 * _DAY
_FOREVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Instant:
    """One due moment. `note` tells what a change of the clocks did to it."""

    at: datetime
    """UTC."""
    local: datetime
    """The same instant as the schedule's zone shows it; `fold` is 1 for the second of two equal wall times."""
    note: Note = ""
    excluded: Excluded | None = None
    """Why nothing is to run then; told by `marked` alone."""


def marked(instants: Iterable[Instant], exclusion: Exclusion | None) -> list[Instant]:
    """The instants, each with what excludes it."""
    if exclusion is None:
        return list(instants)
    return [replace(one, excluded=exclusion.of(one.at)) for one in instants]


def due(schedule: Schedule, after: datetime, until: datetime, *, limit: int = DUE_LIMIT_DEFAULT) -> list[Instant]:
    """The instants with `after < at <= until`, ascending and distinct; the first `limit` of them.

    Both arguments are aware; ValueError otherwise (so in every function here).
    """
    return _instants(schedule, islice(_forward(schedule, _next(after), _floor(until)), max(limit, 0)))


def upcoming(schedule: Schedule, after: datetime, count: int) -> list[Instant]:
    """The next `count` instants after `after`; fewer when the schedule has no more within `SEARCH_YEARS`."""
    low = max(_next(after), _FIRST)
    return _instants(schedule, islice(_forward(schedule, low, _search_end(schedule, low)), max(count, 0)))


def latest(schedule: Schedule, after: datetime, until: datetime, count: int) -> list[Instant]:
    """The last `count` instants with `after < at <= until`, ascending. Costs what it returns, not what it skips."""
    last = list(islice(_backward(schedule, _next(after), _floor(until)), max(count, 0)))
    return _instants(schedule, reversed(last))


def count_between(schedule: Schedule, after: datetime, until: datetime, limit: int) -> int:
    """How many instants have `after < at <= until`, counting no further than `limit`."""
    return sum(1 for _ in islice(_forward(schedule, _next(after), _floor(until)), max(limit, 0)))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Instants that follow each other and are excluded for the same reason, or not excluded."""

    first: datetime
    last: datetime
    count: int
    excluded: Excluded | None


def stretches(schedule: Schedule, after: datetime, until: datetime, exclusion: Exclusion) -> Iterator[Stretch]:
    """Every instant with `after < at <= until`, ascending, in stretches of at most `STRETCH_MAX`. Walks them one by one: whoever
    asks stops in time."""
    first: datetime | None = None
    last = after
    count = 0
    reason: Excluded | None = None
    for fire in _forward(schedule, _next(after), _floor(until)):
        at = _utc(fire.instant)
        found = exclusion.of(at)
        if first is not None and (found != reason or count == STRETCH_MAX):
            yield Stretch(first, last, count, reason)
            first, count = None, 0
        if first is None:
            first, reason = at, found
        last = at
        count += 1
    if first is not None:
        yield Stretch(first, last, count, reason)


def latest_open(
    schedule: Schedule, after: datetime, until: datetime, count: int, exclusion: Exclusion, *, looks: int
) -> list[Instant]:
    """As `latest`, without excluded instants; looks back over at most `looks` instants."""
    walked = islice(_backward(schedule, _next(after), _floor(until)), looks)
    kept = islice((fire for fire in walked if exclusion.of(_utc(fire.instant)) is None), max(count, 0))
    return _instants(schedule, reversed(list(kept)))


@dataclass(frozen=True, slots=True)
class OddDay:
    """A day on which a schedule does not simply do what it says."""

    day: date
    """In the schedule's zone."""
    note: Note | Literal["gap_skipped", "excluded"]
    first: datetime | None
    """The first instant that is touched (UTC); None when there is none because of it."""
    excluded: Excluded | None = None


def odd_days(
    schedule: Schedule, after: datetime, until: datetime, exclusion: Exclusion | None = None, *, limit: int
) -> list[OddDay]:
    """The days with instants that a change of the clocks moves, doubles or leaves out, or that are excluded for their date.

    Costs what the odd days hold, not what lies between. Days that are excluded for their weekday are not odd.
    """
    zone = schedule.timezone
    low, high = max(_floor(after), _FIRST), min(_floor(until), _LAST)
    days = {_utc(change + by).date() for change, to in _changes(zone, low, high) for by in (to, to - 1)}
    days |= {(_utc(change + to) - timedelta(days=1)).date() for change, to in _changes(zone, low, high)}
    excluded = set(exclusion.dates(after, until)) if exclusion is not None else set()
    found: list[OddDay] = []
    for day in sorted(days | excluded):
        found.extend(_odd(schedule, day, after, until, exclusion, changing=day in days))
        if len(found) >= limit:
            break
    return found[:limit]


def _odd(
    schedule: Schedule, day: date, after: datetime, until: datetime, exclusion: Exclusion | None, *, changing: bool
) -> Iterator[OddDay]:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # No zone is further from Greenwich than a day.
    begin, end = max(after, midnight - timedelta(days=1)), min(until, midnight + timedelta(days=2))
    made = schedule.model_copy(update={"dst": ClockChange(gap="run_after", overlap=schedule.dst.overlap)})
    seen: set[str] = set()
    for one in due(made if changing else schedule, begin, end):
        if one.local.date() != day:
            continue
        reason = exclusion.of(one.at) if exclusion is not None else None
        left_out = one.note == "gap_shifted" and schedule.dst.gap == "skip"
        note: Note | Literal["gap_skipped", "excluded"] = "gap_skipped" if left_out else one.note
        if reason is not None and not reason.weekday and not left_out:
            note = "excluded"
        if note and note not in seen:
            seen.add(note)
            yield OddDay(day, note, None if left_out else one.at, reason if note == "excluded" else None)


def previous(schedule: Schedule, at: datetime) -> datetime | None:
    """The schedule's last instant before `at` (UTC); None if there is none within `SEARCH_YEARS`."""
    high = min(_before(at), _LAST)
    found = next(_backward(schedule, max(high - _SEARCH, _FIRST), high), None)
    return None if found is None else _utc(found[0])


def interval_of(schedule: Schedule, at: datetime) -> tuple[datetime, datetime]:
    """The data interval of a run scheduled `at`: from the instant before, included, to `at`, excluded; both UTC.

    `start` does not shorten the first interval: a nightly run that starts today still works on all of yesterday, and
    the first tick of a rate or interval on one whole period. A one-off, or a cron without an earlier instant, has the
    empty interval (at, at).
    """
    until = _utc(_floor(at))
    if schedule.at is not None:
        return until, until
    high = _before(at)
    grid = _grid(schedule)
    if grid is not None:
        anchor, period = grid
        return _EPOCH + timedelta(seconds=anchor + (high - anchor) // period * period), until
    high = min(high, _LAST)
    assert schedule.cron is not None
    walk = _cron_backward(schedule.cron, schedule.timezone, schedule.dst, max(high - _SEARCH, _FIRST), high)
    found = next(walk, None)
    return (until if found is None else _utc(found[0])), until


# ── arguments and results ────────────────────────────────────────────────────────────────────────────────────────────


class _Fire(NamedTuple):
    instant: int
    note: Note


def _floor(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: pass an aware datetime")
    return (moment - _EPOCH) // _SECOND


def _next(after: datetime) -> int:
    """The first whole second after a moment."""
    return _floor(after) + 1


def _before(moment: datetime) -> int:
    """The last whole second before a moment."""
    return _floor(moment) - (0 if moment.microsecond else 1)


def _utc(instant: int) -> datetime:
    return datetime.fromtimestamp(instant, UTC)


def _instants(schedule: Schedule, fires: Iterator[_Fire]) -> list[Instant]:
    zone = schedule.zone
    shown = datetime.fromtimestamp
    return [Instant(shown(instant, UTC), shown(instant, zone), note) for instant, note in fires]


# ── the four kinds of schedule ───────────────────────────────────────────────────────────────────────────────────────


def _forward(schedule: Schedule, low: int, high: int) -> Iterator[_Fire]:
    """Fires from `low` to `high`, both included."""
    low, high = _bounded(schedule, low, high)
    if schedule.cron is not None:
        return _cron_forward(schedule.cron, schedule.timezone, schedule.dst, low, high)
    if schedule.at is not None:
        return iter(_once(schedule, low, high))
    return (_Fire(instant, "") for instant in _ticks(schedule, low, high))


def _backward(schedule: Schedule, low: int, high: int) -> Iterator[_Fire]:
    """The same fires, last first."""
    low, high = _bounded(schedule, low, high)
    if schedule.cron is not None:
        return _cron_backward(schedule.cron, schedule.timezone, schedule.dst, low, high)
    if schedule.at is not None:
        return iter(_once(schedule, low, high))
    return (_Fire(instant, "") for instant in reversed(_ticks(schedule, low, high)))


def _bounded(schedule: Schedule, low: int, high: int) -> tuple[int, int]:
    low, high = max(low, _FIRST), min(high, _LAST)
    if schedule.start is not None:
        low = max(low, _resolve(schedule.start, schedule.timezone).first)
    if schedule.end is not None:
        high = min(high, _resolve(schedule.end, schedule.timezone).second)
    return low, high


def _search_end(schedule: Schedule, low: int) -> int:
    """Where a search from `low` gives up. A schedule that starts later, or is one instant, is looked at from there."""
    moment = schedule.at or schedule.start
    if schedule.interval is not None:
        moment = schedule.interval.anchor
    if moment is not None:
        low = max(low, _resolve(moment, schedule.timezone).second)
    return low + _SEARCH


def _once(schedule: Schedule, low: int, high: int) -> list[_Fire]:
    assert schedule.at is not None
    shown = _resolve(schedule.at, schedule.timezone)
    note: Note = ""
    instant = shown.first
    if shown.in_gap:
        if schedule.dst.gap == "skip":
            return []
        note = "gap_shifted"
    elif shown.first != shown.second:
        if schedule.dst.overlap == "second":
            instant, note = shown.second, "overlap_second"
        else:
            note = "overlap_first"
    return [_Fire(instant, note)] if low <= instant <= high else []


def _grid(schedule: Schedule) -> tuple[int, int] | None:
    """Anchor and period of a rate or an interval."""
    if schedule.interval is not None:
        anchor = _resolve(schedule.interval.anchor, schedule.timezone).first
        return anchor, period_seconds(schedule.interval.every)
    if schedule.rate is not None:
        anchor = _resolve(schedule.start, schedule.timezone).first if schedule.start is not None else 0
        return anchor, period_seconds(schedule.rate)
    return None


def _ticks(schedule: Schedule, low: int, high: int) -> range:
    grid = _grid(schedule)
    assert grid is not None, schedule
    anchor, period = grid
    skipped = max(0, -((anchor - low) // period))
    return range(anchor + skipped * period, high + 1, period)


# ── cron: wall times between two changes of the clocks ───────────────────────────────────────────────────────────────


def _cron_forward(cron: str, zone: str, dst: ClockChange, low: int, high: int) -> Iterator[_Fire]:
    for year in _years(low, high):
        if _may_fire_in(cron, year):
            for span in _spans(zone, year):
                if span.end > low and span.start <= high:
                    stretch = _stretch(cron, dst, span, low, high)
                    if stretch.shifted:
                        yield _Fire(span.start, "gap_shifted")
                    for wall in _walls(cron, stretch.low, stretch.high):
                        yield _Fire(wall - span.offset, span.note(wall))


def _cron_backward(cron: str, zone: str, dst: ClockChange, low: int, high: int) -> Iterator[_Fire]:
    for year in reversed(_years(low, high)):
        if _may_fire_in(cron, year):
            for span in reversed(_spans(zone, year)):
                if span.end > low and span.start <= high:
                    stretch = _stretch(cron, dst, span, low, high)
                    for wall in _walls_backward(cron, stretch.low, stretch.high):
                        yield _Fire(wall - span.offset, span.note(wall))
                    if stretch.shifted:
                        yield _Fire(span.start, "gap_shifted")


class _Stretch(NamedTuple):
    low: int
    high: int
    """Walls that fire, `low` included, `high` not."""
    shifted: bool
    """Whether the span's first instant also stands for times that the gap before it left out."""


def _stretch(cron: str, dst: ClockChange, span: "_Span", low: int, high: int) -> _Stretch:
    low_wall = max(span.start, low) + span.offset
    high_wall = min(span.end, high + 1) + span.offset
    if parse_cron(cron).follows_clock:
        return _Stretch(low_wall, high_wall, False)
    if dst.overlap == "first":
        low_wall = max(low_wall, span.second_until)
    elif dst.overlap == "second":
        high_wall = min(high_wall, span.first_from)
    gap_end = span.start + span.offset
    shifted = (
        dst.gap == "run_after"
        and span.missing_from < gap_end
        and low <= span.start
        and next(_walls(cron, span.missing_from, gap_end), None) is not None
        and next(_walls(cron, gap_end, gap_end + 1), None) is None
    )
    return _Stretch(low_wall, high_wall, shifted)


def _walls(cron: str, low: int, high: int) -> Iterator[int]:
    """Matching walls, `low` included and `high` not, as if no clock ever changed."""
    times = parse_cron(cron).seconds_of_day
    for year in _years(low, high - 1):
        days = _days(cron, year)
        for day in days[bisect_left(days, low - _DAY + 1) : bisect_left(days, high)]:
            for time in times[bisect_left(times, low - day) : bisect_left(times, high - day)]:
                yield day + time


def _walls_backward(cron: str, low: int, high: int) -> Iterator[int]:
    times = parse_cron(cron).seconds_of_day
    for year in reversed(_years(low, high - 1)):
        days = _days(cron, year)
        for day in reversed(days[bisect_left(days, low - _DAY + 1) : bisect_left(days, high)]):
            for time in reversed(times[bisect_left(times, low - day) : bisect_left(times, high - day)]):
                yield day + time


@lru_cache(maxsize=4096)
def _days(cron: str, year: int) -> tuple[int, ...]:
    """The midnights, as walls, of the days of a year on which an expression fires."""
    read = parse_cron(cron)
    return tuple(
        _midnight(year, month) + (day - 1) * _DAY for month in range(1, 13) for day in read.days_of(year, month)
    )


def _may_fire_in(cron: str, year: int) -> bool:
    """Cheap, so that rare expressions never pay for the clock changes of the years between."""
    begin, end = _midnight(year), _midnight(year + 1)
    return next(_walls(cron, begin - _DAY, end + _DAY), None) is not None


def _years(low: int, high: int) -> range:
    """The calendar years from one second to another, both included."""
    if low > high:
        return range(0)
    return range(_year(low), _year(high) + 1)


def _year(second: int) -> int:
    return (_EPOCH + timedelta(seconds=min(second, _LAST + _DAY))).year


def _midnight(year: int, month: int = 1) -> int:
    if year > 9999:
        return _LAST + 2 * _DAY
    return (datetime(year, month, 1, tzinfo=UTC) - _EPOCH) // _SECOND


# ── zones: the clock changes of a year ───────────────────────────────────────────────────────────────────────────────

# Zones change their offset days or months apart, and looking every six hours misses none of the changes that the
# database has since 1970 (the tests compare with a closer look).
_PROBE: Final = 6 * 3600
# Longer than any gap or overlap, so that the walls around New Year know of a change on the other side of it.
_MARGIN: Final = 2 * _DAY


class _Span(NamedTuple):
    """A stretch of one year in which a zone's offset stays the same."""

    start: int
    end: int
    """Instants, `start` included, `end` not."""
    offset: int
    """Wall minus instant."""
    missing_from: int
    """Walls from this one up to the span's first were left out by the change before it."""
    second_until: int
    """Walls before this one are shown for the second time."""
    first_from: int
    """Walls from this one on will be shown again."""

    def note(self, wall: int) -> Note:
        if wall < self.second_until:
            return "overlap_second"
        return "overlap_first" if wall >= self.first_from else ""


@lru_cache(maxsize=4096)
def _spans(zone_name: str, year: int) -> tuple[_Span, ...]:
    begin, end = _midnight(year), min(_midnight(year + 1), _LAST + 1)
    changes = _changes(zone_name, begin - _MARGIN, min(end + _MARGIN, _LAST))
    first_offset = _offset(ZoneInfo(zone_name), begin - _MARGIN)
    spans: list[_Span] = []
    before, start = first_offset, -_FOREVER
    offset = first_offset
    for change, after in [*changes, (_FOREVER, None)]:
        low, high = max(start, begin), min(change, end)
        if low < high:
            spans.append(
                _Span(
                    start=low,
                    end=high,
                    offset=offset,
                    # A change before New Year has had its gap in the year before.
                    missing_from=start + before if low == start and before < offset else low + offset,
                    second_until=start + before if before > offset else -_FOREVER,
                    first_from=change + after if after is not None and after < offset else _FOREVER,
                )
            )
        before, start = offset, change
        offset = after if after is not None else offset
    return tuple(spans)


def _changes(zone_name: str, low: int, high: int) -> list[tuple[int, int]]:
    """Where the offset changes in (low, high], and what it changes to."""
    if zone_name == "UTC":
        return []
    zone = ZoneInfo(zone_name)
    changes = []
    known = _offset(zone, low)
    for probe in [*range(low + _PROBE, high, _PROBE), high]:
        offset = _offset(zone, probe)
        if offset != known:
            earlier, later = max(probe - _PROBE, low), probe
            while later - earlier > 1:
                middle = (earlier + later) // 2
                if _offset(zone, middle) == known:
                    earlier = middle
                else:
                    later = middle
            changes.append((later, offset))
            known = offset
    return changes


def _offset(zone: ZoneInfo, instant: int) -> int:
    offset = (_EPOCH + timedelta(seconds=instant)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // _SECOND


class _Shown(NamedTuple):
    """The instants at which a zone's clocks show a moment."""

    first: int
    second: int
    """The same as `first` but in an overlap. In a gap both are its end."""
    in_gap: bool


@lru_cache(maxsize=4096)
def _resolve_wall(wall: int, zone_name: str) -> _Shown:
    if wall > _LAST - _DAY:
        # After the last instant of all; close enough, and never reached.
        return _Shown(wall + _DAY, wall + _DAY, False)
    shown: list[int] = []
    for year in _years(wall - _DAY, wall + _DAY):
        for span in _spans(zone_name, year):
            begins = span.start + span.offset
            if begins <= wall < span.end + span.offset:
                shown.append(wall - span.offset)
            elif span.missing_from <= wall < begins:
                return _Shown(span.start, span.start, True)
    return _Shown(min(shown), max(shown), False)


def _resolve(moment: datetime, zone_name: str) -> _Shown:
    if moment.tzinfo is not None:
        instant = _floor(moment)
        return _Shown(instant, instant, False)
    return _resolve_wall(_floor(moment.replace(tzinfo=UTC)), zone_name)
