"""Executors on the stand-in for AWS, over real HTTP and through the real SDK: what the suites of ECS, EMR and SSM share."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3

from shared.executors.aws import client_config
from shared.executors.workspace import Workspace
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Executor, Reference, Report, Request
from tests.compute import Compute

RUN = RunId("nightly@2026-11-22T02:00:00Z")
BUCKET = "workspaces"
WAIT_SECONDS_MAX = 30.0
ENDED = ("succeeded", "failed", "cancelled", "unknown", "missing")


def now() -> datetime:
    return datetime.now(UTC)


def client(compute: Compute, service: str, *, harmless: bool = False) -> Any:
    """As the deployment makes it, but for the address."""
    config = client_config(sent_twice_is_harmless=harmless)
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=f"{compute.url}/_s3" if service == "s3" else compute.url,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=config,
    )


def workspace(compute: Compute) -> Workspace:
    return Workspace(client(compute, "s3", harmless=True), BUCKET)


class World:
    """One executor and the stand-in it works on."""

    kind = ""

    def __init__(self, compute: Compute, executor: Executor) -> None:
        self.compute = compute
        self.executor = executor

    def request(
        self, job: str = "load", attempt: int = 1, *, inputs: Any = (), outputs: Any = (), **body: Any
    ) -> Request:
        name = JobName(job)
        token = attempt_token(RUN, name, attempt)
        return Request(token, RUN, name, attempt, {"type": self.kind, **body}, tuple(inputs), tuple(outputs))

    def reference(self, request: Request, handle: Handle | None = None) -> Reference:
        """As dispatch makes it: what was asked for only where no handle is known."""
        known = Reference(request.token, request.run, request.job, request.attempt, handle, request.outputs)
        if handle is not None:
            return known
        return replace(known, request=request.body, asked_from=now() - timedelta(seconds=30))

    def look(self, request: Request, handle: Handle | None = None) -> Report:
        return self.executor.observe([self.reference(request, handle)])[0]

    def until(self, condition: Callable[[], Any], seen: Any = None) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"it stayed at {seen}"
            time.sleep(0.02)
        return answer

    def until_status(self, request: Request, handle: Handle | None, *statuses: str) -> Report:
        seen: list[Report] = []

        def reached() -> Report | None:
            seen[:] = self.executor.observe([self.reference(request, handle)])
            return seen[0] if seen and seen[0].status in statuses else None

        report: Report = self.until(reached, seen)
        return report

    def end(self, request: Request, handle: Handle | None) -> Report:
        return self.until_status(request, handle, *ENDED)

    def run(self, request: Request) -> Report:
        return self.end(request, self.executor.start(request))


def timeless(report: Report) -> Report:
    return replace(report, started_at=None, ended_at=None)
