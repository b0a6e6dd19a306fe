"""A queue that one function works off, with its dead letters. There are two: each costs its pollers' requests even when idle."""

from aws_cdk import Duration
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.configuration import BATCH_MAX, BATCH_MAX_WITH_WINDOW
from infra.permissions import acknowledge
from infra.service_function import ServiceFunction
from infra.set_aside import kept_letters

RECEIVES_MAX = 5
"""After which a message is a dead letter. What is merely too early, or throttled, is sent again by its handler and does not count."""
VISIBILITY_TIMES_TIMEOUT = 6
"""AWS's advice: room for a throttled function's own tries before the message is shown to somebody else."""


class PolledQueue(Construct):
    def __init__(self, scope: Construct, name: str, *, queue_name: str, timeout: Duration) -> None:
        """`timeout` is that of the function that will work it off."""
        super().__init__(scope, name)
        self.dead_letters = kept_letters(self, "DeadLetters", f"{queue_name}-dead")
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=queue_name,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(4),
            receive_message_wait_time=Duration.seconds(20),
            visibility_timeout=Duration.seconds(timeout.to_seconds() * VISIBILITY_TIMES_TIMEOUT),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=RECEIVES_MAX),
        )

    def worked_off_by(self, function: ServiceFunction, *, concurrency: int, window_seconds: int) -> None:
        function.function.add_event_source(
            sources.SqsEventSource(
                self.queue,
                batch_size=BATCH_MAX_WITH_WINDOW if window_seconds else BATCH_MAX,
                max_batching_window=Duration.seconds(window_seconds) if window_seconds else None,
                # Few batches at a time keep writers of one stream from meeting.
                max_concurrency=concurrency,
                # One bad message must not bring the others of its batch back.
                report_batch_item_failures=True,
            )
        )
        acknowledge(
            function.function,
            {
                "Serverless-LambdaEventSourceMappingDestination": "Lambda takes no destination for SQS: what fails stays in the "
                "queue and, after its receives, goes to the dead letters."
            },
        )
