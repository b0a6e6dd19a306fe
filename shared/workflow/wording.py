"""What the models refuse, in the words of the document: each of pydantic's errors becomes a Problem.

What it promises: a path as the user would write it, what is wrong, what would be right; never a value from `secrets`,
`environment` or a job's own content.
"""

from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from shared.errors import Problem
from shared.ids import NAME_PATTERN
from shared.workflow.defaults import TYPES
from shared.workflow.document import ApprovalJob, EcsJob, EmrJob, SsmJob, Workflow, WorkflowJob
from shared.workflow.graph import NAME_RULE, name_problem
from shared.workflow.nearest import Nearest, listed, shown
from shared.workflow.syntax import path_of
from shared.workflow.triggers import TRIGGER_MODELS

JOB_MODELS: dict[str, type[BaseModel]] = {
    "ecs": EcsJob,
    "emr": EmrJob,
    "ssm": SsmJob,
    "workflow": WorkflowJob,
    "approval": ApprovalJob,
}
_PRIVATE = frozenset(("secrets", "environment", "content", "parameters", "cluster"))

# What people who come from other systems write first.
_ELSEWHERE = {
    "depends_on": "after",
    "dependencies": "after",
    "needs": "after",
    "requires": "after",
    "upstream": "after",
    "id": "name",
    "cmd": "command",
    "env": "environment",
    "envs": "environment",
    "retries": "retry",
    "max_attempts": "retry",
    "timeout": "timeout_minutes",
    "timeout_seconds": "timeout_minutes",
    "trigger_rule": "when",
    "if": "when",
    "condition": "when",
    "docker_image": "image",
    "container": "image",
    "entrypoint": "entry_point",
    "workdir": "working_directory",
    "cwd": "working_directory",
    "user": "run_as",
    "tasks": "jobs",
    "steps": "jobs",
    "params": "parameters",
    "concurrency": "parallelism",
    "max_parallel": "parallelism",
    "cron": "schedule",
    "max_active": "max_active_runs",
}

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "tuple_type": "a list",
    "list_type": "a list",
}


def problem_of(error: ErrorDetails, nearest: Nearest) -> Problem:
    """The Problem that an error is, under its path in the document."""
    loc = error["loc"]
    parts = document_place(loc)
    kind = error["type"]
    context = error.get("ctx", {})
    value = error.get("input")
    path = path_of(parts)
    last = parts[-1] if parts else ""
    private = not _PRIVATE.isdisjoint(part for part in parts if isinstance(part, str))
    match kind:
        case "extra_forbidden":
            return _unknown_field(path, str(last), loc, nearest)
        case "missing":
            return Problem(path, "is missing", f"{_article(_models_at(loc[:-1]))} needs `{last}`")
        case "union_tag_not_found" | "union_tag_invalid" if parts[:1] == ("triggers",):
            tag = str(context.get("tag", ""))
            hint = "write s3, event, queue, webhook or workflow"
            if kind == "union_tag_not_found":
                return Problem(f"{path}.type", "is missing", hint)
            hint = nearest.hint(tag, sorted(TRIGGER_MODELS), hint)
            return Problem(f"{path}.type", f"`{shown(tag)}` is not a type of trigger", hint)
        case "union_tag_not_found":
            return Problem(f"{path}.type", "is missing", "write ecs, emr or ssm")
        case "union_tag_invalid":
            tag = str(context.get("tag", ""))
            return Problem(
                f"{path}.type",
                f"`{shown(tag)}` is not a type of job",
                nearest.hint(tag, TYPES, "write ecs, emr or ssm"),
            )
        case "literal_error" if not private:
            allowed = [str(choice) for choice in _choices(loc)] or [str(context.get("expected", ""))]
            return Problem(
                path,
                f"`{shown(value)}` is not one of {listed(allowed)}",
                nearest.hint(value, allowed) if isinstance(value, str) else "",
            )
        case "string_too_long" if last == "name" and len(parts) in (1, 3) and isinstance(value, str):
            return name_problem(path, value, _named(parts))
        case "string_pattern_mismatch" if context.get("pattern") == NAME_PATTERN and isinstance(value, str):
            return name_problem(path, value, _named(parts))
        case "string_pattern_mismatch":
            return _wrong_pattern(path, parts, str(context.get("pattern", "")))
        case "value_error" | "assertion_error" | "schedule" | "notices":
            message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            return Problem(path, message)
    if kind in _KINDS:
        hint = ""
        if value is None:
            hint = "leave the field out to have its default"
        elif kind == "tuple_type" and isinstance(value, str) and not private:
            hint = f'write ["{shown(value)}"]'
        elif last == "doubt" and isinstance(value, str):
            hint = 'write {"policy": "wait"}, or assume_lost or ask for wait'
        elif kind == "string_type" and isinstance(value, bool | int | float):
            hint = "put it in quotes" if private else f'put it in quotes: "{shown(value)}"'
        return Problem(path, f"must be {_KINDS[kind]}", hint)
    if kind in ("string_too_long", "too_long"):
        what = "characters" if kind == "string_too_long" else "entries"
        return Problem(path, f"has more than {context.get('max_length', 0):,} {what}")
    if kind in ("string_too_short", "too_short"):
        return Problem(
            path, "is empty", "write at least one" if kind == "too_short" else "write a value or leave it out"
        )
    return Problem(path, error["msg"].replace("Input should be", "must be").replace("Input should", "must"))


def document_place(loc: tuple[int | str, ...]) -> tuple[str | int, ...]:
    """The place in the document of the place in the models, which also names the type of job and marks keys."""
    parts = list(loc)
    if len(parts) > 2 and parts[0] == "jobs" and parts[2] in TYPES:
        del parts[2]
    if len(parts) > 2 and parts[0] == "triggers" and parts[2] in TRIGGER_MODELS:
        del parts[2]
    return tuple(part for part in parts if part != "[key]")


def _named(parts: tuple[str | int, ...]) -> str:
    if parts == ("name",) or parts[-1] == "workflow":
        return "a workflow"
    return "a trigger" if parts[0] == "triggers" else "a job"


def _wrong_pattern(path: str, parts: tuple[str | int, ...], pattern: str) -> Problem:
    last = parts[-1] if parts else ""
    if len(parts) > 1 and parts[-2] in ("environment", "secrets"):
        return Problem(
            path, "is not the name of an environment variable", "letters, digits and `_`, not beginning with a digit"
        )
    rules = {
        "url": "it begins with http://, https:// or file://",
        "s3": "it looks like s3://bucket/key",
        "sha256": "64 hexadecimal digits in lower case",
        "email": "an address such as team@example.com",
        "sns": "the ARN of a topic: arn:aws:sns:REGION:ACCOUNT:NAME",
        "webhook": "it begins with https:// or http://, without a password",
        "run_as": "the name of a user: lower-case letters, digits, `_` and `-`",
    }
    if pattern == NAME_PATTERN:
        return Problem(path, "is not a name", NAME_RULE)
    return Problem(path, "is not written as it must be", rules.get(str(last), f"it matches {pattern}"))


def _unknown_field(path: str, field: str, loc: tuple[int | str, ...], nearest: Nearest) -> Problem:
    models = _models_at(loc[:-1])
    fields = {name for model in models for name in model.model_fields}
    what = _article(models)
    message = f"`{shown(field)}` is not a field of {what}"
    elsewhere = _ELSEWHERE.get(field.casefold().replace("-", "_"))
    if elsewhere in fields:
        return Problem(path, message, f"did you mean `{elsewhere}`?")
    for kind, model in JOB_MODELS.items():
        if models and models[0] in JOB_MODELS.values() and field in model.model_fields:
            return Problem(path, message, f"it is one of {kind} jobs")
    near = nearest.to(field, sorted(fields))
    return Problem(path, message, f"did you mean `{near}`?" if near else f"it has {listed(sorted(fields), 40)}")


_NOUNS = {
    "ClassRetry": "a class of failures in `retry`",
    "Workflow": "a workflow",
    "EcsJob": "an ecs job",
    "EmrJob": "an emr job",
    "SsmJob": "an ssm job",
    "S3Trigger": "an s3 trigger",
    "EventTrigger": "an event trigger",
    "QueueTrigger": "a queue trigger",
    "WebhookTrigger": "a webhook trigger",
    "WorkflowTrigger": "a workflow trigger",
    "WorkflowJob": "a job of type workflow",
    "ApprovalJob": "an approval",
}


def _article(models: tuple[type[BaseModel], ...]) -> str:
    if not models:
        return "this"
    name = models[0].__name__
    if name in _NOUNS:
        return _NOUNS[name]
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return f"`{words}`"


@lru_cache(maxsize=512)
def _models_of(model: type[BaseModel], field: str) -> tuple[type[BaseModel], ...]:
    return _models_in(model.model_fields[field].annotation)


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in _models_in(part))


def _models_at(loc: tuple[int | str, ...]) -> tuple[type[BaseModel], ...]:
    """The models that may stand at a place."""
    models: tuple[type[BaseModel], ...] = (Workflow,)
    for part in loc:
        if isinstance(part, int):
            continue
        if part in JOB_MODELS and any(model in JOB_MODELS.values() for model in models):
            models = (JOB_MODELS[part],)
            continue
        if part in TRIGGER_MODELS and any(model in TRIGGER_MODELS.values() for model in models):
            models = (TRIGGER_MODELS[part],)
            continue
        models = tuple(below for model in models if part in model.model_fields for below in _models_of(model, part))
    return models


def _choices(loc: tuple[int | str, ...]) -> tuple[Any, ...]:
    while loc and isinstance(loc[-1], int):
        # One entry of a list of words.
        loc = loc[:-1]
    for model in _models_at(loc[:-1]):
        field = model.model_fields.get(str(loc[-1]))
        if field is not None:
            return _literals(field.annotation)
    return ()


def _literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(choice for part in get_args(annotation) for choice in _literals(part))
