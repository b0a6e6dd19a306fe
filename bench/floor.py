"""The floor beneath the engine: a bare loop that starts the same processes in the same order, with and without the same exit-code shim,
and makes three SQLite commits for each job at the same durability. Nobody can orchestrate these jobs for less and still know how
they ended and remember it.
"""

import os
import sqlite3
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.executors.process import wrapper_argv

COMMITS_PER_JOB = 3
_QUIET = [(os.POSIX_SPAWN_OPEN, descriptor, "/dev/null", os.O_RDWR, 0) for descriptor in (0, 1, 2)]
_ROW = "x" * 300
"""About as many bytes as one of our commits has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Jobs by name, each with the jobs before it, and how many may run at once in each run."""

    name: str
    jobs: dict[str, tuple[str, ...]]
    parallelism: int
    runs: int = 1

    @property
    def count(self) -> int:
        return len(self.jobs) * self.runs

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "parallelism": self.parallelism,
            "jobs": [
                {"name": job, "type": "ecs", "image": "busybox", "command": ["/bin/true"], "after": list(after)}
                for job, after in self.jobs.items()
            ],
        }


def chain(length: int) -> Shape:
    return Shape("chain", {f"j{n}": ((f"j{n - 1}",) if n else ()) for n in range(length)}, 16)


def fan(width: int, parallelism: int) -> Shape:
    middle = {f"m{n}": ("first",) for n in range(width)}
    return Shape("fan", {"first": (), **middle, "last": tuple(middle)}, parallelism)


def diamonds(runs: int) -> Shape:
    middle = {f"m{n}": ("first",) for n in range(8)}
    return Shape("diamond", {"first": (), **middle, "last": tuple(middle)}, 16, runs)


def floor_seconds(shape: Shape, *, shim: bool, synchronous: str) -> float:
    """Wall seconds of the bare loop."""
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as folder:
        database = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.execute("CREATE TABLE commits (id INTEGER PRIMARY KEY, body TEXT)")
        began = time.perf_counter()
        _run(shape, database, folder, shim)
        took = time.perf_counter() - began
        database.close()
        return took


def _run(shape: Shape, database: sqlite3.Connection, folder: str, shim: bool) -> None:
    dependents: dict[str, list[str]] = {job: [] for job in shape.jobs}
    for job, before in shape.jobs.items():
        for name in before:
            dependents[name].append(job)
    missing = [{job: len(before) for job, before in shape.jobs.items()} for _ in range(shape.runs)]
    ready = [deque(job for job, count in waits.items() if not count) for waits in missing]
    active = [0] * shape.runs
    running: dict[int, tuple[int, str]] = {}
    left = shape.count
    while left:
        for number in range(shape.runs):
            while ready[number] and active[number] < shape.parallelism:
                job = ready[number].popleft()
                running[_spawn(folder, number, job, shim)] = (number, job)
                active[number] += 1
                _commit(database)
                _commit(database)
        pid, status = os.wait()
        assert os.waitstatus_to_exitcode(status) == 0
        number, job = running.pop(pid)
        _commit(database)
        active[number] -= 1
        left -= 1
        for name in dependents[job]:
            missing[number][name] -= 1
            if not missing[number][name]:
                ready[number].append(name)


def _spawn(folder: str, number: int, job: str, shim: bool) -> int:
    words = ["/bin/true"]
    if shim:
        guard = Path(folder, f"{number}-{job}")
        guard.mkdir()
        words = wrapper_argv(["/bin/true"], str(guard))
    return os.posix_spawn(words[0], words, {"PATH": "/usr/bin:/bin"}, file_actions=_QUIET, setsid=True)


def _commit(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO commits (body) VALUES (?)", (_ROW,))
    database.execute("COMMIT")
