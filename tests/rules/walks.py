"""Healthy histories: random walks of a run through its rules, and a workflow through its schedule, kept as commits.

Whatever a walk does is done by `decide`, so its history is one that could really be; the same seed gives the same walk.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.codec import record_of
from shared.decide.commands import (
    Advance,
    CancelJob,
    CancelRun,
    MarkJob,
    RecordClaim,
    RecordReport,
    RecordSilence,
    RecordStopSent,
    ReleaseClaim,
    ReopenRun,
    RequestRun,
    RunCommand,
)
from shared.decide.run import decide
from shared.errors import Rejected
from shared.events import Event, RunRequested
from shared.ids import CommitId, Digest, Handle, JobName, RunId, StreamName, WorkflowName, run_stream
from shared.ports import FIRST_HASH, Record
from shared.state.run import Claimed, Doubted, NotRequested, Queued, Run, RunState, Submitted, fold
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan, compile_plan

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DOCUMENT = Digest("d" * 64)


def job(name: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs", "image": "busybox", "after": list(after), **fields}


def plan_of(*jobs: dict[str, Any], digest: Digest = DOCUMENT, **fields: Any) -> Plan:
    return compile_plan(Workflow.model_validate({"name": "nightly", "jobs": list(jobs), **fields}), digest)


def request_of(plan: Plan, run: str = "nightly@1", **fields: Any) -> RunRequested:
    return RunRequested(
        run=RunId(run),
        workflow=WorkflowName(plan.workflow.name),
        document=plan.digest,
        document_version=1,
        **fields,
    )


def records_of(
    stream: StreamName, commits: Sequence[tuple[datetime, Sequence[Event]]], *, causes: Sequence[str] = ()
) -> list[Record]:
    """Commits as a store would keep them, chained; `causes` for the first of them, in order."""
    records: list[Record] = []
    for version, (at, events) in enumerate(commits, start=1):
        cause = causes[version - 1] if version <= len(causes) else "test:walk"
        records.append(
            record_of(
                stream,
                version=version,
                commit_id=CommitId(f"{stream}-{version}"),
                at=at,
                by="test",
                cause=cause,
                previous_hash=records[-1].hash if records else FIRST_HASH,
                events=events,
            )
        )
    return records


@dataclass
class Walk:
    """A run under way; every command that changed something is a commit."""

    plan: Plan
    state: RunState = field(default_factory=NotRequested)
    now: datetime = NOON
    commits: list[tuple[datetime, tuple[Event, ...]]] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def plans(self, digest: Digest) -> Plan:
        assert digest == self.plan.digest
        return self.plan

    def do(self, *commands: RunCommand, after: timedelta = timedelta(0)) -> "Walk":
        """Decide and fold; raises what `decide` raises."""
        self.now += after
        for command in commands:
            events = decide(self.state, command, now=self.now, plans=self.plans)
            if events:
                self.state = fold(((self.now, event) for event in events), self.plans, self.state)
                self.commits.append((self.now, tuple(events)))
                self.causes.append("time" if isinstance(command, Advance) else f"test:{type(command).__name__}")
        return self

    @property
    def run(self) -> Run:
        assert isinstance(self.state, Run)
        return self.state

    def records(self) -> list[Record]:
        return records_of(run_stream(self.run.run), self.commits, causes=self.causes)


def begun(*jobs: dict[str, Any], request: dict[str, Any] | None = None, **fields: Any) -> Walk:
    """A run of these jobs, just requested."""
    plan = plan_of(*jobs, **fields)
    return Walk(plan).do(RequestRun(request_of(plan, **(request or {}))))


def submit(name: str, attempt: int = 1, *, running: bool = False, now: datetime | None = None) -> RecordReport:
    return RecordReport(
        JobName(name),
        attempt,
        "running" if running else "submitted",
        handle=Handle(f"arn:{name}:{attempt}"),
        started_at=now if running else None,
    )


def succeed(name: str, attempt: int = 1) -> RecordReport:
    return RecordReport(JobName(name), attempt, "succeeded", exit_code=0)


def fail(name: str, attempt: int = 1, failure: Any = "user", reason: str = "exit code 1") -> RecordReport:
    return RecordReport(JobName(name), attempt, "failed", failure=failure, reason=reason, exit_code=1)


def doubt(name: str, attempt: int = 1, reason: str = "no answer") -> RecordSilence:
    return RecordSilence(JobName(name), attempt, reason)


WHENS = ("all_succeeded", "all_succeeded", "all_done", "any_failed", "any_succeeded", "outcomes.j0 == 'succeeded'")


def random_plan(rng: random.Random, jobs_max: int = 8) -> Plan:
    jobs = []
    for number in range(rng.randint(1, jobs_max)):
        after = [f"j{before}" for before in range(number) if rng.random() < 0.4]
        when = rng.choice(WHENS) if after and "j0" in after else "all_succeeded"
        jobs.append(
            job(
                f"j{number}",
                *after,
                when=when,
                priority=rng.randint(0, 2),
                retry={"attempts": rng.randint(1, 3), "delay_seconds": rng.choice([0, 30])},
                timeouts=rng.choice([{}, {"queue_minutes": 5}, {"run_minutes": 10}, {"total_minutes": 30}]),
                doubt={"policy": rng.choice(["wait", "assume_lost", "ask"]), "after_minutes": 20},
            )
        )
    return plan_of(*jobs, parallelism=rng.randint(1, 3))


def random_walk(seed: int, steps: int = 120, jobs_max: int = 8) -> Walk:
    """A run that meets everything: failures of each class, doubts, stops, marks, cancellations, reruns."""
    rng = random.Random(seed)
    plan = random_plan(rng, jobs_max)
    start_after = NOON + timedelta(minutes=5) if rng.random() < 0.2 else None
    walk = Walk(plan).do(RequestRun(request_of(plan, f"nightly@{seed}", start_after=start_after)))
    for _ in range(steps):
        walk.now += timedelta(seconds=rng.choice([0, 1, 20, 90, 900]))
        if rng.random() < 0.1:
            walk.now += timedelta(hours=1)
        try:
            walk.do(_step(rng, walk))
        except Rejected:
            continue
    return walk


def _step(rng: random.Random, walk: Walk) -> RunCommand:
    run = walk.run
    names = list(walk.plan.jobs)
    if run.finished:
        if rng.random() < 0.2:
            return ReopenRun(
                (rng.choice(names),), rng.random() < 0.5, DOCUMENT, 1, (), "ada", "again", str(rng.random())
            )
        return _report(rng, rng.choice(names), rng.randint(1, 3))
    chance = rng.random()
    if chance < 0.25:
        return Advance()
    if chance < 0.28:
        return CancelRun("ada", "enough")
    if chance < 0.31:
        return CancelJob(JobName(rng.choice(names)), "ada", "not this one")
    if chance < 0.35:
        outcome: Any = rng.choice(["succeeded", "failed", "skipped"])
        return MarkJob(JobName(rng.choice(names)), outcome, "ada", "looked at it")
    under_way = [name for name in names if run.jobs[name].is_open]
    if not under_way:
        return Advance()
    name = rng.choice(under_way)
    phase = run.jobs[name].phase
    assert isinstance(phase, Queued | Claimed | Submitted | Doubted)
    if isinstance(phase, Queued) and chance < 0.6:
        return RecordClaim(name, phase.attempt, "one", {"image": "busybox"}, walk.now + timedelta(seconds=60))
    if isinstance(phase, Claimed) and chance < 0.45:
        return ReleaseClaim(name, phase.attempt, "one", "throttled", 30)
    if phase.stop is not None and chance < 0.5:
        return RecordStopSent(name, phase.attempt)
    if chance < 0.5:
        return RecordSilence(name, phase.attempt, "no answer")
    return _report(rng, name, phase.attempt)


def _report(rng: random.Random, name: str, attempt: int) -> RecordReport:
    status: Any = rng.choice(
        ["submitted", "running", "running", "succeeded", "succeeded", "failed", "cancelled", "missing", "unknown"]
    )
    # Now and then a second execution turns up under the attempt's token.
    handle = f"arn:{name}:{attempt}" + (":stray" if rng.random() < 0.1 else "")
    failure: Any = rng.choice(["user", "infrastructure", "capacity", "timeout", "refused"])
    return RecordReport(
        JobName(name),
        attempt,
        status,
        handle=Handle(handle) if status in {"submitted", "running"} or rng.random() < 0.2 else None,
        failure=failure if status == "failed" else None,
        reason="it says so" if status == "failed" else "",
        exit_code={"succeeded": 0, "failed": 1}.get(status),
        started_at=NOON + timedelta(minutes=1) if status == "running" else None,
        outputs={"rows": 3} if status == "succeeded" else {},
        files={"a.csv": "artifact:1"} if status == "succeeded" else {},
    )
