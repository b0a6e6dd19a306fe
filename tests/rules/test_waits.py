"""A run, or a job of it, that waits for something outside: when the wait begins, what ends it, and what comes of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.decide.commands import Advance, CancelJob, CancelRun, Finding, MarkJob, RecordLook
from shared.decide.waits import due_looks
from shared.effects import LookAtWaits, due_of_run, effects_of_run, pending_of_run
from shared.events import WaitBegun, WaitExpired, WaitFailed, WaitMet
from shared.explain import Condition, why_job, why_run
from shared.ids import JobName
from shared.state.run import Run
from shared.state.snapshot import dump, load
from shared.state.waits import open_waits
from tests.rules.sentences import (
    NOON,
    Fact,
    Says,
    Story,
    cancel_requested,
    days,
    document,
    fact,
    finished,
    given,
    hours,
    job,
    marked,
    minutes,
    opened,
    plans,
    queued,
    reopen,
    reopened,
    report,
    requested,
    same,
    settled,
    succeeded,
)

INGEST = {"workflow": "ingest"}
AT_NOON = "ingest@2026-03-02T12:00:00Z"
SCHEDULED = {"scheduled_at": NOON, "trigger": "schedule"}


def begun(awaited: str = AT_NOON, number: int = 0, job: str = "", **fields: Any) -> Fact:
    return fact(WaitBegun, job=job, number=number, awaited=awaited, **fields)


def met(number: int = 0, job: str = "", **fields: Any) -> Fact:
    return fact(WaitMet, job=job, number=number, **fields)


def lost(number: int = 0, job: str = "", **fields: Any) -> Fact:
    return fact(WaitFailed, job=job, number=number, **fields)


def expired(number: int = 0, job: str = "", **fields: Any) -> Fact:
    return fact(WaitExpired, job=job, number=number, **fields)


def found(outcome: str = "succeeded", number: int = 0, job: str = "", **fields: Any) -> Finding:
    told: dict[str, Any] = {"there": True, "run": AT_NOON, "version": 7, "outcome": outcome, **fields}
    return Finding(JobName(job), number, **told)


def never(number: int = 0, job: str = "", reason: str = "it was skipped") -> Finding:
    return Finding(JobName(job), number, there=False, run=AT_NOON, reason=reason)


def look(*findings: Finding, at: datetime = NOON + days(30)) -> RecordLook:
    return RecordLook(findings, at)


def waiting(*waits: dict[str, Any], jobs: tuple[dict[str, Any], ...] = (), **request: Any) -> Story:
    """A run of the instant noon, all of which waits."""
    plan = document(*(jobs or (job("load"),)), waits_for=list(waits or (INGEST,)))
    return given(requested(plan, request={**SCHEDULED, **request}))


def job_waiting(*waits: dict[str, Any], **request: Any) -> Story:
    """A run of the instant noon: `fetch`, and `load` that waits and comes after nothing."""
    plan = document(job("fetch"), job("load", waits_for=list(waits or (INGEST,))))
    return given(requested(plan, request={**SCHEDULED, **request}))


EVIDENCE: dict[str, Any] = {"run": AT_NOON, "version": 7, "outcome": "succeeded"}


# --- a whole run ------------------------------------------------------------------------------------------------------


def test_a_run_waits_for_the_run_of_the_same_instant_and_nothing_of_it_starts() -> None:
    plan = document(waits_for=[INGEST])
    command = requested(plan, request=SCHEDULED)
    given().when(command).then(fact_of(command), begun())


def fact_of(command: Any) -> Fact:
    fields = {name: getattr(command.request, name) for name in type(command.request).model_fields if name != "type"}
    return Fact(type(command.request), fields)


def test_once_it_succeeded_the_run_begins() -> None:
    waiting().when(look(found())).then(met(**EVIDENCE), queued("load"))


def test_what_is_not_found_yet_is_waited_for() -> None:
    waiting().when(look()).then()


def test_time_alone_ends_no_wait() -> None:
    waiting({**INGEST, "timeout_minutes": 5}).given(minutes(6)).when(Advance()).then()


def test_a_run_waits_for_all_of_several() -> None:
    story = waiting(INGEST, {"workflow": "rates"})
    story.when(look(found())).then(met(**EVIDENCE))
    story.given(look(found())).when(look(found(number=1))).then(met(1, **EVIDENCE), queued("load"))


def test_the_order_in_which_several_end_does_not_matter() -> None:
    story = waiting(INGEST, {"workflow": "rates"}).given(look(found(number=1)))
    story.when(look(found())).then(met(**EVIDENCE), queued("load"))


def test_when_it_failed_the_run_fails() -> None:
    waiting(jobs=(job("load"), job("check", after=["load"]))).when(
        look(found("failed", reason="ingest@… failed"))
    ).then(
        lost(run=AT_NOON, version=7, outcome="failed"),
        settled("load", "upstream_failed", reason=Says("failed")),
        settled("check", "upstream_failed"),
        finished("failed"),
    )


def test_when_it_failed_the_run_goes_on_if_it_says_so() -> None:
    waiting({**INGEST, "on_failure": "go_on"}).when(look(found("failed"))).then(
        met(run=AT_NOON, version=7, outcome="failed", reason=Says("goes on all the same")), queued("load")
    )


def test_when_it_failed_the_run_waits_for_a_rerun_if_it_says_so() -> None:
    story = waiting({**INGEST, "on_failure": "wait", "timeout_minutes": 60})
    story.when(look(found("failed"), at=NOON)).then()
    story.given(look(found("failed"), at=NOON)).when(look(found(), at=NOON)).then(met(**EVIDENCE), queued("load"))


def test_ended_is_enough_where_the_document_says_so() -> None:
    waiting({**INGEST, "until": "ended"}).when(look(found("cancelled"))).then(
        met(run=AT_NOON, version=7, outcome="cancelled"), queued("load")
    )


@pytest.mark.parametrize("until", ["succeeded", "ended"])
def test_an_instant_that_never_becomes_a_run_fails_the_run_and_says_why(until: str) -> None:
    waiting({**INGEST, "until": until}).when(look(never())).then(
        lost(run=AT_NOON, reason=Says("skipped")),
        settled("load", "upstream_failed", reason=Says("skipped")),
        finished("failed"),
    )


def test_many_jobs_end_in_slices_when_what_the_run_waits_for_failed() -> None:
    story = waiting(jobs=tuple(job(f"j{number}") for number in range(700)))
    story = story.done(look(found("failed")))[0]
    assert story.truncated
    assert isinstance(story.state, Run)
    assert story.state.outcome is None
    assert any("AdvanceRun" in type(effect).__name__ for effect in pending_of_run(story.state, story.now))
    over = story.to_its_end().state
    assert isinstance(over, Run)
    assert over.outcome == "failed"


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_at_the_deadline_a_look_that_finds_nothing_fails_the_run() -> None:
    story = waiting({**INGEST, "timeout_minutes": 60}).given(minutes(60))
    story.when(look(at=NOON + minutes(60))).then(
        expired(), settled("load", "timed_out", reason=Says("until the deadline")), finished("failed")
    )


def test_what_ended_just_before_the_deadline_counts_although_nobody_had_heard_of_it() -> None:
    story = waiting({**INGEST, "timeout_minutes": 60}).given(minutes(61))
    story.when(look(found(), at=NOON + minutes(61))).then(met(**EVIDENCE), queued("load"))


def test_a_look_that_began_before_the_deadline_does_not_judge_it() -> None:
    waiting({**INGEST, "timeout_minutes": 60}).given(minutes(61)).when(look(at=NOON + minutes(59))).then()


def test_at_the_deadline_the_run_goes_on_if_it_says_so() -> None:
    story = waiting({**INGEST, "timeout_minutes": 60, "on_timeout": "go_on"}).given(minutes(60))
    story.when(look(at=NOON + minutes(60))).then(expired(go_on=True), queued("load"))


def test_the_deadline_counts_from_when_the_wait_begins() -> None:
    later = NOON + hours(2)
    story = waiting({**INGEST, "timeout_minutes": 60}, start_after=later)
    story.given(hours(2)).when(Advance()).then(opened(), begun(deadline_at=later + minutes(60)))


# --- what it waits for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "awaited"),
    [
        ({**INGEST, "lag_minutes": 90}, "ingest@2026-03-02T10:30:00Z"),
        ({**INGEST, "lag": "1 day"}, "ingest@2026-03-01T12:00:00Z"),
        ({**INGEST, "lag": "6 hours"}, "ingest@2026-03-02T06:00:00Z"),
        ({**INGEST, "lag": "1 week"}, "ingest@2026-02-23T12:00:00Z"),
        ({**INGEST, "lag_instants": 2}, "ingest"),
        ({**INGEST, "latest_within_minutes": 60}, "ingest"),
        ({**INGEST, "job": "fetch"}, AT_NOON),
    ],
)
def test_what_is_waited_for_has_a_name_before_it_exists(wait: dict[str, Any], awaited: str) -> None:
    assert awaited_by(waiting(wait)) == [awaited]


def awaited_by(story: Story) -> list[str]:
    assert isinstance(story.state, Run)
    return [wait.awaited for _, _, wait in open_waits(story.state)]


def test_a_day_earlier_is_the_same_time_of_day_although_the_clocks_changed() -> None:
    # Berlin changes to summer time on 29 March 2026: two o'clock of the night before is 23 hours earlier.
    at = datetime.fromisoformat("2026-03-30T01:00:00+00:00")
    schedule = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    for lag, awaited in (("1 day", "ingest@2026-03-29T01:00:00Z"), ("2 days", "ingest@2026-03-28T02:00:00Z")):
        plan = document(schedule=schedule, waits_for=[{**INGEST, "lag": lag}])
        story = given(requested(plan, request={"scheduled_at": at, "trigger": "schedule"}))
        assert awaited_by(story) == [awaited]


def test_a_file_is_named_by_its_template() -> None:
    wait = {"file": "/in/{{ scheduled_at | date('%Y-%m-%d') }}.csv", "timeout_minutes": 60}
    assert awaited_by(waiting(wait)) == ["/in/2026-03-02.csv"]


def test_a_file_whose_name_cannot_be_made_fails_the_run() -> None:
    wait = {"file": "/in/{{ params.day }}.csv", "timeout_minutes": 60}
    story = waiting(wait)
    assert isinstance(story.state, Run)
    assert story.state.outcome == "failed"


def test_a_run_that_was_asked_for_has_no_instant_and_waits_for_none() -> None:
    plan = document(waits_for=[INGEST])
    command = requested(plan)
    given().when(command).then(
        fact_of(command), begun("ingest"), met(reason=Says("no scheduled instant")), queued("load")
    )


# --- its own earlier runs ---------------------------------------------------------------------------------------------

DAILY = {"cron": "0 12 * * *", "start": "2026-03-01"}
BEFORE = {"workflow": "nightly", "lag_instants": 1}


def daily(at: datetime = NOON, wait: dict[str, Any] = BEFORE) -> Story:
    plan = document(schedule=DAILY, waits_for=[wait])
    return given(requested(plan, request={"scheduled_at": at, "trigger": "schedule"}))


def test_a_run_waits_for_that_of_the_instant_before() -> None:
    assert awaited_by(daily()) == ["nightly@2026-03-01T12:00:00Z"]
    assert awaited_by(daily(wait={"workflow": "nightly", "lag": "1 day"})) == ["nightly@2026-03-01T12:00:00Z"]


@pytest.mark.parametrize("wait", [BEFORE, {"workflow": "nightly", "lag": "1 day"}])
def test_the_first_instant_of_a_schedule_waits_for_none(wait: dict[str, Any]) -> None:
    story = daily(NOON - days(1), wait)
    assert awaited_by(story) == []
    assert isinstance(story.state, Run)
    assert story.state.active == 1


def test_an_instant_before_that_was_skipped_or_missed_is_not_waited_for() -> None:
    daily().when(look(never())).then(met(run=AT_NOON, reason=Says("skipped")), queued("load"))


def test_an_instant_before_that_failed_fails_this_one_as_well() -> None:
    daily().when(look(found("failed"))).then(
        lost(run=AT_NOON, version=7, outcome="failed"), settled("load", "upstream_failed"), finished("failed")
    )


# --- one job ----------------------------------------------------------------------------------------------------------


def test_a_job_waits_and_the_others_go_on() -> None:
    plan = document(job("fetch"), job("load", waits_for=[INGEST]))
    command = requested(plan, request=SCHEDULED)
    given().when(command).then(fact_of(command), queued("fetch"), begun(job="load"))


def test_a_job_begins_to_wait_when_it_could_start_otherwise() -> None:
    plan = document(job("fetch"), job("load", after=["fetch"], waits_for=[INGEST]))
    story = given(requested(plan, request=SCHEDULED))
    assert awaited_by(story) == []
    story.given(report("fetch", "submitted", handle="h1")).when(report("fetch", "succeeded", handle="h1")).then(
        succeeded("fetch"), begun(job="load")
    )


def test_a_job_that_waits_takes_no_place() -> None:
    plan = document(job("load", waits_for=[INGEST], priority=1), job("fetch"), parallelism=1)
    story = given(requested(plan, request=SCHEDULED))
    assert isinstance(story.state, Run)
    assert [name for name, state in story.state.jobs.items() if state.is_open] == ["fetch"]


def test_once_it_succeeded_the_job_starts() -> None:
    job_waiting().when(look(found(job="load"))).then(met(job="load", **EVIDENCE), queued("load"))


def test_when_it_failed_the_job_fails_and_the_others_go_on() -> None:
    job_waiting().when(look(found("failed", job="load", reason="ingest failed"))).then(
        lost(job="load", run=AT_NOON, version=7, outcome="failed"),
        settled("load", "upstream_failed", reason=Says("ingest failed")),
    )


def test_when_the_time_is_up_the_job_has_timed_out() -> None:
    job_waiting({**INGEST, "timeout_minutes": 5}).given(minutes(5)).when(look(at=NOON + minutes(5))).then(
        expired(job="load"), settled("load", "timed_out")
    )


def test_a_job_whose_condition_does_not_hold_waits_for_nothing() -> None:
    plan = document(job("fetch"), job("mend", after=["fetch"], when="any_failed", waits_for=[INGEST]))
    story = given(requested(plan, request=SCHEDULED), report("fetch", "submitted", handle="h1"))
    story.when(report("fetch", "succeeded", handle="h1")).then(
        succeeded("fetch"), settled("mend", "skipped"), finished("succeeded")
    )


def test_a_job_of_a_run_without_an_instant_starts_at_once_and_once() -> None:
    plan = document(job("load", waits_for=[INGEST]), job("fetch"), parallelism=1)
    story = given(requested(plan))
    assert isinstance(story.state, Run)
    assert story.state.active == 1
    assert awaited_by(story) == []


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_is_cancelled_at_once_and_waits_no_more() -> None:
    story = waiting()
    story.when(CancelRun("ada")).then(cancel_requested(), settled("load", "cancelled"), finished("cancelled"))
    assert awaited_by(story.given(CancelRun("ada"))) == []
    story.given(CancelRun("ada")).when(look(found())).then()


def test_a_job_that_waits_can_be_cancelled_and_marked() -> None:
    job_waiting().when(CancelJob(JobName("load"), "ada")).then(settled("load", "cancelled"))
    story = job_waiting().given(MarkJob(JobName("load"), "succeeded", "ada", "it is there"))
    assert awaited_by(story) == []
    story.when(look(found(job="load"))).then()


def test_marking_every_job_of_a_run_that_waits_ends_it() -> None:
    waiting().when(MarkJob(JobName("load"), "succeeded", "ada", "done by hand")).then(
        marked("load", "succeeded"), finished("succeeded")
    )


def test_a_rerun_waits_anew_for_what_was_not_met() -> None:
    plan = document(waits_for=[INGEST])
    story = given(requested(plan, request=SCHEDULED), look(found("failed")))
    story.when(reopen(plan, failed=True, request="r")).then(reopened(plan, failed=True, request="r"), begun())


def test_a_rerun_does_not_wait_again_for_what_was_met() -> None:
    plan = document(waits_for=[INGEST])
    story = given(
        requested(plan, request=SCHEDULED),
        look(found()),
        report("load", "submitted", handle="h1"),
        report("load", "failed", handle="h1", failure="user"),
    )
    story.when(reopen(plan, failed=True, request="r")).then(reopened(plan, failed=True, request="r"), queued("load", 2))


def test_a_rerun_of_a_cancelled_run_waits_anew() -> None:
    plan = document(waits_for=[INGEST])
    story = given(requested(plan, request=SCHEDULED), CancelRun("ada"))
    story.when(reopen(plan, failed=True, request="r")).then(reopened(plan, failed=True, request="r"), begun())


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_wait_that_begins_is_looked_at_at_once_and_once_for_all() -> None:
    story = waiting(INGEST, {"workflow": "rates"})
    assert isinstance(story.state, Run)
    assert effects_of_run(story.state, story.history[-1][1]) == [LookAtWaits(story.state.run)]


def test_a_run_that_waits_is_looked_at_again_in_case_a_wake_up_was_lost() -> None:
    run = waiting().state
    assert isinstance(run, Run)
    assert due_of_run(run, NOON) == NOON + minutes(5)
    assert pending_of_run(run, NOON + minutes(4)) == []
    assert pending_of_run(run, NOON + minutes(5)) == [LookAtWaits(run.run)]
    assert pending_of_run(run, NOON, everything=True) == [LookAtWaits(run.run)]


def test_a_deadline_is_due_to_the_moment() -> None:
    run = waiting({**INGEST, "timeout_minutes": 2}).state
    assert isinstance(run, Run)
    assert due_of_run(run, NOON) == NOON + minutes(2)
    assert pending_of_run(run, NOON + minutes(2)) == [LookAtWaits(run.run)]


def test_a_file_is_looked_for_more_and_more_seldom_and_for_a_bounded_number_of_times() -> None:
    run = waiting({"file": "/in/sales.csv", "timeout_minutes": 24 * 60}).state
    assert isinstance(run, Run)
    at, gaps = NOON, []
    while at < NOON + hours(24):
        following = min(due_looks(run, at))
        gaps.append(following - at)
        at = following
    assert gaps[0] == timedelta(seconds=30)
    assert max(gaps) <= timedelta(seconds=600)
    assert len(gaps) < 250


def test_what_is_over_is_looked_at_no_more() -> None:
    run = waiting().given(look(found())).state
    assert isinstance(run, Run)
    assert due_looks(run, NOON) == []


def test_a_snapshot_of_a_run_that_waits_folds_on_as_the_run_does() -> None:
    for story in (waiting(), job_waiting()):
        assert isinstance(story.state, Run)
        kept = load(dump(story.state), plans)
        assert same(kept, story.state)
        name = "load" if story.state.jobs[JobName("load")].status and "load" in story.state.gates else ""
        again = Story(kept, story.now, story.history).given(look(found(job=name)))
        assert same(again.state, story.given(look(found(job=name))).state)


# --- why --------------------------------------------------------------------------------------------------------------


def told(story: Story, name: str = "", upstream: Any = None) -> list[Condition]:
    run = story.state
    assert isinstance(run, Run)
    how = {} if upstream is None else {"upstream": upstream}
    if name:
        return why_job(run, JobName(name), story.now, **how)
    return why_run(run, run.run, story.now, workflow=None, plan=None, **how)


def test_why_names_the_run_that_is_waited_for_how_it_is_doing_and_what_clears_it() -> None:
    running = Condition("running", "fetch", "fetch is running (attempt 1).")
    (condition,) = told(waiting(), upstream=lambda run: [running] if run == AT_NOON else [])
    assert condition.code == "waits_for_run"
    assert condition.message == (
        f"nightly@1 waits for {AT_NOON}: fetch is running (attempt 1). It waits for as long as it takes."
    )
    assert condition.clears == f"when {AT_NOON} succeeds"
    assert condition.holders == (AT_NOON,)
    assert condition.chain == (running,)


def test_why_tells_when_what_is_waited_for_is_due_and_until_when_it_is_waited_for() -> None:
    later = NOON + hours(1)
    due = Condition("before_its_time", AT_NOON, "ingest is scheduled for later.", clears_at=later)
    (condition,) = told(waiting({**INGEST, "timeout_minutes": 120}), upstream=lambda _: [due])
    assert condition.clears_at == later
    assert "At 2026-03-02T14:00:00Z it gives up." in condition.message
    (condition,) = told(waiting({**INGEST, "timeout_minutes": 120, "on_timeout": "go_on"}))
    assert condition.clears_at == NOON + hours(2)
    assert "it goes on without it" in condition.message


def test_why_tells_of_a_job_what_it_waits_for_and_what_its_run_waits_for() -> None:
    (condition,) = told(job_waiting({**INGEST, "job": "fetch", "until": "ended"}), "load")
    assert (condition.subject, condition.clears) == ("load", f"when job fetch of {AT_NOON} ends")
    (condition,) = told(waiting(), "load")
    assert (condition.code, condition.subject) == ("waits_for_run", "load")
    assert told(job_waiting(), "fetch")[0].code == "queued"


def test_why_tells_of_files_windows_and_instants_before() -> None:
    file, window, before = told(
        waiting(
            {"file": "/in/a.csv", "timeout_minutes": 60},
            {**INGEST, "latest_within_minutes": 90},
            {**INGEST, "lag_instants": 2},
        )
    )
    assert (file.code, file.clears_at) == ("waits_for_file", NOON + hours(1))
    assert file.clears.startswith("when /in/a.csv is there")
    assert (window.code, window.clears) == ("waits_for_success", "when a run of ingest succeeds")
    assert before.clears == "when ingest, 2 instants earlier succeeds"
