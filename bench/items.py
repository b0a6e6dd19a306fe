"""Fan-out: what one item costs when a job is done for a hundred of them, and when for a hundred thousand.

The real way of a change (load, fold, decide, commit, hand over) over stores in memory, with reports as they come at load: several to a batch.
Snapshots are taken as the sweep takes them, and the run's row in lists is derived each time.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from shared.decide.commands import Command, RecordReport, RequestRun
from shared.effects import StartAttempt
from shared.events import RunRequested
from shared.ids import Handle, RunId, WorkflowName, run_stream
from shared.state.run import Run
from shared.stores.memory import MemoryDocuments, MemoryDues, MemorySnapshots, MemoryStore
from shared.usecases.loading import Loader, PlanCache
from shared.usecases.transact import Transact
from shared.views.rows import run_row
from shared.workflow.document import Workflow
from shared.workflow.reading import canonical

BATCH = 10
"""Reports in one batch of a queue."""
PARALLELISM = 100
UNIT_BYTES = 1024
"""One write unit of DynamoDB holds so many."""


@dataclass(frozen=True, slots=True)
class Measured:
    items: int
    cpu_seconds: float
    commits: int
    write_units: int
    bytes: int
    cold_seconds: float
    """To read and fold all of it."""


class _Queue:
    """Hands effects over; what is to be started waits here."""

    def __init__(self) -> None:
        self.starts: list[StartAttempt] = []

    def send(self, effects: Iterable[Any], *, delay_seconds: float = 0) -> None:
        assert delay_seconds >= 0
        self.starts += [effect for effect in effects if isinstance(effect, StartAttempt)]


def measure(items: int) -> Measured:
    """One run of a job for so many items, all of which succeed and leave a small output."""
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    store, documents, queue = MemoryStore(), MemoryDocuments(), _Queue()
    loader = Loader(store, PlanCache(documents), MemorySnapshots())
    numbers = iter(range(10**9))
    transact = Transact(
        store, MemoryDues(), loader, queue, now=lambda: now, new_id=lambda: f"commit-{next(numbers):010}"
    )
    digest = documents.put(canonical(_document(items)))
    run = RunId("bench@1")
    stream = run_stream(run)
    request = RunRequested(run=run, workflow=WorkflowName("bench"), document=digest, document_version=1)
    began = time.process_time()
    transact(stream, RequestRun(request), by="bench", cause="bench")
    while queue.starts:
        starts, queue.starts = queue.starts[:BATCH], queue.starts[BATCH:]
        now += timedelta(milliseconds=50)
        reports: list[Command] = [
            RecordReport(one.job, one.attempt, "submitted", Handle(f"arn:aws:ecs:eu-central-1:1:task/{one.job}"))
            for one in starts
        ]
        transact.batch(stream, reports, by="bench", cause="bench")
        now += timedelta(milliseconds=50)
        reports = [RecordReport(one.job, one.attempt, "succeeded", exit_code=0, outputs={"rows": 7}) for one in starts]
        decided = transact.batch(stream, reports, by="bench", cause="bench")
        loader.keep_snapshot(decided.loaded)
        assert isinstance(decided.loaded.state, Run)
        run_row(decided.loaded.state, decided.loaded.version)
    cpu_seconds = time.process_time() - began
    records = list(loader.records(stream))
    began = time.process_time()
    state = Loader(store, PlanCache(documents)).run(run)
    cold_seconds = time.process_time() - began
    assert state.outcome == "succeeded", state.status
    assert sum(state.fans[next(iter(state.fans))].outcomes.values()) == items
    sizes = [len(record.body.encode()) + 300 for record in records]
    return Measured(
        items, cpu_seconds, len(records), sum(ceil(size / UNIT_BYTES) for size in sizes), sum(sizes), cold_seconds
    )


def _document(items: int) -> Workflow:
    job = {"name": "load", "type": "ecs", "image": "x", "command": ["true"], "for_each": {"items": {"range": items}}}
    return Workflow.model_validate({"name": "bench", "parallelism": PARALLELISM, "jobs": [job]})
