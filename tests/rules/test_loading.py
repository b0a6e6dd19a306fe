"""Loading a stream: with a snapshot or without, at once or piece by piece, the state is the same (fault 49)."""

from dataclasses import replace
from typing import Any, cast

import pytest

from shared.ids import run_stream
from shared.ports import Snapshot
from shared.state.run import FOLD_VERSION
from shared.stores.memory import MemorySnapshots, MemoryStore
from shared.usecases import loading
from shared.usecases.loading import Loaded, Loader, PlanCache
from tests.rules.sentences import same
from tests.rules.walks import Walk, random_walk

SEEDS = range(15)


def stored(walk: Walk) -> MemoryStore:
    store = MemoryStore()
    for record in walk.records():
        store.append(record)
    return store


def loader_of(walk: Walk, store: MemoryStore, snapshots: MemorySnapshots | None = None) -> Loader:
    return Loader(store, cast("PlanCache", walk.plans), snapshots)


def equal(one: Loaded, other: Loaded) -> bool:
    return (one.version, one.hash, one.at) == (other.version, other.hash, other.at) and same(
        cast("Any", one.state), cast("Any", other.state)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_state_is_the_same_with_and_without_a_snapshot_at_any_version(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "SNAPSHOT_EVERY", 1)
    walk = random_walk(seed)
    store, stream = stored(walk), run_stream(walk.run.run)
    whole = loader_of(walk, store).load(stream)
    for version in range(1, whole.version, 7):
        snapshots = MemorySnapshots()
        early = loader_of(walk, store, snapshots)
        early.keep_snapshot(early.load_as_of(stream, version=version))
        kept = snapshots.get(stream, FOLD_VERSION)
        assert kept is not None
        assert kept.version == version
        assert equal(loader_of(walk, store, snapshots).load(stream), whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_loading_piece_by_piece_is_loading_at_once(seed: int) -> None:
    walk = random_walk(seed)
    store, stream = MemoryStore(), run_stream(walk.run.run)
    loader = loader_of(walk, store)
    known: Loaded | None = None
    for record in walk.records():
        store.append(record)
        known = loader.load(stream, known)
    assert known is not None
    assert equal(known, loader.load(stream))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: replace(kept, body=kept.body[:-3]),
        lambda kept: replace(kept, body=b"nonsense"),
        lambda kept: replace(kept, hash="0" * 64),
        lambda kept: replace(kept, version=kept.version + 1_000),
        lambda kept: replace(kept, fold_version=FOLD_VERSION + 1),
    ],
    ids=["cut short", "not ours", "of another history", "of the future", "of another fold"],
)
def test_a_snapshot_without_proof_is_ignored(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault 49"""
    monkeypatch.setattr(loading, "SNAPSHOT_EVERY", 1)
    walk = random_walk(3)
    store, stream = stored(walk), run_stream(walk.run.run)
    whole = loader_of(walk, store).load(stream)
    snapshots = MemorySnapshots()
    loader_of(walk, store, snapshots).keep_snapshot(whole)
    kept = snapshots.get(stream, FOLD_VERSION)
    assert kept is not None

    class Spoilt(MemorySnapshots):
        def get(self, stream: Any, fold_version: int) -> Snapshot | None:
            return cast("Snapshot", spoil(kept))

    assert equal(loader_of(walk, store, Spoilt()).load(stream), whole)


def test_snapshots_are_kept_every_so_many_commits_and_no_oftener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SNAPSHOT_EVERY", 10)
    walk = random_walk(1)
    store, stream = stored(walk), run_stream(walk.run.run)
    versions: list[int] = []

    class Counting(MemorySnapshots):
        def put(self, snapshot: Snapshot) -> None:
            versions.append(snapshot.version)

    loader = loader_of(walk, store, Counting())
    last = loader.load(stream).version
    assert last > 30
    for version in range(1, last + 1):
        loader.keep_snapshot(loader.load_as_of(stream, version=version))
    # Beyond forty a quarter of what was kept last is more than ten.
    kept = [10]
    while kept[-1] + max(10, kept[-1] // 4) <= last:
        kept.append(kept[-1] + max(10, kept[-1] // 4))
    assert versions == kept
