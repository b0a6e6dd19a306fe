"""The same documents on the embedded engine and on the deployed stack: the same events, but for times, ids and handles."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from local.engine import Engine
from local.home import Home
from shared.codec import events_in
from shared.events import Event, RunFinished
from shared.ids import run_stream
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, script, steps, workflow

pytestmark = pytest.mark.slow

ALLOWED_TO_DIFFER = {"AttemptClaimed", "AttemptSubmitted", "AttemptStarted", "StopSent"}
"""Events about the way to a target. What runs beside the engine needs no claim and has begun when it is asked for; so where these stand,
and whether they do, is the target's own."""
IDS_AND_TIMES = ("at", "_at", "handle", "run", "document")


def on_one_machine(home: Home, document: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[Event]:
    with Engine(home, environment={"PATH": os.environ["PATH"]}) as engine:
        control = engine.parts.control
        registered = control.register(json.dumps(document).encode(), name="document.json", by="ann")
        run = control.request_run(registered.workflow, parameters, by="ann").run

        def events() -> list[Event]:
            return [
                event for record in engine.parts.loader.records(run_stream(run)) for event in events_in(record.body)
            ]

        engine.run(until=lambda: any(isinstance(event, RunFinished) for event in events()))
        return events()


UNTOLD = {"emr": ("reason", "exit_code")}
"""EMR says that a step failed, and in its own words why; never with which exit code."""


def plain(events: list[Event], types: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """By job (`""` for the run itself), because jobs that run side by side may end in any order."""
    told: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.type in ALLOWED_TO_DIFFER:
            continue
        fields = event.model_dump(mode="json")
        job = str(fields.get("job", ""))
        differs = (*IDS_AND_TIMES, *UNTOLD.get(types.get(job, ""), ()))
        told.setdefault(job, []).append(
            {name: _plain(name, value) for name, value in fields.items() if not name.endswith(differs)}
        )
    return told


def _plain(name: str, value: Any) -> Any:
    # Where a file lies is a handle as well; that it is there is what counts.
    return sorted(value) if name == "files" and isinstance(value, dict) else value


def documents(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    guards = folder / "guards"
    return {
        "chain": (workflow("chain", container("a", "true"), container("b", "true", after=["a"])), {}),
        "fails": (
            workflow(
                "fails",
                container("a", "exit 3"),
                container("b", "true", after=["a"]),
                container("c", "true", after=["a"], when="any_failed"),
            ),
            {},
        ),
        "retries": (
            workflow(
                "retries", container("a", 'test "$RUNFOLD_ATTEMPT" = 2', retry={"attempts": 3, "delay_seconds": 0.1})
            ),
            {},
        ),
        "fan": (
            workflow(
                "fan",
                container("first", "true"),
                *[container(f"middle-{number}", "true", after=["first"]) for number in range(5)],
                container("last", "true", after=[f"middle-{number}" for number in range(5)]),
                parallelism=2,
            ),
            {},
        ),
        "outputs": (
            workflow(
                "outputs",
                script(
                    "make",
                    'echo \'{"rows": 3}\' > "$RUNFOLD_OUTPUTS"; echo x > x.txt',
                    guards=guards,
                    outputs=[{"path": "x.txt"}],
                ),
                container(
                    "use",
                    'test "$1" = 3 && cat x.txt',
                    args=["{{ jobs.make.outputs.rows }}"],
                    after=["make"],
                    inputs=[{"path": "x.txt"}],
                ),
            ),
            {},
        ),
        "missing": (workflow("missing", container("a", "true", outputs=[{"path": "never.txt"}])), {}),
        "steps": (workflow("steps", steps("a", "true", "exit 2")), {}),
        "script": (workflow("script", script("a", "false", "true", guards=guards)), {}),
        "template": (
            workflow(
                "template",
                container("a", "true", environment={"X": "{{ params.x.y }}"}),
                parameters={"type": "object", "properties": {"x": {}}},
            ),
            {"x": 1},
        ),
        "skipped": (
            workflow("skipped", container("a", "true"), container("b", "true", after=["a"], when="any_failed")),
            {},
        ),
    }


@pytest.mark.parametrize("name", documents(Path("/")))
def test_both_engines_tell_the_same_history(deployed: Deployed, tmp_path: Path, name: str) -> None:
    document, parameters = documents(tmp_path)[name]
    here = on_one_machine(Home(tmp_path / "home"), document, parameters)
    run = deployed.run(document, **parameters)
    deployed.ended(run)
    types = {job["name"]: job["type"] for job in document["jobs"]}
    assert plain(deployed.events(run), types) == plain(here, types)
