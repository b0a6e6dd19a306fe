"""Runs that wait for runs of other workflows, and for files, through the use cases as an engine puts them together."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from shared.codec import events_in
from shared.effects import Effect, LookAtWaits, OpenRun, TickWorkflow
from shared.events import WaitMet
from shared.ids import JobName, RunId, WorkflowName, run_stream, scheduled_run, workflow_stream
from shared.ports import Waiter
from shared.state.run import Run
from shared.usecases.waits import Wake
from tests.engine.fakes import FOR_EVER, NOON, Behaviour, Node, World, drive

INGEST, REPORT = WorkflowName("ingest"), WorkflowName("report")
ONE = NOON + timedelta(hours=1)
TWO = NOON + timedelta(hours=2)
HOURLY = {"cron": "0 * * * *", "end": "2026-03-01T13:00:00"}


def job(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ssm", "host": "h", "commands": ["true"], **fields}


def register(name: str, *jobs: dict[str, Any], **fields: Any) -> Callable[[Node], object]:
    document = {"name": name, "schedule": HOURLY, "jobs": list(jobs) or [job(name)], **fields}
    return lambda node: node.control.register(json.dumps(document).encode(), name="a.json", by="ann")


def ingest(**fields: Any) -> Callable[[Node], object]:
    return register("ingest", **fields)


def report(*waits: dict[str, Any], **fields: Any) -> Callable[[Node], object]:
    return register("report", waits_for=list(waits or ({"workflow": "ingest"},)), **fields)


def run_of(world: World, name: WorkflowName, at: datetime = ONE) -> Run:
    return world.runs()[scheduled_run(name, at)]


def began_at(world: World, name: WorkflowName, at: datetime = ONE) -> datetime | None:
    return run_of(world, name, at).started_at


def a_world(**behaviours: Behaviour) -> World:
    return World({"ingest": Behaviour(600), "report": Behaviour(10), **behaviours})


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("wakes", [True, False])
def test_a_run_begins_when_what_it_waits_for_has_ended_and_never_before(wakes: bool, lost: int) -> None:
    """Whatever is lost of wake-ups, and of looks: then it is some minutes later."""
    world = a_world()
    looks: list[Effect] = []

    def loses(effect: Effect) -> bool:
        looks.extend([effect] if isinstance(effect, LookAtWaits) else [])
        return isinstance(effect, LookAtWaits) and len(looks) <= lost

    drive(world, [ingest(), report()], make=lambda world: Node(world, wakes=wakes, loses=loses))
    upstream, waiting = run_of(world, INGEST), run_of(world, REPORT)
    assert waiting.outcome == "succeeded"
    assert upstream.finished_at is not None
    assert waiting.started_at is not None
    assert waiting.started_at >= upstream.finished_at
    assert waiting.started_at - upstream.finished_at <= timedelta(minutes=11)
    if wakes and not lost:
        assert waiting.started_at == upstream.finished_at


@pytest.mark.parametrize("first", ["ingest", "report"])
def test_the_order_in_which_they_begin_does_not_matter(first: str) -> None:
    asks = [ingest(), report()]
    world = a_world()
    node = drive(world, asks, until=lambda world: len(world.store.streams("workflow")) == 2)
    world.clock.now = ONE
    for name in (first, "report" if first == "ingest" else "ingest"):
        loaded = node.transact.current(workflow_stream(WorkflowName(name)))
        assert loaded.version
        node.admission(TickWorkflow(WorkflowName(name)))
        node.turn()
    drive(world, [])
    assert run_of(world, REPORT).outcome == "succeeded"


def test_it_begins_at_once_when_what_it_waits_for_ended_before() -> None:
    world = a_world(ingest=Behaviour(0.5))
    drive(world, [ingest(), report(schedule={"cron": "0 13 1 3 *", "end": "2026-03-01T13:00:00"})])
    assert run_of(world, REPORT).outcome == "succeeded"


def test_every_crash_between_two_calls_leaves_a_run_that_begins_after_its_wait() -> None:
    calm = a_world()
    drive(calm, [ingest(), report()])
    for point in range(1, calm.points.count, 2):
        world = a_world()
        world.points.crash_at = frozenset({point})
        drive(world, [ingest(), report()])
        upstream, waiting = run_of(world, INGEST), run_of(world, REPORT)
        assert upstream.finished_at is not None
        assert waiting.started_at is not None
        assert waiting.started_at >= upstream.finished_at, point


def test_nobody_waits_any_more_when_it_is_over() -> None:
    world = a_world()
    drive(world, [ingest(), report()])
    assert world.waiters.of(INGEST) == []


def test_the_evidence_names_run_version_and_outcome() -> None:
    world = a_world()
    node = drive(world, [ingest(), report()])
    met = [
        event
        for record in world.store.read(run_stream(scheduled_run(REPORT, ONE)))
        for event in events_in(record.body)
        if isinstance(event, WaitMet)
    ]
    assert [(event.run, event.outcome) for event in met] == [(scheduled_run(INGEST, ONE), "succeeded")]
    then = node.transact.loader.load_as_of(run_stream(RunId(met[0].run)), version=met[0].version).state
    assert isinstance(then, Run)
    assert then.outcome == "succeeded"


# --- what became of what is waited for --------------------------------------------------------------------------------


def test_a_run_whose_upstream_failed_fails_and_says_so() -> None:
    world = a_world(ingest=Behaviour(600, (1,)))
    drive(world, [ingest(), report()])
    run = run_of(world, REPORT)
    assert run.outcome == "failed"
    assert run.jobs[JobName("report")].phase.reason == f"{scheduled_run(INGEST, ONE)} failed"  # type: ignore[union-attr]


def test_a_run_that_waits_for_a_rerun_begins_when_that_succeeded() -> None:
    world = a_world(ingest=Behaviour(60, (1, 0)))
    rerun = lambda node: node.control.rerun(scheduled_run(INGEST, ONE), by="ann", failed=True, request="r")  # noqa: E731
    wait = {"workflow": "ingest", "on_failure": "wait", "timeout_minutes": 300}
    failed = lambda world: scheduled_run(INGEST, ONE) in world.runs() and run_of(world, INGEST).finished  # noqa: E731
    drive(world, [ingest(), report(wait)], until=failed)
    assert not run_of(world, REPORT).finished
    drive(world, [rerun])
    assert run_of(world, REPORT).outcome == "succeeded"
    assert began_at(world, REPORT) == run_of(world, INGEST).finished_at


def test_a_rerun_of_the_upstream_does_not_disturb_a_run_that_began() -> None:
    world = a_world(report=Behaviour(3600))
    began = lambda world: scheduled_run(REPORT, ONE) in world.runs() and run_of(world, REPORT).active > 0  # noqa: E731
    drive(world, [ingest(), report()], until=began)
    again = lambda node: node.control.rerun(scheduled_run(INGEST, ONE), by="ann", jobs=[JobName("ingest")], request="r")  # noqa: E731
    drive(world, [again])
    assert run_of(world, REPORT).outcome == "succeeded"


def test_a_run_whose_upstream_instant_was_skipped_fails_at_once_with_the_reason() -> None:
    # The run of noon goes on for ever, so that of one o'clock is skipped.
    world = World({"ingest": FOR_EVER_LONG, "report": Behaviour(10)})
    world.clock.now = NOON - timedelta(minutes=1)
    drive(
        world,
        [ingest(overlap="skip"), report(schedule={"cron": "0 13 1 3 *", "end": "2026-03-01T13:00:00"})],
        until=lambda world: scheduled_run(REPORT, ONE) in world.runs() and run_of(world, REPORT).finished,
    )
    run = run_of(world, REPORT)
    assert run.outcome == "failed"
    assert "it was skipped: overlap is skip" in run.jobs[JobName("report")].phase.reason  # type: ignore[union-attr]
    assert run.finished_at == ONE


FOR_EVER_LONG = Behaviour(FOR_EVER.total_seconds())


def test_a_run_whose_upstream_was_unregistered_fails() -> None:
    world = a_world()
    gone = lambda node: node.control.unregister(INGEST, by="ann")  # noqa: E731
    drive(world, [ingest(), report(), gone])
    assert run_of(world, REPORT).outcome == "failed"


def test_a_pause_of_the_upstream_is_waited_out() -> None:
    world = a_world()
    pause = lambda node: node.control.pause(INGEST, by="ann")  # noqa: E731
    hour = lambda world: world.clock.now >= ONE + timedelta(minutes=20)  # noqa: E731
    waits = {"workflow": "ingest", "timeout_minutes": 600}
    drive(world, [ingest(schedule={**HOURLY, "catchup": "all"}), report(waits), pause], until=hour)
    assert not run_of(world, REPORT).finished
    drive(world, [lambda node: node.control.resume(INGEST, by="ann")])
    assert run_of(world, REPORT).outcome == "succeeded"


def test_an_instant_that_was_missed_because_of_a_pause_ends_the_wait() -> None:
    world = a_world()
    pause = lambda node: node.control.pause(INGEST, by="ann")  # noqa: E731
    hour = lambda world: world.clock.now >= ONE + timedelta(minutes=20)  # noqa: E731
    drive(world, [ingest(), report(), pause], until=hour)
    drive(world, [lambda node: node.control.resume(INGEST, by="ann")])
    run = run_of(world, REPORT)
    assert run.outcome == "failed"
    assert "it was missed: the workflow was paused" in run.jobs[JobName("report")].phase.reason  # type: ignore[union-attr]


def test_a_run_that_was_removed_since_counts_as_its_workflow_remembers_it() -> None:
    world = a_world(ingest=Behaviour(0.5))
    drive(
        world,
        [
            ingest(),
            register(
                "late",
                schedule={"cron": "5 13 1 3 *", "end": "2026-03-01T14:00:00"},
                waits_for=[{"workflow": "ingest", "lag_minutes": 5}],
            ),
        ],
        until=lambda world: (
            scheduled_run(INGEST, ONE) in world.runs()
            and not world.targets.next_end()
            and world.clock.now > ONE + timedelta(minutes=1)
        ),
    )
    vars(world.store)["_commits"].pop(run_stream(scheduled_run(INGEST, ONE)))
    drive(world, [])
    assert run_of(world, WorkflowName("late"), ONE + timedelta(minutes=5)).outcome == "succeeded"


# --- deadlines and files ----------------------------------------------------------------------------------------------


def test_at_its_deadline_a_run_stops_waiting_to_the_moment() -> None:
    world = a_world(ingest=Behaviour(7200))
    drive(world, [ingest(), report({"workflow": "ingest", "timeout_minutes": 7})])
    assert run_of(world, REPORT).outcome == "failed"
    assert run_of(world, REPORT).finished_at == ONE + timedelta(minutes=7)


def test_a_run_waits_for_a_file_and_looks_for_it_a_bounded_number_of_times() -> None:
    world = a_world()
    wait = {"file": "/in/{{ scheduled_at | date('%H') }}.csv", "timeout_minutes": 300}
    drive(world, [report(wait)], until=lambda world: world.clock.now >= ONE + timedelta(hours=2))
    assert not run_of(world, REPORT).finished
    assert 5 < world.files.looks < 60
    world.files.there["/in/13.csv"] = "12 bytes"
    drive(world, [])
    assert run_of(world, REPORT).outcome == "succeeded"


def test_a_file_that_this_engine_cannot_look_for_fails_the_run() -> None:
    world = a_world()
    node = Node(world)
    node.control.register(
        json.dumps({"name": "report", "schedule": HOURLY, "jobs": [job("report")]}).encode(), name="a.json", by="ann"
    )
    drive(world, [report({"file": "/in/{{ 's3' }}", "timeout_minutes": 1})])
    assert run_of(world, REPORT).outcome == "failed"


# --- lags, windows, jobs ----------------------------------------------------------------------------------------------


def test_a_run_waits_for_one_job_only() -> None:
    world = World({"fetch": Behaviour(60), "slow": Behaviour(3600), "report": Behaviour(10)})
    upstream = register("ingest", job("fetch"), job("slow"))
    drive(world, [upstream, report({"workflow": "ingest", "job": "fetch"})])
    assert began_at(world, REPORT) == ONE + timedelta(seconds=60)


def test_a_job_waits_and_the_rest_of_its_run_goes_on() -> None:
    world = World({"ingest": Behaviour(600), "fetch": Behaviour(10), "load": Behaviour(10)})
    waiting = register("report", job("fetch"), job("load", after=["fetch"], waits_for=[{"workflow": "ingest"}]))
    drive(world, [ingest(), waiting])
    run = run_of(world, REPORT)
    assert run.outcome == "succeeded"
    assert run.jobs[JobName("fetch")].attempts[0].queued_at == ONE
    assert run.jobs[JobName("load")].attempts[0].queued_at == ONE + timedelta(seconds=600)


def test_runs_of_one_workflow_are_done_one_after_the_other_in_the_order_of_their_instants() -> None:
    world = World({"report": Behaviour(5400)})
    until_four = {"cron": "0 * * * *", "end": "2026-03-01T16:00:00"}
    drive(world, [report({"workflow": "report", "lag_instants": 1}, schedule=until_four)])
    runs = [run_of(world, REPORT, NOON + timedelta(hours=hour)) for hour in (1, 2, 3, 4)]
    assert [run.outcome for run in runs] == ["succeeded"] * 4
    for before, after in pairwise(runs):
        assert after.started_at == before.finished_at


def test_a_run_waits_for_the_latest_success_in_a_window() -> None:
    world = World({"ingest": Behaviour(600, (1, 1, 1)), "report": Behaviour(10)})
    wait = {"workflow": "ingest", "latest_within_minutes": 90, "timeout_minutes": 240}
    schedule = {"cron": "0 * * * *", "end": "2026-03-01T14:00:00"}
    done = lambda world: scheduled_run(INGEST, ONE) in world.runs() and run_of(world, INGEST).finished  # noqa: E731
    drive(world, [ingest(schedule=schedule), report(wait)], until=done)
    assert not run_of(world, REPORT).finished

    def mark(node: Node) -> None:
        node.control.mark(scheduled_run(INGEST, ONE), JobName("ingest"), "succeeded", by="ann", reason="ok")

    drive(world, [mark])
    assert run_of(world, REPORT).outcome == "succeeded"


def test_so_many_instants_before_by_the_schedule_of_the_other() -> None:
    world = a_world()
    six_hourly = {"cron": "30 12 * * *", "end": "2026-03-01T13:00:00"}
    drive(world, [ingest(schedule=six_hourly), report({"workflow": "ingest", "lag_instants": 1})])
    assert began_at(world, REPORT) == ONE
    world = a_world(ingest=Behaviour(3600))
    drive(world, [ingest(schedule=six_hourly), report({"workflow": "ingest", "lag_instants": 1})])
    assert began_at(world, REPORT) == NOON + timedelta(minutes=90)


def test_a_run_that_begins_and_ends_between_two_looks_is_not_taken_for_one_that_never_will_be() -> None:
    """The first look finds no run, the second that the instant was dealt with and is no run under way: by then it is one that ended."""
    world = a_world(ingest=Behaviour(1))
    node = drive(world, [ingest(), report()], until=lambda world: len(world.store.streams("workflow")) == 2)
    world.clock.now = ONE
    node.admission(TickWorkflow(REPORT))
    node.admission(OpenRun(next(iter(node.control.workflow(REPORT).holders.values())).request))
    never = node.waits._never

    def released(world: World) -> bool:
        state = world.loader().workflow(INGEST)
        return bool(state.watermark and state.watermark >= ONE and not state.holders)

    def slow(awaited: RunId) -> Any:
        other = lambda world: Node(world, wakes=False, loses=lambda effect: isinstance(effect, LookAtWaits))  # noqa: E731
        drive(world, [], make=other, until=released)
        return never(awaited)

    node.waits._never = slow  # type: ignore[method-assign]
    node.waits(LookAtWaits(scheduled_run(REPORT, ONE)))
    (met,) = [
        event
        for record in world.store.read(run_stream(scheduled_run(REPORT, ONE)))
        for event in events_in(record.body)
        if isinstance(event, WaitMet)
    ]
    assert (met.outcome, met.version > 0) == ("succeeded", True)


def test_where_nobody_waits_it_is_not_asked_at_every_end_whether_somebody_does() -> None:
    """A look costs on AWS; the end of a run is always looked at."""
    world = World({"ingest": Behaviour(60)})
    node = drive(world, [ingest()])
    asked: list[WorkflowName] = []

    class Counted:
        def of(self, workflow: WorkflowName, **_: Any) -> list[Waiter]:
            asked.append(workflow)
            return []

    wake = Wake(Counted(), node.queue, now=world.clock, believed=timedelta(minutes=1))  # type: ignore[arg-type]
    workflow, run = (
        node.transact.current(stream) for stream in (workflow_stream(INGEST), run_stream(scheduled_run(INGEST, ONE)))
    )
    for _ in range(3):
        wake(workflow)
        assert not wake.is_awaited(INGEST)
    assert len(asked) == 1
    wake(run)
    assert len(asked) == 2
    world.clock.now += timedelta(minutes=1)
    wake(workflow)
    assert len(asked) == 3
