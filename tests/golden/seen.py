"""States in words that do not depend on how they are built, for golden files: a state may be built anew, and what it says stays.

Everything that is a JSON object here is a record with fixed keys. A key may be added: older files are compared by the keys that they have.
None may be renamed or mean something else.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, assert_never

from shared.codec import body_of
from shared.events import RunRequested
from shared.state.backfill import BackfillState, NoBackfill
from shared.state.calendar import CalendarState
from shared.state.document import Upload
from shared.state.fan import Fan, members
from shared.state.notices import NoticeLog
from shared.state.pool import NoPool, PoolState
from shared.state.run import (
    Asking,
    Attempt,
    Backoff,
    Claimed,
    Done,
    Doubted,
    FannedOut,
    JobState,
    NotRequested,
    Phase,
    Queued,
    Ready,
    Run,
    RunState,
    Stop,
    Submitted,
    Waiting,
    Wanting,
)
from shared.state.waits import Wait
from shared.state.workflow import NotRegistered, WorkflowState

AnyState = (
    RunState
    | NotRegistered
    | WorkflowState
    | CalendarState
    | Upload
    | NoBackfill
    | BackfillState
    | NoPool
    | PoolState
    | NoticeLog
)


def seen(state: AnyState) -> Any:
    """The whole state as JSON."""
    match state:
        case NotRequested() | NotRegistered() | NoBackfill() | NoPool():
            return None
        case Run():
            return _run(state)
        case WorkflowState():
            return _workflow(state)
        case CalendarState():
            return {**asdict(state), "days": list(state.days), "at": _moment(state.at)}
        case PoolState():
            return _pool(state)
        case NoticeLog():
            return _notices(state)
        case Upload():
            return _upload(state)
        case BackfillState():
            return _backfill(state)
        case _:
            assert_never(state)


def differs(told: Any, now: Any, where: str = "") -> str:
    """Where what is seen now is not what was told then; empty if it is. Keys that a record had not then are passed over."""
    if isinstance(told, dict) and isinstance(now, dict):
        for key, value in told.items():
            if key not in now:
                return f"{where}.{key} is gone"
            if found := differs(value, now[key], f"{where}.{key}"):
                return found
        return ""
    if isinstance(told, list) and isinstance(now, list) and len(told) == len(now):
        return next(
            filter(None, (differs(*both, f"{where}[{n}]") for n, both in enumerate(zip(told, now, strict=True)))), ""
        )
    return "" if told == now else f"{where}: {told!r} is {now!r} now"


def _run(run: Run) -> Any:
    return {
        "run": run.run,
        "request": _request(run.request),
        "requested_at": _moment(run.requested_at),
        "document": run.plan.digest,
        "document_version": run.document_version,
        "at": _moment(run.at),
        "status": run.status,
        "round": run.round,
        "opened": run.opened,
        "started_at": _moment(run.started_at),
        "pace": {
            "since": _moment(run.pace.since),
            "started_at": _moment(run.pace.started_at),
            "late_due_at": _moment(run.pace.late_due_at),
            "late_cause": run.pace.late_cause,
            "missed_due_at": _moment(run.pace.missed_due_at),
        },
        "finished_at": _moment(run.finished_at),
        "cancel": {"by": run.cancel.by, "reason": run.cancel.reason, "at": _moment(run.cancel.at)}
        if run.cancel
        else None,
        "active": run.active,
        "unfinished": run.unfinished,
        "flagged": run.flagged,
        "doubted": run.doubted,
        "stopping": run.stopping,
        "asking": run.asking,
        "ended": _pairs(run.tally),
        "live": sorted(run.live),
        "undecided": [name for name, rank in run.plan.rank.items() if run.unsettled >> rank & 1],
        "without_place": [name for name, rank in run.plan.rank.items() if run.ready >> rank & 1],
        "reopen_requests": sorted(run.reopen_requests),
        "removed": [
            {"job": name, "attempts": [_attempt(one) for one in run.removed[name]]} for name in sorted(run.removed)
        ],
        "gates": [{"job": name, "waits": [_wait(wait) for wait in run.gates[name]]} for name in sorted(run.gates)],
        "pools": [
            {
                "pool": pool,
                "places": run.pools[pool].places,
                "unasked": [name for name, rank in run.plan.rank.items() if run.pools[pool].unasked >> rank & 1],
            }
            for pool in sorted(run.pools)
        ],
        "jobs": [{"job": name, **_job(run.jobs[name])} for name in run.plan.jobs],
        "items": [{"job": name, **_job(run.items[name])} for name in sorted(run.items, key=run.plan.order)],
        "fans": [{"job": name, **_fan(run.fans[name])} for name in run.plan.jobs if name in run.fans],
        "fanned": run.fanned,
    }


def _fan(fan: Fan) -> Any:
    return {
        "since": _moment(fan.since),
        "count": fan.count,
        "items": None if fan.items is None else json.dumps(fan.items, ensure_ascii=False, sort_keys=True),
        "tolerated": fan.tolerated,
        "max_parallel": fan.max_parallel,
        "todo": list(members(fan.todo)),
        "resting": list(members(fan.resting)),
        "active": fan.active,
        "stopping": fan.stopping,
        "left": fan.left,
        "ended": _pairs(fan.outcomes),
        "unstarted": None
        if fan.unstarted is None
        else {"outcome": fan.unstarted.outcome, "at": _moment(fan.unstarted.at), "reason": fan.unstarted.reason},
        "cancel": None
        if fan.cancel is None
        else {"by": fan.cancel.by, "reason": fan.cancel.reason, "at": _moment(fan.cancel.at)},
        "bad_before": fan.bad_before,
        "joined": fan.joined,
    }


def _wait(wait: Wait) -> Any:
    return {
        "awaited": wait.awaited,
        "since": _moment(wait.since),
        "deadline_at": _moment(wait.deadline_at),
        "ended": wait.ended,
        "at": _moment(wait.at),
        "reason": wait.reason,
    }


def _job(state: JobState) -> Any:
    return {
        "status": state.status,
        "phase": _phase(state.phase),
        "attempts": [_attempt(one) for one in state.attempts],
        "outputs": None if state.outputs is None else json.dumps(state.outputs, ensure_ascii=False, sort_keys=True),
        "files": _pairs(state.files),
        "strays": _pairs(state.strays),
    }


def _phase(phase: Phase) -> Any:
    match phase:
        case Waiting():
            counts = {"succeeded": phase.succeeded, "failed": phase.failed, "skipped": phase.skipped}
            return {"is": "waiting", "since": _moment(phase.since), "remaining": phase.remaining, **counts}
        case Wanting():
            return {
                "is": "wanting",
                "since": _moment(phase.since),
                "attempt": phase.attempt,
                "pool": phase.pool,
                "weight": phase.weight,
                "priority": phase.priority,
            }
        case Ready():
            return {"is": "ready", "since": _moment(phase.since), "pool": phase.pool}
        case Queued():
            return {
                "is": "queued",
                "attempt": phase.attempt,
                "queued_at": _moment(phase.queued_at),
                "stop": _stop(phase.stop),
                "not_before": _moment(phase.not_before),
                "reason": phase.reason,
                "ready_at": _moment(phase.ready_at),
                "untaken": phase.untaken,
            }
        case Claimed():
            return {
                "is": "claimed",
                "attempt": phase.attempt,
                "queued_at": _moment(phase.queued_at),
                "stop": _stop(phase.stop),
                "claimed_at": _moment(phase.claimed_at),
                "claimer": phase.claimer,
                "request": json.dumps(phase.request, ensure_ascii=False, sort_keys=True),
                "send_before": _moment(phase.send_before),
                "ready_at": _moment(phase.ready_at),
                "asked_from": _moment(phase.asked_from),
            }
        case Submitted():
            return {
                "is": "submitted",
                "attempt": phase.attempt,
                "queued_at": _moment(phase.queued_at),
                "stop": _stop(phase.stop),
                "handle": phase.handle,
                "submitted_at": _moment(phase.submitted_at),
                "started_at": _moment(phase.started_at),
            }
        case Doubted():
            return {
                "is": "doubted",
                "attempt": phase.attempt,
                "queued_at": _moment(phase.queued_at),
                "stop": _stop(phase.stop),
                "since": _moment(phase.since),
                "reason": phase.reason,
                "policy": phase.policy,
                "resolve_at": _moment(phase.resolve_at),
                "handle": phase.handle,
                "submitted_at": _moment(phase.submitted_at),
                "started_at": _moment(phase.started_at),
                "request": None
                if phase.request is None
                else json.dumps(phase.request, ensure_ascii=False, sort_keys=True),
                "asked_from": _moment(phase.asked_from),
            }
        case Backoff():
            return {
                "is": "backoff",
                "since": _moment(phase.since),
                "retry_at": _moment(phase.retry_at),
                "failure": phase.failure,
                "reason": phase.reason,
            }
        case Asking():
            return {
                "is": "asking",
                "since": _moment(phase.since),
                "message": phase.message,
                "expires_at": _moment(phase.expires_at),
            }
        case FannedOut():
            return {"is": "fanned_out", "since": _moment(phase.since)}
        case Done():
            return {
                "is": "done",
                "outcome": phase.outcome,
                "at": _moment(phase.at),
                "reason": phase.reason,
                "marked_by": phase.marked_by,
            }
        case _:
            assert_never(phase)


def _stop(stop: Stop | None) -> Any:
    return stop and {
        "cause": stop.cause,
        "reason": stop.reason,
        "requested_at": _moment(stop.requested_at),
        "flag_at": _moment(stop.flag_at),
        "sent_at": _moment(stop.sent_at),
        "flagged_at": _moment(stop.flagged_at),
    }


def _attempt(attempt: Attempt) -> Any:
    return {
        "attempt": attempt.attempt,
        "round": attempt.round,
        "status": attempt.status,
        "queued_at": _moment(attempt.queued_at),
        "recorded_at": _moment(attempt.recorded_at),
        "handle": attempt.handle,
        "submitted_at": _moment(attempt.submitted_at),
        "started_at": _moment(attempt.started_at),
        "ended_at": _moment(attempt.ended_at),
        "exit_code": attempt.exit_code,
        "failure": attempt.failure,
        "reason": attempt.reason,
        "late": list(attempt.late),
        "assumed": attempt.assumed,
    }


def _workflow(state: WorkflowState) -> Any:
    return {
        "name": state.name,
        "versions": [
            {
                "number": one.number,
                "document": one.document,
                "registered_at": _moment(one.registered_at),
                "by": one.by,
                "source": one.source,
            }
            for one in state.versions
        ],
        "live": state.live.number if state.live else None,
        "at": _moment(state.at),
        "changed_at": _moment(state.changed_at),
        "pause": {"at": _moment(state.pause.at), "by": state.pause.by, "reason": state.pause.reason}
        if state.pause
        else None,
        "watermark": _moment(state.watermark),
        "next_at": _moment(state.next_at),
        "holders": [
            {
                "run": run,
                "admitted_at": _moment(state.holders[run].admitted_at),
                "scheduled_at": _moment(state.holders[run].scheduled_at),
                "request": _request(state.holders[run].request),
                "displaced_by": state.holders[run].displaced_by,
            }
            for run in sorted(state.holders)
        ],
        "held": [
            {"run": one.run, "request": _request(one.request), "since": _moment(one.since), "reason": one.reason}
            for one in state.held
        ],
        "previous_success_at": _moment(state.previous_success_at),
        "turned_away": [
            {
                "run": one.run,
                "trigger": one.trigger,
                "event": one.event,
                "at": _moment(one.at),
                "how": one.how,
                "reason": one.reason,
                "document_version": one.document_version,
            }
            for one in state.turned_away
        ],
        "next_start_at": _moment(state.next_start_at),
        "stalled": state.stalled,
    }


def _pool(state: PoolState) -> Any:
    return {
        "name": state.name,
        "at": _moment(state.at),
        "declared": state.declared,
        "declared_by": state.declared_by,
        "used": state.used,
        "held": [
            {"place": list(place), "weight": held.weight, "granted_at": _moment(held.granted_at)}
            for place, held in sorted(state.held.items())
        ],
        "line": [
            {
                "place": list(place),
                "weight": awaited.weight,
                "priority": awaited.priority,
                "asked_at": _moment(awaited.asked_at),
                "since": _moment(awaited.since),
            }
            for place, awaited in ((one, state.awaited[one]) for one in state.in_line())
        ],
        "usual": [{"workflow": of[0], "job": of[1], "seconds": state.usual[of]} for of in sorted(state.usual)],
    }


def _upload(state: Upload) -> Any:
    return {
        "upload": state.upload,
        "at": _moment(state.at),
        "workflow": state.workflow,
        "problems": list(state.problems),
        "removed": state.removed,
        "calendar": state.calendar,
    }


def _backfill(state: BackfillState) -> Any:
    told = ((name, getattr(state, name)) for name in ("pause", "cancel"))
    return {
        "request": body_of([state.request])[1:-1],
        "requested_at": _moment(state.requested_at),
        "at": _moment(state.at),
        "status": state.status,
        "active": [
            {"run": run, "at": _moment(state.active[run].at), "event": body_of([state.active[run].event])[1:-1]}
            for run in sorted(state.active)
        ],
        "instants": [
            {"instant": _moment(at), "status": one.status, "at": _moment(one.at), "run": one.run, "reason": one.reason}
            for at, one in sorted(state.instants.items())
        ],
        "last": _moment(state.last),
        "previous_success_at": _moment(state.previous_success_at),
        "counts": [state.succeeded, state.failed, state.cancelled, state.skipped],
        **{name: one and {"at": _moment(one.at), "by": one.by, "reason": one.reason} for name, one in told},
        "outcome": state.outcome,
        "finished_at": _moment(state.finished_at),
    }


def _notices(log: NoticeLog) -> Any:
    return {
        "source": log.source,
        "until": log.until,
        "started": log.started,
        "outcome": log.outcome,
        "doubts": log.doubts,
        "at": _moment(log.at),
        "sending": [
            {
                "notice": one.notice.model_dump(mode="json"),
                "document": one.document,
                "planned_at": _moment(one.planned_at),
                "status": one.status,
                "attempts": one.attempts,
                "retry_at": _moment(one.retry_at),
                "ended_at": _moment(one.ended_at),
                "reason": one.reason,
                "receipt": one.receipt,
            }
            for one in log.sending
        ],
    }


def _request(request: RunRequested) -> str:
    """As it is stored: a request is an event, and its fields have a golden stream of their own."""
    return body_of([request])[1:-1]


def _pairs(mapping: Mapping[Any, Any] | None) -> Any:
    return None if mapping is None else [[key, mapping[key]] for key in sorted(mapping)]


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None
