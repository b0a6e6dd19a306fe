"""Given what happened, when this is asked, then that happens: the rules of runs and workflows as sentences.

`given(...)` takes steps: a command (decided, its events applied), a fact (applied as it is) or a time span (the clock moves).
`.when(command).then(facts)` compares what is decided; it sends the command a second time and expects nothing. A fact names an
event and the fields that matter: what stands in `TOLD` may be anything unless the sentence says it, every other field must be as
said or at its default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import codec, events
from shared.decide.backfill import BackfillDraft, decide_backfill_on
from shared.decide.commands import (
    Advance,
    Command,
    RecordClaim,
    RecordReport,
    RegisterWorkflow,
    ReleaseRun,
    ReopenRun,
    RequestRun,
)
from shared.decide.pool import PoolDraft, decide_pool_on
from shared.decide.run import RunDraft, decide_on
from shared.decide.workflow import WorkflowDraft, decide_workflow_on
from shared.errors import Rejected
from shared.events import Event, RunRequested
from shared.ids import Digest, Handle, JobName, RunId, WorkflowName, digest_of
from shared.state.backfill import BackfillState, NoBackfill, fold_backfill
from shared.state.pool import NoPool, PoolState, fold_pool
from shared.state.run import JobState, NotRequested, Run, RunState, fold
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.workflow.days import CalendarDays
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan, compile_plan

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday."""
RUN = RunId("nightly@1")
WORKFLOW = WorkflowName("nightly")
SLICES_MAX = 200
"""Commits that one decision may be cut into here."""

TOLD = frozenset({"reason", "flag_at", "request", "ended_at", "started_at", "exit_code", "by", "source"})


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def days(number: float) -> timedelta:
    return timedelta(days=number)


# --- documents --------------------------------------------------------------------------------------------------------

_PLANS: dict[Digest, Plan] = {}


def plans(digest: Digest) -> Plan:
    return _PLANS[digest]


def job(name: str, *, after: tuple[str, ...] | list[str] = (), retry: Any = None, **fields: Any) -> dict[str, Any]:
    """A job of a document. `retry`: a number of attempts, or the whole rule; delays are 60 s without jitter unless said."""
    rule: dict[str, Any] = {"delay_seconds": 60, "jitter": 0}
    rule.update(retry if isinstance(retry, dict) else {} if retry is None else {"attempts": retry})
    what: dict[str, Any] = {"type": "ssm", "host": "h", "commands": ["true"]}
    if fields.get("type") == "ecs":
        what = {"image": "i", "command": ["true"]}
    return {"name": name, "after": list(after), "retry": rule, **what, **fields}


def document(*jobs: dict[str, Any], **fields: Any) -> Plan:
    """A compiled document, known to `plans`."""
    workflow = Workflow.model_validate({"name": WORKFLOW, "jobs": list(jobs) or [job("load")], **fields})
    plan = compile_plan(workflow, digest_of(workflow.model_dump_json().encode()))
    _PLANS[plan.digest] = plan
    return plan


_CALENDARS: dict[str, CalendarDays] = {}


def calendar(name: str, *excluded: str, version: int = 1, timezone: str | None = None) -> str:
    """A calendar with these days, known to workflows from now on; its name."""
    _CALENDARS[name] = CalendarDays(version, excluded, timezone)
    return name


def request_of(plan: Plan, run: RunId = RUN, **fields: Any) -> RunRequested:
    return RunRequested(run=run, workflow=WORKFLOW, document=plan.digest, document_version=1, **fields)


# --- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """An event as a sentence tells it."""

    type: type[Any]
    fields: Mapping[str, Any] = field(default_factory=dict)

    def event(self, now: datetime) -> Event:
        wanted = dict(self.fields)
        for name, info in self.type.model_fields.items():
            if name not in wanted and info.is_required():
                wanted[name] = now + minutes(10) if name == "flag_at" else {} if name == "request" else ""
        made: Event = self.type(**wanted)
        return made

    def matches(self, event: Event) -> bool:
        if type(event) is not self.type:
            return False
        for name, info in self.type.model_fields.items():
            value = getattr(event, name)
            if name in self.fields:
                wanted = self.fields[name]
                if isinstance(wanted, Says):
                    if wanted.text not in value:
                        return False
                elif value != wanted:
                    return False
            elif name not in TOLD and not info.is_required() and value != info.default:
                return False
        return True

    def __repr__(self) -> str:
        return f"{self.type.__name__}({', '.join(f'{name}={value!r}' for name, value in self.fields.items())})"


@dataclass(frozen=True)
class Says:
    """Any text that contains this one."""

    text: str


def opened() -> Fact:
    return Fact(events.RunOpened)


def ready(*jobs: str) -> Fact:
    return Fact(events.JobsReady, {"jobs": jobs})


def settled(name: str, outcome: str, **fields: Any) -> Fact:
    return Fact(events.JobSettled, {"job": name, "outcome": outcome, **fields})


def _of_attempt(kind: type[Any], name: str, attempt: int, fields: Mapping[str, Any]) -> Fact:
    return Fact(kind, {"job": name, "attempt": attempt, **fields})


def queued(name: str, attempt: int = 1) -> Fact:
    return _of_attempt(events.AttemptQueued, name, attempt, {})


def claimed(name: str, attempt: int = 1, claimer: str = "one", *, send_before: datetime, **fields: Any) -> Fact:
    told = {"claimer": claimer, "send_before": send_before, **fields}
    return _of_attempt(events.AttemptClaimed, name, attempt, told)


def released(name: str, attempt: int = 1, *, retry_at: datetime, first: bool = False) -> Fact:
    return _of_attempt(events.ClaimReleased, name, attempt, {"retry_at": retry_at, "first": first})


def submitted(name: str, attempt: int = 1, handle: str = "h1", **fields: Any) -> Fact:
    return _of_attempt(events.AttemptSubmitted, name, attempt, {"handle": handle, **fields})


def started(name: str, attempt: int = 1, **fields: Any) -> Fact:
    return _of_attempt(events.AttemptStarted, name, attempt, fields)


def succeeded(name: str, attempt: int = 1, **fields: Any) -> Fact:
    return _of_attempt(events.AttemptSucceeded, name, attempt, fields)


def failed(name: str, attempt: int = 1, failure: str = "user", **fields: Any) -> Fact:
    return _of_attempt(events.AttemptFailed, name, attempt, {"failure": failure, **fields})


def cancelled(name: str, attempt: int = 1, **fields: Any) -> Fact:
    return _of_attempt(events.AttemptCancelled, name, attempt, fields)


def doubted(name: str, attempt: int = 1, policy: str = "wait", **fields: Any) -> Fact:
    return _of_attempt(events.AttemptDoubted, name, attempt, {"policy": policy, **fields})


def stop_requested(name: str, attempt: int = 1, cause: str = "cancel", **fields: Any) -> Fact:
    return _of_attempt(events.StopRequested, name, attempt, {"cause": cause, **fields})


def stop_sent(name: str, attempt: int = 1) -> Fact:
    return _of_attempt(events.StopSent, name, attempt, {})


def stop_flagged(name: str, attempt: int = 1) -> Fact:
    return _of_attempt(events.StopFlagged, name, attempt, {})


def late(name: str, attempt: int, report: Says | str, handle: str | None = None) -> Fact:
    return _of_attempt(events.LateReported, name, attempt, {"report": report, "handle": handle})


def marked(name: str, outcome: str, by: str = "ada") -> Fact:
    return Fact(events.JobMarked, {"job": name, "outcome": outcome, "by": by})


def cancel_requested(by: str = "ada") -> Fact:
    return Fact(events.RunCancelRequested, {"by": by})


def reopened(plan: Plan, *jobs: str, **fields: Any) -> Fact:
    told = {"document": plan.digest, "document_version": 1, "jobs": jobs, **fields}
    return Fact(events.RunReopened, told)


def finished(outcome: str) -> Fact:
    return Fact(events.RunFinished, {"outcome": outcome})


def fact(kind: type[Any], **fields: Any) -> Fact:
    return Fact(kind, fields)


# --- commands ---------------------------------------------------------------------------------------------------------


def requested(*jobs: dict[str, Any] | Plan, request: Mapping[str, Any] | None = None, **fields: Any) -> RequestRun:
    """The request of a run of a document with these jobs."""
    first = jobs[0] if jobs else None
    plan = first if isinstance(first, Plan) else document(*(one for one in jobs if isinstance(one, dict)), **fields)
    return RequestRun(request_of(plan, **(request or {})))


def report(name: str, status: Any, attempt: int = 1, handle: str | None = None, **fields: Any) -> RecordReport:
    return RecordReport(JobName(name), attempt, status, Handle(handle) if handle else None, **fields)


def claim(
    name: str, attempt: int = 1, claimer: str = "one", *, send_before: datetime, looked_at: datetime | None = None
) -> RecordClaim:
    return RecordClaim(JobName(name), attempt, claimer, {"what": "true"}, send_before, looked_at)


def reopen(plan: Plan, *jobs: str, failed: bool = False, version: int = 1, request: str = "", **more: Any) -> ReopenRun:
    names = tuple(JobName(name) for name in jobs)
    return ReopenRun(names, failed, plan.digest, version, more.pop("changes", ()), "ada", "", request)


def register(plan: Plan, by: str = "ada") -> RegisterWorkflow:
    return RegisterWorkflow(WORKFLOW, plan.digest, by)


def ended(run: str, outcome: Any = "succeeded") -> ReleaseRun:
    return ReleaseRun(RunId(run), outcome)


# --- sentences --------------------------------------------------------------------------------------------------------

Step = Command | Fact | timedelta
State = RunState | NotRegistered | WorkflowState | NoBackfill | BackfillState | NoPool | PoolState


@dataclass(frozen=True)
class Story:
    """What happened so far, as commits."""

    state: State = field(default_factory=NotRequested)
    now: datetime = NOON
    history: tuple[tuple[datetime, tuple[Event, ...]], ...] = ()
    truncated: bool = False

    def given(self, *steps: Step) -> "Story":
        story = self
        for step in steps:
            if isinstance(step, timedelta):
                story = Story(story.state, story.now + step, story.history)
            elif isinstance(step, Fact):
                story = story._with((step.event(story.now),), story.now)
            else:
                story = story.done(step)[0]
        return story

    def done(self, command: Command) -> tuple["Story", tuple[Event, ...]]:
        """The story after the command, and what it led to. What is decided must fit a commit, and must fold to the same state."""
        draft = self._draft()
        if isinstance(draft, RunDraft):
            decide_on(draft, command)  # type: ignore[arg-type]
        elif isinstance(draft, BackfillDraft):
            decide_backfill_on(draft, command)  # type: ignore[arg-type]
        elif isinstance(draft, PoolDraft):
            decide_pool_on(draft, command)  # type: ignore[arg-type]
        else:
            decide_workflow_on(draft, command)  # type: ignore[arg-type]
        decided = tuple(draft.events)
        if not decided:
            return self, ()
        body = codec.body_of(decided)
        assert len(body.encode()) <= draft.bytes, "a draft must never think its events smaller than they are"
        assert codec.events_in(body) == decided
        # A clock that runs behind the newest commit does not count.
        after = self._with(decided, draft.now)
        assert same(after.state, draft.freeze()), "what was drafted is not what folds"
        return Story(after.state, after.now, after.history, draft.truncated), decided

    def when(self, command: Command) -> "When":
        return When(self, command)

    def to_its_end(self) -> "Story":
        """Go on with what was cut."""
        story = self
        for _ in range(SLICES_MAX):
            if not story.truncated:
                return story
            story = story.done(Advance())[0]
        raise AssertionError("it never ends")

    def _draft(self) -> RunDraft | WorkflowDraft | BackfillDraft | PoolDraft:
        if isinstance(self.state, NotRequested | Run):
            return RunDraft(self.state, plans, self.now)
        if isinstance(self.state, NoBackfill | BackfillState):
            return BackfillDraft(self.state, plans, self.now)
        if isinstance(self.state, NoPool | PoolState):
            return PoolDraft(self.state, self.now)
        return WorkflowDraft(self.state, plans, self.now, _CALENDARS.get)

    def _with(self, more: tuple[Event, ...], at: datetime) -> "Story":
        timed = [(at, event) for event in more]
        state: State
        if isinstance(self.state, NotRequested | Run):
            state = fold(timed, plans, self.state)
        elif isinstance(self.state, NoBackfill | BackfillState):
            state = fold_backfill(timed, self.state)
        elif isinstance(self.state, NoPool | PoolState):
            state = fold_pool(timed, self.state)
        else:
            state = fold_workflow(timed, self.state)
        return Story(state, self.now, (*self.history, (at, more)))

    @property
    def run(self) -> Run:
        assert isinstance(self.state, Run)
        return self.state

    @property
    def workflow(self) -> WorkflowState:
        assert isinstance(self.state, WorkflowState)
        return self.state

    @property
    def backfill(self) -> BackfillState:
        assert isinstance(self.state, BackfillState)
        return self.state

    @property
    def pool(self) -> PoolState:
        assert isinstance(self.state, PoolState)
        return self.state

    def job(self, name: str) -> JobState:
        return self.run.jobs[JobName(name)]

    @property
    def statuses(self) -> dict[str, str]:
        return {str(name): self.run.jobs[name].status for name in self.run.plan.jobs}

    @property
    def events(self) -> list[Event]:
        return [event for _, commit in self.history for event in commit]


@dataclass(frozen=True)
class When:
    story: Story
    command: Command

    def then(self, *facts: Fact, again: str = "") -> Story:
        """Exactly these facts, in this order; the second time nothing, or a rejection that says `again`."""
        after, decided = self.story.done(self.command)
        told = len(decided) == len(facts) and all(
            fact.matches(event) for fact, event in zip(facts, decided, strict=True)
        )
        assert told, f"\n  expected {list(facts)}\n  decided  {[_shown(event) for event in decided]}"
        if again:
            When(after, self.command).then_rejected(again)
        elif not after.truncated:
            repeated = after.done(self.command)[1]
            assert not repeated, f"the second time: {[_shown(event) for event in repeated]}"
        return after

    def then_nothing(self) -> Story:
        return self.then()

    def then_rejected(self, says: str) -> Story:
        with pytest.raises(Rejected) as raised:
            self.story.done(self.command)
        assert says in str(raised.value)
        return self.story


def given(*steps: Step) -> Story:
    """A run's story."""
    return Story().given(*steps)


def given_workflow(*steps: Step, now: datetime = NOON) -> Story:
    """A workflow's story."""
    return Story(NotRegistered(), now).given(*steps)


def given_backfill(*steps: Step, now: datetime = NOON) -> Story:
    """A backfill's story."""
    return Story(NoBackfill(), now).given(*steps)


def given_pool(*steps: Step) -> Story:
    """A pool's story."""
    return Story(NoPool()).given(*steps)


def same(one: State, other: State) -> bool:
    """Whether two states of a thing are the same to everybody who reads them."""
    return bool(seen(one) == seen(other))


def seen(state: State) -> Any:
    if isinstance(state, BackfillState):
        return {name: getattr(state, name) for name in _BACKFILL}
    if isinstance(state, PoolState):
        return {name: getattr(state, name) for name in PoolState.__dataclass_fields__}
    if not isinstance(state, Run):
        return state if not isinstance(state, WorkflowState) else {name: getattr(state, name) for name in _WORKFLOW}
    fields = {name: getattr(state, name) for name in _RUN if name != "plan"}
    return {**fields, "plan": state.plan.digest}


_RUN = tuple(Run.__dataclass_fields__)
_BACKFILL = tuple(BackfillState.__dataclass_fields__)
_WORKFLOW = tuple(WorkflowState.__dataclass_fields__)


def _shown(event: Event) -> str:
    return event.model_dump_json(exclude_defaults=True)
