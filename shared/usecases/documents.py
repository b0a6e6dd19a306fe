"""A document on its way in: read, with its templates checked as well; and what two versions of one differ in.

What it promises: `read_document` answers with a Workflow that can be registered, or with every problem at once.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from pydantic import BaseModel

from shared import template
from shared.errors import InvalidInput, Problem
from shared.usecases.rendering import TEMPLATED
from shared.workflow.calendar import Calendar, read_calendar
from shared.workflow.checks import WHEN_KEYWORDS, ssm_reference
from shared.workflow.document import AnyJob, SsmJob, Workflow
from shared.workflow.fan_out import ForEach
from shared.workflow.nearest import shown
from shared.workflow.reading import Examined, examine
from shared.workflow.syntax import PROBLEMS_MAX, bounded
from shared.workflow.waiting import WaitFor

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DETAIL_LENGTH_MAX = 80
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_HIDDEN = frozenset(("environment", "secrets"))


def read_document(data: bytes, *, name: str) -> Workflow:
    """The workflow in a JSON or YAML text, with structure, graph, schedule and templates checked.

    `name` is the file's name, whose ending says which it is. Raises InvalidInput with every problem, 100 at most and how
    many more there are.
    """
    examined = examine(data, name=name)
    problems = list(examined.problems)
    # Templates of thousands of jobs may be wrong in the same way; reading stops when there is more than is listed.
    found = list(islice(_template_problems(examined), PROBLEMS_MAX + 1))
    problems += found
    if len(found) > PROBLEMS_MAX:
        raise InvalidInput([*problems[:PROBLEMS_MAX], Problem("", "and more problems", "mend those above first")])
    if problems or examined.workflow is None:
        raise InvalidInput(bounded(problems, examined.total + len(found)))
    return examined.workflow


def read_any(data: bytes, *, name: str) -> Workflow | Calendar:
    """Whichever of the documents that people write a text is. Raises InvalidInput with every problem."""
    return read_calendar(data, name=name) or read_document(data, name=name)


def difference(old: Workflow, new: Workflow) -> list[str]:
    """What changed from one version to the next, a line for each thing; empty when nothing did."""
    before, after = (workflow.model_dump(mode="json", exclude={"jobs"}) for workflow in (old, new))
    lines = [_changed(field, before[field], after[field]) for field in before if before[field] != after[field]]
    old_jobs = {job.name: job for job in old.jobs}
    new_jobs = {job.name: job for job in new.jobs}
    lines += [f"job {name} removed" for name in old_jobs if name not in new_jobs]
    lines += [f"job {name} added ({job.type})" for name, job in new_jobs.items() if name not in old_jobs]
    for name, job in new_jobs.items():
        if name in old_jobs and old_jobs[name] != job:
            lines += _job_changes(name, old_jobs[name].model_dump(mode="json"), job.model_dump(mode="json"))
    kept_before = [name for name in old_jobs if name in new_jobs]
    if kept_before != [name for name in new_jobs if name in old_jobs]:
        lines.append("the order of the jobs changed")
    return lines


def template_texts(job: AnyJob) -> Iterator[tuple[str, str]]:
    """The texts of a job that are rendered when an attempt starts, each with its place inside the job."""
    for field in TEMPLATED[job.type]:
        yield from _texts(getattr(job, field), field)
    for place, file in enumerate(job.inputs):
        for field in ("content", "url", "s3"):
            yield from _texts(getattr(file, field), f"inputs[{place}].{field}")


def _file_problems(wait: WaitFor, path: str, names: "template.Names") -> Iterator[Problem]:
    if wait.file is not None and "{{" in wait.file:
        # It is rendered before there is an attempt.
        yield from template.check(wait.file, replace(names, roots=names.roots - {"attempt"}), path=path)


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    # Nesting is bounded by reading.
    if isinstance(value, str):
        if "{{" in value:
            yield place, value
    elif isinstance(value, tuple | list):
        for position, one in enumerate(value):
            yield from _texts(one, f"{place}[{position}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, f"{place}.{shown(key)}")
    elif isinstance(value, BaseModel):
        for key in type(value).model_fields:
            yield from _texts(getattr(value, key), f"{place}.{key}")


def _template_problems(examined: Examined) -> Iterator[Problem]:
    yield from _trigger_template_problems(examined)
    all_jobs = frozenset(name for name in examined.graph.names if name is not None)
    if examined.workflow is not None:
        names = template.Names(params=examined.params, jobs=frozenset(), all_jobs=all_jobs, nearest=examined.nearest)
        names = replace(names, roots=names.roots - {"job"})
        for number, wait in enumerate(examined.workflow.waits_for or ()):
            yield from _file_problems(wait, f"waits_for[{number}].file", names)
    for position, job in enumerate(examined.jobs):
        if job is None:
            continue
        for number, wait in enumerate(job.waits_for or ()):
            names = _names(examined, position, wait.file or "", all_jobs, starting=True)
            yield from _file_problems(wait, f"jobs[{position}].waits_for[{number}].file", names)
        for place, text in template_texts(job):
            # What Systems Manager would replace has been refused with a better reason.
            if not (isinstance(job, SsmJob) and ssm_reference(text)):
                path = f"jobs[{position}].{place}"
                if position in examined.moved and place.startswith("steps"):
                    path = examined.moved[position] + place.removeprefix("steps")
                names = _names(examined, position, text, all_jobs, starting=True)
                yield from template.check(text, names, path=path)
        if job.for_each is not None:
            yield from _for_each_problems(examined, position, job.for_each, all_jobs)
        if job.when not in WHEN_KEYWORDS:
            names = _names(examined, position, job.when, all_jobs, starting=False)
            if _WORD.fullmatch(job.when) and (near := examined.nearest.to(job.when, sorted(WHEN_KEYWORDS))):
                yield Problem(f"jobs[{position}].when", f"`{shown(job.when)}` is not a rule", f"did you mean `{near}`?")
            else:
                yield from template.check_expression(job.when, names, path=f"jobs[{position}].when")


def _trigger_template_problems(examined: Examined) -> Iterator[Problem]:
    names = template.Names(roots=frozenset({"event"}), nearest=examined.nearest)
    for place, trigger in enumerate(examined.triggers):
        if trigger is None:
            continue
        path = f"triggers[{place}]"
        for where, text in _texts(trigger.parameters, "parameters"):
            yield from template.check(text, names, path=f"{path}.{where}")
        if trigger.deduplicate_by is not None:
            if not template.is_template(trigger.deduplicate_by):
                hint = "write a template, such as {{ event.detail.id }}"
                yield Problem(f"{path}.deduplicate_by", "is the same for every event, which would be one run", hint)
            yield from template.check(trigger.deduplicate_by, names, path=f"{path}.deduplicate_by")


def _for_each_problems(
    examined: Examined, position: int, for_each: ForEach, all_jobs: frozenset[str]
) -> Iterator[Problem]:
    path = f"jobs[{position}].for_each"
    text = for_each.template
    if text is not None and text.startswith("{{"):
        names = _names(examined, position, text, all_jobs, starting=False)
        yield from template.check(
            text, names, path=f"{path}.items" if for_each.items is text else f"{path}.items.range"
        )
    name, known = for_each.parameter, examined.params
    if name is not None and known is not None and name not in known:
        hint = examined.nearest.hint(name, sorted(known), "declare it under `parameters`, as an array")
        yield Problem(f"{path}.parameter", f"there is no parameter `{shown(name)}`", hint)


def _names(
    examined: Examined, position: int, text: str, all_jobs: frozenset[str], *, starting: bool
) -> "template.Names":
    # Only the upstream jobs whose names can occur in the text: sets of all of them would be quadratic.
    words = {part for word in _WORD.findall(text) for part in (word, *word.split("."))}
    graph = examined.graph
    upstream = frozenset(
        word for word in words if word in graph.position and graph.is_upstream(graph.position[word], position)
    )
    job = examined.jobs[position]
    item = starting and job is not None and job.for_each is not None
    names = template.Names(
        params=examined.params, jobs=upstream, all_jobs=all_jobs, nearest=examined.nearest, item=item
    )
    if not starting:
        return template.Names(
            params=names.params,
            jobs=upstream,
            all_jobs=all_jobs,
            roots=names.roots - {"job", "attempt"},
            nearest=examined.nearest,
        )
    return names


def _changed(what: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        fields = [field for field in {**old, **new} if old.get(field) != new.get(field)]
        details = [f"{field} from {_detail(old.get(field))} to {_detail(new.get(field))}" for field in fields]
        return f"{what} changed: {', '.join(details)}"
    return f"{what} changed from {_detail(old)} to {_detail(new)}"


def _job_changes(name: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if old["type"] != new["type"]:
        return [f"job {name} changed its type from {old['type']} to {new['type']}"]
    lines = []
    for field, is_now in new.items():
        was = old[field]
        if was == is_now:
            continue
        if field in _HIDDEN:
            names = sorted(key for key in {**was, **is_now} if was.get(key) != is_now.get(key))
            lines.append(f"job {name}: {field} changed: {', '.join(names) or 'their order'}")
        else:
            lines.append(f"job {name}: {_changed(field, was, is_now)}")
    return lines


def _detail(value: Any) -> str:
    if value in _NOTHING:
        return "none"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return shown(f"[{', '.join(value)}]", _DETAIL_LENGTH_MAX)
    if isinstance(value, dict):
        said = ", ".join(f"{key}: {_plain(held)}" for key, held in value.items() if held not in _NOTHING)
        return shown(said or "none", _DETAIL_LENGTH_MAX)
    return shown(_plain(value), _DETAIL_LENGTH_MAX)


def _plain(value: Any) -> str:
    """As the document has it."""
    return value if isinstance(value, str) else json.dumps(_said(value), ensure_ascii=False)


def _said(value: Any) -> Any:
    """Without what says nothing."""
    if isinstance(value, dict):
        return {key: _said(held) for key, held in value.items() if held not in _NOTHING}
    return [_said(held) for held in value] if isinstance(value, list) else value
