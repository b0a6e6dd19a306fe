"""The template language at work: checks, renders and evaluates. What it promises stands in the package's header."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from shared.errors import Problem, TemplateError
from shared.template.bounds import DOCUMENT_SIZE_MAX, RENDERED_LENGTH_MAX, VALUE_DEPTH_MAX
from shared.template.evaluation import value_of
from shared.template.names import ROOTS, TIMES, Names, wrong_names
from shared.template.parse import Fault, Placed, Template, parse_expression, parse_text, statement_in
from shared.template.values import Json, Unusable, Work, as_json, as_text, kind

__all__ = [
    "ROOTS",
    "TIMES",
    "Json",
    "Names",
    "check",
    "check_expression",
    "evaluate",
    "render",
    "render_text",
    "render_tree",
]

_Result = TypeVar("_Result")
_EXCERPT_LENGTH_MAX = 60


def check(text: str, names: Names, *, path: str) -> list[Problem]:
    """All that can be known to be wrong with a template before a run; empty if it is good, or not a template."""
    if "{{" not in text:
        statement = statement_in(text) if "{%" in text else None
        return [] if statement is None else [Problem(path, statement.message, statement.hint)]
    return _problems(parse_text(text), names, path, in_braces=True)


def check_expression(text: str, names: Names, *, path: str) -> list[Problem]:
    """All that can be known to be wrong with the expression of a `when` before a run."""
    return _problems(parse_expression(text), names, path, in_braces=False)


def _problems(template: Template, names: Names, path: str, *, in_braces: bool) -> list[Problem]:
    problems = [
        Problem(path, f"{fault.message}{_place(template.text, fault.offset)}", fault.hint) for fault in template.faults
    ]
    for placed in template.expressions():
        where = f" in {_excerpt(placed, in_braces=in_braces)}" if in_braces else ""
        for wrong in wrong_names(placed.expression, names):
            problems.append(Problem(path, f"{wrong.message}{where}", wrong.hint))
    return problems


def render(text: str, context: Mapping[str, object]) -> Json:
    """The text with its expressions replaced. If it is one `{{ … }}` alone, the value as JSON, of whatever type.

    Raises TemplateError.
    """
    if "{{" not in text:
        return text
    return _render(text, context, Work())


def render_text(text: str, context: Mapping[str, object]) -> str:
    """Like `render`, but always the text that stands in a command argument: JSON for lists and mappings,
    `true` and `false`, ISO-8601 with offset for times. None has no text and is an error.

    Raises TemplateError.
    """
    if "{{" not in text:
        return text
    return _joined(_sound(parse_text(text)), context, Work())


def render_tree(value: Json, context: Mapping[str, object], *, path: str = "") -> Json:
    """A document with every text in it rendered by `render`; keys are left alone. `path` begins the path in errors.

    Raises TemplateError that names the place: `jobs[2].args[0]: …`.
    """
    work = Work()
    produced = 0

    def walk(part: Json, place: str, depth: int) -> Json:
        nonlocal produced
        if depth > VALUE_DEPTH_MAX:
            raise TemplateError(f"{place}: nested more than {VALUE_DEPTH_MAX} deep")
        match part:
            case str():
                if "{{" not in part:
                    return part
                try:
                    rendered = _render(part, context, work)
                except TemplateError as error:
                    raise TemplateError(f"{place}: {error}" if place else str(error)) from None
                produced += _weight(rendered)
                if produced > DOCUMENT_SIZE_MAX:
                    raise TemplateError(f"{place}: the templates produce more than {DOCUMENT_SIZE_MAX} characters")
                return rendered
            case list():
                return [walk(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(part)]
            case dict():
                return {key: walk(item, f"{place}.{key}" if place else key, depth + 1) for key, item in part.items()}
            case _:
                return part

    return walk(value, path, 0)


def evaluate(text: str, context: Mapping[str, object]) -> bool:
    """Whether an expression holds. Empty lists and mappings, 0 and none count as false; a text is refused, because
    the text `false` would count as true.

    Raises TemplateError.
    """
    template = _sound(parse_expression(text))
    placed = template.expressions()[0]
    result = _guarded(lambda: value_of(placed.expression, context, Work()), placed, in_braces=False)
    if isinstance(result, str):
        raise TemplateError(
            f"{_excerpt(placed, in_braces=False)} comes to {kind(result)}, not to true or false: compare it with =="
        )
    return bool(result)


def _sound(template: Template) -> Template:
    if template.faults:
        fault = template.faults[0]
        raise TemplateError(_message(fault, template.text))
    return template


def _message(fault: Fault, text: str) -> str:
    return f"{fault.message}{_place(text, fault.offset)}" + (f" ({fault.hint})" if fault.hint else "")


def _render(text: str, context: Mapping[str, object], work: Work) -> Json:
    template = _sound(parse_text(text))
    if len(template.parts) == 1:
        placed = template.parts[0]
        assert isinstance(placed, Placed), placed
        return _guarded(lambda: as_json(value_of(placed.expression, context, work), work), placed)
    return _joined(template, context, work)


def _joined(template: Template, context: Mapping[str, object], work: Work) -> str:
    texts: list[str] = []
    length = 0
    for part in template.parts:
        text = part if isinstance(part, str) else _written(part, context, work)
        length += len(text)
        if length > RENDERED_LENGTH_MAX:
            raise TemplateError(f"the rendered text is longer than {RENDERED_LENGTH_MAX} characters")
        texts.append(text)
    return "".join(texts)


def _written(placed: Placed, context: Mapping[str, object], work: Work) -> str:
    return _guarded(lambda: as_text(value_of(placed.expression, context, work), work), placed)


def _guarded(make: Callable[[], _Result], placed: Placed, *, in_braces: bool = True) -> _Result:
    try:
        return make()
    except Unusable as unusable:
        raise TemplateError(f"{unusable}, in {_excerpt(placed, in_braces=in_braces)}") from None
    except RecursionError:
        # Values that are compared or passed on may be nested deeper than anything we walk ourselves.
        raise TemplateError(f"a value is nested too deeply, in {_excerpt(placed, in_braces=in_braces)}") from None


def _excerpt(placed: Placed, *, in_braces: bool) -> str:
    source = " ".join(placed.source.split())
    if len(source) > _EXCERPT_LENGTH_MAX:
        source = source[: _EXCERPT_LENGTH_MAX - 1] + "…"
    return f"{{{{ {source} }}}}" if in_braces else source


def _place(text: str, offset: int) -> str:
    """Where in a text; left out where it goes without saying."""
    if offset == 0:
        return ""
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    return f", at line {line}, column {column}" if "\n" in text else f", at character {column}"


def _weight(value: Json) -> int:
    """The characters in a rendered value, which `as_json` has already bounded."""
    match value:
        case str():
            return len(value)
        case list():
            return 2 + sum(_weight(item) for item in value)
        case dict():
            return 2 + sum(len(key) + _weight(item) for key, item in value.items())
        case _:
            return 2
