"""A small home with a history that really happened, and ways to call the API on a copy of it.

`python -m tests.functions.api_world HOME` makes it: an engine of its own process runs a run that succeeds and one that fails.
"""

import base64
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from functions.api.embedded import HomeFiles
from functions.api.handler import make_handler
from functions.api.principals import gateway_principal, local_principal
from functions.api.service import ApiService
from local.engine import Engine
from local.home import Home
from shared.bootstrap import local_parts, utc_now
from shared.ids import WorkflowName, keyed_run

SALES_NAME = WorkflowName("sales")
LAB_NAME = WorkflowName("lab")

SALES: dict[str, Any] = {
    "name": "sales",
    "owner": "ann",
    "tags": ["finance"],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
    "parameters": {"type": "object", "properties": {"region": {"type": "string", "default": "eu"}}},
    "jobs": [
        {
            "name": "extract",
            "type": "ecs",
            "image": "registry/extract:1",
            "command": [
                "sh",
                "-c",
                "echo one; echo wrong >&2; echo two; echo data > report.csv; echo '{\"rows\": 2}' > outputs.json",
            ],
            "outputs": [{"path": "report.csv", "save": True}],
        },
        {"name": "load", "type": "ecs", "image": "registry/load:1", "command": ["true"], "after": ["extract"]},
    ],
}
LAB: dict[str, Any] = {
    "name": "lab",
    "owner": "bob",
    "tags": ["research"],
    "max_active_runs": 1,
    "overlap": "queue",
    "jobs": [
        {"name": "try", "type": "ecs", "image": "registry/try:1", "command": ["false"]},
        {"name": "tell", "type": "ecs", "image": "registry/tell:1", "command": ["true"], "after": ["try"]},
    ],
}


class Nowhere:
    def send(self, effects: object, *, delay_seconds: float = 0) -> None:
        pass


def make(path: Path) -> None:
    """A home with a succeeded run of `sales` and a failed one of `lab`."""
    home = Home(path)
    home.make()
    parts = local_parts(home.database, home.documents, Nowhere(), synchronous="NORMAL")
    for document in (SALES, LAB):
        parts.control.register(json.dumps(document).encode(), name="document.json", by="ann")
    parts.control.request_run(SALES_NAME, {}, by="ann", key="first")
    parts.control.request_run(LAB_NAME, {}, by="bob", key="first")
    parts.close()
    with Engine(home, environment={"PATH": os.environ["PATH"]}, synchronous="NORMAL") as engine:
        engine.run(until=lambda: _all_ended(engine))


def _all_ended(engine: Engine) -> bool:
    rows = engine.parts.views.runs().rows
    workflow = engine.parts.views.get_workflow(LAB_NAME)
    return (
        len(rows) == 2
        and all(row.finished_at is not None for row in rows)
        and workflow is not None
        and not workflow.active_runs
    )


def make_apart(path: Path) -> Path:
    """The same, in a process of its own: an engine adopts the children of whoever it runs in."""
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-m", "tests.functions.api_world", str(path)], check=True, cwd=root, timeout=60)
    return path


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    data: bytes
    raw: dict[str, Any] = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def problems(self) -> dict[str, str]:
        """Path to message, of problem details."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return {one["path"]: one["message"] for one in self.json["problems"]}


def event_of(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: str = "",
    authorizer: Mapping[str, Any] | None = None,
    raw: str | bytes | None = None,
    headers: Mapping[str, str],
) -> dict[str, Any]:
    """A request in payload format 2.0; names of headers may have _ for -."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    path, _, tail = path.partition("?")
    context: dict[str, Any] = {
        "http": {"method": method, "path": path},
        "requestId": "request-1",
        "stage": "$default",
    }
    if authorizer is not None:
        context["authorizer"] = dict(authorizer)
    made: dict[str, Any] = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query or tail,
        "headers": sent,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if body is not None:
        made["body"] = json.dumps(body)
        sent.setdefault("content-type", "application/json")
    if isinstance(raw, bytes):
        made |= {"body": base64.b64encode(raw).decode(), "isBase64Encoded": True}
    elif raw is not None:
        made["body"] = raw
    return made


def reply_of(answer: dict[str, Any]) -> Reply:
    data = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
    if answer["headers"].get("Content-Encoding") == "gzip":
        data = gzip.decompress(data)
    return Reply(answer["statusCode"], answer["headers"], data, answer)


class Api:
    """The handler over a home, called with events of payload format 2.0."""

    def __init__(
        self,
        home: Path,
        *,
        gateway: bool = False,
        token: str | None = None,
        iam: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        self._closing = ExitStack()
        self.home = Home(home)
        self.files = HomeFiles(self.home)
        self._closing.callback(self.files.close)
        self.handler = make_handler(
            ApiService(
                queries=self.files.queries(),
                control=self.files.written.control,
                authenticate=gateway_principal(iam) if gateway else local_principal("carol", token),
                now=utc_now,
                acting=self.files.acting,
                release="7",
                **more,
            )
        )
        self.run = keyed_run(SALES_NAME, "first")
        self.failed = keyed_run(LAB_NAME, "first")

    def close(self) -> None:
        self._closing.close()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        authorizer: Mapping[str, Any] | None = None,
        raw: str | bytes | None = None,
        event: Mapping[str, Any] | None = None,
        **headers: str,
    ) -> Reply:
        made = event_of(method, path, body, query=query, authorizer=authorizer, raw=raw, headers=headers)
        return reply_of(self.handler({**made, **(event or {})}, None))

    def get(self, path: str, **more: Any) -> Reply:
        return self("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self("POST", path, {} if body is None and "raw" not in more else body, **more)


def at(run: str) -> str:
    """The address of a run."""
    return f"/v1/runs/{quote(run, safe='')}"


def jwt(*words: str, name: str = "dora") -> dict[str, Any]:
    """What API Gateway hands on of a checked token."""
    return {"jwt": {"claims": {"sub": "8d5", "username": name, "runfold": " ".join(words)}, "scopes": None}}


def copies(source: Path, folder: Path) -> Callable[[], Path]:
    """Makes copies of a home."""

    def copy() -> Path:
        target = Path(tempfile.mkdtemp(dir=folder)) / "home"
        # Its pipe is made again by whoever opens it.
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("wake", "engine.lock"))
        return target

    return copy


if __name__ == "__main__":
    make(Path(sys.argv[1]))
