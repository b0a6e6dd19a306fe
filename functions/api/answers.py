"""The shapes of answers, for the OpenAPI document alone: nothing is built from these models, so no request pays for them.

The objects themselves come from `shared/views/objects.py`; a test holds every answer to its shape, and the shapes to the objects.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""UTC, with a `Z`."""


class _Shape(BaseModel):
    """Fields are only ever added, so others may follow; those named here are always there."""

    model_config = ConfigDict(extra="allow")


class Problem(_Shape):
    path: str = Field(description="Where: `jobs[2].after[0]`, or empty for the whole.")
    message: str
    hint: str = Field(description="What would be right.")


class ProblemDetails(_Shape):
    """Problem details of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    problems: list[Problem]


class Health(_Shape):
    status: Literal["ok"]
    release: str


class WorkflowRow(_Shape):
    workflow: str
    live_version: int | None
    paused: bool
    schedule: str
    next_at: Time | None
    owner: str
    tags: list[str]
    active_runs: list[str]
    held_runs: list[str]


class WorkflowRows(_Shape):
    workflows: list[WorkflowRow]
    cursor: str


class Pause(_Shape):
    by: str
    reason: str
    at: Time | None


class HeldRun(_Shape):
    run: str
    since: Time | None
    reason: str


class Version(_Shape):
    version: int
    document: str = Field(description="SHA-256 of the document with everything resolved.")
    registered_at: Time | None
    by: str
    source: str


class TriggeringEvent(_Shape):
    trigger: str
    event: str = Field(description="For people.")


class TriggerInWords(_Shape):
    name: str
    type: Literal["s3", "event", "queue", "webhook", "workflow"]
    waits_for: str = Field(description="For people.")


class TurnedAwayEvent(_Shape):
    at: Time
    trigger: str
    event: str = Field(description="What it was, for people.")
    how: Literal["refused", "missed", "dropped"]
    reason: str
    run: str = Field(description="That it would have been.")


class Workflow(_Shape):
    workflow: str
    version: int = Field(description="Of the workflow's stream.")
    live_version: int | None = Field(description="Of its document; null when unregistered.")
    owner: str
    description: str
    tags: list[str]
    schedule: str
    next_at: Time | None
    paused: Pause | None
    active_runs: list[str]
    held_runs: list[HeldRun]
    versions: list[Version]
    triggers: list[TriggerInWords]
    turned_away: list[TurnedAwayEvent] = Field(description="The newest events that became no run, the newest first.")


class TakenEvent(_Shape):
    workflow: str
    trigger: str
    run: str = Field(description="That the event is, or would have been.")
    fate: Literal["started", "known", "held", "missed", "refused"] = Field(
        description="`known`: it had its fate before; `missed`: the workflow is paused, or too many wait."
    )
    reason: str


class Events(_Shape):
    taken: list[TakenEvent] = Field(
        description="For each trigger that it fits, of the workflows that the caller may run."
    )


class Versions(_Shape):
    workflow: str
    live_version: int | None
    versions: list[Version]


class VersionDocument(Version):
    workflow: str
    content: dict[str, Any] = Field(description="The workflow document with everything resolved.")


class Differences(_Shape):
    workflow: str
    old: int
    new: int
    differences: list[str]


class Registered(_Shape):
    workflow: str
    version: int
    changed: bool
    differences: list[str]


class Instant(_Shape):
    at: Time
    local: str = Field(description="As the schedule's own zone shows it.")
    note: Literal["", "gap_shifted", "overlap_first", "overlap_second"]
    excluded: str = Field(description="Why nothing runs then: the day, and the calendar that names it; or empty.")


class OddDay(_Shape):
    day: str = Field(description="In the schedule's own zone.")
    note: Literal["gap_shifted", "gap_skipped", "overlap_first", "overlap_second", "excluded"]
    at: Time | None = Field(description="The first instant that is touched; null where there is none because of it.")
    reason: str


class Instants(_Shape):
    workflow: str
    schedule: str
    paused: bool
    instants: list[Instant]


class Plan(_Shape):
    workflow: str
    change: Literal["new", "changed", "unchanged", "again"]
    live_version: int | None
    next_version: int | None
    paused: bool
    differences: list[str]
    schedule: str
    instants: list[Instant]
    odd_days: list[OddDay] = Field(
        description="The first 50 days of the coming year on which the clocks change an instant, or a date is excluded."
    )
    jobs: int
    jobs_by_type: dict[str, int]
    uploads: list[str]
    secrets: list[str]


class Calendar(_Shape):
    calendar: str
    version: int
    description: str
    timezone: str | None = Field(description="Null: that of each schedule that names it.")
    days: list[str]
    registered_at: Time
    by: str
    source: str


class Calendars(_Shape):
    calendars: list[Calendar]
    cursor: str


class RegisteredCalendar(_Shape):
    calendar: str
    version: int
    changed: bool


class RunRow(_Shape):
    run: str
    workflow: str
    status: Literal["waiting", "running", "succeeded", "failed", "cancelled"]
    scheduled_at: Time | None
    requested_at: Time
    started_at: Time | None
    finished_at: Time | None
    duration_seconds: float | None
    version: int
    trigger: str
    owner: str
    tags: list[str]
    jobs: dict[str, int]
    attention: list[str]
    parent: str | None = Field(description="The run that it was started for.")


class Scan(_Shape):
    rows: int | None = Field(description="Rows looked at; null for callers who may not see every run.")
    stopped: bool = Field(description="Whether the page ended at the bound, maybe short: the cursor goes on.")


class RunRows(_Shape):
    runs: list[RunRow]
    cursor: str
    scan: Scan | None = Field(description="Null where a list is kept that is just what was asked for.")


class Attempt(_Shape):
    attempt: int
    status: str
    handle: str | None
    exit_code: int | None
    failure_class: str | None
    queued_at: Time | None
    submitted_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    reason: str
    late: list[str]
    round: int | None


class Items(_Shape):
    count: int
    statuses: dict[str, int] = Field(description="How many are in each.")
    tolerated: int = Field(description="So many may end badly without failing the job.")
    max_parallel: int | None
    bad: list[str] = Field(description="The first of those that ended badly.")


class Job(_Shape):
    name: str
    type: Literal["ecs", "emr", "ssm", "workflow", "approval"]
    status: str
    reason: str
    after: list[str]
    since: Time | None
    started_at: Time | None
    ended_at: Time | None
    duration_seconds: float | None
    retry_at: Time | None
    expires_at: Time | None = Field(description="Of an approval: when nobody's decision is waited for any longer.")
    child: str | None = Field(description="Of a job of type workflow: the run that its newest attempt is.")
    marked_by: str
    outputs: dict[str, Any] | None
    files: dict[str, str]
    attempts: list[Attempt]
    items: Items | None = Field(description="Of a job with `for_each`: all its items, in short.")


class Jobs(_Shape):
    run: str
    version: int
    jobs: list[Job]
    after: str = Field(description="Where the next page begins; empty at the end.")


class ItemsPage(_Shape):
    run: str
    version: int
    job: str
    items: list[Job]
    after: str = Field(description="Where the next page begins; empty at the end.")


class Held(_Shape):
    since: Time | None
    reason: str


class Cancelled(_Shape):
    by: str
    reason: str
    at: Time | None


class Parent(_Shape):
    run: str
    job: str
    attempt: int


class Child(_Shape):
    job: str
    attempt: int
    run: str


class Lateness(_Shape):
    """Whether the run is late, or has missed its deadline."""

    deadline_at: Time | None
    deadline_missed: bool
    late_since: Time | None
    late_cause: str | None


class Run(_Shape):
    run: str
    workflow: str
    version: int = Field(description="Of the run's stream; 0 for one that has not begun.")
    document_version: int
    document: str
    status: str
    trigger: str
    backfill: str | None = Field(description="The backfill that it is a part of.")
    event: TriggeringEvent | None = Field(description="With trigger `event`: which, through which trigger.")
    requested_by: str
    note: str
    parameters: dict[str, Any]
    requested_at: Time
    scheduled_at: Time | None
    start_after: Time | None
    started_at: Time | None
    finished_at: Time | None
    duration_seconds: float | None
    as_of: Time
    round: int
    cancel: Cancelled | None
    held: Held | None
    lateness: Lateness
    attention: list[str]
    parent: Parent | None = Field(description="The attempt that this run was started for.")
    children: list[Child] = Field(description="Runs that were started for attempts of its jobs.")
    jobs: list[Job]


class FilePlace(_Shape):
    name: str
    method: Literal["PUT"]
    url: str = Field(
        description="Where to put its bytes: at this API, if it begins with `/`, or elsewhere without your token."
    )
    headers: dict[str, str] = Field(description="To be sent exactly so.")


class Uploads(_Shape):
    run: str = Field(description="The id that the run will have.")
    workflow: str
    files: list[FilePlace]


class PutFile(_Shape):
    run: str
    sha256: str


class RequestedRun(_Shape):
    run: str
    workflow: str
    new: bool = Field(description="False when this Idempotency-Key had asked for it before.")
    held: bool = Field(description="Whether it waits for a limit of its workflow.")


class ActedOn(_Shape):
    run: str
    workflow: str
    status: str
    version: int
    round: int
    changes: list[str] = Field(description="After a rerun on another version of the document: what changed.")


class Condition(_Shape):
    code: str
    subject: str
    message: str
    since: Time | None
    clears: str
    clears_at: Time | None
    holders: list[str]
    chain: list["Condition"]


class Why(_Shape):
    run: str
    job: str | None
    at: Time
    conditions: list[Condition]


class Notice(_Shape):
    id: str = Field(description="By which whoever receives it twice can tell.")
    on: str
    at: Time
    channel: Literal["email", "sns", "webhook", "command"]
    to: str
    subject: str
    status: Literal["open", "sent", "failed"]
    attempts: int
    planned_at: Time
    retry_at: Time | None
    ended_at: Time | None
    reason: str


class AlertRow(_Shape):
    source: str = Field(description="The stream that it is about: `run#…` or `workflow#…`.")
    workflow: str
    at: Time
    open: int
    failed: int
    notices: list[Notice] = Field(description="The newest, oldest first.")


class AlertRows(_Shape):
    alerts: list[AlertRow]
    cursor: str


class BackfillRow(_Shape):
    backfill: str
    workflow: str
    status: Literal["running", "paused", "cancelling", "succeeded", "failed", "cancelled"]
    which: Literal["missing", "failed", "all"]
    order: Literal["oldest", "newest"]
    from_: Time = Field(alias="from")
    until: Time
    count: int = Field(description="Instants in its range.")
    max_active: int
    active: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int = Field(description="Instants that needed no run, or whose run another had begun.")
    requested_at: Time
    requested_by: str
    finished_at: Time | None


class BackfillRows(_Shape):
    backfills: list[BackfillRow]
    cursor: str


class Backfill(BackfillRow):
    version: int = Field(description="Of the backfill's stream.")
    reason: str
    document_version: int
    document: str
    parameters: dict[str, Any]
    paused: Pause | None
    cancel: Cancelled | None
    active_runs: list[str]
    waits_for: str = Field(description="Why it begins no run now; empty when it is about to, or has finished.")


class InstantOfBackfill(_Shape):
    at: Time
    status: Literal["active", "succeeded", "failed", "cancelled", "taken", "skipped"]
    run: str | None
    since: Time
    reason: str


class InstantsOfBackfill(_Shape):
    backfill: str
    version: int
    instants: list[InstantOfBackfill]
    after: str = Field(description="Where the next page begins; empty at the end.")


class RequestedBackfill(_Shape):
    backfill: str | None = Field(description="Null for a rehearsal.")
    workflow: str
    new: bool = Field(description="False when this Idempotency-Key had asked for it before, and for a rehearsal.")
    count: int = Field(description="Instants in its range.")
    rehearsal: "Rehearsal | None" = Field(description="What it would do, when only that was asked.")


class Rehearsal(_Shape):
    from_: Time = Field(alias="from")
    until: Time
    first: Instant
    last: Instant
    looked: int = Field(description="Instants whose runs were looked at, the first ones in its order.")
    to_run: int = Field(description="Of those.")
    runs: dict[str, int] = Field(
        description="Of those, by what became of them: none, active, succeeded, failed, cancelled."
    )
    odd: list[Instant] = Field(description="The first ones to which a change of the clocks did something.")
    odd_count: int


class Commit(_Shape):
    stream: str
    version: int
    at: Time
    by: str
    cause: str
    hash: str
    events: list[dict[str, Any]]


class Pool(_Shape):
    pool: str
    version: int = Field(description="Of the pool's stream.")
    capacity: int
    declared: bool = Field(description="False as long as nobody has set the capacity: then it is 1.")
    declared_by: str
    used: int = Field(description="The weight of all places held.")
    holders: int
    waiting: int
    as_of: Time


class Pools(_Shape):
    pools: list[Pool]
    cursor: str


class HeldPlace(_Shape):
    run: str
    job: str
    attempt: int
    weight: int
    since: Time


class AwaitedPlace(HeldPlace):
    priority: int
    expected_at: Time | None = Field(
        description="Going by how long these jobs usually hold their places; null where that is not known."
    )


class HeldPlaces(_Shape):
    pool: str
    version: int
    holders: list[HeldPlace]
    after: int | None = Field(description="Where the next page begins; null at the end.")


class AwaitedPlaces(_Shape):
    pool: str
    version: int
    line: list[AwaitedPlace]
    after: int | None = Field(description="Where the next page begins; null at the end.")


class Commits(_Shape):
    commits: list[Commit]
    after: int = Field(description="Where the next page begins; the same as asked for when nothing has happened since.")


class Line(_Shape):
    at: Time
    stream: Literal["out", "err"]
    host: str
    text: str


class Output(_Shape):
    run: str
    job: str
    attempt: int | None
    lines: list[Line]
    cursor: str
    complete: bool = Field(description="Whether nothing can follow.")
    absent: str = Field(description="Why there is no output; empty when there is some, or may be soon.")


class File(_Shape):
    path: str
    job: str
    attempt: int | None
    saved: bool
    size: int | None = Field(description="Bytes; null when it is gone.")
    href: str


class Files(_Shape):
    run: str
    files: list[File]


class RefusedRun(_Shape):
    run: str
    reason: str


class BulkAnswer(_Shape):
    dry_run: bool
    done: list[str] = Field(description="With dry_run, those that would be asked.")
    refused: list[RefusedRun]
    cursor: str = Field(description="Where to go on; empty when the filter finds no more.")
