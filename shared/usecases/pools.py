"""Reads pools: all of them page by page, or one. Nothing here writes."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from shared.errors import InvalidInput, NotFound, Problem
from shared.ids import PoolName, StreamName, is_name, pool_stream, subject_of
from shared.ports import EventStore
from shared.state.pool import PoolState
from shared.usecases.loading import Loader
from shared.workflow.nearest import shown


@dataclass(frozen=True, slots=True)
class FoundPool:
    state: PoolState
    version: int
    """Of its stream."""


def find_pool(loader: Loader, name: str) -> FoundPool:
    """The newest state; `NotFound` for a pool that nobody has set or asked for a place."""
    if is_name(name):
        loaded = loader.load(pool_stream(PoolName(name)))
        if isinstance(loaded.state, PoolState):
            return FoundPool(loaded.state, loaded.version)
    raise NotFound(f"there is no pool {shown(name)}: nobody has set its capacity, and no job has asked for a place")


def list_pools(store: EventStore, loader: Loader, *, cursor: str, limit: int) -> tuple[list[FoundPool], str]:
    """By name, and the next page's cursor, empty at the end. One that began within the last second may not be there yet."""
    after = f"pool#{_opened(cursor)}" if cursor else ""
    streams = store.streams("pool", after=after, limit=limit)
    found = [find_pool(loader, subject_of(stream)) for stream in streams]
    return found, _sealed(streams[-1]) if len(streams) == limit else ""


def _sealed(stream: StreamName) -> str:
    return urlsafe_b64encode(subject_of(stream).encode()).decode().rstrip("=")


def _opened(cursor: str) -> str:
    try:
        name = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        name = ""
    if not is_name(name):
        raise InvalidInput([Problem("cursor", "it is not one of this list", "take it from the page before")])
    return name
