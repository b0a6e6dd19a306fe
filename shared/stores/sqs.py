"""Effects on an SQS queue. Few requests: what one decision led to travels in one message, and messages leave ten at a time.

A send that fails is not an error of the decision, which is stored: the sweep hands over again whatever was lost.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING

from shared.codec import effects_to_json
from shared.effects import Effect
from shared.errors import StoreUnavailable
from shared.stores.aws import translated

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

MESSAGE_EFFECTS_MAX = 25
"""Ours: dispatching that many calls to a target takes a few seconds, far from the function's time-out."""
BATCH_MAX = 10
"""SendMessageBatch takes 10 messages, 1 MiB in all."""
BATCH_BYTES_MAX = 900_000
SEND_TRIES_MAX = 3
DELAY_SECONDS_MAX = 900
"""SQS delays a message by 15 minutes at most."""


class SqsEffects:
    """Collects nothing: what `send` took is on the queue when it returns, or it raises `StoreUnavailable`."""

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        # Whole seconds, and never early: what comes before its time is in vain.
        delay = min(max(ceil(delay_seconds), 0), DELAY_SECONDS_MAX)
        for bodies in _batches(effects):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "MessageBody": body, "DelaySeconds": delay} for number, body in enumerate(bodies)
            ]
            self._send(entries)

    def _send(self, entries: "list[SendMessageBatchRequestEntryTypeDef]") -> None:
        for _ in range(SEND_TRIES_MAX):
            with translated("hand over effects"):
                answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
            # SQS answers 200 also when it took only some of them.
            failed = {one["Id"] for one in answer.get("Failed", [])}
            if not failed:
                return
            entries = [entry for entry in entries if entry["Id"] in failed]
        raise StoreUnavailable(f"{len(entries)} messages were not taken by the queue in {SEND_TRIES_MAX} tries")


def _batches(effects: Iterable[Effect]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for body in _bodies(list(effects)):
        if batch and (len(batch) >= BATCH_MAX or size + len(body) > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(body)
        # Every character may be escaped or take several bytes; requests are mostly ASCII names.
        size += len(body.encode())
    if batch:
        yield batch


def _bodies(effects: Sequence[Effect]) -> Iterator[str]:
    for start in range(0, len(effects), MESSAGE_EFFECTS_MAX):
        yield effects_to_json(effects[start : start + MESSAGE_EFFECTS_MAX])
