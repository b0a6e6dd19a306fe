"""Plays AWS between the real handlers, in simulated time: queues with their pollers and windows, the table's stream, the minute's sweep.

What it models, and how. A message that was sent is on its queue a hop later. Each queue has as many pollers as its event source may have
batches under way; every request that puts messages on the queue ends the long poll of one of them, chosen at random, and costs one receive
(ten messages at most). The poller then collects until its window closes or its batch is full, and invokes the function; afterwards the
messages are deleted ten at a time. A long poll that nothing ends costs a receive every twenty seconds. Records of the stream are collected
a shard at a time for as long as its window, or a quarter of a second. Every function has as many warm sandboxes as it may have
batches under way, each with a memory of its own, and an invocation goes to any of them. What a function does in threads is done one after the
other here, and counted as if its threads shared the waiting.
"""

import heapq
import random
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from bench.meter import Meter
from bench.tables import Tables
from functions.telemetry import Handler
from shared.bootstrap.aws import Aws
from shared.bootstrap.threads import WORKERS
from shared.settings import Settings

HOP_SECONDS = 0.016
"""From a send to the poller that waits for it."""
STREAM_HOP_SECONDS = 0.2
POLLERS_IDLE = 5
"""Long polls that Lambda keeps open on a queue without messages."""
LONG_POLL_SECONDS = 20
RECEIVE_MAX = DELETE_MAX = 10
SHARDS = 4
"""Of the stream of a new on-demand table."""
BASE_SECONDS = 0.25
"""Between two looks of Lambda at a shard without a window."""

LATENCY_MS = {"dynamodb": 5.0, "sqs": 8.0, "s3": 25.0, "scheduler": 20.0, "target": 100.0}
OTHER_MS = 10.0
"""Of a call from a function in the same region: what stands for the time that the stand-in of AWS took."""
CPU_FACTOR = 3.5
"""A function of 512 MB has 0.29 of a virtual CPU, so what was measured here takes that much longer there."""


@dataclass
class Usage:
    invocations: int = 0
    gb_seconds: float = 0.0
    cpu_ms: list[float] = field(default_factory=list)
    """Handler time measured here, an invocation each, without the time in calls."""
    led_on_ms: list[float] = field(default_factory=list)
    """Of invocations that led on: until effects were sent, or a target was first asked."""


class Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


class Sandbox(Aws):
    """A warm copy of a function: its own memory, all its clients metered."""

    def __init__(
        self, settings: Settings, clock: Clock, meter: Meter, executors: Mapping[str, Any], tables: Tables | None
    ) -> None:
        """`tables` None: DynamoDB is moto's."""
        super().__init__(settings, now=clock)
        self._meter = meter
        self._tables = tables
        vars(self)["executors"] = executors

    def client(self, service: str) -> Any:
        made = self._meter.watch(super().client(service))
        return self._tables.serve(made) if service == "dynamodb" and self._tables is not None else made


class Context:
    """What Lambda passes beside the event."""

    function_name = "bench"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:bench"
    aws_request_id = "bench"


class Function:
    """Warm sandboxes of one function, and what running them costs."""

    def __init__(self, pump: "Pump", name: str, handlers: list[Handler], *, memory_mb: int) -> None:
        self._pump = pump
        self.name = name
        self._handlers = handlers
        self._memory_gb = memory_mb / 1024
        self.usage = Usage()
        self._began = 0.0
        self._in_calls = 0.0
        self._led_on = False
        self._overlapped_ms = 0.0

    def leads_on(self) -> None:
        """The invocation under way does now what the next link of the chain waits for."""
        if not self._led_on:
            self._led_on = True
            own = time.perf_counter() - self._began - (self._pump.meter.seconds_in_calls - self._in_calls)
            self.usage.led_on_ms.append(1000 * own + self._waited_ms())

    def side_by_side(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Carry out tasks one after the other, and count the time they wait for calls as if workers shared them."""
        workers = [0.0] * WORKERS
        before = first = self._waited_ms()
        for task in tasks:
            task()
            now = self._waited_ms()
            # The next task goes to the worker that is free first.
            workers[workers.index(min(workers))] += now - before
            before = now
        self._overlapped_ms += before - first - max(workers)

    def _waited_ms(self) -> float:
        called = sum(LATENCY_MS.get(one.partition(" ")[0], OTHER_MS) for one in self._pump.meter.operations)
        return called - self._overlapped_ms

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        pump = self._pump
        handler = pump.random.choice(self._handlers)
        pump.meter.operations.clear()
        self._overlapped_ms = 0.0
        self._led_on = False
        self._in_calls = pump.meter.seconds_in_calls
        self._began = time.perf_counter()
        pump.invoked = self
        answer = handler(event, Context())
        own = time.perf_counter() - self._began - (pump.meter.seconds_in_calls - self._in_calls)
        waited = self._waited_ms()
        self.usage.invocations += 1
        self.usage.cpu_ms.append(1000 * own)
        self.usage.gb_seconds += self._memory_gb * max(0.001, own * CPU_FACTOR + waited / 1000)
        return answer


class Queue:
    def __init__(
        self, pump: "Pump", function: Function, *, pollers: int, window_seconds: float, batch_max: int
    ) -> None:
        self._pump = pump
        self._function = function
        self._window = window_seconds
        self._batch_max = batch_max
        self._collected: list[list[str]] = [[] for _ in range(pollers)]
        self._begun = [0] * pollers

    def sent(self, bodies: list[str], delay_seconds: float = 0) -> None:
        self._pump.after(delay_seconds + HOP_SECONDS, lambda: self._arrived(bodies))

    def _arrived(self, bodies: list[str]) -> None:
        poller = self._pump.random.randrange(len(self._collected))
        self._pump.meter.sqs("receive", ceil(len(bodies) / RECEIVE_MAX))
        collected = self._collected[poller]
        collected.extend(bodies)
        if len(collected) >= self._batch_max or not self._window:
            self._deliver(poller)
        elif len(collected) == len(bodies):
            begun = self._begun[poller]
            self._pump.after(self._window, lambda: self._deliver(poller, begun))

    def _deliver(self, poller: int, begun: int | None = None) -> None:
        if begun is not None and begun != self._begun[poller]:
            return
        bodies, self._collected[poller] = self._collected[poller], []
        self._begun[poller] += 1
        for start in range(0, len(bodies), self._batch_max):
            batch = bodies[start : start + self._batch_max]
            records = [
                {"messageId": str(number), "body": body, "eventSource": "aws:sqs", "attributes": {}}
                for number, body in enumerate(batch)
            ]
            answer = self._function.invoke({"Records": records})
            assert not answer["batchItemFailures"], answer
            self._pump.meter.sqs("delete", ceil(len(batch) / DELETE_MAX))


class Stream:
    """The events table's: keys of what was put, and the new item where the deployment's stream shows it."""

    def __init__(
        self, pump: "Pump", function: Function, *, window_seconds: float, batch_max: int, images: bool
    ) -> None:
        self._pump = pump
        self._function = function
        self._window = max(window_seconds, BASE_SECONDS)
        self._batch_max = batch_max
        self._images = images
        self._collected: list[list[dict[str, Any]]] = [[] for _ in range(SHARDS)]

    def put(self, item: Mapping[str, Any]) -> None:
        shown = {"Keys": {"stream": item["stream"], "version": item["version"]}}
        if self._images:
            shown["NewImage"] = dict(item)
        self._pump.after(STREAM_HOP_SECONDS, lambda: self._arrived(shown))

    def _arrived(self, shown: dict[str, Any]) -> None:
        shard = zlib.crc32(shown["Keys"]["stream"]["S"].encode()) % SHARDS
        collected = self._collected[shard]
        collected.append(shown)
        if len(collected) >= self._batch_max:
            self._deliver(shard)
        elif len(collected) == 1:
            self._pump.after(self._window, lambda: self._deliver(shard))

    def _deliver(self, shard: int) -> None:
        records, self._collected[shard] = self._collected[shard], []
        if records:
            answer = self._function.invoke(
                {
                    "Records": [
                        {"eventSource": "aws:dynamodb", "dynamodb": {"SequenceNumber": str(number), **shown}}
                        for number, shown in enumerate(records)
                    ]
                }
            )
            assert not answer["batchItemFailures"], answer


class Pump:
    """Simulated time: what is to happen, in order."""

    def __init__(self, clock: Clock, meter: Meter, seed: int) -> None:
        self.clock = clock
        self.meter = meter
        self.random = random.Random(seed)
        self.invoked: Function | None = None
        """The function that is working, if one is."""
        self._planned: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._planned, (self.clock.at + timedelta(seconds=seconds), self._number, do))

    def run(self, until: Callable[[], bool]) -> None:
        """Let things happen, one after the other, until that holds or nothing is left."""
        while self._planned and not until():
            self.clock.at, _, do = heapq.heappop(self._planned)
            do()
