"""One act on many runs: those a filter finds, a bounded number at a time, with a rehearsal first for whoever wants one.

Each run is its own commit, so stopping half-way leaves every run whole, and the same call again goes on with the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from shared.errors import Rejected
from shared.ports import RunFilter, RunRow
from shared.usecases.queries import Queries, Sees

CHUNK = 25
"""Runs between two looks at the clock."""
RUNS_MAX = 500
SECONDS_MAX = 20.0
"""API Gateway gives up after 29; what is left then is told by a cursor."""

BulkAct = Literal["cancel", "rerun", "mark"]


@dataclass(slots=True)
class Bulk:
    """What became of the runs found."""

    done: list[str] = field(default_factory=list)
    """In a rehearsal: those that would be asked."""
    refused: dict[str, str] = field(default_factory=dict)
    """Run to reason."""
    cursor: str = ""
    """Where to go on; empty when the filter finds no more."""


def in_bulk(
    queries: Queries,
    where: RunFilter,
    sees: Sees | None,
    act: Callable[[RunRow], None],
    *,
    kind: BulkAct,
    dry_run: bool,
    cursor: str,
    limit: int,
    seconds: Callable[[], float],
) -> Bulk:
    """Do `act` to the runs found, newest first, at most `limit`; `Rejected` from it is noted and the others go on.

    `sees` must let through only runs that the caller may act on. `seconds`: a clock that never goes back.
    """
    bulk = Bulk(cursor=cursor)
    began = seconds()
    left = min(limit, RUNS_MAX)
    while left > 0:
        page = queries.runs(where, sees, cursor=bulk.cursor, limit=min(CHUNK, left))
        bulk.cursor = page.cursor
        left -= len(page.rows)
        for row in page.rows:
            reason = _unfit(kind, row)
            if not reason and not dry_run:
                reason = _done(act, row)
            if reason:
                bulk.refused[row.run] = reason
            else:
                bulk.done.append(row.run)
        if not bulk.cursor or seconds() - began > SECONDS_MAX:
            break
    return bulk


def _done(act: Callable[[RunRow], None], row: RunRow) -> str:
    try:
        act(row)
    except Rejected as refusal:
        return str(refusal)
    return ""


def _unfit(kind: BulkAct, row: RunRow) -> str:
    """Why the act is sure to be refused, as far as the list can tell; the run itself has the last word."""
    ended = row.status not in ("waiting", "running")
    match kind:
        case "cancel" if ended:
            return f"the run has finished already: {row.status}"
        case "rerun" if not ended:
            return f"the run is {row.status}; only a finished run can be done again"
        case _:
            return ""
