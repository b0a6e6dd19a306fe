"""A deployed engine's tables, buckets and queue on moto, and a target that does as it is told: no container, no network.

For the benchmarks and for the tests of the functions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto import mock_aws

from shared.errors import TargetUnavailable
from shared.ids import Handle, Token
from shared.ports import Reference, Report, Request
from shared.settings import Settings
from shared.stores.dynamodb import EVENTS_SCHEMA, VIEWS_SCHEMA

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "POWERTOOLS_TRACE_DISABLED": "1",
}
"""What must be set before any client is made."""
SCHEMAS = {"events": EVENTS_SCHEMA, "views": VIEWS_SCHEMA}


@dataclass
class Target:
    """An executor that remembers what it was asked for, and answers what it was told."""

    takes_token = True
    token_seconds: float | None = None
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
        return handle_of(request.token)

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        return [self._report(one) for one in references]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:  # noqa: ARG002  (the protocol's)
        self.stopped.append(reference.token)

    def _report(self, one: Reference) -> Report:
        if one.token not in self.started:
            return Report(one.token, one.run, one.job, one.attempt, "missing")
        fields = {"status": "running", "handle": handle_of(one.token)} | self.answers.get(one.token, {})
        return Report(one.token, one.run, one.job, one.attempt, **fields)


def handle_of(token: Token) -> Handle:
    return Handle(f"task/{token}")


@contextmanager
def on_moto() -> Iterator[Settings]:
    """An empty deployment; the settings that its functions are given."""
    with mock_aws():
        dynamodb: Any = boto3.client("dynamodb")
        for name, schema in SCHEMAS.items():
            dynamodb.create_table(TableName=name, **schema)
        s3: Any = boto3.client("s3")
        for bucket in ("documents", "artifacts"):
            s3.create_bucket(Bucket=bucket)
        sqs: Any = boto3.client("sqs")
        queue_url = sqs.create_queue(QueueName="effects")["QueueUrl"]
        scheduler: Any = boto3.client("scheduler")
        scheduler.create_schedule_group(Name="runfold")
        yield Settings(
            stage="test",
            events_table="events",
            views_table="views",
            documents_bucket="documents",
            artifacts_bucket="artifacts",
            effects_queue_url=queue_url,
            schedule_group="runfold",
            schedule_target_arn="arn:aws:lambda:us-east-1:123456789012:function:scheduler",
            schedule_role_arn="arn:aws:iam::123456789012:role/scheduler",
        )
