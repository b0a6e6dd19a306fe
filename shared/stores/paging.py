"""Pages of lists: their bounds, and cursors that stay right while rows arrive.

A cursor names the last row that was shown, not a number of rows, so rows that arrive or go meanwhile neither repeat nor hide
others. It is opaque to whoever holds it, and the same for every adapter.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import datetime

from shared.errors import InvalidInput, Problem
from shared.ids import RunId
from shared.ports import PAGE_MAX


def bounded(limit: int) -> int:
    """The number of rows a page may really have: asking for more than `PAGE_MAX` gives `PAGE_MAX`."""
    assert limit >= 1, f"a page of {limit} rows"
    return min(limit, PAGE_MAX)


def run_cursor(requested_at: datetime, run: str) -> str:
    return _opaque([requested_at.isoformat(), run])


def run_place(cursor: str) -> tuple[datetime, RunId]:
    """What `run_cursor` was made from. Raises `InvalidInput` for what it did not make."""
    match _parts(cursor):
        case [str(instant), str(run)]:
            try:
                requested_at = datetime.fromisoformat(instant)
            except ValueError as error:
                raise _unreadable() from error
            if requested_at.utcoffset() is not None:
                return requested_at, RunId(run)
    raise _unreadable()


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
