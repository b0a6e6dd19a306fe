"""The rules of a run: already true gives nothing, not allowed gives `Rejected`, otherwise events.

A decision is made on a draft: each event is applied to a copy of the state at once, so that the next thought sees it; what
follows from a fact (dependents become ready, places are filled, the run finishes) is decided in the same breath and stored in
the same commit. A decision costs what it touches. One that touches more than `SLICE` jobs stops there, and `Advance` goes on.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Literal, assert_never

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
from shared.decide.context import context_of
from shared.decide.deadlines import deadlines
from shared.decide.retrying import retry_at
from shared.errors import NotFound, Rejected, TemplateError
from shared.events import (
    AttemptCancelled,
    AttemptClaimed,
    AttemptDoubted,
    AttemptFailed,
    AttemptQueued,
    AttemptStarted,
    AttemptSubmitted,
    AttemptSucceeded,
    ClaimReleased,
    Event,
    JobMarked,
    JobSettled,
    JobsReady,
    LateReported,
    RunCancelRequested,
    RunFinished,
    RunOpened,
    RunReopened,
    StopFlagged,
    StopRequested,
    StopSent,
)
from shared.ids import JobName
from shared.state.run import (
    BAD_OUTCOMES,
    Attempt,
    Backoff,
    Claimed,
    Done,
    Doubted,
    JobState,
    Open,
    Plans,
    Queued,
    Ready,
    RunFold,
    RunState,
    Submitted,
    Waiting,
    reopened_jobs,
)
from shared.template import evaluate
from shared.workflow.document import EcsJob, EmrJob, FailureClass, Outcome, SsmJob

SLICE = 300
"""Jobs that one decision touches. With names of 64 characters that is about 60 KB, and a job's outputs may take 32 KB more
of the 100 KB that a commit may have."""
FLAG_AFTER = timedelta(minutes=10)
"""An unconfirmed stop is flagged this long after its grace period. ECS and EMR confirm within a few minutes."""
MISSING_AFTER = timedelta(minutes=10)
"""A target that does not know its own handle is believed only after this. ECS is consistent within five minutes."""
SECOND_LOOK_AFTER = timedelta(seconds=60)
"""Between the two looks that must both find nothing before work is asked for again. EMR and SSM list with delay."""
STARTED_WORTH_A_COMMIT = timedelta(seconds=60)
"""Work that runs longer than this gets its start recorded when it is seen, even if nothing else depends on it."""
TEXT_MAX = 1_000
"""Characters of a reason that go into an event."""


class RunDraft:
    """Events decided so far, and the state they lead to. `now` is the moment of the commit they will be stored in."""

    def __init__(self, state: RunState, plans: Plans, now: datetime) -> None:
        self.fold = RunFold(state, plans)
        self.now = now
        self.events: list[Event] = []
        self.truncated = False
        """There is more to decide than fitted."""

    def emit(self, event: Event) -> None:
        self.fold.apply(event, self.now)
        self.events.append(event)

    @property
    def room(self) -> bool:
        return len(self.events) < SLICE

    def freeze(self) -> RunState:
        return self.fold.freeze()


def decide(state: RunState, command: RunCommand, *, now: datetime, plans: Plans) -> list[Event]:
    """What happens because of `command`. Raises `Rejected` (or `NotFound`) with the reason when it is not allowed."""
    draft = RunDraft(state, plans, now)
    decide_on(draft, command)
    return draft.events


def decide_on(draft: RunDraft, command: RunCommand) -> None:
    """As `decide`, onto a draft that may hold earlier decisions of the same batch. A draft that raised must be dropped."""
    if isinstance(command, RequestRun):
        _request(draft, command)
        return
    if draft.fold.run is None:
        raise NotFound("there is no such run")
    match command:
        case Advance():
            _look_at_the_time(draft)
            _advance(draft)
        case RecordClaim():
            _claim(draft, command)
        case ReleaseClaim():
            _release_claim(draft, command)
        case RecordReport():
            _record_report(draft, command)
        case RecordSilence():
            _record_silence(draft, command)
        case RecordStopSent():
            _record_stop_sent(draft, command)
        case CancelRun():
            _cancel_run(draft, command)
        case CancelJob():
            _cancel_job(draft, command)
        case MarkJob():
            _mark(draft, command)
        case ReopenRun():
            _reopen(draft, command)
        case _:
            assert_never(command)


# --- requests of people -----------------------------------------------------------------------------------------------


def _request(draft: RunDraft, command: RequestRun) -> None:
    if draft.fold.run is not None:
        return
    draft.emit(command.request)
    _advance(draft)


def _cancel_run(draft: RunDraft, command: CancelRun) -> None:
    fold = draft.fold
    if fold.cancel is not None:
        return
    if fold.outcome is not None:
        raise Rejected(f"the run has finished already: {fold.outcome}")
    draft.emit(RunCancelRequested(by=command.by, reason=command.reason))
    _advance(draft)


def _cancel_job(draft: RunDraft, command: CancelJob) -> None:
    state = _job(draft, command.job)
    phase = state.phase
    match phase:
        case Done(outcome=outcome):
            if outcome == "cancelled":
                return
            raise Rejected(f"{command.job} has ended already: {outcome}")
        case Waiting() | Ready() | Backoff():
            reason = f"cancelled by {command.by}" + (f": {command.reason}" if command.reason else "")
            draft.emit(JobSettled(job=command.job, outcome="cancelled", reason=_short(reason)))
            _advance(draft)
        case Queued() | Claimed() | Submitted() | Doubted():
            if phase.stop is None or phase.stop.cause == "timeout":
                _request_stop(draft, command.job, phase, "cancel", f"{command.by} {command.reason}".strip())


def _mark(draft: RunDraft, command: MarkJob) -> None:
    if not command.by or not command.reason.strip():
        raise Rejected("marking a job needs a person's name and a reason")
    state = _job(draft, command.job)
    phase = state.phase
    if isinstance(phase, Queued | Claimed | Submitted):
        raise Rejected(f"{command.job} is under way (attempt {phase.attempt}): cancel it first, then mark it")
    if isinstance(phase, Done) and phase.outcome == command.outcome:
        return
    draft.emit(JobMarked(job=command.job, outcome=command.outcome, by=command.by, reason=_short(command.reason)))
    if draft.fold.outcome is None:
        _advance(draft)


def _reopen(draft: RunDraft, command: ReopenRun) -> None:
    fold = draft.fold
    if command.request and command.request in fold.reopen_requests:
        return
    if fold.outcome is None:
        raise Rejected("the run has not finished: cancel it or wait for its end, then rerun it")
    plan = fold.plans(command.document)
    unknown = [name for name in command.jobs if name not in plan.jobs]
    if unknown:
        raise NotFound(f"the document has no job {unknown[0]}")
    if not reopened_jobs(fold.all_jobs(), plan, command.jobs, failed=command.failed):
        raise Rejected("nothing to do again: every job succeeded or was skipped; name the job to start from")
    draft.emit(
        RunReopened(
            jobs=command.jobs,
            failed=command.failed,
            document=command.document,
            document_version=command.document_version,
            changes=command.changes,
            by=command.by,
            reason=_short(command.reason),
            request=command.request,
        )
    )
    _advance(draft)


# --- what targets tell ------------------------------------------------------------------------------------------------


def _claim(draft: RunDraft, command: RecordClaim) -> None:
    state = draft.fold.jobs.get(command.job)
    match state:
        case JobState(phase=Queued(attempt=attempt, stop=None)) if attempt == command.attempt:
            pass
        # Found nothing twice, apart enough: nobody started it, so it may be asked for again.
        case JobState(phase=Doubted(attempt=attempt, stop=None, since=since, handle=None)) if (
            attempt == command.attempt and draft.now - since >= SECOND_LOOK_AFTER
        ):
            pass
        case _:
            raise Rejected(f"attempt {command.attempt} of {command.job} is not free to be claimed")
    draft.emit(
        AttemptClaimed(
            job=command.job,
            attempt=command.attempt,
            claimer=command.claimer,
            request=dict(command.request),
            send_before=command.send_before,
        )
    )


def _release_claim(draft: RunDraft, command: ReleaseClaim) -> None:
    match draft.fold.jobs.get(command.job):
        case JobState(phase=Claimed(attempt=attempt, claimer=claimer)) if (
            attempt == command.attempt and claimer == command.claimer
        ):
            at = draft.now + timedelta(seconds=command.retry_seconds)
            draft.emit(
                ClaimReleased(job=command.job, attempt=command.attempt, reason=_short(command.reason), retry_at=at)
            )
        case _:
            return


def _record_silence(draft: RunDraft, command: RecordSilence) -> None:
    phase = _current(draft, command.job, command.attempt)
    if phase is None or isinstance(phase, Doubted):
        return
    _doubt(draft, command.job, phase, command.reason)


def _record_stop_sent(draft: RunDraft, command: RecordStopSent) -> None:
    phase = _current(draft, command.job, command.attempt)
    if phase is not None and phase.stop is not None and phase.stop.sent_at is None:
        draft.emit(StopSent(job=command.job, attempt=command.attempt))


def _record_report(draft: RunDraft, report: RecordReport) -> None:
    phase = _current(draft, report.job, report.attempt)
    if phase is None:
        _record_late(draft, report)
        return
    match report.status:
        case "submitted" | "running":
            _record_running(draft, report, phase)
        case "succeeded":
            draft.emit(
                AttemptSucceeded(
                    job=report.job,
                    attempt=report.attempt,
                    exit_code=report.exit_code,
                    started_at=report.started_at,
                    ended_at=report.ended_at,
                    outputs=dict(report.outputs),
                    files=dict(report.files),
                )
            )
            _advance(draft)
        case "failed":
            _fail(draft, report, phase, report.failure or "user", report.reason)
        case "cancelled":
            _record_stopped(draft, report, phase)
        case "missing":
            _record_missing(draft, report, phase)
        case "unknown":
            # We asked it to end, and it is gone: that is the end we asked for.
            if phase.stop is not None:
                _record_stopped(draft, report, phase)
            elif not isinstance(phase, Doubted):
                _doubt(draft, report.job, phase, report.reason or "it ended, and nobody can say how")
        case _:
            assert_never(report.status)


def _record_running(draft: RunDraft, report: RecordReport, phase: Open) -> None:
    if isinstance(phase, Submitted):
        if report.handle is not None and report.handle != phase.handle:
            # A second execution under our token: only one is bound, the other is recorded and stopped.
            _note_stray(draft, report, phase.attempt)
            return
        started_at = report.started_at
        timeouts = _document_job(draft, report.job).timeouts
        bounded = timeouts.start_minutes is not None or timeouts.run_minutes is not None
        worth = bounded or draft.now - phase.submitted_at >= STARTED_WORTH_A_COMMIT
        if report.status == "running" and phase.started_at is None and started_at is not None and worth:
            draft.emit(AttemptStarted(job=report.job, attempt=report.attempt, started_at=started_at))
        return
    if report.handle is None:
        return
    draft.emit(
        AttemptSubmitted(
            job=report.job,
            attempt=report.attempt,
            handle=report.handle,
            started_at=report.started_at if report.status == "running" else None,
        )
    )


def _record_stopped(draft: RunDraft, report: RecordReport, phase: Open) -> None:
    if phase.stop is not None and phase.stop.cause == "timeout":
        _fail(draft, report, phase, "timeout", phase.stop.reason)
        return
    reason = phase.stop.reason if phase.stop is not None else (report.reason or "stopped from outside")
    draft.emit(
        AttemptCancelled(
            job=report.job,
            attempt=report.attempt,
            reason=_short(reason),
            exit_code=report.exit_code,
            started_at=report.started_at,
            ended_at=report.ended_at,
        )
    )
    _advance(draft)


def _record_missing(draft: RunDraft, report: RecordReport, phase: Open) -> None:
    match phase:
        case Queued(stop=stop):
            if stop is not None:
                _record_stopped(draft, report, phase)
        case Submitted(submitted_at=submitted_at):
            # Right after a start, not being found proves nothing (faults 8 and 27).
            if draft.now - submitted_at >= MISSING_AFTER:
                if phase.stop is not None:
                    _record_stopped(draft, report, phase)
                else:
                    _doubt(draft, report.job, phase, "the target does not know it any more")
        case Claimed(send_before=send_before):
            if draft.now >= send_before:
                _doubt(draft, report.job, phase, "asked for, and not found at the target")
        case Doubted(since=since, handle=None):
            if phase.stop is not None and draft.now - since >= SECOND_LOOK_AFTER:
                _record_stopped(draft, report, phase)
        case Doubted():
            return


def _fail(draft: RunDraft, report: RecordReport, phase: Open, failure: FailureClass, reason: str) -> None:
    """An attempt ended without success; whether there is another is decided here and nowhere else."""
    fold = draft.fold
    state = fold.jobs[report.job]
    again: datetime | None = None
    stopped = phase.stop is not None and phase.stop.cause != "timeout"
    if fold.cancel is None and not stopped:
        assert fold.run is not None
        again = retry_at(
            _document_job(draft, report.job).retry,
            run=fold.run.run,
            job=report.job,
            attempt=phase.attempt,
            failure=failure,
            earlier=state.attempts,
            round_number=fold.round,
            now=draft.now,
        )
    draft.emit(
        AttemptFailed(
            job=report.job,
            attempt=report.attempt,
            failure=failure,
            reason=_short(reason),
            exit_code=report.exit_code,
            started_at=report.started_at,
            ended_at=report.ended_at,
            outputs=dict(report.outputs),
            retry_at=again,
        )
    )
    _advance(draft)


def _doubt(draft: RunDraft, job: JobName, phase: Open, reason: str) -> None:
    policy = _document_job(draft, job).doubt
    draft.emit(
        AttemptDoubted(
            job=job,
            attempt=phase.attempt,
            reason=_short(reason),
            policy=policy.policy,
            resolve_at=draft.now + timedelta(minutes=policy.after_minutes) if policy.policy == "assume_lost" else None,
        )
    )


_CONTRARY: dict[str, tuple[str, ...]] = {
    "succeeded": ("failed", "timed_out", "cancelled", "abandoned"),
    "failed": ("succeeded", "cancelled", "abandoned"),
    "cancelled": ("succeeded",),
}
"""For each late terminal report, the recorded ends that it contradicts."""


def _record_late(draft: RunDraft, report: RecordReport) -> None:
    """A report about an attempt that is not under way: it never changes what ended, but a contradiction is worth recording."""
    state = draft.fold.jobs.get(report.job)
    if state is None or not 1 <= report.attempt <= len(state.attempts):
        return
    ended = state.attempts[report.attempt - 1]
    if report.status in {"submitted", "running"}:
        if report.handle is not None and report.handle != ended.handle:
            _note_stray(draft, report, report.attempt, ended)
        return
    if ended.status in _CONTRARY.get(report.status, ()):
        text = report.status + (f", exit code {report.exit_code}" if report.exit_code is not None else "")
        if text not in ended.late:
            draft.emit(LateReported(job=report.job, attempt=report.attempt, report=text))


def _note_stray(draft: RunDraft, report: RecordReport, attempt: int, ended: Attempt | None = None) -> None:
    text = f"another execution under this attempt: {report.handle}"
    # An attempt under way has no list of late reports; the stop is idempotent and is repeated until the stray has ended.
    if ended is not None and text not in ended.late:
        draft.emit(LateReported(job=report.job, attempt=attempt, report=text, handle=report.handle))


# --- what time does ---------------------------------------------------------------------------------------------------


def _look_at_the_time(draft: RunDraft) -> None:
    """Retries that are due, phases that took too long, stops nobody confirmed, doubts that are given up."""
    fold = draft.fold
    if fold.outcome is not None:
        return
    due_again: list[JobName] = []
    for name in fold.live_jobs():
        if not draft.room:
            draft.truncated = True
            break
        state = fold.jobs[name]
        past = [one for one in deadlines(state, _document_job(draft, name), fold.round) if one.at <= draft.now]
        if not past:
            continue
        deadline = min(past)
        match deadline.what:
            case "retry":
                due_again.append(name)
            case "flag_stop":
                assert isinstance(state.phase, Queued | Claimed | Submitted | Doubted)
                draft.emit(StopFlagged(job=name, attempt=state.phase.attempt, reason="the stop was never confirmed"))
            case "give_up_doubt":
                assert isinstance(state.phase, Doubted)
                lost = RecordReport(name, state.phase.attempt, "failed")
                _fail(draft, lost, state.phase, "infrastructure", f"assumed lost: {state.phase.reason}")
            case "queue_timeout" | "start_timeout" | "run_timeout" | "total_timeout":
                reason = deadline.what.replace("_", " ")
                if isinstance(state.phase, Ready | Backoff):
                    draft.emit(JobSettled(job=name, outcome="timed_out", reason=reason))
                elif isinstance(state.phase, Queued | Claimed | Submitted | Doubted):
                    _request_stop(draft, name, state.phase, "timeout", reason)
            case _:
                assert_never(deadline.what)
    if due_again:
        draft.emit(JobsReady(jobs=tuple(sorted(due_again, key=fold.plan.rank.__getitem__))))


def _advance(draft: RunDraft) -> None:
    """Everything that follows from what has just happened: settle jobs, fill free places, finish the run."""
    fold = draft.fold
    if fold.run is None or fold.outcome is not None:
        return
    if fold.cancel is not None:
        _go_on_cancelling(draft)
    else:
        if not fold.opened:
            after = fold.run.request.start_after
            if after is not None and after > draft.now:
                return
            draft.emit(RunOpened())
        _settle(draft)
        _fill_places(draft)
    if fold.unfinished == 0:
        draft.emit(RunFinished(outcome=_run_outcome(draft)))


def _settle(draft: RunDraft) -> None:
    fold = draft.fold
    parallelism = fold.plan.workflow.parallelism
    waiting_for_place: list[JobName] = []
    while fold.has_unsettled():
        if len(draft.events) + len(waiting_for_place) >= SLICE:
            draft.truncated = True
            break
        name = fold.next_unsettled()
        assert name is not None
        verdict = _judge(draft, name)
        if verdict is not None:
            draft.emit(JobSettled(job=name, outcome=verdict[0], reason=_short(verdict[1])))
        elif fold.active < parallelism and not waiting_for_place and not fold.has_ready():
            draft.emit(AttemptQueued(job=name, attempt=len(fold.jobs[name].attempts) + 1))
        else:
            waiting_for_place.append(name)
    if waiting_for_place:
        draft.emit(JobsReady(jobs=tuple(waiting_for_place)))


def _fill_places(draft: RunDraft) -> None:
    fold = draft.fold
    parallelism = fold.plan.workflow.parallelism
    while fold.active < parallelism and fold.has_ready():
        if not draft.room:
            draft.truncated = True
            return
        name = fold.next_ready()
        assert name is not None
        draft.emit(AttemptQueued(job=name, attempt=len(fold.jobs[name].attempts) + 1))


def _go_on_cancelling(draft: RunDraft) -> None:
    fold = draft.fold
    assert fold.cancel is not None
    why = f"the run was cancelled by {fold.cancel.by or 'nobody named'}"
    for name in fold.plan.jobs:
        if not draft.room:
            draft.truncated = True
            return
        phase = fold.jobs[name].phase
        match phase:
            case Waiting() | Ready() | Backoff():
                draft.emit(JobSettled(job=name, outcome="cancelled", reason=why))
            case Queued() | Claimed() | Submitted() | Doubted():
                if phase.stop is None or phase.stop.cause == "timeout":
                    _request_stop(draft, name, phase, "cancel", why)
            case Done():
                pass


def _request_stop(draft: RunDraft, job: JobName, phase: Open, cause: str, reason: str) -> None:
    grace = timedelta(seconds=_document_job(draft, job).stop_grace_seconds)
    draft.emit(
        StopRequested(
            job=job,
            attempt=phase.attempt,
            cause="timeout" if cause == "timeout" else "cancel",
            reason=_short(reason),
            flag_at=draft.now + grace + FLAG_AFTER,
        )
    )


def _run_outcome(draft: RunDraft) -> Literal["succeeded", "failed", "cancelled"]:
    tally = draft.fold.tally
    if draft.fold.cancel is not None and tally.get("cancelled"):
        return "cancelled"
    return "failed" if any(tally.get(outcome) for outcome in BAD_OUTCOMES) else "succeeded"


def _judge(draft: RunDraft, name: JobName) -> tuple[Outcome, str] | None:
    """None if the job may run; otherwise how it ends without running, and why."""
    phase = draft.fold.jobs[name].phase
    assert isinstance(phase, Waiting)
    assert phase.remaining == 0
    job = _document_job(draft, name)
    match job.when:
        case "all_done":
            return None
        case "all_succeeded":
            if phase.failed:
                return "upstream_failed", _first_upstream(draft, name, BAD_OUTCOMES)
            if phase.skipped:
                return "skipped", _first_upstream(draft, name, frozenset({"skipped"}))
            return None
        case "any_succeeded":
            if phase.succeeded:
                return None
            return ("upstream_failed" if phase.failed else "skipped"), "no job before it succeeded"
        case "any_failed":
            return None if phase.failed else ("skipped", "no job before it failed")
        case expression:
            return _judge_expression(draft, name, expression)


def _judge_expression(draft: RunDraft, name: JobName, expression: str) -> tuple[Outcome, str] | None:
    fold = draft.fold
    assert fold.run is not None
    context = context_of(fold.run.request, fold.run.requested_at, fold.all_jobs(), job=name)
    try:
        holds = evaluate(expression, context)
    except TemplateError as error:
        return "failed", f"`when` cannot be evaluated: {error}"
    return None if holds else ("skipped", f"`when` does not hold: {expression}")


def _first_upstream(draft: RunDraft, name: JobName, outcomes: frozenset[str]) -> str:
    for before in _document_job(draft, name).after:
        phase = draft.fold.jobs[JobName(before)].phase
        if isinstance(phase, Done) and phase.outcome in outcomes:
            return f"{before}: {phase.outcome}"
    return ""


# --- small things -----------------------------------------------------------------------------------------------------


def _document_job(draft: RunDraft, name: JobName) -> EcsJob | EmrJob | SsmJob:
    return draft.fold.plan.jobs[name]


def _job(draft: RunDraft, name: JobName) -> JobState:
    state = draft.fold.jobs.get(name)
    if state is None:
        names = ", ".join(_some(draft.fold.plan.jobs))
        raise NotFound(f"the run has no job {name}; it has {names}")
    return state


def _some(names: Iterable[JobName], most: int = 12) -> Iterator[str]:
    for position, name in enumerate(names):
        if position == most:
            yield "…"
            return
        yield name


def _current(draft: RunDraft, job: JobName, attempt: int) -> Open | None:
    """The phase of that attempt if it is under way. Targets report late, twice, and sometimes about jobs that are not ours."""
    state = draft.fold.jobs.get(job)
    match state:
        case JobState(phase=Queued() | Claimed() | Submitted() | Doubted() as phase) if phase.attempt == attempt:
            return phase
        case _:
            return None


def _short(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
