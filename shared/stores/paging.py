"""Pages of lists: their bounds, and cursors that stay right while rows arrive.

A cursor names the last row that was shown, not a number of rows, so rows that arrive or go meanwhile neither repeat nor hide
others. It is opaque to whoever holds it, and the same for every adapter.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from shared.errors import InvalidInput, Problem
from shared.ids import RunId
from shared.ports import PAGE_MAX, BackfillRow, RunFilter, RunPage, RunRow, RunSort

SCAN_CHUNK = 200
"""Rows read at a time while looking for those that a filter lets through."""

Place = tuple[datetime, RunId]
"""Of a run in every list that has it."""
RunsAfter = Callable[[Place | None, int], Sequence[tuple[Place, RunRow | None]]]
"""The next so many entries of a list behind a place, with their rows; None for a row that the filter does not let through."""


def bounded(limit: int) -> int:
    """The number of rows a page may really have: asking for more than `PAGE_MAX` gives `PAGE_MAX`."""
    assert limit >= 1, f"a page of {limit} rows"
    return min(limit, PAGE_MAX)


def nearest_list(where: RunFilter) -> RunFilter:
    """The list that is read for a filter; what it leaves out is looked for row by row."""
    times = RunFilter(since=where.since, until=where.until)
    if where.workflow is not None:
        return replace(times, workflow=where.workflow)
    if where.owner is not None:
        return replace(times, owner=where.owner)
    return replace(times, status=where.status)


def run_page(
    where: RunFilter, runs_after: RunsAfter, *, sort: RunSort, cursor: str, limit: int, scanned_max: int
) -> RunPage:
    """The page behind a cursor, out of the list that comes nearest to the filter."""
    limit = bounded(limit)
    place = run_place(cursor, sort) if cursor else None
    rows: list[RunRow] = []
    last: Place | None = None
    """Of the last row on the page."""
    looked, scanned = 0, 0
    # In a list that is just this, entries without a row are few: those that went since the list was written.
    bound = max(scanned_max, limit + 1) if where.is_listed else scanned_max
    while looked < bound:
        # One more than the page holds tells whether there is a next one.
        wanted = limit + 1 - len(rows) if where.is_listed else SCAN_CHUNK
        wanted = min(wanted, bound - looked)
        found = runs_after(place, wanted)
        for place, row in found:
            looked += 1
            scanned = 0 if where.is_listed else looked
            if row is None:
                continue
            if len(rows) == limit:
                assert last is not None, "a page holds at least one row"
                return RunPage(rows, run_cursor(last, sort), scanned)
            rows.append(row)
            last = place
        if len(found) < wanted:
            return RunPage(rows, "", scanned)
    assert place is not None, "something was looked at"
    return RunPage(rows, run_cursor(place, sort), scanned)


def run_cursor(place: Place, sort: RunSort = "newest") -> str:
    requested_at, run = place
    return _opaque([requested_at.isoformat(), run, *([] if sort == "newest" else [sort])])


def run_place(cursor: str, sort: RunSort = "newest") -> Place:
    """What `run_cursor` was made from. Raises `InvalidInput` for what it did not make, and for a place in another order."""
    match _parts(cursor):
        case [str(instant), str(run), *rest] if rest in ([], ["oldest"]):
            try:
                requested_at = datetime.fromisoformat(instant)
            except ValueError as error:
                raise _unreadable() from error
            if requested_at.utcoffset() is None:
                raise _unreadable()
            made = "oldest" if rest else "newest"
            if made != sort:
                hint = f"sort by {made} as before, or leave the cursor out to start at the first page"
                raise InvalidInput([Problem("cursor", f"is of a list sorted by {made}, not by {sort}", hint)])
            return requested_at, RunId(run)
    raise _unreadable()


BEHIND_ALL = ":"
"""Behind the place of every backfill: `:` follows every digit."""


def backfill_place(row: BackfillRow) -> str:
    """Of a backfill in lists: in the order of requests as text."""
    return f"{row.requested_at.astimezone(UTC).isoformat(timespec='microseconds')}#{row.backfill}"


def name_cursor(name: str) -> str:
    return _opaque([name])


def name_place(cursor: str) -> str:
    """What `name_cursor` was made from. Raises `InvalidInput` for what it did not make."""
    match _parts(cursor):
        case [str(name)]:
            return name
    raise _unreadable()


def _opaque(parts: list[str]) -> str:
    return urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def _parts(cursor: str) -> object:
    try:
        return json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, Base64Error, RecursionError) as error:
        raise _unreadable() from error


def _unreadable() -> InvalidInput:
    problem = Problem("cursor", "is not one that a list gave", "leave it out to start at the first page")
    return InvalidInput([problem])
