"""From a job of the document to the request that a target is asked with: the same state always gives the same request, so that the same
token always comes with the same work.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from shared import template
from shared.decide.context import context_of
from shared.errors import TemplateError
from shared.ids import Digest, JobName, attempt_token, item_of
from shared.ports import Request
from shared.state.fan import item_at
from shared.state.run import JobState, Run
from shared.workflow.document import AnyJob, EcsJob, Input

TEMPLATED: dict[str, tuple[str, ...]] = {
    "ecs": ("image", "command", "entry_point", "environment"),
    "emr": ("cluster", "cluster_id", "steps", "environment"),
    "ssm": ("host", "hosts", "script", "args", "environment", "working_directory"),
    "workflow": ("parameters",),
    "approval": ("message",),
}
"""The fields whose strings are templates. A host's `commands` are not: values reach a shell as arguments, never as its text."""
_TREES = frozenset({"cluster", "parameters"})
"""Fields that are JSON with types of their own; everything else ends as text in an argument or a variable."""
_NOT_FOR_TARGETS = frozenset(
    {
        "name",
        "description",
        "after",
        "when",
        "waits_for",
        "for_each",
        "retry",
        "timeouts",
        "priority",
        "doubt",
        "inputs",
        "outputs",
    }
)
BODIES_MAX = 20_000
"""Job bodies kept ready; more than the jobs of the largest document."""


class Renderer:
    """Renders requests; keeps the parts that need no rendering, because most jobs have no templates at all."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[Digest, JobName], tuple[dict[str, Any], bool]] = OrderedDict()

    def __call__(self, run: Run, name: JobName, attempt: int) -> Request:
        """Raises `TemplateError` when a template or an input cannot be resolved with what earlier jobs left."""
        job = run.plan.jobs[name]
        body, templated = self._body(run.plan.digest, JobName(job.name), job)
        inputs: tuple[Mapping[str, Any], ...] = ()
        if templated or job.inputs:
            context = context_of(
                run.request,
                run.requested_at,
                run.jobs,
                job=name,
                attempt=attempt,
                fans=run.fans,
                items=run.items,
                item=_item(run, name),
            )
            if templated:
                body = _rendered(body, context)
            inputs = tuple(_resolved(run, job, one, context) for one in job.inputs)
        return Request(
            token=attempt_token(run.run, name, attempt),
            run=run.run,
            job=name,
            attempt=attempt,
            body=body,
            inputs=inputs,
            outputs=outputs_of(job),
        )

    def _body(self, digest: Digest, name: JobName, job: AnyJob) -> tuple[dict[str, Any], bool]:
        key = (digest, name)
        kept = self._bodies.get(key)
        if kept is None:
            body = job.model_dump(mode="json", exclude=set(_NOT_FOR_TARGETS), exclude_none=True)
            if isinstance(job, EcsJob) and (job.timeouts.start_minutes or job.timeouts.run_minutes) is not None:
                # Its limits count from when it runs, so the target has to tell that.
                body["timed"] = True
            templated = any(_has_template(body.get(field)) for field in TEMPLATED[job.type])
            kept = self._bodies[key] = (body, templated)
            if len(self._bodies) > BODIES_MAX:
                self._bodies.popitem(last=False)
        return kept


def _item(run: Run, name: JobName) -> tuple[int, Any] | None:
    """The index and the value of an item; None for a job that is no item."""
    of = item_of(name)
    fan = run.fans.get(of[0]) if of is not None else None
    if of is None or fan is None:
        return None
    return of[1], item_at(fan, run.plan.jobs[of[0]].for_each, of[1])


def outputs_of(job: AnyJob) -> tuple[Mapping[str, Any], ...]:
    return tuple({"path": one.path, "save": one.save, "optional": one.optional} for one in job.outputs)


def _rendered(body: dict[str, Any], context: Mapping[str, object]) -> dict[str, Any]:
    rendered = dict(body)
    for field in TEMPLATED[body["type"]]:
        if field not in body:
            continue
        if field in _TREES:
            rendered[field] = template.render_tree(body[field], context, path=field)
        else:
            rendered[field] = _texts(body[field], context)
    return rendered


def _texts(value: Any, context: Mapping[str, object]) -> Any:
    match value:
        case str():
            return template.render_text(value, context)
        case list():
            return [_texts(one, context) for one in value]
        case dict():
            return {key: _texts(one, context) for key, one in value.items()}
        case _:
            return value


def _has_template(value: Any) -> bool:
    match value:
        case str():
            return template.is_template(value)
        case list():
            return any(_has_template(one) for one in value)
        case dict():
            return any(_has_template(one) for one in value.values())
        case _:
            return False


def _resolved(run: Run, job: AnyJob, given: Input, context: Mapping[str, object]) -> Mapping[str, Any]:
    resolved: dict[str, Any] = {"path": given.path}
    if given.sha256 is not None:
        resolved["sha256"] = given.sha256
    if given.content is not None:
        resolved["content"] = template.render_text(given.content, context)
    elif given.url is not None:
        resolved["url"] = template.render_text(given.url, context)
    elif given.s3 is not None:
        resolved["s3"] = template.render_text(given.s3, context)
    elif given.upload is not None:
        address = run.request.files.get(given.upload)
        if address is None:
            raise TemplateError(f"the run was given no file named {given.upload}")
        resolved["artifact"] = address
    else:
        resolved["artifact"] = _artifact(run, job, given)
    return resolved


def _artifact(run: Run, job: AnyJob, given: Input) -> str:
    wanted = given.file or given.path
    producers = [JobName(given.job)] if given.job is not None else _producers(run, JobName(job.name), wanted)
    for name in producers:
        state: JobState | None = run.jobs.get(name)
        if state is not None and state.files and wanted in state.files:
            return state.files[wanted]
    told = ", ".join(producers) or "no earlier job"
    raise TemplateError(f"the input {given.path} is not there: {told} left no file {wanted}")


def _producers(run: Run, name: JobName, path: str) -> list[JobName]:
    return [
        before
        for before in run.plan.upstream(name)
        if any(output.path == path for output in run.plan.jobs[before].outputs)
    ]
