"""Rows of the views as text, and which of them a filter lets through; the same for every adapter.

A field that this code does not know is ignored and one that is missing has its default, so neighbouring releases read each
other's rows. Moments come back aware and in UTC.
"""

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from shared.errors import CorruptStream
from shared.ports import BackfillRow, NoticeRow, RunFilter, RunRow, WorkflowRow

_RUN_FIELDS = frozenset(field.name for field in fields(RunRow))
_WORKFLOW_FIELDS = frozenset(field.name for field in fields(WorkflowRow))
_BACKFILL_FIELDS = frozenset(field.name for field in fields(BackfillRow))
_NOTICE_FIELDS = frozenset(field.name for field in fields(NoticeRow))
_TUPLES = frozenset({"tags", "attention", "active_runs", "held_runs"})


def text_of_run(row: RunRow) -> str:
    return json.dumps({name: _plain(getattr(row, name)) for name in sorted(_RUN_FIELDS)}, separators=(",", ":"))


def run_in(text: str) -> RunRow:
    """Raises `CorruptStream` if the text is not a row."""
    try:
        return RunRow(**_values(text, _RUN_FIELDS))
    except (ValueError, TypeError) as error:
        raise CorruptStream(f"a run's row in the views is damaged; rebuild the views: {error}") from error


def text_of_workflow(row: WorkflowRow) -> str:
    return json.dumps({name: _plain(getattr(row, name)) for name in sorted(_WORKFLOW_FIELDS)}, separators=(",", ":"))


def workflow_in(text: str) -> WorkflowRow:
    """Raises `CorruptStream` if the text is not a row."""
    try:
        return WorkflowRow(**_values(text, _WORKFLOW_FIELDS))
    except (ValueError, TypeError) as error:
        raise CorruptStream(f"a workflow's row in the views is damaged; rebuild the views: {error}") from error


def text_of_backfill(row: BackfillRow) -> str:
    return json.dumps({name: _plain(getattr(row, name)) for name in sorted(_BACKFILL_FIELDS)}, separators=(",", ":"))


def backfill_in(text: str) -> BackfillRow:
    """Raises `CorruptStream` if the text is not a row."""
    try:
        return BackfillRow(**_values(text, _BACKFILL_FIELDS))
    except (ValueError, TypeError) as error:
        raise CorruptStream(f"a backfill's row in the views is damaged; rebuild the views: {error}") from error


def text_of_notices(row: NoticeRow) -> str:
    return json.dumps({name: _plain(getattr(row, name)) for name in sorted(_NOTICE_FIELDS)}, separators=(",", ":"))


def notices_in(text: str) -> NoticeRow:
    """Raises `CorruptStream` if the text is not a row."""
    try:
        values = {name: value for name, value in json.loads(text).items() if name in _NOTICE_FIELDS}
        values["at"] = datetime.fromisoformat(values["at"])
        values["notices"] = tuple(values["notices"])
        return NoticeRow(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptStream(f"a row of notices in the views is damaged; rebuild the views: {error}") from error


def matches(where: RunFilter, row: RunRow) -> bool:
    return (
        (where.workflow is None or row.workflow == where.workflow)
        and (where.status is None or row.status == where.status)
        and (where.owner is None or row.owner == where.owner)
        and (where.tag is None or where.tag in row.tags)
        and (where.attention is None or where.attention in row.attention)
        and (where.parent is None or row.parent == where.parent)
        and (where.since is None or row.requested_at >= where.since)
        and (where.until is None or row.requested_at < where.until)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if value is None or isinstance(value, str | int | tuple):
        return value
    return dict(value)


def _values(text: str, known: frozenset[str]) -> dict[str, Any]:
    values = {name: value for name, value in json.loads(text).items() if name in known}
    for name, value in values.items():
        if name in _TUPLES:
            values[name] = tuple(value)
        elif name.endswith("_at") and value is not None:
            values[name] = datetime.fromisoformat(value)
    return values
