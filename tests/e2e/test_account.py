"""`runfold doctor --stack` on the deployed thing: it finds its way from the stack's name to everything it looks at."""

from datetime import UTC, datetime

import pytest

from cli.commands.account import look_at_account
from shared.bootstrap.account import Account
from tests.e2e.deployed import Deployed

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/nobody-pushed-it:7"


def test_doctor_finds_its_way_through_a_deployment(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed.register(
        {"name": "looked-at", "jobs": [{"name": "load", "type": "ecs", "image": IMAGE, "command": ["true"]}]}
    )
    client = deployed.emulator.client("sts")
    monkeypatch.setenv("AWS_ENDPOINT_URL", deployed.emulator.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    found = list(look_at_account(Account(region=client.meta.region_name), "Runfold-dev", now=datetime.now(UTC)))
    good = {one.what for one in found if one.level == "good"}
    # The emulator has no quotas, metrics of logs or backups: these checks say so, and the others go on.
    assert good >= {"account", "stack", "workflows", "functions", "concurrency", "uploads"}, found
    assert any(one.what == "images" and f"{IMAGE} is not there (looked-at load)" in one.message for one in found)
    assert any(one.what == "job roles" and "execution_role_arn" in one.message for one in found)
    assert found[-1].what == "backups"
