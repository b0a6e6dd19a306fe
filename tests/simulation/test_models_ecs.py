"""The model of ECS under the real executor: it must lie exactly as ECS does, or a simulation on it proves nothing."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.ecs import EcsExecutor, EcsSettings
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Reference, Report, Request
from tests.simulation.kernel import Fault, Kernel
from tests.simulation.models import ecs
from tests.simulation.models.ecs import Ecs
from tests.simulation.models.model import Behaviour, Client, Execution, Ledger

RUN = RunId("nightly@2026-03-01T12:00:00Z")
ENDED = ("succeeded", "failed", "cancelled", "unknown")
HOUR = 3600.0


class World:
    def __init__(
        self, *faults: str, seconds: float = 60.0, code: int = 0, fate: str = "ends", seed: int = 1, chance: float = 1.0
    ) -> None:
        self.kernel = Kernel(seed, faults=[Fault(name, chance) for name in faults])
        self.ledger = Ledger()
        self.events: list[Any] = []
        self.behaviour = Behaviour((seconds,), (code,), (fate,))
        self.model = Ecs(self.kernel, self.ledger, lambda run, job, attempt: self.behaviour, self.events.append)
        self.client: Any = Client(self.model, self.kernel)
        self.executor = self.another()

    def another(self) -> EcsExecutor:
        """A process that remembers nothing."""
        return EcsExecutor(self.client, EcsSettings(subnets=("subnet-1",)), None)

    def no_more(self, fault: str) -> None:
        del self.kernel.faults[fault]

    def pass_by(self, seconds: float) -> None:
        deadline = self.kernel.now + timedelta(seconds=seconds)
        self.kernel.run(lambda: False, deadline=deadline)
        self.kernel.now = deadline

    def look(self, request: Request, handle: Handle | None = None) -> Report:
        known = Reference(request.token, request.run, request.job, request.attempt, handle)
        if handle is None:
            known = replace(known, request=request.body, asked_from=self.kernel.now - timedelta(minutes=1))
        return self.executor.observe([known])[0]

    def stop(self, request: Request, handle: Handle) -> None:
        known = Reference(request.token, request.run, request.job, request.attempt, handle)
        self.executor.stop(known, grace_seconds=30)

    def end(self, request: Request, handle: Handle, *, within: float = 300.0) -> Report:
        """What is reported when it has ended."""
        seen: list[Report] = []

        def over() -> bool:
            seen[:] = [self.look(request, handle)]
            return seen[0].status in ENDED

        assert self.kernel.run(over, deadline=self.kernel.now + timedelta(seconds=within)) or over(), seen
        return seen[0]

    def until_running(self, request: Request, handle: Handle) -> None:
        def running() -> bool:
            return self.look(request, handle).status == "running"

        assert self.kernel.run(running, deadline=self.kernel.now + timedelta(seconds=100))

    def run(self, request: Request) -> Report:
        return self.end(request, self.executor.start(request))

    def work(self) -> Execution:
        (only,) = self.ledger.executions
        return only


def job(name: str = "load", attempt: int = 1, **body: Any) -> Request:
    token = attempt_token(RUN, JobName(name), attempt)
    return Request(token, RUN, JobName(name), attempt, {"type": "ecs", "image": "busybox", **body})


def test_a_task_goes_its_way_with_an_event_and_a_version_for_each_change() -> None:
    world = World()
    world.run(job())
    details = [event["detail"] for event in world.events]
    assert [one["lastStatus"] for one in details] == ["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"]
    assert [one["version"] for one in details] == [1, 2, 3, 4, 5]
    assert {event["detail-type"] for event in world.events} == {"ECS Task State Change"}


def test_its_last_event_says_what_its_description_says() -> None:
    world = World(code=3)
    request = job()
    handle = world.executor.start(request)
    told = world.end(request, handle)
    assert world.executor.reports_of(world.events[-1]) == [told]


def test_reports_follow_it_from_its_start_to_its_end() -> None:
    world = World(seconds=30)
    request = job()
    handle = world.executor.start(request)
    statuses = [world.look(request, handle).status]
    for _ in range(100):
        world.pass_by(1)
        statuses.append(world.look(request, handle).status)
    assert list(dict.fromkeys(statuses)) == ["submitted", "running", "succeeded"]
    assert 30 <= statuses.count("running") <= 60


@pytest.mark.parametrize(
    ("fate", "code", "status", "failure", "outcome"),
    [
        ("ends", 0, "succeeded", None, "succeeded"),
        ("ends", 3, "failed", "user", "failed"),
        ("vanishes", 0, "failed", "infrastructure", "vanished"),
        ("never starts", 0, "failed", "infrastructure", "never started"),  # fault 10
    ],
)
def test_each_fate_is_reported_and_written_down(
    fate: str, code: int, status: str, failure: str | None, outcome: str
) -> None:
    world = World(fate=fate, code=code)
    report = world.run(job())
    assert (report.status, report.failure) == (status, failure)
    assert world.work().outcome == outcome
    assert world.work().handle == report.handle


def test_what_hangs_runs_until_it_is_stopped() -> None:
    world = World(fate="hangs")
    request = job()
    handle = world.executor.start(request)
    world.pass_by(48 * HOUR)
    assert world.look(request, handle).status == "running"
    world.stop(request, handle)
    assert world.end(request, handle).status == "cancelled"
    assert (world.work().outcome, world.work().exit_code) == ("stopped", 143)


def test_a_task_is_told_apart_from_those_of_others() -> None:  # fault 33
    world = World()
    world.executor.start(job())
    definition = world.events[0]["detail"]["taskDefinitionArn"]
    world.model.run_task(taskDefinition=definition, networkConfiguration={}, startedBy="somebody")
    world.pass_by(HOUR)
    assert len(world.ledger.executions) == 1
    foreign = [event for event in world.events if event["detail"]["startedBy"] == "somebody"]
    assert len(foreign) == 5
    assert all(world.executor.reports_of(event) == [] for event in foreign)


# --- tokens -------------------------------------------------------------------------------------------------------------


def test_the_same_token_finds_the_same_task() -> None:  # fault 2
    world = World("ecs is silent after doing it")
    with pytest.raises((TargetSilent, TargetUnavailable)):
        world.executor.start(job())
    world.no_more("ecs is silent after doing it")
    handles = {world.executor.start(job()) for _ in range(3)}
    assert handles == {world.work().handle}


def test_an_hour_after_its_end_a_task_and_its_token_are_forgotten() -> None:  # faults 6 and 9
    world = World(seconds=5)
    request = job()
    handle = world.executor.start(request)
    world.end(request, handle)
    world.pass_by(58 * 60)
    assert world.another().start(request) == handle
    assert world.look(request, handle).status == "succeeded"
    world.pass_by(3 * 60)
    assert world.look(request, handle).status == "missing"
    assert world.another().start(request) != handle
    assert len(world.ledger.of(request.token)) == 2
    assert world.kernel.reached["ecs: token expired, another task"] == 1


def test_a_token_is_forgotten_after_a_day_though_its_task_still_runs() -> None:
    world = World(fate="hangs")
    handle = world.executor.start(job())
    world.pass_by(23.9 * HOUR)
    assert world.executor.start(job()) == handle
    world.pass_by(0.2 * HOUR)
    assert world.executor.start(job()) != handle


def test_the_same_token_with_another_request_conflicts_and_names_the_task() -> None:  # fault 7
    world = World()
    handle = world.executor.start(job())
    assert world.executor.start(job(image="busybox:2")) == handle
    assert len(world.ledger.executions) == 1


def test_a_conflict_that_names_no_task_says_nothing() -> None:  # fault 7
    world = World("ecs conflict names no task")
    world.executor.start(job())
    with pytest.raises(TargetSilent):
        world.executor.start(job(image="busybox:2"))


# --- what is answered at the start --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["ecs has no room", "ecs is at its quota"])
def test_without_room_nothing_is_started_and_the_token_is_free(fault: str) -> None:  # fault 5
    world = World(fault)
    with pytest.raises(TargetUnavailable):
        world.executor.start(job())
    assert world.ledger.executions == []
    world.no_more(fault)
    assert world.run(job()).status == "succeeded"


def test_a_definition_that_somebody_deregistered_is_registered_again() -> None:
    world = World()
    world.executor.start(job())
    world.model.deregister_task_definition(taskDefinition=world.events[0]["detail"]["taskDefinitionArn"])
    assert world.run(job("other")).status == "succeeded"
    assert world.kernel.reached["ecs: definition was deregistered"] == 1


def test_a_definition_that_goes_each_time_is_refused() -> None:
    world = World("ecs definition deregistered")
    with pytest.raises(TargetRefused):
        world.executor.start(job())


def test_a_definition_shown_late_is_registered_twice_and_then_conflicts() -> None:  # fault 7
    world = World("ecs definition shows late")
    handle = world.executor.start(job())
    # The other process registers a second revision, so its request differs.
    assert world.another().start(job()) == handle
    assert world.kernel.reached["ecs: same token, other request"] == 1


def test_a_cluster_that_went_takes_its_tasks_with_it() -> None:  # fault 16
    world = World()
    request = job()
    handle = world.executor.start(request)
    world.pass_by(60)
    world.model.delete_cluster("default")
    assert world.look(request, handle).status == "unknown"
    assert world.work().outcome == "vanished"
    with pytest.raises(TargetRefused):
        world.executor.start(job("other"))
    events = len(world.events)
    world.pass_by(HOUR)
    assert len(world.events) == events


# --- what is told afterwards --------------------------------------------------------------------------------------------


def test_a_task_may_be_missing_right_after_its_start_and_its_token_is_known_all_the_same() -> None:  # fault 8
    world = World("ecs shows a task late", seconds=600)
    request = job()
    handle = world.executor.start(request)
    assert world.look(request, handle).status == "missing"
    assert world.look(request).status == "missing"
    assert world.executor.start(request) == handle
    world.pass_by(300)
    assert world.look(request, handle).status == "running"
    assert world.look(request).handle == handle


def test_a_description_may_say_how_it_was_before() -> None:
    world = World("ecs shows an old state", seconds=30)
    request = job()
    handle = world.executor.start(request)
    world.kernel.run(lambda: bool(world.work().outcome), deadline=world.kernel.now + timedelta(seconds=200))
    world.kernel.run(
        lambda: world.events[-1]["detail"]["lastStatus"] == "STOPPED",
        deadline=world.kernel.now + timedelta(seconds=200),
    )
    assert world.look(request, handle).status == "running"
    world.pass_by(ecs.OLD_SECONDS)
    assert world.look(request, handle).status == "succeeded"


def test_what_ended_is_found_by_its_token_for_an_hour() -> None:
    world = World(seconds=5)
    request = job()
    handle = world.executor.start(request)
    world.pass_by(0.5 * HOUR)
    assert world.look(request).handle == handle
    world.pass_by(HOUR)
    assert world.look(request).status == "missing"


def test_a_list_goes_on_page_by_page() -> None:
    world = World(seconds=5)
    requests = [job(f"job-{number}") for number in range(230)]
    for request in requests:
        world.executor.start(request)
    world.pass_by(200)
    assert all(world.look(one).status == "succeeded" for one in (requests[0], requests[120], requests[229]))


def test_an_image_that_cannot_be_pulled_starts_nothing() -> None:  # fault 10
    world = World("ecs cannot pull the image")
    report = world.run(job())
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert "CannotPullContainer" in report.reason
    assert report.started_at is None


def test_a_sidecar_that_fails_changes_nothing() -> None:  # fault 11
    world = World("ecs sidecar fails")
    assert world.run(job()).status == "succeeded"
    assert 137 in [one.get("exitCode") for one in world.events[-1]["detail"]["containers"]]


def test_a_task_that_ends_without_an_exit_code_says_nothing_of_its_end() -> None:  # fault 12
    world = World("ecs says no exit code")
    assert world.run(job()).status == "unknown"
    assert world.work().outcome == "succeeded"


def test_an_event_may_leave_out_the_exit_code_that_a_description_tells() -> None:  # fault 12
    world = World("ecs event leaves out the exit code", code=4)
    world.run(job())
    assert "exitCode" not in world.events[-1]["detail"]["containers"][0]
    (report,) = world.executor.reports_of(world.events[-1])
    assert report.exit_code == 4


def test_spot_capacity_is_taken_back() -> None:  # fault 13
    world = World("ecs takes spot back")
    report = world.run(job(spot=True))
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert world.events[-1]["detail"]["stopCode"] == "SpotInterruption"
    assert world.run(job("other")).status == "succeeded"


# --- stops --------------------------------------------------------------------------------------------------------------


def test_a_task_that_is_stopped_before_it_runs_never_runs() -> None:
    world = World()
    request = job()
    handle = world.executor.start(request)
    world.stop(request, handle)
    report = world.end(request, handle)
    assert (report.status, report.started_at) == ("cancelled", None)
    assert world.work().outcome == "stopped"


def test_what_does_not_heed_sigterm_is_killed_after_its_grace() -> None:
    world = World("ecs container ignores SIGTERM", seconds=HOUR)
    request = job(stop_grace_seconds=40)
    handle = world.executor.start(request)
    world.until_running(request, handle)
    at = world.kernel.now
    world.stop(request, handle)
    world.stop(request, handle)
    assert world.end(request, handle).status == "cancelled"
    assert (world.work().exit_code, world.work().ended_at) == (137, at + timedelta(seconds=40))


def test_a_second_stop_changes_nothing() -> None:
    world = World(fate="hangs")
    request = job()
    handle = world.executor.start(request)
    world.until_running(request, handle)
    world.stop(request, handle)
    told = len(world.events)
    world.stop(request, handle)
    assert len(world.events) == told


def test_a_stop_that_its_host_does_not_hear_lets_it_end_by_itself() -> None:
    world = World(fate="ignores stops")
    request = job()
    handle = world.executor.start(request)
    world.until_running(request, handle)
    world.stop(request, handle)
    assert world.end(request, handle).status == "succeeded"
    assert world.work().outcome == "succeeded"


def test_a_stop_that_comes_too_early_finds_nothing() -> None:  # fault 8
    world = World("ecs shows a task late", seconds=600)
    request = job()
    handle = world.executor.start(request)
    with pytest.raises(TargetUnavailable, match="or not yet"):
        world.stop(request, handle)
    world.pass_by(300)
    assert world.look(request, handle).status == "running"


# --- the model itself ---------------------------------------------------------------------------------------------------


def test_its_faults_and_branches_are_those_it_declares() -> None:
    source = Path(ecs.__file__).read_text()
    assert set(re.findall(r'happens\(\s*"([^"]+)"', source)) == set(ecs.FAULTS)
    assert set(re.findall(r'sometimes\("([^"]+)"', source)) == set(ecs.BRANCHES)


def _torture(seed: int) -> World:
    """Everything at once, by chance."""
    world = World(*ecs.FAULTS, "ecs is silent after doing it", chance=0.25, seed=seed)
    random = world.kernel.random
    fates = ("ends", "ends", "vanishes", "never starts", "hangs", "ignores stops")
    handles: dict[str, tuple[Request, Handle]] = {}
    for number in range(12):
        world.behaviour = Behaviour((random.uniform(1, 900),), (random.choice((0, 3)),), (random.choice(fates),))
        request = job(f"job-{number}", spot=random.random() < 0.5)
        for _ in range(random.randint(1, 4)):
            try:
                handles[request.token] = (request, world.another().start(request))
            except (TargetUnavailable, TargetSilent, TargetRefused):
                continue
            finally:
                world.pass_by(random.choice((0.0, 3.0, 40.0, 2 * HOUR)))
        for one, handle in handles.values():
            try:
                if random.random() < 0.3:
                    world.stop(one, handle)
            except (TargetUnavailable, TargetSilent):
                continue
            world.executor.observe([Reference(one.token, one.run, one.job, one.attempt, handle)])
    if seed % 5 == 0:
        world.model.delete_cluster("default")
    world.pass_by(HOUR)
    return world


def test_under_every_fault_at_once_all_its_branches_are_reached_and_each_history_repeats() -> None:
    reached: set[str] = set()
    for seed in range(60):
        world = _torture(seed)
        reached |= set(world.kernel.reached)
        for event in world.events:
            assert event["source"] == "aws.ecs"
        if seed < 3:
            again = _torture(seed)
            assert again.events == world.events
            assert again.ledger == world.ledger
        for one in world.ledger.executions:
            assert bool(one.outcome) == (one.ended_at is not None)
    assert set(ecs.BRANCHES) <= reached
