"""A deployed engine's parts on moto, with a target that does as it is told: no container, no network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from bench.deployed import ENVIRONMENT, Target, on_moto
from shared.bootstrap.aws import Aws


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

    def delayed(self) -> int:
        """How many messages the queue shows later."""
        name = "ApproximateNumberOfMessagesDelayed"
        return int(self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=[name])["Attributes"][name])


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with on_moto() as settings:
        aws = Aws(settings)
        target = Target()
        vars(aws)["executors"] = {"ecs": target, "emr": target, "ssm": target}
        yield Deployed(aws, target, boto3.client("sqs"), settings.effects_queue_url)
