"""The OpenAPI 3.1 description, made from the table of routes and the models of what is sent and answered.

`python -m functions.api.openapi` writes it twice: for people into `docs/`, and on one line beside this file, from where it is served: whoever
asks for it must not make a function or an idle engine import all the models. A test compares both.
"""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from functions.api import answers
from functions.api.problems import CONTENT_TYPE
from functions.api.requests import KEY_PATTERN
from functions.api.routes import PARAMETERS, ROUTES, Route
from shared.workflow.schema import schema as workflow_schema

DOCUMENTATION = Path("docs/openapi.json")
SERVED = Path(__file__).parent / "openapi.json"
VERSION = "1.0.0"
"""Of the API: the first number is that of the path."""
YAML = "application/yaml"

Object = dict[str, Any]

_REFUSALS = {
    401: "Who asks is not known",
    403: "They may not",
    404: "It does not exist, or the caller may not see it",
    405: "The address has other methods",
    409: "The present state does not allow it",
    411: "The length of the body is not told",
    413: "The body or the answer is too large",
    414: "The address is too long",
    415: "The body is of a type that is not read here",
    421: "The server does not answer under that name",
    422: "The input is wrong; every problem is told",
    503: "Try again after a moment",
}
_ALWAYS = (413, 414, 422, 503)
_RECOGNISED = (401, 403)


def document() -> Object:
    """The whole description as a JSON object."""
    shapes = {name: getattr(answers, name) for name in sorted(_shape_names())}
    bodies = {one.body for one in ROUTES if isinstance(one.body, type)}
    models = [(model, "serialization") for model in shapes.values()]
    models += [(model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)]
    names, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    reference: dict[Any, Object] = {model: schema for (model, _), schema in names.items()}
    problem = {CONTENT_TYPE: {"schema": reference[answers.ProblemDetails]}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runfold",
            "version": VERSION,
            "summary": "Workflows, their runs, and everything that happened to them.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name} for name in ("engine", "workflows", "calendars", "runs", "backfills", "bulk", "pools")],
        "paths": _paths(reference),
        "components": {
            "responses": {
                _refusal_name(status): {"description": said, "content": problem} for status, said in _REFUSALS.items()
            },
            "schemas": dict(sorted(definitions["$defs"].items())) | {"WorkflowDocument": {"type": "object"}},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A JWT of the configured issuer, or the token in the home of an embedded engine.",
                }
            },
        },
    }


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def served() -> str:
    return json.dumps(document(), separators=(",", ":"), ensure_ascii=False) + "\n"


_DESCRIPTION = (
    "Every error is a problem document of RFC 9457 with all problems at once. Lists have opaque cursors: an empty one means the "
    "end, and a page may be short and have one all the same. What is polled has an ETag: send it back as If-None-Match and an "
    "unchanged answer costs a 304. Answers are compressed for whoever accepts gzip. What a caller may not see does not exist for "
    "them. Moments are UTC. Fields are only ever added to answers; fields of requests that are not known are refused."
)


def _shape_names() -> set[str]:
    return {name for route in ROUTES for name in route.answers.values() if name} | {"ProblemDetails"}


def _paths(reference: dict[Any, Object]) -> Object:
    paths: Object = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, reference)
    return paths


def _operation(route: Route, reference: dict[Any, Object]) -> Object:
    first = route.path.split("/")[2]
    operation: Object = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [
            first
            if first in ("workflows", "calendars", "runs", "backfills", "bulk", "pools")
            else "workflows"
            if first == "plan"
            else "engine"
        ],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route, reference),
    }
    if route.open:
        operation["security"] = []
    if route.body == "document":
        described = {"schema": {"$ref": "#/components/schemas/WorkflowDocument"}, "example": _example()}
        operation["requestBody"] = {
            "required": True,
            "description": "A workflow document; its schema is docs/workflow.schema.json.",
            "content": {"application/json": described, YAML: {"schema": {"type": "string"}}},
        }
    elif route.body == "calendar":
        calendar = {
            "calendar": "bank-holidays",
            "timezone": "Europe/Berlin",
            "days": ["2026-12-24/2026-12-26", "01-01"],
        }
        operation["requestBody"] = {
            "required": True,
            "description": "A calendar: its name, its days as in a schedule's `exclude`, and a time zone if it has its own.",
            "content": {
                "application/json": {"schema": {"type": "object"}, "example": calendar},
                YAML: {"schema": {"type": "string"}},
            },
        }
    elif route.body == "event":
        operation["requestBody"] = {
            "required": True,
            "description": "The event's `detail`.",
            "content": {"application/json": {"schema": {}}},
        }
    elif route.body == "file":
        operation["requestBody"] = {
            "required": True,
            "description": "The bytes, with their Content-Length.",
            "content": {"application/octet-stream": {"schema": {}}},
        }
    elif isinstance(route.body, type):
        needed = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {
            "required": needed,
            "content": {"application/json": {"schema": reference[route.body]}},
        }
    return operation


def _example() -> Object:
    examples = workflow_schema()["examples"]
    example: Object = examples[0]
    return example


def _path_parameters(route: Route) -> list[Object]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARAMETERS[name][1],
            "schema": PARAMETERS[name][0],
        }
        for name in route.parameters
    ]


def _query_parameters(route: Route) -> list[Object]:
    schema = route.query.model_json_schema(mode="validation")
    required = schema.get("required", [])
    found = []
    for name, described in schema.get("properties", {}).items():
        described = _without_null({key: value for key, value in described.items() if key != "title"})
        about = described.pop("description", "")
        parameter: Object = {"name": name, "in": "query", "required": name in required, "schema": described}
        if about:
            parameter["description"] = about
        found.append(parameter)
    return found


def _without_null(schema: Object) -> Object:
    """In a query, null is said by leaving the field out."""
    if "anyOf" in schema:
        (only,) = [one for one in schema.pop("anyOf") if one != {"type": "null"}]
        schema = only | schema
    if schema.get("default", ...) is None:
        del schema["default"]
    return schema


def _header_parameters(route: Route) -> list[Object]:
    found: list[Object] = []
    if route.keyed:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key again asks for nothing new.",
                "schema": {"type": "string", "pattern": KEY_PATTERN},
            }
        )
    for name, (needed, described, pattern) in _SIGNATURE.items() if route.signed else ():
        schema = {"type": "string", "pattern": pattern}
        found.append({"name": name, "in": "header", "required": needed, "description": described, "schema": schema})
    if route.method == "GET":
        found.append(
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "description": "The ETag of an answer before; 304 if it is unchanged.",
                "schema": {"type": "string"},
            }
        )
    return found


def _responses(route: Route, reference: dict[Any, Object]) -> Object:
    found: Object = {}
    for status, shape in route.answers.items():
        found[str(status)] = _answer(route, status, shape, reference)
    if route.method == "GET":
        found["304"] = {"description": "Unchanged since the ETag that was sent", "headers": _ETAG}
    refusals = {*_ALWAYS, *route.refusals}
    if not route.open:
        refusals.update(_RECOGNISED)
    if route.body is not None:
        refusals.add(415)
    for status in sorted(refusals):
        found[str(status)] = {"$ref": f"#/components/responses/{_refusal_name(status)}"}
    return found


def _refusal_name(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.split())


def _answer(route: Route, status: int, shape: str, reference: dict[Any, Object]) -> Object:
    headers: Object = {}
    if status == 302:
        return {"description": "Where the bytes are", "headers": {"Location": _TEXT_HEADER}}
    if route.method == "GET":
        headers |= _ETAG
    if status == 201:
        headers["Location"] = _TEXT_HEADER
    answer: Object = {"description": route.summary}
    if headers and route.operation != "downloadFile":
        answer["headers"] = headers
    if shape:
        answer["content"] = {"application/json": {"schema": reference[getattr(answers, shape)]}}
        if links := _links(route):
            answer["links"] = links
    elif route.operation == "openapi":
        answer["content"] = {"application/json": {"schema": {"type": "object"}}}
    else:
        answer["content"] = {"application/octet-stream": {}}
    return answer


def _links(route: Route) -> Object:
    """What an answer names, and the operations that take it."""
    found: Object = {}
    for name, place in _NAMED.get(route.operation, {}).items():
        for other in ROUTES:
            if other.parameters == [name]:
                found[f"{other.operation}Of{name.capitalize()}"] = {
                    "operationId": other.operation,
                    "parameters": {f"path.{name}": f"$response.body#{place}"},
                }
    return found


_SIGNATURE = {
    "X-Runfold-Timestamp": (True, "Seconds since 1970, now.", "^[0-9]{1,12}$"),
    "X-Runfold-Delivery": (
        False,
        "What tells this delivery from others; repeat it when you repeat it.",
        "^[A-Za-z0-9._-]{0,200}$",
    ),
    "X-Runfold-Signature": (
        True,
        "`v1=` and the HMAC-SHA256, in hex, of `v1:WORKFLOW:TRIGGER:TIMESTAMP:DELIVERY:` and the body.",
        "^v1=[0-9a-f]{64}$",
    ),
}
_NAMED = {
    "registerWorkflow": {"workflow": "/workflow"},
    "listWorkflows": {"workflow": "/workflows/0/workflow"},
    "requestRun": {"run": "/run"},
    "listRuns": {"run": "/runs/0/run"},
    "requestBackfill": {"backfill": "/backfill"},
    "listBackfills": {"backfill": "/backfills/0/backfill"},
    "setPool": {"pool": "/pool"},
    "listPools": {"pool": "/pools/0/pool"},
}
"""Operations whose answers name a workflow or run, and where."""
_TEXT_HEADER = {"schema": {"type": "string"}}
_ETAG = {"ETag": _TEXT_HEADER}


if __name__ == "__main__":
    DOCUMENTATION.write_text(text(), encoding="utf-8")
    SERVED.write_text(served(), encoding="utf-8")
