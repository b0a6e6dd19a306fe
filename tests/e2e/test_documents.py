"""Uploads on the deployed engine: S3, EventBridge, the register function, the table's stream, the relay."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.ids import JobName
from shared.ports import WorkflowRow
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, workflow

pytestmark = pytest.mark.slow


def test_an_uploaded_document_is_registered_and_listed(deployed: Deployed) -> None:
    key = deployed.upload(workflow("listed", container("a", "true"), owner="ann", tags=["x"]))
    deployed.until(lambda: deployed.uploaded(key).workflow == "listed")
    assert deployed.live_version("listed") == 1

    def row() -> object:
        rows, _ = deployed.parts.views.workflows(limit=1000)
        return next((one for one in rows if one.workflow == "listed"), None)

    listed = deployed.until(row, "the relay lists it")
    assert isinstance(listed, WorkflowRow)
    assert listed.owner == "ann"


def test_a_document_in_yaml_is_registered_as_well(deployed: Deployed) -> None:
    text = b"name: in-yaml\njobs:\n  - {name: a, type: ecs, image: x, command: ['true']}\n"
    deployed.upload(text, key="workflows/team/in yaml + more.yaml")
    deployed.until(lambda: deployed.live_version("in-yaml") == 1)


def test_a_bad_document_is_refused_with_every_problem_and_the_last_good_one_stays(deployed: Deployed) -> None:
    """Fault 51."""
    key = deployed.upload(workflow("turns-bad", container("a", "true")))
    deployed.until(lambda: deployed.uploaded(key).workflow == "turns-bad")
    bad = workflow("turns-bad", container("a", "true", after=["b"]), container("b", "true", after=["a"]), ownr="ann")
    deployed.upload(bad)
    deployed.until(lambda: deployed.uploaded(key).problems, "the upload is refused")
    problems = " ".join(deployed.uploaded(key).problems)
    assert "ownr" in problems
    assert "owner" in problems
    assert deployed.live_version("turns-bad") == 1
    (shown,) = deployed.ended(deployed.ask("turns-bad"))
    assert shown["status"] == "succeeded"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe\x00", b'{"name": "x", "name": "y"}', b"[" * 100_000, b"a" * 3_000_000],
    ids=["empty", "cut off", "not UTF-8", "a key twice", "deep", "large"],
)
def test_garbage_is_refused_and_remembered(deployed: Deployed, data: bytes, request: pytest.FixtureRequest) -> None:
    """Faults 51 and 52."""
    key = f"workflows/garbage-{request.node.callspec.id}.json"
    deployed.upload(data, key=key)
    deployed.until(lambda: deployed.uploaded(key).problems, f"{key} is refused")


def test_a_document_that_is_overwritten_or_removed_changes_no_run_in_flight(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 52."""
    go = tmp_path / "go"
    waits = f"while [ ! -e {go} ]; do sleep 0.05; done"
    key = deployed.upload(workflow("changes", container("old", waits), container("then", "true", after=["old"])))
    deployed.until(lambda: deployed.live_version("changes") == 1)
    run = deployed.ask("changes")
    deployed.job_is(run, "old", "running", "submitted")
    deployed.upload(workflow("changes", container("new", "true")), key=key)
    deployed.until(lambda: deployed.live_version("changes") == 2)
    later = deployed.ask("changes")
    deployed.client("s3").delete_object(Bucket=deployed.settings.documents_bucket, Key=key)
    deployed.until(lambda: deployed.uploaded(key).removed)
    go.touch()
    first, second = deployed.ended(run, later)
    assert (first["status"], set(first["jobs"]), first["document_version"]) == ("succeeded", {"old", "then"}, 1)
    assert (second["status"], set(second["jobs"]), second["document_version"]) == ("succeeded", {"new"}, 2)
    # Removing a file by accident must not stop the nights.
    assert deployed.live_version("changes") == 2


def test_of_uploads_in_the_same_second_the_one_that_lies_there_is_live_in_the_end(deployed: Deployed) -> None:
    """Fault 52."""
    key = "workflows/hasty.json"

    def upload(number: int) -> None:
        document = workflow("hasty", container(f"job-{number}", "true"))
        deployed.client("s3").put_object(
            Bucket=deployed.settings.documents_bucket, Key=key, Body=json.dumps(document).encode()
        )

    deployed.client("s3")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, range(8)))
    there = json.loads(
        deployed.client("s3").get_object(Bucket=deployed.settings.documents_bucket, Key=key)["Body"].read()
    )

    def live() -> set[JobName]:
        state = deployed.workflow("hasty")
        assert state is not None
        assert state.live is not None
        return set(deployed.parts.plans(state.live.document).jobs)

    deployed.until(lambda: deployed.live_version("hasty"))
    deployed.settled()
    assert live() == {job["name"] for job in there["jobs"]}
