"""What the core asks of the world, as protocols; adapters stand in `stores/`, `executors/` and `local/`.

Each protocol has one contract suite in `tests/contract/` that every adapter passes. Where an adapter may be slow, fail or
repeat itself, the docstring says what the caller may rely on.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from shared.ids import BackfillId, CommitId, Digest, Handle, JobName, RunId, StreamName, Token, WorkflowName
from shared.workflow.notices import Notify

COMMIT_BYTES_MAX = 100_000
"""Of a commit's body. DynamoDB refuses items over 400 KB; ours is lower so that a console and a stream record stay readable."""
PAGE_MAX = 1_000
"""Rows in one page of any list."""

FIRST_HASH = "0" * 64
"""What the first commit of a stream names as the hash before it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One commit as a store keeps it. `body` is the JSON text of its events; stores never look inside."""

    stream: StreamName
    version: int
    """From 1, dense."""
    commit_id: CommitId
    """Unique to this put: tells my own retried put from a rival with the same content."""
    at: datetime
    """Aware, UTC, microseconds; never earlier than the commit before."""
    by: str
    cause: str
    """What led to it: a command's id, or the upload, schedule or report it came from."""
    previous_hash: str
    hash: str
    body: str


class EventStore(Protocol):
    """The append-only table of commits."""

    def append(self, record: Record) -> None:
        """Store `record` iff its version is the stream's next one.

        Own retry (the stored commit has the same `commit_id`): success. A rival: `Conflict`. A gap (version above the
        next one): `Conflict` as well. Throttled or unreachable: `StoreUnavailable`; then it may or may not be stored,
        and putting the very same record again finds out.
        """
        ...

    def read(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        """The commits with version > `after`, ascending, at most `limit`; strongly consistent."""
        ...

    def streams(self, kind: str, *, after: str = "", limit: int = PAGE_MAX) -> list[StreamName]:
        """Names of streams of a kind (`run`), ascending, those greater than `after`; for rebuilding and verifying only."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """Appends and due rows written inside become durable together at its end, where the store can do that (SQLite);
        elsewhere each is durable on its own. If the end raises, none was stored."""
        ...


@dataclass(frozen=True, slots=True)
class DueRow:
    """A live stream must be looked at no later than `at`. One row a stream."""

    stream: StreamName
    at: datetime


class Dues(Protocol):
    """The index of live streams by due time. A row too early is harmless; a row too late or missing loses work."""

    def get(self, stream: StreamName) -> datetime | None: ...

    def lower(self, stream: StreamName, at: datetime) -> None:
        """Write the row, or move it to `at` if it is later; never moves it to a later time."""
        ...

    def raise_to(self, stream: StreamName, *, seen: datetime, at: datetime) -> bool:
        """Move the row from exactly `seen` to the later `at`; False, and nothing done, if it is no longer at `seen`."""
        ...

    def remove(self, stream: StreamName, *, seen: datetime) -> bool:
        """Take the row away iff it is still at exactly `seen`."""
        ...

    def due(self, now: datetime, *, limit: int = PAGE_MAX) -> list[DueRow]:
        """Rows with `at` <= now, earliest first, at most `limit`."""
        ...

    def next_at(self) -> datetime | None:
        """The earliest row's instant; None when no stream is alive."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folded state kept to save reading; may vanish at any time and is never the truth."""

    stream: StreamName
    version: int
    fold_version: int
    """Of the folding code that made it; another number means: ignore it."""
    hash: str
    """Of the commit at `version`; if the stream has another there, ignore the snapshot."""
    body: bytes


class Snapshots(Protocol):
    def get(self, stream: StreamName, fold_version: int) -> Snapshot | None: ...
    def put(self, snapshot: Snapshot) -> None:
        """Keep it unless a newer one of the same fold version is there."""
        ...

    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in lists. Derived from its stream at `version`; times are aware and UTC."""

    run: RunId
    workflow: WorkflowName
    version: int
    status: str
    """waiting | running | succeeded | failed | cancelled"""
    owner: str
    tags: tuple[str, ...]
    trigger: str
    requested_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    jobs: Mapping[str, int] = field(default_factory=dict)
    """Number of jobs by status."""
    attention: tuple[str, ...] = ()
    """What a person should know: `doubt`, `stop_flagged`, `approval`, `late`, `deadline_missed`."""
    parent: str = ""
    """The run that it was started for; empty for one that is nobody's child."""


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A workflow in lists."""

    workflow: WorkflowName
    stream_version: int
    live_version: int | None
    """Of its document; None when unregistered."""
    owner: str
    tags: tuple[str, ...]
    paused: bool
    next_at: datetime | None
    schedule: str
    """For people: `0 2 * * * Europe/Berlin`."""
    active_runs: tuple[str, ...] = ()
    held_runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackfillRow:
    """A backfill in lists."""

    backfill: BackfillId
    workflow: WorkflowName
    version: int
    """Of its stream."""
    status: str
    """`running`, `paused`, `cancelling`, `succeeded`, `failed` or `cancelled`."""
    owner: str
    tags: tuple[str, ...]
    which: str
    order: str
    range_from_at: datetime
    range_until_at: datetime
    requested_at: datetime
    requested_by: str
    finished_at: datetime | None
    count: int
    """Instants in its range."""
    max_active: int
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """What was told of one stream, in lists. Derived from the stream of its notices at `version`."""

    source: StreamName
    workflow: WorkflowName
    version: int
    at: datetime
    """When the newest of them was planned."""
    open: int
    """Planned, and neither sent nor given up."""
    failed: int
    """Given up."""
    notices: tuple[Mapping[str, Any], ...] = ()
    """The newest, oldest first: `id`, `on`, `at`, `channel`, `to`, `subject`, `status`, `attempts`, `reason`, ..."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Every field that is not None must hold."""

    workflow: str | None = None
    status: str | None = None
    owner: str | None = None
    tag: str | None = None
    attention: str | None = None
    """One of the words of `RunRow.attention`."""
    parent: str | None = None
    """The run that they were started for."""
    since: datetime | None = None
    """Requested at or after."""
    until: datetime | None = None
    """Requested before."""

    @property
    def is_listed(self) -> bool:
        """Whether a list is kept that is just this: of all runs, and those of a workflow, status or owner, in time order."""
        named = [value for value in (self.workflow, self.status, self.owner) if value is not None]
        looked_for = (self.tag, self.attention, self.parent)
        return all(value is None for value in looked_for) and len(named) <= 1


RunSort = Literal["newest", "oldest"]
"""By the time they were asked for."""
SCANNED_MAX = 2_000
"""Rows looked at for one page of runs where no list is just what was asked for."""


class RunPage(NamedTuple):
    """Of a list of runs."""

    rows: list[RunRow]
    cursor: str
    """Where the next page begins; empty at the end."""
    scanned: int = 0
    """Rows that had to be looked at because no list is just this; with `SCANNED_MAX` of them a page ends, full or not."""


class Views(Protocol):
    """Read models. A put with a version not greater than the stored one changes nothing."""

    def put_run(self, row: RunRow) -> None: ...
    def get_run(self, run: RunId) -> RunRow | None: ...
    def runs(
        self, where: RunFilter = RunFilter(), *, sort: RunSort = "newest", cursor: str = "", limit: int = 50
    ) -> RunPage:
        """A page in the order of requests; pages hold still while runs arrive. `InvalidInput` for a cursor of another sort.

        A filter that is a list (`RunFilter.is_listed`) costs what the page shows, however many runs there are.
        """
        ...

    def remove_run(self, run: RunId) -> None: ...
    def put_workflow(self, row: WorkflowRow) -> None: ...
    def get_workflow(self, workflow: WorkflowName) -> WorkflowRow | None: ...
    def remove_workflow(self, workflow: WorkflowName) -> None: ...
    def workflows(self, *, cursor: str = "", limit: int = 50) -> tuple[list[WorkflowRow], str]:
        """By name, and the cursor of the next page."""
        ...

    def put_backfill(self, row: BackfillRow) -> None: ...
    def get_backfill(self, backfill: BackfillId) -> BackfillRow | None: ...
    def remove_backfill(self, backfill: BackfillId) -> None: ...
    def backfills(
        self, workflow: WorkflowName | None = None, *, cursor: str = "", limit: int = 50
    ) -> tuple[list[BackfillRow], str]:
        """Of all workflows or of one, the newest request first, and the cursor of the next page."""
        ...

    def put_listeners(self, workflow: WorkflowName, generation: int, keys: Sequence[str]) -> None:
        """From this generation on (a number that grows whenever the live document changes), the workflow is to be found under these
        keys and no others. Not later than an older generation's, whoever comes last.

        What is found too much is harmless, for whoever looks asks the live document; what is missing loses an event.
        """
        ...

    def listeners(self, key: str, *, after: str = "", limit: int = PAGE_MAX) -> list[WorkflowName]:
        """The workflows under a key, by name, those greater than `after`; strongly consistent."""
        ...

    def put_notices(self, row: NoticeRow) -> None: ...
    def get_notices(self, source: StreamName) -> NoticeRow | None: ...
    def notices(
        self, *, workflow: str | None = None, since: datetime | None = None, cursor: str = "", limit: int = 50
    ) -> tuple[list[NoticeRow], str]:
        """Those told of last first, of one workflow or all, planned at or after `since`; and the cursor of the next page."""
        ...

    def remove_notices(self, source: StreamName) -> None: ...
    def clear(self) -> None:
        """Forget every row, before a rebuild; not where workflows are to be found, which loses events while it is missing."""
        ...


class Documents(Protocol):
    """Content-addressed, immutable bytes: workflow documents, requests too large for an event."""

    def put(self, data: bytes) -> Digest:
        """Durable when it returns; the same bytes twice are one document."""
        ...

    def get(self, digest: Digest) -> bytes:
        """`NotFound` if it is not there; `CorruptStream` if the bytes are not those of the digest."""
        ...


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt as a target is asked for it. The same token always comes with the same request."""

    token: Token
    run: RunId
    job: JobName
    attempt: int
    body: Mapping[str, Any]
    """The job of the document with its templates rendered, as JSON values: `type`, and that type's fields."""
    inputs: tuple[Mapping[str, Any], ...] = ()
    """The job's inputs with their sources resolved: `path` and one of `content`, `url`, `s3`, `artifact`; `sha256`."""
    outputs: tuple[Mapping[str, Any], ...] = ()
    """The declared outputs: `path`, `save`, `optional`."""
    send_before: datetime | None = None
    """Where a claim guards the sending: until when this process alone may send. No part of what is asked for."""


ReportStatus = Literal["submitted", "running", "succeeded", "failed", "cancelled", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a target says of an attempt. `missing`: it was looked for wherever it can be, and the target knows nothing under that
    handle or token, which right after a start proves nothing. `unknown`: it ended, or vanished, and nobody can say how; or,
    `cut_short`, it was looked for without a handle and not everywhere, so that it may be there or not."""

    token: Token
    run: RunId
    job: JobName
    attempt: int
    status: ReportStatus
    handle: Handle | None = None
    exit_code: int | None = None
    failure: Literal["user", "infrastructure", "capacity", "timeout", "refused"] | None = None
    """With status `failed`."""
    reason: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Declared outputs that were found: path to artifact address."""
    cut_short: bool = False
    """With status `unknown`: a bound of the search was reached, and nothing at all was learnt."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An attempt to be observed or stopped."""

    token: Token
    run: RunId
    job: JobName
    attempt: int
    handle: Handle | None
    """None when we asked and never heard the name: look by token."""
    outputs: tuple[Mapping[str, Any], ...] = ()
    """The declared outputs, for the report of success."""
    request: Mapping[str, Any] | None = None
    """Without a handle: the body it was asked for with, as the claim froze it, which says where to look. None: nobody knows."""
    asked_from: datetime | None = None
    """Without a handle: no request of it that may have been heard went out earlier, by our clocks."""
    asked_until: datetime | None = None
    """Without a handle: none went out later; None while one still may."""


class Executor(Protocol):
    """Starts, observes and stops attempts on one kind of target. Never waits for work to end."""

    takes_token: bool
    """Whether starting again with the same token surely does not start twice."""
    token_seconds: float | None
    """How long after the first start a token is known to be remembered; None: for ever. Meaningless without `takes_token`."""
    runs_at_once: bool
    """Whether what was accepted runs already (a local process), rather than waiting for room at the target."""

    def start(self, request: Request) -> Handle:
        """Ask for the work and return its name.

        `TargetUnavailable`: surely not taken, try later. `TargetRefused`: never. `TargetSilent`: cannot know.
        With `takes_token`, the same token again returns the first start's handle.
        """
        ...

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """One report for each reference, in order; a target that cannot be reached gives no report for it (omitted).

        Looking for what has no handle is bounded in pages and time; where the bound is met the report is `unknown` and
        `cut_short`, never `missing`.
        """
        ...

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        """Ask the work to end, then end it. Returns when the target accepted; stopping what has ended is no error.

        `TargetUnavailable` or `TargetSilent`: ask again later; also where the search for it was cut short.
        """
        ...


# --- telling people -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One notice on its way to a channel. Sent again after a lost answer it is the same but for `attempt`."""

    id: str
    """By which whoever receives it twice can tell."""
    on: str
    workflow: str
    run: str
    """Empty for what is about a workflow."""
    at: datetime
    """When it happened; aware, UTC."""
    subject: str
    text: str
    rule: Notify
    """Whom to tell, and how."""
    attempt: int
    """From 1."""


class Courier(Protocol):
    """One channel. Bounded in time: it gives up by itself within `COURIER_SECONDS`."""

    def send(self, message: Message) -> str:
        """Hand the message over; what the channel calls it, or empty.

        `TargetRefused`: the channel will never take it. `TargetUnavailable`: surely not taken, try later. `TargetSilent`: it may
        have been taken; trying again tells it again, under the same id.
        """
        ...


COURIER_SECONDS = 20
"""A batch of ten, side by side or not, stays within what a function has."""


class Effects(Protocol):
    """Where effects go to be carried out, at least once."""

    def send(self, effects: Iterable[Any], *, delay_seconds: float = 0) -> None: ...


# --- what attempts leave --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogSource:
    """The attempt whose output is read, and what the history knows of where it ran."""

    run: RunId
    job: JobName
    attempt: int
    target: str
    """The job's type: `ecs`, `emr` or `ssm`."""
    handle: Handle | None = None
    """None: no target is known to have taken it."""
    ended_at: datetime | None = None
    """None while it is under way."""


@dataclass(frozen=True, slots=True)
class LogLine:
    at: datetime
    """When it was surely there; UTC."""
    stream: Literal["out", "err"]
    text: str
    """Without its newline; bytes that are not UTF-8 are U+FFFD."""
    host: str = ""
    """Where several write (hosts, steps and what runs them), which."""


@dataclass(frozen=True, slots=True)
class LogPage:
    lines: tuple[LogLine, ...]
    cursor: str
    """Where the next page begins; opaque."""
    complete: bool
    """Whether nothing can follow."""
    absent: str = ""
    """On a first page without lines, where more is known than that there are none so far: why, and when there may be some."""


class Logs(Protocol):
    """Where the output of attempts is read."""

    def page(self, source: LogSource, *, stream: Literal["out", "err"] | None, cursor: str, bytes_max: int) -> LogPage:
        """Lines after the cursor, both streams unless one is named, about `bytes_max` of them.

        `NotFound`, saying why, when there is no output of the attempt; `InvalidInput` for a cursor that is none of this log.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A kept file: on this machine, or at an address from which whoever asked may fetch it for some minutes."""

    path: Path | None = None
    url: str = ""


class Artifacts(Protocol):
    """Where files are kept that jobs left."""

    def size(self, run: RunId, address: str) -> int | None:
        """Bytes; None when the file is gone."""
        ...

    def fetch(self, run: RunId, address: str) -> StoredFile:
        """`NotFound` when it is gone, or was never one of this run's."""
        ...


# --- what is given with a run ---------------------------------------------------------------------------------------------

GIVEN_FILE_BYTES_MAX = 1 << 30
"""Of one file that a run is given."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a file are to be put, with `PUT` and exactly these headers; for some minutes."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class GivenFiles(Protocol):
    """Where files are put that a run is given, before it is there. Each bears its digest, so a name that a person chose is never one
    on a disk or in a bucket."""

    def place(self, run: RunId, digest: Digest, size: int) -> Place:
        """Bound to these very bytes: others are refused where they arrive."""
        ...

    def receiver(self, run: RunId, digest: Digest) -> Path:
        """The file to write, where this engine itself takes the bytes. `NotFound` where `place` is elsewhere."""
        ...

    def kept(self, run: RunId, digests: Iterable[Digest]) -> AbstractContextManager[Mapping[Digest, str]]:
        """The addresses of those that arrived. What is kept for the run stays, unless the block raises."""
        ...


# --- what runs wait for -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Waiter:
    """A run that waits for something of a workflow."""

    awaited: str
    """A run's id, or the workflow's name where any run of it may do."""
    job: str
    """Of the awaited run; empty for its end."""
    run: RunId
    """Who waits."""


class Waiters(Protocol):
    """Who waits for runs of a workflow, so that their ends can wake them. One too many is harmless, and so is one that is missing: a
    run that waits looks for itself now and then, and is added anew."""

    def add(self, waiter: Waiter) -> None:
        """Adding twice is adding once."""
        ...

    def remove(self, waiter: Waiter) -> None: ...

    def of(self, workflow: WorkflowName, *, awaited: str | None = None, limit: int = PAGE_MAX) -> list[Waiter]:
        """Who waits for runs of the workflow, or for just what is named; in order, the first `limit`."""
        ...


class Files(Protocol):
    """Where files are looked for that runs wait for."""

    prefix: str
    """How the addresses begin that can be looked for: `/`, `s3://`."""

    def find(self, address: str) -> str | None:
        """What is there, in a few words; None while there is nothing. `TargetUnavailable`: look again later. `TargetRefused`: this
        can never be looked at, and why."""
        ...
