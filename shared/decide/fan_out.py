"""The rules of `for_each`: what a job expands to, when all its items have ended how the job has, and what later jobs see of them.

What it promises: the list is what the run had when the job began, whatever happens later; what is not a list, or too long or too large, is
refused with the reason; joining looks at counts, not at items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared import template
from shared.decide.outputs import unfit
from shared.errors import Rejected, TemplateError
from shared.ids import JobName, item_name
from shared.state.fan import BAD_ITEMS, Fan
from shared.state.run import JobState
from shared.template.values import LazyList
from shared.workflow.fan_out import ITEMS_MAX, ForEach, json_bytes

ITEMS_BYTES_MAX = 64_000
"""Of a list that a run pins in its history. The document itself may hold more, for it is pinned as a whole; a range takes nothing."""
GATHERED_BYTES_MAX = 4_000_000
"""Of the outputs of all items together, which later jobs see as one list: each item has its share of it. A template passes on no more."""


@dataclass(frozen=True, slots=True)
class Expansion:
    count: int
    items: list[Any] | None
    """None: the document's list, or the numbers of a range."""


def expansion(for_each: ForEach, parameters: Mapping[str, Any], context: Mapping[str, Any]) -> Expansion:
    """For each of what. Raises `Rejected` with the reason when that is no list, or too long, or too large."""
    if for_each.parameter is not None:
        if for_each.parameter not in parameters:
            raise Rejected(f"the run has no parameter {for_each.parameter}")
        return _pinned(parameters[for_each.parameter], f"the parameter {for_each.parameter}")
    text, given = for_each.template, for_each.items
    if text is not None:
        try:
            value = template.render(text, context)
        except TemplateError as error:
            raise Rejected(f"`for_each` cannot be evaluated: {error}") from error
        return _pinned(value, text) if given is text else _of_range(value, text)
    if isinstance(given, dict):
        return _of_range(given.get("range"), "the range")
    return Expansion(_fitting(len(given), "the document's list"), None)


def _pinned(value: Any, what: str) -> Expansion:
    if not isinstance(value, list | tuple):
        raise Rejected(f"`for_each` needs a list, and {what} is {_kind(value)}")
    items = list(value)
    _fitting(len(items), what)
    if wrong := unfit({"items": items}):
        raise Rejected(f"`for_each`: {wrong}")
    size = json_bytes(items)
    if size > ITEMS_BYTES_MAX:
        raise Rejected(
            f"{what} takes {size:,} bytes, and at most {ITEMS_BYTES_MAX:,} are kept with a run: give a range, and let each item look up "
            "its own by its index"
        )
    return Expansion(len(items), items)


def _of_range(value: Any, what: str) -> Expansion:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Rejected(f"a range needs a number from 0 to {ITEMS_MAX:,}, and {what} is {_kind(value)}")
    return Expansion(_fitting(value, what), None)


def _fitting(count: int, what: str) -> int:
    if count > ITEMS_MAX:
        raise Rejected(f"{what} has {count:,} items, and at most {ITEMS_MAX:,} are taken: do several in one item")
    return count


def _kind(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true or false"
        case int() | float():
            # Not a secret: it says how many there are.
            return f"the number {value}"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def share_of(fan: Fan) -> int:
    """Bytes of outputs that one item may leave."""
    return GATHERED_BYTES_MAX // max(fan.count, 1)


def joined(fan: Fan, *, cancelling: bool) -> tuple[Literal["succeeded", "failed", "cancelled"], str]:
    """How a job has ended of which every item has, and why."""
    if fan.bad <= fan.tolerated:
        return "succeeded", ""
    tally = fan.outcomes
    told = ", ".join(f"{tally[outcome]:,} {outcome.replace('_', ' ')}" for outcome in BAD_ITEMS if tally.get(outcome))
    reason = f"of {fan.count:,} items {told}"
    if fan.tolerated:
        reason += f"; at most {fan.tolerated:,} may end badly"
    only_cancelled = fan.bad == tally.get("cancelled", 0)
    return ("cancelled" if only_cancelled and (cancelling or fan.cancel is not None) else "failed"), reason


def gathered(job: JobName, count: int, find: Callable[[JobName], JobState | None]) -> LazyList:
    """What the items of a job left, in the order of the list; None for one that left nothing. One item, or their number, costs no more
    than that."""

    def outputs(index: int) -> Any:
        state = find(item_name(job, index))
        return dict(state.outputs) if state is not None and state.outputs is not None else None

    return LazyList(count, outputs)
