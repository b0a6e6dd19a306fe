"""Whatever is asked of a run, in whatever order: it stays true to itself, and never gets stuck.

Random walks of commands over random documents. The checks after each step are the invariants; at the end of each walk the targets
answer and time passes, driven by nothing but the effects that the state asks for, and the run must finish.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as examples
from hypothesis import strategies as st

from shared import codec
from shared.decide.commands import (
    Advance,
    CancelJob,
    CancelRun,
    MarkJob,
    RecordReport,
    RecordSilence,
    RecordStopSent,
    ReleaseClaim,
    RunCommand,
)
from shared.effects import (
    AdvanceRun,
    ObserveAttempt,
    StartAttempt,
    StopAttempt,
    TellWorkflow,
    due_of_run,
    needs_advance,
    pending_of_run,
)
from shared.errors import CorruptStream, Rejected
from shared.events import Event, RunEvent, WorkflowPaused
from shared.ids import Handle, JobName
from shared.state.run import Backoff, Claimed, Done, Doubted, Queued, Ready, Run, Submitted, evolve, fold
from shared.workflow.plan import Plan
from tests.rules.sentences import (
    NOON,
    Story,
    claim,
    days,
    document,
    given,
    hours,
    job,
    minutes,
    plans,
    reopen,
    report,
    requested,
    same,
    seconds,
)

PROFILE = settings(
    max_examples=120, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
LONG_PROFILE = settings(PROFILE, max_examples=1_000)
ROUNDS_MAX = 400
"""Turns in which a run of eight jobs must come to its end."""

RULES = [
    "all_succeeded",
    "all_succeeded",
    "all_done",
    "any_failed",
    "any_succeeded",
    "outcomes.{} == 'succeeded'",
    "1 / 0",
]


@st.composite
def documents(draw: st.DrawFn) -> Plan:
    names = "abcdefgh"[: draw(st.integers(1, 8))]
    jobs = []
    for position, name in enumerate(names):
        fields: dict[str, Any] = {"type": "ecs"} if draw(st.booleans()) else {}
        if position and draw(st.booleans()):
            fields["after"] = draw(st.lists(st.sampled_from(names[:position]), max_size=3, unique=True))
        if fields.get("after"):
            fields["when"] = draw(st.sampled_from(RULES)).format(fields["after"][0])
        fields["retry"] = draw(st.sampled_from([1, 2, 3]))
        fields["priority"] = draw(st.sampled_from([0, 0, 1, -1]))
        phases = ["queue_minutes", "start_minutes", "run_minutes", "total_minutes"]
        fields["timeouts"] = dict.fromkeys(draw(st.lists(st.sampled_from(phases), max_size=2, unique=True)), 5.0)
        fields["doubt"] = {"policy": draw(st.sampled_from(["wait", "assume_lost", "ask"])), "after_minutes": 3}
        jobs.append(job(name, **fields))
    return document(*jobs, parallelism=draw(st.integers(1, 4)))


choices = st.lists(st.integers(0, 2**20), max_size=40)
STATUSES = ["submitted", "running", "succeeded", "failed", "failed", "cancelled", "missing", "unknown"]
FAILURES = ["user", "infrastructure", "capacity", "timeout", "refused"]


def command_of(story: Story, number: int) -> RunCommand | timedelta:
    """The number names a command, or a time to wait; mostly about work that is under way."""
    run = story.run
    kind, number = number % 16, number // 16
    names = sorted(run.live) if number % 4 and len(run.live) else list(run.plan.jobs)
    name = names[number // 4 % len(names)]
    state = run.jobs[name]
    attempt = len(state.attempts) + (1 if state.is_open and number % 5 else 0)
    handle = Handle(f"h-{name}-{attempt}" + ("-stray" if number % 7 == 0 else ""))
    match kind:
        case 0:
            return [seconds(1), seconds(61), minutes(4), minutes(11), hours(1)][number % 5]
        case 1 | 2:
            return Advance()
        case 3:
            return claim(name, attempt, f"claimer{number % 2}", send_before=story.now + minutes(1))
        case 4:
            return ReleaseClaim(name, attempt, f"claimer{number % 2}", "throttled", 30.0)
        case 5:
            return RecordSilence(name, attempt, "timed out")
        case 6:
            return RecordStopSent(name, attempt)
        case 7 if number % 3 == 0:
            return CancelRun("ada")
        case 7:
            return CancelJob(name, "ada")
        case 8:
            return MarkJob(name, ("succeeded", "failed", "skipped")[number % 3], "ada", "because")
        case 9:
            return reopen(run.plan, *([name] if number % 2 else []), failed=number % 3 > 0, request=f"r{number}")
        case _:
            status = STATUSES[number % len(STATUSES)]
            return RecordReport(
                name,
                attempt,
                status,  # type: ignore[arg-type]
                handle if number % 3 else None,
                failure=FAILURES[number % 5] if status == "failed" else None,  # type: ignore[arg-type]
                started_at=story.now - seconds(number % 100) if number % 2 else None,
                outputs={"n": number} if status == "succeeded" else {},
            )


def walk(plan: Plan, numbers: Sequence[int]) -> Story:
    story = given(requested(plan))
    for number in numbers:
        asked = command_of(story, number)
        if isinstance(asked, timedelta):
            story = story.given(asked)
        else:
            story = _asked(story, asked)
        consistent(story.run)
    return story


def _asked(story: Story, command: RunCommand) -> Story:
    before = story.run
    try:
        after = story.done(command)[0]
    except Rejected:
        return story
    if not after.truncated:
        with suppress(Rejected):
            assert not after.done(command)[1], f"{command} decides something the second time"
    finality(before, after.run)
    return after


def consistent(run: Run) -> None:
    """What the state counts is what there is."""
    states = [run.jobs[name] for name in run.plan.jobs]
    opened = [state.phase for state in states if isinstance(state.phase, Queued | Claimed | Submitted | Doubted)]
    assert run.active == len(opened) <= run.plan.workflow.parallelism
    assert run.doubted == sum(isinstance(phase, Doubted) for phase in opened)
    stops = [phase.stop for phase in opened if phase.stop is not None]
    assert run.stopping == sum(stop.cause != "timeout" for stop in stops)
    assert run.flagged == sum(stop.flagged_at is not None for stop in stops)
    done = [state.phase for state in states if isinstance(state.phase, Done)]
    assert run.unfinished == len(states) - len(done)
    assert dict(run.tally) == {
        one: [phase.outcome for phase in done].count(one) for one in {phase.outcome for phase in done}
    }
    for name in run.plan.jobs:
        state = run.jobs[name]
        if isinstance(state.phase, Backoff | Queued | Claimed | Submitted | Doubted):
            assert name in run.live
        if not isinstance(state.phase, Backoff | Ready | Queued | Claimed | Submitted | Doubted):
            assert name not in run.live
        assert [one.attempt for one in state.attempts] == list(range(1, len(state.attempts) + 1))
    if run.outcome is None:
        assert run.unfinished, "a run with nothing left to do has finished"


def finality(before: Run, after: Run) -> None:
    """I3: what ended stays as it ended, for good; an outcome lasts for its round unless a person says otherwise."""
    for name, state in before.jobs.items():
        ended = [(one.attempt, one.round, one.status, one.handle) for one in state.attempts]
        now = [(one.attempt, one.round, one.status, one.handle) for one in after.jobs[name].attempts]
        assert now[: len(ended)] == ended
        was, is_ = state.phase, after.jobs[name].phase
        if isinstance(was, Done) and after.round == before.round and was != is_:
            assert isinstance(is_, Done)
            assert is_.marked_by


def driven_to_its_end(story: Story) -> Story:
    """I7: with nothing but the effects its state asks for, and the time it asks for, the run comes to its end."""
    for _ in range(ROUNDS_MAX):
        run = story.run
        if run.finished:
            return story
        effects = pending_of_run(run, story.now)
        for effect in effects:
            story = _carried_out(story, effect)
        if not effects:
            due = due_of_run(run, story.now)
            assert due is not None, "unfinished, and nobody would ever look at it again"
            assert due > story.now
            story = story.given(due - story.now)
    raise AssertionError(f"stuck: {story.statuses}")


def _carried_out(story: Story, effect: Any) -> Story:
    match effect:
        case StartAttempt(job=name, attempt=attempt):
            return _told(story, report(name, "running", attempt, handle=f"h-{name}-{attempt}", started_at=story.now))
        case StopAttempt(job=name, attempt=attempt, handle=None):
            return _told(story, report(name, "cancelled", attempt))
        case ObserveAttempt(job=name, attempt=attempt):
            return _told(story, report(name, "succeeded", attempt))
        case AdvanceRun():
            return story.done(Advance())[0]
        case _:
            assert isinstance(effect, StopAttempt | TellWorkflow)
            return story


def _told(story: Story, told: RecordReport) -> Story:
    return story.done(told)[0]


def check_walk(plan: Plan, numbers: Sequence[int]) -> None:
    story = driven_to_its_end(walk(plan, numbers))
    consistent(story.run)
    assert pending_of_run(story.run, story.now) == []
    assert due_of_run(story.run, story.now) is None
    assert not needs_advance(story.run, story.now)
    # Read back from what is stored, at once and commit by commit, it is the same.
    stored = [(at, event) for at, commit in story.history for event in codec.events_in(codec.body_of(commit))]
    assert [event for _, event in stored] == story.events
    assert same(fold(stored, plans), story.state)


@PROFILE
@examples(documents(), choices)
def test_whatever_is_asked_a_run_stays_consistent_and_comes_to_its_end(plan: Plan, numbers: list[int]) -> None:
    """I3, I7, I8; no lost wake-up, no deadlock, no impossible event."""
    check_walk(plan, numbers)


@pytest.mark.slow
@LONG_PROFILE
@examples(documents(), st.lists(st.integers(0, 2**20), max_size=120))
def test_whatever_is_asked_for_longer(plan: Plan, numbers: list[int]) -> None:
    check_walk(plan, numbers)


@PROFILE
@examples(documents(), choices, st.lists(st.integers(0, 2**20), min_size=1, max_size=12))
def test_no_event_can_bring_a_state_out_of_order(plan: Plan, numbers: list[int], picks: list[int]) -> None:
    """An event out of place is refused as a corrupt stream, or leads to a state that is sound."""
    story, other = walk(plan, numbers), walk(plan, [*picks, *numbers])
    for pick in picks:
        event: Event = other.events[pick % len(other.events)]
        try:
            after = evolve(story.run, event, story.now, plans)
        except CorruptStream:
            continue
        assert isinstance(after, Run)
        states = after.jobs.values()
        assert after.unfinished == sum(not isinstance(state.phase, Done) for state in states)
        assert after.active == sum(state.is_open for state in states)


@PROFILE
@examples(documents(), choices)
def test_the_same_history_gives_the_same_state_however_it_is_cut(plan: Plan, numbers: list[int]) -> None:
    story = walk(plan, numbers)
    timed = [(at, event) for at, commit in story.history for event in commit]
    whole = fold(timed, plans)
    for cut in {0, 1, len(timed) // 2, len(timed) - 1}:
        assert same(fold(timed[cut:], plans, fold(timed[:cut], plans)), whole)
    state: Any = fold((), plans)
    for at, event in timed:
        state = evolve(state, event, at, plans)
    assert same(state, whole)


@PROFILE
@examples(documents(), st.randoms(use_true_random=False))
def test_every_order_of_the_reports_of_a_truthful_history_ends_the_same(plan: Plan, random: Any) -> None:
    """I10. The truth says how each attempt of each job goes; reports come in any order, repeated, as far as causes allow."""
    fates = {name: [random.choice(["succeeded", "failed"]) for _ in range(3)] for name in plan.jobs}
    ends: list[Any] = []
    for _ in range(3):
        story = given(requested(plan))
        mail: list[RecordReport] = []
        seen: set[tuple[JobName, int]] = set()
        for _ in range(ROUNDS_MAX):
            if story.run.finished and not mail:
                break
            for name in plan.jobs:
                phase = story.job(name).phase
                if isinstance(phase, Queued) and (name, phase.attempt) not in seen:
                    seen.add((name, phase.attempt))
                    fate, handle = fates[name][phase.attempt - 1], f"h-{name}-{phase.attempt}"
                    for status in ("submitted", "running", fate, fate, "running"):
                        mail.append(report(name, status, phase.attempt, handle=handle, outputs={"by": phase.attempt}))
            if mail:
                story = _told(story, mail.pop(random.randrange(len(mail))))
            elif not story.run.finished:
                due = due_of_run(story.run, story.now)
                assert due is not None
                story = story.given(due - story.now).done(Advance())[0]
        ends.append(
            {
                name: (story.statuses[name], story.job(name).outputs, [one.status for one in story.job(name).attempts])
                for name in plan.jobs
            }
            | {"": (story.run.outcome, None, [])}
        )
    assert ends[0] == ends[1] == ends[2]


# --- impossible histories ---------------------------------------------------------------------------------------------


def test_histories_that_cannot_have_happened_are_refused() -> None:
    from tests.rules import sentences as told

    plan = document(job("a"), job("b", after=["a"]), parallelism=1)
    story = given(requested(plan))
    bound = story.given(report("a", "submitted", handle="h1"))
    over = story.given(report("a", "failed"))
    impossible: list[tuple[Story, Any]] = [
        (Story(), told.queued("a")),
        (story, told.queued("a")),
        (story, told.queued("a", 2)),
        (story, told.queued("b")),
        (story, told.queued("z")),
        (story, told.ready("b")),
        (story, told.ready("a")),
        (story, told.opened()),
        (story, told.settled("a", "skipped")),
        (story, told.succeeded("a", 2)),
        (story, told.succeeded("b")),
        (story, told.started("a", started_at=NOON)),
        (bound, told.released("a", retry_at=NOON)),
        (story, told.stop_sent("a")),
        (story, told.stop_flagged("a")),
        (story, told.late("a", 1, "succeeded")),
        (story, told.late("a", 7, "succeeded")),
        (story, told.marked("a", "succeeded")),
        (story, told.finished("succeeded")),
        (story, told.reopened(plan)),
        (story.given(CancelRun("ada")), told.cancel_requested()),
        (story.given(CancelRun("ada")), told.stop_requested("a")),
        (bound, told.submitted("a", 1, "h2")),
        (bound, told.claimed("a", send_before=NOON)),
        (bound.given(report("a", "unknown")), told.doubted("a")),
        (bound.given(report("a", "unknown")), told.claimed("a", send_before=NOON)),
        (bound.given(report("a", "unknown")), told.submitted("a", 1, "h2")),
        (over, told.queued("a", 2)),
        (over, told.cancel_requested()),
        (over, told.fact(type(story.events[0]), document=plan.digest, document_version=1, run="x", workflow="y")),
        (story, told.fact(type(story.events[0]), document=plan.digest, document_version=1, run="x", workflow="y")),
        (story, told.fact(WorkflowPaused)),
    ]
    for before, event in impossible:
        with pytest.raises(CorruptStream):
            before.given(event)


def test_every_event_of_a_run_has_its_place_in_the_fold() -> None:
    from typing import get_args

    from shared.state.run import _HANDLERS

    assert set(get_args(RunEvent)) == set(_HANDLERS)


def test_time_goes_on_for_ever_without_harm() -> None:
    story = given(requested(job("load", doubt={"policy": "wait"})), report("load", "unknown"), days(365 * 90))
    assert due_of_run(story.run, story.now) is not None
    story.when(Advance()).then_nothing()
