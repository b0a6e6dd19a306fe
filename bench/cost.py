"""`python -m bench.cost [SECTION...]`: what orchestrating a million jobs costs on AWS. Sections: quiet, load, large, idle.

The real handlers work on moto in simulated time (`bench/pump.py` says how AWS between them is modelled), every call is counted
(`bench/meter.py`) and priced (`bench/prices.py`). The arrival model: runs of ten jobs, one first, eight side by side, one last, all
containers that succeed the first time and run for 1 to 20 minutes, uniformly, after 35 seconds to start; *quiet* is one such run alone; *at
load* 1,000 of them are asked for within an hour, at random moments (a Poisson process with a fixed seed); *large* is one run of 10,000 jobs, 500 at a
time. Every job counts in full: what its run costs beside its jobs (request, lists, due rows) is in it. Each section shows two ways to hand things
over: as the stack is deployed by default, and *grouped*: windows of ten seconds and two batches at a time for both queues, and of twenty
seconds for the table's stream. Nothing is asserted.
"""

import json
import logging
import os
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from rich.console import Console
from rich.table import Table

from bench.deployed import ENVIRONMENT, SCHEMAS, Target, on_moto
from bench.meter import Counts, Meter
from bench.prices import (
    AS_OF,
    MILLION,
    PRICES,
    SECONDS_A_MONTH,
    TRANSITIONS_BARE,
    TRANSITIONS_TYPICAL,
    Unit,
    step_functions_usd,
)
from bench.pump import HOP_SECONDS, LONG_POLL_SECONDS, POLLERS_IDLE, Clock, Function, Pump, Queue, Sandbox, Stream
from bench.tables import Tables
from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.relay.handler import make_handler as relay_handler
from functions.scheduler.handler import make_handler as scheduler_handler
from functions.status.handler import make_handler as status_handler
from infra.configuration import BATCH_MAX, BATCH_MAX_WITH_WINDOW, Configuration
from shared.bootstrap.aws import RHYTHM
from shared.executors.aws_events import AwsEvents
from shared.ids import Handle, RunId, Token, WorkflowName
from shared.ports import Report, Request
from shared.settings import Settings

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SEED = 20261121
JOB_MINUTES = (1.0, 20.0)
START_SECONDS = 35.0
"""What Fargate takes from the request to a running container."""
WAITING_MB = 512
CHECKING_MB = 1024
"""Memory of the functions, as `infra/stack.py` gives it."""
STREAM_BATCH = 100
STREAM_IMAGES = True
TELLS_RUNNING = False
"""The stream's view and what the rules for ECS pass of jobs without time limits, as `infra/` makes them."""
SWEEP_SECONDS = 60
RUNS_AN_HOUR = 1_000
LARGE_JOBS, LARGE_PARALLELISM = 10_000, 500
IDLE_SWEEPS = 10
WORKFLOWS = 20
"""Documents that the runs at load are spread over."""
console = Console(file=sys.__stdout__, width=max(Console().width, 110))


@dataclass(frozen=True, slots=True)
class Flow:
    """How AWS hands things to the functions."""

    name: str
    effects_pollers: int
    reports_pollers: int
    effects_window_seconds: float
    reports_window_seconds: float
    stream_window_seconds: float


_DEPLOYED = Configuration()
DEPLOYED = Flow(
    "as deployed",
    effects_pollers=_DEPLOYED.effects_concurrency,
    reports_pollers=_DEPLOYED.reports_concurrency,
    effects_window_seconds=_DEPLOYED.effects_window_seconds,
    reports_window_seconds=_DEPLOYED.reports_window_seconds,
    stream_window_seconds=_DEPLOYED.stream_window_seconds,
)
GROUPED = Flow(
    "grouped",
    effects_pollers=2,
    reports_pollers=2,
    effects_window_seconds=10,
    reports_window_seconds=10,
    stream_window_seconds=20,
)


class Containers(Target):
    """Tasks that run for a while of simulated time, and tell about it as ECS does."""

    def __init__(self, tell: Callable[[float, dict[str, Any]], None], asked: Callable[[], None]) -> None:
        super().__init__()
        self._asked = asked
        self._tell = tell
        self._random = random.Random(SEED)
        self.ended: int = 0

    def start(self, request: Request) -> Handle:
        self._asked()
        if request.token not in self.started:
            minutes = self._random.uniform(*JOB_MINUTES)
            if TELLS_RUNNING:
                self._tell(START_SECONDS, self._event(request.token, "RUNNING"))
            self._tell(START_SECONDS + 60 * minutes, self._event(request.token, "STOPPED"))
        super().start(request)
        return task_arn(request.token)

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        token = Token(event["detail"]["startedBy"])
        request = self.started[token]
        if event["detail"]["lastStatus"] == "RUNNING":
            return [Report(token, request.run, request.job, request.attempt, "running", handle=task_arn(token))]
        self.answers[token] = {"status": "succeeded", "exit_code": 0, "handle": task_arn(token)}
        ended_at = datetime.fromisoformat(event["detail"]["stoppedAt"])
        self.ended += 1
        return [
            Report(
                token,
                request.run,
                request.job,
                request.attempt,
                "succeeded",
                handle=task_arn(token),
                exit_code=0,
                started_at=ended_at - timedelta(minutes=1),
                ended_at=ended_at,
            )
        ]

    def observe(self, references: Sequence[Any]) -> list[Report]:
        return [
            Report(
                one.token,
                one.run,
                one.job,
                one.attempt,
                **({"status": "running", "handle": task_arn(one.token)} | self.answers.get(one.token, {})),
            )
            for one in references
        ]

    @staticmethod
    def _event(token: Token, status: str) -> dict[str, Any]:
        return {"source": "aws.ecs", "detail": {"startedBy": token, "lastStatus": status}}


def task_arn(token: Token) -> Handle:
    """As long as a real one."""
    return Handle(f"arn:aws:ecs:us-east-1:123456789012:task/runfold-prod/{token[:32]:0<32}")


@dataclass
class World:
    """A deployment in simulated time."""

    pump: Pump
    meter: Meter
    containers: Containers
    functions: dict[str, Function]
    api: list[Sandbox]
    effects: Queue
    sandboxes: dict[str, list[Sandbox]]
    requests: int = 0

    def step_ms(self) -> list[float]:
        """Of the batches of reports that led to starts, with the time until the next batch of effects asked its first target."""
        told, started = self.functions["status"].usage.led_on_ms, self.functions["dispatch"].usage.led_on_ms
        return [first + second for first, second in zip(told, started, strict=False)]

    def register(self, document: dict[str, Any]) -> WorkflowName:
        s3: Any = self.meter.watch(boto3.client("s3"))
        key = f"workflows/{document['name']}.json"
        s3.put_object(Bucket="documents", Key=key, Body=json.dumps(document).encode())
        event = {"id": "1", "detail": {"object": {"key": key}, "requester": "bench"}}
        assert "registered" in self.functions["register"].invoke(event)
        return WorkflowName(document["name"])

    def request_run(self, workflow: WorkflowName) -> RunId:
        self.requests += 1
        self.pump.invoked = None
        return self.pump.random.choice(self.api).control.request_run(workflow, {}, by="bench").run


def world(settings: Settings, flow: Flow, *, moto: bool = False) -> World:
    """`moto`: tables are moto's, too."""
    tables = None if moto else Tables(SCHEMAS)
    clock = Clock(NOON)
    meter = Meter(SCHEMAS)
    pump = Pump(clock, meter, SEED)
    queues: dict[str, Queue] = {}

    def tell(seconds: float, event: dict[str, Any]) -> None:
        def send() -> None:
            # EventBridge's own send is charged to the queue.
            meter.sqs("send")
            event["detail"]["stoppedAt"] = clock.at.isoformat()
            queues["reports"].sent([json.dumps(event)])

        pump.after(seconds, send)

    def led_on() -> None:
        if pump.invoked is not None:
            pump.invoked.leads_on()

    def target_asked() -> None:
        led_on()
        meter.operations.append("target start")

    def side_by_side(tasks: Sequence[Callable[[], None]]) -> None:
        assert pump.invoked is not None
        pump.invoked.side_by_side(tasks)

    containers = Containers(tell, target_asked)
    executors = {"ecs": containers, "emr": containers, "ssm": containers}

    def made(count: int) -> list[Sandbox]:
        boxes = [Sandbox(settings, clock, meter, executors, tables) for _ in range(count)]
        for box in boxes:
            vars(box)["events"] = AwsEvents({"ecs": containers})
            vars(box)["side_by_side"] = side_by_side
            box.effects._client = caught(box.effects._client)
        return boxes

    def caught(sqs: Any) -> Any:
        """Messages go to the pump instead of moto."""

        def send(context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
            entries = context["metered"]["Entries"]
            led_on()
            queues["effects"].sent([entry["MessageBody"] for entry in entries], entries[0]["DelaySeconds"])
            taken = [{"Id": entry["Id"]} for entry in entries]
            return SimpleNamespace(status_code=200), {"Successful": taken, "ResponseMetadata": {}}

        sqs.meta.events.register_last("before-call", send)
        return sqs

    boxes = {
        "register": made(1),
        "scheduler": made(1),
        "relay": made(4),
        "dispatch": made(flow.effects_pollers),
        "status": made(flow.reports_pollers),
    }
    handlers = {
        "register": [register_handler(box.uploads, box.control) for box in boxes["register"]],
        "scheduler": [
            scheduler_handler(box.sweep, lambda box=box: len(box.sweep.refused), box.admission.tick)  # type: ignore[misc]
            for box in boxes["scheduler"]
        ],
        "relay": [relay_handler(box.reader, box.settle, box.is_awaited) for box in boxes["relay"]],
        "dispatch": [dispatch_handler(box.work, box.effects) for box in boxes["dispatch"]],
        "status": [
            status_handler(box.events, box.work.record, box.effects, side_by_side=side_by_side)
            for box in boxes["status"]
        ],
    }
    functions = {
        name: Function(pump, name, made_handlers, memory_mb=CHECKING_MB if name == "register" else WAITING_MB)
        for name, made_handlers in handlers.items()
    }
    queues["effects"] = Queue(
        pump,
        functions["dispatch"],
        pollers=flow.effects_pollers,
        window_seconds=flow.effects_window_seconds,
        batch_max=BATCH_MAX_WITH_WINDOW if flow.effects_window_seconds else BATCH_MAX,
    )
    queues["reports"] = Queue(
        pump,
        functions["status"],
        pollers=flow.reports_pollers,
        window_seconds=flow.reports_window_seconds,
        batch_max=BATCH_MAX_WITH_WINDOW if flow.reports_window_seconds else BATCH_MAX,
    )
    stream = Stream(
        pump,
        functions["relay"],
        window_seconds=flow.stream_window_seconds,
        batch_max=STREAM_BATCH,
        images=STREAM_IMAGES,
    )
    meter.written = lambda table, item: stream.put(item) if table == "events" else None

    def sweep() -> None:
        functions["scheduler"].invoke({})
        pump.after(SWEEP_SECONDS, sweep)

    pump.after(pump.random.uniform(0, SWEEP_SECONDS), sweep)
    boxes["api"] = made(2)
    return World(pump, meter, containers, functions, boxes["api"], queues["effects"], boxes)


# --- documents --------------------------------------------------------------------------------------------------------


def diamond(name: str, jobs: int, **more: Any) -> dict[str, Any]:
    """One first, all others but one side by side, one last."""
    middle = [f"load-partition-{number:05d}" for number in range(jobs - 2)]
    described = [_job("collect-manifest", []), *(_job(one, ["collect-manifest"]) for one in middle)]
    return {"name": name, "owner": "data", "jobs": [*described, _job("publish-report", middle)], **more}


def _job(name: str, after: list[str]) -> dict[str, Any]:
    command = ["load", "--day", "{{ scheduled_at | date('%Y-%m-%d') }}", "--part", name]
    return {"name": name, "type": "ecs", "image": "registry/load:3", "command": command, "after": after}


# --- sections ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """What runs used, the sweeps that found nothing left out: they are idle cost."""

    jobs: int
    counts: Counts
    invocations: dict[str, int]
    gb_seconds: float
    requests: int
    """Of people or programs, to the API."""
    step_ms: list[float]
    """From a report's arrival to the start request of what depended on it: two hops and the time of both handlers."""


def measure(flow: Flow, documents: list[dict[str, Any]], moments: Sequence[float], *, moto: bool = False) -> Measured:
    """Runs asked for at these seconds, one workflow after the other, until everything that was due is done. `moto`: slower by far."""
    with on_moto() as settings:
        there = world(settings, flow, moto=moto)
        pump, meter = there.pump, there.meter
        sweeps = there.functions["scheduler"].usage
        workflows = [there.register(document) for document in documents]
        # Registering leaves records and due rows of its own, which are no run's.
        pump.run(lambda: pump.clock.at >= NOON + timedelta(minutes=5))
        begun, swept, swept_gb_seconds = meter.counts.copy(), sweeps.invocations, sweeps.gb_seconds
        pump.run(lambda: pump.clock.at >= NOON + timedelta(minutes=15))
        idle_reads = meter.counts.since(begun).units["read"] / (sweeps.invocations - swept)
        idle_gb_seconds = (sweeps.gb_seconds - swept_gb_seconds) / (sweeps.invocations - swept)

        before = meter.counts.copy()
        usage = {name: (one.usage.invocations, one.usage.gb_seconds) for name, one in there.functions.items()}
        for number, moment in enumerate(moments):
            pump.after(moment, partial(_ask, there, workflows[number % len(workflows)]))
        jobs = sum(len(documents[number % len(documents)]["jobs"]) for number in range(len(moments)))
        pump.run(lambda: there.containers.ended >= jobs)
        # The rows that the last ends leave are swept when they are due.
        last = pump.clock.at + 2 * RHYTHM.patience
        pump.run(lambda: pump.clock.at >= last)

        counts = meter.counts.since(before)
        invocations = {name: one.usage.invocations - usage[name][0] for name, one in there.functions.items()}
        gb_seconds = sum(one.usage.gb_seconds - usage[name][1] for name, one in there.functions.items())
        swept = invocations.pop("scheduler")
        counts.units["read"] -= swept * idle_reads
        counts.units["read by_list"] -= swept * idle_reads
        steps = [2000 * HOP_SECONDS + ms for ms in there.step_ms()]
        return Measured(jobs, counts, invocations, gb_seconds - swept * idle_gb_seconds, there.requests, steps)


def _ask(there: World, workflow: WorkflowName) -> None:
    there.request_run(workflow)


def usd(measured: Measured) -> dict[Unit, float]:
    """USD by what is charged for."""
    counts = measured.counts
    amounts: dict[Unit, float] = {
        "write unit": counts.units["write"],
        "read unit": counts.units["read"],
        "SQS request": counts.units["sqs"],
        "invocation": sum(measured.invocations.values()) + measured.requests,
        "GB-second": measured.gb_seconds,
        "S3 GET": sum(n for call, n in counts.calls.items() if call.startswith("s3 Get")),
        "S3 PUT": sum(n for call, n in counts.calls.items() if call.startswith("s3 Put")),
        "API request": measured.requests,
    }
    return {unit: amount * PRICES[unit].usd for unit, amount in amounts.items()}


def usd_per_million(measured: Measured) -> float:
    return sum(usd(measured).values()) / measured.jobs * MILLION


def show(what: str, reach_usd: str, columns: Mapping[str, Measured]) -> None:
    table = Table(f"a job {what}", *columns, "reach at load")

    def row(name: str, of: Callable[[Measured], float], reach: str = "") -> None:
        table.add_row(name, *(f"{of(one) / one.jobs:.2f}" for one in columns.values()), reach)

    def parts(prefix: str) -> None:
        for name in sorted({name for one in columns.values() for name in one.counts.units if name.startswith(prefix)}):
            row(f"  {name.removeprefix(prefix)}", lambda one, name=name: one.counts.units[name])  # type: ignore[misc]

    row("commits", lambda one: one.counts.units["commits"], "≤ 3")
    row("write units, in all", lambda one: one.counts.units["write"], "≤ 4")
    parts("write ")
    row("read units, in all", lambda one: one.counts.units["read"], "≤ 2")
    parts("read ")
    row("SQS requests", lambda one: one.counts.units["sqs"], "≤ 3.6")
    parts("sqs ")
    row("invocations", lambda one: sum(one.invocations.values()), "≤ 0.3")
    for function in next(iter(columns.values())).invocations:
        row(f"  {function}", lambda one, function=function: one.invocations[function])  # type: ignore[misc]
    for call in sorted({call for one in columns.values() for call in one.counts.calls}):
        row(f"calls: {call}", lambda one, call=call: one.counts.calls[call])  # type: ignore[misc]
    for unit in PRICES:
        if unit != "schedule":
            row(f"USD a million: {unit}", lambda one, unit=unit: usd(one)[unit] * MILLION)  # type: ignore[misc]
    table.add_row("USD a million jobs", *(f"[bold]{usd_per_million(one):.2f}" for one in columns.values()), reach_usd)
    for name, transitions in (("bare", TRANSITIONS_BARE), ("typical", TRANSITIONS_TYPICAL)):
        price = f"{step_functions_usd(transitions):.1f}"
        table.add_row(f"  Step Functions Standard, {name}", *(price for _ in columns), "")
    shares = [f"{statistics.median(one.step_ms):.0f} ms" if one.step_ms else "" for one in columns.values()]
    table.add_row("job's end to dependant's start, p50, windows apart", *shares, "≤ 90 ms")
    console.print(table)


def quiet() -> None:
    """One run of ten jobs, alone."""
    documents = [diamond("nightly-sales", 10)]
    show("when quiet", "≤ 8", {flow.name: measure(flow, documents, [0.0]) for flow in (DEPLOYED, GROUPED)})


def load() -> None:
    """1,000 runs of ten jobs, asked for within an hour."""
    arrivals = random.Random(SEED)
    moments = list(accumulate(arrivals.expovariate(RUNS_AN_HOUR / 3600) for _ in range(RUNS_AN_HOUR)))
    documents = [diamond(f"nightly-sales-{number:02d}", 10) for number in range(WORKFLOWS)]
    show("at load", "≤ 5", {flow.name: measure(flow, documents, moments) for flow in (DEPLOYED, GROUPED)})


def large() -> None:
    """One run of 10,000 jobs, 500 at a time."""
    document = diamond("backfill-sales", LARGE_JOBS, parallelism=LARGE_PARALLELISM)
    show(
        f"of {LARGE_JOBS:,} in one run",
        "",
        {flow.name: measure(flow, [document], [0.0]) for flow in (DEPLOYED, GROUPED)},
    )


def idle() -> None:
    """A month in which nothing runs. Alarms, dashboard, keys, logs and stored bytes are apart."""
    with on_moto() as settings:
        there = world(settings, DEPLOYED)
        sweeps = there.functions["scheduler"].usage
        there.pump.run(lambda: sweeps.invocations >= 3)
        before, gb_seconds = there.meter.counts.copy(), sweeps.gb_seconds
        there.pump.run(lambda: sweeps.invocations >= 3 + IDLE_SWEEPS)
        reads = there.meter.counts.since(before).units["read"] / IDLE_SWEEPS
        gb_seconds = (sweeps.gb_seconds - gb_seconds) / IDLE_SWEEPS
    sweeps_a_month = SECONDS_A_MONTH / SWEEP_SECONDS
    receives = 2 * POLLERS_IDLE * SECONDS_A_MONTH / LONG_POLL_SECONDS
    amounts: dict[str, tuple[Unit, float]] = {
        f"two queues, {POLLERS_IDLE} long polls of {LONG_POLL_SECONDS} s each": ("SQS request", receives),
        "the minute's ring": ("schedule", sweeps_a_month),
        "the sweep's invocations": ("invocation", sweeps_a_month),
        "the sweep's time": ("GB-second", sweeps_a_month * gb_seconds),
        "the sweep's reads": ("read unit", sweeps_a_month * reads),
    }
    table = Table("idle", "amount a month", "unit", "USD a month", "reach")
    for what, (unit, amount) in amounts.items():
        table.add_row(what, f"{amount:,.0f}", unit, f"{amount * PRICES[unit].usd:.3f}", "")
    total = sum(amount * PRICES[unit].usd for unit, amount in amounts.values())
    table.add_row("in all", "", "", f"[bold]{total:.3f}", "≤ 0.60")
    console.print(table)


SECTIONS: dict[str, Callable[[], None]] = {"quiet": quiet, "load": load, "large": large, "idle": idle}


def main(words: Sequence[str]) -> int:
    os.environ.update(ENVIRONMENT)
    # Functions write metrics and warnings as logs, which are priced apart.
    logging.disable(logging.CRITICAL)
    unknown = [word for word in words if word not in SECTIONS]
    if unknown:
        console.print(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
        return 2
    console.print(
        f"list prices of us-east-1 as of {AS_OF}: bench/prices.py; the model: bench/cost.py and bench/pump.py"
    )
    for name in words or SECTIONS:
        console.rule(f"{name}: {(SECTIONS[name].__doc__ or '').splitlines()[0]}", align="left")
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            SECTIONS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
