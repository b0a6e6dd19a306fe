"""State changes on their way out: to callables in this process, or to a URL as EventBridge (PutEvents) or SQS would be called.

One thread sends, in order, so that a slow listener holds up nothing else.
"""

import json
import queue
import threading
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.compute.faults import Faults

REGION = "eu-central-1"
ACCOUNT = "123456789012"

Listener = Callable[[dict[str, Any]], None]


def envelope(source: str, kind: str, detail: dict[str, Any], resources: list[str]) -> dict[str, Any]:
    """An event as EventBridge delivers it; the version on top is always 0."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": source,
        "account": ACCOUNT,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": resources,
        "detail": detail,
    }


class Events:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._held: list[dict[str, Any]] = []
        self.listeners: list[Listener] = []
        self.sent: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def emit(self, source: str, kind: str, detail: dict[str, Any], resources: list[str]) -> None:
        self._queue.put(envelope(source, kind, detail, resources))

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(5)

    def _send(self) -> None:
        while (event := self._queue.get()) is not None:
            faults = self._faults
            if faults.events_lost or not set(faults.events_lost_that_say).isdisjoint(_words(event["detail"])):
                continue
            self._held += [event, event] if faults.events_twice else [event]
            if len(self._held) < faults.events_reversed:
                continue
            held = self._held[::-1] if faults.events_reversed else self._held
            self._held = []
            for one in held:
                self.sent.append(one)
                for listener in list(self.listeners):
                    listener(one)


def _words(detail: dict[str, Any]) -> set[str]:
    return {value for value in detail.values() if isinstance(value, str)}


def to_event_bus(url: str, bus: str = "default") -> Listener:
    def put(event: dict[str, Any]) -> None:
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "Resources": event["resources"],
            "EventBusName": bus,
        }
        _post(url, "events", "AWSEvents.PutEvents", "1.1", {"Entries": [entry]})

    return put


def to_queue(url: str, queue_url: str) -> Listener:
    def put(event: dict[str, Any]) -> None:
        body = {"QueueUrl": queue_url, "MessageBody": json.dumps(event)}
        _post(url, "sqs", "AmazonSQS.SendMessage", "1.0", body)

    return put


def _post(url: str, service: str, operation: str, version: str, body: dict[str, Any]) -> None:
    # Emulators take the service and the account from the credential and check no signature.
    credential = f"testing/20260101/{REGION}/{service}/aws4_request"
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": f"application/x-amz-json-{version}",
            "X-Amz-Target": operation,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
