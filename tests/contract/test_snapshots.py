"""What `Snapshots` owes: what was put, or nothing; never something else (fault 49)."""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.ports import Snapshot, Snapshots
from shared.stores.dynamodb import SNAPSHOT_BYTES_MAX, VIEWS_SCHEMA, DynamoSnapshots
from shared.stores.sqlite import SqliteDatabase, SqliteSnapshots
from tests.contract.records import STREAM

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TAKEN = Snapshot(stream=STREAM, version=7, fold_version=3, hash="a" * 64, body=b"state" * 100)


def test_a_snapshot_is_given_back_as_it_was(snapshots: Snapshots) -> None:
    snapshots.put(TAKEN)
    assert snapshots.get(STREAM, 3) == TAKEN


def test_where_nothing_was_put_there_is_none(snapshots: Snapshots) -> None:
    assert snapshots.get(STREAM, 3) is None


def test_a_snapshot_of_another_fold_version_is_not_given_out_fault_49(snapshots: Snapshots) -> None:
    snapshots.put(TAKEN)
    assert snapshots.get(STREAM, 2) is None
    assert snapshots.get(STREAM, 4) is None


def test_a_newer_fold_version_does_not_take_the_snapshots_of_an_older_release_before_it_puts(
    snapshots: Snapshots,
) -> None:
    snapshots.put(replace(TAKEN, fold_version=4, version=9))
    snapshots.put(TAKEN)
    assert snapshots.get(STREAM, 3) == TAKEN
    assert snapshots.get(STREAM, 4) == replace(TAKEN, fold_version=4, version=9)


def test_a_stale_snapshot_does_not_replace_a_newer_one_fault_49(snapshots: Snapshots) -> None:
    newer = replace(TAKEN, version=9, body=b"newer")
    snapshots.put(newer)
    snapshots.put(TAKEN)
    assert snapshots.get(STREAM, 3) == newer


def test_a_newer_one_of_the_same_fold_version_replaces_it(snapshots: Snapshots) -> None:
    snapshots.put(TAKEN)
    newer = replace(TAKEN, version=8, hash="b" * 64, body=b"")
    snapshots.put(newer)
    assert snapshots.get(STREAM, 3) == newer


def test_one_of_the_same_version_replaces_what_may_have_been_damaged(snapshots: Snapshots) -> None:
    snapshots.put(replace(TAKEN, body=b"damaged"))
    snapshots.put(TAKEN)
    assert snapshots.get(STREAM, 3) == TAKEN


def test_it_names_the_commit_it_was_made_of_so_that_a_reader_can_tell_another_history_fault_49(
    snapshots: Snapshots,
) -> None:
    snapshots.put(TAKEN)
    kept = snapshots.get(STREAM, 3)
    assert kept is not None
    assert (kept.version, kept.hash) == (7, "a" * 64)


def test_cleared_snapshots_are_gone_and_can_be_put_again(snapshots: Snapshots) -> None:
    snapshots.put(TAKEN)
    snapshots.clear()
    assert snapshots.get(STREAM, 3) is None
    snapshots.put(replace(TAKEN, version=1))
    assert snapshots.get(STREAM, 3) == replace(TAKEN, version=1)


def test_a_snapshot_damaged_on_disk_is_not_given_out_and_the_next_put_heals_it_fault_49(
    make_database: Callable[[], SqliteDatabase],
) -> None:
    database = make_database()
    snapshots = SqliteSnapshots(database)
    snapshots.put(TAKEN)
    with sqlite3.connect(database.path) as other:
        other.execute("UPDATE snapshots SET body = ?", (b"state" * 99 + b"stAte",))
    other.close()
    assert snapshots.get(STREAM, 3) is None
    snapshots.put(TAKEN)
    assert snapshots.get(STREAM, 3) == TAKEN


@pytest.mark.parametrize(
    "damage", [lambda body: body[:-9], lambda body: body[:20] + b"\x00" + body[21:], lambda _: b"x"]
)
def test_a_snapshot_damaged_in_dynamodb_is_not_given_out_fault_49(
    dynamodb: "DynamoDBClient", make_table: Callable[[Any], str], damage: Callable[[bytes], bytes]
) -> None:
    table = make_table(VIEWS_SCHEMA)
    snapshots = DynamoSnapshots(dynamodb, table)
    snapshots.put(TAKEN)
    (item,) = dynamodb.scan(TableName=table)["Items"]
    dynamodb.put_item(TableName=table, Item=item | {"body": {"B": damage(item["body"]["B"])}})
    assert snapshots.get(STREAM, 3) is None


def test_a_snapshot_too_large_for_an_item_is_not_kept_and_that_is_no_error(
    dynamodb: "DynamoDBClient", make_table: Callable[[Any], str]
) -> None:
    """Fault 47."""
    snapshots = DynamoSnapshots(dynamodb, make_table(VIEWS_SCHEMA))
    snapshots.put(TAKEN)
    snapshots.put(replace(TAKEN, version=8, body=random.Random(1).randbytes(SNAPSHOT_BYTES_MAX + 1)))
    assert snapshots.get(STREAM, 3) == TAKEN
