"""What a user reads when the schedule of a document is wrong, and that whatever is right survives JSON."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.workflow.cron import CronError, parse_cron
from shared.workflow.schema import schema
from shared.workflow.timing import Schedule, period_seconds


def refused(**fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Schedule.model_validate(fields)
    return [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("61 2 * * *", "minute 61 is out of range: minutes go from 0 to 59"),
        ("0 24 * * *", "hour 24 is out of range: hours go from 0 to 23"),
        ("0 0 0 * *", "day of month 0 is out of range: days of month go from 1 to 31"),
        ("0 0 * 13 *", "month 13 is out of range: months go from 1 to 12"),
        ("0 0 * * 8", "day of week 8 is out of range: days of week go from 0 to 7 (Sunday is 0 or 7)"),
        ("0 0 ? * 0 *", "day of week 0 is out of range: days of week go from 1 to 7 (AWS counts from Sunday = 1"),
        ("0 0 ? * 1 1969", "year 1969 is out of range: years go from 1970 to 2199"),
        ("0 0 * * MONDAY", "did you mean MON?"),
        ("0 0 * JUNE *", "did you mean JUN?"),
        ("0 22-2 * * *", "hour range 22-2 runs backwards: write 2-22, or 22-23,0-2"),
        ("*/90 * * * *", 'for a longer period use "rate" or "interval"'),
        ("*/0 * * * *", "minute step /0 is not a step: write a whole number from 1 to 60"),
        ("0 2 * *", "has 4 fields: write five"),
        ("", "has 0 fields: write five"),
        ("0 0 12 * * *", "exactly one of day-of-month and day-of-week is ?"),
        ("0 0 ? * ? *", "exactly one of day-of-month and day-of-week is ?"),
        ("0 2 ? * *", "? belongs to AWS's six fields: in five fields write * instead"),
        ("cron(0 2 * * *)", "cron( ) has 5 fields inside: it takes AWS's six"),
        ("cron(0 2 * * ? *", "opens a bracket and does not close it"),
        ("rate(5 minutes)", 'write it under "rate" instead of "cron"'),
        ("@dayly", "did you mean @daily?"),
        ("@reboot", "@reboot names no time"),
        ("0 0 5#1 * *", "move it to the day-of-week field"),
        ("0 0 * * MON#6", "after # write 1 to 5"),
        ("1,,2 * * * *", "'' is not a minute"),
        ("9" * 5_000, "has 5000 characters: at most 2000 are allowed"),
    ],
)
def test_a_wrong_cron_is_told_what_would_be_right(cron: str, sentence: str) -> None:
    (problem,) = refused(cron=cron)
    assert problem.startswith("cron: ")
    assert sentence in problem


def test_every_wrong_field_of_a_cron_is_named_at_once() -> None:
    (problem,) = refused(cron="61 25 32 13 8")
    assert [name for name in ("minute 61", "hour 25", "day of month 32", "month 13", "day of week 8") if name in problem] == [
        "minute 61", "hour 25", "day of month 32", "month 13", "day of week 8",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "place", "sentence"),
    [
        ({}, "", "exactly one of cron, rate, interval and at, and this one says none"),
        ({"cron": "@daily", "rate": "1 day"}, "", "this one says cron and rate: keep one"),
        ({"rate": "5 min"}, "rate", "did you mean minutes?"),
        ({"rate": "5"}, "rate", "write a whole number and a unit"),
        ({"rate": 300}, "rate", "write text such as 5 minutes"),
        ({"rate": "0 minutes"}, "rate", "periods go from 1 second to 36525 days"),
        ({"rate": "999999999999 weeks"}, "rate", "out of range"),
        ({"interval": "1 day"}, "interval", "is not an object: write"),
        ({"interval": {"every": 1.5, "anchor": "2026-01-01"}}, "interval.every", "or a whole number of seconds"),
        ({"interval": {"every": "1 day", "anchor": "x"}}, "interval.anchor", "anchor is written like"),
        ({"at": "2026-02-30T00:00:00"}, "at", "day is out of range for month"),
        ({"at": "2026-02-03"}, "at", "is a day, not a moment: write the time too"),
        ({"at": "1969-12-31T00:00:00"}, "at", "years go from 1970 to 9999"),
        ({"at": "2026-02-03T00:00:00.5"}, "at", "write whole seconds"),
        ({"at": "2026-02-03T00:00:00", "end": "2026-02-04T00:00:00"}, "", "leave them out"),
        ({"cron": "@daily", "start": "2026-02-03", "end": "2026-02-02T00:00:00Z"}, "", "is before start"),
        ({"cron": "@daily", "timezone": "Europe/Berln"}, "timezone", "did you mean Europe/Berlin?"),
        ({"cron": "@daily", "timezone": "new york"}, "timezone", "did you mean America/New_York?"),
        ({"cron": "@daily", "timezone": "Europe"}, "timezone", "write an IANA name"),
        ({"cron": "@daily", "timezone": "../\0"}, "timezone", "write an IANA name"),
        ({"cron": "@daily", "timezone": "right/UTC"}, "timezone", "is not known"),
        ({"cron": "@daily", "catchup": "lates"}, "catchup", "did you mean latest?"),
        ({"cron": "@daily", "catchup_max": 0}, "catchup_max", "from 1 to 10000"),
        ({"cron": "@daily", "dst": {"gap": "jump"}}, "dst.gap", "write one of skip, run_after"),
        ({"cron": "@daily", "dst": "skip"}, "dst", "is not an object: write"),
    ],
)
def test_a_wrong_schedule_is_told_what_would_be_right(fields: dict[str, Any], place: str, sentence: str) -> None:
    (problem,) = refused(**fields)
    assert problem.startswith(f"{place}: ")
    assert sentence in problem


@given(st.text(alphabet="0123456789*/-,?LW#@ MONJANcron()é{}", max_size=40))
def test_no_text_makes_the_cron_grammar_do_anything_but_read_or_refuse(text: str) -> None:
    try:
        cron = parse_cron(text)
    except CronError:
        return
    assert all(1 <= day <= 29 for day in cron.days_of(2028, 2))


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "cron(0 18 ? * MON-FRI *)", "timezone": "Europe/Berlin", "catchup": "all", "catchup_max": 5},
        {"rate": "rate(5 minutes)", "start": "2026-01-01", "end": "9999-12-31T23:59:59-05:00"},
        {"interval": {"every": "1440 minutes", "anchor": "2026-01-01T06:00:00"}},
        {"at": "at(2026-01-01T06:00:00)", "dst": {"gap": "skip", "overlap": "both"}},
        {"at": datetime(2026, 1, 1, 6, tzinfo=UTC)},
    ],
)
def test_what_is_accepted_survives_json(fields: dict[str, Any]) -> None:
    schedule = Schedule.model_validate(fields)
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


def test_every_field_is_described_for_editors() -> None:
    models = schema()["$defs"]
    for model in (models["Schedule"], models["Interval"], models["ClockChange"]):
        assert [name for name, field in model["properties"].items() if "description" not in field] == []


def test_periods_are_read_in_every_unit() -> None:
    periods = ("90 seconds", "5 minutes", "1 hour", "7 Days", "rate(2 weeks)", 45)
    assert [period_seconds(period) for period in periods] == [90, 300, 3_600, 604_800, 1_209_600, 45]
