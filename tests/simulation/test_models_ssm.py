"""The model of Systems Manager under the real executor: it must lie exactly as Run Command does, or a simulation on it proves nothing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.ssm import SsmExecutor, SsmHost, SsmSettings
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Reference, Report, Request
from tests.simulation.kernel import Fault, Kernel
from tests.simulation.models import ssm
from tests.simulation.models.model import Behaviour, Client, Execution, Ledger
from tests.simulation.models.ssm import INSTANCE, SECRET_IN_OUTPUT, Ssm

RUN = RunId("nightly@2026-03-01T12:00:00Z")
ENDED = ("succeeded", "failed", "cancelled")
TWO = "i-0123456789abcdef1"
HOUR = 3600.0
WEB = {
    "warehouse": SsmHost(INSTANCE, {"role": "web"}),
    "other": SsmHost(TWO, {"role": "web"}),
    "web": SsmHost(tags={"role": "web"}),
}


class World:
    def __init__(
        self,
        *faults: str,
        seconds: float = 60.0,
        code: int = 0,
        fate: str = "ends",
        seed: int = 1,
        chance: float = 1.0,
        hosts: Any = ssm.HOSTS,
        execution: int = 172_800,
    ) -> None:
        self.kernel = Kernel(seed, faults=[Fault(name, chance) for name in faults])
        self.ledger = Ledger()
        self.events: list[Any] = []
        behaviour = Behaviour((seconds,), (code,), (fate,))
        self.model = Ssm(self.kernel, self.ledger, lambda run, job, attempt: behaviour, self.events.append, hosts=hosts)
        self.client: Any = Client(self.model, self.kernel)
        settings = SsmSettings(hosts=self.model.host_list, execution_timeout_seconds=execution)
        self.executor = SsmExecutor(
            Client(self.model, self.kernel),  # type: ignore[arg-type]
            settings,
            None,
            now=lambda: self.kernel.now,
            clock=lambda: 0.0,
        )

    def no_more(self, *faults: str) -> None:
        for fault in faults:
            del self.kernel.faults[fault]

    def pass_by(self, seconds: float) -> None:
        deadline = self.kernel.now + timedelta(seconds=seconds)
        self.kernel.run(lambda: False, deadline=deadline)
        self.kernel.now = deadline

    def look(self, request: Request, handle: Handle | None = None) -> Report:
        known = Reference(request.token, request.run, request.job, request.attempt, handle)
        if handle is None:
            known = replace(known, request=request.body, asked_from=self.kernel.now - timedelta(hours=1))
        return self.executor.observe([known])[0]

    def stop(self, request: Request, handle: Handle | None, *, grace: float = 30) -> None:
        known = Reference(request.token, request.run, request.job, request.attempt, handle, request=request.body)
        self.executor.stop(known, grace_seconds=grace)

    def until(self, holds: Callable[[Report], bool], request: Request, handle: Handle, *, polls: int = 200) -> Report:
        """As a sweep asks: every quarter of a minute."""
        report = self.look(request, handle)
        for _ in range(polls):
            if holds(report):
                return report
            self.pass_by(15)
            report = self.look(request, handle)
        raise AssertionError(report)

    def end(self, request: Request, handle: Handle, *, polls: int = 200) -> Report:
        return self.until(lambda report: report.status in ENDED, request, handle, polls=polls)

    def until_running(self, request: Request, handle: Handle) -> None:
        self.until(lambda report: report.status == "running", request, handle)

    def run(self, request: Request) -> Report:
        return self.end(request, self.executor.start(request))

    def work(self) -> Execution:
        (only,) = self.ledger.executions
        return only

    def sent(self, comment: str) -> int:
        return sum(one["Comment"] == comment for one in self.model.list_commands()["Commands"])


def job(name: str = "load", attempt: int = 1, **body: Any) -> Request:
    where = {} if {"host", "hosts", "tag"} & set(body) else {"host": "warehouse"}
    token = attempt_token(RUN, JobName(name), attempt)
    return Request(token, RUN, JobName(name), attempt, {"type": "ssm", "script": "/opt/load.sh", **where, **body})


def test_an_invocation_goes_its_way_with_an_event_for_each_change() -> None:
    world = World()
    handle = world.executor.start(job())
    world.end(job(), handle)
    details = [event["detail"] for event in world.events]
    assert [one["status"] for one in details] == ["InProgress", "Success"]
    assert {one["command-id"] for one in details} == {handle}
    assert {one["instance-id"] for one in details} == {INSTANCE}
    assert world.executor.reports_of(world.events[-1]) == [world.look(job(), handle)]


def test_reports_follow_it_from_its_start_to_its_end() -> None:
    world = World(seconds=30)
    handle = world.executor.start(job())
    statuses = [world.look(job(), handle).status]
    while statuses[-1] != "succeeded":
        world.pass_by(1)
        status = world.look(job(), handle).status
        statuses += [status] if status != statuses[-1] else []
    assert statuses == ["submitted", "running", "succeeded"]
    work = world.work()
    assert (work.token, work.outcome, work.exit_code, work.handle) == (job().token, "succeeded", 0, handle)
    assert work.ended_at == work.began_at + timedelta(seconds=30)


@pytest.mark.parametrize("code", [1, 3, 194])
def test_exit_codes_are_reported_and_194_reboots_nothing(code: int) -> None:  # fault 25
    world = World(code=code)
    report = world.run(job())
    assert (report.status, report.failure, report.exit_code) == ("failed", "user", code)
    assert world.work().outcome == "failed"
    assert world.executor.start(job(attempt=2))


def test_a_text_that_lets_194_through_reboots_its_host_and_runs_again() -> None:  # fault 25
    world = World(code=194)
    first = world.executor.start(job())
    text = world.model.list_commands(CommandId=first)["Commands"][0]["Parameters"]["commands"][0]
    careless = text.replace('[ "$rf_code" = 194 ] && exit 1', ":").replace(job().token, "another")
    world.model.send_command(
        DocumentName="AWS-RunShellScript", Parameters={"commands": [careless]}, InstanceIds=[INSTANCE]
    )
    world.pass_by(HOUR)
    assert world.kernel.reached["ssm: document run again"]
    assert len(world.ledger.of(world.ledger.executions[-1].token)) == 1


def test_a_text_without_its_guard_runs_as_often_as_it_is_delivered() -> None:
    world = World()
    first = world.executor.start(job())
    world.until_running(job(), first)
    text = world.model.list_commands(CommandId=first)["Commands"][0]["Parameters"]["commands"][0]
    unguarded = text.replace('[ ! -e "$rf_g/pid" ]', "true")
    for _ in range(2):
        world.model.send_command(
            DocumentName="AWS-RunShellScript", Parameters={"commands": [unguarded]}, InstanceIds=[INSTANCE]
        )
    world.pass_by(HOUR)
    assert len(world.ledger.of(job().token)) == 3


def test_what_never_starts_was_never_executed() -> None:
    world = World(fate="never starts")
    report = world.run(job())
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert world.ledger.executions == []


def test_sent_twice_it_is_two_commands_and_runs_once() -> None:
    world = World(code=3)
    handles = [world.executor.start(job()) for _ in range(2)]
    assert handles[0] != handles[1]
    assert [world.end(job(), handle).exit_code for handle in handles] == [3, 3]
    assert world.work().handle in handles
    late = world.executor.start(job())
    assert world.end(job(), late).exit_code == 3
    assert world.work().exit_code == 3


def test_what_was_sent_and_not_answered_is_found_by_its_comment() -> None:
    world = World("ssm is silent after doing it")
    with pytest.raises(TargetSilent):
        world.executor.start(job())
    world.no_more("ssm is silent after doing it")
    report = world.look(job())
    assert report.handle == next(iter(world.model.list_commands()["Commands"]))["CommandId"]
    assert world.look(job("other")).status == "missing"


def test_a_command_is_found_among_hundreds_page_by_page_and_in_its_time() -> None:
    world = World()
    handles = []
    for number in range(120):
        handles.append(world.executor.start(job(f"job{number}")))
        world.pass_by(1)
    assert world.look(job("job0")).handle == handles[0]
    first = world.model.list_commands(MaxResults=50)
    assert [len(first["Commands"]), first["NextToken"]] == [50, "50"]
    assert first["Commands"][0]["CommandId"] == handles[-1]
    edge = (world.kernel.now - timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    since = world.model.list_commands(Filters=[{"key": "InvokedAfter", "value": edge}])
    before = world.model.list_commands(Filters=[{"key": "InvokedBefore", "value": edge}])
    assert [one["CommandId"] for one in since["Commands"]] == handles[:-11:-1]
    assert before["Commands"][0]["CommandId"] == handles[-11]


def test_after_30_days_a_command_is_forgotten() -> None:
    world = World()
    handle = world.executor.start(job())
    world.pass_by(30 * 24 * HOUR)
    assert world.look(job(), handle).status == "missing"
    assert world.model.list_commands()["Commands"] == []


def test_right_after_the_send_it_is_not_to_be_seen() -> None:  # fault 27
    world = World("ssm shows a command late")
    handle = world.executor.start(job())
    assert world.look(job(), handle).status == "missing"
    assert world.look(job()).status == "missing"
    with pytest.raises(ClientError, match="InvocationDoesNotExist"):
        world.client.get_command_invocation(CommandId=handle, InstanceId=INSTANCE)
    world.pass_by(70)
    assert world.look(job()).handle == handle
    assert world.kernel.reached["ssm: missing right after the send"]


def test_a_command_may_show_before_its_invocations_and_its_end_is_not_guessed() -> None:  # fault 27
    for seed in range(20):
        world = World("ssm shows invocations late", seconds=0.5, seed=seed)
        handle = world.executor.start(job())
        for _ in range(80):
            world.pass_by(1)
            assert world.look(job(), handle).status in ("submitted", "running", "succeeded")
        assert world.look(job(), handle).status == "succeeded"


def test_lists_may_say_how_it_was_before() -> None:
    world = World("ssm shows an old state", seconds=30)
    handle = world.executor.start(job())
    world.kernel.run(
        lambda: world.work().ended_at is not None if world.ledger.executions else False, deadline=_far(world)
    )
    world.pass_by(4)
    assert world.look(job(), handle).status == "running"
    world.pass_by(10)
    assert world.look(job(), handle).status == "succeeded"


def _far(world: World) -> Any:
    return world.kernel.now + timedelta(days=30)


def test_a_delivery_that_timed_out_is_looked_at_and_found_to_have_run() -> None:  # fault 23
    found = set()
    for seed in range(40):
        world = World("ssm delivery times out though it ran", seconds=1, code=5, seed=seed)
        handle = world.executor.start(job())
        world.no_more("ssm delivery times out though it ran")
        report = world.end(job(), handle)
        world.pass_by(HOUR)
        if world.ledger.executions:
            assert (report.failure, report.exit_code, world.work().exit_code) == ("user", 5, 5)
        else:
            # Looked at before it came, and told never to begin.
            assert (report.failure, report.exit_code) == ("infrastructure", None)
            assert world.kernel.reached["ssm: look found nothing"]
        found.add(bool(world.ledger.executions))
    assert found == {True, False}


def test_what_is_never_delivered_never_ran() -> None:  # fault 23
    world = World("ssm never delivers")
    handle = world.executor.start(job())
    world.no_more("ssm never delivers")
    report = world.end(job(), handle)
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert world.sent(f"look {job().token}") == 1
    assert world.ledger.executions == []


def test_what_cannot_be_delivered_fails_in_its_own_words() -> None:
    failures = set()
    for seed in range(20):
        world = World("ssm cannot deliver", seed=seed)
        failures.add(world.run(job()).failure)
        assert world.ledger.executions == []
    assert failures == {"infrastructure", "capacity", "refused"}


def test_a_late_delivery_runs_or_times_out_and_never_both() -> None:
    outcomes = set()
    for seed in range(20):
        world = World("ssm delivers late", seed=seed)
        handle = world.executor.start(job())
        world.no_more("ssm delivers late")
        report = world.end(job(), handle)
        assert len(world.ledger.executions) == (report.status == "succeeded")
        outcomes.add(report.status)
    assert outcomes == {"succeeded", "failed"}


@pytest.mark.parametrize("fault", ["ssm agent restarts", "ssm delivers twice"])
def test_a_document_that_is_run_again_runs_nothing_again(fault: str) -> None:  # fault 24
    world = World(fault, seconds=300, code=3)
    report = world.run(job())
    assert (report.failure, report.exit_code) == ("user", 3)
    assert world.work().exit_code == 3
    assert world.kernel.reached["ssm: document run again"]
    assert world.kernel.reached["ssm: second delivery ran nothing"]


def test_an_agent_that_never_reports_leaves_it_running_until_its_time_is_up() -> None:  # fault 24
    world = World("ssm agent never reports", code=3, execution=1200)
    handle = world.executor.start(job())
    world.until_running(job(), handle)
    world.no_more("ssm agent never reports")
    world.pass_by(600)
    assert world.work().ended_at is not None
    assert world.look(job(), handle).status == "running"
    report = world.end(job(), handle)
    assert (report.failure, report.exit_code) == ("user", 3)
    assert world.kernel.reached["ssm: execution timed out"]
    assert world.kernel.reached["ssm: look found an end"]


def test_work_outlives_the_time_of_its_script() -> None:
    world = World(seconds=3000, execution=600)
    handle = world.executor.start(job())
    world.pass_by(900)
    world.until_running(job(), handle)
    assert world.kernel.reached["ssm: look found work going on"]
    assert world.end(job(), handle).status == "succeeded"


def test_a_reboot_ends_work_and_nobody_saw_how() -> None:  # fault 24
    world = World("ssm host reboots", seconds=600)
    handle = world.executor.start(job())
    report = world.until(lambda one: one.status == "unknown", job(), handle)
    assert world.work().outcome == "vanished"
    assert "nobody saw" in report.reason
    world.no_more("ssm host reboots")
    assert world.run(job(attempt=2)).status == "succeeded"


def test_a_terminated_host_takes_its_work_along_and_is_replaced() -> None:  # fault 26
    world = World(seconds=600, fate="vanishes")
    handle = world.executor.start(job())
    report = world.end(job(), handle)
    assert (report.failure, report.reason, world.work().outcome) == ("infrastructure", "the host is gone", "vanished")
    world.pass_by(HOUR)
    assert world.model.host_list["warehouse"].instance not in (None, INSTANCE)
    again = world.executor.start(job(attempt=2))
    world.until_running(job(attempt=2), again)
    with pytest.raises(TargetRefused, match="does not know the host"):
        world.executor.start(job(host=INSTANCE, attempt=3))


def test_a_command_to_a_terminated_host_is_found_under_the_name_of_another() -> None:  # fault 26
    world = World("ssm host is terminated", seconds=600)
    handle = world.executor.start(job())
    world.pass_by(HOUR)
    found = world.look(job())
    assert (found.handle, found.failure) == (handle, "infrastructure")


def test_a_host_that_is_away_takes_nothing_and_comes_back() -> None:
    world = World("ssm host is away")
    with pytest.raises(TargetUnavailable, match="not every host is online"):
        world.executor.start(job())
    world.no_more("ssm host is away")
    world.pass_by(2000)
    assert world.run(job()).status == "succeeded"


@pytest.mark.parametrize("code", [0, 3, 70])
def test_long_output_hides_the_last_words_and_not_the_end(code: int) -> None:  # fault 28
    for seed in range(5):
        world = World("ssm output is long", code=code, seed=seed)
        handle = world.executor.start(job())
        report = world.end(job(), handle)
        assert (report.exit_code, report.failure) == (code, "user" if code else None)
        assert SECRET_IN_OUTPUT not in repr(report)
        listed = world.model.list_command_invocations(CommandId=handle, Details=True)["CommandInvocations"][0]
        assert listed["CommandPlugins"][0]["Output"].endswith("---Output truncated---")
        told = world.model.get_command_invocation(CommandId=handle, InstanceId=INSTANCE)
        assert SECRET_IN_OUTPUT in told["StandardOutputContent"]
        assert len(told["StandardOutputContent"]) <= 24_000


def test_long_output_before_a_reboot_does_not_make_a_loss_a_failure_of_the_job() -> None:  # faults 24 and 28
    for seed in range(5):
        world = World("ssm output is long", "ssm host reboots", seconds=600, seed=seed)
        handle = world.executor.start(job())
        world.until(lambda one: one.status == "unknown" and "nobody saw" in one.reason, job(), handle)
        assert world.work().outcome == "vanished"


def test_output_is_empty_until_the_end() -> None:
    world = World("ssm output is long")
    handle = world.executor.start(job())
    world.until_running(job(), handle)
    told = world.model.get_command_invocation(CommandId=handle, InstanceId=INSTANCE)
    assert (told["StandardOutputContent"], told["ResponseCode"], told["Status"]) == ("", -1, "InProgress")


def test_a_tag_that_no_host_carries_fails_the_attempt() -> None:  # fault 29
    world = World(hosts=WEB)
    report = world.run(job(tag={"role": "nobody"}))
    assert (report.failure, report.reason) == ("refused", "no host carries the tags")
    assert [event["detail-type"] for event in world.events] == ["EC2 Command Status-change Notification"]
    assert world.kernel.reached["ssm: no host carries the tags"]


def test_hosts_found_by_tag_run_it_once_each_and_succeed_together() -> None:  # fault 29
    world = World(hosts=WEB)
    handle = world.executor.start(job(host="web"))
    assert world.look(job(host="web"), handle).status == "submitted"
    assert world.end(job(host="web"), handle).status == "succeeded"
    assert len(world.ledger.executions) == 2
    second = World("ssm tag matches no host", hosts=WEB)
    assert second.run(job(host="web")).failure == "refused"


def test_a_tag_that_was_cancelled_before_its_hosts_were_found_runs_nowhere() -> None:  # faults 29 and 30
    world = World(hosts=WEB)
    handle = world.executor.start(job(host="web"))
    world.stop(job(host="web"), handle)
    assert world.end(job(host="web"), handle).status == "cancelled"
    assert world.ledger.executions == []


def test_what_somebody_cancelled_goes_on_and_is_looked_at() -> None:  # fault 30
    world = World("ssm cancelled by hand", seconds=600, code=3)
    handle = world.executor.start(job())
    report = world.end(job(), handle)
    assert (report.failure, report.exit_code) == ("user", 3)
    assert world.kernel.reached["ssm: cancelled and the work survived"]
    assert world.work().exit_code == 3


def test_a_stop_asks_and_then_kills() -> None:  # fault 30
    for faults, code in (((), 143), (("ssm work ignores SIGTERM",), 137)):
        world = World(*faults, fate="hangs")
        handle = world.executor.start(job())
        world.until_running(job(), handle)
        world.stop(job(), handle, grace=20)
        report = world.end(job(), handle)
        assert (report.status, report.exit_code) == ("failed", code)
        assert (world.work().outcome, world.work().exit_code) == ("stopped", code)


def test_what_is_stopped_before_its_delivery_never_begins() -> None:
    world = World()
    handle = world.executor.start(job())
    world.stop(job(), handle)
    assert world.end(job(), handle).status == "cancelled"
    again = world.executor.start(job())
    assert world.end(job(), again).exit_code == 143
    assert world.ledger.executions == []
    assert world.kernel.reached["ssm: stopped before it began"]


def test_a_cancel_may_come_too_late_and_the_host_still_refuses() -> None:  # fault 30
    world = World("ssm cancel promises nothing")
    handle = world.executor.start(job())
    world.stop(job(), handle)
    assert world.end(job(), handle).status == "cancelled"
    world.pass_by(HOUR)
    assert world.ledger.executions == []
    assert world.kernel.reached["ssm: stopped before it began"]
    second = World("ssm cancel promises nothing")
    by_hand = second.executor.start(job())
    second.client.cancel_command(CommandId=by_hand)
    second.pass_by(HOUR)
    assert second.work().outcome == "succeeded"
    assert second.kernel.reached["ssm: cancelled and begun all the same"]


def test_a_stop_that_does_not_arrive_lets_it_end_by_itself() -> None:
    world = World(seconds=900, fate="ignores stops")
    handle = world.executor.start(job())
    world.until_running(job(), handle)
    world.stop(job(), handle)
    assert world.end(job(), handle).status == "succeeded"
    assert world.work().outcome == "succeeded"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Parameters": {"commands": ["echo {{ssm:secret}}"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["x" * 70_000]}}, "MaxDocumentSizeExceeded"),
        ({"Comment": "x" * 101}, "ValidationException"),
        ({"TimeoutSeconds": 29}, "ValidationException"),
        ({"InstanceIds": []}, "ValidationException"),
        ({"InstanceIds": [INSTANCE] * 2}, "DuplicateInstanceId"),
        ({"InstanceIds": [TWO]}, "InvalidInstanceId"),
        ({"DocumentName": "another"}, "InvalidDocument"),
    ],
)
def test_what_aws_refuses_it_refuses(more: dict[str, Any], code: str) -> None:
    request = {
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["true"]},
        "TimeoutSeconds": 600,
        "InstanceIds": [INSTANCE],
    }
    with pytest.raises(ClientError, match=code):
        World().client.send_command(**request | more)


def test_whatever_goes_wrong_it_runs_once_and_reports_are_true() -> None:
    reached: set[str] = set()
    of_the_model = (*ssm.FAULTS, "ssm is silent after doing it", "ssm answers 500 and did it")
    for seed in range(400):
        fate = ("ends", "ends", "ends", "hangs", "ignores stops", "vanishes", "never starts")[seed % 7]
        world = World(
            *of_the_model,
            seed=seed,
            chance=0.12,
            fate=fate,
            seconds=(1, 90, 2400)[seed % 3],
            code=(0, 3, 70, 194)[seed % 4],
        )
        for attempt in range(1, 4):
            _one_attempt(world, job(attempt=attempt), stops=seed % 2 == 0)
        reached |= set(world.kernel.reached)
    assert sorted(set(ssm.BRANCHES) - reached) == []


def _one_attempt(world: World, request: Request, *, stops: bool) -> None:
    handle: Handle | None = None
    for _ in range(2):
        try:
            handle = world.executor.start(request)
        except (TargetSilent, TargetUnavailable, TargetRefused):
            continue
    report: Report | None = None
    for number in range(60):
        found = world.executor.observe(
            [Reference(request.token, request.run, request.job, request.attempt, handle, (), request.body)]
        )
        report = found[0] if found else report
        if report is not None and report.status in ENDED:
            break
        if stops and number % 10 == 2:
            with suppress(TargetSilent, TargetUnavailable):
                world.stop(request, handle)
        world.pass_by(15 if number < 20 else 6 * HOUR)
    done = world.ledger.of(request.token)
    assert len(done) <= 1, done
    if report is not None and report.status == "succeeded":
        assert [one.outcome for one in done] == ["succeeded"], (report, done)
    if report is not None and report.failure == "user" and report.exit_code not in (137, 143):
        assert [one.outcome for one in done] == ["failed"], (report, done)


def test_thousands_of_calls_cost_little() -> None:
    world = World(seconds=1)
    world.kernel.orderly = True
    for number in range(300):
        handle = world.executor.start(job(f"job{number}"))
        world.pass_by(3)
        assert world.look(job(f"job{number}"), handle).status == "succeeded"
    assert len(world.ledger.executions) == 300
