"""`deadline` and `late`: what the clock says of a run, each thing once a round, by whatever comes first after its moment."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import settings
from hypothesis import strategies as st

from shared.decide.commands import Advance, CancelRun
from shared.effects import AdvanceRun, due_of_run, pending_of_run
from shared.events import DeadlineMissed, RunBecameLate
from shared.explain.run import why_run
from shared.ids import run_stream
from shared.usecases.verify import Handles
from shared.usecases.verify.run import RunChecker
from shared.views.objects import run_object
from shared.views.rows import run_row
from tests.rules.sentences import (
    NOON,
    RUN,
    Fact,
    Story,
    cancel_requested,
    document,
    fact,
    finished,
    given,
    hours,
    job,
    minutes,
    opened,
    plans,
    queued,
    reopen,
    reopened,
    report,
    requested,
    seconds,
    stop_requested,
    submitted,
    succeeded,
)

DEADLINE = {"deadline": {"minutes": 60}}


def deadline_missed(at: Any) -> Fact:
    return fact(DeadlineMissed, due_at=at)


def late(cause: str, at: Any) -> Fact:
    return fact(RunBecameLate, cause=cause, due_at=at)


def under_way(**fields: Any) -> Story:
    return given(requested(job("load"), **fields), report("load", "submitted", handle="h1"))


def test_a_run_that_has_not_ended_by_its_deadline_has_missed_it() -> None:
    under_way(**DEADLINE).given(minutes(60)).when(Advance()).then(deadline_missed(NOON + minutes(60)))


def test_before_its_deadline_nothing_is_said() -> None:
    under_way(**DEADLINE).given(minutes(60) - seconds(1)).when(Advance()).then_nothing()


def test_a_run_that_ends_too_late_between_two_looks_has_missed_its_deadline_all_the_same() -> None:
    under_way(**DEADLINE).given(minutes(61)).when(report("load", "succeeded", handle="h1")).then(
        succeeded("load"), deadline_missed(NOON + minutes(60)), finished("succeeded")
    )


def test_a_deadline_counts_from_the_scheduled_instant() -> None:
    request = {"trigger": "schedule", "scheduled_at": NOON - minutes(45)}
    story = given(requested(job("load"), request=request, **DEADLINE), minutes(15))
    story.when(Advance()).then(deadline_missed(NOON + minutes(15)))


def test_what_fills_up_the_past_has_a_deadline_from_now_on() -> None:
    request = {"trigger": "backfill", "scheduled_at": NOON - hours(1000)}
    story = given(requested(job("load"), request=request, **DEADLINE))
    story.given(minutes(59)).when(Advance()).then_nothing()
    story.given(minutes(60)).when(Advance()).then(deadline_missed(NOON + minutes(60)))


def test_a_run_that_was_let_in_after_its_deadline_has_missed_it_from_the_first_moment() -> None:
    request = {"trigger": "schedule", "scheduled_at": NOON - hours(2)}
    story = given(requested(job("load"), request=request, late={"start_minutes": 10}, **DEADLINE))
    assert story.run.pace.missed_due_at == NOON - hours(1)
    assert story.run.pace.late_due_at == NOON - minutes(110)
    story.when(Advance()).then_nothing()


def test_a_deadline_of_a_run_that_may_start_later_counts_from_then() -> None:
    story = given(requested(job("load"), request={"start_after": NOON + hours(3)}, **DEADLINE))
    assert due_of_run(story.run, NOON) == NOON + hours(3)
    story.given(hours(3)).when(Advance()).then(opened(), queued("load")).given(hours(1)).when(Advance()).then(
        deadline_missed(NOON + hours(4))
    )


def test_a_run_that_starts_too_late_is_late_also_when_it_starts_at_that_very_look() -> None:
    request = {"trigger": "schedule", "scheduled_at": NOON - minutes(6)}
    story = given(requested(job("load"), request=request, late={"start_minutes": 5}))
    assert [event.type for event in story.events] == ["RunRequested", "RunBecameLate", "AttemptQueued"]


def test_a_run_that_started_in_time_is_not_late_for_its_start() -> None:
    under_way(late={"start_minutes": 5}).given(hours(9)).when(Advance()).then_nothing()


def test_a_run_that_takes_longer_than_expected_is_late_once() -> None:
    story = under_way(late={"expected_minutes": 30}).given(minutes(30))
    after = story.when(Advance()).then(late("duration", NOON + minutes(30)))
    after.given(hours(5)).when(Advance()).then_nothing()


def test_a_run_is_late_once_a_round_whatever_the_cause() -> None:
    request = {"trigger": "schedule", "scheduled_at": NOON - minutes(6)}
    story = given(requested(job("load"), request=request, late={"start_minutes": 5, "expected_minutes": 30}))
    story.given(hours(2)).when(Advance()).then_nothing()


def test_each_round_is_counted_from_when_it_was_asked_for() -> None:
    plan = document(job("load"), **DEADLINE)
    story = given(requested(plan), hours(2), report("load", "succeeded", handle="h1"), hours(1))
    assert story.run.pace.missed_due_at is not None
    story = story.when(reopen(plan, "load")).then(reopened(plan, "load"), queued("load", 2), again="has not finished")
    story.given(minutes(59)).when(Advance()).then_nothing()
    story.given(minutes(60)).when(Advance()).then(deadline_missed(NOON + hours(4)))


def test_a_run_that_is_being_cancelled_may_miss_its_deadline_as_well() -> None:
    story = under_way(**DEADLINE).given(minutes(59))
    story = story.when(CancelRun("ada")).then(cancel_requested(), stop_requested("load"))
    story.given(minutes(1)).when(Advance()).then(deadline_missed(NOON + minutes(60)))


def test_the_due_row_is_not_later_than_what_the_clock_will_say() -> None:
    run = under_way(late={"expected_minutes": 4}, deadline={"minutes": 3.5}).run
    assert due_of_run(run, NOON + minutes(3)) == NOON + minutes(3.5)


def test_what_the_clock_has_to_say_is_handed_over_by_the_sweep_and_only_until_it_is_said() -> None:
    story = under_way(**DEADLINE).given(minutes(60))
    assert AdvanceRun(RUN) in pending_of_run(story.run, story.now)
    said = story.given(Advance())
    assert AdvanceRun(RUN) not in pending_of_run(said.run, said.now)


def test_a_late_run_is_shown_as_such_in_lists_and_by_itself() -> None:
    story = under_way(late={"expected_minutes": 30}, **DEADLINE).given(minutes(61), Advance())
    assert run_row(story.run, 3).attention == ("late", "deadline_missed")
    shown = run_object(story.run, 3)
    assert shown["attention"] == ["late", "deadline_missed"]
    assert shown["lateness"] == {
        "deadline_at": "2026-03-02T13:00:00Z",
        "deadline_missed": True,
        "late_since": "2026-03-02T12:30:00Z",
        "late_cause": "duration",
    }


def test_why_says_how_a_run_does_against_the_clock() -> None:
    story = under_way(late={"expected_minutes": 30}, **DEADLINE)
    codes = [one.code for one in why_run(story.run, RUN, story.now, workflow=None, plan=None)]
    assert codes == ["submitted", "deadline"]
    story = story.given(minutes(61), Advance())
    codes = [one.code for one in why_run(story.run, RUN, story.now, workflow=None, plan=None)]
    assert codes == ["submitted", "late", "deadline_missed"]


def test_without_deadline_or_late_nothing_is_ever_said() -> None:
    under_way().given(hours(1000)).when(Advance()).then_nothing()


def test_verify_tells_of_lateness_that_was_told_twice_too_early_or_unasked() -> None:
    checker = RunChecker(run_stream(RUN), plans, Handles())
    story = under_way(**DEADLINE)
    found = [one for at, commit in story.history for event in commit for one in checker.check(event, at, "x")]
    assert found == []
    missed = DeadlineMissed(due_at=NOON + minutes(60))
    assert [one[0] for one in checker.check(missed, NOON + minutes(59), "sweep")] == ["I4"]
    assert [one[0] for one in checker.check(missed, NOON + minutes(60), "sweep")] == ["I3"]
    unasked = RunBecameLate(cause="start", due_at=NOON)
    assert [one[0] for one in checker.check(unasked, NOON + minutes(60), "sweep")] == ["I8"]


@sampled(
    looks=st.lists(st.integers(0, 200), max_size=8),
    end=st.integers(0, 200),
    start=st.none() | st.integers(1, 100),
    expected=st.none() | st.integers(1, 100),
    deadline=st.none() | st.integers(1, 100),
    delay=st.integers(0, 90),
)
@settings(max_examples=200)
def test_whenever_it_is_looked_at_each_is_said_exactly_once_iff_its_moment_came_before_the_end(
    looks: list[int], end: int, start: int | None, expected: int | None, deadline: int | None, delay: int
) -> None:
    fields: dict[str, Any] = {}
    if start or expected:
        fields["late"] = {
            name: value for name, value in (("start_minutes", start), ("expected_minutes", expected)) if value
        }
    if deadline:
        fields["deadline"] = {"minutes": deadline}
    request = {"trigger": "schedule", "scheduled_at": NOON - minutes(delay)}
    story = given(requested(job("load"), request=request, **fields), report("load", "submitted", handle="h1"))
    for look in sorted(one for one in looks if one <= end):
        story = story.given(max(NOON + minutes(look) - story.now, timedelta(0)), Advance())
    story = story.given(NOON + minutes(end) - story.now, report("load", "succeeded", handle="h1"))
    said = [event.type for event in story.events]
    started_late = start is not None and delay >= start
    took_long = expected is not None and end >= expected
    assert said.count("RunBecameLate") == (started_late or took_long)
    assert said.count("DeadlineMissed") == (deadline is not None and delay + end >= deadline)
    assert said[-1] == "RunFinished"


@pytest.mark.parametrize("attempt", [1, 2])
def test_retries_do_not_begin_the_clock_anew(attempt: int) -> None:
    story = given(requested(job("load", retry=2), late={"expected_minutes": 30}), minutes(10))
    if attempt == 2:
        story = story.given(report("load", "failed", handle="h1"), minutes(5), Advance())
        story = story.when(report("load", "submitted", 2, handle="h2")).then(submitted("load", 2, handle="h2"))
    story.given(NOON + minutes(30) - story.now).when(Advance()).then(late("duration", NOON + minutes(30)))
