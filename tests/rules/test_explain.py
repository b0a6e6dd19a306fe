"""`why` names every condition that keeps a job or a run from running, since when, and what will clear it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.decide.commands import (
    AdmitRun,
    Advance,
    CancelJob,
    CancelRun,
    DropHeldRun,
    MarkJob,
    PauseWorkflow,
    RecordClaim,
    RecordReport,
    RecordStopSent,
    RegisterWorkflow,
    ReleaseClaim,
    Tick,
    UnregisterWorkflow,
    WorkflowCommand,
)
from shared.decide.workflow import decide_workflow
from shared.errors import NotFound
from shared.events import Event
from shared.explain import Condition, why_job, why_run
from shared.ids import JobName, RunId, WorkflowName, scheduled_run
from shared.state.run import NotRequested, fold
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.workflow.plan import Plan
from tests.rules.walks import (
    DOCUMENT,
    NOON,
    Walk,
    begun,
    doubt,
    fail,
    job,
    plan_of,
    random_walk,
    request_of,
    submit,
    succeed,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
NIGHTLY = WorkflowName("nightly")


def why(walk: Walk, name: str) -> list[Condition]:
    return why_job(walk.run, JobName(name), walk.now)


def only(found: Sequence[Condition]) -> Condition:
    assert len(found) == 1, found
    return found[0]


# --- a job ------------------------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_others_lists_each_of_them_with_how_that_one_is() -> None:
    walk = begun(job("extract"), job("fetch"), job("load", "extract", "fetch"))
    walk.do(submit("extract", running=True, now=NOON), after=MINUTE)
    first, second = why(walk, "load")
    assert first.code == second.code == "waits_for_job"
    assert first.message == "load waits for extract, which is running (attempt 1)."
    assert first.since == NOON
    assert first.clears == "when extract succeeds"
    assert first.holders == ("extract",)
    assert second.message == "load waits for fetch, which is about to start (attempt 1)."


def test_a_wait_is_followed_to_its_root_causes() -> None:
    walk = begun(
        job("extract", retry={"attempts": 3, "delay_seconds": 60, "jitter": 0}),
        job("clean", "extract"),
        job("join", "clean"),
        job("load", "join"),
    ).do(fail("extract"))
    found = only(why(walk, "load"))
    assert found.message == (
        "load waits for join, which is waiting itself, in the end for extract (in backoff until 2026-03-01T12:01:00Z)."
    )
    root = only(found.chain)
    assert root.code == "backoff"
    assert root.subject == "extract"
    assert root.clears_at == NOON + MINUTE


def test_a_job_at_the_limit_names_it_who_holds_the_places_and_who_is_ahead() -> None:
    walk = begun(job("a"), job("b"), job("c"), job("d"), job("e", priority=-1), parallelism=2)
    found = only(why(walk, "e"))
    assert found.code == "parallelism"
    assert found.message == (
        "e waits for a place: 2 attempts of a run may be under way at once (parallelism), held by a and b. "
        "2 ready jobs come first: c and d."
    )
    assert found.holders == ("a", "b")
    assert found.since == NOON
    assert found.clears == "when a or b ends, and the 2 ahead of it had a place"
    assert only(why(walk, "c")).clears == "when a or b ends"


def test_a_job_in_backoff_names_class_reason_budget_and_moment() -> None:
    walk = begun(job("a", retry={"attempts": 3, "delay_seconds": 60, "jitter": 0})).do(fail("a"), after=MINUTE)
    found = only(why(walk, "a"))
    assert found.code == "backoff"
    assert found.message == (
        "Attempt 1 of a failed at 2026-03-01T12:01:00Z (user: exit code 1). It is tried again at 2026-03-01T12:02:00Z: "
        "1 of 3 tries for failures of class user are used."
    )
    assert found.clears == "at 2026-03-01T12:02:00Z (try 2 of 3)"
    assert found.clears_at == NOON + 2 * MINUTE
    assert found.since == NOON + MINUTE


def test_a_job_in_backoff_while_all_places_are_taken_has_two_unmet_conditions() -> None:
    walk = begun(job("a", retry={"attempts": 2}), job("b"), parallelism=1).do(fail("a"))
    assert [one.code for one in why(walk, "a")] == ["backoff", "parallelism"]


def test_each_class_of_failure_has_its_own_budget_in_the_explanation() -> None:
    walk = begun(job("a", retry={"attempts": 2, "delay_seconds": 0})).do(
        fail("a", failure="infrastructure", reason="spot")
    )
    assert "1 of 3 tries for failures of class infrastructure" in only(why(walk, "a")).message


def test_a_job_whose_upstream_failed_names_who_failed_in_the_end_and_what_can_be_done() -> None:
    walk = begun(job("a"), job("b", "a"), job("c", "b")).do(fail("a"))
    found = only(why(walk, "c"))
    assert found.code == "upstream_failed"
    assert found.message == "c did not run: b did not run. It was settled at 2026-03-01T12:00:00Z."
    root = only(found.chain)
    assert root.code == "failed"
    assert root.message == "a failed at 2026-03-01T12:00:00Z (user, exit code 1): exit code 1."
    assert found.clears == "runfold rerun nightly@1 --from-failed"


def test_a_failure_upstream_is_told_before_the_other_jobs_have_ended() -> None:
    walk = begun(job("a"), job("b"), job("c", "a", "b")).do(fail("a"))
    first, second = why(walk, "c")
    assert first.code == "upstream_failed"
    assert first.message.startswith(
        "c will not run in this round: it needs all jobs before it to succeed, and a failed."
    )
    assert first.since == NOON
    assert second.code == "waits_for_job"
    assert second.holders == ("b",)


@pytest.mark.parametrize(
    ("policy", "clears"),
    [
        (
            "wait",
            "the target finding work under the attempt's token, or finding none twice; or runfold mark nightly@1 a succeeded --reason WHY (or failed, or skipped)",
        ),
        (
            "ask",
            "runfold mark nightly@1 a succeeded --reason WHY (or failed, or skipped); or the target finding work under the attempt's token, or finding none twice",
        ),
        (
            "assume_lost",
            "at 2026-03-01T12:30:00Z, unless there is evidence before: the target finding work under the attempt's token, "
            "or finding none twice",
        ),
    ],
)
def test_a_job_in_doubt_names_policy_reason_and_the_evidence_awaited(policy: str, clears: str) -> None:
    walk = begun(job("a", doubt={"policy": policy, "after_minutes": 30})).do(doubt("a", reason="RunTask timed out"))
    found = only(why(walk, "a"))
    assert found.code == "doubt"
    assert found.message.startswith(
        "Attempt 1 of a was asked for and nobody can tell whether it was done: RunTask timed out."
    )
    assert f"the policy is {policy}" in found.message
    assert found.since == NOON
    assert found.clears == clears
    assert found.clears_at == (NOON + 30 * MINUTE if policy == "assume_lost" else None)


def test_a_job_in_doubt_with_a_known_handle_awaits_what_the_target_says_of_it() -> None:
    walk = begun(job("a")).do(submit("a"), RecordReport(JobName("a"), 1, "unknown"))
    assert "what the target says of arn:a:1" in only(why(walk, "a")).clears


def test_a_stop_nobody_confirmed_is_named_beside_how_the_attempt_is() -> None:
    walk = begun(job("a", stop_grace_seconds=0)).do(submit("a"), CancelJob(JobName("a"), "ada", "too slow"))
    stop, under_way = why(walk, "a")
    assert stop.code == "stop_unconfirmed"
    assert "(cancel: ada too slow); the target has not accepted that yet" in stop.message
    assert "flagged for a person at 2026-03-01T12:10:00Z" in stop.message
    assert under_way.code == "submitted"
    walk.do(RecordStopSent(JobName("a"), 1), after=MINUTE).do(Advance(), after=HOUR)
    stop, _ = why(walk, "a")
    assert "the target accepted that at 2026-03-01T12:01:00Z" in stop.message
    assert "It was flagged for a person at 2026-03-01T13:01:00Z" in stop.message


def test_each_phase_of_an_attempt_is_told() -> None:
    walk = begun(job("a", timeouts={"queue_minutes": 5, "run_minutes": 10}))
    queued = only(why(walk, "a"))
    assert queued.code == "queued"
    assert queued.message.endswith("Its queue timeout is at 2026-03-01T12:05:00Z.")
    walk.do(RecordClaim(JobName("a"), 1, "dispatcher 7", {}, NOON + MINUTE))
    claimed = only(why(walk, "a"))
    assert claimed.code == "claimed"
    assert claimed.clears_at == NOON + MINUTE
    assert "dispatcher 7 may be asking the target" in claimed.message
    walk.do(ReleaseClaim(JobName("a"), 1, "dispatcher 7", "throttled", 30))
    again = only(why(walk, "a"))
    assert "The target did not take attempt 1 of a: throttled." in again.message
    assert again.clears_at == NOON + timedelta(seconds=30)
    walk.do(submit("a"), after=MINUTE)
    assert only(why(walk, "a")).code == "submitted"
    walk.do(submit("a", running=True, now=walk.now))
    running = only(why(walk, "a"))
    assert running.code == "running"
    assert running.since == NOON + MINUTE
    assert running.message.endswith("Its run timeout is at 2026-03-01T12:11:00Z.")


def test_before_the_runs_time_a_job_names_the_moment() -> None:
    walk = begun(job("a"), request={"start_after": NOON + HOUR})
    found = only(why(walk, "a"))
    assert found.code == "before_its_time"
    assert found.clears_at == NOON + HOUR
    assert found.clears == "at 2026-03-01T13:00:00Z"


def test_how_a_job_ended_is_told() -> None:
    walk = begun(
        job("good"),
        job("bad"),
        job("undone", "bad", when="any_succeeded"),
        job("unneeded", "good", when="any_failed"),
        job("gone"),
        job("marked"),
        parallelism=6,
    )
    walk.do(succeed("good"), fail("bad"), CancelJob(JobName("gone"), "ada", "not now"), doubt("marked"))
    walk.do(MarkJob(JobName("marked"), "failed", "ada", "the host is gone"))
    codes = {name: why(walk, name)[0].code for name in ("good", "bad", "undone", "unneeded", "gone", "marked")}
    assert codes == {
        "good": "succeeded",
        "bad": "failed",
        "undone": "upstream_failed",
        "unneeded": "skipped_by_rule",
        "gone": "stop_unconfirmed",
        "marked": "marked",
    }
    assert only(why(walk, "unneeded")).message.endswith("no job before it failed.")
    assert only(why(walk, "marked")).message == (
        "marked was marked failed by ada at 2026-03-01T12:00:00Z: the host is gone."
    )


def test_a_cancelled_run_says_so_of_what_still_has_to_hear_of_it() -> None:
    walk = begun(job("a"), job("b", "a")).do(submit("a"), CancelRun("ada", "wrong day"))
    found = why_run(walk.run, walk.run.run, walk.now, workflow=None, plan=None)
    assert [one.code for one in found] == ["cancelling", "stop_unconfirmed"]
    assert found[0].message.startswith("The run was cancelled by ada at 2026-03-01T12:00:00Z: wrong day;")


def test_a_pause_of_the_workflow_is_mentioned_but_holds_back_no_run_that_exists() -> None:
    walk = begun(job("a"))
    state, _ = workflow(PauseWorkflow("ada", "migration"))
    queued, paused = why_job(walk.run, JobName("a"), NOON, workflow=state)
    assert queued.code == "queued"
    assert paused.code == "workflow_paused"
    assert paused.since == NOON
    assert paused.clears == "runfold resume nightly"


def test_a_job_the_run_does_not_have_is_not_found() -> None:
    with pytest.raises(NotFound, match="the run has no job b; it has a"):
        why(begun(job("a")), "b")


def test_an_explanation_of_ten_thousand_jobs_stays_bounded() -> None:
    width = 3_000
    jobs = [job(f"s{number}") for number in range(width)]
    jobs += [job(f"m{number}", f"s{number}") for number in range(width)]
    walk = begun(*jobs, job("end", *(f"m{number}" for number in range(width))), parallelism=5)
    found = why(walk, "end")
    assert len(found) == 21
    assert found[-1].message.startswith("end also waits for 2980 more jobs: ")
    assert all(len(one.holders) <= 20 and len(one.chain) <= 5 for one in found)
    assert len(why_run(walk.run, walk.run.run, NOON, workflow=None, plan=None)) <= 52


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_each_job_of_each_version_can_be_explained(seed: int) -> None:
    walk = random_walk(seed, steps=60)
    state: Any = NotRequested()
    for at, events in walk.commits:
        state = fold(((at, event) for event in events), walk.plans, state)
        found = why_run(state, state.run, at, workflow=None, plan=None)
        assert found
        for name in walk.plan.jobs:
            conditions = why_job(state, name, at)
            assert conditions
            for one in conditions:
                assert one.message.endswith(".")
                assert "None" not in one.message
                assert one.since is None or one.since <= at
            found += conditions
        assert all(one.subject in {*walk.plan.jobs, state.run} for one in found)


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_lists_what_each_job_under_way_waits_for_and_how_many_come_after() -> None:
    walk = begun(job("a"), job("b"), job("c"), job("d"), job("e", "a", "b"), parallelism=2)
    walk.do(doubt("b"))
    found = why_run(walk.run, walk.run.run, walk.now, workflow=None, plan=None)
    assert [one.code for one in found] == ["doubt", "queued", "parallelism", "waits_for_job"]
    assert found[2].message.startswith("c and d wait for a place: 2 attempts")
    assert found[3].message == "1 job waits for jobs before it: e."


def test_a_finished_run_names_the_jobs_that_failed_it() -> None:
    walk = begun(job("a"), job("b", "a"), job("c")).do(fail("a"), succeed("c"))
    found = only(why_run(walk.run, walk.run.run, walk.now, workflow=None, plan=None))
    assert found.code == "run_finished"
    assert found.message == "The run failed at 2026-03-01T12:00:00Z, because of a."
    assert [one.subject for one in found.chain] == ["a"]


# --- a run that does not exist ----------------------------------------------------------------------------------------

HOURLY = {"cron": "0 * * * *"}


def plan_with(**fields: Any) -> Plan:
    return plan_of(job("a"), **{"schedule": HOURLY, **fields})


def workflow(
    *steps: WorkflowCommand | timedelta, plan: Plan | None = None
) -> tuple[WorkflowState, list[tuple[datetime, Event]]]:
    plan = plan or plan_with()
    now = NOON
    state: NotRegistered | WorkflowState = NotRegistered()
    history: list[tuple[datetime, Event]] = []
    for step in (RegisterWorkflow(NIGHTLY, DOCUMENT, "ada"), *steps):
        if isinstance(step, timedelta):
            now += step
            continue
        events = decide_workflow(state, step, now=now, plans=lambda digest: plan)
        pairs = [(now, event) for event in events]
        state = fold_workflow(pairs, state)
        history += pairs
    assert isinstance(state, WorkflowState)
    return state, history


def why_not(
    run: str | RunId,
    state: Any,
    now: datetime,
    plan: Plan | None = None,
    history: Sequence[tuple[datetime, Event]] = (),
) -> list[Condition]:
    return why_run(NotRequested(), RunId(run), now, workflow=state, plan=plan or plan_with(), history=history)


def at(moment: datetime) -> RunId:
    return scheduled_run(NIGHTLY, moment)


def test_a_run_whose_instant_has_not_come_names_it() -> None:
    state, _ = workflow()
    found = only(why_not(at(NOON + HOUR), state, NOON))
    assert found.code == "before_its_time"
    assert found.message == "nightly is scheduled for 2026-03-01T13:00:00Z, which has not come."
    assert found.clears_at == NOON + HOUR


def test_a_run_of_a_paused_workflow_names_who_paused_it_and_what_becomes_of_the_instant() -> None:
    state, _ = workflow(MINUTE, PauseWorkflow("ada", "migration"))
    future = why_not(at(NOON + HOUR), state, NOON + MINUTE)
    assert [one.code for one in future] == ["before_its_time", "paused"]
    past = only(why_not(at(NOON + HOUR), state, NOON + 2 * HOUR))
    assert past.code == "paused"
    assert past.since == NOON + MINUTE
    assert past.message.startswith("nightly was paused by ada at 2026-03-01T12:01:00Z: migration;")
    assert past.clears == "runfold resume nightly"


@pytest.mark.parametrize(
    ("catchup", "said"),
    [("none", "counts as missed"), ("latest", "only the latest instant"), ("all", "up to 100 instants")],
)
def test_a_paused_instant_says_what_catchup_will_make_of_it(catchup: str, said: str) -> None:
    plan = plan_with(schedule={**HOURLY, "catchup": catchup})
    state, _ = workflow(PauseWorkflow("ada"), plan=plan)
    assert said in only(why_not(at(NOON + HOUR), state, NOON + 2 * HOUR, plan)).message


def test_a_held_run_names_its_place_the_limit_and_who_holds_it() -> None:
    plan = plan_with(overlap="queue")
    state, _ = workflow(HOUR, Tick(), HOUR, Tick(), HOUR, Tick(), plan=plan)
    found = only(why_not(at(NOON + 3 * HOUR), state, NOON + 3 * HOUR, plan))
    assert found.code == "held"
    assert found.since == NOON + 3 * HOUR
    assert "1 run of nightly may be active at once, and nightly@2026-03-01T13:00:00Z is." in found.message
    assert "It is number 2 of 2 in the queue." in found.message
    assert found.holders == (at(NOON + HOUR),)
    first = only(why_not(at(NOON + 2 * HOUR), state, NOON + 3 * HOUR, plan))
    assert first.clears == "when nightly@2026-03-01T13:00:00Z ends"


def test_a_future_instant_under_a_limit_that_is_reached_says_what_would_become_of_it() -> None:
    plan = plan_with(overlap="skip")
    state, _ = workflow(HOUR, Tick(), plan=plan)
    found = why_not(at(NOON + 2 * HOUR), state, NOON + HOUR, plan)
    assert [one.code for one in found] == ["before_its_time", "active_runs"]
    assert "it would be skipped (overlap is skip)" in found[1].message


def test_an_instant_that_was_skipped_missed_or_dropped_is_told_from_the_history() -> None:
    plan = plan_with(overlap="skip")
    state, history = workflow(HOUR, Tick(), HOUR, Tick(), timedelta(hours=3), Tick(), plan=plan)
    skipped = only(why_not(at(NOON + 2 * HOUR), state, NOON + 5 * HOUR, plan, history))
    assert skipped.code == "skipped"
    assert "overlap is skip and nightly@2026-03-01T13:00:00Z is still active" in skipped.message
    missed = only(why_not(at(NOON + 3 * HOUR), state, NOON + 5 * HOUR, plan, history))
    assert missed.code == "missed"
    assert missed.since == NOON + 5 * HOUR
    assert only(why_not(at(NOON + 3 * HOUR), state, NOON + 5 * HOUR, plan)).code == "not_a_run"
    queue = plan_with(overlap="queue")
    dropped = at(NOON + 2 * HOUR)
    state, history = workflow(HOUR, Tick(), HOUR, Tick(), DropHeldRun(dropped, "ada", "not needed"), plan=queue)
    found = only(why_not(dropped, state, NOON + 2 * HOUR, queue, history))
    assert found.code == "dropped"
    assert "by ada" in found.message


def test_a_run_let_in_whose_stream_has_not_begun_says_so() -> None:
    state, _ = workflow(AdmitRun(request_of(plan_with(), "nightly@k1")))
    assert only(why_not("nightly@k1", state, NOON)).code == "admitted"


def test_an_instant_that_is_due_and_not_yet_dealt_with_is_dealt_with_next() -> None:
    state, _ = workflow()
    assert only(why_not(at(NOON + HOUR), state, NOON + HOUR + timedelta(seconds=1))).code == "due"


def test_an_instant_that_no_schedule_names_gives_its_neighbours() -> None:
    state, _ = workflow()
    found = only(why_not(at(NOON + 90 * MINUTE), state, NOON))
    assert found.code == "unknown_instant"
    assert found.message == (
        "nightly is not scheduled at 2026-03-01T13:30:00Z; the nearest instants are 2026-03-01T13:00:00Z and "
        "2026-03-01T14:00:00Z."
    )


def test_an_instant_before_the_workflow_was_registered_is_told() -> None:
    state, _ = workflow()
    assert only(why_not(at(NOON - HOUR), state, NOON)).code == "before_registration"


def test_a_workflow_without_schedule_knows_no_instants() -> None:
    plan = plan_of(job("a"))
    state, _ = workflow(plan=plan)
    assert only(why_not(at(NOON + HOUR), state, NOON, plan)).message == (
        "nightly has no schedule, so nothing is due at 2026-03-01T13:00:00Z."
    )


def test_a_run_nobody_asked_for_and_a_workflow_nobody_registered() -> None:
    state, _ = workflow()
    assert only(why_not("nightly@k1", state, NOON)).code == "not_requested"
    for missing in (None, NotRegistered()):
        assert only(why_not("nightly@k1", missing, NOON)).message == "There is no workflow nightly."
    gone, _ = workflow(UnregisterWorkflow("ada"))
    assert only(why_not(at(NOON + HOUR), gone, NOON)).code == "not_registered"


def test_the_same_question_at_a_past_instant_is_answered_as_it_was_then() -> None:
    walk = begun(job("a"), job("b", "a"))
    before = walk.run
    walk.do(submit("a"), succeed("a"), after=MINUTE)
    assert only(why_job(before, JobName("b"), NOON)).code == "waits_for_job"
    assert only(why_job(walk.run, JobName("b"), walk.now)).code == "queued"
