"""The one entry for documents: templates checked with everything else, what changed, and the schema in the docs."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from shared.errors import InvalidInput
from shared.usecases.documents import difference, read_any, read_document
from shared.workflow.document import Workflow
from shared.workflow.schema import EXAMPLE, schema, text

DOCS = Path(__file__).parents[2] / "docs"
ECS: dict[str, Any] = {"name": "load", "type": "ecs", "image": "i"}
SSM: dict[str, Any] = {"name": "extract", "type": "ssm", "host": "h", "script": "/x.sh"}


def written(*jobs: Any, **fields: Any) -> Workflow:
    return read_document(json.dumps({"name": "w", "jobs": jobs, **fields}).encode(), name="w.json")


def refused(*jobs: Any, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        written(*jobs, **fields)
    return {problem.path: f"{problem.message} ({problem.hint})" for problem in caught.value.problems}


def test_templates_are_checked_with_everything_else_at_once() -> None:
    found = refused(
        {**ECS, "cpu": 300, "command": ["{{ params.regoin }}", "{{ jobs.later.outputs.x }}"], "environment": {"A": "{{ oops("}},
        {**ECS, "name": "later", "retires": 1},
        parameters={"type": "object", "properties": {"region": {"type": "string"}}},
    )  # fmt: skip
    assert "Fargate" in found["jobs[0].cpu"]
    assert "params.region" in found["jobs[0].command[0]"]
    assert "not upstream" in found["jobs[0].command[1]"]
    assert "jobs[0].environment.A" in found
    assert "did you mean `retry`?" in found["jobs[1].retires"]


def test_conditions_are_keywords_or_expressions_over_upstream_jobs() -> None:
    first = {**ECS, "name": "a"}
    written(first, {**ECS, "after": ["a"], "when": "outcomes.a == 'failed'"})
    assert "did you mean `all_done`?" in refused(first, {**ECS, "after": ["a"], "when": "all_dnoe"})["jobs[1].when"]
    assert "not upstream" in refused(first, {**ECS, "when": "outcomes.a == 'failed'"})["jobs[1].when"]


def test_any_parameter_may_be_named_where_the_schema_lets_others_pass() -> None:
    job = {**ECS, "command": ["{{ params.any }}"]}
    written(job, parameters={"type": "object", "additionalProperties": True})
    assert "jobs[0].command[0]" in refused(job, parameters={"type": "object"})
    assert "jobs[0].command[0]" in refused(job)


@pytest.mark.parametrize("text_", ["; rm -rf /", "$(reboot)", "`reboot`"])
def test_shell_text_in_arguments_is_only_text(text_: str) -> None:
    """fault 53: arguments are passed as arguments, so what would be dangerous in a command line is kept as it is."""
    assert written({**SSM, "args": [text_]}).jobs[0].model_dump()["args"] == (text_,)


def test_templates_and_references_in_shell_lines_are_refused_with_the_way_out() -> None:
    """fault 53"""
    job = {"name": "x", "type": "ssm", "host": "h", "commands": ["echo {{ params.a }}", "echo {{ssm:/key}}"]}
    found = refused(job)
    assert '"$1"' in found["jobs[0].commands[0]"]
    assert "Systems Manager" in found["jobs[0].commands[1]"]
    assert list(refused({**SSM, "args": ["{{ssm:/key}}"]})) == ["jobs[0].args[0]"]


def test_a_difference_says_what_changed_and_never_what_a_secret_is() -> None:
    old = written({**ECS, "secrets": {"A": "env:A"}}, SSM, schedule={"cron": "0 2 * * *"})
    new = written(
        {**ECS, "image": "j", "secrets": {"A": "env:B"}}, {**SSM, "name": "added"}, schedule={"cron": "0 3 * * *"}, parallelism=2
    )  # fmt: skip
    lines = difference(old, new)
    assert difference(old, old) == []
    assert "schedule changed: cron from 0 2 * * * to 0 3 * * *" in lines
    assert "parallelism changed from 16 to 2" in lines
    assert "job extract removed" in lines
    assert "job added added (ssm)" in lines
    assert "job load: image changed from i to j" in lines
    assert "job load: secrets changed: A" in lines


def test_the_published_schema_is_the_one_of_the_models() -> None:
    assert (DOCS / "workflow.schema.json").read_text(encoding="utf-8") == text(), "python -m shared.workflow.schema"


def test_the_schema_takes_documents_and_refuses_what_the_format_does_not_have() -> None:
    validator = jsonschema_rs.Draft202012Validator(schema())
    designed = {
        "name": "nightly-sales", "owner": "data-eng", "tags": ["sales"],
        "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "catchup": "latest"},
        "parameters": {"type": "object", "properties": {"region": {"type": "string", "default": "eu"}}},
        "parallelism": 8, "overlap": "queue",
        "defaults": {"retry": {"attempts": 3, "delay_seconds": 30, "backoff": 2.0}, "timeout_minutes": 60},
        "jobs": [
            {"name": "extract", "type": "ssm", "host": "warehouse", "script": "/opt/etl/extract.sh",
             "args": ["{{ scheduled_at | date('%Y-%m-%d') }}"]},
            {"name": "transform", "type": "emr", "after": ["extract"],
             "cluster": {"ReleaseLabel": "emr-7.5.0", "Instances": {}}, "steps": []},
            {"name": "load", "type": "ecs", "after": ["transform"], "image": "registry/load:3",
             "command": ["load", "--region", "{{ params.region }}"], "cpu": 512, "memory": 1024, "spot": True,
             "environment": {}, "secrets": {"PGPASSWORD": "arn:aws:secretsmanager:…"},
             "inputs": [], "outputs": [{"path": "report.csv", "save": True}]},
        ],
    }  # fmt: skip
    validator.validate(designed)
    validator.validate(EXAMPLE)
    read_document(json.dumps(EXAMPLE).encode(), name="x.json")
    assert not validator.is_valid({**designed, "mystery": []})
    assert not validator.is_valid({**designed, "jobs": []})


BLOCKS = re.findall(r"^```(json|yaml)\n(.*?)^```$", (DOCS / "workflow.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_every_document_in_the_format_reference_can_be_registered(language: str, block: str) -> None:
    read_any(block.encode(), name=f"block.{language}")
