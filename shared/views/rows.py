"""The rows of lists, derived from the newest state of a stream and nothing else."""

from datetime import UTC, datetime
from typing import Any

from shared.ids import RunId, WorkflowName, kind_of, subject_of, workflow_of
from shared.ports import BackfillRow, NoticeRow, RunRow, WorkflowRow
from shared.state.backfill import BackfillState
from shared.state.notices import NoticeLog, Sending
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.workflow.plan import Plan
from shared.workflow.timing import Schedule


def run_row(run: Run, version: int) -> RunRow:
    """Costs what the jobs under way cost, not what all jobs cost."""
    jobs = dict(run.tally)
    under_way: dict[str, int] = {}
    for name in run.live:
        # Items are told with their job.
        if name not in run.jobs:
            continue
        status = run.jobs[name].status
        under_way[status] = under_way.get(status, 0) + 1
    fanned_out = sum(1 for fan in run.fans.values() if not fan.joined)
    if fanned_out:
        under_way["running"] = under_way.get("running", 0) + fanned_out
    others = run.unfinished - sum(under_way.values())
    if others > 0:
        under_way["waiting"] = others
    attention = []
    if run.doubted:
        attention.append("doubt")
    if run.flagged:
        attention.append("stop_flagged")
    if run.pace.late_due_at is not None:
        attention.append("late")
    if run.pace.missed_due_at is not None:
        attention.append("deadline_missed")
    if run.asking:
        attention.append("approval")
    document = run.plan.workflow
    return RunRow(
        run=run.run,
        workflow=run.request.workflow,
        version=version,
        status=run.status,
        owner=document.owner,
        tags=document.tags,
        trigger=run.request.trigger,
        requested_at=run.requested_at,
        scheduled_at=run.request.scheduled_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        jobs=jobs | under_way,
        attention=tuple(attention),
        parent=run.request.parent.run if run.request.parent is not None else "",
    )


def workflow_row(state: WorkflowState, version: int, plan: Plan | None) -> WorkflowRow:
    """`plan` is the live document's, or the last one's when the workflow is unregistered."""
    document = plan.workflow if plan is not None else None
    return WorkflowRow(
        workflow=state.name,
        stream_version=version,
        live_version=state.live.number if state.live is not None else None,
        owner=document.owner if document is not None else "",
        tags=document.tags if document is not None else (),
        paused=state.pause is not None,
        next_at=state.next_at if state.pause is None else None,
        schedule=schedule_text(document.schedule) if document is not None else "",
        active_runs=tuple(sorted(state.holders)),
        held_runs=tuple(one.run for one in state.held),
    )


def backfill_row(state: BackfillState, version: int, plan: Plan) -> BackfillRow:
    """`plan` is that of the document it runs."""
    request, document = state.request, plan.workflow
    return BackfillRow(
        backfill=request.backfill,
        workflow=request.workflow,
        version=version,
        status=state.status,
        owner=document.owner,
        tags=document.tags,
        which=request.which,
        order=request.order,
        range_from_at=request.range_from,
        range_until_at=request.range_until,
        requested_at=state.requested_at,
        requested_by=request.by,
        finished_at=state.finished_at,
        count=request.count,
        max_active=request.max_active,
        active=len(state.active),
        succeeded=state.succeeded,
        failed=state.failed,
        cancelled=state.cancelled,
        skipped=state.skipped,
    )


NOTICES_LISTED_MAX = 20
"""Of one stream, the newest; all stand in its events."""


def notice_row(log: NoticeLog, version: int) -> NoticeRow:
    """Of a log that has planned something."""
    name = subject_of(log.source)
    workflow = workflow_of(RunId(name)) if kind_of(log.source) == "run" else WorkflowName(name)
    return NoticeRow(
        source=log.source,
        workflow=workflow,
        version=version,
        at=max(one.planned_at for one in log.sending),
        open=len(log.open),
        failed=sum(one.status == "failed" for one in log.sending),
        notices=tuple(_notice(one) for one in log.sending[-NOTICES_LISTED_MAX:]),
    )


def _notice(one: Sending) -> dict[str, Any]:
    notice = one.notice
    return {
        "id": notice.id,
        "on": notice.on,
        "at": _text(notice.at),
        "channel": notice.channel,
        "to": notice.to,
        "subject": notice.subject,
        "status": one.status,
        "attempts": one.attempts,
        "planned_at": _text(one.planned_at),
        "retry_at": _text(one.retry_at),
        "ended_at": _text(one.ended_at),
        "reason": one.reason,
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def schedule_text(schedule: Schedule | None) -> str:
    """A schedule in a few words: `0 2 * * * Europe/Berlin`."""
    if schedule is None:
        return ""
    if schedule.at is not None:
        return f"at {schedule.at.isoformat()}"
    if schedule.interval is not None:
        return f"every {schedule.interval.every} from {schedule.interval.anchor.isoformat()}"
    text = schedule.cron or f"every {schedule.rate}"
    return text if schedule.timezone == "UTC" else f"{text} {schedule.timezone}"
