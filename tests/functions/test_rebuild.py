"""`runfold rebuild` and `runfold verify` of a deployment, on moto: whatever becomes of the table of views, it is made again from the events."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest

from cli.main import call
from cli.session import Session
from functions.relay.handler import make_handler as relay_handler
from shared.bootstrap.account import Account, Operated
from shared.bootstrap.aws import Aws
from shared.ids import RunId, StreamName, WorkflowName, run_stream, workflow_stream
from shared.ports import EventStore, Record
from shared.stores.dynamodb import EVENTS_SCHEMA
from shared.stores.schedules import schedule_name
from shared.usecases.rebuild import Difference, rebuild
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import (
    NIGHTLY,
    Context,
    dispatch,
    document,
    report,
    start_run,
    state_of,
    stream_event,
)

STACK = "Runfold-test"
Words = Callable[..., tuple[int, Any]]


@pytest.fixture
def runfold(deployed: Deployed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Words:
    """The command, asked about this deployment; its exit code and its answer."""
    # moto knows no stacks; how the settings of one are found is tested in tests/cli/test_account.py.
    monkeypatch.setattr(Account, "settings", lambda _account, stack: {STACK: deployed.aws.settings}[stack])

    def ask(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = call([*words, "--stack", STACK, "--region", "us-east-1", "--json"], Session())
        shown = capsys.readouterr()
        return code, json.loads(shown.out or shown.err)

    return ask


def operated(deployed: Deployed) -> Operated:
    return Account(region="us-east-1").operated(deployed.aws.settings)


def mended(deployed: Deployed, *, store: EventStore | None = None, dry_run: bool = False) -> list[Difference]:
    parts = operated(deployed)
    return list(
        rebuild(
            store or parts.store,
            parts.loader,
            parts.views,
            parts.dues,
            derive=parts.row_of,
            settle=parts.settle,
            now=parts.now(),
            patience=parts.patience,
            dry_run=dry_run,
        )
    )


def relayed(deployed: Deployed, *streams: StreamName) -> None:
    relay_handler(deployed.aws.reader, deployed.aws.settle)(stream_event(*streams), Context())


def ended_run(deployed: Deployed) -> RunId:
    """A run of two jobs that has succeeded, and all that follows from it is done."""
    run = start_run(deployed)
    for job in ("extract", "load"):
        dispatch(deployed)
        deployed.aws.work.record([report(deployed, run, job, "succeeded")])
    assert state_of(deployed, run).outcome == "succeeded"
    later = Aws(deployed.aws.settings, now=lambda: deployed.aws.now() + timedelta(hours=1))
    later.sweep()
    deployed.messages()
    relayed(deployed, run_stream(run), workflow_stream(NIGHTLY))
    assert deployed.aws.dues.get(run_stream(run)) is None
    return run


def emptied(table: str = "views") -> None:
    client: Any = boto3.client("dynamodb")
    for item in client.scan(TableName=table)["Items"]:
        client.delete_item(TableName=table, Key={name: item[name] for name in ("subject", "aspect")})


def everything(table: str = "views") -> list[Any]:
    client: Any = boto3.client("dynamodb")
    return sorted(client.scan(TableName=table)["Items"], key=lambda item: (item["subject"]["S"], item["aspect"]["S"]))


def test_a_table_of_views_that_was_emptied_is_made_again(deployed: Deployed, runfold: Words) -> None:
    ended, live = ended_run(deployed), start_run(deployed)
    dispatch(deployed)
    relayed(deployed, run_stream(live), workflow_stream(NIGHTLY))
    before = deployed.aws.views.runs().rows, deployed.aws.views.workflows()[0]
    emptied()
    assert runfold("verify")[1]["clean"] is False
    code, told = runfold("rebuild")
    assert (code, told["runs"], told["workflows"], told["missing"], told["due"]) == (0, 2, 1, 3, 1)
    assert (deployed.aws.views.runs().rows, deployed.aws.views.workflows()[0]) == before
    assert {row.stream for row in deployed.aws.dues.due(deployed.aws.now())} == {run_stream(live)}
    assert runfold("verify")[1]["clean"] is True
    written = everything()
    assert runfold("rebuild")[1]["equal"] is True
    assert everything() == written
    # What was under way goes on: the sweep asks the target how it is.
    later = Aws(deployed.aws.settings, now=lambda: deployed.aws.now() + timedelta(hours=1))
    later.sweep()
    assert any(live in message for message in deployed.messages())
    assert ended in {row.run for row in deployed.aws.views.runs().rows}


def test_a_due_row_that_was_lost_is_found_and_the_sweep_starts_what_was_never_handed_over(
    deployed: Deployed, runfold: Words
) -> None:
    """faults 4, 34"""
    run = start_run(deployed)
    deployed.messages()
    relayed(deployed, run_stream(run), workflow_stream(NIGHTLY))
    client: Any = boto3.client("dynamodb")
    client.delete_item(TableName="views", Key={"subject": {"S": f"stream#{run_stream(run)}"}, "aspect": {"S": "due"}})
    code, told = runfold("verify")
    assert code == 1
    assert [one["invariant"] for one in told["violations"]] == ["I7"]
    assert runfold("rebuild")[1]["due"] == 1
    assert runfold("verify")[0] == 0
    later = Aws(deployed.aws.settings, now=lambda: deployed.aws.now() + timedelta(hours=1))
    later.sweep()
    dispatch(deployed)
    assert [request.job for request in deployed.target.started.values()] == ["extract"]


def test_a_due_row_that_is_too_late_is_moved_and_one_that_is_early_stays(deployed: Deployed) -> None:
    run = start_run(deployed)
    dues, stream = deployed.aws.dues, run_stream(run)
    right = dues.get(stream)
    assert right is not None
    assert [one.what for one in mended(deployed) if one.stream == stream] == ["missing"]
    assert dues.get(stream) == right
    assert dues.raise_to(stream, seen=right, at=right + timedelta(days=1))
    assert [one.what for one in mended(deployed)] == ["due"]
    now = dues.get(stream)
    assert now is not None
    assert now <= deployed.aws.now()


def test_rows_that_contradict_the_events_are_ahead_of_them_or_have_none_are_mended(
    deployed: Deployed, runfold: Words
) -> None:
    """fault 50: lists that outlived a restore of the events"""
    wrong, ahead = ended_run(deployed), ended_run(deployed)
    views = deployed.aws.views
    rows = {row.run: row for row in views.runs().rows}
    workflow = views.get_workflow(NIGHTLY)
    assert workflow is not None
    views.remove_run(wrong)
    views.put_run(replace(rows[wrong], status="failed"))
    views.put_run(replace(rows[ahead], version=99, status="running"))
    views.put_run(replace(rows[ahead], run=RunId("nightly@lost")))
    views.put_workflow(replace(workflow, stream_version=99, paused=True))
    views.put_workflow(replace(workflow, workflow=WorkflowName("lost")))
    code, told = runfold("verify")
    assert code == 1
    assert {one["stream"] for one in told["violations"]} == {
        *(run_stream(run) for run in (wrong, ahead, RunId("nightly@lost"))),
        *(workflow_stream(WorkflowName(name)) for name in ("nightly", "lost")),
    }
    before = everything()
    code, told = runfold("rebuild", "--dry-run")
    assert (code, told["wrong"], told["orphan"]) == (0, 3, 2)
    assert everything() == before
    assert runfold("rebuild")[1]["wrong"] == 3
    assert {row.run: row for row in views.runs().rows} == rows
    assert views.workflows()[0] == [workflow]
    assert runfold("verify")[1]["clean"] is True


def test_bells_that_are_missing_are_hung_again(deployed: Deployed, runfold: Words) -> None:
    deployed.aws.control.register(document(schedule={"cron": "0 2 * * *"}), name="nightly.json", by="ann")
    relayed(deployed, workflow_stream(NIGHTLY))
    client: Any = boto3.client("scheduler")
    client.delete_schedule(GroupName="runfold", Name=schedule_name(NIGHTLY))
    assert runfold("rebuild")[1]["equal"] is True
    assert client.get_schedule(GroupName="runfold", Name=schedule_name(NIGHTLY))


class Moving:
    """A store on which an engine ends a run, and derives it, whenever the run has just been read to its end."""

    def __init__(self, store: EventStore, run: RunId, move: Callable[[], None]) -> None:
        self._store, self._stream, self._move = store, run_stream(run), move

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, stream: StreamName, *, after: int = 0, limit: int = 1000) -> list[Record]:
        records = self._store.read(stream, after=after, limit=limit)
        if stream == self._stream and not after:
            self._move()
        return records


def test_a_run_that_ends_while_its_row_is_made_again_is_shown_as_ended(deployed: Deployed) -> None:
    """fault 14, of rebuilding: a row that is taken away for being wrong must not take a newer one with it."""
    run = start_run(deployed)
    dispatch(deployed)
    relayed(deployed, run_stream(run), workflow_stream(NIGHTLY))
    row = deployed.aws.views.get_run(run)
    assert row is not None
    deployed.aws.views.put_run(replace(row, version=row.version + 1, status="failed"))

    def end() -> None:
        deployed.aws.control.cancel(run, by="ann")
        deployed.aws.settle(deployed.aws.loader.load(run_stream(run)))

    parts = operated(deployed)
    parts.loader._events = Moving(parts.store, run, end)
    found = list(
        rebuild(
            parts.store,
            parts.loader,
            parts.views,
            parts.dues,
            derive=parts.row_of,
            settle=parts.settle,
            now=parts.now(),
            patience=parts.patience,
        )
    )
    assert [one.what for one in found] == ["wrong"]
    shown = deployed.aws.views.get_run(run)
    assert shown is not None
    assert shown.version == deployed.aws.loader.load(run_stream(run)).version


def test_a_rebuild_that_was_broken_off_is_done_again(deployed: Deployed) -> None:
    runs = [start_run(deployed) for _ in range(4)]
    relayed(deployed, workflow_stream(NIGHTLY))
    parts = operated(deployed)
    begun = rebuild(
        parts.store,
        parts.loader,
        parts.views,
        parts.dues,
        derive=parts.row_of,
        settle=parts.settle,
        now=parts.now(),
        patience=parts.patience,
    )
    assert next(begun).what == "missing"
    del begun
    assert {one.stream for one in mended(deployed)} == {run_stream(run) for run in runs}
    assert mended(deployed) == []


def test_a_history_that_lost_its_beginning_is_found_by_its_row_and_without_one_by_reading_the_whole_table(
    deployed: Deployed, runfold: Words
) -> None:
    run = ended_run(deployed)
    client: Any = boto3.client("dynamodb")
    client.delete_item(TableName="events", Key={"stream": {"S": run_stream(run)}, "version": {"N": "1"}})
    gone = {"invariant": "I9", "stream": run_stream(run), "version": 2, "message": "its first commit is gone"}
    assert runfold("verify")[1]["violations"] == [gone]
    deployed.aws.views.remove_run(run)
    assert runfold("verify")[1]["clean"] is True
    code, told = runfold("verify", "--scan")
    assert (code, told["violations"]) == (1, [gone])


def test_one_run_or_only_the_later_ones_are_checked(deployed: Deployed, runfold: Words) -> None:
    run = ended_run(deployed)
    assert runfold("verify", run)[0] == 0
    assert runfold("verify", "nightly@nobody")[0] == 1
    told = runfold("verify", "--since", "1h")[1]
    assert (told["clean"], told["skipped"]) == (True, 0)
    told = runfold("verify", "--since", "2999-01-01")[1]
    assert (told["clean"], told["skipped"], told["streams"]) == (True, 1, 1)


def test_a_restored_table_is_checked_before_anything_uses_it(deployed: Deployed, runfold: Words) -> None:
    run = ended_run(deployed)
    client: Any = boto3.client("dynamodb")
    client.create_table(TableName="restored", **EVENTS_SCHEMA)
    for item in client.scan(TableName="events")["Items"]:
        if item["stream"]["S"] != run_stream(run) or int(item["version"]["N"]) <= 3:
            client.put_item(TableName="restored", Item=item)
    told = runfold("verify", "--events-table", "restored")[1]
    assert (told["clean"], told["streams"]) == (True, 2)
    client.delete_item(TableName="restored", Key={"stream": {"S": run_stream(run)}, "version": {"N": "2"}})
    assert runfold("verify", "--events-table", "restored")[0] == 1
    assert runfold("verify")[0] == 0


def test_what_may_not_be_read_ends_it_with_words(deployed: Deployed, runfold: Words) -> None:
    deployed.aws.control.register(document(), name="nightly.json", by="ann")
    client: Any = boto3.client("dynamodb")
    client.delete_table(TableName="events")
    code, told = runfold("verify")
    assert code == 75
    assert "table events" in told["error"]
