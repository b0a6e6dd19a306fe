"""From the bytes a user wrote to a checked Workflow, and from a Workflow to the bytes that are its identity.

What it promises: whatever the bytes are, the answer is a Workflow or an InvalidInput that lists every problem at once, in
bounded time; a Workflow has every default resolved into its jobs, so `load(canonical(workflow)) == workflow` and a run pinned
to those bytes never changes meaning. Reads everything but templates.
"""

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.errors import InvalidInput, Problem
from shared.workflow import defaults as merging
from shared.workflow import parameters
from shared.workflow.checks import (
    Rest,
    check,
    check_rests,
    check_schedule,
    check_secrets,
    is_reference,
)
from shared.workflow.document import JOBS_MAX, PATH_LENGTH_MAX, AnyJob, Defaults, Job, Workflow
from shared.workflow.graph import Graph, is_usable, name_problem
from shared.workflow.nearest import Nearest
from shared.workflow.notices import check_notices
from shared.workflow.syntax import PROBLEMS_MAX, bounded, parse
from shared.workflow.trigger_checks import check_triggers
from shared.workflow.triggers import TRIGGERS_MAX, AnyTrigger, Trigger
from shared.workflow.waiting import all_problems
from shared.workflow.wording import JOB_MODELS, document_place, problem_of

RESOLVED_MAX = 32 * 1024 * 1024
"""Characters of a document with its defaults written into every job. Ours: four times the largest document."""

ERRORS_MAX = 2_000
"""Errors of the models that are looked at one by one; of more, only as many as are listed."""

Plain = dict[str, Any]


@dataclass(slots=True)
class Examined:
    """What reading came to: a workflow, or problems and as many of its jobs as could be understood."""

    problems: list[Problem]
    workflow: Workflow | None
    jobs: list[AnyJob | None]
    """By position, without the fields that are wrong; None for those of which nothing is understood."""
    graph: Graph
    params: frozenset[str] | None
    """The declared parameters; None when any may be given, or when they cannot be known."""
    nearest: Nearest
    total: int = 0
    """Problems in all, listed or not."""
    moved: dict[int, str] = field(default_factory=dict)
    """Jobs whose `steps` were written elsewhere, and where."""
    triggers: list[AnyTrigger | None] = field(default_factory=list)
    """By position; None for those whose fields are wrong."""


def read(data: bytes, *, name: str = "document") -> Workflow:
    """The workflow that a JSON or YAML text describes; InvalidInput with every problem (its first 100, and how many more)."""
    examined = examine(data, name=name)
    if examined.problems or examined.workflow is None:
        raise InvalidInput(bounded(examined.problems, examined.total))
    return examined.workflow


def examine(data: bytes, *, name: str = "document") -> Examined:
    """Everything `read` finds, without raising for what is wrong with the workflow: a caller may have more to check.
    InvalidInput when the text cannot be read at all."""
    raw = parse(data, name=name)
    nearest = Nearest()
    problems: list[Problem] = []
    written = raw.get("jobs")
    written = written if isinstance(written, list) and len(written) <= JOBS_MAX else []

    defaults, default_problems = _defaults(raw.get("defaults"), nearest)
    problems += default_problems
    problems += _too_much(defaults, len(written))
    if problems and problems[-1].path == "defaults":
        defaults = {}
    resolved, moved, merge_problems = _resolved(written, defaults)
    problems += merge_problems

    document = {key: value for key, value in raw.items() if key != "defaults"}
    if written:
        document["jobs"] = resolved
    workflow, errors, total = _validated(document)
    job_errors = len(problems)
    for error in errors:
        if default_problems and _is_inherited(error["loc"], written, resolved):
            total -= 1
        elif len(problems) <= PROBLEMS_MAX:
            problems.append(problem_of(error, nearest))
    total += job_errors
    jobs: list[AnyJob | None] = list(workflow.jobs) if workflow is not None else [_one(job) for job in resolved]
    rests = {position: rest for position, job in enumerate(jobs) if job is None and (rest := _rest(resolved[position]))}

    before = len(problems)
    if isinstance(raw.get("name"), str) and not is_usable(raw["name"]) and not any(p.path == "name" for p in problems):
        problems.append(name_problem("name", raw["name"], "a workflow"))
    schema = raw.get("parameters")
    params: frozenset[str] | None = frozenset()
    if schema is not None and isinstance(schema, dict):
        schema_problems = parameters.check_schema(schema)
        problems += schema_problems
        params = None if schema_problems else parameters.declared(schema)
    graph = _graph(resolved, nearest)
    told = {problem.path for problem in problems}
    problems += [problem for problem in graph.problems if problem.path not in told]
    problems += check(jobs, graph, nearest)
    problems += check_schedule(workflow) if workflow is not None else ()
    waits = ((position, job.waits_for) for position, job in enumerate(jobs) if job is not None and job.waits_for)
    problems += all_problems(raw.get("waits_for"), waits, raw.get("name"))
    told = {problem.path for problem in problems}
    problems += [one for one in check_rests(rests, graph, nearest) if one.path not in told]
    told = {problem.path for problem in problems}
    problems += [one for one in check_secrets(raw) if one.path not in told]
    told = {problem.path for problem in problems}
    problems += [one for one in check_notices(raw, is_reference) if one.path not in told]
    triggers = _triggers(raw.get("triggers"), workflow)
    told = {problem.path for problem in problems}
    declared = schema if isinstance(schema, dict) else None
    found = check_triggers(triggers, str(raw.get("name")), declared, params, nearest)
    problems += [one for one in found if one.path not in told]
    total += len(problems) - before
    problems = [_moved_back(problem, moved) for problem in problems]
    for position, rest in rests.items():
        # Which jobs are upstream of it cannot be known without its `after`.
        if "after" not in rest.wrong:
            jobs[position] = rest.job
    return Examined(
        problems=problems,
        workflow=workflow if not problems else None,
        jobs=jobs,
        graph=graph,
        params=params,
        nearest=nearest,
        total=max(total, len(problems)),
        moved=moved,
        triggers=triggers,
    )


def canonical(workflow: Workflow) -> bytes:
    """The bytes that stand for a workflow for ever: JSON, sorted, compact, with everything resolved. Their digest is the
    version's identity."""
    plain = workflow.model_dump(mode="json", exclude_none=True)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def load(data: bytes) -> Workflow:
    """The workflow that `canonical` wrote; trusted, so only its shape is checked. InvalidInput if that is not it, as
    for a document that a newer release stored."""
    try:
        return Workflow.model_validate_json(data)
    except ValidationError as error:
        nearest = Nearest()
        problems = [problem_of(one, nearest) for one in error.errors(include_url=False)[: PROBLEMS_MAX + 1]]
        raise InvalidInput(bounded(problems, error.error_count())) from None


# -- steps of reading ---------------------------------------------------------------------------------------------


def _validated(document: Plain) -> tuple[Workflow | None, list[Any], int]:
    # Through JSON, because in JSON pydantic is strict about numbers and texts and still takes lists for tuples.
    text = json.dumps(document, separators=(",", ":"))
    try:
        return Workflow.model_validate_json(text, strict=True), [], 0
    except ValidationError as error:
        total = error.error_count()
        if total <= ERRORS_MAX:
            errors = error.errors(include_url=False)
        else:
            errors = _first_errors(document)
        # The models count only the jobs that are right.
        kept = [one for one in errors if one["loc"] != ("jobs",) or not document.get("jobs")]
        kept = kept or [one for one in errors if one["type"] != "too_short"]
        return None, kept, total - (len(errors) - len(kept))


def _first_errors(document: Plain) -> list[Any]:
    """Enough errors to list, of a document that has more than anybody would read: a million take seconds to name."""
    jobs = document.get("jobs")
    jobs = jobs if isinstance(jobs, list) else []
    head = {**document, "jobs": [{"name": "x", "type": "ecs", "image": "x"}]} if jobs else document
    errors: list[Any] = []
    try:
        Workflow.model_validate_json(json.dumps(head), strict=True)
    except ValidationError as error:
        errors += error.errors(include_url=False)
    for position, job in enumerate(jobs):
        if len(errors) > PROBLEMS_MAX:
            break
        try:
            _job_adapter().validate_json(json.dumps(job), strict=True)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                one["loc"] = ("jobs", position, *one["loc"])
                errors.append(one)
    return errors


@cache
def _job_adapter() -> TypeAdapter[AnyJob]:
    return TypeAdapter(Job)


def _one(job: Any) -> AnyJob | None:
    try:
        return _job_adapter().validate_json(json.dumps(job), strict=True)
    except ValidationError:
        return None


def _triggers(written: Any, workflow: Workflow | None) -> list[AnyTrigger | None]:
    if workflow is not None:
        return list(workflow.triggers or ())
    found: list[AnyTrigger | None] = []
    for one in written[:TRIGGERS_MAX] if isinstance(written, list) else ():
        try:
            found.append(_trigger_adapter().validate_json(json.dumps(one), strict=True))
        except ValidationError:
            found.append(None)
    return found


@cache
def _trigger_adapter() -> TypeAdapter[AnyTrigger]:
    return TypeAdapter(Trigger)


_NEEDED: dict[str, Plain] = {"ecs": {"image": "x"}, "workflow": {"workflow": "x"}}
"""What a job of that type cannot be without."""


def _rest(job: Any) -> Rest | None:
    """What is left of a job without the fields that are wrong, so that what else is wrong is told in the same breath."""
    if not isinstance(job, dict):
        return None
    places: list[tuple[int | str, ...]] = []
    try:
        _job_adapter().validate_json(json.dumps(job), strict=True)
    except ValidationError as error:
        if error.error_count() > PROBLEMS_MAX:
            return None
        places += [one["loc"][1:] for one in error.errors(include_url=False, include_input=False)]
    kept = dict(job)
    wrong: set[str] = set()
    for place in places:
        field = str(place[0]) if place else "type"
        files = kept.get(field)
        if field in ("inputs", "outputs") and isinstance(files, list) and len(place) > 1 and isinstance(place[1], int):
            kept[field] = [*files[: place[1]], _rest_of_file(field, place[1], files), *files[place[1] + 1 :]]
            continue
        wrong.add(field)
        kept.pop(field, None)
    stand_ins = {"name": "x"} | _NEEDED.get(str(job.get("type")), {})
    read = _one(stand_ins | kept)
    return None if read is None else Rest(read, frozenset(wrong))


def _rest_of_file(field: str, place: int, files: list[Any]) -> Plain:
    """A file of which something is wrong: what can be said of its path alone."""
    path = files[place].get("path") if isinstance(files[place], dict) else None
    if not isinstance(path, str) or not path or len(path) > PATH_LENGTH_MAX:
        path = f"{field}-{place}"
    return {"path": path, "content": ""} if field == "inputs" else {"path": path}


def _defaults(raw: Any, nearest: Nearest) -> tuple[Plain, list[Problem]]:
    """The defaults to merge, and what is wrong with them, said once and not once for every job."""
    if raw is None:
        return {}, []
    problems: list[Problem] = []
    try:
        Defaults.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        for one in error.errors(include_url=False)[: PROBLEMS_MAX + 1]:
            one["loc"] = ("defaults", *one["loc"])
            problems.append(problem_of(one, nearest))
    if not isinstance(raw, dict):
        return {}, problems
    plain, more = merging.short_timeouts(raw, "defaults")
    problems += more
    for kind in merging.TYPES:
        table = plain.get(kind)
        if not isinstance(table, dict):
            continue
        for unfit in sorted(merging.NOT_DEFAULTS & table.keys()):
            problems.append(Problem(f"defaults.{kind}.{unfit}", "is for each job to say", "remove it"))
        table = {key: value for key, value in table.items() if key not in merging.NOT_DEFAULTS}
        problems += _wrong_table(kind, table, nearest)
        table, more = merging.short_timeouts(table, f"defaults.{kind}")
        problems += more
        plain = {**plain, kind: table}
    return plain, problems


def _wrong_table(kind: str, table: Plain, nearest: Nearest) -> list[Problem]:
    """What is wrong with the fields themselves; whether they make a whole job is for each job."""
    problems = []
    least: Plain = {"name": "x", "type": kind} | ({"image": "x"} if kind == "ecs" else {})
    try:
        JOB_MODELS[kind].model_validate_json(json.dumps(least | table), strict=True)
    except ValidationError as error:
        for one in error.errors(include_url=False)[: PROBLEMS_MAX + 1]:
            place = one["loc"]
            one["loc"] = ("jobs", 0, kind, *place)
            problem = problem_of(one, nearest)
            problems.append(
                Problem(problem.path.replace("jobs[0]", f"defaults.{kind}", 1), problem.message, problem.hint)
            )
    return problems


def _too_much(defaults: Plain, jobs: int) -> list[Problem]:
    if defaults and jobs * len(json.dumps(defaults)) > RESOLVED_MAX:
        return [
            Problem(
                "defaults",
                f"written into {jobs:,} jobs they have more than {RESOLVED_MAX:,} characters",
                "pass what is so large as a file",
            )
        ]
    return []


def _resolved(written: list[Any], defaults: Plain) -> tuple[list[Any], dict[int, str], list[Problem]]:
    """The jobs with defaults merged in, short forms written out, and a cluster's `Steps` in `steps`."""
    kinds = (*merging.TYPES, *merging.INHERITED)
    by_type = {kind: merging.for_type(defaults, kind) for kind in kinds} if defaults else {}
    resolved: list[Any] = []
    moved: dict[int, str] = {}
    problems: list[Problem] = []
    for position, job in enumerate(written):
        if not isinstance(job, dict):
            resolved.append(job)
            continue
        if "timeout_minutes" in job:
            job, more = merging.short_timeouts(job, f"jobs[{position}]")
            problems += more
        kind = job.get("type")
        if by_type and isinstance(kind, str) and kind in by_type:
            job = merging.merged(job, by_type[kind])
        cluster = job.get("cluster")
        if kind == "emr" and isinstance(cluster, dict) and "Steps" in cluster and not job.get("steps"):
            job = {
                **job,
                "cluster": {key: value for key, value in cluster.items() if key != "Steps"},
                "steps": cluster["Steps"],
            }
            moved[position] = f"jobs[{position}].cluster.Steps"
        resolved.append(job)
    return resolved, moved, problems


def _moved_back(problem: Problem, moved: dict[int, str]) -> Problem:
    for position, place in moved.items() if moved and ".steps" in problem.path else ():
        prefix = f"jobs[{position}].steps"
        if problem.path.startswith(prefix):
            return Problem(place + problem.path[len(prefix) :], problem.message, problem.hint)
    return problem


def _is_inherited(loc: tuple[int | str, ...], written: list[Any], resolved: list[Any]) -> bool:
    """Whether what an error is about came from the defaults, where it has been said already."""
    place = document_place(loc)
    if len(place) < 3 or place[0] != "jobs" or not isinstance(place[1], int):
        return False
    return _stands(resolved[place[1]], place[2:]) and not _stands(written[place[1]], place[2:])


def _stands(value: Any, place: tuple[int | str, ...]) -> bool:
    for part in place:
        if isinstance(value, list):
            value = dict(enumerate(value))
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def _graph(jobs: list[Any], nearest: Nearest) -> Graph:
    names: list[str | None] = []
    after: list[list[tuple[int, str]]] = []
    for job in jobs:
        job = job if isinstance(job, dict) else {}
        name = job.get("name")
        names.append(name if isinstance(name, str) else None)
        before = job.get("after")
        before = before if isinstance(before, list) else []
        after.append([(place, one) for place, one in enumerate(before) if isinstance(one, str)])
    return Graph(names, after, nearest)
