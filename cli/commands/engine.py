"""The engine in the foreground, with a line for everything that a person who watches it would want to know."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from cli.crashing import Reports
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from cli.terminal import Cell
    from local.engine import Engine
    from shared.ids import StreamName
    from shared.state.run import Run
    from shared.state.workflow import WorkflowState

RUNS_REMEMBERED_MAX = 10_000
"""Runs whose last status is remembered, so that each change is told once."""
FAILURES_TOLD = 5
HTTP_PORT = 8720
"""Where the API listens unless told otherwise."""


@command()
@click.option(
    "--http", "address", metavar="HOST:PORT", help="Where the API listens; 127.0.0.1:8720, or `off` for none."
)
@pass_session
def up(session: Session, address: str | None) -> None:
    """Run the engine of this home: start what is due, watch what runs, register documents dropped into its folder.

    Ctrl-C or SIGTERM ends it and leaves jobs running; the next `up` takes them up again. It may be killed at any moment.

    The HTTP API is open to this machine alone; bound to another address it demands the token in `<home>/token`.
    """
    from local.engine import Engine

    host, port = _listening(address)
    journal = Journal(session)
    with journal.listening(), Engine(session.home) as engine, _served(engine, host, port, address is not None) as url:
        journal.begin(engine, url)

        def look() -> bool:
            with heard():
                journal.look()
            return False

        engine.run(until=look)
        running = len(engine.executor.running())
        with heard():
            journal.look()
            journal.end(running)
            sys.stdout.flush()


def _listening(address: str | None) -> tuple[str, int | None]:
    """Host and port of `HOST:PORT`, `PORT` or `:PORT`; port None for no API."""
    if address is None:
        return "127.0.0.1", HTTP_PORT
    if address == "off":
        return "127.0.0.1", None
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65_535:
        raise click.BadParameter(f"{address!r} is no address: write HOST:PORT, for example 127.0.0.1:8720, or `off`")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def _served(engine: "Engine", host: str, port: int | None, asked: bool) -> Iterator[str]:
    """The API's address while the engine runs; a sentence instead where the usual port is another program's."""
    if port is None:
        yield "off"
        return
    from functions.api.embedded import serve_home
    from shared.errors import Rejected

    with ExitStack() as stack:
        try:
            url = stack.enter_context(serve_home(engine.home, host=host, port=port, metrics=engine.metrics.page)).url
        except Rejected:
            # Who names an address wants that one; the usual port may be another home's engine.
            if asked:
                raise
            url = f"off: port {port} is taken; `--http 127.0.0.1:0` takes a free one"
        yield url


@contextmanager
def heard() -> Iterator[None]:
    """That nobody reads what the engine tells, or that there is no room to keep it, must not end the engine."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        # A full disk under a redirected log: the next lines may fit again.
        return


class Journal:
    """What happens, line by line; JSON lines with --json."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reports = Reports(session.home_path)
        self._engine: Engine | None = None
        self._position = 0
        self._runs: dict[str, tuple[int, str]] = {}
        self._workflows: dict[str, tuple[int | None, bool]] = {}

    def begin(self, engine: "Engine", url: str) -> None:
        from cli.terminal import Cell

        self._engine = engine
        self._position = engine.parts.store.position()
        home = engine.home
        rows, _ = engine.parts.views.workflows(limit=1000)
        self._workflows = {row.workflow: (row.live_version, row.paused) for row in rows}
        if self._session.json:
            told = {"home": str(home.path), "documents": str(home.workflows), "api": url, "process": os.getpid()}
            self._line("up", told)
            return
        terminal = self._session.terminal
        terminal.line(Cell("Runfold is up", "bold"), f" (process {os.getpid()}); Ctrl-C ends it, jobs go on")
        terminal.line(Cell("  home       ", "dim"), str(home.path))
        terminal.line(
            Cell("  documents  ", "dim"), f"{home.workflows}: drop JSON or YAML there, or `runfold register FILE`"
        )
        live = sum(1 for row in rows if row.live_version is not None)
        terminal.line(Cell("  workflows  ", "dim"), str(live))
        terminal.line(Cell("  api        ", "dim"), f"{url}/v1" if url.startswith("http") else url)
        sys.stdout.flush()

    def end(self, running: int) -> None:
        if self._session.json:
            self._line("down", {"running": running})
            return
        jobs = f"{running} running job{'s' if running != 1 else ''} left running; " if running else ""
        self._tell(f"ended; {jobs}`runfold up` goes on from here")

    def look(self) -> None:
        """Tell what commits since the last look changed."""
        from shared.errors import CorruptStream, UnknownEvents
        from shared.ports import PAGE_MAX
        from shared.state.run import Run
        from shared.state.workflow import WorkflowState

        assert self._engine is not None
        parts = self._engine.parts
        told = False
        while moved := parts.store.moved_since(self._position, PAGE_MAX):
            self._position = moved[-1][0]
            for stream in dict.fromkeys(stream for _, stream in moved):
                if not self._is_news(stream):
                    continue
                try:
                    # What the engine keeps may be older than what another process has just written.
                    loaded = parts.loader.load(stream, parts.transact.kept(stream))
                except (CorruptStream, UnknownEvents):
                    # The engine has said so.
                    continue
                match loaded.state:
                    case Run() as run:
                        told = self._run(run) or told
                    case WorkflowState() as workflow:
                        told = self._workflow(workflow) or told
                    case _:
                        pass
        if told:
            sys.stdout.flush()

    def _is_news(self, stream: "StreamName") -> bool:
        return stream.startswith(("run#", "workflow#"))

    def _run(self, run: "Run") -> bool:
        now = (run.round, run.status)
        before = self._runs.pop(run.run, None)
        self._runs[run.run] = now
        if len(self._runs) > RUNS_REMEMBERED_MAX:
            del self._runs[next(iter(self._runs))]
        if now == before or run.status == "waiting":
            return False
        if self._session.json:
            self._line("run", {"run": run.run, "status": run.status, "round": run.round})
            return True
        from cli.terminal import Cell, counts, duration, tally
        from shared.views.rows import run_row

        words: list[str | Cell] = [Cell(run.run, "bold"), "  "]
        if run.outcome is None:
            again = f", round {run.round}" if run.round > 1 else ""
            words.append(f"{counts(len(run.jobs), 'job')}{again}")
        else:
            began, ended = run.started_at or run.requested_at, run.finished_at or run.at
            words.append(f"{duration((ended - began).total_seconds())}  ")
            words.append(Cell(tally(run_row(run, 0).jobs.items()), "dim"))
        self._tell(*words, status=run.status)
        if run.outcome == "failed":
            self._failures(run)
        return True

    def _failures(self, run: "Run") -> None:
        from cli.terminal import Cell
        from shared.views.objects import job_reason

        bad = [name for name, state in run.jobs.items() if state.status in ("failed", "timed_out")]
        for name in bad[:FAILURES_TOLD]:
            state = run.jobs[name]
            self._session.terminal.line(
                " " * 11, Cell(f"{name} {state.status}", "red"), f": {job_reason(state) or 'see its log'}"
            )
        if bad:
            self._session.terminal.line(" " * 11, Cell(f"runfold logs {run.run} {bad[0]}", "dim"))

    def _workflow(self, workflow: "WorkflowState") -> bool:
        from cli.terminal import Cell

        now = (workflow.live.number if workflow.live is not None else None, workflow.pause is not None)
        before = self._workflows.get(workflow.name)
        self._workflows[workflow.name] = now
        if now == before:
            return False
        if self._session.json:
            self._line("workflow", {"workflow": workflow.name, "live_version": now[0], "paused": now[1]})
            return True
        what = "unregistered" if now[0] is None else f"version {now[0]} is live"
        self._tell(Cell(workflow.name, "bold"), f"  {what}{', paused' if now[1] else ''}")
        return True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """What the engine says by itself, refusals among it, becomes lines as well."""
        logger = logging.getLogger("runfold")
        handler = _Lines(self)
        logger.addHandler(handler)
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.INFO)
        logger.propagate = False
        # A terminal that goes away ends the engine as Ctrl-C does.
        hangup = signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, hangup)
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate

    def said(self, record: logging.LogRecord) -> None:
        from cli.terminal import Cell

        bad = record.levelno >= logging.WARNING
        message = self._reports.line(record)
        if self._session.json:
            self._line("error" if bad else "info", {"message": message})
        else:
            self._tell(Cell(message, "red" if bad else ""))
        sys.stdout.flush()

    def _tell(self, *words: "str | Cell", status: str = "") -> None:
        from cli.terminal import Cell, clock
        from shared.bootstrap import utc_now

        terminal = self._session.terminal
        shown = terminal.status(status) if status else Cell("")
        terminal.line(
            Cell(clock(utc_now())[:-4], "dim"),
            "  ",
            *([Cell(f"{shown.text:<11}  ", shown.style)] if status else []),
            *words,
        )

    def _line(self, kind: str, fields: dict[str, object]) -> None:
        import json

        from shared.bootstrap import utc_now
        from shared.views.objects import moment

        click.echo(json.dumps({"at": moment(utc_now()), "kind": kind, **fields}, ensure_ascii=False))


class _Lines(logging.Handler):
    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        # That a dropped document is live is told by what became of its workflow.
        if record.levelno > logging.INFO or record.name != "runfold.inbox":
            with heard():
                self._journal.said(record)
