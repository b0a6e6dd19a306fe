"""What starts runs besides time: a bus of the deployment's own, and buckets that it listens to. Which event starts what stands in the
workflows' documents, so a workflow that is registered needs no change here.
"""

from aws_cdk import Aws, Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.permissions import allow
from infra.service_function import ServiceFunction
from infra.uploads_rule import TRIES


class TriggerRules(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        bus_name: str,
        buckets: tuple[str, ...],
        trigger: ServiceFunction,
        undelivered: sqs.Queue,
    ) -> None:
        super().__init__(scope, name)
        self._trigger = trigger
        self._undelivered = undelivered
        self.bus = events.EventBus(
            self, "Bus", event_bus_name=bus_name, description="Events that workflows have triggers for"
        )
        self._rule("Events", "Every event of the bus", events.EventPattern(account=[Aws.ACCOUNT_ID]), bus=self.bus)
        if buckets:
            created = events.EventPattern(
                source=["aws.s3"], detail_type=["Object Created"], detail={"bucket": {"name": list(buckets)}}
            )
            # What S3 tells comes on the account's default bus alone.
            self._rule("Objects", "Objects that were created in buckets with triggers", created)
        # EventBridge only hands over; what fails afterwards is Lambda's to repeat and, in the end, to set aside.
        trigger.function.configure_async_invoke(
            max_event_age=Duration.hours(6), retry_attempts=2, on_failure=destinations.SqsDestination(undelivered)
        )
        allow(trigger.role, "sqs:SendMessage", on=[undelivered.queue_arn])

    def _rule(
        self, name: str, description: str, pattern: events.EventPattern, *, bus: events.EventBus | None = None
    ) -> None:
        events.Rule(
            self,
            name,
            description=description,
            event_bus=bus,
            event_pattern=pattern,
            targets=[
                targets.LambdaFunction(
                    self._trigger.function,
                    dead_letter_queue=self._undelivered,
                    max_event_age=Duration.hours(24),
                    retry_attempts=TRIES,
                )
            ],
        )
