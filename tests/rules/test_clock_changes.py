"""Fault 38 in full: every kind of change of the clocks that the time zone database knows since 1970, under every policy.

What is expected is worked out the slow way, wall time by wall time, with nothing of `shared/schedule.py`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise, product
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from shared.schedule import due, odd_days
from shared.workflow.days import Exclude, Exclusion
from shared.workflow.timing import Schedule

DAY = 86_400
FIRST = int(datetime(1970, 1, 2, tzinfo=UTC).timestamp())
LAST = int(datetime(2040, 1, 1, tzinfo=UTC).timestamp())
STEP = 4 * DAY
"""No zone has had an offset for less, once the changes within a few hours of each other are left out."""


class Change(NamedTuple):
    zone: str
    at: int
    before: int
    after: int
    """Seconds east of Greenwich."""


def offset(zone: ZoneInfo, instant: int) -> int:
    found = datetime.fromtimestamp(instant, zone).utcoffset()
    assert found is not None
    return int(found.total_seconds())


@cache
def every_kind() -> tuple[Change, ...]:
    """One change for each pair of offsets and each time of day and month at which some zone ever went from one to the other."""
    seen: set[tuple[int, ...]] = set()
    kinds: dict[tuple[int, ...], Change] = {}
    probes = range(FIRST, LAST, STEP)
    for name in sorted(available_timezones() - {"Factory", "localtime"}):
        zone = ZoneInfo(name)
        offsets = tuple(offset(zone, probe) for probe in probes)
        if offsets in seen:
            # Another name of a zone that was looked at.
            continue
        seen.add(offsets)
        for (low, before), (high, after) in pairwise(zip(probes, offsets, strict=True)):
            if before == after:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
            after = offset(zone, high)
            kinds.setdefault((before, after, (high + before) % DAY), Change(name, high, before, after))
    return tuple(kinds.values())


def expected(change: Change, time_of_day: int, gap: str, overlap: str, low: int, high: int) -> list[int]:
    """Every instant of a daily schedule at that time, from the meaning of the words alone."""
    found: set[int] = set()
    begin = (low - 2 * DAY) // DAY * DAY
    for wall in range(begin + time_of_day, high + 2 * DAY, DAY):
        shown = sorted(
            {wall - by for by in (change.before, change.after) if offset(ZoneInfo(change.zone), wall - by) == by}
        )
        if not shown and gap == "run_after":
            found.add(change.at)
        elif shown:
            found |= {"first": {shown[0]}, "second": {shown[-1]}, "both": set(shown)}[overlap]
    return sorted(one for one in found if low < one <= high)


def times_touched(change: Change) -> Iterator[int]:
    """Times of day, in whole minutes, just before, at the edges of, within and after what the change leaves out or repeats."""
    low, high = sorted((change.at + change.before, change.at + change.after))
    low, high = -(-low // 60) * 60, high // 60 * 60
    for wall in sorted({low - 60, low, (low + high) // 120 * 60, high - 60, high}):
        yield wall % DAY


def test_the_sweep_meets_the_changes_that_are_famous() -> None:
    sizes = {(one.after - one.before) // 60 for one in every_kind()}
    # An hour, Lord Howe's half, Samoa's whole day, a quarter (Nepal), and zones that changed their minds.
    assert {60, -60, 30, -30, 24 * 60, 15} <= sizes
    assert len(every_kind()) > 200


@pytest.mark.parametrize("part", range(4))
def test_every_kind_of_change_under_every_policy(part: int) -> None:
    """Fault 38."""
    for change in every_kind()[part::4]:
        low, high = change.at - 36 * 3600, change.at + 60 * 3600
        zone = ZoneInfo(change.zone)
        if any(offset(zone, near) != by for near, by in ((low - 2 * DAY, change.before), (high, change.after))):
            # Another change is so near that the slow way would have to know of it too.
            continue
        for time_of_day, gap, overlap in product(
            times_touched(change), ("run_after", "skip"), ("first", "second", "both")
        ):
            minute, hour = time_of_day // 60 % 60, time_of_day // 3600
            rule = Schedule.model_validate(
                {"cron": f"{minute} {hour} * * *", "timezone": change.zone, "dst": {"gap": gap, "overlap": overlap}}
            )
            found = due(rule, datetime.fromtimestamp(low, UTC), datetime.fromtimestamp(high, UTC))
            wanted = expected(change, time_of_day, gap, overlap, low, high)
            assert [int(one.at.timestamp()) for one in found] == wanted, (change, rule)


@pytest.mark.parametrize("policy", ["run_after", "skip"])
@pytest.mark.parametrize(
    ("zone", "cron", "year", "days"),
    [
        ("Europe/Berlin", "30 2 * * *", 2026, {"03-29": "gap", "10-25": "overlap_first"}),
        ("Australia/Lord_Howe", "45 1 * * *", 2026, {"04-05": "overlap_first"}),
        ("Australia/Lord_Howe", "15 2 * * *", 2026, {"10-04": "gap"}),
        ("Pacific/Apia", "0 10 * * *", 2011, {"12-31": "gap"}),
        ("America/St_Johns", "30 23 * * *", 2005, {"10-29": "overlap_first"}),
        ("UTC", "30 2 * * *", 2026, {}),
        ("Europe/Berlin", "0 12 * * *", 2026, {}),
    ],
)
def test_the_odd_days_of_a_year_are_those_on_which_an_instant_is_touched(
    zone: str, cron: str, year: int, days: dict[str, str], policy: str
) -> None:
    """Fault 38. Samoa's day that was skipped is told on the day after it, on which its instant comes."""
    rule = Schedule.model_validate({"cron": cron, "timezone": zone, "dst": {"gap": policy}})
    begin = datetime(year, 1, 1, tzinfo=UTC)
    found = odd_days(rule, begin, begin + timedelta(days=366), limit=50)
    said = {"gap": "gap_shifted" if policy == "run_after" else "gap_skipped"}
    told = {f"{one.day:%m-%d}": one.note for one in found if one.day.year == year}
    assert told == {day: said.get(note, note) for day, note in days.items()}
    assert all((one.first is None) == (one.note == "gap_skipped") for one in found)


def test_dates_that_are_excluded_are_odd_and_weekdays_are_not() -> None:
    rule = Schedule.model_validate({"cron": "*/5 * * * *", "timezone": "Europe/Berlin"})
    exclusion = Exclusion(Exclude(days=("saturday", "12-25", "2026-05-01/2026-05-02")), "Europe/Berlin", {})
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    found = odd_days(rule, begin, begin + timedelta(days=366), exclusion, limit=50)
    # Every five minutes ticks on through changes of the clocks; those days are odd for what they show twice.
    assert [f"{one.day:%m-%d}" for one in found if one.note == "excluded"] == ["05-01", "05-02", "12-25"]
    assert all(one.first is not None and one.excluded is not None for one in found if one.note == "excluded")
    assert len(odd_days(rule, begin, begin + timedelta(days=366), exclusion, limit=2)) == 2
