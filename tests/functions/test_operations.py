"""The Python of docs/operations.md, run as it is written there, on moto: copying commits that were lost, and making the lists again (fault 50)."""

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from shared.bootstrap.aws import Aws
from shared.ids import run_stream, workflow_stream
from shared.stores.dynamodb import EVENTS_SCHEMA
from shared.usecases.verify import verify
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import NIGHTLY, start_run

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "operations.md"


def script(name: str) -> Any:
    blocks = re.findall(r"```python\n(# (\S+)\n.*?)```", PAGE.read_text(), re.DOTALL)
    (text,) = [text for text, written_as in blocks if written_as == name]
    return compile(text, name, "exec")


def copy(monkeypatch: pytest.MonkeyPatch, source: str, target: str) -> None:
    monkeypatch.setattr(sys, "argv", ["copy.py", source, target])
    exec(script("copy.py"), {})


def test_commits_that_were_deleted_come_back_and_what_is_there_stays(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start_run(deployed)
    client: Any = boto3.client("dynamodb")
    client.create_table(TableName="restored", **EVENTS_SCHEMA)
    copy(monkeypatch, "events", "restored")
    deployed.aws.control.cancel(run, by="ann")
    before = deployed.aws.store.read(run_stream(run))
    client.delete_item(TableName="events", Key={"stream": {"S": run_stream(run)}, "version": {"N": "1"}})
    key = {"stream": {"S": workflow_stream(NIGHTLY)}, "version": {"N": "1"}}
    client.update_item(
        TableName="events", Key=key, UpdateExpression="SET #by = :by", ExpressionAttributeNames={"#by": "by"},
        ExpressionAttributeValues={":by": {"S": "mallory"}},
    )  # fmt: skip
    capsys.readouterr()
    copy(monkeypatch, "restored", "events")
    told = capsys.readouterr().out
    assert f"differs: {workflow_stream(NIGHTLY)} 1" in told
    assert "1 copied, 1 differ" in told
    # What happened since the moment that was restored is still there.
    assert deployed.aws.store.read(run_stream(run)) == before


def test_lists_and_due_rows_of_a_table_that_is_empty_are_made_again(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = start_run(deployed)
    aws = deployed.aws
    for name in (run_stream(run), workflow_stream(NIGHTLY)):
        aws.settle(aws.loader.load(name))
    listed = aws.views.runs()[0], aws.views.workflows()[0]
    assert listed[0]
    client: Any = boto3.client("dynamodb")
    for item in client.scan(TableName="views")["Items"]:
        client.delete_item(TableName="views", Key={name: item[name] for name in ("subject", "aspect")})
    assert aws.views.runs()[0] == []
    (tmp_path / "settings.json").write_text(json.dumps(aws.settings.environment()))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(script("rebuild.py"), {})
        assert (aws.views.runs()[0], aws.views.workflows()[0]) == listed
    assert {row.stream for row in aws.dues.due(aws.now())} == {run_stream(run), workflow_stream(NIGHTLY)}
    assert list(verify(aws.store, aws.plans, now=aws.now(), dues=aws.dues)) == []
    # A sweep then hands over what should be under way, and the run goes on.
    deployed.messages()
    later = Aws(aws.settings, now=lambda: aws.now() + timedelta(hours=1))
    later.sweep()
    assert deployed.messages()
