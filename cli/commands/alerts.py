"""What people were told: `runfold alerts`."""

import json

import click

from cli.completing import complete_workflow
from cli.session import Session, command, pass_session


@command()
@click.argument("workflow", metavar="[WORKFLOW]", required=False, shell_complete=complete_workflow)
@click.option("--since", metavar="TIME", help="Told at or after: 2026-03-29, 2026-03-29T02:30Z, or 2h ago.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Runs and workflows on a page."
)
@click.option("--cursor", default="", help="The next page, as the last one told.")
@pass_session
def alerts(session: Session, workflow: str | None, since: str | None, limit: int, cursor: str) -> None:
    """List what people were told, or were to be told, newest first.

    With --json: a list of objects with source, workflow, at, open, failed, and notices with id, on, channel, to, status, reason.
    """
    from cli.finding import moment_of
    from shared.bootstrap import utc_now

    earliest = moment_of(since, utc_now(), option="--since") if since is not None else None
    with session.reach() as engine:
        rows, following = engine.alerts(workflow, earliest, cursor=cursor, limit=limit)
    if session.json:
        session.answer(rows)
        if following:
            click.echo(json.dumps({"cursor": following}), err=True)
        return
    from cli.terminal import Cell, Column

    terminal = session.terminal
    table = [
        (
            Cell(row["source"].partition("#")[2], "bold"),
            notice["on"],
            notice["at"],
            f"{notice['channel']} {notice['to']}",
            Cell(notice["status"], "bold magenta" if notice["status"] == "failed" else ""),
            notice["reason"],
        )
        for row in rows
        for notice in reversed(row["notices"])
    ]
    if not table:
        terminal.line("nobody was told of anything")
        return
    titles = ("about", "of", "at", "to", "status")
    terminal.table([*(Column(title) for title in titles), Column("", wraps=True)], table)
    if following:
        terminal.line(f"more: --cursor {following}")
