"""`for_each` in a document: the list a job is done for, how many items at once, how many may fail; and what must hold of it.

An item is known by its place in the list, from 0: the same value may stand in it twice. The items of a list are data: templates in
them are not rendered.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from shared.errors import Problem

ITEMS_MAX = 100_000
"""Items of one job. Ours: the largest fan-out that `bench/` proves linear."""

_ITEMS_SCHEMA = {
    "anyOf": [
        {"type": "array", "maxItems": ITEMS_MAX},
        {
            "type": "object",
            "properties": {
                "range": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": ITEMS_MAX}, {"type": "string"}]}
            },
            "required": ["range"],
            "additionalProperties": False,
        },
        {"type": "string"},
    ]
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Tolerate(_Model):
    """How many items may end badly without failing the job. Exactly one of the two."""

    count: int | None = Field(default=None, ge=0, le=ITEMS_MAX)
    """So many items."""
    percent: float | None = Field(default=None, ge=0, le=100)
    """This share of all items, rounded down."""


class ForEach(_Model):
    """The job is done once for each item of a list. Exactly one of `items` and `parameter`."""

    items: Annotated[Any, WithJsonSchema(_ITEMS_SCHEMA)] = None
    """A list; `{"range": 1000}` for the numbers from 0 to 999; or an expression over what earlier jobs left, as
    `{{ jobs.list.outputs.files }}`. The number of a range may be such an expression too."""
    parameter: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """The run's parameter that holds the list."""
    max_parallel: int | None = Field(default=None, ge=1, le=10_000)
    """Items under way at once; the workflow's `parallelism` bounds them all the same."""
    tolerate: Tolerate | None = None
    """How many items may end badly; none when absent."""

    @property
    def template(self) -> str | None:
        """The expression that the items, or their number, come from; None where the document or a parameter tells them."""
        given = self.items.get("range") if isinstance(self.items, dict) else self.items
        return given if isinstance(given, str) else None

    def tolerated(self, count: int) -> int:
        """How many of so many items may end badly."""
        if self.tolerate is None:
            return 0
        if self.tolerate.count is not None:
            return self.tolerate.count
        return int(count * (self.tolerate.percent or 0.0) // 100)


def check_for_each(for_each: ForEach, path: str) -> Iterator[Problem]:
    """Everything wrong with it that can be told from itself alone; templates are read elsewhere."""
    if (for_each.items is None) == (for_each.parameter is None):
        what = "has both `items` and `parameter`" if for_each.parameter is not None else "does not say for each of what"
        yield Problem(path, what, "give `items` (a list, a range or an expression) or `parameter`")
    elif for_each.items is not None:
        yield from _check_items(for_each.items, f"{path}.items")
    tolerate = for_each.tolerate
    if tolerate is not None and (tolerate.count is None) == (tolerate.percent is None):
        yield Problem(f"{path}.tolerate", "needs either `count` or `percent`", 'such as {"count": 3}')


def _check_items(items: Any, path: str) -> Iterator[Problem]:
    match items:
        case list() | tuple():
            if len(items) > ITEMS_MAX:
                yield Problem(
                    path, f"has {len(items):,} items; at most {ITEMS_MAX:,} are taken", "do several in one item"
                )
        case {"range": str(text), **others} if not others:
            yield from _check_expression(text, f"{path}.range")
        case {"range": int(number), **others} if not others and not isinstance(number, bool):
            if not 0 <= number <= ITEMS_MAX:
                yield Problem(f"{path}.range", f"is {number:,}; it must be from 0 to {ITEMS_MAX:,}", "")
        case str():
            yield from _check_expression(items, path)
        case _:
            hint = 'write a list, {"range": 1000}, or an expression such as "{{ jobs.list.outputs.files }}"'
            yield Problem(path, "is neither a list, nor a range, nor an expression", hint)


def _check_expression(text: str, path: str) -> Iterator[Problem]:
    if not (text.startswith("{{") and text.endswith("}}")):
        yield Problem(path, "is a text and no expression", "put it in braces: {{ jobs.list.outputs.files }}")


def json_bytes(value: Any) -> int:
    """The size of a value as an event holds it."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
