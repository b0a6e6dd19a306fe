"""When runs are due: given examples as sentences, properties over random schedules, and cronsim as a second opinion."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shared import schedule as schedules
from shared.schedule import Instant, count_between, due, interval_of, latest, previous, upcoming
from shared.workflow.timing import Schedule

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
)


def schedule(**fields: Any) -> Schedule:
    return Schedule.model_validate(fields)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def shown(instants: list[Instant]) -> list[str]:
    """`day hour:minute` as the zone's clocks show it, with the note when there is one."""
    return [f"{instant.local:%m-%d %H:%M} {instant.note}".strip() for instant in instants]


# ── cron without any change of the clocks ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 2 * * *", "2026-01-01T02:00", ["01-02 02:00", "01-03 02:00"]),
        ("@hourly", "2026-01-01T22:30", ["01-01 23:00", "01-02 00:00"]),
        ("0 0 13 * FRI", "2026-02-01T00:00", ["02-06 00:00", "02-13 00:00", "02-20 00:00"]),
        ("0 0 */2 * MON", "2026-02-01T00:00", ["02-09 00:00", "02-23 00:00"]),
        ("0 0 * * 7", "2026-02-02T00:00", ["02-08 00:00", "02-15 00:00"]),
        ("0 0 * * SAT-SUN", "2026-02-02T00:00", ["02-07 00:00", "02-08 00:00", "02-14 00:00"]),
        ("0 0 * * */2", "2026-02-01T00:00", ["02-03 00:00", "02-05 00:00", "02-07 00:00", "02-08 00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["02-29 00:00", "02-29 00:00"]),
        ("0 0 L * *", "2026-01-31T00:00", ["02-28 00:00", "03-31 00:00"]),
        ("0 0 L-2 * *", "2026-02-01T00:00", ["02-26 00:00", "03-29 00:00"]),
        ("0 0 LW * *", "2026-02-01T00:00", ["02-27 00:00", "03-31 00:00"]),
        ("0 0 1W * *", "2026-07-30T00:00", ["08-03 00:00", "09-01 00:00"]),
        ("0 0 15W * *", "2026-02-01T00:00", ["02-16 00:00", "03-16 00:00"]),
        ("0 0 31W * *", "2026-04-01T00:00", ["05-29 00:00", "07-31 00:00"]),
        ("0 0 * * FRI#5", "2026-01-01T00:00", ["01-30 00:00", "05-29 00:00"]),
        ("0 0 * * 5L", "2026-02-01T00:00", ["02-27 00:00", "03-27 00:00"]),
        ("cron(0 18 ? * 2-6 *)", "2026-02-06T18:00", ["02-09 18:00", "02-10 18:00"]),
        ("0 18 ? * 6L 2027", "2026-02-06T18:00", ["01-29 18:00", "02-26 18:00"]),
        ("cron(0/20 8 1 * ? *)", "2026-02-01T00:00", ["02-01 08:00", "02-01 08:20", "02-01 08:40", "03-01 08:00"]),
        ("CRON(0 0 ? * L *)", "2026-02-01T00:00", ["02-07 00:00", "02-14 00:00"]),
    ],
)
def test_a_cron_fires_at(cron: str, after: str, expected: list[str]) -> None:
    assert shown(upcoming(schedule(cron=cron), utc(after), len(expected))) == expected


def test_a_leap_day_is_found_across_the_century_that_has_none_fault_38() -> None:
    found = upcoming(schedule(cron="0 0 29 2 *"), utc("2096-03-01"), 1)
    assert [instant.at for instant in found] == [utc("2104-02-29")]


def test_a_cron_that_never_comes_has_no_instants() -> None:
    never = schedule(cron="0 0 30 2 *", timezone="Europe/Berlin")
    assert upcoming(never, utc("2026-01-01"), 5) == []
    assert previous(never, utc("2026-01-01")) is None
    assert due(never, utc("1970-01-01"), utc("9999-12-31")) == []
    assert interval_of(never, utc("2026-01-01")) == (utc("2026-01-01"), utc("2026-01-01"))


def test_years_that_are_over_end_the_search() -> None:
    assert upcoming(schedule(cron="0 0 1 1 ? 2020"), utc("2026-01-01"), 1) == []


def test_wall_time_counts_with_offsets_of_a_quarter_of_an_hour() -> None:
    found = upcoming(schedule(cron="0 6 * * *", timezone="Asia/Kathmandu"), utc("2026-01-01"), 1)
    assert found == [Instant(utc("2026-01-01T00:15"), datetime(2026, 1, 1, 6, 0, tzinfo=ZoneInfo("Asia/Kathmandu")))]


# ── changes of the clocks: fault 38 ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("timezone", "cron", "dst", "after", "until", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", {}, "2026-03-28T12", "2026-03-30T12", ["03-29 03:00 gap_shifted", "03-30 02:30"]),
        ("Europe/Berlin", "30 2 * * *", {"gap": "skip"}, "2026-03-28T12", "2026-03-30T12", ["03-30 02:30"]),
        ("Europe/Berlin", "10,30 2 * * *", {}, "2026-03-28T12", "2026-03-29T12", ["03-29 03:00 gap_shifted"]),
        ("Europe/Berlin", "0 2,3 * * *", {}, "2026-03-28T12", "2026-03-29T12", ["03-29 03:00"]),
        ("Europe/Berlin", "30 2 * * *", {}, "2026-10-24T12", "2026-10-25T12", ["10-25 02:30 overlap_first"]),
        (
            "Europe/Berlin",
            "30 2 * * *",
            {"overlap": "second"},
            "2026-10-24T12",
            "2026-10-25T12",
            ["10-25 02:30 overlap_second"],
        ),
        (
            "Europe/Berlin",
            "30 2,3 * * *",
            {"overlap": "both"},
            "2026-10-24T12",
            "2026-10-25T12",
            ["10-25 02:30 overlap_first", "10-25 02:30 overlap_second", "10-25 03:30"],
        ),
        (
            "America/New_York",
            "*/30 * * * *",
            {},
            "2026-03-08T06:00",
            "2026-03-08T07:30",
            ["03-08 01:30", "03-08 03:00", "03-08 03:30"],
        ),
        (
            "America/New_York",
            "0/30 * * * *",
            {"overlap": "second"},
            "2026-11-01T05:00",
            "2026-11-01T07:00",
            ["11-01 01:30 overlap_first", "11-01 01:00 overlap_second", "11-01 01:30 overlap_second", "11-01 02:00"],
        ),
        ("Australia/Lord_Howe", "15 2 * * *", {}, "2026-10-03T12", "2026-10-04T12", ["10-04 02:30 gap_shifted"]),
        ("Australia/Lord_Howe", "45 1 * * *", {}, "2026-04-04T12", "2026-04-05T12", ["04-05 01:45 overlap_first"]),
        (
            "Pacific/Apia",
            "0 9 * * *",
            {},
            "2011-12-29T12",
            "2011-12-31T23",
            ["12-29 09:00", "12-31 00:00 gap_shifted", "12-31 09:00", "01-01 09:00"],
        ),
        (
            "Pacific/Apia",
            "0 9 * * *",
            {"gap": "skip"},
            "2011-12-29T12",
            "2011-12-31T12",
            ["12-29 09:00", "12-31 09:00"],
        ),
        ("America/Sao_Paulo", "@daily", {}, "2018-11-03T12", "2018-11-05T12", ["11-04 01:00 gap_shifted", "11-05 00:00"]),
    ],
)  # fmt: skip
def test_a_change_of_the_clocks(
    timezone: str, cron: str, dst: dict[str, str], after: str, until: str, expected: list[str]
) -> None:
    """Fault 38."""
    assert shown(due(schedule(cron=cron, timezone=timezone, dst=dst), utc(after), utc(until))) == expected


def test_looking_every_six_hours_misses_no_change_of_the_clocks() -> None:
    for name in ZONES:
        zone = ZoneInfo(name)
        for year in (1972, 1985, 2011, 2018, 2026):
            begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
            hours = range(begin, begin + 360 * 86_400, 1_800)
            offsets = [datetime.fromtimestamp(hour, zone).utcoffset() for hour in hours]
            changes = sum(earlier != later for earlier, later in pairwise(offsets))
            assert len(schedules._changes(name, hours[0], hours[-1])) == changes


# ── rate, interval, at, start and end ────────────────────────────────────────────────────────────────────────────────


def test_a_rate_counts_from_1970_so_that_registering_it_again_moves_nothing() -> None:
    found = upcoming(schedule(rate="7 days"), utc("2026-01-01"), 2)
    assert [(instant.at - utc("1970-01-01")).days % 7 for instant in found] == [0, 0]


def test_a_rate_with_a_start_counts_from_it_and_has_nothing_before() -> None:
    every_hour = schedule(rate="rate(1 hour)", start="2026-01-01T00:10:00", timezone="Asia/Kathmandu")
    assert shown(due(every_hour, utc("2020-01-01"), utc("2025-12-31T20:00"))) == ["01-01 00:10", "01-01 01:10"]


def test_an_interval_counts_real_seconds_across_a_change_of_the_clocks_fault_38() -> None:
    daily = schedule(interval={"every": "1440 minutes", "anchor": "2026-03-27T02:30:00"}, timezone="Europe/Berlin")
    assert shown(upcoming(daily, utc("2026-01-01"), 4)) == ["03-27 02:30", "03-28 02:30", "03-29 03:30", "03-30 03:30"]


@pytest.mark.parametrize(
    ("at", "dst", "expected"),
    [
        ("2026-07-01T09:00:00", {}, ["07-01 09:00"]),
        ("2026-07-01T09:00:00Z", {}, ["07-01 11:00"]),
        ("2026-03-29T02:30:00", {}, ["03-29 03:00 gap_shifted"]),
        ("2026-03-29T02:30:00", {"gap": "skip"}, []),
        ("2026-10-25T02:30:00", {"overlap": "both"}, ["10-25 02:30 overlap_first"]),
        ("2026-10-25T02:30:00", {"overlap": "second"}, ["10-25 02:30 overlap_second"]),
    ],
)
def test_a_one_off_comes_once(at: str, dst: dict[str, str], expected: list[str]) -> None:
    once = schedule(at=at, timezone="Europe/Berlin", dst=dst)
    assert shown(due(once, utc("2020-01-01"), utc("2030-01-01"))) == expected
    assert shown(upcoming(once, utc("2020-01-01"), 5)) == expected
    assert shown(latest(once, utc("2020-01-01"), utc("2030-01-01"), 5)) == expected


def test_start_and_end_belong_to_the_schedule() -> None:
    bounded = schedule(cron="0 0 * * *", start="2026-01-02", end="2026-01-03T00:00:00")
    assert shown(upcoming(bounded, utc("2020-01-01"), 9)) == ["01-02 00:00", "01-03 00:00"]
    assert previous(bounded, utc("2026-01-02")) is None


def test_a_schedule_that_starts_in_a_far_future_is_still_found() -> None:
    assert shown(upcoming(schedule(cron="0 0 29 2 *", start="3000-01-01"), utc("2026-01-01"), 1)) == ["02-29 00:00"]


def test_an_end_at_the_end_of_time_is_harmless() -> None:
    endless = schedule(cron="0 0 * * *", timezone="America/New_York", end="9999-12-31T23:59:59")
    assert len(upcoming(endless, utc("2026-01-01"), 3)) == 3
    assert len(latest(endless, utc("1970-01-01"), datetime.max.replace(tzinfo=UTC), 2)) == 2
    assert upcoming(endless, datetime.max.replace(tzinfo=UTC), 2) == []
    assert len(due(endless, datetime.min.replace(tzinfo=UTC), utc("1970-01-03"))) == 3


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="pass an aware datetime"):
        due(schedule(cron="@daily"), datetime(2026, 1, 1), utc("2026-01-02"))  # noqa: DTZ001


# ── data intervals, catching up ──────────────────────────────────────────────────────────────────────────────────────


def test_a_data_interval_reaches_back_to_the_instant_before() -> None:
    nightly = schedule(cron="0 2 * * *", timezone="Europe/Berlin")
    begin, end = interval_of(nightly, utc("2026-03-30T00:00"))
    assert (begin, end) == (utc("2026-03-29T01:00"), utc("2026-03-30T00:00"))


def test_the_first_data_interval_is_not_cut_by_the_start() -> None:
    for first in (
        schedule(cron="0 0 * * *", start="2026-01-02"),
        schedule(rate="1 day", start="2026-01-02"),
        schedule(interval={"every": 86_400, "anchor": "2026-01-02"}),
    ):
        assert interval_of(first, utc("2026-01-02")) == (utc("2026-01-01"), utc("2026-01-02"))


def test_a_one_off_has_an_empty_data_interval() -> None:
    assert interval_of(schedule(at="2026-01-02T00:00:00"), utc("2026-01-02")) == (utc("2026-01-02"), utc("2026-01-02"))


def test_after_three_weeks_off_the_latest_instants_are_known_without_walking_them_all_fault_39() -> None:
    every_minute = schedule(cron="* * * * *", timezone="Europe/Berlin")
    off, on = utc("2026-03-20T00:00"), utc("2026-04-10T00:00")
    assert [instant.at for instant in latest(every_minute, off, on, 2)] == [utc("2026-04-09T23:59"), on]
    assert count_between(every_minute, off, on, 100_000) == 21 * 1440
    assert count_between(every_minute, off, on, 100) == 100


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(2, 20).filter(lambda step: step <= high - low + 1).map(lambda step: f"*/{step}"),
        number.map(str),
        st.lists(number, min_size=2, max_size=4).map(lambda values: ",".join(map(str, values))),
        st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    )


CRONS = st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 6)).map(" ".join)
DENSE_CRONS = st.tuples(
    _field(0, 59), _field(0, 23), st.sampled_from(["*", "*/2", "1-25"]), st.just("*"), st.sampled_from(["*", "0", "6-7"])
).map(" ".join)  # fmt: skip
# Around the days on which these zones change their clocks, and anywhere else.
MOMENTS = st.one_of(
    st.sampled_from(["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-10-03", "2026-04-04", "2011-12-28",
                     "2018-11-03", "2018-02-16", "2025-12-31"]).map(utc),
    st.integers(31_536_000, 2_840_140_800).map(lambda second: datetime.fromtimestamp(second, UTC)),
).flatmap(lambda day: st.integers(0, 3 * 86_400).map(lambda seconds: day + timedelta(seconds=seconds)))  # fmt: skip
SPANS = st.integers(0, 4 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
DST = st.fixed_dictionaries(
    {"gap": st.sampled_from(["skip", "run_after"]), "overlap": st.sampled_from(["first", "second", "both"])}
)


@st.composite
def _schedules(draw: st.DrawFn) -> Schedule:
    how = draw(
        st.one_of(
            st.builds(lambda cron: {"cron": cron}, st.one_of(CRONS, DENSE_CRONS)),
            st.builds(lambda minutes: {"rate": f"{minutes} minutes"}, st.integers(30, 5_000)),
            st.builds(
                lambda every, anchor: {"interval": {"every": every, "anchor": anchor.replace(microsecond=0)}},
                st.integers(3_600, 500_000),
                MOMENTS,
            ),
        )
    )
    return schedule(**how, timezone=draw(st.sampled_from(ZONES)), dst=draw(DST))


@settings(max_examples=150, deadline=None)
@given(_schedules(), MOMENTS, SPANS, SPANS)
def test_instants_ascend_and_a_stretch_can_be_split_anywhere(
    any_schedule: Schedule, begin: datetime, first: timedelta, second: timedelta
) -> None:
    whole = due(any_schedule, begin, begin + first + second)
    instants = [instant.at for instant in whole]
    assert instants == sorted(set(instants))
    assert all(begin < at <= begin + first + second for at in instants)
    assert all(instant.local.astimezone(UTC) == instant.at for instant in whole)
    parts = due(any_schedule, begin, begin + first) + due(any_schedule, begin + first, begin + first + second)
    assert whole == parts


@settings(max_examples=150, deadline=None)
@given(_schedules(), MOMENTS, SPANS, st.integers(1, 20))
def test_latest_is_the_tail_of_due_and_upcoming_its_head(
    any_schedule: Schedule, begin: datetime, span: timedelta, count: int
) -> None:
    whole = due(any_schedule, begin, begin + span)
    assert latest(any_schedule, begin, begin + span, count) == whole[-count:]
    assert due(any_schedule, begin, begin + span, limit=count) == whole[:count]
    assert count_between(any_schedule, begin, begin + span, count) == min(len(whole), count)
    within = [instant for instant in upcoming(any_schedule, begin, count) if instant.at <= begin + span]
    assert within == whole[:count]


@settings(max_examples=150, deadline=None)
@given(_schedules(), MOMENTS)
def test_previous_undoes_upcoming(any_schedule: Schedule, begin: datetime) -> None:
    two = upcoming(any_schedule, begin, 2)
    assume(len(two) == 2)
    assert previous(any_schedule, two[1].at) == two[0].at
    assert interval_of(any_schedule, two[1].at) == (two[0].at, two[1].at)


PARTIAL_HOUR_SHIFTS = ("Australia/Lord_Howe", "Asia/Kathmandu")


def repeats(cron: str) -> bool:
    minute, hour = cron.split()[:2]
    return minute.startswith("*") or hour.startswith("*")


@settings(max_examples=200, deadline=None)
@given(st.one_of(CRONS, DENSE_CRONS), st.sampled_from(ZONES), MOMENTS)
@example("30 2 * * *", "Europe/Berlin", utc("2026-03-28"))
@example("*/15 2 * * *", "Europe/Berlin", utc("2026-10-24"))
@example("0 9 * * *", "Pacific/Apia", utc("2011-12-28"))
def test_cronsim_agrees(cron: str, timezone: str, after: datetime) -> None:
    # With expressions that repeat, cronsim hops by real hours and so loses the hour after a shift by part of one
    # (0 */2 at 02:00 on Lord Howe in April); the walk over every real minute below covers these.
    assume(timezone not in PARTIAL_HOUR_SHIFTS or not repeats(cron))
    found = [instant.at for instant in upcoming(schedule(cron=cron, timezone=timezone), after, 30)]
    theirs: list[datetime] = []
    walk = CronSim(cron, after.replace(microsecond=0).astimezone(ZoneInfo(timezone)))
    for _ in range(90):
        try:
            at = next(walk).astimezone(UTC)
        except StopIteration:
            break
        # Several times in one gap: cronsim fires for each of them, we run once for all.
        if at > after and at not in theirs:
            theirs.append(at)
        if len(theirs) == len(found):
            break
    # cronsim gives up after 50 years, we after 400.
    assert theirs == found[: len(theirs)]
    assert len(theirs) == len(found) or found[len(theirs)] - after > timedelta(days=49 * 365)


@settings(max_examples=40, deadline=None)
@given(DENSE_CRONS.filter(repeats), st.sampled_from(ZONES), MOMENTS)
@example("0 */2 * * */4", "Australia/Lord_Howe", utc("2026-04-04T12:00"))
def test_an_expression_that_repeats_fires_at_each_real_minute_whose_wall_time_matches(
    cron: str, timezone: str, after: datetime
) -> None:
    begin = after.replace(second=0, microsecond=0)
    minutes = [begin + timedelta(minutes=minute) for minute in range(1, 1440)]
    zone = ZoneInfo(timezone)
    # As plain times, where nothing is known of zones, cronsim says which wall times match.
    walls = set()
    first, last = (
        (begin - timedelta(days=1)).replace(tzinfo=None),
        (minutes[-1] + timedelta(days=2)).replace(tzinfo=None),
    )
    for wall in CronSim(cron, first):
        if wall > last:
            break
        walls.add(wall)
    expected = [at for at in minutes if at.astimezone(zone).replace(tzinfo=None) in walls]
    assert [instant.at for instant in due(schedule(cron=cron, timezone=timezone), begin, minutes[-1])] == expected
