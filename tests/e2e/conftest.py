"""One emulator with one deployment for all tests of a session: it is there within seconds, and a deployment that has seen a lot is a
better one to test than one that is new."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from infra.assembly import assemblies
from tests.compute import Faults
from tests.compute.ssm import Host
from tests.e2e.deployed import Deployed
from tests.e2e.emulator import Emulator, free_port
from tests.e2e.stack import Stack
from tests.e2e.watched import Watched

HOSTS = {"localhost": "i-0a0a0a0a0a0a0a0a0", "warehouse": "i-0b0b0b0b0b0b0b0b0"}
BUCKET = "landing"
"""Whose new objects start runs."""
SECRETS = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hooks-*"
CONTEXT = {
    "platform": "host",
    # What a deployment is told about its account; the template is otherwise that of AWS.
    "subnets": "subnet-0a0a0a0a0a0a0a0a0",
    "security_groups": "sg-0a0a0a0a0a0a0a0a0",
    "execution_role_arn": "arn:aws:iam::123456789012:role/runfold/dev/execution",
    "emr_service_role": "EMR_DefaultRole",
    "emr_instance_profile": "EMR_EC2_DefaultRole",
    "trigger_buckets": BUCKET,
    "trigger_queue": True,
    "webhook_secrets": SECRETS,
    "hosts": {name: {"instance": instance} for name, instance in HOSTS.items()},
}


@pytest.fixture(scope="session")
def assembly() -> Path:
    return assemblies({"host": CONTEXT})["host"]


def announced_to(emulator: Emulator) -> Callable[[dict[str, Any]], None]:
    """State changes go to the event bus, signed as every call is."""
    client = emulator.client("events")

    def announce(event: dict[str, Any]) -> None:
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
            "Resources": event["resources"],
        }
        client.put_events(Entries=[entry])

    return announce


@contextmanager
def deployment(assembly: Path, *, checks_access: bool = False) -> Iterator[Deployed]:
    port = free_port()
    scheme = "https" if checks_access else "http"
    compute = Watched(storage_url=f"{scheme}://127.0.0.1:{port}")
    with compute, Emulator(port, compute.url, checks_access=checks_access) as emulator:
        compute.ssm.hosts |= {instance: Host(tags={"runfold": "dev"}) for instance in HOSTS.values()}
        compute.events.listeners.append(announced_to(emulator))
        stack = Stack(emulator, assembly, "Runfold-dev")
        stack.create()
        deployed = Deployed(emulator, stack, compute)
        deployed.warm()
        yield deployed


@pytest.fixture(scope="session")
def made(assembly: Path) -> Iterator[Deployed]:
    with deployment(assembly) as deployed:
        yield deployed
        # Whatever the tests did to it, the history must hold.
        deployed.settled()
        assert deployed.violations() == []


@pytest.fixture
def deployed(made: Deployed) -> Iterator[Deployed]:
    """The deployment, with services that behave, and nothing set aside: what a test cannot work off, or means to leave over, is its own."""
    yield made
    healthy = Faults()
    made.compute.faults.change({one.name: getattr(healthy, one.name) for one in fields(Faults)})
    made.compute.moments.clear()
    assert made.set_aside() == {}
