"""Repairs whatever was lost: looks at every live stream that is due and hands over what should be under way.

Everything that waits for time waits here. Missing a round is harmless, and so is sweeping twice: rows are moved only from where they
were read, and dispatch is idempotent.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from shared.effects import (
    NO_PATIENCE,
    Effect,
    due_of_backfill,
    due_of_notices,
    due_of_pool,
    due_of_run,
    due_of_workflow,
    pending_of_backfill,
    pending_of_notices,
    pending_of_pool,
    pending_of_run,
    pending_of_workflow,
)
from shared.errors import Conflict, RunfoldError, StoreUnavailable
from shared.ports import PAGE_MAX, DueRow, Dues, Effects
from shared.state.backfill import BackfillState, NoBackfill
from shared.state.notices import NoticeLog
from shared.state.pool import NoPool, PoolState
from shared.state.run import NotRequested, Run
from shared.state.workflow import NotRegistered, WorkflowState
from shared.usecases.loading import Loaded, State
from shared.usecases.transact import TO_THE_SECOND, Rhythm, Transact

logger = logging.getLogger("runfold.sweep")

ROWS_MAX = PAGE_MAX
"""Streams looked at in one sweep; those that remain are due still, and come first next time."""

HANDED_OVER_TOGETHER = 250
"""Effects collected before they are handed over: a queue charges by the request and takes this many in one."""

REFUSED_SECONDS = 60
"""A stream that cannot be folded is looked at again after this; looking all the time would keep others from their turn."""

_Done = TypeVar("_Done")

Settle = Callable[[Loaded], None]
"""Makes views, wake-ups and notices of a stream's newest version true; its row stays until that is done."""


class Sweep:
    def __init__(
        self,
        transact: Transact,
        dues: Dues,
        effects: Effects,
        settle: Settle,
        *,
        now: Callable[[], datetime],
        rhythm: Rhythm = TO_THE_SECOND,
    ) -> None:
        """`rhythm` must be that of every `Transact` that writes to the same stores."""
        self._rhythm = rhythm
        self._transact = transact
        self._dues = dues
        self._effects = effects
        self._settle = settle
        self._now = now
        self.refused: dict[str, str] = {}
        """Streams that could not be folded, with the reason: shown by doctor and metrics, retried every sweep."""

    def __call__(self) -> int:
        """Look at the streams that are due; how many there were."""
        now = self._now()
        rows = self._dues.due(now, limit=ROWS_MAX)
        looked: list[_Looked] = []
        effects: list[Effect] = []
        for row in rows:
            found = self._guarded(row, now, partial(self._look_at, row, now))
            if found is not None:
                looked.append(found)
                effects.extend(found.effects)
            if len(effects) >= HANDED_OVER_TOGETHER:
                self._hand_over(looked, effects, now)
                looked, effects = [], []
        self._hand_over(looked, effects, now)
        return len(rows)

    def _look_at(self, row: DueRow, now: datetime) -> "_Looked":
        loaded = self._transact.current(row.stream)
        effects, due = pending_and_due(loaded.state, now, since=row.at, patience=self._rhythm.patience)
        return _Looked(row, loaded, effects, due)

    def _hand_over(self, looked: "list[_Looked]", effects: list[Effect], now: datetime) -> None:
        # Rows move only when what they stand for is under way: whoever dies before is followed by a sweep that finds them.
        self._effects.send(effects)
        for one in looked:
            self._guarded(one.row, now, partial(self._move, one, now))

    def _move(self, looked: "_Looked", now: datetime) -> None:
        row, loaded = looked.row, looked.loaded
        if looked.due is not None:
            self._dues.raise_to(row.stream, seen=row.at, at=self._rhythm.row_at(loaded.state, looked.due, now))
        else:
            self._settle(loaded)
            self._dues.remove(row.stream, seen=row.at)
        self.refused.pop(row.stream, None)

    def _guarded(self, row: DueRow, now: datetime, do: Callable[[], _Done]) -> _Done | None:
        """What cannot be folded, or settled, is left to a newer release or a person; the others must not wait for that."""
        try:
            return do()
        except (StoreUnavailable, Conflict):
            raise
        except Exception as error:
            if not isinstance(error, RunfoldError):
                logger.exception("%s is left alone", row.stream)
            self.refused[row.stream] = str(error)
            self._dues.raise_to(row.stream, seen=row.at, at=now + timedelta(seconds=REFUSED_SECONDS))
            return None


@dataclass(frozen=True, slots=True)
class _Looked:
    row: DueRow
    loaded: Loaded
    effects: list[Effect]
    due: datetime | None
    """When to look again; None: never, by itself."""


def pending_and_due(
    state: State,
    now: datetime,
    *,
    everything: bool = False,
    since: datetime | None = None,
    patience: timedelta = NO_PATIENCE,
) -> tuple[list[Effect], datetime | None]:
    """What should be under way, and when to look again (None: never, by itself). `since`: the due row that led here."""
    match state:
        case Run() | NotRequested():
            effects = pending_of_run(state, now, everything=everything, since=since, patience=patience)
            return effects, due_of_run(state, now, patience=patience)
        case WorkflowState() | NotRegistered():
            return pending_of_workflow(state, now, everything=everything), due_of_workflow(state, now)
        case BackfillState() | NoBackfill():
            return pending_of_backfill(state, now, everything=everything), due_of_backfill(state, now)
        case PoolState() | NoPool():
            return pending_of_pool(state, now, everything=everything), due_of_pool(state, now)
        case NoticeLog():
            return pending_of_notices(state, now, everything=everything), due_of_notices(state, now)
        case _:
            return [], None
