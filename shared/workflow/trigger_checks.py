"""What the triggers of a document must hold beyond the shape of their fields, and which patterns are taken.

What it promises: each rule says where, what, and what would be right; checking is linear in the document. Templates are not read here
(`shared/usecases/documents.py` does), and that triggers of several workflows form no ring is seen at registration.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.errors import Problem
from shared.workflow.checks import REFERENCE_FORMS, is_reference
from shared.workflow.nearest import Nearest, listed, shown
from shared.workflow.triggers import AnyTrigger, EventTrigger, QueueTrigger, WebhookTrigger, WorkflowTrigger

PATTERN_DEPTH_MAX = 16
"""Objects inside each other in a pattern. Ours."""
PATTERN_PARTS_MAX = 500
"""Values and rules in a pattern. Ours: matching costs no more than that for each event."""
RULES = ("prefix", "suffix", "anything-but", "equals-ignore-case", "numeric", "exists")
"""What may stand in a pattern instead of a value."""
_COMPARISONS = ("<", "<=", "=", ">", ">=")


def check_triggers(
    triggers: Sequence[AnyTrigger | None],
    workflow: str,
    schema: Mapping[str, Any] | None,
    params: frozenset[str] | None,
    nearest: Nearest,
) -> Iterator[Problem]:
    """Everything wrong with the triggers but for their templates; None stands for one whose fields are wrong already. `params`: the
    declared parameters, None when any may be given."""
    seen: dict[str, int] = {}
    for place, trigger in enumerate(triggers):
        if trigger is None:
            continue
        path = f"triggers[{place}]"
        first = seen.setdefault(trigger.name.casefold(), place)
        if first != place:
            yield Problem(
                f"{path}.name", f"`{shown(trigger.name)}` is the name of triggers[{first}] too", "use another"
            )
        for name in trigger.parameters:
            if params is not None and name not in params:
                yield Problem(
                    f"{path}.parameters.{shown(name)}",
                    "is not a parameter of this workflow",
                    nearest.hint(name, sorted(params), "declare it under `parameters`"),
                )
        for name in _needed(schema):
            if name not in trigger.parameters:
                hint = "map it from the event, or give it a default"
                yield Problem(f"{path}.parameters", f"`{shown(name)}` is required and not given", hint)
        if isinstance(trigger, EventTrigger | QueueTrigger):
            yield from check_pattern(trigger.pattern, f"{path}.pattern", nearest)
        if isinstance(trigger, WebhookTrigger) and not is_reference(trigger.secret):
            # The text may be the secret itself: it must not reach a log.
            yield Problem(
                f"{path}.secret",
                "is not a reference; if it is the secret itself, change that secret now",
                REFERENCE_FORMS,
            )
        if isinstance(trigger, WorkflowTrigger) and trigger.workflow == workflow:
            yield Problem(f"{path}.workflow", "is this workflow itself, which would never come to an end", "remove it")


def _needed(schema: Mapping[str, Any] | None) -> list[str]:
    if not isinstance(schema, Mapping):
        return []
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    return [
        name
        for name in (required if isinstance(required, list | tuple) else ())
        if isinstance(name, str) and not (isinstance(properties.get(name), Mapping) and "default" in properties[name])
    ]


# --- patterns ---------------------------------------------------------------------------------------------------------


def check_pattern(pattern: Mapping[str, Any], path: str, nearest: Nearest) -> Iterator[Problem]:
    """Everything that is not in our part of EventBridge's pattern language."""
    parts = 0
    waiting: list[tuple[Any, str, int]] = [(pattern, path, 1)]
    while waiting:
        value, place, depth = waiting.pop(0)
        if depth > PATTERN_DEPTH_MAX:
            yield Problem(place, f"is nested more than {PATTERN_DEPTH_MAX} deep", "flatten it")
            return
        match value:
            case Mapping() if not value:
                yield Problem(place, "is empty, and would fit nothing", "name a field, or remove it")
            case Mapping():
                for name, below in value.items():
                    here = f"{place}.{shown(name)}"
                    if name.startswith("$"):
                        yield Problem(here, "is not taken here", "write two triggers for two alternatives")
                    else:
                        waiting.append((below, here, depth + 1))
            case list() if not value:
                yield Problem(place, "is empty, and would fit nothing", 'write ["value"]')
            case list():
                parts += len(value)
                if parts > PATTERN_PARTS_MAX:
                    yield Problem(path, f"has more than {PATTERN_PARTS_MAX} values", "write less, or several triggers")
                    return
                for number, one in enumerate(value):
                    yield from _check_rule(one, f"{place}[{number}]", nearest)
            case _:
                yield Problem(place, "must be a list, or an object of lists", f'write ["{shown(value)}"]')


def _check_rule(rule: Any, place: str, nearest: Nearest) -> Iterator[Problem]:
    if not isinstance(rule, Mapping):
        if isinstance(rule, list):
            yield Problem(place, "must be a value or a rule, not a list")
        return
    if len(rule) != 1:
        yield Problem(place, "must have one rule", f"it is one of {listed(RULES)}")
        return
    ((name, given),) = rule.items()
    here = f"{place}.{shown(name)}"
    match name:
        case "prefix" | "suffix" | "equals-ignore-case":
            if not isinstance(given, str) or not given:
                yield Problem(here, "must be a text")
        case "anything-but":
            values = given if isinstance(given, list) else [given]
            if isinstance(given, Mapping):
                if len(given) != 1 or not all(
                    key in ("prefix", "suffix") and isinstance(text, str) and text for key, text in given.items()
                ):
                    yield Problem(here, "must be values, or one `prefix` or `suffix`")
            elif not values or any(isinstance(one, list | Mapping) for one in values):
                yield Problem(here, "must be values, or one `prefix` or `suffix`")
        case "exists":
            if not isinstance(given, bool):
                yield Problem(here, "must be true or false")
        case "numeric":
            if not _is_numeric_rule(given):
                yield Problem(here, "must be one or two comparisons", 'write [">", 0] or [">=", 0, "<", 10]')
        case _:
            yield Problem(
                here, "is not a rule that is known here", nearest.hint(name, RULES, f"it is one of {listed(RULES)}")
            )


def _is_numeric_rule(given: Any) -> bool:
    if not isinstance(given, list) or len(given) not in (2, 4):
        return False
    return all(
        sign in _COMPARISONS and isinstance(number, int | float) and not isinstance(number, bool)
        for sign, number in zip(given[::2], given[1::2], strict=True)
    )
