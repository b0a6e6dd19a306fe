"""Parameters: what a schema may be, what values it lets through, and what is never said about them."""

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.workflow.parameters import check_schema, fill, from_text

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "enum": ["eu", "us"], "default": "eu"},
        "rows": {"type": "integer"},
        "options": {"type": "object", "default": {}, "properties": {"depth": {"type": "integer", "default": 3}}},
        "hosts": {"type": "array", "items": {"$ref": "#/$defs/host"}},
    },
    "$defs": {"host": {"type": "object", "properties": {"port": {"type": "integer", "default": 22}}}},
}


def refused(schema: dict[str, Any] | None, values: dict[str, Any]) -> str:
    with pytest.raises(InvalidInput) as caught:
        fill(schema, values)
    return str(caught.value)


def test_defaults_are_filled_in_also_inside_objects_and_list_items() -> None:
    assert check_schema(SCHEMA) == []
    assert fill(SCHEMA, {"hosts": [{}, {"port": 1}]}) == {
        "region": "eu",
        "options": {"depth": 3},
        "hosts": [{"port": 22}, {"port": 1}],
    }


def test_a_default_is_not_shared_between_runs() -> None:
    fill(SCHEMA, {})["options"]["depth"] = 99
    assert fill(SCHEMA, {})["options"] == {"depth": 3}


def test_every_problem_is_told_and_the_nearest_name() -> None:
    told = refused(SCHEMA, {"regoin": "us", "rows": "many", "region": "mars"})
    assert "params.regoin: is not a parameter of the workflow (did you mean `region`?)" in told
    assert "params.rows" in told
    assert "params.region" in told


def test_what_is_not_declared_is_refused_unless_the_schema_says_otherwise() -> None:
    assert "the workflow has none" in refused(None, {"a": 1})
    assert "not a parameter" in refused(SCHEMA, {"x": 1})
    assert fill({**SCHEMA, "additionalProperties": True}, {"x": 1})["x"] == 1
    assert fill({"type": "object", "patternProperties": {"^x_": {}}}, {"x_1": 1}) == {"x_1": 1}
    assert fill(None, {}) == {}


def test_hidden_values_are_never_repeated() -> None:
    """I13"""
    schema = {
        "type": "object",
        "properties": {"key": {"type": "string", "minLength": 50, "writeOnly": True}, "n": {"type": "integer"}},
        "not": {"required": ["key", "n"]},
    }
    assert "hunter2" not in refused(schema, {"key": "hunter2", "n": 1})
    with pytest.raises(InvalidInput) as caught:
        from_text(schema, {"n": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "path", "says"),
    [
        ({"type": "array"}, "parameters.type", "must be `object`"),
        ([], "parameters", "type object"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, "parameters.$schema", "2020-12"),
        ({"type": "object", "properties": {"a": {"type": "intger"}}}, "parameters.properties.a.type", "intger"),
        ({"type": "object", "properties": {"a": {"$ref": "https://x/y"}}}, "parameters.properties.a", "outside"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}}, "parameters.properties.a", "nothing"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "parameters", "back to itself"),
        ({"type": "object", "properties": {"a": {"writeOnly": True}}}, "parameters.properties.a.writeOnly", "recorded"),
        ({"type": "object", "properties": {"a": {"$id": "urn:x"}}}, "parameters.properties.a", "not taken"),
        ({"type": "object", "properties": {"a": {"pattern": "(?=a)"}}}, "parameters.properties.a.pattern", "linear"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, "parameters.properties.a.default", "fit"),
        ({"type": "object", "title": "x" * 300_000}, "parameters", "characters"),
    ],
)  # fmt: skip
def test_schemas_that_cannot_be_relied_on_are_refused(schema: Any, path: str, says: str) -> None:
    problem = check_schema(schema)[0]
    assert problem.path.startswith(path), problem
    assert says in f"{problem.message} {problem.hint}"


def test_what_is_wrong_in_several_places_of_a_schema_is_told_at_once() -> None:
    properties = {"a": {"$ref": "http://elsewhere/x"}, "b": {"type": "strng"}, "c": {"minimum": "1"}}
    problems = check_schema({"type": "object", "properties": properties})
    assert [problem.path for problem in problems] == [
        'parameters.properties.a["$ref"]',
        "parameters.properties.b.type",
        "parameters.properties.c.minimum",
    ]
    assert problems[1].hint == "did you mean `string`?"


def test_no_schema_and_no_value_keeps_the_checker_busy() -> None:
    began = time.process_time()
    steps = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
    assert "20,000" in check_schema({"type": "object", "$ref": "#/$defs/a0", "$defs": {**steps, "a40": {}}})[0].message
    nested: dict[str, Any] = {}
    for _ in range(500):
        nested = {"not": nested}
    assert "deep" in check_schema({"type": "object", **nested})[0].message
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert check_schema(slow) == []
    assert "params.a" in refused(slow, {"a": "a" * 50_000 + "!"})
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "3", 3),
        ("number", "1.5", 1.5),
        ("boolean", "true", True),
        ("array", '["a"]', ["a"]),
        ("object", '{"a": 1}', {"a": 1}),
        ("string", "3", "3"),
        (["integer", "string"], "3", 3),
        (["integer", "string"], "x", "x"),
        (["null", "string"], "null", None),
    ],
)
def test_text_of_a_command_line_becomes_what_its_schema_says(kind: Any, text: str, value: Any) -> None:
    assert from_text({"type": "object", "properties": {"a": {"type": kind}}}, {"a": text}) == {"a": value}


@pytest.mark.parametrize("kind", ["integer", "number", "boolean", "array", "object", "null"])
def test_text_that_does_not_fit_its_type_is_refused_with_how_to_write_it(kind: str) -> None:
    with pytest.raises(InvalidInput, match=r"params\.a: `maybe` is not an? " + kind):
        from_text({"type": "object", "properties": {"a": {"type": kind}}}, {"a": "maybe"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "properties", "items", "allOf", "$ref", "$defs", "default", "enum", "a"]), inner, max_size=4
    ),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=150, deadline=2000)
@given(st.dictionaries(st.sampled_from(["properties", "$ref", "allOf", "$defs", "items"]), json_values), json_values)
def test_any_schema_that_passes_answers_for_any_values(schema: dict[str, Any], values: Any) -> None:
    schema = {"type": "object", **schema}
    if not check_schema(schema):
        with suppress(InvalidInput):
            fill(schema, values if isinstance(values, dict) else {"a": values})
