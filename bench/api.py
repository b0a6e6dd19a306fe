"""The API of an embedded engine beside a long history: how soon it answers, how fast under mixed reads, and what a list costs.

It prints and asserts nothing. Reads are asked at a fixed rate, and a late one is measured from when it should have been asked: a server
that stalls must not look fast because nobody could ask it meanwhile.

`python -m bench.api` runs all; `python -m bench.api starting lists reading loading dynamodb` some of them.
"""

import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from bench.deployed import ENVIRONMENT, on_moto
from local.home import Home
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.ids import JobName, RunId, WorkflowName, run_stream
from shared.ports import RunFilter, RunRow
from shared.views.derive import derive

SMALL, LARGE = 1_000, 10_000
"""Runs of the histories that are compared."""
WORKFLOWS, OWNERS = 20, 5
BATCH = 250
RATE = 200
"""Mixed reads a second."""
READING_SECONDS = 20.0
READERS = 8
"""Connections; each asks its share of the rate."""
ACTS_EVERY = 10
"""Under mixed load one request in so many asks for a run."""
LOADING_SECONDS = 60.0
QUARTERS = 4
ROUNDS = 7
PAGES = 300
"""Of each list, for the median."""
UP_SECONDS_MAX = 30.0
PAGE = 50

LISTS = {
    "first page": RunFilter(),
    "of a status": RunFilter(status="succeeded"),
    "of an owner": RunFilter(owner="owner-3"),
    "of a workflow": RunFilter(workflow="flow-7"),
}

console = Console(width=max(Console().width, 110))


class _Nothing:
    def send(self, effects: object, *, delay_seconds: float = 0) -> None:
        """Nobody carries anything out here."""


@contextmanager
def history(runs: int) -> Iterator[Home]:
    """A home with so many runs that have ended, by the product's own rules, each of two jobs."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-bench-api-"))
    try:
        home = Home(folder)
        home.make()
        parts = local_parts(home.database, home.documents, _Nothing(), synchronous="NORMAL")
        names = [_register(parts, number) for number in range(WORKFLOWS)]
        later = utc_now() + timedelta(days=3_650)
        for start in range(0, runs, BATCH):
            with parts.database.batch():
                for number in range(start, min(start + BATCH, runs)):
                    _ended_run(parts, names[number % WORKFLOWS], later)
        parts.close()
        yield home
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _register(parts: LocalParts, number: int) -> WorkflowName:
    document = {
        "name": f"flow-{number}",
        "owner": f"owner-{number % OWNERS}",
        "tags": [f"tag-{number % 3}"],
        "jobs": [
            {"name": "extract", "type": "ecs", "image": "x", "command": ["true"]},
            {"name": "load", "type": "ecs", "image": "x", "command": ["true"], "after": ["extract"]},
        ],
    }
    found = parts.control.register(json.dumps(document).encode(), name="bench.json", by="bench").workflow
    loaded = parts.transact.current(f"workflow#{found}")  # type: ignore[arg-type]
    derive(parts.views, loaded.state, loaded.version, parts.plans)
    return found


def _ended_run(parts: LocalParts, workflow: WorkflowName, later: datetime) -> RunId:
    # It may not start for years, so no attempt is ever under way; marking both jobs ends it.
    run = parts.control.request_run(workflow, {}, by="bench", start_after=later).run
    for job in ("extract", "load"):
        parts.control.mark(run, JobName(job), "succeeded", by="bench", reason="bench")
    stream = run_stream(run)
    loaded = parts.transact.current(stream)
    derive(parts.views, loaded.state, loaded.version, parts.plans)
    row = parts.dues.get(stream)
    if row is not None:
        parts.dues.remove(stream, seen=row)
    parts.transact.drop(stream)
    return run


@contextmanager
def up(home: Home) -> Iterator[tuple[int, int, float]]:
    """`runfold up` on it: its port, its process, and the seconds from its start to its first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runfold = str(Path(sys.executable).with_name("runfold"))
    began = time.perf_counter()
    engine = subprocess.Popen(
        [runfold, "--home", str(home.path), "up", "--http", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                ask(http.client.HTTPConnection("127.0.0.1", port, timeout=30), "/v1/health")
                break
            except OSError:
                if time.perf_counter() - began > UP_SECONDS_MAX:
                    raise
                time.sleep(0.002)
        yield port, engine.pid, time.perf_counter() - began
    finally:
        engine.terminate()
        engine.wait(20)


def ask(connection: http.client.HTTPConnection, path: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(
        "GET" if body is None else "POST", path, body=json.dumps(body) if body else None, headers=headers
    )
    response = connection.getresponse()
    data = response.read()
    assert response.status in (200, 201), (path, response.status, data[:300])
    return json.loads(data)


# --- sections -------------------------------------------------------------------------------------------------------------


def starting() -> None:
    """(a) from the start of `runfold up` to its first answer, on a history of 10,000 runs"""
    with history(LARGE) as home:
        seconds = []
        for _ in range(ROUNDS):
            with up(home) as (_, _, took):
                seconds.append(took)
    table = Table("what", "measured", "reach")
    told = f"median {1000 * statistics.median(seconds):.0f} ms, worst of {ROUNDS} {1000 * max(seconds):.0f} ms"
    table.add_row("first answer", told, "≤ 1,000 ms")
    console.print(table)


def lists() -> None:
    """(b) a page of 50 runs over HTTP, with 1,000 and with 10,000 runs: the engine's CPU, and the client's time"""
    paths = {name: _path(where) for name, where in LISTS.items()}
    paths |= {f"{name}, oldest first": f"{path}&sort=oldest" for name, path in paths.items()}
    paths["looked for by tag"] = f"/v1/runs?limit={PAGE}&tag=tag-1"
    table = Table(
        "page", f"CPU: {SMALL:,} runs", f"{LARGE:,} runs", "ratio", f"time: {SMALL:,} runs", f"{LARGE:,} runs"
    )
    with history(SMALL) as small, history(LARGE) as large, up(small) as (port, process, _), up(large) as other:
        asked = [(http.client.HTTPConnection("127.0.0.1", one, timeout=30)) for one in (port, other[0])]
        for name, path in paths.items():
            # In turn, so that whatever else the machine does meets both.
            seconds: tuple[list[float], list[float]] = ([], [])
            before = [_cpu_seconds(one) for one in (process, other[1])]
            for number in range(2 * PAGES):
                began = time.perf_counter()
                ask(asked[number % 2], path)
                seconds[number % 2].append(time.perf_counter() - began)
            cpu = [(_cpu_seconds(one) - was) / PAGES for one, was in zip((process, other[1]), before, strict=True)]
            medians = [f"{1000 * statistics.median(one):.2f} ms" for one in seconds]
            table.add_row(name, *(f"{1000 * one:.2f} ms" for one in cpu), f"{cpu[1] / max(cpu[0], 1e-9):.2f}", *medians)
    console.print(table)


def _path(where: RunFilter) -> str:
    asked = {"status": where.status, "owner": where.owner, "workflow": where.workflow}
    return "&".join([f"/v1/runs?limit={PAGE}", *(f"{name}={value}" for name, value in asked.items() if value)])


def reading() -> None:
    """(c) 200 mixed reads a second on a history of 10,000 runs"""
    with history(LARGE) as home, up(home) as (port, process, _):
        before = _resident_megabytes(process)
        taken, cpu = _load(port, process, READING_SECONDS, acts=False)
        _tell_load(taken, cpu, READING_SECONDS, before, _resident_megabytes(process))


def loading() -> None:
    """(d) the same, one request in ten asking for a run, for a minute: how memory grows"""
    with history(SMALL) as home, up(home) as (port, process, _):
        _load(port, process, 5.0, acts=False)
        grown = [_resident_megabytes(process)]
        taken: list[float] = []
        cpu = 0.0
        for _ in range(QUARTERS):
            some, used = _load(port, process, LOADING_SECONDS / QUARTERS, acts=True)
            taken, cpu = taken + some, cpu + used
            grown.append(_resident_megabytes(process))
        _tell_load(taken, cpu, LOADING_SECONDS, grown[0], grown[-1])
        console.print(f"resident, quarter by quarter: {', '.join(f'{one:.1f}' for one in grown)} MB")


def dynamodb() -> None:
    """(e) read units of a page of 50 runs on DynamoDB (moto), with 1,000 and with 10,000 runs"""
    os.environ.update(ENVIRONMENT)
    import boto3

    from bench.meter import Meter
    from shared.stores.dynamodb import VIEWS_SCHEMA, DynamoViews

    units: dict[int, dict[str, float]] = {}
    with on_moto():
        meter = Meter({"views": VIEWS_SCHEMA})
        views = DynamoViews(meter.watch(boto3.client("dynamodb")), "views")
        put = 0
        for runs in (SMALL, LARGE):
            while put < runs:
                views.put_run(_row(put))
                put += 1
            units[runs] = {}
            wanted: dict[str, Callable[[], object]] = {
                name: partial(views.runs, where, limit=PAGE) for name, where in LISTS.items()
            }
            wanted |= {
                "oldest first": partial(views.runs, sort="oldest", limit=PAGE),
                "looked for by tag": partial(views.runs, RunFilter(tag="tag-1"), limit=PAGE),
                "a tag that no run has": partial(views.runs, RunFilter(tag="nowhere"), limit=PAGE),
            }
            for name, read in wanted.items():
                before = meter.counts.copy()
                read()
                units[runs][name] = meter.counts.since(before).units["read"]
    table = Table("page", f"{SMALL:,} runs", f"{LARGE:,} runs", "ratio")
    for name, small in units[SMALL].items():
        large = units[LARGE][name]
        table.add_row(name, f"{small:g} units", f"{large:g} units", f"{large / small:.2f}")
    console.print(table)


def _row(number: int) -> RunRow:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    flow = number % WORKFLOWS
    return RunRow(
        run=RunId(f"flow-{flow}@{number:08}"),
        workflow=WorkflowName(f"flow-{flow}"),
        version=3,
        status="succeeded",
        owner=f"owner-{flow % OWNERS}",
        tags=(f"tag-{flow % 3}",),
        trigger="manual",
        requested_at=at,
        scheduled_at=None,
        started_at=at,
        finished_at=at,
        jobs={"succeeded": 2},
    )


# --- load -----------------------------------------------------------------------------------------------------------------


def _load(port: int, process: int, seconds: float, *, acts: bool) -> tuple[list[float], float]:
    """Latencies from when each request should have been sent, and the engine's CPU seconds."""
    first = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    known = [row["run"] for row in ask(first, "/v1/runs?limit=500")["runs"]]
    cursor = ask(first, f"/v1/runs?limit={PAGE}")["cursor"]
    taken: list[list[float]] = [[] for _ in range(READERS)]
    began = time.perf_counter() + 0.2

    def read(reader: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        chance = random.Random(reader)
        for number in range(reader, int(RATE * seconds), READERS):
            due = began + number / RATE
            time.sleep(max(due - time.perf_counter(), 0))
            if acts and number % ACTS_EVERY == 0:
                ask(connection, "/v1/runs", {"workflow": f"flow-{number % WORKFLOWS}"})
            else:
                ask(connection, _some_path(chance, known, cursor))
            taken[reader].append(time.perf_counter() - due)

    before = _cpu_seconds(process)
    threads = [threading.Thread(target=read, args=(reader,)) for reader in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for many in taken for one in many], _cpu_seconds(process) - before


def _some_path(chance: random.Random, known: Sequence[str], cursor: str) -> str:
    run = quote(chance.choice(known), safe="")
    return chance.choice(
        [
            f"/v1/runs?limit={PAGE}",
            f"/v1/runs?limit={PAGE}&cursor={cursor}",
            f"/v1/runs?limit={PAGE}&status=succeeded",
            f"/v1/runs?limit={PAGE}&workflow=flow-{chance.randrange(WORKFLOWS)}",
            f"/v1/runs?limit={PAGE}&owner=owner-{chance.randrange(OWNERS)}&sort=oldest",
            "/v1/workflows",
            f"/v1/workflows/flow-{chance.randrange(WORKFLOWS)}",
            f"/v1/runs/{run}",
            f"/v1/runs/{run}",
            f"/v1/runs/{run}/events",
            f"/v1/runs/{run}/jobs/load",
            f"/v1/runs/{run}/why",
        ]
    )


def _tell_load(taken: Sequence[float], cpu: float, seconds: float, before: float, after: float) -> None:
    ordered = sorted(taken)
    table = Table("requests", "a second", "p50", "p90", "p99", "worst", "engine CPU", "resident before, after")
    p50, p90, p99 = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.9, 0.99))
    table.add_row(
        f"{len(taken):,}",
        f"{len(taken) / seconds:.0f}",
        f"{p50:.1f} ms",
        f"{p90:.1f} ms",
        f"{p99:.1f} ms",
        f"{1000 * ordered[-1]:.1f} ms",
        f"{1000 * cpu / len(taken):.2f} ms a request",
        f"{before:.1f}, {after:.1f} MB",
    )
    console.print(table)


def _resident_megabytes(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


SECTIONS = {one.__name__: one for one in (starting, lists, reading, loading, dynamodb)}


def main(words: Sequence[str]) -> int:
    unknown = [word for word in words if word not in SECTIONS]
    if unknown:
        console.print(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
        return 2
    for name in words or SECTIONS:
        console.rule(f"{name}: {SECTIONS[name].__doc__}", align="left")
        SECTIONS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
