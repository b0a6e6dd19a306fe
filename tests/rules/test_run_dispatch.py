"""What targets tell and do not tell: claims, doubt, missing and unknown work, late and contrary reports, strays."""

from itertools import permutations
from typing import Any

import pytest

from shared.decide.commands import (
    Advance,
    CancelJob,
    CancelRun,
    MarkJob,
    PostponeStart,
    RecordClaim,
    RecordRefusal,
    RecordReport,
    RecordSilence,
    RecordStopSent,
    ReleaseClaim,
)
from shared.decide.run import MISSING_AFTER, SECOND_LOOK_AFTER
from shared.effects import ObserveAttempt, StartAttempt, StopAttempt, effects_of_run, pending_of_jobs, pending_of_run
from shared.ids import Handle, JobName
from shared.state.run import Submitted
from tests.rules.sentences import (
    NOON,
    RUN,
    Says,
    Story,
    cancelled,
    claim,
    claimed,
    doubted,
    failed,
    finished,
    given,
    job,
    late,
    marked,
    minutes,
    queued,
    released,
    report,
    requested,
    seconds,
    started,
    stop_requested,
    stop_sent,
    submitted,
    succeeded,
)

LOAD = JobName("load")
SOON = NOON + minutes(1)


def one_job(**fields: Any) -> Story:
    return given(requested(job("load", **fields)))


# --- claims -----------------------------------------------------------------------------------------------------------


def test_one_dispatcher_gets_the_claim_and_nobody_gets_it_twice() -> None:
    """Fault 14."""
    story = (
        one_job()
        .when(claim("load", send_before=SOON))
        .then(claimed("load", send_before=SOON), again="not free to be claimed")
    )
    story.when(claim("load", claimer="two", send_before=SOON)).then_rejected("not free to be claimed")


@pytest.mark.parametrize("status", ["submitted", "running", "succeeded", "failed"])
def test_what_is_under_way_or_over_cannot_be_claimed(status: Any) -> None:
    story = one_job().given(report("load", status, handle="h1"))
    story.when(claim("load", send_before=SOON)).then_rejected("not free to be claimed")


def test_what_is_to_be_stopped_cannot_be_claimed() -> None:
    story = one_job().given(CancelRun("ada"))
    story.when(claim("load", send_before=SOON)).then_rejected("not free to be claimed")


def test_a_claim_for_another_attempt_or_job_or_a_moment_past_is_refused() -> None:
    story = one_job()
    story.when(claim("load", attempt=2, send_before=SOON)).then_rejected("not free")
    story.when(claim("lord", send_before=SOON)).then_rejected("not free")
    story.when(claim("load", send_before=NOON)).then_rejected("has passed")


def test_a_refusal_gives_the_claim_back_and_the_same_attempt_is_asked_for_later() -> None:
    story = one_job().given(claim("load", send_before=SOON))
    story.when(ReleaseClaim(LOAD, 1, "two", "mine", 30)).then_nothing()
    story = story.when(ReleaseClaim(LOAD, 1, "one", "throttled", 30)).then(
        released("load", retry_at=NOON + seconds(30))
    )
    story.when(claim("load", send_before=SOON)).then_rejected("not to be asked for before")
    assert pending_of_run(story.run, NOON + seconds(29)) == []
    assert pending_of_run(story.run, NOON + seconds(30)) == [StartAttempt(RUN, LOAD, 1)]
    story.given(seconds(30)).when(claim("load", claimer="two", send_before=SOON)).then(
        claimed("load", claimer="two", send_before=SOON), again="not free"
    )


def test_a_start_that_is_not_taken_for_now_is_asked_for_again_under_the_same_token() -> None:  # faults 15 and 60
    story = one_job()
    postponed = PostponeStart(LOAD, 1, "throttled", 30, first=True)
    story = story.when(postponed).then(released("load", retry_at=NOON + seconds(30), first=True))
    assert pending_of_run(story.run, NOON + seconds(29)) == []
    assert pending_of_run(story.run, NOON + seconds(30)) == [StartAttempt(RUN, LOAD, 1)]
    story.given(report("load", "submitted", handle="h1")).when(postponed).then_nothing()
    story.given(CancelJob(LOAD, "ada")).when(postponed).then_nothing()


def test_a_refusal_ends_only_what_no_other_request_was_taken_for() -> None:  # faults 2 and 14
    """Of two dispatchers that were given the same message, one was taken, and the other turned away."""
    refused = RecordRefusal(LOAD, 1, "capacity", "no room")
    one_job(retry={"capacity": {"attempts": 1}}).when(refused).then(
        failed("load", failure="capacity"), finished("failed")
    )
    story = one_job().given(report("load", "submitted", handle="h1"))
    story.when(refused).then_nothing()
    story.given(report("load", "succeeded", handle="h1")).when(refused).then_nothing()


def test_what_was_asked_for_in_vain_ends_when_two_looks_found_nothing() -> None:
    story = one_job(retry={"capacity": {"attempts": 1}}).given(RecordSilence(LOAD, 1, "no answer"))
    story.when(RecordRefusal(LOAD, 1, "capacity", "in vain", looked_at=story.now)).then_nothing()
    story = story.given(SECOND_LOOK_AFTER)
    story.when(RecordRefusal(LOAD, 1, "capacity", "in vain")).then_nothing()
    story.when(RecordRefusal(LOAD, 1, "capacity", "in vain", looked_at=story.now - seconds(1))).then_nothing()
    story.when(RecordRefusal(LOAD, 1, "capacity", "in vain", looked_at=story.now)).then(
        failed("load", failure="capacity", reason="in vain"), finished("failed")
    )
    bound = one_job().given(report("load", "unknown", handle="h1"), SECOND_LOOK_AFTER)
    bound.when(RecordRefusal(LOAD, 1, "capacity", "in vain", looked_at=bound.now)).then_nothing()


def test_a_claim_that_is_given_back_ends_what_nobody_wants_any_more() -> None:
    story = one_job().given(claim("load", send_before=SOON), CancelRun("ada"))
    story.when(ReleaseClaim(LOAD, 1, "one", "throttled", 30)).then(
        released("load", retry_at=NOON + seconds(30)), cancelled("load"), finished("cancelled")
    )


def test_nobody_looks_after_a_claim_before_it_could_have_been_used() -> None:
    story = one_job().given(claim("load", send_before=SOON))
    assert pending_of_run(story.run, SOON - seconds(1), everything=True) == []
    assert pending_of_run(story.run, SOON) == [ObserveAttempt(RUN, LOAD, 1)]
    story.when(report("load", "missing")).then_nothing()
    story.given(minutes(1)).when(report("load", "missing")).then(doubted("load"))


def test_what_was_claimed_and_is_not_found_twice_may_be_asked_for_again() -> None:
    """Faults 1 and 3: the claimer died before it sent."""
    story = one_job().given(claim("load", send_before=SOON), minutes(1), report("load", "missing"))
    later = story.now + minutes(10)
    again = claim("load", claimer="two", send_before=later, looked_at=story.now + SECOND_LOOK_AFTER)
    story.when(again).then_rejected("not free")
    story = (
        story.given(SECOND_LOOK_AFTER)
        .when(again)
        .then(claimed("load", claimer="two", send_before=later), again="not free")
    )
    assert story.run.doubted == 0


def test_a_doubt_is_not_left_by_who_has_not_looked() -> None:
    """A message to start it that comes late or twice is no evidence, and neither is a look that was made too early."""
    story = one_job().given(claim("load", send_before=SOON), RecordSilence(LOAD, 1, "timed out"))
    looked_at, later = story.now + SECOND_LOOK_AFTER - seconds(1), story.now + minutes(10)
    story = story.given(minutes(5))
    story.when(claim("load", claimer="two", send_before=later)).then_rejected("not free")
    story.when(claim("load", claimer="two", send_before=later, looked_at=looked_at)).then_rejected("not free")


def test_silence_that_is_told_late_does_not_touch_the_claim_of_another() -> None:
    """Looks would count from then on, and the other may send after the last of them."""
    story = one_job().given(claim("load", claimer="two", send_before=SOON))
    for claimer in ("one", ""):
        silence = RecordSilence(LOAD, 1, "timed out", claimer)
        story.when(silence).then_nothing()
        story.given(minutes(1)).when(silence).then(doubted("load"))
    story.when(RecordSilence(LOAD, 1, "timed out", "two")).then(doubted("load"))


def test_a_look_ends_nothing_that_may_have_begun_to_show_since() -> None:
    """The process that looked was held up between its look and its commit."""
    story = one_job().given(claim("load", send_before=SOON), RecordSilence(LOAD, 1, "timed out"), CancelRun("ada"))
    looked_at = story.now + SECOND_LOOK_AFTER
    story = story.given(minutes(10))
    story.when(RecordReport(LOAD, 1, "missing", looked_at=looked_at - seconds(1))).then_nothing()
    ended = story.done(RecordReport(LOAD, 1, "missing", looked_at=looked_at))[0]
    assert ended.run.outcome == "cancelled"


@pytest.mark.parametrize("status", ["submitted", "running"])
def test_what_was_claimed_and_is_found_is_bound(status: Any) -> None:
    """Faults 2, 4 and 17: it was started, and nobody had heard."""
    story = one_job().given(claim("load", send_before=SOON), RecordSilence(LOAD, 1, "timed out"))
    story = story.when(report("load", status, handle="h1")).then(submitted("load", **_since(status)))
    story.when(claim("load", claimer="two", send_before=SOON)).then_rejected("not free")


def _since(status: str) -> dict[str, Any]:
    return {"started_at": NOON} if status == "running" else {"started_at": None}


# --- doubt ------------------------------------------------------------------------------------------------------------


def test_silence_is_doubt_unless_somebody_heard_of_it_meanwhile() -> None:
    story = one_job().given(claim("load", send_before=SOON))
    story.when(RecordSilence(LOAD, 1, "timed out")).then(doubted("load", reason="timed out"))
    story.given(report("load", "submitted", handle="h1")).when(RecordSilence(LOAD, 1, "timed out")).then_nothing()


def test_right_after_a_start_not_being_found_proves_nothing() -> None:
    """Faults 8 and 27."""
    story = one_job().given(report("load", "submitted", handle="h1"))
    story.given(seconds(5)).when(report("load", "missing")).then_nothing()
    story.given(MISSING_AFTER - seconds(1)).when(report("load", "missing")).then_nothing()


def test_work_that_the_target_has_forgotten_is_in_doubt() -> None:
    """Fault 9."""
    story = one_job().given(report("load", "running", handle="h1"), MISSING_AFTER)
    story = story.when(report("load", "missing", handle="h1")).then(doubted("load"))
    story.given(minutes(60)).when(claim("load", send_before=story.now + minutes(90))).then_rejected("not free")


def test_work_that_ended_unseen_is_in_doubt_and_keeps_its_name() -> None:
    story = (
        one_job()
        .when(report("load", "unknown", handle="h1", reason="the host restarted"))
        .then(submitted("load"), doubted("load", reason="the host restarted"))
    )
    story.given(minutes(60)).when(claim("load", send_before=story.now + minutes(90))).then_rejected("not free")


@pytest.mark.parametrize("policy", ["wait", "ask"])
def test_time_alone_does_not_end_a_doubt_that_waits_for_evidence_or_a_person(policy: str) -> None:
    """I2."""
    story = one_job(doubt={"policy": policy}).when(report("load", "unknown")).then(doubted("load", policy=policy))
    story.given(minutes(100_000)).when(Advance()).then_nothing()


def test_a_doubt_that_is_assumed_lost_ends_in_time_and_is_tried_again_as_an_infrastructure_failure() -> None:
    fields: dict[str, Any] = {"doubt": {"policy": "assume_lost", "after_minutes": 7}}
    story = one_job(**fields).given(report("load", "running", handle="h1"))
    story = story.when(report("load", "unknown")).then(
        doubted("load", policy="assume_lost", resolve_at=NOON + minutes(7))
    )
    story.given(minutes(6)).when(Advance()).then_nothing()
    story = (
        story.given(minutes(7))
        .when(Advance())
        .then(failed("load", failure="infrastructure", retry_at=NOON + minutes(8), assumed=True))
    )
    assert effects_of_run(story.run, story.events[-1:]) == [StopAttempt(RUN, LOAD, 1, Handle("h1"))], "should it live"


def test_a_cancelled_doubt_that_is_assumed_lost_ends_as_cancelled() -> None:
    story = one_job(doubt={"policy": "assume_lost", "after_minutes": 7}).given(
        report("load", "unknown"), CancelRun("ada")
    )
    story.given(minutes(7)).when(Advance()).then(cancelled("load", assumed=True), finished("cancelled"))


def test_the_total_time_runs_on_in_doubt() -> None:
    story = one_job(timeouts={"total_minutes": 30}).given(report("load", "unknown"), minutes(30))
    story = story.when(Advance()).then(stop_requested("load", cause="timeout", reason="total timeout"))
    story.given(SECOND_LOOK_AFTER).when(report("load", "missing")).then(
        failed("load", failure="timeout"), finished("failed")
    )


@pytest.mark.parametrize(
    ("status", "facts"),
    [
        ("succeeded", (submitted("load"), succeeded("load"), finished("succeeded"))),
        ("failed", (submitted("load"), failed("load"), finished("failed"))),
        ("cancelled", (submitted("load"), cancelled("load"), finished("failed"))),
        ("running", (submitted("load", started_at=NOON),)),
    ],
)
def test_evidence_ends_a_doubt(status: Any, facts: Any) -> None:
    story = one_job().given(RecordSilence(LOAD, 1, "timed out"))
    assert story.run.doubted == 1
    assert story.when(report("load", status, handle="h1")).then(*facts).run.doubted == 0


def test_a_doubt_about_bound_work_ends_when_it_is_seen_again_and_its_clock_runs_on() -> None:
    story = one_job(timeouts={"run_minutes": 60}).given(
        report("load", "running", handle="h1"), minutes(20), report("load", "missing")
    )
    story = story.when(report("load", "running", handle="h1")).then(submitted("load", started_at=story.now))
    phase = story.job("load").phase
    assert isinstance(phase, Submitted)
    assert phase.submitted_at == NOON


def test_a_person_ends_a_doubt() -> None:
    story = one_job(doubt={"policy": "ask"}).given(report("load", "unknown", handle="h1"))
    story = story.when(MarkJob(LOAD, "succeeded", "ada", "the table is there")).then(
        marked("load", "succeeded"), finished("succeeded")
    )
    assert story.job("load").attempts[0].status == "abandoned"
    story.when(report("load", "succeeded", handle="h1")).then(late("load", 1, "succeeded"))
    story = story.when(report("load", "running", handle="h1")).then(late("load", 1, Says("there after all"), "h1"))
    assert effects_of_run(story.run, story.events[-1:]) == [StopAttempt(RUN, LOAD, 1, Handle("h1"))]


def test_a_stop_in_doubt_is_confirmed_by_finding_nothing_twice() -> None:
    story = one_job().given(RecordSilence(LOAD, 1, "timed out"), CancelRun("ada"))
    story.when(report("load", "missing")).then_nothing()
    story.given(SECOND_LOOK_AFTER).when(report("load", "missing")).then(cancelled("load"), finished("cancelled"))


def test_a_stop_of_bound_work_that_the_target_forgot_is_confirmed() -> None:
    story = one_job().given(report("load", "submitted", handle="h1"), MISSING_AFTER, report("load", "missing"))
    story = story.given(CancelRun("ada"), SECOND_LOOK_AFTER)
    story.when(report("load", "missing")).then(cancelled("load"), finished("cancelled"))


def test_a_stop_and_work_that_is_gone_is_the_end_that_was_asked_for() -> None:
    story = one_job().given(report("load", "submitted", handle="h1"), CancelRun("ada"))
    story.when(report("load", "missing")).then_nothing()
    story.when(report("load", "unknown")).then(cancelled("load"), finished("cancelled"))
    story.given(MISSING_AFTER).when(report("load", "missing")).then(cancelled("load"), finished("cancelled"))


def test_a_stop_is_recorded_as_sent_once_and_only_if_it_was_asked_for() -> None:
    story = one_job().given(report("load", "submitted", handle="h1"))
    story.when(RecordStopSent(LOAD, 1)).then_nothing()
    story.given(CancelJob(LOAD, "ada")).when(RecordStopSent(LOAD, 1)).then(stop_sent("load"))


# --- reports in each phase --------------------------------------------------------------------------------------------


def test_a_start_is_worth_a_commit_only_where_something_depends_on_it() -> None:
    story = one_job().given(report("load", "submitted", handle="h1"))
    story.when(report("load", "running", handle="h1", started_at=NOON)).then_nothing()
    story.given(minutes(2)).when(report("load", "running", handle="h1", started_at=NOON)).then(
        started("load", started_at=NOON)
    )
    bounded = one_job(timeouts={"run_minutes": 5}).given(report("load", "submitted", handle="h1"))
    bounded.when(report("load", "running", handle="h1", started_at=NOON)).then(started("load"))


def test_an_end_that_overtakes_the_start_names_the_work_as_well() -> None:
    """Fault 31."""
    story = (
        one_job()
        .when(report("load", "succeeded", handle="h1", outputs={"rows": 2}))
        .then(submitted("load"), succeeded("load", outputs={"rows": 2}), finished("succeeded"))
    )
    story.when(report("load", "submitted", handle="h1")).then_nothing()
    story.when(report("load", "running", handle="h1")).then_nothing()


def test_work_stopped_from_outside_is_cancelled_and_not_repeated() -> None:
    story = one_job(retry=5).given(report("load", "submitted", handle="h1"))
    story.when(report("load", "cancelled", handle="h1")).then(
        cancelled("load", reason="stopped from outside"), finished("failed")
    )


@pytest.mark.parametrize("attempt", [0, -1, 2, 99])
@pytest.mark.parametrize("name", ["load", "nobody"])
def test_reports_about_work_that_is_not_ours_change_nothing(name: str, attempt: int) -> None:
    """Fault 33."""
    story = one_job(retry=3).given(report("load", "failed"))
    for status in ("submitted", "running", "succeeded", "failed", "cancelled", "missing", "unknown"):
        story.when(report(name, status, attempt=attempt, handle="h7")).then_nothing()


# --- late, contrary, strays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "then", "recorded"),
    [
        ("succeeded", "failed", True),
        ("succeeded", "cancelled", True),
        ("succeeded", "succeeded", False),
        ("failed", "succeeded", True),
        ("failed", "failed", False),
        ("failed", "cancelled", False),
        ("cancelled", "succeeded", True),
        ("cancelled", "failed", False),
        ("succeeded", "missing", False),
        ("failed", "unknown", False),
    ],
)
def test_a_late_contrary_report_is_recorded_once_and_changes_nothing(end: Any, then: Any, recorded: bool) -> None:
    """I3."""
    story = one_job().given(report("load", end, handle="h1"))
    before = (story.run.outcome, story.statuses)
    when = story.when(report("load", then, handle="h1"))
    story = when.then(late("load", 1, then)) if recorded else when.then_nothing()
    assert (story.run.outcome, story.statuses) == before


def test_the_same_report_fifty_times_is_one_report() -> None:
    """Fault 32."""
    story = one_job(retry=2)
    for status in ("submitted", "running", "failed"):
        once = story.done(report("load", status, handle="h1"))[0]
        for _ in range(50):
            once = once.when(report("load", status, handle="h1")).then_nothing()
        story = once
    assert story.statuses == {"load": "backoff"}


def test_a_second_execution_under_our_token_is_recorded_and_stopped_and_its_end_is_not_ours() -> None:
    """I1."""
    story = one_job().given(report("load", "running", handle="h1"))
    story = story.when(report("load", "running", handle="h2")).then(
        late("load", 1, Says("another execution: h2"), "h2")
    )
    stop = StopAttempt(RUN, LOAD, 1, Handle("h2"))
    assert effects_of_run(story.run, story.events[-1:]) == [stop]
    assert stop in pending_of_jobs(story.run, [LOAD], story.now), "a repeated report repairs a stop that was lost"
    assert stop in pending_of_run(story.run, story.now, everything=True)
    story = story.when(report("load", "failed", handle="h2")).then_nothing()
    story.when(report("load", "succeeded", handle="h1")).then(succeeded("load"), finished("succeeded"))


def test_work_that_appears_after_its_attempt_was_given_up_is_recorded_and_stopped() -> None:
    """Fault 6: asked for again although the first request had been taken."""
    story = one_job(retry=3, doubt={"policy": "assume_lost", "after_minutes": 1}).given(
        RecordSilence(LOAD, 1, "timed out"), minutes(1), Advance(), minutes(2), Advance()
    )
    assert story.statuses == {"load": "queued"}
    story = story.when(report("load", "running", handle="h1")).then(late("load", 1, Says("there after all"), "h1"))
    assert effects_of_run(story.run, story.events[-1:]) == [StopAttempt(RUN, LOAD, 1, Handle("h1"))]
    story.when(report("load", "succeeded", attempt=2, handle="h2")).then(
        submitted("load", 2, "h2"), succeeded("load", 2), finished("succeeded")
    )


def test_work_that_appears_after_its_stop_was_confirmed_is_stopped_again() -> None:
    story = one_job().given(CancelRun("ada"), report("load", "missing"))
    assert story.run.status == "cancelled"
    story.when(report("load", "running", handle="h1")).then(late("load", 1, Says("h1"), "h1"))


# --- orders -----------------------------------------------------------------------------------------------------------


def _end(story: Story) -> Any:
    attempts = [(one.attempt, one.status, one.handle, one.exit_code, one.late) for one in story.job("load").attempts]
    return story.run.status, story.statuses, attempts, story.job("load").outputs


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_the_reports_of_one_attempt_lead_to_the_same_end_in_every_order(end: Any) -> None:
    """I10, faults 31 and 32."""
    truth = [
        report("load", "submitted", handle="h1"),
        report("load", "running", handle="h1", started_at=NOON),
        report("load", end, handle="h1", exit_code=0 if end == "succeeded" else 1),
        report("load", "running", handle="h1", started_at=NOON),
        report("load", "missing"),
    ]
    ends = []
    for order in permutations(truth):
        story = one_job().given(*order, *order)
        ends.append(_end(story))
    assert all(one == ends[0] for one in ends)


def test_the_reports_of_two_attempts_lead_to_the_same_end_in_every_order_that_can_happen() -> None:
    first = [report("load", status, handle="h1") for status in ("submitted", "running", "failed")]
    second = [report("load", status, 2, handle="h2") for status in ("submitted", "running", "succeeded")]
    ends = []
    for early in permutations(first):
        for lost in permutations(second):
            story = one_job(retry=2).given(*early, minutes(1), Advance(), lost[0], *early, *lost[1:], *early)
            ends.append(_end(story))
    assert all(one == ends[0] for one in ends)
    assert ends[0][0] == "succeeded"


def test_two_jobs_do_not_disturb_each_other() -> None:
    story = given(requested(job("a"), job("b"), job("c", after=["a", "b"])))
    story = story.when(report("b", "succeeded", handle="hb")).then(submitted("b", 1, "hb"), succeeded("b"))
    story.when(report("a", "succeeded", handle="ha")).then(submitted("a", 1, "ha"), succeeded("a"), queued("c"))


def test_a_claim_names_what_will_be_sent() -> None:
    command = RecordClaim(LOAD, 1, "one", {"command": ["true"]}, SOON)
    one_job().when(command).then(claimed("load", send_before=SOON, request={"command": ["true"]}), again="not free")
