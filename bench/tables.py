"""DynamoDB for simulations of hours: the operations and conditions that our adapters use, in memory, answered before anything is sent.

moto reads a whole table for every query, so an hour of a thousand runs takes it an hour. A test holds this to moto: the same run gives the
same counts on both.
"""

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

_Item = Mapping[str, Mapping[str, str]]
_TERM = re.compile(r"(#\w+) (=|<|<=|>|>=) (:\w+)")
_BEGINS = re.compile(r"begins_with\((#\w+), (:\w+)\)")
_ABSENT = re.compile(r"attribute_not_exists\((#\w+)\)")


class Tables:
    """`schemas`: the arguments of CreateTable, by name."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self._tables = {name: _Table(schema) for name, schema in schemas.items()}

    def serve(self, client: Any) -> Any:
        """Answer this client's calls from now on; the client itself. Needs what `Meter.watch` keeps of a call."""
        # As general as the meter's hooks: more special ones would be called before these, and end the round.
        client.meta.events.register_last("before-call", self._answer)
        return client

    def _answer(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        asked = context["metered"]
        table = self._tables[asked["TableName"]]
        match model.name:
            case "GetItem":
                found = table.items.get(table.key_of(asked["Key"]))
                return _ok({"Item": found} if found is not None else {})
            case "PutItem" | "DeleteItem":
                item = asked.get("Item")
                key = table.key_of(item or asked["Key"])
                before = table.items.get(key)
                if not _holds(asked, before):
                    return _refused(before)
                table.replace(key, item)
                return _ok({})
            case "Query":
                return _ok({"Items": table.query(asked)})
            case name:
                raise AssertionError(f"{name} is not served")


class _Table:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._keys = [one["AttributeName"] for one in schema["KeySchema"]]
        self._indexes = {
            index["IndexName"]: [one["AttributeName"] for one in index["KeySchema"]]
            for index in schema.get("GlobalSecondaryIndexes", ())
        } | {"": self._keys}
        self.items: dict[tuple[Any, ...], _Item] = {}
        self._partitions: dict[tuple[str, Any], dict[tuple[Any, ...], _Item]] = {}

    def key_of(self, item: _Item) -> tuple[Any, ...]:
        return tuple(_value(item[name]) for name in self._keys)

    def replace(self, key: tuple[Any, ...], item: _Item | None) -> None:
        before = self.items.pop(key, None)
        for index, names in self._indexes.items():
            if before is not None and names[0] in before:
                del self._partitions[index, _value(before[names[0]])][key]
            if item is not None and names[0] in item:
                self._partitions.setdefault((index, _value(item[names[0]])), {})[key] = item
        if item is not None:
            self.items[key] = item

    def query(self, asked: Mapping[str, Any]) -> list[_Item]:
        index = asked.get("IndexName", "")
        partition, order = self._indexes[index]
        terms = _TERM.findall(asked["KeyConditionExpression"])
        begins = _BEGINS.search(asked["KeyConditionExpression"])
        assert len(terms) + bool(begins) == (2 if " AND " in asked["KeyConditionExpression"] else 1), asked
        names, values = asked["ExpressionAttributeNames"], asked["ExpressionAttributeValues"]
        ((_, _, first),) = [term for term in terms if names[term[0]] == partition]
        there = self._partitions.get((index, _value(values[first])), {})
        found = list(there.values())
        for _, relation, second in [term for term in terms if names[term[0]] == order]:
            found = [item for item in found if _is(_value(item[order]), relation, _value(values[second]))]
        if begins:
            found = [item for item in found if _value(item[order]).startswith(_value(values[begins[2]]))]
        found.sort(key=lambda item: _value(item[order]), reverse=not asked.get("ScanIndexForward", True))
        shown = {*self._keys, *self._indexes[index]}
        found = found[: asked["Limit"]]
        return [{name: item[name] for name in shown} for item in found] if index else found


def _holds(asked: Mapping[str, Any], item: _Item | None) -> bool:
    condition = asked.get("ConditionExpression")
    if condition is None:
        return True
    names, values = asked["ExpressionAttributeNames"], asked.get("ExpressionAttributeValues", {})
    for part in condition.split(" OR "):
        if absent := _ABSENT.fullmatch(part):
            if item is None or names[absent[1]] not in item:
                return True
            continue
        term = _TERM.fullmatch(part)
        assert term is not None, condition
        there = item.get(names[term[1]]) if item is not None else None
        if there is not None and _is(_value(there), term[2], _value(values[term[3]])):
            return True
    return False


def _is(left: Any, relation: str, right: Any) -> bool:
    match relation:
        case "=":
            return bool(left == right)
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case _:
            return bool(left >= right)


def _value(attribute: Mapping[str, str]) -> Any:
    ((kind, text),) = attribute.items()
    return int(text) if kind == "N" else text


def _ok(answer: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return SimpleNamespace(status_code=200), {**answer, "ResponseMetadata": {"HTTPStatusCode": 200}}


def _refused(there: _Item | None) -> tuple[Any, dict[str, Any]]:
    error = {"Code": "ConditionalCheckFailedException", "Message": "The conditional request failed"}
    return SimpleNamespace(status_code=400), {
        "Error": error,
        "Item": there or {},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
