"""The ports on one SQLite file: what the engine on one machine keeps, and keeps through `kill -9` and power cuts.

Several processes may have the file open at once (the engine, the command line). Commits are never changed: triggers refuse it,
whoever asks; the only way out is `SqliteStore.forget_run`. Every error of SQLite leaves this file as one of ours, with what to do.

The tables are in `_MIGRATIONS`; moments are whole microseconds since 1970 in UTC.
"""

import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from shared.errors import Conflict, CorruptStream, NotFound, Rejected, RunfoldError, StoreUnavailable
from shared.ids import BackfillId, CommitId, RunId, StreamName, WorkflowName, notices_stream, run_stream, workflow_of
from shared.ports import (
    PAGE_MAX,
    SCANNED_MAX,
    BackfillRow,
    DueRow,
    NoticeRow,
    Record,
    RunFilter,
    RunPage,
    RunRow,
    RunSort,
    Snapshot,
    Waiter,
    WorkflowRow,
)
from shared.stores.paging import (
    BEHIND_ALL,
    Place,
    backfill_place,
    bounded,
    name_cursor,
    name_place,
    nearest_list,
    run_cursor,
    run_page,
    run_place,
)
from shared.stores.rows import (
    backfill_in,
    notices_in,
    run_in,
    text_of_backfill,
    text_of_notices,
    text_of_run,
    text_of_workflow,
    workflow_in,
)

BUSY_SECONDS = 5.0
"""How long a write waits for another process's batch before it gives up."""
CONVERT_PAUSE_SECONDS = 0.01
"""Between tries to switch a new file to WAL while another process does the same."""
WAL_BYTES_KEPT = 32 * 1024 * 1024
"""What the write-ahead log is cut back to after a burst."""

_APPLICATION_ID = 0x52464C44  # "RFLD": tells our file from another program's

# One tuple a schema version; a released one is never edited, the next one is added.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: a position is never given out twice, even when the newest run is forgotten.
        """
        CREATE TABLE commits (
            position INTEGER PRIMARY KEY AUTOINCREMENT,
            stream TEXT NOT NULL,
            version INTEGER NOT NULL,
            commit_id TEXT NOT NULL,
            at INTEGER NOT NULL,
            by TEXT NOT NULL,
            cause TEXT NOT NULL,
            previous_hash TEXT NOT NULL,
            hash TEXT NOT NULL,
            body TEXT NOT NULL,
            UNIQUE (stream, version)
        ) STRICT
        """,
        # The condition of every append stands here and not in a statement of ours, so nothing that opens the file can leave a
        # gap, and INSERT OR REPLACE cannot take the place of a commit.
        """
        CREATE TRIGGER commits_are_dense BEFORE INSERT ON commits
        WHEN NEW.version <> 1 + coalesce((SELECT max(version) FROM commits WHERE stream = NEW.stream), 0)
        BEGIN SELECT RAISE(ABORT, 'this version is not the next one of its stream'); END
        """,
        """
        CREATE TRIGGER commits_never_change BEFORE UPDATE ON commits
        BEGIN SELECT RAISE(ABORT, 'commits are never changed'); END
        """,
        "CREATE TABLE forgetting (stream TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        """
        CREATE TRIGGER commits_never_go BEFORE DELETE ON commits
        WHEN NOT EXISTS (SELECT 1 FROM forgetting WHERE stream = OLD.stream)
        BEGIN SELECT RAISE(ABORT, 'commits are never deleted; prune removes whole runs'); END
        """,
        "CREATE TABLE dues (stream TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX dues_by_time ON dues (at, stream)",
        """
        CREATE TABLE snapshots (
            stream TEXT NOT NULL,
            fold_version INTEGER NOT NULL,
            version INTEGER NOT NULL,
            hash TEXT NOT NULL,
            checksum INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (stream, fold_version)
        ) STRICT
        """,
        """
        CREATE TABLE runs (
            run TEXT PRIMARY KEY,
            version INTEGER NOT NULL,
            workflow TEXT NOT NULL,
            status TEXT NOT NULL,
            owner TEXT NOT NULL,
            requested_at INTEGER NOT NULL,
            body TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX runs_by_time ON runs (requested_at, run)",
        "CREATE INDEX runs_by_workflow ON runs (workflow, requested_at, run)",
        "CREATE INDEX runs_by_status ON runs (status, requested_at, run)",
        "CREATE INDEX runs_by_owner ON runs (owner, requested_at, run)",
        """
        CREATE TABLE workflows (
            workflow TEXT PRIMARY KEY,
            stream_version INTEGER NOT NULL,
            body TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE backfills (
            backfill TEXT PRIMARY KEY,
            version INTEGER NOT NULL,
            workflow TEXT NOT NULL,
            place TEXT NOT NULL,
            body TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX backfills_by_place ON backfills (place)",
        "CREATE INDEX backfills_by_workflow ON backfills (workflow, place)",
        # The row with the empty key says up to which generation the workflow's keys are known.
        """
        CREATE TABLE listeners (
            key TEXT NOT NULL,
            workflow TEXT NOT NULL,
            generation INTEGER NOT NULL,
            PRIMARY KEY (key, workflow)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX listeners_by_workflow ON listeners (workflow)",
        """
        CREATE TABLE waiters (
            workflow TEXT NOT NULL,
            awaited TEXT NOT NULL,
            job TEXT NOT NULL,
            run TEXT NOT NULL,
            PRIMARY KEY (workflow, awaited, job, run)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE notices (
            source TEXT PRIMARY KEY,
            version INTEGER NOT NULL,
            workflow TEXT NOT NULL,
            at INTEGER NOT NULL,
            body TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX notices_by_time ON notices (at, source)",
        "CREATE INDEX notices_by_workflow ON notices (workflow, at, source)",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)
"""Of the files that this release writes; it reads and migrates older ones and refuses newer ones."""

_OUTER = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_NESTED = ("SAVEPOINT nested", "RELEASE nested", ("ROLLBACK TO nested", "RELEASE nested"))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


class SqliteDatabase:
    """One connection to the file, shared by the adapters and by every thread of a process.

    A thread that is inside a batch keeps the others out until its end. Whoever only reads, and must not wait for that (the HTTP
    server), opens a second one with `read_only=True`.

    Opening raises `Rejected` for a file of a newer release or of another program, `CorruptStream` for one that is damaged,
    `StoreUnavailable` for one that cannot be reached, and `NotFound` when a file to be only read is not there.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        """With `synchronous="FULL"` what was committed survives a power cut; with `"NORMAL"` it survives the death of the
        process, and a power cut may take the last commits (never the older ones, and never a part of one)."""
        self.path = path
        self.read_only = read_only
        self._lock = threading.RLock()
        self._depth = 0
        self._busy_seconds = busy_seconds
        if read_only and not path.exists():
            raise NotFound(f"there is no {path}; the engine makes it when it starts for the first time")
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                timeout=busy_seconds,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        except sqlite3.Error as error:
            raise self._ours(error) from error
        try:
            self._prepare(synchronous)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "SqliteDatabase":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is written inside becomes durable together at the end, or not at all if the body or the end raises.

        A batch inside a batch joins it: it is durable at the outer end, and undone alone if it raises. An error that the body
        catches (a `Conflict` of one append) leaves the other writes as they are. On a database that is only read, what is read
        inside is of one moment.
        """
        with self._lock:
            begin, end, undo = _NESTED if self._depth else _OUTER
            self.run(begin)
            self._depth += 1
            try:
                yield
                self.run(end)
            except BaseException:
                self._undo(undo)
                raise
            finally:
                self._depth -= 1

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Execute a statement that writes; the number of rows it touched.

        A violated constraint comes out as `sqlite3.IntegrityError`: only the adapter that wrote the statement knows what
        it means.
        """
        with self._lock:
            self._refuse_if_undone()
            try:
                return self._connection.execute(statement, parameters).rowcount
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                raise self._ours(error) from error

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Every row of a query; no cursor stays open, so no reader ever holds back the checkpoint."""
        with self._lock:
            self._refuse_if_undone()
            try:
                return self._connection.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise self._ours(error) from error

    def data_version(self) -> int:
        """A number that changes when another connection, in this or another process, has written; own writes do not
        change it. Costs microseconds."""
        return int(self.rows("PRAGMA data_version")[0][0])

    def damages(self) -> list[str]:
        """What SQLite itself finds wrong with the file; empty when it is sound. Reads all of it."""
        try:
            found = [str(row[0]) for row in self.rows("PRAGMA integrity_check(100)")]
        except CorruptStream as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def _refuse_if_undone(self) -> None:
        # A full or failing disk can make SQLite roll the whole transaction back. What the batch wrote afterwards would be
        # stored statement by statement, so nothing more is taken and the batch's end raises.
        if self._depth and not self._connection.in_transaction:
            raise StoreUnavailable(
                f"{self.path}: an error undid this batch; nothing of it is stored, try all of it again"
            )

    def _undo(self, statements: Sequence[str]) -> None:
        if not self._connection.in_transaction:
            return
        try:
            for statement in statements:
                self._connection.execute(statement)
        except sqlite3.Error:
            # Half a nested batch must not become durable with the outer one.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _prepare(self, synchronous: str) -> None:
        ours, schema_version = self._identify()
        if self.read_only:
            if not ours:
                raise NotFound(f"{self.path} is still empty; the engine fills it when it starts for the first time")
            if schema_version < SCHEMA_VERSION:
                raise Rejected(f"{self.path} is of an older release; start the engine once, and it will be migrated")
            return
        self._use_wal()
        self.run(f"PRAGMA synchronous = {'FULL' if synchronous == 'FULL' else 'NORMAL'}")
        # Only there does macOS write through the disk's own cache; elsewhere it does nothing.
        self.run(f"PRAGMA fullfsync = {int(synchronous == 'FULL')}")
        self.run(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        if schema_version < SCHEMA_VERSION:
            self._migrate()

    def _identify(self) -> tuple[bool, int]:
        # One statement sees one moment: another process may be making the file right now.
        application, schema_version, has_tables = self.rows(
            """
            SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
                   EXISTS (SELECT 1 FROM sqlite_schema)
            """
        )[0]
        if application != _APPLICATION_ID:
            if application or schema_version or has_tables:
                raise Rejected(f"{self.path} belongs to another program; choose another home")
            return False, 0
        if schema_version > SCHEMA_VERSION:
            raise Rejected(
                f"{self.path} was written by a newer release (schema {schema_version}, this one knows {SCHEMA_VERSION}); "
                "upgrade Runfold"
            )
        return True, schema_version

    def _use_wal(self) -> None:
        # The switch needs the file alone and does not honour the busy timeout; it is done once in a file's life.
        give_up = time.monotonic() + self._busy_seconds
        mode = self.rows("PRAGMA journal_mode")[0][0]
        while mode != "wal":
            try:
                mode = self.rows("PRAGMA journal_mode = WAL")[0][0]
            except StoreUnavailable:
                if time.monotonic() > give_up:
                    raise
                time.sleep(CONVERT_PAUSE_SECONDS)
                continue
            if mode != "wal":
                raise StoreUnavailable(
                    f"{self.path}: this file system cannot share memory; put the home on a local disk"
                )
            self._sync_directory()

    def _sync_directory(self) -> None:
        # SQLite syncs the file's content; that the file has a name is up to the directory.
        with suppress(OSError):
            handle = os.open(self.path.absolute().parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _migrate(self) -> None:
        with self.batch():
            # Another process may have been first.
            _, schema_version = self._identify()
            for statements in _MIGRATIONS[schema_version:]:
                for statement in statements:
                    self.run(statement)
            self.run(f"PRAGMA application_id = {_APPLICATION_ID}")
            self.run(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _ours(self, error: sqlite3.Error) -> RunfoldError:
        # The low byte is the kind of error, the rest its details.
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreUnavailable(
                    f"{self.path}: another process has been writing for {self._busy_seconds:g} s; try again"
                )
            case sqlite3.SQLITE_FULL:
                return StoreUnavailable(f"{self.path}: the disk is full; free some space and try again")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return StoreUnavailable(f"{self.path} may only be read here; check who owns it and how it was opened")
            case sqlite3.SQLITE_CANTOPEN:
                return StoreUnavailable(
                    f"{self.path} cannot be opened; check that its directory exists and who owns it"
                )
            case sqlite3.SQLITE_IOERR:
                return StoreUnavailable(f"{self.path}: the disk reports an error ({error}); check it, then try again")
            case sqlite3.SQLITE_NOTADB:
                return CorruptStream(f"{self.path} is not a Runfold file; move it away or choose another home")
            case sqlite3.SQLITE_CORRUPT:
                return CorruptStream(
                    f"{self.path} is damaged ({error}); stop the engine and restore the file from a backup"
                )
            case _:
                return StoreUnavailable(f"{self.path}: {error}")


_APPEND = """
    INSERT INTO commits (stream, version, commit_id, at, by, cause, previous_hash, hash, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_READ = """
    SELECT version, commit_id, at, by, cause, previous_hash, hash, body FROM commits
    WHERE stream = ? AND version > ? ORDER BY version LIMIT ?
"""


class SqliteStore:
    """An `EventStore` whose commits also have a position: their place in the order in which all streams were written."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def append(self, record: Record) -> None:
        # The hash is of the time as text: another zone's would read back differently and break the chain.
        assert not record.at.utcoffset(), record.at
        try:
            self._database.run(
                _APPEND,
                (
                    record.stream,
                    record.version,
                    record.commit_id,
                    _micros(record.at),
                    record.by,
                    record.cause,
                    record.previous_hash,
                    record.hash,
                    record.body,
                ),
            )
        except sqlite3.IntegrityError as error:
            if self._commit_id(record.stream, record.version) != record.commit_id:
                raise Conflict(f"{record.stream}: version {record.version} is not the next one") from error

    def read(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        return [
            Record(stream, version, commit_id, _instant(at), by, cause, previous_hash, hash_, body)
            for version, commit_id, at, by, cause, previous_hash, hash_, body in self._database.rows(
                _READ, (stream, after, bounded(limit))
            )
        ]

    def streams(self, kind: str, *, after: str = "", limit: int = PAGE_MAX) -> list[StreamName]:
        # "$" follows "#", so the range holds exactly the names that begin with the kind. Only the index is read.
        rows = self._database.rows(
            "SELECT stream FROM commits WHERE stream > ? AND stream < ? AND version = 1 ORDER BY stream LIMIT ?",
            (max(after, f"{kind}#"), f"{kind}$", bounded(limit)),
        )
        return [StreamName(stream) for (stream,) in rows]

    def batch(self) -> AbstractContextManager[None]:
        return self._database.batch()

    def position(self) -> int:
        """Of the newest commit there ever was; 0 when there was none. It never goes back, and no position is used twice."""
        rows = self._database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'commits'")
        return int(rows[0][0]) if rows else 0

    def moved_since(self, position: int, limit: int = PAGE_MAX) -> list[tuple[int, StreamName]]:
        """Every commit after `position` in the order of appending: its position and its stream, at most `limit`.

        Writers take turns, so a lower position never appears after a higher one was seen.
        """
        return self._database.rows(
            "SELECT position, stream FROM commits WHERE position > ? ORDER BY position LIMIT ?",
            (position, bounded(limit)),
        )

    def forget_run(self, run: RunId) -> bool:
        """Remove a finished run for good: its commits, notices, snapshots, due rows and rows in the lists, in one batch.

        The only door through which commits go; `runfold prune` uses it. False when there was no such run; `Rejected` when its
        row says that it has not finished. The same id may then be used again, from version 1: whoever prunes takes care that no
        command for the old run is still on its way.
        """
        stream = run_stream(run)
        with self._database.batch():
            status = self._database.rows("SELECT status FROM runs WHERE run = ?", (run,))
            if status and status[0][0] in ("waiting", "running"):
                raise Rejected(f"{run} is {status[0][0]}; only a finished run can be forgotten")
            removed = self._forget(stream)
            # Left behind, they would say of a new run under this id that it was told of already.
            self._forget(notices_stream(stream))
            self._database.run("DELETE FROM runs WHERE run = ?", (run,))
            self._database.run("DELETE FROM waiters WHERE run = ?", (run,))
            self._database.run("DELETE FROM notices WHERE source = ?", (stream,))
        return removed > 0

    def _forget(self, stream: StreamName) -> int:
        self._database.run("INSERT INTO forgetting (stream) VALUES (?)", (stream,))
        removed = self._database.run("DELETE FROM commits WHERE stream = ?", (stream,))
        self._database.run("DELETE FROM forgetting")
        self._database.run("DELETE FROM snapshots WHERE stream = ?", (stream,))
        self._database.run("DELETE FROM dues WHERE stream = ?", (stream,))
        return removed

    def _commit_id(self, stream: StreamName, version: int) -> CommitId | None:
        rows = self._database.rows("SELECT commit_id FROM commits WHERE stream = ? AND version = ?", (stream, version))
        return CommitId(rows[0][0]) if rows else None


class SqliteDues:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def get(self, stream: StreamName) -> datetime | None:
        rows = self._database.rows("SELECT at FROM dues WHERE stream = ?", (stream,))
        return _instant(rows[0][0]) if rows else None

    def lower(self, stream: StreamName, at: datetime) -> None:
        self._database.run(
            """
            INSERT INTO dues (stream, at) VALUES (?, ?)
            ON CONFLICT (stream) DO UPDATE SET at = excluded.at WHERE excluded.at < dues.at
            """,
            (stream, _micros(at)),
        )

    def raise_to(self, stream: StreamName, *, seen: datetime, at: datetime) -> bool:
        statement = "UPDATE dues SET at = ? WHERE stream = ? AND at = ?"
        return self._database.run(statement, (_micros(at), stream, _micros(seen))) == 1

    def remove(self, stream: StreamName, *, seen: datetime) -> bool:
        return self._database.run("DELETE FROM dues WHERE stream = ? AND at = ?", (stream, _micros(seen))) == 1

    def due(self, now: datetime, *, limit: int = PAGE_MAX) -> list[DueRow]:
        rows = self._database.rows(
            "SELECT stream, at FROM dues WHERE at <= ? ORDER BY at, stream LIMIT ?", (_micros(now), bounded(limit))
        )
        return [DueRow(stream, _instant(at)) for stream, at in rows]

    def next_at(self) -> datetime | None:
        (earliest,) = self._database.rows("SELECT min(at) FROM dues")[0]
        return None if earliest is None else _instant(earliest)


class SqliteSnapshots:
    """A body that was damaged on disk is not given out: the caller folds from the beginning."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def get(self, stream: StreamName, fold_version: int) -> Snapshot | None:
        rows = self._database.rows(
            "SELECT version, hash, checksum, body FROM snapshots WHERE stream = ? AND fold_version = ?",
            (stream, fold_version),
        )
        if not rows:
            return None
        version, hash_, checksum, body = rows[0]
        return Snapshot(stream, version, fold_version, hash_, body) if zlib.crc32(body) == checksum else None

    def put(self, snapshot: Snapshot) -> None:
        with self._database.batch():
            # Those of older releases would stay for ever; those of a newer one are still in use while it is rolled out.
            self._database.run(
                "DELETE FROM snapshots WHERE stream = ? AND fold_version < ?", (snapshot.stream, snapshot.fold_version)
            )
            self._database.run(
                """
                INSERT INTO snapshots (stream, fold_version, version, hash, checksum, body) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (stream, fold_version) DO UPDATE
                SET version = excluded.version, hash = excluded.hash, checksum = excluded.checksum, body = excluded.body
                WHERE excluded.version >= snapshots.version
                """,
                (
                    snapshot.stream,
                    snapshot.fold_version,
                    snapshot.version,
                    snapshot.hash,
                    zlib.crc32(snapshot.body),
                    snapshot.body,
                ),
            )

    def clear(self) -> None:
        self._database.run("DELETE FROM snapshots")


class SqliteWaiters:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def add(self, waiter: Waiter) -> None:
        self._database.run(
            "INSERT OR IGNORE INTO waiters (workflow, awaited, job, run) VALUES (?, ?, ?, ?)", _key(waiter)
        )

    def remove(self, waiter: Waiter) -> None:
        self._database.run(
            "DELETE FROM waiters WHERE workflow = ? AND awaited = ? AND job = ? AND run = ?", _key(waiter)
        )

    def of(self, workflow: WorkflowName, *, awaited: str | None = None, limit: int = PAGE_MAX) -> list[Waiter]:
        rows = self._database.rows(
            "SELECT awaited, job, run FROM waiters WHERE workflow = ? AND (? IS NULL OR awaited = ?) "
            "ORDER BY awaited, job, run LIMIT ?",
            (workflow, awaited, awaited, bounded(limit)),
        )
        return [Waiter(what, job, RunId(waiting)) for what, job, waiting in rows]


def _key(waiter: Waiter) -> tuple[str, str, str, str]:
    return (workflow_of(RunId(waiter.awaited)), waiter.awaited, waiter.job, waiter.run)


class SqliteViews:
    """Lists by workflow, status or owner, and of all, are read from an index in their order; the rest is looked for row by row."""

    def __init__(self, database: SqliteDatabase, *, scanned_max: int = SCANNED_MAX) -> None:
        self._database = database
        self._scanned_max = scanned_max

    def put_run(self, row: RunRow) -> None:
        self._database.run(
            """
            INSERT INTO runs (run, version, workflow, status, owner, requested_at, body) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (run) DO UPDATE
            SET version = excluded.version, workflow = excluded.workflow, status = excluded.status,
                owner = excluded.owner, requested_at = excluded.requested_at, body = excluded.body
            WHERE excluded.version > runs.version
            """,
            (
                row.run,
                row.version,
                row.workflow,
                row.status,
                row.owner,
                _micros(row.requested_at),
                text_of_run(row),
            ),
        )

    def get_run(self, run: RunId) -> RunRow | None:
        rows = self._database.rows("SELECT body FROM runs WHERE run = ?", (run,))
        return run_in(rows[0][0]) if rows else None

    def runs(
        self, where: RunFilter = RunFilter(), *, sort: RunSort = "newest", cursor: str = "", limit: int = 50
    ) -> RunPage:
        listed, of_list = _conditions(nearest_list(where))
        # Whether a row is wanted is a column, not a condition, so that the plan is the list's and its order always comes from the index.
        wanted, of_row = ([], ()) if where.is_listed else _conditions(where)
        behind, direction = ("<", "DESC") if sort == "newest" else (">", "ASC")

        def runs_after(place: Place | None, count: int) -> list[tuple[Place, RunRow | None]]:
            conditions, parameters = listed, of_list
            if place is not None:
                conditions = [*listed, f"(requested_at, run) {behind} (?, ?)"]
                parameters = (*of_list, _micros(place[0]), place[1])
            # Only constant pieces are put together; every value is a parameter.
            query = (
                f"SELECT requested_at, run, CASE WHEN {_all_of(wanted)} THEN body END "  # noqa: S608
                f"FROM runs WHERE {_all_of(conditions)} ORDER BY requested_at {direction}, run {direction} LIMIT ?"
            )
            rows = self._database.rows(query, (*of_row, *parameters, count))
            return [((_instant(at), RunId(run)), None if body is None else run_in(body)) for at, run, body in rows]

        return run_page(where, runs_after, sort=sort, cursor=cursor, limit=limit, scanned_max=self._scanned_max)

    def remove_run(self, run: RunId) -> None:
        self._database.run("DELETE FROM runs WHERE run = ?", (run,))

    def put_workflow(self, row: WorkflowRow) -> None:
        self._database.run(
            """
            INSERT INTO workflows (workflow, stream_version, body) VALUES (?, ?, ?)
            ON CONFLICT (workflow) DO UPDATE SET stream_version = excluded.stream_version, body = excluded.body
            WHERE excluded.stream_version > workflows.stream_version
            """,
            (row.workflow, row.stream_version, text_of_workflow(row)),
        )

    def get_workflow(self, workflow: WorkflowName) -> WorkflowRow | None:
        rows = self._database.rows("SELECT body FROM workflows WHERE workflow = ?", (workflow,))
        return workflow_in(rows[0][0]) if rows else None

    def remove_workflow(self, workflow: WorkflowName) -> None:
        self._database.run("DELETE FROM workflows WHERE workflow = ?", (workflow,))

    def workflows(self, *, cursor: str = "", limit: int = 50) -> tuple[list[WorkflowRow], str]:
        limit = bounded(limit)
        rows = self._database.rows(
            "SELECT body FROM workflows WHERE workflow > ? ORDER BY workflow LIMIT ?",
            (name_place(cursor) if cursor else "", limit + 1),
        )
        page = [workflow_in(body) for (body,) in rows[:limit]]
        return page, name_cursor(page[-1].workflow) if len(rows) > limit else ""

    def put_backfill(self, row: BackfillRow) -> None:
        self._database.run(
            """
            INSERT INTO backfills (backfill, version, workflow, place, body) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (backfill) DO UPDATE SET version = excluded.version, workflow = excluded.workflow,
                place = excluded.place, body = excluded.body
            WHERE excluded.version > backfills.version
            """,
            (row.backfill, row.version, row.workflow, backfill_place(row), text_of_backfill(row)),
        )

    def get_backfill(self, backfill: BackfillId) -> BackfillRow | None:
        rows = self._database.rows("SELECT body FROM backfills WHERE backfill = ?", (backfill,))
        return backfill_in(rows[0][0]) if rows else None

    def remove_backfill(self, backfill: BackfillId) -> None:
        self._database.run("DELETE FROM backfills WHERE backfill = ?", (backfill,))

    def backfills(
        self, workflow: WorkflowName | None = None, *, cursor: str = "", limit: int = 50
    ) -> tuple[list[BackfillRow], str]:
        limit = bounded(limit)
        before = name_place(cursor) if cursor else BEHIND_ALL
        if workflow is None:
            rows = self._database.rows(
                "SELECT place, body FROM backfills WHERE place < ? ORDER BY place DESC LIMIT ?", (before, limit + 1)
            )
        else:
            rows = self._database.rows(
                "SELECT place, body FROM backfills WHERE workflow = ? AND place < ? ORDER BY place DESC LIMIT ?",
                (workflow, before, limit + 1),
            )
        page = [backfill_in(body) for _, body in rows[:limit]]
        return page, name_cursor(rows[limit - 1][0]) if len(rows) > limit else ""

    def put_listeners(self, workflow: WorkflowName, generation: int, keys: Sequence[str]) -> None:
        known = "SELECT generation FROM listeners WHERE key = '' AND workflow = ?"
        rows = self._database.rows(known, (workflow,))
        if rows and rows[0][0] >= generation:
            return
        with self._database.batch():
            # Another process may have been here since.
            rows = self._database.rows(known, (workflow,))
            if rows and rows[0][0] >= generation:
                return
            self._database.run("DELETE FROM listeners WHERE workflow = ?", (workflow,))
            for key in ("", *dict.fromkeys(keys)):
                self._database.run(
                    "INSERT INTO listeners (key, workflow, generation) VALUES (?, ?, ?)", (key, workflow, generation)
                )

    def listeners(self, key: str, *, after: str = "", limit: int = PAGE_MAX) -> list[WorkflowName]:
        rows = self._database.rows(
            "SELECT workflow FROM listeners WHERE key = ? AND workflow > ? ORDER BY workflow LIMIT ?",
            (key, after, bounded(limit)),
        )
        return [WorkflowName(workflow) for (workflow,) in rows]

    def put_notices(self, row: NoticeRow) -> None:
        self._database.run(
            """
            INSERT INTO notices (source, version, workflow, at, body) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (source) DO UPDATE SET version = excluded.version, at = excluded.at, body = excluded.body
            WHERE excluded.version > notices.version
            """,
            (row.source, row.version, row.workflow, _micros(row.at), text_of_notices(row)),
        )

    def get_notices(self, source: StreamName) -> NoticeRow | None:
        rows = self._database.rows("SELECT body FROM notices WHERE source = ?", (source,))
        return notices_in(rows[0][0]) if rows else None

    def notices(
        self, *, workflow: str | None = None, since: datetime | None = None, cursor: str = "", limit: int = 50
    ) -> tuple[list[NoticeRow], str]:
        limit = bounded(limit)
        conditions: list[str] = []
        parameters: list[Any] = []
        if workflow is not None:
            conditions.append("workflow = ?")
            parameters.append(workflow)
        if since is not None:
            conditions.append("at >= ?")
            parameters.append(_micros(since))
        if cursor:
            at, source = run_place(cursor)
            conditions.append("(at, source) < (?, ?)")
            parameters += [_micros(at), source]
        # Only constant pieces are put together; every value is a parameter.
        query = f"SELECT body FROM notices WHERE {_all_of(conditions)} ORDER BY at DESC, source DESC LIMIT ?"  # noqa: S608
        rows = [notices_in(body) for (body,) in self._database.rows(query, (*parameters, limit + 1))]
        page = rows[:limit]
        return page, run_cursor((page[-1].at, RunId(page[-1].source))) if len(rows) > limit else ""

    def remove_notices(self, source: StreamName) -> None:
        self._database.run("DELETE FROM notices WHERE source = ?", (source,))

    def clear(self) -> None:
        with self._database.batch():
            self._database.run("DELETE FROM notices")
            self._database.run("DELETE FROM runs")
            self._database.run("DELETE FROM workflows")
            self._database.run("DELETE FROM backfills")


def _conditions(where: RunFilter) -> tuple[list[str], tuple[Any, ...]]:
    asked = (
        ("workflow = ?", where.workflow),
        ("status = ?", where.status),
        ("owner = ?", where.owner),
        ("EXISTS (SELECT 1 FROM json_each(body, '$.tags') WHERE value = ?)", where.tag),
        ("EXISTS (SELECT 1 FROM json_each(body, '$.attention') WHERE value = ?)", where.attention),
        ("json_extract(body, '$.parent') = ?", where.parent),
        ("requested_at >= ?", None if where.since is None else _micros(where.since)),
        ("requested_at < ?", None if where.until is None else _micros(where.until)),
    )
    conditions = [condition for condition, value in asked if value is not None]
    return conditions, tuple(value for _, value in asked if value is not None)


def _all_of(conditions: Sequence[str]) -> str:
    return " AND ".join(conditions) or "TRUE"
