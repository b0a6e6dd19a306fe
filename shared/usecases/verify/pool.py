"""What holds for a pool: no grant makes more held than there is (I5), who is granted had asked, and what is given back was held."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.events import Event, PlaceGranted, PlaceReleased, PlaceRequested, PlaceWithdrawn, PoolResized
from shared.ids import PoolName, StreamName, pool_stream
from shared.usecases.verify.violation import Found

Key = tuple[str, str, int, int]


@dataclass
class PoolChecker:
    stream: StreamName
    _name: PoolName | None = None
    _capacity: int = 1
    _used: int = 0
    _held: dict[Key, int] = field(default_factory=dict)
    _awaited: dict[Key, int] = field(default_factory=dict)

    def check(self, event: Event) -> Iterator[Found]:
        match event:
            case PoolResized():
                yield from self._named(event.pool)
                self._capacity = event.capacity
            case PlaceRequested():
                yield from self._named(event.pool)
                key = (event.run, event.job, event.attempt, event.round)
                if key in self._held or key in self._awaited:
                    yield "I5", f"{_shown(key)} asked twice for one place"
                self._awaited[key] = event.weight
            case PlaceGranted():
                yield from self._granted(event)
            case PlaceReleased():
                key = (event.run, event.job, event.attempt, event.round)
                if key not in self._held:
                    yield "I3", f"{_shown(key)} gave its place back, and had none"
                self._used -= self._held.pop(key, 0)
            case PlaceWithdrawn():
                key = (event.run, event.job, event.attempt, event.round)
                if self._awaited.pop(key, None) is None:
                    yield "I3", f"{_shown(key)} left the line, and did not stand in it"
            case _:
                yield "I8", f"{event.type} does not belong into a pool's stream"

    def _named(self, pool: PoolName) -> Iterator[Found]:
        if self._name is None and pool_stream(pool) != self.stream:
            yield "I8", f"the stream holds the pool {pool}"
        self._name = pool

    def _granted(self, event: PlaceGranted) -> Iterator[Found]:
        key = (event.run, event.job, event.attempt, event.round)
        asked = self._awaited.pop(key, None)
        if asked is None:
            yield "I5", f"{_shown(key)} was granted a place that it had not asked for"
        elif event.weight != min(asked, self._capacity):
            yield "I5", f"{_shown(key)} asked for {asked} and was granted {event.weight}"
        self._held[key] = event.weight
        self._used += event.weight
        if self._used > self._capacity:
            yield "I5", f"{_shown(key)} makes {self._used} held, and the capacity is {self._capacity}"


def _shown(key: Key) -> str:
    run, job, attempt, _ = key
    return f"attempt {attempt} of {job} in {run}"
