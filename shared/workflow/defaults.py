"""A document's `defaults`, merged into its jobs before the models see them, so that what is stored needs no `defaults`.

What it promises: what a job says itself wins; `retry`, `timeouts`, `environment` and `secrets` are merged key by key; everything
else is taken whole. Of fields that exclude each other (`host`, `hosts`, `tag`) a job that has one inherits none. Works on
plain values and leaves what is malformed to the models, which say what is wrong with it.
"""

from typing import Any

from shared.errors import Problem

TYPES = ("ecs", "emr", "ssm")
INHERITED = {"workflow": frozenset(("retry", "priority")), "approval": frozenset(("priority",))}
"""Types that are no work of their own, and what they get of the defaults: how long a program may take says nothing of a whole run, or
of a person's decision."""
MERGED = frozenset(("retry", "timeouts", "environment", "secrets"))
NOT_DEFAULTS = frozenset(("name", "type", "after"))
"""Fields of a job that make it the job it is."""
EXCLUSIVE = (
    frozenset(("host", "hosts", "tag")),
    frozenset(("script", "commands")),
    frozenset(("cluster", "cluster_id")),
)

Plain = dict[str, Any]


def short_timeouts(holder: Plain, path: str) -> tuple[Plain, list[Problem]]:
    """`timeout_minutes` written as what it is short for, `timeouts.run_minutes`."""
    if "timeout_minutes" not in holder:
        return holder, []
    timeouts = holder.get("timeouts", {})
    if not isinstance(timeouts, dict) or holder["timeout_minutes"] is None:
        return holder, []
    minutes = holder["timeout_minutes"]
    problems = []
    if timeouts.get("run_minutes", minutes) != minutes:
        problems.append(
            Problem(
                f"{path}.timeout_minutes",
                "is another number than timeouts.run_minutes, for which it is short",
                "keep one of them",
            )
        )
    plain = {key: value for key, value in holder.items() if key != "timeout_minutes"}
    plain["timeouts"] = {"run_minutes": minutes, **timeouts}
    return plain, problems


def for_type(defaults: Plain, kind: str) -> Plain:
    """The fields that a job of this type gets: its type's table over what is for all jobs."""
    general = {key: value for key, value in defaults.items() if key not in TYPES}
    if kind in INHERITED:
        return {key: value for key, value in general.items() if key in INHERITED[kind]}
    table = defaults.get(kind)
    return merged(table, general) if isinstance(table, dict) else general


def merged(own: Plain, inherited: Plain) -> Plain:
    """One set of fields over another."""
    result = dict(own)
    excluded = {field for group in EXCLUSIVE if not group.isdisjoint(own) for field in group}
    for field, value in inherited.items():
        if field not in own:
            if field not in excluded:
                result[field] = value
        elif field in MERGED and isinstance(value, dict) and isinstance(own[field], dict):
            result[field] = _key_by_key(own[field], value)
    # A variable that a job sets itself is no longer the default's secret, nor the other way round.
    for field, other in (("environment", "secrets"), ("secrets", "environment")):
        mine, theirs = own.get(field), result.get(other)
        if isinstance(mine, dict) and isinstance(theirs, dict) and not mine.keys().isdisjoint(theirs):
            kept = own.get(other) if isinstance(own.get(other), dict) else {}
            result[other] = {
                name: value for name, value in theirs.items() if name not in mine or (kept and name in kept)
            }
    return result


def _key_by_key(own: Plain, inherited: Plain) -> Plain:
    result = {**inherited, **own}
    for key, value in own.items():
        below = inherited.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = {**below, **value}
    return result
