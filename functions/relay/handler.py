"""The table's stream: brings views and bells up to date for every stream that moved.

To the relay a record is only the name of a stream: it loads, folds and derives, so records may come late, twice or in any order. A
record that keeps failing is parked by the event source, and what it would have done is repaired when the stream moves or is swept.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.errors import CorruptStream, UnknownEvents
from shared.ids import StreamName
from shared.state.run import Run
from shared.usecases.loading import Loaded

logger = logger_of("relay")
metrics = metrics_of("relay")


def make_handler(load: Callable[[StreamName], Loaded], settle: Callable[[Loaded], None]) -> Handler:
    """`load` gives a stream's newest state; `settle` makes views and bells of it true."""
    processor = BatchProcessor(event_type=EventType.DynamoDBStreams, raise_on_entire_batch_failure=False)

    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        done: set[str] = set()

        def relay(record: DynamoDBRecord) -> None:
            keys = record.dynamodb.keys if record.dynamodb is not None else None
            stream = StreamName(str((keys or {})["stream"]))
            # One load a stream and batch: the newest state covers every record of it.
            if stream in done:
                return
            with logger.append_context_keys(stream=stream):
                try:
                    loaded = load(stream)
                except (CorruptStream, UnknownEvents) as error:
                    # Retrying cannot help, and must not hold up the shard; the sweep counts it until somebody acts.
                    logger.error("left alone: %s", error)
                    metrics.add_metric("StreamsLeftAlone", "Count", 1)
                else:
                    settle(loaded)
                    _count(loaded)
            done.add(stream)

        with processor(event["Records"], relay):
            processor.process()
        return dict(processor.response())

    return doorway(logger, metrics, handle)


def _count(loaded: Loaded) -> None:
    run = loaded.state
    if isinstance(run, Run):
        if run.doubted:
            metrics.add_metric("AttemptsInDoubt", "Count", run.doubted)
        if run.flagged:
            metrics.add_metric("StopsUnconfirmed", "Count", run.flagged)
        if run.outcome is not None:
            metrics.add_metric(f"Runs{run.outcome.capitalize()}", "Count", 1)
