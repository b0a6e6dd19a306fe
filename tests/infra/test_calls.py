"""Every call that a function makes is one that its role in the synthesized template allows, with its resource and its conditions.

The real adapters and doorways are driven over imitations of the services; botocore tells each call before it is sent, and the policies of the function
that makes it are asked, as IAM would. So a call without a permission fails here, files of jobs and schedules included, of which the
emulator knows too little (tests/e2e/test_access.py).
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from bench.deployed import ENVIRONMENT, on_moto
from functions.api.handler import make_handler as api_handler
from functions.api.principals import gateway_principal
from functions.api.service import ApiService
from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.relay.handler import make_handler as relay_handler
from functions.scheduler.handler import make_handler as scheduler_handler
from functions.status.handler import make_handler as status_handler
from shared.bootstrap.aws import Aws
from shared.ids import RunId, WorkflowName, run_stream, workflow_stream
from shared.settings import Settings
from tests.compute import Compute
from tests.compute.events import ACCOUNT
from tests.compute.ssm import Host
from tests.functions.api_world import event_of, jwt, reply_of
from tests.functions.test_doorways import Context, sqs_event, stream_event, uploaded
from tests.infra.access import Access, Call, Need, arn
from tests.infra.template import Template

pytestmark = pytest.mark.slow  # real HTTP, real processes

HOST = "i-0123456789abcdef0"
CLUSTER = "runfold-test-demo"
GROUP = "/runfold/test/jobs"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/runfold/test/jobs"
RINGS = f"arn:aws:iam::{ACCOUNT}:role/rings"
APPLICATION = arn("emr-serverless", "/applications/00f1abc")
WAIT_SECONDS_MAX = 60.0
RUNNING = "sleep 60"


def steps(text: str) -> list[dict[str, Any]]:
    return [{"Name": "one", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["sh", "-c", text]}}]


def jobs_of(live: str, text: str, *, files: bool) -> list[dict[str, Any]]:
    """One on every kind of target."""

    def left(name: str) -> dict[str, Any]:
        if not files:
            return {}
        long = {"path": "in.txt", "content": "x" * 9000}
        return {"inputs": [long], "outputs": [{"path": f"{name}.txt", "save": True}]}

    def shell(name: str) -> str:
        return f"cp in.txt {name}.txt; {text}" if files else text

    own = {"ReleaseLabel": "emr-7.5.0", "Instances": {}, "ServiceRole": ROLE, "JobFlowRole": "runfold-emr"}
    spark = [
        {"Name": "one", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", "s3://lake/a.py"]}}
    ]
    return [
        {
            "name": "container",
            "type": "ecs",
            "image": "busybox",
            "command": ["sh", "-c", shell("container")],
            **left("container"),
        },
        {
            "name": "script",
            "type": "ssm",
            "host": "warehouse",
            "commands": shell("script").split("; "),
            **left("script"),
        },
        {"name": "cluster", "type": "emr", "cluster": own, "steps": steps(text)},
        {"name": "step", "type": "emr", "cluster_id": live, "steps": steps(text)},
        {"name": "spark", "type": "emr", "cluster_id": APPLICATION, "steps": spark},
    ]


class Sandbox(Aws):
    """A function's parts, whose calls are written down before they are sent."""

    def __init__(self, world: "World", role: str) -> None:
        super().__init__(world.settings, now=world.now)
        self._told = world.calls
        self._role = role

    def client(self, service: str) -> Any:
        return self._watched(super().client(service), service)

    def _target_client(self, service: str, *, sent_twice_is_harmless: bool) -> Any:
        return self._watched(super()._target_client(service, sent_twice_is_harmless=sent_twice_is_harmless), service)

    def _watched(self, client: Any, service: str) -> Any:
        def note(params: dict[str, Any], model: Any, **_: Any) -> None:
            self._told.append(Call(self._role, service, model.name, dict(params)))

        client.meta.events.register("provide-client-params", note)
        return client


@dataclass
class World:
    settings: Settings
    compute: Compute
    calls: list[Call] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    """What jobs' own helpers asked of S3: action and resource."""
    ahead: timedelta = timedelta(0)
    told: int = 0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def messages(self) -> list[str]:
        client: Any = boto3.client("sqs")
        found: list[str] = []
        url = self.settings.effects_queue_url
        while received := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for one in received:
                found.append(one["Body"])
                client.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return found

    def sandbox(self, role: str) -> Sandbox:
        return Sandbox(self, role)

    # --- the functions ------------------------------------------------------------------------------------------------

    def register(self, key: str) -> None:
        aws = self.sandbox("register")
        register_handler(aws.uploads, aws.control)(uploaded(key), Context())

    def relay(self, *streams: str) -> None:
        aws = self.sandbox("relay")
        relay_handler(aws.reader, aws.settle)(stream_event(*streams), Context())

    def sweep(self, **event: Any) -> None:
        aws = self.sandbox("scheduler")
        scheduler_handler(aws.sweep, lambda: len(aws.sweep.refused), aws.admission.tick)(event, Context())

    def dispatch(self) -> None:
        aws = self.sandbox("dispatch")
        while messages := self.messages():
            dispatch_handler(aws.work, aws.effects)(sqs_event(*messages), Context())

    def status(self) -> None:
        """What targets told since the last time."""
        events = self.compute.events.sent[self.told :]
        self.told += len(events)
        aws = self.sandbox("status")
        handler = status_handler(aws.events, aws.work.record, aws.effects, side_by_side=aws.side_by_side)
        handler(sqs_event(*map(json.dumps, events)), Context())

    def api(self, method: str, path: str, body: Any = None, *, good: bool = True, **headers: str) -> Any:
        aws = self.sandbox("api")
        service = ApiService(
            queries=aws.queries,
            control=aws.control,
            authenticate=gateway_principal({}, claim="runfold", group_claims=()),
            now=aws.now,
            given_files=lambda: aws.given_files,
        )
        event = event_of(method, path, body, authorizer=jwt("admin"), headers=headers)
        reply = reply_of(api_handler(service)(event, Context()))
        assert not good or reply.status < 300, reply
        return reply

    def until(self, run: str, holds: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        aws = Aws(self.settings)
        while not holds(state := aws.loader.run(RunId(run))):
            assert time.monotonic() < deadline, state.jobs
            self.ahead += timedelta(minutes=15)
            self.status()
            self.sweep()
            self.dispatch()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A module's worth of work: each function did all that it ever does."""
    with pytest.MonkeyPatch.context() as patched, Compute() as compute:
        served = compute.objects.serve
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        for service in ("ECS", "EMR", "EMR_SERVERLESS", "SSM"):
            patched.setenv(f"AWS_ENDPOINT_URL_{service}", compute.url)
        patched.setenv("AWS_ENDPOINT_URL_S3", f"{compute.url}/_s3")
        with on_moto() as made:
            settings = replace(
                made,
                cluster=CLUSTER,
                subnets="subnet-1",
                execution_role_arn=ROLE,
                task_role_arn=ROLE,
                emr_serverless_role_arn=ROLE,
                log_group=GROUP,
                hosts=json.dumps({"warehouse": {"instance": HOST}}),
                schedule_group="runfold-test",
                schedule_role_arn=RINGS,
            )
            world = World(settings, compute)

            def watched(
                method: str, target: str, headers: dict[str, str], body: bytes
            ) -> tuple[int, dict[str, str], bytes]:
                if "boto3" not in headers.get("user-agent", "").lower():
                    parts = urlsplit(target)
                    bucket, _, key = parts.path.lstrip("/").partition("/")
                    action = (
                        "ListBucket" if "list-type" in parts.query else "PutObject" if method == "PUT" else "GetObject"
                    )
                    place = bucket if action == "ListBucket" else f"{bucket}/{key}"
                    world.files.append((f"s3:{action}", f"arn:aws:s3:::{place}"))
                return served(method, target, headers, body)

            compute.objects.serve = watched  # type: ignore[method-assign]
            compute.ecs.clusters.add(CLUSTER)
            compute.ssm.hosts = {HOST: Host()}
            boto3.client("scheduler").create_schedule_group(Name="runfold-test")
            boto3.client("logs").create_log_group(logGroupName=GROUP)
            everything(world)
            yield world


def everything(world: World) -> None:
    emr: Any = boto3.client("emr")
    live = emr.run_job_flow(Name="shared", Instances={"KeepJobFlowAliveWhenNoSteps": True})["JobFlowId"]
    s3: Any = boto3.client("s3")
    timed = {"name": "nightly", "schedule": {"cron": "0 2 * * *"}, "jobs": jobs_of(live, "true", files=True)}
    s3.put_object(Bucket="documents", Key="workflows/nightly.json", Body=json.dumps(timed).encode())
    world.register("workflows/nightly.json")
    world.relay(workflow_stream(WorkflowName("nightly")))
    world.api("POST", "/v1/workflows", {"name": "long", "jobs": jobs_of(live, RUNNING, files=False)})
    run = world.api("POST", "/v1/runs", {"workflow": "nightly"}, idempotency_key="one").json["run"]
    world.sweep(workflow="nightly", scheduled_at="2026-11-22T02:00:00Z")
    world.dispatch()
    world.until(run, lambda state: state.finished)
    world.relay(run_stream(RunId(run)))
    stopped = world.api("POST", "/v1/runs", {"workflow": "long"}, idempotency_key="two").json["run"]
    world.dispatch()
    world.until(stopped, lambda state: all(hasattr(one.phase, "handle") for one in state.jobs.values()))
    world.api("POST", f"/v1/runs/{stopped}/cancel", {})
    world.until(stopped, lambda state: state.finished)
    for path in ("/v1/workflows", "/v1/runs?status=failed&tag=x", f"/v1/runs/{run}", f"/v1/runs/{run}/results"):
        world.api("GET", path, good=False)
    world.api("GET", f"/v1/runs/{run}/jobs/container/logs", good=False)
    world.api("GET", f"/v1/runs/{run}/files/container.txt", good=False)
    aws = world.sandbox("api")
    aws.control.unregister(WorkflowName("nightly"), by="ann")
    world.relay(workflow_stream(WorkflowName("nightly")))


@pytest.fixture(scope="module")
def access(templates: dict[str, Template]) -> Access:
    template = templates["full"]
    names = {
        f"{template.named('AWS::S3::Bucket', 'Documents')}.Arn": "arn:aws:s3:::documents",
        f"{template.named('AWS::S3::Bucket', 'Artifacts')}.Arn": "arn:aws:s3:::artifacts",
        f"{template.named('AWS::DynamoDB::Table', 'Events')}.Arn": arn("dynamodb", "table/events"),
        f"{template.named('AWS::DynamoDB::Table', 'Views')}.Arn": arn("dynamodb", "table/views"),
        f"{template.named('AWS::SQS::Queue', 'EffectsQueue')}.Arn": arn("sqs", "effects"),
        f"{template.named('AWS::Logs::LogGroup', 'JobLogs')}.Arn": arn("logs", f"log-group:{GROUP}:*"),
        f"{template.named('AWS::IAM::Role', 'SchedulesRole')}.Arn": RINGS,
    }
    return Access(template, names)


def test_no_function_makes_a_call_that_its_role_does_not_allow(world: World, access: Access) -> None:
    refused = {
        (call.role, need.action, need.resource): dict(need.context)
        for call in world.calls
        for need in access.refused(call)
    }
    assert refused == {}


def test_what_was_done_used_nearly_everything_that_is_allowed(world: World, access: Access) -> None:
    """Otherwise the test before proves little. What is left is for accidents, or asked for by Lambda itself."""
    used = {(call.role, f"{call.service}:{call.operation}") for call in world.calls}
    assert used >= {
        ("register", "s3:PutObject"),
        ("relay", "scheduler:CreateSchedule"),
        ("relay", "scheduler:DeleteSchedule"),
        ("dispatch", "ecs:RegisterTaskDefinition"),
        ("dispatch", "ecs:RunTask"),
        ("dispatch", "ecs:StopTask"),
        ("dispatch", "emr:RunJobFlow"),
        ("dispatch", "emr:AddJobFlowSteps"),
        ("dispatch", "emr:CancelSteps"),
        ("dispatch", "emr:TerminateJobFlows"),
        ("dispatch", "emr-serverless:StartJobRun"),
        ("dispatch", "ssm:SendCommand"),
        ("dispatch", "s3:PutObject"),
        ("status", "s3:GetObject"),
        ("status", "dynamodb:PutItem"),
        ("scheduler", "dynamodb:Query"),
        ("scheduler", "sqs:SendMessageBatch"),
        ("api", "dynamodb:PutItem"),
    }


def test_jobs_bring_and_keep_their_files_with_what_the_role_of_jobs_may(world: World, access: Access) -> None:
    asked = [Need(action, resource) for action, resource in sorted(set(world.files))]
    assert {need.action for need in asked} >= {"s3:GetObject", "s3:PutObject"}
    statements = access.of_role("DemoTaskRole")
    assert [need for need in asked if not access.allowed(statements, need)] == []


@pytest.mark.parametrize(
    ("role", "service", "operation", "params"),
    [
        ("dispatch", "dynamodb", "DeleteItem", {"TableName": "events"}),
        ("dispatch", "dynamodb", "UpdateItem", {"TableName": "events"}),
        ("status", "ecs", "RunTask", {"taskDefinition": arn("ecs", "task-definition/runfold-1:1"), "cluster": CLUSTER}),
        ("dispatch", "ecs", "RunTask", {"taskDefinition": arn("ecs", "task-definition/theirs:1"), "cluster": CLUSTER}),
        ("dispatch", "ecs", "RunTask", {"taskDefinition": arn("ecs", "task-definition/runfold-1:1"), "cluster": "other"}),
        ("dispatch", "ecs", "RegisterTaskDefinition", {"family": "runfold-1", "taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/admin"}),
        ("dispatch", "ssm", "SendCommand", {"DocumentName": "AWS-RunPatchBaseline", "InstanceIds": [HOST]}),
        ("api", "s3", "PutObject", {"Bucket": "artifacts", "Key": "runs/nightly@1/load/1/inputs"}),
        ("dispatch", "s3", "PutObject", {"Bucket": "documents", "Key": "documents/x"}),
        ("relay", "scheduler", "DeleteSchedule", {"GroupName": "theirs", "Name": "x"}),
        ("relay", "scheduler", "CreateSchedule", {"GroupName": "runfold-test", "Name": "x", "Target": {"RoleArn": ROLE}}),
    ],
)  # fmt: skip
def test_what_is_not_granted_is_refused(
    access: Access, role: str, service: str, operation: str, params: dict[str, Any]
) -> None:
    """fault 57, and that this test can tell"""
    assert access.refused(Call(role, service, operation, params))
