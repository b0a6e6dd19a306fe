"""What the AWS adapters owe beyond the ports: lost answers and throttling told apart, and few calls."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from shared.errors import Conflict, StoreUnavailable
from shared.ids import CommitId, RunId, WorkflowName, run_stream
from shared.ports import RunPage
from shared.stores.dynamodb import (
    EVENTS_SCHEMA,
    HEADS_MAX,
    VIEWS_SCHEMA,
    DynamoDues,
    DynamoSnapshots,
    DynamoStore,
    DynamoViews,
)
from tests.contract.records import NOON, STREAM, append_all, chain, commit_after, seconds
from tests.contract.test_views import a_run, names

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MakeTable = Callable[[Any], str]


class UnreliableClient:
    """The client it is given, whose calls are counted, and of which some fail before or after they were done."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Exception] = {}
        self.after: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls[name] += 1
            if name in self.before:
                raise self.before.pop(name)
            response = getattr(self._client, name)(**arguments)
            if name in self.after:
                raise self.after.pop(name)
            return response

        return call


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "said the test"}}, "Call")


FAILURES = [
    refusal("ProvisionedThroughputExceededException"),
    refusal("ThrottlingException"),
    refusal("InternalServerError"),
    refusal("AccessDeniedException"),
    ReadTimeoutError(endpoint_url="https://dynamodb"),
]


@pytest.fixture
def client(dynamodb: "DynamoDBClient") -> Any:
    return UnreliableClient(dynamodb)


@pytest.fixture
def events(client: Any, make_table: MakeTable) -> DynamoStore:
    return DynamoStore(client, make_table(EVENTS_SCHEMA))


@pytest.mark.parametrize("failure", FAILURES, ids=["table", "rate", "server", "role", "silence"])
def test_a_put_that_failed_before_it_was_done_is_done_by_putting_again_fault_44(
    events: DynamoStore, client: Any, failure: Exception
) -> None:
    client.before["put_item"] = failure
    with pytest.raises(StoreUnavailable, match="cannot append to"):
        events.append(commit_after(None))
    events.append(commit_after(None))
    assert events.read(STREAM) == chain(1)


def test_a_put_whose_answer_was_lost_is_found_to_be_done_by_putting_again_fault_43(
    events: DynamoStore, client: Any
) -> None:
    client.after["put_item"] = ReadTimeoutError(endpoint_url="https://dynamodb")
    with pytest.raises(StoreUnavailable):
        events.append(commit_after(None))
    events.append(commit_after(None))
    with pytest.raises(Conflict):
        events.append(replace(commit_after(None), commit_id=CommitId("twin")))
    assert events.read(STREAM) == chain(1)


def test_no_error_of_the_client_leaves_an_adapter(client: Any, make_table: MakeTable) -> None:
    events, views = make_table(EVENTS_SCHEMA), make_table(VIEWS_SCHEMA)
    store, dues = DynamoStore(client, events), DynamoDues(client, views)
    lists, snapshots = DynamoViews(client, views), DynamoSnapshots(client, views)
    lists.put_run(a_run(1))
    calls: list[tuple[str, Callable[[], object]]] = [
        ("query", lambda: store.read(STREAM)),
        ("query", lambda: store.streams("run")),
        ("get_item", lambda: store.append(chain(3)[2])),
        ("get_item", lambda: dues.get(STREAM)),
        ("put_item", lambda: dues.lower(STREAM, NOON)),
        ("put_item", lambda: dues.raise_to(STREAM, seen=NOON, at=NOON)),
        ("delete_item", lambda: dues.remove(STREAM, seen=NOON)),
        ("query", lambda: dues.due(NOON)),
        ("query", dues.next_at),
        ("get_item", lambda: snapshots.get(STREAM, 1)),
        ("scan", snapshots.clear),
        ("put_item", lambda: lists.put_run(a_run(1))),
        ("get_item", lambda: lists.get_run(a_run(1).run)),
        ("query", lists.runs),
        ("batch_get_item", lists.runs),
        ("delete_item", lambda: lists.remove_run(a_run(1).run)),
        ("batch_write_item", lists.clear),
    ]
    for name, call in calls:
        client.before[name] = refusal("ThrottlingException")
        if name == "batch_write_item":
            lists.put_run(a_run(1))
        with pytest.raises(StoreUnavailable, match="said the test"):
            call()
        assert not client.before, name


def test_append_costs_one_call_whether_the_stream_was_read_or_written_here_before(
    dynamodb: "DynamoDBClient", make_table: MakeTable
) -> None:
    table = make_table(EVENTS_SCHEMA)
    append_all(DynamoStore(dynamodb, table), chain(3))
    client: Any = UnreliableClient(dynamodb)
    store = DynamoStore(client, table)
    store.read(STREAM)
    append_all(store, chain(6)[3:])
    assert client.calls == {"query": 1, "put_item": 3}


def test_append_to_a_stream_this_process_never_saw_looks_once_for_the_version_before(
    dynamodb: "DynamoDBClient", make_table: MakeTable
) -> None:
    table = make_table(EVENTS_SCHEMA)
    append_all(DynamoStore(dynamodb, table), chain(3))
    client: Any = UnreliableClient(dynamodb)
    store = DynamoStore(client, table)
    with pytest.raises(Conflict):
        store.append(chain(5)[4])
    assert client.calls == {"get_item": 1}
    append_all(store, chain(6)[3:])
    assert client.calls == {"get_item": 2, "put_item": 3}


def test_the_streams_a_process_remembers_are_bounded(events: DynamoStore) -> None:
    for number in range(HEADS_MAX + 10):
        events._remember(run_stream(RunId(f"w@{number}")), 1)
    assert len(events._heads) == HEADS_MAX
    append_all(events, chain(2, stream=run_stream(RunId("w@0"))))


def test_the_events_table_is_only_put_to_got_from_and_queried(events: DynamoStore, client: Any) -> None:
    append_all(events, chain(2))
    events.read(STREAM)
    events.streams("run")
    with events.batch(), pytest.raises(Conflict):
        events.append(chain(9)[8])
    assert set(client.calls) <= {"put_item", "get_item", "query"}


def test_only_first_commits_are_in_the_index_of_streams(dynamodb: "DynamoDBClient", make_table: MakeTable) -> None:
    table = make_table(EVENTS_SCHEMA)
    append_all(DynamoStore(dynamodb, table), chain(3))
    items = dynamodb.scan(TableName=table)["Items"]
    assert [int(item["version"]["N"]) for item in items if "kind" in item] == [1]


def test_a_due_row_costs_one_call_and_leaves_one_item(client: Any, make_table: MakeTable) -> None:
    table = make_table(VIEWS_SCHEMA)
    dues = DynamoDues(client, table)
    dues.lower(STREAM, NOON)
    dues.lower(STREAM, NOON - seconds(1))
    assert dues.raise_to(STREAM, seen=NOON - seconds(1), at=NOON)
    assert client.calls == {"put_item": 3}
    assert len(client.scan(TableName=table)["Items"]) == 1
    assert dues.remove(STREAM, seen=NOON)
    assert client.scan(TableName=table)["Items"] == []


def test_rebuilding_the_views_leaves_the_due_rows_and_snapshots(client: Any, make_table: MakeTable) -> None:
    table = make_table(VIEWS_SCHEMA)
    dues, views = DynamoDues(client, table), DynamoViews(client, table)
    dues.lower(STREAM, NOON)
    views.put_run(a_run(1))
    views.clear()
    assert views.runs() == RunPage([], "")
    assert dues.next_at() == NOON


def test_answers_of_one_megabyte_are_joined(events: DynamoStore) -> None:
    records = [replace(record, body="x" * 99_000) for record in chain(25)]
    append_all(events, records)
    assert events.read(STREAM) == records
    assert events.read(STREAM, after=3, limit=20) == records[3:23]


def test_a_batch_that_was_done_in_part_is_finished(client: Any, make_table: MakeTable) -> None:
    table = make_table(VIEWS_SCHEMA)
    views = DynamoViews(client, table)
    for number in range(4):
        views.put_run(a_run(number))
    whole = client._client.batch_get_item

    class InPart:
        def batch_get_item(self, RequestItems: Any) -> Any:
            keys = RequestItems[table]["Keys"]
            response = whole(RequestItems={table: RequestItems[table] | {"Keys": keys[:1]}})
            return response | {"UnprocessedKeys": {table: {"Keys": keys[1:]}} if keys[1:] else {}}

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

    in_part: Any = InPart()
    assert names(DynamoViews(in_part, table).runs(limit=2)[0]) == [3, 2]


def test_a_slow_writer_of_who_listens_takes_nothing_away_that_is_newer(
    dynamodb: "DynamoDBClient", make_table: MakeTable
) -> None:
    table = make_table(VIEWS_SCHEMA)
    name = WorkflowName("first")
    quick = DynamoViews(dynamodb, table)
    quick.put_listeners(name, 2, ["a"])

    class Slow:
        """Before it deletes, another process has written what is newer."""

        def __getattr__(self, method: str) -> Any:
            if method == "delete_item":
                quick.put_listeners(name, 4, ["a"])
            return getattr(dynamodb, method)

    DynamoViews(Slow(), table).put_listeners(name, 3, [])  # type: ignore[arg-type]
    assert quick.listeners("a") == [name]


def test_who_listens_is_read_and_written_once_for_each_document(client: Any, make_table: MakeTable) -> None:
    views = DynamoViews(client, make_table(VIEWS_SCHEMA))
    for _ in range(3):
        views.put_listeners(WorkflowName("first"), 2, ["a", "b"])
        views.put_listeners(WorkflowName("second"), 2, [])
    assert client.calls == {"get_item": 2, "put_item": 3}
