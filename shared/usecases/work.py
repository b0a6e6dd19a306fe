"""Carries out a batch of effects from a queue, and commits what was learnt: one load, one fold, one commit for each stream and batch.

What cannot be done for now (a conflict that does not end, a throttled table, a stream that holds events newer than this code) is given
back, to be delivered again later; it never holds up the rest.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TypeVar

from shared.decide.commands import Advance, Command
from shared.effects import (
    AdvancePool,
    AdvanceRun,
    AskForPlace,
    CancelBackfilled,
    CheckBackfill,
    CheckHolders,
    CheckPlaces,
    DeliverNotice,
    Effect,
    GiveBackPlace,
    LookAtWaits,
    ObserveAttempt,
    OpenRun,
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
    StoreUnavailable,
    TargetUnavailable,
    UnknownEvents,
)
from shared.ids import RunId, run_stream
from shared.ports import Report
from shared.usecases.admission import Admission
from shared.usecases.dispatch import Dispatch, Learnt
from shared.usecases.places import PlaceEffect, Places
from shared.usecases.transact import Transact

logger = logging.getLogger("runfold.work")

_Asked = TypeVar("_Asked")
_LATER = (Conflict, StoreUnavailable, TargetUnavailable, UnknownEvents)


SideBySide = Callable[[Sequence[Callable[[], None]]], None]
"""Carries out tasks that do not depend on each other; when it returns all are done, and it raises what one of them raised."""


def one_by_one(tasks: Iterable[Callable[[], None]]) -> None:
    for task in tasks:
        task()


class Work:
    def __init__(
        self,
        transact: Transact,
        dispatch: Dispatch,
        admission: Admission,
        waits: Callable[[LookAtWaits], object],
        *,
        deliver: Callable[[DeliverNotice | PlanNoticesOf], None],
        side_by_side: SideBySide = one_by_one,
    ) -> None:
        """`side_by_side`: where a call to a store or a target takes long, those of one batch need not wait for each other."""
        self._deliver = deliver
        self._transact = transact
        self._dispatch = dispatch
        self._admission = admission
        self._waits = waits
        self._side_by_side = side_by_side
        self._places = Places(transact)

    def __call__(self, effects: Sequence[Effect], redelivered: Collection[StartAttempt] = ()) -> list[Effect]:
        """Do all of it; what has to be tried again later is answered. `redelivered`: starts that somebody had in hand before."""
        later: list[Effect] = []
        asked: list[list[Learnt]] = []
        asking: list[Callable[[], None]] = []
        observed: list[ObserveAttempt] = []
        advanced: list[AdvanceRun] = []
        placed: list[PlaceEffect] = []
        # The same effect twice in one batch is one effect.
        distinct = list(dict.fromkeys(effects)) if all(_hashable(one) for one in effects) else list(effects)
        for effect in self._with_states_read(distinct, later):
            match effect:
                case StartAttempt():
                    asked.append([])
                    start = partial(
                        self._learn,
                        asked[-1],
                        partial(self._dispatch.start, redelivered=effect in redelivered),
                        effect,
                    )
                    asking.append(partial(self._try, [effect], start, later))
                case StopAttempt():
                    asked.append([])
                    stop = partial(self._learn, asked[-1], self._dispatch.stop, effect)
                    asking.append(partial(self._try, [effect], stop, later))
                case TellParent():
                    asked.append([])
                    tell = partial(self._learn, asked[-1], self._dispatch.tell_parent, effect)
                    asking.append(partial(self._try, [effect], tell, later))
                case ObserveAttempt():
                    observed.append(effect)
                case AdvanceRun():
                    advanced.append(effect)
                case LookAtWaits():
                    self._try([effect], partial(self._waits, effect), later)
                case PlanNoticesOf():
                    self._try([effect], partial(self._deliver, effect), later)
                case DeliverNotice():
                    # The sweep hands it over again: it may have been told already, and only its answer not be kept.
                    asking.append(partial(self._try, [], partial(self._deliver, effect), later))
                case CheckHolders() | CheckBackfill():
                    # The sweep looks again: a look that is sent anew whenever it fails would meet those of every sweep meanwhile.
                    self._try([], partial(self._admission, effect), later)
                case CheckPlaces():
                    self._try([], partial(self._places.check, effect.pool), later)
                case AskForPlace() | GiveBackPlace() | TellOfPlace() | AdvancePool():
                    placed.append(effect)
                case _:
                    self._try([effect], partial(self._admission, effect), later)
        self._side_by_side(asking)
        learnt = [one for answers in asked for one in answers]
        self._observe(observed, learnt, later)
        self._commit(learnt, advanced, later)
        for concerned, carry_out in self._places.tasks(placed):
            self._try(concerned, carry_out, later)
        return later

    def record(self, reports: Sequence[Report]) -> list[Effect]:
        """Commit what targets told by themselves; what could not be stored is answered, as looks at those attempts."""
        later: list[Effect] = []
        looks: list[Effect] = [ObserveAttempt(report.run, report.job, report.attempt) for report in reports]
        # Between two reports others have nearly always written to the run, and a write that is refused costs five times a read.
        # What was read a moment too early is found out by that write.
        read = {
            (look.run, look.job, look.attempt)
            for look in self._with_states_read(looks, later, lately=True)
            if isinstance(look, ObserveAttempt)
        }
        known = [report for report in reports if (report.run, report.job, report.attempt) in read]
        self._commit([self._dispatch.report(report) for report in known], [], later)
        return later

    def _with_states_read(self, effects: list[Effect], later: list[Effect], *, lately: bool = False) -> list[Effect]:
        """The effects whose run could be read. Others write to it, so what this process knew of it is no ground to call a target."""
        by_run: dict[RunId, list[Effect]] = {}
        for effect in effects:
            if isinstance(effect, StartAttempt | StopAttempt | ObserveAttempt):
                by_run.setdefault(effect.run, []).append(effect)
        unread: set[RunId] = set()

        def read(run: RunId) -> None:
            unread.add(run)
            # Asking how something goes can do no harm when it is over; starting or stopping it could.
            asks_only = all(isinstance(effect, ObserveAttempt) for effect in by_run[run])
            self._transact.current(run_stream(run), lately=lately or asks_only)
            unread.remove(run)

        self._side_by_side(
            [partial(self._try, concerned, partial(read, run), later) for run, concerned in by_run.items()]
        )
        if not unread:
            return effects
        left_out = {id(effect) for run in unread for effect in by_run[run]}
        return [effect for effect in effects if id(effect) not in left_out]

    def _observe(self, observed: list[ObserveAttempt], learnt: list[Learnt], later: list[Effect]) -> None:
        try:
            learnt.extend(self._dispatch.observe(observed))
        except _LATER as error:
            logger.warning("observing %d attempts: %s", len(observed), error)
            later.extend(observed)

    def _commit(self, learnt: list[Learnt], advanced: list[AdvanceRun], later: list[Effect]) -> None:
        by_run: dict[RunId, list[Command]] = {}
        for run, command in learnt:
            by_run.setdefault(run, []).append(command)
        for effect in advanced:
            by_run.setdefault(effect.run, []).append(Advance())
        committing: list[Callable[[], None]] = []
        for run, commands in by_run.items():
            # What was learnt here is still true at the target: asking again finds it again.
            again: list[Effect] = [
                ObserveAttempt(run, command.job, command.attempt)  # type: ignore[union-attr]
                for command in commands
                if not isinstance(command, Advance)
            ] or [AdvanceRun(run)]
            commit = partial(self._transact.batch, run_stream(run), commands, by="dispatch", cause="report")
            committing.append(partial(self._try, again, commit, later))
        self._side_by_side(committing)

    @staticmethod
    def _learn(learnt: list[Learnt], ask: Callable[[_Asked], list[Learnt]], effect: _Asked) -> None:
        learnt.extend(ask(effect))

    @staticmethod
    def _try(effects: list[Effect], do: Callable[[], object], later: list[Effect]) -> None:
        try:
            do()
        except _LATER as error:
            logger.warning("to be tried again: %s", error)
            later.extend(effects)
        except (CorruptStream, NotFound, Rejected) as error:
            # Nothing here can mend it; the sweep keeps showing the stream until a person does.
            logger.error("given up: %s", error)


def _hashable(effect: Effect) -> bool:
    # These carry a request with parameters, which are mappings.
    return not isinstance(effect, OpenRun | CancelBackfilled)
