"""What the SQLite file owes beyond the ports: several processes, sudden death, damage, and commits that never change."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shared import codec
from shared.errors import Conflict, CorruptStream, NotFound, Rejected, StoreUnavailable
from shared.ids import CommitId, RunId, run_stream
from shared.ports import PAGE_MAX, RunPage, Snapshot
from shared.stores.paging import bounded
from shared.stores.sqlite import (
    SCHEMA_VERSION,
    SqliteDatabase,
    SqliteDues,
    SqliteSnapshots,
    SqliteStore,
    SqliteViews,
)
from tests.contract.records import NOON, STREAM, append_all, chain, commit_after, seconds, whole_stream
from tests.contract.sqlite_writer import STREAMS
from tests.contract.test_views import RUN

ROOT = Path(__file__).parents[2]
OTHER = run_stream(RunId("other@1"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    with SqliteDatabase(path) as database:
        yield database


def start_writer(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contract.sqlite_writer", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def raw(path: Path) -> "closing[sqlite3.Connection]":
    return closing(sqlite3.connect(path, isolation_level=None))


# --- several processes ------------------------------------------------------------------------------------------------


def test_of_processes_that_race_for_each_version_exactly_one_wins_fault_42(path: Path) -> None:
    # None of them finds a file: they race for making it, too.
    versions = 60
    writers = [start_writer("race", str(path), f"writer-{number}", str(versions)) for number in range(3)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = [sorted(map(int, writer.communicate(timeout=60)[0].split())) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sorted(version for versions_won in won for version in versions_won) == list(range(1, versions + 1))
    with SqliteDatabase(path, read_only=True) as database:
        records = SqliteStore(database).read(STREAM)
    codec.check_chain(records)
    for number, versions_won in enumerate(won):
        own = [record.version for record in records if record.commit_id.startswith(f"writer-{number}-")]
        assert own == versions_won


@pytest.mark.parametrize("acknowledged_min", [3, 60, 300])
def test_a_writer_killed_under_load_leaves_everything_it_acknowledged_and_only_whole_batches(
    path: Path, acknowledged_min: int
) -> None:
    writer = start_writer("batches", str(path))
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= acknowledged_min:
            break
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate()
    acknowledged = int((rest.rpartition("\n")[0].splitlines() or [str(acknowledged_min)])[-1])
    with SqliteDatabase(path) as database:
        store = SqliteStore(database)
        histories = [whole_stream(store, stream=stream) for stream in STREAMS]
        for stream, history in zip(STREAMS, histories, strict=True):
            codec.check_chain(history)
            store.append(commit_after(history[-1], stream=stream))
            assert SqliteDues(database).get(stream) is not None
        assert len({len(history) for history in histories}) == 1
        assert sum(map(len, histories)) >= acknowledged
        assert database.damages() == []


def test_a_write_during_the_batch_of_another_process_waits_and_then_fails_clearly(path: Path) -> None:
    with (
        SqliteDatabase(path) as first,
        SqliteDatabase(path, busy_seconds=0.05) as second,
        SqliteStore(first).batch(),
    ):
        SqliteStore(first).append(commit_after(None))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="another process has been writing"):
            SqliteStore(second).append(commit_after(None, stream=OTHER))
        assert time.monotonic() - began >= 0.04
        with pytest.raises(StoreUnavailable, match="try again"), second.batch():
            pass
        assert SqliteStore(second).read(STREAM) == []


def test_a_write_during_a_short_batch_of_another_process_waits_for_its_end(path: Path) -> None:
    with SqliteDatabase(path) as first, SqliteDatabase(path) as second:
        inside = threading.Event()

        def write() -> None:
            with first.batch():
                SqliteStore(first).append(commit_after(None))
                inside.set()
                time.sleep(0.02)

        thread = threading.Thread(target=write)
        thread.start()
        inside.wait()
        with pytest.raises(Conflict):
            SqliteStore(second).append(commit_after(None, commit_id="rival"))
        thread.join()


def test_a_file_being_written_can_be_read_and_only_read(path: Path, database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    records = chain(3)
    store.append(records[0])
    with SqliteDatabase(path, read_only=True) as reading:
        reader = SqliteStore(reading)
        with store.batch():
            store.append(records[1])
            assert reader.read(STREAM) == records[:1]
        assert reader.read(STREAM) == records[:2]
        with pytest.raises(StoreUnavailable, match="may only be read"):
            reader.append(records[2])


def test_what_is_read_in_a_batch_of_a_reader_is_of_one_moment(path: Path, database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    records = chain(2)
    store.append(records[0])
    with SqliteDatabase(path, read_only=True) as reading:
        reader = SqliteStore(reading)
        with reader.batch():
            assert reader.read(STREAM) == records[:1]
            store.append(records[1])
            assert reader.read(STREAM) == records[:1]
        assert reader.read(STREAM) == records


def test_a_file_that_nobody_has_open_can_be_read_as_well(path: Path) -> None:
    with SqliteDatabase(path) as database:
        SqliteStore(database).append(commit_after(None))
    with SqliteDatabase(path, read_only=True) as database:
        assert SqliteStore(database).read(STREAM) == chain(1)


def test_the_data_version_changes_with_the_writes_of_others_and_not_with_own_ones(
    path: Path, database: SqliteDatabase
) -> None:
    before = database.data_version()
    SqliteStore(database).append(commit_after(None))
    assert database.data_version() == before
    with SqliteDatabase(path) as other:
        SqliteStore(other).append(commit_after(None, stream=OTHER))
    assert database.data_version() != before


def test_no_page_is_longer_than_the_bound_whatever_is_asked(database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    records = chain(PAGE_MAX + 1)
    with store.batch():
        append_all(store, records)
    assert store.read(STREAM, limit=PAGE_MAX * 5) == records[:PAGE_MAX]
    assert len(store.moved_since(0, PAGE_MAX * 5)) == PAGE_MAX
    assert bounded(PAGE_MAX * 5) == PAGE_MAX


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_that_raises_stores_nothing(database: SqliteDatabase) -> None:
    store, dues, views = SqliteStore(database), SqliteDues(database), SqliteViews(database)

    def interrupted() -> None:
        with store.batch():
            dues.lower(STREAM, NOON)
            append_all(store, chain(2))
            views.put_run(RUN)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.read(STREAM) == []
    assert dues.get(STREAM) is None
    assert views.get_run(RUN.run) is None
    store.append(commit_after(None))


def test_a_batch_inside_a_batch_joins_it(path: Path, database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    with SqliteDatabase(path, read_only=True) as reading, store.batch():
        with store.batch():
            store.append(commit_after(None))
        assert SqliteStore(reading).read(STREAM) == []
    assert store.read(STREAM) == chain(1)


def test_a_batch_inside_a_batch_that_raises_is_undone_alone(database: SqliteDatabase) -> None:
    store = SqliteStore(database)

    def conflicting() -> None:
        with store.batch():
            store.append(commit_after(None, stream=OTHER))
            store.append(commit_after(None, commit_id="rival"))

    with store.batch():
        store.append(commit_after(None))
        with pytest.raises(Conflict):
            conflicting()
        append_all(store, chain(2)[1:])
    assert len(store.read(STREAM)) == 2
    assert store.read(OTHER) == []


def test_a_full_disk_refuses_what_does_not_fit_and_says_what_to_do(database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    store.append(commit_after(None))
    pages = database.rows("PRAGMA page_count")[0][0]
    database.rows(f"PRAGMA max_page_count = {pages + 4}")
    large = replace(commit_after(None, stream=OTHER), body="x" * 90_000)
    with store.batch():
        with pytest.raises(StoreUnavailable, match="free some space"):
            store.append(large)
        store.append(chain(2)[1])
    assert store.read(STREAM) == chain(2)
    assert store.read(OTHER) == []
    database.rows("PRAGMA max_page_count = 1073741823")
    store.append(large)
    assert store.read(OTHER) == [large]


def test_when_an_error_of_the_disk_undoes_a_batch_nothing_written_afterwards_becomes_durable_alone(
    database: SqliteDatabase,
) -> None:
    store = SqliteStore(database)
    store.append(commit_after(None))

    def fail_in_the_middle() -> None:
        with store.batch():
            store.append(chain(2)[1])
            # What SQLite does by itself when the disk fails.
            database.run("ROLLBACK")
            with pytest.raises(StoreUnavailable, match="try all of it again"):
                store.append(commit_after(None, stream=OTHER))
            with pytest.raises(StoreUnavailable, match="try all of it again"), store.batch():
                pass

    with pytest.raises(StoreUnavailable, match="undid this batch"):
        fail_in_the_middle()
    assert store.read(STREAM) == chain(1)
    assert store.read(OTHER) == []
    with store.batch():
        store.append(chain(2)[1])
    assert store.read(STREAM) == chain(2)


def test_threads_share_a_database_and_their_batches_do_not_mix(database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    inside, failed = threading.Event(), threading.Event()

    def fail() -> None:
        with store.batch():
            store.append(commit_after(None))
            inside.set()
            time.sleep(0.01)
            raise RuntimeError

    def expect_failure() -> None:
        with pytest.raises(RuntimeError):
            fail()
        failed.set()

    thread = threading.Thread(target=expect_failure)
    thread.start()
    inside.wait()
    store.append(commit_after(None, stream=OTHER))
    thread.join()
    assert failed.is_set()
    assert store.streams("run") == [OTHER]


# --- positions --------------------------------------------------------------------------------------------------------


def test_what_moved_is_told_in_the_order_of_appending(database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    assert (store.position(), store.moved_since(0)) == (0, [])
    mine, others = chain(2), chain(1, stream=OTHER)
    append_all(store, [mine[0], others[0], mine[1]])
    moved = store.moved_since(0)
    assert [stream for _, stream in moved] == [STREAM, OTHER, STREAM]
    assert store.position() == moved[-1][0]
    assert store.moved_since(moved[0][0], 1) == moved[1:2]
    assert store.moved_since(store.position()) == []


def test_a_position_is_never_used_twice_even_when_the_newest_run_is_forgotten(database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    store.append(commit_after(None, stream=OTHER))
    store.append(commit_after(None))
    position = store.position()
    store.forget_run(RunId(STREAM.partition("#")[2]))
    assert store.position() == position
    store.append(commit_after(None))
    assert store.moved_since(position) == [(position + 1, STREAM)]


# --- commits never change ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE commits SET body = '[]'",
        "UPDATE commits SET by = 'somebody' WHERE version = 1",
        "DELETE FROM commits WHERE version = 2",
        "INSERT OR REPLACE INTO commits SELECT 9, stream, version, 'x', at, by, cause, previous_hash, hash, '[]' FROM commits",
        "INSERT OR REPLACE INTO commits SELECT position, stream, 3, 'x', at, by, cause, previous_hash, hash, '[]' FROM commits",
        "INSERT INTO commits SELECT 9, stream, version + 7, 'x', at, by, cause, previous_hash, hash, '[]' FROM commits",
    ],
)
def test_nobody_who_opens_the_file_can_change_or_delete_a_commit(
    path: Path, database: SqliteDatabase, statement: str
) -> None:
    store = SqliteStore(database)
    append_all(store, chain(2))
    with raw(path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    assert store.read(STREAM) == chain(2)


def test_forgetting_a_finished_run_removes_all_of_it_and_nothing_else(database: SqliteDatabase) -> None:
    store, dues = SqliteStore(database), SqliteDues(database)
    snapshots, views = SqliteSnapshots(database), SqliteViews(database)
    kept = replace(RUN, run=RunId("other@1"), status="succeeded")
    for row in (replace(RUN, status="succeeded"), kept):
        stream = run_stream(row.run)
        append_all(store, chain(3, stream=stream))
        dues.lower(stream, NOON)
        snapshots.put(Snapshot(stream, 3, 1, "h", b"body"))
        views.put_run(row)
    assert store.forget_run(RUN.run)
    assert store.read(STREAM) == []
    assert dues.get(STREAM) is None
    assert snapshots.get(STREAM, 1) is None
    assert views.runs() == RunPage([kept], "")
    assert len(store.read(OTHER)) == 3
    assert [row.stream for row in dues.due(NOON)] == [OTHER]
    assert snapshots.get(OTHER, 1) is not None
    assert not store.forget_run(RUN.run)


def test_a_run_that_has_not_finished_is_not_forgotten(database: SqliteDatabase) -> None:
    store, views = SqliteStore(database), SqliteViews(database)
    append_all(store, chain(2))
    views.put_run(RUN)
    with pytest.raises(Rejected, match="only a finished run"):
        store.forget_run(RUN.run)
    assert store.read(STREAM) == chain(2)


def test_the_door_for_forgetting_is_shut_again(path: Path, database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    append_all(store, chain(2))
    store.forget_run(RUN.run)
    append_all(store, chain(2))
    with raw(path) as connection, pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        connection.execute("DELETE FROM commits")


# --- the file ---------------------------------------------------------------------------------------------------------


def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    with SqliteDatabase(path) as database:
        append_all(SqliteStore(database), chain(4))
        SqliteDues(database).lower(STREAM, NOON + seconds(1))
    with SqliteDatabase(path) as database:
        assert SqliteStore(database).read(STREAM) == chain(4)
        assert SqliteDues(database).next_at() == NOON + seconds(1)


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_a_commit_is_synced_as_it_was_asked(path: Path, synchronous: str, level: int) -> None:
    with SqliteDatabase(path) as database:
        assert database.rows("PRAGMA synchronous") == [(2,)]
    with SqliteDatabase(path, synchronous="NORMAL" if level == 1 else "FULL") as database:
        assert database.rows("PRAGMA synchronous") == [(level,)]
        assert database.rows("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_a_newer_release_is_refused_and_left_alone(path: Path, read_only: bool) -> None:
    SqliteDatabase(path).close()
    with raw(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    content = path.read_bytes()
    with pytest.raises(Rejected, match=r"newer release.*upgrade"):
        SqliteDatabase(path, read_only=read_only)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    content = path.read_bytes()
    with pytest.raises(Rejected, match="another program"):
        SqliteDatabase(path)
    assert path.read_bytes() == content


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"name: nightly\n" * 1_000)
    with pytest.raises(CorruptStream, match="is not a Runfold file"):
        SqliteDatabase(path)
    assert path.read_bytes() == b"name: nightly\n" * 1_000


def test_a_damaged_file_is_told_with_what_to_do(path: Path) -> None:
    with SqliteDatabase(path) as database:
        store = SqliteStore(database)
        with store.batch():
            append_all(store, chain(400))
    content = bytearray(path.read_bytes())
    # The first pages say what tables there are; without them the file could not even be opened.
    for page in range(32, len(content) // 4096):
        content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    with SqliteDatabase(path) as database:
        with pytest.raises(CorruptStream, match="restore the file from a backup"):
            SqliteStore(database).read(STREAM)
        assert database.damages()


def test_a_file_in_a_directory_that_is_not_there_is_told_clearly(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="check that its directory exists"):
        SqliteDatabase(tmp_path / "nowhere" / "events.db")


def test_reading_a_file_that_is_not_there_makes_none(path: Path) -> None:
    with pytest.raises(NotFound):
        SqliteDatabase(path, read_only=True)
    assert not path.exists()
    path.touch()
    with pytest.raises(NotFound, match="still empty"):
        SqliteDatabase(path, read_only=True)


def test_odd_characters_in_a_path_are_part_of_the_name(tmp_path: Path) -> None:
    path = tmp_path / "what? 100% #1 ü.db"
    with SqliteDatabase(path) as database:
        SqliteStore(database).append(commit_after(None))
    assert path.exists()


def test_threads_that_open_a_new_file_at_once_all_succeed(path: Path) -> None:
    start = threading.Barrier(6)
    opened: list[int] = []

    def open_and_write(number: int) -> None:
        start.wait()
        with SqliteDatabase(path) as database:
            SqliteStore(database).append(commit_after(None, stream=run_stream(RunId(f"w@{number}"))))
            opened.append(number)

    threads = [threading.Thread(target=open_and_write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == list(range(6))


def test_lists_are_read_from_an_index_in_their_order(make_database: Callable[[], SqliteDatabase]) -> None:
    database = make_database()
    for condition in ("TRUE", "workflow = 'w'", "status = 's'", "owner = 'o'"):
        plan = database.rows(
            f"EXPLAIN QUERY PLAN SELECT body FROM runs WHERE {condition} ORDER BY requested_at DESC, run DESC LIMIT 5"
        )
        assert "USING INDEX runs_by_" in str(plan)
        assert "TEMP B-TREE" not in str(plan)


def test_a_stored_commit_with_the_same_id_is_own_even_when_others_followed_fault_43(database: SqliteDatabase) -> None:
    store = SqliteStore(database)
    records = chain(3)
    append_all(store, records)
    store.append(records[0])
    with pytest.raises(Conflict):
        store.append(replace(records[0], commit_id=CommitId("twin")))
