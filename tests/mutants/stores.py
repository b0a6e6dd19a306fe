"""Bugs in the adapters that keep things: `shared/stores/sqlite.py` and `shared/stores/dynamodb.py`."""

from tests.mutants.mutant import Mutant

_SQLITE = "shared/stores/sqlite.py"
_DYNAMODB = "shared/stores/dynamodb.py"
_EVENTS = ("tests/contract/test_event_store.py",)
_DUES = ("tests/contract/test_dues.py",)
_VIEWS = ("tests/contract/test_views.py",)
_LAGGING = ("tests/contract/test_dynamodb_lagging.py",)
_OWN = ("tests/contract/test_dynamodb.py",)

STORES = (
    Mutant(
        "sqlite-any-commit-is-mine",
        _SQLITE,
        "if self._commit_id(record.stream, record.version) != record.commit_id:",
        "if self._commit_id(record.stream, record.version) is None:",
        _EVENTS,
    ),
    Mutant(
        "sqlite-gaps",
        _SQLITE,
        "WHEN NEW.version <> 1 + coalesce(",
        "WHEN NEW.version < 1 + coalesce(",
        _EVENTS,
    ),
    Mutant(
        "sqlite-row-raised-unconditionally",
        _SQLITE,
        """        statement = "UPDATE dues SET at = ? WHERE stream = ? AND at = ?"
""",
        """        statement = "UPDATE dues SET at = ? WHERE stream = ? AND at <= ?"
""",
        _DUES,
    ),
    Mutant(
        "sqlite-lower-raises",
        _SQLITE,
        "DO UPDATE SET at = excluded.at WHERE excluded.at < dues.at",
        "DO UPDATE SET at = excluded.at",
        _DUES,
    ),
    Mutant(
        "sqlite-older-row-wins",
        _SQLITE,
        "            WHERE excluded.version > runs.version\n",
        "            WHERE excluded.version <> runs.version\n",
        _VIEWS,
    ),
    Mutant(
        "dynamodb-put-without-condition",
        _DYNAMODB,
        """ConditionExpression="attribute_not_exists(#version)",""",
        """ConditionExpression="attribute_not_exists(#version) OR #version > :none",
                    ExpressionAttributeValues={":none": {"N": "0"}},""",
        _EVENTS,
    ),
    Mutant(
        "dynamodb-rival-is-mine",
        _DYNAMODB,
        """there.get("commit_id", {}).get("S") != record.commit_id:""",
        """there.get("previous_hash", {}).get("S") != record.previous_hash:""",
        _EVENTS,
    ),
    Mutant(
        "dynamodb-own-put-is-a-rival",
        _DYNAMODB,
        """                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
""",
        "",
        (*_EVENTS, *_OWN),
    ),
    Mutant(
        "dynamodb-gaps",
        _DYNAMODB,
        "if self._heads.get(stream, 0) >= version:",
        "if self._heads.get(stream, 0) >= version - 1:",
        _EVENTS,
    ),
    Mutant(
        "dynamodb-row-read-lately",
        _DYNAMODB,
        """Key=key, ConsistentRead=True).get("Item")""",
        """Key=key, ConsistentRead=False).get("Item")""",
        _LAGGING,
    ),
    Mutant(
        "dynamodb-history-read-lately",
        _DYNAMODB,
        "return self._read(stream, after, limit, consistent=True)",
        "return self._read(stream, after, limit, consistent=False)",
        _LAGGING,
    ),
    Mutant(
        "dynamodb-gap-in-a-late-read",
        _DYNAMODB,
        "takewhile(lambda pair: pair[1].version == after + pair[0], enumerate(records, start=1))",
        "takewhile(lambda pair: pair[1].version >= after + pair[0], enumerate(records, start=1))",
        _LAGGING,
    ),
    Mutant(
        "dynamodb-due-now-is-later",
        _DYNAMODB,
        """f"{_sortable(now)}~", limit)""",
        """f"{_sortable(now)}#", limit)""",
        _DUES,
    ),
    Mutant(
        "dynamodb-older-row-wins",
        _DYNAMODB,
        """condition = "attribute_not_exists(#version) OR #version < :version\"""",
        """condition = "attribute_not_exists(#version) OR #version <> :version\"""",
        _VIEWS,
    ),
    Mutant(
        "dynamodb-first-page-only",
        _DYNAMODB,
        """            if "LastEvaluatedKey" not in response:
                break
            start = {"ExclusiveStartKey": response["LastEvaluatedKey"]}
    return items""",
        """            if response["Items"] or "LastEvaluatedKey" not in response:
                break
            start = {"ExclusiveStartKey": response["LastEvaluatedKey"]}
    return items""",
        _OWN,
    ),
)
