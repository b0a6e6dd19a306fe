"""Pools: named capacities that jobs of all workflows share."""

from typing import TYPE_CHECKING

import click

from cli.session import Session, command, pass_session

if TYPE_CHECKING:
    from cli.reach import Object

_DIGITS_MAX = 10


@command()
@click.argument("what", metavar="[POOL | set POOL CAPACITY]", nargs=-1)
@click.option(
    "--after", type=click.IntRange(0), default=0, help="Of one pool: where the page begins, as the last one told."
)
@click.option("--cursor", default="", help="Of the list: the next page, as the last one told.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@pass_session
def pools(session: Session, what: tuple[str, ...], after: int, cursor: str, limit: int) -> None:
    """List the pools, show who holds one and who waits for it, or set a capacity.

    A capacity of 0 closes a pool; what is held beyond a lower one stays held until it ends.
    """
    match what:
        case ():
            _list(session, cursor, limit)
        case ("list",):
            _list(session, cursor, limit)
        case ("set", pool, capacity) if capacity.isascii() and capacity.isdecimal() and len(capacity) < _DIGITS_MAX:
            _set(session, pool, int(capacity))
        case ("set", *_):
            raise click.UsageError("it is `runfold pools set POOL CAPACITY`, with a whole number of at least 0")
        case ("show", pool) | (pool,):
            _show(session, pool, after, limit)
        case _:
            raise click.UsageError("name one pool, or `set POOL CAPACITY`; without a name all are listed")


def _list(session: Session, cursor: str, limit: int) -> None:
    from cli.terminal import Cell, Column

    with session.reach() as engine:
        rows, following = engine.pools(cursor=cursor, limit=limit)
    if session.json:
        session.answer(rows)
        return
    terminal = session.terminal
    if not rows:
        terminal.line("no pools: `runfold pools set NAME CAPACITY` makes one, or a job that asks for a place")
        return
    table = [
        (
            Cell(row["pool"], "bold"),
            str(row["used"]),
            str(row["capacity"]),
            str(row["waiting"]),
            Cell("" if row["declared"] else "nobody set its capacity", "yellow"),
        )
        for row in rows
    ]
    terminal.table([Column(title) for title in ("pool", "used", "of", "waiting", "")], table)
    if following:
        terminal.line(Cell(f"more: --cursor {following}", "dim"))


def _show(session: Session, pool: str, after: int, limit: int) -> None:
    from cli.reach import at_of
    from cli.terminal import Cell, Column
    from shared.bootstrap import utc_now

    with session.reach() as engine:
        found = engine.pool(pool)
        holders, more_holders = engine.holders(pool, after=after, limit=limit)
        line, more = engine.line(pool, after=after, limit=limit)
    if session.json:
        following = after + limit if more is not None or more_holders is not None else None
        session.answer({**found, "held": holders, "line": line, "after": following})
        return
    terminal, now = session.terminal, utc_now()
    terminal.line(Cell(found["pool"], "bold"), f"  {_in_words(found)}")
    if holders:
        rows = [
            (one["job"], one["run"], str(one["weight"]), terminal.moment(at_of(one["since"]), now)) for one in holders
        ]
        terminal.table([Column(title) for title in ("holds", "of run", "weight", "since")], rows)
    if line:
        waiting = [
            (
                str(after + number),
                one["job"],
                one["run"],
                str(one["weight"]),
                str(one["priority"]),
                terminal.moment(at_of(one["since"]), now),
                terminal.moment(at_of(one["expected_at"]), now) if one["expected_at"] else Cell("unknown", "dim"),
            )
            for number, one in enumerate(line, 1)
        ]
        titles = ("turn", "waits", "of run", "weight", "priority", "since", "expected")
        terminal.table([Column(title) for title in titles], waiting)
    if more is not None or more_holders is not None:
        terminal.line(Cell(f"more: --after {after + limit}", "dim"))


def _in_words(found: "Object") -> str:
    text = f"{found['used']} of {found['capacity']} used, {found['waiting']} waiting"
    if found["capacity"] == 0:
        text += "; closed"
    if not found["declared"]:
        text += f"; nobody set its capacity, so it is 1: `runfold pools set {found['pool']} CAPACITY`"
    return text


def _set(session: Session, pool: str, capacity: int) -> None:
    with session.reach() as engine:
        found = engine.set_pool(pool, capacity)
    if session.json:
        session.answer(found)
    else:
        session.terminal.line(f"{found['pool']}: {_in_words(found)}")
