"""What people ask of runs and workflows: run, cancel, rerun, mark, pause, resume."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.completing import complete_job, complete_run, complete_workflow
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from pathlib import Path

    from cli.writing import Writing
    from shared.errors import Problem
    from shared.ids import RunId
    from shared.state.run import Run
    from shared.workflow.document import Workflow

COPY_BYTES = 1 << 20


# --- run --------------------------------------------------------------------------------------------------------------


@command()
@click.argument("workflow", shell_complete=complete_workflow)
@click.option("--param", "-p", "params", metavar="NAME=VALUE", multiple=True, help="A parameter; may be repeated.")
@click.option("--params-file", metavar="FILE", help="Parameters as JSON or YAML; --param goes before it.")
@click.option("--file", "-f", "files", metavar="NAME=PATH", multiple=True, help="A file that a job takes.")
@click.option("--key", default="", help="The same key again is the same run, and starts nothing.")
@click.option("--at", metavar="TIME", help="Start nothing before this moment: 2026-03-29T02:30Z, or 2h from now.")
@click.option("--note", default="", help="Kept with the run.")
@click.option("--wait", "-w", is_flag=True, help="Watch until it ends; exit code 1 unless it succeeds.")
@click.option("--timeout", metavar="TIME", help="With --wait: stop watching after 90s, 10m … (exit code 75).")
@pass_session
def run(
    session: Session,
    workflow: str,
    params: tuple[str, ...],
    params_file: str | None,
    files: tuple[str, ...],
    key: str,
    at: str | None,
    note: str,
    wait: bool,
    timeout: str | None,
) -> None:
    """Ask for a run of WORKFLOW.

    The engine of this home starts it. With --wait and no engine, this command is the engine until the run has ended.
    """
    from cli.finding import moment_of, pairs_of, read_file, seconds_of
    from shared.bootstrap import utc_now
    from shared.ids import WorkflowName
    from shared.workflow.parameters import from_text
    from shared.workflow.syntax import parse

    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")
    timeout_seconds = seconds_of(timeout, option="--timeout") if timeout is not None else None
    start_after = moment_of(at, utc_now(), option="--at", ahead=True) if at is not None else None
    texts = pairs_of(params, option="--param", form="NAME=VALUE")
    given = pairs_of(files, option="--file", form="NAME=PATH")
    if len(key) > 256 or len(note) > 4096:
        raise click.UsageError("--key takes 256 characters at most, --note 4096")
    by = session.by
    with session.writing() as writing:
        document = _live_document(writing, WorkflowName(workflow))
        values: dict[str, Any] = {}
        if params_file is not None:
            values = parse(read_file(params_file, option="--params-file"), name=params_file)
        values |= from_text(document.parameters, texts)
        with _Uploads(writing, document, WorkflowName(workflow), key, given) as uploads:
            requested = uploads.control.request_run(
                WorkflowName(workflow),
                values,
                by=by,
                key=key,
                start_after=start_after,
                files=uploads.addresses,
                note=note,
            )
            uploads.needed = requested.new
    if wait:
        if not session.json and not session.terminal.rich:
            session.terminal.line(f"{requested.run}{'' if requested.new else ' (was asked for before)'}")
        watch(session, requested.run, timeout_seconds=timeout_seconds)
        return
    engine = _engine_up(session)
    if session.json:
        session.answer({"run": requested.run, "workflow": workflow, "new": requested.new, "held": requested.held})
        return
    from cli.terminal import Cell

    terminal = session.terminal
    terminal.line(Cell(requested.run, "bold"), "" if requested.new else "  was asked for before")
    if requested.held:
        terminal.line(Cell(f"It waits until {workflow} may have another run: `runfold why {requested.run}`.", "yellow"))
    if not engine:
        terminal.line(Cell("No engine is up: `runfold up` starts it, or ask with --wait.", "yellow"))


def _live_document(writing: "Writing", workflow: Any) -> "Workflow":
    from shared.errors import Rejected

    state = writing.control.workflow(workflow)
    if state.live is None:
        raise Rejected(f"{workflow} was unregistered; register it again to run it")
    return writing.parts.plans(state.live.document).workflow


class _Uploads:
    """Copies of the files that a run is given, under the run's own directory, there before the run is; gone if it is not made.

    The run's id is settled first, because the directory bears it: `control` makes no other. A copy lies in a directory of its own,
    so that asking again under the same key never touches what a run already uses.
    """

    def __init__(
        self, writing: "Writing", document: "Workflow", workflow: Any, key: str, given: Mapping[str, str]
    ) -> None:
        from shared.bootstrap import new_ulid
        from shared.ids import fresh_run, keyed_run
        from shared.usecases.control import Control

        ulid = new_ulid()
        run = keyed_run(workflow, key) if key else fresh_run(workflow, ulid)
        self.needed = False
        self.control = Control(writing.parts.transact, writing.parts.documents, new_id=lambda: ulid)
        self._given = given
        wanted = {one.upload for job in document.jobs for one in job.inputs if one.upload is not None}
        self._known = {name for name in given if name in wanted}
        self._under = f"runs/{run}/_uploads/{ulid.lower()}"
        self._directory: Path = writing.home.path / self._under
        # A name that no job takes is refused with the request; its file is not even looked at.
        self.addresses = {
            name: f"{self._under}/{number}" if name in self._known else "" for number, name in enumerate(given)
        }
        self._root = writing.home.path

    def __enter__(self) -> "_Uploads":
        from shared.errors import InvalidInput

        problems: list[Problem] = []
        try:
            for name in sorted(self._known):
                self._copy(name, problems)
            if problems:
                raise InvalidInput(problems)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.needed:
            self._remove()

    def _copy(self, name: str, problems: "list[Problem]") -> None:
        import os
        import shutil
        from pathlib import Path

        from shared.errors import Problem

        source = Path(self._given[name])
        try:
            if not source.is_file():
                problems.append(Problem(f"--file {name}", f"there is no file {source}", "check the path"))
                return
            self._directory.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as reading, (self._root / self.addresses[name]).open("xb") as writing:
                shutil.copyfileobj(reading, writing, COPY_BYTES)
                writing.flush()
                # The run that names it is durable, so the file must be.
                os.fsync(writing.fileno())
        except OSError as error:
            problems.append(Problem(f"--file {name}", f"{source} cannot be copied: {error.strerror}", "check it"))

    def _remove(self) -> None:
        import contextlib
        import shutil

        shutil.rmtree(self._directory, ignore_errors=True)
        # Only what is empty goes: a run that exists keeps its directory.
        for directory in (self._directory.parent, self._directory.parent.parent):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _engine_up(session: Session) -> bool:
    from local.home import engine_process

    return engine_process(session.home) is not None


def watch(session: Session, run_: "RunId", *, timeout_seconds: float | None = None) -> None:
    """Follow a run to its end and tell how it ended; leaves with 1 unless it succeeded, 75 when the time is up, 130 on Ctrl-C."""
    import sys

    from cli.following import Follower
    from cli.terminal import Terminal

    # With --json, standard output holds the answer and nothing else; people may still look on.
    terminal: Terminal | None = session.terminal
    if session.json:
        errors = Terminal(sys.stderr, no_color=session.no_color)
        terminal = errors if errors.rich else None
    follower = Follower(session.home, run_, terminal, timeout_seconds=timeout_seconds)
    end = follower.follow(session.reading)
    state = follower.state
    if session.json and follower.loaded is not None and state is not None:
        from shared.views.objects import run_object

        session.answer(run_object(state, follower.loaded.version))
    if end == "ended" and state is not None:
        if not session.json and state.outcome != "succeeded":
            _tell_failures(session, state)
        raise click.exceptions.Exit(0 if state.outcome == "succeeded" else 1)
    what = "The time is up" if end == "timeout" else "You stopped watching"
    click.echo(f"{what}; {run_} goes on.", err=True)
    if not _engine_up(session):
        click.echo("Jobs that run are left running; `runfold up` takes them up again and starts the others.", err=True)
    click.echo(f"`runfold show {run_}` follows it, `runfold cancel {run_}` ends it.", err=True)
    raise click.exceptions.Exit(75 if end == "timeout" else 130)


def _tell_failures(session: Session, run_: "Run") -> None:
    from cli.terminal import Cell

    bad = [name for name, job in run_.jobs.items() if job.status in ("failed", "timed_out")]
    job = next((name for name in run_.plan.jobs if name in bad), "")
    logs = f", `runfold logs {run_.run} {job}` what {job} wrote" if job else ""
    session.terminal.line(Cell(f"`runfold why {run_.run}` tells why{logs}.", "dim"))


# --- what is asked of a run -------------------------------------------------------------------------------------------


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", required=False, shell_complete=complete_job)
@click.option("--reason", default="", help="Kept with the request.")
@pass_session
def cancel(session: Session, run: str, job: str | None, reason: str) -> None:
    """Ask a run, or one JOB of it, to end.

    Jobs that run are asked to stop and, after their grace period, ended. What has ended stays as it is.
    """
    from cli.finding import find_job, find_run, load_run
    from shared.state.run import Run

    with session.writing() as writing:
        found = find_run(writing.parts, run)
        name = None
        if job is not None:
            state = load_run(writing.parts, found).state
            assert isinstance(state, Run)
            name = find_job(state, job)
        writing.control.cancel(found, by=session.by, reason=reason, job=name)
    _answer_run(session, found, f"{f'{name} of ' if name else ''}{found} is asked to end")


@command()
@click.argument("run", shell_complete=complete_run)
@click.option("--from-failed", is_flag=True, help="Every job that ended badly, and what depends on it (the default).")
@click.option("--job", "-j", "jobs", multiple=True, metavar="JOB", help="This job and what depends on it.")
@click.option(
    "--version",
    "version_",
    default="pinned",
    metavar="pinned|latest|N",
    help="Of the document; pinned is the one it ran with.",
)
@click.option("--reason", default="", help="Kept with the request.")
@click.option("--key", default="", help="The same key again reopens once.")
@click.option("--wait", "-w", is_flag=True, help="Watch until it ends; exit code 1 unless it succeeds.")
@pass_session
def rerun(
    session: Session,
    run: str,
    from_failed: bool,
    jobs: tuple[str, ...],
    version_: str,
    reason: str,
    key: str,
    wait: bool,
) -> None:
    """Do a finished run again: from what failed, or from the jobs that are named. The rest is kept.

    It stays the same run, with all that happened before. With --version latest it goes on with a newer document.
    """
    from cli.finding import find_job, find_run
    from shared.bootstrap import new_id
    from shared.errors import InvalidInput, Problem

    document: Literal["pinned", "latest"] | int
    if version_ == "pinned":
        document = "pinned"
    elif version_ == "latest":
        document = "latest"
    elif version_.isascii() and version_.isdigit() and 0 < int(version_[:10]) < 10**9:
        document = int(version_)
    else:
        raise InvalidInput([Problem("--version", f"{version_} is none", "write pinned, latest or a number")])
    with session.writing() as writing:
        found = find_run(writing.parts, run)
        state = writing.control.run(found)
        names = []
        for job in dict.fromkeys(jobs):
            if document == "pinned":
                names.append(find_job(state, job))
            else:
                names.append(_job_of_any(writing, state, job, document))
        changes = writing.control.rerun(
            found,
            by=session.by,
            jobs=names,
            failed=from_failed,
            document=document,
            reason=reason,
            request=key or new_id(),
        )
    if wait:
        watch(session, found)
        return
    if session.json:
        _answer_run(session, found, "")
        return
    session.terminal.line(f"{found} begins round {_round_of(session, found)}")
    for line in changes:
        session.terminal.line("    ~ ", line)
    _tell_no_engine(session)


def _job_of_any(writing: "Writing", state: Any, job: str, document: Literal["latest"] | int) -> Any:
    """A job may be new in the document that the run goes on with; the rules have the last word."""
    from cli.finding import find_job
    from shared.ids import JobName

    workflow = writing.control.workflow(state.request.workflow)
    version = workflow.live if document == "latest" else workflow.version(document)
    if version is not None and job in writing.parts.plans(version.document).jobs:
        return JobName(job)
    return find_job(state, job)


def _round_of(session: Session, run_: "RunId") -> int:
    from cli.finding import load_run
    from shared.state.run import Run

    with session.reading() as parts:
        state = load_run(parts, run_).state
    assert isinstance(state, Run)
    return state.round


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", shell_complete=complete_job)
@click.argument("outcome", type=click.Choice(["succeeded", "failed", "skipped"]))
@click.option("--reason", required=True, help="Why; kept with your name.")
@pass_session
def mark(session: Session, run: str, job: str, outcome: Literal["succeeded", "failed", "skipped"], reason: str) -> None:
    """Declare how JOB of RUN ended, in your name.

    It is for what the machine cannot know: that somebody did the work by hand, or that an attempt in doubt never happened.
    """
    from cli.finding import find_job, find_run
    from shared.errors import InvalidInput, Problem

    if not reason.strip():
        raise InvalidInput([Problem("--reason", "is empty", "say why: it is all that others will have")])
    with session.writing() as writing:
        found = find_run(writing.parts, run)
        name = find_job(writing.control.run(found), job)
        writing.control.mark(found, name, outcome, by=session.by, reason=reason)
    _answer_run(session, found, f"{name} of {found} is marked {outcome}")


def _answer_run(session: Session, run_: "RunId", words: str) -> None:
    if not session.json:
        session.terminal.line(words)
        _tell_no_engine(session)
        return
    from cli.finding import load_run
    from shared.errors import NotFound
    from shared.state.run import Run
    from shared.views.objects import run_object

    with session.reading() as parts:
        try:
            loaded = load_run(parts, run_)
        except NotFound:
            # It was held, and dropped before it began.
            session.answer({"run": run_, "status": "cancelled"})
            return
    assert isinstance(loaded.state, Run)
    session.answer(run_object(loaded.state, loaded.version))


def _tell_no_engine(session: Session) -> None:
    from cli.terminal import Cell

    if not _engine_up(session):
        session.terminal.line(Cell("No engine is up; `runfold up` carries it out.", "yellow"))


# --- what is asked of a workflow --------------------------------------------------------------------------------------


@command()
@click.argument("workflow", shell_complete=complete_workflow)
@click.option("--reason", default="", help="Kept with the request.")
@pass_session
def pause(session: Session, workflow: str, reason: str) -> None:
    """Start no more scheduled runs of WORKFLOW. What runs goes on, and you may still ask for runs."""
    from shared.ids import WorkflowName

    with session.writing() as writing:
        writing.control.pause(WorkflowName(workflow), by=session.by, reason=reason)
    _answer_workflow(session, workflow, f"{workflow} is paused; `runfold resume {workflow}` ends that")


@command()
@click.argument("workflow", shell_complete=complete_workflow)
@pass_session
def resume(session: Session, workflow: str) -> None:
    """End a pause. What was missed meanwhile is dealt with as the schedule's catchup says."""
    from shared.ids import WorkflowName

    with session.writing() as writing:
        writing.control.resume(WorkflowName(workflow), by=session.by)
    _answer_workflow(session, workflow, f"{workflow} goes on")


def _answer_workflow(session: Session, workflow: str, words: str) -> None:
    if not session.json:
        session.terminal.line(words)
        return
    from shared.ids import WorkflowName, workflow_stream
    from shared.views.objects import workflow_object

    with session.reading() as parts:
        state = parts.control.workflow(WorkflowName(workflow))
        version = parts.transact.current(workflow_stream(state.name)).version
        plan = parts.plans((state.live or state.versions[-1]).document)
        session.answer(workflow_object(state, version, plan))
