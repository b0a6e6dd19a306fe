"""What `runfold verify` finds of excluded days, of instants that came too late, and of turns (I5, I6), in histories that no rule of ours writes."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from shared.events import CalendarRegistered, Event, InstantsExcluded, RunAdmitted, WatermarkMoved, WorkflowRegistered
from shared.ids import WorkflowName, calendar_stream, scheduled_run, workflow_stream
from shared.usecases.verify import verify_stream
from tests.rules.walks import DOCUMENT, NOON, job, plan_of, records_of, request_of

HOUR = timedelta(hours=1)
NIGHTLY = WorkflowName("nightly")
RULE = {
    "cron": "0 * * * *",
    "exclude": {"days": ["2026-03-02"], "calendars": ["holidays"]},
    "misfire_minutes": 90,
    "starts_per_minute": 1,
    "catchup": "all",
}
PLAN = plan_of(job("a"), schedule=RULE)
"""NOON is of Sunday, 1 March 2026."""


def checked(*commits: tuple[float, Sequence[Event]], plan: Any = PLAN) -> list[str]:
    """What is found in these commits, each so many hours after noon."""
    start: list[Event] = [WorkflowRegistered(workflow=NIGHTLY, document=DOCUMENT, version=1), moved(0)]
    pairs = [(NOON, start), *((NOON + hours * HOUR, list(events)) for hours, events in commits)]
    records = records_of(workflow_stream(NIGHTLY), pairs)
    return [f"{one.invariant}: {one.message}" for one in verify_stream(records, lambda _: plan)]


def moved(hours: int) -> WatermarkMoved:
    return WatermarkMoved(until=NOON + hours * HOUR, next_at=NOON + (hours + 1) * HOUR)


def admitted(hours: int, turn: datetime | None, begins: datetime | None = None) -> RunAdmitted:
    at = NOON + hours * HOUR
    told: dict[str, Any] = {"trigger": "schedule", "scheduled_at": at, "admitted": True, "start_after": begins}
    request = request_of(PLAN, scheduled_run(NIGHTLY, at), **told)
    next_start = turn + timedelta(minutes=1) if turn is not None else None
    return RunAdmitted(run=request.run, request=request, next_start_at=next_start)


def excluded(first: int, last: int, day: date = date(2026, 3, 2), calendar: str = "") -> InstantsExcluded:
    span: dict[str, Any] = {"first_at": NOON + first * HOUR, "last_at": NOON + last * HOUR, "count": last - first + 1}
    return InstantsExcluded(**span, day=day, calendar=calendar, calendar_version=1 if calendar else 0, reason="off")


def test_i6_excluded_instants_and_turns_that_are_kept_are_clean() -> None:
    turn = NOON + 2 * HOUR
    minute = timedelta(minutes=1)
    assert checked(
        (2, [admitted(1, turn), admitted(2, turn + minute, turn + minute), moved(2)]),
        (11, [excluded(3, 11, date(2026, 3, 1), "holidays"), moved(11)]),
        (35, [excluded(12, 35), moved(35)]),
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (excluded(1, 1), "no day of the schedule is 2026-03-02"),
        (excluded(1, 1, date(2026, 3, 1), "others"), "excluded by others, which it does not name"),
        (admitted(1, None), "let in without a turn"),
        (admitted(1, NOON + 2 * HOUR), "began before its turn"),
    ],
)
def test_i6_what_the_document_does_not_say_is_found(event: Event, says: str) -> None:
    (found,) = checked((1, [event, moved(1)]))
    assert says in found


def test_i6_a_run_on_an_excluded_day_and_one_that_is_too_late_are_found() -> None:
    (found,) = checked((11, [excluded(1, 11, date(2026, 3, 1), "holidays"), moved(11)]), (12, [admitted(12, NOON + 12 * HOUR), moved(12)]))  # fmt: skip
    assert found.startswith("I6: 2026-03-02T00:00:00Z became a run, and 2026-03-02, a Monday, is excluded")
    (found,) = checked((3, [admitted(1, NOON + 3 * HOUR), moved(1)]))
    assert found.startswith("I6: 2026-03-01T13:00:00Z became a run 2:00:00 late")


def test_i6_an_excluded_day_of_a_schedule_without_any_is_found() -> None:
    plain = plan_of(job("a"), schedule={"cron": "0 * * * *"})
    (found,) = checked((1, [excluded(1, 1, date(2026, 3, 1)), moved(1)]), plan=plain)
    assert "the schedule excludes nothing" in found


def test_i5_two_runs_in_one_turn_are_found() -> None:
    turn = NOON + 2 * HOUR
    (found,) = checked((2, [admitted(1, turn), admitted(2, turn), moved(2)]))
    assert found.startswith("I5: nightly@2026-03-01T14:00:00Z had its turn at")


def test_a_calendar_in_the_stream_of_another_is_found() -> None:
    event = CalendarRegistered(calendar="holidays", version=1, days=())
    assert list(verify_stream(records_of(calendar_stream("holidays"), [(NOON, [event])]), lambda _: PLAN)) == []
    (found,) = verify_stream(records_of(calendar_stream("other"), [(NOON, [event])]), lambda _: PLAN)
    assert (found.invariant, found.message) == ("I8", "the stream holds the calendar holidays")
