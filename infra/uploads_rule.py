"""Documents that are put into the bucket, or removed from it, are told to the register function."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.buckets import UPLOADS
from infra.permissions import allow
from infra.service_function import ServiceFunction

TRIES = 185
"""The most that EventBridge makes, over a day."""


class UploadsRule(Construct):
    def __init__(
        self, scope: Construct, name: str, *, bucket: s3.IBucket, register: ServiceFunction, undelivered: sqs.Queue
    ) -> None:
        super().__init__(scope, name)
        events.Rule(
            self,
            "Rule",
            description="Documents put under workflows/ or removed from there",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created", "Object Deleted"],
                detail={"bucket": {"name": [bucket.bucket_name]}, "object": {"key": [{"prefix": UPLOADS}]}},
            ),
            targets=[
                targets.LambdaFunction(
                    register.function,
                    dead_letter_queue=undelivered,
                    max_event_age=Duration.hours(24),
                    retry_attempts=TRIES,
                )
            ],
        )
        # EventBridge only hands over; what fails afterwards is Lambda's to repeat and, in the end, to set aside.
        register.function.configure_async_invoke(
            max_event_age=Duration.hours(6), retry_attempts=2, on_failure=destinations.SqsDestination(undelivered)
        )
        allow(register.role, "sqs:SendMessage", on=[undelivered.queue_arn])
