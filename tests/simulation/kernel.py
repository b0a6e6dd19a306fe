"""Simulated time and simulated processes: one seed decides what happens when, who is interrupted where, and what goes wrong.

A process is a greenlet. At every point (before and after each call of a port, and of a target's API) it hands over to the kernel, time
passes, and others work; there it may also be killed. So all interleavings of calls can happen, and nothing else decides: the same
seed plays the same history.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from greenlet import greenlet

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEPS_MAX = 400_000
"""Events of one play; more means that something turns in a circle."""

_Item = TypeVar("_Item")


class Crash(BaseException):
    """The process was killed here; nothing of it goes on."""


class NeverEnds(AssertionError):
    """Something turns in a circle."""


@dataclass
class Process:
    """An invocation of a function, or what a person's program does."""

    name: str
    body: greenlet
    dies_at: datetime
    """Killed there, wherever it is: a function's time-out."""
    over: Callable[[BaseException | None], None]
    done: bool = False


class Kernel:
    """What everything simulated is made with."""

    def __init__(self, seed: int, *, faults: "Sequence[Fault]" = ()) -> None:
        self.random = random.Random(seed)
        self.now = BEGIN
        self.faults = {fault.name: fault for fault in faults}
        self.reached: Counter[str] = Counter()
        """Rare branches, by name, and how often they were taken."""
        self.injected: Counter[str] = Counter()
        """Faults, by name, and how often they happened."""
        self.points = 0
        self.point_names: list[str] | None = None
        """Where crash points are enumerated, the name of each that was passed."""
        self.crash_at: int | None = None
        """The number of the point at which its process is killed."""
        self.calls = 0
        self.fail_at: tuple[int, str] | None = None
        """The number of the call to a target that fails, and how."""
        self.orderly = False
        """No chance at all: calls take no time, and nothing goes wrong but what was asked for."""
        self._planned: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = 0
        self._steps = 0
        self._hub = greenlet.getcurrent()
        self.running: Process | None = None
        self._alive: list[Process] = []

    # --- time -----------------------------------------------------------------------------------------------------------

    def at(self, moment: datetime, do: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._planned, (max(moment, self.now), self._numbers, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.now + timedelta(seconds=seconds), do)

    def run(self, until: Callable[[], bool], *, deadline: datetime) -> bool:
        """Let things happen until that holds; False when it does not before the deadline, or nothing more can happen."""
        while not until():
            if not self._planned or self._planned[0][0] > deadline:
                return False
            self._steps += 1
            if self._steps > STEPS_MAX:
                raise NeverEnds(f"more than {STEPS_MAX} things happened by {self.now}")
            self.now, _, do = heapq.heappop(self._planned)
            do()
        return True

    # --- chance ---------------------------------------------------------------------------------------------------------

    def happens(self, fault: str) -> bool:
        """Whether that fault strikes now; counted if so. A fault that this play does not have never does."""
        known = self.faults.get(fault)
        if known is None or self.orderly or not known.holds(self.now):
            return False
        if self.random.random() >= known.chance:
            return False
        self.injected[fault] += 1
        return True

    def during(self, fault: str) -> bool:
        """Whether an outage of that name is going on, whatever its chance."""
        known = self.faults.get(fault)
        if known is None or not known.holds(self.now):
            return False
        self.injected[fault] += 1
        return True

    def sometimes(self, branch: str) -> None:
        """A rare branch was taken. The suite fails if over all its seeds one was never reached."""
        self.reached[branch] += 1

    def pick(self, items: Sequence[_Item]) -> _Item:
        return items[self.random.randrange(len(items))]

    def between(self, least: float, most: float) -> float:
        return least if self.orderly else self.random.uniform(least, most)

    # --- processes ------------------------------------------------------------------------------------------------------

    def spawn(
        self,
        name: str,
        do: Callable[[], Any],
        *,
        seconds_max: float = 900,
        over: Callable[[BaseException | None], None] = lambda _: None,
    ) -> Process:
        """Begin a process now. `over` is told when it ends, with what ended it: None, its own error, or `Crash`."""

        def body() -> None:
            ended: BaseException | None = None
            try:
                do()
            except Crash as crash:
                ended = crash
            except Exception as error:  # noqa: BLE001  (whoever began it decides what an error means)
                ended = error
            process.done = True
            self._alive.remove(process)
            self.after(0, lambda: over(ended))

        process = Process(name, greenlet(body, parent=self._hub), self.now + timedelta(seconds=seconds_max), over)
        self._alive.append(process)
        self.after(0, lambda: self._go_on(process))
        return process

    def end_everybody(self) -> None:
        """Every process is killed where it stands."""
        for process in self._alive:
            process.dies_at = min(process.dies_at, self.now)

    def side_by_side(self, tasks: Sequence[Callable[[], None]], *, workers: int = 8) -> None:
        """Carry out tasks as the threads of one process do, and wait for all of them. When one is killed, the process is."""
        process = self.running
        if process is None or self.orderly or len(tasks) <= 1:
            for task in tasks:
                task()
            return
        left = deque(tasks)
        errors: list[BaseException] = []
        threads: list[Process] = []
        ended = 0

        def work() -> None:
            while left and not errors:
                left.popleft()()

        def over(error: BaseException | None) -> None:
            nonlocal ended
            ended += 1
            if error is not None:
                errors.append(error)
            if isinstance(error, Crash):
                for thread in threads:
                    thread.dies_at = self.now
            if ended == len(threads):
                self._go_on(process)

        seconds = (process.dies_at - self.now).total_seconds()
        threads += [
            self.spawn(process.name, work, seconds_max=seconds, over=over) for _ in range(min(workers, len(tasks)))
        ]
        self._hub.switch()
        for error in errors:
            if isinstance(error, Crash):
                raise error
        for error in errors:
            raise error

    def point(self, name: str, *, seconds: tuple[float, float] = (0.001, 0.02)) -> None:
        """A place where time passes, others may work, and this process may be killed. Outside processes it does nothing."""
        process = self.running
        if process is None:
            return
        self.points += 1
        if self.point_names is not None:
            self.point_names.append(f"{process.name}: {name}")
        if self.crash_at == self.points:
            self.injected["crash"] += 1
            raise Crash(f"point {self.points}: {process.name}, {name}")
        if self.happens("crash"):
            raise Crash(name)
        if self.orderly:
            return
        wait = self.random.uniform(*seconds)
        if self.happens("stall"):
            wait += self.random.choice((2.0, 20.0, 70.0))
        moment = self.now + timedelta(seconds=wait)
        self.at(min(moment, max(process.dies_at, self.now)), lambda: self._go_on(process))
        self._hub.switch()
        if self.now >= process.dies_at:
            self.injected["time-out of a function"] += 1
            raise Crash(f"{name}: out of time")

    def _go_on(self, process: Process) -> None:
        before, self.running = self.running, process
        try:
            process.body.switch()
        finally:
            self.running = before


class Turns:
    """A lock for processes: a real one would stop the kernel, which is what lets its holder go on."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            self._kernel.point("waits for its turn")
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a chance, at each occasion, while its time is (always, if no times are given)."""

    name: str
    chance: float = 1.0
    begin: datetime | None = None
    end: datetime | None = None

    def holds(self, now: datetime) -> bool:
        return (self.begin is None or self.begin <= now) and (self.end is None or now < self.end)
