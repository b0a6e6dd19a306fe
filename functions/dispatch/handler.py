"""SQS to targets: parses a batch of effects, has them carried out, and puts back what has to be tried again.

A message that is not ours fails alone and ends in the dead-letter queue; everything else is acknowledged, because the state decides what
is still to be done, not the message.
"""

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.codec import effects_from_json
from shared.effects import Effect, StartAttempt
from shared.ports import Effects

logger = logger_of("dispatch")
metrics = metrics_of("dispatch")

RETRY_DELAY_SECONDS = (5.0, 20.0)
"""What could not be done now is sent again after a time in this range: spread, so that rivals do not meet again."""


def make_handler(work: Callable[[Sequence[Effect], Collection[StartAttempt]], list[Effect]], again: Effects) -> Handler:
    """`work` carries out effects, knowing which starts were delivered before, and answers those to be tried again; `again` is the queue
    they came from."""
    # A batch that fails as a whole is still answered item by item: raising would cost a cold start.
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        effects: list[Effect] = []
        redelivered: set[StartAttempt] = set()

        def read(record: SQSRecord) -> None:
            told = effects_from_json(record.body)
            effects.extend(told)
            if record.attributes.get("ApproximateReceiveCount", "1") != "1":
                redelivered.update(effect for effect in told if isinstance(effect, StartAttempt))

        with processor(event["Records"], read):
            processor.process()
        later = work(effects, redelivered)
        if later:
            metrics.add_metric("EffectsTriedAgain", "Count", len(later))
            logger.warning("some effects are tried again", extra={"count": len(later)})
            again.send(later, delay_seconds=random.uniform(*RETRY_DELAY_SECONDS))  # noqa: S311  (a spread, not a secret)
        return dict(processor.response())

    return doorway(logger, metrics, handle)
