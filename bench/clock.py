"""Time: how many instants a second schedules are worked out at, and what a run costs when many schedules have the same instant."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared import schedule
from shared.bootstrap import LocalParts, local_parts
from shared.effects import Effect, OpenRun, TickWorkflow
from shared.ports import PAGE_MAX
from shared.usecases.admission import Admission
from shared.usecases.sweep import Sweep
from shared.workflow.days import Exclude, Exclusion
from shared.workflow.timing import Schedule

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
INSTANTS = 200_000
DAYS = (*tuple(f"{year}-12-{day}" for year in range(2026, 2046) for day in (24, 25, 26, 31)), "saturday", "01-01")
RULES = (
    ("every minute, UTC", {"cron": "* * * * *"}, False),
    ("every minute, Berlin", {"cron": "* * * * *", "timezone": "Europe/Berlin"}, False),
    ("every quarter of an hour in office hours, New York", {"cron": "*/15 8-18 * * MON-FRI", "timezone": "America/New_York"}, False),
    ("every night at 02:30, Berlin", {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}, False),
    ("every 90 seconds", {"rate": "90 seconds"}, False),
    ("every minute, Berlin, with 82 days off", {"cron": "* * * * *", "timezone": "Europe/Berlin"}, True),
)  # fmt: skip


def arithmetic(console: Console) -> None:
    table = Table("schedule", "instants", "instants/s", "reach")
    for name, fields, excluded in RULES:
        rule = Schedule.model_validate(fields)
        exclusion = Exclusion(Exclude(days=DAYS), rule.timezone, {}) if excluded else None
        # The years' clock changes are kept from one question to the next, as in a process that runs.
        schedule.due(rule, BEGIN, BEGIN + timedelta(days=700), limit=10)
        began = time.process_time()
        if exclusion is None:
            found = len(schedule.due(rule, BEGIN, BEGIN + timedelta(days=365 * 200), limit=INSTANTS))
        else:
            until = BEGIN + timedelta(minutes=INSTANTS)
            found = sum(stretch.count for stretch in schedule.stretches(rule, BEGIN, until, exclusion))
        took = time.process_time() - began
        table.add_row(name, f"{found:,}", f"{found / took:,.0f}", "≥ 50,000")
    console.print(table)


class _Outbox:
    def __init__(self) -> None:
        self.waiting: list[Effect] = []

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        if not delay_seconds:
            self.waiting.extend(effects)

    def take(self) -> list[Effect]:
        taken, self.waiting = self.waiting, []
        return taken


class _Clock:
    now = BEGIN - timedelta(hours=1)

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def _parts(outbox: _Outbox, clock: _Clock) -> Iterator[LocalParts]:
    folder = Path(tempfile.mkdtemp(prefix="runfold-bench-"))
    try:
        parts = local_parts(folder / "runfold.db", folder / "documents", outbox, synchronous="NORMAL", now=clock)
        try:
            yield parts
        finally:
            parts.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _at_one_instant(schedules: int) -> tuple[float, float]:
    """CPU milliseconds and commits a run, from the sweep that finds the instant to the run's first event."""
    outbox, clock = _Outbox(), _Clock()
    with _parts(outbox, clock) as parts:
        for number in range(schedules):
            job = {"name": "a", "type": "ssm", "host": "h", "commands": ["true"]}
            document = {"name": f"w-{number:05}", "schedule": {"cron": "0 0 * * *"}, "jobs": [job]}
            parts.control.register(json.dumps(document).encode(), name="w.json", by="bench")
        before = _commits(parts)
        admission = Admission(parts.transact)
        sweep = Sweep(parts.transact, parts.dues, outbox, lambda _: None, now=clock)
        clock.now = BEGIN
        outbox.take()
        began = time.process_time()
        opened = 0
        while opened < schedules:
            sweep()
            for _ in range(2):
                for effect in outbox.take():
                    if isinstance(effect, TickWorkflow | OpenRun):
                        admission(effect)
                        opened += isinstance(effect, OpenRun)
            clock.now += timedelta(seconds=1)
        took = time.process_time() - began
        return 1000 * took / schedules, (_commits(parts) - before) / schedules


def _commits(parts: LocalParts) -> int:
    total = 0
    for kind in ("workflow", "run"):
        after = ""
        while names := parts.store.streams(kind, after=after, limit=PAGE_MAX):
            total += sum(len(parts.store.read(name)) for name in names)
            after = names[-1]
    return total


def one_instant(console: Console) -> None:
    table = Table("schedules of one instant", "CPU ms/run", "× of 100", "reach", "commits/run")
    first = 0.0
    for schedules in (100, 1_000):
        cpu, commits = _at_one_instant(schedules)
        first = first or cpu
        table.add_row(f"{schedules:,}", f"{cpu:.2f}", f"{cpu / first:.2f}", "≤ 1.5", f"{commits:.2f}")
    console.print(table)
