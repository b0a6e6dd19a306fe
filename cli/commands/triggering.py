"""Events by hand: what starts runs on AWS from a bucket, the bus or a queue is told of here, on one machine or to try a trigger."""

from typing import Any, Literal

import click

from cli.session import Session, command, pass_session
from shared.errors import InvalidInput, Problem

_STYLES = {"started": "green", "held": "yellow", "missed": "yellow", "refused": "red", "known": "dim"}


@command()
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--object", "object_", metavar="s3://BUCKET/KEY", help="An object that was created.")
@click.option("--message", metavar="JSON", help="A message in the queue.")
@click.option("--id", "id_", default="", help="What tells the event apart; the same again starts nothing.")
@pass_session
def trigger(session: Session, file: str | None, object_: str | None, message: str | None, id_: str) -> None:
    """Tell of an event, and start the runs of all workflows whose triggers wait for it.

    FILE holds an event as JSON or YAML: `source`, `detail-type`, `detail`, and `id` unless --id is given. Without an id, what it says
    tells it apart: the same event again is the same run.
    """
    kind: Literal["bus", "queue"] = "bus"
    detail: Any
    if sum(one is not None for one in (file, object_, message)) != 1:
        raise click.UsageError("name an event: a FILE, --object or --message")
    if object_ is not None:
        source, detail_type, detail = "aws.s3", "Object Created", _created(object_, id_)
    elif message is not None:
        kind, source, detail_type, detail = "queue", "", "", _parsed(message)
    else:
        assert file is not None
        from cli.finding import read_file
        from shared.workflow.syntax import parse

        event = parse(read_file(file, option="FILE"), name=file)
        if strange := sorted(set(event) - {"id", "source", "detail-type", "detail", "time"}):
            raise InvalidInput(
                [Problem(strange[0], "is not a part of an event", "it has source, detail-type, detail, id")]
            )
        id_ = id_ or str(event.get("id") or "")
        source, detail_type = str(event.get("source") or ""), str(event.get("detail-type") or "")
        detail = event.get("detail")
    with session.reach() as engine:
        taken = engine.send_event(kind, id_=id_, source=source, detail_type=detail_type, detail=detail)
        up = engine.up
    if session.json:
        session.answer(taken)
        return
    from cli.terminal import Cell

    terminal = session.terminal
    for one in taken:
        reason = f": {one['reason']}" if one["reason"] else ""
        terminal.line(
            Cell(f"{one['fate']:<8}", _STYLES[one["fate"]]), Cell(one["run"], "bold"), f"  by {one['trigger']}{reason}"
        )
    if not taken:
        terminal.line("No workflow waits for it.")
    elif not up:
        terminal.line(Cell("No engine is up: `runfold up` starts it.", "yellow"))


def _created(address: str, id_: str) -> dict[str, Any]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket or not key:
        raise InvalidInput([Problem("--object", "is not the address of an object", "write s3://bucket/key")])
    return {"bucket": {"name": bucket}, "object": {"key": key, **({"version-id": id_} if id_ else {})}}


def _parsed(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
