"""The ports on two DynamoDB tables: `events`, only ever appended to, and `views`, which can be rebuilt.

On the events table the adapter calls `PutItem`, `GetItem` and `Query` and nothing else, so a role needs no more. Every write is one
conditional put or delete of one item, without transactions; the indexes that lists and the sweep read are kept by DynamoDB
itself. Why the keys are what they are, and what each write costs, stands in `docs/decisions/0002-stores.md`.
"""

import gzip
import json
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from heapq import merge
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from shared.errors import Conflict, StoreUnavailable
from shared.ids import BackfillId, CommitId, RunId, StreamName, WorkflowName, kind_of, workflow_of
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
from shared.stores.aws import code_of, translated
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
    matches,
    notices_in,
    run_in,
    text_of_backfill,
    text_of_notices,
    text_of_run,
    text_of_workflow,
    workflow_in,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SHARDS = 4
"""Partitions that share the rows of one long list: an index partition takes 1,000 writes a second. A released number never shrinks."""
HEADS_MAX = 10_000
"""Streams whose newest version a process remembers."""
SNAPSHOT_BYTES_MAX = 350_000
"""Of a snapshot's packed body; an item may have 400 KB with its keys. Larger ones are not kept."""
BATCH_GET_MAX = 100
BATCH_WRITE_MAX = 25
BATCH_TRIES_MAX = 6
"""Of a batch that DynamoDB did only in part, with a growing pause between them."""
BATCH_PAUSE_SECONDS = 0.05


def _index(name: str, partition: str, order: str) -> dict[str, Any]:
    # Keys only: an index entry is then written when a row appears, and not again each time the row changes.
    return {
        "IndexName": name,
        "KeySchema": [
            {"AttributeName": partition, "KeyType": "HASH"},
            {"AttributeName": order, "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }


EVENTS_SCHEMA: Mapping[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "KeySchema": [
        {"AttributeName": "stream", "KeyType": "HASH"},
        {"AttributeName": "version", "KeyType": "RANGE"},
    ],
    "AttributeDefinitions": [
        {"AttributeName": "stream", "AttributeType": "S"},
        {"AttributeName": "version", "AttributeType": "N"},
        {"AttributeName": "kind", "AttributeType": "S"},
    ],
    # Only first commits have `kind`, so the index holds each stream once.
    "GlobalSecondaryIndexes": [_index("by_kind", "kind", "stream")],
}
"""Arguments of CreateTable but for the name, and what the deployment declares."""

VIEWS_SCHEMA: Mapping[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "KeySchema": [
        {"AttributeName": "subject", "KeyType": "HASH"},
        {"AttributeName": "aspect", "KeyType": "RANGE"},
    ],
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": "S"}
        for name in ("subject", "aspect", "listed", "workflow", "status", "owner", "place")
    ],
    "GlobalSecondaryIndexes": [
        _index("by_list", "listed", "place"),
        _index("by_workflow", "workflow", "place"),
        _index("by_status", "status", "place"),
        _index("by_owner", "owner", "place"),
    ],
}
"""Arguments of CreateTable but for the name, and what the deployment declares.

`subject` and `aspect` name a row: `run#<id>` `row`, `workflow#<name>` `row`, `stream#<stream>` `due`, `stream#<stream>`
`snapshot#<fold version>`, `waits#<workflow>` `<awaited run>#<job>#<waiting run>`. In the indexes, `place` orders the rows of one
list: `<instant>#<run>` for runs, `<instant>#<stream>` for due rows in `due#<shard>`, the name for workflows.
"""

_Item = Mapping[str, Any]


def _shard(name: str) -> int:
    # Not hash(): it differs from process to process.
    return zlib.crc32(name.encode()) % SHARDS


def _sortable(at: datetime) -> str:
    """Fixed width, so that text order is time order: `2026-03-01T02:00:00.000000+00:00`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


class DynamoStore:
    """An `EventStore`. Appends to one stream are put in order by a condition on one item.

    That condition sees only the version being put. A gap is prevented by what this process read or wrote of the stream before; when it
    did neither, one `GetItem` of the version before finds out, so the usual append (load, decide, append) stays one call.
    """

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._lock = threading.Lock()
        self._heads: OrderedDict[StreamName, int] = OrderedDict()

    def append(self, record: Record) -> None:
        # The hash is of the time as text: another zone's would read back differently and break the chain.
        assert not record.at.utcoffset(), record.at
        if record.version > 1 and not self._has(record.stream, record.version - 1):
            raise Conflict(
                f"{record.stream}: there is no version {record.version - 1} that {record.version} could follow"
            )
        with translated(f"append to {record.stream} in table {self._table}"):
            try:
                self._client.put_item(
                    TableName=self._table,
                    Item=_item_of(record),
                    ConditionExpression="attribute_not_exists(#version)",
                    ExpressionAttributeNames={"#version": "version"},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                there: Any = error.response.get("Item", {})
                # An answer that was lost, by us or inside the SDK, makes the second try meet our own commit.
                if there.get("commit_id", {}).get("S") != record.commit_id:
                    raise Conflict(f"{record.stream}: version {record.version} is not the next one") from error
        self._remember(record.stream, record.version)

    def read(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        return self._read(stream, after, limit, consistent=True)

    def read_lately(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        """`read` at half the price: commits of the last second may be missing, never one before another that is there."""
        return self._read(stream, after, limit, consistent=False)

    def _read(self, stream: StreamName, after: int, limit: int, *, consistent: bool) -> list[Record]:
        query = {
            "TableName": self._table,
            "KeyConditionExpression": "#stream = :stream AND #version > :after",
            "ExpressionAttributeNames": {"#stream": "stream", "#version": "version"},
            "ExpressionAttributeValues": {":stream": {"S": stream}, ":after": {"N": str(after)}},
            "ConsistentRead": consistent,
        }
        records = [_record_in(item) for item in _query(self._client, query, bounded(limit))]
        if not consistent:
            # Answers may come from copies of which one lags behind the other: what follows a gap is for the next read.
            dense = takewhile(lambda pair: pair[1].version == after + pair[0], enumerate(records, start=1))
            records = [record for _, record in dense]
        if records:
            self._remember(stream, records[-1].version)
        return records

    def streams(self, kind: str, *, after: str = "", limit: int = PAGE_MAX) -> list[StreamName]:
        """A stream that began within the last second or so may not be there yet: the index follows the table."""
        limit = bounded(limit)
        shards = (
            [
                StreamName(item["stream"]["S"])
                for item in _query(
                    self._client,
                    {
                        "TableName": self._table,
                        "IndexName": "by_kind",
                        "KeyConditionExpression": "#kind = :kind AND #stream > :after",
                        "ExpressionAttributeNames": {"#kind": "kind", "#stream": "stream"},
                        # No name is empty, and "" is no key.
                        "ExpressionAttributeValues": {":kind": {"S": f"{kind}#{shard}"}, ":after": {"S": after or "#"}},
                    },
                    limit,
                )
            ]
            for shard in range(SHARDS)
        )
        return list(islice(merge(*shards), limit))

    def batch(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _has(self, stream: StreamName, version: int) -> bool:
        with self._lock:
            if self._heads.get(stream, 0) >= version:
                return True
        with translated(f"read {stream} in table {self._table}"):
            response = self._client.get_item(
                TableName=self._table,
                Key={"stream": {"S": stream}, "version": {"N": str(version)}},
                ProjectionExpression="#version",
                ExpressionAttributeNames={"#version": "version"},
                ConsistentRead=True,
            )
        return "Item" in response

    def _remember(self, stream: StreamName, version: int) -> None:
        with self._lock:
            self._heads[stream] = max(version, self._heads.pop(stream, 0))
            if len(self._heads) > HEADS_MAX:
                self._heads.popitem(last=False)


class DynamoDues:
    """One item a stream, whose keys in the index `by_list` are its shard and `<instant>#<stream>`.

    `get`, `lower`, `raise_to` and `remove` are exact. `due` and `next_at` read the index, which follows in well under a second as a rule: a
    sweep may miss a row written just before it, and the next sweep finds it.
    """

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def get(self, stream: StreamName) -> datetime | None:
        item = _get(self._client, self._table, f"stream#{stream}", "due")
        return None if item is None else datetime.fromisoformat(item["at"]["S"])

    def lower(self, stream: StreamName, at: datetime) -> None:
        # Instants as text compare like instants.
        self._put(stream, at, "attribute_not_exists(#at) OR #at > :at", {":at": {"S": _sortable(at)}})

    def raise_to(self, stream: StreamName, *, seen: datetime, at: datetime) -> bool:
        return self._put(stream, at, "#at = :seen", {":seen": {"S": _sortable(seen)}})

    def remove(self, stream: StreamName, *, seen: datetime) -> bool:
        with translated(f"remove the due row of {stream} in table {self._table}"):
            try:
                self._client.delete_item(
                    TableName=self._table,
                    Key={"subject": {"S": f"stream#{stream}"}, "aspect": {"S": "due"}},
                    ConditionExpression="#at = :seen",
                    ExpressionAttributeNames={"#at": "at"},
                    ExpressionAttributeValues={":seen": {"S": _sortable(seen)}},
                )
            except ClientError as error:
                if code_of(error) != "ConditionalCheckFailedException":
                    raise
                return False
        return True

    def due(self, now: datetime, *, limit: int = PAGE_MAX) -> list[DueRow]:
        limit = bounded(limit)
        # "~" follows "#": the row of exactly `now` is due.
        rows = (self._shard_rows(shard, f"{_sortable(now)}~", limit) for shard in range(SHARDS))
        return [DueRow(stream, at) for at, stream in islice(merge(*rows), limit)]

    def next_at(self) -> datetime | None:
        rows = [row for shard in range(SHARDS) for row in self._shard_rows(shard, "~", 1)]
        return min(rows)[0] if rows else None

    def _shard_rows(self, shard: int, until: str, limit: int) -> list[tuple[datetime, StreamName]]:
        query = {
            "TableName": self._table,
            "IndexName": "by_list",
            "KeyConditionExpression": "#listed = :shard AND #place < :until",
            "ExpressionAttributeNames": {"#listed": "listed", "#place": "place"},
            "ExpressionAttributeValues": {":shard": {"S": f"due#{shard}"}, ":until": {"S": until}},
        }
        places = (item["place"]["S"].partition("#") for item in _query(self._client, query, limit))
        return [(datetime.fromisoformat(instant), StreamName(stream)) for instant, _, stream in places]

    def _put(self, stream: StreamName, at: datetime, condition: str, values: Mapping[str, Any]) -> bool:
        item = {
            "subject": {"S": f"stream#{stream}"},
            "aspect": {"S": "due"},
            "at": {"S": _sortable(at)},
            "listed": {"S": f"due#{_shard(stream)}"},
            "place": {"S": f"{_sortable(at)}#{stream}"},
        }
        return _put_if(self._client, self._table, item, condition, {"#at": "at"}, values)


class DynamoSnapshots:
    """Bodies are packed; one that stays too large for an item is not kept, and its stream is folded from the beginning."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def get(self, stream: StreamName, fold_version: int) -> Snapshot | None:
        item = _get(self._client, self._table, f"stream#{stream}", f"snapshot#{fold_version}")
        if item is None:
            return None
        try:
            body = gzip.decompress(item["body"]["B"])
        except (OSError, EOFError, zlib.error):
            # Damaged: as good as none.
            return None
        return Snapshot(stream, int(item["version"]["N"]), fold_version, item["hash"]["S"], body)

    def put(self, snapshot: Snapshot) -> None:
        # No time inside, so that equal bodies are equal items.
        body = gzip.compress(snapshot.body, compresslevel=5, mtime=0)
        if len(body) > SNAPSHOT_BYTES_MAX:
            return
        _put_if(
            self._client,
            self._table,
            {
                "subject": {"S": f"stream#{snapshot.stream}"},
                "aspect": {"S": f"snapshot#{snapshot.fold_version}"},
                "version": {"N": str(snapshot.version)},
                "hash": {"S": snapshot.hash},
                "body": {"B": body},
            },
            "attribute_not_exists(#version) OR #version <= :version",
            {"#version": "version"},
            {":version": {"N": str(snapshot.version)}},
        )

    def clear(self) -> None:
        _delete_where(self._client, self._table, "begins_with(#aspect, :aspect)", "snapshot#")


class DynamoWaiters:
    """Read without waiting for the newest writes: whoever waits looks for himself after he is added, and again when nobody wakes him."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def add(self, waiter: Waiter) -> None:
        with translated(f"add a waiter to table {self._table}"):
            self._client.put_item(TableName=self._table, Item=self._key(waiter))

    def remove(self, waiter: Waiter) -> None:
        with translated(f"remove a waiter from table {self._table}"):
            self._client.delete_item(TableName=self._table, Key=self._key(waiter))

    def of(self, workflow: WorkflowName, *, awaited: str | None = None, limit: int = PAGE_MAX) -> list[Waiter]:
        query = {
            "TableName": self._table,
            "KeyConditionExpression": "#subject = :subject AND begins_with(#aspect, :begin)"
            if awaited is not None
            else "#subject = :subject",
            "ExpressionAttributeNames": {"#subject": "subject"}
            | ({"#aspect": "aspect"} if awaited is not None else {}),
            "ExpressionAttributeValues": {":subject": {"S": f"waits#{workflow}"}}
            | ({":begin": {"S": f"{awaited}#"}} if awaited is not None else {}),
        }
        found = []
        for item in _query(self._client, query, bounded(limit)):
            what, job, waiting = item["aspect"]["S"].split("#")
            found.append(Waiter(what, job, RunId(waiting)))
        return found

    @staticmethod
    def _key(waiter: Waiter) -> dict[str, Any]:
        return {
            "subject": {"S": f"waits#{workflow_of(RunId(waiter.awaited))}"},
            "aspect": {"S": f"{waiter.awaited}#{waiter.job}#{waiter.run}"},
        }


class DynamoViews:
    """Lists read an index for the order and then the rows themselves, so a page shows each row as it is now.

    An index follows its table in well under a second as a rule: a run that arrived or changed status just before may be missing from a list
    for that long, never from `get_run`. A filter that no index serves is applied to at most `scanned_max` rows a page: a page may be
    short, even empty, and still have a cursor.
    """

    def __init__(self, client: "DynamoDBClient", table: str, *, scanned_max: int = SCANNED_MAX) -> None:
        self._client = client
        self._table = table
        self._scanned_max = scanned_max
        self._listening: OrderedDict[WorkflowName, int] = OrderedDict()
        """Generations of which this process knows that what is to be found is as they say, or newer."""

    def put_run(self, row: RunRow) -> None:
        item = {
            "subject": {"S": f"run#{row.run}"},
            "aspect": {"S": "row"},
            "version": {"N": str(row.version)},
            "body": {"S": text_of_run(row)},
            "listed": {"S": f"runs#{_shard(row.run)}"},
            "workflow": {"S": f"workflow#{row.workflow}"},
            "status": {"S": f"{row.status}#{_shard(row.run)}"},
            # With a prefix, because a key may not be empty and an owner may.
            "owner": {"S": f"owner#{row.owner}"},
            "place": {"S": f"{_sortable(row.requested_at)}#{row.run}"},
        }
        self._put_newer(item)

    def get_run(self, run: RunId) -> RunRow | None:
        item = _get(self._client, self._table, f"run#{run}", "row")
        return None if item is None else run_in(item["body"]["S"])

    def runs(
        self, where: RunFilter = RunFilter(), *, sort: RunSort = "newest", cursor: str = "", limit: int = 50
    ) -> RunPage:
        def runs_after(place: Place | None, count: int) -> list[tuple[Place, RunRow | None]]:
            texts = self._places(where, sort, "" if place is None else f"{_sortable(place[0])}#{place[1]}", count)
            return [
                (_place_in(text), row if row is not None and matches(where, row) else None)
                for text, row in self._rows_at(texts)
            ]

        return run_page(where, runs_after, sort=sort, cursor=cursor, limit=limit, scanned_max=self._scanned_max)

    def remove_run(self, run: RunId) -> None:
        self._remove(f"run#{run}")

    def put_workflow(self, row: WorkflowRow) -> None:
        item = {
            "subject": {"S": f"workflow#{row.workflow}"},
            "aspect": {"S": "row"},
            "version": {"N": str(row.stream_version)},
            "body": {"S": text_of_workflow(row)},
            "listed": {"S": "workflows"},
            "place": {"S": row.workflow},
        }
        self._put_newer(item)

    def get_workflow(self, workflow: WorkflowName) -> WorkflowRow | None:
        item = _get(self._client, self._table, f"workflow#{workflow}", "row")
        return None if item is None else workflow_in(item["body"]["S"])

    def remove_workflow(self, workflow: WorkflowName) -> None:
        self._remove(f"workflow#{workflow}")

    def workflows(self, *, cursor: str = "", limit: int = 50) -> tuple[list[WorkflowRow], str]:
        limit = bounded(limit)
        query = {
            "TableName": self._table,
            "IndexName": "by_list",
            "KeyConditionExpression": "#listed = :listed AND #place > :after",
            "ExpressionAttributeNames": {"#listed": "listed", "#place": "place"},
            "ExpressionAttributeValues": {
                ":listed": {"S": "workflows"},
                ":after": {"S": (name_place(cursor) if cursor else "") or "#"},
            },
        }
        names = [item["place"]["S"] for item in _query(self._client, query, limit + 1)]
        items = _get_many(self._client, self._table, [f"workflow#{name}" for name in names[:limit]])
        page = [workflow_in(item["body"]["S"]) for item in items if item is not None]
        return page, name_cursor(names[limit - 1]) if len(names) > limit else ""

    def put_backfill(self, row: BackfillRow) -> None:
        item = {
            "subject": {"S": f"backfill#{row.backfill}"},
            "aspect": {"S": "row"},
            "version": {"N": str(row.version)},
            "body": {"S": text_of_backfill(row)},
            "listed": {"S": "backfills"},
            "workflow": {"S": f"backfills#{row.workflow}"},
            "place": {"S": backfill_place(row)},
        }
        self._put_newer(item)

    def get_backfill(self, backfill: BackfillId) -> BackfillRow | None:
        item = _get(self._client, self._table, f"backfill#{backfill}", "row")
        return None if item is None else backfill_in(item["body"]["S"])

    def remove_backfill(self, backfill: BackfillId) -> None:
        self._remove(f"backfill#{backfill}")

    def backfills(
        self, workflow: WorkflowName | None = None, *, cursor: str = "", limit: int = 50
    ) -> tuple[list[BackfillRow], str]:
        limit = bounded(limit)
        attribute = "listed" if workflow is None else "workflow"
        query = {
            "TableName": self._table,
            "IndexName": "by_list" if workflow is None else "by_workflow",
            "KeyConditionExpression": "#list = :list AND #place < :before",
            "ExpressionAttributeNames": {"#list": attribute, "#place": "place"},
            "ExpressionAttributeValues": {
                ":list": {"S": "backfills" if workflow is None else f"backfills#{workflow}"},
                ":before": {"S": (name_place(cursor) if cursor else "") or BEHIND_ALL},
            },
            "ScanIndexForward": False,
        }
        places = [item["place"]["S"] for item in _query(self._client, query, limit + 1)]
        subjects = [f"backfill#{place.partition('#')[2]}" for place in places[:limit]]
        items = _get_many(self._client, self._table, subjects)
        page = [backfill_in(item["body"]["S"]) for item in items if item is not None]
        return page, name_cursor(places[limit - 1]) if len(places) > limit else ""

    def put_listeners(self, workflow: WorkflowName, generation: int, keys: Sequence[str]) -> None:
        # A workflow's stream moves with each of its runs, its document seldom: only then there is anything to read or write.
        if self._listening.get(workflow, -1) >= generation:
            return
        known = _get(self._client, self._table, f"workflow#{workflow}", "listens")
        if (known is None and keys) or (known is not None and int(known["version"]["N"]) < generation):
            self._put_listeners(workflow, generation, keys, known)
        self._listening[workflow] = generation
        if len(self._listening) > HEADS_MAX:
            self._listening.popitem(last=False)

    def _put_listeners(self, workflow: WorkflowName, generation: int, keys: Sequence[str], known: _Item | None) -> None:
        """Rows first, each with its generation, so that a slow writer of an older one takes nothing away; what says that all of them
        are there comes last."""
        version = {"N": str(generation)}
        condition = "attribute_not_exists(#version) OR #version <= :version"
        for key in keys:
            item = {"subject": {"S": f"listen#{key}"}, "aspect": {"S": workflow}, "version": version}
            _put_if(self._client, self._table, item, condition, {"#version": "version"}, {":version": version})
        before = json.loads(known["body"]["S"]) if known is not None else []
        for key in before:
            if key in keys:
                continue
            subject = f"listen#{key}"
            with translated(f"remove {subject} in table {self._table}"):
                try:
                    self._client.delete_item(
                        TableName=self._table,
                        Key={"subject": {"S": subject}, "aspect": {"S": workflow}},
                        ConditionExpression=condition,
                        ExpressionAttributeNames={"#version": "version"},
                        ExpressionAttributeValues={":version": version},
                    )
                except ClientError as error:
                    if code_of(error) != "ConditionalCheckFailedException":
                        raise
        self._put_newer(
            {
                "subject": {"S": f"workflow#{workflow}"},
                "aspect": {"S": "listens"},
                "version": version,
                "body": {"S": json.dumps(list(keys))},
            }
        )

    def listeners(self, key: str, *, after: str = "", limit: int = PAGE_MAX) -> list[WorkflowName]:
        query = {
            "TableName": self._table,
            "KeyConditionExpression": "#subject = :subject AND #aspect > :after",
            "ExpressionAttributeNames": {"#subject": "subject", "#aspect": "aspect"},
            # No name begins with "#", which stands before every letter and digit.
            "ExpressionAttributeValues": {":subject": {"S": f"listen#{key}"}, ":after": {"S": after or "#"}},
            "ConsistentRead": True,
        }
        return [WorkflowName(item["aspect"]["S"]) for item in _query(self._client, query, bounded(limit))]

    def put_notices(self, row: NoticeRow) -> None:
        item = {
            "subject": {"S": f"notices#{row.source}"},
            "aspect": {"S": "row"},
            "version": {"N": str(row.version)},
            "body": {"S": text_of_notices(row)},
            "listed": {"S": f"notices#{_shard(row.source)}"},
            "workflow": {"S": f"notices#{row.workflow}"},
            "place": {"S": f"{_sortable(row.at)}#{row.source}"},
        }
        self._put_newer(item)

    def get_notices(self, source: StreamName) -> NoticeRow | None:
        item = _get(self._client, self._table, f"notices#{source}", "row")
        return None if item is None else notices_in(item["body"]["S"])

    def notices(
        self, *, workflow: str | None = None, since: datetime | None = None, cursor: str = "", limit: int = 50
    ) -> tuple[list[NoticeRow], str]:
        limit = bounded(limit)
        if workflow is not None:
            index, attribute, lists = "by_workflow", "workflow", [f"notices#{workflow}"]
        else:
            index, attribute, lists = "by_list", "listed", [f"notices#{shard}" for shard in range(SHARDS)]
        latest, seen = ":", ""
        if cursor:
            at, source = run_place(cursor)
            latest = seen = f"{_sortable(at)}#{source}"
        earliest = _sortable(since) if since else "0"
        if earliest > latest:
            return [], ""
        queries = [_between(self._table, index, attribute, name, earliest, latest, ascending=False) for name in lists]
        shards = ([item["place"]["S"] for item in _query(self._client, query, limit + 2)] for query in queries)
        places = list(islice((one for one in merge(*shards, reverse=True) if one != seen), limit + 1))
        subjects = [f"notices#{place.partition('#')[2]}" for place in places[:limit]]
        items = _get_many(self._client, self._table, subjects)
        page = [notices_in(item["body"]["S"]) for item in items if item is not None]
        if len(places) <= limit:
            return page, ""
        # Of the index, not of the rows: one that was told of meanwhile is elsewhere by now.
        at_text, _, source_text = places[limit - 1].partition("#")
        return page, run_cursor((datetime.fromisoformat(at_text), RunId(source_text)))

    def remove_notices(self, source: StreamName) -> None:
        self._remove(f"notices#{source}")

    def clear(self) -> None:
        _delete_where(self._client, self._table, "#aspect = :aspect", "row")

    def _remove(self, subject: str) -> None:
        with translated(f"remove the row of {subject} in table {self._table}"):
            self._client.delete_item(TableName=self._table, Key={"subject": {"S": subject}, "aspect": {"S": "row"}})

    def _put_newer(self, item: dict[str, Any]) -> None:
        condition = "attribute_not_exists(#version) OR #version < :version"
        _put_if(self._client, self._table, item, condition, {"#version": "version"}, {":version": item["version"]})

    def _rows_at(self, places: Sequence[str]) -> Iterator[tuple[str, RunRow | None]]:
        subjects = [f"run#{place.partition('#')[2]}" for place in places]
        for place, item in zip(places, _get_many(self._client, self._table, subjects), strict=True):
            yield place, None if item is None else run_in(item["body"]["S"])

    def _places(self, where: RunFilter, sort: RunSort, seen: str, limit: int) -> list[str]:
        """Places in the nearest list, in order, behind the place `seen` if there is one."""
        index, attribute, lists = _lists_of(nearest_list(where))
        earliest = _sortable(where.since) if where.since else "0"
        # Below every place of that instant: "until" leaves it out. ":" follows every digit.
        latest = _sortable(where.until) if where.until else ":"
        newest_first = sort == "newest"
        if seen and newest_first:
            latest = min(seen, latest)
        elif seen:
            earliest = max(seen, earliest)
        if earliest > latest:
            return []
        queries = (
            _between(self._table, index, attribute, name, earliest, latest, ascending=not newest_first)
            for name in lists
        )
        # BETWEEN takes its ends in, and the row of the cursor was shown: one more is read and that one left out.
        shards = ([item["place"]["S"] for item in _query(self._client, query, limit + 1)] for query in queries)
        in_order = (place for place in merge(*shards, reverse=newest_first) if place != seen)
        return list(islice(in_order, limit))


def _between(
    table: str, index: str, attribute: str, name: str, earliest: str, latest: str, *, ascending: bool
) -> dict[str, Any]:
    """The query for the places of one list between two, both taken in."""
    return {
        "TableName": table,
        "IndexName": index,
        "KeyConditionExpression": "#list = :list AND #place BETWEEN :earliest AND :latest",
        "ExpressionAttributeNames": {"#list": attribute, "#place": "place"},
        "ExpressionAttributeValues": {
            ":list": {"S": name},
            ":earliest": {"S": earliest},
            ":latest": {"S": latest},
        },
        "ScanIndexForward": ascending,
    }


def _lists_of(where: RunFilter) -> tuple[str, str, list[str]]:
    """The index to read, its partition attribute, and the partitions that together hold every run asked for."""
    if where.workflow is not None:
        return "by_workflow", "workflow", [f"workflow#{where.workflow}"]
    if where.owner is not None:
        return "by_owner", "owner", [f"owner#{where.owner}"]
    if where.status is not None:
        return "by_status", "status", [f"{where.status}#{shard}" for shard in range(SHARDS)]
    return "by_list", "listed", [f"runs#{shard}" for shard in range(SHARDS)]


def _place_in(text: str) -> Place:
    instant, _, run = text.partition("#")
    return datetime.fromisoformat(instant), RunId(run)


# --- items ------------------------------------------------------------------------------------------------------------


def _item_of(record: Record) -> dict[str, Any]:
    item: dict[str, Any] = {
        "stream": {"S": record.stream},
        "version": {"N": str(record.version)},
        "commit_id": {"S": record.commit_id},
        "at": {"S": _sortable(record.at)},
        "by": {"S": record.by},
        "cause": {"S": record.cause},
        "previous_hash": {"S": record.previous_hash},
        "hash": {"S": record.hash},
        "body": {"S": record.body},
    }
    if record.version == 1:
        item["kind"] = {"S": f"{kind_of(record.stream)}#{_shard(record.stream)}"}
    return item


def _record_in(item: _Item) -> Record:
    return Record(
        stream=StreamName(item["stream"]["S"]),
        version=int(item["version"]["N"]),
        commit_id=CommitId(item["commit_id"]["S"]),
        at=datetime.fromisoformat(item["at"]["S"]),
        by=item["by"]["S"],
        cause=item["cause"]["S"],
        previous_hash=item["previous_hash"]["S"],
        hash=item["hash"]["S"],
        body=item["body"]["S"],
    )


# --- calls ------------------------------------------------------------------------------------------------------------


def _query(client: "DynamoDBClient", query: Mapping[str, Any], limit: int) -> list[_Item]:
    """The first `limit` items, over as many answers as it takes: each holds at most 1 MB."""
    items: list[_Item] = []
    start: dict[str, Any] = {}
    with translated(f"read table {query['TableName']}"):
        while len(items) < limit:
            response = client.query(**query, **start, Limit=limit - len(items))
            items += response["Items"]
            if "LastEvaluatedKey" not in response:
                break
            start = {"ExclusiveStartKey": response["LastEvaluatedKey"]}
    return items


def _get(client: "DynamoDBClient", table: str, subject: str, aspect: str) -> _Item | None:
    with translated(f"read {subject} in table {table}"):
        key = {"subject": {"S": subject}, "aspect": {"S": aspect}}
        return client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def _get_many(client: "DynamoDBClient", table: str, subjects: Sequence[str]) -> list[_Item | None]:
    """The item `row` of each subject, in order; None where there is none."""
    found: dict[str, _Item] = {}
    for start in range(0, len(subjects), BATCH_GET_MAX):
        keys: Sequence[Any] = [
            {"subject": {"S": subject}, "aspect": {"S": "row"}} for subject in subjects[start : start + BATCH_GET_MAX]
        ]
        for pause in _pauses(table):
            with translated(f"read table {table}"):
                response = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
            found |= {item["subject"]["S"]: item for item in response["Responses"].get(table, [])}
            keys = response["UnprocessedKeys"].get(table, {"Keys": []})["Keys"]
            if not keys:
                break
            time.sleep(pause)
    return [found.get(subject) for subject in subjects]


def _put_if(
    client: "DynamoDBClient",
    table: str,
    item: dict[str, Any],
    condition: str,
    names: Mapping[str, str],
    values: Mapping[str, Any],
) -> bool:
    """One conditional put; False, and nothing changed, if the condition does not hold."""
    with translated(f"write {item['subject']['S']} in table {table}"):
        try:
            client.put_item(
                TableName=table,
                Item=item,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise
            return False
    return True


def _delete_where(client: "DynamoDBClient", table: str, condition: str, aspect: str) -> None:
    """Delete the items whose aspect meets the condition. Reads the whole table: only for rebuilding."""
    start: dict[str, Any] = {}
    while True:
        with translated(f"read table {table}"):
            response = client.scan(
                TableName=table,
                FilterExpression=condition,
                ProjectionExpression="#subject, #aspect",
                ExpressionAttributeNames={"#subject": "subject", "#aspect": "aspect"},
                ExpressionAttributeValues={":aspect": {"S": aspect}},
                **start,
            )
        _delete(client, table, response["Items"])
        if "LastEvaluatedKey" not in response:
            return
        start = {"ExclusiveStartKey": response["LastEvaluatedKey"]}


def _delete(client: "DynamoDBClient", table: str, keys: Sequence[Any]) -> None:
    for start in range(0, len(keys), BATCH_WRITE_MAX):
        requests: Sequence[Any] = [{"DeleteRequest": {"Key": key}} for key in keys[start : start + BATCH_WRITE_MAX]]
        for pause in _pauses(table):
            with translated(f"clear table {table}"):
                response = client.batch_write_item(RequestItems={table: requests})
            requests = response["UnprocessedItems"].get(table, [])
            if not requests:
                break
            time.sleep(pause)


def _pauses(table: str) -> Iterable[float]:
    """How long to wait after each try; raises when there were enough of them."""
    for number in range(BATCH_TRIES_MAX):
        yield BATCH_PAUSE_SECONDS * 2**number
    raise StoreUnavailable(f"table {table} is throttled; try again")
