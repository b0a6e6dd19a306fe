"""Every kind of target on the deployed engine, with real processes: files and JSON between jobs, hostile values, failures, retries."""

import json
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.events import ClaimReleased
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, script, steps, workflow

pytestmark = pytest.mark.slow

HALF_A_SWEEP = timedelta(seconds=30)
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


def example(name: str, guards: Path) -> dict[str, Any]:
    """An example as it lies there, but for where this machine, as a host, remembers what it did."""
    text = (EXAMPLES / name).read_text()
    document: dict[str, Any] = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    document.setdefault("defaults", {})["ssm"] = {"guard_directory": str(guards)}
    return document


def kept(deployed: Deployed, shown: dict[str, Any], job: str, path: str) -> str:
    """A file that a job left, from the bucket."""
    address = shown["jobs"][job]["files"][path]
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return str(deployed.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def test_all_three_kinds_of_jobs_run_and_pass_on_json(deployed: Deployed, tmp_path: Path) -> None:
    document = workflow(
        "kinds",
        script("host", 'echo \'{"rows": 42}\' > "$RUNFOLD_OUTPUTS"', guards=tmp_path),
        container(
            "task",
            'test "$1" = 42 && echo \'{"half": 21}\' > "$RUNFOLD_OUTPUTS"',
            after=["host"],
            args=["{{ jobs.host.outputs.rows }}"],
        ),
        steps("cluster", "test {{ jobs.task.outputs.half }} = 21", "true", after=["task"]),
    )
    (shown,) = deployed.ended(deployed.run(document))
    assert {name: job["status"] for name, job in shown["jobs"].items()} == dict.fromkeys(
        ("host", "task", "cluster"), "succeeded"
    ), shown
    assert shown["jobs"]["host"]["outputs"] == {"rows": 42}


def test_a_job_for_each_of_fifty_items_is_joined_by_the_next(deployed: Deployed, tmp_path: Path) -> None:
    """fault 54"""
    line = 'test "$1" != 7 && printf "{\\"n\\": %d}" "$1" > "$RUNFOLD_OUTPUTS"'
    document = workflow(
        "each",
        container("load", line, args=["{{ item }}"], for_each={"items": {"range": 50}, "tolerate": {"count": 1}}),
        container(
            "tell",
            'test "$1" = 50 && test "$2" = 49',
            after=["load"],
            args=["{{ jobs.load.outputs | length }}", "{{ jobs.load.outputs[49].n }}"],
        ),
        parallelism=10,
    )
    (shown,) = deployed.ended(deployed.run(document))
    assert {name: job["status"] for name, job in shown["jobs"].items()} == {"load": "succeeded", "tell": "succeeded"}, (
        shown
    )
    assert shown["jobs"]["load"]["items"]["statuses"] == {"succeeded": 49, "failed": 1}
    assert shown["jobs"]["load"]["items"]["bad"] == ["load:7"]


def test_files_pass_from_hosts_to_containers_and_back(deployed: Deployed, tmp_path: Path) -> None:
    (shown,) = deployed.ended(deployed.run(example("files.yaml", tmp_path)))
    assert shown["status"] == "succeeded", shown
    letter = kept(deployed, shown, "letter", "letter.txt").splitlines()
    assert letter[0] == f"Run {shown['run']}: 2 cities, the largest is Lagos."
    assert letter[1:] == sorted(["city,people", "Lagos,15", "Lima,11"])


def test_values_reach_scripts_byte_for_byte_whatever_they_hold(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 53."""
    value = "$(touch owned); `id` & 'quoted' \"twice\" {{ run }} %s * {{ssm:secret}} \\ é"
    (shown,) = deployed.ended(deployed.run(example("script.yaml", tmp_path), title=value))
    assert shown["status"] == "succeeded", shown
    for job in ("by-script", "by-commands"):
        assert kept(deployed, shown, job, f"{job}.txt").split("\n")[:4] == ["2", value, "two words", value]


def test_values_reach_containers_byte_for_byte_whatever_they_hold(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 53."""
    value = "$(touch owned); `id` & 'quoted' \"twice\" \\ é"
    document = workflow(
        "hostile-container",
        container(
            "a",
            f'printf %s "$1$VALUE" > {tmp_path}/seen',
            args=["{{ params.value }}"],
            environment={"VALUE": "{{ params.value }}"},
        ),
        parameters={"type": "object", "properties": {"value": {"type": "string"}}},
    )
    (shown,) = deployed.ended(deployed.run(document, value=value))
    assert shown["status"] == "succeeded", shown
    assert (tmp_path / "seen").read_text() == value * 2


def test_steps_go_on_or_end_the_cluster_as_each_says(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 22."""
    (shown,) = deployed.ended(deployed.run(example("steps.json", tmp_path), code=7))
    assert shown["status"] == "failed"
    (attempt,) = shown["jobs"]["count"]["attempts"]
    assert attempt["failure_class"] == "user"


def test_failures_are_tried_again_without_waiting_for_the_sweep(deployed: Deployed, tmp_path: Path) -> None:
    document = example("retries.json", tmp_path)
    # A time-out is noticed by the sweep of every minute; here it is about retries.
    document["jobs"] = [job for job in document["jobs"] if job["name"] != "too-slow-once"]
    document["jobs"][-1]["after"] = ["third-time-lucky"]
    (shown,) = deployed.ended(deployed.run(document))
    assert shown["status"] == "succeeded", shown
    attempts = shown["jobs"]["third-time-lucky"]["attempts"]
    assert [one["exit_code"] for one in attempts] == [1, 1, 0]
    for before, after in pairwise(attempts):
        waited = datetime.fromisoformat(after["queued_at"]) - datetime.fromisoformat(before["ended_at"])
        assert waited < HALF_A_SWEEP


def test_no_room_is_waited_for_and_burns_no_budget_of_the_jobs_own(deployed: Deployed) -> None:
    """Faults 5 and 15."""
    deployed.compute.faults.room = [{"reason": "RESOURCE:MEMORY"}]
    run = deployed.run(workflow("no-room", container("a", "true", retry={"attempts": 1})))
    deployed.until(lambda: any(isinstance(event, ClaimReleased) for event in deployed.events(run)))
    deployed.compute.faults.room = []
    deployed.work_later(run, timedelta(minutes=1))
    (shown,) = deployed.ended(run)
    assert shown["status"] == "succeeded"
    assert len(shown["jobs"]["a"]["attempts"]) == 1


def test_an_image_that_is_not_there_fails_as_infrastructure(deployed: Deployed) -> None:
    """Fault 10."""
    deployed.compute.faults.images_missing = ["missing:1"]
    document = workflow(
        "no-image", {**container("a", "true"), "image": "missing:1", "retry": {"infrastructure": {"attempts": 1}}}
    )
    (shown,) = deployed.ended(deployed.run(document))
    (attempt,) = shown["jobs"]["a"]["attempts"]
    assert attempt["failure_class"] == "infrastructure"
    assert "CannotPullContainer" in attempt["reason"]
