"""Repairs whatever was lost: looks at every live stream that is due and hands over what should be under way.

Everything that waits for time waits here. Missing a round is harmless, and so is sweeping twice: rows are moved only from where they
were read, and dispatch is idempotent.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from shared.effects import (
    NO_PATIENCE,
    Effect,
    due_of_run,
    due_of_workflow,
    pending_of_run,
    pending_of_workflow,
)
from shared.errors import Conflict, RunfoldError, StoreUnavailable
from shared.ports import PAGE_MAX, DueRow, Dues, Effects
from shared.state.run import NotRequested, Run
from shared.state.workflow import NotRegistered, WorkflowState
from shared.usecases.loading import Loaded, State
from shared.usecases.transact import TO_THE_SECOND, Rhythm, Transact

logger = logging.getLogger("runfold.sweep")

ROWS_MAX = PAGE_MAX
"""Streams looked at in one sweep; those that remain are due still, and come first next time."""

REFUSED_SECONDS = 60
"""A stream that cannot be folded is looked at again after this; looking all the time would keep others from their turn."""

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
        for row in rows:
            self._look_at(row, now)
        return len(rows)

    def _look_at(self, row: DueRow, now: datetime) -> None:
        try:
            self._repair(row, now)
        except (StoreUnavailable, Conflict):
            raise
        except Exception as error:
            # A newer release, or a person, will deal with it. The others must not wait for that.
            if not isinstance(error, RunfoldError):
                logger.exception("%s is left alone", row.stream)
            self.refused[row.stream] = str(error)
            self._dues.raise_to(row.stream, seen=row.at, at=now + timedelta(seconds=REFUSED_SECONDS))
        else:
            self.refused.pop(row.stream, None)

    def _repair(self, row: DueRow, now: datetime) -> None:
        loaded = self._transact.current(row.stream)
        effects, due = pending_and_due(loaded.state, now, since=row.at, patience=self._rhythm.patience)
        self._effects.send(effects)
        if due is not None:
            self._dues.raise_to(row.stream, seen=row.at, at=self._rhythm.row_at(loaded.state, due, now))
            return
        self._settle(loaded)
        self._dues.remove(row.stream, seen=row.at)


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
        case _:
            return [], None
