"""Each store port on every adapter: a test that asks for one of these fixtures runs once for each.

`make_...` gives a fresh, empty adapter at each call, for properties that need many.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from shared.ports import SCANNED_MAX, Documents, Dues, EventStore, Snapshots, Views, Waiters
from shared.stores.directory import DirectoryDocuments
from shared.stores.dynamodb import (
    EVENTS_SCHEMA,
    VIEWS_SCHEMA,
    DynamoDues,
    DynamoSnapshots,
    DynamoStore,
    DynamoViews,
    DynamoWaiters,
)
from shared.stores.memory import MemoryDocuments, MemoryDues, MemorySnapshots, MemoryStore, MemoryViews, MemoryWaiters
from shared.stores.s3 import S3Documents
from shared.stores.sqlite import SqliteDatabase, SqliteDues, SqliteSnapshots, SqliteStore, SqliteViews, SqliteWaiters

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

ADAPTERS = ["memory", "sqlite", "dynamodb"]
AWS: dict[str, str] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "testing",
    "aws_secret_access_key": "testing",
}


# Of a module: within a mock that is still there, another would find its tables.
@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    with mock_aws():
        yield


@pytest.fixture(scope="module")
def dynamodb(aws: None) -> "DynamoDBClient":
    return boto3.client("dynamodb", **AWS)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def s3(aws: None) -> "S3Client":
    client: S3Client = boto3.client("s3", **AWS)  # type: ignore[call-overload]
    client.create_bucket(Bucket="runfold", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.put_bucket_versioning(Bucket="runfold", VersioningConfiguration={"Status": "Enabled"})
    return client


@pytest.fixture
def make_table(dynamodb: "DynamoDBClient") -> Callable[[Any], str]:
    def make(schema: Any) -> str:
        table = f"table-{uuid.uuid4().hex}"
        dynamodb.create_table(TableName=table, **schema)
        return table

    return make


@pytest.fixture
def make_database(tmp_path: Path) -> Iterator[Callable[[], SqliteDatabase]]:
    opened: list[SqliteDatabase] = []

    def make() -> SqliteDatabase:
        # Nothing here cuts the power, and a sync of the disk for each write would be most of the time.
        opened.append(SqliteDatabase(tmp_path / f"{len(opened)}.db", synchronous="NORMAL"))
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture(params=ADAPTERS)
def make_store(request: pytest.FixtureRequest) -> Callable[[], EventStore]:
    return _maker(
        request,
        MemoryStore,
        SqliteStore,
        lambda client, make_table: DynamoStore(client, make_table(EVENTS_SCHEMA)),
    )


@pytest.fixture(params=ADAPTERS)
def make_dues(request: pytest.FixtureRequest) -> Callable[[], Dues]:
    return _maker(
        request, MemoryDues, SqliteDues, lambda client, make_table: DynamoDues(client, make_table(VIEWS_SCHEMA))
    )


@pytest.fixture(params=ADAPTERS)
def make_snapshots(request: pytest.FixtureRequest) -> Callable[[], Snapshots]:
    return _maker(
        request,
        MemorySnapshots,
        SqliteSnapshots,
        lambda client, make_table: DynamoSnapshots(client, make_table(VIEWS_SCHEMA)),
    )


@pytest.fixture(params=ADAPTERS)
def make_views(request: pytest.FixtureRequest) -> Callable[..., Views]:
    def make(*, scanned_max: int = SCANNED_MAX) -> Views:
        views: Views = _maker(
            request,
            lambda: MemoryViews(scanned_max=scanned_max),
            lambda database: SqliteViews(database, scanned_max=scanned_max),
            lambda client, make_table: DynamoViews(client, make_table(VIEWS_SCHEMA), scanned_max=scanned_max),
        )()
        return views

    return make


@pytest.fixture(params=ADAPTERS)
def waiters(request: pytest.FixtureRequest) -> Waiters:
    made: Waiters = _maker(
        request,
        MemoryWaiters,
        SqliteWaiters,
        lambda client, make_table: DynamoWaiters(client, make_table(VIEWS_SCHEMA)),
    )()
    return made


@pytest.fixture
def store(make_store: Callable[[], EventStore]) -> EventStore:
    return make_store()


@pytest.fixture
def dues(make_dues: Callable[[], Dues]) -> Dues:
    return make_dues()


@pytest.fixture
def snapshots(make_snapshots: Callable[[], Snapshots]) -> Snapshots:
    return make_snapshots()


@pytest.fixture
def views(make_views: Callable[[], Views]) -> Views:
    return make_views()


@pytest.fixture(params=["memory", "directory", "s3"])
def documents(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    match request.param:
        case "memory":
            return MemoryDocuments()
        case "directory":
            return DirectoryDocuments(tmp_path / "documents")
        case _:
            return S3Documents(request.getfixturevalue("s3"), "runfold", f"{uuid.uuid4().hex}/")


def _maker(
    request: pytest.FixtureRequest,
    in_memory: Callable[[], Any],
    in_sqlite: Callable[[SqliteDatabase], Any],
    in_dynamodb: Callable[[Any, Callable[[Any], str]], Any],
) -> Callable[[], Any]:
    # Fixtures are asked for here, so that a test on memory does not wait for the imitation of AWS.
    match request.param:
        case "memory":
            return in_memory
        case "sqlite":
            make_database = request.getfixturevalue("make_database")
            return lambda: in_sqlite(make_database())
        case _:
            client = request.getfixturevalue("dynamodb")
            make_table = request.getfixturevalue("make_table")
            return lambda: in_dynamodb(client, make_table)
