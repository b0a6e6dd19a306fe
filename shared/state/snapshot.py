"""Folded states as bytes and back, so that a cold reader need not read a long history from its beginning.

A snapshot is a cache: whoever reads one checks it against the stream, and anything wrong with the bytes themselves is a
`ValueError`, upon which the events are read instead. `load(dump(state))` answers and folds on exactly as `state` does. What
follows from the rest (the sets of ranks, the document) is not written but made again. The format belongs to one `FOLD_VERSION`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from immutables import Map
from pydantic import TypeAdapter

from shared.events import RunRequested
from shared.ids import Digest, Handle, JobName, PoolName, RunId, WorkflowName
from shared.state.fan import Fan, FanCancel, Unstarted
from shared.state.lateness import Pace
from shared.state.ranks import EMPTY, Ranks, add
from shared.state.run import (
    Asking,
    Attempt,
    Backoff,
    Cancel,
    Claimed,
    Done,
    Doubted,
    FannedOut,
    JobState,
    Phase,
    Plans,
    PoolUse,
    Queued,
    Ready,
    Run,
    Submitted,
    Waiting,
    Wanting,
)
from shared.state.waits import Wait, is_open
from shared.state.workflow import Held, Holder, Pause, TurnedAway, Version, WorkflowState
from shared.workflow.plan import Plan

_CHECKSUM_LENGTH = 32


@dataclass(frozen=True, slots=True)
class _FanBody:
    """The items of a job; sets of them as hexadecimal digits, since JSON has no numbers of a hundred thousand bits."""

    since: datetime
    count: int
    items: tuple[Any, ...] | None
    tolerated: int
    max_parallel: int | None
    todo: str
    resting: str
    active: int
    stopping: int
    left: int
    tally: dict[str, int]
    unstarted: Unstarted | None
    cancel: FanCancel | None
    bad_before: int
    joined: bool


@dataclass(frozen=True, slots=True)
class _RunBody:
    """A run with its jobs, and the items of jobs that something happened to, sorted by phase: the list one stands in is the tag of its phase."""

    run: RunId
    request: RunRequested
    requested_at: datetime
    document: Digest
    document_version: int
    at: datetime
    waiting: dict[JobName, Waiting]
    wanting: dict[JobName, Wanting]
    ready: dict[JobName, Ready]
    queued: dict[JobName, Queued]
    claimed: dict[JobName, Claimed]
    submitted: dict[JobName, Submitted]
    doubted: dict[JobName, Doubted]
    backoff: dict[JobName, Backoff]
    asking: dict[JobName, Asking]
    done: dict[JobName, Done]
    attempts: dict[JobName, tuple[Attempt, ...]]
    outputs: dict[JobName, Mapping[str, Any]]
    files: dict[JobName, Mapping[str, str]]
    live: tuple[JobName, ...]
    active: int
    unfinished: int
    tally: dict[str, int]
    round: int
    opened: bool
    pace: Pace
    cancel: Cancel | None
    outcome: Literal["succeeded", "failed", "cancelled"] | None
    started_at: datetime | None
    finished_at: datetime | None
    reopen_requests: tuple[str, ...]
    flagged: int
    doubts: int
    stopping: int
    strays: dict[JobName, Mapping[Handle, int]]
    removed: dict[JobName, tuple[Attempt, ...]]
    gates: dict[JobName, tuple[Wait, ...]]
    fanned_out: dict[JobName, FannedOut]
    fans: dict[JobName, _FanBody]
    fanned: int


@dataclass(frozen=True, slots=True)
class _WorkflowBody:
    name: WorkflowName
    versions: tuple[Version, ...]
    live: Version | None
    at: datetime
    changed_at: datetime
    pause: Pause | None
    watermark: datetime | None
    next_at: datetime | None
    holders: dict[RunId, Holder]
    held: tuple[Held, ...]
    previous_success_at: datetime | None
    turned_away: tuple[TurnedAway, ...] = ()


# Built when first used: most processes never meet a snapshot, and a cold start would pay ten milliseconds for them.
@cache
def _run_adapter() -> TypeAdapter[_RunBody]:
    return TypeAdapter(_RunBody)


@cache
def _workflow_adapter() -> TypeAdapter[_WorkflowBody]:
    return TypeAdapter(_WorkflowBody)


def dump(state: Run) -> bytes:
    """The state as bytes; linear in the number of jobs."""
    waiting: dict[JobName, Waiting] = {}
    wanting: dict[JobName, Wanting] = {}
    ready: dict[JobName, Ready] = {}
    queued: dict[JobName, Queued] = {}
    claimed: dict[JobName, Claimed] = {}
    submitted: dict[JobName, Submitted] = {}
    doubted: dict[JobName, Doubted] = {}
    backoff: dict[JobName, Backoff] = {}
    asking: dict[JobName, Asking] = {}
    fanned_out: dict[JobName, FannedOut] = {}
    done: dict[JobName, Done] = {}
    attempts: dict[JobName, tuple[Attempt, ...]] = {}
    outputs: dict[JobName, Mapping[str, Any]] = {}
    files: dict[JobName, Mapping[str, str]] = {}
    strays: dict[JobName, Mapping[Handle, int]] = {}
    # A map's order differs from process to process; bytes of the same state should not.
    names = (*state.plan.jobs, *sorted(state.items))
    for name in names:
        job = state.job(name)
        match job.phase:
            case Waiting() as phase:
                waiting[name] = phase
            case Wanting() as phase:
                wanting[name] = phase
            case Ready() as phase:
                ready[name] = phase
            case Queued() as phase:
                queued[name] = phase
            case Claimed() as phase:
                claimed[name] = phase
            case Submitted() as phase:
                submitted[name] = phase
            case Doubted() as phase:
                doubted[name] = phase
            case Backoff() as phase:
                backoff[name] = phase
            case Asking() as phase:
                asking[name] = phase
            case FannedOut() as phase:
                fanned_out[name] = phase
            case Done() as phase:
                done[name] = phase
        if job.attempts:
            attempts[name] = job.attempts
        if job.outputs is not None:
            outputs[name] = job.outputs
        if job.files is not None:
            files[name] = job.files
        if job.strays is not None:
            strays[name] = job.strays
    body = _RunBody(
        run=state.run,
        request=state.request,
        requested_at=state.requested_at,
        document=state.plan.digest,
        document_version=state.document_version,
        at=state.at,
        waiting=waiting,
        wanting=wanting,
        ready=ready,
        queued=queued,
        claimed=claimed,
        submitted=submitted,
        doubted=doubted,
        backoff=backoff,
        asking=asking,
        done=done,
        attempts=attempts,
        outputs=outputs,
        files=files,
        live=tuple(name for name in names if name in state.live),
        active=state.active,
        unfinished=state.unfinished,
        tally=dict(state.tally),
        round=state.round,
        opened=state.opened,
        pace=state.pace,
        cancel=state.cancel,
        outcome=state.outcome,
        started_at=state.started_at,
        finished_at=state.finished_at,
        reopen_requests=tuple(sorted(state.reopen_requests)),
        flagged=state.flagged,
        doubts=state.doubted,
        stopping=state.stopping,
        strays=strays,
        removed=dict(sorted(state.removed.items())),
        gates=dict(sorted(state.gates.items())),
        fanned_out=fanned_out,
        fans={name: _fan_body(fan) for name, fan in sorted(state.fans.items())},
        fanned=state.fanned,
    )
    return _sealed(_run_adapter().dump_json(body))


def load(body: bytes, plans: Plans) -> Run:
    """The state that was dumped. `ValueError` if the bytes are damaged; what `plans` raises if the document is gone."""
    read = _run_adapter().validate_json(_opened(body))
    plan = plans(read.document)
    groups: tuple[Mapping[JobName, Phase], ...] = (
        read.waiting,
        read.wanting,
        read.ready,
        read.queued,
        read.claimed,
        read.submitted,
        read.doubted,
        read.backoff,
        read.asking,
        read.fanned_out,
        read.done,
    )
    jobs = Map[JobName, JobState]().mutate()
    items = Map[JobName, JobState]().mutate()
    for group in groups:
        for name, phase in group.items():
            # An item has one character in its name that no job of a document has.
            (items if ":" in name else jobs)[name] = JobState(
                phase,
                read.attempts.get(name, ()),
                read.outputs.get(name),
                read.files.get(name),
                read.strays.get(name),
            )
    if len(jobs) != len(plan.jobs) or any(name not in jobs for name in plan.jobs):
        raise ValueError("the snapshot's jobs are not those of its document")
    fans = {name: _fan(body) for name, body in read.fans.items()}
    undecided = [plan.rank[name] for name, fan in fans.items() if fan.undecided]
    startable = [plan.rank[name] for name, fan in fans.items() if fan.startable]
    live = Map[JobName, bool]().mutate()
    for name in read.live:
        live[name] = True
    return Run(
        run=read.run,
        request=read.request,
        requested_at=read.requested_at,
        plan=plan,
        document_version=read.document_version,
        at=read.at,
        jobs=jobs.finish(),
        live=live.finish(),
        unsettled=_ranks(
            (
                *undecided,
                *(
                    plan.rank[name]
                    for name, phase in read.waiting.items()
                    if phase.remaining == 0 and not is_open(read.gates.get(name, ()))
                ),
            )
        ),
        ready=_ranks(
            (
                *startable,
                *(
                    plan.rank[name]
                    for name, phase in read.ready.items()
                    if ":" not in name and (phase.pool is not None or plan.jobs[name].pool is None)
                ),
            )
        ),
        active=read.active,
        unfinished=read.unfinished,
        tally=read.tally,
        round=read.round,
        opened=read.opened,
        pace=read.pace,
        cancel=read.cancel,
        outcome=read.outcome,
        started_at=read.started_at,
        finished_at=read.finished_at,
        reopen_requests=frozenset(read.reopen_requests),
        flagged=read.flagged,
        doubted=read.doubts,
        stopping=read.stopping,
        asking=len(read.asking),
        removed=Map(read.removed),
        gates=Map(read.gates),
        pools=_pools(jobs.finish(), plan),
        items=items.finish(),
        fans=Map(fans),
        fanned=read.fanned,
    )


def _pools(jobs: "Map[JobName, JobState]", plan: Plan) -> "Map[PoolName, PoolUse]":
    pools: dict[PoolName, PoolUse] = {}
    for name, job in plan.jobs.items():
        if job.pool is None:
            continue
        pool = PoolName(job.pool.name)
        use = pools.get(pool, PoolUse())
        match jobs[name].phase:
            case Ready(pool=None):
                pools[pool] = PoolUse(use.places, add(use.unasked, plan.rank[name]))
            case Waiting() | Backoff() | Done():
                pass
            case _:
                pools[pool] = PoolUse(use.places + 1, use.unasked)
    return Map(pools)


def _fan_body(fan: Fan) -> _FanBody:
    fields = {name: getattr(fan, name) for name in Fan.__dataclass_fields__}
    return _FanBody(**fields | {"todo": f"{fan.todo:x}", "resting": f"{fan.resting:x}", "tally": dict(fan.outcomes)})


def _fan(body: _FanBody) -> Fan:
    fields = {name: getattr(body, name) for name in Fan.__dataclass_fields__}
    return Fan(**fields | {"todo": int(body.todo, 16), "resting": int(body.resting, 16)})


def dump_workflow(state: WorkflowState) -> bytes:
    body = _WorkflowBody(
        name=state.name,
        versions=state.versions,
        live=state.live,
        at=state.at,
        changed_at=state.changed_at,
        pause=state.pause,
        watermark=state.watermark,
        next_at=state.next_at,
        holders=dict(sorted(state.holders.items())),
        held=state.held,
        previous_success_at=state.previous_success_at,
        turned_away=state.turned_away,
    )
    return _sealed(_workflow_adapter().dump_json(body))


def load_workflow(body: bytes) -> WorkflowState:
    """The state that was dumped. `ValueError` if the bytes are damaged."""
    read = _workflow_adapter().validate_json(_opened(body))
    return WorkflowState(
        name=read.name,
        versions=read.versions,
        live=read.live,
        at=read.at,
        changed_at=read.changed_at,
        pause=read.pause,
        watermark=read.watermark,
        next_at=read.next_at,
        holders=Map(read.holders),
        held=read.held,
        previous_success_at=read.previous_success_at,
        turned_away=read.turned_away,
    )


def _sealed(body: bytes) -> bytes:
    # A flipped digit is still JSON, and would be believed.
    return hashlib.sha256(body).digest() + body


def _opened(sealed: bytes) -> bytes:
    body = sealed[_CHECKSUM_LENGTH:]
    if hashlib.sha256(body).digest() != sealed[:_CHECKSUM_LENGTH]:
        raise ValueError("the snapshot is damaged")
    return body


def _ranks(ranks: Iterable[int]) -> Ranks:
    kept: Ranks = EMPTY
    for rank in ranks:
        kept = add(kept, rank)
    return kept
