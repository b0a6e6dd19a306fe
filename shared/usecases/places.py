"""Keeps runs and pools in step: asks for places, tells of grants, gives back, and looks for itself at the attempts that hold places,
so that a lost message never leaks one.

What it promises: everything that a batch has for one stream is one commit there; whatever a run does not take goes back at once.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from shared.decide.commands import GrantPlaces, PoolCommand, ReleasePlace, RequestPlace, TakePlace
from shared.decide.places import holds_place, wants_place
from shared.effects import AdvancePool, AskForPlace, CheckPlaces, Effect, GiveBackPlace, TellOfPlace
from shared.errors import CorruptStream, UnknownEvents
from shared.ids import PoolName, RunId, StreamName, pool_stream, run_stream
from shared.state.pool import Place, PoolState
from shared.state.run import Run
from shared.usecases.transact import Transact

PlaceEffect = AskForPlace | GiveBackPlace | TellOfPlace | AdvancePool


class Places:
    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    def __call__(self, effect: PlaceEffect | CheckPlaces) -> list[StreamName]:
        """Carry the effect out; the streams that it was about."""
        if isinstance(effect, CheckPlaces):
            return self.check(effect.pool)
        return [stream for _, carry_out in self.tasks([effect]) for stream in carry_out()]

    def tasks(self, effects: Iterable[PlaceEffect]) -> Iterator[tuple[list[Effect], Callable[[], list[StreamName]]]]:
        """What the effects ask for, grouped by the stream that it changes: each with the effects to try again should it fail."""
        pools: dict[PoolName, list[AskForPlace | GiveBackPlace | AdvancePool]] = {}
        runs: dict[RunId, list[TellOfPlace]] = {}
        for effect in effects:
            if isinstance(effect, TellOfPlace):
                runs.setdefault(effect.place.run, []).append(effect)
            else:
                pools.setdefault(effect.pool, []).append(effect)
        for pool, asked in pools.items():
            yield [*asked], partial(self._to_pool, pool, [_command(one) for one in asked])
        for run, told in runs.items():
            yield [*told], partial(self._tell, run, told)

    def check(self, pool: PoolName) -> list[StreamName]:
        """Ask the runs whose attempts hold places: tell again of a grant that was not heard of, take back what is held by nobody."""
        state = self._transact.current(pool_stream(pool)).state
        if not isinstance(state, PoolState):
            return []
        changed: list[StreamName] = []
        # Who is next keeps what is free from all others: he had better still want it.
        looked_at = dict.fromkeys((*state.held, *state.heads()))
        by_run: dict[RunId, list[Place]] = {}
        for place in looked_at:
            by_run.setdefault(place.run, []).append(place)
        over: list[PoolCommand] = []
        for run, places in by_run.items():
            try:
                found = self._transact.current(run_stream(run)).state
            except (CorruptStream, UnknownEvents):
                # It keeps its places: nobody can say that its attempts have ended. The others must not wait for that.
                continue
            told = []
            for place in places:
                if isinstance(found, Run) and wants_place(found, pool, place):
                    if place in state.held:
                        told.append(TellOfPlace(pool, place))
                elif not isinstance(found, Run) or not holds_place(found, pool, place):
                    over.append(ReleasePlace(place, "no attempt has it"))
            if told:
                changed += self._tell(run, told)
        if over:
            changed += self._to_pool(pool, over)
        return changed

    def _to_pool(self, pool: PoolName, commands: list[PoolCommand]) -> list[StreamName]:
        # Whoever is turned away asks again: his run is looked at as long as he waits.
        self._transact.batch(pool_stream(pool), commands, by="pools", cause="places")
        return [pool_stream(pool)]

    def _tell(self, run: RunId, told: list[TellOfPlace]) -> list[StreamName]:
        commands = [TakePlace(one.place.job, one.place.attempt, one.place.round, one.pool) for one in told]
        state = self._transact.batch(run_stream(run), commands, by="pools", cause="places").loaded.state
        unwanted: dict[PoolName, list[PoolCommand]] = {}
        for one in told:
            if not isinstance(state, Run) or not holds_place(state, one.pool, one.place):
                release = ReleasePlace(one.place, "nobody wants it any more")
                unwanted.setdefault(one.pool, []).append(release)
        changed = [run_stream(run)]
        for pool, commands_back in unwanted.items():
            changed += self._to_pool(pool, commands_back)
        return changed


def _command(effect: AskForPlace | GiveBackPlace | AdvancePool) -> PoolCommand:
    match effect:
        case AskForPlace():
            return RequestPlace(effect.pool, effect.place, effect.weight, effect.priority, effect.asked_at)
        case GiveBackPlace():
            return ReleasePlace(effect.place)
        case AdvancePool():
            return GrantPlaces()
