"""Runs on the deployed engine: every target, with real processes."""

from typing import Any

import pytest

from tests.e2e.deployed import Deployed

pytestmark = pytest.mark.slow


def job(name: str, *command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs", "image": "x", "command": list(command), **fields}


def test_an_uploaded_document_becomes_a_run_that_really_happened(deployed: Deployed) -> None:
    run = deployed.run({"name": "first", "jobs": [job("a", "true"), job("b", "sh", "-c", "exit 3", after=["a"])]})
    (shown,) = deployed.ended(run)
    assert shown["status"] == "failed"
    assert shown["jobs"]["a"]["status"] == "succeeded"
    assert shown["jobs"]["b"]["attempts"][0]["exit_code"] == 3
