"""The model of EMR under the real executor: it must lie exactly as EMR does, or a simulation on it proves nothing."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.emr import EmrExecutor
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Reference, Report, Request
from tests.simulation.kernel import Fault, Kernel
from tests.simulation.models import emr
from tests.simulation.models.emr import Emr
from tests.simulation.models.model import Behaviour, Client, Execution, Ledger

RUN = RunId("nightly@2026-03-01T12:00:00Z")
ENDED = ("succeeded", "failed", "cancelled", "unknown")
HOUR = 3600.0
SHARED = "j-SHARED"


class World:
    def __init__(
        self, *faults: str, seconds: float = 90.0, code: int = 0, fate: str = "ends", seed: int = 1, **more: Any
    ) -> None:
        chance = more.pop("chance", 1.0)
        self.kernel = Kernel(seed, faults=[Fault(name, chance) for name in faults])
        self.ledger = Ledger()
        self.events: list[Any] = []
        self.behaviours: dict[str, Behaviour] = {}
        """By job, where it is not as the others."""
        self.behaviour = Behaviour((seconds,), (code,), (fate,))
        self.model = Emr(
            self.kernel,
            self.ledger,
            lambda run, job, attempt: self.behaviours.get(job, self.behaviour),
            self.events.append,
            **more,
        )
        client: Any = Client(self.model, self.kernel)
        self.executor = EmrExecutor(client, None, now=lambda: self.kernel.now)

    def no_more(self, fault: str) -> None:
        del self.kernel.faults[fault]

    def pass_by(self, seconds: float) -> None:
        deadline = self.kernel.now + timedelta(seconds=seconds)
        self.kernel.run(lambda: False, deadline=deadline)
        self.kernel.now = deadline

    def reference(self, request: Request, handle: Handle | None = None) -> Reference:
        known = Reference(request.token, request.run, request.job, request.attempt, handle)
        if handle is None:
            known = replace(known, request=request.body, asked_from=self.kernel.now - timedelta(hours=2))
        return known

    def look(self, request: Request, handle: Handle | None = None) -> Report:
        return self.executor.observe([self.reference(request, handle)])[0]

    def stop(self, request: Request, handle: Handle) -> None:
        self.executor.stop(self.reference(request, handle), grace_seconds=30)

    def end(self, request: Request, handle: Handle) -> Report:
        return self.until(request, handle, *ENDED)

    def until(self, request: Request, handle: Handle, *statuses: str) -> Report:
        seen: list[Report] = []

        def reached() -> bool:
            seen[:] = [self.look(request, handle)]
            return seen[0].status in statuses

        assert self.kernel.run(reached, deadline=self.kernel.now + timedelta(hours=3)) or reached(), seen
        return seen[0]

    def run(self, request: Request) -> Report:
        return self.end(request, self.executor.start(request))

    def work(self, request: Request) -> Execution:
        (only,) = self.ledger.of(request.token)
        return only

    def states(self, kind: str, where: str = "") -> list[str]:
        details = [event["detail"] for event in self.events if event["detail-type"] == kind]
        return [one["state"] for one in details if where in one["clusterId"]]


def steps(name: str, count: int, action: str, attempt: int, **body: Any) -> Request:
    given = [
        {
            "Name": f"step {number}",
            "ActionOnFailure": action,
            "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["sh", "-c", "exit 0"]},
        }
        for number in range(1, count + 1)
    ]
    token = attempt_token(RUN, JobName(name), attempt)
    return Request(token, RUN, JobName(name), attempt, {"type": "emr", "steps": given, **body})


def own(name: str = "load", *, count: int = 1, action: str = "TERMINATE_CLUSTER", attempt: int = 1) -> Request:
    return steps(name, count, action, attempt, cluster={"ReleaseLabel": "emr-7.5.0", "Instances": {}})


def on_shared(name: str = "load", *, count: int = 1, action: str = "CONTINUE", attempt: int = 1) -> Request:
    return steps(name, count, action, attempt, cluster_id=SHARED)


STEP = "EMR Step Status Change"
CLUSTER = "EMR Cluster State Change"


def test_a_cluster_of_its_own_goes_its_way_with_an_event_for_each_change() -> None:
    world = World()
    request = own(count=2)
    assert world.run(request).status == "succeeded"
    world.pass_by(100)
    starting = ["STARTING", "BOOTSTRAPPING", "RUNNING"]
    assert world.states(CLUSTER) == [*starting, "TERMINATING", "TERMINATED"]
    assert world.states(STEP) == ["PENDING", "PENDING", "RUNNING", "COMPLETED", "RUNNING", "COMPLETED"]
    work = world.work(request)
    assert (work.outcome, work.exit_code) == ("succeeded", 0)


def test_steps_on_a_cluster_that_is_there_wait_for_those_before_them() -> None:
    world = World(seconds=100)
    first, second = on_shared("first", count=2), on_shared("second")
    handles = [world.executor.start(one) for one in (first, second)]
    assert handles == [one.handle for one in world.ledger.executions]
    world.pass_by(60)
    assert [world.look(first, handles[0]).status, world.look(second, handles[1]).status] == ["running", "submitted"]
    world.end(second, handles[1])
    assert world.look(first, handles[0]).status == "succeeded"
    began, ended = (one.ended_at for one in world.ledger.executions)
    assert began is not None
    assert ended is not None
    assert (ended - began).total_seconds() >= 100
    world.pass_by(60)
    assert world.states(CLUSTER) == ["RUNNING", "WAITING"]


@pytest.mark.parametrize("kind", [own, on_shared])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("fate", "code", "status", "outcome"),
    [
        ("ends", 0, "succeeded", "succeeded"),
        ("ends", 3, "failed", "failed"),
        ("vanishes", 0, "failed", "vanished"),
        ("never starts", 0, "failed", "never started"),
    ],
)
def test_each_fate_is_reported_and_written_down(
    kind: Any, count: int, fate: str, code: int, status: str, outcome: str
) -> None:
    world = World(fate=fate, code=code)
    request = kind(count=count)
    assert world.run(request).status == status
    world.pass_by(100)
    assert world.work(request).outcome == outcome


def test_an_event_leads_to_what_a_look_tells() -> None:
    world = World()
    request = on_shared(count=2)
    report = world.run(request)
    ended = [event for event in world.events if event["detail"]["state"] == "COMPLETED"]
    assert world.executor.reports_of(ended[-1]) == [report]


def test_what_others_do_on_the_cluster_is_told_apart() -> None:  # fault 33
    world = World()
    world.model.add_job_flow_steps(
        JobFlowId=SHARED, Steps=[{"Name": "theirs", "HadoopJarStep": {"Jar": "command-runner.jar"}}]
    )
    world.pass_by(300)
    assert world.ledger.executions == []
    assert world.states(STEP) == ["PENDING", "RUNNING", "COMPLETED"]
    assert all(world.executor.reports_of(event) == [] for event in world.events)


# --- no token -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [own, on_shared])
def test_what_is_asked_for_twice_is_done_twice(kind: Any) -> None:  # fault 17
    world = World("emr is silent after doing it")
    request = kind()
    for _ in range(2):
        with pytest.raises(TargetSilent):
            world.executor.start(request)
    assert len(world.ledger.of(request.token)) == 2


@pytest.mark.parametrize("kind", [own, on_shared])
def test_what_was_started_unheard_is_found_by_its_marker(kind: Any) -> None:  # fault 17
    world = World("emr is silent after doing it")
    request = kind(count=2)
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    world.no_more("emr is silent after doing it")
    for number in range(120):
        world.executor.start(kind(f"later-{number}"))
    assert world.look(request).handle == world.work(request).handle


@pytest.mark.parametrize("kind", [own, on_shared])
def test_lists_may_not_show_at_first_what_is_there(kind: Any) -> None:  # fault 17
    world = World("emr lists late")
    request = kind()
    world.executor.start(request)
    assert world.look(request).status == "missing"
    world.pass_by(60)
    assert world.look(request).handle == world.work(request).handle


def test_clusters_are_listed_by_when_they_were_made() -> None:
    world = World()
    handles = []
    for number in range(3):
        handles.append(str(world.executor.start(own(f"job-{number}"))))
        world.pass_by(60)
    now = world.kernel.now
    after, before = now - timedelta(seconds=130), now - timedelta(seconds=70)
    between = world.model.list_clusters(CreatedAfter=after, CreatedBefore=before)
    assert [one["Id"] for one in between["Clusters"]] == handles[1:2]
    assert [one["Id"] for one in world.model.list_clusters()["Clusters"]] == [*handles[::-1], SHARED]


def test_steps_may_be_told_as_they_were_before() -> None:
    world = World("emr shows an old state")
    request = on_shared()
    handle = world.executor.start(request)
    done = lambda: bool(world.work(request).outcome)  # noqa: E731
    assert world.kernel.run(done, deadline=world.kernel.now + timedelta(hours=1))
    report = world.look(request, handle)
    assert (report.status, report.ended_at) == ("running", None)
    world.pass_by(emr.OLD_SECONDS)
    assert world.look(request, handle).status == "succeeded"


# --- clusters that end --------------------------------------------------------------------------------------------------


def test_steps_stay_pending_for_ever_on_a_cluster_that_died() -> None:  # fault 18
    world = World(seconds=600)
    first, second = on_shared("first"), on_shared("second")
    handles = [world.executor.start(one) for one in (first, second)]
    world.pass_by(60)
    world.model.terminate(SHARED)
    world.pass_by(48 * HOUR)
    assert world.states(STEP) == ["PENDING", "PENDING", "RUNNING", "INTERRUPTED"]
    assert world.states(CLUSTER)[-1] == "TERMINATED_WITH_ERRORS"
    for request, handle in zip((first, second), handles, strict=True):
        report = world.look(request, handle)
        assert (report.status, report.failure) == ("failed", "infrastructure")
    assert [one.outcome for one in world.ledger.executions] == ["vanished", "never started"]


def test_the_running_step_may_say_nothing_of_the_end_either() -> None:  # fault 18
    world = World("emr leaves the running step as it was", "emr cluster dies")
    request = own()
    handle = world.executor.start(request)
    report = world.end(request, handle)
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert world.states(STEP)[-1] == "RUNNING"


@pytest.mark.parametrize(("fault", "last"), [("", CLUSTER), ("emr ends steps before their cluster", STEP)])
def test_steps_may_end_while_their_cluster_is_still_going(fault: str, last: str) -> None:
    world = World(fault, fate="vanishes")
    world.executor.start(own())

    def going() -> bool:
        return "TERMINATING" in world.states(CLUSTER)

    assert world.kernel.run(going, deadline=world.kernel.now + timedelta(hours=1))
    assert world.events[-1]["detail-type"] == last
    assert world.states(CLUSTER)[-1] == "TERMINATING"
    world.pass_by(100)
    assert world.states(STEP)[-1] == "INTERRUPTED"


def test_pending_steps_may_be_cancelled_with_their_cluster() -> None:
    world = World("emr cancels the pending steps of an ended cluster", fate="vanishes")
    request = own(count=3)
    report = world.run(request)
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert world.states(STEP)[-2:] == ["INTERRUPTED", "CANCELLED"]


def test_a_failed_step_ends_its_cluster_under_three_other_jobs() -> None:  # fault 22
    world = World()
    world.behaviours["bad"] = Behaviour((10.0,), (1,), ("ends",))
    bad = on_shared("bad", action="TERMINATE_CLUSTER")
    others = [on_shared(f"other-{number}") for number in range(3)]
    handles = [world.executor.start(one) for one in (bad, *others)]
    assert world.end(bad, handles[0]).failure == "user"
    for request, handle in zip(others, handles[1:], strict=True):
        report = world.end(request, handle)
        assert (report.status, report.failure) == ("failed", "infrastructure")
        assert world.work(request).outcome == "never started"
    with pytest.raises(TargetRefused):
        world.executor.start(on_shared("late"))


def test_a_failed_step_may_cancel_what_waits_behind_it() -> None:  # fault 22
    world = World(code=1)
    bad, other = on_shared("bad", count=3, action="CANCEL_AND_WAIT"), on_shared("other")
    handles = [world.executor.start(one) for one in (bad, other)]
    assert world.end(bad, handles[0]).status == "failed"
    assert world.end(other, handles[1]).status == "cancelled"
    assert [one.outcome for one in world.ledger.executions] == ["failed", "never started"]
    world.pass_by(60)
    assert world.states(CLUSTER)[-1] == "WAITING"
    world.behaviour = Behaviour()
    assert world.run(on_shared("next")).status == "succeeded"


def test_after_a_failure_that_does_not_matter_the_next_steps_run() -> None:
    world = World(code=1)
    request = own(count=3, action="CONTINUE")
    assert world.run(request).status == "failed"
    world.pass_by(100)
    assert world.states(STEP)[-1] == "COMPLETED"
    assert (world.states(CLUSTER)[-1], world.work(request).outcome) == ("TERMINATED", "failed")


@pytest.mark.parametrize(("fault", "failure"), [("emr has no capacity", "capacity"), ("emr bootstrap fails", "user")])
def test_a_cluster_may_never_be_ready(fault: str, failure: str) -> None:
    world = World(fault)
    request = own()
    report = world.run(request)
    assert (report.status, report.failure, report.started_at) == ("failed", failure, None)
    assert world.work(request).outcome == "never started"


# --- limits -------------------------------------------------------------------------------------------------------------


def test_a_cluster_takes_no_more_than_256_steps_that_have_not_ended() -> None:  # fault 19
    world = World(seconds=1)
    for number in range(256):
        world.executor.start(on_shared(f"job-{number}"))
    with pytest.raises(TargetUnavailable):
        world.executor.start(on_shared("late"))
    assert len(world.ledger.executions) == 256
    world.pass_by(60)
    world.executor.start(on_shared("late"))


def test_a_cluster_may_be_full_of_what_others_added() -> None:  # fault 19
    world = World("emr cluster is full")
    with pytest.raises(TargetUnavailable):
        world.executor.start(on_shared())
    assert world.ledger.executions == []


# --- stops --------------------------------------------------------------------------------------------------------------


def test_a_pending_step_is_cancelled_at_once_and_the_next_one_runs() -> None:
    world = World(fate="hangs")
    world.behaviours["third"] = Behaviour()
    requests = [on_shared(name) for name in ("first", "second", "third")]
    handles = [world.executor.start(one) for one in requests]
    world.until(requests[0], handles[0], "running")
    world.stop(requests[1], handles[1])
    assert world.look(requests[1], handles[1]).status == "cancelled"
    world.stop(requests[0], handles[0])
    assert world.end(requests[0], handles[0]).status == "cancelled"
    assert world.end(requests[2], handles[2]).status == "succeeded"
    assert [one.outcome for one in world.ledger.executions] == ["stopped", "stopped", "succeeded"]


def test_a_cluster_of_its_own_is_terminated() -> None:
    world = World(fate="hangs")
    request = own(count=2)
    handle = world.executor.start(request)
    world.until(request, handle, "running")
    world.stop(request, handle)
    assert world.end(request, handle).status == "cancelled"
    assert (world.work(request).outcome, world.states(CLUSTER)[-1]) == ("stopped", "TERMINATED")


@pytest.mark.parametrize("fault", ["", "emr cancel promises nothing"])
def test_a_cancel_may_be_accepted_and_the_step_completes(fault: str) -> None:  # fault 20
    world = World(fault, fate="ends" if fault else "ignores stops")
    request = on_shared()
    handle = world.executor.start(request)
    world.until(request, handle, "running")
    world.stop(request, handle)
    assert world.end(request, handle).status == "succeeded"
    assert world.work(request).outcome == "succeeded"


def test_a_termination_may_be_accepted_and_the_steps_complete() -> None:  # fault 20
    world = World(fate="ignores stops")
    request = own()
    handle = world.executor.start(request)
    world.until(request, handle, "running")
    world.stop(request, handle)
    assert world.end(request, handle).status == "succeeded"
    world.pass_by(100)
    assert world.kernel.reached["emr: completed in spite of a termination"] == 1


def test_a_step_that_ignores_the_interrupt_is_killed_when_asked_again() -> None:
    world = World("emr step ignores the interrupt", fate="hangs")
    request = on_shared()
    handle = world.executor.start(request)
    world.until(request, handle, "running")
    world.stop(request, handle)
    world.pass_by(HOUR)
    assert world.look(request, handle).status == "running"
    world.stop(request, handle)
    assert world.end(request, handle).status == "cancelled"


def test_what_has_ended_is_not_cancelled() -> None:
    world = World(fate="hangs")
    first = on_shared()
    handle = world.executor.start(first)
    world.stop(first, handle)
    step = handle.partition("/")[2]
    (told,) = world.model.cancel_steps(ClusterId=SHARED, StepIds=[step])["CancelStepsInfoList"]
    assert told["Status"] == "FAILED"


# --- the model itself ---------------------------------------------------------------------------------------------------


def test_its_faults_and_branches_are_those_it_declares() -> None:
    source = Path(emr.__file__).read_text()
    chances = re.findall(r"happens\(([^)]*)\)", source)
    assert {name for one in chances for name in re.findall(r'"([^"]+)"', one)} == set(emr.FAULTS)
    assert set(re.findall(r'sometimes\("([^"]+)"', source)) == set(emr.BRANCHES)


def _torture(seed: int) -> World:
    """Everything at once, by chance."""
    world = World(*emr.FAULTS, "emr is silent after doing it", seed=seed, chance=0.15, steps_max=8)
    random = world.kernel.random
    fates = ("ends", "ends", "vanishes", "never starts", "hangs", "ignores stops")
    started: list[tuple[Request, Handle]] = []
    for number in range(12):
        code, fate = random.choice((0, 0, 1)), random.choice(fates)
        world.behaviours[f"job-{number}"] = Behaviour((random.uniform(1, 900),), (code,), (fate,))
        action = random.choice(("CONTINUE", "CANCEL_AND_WAIT", "TERMINATE_CLUSTER"))
        kind = own if random.random() < 0.3 else on_shared
        request = kind(f"job-{number}", count=random.randint(1, 3), action=action)
        try:
            started.append((request, world.executor.start(request)))
        except (TargetUnavailable, TargetSilent, TargetRefused):
            continue
        for one, handle in started:
            try:
                if random.random() < 0.2:
                    world.stop(one, handle)
            except (TargetUnavailable, TargetSilent):
                continue
            world.executor.observe([world.reference(one, handle)])
        world.pass_by(random.choice((0.0, 30.0, 300.0)))
    world.pass_by(HOUR)
    return world


def test_under_every_fault_at_once_all_its_branches_are_reached_and_each_history_repeats() -> None:
    reached: set[str] = set()
    for seed in range(60):
        world = _torture(seed)
        reached |= set(world.kernel.reached)
        if seed < 3:
            again = _torture(seed)
            assert again.events == world.events
            assert again.ledger == world.ledger
        for one in world.ledger.executions:
            assert bool(one.outcome) == (one.ended_at is not None)
    assert set(emr.BRANCHES) <= reached
