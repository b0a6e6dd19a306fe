"""`verify` is silent about every history that could really be, and names what is wrong with every one that could not."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.codec import record_of
from shared.decide.commands import (
    AdmitRun,
    Advance,
    CancelRun,
    DropHeldRun,
    MarkJob,
    PauseWorkflow,
    RecordReport,
    RegisterWorkflow,
    ReleaseRun,
    ReopenRun,
    ResumeWorkflow,
    Tick,
    UnregisterWorkflow,
    WorkflowCommand,
)
from shared.decide.workflow import decide_workflow
from shared.errors import NotFound, Rejected
from shared.events import (
    AttemptCancelled,
    AttemptClaimed,
    AttemptDoubted,
    AttemptFailed,
    AttemptQueued,
    AttemptStarted,
    AttemptSubmitted,
    AttemptSucceeded,
    ClaimReleased,
    DocumentAccepted,
    Event,
    HeldRunDropped,
    InstantSkipped,
    InstantsMissed,
    JobMarked,
    JobSettled,
    JobsReady,
    LateReported,
    RunAdmitted,
    RunCancelRequested,
    RunFinished,
    RunHeld,
    RunOpened,
    RunReleased,
    RunReopened,
    StopFlagged,
    StopRequested,
    StopSent,
    TriggerMissed,
    TriggerRefused,
    UnknownEvent,
    WatermarkMoved,
    WorkflowRegistered,
)
from shared.ids import (
    CommitId,
    Digest,
    Handle,
    JobName,
    RunId,
    StreamName,
    WorkflowName,
    document_stream,
    run_stream,
    scheduled_run,
    workflow_stream,
)
from shared.ports import Record, RunRow
from shared.secrecy import secrets_in
from shared.state.run import Run
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.stores.memory import MemoryDues, MemoryStore, MemoryViews
from shared.usecases.verify import Handles, Progress, Violation, verify, verify_stream
from shared.workflow.plan import Plan
from tests.rules.walks import (
    DOCUMENT,
    NOON,
    begun,
    doubt,
    fail,
    job,
    plan_of,
    random_walk,
    records_of,
    request_of,
    submit,
    succeed,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
A, B = JobName("a"), JobName("b")
RUN = run_stream(RunId("nightly@1"))
NIGHTLY = WorkflowName("nightly")


def found(violations: Sequence[Violation]) -> list[str]:
    return [f"{one.invariant} at {one.version}: {one.message}" for one in violations]


def checked(plan: Plan, *commits: Event | Sequence[Any] | timedelta, cause: str = "report") -> list[str]:
    """What is found in a run with these commits, each given as its events; a time in between lets time pass."""
    now = NOON
    pairs: list[tuple[datetime, Sequence[Event]]] = [(now, [request_of(plan)])]
    for commit in commits:
        if isinstance(commit, timedelta):
            now += commit
        else:
            pairs.append((now, commit if isinstance(commit, Sequence) else [commit]))
    records = records_of(RUN, pairs, causes=[cause] * len(pairs))
    # What the fold thinks of it is another matter: the checker finds what is wrong by itself.
    return [one for one in found(verify_stream(records, lambda digest: plan)) if "cannot be folded" not in one]


def queued(name: JobName = A, attempt: int = 1) -> AttemptQueued:
    return AttemptQueued(job=name, attempt=attempt)


def submitted(name: JobName = A, attempt: int = 1, handle: str = "arn:1") -> AttemptSubmitted:
    return AttemptSubmitted(job=name, attempt=attempt, handle=Handle(handle))


def succeeded(name: JobName = A, attempt: int = 1) -> AttemptSucceeded:
    return AttemptSucceeded(job=name, attempt=attempt, exit_code=0)


def failed(name: JobName = A, attempt: int = 1, **fields: Any) -> AttemptFailed:
    return AttemptFailed(job=name, attempt=attempt, failure="user", **fields)


def doubted(policy: Any = "wait", resolve_at: datetime | None = None) -> AttemptDoubted:
    return AttemptDoubted(job=A, attempt=1, reason="no answer", policy=policy, resolve_at=resolve_at)


def claimed(claimer: str = "one") -> AttemptClaimed:
    return AttemptClaimed(job=A, attempt=1, claimer=claimer, request={}, send_before=NOON + MINUTE)


def stop_requested() -> StopRequested:
    return StopRequested(job=A, attempt=1, cause="cancel", flag_at=NOON + 10 * MINUTE)


def reopened(*jobs: JobName, failed: bool = False) -> RunReopened:
    return RunReopened(jobs=jobs, failed=failed, document=DOCUMENT, document_version=1, by="ada")


ONE = plan_of(job("a", retry={"attempts": 3}))
TWO = plan_of(job("a"), job("b"), parallelism=1)
CHAIN = plan_of(job("a"), job("b", "a"))
DONE = RunFinished(outcome="succeeded")


# --- healthy histories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_run_that_met_everything_is_clean(seed: int) -> None:
    walk = random_walk(seed)
    assert found(verify_stream(walk.records(), walk.plans)) == []


def test_the_walks_meet_what_there_is_to_meet() -> None:
    seen = {type(event) for seed in range(40) for _, events in random_walk(seed).commits for event in events}
    assert {AttemptClaimed, AttemptDoubted, ClaimReleased, StopFlagged, StopSent, JobMarked, RunReopened} <= seen
    assert {AttemptStarted, AttemptCancelled, JobSettled, JobsReady, LateReported, RunOpened, RunFinished} <= seen


def test_a_rerun_on_a_newer_document_is_clean() -> None:
    newer = plan_of(
        job("a"), job("c", "a", when="outcomes.a == 'succeeded' and jobs.a.outputs.rows > 2"), digest=Digest("e" * 64)
    )
    walk = begun(job("a"), job("b", "a"))
    plans = {DOCUMENT: walk.plan, newer.digest: newer}
    walk.plans = plans.__getitem__  # type: ignore[method-assign, assignment]
    walk.do(RecordReport(A, 1, "succeeded", outputs={"rows": 3}), succeed("b"))
    walk.do(ReopenRun((), False, newer.digest, 2, ("b is gone, c is new",), "ada"), submit("c"), succeed("c"))
    assert walk.run.outcome == "succeeded"
    assert found(verify_stream(walk.records(), plans.__getitem__)) == []


def random_schedule(rng: random.Random) -> Plan:
    schedule = {
        "cron": rng.choice(["0 * * * *", "*/10 * * * *", "30 2 * * *"]),
        "timezone": rng.choice(["UTC", "Europe/Berlin"]),
        "catchup": rng.choice(["none", "latest", "all"]),
    }
    fields = {
        "max_active_runs": rng.choice([None, 1, 3]),
        "overlap": rng.choice(["allow", "skip", "queue", "cancel_running"]),
    }
    return plan_of(job("a"), schedule=schedule, digest=Digest(f"{rng.getrandbits(64):064x}"), **fields)


def random_workflow(seed: int) -> tuple[list[Record], dict[Digest, Plan]]:
    rng = random.Random(seed)
    plans: dict[Digest, Plan] = {}
    state: NotRegistered | WorkflowState = NotRegistered()
    commits: list[tuple[datetime, Sequence[Event]]] = []
    # Through the change of the clocks on 29 March.
    now = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    for step in range(80):
        now += timedelta(minutes=rng.choice([0, 1, 7, 60, 300]))
        command: WorkflowCommand = Tick()
        chance = rng.random()
        if step == 0 or chance < 0.05:
            plan = random_schedule(rng)
            plans[plan.digest] = plan
            command = RegisterWorkflow(NIGHTLY, plan.digest, "ada")
        elif chance < 0.10:
            command = PauseWorkflow("ada")
        elif chance < 0.25:
            command = ResumeWorkflow("ada")
        elif chance < 0.30:
            command = AdmitRun(request_of(next(iter(plans.values())), f"nightly@k{step}"))
        elif chance < 0.50 and isinstance(state, WorkflowState) and state.holders:
            command = ReleaseRun(rng.choice(sorted(state.holders)), "succeeded")
        elif chance < 0.55 and isinstance(state, WorkflowState) and state.held:
            command = DropHeldRun(rng.choice(state.held).run, "ada")
        try:
            events = decide_workflow(state, command, now=now, plans=plans.__getitem__)
        except Rejected:
            continue
        if events:
            state = fold_workflow(((now, event) for event in events), state)
            commits.append((now, events))
    return records_of(workflow_stream(NIGHTLY), commits), plans


@pytest.mark.parametrize("seed", range(15))
def test_a_workflow_that_met_everything_is_clean(seed: int) -> None:
    records, plans = random_workflow(seed)
    assert found(verify_stream(records, plans.__getitem__)) == []


def test_an_upload_is_clean() -> None:
    accepted = DocumentAccepted(upload="etag", workflow=NIGHTLY, document=DOCUMENT)
    records = records_of(document_stream("nightly.json"), [(NOON, [accepted])])
    assert verify_stream(records, lambda digest: ONE) == []


def test_a_stream_written_by_a_newer_release_is_not_judged_fault_48() -> None:
    records = records_of(
        RUN, [(NOON, [request_of(ONE)]), (NOON, [UnknownEvent(type="JobTeleported", fields={"job": "a"})])]
    )
    assert verify_stream(records, lambda digest: ONE) == []


# --- I1 ---------------------------------------------------------------------------------------------------------------


def test_i1_an_attempt_bound_to_two_executions_is_found() -> None:
    assert checked(ONE, queued(), submitted(), doubted(), submitted(handle="arn:2")) == [
        "I1 at 5: attempt 1 of a is bound to arn:2, and was to arn:1"
    ]


def test_i1_one_execution_bound_to_two_attempts_is_found_also_across_streams() -> None:
    assert checked(ONE, [queued(), submitted(), failed(retry_at=NOON)], [queued(attempt=2), submitted(attempt=2)]) == [
        "I1 at 3: attempt 2 of a is bound to arn:1, and so is another attempt"
    ]
    handles = Handles()
    other = records_of(run_stream(RunId("nightly@2")), [(NOON, [request_of(ONE, "nightly@2"), queued(), submitted()])])
    records = records_of(RUN, [(NOON, [request_of(ONE), queued(), submitted()])])
    assert verify_stream(other, lambda digest: ONE, handles=handles) == []
    assert [one.invariant for one in verify_stream(records, lambda digest: ONE, handles=handles)] == ["I1"]


def test_i1_two_claimers_that_may_both_send_are_found_fault_14() -> None:
    assert checked(ONE, queued(), claimed("one"), claimed("two")) == [
        "I1 at 4: two and one may both send attempt 1 of a"
    ]


def test_i1_work_asked_for_again_though_it_is_bound_is_found() -> None:
    assert checked(ONE, queued(), submitted(), claimed())[0].startswith(
        "I1 at 4: attempt 1 of a was claimed to be sent again"
    )


def test_i1_a_second_attempt_beside_the_first_is_found() -> None:
    assert checked(ONE, queued(), queued(attempt=2)) == [
        "I1 at 3: a began attempt 2 while attempt 1 was under way",
    ]


def test_i1_reports_of_attempts_nobody_decided_are_found() -> None:
    assert checked(ONE, submitted()) == ["I1 at 2: AttemptSubmitted is about attempt 1 of a, which was never decided"]
    started = AttemptStarted(job=A, attempt=1, started_at=NOON)
    assert checked(ONE, queued(), started) == ["I1 at 3: attempt 1 of a runs without being bound to an execution"]
    released = ClaimReleased(job=A, attempt=1, reason="no", retry_at=NOON)
    assert checked(ONE, queued(), released) == []
    assert checked(ONE, queued(), submitted(), released) == [
        "I1 at 4: attempt 1 of a gave back a claim, and is bound to an execution"
    ]


def test_handles_beyond_the_bound_are_forgotten_and_counted() -> None:
    handles = Handles(most=2)
    for number in range(3):
        assert handles.bind(Handle(f"arn:{number}"), RUN, A, number)
    assert handles.forgotten == 1
    assert not handles.bind(Handle("arn:2"), RUN, A, 9)


# --- I2 ---------------------------------------------------------------------------------------------------------------


def test_i2_a_doubt_left_by_settling_or_by_the_next_attempt_is_found() -> None:
    assert checked(ONE, queued(), doubted(), JobSettled(job=A, outcome="cancelled")) == [
        "I2 at 4: a was settled as cancelled while attempt 1 was in doubt"
    ]
    assert checked(ONE, queued(), doubted(), queued(attempt=2)) == [
        "I2 at 4: a began attempt 2 while attempt 1 was under way"
    ]


def test_i2_a_doubt_given_up_by_another_policy_or_too_early_is_found() -> None:
    assert checked(ONE, queued(), doubted(), failed(assumed=True)) == [
        "I2 at 4: attempt 1 of a was given up, and its doubt policy is wait"
    ]
    lost = doubted("assume_lost", NOON + HOUR)
    assert checked(ONE, queued(), lost, MINUTE, failed(assumed=True))[0].startswith(
        "I2 at 4: attempt 1 of a was given up at"
    )
    assert checked(ONE, queued(), lost, HOUR, failed(assumed=True)) == []
    assert checked(ONE, queued(), failed(assumed=True)) == [
        "I2 at 3: attempt 1 of a was given up, and was not in doubt"
    ]


def test_i2_evidence_that_came_from_a_clock_is_found() -> None:
    assert checked(ONE, queued(), doubted(), succeeded(), cause="time") == [
        "I2 at 4: attempt 1 of a left its doubt by AttemptSucceeded, of which time alone was the cause"
    ]
    assert checked(ONE, queued(), doubted(), succeeded()) == []


def test_i2_a_doubt_left_to_be_sent_again_at_once_is_found() -> None:
    assert checked(ONE, queued(), doubted(), claimed()) == [
        "I2 at 4: attempt 1 of a left its doubt to be sent again before it was looked for twice"
    ]
    assert checked(ONE, queued(), doubted(), MINUTE, claimed()) == []


def test_i2_a_doubt_ended_by_nobody_named_is_found() -> None:
    mark = JobMarked(job=A, outcome="succeeded", by="", reason="it looked fine")
    assert checked(ONE, queued(), doubted(), mark) == [
        "I2 at 4: a was marked succeeded without a person's name and a reason"
    ]


# --- I3 ---------------------------------------------------------------------------------------------------------------


def test_i3_an_attempt_that_changes_after_its_end_is_found() -> None:
    assert checked(ONE, queued(), succeeded(), failed()) == [
        "I3 at 4: AttemptFailed is about attempt 1 of a, which had ended"
    ]


def test_i3_a_job_begun_again_in_the_same_round_is_found() -> None:
    assert checked(ONE, queued(), succeeded(), queued(attempt=2)) == [
        "I3 at 4: a began attempt 2 after it had ended as succeeded"
    ]


def test_i3_attempt_numbers_that_start_again_after_a_rerun_are_found() -> None:
    assert checked(ONE, [queued(), succeeded(), DONE], reopened(A), queued()) == [
        "I3 at 4: attempt 1 of a follows attempt 1"
    ]


def test_i3_whatever_follows_the_end_of_a_run_is_found() -> None:
    assert checked(ONE, [queued(), succeeded(), DONE], RunCancelRequested(by="ada")) == [
        "I3 at 3: RunCancelRequested follows the end of the run"
    ]


def test_i3_a_run_that_ended_before_its_jobs_is_found() -> None:
    assert checked(CHAIN, [queued(), succeeded(), DONE]) == [
        "I3 at 2: the run finished while b had not ended (waiting)"
    ]


def test_i3_a_run_reopened_under_way_or_requested_twice_is_found() -> None:
    assert checked(ONE, queued(), reopened(A))[0] == "I3 at 3: a run that has not finished was reopened"
    assert checked(ONE, request_of(ONE)) == ["I3 at 2: the run was requested twice"]


def test_i3_a_mark_on_an_attempt_that_is_well_is_found() -> None:
    mark = JobMarked(job=A, outcome="succeeded", by="ada", reason="enough")
    assert checked(ONE, queued(), submitted(), mark)[0].startswith("I3 at 4: a was marked succeeded while attempt 1")


def test_i3_a_late_report_of_something_that_has_not_ended_is_found() -> None:
    late = LateReported(job=A, attempt=1, report="failed")
    assert checked(ONE, queued(), late) == ["I3 at 3: a late report names attempt 1 of a, which has not ended"]


# --- I4 ---------------------------------------------------------------------------------------------------------------


def test_i4_a_job_that_began_before_those_it_comes_after_is_found() -> None:
    assert checked(CHAIN, [queued(), queued(B)]) == ["I4 at 2: b began attempt 1 before a had ended"]
    assert checked(CHAIN, JobsReady(jobs=(B,))) == ["I4 at 2: b became ready before a had ended"]


@pytest.mark.parametrize(
    ("when", "end", "holds"),
    [
        ("all_succeeded", succeeded(), True),
        ("all_succeeded", failed(), False),
        ("any_failed", failed(), True),
        ("any_failed", succeeded(), False),
        ("any_succeeded", failed(), False),
        ("all_done", failed(), True),
        ("outcomes.a == 'failed'", failed(), True),
        ("outcomes.a == 'failed'", succeeded(), False),
        ("jobs.a.outputs.rows > 2", AttemptSucceeded(job=A, attempt=1, outputs={"rows": 3}), True),
        ("jobs.a.outputs.rows > 2", succeeded(), False),
    ],
)
def test_i4_a_job_begun_or_settled_against_its_condition_is_found(when: str, end: Event, holds: bool) -> None:
    plan = plan_of(job("a"), job("b", "a", when=when))
    begun_anyway = checked(plan, [queued(), end, queued(B)])
    settled = checked(plan, [queued(), end, JobSettled(job=B, outcome="skipped")])
    if holds:
        assert begun_anyway == []
        assert settled == ["I4 at 2: b was settled as skipped, and its condition held"]
    else:
        assert begun_anyway == [f"I4 at 2: b began attempt 1, and its condition did not hold: {when}"]
        assert settled == []


def test_i4_a_retry_before_its_moment_is_found() -> None:
    again = failed(retry_at=NOON + HOUR)
    assert checked(ONE, queued(), again, queued(attempt=2))[0].startswith("I4 at 4: a began attempt 2 at")
    assert checked(ONE, queued(), again, HOUR, JobsReady(jobs=(A,))) == []


def test_i4_a_run_that_began_before_its_time_is_found() -> None:
    records = records_of(RUN, [(NOON, [request_of(ONE, start_after=NOON + HOUR), RunOpened(), queued()])])
    assert found(verify_stream(records, lambda digest: ONE))[0].startswith("I4 at 1: the run opened at")
    records = records_of(RUN, [(NOON, [request_of(ONE, start_after=NOON + HOUR), queued()])])
    assert "I4 at 1: a began attempt 1 before the run opened" in found(verify_stream(records, lambda digest: ONE))


def test_i4_success_without_an_attempt_is_found() -> None:
    assert checked(ONE, JobSettled(job=A, outcome="succeeded")) == [
        "I4 at 2: a was settled as succeeded without an attempt"
    ]


# --- I5 ---------------------------------------------------------------------------------------------------------------


def test_i5_more_under_way_than_allowed_is_found_at_the_event_though_it_passes_within_one_commit() -> None:
    assert checked(TWO, [queued(), queued(B), succeeded()]) == [
        "I5 at 2: attempt 1 of b makes 2 under way, and 1 are allowed"
    ]
    assert checked(TWO, [queued(), succeeded(), queued(B)]) == []


def test_i5_more_active_runs_than_allowed_are_found() -> None:
    plan = plan_of(job("a"), max_active_runs=1)
    admitted = [
        RunAdmitted(run=request.run, request=request) for request in (request_of(plan, f"nightly@{n}") for n in (1, 2))
    ]
    assert workflow_checked(plan, registered(), admitted) == [
        "I5 at 2: nightly@2 makes 2 active runs, and 1 are allowed"
    ]


# --- I6 ---------------------------------------------------------------------------------------------------------------

HOURLY = plan_of(job("a"), schedule={"cron": "0 * * * *"})


def workflow_checked(plan: Plan, *commits: Event | Sequence[Any]) -> list[str]:
    pairs = [
        (NOON + number * HOUR, commit if isinstance(commit, Sequence) else [commit])
        for number, commit in enumerate(commits)
    ]
    records = records_of(workflow_stream(NIGHTLY), pairs)
    return [one for one in found(verify_stream(records, lambda digest: plan)) if "cannot be folded" not in one]


def registered(version: int = 1) -> WorkflowRegistered:
    return WorkflowRegistered(workflow=NIGHTLY, document=DOCUMENT, version=version)


def moved(hours: int) -> WatermarkMoved:
    return WatermarkMoved(until=NOON + hours * HOUR, next_at=NOON + (hours + 1) * HOUR)


def admitted(hours: int) -> RunAdmitted:
    at = NOON + hours * HOUR
    request = request_of(HOURLY, scheduled_run(NIGHTLY, at), trigger="schedule", scheduled_at=at, admitted=True)
    return RunAdmitted(run=request.run, request=request)


def missed(first: int, last: int, count: int) -> InstantsMissed:
    return InstantsMissed(first_at=NOON + first * HOUR, last_at=NOON + last * HOUR, count=count, reason="away")


START: list[Event] = [registered(), moved(0)]


def test_i6_instants_that_became_a_run_a_skip_or_a_miss_are_clean() -> None:
    skipped = InstantSkipped(scheduled_at=NOON + 5 * HOUR, reason="overlap")
    released = RunReleased(run=admitted(1).run, outcome="succeeded")
    history: tuple[Any, ...] = (START, [admitted(1), moved(1)], released, [missed(2, 4, 3), skipped, moved(5)])
    assert workflow_checked(HOURLY, *history) == []


def test_i6_an_instant_that_became_nothing_is_found() -> None:
    assert workflow_checked(HOURLY, START, [admitted(1), moved(2)]) == [
        "I6 at 2: of the 2 instants due after 2026-03-01T12:00:00Z and until 2026-03-01T14:00:00Z, 1 became a run, a skip or a miss"
    ]


def test_i6_an_instant_dealt_with_twice_is_found_fault_37() -> None:
    again = InstantSkipped(scheduled_at=NOON + HOUR, reason="overlap")
    assert "I6 at 2: the instant 2026-03-01T13:00:00Z was dealt with twice" in workflow_checked(
        HOURLY, START, [admitted(1), again, moved(1)]
    )
    held = RunHeld(run=admitted(1).run, request=admitted(1).request, reason="full")
    assert workflow_checked(HOURLY, START, [held, moved(1)], admitted(1)) == []
    dropped = HeldRunDropped(run=admitted(1).run)
    assert workflow_checked(HOURLY, START, [held, moved(1)], dropped, dropped) == [
        "I6 at 4: nightly@2026-03-01T13:00:00Z was dropped from the queue, and was not in it"
    ]


def test_i6_an_event_with_two_fates_is_found() -> None:
    run = RunId("nightly@tone")
    told: dict[str, Any] = {"trigger": "up", "event": "s3://landing/a"}
    missed_event = TriggerMissed(run=run, reason="the workflow was paused", **told)
    refused_event = TriggerRefused(run=run, problems=("x",), document_version=1, **told)
    let_in = RunAdmitted(run=run, request=admitted(1).request.model_copy(update={"run": run, "trigger": "event"}))
    assert workflow_checked(HOURLY, START, refused_event, let_in) == []
    assert workflow_checked(HOURLY, START, missed_event, let_in) == [
        "I6 at 3: nightly@tone was admitted, and its event had been missed"
    ]
    assert workflow_checked(HOURLY, START, let_in, refused_event) == [
        "I6 at 3: nightly@tone is a run, and its event was refused"
    ]
    assert workflow_checked(HOURLY, START, missed_event, missed_event) == [
        "I6 at 3: the event of nightly@tone had been missed, and was turned away again"
    ]


def test_i6_an_instant_that_the_schedule_does_not_have_is_found() -> None:
    odd = InstantSkipped(scheduled_at=NOON + 30 * MINUTE, reason="overlap")
    assert "I6 at 2: 2026-03-01T12:30:00Z is not an instant of the schedule" in workflow_checked(
        HOURLY, START, [odd, moved(0)]
    )


def test_i6_a_watermark_that_goes_back_or_promises_a_wrong_instant_is_found() -> None:
    assert workflow_checked(HOURLY, START, [admitted(1), moved(1)], moved(0))[0].startswith(
        "I6 at 3: the watermark went back"
    )
    wrong = WatermarkMoved(until=NOON, next_at=NOON + 2 * HOUR)
    assert workflow_checked(HOURLY, [registered(), wrong])[0].startswith("I6 at 1: the next instant is said to be")


def test_i6_instants_dealt_with_without_moving_the_watermark_are_found() -> None:
    assert workflow_checked(HOURLY, START, admitted(1)) == [
        "I6 at 2: 1 scheduled instants were dealt with, and the watermark did not move with them"
    ]


def test_i6_a_schedule_that_ended_with_instants_left_over_is_found() -> None:
    other = plan_of(job("a"), schedule={"cron": "30 * * * *"}, digest=Digest("e" * 64))
    plans = {DOCUMENT: HOURLY, other.digest: other}
    next_one = WorkflowRegistered(workflow=NIGHTLY, document=other.digest, version=2)
    records = records_of(
        workflow_stream(NIGHTLY),
        [(NOON, START), (NOON + HOUR, [next_one, WatermarkMoved(until=NOON + HOUR, next_at=NOON + 90 * MINUTE)])],
    )
    assert found(verify_stream(records, plans.__getitem__)) == [
        "I6 at 2: the workflow got another schedule, and 2026-03-01T13:00:00Z had become neither a run, a skip nor a miss"
    ]


def test_i3_a_place_given_back_twice_is_found() -> None:
    released = RunReleased(run=admitted(1).run, outcome="succeeded")
    assert workflow_checked(HOURLY, START, [admitted(1), moved(1)], released, released) == [
        "I3 at 4: nightly@2026-03-01T13:00:00Z gave its place back, and had none"
    ]


# --- I9, I11, I13 -----------------------------------------------------------------------------------------------------


def test_i9_a_commit_altered_left_out_repeated_or_exchanged_is_found() -> None:
    walk = begun(job("a")).do(submit("a"), succeed("a"))
    records = walk.records()

    def broken(changed: list[Record]) -> list[str]:
        return [one for one in found(verify_stream(changed, walk.plans)) if one.startswith("I9")]

    assert broken(records) == []
    altered = [records[0], replace(records[1], body=records[1].body.replace("arn:a:1", "arn:a:2")), records[2]]
    assert broken(altered) == ["I9 at 2: it was altered: its hash is not that of its content"]
    assert broken([records[0], records[2]]) == ["I9 at 3: version 3 follows version 1"]
    assert broken([records[0], records[0]]) == ["I9 at 1: version 1 follows version 1"]
    other = begun(job("a", priority=1), request={"run": "nightly@1", "note": "another"}).do(submit("a")).records()
    assert broken([records[0], other[1]]) == ["I9 at 2: it does not name the hash of the commit before it"]
    unreadable = [replace(records[0], body="{")]
    assert "I9 at 1: a commit's body is not JSON" in broken(unreadable)[-1]


def test_i9_a_commit_dated_before_the_one_it_follows_is_found() -> None:
    records = records_of(RUN, [(NOON, [request_of(ONE)]), (NOON - MINUTE, [queued()])])
    assert found(verify_stream(records, lambda digest: ONE)) == [
        "I9 at 2: it is dated 2026-03-01T11:59:00+00:00, before the commit that it follows"
    ]


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ("", "it names no cause"),
        ("!?", "its cause '!?' is not a kind, nor a kind and a name"),
        ("rumour:x", "causes of kind 'rumour' are not known"),
    ],
)
def test_i11_a_commit_without_a_cause_that_is_known_is_found(cause: str, message: str) -> None:
    records = records_of(RUN, [(NOON, [request_of(ONE)])], causes=[cause])
    known = frozenset({"request", "report"})
    assert found(verify_stream(records, lambda digest: ONE, causes=known)) == [f"I11 at 1: {message}"]


# Put together here, so that no scanner takes this file for a leak.
@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "-----BEGIN RSA PRIVATE " + "KEY-----",
        "export PGPASSWORD=" + "hunter22",
        '{"password": "' + 'correct horse"}',
        "postgres://app:" + "s3cr3tpw@db/x",
        "ghp_" + "a" * 36,
        "aws_secret_access_key = " + "abcdEFGH1234",
        "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 20,
    ],
)
def test_i13_what_looks_like_a_secret_is_found_and_not_shown(secret: str) -> None:
    violations = checked(ONE, [queued(), failed(reason=f"it said: {secret}")])
    assert [one[:3] for one in violations] == ["I13"]
    assert secret not in violations[0]


@pytest.mark.parametrize(
    "harmless",
    [
        "password=env:PGPASSWORD",
        '{"PGPASSWORD": "arn:aws:secretsmanager:eu-west-1:1:secret:x"}',
        "password: {{ params.password }}",
        "password=***",
        "wrong password for user ada",
        "https://example.com:8443/a@b",
        "s3://bucket/key",
    ],
)
def test_i13_references_and_words_are_not_taken_for_secrets(harmless: str) -> None:
    assert secrets_in(harmless) == []


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "eyJ" * 30_000, "password" * 12_000, "://a:" * 20_000, "AKIA" * 25_000]
)
def test_i13_no_text_keeps_the_search_busy(text: str) -> None:
    assert secrets_in(text) == []


# --- I12, I14 ---------------------------------------------------------------------------------------------------------


def test_i12_a_stop_that_was_due_to_be_flagged_is_found() -> None:
    walk = begun(job("a", stop_grace_seconds=0)).do(submit("a"), CancelRun("ada"))
    records = walk.records()
    assert verify_stream(records, walk.plans, swept_until=NOON + 12 * MINUTE) == []
    assert found(verify_stream(records, walk.plans, swept_until=NOON + HOUR)) == [
        f"I12 at {len(records)}: the stop of attempt 1 of a is not confirmed, and was to be flagged at 2026-03-01T12:10:00+00:00"
    ]
    walk.do(Advance(), after=11 * MINUTE)
    assert verify_stream(walk.records(), walk.plans, swept_until=NOON + HOUR) == []


def test_i12_whatever_starts_after_a_cancellation_is_found() -> None:
    assert checked(
        TWO, [queued(), RunCancelRequested(by="ada"), stop_requested()], [AttemptCancelled(job=A, attempt=1), queued(B)]
    ) == ["I12 at 3: b began attempt 1 after the run was cancelled"]
    assert checked(ONE, [queued(), stop_requested(), claimed()]) == [
        "I12 at 2: attempt 1 of a was claimed to be sent after its stop was asked for"
    ]


def test_i12_stops_sent_or_flagged_without_reason_are_found() -> None:
    assert checked(ONE, queued(), StopSent(job=A, attempt=1)) == [
        "I12 at 3: the stop of attempt 1 of a was sent, and nobody had asked for it"
    ]
    assert checked(ONE, [queued(), stop_requested()], StopFlagged(job=A, attempt=1)) == [
        "I12 at 3: the stop of attempt 1 of a was flagged before its time"
    ]


def test_i14_a_rerun_that_repeats_what_it_kept_is_found() -> None:
    both = [queued(), succeeded(), queued(B), failed(B), RunFinished(outcome="failed")]
    assert checked(CHAIN, both, reopened(failed=True), queued(B, 2)) == []
    assert checked(CHAIN, both, reopened(failed=True), queued(A, 2)) == [
        "I14 at 4: a began attempt 2, and the rerun had promised to keep it"
    ]
    assert checked(CHAIN, both, reopened(B), JobSettled(job=A, outcome="skipped")) == [
        "I14 at 4: a was settled, and the rerun had promised to keep it"
    ]


def test_i8_an_end_that_the_jobs_do_not_make_and_events_of_strangers_are_found() -> None:
    assert checked(ONE, [queued(), succeeded(), RunFinished(outcome="failed")]) == [
        "I8 at 2: the run finished as failed, and its jobs make it succeeded"
    ]
    assert checked(ONE, queued(JobName("stranger"))) == [
        "I8 at 2: AttemptQueued names the job stranger, which the document does not have"
    ]
    assert checked(ONE, registered()) == ["I8 at 2: WorkflowRegistered does not belong into a run's stream"]


def test_i8_a_history_that_cannot_be_folded_and_a_document_that_is_gone_are_found() -> None:
    records = records_of(RUN, [(NOON, [request_of(ONE), queued(), queued()])])
    assert "the history cannot be folded" in found(verify_stream(records, lambda digest: ONE))[-1]

    def gone(digest: Digest) -> Plan:
        raise NotFound(f"there is no document {digest}")

    assert "the document it was made with is gone" in found(verify_stream(records, gone))[0]


# --- a whole store ----------------------------------------------------------------------------------------------------


def row_of(stream: StreamName, state: Any, version: int) -> RunRow | None:
    if not isinstance(state, Run):
        return None
    return RunRow(
        state.run,
        NIGHTLY,
        version,
        state.status,
        "",
        (),
        "manual",
        state.requested_at,
        None,
        None,
        None,
        dict(state.tally),
    )


def stored(*histories: list[Record]) -> MemoryStore:
    store = MemoryStore()
    for records in histories:
        for record in records:
            store.append(record)
    return store


def test_a_store_is_checked_over_all_its_streams_with_progress() -> None:
    walks = [random_walk(seed) for seed in range(5)]
    plans = {run_stream(walk.run.run): walk for walk in walks}
    store = stored(*(walk.records() for walk in walks), records_of(workflow_stream(NIGHTLY), [(NOON, START)]))
    seen: list[Progress] = []
    # Every walk has a document of its own under the same digest, so each is checked beside the workflow alone.
    for walk in walks:
        alone = stored(walk.records(), records_of(workflow_stream(NIGHTLY), [(NOON, [registered()])]))
        seen.clear()
        assert found(list(verify(alone, walk.plans, now=walk.now, progress=seen.append))) == []
        assert seen[-1].streams == 2
        assert seen[-1].commits == len(walk.commits) + 1
        assert seen[-1].events == sum(len(events) for _, events in walk.commits) + 1
    assert len(store.streams("run")) == len(plans)


def test_i7_a_run_that_lives_without_a_due_row_or_with_one_too_late_is_found() -> None:
    walk = begun(job("a", timeouts={"queue_minutes": 5})).do(submit("a"))
    store = stored(walk.records())
    dues = MemoryDues()

    def check() -> list[str]:
        return found(list(verify(store, walk.plans, now=NOON + MINUTE, dues=dues)))

    assert check() == [f"I7 at {len(walk.commits)}: it is alive and has no due row, so nobody will look at it"]
    stream = run_stream(walk.run.run)
    dues.lower(stream, NOON + 10 * HOUR)
    assert check()[0].startswith("I7 at 2: its due row is at 2026-03-01T22:00:00+00:00")
    dues.lower(stream, NOON + MINUTE)
    assert check() == []
    walk.do(succeed("a"))
    store.append(walk.records()[-1])
    dues.remove(stream, seen=NOON + MINUTE)
    assert check() == []


def test_i7_a_row_later_than_a_timeout_and_i12_than_a_flag_are_found() -> None:
    walk = begun(job("a", timeouts={"run_minutes": 5})).do(submit("a", running=True, now=NOON))
    dues = MemoryDues()
    dues.lower(run_stream(walk.run.run), NOON + 6 * MINUTE)
    violations = found(list(verify(stored(walk.records()), walk.plans, now=NOON, dues=dues)))
    assert violations == [
        "I7 at 2: its due row is at 2026-03-01T12:06:00+00:00, and it is to be looked at by 2026-03-01T12:05:00+00:00"
    ]
    walk.do(CancelRun("ada"))
    dues = MemoryDues()
    dues.lower(run_stream(walk.run.run), NOON + HOUR)
    violations = found(list(verify(stored(walk.records()), walk.plans, now=NOON, dues=dues)))
    assert [one[:3] for one in violations] == ["I7 ", "I12"]


def test_i7_a_scheduled_workflow_without_a_row_by_its_next_instant_is_found() -> None:
    store = stored(records_of(workflow_stream(NIGHTLY), [(NOON, START)]))
    dues = MemoryDues()
    assert [one.invariant for one in verify(store, lambda digest: HOURLY, now=NOON, dues=dues)] == ["I7"]
    dues.lower(workflow_stream(NIGHTLY), NOON + HOUR)
    assert list(verify(store, lambda digest: HOURLY, now=NOON, dues=dues)) == []


def test_i8_views_that_differ_lag_for_ever_or_are_ahead_are_found() -> None:
    walk = begun(job("a")).do(submit("a"), succeed("a"))
    store = stored(walk.records())
    stream, version = run_stream(walk.run.run), len(walk.commits)
    right = row_of(stream, walk.run, version)
    assert right is not None

    def check(row: RunRow | None, dues: MemoryDues | None = None) -> list[str]:
        views = MemoryViews()
        if row is not None:
            views.put_run(row)
        later = walk.now + HOUR
        return found(list(verify(store, walk.plans, now=later, views=views, derive=row_of, dues=dues)))

    assert check(right) == []
    assert check(replace(right, status="running")) == [
        f"I8 at {version}: the views show another status than the events: rebuild them"
    ]
    assert check(None) == [f"I8 at {version}: the views show nothing of version {version}: rebuild them"]
    assert check(replace(right, version=1)) == [
        f"I8 at {version}: the views show version 1 of version {version}: rebuild them"
    ]
    assert check(replace(right, version=9))[0].startswith(
        f"I8 at {version}: the views show version 9, and the stream has"
    )
    # Its row says that somebody will still see to it.
    dues = MemoryDues()
    dues.lower(stream, NOON)
    assert check(None, dues) == []


def test_what_is_said_of_rows_and_views_is_dropped_when_the_stream_moved_meanwhile() -> None:
    walk = begun(job("a"))
    records = walk.do(submit("a")).records()
    store = stored(records[:1])

    class Moving(MemoryDues):
        def get(self, stream: StreamName) -> datetime | None:
            store.append(records[1])
            return None

    assert list(verify(store, walk.plans, now=NOON, dues=Moving())) == []


def test_a_stream_full_of_violations_says_a_bounded_number_of_them() -> None:
    plan = plan_of(*(job(f"j{number}") for number in range(300)), parallelism=1)
    events: list[Event] = [request_of(plan), *(JobsReady(jobs=(JobName(f"j{number}"),)) for number in range(300))]
    events += [JobSettled(job=JobName(f"j{number}"), outcome="succeeded") for number in range(300)]
    assert len(verify_stream(records_of(RUN, [(NOON, events)]), lambda digest: plan)) == 100


def test_a_commit_without_events_is_found() -> None:
    empty = record_of(
        RUN, version=1, commit_id=CommitId("1"), at=NOON, by="", cause="report", previous_hash="0" * 64, events=[]
    )
    assert found(verify_stream([empty], lambda digest: ONE)) == ["I11 at 1: it holds no event"]


def test_a_mark_by_a_named_person_ends_a_doubt_cleanly() -> None:
    walk = begun(job("a")).do(doubt("a")).do(MarkJob(A, "succeeded", "ada", "the file is there"))
    assert verify_stream(walk.records(), walk.plans) == []
    walk = begun(job("a", retry={"attempts": 2})).do(fail("a"), Advance(), after=MINUTE)
    assert verify_stream(walk.records(), walk.plans) == []


def test_i6_unregistering_leaves_nothing_behind_when_nothing_is_paused() -> None:
    state: Any = NotRegistered()
    commits: list[tuple[datetime, Sequence[Event]]] = []
    commands: list[WorkflowCommand] = [RegisterWorkflow(NIGHTLY, DOCUMENT, "ada"), UnregisterWorkflow("ada")]
    for hours, command in enumerate(commands):
        now = NOON + 3 * hours * HOUR
        events = decide_workflow(state, command, now=now, plans=lambda digest: HOURLY)
        state = fold_workflow(((now, event) for event in events), state)
        commits.append((now, events))
    assert verify_stream(records_of(workflow_stream(NIGHTLY), commits), lambda digest: HOURLY) == []
