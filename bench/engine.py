"""Drives a real engine in this process, on a fresh home, and measures it."""

import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.engine import Engine
from local.home import Home, wake
from shared.bootstrap import local_parts
from shared.ids import RunId, WorkflowName, run_stream
from shared.state.run import Run


@dataclass(frozen=True, slots=True)
class Measured:
    wall_seconds: float
    cpu_seconds: float
    """Of the engine's own process."""
    commits: int


@contextmanager
def fresh_engine(synchronous: str = "FULL") -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="runfold-bench-"))
    try:
        with Engine(Home(folder), environment={"PATH": os.environ["PATH"]}, synchronous=synchronous) as engine:
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def register(engine: Engine, document: dict[str, Any]) -> WorkflowName:
    text = json.dumps(document).encode()
    return engine.parts.control.register(text, name="bench.json", by="bench").workflow


class _Nothing:
    def send(self, effects: Any, *, delay_seconds: float = 0) -> None:
        """The engine finds what is pending by itself when it is woken."""


def drive(engine: Engine, workflow: WorkflowName, runs: int = 1) -> Measured:
    """Ask for runs as another process would, and work until all have ended."""
    home = engine.home
    asked: list[RunId] = []
    began, cpu = time.perf_counter(), time.process_time()
    other = local_parts(home.database, home.documents, _Nothing())
    try:
        for _ in range(runs):
            asked.append(other.control.request_run(workflow, {}, by="bench").run)
    finally:
        other.close()
    wake(home)
    open_runs = set(asked)

    def all_ended() -> bool:
        for run in list(open_runs):
            known = engine.parts.transact.kept(run_stream(run))
            if known is not None and isinstance(known.state, Run) and known.state.finished:
                assert known.state.outcome == "succeeded"
                open_runs.discard(run)
        return not open_runs

    engine.run(until=all_ended)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    commits = sum(engine.parts.transact.current(run_stream(run)).version for run in asked)
    return Measured(took, used, commits)


def resident_megabytes(pid: int | str = "self") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
