"""What becomes of failures: retries, budgets, delays, timeouts."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from shared.decide.commands import Advance
from shared.decide.retrying import CAPACITY_ATTEMPTS, CAPACITY_DELAY_MAX_SECONDS, INFRASTRUCTURE_ATTEMPTS, retry_at
from shared.decide.run import PAYLOAD_BYTES_MAX
from shared.effects import ObserveAttempt, StopAttempt, due_of_job, due_of_run, effects_of_run, pending_of_run
from shared.ids import JobName
from shared.template.bounds import VALUE_DEPTH_MAX
from shared.workflow.document import Retry
from tests.rules.sentences import (
    NOON,
    RUN,
    Says,
    Story,
    failed,
    finished,
    given,
    hours,
    job,
    minutes,
    queued,
    ready,
    report,
    requested,
    seconds,
    settled,
    started,
    stop_requested,
    submitted,
    succeeded,
)


def test_a_failed_attempt_is_tried_again_after_the_delay() -> None:
    story = given(requested(job("load", retry=2)))
    story = story.when(report("load", "failed")).then(failed("load", retry_at=NOON + minutes(1)))
    assert due_of_run(story.run, story.now) == NOON + minutes(1)
    story.given(seconds(59)).when(Advance()).then_nothing()
    story = story.given(seconds(60)).when(Advance()).then(ready("load"), queued("load", 2))
    story.when(report("load", "failed", attempt=2)).then(failed("load", 2), finished("failed"))


def test_delays_grow_up_to_their_bound() -> None:
    rule = {"attempts": 6, "delay_seconds": 10, "backoff": 3, "delay_max_seconds": 100}
    story = given(requested(job("load", retry=rule)))
    delays = []
    for attempt in range(1, 6):
        story = story.given(report("load", "failed", attempt=attempt))
        due = due_of_run(story.run, story.now)
        assert due is not None
        delays.append((due - story.now).total_seconds())
        story = story.given(due - story.now, Advance())
    assert delays == [10, 30, 90, 100, 100]


@pytest.mark.parametrize(
    ("failure", "rule", "tries"),
    [
        ("user", {"attempts": 4}, 4),
        ("user", {}, 1),
        ("infrastructure", {}, INFRASTRUCTURE_ATTEMPTS),
        ("infrastructure", {"attempts": 5}, 5),
        ("infrastructure", {"attempts": 5, "infrastructure": {"attempts": 2}}, 2),
        ("capacity", {"capacity": {"attempts": 7}}, 7),
        ("capacity", {}, CAPACITY_ATTEMPTS),
        ("timeout", {"attempts": 2}, 2),
        ("timeout", {"attempts": 2, "timeout": {"attempts": 1}}, 1),
        ("refused", {"attempts": 9}, 1),
    ],
)
def test_each_class_of_failure_has_its_own_budget(failure: Any, rule: dict[str, Any], tries: int) -> None:
    story = given(requested(job("load", retry={"delay_seconds": 1, **rule})))
    for attempt in range(1, tries + 1):
        assert story.statuses == {"load": "queued"}
        story = story.given(report("load", "failed", attempt=attempt, failure=failure), hours(1), Advance())
    assert story.run.status == "failed"
    assert len(story.job("load").attempts) == tries


def test_a_lack_of_capacity_or_a_reclaimed_spot_host_burns_nobody_elses_budget() -> None:
    """Fault 13."""
    story = given(requested(job("load", retry=2)))
    for attempt, failure in enumerate(["capacity", "infrastructure", "user", "capacity", "infrastructure"], 1):
        story = story.given(report("load", "failed", attempt=attempt, failure=failure), hours(1), Advance())
        assert story.statuses == {"load": "queued"}, failure
    story.when(report("load", "failed", attempt=6)).then(failed("load", 6), finished("failed"))


def test_capacity_is_asked_for_more_and_more_rarely_but_never_more_rarely_than_every_five_minutes() -> None:
    delay = retry_at(
        Retry(jitter=0),
        run=RUN,
        job=JobName("load"),
        attempt=50,
        failure="capacity",
        earlier=(),
        round_number=1,
        now=NOON,
    )
    assert delay == NOON + seconds(30)
    story = given(requested(job("load", retry={"capacity": {"attempts": 30}})))
    for attempt in range(1, 20):
        story = story.given(report("load", "failed", attempt=attempt, failure="capacity"), hours(1), Advance())
    last = story.done(report("load", "failed", attempt=20, failure="capacity"))[1][0]
    assert getattr(last, "retry_at", None) == story.now + seconds(CAPACITY_DELAY_MAX_SECONDS)


@examples(st.integers(1, 900), st.floats(0, 86_400), st.floats(0, 1), st.floats(1, 10))
def test_delays_are_spread_the_same_way_whenever_they_are_computed(
    attempt: int, delay: float, jitter: float, backoff: float
) -> None:
    rule = Retry(attempts=1000, delay_seconds=delay, jitter=jitter, backoff=backoff, delay_max_seconds=86_400)

    def again(number: int) -> timedelta:
        at = retry_at(
            rule, run=RUN, job=JobName("load"), attempt=number, failure="user", earlier=(), round_number=1, now=NOON
        )
        assert at is not None
        return at - NOON

    assert again(attempt) == again(attempt)
    assert delay * (1 - jitter / 2) - 1 <= again(attempt).total_seconds() <= min(delay * (1 + jitter / 2) + 1, 86_400)


def test_two_jobs_that_failed_together_do_not_return_together() -> None:
    rule = {"attempts": 2, "delay_seconds": 100, "jitter": 0.5}
    story = given(requested(job("a", retry=rule), job("b", retry=rule)), report("a", "failed"), report("b", "failed"))
    moments = {str(name): story.job(name).phase.retry_at for name in ("a", "b")}  # type: ignore[union-attr]
    assert moments["a"] != moments["b"]


def test_outputs_too_large_for_the_history_fail_the_attempt_and_say_so() -> None:
    """Fault 55."""
    outputs = {"blob": "x" * PAYLOAD_BYTES_MAX}
    given(requested()).when(report("load", "succeeded", outputs=outputs)).then(
        failed("load", reason=Says("outputs take")), finished("failed")
    )


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ({"note": "\ud800"}, "half of a surrogate pair"),
        ({"notes": [{"\udfff": 1}]}, "half of a surrogate pair"),
        (nested(VALUE_DEPTH_MAX + 1), "nested more than 64 deep"),
        (nested(5000), "nested more than 64 deep"),
        ({"rows": float("inf")}, "too large"),
    ],
)
def test_outputs_that_no_event_can_hold_fail_the_attempt_and_not_the_engine(outputs: dict[str, Any], why: str) -> None:
    """Fault 55: all of these are what a JSON parser makes of some text that a job may write."""
    given(requested()).when(report("load", "succeeded", outputs=outputs)).then(
        failed("load", reason=Says(why)), finished("failed")
    )


def test_outputs_at_the_greatest_depth_are_kept() -> None:
    outputs = nested(VALUE_DEPTH_MAX)
    story = given(requested()).given(report("load", "succeeded", outputs=outputs))
    assert story.job("load").outputs == outputs


def test_a_reason_that_is_no_text_is_told_as_far_as_it_is_one() -> None:
    """A target may quote a file name, and those are any bytes."""
    given(requested()).when(report("load", "failed", reason="no file caf\udce9")).then(
        failed("load", reason="no file caf?"), finished("failed")
    )


def test_outputs_of_a_failure_are_kept() -> None:
    story = given(requested(job("load", retry=2))).given(report("load", "failed", outputs={"rows": 3}))
    assert story.job("load").outputs == {"rows": 3}


# --- timeouts ---------------------------------------------------------------------------------------------------------


def bounded(retry: Any = 2, **timeouts: float) -> Story:
    return given(requested(job("load", retry=retry, timeouts=timeouts)))


def test_an_attempt_that_waits_too_long_for_the_target_is_stopped_and_tried_again() -> None:
    story = bounded(queue_minutes=5)
    story.given(minutes(4)).when(Advance()).then_nothing()
    story = (
        story.given(minutes(5)).when(Advance()).then(stop_requested("load", cause="timeout", reason="queue timeout"))
    )
    assert effects_of_run(story.run, story.events)[-1] == StopAttempt(RUN, JobName("load"), 1)
    story = story.when(report("load", "missing")).then(
        failed("load", failure="timeout", reason="queue timeout", retry_at=story.now + minutes(1))
    )
    assert story.job("load").attempts[0].status == "timed_out"


def test_a_job_that_never_gets_a_place_times_out_without_an_attempt() -> None:
    story = given(requested(job("a"), job("b", timeouts={"queue_minutes": 5}), parallelism=1))
    assert due_of_job(story.run, JobName("b"), story.now + minutes(2)) == NOON + minutes(5), (
        "and not every minute before"
    )
    story.given(minutes(5)).when(Advance()).then(settled("b", "timed_out"))


def test_the_wait_for_a_place_counts_as_waiting_for_the_target() -> None:
    story = given(requested(job("a"), job("b", timeouts={"queue_minutes": 5}), parallelism=1))
    story = story.given(minutes(4), report("a", "succeeded"))
    story.given(minutes(1)).when(Advance()).then(stop_requested("b", cause="timeout", reason="queue timeout"))


def test_an_attempt_that_never_begins_to_run_is_stopped() -> None:
    story = bounded(start_minutes=3).given(report("load", "submitted", handle="h1"))
    story.given(minutes(3)).when(Advance()).then(stop_requested("load", cause="timeout", reason="start timeout"))


def test_waiting_at_the_target_is_not_running() -> None:
    story = bounded(run_minutes=3).given(report("load", "submitted", handle="h1"), hours(2))
    story.when(Advance()).then_nothing()
    story = story.when(report("load", "running", handle="h1", started_at=story.now)).then(started("load"))
    story.given(minutes(3)).when(Advance()).then(stop_requested("load", cause="timeout", reason="run timeout"))


def test_a_target_that_does_not_say_since_when_it_runs_it_is_taken_to_run_since_now() -> None:
    story = bounded(run_minutes=3).given(report("load", "submitted", handle="h1"), minutes(1))
    story.when(report("load", "running", handle="h1")).then(started("load", started_at=NOON + minutes(1)))


@pytest.mark.parametrize("wrong", [hours(-30), hours(30)])
def test_a_wrong_clock_at_the_target_times_nothing_out_too_early_or_never(wrong: timedelta) -> None:
    """Fault 36."""
    story = bounded(run_minutes=10).given(minutes(1), report("load", "running", handle="h1", started_at=NOON + wrong))
    phase = story.job("load").phase
    assert NOON <= phase.started_at <= story.now  # type: ignore[union-attr,operator]
    story.when(Advance()).then_nothing()
    story.given(minutes(10)).when(Advance()).then(stop_requested("load", cause="timeout"))


@pytest.mark.parametrize("wrong", [hours(-30), hours(30)])
@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_an_end_that_a_target_dates_into_the_future_or_the_past_is_dated_as_it_can_have_been(
    end: Any, wrong: timedelta
) -> None:
    """Fault 36."""
    story = bounded(retry=1).given(minutes(1), report("load", "submitted", handle="h1"), minutes(5))
    at = story.now + wrong
    story = story.given(report("load", end, handle="h1", started_at=at, ended_at=at))
    (attempt,) = story.job("load").attempts
    assert attempt.started_at == attempt.ended_at == (NOON if wrong < hours(0) else story.now)
    assert attempt.recorded_at == story.now


def test_what_is_ended_for_taking_too_long_has_timed_out_whatever_its_exit_code() -> None:
    story = bounded(run_minutes=3).given(report("load", "running", handle="h1"), minutes(3), Advance())
    for how in ("cancelled", "failed", "unknown"):
        story.when(report("load", how, handle="h1", exit_code=143)).then(
            failed("load", failure="timeout", exit_code=143, retry_at=story.now + minutes(1))
        )


def test_a_failure_that_was_there_before_the_timeout_is_a_failure() -> None:
    story = bounded(run_minutes=3).given(report("load", "running", handle="h1"), minutes(3), Advance())
    story.when(report("load", "failed", handle="h1", exit_code=1, ended_at=NOON + minutes(2))).then(
        failed("load", failure="user", retry_at=story.now + minutes(1))
    )


def test_a_success_that_comes_while_a_timeout_is_being_carried_out_is_a_success() -> None:
    story = bounded(run_minutes=3).given(report("load", "running", handle="h1"), minutes(3), Advance())
    story.when(report("load", "succeeded", handle="h1")).then(succeeded("load"), finished("succeeded"))


def test_the_total_counts_over_all_attempts_and_is_not_followed_by_another() -> None:
    story = bounded(retry=9, total_minutes=10).given(report("load", "failed"), minutes(1), Advance())
    story = (
        story.given(minutes(9)).when(Advance()).then(stop_requested("load", 2, cause="timeout", reason="total timeout"))
    )
    story = story.when(report("load", "missing", attempt=2)).then(
        failed("load", 2, failure="timeout"), finished("failed")
    )
    assert story.statuses == {"load": "timed_out"}


def test_a_retry_that_would_come_after_the_total_is_not_waited_for() -> None:
    story = bounded(retry={"attempts": 9, "delay_seconds": 600}, total_minutes=5)
    story.when(report("load", "failed")).then(failed("load"), finished("failed"))


def test_a_job_that_waits_for_a_place_again_can_run_out_of_its_total() -> None:
    long = job("b", timeouts={"total_minutes": 5}, retry={"attempts": 3, "delay_seconds": 60})
    story = given(requested(long, job("a"), parallelism=1), report("b", "failed"), minutes(1), Advance())
    assert story.statuses == {"b": "ready", "a": "queued"}
    story.given(minutes(4)).when(Advance()).then(settled("b", "timed_out", reason="total timeout"))


# --- polls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lateness", [0.0, 0.5, 30, 59])
def test_a_sweep_that_comes_a_little_late_still_asks_the_target(lateness: float) -> None:
    story = given(requested()).given(report("load", "submitted", handle="h1"))
    due = due_of_run(story.run, story.now)
    assert due == NOON + seconds(60), "hosts are asked every minute"
    assert pending_of_run(story.run, due + seconds(lateness)) == [ObserveAttempt(RUN, JobName("load"), 1)]
    assert pending_of_run(story.run, due - seconds(1)) == []


def test_a_sweep_that_comes_much_too_late_knows_from_its_row_whom_to_ask() -> None:
    story = given(requested(job("load", type="ecs"))).given(report("load", "submitted", handle="h1"))
    due = due_of_run(story.run, story.now)
    assert due == NOON + seconds(600)
    assert pending_of_run(story.run, due + seconds(500)) == []
    assert pending_of_run(story.run, due + seconds(500), since=due) == [ObserveAttempt(RUN, JobName("load"), 1)]


def test_polls_become_rarer_with_age_but_never_stop() -> None:
    story = given(requested()).given(report("load", "submitted", handle="h1"))
    at, gaps = story.now, []
    for _ in range(60):
        due = due_of_run(story.run, at)
        assert due is not None
        gaps.append((due - at).total_seconds())
        at = due
    assert gaps[0] == 60
    assert max(gaps) <= 900
    assert sum(gaps[-5:]) > sum(gaps[:5])


def test_what_is_submitted_after_its_stop_was_asked_for_is_stopped_at_once() -> None:
    story = bounded(queue_minutes=5).given(minutes(5), Advance())
    after, decided = story.done(report("load", "submitted", handle="h1"))
    assert submitted("load").matches(decided[0])
    assert effects_of_run(after.run, decided) == [StopAttempt(RUN, JobName("load"), 1)]


def test_what_is_out_of_time_when_somebody_looks_at_last_is_not_tried_again() -> None:
    story = bounded(retry=3, total_minutes=5).given(report("load", "failed"), minutes(6))
    story.when(Advance()).then(settled("load", "timed_out", reason="total timeout"), finished("failed"))
