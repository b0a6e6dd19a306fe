"""The stream of one run as a model's transition function: our own `decide` and `fold`, on a clock of a few instants.

A state stands for all that the rules cannot tell apart. Every moment in it is kept as a number of ticks from now, `now` is always
`NOON`, and time passes by moving all moments back. Moments further back than every short bound of the rules are one moment (`PAST`), and so
are those further back than every long one (`LONG_AGO`) and those ahead of every short one (`FAR`). What no rule reads is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.decide.commands import (
    Advance,
    MarkJob,
    RecordReport,
    RequestRun,
    RunCommand,
)
from shared.decide.run import RunDraft, decide_on
from shared.effects import Effect, due_of_run, pending_of_run
from shared.errors import Rejected
from shared.events import RunRequested
from shared.ids import Digest, JobName, RunId, WorkflowName
from shared.state.run import Attempt, Backoff, Claimed, Done, Doubted, JobState, Queued, Run, Submitted, Waiting
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan, compile_plan

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TICK = timedelta(seconds=30)
"""`SENDING`, and half of the other short bounds (to send within, between two looks, to hand over again)."""
LONG = 22
"""Ticks of a long wait: past ten minutes and a grace period, the long bounds."""
PAST, LONG_AGO, FAR = -3, -LONG, 21
JOB = JobName("load")


def snapped(ticks: int) -> int:
    """The moment that stands for all that the rules cannot tell from this one."""
    if ticks > 3:
        return FAR
    if ticks > PAST:
        return ticks
    return PAST if ticks > 3 - LONG else LONG_AGO


def moment(ticks: int) -> datetime:
    return NOON + ticks * TICK


def _moved(at: datetime, by: int) -> datetime:
    return moment(snapped(round((at - NOON) / TICK) - by))


_GONE = moment(LONG_AGO)


@dataclass(frozen=True)
class Committed:
    """What became of commands: the state after them, and which of them were rejected, by position."""

    state: int
    rejected: frozenset[int]
    events: tuple[str, ...]
    wrong: str


class RunStream:
    """States are numbers; `run` gives what they stand for. Everything is computed once."""

    def __init__(self, job: dict[str, Any]) -> None:
        workflow = Workflow.model_validate({"name": "nightly", "jobs": [{"name": JOB, **job}]})
        self.plan: Plan = compile_plan(workflow, Digest("d" * 64))
        self._states: list[Run] = []
        self._numbers: dict[object, int] = {}
        self._decided: dict[tuple[int, object], Committed] = {}
        self._later: dict[tuple[int, int], int] = {}
        self._pending: dict[int, tuple[Effect, ...]] = {}
        self._seen: dict[int, int] = {}
        request = RunRequested(
            run=RunId("nightly@1"),
            workflow=WorkflowName("nightly"),
            document=self.plan.digest,
            document_version=1,
        )
        draft = RunDraft(_nothing(), self._plans, NOON)
        decide_on(draft, RequestRun(request))
        asked = draft.freeze()
        assert isinstance(asked, Run)
        self.first = self._number(asked, 0)

    def __len__(self) -> int:
        return len(self._states)

    def run(self, state: int) -> Run:
        return self._states[state]

    def job(self, state: int) -> JobState:
        return self._states[state].jobs[JOB]

    def later(self, state: int, ticks: int) -> int:
        """The state when that much time has passed."""
        known = self._later.get((state, ticks))
        if known is None:
            known = self._later[state, ticks] = self._number(self._states[state], ticks)
        return known

    def seen(self, state: int) -> int:
        """What a dispatcher reads of the state: without the moments it does not look at, and without what ended."""
        known = self._seen.get(state)
        if known is None:
            run = self._states[state]
            job = run.jobs[JOB]
            phase: Any = job.phase
            stop = getattr(phase, "stop", None)
            if stop is not None:
                sent_at = _GONE if stop.sent_at is not None else None
                stop = replace(stop, requested_at=_GONE, flag_at=_GONE, sent_at=sent_at, flagged_at=None)
            match phase:
                case Queued() if self.plan.jobs[JOB].type != "ecs":
                    phase = replace(phase, stop=stop, queued_at=_GONE)
                case Queued() | Claimed():
                    phase = replace(phase, stop=stop)
                case Submitted():
                    phase = replace(phase, stop=stop, submitted_at=_GONE, started_at=None)
                case Doubted():
                    phase = replace(phase, stop=stop, since=_GONE, resolve_at=None, started_at=None)
                case _:
                    pass
            shown = replace(run, jobs=run.jobs.set(JOB, JobState(phase)), cancel=None, flagged=0, stopping=0)
            known = self._seen[state] = self._number(shown, 0)
        return known

    def pending(self, state: int) -> tuple[Effect, ...]:
        """What a sweep hands over now."""
        known = self._pending.get(state)
        if known is None:
            known = self._pending[state] = tuple(pending_of_run(self._states[state], NOON))
        return known

    def commit(self, state: int, commands: Sequence[RunCommand], key: object) -> Committed:
        """Decide on the commands as `Transact` does with a batch, and fold. `key` stands for the commands."""
        known = self._decided.get((state, key))
        if known is None:
            known = self._decided[state, key] = self._commit(state, commands)
        return known

    def _commit(self, state: int, commands: Sequence[RunCommand]) -> Committed:
        before = self._states[state]
        rejected: set[int] = set()
        while True:
            draft = RunDraft(before, self._plans, NOON)
            for position, command in enumerate(commands):
                if position in rejected:
                    continue
                try:
                    decide_on(draft, command)
                except Rejected:
                    rejected.add(position)
                    break
            else:
                break
        names = tuple(event.type for event in draft.events)
        if not names:
            return Committed(state, frozenset(rejected), (), "")
        after = draft.freeze()
        assert isinstance(after, Run)
        took = [command for position, command in enumerate(commands) if position not in rejected]
        wrong = _final_stays_final(before, after, took) or _doubt_left_for_a_reason(before, after, took)
        return Committed(self._number(after, 0), frozenset(rejected), names, wrong)

    def late_due(self, state: int) -> str:
        """Whether something would have to be done before anybody looks: the due row must not be later than any need."""
        run = self._states[state]
        if run.finished:
            return ""
        due = due_of_run(run, NOON)
        if due is None:
            return "a live run has no due time"
        handed_over = set(pending_of_run(run, NOON, since=NOON))
        at = NOON
        while (at := at + TICK / 2) < min(due, moment(2 * LONG)):
            needed = set(pending_of_run(run, at, since=NOON)) - handed_over
            if needed:
                return f"{sorted(map(str, needed))} are needed {at - NOON} from now, and the run is due {due - NOON} from now"
        return ""

    def _plans(self, digest: Digest) -> Plan:
        return self.plan

    def _number(self, run: Run, ticks: int) -> int:
        state = _normal(run.jobs[JOB], ticks)
        key = (state, run.outcome, run.cancel is not None, run.flagged, run.doubted, run.stopping, run.active)
        known = self._numbers.get(_hashable(key))
        if known is None:
            known = self._numbers[_hashable(key)] = len(self._states)
            cancel = replace(run.cancel, at=_GONE, by="", reason="") if run.cancel is not None else None
            self._states.append(
                replace(
                    run,
                    jobs=run.jobs.set(JOB, state),
                    at=_GONE,
                    requested_at=_GONE,
                    started_at=_GONE if run.started_at else None,
                    finished_at=_GONE if run.finished_at else None,
                    cancel=cancel,
                )
            )
        return known


def _nothing() -> Any:
    from shared.state.run import NotRequested

    return NotRequested()


def _normal(state: JobState, ticks: int) -> JobState:
    """The job's state that much later, without what no rule reads."""
    phase: Any = state.phase
    stop = getattr(phase, "stop", None)
    if stop is not None:
        stop = replace(
            stop,
            reason="",
            requested_at=_moved(stop.requested_at, ticks),
            flag_at=_moved(stop.flag_at, ticks) if stop.flagged_at is None else _GONE,
            sent_at=_moved(stop.sent_at, ticks) if stop.sent_at else None,
            flagged_at=_GONE if stop.flagged_at else None,
        )
        # Handing over again counts from when it was sent.
        if stop.sent_at is not None:
            stop = replace(stop, requested_at=_GONE)
    match phase:
        case Waiting():
            phase = replace(phase, since=_GONE)
        case Queued():
            # When it is asked for again is known from then on; only a token's window still counts from the beginning.
            not_before = _moved(phase.not_before, ticks) if phase.not_before else None
            phase = replace(
                phase,
                queued_at=_moved(phase.queued_at, ticks),
                stop=stop,
                not_before=not_before,
                reason="",
                ready_at=None,
            )
        case Claimed():
            phase = replace(
                phase,
                queued_at=_GONE,
                stop=stop,
                claimed_at=_GONE,
                request={},
                send_before=_moved(phase.send_before, ticks),
                ready_at=None,
                asked_from=None,
            )
        case Submitted():
            phase = replace(
                phase,
                queued_at=_GONE,
                stop=stop,
                submitted_at=_moved(phase.submitted_at, ticks),
                started_at=_GONE if phase.started_at else None,
            )
        case Doubted():
            phase = replace(
                phase,
                queued_at=_GONE,
                stop=stop,
                since=_moved(phase.since, ticks),
                reason="",
                resolve_at=_moved(phase.resolve_at, ticks) if phase.resolve_at else None,
                submitted_at=_GONE if phase.submitted_at else None,
                started_at=_GONE if phase.started_at else None,
                request={},
                asked_from=None,
            )
        case Backoff():
            phase = replace(phase, since=_GONE, retry_at=_moved(phase.retry_at, ticks), reason="")
        case Done():
            phase = replace(phase, at=_GONE, reason="")
        case _:
            pass
    return replace(state, phase=phase, attempts=tuple(map(_ended, state.attempts)), outputs=None, files=None)


def _ended(attempt: Attempt) -> Attempt:
    return replace(
        attempt,
        queued_at=_GONE,
        recorded_at=_GONE,
        submitted_at=_GONE if attempt.submitted_at else None,
        started_at=None,
        ended_at=None,
        reason="",
    )


def _hashable(value: object) -> object:
    """A key for states: records that hold mappings cannot be hashed as they are."""
    if isinstance(value, tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple(sorted((key, _hashable(one)) for key, one in value.items()))
    slots = getattr(type(value), "__slots__", None)
    if slots and not isinstance(value, datetime):
        return (type(value).__name__, *(_hashable(getattr(value, name)) for name in slots))
    return value


# --- what must hold for every commit, said without the rules ------------------------------------------------------------


def _final_stays_final(before: Run, after: Run, commands: Sequence[RunCommand]) -> str:
    """I3."""
    old, new = before.jobs[JOB], after.jobs[JOB]
    if [one.status for one in new.attempts[: len(old.attempts)]] != [one.status for one in old.attempts]:
        return "an attempt that had ended ended anew"
    if before.outcome is not None and after.outcome != before.outcome:
        return "a run that had finished finished anew"
    marked = any(isinstance(command, MarkJob) for command in commands)
    if isinstance(old.phase, Done) and new.phase != old.phase and not marked:
        return "a job that had ended ended anew"
    return ""


def _doubt_left_for_a_reason(before: Run, after: Run, commands: Sequence[RunCommand]) -> str:
    """I2."""
    old, new = before.jobs[JOB].phase, after.jobs[JOB].phase
    if not isinstance(old, Doubted) or isinstance(new, Doubted):
        return ""
    for command in commands:
        match command:
            case RecordReport(status="missing"):
                if old.stop is not None and old.since <= (command.looked_at or NOON) - 2 * TICK:
                    return ""
            case RecordReport() | MarkJob():
                return ""
            case Advance() if old.policy == "assume_lost" and old.resolve_at is not None and old.resolve_at <= NOON:
                return ""
            case _:
                # Looked for twice, apart enough, and not found: asked for again, or given up for another attempt.
                looked_at = getattr(command, "looked_at", None)
                if old.handle is None and looked_at is not None and old.since <= looked_at - 2 * TICK:
                    return ""
    return f"doubt was left because of {[type(command).__name__ for command in commands]}"
