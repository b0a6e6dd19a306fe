"""The OpenAPI document: made from the code, kept in the documentation, served."""

import json
from pathlib import Path

from functions.api import openapi
from functions.api.routes import PARAMETERS, ROUTES

ROOT = Path(__file__).parent.parent.parent


def test_the_description_is_the_one_in_the_documentation_and_the_one_served() -> None:
    made = "run `python -m functions.api.openapi`"
    assert (ROOT / openapi.DOCUMENTATION).read_text(encoding="utf-8") == openapi.text(), made
    assert openapi.SERVED.read_text(encoding="utf-8") == openapi.served(), made


def test_every_operation_is_described_once_under_its_own_name() -> None:
    document = openapi.document()
    described = [
        (method.upper(), path, operation["operationId"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]

    assert sorted(described) == sorted((route.method, route.path, route.operation) for route in ROUTES)
    assert len({operation for _, _, operation in described}) == len(described)


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    text = json.dumps(document)
    for part in text.split('"$ref": "#/')[1:]:
        place = document
        for name in part.partition('"')[0].split("/"):
            place = place[name]
        assert place


def test_every_part_of_a_path_is_explained() -> None:
    assert {name for route in ROUTES for name in route.parameters} == set(PARAMETERS)


def test_every_refusal_is_a_problem_document() -> None:
    document = openapi.document()
    for refused in document["components"]["responses"].values():
        assert set(refused["content"]) == {"application/problem+json"}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"413", "422", "503"} <= operation["responses"].keys()
