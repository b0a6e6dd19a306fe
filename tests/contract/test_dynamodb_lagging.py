"""DynamoDB's copies lag, which moto's do not: what must be exact is read consistently, and what need not be leaves no gap."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from shared.ports import Snapshot
from shared.stores.dynamodb import (
    EVENTS_SCHEMA,
    VIEWS_SCHEMA,
    DynamoDues,
    DynamoSnapshots,
    DynamoStore,
    DynamoViews,
)
from tests.contract.records import NOON, STREAM, append_all, chain
from tests.contract.test_views import a_run, names

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MakeTable = Callable[[Any], str]


class Lagging:
    """A client whose tables have copies that know nothing yet. (Indexes, which are never read consistently, keep up here.)"""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.unseen: Callable[[Any], bool] = lambda _: True

    def get_item(self, **asked: Any) -> Any:
        answer = self._client.get_item(**asked)
        return answer if asked.get("ConsistentRead") else {}

    def query(self, **asked: Any) -> Any:
        answer = self._client.query(**asked)
        if asked.get("ConsistentRead") or "IndexName" in asked:
            return answer
        return answer | {"Items": [item for item in answer["Items"] if not self.unseen(item)]}

    def batch_get_item(self, *, RequestItems: Any) -> Any:
        answer = self._client.batch_get_item(RequestItems=RequestItems)
        for table, asked in RequestItems.items():
            if not asked.get("ConsistentRead"):
                answer["Responses"][table] = []
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.fixture
def client(dynamodb: "DynamoDBClient") -> Any:
    return Lagging(dynamodb)


def test_what_decisions_rest_on_is_never_read_from_a_copy_that_lags(client: Any, make_table: MakeTable) -> None:
    """I7 and fault 42: a due row, a history, the version before an append, a snapshot, the rows of lists."""
    events, views = make_table(EVENTS_SCHEMA), make_table(VIEWS_SCHEMA)
    append_all(DynamoStore(client, events), chain(3))
    assert DynamoStore(client, events).read(STREAM) == chain(3)
    DynamoStore(client, events).append(chain(4)[3])
    dues = DynamoDues(client, views)
    dues.lower(STREAM, NOON)
    assert dues.get(STREAM) == NOON
    snapshots = DynamoSnapshots(client, views)
    snapshot = Snapshot(STREAM, 3, 1, "hash", b"body")
    snapshots.put(snapshot)
    assert snapshots.get(STREAM, 1) == snapshot
    lists = DynamoViews(client, views)
    lists.put_run(a_run(1))
    assert lists.get_run(a_run(1).run) == a_run(1)
    assert names(lists.runs()[0]) == [1]


@pytest.mark.parametrize("unseen", [1, 2, 4])
def test_a_late_read_ends_before_the_first_version_that_it_does_not_see(
    client: Any, make_table: MakeTable, unseen: int
) -> None:
    """Pages of one answer may come from copies of which one lags behind the other."""
    store = DynamoStore(client, make_table(EVENTS_SCHEMA))
    append_all(store, chain(4))
    client.unseen = lambda item: item["version"]["N"] == str(unseen)
    assert store.read_lately(STREAM) == chain(4)[: unseen - 1]
    assert store.read_lately(STREAM, after=unseen) == chain(4)[unseen:]
