"""`python -m bench [SECTION...]`: prints what was measured, beside what is to be reached. Sections: floors, fold, scale, idle, command, time, items."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.clock import arithmetic, one_instant
from bench.engine import drive, fresh_engine, peak_megabytes, register, resident_megabytes
from bench.floor import Shape, chain, diamonds, fan, floor_seconds
from bench.items import measure
from local.home import Home, wake
from shared.bootstrap import local_parts
from shared.codec import body_of, events_in
from shared.events import AttemptQueued, AttemptSubmitted, AttemptSucceeded, Event, JobsReady, RunFinished, RunRequested
from shared.ids import Digest, Handle, JobName, RunId, WorkflowName
from shared.ports import RunFilter
from shared.state.run import Plans, Run, fold
from shared.workflow.document import Workflow
from shared.workflow.plan import compile_plan

ROUNDS = 5
console = Console(width=max(Console().width, 110))


def floors() -> None:
    """(a) Three shapes of runs of /bin/true, each beside its floor in the same run, round by round."""
    table = Table("shape", "jobs", "engine ms/job", "floor ms/job", "no shim", "× floor", "reach", "engine CPU ms/job")
    for shape, reach in ((chain(40), "1.5"), (fan(100, 8), "2"), (diamonds(10), "2")):
        rows = [_beside_floor(shape) for _ in range(ROUNDS)]
        ours, floor, bare, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(row[0] / row[1] for row in rows)
        label = f"{shape.name} × {shape.runs}" if shape.runs > 1 else shape.name
        table.add_row(
            label,
            str(shape.count),
            f"{ours:.2f}",
            f"{floor:.2f}",
            f"{bare:.2f}",
            f"{ratio:.2f}",
            f"≤ {reach}",
            f"{cpu:.2f} (reach ≤ 2)",
        )
    console.print(table)
    console.print(
        f"medians of {ROUNDS} rounds; engine and floor take turns; SQLite with synchronous=FULL in both; "
        "the floor commits three times a job, each alone"
    )


def _beside_floor(shape: Shape) -> tuple[float, float, float, float]:
    with fresh_engine() as engine:
        workflow = register(engine, shape.document())
        drive(engine, register(engine, {**chain(2).document(), "name": "warm"}))
        measured = drive(engine, workflow, shape.runs)
    each = 1000 / shape.count
    return (
        measured.wall_seconds * each,
        floor_seconds(shape, shim=True, synchronous="FULL") * each,
        floor_seconds(shape, shim=False, synchronous="FULL") * each,
        measured.cpu_seconds * each,
    )


def folding() -> None:
    """(b) Decode and fold a run's history."""
    table = Table("jobs", "events", "decode events/s", "fold events/s", "decode and fold events/s", "reach")
    for jobs in (10, 100, 1_000, 10_000):
        bodies, plan_of = _history(jobs)
        events = sum(len(events_in(body)) for body in bodies)
        repeat = max(1, 20_000 // events)
        decoded = [event for body in bodies for event in events_in(body)]
        decode = _best(partial(_decode, bodies), repeat)
        only = _best(partial(_fold, decoded, plan_of), repeat)
        both = _best(partial(_decode_and_fold, bodies, plan_of), repeat)
        table.add_row(
            f"{jobs:,}",
            f"{events:,}",
            f"{events / decode:,.0f}",
            f"{events / only:,.0f}",
            f"{events / both:,.0f}",
            "≥ 100,000",
        )
    console.print(table)


def _decode(bodies: Sequence[str]) -> int:
    return sum(len(events_in(body)) for body in bodies)


def _fold(events: Sequence[Event], plan_of: Plans) -> bool:
    state = fold(((_NOON, event) for event in events), plan_of)
    return isinstance(state, Run) and state.finished


def _decode_and_fold(bodies: Sequence[str], plan_of: Plans) -> bool:
    state = fold(((_NOON, event) for body in bodies for event in events_in(body)), plan_of)
    return isinstance(state, Run) and state.finished


_NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _history(jobs: int) -> tuple[list[str], Plans]:
    """A history as the engine writes it: start, and three events a job, two commits a job."""
    names = [JobName(f"job-{number}") for number in range(jobs)]
    document = Workflow.model_validate(
        {
            "name": "bench",
            "parallelism": 100,
            "jobs": [{"name": name, "type": "ecs", "image": "x", "command": ["true"]} for name in names],
        }
    )
    plan = compile_plan(document, Digest("0" * 64))
    run = RunId("bench@01hzzzzzzzzzzzzzzzzzzzzzzz")
    commits: list[list[Event]] = [
        [RunRequested(run=run, workflow=WorkflowName("bench"), document=plan.digest, document_version=1)]
    ]
    commits += [[JobsReady(jobs=tuple(names[at : at + 300]))] for at in range(0, jobs, 300)]
    for name in names:
        commits.append([AttemptQueued(job=name, attempt=1)])
        handle = Handle(f"process:host:boot:{name}")
        commits.append([AttemptSubmitted(job=name, attempt=1, handle=handle, started_at=_NOON)])
        commits.append([AttemptSucceeded(job=name, attempt=1, exit_code=0, started_at=_NOON, ended_at=_NOON)])
    commits.append([RunFinished(outcome="succeeded")])
    return [body_of(events) for events in commits], lambda _: plan


def _best(work: Callable[[], object], repeat: int) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(repeat):
            assert work()
        seconds.append((time.perf_counter() - began) / repeat)
    return statistics.median(seconds)


def scale() -> None:
    """(c) One run of 10, 100, 1,000 and 10,000 jobs, each in a process of its own: CPU seconds a job, memory."""
    table = Table("jobs", "CPU ms/job", "× of 10 jobs", "reach", "wall ms/job", "commits/job", "peak MB")
    first = 0.0
    for jobs in (10, 100, 1_000, 10_000):
        answer = subprocess.run(
            [sys.executable, "-m", "bench", "_scale", str(jobs)], capture_output=True, text=True, check=True
        )
        cpu, wall, commits, memory = (float(word) for word in answer.stdout.split())
        first = first or cpu
        table.add_row(
            f"{jobs:,}",
            f"{cpu:.2f}",
            f"{cpu / first:.2f}",
            "≤ 1.5 at 10,000",
            f"{wall:.2f}",
            f"{commits:.2f}",
            f"{memory:.0f}",
        )
    console.print(table)


def _scale_one(jobs: int) -> None:
    # The same number of jobs in all, whatever their number a run, so that each figure is the mean of as many.
    runs = max(1, 1_000 // jobs)
    shape = Shape("scale", {"first": (), **{f"m{n}": ("first",) for n in range(jobs - 2)}, "last": ("first",)}, 8)
    cpu = wall = commits = 0.0
    with fresh_engine() as engine:
        drive(engine, register(engine, {**chain(5).document(), "name": "warm"}))
        workflow = register(engine, shape.document())
        for _ in range(runs):
            measured = drive(engine, workflow)
            cpu += measured.cpu_seconds
            wall += measured.wall_seconds
            commits += measured.commits
    all_jobs = jobs * runs
    print(1000 * cpu / all_jobs, 1000 * wall / all_jobs, commits / all_jobs, peak_megabytes())


def idle() -> None:
    """(d) An engine of its own process: memory and CPU when idle, and from asking to the first process."""
    folder = Path(tempfile.mkdtemp(prefix="runfold-bench-"))
    runfold = Path(sys.executable).with_name("runfold")
    began = time.perf_counter()
    engine = subprocess.Popen(
        [runfold, "--home", str(folder), "up"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        home = Home(folder)
        while not home.wake.exists() or not home.lock.exists() or not home.lock.read_text().strip():
            time.sleep(0.002)
        ready = 1000 * (time.perf_counter() - began)
        time.sleep(1)
        other = local_parts(home.database, home.documents, _Nothing())
        marker = folder / "started"
        workflow = other.control.register(_touching(marker), name="touch.json", by="bench").workflow
        delays = []
        for _ in range(20):
            marker.unlink(missing_ok=True)
            asked = time.time()
            other.control.request_run(workflow, {}, by="bench")
            wake(home)
            while not marker.exists():
                time.sleep(0.0002)
            delays.append(1000 * (marker.stat().st_mtime - asked))
            while other.views.runs(RunFilter(status="running"))[0]:
                time.sleep(0.01)
        time.sleep(2)
        before, wall = _cpu_seconds(engine.pid), time.perf_counter()
        time.sleep(10)
        used = 100 * (_cpu_seconds(engine.pid) - before) / (time.perf_counter() - wall)
        table = Table("what", "measured", "reach")
        table.add_row("idle engine, resident", f"{resident_megabytes(engine.pid):.1f} MB", "≤ 60 MB")
        table.add_row("idle engine, CPU over 10 s", f"{used:.2f} %", "< 0.5 %")
        median, worst = statistics.median(delays), max(delays)
        table.add_row("asked to first process", f"median {median:.1f} ms, worst of 20 {worst:.1f} ms", "≤ 20 ms")
        table.add_row("`runfold up` to ready", f"{ready:.0f} ms", "≤ 1,000 ms")
        console.print(table)
        other.close()
    finally:
        engine.terminate()
        engine.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


class _Nothing:
    def send(self, effects: object, *, delay_seconds: float = 0) -> None:
        """The engine finds what is pending by itself when it is woken."""


def _touching(marker: Path) -> bytes:
    text = f'{{"name": "touch", "jobs": [{{"name": "touch", "type": "ecs", "image": "x", "command": ["touch", "{marker}"]}}]}}'
    return text.encode()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command() -> None:
    """(e) `runfold --help` beside `python -c pass`, in turn."""
    runfold = Path(sys.executable).with_name("runfold")
    bare, ours = [], []
    for _ in range(2 * ROUNDS):
        bare.append(_seconds([sys.executable, "-c", "pass"]))
        ours.append(_seconds([str(runfold), "--help"]))
    extra = 1000 * statistics.median(our - base for our, base in zip(ours, bare, strict=True))
    table = Table("what", "median ms", "over python -c pass", "reach")
    table.add_row("python -c pass", f"{1000 * statistics.median(bare):.0f}", "", "")
    table.add_row("runfold --help", f"{1000 * statistics.median(ours):.0f}", f"{extra:.0f} ms", "≤ 300 ms")
    console.print(table)


def _seconds(words: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def schedules() -> None:
    """(f) Instants a second, and what a run costs when 100 and 1,000 schedules have the same instant."""
    arithmetic(console)
    one_instant(console)


def items() -> None:
    """(g) A job for each of so many items, without processes: what one item costs."""
    table = Table(
        "items",
        "CPU ms/item",
        "× of 100",
        "write units/item",
        "bytes/item",
        "commits/item",
        "read cold µs/item",
        "reach",
    )
    # The first run of all pays for what is built when it is first used.
    measure(100)
    first = 0.0
    for count in (100, 1_000, 10_000, 100_000):
        one = measure(count)
        each = one.cpu_seconds / count
        first = first or each
        table.add_row(
            f"{count:,}",
            f"{each * 1000:.3f}",
            f"{each / first:.2f}",
            f"{one.write_units / count:.3f}",
            f"{one.bytes / count:.0f}",
            f"{one.commits / count:.3f}",
            f"{one.cold_seconds / count * 1e6:.0f}",
            "≤ 1.5 ×",
        )
    console.print(table)


SECTIONS: dict[str, Callable[[], None]] = {
    "floors": floors,
    "fold": folding,
    "scale": scale,
    "idle": idle,
    "command": command,
    "time": schedules,
    "items": items,
}


def main(words: Sequence[str]) -> int:
    if words[:1] == ["_scale"]:
        _scale_one(int(words[1]))
        return 0
    unknown = [word for word in words if word not in SECTIONS]
    if unknown:
        console.print(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
        return 2
    for name in words or SECTIONS:
        console.rule(f"{name}: {(SECTIONS[name].__doc__ or '').splitlines()[0]}", align="left")
        SECTIONS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
