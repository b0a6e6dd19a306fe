"""What templates and expressions come to, what is refused beforehand, and that the reference for authors is true."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Problem, TemplateError
from shared.template import (
    ROOTS,
    Names,
    bounds,
    check,
    check_expression,
    evaluate,
    is_template,
    render,
    render_text,
    render_tree,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "templates.md"
NIGHT = datetime(2026, 3, 28, 1, 0, tzinfo=UTC)


def context(**more: Any) -> dict[str, Any]:
    return {
        "run": "nightly@1",
        "workflow": "nightly",
        "job": "load",
        "attempt": 2,
        "scheduled_at": NIGHT,
        "requested_at": NIGHT + timedelta(seconds=2),
        "data_interval_start": NIGHT - timedelta(days=1),
        "data_interval_end": NIGHT,
        "previous_success_at": None,
        "params": {"region": "eu", "full": True},
        "jobs": {
            "extract": {"outputs": {"rows": 3}, "outcome": "succeeded"},
            "my-job": {"outputs": {"x": 1}, "outcome": "failed"},
        },
        "outcomes": {"extract": "succeeded", "my-job": "failed"},
        **more,
    }


NAMES = Names(
    params=frozenset({"region", "full"}),
    jobs=frozenset({"extract", "my-job"}),
    all_jobs=frozenset({"extract", "my-job", "load", "publish"}),
)


def problems(text: str, names: Names = NAMES) -> list[str]:
    return [str(problem) for problem in check(text, names, path="")]


def refused(text: str, **more: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        render(text, context(**more))
    return str(caught.value)


# The reference


def _blocks(kind: str) -> list[tuple[str, str]]:
    lines = "\n".join(
        re.findall(rf"^```{kind}\n(.*?)^```", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)
    ).splitlines()
    found = [tuple(part.strip() for part in line.rsplit("→", 1)) for line in lines if line]
    assert found
    return [(example, result) for example, result in found]


def _reference_context() -> dict[str, Any]:
    (block,) = re.findall(r"^```json\n(.*?)^```", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)
    given: dict[str, Any] = json.loads(block)
    return {
        name: datetime.fromisoformat(value) if value and name.endswith(("_at", "_start", "_end")) else value
        for name, value in given.items()
    }


def _reference_names() -> Names:
    given = _reference_context()
    return Names(params=frozenset(given["params"]), jobs=frozenset(given["jobs"]))


@pytest.mark.parametrize(("template", "result"), _blocks("template"))
def test_a_template_of_the_reference_renders_as_it_says(template: str, result: str) -> None:
    assert check(template, _reference_names(), path="") == []
    assert render(template, _reference_context()) == json.loads(result)


@pytest.mark.parametrize(("expression", "result"), _blocks("expression"))
def test_an_expression_of_the_reference_holds_as_it_says(expression: str, result: str) -> None:
    assert check_expression(expression, _reference_names(), path="") == []
    assert evaluate(expression, _reference_context()) is json.loads(result)


@pytest.mark.parametrize(("template", "message"), _blocks("refused"))
def test_a_mistake_of_the_reference_is_refused_as_it_says(template: str, message: str) -> None:
    (problem,) = check(template, _reference_names(), path="")
    assert problem.message.startswith(message)


def test_the_reference_names_every_root_filter_test_and_bound() -> None:
    from shared.template.filters import FILTERS, TESTS

    text = REFERENCE.read_text()
    for name in [*ROOTS, *FILTERS, *TESTS]:
        assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text), name
    for bound in (bounds.TEXT_LENGTH_MAX, bounds.NODES_MAX, bounds.RENDERED_LENGTH_MAX):
        assert f"{bound:,}" in text


# What is a template


@pytest.mark.parametrize("text", ["", "plain", "a } b }} c", "${#list[@]}", "{# no comment #}", "{%d", "$(date) `id`"])
def test_a_text_without_two_opening_braces_is_left_as_it_is(text: str) -> None:
    assert not is_template(text)
    assert check(text, NAMES, path="") == []
    assert render(text, {}) == render_text(text, {}) == text


def test_what_stands_around_an_expression_is_kept_to_the_character() -> None:
    around = "\r\n ${#list[@]} {# kept #} 'quote \\n \t}} \x0b\u2028 {{ run }} end \r\n\n"
    assert render(around, context()) == around.replace("{{ run }}", "nightly@1")


def test_documents_without_templates_do_not_import_jinja() -> None:
    program = (
        "import sys; from shared.template import check, render, render_tree, Names\n"
        "render('x', {}); check('x', Names(), path=''); render_tree({'a': ['b']}, {})\n"
        "assert 'jinja2' not in sys.modules; assert 'zoneinfo' not in sys.modules\n"
        "render('{{ 1 }}', {}); assert 'jinja2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REFERENCE.parents[1])


# Values


def test_a_whole_expression_keeps_the_type_of_its_value() -> None:
    values: list[Any] = [None, True, 3, 2.5, "text", [1, {"a": None}], {"b": [False]}]
    for value in values:
        assert render("{{ params.v }}", context(params={"v": value})) == value
        assert type(render("{{ params.v }}", context(params={"v": value}))) is type(value)


def test_a_value_passed_on_is_a_copy() -> None:
    given = {"rows": [1, 2]}
    rendered = render("{{ params }}", context(params=given))
    assert rendered == given
    assert rendered is not given


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (0, "0"),
        (1.5, "1.5"),
        ("ä b", "ä b"),
        ({"b": 1, "a": ["ä"]}, '{"a":["ä"],"b":1}'),
        (datetime(2026, 7, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-07-01T02:00:00+02:00"),
        ([datetime(2026, 7, 1, tzinfo=UTC)], '["2026-07-01T00:00:00+00:00"]'),
    ],
)
def test_a_value_in_an_argument_is_text(value: Any, text: str) -> None:
    assert render_text("{{ params.v }}", context(params={"v": value})) == text
    assert render("<{{ params.v }}>", context(params={"v": value})) == f"<{text}>"


def test_none_has_no_text_and_says_what_to_do() -> None:
    assert "default" in refused("since {{ previous_success_at }}")
    with pytest.raises(TemplateError, match="default"):
        render_text("{{ previous_success_at }}", context())
    assert refused("{{ previous_success_at | date('%Y') }}").startswith(
        "date needs a time, not none (previous_success_at is none; add | default(…) before)"
    )


def test_a_default_stands_for_what_is_missing_and_for_none() -> None:
    assert render("{{ previous_success_at | default(scheduled_at) | iso }}", context()) == NIGHT.isoformat()
    assert render("{{ params.a.b.c | default('x') }}", context()) == "x"
    assert render("{{ jobs.extract.outputs.files | first | default([]) }}", context()) == []
    assert render("{{ params.full | default(1) }}", context(params={"full": False})) is False


def test_times_without_a_zone_are_refused_unless_they_are_text() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    assert "time" in refused("{{ params.v | iso }}", params={"v": naive})
    assert "zone" in refused("{{ params.v }}", params={"v": naive})
    assert render("{{ params.v | iso }}", context(params={"v": "2026-01-01"})) == "2026-01-01T00:00:00+00:00"


def test_a_day_more_is_the_same_hour_and_24_hours_more_are_real_time() -> None:
    before = "{{ scheduled_at | in_zone('Europe/Berlin') "
    assert render(before + "| plus(days=1) }}", context()) == "2026-03-29T03:00:00+02:00"  # 02:00 does not exist
    assert render(before + "| plus(days=2) }}", context()) == "2026-03-30T02:00:00+02:00"
    assert render(before + "| plus(hours=24) }}", context()) == "2026-03-29T03:00:00+02:00"
    assert render(before + "| plus(hours=48) }}", context()) == "2026-03-30T03:00:00+02:00"


def test_a_date_is_written_as_strftime_does_in_english() -> None:
    directives = "%Y %y %m %d %H %I %p %M %S %f %j %a %A %b %B %u %w %G %V %z %Z %F %T %%"
    for days in range(0, 800, 3):
        at = datetime(2024, 12, 29, 11, 59, 7, 42, tzinfo=UTC) + timedelta(days=days, hours=days % 24)
        assert render(f"{{{{ scheduled_at | date('{directives}') }}}}", context(scheduled_at=at)) == at.strftime(
            directives
        )


def test_maps_of_any_kind_render_in_one_order() -> None:
    from types import MappingProxyType

    one = {"b": 1, "a": 2}
    other = {"a": 2, "b": 1}
    for text in ("{{ params }}!", "{{ params | json }}", "{{ params | keys | join }}", "{{ params | values | join }}"):
        assert render(text, context(params=one)) == render(text, context(params=MappingProxyType(other)))


def test_true_is_not_one() -> None:
    assert not evaluate("params.full == 1", context())
    assert not evaluate("1 in [true]", context())
    assert "numbers" in refused("{{ params.full + 1 }}")


def test_a_condition_that_comes_to_a_text_is_refused() -> None:
    with pytest.raises(TemplateError, match="compare it with =="):
        evaluate("params.region", context())
    assert evaluate("jobs.extract.outputs", context())
    assert not evaluate("previous_success_at", context())


# Documents


def test_a_tree_is_rendered_in_its_values_and_never_in_its_keys() -> None:
    document: Any = {"args": ["{{ attempt }}", "-{{ run }}-", 7, None], "{{ run }}": {"deep": ["{{ params.full }}"]}}
    assert render_tree(document, context()) == {
        "args": [2, "-nightly@1-", 7, None],
        "{{ run }}": {"deep": [True]},
    }


def test_an_error_in_a_tree_names_its_place() -> None:
    with pytest.raises(
        TemplateError, match=r"^jobs\[2\]\.args\[1\]: params\.regoin is not known: did you mean params\.region\?"
    ):
        render_tree({"args": ["x", "{{ params.regoin }}"]}, context(), path="jobs[2]")


# What is known beforehand


def test_a_good_template_has_no_problem() -> None:
    good = "{{ jobs['my-job'].outputs.x }} {{ params[job] | default(run) }} {{ outcomes | values | join }}"
    assert check(good, NAMES, path="") == []


def test_every_problem_of_a_text_is_found_at_once() -> None:
    found = check("{{ rum }} {{ params.regon }}\n{{ 1 + }} {{ jobs.extrat.outcome }}", NAMES, path="jobs[0].args[0]")
    assert {problem.path for problem in found} == {"jobs[0].args[0]"}
    assert len(found) == 4
    assert any("line 2, column 1" in problem.message for problem in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ jobs.extrct.outputs.rows }}", "jobs.extrct is not known: did you mean jobs.extract?"),
        ("{{ jobs.my-jop.outputs.rows }}", "jobs['my-job']"),
        ("{{ jobs['my-jop'].outputs.rows }}", "did you mean jobs['my-job']?"),
        ("{{ jobs.my-job.outputs.x }}", "jobs['my-job']"),
        ("{{ outcomes.my-job }}", "outcomes['my-job']"),
        ("{{ jobs.publish.outcome }}", "add 'publish' to `after`"),
        ("{{ jobs.extract.output.rows }}", "did you mean jobs.extract.outputs?"),
        ("{{ jobs.extract }}", "write jobs.extract.outputs.<key>"),
        ("{{ jobs[params.region].outcome }}", "must be named outright"),
        ("{{ jobs.extract.outcome.x }}", "is a text"),
        ("{{ attempt.x }}", "is a number"),
        ("{{ item }}", "for_each"),
        ("{{ ds }}", "scheduled_at | date('%Y-%m-%d')"),
        ("{{ null }}", "write none"),
        ("{{ env.HOME }}", "no environment"),
        ("{{ params.x is defined and true }}", "params.x is not known"),
        ("{{ params[params.x] }}", "params.x is not known"),
        ("{{ run | default(rum) }}", "did you mean run?"),
        ("{{ [rum] }}", "did you mean run?"),
        ("{{ run && job }}", "write `and`"),
        ("{{ attempt = 1 }}", "write =="),
        ("{{ run if attempt }}", "else"),
        ("{{ }}", "empty"),
        ("{{ run", "not closed"),
        ("{{ 'run }}", "not closed"),
        ("{{ (run }}", "closes nothing"),
        ("{{- run }}", "whitespace control"),
        ("{{ run -}}", "whitespace control"),
        ("{{ run[1:2] }}", "slices"),
        ("{{ '\\d' }}", "known escape"),
        ("{{ScheduledAt}}", "scheduled_at"),
        ("{{ssm:/prod/key}}", "`:` is not expected"),
        ("{{ run | plus(1) }}", "plus(days=1)"),
        ("{{ run | plus }}", "plus(days=1)"),
        ("{{ run | replace('a') }}", "replace('old', 'new')"),
        ("{{ run | date('%s') }}", "epoch"),
        ("{{ run | quote }}", "no filter `quote`"),
        ("{{ run is callable }}", "no test"),
        ("{{ '\\ud800' }}", "surrogate"),
        ("{% for x in y %}", "statements"),
        ("{% set x = 1 %}{{ run }}", "statements"),
    ],
)
def test_a_mistake_gets_a_problem_that_says_what_would_be_right(text: str, said: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert said in found[0]


def test_parameters_that_are_not_declared_anywhere_may_have_any_name() -> None:
    assert check("{{ params.anything }}", Names(), path="") == []


def test_the_item_of_a_fan_out_may_be_looked_into() -> None:
    assert check("{{ item.path[0] }}", Names(item=True), path="") == []


def test_a_root_can_be_left_out_where_it_means_nothing() -> None:
    names = Names(roots=ROOTS - {"attempt"})
    assert "attempt is not known here" in problems("{{ attempt }}", names)[0]


def test_an_expression_is_checked_like_a_template() -> None:
    assert check_expression("outcomes.extract == 'succeeded' and params.full", NAMES, path="when") == []
    assert check_expression("outcomes.extrct == 'succeeded'", NAMES, path="when") == [
        Problem("when", "outcomes.extrct is not known: did you mean outcomes.extract?")
    ]
    assert "without" in str(check_expression("{{ params.full }}", NAMES, path="when")[0])
    assert "empty" in str(check_expression(" ", NAMES, path="when")[0])


def test_ten_thousand_wrong_names_are_refused_in_a_bounded_number_of_comparisons() -> None:
    names = Names(jobs=frozenset(f"job_{number:05}" for number in range(2_000)))
    found = [
        problem for number in range(2_000) for problem in check(f"{{{{ jobs.jub_{number}.outcome }}}}", names, path="")
    ]
    assert len(found) == 2_000


def test_names_of_a_persistent_map_are_looked_up_like_those_of_a_dict() -> None:
    from immutables import Map

    jobs = Map({"extract": Map({"outputs": Map({"rows": 3})})})
    assert render("{{ jobs.extract.outputs.rows }}", context(jobs=jobs)) == 3
    assert "did you mean jobs.extract?" in refused("{{ jobs.extrct.outputs.rows }}", jobs=jobs)
