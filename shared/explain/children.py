"""Why a job that is another run is as it is: what that run says of itself."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from shared.explain.conditions import Condition
from shared.explain.run import why_run
from shared.ids import RunId
from shared.state.run import Run

CAUSES_MAX = 5
"""Of a child, told for its parent's job."""


def with_children(
    conditions: Iterable[Condition], child: Callable[[RunId], Run | None], now: datetime
) -> list[Condition]:
    """The conditions, those of jobs that are runs with how these do. `child` gives a run as it was at `now`; None before it began."""
    told: list[Condition] = []
    for one in conditions:
        if one.code not in {"submitted", "running"} or len(one.holders) != 1 or "@" not in one.holders[0]:
            told.append(one)
            continue
        run = child(RunId(one.holders[0]))
        if run is None:
            held = " That run has not begun: its workflow's limit holds it back, or it is about to."
            told.append(replace(one, message=one.message + held))
            continue
        chain = tuple(why_run(run, run.run, now, workflow=None, plan=None)[:CAUSES_MAX])
        told.append(replace(one, message=f"{one.message} That run is {run.status}.", chain=chain))
    return told
