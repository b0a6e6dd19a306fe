"""Decisions and children over HTTP: who may decide, what is shown of runs that wait, and who may run what through a document."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functions.api_world import Api, at, copies, jwt, make_apart


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_apart(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def copy(made_home: Path, tmp_path: Path) -> Callable[[], Path]:
    return copies(made_home, tmp_path)


@pytest.fixture
def api(copy: Callable[[], Path]) -> Iterator[Api]:
    api = Api(copy(), gateway=True)
    yield api
    api.close()


def registered(api: Api, *jobs: dict[str, Any], name: str = "release", tags: tuple[str, ...] = ()) -> str:
    """A run of a workflow of these jobs."""
    document = {"name": name, "jobs": list(jobs), "tags": list(tags)}
    assert api.post("/v1/workflows", document, authorizer=jwt("admin")).status == 201
    return str(api.post("/v1/runs", {"workflow": name}, authorizer=jwt("admin")).json["run"])


def approval(**fields: Any) -> dict[str, Any]:
    return {"name": "go", "type": "approval", "message": "Ship it?", **fields}


def test_whoever_is_named_decides_and_an_admin_who_is_not_does_not(api: Api) -> None:
    run = registered(api, approval(by=["dora"]))
    assert api.get(at(run), authorizer=jwt("viewer")).json["attention"] == ["approval"]
    told = api.post(f"{at(run)}/approve", {"job": "go", "reason": "it is green"}, authorizer=jwt("viewer"))
    assert told.status == 200
    job = api.get(f"{at(run)}/jobs/go", authorizer=jwt("viewer")).json
    assert (job["status"], job["outputs"]["approved_by"], job["outputs"]["reason"]) == (
        "succeeded",
        "dora",
        "it is green",
    )
    assert api.post(f"{at(run)}/approve", {"job": "go"}, authorizer=jwt("viewer")).status == 200


def test_nobody_else_may_and_is_told_who_may(api: Api) -> None:
    run = registered(api, approval(by=["anna"]))
    told = api.post(f"{at(run)}/approve", {"job": "go"}, authorizer=jwt("admin"))
    assert (told.status, told.json["detail"]) == (403, "go is for anna to decide")
    marked = {"job": "go", "outcome": "succeeded", "reason": "in a hurry"}
    assert api.post(f"{at(run)}/mark", marked, authorizer=jwt("admin")).status == 409
    assert api.post(f"{at(run)}/approve", {"job": "go"}).status == 401


def test_a_role_on_another_workflow_counts_for_nothing(api: Api) -> None:
    run = registered(api, approval(by=["role:author"]))
    elsewhere = jwt("viewer", "author:workflow=sales")
    assert api.post(f"{at(run)}/reject", {"job": "go"}, authorizer=elsewhere).status == 403
    here = jwt("author:workflow=release")
    assert api.post(f"{at(run)}/reject", {"job": "go", "reason": "no"}, authorizer=here).status == 200
    assert api.get(at(run), authorizer=here).json["status"] == "failed"


def test_why_says_who_decides(api: Api) -> None:
    run = registered(api, approval(by=["anna"], timeout_minutes=60))
    (condition,) = api.get(f"{at(run)}/jobs/go/why", authorizer=jwt("viewer")).json["conditions"]
    assert condition["code"] == "approval"
    assert "anna" in condition["message"]
    assert condition["clears_at"] == api.get(f"{at(run)}/jobs/go", authorizer=jwt("viewer")).json["expires_at"]


def test_nobody_runs_through_a_document_what_they_may_not_run(api: Api) -> None:
    document = {"name": "mine", "jobs": [{"name": "call", "type": "workflow", "workflow": "sales"}]}
    author = jwt("author:workflow=mine")
    refused = api.post("/v1/workflows", document, authorizer=author)
    absent = {**document, "jobs": [{"name": "call", "type": "workflow", "workflow": "slaes"}]}
    assert (refused.status, refused.json["detail"]) == (403, "dora may not run sales")
    assert api.post("/v1/workflows", absent, authorizer=author).json["detail"] == "dora may not run slaes"
    both = jwt("author:workflow=mine", "operator:workflow=sales")
    assert api.post("/v1/workflows", document, authorizer=both).status == 201
