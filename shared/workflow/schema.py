"""The JSON Schema of the workflow document, made from the models, for editors and for whoever writes documents by program.

`python -m shared.workflow.schema [FILE]` writes it (`docs/workflow.schema.json` unless another is named); a test compares.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from shared.workflow.document import Workflow

IDENTIFIER = "urn:runfold:workflow.schema.json"
FILE = Path("docs/workflow.schema.json")

EXAMPLE: dict[str, Any] = {
    "name": "nightly-sales",
    "owner": "data-eng",
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "catchup": "latest"},
    "defaults": {"retry": {"attempts": 3}, "timeout_minutes": 60},
    "jobs": [
        {"name": "extract", "type": "ssm", "host": "warehouse", "script": "/opt/etl/extract.sh"},
        {"name": "load", "type": "ecs", "after": ["extract"], "image": "registry/load:3", "command": ["load"]},
    ],
}


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12. It says less than `reading.read` checks: rules between fields and jobs are not in it."""
    made = Workflow.model_json_schema(mode="validation", schema_generator=GenerateJsonSchema)
    made.pop("title", None)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": IDENTIFIER,
        "title": "Runfold workflow",
        "examples": [EXAMPLE],
    }
    return head | made


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(text(), encoding="utf-8")
