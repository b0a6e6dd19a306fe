"""What an executor owes (`shared.ports.Executor`), kept by the one on ECS, with the faults of FAULTS.md that are ECS's."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws_events import AwsEvents
from shared.executors.ecs import EcsExecutor, EcsSettings
from shared.ids import Handle
from shared.ports import Executor, Report, Request
from tests.compute import Compute
from tests.contract.aws_targets import BUCKET, World, client, timeless, workspace

pytestmark = pytest.mark.slow  # real HTTP, real processes: half a minute in all

SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-password"
SETTINGS = EcsSettings(subnets=("subnet-1",), security_groups=("sg-1",), execution_role="arn:aws:iam::1:role/pull")


class EcsWorld(World):
    kind = "ecs"

    def again(self, settings: EcsSettings = SETTINGS, *, retries: bool = False, files: bool = True) -> None:
        """A process that remembers nothing."""
        space = workspace(self.compute) if files else None
        self.executor = EcsExecutor(client(self.compute, "ecs", harmless=retries), settings, space)

    def shell(self, text: str, *args: str, **more: Any) -> Request:
        return self.request(image="busybox", command=["/bin/sh", "-c", text, "sh", *args], **more)


@pytest.fixture
def world() -> Iterator[EcsWorld]:
    with Compute() as compute:
        compute.ecs.secrets[SECRET_ARN] = "correct-horse"
        world = EcsWorld(compute, EcsExecutor(client(compute, "ecs"), SETTINGS, workspace(compute)))
        yield world


def test_it_keeps_the_protocol(world: EcsWorld) -> None:
    executor: Executor = world.executor
    assert executor.takes_token
    assert not executor.runs_at_once


def test_a_task_whose_limits_count_from_when_it_runs_is_known_by_its_group(world: EcsWorld) -> None:
    plain, timed = world.shell("exit 0"), world.shell("exit 0", job="watched", timed=True)
    for request in (plain, timed):
        world.run(request)
    groups = {task.facts["startedBy"]: task.facts["group"] for task in world.compute.ecs.tasks.values()}
    assert groups == {plain.token: "runfold", timed.token: "runfold-timed"}


@pytest.mark.parametrize("code", [0, 3, 194])
def test_the_exit_code_of_the_jobs_own_container_is_reported(world: EcsWorld, code: int) -> None:
    report = world.run(world.shell(f"exit {code}"))
    assert (report.status, report.exit_code) == (("failed", code) if code else ("succeeded", 0))
    assert report.failure == ("user" if code else None)
    assert report.started_at is not None
    assert report.ended_at is not None
    assert report.started_at <= report.ended_at


def test_what_others_beside_the_job_end_with_means_nothing(world: EcsWorld) -> None:  # fault 11
    world.compute.faults.sidecar_code = 137
    assert world.run(world.shell("exit 0")).status == "succeeded"


def test_variables_arguments_and_secrets_arrive_as_they_are(world: EcsWorld) -> None:  # fault 53
    hostile = "$(touch /tmp/no) `id` ; rm -rf '\" {{ssm:x}}\n\\"
    text = 'printf \'{"arg": "%s", "run": "%s", "secret": "%s"}\' "$(printf %s "$1" | base64 -w0)" "$RUNFOLD_RUN" "$PASSWORD" >"$RUNFOLD_OUTPUTS"'
    report = world.run(world.shell(text, hostile, secrets={"PASSWORD": SECRET_ARN}))
    assert base64.b64decode(report.outputs["arg"]).decode() == hostile
    assert report.outputs["run"] == "nightly@2026-11-22T02:00:00Z"
    assert report.outputs["secret"] == "correct-horse"


def test_a_container_without_a_command_runs_what_its_image_says(world: EcsWorld) -> None:
    world.compute.ecs.commands["job:1"] = ["sh", "-c", "exit 5"]
    assert world.run(world.request(image="job:1")).exit_code == 5


def test_starting_twice_starts_once(world: EcsWorld) -> None:
    request = world.shell("sleep 0.2")
    first = world.executor.start(request)
    world.again()
    assert world.executor.start(request) == first
    assert len(world.compute.ecs.tasks) == 1


def test_dispatchers_that_start_the_same_at_once_start_one_task(world: EcsWorld) -> None:  # fault 14
    request = world.shell("exit 0")
    executors = [EcsExecutor(client(world.compute, "ecs"), SETTINGS, workspace(world.compute)) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        handles = set(pool.map(lambda one: one.start(request), executors))
    assert handles == set(world.compute.ecs.tasks)
    assert len(handles) == 1


def test_a_start_that_was_done_and_not_answered_is_found_by_asking_again(world: EcsWorld) -> None:  # faults 2 and 4
    world.compute.faults.silent = {"RunTask": 1}
    request = world.shell("exit 0")
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    handle = world.executor.start(request)
    assert list(world.compute.ecs.tasks) == [handle]


def lost_start(world: EcsWorld, request: Request) -> Request:
    """Done, and nobody heard the answer."""
    world.compute.faults.silent = {"RunTask": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    return request


@pytest.mark.parametrize("files", [False, True])
def test_an_ended_task_whose_start_nobody_heard_is_found_by_its_definition(world: EcsWorld, files: bool) -> None:
    request = lost_start(world, world.shell("exit 3", inputs=[{"path": "a", "content": "x"}] if files else ()))
    (arn,) = world.compute.ecs.tasks
    world.until(lambda: world.compute.ecs.tasks[arn].ended)
    for _ in range(120):
        world.compute.ecs.tasks |= {f"{arn}{len(world.compute.ecs.tasks)}": _theirs(world, arn)}
    world.again()
    report = world.look(request)
    assert (report.status, report.exit_code, report.handle) == ("failed", 3, arn)
    assert world.look(world.shell("exit 3", attempt=2)).status == "missing"


def _theirs(world: EcsWorld, arn: str) -> Any:
    """Another ended task of the same definition."""
    one = world.compute.ecs.tasks[arn]
    facts = {**one.facts, "startedBy": "theirs", "taskArn": f"{arn}{len(world.compute.ecs.tasks)}"}
    return replace(one, facts=facts)


def test_a_task_is_looked_for_on_the_cluster_of_its_request(world: EcsWorld) -> None:
    world.compute.ecs.clusters.add("other")
    request = lost_start(world, world.shell("sleep 30", cluster="other"))
    report = world.look(request)
    assert report.handle == next(iter(world.compute.ecs.tasks))
    world.executor.stop(world.reference(request), grace_seconds=1)
    assert world.end(request, report.handle).status == "cancelled"


def test_a_search_that_takes_too_long_is_not_declared_lost(world: EcsWorld) -> None:
    ticks = iter(range(0, 1_000, 30))
    slow = EcsExecutor(client(world.compute, "ecs"), SETTINGS, None, clock=lambda: next(ticks))
    reference = world.reference(world.shell("exit 0"))
    assert [(one.status, one.cut_short) for one in slow.observe([reference])] == [("unknown", True)]
    with pytest.raises(TargetUnavailable, match="cannot find"):
        slow.stop(reference, grace_seconds=1)


def test_a_start_that_was_neither_done_nor_answered_starts_once_by_asking_again(world: EcsWorld) -> None:  # fault 3
    world.compute.faults.broken = {"RunTask": 1}
    request = world.shell("exit 0")
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    assert world.run(request).status == "succeeded"
    assert len(world.compute.ecs.tasks) == 1


def test_the_sdk_may_ask_again_because_the_token_makes_it_safe(world: EcsWorld) -> None:
    world.compute.faults.silent = {"RunTask": 1}
    world.again(retries=True)
    handle = world.executor.start(world.shell("exit 0"))
    assert list(world.compute.ecs.tasks) == [handle]


def test_a_refusal_after_a_try_that_may_have_been_heard_is_silence(world: EcsWorld) -> None:
    world.compute.faults.throttled = {"RunTask": 9}
    world.again(retries=True)
    with pytest.raises(TargetSilent):
        world.executor.start(world.shell("exit 0"))


@pytest.mark.parametrize("reason", ["RESOURCE:MEMORY", "AGENT", "Capacity is unavailable at this time."])
def test_no_room_inside_an_answer_of_success_is_no_start(world: EcsWorld, reason: str) -> None:  # fault 5
    world.compute.faults.room = [{"reason": reason}]
    with pytest.raises(TargetUnavailable, match=reason):
        world.executor.start(world.shell("exit 0"))


def test_a_wish_that_no_instance_can_meet_is_refused(world: EcsWorld) -> None:  # fault 5
    world.compute.faults.room = [{"reason": "ATTRIBUTE"}]
    with pytest.raises(TargetRefused, match="ATTRIBUTE"):
        world.executor.start(world.shell("exit 0"))


def test_another_request_under_the_same_token_is_bound_to_the_first_ones_task(world: EcsWorld) -> None:  # fault 7
    request = world.shell("exit 0")
    first = world.executor.start(request)
    # Two processes that registered the definition at the same time ask with different revisions.
    family = next(iter(world.compute.ecs.definitions))
    definition = dict(world.compute.ecs.definitions[family][0])
    world.compute.ecs.call("RegisterTaskDefinition", {k: v for k, v in definition.items() if k != "revision"})
    world.again()
    assert world.executor.start(request) == first
    assert len(world.compute.ecs.tasks) == 1


def test_a_task_that_is_not_to_be_seen_yet_is_missing_and_then_seen(world: EcsWorld) -> None:  # fault 8
    world.compute.faults.missing_seconds = 0.3
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    report = world.look(request, handle)
    assert (report.status, report.handle) == ("missing", handle)
    assert world.until_status(request, handle, "succeeded").exit_code == 0


def test_a_task_that_ecs_forgot_is_missing(world: EcsWorld) -> None:  # faults 6 and 9
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    world.end(request, handle)
    world.until(lambda: world.compute.ecs.tasks[handle].ended)
    world.compute.ecs.forget(handle)
    assert world.look(request, handle).status == "missing"


def test_a_running_task_is_found_by_its_token_alone(world: EcsWorld) -> None:
    request = world.shell("sleep 30")
    handle = world.executor.start(request)
    report = world.until_status(request, None, "running")
    assert report.handle == handle
    world.executor.stop(world.reference(request), grace_seconds=1)
    assert world.end(request, handle).status == "cancelled"
    assert world.look(world.shell("never", job="other")).status == "missing"


def test_an_image_that_cannot_be_pulled_is_no_fault_of_the_jobs(world: EcsWorld) -> None:  # fault 10
    world.compute.faults.images_missing = ["busybox"]
    report = world.run(world.shell("exit 0"))
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert "CannotPullContainer" in report.reason


def test_a_program_that_is_not_in_the_image_is_the_jobs_fault(world: EcsWorld) -> None:
    report = world.run(world.request(image="busybox", command=["no-such-program"]))
    assert (report.status, report.failure) == ("failed", "user")
    assert "not found" in report.reason


def test_an_end_without_an_exit_code_is_unknown(world: EcsWorld) -> None:  # fault 12
    world.compute.faults.exit_codes_lost = True
    world.again(files=False)
    assert world.run(world.shell("exit 0")).status == "unknown"


def test_spot_capacity_that_is_taken_back_is_infrastructure(world: EcsWorld) -> None:  # fault 13
    request = world.shell("sleep 30", spot=True, stop_grace_seconds=2)
    handle = world.executor.start(request)
    world.until_status(request, handle, "running")
    world.compute.ecs.interrupt(handle)
    report = world.end(request, handle)
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert "spot" in report.reason.lower()


def test_throttling_is_an_answer_and_nothing_was_started(world: EcsWorld) -> None:  # fault 15
    world.compute.faults.throttled = {"RunTask": 1}
    with pytest.raises(TargetUnavailable, match="Throttling"):
        world.executor.start(world.shell("exit 0"))
    world.compute.faults.refused = {"RunTask": ["ClientException", "You've reached the limit on the number of tasks."]}
    with pytest.raises(TargetUnavailable, match="limit"):
        world.executor.start(world.shell("exit 0"))


def test_a_cluster_that_is_not_there_is_refused_and_a_task_on_it_unknown(world: EcsWorld) -> None:  # fault 16
    request = world.shell("sleep 30")
    handle = world.executor.start(request)
    world.compute.ecs.delete_cluster("default")
    assert world.look(request, handle).status == "unknown"
    with pytest.raises(TargetRefused, match="Cluster"):
        world.executor.start(world.shell("exit 0", attempt=2))
    world.executor.stop(world.reference(request, handle), grace_seconds=1)


def test_a_role_that_may_not_be_handed_over_is_refused_and_nothing_starts(world: EcsWorld) -> None:  # fault 57
    """Whatever role a document names: the dispatcher's own rights say which it may pass (tests/infra/test_permissions.py)."""
    denied = "dispatch is not authorized to perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/admin"
    world.compute.faults.refused = {"RunTask": ["AccessDeniedException", denied]}
    with pytest.raises(TargetRefused, match="iam:PassRole"):
        world.executor.start(world.shell("exit 0", role="arn:aws:iam::123456789012:role/admin"))
    assert not world.compute.ecs.tasks


def test_an_api_that_is_down_gives_no_report_and_surely_started_nothing(world: EcsWorld) -> None:  # fault 60
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    world.compute.faults.broken = {"DescribeTasks": 1}
    assert world.executor.observe([world.reference(request, handle)]) == []
    world.compute.faults.broken = {"DescribeTaskDefinition": 1}
    world.again()
    with pytest.raises(TargetUnavailable):
        world.executor.start(world.shell("exit 0", job="second"))


def test_a_hundred_and_fifty_are_observed_in_two_calls_and_in_order(world: EcsWorld) -> None:
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    world.end(request, handle)
    strangers = [world.reference(world.shell("x", attempt=n + 2), Handle(f"{handle}{n}")) for n in range(149)]
    before = world.compute.calls.count("DescribeTasks")
    reports = world.executor.observe([*strangers, world.reference(request, handle)])
    assert [report.attempt for report in reports] == [*range(2, 151), 1]
    assert world.compute.calls.count("DescribeTasks") - before == 2


# --- definitions and overrides ------------------------------------------------------------------------------------------


def test_equal_jobs_share_a_definition_and_a_changed_one_gets_its_own(world: EcsWorld) -> None:
    for number, image in enumerate(["a:1", "a:1", "a:2"], start=1):
        world.executor.start(world.request(image=image, attempt=number, command=["true", str(number)]))
    world.again()
    world.executor.start(world.request(image="a:1", attempt=4))
    assert sorted(len(one) for one in world.compute.ecs.definitions.values()) == [1, 1]
    assert world.compute.calls.count("RegisterTaskDefinition") == 2


def test_a_definition_that_somebody_removed_is_registered_again(world: EcsWorld) -> None:
    world.executor.start(world.shell("exit 0"))
    for revisions in world.compute.ecs.definitions.values():
        revisions[0]["status"] = "INACTIVE"
    assert world.run(world.shell("exit 0", attempt=2)).status == "succeeded"


def test_a_command_too_long_for_ecs_is_refused_with_what_helps(world: EcsWorld) -> None:
    with pytest.raises(TargetRefused, match=r"8,192.*input file"):
        world.executor.start(world.shell("exit 0", "x" * 8_000))


def test_what_the_document_says_reaches_ecs(world: EcsWorld) -> None:
    settings = EcsSettings(log_group="/runfold", region="eu-central-1", ec2_spot_capacity_provider="spot-group")
    world.again(settings)
    request = world.request(
        image="gpu:1",
        entry_point=["/run"],
        command=["a"],
        cpu=4096,
        memory=8192,
        gpu=2,
        spot=True,
        launch="ec2",
        subnets=["subnet-9"],
        role="arn:aws:iam::1:role/job",
        user="nobody",
        stop_grace_seconds=500,
    )
    task = world.compute.ecs.tasks[world.executor.start(request)]
    definition = next(iter(world.compute.ecs.definitions.values()))[0]
    main = definition["containerDefinitions"][0]
    assert main["resourceRequirements"] == [{"type": "GPU", "value": "2"}]
    assert (main["entryPoint"], main["user"], main["stopTimeout"]) == (["/run"], "nobody", 120)
    assert main["logConfiguration"]["options"]["awslogs-group"] == "/runfold"
    assert (definition["cpu"], definition["taskRoleArn"]) == ("4096", "arn:aws:iam::1:role/job")
    assert task.facts["capacityProviderName"] == "spot-group"
    assert task.facts["startedBy"] == request.token
    assert {"key": "runfold:attempt", "value": "1"} in task.facts["tags"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"secrets": {"A": "env:HOME"}}, "by ARN"),
        ({"launch": "ec2", "spot": True}, "capacity provider"),
    ],
)
def test_what_ecs_can_never_do_is_refused_in_a_sentence(world: EcsWorld, body: dict[str, Any], words: str) -> None:
    with pytest.raises(TargetRefused, match=words):
        world.executor.start(world.request(image="busybox", **body))


def test_fargate_without_subnets_is_refused(world: EcsWorld) -> None:
    world.again(EcsSettings())
    with pytest.raises(TargetRefused, match="subnets"):
        world.executor.start(world.shell("exit 0"))


# --- files --------------------------------------------------------------------------------------------------------------


def test_inputs_lie_there_and_outputs_are_kept(world: EcsWorld) -> None:
    world.compute.objects.put(f"{BUCKET}/given.txt", b"from s3")
    request = world.shell(
        'cat a.txt b/c.txt >report.csv && ./run.sh && echo \'{"rows": 2}\' >"$RUNFOLD_OUTPUTS"',
        inputs=[
            {"path": "a.txt", "content": "hello "},
            {"path": "b/c.txt", "s3": f"s3://{BUCKET}/given.txt"},
            {"path": "run.sh", "content": "#!/bin/sh\necho ran >ran.txt\n"},
        ],
        outputs=[{"path": "report.csv"}, {"path": "ran.txt"}, {"path": "perhaps", "optional": True}],
    )
    report = world.run(request)
    assert (report.status, report.outputs) == ("succeeded", {"rows": 2}), report
    assert sorted(report.files) == ["ran.txt", "report.csv"]
    kept = world.compute.objects.get(report.files["report.csv"].removeprefix("s3://"))
    assert kept == b"hello from s3"


def test_a_list_of_inputs_too_long_for_the_overrides_goes_through_s3(world: EcsWorld) -> None:
    request = world.shell("wc -c <big >n", inputs=[{"path": "big", "content": "x" * 20_000}], outputs=[{"path": "n"}])
    report = world.run(request)
    assert world.compute.objects.get(report.files["n"].removeprefix("s3://")) == b"20000\n"


def test_a_plain_job_costs_no_request_to_s3(world: EcsWorld) -> None:
    assert world.run(world.shell("exit 0")).status == "succeeded"
    assert world.compute.objects.names() == []


@pytest.mark.parametrize(
    ("text", "outputs", "words"),
    [
        ("exit 0", [{"path": "x"}], "x is missing"),
        ("ln -s /etc/passwd x", [{"path": "x"}], "x is missing"),
        ("echo nonsense >$RUNFOLD_OUTPUTS", [], "not JSON"),
        ("echo '[1]' >$RUNFOLD_OUTPUTS", [], "must hold an object"),
        ("head -c 70000 /dev/zero >$RUNFOLD_OUTPUTS", [], "larger than"),
    ],
)
def test_a_success_that_left_the_wrong_things_behind_is_a_failure(
    world: EcsWorld, text: str, outputs: Any, words: str
) -> None:  # fault 55
    report = world.run(world.shell(text, outputs=outputs))
    assert (report.status, report.failure) == ("failed", "user")
    assert words in report.reason


def test_an_input_that_is_not_there_fails_before_the_job_begins(world: EcsWorld) -> None:
    report = world.run(world.shell("exit 0", inputs=[{"path": "a", "s3": f"s3://{BUCKET}/nowhere"}]))
    assert (report.status, report.failure, report.exit_code) == ("failed", "user", None)
    assert "input" in report.reason


# --- stopping -----------------------------------------------------------------------------------------------------------


def test_a_stop_asks_and_the_attempt_is_cancelled(world: EcsWorld) -> None:
    request = world.shell("trap 'exit 9' TERM; sleep 30 & wait")
    handle = world.executor.start(request)
    world.until_status(request, handle, "running")
    world.executor.stop(world.reference(request, handle), grace_seconds=5)
    report = world.end(request, handle)
    assert report.status == "cancelled"
    world.executor.stop(world.reference(request, handle), grace_seconds=5)


def test_stopping_what_was_never_started_is_no_error(world: EcsWorld) -> None:
    world.executor.stop(world.reference(world.shell("x")), grace_seconds=1)
    world.compute.faults.broken = {"StopTask": 1}
    handle = world.executor.start(world.shell("sleep 30"))
    with pytest.raises((TargetUnavailable, TargetSilent)):
        world.executor.stop(world.reference(world.shell("sleep 30"), handle), grace_seconds=1)


# --- events -------------------------------------------------------------------------------------------------------------


def told(world: EcsWorld) -> list[Report]:
    translate = AwsEvents({"ecs": world.executor})  # type: ignore[dict-item]
    return [report for event in world.compute.events.sent for report in translate(event)]


def test_events_tell_the_same_as_asking_in_any_order_and_number(world: EcsWorld) -> None:  # faults 31 and 32
    world.compute.faults.events_twice = True
    request = world.shell("echo '{\"a\": 1}' >$RUNFOLD_OUTPUTS; : >x", outputs=[{"path": "x"}])
    handle = world.executor.start(request)
    report = world.end(request, handle)
    world.until(lambda: any(one["detail"]["lastStatus"] == "STOPPED" for one in world.compute.events.sent))
    reports = told(world)
    ends = [one for one in reports if one.status == "succeeded"]
    assert len(ends) >= 2
    assert all(timeless(one) == timeless(report) for one in ends)
    assert {one.status for one in reports} <= {"submitted", "running", "succeeded"}


def test_events_of_others_and_of_the_future_are_passed_over(world: EcsWorld) -> None:  # faults 33 and 35
    world.executor.start(world.shell("exit 0"))
    world.until(lambda: world.compute.events.sent)
    event = json.loads(json.dumps(world.compute.events.sent[0]))
    translate = AwsEvents({"ecs": world.executor})  # type: ignore[dict-item]
    changes: list[dict[str, Any]] = [
        {"startedBy": "somebody"},
        {"overrides": {}},
        {"overrides": {"containerOverrides": [{"name": "main"}]}},
    ]
    for change in changes:
        assert translate({**event, "detail": {**event["detail"], **change}}) == []
    assert translate({**event, "source": "aws.batch"}) == []
    assert translate({**event, "detail": "text"}) == []
    strange = translate({**event, "detail": {**event["detail"], "lastStatus": "HIBERNATING", "newField": {}}})
    assert [one.status for one in strange] == ["running"]
