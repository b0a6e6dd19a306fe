"""What ECS, EMR and SSM tell through EventBridge and a queue: reports to the runs they are about.

A report is a hint, or the truth where it carries everything; either way the run's state decides what it means. Messages about work that is
not ours are taken and dropped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.effects import Effect
from shared.ports import Effects, Report

logger = logger_of("status")
metrics = metrics_of("status")


def make_handler(
    told: Callable[[Mapping[str, Any]], list[Report]],
    commit: Callable[[Sequence[Report]], list[Effect]],
    again: Effects,
    *,
    side_by_side: Callable[[Sequence[Callable[[], None]]], None],
) -> Handler:
    """`told` makes reports of an event, asking the target where it must; `commit` stores them and answers what has to be looked at
    again, which goes to `again`, the queue of effects. `side_by_side` carries out tasks: a hundred events that each need a look at their target
    must not take a hundred times as long as one."""
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        reports: list[Report] = []
        # Delivered fifty times, it is still one event.
        found: dict[str, list[Report] | Exception] = {record["body"]: [] for record in event["Records"]}

        def look(body: str) -> None:
            try:
                found[body] = told(_event(body))
            except Exception as error:  # noqa: BLE001  (it fails its own message below, and no other)
                found[body] = error

        def read(record: SQSRecord) -> None:
            known = found[record.body]
            if isinstance(known, Exception):
                raise known

        side_by_side([partial(look, body) for body in found])
        for known in found.values():
            reports += known if isinstance(known, list) else []
        with processor(event["Records"], read):
            processor.process()
        later = commit(reports)
        if later:
            logger.warning("some reports are looked at again", extra={"count": len(later)})
            again.send(later, delay_seconds=5)
        metrics.add_metric("Reports", "Count", len(reports))
        return dict(processor.response())

    return doorway(logger, metrics, handle)


def _event(body: str) -> Mapping[str, Any]:
    event = json.loads(body)
    if not isinstance(event, dict):
        raise ValueError("a message must be an event")
    return event
