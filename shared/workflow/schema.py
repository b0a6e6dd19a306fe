"""The JSON Schema of the workflow document, made from the models, for editors and for whoever writes documents by program.

`python -m shared.workflow.schema [FILE]` writes it (`docs/workflow.schema.json` unless another is named); a test compares.
"""

import ast
import inspect
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

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


class _Described(GenerateJsonSchema):
    """With what stands below each field in the source as its description.

    Pydantic's own `use_attribute_docstrings` reads the source whenever the models are imported, which every cold start would wait for.
    """

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        told = _told_of_fields(schema["cls"])
        for name, field in made.get("properties", {}).items():
            if name in told:
                field["description"] = told[name]
        return made


def _told_of_fields(model: type[BaseModel]) -> dict[str, str]:
    told: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            (definition,) = ast.parse(inspect.getsource(one)).body
            assert isinstance(definition, ast.ClassDef), definition
            for field, below in pairwise(definition.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        told[name] = inspect.cleandoc(text)
    return told


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12. It says less than `reading.read` checks: rules between fields and jobs are not in it."""
    made = Workflow.model_json_schema(mode="validation", schema_generator=_Described)
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
