"""A queue in memory with SQS's delivery rules: at least once, invisible while somebody works on it, delays, a bound on receives,
and a place for what keeps failing. Nothing in it is durable, and nothing needs to be: a start refills it from the events.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

VISIBILITY_SECONDS = 30.0
"""After this long without an answer a message is delivered again."""
RECEIVES_MAX = 5
"""Deliveries of one message; after them it is parked."""
PARKED_MAX = 1_000
"""Parked messages kept for people to see; the oldest go first."""


@dataclass(slots=True)
class Message:
    body: Any
    ready_at: float
    """When it could be received first, on the queue's clock."""
    receives: int = 0


class MemoryQueue:
    """For one thread. `monotonic` gives seconds that never go back."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ready: deque[Message] = deque()
        self._later: list[tuple[float, int, Message]] = []
        self._taken: dict[int, tuple[float, Message]] = {}
        self._sequence = 0
        self.parked: deque[Message] = deque(maxlen=PARKED_MAX)

    def send(self, bodies: Iterable[Any], *, delay_seconds: float = 0) -> None:
        ready_at = self._monotonic() + delay_seconds
        for body in bodies:
            if delay_seconds > 0:
                self._put_later(ready_at, Message(body, ready_at))
            else:
                self._ready.append(Message(body, ready_at))

    def receive(self, most: int) -> list[tuple[int, Any]]:
        """Up to `most` messages with their receipts; each comes again unless `done` is called in time."""
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        for receipt in [receipt for receipt, (until, _) in self._taken.items() if until <= now]:
            self._give_back(self._taken.pop(receipt)[1], 0)
        received: list[tuple[int, Any]] = []
        while self._ready and len(received) < most:
            message = self._ready.popleft()
            message.receives += 1
            self._sequence += 1
            self._taken[self._sequence] = (now + VISIBILITY_SECONDS, message)
            received.append((self._sequence, message.body))
        return received

    def done(self, receipt: int) -> None:
        """The message was dealt with; forgetting a receipt that expired meanwhile is no error."""
        self._taken.pop(receipt, None)

    def failed(self, receipt: int, *, delay_seconds: float) -> None:
        """Deliver it again after a while, or park it when it was delivered too often."""
        taken = self._taken.pop(receipt, None)
        if taken is not None:
            self._give_back(taken[1], delay_seconds)

    def put_off(self, receipt: int, *, delay_seconds: float) -> None:
        """Deliver it again after a while, as if it had not been delivered: it was not the message that failed."""
        taken = self._taken.pop(receipt, None)
        if taken is not None:
            taken[1].receives -= 1
            self._give_back(taken[1], delay_seconds)

    def next_in(self) -> float | None:
        """Seconds until something can be received; None when nothing waits."""
        if self._ready:
            return 0.0
        moments = [until for until, _ in self._taken.values()]
        if self._later:
            moments.append(self._later[0][0])
        return max(min(moments) - self._monotonic(), 0.0) if moments else None

    def oldest_seconds(self) -> float:
        """For how long the one that waits longest could have been dealt with; may be asked in any thread."""
        waiting = [message.ready_at for message in list(self._ready)[:1]]
        waiting += [message.ready_at for _, message in list(self._taken.values())]
        return max(self._monotonic() - min(waiting), 0.0) if waiting else 0.0

    def __len__(self) -> int:
        return len(self._ready) + len(self._later) + len(self._taken)

    def _give_back(self, message: Message, delay_seconds: float) -> None:
        if message.receives >= RECEIVES_MAX:
            self.parked.append(message)
        elif delay_seconds > 0:
            self._put_later(self._monotonic() + delay_seconds, message)
        else:
            self._ready.append(message)

    def _put_later(self, at: float, message: Message) -> None:
        self._sequence += 1
        heapq.heappush(self._later, (at, self._sequence, message))
