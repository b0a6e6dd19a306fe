"""What people and programs are shown of states, as JSON objects: the same from the command and from the HTTP API.

Pure: from a state to dicts, lists, strings, numbers and None. Fields are only ever added. Moments are text in UTC, ISO 8601 with a
`Z`, so that they sort as text; what is not known is null, never left out.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from shared.decide.backfill import Rehearsed
from shared.explain import Condition
from shared.explain.backfill import waits_for
from shared.ids import JobName, item_name
from shared.ports import BackfillRow, NoticeRow, Record, RunRow, WorkflowRow
from shared.schedule import Instant, OddDay
from shared.state.backfill import BackfillState
from shared.state.calendar import CalendarState
from shared.state.fan import BAD_ITEMS
from shared.state.run import (
    Asking,
    Attempt,
    Backoff,
    Claimed,
    Done,
    Doubted,
    JobState,
    Open,
    Queued,
    Ready,
    Run,
    Submitted,
)
from shared.state.run import Waiting as WaitingJob
from shared.state.workflow import TurnedAway, Version, WorkflowState
from shared.views.rows import schedule_text
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan
from shared.workflow.triggers import trigger_text

Object = dict[str, Any]


def moment(at: datetime | None) -> str | None:
    """`2026-03-29T00:30:00Z`, with microseconds where there are some."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max((end - start) / timedelta(seconds=1), 0.0)


# --- lists ------------------------------------------------------------------------------------------------------------


def run_row_object(row: RunRow) -> Object:
    """A run in a list: `run`, `workflow`, `status`, `scheduled_at`, `started_at`, `finished_at` and more."""
    return {
        "run": row.run,
        "workflow": row.workflow,
        "status": row.status,
        "scheduled_at": moment(row.scheduled_at),
        "requested_at": moment(row.requested_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "duration_seconds": seconds_between(row.started_at, row.finished_at),
        "version": row.version,
        "trigger": row.trigger,
        "owner": row.owner,
        "tags": list(row.tags),
        "jobs": dict(row.jobs),
        "attention": list(row.attention),
        "parent": row.parent or None,
    }


def notice_row_object(row: NoticeRow) -> Object:
    """What was told of a run or workflow: `source`, `workflow`, `at`, `open`, `failed` and the newest `notices`."""
    return {
        "source": row.source,
        "workflow": row.workflow,
        "at": moment(row.at),
        "open": row.open,
        "failed": row.failed,
        "notices": [dict(one) for one in row.notices],
    }


def workflow_row_object(row: WorkflowRow) -> Object:
    return {
        "workflow": row.workflow,
        "live_version": row.live_version,
        "paused": row.paused,
        "schedule": row.schedule,
        "next_at": moment(row.next_at),
        "owner": row.owner,
        "tags": list(row.tags),
        "active_runs": list(row.active_runs),
        "held_runs": list(row.held_runs),
    }


def backfill_row_object(row: BackfillRow) -> Object:
    """A backfill in a list."""
    return {
        "backfill": row.backfill,
        "workflow": row.workflow,
        "status": row.status,
        "which": row.which,
        "order": row.order,
        "from": moment(row.range_from_at),
        "until": moment(row.range_until_at),
        "count": row.count,
        "max_active": row.max_active,
        "active": row.active,
        "succeeded": row.succeeded,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "skipped": row.skipped,
        "requested_at": moment(row.requested_at),
        "requested_by": row.requested_by,
        "finished_at": moment(row.finished_at),
    }


# --- a run ------------------------------------------------------------------------------------------------------------


def run_object(run: Run, version: int) -> Object:
    """A whole run as it is at a version of its stream, jobs in the document's order.

    `version` counts the commits of the run's stream and is what `--as-of` takes; `document_version` is the workflow's.
    """
    request = run.request
    return {
        "run": run.run,
        "workflow": request.workflow,
        "version": version,
        "document_version": run.document_version,
        "document": run.plan.digest,
        "status": run.status,
        "trigger": request.trigger,
        "backfill": request.backfill,
        "event": {"trigger": request.trigger_name, "event": request.trigger_event} if request.trigger_name else None,
        "requested_by": request.requested_by,
        "note": request.note,
        "parameters": dict(request.parameters),
        "requested_at": moment(run.requested_at),
        "scheduled_at": moment(request.scheduled_at),
        "start_after": moment(request.start_after),
        "started_at": moment(run.started_at),
        "finished_at": moment(run.finished_at),
        "duration_seconds": seconds_between(run.started_at, run.finished_at),
        "as_of": moment(run.at),
        "round": run.round,
        "cancel": None
        if run.cancel is None
        else {"by": run.cancel.by, "reason": run.cancel.reason, "at": moment(run.cancel.at)},
        "attention": attention_of(run),
        "lateness": lateness_object(run),
        "parent": parent_object(run),
        "children": children_of(run),
        "jobs": [job_object(run, name) for name in run.plan.jobs],
    }


def attention_of(run: Run) -> list[str]:
    """What a person should look at: `doubt`, `stop_flagged`, `approval`, `late`, `deadline_missed`."""
    told: tuple[tuple[str, object], ...] = (
        ("doubt", run.doubted),
        ("stop_flagged", run.flagged),
        ("approval", run.asking),
        ("late", run.pace.late_due_at),
        ("deadline_missed", run.pace.missed_due_at),
    )
    return [word for word, there in told if there]


def lateness_object(run: Run) -> Object:
    """How the present round does against the clock; null where the document says nothing."""
    deadline = run.plan.workflow.deadline
    return {
        "deadline_at": None if deadline is None else moment(run.pace.since + timedelta(minutes=deadline.minutes)),
        "deadline_missed": run.pace.missed_due_at is not None,
        "late_since": moment(run.pace.late_due_at),
        "late_cause": run.pace.late_cause,
    }


def job_object(run: Run, name: JobName) -> Object:
    """A job with all its attempts, the one under way included."""
    state, job = run.job(name), run.plan.jobs[name]
    started_at, ended_at = job_times(state)
    return {
        "name": name,
        "type": job.type,
        "status": state.status,
        "reason": job_reason(state),
        "after": list(job.after),
        "since": moment(_since(state)),
        "started_at": moment(started_at),
        "ended_at": moment(ended_at),
        "duration_seconds": seconds_between(started_at, ended_at),
        "retry_at": moment(state.phase.retry_at) if isinstance(state.phase, Backoff) else None,
        "expires_at": moment(state.phase.expires_at) if isinstance(state.phase, Asking) else None,
        "child": _child(state) if job.type == "workflow" else None,
        "marked_by": state.phase.marked_by if isinstance(state.phase, Done) else "",
        "outputs": None if state.outputs is None else dict(state.outputs),
        "files": dict(state.files or {}),
        "attempts": attempt_objects(state),
        "items": items_object(run, name) if name in run.fans else None,
    }


def items_object(run: Run, name: JobName) -> Object:
    """The items of a job with `for_each` in short: how many, how many in each state, and the first of those that ended badly."""
    fan = run.fans[name]
    counts = dict(fan.outcomes) | {
        "under_way": fan.active,
        "backoff": fan.resting.bit_count(),
        "ready": fan.todo.bit_count(),
    }
    return {
        "count": fan.count,
        "statuses": {status: number for status, number in counts.items() if number},
        "tolerated": fan.tolerated,
        "max_parallel": fan.max_parallel,
        "bad": list(islice(items_of(run, name, bad=True), BAD_SHOWN_MAX)),
    }


BAD_SHOWN_MAX = 20
"""Items that ended badly, named with their job; all of them are had by the page."""


def items_of(run: Run, name: JobName, *, start: int = 0, bad: bool = False) -> Iterator[JobName]:
    """The items of a job in the order of the list, from one on. `bad`: only those that began and ended badly."""
    fan = run.fans[name]
    if bad and not fan.bad:
        return
    for index in range(start, fan.count):
        item = item_name(name, index)
        if bad:
            state = run.items.get(item)
            if state is None or state.status not in BAD_ITEMS:
                continue
        yield item


def _child(state: JobState) -> str | None:
    """The run that the newest attempt of a job of type `workflow` is."""
    match state.phase:
        case Submitted(handle=handle):
            return handle
        case Queued() | Claimed() | Doubted():
            return None
        case _:
            return state.attempts[-1].handle if state.attempts else None


def children_of(run: Run) -> list[Object]:
    """The runs that were started for attempts of this one, in the document's order: `job`, `attempt`, `run`."""
    found: list[Object] = []
    for name, job in run.plan.jobs.items():
        if job.type == "workflow":
            found += [
                {"job": name, "attempt": one["attempt"], "run": one["handle"]}
                for one in attempt_objects(run.jobs[name])
                if one["handle"] is not None
            ]
    return found


def parent_object(run: Run) -> Object | None:
    parent = run.request.parent
    return None if parent is None else {"run": parent.run, "job": parent.job, "attempt": parent.attempt}


def attempt_objects(state: JobState) -> list[Object]:
    ended = [_ended_attempt(one) for one in state.attempts]
    return [*ended, _open_attempt(state.phase)] if isinstance(state.phase, Open) else ended


def job_times(state: JobState) -> tuple[datetime | None, datetime | None]:
    """When the newest attempt began and, unless it is under way, ended."""
    match state.phase:
        case Submitted() | Doubted() as phase:
            return phase.started_at or phase.submitted_at, None
        case Queued() | Claimed():
            return None, None
        case _ if state.attempts:
            last = state.attempts[-1]
            return last.started_at or last.submitted_at, last.ended_at or last.recorded_at
        case _:
            return None, None


def job_reason(state: JobState) -> str:
    """Why the job is as it is, in a few words; empty when there is nothing to say."""
    match state.phase:
        case Submitted() | Queued() | Claimed() if state.phase.stop is not None:
            stop = state.phase.stop
            return f"stop asked for ({stop.cause}){f': {stop.reason}' if stop.reason else ''}"
        case Queued(reason=reason) | Doubted(reason=reason) | Backoff(reason=reason):
            return reason
        case Asking(message=message):
            return message
        case Done(reason=reason, outcome=outcome):
            last = (
                state.attempts[-1].reason if state.attempts and outcome in ("failed", "timed_out", "cancelled") else ""
            )
            return reason or last
        case _:
            return ""


def _since(state: JobState) -> datetime | None:
    match state.phase:
        case (
            WaitingJob(since=since)
            | Ready(since=since)
            | Doubted(since=since)
            | Backoff(since=since)
            | Asking(since=since)
        ):
            return since
        case Queued(queued_at=since) | Claimed(claimed_at=since) | Done(at=since):
            return since
        case Submitted(submitted_at=submitted_at, started_at=started_at):
            return started_at or submitted_at
    raise AssertionError(state.phase)


def _attempt(
    attempt: int,
    status: str,
    *,
    queued_at: datetime,
    handle: str | None = None,
    exit_code: int | None = None,
    failure_class: str | None = None,
    submitted_at: datetime | None = None,
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
    reason: str = "",
    late: tuple[str, ...] = (),
    round_: int | None = None,
) -> Object:
    return {
        "attempt": attempt,
        "status": status,
        "handle": handle,
        "exit_code": exit_code,
        "failure_class": failure_class,
        "queued_at": moment(queued_at),
        "submitted_at": moment(submitted_at),
        "started_at": moment(started_at),
        "ended_at": moment(ended_at),
        "reason": reason,
        "late": list(late),
        "round": round_,
    }


def _ended_attempt(one: Attempt) -> Object:
    return _attempt(
        one.attempt,
        one.status,
        queued_at=one.queued_at,
        handle=one.handle,
        exit_code=one.exit_code,
        failure_class=one.failure,
        submitted_at=one.submitted_at,
        started_at=one.started_at,
        ended_at=one.ended_at or one.recorded_at,
        reason=one.reason,
        late=one.late,
        round_=one.round,
    )


def _open_attempt(phase: Open) -> Object:
    match phase:
        case Queued():
            return _attempt(phase.attempt, "queued", queued_at=phase.queued_at, reason=phase.reason)
        case Claimed():
            return _attempt(phase.attempt, "claimed", queued_at=phase.queued_at)
        case Submitted():
            return _attempt(
                phase.attempt,
                "running" if phase.started_at is not None else "submitted",
                queued_at=phase.queued_at,
                handle=phase.handle,
                submitted_at=phase.submitted_at,
                started_at=phase.started_at,
            )
        case Doubted():
            return _attempt(
                phase.attempt,
                "doubt",
                queued_at=phase.queued_at,
                handle=phase.handle,
                submitted_at=phase.submitted_at,
                started_at=phase.started_at,
                reason=phase.reason,
            )


def kept_files(run: Run, *, saved_only: bool = True) -> list[Object]:
    """The declared outputs that jobs left: `path`, `job`, `attempt`, `saved` and `address`, in the document's order."""
    found = []
    for name, job in run.plan.jobs.items():
        state = run.jobs[name]
        attempt = next((one.attempt for one in reversed(state.attempts) if one.status == "succeeded"), None)
        for output in job.outputs:
            address = (state.files or {}).get(output.path)
            if address is not None and (output.save or not saved_only):
                found.append(
                    {
                        "path": output.path,
                        "job": name,
                        "attempt": attempt,
                        "saved": output.save,
                        "address": address,
                    }
                )
    return found


# --- a workflow -------------------------------------------------------------------------------------------------------


def workflow_object(state: WorkflowState, version: int, plan: Plan | None) -> Object:
    """A whole workflow; `plan` is its live document's, or the last one's when it is unregistered."""
    document = plan.workflow if plan is not None else None
    return {
        "workflow": state.name,
        "version": version,
        "live_version": state.live.number if state.live is not None else None,
        "owner": document.owner if document is not None else "",
        "description": document.description if document is not None else "",
        "tags": list(document.tags) if document is not None else [],
        "schedule": schedule_text(document.schedule) if document is not None else "",
        "next_at": moment(state.next_at if state.pause is None else None),
        "paused": None
        if state.pause is None
        else {"by": state.pause.by, "reason": state.pause.reason, "at": moment(state.pause.at)},
        "active_runs": sorted(state.holders),
        "held_runs": [{"run": one.run, "since": moment(one.since), "reason": one.reason} for one in state.held],
        "versions": [version_object(one) for one in state.versions],
        "triggers": trigger_objects(document),
        "turned_away": [turned_away_object(one) for one in reversed(state.turned_away)],
    }


def trigger_objects(document: Workflow | None) -> list[Object]:
    """What starts runs besides time, in a few words each."""
    triggers = document.triggers if document is not None else None
    return [{"name": one.name, "type": one.type, "waits_for": trigger_text(one)} for one in triggers or ()]


def turned_away_object(one: TurnedAway) -> Object:
    return {
        "at": moment(one.at),
        "trigger": one.trigger,
        "event": one.event,
        "how": one.how,
        "reason": one.reason,
        "run": one.run,
    }


def version_object(version: Version) -> Object:
    return {
        "version": version.number,
        "document": version.document,
        "registered_at": moment(version.registered_at),
        "by": version.by,
        "source": version.source,
    }


# --- a backfill -------------------------------------------------------------------------------------------------------


def backfill_object(state: BackfillState, version: int) -> Object:
    """A whole backfill, but for what became of each instant."""
    request = state.request
    told = (("paused", state.pause), ("cancel", state.cancel))
    return {
        "backfill": request.backfill,
        "workflow": request.workflow,
        "version": version,
        "status": state.status,
        "which": request.which,
        "order": request.order,
        "from": moment(request.range_from),
        "until": moment(request.range_until),
        "count": request.count,
        "max_active": request.max_active,
        "active": len(state.active),
        "succeeded": state.succeeded,
        "failed": state.failed,
        "cancelled": state.cancelled,
        "skipped": state.skipped,
        "requested_at": moment(state.requested_at),
        "requested_by": request.by,
        "finished_at": moment(state.finished_at),
        "reason": request.reason,
        "document_version": request.document_version,
        "document": request.document,
        "parameters": dict(request.parameters),
        **{
            name: None if one is None else {"by": one.by, "reason": one.reason, "at": moment(one.at)}
            for name, one in told
        },
        "active_runs": sorted(state.active),
        "waits_for": waits_for(state),
    }


def instant_objects(instants: Iterable[Instant]) -> list[Object]:
    """Instants of a schedule: `at`, `local`, `note`, what a change of the clocks did to it, and `excluded`, why nothing runs then."""
    return [
        {
            "at": moment(one.at),
            "local": one.local.isoformat(),
            "note": one.note,
            "excluded": one.excluded.reason if one.excluded is not None else "",
        }
        for one in instants
    ]


def rehearsal_object(told: Rehearsed) -> Object:
    """What a backfill would do."""
    meant = told.range
    first, last = instant_objects((meant.first, meant.last))
    return {
        "from": moment(meant.since),
        "until": moment(meant.until),
        "first": first,
        "last": last,
        "looked": told.looked,
        "to_run": told.to_run,
        "runs": dict(told.runs),
        "odd": instant_objects(told.odd),
        "odd_count": told.odd_count,
    }


def instant_objects_of(state: BackfillState, after: datetime | None, limit: int) -> tuple[list[Object], str]:
    """What became of the instants that it has come to, oldest first, after one of them; and where the next page begins, empty at the end."""
    come_to = sorted(at for at in state.instants if after is None or at > after)
    page = [
        {
            "at": moment(at),
            "status": state.instants[at].status,
            "run": state.instants[at].run,
            "since": moment(state.instants[at].at),
            "reason": state.instants[at].reason,
        }
        for at in come_to[:limit]
    ]
    return page, moment(come_to[limit - 1]) or "" if len(come_to) > limit else ""


# --- why, and what happened -------------------------------------------------------------------------------------------


def condition_object(condition: Condition) -> Object:
    return {
        "code": condition.code,
        "subject": condition.subject,
        "message": condition.message,
        "since": moment(condition.since),
        "clears": condition.clears,
        "clears_at": moment(condition.clears_at),
        "holders": list(condition.holders),
        "chain": [condition_object(one) for one in condition.chain],
    }


def odd_day_objects(days: Iterable[OddDay]) -> list[dict[str, Any]]:
    return [
        {
            "day": one.day.isoformat(),
            "note": one.note,
            "at": moment(one.first),
            "reason": one.excluded.reason if one.excluded is not None else "",
        }
        for one in days
    ]


def calendar_object(calendar: CalendarState) -> dict[str, Any]:
    return {
        "calendar": calendar.name,
        "version": calendar.version,
        "description": calendar.description,
        "timezone": calendar.timezone,
        "days": list(calendar.days),
        "registered_at": moment(calendar.at),
        "by": calendar.by,
        "source": calendar.source,
    }


def commit_object(record: Record) -> Object:
    """A commit with its events as they are stored, also those that only a newer release understands."""
    return {
        "stream": record.stream,
        "version": record.version,
        "at": moment(record.at),
        "by": record.by,
        "cause": record.cause,
        "hash": record.hash,
        "events": json.loads(record.body),
    }


def details_of(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a stored event but those that are shown in columns of their own."""
    return ((name, value) for name, value in event.items() if name not in ("type", "job", "attempt"))
