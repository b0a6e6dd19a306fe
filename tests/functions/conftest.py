"""A deployed engine's parts on moto, with a target that does as it is told: no container, no network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto import mock_aws

from shared.bootstrap.aws import Aws
from shared.errors import TargetUnavailable
from shared.ids import Handle, Token
from shared.ports import Reference, Report, Request
from shared.settings import Settings
from shared.stores.dynamodb import EVENTS_SCHEMA, VIEWS_SCHEMA


@dataclass
class Target:
    """An executor that remembers what it was asked for, and answers what the test says."""

    takes_token = True
    runs_at_once = False
    started: dict[Token, Request] = field(default_factory=dict)
    asked: int = 0
    stopped: list[Token] = field(default_factory=list)
    answers: dict[Token, dict[str, Any]] = field(default_factory=dict)
    unavailable: int = 0
    """So many starts are turned away."""

    def start(self, request: Request) -> Handle:
        self.asked += 1
        if self.unavailable:
            self.unavailable -= 1
            raise TargetUnavailable("no room")
        self.started.setdefault(request.token, request)
        return Handle(f"task/{request.token}")

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        return [self._report(one) for one in references]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        self.stopped.append(reference.token)

    def _report(self, one: Reference) -> Report:
        if one.token not in self.started:
            return Report(one.token, one.run, one.job, one.attempt, "missing")
        fields = {"status": "running", "handle": Handle(f"task/{one.token}")} | self.answers.get(one.token, {})
        return Report(one.token, one.run, one.job, one.attempt, **fields)


@dataclass
class Deployed:
    aws: Aws
    target: Target
    sqs: Any
    queue_url: str

    def messages(self) -> list[str]:
        """Everything on the queue of effects now, taken from it."""
        found: list[str] = []
        while received := self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages"):
            for message in received:
                found.append(message["Body"])
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        dynamodb: Any = boto3.client("dynamodb")
        dynamodb.create_table(TableName="events", **EVENTS_SCHEMA)
        dynamodb.create_table(TableName="views", **VIEWS_SCHEMA)
        s3: Any = boto3.client("s3")
        for bucket in ("documents", "artifacts"):
            s3.create_bucket(Bucket=bucket)
        sqs: Any = boto3.client("sqs")
        queue_url = sqs.create_queue(QueueName="effects")["QueueUrl"]
        scheduler: Any = boto3.client("scheduler")
        scheduler.create_schedule_group(Name="runfold")
        settings = Settings.read(
            {
                "RUNFOLD_STAGE": "test",
                "RUNFOLD_EVENTS_TABLE": "events",
                "RUNFOLD_VIEWS_TABLE": "views",
                "RUNFOLD_DOCUMENTS_BUCKET": "documents",
                "RUNFOLD_ARTIFACTS_BUCKET": "artifacts",
                "RUNFOLD_EFFECTS_QUEUE_URL": queue_url,
                "RUNFOLD_SCHEDULE_GROUP": "runfold",
                "RUNFOLD_SCHEDULE_TARGET_ARN": "arn:aws:lambda:us-east-1:123456789012:function:scheduler",
                "RUNFOLD_SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/scheduler",
            }
        )
        aws = Aws(settings)
        target = Target()
        vars(aws)["executors"] = {"ecs": target, "emr": target, "ssm": target}
        yield Deployed(aws, target, sqs, queue_url)
