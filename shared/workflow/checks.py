"""What a document must hold beyond the shape of its fields: rules between fields, and between jobs.

What it promises: each rule says where, what, and what would be right; a secret that was written out by mistake is never
repeated; checking is linear in the document. Templates are not read here (`shared/usecases/documents.py` does).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import Problem
from shared.secrecy import secret_places
from shared.workflow.document import (
    AnyJob,
    ApprovalJob,
    EcsJob,
    EmrJob,
    Input,
    Output,
    Retry,
    SsmJob,
    Workflow,
    WorkflowJob,
)
from shared.workflow.fan_out import check_for_each
from shared.workflow.graph import Graph
from shared.workflow.nearest import Nearest, listed, shown
from shared.workflow.syntax import path_of

JOB_OUTPUTS = "outputs.json"
"""The file in which a job leaves its JSON outputs; always collected, so never declared."""
WHEN_KEYWORDS = frozenset(("all_succeeded", "all_done", "any_failed", "any_succeeded"))
OURS_PREFIX = "RUNFOLD_"
"""Environment variables that begin so are set by us."""
ENVIRONMENT_MAX = 200
"""Variables of one job, secrets included."""

RUN_JOB_FLOW_FIELDS = (
    "AdditionalInfo",
    "AmiVersion",
    "Applications",
    "AutoScalingRole",
    "AutoTerminationPolicy",
    "BootstrapActions",
    "Configurations",
    "CustomAmiId",
    "EbsRootVolumeIops",
    "EbsRootVolumeSize",
    "EbsRootVolumeThroughput",
    "ExtendedSupport",
    "Instances",
    "JobFlowRole",
    "KerberosAttributes",
    "LogEncryptionKmsKeyId",
    "LogUri",
    "ManagedScalingPolicy",
    "MonitoringConfiguration",
    "Name",
    "NewSupportedProducts",
    "OSReleaseLabel",
    "PlacementGroupConfigs",
    "ReleaseLabel",
    "RepoUpgradeOnBoot",
    "ScaleDownBehavior",
    "SecurityConfiguration",
    "ServiceRole",
    "SessionEnabled",
    "StepConcurrencyLevel",
    "StepExecutionRoleArn",
    "Steps",
    "SupportedProducts",
    "Tags",
    "VisibleToAllUsers",
)
"""The members of RunJobFlow; a test compares them with the installed model."""

EMR_ARGUMENTS_MAX = 10_240
"""Characters in all arguments of a step (AWS)."""

FARGATE_MEMORY: dict[int, range] = {
    256: range(512, 2048 + 1, 512),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16_384 + 1, 1024),
    4096: range(8192, 30_720 + 1, 1024),
    8192: range(16_384, 61_440 + 1, 4096),
    16_384: range(32_768, 122_880 + 1, 8192),
}
"""MiB of memory that Fargate takes with each number of CPU units (AWS); 256 takes 512, 1024 and 2048 only."""

_ALTERNATIVES = frozenset(("host", "hosts", "tag", "script", "commands", "cluster", "cluster_id"))
"""Fields of which one is needed."""
_TOGETHER = (frozenset(("cpu", "memory", "launch", "gpu", "ephemeral_storage_gib")), frozenset(("steps", "cluster")))
"""Fields that are judged by each other."""

_ITEMS_FILES = "let them put files where the later job finds them, and pass on the addresses as outputs"

_SECRET_REFERENCE = re.compile(
    r"arn:aws[a-z-]*:secretsmanager:[^:\s]+:[0-9]*:secret:\S+"
    r"|arn:aws[a-z-]*:ssm:[^:\s]+:[0-9]*:parameter/\S+"
    r"|env:[A-Za-z_][A-Za-z0-9_]*"
    r"|file:/[^\x00-\x1f]+"
)
REFERENCE_FORMS = "arn:aws:secretsmanager:…, arn:aws:ssm:…:parameter/…, env:NAME or file:/absolute/path"
"""How a reference to a secret is written."""
_SSM_REFERENCE = re.compile(r"\{\{\s*(?:ssm|ssm-secure|resolve|secretsmanager)\s*:")


def check(jobs: Sequence[AnyJob | None], graph: Graph, nearest: Nearest) -> Iterator[Problem]:
    """Everything wrong with the jobs, by position; None stands for one whose fields are wrong already."""
    for position, job in enumerate(jobs):
        if job is None:
            continue
        path = f"jobs[{position}]"
        yield from _check_environment(job, path)
        yield from _check_files(job, path)
        if job.for_each is not None:
            yield from check_for_each(job.for_each, f"{path}.for_each")
            if isinstance(job, ApprovalJob | WorkflowJob):
                yield Problem(
                    f"{path}.for_each",
                    f"a job of type {job.type} is done once",
                    "let the jobs of that workflow have `for_each`"
                    if isinstance(job, WorkflowJob)
                    else "ask once for all items",
                )
            if job.pool is not None:
                yield Problem(
                    f"{path}.pool",
                    "counts jobs, and this one is many: its items cannot each take a place",
                    "bound them with `for_each.max_parallel`",
                )
        yield from _check_type(job, path, nearest)
    yield from _check_writers(jobs, graph)
    producers = _producers(jobs)
    unknown = sum(1 << position for position, job in enumerate(jobs) if job is None)
    for position, job in enumerate(jobs):
        for place, file in enumerate(job.inputs if job is not None else ()):
            path = f"jobs[{position}].inputs[{place}]"
            if file.job is not None:
                yield from _check_producer(position, file, path, jobs, graph, nearest)
            # What a job with wrong fields would have written cannot be known.
            elif _is_sourceless(file) and not graph.upstream(position) & unknown:
                yield from _check_sourceless(position, file, path, producers, graph)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a job without the fields that are wrong."""

    job: AnyJob
    wrong: frozenset[str]
    """The fields left out, those that no job has among them."""


def check_rests(rests: Mapping[int, Rest], graph: Graph, nearest: Nearest) -> Iterator[Problem]:
    """Everything certainly wrong with what is left of jobs with wrong fields, by position: nothing is told that may follow
    from what was left out."""
    for position, rest in rests.items():
        job, path = rest.job, f"jobs[{position}]"
        yield from _check_environment(job, path)
        yield from _check_files(job, path)
        for place, file in enumerate(job.inputs):
            if file.job is not None and file.job not in graph.position:
                here = f"{path}.inputs[{place}]"
                yield from _check_producer(position, file, here, (), graph, nearest)
        strange = not rest.wrong <= type(job).model_fields.keys()
        for problem in _check_type(job, path, nearest):
            field = problem.path.removeprefix(path).lstrip(".").partition(".")[0].partition("[")[0]
            together = next((fields for fields in _TOGETHER if field in fields), frozenset((field,)))
            if problem.path == path:
                together = _ALTERNATIVES
            # A misspelt field may be the one that seems to be missing.
            if rest.wrong.isdisjoint(together) and not (strange and (problem.path == path or field == "steps")):
                yield problem


def check_secrets(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Every place of a document, as it was written, where a secret seems to stand: it would be kept for ever, shown to whoever may
    see the workflow, and recorded with each request to a target that takes no token (I13)."""
    schema = document.get("parameters")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    defaults = {
        name: one["default"]
        for name, one in (properties.items() if isinstance(properties, Mapping) else ())
        if isinstance(one, Mapping) and "default" in one
    }
    for place, what in (*secret_places(document), *secret_places(defaults, ("parameters",))):
        yield Problem(
            path_of(place),
            f"holds what looks like {what}; if it is one, change it where it is in use",
            "name it by reference in a job's `secrets`, and only there",
        )


def is_reference(text: str) -> bool:
    """Whether it names a secret, rather than perhaps being one."""
    return _SECRET_REFERENCE.fullmatch(text) is not None


def ssm_reference(text: str) -> bool:
    """Whether Systems Manager would replace a part of the text by a parameter of its own (fault 53)."""
    return "{{" in text and _SSM_REFERENCE.search(text) is not None


# -- all types ----------------------------------------------------------------------------------------------------


def _check_environment(job: AnyJob, path: str) -> Iterator[Problem]:
    if len(job.environment) + len(job.secrets) > ENVIRONMENT_MAX:
        yield Problem(f"{path}.environment", f"has more than {ENVIRONMENT_MAX} variables, secrets included")
    for field, names in (("environment", job.environment), ("secrets", job.secrets)):
        for name in names:
            if name.upper().startswith(OURS_PREFIX):
                yield Problem(
                    f"{path}.{field}.{name}", f"names beginning with {OURS_PREFIX} are set by Runfold", "choose another"
                )
    for name, reference in job.secrets.items():
        if name in job.environment:
            yield Problem(f"{path}.environment.{name}", "is the name of a secret as well", "keep one of them")
        if not is_reference(reference):
            # The text may be the secret itself: it must not reach a log.
            yield Problem(
                f"{path}.secrets.{name}",
                "is not a reference; if it is the secret itself, change that secret now",
                REFERENCE_FORMS,
            )


def _check_files(job: AnyJob, path: str) -> Iterator[Problem]:
    declared: tuple[tuple[str, Sequence[Input | Output]], ...] = (("inputs", job.inputs), ("outputs", job.outputs))
    for field, files in declared:
        seen: dict[str, int] = {}
        for place, file in enumerate(files):
            here = f"{path}.{field}[{place}].path"
            wrong = wrong_path(file.path)
            if wrong:
                yield Problem(here, wrong, "a path inside the working directory, such as `data/report.csv`")
            elif file.path in seen:
                yield Problem(
                    here, f"`{shown(file.path)}` is the path of {field}[{seen[file.path]}] already", "remove one"
                )
            else:
                seen[file.path] = place
            if file.path == JOB_OUTPUTS:
                yield Problem(here, f"`{JOB_OUTPUTS}` is collected from every job", "remove it, or use another name")
    for place, file in enumerate(job.inputs):
        here = f"{path}.inputs[{place}]"
        sources = [name for name in ("content", "url", "s3", "upload", "job") if getattr(file, name) is not None]
        if len(sources) > 1:
            yield Problem(here, f"has several sources: {', '.join(sources)}", "keep one of them")
        if file.file is not None:
            if file.job is None:
                yield Problem(
                    f"{here}.file", "says under which path a job declares it, but there is no `job`", "add `job`"
                )
            elif wrong := wrong_path(file.file):
                yield Problem(f"{here}.file", wrong, "the path that the job's output has")
        if file.upload is not None and (wrong := wrong_path(file.upload)):
            yield Problem(f"{here}.upload", wrong, "a plain name, such as `data.csv`")


def wrong_path(path: str) -> str:
    """What is wrong with a path that must stay inside a working directory; empty if nothing."""
    if not path.isprintable():
        return "the path holds control characters or line breaks"
    if "\\" in path:
        return f"`{shown(path)}` holds a backslash"
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path):
        return f"`{shown(path)}` is absolute"
    parts = path.split("/")
    if ".." in parts:
        return f"`{shown(path)}` leads out of the working directory"
    if "" in parts or "." in parts:
        return f"`{shown(path)}` is not written in its shortest form"
    if any(len(part.encode()) > 255 for part in parts):
        return "a part of the path is longer than 255 bytes"
    return ""


def _check_writers(jobs: Sequence[AnyJob | None], graph: Graph) -> Iterator[Problem]:
    """Two jobs may write the same path only when one runs after the other; which would win, otherwise?"""
    writers: dict[str, int] = {}
    for position in graph.order:
        job = jobs[position]
        for place, output in enumerate(job.outputs if job is not None else ()):
            # In an order that respects `after` it suffices to compare each with the one before.
            previous = writers.get(output.path)
            if previous is not None and previous != position and not graph.is_upstream(previous, position):
                other = graph.names[previous]
                yield Problem(
                    f"jobs[{position}].outputs[{place}].path",
                    f"job `{other}` writes `{shown(output.path)}` too, and neither waits for the other",
                    "use another path, or order them with `after`",
                )
            writers[output.path] = position


def _check_producer(
    position: int, file: Input, path: str, jobs: Sequence[AnyJob | None], graph: Graph, nearest: Nearest
) -> Iterator[Problem]:
    assert file.job is not None, "asked only for inputs that name a job"
    producer = graph.position.get(file.job)
    if producer is None:
        hint = nearest.hint(file.job, graph.position, "it names a job of this document")
        yield Problem(f"{path}.job", f"there is no job `{shown(file.job)}`", hint)
        return
    if not graph.is_upstream(producer, position):
        yield Problem(f"{path}.job", f"`{file.job}` is not upstream of this job", f"add `{file.job}` to `after`")
    job = jobs[producer]
    if job is not None and job.for_each is not None:
        yield Problem(
            f"{path}.job", f"`{file.job}` has `for_each`: each of its items leaves files of its own", _ITEMS_FILES
        )
        return
    wanted = file.file if file.file is not None else file.path
    if job is not None and all(output.path != wanted for output in job.outputs):
        declared = [output.path for output in job.outputs]
        yield Problem(
            f"{path}.file" if file.file is not None else f"{path}.path",
            f"`{file.job}` does not declare an output `{shown(wanted)}`",
            nearest.hint(
                wanted, declared, f"it declares {listed(declared)}" if declared else "add it to that job's `outputs`"
            ),
        )


def _is_sourceless(file: Input) -> bool:
    return all(source is None for source in (file.content, file.url, file.s3, file.upload, file.job))


def _check_sourceless(
    position: int, file: Input, path: str, producers: dict[str, int], graph: Graph
) -> Iterator[Problem]:
    upstream = producers.get(file.path, 0) & graph.upstream(position)
    if not upstream:
        yield Problem(
            path,
            f"no upstream job declares an output `{shown(file.path)}`",
            "give it a source (content, url, s3, upload or job), or declare it as an output upstream",
        )
    elif upstream.bit_count() > 1:
        # Two of them show what is meant, whatever their number.
        first = (upstream & -upstream).bit_length() - 1
        last = upstream.bit_length() - 1
        names = [graph.names[first] or "?", graph.names[last] or "?"]
        yield Problem(
            path,
            f"{upstream.bit_count()} upstream jobs write `{shown(file.path)}`, such as {listed(names)}",
            "say which one with `job`",
        )


def _producers(jobs: Sequence[AnyJob | None]) -> dict[str, int]:
    """The jobs that declare each path, as the bits of a number: thousands may write what thousands read. What items leave is not one file."""
    producers: dict[str, int] = {}
    for position, job in enumerate(jobs):
        for output in job.outputs if job is not None and job.for_each is None else ():
            producers[output.path] = producers.get(output.path, 0) | 1 << position
    return producers


# -- the schedule -------------------------------------------------------------------------------------------------


def check_schedule(workflow: Workflow) -> Iterator[Problem]:
    """What the schedule says that the rest of the workflow makes void."""
    if workflow.schedule is None:
        return
    if workflow.schedule.starts_per_minute is not None and workflow.overlap in ("skip", "cancel_running"):
        yield Problem(
            "schedule.starts_per_minute",
            f"spaces runs, and with `overlap` {workflow.overlap} no two of them come one after the other",
            'leave it out, or write "overlap": "queue" or "allow"',
        )


# -- by type ------------------------------------------------------------------------------------------------------


def _check_type(job: AnyJob, path: str, nearest: Nearest) -> Iterator[Problem]:
    match job:
        case EcsJob():
            yield from _check_ecs(job, path)
        case EmrJob():
            yield from _check_emr(job, path, nearest)
        case SsmJob():
            yield from _check_ssm(job, path)
        case WorkflowJob():
            yield from _check_no_program(job, path, "a run of another workflow")
            if job.outputs_from is not None and not job.wait:
                hint = "leave one of the two out"
                yield Problem(f"{path}.outputs_from", "there are none when the job does not wait for the run", hint)
        case ApprovalJob():
            yield from _check_no_program(job, path, "a person's decision")
            yield from _check_approval(job, path)


def _check_no_program(job: WorkflowJob | ApprovalJob, path: str, what: str) -> Iterator[Problem]:
    """Nothing runs here for which there could be a working directory, or variables."""
    for field in ("inputs", "outputs", "environment", "secrets"):
        if getattr(job, field):
            yield Problem(f"{path}.{field}", f"a job of type {job.type} is {what}: no program reads this", "remove it")


ROLES = ("viewer", "operator", "author", "admin")
"""Of the API's authorisation; a test compares them with `shared/decide/access.py`."""


def _check_approval(job: ApprovalJob, path: str) -> Iterator[Problem]:
    for place, approver in enumerate(job.by):
        kind, colon, role = approver.partition(":")
        if colon and kind == "role" and role not in ROLES:
            yield Problem(f"{path}.by[{place}]", f"`{shown(role)}` is not a role", f"write role: and {listed(ROLES)}")
    if job.pool is not None:
        yield Problem(f"{path}.pool", "a decision takes no place", "give `pool` to the jobs that come after it")
    if job.retry != Retry():
        yield Problem(f"{path}.retry", "a decision is not tried again", "remove it; `runfold rerun` asks anew")
    for field in ("queue_minutes", "start_minutes", "total_minutes"):
        if getattr(job.timeouts, field) is not None:
            hint = "`timeout_minutes` says how long people have"
            yield Problem(f"{path}.timeouts.{field}", "a decision has no such phase", hint)
    if job.on_timeout != "fail" and job.timeouts.run_minutes is None:
        yield Problem(f"{path}.on_timeout", "there is no deadline that could pass", "add `timeout_minutes`")


def _check_ecs(job: EcsJob, path: str) -> Iterator[Problem]:
    if job.launch == "fargate":
        memory = FARGATE_MEMORY.get(job.cpu)
        if memory is None:
            yield Problem(
                f"{path}.cpu",
                f"Fargate does not take {job.cpu} CPU units",
                f"write {listed([str(cpu) for cpu in FARGATE_MEMORY])}",
            )
        elif job.memory not in memory or (job.cpu == 256 and job.memory == 1536):
            yield Problem(
                f"{path}.memory",
                f"Fargate does not take {job.memory} MiB with {job.cpu} CPU units",
                _memory_hint(job.cpu, memory),
            )
        if job.gpu:
            yield Problem(f"{path}.gpu", "Fargate has no GPUs", 'add "launch": "ec2"')
    elif job.ephemeral_storage_gib is not None:
        yield Problem(
            f"{path}.ephemeral_storage_gib", "is for Fargate only", 'leave it out, or use "launch": "fargate"'
        )
    if not job.image.isprintable() or (" " in job.image and "{{" not in job.image):
        yield Problem(f"{path}.image", "holds spaces or control characters", "an image looks like registry/name:tag")


def _memory_hint(cpu: int, memory: range) -> str:
    if cpu == 256:
        return "write 512, 1024 or 2048"
    return f"write {memory[0]} to {memory[-1]} in steps of {memory.step}"


def _check_emr(job: EmrJob, path: str, nearest: Nearest) -> Iterator[Problem]:
    if (job.cluster is None) == (job.cluster_id is None):
        given = "neither" if job.cluster is None else "both"
        yield Problem(
            path,
            f"needs one of `cluster` and `cluster_id`, and has {given}",
            "`cluster` starts one, `cluster_id` uses one",
        )
    if not job.steps:
        yield Problem(f"{path}.steps", "is empty", "a job of type emr is its steps: write at least one")
    for field in job.cluster or ():
        if field not in RUN_JOB_FLOW_FIELDS:
            yield Problem(
                path_of(("jobs", int(path[5:-1]), "cluster", field)),
                f"`{shown(field)}` is not a field of RunJobFlow",
                nearest.hint(
                    field, RUN_JOB_FLOW_FIELDS, "its fields are written as AWS writes them, such as ReleaseLabel"
                ),
            )
    if job.cluster is not None and "Steps" in job.cluster:
        yield Problem(f"{path}.cluster.Steps", "there are steps in `steps` as well", "keep one of them")
    for place, step in enumerate(job.steps):
        if sum(map(len, step.HadoopJarStep.Args)) > EMR_ARGUMENTS_MAX:
            yield Problem(
                f"{path}.steps[{place}].HadoopJarStep.Args",
                f"have more than {EMR_ARGUMENTS_MAX:,} characters in all",
                "EMR takes no more",
            )


def _check_ssm(job: SsmJob, path: str) -> Iterator[Problem]:
    targets = [name for name in ("host", "hosts", "tag") if getattr(job, name)]
    if len(targets) != 1:
        has = f"has {' and '.join(targets)}" if targets else "has none"
        yield Problem(path, f"needs one of `host`, `hosts` and `tag`, and {has}", 'for example "host": "warehouse"')
    work = [name for name in ("script", "commands") if getattr(job, name)]
    if len(work) != 1:
        has = "both" if work else "neither"
        yield Problem(
            path, f"needs one of `script` and `commands`, and has {has}", 'for example "script": "/opt/etl/extract.sh"'
        )
    if len(set(job.hosts)) != len(job.hosts):
        yield Problem(f"{path}.hosts", "names a host twice", "once is enough")
    for place, line in enumerate(job.commands):
        if "{{" in line:
            yield Problem(
                f"{path}.commands[{place}]",
                "holds `{{`, but values are never pasted into a shell"
                + (" and Systems Manager is not asked for parameters" if ssm_reference(line) else ""),
                'pass the value in `args` and write "$1", or in `environment` and write "$NAME"; braces meant for another '
                "program go into a script on the host",
            )
    texts: list[tuple[str, str]] = [(f"args[{place}]", text) for place, text in enumerate(job.args)]
    texts += [(f"environment.{name}", text) for name, text in job.environment.items()]
    texts += [(f"hosts[{place}]", text) for place, text in enumerate(job.hosts)]
    texts += [(name, text) for name in ("host", "script", "working_directory") if (text := getattr(job, name))]
    for place_name, text in texts:
        if ssm_reference(text):
            yield Problem(
                f"{path}.{place_name}",
                "refers to a parameter of Systems Manager, which it would put into the command",
                "use `secrets` with its ARN",
            )
    for field in ("script", "working_directory", "log_directory", "guard_directory"):
        text = getattr(job, field)
        if text is not None and not text.isprintable():
            yield Problem(f"{path}.{field}", "holds control characters or line breaks", "write a plain path")
