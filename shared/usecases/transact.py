"""load ▸ fold ▸ decide ▸ commit ▸ hand over: the one way in which anything changes.

One call decides on a batch of commands to one stream and stores the result with one conditional write. Only that write may never
be lost: handing over effects may be, and is repaired by the next delivery of the command or by the sweep. The stream's due row is
written or lowered *before* the commit that needs it, so that a crash between the two leaves a row too early, never one too late.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from threading import Lock

from shared.codec import record_of
from shared.decide.backfill import BackfillDraft, decide_backfill_on
from shared.decide.calendar import CalendarDraft
from shared.decide.commands import AdvanceBackfill, Command, RecordReport, RequestPlace, Tick
from shared.decide.document import DocumentDraft
from shared.decide.lateness import moments as moments_of_pace
from shared.decide.notices import NoticesDraft
from shared.decide.pool import PoolDraft, decide_pool_on
from shared.decide.run import RunDraft, decide_on
from shared.decide.waits import due_looks
from shared.decide.workflow import WorkflowDraft, decide_workflow_on
from shared.effects import (
    HANDOVER_SECONDS,
    NO_PATIENCE,
    AdvancePool,
    AdvanceRun,
    CheckBackfill,
    CheckHolders,
    ContinueBackfill,
    Effect,
    TickWorkflow,
    due_of_backfill,
    due_of_job,
    due_of_notices,
    due_of_pool,
    due_of_workflow,
    effects_of_backfill,
    effects_of_notices,
    effects_of_pool,
    effects_of_run,
    effects_of_workflow,
    pending_of_backfill,
    pending_of_jobs,
    pending_of_places,
    pending_of_workflow,
    timed_effects_of_run,
)
from shared.errors import Conflict, Rejected
from shared.events import Event, RunReopened, RunRequested, WaitBegun
from shared.ids import CommitId, StreamName
from shared.ports import Dues, Effects, EventStore, Record
from shared.state.backfill import BackfillState, NoBackfill
from shared.state.calendar import CalendarState
from shared.state.document import Upload
from shared.state.notices import NoticeLog
from shared.state.pool import NoPool, PoolState
from shared.state.run import NotRequested, Run
from shared.state.workflow import NotRegistered, WorkflowState
from shared.usecases.loading import Loaded, Loader, State

TRIES_MAX = 8
"""Conflicts in a row before the caller has to send the command again later. Meeting even twice is rare: writers of one stream are
grouped before they get here."""
KEPT_MAX = 512
"""Streams whose newest state a warm process keeps."""
DELAY_SECONDS_MAX = 900
"""SQS delays a message by 15 minutes at most; what is due later is left to the sweep."""
SKEW = timedelta(seconds=5)
"""Clocks of processes differ by less. A row due later than this is not being swept by anybody, so it cannot be moved away."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a live run is looked at although nothing is due, and how far the clocks of those who look and write may differ.

    The rarer the looks, the fewer writes: whoever needs the run looked at later than the next look that is certain needs no due row of his
    own. `docs/decisions/0005-cost.md` has the argument.
    """

    every: timedelta | None = None
    """None: whenever something is due, to the second; otherwise no row of a live run stands further ahead than this."""
    skew: timedelta = SKEW

    @property
    def patience(self) -> timedelta:
        return self.every + self.skew if self.every is not None else NO_PATIENCE

    def row_at(self, state: State, due: datetime, now: datetime) -> datetime:
        """Where the row of a stream may stand that has to be looked at no later than `due`."""
        if self.every is None or not isinstance(state, Run) or not state.opened:
            return due
        return min(due, now + self.every)

    def covers(self, needed: datetime, now: datetime) -> bool:
        """Whether any row that a live run can have by now is early enough, whatever others did meanwhile."""
        return self.every is not None and needed >= now + self.every + self.skew


TO_THE_SECOND = Rhythm()
"""One machine: a row costs microseconds."""

Draft = RunDraft | WorkflowDraft | CalendarDraft | DocumentDraft | BackfillDraft | PoolDraft | NoticesDraft


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a batch: the state after it, the events of its commit, and which commands were rejected, by position."""

    loaded: Loaded
    events: tuple[Event, ...] = ()
    rejected: dict[int, Rejected] = field(default_factory=dict)


class Transact:
    """Decides and commits. `now` and `new_id` are the doorway's clock and source of unique ids.

    Threads may share it as long as each works on streams of its own; two on one stream would only meet as rivals do.
    """

    def __init__(
        self,
        events: EventStore,
        dues: Dues,
        loader: Loader,
        effects: Effects,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        kept_max: int = KEPT_MAX,
        effects_wait: bool = False,
        rhythm: Rhythm = TO_THE_SECOND,
    ) -> None:
        """`effects_wait`: the queue of effects can delay a message, so that a retry need not wait for the sweep."""
        self._rhythm = rhythm
        self._kept_max = kept_max
        self._effects_wait = effects_wait
        self._events = events
        self._dues = dues
        self._effects = effects
        self.now = self._now = now
        self._new_id = new_id
        self._kept: OrderedDict[StreamName, Loaded] = OrderedDict()
        self._keeping = Lock()
        self._rows: dict[StreamName, datetime] = {}
        """Due rows of kept streams as last seen: each is there and not later, for as long as it is not due."""
        self.loader = loader

    def __call__(self, stream: StreamName, command: Command, *, by: str, cause: str) -> Decided:
        """Decide on one command; raises `Rejected` if it is not allowed, `Conflict` when others keep being faster."""
        decided = self.batch(stream, [command], by=by, cause=cause)
        if decided.rejected:
            raise decided.rejected[0]
        return decided

    def batch(self, stream: StreamName, commands: Sequence[Command], *, by: str, cause: str) -> Decided:
        """Decide on commands in order, with one commit, or several when one cannot hold what they lead to. Rejected ones are
        reported and change nothing."""
        decided, taken = self._some(stream, commands, by, cause)
        while taken < len(commands):
            following, more = self._some(stream, commands[taken:], by, cause)
            shifted = {position + taken: reason for position, reason in following.rejected.items()}
            decided = Decided(following.loaded, decided.events + following.events, decided.rejected | shifted)
            taken += more
        return decided

    def _some(self, stream: StreamName, commands: Sequence[Command], by: str, cause: str) -> tuple[Decided, int]:
        """Decide on the first commands, as many as fit a commit and at least one; how many they were."""
        for _ in range(TRIES_MAX):
            try:
                return self._once(stream, commands, by, cause)
            except Conflict:
                # Somebody else was faster: what we know is old. Read what they wrote, and decide again.
                continue
        raise Conflict(f"{stream}: {TRIES_MAX} conflicts in a row; send the command again")

    def current(self, stream: StreamName, *, lately: bool = False) -> Loaded:
        """The newest state, read incrementally. `lately`: as `Loader.load` says."""
        known = self._kept.get(stream)
        loaded = self.loader.load(stream, known, lately=lately)
        if known is not None and loaded.version != known.version:
            # Others were here: with an end among their commits the row may have gone, and come back elsewhere.
            self._rows.pop(stream, None)
        return self._keep(loaded)

    def kept(self, stream: StreamName) -> Loaded | None:
        """The newest state this process knows of, which is the newest there is unless somebody else writes."""
        return self._kept.get(stream)

    def drop(self, stream: StreamName) -> None:
        """Keep a stream no longer in memory: nothing more will happen to it soon."""
        self._kept.pop(stream, None)
        self._rows.pop(stream, None)

    def row_removed(self, stream: StreamName) -> None:
        """Its due row was taken away by others than the sweep."""
        self._rows.pop(stream, None)

    def forget(self) -> None:
        """Drop everything known: after a batch of the store failed, states in memory may be ahead of it."""
        self._kept.clear()
        self._rows.clear()

    def _once(self, stream: StreamName, commands: Sequence[Command], by: str, cause: str) -> tuple[Decided, int]:
        known = self._kept.get(stream)
        # With something known the conditional write itself is the check: a conflict tells that it was old.
        loaded = known if known is not None else self.current(stream)
        now = self._now()
        if loaded.at is not None and loaded.at > now:
            now = loaded.at
        draft, rejected, taken = self._decide(loaded.state, commands, now)
        in_doubt = rejected or not (draft.events or all(map(_is_hint, commands)))
        if known is not None and in_doubt and self.current(stream).version != loaded.version:
            # Before refusing anybody, or saying that nothing is to be done, make sure that it is not founded on an old state.
            raise Conflict("the state was old")
        if not draft.events:
            self._effects.send(_pending_again(loaded.state, commands[:taken], now))
            return Decided(loaded, (), rejected), taken
        try:
            record = record_of(
                stream,
                version=loaded.version + 1,
                commit_id=CommitId(self._new_id()),
                at=now,
                by=by,
                cause=cause,
                previous_hash=loaded.hash,
                events=draft.events,
            )
        except ValueError:
            if taken == 1:
                raise
            # Together they exceed a commit: take half of them.
            return self._once(stream, commands[: taken // 2], by, cause)
        state = _frozen(draft)
        try:
            self._store(loaded, record, state, _due_after(state, draft, now, self._rhythm.patience), now)
        except Conflict:
            self.current(stream)
            raise
        decided = self._keep(Loaded(stream, state, record.version, record.hash, now))
        self._effects.send(_effects(state, draft))
        if self._effects_wait and isinstance(state, Run):
            self._send_timed(state, draft.events, now)
        return Decided(decided, tuple(draft.events), rejected), taken

    def _send_timed(self, run: Run, events: Sequence[Event], now: datetime) -> None:
        by_delay: dict[int, dict[Effect, None]] = {}
        for at, effect in timed_effects_of_run(run, events):
            # Never early: what comes before its time is in vain.
            by_delay.setdefault(ceil((at - now).total_seconds()), {})[effect] = None
        for delay, effects in by_delay.items():
            if 0 < delay <= DELAY_SECONDS_MAX:
                self._effects.send(effects, delay_seconds=delay)

    def _decide(
        self, state: State, commands: Sequence[Command], now: datetime
    ) -> tuple[Draft, dict[int, Rejected], int]:
        """The draft, the commands that were rejected, and how many were decided on."""
        rejected: dict[int, Rejected] = {}
        # Each turn rejects one command more, so this ends after at most as many turns as there are commands.
        while True:
            draft = _draft(state, self.loader, now)
            taken, again = 0, False
            for position, command in enumerate(commands):
                if position and not isinstance(draft, DocumentDraft) and not draft.room:
                    break
                taken = position + 1
                if position in rejected:
                    continue
                try:
                    _decide_on(draft, command)
                except Rejected as reason:
                    # What it had emitted before it was refused must go: begin anew, without it.
                    rejected[position] = reason
                    again = True
                    break
            if not again:
                return draft, rejected, taken

    def _store(self, before: Loaded, record: Record, after: State, needed: datetime | None, now: datetime) -> None:
        """Commit, with a due row that is not later than `needed`."""
        stream = record.stream
        row = self._rows.get(stream)
        # The row of a run that goes on is moved or removed by a sweep alone, and by a sweep only once it is due.
        going_on = isinstance(before.state, Run) and before.state.opened and not before.state.finished
        known_to_do = row is not None and needed is not None and now + self._rhythm.skew < row <= needed
        if needed is None or (going_on and (known_to_do or self._rhythm.covers(needed, now))):
            self._events.append(record)
            return
        needed = self._rhythm.row_at(after, needed, now)
        with self._events.batch():
            row, moved = self._lower_due(stream, needed, now, new=record.version == 1)
            self._events.append(record)
            # A sweep between the two has seen a row, and not the commit that it was written for.
            if self._rhythm.every is not None and moved and row <= now + self._rhythm.skew:
                # It may still be about to raise or remove that row: moved once more, it is not the row that it saw. One that is further
                # ahead is out of a sweep's sight for longer than any function may take from one call to the next.
                row -= timedelta(microseconds=1)
                self._dues.lower(stream, row)
            elif self._rhythm.every is None and record.version == 1:
                there = self._dues.get(stream)
                if there is None or there > needed:
                    self._dues.lower(stream, row)
        self._rows[stream] = row

    def _lower_due(self, stream: StreamName, needed: datetime, now: datetime, *, new: bool) -> tuple[datetime, bool]:
        """Where the row stands then, and whether it was written."""
        row = self._dues.get(stream) if not new else None
        if row is not None and row <= needed:
            if row > now + self._rhythm.skew:
                return row, False
            # Somebody may be sweeping this stream right now and would raise the row without having seen this commit.
            # Moving the row, even backwards, makes that conditional write fail.
            needed = row - timedelta(microseconds=1)
        self._dues.lower(stream, needed)
        return needed, True

    def _keep(self, loaded: Loaded) -> Loaded:
        with self._keeping:
            self._kept[loaded.stream] = loaded
            self._kept.move_to_end(loaded.stream)
            if len(self._kept) > self._kept_max:
                dropped, _ = self._kept.popitem(last=False)
                self._rows.pop(dropped, None)
        return loaded


class Reader:
    """Keeps streams that others write to, and reads what is new of them."""

    def __init__(self, loader: Loader, *, kept_max: int = KEPT_MAX) -> None:
        self._loader = loader
        self._kept_max = kept_max
        self._kept: OrderedDict[StreamName, Loaded] = OrderedDict()

    def __call__(self, stream: StreamName, version: int = 0) -> Loaded:
        """The state at `version` or later, read incrementally."""
        loaded = self._loader.load(stream, self._kept.pop(stream, None), lately=True)
        if loaded.version < version:
            loaded = self._loader.load(stream, loaded)
        if not isinstance(loaded.state, Run) or not loaded.state.finished:
            self._kept[stream] = loaded
            if len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return loaded


def _draft(state: State, loader: Loader, now: datetime) -> Draft:
    match state:
        case NotRequested() | Run():
            return RunDraft(state, loader.plans, now)
        case NotRegistered() | WorkflowState():
            return WorkflowDraft(state, loader.plans, now, loader.calendar_days)
        case CalendarState():
            return CalendarDraft(state, now)
        case NoPool() | PoolState():
            return PoolDraft(state, now)
        case Upload():
            return DocumentDraft(state, now)
        case NoBackfill() | BackfillState():
            return BackfillDraft(state, loader.plans, now)
        case NoticeLog():
            return NoticesDraft(state, now)


def _decide_on(draft: Draft, command: Command) -> None:
    # The caller pairs streams with commands of their kind; a mismatch is our own bug and fails inside `decide`.
    match draft:
        case RunDraft():
            decide_on(draft, command)  # type: ignore[arg-type]
        case WorkflowDraft():
            decide_workflow_on(draft, command)  # type: ignore[arg-type]
        case PoolDraft():
            decide_pool_on(draft, command)  # type: ignore[arg-type]
        case CalendarDraft() | DocumentDraft() | NoticesDraft():
            draft.decide(command)  # type: ignore[arg-type]
        case BackfillDraft():
            decide_backfill_on(draft, command)  # type: ignore[arg-type]


def _frozen(draft: Draft) -> State:
    return draft.state if isinstance(draft, DocumentDraft | NoticesDraft) else draft.freeze()


def _effects(state: State, draft: Draft) -> list[Effect]:
    match state:
        case Run():
            effects = effects_of_run(state, draft.events)
            if draft.truncated:
                effects.append(AdvanceRun(state.run))
            return effects
        case WorkflowState():
            effects = effects_of_workflow(draft.events)
            if draft.truncated:
                effects.append(TickWorkflow(state.name))
            return effects
        case BackfillState():
            effects = effects_of_backfill(state, draft.events)
            goes_on = ContinueBackfill(state.backfill)
            return [*effects, goes_on] if draft.truncated and goes_on not in effects else effects
        case PoolState():
            effects = effects_of_pool(state, draft.events)
            if draft.truncated:
                effects.append(AdvancePool(state.name))
            return effects
        case NoticeLog():
            return effects_of_notices(state, draft.events)
        case _:
            return []


def _is_hint(command: Command) -> bool:
    """Whether nothing is lost when it is weighed against a state of a moment ago: the target says so again, or says more."""
    return isinstance(command, RecordReport) and command.status == "running"


def _pending_again(state: State, commands: Sequence[Command], now: datetime) -> list[Effect]:
    """A command that changes nothing may be the second delivery of one whose effects were lost.

    Not so "the target knows nothing of it", which is how our own look is answered: handing over because of it would look again.
    """
    match state:
        case Run():
            jobs = [
                job
                for command in commands
                if (job := getattr(command, "job", None)) is not None and getattr(command, "status", "") != "missing"
            ]
            return pending_of_jobs(state, jobs, now)
        case WorkflowState():
            # A look at holders answers with commands that may change nothing, and would hand over the next look, and so on for ever;
            # so would a tick that found no room.
            again = pending_of_workflow(state, now)
            if any(isinstance(command, Tick) for command in commands):
                again = [effect for effect in again if not isinstance(effect, TickWorkflow)]
            return [effect for effect in again if not isinstance(effect, CheckHolders)]
        case BackfillState():
            # Nor does going on, when another was faster: he goes on.
            if any(isinstance(command, AdvanceBackfill) for command in commands):
                return []
            return [effect for effect in pending_of_backfill(state, now) if not isinstance(effect, CheckBackfill)]
        case PoolState():
            return pending_of_places(state, [one.place for one in commands if isinstance(one, RequestPlace)])
        case _:
            return []


def _due_after(state: State, draft: Draft, now: datetime, patience: timedelta) -> datetime | None:
    """By when the stream must be looked at because of these events; the row it already has covers everything else."""
    match state:
        case Run():
            moments = [
                # A retry without delay is due at this very moment; only what was due before it has been looked at.
                due_of_job(state, job, now - timedelta(microseconds=1), patience=patience)
                for event in draft.events
                if (job := getattr(event, "job", None)) is not None and job in state.live
            ]
            # The row outlives the run until its views, wake-ups and notices are done, so the end needs one as well.
            if draft.truncated:
                moments.append(now + timedelta(seconds=HANDOVER_SECONDS))
            if any(isinstance(event, WaitBegun) for event in draft.events):
                moments.extend(due_looks(state, now))
            if state.finished or not moments:
                moments.append(now + timedelta(seconds=HANDOVER_SECONDS) + patience)
            if not state.opened and state.request.start_after is not None:
                moments = [state.request.start_after]
            if isinstance(draft, RunDraft) and not state.finished and _clock_begins(draft):
                moments.extend(at for at, _ in moments_of_pace(state.pace, state.plan.workflow))
            return min(moments)
        case WorkflowState():
            if draft.truncated:
                return now
            return due_of_workflow(state, now) or now + timedelta(seconds=HANDOVER_SECONDS)
        case BackfillState():
            return due_of_backfill(state, now) or now + timedelta(seconds=HANDOVER_SECONDS)
        case PoolState():
            # The row stays until the list of pools shows what there is.
            return due_of_pool(state, now) or now + timedelta(seconds=HANDOVER_SECONDS)
        case NoticeLog():
            # When all is said its list is still to be made true.
            return due_of_notices(state, now) or now + timedelta(seconds=HANDOVER_SECONDS)
        case _:
            return None


def _clock_begins(draft: RunDraft) -> bool:
    """Whether a moment at which the run will be late follows from these events, and from none before."""
    return any(isinstance(event, RunRequested | RunReopened) for event in draft.events) or (
        draft.fold.pace.started_at == draft.now
    )
