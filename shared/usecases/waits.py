"""Keeps runs that wait in step with what they wait for: looks at it, and wakes them when it ends.

Whoever waits is listed *before* the look, so an end before the look is seen by it, and one after it finds the list. Should the
wake-up be lost, the due row of the waiting run leads to the next look.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared import schedule
from shared.codec import events_in
from shared.decide.commands import Finding, RecordLook
from shared.effects import LookAtWaits
from shared.errors import CorruptStream, TargetRefused, TargetUnavailable, UnknownEvents
from shared.events import HeldRunDropped, InstantSkipped, InstantsMissed, RunReleased
from shared.ids import (
    JobName,
    RunId,
    StreamName,
    WorkflowName,
    instant_text,
    run_stream,
    scheduled_instant,
    scheduled_run,
    workflow_of,
    workflow_stream,
)
from shared.ports import PAGE_MAX, Effects, Files, Waiter, Waiters
from shared.state.run import Done, Run
from shared.state.waits import Wait, open_waits, waits_of
from shared.state.workflow import WorkflowState
from shared.usecases.loading import Loaded
from shared.usecases.transact import Transact
from shared.workflow.timing import Schedule
from shared.workflow.waiting import WaitFor

WITHIN_MAX = 10
"""Newest instants of a window whose runs are looked at for a success."""
NOBODY_MAX = 10_000
"""Workflows of which a process remembers that nobody waited for them."""
HISTORY_MAX = 1_000
"""Newest commits of a workflow in which the reason is looked for why an instant did not become a run."""
_SECOND = timedelta(seconds=1)
_BEGINNING = datetime.fromisoformat("1970-01-02T00:00:00+00:00")


class Wake:
    """When a stream has moved, has those look again who wait for it."""

    def __init__(
        self, waiters: Waiters, effects: Effects, *, now: Callable[[], datetime], believed: timedelta = timedelta(0)
    ) -> None:
        """`believed`: for so long it need not be asked again whether anybody waits for a workflow, where nobody did, except when a run of it
        ends. Where each look costs, most workflows have nobody who waits."""
        self._waiters = waiters
        self._effects = effects
        self._now = now
        self._believed = believed
        self._nobody: dict[WorkflowName, datetime] = {}

    def __call__(self, loaded: Loaded) -> None:
        match loaded.state:
            case Run(finished=True) as run:
                name = workflow_of(run.run)
                found = self._of(name, surely=True)
                if len(found) == PAGE_MAX:
                    # Those for other instants may have left no room for these.
                    found = [one for awaited in (run.run, name) for one in self._waiters.of(name, awaited=awaited)]
                waiters = [one for one in found if one.awaited in (run.run, name)]
            case Run() as run if run.tally:
                waiters = [
                    one
                    for one in self._of(workflow_of(run.run), surely=False)
                    if one.awaited == run.run and one.job and _has_ended(run, JobName(one.job))
                ]
            case WorkflowState() as workflow:
                waiters = [one for one in self._of(workflow.name, surely=False) if _may_be_decided(workflow, one)]
            case _:
                return
        if waiters:
            self._effects.send([LookAtWaits(run) for run in dict.fromkeys(one.run for one in waiters)])

    def is_awaited(self, workflow: WorkflowName) -> bool:
        """Whether somebody waits for a job of one of its runs."""
        return any(one.job for one in self._of(workflow, surely=False))

    def _of(self, workflow: WorkflowName, *, surely: bool) -> list[Waiter]:
        now = self._now()
        asked_at = self._nobody.get(workflow)
        if not surely and asked_at is not None and now - asked_at < self._believed:
            return []
        found = self._waiters.of(workflow, limit=PAGE_MAX)
        self._nobody.pop(workflow, None)
        if not found and self._believed:
            self._nobody[workflow] = now
            if len(self._nobody) > NOBODY_MAX:
                self._nobody.pop(next(iter(self._nobody)))
        return found


def _has_ended(run: Run, job: JobName) -> bool:
    return job not in run.jobs or isinstance(run.jobs[job].phase, Done)


def _may_be_decided(workflow: WorkflowState, waiter: Waiter) -> bool:
    """Whether the workflow's own state may end the wait; the end of a run that it knows of is told by the run."""
    instant = scheduled_instant(RunId(waiter.awaited))
    if instant is None or workflow.live is None:
        return True
    dealt_with = workflow.watermark is not None and instant <= workflow.watermark
    return dealt_with and not workflow.knows(RunId(waiter.awaited))


class Waits:
    """Looks at what runs wait for."""

    def __init__(self, transact: Transact, waiters: Waiters, files: Files, *, now: Callable[[], datetime]) -> None:
        self._transact = transact
        self._waiters = waiters
        self._files = files
        self._now = now

    def __call__(self, effect: LookAtWaits) -> StreamName:
        """Look at everything that the run waits for, and record what was found. The run's stream."""
        stream = run_stream(effect.run)
        run = self._transact.current(stream).state
        waits = open_waits(run) if isinstance(run, Run) else []
        if not waits:
            return stream
        assert isinstance(run, Run)
        looked_at = self._now()
        listed: dict[tuple[JobName, int], Waiter] = {}
        findings: list[Finding] = []
        for name, number, wait in waits:
            waiter, fact = self._look(run, waits_of(run.plan, name)[number], wait)
            if waiter is not None:
                listed[name, number] = waiter
            if fact is not None:
                told = (fact.there, fact.run, fact.version, fact.outcome, fact.reason)
                findings.append(Finding(name, number, *told, since=wait.since))
        if findings or any(wait.deadline_at is not None and wait.deadline_at <= looked_at for _, _, wait in waits):
            command = RecordLook(tuple(findings), looked_at)
            after = self._transact(stream, command, by="waits", cause="look").loaded.state
            left = {(name, number) for name, number, _ in open_waits(after)} if isinstance(after, Run) else set()
            for place, waiter in listed.items():
                if place not in left:
                    self._waiters.remove(waiter)
        return stream

    def _look(self, run: Run, document: WaitFor, wait: Wait) -> "tuple[Waiter | None, _Fact | None]":
        """Who was listed as waiting, and what can be said for certain."""
        if document.file is not None:
            return None, self._file(wait.awaited)
        waiter: Waiter | None = None
        try:
            awaited = self._awaited(run, document, wait)
            if not awaited:
                return None, _Fact(there=False, reason=f"{wait.awaited} has no instant so much earlier")
            waiter = Waiter(awaited, document.job or "", run.run)
            self._waiters.add(waiter)
            if document.latest_within_minutes is not None:
                return waiter, self._latest(run, document.latest_within_minutes, WorkflowName(awaited))
            return waiter, self._of_run(RunId(awaited), JobName(document.job or ""))
        except (CorruptStream, UnknownEvents):
            # Nobody can say how it is; a person, or a newer release, will. The deadline counts all the same.
            return waiter, None

    def _awaited(self, run: Run, document: WaitFor, wait: Wait) -> str:
        """By name, also where the name is not known before: so many instants back, by the schedule that the other workflow has now."""
        if not document.lag_instants or "@" in wait.awaited:
            return wait.awaited
        state, at = self._workflow(WorkflowName(wait.awaited)), run.request.scheduled_at
        rule = self._schedule_of(state)
        if state is None or rule is None or at is None:
            return ""
        before = schedule.latest(rule, _BEGINNING, at - _SECOND, document.lag_instants)
        return scheduled_run(state.name, before[0].at) if len(before) == document.lag_instants else ""

    def _of_run(self, awaited: RunId, job: JobName) -> "_Fact | None":
        there, fact = self._as_it_is(awaited, job)
        if there:
            return fact
        never = self._never(awaited)
        if never is None:
            return None
        # It may have begun, and even ended, between the two looks; what the workflow had dealt with is a run by now, or never.
        there, fact = self._as_it_is(awaited, job)
        return fact if there else never

    def _as_it_is(self, awaited: RunId, job: JobName) -> "tuple[bool, _Fact | None]":
        """Whether there is such a run, and how it ended if it did."""
        loaded = self._transact.current(run_stream(awaited))
        run = loaded.state
        if not isinstance(run, Run):
            return False, None
        if not job:
            if run.outcome is None:
                return True, None
            ended = f"{awaited} {'was ' if run.outcome == 'cancelled' else ''}{run.outcome}"
            return True, _Fact(there=True, run=awaited, version=loaded.version, outcome=run.outcome, reason=ended)
        if job not in run.jobs:
            return True, _Fact(there=False, run=awaited, version=loaded.version, reason=f"{awaited} has no job {job}")
        phase = run.jobs[job].phase
        if not isinstance(phase, Done):
            return True, None
        ended = f"{job} of {awaited} ended as {phase.outcome}"
        return True, _Fact(there=True, run=awaited, version=loaded.version, outcome=phase.outcome, reason=ended)

    def _never(self, awaited: RunId) -> "_Fact | None":
        """Why a run that is not there will never be; None while it may come."""
        name, instant = workflow_of(awaited), scheduled_instant(awaited)
        state = self._workflow(name)
        if state is None or instant is None:
            return _Fact(there=False, run=awaited, reason=f"there is no workflow {name}")
        if state.knows(awaited):
            return None
        if state.watermark is not None and instant <= state.watermark:
            return self._dealt_with(state, awaited, instant)
        if state.live is None:
            reason = f"{name} was unregistered at {instant_text(state.changed_at)}"
            return _Fact(there=False, run=awaited, reason=reason)
        rule = self._schedule_of(state)
        if rule is None or not schedule.due(rule, instant - _SECOND, instant, limit=1):
            return _Fact(there=False, run=awaited, reason=f"{name} is not scheduled at {instant_text(instant)}")
        return None

    def _dealt_with(self, state: WorkflowState, awaited: RunId, instant: datetime) -> "_Fact":
        """What became of an instant that is no run."""
        stream = workflow_stream(state.name)
        first = state.versions[0].registered_at
        reason = "it was not scheduled then, or its run was removed"
        if instant <= first:
            reason = f"{state.name} was not registered before {instant_text(first)}"
        newest = self._transact.current(stream).version
        for record in self._transact.loader.records(stream, after=max(newest - HISTORY_MAX, 0)):
            for event in events_in(record.body):
                match event:
                    case InstantSkipped(scheduled_at=at) if at == instant:
                        reason = f"it was skipped: {event.reason}"
                    case InstantsMissed(first_at=since, last_at=until) if since <= instant <= until:
                        reason = f"it was missed: {event.reason}"
                    case HeldRunDropped(run=run) if run == awaited:
                        reason = f"it was dropped before it was let in: {event.reason or event.by}"
                    case RunReleased(run=run) if run == awaited and event.outcome != "lost":
                        # Its own history was removed since; how it ended is known all the same.
                        ended = f"{awaited} ended as {event.outcome}, and was removed since"
                        return _Fact(there=True, run=awaited, outcome=event.outcome, reason=ended)
                    case _:
                        pass
        return _Fact(there=False, run=awaited, reason=reason)

    def _latest(self, run: Run, minutes: float, name: WorkflowName) -> "_Fact | None":
        state = self._workflow(name)
        if state is None:
            return _Fact(there=False, reason=f"there is no workflow {name}")
        since = (run.request.scheduled_at or run.requested_at) - timedelta(minutes=minutes)
        newest = state.previous_success_at
        if newest is not None and newest >= since:
            reason = f"{name} succeeded for {instant_text(newest)}"
            return _Fact(there=True, run=scheduled_run(name, newest), outcome="succeeded", reason=reason)
        # The workflow hears of the first end of a run; what a rerun made of it, only the run knows.
        rule = self._schedule_of(state)
        for instant in reversed(schedule.latest(rule, since - _SECOND, self._now(), WITHIN_MAX) if rule else []):
            _, fact = self._as_it_is(scheduled_run(name, instant.at), JobName(""))
            if fact is not None and fact.outcome == "succeeded":
                return fact
        if state.live is None:
            return _Fact(there=False, reason=f"{name} was unregistered at {instant_text(state.changed_at)}")
        return None

    def _file(self, address: str) -> "_Fact | None":
        try:
            found = self._files.find(address)
        except TargetRefused as error:
            return _Fact(there=False, reason=str(error))
        except TargetUnavailable:
            return None
        return None if found is None else _Fact(there=True, reason=found)

    def _workflow(self, name: WorkflowName) -> WorkflowState | None:
        state = self._transact.current(workflow_stream(name)).state
        return state if isinstance(state, WorkflowState) else None

    def _schedule_of(self, state: WorkflowState | None) -> Schedule | None:
        if state is None or state.live is None:
            return None
        return self._transact.loader.plans(state.live.document).workflow.schedule


@dataclass(frozen=True, slots=True)
class _Fact:
    there: bool
    """False: it will never be."""
    run: str = ""
    version: int = 0
    outcome: str = ""
    reason: str = ""
