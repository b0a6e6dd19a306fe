"""Starts, observes and stops attempts, and says what was learnt as commands to the run.

Dispatch is idempotent: every effect may arrive twice, late, or when it no longer makes sense; the run's state decides whether there
is anything to do, and the attempt's token makes the target do it once. What can be said for certain is reported; what cannot is
called doubt.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from shared.decide.commands import (
    AskAgain,
    PostponeStart,
    RecordClaim,
    RecordRefusal,
    RecordReport,
    RecordSilence,
    RecordStopSent,
    RecordUnheard,
    ReleaseClaim,
    RunCommand,
)
from shared.decide.run import PAYLOAD_BYTES_MAX
from shared.effects import ObserveAttempt, StartAttempt, StopAttempt, TellParent
from shared.errors import Rejected, TargetRefused, TargetSilent, TargetUnavailable, TemplateError
from shared.ids import Handle, JobName, RunId, attempt_token, run_stream
from shared.ports import Executor, Reference, Report
from shared.secrecy import secret_places
from shared.state.run import Claimed, Doubted, NotRequested, Open, Queued, Run, Submitted
from shared.usecases.children import ChildRuns
from shared.usecases.rendering import Renderer, outputs_of
from shared.usecases.transact import Transact
from shared.workflow.syntax import path_of

SEND_WITHIN = timedelta(seconds=60)
"""How long a claimer may take to send; longer than any single request to a target with the SDK's own retries off."""
SENDING = timedelta(seconds=30)
"""How much of it must be left when the claim is stored: no request takes longer, so none is on its way when others begin to look."""
RELEASE_RETRY_SECONDS = 30.0
FIRST_WITHIN_SECONDS = 30.0
"""A start that is carried out so soon after it was decided is the first, or the first's twin: a message is delivered anew only after minutes."""
LOOKS_WITHIN_SECONDS = 9 * 60.0
"""How long after a token's window a look still shows what was begun under it: targets keep what has ended for an hour (ECS), and the window ends
ten minutes before."""
STRAYS_WITHIN = timedelta(minutes=10)
"""How long after the last news of a run an execution that it does not want is told to end again and again."""
POSTPONE_SECONDS_MAX = 300.0
"""Between two requests under one token, while the target takes none."""

_UNDER_WAY = frozenset({"submitted", "running"})

Learnt = tuple[RunId, RunCommand]


class Dispatch:
    """Carries effects out. `executors` by job type; `claimer` names this process in claims."""

    def __init__(
        self,
        transact: Transact,
        executors: Mapping[str, Executor],
        *,
        now: Callable[[], datetime],
        claimer: str,
        restored: bool = False,
    ) -> None:
        """`restored`: after the history was restored to an earlier moment, when requests may have been sent that it does not tell of."""
        self._restored = restored
        self._transact = transact
        self._executors = executors
        self._children = ChildRuns(transact)
        self._render = Renderer()
        self._now = now
        self._claimer = claimer
        self._claiming = Lock()

    def start(self, effect: StartAttempt, *, redelivered: bool = False) -> list[Learnt]:
        """Ask the target for an attempt, unless somebody did or nobody wants it any more.

        `redelivered`: whoever had this message before may have asked, and died before he could say what became of it.
        """
        if redelivered:
            phase = _phase(self._run(effect.run), effect.job, effect.attempt)
            if isinstance(phase, Queued) and phase.untaken:
                return [(effect.run, RecordUnheard(effect.job, effect.attempt, RELEASE_RETRY_SECONDS))]
        return self._start(effect, looked_at=None)

    def _start(self, effect: StartAttempt, *, looked_at: datetime | None) -> list[Learnt]:
        """`looked_at`: when it was looked for everywhere and not found. A message that comes late or twice has not looked."""
        run = self._run(effect.run)
        phase = _phase(run, effect.job, effect.attempt)
        if run is None or phase is None or phase.stop is not None or not run.plan.has(effect.job):
            return []
        if isinstance(phase, Queued) and phase.not_before is not None and phase.not_before > self._now():
            return []
        executor = self._executor(run.plan.jobs[effect.job].type)
        if not _may_start(phase, executor, looked=looked_at is not None):
            return []
        window = executor.token_seconds
        if window is not None and self._now() - phase.queued_at > timedelta(seconds=window):
            return self._after_the_window(run, effect, phase, executor)
        try:
            request = self._render(run, effect.job, effect.attempt)
        except TemplateError as error:
            return [(run.run, RecordRefusal(effect.job, effect.attempt, "refused", str(error)))]
        if window is not None and isinstance(phase, Queued) and phase.untaken:
            if not self._may_ask_again(run, effect):
                return []
            if self._now() - phase.queued_at > timedelta(seconds=window):
                # To say so took so long that the target may have forgotten the token.
                return self._after_the_window(run, effect, phase, executor)
        if told := _secret_told(request.body):
            return [(run.run, RecordRefusal(effect.job, effect.attempt, "refused", told))]
        if not executor.takes_token:
            if told := _too_large(request.body):
                return [(run.run, RecordRefusal(effect.job, effect.attempt, "refused", told))]
            claimed = self._claim(run, effect, dict(request.body), looked_at)
            if claimed is None:
                return []
            if claimed - self._now() < SENDING:
                # The claim took so long to be stored that its request could be sent after others looked for it.
                late = ReleaseClaim(
                    effect.job, effect.attempt, self._claimer, "the claim was stored too late to be sent", 0.0
                )
                return [(run.run, late)]
            request = replace(request, send_before=claimed)
        try:
            handle = executor.start(request)
        except TargetRefused as error:
            return self._refused(run, effect, phase, executor, str(error))
        except TargetUnavailable as error:
            return [(run.run, self._not_taken(effect, phase, executor, error))]
        except TargetSilent as error:
            # With a token the same request is simply sent again, by the sweep; without one nobody can know.
            if executor.takes_token:
                return [(run.run, RecordUnheard(effect.job, effect.attempt, RELEASE_RETRY_SECONDS))]
            return [(run.run, RecordSilence(effect.job, effect.attempt, str(error), self._claimer))]
        if executor is self._children:
            # How it is can be told at once: it may run already, or be nobody's to wait for.
            return self.tell_parent(TellParent(run.run, effect.job, effect.attempt, RunId(handle)))
        return [(run.run, self._accepted(effect, executor, handle))]

    def _after_the_window(self, run: Run, effect: StartAttempt, phase: Open, executor: Executor) -> list[Learnt]:
        """The target may have forgotten the token, so that the same request could start the work again: look, never send."""
        found = [self.report(one) for one in executor.observe([self._reference(run, effect.job, phase)])]
        silent = "asked for long ago without an answer, and the target may not remember the token any more"
        if isinstance(phase, Queued) and phase.untaken and not self._restored:
            refusal = RecordRefusal(effect.job, effect.attempt, "capacity", f"asked for in vain: {phase.reason}")
            return [
                (run_id, refusal if isinstance(report, RecordReport) and report.status == "missing" else report)
                for run_id, report in found
            ]
        return [
            (run.run, RecordSilence(effect.job, effect.attempt, silent))
            if isinstance(report, RecordReport) and report.status == "missing"
            else (run_id, report)
            for run_id, report in found
        ]

    def stop(self, effect: StopAttempt) -> list[Learnt]:
        """Ask the target to end an attempt; a target that knows nothing of it says so."""
        run = self._run(effect.run)
        if run is None or not run.plan.has(effect.job):
            return []
        job = run.plan.jobs[effect.job]
        executor = self._executor(job.type)
        if effect.handle is not None:
            stray = Reference(
                attempt_token(run.run, effect.job, effect.attempt), run.run, effect.job, effect.attempt, effect.handle
            )
            if not _stop(executor, stray, job.stop_grace_seconds) and self._now() - run.at < STRAYS_WITHIN:
                # Right after its start a target may not know it yet, and of a run that has ended no sweep would ask again.
                raise TargetUnavailable(f"{effect.handle} could not be told to end")
            return []
        phase = _phase(run, effect.job, effect.attempt)
        if phase is None or phase.stop is None:
            return []
        reference = self._reference(run, effect.job, phase)
        looked_at = self._now()
        learnt: list[Learnt] = []
        if isinstance(phase, Submitted) and phase.stop.sent_at is None:
            if _stop(executor, reference, job.stop_grace_seconds):
                return [(run.run, RecordStopSent(effect.job, effect.attempt))]
            # Where no stop is taken, the host may be gone, and what ran on it with it.
            reports = [
                one for one in executor.observe([reference]) if not one.cut_short and one.status not in _UNDER_WAY
            ]
            return [self.report(one, looked_at) for one in reports]
        # It may not have begun, or it has ended and nobody told us: what the target says decides whether there is anything
        # to stop. An attempt that is being stopped is not polled otherwise.
        for report in executor.observe([reference]):
            if report.cut_short:
                if not _may_still_be_sent(phase, self._now()):
                    learnt.append(self.report(report))
            elif report.status not in _UNDER_WAY:
                return [self.report(report, looked_at)]
            elif not isinstance(phase, Submitted):
                learnt.append(self.report(report))
        if _stop(executor, reference, job.stop_grace_seconds):
            learnt.append((run.run, RecordStopSent(effect.job, effect.attempt)))
        return learnt

    def observe(self, effects: Sequence[ObserveAttempt]) -> list[Learnt]:
        """Ask the targets how these attempts are doing; one call for each kind of target."""
        by_kind: dict[str, list[Reference]] = {}
        for effect in effects:
            run = self._run(effect.run)
            phase = _phase(run, effect.job, effect.attempt)
            if run is not None and phase is not None:
                by_kind.setdefault(run.plan.jobs[effect.job].type, []).append(self._reference(run, effect.job, phase))
        learnt: list[Learnt] = []
        for kind, references in by_kind.items():
            looked_at = self._now()
            reports = self._executor(kind).observe(references)
            for report in reports:
                phase = _phase(self._run(report.run), report.job, report.attempt)
                if not (report.cut_short and _may_still_be_sent(phase, self._now())):
                    learnt.append(self.report(report, looked_at))
            learnt.extend(self._ask_again([report for report in reports if report.status == "missing"], looked_at))
        return learnt

    def tell_parent(self, effect: TellParent) -> list[Learnt]:
        """What is to be said of a child to the run that it was started for, even if that has given it up."""
        token = attempt_token(effect.run, effect.job, effect.attempt)
        reference = Reference(token, effect.run, effect.job, effect.attempt, Handle(effect.child))
        return [self.report(one) for one in self._children.observe([reference])]

    def _executor(self, kind: str) -> Executor:
        """A job of type `workflow` is a run of this very engine, wherever that is."""
        return self._children if kind == "workflow" else self._executors[kind]

    def report(self, report: Report, looked_at: datetime | None = None) -> Learnt:
        """A target's own words as a command. What was looked for and not everywhere tells nothing, so that it ends nothing.

        `looked_at`: when the look began that it answers; None: the target told by itself, or just now.
        """
        if report.cut_short:
            return (report.run, RecordSilence(report.job, report.attempt, report.reason, claimer=""))
        return (report.run, _command(report, looked_at))

    def reference(self, run_id: RunId, job: JobName, attempt: int) -> Reference | None:
        """How to ask about an attempt that is under way; None if it is not."""
        run = self._run(run_id)
        phase = _phase(run, job, attempt)
        return None if run is None or phase is None else self._reference(run, job, phase)

    def _ask_again(self, missing: Sequence[Report], looked_at: datetime) -> list[Learnt]:
        """Doubts whose work was looked for everywhere and not found, far enough from where they began, may be asked for again.

        What was found just now, or could not be looked for, is as much in doubt in the state as what was not found: only the reports
        tell them apart.
        """
        learnt: list[Learnt] = []
        for report in missing:
            run = self._run(report.run)
            phase = _phase(run, report.job, report.attempt)
            if run is None or not isinstance(phase, Doubted) or phase.handle is not None or phase.policy == "ask":
                continue
            executor = self._executor(run.plan.jobs[report.job].type)
            window = executor.token_seconds
            if not executor.takes_token or window is None:
                learnt.extend(self._start(StartAttempt(report.run, report.job, report.attempt), looked_at=looked_at))
            elif looked_at - phase.queued_at <= timedelta(seconds=window + LOOKS_WITHIN_SECONDS):
                # Another attempt has another token, which the target surely does not confuse with one that it may have forgotten.
                nothing = f"asked for in vain for {window / 60:.0f} minutes; two looks found nothing"
                refusal = RecordRefusal(report.job, report.attempt, "capacity", nothing, looked_at)
                learnt.append((report.run, refusal))
        return learnt

    def _reference(self, run: Run, job: JobName, phase: Open) -> Reference:
        handle = phase.handle if isinstance(phase, Submitted | Doubted) else None
        token = attempt_token(run.run, job, phase.attempt)
        outputs = outputs_of(run.plan.jobs[job])
        if handle is not None:
            return Reference(token, run.run, job, phase.attempt, handle, outputs)
        body, asked_from, asked_until = None, phase.queued_at, None
        match phase:
            case Claimed():
                body, asked_from = phase.request, phase.asked_from or phase.claimed_at
                asked_until = phase.send_before
            case Doubted() if phase.request is not None:
                body, asked_from = phase.request, phase.asked_from or phase.queued_at
                asked_until = phase.since
            case _:
                # Nobody claims what a token guards: the same state gives the same request.
                with suppress(TemplateError):
                    body = self._render(run, job, phase.attempt).body
        return Reference(token, run.run, job, phase.attempt, None, outputs, body, asked_from, asked_until)

    def _claim(
        self, run: Run, effect: StartAttempt, request: dict[str, object], looked_at: datetime | None
    ) -> datetime | None:
        """Until when this process alone may send; None when it may not."""
        send_before = self._now() + SEND_WITHIN
        claim = RecordClaim(effect.job, effect.attempt, self._claimer, request, send_before, looked_at)
        return send_before if self._says_before(run, effect, claim) else None

    def _may_ask_again(self, run: Run, effect: StartAttempt) -> bool:
        """Whether this process alone asks now, and it is written down that it does."""
        again = AskAgain(effect.job, effect.attempt, self._claimer, SENDING.total_seconds())
        return self._says_before(run, effect, again)

    def _says_before(self, run: Run, effect: StartAttempt, command: RecordClaim | AskAgain) -> bool:
        """Store that this process is about to ask. False: another was faster, or it is no longer wanted."""
        try:
            # Starts go on side by side, and those of one run would be in each other's way.
            with self._claiming:
                self._transact(
                    run_stream(run.run), command, by="dispatch", cause=f"start:{effect.job}:{effect.attempt}"
                )
        except Rejected:
            return False
        return True

    def _not_taken(self, effect: StartAttempt, phase: Open, executor: Executor, error: TargetUnavailable) -> RunCommand:
        reason = str(error)
        if not executor.takes_token:
            return ReleaseClaim(effect.job, effect.attempt, self._claimer, reason, RELEASE_RETRY_SECONDS)
        if executor.runs_at_once:
            return RecordRefusal(effect.job, effect.attempt, "capacity", reason)
        # It did not take this request. What became of one before it, or beside it, of which nobody heard, only the same token can tell.
        waited = (self._now() - phase.queued_at).total_seconds()
        delay = min(max(waited / 2, RELEASE_RETRY_SECONDS), POSTPONE_SECONDS_MAX)
        first = waited < FIRST_WITHIN_SECONDS
        return PostponeStart(effect.job, effect.attempt, reason, delay, first=first, claimer=self._claimer)

    def _refused(self, run: Run, effect: StartAttempt, phase: Open, executor: Executor, reason: str) -> list[Learnt]:
        """The target will never take the request. With a token, an earlier one may have been taken all the same: look before giving up."""
        refusal: RunCommand = RecordRefusal(effect.job, effect.attempt, "refused", reason)
        if not executor.takes_token or executor.runs_at_once:
            return [(run.run, refusal)]
        reports = executor.observe([self._reference(run, effect.job, phase)])
        if not reports or reports[0].cut_short:
            refusal = PostponeStart(
                effect.job, effect.attempt, reason, RELEASE_RETRY_SECONDS, first=False, claimer=self._claimer
            )
        elif reports[0].status != "missing":
            return [self.report(reports[0])]
        return [(run.run, refusal)]

    def _accepted(self, effect: StartAttempt, executor: Executor, handle: Handle) -> RunCommand:
        if executor.runs_at_once:
            return RecordReport(effect.job, effect.attempt, "running", handle=handle, started_at=self._now())
        return RecordReport(effect.job, effect.attempt, "submitted", handle=handle)

    def _run(self, run: RunId) -> Run | None:
        stream = run_stream(run)
        loaded = self._transact.kept(stream) or self._transact.current(stream)
        state = loaded.state
        assert isinstance(state, Run | NotRequested)
        return state if isinstance(state, Run) else None


def _secret_told(body: Mapping[str, Any]) -> str:
    """Where what is asked for would hold a secret; empty when it does not. It would be recorded with the claim (I13), and a job that
    one kind of target takes must not be refused by the next."""
    for place, what in secret_places({key: value for key, value in body.items() if key != "secrets"}):
        return (
            f"{path_of(place) or 'the request'} would hold what looks like {what}: name it by reference, in `secrets`"
        )
    return ""


def _too_large(body: Mapping[str, Any]) -> str:
    """Why no claim can hold what is asked for (fault 47); empty when it can. Without this the message would fail for ever."""
    size = len(json.dumps(body, ensure_ascii=False, default=str).encode())
    if size <= PAYLOAD_BYTES_MAX:
        return ""
    return (
        f"what is asked for takes {size:,} bytes, and at most {PAYLOAD_BYTES_MAX:,} are recorded before it is sent: put long texts into "
        "files, and pass their names"
    )


def _may_start(phase: Open, executor: Executor, *, looked: bool) -> bool:
    match phase:
        case Queued():
            return True
        case Submitted():
            # Where the work is a process beside us, "it never began" is certain, and then it may begin: the token sees to it
            # that it does so once.
            return executor.runs_at_once and executor.takes_token
        case Doubted():
            # What was asked for may be there by now.
            return looked and not executor.takes_token
        case Claimed():
            return False


def _may_still_be_sent(phase: Open | None, now: datetime) -> bool:
    return isinstance(phase, Claimed) and now < phase.send_before


def _stop(executor: Executor, reference: Reference, grace_seconds: float) -> bool:
    """Whether the target accepted the stop; if not, the sweep asks again."""
    try:
        executor.stop(reference, grace_seconds=grace_seconds)
    except (TargetUnavailable, TargetSilent, TargetRefused):
        return False
    return True


def _phase(run: Run | None, job: JobName, attempt: int) -> Open | None:
    if run is None:
        return None
    state = run.find(job)
    match state.phase if state is not None else None:
        case Queued() | Claimed() | Submitted() | Doubted() as phase if phase.attempt == attempt:
            return phase
        case _:
            return None


def _command(report: Report, looked_at: datetime | None) -> RecordReport:
    return RecordReport(
        job=report.job,
        attempt=report.attempt,
        status=report.status,
        handle=report.handle,
        exit_code=report.exit_code,
        failure=report.failure,
        reason=report.reason,
        started_at=report.started_at,
        ended_at=report.ended_at,
        outputs=report.outputs,
        files=report.files,
        looked_at=looked_at if report.status == "missing" else None,
    )
