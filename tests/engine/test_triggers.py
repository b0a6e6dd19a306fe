"""Triggers on one machine: what ends starts what waits for it, also when nobody was there to tell of the end."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_examples import ROOT, SECONDS_MAX, Home

pytestmark = pytest.mark.slow


def document(name: str, **fields: Any) -> dict[str, Any]:
    job = {"name": "a", "type": "ecs", "image": "x", "command": ["true"]}
    return {"name": name, "jobs": [job], **fields}


def after(workflow: str, outcome: str = "succeeded") -> list[dict[str, Any]]:
    return [{"name": "t", "type": "workflow", "workflow": workflow, "outcome": outcome}]


def registered(home: Home, folder: Path, *documents: dict[str, Any]) -> None:
    for one in documents:
        path = folder / f"{one['name']}.json"
        path.write_text(json.dumps(one))
        home.ask("register", str(path))


def until_ended(home: Home, number: int) -> dict[str, str]:
    """Workflows to how their runs ended, once there are so many."""
    deadline = datetime.now(UTC) + timedelta(seconds=SECONDS_MAX)
    engine = subprocess.Popen(["runfold", "up"], cwd=ROOT, env=home.environment, stdout=-3, stderr=-3)
    try:
        while len(ended := [one for one in home.ask("runs") if one["finished_at"]]) < number:
            assert datetime.now(UTC) < deadline
    finally:
        engine.terminate()
        engine.wait(SECONDS_MAX)
    assert len(home.ask("runs")) == number
    return {one["workflow"]: one["status"] for one in ended}


def test_ends_start_what_waits_for_them_one_behind_the_other(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    registered(
        home,
        tmp_path,
        document("one"),
        document("two", triggers=after("one")),
        document("three", triggers=after("two", "any"), max_active_runs=1),
        document("never", triggers=after("one", "failed")),
    )
    home.ask("run", "one")
    assert until_ended(home, 3) == {"one": "succeeded", "two": "succeeded", "three": "succeeded"}
    # A start finds nothing that it would tell a second time.
    assert len(until_ended(home, 3)) == 3
    assert home.ask("verify")["clean"]


def test_workflows_that_would_start_each_other_for_ever_are_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    registered(home, tmp_path, document("one"), document("two", triggers=after("one")))
    ring = tmp_path / "ring.json"
    ring.write_text(json.dumps(document("one", triggers=after("two"))))
    refused = subprocess.run(
        ["runfold", "register", str(ring)], cwd=ROOT, env=home.environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "closes a ring: one → two → one" in refused.stderr
