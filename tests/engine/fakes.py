"""A whole deployment in one process: stores in memory, targets that are told how long work takes, a clock that only we move.

`World` is what survives a crash: stores, and executions at targets. `Node` is one process over it: the use cases as the engine puts
them together, with a queue in memory; a crash is a `Crash` raised out of any port call, and recovery is a new `Node`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from local.queue import MemoryQueue
from shared.decide.commands import Advance, RunCommand
from shared.effects import (
    AdvancePool,
    AdvanceRun,
    AskForPlace,
    CheckPlaces,
    DeliverNotice,
    Effect,
    GiveBackPlace,
    LookAtWaits,
    ObserveAttempt,
    PlanNoticesOf,
    StartAttempt,
    StopAttempt,
    TellOfPlace,
    TellParent,
)
from shared.errors import CorruptStream, TargetRefused, TargetUnavailable, UnknownEvents
from shared.ids import Handle, JobName, RunId, StreamName, Token, attempt_token, run_stream
from shared.ports import PAGE_MAX, BackfillRow, Message, NoticeRow, Reference, Report, Request, RunRow, WorkflowRow
from shared.state.backfill import BackfillState
from shared.state.notices import NoticeLog
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.stores.memory import MemoryDocuments, MemoryDues, MemoryStore, MemoryViews, MemoryWaiters
from shared.usecases.admission import Admission
from shared.usecases.control import Control
from shared.usecases.dispatch import Dispatch, Learnt
from shared.usecases.loading import Loaded, Loader, PlanCache
from shared.usecases.notices import Notices
from shared.usecases.places import Places
from shared.usecases.sweep import Sweep, pending_and_due
from shared.usecases.transact import Transact
from shared.usecases.verify import Derive, verify
from shared.usecases.waits import Waits, Wake
from shared.views.rows import backfill_row, notice_row, run_row, workflow_row
from shared.workflow.notices import CHANNELS

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FOR_EVER = timedelta(days=3650)
ROUNDS_MAX = 400
"""Moments at which something happened, in one test; more means that something turns in a circle."""
MESSAGES_MAX = 400
"""Messages carried out at one moment."""


class Crash(BaseException):
    """The process ended here."""


class Clock:
    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """As a monotonic clock."""
        return (self.now - NOON).total_seconds()


class Points:
    """Counts port calls, two for each (before and after it), and ends the process at the one that was chosen."""

    def __init__(self) -> None:
        self.count = 0
        self.crash_at: frozenset[int] = frozenset()
        self.names: list[str] = []

    def pass_through(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.count in self.crash_at:
            raise Crash(f"point {self.count}: {name}")


class Breaking:
    """A port whose named methods may end the process before or after they did their work."""

    def __init__(self, port: Any, points: Points, methods: tuple[str, ...]) -> None:
        self._port = port
        self._points = points
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name not in self._methods:
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            self._points.pass_through(f"before {name}")
            answer = method(*arguments, **named)
            self._points.pass_through(f"after {name}")
            return answer

        return call


@dataclass(slots=True)
class Execution:
    """Work at a target."""

    run: RunId
    job: JobName
    attempt: int
    started_at: datetime
    ends_at: datetime
    exit_code: int
    times: int = 1
    """How often it was begun: anything but 1 is what must never happen."""
    stopped_at: datetime | None = None
    told: bool = False

    def status(self, now: datetime) -> str:
        if self.stopped_at is not None and self.stopped_at < self.ends_at:
            return "cancelled"
        if now < self.ends_at:
            return "running"
        return "succeeded" if self.exit_code == 0 else "failed"


@dataclass(frozen=True, slots=True)
class Behaviour:
    seconds: float = 10
    exit_codes: tuple[int, ...] = (0,)
    """By attempt; the last one for all that follow."""


class Targets:
    """An `Executor`, and the world behind it. With `takes_token` starting again starts nothing again."""

    def __init__(
        self, clock: Clock, behaviours: Mapping[str, Behaviour], *, takes_token: bool, runs_at_once: bool
    ) -> None:
        self.takes_token = takes_token
        self.token_seconds: float | None = None
        self.runs_at_once = runs_at_once
        self.executions: dict[Token, Execution] = {}
        self._clock = clock
        self._behaviours = behaviours

    def start(self, request: Request) -> Handle:
        known = self.executions.get(request.token)
        if known is None:
            behaviour = self._behaviours.get(request.job, Behaviour())
            code = behaviour.exit_codes[min(request.attempt, len(behaviour.exit_codes)) - 1]
            ends_at = self._clock.now + timedelta(seconds=behaviour.seconds)
            self.executions[request.token] = Execution(
                request.run, request.job, request.attempt, self._clock.now, ends_at, code
            )
        elif not self.takes_token:
            known.times += 1
        return _handle(request.token)

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        return [self._report(reference) for reference in references]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        execution = self.executions.get(reference.token)
        if execution is not None and execution.stopped_at is None:
            execution.stopped_at = self._clock.now

    def news(self) -> list[Reference]:
        """Attempts that ended, each told once; whoever asks may crash and lose it, as with events of targets."""
        ended = []
        for token, execution in self.executions.items():
            if not execution.told and execution.status(self._clock.now) != "running":
                execution.told = True
                ended.append(Reference(token, execution.run, execution.job, execution.attempt, _handle(token)))
        return ended

    def next_end(self) -> datetime | None:
        return min((one.ends_at for one in self.executions.values() if not one.told), default=None)

    def _report(self, reference: Reference) -> Report:
        execution = self.executions.get(reference.token)
        status: Any = "missing" if execution is None else execution.status(self._clock.now)
        return Report(
            token=reference.token,
            run=reference.run,
            job=reference.job,
            attempt=reference.attempt,
            status=status,
            handle=reference.handle if execution is None else _handle(reference.token),
            exit_code=execution.exit_code if execution is not None and status in ("succeeded", "failed") else None,
            failure="user" if status == "failed" else None,
            started_at=execution.started_at if execution is not None else None,
        )


def _handle(token: Token) -> Handle:
    return Handle(f"fake:{token}")


class FakeFiles:
    """Files by address, with what is found; each look is counted."""

    prefix = "/"

    def __init__(self) -> None:
        self.there: dict[str, str] = {}
        self.looks = 0

    def find(self, address: str) -> str | None:
        self.looks += 1
        if not address.startswith(self.prefix):
            raise TargetRefused(f"{address} is no path")
        return self.there.get(address)


class Letterbox:
    """A channel, and what it was handed; the first so many times it does not take it."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refusals = 0

    def send(self, message: Message) -> str:
        if self.refusals > 0:
            self.refusals -= 1
            raise TargetUnavailable("busy")
        self.taken.append(message.id)
        return f"letter {len(self.taken)}"


@dataclass
class World:
    """What outlives every process."""

    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    takes_token: bool = True
    runs_at_once: bool = True
    clock: Clock = field(default_factory=Clock)
    points: Points = field(default_factory=Points)
    crashes: int = 0

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.dues = MemoryDues()
        self.views = MemoryViews()
        self.documents = MemoryDocuments()
        self.waiters = MemoryWaiters()
        self.files = FakeFiles()
        self.letters = Letterbox()
        self.targets = Targets(
            self.clock, self.behaviours, takes_token=self.takes_token, runs_at_once=self.runs_at_once
        )
        self.ids = 0

    def new_id(self) -> str:
        self.ids += 1
        return f"id{self.ids:06}"

    def loader(self) -> Loader:
        return Loader(self.store, PlanCache(self.documents))

    def runs(self) -> dict[RunId, Run]:
        """Every run, folded from its events."""
        loader, found = self.loader(), {}
        for stream in self.store.streams("run"):
            state = loader.load(stream).state
            assert isinstance(state, Run)
            found[state.run] = state
        return found


class LosingEffects:
    """An outbox that loses what `loses` says, which is what a crash between commit and hand-over does."""

    def __init__(self, queue: MemoryQueue, points: Points, loses: Callable[[Effect], bool]) -> None:
        self._queue = queue
        self._points = points
        self._loses = loses

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        kept = [effect for effect in effects if not self._loses(effect)]
        if kept:
            self._points.pass_through("before send")
            self._queue.send(kept, delay_seconds=delay_seconds)


class Node:
    """One process: everything it holds itself is gone when it ends."""

    def __init__(
        self,
        world: World,
        *,
        loses: Callable[[Effect], bool] = lambda _: False,
        copies: int = 1,
        recovers: bool = True,
        wakes: bool = True,
    ) -> None:
        """`wakes`: runs that wait hear of the ends of what they wait for."""
        self.world = world
        self._wakes = wakes
        self._woken = world.store.position()
        self.copies = copies
        points = world.points
        self.queue = MemoryQueue(world.clock.seconds)
        effects = LosingEffects(self.queue, points, loses)
        store = Breaking(world.store, points, ("append",))
        dues = Breaking(world.dues, points, ("lower", "raise_to", "remove"))
        documents = Breaking(world.documents, points, ("put",))
        self.views = Breaking(world.views, points, ("put_run", "put_workflow", "put_backfill", "put_notices"))
        targets = Breaking(world.targets, points, ("start", "observe", "stop"))
        self.plans = PlanCache(documents)
        loader = Loader(store, self.plans)
        self.transact = Transact(store, dues, loader, effects, now=world.clock, new_id=world.new_id)
        self.dispatch = Dispatch(
            self.transact, {"ecs": targets, "emr": targets, "ssm": targets}, now=world.clock, claimer=world.new_id()
        )
        self.admission = Admission(self.transact)
        self.places = Places(self.transact)
        waiters = Breaking(world.waiters, points, ("add", "remove"))
        self.waits = Waits(self.transact, waiters, world.files, now=world.clock)
        self.wake = Wake(waiters, effects, now=world.clock)
        letters = Breaking(world.letters, points, ("send",))
        couriers = dict.fromkeys(CHANNELS, letters)
        self.notices = Notices(self.transact, world.views, couriers, now=world.clock)
        self.sweep = Sweep(self.transact, dues, effects, self.settle, now=world.clock)
        self.control = Control(self.transact, documents, new_id=world.new_id)
        if recovers:
            for row in world.dues.due(datetime.max.replace(tzinfo=UTC), limit=PAGE_MAX):
                loaded = self._current(row.stream)
                if loaded is not None:
                    self.queue.send(pending_and_due(loaded.state, world.clock.now, everything=True)[0])

    def turn(self) -> None:
        """Everything that can be done at this moment."""
        self.sweep()
        for _ in range(MESSAGES_MAX):
            for reference in self.world.targets.news():
                known = self.dispatch.reference(reference.run, reference.job, reference.attempt)
                self._learn(self.dispatch.report(report) for report in self.world.targets.observe([known or reference]))
            received = self.queue.receive(1) or (self._wake() and self.queue.receive(1))
            if not received:
                return
            for receipt, effect in received:
                for _ in range(self.copies):
                    self.carry_out(effect)
                self.queue.done(receipt)
        raise AssertionError("messages breed")

    def _wake(self) -> bool:
        """Wake who waits for what has moved, as the relay does; whether anything had."""
        moved = self.world.store.moved_since(self._woken)
        for position, stream in moved:
            self._woken = position
            loaded = self._current(stream) if self._wakes else None
            if loaded is not None:
                self.wake(loaded)
        return bool(moved)

    def carry_out(self, effect: Effect) -> None:
        try:
            self._carry_out(effect)
        except (CorruptStream, UnknownEvents):
            return

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                self._learn(self.dispatch.start(effect))
            case StopAttempt():
                self._learn(self.dispatch.stop(effect))
            case TellParent():
                self._learn(self.dispatch.tell_parent(effect))
            case ObserveAttempt():
                self._learn(self.dispatch.observe([effect]))
            case AdvanceRun(run=run):
                self.transact(run_stream(run), Advance(), by="node", cause="time")
            case LookAtWaits():
                self.waits(effect)
            case DeliverNotice():
                self.notices.deliver(effect)
            case PlanNoticesOf():
                self.notices.plan_of(effect)
            case CheckPlaces(pool=pool):
                self.places.check(pool)
            case AskForPlace() | GiveBackPlace() | TellOfPlace() | AdvancePool():
                for _, carry_out in self.places.tasks([effect]):
                    carry_out()
            case _:
                self.admission(effect)

    def settle(self, loaded: Loaded) -> None:
        match loaded.state:
            case Run() as run:
                self.views.put_run(run_row(run, loaded.version))
            case WorkflowState() as workflow:
                plan = self.plans((workflow.live or workflow.versions[-1]).document)
                self.views.put_workflow(workflow_row(workflow, loaded.version, plan))
            case BackfillState() as backfill:
                self.views.put_backfill(backfill_row(backfill, loaded.version, self.plans(backfill.request.document)))
            case NoticeLog() as log if log.sending:
                self.views.put_notices(notice_row(log, loaded.version))
            case _:
                pass
        self.notices.plan(loaded)

    def _current(self, stream: StreamName) -> Loaded | None:
        try:
            return self.transact.current(stream)
        except (CorruptStream, UnknownEvents):
            return None

    def _learn(self, learnt: Iterable[Learnt]) -> None:
        by_run: dict[RunId, list[RunCommand]] = {}
        for run, command in learnt:
            by_run.setdefault(run, []).append(command)
        for run, commands in by_run.items():
            self.transact.batch(run_stream(run), commands, by="node", cause="report")


def drive(
    world: World,
    asks: Sequence[Callable[[Node], object]],
    *,
    make: Callable[[World], Node] = Node,
    until: Callable[[World], bool] | None = None,
) -> Node:
    """Work, moment by moment, until every run has ended and nothing is due; people ask for something at each moment.

    What is asked is asked again after a crash, as people and programs do that got no answer; it must bear that.
    """
    node: Node | None = None
    waiting = list(asks)
    for _ in range(ROUNDS_MAX):
        try:
            if node is None:
                node = make(world)
            if waiting:
                waiting[0](node)
                waiting.pop(0)
            node.turn()
        except Crash:
            world.crashes += 1
            node = None
            continue
        if until is not None and until(world):
            return node
        if not waiting and until is None and world.dues.next_at() is None:
            return node
        due = world.dues.next_at()
        if due is not None and due <= world.clock.now:
            # Decided in this very turn, and due at this very moment.
            continue
        moments = [due, world.targets.next_end()]
        following = [moment for moment in moments if moment is not None and moment > world.clock.now]
        waits = node.queue.next_in()
        if waits is not None:
            following.append(world.clock.now + timedelta(seconds=max(waits, 0.001)))
        if waiting:
            following.append(world.clock.now + timedelta(seconds=1))
        assert following, "nothing will ever happen again, and something is not done"
        world.clock.now = min(following)
    raise AssertionError(f"not settled after {ROUNDS_MAX} moments: {world.store.moved_since(0)[-20:]}")


def ends(world: World) -> dict[str, Any]:
    """How everything ended, without what may differ from one history to another: times, versions, who."""
    return {
        str(run): {
            "outcome": state.outcome,
            "jobs": {
                str(name): (job.status, [(one.attempt, one.status, one.failure) for one in job.attempts])
                for name, job in sorted(state.jobs.items())
            },
        }
        for run, state in sorted(world.runs().items())
    }


def derived(plans: PlanCache) -> Derive:
    """The row that lists must show for a state."""

    def row(stream: StreamName, state: object, version: int) -> RunRow | WorkflowRow | BackfillRow | NoticeRow | None:
        match state:
            case Run():
                return run_row(state, version)
            case WorkflowState():
                return workflow_row(state, version, plans((state.live or state.versions[-1]).document))
            case BackfillState():
                return backfill_row(state, version, plans(state.request.document))
            case NoticeLog() if state.sending:
                return notice_row(state, version)
            case _:
                return None

    return row


def check_invariants(world: World) -> None:
    """What `runfold verify` checks on a real history."""
    plans = PlanCache(world.documents)
    found = verify(world.store, plans, now=world.clock.now, dues=world.dues, views=world.views, derive=derived(plans))
    assert [str(violation) for violation in found] == []


def check_executions(world: World) -> None:
    """Every execution belongs to an attempt that knows it, and was begun once."""
    for token, execution in world.targets.executions.items():
        assert execution.times == 1, execution
        assert attempt_token(execution.run, execution.job, execution.attempt) == token
