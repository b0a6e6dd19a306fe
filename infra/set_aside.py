"""Queues for what could not be done: nobody polls them, an alarm watches them, a person redrives or deletes."""

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.permissions import acknowledge

KEPT_DAYS = 14
"""The longest that SQS allows: a dead letter may arrive on the first day of somebody's holiday."""


def kept_letters(scope: Construct, name: str, queue_name: str) -> sqs.Queue:
    queue = sqs.Queue(
        scope,
        name,
        queue_name=queue_name,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=Duration.days(KEPT_DAYS),
    )
    reason = "This queue itself holds dead letters; what is in it raises an alarm."
    acknowledge(queue, {"AwsSolutions-SQS3": reason, "Serverless-SQSRedrivePolicy": reason})
    return queue
