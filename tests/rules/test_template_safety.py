"""No text and no value makes templates run, leak, grow or hang anything (fault 53: injection through expressions)."""

import json
import string
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import TemplateError
from shared.template import (
    Names,
    bounds,
    check,
    check_expression,
    evaluate,
    render,
    render_text,
    render_tree,
)

ANYTHING = Names(item=True, jobs=frozenset({"a", "b-c"}))
CONTEXT: dict[str, Any] = {
    "run": "nightly@1",
    "workflow": "nightly",
    "job": "load",
    "attempt": 2,
    "scheduled_at": datetime(2026, 3, 28, 1, tzinfo=UTC),
    "requested_at": datetime(2026, 3, 28, 1, tzinfo=UTC),
    "data_interval_start": None,
    "data_interval_end": None,
    "previous_success_at": None,
    "params": {"x": "text", "n": 3, "f": 1.5, "list": [1, "b", None], "map": {"k": {"l": True}}, "huge": "y" * 200_000},
    "jobs": {"a": {"outputs": {"rows": [3, 1]}, "outcome": "succeeded"}, "b-c": {"outputs": {}, "outcome": "failed"}},
    "outcomes": {"a": "succeeded", "b-c": "failed"},
    "item": {"path": "p", "n": -1},
}
SECONDS_MAX = 2.0
"""CPU time for one hostile text: far above what is needed, far below what an attack would take."""


def refused(text: str, **params: Any) -> str:
    """Rendering is refused, and soon."""
    begin = process_time()
    with pytest.raises(TemplateError) as caught:
        render(text, CONTEXT | {"params": CONTEXT["params"] | params})
    assert process_time() - begin < SECONDS_MAX
    return str(caught.value)


# Injection


@pytest.mark.parametrize(
    "value",
    [
        "{{ run }}",
        "{{ jobs }}",
        "{% if true %}x{% endif %}",
        "; rm -rf /",
        "$(id)",
        "`id`",
        "{{ssm:/prod/key}}",
        "'\"\n\\",
        "}}{{",
    ],
)
def test_fault_53_what_a_value_holds_is_never_read_as_a_template(value: str) -> None:
    context = CONTEXT | {"params": {"x": value, "y": ["{{ run }}", value]}}
    assert render("{{ params.x }}", context) == value
    assert render_text("<{{ params.x }}>", context) == f"<{value}>"
    assert render("{{ params.x ~ params.x }}", context) == value + value
    assert render("{{ '{{ ' ~ 'run' ~ ' }}' }}", context) == "{{ run }}"
    assert render_tree({"args": ["{{ params.y }}", "a{{ params.x }}"]}, context) == {
        "args": [["{{ run }}", value], f"a{value}"]
    }


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ params['__class__']['__init__'] }}",
        "{{ params.items() }}",
        "{{ params.get('x') }}",
        "{{ run.format(run) }}",
        "{{ '%s'.format }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{0.__class__}'.format(run) }}",
        "{{ run.upper }}",
        "{{ params._x }}",
        "{{ self }}",
        "{{ self.__init__.__globals__ }}",
        "{{ config }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ namespace() }}",
        "{{ joiner }}",
        "{{ range(10) }}",
        "{{ dict(a=1) }}",
        "{{ [].append(1) }}",
        "{{ params | map(attribute='__class__') | list }}",
        "{{ params | selectattr('x') }}",
        "{{ run | xmlattr }}",
        "{{ run | safe }}",
        "{{ run | pprint }}",
        "{{ scheduled_at.tzinfo }}",
        "{{ scheduled_at.__reduce__ }}",
        "{{ params | keys | first | attr('x') }}",
        "{{ run is filter }}",
        "{{ run is callable }}",
        "{{ run is sameas run }}",
        "{{ run | date(*['%Y']) }}",
        "{{ run | date(**{'format': '%Y'}) }}",
        "{{ _context }}",
        "{{ environment }}",
        "{{ caller() }}",
        "{{ super() }}",
        "{% import 'os' as os %}{{ os }}",
        "{% raw %}{{ run }}{% endraw %}",
    ],
)
def test_fault_53_the_known_escapes_from_jinja_lead_nowhere(text: str) -> None:
    refused(text)


def test_fault_53_a_lookup_finds_items_and_never_attributes() -> None:
    class Armed(dict[str, Any]):
        secret = "s3cret"  # what an attribute lookup would find

        def explode(self) -> None:
            raise AssertionError

    context = CONTEXT | {"params": {"armed": Armed(k=1), "items": "an item"}}
    assert render("{{ params.items }}", context) == "an item"
    assert render("{{ params.armed.k }}", context) == 1
    for name in ("secret", "explode", "keys", "pop", "clear"):
        with pytest.raises(TemplateError, match="not known"):
            render(f"{{{{ params.armed.{name} }}}}", context)


def test_fault_53_objects_that_are_not_json_never_reach_a_text() -> None:
    class Secret:
        def __str__(self) -> str:
            return "s3cret"

    for text in ("{{ params.x }}", "a{{ params.x }}", "{{ params.x | string }}", "{{ [params.x] | json }}"):
        assert "s3cret" not in refused(text, x=Secret())


def test_errors_never_show_a_value() -> None:
    secret = "hunter2"
    for text in (
        "{{ params.x | int }}",
        "{{ params.x | float }}",
        "{{ params.x.y }}",
        "{{ params.x + 1 }}",
        "{{ params[params.x] }}",
        "{{ params.x | iso }}",
        "{{ params.x < 1 }}",
        "{{ params.x | join }}",
        "{{ params.x | plus(days=1) }}",
        "{{ -params.x }}",
    ):
        assert secret not in refused(text, x=secret)


# Bombs


@pytest.mark.parametrize(
    "text",
    [
        "{{ 10 ** 10 ** 10 }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ [0] + [0] }}",
        "{{ " + "9" * 5000 + " }}",
        "{{ 0x" + "f" * 5000 + " }}",
        "{{ 1e999 }}",
        "{{ 1e308 * 10 }}",
        "{{ 1 / 0 }}",
        "{{ 1 // 0 }}",
        "{{ 1 % 0 }}",
        "{{ " + "1000000000 * " * 60 + "1 }}",
        "{{ params.n | round(1000000000) }}",
        "{{ scheduled_at | plus(days=99999999999) }}",
        "{{ scheduled_at | plus(days=1e300) }}",
        "{{ scheduled_at | plus(days=-2000000) }}",
        "{{ params.huge ~ params.huge }}",
        "{{ params.huge }}{{ params.huge }}",
        "{{ params.huge | replace('', params.huge) }}",
        "{{ params.huge | replace('y', params.huge) }}",
        "{{ params.huge | split('y') | join(params.huge) }}",
        "{{ [" + "params.huge," * 400 + "] }}",
        "{{ [" + "params.huge," * 400 + "] | json }}",
        "{{ [" + "params.huge," * 400 + "] | join }}",
        "{{ {'a': [" + "params.huge," * 400 + "]} | json | length }}",
        "{{ params.huge | split('y') " + "| sort " * 90 + "}}",
        "{{ params.huge | upper | length }}" * 400,
        "{{ (scheduled_at | date('" + "%B" * 8000 + "')) * 2 }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "[" * 17 + "1" + "]" * 17 + " }}",
        "{{ " + "{'a':" * 500 + "1" + "}" * 500 + " }}",
        "{{ " + "not " * 3000 + "true }}",
        "{{ " + "-" * 10 + " -" * 3000 + "1 }}",
        "{{ " + "1 if true else " * 900 + "1 }}",
        "{{ " + "1 + " * 3000 + "1 }}",
        "{{ " + "run ~ " * 2000 + "run }}",
        "{{ run" + " | lower" * 1000 + " }}",
        "{{ params" + ".x" * 2000 + " }}",
        "{{ params" + "[0]" * 2000 + " }}",
        "{{ true" + " and true" * 1500 + " }}",
        "{{ 1" + " < 2" * 1500 + " }}",
        "{{ run is" + " not is" * 1500 + " }}",
        "{{ " + "'a' " * 3000,
        "{{" * 8000,
        "{{ '" + "\\" * 16000,
        "{{ run }}" + " " * bounds.TEXT_LENGTH_MAX,
        "{{ run }}" * 1500,
    ],
    ids=lambda text: text[:40],
)
def test_a_bomb_is_refused_soon(text: str) -> None:
    begin = process_time()
    refused(text)
    check(text, ANYTHING, path="")
    assert process_time() - begin < SECONDS_MAX


@pytest.mark.parametrize("filter_name", ["unique", "sort", "json | length", "sort(reverse=true)", "min", "keys"])
def test_a_large_list_is_worked_on_a_bounded_number_of_times(filter_name: str) -> None:
    begin = process_time()
    items = {"params": {"x": list(range(100_000))}}
    with pytest.raises(TemplateError):
        render(f"{{{{ params.x | {filter_name} }}}}" * 300, items)
    with pytest.raises(TemplateError):
        render("{{ params.x" + f" | {filter_name}" * 90 + " }}", items)
    assert process_time() - begin < 2 * SECONDS_MAX


@pytest.mark.parametrize("expression", ["params.x == params.y", "params.n in params.x", "params.x | sum"])
def test_a_large_list_is_looked_at_a_bounded_number_of_times(expression: str) -> None:
    begin = process_time()
    items = {"params": {"x": list(range(100_000)), "y": list(range(100_000)), "n": -1}}
    with pytest.raises(TemplateError, match="work on more than"):
        render(f"{{{{ {expression} }}}}" * 140, items)
    assert process_time() - begin < 2 * SECONDS_MAX


def test_a_long_text_without_an_expression_is_no_template_and_has_no_bound() -> None:
    text = "x" * 5_000_000
    assert render(text, CONTEXT) is text
    assert check(text, ANYTHING, path="") == []


def test_values_that_are_nested_deeply_are_refused_and_never_overflow_the_stack() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    other: Any = []
    for _ in range(100_000):
        other = [other]
    for text in (
        "{{ params.x }}",
        "a{{ params.x }}",
        "{{ params.x | json }}",
        "{{ params.x | unique }}",
        "{{ [params.x] | sort }}",
    ):
        refused(text, x=deep)
    for expression in ("params.x == params.y", "params.x in [params.y]"):
        with pytest.raises(TemplateError):
            evaluate(expression, {"params": {"x": deep, "y": other}})
    with pytest.raises(TemplateError, match="deep"):
        render_tree(deep, CONTEXT)


def test_a_document_full_of_templates_is_bounded_as_a_whole() -> None:
    begin = process_time()
    with pytest.raises(TemplateError, match=r"^\[\d+\]: "):
        render_tree(["{{ params.huge }}"] * 10_000, CONTEXT)
    assert process_time() - begin < SECONDS_MAX


def test_a_list_for_a_large_fan_out_passes() -> None:
    items = list(range(100_000))
    assert render("{{ jobs.a.outputs.items }}", {"jobs": {"a": {"outputs": {"items": items}}}}) == items


# Properties

_PIECES = st.sampled_from(
    [
        *"{}()[]'\"|.,:+-*/%~<>=!\\ \n#0129",
        *(
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "==",
            "//",
            "**",
            "1.5",
            "1e9",
            "0x1f",
            "'a'",
            '"b"',
            "'%Y-%m'",
            "\u0663",
            "\0",
        ),
        *(" and ", " or ", " not ", " in ", " is ", " if ", " else ", "true", "none", "run", "params", "jobs", "item"),
        *(".a", ".outputs", ".outcome", "['b-c']", ".x", "scheduled_at", "outcomes", "attempt", ".list", ".map"),
        *("|date('%d')", "|plus(days=1)", "|default(1)", "|join(',')", "|length", "|first", "|json", "|split", "|int"),
        *("|sort", "|unique", "|sum", "|round", "|replace('a','b')", "|in_zone('UTC')", "|keys", " defined", " even"),
    ]
)
_SOUP = st.lists(_PIECES, max_size=30).map("".join)
_TEXTS = st.one_of(
    st.text(max_size=60), _SOUP, _SOUP.map(lambda soup: "{{" + soup + "}}"), st.text().map("{{{{ {} }}}}".format)
)


@settings(max_examples=600, deadline=None)
@given(_TEXTS)
def test_checking_never_crashes_and_rendering_gives_json_or_says_why_not(text: str) -> None:
    found = check(text, ANYTHING, path="p") or check_expression(text, ANYTHING, path="p")
    assert all(problem.path == "p" and problem.message for problem in found)
    for make in (render, render_text, evaluate):
        try:
            made = make(text, CONTEXT)
        except TemplateError as error:
            said = str(error)
        else:
            said = json.dumps(made, allow_nan=False)
        assert said


_LEAVES = st.sampled_from(
    ["run", "attempt", "scheduled_at", "previous_success_at", "params.x", "params.n", "params.f", "params.list", "params.map",
     "params.map.k.l", "params.gone", "jobs.a.outputs.rows", "jobs['b-c'].outcome", "outcomes", "item.n", "item",
     "1", "-2", "2.5", "'t'", "''", "true", "none", "[]", "{}", "'2026-01-31'", "'7'"]
)  # fmt: skip
_FILTERS = st.sampled_from(
    ["date('%G-W%V %H:%M')", "plus(days=1, hours=-3)", "in_zone('Europe/Berlin')", "iso", "epoch", "json", "default('d')",
     "lower", "upper", "trim", "replace('t', 'tt')", "join('-')", "split", "split('t')", "length", "first", "last", "int",
     "float", "string", "round", "round(1)", "min", "max", "sum", "sort", "sort(reverse=true)", "unique", "keys", "values",
     "basename", "dirname"]
)  # fmt: skip
_OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or"])
_TESTS = st.sampled_from(
    ["none", "string", "number", "integer", "mapping", "sequence", "even", "odd", "boolean", "not float"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} | {})".format, inner, _FILTERS),
        st.builds("({} {} {})".format, inner, _OPERATORS, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{'k': {}}}".format, inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("({} is {})".format, inner, _TESTS),
    )


_EXPRESSIONS = st.recursive(_LEAVES, _larger, max_leaves=8)


@settings(max_examples=600, deadline=None)
@given(_EXPRESSIONS, st.sampled_from(["{{{{ {} }}}}", "a {{{{ {} }}}}\n"]))
def test_what_is_accepted_renders_or_says_why_not_and_always_the_same(expression: str, frame: str) -> None:
    text = frame.format(expression)
    if check(text, ANYTHING, path=""):
        return

    def outcome() -> str:
        try:
            return json.dumps(render(text, CONTEXT), allow_nan=False)
        except TemplateError as error:
            return f"refused: {error}"

    assert outcome() == outcome()


@given(st.text())
def test_a_text_passes_through_an_expression_unchanged(text: str) -> None:
    context = {"params": {"x": text}}
    assert render("{{ params.x }}", context) == text
    assert render("<{{ params.x }}>", context) == f"<{text}>"


# A carriage return is left out: Jinja reads it as the end of a line, so inside a constant it is written \\r.
@given(st.text(alphabet=sorted(set(string.printable) - {"\r"})))
def test_a_text_as_a_constant_comes_out_unchanged(text: str) -> None:
    constant = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert render(f"{{{{ {constant} }}}}", {}) == text
