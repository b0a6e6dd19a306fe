"""What people do to a run: cancel it or a job, mark a job, run it again."""

from datetime import timedelta
from typing import Any

import pytest

from shared.decide.commands import Advance, CancelJob, CancelRun, MarkJob, RecordStopSent, ReopenRun
from shared.decide.run import FLAG_AFTER
from shared.effects import StopAttempt, due_of_run, effects_of_run, pending_of_jobs, pending_of_run
from shared.events import AttemptQueued, RunReopened
from shared.ids import Handle, JobName, attempt_token
from tests.rules.sentences import (
    NOON,
    RUN,
    Says,
    Story,
    cancel_requested,
    cancelled,
    claim,
    days,
    document,
    failed,
    finished,
    given,
    hours,
    job,
    late,
    marked,
    minutes,
    opened,
    queued,
    reopen,
    reopened,
    report,
    requested,
    seconds,
    settled,
    stop_flagged,
    stop_requested,
    stop_sent,
    submitted,
    succeeded,
)

LOAD = JobName("load")
CANCEL = CancelRun("ada", "wrong day")


def under_way(**fields: Any) -> dict[str, Story]:
    """A run of one job with its attempt in each open phase."""
    start = given(requested(job("load", **fields)))
    return {
        "queued": start,
        "claimed": start.given(claim("load", send_before=NOON + minutes(1))),
        "submitted": start.given(report("load", "submitted", handle="h1")),
        "running": start.given(report("load", "running", handle="h1")),
        "doubt": start.given(report("load", "unknown", reason="silence")),
    }


# --- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["queued", "claimed", "submitted", "running", "doubt"])
def test_cancelling_asks_whatever_is_under_way_to_stop_and_ends_the_rest(phase: str) -> None:
    story = under_way()[phase]
    story = story.when(CANCEL).then(cancel_requested(), stop_requested("load", flag_at=NOON + seconds(30) + FLAG_AFTER))
    assert effects_of_run(story.run, story.events)[-1] == StopAttempt(RUN, LOAD, 1)
    assert story.run.outcome is None, "nothing that may be running has ended before the target says so"


def test_cancelling_ends_at_once_what_has_not_begun() -> None:
    story = given(
        requested(job("a", retry=3), job("b"), job("c", after=["b"]), parallelism=1),
        report("a", "failed"),
        minutes(1),
    )
    assert story.statuses == {"a": "backoff", "b": "queued", "c": "waiting"}
    story.when(CANCEL).then(
        cancel_requested(), settled("a", "cancelled"), stop_requested("b"), settled("c", "cancelled")
    )


def test_a_stop_is_sent_confirmed_and_ends_the_run() -> None:
    story = under_way()["running"].given(CANCEL).when(RecordStopSent(LOAD, 1)).then(stop_sent("load"))
    story = story.when(report("load", "cancelled", handle="h1", exit_code=143)).then(
        cancelled("load", exit_code=143), finished("cancelled")
    )
    assert story.job("load").attempts[0].reason == "the run was cancelled by ada"


def test_what_ends_badly_after_it_was_cancelled_was_cancelled() -> None:
    story = under_way(retry=5)["running"].given(CANCEL)
    story.when(report("load", "failed", handle="h1", exit_code=143)).then(
        cancelled("load", exit_code=143), finished("cancelled")
    )


def test_what_had_failed_before_it_was_cancelled_has_failed() -> None:
    story = under_way(retry=5)["running"].given(minutes(2), CANCEL)
    story.when(report("load", "failed", handle="h1", ended_at=NOON + minutes(1))).then(
        failed("load"), finished("failed")
    )


def test_a_success_that_comes_after_the_cancellation_is_a_success() -> None:
    """Faults 20 and 56: which came first is recorded, and the work was done."""
    story = under_way()["running"].given(CANCEL, RecordStopSent(LOAD, 1))
    story.when(report("load", "succeeded", handle="h1")).then(succeeded("load"), finished("succeeded"))


def test_nothing_is_tried_again_in_a_cancelled_run_and_nothing_new_begins() -> None:
    story = given(requested(job("a", retry=9), job("b", after=["a"], when="all_done"))).given(CANCEL)
    story = story.when(report("a", "failed", failure="infrastructure")).then(cancelled("a"), finished("cancelled"))
    assert story.statuses == {"a": "cancelled", "b": "cancelled"}


@pytest.mark.parametrize("phase", ["queued", "claimed", "submitted", "running", "doubt"])
def test_a_stop_that_nobody_confirms_is_asked_for_again_and_flagged(phase: str) -> None:
    """I12."""
    story = under_way()[phase].given(CANCEL)
    assert pending_of_run(story.run, story.now + seconds(60)) == [StopAttempt(RUN, LOAD, 1)]
    story = story.given(FLAG_AFTER + seconds(30)).when(Advance()).then(stop_flagged("load"))
    assert story.run.flagged == 1
    assert pending_of_run(story.run, story.now + seconds(60)) == [StopAttempt(RUN, LOAD, 1)]
    story = story.given(report("load", "cancelled"))
    assert story.run.flagged == 0


def test_a_flagged_stop_leaves_a_person_a_way_out() -> None:
    story = under_way()["running"].given(CANCEL)
    mark = MarkJob(LOAD, "failed", "ada", "the host burnt down")
    story.when(mark).then_rejected("cancel it first")
    story = (
        story.given(FLAG_AFTER + minutes(1), Advance()).when(mark).then(marked("load", "failed"), finished("failed"))
    )
    assert story.job("load").attempts[0].status == "abandoned"
    assert effects_of_run(story.run, story.events[-2:]) == [StopAttempt(RUN, LOAD, 1, Handle("h1"))]


def test_cancelling_twice_is_cancelling_once_and_cancelling_what_has_ended_is_refused() -> None:
    story = under_way()["running"].given(CANCEL)
    story.when(CancelRun("bob", "me too")).then_nothing()
    given(requested(), report("load", "succeeded")).when(CANCEL).then_rejected("has finished already: succeeded")


def test_one_job_can_be_cancelled_alone() -> None:
    story = given(requested(job("a"), job("b"), job("c", after=["a"]), parallelism=1))
    story.when(CancelJob(JobName("b"), "ada", "not today")).then(
        settled("b", "cancelled", reason="cancelled by ada: not today")
    )
    stopping = story.when(CancelJob(JobName("a"), "ada", "not today")).then(stop_requested("a", reason="ada not today"))
    stopping.when(report("a", "cancelled")).then(
        cancelled("a", reason="ada not today"), settled("c", "upstream_failed"), queued("b")
    )


def test_a_person_may_cancel_what_a_timeout_is_ending() -> None:
    story = given(requested(job("load", retry=3, timeouts={"queue_minutes": 1})), minutes(1), Advance())
    story = story.when(CancelJob(LOAD, "ada")).then(stop_requested("load", cause="cancel"))
    story.when(report("load", "missing")).then(cancelled("load"), finished("failed"))


def test_cancelling_an_unknown_or_ended_job_is_refused() -> None:
    story = given(requested(), report("load", "failed"))
    story.when(CancelJob(JobName("lord"), "ada")).then_rejected("it has load")
    story.when(CancelJob(LOAD, "ada")).then_rejected("has ended already: failed")


# --- mark -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "then"), [("succeeded", "queued"), ("skipped", "skipped"), ("failed", "upstream_failed")]
)
def test_a_waiting_job_that_is_marked_counts_as_marked(outcome: Any, then: str) -> None:
    story = given(requested(job("z"), job("a"), job("b", after=["a"]), parallelism=1))
    assert story.statuses["a"] == "ready"
    story = story.given(MarkJob(JobName("a"), outcome, "ada", "done by hand"), report("z", "succeeded"))
    assert story.statuses == {"z": "succeeded", "a": outcome, "b": then}


def test_a_job_in_backoff_can_be_marked() -> None:
    story = given(requested(job("load", retry=3)), report("load", "failed"))
    story.when(MarkJob(LOAD, "succeeded", "ada", "fixed by hand")).then(
        marked("load", "succeeded"), finished("succeeded")
    )


@pytest.mark.parametrize("phase", ["queued", "claimed", "submitted", "running"])
def test_what_is_under_way_cannot_be_marked(phase: str) -> None:
    under_way()[phase].when(MarkJob(LOAD, "succeeded", "ada", "trust me")).then_rejected("under way (attempt 1)")


def test_a_mark_needs_a_name_and_a_reason() -> None:
    story = given(requested(job("load", retry=2)), report("load", "failed"))
    story.when(MarkJob(LOAD, "succeeded", "", "because")).then_rejected("a person's name")
    story.when(MarkJob(LOAD, "succeeded", "ada", "  ")).then_rejected("and a reason")


def test_a_mark_before_the_decision_about_a_dependant_changes_that_decision() -> None:
    story = given(requested(job("a"), job("x"), job("b", after=["a", "x"])), report("a", "failed"))
    story = story.when(MarkJob(JobName("a"), "succeeded", "ada", "fine")).then(marked("a", "succeeded"))
    story.when(report("x", "succeeded")).then(succeeded("x"), queued("b"))


def test_marking_the_last_bad_job_of_a_finished_run_makes_the_run_good_in_a_round_of_its_own() -> None:
    plan = document(job("a"), job("load"))
    story = given(requested(plan), report("a", "succeeded"), report("load", "failed"))
    story = story.when(MarkJob(LOAD, "succeeded", "ada", "checked by hand")).then(
        marked("load", "succeeded"), reopened(plan), finished("succeeded")
    )
    assert story.run.round == 2
    assert len(story.job("load").attempts) == 1
    assert story.job("load").attempts[0].status == "failed", "I3: what happened stays as it was"


def test_marking_one_of_two_bad_jobs_leaves_the_run_failed_and_a_rerun_goes_on_from_there() -> None:
    plan = document(job("a"), job("b", after=["a"]), job("x"))
    story = given(requested(plan), report("a", "failed"), report("x", "succeeded"))
    story = story.when(MarkJob(JobName("a"), "succeeded", "ada", "fine")).then(marked("a", "succeeded"))
    assert story.run.status == "failed"
    story.when(reopen(plan, failed=True)).then(reopened(plan, failed=True), queued("b"), again="has not finished")


# --- again ------------------------------------------------------------------------------------------------------------


def failed_run() -> tuple[Any, Story]:
    plan = document(
        job("a"),
        job("b", after=["a"], retry=2),
        job("c", after=["b"]),
        job("d"),
        job("e", after=["a", "c"], when="all_done"),
    )
    story = given(
        requested(plan),
        report("a", "succeeded", outputs={"rows": 1}),
        report("d", "succeeded"),
        report("b", "failed"),
        minutes(1),
        Advance(),
        report("b", "failed", attempt=2),
        report("e", "succeeded"),
    )
    assert story.statuses == {
        "a": "succeeded",
        "b": "failed",
        "c": "upstream_failed",
        "d": "succeeded",
        "e": "succeeded",
    }
    assert story.run.status == "failed"
    return plan, story


def test_rerun_from_failed_repeats_the_bad_jobs_and_what_depends_on_them_and_keeps_the_rest() -> None:
    """I14."""
    plan, story = failed_run()
    story = story.when(reopen(plan, failed=True, request="r1")).then(
        reopened(plan, failed=True, request="r1"), queued("b", 3)
    )
    assert story.statuses == {"a": "succeeded", "b": "queued", "c": "waiting", "d": "succeeded", "e": "waiting"}
    assert story.job("a").outputs == {"rows": 1}
    story = story.given(
        report("b", "succeeded", attempt=3), report("c", "succeeded"), report("e", "succeeded", attempt=2)
    )
    assert story.run.status == "succeeded"
    assert [attempt.round for attempt in story.job("b").attempts] == [1, 1, 2]


def test_a_retry_budget_is_fresh_in_each_round_and_attempt_numbers_go_on() -> None:
    plan, story = failed_run()
    story = story.given(reopen(plan, failed=True))
    story.when(report("b", "failed", attempt=3)).then(failed("b", 3, retry_at=story.now + minutes(1)))


def test_rerun_of_a_named_job_takes_everything_downstream_along() -> None:
    plan, story = failed_run()
    story = story.given(reopen(plan, "a"))
    assert story.statuses == {"a": "queued", "b": "waiting", "c": "waiting", "d": "succeeded", "e": "waiting"}


def test_a_double_click_reruns_once() -> None:
    """Fault 56."""
    plan, story = failed_run()
    story = story.given(reopen(plan, failed=True, request="r1"))
    story.when(reopen(plan, failed=True, request="r1")).then_nothing()
    story.when(reopen(plan, failed=True, request="r2")).then_rejected("has not finished")
    story = story.given(CANCEL, report("b", "cancelled", attempt=3))
    story.when(reopen(plan, failed=True, request="r1")).then_nothing()


def test_there_must_be_something_to_do_again() -> None:
    plan = document(job("a"))
    story = given(requested(plan), report("a", "succeeded"))
    story.when(reopen(plan, failed=True)).then_rejected("nothing to do again")
    story.when(reopen(plan, "z")).then_rejected("has no job z")
    many = ReopenRun(tuple([JobName("a")] * 20_000), False, plan.digest, 1, (), "ada")
    story.when(many).then_rejected("too many to name")


def test_a_rerun_on_a_newer_document_starts_its_new_jobs_and_forgets_those_that_are_gone() -> None:
    _, story = failed_run()
    newer = document(job("a"), job("b2", after=["a"]), job("d"), job("e", after=["a", "b2"]))
    story = story.when(reopen(newer, failed=True, version=2, changes=("b is gone",))).then(
        reopened(newer, failed=True, document_version=2, changes=("b is gone",)), queued("b2"), again="has not finished"
    )
    assert story.run.document_version == 2
    assert story.statuses == {"a": "succeeded", "b2": "queued", "d": "succeeded", "e": "waiting"}


def test_attempt_numbers_and_so_tokens_never_come_back_even_if_the_job_had_gone() -> None:
    plan, story = failed_run()
    without = document(job("a"), job("d"), job("new"))
    story = story.given(reopen(without, failed=True), report("new", "succeeded"), reopen(plan, failed=True))
    tokens = [attempt_token(RUN, one.job, one.attempt) for one in story.events if isinstance(one, AttemptQueued)]
    assert len(tokens) == len(set(tokens))
    assert story.job("b").phase.attempt == 3  # type: ignore[union-attr]


def test_changes_between_documents_are_remembered_as_far_as_they_fit() -> None:
    plan, story = failed_run()
    story = story.given(reopen(plan, failed=True, changes=tuple("ü" * 90 for _ in range(10_000))))
    told = next(event for event in story.events if isinstance(event, RunReopened))
    assert told.changes[-1].startswith("and ")


def test_a_rerun_of_a_run_that_was_cancelled_before_its_time_still_waits_for_it() -> None:
    plan = document(job("a"))
    story = given(requested(plan, request={"start_after": NOON + hours(2)}), CANCEL)
    story = story.when(reopen(plan, failed=True)).then(reopened(plan, failed=True), again="has not finished")
    assert due_of_run(story.run, story.now) == NOON + hours(2)
    story.given(hours(2)).when(Advance()).then(opened(), queued("a"))


def test_reports_about_an_earlier_round_change_nothing() -> None:
    plan, story = failed_run()
    story = story.given(reopen(plan, failed=True))
    story.when(report("b", "failed", attempt=2)).then_nothing()
    story.when(report("b", "succeeded", attempt=2)).then(late("b", 2, "succeeded"))
    story.when(report("b", "running", attempt=2, handle="h9")).then(late("b", 2, Says("h9"), "h9"))


def test_a_rerun_and_a_cancellation_race_and_either_order_makes_sense() -> None:
    """Fault 56."""
    plan, story = failed_run()
    story.when(CANCEL).then_rejected("has finished already")
    story = story.given(reopen(plan, failed=True))
    story = story.when(CANCEL).then(
        cancel_requested(), stop_requested("b", 3), settled("c", "cancelled"), settled("e", "cancelled")
    )
    story = story.given(days(1)).when(report("b", "missing", attempt=3)).then(cancelled("b", 3), finished("cancelled"))
    assert pending_of_jobs(story.run, [JobName("b")], story.now) == []
    story.given(reopen(plan, failed=True)).when(report("b", "succeeded", attempt=4, handle="h")).then(
        submitted("b", 4, "h"), succeeded("b", 4), queued("c")
    )


def test_a_stop_that_has_no_effect_is_sent_ever_more_seldom() -> None:
    """An agent that never reports shows its command as under way for two days; the simulator counted 1,535 stops."""
    story = given(requested(job("a"))).given(
        report("a", "running", handle="h"), CancelRun("ada"), RecordStopSent(JobName("a"), 1)
    )
    sent, now, end = 0, story.now, story.now + timedelta(days=2)
    while now < end:
        due = due_of_run(story.run, now)
        assert due is not None
        assert due > now
        now = due
        sent += StopAttempt(story.run.run, JobName("a"), 1) in pending_of_run(story.run, now, since=due)
    assert 200 < sent < 400
