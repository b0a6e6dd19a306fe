"""Disaster recovery as docs/operations.md tells it: history ends at an instant T, and targets run what was started after it (fault 50).

Stores are moto's, targets the stand-in that runs real processes. The second stage knows only what was copied from the restored table.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from functions.dispatch.handler import make_handler as dispatch_handler
from shared.bootstrap.account import Account
from shared.bootstrap.aws import Aws
from shared.errors import TargetUnavailable
from shared.executors.ecs import EcsExecutor, EcsSettings
from shared.executors.emr import EmrExecutor
from shared.executors.restored import LooksFirst
from shared.executors.ssm import SsmExecutor, SsmHost, SsmSettings
from shared.ids import Handle, JobName, RunId, Token, WorkflowName
from shared.ports import Reference, Report, Request
from shared.settings import Settings
from shared.state.run import Submitted
from shared.stores.dynamodb import EVENTS_SCHEMA, VIEWS_SCHEMA
from shared.usecases.rebuild import rebuild
from shared.usecases.verify import verify
from shared.workflow.reading import canonical, read
from tests.compute import Compute
from tests.compute.ssm import Host
from tests.contract.aws_targets import client, workspace
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import Context, sqs_event

HOST = "i-0123456789abcdef0"
JOBS = ("container", "cluster", "step", "script")
WAIT_SECONDS_MAX = 60.0


def documented(cluster: str) -> bytes:
    steps = [{"Name": "one", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["sh", "-c", "sleep 0.2"]}}]
    jobs: list[dict[str, Any]] = [
        {"name": "container", "type": "ecs", "image": "busybox", "command": ["sh", "-c", "sleep 0.2"]},
        {"name": "cluster", "type": "emr", "cluster": {"ReleaseLabel": "emr-7.5.0", "Instances": {}}, "steps": steps},
        {"name": "step", "type": "emr", "cluster_id": cluster, "steps": steps},
        {"name": "script", "type": "ssm", "host": "warehouse", "commands": ["sleep 0.2"]},
    ]
    return json.dumps({"name": "nightly", "jobs": jobs}).encode()


@dataclass
class World:
    deployed: Deployed
    compute: Compute
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def executors(self) -> dict[str, Any]:
        """Of a process that remembers nothing."""
        settings = SsmSettings(hosts={"warehouse": SsmHost(HOST)})
        space = workspace(self.compute)
        return {
            "ecs": EcsExecutor(client(self.compute, "ecs"), EcsSettings(subnets=("subnet-1",)), space),
            "emr": EmrExecutor(client(self.compute, "emr"), space, now=lambda: datetime.now(UTC)),
            "ssm": SsmExecutor(client(self.compute, "ssm"), settings, space, now=lambda: datetime.now(UTC)),
        }

    def stage(self, settings: Settings) -> Aws:
        aws = Aws(settings, now=self.now)
        given = self.executors()
        if settings.restored_from:
            restored_from = datetime.fromisoformat(settings.restored_from)
            given = {kind: LooksFirst(one, restored_from) for kind, one in given.items()}
        vars(aws)["executors"] = given
        return aws

    def dispatch(self, aws: Aws) -> None:
        dispatch_handler(aws.work, aws.effects)(sqs_event(*self.deployed.messages()), Context())

    def asked(self) -> dict[str, int]:
        """How often each target was given work."""
        emr = self.compute.emr
        return {
            "containers": len(self.compute.ecs.tasks),
            "clusters": len(emr.clusters),
            "steps": sum(len(one.steps) for one in emr.clusters.values()),
            "scripts": sum(
                one.facts["Comment"].partition(" ")[0] not in ("look", "stop")
                for one in self.compute.ssm.commands.values()
            ),
        }


@pytest.fixture
def world(deployed: Deployed) -> Iterator[World]:
    with Compute() as compute:
        compute.ssm.hosts = {HOST: Host()}
        yield World(deployed, compute)


def copied(source: str, target: str, schema: Any) -> None:
    dynamodb: Any = boto3.client("dynamodb")
    dynamodb.create_table(TableName=target, **schema)
    if source:
        for item in dynamodb.scan(TableName=source)["Items"]:
            dynamodb.put_item(TableName=target, Item=item)


def second_stage(world: World, first: Aws, restored_from: datetime) -> Aws:
    """Steps 3 to 8 of the page."""
    copied("restored", "events2", EVENTS_SCHEMA)
    copied("", "views2", VIEWS_SCHEMA)
    world.deployed.messages()
    settings = replace(
        first.settings, events_table="events2", views_table="views2", restored_from=restored_from.isoformat()
    )
    parts = Account(region="us-east-1").operated(settings)
    found = rebuild(
        parts.store,
        parts.loader,
        parts.views,
        parts.dues,
        derive=parts.row_of,
        settle=parts.settle,
        now=parts.now(),
        patience=parts.patience,
    )
    assert {one.what for one in found} <= {"missing", "due"}
    found_wrong = verify(
        parts.store,
        parts.plans,
        now=parts.now(),
        dues=parts.dues,
        views=parts.views,
        derive=parts.row_of,
        patience=parts.patience,
    )
    assert list(found_wrong) == []
    return world.stage(settings)


def handles_of(aws: Aws, run: RunId) -> dict[str, Handle]:
    state = aws.loader.run(run)
    return {name: one.phase.handle for name, one in state.jobs.items() if isinstance(one.phase, Submitted)}


def ended(world: World, aws: Aws, run: RunId) -> str | None:
    """Sweeps and looks until the run has ended; how."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (outcome := aws.loader.run(run).outcome) is None:
        assert time.monotonic() < deadline, aws.loader.run(run).jobs
        world.ahead += timedelta(minutes=15)
        aws.sweep()
        world.dispatch(aws)
        time.sleep(0.1)
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["what was started", "the whole run"])
@pytest.mark.parametrize("tokens", ["known", "forgotten"])
def test_what_was_started_after_the_restored_instant_is_bound_and_never_started_twice(
    world: World, lost: str, tokens: str
) -> None:
    """fault 50, and 6: ECS has forgotten the token of a task that may still run"""
    live: Any = client(world.compute, "emr").run_job_flow(
        Name="shared", Instances={"KeepJobFlowAliveWhenNoSteps": True}
    )
    first = world.stage(world.deployed.aws.settings)
    first.control.register(canonical(read(documented(live["JobFlowId"]))), name="nightly.json", by="ann")
    nightly = WorkflowName("nightly")
    restored_from = world.now()
    if lost == "the whole run":
        copied("events", "restored", EVENTS_SCHEMA)
    run = first.control.request_run(nightly, {}, by="ann", key="tonight").run
    if lost == "what was started":
        copied("events", "restored", EVENTS_SCHEMA)
    world.dispatch(first)
    before, asked = handles_of(first, run), world.asked()
    assert set(before) == set(JOBS)
    if tokens == "forgotten":
        world.compute.ecs._tokens.clear()
    second = second_stage(world, first, restored_from)
    if lost == "the whole run":
        assert second.control.request_run(nightly, {}, by="ann", key="tonight").run == run
    world.ahead += timedelta(minutes=2)
    second.sweep()
    world.dispatch(second)
    assert world.asked() == asked
    known = handles_of(second, run)
    assert known == {name: before[name] for name in known}
    assert ended(world, second, run) == "succeeded"
    assert world.asked() == asked
    assert [str(one) for one in verify(second.store, second.plans, now=world.now())] == []


# --- the executor that looks first ------------------------------------------------------------------------------------


class Answering:
    """A target that answers one look, and counts starts."""

    takes_token = False
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.looks: list[Reference] = []
        self.starts = 0

    def start(self, request: Request) -> Handle:
        self.starts += 1
        return Handle("new")

    def observe(self, references: Any) -> list[Report]:
        self.looks += references
        return [Report(one.token, one.run, one.job, one.attempt, **self.answer) for one in references if self.answer]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        raise AssertionError(reference)

    def reports_of(self, event: Any) -> list[Report]:
        return [event]


REQUEST = Request(Token("rf1"), RunId("nightly@1"), JobName("load"), 1, {"type": "emr"}, (), ({"path": "a"},))
T = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


def test_what_is_surely_not_there_is_started_and_was_looked_for_from_the_restored_instant_on() -> None:
    target = Answering(status="missing")
    assert LooksFirst(target, T).start(REQUEST) == "new"
    (look,) = target.looks
    assert (look.handle, look.asked_from, look.request, look.outputs) == (None, T, REQUEST.body, REQUEST.outputs)


@pytest.mark.parametrize("answer", [{}, {"status": "unknown", "reason": "too much to look through"}])
def test_where_the_look_does_not_tell_nothing_is_started(answer: dict[str, Any]) -> None:
    target = Answering(**answer)
    with pytest.raises(TargetUnavailable, match="after a restore"):
        LooksFirst(target, T).start(REQUEST)
    assert target.starts == 0


def test_what_has_ended_already_is_bound_as_well() -> None:
    target = Answering(status="failed", handle=Handle("old"))
    assert LooksFirst(target, T).start(REQUEST) == "old"
    assert target.starts == 0


def test_the_deployment_looks_first_as_long_as_it_is_told_to(deployed: Deployed) -> None:
    restored = Aws(replace(deployed.aws.settings, restored_from=T.isoformat()))
    assert set(restored.executors) == {"ecs", "emr", "ssm"}
    assert isinstance(restored.executors["emr"], LooksFirst)
    assert isinstance(Aws(deployed.aws.settings).executors["ecs"], EcsExecutor)
    assert restored.events({"source": "aws.ecs", "detail": {"taskArn": "foreign"}}) == []
