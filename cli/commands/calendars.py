"""Calendars: days under a name that schedules share."""

from typing import Any

import click

from cli.session import Session, command, pass_session


@command()
@click.argument("calendar", required=False)
@click.option("--cursor", default="", help="The next page, as the last one told.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True)
@pass_session
def calendars(session: Session, calendar: str | None, cursor: str, limit: int) -> None:
    """List the calendars, or show one with its days.

    A calendar is a document like a workflow, `{"calendar": "bank-holidays", "days": ["2026-12-25", "01-01"]}`: `runfold register FILE`
    makes it, and makes it anew. A schedule that names it in `exclude` follows it from its next instant on.
    """
    from cli.reach import instant_of
    from cli.terminal import Cell, Column
    from shared.bootstrap import utc_now

    terminal = session.terminal
    if calendar is not None:
        with session.reach() as engine:
            answer = engine.calendar(calendar)
        if session.json:
            session.answer(answer)
            return
        terminal.line(Cell(answer["calendar"], "bold"), f"  version {answer['version']}", Cell(_where(answer), "dim"))
        if answer["description"]:
            terminal.line(answer["description"])
        for day in answer["days"]:
            terminal.line("  ", day)
        if not answer["days"]:
            terminal.line("  it has no days: nothing is excluded by it")
        return
    with session.reach() as engine:
        rows, following = engine.calendars(cursor=cursor, limit=limit)
    if session.json:
        session.answer(rows)
        return
    if not rows:
        terminal.line("no calendars: `runfold register FILE` makes one of a document with `calendar` and `days`")
        return
    now = utc_now()
    terminal.table(
        [
            Column("calendar"),
            Column("version", right=True),
            Column("days"),
            Column("registered"),
            Column("description"),
        ],
        [
            (
                Cell(row["calendar"], "bold"),
                str(row["version"]),
                f"{entries_of(row)}{_where(row)}",
                terminal.moment(instant_of(row["registered_at"]), now),
                row["description"],
            )
            for row in rows
        ],
    )
    if following:
        terminal.line(Cell(f"more: --cursor {following}", "dim"))


def entries_of(calendar: dict[str, Any]) -> str:
    number = len(calendar["days"])
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def _where(calendar: dict[str, Any]) -> str:
    return f"  in {calendar['timezone']}" if calendar["timezone"] else ""
