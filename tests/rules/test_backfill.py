"""Backfills: which instants of a schedule are run, in which order and how many at once, each of them once."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from shared import codec
from shared.decide.backfill import ACTIVE_MAX, INSTANTS_MAX, INSTANTS_SLICE, coming, needs_none, range_of
from shared.decide.commands import (
    AdvanceBackfill,
    CancelBackfill,
    Look,
    PauseBackfill,
    RecordRunEnd,
    RequestBackfill,
    ResumeBackfill,
)
from shared.effects import (
    CancelBackfilled,
    CheckBackfill,
    ContinueBackfill,
    OpenRun,
    TellBackfill,
    due_of_backfill,
    effects_of_backfill,
    effects_of_run,
    pending_of_backfill,
    pending_of_run,
)
from shared.errors import CorruptStream, InvalidInput, NotFound, UnknownEvents
from shared.events import (
    BackfillCancelled,
    BackfillFinished,
    BackfillInstantsSkipped,
    BackfillPaused,
    BackfillRequested,
    BackfillResumed,
    BackfillRunAdmitted,
    BackfillRunEnded,
    RunRequested,
    UnknownEvent,
)
from shared.ids import (
    BackfillId,
    RunId,
    following_run,
    fresh_backfill,
    instant_run,
    keyed_backfill,
    scheduled_instant,
    workflow_of,
    workflow_of_backfill,
)
from shared.state.backfill import BackfillState, NoBackfill, evolve_backfill, request_of
from tests.rules.sentences import (
    NOON,
    WORKFLOW,
    Fact,
    days,
    document,
    fact,
    given,
    given_backfill,
    job,
    minutes,
    plans,
    report,
    requested,
)

ID = BackfillId("nightly@b1")
PAUSE, RESUME, CANCEL = PauseBackfill("ada", "lunch"), ResumeBackfill("ada"), CancelBackfill("bob", "wrong range")


def at(day: int) -> datetime:
    """13:00 of a day in February."""
    return datetime(2026, 2, day, 13, tzinfo=UTC)


def run(day: int, number: int = 1) -> RunId:
    return instant_run(WORKFLOW, at(day), number)


def asked(first: int = 1, last: int = 4, **fields: Any) -> RequestBackfill:
    """A backfill of these days, at one o'clock each."""
    plan = fields.pop("plan", None) or document(job("load"), schedule={"cron": "0 13 * * *"})
    told: dict[str, Any] = {
        "order": "oldest",
        "which": "missing",
        "max_active": 2,
        "parameters": {},
        "previous_success_at": None,
        "by": "ada",
        "reason": "the source was late",
        "range_from": at(first) - timedelta(hours=13),
        "range_until": at(last) + timedelta(hours=11),
        **fields,
    }
    return RequestBackfill(backfill=ID, workflow=WORKFLOW, document=plan.digest, document_version=3, **told)


def looks(*days_: int, status: Any = "none", number: int = 0) -> AdvanceBackfill:
    return AdvanceBackfill({at(day): Look(number, status) for day in days_ or range(1, 29)})


def seen(**statuses: Any) -> AdvanceBackfill:
    """What was seen of each day: `d1="succeeded"`."""
    return AdvanceBackfill(
        {at(int(day[1:])): Look(0 if status == "none" else 1, status) for day, status in statuses.items()}
    )


def begun(day: int, number: int = 1, *, after_success: int | None = None) -> Fact:
    return fact(
        BackfillRunAdmitted,
        run=run(day, number),
        scheduled_at=at(day),
        interval_start=at(day) - days(1),
        interval_end=at(day),
        previous_success_at=at(after_success) if after_success is not None else None,
    )


def skipped(*days_: int) -> Fact:
    return fact(BackfillInstantsSkipped, instants=tuple(at(day) for day in days_))


def end(day: int, outcome: Any = "succeeded", number: int = 1) -> RecordRunEnd:
    return RecordRunEnd(run(day, number), outcome)


def ended(day: int, outcome: str = "succeeded", number: int = 1) -> Fact:
    return fact(BackfillRunEnded, run=run(day, number), scheduled_at=at(day), outcome=outcome)


def finished(outcome: str, **counts: int) -> Fact:
    return fact(BackfillFinished, outcome=outcome, **counts)


# --- the request ------------------------------------------------------------------------------------------------------


def test_a_backfill_is_asked_for_once_and_pins_its_document() -> None:
    command = asked()
    after = (
        given_backfill()
        .when(command)
        .then(
            fact(
                BackfillRequested,
                backfill=ID,
                workflow=WORKFLOW,
                document=command.document,
                document_version=3,
                range_from=command.range_from,
                range_until=command.range_until,
                count=4,
                max_active=2,
            )
        )
    )
    assert after.backfill.status == "running"


def test_what_is_still_to_come_belongs_to_the_schedule() -> None:
    command = asked(27, 1, range_until=NOON + days(30))
    after = given_backfill(command)
    assert after.backfill.request.range_until == NOON
    assert after.backfill.request.count == 3, "27 and 28 February, 1 March; 2 March at one is an hour ahead"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"max_active": 0}, "between 1 and"),
        ({"max_active": ACTIVE_MAX + 1}, "between 1 and"),
        ({"range_until": at(1) - days(1)}, "is not after"),
        ({"range_from": NOON + days(1), "range_until": NOON + days(2)}, "not in the past"),
        ({"range_from": at(1) + minutes(1), "range_until": at(1) + minutes(2)}, "no instant"),
        (
            {"plan": document(job("load"), schedule={"rate": "1 minute"}), "range_until": at(21)},
            f"more than {INSTANTS_MAX:,}",
        ),
        ({"plan": document(job("load"))}, "no schedule"),
    ],
)
def test_a_range_that_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    given_backfill().when(asked(**fields)).then_rejected(says)


def test_every_problem_of_a_range_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as raised:
        range_of(None, at(2), at(1), NOON, max_active=0)
    assert [problem.path for problem in raised.value.problems] == ["max_active", "workflow", "until"]


def test_the_ends_of_a_range_are_included_and_not_included() -> None:
    rule = plans(asked().document).workflow.schedule
    meant = range_of(rule, at(1), at(4), NOON)
    assert (meant.count, meant.first.at, meant.last.at) == (3, at(1), at(3))


def test_parameters_that_no_run_could_hold_are_refused() -> None:
    given_backfill().when(asked(parameters={"text": "x" * 80_000})).then_rejected("at most")


def test_there_must_be_a_backfill() -> None:
    for command in (looks(), end(1), PAUSE, RESUME, CANCEL):
        with pytest.raises(NotFound):
            given_backfill().done(command)


# --- one instant after the other --------------------------------------------------------------------------------------


def test_runs_begin_oldest_first_as_many_as_may_be_active() -> None:
    given_backfill(asked()).when(looks()).then(begun(1), begun(2))


def test_runs_begin_newest_first_when_that_is_asked_for() -> None:
    story = given_backfill(asked(order="newest")).when(looks()).then(begun(4), begun(3))
    story.given(end(4)).when(looks()).then(begun(2))


def test_an_end_makes_room_for_the_next() -> None:
    story = given_backfill(asked(), looks()).when(end(2)).then(ended(2))
    story.when(looks()).then(begun(3, after_success=2))


def test_a_run_is_told_of_the_latest_success_before_its_instant_and_of_no_other() -> None:
    story = given_backfill(asked(2, 4, max_active=1, previous_success_at=at(1)), looks())
    assert story.events[-1] == begun(2, after_success=1).event(NOON)
    story.given(end(2, "failed")).when(looks()).then(begun(3, after_success=1))
    later = given_backfill(asked(previous_success_at=at(20)), looks())
    assert later.events[-1] == begun(2).event(NOON), "what succeeded later is nobody's past"
    later.given(end(1)).when(looks()).then(begun(3, after_success=1))


def test_newest_first_nothing_before_an_instant_is_known_to_have_succeeded() -> None:
    given_backfill(asked(order="newest", max_active=1), looks(), end(4)).when(looks()).then(begun(3))


def test_a_backfill_finishes_with_the_last_end_and_says_how_all_came_out() -> None:
    story = given_backfill(asked(1, 3), looks(), end(1), looks(), end(2, "failed"))
    story = story.when(end(3)).then(ended(3), finished("failed", succeeded=2, failed=1))
    assert (story.backfill.status, story.backfill.settled) == ("failed", 3)


def test_a_backfill_without_any_failure_succeeded() -> None:
    story = given_backfill(asked(1, 1), looks())
    story.when(end(1)).then(ended(1), finished("succeeded", succeeded=1))


def test_an_end_that_is_told_twice_or_of_a_stranger_changes_nothing() -> None:
    story = given_backfill(asked(), looks(), end(1))
    story.when(end(1)).then_nothing()
    story.when(end(9)).then_nothing()


def test_what_was_not_looked_at_is_not_come_to() -> None:
    story = given_backfill(asked())
    story.when(looks(2, 3)).then_nothing()
    assert story.given(looks(1)).truncated, "the next look follows at once"


def test_a_look_of_before_another_went_on_changes_nothing() -> None:
    story = given_backfill(asked(max_active=3), looks(1, 2))
    story.when(looks(1, 2)).then_nothing()


# --- which instants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "facts"),
    [
        ("missing", (begun(1), skipped(2), skipped(3), skipped(4), skipped(5), skipped(6))),
        ("all", (begun(1), begun(2, 2), begun(3, 2), begun(4, 2), skipped(5), skipped(6))),
        ("failed", (skipped(1), skipped(2), begun(3, 2), begun(4, 2), skipped(5), skipped(6))),
    ],
)
def test_which_instants_are_run(which: str, facts: tuple[Fact, ...]) -> None:
    """A run again is the next run of its instant; what is active is left alone, whatever was asked for."""
    look = seen(d1="none", d2="succeeded", d3="failed", d4="cancelled", d5="active", d6="unreadable")
    _, decided = given_backfill(asked(1, 6, which=which, max_active=10)).done(look)
    flat: list[Fact] = []
    for event in decided:
        if isinstance(event, BackfillInstantsSkipped):
            flat += [fact(BackfillInstantsSkipped, instants=(instant,)) for instant in event.instants]
        elif not isinstance(event, BackfillFinished):
            flat.append(fact(type(event), **{name: getattr(event, name) for name in type(event).model_fields}))
    assert len(flat) == len(facts)
    for one, wanted in zip(flat, facts, strict=True):
        assert wanted.matches(one.event(NOON)), (wanted, one)


def test_instants_that_need_no_run_are_told_together_for_each_reason() -> None:
    story = given_backfill(asked(1, 4))
    look = seen(d1="succeeded", d2="succeeded", d3="failed", d4="active")
    story.when(look).then(skipped(1, 2), skipped(3), skipped(4), finished("succeeded", skipped=4))


def test_a_run_that_another_had_begun_is_not_the_backfills() -> None:
    story = given_backfill(asked(1, 2), looks()).when(end(1, "taken")).then(ended(1, "taken"))
    story.when(end(2)).then(ended(2), finished("succeeded", succeeded=1, skipped=1))


def test_a_rerun_takes_the_number_after_the_newest_run() -> None:
    given_backfill(asked(1, 1, which="all")).when(looks(1, status="failed", number=4)).then(begun(1, 5))


def test_many_instants_are_come_to_in_slices() -> None:
    plan = document(job("load"), schedule={"cron": "0 * * * *"})
    command = asked(1, 28, plan=plan)
    story = given_backfill(command)
    count = story.backfill.request.count
    slices = 0
    while story.backfill.outcome is None:
        slices += 1
        next_ones = coming(story.backfill, plans, INSTANTS_SLICE)
        before = len(story.backfill.instants)
        story = story.done(AdvanceBackfill({one.at: Look(1, "succeeded") for one in next_ones}))[0]
        assert len(story.backfill.instants) - before == len(next_ones) <= INSTANTS_SLICE
        assert story.truncated == (story.backfill.outcome is None)
    assert slices == -(-count // INSTANTS_SLICE)
    assert story.backfill.skipped == count


# --- pause, resume, cancel --------------------------------------------------------------------------------------------


def test_a_pause_begins_nothing_and_what_is_active_goes_on() -> None:
    story = given_backfill(asked(), looks()).when(PAUSE).then(fact(BackfillPaused))
    story = story.given(end(1))
    story.when(looks()).then_nothing()
    assert story.backfill.status == "paused"
    story = story.when(RESUME).then(fact(BackfillResumed))
    story.when(looks()).then(begun(3, after_success=1))


def test_a_pause_does_not_keep_the_last_end_from_finishing_it() -> None:
    story = given_backfill(asked(1, 1), looks(), PAUSE)
    story.when(end(1)).then(ended(1), finished("succeeded", succeeded=1))


def test_a_cancelled_backfill_finishes_when_its_last_run_has() -> None:
    story = given_backfill(asked(), looks()).when(CANCEL).then(fact(BackfillCancelled))
    assert story.backfill.status == "cancelling"
    story.when(looks()).then_nothing()
    story = story.given(end(1))
    story.when(end(2, "cancelled")).then(ended(2, "cancelled"), finished("cancelled", succeeded=1, cancelled=1, left=2))


def test_a_backfill_without_active_runs_is_cancelled_at_once() -> None:
    given_backfill(asked()).when(CANCEL).then(fact(BackfillCancelled), finished("cancelled", left=4))


def test_what_is_over_cannot_be_paused_resumed_or_cancelled() -> None:
    over = given_backfill(asked(1, 1), looks(), end(1))
    for command in (PAUSE, RESUME, CANCEL):
        over.when(command).then_rejected("finished already")
    cancelling = given_backfill(asked(), looks(), CANCEL)
    for command in (PAUSE, RESUME):
        cancelling.when(command).then_rejected("was cancelled by bob")


# --- what follows -----------------------------------------------------------------------------------------------------


def test_a_request_is_followed_by_the_first_look_and_a_begin_by_its_run() -> None:
    story = given_backfill(asked())
    assert effects_of_backfill(story.backfill, story.events) == [ContinueBackfill(ID)]
    story = story.given(looks())
    effects = effects_of_backfill(story.backfill, story.events[1:])
    assert [effect.request.run for effect in effects if isinstance(effect, OpenRun)] == [run(1), run(2)]
    assert len(effects) == 2, "there is no room for a third"


def test_a_run_is_asked_for_as_its_instant_would_have_been() -> None:
    story = given_backfill(asked(), looks(), end(1), looks())
    admitted = story.backfill.active[run(3)].event
    request = request_of(story.backfill, admitted)
    assert request == RunRequested(
        run=run(3),
        workflow=WORKFLOW,
        document=story.backfill.request.document,
        document_version=3,
        trigger="backfill",
        scheduled_at=at(3),
        interval_start=at(2),
        interval_end=at(3),
        previous_success_at=at(1),
        requested_by="ada",
        note="the source was late",
        backfill=ID,
    )


def test_a_run_tells_its_backfill_of_its_end_and_again_when_that_was_lost() -> None:
    story = given(requested(job("load"), request={"backfill": ID}), report("load", "running", handle="h"))
    story = story.given(report("load", "succeeded", handle="h"))
    told = [TellBackfill(ID, story.run.run)]
    assert effects_of_run(story.run, story.history[-1][1]) == told
    assert pending_of_run(story.run, story.now) == told


def test_an_end_is_followed_by_the_next_look_unless_it_is_paused() -> None:
    story = given_backfill(asked(), looks(), end(1))
    assert effects_of_backfill(story.backfill, story.history[-1][1]) == [ContinueBackfill(ID)]
    paused = given_backfill(asked(), looks(), PAUSE, end(1))
    assert effects_of_backfill(paused.backfill, paused.history[-1][1]) == []


def test_a_cancellation_reaches_every_active_run_also_what_has_not_begun() -> None:
    story = given_backfill(asked(), looks(), CANCEL)
    effects = effects_of_backfill(story.backfill, story.history[-1][1])
    requests = [request_of(story.backfill, story.backfill.active[one].event) for one in (run(1), run(2))]
    assert effects == [CancelBackfilled(ID, request) for request in requests]
    assert pending_of_backfill(story.backfill, story.now) == effects, "until the runs have ended"


def test_the_sweep_repairs_a_lost_look_a_lost_begin_and_a_lost_end() -> None:
    story = given_backfill(asked())
    assert pending_of_backfill(story.backfill, NOON) == [ContinueBackfill(ID)]
    assert due_of_backfill(story.backfill, NOON) == NOON + minutes(1)
    full = story.given(looks())
    assert pending_of_backfill(full.backfill, NOON) == []
    assert due_of_backfill(full.backfill, NOON) == NOON + minutes(5)
    assert pending_of_backfill(full.backfill, NOON + minutes(5)) == [CheckBackfill(ID)]
    assert pending_of_backfill(full.backfill, NOON, everything=True) == [CheckBackfill(ID)]


def test_nobody_looks_at_a_backfill_that_waits_for_a_person_or_is_over() -> None:
    for story in (given_backfill(asked(), PAUSE), given_backfill(asked(), CANCEL), given_backfill()):
        state = story.state
        assert isinstance(state, BackfillState | NoBackfill)
        assert pending_of_backfill(state, NOON, everything=True) == []
        assert due_of_backfill(state, NOON) is None


# --- the fold, ids ----------------------------------------------------------------------------------------------------


def test_a_history_that_could_not_be_is_refused() -> None:
    state = given_backfill(asked()).backfill
    for event in (ended(1), fact(BackfillResumed), skipped()):
        with pytest.raises(CorruptStream):
            evolve_backfill(state, event.event(NOON), NOON)
    with pytest.raises(CorruptStream):
        evolve_backfill(NoBackfill(), begun(1).event(NOON), NOON)
    with pytest.raises(UnknownEvents):
        evolve_backfill(state, UnknownEvent(type="BackfillPraised", fields={}), NOON)


def test_the_runs_of_an_instant_are_numbered_and_the_first_is_the_schedules_own() -> None:
    assert run(1) == "nightly@2026-02-01T13:00:00Z"
    assert run(1, 2) == "nightly@2026-02-01T13:00:00Z.2"
    assert scheduled_instant(run(1)) == at(1)
    assert workflow_of(run(1, 2)) == WORKFLOW


def test_the_next_run_of_an_instant_is_known_by_the_one_before() -> None:
    assert following_run(run(1)) == run(1, 2)
    assert following_run(run(1, 9)) == run(1, 10)
    for other in ("nightly@k1", "nightly@2026-02-01T13:00:00Z.x", "nightly@2026-02-01T13:00:00Z.²"):
        assert following_run(RunId(other)) is None


def test_a_backfill_is_named_for_its_workflow_and_the_same_key_names_the_same() -> None:
    assert keyed_backfill(WORKFLOW, "k") == keyed_backfill(WORKFLOW, "k") != keyed_backfill(WORKFLOW, "l")
    assert workflow_of_backfill(fresh_backfill(WORKFLOW, "01J")) == WORKFLOW


# --- any order of what can happen -------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.lists(st.sampled_from(["none", "succeeded", "failed", "active"]), max_size=8)),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("pause"), st.none()),
        st.tuples(st.just("resume"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@for_all(
    steps=STEPS,
    order=st.sampled_from(["oldest", "newest"]),
    which=st.sampled_from(["all", "missing", "failed"]),
    most=st.integers(1, 4),
    last=st.integers(1, 9),
)
def test_every_instant_is_come_to_once_in_order_and_has_one_outcome(
    steps: list[tuple[str, Any]], order: str, which: str, most: int, last: int
) -> None:
    story = given_backfill(asked(1, last, order=order, which=which, max_active=most))

    def do(kind: str, what: Any) -> None:
        nonlocal story
        state = story.backfill
        match kind:
            case "look":
                nexts = coming(state, plans, 8)
                found = {one.at: Look(1, status) for one, status in zip(nexts, what, strict=False) if status != "none"}
                found |= {one.at: Look(0, "none") for one, status in zip(nexts, what, strict=False) if status == "none"}
                story = story.done(AdvanceBackfill(found))[0]
            case "end":
                active = sorted(state.active)
                if active:
                    outcome: Any = ("succeeded", "failed", "cancelled", "taken")[what]
                    story = story.done(RecordRunEnd(active[what % len(active)], outcome))[0]
            case "pause" if state.outcome is None:
                story = story.done(PAUSE)[0]
            case "resume" if state.outcome is None:
                story = story.done(RESUME)[0]

    for kind, what in steps:
        do(kind, what)
        assert len(story.backfill.active) <= most
    for _ in range(last + 2):
        do("resume", None)
        do("look", ["none"] * 8)
        for _ in range(len(story.backfill.active)):
            do("end", 0)
    state = story.backfill
    assert state.outcome is not None
    assert sorted(state.instants) == [at(day) for day in range(1, last + 1)]
    assert state.settled == last
    came = [
        instant
        for event in story.events
        for instant in (
            event.instants
            if isinstance(event, BackfillInstantsSkipped)
            else [event.scheduled_at]
            if isinstance(event, BackfillRunAdmitted)
            else []
        )
    ]
    assert all((one < other) == (order == "oldest") for one, other in pairwise(came))
    for _, commit in story.history:
        assert codec.events_in(codec.body_of(commit)) == commit


def test_what_needs_no_run_says_why() -> None:
    assert "failed" in needs_none("failed", Look(0, "none"))
    assert needs_none("failed", Look(1, "failed")) == ""
