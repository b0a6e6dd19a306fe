"""Corners of the rules in which deliberate bugs (`docs/mutants.md`) were not noticed by the sentences of the other files."""

import pytest

from shared.decide.commands import Advance, CancelJob, CancelRun, PauseWorkflow, ResumeWorkflow, Tick
from shared.decide.run import FLAG_AFTER, MISSING_AFTER, RunDraft, decide_on
from shared.effects import ObserveAttempt, StopAttempt, due_of_run, effects_of_run, pending_of_run
from shared.events import RunAdmitted, RunHeld
from shared.ids import JobName
from shared.views.rows import run_row, workflow_row
from tests.rules.sentences import (
    NOON,
    RUN,
    Says,
    cancel_requested,
    claim,
    document,
    ended,
    failed,
    finished,
    given,
    given_workflow,
    hours,
    job,
    late,
    minutes,
    plans,
    register,
    reopen,
    report,
    requested,
    seconds,
    stop_requested,
    submitted,
    succeeded,
)
from tests.rules.test_workflow_admission import TICK, at, daily, run_at, scheduled

LOAD = JobName("load")


@pytest.mark.parametrize("end", ["succeeded", "failed", "running"])
def test_another_execution_does_not_end_a_doubt_about_the_one_that_is_bound(end: str) -> None:
    """I1."""
    story = given(requested(job("load"))).given(report("load", "running", handle="h1"), MISSING_AFTER)
    story = story.given(report("load", "missing", handle="h1"))
    assert story.statuses == {"load": "doubt"}
    story = story.when(report("load", end, handle="h2")).then(late("load", 1, Says("another execution: h2"), "h2"))
    story.when(report("load", "succeeded", handle="h1")).then(succeeded("load"), finished("succeeded"))


def test_what_had_failed_before_a_person_cancelled_it_is_not_tried_again() -> None:
    """I12, fault 56."""
    story = given(requested(job("load", retry=3))).given(report("load", "running", handle="h1"), minutes(2))
    story = story.given(CancelJob(LOAD, "ada"))
    story.when(report("load", "failed", handle="h1", exit_code=1, ended_at=NOON + minutes(1))).then(
        failed("load"), finished("failed")
    )


def test_cancelling_a_run_also_cancels_what_a_timeout_is_ending() -> None:
    """I12: it would be tried again otherwise, or never count as told."""
    story = given(requested(job("load", retry=3, timeouts={"queue_minutes": 1})), minutes(1), Advance())
    story = story.when(CancelRun("ada")).then(
        cancel_requested(), stop_requested("load", flag_at=story.now + seconds(30) + FLAG_AFTER)
    )
    assert not story.run.cancelling


def test_the_bound_on_all_attempts_begins_anew_in_each_round() -> None:
    plan = document(job("load", timeouts={"total_minutes": 10}))
    story = given(requested(plan), report("load", "failed"), hours(1), reopen(plan, failed=True), minutes(9))
    story = story.when(Advance()).then_nothing()
    story.given(minutes(1)).when(Advance()).then(stop_requested("load", 2, cause="timeout"))


def test_a_batch_that_is_cut_while_it_fills_places_says_so() -> None:
    """Places that nobody fills would wait for the sweep."""
    story = given(requested(*(job(f"j{n}") for n in range(900)), parallelism=200)).to_its_end()
    # An odd number of events before those that come in pairs: the last place cannot be filled.
    draft = RunDraft(story.run, plans, story.now)
    decide_on(draft, report("j0", "submitted", handle="h0"))
    for number in range(1, 200):
        if draft.room:
            decide_on(draft, report(f"j{number}", "succeeded"))
    assert draft.fold.active == 199
    assert draft.truncated


def test_a_person_and_a_flag_leave_nothing_behind_in_a_retry() -> None:
    """I8: counts of flagged and stopping attempts are what lists show."""
    story = given(requested(job("load", retry=3, timeouts={"queue_minutes": 1})), minutes(1), Advance())
    story = story.given(minutes(30), Advance())
    assert story.run.flagged == 1
    story = story.given(report("load", "missing"))
    assert story.statuses == {"load": "backoff"}
    assert (story.run.flagged, story.run.stopping, story.run.active) == (0, 0, 0)


def test_every_second_execution_is_known_and_none_is_recorded_twice() -> None:
    """I1, fault 32."""
    story = given(requested(job("load"))).given(report("load", "running", handle="h1"))
    for handle in ("h2", "h3"):
        story = story.when(report("load", "running", handle=handle)).then(late("load", 1, Says(handle), handle))
    story = story.when(report("load", "running", handle="h2")).then_nothing()
    assert dict(story.job("load").strays or {}) == {"h2": 1, "h3": 1}


@pytest.mark.parametrize("status", ["submitted", "running"])
def test_what_is_bound_after_its_stop_was_asked_for_is_stopped_at_once(status: str) -> None:
    """I12."""
    story = given(requested(job("load"))).given(CancelRun("ada")).when(report("load", status, handle="h1"))
    bound = story.then(submitted("load"))
    assert effects_of_run(bound.run, bound.events[-1:]) == [StopAttempt(RUN, LOAD, 1)]


def test_a_claim_is_looked_at_as_soon_as_its_time_has_passed() -> None:
    """I7, fault 1: whoever claimed may have died before sending."""
    story = given(requested(job("load"))).given(claim("load", send_before=NOON + seconds(45)))
    assert due_of_run(story.run, story.now) == NOON + seconds(45)
    assert pending_of_run(story.run, NOON + seconds(45)) == [ObserveAttempt(RUN, LOAD, 1)]


def test_who_waited_during_a_pause_goes_before_what_fell_due_in_it() -> None:
    hourly = scheduled({"cron": "0 * * * *"}, catchup="all", overlap="queue")
    story = given_workflow(register(hourly), hours(1), TICK, hours(1), TICK)
    assert [one.run for one in story.workflow.held] == [run_at(at(14))]
    # Its end lets nobody in, because the workflow is paused.
    story = story.given(PauseWorkflow("ada"), ended(run_at(at(13))), hours(1))
    story, decided = story.done(ResumeWorkflow("ada"))
    assert [event.run for event in decided if isinstance(event, RunAdmitted)] == [run_at(at(14))]
    assert [event.run for event in decided if isinstance(event, RunHeld)] == [run_at(at(15))]


def test_an_instant_that_is_a_run_is_no_second_one_under_another_schedule() -> None:
    """I6, fault 37."""
    story = given_workflow(register(daily()), hours(1), TICK)
    assert list(story.workflow.holders) == [run_at(at(13))]
    story, decided = story.given(minutes(5)).done(register(scheduled({"at": "2026-03-02T13:00:00+00:00"})))
    assert not [event for event in decided if isinstance(event, RunAdmitted | RunHeld)]
    assert not story.done(Tick())[1]


# --- what lists show of it -------------------------------------------------------------------------------------------------


def test_a_run_asks_for_attention_for_each_thing_that_needs_it() -> None:
    """I12: a stop that nobody confirmed is to be seen, whatever else is wrong."""
    story = given(requested(job("a"), job("b"))).given(report("b", "unknown", reason="silence"))
    story = story.given(report("a", "running", handle="h1"), CancelJob(JobName("a"), "ada"), hours(2), Advance())
    row = run_row(story.run, 9)
    assert row.attention == ("doubt", "stop_flagged")
    assert row.jobs == {"doubt": 1, "running": 1}


def test_a_paused_workflow_shows_no_next_run() -> None:
    story = given_workflow(register(daily()))
    assert workflow_row(story.workflow, 1, None).next_at == at(13)
    assert workflow_row(story.given(PauseWorkflow("ada")).workflow, 2, None).next_at is None
