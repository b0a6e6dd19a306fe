"""Time beyond the plain schedule: excluded days, how late is too late, jitter, and turns that keep an outage from ending in a stampede."""

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from shared import schedule
from shared.decide.commands import AdmitRun, PauseWorkflow, RegisterWorkflow, RequestRun, ResumeWorkflow, Tick
from shared.decide.instants import ToExclude, ToMiss, ToRun, exclusion_of, jitter_of, no_calendars, verdicts
from shared.effects import TickWorkflow, due_of_workflow, pending_of_workflow
from shared.errors import InvalidInput
from shared.events import (
    InstantsExcluded,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    WatermarkMoved,
)
from shared.explain import why_run
from shared.ids import RunId, WorkflowName, scheduled_run
from shared.state.run import NotRequested
from shared.state.workflow import HELD_MAX, TURNS_AHEAD
from shared.usecases.documents import read_document
from shared.workflow.calendar import read_calendar
from shared.workflow.days import CalendarDays, DaySet
from shared.workflow.timing import Schedule
from tests.rules.sentences import (
    NOON,
    RUN,
    WORKFLOW,
    Says,
    Story,
    calendar,
    days,
    document,
    ended,
    fact,
    given,
    given_workflow,
    hours,
    job,
    minutes,
    plans,
    register,
    request_of,
    seconds,
)

TICK = Tick()
DAILY = {"cron": "0 13 * * *"}
"""For the first time an hour after noon of Monday, 2 March 2026."""


def at(day: int, hour: int = 13, minute: int = 0) -> datetime:
    return NOON.replace(day=day, hour=hour, minute=minute)


def due(rule: dict[str, Any], **fields: Any) -> Any:
    return document(job("load"), schedule=rule, **fields)


def runs_of(story: Story) -> list[str]:
    """The scheduled instants of all runs that were let in or hold, in order, as days and hours."""
    return [
        f"{event.request.scheduled_at:%d %H:%M}"
        for _, events in story.history
        for event in events
        if isinstance(event, RunAdmitted | RunHeld) and event.request.scheduled_at is not None
    ]


def dealt_with(story: Story) -> Story:
    """Ticked as often as decisions were cut."""
    for _ in range(200):
        if not story.truncated:
            return story
        story = story.given(TICK)
    raise AssertionError("it never ends")


def excluded(day: int, count: int = 1, first: datetime | None = None, **fields: Any) -> Any:
    first = first or at(day)
    told = {"first_at": first, "last_at": first, "count": count, "day": date(2026, 3, day), **fields}
    return fact(InstantsExcluded, **told)


# --- excluded days ----------------------------------------------------------------------------------------------------


def test_an_instant_on_an_excluded_day_is_skipped_with_the_day_and_the_next_one_runs() -> None:
    plan = due(DAILY | {"exclude": {"days": ["2026-03-03"]}})
    reason = "2026-03-03, a Tuesday, is excluded by the schedule"
    story = given_workflow(register(plan), hours(1), TICK, days(1))
    moved = fact(WatermarkMoved, until=at(3), next_at=at(4))
    story.when(TICK).then(excluded(3, reason=reason), moved)
    assert runs_of(story.given(TICK, days(1), TICK)) == ["02 13:00", "04 13:00"]


def test_a_calendar_is_read_when_the_instant_is_dealt_with_and_is_named_with_its_version() -> None:
    calendar("spring", version=1)
    plan = due(DAILY | {"exclude": {"calendars": ["spring"]}})
    story = given_workflow(register(plan), hours(1), TICK, days(1))
    calendar("spring", "03-03", version=7)
    reason = "2026-03-03 is excluded by the calendar spring, version 7"
    moved = fact(WatermarkMoved, until=at(3), next_at=at(4))
    story.when(TICK).then(excluded(3, calendar="spring", calendar_version=7, reason=reason), moved)


def test_a_calendar_that_is_not_there_lets_nothing_run_and_says_so() -> None:
    """Running on a holiday cannot be taken back; a skip can be made good by hand."""
    plan = due(DAILY | {"exclude": {"calendars": ["never-made"]}})
    story = given_workflow(register(plan), hours(1))
    moved = fact(WatermarkMoved, until=at(2), next_at=at(3))
    story.when(TICK).then(excluded(2, calendar="never-made", reason=Says("never-made")), moved)


def test_a_day_begins_where_its_list_lives() -> None:
    """23:30 in New York is the next day in Berlin."""
    calendar("berlin", "2026-03-03", timezone="Europe/Berlin")
    calendar("nobodys", "2026-03-03")
    late = {"cron": "30 23 * * *", "timezone": "America/New_York"}
    instant = datetime(2026, 3, 3, 4, 30, tzinfo=UTC)
    for name, hit in (("berlin", True), ("nobodys", False)):
        story = given_workflow(register(due(late | {"exclude": {"calendars": [name]}})), hours(16.5), TICK)
        assert (scheduled_run(WORKFLOW, instant) not in story.workflow.holders) is hit


def test_the_latest_that_is_caught_up_is_the_latest_that_is_not_excluded() -> None:
    plan = due(DAILY | {"catchup": "latest", "exclude": {"days": ["saturday", "sunday"]}})
    story = given_workflow(register(plan), days(6))
    # On Sunday: Monday to Thursday are given up, Friday runs, Saturday is excluded.
    story.when(TICK).then(
        fact(InstantsMissed, first_at=at(2), last_at=at(5), count=4),
        fact(RunAdmitted, run=scheduled_run(WORKFLOW, at(6))),
        excluded(7),
        fact(WatermarkMoved, until=at(8, 12), next_at=at(8)),
    )


def test_excluded_instants_do_not_count_among_those_that_are_caught_up() -> None:
    plan = due(DAILY | {"catchup": "all", "catchup_max": 3, "exclude": {"days": ["saturday", "sunday"]}})
    story = given_workflow(register(plan), days(8), TICK)
    assert runs_of(story) == ["05 13:00", "06 13:00", "09 13:00"]


def test_a_day_of_many_instants_is_excluded_by_one_event() -> None:
    plan = due({"cron": "*/5 * * * *", "catchup": "all", "exclude": {"days": ["2026-03-03"]}})
    story = dealt_with(given_workflow(register(plan), hours(36), TICK))
    found = [one for _, events in story.history for one in events if isinstance(one, InstantsExcluded)]
    assert [(one.count, one.first_at, one.last_at) for one in found] == [(288, at(3, 0), at(3, 23, 55))]


def test_years_of_excluded_instants_are_dealt_with_in_bounded_decisions() -> None:
    every = {"cron": "* * * * *", "catchup": "none", "exclude": {"days": ["2026-03-02/2026-05-31"]}}
    story = given_workflow(register(due(every)), days(60))
    _, first = story.done(TICK)
    walked = sum(one.count for one in first if isinstance(one, InstantsExcluded))
    assert 1_440 < walked < 60_000
    whole = dealt_with(story.given(TICK))
    counted = sum(one.count for _, events in whole.history for one in events if isinstance(one, InstantsExcluded))
    assert counted == 60 * 1_440
    assert whole.workflow.watermark == whole.now


EXCLUDES = st.sampled_from(
    [None, {"days": ["saturday", "03-04"]}, {"days": ["2026-03-05/2026-03-09"], "calendars": ["spring"]}]
)


@over(
    cron=st.sampled_from(["0 13 * * *", "*/20 * * * *", "30 2,14 * * MON-FRI", "0 0 1 * *"]),
    exclude=EXCLUDES,
    catchup=st.sampled_from(["none", "latest", "all"]),
    most=st.integers(1, 30),
    late=st.none() | st.integers(1, 5_000),
    gone=st.integers(1, 20_000),
    paused=st.booleans(),
    zone=st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe"]),
)
@settings(max_examples=150, deadline=None)
def test_every_instant_is_in_exactly_one_verdict_and_in_order(
    cron: str,
    exclude: dict[str, Any] | None,
    catchup: str,
    most: int,
    late: int | None,
    gone: int,
    paused: bool,
    zone: str,
) -> None:
    """Fault 39, and I6: whatever the policies are, each instant ends as a run, a skip or a miss."""
    calendar("spring", "2026-03-10")
    fields = {"cron": cron, "catchup": catchup, "catchup_max": most, "timezone": zone}
    fields |= {"misfire_minutes": late, "exclude": exclude}
    rule = Schedule.model_validate(fields)
    after, now = NOON, NOON + minutes(gone)
    exclusion = exclusion_of(rule, lambda name: None) if exclude and "calendars" not in exclude else None
    told: list[datetime] = []
    counted = 0
    for verdict in verdicts(rule, after, now, NOON if paused else None, exclusion):
        match verdict:
            case ToRun(instant):
                told += [instant.at]
                counted += 1
                assert late is None or now - instant.at <= minutes(late)
                assert exclusion is None or exclusion.of(instant.at) is None
            case ToMiss(first, last, count, reason):
                told += [first, last] if count > 1 else [first]
                counted += count
                assert reason
            case ToExclude(first, last, count, why):
                told += [first, last] if count > 1 else [first]
                counted += count
                assert exclusion is not None
                assert exclusion.of(first) == exclusion.of(last) == why
    assert told == sorted(set(told))
    assert counted == schedule.count_between(rule, after, now, 100_000)


# --- too late ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "runs"), [(29, True), (30, True), (31, False)])
@pytest.mark.parametrize("catchup", ["none", "latest", "all"])
def test_an_instant_runs_as_late_as_the_document_allows_and_is_missed_after_that(
    late: int, runs: bool, catchup: str
) -> None:
    plan = due(DAILY | {"catchup": catchup, "misfire_minutes": 30})
    story = given_workflow(register(plan), hours(1), minutes(late))
    moved = fact(WatermarkMoved, until=story.now, next_at=at(3))
    if runs:
        story.when(TICK).then(fact(RunAdmitted, run=scheduled_run(WORKFLOW, at(2))), moved)
    else:
        missed = fact(InstantsMissed, first_at=at(2), last_at=at(2), count=1, reason=Says("more than 30 minutes late"))
        story.when(TICK).then(missed, moved)


def test_a_one_off_that_is_too_late_is_missed_and_not_run() -> None:
    rule = {"at": "2026-03-02T13:00:00Z", "misfire_minutes": 60}
    missed = fact(InstantsMissed, first_at=at(2), last_at=at(2), count=1, reason=Says("more than 60 minutes late"))
    story = given_workflow(register(due(rule)), hours(3))
    story.when(TICK).then(missed, fact(WatermarkMoved, until=story.now))
    assert runs_of(given_workflow(register(due(rule)), hours(1.5), TICK)) == ["02 13:00"]


def test_what_a_pause_made_too_late_is_missed_and_the_rest_is_caught_up() -> None:
    plan = due({"cron": "0 * * * *", "catchup": "all", "misfire_minutes": 180})
    story = given_workflow(register(plan), PauseWorkflow("ada"), hours(10))
    assert runs_of(story.given(ResumeWorkflow("ada"))) == [f"02 {hour}:00" for hour in (19, 20, 21, 22)]


# --- jitter -----------------------------------------------------------------------------------------------------------


def test_a_run_begins_some_time_after_its_instant_and_keeps_its_instant_and_its_id() -> None:
    plan = due(DAILY | {"jitter_seconds": 600})
    story = given_workflow(register(plan), hours(1), TICK)
    holder = story.workflow.holders[RunId("nightly@2026-03-02T13:00:00Z")]
    assert holder.scheduled_at == at(2)
    rule = plan.workflow.schedule
    assert rule is not None
    drawn = jitter_of(rule, WORKFLOW, at(2))
    assert holder.request.start_after == at(2) + drawn
    # Rung for late, but not very late: it begins when it would have begun.
    late = given_workflow(register(plan), hours(1), seconds(90), TICK)
    begins = late.workflow.holders[RunId("nightly@2026-03-02T13:00:00Z")].request.start_after
    assert begins == (at(2) + drawn if drawn > seconds(90) else None)


def test_what_an_outage_delayed_is_spread_again_from_when_it_ends() -> None:
    """Fault 60: ten thousand schedules of midnight that are found at three must not begin at three."""
    plan = due(DAILY | {"jitter_seconds": 600, "catchup": "latest"})
    story = given_workflow(register(plan), hours(4), TICK)
    rule = plan.workflow.schedule
    assert rule is not None
    begins = story.workflow.holders[RunId("nightly@2026-03-02T13:00:00Z")].request.start_after
    assert begins == story.now + jitter_of(rule, WORKFLOW, at(2))


def test_jitter_spreads_workflows_evenly_and_never_beyond_its_bound() -> None:
    """Fault 41."""
    rule = Schedule.model_validate({"cron": "0 0 * * *", "jitter_seconds": 59})
    drawn = [jitter_of(rule, WorkflowName(f"w-{number}"), NOON).total_seconds() for number in range(6_000)]
    assert set(drawn) == set(range(60))
    assert max(map(drawn.count, range(60))) < 200


# --- turns ------------------------------------------------------------------------------------------------------------


def outage(per_minute: int, hours_of_it: int = 3, **fields: Any) -> Story:
    plan = due({"cron": "*/10 * * * *", "catchup": "all", "starts_per_minute": per_minute}, **fields)
    return given_workflow(register(plan), hours(hours_of_it), TICK)


def beginnings(story: Story) -> list[datetime]:
    """When each run that was let in begins."""
    return [
        max(event.request.start_after or at, at)
        for at, events in story.history
        for event in events
        if isinstance(event, RunAdmitted)
    ]


def drained(story: Story, every: timedelta = minutes(1)) -> Story:
    """Swept until nobody waits."""
    for _ in range(3_000):
        if not story.workflow.held:
            return story
        story = story.given(every, TICK)
    raise AssertionError("somebody waits for ever")


@pytest.mark.parametrize("every", [1, 60, 90])
@pytest.mark.parametrize("per_minute", [1, 2, 7, 60])
def test_after_an_outage_runs_begin_one_by_one_at_the_rate_that_the_document_allows(
    per_minute: int, every: int
) -> None:
    """Fault 60: no stampede, and nothing lost, whether a second or a minute and a half lies between two sweeps."""
    story = drained(outage(per_minute, 1), seconds(every))
    spacing = timedelta(seconds=60 / per_minute)
    begins = beginnings(story)
    assert len(begins) >= 6
    assert all(later - earlier >= spacing for earlier, later in itertools.pairwise(begins))


def test_who_waits_for_a_turn_is_looked_at_when_it_comes_and_not_before() -> None:
    story = outage(1)
    waiting = [one.request.scheduled_at for one in story.workflow.held]
    assert waiting == sorted(one for one in waiting if one is not None)
    assert pending_of_workflow(story.workflow, story.now) == []
    soon = due_of_workflow(story.workflow, story.now)
    turn = story.workflow.next_start_at
    assert turn is not None
    assert soon is not None
    assert story.now < soon < turn
    assert pending_of_workflow(story.workflow, soon) == [TickWorkflow(WORKFLOW)]
    then = story.given(soon - story.now, TICK)
    assert len(then.workflow.held) < len(story.workflow.held)


def test_an_ordinary_instant_has_its_turn_at_once() -> None:
    plan = due(DAILY | {"starts_per_minute": 1})
    story = given_workflow(register(plan), hours(1))
    admitted = fact(RunAdmitted, run=scheduled_run(WORKFLOW, at(2)), next_start_at=at(2, 13, 1))
    story.when(TICK).then(admitted, fact(WatermarkMoved, until=at(2), next_at=at(3)))
    assert story.given(TICK).workflow.holders[scheduled_run(WORKFLOW, at(2))].request.start_after is None


def test_turns_do_not_keep_back_what_somebody_asks_for() -> None:
    story = outage(1, max_active_runs=500)
    asked = request_of(due({"cron": "*/10 * * * *"}), RunId("nightly@by-hand"))
    assert RunId("nightly@by-hand") in story.given(AdmitRun(asked)).workflow.holders


def test_a_pause_stops_turns_and_resuming_goes_on_with_them() -> None:
    paused = outage(1).given(PauseWorkflow("ada"))
    waiting = len(paused.workflow.held)
    later = paused.given(hours(1), TICK)
    assert len(later.workflow.held) == waiting
    assert not drained(later.given(ResumeWorkflow("ada"))).workflow.held


def test_a_document_without_turns_lets_in_at_once_who_waited_for_one() -> None:
    story = outage(1)
    assert not story.given(register(due({"cron": "*/10 * * * *", "catchup": "all"}))).workflow.held


def test_a_limit_of_active_runs_and_turns_hold_together() -> None:
    story = outage(60, max_active_runs=2)
    assert len(story.workflow.holders) == 2
    running = list(story.workflow.holders)
    later = story.given(hours(1), TICK, seconds(1))
    # Ticking finds no room, leads to nothing, and must not be asked for again and again.
    later.when(TICK).then()
    assert len(later.given(ended(running[0])).workflow.holders) == 2


def test_with_catchup_all_instants_for_whom_no_place_is_left_to_wait_stay_due_and_none_is_lost() -> None:
    """Faults 39 and 60: three days of every minute, three runs a minute."""
    rule = {"cron": "* * * * *", "catchup": "all", "catchup_max": 10_000, "starts_per_minute": 60}
    story = dealt_with(given_workflow(register(due(rule)), hours(30), TICK))
    assert len(story.workflow.held) == HELD_MAX
    assert story.workflow.stalled
    assert story.workflow.due_next is None
    story.when(TICK).then()
    story = story.given(seconds(60), TICK)
    assert not story.workflow.stalled or len(story.workflow.held) < HELD_MAX
    for _ in range(300):
        story = dealt_with(story.given(seconds(60), TICK))
        if not story.workflow.held:
            break
    instants = runs_of(story)
    admitted = {event.run for _, events in story.history for event in events if isinstance(event, RunAdmitted)}
    assert len(admitted) == len(set(instants))
    watermark = story.workflow.watermark
    assert watermark is not None
    assert len(admitted) == schedule.count_between(Schedule.model_validate(rule), NOON, watermark, 100_000)


def test_turns_are_no_further_ahead_than_a_sweep_needs() -> None:
    story = outage(1)
    assert all(begin < story.now + TURNS_AHEAD for begin in beginnings(story))


# --- what is refused --------------------------------------------------------------------------------------------------


def problems_of(**fields: Any) -> list[str]:
    import json

    text = {"name": "nightly", "jobs": [{"name": "a", "type": "ssm", "host": "h", "commands": ["true"]}], **fields}
    try:
        read_document(json.dumps(text).encode(), name="x.json")
    except InvalidInput as invalid:
        return [str(one) for one in invalid.problems]
    return []


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"exclude": {"days": ["2026-02-29"]}}, "schedule.exclude.days[0]: '2026-02-29' is not a day"),
        ({"exclude": {"days": ["caturday"]}}, "'caturday' is not a day: write 2026-12-25"),
        ({"exclude": {"days": ["2026-12-25/2026-12-24"]}}, "ends before it begins"),
        ({"exclude": {"days": ["13-01"]}}, "'13-01' is not a day"),
        ({"exclude": {"days": ["20261225"]}}, "'20261225' is not a day"),
        ({"exclude": {"days": [7]}}, "7 is not a day"),
        ({"exclude": ["saturday"]}, "exclude ['saturday'] is not an object"),
        ({"exclude": {"calendars": ["no/name"]}}, "schedule.exclude.calendars[0]"),
        ({"exclude": {"calendar": ["x"]}}, "did you mean `calendars`?"),
        ({"misfire_minutes": 0}, "misfire_minutes 0 is out of range"),
        ({"jitter_seconds": True}, "jitter_seconds True is out of range"),
        ({"starts_per_minute": 2000}, "starts_per_minute 2000 is out of range"),
    ],
)
def test_a_wrong_word_about_time_is_told_with_its_place(rule: dict[str, Any], says: str) -> None:
    found = problems_of(schedule={"cron": "0 2 * * *", **rule})
    assert len(found) == 1
    assert says in found[0]


def test_turns_with_runs_that_never_follow_each_other_are_refused() -> None:
    rule = {"cron": "0 2 * * *", "starts_per_minute": 1}
    for overlap in ("skip", "cancel_running"):
        assert "schedule.starts_per_minute" in problems_of(schedule=rule, overlap=overlap)[0]
    assert problems_of(schedule=rule, overlap="queue") == []


def test_a_calendar_is_known_by_its_first_word_and_told_every_problem_at_once() -> None:
    good = b'{"calendar": "bank-holidays", "days": ["2026-12-25", "SAT"], "timezone": "Europe/Berlin"}'
    found = read_calendar(good, name="x.json")
    assert found is not None
    assert found.days == ("2026-12-25", "saturday")
    yaml = b"calendar: bank-holidays\ndays:\n  - 2026-12-25\n  - 12-26\n"
    found = read_calendar(yaml, name="x.yaml")
    assert found is not None
    assert found.days == ("2026-12-25", "12-26")
    assert read_calendar(b'{"name": "x", "description": "calendar", "jobs": []}', name="x.json") is None
    with pytest.raises(InvalidInput) as wrong:
        read_calendar(b'{"calendar": "a/b", "days": ["x"], "zone": "UTC", "timezone": "Europe/Berlim"}', name="x.json")
    told = [str(one) for one in wrong.value.problems]
    assert len(told) == 4
    assert any("did you mean Europe/Berlin" in one for one in told)


@over(st.dates(date(2020, 1, 1), date(2032, 12, 31)))
def test_a_day_is_in_a_list_exactly_when_one_of_its_entries_names_it(day: date) -> None:
    entries = ("sunday", "02-29", "2026-12-24/2027-01-06", "2027-01-03/2027-01-10", "2028-05-01")
    plain = (
        day.weekday() == 6
        or (day.month, day.day) == (2, 29)
        or date(2026, 12, 24) <= day <= date(2027, 1, 10)
        or day == date(2028, 5, 1)
    )
    assert DaySet(entries).holds(day) == plain
    assert no_calendars("x") is None


def test_registering_the_same_schedule_with_other_days_deals_with_what_was_due_by_the_old_ones() -> None:
    before = due(DAILY | {"exclude": {"days": ["2026-03-02"]}})
    after = due(DAILY)
    story = given_workflow(register(before), hours(2), RegisterWorkflow(WORKFLOW, after.digest, "ada"))
    assert runs_of(story.given(TICK)) == []


# --- why --------------------------------------------------------------------------------------------------------------


def why(story: Story, day: int, **fields: Any) -> list[Any]:
    plan = plans(story.workflow.live.document) if story.workflow.live is not None else None
    history = [(at, event) for at, events in story.history for event in events]
    run = scheduled_run(WORKFLOW, at(day))
    return why_run(NotRequested(), run, story.now, workflow=story.workflow, plan=plan, history=history, **fields)


def test_why_names_the_day_and_the_calendar_before_and_after_the_instant() -> None:
    calendar("spring", "2026-03-04", version=2)
    plan = due(DAILY | {"exclude": {"calendars": ["spring"]}})
    rule = plan.workflow.schedule
    assert rule is not None
    exclusion = exclusion_of(rule, lambda name: CalendarDays(2, ("2026-03-04",)))
    before = given_workflow(register(plan))
    for story in (before, before.given(days(3), TICK)):
        (told,) = why(story, 4, exclusion=exclusion)
        assert told.code == "excluded"
        assert "calendar spring, version 2" in told.message
    (told,) = why(given_workflow(register(plan)), 3, exclusion=exclusion)
    assert told.code == "before_its_time"


def test_why_says_when_the_turn_of_a_run_comes_and_it_comes_then() -> None:
    plan = due(DAILY | {"catchup": "all", "starts_per_minute": 1})
    story = given_workflow(register(plan), days(10), TICK)
    (told,) = why(story, 9)
    assert told.code == "turn"
    assert "1 a minute" in told.message
    assert told.clears_at is not None
    whole = drained(story, seconds(1))
    begin = whole.workflow.holders[scheduled_run(WORKFLOW, at(9))].request.start_after
    assert begin is not None
    assert abs(begin - told.clears_at) <= seconds(2)


def test_why_says_that_a_run_begins_later_because_its_schedule_spreads_beginnings() -> None:
    plan = due(DAILY | {"jitter_seconds": 86_400})
    asked = request_of(plan, scheduled_at=at(2), trigger="schedule", start_after=at(2, 20))
    story = given(RequestRun(asked))
    (told,) = why_run(story.run, RUN, story.now, workflow=None, plan=plan)
    assert told.code == "before_its_time"
    assert "jitter_seconds is 86400" in told.message
