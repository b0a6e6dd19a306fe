"""Counts what AWS would charge for: every call of the clients it watches, by service and operation, and DynamoDB's units.

It looks at the calls through botocore's own hooks, so nothing of the product knows of it. Units are computed as DynamoDB's
documentation states them: writes in steps of 1 KB of the larger of the item before and after, an index entry only where its keys
change, reads in steps of 4 KB, half of that where eventually consistent. It remembers the items that were written, so watch all
clients of a table from its creation on.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from bench.prices import SQS_REQUEST_BYTES

Item = Mapping[str, Mapping[str, Any]]

WRITE_STEP_BYTES = 1024
READ_STEP_BYTES = 4096


@dataclass
class Counts:
    """What was used. Of a span of work: the counts after it less those before it."""

    calls: Counter[str] = field(default_factory=Counter)
    """By `service Operation`."""
    units: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """`write`, `read`, and of those `write <what>`; `sqs`; `refused write`: units of conditional writes that changed nothing."""

    def copy(self) -> "Counts":
        return Counts(Counter(self.calls), defaultdict(float, self.units))

    def since(self, before: "Counts") -> "Counts":
        calls = self.calls - before.calls
        return Counts(
            calls, defaultdict(float, {name: amount - before.units[name] for name, amount in self.units.items()})
        )


def size_of(item: Item) -> int:
    """Bytes of an item as DynamoDB counts them: names and values."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(content)
        case "N":
            # Two digits a byte, and one for the sign and exponent.
            return ceil(len(content.strip("-.")) / 2) + 1
        case "BOOL" | "NULL":
            return 1
        case "L":
            return 3 + sum(1 + _size(one) for one in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(one) for name, one in content.items())
        case _:
            raise ValueError(f"items hold no {kind}")


def write_units(size: int) -> int:
    return max(1, ceil(size / WRITE_STEP_BYTES))


def read_units(size: int, *, consistent: bool) -> float:
    """Of what one request read, also when that was nothing."""
    return max(1, ceil(size / READ_STEP_BYTES)) * (1.0 if consistent else 0.5)


class _Table:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.keys = tuple(one["AttributeName"] for one in schema["KeySchema"])
        self.indexes = [
            tuple(one["AttributeName"] for one in index["KeySchema"])
            for index in schema.get("GlobalSecondaryIndexes", ())
        ]
        self.items: dict[tuple[str, ...], Item] = {}

    def key_of(self, item: Item) -> tuple[str, ...]:
        return tuple(str(next(iter(item[name].values()))) for name in self.keys)

    def index_writes(self, before: Item | None, after: Item | None) -> int:
        """Every index holds keys only, so an entry is written when it appears, goes or moves, and never more than 1 KB."""
        units = 0
        for index in self.indexes:
            old, new = _entry(before, index), _entry(after, index)
            if old != new:
                units += (old is not None) + (new is not None)
        return units


def _entry(item: Item | None, index: tuple[str, ...]) -> list[Mapping[str, Any]] | None:
    if item is None or any(name not in item for name in index):
        return None
    return [item[name] for name in index]


class Meter:
    """`tables`: the arguments of CreateTable, by name; their indexes must hold keys only."""

    def __init__(
        self, tables: Mapping[str, Mapping[str, Any]], written: Callable[[str, Item], None] = lambda _table, _item: None
    ) -> None:
        self.counts = Counts()
        self.written = written
        """Called with every item that was put, and its table."""
        self.seconds_in_calls = 0.0
        """Spent in AWS's stand-in, which says nothing about AWS."""
        self.operations: list[str] = []
        """Calls since somebody last emptied it, in order."""
        self._tables = {name: _Table(schema) for name, schema in tables.items()}
        self._began = 0.0

    def watch(self, client: Any) -> Any:
        """Count this client's calls from now on; the client itself."""
        events = client.meta.events
        events.register("before-parameter-build", self._asked)
        events.register_first("before-call", self._sent)
        events.register_last("after-call", self._answered)
        return client

    def _asked(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["metered"] = params

    def _sent(self, **_: Any) -> None:
        self._began = time.perf_counter()

    def _answered(
        self, http_response: Any, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any
    ) -> None:
        self.seconds_in_calls += time.perf_counter() - self._began
        service, operation = model.service_model.service_name, model.name
        self.counts.calls[f"{service} {operation}"] += 1
        self.operations.append(f"{service} {operation}")
        params = context["metered"]
        failed = http_response.status_code >= 400
        match service, operation:
            case "dynamodb", "PutItem":
                self._write(params["TableName"], params["Item"], params["Item"], failed=failed)
            case "dynamodb", "DeleteItem":
                self._write(params["TableName"], params["Key"], None, failed=failed)
            case "dynamodb", "GetItem":
                # What is read is the item, whatever part of it was asked for.
                table = self._tables[params["TableName"]]
                item = table.items.get(table.key_of(params["Key"]))
                self._read(0 if item is None else size_of(item), params)
            case "dynamodb", "Query":
                self._read(sum(size_of(item) for item in parsed.get("Items", ())), params)
            case "dynamodb", "BatchGetItem":
                for name, asked in params["RequestItems"].items():
                    table = self._tables[name]
                    for key in asked["Keys"]:
                        item = table.items.get(table.key_of(key))
                        self._read(0 if item is None else size_of(item), asked)
            case "dynamodb", _:
                raise AssertionError(f"{operation} is not metered")
            case "sqs", "SendMessageBatch":
                size = sum(len(entry["MessageBody"].encode()) for entry in params["Entries"])
                self.sqs("send", max(1, ceil(size / SQS_REQUEST_BYTES)))
            case _:
                pass

    def sqs(self, what: str, requests: int = 1) -> None:
        """Requests to SQS, also those that AWS makes on our behalf: `send`, `receive`, `receive empty`, `delete`."""
        self.counts.units["sqs"] += requests
        self.counts.units[f"sqs {what}"] += requests

    def _write(self, name: str, keyed: Item, after: Item | None, *, failed: bool) -> None:
        table = self._tables[name]
        key = table.key_of(keyed)
        before = table.items.get(key)
        size = max(size_of(before) if before is not None else 0, size_of(after) if after is not None else 0)
        units = self.counts.units
        if failed:
            # A condition that did not hold is charged for the item that it was held against.
            refused = write_units(size_of(before) if before is not None else 0)
            units["write"] += refused
            units["write refused"] += refused
            return
        written = write_units(size) + table.index_writes(before, after)
        units["write"] += written
        if _what(name, keyed) == "commits":
            units["commits"] += 1
        units[f"write {_what(name, keyed)}"] += written
        if after is None:
            table.items.pop(key, None)
        else:
            table.items[key] = after
            self.written(name, after)

    def _read(self, size: int, params: Mapping[str, Any]) -> None:
        read = read_units(size, consistent=bool(params.get("ConsistentRead")))
        what = params.get("IndexName") or (
            "commits" if "stream" in str(params.get("ExpressionAttributeNames")) else "row"
        )
        self.counts.units["read"] += read
        self.counts.units[f"read {what}"] += read


def _what(table: str, keys: Item) -> str:
    """`commits`, `due rows`, `run rows`, …, for people."""
    if "aspect" not in keys:
        return "commits"
    aspect = keys["aspect"]["S"].partition("#")[0]
    return {"due": "due rows", "row": "list rows", "snapshot": "snapshots"}.get(aspect, f"{table} {aspect}")
