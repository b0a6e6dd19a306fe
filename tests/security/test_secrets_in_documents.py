"""A document that holds a secret is refused, wherever it stands, with its place and without its value (I13)."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.usecases.documents import read_document
from tests.security.planted import ADDRESS, HEADER, NAMED, VALUES, assert_clean

ECS: dict[str, Any] = {"name": "load", "type": "ecs", "image": "i"}
SSM: dict[str, Any] = {"name": "load", "type": "ssm", "host": "h", "commands": ["true"]}
EMR: dict[str, Any] = {
    "name": "load",
    "type": "emr",
    "cluster": {"ReleaseLabel": "emr-7.5.0", "Instances": {"InstanceCount": 1, "MasterInstanceType": "m5.xlarge"}},
    "steps": [{"name": "s", "args": ["x"]}],
}


def one(job: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "nightly", "jobs": [job], **fields}


PLACES: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "environment": (lambda text: one({**ECS, "environment": {"X": text}}), "jobs[0].environment.X"),
    "command": (lambda text: one({**ECS, "command": ["load", text]}), "jobs[0].command[1]"),
    "image": (lambda text: one({**ECS, "image": text}), "jobs[0].image"),
    "commands": (lambda text: one({**SSM, "commands": [f"load {text}"]}), "jobs[0].commands[0]"),
    "args": (lambda text: one({**SSM, "commands": [], "script": "/x", "args": [text]}), "jobs[0].args[0]"),
    "content": (
        lambda text: one({**SSM, "inputs": [{"path": "x.ini", "content": text}]}),
        "jobs[0].inputs[0].content",
    ),
    "url": (lambda text: one({**SSM, "inputs": [{"path": "x", "url": text}]}), "jobs[0].inputs[0].url"),
    "step": (lambda text: one({**EMR, "steps": [{"name": "s", "args": [text]}]}), "jobs[0].steps[0].args[0]"),
    "cluster": (
        lambda text: one({**EMR, "cluster": {**EMR["cluster"], "Tags": [{"Key": "k", "Value": text}]}}),
        "jobs[0].cluster.Tags[0].Value",
    ),
    "defaults": (lambda text: one(ECS, defaults={"environment": {"X": text}}), "defaults.environment.X"),
    "description": (lambda text: one(ECS, description=text), "description"),
    "owner": (lambda text: one(ECS, owner=text), "owner"),
    "name of a job": (lambda text: one({**ECS, "name": text}), "jobs[0].name"),
    "type of a job": (lambda text: one({**ECS, "type": text}), "jobs[0].type"),
    "after": (lambda text: one({**ECS, "after": [text]}), "jobs[0].after[0]"),
    "when": (lambda text: one({**ECS, "when": text}), "jobs[0].when"),
    "unknown field": (lambda text: one({**ECS, "pasword_of": text}), "jobs[0].pasword_of"),
    "default of a parameter": (
        lambda text: one(ECS, parameters={"type": "object", "properties": {"x": {"type": "string", "default": text}}}),
        "parameters.properties.x.default",
    ),
    "secrets": (lambda text: one({**ECS, "secrets": {"X": text}}), "jobs[0].secrets.X"),
}


def told(document: Any, name: str = "d.json") -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read_document(document if isinstance(document, bytes) else json.dumps(document).encode(), name=name)
    return caught.value


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_i13_a_secret_in_a_document_is_refused_and_not_repeated(place: str, what: str) -> None:
    make, path = PLACES[place]
    refused = told(make(VALUES[what]))
    assert path in {problem.path for problem in refused.problems}, refused
    assert_clean(VALUES[what], str(refused), [str(problem) for problem in refused.problems])


@pytest.mark.parametrize("text", [ADDRESS, HEADER])
@pytest.mark.parametrize("place", ["environment", "args", "content", "step"])
def test_i13_a_secret_in_a_longer_text_is_refused(place: str, text: str) -> None:
    refused = told(PLACES[place][0](text))
    assert_clean(text, str(refused))


@pytest.mark.parametrize("what", NAMED)
def test_i13_a_secret_that_only_its_name_tells_is_refused(what: str) -> None:
    name, value = NAMED[what]
    properties = {name: {"type": "string", "default": value}}
    for document, path in (
        (one({**ECS, "environment": {name: value}}), f"jobs[0].environment.{name}"),
        (one(ECS, defaults={"environment": {name: value}}), f"defaults.environment.{name}"),
        (one(ECS, parameters={"type": "object", "properties": properties}), f"parameters.{name}"),
        (one({**SSM, "commands": [f"load --{name}='{value}'"]}), "jobs[0].commands[0]"),
    ):
        refused = told(document)
        assert path in {problem.path for problem in refused.problems}, refused
        assert_clean(value, str(refused))
        assert "secrets" in refused.problems[0].hint


def test_i13_yaml_is_looked_at_as_well() -> None:
    value = NAMED["a password"][1]
    text = f"name: n\njobs:\n- name: a\n  type: ecs\n  image: i\n  environment:\n    PGPASSWORD: {value}\n"
    assert "jobs[0].environment.PGPASSWORD" in {problem.path for problem in told(text.encode(), "d.yaml").problems}


@pytest.mark.parametrize("cut", [b"", b"]"])
def test_i13_a_text_that_cannot_be_read_is_not_repeated(cut: bytes) -> None:
    for text in VALUES.values():
        for data in (b'{"a": ' + text.encode() + cut, f'{{"{text}": 1, "{text}": 2}}'.encode(), text.encode() + cut):
            assert_clean(text, str(told(data)))


@pytest.mark.parametrize(
    "fields",
    [
        {"environment": {"PGPASSWORD": "{{ params.p }}"}},
        {"environment": {"PASSWORD_FILE": "/run/secrets/db", "TOKEN_URL": "https://example.com/oauth2/token"}},
        {"environment": {"PASSWORD": "", "API_KEY": "none", "SECRET_NAME": "prod/warehouse", "NEXT_TOKEN": "page-2"}},
        {"secrets": {"PGPASSWORD": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:warehouse"}},
        {"secrets": {"API_KEY": "env:API_KEY", "TOKEN": "file:/run/secrets/token"}},
        {"command": ["sh", "-c", 'PGPASSWORD="$SECRET" psql; curl -H "Authorization: Bearer $TOKEN"']},
        {"command": ["python", "-c", 'connect(password=os.environ["PGPASSWORD"], api_key=read_key())']},
        {"command": ["psql", "--password=$(cat /run/secret)", "https://example.com:8443/a@b"]},
        {"command": ["check", "--passwd=/etc/passwd", "--password=../secret/file"]},
        {"description": "Ask the data team for the password: it is in the vault. AKIA keys are not needed."},
        {"inputs": [{"path": "f", "url": "https://example.com/f", "sha256": "0123456789abcdef" * 4}]},
    ],
    ids=str,
)
def test_i13_references_templates_code_and_prose_are_no_secrets(fields: dict[str, Any]) -> None:
    parameters = {"type": "object", "properties": {"p": {"type": "string"}}}
    read_document(json.dumps(one({**ECS, **fields}, parameters=parameters)).encode(), name="d.json")
