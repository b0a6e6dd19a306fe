"""Carries backfills on: looks at what became of the next instants, begins and cancels runs, hears of their ends, and looks for itself at
runs that are under way, so that a lost message never holds a backfill up.
"""

from collections import Counter
from datetime import datetime
from typing import Literal

from shared.decide.backfill import INSTANTS_SLICE, Rehearsed, asked_range, coming, instants_of, needs_none
from shared.decide.commands import AdvanceBackfill, CancelRun, Command, Look, RecordRunEnd, RequestRun
from shared.decide.instants import exclusion_of
from shared.effects import CancelBackfilled, CheckBackfill, ContinueBackfill, TellBackfill
from shared.errors import CorruptStream, Rejected
from shared.events import RunRequested
from shared.ids import BackfillId, RunId, WorkflowName, backfill_stream, instant_run, run_stream, workflow_stream
from shared.state.backfill import BackfillState, request_of
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.loading import Loader
from shared.usecases.transact import Transact
from shared.workflow.days import Exclusion
from shared.workflow.timing import Schedule

BackfillEffect = ContinueBackfill | TellBackfill | CheckBackfill | CancelBackfilled
REHEARSED_MAX = 200
"""Instants whose runs are looked at to say what a backfill would do: each costs a read."""
ODD_SHOWN_MAX = 20
RUNS_OF_INSTANT_MAX = 1_000
"""Runs of one instant that are looked at: nobody has that many, and nobody may make us look for ever."""


class Backfills:
    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    def __call__(self, effect: BackfillEffect) -> None:
        match effect:
            case ContinueBackfill():
                self.go_on(effect.backfill)
            case TellBackfill():
                self._heard(effect)
            case CheckBackfill():
                self.check(effect.backfill)
            case CancelBackfilled():
                self.cancel(effect)

    def go_on(self, backfill: BackfillId) -> None:
        """Come to the next instants, as far as there is room."""
        state = self._current(backfill)
        if state is None or not state.goes_on:
            return
        loader = self._transact.loader
        room = state.request.max_active - len(state.active)
        looks: dict[datetime, Look] = {}
        workflow = self._transact.current(workflow_stream(state.request.workflow)).state
        held = held_in(workflow) if isinstance(workflow, WorkflowState) else frozenset()
        exclusion = _exclusion(loader, loader.plans(state.request.document).workflow.schedule)
        for instant in coming(state, loader.plans, INSTANTS_SLICE):
            look = looked_at(loader, state.request.workflow, instant.at, held, exclusion)
            looks[instant.at] = look
            room -= not needs_none(state.request.which, look)
            if room <= 0:
                # What comes after is looked at when it is its turn.
                break
        command = AdvanceBackfill(looks)
        try:
            self._transact(backfill_stream(backfill), command, by="scheduler", cause="backfill")
        except Rejected:
            return

    def open_run(self, request: RunRequested) -> None:
        """Begin a run; if another had asked for it first, it is none of the backfill's."""
        stream = run_stream(request.run)
        decided = self._transact(stream, RequestRun(request), by="scheduler", cause=f"backfill:{request.run}")
        self._theirs(request, decided.loaded.state)

    def cancel(self, effect: CancelBackfilled) -> None:
        request = effect.request
        state = self._current(effect.backfill)
        if state is None or request.run not in state.active:
            return
        by, reason = "scheduler", "the backfill was cancelled"
        if state.cancel is not None:
            by, reason = state.cancel.by or by, f"{reason}: {state.cancel.reason}" if state.cancel.reason else reason
        stream = run_stream(request.run)
        found = self._transact.current(stream).state
        if isinstance(found, Run) and found.request.backfill != request.backfill:
            self._theirs(request, found)
            return
        # To begin it and to cancel it at once: a message that begins it may be on its way still.
        commands: list[Command] = [RequestRun(request), CancelRun(by, reason)]
        decided = self._transact.batch(stream, commands, by="scheduler", cause=f"backfill:{request.run}")
        self._theirs(request, decided.loaded.state)

    def check(self, backfill: BackfillId) -> None:
        """Ask the runs that are under way how they are, and begin those that never began."""
        state = self._current(backfill)
        if state is None:
            return
        for run, admitted in state.active.items():
            try:
                found = self._transact.current(run_stream(run)).state
            except CorruptStream:
                # It keeps its place: nobody can say that it has ended.
                continue
            if not isinstance(found, Run):
                self.open_run(request_of(state, admitted.event))
            elif found.request.backfill != backfill:
                self._told(backfill, run, "taken")
            elif found.outcome is not None:
                self._told(backfill, run, found.outcome)

    def _theirs(self, request: RunRequested, found: object) -> None:
        assert isinstance(found, Run)
        if found.request.backfill != request.backfill:
            assert request.backfill is not None
            self._told(request.backfill, request.run, "taken")

    def _heard(self, effect: TellBackfill) -> None:
        """A message is a hint. One from before a restore tells of an end that never was, and the run it tells of goes on."""
        found = self._transact.current(run_stream(effect.run)).state
        if isinstance(found, Run) and found.request.backfill == effect.backfill and found.outcome is not None:
            self._told(effect.backfill, effect.run, found.outcome)

    def _told(
        self, backfill: BackfillId, run: RunId, outcome: Literal["succeeded", "failed", "cancelled", "taken"]
    ) -> None:
        try:
            command = RecordRunEnd(run, outcome)
            self._transact(backfill_stream(backfill), command, by="scheduler", cause=f"end:{run}")
        except Rejected:
            return

    def _current(self, backfill: BackfillId) -> BackfillState | None:
        state = self._transact.current(backfill_stream(backfill)).state
        return state if isinstance(state, BackfillState) else None


def rehearse(
    loader: Loader,
    state: WorkflowState,
    since: str,
    until: str,
    *,
    order: Literal["oldest", "newest"],
    which: Literal["all", "missing", "failed"],
    max_active: int,
    now: datetime,
) -> Rehearsed:
    """What asking for a backfill would mean now; nothing is written. `InvalidInput` with every problem."""
    if state.live is None:
        raise Rejected(f"{state.name} was unregistered; register it again to run it")
    rule = loader.plans(state.live.document).workflow.schedule
    meant = asked_range(rule, since, until, now, max_active=max_active)
    assert rule is not None
    instants = instants_of(rule, meant)
    if order == "newest":
        instants.reverse()
    held = held_in(state)
    exclusion = _exclusion(loader, rule)
    looked = [looked_at(loader, state.name, instant.at, held, exclusion) for instant in instants[:REHEARSED_MAX]]
    odd = [instant for instant in instants if instant.note]
    return Rehearsed(
        meant,
        len(looked),
        sum(not needs_none(which, look) for look in looked),
        dict(Counter(look.status for look in looked)),
        tuple(odd[:ODD_SHOWN_MAX]),
        len(odd),
    )


def held_in(state: WorkflowState) -> frozenset[RunId]:
    """Runs that the workflow has let in or holds back, which may not have begun."""
    return frozenset([*state.holders, *(one.run for one in state.held)])


def _exclusion(loader: Loader, rule: Schedule | None) -> Exclusion | None:
    return exclusion_of(rule, loader.calendar_days) if rule is not None else None


def looked_at(
    loader: Loader, workflow: WorkflowName, at: datetime, held: frozenset[RunId], exclusion: Exclusion | None
) -> Look:
    """What became of an instant, by the newest of its runs. What calendars exclude now is run for nobody."""
    if exclusion is not None and (excluded := exclusion.of(at)) is not None:
        return Look(0, "excluded", excluded.reason)
    found = Look(0, "none")
    for number in range(1, RUNS_OF_INSTANT_MAX):
        run = instant_run(workflow, at, number)
        try:
            state = loader.load(run_stream(run)).state
        except CorruptStream:
            return Look(number, "unreadable")
        if not isinstance(state, Run):
            return Look(number, "active") if run in held else found
        found = Look(number, state.outcome or "active")
        if state.outcome is None:
            return found
    return Look(found.number, "unreadable")
