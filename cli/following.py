"""Watching a run until it ends: a live table on a terminal, a line for each change in a pipe, nothing when nobody looks.

With an engine on the home, its commits are watched; without one, this process is the engine for the length of the run. Showing is
done by a thread of its own, from states that never change, so that it costs the engine nothing and time goes on while it sleeps.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cli.crashing import Reports
from cli.terminal import Cell, Terminal, clean, clock, duration, tally
from local.home import Home, engine_process, wake
from shared.bootstrap import LocalParts, utc_now
from shared.errors import EngineBusy
from shared.ids import JobName, RunId, run_stream
from shared.state.run import Backoff, JobState, Open, Run
from shared.usecases.loading import Loaded
from shared.views.objects import job_reason, job_times

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_EVERY_SECONDS = 0.05
"""Between looks at whether another process has written; a look costs microseconds."""
SHOW_EVERY_SECONDS = 0.1
ENGINE_EVERY_SECONDS = 1.0
"""Between looks at whether the engine still lives."""

End = Literal["ended", "interrupted", "timeout"]


class Follower:
    """Follows one run; `state` is the newest that is known."""

    def __init__(self, home: Home, run: RunId, terminal: Terminal | None, *, timeout_seconds: float | None) -> None:
        self._home = home
        self._run = run
        self._terminal = terminal
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.loaded: Loaded | None = None

    @property
    def state(self) -> Run | None:
        return self.loaded.state if self.loaded is not None and isinstance(self.loaded.state, Run) else None

    def follow(self, open_reading: Callable[[], AbstractContextManager[LocalParts]]) -> End:
        """Until the run ends, Ctrl-C, or the time is up; whichever engine runs it, and also when that one goes."""
        with Progress(self._terminal, lambda: self.state, self._home.path) as progress:
            while True:
                end: End | None
                try:
                    end = self._as_engine(progress)
                except EngineBusy:
                    end = self._beside_engine(progress, open_reading)
                if end is not None:
                    return end

    def _is_over(self) -> bool:
        state = self.state
        return (state is not None and state.finished) or self._is_late()

    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _end(self) -> End | None:
        state = self.state
        if state is not None and state.finished:
            return "ended"
        return "timeout" if self._is_late() else None

    def _as_engine(self, progress: "Progress") -> End:
        from local.engine import Engine

        stream = run_stream(self._run)
        with Engine(self._home, watch_documents=False) as engine:
            transact = engine.parts.transact

            def look() -> bool:
                known = transact.kept(stream)
                if known is None and (self.state is None or not self.state.finished):
                    known = engine.parts.loader.load(stream)
                if known is not None and known is not self.loaded:
                    self.loaded = known
                    progress.changed()
                return self._is_over()

            with self._alarm(), progress.logging():
                engine.run(until=look)
            look()
        return self._end() or "interrupted"

    def _beside_engine(
        self, progress: "Progress", open_reading: Callable[[], AbstractContextManager[LocalParts]]
    ) -> End | None:
        """None when the engine is gone before the run has ended."""
        stream = run_stream(self._run)
        with open_reading() as parts:
            seen = -1
            engine_at = time.monotonic()
            try:
                while not self._is_over():
                    version = parts.database.data_version()
                    if version != seen:
                        seen = version
                        known = self.loaded if self.loaded is not None and self.loaded.version else None
                        loaded = parts.loader.load(stream, known)
                        if loaded is not known:
                            self.loaded = loaded
                            progress.changed()
                            continue
                    if time.monotonic() - engine_at >= ENGINE_EVERY_SECONDS:
                        if engine_process(self._home) is None:
                            return None
                        engine_at = time.monotonic()
                    time.sleep(LOOK_EVERY_SECONDS)
            except KeyboardInterrupt:
                return "interrupted"
        return self._end()

    @contextmanager
    def _alarm(self) -> Iterator[None]:
        """Wake the engine of this process when the time is up: it may sleep until then."""
        if self._deadline is None:
            yield
            return
        timer = threading.Timer(max(self._deadline - time.monotonic(), 0.0), wake, [self._home])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class Progress:
    """Shows states as they change, in a thread of its own; leaves the last one standing."""

    def __init__(self, terminal: Terminal | None, state: Callable[[], Run | None], home: Path) -> None:
        self._terminal = terminal
        self._state = state
        self._reports = Reports(home)
        self._changed = threading.Event()
        self._ending = False
        self._told: dict[JobName, JobState] = {}
        self._told_run: tuple[int, str] = (0, "")
        self._thread: threading.Thread | None = None
        self._show: _Live | None = None

    def __enter__(self) -> "Progress":
        if self._terminal is None:
            return self
        if self._terminal.rich:
            self._show = _Live(self._terminal, self._state)
            self._show.start()
        else:
            self._thread = threading.Thread(target=self._tell_changes, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        if self._show is not None:
            self._show.stop()

    def changed(self) -> None:
        self._changed.set()

    @contextmanager
    def logging(self) -> Iterator[None]:
        """What the engine has to say goes above the table, not through it."""
        logger = logging.getLogger("runfold")
        handler = _Above(self._terminal, self._reports)
        logger.addHandler(handler)
        propagate, logger.propagate = logger.propagate, False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate

    def _tell_changes(self) -> None:
        while not self._ending:
            self._changed.wait()
            self._changed.clear()
            self._tell()
            if not self._ending:
                time.sleep(SHOW_EVERY_SECONDS)
        self._tell()

    def _tell(self) -> None:
        run, terminal = self._state(), self._terminal
        if run is None or terminal is None:
            return
        # In the document's order, which is nearly always the order in which things happened.
        for name in run.plan.jobs:
            state = run.jobs[name]
            before = self._told.get(name)
            if state is before:
                continue
            self._told[name] = state
            if (before is None and state.status == "waiting") or (before is not None and _same(before, state)):
                continue
            terminal.line(f"{clock(run.at)} {name} {_attempt_words(state)}")
        if (run.round, run.status) != self._told_run:
            self._told_run = (run.round, run.status)
            terminal.line(f"{clock(run.at)} {run.run} {run.status}")
        terminal.stream.flush()


class _Above(logging.Handler):
    def __init__(self, terminal: Terminal | None, reports: Reports) -> None:
        super().__init__()
        self._terminal = terminal
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        line = self._reports.line(record)
        if self._terminal is not None:
            self._terminal.line(clean(line))


def _same(before: JobState, after: JobState) -> bool:
    return before.status == after.status and len(before.attempts) == len(after.attempts)


def _attempt_number(state: JobState) -> int:
    return state.phase.attempt if isinstance(state.phase, Open) else len(state.attempts)


def _attempt_words(state: JobState) -> str:
    number = _attempt_number(state)
    attempt = f" (attempt {number})" if number > 1 or isinstance(state.phase, Open) else ""
    reason = job_reason(state)
    again = f", again at {clock(state.phase.retry_at)}" if isinstance(state.phase, Backoff) else ""
    return f"{state.status}{attempt}{f': {reason}' if reason else ''}{again}"


class _Live:
    """The table that changes in place."""

    def __init__(self, terminal: Terminal, state: Callable[[], Run | None]) -> None:
        from rich.live import Live

        self._terminal = terminal
        self._state = state
        self._live = Live(
            console=terminal.console, get_renderable=self._table, refresh_per_second=8, redirect_stderr=False
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.refresh()
        self._live.stop()

    def _table(self) -> "RenderableType":
        from rich.console import Group

        run = self._state()
        if run is None:
            return self._terminal.text(Cell("waiting to be let in by its workflow …", "dim"))
        return Group(*live_table(run, self._terminal, utc_now()))


def live_table(run: Run, terminal: Terminal, now: datetime) -> "list[RenderableType]":
    """A heading, and as many jobs as the terminal has room for: those that people look for first."""
    from rich.table import Table

    took = ((run.finished_at or now) - run.started_at).total_seconds() if run.started_at is not None else None
    words = tally(_counts(run).items())
    heading = terminal.text(
        terminal.status(run.status),
        Cell(f"  {run.run}", "bold"),
        Cell(f"  {duration(took)}  {words}", "dim"),
    )
    room = max(terminal.console.height - 4, 5)
    names = list(run.plan.jobs)
    if len(names) > room:
        names = sorted(names, key=lambda name: _ORDER.get(run.jobs[name].status, 9))[: room - 1]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    # Fixed widths: a table that jumps as words change cannot be read.
    table.add_column(no_wrap=True, width=max((len(name) for name in names), default=0) + 2)
    table.add_column(no_wrap=True, width=17)
    table.add_column(no_wrap=True, width=10, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name in names:
        state = run.jobs[name]
        started_at, ended_at = job_times(state)
        took = None if started_at is None else max(((ended_at or now) - started_at).total_seconds(), 0)
        cell = terminal.status(state.status)
        table.add_row(
            terminal.text(Cell(name)),
            terminal.text(cell),
            terminal.text(Cell(duration(took), "" if ended_at is None else "dim")),
            terminal.text(Cell(_note(state, now), "dim")),
        )
    left = len(run.plan.jobs) - len(names)
    more = [terminal.text(Cell(f"… and {left:,} more jobs", "dim"))] if left else []
    return [heading, table, *more]


_ORDER = {
    "doubt": 0,
    "failed": 1,
    "timed_out": 1,
    "backoff": 2,
    "running": 3,
    "submitted": 4,
    "claimed": 4,
    "queued": 4,
}
_ORDER |= {"ready": 5, "waiting": 6, "upstream_failed": 7, "cancelled": 7, "skipped": 8}


def _note(state: JobState, now: datetime) -> str:
    number = _attempt_number(state)
    words = [f"attempt {number}"] if number > 1 else []
    if isinstance(state.phase, Backoff):
        words.append(f"again in {duration(max((state.phase.retry_at - now).total_seconds(), 0))}")
    if reason := job_reason(state):
        words.append(reason)
    return ", ".join(words)


def _counts(run: Run) -> dict[str, int]:
    from shared.views.rows import run_row

    return dict(run_row(run, 0).jobs)
