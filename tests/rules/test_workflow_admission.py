"""Registration, pause and admission: how scheduled instants become runs, skips and misses, and runs wait their turn."""

from datetime import datetime
from typing import Any

import pytest
from immutables import Map

from shared.decide.commands import (
    AdmitRun,
    DropHeldRun,
    PauseWorkflow,
    RegisterWorkflow,
    ReleaseRun,
    ResumeWorkflow,
    Tick,
    UnregisterWorkflow,
)
from shared.effects import (
    CancelDisplaced,
    CheckHolders,
    OpenRun,
    TickWorkflow,
    due_of_workflow,
    effects_of_workflow,
    pending_of_workflow,
)
from shared.errors import NotFound
from shared.events import (
    HeldRunDropped,
    InstantSkipped,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    RunReleased,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.ids import RunId, scheduled_run
from shared.state.workflow import HELD_MAX
from tests.rules.sentences import (
    NOON,
    RUN,
    WORKFLOW,
    Fact,
    Story,
    days,
    document,
    ended,
    fact,
    given_workflow,
    hours,
    job,
    minutes,
    plans,
    register,
    request_of,
    seconds,
)

PAUSE, RESUME, TICK = PauseWorkflow("ada"), ResumeWorkflow("ada"), Tick()


def daily(**fields: Any) -> Any:
    """Due at 13:00 every day; the first time an hour after noon."""
    return scheduled({"cron": "0 13 * * *"}, **fields)


def scheduled(rule: dict[str, Any], **fields: Any) -> Any:
    catchup = {name: fields.pop(name) for name in ("catchup", "catchup_max") if name in fields}
    return document(job("load"), schedule={**rule, **catchup}, **fields)


def at(hour: int, minute: int = 0, day: int = 2) -> datetime:
    return NOON.replace(day=day, hour=hour, minute=minute)


def run_at(moment: datetime) -> RunId:
    return scheduled_run(WORKFLOW, moment)


def admitted(moment: datetime, **fields: Any) -> Fact:
    return fact(RunAdmitted, run=run_at(moment), **fields)


def held(moment: datetime) -> Fact:
    return fact(RunHeld, run=run_at(moment))


def skipped(moment: datetime) -> Fact:
    return fact(InstantSkipped, scheduled_at=moment)


def missed(first: datetime, last: datetime, count: int) -> Fact:
    return fact(InstantsMissed, first_at=first, last_at=last, count=count)


def watermark(until: datetime, next_at: datetime | None) -> Fact:
    return fact(WatermarkMoved, until=until, next_at=next_at)


def registered(version: int, plan: Any) -> Fact:
    return fact(WorkflowRegistered, workflow=WORKFLOW, version=version, document=plan.digest)


# --- registration -----------------------------------------------------------------------------------------------------


def test_a_workflow_begins_with_its_registration() -> None:
    plan = daily()
    given_workflow().when(register(plan)).then(registered(1, plan), watermark(NOON, at(13)))
    with pytest.raises(NotFound):
        given_workflow().done(TICK)


def test_a_workflow_without_a_schedule_waits_to_be_asked() -> None:
    plan = document()
    story = given_workflow().when(register(plan)).then(registered(1, plan))
    assert due_of_workflow(story.workflow, story.now) is None


def test_a_new_document_is_a_new_version_and_an_old_one_is_one_again_by_a_rollback() -> None:
    one, two = daily(owner="a"), daily(owner="b")
    story = given_workflow(register(one))
    story = story.when(register(two)).then(registered(2, two))
    story = story.when(register(one)).then(registered(3, one))
    assert [version.document for version in story.workflow.versions] == [one.digest, two.digest, one.digest]


def test_a_new_schedule_counts_from_now_and_what_was_due_before_still_happens() -> None:
    new = scheduled({"cron": "30 14 * * *"})
    story = given_workflow(register(daily()), hours(1.02))
    story.when(register(new)).then(
        admitted(at(13)), watermark(story.now, at(13, day=3)), registered(2, new), watermark(story.now, at(14, 30))
    )


def test_a_schedule_that_is_taken_away_is_not_waited_for() -> None:
    plain = document()
    story = given_workflow(register(daily()))
    story = story.when(register(plain)).then(registered(2, plain), watermark(NOON, None))
    assert due_of_workflow(story.workflow, story.now) is None


def test_unregistering_ends_the_schedule_and_registering_again_begins_anew() -> None:
    plan = daily(catchup="all")
    story = given_workflow(register(plan)).when(UnregisterWorkflow("ada")).then(fact(WorkflowUnregistered))
    story = story.given(days(10)).when(TICK).then_nothing()
    assert due_of_workflow(story.workflow, story.now) is None
    story.when(AdmitRun(request_of(plan))).then_rejected("not registered any more")
    story.when(register(plan)).then(registered(2, plan), watermark(story.now, at(13, day=12)))


def test_a_start_in_the_past_is_caught_up_where_the_document_asks_for_it() -> None:
    rule = {"cron": "0 13 * * *", "start": "2026-02-27"}
    story = given_workflow(register(scheduled(rule, catchup="all")))
    assert sorted(story.workflow.holders) == [run_at(NOON.replace(month=2, day=day, hour=13)) for day in (27, 28)] + [
        run_at(at(13, day=1))
    ]
    assert not given_workflow(register(scheduled(rule))).workflow.holders


def test_a_one_off_in_the_past_runs_at_once_and_only_once() -> None:
    plan = scheduled({"at": "2026-02-01T08:00:00Z"})
    then = datetime.fromisoformat("2026-02-01T08:00:00+00:00")
    story = (
        given_workflow()
        .when(register(plan))
        .then(registered(1, plan), watermark(then - seconds(1), then), admitted(then), watermark(NOON, None))
    )
    again = scheduled({"at": "2026-02-01T08:00:00Z"}, owner="b")
    story = story.when(register(again)).then(registered(2, again))
    moved = scheduled({"at": "2026-02-01T09:00:00+01:00"}, owner="c")
    assert story.given(ended(run_at(then)), register(moved)).workflow.holders == Map()


def test_a_workflow_that_had_another_schedule_still_runs_a_one_off_in_the_past() -> None:
    then = datetime.fromisoformat("2026-02-01T08:00:00+00:00")
    story = given_workflow(register(daily()), register(scheduled({"at": "2026-02-01T08:00:00Z"})))
    assert list(story.workflow.holders) == [run_at(then)]


# --- the clock --------------------------------------------------------------------------------------------------------


def test_an_instant_becomes_a_run_with_its_interval_and_the_previous_success() -> None:
    story = given_workflow(register(daily()), hours(1), TICK, ended(run_at(at(13))), days(1))
    story = story.when(TICK).then(admitted(at(13, day=3)), watermark(story.now, at(13, day=4)))
    request = story.workflow.holders[run_at(at(13, day=3))].request
    assert (request.interval_start, request.interval_end) == (at(13), at(13, day=3))
    assert request.scheduled_at == at(13, day=3)
    assert request.previous_success_at == at(13)
    assert request.admitted
    opening = [one for one in effects_of_workflow(story.events[-2:]) if isinstance(one, OpenRun)]
    assert opening == [OpenRun(request)]


@pytest.mark.parametrize("late", [0, 59, 240])
def test_the_same_instant_twice_or_late_is_one_run(late: float) -> None:
    """Fault 37."""
    story = given_workflow(register(daily()), hours(1), seconds(late))
    story = story.when(TICK).then(admitted(at(13)), watermark(story.now, at(13, day=3)))
    story.given(minutes(2)).when(TICK).then_nothing()


def test_a_bell_that_rings_twenty_minutes_late_misses_without_catchup_and_runs_with_it() -> None:
    """Fault 37."""
    story = given_workflow(register(daily()), hours(1.4))
    story.when(TICK).then(missed(at(13), at(13), 1), watermark(story.now, at(13, day=3)))
    story = given_workflow(register(daily(catchup="latest")), hours(1.4))
    story.when(TICK).then(admitted(at(13)), watermark(story.now, at(13, day=3)))


def test_a_bell_that_rings_after_the_schedule_went_away_rings_in_vain() -> None:
    """Fault 37."""
    given_workflow(register(daily()), register(document()), hours(1)).when(TICK).then_nothing()
    given_workflow(register(daily()), UnregisterWorkflow("ada"), hours(1)).when(TICK).then_nothing()


def planned_by_other_data(next_at: datetime, **fields: Any) -> Story:
    """Due at 13:00 by the data of time zones that there is now; when it was planned, the data said something else."""
    return given_workflow(register(daily(**fields)), fact(WatermarkMoved, until=NOON, next_at=next_at))


def test_an_instant_that_newer_data_of_its_zone_moved_away_is_dealt_with_when_it_comes_and_once() -> None:
    """Fault 38."""
    story = planned_by_other_data(at(12, 30)).given(hours(0.5))
    story = story.when(TICK).then(watermark(at(12, 30), at(13))).given(hours(0.5))
    story = story.when(TICK).then(admitted(at(13)), watermark(at(13), at(13, day=3)))
    story.given(hours(1)).when(TICK).then_nothing()


def test_an_instant_that_newer_data_of_its_zone_moved_to_an_earlier_time_is_late_and_not_lost() -> None:
    """Fault 38."""
    story = planned_by_other_data(at(13, 30)).given(hours(1.5))
    story.when(TICK).then(missed(at(13), at(13), 1), watermark(at(13, 30), at(13, day=3)))
    story = planned_by_other_data(at(13, 30), catchup="latest").given(hours(1.5))
    story.when(TICK).then(admitted(at(13)), watermark(at(13, 30), at(13, day=3)))


def test_a_clock_that_runs_behind_makes_no_instant_due_twice() -> None:
    """Fault 59."""
    story = given_workflow(register(daily(owner="a")), hours(1), TICK, ended(run_at(at(13))))
    behind = Story(story.state, story.now - minutes(5), story.history)
    behind = behind.given(register(scheduled({"cron": "0 13 * * *"}, catchup="all")), minutes(10))
    behind.when(TICK).then_nothing()


# --- pause ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catchup", "runs", "misses"),
    [
        ({"catchup": "none"}, 0, 21),
        ({"catchup": "latest"}, 1, 20),
        ({"catchup": "all"}, 21, 0),
        ({"catchup": "all", "catchup_max": 5}, 5, 16),
    ],
)
def test_three_weeks_of_pause_are_caught_up_as_the_document_says(catchup: Any, runs: int, misses: int) -> None:
    """Fault 39."""
    story = given_workflow(register(daily(**catchup)), PAUSE, days(21))
    story.when(TICK).then_nothing()
    count = len(story.events)
    story = story.given(RESUME)
    new = story.events[count:]
    assert new[0] == WorkflowResumed(by="ada")
    admitted_runs = [event.run for event in new if isinstance(event, RunAdmitted)]
    assert admitted_runs == [run_at(at(13) + days(day)) for day in range(21 - runs, 21)]
    assert sum(event.count for event in new if isinstance(event, InstantsMissed)) == misses
    assert all("paused" in event.reason for event in new if isinstance(event, InstantsMissed))
    assert story.workflow.next_at == at(13, day=23)


def test_a_pause_of_three_minutes_does_not_start_what_it_stopped() -> None:
    story = given_workflow(register(daily()), minutes(59), PAUSE, minutes(3))
    story.when(RESUME).then(fact(WorkflowResumed), missed(at(13), at(13), 1), watermark(story.now, at(13, day=3)))


def test_pausing_and_resuming_twice_is_once() -> None:
    story = given_workflow(register(daily())).when(PAUSE).then(fact(WorkflowPaused))
    story.when(RESUME).then(fact(WorkflowResumed))


def test_what_is_due_when_the_pause_begins_still_runs() -> None:
    story = given_workflow(register(daily()), hours(1))
    story.when(PAUSE).then(admitted(at(13)), watermark(story.now, at(13, day=3)), fact(WorkflowPaused))


def test_people_may_start_runs_of_a_paused_workflow() -> None:
    plan = daily(overlap="queue")
    story = given_workflow(register(plan), PAUSE)
    story.when(AdmitRun(request_of(plan))).then(fact(RunAdmitted, run=RUN))


def test_scheduled_runs_that_wait_are_not_let_in_during_a_pause_and_people_overtake_them() -> None:
    plan = daily(overlap="queue")
    story = given_workflow(register(plan), AdmitRun(request_of(plan)), hours(1), TICK, PAUSE)
    assert [one.run for one in story.workflow.held] == [run_at(at(13))]
    story = story.when(ended(RUN)).then(fact(RunReleased, run=RUN, outcome="succeeded"))
    assert pending_of_workflow(story.workflow, story.now, everything=True) == [], "a tick would change nothing"
    mine = request_of(plan, RunId("nightly@2"))
    story = story.when(AdmitRun(mine)).then(fact(RunAdmitted, run=mine.run)).given(ended(mine.run))
    story.when(RESUME).then(fact(WorkflowResumed), admitted(at(13)))


def test_a_schedule_replaced_or_ended_during_a_pause_leaves_no_instant_behind() -> None:
    """I6."""
    new = scheduled({"cron": "30 14 * * *"})
    story = given_workflow(register(daily(catchup="all")), PAUSE, days(3))
    story.when(register(new)).then(
        missed(at(13), at(13, day=4), 3),
        watermark(story.now, at(13, day=5)),
        registered(2, new),
        watermark(story.now, at(14, 30, day=5)),
    )
    story.when(UnregisterWorkflow("ada")).then(
        missed(at(13), at(13, day=4), 3), watermark(story.now, at(13, day=5)), fact(WorkflowUnregistered)
    )


# --- overlap ----------------------------------------------------------------------------------------------------------


def every_minute(until: int, run_minutes: int = 90, **fields: Any) -> Story:
    """Ticks every minute; a run ends `run_minutes` after it was admitted, or a minute after it was displaced."""
    story = given_workflow(register(scheduled({"cron": "* * * * *"}, **fields)))
    for _ in range(until):
        story = story.given(minutes(1))
        for run, holder in story.workflow.holders.items():
            if holder.displaced_by is not None:
                story = story.given(ended(run, "cancelled"))
            elif story.now - holder.admitted_at >= minutes(run_minutes):
                story = story.given(ended(run))
        story = story.given(TICK)
    return story


def _count(story: Story, kind: type[Any]) -> int:
    return sum(isinstance(event, kind) for event in story.events)


def test_ninety_minute_runs_of_an_every_minute_schedule_side_by_side() -> None:
    """Fault 40."""
    story = every_minute(180, overlap="allow")
    assert _count(story, RunAdmitted) == 180
    assert len(story.workflow.holders) == 90


def test_ninety_minute_runs_of_an_every_minute_schedule_skipped() -> None:
    """Fault 40."""
    story = every_minute(180, overlap="skip")
    assert _count(story, RunAdmitted) == 2
    assert _count(story, InstantSkipped) == 178


def test_ninety_minute_runs_of_an_every_minute_schedule_queued_up_to_the_bound() -> None:
    """Fault 40."""
    story = every_minute(1_200, overlap="queue")
    assert len(story.workflow.holders) == 1
    assert len(story.workflow.held) <= HELD_MAX
    assert _count(story, RunHeld) + _count(story, InstantSkipped) == 1_200 - 1
    assert _count(story, RunAdmitted) == 14
    order = [event.run for event in story.events if isinstance(event, RunAdmitted)]
    assert order == sorted(order), "who waits longest goes first"


def test_ninety_minute_runs_of_an_every_minute_schedule_cancelled_for_the_next() -> None:
    """Fault 40."""
    story = every_minute(180, overlap="cancel_running")
    assert _count(story, RunAdmitted) == 180
    assert len(story.workflow.holders) <= 2
    displaced = [run for event in story.events if isinstance(event, RunAdmitted) for run in event.displaces]
    assert len(displaced) == len(set(displaced)) == 179, "each is cancelled once, for the run after it"


def test_a_displaced_run_is_cancelled_even_if_the_first_word_is_lost() -> None:
    story = every_minute(2, overlap="cancel_running", run_minutes=9)
    stop = CancelDisplaced(run_at(at(12, 1)), run_at(at(12, 2)))
    assert stop in effects_of_workflow(story.events)
    assert stop in pending_of_workflow(story.workflow, story.now + minutes(1))


def test_no_more_runs_are_active_than_allowed_and_who_waits_goes_in_order() -> None:
    plan = document(job("load"), max_active_runs=2)
    requests = [request_of(plan, RunId(f"nightly@{n}")) for n in range(4)]
    story = given_workflow(register(plan), AdmitRun(requests[0]), AdmitRun(requests[1]))
    story = story.when(AdmitRun(requests[2])).then(fact(RunHeld, run=requests[2].run))
    story = story.when(AdmitRun(requests[3])).then(fact(RunHeld, run=requests[3].run))
    story = story.when(DropHeldRun(requests[2].run, "ada")).then(fact(HeldRunDropped, run=requests[2].run))
    story.when(ended(requests[0].run, "failed")).then(
        fact(RunReleased, run=requests[0].run, outcome="failed"), fact(RunAdmitted, run=requests[3].run)
    )


def test_a_document_that_allows_more_lets_in_who_waits() -> None:
    narrow, wide = document(job("load"), max_active_runs=1), document(job("load"), max_active_runs=3)
    requests = [request_of(narrow, RunId(f"nightly@{n}")) for n in range(4)]
    story = given_workflow(register(narrow), *(AdmitRun(one) for one in requests))
    story.when(register(wide)).then(
        registered(2, wide), fact(RunAdmitted, run=requests[1].run), fact(RunAdmitted, run=requests[2].run)
    )


def test_who_waits_when_the_workflow_ends_waits_in_vain_and_is_told() -> None:
    plan = document(job("load"), max_active_runs=1)
    story = given_workflow(register(plan), *(AdmitRun(request_of(plan, RunId(f"nightly@{n}"))) for n in range(300)))
    story = story.given(UnregisterWorkflow("ada"))
    assert pending_of_workflow(story.workflow, story.now) == [TickWorkflow(WORKFLOW)]
    for _ in range(5):
        story = story.given(TICK)
    assert story.workflow.held == ()
    assert len(story.workflow.holders) == 1, "what runs goes on"


def test_a_lost_end_never_blocks() -> None:
    plan = document(job("load"), max_active_runs=1)
    story = given_workflow(register(plan), AdmitRun(request_of(plan)))
    assert due_of_workflow(story.workflow, story.now) == NOON + minutes(5)
    assert pending_of_workflow(story.workflow, story.now + minutes(5)) == [CheckHolders(WORKFLOW)]
    story = story.when(ReleaseRun(RUN, "lost")).then(fact(RunReleased, run=RUN, outcome="lost"))
    assert due_of_workflow(story.workflow, story.now) is None


def test_only_a_success_counts_as_the_previous_success_and_never_an_older_one() -> None:
    story = given_workflow(register(scheduled({"cron": "* * * * *"})))
    for _ in range(3):
        story = story.given(minutes(1), TICK)
    story = story.given(ended(run_at(at(12, 2))), ended(run_at(at(12, 1))), ended(run_at(at(12, 3)), "failed"))
    assert story.workflow.previous_success_at == at(12, 2)


def test_what_succeeded_while_a_run_waited_is_its_previous_success() -> None:
    story = every_minute(2, overlap="queue").given(ended(run_at(at(12, 1))))
    assert story.workflow.holders[run_at(at(12, 2))].request.previous_success_at == at(12, 1)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_thousands_of_instants_with_large_parameters_are_dealt_with_in_commits_that_fit() -> None:
    """Fault 47."""
    parameters = {"type": "object", "properties": {"blob": {"type": "string", "default": "x" * 30_000}}}
    rule = {"rate": "1 minute", "catchup": "all", "catchup_max": 200}
    plan = document(job("load"), schedule=rule, parameters=parameters)
    story = given_workflow(register(plan), PAUSE, hours(10), RESUME)
    for _ in range(210):
        if story.workflow.next_at is not None and story.workflow.next_at > story.now:
            break
        story = story.given(TICK)
    assert _count(story, RunAdmitted) == 200
    assert sum(event.count for event in story.events if isinstance(event, InstantsMissed)) == 400


def test_an_instant_whose_parameters_fit_no_commit_or_have_no_value_is_skipped_with_the_reason() -> None:
    for properties in ({"blob": {"type": "string", "default": "x" * 80_000}}, {"blob": {"type": "string"}}):
        parameters = {"type": "object", "properties": properties, "required": ["blob"]}
        plan = document(job("load"), schedule={"cron": "0 13 * * *"}, parameters=parameters)
        story = given_workflow(register(plan), hours(1))
        story.when(TICK).then(skipped(at(13)), watermark(story.now, at(13, day=3)))


def test_registering_what_is_live_changes_nothing() -> None:
    plan = daily()
    given_workflow(register(plan), hours(1)).when(RegisterWorkflow(WORKFLOW, plan.digest, "bob")).then_nothing()
    assert plans(plan.digest) is not None
