"""The engine's figures as a page for Prometheus (text format 0.0.4): what the deployed engine tells CloudWatch.

What it promises: asking costs nothing that grows with history and touches no file of the home; a page may be made in any thread
while the engine works. Labels are statuses and outcomes of ours alone, so their number is fixed, and no value of a user, a parameter or a
secret is ever in one.
"""

import os
import time
from collections.abc import Callable, Iterator, Sized
from datetime import datetime

from local.queue import MemoryQueue
from shared.ids import StreamName
from shared.state.run import Run

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATUSES = ("waiting", "running")
OUTCOMES = ("succeeded", "failed", "cancelled")

Samples = dict[str, float]
"""Labels as they are written, such as `{status="running"}` or nothing, to values."""


class Metrics:
    """Written by the engine's thread alone. `refused`: the streams that it leaves alone."""

    def __init__(self, queue: MemoryQueue, refused: Sized, *, now: Callable[[], datetime]) -> None:
        self._queue = queue
        self._refused = refused
        self._now = now
        self._began = time.time()
        self._live: dict[StreamName, tuple[str, int, int]] = {}
        """Status, attempts in doubt and unconfirmed stops of each run under way."""
        self._ended = dict.fromkeys(OUTCOMES, 0)
        self._sweeps = 0
        self._swept_at = time.monotonic()
        self._due_at: datetime | None = None
        self.processes = 0
        """Of attempts under way."""
        self.documents_registered = 0
        self.documents_rejected = 0

    def derived(self, stream: StreamName, run: Run) -> None:
        """The lists show this state of the run now."""
        if run.finished:
            self._live.pop(stream, None)
        else:
            self._live[stream] = (run.status, run.doubted, run.flagged)

    def ended(self, run: Run) -> None:
        """Once for each end of a run; one that is done again ends again."""
        if run.status in self._ended:
            self._ended[run.status] += 1

    def swept(self, due_at: datetime | None) -> None:
        """What was due has been looked at; the next stream is due then."""
        self._sweeps += 1
        self._swept_at = time.monotonic()
        self._due_at = due_at

    def page(self) -> str:
        return "".join(
            line for name, kind, meaning, samples in self._families() for line in _lines(name, kind, meaning, samples)
        )

    def _families(self) -> Iterator[tuple[str, str, str, Samples]]:
        # A copy of all values is made in one step, so the engine may go on writing meanwhile.
        live = list(self._live.values())
        statuses = {f'{{status="{one}"}}': 0.0 for one in STATUSES}
        for status, _, _ in live:
            statuses[f'{{status="{status}"}}'] += 1
        ended = {f'{{outcome="{one}"}}': float(count) for one, count in self._ended.items()}
        lag = 0.0 if self._due_at is None else max((self._now() - self._due_at).total_seconds(), 0.0)
        yield "runfold_runs", "gauge", "Runs under way.", statuses
        yield "runfold_runs_ended_total", "counter", "Ends of runs since this engine began.", ended
        yield (
            "runfold_attempts_in_doubt",
            "gauge",
            "Attempts of which nobody knows whether they began.",
            _one(sum(one[1] for one in live)),
        )
        yield (
            "runfold_stops_unconfirmed",
            "gauge",
            "Stops that were asked for and not confirmed in time.",
            _one(sum(one[2] for one in live)),
        )
        yield "runfold_processes", "gauge", "Attempts that run on this machine.", _one(self.processes)
        yield "runfold_queue_messages", "gauge", "Effects that wait, delayed ones included.", _one(len(self._queue))
        yield (
            "runfold_queue_oldest_message_seconds",
            "gauge",
            "Age of the oldest effect that could be carried out.",
            _one(self._queue.oldest_seconds()),
        )
        yield (
            "runfold_dead_letters",
            "gauge",
            "Effects that failed again and again and were set aside.",
            _one(len(self._queue.parked)),
        )
        yield (
            "runfold_streams_left_alone",
            "gauge",
            "Histories that cannot be read or are of a newer release.",
            _one(len(self._refused)),
        )
        yield "runfold_sweeps_total", "counter", "Looks at what is due.", _one(self._sweeps)
        yield (
            "runfold_sweep_age_seconds",
            "gauge",
            "Since the last one; more than 120 means that the engine hangs.",
            _one(time.monotonic() - self._swept_at),
        )
        yield (
            "runfold_due_lag_seconds",
            "gauge",
            "How late the stream is that should have been looked at first.",
            _one(lag),
        )
        yield (
            "runfold_documents_registered_total",
            "counter",
            "Documents from the folder that became live.",
            _one(self.documents_registered),
        )
        yield (
            "runfold_documents_rejected_total",
            "counter",
            "Documents from the folder with problems.",
            _one(self.documents_rejected),
        )
        yield "process_start_time_seconds", "gauge", "When this engine began, since 1970.", _one(self._began)
        yield "process_cpu_seconds_total", "counter", "User and system time.", _one(time.process_time())
        yield "process_resident_memory_bytes", "gauge", "Memory in use.", _one(_resident_bytes())


def _one(value: float) -> Samples:
    return {"": value}


def _lines(name: str, kind: str, meaning: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {name} {meaning}\n"
    yield f"# TYPE {name} {kind}\n"
    for labels, value in samples.items():
        yield f"{name}{labels} {value:.15g}\n"


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
