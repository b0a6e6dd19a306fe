"""The rules of a run: already true gives nothing, not allowed gives `Rejected`, otherwise events.

A decision is made on a draft: each event is applied to a copy of the state at once, so that the next thought sees it; what
follows from a fact (dependents become ready, places are filled, the run finishes) is decided in the same breath and stored in
the same commit. A decision costs what it touches. One that touches more than `SLICE` jobs stops there, and `Advance` goes on.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from shared import template
from shared.decide import waits
from shared.decide.approvals import approvers, expires_at, may_decide
from shared.decide.commands import (
    Advance,
    AskAgain,
    CancelJob,
    CancelRun,
    DecideApproval,
    MarkJob,
    PostponeStart,
    RecordClaim,
    RecordLook,
    RecordRefusal,
    RecordReport,
    RecordSilence,
    RecordStopSent,
    RecordUnheard,
    ReleaseClaim,
    ReopenRun,
    RequestRun,
    RunCommand,
    TakePlace,
)
from shared.decide.context import context_of
from shared.decide.deadlines import Deadline, What, deadlines, total_deadline
from shared.decide.fan_out import expansion, joined, share_of
from shared.decide.lateness import lateness_events
from shared.decide.outputs import is_text, unfit
from shared.decide.places import ask_for_places, take_place, want_place
from shared.decide.retrying import retry_at
from shared.errors import NotAllowed, NotFound, Rejected, TemplateError
from shared.events import (
    ApprovalAsked,
    ApprovalExpired,
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
    ItemsCancelRequested,
    ItemsExpanded,
    ItemsJoined,
    ItemsSettled,
    JobApproved,
    JobMarked,
    JobRejected,
    JobSettled,
    JobsReady,
    LateReported,
    RunCancelRequested,
    RunFinished,
    RunOpened,
    RunReopened,
    RunRequested,
    StartAsked,
    StopFlagged,
    StopRequested,
    StopSent,
)
from shared.ids import JobName, item_of
from shared.secrecy import secret_places, secrets_in, shortened, without_secrets
from shared.state.run import (
    BAD_OUTCOMES,
    Asking,
    Attempt,
    Backoff,
    Claimed,
    Done,
    Doubted,
    FannedOut,
    JobState,
    Open,
    Plans,
    Queued,
    Ready,
    Run,
    RunFold,
    RunState,
    Stop,
    Submitted,
    Waiting,
    Wanting,
    reopened_jobs,
)
from shared.state.waits import WHOLE_RUN
from shared.workflow.document import AnyJob, ApprovalJob, FailureClass, Outcome
from shared.workflow.fan_out import json_bytes
from shared.workflow.syntax import path_of

SLICE = 300
"""Events that one decision leads to before it is cut."""
SLICE_BYTES = 90_000
"""The text of one decision's events before it is cut. A commit may have 100 KB; the event that fills a slice up is small, because
large ones (outputs, requests) come first in their decisions and are bounded by `PAYLOAD_BYTES_MAX`."""
PAYLOAD_BYTES_MAX = 70_000
"""Of what others give us for one event: a job's outputs and files, a run's parameters. Targets cut outputs at 64 KB already."""
EXPAND_BEFORE_BYTES = 15_000
"""A list that a run pins comes early in its decision, so that the commit has room for it."""
NAMED_JOBS_BYTES_MAX = 40_000
"""Of the names in one request to reopen a run: about 600 of the longest names."""
CHANGES_BYTES_MAX = 20_000
"""Of the differences between documents that a reopened run remembers."""
FLAG_AFTER = timedelta(minutes=10)
"""An unconfirmed stop is flagged this long after its grace period. ECS and EMR confirm within a few minutes."""
MISSING_AFTER = timedelta(minutes=10)
"""A target that does not know its own handle is believed only after this. ECS is consistent within five minutes."""
LISTED_AFTER = timedelta(seconds=60)
"""By then what was begun is in the target's lists, its request's way included. EMR and SSM list with delay."""
CLOCKS_DIFFER_BY = timedelta(minutes=5)
"""The first look is dated by another process's clock than the second (fault 59)."""
SECOND_LOOK_AFTER = LISTED_AFTER + CLOCKS_DIFFER_BY
"""Between the two looks that must both find nothing before work is asked for again."""
STARTED_WORTH_A_COMMIT = timedelta(seconds=60)
"""Work that runs longer than this gets its start recorded when it is seen, even if nothing else depends on it."""
TEXT_MAX = 1_000
"""Characters of a reason that go into an event."""
WHY_MAX = 300
"""Characters of a reason that thousands of jobs may share, each in an event of its own."""


class RunDraft:
    """Events decided so far, and the state they lead to. `now` is the moment of the commit they will be stored in."""

    def __init__(self, state: RunState, plans: Plans, now: datetime) -> None:
        self.fold = RunFold(state, plans)
        # Clocks differ; a commit is never earlier than the one before it, and neither is what is decided in it.
        self.now = max(now, state.at) if isinstance(state, Run) else now
        self.events: list[Event] = []
        self.bytes = 0
        """Of the text that the events will be stored as, rather more than less."""
        self.truncated = False
        """There is more to decide than fitted."""

    def emit(self, event: Event) -> None:
        self.fold.apply(event, self.now)
        self.events.append(event)
        self.bytes += text_bytes(event)

    @property
    def room(self) -> bool:
        """Whether a decision may go on; a batch of commands should end before this is False."""
        return self.room_for(())

    def room_for(self, names: Collection[JobName]) -> bool:
        """Whether it may go on when an event for all these jobs is still to come."""
        # No character of a name takes more than a byte, or is escaped.
        size = self.bytes + sum(map(len, names)) + 3 * len(names) if names else self.bytes
        return len(self.events) + len(names) < SLICE and size < SLICE_BYTES

    def freeze(self) -> RunState:
        return self.fold.freeze()


def text_bytes(event: Event) -> int:
    """How much of a commit the event takes."""
    return len(event.model_dump_json(exclude_defaults=True).encode()) + len(event.type) + 12


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
        case PostponeStart():
            _postpone_start(draft, command)
        case AskAgain():
            _ask_again(draft, command)
        case RecordUnheard():
            _record_unheard(draft, command)
        case RecordRefusal():
            _record_refusal(draft, command)
        case ReleaseClaim():
            _release_claim(draft, command)
        case RecordReport():
            _record_report(draft, command)
        case RecordSilence():
            _record_silence(draft, command)
        case RecordStopSent():
            _record_stop_sent(draft, command)
        case RecordLook():
            if waits.record_look(draft, command):
                _advance(draft)
        case CancelRun():
            _cancel_run(draft, command)
        case CancelJob():
            _cancel_job(draft, command)
        case MarkJob():
            _mark(draft, command)
        case DecideApproval():
            _decide_approval(draft, command)
        case ReopenRun():
            _reopen(draft, command)
        case TakePlace():
            if take_place(draft, command):
                _advance(draft)
        case _:
            assert_never(command)


# --- requests of people -----------------------------------------------------------------------------------------------


def _request(draft: RunDraft, command: RequestRun) -> None:
    if draft.fold.run is not None:
        return
    check_request(command.request)
    draft.emit(command.request)
    _advance(draft)


def check_request(request: RunRequested) -> None:
    """Raise `Rejected` for a request too large to be stored as the first event of its run."""
    size = text_bytes(request)
    if size > PAYLOAD_BYTES_MAX:
        raise Rejected(
            f"the run's parameters and files take {size:,} bytes, and at most {PAYLOAD_BYTES_MAX:,} are kept with a run: "
            "put large values into a file and pass its address"
        )


def _cancel_run(draft: RunDraft, command: CancelRun) -> None:
    fold = draft.fold
    if fold.cancel is not None:
        return
    if fold.outcome is not None:
        raise Rejected(f"the run has finished already: {fold.outcome}")
    draft.emit(RunCancelRequested(by=command.by, reason=_short(command.reason)))
    _advance(draft)


def _cancel_job(draft: RunDraft, command: CancelJob) -> None:
    state = _job(draft, command.job)
    phase = state.phase
    match phase:
        case Done(outcome=outcome):
            if outcome == "cancelled":
                return
            raise Rejected(f"{command.job} has ended already: {outcome}")
        case Waiting() | Wanting() | Ready() | Backoff() | Asking():
            reason = f"cancelled by {command.by}" + (f": {command.reason}" if command.reason else "")
            draft.emit(JobSettled(job=command.job, outcome="cancelled", reason=_short(reason)))
            _advance(draft)
        case Queued() | Claimed() | Submitted() | Doubted():
            if phase.stop is None or phase.stop.cause == "timeout":
                _request_stop(draft, command.job, phase, "cancel", f"{command.by} {command.reason}".strip())
        case FannedOut():
            if draft.fold.fans[command.job].cancel is None:
                draft.emit(ItemsCancelRequested(job=command.job, by=command.by, reason=_short(command.reason, WHY_MAX)))
                _advance(draft)


def _mark(draft: RunDraft, command: MarkJob) -> None:
    if not command.by or not command.reason.strip():
        raise Rejected("marking a job needs a person's name and a reason")
    state = _job(draft, command.job)
    phase = state.phase
    document_job = _document_job(draft, command.job)
    if isinstance(document_job, ApprovalJob) and command.outcome == "succeeded":
        raise Rejected(
            f"{command.job} is an approval, which is for {approvers(document_job)} to give: `runfold approve`; where it was "
            "refused or came too late, `runfold rerun` asks again"
        )
    if isinstance(phase, Queued | Claimed | Submitted) and (phase.stop is None or phase.stop.flagged_at is None):
        raise Rejected(
            f"{command.job} is under way (attempt {phase.attempt}): cancel it first; it can be marked when it has ended, or "
            "when its end was never confirmed"
        )
    if isinstance(phase, Done) and phase.outcome == command.outcome:
        return
    if isinstance(phase, FannedOut):
        raise Rejected(f"{command.job} is under way: cancel it first, or mark the items that hold it up")
    parent = item_of(command.job)
    if parent is not None and draft.fold.fans[parent[0]].joined:
        raise Rejected(
            f"{parent[0]} has ended, and {command.job} with it: mark {parent[0]} itself, or do the item again"
        )
    draft.emit(JobMarked(job=command.job, outcome=command.outcome, by=command.by, reason=_short(command.reason)))
    fold = draft.fold
    if fold.outcome is not None and _run_outcome(draft) != fold.outcome:
        # The end of a round is final, so what the mark makes of the run is the end of a round in which nothing is done.
        draft.emit(
            RunReopened(
                document=fold.plan.digest,
                document_version=fold.document_version,
                by=command.by,
                reason=f"{command.job} was marked {command.outcome}",
            )
        )
    _advance(draft)


def _decide_approval(draft: RunDraft, command: DecideApproval) -> None:
    phase = _job(draft, command.job).phase
    job = _document_job(draft, command.job)
    if not isinstance(job, ApprovalJob):
        raise Rejected(f"{command.job} is no approval: nobody is asked about it")
    if not may_decide(job, command.by, command.role):
        raise NotAllowed(f"{command.job} is for {approvers(job)} to decide")
    match phase:
        case Asking(expires_at=until) if until is not None and until <= draft.now:
            # What that means is decided at the next look at the run, by the same rule whoever comes too late.
            raise Rejected(f"the time to decide on {command.job} ended at {until:%Y-%m-%d %H:%M:%S} UTC")
        case Asking():
            reason = _short(command.reason)
            if command.verdict == "approved":
                draft.emit(JobApproved(job=command.job, by=command.by, reason=reason))
            else:
                draft.emit(JobRejected(job=command.job, by=command.by, reason=reason))
            _advance(draft)
        case Done(outcome=outcome, reason=reason):
            if outcome != ("succeeded" if command.verdict == "approved" else "failed"):
                raise Rejected(f"{command.job} has ended already: {outcome}" + (f" ({reason})" if reason else ""))
        case _:
            raise Rejected(f"{command.job} does not wait for a decision yet: jobs before it have not ended")


def _reopen(draft: RunDraft, command: ReopenRun) -> None:
    fold = draft.fold
    if command.request and command.request in fold.reopen_requests:
        return
    if fold.outcome is None:
        raise Rejected("the run has not finished: cancel it or wait for its end, then rerun it")
    if secrets_in(command.request):
        raise Rejected("what names the request looks like a secret, and would be recorded: take a random name")
    plan = fold.plans(command.document)
    for name in command.jobs:
        if name not in plan.jobs and not (plan.has(name) and fold.find(name) is not None):
            raise NotFound(f"the document has no job {name}")
    if sum(len(name) + 3 for name in command.jobs) > NAMED_JOBS_BYTES_MAX:
        raise Rejected(
            f"{len(command.jobs):,} jobs are too many to name: name the first ones, whatever depends on them is done again too"
        )
    if not reopened_jobs(fold.all_jobs(), plan, command.jobs, failed=command.failed):
        raise Rejected("nothing to do again: every job succeeded or was skipped; name the job to start from")
    reopened = RunReopened(
        jobs=command.jobs,
        failed=command.failed,
        document=command.document,
        document_version=command.document_version,
        changes=_bounded(command.changes, CHANGES_BYTES_MAX),
        parameters=None if command.parameters is None else dict(command.parameters),
        by=command.by,
        reason=_short(command.reason),
        request=command.request,
    )
    if text_bytes(reopened) > PAYLOAD_BYTES_MAX:
        # The differences can be had from the documents; the rest cannot be left out.
        reopened = reopened.model_copy(update={"changes": ()})
        if text_bytes(reopened) > PAYLOAD_BYTES_MAX:
            raise Rejected(
                "the names of the jobs and the new parameters are too long together: name the first jobs only"
            )
    draft.emit(reopened)
    _advance(draft)


# --- what targets tell ------------------------------------------------------------------------------------------------


def _claim(draft: RunDraft, command: RecordClaim) -> None:
    if command.send_before <= draft.now:
        raise Rejected(f"the time to send attempt {command.attempt} of {command.job} has passed")
    state = draft.fold.find(command.job)
    match state:
        case JobState(phase=Queued(attempt=attempt, stop=None, not_before=not_before)) if attempt == command.attempt:
            if not_before is not None and not_before > draft.now:
                raise Rejected(
                    f"attempt {attempt} of {command.job} is not to be asked for before {not_before:%H:%M:%S}"
                )
        # Found nothing twice, apart enough: nobody started it, so it may be asked for again. A message to start it that comes late,
        # or a second time, has not looked.
        case JobState(phase=Doubted(attempt=attempt, stop=None, since=since, handle=None)) if (
            attempt == command.attempt
            and command.looked_at is not None
            and min(command.looked_at, draft.now) - since >= SECOND_LOOK_AFTER
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
    match draft.fold.find(command.job):
        case JobState(phase=Claimed(attempt=attempt, claimer=claimer, stop=stop)) if (
            attempt == command.attempt and claimer == command.claimer
        ):
            at = draft.now + timedelta(seconds=command.retry_seconds)
            draft.emit(
                ClaimReleased(job=command.job, attempt=command.attempt, reason=_short(command.reason), retry_at=at)
            )
            if stop is not None:
                # Nobody has it, and nobody wants it any more.
                phase = _current(draft, command.job, command.attempt)
                assert phase is not None
                _end_stopped(draft, RecordReport(command.job, command.attempt, "missing"), phase)
        case _:
            return


def _postpone_start(draft: RunDraft, command: PostponeStart) -> None:
    phase = _current(draft, command.job, command.attempt)
    if not isinstance(phase, Queued) or phase.stop is not None:
        # Another request of it was taken, or nobody wants it any more.
        return
    asked = bool(command.claimer) and phase.asking == command.claimer
    if phase.not_before is not None and phase.not_before > draft.now and not asked:
        # Whoever asked side by side has said so already.
        return
    if phase.asking and not asked:
        # Another asks meanwhile, and this does not answer him.
        return
    draft.emit(
        ClaimReleased(
            job=command.job,
            attempt=command.attempt,
            reason=_short(command.reason),
            retry_at=draft.now + timedelta(seconds=command.retry_seconds),
            first=command.first and phase.not_before is None,
        )
    )


def _ask_again(draft: RunDraft, command: AskAgain) -> None:
    phase = _current(draft, command.job, command.attempt)
    if (
        not isinstance(phase, Queued)
        or phase.stop is not None
        or (phase.not_before is not None and phase.not_before > draft.now)
    ):
        raise Rejected(f"attempt {command.attempt} of {command.job} is not to be asked for now")
    draft.emit(
        StartAsked(
            job=command.job,
            attempt=command.attempt,
            claimer=command.claimer,
            not_before=draft.now + timedelta(seconds=command.within_seconds),
            unheard=bool(phase.asking),
        )
    )


def _record_unheard(draft: RunDraft, command: RecordUnheard) -> None:
    phase = _current(draft, command.job, command.attempt)
    if isinstance(phase, Queued) and (phase.untaken or phase.not_before is None):
        # Before anybody has heard: whoever is turned away after this was not the first to ask.
        at = phase.not_before or draft.now + timedelta(seconds=command.retry_seconds)
        draft.emit(StartAsked(job=command.job, attempt=command.attempt, claimer="", not_before=at, unheard=True))


def _record_refusal(draft: RunDraft, command: RecordRefusal) -> None:
    phase = _current(draft, command.job, command.attempt)
    match phase:
        case Queued() | Claimed():
            pass
        case Doubted(handle=None, stop=None, since=since) if (
            command.looked_at is not None and min(command.looked_at, draft.now) - since >= SECOND_LOOK_AFTER
        ):
            pass
        case _:
            # Another request of it was taken: that one counts.
            return
    refused = RecordReport(command.job, command.attempt, "failed", failure=command.failure, reason=command.reason)
    _record_report(draft, refused)


def _record_silence(draft: RunDraft, command: RecordSilence) -> None:
    phase = _current(draft, command.job, command.attempt)
    if isinstance(phase, Claimed) and command.claimer not in {None, phase.claimer} and draft.now < phase.send_before:
        # Whoever has the claim by now may still send: looks that count from here would come before his request.
        return
    # Where somebody has heard of it meanwhile, silence tells nothing new.
    if isinstance(phase, Queued | Claimed):
        _doubt(draft, command.job, phase, command.reason)


def _record_stop_sent(draft: RunDraft, command: RecordStopSent) -> None:
    phase = _current(draft, command.job, command.attempt)
    if phase is not None and phase.stop is not None and phase.stop.sent_at is None:
        draft.emit(StopSent(job=command.job, attempt=command.attempt))


def _record_report(draft: RunDraft, report: RecordReport) -> None:
    report = _storable(report, _outputs_max(draft, report.job))
    phase = _current(draft, report.job, report.attempt)
    if phase is None:
        _record_late(draft, report)
        return
    if (
        isinstance(phase, Submitted | Doubted)
        and phase.handle is not None
        and report.handle not in {None, phase.handle}
    ):
        # Two executions under one token: one is bound, the other is recorded and stopped, and its end is not the attempt's.
        _record_stray(draft, report, ended=None)
        return
    match report.status:
        case "submitted" | "running":
            _record_running(draft, report, phase)
        case "succeeded":
            _succeed(draft, report)
        case "failed":
            stop = phase.stop
            if stop is None or _ended_before(report, stop):
                _fail(draft, report, report.failure or "user", report.reason)
            else:
                # It ended badly because we ended it.
                _end_stopped(draft, report, phase)
        case "cancelled":
            _end_stopped(draft, report, phase)
        case "missing":
            _record_missing(draft, report, phase)
        case "unknown":
            # We asked it to end, and it is gone: that is the end we asked for.
            if phase.stop is not None:
                _end_stopped(draft, report, phase)
            elif not isinstance(phase, Doubted):
                bound = _bind(draft, report)
                _doubt(draft, report.job, bound or phase, report.reason or "it ended, and nobody can say how")
        case _:
            assert_never(report.status)


def _record_running(draft: RunDraft, report: RecordReport, phase: Open) -> None:
    if not isinstance(phase, Submitted):
        _bind(draft, report)
        return
    if report.status != "running" or phase.started_at is not None:
        return
    timeouts = _document_job(draft, report.job).timeouts
    bounded = timeouts.start_minutes is not None or timeouts.run_minutes is not None
    if bounded or draft.now - phase.submitted_at >= STARTED_WORTH_A_COMMIT:
        started_at = _believable(draft, report.started_at, phase) or draft.now
        draft.emit(AttemptStarted(job=report.job, attempt=report.attempt, started_at=started_at))


def _bind(draft: RunDraft, report: RecordReport) -> Open | None:
    """Record which execution an attempt is, if this report is the first to name it; the attempt's phase."""
    phase = _current(draft, report.job, report.attempt)
    assert phase is not None
    # A doubt ends when the target says that it has the work; but that it had it does not tell how it ended.
    has_it = report.status in {"submitted", "running"}
    if report.handle is None or isinstance(phase, Submitted):
        return phase
    if isinstance(phase, Doubted) and phase.handle is not None and not has_it:
        return phase
    started_at = _believable(draft, report.started_at, phase)
    if report.status == "running":
        started_at = started_at or draft.now
    elif has_it:
        started_at = None
    draft.emit(AttemptSubmitted(job=report.job, attempt=report.attempt, handle=report.handle, started_at=started_at))
    return _current(draft, report.job, report.attempt)


def _succeed(draft: RunDraft, report: RecordReport) -> None:
    phase = _bind(draft, report)
    assert phase is not None
    draft.emit(
        AttemptSucceeded(
            job=report.job,
            attempt=report.attempt,
            exit_code=report.exit_code,
            started_at=_believable(draft, report.started_at, phase),
            ended_at=_believable(draft, report.ended_at, phase),
            outputs=dict(report.outputs),
            files=dict(report.files),
        )
    )
    _advance(draft)


def _end_stopped(draft: RunDraft, report: RecordReport, phase: Open, *, assumed: bool = False) -> None:
    """The end that a stop asked for; or, without one, that somebody else brought about."""
    stop = phase.stop
    if stop is not None and stop.cause == "timeout":
        _fail(draft, report, "timeout", stop.reason, assumed=assumed)
        return
    bound = _bind(draft, report)
    assert bound is not None
    reason = stop.reason if stop is not None else (report.reason or "stopped from outside")
    draft.emit(
        AttemptCancelled(
            job=report.job,
            attempt=report.attempt,
            reason=_short(reason),
            exit_code=report.exit_code,
            started_at=_believable(draft, report.started_at, bound),
            ended_at=_believable(draft, report.ended_at, bound),
            assumed=assumed,
        )
    )
    _advance(draft)


def _record_missing(draft: RunDraft, report: RecordReport, phase: Open) -> None:
    # What counts is when it was looked for: between a look and this commit a process may have been held up.
    looked_at = min(report.looked_at, draft.now) if report.looked_at is not None else draft.now
    match phase:
        case Queued(stop=stop):
            if stop is not None:
                _end_stopped(draft, report, phase)
        case Submitted(submitted_at=submitted_at):
            # Right after a start, not being found proves nothing (faults 8 and 27).
            if looked_at - submitted_at >= MISSING_AFTER:
                if phase.stop is not None:
                    _end_stopped(draft, report, phase)
                else:
                    _doubt(draft, report.job, phase, "the target does not know it any more")
        case Claimed(send_before=send_before):
            if looked_at >= send_before:
                _doubt(draft, report.job, phase, "asked for, and not found at the target")
        case Doubted(since=since):
            if phase.stop is not None and looked_at - since >= SECOND_LOOK_AFTER:
                _end_stopped(draft, report, phase)


def _fail(draft: RunDraft, report: RecordReport, failure: FailureClass, reason: str, *, assumed: bool = False) -> None:
    """An attempt ended without success; whether there is another is decided here and nowhere else."""
    fold = draft.fold
    phase = _bind(draft, report)
    assert phase is not None
    assert fold.run is not None
    state = fold.job(report.job)
    job = _document_job(draft, report.job)
    again: datetime | None = None
    stopped = phase.stop is not None and phase.stop.cause != "timeout"
    if fold.cancel is None and not stopped:
        again = retry_at(
            job.retry,
            run=fold.run.run,
            job=report.job,
            attempt=phase.attempt,
            failure=failure,
            earlier=state.attempts,
            round_number=fold.round,
            now=draft.now,
        )
        if _given_up(draft, report.job):
            # The job has failed already, or is to end: nothing more is begun.
            again = None
        last = total_deadline(state, job, fold.round, phase.queued_at)
        if again is not None and last is not None and again >= last:
            # Another attempt could only be stopped at once.
            again = None
    draft.emit(
        AttemptFailed(
            job=report.job,
            attempt=report.attempt,
            failure=failure,
            reason=_short(reason),
            exit_code=report.exit_code,
            started_at=_believable(draft, report.started_at, phase),
            ended_at=_believable(draft, report.ended_at, phase),
            outputs=dict(report.outputs),
            retry_at=again,
            assumed=assumed,
        )
    )
    _advance(draft)


def _outputs_max(draft: RunDraft, name: JobName) -> int:
    """The bytes of outputs that a job may leave; an item has its share of what all may leave together."""
    of = item_of(name)
    fan = draft.fold.fans.get(of[0]) if of is not None else None
    return PAYLOAD_BYTES_MAX if fan is None else min(share_of(fan), PAYLOAD_BYTES_MAX)


def _given_up(draft: RunDraft, name: JobName) -> bool:
    """Whether it is an item of a job that has failed for good, or was cancelled."""
    of = item_of(name)
    fan = draft.fold.fans.get(of[0]) if of is not None else None
    return fan is not None and (fan.exceeded or fan.cancel is not None)


def _storable(report: RecordReport, outputs_max: int) -> RecordReport:
    """The report without outputs that an event cannot or must not hold; what succeeded with such outputs has failed (fault 55, I13)."""
    if not report.outputs and not report.files:
        return report
    if wrong := unfit(report.outputs):
        return _without_outputs(report, wrong)
    if found := next(secret_places(report.outputs, ("outputs",)), None):
        # Failing is loud where leaving it out would be silent: what comes after the job would run without it.
        place, what = found
        return _without_outputs(
            report,
            f"what looks like {what} is in its {path_of(place)}, and outputs are kept for ever: change it where it is in use, "
            "and let the jobs that need it read it by reference, in `secrets`",
        )
    kept = AttemptSucceeded(job=report.job, attempt=1, outputs=dict(report.outputs), files=dict(report.files))
    size = text_bytes(kept)
    if size > PAYLOAD_BYTES_MAX:
        outputs_max = PAYLOAD_BYTES_MAX
    elif outputs_max >= PAYLOAD_BYTES_MAX or (size := json_bytes(dict(report.outputs))) <= outputs_max:
        return report
    return _without_outputs(
        report,
        f"its outputs take {size:,} bytes, and at most {outputs_max:,} are kept: write large results to a file",
    )


def _without_outputs(report: RecordReport, reason: str) -> RecordReport:
    if report.status != "succeeded":
        return replace(report, outputs={}, files={})
    return replace(report, status="failed", failure="user", reason=reason, outputs={}, files={})


def _believable(draft: RunDraft, at: datetime | None, phase: Open) -> datetime | None:
    """A target's clock may be wrong (fault 36): nothing began before it was asked for, or ends in the future."""
    return None if at is None else max(min(at, draft.now), phase.queued_at)


def _ended_before(report: RecordReport, stop: Stop) -> bool:
    return report.ended_at is not None and report.ended_at < stop.requested_at


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
    "failed": ("succeeded", "abandoned"),
    "cancelled": ("succeeded",),
}
"""For each late terminal report, the recorded ends that it contradicts."""


def _record_late(draft: RunDraft, report: RecordReport) -> None:
    """A report about an attempt that is not under way: it never changes what ended, but a contradiction is worth recording."""
    state = draft.fold.find(report.job)
    if state is None or not 1 <= report.attempt <= len(state.attempts):
        return
    ended = state.attempts[report.attempt - 1]
    if report.handle is not None and report.handle != ended.handle and (ended.handle or ended.status != "succeeded"):
        _record_stray(draft, report, ended=ended)
        return
    if report.status in {"submitted", "running"}:
        # Late for an attempt that was seen to end (fault 31); news of one that was given up: it is there after all.
        if ended.assumed:
            _record_stray(draft, report, ended=ended)
        return
    if ended.status in _CONTRARY.get(report.status, ()):
        text = report.status + (f", exit code {report.exit_code}" if report.exit_code is not None else "")
        if text not in ended.late:
            draft.emit(LateReported(job=report.job, attempt=report.attempt, report=text))


def _record_stray(draft: RunDraft, report: RecordReport, *, ended: Attempt | None) -> None:
    """An execution under our token that is not the one we count on: recorded once, which also has it stopped."""
    handle = report.handle
    if handle is None or handle in (draft.fold.job(report.job).strays or ()):
        return
    if ended is not None and ended.handle is None and report.status in {"succeeded", "failed", "cancelled"}:
        # The attempt ended before anybody knew its name, and this is its name.
        contrary = ended.status in _CONTRARY.get(report.status, ())
        if not contrary and not ended.assumed:
            return
    what = "this execution is there after all" if ended is not None and ended.assumed else "another execution"
    text = _short(f"{what}: {handle} ({report.status})")
    draft.emit(LateReported(job=report.job, attempt=report.attempt, report=text, handle=handle))


# --- what time does ---------------------------------------------------------------------------------------------------


def _look_at_the_time(draft: RunDraft) -> None:
    """Retries that are due, phases that took too long, stops nobody confirmed, doubts that are given up."""
    fold = draft.fold
    if fold.outcome is not None:
        return
    due: list[tuple[tuple[int, int], JobName, What]] = []
    for name in fold.live_jobs():
        past = [one for one in deadlines(fold.job(name), _document_job(draft, name), fold.round) if one.at <= draft.now]
        if past:
            due.append((fold.plan.order(name), name, min(past, key=_urgency).what))
    # A map's order differs from process to process; the same state and time give the same decision.
    due.sort()
    again: list[JobName] = []
    for _, name, what in due:
        if not draft.room_for(again):
            draft.truncated = True
            break
        phase = fold.job(name).phase
        match what:
            case "retry" if want_place(draft, name):
                pass
            case "retry":
                again.append(name)
            case "flag_stop":
                assert isinstance(phase, Queued | Claimed | Submitted | Doubted)
                draft.emit(StopFlagged(job=name, attempt=phase.attempt, reason="the stop was never confirmed"))
            case "approval_timeout":
                _expire(draft, name)
            case "give_up_doubt":
                assert isinstance(phase, Doubted)
                _give_up(draft, name, phase)
            case "queue_timeout" | "start_timeout" | "run_timeout" | "total_timeout":
                reason = what.replace("_", " ")
                if isinstance(phase, Wanting | Ready | Backoff):
                    draft.emit(JobSettled(job=name, outcome="timed_out", reason=reason))
                elif isinstance(phase, Queued | Claimed | Submitted | Doubted):
                    _request_stop(draft, name, phase, "timeout", reason)
            case _:
                assert_never(what)
    if again:
        draft.emit(JobsReady(jobs=tuple(again)))


def _expire(draft: RunDraft, name: JobName) -> None:
    job = _document_job(draft, name)
    assert isinstance(job, ApprovalJob)
    match job.on_timeout:
        case "fail":
            draft.emit(ApprovalExpired(job=name, outcome="timed_out"))
        case "approve":
            draft.emit(ApprovalExpired(job=name, outcome="succeeded"))
        case "skip":
            draft.emit(ApprovalExpired(job=name, outcome="skipped"))


def _urgency(deadline: Deadline) -> tuple[int, datetime]:
    """Of several moments that have passed, the one that makes the others pointless goes first: no retry of what is out of time."""
    match deadline.what:
        case "give_up_doubt" | "approval_timeout":
            return (0, deadline.at)
        case "queue_timeout" | "start_timeout" | "run_timeout" | "total_timeout":
            return (1, deadline.at)
        case "flag_stop":
            return (2, deadline.at)
        case "retry":
            return (3, deadline.at)


def _give_up(draft: RunDraft, job: JobName, phase: Doubted) -> None:
    reason = f"assumed lost: {phase.reason}"
    lost = RecordReport(job, phase.attempt, "failed", reason=reason)
    if phase.stop is not None:
        _end_stopped(draft, lost, phase, assumed=True)
    else:
        _fail(draft, lost, "infrastructure", reason, assumed=True)


def _advance(draft: RunDraft) -> None:
    """Everything that follows from what has just happened: settle jobs, fill free places, finish the run."""
    fold = draft.fold
    if fold.run is None or fold.outcome is not None:
        return
    # Before anything starts or ends: a start that comes too late is late, and so is an end.
    for late in lateness_events(fold.pace, fold.plan.workflow, draft.now):
        draft.emit(late)
    if fold.cancel is not None:
        if fold.unfinished + fold.fanned > fold.stopping:
            _go_on_cancelling(draft)
        if not draft.truncated:
            _join(draft)
    else:
        # With nothing left to do there is nothing to wait for.
        if not fold.opened and fold.unfinished:
            after = fold.run.request.start_after
            if after is not None and after > draft.now:
                return
            draft.emit(RunOpened())
        if fold.unfinished and waits.run_may_begin(draft):
            _settle(draft)
            _fill_places(draft)
        elif lost := waits.why_not(draft, WHOLE_RUN):
            _settle_all(draft, *lost)
    if fold.unfinished == 0:
        draft.emit(RunFinished(outcome=_run_outcome(draft)))


def _settle(draft: RunDraft) -> None:
    fold = draft.fold
    parallelism = fold.plan.workflow.parallelism
    waiting_for_place: list[JobName] = []
    while fold.has_unsettled():
        if not draft.room_for(waiting_for_place):
            draft.truncated = True
            break
        name = fold.next_unsettled()
        assert name is not None
        if isinstance(fold.jobs[name].phase, FannedOut):
            _decide_on_items(draft, name)
            continue
        verdict = _judge(draft, name) or waits.why_not(draft, name)
        if verdict is None and waits.job_must_wait(draft, name):
            continue
        if verdict is not None:
            draft.emit(JobSettled(job=name, outcome=verdict[0], reason=_short(verdict[1], WHY_MAX)))
        elif _document_job(draft, name).for_each is not None:
            if draft.bytes > EXPAND_BEFORE_BYTES:
                fold.put_back(name)
                draft.truncated = True
                break
            _expand(draft, name)
        elif isinstance(job := _document_job(draft, name), ApprovalJob):
            _ask_for_approval(draft, name, job)
        elif want_place(draft, name):
            pass
        elif (
            fold.active < parallelism
            and _document_job(draft, name).pool is None
            and not waiting_for_place
            and not fold.has_ready()
        ):
            draft.emit(AttemptQueued(job=name, attempt=len(fold.jobs[name].attempts) + 1))
        else:
            waiting_for_place.append(name)
    if waiting_for_place:
        draft.emit(JobsReady(jobs=tuple(waiting_for_place)))


def _ask_for_approval(draft: RunDraft, name: JobName, job: ApprovalJob) -> None:
    try:
        message = _short(template.render_text(job.message, _context(draft, name)))
    except TemplateError as error:
        draft.emit(JobSettled(job=name, outcome="failed", reason=_short(f"`message` cannot be rendered: {error}")))
        return
    draft.emit(ApprovalAsked(job=name, message=message, expires_at=expires_at(job, draft.now)))


def _fill_places(draft: RunDraft) -> None:
    fold = draft.fold
    parallelism = fold.plan.workflow.parallelism
    while fold.active < parallelism and fold.has_ready():
        if not draft.room:
            draft.truncated = True
            return
        name = fold.next_ready()
        assert name is not None
        draft.emit(AttemptQueued(job=name, attempt=len(fold.job(name).attempts) + 1))
    if not ask_for_places(draft):
        draft.truncated = True


def _expand(draft: RunDraft, name: JobName) -> None:
    """Begin a job with `for_each`: find out for each of what."""
    fold = draft.fold
    assert fold.run is not None
    for_each = _document_job(draft, name).for_each
    assert for_each is not None
    request = fold.run.request
    try:
        found = expansion(for_each, request.parameters, _context(draft, name))
    except Rejected as reason:
        draft.emit(JobSettled(job=name, outcome="failed", reason=_short(str(reason))))
        return
    draft.emit(
        ItemsExpanded(
            job=name,
            count=found.count,
            items=found.items,
            tolerated=for_each.tolerated(found.count),
            max_parallel=for_each.max_parallel,
        )
    )


def _decide_on_items(draft: RunDraft, name: JobName) -> None:
    """Items that are given up do not begin; those under way are asked to end if a person wants that; when none is left, the job has ended."""
    fold = draft.fold
    fan = fold.fans[name]
    if fan.left == 0:
        outcome, reason = joined(fan, cancelling=fold.cancel is not None)
        draft.emit(ItemsJoined(job=name, outcome=outcome, reason=_short(reason, WHY_MAX)))
    elif fan.cancel is not None:
        by, why = fan.cancel.by, fan.cancel.reason
        _end_items(draft, name, f"{name} was cancelled by {by}" + (f": {why}" if why else ""))
    else:
        _settle_items(draft, name, f"{fan.bad:,} items ended badly, and at most {fan.tolerated:,} may")


def _settle_items(draft: RunDraft, name: JobName, why: str) -> None:
    fan = draft.fold.fans[name]
    ending = fan.todo | fan.resting
    if ending:
        reason = _short(why, WHY_MAX)
        draft.emit(ItemsSettled(job=name, outcome="cancelled", count=ending.bit_count(), reason=reason))


def _end_items(draft: RunDraft, name: JobName, why: str) -> None:
    """Nothing of it begins any more, and what is under way is asked to end."""
    fold = draft.fold
    _settle_items(draft, name, why)
    if fold.fans[name].active == fold.fans[name].stopping:
        return
    under_way = [one for one in fold.live_jobs() if (of := item_of(one)) is not None and of[0] == name]
    for item in sorted(under_way, key=fold.plan.order):
        if not draft.room:
            draft.truncated = True
            return
        phase = fold.job(item).phase
        assert isinstance(phase, Queued | Claimed | Submitted | Doubted)
        if phase.stop is None or phase.stop.cause == "timeout":
            _request_stop(draft, item, phase, "cancel", _short(why, WHY_MAX))


def _join(draft: RunDraft) -> None:
    """In a run that is cancelled: end the jobs of which every item has ended."""
    fold = draft.fold
    while fold.has_unsettled():
        if not draft.room:
            draft.truncated = True
            return
        name = fold.next_unsettled()
        assert name is not None
        _decide_on_items(draft, name)


def _settle_all(draft: RunDraft, outcome: Outcome, reason: str) -> None:
    """End a run of which nothing may begin."""
    for name in draft.fold.plan.jobs:
        if not draft.room:
            draft.truncated = True
            return
        if isinstance(draft.fold.jobs[name].phase, Waiting | Wanting | Ready | Backoff):
            draft.emit(JobSettled(job=name, outcome=outcome, reason=_short(reason, WHY_MAX)))


def _go_on_cancelling(draft: RunDraft) -> None:
    fold = draft.fold
    assert fold.cancel is not None
    why = _short(f"the run was cancelled by {fold.cancel.by or 'nobody named'}", WHY_MAX)
    for name in fold.plan.jobs:
        if not draft.room:
            draft.truncated = True
            return
        phase = fold.jobs[name].phase
        match phase:
            case Waiting() | Wanting() | Ready() | Backoff() | Asking():
                draft.emit(JobSettled(job=name, outcome="cancelled", reason=why))
            case Queued() | Claimed() | Submitted() | Doubted():
                if phase.stop is None or phase.stop.cause == "timeout":
                    _request_stop(draft, name, phase, "cancel", why)
            case FannedOut():
                _end_items(draft, name, why)
                if draft.truncated:
                    return
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
    try:
        holds = template.evaluate(expression, _context(draft, name))
    except TemplateError as error:
        return "failed", f"`when` cannot be evaluated: {error}"
    return None if holds else ("skipped", f"`when` does not hold: {expression}")


def _context(draft: RunDraft, name: JobName) -> dict[str, Any]:
    fold = draft.fold
    assert fold.run is not None
    items, fans = fold.all_items()
    return context_of(fold.run.request, fold.run.requested_at, fold.all_jobs(), job=name, fans=fans, items=items)


def _first_upstream(draft: RunDraft, name: JobName, outcomes: frozenset[str]) -> str:
    for before in _document_job(draft, name).after:
        phase = draft.fold.jobs[JobName(before)].phase
        if isinstance(phase, Done) and phase.outcome in outcomes:
            return f"{before}: {phase.outcome}"
    return ""


# --- small things -----------------------------------------------------------------------------------------------------


def _document_job(draft: RunDraft, name: JobName) -> AnyJob:
    return draft.fold.plan.jobs[name]


def _job(draft: RunDraft, name: JobName) -> JobState:
    state = draft.fold.find(name)
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
    state = draft.fold.find(job)
    match state:
        case JobState(phase=Queued() | Claimed() | Submitted() | Doubted() as phase) if phase.attempt == attempt:
            return phase
        case _:
            return None


def _short(text: str, most: int = TEXT_MAX) -> str:
    # A target's reason may quote a file name that is no UTF-8; an event could not hold it.
    text = text if is_text(text) else text.encode(errors="replace").decode()
    return shortened(text, most)


def _bounded(texts: tuple[str, ...], bytes_max: int) -> tuple[str, ...]:
    """The first of the texts, and how many more there are."""
    kept: list[str] = []
    size = 0
    for text in map(without_secrets, texts):
        size += 2 * len(text.encode()) + 3
        if size > bytes_max:
            return (*kept, f"and {len(texts) - len(kept)} more")
        kept.append(text)
    return tuple(kept)
