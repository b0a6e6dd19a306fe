"""The engine for one machine: one thread, one loop, woken by what happens and asleep otherwise.

What it promises: every decision is durable before anything is done about it, and everything that is done carries its attempt's token.
So it may be killed at any instant: a start reads the events, hands over again whatever should be under way, re-attaches to processes
that live and learns how others ended. It repeats nothing and loses nothing.

A turn of the loop: learn (ended processes, other writers, time, documents) ▸ commit what was learnt, together, in one transaction ▸
carry out the effects ▸ and again until nothing is left ▸ bring the views up to date ▸ sleep.
"""

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from local.home import EngineLock, Home
from local.inbox import Inbox
from local.queue import MemoryQueue
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.decide.commands import Advance, RunCommand
from shared.effects import (
    AdvanceRun,
    CancelDisplaced,
    CheckHolders,
    Effect,
    ObserveAttempt,
    OpenRun,
    StartAttempt,
    StopAttempt,
    TellWorkflow,
    TickWorkflow,
)
from shared.errors import Conflict, CorruptStream, Rejected, StoreUnavailable, UnknownEvents
from shared.executors.process import ProcessExecutor, become_subreaper
from shared.ids import StreamName, WorkflowName, run_stream, workflow_stream
from shared.ports import PAGE_MAX, Reference
from shared.state.run import Claimed, Doubted, Queued, Run, Submitted
from shared.state.workflow import WorkflowState
from shared.usecases.admission import Admission
from shared.usecases.dispatch import Dispatch, Learnt
from shared.usecases.loading import Loaded
from shared.usecases.sweep import Sweep, pending_and_due
from shared.views.rows import run_row, workflow_row

logger = logging.getLogger("runfold.engine")

BATCH_MAX = 64
"""Messages carried out between two commits: the first results are durable soon, and a burst shares its fsyncs."""
VIEWS_EVERY_SECONDS = 0.1
"""While the engine is busy, lists are at most this old; when it is idle they are exact."""
OUTPUT_EVERY_SECONDS = 0.25
"""While jobs run, the resolution of the times shown beside their output."""
OUTPUT_LOOKS_PER_SECOND = 2_000
"""Files looked at a second for that, whatever the number of jobs: with thousands the resolution becomes coarser instead."""
SLEEP_MAX_SECONDS = 60.0
"""The longest sleep. Nothing depends on it; it bounds the harm of a clock that jumps."""
RETRY_SECONDS = 1.0
"""Between tries while the disk is full or the file is locked by somebody."""
TURNS_MAX = 10_000
"""Rounds of commits and effects before the loop looks at its signals again."""


class Engine:
    """Runs one home. `environment` is where secrets by `env:NAME` come from."""

    def __init__(
        self,
        home: Home,
        *,
        environment: Mapping[str, str] | None = None,
        synchronous: str = "FULL",
        watch_documents: bool = True,
    ) -> None:
        home.make()
        self.home = home
        self._lock = EngineLock(home)
        self._lock.take()
        self._closing = contextlib.ExitStack()
        self._closing.callback(self._lock.release)
        try:
            self._build(home, dict(os.environ if environment is None else environment), synchronous, watch_documents)
        except BaseException:
            self._closing.close()
            raise

    def _build(self, home: Home, environment: Mapping[str, str], synchronous: str, watch_documents: bool) -> None:
        self._queue = MemoryQueue(time.monotonic)
        self._outgoing = _Outgoing()
        self.parts: LocalParts = local_parts(
            home.database,
            home.documents,
            self._outgoing,
            synchronous="NORMAL" if synchronous == "NORMAL" else "FULL",
        )
        self._closing.callback(self.parts.close)
        transact = self.parts.transact
        self._transact = transact
        self.executor = ProcessExecutor(home.path, environment=environment, now=utc_now)
        executors = {"ecs": self.executor, "emr": self.executor, "ssm": self.executor}
        self._dispatch = Dispatch(transact, executors, now=utc_now, claimer=f"engine:{os.getpid()}")
        self._admission = Admission(transact)
        self._sweep = Sweep(transact, self.parts.dues, self._outgoing, self._settle, now=utc_now)
        self._learnt: list[Learnt] = []
        self._dirty: dict[StreamName, None] = {}
        self._views_at = 0.0
        self._output_at = 0.0
        self._executor_at: datetime | None = None
        self._retry_until = 0.0
        self._position = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._closing.callback(self._selector.close)
        self._watched: dict[int, object] = {}
        self._open_wake()
        self.inbox = Inbox(home.workflows, self.parts) if watch_documents else None
        if self.inbox is not None:
            self._closing.callback(self.inbox.close)
            if self.inbox.fileno() is not None:
                self._selector.register(self.inbox, selectors.EVENT_READ, self._documents_changed)

    # --- life ---------------------------------------------------------------------------------------------------------

    def run(self, *, until: Callable[[], bool] | None = None) -> None:
        """Work until `until` holds (looked at after each turn), a signal asks for the end, or `stop` was called.

        Jobs that run are left running; the next engine takes them up again. Must be called in the main thread.
        """
        with self._signals():
            become_subreaper()
            self._recover()
            while not self._stopping and not (until is not None and until()):
                self._turn()
                if until is not None and until():
                    break
                if not self._stopping:
                    self._sleep()
            self._flush_views()

    def stop(self) -> None:
        """Leave the loop after this turn."""
        self._stopping = True

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _recover(self) -> None:
        """Memory is empty: refill it from the events of every live stream."""
        self._position = self.parts.store.position()
        references: list[Reference] = []
        now = utc_now()
        for row in self._live_rows():
            loaded = self._current(row)
            if loaded is None:
                continue
            self._dirty[row] = None
            if isinstance(loaded.state, Run):
                references.extend(self._open_attempts(loaded.state))
            effects, _ = pending_and_due(loaded.state, now, everything=True)
            self._queue.send(effects)
        self.executor.attach(references)
        self._reaped()
        if self.inbox is not None:
            self.inbox.scan()

    def _live_rows(self) -> list[StreamName]:
        # Every live stream has a due row, however far off; beyond one page they are walked by name, which pages.
        rows = self.parts.dues.due(datetime.max.replace(tzinfo=UTC), limit=PAGE_MAX)
        found = [row.stream for row in rows]
        if len(rows) < PAGE_MAX:
            return found
        found.clear()
        for kind in ("run", "workflow"):
            after = ""
            while names := self.parts.store.streams(kind, after=after):
                found.extend(name for name in names if self.parts.dues.get(name) is not None)
                after = names[-1]
        return found

    def _open_attempts(self, run: Run) -> Iterable[Reference]:
        for name in run.live:
            match run.jobs[name].phase:
                case Queued() | Claimed() | Submitted() | Doubted() as phase:
                    reference = self._dispatch.reference(run.run, name, phase.attempt)
                    if reference is not None:
                        yield reference
                case _:
                    pass

    # --- one turn -----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Commit and carry out until nothing is left that can be done now."""
        self._sweep_if_due()
        for _ in range(TURNS_MAX):
            if not self._commit():
                break
            received = self._queue.receive(BATCH_MAX)
            if not received:
                break
            self._carry_out(received)
            self._reaped()
        self._executor_at = self.executor.tick(utc_now())
        self._sync_watched()
        self._flush_views_if_due()

    def _commit(self) -> bool:
        """Store what was learnt, all streams in one transaction; False when the store does not take it now."""
        if not self._learnt:
            return True
        if time.monotonic() < self._retry_until:
            return False
        learnt, self._learnt = self._learnt, []
        by_stream: dict[StreamName, list[RunCommand]] = {}
        for run, command in learnt:
            by_stream.setdefault(run_stream(run), []).append(command)
        return self._in_batch(lambda: self._decide_all(by_stream), back=learnt)

    def _decide_all(self, by_stream: Mapping[StreamName, list[RunCommand]]) -> None:
        for stream, commands in by_stream.items():
            try:
                decided = self._transact.batch(stream, commands, by="engine", cause="report")
            except (CorruptStream, UnknownEvents) as error:
                logger.error("%s is left alone: %s", stream, error)
                continue
            if decided.events:
                self._dirty[stream] = None

    def _in_batch(self, work: Callable[[], None], *, back: list[Learnt]) -> bool:
        """Do `work` in one transaction; if it cannot be stored, nothing happened, and `back` is tried again."""
        try:
            with self.parts.store.batch():
                work()
        except (StoreUnavailable, Conflict) as error:
            # States in memory may be ahead of the file: forget them, and try again in a while.
            self._transact.forget()
            self._outgoing.clear()
            self._learnt = back + self._learnt
            self._retry_until = time.monotonic() + RETRY_SECONDS
            logger.error("nothing can be stored for now, trying again: %s", error)
            return False
        self._queue.send(self._outgoing.take())
        return True

    def _carry_out(self, received: list[tuple[int, Effect]]) -> None:
        observations: list[ObserveAttempt] = []
        commits: list[tuple[int, Effect]] = []
        for receipt, effect in received:
            match effect:
                case StartAttempt():
                    self._learnt.extend(self._dispatch.start(effect))
                    self._queue.done(receipt)
                case StopAttempt():
                    self._learnt.extend(self._dispatch.stop(effect))
                    self._queue.done(receipt)
                case ObserveAttempt():
                    observations.append(effect)
                    self._queue.done(receipt)
                case _:
                    commits.append((receipt, effect))
        if observations:
            self._learnt.extend(self._dispatch.observe(observations))
        if commits:
            stored = self._in_batch(lambda: self._decide_effects([effect for _, effect in commits]), back=[])
            for receipt, _ in commits:
                if stored:
                    self._queue.done(receipt)
                else:
                    self._queue.failed(receipt, delay_seconds=RETRY_SECONDS)

    def _decide_effects(self, effects: list[Effect]) -> None:
        for effect in effects:
            try:
                self._decide_effect(effect)
            except (Rejected, CorruptStream, UnknownEvents) as error:
                logger.error("%s: %s", type(effect).__name__, error)

    def _decide_effect(self, effect: Effect) -> None:
        match effect:
            case AdvanceRun(run=run):
                self._transact(run_stream(run), Advance(), by="engine", cause="time")
                self._dirty[run_stream(run)] = None
            case OpenRun(request=request):
                self._admission.open_run(effect)
                self._dirty[run_stream(request.run)] = None
            case CancelDisplaced(run=run):
                self._admission.cancel_displaced(effect)
                self._dirty[run_stream(run)] = None
            case TellWorkflow(workflow=workflow):
                self._admission.tell_workflow(effect)
                self._touch_workflow(workflow)
            case TickWorkflow(workflow=workflow):
                self._admission.tick(effect)
                self._touch_workflow(workflow)
            case CheckHolders(workflow=workflow):
                self._admission.check_holders(effect)
                self._touch_workflow(workflow)
            case StartAttempt() | StopAttempt() | ObserveAttempt():
                raise AssertionError("carried out elsewhere")

    def _touch_workflow(self, workflow: WorkflowName) -> None:
        self._dirty[workflow_stream(workflow)] = None

    # --- what happens outside -----------------------------------------------------------------------------------------

    def _reaped(self) -> None:
        """Ended processes become reports."""
        self._look_at(self.executor.reap())

    def _look_at(self, attempts: Iterable[Any]) -> None:
        references = [
            reference
            for one in attempts
            if (reference := self._dispatch.reference(one.run, one.job, one.attempt)) is not None
        ]
        if references:
            self._learnt.extend(self._dispatch.report(report) for report in self.executor.observe(references))

    def _others_wrote(self) -> None:
        """Another process committed: hand over what its commits led to."""
        now = utc_now()
        while moved := self.parts.store.moved_since(self._position, PAGE_MAX):
            for stream in dict.fromkeys(stream for _, stream in moved):
                known = self._transact.kept(stream)
                loaded = self._current(stream)
                if loaded is None or (known is not None and known.version == loaded.version):
                    continue
                self._dirty[stream] = None
                effects, _ = pending_and_due(loaded.state, now, everything=True)
                self._queue.send(effect for effect in effects if not isinstance(effect, ObserveAttempt))
            self._position = moved[-1][0]

    def _documents_changed(self) -> None:
        assert self.inbox is not None
        self.inbox.read()
        self._others_wrote()

    def _sweep_if_due(self) -> None:
        next_at = self.parts.dues.next_at()
        if next_at is not None and next_at <= utc_now():
            with self.parts.store.batch():
                self._sweep()
            self._queue.send(self._outgoing.take())

    def _current(self, stream: StreamName) -> Loaded | None:
        try:
            return self._transact.current(stream)
        except (CorruptStream, UnknownEvents) as error:
            logger.error("%s is left alone: %s", stream, error)
            return None

    # --- views --------------------------------------------------------------------------------------------------------

    def _settle(self, loaded: Loaded) -> None:
        self._derive(loaded)
        self._dirty.pop(loaded.stream, None)
        self._transact.drop(loaded.stream)

    def _flush_views_if_due(self) -> None:
        if not self._dirty:
            return
        busy = bool(self._learnt) or bool(len(self._queue))
        if not busy or time.monotonic() - self._views_at >= VIEWS_EVERY_SECONDS:
            self._flush_views()

    def _flush_views(self) -> None:
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        try:
            with self.parts.database.batch():
                for stream in dirty:
                    loaded = self._transact.kept(stream) or self._current(stream)
                    if loaded is not None:
                        self._derive(loaded)
        except StoreUnavailable as error:
            self._dirty = dirty | self._dirty
            logger.error("views cannot be brought up to date for now: %s", error)
        self._views_at = time.monotonic()

    def _derive(self, loaded: Loaded) -> None:
        match loaded.state:
            case Run() as run:
                self.parts.views.put_run(run_row(run, loaded.version))
            case WorkflowState() as workflow:
                newest = workflow.live or workflow.versions[-1]
                plan = self.parts.plans(newest.document)
                self.parts.views.put_workflow(workflow_row(workflow, loaded.version, plan))
            case _:
                pass

    # --- sleeping and waking ------------------------------------------------------------------------------------------

    def _sleep(self) -> None:
        for key, _ in self._selector.select(self._sleep_seconds()):
            wake: Callable[[], None] = key.data
            wake()
        if self.executor.needs_polling:
            self._look_at(self.executor.running())
        self._note_output_if_due()

    def _sleep_seconds(self) -> float:
        now = utc_now()
        bounds = [SLEEP_MAX_SECONDS]
        next_at = self.parts.dues.next_at()
        if next_at is not None:
            bounds.append((next_at - now).total_seconds())
        waiting = self._queue.next_in()
        if waiting is not None:
            bounds.append(waiting)
        if self._executor_at is not None:
            bounds.append((self._executor_at - now).total_seconds())
        if self._learnt:
            bounds.append(self._retry_until - time.monotonic())
        if self._dirty:
            bounds.append(self._views_at + VIEWS_EVERY_SECONDS - time.monotonic())
        if self.executor.running():
            bounds.append(self._output_at + self._output_every() - time.monotonic())
        if self.executor.needs_polling:
            bounds.append(1.0)
        return max(min(bounds), 0.0)

    def _output_every(self) -> float:
        return max(OUTPUT_EVERY_SECONDS, 2 * len(self.executor.running()) / OUTPUT_LOOKS_PER_SECOND)

    def _note_output_if_due(self) -> None:
        now = time.monotonic()
        if self.executor.running() and now - self._output_at >= self._output_every():
            self.executor.note_output(utc_now())
            self._output_at = now

    def _open_wake(self) -> None:
        # Opened for writing as well, so that the FIFO never reads as ended when a writer goes.
        descriptor = os.open(self.home.wake, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._closing.callback(os.close, descriptor)

        def woken() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 4096)
            self._others_wrote()

        self._selector.register(descriptor, selectors.EVENT_READ, woken)

    def _sync_watched(self) -> None:
        wanted = self.executor.watch_fds()
        for descriptor in [one for one in self._watched if one not in wanted]:
            self._selector.unregister(descriptor)
            del self._watched[descriptor]
        for descriptor, attempt in wanted.items():
            if descriptor not in self._watched:
                self._watched[descriptor] = attempt
                self._selector.register(
                    descriptor, selectors.EVENT_READ, lambda descriptor=descriptor: self._process_ended(descriptor)
                )

    def _process_ended(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        del self._watched[descriptor]
        self._look_at(self.executor.fd_ready(descriptor))

    @contextlib.contextmanager
    def _signals(self) -> Any:
        """SIGCHLD wakes the loop; SIGTERM and SIGINT end it."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def drained() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(read, 4096)
            self._reaped()

        def ask_to_end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self._stopping = True

        before = {
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
            signal.SIGTERM: signal.signal(signal.SIGTERM, ask_to_end),
            signal.SIGINT: signal.signal(signal.SIGINT, ask_to_end),
        }
        old = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._selector.register(read, selectors.EVENT_READ, drained)
        try:
            yield
        finally:
            self._selector.unregister(read)
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(read)
            os.close(write)


class _Outgoing:
    """Effects of commits that are not durable yet: they leave only after the transaction."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:  # noqa: ARG002
        self._effects.extend(effects)

    def take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    def clear(self) -> None:
        self._effects.clear()
