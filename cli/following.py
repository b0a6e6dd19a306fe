"""Watching a run until it ends: a live table on a terminal, a line for each change in a pipe, nothing when nobody looks.

With an engine on the home, its commits are watched; without one, this process is the engine for the length of the run. Showing is
done by a thread of its own, from states that never change, so that it costs the engine nothing and time goes on while it sleeps.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cli.crashing import Reports
from cli.reach import End, Object, at_of, instant_of, tally_of
from cli.terminal import Cell, Terminal, clean, clock, duration, tally
from local.home import Home, engine_process, wake
from shared.bootstrap import LocalParts, utc_now
from shared.errors import EngineBusy
from shared.ids import JobName, RunId, run_stream
from shared.state.run import Backoff, Open, Run
from shared.usecases.loading import Loaded
from shared.views.objects import job_reason, job_times

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_EVERY_SECONDS = 0.05
"""Between looks at whether another process has written; a look costs microseconds."""
SHOW_EVERY_SECONDS = 0.1
ENGINE_EVERY_SECONDS = 1.0
"""Between looks at whether the engine still lives."""


class SeenJob(NamedTuple):
    status: str
    attempt: int
    """The number of the newest; 0 before the first."""
    attempts: int
    """Those that have ended."""
    open: bool
    reason: str
    retry_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class Watched(Protocol):
    """A run as watching shows it, at one version of its stream."""

    @property
    def name(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def status(self) -> str: ...
    @property
    def round(self) -> int: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...
    @property
    def jobs(self) -> Sequence[str]: ...

    def job(self, name: str) -> object:
        """The very same thing for as long as nothing happens to the job."""
        ...

    def status_of(self, name: str) -> str: ...

    def seen(self, name: str) -> SeenJob: ...

    def counts(self) -> dict[str, int]: ...


class StateWatched:
    """A run of which the state is at hand."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.name: str = run.run
        self.at = run.at
        self.status: str = run.status
        self.round = run.round
        self.started_at = run.started_at
        self.finished_at = run.finished_at
        self.jobs: Sequence[str] = list(run.plan.jobs)

    def job(self, name: str) -> object:
        return self._run.job(JobName(name))

    def status_of(self, name: str) -> str:
        return self._run.job(JobName(name)).status

    def seen(self, name: str) -> SeenJob:
        state = self._run.job(JobName(name))
        phase = state.phase
        started_at, ended_at = job_times(state)
        return SeenJob(
            state.status,
            phase.attempt if isinstance(phase, Open) else len(state.attempts),
            len(state.attempts),
            isinstance(phase, Open),
            job_reason(state),
            phase.retry_at if isinstance(phase, Backoff) else None,
            started_at,
            ended_at,
        )

    def counts(self) -> dict[str, int]:
        from shared.views.rows import run_row

        return dict(run_row(self._run, 0).jobs)


class ObjectWatched:
    """A run that an API told of. `before`: what it told last, of the same run."""

    def __init__(self, run: Object, before: "ObjectWatched | None" = None) -> None:
        self.object = run
        self.name: str = run["run"]
        self.at = instant_of(run["as_of"])
        self.status: str = run["status"]
        self.round: int = run["round"]
        self.started_at = at_of(run["started_at"])
        self.finished_at = at_of(run["finished_at"])
        self._jobs: dict[str, Object] = {}
        for job in run["jobs"]:
            known = before._jobs.get(job["name"]) if before is not None else None
            self._jobs[job["name"]] = known if known is not None and known == job else job
        self.jobs: Sequence[str] = list(self._jobs)

    def job(self, name: str) -> object:
        return self._jobs[name]

    def status_of(self, name: str) -> str:
        return str(self._jobs[name]["status"])

    def seen(self, name: str) -> SeenJob:
        job = self._jobs[name]
        newest = job["attempts"][-1]["attempt"] if job["attempts"] else 0
        is_open = job["status"] in OPEN
        return SeenJob(
            job["status"],
            newest,
            len(job["attempts"]) - is_open,
            is_open,
            job["reason"],
            at_of(job["retry_at"]),
            at_of(job["started_at"]),
            at_of(job["ended_at"]),
        )

    def counts(self) -> dict[str, int]:
        return tally_of(self.object)


OPEN = frozenset({"queued", "claimed", "submitted", "running", "doubt"})
"""Statuses of a job whose newest attempt is under way."""


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
        with Progress(self._terminal, self._watched) as progress:
            while True:
                end: End | None
                try:
                    end = self._as_engine(progress)
                except EngineBusy:
                    end = self._beside_engine(progress, open_reading)
                if end is not None:
                    return end

    def _watched(self) -> Watched | None:
        state = self.state
        return None if state is None else StateWatched(state)

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

            with self._alarm(), progress.logging(self._home.path):
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

    def __init__(self, terminal: Terminal | None, state: Callable[[], Watched | None]) -> None:
        self._terminal = terminal
        self._state = state
        self._changed = threading.Event()
        self._ending = False
        self._told: dict[str, tuple[object, SeenJob]] = {}
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
    def logging(self, home: Path) -> Iterator[None]:
        """What the engine has to say goes above the table, not through it."""
        logger = logging.getLogger("runfold")
        handler = _Above(self._terminal, Reports(home))
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
        for name in run.jobs:
            job, before = run.job(name), self._told.get(name)
            if before is not None and before[0] is job:
                continue
            seen = run.seen(name)
            self._told[name] = (job, seen)
            if before is None and seen.status == "waiting":
                continue
            if before is not None and (before[1].status, before[1].attempts) == (seen.status, seen.attempts):
                continue
            terminal.line(f"{clock(run.at)} {name} {_attempt_words(seen)}")
        if (run.round, run.status) != self._told_run:
            self._told_run = (run.round, run.status)
            terminal.line(f"{clock(run.at)} {run.name} {run.status}")
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


def _attempt_words(job: SeenJob) -> str:
    attempt = f" (attempt {job.attempt})" if job.attempt > 1 or job.open else ""
    again = f", again at {clock(job.retry_at)}" if job.retry_at is not None else ""
    return f"{job.status}{attempt}{f': {job.reason}' if job.reason else ''}{again}"


class _Live:
    """The table that changes in place."""

    def __init__(self, terminal: Terminal, state: Callable[[], Watched | None]) -> None:
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


def live_table(run: Watched, terminal: Terminal, now: datetime) -> "list[RenderableType]":
    """A heading, and as many jobs as the terminal has room for: those that people look for first."""
    from rich.table import Table

    took = ((run.finished_at or now) - run.started_at).total_seconds() if run.started_at is not None else None
    words = tally(run.counts().items())
    heading = terminal.text(
        terminal.status(run.status),
        Cell(f"  {run.name}", "bold"),
        Cell(f"  {duration(took)}  {words}", "dim"),
    )
    room = max(terminal.console.height - 4, 5)
    names = list(run.jobs)
    if len(names) > room:
        names = sorted(names, key=lambda name: _ORDER.get(run.status_of(name), 9))[: room - 1]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    # Fixed widths: a table that jumps as words change cannot be read.
    table.add_column(no_wrap=True, width=max((len(name) for name in names), default=0) + 2)
    table.add_column(no_wrap=True, width=17)
    table.add_column(no_wrap=True, width=10, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name in names:
        job = run.seen(name)
        took = None if job.started_at is None else max(((job.ended_at or now) - job.started_at).total_seconds(), 0)
        cell = terminal.status(job.status)
        table.add_row(
            terminal.text(Cell(name)),
            terminal.text(cell),
            terminal.text(Cell(duration(took), "" if job.ended_at is None else "dim")),
            terminal.text(Cell(_note(job, now), "dim")),
        )
    left = len(run.jobs) - len(names)
    more = [terminal.text(Cell(f"… and {left:,} more jobs", "dim"))] if left else []
    return [heading, table, *more]


_ORDER = {
    "doubt": 0,
    "approval": 0,
    "failed": 1,
    "timed_out": 1,
    "backoff": 2,
    "running": 3,
    "submitted": 4,
    "claimed": 4,
    "queued": 4,
}
_ORDER |= {"ready": 5, "waiting": 6, "upstream_failed": 7, "cancelled": 7, "skipped": 8}


def _note(job: SeenJob, now: datetime) -> str:
    words = [f"attempt {job.attempt}"] if job.attempt > 1 else []
    if job.retry_at is not None:
        words.append(f"again in {duration(max((job.retry_at - now).total_seconds(), 0))}")
    if job.reason:
        words.append(job.reason)
    return ", ".join(words)
