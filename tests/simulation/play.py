"""One play: a deployment, a workload and faults from a seed; afterwards the faults end, people tidy up, and everything is checked.

What must hold: every run ends; nothing is under way anywhere that a run does not know; each attempt was executed once at most; what a run says
of an attempt is what the target did; and `runfold verify` finds nothing in the whole history.
"""

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from shared.codec import events_in
from shared.errors import Conflict, NotFound, StoreUnavailable, TargetSilent, TargetUnavailable, UnknownEvents
from shared.events import (
    AttemptQueued,
    Event,
    JobSettled,
    NoticeSent,
    NoticesPlanned,
    RunCancelRequested,
    RunReopened,
    WaitBegun,
    WaitExpired,
    WaitFailed,
    WaitMet,
)
from shared.ids import JobName, RunId, Token, attempt_token, kind_of, run_stream
from shared.ports import Record
from shared.state.notices import NoticeLog
from shared.state.run import Done, JobState, Run
from shared.usecases import loading
from shared.usecases.loading import Loader, PlanCache
from shared.usecases.verify import verify
from tests.engine.fakes import derived
from tests.simulation.backfills import Backfills, untrue_of_backfills
from tests.simulation.deployment import RESTORE, Deployment
from tests.simulation.kernel import BEGIN, Fault, Kernel
from tests.simulation.models import ecs, emr, mail, ssm
from tests.simulation.models.model import Execution
from tests.simulation.odd_days import OddDays, untrue_of_odd_days
from tests.simulation.pools import Pools, untrue_of_pools
from tests.simulation.stores import Tables
from tests.simulation.triggers import Triggers, untrue_of_triggers
from tests.simulation.waiting import Waiting, untrue_of_children, untrue_of_decisions
from tests.simulation.workload import Workload

HOURS = 3.0
TIDY_AFTER = timedelta(hours=6)
"""After this, and every outage, nothing goes wrong any more, and people tidy up."""
SETTLED_WITHIN = timedelta(days=6)
LIKELY = {
    "crash": 0.004,
    "stall": 0.002,
    "a store is throttled": 0.02,
    "a write goes unanswered": 0.01,
    "the SDK puts twice": 0.05,
    "messages out of order": 0.3,
    "a message is delivered twice": 0.1,
    "the queue does not take a message": 0.02,
    "the queue takes a message and does not say so": 0.02,
    "a poison record": 0.02,
    "a batch of the stream is delivered twice": 0.1,
    "an event of EMR or SSM is lost": 0.3,
    "an event of ECS is lost": 0.05,
    "an event is repeated": 0.2,
    "an event is late": 0.1,
    "an upload is told twice": 0.3,
    "a bell is lost": 0.2,
    "a bell is late": 0.2,
    "a bell rings twice": 0.3,
    "a bell rings for a schedule that is gone": 0.5,
    "a sweep is missed": 0.2,
    "clocks differ": 1.0,
}
OF_STOPS = dict.fromkeys(
    (
        "ecs container ignores SIGTERM",
        "emr cancel promises nothing",
        "emr step ignores the interrupt",
        "ssm cancel promises nothing",
        "ssm work ignores SIGTERM",
    ),
    0.6,
)
"""Faults of targets that only a stop can meet, and stops are few."""
OUTAGES = {
    "outage of targets": timedelta(hours=3),
    "outage of the stream": timedelta(hours=25),
    "outage of the scheduler": timedelta(hours=2),
}
RESTORED_MINUTES = (2.0, 40.0)
"""How much of the history a restore loses: less than the hour for which ECS tells of what has ended."""
OF_TARGETS = (
    "unreachable",
    "throttles",
    "answers 500 and did nothing",
    "answers 500 and did it",
    "is silent after doing it",
)


class Violated(AssertionError):
    """Something that must always hold does not."""


@dataclass
class Played:
    """What one play came to."""

    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    """Invariants, and how often there was something that they were held against."""
    runs: int = 0
    attempts: int = 0
    executions: int = 0
    points: int = 0


def faults_of(seed: int) -> list[Fault]:
    """Some of all faults, each with a chance of its own, and now and then an outage."""
    rng = random.Random(f"faults of {seed}")
    if rng.random() < 0.05:
        return []
    share, scale = rng.choice((0.15, 0.4, 0.8)), rng.choice((0.3, 1.0, 1.0, 2.0, 4.0))
    likely = dict(LIKELY)
    for service in ("ecs", "emr", "ssm"):
        likely |= {f"{service} {what}": 0.03 for what in OF_TARGETS}
    likely |= dict.fromkeys((*ecs.FAULTS, *emr.FAULTS, *ssm.FAULTS, *mail.FAULTS), 0.1) | OF_STOPS
    chosen = [Fault(name, min(1.0, chance * scale)) for name, chance in likely.items() if rng.random() < share]
    for name, lasts in OUTAGES.items():
        if rng.random() < 0.08:
            begin = BEGIN + timedelta(hours=rng.uniform(0, HOURS))
            chosen.append(Fault(name, 1.0, begin, begin + lasts))
    if rng.random() < 0.08:
        end = BEGIN + timedelta(hours=rng.uniform(1, HOURS))
        chosen.append(Fault(RESTORE, 1.0, end - timedelta(minutes=rng.uniform(*RESTORED_MINUTES)), end))
    return chosen


def play(seed: int, *, faults: list[Fault] | None = None) -> Played:
    """Play one seed; raises `Violated` or `NeverEnds` with what went wrong."""
    with quietly():
        # The handlers spread their retries by the process's own randomness.
        random.seed(seed)
        kernel = Kernel(seed, faults=faults_of(seed) if faults is None else faults)
        workload = Workload(kernel)
        odd_days = OddDays(kernel, workload, seed)
        older = 0.5 if kernel.random.random() < 0.1 else 0.0
        deployment = Deployment(kernel, workload.behaviour, older_share=older)
        odd_days.begin(deployment, HOURS)
        pools = Pools(kernel, workload, seed)
        workload.begin(deployment, HOURS)
        pools.begin(deployment, HOURS)
        backfills = Backfills(kernel, workload, seed)
        backfills.begin(deployment, HOURS)
        triggers = Triggers(kernel, workload, seed)
        triggers.begin(deployment, HOURS)
        waiting = Waiting(kernel, workload, seed)
        waiting.begin(deployment, HOURS)
        _plan_restore(kernel, deployment, workload, odd_days, waiting)
        _let_pass(kernel, timedelta(hours=HOURS))
        _tidy(kernel, deployment, workload, backfills)
        return judge(seed, kernel, deployment, triggers)


def _plan_restore(
    kernel: Kernel, deployment: Deployment, workload: Workload, odd_days: OddDays, waiting: Waiting
) -> None:
    restore = kernel.faults.get(RESTORE)
    if restore is not None and restore.begin is not None and restore.end is not None:
        begin = restore.begin

        def again() -> None:
            odd_days.upload(deployment)
            workload.upload(deployment)
            waiting.upload(deployment)

        kernel.at(restore.end, lambda: deployment.restore(begin, again))


def _let_pass(kernel: Kernel, time: timedelta) -> None:
    end = kernel.now + time
    kernel.at(end, lambda: None)
    kernel.run(lambda: kernel.now >= end, deadline=end)


def _tidy(kernel: Kernel, deployment: Deployment, workload: Workload, backfills: Backfills) -> None:
    """The rolling deployment ends, schedules end, faults end; operators put dead letters back; people look after what is left."""
    for name in workload.names:
        workload.insist(deployment, lambda control, name=name: control.unregister(name, by="ann"))  # type: ignore[misc]
    ends = [
        BEGIN + TIDY_AFTER,
        *(fault.end + timedelta(hours=1) for fault in kernel.faults.values() if fault.end is not None),
    ]
    tidied_from = max(ends)
    _let_pass(kernel, tidied_from - kernel.now)
    kernel.faults.clear()
    deployment.everything_newer()
    for name in workload.names:
        workload.insist(deployment, lambda control, name=name: control.unregister(name, by="ann"))  # type: ignore[misc]
    tidied = 0

    def tidy() -> None:
        nonlocal tidied
        tidied += 1
        deployment.redrive()
        backfills.wind_up(deployment, tidied)
        if tidied >= 2:
            workload.wind_up(deployment, runs_of(deployment))
        kernel.after(6 * 3600, tidy)

    kernel.after(3600, tidy)

    def settled() -> bool:
        quiet = deployment.idle and not deployment.effects.dead and not deployment.reports.dead
        return quiet and deployment.tables.dues.next_at() is None and kernel.now > tidied_from + timedelta(minutes=30)

    if not kernel.run(settled, deadline=tidied_from + SETTLED_WITHIN):
        left = [
            f"{run}: " + ", ".join(f"{name} {job.status}" for name, job in state.jobs.items())
            for run, state in runs_of(deployment).items()
            if not state.finished
        ]
        rows = deployment.tables.dues.due(kernel.now + timedelta(days=9999))
        raise Violated(f"not settled by {kernel.now}: {left}, due {rows}, idle {deployment.idle}")


def runs_of(deployment: Deployment) -> dict[RunId, Run]:
    loader = Loader(deployment.tables.events, PlanCache(deployment.tables.documents))
    found = {}
    for stream in deployment.tables.events.streams("run"):
        state = loader.load(stream).state
        assert isinstance(state, Run)
        found[state.run] = state
    return found


def judge(seed: int, kernel: Kernel, deployment: Deployment, triggers: Triggers | None = None) -> Played:
    tables = deployment.tables
    plans = PlanCache(tables.documents)
    found = [
        str(violation)
        for violation in verify(
            tables.events, plans, now=kernel.now, dues=tables.dues, views=tables.views, derive=derived(plans)
        )
    ]
    runs = runs_of(deployment)
    found += [f"{run} has not ended" for run, state in runs.items() if not state.finished]
    found += _untrue(runs, deployment)
    found += untrue_of_backfills(deployment.tables, runs)
    if triggers is not None:
        found += untrue_of_triggers(tables, runs, triggers, restored=deployment.restored_at is not None)
    found += untrue_of_pools(deployment, runs)
    found += _waited_wrongly(runs, Loader(tables.events, plans))
    found += untrue_of_odd_days(deployment.tables, restored=bool(kernel.injected[RESTORE]))
    found += _untold(deployment, restored=bool(kernel.injected[RESTORE]))
    if deployment.restored_at is None:
        found += untrue_of_children(runs)
    found += untrue_of_decisions(_events_of_runs(tables))
    found += [f"a function failed: {error!r}" for error in deployment.errors if not isinstance(error, _ALLOWED)]
    if found:
        raise Violated("\n".join(found[:20]))
    played = Played(seed, kernel.injected, kernel.reached, runs=len(runs), points=kernel.points)
    for stream in tables.events.streams("run"):
        for record in tables.events.read(stream):
            played.events.update(type(event).__name__ for event in events_in(record.body))
        played.checked["I5 I7 I8 what lists show, and when to look again, of a run"] += 1
    for stream in tables.events.streams("backfill"):
        for record in tables.events.read(stream):
            played.events.update(type(event).__name__ for event in events_in(record.body))
    played.checked["I5 I6 an instant of a backfill: one run at once, one outcome"] += played.events["BackfillRunEnded"]
    for stream in tables.events.streams("pool"):
        for record in tables.events.read(stream):
            played.events.update(type(event).__name__ for event in events_in(record.body))
    played.checked["I5 a place of a pool: within its capacity, and given back"] += played.events["PlaceGranted"]
    for kind in ("run", "workflow", "document", "backfill", "pool"):
        for stream in tables.events.streams(kind):
            played.checked["I9 I11 I13 a commit: chain, cause, no secret"] += len(tables.events.read(stream))
    for stream in tables.events.streams("notices"):
        for record in tables.events.read(stream):
            played.events.update(type(event).__name__ for event in events_in(record.body))
    played.checked["a notice: planned once, tried until it is over, told as recorded"] += sum(
        len(event.notices)
        for stream in tables.events.streams("notices")
        for record in tables.events.read(stream)
        for event in events_in(record.body)
        if isinstance(event, NoticesPlanned)
    )
    played.checked["I6 a workflow's instants: run, skip or miss"] += len(tables.events.streams("workflow"))
    by_events = sum(state.request.trigger == "event" for state in runs.values())
    played.checked["an event: one fate, and at most one run"] += by_events
    played.checked["a wait: over when, and as, what it waited for was"] += played.events["WaitBegun"]
    played.checked["a child: one run for an attempt, which ended as it did"] += sum(
        state.request.parent is not None for state in runs.values()
    )
    played.checked["a decision: by those who may"] += played.events["JobApproved"] + played.events["JobRejected"]
    played.checked["I4 a fan-out: ended with its last item, as they make it"] += played.events["ItemsJoined"]
    played.checked["I12 a stop: confirmed or flagged"] += played.events["StopRequested"]
    played.checked["I14 a rerun: repeats nothing that it kept"] += played.events["RunReopened"]
    played.attempts = sum(len(job.attempts) for state in runs.values() for _, job in _every(state))
    played.executions = len(deployment.ledger.executions)
    played.checked["I1 I2 I3 I4 an attempt: bound once, doubt, end, condition"] += played.attempts
    played.checked["an execution: once, known, and ended as told"] += played.executions
    return played


def _events_of_runs(tables: Tables) -> Iterator[Event]:
    for stream in tables.events.streams("run"):
        for record in tables.events.read(stream):
            yield from events_in(record.body)


_ALLOWED = (StoreUnavailable, Conflict, TargetSilent, TargetUnavailable, UnknownEvents, NotFound)
"""What may end an invocation: it is repeated, or a sweep follows."""


def _untold(deployment: Deployment, *, restored: bool) -> Iterator[str]:
    """Notices that are not over, or over otherwise than the channel knows; and letters that nobody planned."""
    post, loader = deployment.mail, Loader(deployment.tables.events, PlanCache(deployment.tables.documents))
    planned: set[str] = set()
    for stream in deployment.tables.events.streams("notices"):
        for record in loader.records(stream):
            for event in events_in(record.body):
                if isinstance(event, NoticesPlanned):
                    planned.update(one.id for one in event.notices)
                elif isinstance(event, NoticeSent) and not post.taken[event.id]:
                    yield f"notice {event.id} counts as sent and never arrived"
        log = loader.load(stream).state
        assert isinstance(log, NoticeLog)
        yield from (f"notice {one.notice.id} is not over" for one in log.open)
    if not restored:
        # What was told and is not in the history any more was told all the same.
        yield from (f"notice {name} arrived and nobody planned it" for name in post.taken if name not in planned)


def _waited_wrongly(runs: dict[RunId, Run], loader: Loader) -> Iterator[str]:
    """Waits that ended by what was not so, and waits that went on for long after what they were for had ended."""
    for run in runs:
        going_on: dict[tuple[JobName, int], str] = {}
        for record in loader.records(run_stream(run)):
            for event in events_in(record.body):
                match event:
                    case WaitBegun(job=job, number=number, awaited=awaited):
                        going_on[job, number] = awaited
                    case WaitMet(job=job, number=number) | WaitFailed(job=job, number=number):
                        going_on.pop((job, number))
                        if event.version:
                            yield from _not_as_told(run, event, loader)
                    case WaitExpired(job=job, number=number):
                        going_on.pop((job, number))
                    case JobSettled(job=job):
                        going_on = {key: awaited for key, awaited in going_on.items() if key[0] != job}
                    case RunCancelRequested() | RunReopened():
                        for awaited in going_on.values():
                            known = runs.get(RunId(awaited))
                            ended = known.finished_at if known is not None and known.round == 1 else None
                            if ended is not None and record.at - ended > WAITS_LOOK_WITHIN:
                                yield f"{run} still waited at {record.at} for {awaited}, which ended at {ended}"
                        going_on.clear()
                    case _:
                        pass


WAITS_LOOK_WITHIN = timedelta(hours=6)
"""A run that waits looks for itself at least every hour, unless sweeps are missing."""


def _every(state: Run) -> Iterator[tuple[JobName, JobState]]:
    """Jobs, and items of jobs, in an order that is the same in every process."""
    yield from ((name, state.jobs[name]) for name in state.plan.jobs)
    yield from sorted(state.items.items())


def _not_as_told(run: RunId, event: WaitMet | WaitFailed, loader: Loader) -> Iterator[str]:
    state = loader.load_as_of(run_stream(RunId(event.run)), version=event.version).state
    if not isinstance(state, Run):
        yield f"{run} was told of {event.run} at {event.version}, which is none"
    elif event.outcome and state.outcome != event.outcome:
        ended = [job.phase.outcome for job in state.jobs.values() if isinstance(job.phase, Done)]
        if event.outcome not in ended:
            yield f"{run} was told that {event.run} {event.outcome}, and at {event.version} it was {state.status}"


def _untrue(runs: dict[RunId, Run], deployment: Deployment) -> Iterator[str]:
    """What histories say of attempts against what targets did."""
    by_token: dict[Token, list[Execution]] = {}
    for execution in deployment.ledger.executions:
        by_token.setdefault(execution.token, []).append(execution)
    known = {
        attempt_token(run, name, one.attempt)
        for run, state in runs.items()
        for name, attempts in (*((name, job.attempts) for name, job in _every(state)), *state.removed.items())
        for one in attempts
    }
    # What only a history knew that is lost belongs to nobody; it ends by itself, or is found by whoever tidies up.
    lost = set(_attempts_in(deployment.lost)) - known
    for token, executions in by_token.items():
        if len(executions) > 1 and not _forgotten(executions, deployment.restored_at):
            yield f"executed {len(executions)} times: {executions}"
        for one in executions:
            if one.ended_at is None and token not in lost:
                yield f"still going on, and nobody knows: {one}"
    for run, state in runs.items():
        for name, job in _every(state):
            if state.plan.jobs[name].type == "workflow":
                # Its target is this engine.
                continue
            for attempt in job.attempts:
                done = by_token.get(attempt_token(run, name, attempt.attempt), [])
                if (
                    attempt.status == "succeeded"
                    and (not done or done[0].outcome != "succeeded")
                    and not attempt.assumed
                ):
                    yield f"{run} {name} {attempt.attempt} succeeded, but was {done}"
                # By clocks that differ, what a stop ended may have ended before the stop; and a restore may have lost the stop.
                stopped = deployment.skewed or deployment.restored_at is not None
                ends = ("failed", "never started", "stopped") if stopped else ("failed", "never started")
                if attempt.failure == "user" and (not done or done[0].outcome not in ends):
                    yield f"{run} {name} {attempt.attempt} failed by itself, but was {done}"
                never = attempt.failure in ("capacity", "refused") and not attempt.assumed and attempt.handle is None
                if never and done and done[0].outcome != "never started" and not attempt.late:
                    yield f"{run} {name} {attempt.attempt} was never taken ({attempt.reason}), but was {done}"
    for token in by_token.keys() - known - lost:
        yield f"executed for no attempt: {by_token[token]}"


def _attempts_in(lost: Sequence[Record]) -> Iterator[Token]:
    for record in lost:
        if kind_of(record.stream) == "run":
            for event in events_in(record.body):
                if isinstance(event, AttemptQueued):
                    yield attempt_token(RunId(record.stream.partition("#")[2]), event.job, event.attempt)


def _forgotten(executions: Sequence[Execution], restored_at: datetime | None) -> bool:
    """Whether all but the last were from before a restore, and had ended too long ago for the target to tell of when the next began."""
    return restored_at is not None and all(
        one.began_at < restored_at
        and one.ended_at is not None
        and following.began_at - one.ended_at > ecs.FORGOTTEN_AFTER
        for one, following in pairwise(sorted(executions, key=lambda one: one.began_at))
    )


_events_in = lru_cache(maxsize=5_000)(events_in)


@contextmanager
def quietly() -> Iterator[None]:
    """Functions write their logs and metrics, which nobody reads here; and what a commit says is the same for all who read it."""
    before = logging.root.manager.disable
    loading.events_in = _events_in  # type: ignore[attr-defined]
    logging.disable(logging.CRITICAL)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        logging.disable(before)
        loading.events_in = events_in  # type: ignore[attr-defined]
