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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

from local.channels import channels
from local.home import EngineLock, Home
from local.inbox import Inbox
from local.metrics import Metrics
from local.queue import MemoryQueue
from local.settings import LocalSettings, read_settings
from local.telling import Tellers
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.decide.commands import Advance, RecordReport, RunCommand
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
from shared.errors import (
    Conflict,
    CorruptStream,
    NotFound,
    Rejected,
    RunfoldError,
    StoreUnavailable,
    TargetUnavailable,
    UnknownEvents,
)
from shared.executors.process import ProcessExecutor, become_subreaper
from shared.ids import StreamName, notices_stream, run_stream
from shared.ports import PAGE_MAX, Reference
from shared.state.run import Claimed, Doubted, Queued, Run, Submitted
from shared.stores.files import LocalFiles
from shared.usecases.admission import Admission
from shared.usecases.dispatch import Dispatch, Learnt
from shared.usecases.loading import Loaded
from shared.usecases.notices import Notices, rules_of
from shared.usecases.places import Places
from shared.usecases.sweep import Sweep, pending_and_due
from shared.usecases.triggers import listeners_of_end
from shared.usecases.waits import Waits, Wake
from shared.views.derive import derive

logger = logging.getLogger("runfold.engine")

BATCH_MAX = 64
"""Messages carried out between two commits: the first results are durable soon, and a burst shares its fsyncs."""
VIEWS_EVERY_SECONDS = 0.1
"""Lists are at most this old: bringing them up to date costs a commit."""
OUTPUT_EVERY_SECONDS = 0.25
"""While jobs run, the resolution of the times shown beside their output."""
OUTPUT_LOOKS_PER_SECOND = 2_000
"""Files looked at a second for that, whatever the number of jobs: with thousands the resolution becomes coarser instead."""
SLEEP_MAX_SECONDS = 60.0
"""The longest sleep. Nothing depends on it; it bounds the harm of a clock that jumps."""
CLOCK_SET_SECONDS = 5.0
"""The wall clock was set when it moved by so much against the monotonic one; a clock that is kept right moves by less."""
RETRY_SECONDS = 1.0
"""Between tries while the disk is full or the file is locked by somebody."""
COMPANY_SECONDS = 0.01
"""A start waits this long to be recorded together with something else, such as the end of a short job. Until then the token
guards it: after a crash the work is found, not repeated."""
LEAVE_SECONDS_MAX = 15.0
"""An engine that has nothing else to do waits this long for channels."""
ENDED_KEPT_MAX = 64
"""Ended runs kept in memory, for whoever waits for their end."""
TURNS_MAX = 10_000
"""Rounds of commits and effects before the loop looks at its signals again."""


class Engine:
    """Runs one home, as its settings.yaml says (`InvalidInput` when that is wrong). `environment` is where secrets by `env:NAME`
    come from; `synchronous` goes before what the settings say."""

    def __init__(
        self,
        home: Home,
        *,
        environment: Mapping[str, str] | None = None,
        synchronous: str | None = None,
        watch_documents: bool = True,
    ) -> None:
        home.make()
        self.home = home
        settings = read_settings(home.settings)
        self._lock = EngineLock(home)
        self._lock.take()
        self._closing = contextlib.ExitStack()
        self._closing.callback(self._lock.release)
        try:
            environment = dict(os.environ if environment is None else environment)
            self._build(home, environment, settings, synchronous or settings.synchronous, watch_documents)
        except BaseException:
            self._closing.close()
            raise

    def _build(
        self,
        home: Home,
        environment: Mapping[str, str],
        settings: LocalSettings,
        synchronous: str,
        watch_documents: bool,
    ) -> None:
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
        self._steady = SteadyClock()
        # Grace periods of stops are measured on it: a clock that is set back must not prolong them.
        self.executor = ProcessExecutor(
            home.path,
            environment=environment,
            now=self._steady,
            hosts=settings.host_list(environment),
            secret_variables=settings.secrets,
            containers=settings.containers,
        )
        self._closing.callback(self._close_watched)
        executors = {"ecs": self.executor, "emr": self.executor, "ssm": self.executor}
        self._dispatch = Dispatch(transact, executors, now=utc_now, claimer=f"engine:{os.getpid()}")
        self._admission = Admission(transact)
        self._waits = Waits(transact, self.parts.waiters, LocalFiles(), now=utc_now)
        self._wake = Wake(self.parts.waiters, self._queue, now=utc_now)
        self._places = Places(transact)
        couriers = channels(settings, environment)
        self._notices = Notices(transact, self.parts.views, couriers, now=utc_now, address=settings.notices.address)
        self._tellers = Tellers()
        self._closing.callback(self._tellers.close)
        self._sweep = Sweep(transact, self.parts.dues, self._outgoing, self._settle, now=utc_now)
        self.metrics = Metrics(self._queue, self._sweep.refused, now=utc_now)
        self._learnt: list[Learnt] = []
        self._started: list[Learnt] = []
        """Starts that wait for company until `_started_until`."""
        self._started_until = 0.0
        self._ended: deque[StreamName] = deque()
        self._dirty: dict[StreamName, None] = {}
        self._views_at = 0.0
        self._output_at = 0.0
        self._executor_at: datetime | None = None
        self._others_moved = False
        self._inbox_at = 0.0
        self._retry_until = 0.0
        self._position = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._closing.callback(self._selector.close)
        self._selector.register(self._tellers, selectors.EVENT_READ, self._record_told)
        self._watched: dict[int, object] = {}
        self._open_wake()
        self.inbox = Inbox(home.workflows, self.parts, self.metrics) if watch_documents else None
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
            recovered = False
            while not self._stopping:
                recovered = recovered or self._guarded(self._recover)
                if recovered:
                    self._guarded(self._turn)
                if self._is_over(until):
                    break
                if not self._stopping:
                    self._guarded(self._sleep)
            # What is left here is known to the processes' directories, too; but the next start is quicker so.
            self._started_until = 0.0
            self._guarded(self._commit_all)
            self._guarded(self._flush_views)
            self._guarded(self._tell_before_leaving)

    def _is_over(self, until: Callable[[], bool] | None) -> bool:
        """Whoever waits for something reads as well, and a file that is locked for now must not end the engine."""
        if until is None:
            return False
        over = False

        def look() -> None:
            nonlocal over
            over = until()

        self._guarded(look)
        return over

    def stop(self) -> None:
        """Leave the loop after this turn."""
        self._stopping = True

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _guarded(self, work: Callable[[], object]) -> bool:
        """The file may be locked, or the disk full, whenever it is touched: then everything waits, and nothing is lost."""
        try:
            work()
        except (StoreUnavailable, Conflict) as error:
            self._try_later(error)
            return False
        except OSError as error:
            # Out of descriptors, of memory: jobs end, and then there are some.
            self._try_later(error)
            return False
        return True

    def _try_later(self, error: Exception) -> None:
        # States in memory may be ahead of the file: forget them.
        self._transact.forget()
        self._notices.forget()
        self._outgoing.clear()
        self._others_moved = True
        self._retry_until = time.monotonic() + RETRY_SECONDS
        logger.error("nothing can be done for now, trying again: %s", error)

    def _recover(self) -> None:
        """Memory is empty, or old: refill it from the events of every live stream."""
        self._transact.forget()
        self._position = self.parts.store.position()
        now = utc_now()
        for stream in self._live_rows():
            with self._set_apart(stream):
                loaded = self._transact.current(stream)
                self._dirty[stream] = None
                effects, _ = pending_and_due(loaded.state, now, everything=True)
                self._queue.send(effects)
                if isinstance(loaded.state, Run):
                    self.executor.attach(list(self._open_attempts(loaded.state)))
        if self.inbox is not None:
            self.inbox.scan()

    def _live_rows(self) -> list[StreamName]:
        # Every live stream has a due row, however far off; beyond one page they are walked by name, which pages.
        rows = self.parts.dues.due(datetime.max.replace(tzinfo=UTC), limit=PAGE_MAX)
        found = [row.stream for row in rows]
        if len(rows) < PAGE_MAX:
            return found
        found.clear()
        for kind in ("run", "workflow", "backfill", "pool", "notices"):
            after = ""
            while names := self.parts.store.streams(kind, after=after):
                found.extend(name for name in names if self.parts.dues.get(name) is not None)
                after = names[-1]
        return found

    def _open_attempts(self, run: Run) -> Iterable[Reference]:
        for name in run.live:
            if run.plan.jobs[name].type == "workflow":
                # No process of this machine, but a run.
                continue
            match run.job(name).phase:
                case Queued(stop=None):
                    # Starting it again finds what it may have begun.
                    pass
                case Queued() | Claimed() | Submitted() | Doubted() as phase:
                    reference = self._dispatch.reference(run.run, name, phase.attempt)
                    if reference is not None:
                        yield reference
                case _:
                    pass

    # --- one turn -----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Commit and carry out until nothing is left that can be done now."""
        if time.monotonic() < self._retry_until:
            self._executor_at = self.executor.tick(self._steady())
            return
        self._reaped()
        self._record_told()
        self._notice_others()
        self._sweep_if_due()
        for _ in range(TURNS_MAX):
            self._commit_all()
            if self._others_moved:
                self._notice_others()
            received = self._queue.receive(BATCH_MAX)
            if not received:
                break
            self._carry_out(received)
            self._reaped()
            if self._stopping:
                break
        self._executor_at = self.executor.tick(self._steady())
        self._sync_watched()
        self._flush_views_if_due()

    def _commit_all(self) -> None:
        """Store what was learnt, all streams in one transaction."""
        if self._started and (self._learnt or time.monotonic() >= self._started_until):
            # A start stands before whatever was learnt of the same attempt.
            self._learnt = self._started + self._learnt
            self._started = []
        if not self._learnt:
            return
        learnt, self._learnt = self._learnt, []
        by_stream: dict[StreamName, list[RunCommand]] = {}
        for run, command in learnt:
            by_stream.setdefault(run_stream(run), []).append(command)
        try:
            with self._batch():
                for stream, commands in by_stream.items():
                    with self._set_apart(stream):
                        if self._transact.batch(stream, commands, by="engine", cause="report").events:
                            self._dirty[stream] = None
        except BaseException:
            self._learnt = learnt + self._learnt
            raise

    @contextlib.contextmanager
    def _batch(self) -> Iterator[None]:
        """One transaction of the store, whose effects leave when it is durable."""
        with self.parts.store.batch():
            moved = self.parts.store.position() != self._position
            yield
            position = self.parts.store.position()
        if moved:
            self._others_moved = True
        else:
            self._position = position
        self._queue.send(self._outgoing.take())

    @contextlib.contextmanager
    def _set_apart(self, what: object) -> Iterator[None]:
        """One stream that cannot be read, or that our own code fails on, must not keep the others from going on."""
        try:
            yield
        except (StoreUnavailable, Conflict):
            raise
        except (Rejected, CorruptStream, UnknownEvents) as error:
            logger.error("%s is left alone: %s", what, error)
        except Exception:
            # Our own bug. The sweep comes back to it, so it is told again for as long as it lasts.
            logger.exception("%s is left alone", what)

    def _carry_out(self, received: list[tuple[int, Effect]]) -> None:
        observations: list[tuple[int, ObserveAttempt]] = []
        commits: list[tuple[int, Effect]] = []
        for receipt, effect in received:
            match effect:
                case StartAttempt():
                    with self._answered(receipt, effect):
                        self._start(effect)
                case StopAttempt():
                    with self._answered(receipt, effect):
                        self._learn(self._dispatch.stop(effect))
                case TellParent():
                    with self._answered(receipt, effect):
                        self._learn(self._dispatch.tell_parent(effect))
                case ObserveAttempt():
                    observations.append((receipt, effect))
                case DeliverNotice():
                    with self._answered(receipt, effect):
                        self._tell(effect)
                case _:
                    commits.append((receipt, effect))
        for receipt, observation in observations:
            with self._answered(receipt, observation):
                self._learn(self._dispatch.observe([observation]))
        if commits:
            try:
                with self._batch():
                    for _, effect in commits:
                        with self._set_apart(effect):
                            self._decide_effect(effect)
            except (StoreUnavailable, Conflict):
                for receipt, _ in commits:
                    self._queue.put_off(receipt, delay_seconds=RETRY_SECONDS)
                raise
            for receipt, _ in commits:
                self._queue.done(receipt)

    @contextlib.contextmanager
    def _answered(self, receipt: int, effect: Effect) -> Iterator[None]:
        """Answer the message for what becomes of it."""
        try:
            yield
        except (StoreUnavailable, Conflict):
            self._queue.put_off(receipt, delay_seconds=RETRY_SECONDS)
            raise
        except (CorruptStream, UnknownEvents, Rejected) as error:
            logger.error("%s is left alone: %s", effect, error)
            self._queue.done(receipt)
        except (OSError, TargetUnavailable) as error:
            # The machine is short of something; jobs end, and then it is not.
            logger.error("%s has to wait: %s", effect, error)
            self._queue.put_off(receipt, delay_seconds=RETRY_SECONDS)
        except Exception:
            logger.exception("%s fails", effect)
            self._queue.failed(receipt, delay_seconds=RETRY_SECONDS)
        else:
            self._queue.done(receipt)

    def _start(self, effect: StartAttempt) -> None:
        learnt = self._dispatch.start(effect)
        if any(isinstance(command, RecordReport) and command.status == "running" for _, command in learnt):
            if not self._started:
                self._started_until = time.monotonic() + COMPANY_SECONDS
            self._started.extend(learnt)
        else:
            self._learnt.extend(learnt)

    def _learn(self, learnt: Iterable[Learnt]) -> None:
        for run, command in learnt:
            self._learnt.append((run, command))
            if isinstance(command, RecordReport) and command.status == "missing":
                # Its wrapper was killed before it began anything, so nothing is there that would ever end.
                self._queue.send([StartAttempt(run, command.job, command.attempt)], delay_seconds=RETRY_SECONDS)

    def _decide_effect(self, effect: Effect) -> None:
        match effect:
            case AdvanceRun(run=run):
                self._transact(run_stream(run), Advance(), by="engine", cause="time")
                self._dirty[run_stream(run)] = None
            case LookAtWaits():
                self._dirty[self._waits(effect)] = None
            case StartAttempt() | StopAttempt() | ObserveAttempt() | TellParent() | DeliverNotice() | PlanNoticesOf():
                raise AssertionError("carried out elsewhere")
            case AskForPlace() | GiveBackPlace() | TellOfPlace() | AdvancePool() | CheckPlaces():
                self._dirty.update(dict.fromkeys(self._places(effect)))
            case _:
                self._dirty[self._admission(effect)] = None

    # --- notices ------------------------------------------------------------------------------------------------------

    def _plan_notices(self, streams: Iterable[StreamName]) -> set[StreamName]:
        """Plan what is to be told of streams that moved; those for which that failed."""
        failed: set[StreamName] = set()
        loaded = [
            one for stream in streams if (one := self._transact.kept(stream) or self._current(stream)) is not None
        ]
        telling: list[Loaded] = []
        for one in loaded:
            failed.add(one.stream)
            with self._set_apart(one.stream):
                if rules_of(one, self.parts.plans) is not None:
                    telling.append(one)
                failed.discard(one.stream)
        if not telling:
            return failed
        with self._batch():
            for one in telling:
                failed.add(one.stream)
                with self._set_apart(one.stream):
                    if self._notices.plan(one):
                        self._dirty[notices_stream(one.stream)] = None
                    failed.discard(one.stream)
        return failed

    def _tell(self, effect: DeliverNotice) -> None:
        if self._tellers.knows(effect.notice):
            return
        delivery = self._notices.prepare(effect)
        if delivery is not None:
            self._tellers.tell(delivery)

    def _record_told(self) -> None:
        """Keep what channels answered."""
        answers = self._tellers.answers()
        if not answers:
            return
        with self._batch():
            for stream, command in answers:
                with self._set_apart(stream):
                    self._notices.record(stream, command)
                    self._dirty[stream] = None
        self._tellers.recorded(answers)

    def _tell_before_leaving(self) -> None:
        """Whoever started an engine for one run expects its notices to go; what does not go now goes with the next engine."""
        for _ in range(TURNS_MAX):
            received = self._queue.receive(BATCH_MAX)
            if not received:
                break
            for _, effect in received:
                if isinstance(effect, DeliverNotice):
                    with self._set_apart(effect):
                        self._tell(effect)
        for _ in self._tellers.waited_for(1.0 if self._stopping else LEAVE_SECONDS_MAX):
            self._record_told()
        self._flush_views()

    # --- what happens outside -----------------------------------------------------------------------------------------

    def _reaped(self) -> None:
        """Ended processes become reports."""
        self._look_at(self.executor.reap())

    def _look_at(self, attempts: Iterable[Any]) -> None:
        for one in attempts:
            look = ObserveAttempt(one.run, one.job, one.attempt)
            try:
                reference = self._dispatch.reference(one.run, one.job, one.attempt)
                if reference is None:
                    continue
                reports = self.executor.observe([reference])
            except (OSError, RunfoldError) as error:
                # Nobody tells of this end a second time.
                logger.error("%s cannot be looked at for now: %s", look, error)
                reports = []
            except Exception:
                logger.exception("%s fails", look)
                reports = []
            if reports:
                self._learn(self._dispatch.report(report) for report in reports)
            else:
                self._queue.send([look], delay_seconds=RETRY_SECONDS)

    def _notice_others(self) -> None:
        """Hand over what commits led to that were not ours: of another process, or of `parts.control` in this one."""
        self._others_moved = False
        if self.parts.store.position() == self._position:
            return
        now = utc_now()
        while moved := self.parts.store.moved_since(self._position, PAGE_MAX):
            for stream in dict.fromkeys(stream for _, stream in moved):
                known = self._transact.kept(stream)
                if known is not None and _has_ended(known):
                    # It may have been pruned, and begun anew under the same name.
                    self._transact.drop(stream)
                loaded = self._current(stream)
                if loaded is None:
                    continue
                self._dirty[stream] = None
                effects, _ = pending_and_due(loaded.state, now, everything=True)
                self._queue.send(effect for effect in effects if not isinstance(effect, ObserveAttempt))
            self._position = moved[-1][0]
        self._queue.send(self._outgoing.take())

    def _documents_changed(self) -> None:
        assert self.inbox is not None
        self.inbox.read()

    def _sweep_if_due(self) -> None:
        next_at = self.parts.dues.next_at()
        if next_at is not None and next_at <= utc_now():
            with self._batch():
                self._sweep()
            next_at = self.parts.dues.next_at()
        self.metrics.swept(next_at)
        self.metrics.processes = len(self.executor.running())
        if self.inbox is not None and self.inbox.put_off and time.monotonic() >= self._inbox_at:
            self._inbox_at = time.monotonic() + RETRY_SECONDS
            self.inbox.again()
            self._notice_others()

    def _current(self, stream: StreamName) -> Loaded | None:
        try:
            return self._transact.current(stream)
        except (CorruptStream, UnknownEvents, NotFound) as error:
            # With NotFound it is the document that is gone.
            logger.error("%s is left alone: %s", stream, error)
            return None

    # --- views --------------------------------------------------------------------------------------------------------

    def _settle(self, loaded: Loaded) -> None:
        """The sweep found nothing that is still to come: true views are all that was missing."""
        self._tell_listeners([loaded])
        self._derive(loaded)
        self._notices.plan(loaded)
        if isinstance(loaded.state, Run):
            self.metrics.ended(loaded.state)
        self._dirty.pop(loaded.stream, None)
        self._transact.drop(loaded.stream)

    def _flush_views_if_due(self) -> None:
        if self._dirty and time.monotonic() - self._views_at >= VIEWS_EVERY_SECONDS:
            self._flush_views()

    def _flush_views(self) -> None:
        if not self._dirty:
            return
        ended = [one for stream in self._dirty if (one := self._transact.kept(stream)) is not None and _has_ended(one)]
        if ended:
            with self._batch():
                self._tell_listeners(ended)
        untold = self._plan_notices(list(self._dirty))
        dirty, self._dirty = self._dirty, {}
        over: list[StreamName] = []
        try:
            with self.parts.database.batch():
                # What others have written meanwhile may have reopened a run that we believe to be over.
                unseen = self.parts.store.position() != self._position
                for stream in dirty:
                    loaded = self._transact.kept(stream) or self._current(stream)
                    if loaded is None:
                        continue
                    with self._set_apart(stream):
                        self._derive(loaded)
                        if _has_ended(loaded) and not unseen and stream not in untold:
                            self._remove_row(loaded)
                            over.append(stream)
        except StoreUnavailable:
            self._dirty = dirty | self._dirty
            raise
        self._views_at = time.monotonic()
        self._others_moved = self._others_moved or unseen
        for stream in over:
            self._keep_for_a_while(stream)

    def _tell_listeners(self, ended: Iterable[Loaded]) -> None:
        """Have ends start what waits for them, before the due rows go that would bring anybody back to these runs."""
        for loaded in ended:
            for effect in listeners_of_end(self.parts.views, loaded):
                with self._set_apart(effect):
                    self._decide_effect(effect)

    def _remove_row(self, loaded: Loaded) -> None:
        # Effects of the end are in the queue already; were they lost, the workflow's own sweep would notice.
        row = self.parts.dues.get(loaded.stream)
        if row is not None:
            self.parts.dues.remove(loaded.stream, seen=row)
            assert isinstance(loaded.state, Run)
            self.metrics.ended(loaded.state)
        self._transact.row_removed(loaded.stream)

    def _keep_for_a_while(self, stream: StreamName) -> None:
        if stream in self._ended:
            self._ended.remove(stream)
        self._ended.append(stream)
        while len(self._ended) > ENDED_KEPT_MAX:
            oldest = self._ended.popleft()
            known = self._transact.kept(oldest)
            # It may have been reopened.
            if known is not None and _has_ended(known):
                self._transact.drop(oldest)

    def _derive(self, loaded: Loaded) -> None:
        derive(self.parts.views, loaded.state, loaded.version, self.parts.plans)
        self._wake(loaded)
        if isinstance(loaded.state, Run):
            self.metrics.derived(loaded.stream, loaded.state)
        self.parts.loader.keep_snapshot(loaded)

    # --- sleeping and waking ------------------------------------------------------------------------------------------

    def _sleep(self) -> None:
        ready = self._selector.select(self._sleep_seconds())
        for key, _ in ready:
            wake: Callable[[], None] = key.data
            wake()
        self._note_output_if_due()

    def _sleep_seconds(self) -> float:
        monotonic = time.monotonic()
        if monotonic < self._retry_until:
            return self._retry_until - monotonic
        if self._learnt or self._others_moved:
            return 0.0
        now = utc_now()
        bounds = [SLEEP_MAX_SECONDS]
        next_at = self.parts.dues.next_at()
        if next_at is not None:
            bounds.append((next_at - now).total_seconds())
        waiting = self._queue.next_in()
        if waiting is not None:
            bounds.append(waiting)
        if self._executor_at is not None:
            bounds.append((self._executor_at - self._steady()).total_seconds())
        if self._started:
            bounds.append(self._started_until - monotonic)
        if self._dirty:
            bounds.append(self._views_at + VIEWS_EVERY_SECONDS - monotonic)
        if self.inbox is not None and self.inbox.put_off:
            bounds.append(self._inbox_at - monotonic)
        if running := len(self.executor.running()):
            bounds.append(self._output_at + _output_every(running) - monotonic)
        if self.executor.needs_polling:
            bounds.append(1.0)
        return max(min(bounds), 0.0)

    def _note_output_if_due(self) -> None:
        now = time.monotonic()
        if now - self._output_at < OUTPUT_EVERY_SECONDS:
            return
        if (running := len(self.executor.running())) and now - self._output_at >= _output_every(running):
            self.executor.note_output(utc_now())
            self._output_at = now

    def _open_wake(self) -> None:
        # Opened for writing as well, so that the FIFO never reads as ended when a writer goes.
        descriptor = os.open(self.home.wake, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._closing.callback(os.close, descriptor)

        def woken() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 4096)
            self._others_moved = True

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

    def _close_watched(self) -> None:
        for descriptor in self.executor.watch_fds():
            os.close(descriptor)

    @contextlib.contextmanager
    def _signals(self) -> Any:
        """SIGCHLD wakes the loop; SIGTERM and SIGINT end it."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

        def drained() -> None:
            # The turn that follows looks at the children.
            with contextlib.suppress(BlockingIOError):
                os.read(read, 4096)

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


def _has_ended(loaded: Loaded) -> bool:
    """Whether nothing more happens to the stream by itself."""
    return isinstance(loaded.state, Run) and loaded.state.finished


def _output_every(running: int) -> float:
    return max(OUTPUT_EVERY_SECONDS, 2 * running / OUTPUT_LOOKS_PER_SECOND)


class SteadyClock:
    """The time of day, except that it never goes back: while the clock is set back, it goes on as it went before. That the clock was
    set is told, because people would look for it elsewhere."""

    def __init__(self, wall: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read_wall = wall
        self._read_monotonic = monotonic
        self._wall = self._at = wall()
        self._monotonic = monotonic()

    def __call__(self) -> datetime:
        wall, monotonic = self._read_wall(), self._read_monotonic()
        passed = timedelta(seconds=monotonic - self._monotonic)
        set_by = (wall - self._wall - passed).total_seconds()
        if set_by <= -CLOCK_SET_SECONDS:
            logger.warning(
                "the clock was set back by %.0f s: schedules, retries and time limits wait until it is again where it was; "
                "what runs and what is asked for goes on",
                -set_by,
            )
        elif set_by >= CLOCK_SET_SECONDS:
            logger.warning(
                "the clock was set forward by %.0f s, or the machine slept: what would have been due meanwhile is due now",
                set_by,
            )
        self._at = max(wall, self._at + passed)
        self._wall, self._monotonic = wall, monotonic
        return self._at


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
