"""What an expression comes to, with the values at hand.

Total: every tree and every context lead to a value or to `Unusable`, after work that is bounded by the tree and by
`Work`. Values are looked at as mappings, lists and scalars only, and text in them is never read as a template.
"""

from collections.abc import Mapping
from datetime import datetime

from shared.template.bounds import RENDERED_LENGTH_MAX
from shared.template.filters import FILTERS, TESTS
from shared.template.tree import (
    Apply,
    Both,
    Calculate,
    Choose,
    Compare,
    Concatenate,
    DictOf,
    Expression,
    Is,
    ListOf,
    Literal,
    Lookup,
    Not,
    Root,
    Sign,
    constant_path,
    written,
)
from shared.template.values import (
    ITEM_WORK,
    LazyList,
    Missing,
    Unusable,
    Work,
    as_text,
    bounded,
    is_number,
    kind,
    spend_on,
)
from shared.workflow.nearest import Nearest

Context = Mapping[str, object]


def value_of(node: Expression, context: Context, work: Work) -> object:
    """The value of an expression. Recursion is bounded: the tree's depth was checked when it was read."""
    match node:
        case Literal(value=value):
            return value
        case Root(name=name):
            if name not in context:
                raise Missing(f"{name} is not known", lambda: _did_you_mean(name, context))
            return context[name]
        case Lookup():
            return _item(node, context, work)
        case ListOf(items=items):
            return [value_of(item, context, work) for item in items]
        case DictOf(pairs=pairs):
            made: dict[str, object] = {}
            for written_key, item in pairs:
                made_key = value_of(written_key, context, work)
                if not isinstance(made_key, str):
                    raise Unusable(f"a key of a mapping must be a text, not {kind(made_key)}")
                made[made_key] = value_of(item, context, work)
            return made
        case Apply():
            return _apply(node, context, work)
        case Is(test="defined", target=target):
            return _is_there(target, context, work)
        case Is(test="undefined", target=target):
            return not _is_there(target, context, work)
        case Is(test="in", target=target, argument=argument):
            assert argument is not None
            return _contains(value_of(argument, context, work), value_of(target, context, work), work)
        case Is(test=test, target=target):
            return TESTS[test](value_of(target, context, work))
        case Not(target=target):
            return not value_of(target, context, work)
        case Sign(operator=operator, target=target):
            number = _number(value_of(target, context, work), operator)
            return -number if operator == "-" else number
        case Both(operator=operator, left=left, right=right):
            first = value_of(left, context, work)
            if bool(first) == (operator == "or"):
                return first
            return value_of(right, context, work)
        case Compare(left=left, steps=steps):
            return _compare(left, steps, context, work)
        case Calculate(operator=operator, left=left, right=right):
            return bounded(_calculate(operator, value_of(left, context, work), value_of(right, context, work), work))
        case Concatenate(parts=parts):
            return _concatenate([value_of(part, context, work) for part in parts], work)
        case Choose(test=test, then=then, otherwise=otherwise):
            return value_of(then if value_of(test, context, work) else otherwise, context, work)


def _item(node: Lookup, context: Context, work: Work) -> object:
    target = value_of(node.target, context, work)
    key = value_of(node.key, context, work)
    match target, key:
        case Mapping(), str():
            if key in target:
                return target[key]
            raise Missing(f"{_name_of(node)} is not known", lambda: _did_you_mean(key, target, _name_of(node.target)))
        case ((list() | tuple() | LazyList()), int()) if not isinstance(key, bool):
            if -len(target) <= key < len(target):
                return target[key]
            raise Missing(f"{_name_of(node)} is not there: the list has {len(target)} items")
        case ((Mapping() | list() | tuple() | LazyList()), _):
            needs = "a text" if isinstance(target, Mapping) else "an integer"
            raise Unusable(f"{_name_of(node.target)} is {kind(target)}: its key must be {needs}, not {kind(key)}")
        case _:
            raise Missing(f"{_name_of(node)} is not known: {_name_of(node.target)} is {kind(target)}")


def _name_of(node: Expression) -> str:
    """A path for messages; keys that come from values stay hidden, for they may be secrets."""
    path = constant_path(node)
    if path is None:
        return "the value"
    root, keys, complete = path
    return written(root, keys) + ("" if complete else "[…]")


def _did_you_mean(name: str, known: Mapping[object, object] | Context, place: str = "") -> str:
    guess = Nearest().to(name, [candidate for candidate in known if isinstance(candidate, str)])
    if guess is None:
        return ""
    return f": did you mean {written(place, [guess]) if place else guess}?"


def _is_there(target: Expression, context: Context, work: Work) -> bool:
    try:
        value_of(target, context, work)
    except Missing:
        return False
    return True


def _apply(node: Apply, context: Context, work: Work) -> object:
    work.spend(1)
    try:
        target = value_of(node.target, context, work)
    except Missing:
        if node.filter != "default":
            raise
        target = None
    arguments = [None if argument is None else value_of(argument, context, work) for argument in node.arguments]
    try:
        return bounded(FILTERS[node.filter].function(work, target, *arguments))
    except Unusable as unusable:
        path = constant_path(node.target)
        if path is not None and target is None and not isinstance(unusable, Missing):
            raise Unusable(f"{unusable} ({_name_of(node.target)} is none; add | default(…) before)") from None
        raise


def _number(value: object, operator: str) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Unusable(f"`{operator}` needs numbers, not {kind(value)}")
    return value


def _calculate(operator: str, left: object, right: object, work: Work) -> object:
    if operator == "+" and isinstance(left, str) and isinstance(right, str):
        return _concatenate([left, right], work)
    if operator == "+" and (isinstance(left, str) or isinstance(right, str)):
        raise Unusable(f"`+` cannot add {kind(left)} and {kind(right)}: to put texts together write ~")
    if isinstance(left, datetime) or isinstance(right, datetime):
        raise Unusable(f"`{operator}` does not work on times: use | plus(days=1), or | epoch for seconds")
    first, second = _number(left, operator), _number(right, operator)
    # Also what came from outside: only then is each operation cheap.
    bounded(first)
    bounded(second)
    try:
        match operator:
            case "+":
                return first + second
            case "-":
                return first - second
            case "*":
                return first * second
            case "/":
                return first / second
            case "//":
                return first // second
            case _:
                return first % second
    except ZeroDivisionError:
        raise Unusable("division by zero") from None
    except OverflowError:
        raise Unusable("a number becomes too large") from None


def _concatenate(parts: list[object], work: Work) -> str:
    texts: list[str] = []
    length = 0
    for part in parts:
        text = as_text(part, work)
        length += len(text)
        if length > RENDERED_LENGTH_MAX:
            raise Unusable(f"the text becomes longer than {RENDERED_LENGTH_MAX} characters")
        texts.append(text)
    return "".join(texts)


def _compare(left: Expression, steps: tuple[tuple[str, Expression], ...], context: Context, work: Work) -> bool:
    first = value_of(left, context, work)
    for operator, node in steps:
        second = value_of(node, context, work)
        if not _holds(operator, first, second, work):
            return False
        first = second
    return True


def _holds(operator: str, left: object, right: object, work: Work) -> bool:
    match operator:
        case "==":
            return _equal(left, right, work)
        case "!=":
            return not _equal(left, right, work)
        case "in":
            return _contains(right, left, work)
        case "not in":
            return not _contains(right, left, work)
    comparable = (
        (is_number(left) and is_number(right))
        or (isinstance(left, str) and isinstance(right, str))
        or (_is_aware(left) and _is_aware(right))
    )
    if not comparable:
        raise Unusable(f"`{operator}` cannot compare {kind(left)} and {kind(right)}")
    if isinstance(left, str):
        spend_on(left, work)
    match operator:
        case "<":
            return bool(left < right)  # type: ignore[operator]
        case "<=":
            return bool(left <= right)  # type: ignore[operator]
        case ">":
            return bool(left > right)  # type: ignore[operator]
        case _:
            return bool(left >= right)  # type: ignore[operator]


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _equal(left: object, right: object, work: Work) -> bool:
    # To Python true is 1; to an author of JSON it is not.
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, str | list | tuple | LazyList | Mapping):
        spend_on(left, work)
    return left == right


def _contains(container: object, wanted: object, work: Work) -> bool:
    match container:
        case str() if isinstance(wanted, str):
            work.spend(len(container) + len(wanted))
            return wanted in container
        case Mapping():
            return isinstance(wanted, str) and wanted in container
        case list() | tuple() | LazyList():
            return any(_equal_item(item, wanted, work) for item in container)
        case _:
            raise Unusable(f"`in` cannot look for {kind(wanted)} in {kind(container)}")


def _equal_item(item: object, wanted: object, work: Work) -> bool:
    work.spend(ITEM_WORK)
    return _equal(item, wanted, work)
