"""What holds inside a run: I1 to I5, I12, I14, kept track of without the fold."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from shared.errors import TemplateError
from shared.events import (
    ApprovalAsked,
    AttemptCancelled,
    AttemptClaimed,
    AttemptDoubted,
    AttemptFailed,
    AttemptQueued,
    AttemptStarted,
    AttemptSubmitted,
    AttemptSucceeded,
    ClaimReleased,
    DeadlineMissed,
    Event,
    ItemsCancelRequested,
    ItemsExpanded,
    ItemsJoined,
    ItemsSettled,
    JobApproved,
    JobMarked,
    JobSettled,
    JobsReady,
    LateReported,
    PlaceTaken,
    PlaceWanted,
    RunBecameLate,
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
from shared.ids import Handle, JobName, StreamName, item_name, item_of, run_stream
from shared.state.run import Plans
from shared.template import evaluate
from shared.usecases.verify.approvals import APPROVAL_EVENTS, ApprovalEvent, check_decision, outcome_of
from shared.usecases.verify.commits import kind_of_cause
from shared.usecases.verify.violation import Found, Handles
from shared.usecases.verify.waits import WAIT_EVENTS, WaitChecker
from shared.workflow.document import Outcome

SECOND_LOOK = timedelta(seconds=60)
"""Two looks that found nothing are this far apart before work is asked for again (DESIGN, section 5)."""
CAUSES_OF_TIME = frozenset({"time", "sweep", "tick"})
"""A commit with such a cause was told nothing by any target, so that nothing in it is evidence."""
_BAD = frozenset({"failed", "timed_out", "cancelled", "upstream_failed"})

AttemptEvent = (
    AttemptClaimed
    | ClaimReleased
    | StartAsked
    | AttemptSubmitted
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptCancelled
    | AttemptDoubted
    | StopRequested
    | StopSent
    | StopFlagged
)
_ATTEMPT_EVENTS = (
    AttemptClaimed,
    ClaimReleased,
    StartAsked,
    AttemptSubmitted,
    AttemptStarted,
    AttemptSucceeded,
    AttemptFailed,
    AttemptCancelled,
    AttemptDoubted,
    StopRequested,
    StopSent,
    StopFlagged,
)


@dataclass(slots=True)
class _Try:
    """The attempt under way."""

    number: int
    handle: Handle | None = None
    claim: AttemptClaimed | None = None
    doubt: AttemptDoubted | None = None
    doubted_at: datetime | None = None
    stop: StopRequested | None = None
    flagged: bool = False


@dataclass(slots=True)
class _Job:
    phase: Literal["waiting", "ready", "open", "backoff", "asking", "fanned_out", "done"] = "waiting"
    attempts: int = 0
    """Numbers used so far."""
    open: _Try | None = None
    outcome: Outcome | None = None
    retry_at: datetime | None = None
    expires_at: datetime | None = None
    """In phase `asking`: when nobody's decision is waited for any longer."""
    wants: int | None = None
    """The attempt that waits for a place in a pool."""
    placed: int | None = None
    """The attempt that has one."""
    kept: bool = False
    """The latest rerun promised not to touch it."""


@dataclass(slots=True)
class _Fan:
    """A job with `for_each` that has begun."""

    expanded: ItemsExpanded
    left: int
    """Items that have not ended."""
    active: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    outputs: dict[int, dict[str, Any]] = field(default_factory=dict)
    settled: Outcome | None = None
    """How those ended that never began."""
    bad_before: int = 0
    """Items that ended badly in an earlier round, and are kept so."""

    @property
    def bad(self) -> int:
        return sum(number for outcome, number in self.ended.items() if outcome in _BAD)

    @property
    def resting(self) -> int:
        """Items that have not ended and are not under way."""
        return self.left - self.active


@dataclass(frozen=True, slots=True)
class PendingStop:
    """A stop that was asked for, and neither confirmed nor flagged."""

    job: JobName
    attempt: int
    flag_at: datetime


@dataclass
class RunChecker:
    """Follows one run, event by event, and says what should not have happened. Goes on after a violation as well as it can."""

    stream: StreamName
    plans: Plans
    handles: Handles
    jobs: dict[JobName, _Job] = field(default_factory=dict)
    items: dict[JobName, _Job] = field(default_factory=dict)
    """Items that something happened to, by name."""
    fans: dict[JobName, _Fan] = field(default_factory=dict)
    _request: RunRequested | None = None
    _requested_at: datetime | None = None
    _opened: bool = False
    _cancelled: bool = False
    _finished: bool = False
    _under_way: int = 0
    _over: bool = False
    """More is under way than allowed, and that has been said."""
    _late_told: set[str] = field(default_factory=set)
    """What was told about the clock in this round."""
    _outcomes: dict[str, Outcome | None] = field(default_factory=dict)
    _seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What expressions may look at."""
    _waits: WaitChecker = field(default_factory=WaitChecker)
    _gone: dict[JobName, int] = field(default_factory=dict)
    """Attempt numbers used by jobs that a newer document does not have."""

    def check(self, event: Event, at: datetime, cause: str) -> Iterator[Found]:
        if isinstance(event, RunRequested):
            yield from self._requested(event, at)
            return
        if self._request is None:
            yield "I8", f"{event.type} is the run's first event"
            return
        if self._finished and not isinstance(event, RunReopened | LateReported | JobMarked):
            yield "I3", f"{event.type} follows the end of the run"
        for name in _jobs_of(event):
            if name not in self.jobs and not self._is_item(name):
                yield "I8", f"{event.type} names the job {name}, which the document does not have"
                return
        if isinstance(event, _ATTEMPT_EVENTS):
            yield from self._of_attempt(event, at, cause)
            return
        if isinstance(event, WAIT_EVENTS):
            yield from self._waits.check(event, at, self._plan)
            return
        if isinstance(event, APPROVAL_EVENTS):
            yield from self._approval(event, at)
            return
        match event:
            case RunOpened():
                yield from self._open(at)
            case JobsReady():
                for name in event.jobs:
                    job = self._job(name)
                    yield from self._start(name, job, at, "became ready")
                    job.phase = "ready"
            case PlaceWanted():
                yield from self._wanted(event, at)
            case PlaceTaken():
                job = self._job(event.job)
                if job.wants != event.attempt:
                    yield "I5", f"attempt {event.attempt} of {event.job} took a place that it did not wait for"
                job.wants, job.placed = None, event.attempt
            case AttemptQueued():
                yield from self._queued(event, at)
            case JobSettled():
                yield from self._settled(event)
            case ItemsExpanded():
                yield from self._expanded(event, at)
            case ItemsSettled():
                yield from self._items_settled(event)
            case ItemsCancelRequested():
                if event.job not in self.fans or self.jobs[event.job].phase == "done":
                    yield "I12", f"the items of {event.job} were cancelled, and none were under way"
            case ItemsJoined():
                yield from self._items_joined(event)
            case LateReported():
                job = self._job(event.job)
                under_way = job.open is not None and job.open.number == event.attempt
                if not 1 <= event.attempt <= job.attempts or (under_way and event.handle is None):
                    yield "I3", f"a late report names attempt {event.attempt} of {event.job}, which has not ended"
            case JobMarked():
                yield from self._marked(event)
            case RunCancelRequested():
                self._cancelled = True
            case RunReopened():
                yield from self._reopened(event)
            case RunFinished():
                yield from self._finish(event)
            case RunBecameLate() | DeadlineMissed():
                yield from self._late(event, at)
            case _:
                yield "I8", f"{event.type} does not belong into a run's stream"

    def pending_stops(self) -> list[PendingStop]:
        return [
            PendingStop(name, job.open.number, job.open.stop.flag_at)
            for name, job in (*self.jobs.items(), *self.items.items())
            if job.open is not None and job.open.stop is not None and not job.open.flagged
        ]

    # The run.

    def _requested(self, event: RunRequested, at: datetime) -> Iterator[Found]:
        if self._request is not None:
            yield "I3", "the run was requested twice"
            return
        if run_stream(event.run) != self.stream:
            yield "I8", f"the stream holds the run {event.run}"
        self._request = event
        self._requested_at = at
        self._opened = event.start_after is None
        self._plan = self.plans(event.document)
        for name in self._plan.jobs:
            self.jobs[name] = _Job()
            self._show(name)

    def _open(self, at: datetime) -> Iterator[Found]:
        assert self._request is not None
        after = self._request.start_after
        if after is not None and at < after:
            yield "I4", f"the run opened at {at.isoformat()}, before {after.isoformat()}"
        self._opened = True

    def _late(self, event: RunBecameLate | DeadlineMissed, at: datetime) -> Iterator[Found]:
        """Told once a round, never before its time, and only where the document says so."""
        if event.type in self._late_told:
            yield "I3", f"{event.type} was told twice in a round"
        if at < event.due_at:
            yield "I4", f"{event.type} was told at {at.isoformat()}, before {event.due_at.isoformat()}"
        document = self._plan.workflow
        if (document.late if isinstance(event, RunBecameLate) else document.deadline) is None:
            yield "I8", f"{event.type} was told, and the document does not ask for it"
        self._late_told.add(event.type)

    def _finish(self, event: RunFinished) -> Iterator[Found]:
        for name, job in self.jobs.items():
            if job.phase != "done":
                yield "I3", f"the run finished while {name} had not ended ({job.phase})"
        outcomes = {job.outcome for job in self.jobs.values()}
        right = "succeeded" if not outcomes & _BAD else "failed"
        if self._cancelled and "cancelled" in outcomes:
            right = "cancelled"
        if event.outcome != right:
            yield "I8", f"the run finished as {event.outcome}, and its jobs make it {right}"
        self._finished = True

    def _reopened(self, event: RunReopened) -> Iterator[Found]:
        if not self._finished:
            yield "I3", "a run that has not finished was reopened"
        before, old_plan = self.jobs, self._plan
        plan = self.plans(event.document)
        self._waits.reopened(old_plan, plan)
        self._plan = plan
        again = self._done_again(event, before)
        continued = {
            name
            for name in again
            if name in self.fans
            and name not in event.jobs
            and before[name].phase == "done"
            and old_plan.jobs[name].for_each == self._plan.jobs[name].for_each
            and again.isdisjoint(self._plan.jobs[name].after)
        }
        jobs: dict[JobName, _Job] = {}
        for name in self._plan.jobs:
            old = before.get(name)
            if old is not None and name not in again:
                jobs[name] = old
                old.kept = True
                continue
            used = old.attempts if old is not None else self._gone.pop(name, 0)
            jobs[name] = _Job(attempts=used)
        for name, old in before.items():
            if name not in jobs:
                self._gone[name] = old.attempts
                self._outcomes.pop(name, None)
                self._seen.pop(name, None)
        self.jobs = jobs
        self._items_again(event, again, continued)
        for name in again:
            self._show(name, outputs={})
        self._under_way = sum(1 for job in (*jobs.values(), *self.items.values()) if job.open is not None)
        self._over = False
        self._finished = False
        self._cancelled = False
        self._late_told = set()

    def _done_again(self, event: RunReopened, before: dict[JobName, _Job]) -> set[JobName]:
        """The jobs that this rerun does again; all others it keeps."""
        again: set[JobName] = set()
        parents = {of[0] for name in event.jobs if (of := item_of(name)) is not None}
        for name in self._in_order():
            old = before.get(name)
            if (
                old is None
                or name in event.jobs
                or name in parents
                or (event.failed and old.outcome in _BAD)
                or any(one in again for one in self._plan.jobs[name].after)
            ):
                again.add(name)
        return again

    def _in_order(self) -> list[JobName]:
        """Jobs after those that they come after."""
        left = {name: len(set(job.after)) for name, job in self._plan.jobs.items()}
        order = [name for name, count in left.items() if count == 0]
        for name in order:
            for dependent in self._plan.dependents[name]:
                left[dependent] -= 1
                if left[dependent] == 0:
                    order.append(dependent)
        return order

    # Items of a job.

    def _is_item(self, name: JobName) -> bool:
        of = item_of(name)
        return of is not None and of[0] in self.fans and of[1] < self.fans[of[0]].expanded.count

    def _job(self, name: JobName) -> _Job:
        """A job, or an item, which is made when it is first heard of."""
        job = self.jobs.get(name) or self.items.get(name)
        if job is None:
            of = item_of(name)
            assert of is not None
            settled = self.fans[of[0]].settled
            job = _Job("waiting" if settled is None else "done", self._gone.pop(name, 0), outcome=settled)
            self.items[name] = job
        return job

    def _expanded(self, event: ItemsExpanded, at: datetime) -> Iterator[Found]:
        job = self.jobs[event.job]
        yield from self._start(event.job, job, at, "began its items")
        if self._plan.jobs[event.job].for_each is None:
            yield "I8", f"{event.job} began items, and its document has no for_each"
        if event.items is not None and len(event.items) != event.count:
            yield "I8", f"{event.job} began {event.count} items of a list of {len(event.items)}"
        job.phase = "fanned_out"
        self.fans[event.job] = _Fan(event, event.count)

    def _item_starts(self, name: JobName, parent: JobName, what: str) -> Iterator[Found]:
        fan = self.fans[parent]
        if self.jobs[parent].phase != "fanned_out":
            yield "I4", f"{name} {what}, and {parent} was not under way"
        if fan.bad - fan.bad_before > fan.expanded.tolerated:
            yield "I4", f"{name} {what} after {fan.bad} items had ended badly, of at most {fan.expanded.tolerated}"
        limit = fan.expanded.max_parallel
        if limit is not None and fan.active >= limit and "attempt" in what:
            yield "I5", f"{name} {what} while {fan.active} items were under way, and {limit} are allowed"

    def _items_settled(self, event: ItemsSettled) -> Iterator[Found]:
        fan = self.fans.get(event.job)
        if fan is None or self.jobs[event.job].phase == "done":
            yield "I3", f"items of {event.job} were settled, and none were under way"
            return
        if event.count != fan.resting:
            yield (
                "I4",
                f"{event.count} items of {event.job} were settled, and {fan.resting} were neither under way nor done",
            )
        for index in range(fan.expanded.count):
            job = self.items.get(item_name(event.job, index))
            if job is not None and job.phase in ("waiting", "ready", "backoff"):
                job.phase, job.outcome = "done", event.outcome
        fan.settled = event.outcome
        fan.ended[event.outcome] = fan.ended.get(event.outcome, 0) + fan.resting
        fan.left = fan.active

    def _items_joined(self, event: ItemsJoined) -> Iterator[Found]:
        fan = self.fans.get(event.job)
        if fan is None or self.jobs[event.job].phase == "done":
            yield "I3", f"{event.job} ended with its items, and none were under way"
            return
        if fan.left:
            yield "I4", f"{event.job} ended while {fan.left} of its items had not"
        if (event.outcome == "succeeded") != (fan.bad <= fan.expanded.tolerated):
            yield (
                "I4",
                f"{event.job} ended as {event.outcome} with {fan.bad} items that ended badly, of at most {fan.expanded.tolerated}",
            )
        self._end(event.job, self.jobs[event.job], event.outcome)
        gathered = [fan.outputs.get(index) for index in range(fan.expanded.count)]
        self._seen[event.job]["outputs"] = gathered

    def _items_again(self, event: RunReopened, again: set[JobName], continued: set[JobName]) -> None:
        """Keep the items that the rerun does not touch."""
        for parent, fan in list(self.fans.items()):
            if parent in self.jobs and parent not in again:
                for index in range(fan.expanded.count):
                    if (kept := self.items.get(item_name(parent, index))) is not None:
                        kept.kept = True
                continue
            for index in range(fan.expanded.count):
                name = item_name(parent, index)
                job = self.items.get(name)
                outcome = job.outcome if job is not None else fan.settled
                redone = name in event.jobs or (event.failed and outcome in _BAD)
                if parent in continued and not redone:
                    if job is not None:
                        job.kept = True
                    continue
                if job is not None:
                    self._gone[name] = job.attempts
                    del self.items[name]
                fan.outputs.pop(index, None)
                if parent in continued and outcome is not None:
                    fan.left += 1
                    fan.ended[outcome] -= 1
                    self.items[name] = _Job(attempts=self._gone.pop(name, 0))
            if parent in continued:
                fan.bad_before = fan.bad
                self.jobs[parent].phase = "fanned_out"
            else:
                del self.fans[parent]

    # A job.

    def _start(self, name: JobName, job: _Job, at: datetime, what: str) -> Iterator[Found]:
        """Whether the job may go on to be ready, or to its next attempt."""
        if self._cancelled:
            yield "I12", f"{name} {what} after the run was cancelled"
        if not self._opened:
            yield "I4", f"{name} {what} before the run opened"
        of = item_of(name)
        if of is not None:
            yield from self._item_starts(name, of[0], what)
        match job.phase:
            case "waiting" if of is None:
                yield from self._joined(name, what)
                yield from self._waits.start(name, what, self._plan)
            case "fanned_out":
                yield "I3", f"{name} {what}, and its items had begun"
            case "backoff":
                if job.retry_at is not None and at < job.retry_at:
                    yield (
                        "I4",
                        f"{name} {what} at {at.isoformat()}, before its retry was due at {job.retry_at.isoformat()}",
                    )
            case "done" if job.kept:
                yield "I14", f"{name} {what}, and the rerun had promised to keep it"
            case "done":
                yield "I3", f"{name} {what} after it had ended as {job.outcome}"
            case "open":
                assert job.open is not None
                left = "I2" if job.open.doubt is not None else "I1"
                yield left, f"{name} {what} while attempt {job.open.number} was under way"  # type: ignore[misc]
                self._close(name, job)
            case "asking":
                yield "I3", f"{name} {what} while it waited for a decision"
            case "ready":
                pass

    def _joined(self, name: JobName, what: str) -> Iterator[Found]:
        early = [before for before in self._plan.jobs[name].after if self.jobs[JobName(before)].phase != "done"]
        if early:
            yield "I4", f"{name} {what} before {early[0]} had ended"
        elif self._holds(name) is not True:
            yield "I4", f"{name} {what}, and its condition did not hold: {self._plan.jobs[name].when}"

    def _holds(self, name: JobName) -> bool | None:
        """Whether the job's condition holds now; None if it cannot be told."""
        job = self._plan.jobs[name]
        ends = [self.jobs[JobName(before)].outcome for before in job.after]
        match job.when:
            case "all_done":
                return True
            case "all_succeeded":
                return all(end == "succeeded" for end in ends)
            case "any_succeeded":
                return any(end == "succeeded" for end in ends)
            case "any_failed":
                return any(end in _BAD for end in ends)
            case expression:
                try:
                    return evaluate(expression, self._context(name))
                except TemplateError:
                    return None

    def _context(self, name: JobName) -> dict[str, Any]:
        request = self._request
        assert request is not None
        return {
            "run": request.run,
            "workflow": request.workflow,
            "job": name,
            "attempt": None,
            "params": request.parameters,
            "scheduled_at": request.scheduled_at or self._requested_at,
            "data_interval_start": request.interval_start,
            "data_interval_end": request.interval_end,
            "previous_success_at": request.previous_success_at,
            "requested_at": self._requested_at,
            "jobs": self._seen,
            "outcomes": self._outcomes,
        }

    def _show(self, name: JobName, outputs: dict[str, Any] | None = None) -> None:
        """Let expressions see the job as it is now; what items left is seen when their job has ended."""
        if name not in self.jobs:
            of = item_of(name)
            if of is not None and outputs is not None:
                self.fans[of[0]].outputs[of[1]] = outputs
            return
        outcome = self.jobs[name].outcome
        self._outcomes[name] = outcome
        kept = self._seen.get(name, {}).get("outputs", {})
        self._seen[name] = {"outputs": kept if outputs is None else outputs, "outcome": outcome}

    def _settled(self, event: JobSettled) -> Iterator[Found]:
        job = self._job(event.job)
        outcome = event.outcome
        match job.phase:
            case "done" if job.kept:
                yield "I14", f"{event.job} was settled, and the rerun had promised to keep it"
            case "done":
                yield "I3", f"{event.job} was settled as {outcome} after it had ended as {job.outcome}"
            case "open":
                assert job.open is not None
                if job.open.doubt is not None:
                    yield "I2", f"{event.job} was settled as {outcome} while attempt {job.open.number} was in doubt"
                else:
                    yield "I3", f"{event.job} was settled as {outcome} while attempt {job.open.number} was under way"
            case "waiting" if self._waits.lost(event.job) and outcome in {"upstream_failed", "timed_out"}:
                pass
            case "fanned_out":
                yield "I3", f"{event.job} was settled as {outcome} while its items were under way"
            case "waiting" if outcome in {"upstream_failed", "skipped", "failed"} and event.job in self.jobs:
                early = [
                    before for before in self._plan.jobs[event.job].after if self.jobs[JobName(before)].phase != "done"
                ]
                if early:
                    yield "I4", f"{event.job} was settled as {outcome} before {early[0]} had ended"
                elif (
                    self._holds(event.job) is True
                    and not self._unasked(event)
                    # What it is to be done for was no list.
                    and not (outcome == "failed" and self._plan.jobs[event.job].for_each is not None)
                ):
                    yield "I4", f"{event.job} was settled as {outcome}, and its condition held"
            case _:
                if outcome == "succeeded":
                    yield "I4", f"{event.job} was settled as succeeded without an attempt"
        self._end(event.job, job, outcome)

    def _unasked(self, event: JobSettled) -> bool:
        """Whether it is an approval whose message could not be rendered."""
        return event.outcome == "failed" and self._plan.jobs[event.job].type == "approval"

    def _approval(self, event: ApprovalEvent, at: datetime) -> Iterator[Found]:
        job, document_job = self.jobs[event.job], self._plan.jobs[event.job]
        if isinstance(event, ApprovalAsked):
            yield from self._start(event.job, job, at, "was put to a person")
            if document_job.type != "approval":
                yield "I8", f"{event.job} was put to a person, and is a job of type {document_job.type}"
            job.phase, job.expires_at, job.outcome = "asking", event.expires_at, None
            return
        if job.phase != "asking":
            yield "I3", f"{event.type} is about {event.job}, which waits for no decision ({job.phase})"
        yield from check_decision(event, document_job, job.expires_at, at)
        outcome = outcome_of(event)
        outputs: dict[str, Any] | None = None
        if outcome == "succeeded":
            by = event.by if isinstance(event, JobApproved) else ""
            outputs = {
                "approved_by": by,
                "at": at.isoformat().replace("+00:00", "Z"),
                "reason": getattr(event, "reason", "nobody decided in time"),
            }
        self._end(event.job, job, outcome, outputs)

    def _marked(self, event: JobMarked) -> Iterator[Found]:
        job = self._job(event.job)
        of = item_of(event.job)
        if job.phase == "fanned_out":
            yield "I3", f"{event.job} was marked {event.outcome} while its items were under way"
        if of is not None and self.jobs[of[0]].phase == "done":
            yield "I3", f"{event.job} was marked {event.outcome} after {of[0]} had ended"
        if of is not None and job.phase == "done" and job.outcome is not None:
            # It is counted anew.
            self.fans[of[0]].ended[job.outcome] -= 1
            self.fans[of[0]].left += 1
        if not event.by or not event.reason.strip():
            what = "I2" if job.open is not None and job.open.doubt is not None else "I3"
            yield what, f"{event.job} was marked {event.outcome} without a person's name and a reason"  # type: ignore[misc]
        if job.open is not None and job.open.doubt is None and not job.open.flagged:
            yield (
                "I3",
                f"{event.job} was marked {event.outcome} while attempt {job.open.number} was under way, and not in doubt",
            )
        self._end(event.job, job, event.outcome)

    def _end(self, name: JobName, job: _Job, outcome: Outcome, outputs: dict[str, Any] | None = None) -> None:
        self._close(name, job)
        job.wants = job.placed = None
        of = item_of(name)
        if of is not None:
            fan = self.fans[of[0]]
            fan.left -= 1
            fan.ended[outcome] = fan.ended.get(outcome, 0) + 1
        job.phase = "done"
        job.outcome = outcome
        self._show(name, outputs)

    def _close(self, name: JobName, job: _Job) -> None:
        if job.open is not None:
            of = item_of(name)
            if of is not None:
                self.fans[of[0]].active -= 1
            job.open = None
            self._under_way -= 1
            self._over = False

    # An attempt.

    def _wanted(self, event: PlaceWanted, at: datetime) -> Iterator[Found]:
        job = self._job(event.job)
        yield from self._start(event.job, job, at, "came to want a place")
        pool = self._plan.jobs[event.job].pool
        if pool is None or (pool.name, pool.weight) != (event.pool, event.weight):
            yield "I5", f"{event.job} wants {event.weight} of the pool {event.pool}, and the document says otherwise"
        if event.attempt != job.attempts + 1:
            yield "I3", f"attempt {event.attempt} of {event.job} wants a place after attempt {job.attempts}"
        job.phase, job.wants, job.placed = "ready", event.attempt, None

    def _queued(self, event: AttemptQueued, at: datetime) -> Iterator[Found]:
        job = self._job(event.job)
        if self._plan.jobs[event.job].pool is not None and job.placed != event.attempt:
            yield "I5", f"attempt {event.attempt} of {event.job} began without a place in its pool"
        job.wants = job.placed = None
        yield from self._start(event.job, job, at, f"began attempt {event.attempt}")
        if self._plan.jobs[event.job].type == "approval":
            yield "I8", f"{event.job} is an approval, and attempt {event.attempt} of it was decided"
        if event.attempt != job.attempts + 1:
            yield "I3", f"attempt {event.attempt} of {event.job} follows attempt {job.attempts}"
        job.attempts = event.attempt
        job.phase = "open"
        job.outcome = None
        job.open = _Try(event.attempt)
        of = item_of(event.job)
        if of is not None:
            self.fans[of[0]].active += 1
        self._under_way += 1
        limit = self._plan.workflow.parallelism
        if self._under_way > limit and not self._over:
            self._over = True
            yield (
                "I5",
                f"attempt {event.attempt} of {event.job} makes {self._under_way} under way, and {limit} are allowed",
            )

    def _of_attempt(self, event: AttemptEvent, at: datetime, cause: str) -> Iterator[Found]:
        job = self._job(event.job)
        current = job.open
        name = f"attempt {event.attempt} of {event.job}"
        if current is None or current.number != event.attempt:
            if 1 <= event.attempt <= job.attempts:
                yield "I3", f"{event.type} is about {name}, which had ended"
            else:
                yield "I1", f"{event.type} is about {name}, which was never decided"
            return
        evidence = kind_of_cause(cause) not in CAUSES_OF_TIME
        match event:
            case AttemptClaimed():
                yield from self._claimed(event, current, at)
            case ClaimReleased():
                if current.doubt is not None:
                    yield "I2", f"{name} left its doubt because a claim was given back"
                elif current.handle is not None:
                    yield "I1", f"{name} gave back a claim, and is bound to an execution"
                current.claim = current.doubt = None
            case AttemptSubmitted():
                yield from self._submitted(event, current, evidence)
            case AttemptStarted():
                if current.handle is None:
                    yield "I1", f"{name} runs without being bound to an execution"
            case AttemptSucceeded():
                yield from self._left_doubt(event, current, evidence)
                self._end(event.job, job, "succeeded", event.outputs)
            case AttemptFailed():
                yield from (
                    self._gave_up(event, current, at) if event.assumed else self._left_doubt(event, current, evidence)
                )
                outputs = event.outputs or None
                if event.retry_at is None:
                    self._end(event.job, job, "timed_out" if event.failure == "timeout" else "failed", outputs)
                else:
                    self._close(event.job, job)
                    job.phase = "backoff"
                    job.retry_at = event.retry_at
                    self._show(event.job, outputs)
            case AttemptCancelled():
                yield from (
                    self._gave_up(event, current, at) if event.assumed else self._left_doubt(event, current, evidence)
                )
                self._end(event.job, job, "cancelled")
            case AttemptDoubted():
                current.doubt, current.doubted_at = event, at
                current.claim = None
            case StopRequested():
                current.stop, current.flagged = event, False
            case StopSent():
                if current.stop is None:
                    yield "I12", f"the stop of {name} was sent, and nobody had asked for it"
            case StopFlagged():
                if current.stop is None or at < current.stop.flag_at:
                    yield "I12", f"the stop of {name} was flagged before its time"
                current.flagged = True

    def _claimed(self, event: AttemptClaimed, current: _Try, at: datetime) -> Iterator[Found]:
        name = f"attempt {event.attempt} of {event.job}"
        if current.claim is not None:
            yield "I1", f"{event.claimer} and {current.claim.claimer} may both send {name}"
        if current.handle is not None:
            yield "I1", f"{name} was claimed to be sent again, and is bound to {current.handle}"
        if current.stop is not None:
            yield "I12", f"{name} was claimed to be sent after its stop was asked for"
        if current.doubted_at is not None and current.doubt is not None and at - current.doubted_at < SECOND_LOOK:
            yield "I2", f"{name} left its doubt to be sent again before it was looked for twice"
        current.claim, current.doubt, current.doubted_at = event, None, None

    def _submitted(self, event: AttemptSubmitted, current: _Try, evidence: bool) -> Iterator[Found]:
        name = f"attempt {event.attempt} of {event.job}"
        yield from self._left_doubt(event, current, evidence)
        if current.handle is not None and current.handle != event.handle:
            yield "I1", f"{name} is bound to {event.handle}, and was to {current.handle}"
        elif not self.handles.bind(event.handle, self.stream, event.job, event.attempt):
            yield "I1", f"{name} is bound to {event.handle}, and so is another attempt"
        current.handle = event.handle
        current.claim = current.doubt = current.doubted_at = None

    def _left_doubt(self, event: AttemptEvent, current: _Try, evidence: bool) -> Iterator[Found]:
        if current.doubt is not None and not evidence:
            yield (
                "I2",
                f"attempt {event.attempt} of {event.job} left its doubt by {event.type}, of which time alone was the cause",
            )

    def _gave_up(self, event: AttemptFailed | AttemptCancelled, current: _Try, at: datetime) -> Iterator[Found]:
        name = f"attempt {event.attempt} of {event.job}"
        doubt = current.doubt
        if doubt is None:
            yield "I2", f"{name} was given up, and was not in doubt"
        elif doubt.policy != "assume_lost" or doubt.resolve_at is None:
            yield "I2", f"{name} was given up, and its doubt policy is {doubt.policy}"
        elif at < doubt.resolve_at:
            yield "I2", f"{name} was given up at {at.isoformat()}, before {doubt.resolve_at.isoformat()}"


def _jobs_of(event: Event) -> tuple[JobName, ...]:
    if isinstance(event, JobsReady):
        return event.jobs
    job = getattr(event, "job", None)
    # The waits of a whole run name none.
    return (job,) if job else ()
