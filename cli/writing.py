"""One change that the command line makes to a home, with all that the people who look next expect of it.

What it promises: when `finish` returns, the lists show the change, runs that it let in exist, and the engine, if there is one, knows.
All of that only brings forward what an engine does anyway, so nothing is lost when it fails after the commit.
"""

import contextlib
from collections.abc import Iterable
from typing import Any

from local.home import Home, wake
from shared.bootstrap import LocalParts, local_parts
from shared.effects import (
    CancelBackfilled,
    CancelDisplaced,
    ContinueBackfill,
    Effect,
    OpenRun,
    TellBackfill,
    TellWorkflow,
)
from shared.errors import RunfoldError
from shared.ids import StreamName
from shared.ports import BackfillRow, NoticeRow, RunRow, WorkflowRow
from shared.state.backfill import BackfillState
from shared.state.notices import NoticeLog
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.usecases.admission import Admission
from shared.usecases.loading import State
from shared.views.derive import derive_listeners
from shared.views.rows import backfill_row, notice_row, run_row, workflow_row

ROUNDS_MAX = 100
"""Commits that follow from one change, each from the one before; an engine does what is left."""
STREAMS_MAX = 200
"""Streams whose rows are made anew after one change."""


class _Collected:
    """Effects of our commits. Starting and stopping is the engine's business; what is only a commit we may do."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    def send(self, effects: Iterable[Any], *, delay_seconds: float = 0) -> None:  # noqa: ARG002
        self.effects.extend(effects)


class _Nowhere:
    def send(self, effects: Iterable[Any], *, delay_seconds: float = 0) -> None:
        """Whoever only reads has nothing to hand over."""


no_effects = _Nowhere()


class Writing:
    """`control` asks; `parts` is everything else."""

    def __init__(self, home: Home) -> None:
        home.make()
        self.home = home
        self._collected = _Collected()
        self.parts: LocalParts = local_parts(home.database, home.documents, self._collected)
        self.control = self.parts.control
        self._position = self.parts.store.position()

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *exception: object) -> None:
        self.parts.close()

    def finish(self) -> None:
        with contextlib.suppress(RunfoldError):
            self._follow_up()
        with contextlib.suppress(RunfoldError):
            self._derive()
        wake(self.home)

    def _follow_up(self) -> None:
        admission = Admission(self.parts.transact)
        for _ in range(ROUNDS_MAX):
            if not self._collected.effects:
                return
            match self._collected.effects.pop(0):
                case OpenRun() as effect:
                    admission.open_run(effect)
                case CancelDisplaced() as effect:
                    admission.cancel_displaced(effect)
                case TellWorkflow() as effect:
                    admission.tell_workflow(effect)
                case ContinueBackfill() | TellBackfill() | CancelBackfilled() as effect:
                    admission(effect)
                case _:
                    pass

    def _derive(self) -> None:
        moved = self.parts.store.moved_since(self._position, STREAMS_MAX)
        with self.parts.database.batch():
            for stream in dict.fromkeys(stream for _, stream in moved):
                derive(self.parts, stream)


def derive(parts: LocalParts, stream: StreamName) -> None:
    """Make a stream's row in the lists true."""
    loaded = parts.transact.current(stream)
    if isinstance(loaded.state, WorkflowState):
        derive_listeners(parts.views, loaded.state, parts.plans)
    put(parts, row_for(parts, loaded.state, loaded.version))


def row_for(parts: LocalParts, state: State, version: int) -> RunRow | WorkflowRow | BackfillRow | NoticeRow | None:
    """The row that a stream has in the lists; None for one that has none."""
    match state:
        case Run():
            return run_row(state, version)
        case WorkflowState():
            newest = state.live or state.versions[-1]
            return workflow_row(state, version, parts.plans(newest.document))
        case BackfillState():
            return backfill_row(state, version, parts.plans(state.request.document))
        case NoticeLog() if state.sending:
            return notice_row(state, version)
        case _:
            return None


def put(parts: LocalParts, row: RunRow | WorkflowRow | BackfillRow | NoticeRow | None) -> None:
    match row:
        case RunRow():
            parts.views.put_run(row)
        case WorkflowRow():
            parts.views.put_workflow(row)
        case BackfillRow():
            parts.views.put_backfill(row)
        case NoticeRow():
            parts.views.put_notices(row)
