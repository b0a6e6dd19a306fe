"""What people and programs are shown of pools, as JSON objects: the same from the command and from the HTTP API."""

from datetime import datetime
from itertools import islice
from typing import Any

from shared.explain.pool import FORESEEN_MAX, expected_starts, oldest_first
from shared.state.pool import Place, PoolState
from shared.views.objects import moment

Object = dict[str, Any]


def pool_object(state: PoolState, version: int) -> Object:
    """A pool in numbers."""
    return {
        "pool": state.name,
        "version": version,
        "capacity": state.capacity,
        "declared": state.declared is not None,
        "declared_by": state.declared_by,
        "used": state.used,
        "holders": len(state.held),
        "waiting": len(state.awaited),
        "as_of": moment(state.at),
    }


def holder_objects(state: PoolState, *, after: int, limit: int) -> tuple[list[Object], int | None]:
    """Who holds places, longest first, from a position on; and where the next page begins, None at the end."""
    order = oldest_first(state)
    page = [
        {**_place(place), "weight": state.held[place].weight, "since": moment(state.held[place].granted_at)}
        for place in order[after : after + limit]
    ]
    return page, after + limit if len(order) > after + limit else None


def line_objects(state: PoolState, now: datetime, *, after: int, limit: int) -> tuple[list[Object], int | None]:
    """Who waits, in the order of their turns, from a position on; and where the next page begins, None at the end.

    `expected_at` goes by how long these jobs usually hold their places; null where that is not known.
    """
    expected = expected_starts(state, now, min(after + limit, FORESEEN_MAX))
    page = []
    for place in islice(state.in_line(), after, after + limit):
        awaited = state.awaited[place]
        page.append(
            {
                **_place(place),
                "weight": awaited.weight,
                "priority": awaited.priority,
                "since": moment(awaited.asked_at),
                "expected_at": moment(expected.get(place)),
            }
        )
    return page, after + limit if len(state.awaited) > after + limit else None


def _place(place: Place) -> Object:
    return {"run": place.run, "job": place.job, "attempt": place.attempt}
