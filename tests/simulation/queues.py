"""What carries messages between functions: SQS queues, the table's stream, EventBridge's rules, by their rules of delivery.

Nothing is delivered exactly once. A queue shows a message again when it was not deleted in time, sets it aside after so many receives, and now and
then delivers it twice; the stream delivers in order by shard, again and again until a batch is done or too old; a rule may lose what
no target guarantees, and repeat and reorder everything.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.codec import effects_to_json
from shared.effects import Effect
from shared.errors import StoreUnavailable
from shared.ports import Record
from tests.simulation.kernel import Kernel

HOP_SECONDS = (0.005, 0.04)
STREAM_HOP_SECONDS = (0.1, 0.6)
RECEIVES_MAX = 5
EFFECTS_IN_MESSAGE_MAX = 25
SHARDS = 4
RECORD_AGE_MAX = timedelta(hours=6)
"""What the event source still delivers; older records are parked unread."""
STREAM_KEEPS = timedelta(hours=24)
"""Records of a stream are gone after this."""
STREAM_TRIES_MAX = 10

Invoke = Callable[[str, dict[str, Any], Callable[[Any, BaseException | None], None]], bool]
"""Function, event, and who is told how it ended; False when as many as may are working."""


@dataclass
class Message:
    body: str
    receives: int = 0
    repeated: bool = False
    """It, or the one that it repeats, was delivered twice already."""


@dataclass
class Queue:
    """An SQS queue that one function works off."""

    kernel: Kernel
    name: str
    function: str
    invoke: Invoke
    visibility_seconds: float
    batch_max: int
    window_seconds: float = 0.0
    shown: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    taken: int = 0
    """Messages that somebody is working at, or has lost."""
    delayed: int = 0
    _polling: bool = False

    def send(self, body: str, *, delay_seconds: float = 0) -> None:
        message = Message(body)
        self.delayed += 1
        self.kernel.after(delay_seconds + self.kernel.between(*HOP_SECONDS), lambda: self._arrive(message))

    @property
    def idle(self) -> bool:
        return not (self.shown or self.taken or self.delayed)

    def _arrive(self, message: Message) -> None:
        self.delayed -= 1
        self._show(message)

    def _show(self, message: Message) -> None:
        self.shown.append(message)
        self._poll_after(self.window_seconds)

    def _poll_after(self, seconds: float) -> None:
        if not self._polling:
            self._polling = True
            self.kernel.after(seconds, self._poll)

    def _poll(self) -> None:
        self._polling = False
        if not self.shown:
            return
        if self.kernel.happens("messages out of order"):
            self.kernel.random.shuffle(self.shown)
        batch, self.shown = self.shown[: self.batch_max], self.shown[self.batch_max :]
        records = [
            {
                "messageId": str(number),
                "body": one.body,
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": str(one.receives + 1)},
            }
            for number, one in enumerate(batch)
        ]
        if not self.invoke(self.function, {"Records": records}, lambda answer, error: self._done(batch, answer, error)):
            # As many as may are working; nothing was received.
            self.shown = batch + self.shown
            self._poll_after(1.0)
            return
        self.taken += len(batch)
        for one in batch:
            one.receives += 1
            if not one.repeated and self.kernel.happens("a message is delivered twice"):
                one.repeated = True
                twin = Message(one.body, repeated=True)
                self.delayed += 1
                self.kernel.after(self.kernel.between(0, 5), lambda twin=twin: self._arrive(twin))  # type: ignore[misc]
        if self.shown:
            self._poll_after(0.0)

    def _done(self, batch: list[Message], answer: Any, error: BaseException | None) -> None:
        failed = (
            {str(number) for number in range(len(batch))}
            if error is not None or not isinstance(answer, Mapping)
            else {one["itemIdentifier"] for one in answer.get("batchItemFailures", [])}
        )
        for number, message in enumerate(batch):
            if str(number) not in failed:
                self.taken -= 1
            else:
                self.kernel.after(self.visibility_seconds, lambda message=message: self._again(message))  # type: ignore[misc]

    def _again(self, message: Message) -> None:
        self.taken -= 1
        if message.receives >= RECEIVES_MAX:
            self.kernel.sometimes(f"a dead letter of {self.name}")
            self.dead.append(message)
        else:
            self._show(message)

    def redrive(self) -> int:
        """What an operator does with dead letters once the cause is mended; how many there were."""
        letters, self.dead = self.dead, []
        for one in letters:
            self.send(one.body)
        return len(letters)


class EffectsPort:
    """`Effects` on a queue, as `SqsEffects` sends: many in one message; what is not taken raises `StoreUnavailable`."""

    def __init__(self, kernel: Kernel, queue: Queue) -> None:
        self._kernel = kernel
        self._queue = queue

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        wanted = list(effects)
        if not wanted:
            return
        kernel = self._kernel
        kernel.point("before effects.send")
        if kernel.happens("the queue does not take a message"):
            raise StoreUnavailable("effects: not taken")
        for start in range(0, len(wanted), EFFECTS_IN_MESSAGE_MAX):
            self._queue.send(
                effects_to_json(wanted[start : start + EFFECTS_IN_MESSAGE_MAX]), delay_seconds=delay_seconds
            )
        kernel.point("after effects.send")
        if kernel.happens("the queue takes a message and does not say so"):
            raise StoreUnavailable("effects: no answer")


class TableStream:
    """The events table's stream, with the relay behind it."""

    def __init__(self, kernel: Kernel, invoke: Invoke, *, batch_max: int = 100, window_seconds: float = 2.0) -> None:
        self._kernel = kernel
        self._invoke = invoke
        self._batch_max = batch_max
        self._window = window_seconds
        self._shards: list[list[tuple[datetime, dict[str, Any]]]] = [[] for _ in range(SHARDS)]
        self._working = [False] * SHARDS
        self._tries = [0] * SHARDS
        self._numbers = 0
        self.parked = 0

    @property
    def idle(self) -> bool:
        return not any(self._shards)

    def clear(self) -> None:
        """A new table has a stream of its own, and nothing in it."""
        for shard in self._shards:
            shard.clear()

    def put(self, record: Record) -> None:
        self._numbers += 1
        image = {"version": {"N": str(record.version)}, "body": {"S": record.body}}
        shown = {
            "eventSource": "aws:dynamodb",
            "eventName": "INSERT",
            "dynamodb": {
                "SequenceNumber": str(self._numbers),
                "Keys": {"stream": {"S": record.stream}, "version": {"N": str(record.version)}},
                "NewImage": image,
            },
        }
        shard = zlib.crc32(record.stream.encode()) % SHARDS
        self._shards[shard].append((self._kernel.now, shown))
        self._kernel.after(self._kernel.between(*STREAM_HOP_SECONDS) + self._window, lambda: self._deliver(shard))

    def _deliver(self, shard: int) -> None:
        kernel, records = self._kernel, self._shards[shard]
        if self._working[shard] or not records:
            return
        if kernel.during("outage of the stream"):
            kernel.after(600, lambda: self._deliver(shard))
            return
        keeps = kernel.now - STREAM_KEEPS
        lost = [one for one in records if one[0] < keeps]
        if lost:
            kernel.sometimes("records of the stream were lost")
        young = kernel.now - RECORD_AGE_MAX
        self.parked += sum(1 for at, _ in records if keeps <= at < young)
        records[:] = [one for one in records if one[0] >= young]
        if not records:
            return
        size = 1 if self._tries[shard] else self._batch_max
        batch = [shown for _, shown in records[:size]]
        if kernel.happens("a poison record"):
            # Whatever cannot be read must hold up nobody else.
            batch = [{"eventSource": "aws:dynamodb", "dynamodb": {"SequenceNumber": "0", "Keys": {}}}, *batch]
        self._working[shard] = True

        def done(answer: Any, error: BaseException | None) -> None:
            self._working[shard] = False
            failed = (
                None if error is not None or not isinstance(answer, Mapping) else answer.get("batchItemFailures", [])
            )
            numbers = [shown["dynamodb"]["SequenceNumber"] for shown in batch]
            first = 0 if failed is None else len(batch)
            if failed:
                first = min(numbers.index(one["itemIdentifier"]) for one in failed)
            through = {number for number in numbers[:first] if number != "0"}
            if failed and numbers[first] == "0":
                # The poison record alone is parked in the end; what stood behind it goes on.
                kernel.sometimes("a poison record was parked")
                first = 0
            elif failed is None or failed:
                self._tries[shard] += 1
                if self._tries[shard] > STREAM_TRIES_MAX:
                    kernel.sometimes("a record of the stream was parked")
                    through.add(batch[0]["dynamodb"]["SequenceNumber"])
                    self.parked += 1
                    self._tries[shard] = 0
            if not failed and failed is not None:
                self._tries[shard] = 0
            if kernel.happens("a batch of the stream is delivered twice"):
                through = set()
            records[:] = [one for one in records if one[1]["dynamodb"]["SequenceNumber"] not in through]
            if records:
                kernel.after(
                    0.5 if not self._tries[shard] else 2.0 ** min(self._tries[shard], 6), lambda: self._deliver(shard)
                )

        if not self._invoke("relay", {"Records": batch}, done):
            self._working[shard] = False
            kernel.after(1.0, lambda: self._deliver(shard))


class Rules:
    """EventBridge's rules from targets to the queue of reports."""

    def __init__(self, kernel: Kernel, reports: Queue) -> None:
        self._kernel = kernel
        self._reports = reports

    def emit(self, event: Mapping[str, Any]) -> None:
        kernel = self._kernel
        source, detail = event.get("source"), event.get("detail", {})
        if source == "aws.ecs" and detail.get("lastStatus") == "RUNNING" and detail.get("group") != "runfold-timed":
            return
        if source == "aws.ecs" and detail.get("lastStatus") not in ("RUNNING", "STOPPED"):
            return
        # ECS promises to tell at least once, EMR and Systems Manager to do their best.
        lossy = "an event of ECS is lost" if source == "aws.ecs" else "an event of EMR or SSM is lost"
        if kernel.happens(lossy):
            return
        times = kernel.pick((2, 3, 50)) if kernel.happens("an event is repeated") else 1
        for _ in range(times):
            late = kernel.pick((30.0, 300.0, 3600.0)) if kernel.happens("an event is late") else 0.0
            self._reports_after(late + kernel.between(0.2, 3.0), json.dumps(event))

    def _reports_after(self, seconds: float, body: str) -> None:
        self._kernel.after(seconds, lambda: self._reports.send(body))
