"""Events from EventBridge (of the deployment's bus, and of the buckets that it listens to) and messages of its queue, where it has one.

Each is delivered at least once and in any order; what it starts follows from the event alone, so a second delivery starts nothing. An event
that no workflow waits for is nothing; a message that none waits for fails, and so becomes a dead letter, because somebody sent it here.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.errors import NotFound
from shared.triggers import Occurrence, bus_occurrence, queue_occurrence
from shared.usecases.triggers import Taken

logger = logger_of("trigger")
metrics = metrics_of("trigger")


class Take(Protocol):
    def __call__(self, occurrence: Occurrence, *, by: str) -> Sequence[Taken]: ...


def make_handler(take: Take) -> Handler:
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        if "Records" not in event:
            taken = take(bus_occurrence(event), by=f"event:{event.get('source', '')}"[:128])
            _count(taken)
            return {"taken": [f"{one.run} {one.fate}" for one in taken]}
        with processor(event["Records"], message):
            processor.process()
        return dict(processor.response())

    def message(record: SQSRecord) -> None:
        sent = (record.raw_event.get("attributes") or {}).get("SentTimestamp")
        at = datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None
        taken = take(queue_occurrence(record.message_id, record.body, at), by="queue")
        _count(taken)
        if not taken:
            raise NotFound("no workflow waits for this message")

    return doorway(logger, metrics, handle)


def _count(taken: Sequence[Taken]) -> None:
    for fate in ("started", "refused", "missed"):
        number = sum(one.fate == fate for one in taken)
        if number:
            metrics.add_metric(f"Events{fate.capitalize()}", "Count", number)
    for one in taken:
        if one.fate == "refused":
            logger.warning("refused", extra={"workflow": one.workflow, "trigger": one.trigger, "reason": one.reason})
