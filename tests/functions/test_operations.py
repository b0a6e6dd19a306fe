"""The Python of docs/operations.md, run as it is written there, on moto: copying commits that were lost (fault 50)."""

import re
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from shared.ids import run_stream, workflow_stream
from shared.stores.dynamodb import EVENTS_SCHEMA
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
