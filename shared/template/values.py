"""The values that templates work on: JSON and aware times. How large they are, how they are written, what they are called.

Nothing here runs code of the values themselves beyond plain mapping and sequence access, and everything is charged
to a `Work`, so no value can make rendering slow or large.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.template.bounds import INTEGER_BITS_MAX, RENDERED_LENGTH_MAX, VALUE_DEPTH_MAX, VALUE_SIZE_MAX, WORK_MAX

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


ITEM_WORK = 8
"""What handling one item of a list costs, in characters looked at, as measured."""


class LazyList(Sequence[Any]):
    """A list whose items are made when they are looked at."""

    def __init__(self, count: int, item: Callable[[int], Any]) -> None:
        self._count = count
        self._item = item

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._item(one) for one in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._item(index % self._count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | tuple | LazyList) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self._count)


class Unusable(Exception):
    """A value does not fit what is asked of it. The message never quotes the value: it may be a secret."""


class Missing(Unusable):
    """Something that was looked up is not there; the filter `default` answers it."""

    def __init__(self, message: str, suggest: Callable[[], str] = str) -> None:
        super().__init__(message)
        # Searched for only when the message is shown: what `default` answers must not cost a search.
        self._suggest = suggest

    def __str__(self) -> str:
        return super().__str__() + self._suggest()


class Work:
    """What is left of the work that one call may do."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = WORK_MAX

    def spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise Unusable(f"the templates work on more than {WORK_MAX} characters and elements")


def kind(value: object) -> str:
    """What to call a value when talking to its author."""
    match value:
        case None:
            return "none"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case datetime():
            return "a time"
        case list() | tuple() | LazyList():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return f"a {type(value).__name__}"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def spend_on(value: object, work: Work) -> None:
    """Charge for looking at all of a value."""
    if isinstance(value, str):
        work.spend(len(value))
        return
    waiting = [value]
    while waiting:
        part = waiting.pop()
        match part:
            case str():
                work.spend(len(part) + 2)
            case Mapping():
                work.spend(2 * len(part) + 2)
                for key, item in part.items():
                    waiting.append(key)
                    waiting.append(item)
            case list() | tuple() | LazyList():
                work.spend(len(part) + 2)
                waiting.extend(part)
            case _:
                work.spend(2)


def bounded(value: object) -> object:
    """The value, if it is not larger than what any step may make."""
    match value:
        case str() if len(value) > RENDERED_LENGTH_MAX:
            raise Unusable(f"the text becomes longer than {RENDERED_LENGTH_MAX} characters")
        case int() if value.bit_length() > INTEGER_BITS_MAX:
            raise Unusable(f"an integer becomes larger than {INTEGER_BITS_MAX} bits")
        case float() if not math.isfinite(value):
            raise Unusable("a number becomes too large")
        case _:
            return value


def as_json(value: object, work: Work) -> Json:
    """A copy of a value as JSON: times as ISO-8601 text with their offset, tuples as lists."""
    size = 0

    def copy(part: object, depth: int) -> Json:
        nonlocal size
        if depth > VALUE_DEPTH_MAX:
            raise Unusable(f"the value is nested more than {VALUE_DEPTH_MAX} deep")
        size += len(part) + 2 if isinstance(part, str) else 2
        if size > VALUE_SIZE_MAX:
            raise Unusable(f"the value is larger than {VALUE_SIZE_MAX} bytes as JSON")
        match part:
            case None | bool():
                return part
            case str():
                return part
            case int() | float():
                bounded(part)
                return part
            case datetime():
                return iso(part)
            case list() | tuple() | LazyList():
                return [copy(item, depth + 1) for item in part]
            case Mapping():
                copied: dict[str, Json] = {}
                # Persistent maps come in an order that changes with each process; a rendering must not.
                for key in part if isinstance(part, dict) else sorted(part, key=str):
                    if not isinstance(key, str):
                        raise Unusable("the keys of a mapping must be texts")
                    size += len(key) + 2
                    copied[key] = copy(part[key], depth + 1)
                return copied
            case _:
                raise Unusable(f"{kind(part)} is not JSON")

    copied = copy(value, 0)
    work.spend(size)
    if isinstance(copied, str) and len(copied) > RENDERED_LENGTH_MAX:
        raise Unusable(f"the text becomes longer than {RENDERED_LENGTH_MAX} characters")
    return copied


def as_text(value: object, work: Work) -> str:
    """A value as it stands in a command argument."""
    match value:
        case str():
            text = value
        case None:
            raise Unusable("it is none, which has no text: add | default('…')")
        case bool():
            text = "true" if value else "false"
        case int():
            bounded(value)
            text = str(value)
        case float():
            bounded(value)
            text = repr(value)
        case datetime():
            text = iso(value)
        case _:
            text = json_text(value, work)
    bounded(text)
    work.spend(len(text))
    return text


def json_text(value: object, work: Work) -> str:
    """Compact JSON with sorted keys, so that equal values give equal text."""
    return json.dumps(as_json(value, work), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def iso(at: datetime) -> str:
    if at.tzinfo is None:
        raise Unusable("a time without a time zone")
    return at.isoformat()
