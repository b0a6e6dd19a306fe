"""The document users write, as pydantic models: its fields, their bounds, and nothing that happens to it.

These classes are the format: the JSON Schema in `docs/` is generated from them, and what they do not know is refused.
A parsed document is immutable and has every default filled in, so that a run pinned to it never changes meaning when
a later release changes a default.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from shared.ids import NAME_PATTERN
from shared.workflow.fan_out import ForEach
from shared.workflow.notices import RULES_MAX, Deadline, Late, Notify
from shared.workflow.timing import Schedule
from shared.workflow.triggers import TRIGGERS_MAX, Trigger
from shared.workflow.waiting import WAITS_MAX, WaitFor

JOBS_MAX = 10_000
"""Jobs in one document. Ours: the largest run that `bench/` proves linear."""
PARALLELISM_DEFAULT = 16
"""Attempts of one run under way at once when the document does not say. Ours: kind to one machine, easy to raise."""
MINUTES_MAX = 60 * 24 * 365
"""A year: longer than any target keeps work (EMR Serverless 7 days, SSM 48 hours), short enough to notice a typo."""
POOL_CAPACITY_MAX = 10_000
"""Of a pool. Ours: as many as the jobs of the largest run."""
PATH_LENGTH_MAX = 512
"""Characters of a file's path in the working directory. Ours."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
Text = Annotated[str, StringConstraints(max_length=16_384)]
Argument = Annotated[str, StringConstraints(max_length=16_384)]
Path = Annotated[str, StringConstraints(min_length=1, max_length=PATH_LENGTH_MAX)]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Minutes = Annotated[float, Field(gt=0, le=MINUTES_MAX)]
Environment = dict[EnvironmentName, Text]
Secrets = dict[EnvironmentName, Annotated[str, StringConstraints(min_length=1, max_length=2048)]]

FailureClass = Literal["user", "infrastructure", "capacity", "timeout", "cancelled", "refused"]
Waits = Annotated[tuple[WaitFor, ...], Field(min_length=1, max_length=WAITS_MAX)] | None
Outcome = Literal["succeeded", "failed", "timed_out", "cancelled", "skipped", "upstream_failed"]


class _Model(BaseModel):
    # Built when a document is first read: one validator of the whole, instead of one of every part at every cold start.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class ClassRetry(_Model):
    """How one class of failure is tried again; what is absent is taken from the job's general rule or our default."""

    attempts: int | None = Field(default=None, ge=1, le=1000)
    """Tries that may fail this way before the job fails."""
    delay_seconds: float | None = Field(default=None, ge=0, le=86_400)
    """Seconds before the second try."""
    backoff: float | None = Field(default=None, ge=1, le=10)
    """Each further delay is this many times the one before."""
    delay_max_seconds: float | None = Field(default=None, ge=0, le=86_400)
    """No delay grows beyond this many seconds."""


class Retry(_Model):
    """When a failed attempt is followed by another. Each class of failure has a budget of its own."""

    attempts: int = Field(default=1, ge=1, le=1000)
    """Tries in all when the job's own code fails (a non-zero exit); 1 means never again."""
    delay_seconds: float = Field(default=30, ge=0, le=86_400)
    """Seconds before the second try."""
    backoff: float = Field(default=2.0, ge=1, le=10)
    """Each further delay is this many times the one before."""
    delay_max_seconds: float = Field(default=3600, ge=0, le=86_400)
    """No delay grows beyond this many seconds."""
    jitter: float = Field(default=0.1, ge=0, le=1)
    """Delays are spread by up to this share, so that a thousand jobs that failed together do not return together."""
    infrastructure: ClassRetry = ClassRetry()
    """The host died, the image could not be pulled, the spot instance was taken: 3 tries unless said otherwise."""
    capacity: ClassRetry = ClassRetry()
    """No room or throttled: 100 tries unless said otherwise; they never burn the budget of other classes."""
    timeout: ClassRetry = ClassRetry()
    """A phase took too long: as many tries as `attempts` unless said otherwise."""


class Timeouts(_Model):
    """How long each phase of a job may take, in minutes; a phase without a bound waits for ever."""

    queue_minutes: Minutes | None = None
    """From ready to accepted by the target."""
    start_minutes: Minutes | None = None
    """From accepted to running (for a host: until the script is delivered)."""
    run_minutes: Minutes | None = None
    """From running to ended, for each attempt."""
    total_minutes: Minutes | None = None
    """From the first attempt being queued to the job's end, over all attempts."""


class Doubt(_Model):
    """What to do about an attempt that was asked for when nobody can tell whether it began."""

    policy: Literal["wait", "assume_lost", "ask"] = "wait"
    """`wait` keeps looking for evidence; `assume_lost` fails the attempt after `after_minutes`; `ask` waits for a person."""
    after_minutes: Minutes = 60
    """For `assume_lost`: minutes in doubt before the attempt counts as lost."""


class Input(_Model):
    """A file that must lie in the job's working directory before it starts. Exactly one source, or none for a file
    that an upstream job declares as an output under the same path."""

    path: Path
    """Where the job finds it, relative to its working directory."""
    content: Annotated[str, StringConstraints(max_length=65_536)] | None = None
    """The content itself; templates are rendered."""
    url: Annotated[str, StringConstraints(pattern=r"^(https?|file)://", max_length=2048)] | None = None
    """Fetched before the job starts; anything but a success answer fails the attempt."""
    s3: Annotated[str, StringConstraints(pattern=r"^s3://[^/]+/.+", max_length=2048)] | None = None
    """Fetched from S3 with the job's own permissions."""
    upload: Path | None = None
    """The name of a file given with the run (`runfold run --file NAME=PATH`)."""
    job: Name | None = None
    """The upstream job that produced it."""
    file: Path | None = None
    """With `job`: the path under which that job declares it, when it is not the same."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """What the file's SHA-256 must be; anything else fails the attempt."""


class Output(_Model):
    """A file that the job leaves behind for later jobs; its absence after a successful exit fails the job."""

    path: Path
    """Where the job writes it, relative to its working directory."""
    save: bool = False
    """Keep it as a result of the run, listed and shown to people."""
    optional: bool = False
    """Do not fail the job when the file is missing."""


class PoolPlace(_Model):
    """A place in a pool: a capacity that jobs of all workflows share."""

    name: Name
    """Of the pool. Its capacity is set with `runfold pools set`; until then it is 1."""
    weight: int = Field(default=1, ge=1, le=POOL_CAPACITY_MAX)
    """How much of the capacity an attempt takes. One that weighs more than the pool has takes all of it."""


def _pool_place(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class _Job(_Model):
    name: Name
    """Unique in the document, also when case is ignored."""
    description: Text = ""
    """For people."""
    after: tuple[Name, ...] = Field(default=(), max_length=JOBS_MAX)
    """Jobs that must have ended before this one is considered."""
    when: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = "all_succeeded"
    """Whether to run once all of `after` have ended: all_succeeded, all_done, any_failed, any_succeeded, or an expression
    over their outcomes such as `outcomes.load == 'failed' and params.full`."""
    waits_for: Waits = None
    """What must be there outside this run before the job starts, looked for once `after` and `when` let it run."""
    for_each: ForEach | None = None
    """Do the job once for each item of a list."""
    retry: Retry = Retry()
    """When a failed attempt is followed by another."""
    timeouts: Timeouts = Timeouts()
    """Bounds for each phase, in minutes."""
    timeout_minutes: Minutes | None = None
    """Short for `timeouts.run_minutes`."""
    stop_grace_seconds: float = Field(default=30, ge=0, le=120)
    """Seconds between asking the work to stop (SIGTERM) and ending it (SIGKILL). ECS allows 120."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Of two ready jobs the one with the higher number goes first; of a pool's line too."""
    pool: Annotated[PoolPlace, BeforeValidator(_pool_place, json_schema_input_type=Name | PoolPlace)] | None = None
    """Each attempt holds a place in this pool, and waits for one first; a name, or `name` and `weight`."""
    doubt: Doubt = Doubt()
    """What to do when nobody can tell whether the work began."""
    environment: Environment = {}
    """Environment variables; templates are rendered."""
    secrets: Secrets = {}
    """Environment variables by reference (a secret's ARN, or on one machine `env:NAME` or `file:PATH`); never their values."""
    inputs: tuple[Input, ...] = Field(default=(), max_length=200)
    """Files to find in the working directory."""
    outputs: tuple[Output, ...] = Field(default=(), max_length=200)
    """Files to leave behind."""


class EcsJob(_Job):
    """A container as an ECS task; on one machine its command as a process (or a container, where asked for)."""

    type: Literal["ecs"]
    image: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """The container image. On one machine it is recorded, and used only when the engine is told to run containers."""
    command: tuple[Argument, ...] = Field(default=(), max_length=1000)
    """The program and its arguments, each one argument, never a shell line; templates are rendered."""
    entry_point: tuple[Argument, ...] = Field(default=(), max_length=1000)
    """Replaces the image's entry point."""
    cpu: int = Field(default=256, ge=1, le=196_608)
    """CPU units; 1024 are one core. Fargate takes 256 to 16384."""
    memory: int = Field(default=512, ge=6, le=1_048_576)
    """MiB."""
    gpu: int = Field(default=0, ge=0, le=16)
    """Whole GPUs (EC2 capacity only)."""
    ephemeral_storage_gib: int | None = Field(default=None, ge=21, le=200)
    """Disk of a Fargate task: 21 to 200 GiB; 20 when absent."""
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    """Of the processor."""
    spot: bool = False
    """Run on spot capacity; being reclaimed counts as an infrastructure failure, not the job's own."""
    launch: Literal["fargate", "ec2"] = "fargate"
    """Which kind of capacity."""
    cluster: Annotated[str, StringConstraints(max_length=255)] | None = None
    """The ECS cluster; the deployment's default when absent."""
    subnets: tuple[Annotated[str, StringConstraints(max_length=64)], ...] = Field(default=(), max_length=16)
    """At most 16 (awsvpc)."""
    security_groups: tuple[Annotated[str, StringConstraints(max_length=64)], ...] = Field(default=(), max_length=5)
    """At most 5 (awsvpc)."""
    assign_public_ip: bool = False
    """For tasks in public subnets without NAT."""
    role: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """The task role: what the job itself may do."""
    execution_role: Annotated[str, StringConstraints(max_length=2048)] | None = None
    """What ECS needs to pull the image and read the secrets."""
    user: Annotated[str, StringConstraints(max_length=128)] | None = None
    """The user inside the container."""
    working_directory: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Inside the container; on one machine the attempt's own directory is used."""


class HadoopJarStep(_Model):
    """What a step runs, in EMR's own words."""

    Jar: Annotated[str, StringConstraints(min_length=1, max_length=10_240)]
    """`command-runner.jar`, or a jar's address."""
    Args: tuple[Annotated[str, StringConstraints(max_length=10_240)], ...] = Field(default=(), max_length=1000)
    """The arguments; EMR takes 10,240 characters in all. Templates are rendered."""
    MainClass: Annotated[str, StringConstraints(max_length=10_240)] | None = None
    """The class to start, when the jar names none."""
    Properties: tuple[dict[Literal["Key", "Value"], str], ...] = ()
    """Java properties."""


class EmrStep(_Model):
    """One step of a cluster, in EMR's own words."""

    Name: Annotated[str, StringConstraints(min_length=1, max_length=180)]
    """Shown in EMR; our token is added to it, and EMR takes 256 characters."""
    ActionOnFailure: Literal["TERMINATE_JOB_FLOW", "TERMINATE_CLUSTER", "CANCEL_AND_WAIT", "CONTINUE"] = "CONTINUE"
    """What EMR does with the cluster when the step fails."""
    HadoopJarStep: HadoopJarStep
    """What runs."""


class EmrJob(_Job):
    """Steps on an EMR cluster: one started for them, or one that is there."""

    type: Literal["emr"]
    cluster: dict[str, Any] | None = None
    """A whole RunJobFlow request, passed on as it is (Name and Steps are ours to set); the cluster ends with its steps."""
    cluster_id: Annotated[str, StringConstraints(max_length=256)] | None = None
    """A cluster that is there, `j-…`; templates are rendered."""
    steps: tuple[EmrStep, ...] = Field(default=(), max_length=256)
    """In order; EMR keeps at most 256 active. The first that fails fails the job."""


class SsmJob(_Job):
    """A script or commands on hosts, through SSM; on one machine a local process, or over SSH to a named host."""

    type: Literal["ssm"]
    host: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """A host by name (from the deployment's host list) or by instance id."""
    hosts: tuple[Annotated[str, StringConstraints(min_length=1, max_length=255)], ...] = Field(
        default=(), max_length=50
    )
    """Several hosts; SSM takes 50 by id. The job succeeds when it succeeded on each."""
    tag: dict[str, Annotated[str, StringConstraints(max_length=256)]] | None = None
    """Hosts that carry all these tags; none found fails the attempt."""
    script: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    """The path of a script on the host, run with `args`."""
    commands: tuple[Annotated[str, StringConstraints(max_length=16_384)], ...] = Field(default=(), max_length=500)
    """Lines of shell, run in order by /bin/sh, stopping at the first that fails. Not templates: values reach them through
    `args` ("$1") and `environment`."""
    args: tuple[Argument, ...] = Field(default=(), max_length=1000)
    """Arguments, each one argument; templates are rendered."""
    run_as: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = None
    """The user on the host; needs the right to become that user there."""
    working_directory: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Where the script starts on the host; the attempt's own directory when absent."""
    log_directory: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Where output is kept on the host as well."""
    guard_directory: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """Where the wrapper remembers what it was asked to do, so that a second delivery does not run twice."""


class WorkflowJob(_Job):
    """A run of another workflow: the job ends as that run does."""

    type: Literal["workflow"]
    workflow: Name
    """The workflow to run."""
    version: int | None = Field(default=None, ge=1)
    """Of its document; the one that is live when the attempt starts, when absent."""
    parameters: dict[str, Any] = {}
    """What the run is given; templates are rendered, and one that is a whole value keeps its type."""
    outputs_from: Name | None = None
    """The job of that run whose outputs become this job's; when absent those of all its jobs do, each under its job's name."""
    wait: bool = True
    """Whether the job ends when the run does; otherwise as soon as the run has been asked for, and the two go their own ways."""


Approver = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]


class ApprovalJob(_Job):
    """A person's decision: the job waits until somebody who may says yes or no. It holds no place meanwhile."""

    type: Literal["approval"]
    message: Annotated[str, StringConstraints(max_length=4096)] = ""
    """What is to be decided, for people; templates are rendered."""
    by: tuple[Approver, ...] = Field(default=(), max_length=50)
    """Who may decide: names, as the API knows callers, or `role:operator`, `role:author` and `role:admin` for whoever has that role on this
    workflow, or a greater one. When empty: operators."""
    on_timeout: Literal["fail", "approve", "skip"] = "fail"
    """What becomes of the job when nobody has decided within `timeout_minutes`."""


AnyJob = EcsJob | EmrJob | SsmJob | WorkflowJob | ApprovalJob
Job = Annotated[AnyJob, Field(discriminator="type")]


class Defaults(_Model):
    """What jobs get when they do not say it themselves; `retry`, `timeouts` and `environment` merge key by key."""

    retry: Retry | None = None
    """For all jobs."""
    timeouts: Timeouts | None = None
    """For all jobs."""
    timeout_minutes: Minutes | None = None
    """For all jobs: short for `timeouts.run_minutes`."""
    stop_grace_seconds: float | None = Field(default=None, ge=0, le=120)
    """For all jobs."""
    priority: int | None = Field(default=None, ge=-1000, le=1000)
    """For all jobs."""
    doubt: Doubt | None = None
    """For all jobs."""
    environment: Environment | None = None
    """For all jobs."""
    secrets: Secrets | None = None
    """For all jobs."""
    ecs: dict[str, Any] | None = None
    """Further fields for jobs of type `ecs`."""
    emr: dict[str, Any] | None = None
    """Further fields for jobs of type `emr`."""
    ssm: dict[str, Any] | None = None
    """Further fields for jobs of type `ssm`."""


class Workflow(_Model):
    """A workflow: when it runs, with what parameters, and its jobs."""

    name: Name
    """Unique in the deployment."""
    owner: Annotated[str, StringConstraints(max_length=128)] = ""
    """A person or team, for lists and filters."""
    description: Text = ""
    """For people."""
    tags: tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...] = Field(default=(), max_length=50)
    """For lists and filters."""
    schedule: Schedule | None = None
    """When runs are due; absent means only on request."""
    triggers: tuple[Trigger, ...] | None = Field(default=None, max_length=TRIGGERS_MAX)
    """What starts runs besides time: objects, events, messages, signed requests, ends of other workflows' runs."""
    parameters: dict[str, Any] | None = None
    """A JSON Schema (draft 2020-12) of type object; defaults are filled in, values are checked when a run is asked for."""
    parallelism: int = Field(default=PARALLELISM_DEFAULT, ge=1, le=JOBS_MAX)
    """Attempts of one run under way at once."""
    overlap: Literal["allow", "skip", "queue", "cancel_running"] = "allow"
    """What becomes of a scheduled run that is due while another one is active."""
    max_active_runs: int | None = Field(default=None, ge=1, le=1000)
    """Runs active at once; further ones wait in order."""
    deadline: Deadline | None = None
    """By when a run must have ended."""
    late: Late | None = None
    """When a run is later than people are used to."""
    notify: Annotated[tuple[Notify, ...], Field(max_length=RULES_MAX)] | None = None
    """Whom to tell of what."""
    waits_for: Waits = None
    """What must be there outside a run before any of its jobs starts."""
    defaults: Defaults | None = None
    """What jobs get when they do not say it themselves."""
    jobs: tuple[Job, ...] = Field(min_length=1, max_length=JOBS_MAX)
    """The work."""
