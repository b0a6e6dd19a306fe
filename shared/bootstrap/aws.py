"""The deployed engine's parts. Each function uses only some of them, so everything is made when it is first asked for: a cold start pays
for the clients it needs and no others.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, cast

from shared.bootstrap.origins import new_id, new_ulid, utc_now
from shared.ids import RunId, StreamName, kind_of, subject_of, workflow_of
from shared.settings import Settings
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.loading import Loaded, Loader, PlanCache
from shared.usecases.transact import Reader, Rhythm, Transact
from shared.views.derive import derive

if TYPE_CHECKING:
    from shared.effects import DeliverNotice, PlanNoticesOf
    from shared.executors.aws_events import AwsEvents, Told
    from shared.executors.aws_output import CloudWatchLogs, S3Artifacts
    from shared.executors.ecs import EcsExecutor
    from shared.executors.emr_output import EmrLogs
    from shared.executors.emr_serverless import EmrTargets
    from shared.executors.ssm import SsmExecutor
    from shared.executors.workspace import Workspace
    from shared.ports import Courier, Executor, LogPage, LogSource, StoredFile
    from shared.stores.dynamodb import DynamoDues, DynamoSnapshots, DynamoStore, DynamoViews, DynamoWaiters
    from shared.stores.s3 import S3Documents, S3GivenFiles, S3Uploads
    from shared.stores.schedules import SchedulerBells
    from shared.stores.secrets import AwsSecrets
    from shared.stores.sqs import SqsEffects
    from shared.usecases.admission import Admission
    from shared.usecases.control import Control
    from shared.usecases.dispatch import Dispatch
    from shared.usecases.notices import Notices
    from shared.usecases.queries import Queries
    from shared.usecases.sweep import Sweep
    from shared.usecases.triggers import Triggers
    from shared.usecases.waits import Waits, Wake
    from shared.usecases.work import SideBySide, Work
    from shared.workflow.notices import Channel

CONNECT_SECONDS = 2
READ_SECONDS = 10
SDK_TRIES = 4
"""Of each call."""


KEPT_MAX = 2_000
"""Streams whose state a warm function keeps: a run of ten jobs takes some 20 KB."""
NOBODY_WAITS_FOR = timedelta(minutes=1)
"""So long it is believed that nobody waits for jobs of a workflow: asking at each end would be a quarter of all reads."""
RHYTHM = Rhythm(every=timedelta(minutes=12), skew=timedelta(minutes=5))
"""Of all functions: a live run is looked at every twelve minutes, and sooner when time decides something. Functions must not differ in this."""


class Aws:
    """Adapters and use cases on AWS, by name."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self.now = now

    # --- stores -------------------------------------------------------------------------------------------------------

    @cached_property
    def store(self) -> "DynamoStore":
        from shared.stores.dynamodb import DynamoStore

        return DynamoStore(self._dynamodb, self.settings.events_table)

    @cached_property
    def dues(self) -> "DynamoDues":
        from shared.stores.dynamodb import DynamoDues

        return DynamoDues(self._dynamodb, self.settings.views_table)

    @cached_property
    def views(self) -> "DynamoViews":
        from shared.stores.dynamodb import DynamoViews

        return DynamoViews(self._dynamodb, self.settings.views_table)

    @cached_property
    def snapshots(self) -> "DynamoSnapshots":
        from shared.stores.dynamodb import DynamoSnapshots

        return DynamoSnapshots(self._dynamodb, self.settings.views_table)

    @cached_property
    def waiters(self) -> "DynamoWaiters":
        from shared.stores.dynamodb import DynamoWaiters

        return DynamoWaiters(self._dynamodb, self.settings.views_table)

    @cached_property
    def documents(self) -> "S3Documents":
        from shared.stores.s3 import S3Documents

        return S3Documents(self._s3, self.settings.documents_bucket)

    @cached_property
    def uploads(self) -> "S3Uploads":
        from shared.stores.s3 import S3Uploads

        return S3Uploads(self._s3, self.settings.documents_bucket)

    @cached_property
    def effects(self) -> "SqsEffects":
        from shared.stores.sqs import SqsEffects

        return SqsEffects(self.client("sqs"), self.settings.effects_queue_url)

    @cached_property
    def bells(self) -> "SchedulerBells | None":
        """None where the deployment has no schedule group: the sweep does it all."""
        from shared.stores.schedules import SchedulerBells

        if not self.settings.schedule_group:
            return None
        return SchedulerBells(
            self.client("scheduler"),
            group=self.settings.schedule_group,
            target=self.settings.schedule_target_arn,
            role=self.settings.schedule_role_arn,
            dead_letters=self.settings.schedule_dead_letter_arn,
        )

    # --- use cases ----------------------------------------------------------------------------------------------------

    @cached_property
    def plans(self) -> PlanCache:
        return PlanCache(self.documents)

    @cached_property
    def loader(self) -> Loader:
        return Loader(self.store, self.plans, self.snapshots, lately=self.store.read_lately)

    @cached_property
    def transact(self) -> Transact:
        return Transact(
            self.store,
            self.dues,
            self.loader,
            self.effects,
            now=self.now,
            new_id=new_id,
            kept_max=KEPT_MAX,
            rhythm=RHYTHM,
            effects_wait=True,
        )

    @cached_property
    def reader(self) -> Reader:
        """Streams that are only followed: without the clients of whoever decides."""
        return Reader(self.loader, kept_max=KEPT_MAX)

    @cached_property
    def control(self) -> "Control":
        from shared.usecases.control import Control

        return Control(
            self.transact, self.documents, new_id=new_ulid, known_workflows=self._known_workflows, files="s3://"
        )

    @cached_property
    def admission(self) -> "Admission":
        from shared.usecases.admission import Admission

        return Admission(self.transact)

    @cached_property
    def triggers(self) -> "Triggers":
        from shared.usecases.triggers import Triggers

        return Triggers(self.transact, self.views)

    @cached_property
    def secrets(self) -> "AwsSecrets":
        from shared.stores.secrets import AwsSecrets

        return AwsSecrets(self.client, now=self.now)

    @cached_property
    def dispatch(self) -> "Dispatch":
        from shared.usecases.dispatch import Dispatch

        restored = bool(self.settings.restored_from)
        return Dispatch(self.transact, self.executors, now=self.now, claimer=_process_name(), restored=restored)

    @cached_property
    def work(self) -> "Work":
        from shared.usecases.work import Work

        return Work(
            self.transact,
            self.dispatch,
            self.admission,
            self.waits,
            deliver=self._deliver,
            side_by_side=self.side_by_side,
        )

    @cached_property
    def waits(self) -> "Waits":
        from shared.usecases.waits import Waits

        return Waits(self.transact, self.waiters, _Files(self), now=self.now)

    @cached_property
    def wake(self) -> "Wake":
        from shared.usecases.waits import Wake

        return Wake(self.waiters, self.effects, now=self.now, believed=NOBODY_WAITS_FOR)

    def is_awaited(self, stream: StreamName) -> bool:
        """Whether somebody waits for the end of a job of this run."""
        return kind_of(stream) == "run" and self.wake.is_awaited(workflow_of(RunId(subject_of(stream))))

    @cached_property
    def notices(self) -> "Notices":
        from shared.usecases.notices import Notices

        return Notices(self.transact, self.views, self.couriers, now=self.now, address=self.settings.notices_address)

    def _deliver(self, effect: "DeliverNotice | PlanNoticesOf") -> None:
        from shared.effects import PlanNoticesOf

        if isinstance(effect, PlanNoticesOf):
            self.notices.plan_of(effect)
        else:
            self.notices.deliver(effect)

    @cached_property
    def couriers(self) -> "Mapping[Channel, Courier]":
        return _Couriers(self)

    @cached_property
    def side_by_side(self) -> "SideBySide":
        from shared.bootstrap.threads import Threads

        return Threads()

    @cached_property
    def sweep(self) -> "Sweep":
        from shared.usecases.sweep import Sweep

        return Sweep(self.transact, self.dues, self.effects, self.settle_again, now=self.now, rhythm=RHYTHM)

    @cached_property
    def queries(self) -> "Queries":
        from shared.usecases.queries import Queries

        return Queries(
            loader=self.loader,
            events=self.store,
            views=self.views,
            logs=_Logs(self),
            artifacts=_Artifacts(self),
            now=self.now,
        )

    def settle_again(self, loaded: Loaded) -> None:
        """`settle`, by the sweep: the relay has nearly always done it, and a write that is refused costs five times a read."""
        if isinstance(loaded.state, Run):
            self._tell_listeners(loaded)
            row = self.views.get_run(loaded.state.run)
            if row is not None and row.version >= loaded.version:
                # The list may be true and nobody told.
                self._plan_notices(loaded)
                return
        self._settle(loaded)
        self._plan_notices(loaded)

    def settle(self, loaded: Loaded) -> None:
        """Make views and bells of a stream's newest version true, tell who waits for a run's end, wake runs that do, and have people
        told. Writes no history."""
        self._settle(loaded)
        # Last: the others must not wait for a stream of notices that cannot be read. Should it be lost, the sweep plans them itself.
        if self._has_rules(loaded) and self.notices.are_due(loaded):
            from shared.effects import PlanNoticesOf

            self.effects.send([PlanNoticesOf(loaded.stream)])

    def _settle(self, loaded: Loaded) -> None:
        self._tell_listeners(loaded)
        derive(self.views, loaded.state, loaded.version, self.plans)
        self.loader.keep_snapshot(loaded)
        if isinstance(loaded.state, WorkflowState) and self.bells is not None:
            live = loaded.state.live
            ringing = live is not None and loaded.state.pause is None
            schedule = self.plans(live.document).workflow.schedule if live is not None and ringing else None
            self.bells.reconcile(loaded.state.name, schedule)
        self.wake(loaded)

    def _plan_notices(self, loaded: Loaded) -> None:
        if self._has_rules(loaded):
            self.notices.plan(loaded)

    def _has_rules(self, loaded: Loaded) -> bool:
        """Without rules nothing of notices is even imported."""
        state = loaded.state
        if isinstance(state, WorkflowState):
            return bool(self.plans((state.live or state.versions[-1]).document).workflow.notify)
        return isinstance(state, Run) and bool(state.plan.workflow.notify)

    def _tell_listeners(self, loaded: Loaded) -> None:
        if isinstance(loaded.state, Run) and loaded.state.finished:
            from shared.usecases.triggers import listeners_of_end

            if told := list(listeners_of_end(self.views, loaded)):
                self.effects.send(told)

    # --- clients ------------------------------------------------------------------------------------------------------

    @cached_property
    def executors(self) -> "Mapping[str, Executor]":
        if self.settings.restored_from:
            from shared.executors.restored import AllLookFirst

            return AllLookFirst(_Executors(self), datetime.fromisoformat(self.settings.restored_from))
        return _Executors(self)

    @cached_property
    def events(self) -> "AwsEvents":
        """What EventBridge tells, as reports."""
        from shared.executors.aws_events import AwsEvents

        # Every executor on AWS also says what an event about its work means.
        return AwsEvents(cast("Mapping[str, Told]", self.executors))

    @cached_property
    def workspace(self) -> "Workspace":
        from shared.executors.workspace import Workspace

        return Workspace(self._s3, self.settings.artifacts_bucket)

    @cached_property
    def output(self) -> "CloudWatchLogs":
        from shared.executors.aws_output import CloudWatchLogs

        return CloudWatchLogs(self.client("logs"), self.settings.log_group, now=self.now)

    @cached_property
    def emr_output(self) -> "EmrLogs":
        from shared.executors.emr_output import EmrLogs

        return EmrLogs(self.client, now=self.now)

    @cached_property
    def artifacts(self) -> "S3Artifacts":
        from shared.executors.aws_output import S3Artifacts

        return S3Artifacts(self._s3, self.settings.artifacts_bucket)

    @cached_property
    def given_files(self) -> "S3GivenFiles":
        from shared.stores.s3 import S3GivenFiles

        return S3GivenFiles(self._s3, self.settings.artifacts_bucket)

    @cached_property
    def ecs(self) -> "EcsExecutor":
        from shared.executors.ecs import EcsExecutor, EcsSettings

        settings = self.settings
        given = EcsSettings(
            cluster=settings.cluster or "default",
            subnets=settings.listed("subnets"),
            security_groups=settings.listed("security_groups"),
            assign_public_ip=settings.assign_public_ip == "true",
            role=settings.task_role_arn or None,
            execution_role=settings.execution_role_arn or None,
            log_group=settings.log_group or None,
            region=os.environ.get("AWS_REGION", ""),
            ec2_capacity_provider=settings.ec2_capacity_provider or None,
            ec2_spot_capacity_provider=settings.ec2_spot_capacity_provider or None,
        )
        if settings.files_image:
            given = replace(given, aws_image=settings.files_image)
        return EcsExecutor(self._target_client("ecs", sent_twice_is_harmless=True), given, self.workspace)

    @cached_property
    def emr(self) -> "EmrTargets":
        from shared.executors.emr import EmrExecutor
        from shared.executors.emr_serverless import EmrServerlessExecutor, EmrTargets

        clusters = EmrExecutor(
            self._target_client("emr", sent_twice_is_harmless=False),
            self.workspace,
            now=utc_now,
            service_role=self.settings.emr_service_role,
            instance_profile=self.settings.emr_instance_profile,
        )
        serverless = EmrServerlessExecutor(
            self._target_client("emr-serverless", sent_twice_is_harmless=True),
            self.workspace,
            execution_role=self.settings.emr_serverless_role_arn,
            now=utc_now,
        )
        return EmrTargets(clusters, serverless)

    @cached_property
    def ssm(self) -> "SsmExecutor":
        from shared.executors.ssm import SsmExecutor, SsmHost, SsmSettings

        named = json.loads(self.settings.hosts) if self.settings.hosts else {}
        given = SsmSettings(
            hosts={name: SsmHost(**facts) for name, facts in named.items()},
            log_group=self.settings.log_group or None,
            region=os.environ.get("AWS_REGION", ""),
        )
        client = self._target_client("ssm", sent_twice_is_harmless=False)
        return SsmExecutor(client, given, self.workspace, now=self.now)

    def _target_client(self, service: str, *, sent_twice_is_harmless: bool) -> Any:
        import boto3

        from shared.executors.aws import client_config

        config = client_config(sent_twice_is_harmless=sent_twice_is_harmless)
        return boto3.client(service, config=config)  # type: ignore[call-overload]

    def client(self, service: str) -> Any:
        """A boto3 client whose calls may be repeated by the SDK: every write through it is conditional or idempotent."""
        import boto3
        from botocore.config import Config

        config = Config(
            # In some regions boto3 still signs addresses of S3 with version 2, which leaves headers unsigned.
            signature_version="s3v4" if service == "s3" else None,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": SDK_TRIES, "mode": "standard"},
        )
        return boto3.client(service, config=config)  # type: ignore[call-overload]

    @cached_property
    def _dynamodb(self) -> Any:
        return self.client("dynamodb")

    @cached_property
    def _s3(self) -> Any:
        return self.client("s3")

    def _known_workflows(self) -> list[str]:
        return [row.workflow for row in self.views.workflows(limit=1000)[0]]


class _Executors(Mapping[str, "Executor"]):
    """By job type, made when first asked for: a function that starts only containers makes no client of EMR."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        # Several starts may ask at once, and boto3 must not make clients side by side.
        self._making = Lock()

    def __getitem__(self, kind: str) -> "Executor":
        with self._making:
            match kind:
                case "ecs":
                    return self._aws.ecs
                case "emr":
                    return self._aws.emr
                case "ssm":
                    return self._aws.ssm
                case _:
                    raise KeyError(kind)

    def __iter__(self) -> Iterator[str]:
        return iter(("ecs", "emr", "ssm"))

    def __len__(self) -> int:
        return 3


class _Couriers(Mapping["Channel", "Courier"]):
    """By channel, made when first asked for."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._making = Lock()
        self._made: dict[Channel, Courier] = {}

    def __getitem__(self, channel: "Channel") -> "Courier":
        with self._making:
            if channel not in self._made:
                self._made[channel] = self._make(channel)
            return self._made[channel]

    def _make(self, channel: "Channel") -> "Courier":
        from shared.couriers import Nowhere
        from shared.couriers.aws import Ses, Sns, secrets_on_aws
        from shared.couriers.webhook import Webhook

        aws = self._aws
        match channel:
            case "email":
                return Ses(aws.client("sesv2"), aws.settings.notices_sender)
            case "sns":
                return Sns(aws.client("sns"))
            case "webhook":
                secret = secrets_on_aws(lambda: aws.client("secretsmanager"), lambda: aws.client("ssm"))
                return Webhook(secret, private=aws.settings.notices_private == "true")
            case "command":
                return Nowhere("commands are run on one machine only: use another channel on AWS")

    def __iter__(self) -> "Iterator[Channel]":
        return iter(("email", "sns", "webhook", "command"))

    def __len__(self) -> int:
        return 4


class _Files:
    """Files that runs wait for; their client is made when one is first looked for."""

    prefix = "s3://"

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def find(self, address: str) -> str | None:
        from shared.stores.s3 import S3Files

        return S3Files(self._aws._s3).find(address)


class _Logs:
    """The output of attempts; its client is made when output is first asked for."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def page(
        self, source: "LogSource", *, stream: Literal["out", "err"] | None, cursor: str, bytes_max: int
    ) -> "LogPage":
        logs = self._aws.emr_output if source.target == "emr" else self._aws.output
        return logs.page(source, stream=stream, cursor=cursor, bytes_max=bytes_max)


class _Artifacts:
    """Kept files; the same."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def size(self, run: RunId, address: str) -> int | None:
        return self._aws.artifacts.size(run, address)

    def fetch(self, run: RunId, address: str) -> "StoredFile":
        return self._aws.artifacts.fetch(run, address)


def _process_name() -> str:
    # A Lambda sandbox has a log stream of its own; elsewhere host and process tell claimers apart.
    return os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME") or f"{socket.gethostname()}:{os.getpid()}"
