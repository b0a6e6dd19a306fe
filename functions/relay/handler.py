"""The table's stream: brings views and bells up to date for every stream that moved, and wakes the runs that wait for it.

To the relay a record is only the name of a stream: it loads, folds and derives, so records may come late, twice or in any order. A
record that keeps failing is parked by the event source, and what it would have done is repaired when the stream moves or is swept.
"""

import json
from collections.abc import Callable
from typing import Any, Protocol

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.errors import CorruptStream, UnknownEvents
from shared.ids import StreamName
from shared.state.run import Run
from shared.usecases.loading import Loaded

logger = logger_of("relay")
metrics = metrics_of("relay")


class Load(Protocol):
    def __call__(self, stream: StreamName, version: int = 0) -> Loaded:
        """The state at that version or later."""
        ...


def make_handler(
    load: Load, settle: Callable[[Loaded], None], awaited: Callable[[StreamName], bool] = lambda _: False
) -> Handler:
    """`load` gives a stream's newest state; `settle` makes views and bells of it true, and wakes who waits for it. `awaited`: whether
    somebody waits for a job of that run."""
    processor = BatchProcessor(event_type=EventType.DynamoDBStreams, raise_on_entire_batch_failure=False)

    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        covered: dict[StreamName, int] = {}
        waited_for: dict[StreamName, bool] = {}

        def relay(record: DynamoDBRecord) -> None:
            stream, version = _moved(record)
            # One load a stream and batch, as a rule: the newest state covers every record of it.
            if version <= covered.get(stream, 0):
                return
            types = _types(record)
            if not _is_news(version, types):
                if "AttemptSucceeded" not in types:
                    return
                if stream not in waited_for:
                    waited_for[stream] = awaited(stream)
                if not waited_for[stream]:
                    return
            with logger.append_context_keys(stream=stream):
                try:
                    loaded = load(stream, version)
                except (CorruptStream, UnknownEvents) as error:
                    # Retrying cannot help, and must not hold up the shard; the sweep counts it until somebody acts.
                    logger.error("left alone: %s", error)
                    metrics.add_metric("StreamsLeftAlone", "Count", 1)
                    covered[stream] = version
                else:
                    settle(loaded)
                    _count(loaded)
                    covered[stream] = max(version, loaded.version)

        with processor(event["Records"], relay):
            processor.process()
        return dict(processor.response())

    return doorway(logger, metrics, handle)


ROUTINE = frozenset(
    {"AttemptClaimed", "AttemptQueued", "AttemptStarted", "AttemptSubmitted", "AttemptSucceeded", "JobsReady"}
)
"""What every job of a run goes through when all is well: it moves numbers in the run's row, and nothing else that lists show."""
ROUTINE_EVERY = 20
"""Versions after which the numbers are brought up to date all the same; what is shown of one run is read from its stream."""


def _moved(record: DynamoDBRecord) -> tuple[StreamName, int]:
    keys = (record.dynamodb.keys if record.dynamodb is not None else None) or {}
    return StreamName(str(keys["stream"])), int(keys["version"])


def _types(record: DynamoDBRecord) -> frozenset[str]:
    """Of the events that it holds; none where that cannot be told."""
    image = record.dynamodb.new_image if record.dynamodb is not None else None
    try:
        return frozenset(event["type"] for event in json.loads(image["body"])) if image else frozenset()
    except (ValueError, TypeError, KeyError):
        return frozenset()


def _is_news(version: int, types: frozenset[str]) -> bool:
    """Whether lists should show what this record is about at once. A stream that shows no images says nothing, so everything is news.

    Only a hint, and nothing is lost when it is wrong: the next record covers this one, and the sweep sees to the last.
    """
    return version == 1 or version % ROUTINE_EVERY == 0 or not types or not types <= ROUTINE


def _count(loaded: Loaded) -> None:
    run = loaded.state
    if isinstance(run, Run):
        if run.doubted:
            metrics.add_metric("AttemptsInDoubt", "Count", run.doubted)
        if run.flagged:
            metrics.add_metric("StopsUnconfirmed", "Count", run.flagged)
        if run.outcome is not None:
            metrics.add_metric(f"Runs{run.outcome.capitalize()}", "Count", 1)
