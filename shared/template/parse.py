"""From text to tree: finds the `{{ … }}` in a text and reads each with Jinja's parser, keeping only our sub-language.

Only Jinja's reading is used. Nothing is compiled, no Jinja template object ever exists, so nothing that could be
escaped from does either. What lies between the expressions is kept to the character; `{#` and `${#` mean nothing
here, and `{%` only gets a clear refusal where a Jinja statement was evidently meant.

Never raises on any text: what is wrong comes back as faults, with their place.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.template.bounds import (
    BRACKET_DEPTH_MAX,
    COMPILED_MAX,
    INTEGER_BITS_MAX,
    NODES_MAX,
    PREFIXES_MAX,
    TEXT_LENGTH_MAX,
    TREE_DEPTH_MAX,
)
from shared.template.filters import FILTERS, TESTS, WrongArgument
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
    children,
)
from shared.workflow.nearest import Nearest

if TYPE_CHECKING:
    from jinja2 import Environment, nodes


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a text, at an offset in it."""

    message: str
    hint: str
    offset: int


@dataclass(frozen=True, slots=True)
class Placed:
    """An expression as it stands in a text."""

    expression: Expression
    source: str
    offset: int


@dataclass(frozen=True, slots=True)
class Template:
    """A text that was read. With faults it must not be rendered; `parts` then holds what could be read."""

    text: str
    parts: tuple[str | Placed, ...]
    faults: tuple[Fault, ...]

    def expressions(self) -> list[Placed]:
        return [part for part in self.parts if isinstance(part, Placed)]


class _Refused(Exception):
    last = False
    """Whether what follows in the text need not be read."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


_LITERAL_BRACES = "to write two braces as such: {{ '{{' }}"

# A statement that somebody who knows Jinja would expect to work. Other `{%` are ordinary text.
_STATEMENT = re.compile(
    r"\{%[-+]?\s*(if|elif|else|endif|for|endfor|set|endset|macro|call|filter|include|import|from|extends|block|raw"
    r"|with|do)\b"
)


def statement_in(text: str) -> Fault | None:
    """The first Jinja statement in a text, as a fault."""
    found = _STATEMENT.search(text)
    if found is None:
        return None
    return Fault(
        f"statements such as `{{% {found[1]} %}}` are not supported",
        "choose with {{ a if condition else b }}; to write the sign as such: {{ '{%' }}",
        found.start(),
    )


@lru_cache(maxsize=COMPILED_MAX)
def parse_text(text: str) -> Template:
    """Read a text with any number of `{{ … }}` in it."""
    if len(text) > TEXT_LENGTH_MAX:
        # The text is not kept: it may be megabytes, and nothing in it will be looked at.
        return Template("", (), (_too_long(text),))
    parts: list[str | Placed] = []
    faults: list[Fault] = []
    statement = statement_in(text)
    if statement is not None:
        faults.append(statement)
    position = 0
    nodes_left = NODES_MAX
    while (begin := text.find("{{", position)) >= 0:
        if begin > position:
            parts.append(text[position:begin])
        try:
            end = _end_of_expression(text, begin + 2)
            source = text[begin + 2 : end]
            expression, nodes_left = _read(source, nodes_left)
        except _Refused as refused:
            faults.append(Fault(refused.message, refused.hint, begin))
            # Go on behind the next `}}`, so that one mistake does not hide the others.
            closing = -1 if refused.last else text.find("}}", begin)
            position = closing + 2 if closing >= 0 else len(text)
            continue
        parts.append(Placed(expression, source.strip(), begin))
        position = end + 2
    if position < len(text):
        parts.append(text[position:])
    return Template(text, tuple(parts), tuple(faults))


@lru_cache(maxsize=COMPILED_MAX)
def parse_expression(text: str) -> Template:
    """Read a text that is one expression, as in `when`."""
    if len(text) > TEXT_LENGTH_MAX:
        return Template("", (), (_too_long(text),))
    try:
        if "{{" in text or "{%" in text:
            raise _Refused("an expression stands without braces here", "write it without {{ and }}")
        end = _end_of_expression(text, 0, whole=True)
        expression, _ = _read(text[:end], NODES_MAX)
    except _Refused as refused:
        return Template(text, (), (Fault(refused.message, refused.hint, 0),))
    return Template(text, (Placed(expression, text.strip(), 0),), ())


def _too_long(text: str) -> Fault:
    return Fault(
        f"a template of {len(text)} characters is too long",
        f"at most {TEXT_LENGTH_MAX}; put long texts into an input file",
        0,
    )


_NOTABLE = re.compile(r"""['"()\[\]{}]""")
_STRING = {
    "'": re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL),
    '"': re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL),
}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
# What is left out (octal, \N, and letters that mean nothing) Python reads with a warning, or not at all.
_GOOD_ESCAPE = re.compile(r"\\(?:[\\'\"nrt]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})")
_PREFIX = re.compile(r"[-+]|\b(?:not|if)\b")
_CLOSES = {")": "(", "]": "[", "}": "{"}


def _end_of_expression(text: str, start: int, *, whole: bool = False) -> int:
    """Where the expression that begins at `start` ends: before its `}}`, or with the text if that is `whole`.

    Also holds the expression to what the recursive parser can take, before it sees it.
    """
    open_brackets: list[str] = []
    prefixes = 0
    position = start
    while (found := _NOTABLE.search(text, position)) is not None:
        prefixes += len(_PREFIX.findall(text, position, found.start()))
        sign = found[0]
        position = found.end()
        if sign in _STRING:
            string = _STRING[sign].match(text, found.start())
            if string is None:
                raise _Refused("a quoted text is not closed", f"add the missing {sign}")
            _hold_to_known_escapes(string[0])
            position = string.end()
        elif sign in "([{":
            open_brackets.append(sign)
            if len(open_brackets) > BRACKET_DEPTH_MAX:
                raise _Refused(f"brackets stand more than {BRACKET_DEPTH_MAX} deep", "make the expression simpler")
        elif open_brackets and open_brackets[-1] == _CLOSES[sign]:
            open_brackets.pop()
        elif not open_brackets and not whole and text.startswith("}}", found.start()):
            _hold_to_prefixes(prefixes)
            return found.start()
        else:
            raise _Refused(f"`{sign}` closes nothing", "check the brackets" if whole else _LITERAL_BRACES)
    if not whole:
        raise _Refused("`{{` is not closed", f"add }}}}; {_LITERAL_BRACES}")
    if open_brackets:
        raise _Refused(f"`{open_brackets[-1]}` is not closed", "check the brackets")
    _hold_to_prefixes(prefixes + len(_PREFIX.findall(text, position)))
    return len(text)


def _hold_to_known_escapes(string: str) -> None:
    for escape in _ESCAPE.finditer(string):
        if _GOOD_ESCAPE.match(string, escape.start()) is None:
            raise _Refused(
                f"`\\{escape[1]}` is not a known escape",
                "write a backslash as \\\\; known are \\n \\r \\t \\' \\\" \\xHH \\uHHHH \\UHHHHHHHH",
            )


def _hold_to_prefixes(count: int) -> None:
    if count > PREFIXES_MAX:
        raise _Refused(
            f"the expression has {count} signs, `not`s and `if`s", f"at most {PREFIXES_MAX}; make it simpler"
        )


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    # Imported on first use: most documents hold no template, and Jinja is a good part of a cold start.
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment()


def _read(source: str, nodes_left: int) -> tuple[Expression, int]:
    if not source.strip():
        raise _Refused("the expression is empty", f"write a value such as run; {_LITERAL_BRACES}")
    if source[0] in "-+" or (source[-1] in "-+" and source.rstrip("-+ ")):
        raise _Refused(
            "whitespace control (`{{-`, `-}}`) is not supported", "write a negative number with a space: {{ -1 }}"
        )
    from jinja2 import TemplateSyntaxError
    from jinja2.parser import Parser

    try:
        parser = Parser(_environment(), source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise _Refused(f"`{_clip(str(parser.stream.current.value))}` is not expected", _syntax_hint(source))
    except TemplateSyntaxError as error:
        raise _Refused(f"cannot be read: {_clip(error.message or 'syntax error', 200)}", _syntax_hint(source)) from None
    except (ValueError, SyntaxError, OverflowError):
        # Jinja hands numbers to Python's own reader, which refuses some that Jinja lets through.
        raise _Refused("a number cannot be read") from None
    except RecursionError:
        raise _Refused("the expression is nested too deeply", "make it simpler") from None
    _hold_to_tree_depth(tree)
    expression = _translate(tree)
    count = _count(expression)
    if count > nodes_left:
        refused = _Refused(f"more than {NODES_MAX} names, values and operations in one text", "make it simpler")
        refused.last = True
        raise refused
    return expression, nodes_left - count


def _clip(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


_SYNTAX_HINTS = (
    ("&&", "write `and`"),
    ("||", "write `or`"),
    ("===", "write =="),
    ("!", "write `not`, or != to compare"),
    ("?", "write `a if condition else b`"),
    ("=", "to compare, write =="),
)


def _syntax_hint(source: str) -> str:
    return next((hint for sign, hint in _SYNTAX_HINTS if sign in source), _LITERAL_BRACES)


def _hold_to_tree_depth(tree: "nodes.Node") -> None:
    level: list[nodes.Node] = [tree]
    for _ in range(TREE_DEPTH_MAX):
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise _Refused(f"operations stand more than {TREE_DEPTH_MAX} deep", "make the expression simpler")


def _count(expression: Expression) -> int:
    waiting = [expression]
    count = 0
    while waiting:
        node = waiting.pop()
        count += 1
        waiting.extend(children(node))
    return count


_COMPARISONS = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lteq": "<=",
    "gt": ">",
    "gteq": ">=",
    "in": "in",
    "notin": "not in",
}


def _translate(node: "nodes.Node") -> Expression:
    """Our tree for Jinja's. Recursion is bounded by TREE_DEPTH_MAX, which was checked before."""
    from jinja2 import nodes

    match node:
        case nodes.Const():
            return Literal(_constant(node.value))
        case nodes.Name():
            if node.name.startswith("_"):
                raise _Refused(f"`{_clip(node.name)}` is private: names never begin with _")
            return Root(node.name)
        case nodes.Getattr():
            if node.attr.startswith("_"):
                raise _Refused(
                    f"`.{_clip(node.attr)}` is private: names behind a dot never begin with _",
                    "for an item of that name write ['_name']",
                )
            return Lookup(_translate(node.node), Literal(node.attr))
        case nodes.Getitem():
            return Lookup(_translate(node.node), _key(node.arg))
        case nodes.Filter() if node.node is not None:
            return _filter(node, _translate(node.node))
        case nodes.Test():
            return _test(node)
        case nodes.Tuple() | nodes.List():
            return ListOf(tuple(_translate(item) for item in node.items))
        case nodes.Dict():
            return DictOf(tuple((_translate(pair.key), _translate(pair.value)) for pair in node.items))
        case nodes.Not():
            return Not(_translate(node.node))
        case nodes.Neg() | nodes.Pos():
            return Sign(node.operator, _translate(node.node))
        case nodes.And() | nodes.Or():
            return Both(node.operator, _translate(node.left), _translate(node.right))
        case nodes.Compare():
            steps = tuple((_COMPARISONS[operand.op], _translate(operand.expr)) for operand in node.ops)
            return Compare(_translate(node.expr), steps)
        case nodes.Add() | nodes.Sub() | nodes.Mul() | nodes.Div() | nodes.FloorDiv() | nodes.Mod():
            return Calculate(node.operator, _translate(node.left), _translate(node.right))
        case nodes.Concat():
            return Concatenate(tuple(_translate(part) for part in node.nodes))
        case nodes.CondExpr():
            if node.expr2 is None:
                raise _Refused("`a if condition` has no else", "write `a if condition else b`")
            return Choose(_translate(node.test), _translate(node.expr1), _translate(node.expr2))
        case nodes.Call():
            raise _Refused("functions cannot be called", "use a filter: value | keys, value | replace('a', 'b')")
        case nodes.Pow():
            raise _Refused("powers (**) are not supported")
        case nodes.Slice():
            raise _Refused("slices are not supported", "use | first, | last or | split")
        case _:
            raise _Refused(f"`{type(node).__name__.lower()}` is not supported in templates")


def _constant(value: object) -> bool | int | float | str | None:
    match value:
        case None | bool():
            return value
        case int():
            if value.bit_length() > INTEGER_BITS_MAX:
                raise _Refused("an integer is too large", f"at most {INTEGER_BITS_MAX} bits")
            return value
        case float():
            if not math.isfinite(value):
                raise _Refused("a number is too large")
            return value
        case str():
            # Neither can stand in an argument, an environment variable or UTF-8 JSON.
            if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
                raise _Refused("NUL and half surrogate pairs are not text")
            return value
        case _:
            raise _Refused("that constant is not supported")


def _key(node: "nodes.Node") -> Expression:
    key = _translate(node)
    match key:
        case Literal(value=str(value)) if value.startswith("__"):
            raise _Refused(f"`{_clip(value)}` is private: names never begin with __")
        case Literal(value=str() | int()) | Root() | Lookup():
            return key
        case Sign(operator="-", target=Literal(value=int(number))):
            return Literal(-number)
        case _:
            raise _Refused("a key is a text, an integer or a name", "write x['key'], x[0] or x[params.key]")


def _filter(node: "nodes.Filter", target: Expression) -> Expression:
    name = node.name
    known = FILTERS.get(name)
    if known is None:
        guess = Nearest().to(name, FILTERS)
        raise _Refused(
            f"there is no filter `{_clip(name)}`",
            f"did you mean {guess}?" if guess else f"known are {', '.join(sorted(FILTERS))}",
        )
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise _Refused("arguments with * or ** are not supported")
    usage = f"use {name}({', '.join(known.parameters)})" if known.parameters else f"use {name} without arguments"
    arguments: list[Expression | None] = [None] * len(known.parameters)
    if len(node.args) > (0 if known.by_name_only else len(arguments)):
        raise _Refused(f"{name} got too many arguments", known.usage or usage)
    for place, positional in enumerate(node.args):
        arguments[place] = _translate(positional)
    for keyword in node.kwargs:
        if keyword.key not in known.parameters:
            raise _Refused(f"{name} has no argument {_clip(str(keyword.key))}", known.usage or usage)
        place = known.parameters.index(keyword.key)
        if arguments[place] is not None:
            raise _Refused(f"{name} got {keyword.key} twice", known.usage or usage)
        arguments[place] = _translate(keyword.value)
    given = sum(argument is not None for argument in arguments)
    if given < known.required or any(argument is None for argument in arguments[: known.required_in_order]):
        raise _Refused(f"{name} needs an argument", known.usage or usage)
    if known.inspect is not None:
        for argument in arguments:
            if isinstance(argument, Literal):
                try:
                    known.inspect(argument.value)
                except WrongArgument as wrong:
                    raise _Refused(str(wrong), wrong.hint) from None
    return Apply(name, target, tuple(arguments))


def _test(node: "nodes.Test") -> Expression:
    if node.name not in TESTS:
        guess = Nearest().to(node.name, TESTS)
        raise _Refused(
            f"there is no test `is {_clip(node.name)}`",
            f"did you mean {guess}?" if guess else f"known are {', '.join(sorted(TESTS))}",
        )
    if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
        raise _Refused(f"the test {node.name} takes no such arguments")
    if len(node.args) != (1 if node.name == "in" else 0):
        raise _Refused(f"the test {node.name} takes {'one argument' if node.name == 'in' else 'no argument'}")
    argument = _translate(node.args[0]) if node.args else None
    target = _translate(node.node)
    if node.name in ("defined", "undefined") and not isinstance(target, Root | Lookup):
        raise _Refused(f"only a name can be {node.name}", "as in params.region is defined")
    return Is(node.name, target, argument)
