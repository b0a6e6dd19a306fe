"""Hands notices to their channels beside the loop: a mail server that is slow, or a program that hangs, holds up no job.

A few threads, made when the first notice is there, do nothing but call a channel; what is recorded, and when, the loop decides. A
process that is killed meanwhile has recorded nothing, so its successor hands the notice over again, under the same id.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from shared.decide.commands import NoticeCommand
from shared.ids import StreamName
from shared.usecases.notices import Delivery

AT_ONCE = 4
"""Notices on their way at once."""
WAITING_MAX = 1_000
"""Notices that wait for a thread; the due row brings back what does not fit."""


class Tellers:
    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._answers: deque[tuple[StreamName, NoticeCommand]] = deque()
        self._closed = False

    def fileno(self) -> int:
        """Readable when there are answers."""
        return self._read

    def knows(self, notice: str) -> bool:
        """Whether it is on its way, or its answer waits to be recorded."""
        with self._lock:
            return notice in self._under_way

    def tell(self, delivery: Delivery) -> None:
        """Hand it over, unless it is on its way."""
        with self._lock:
            if delivery.message.id in self._under_way or len(self._under_way) >= WAITING_MAX:
                return
            self._under_way.add(delivery.message.id)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="notices")
        self._pool.submit(self._attempt, delivery)

    def _attempt(self, delivery: Delivery) -> None:
        command = delivery.attempt()
        with self._lock:
            if self._closed:
                return
            self._answers.append((delivery.stream, command))
            # Full: then it is readable already.
            with contextlib.suppress(BlockingIOError):
                os.write(self._write, b"x")

    def answers(self) -> list[tuple[StreamName, NoticeCommand]]:
        """What channels answered, to be recorded; each until it is `recorded`."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        with self._lock:
            return list(self._answers)

    def recorded(self, answers: list[tuple[StreamName, NoticeCommand]]) -> None:
        with self._lock:
            for answer in answers:
                self._answers.remove(answer)
                self._under_way.discard(getattr(answer[1], "notice", ""))

    def waited_for(self, seconds_max: float) -> Iterator[None]:
        """Again and again until nothing is on its way, or so long."""
        until = time.monotonic() + seconds_max
        while time.monotonic() < until:
            with self._lock:
                if not self._under_way:
                    return
            yield
            time.sleep(0.01)

    def close(self) -> None:
        """Without waiting for channels: what they answer from now on is asked again by the next engine."""
        with self._lock:
            self._closed = True
            os.close(self._read)
            os.close(self._write)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
