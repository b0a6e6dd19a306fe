"""What people ask of runs and workflows: run, cancel, rerun, mark, pause, resume."""

from typing import TYPE_CHECKING, Any

import click

from cli.completing import complete_job, complete_run, complete_workflow
from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from cli.reach import Object, Outcome, Pin, Reach, Verdict

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

    The engine of this home starts it. With --wait and no engine, this command is the engine until the run has ended. With --api
    the engine there does all of it.
    """
    from cli.finding import moment_of, pairs_of, read_file, seconds_of
    from shared.bootstrap import utc_now
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
    with session.reach() as engine:
        schema = engine.parameters_of(workflow)
        values: dict[str, Any] = {}
        if params_file is not None:
            values = parse(read_file(params_file, option="--params-file"), name=params_file)
        values |= from_text(schema, texts)
        requested = engine.request_run(workflow, values, key=key, start_after=start_after, files=given, note=note)
        if wait:
            if not session.json and not session.terminal.rich:
                session.terminal.line(f"{requested['run']}{'' if requested['new'] else ' (was asked for before)'}")
            watch(session, engine, requested["run"], timeout_seconds=timeout_seconds)
            return
        if session.json:
            session.answer(requested)
            return
        _tell_requested(session, engine, requested)


def _tell_requested(session: Session, engine: "Reach", requested: "Object") -> None:
    from cli.terminal import Cell

    terminal, run_ = session.terminal, requested["run"]
    terminal.line(Cell(run_, "bold"), "" if requested["new"] else "  was asked for before")
    if requested["held"]:
        waits = f"It waits until {requested['workflow']} may have another run: `runfold why {run_}`."
        terminal.line(Cell(waits, "yellow"))
    if not engine.up:
        terminal.line(Cell("No engine is up: `runfold up` starts it, or ask with --wait.", "yellow"))


def watch(session: Session, engine: "Reach", run_: str, *, timeout_seconds: float | None = None) -> None:
    """Follow a run to its end and tell how it ended; leaves with 1 unless it succeeded, 75 when the time is up, 130 on Ctrl-C."""
    import sys

    from cli.terminal import Terminal

    # With --json, standard output holds the answer and nothing else; people may still look on.
    terminal: Terminal | None = session.terminal
    if session.json:
        errors = Terminal(sys.stderr, no_color=session.no_color)
        terminal = errors if errors.rich else None
    end, state = engine.follow(run_, terminal, timeout_seconds=timeout_seconds)
    if session.json and state is not None:
        session.answer(state)
    if end == "ended" and state is not None:
        if not session.json and state["status"] != "succeeded":
            _tell_failures(session, state)
        raise click.exceptions.Exit(0 if state["status"] == "succeeded" else 1)
    what = "The time is up" if end == "timeout" else "You stopped watching"
    click.echo(f"{what}; {run_} goes on.", err=True)
    if not engine.up:
        click.echo("Jobs that run are left running; `runfold up` takes them up again and starts the others.", err=True)
    click.echo(f"`runfold show {run_}` follows it, `runfold cancel {run_}` ends it.", err=True)
    raise click.exceptions.Exit(75 if end == "timeout" else 130)


def _tell_failures(session: Session, run_: "Object") -> None:
    from cli.terminal import Cell

    job = next((one["name"] for one in run_["jobs"] if one["status"] in ("failed", "timed_out")), "")
    logs = f", `runfold logs {run_['run']} {job}` what {job} wrote" if job else ""
    session.terminal.line(Cell(f"`runfold why {run_['run']}` tells why{logs}.", "dim"))


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
    from cli.reach import job_of

    with session.reach() as engine:
        found = engine.find_run(run)
        name = job_of(engine.run(found), job) if job is not None else None
        engine.cancel(found, job=name, reason=reason)
        _answer_run(session, engine, found, f"{f'{name} of ' if name else ''}{found} is asked to end")


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
    from shared.bootstrap import new_id
    from shared.errors import InvalidInput, Problem

    document: Pin
    if version_ == "pinned":
        document = "pinned"
    elif version_ == "latest":
        document = "latest"
    elif version_.isascii() and version_.isdigit() and 0 < int(version_[:10]) < 10**9:
        document = int(version_)
    else:
        raise InvalidInput([Problem("--version", f"{version_} is none", "write pinned, latest or a number")])
    with session.reach() as engine:
        found = engine.find_run(run)
        changes = engine.rerun(
            found,
            jobs=list(dict.fromkeys(jobs)),
            failed=from_failed,
            document=document,
            reason=reason,
            key=key or new_id(),
        )
        if wait:
            watch(session, engine, found)
            return
        if session.json:
            _answer_run(session, engine, found, "")
            return
        session.terminal.line(f"{found} begins round {engine.run(found)['round']}")
        for line in changes:
            session.terminal.line("    ~ ", line)
        _tell_no_engine(session, engine)


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", shell_complete=complete_job)
@click.argument("outcome", type=click.Choice(["succeeded", "failed", "skipped"]))
@click.option("--reason", required=True, help="Why; kept with your name.")
@pass_session
def mark(session: Session, run: str, job: str, outcome: "Outcome", reason: str) -> None:
    """Declare how JOB of RUN ended, in your name.

    It is for what the machine cannot know: that somebody did the work by hand, or that an attempt in doubt never happened.
    """
    from cli.reach import job_of
    from shared.errors import InvalidInput, Problem

    if not reason.strip():
        raise InvalidInput([Problem("--reason", "is empty", "say why: it is all that others will have")])
    with session.reach() as engine:
        found = engine.find_run(run)
        name = job_of(engine.run(found), job)
        engine.mark(found, name, outcome, reason=reason)
        _answer_run(session, engine, found, f"{name} of {found} is marked {outcome}")


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", shell_complete=complete_job)
@click.option("--reason", default="", help="Why; kept with your name.")
@pass_session
def approve(session: Session, run: str, job: str, reason: str) -> None:
    """Say yes to JOB of RUN, which waits for a decision; the workflow names who may."""
    _decide(session, run, job, "approved", reason)


@command()
@click.argument("run", shell_complete=complete_run)
@click.argument("job", shell_complete=complete_job)
@click.option("--reason", default="", help="Why; kept with your name.")
@pass_session
def reject(session: Session, run: str, job: str, reason: str) -> None:
    """Say no to JOB of RUN, which waits for a decision: it fails, and what depends on it does not run."""
    _decide(session, run, job, "rejected", reason)


def _decide(session: Session, run: str, job: str, verdict: "Verdict", reason: str) -> None:
    from cli.reach import job_of

    with session.reach() as engine:
        found = engine.find_run(run)
        name = job_of(engine.run(found), job)
        engine.decide(found, name, verdict, reason=reason)
        _answer_run(session, engine, found, f"{name} of {found} is {verdict}")


def _answer_run(session: Session, engine: "Reach", run_: str, words: str) -> None:
    if not session.json:
        session.terminal.line(words)
        _tell_no_engine(session, engine)
        return
    from shared.errors import NotFound

    try:
        session.answer(engine.run(run_))
    except NotFound:
        # It was held, and dropped before it began.
        session.answer({"run": run_, "status": "cancelled"})


def _tell_no_engine(session: Session, engine: "Reach") -> None:
    from cli.terminal import Cell

    if not engine.up:
        session.terminal.line(Cell("No engine is up; `runfold up` carries it out.", "yellow"))


# --- what is asked of a workflow --------------------------------------------------------------------------------------


@command()
@click.argument("workflow", shell_complete=complete_workflow)
@click.option("--reason", default="", help="Kept with the request.")
@pass_session
def pause(session: Session, workflow: str, reason: str) -> None:
    """Start no more scheduled runs of WORKFLOW. What runs goes on, and you may still ask for runs."""
    with session.reach() as engine:
        engine.pause(workflow, reason=reason)
        _answer_workflow(session, engine, workflow, f"{workflow} is paused; `runfold resume {workflow}` ends that")


@command()
@click.argument("workflow", shell_complete=complete_workflow)
@pass_session
def resume(session: Session, workflow: str) -> None:
    """End a pause. What was missed meanwhile is dealt with as the schedule's catchup says."""
    with session.reach() as engine:
        engine.resume(workflow)
        _answer_workflow(session, engine, workflow, f"{workflow} goes on")


def _answer_workflow(session: Session, engine: "Reach", workflow: str, words: str) -> None:
    if session.json:
        session.answer(engine.workflow(workflow))
    else:
        session.terminal.line(words)
