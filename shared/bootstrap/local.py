"""The parts of one machine's engine: everything that works on the files of one home."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from shared.bootstrap.origins import new_id, new_ulid, utc_now
from shared.ports import Effects
from shared.stores.directory import DirectoryDocuments
from shared.stores.sqlite import SqliteDatabase, SqliteDues, SqliteSnapshots, SqliteStore, SqliteViews, SqliteWaiters
from shared.usecases.control import Control
from shared.usecases.loading import Loader, PlanCache
from shared.usecases.transact import Transact

LOCAL_KEPT_MAX = 20_000
"""Live streams that the engine of one machine keeps folded; ended ones are dropped at once."""


@dataclass(frozen=True, slots=True)
class LocalParts:
    """Everything that works on the files of one home."""

    database: SqliteDatabase
    store: SqliteStore
    dues: SqliteDues
    snapshots: SqliteSnapshots
    views: SqliteViews
    waiters: SqliteWaiters
    documents: DirectoryDocuments
    plans: PlanCache
    loader: Loader
    transact: Transact
    control: Control

    def close(self) -> None:
        self.database.close()


def local_parts(
    database: Path,
    documents: Path,
    effects: Effects,
    *,
    synchronous: Literal["FULL", "NORMAL"] = "FULL",
    read_only: bool = False,
    now: Callable[[], datetime] = utc_now,
) -> LocalParts:
    """Open a home's files. Raises what `SqliteDatabase` raises."""
    opened = SqliteDatabase(database, synchronous=synchronous, read_only=read_only)
    store, dues, snapshots, views = (
        SqliteStore(opened),
        SqliteDues(opened),
        SqliteSnapshots(opened),
        SqliteViews(opened),
    )
    kept = DirectoryDocuments(documents)
    plans = PlanCache(kept)
    loader = Loader(store, plans, snapshots)
    transact = Transact(store, dues, loader, effects, now=now, new_id=new_id, kept_max=LOCAL_KEPT_MAX)

    def known_workflows() -> list[str]:
        return [row.workflow for row in views.workflows(limit=1000)[0]]

    control = Control(transact, kept, new_id=new_ulid, known_workflows=known_workflows, files="/")
    waiters = SqliteWaiters(opened)
    return LocalParts(opened, store, dues, snapshots, views, waiters, kept, plans, loader, transact, control)
