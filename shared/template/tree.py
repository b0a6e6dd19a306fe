"""The sub-language that templates are written in, as a tree.

What has no class here cannot be evaluated: there are no calls, no loops, no assignments, and a lookup finds only
items of mappings and lists, never attributes of Python objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Root:
    """A name that the context answers: `run`, `params`, `jobs` …"""

    name: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """`target.key` or `target[key]`; both mean the item."""

    target: "Expression"
    key: "Expression"


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    pairs: tuple[tuple["Expression", "Expression"], ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """A filter. `arguments` are already in the order of its parameters; None stands for one left out."""

    filter: str
    target: "Expression"
    arguments: tuple["Expression | None", ...]


@dataclass(frozen=True, slots=True)
class Is:
    """`target is test`; only the test `in` has an argument."""

    test: str
    target: "Expression"
    argument: "Expression | None"


@dataclass(frozen=True, slots=True)
class Not:
    target: "Expression"


@dataclass(frozen=True, slots=True)
class Sign:
    operator: str
    target: "Expression"


@dataclass(frozen=True, slots=True)
class Both:
    """`left and right`, `left or right`: like in Python, the value of the operand that decided."""

    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Compare:
    left: "Expression"
    steps: tuple[tuple[str, "Expression"], ...]


@dataclass(frozen=True, slots=True)
class Calculate:
    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Concatenate:
    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Choose:
    test: "Expression"
    then: "Expression"
    otherwise: "Expression"


Expression = (
    Literal
    | Root
    | Lookup
    | ListOf
    | DictOf
    | Apply
    | Is
    | Not
    | Sign
    | Both
    | Compare
    | Calculate
    | Concatenate
    | Choose
)


def children(node: Expression) -> Iterator[Expression]:
    """The operands of a node, from left to right."""
    match node:
        case Literal() | Root():
            return
        case Lookup(target=target, key=key):
            yield target
            yield key
        case ListOf(items=items) | Concatenate(parts=items):
            yield from items
        case DictOf(pairs=pairs):
            for key, value in pairs:
                yield key
                yield value
        case Apply(target=target, arguments=arguments):
            yield target
            yield from (argument for argument in arguments if argument is not None)
        case Is(target=target, argument=argument):
            yield target
            if argument is not None:
                yield argument
        case Not(target=target) | Sign(target=target):
            yield target
        case Both(left=left, right=right) | Calculate(left=left, right=right):
            yield left
            yield right
        case Compare(left=left, steps=steps):
            yield left
            yield from (right for _, right in steps)
        case Choose(test=test, then=then, otherwise=otherwise):
            yield test
            yield then
            yield otherwise


def constant_path(node: Expression) -> tuple[str, tuple[str | int, ...], bool] | None:
    """`jobs.extract.outputs.rows` as its root, its keys as far as they are constants, and whether those are all.

    None when the node is not a name with lookups behind it.
    """
    keys: list[str | int | None] = []
    while isinstance(node, Lookup):
        key = node.key
        known = isinstance(key, Literal) and isinstance(key.value, str | int)
        keys.append(key.value if known else None)  # type: ignore[union-attr, arg-type]
        node = node.target
    if not isinstance(node, Root):
        return None
    keys.reverse()
    constant: list[str | int] = []
    for part in keys:
        if part is None:
            return node.name, tuple(constant), False
        constant.append(part)
    return node.name, tuple(constant), True


def written(root: str, keys: tuple[str | int, ...] | list[str | int]) -> str:
    """A path as an author writes it: `jobs['my-job'].outputs.rows`."""
    text = root
    for key in keys:
        if isinstance(key, str) and key.isidentifier() and not key.startswith("_"):
            text += f".{key}"
        elif isinstance(key, str):
            text += f"['{key}']" if "'" not in key and "\\" not in key else f"[{key!r}]"
        else:
            text += f"[{key}]"
    return text
