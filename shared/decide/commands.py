"""What can be asked of a stream. A command is a request: deciding may answer with events, with nothing, or with `Rejected`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from shared.decide.access import Role
from shared.decide.occasions import Carry
from shared.events import Notice, RunRequested
from shared.ids import BackfillId, Digest, Handle, JobName, PoolName, RunId, StreamName, WorkflowName
from shared.state.pool import Place

# --- to a run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRun:
    """Start this run; asking twice starts it once."""

    request: RunRequested


@dataclass(frozen=True, slots=True)
class Advance:
    """Look at the time, and go on with whatever can go on."""


@dataclass(frozen=True, slots=True)
class RecordClaim:
    """Before asking a target that takes no token: nobody else may send."""

    job: JobName
    attempt: int
    claimer: str
    request: Mapping[str, Any]
    send_before: datetime
    looked_at: datetime | None = None
    """When the look began that found nothing, where what is in doubt is to be asked for again; None: nobody looked."""


@dataclass(frozen=True, slots=True)
class ReleaseClaim:
    """The target answered that it took nothing."""

    job: JobName
    attempt: int
    claimer: str
    reason: str
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class PostponeStart:
    """A target that takes tokens did not take this request for now. An earlier one under the token may have been taken, so the attempt goes
    on, and the same is asked again."""

    job: JobName
    attempt: int
    reason: str
    retry_seconds: float
    first: bool
    """Whether this was surely the first request for it."""
    claimer: str = ""
    """Whom it answered."""


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Somebody is about to ask a target, that took no request so far, for an attempt under its token. `Rejected`: he must not."""

    job: JobName
    attempt: int
    claimer: str
    within_seconds: float
    """So long nobody else asks."""


@dataclass(frozen=True, slots=True)
class RecordUnheard:
    """Somebody asked for an attempt under its token, and whether it was taken is not known: he heard no answer, or died."""

    job: JobName
    attempt: int
    retry_seconds: float
    """When to ask again, if that is not known yet."""


@dataclass(frozen=True, slots=True)
class RecordRefusal:
    """Nothing was begun under the attempt's token or claim, and nothing will be: the target said so, or two looks found nothing."""

    job: JobName
    attempt: int
    failure: Literal["capacity", "refused"]
    reason: str
    looked_at: datetime | None = None
    """When the look began that found nothing, where it is in doubt; None: the target answered."""


@dataclass(frozen=True, slots=True)
class RecordReport:
    """What a target says of an attempt; fields as in `ports.Report`."""

    job: JobName
    attempt: int
    status: Literal["submitted", "running", "succeeded", "failed", "cancelled", "missing", "unknown"]
    handle: Handle | None = None
    exit_code: int | None = None
    failure: Literal["user", "infrastructure", "capacity", "timeout", "refused"] | None = None
    reason: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    looked_at: datetime | None = None
    """With status `missing`: when the look began, for what it did not see may be there by now; None: just now."""


@dataclass(frozen=True, slots=True)
class RecordSilence:
    """We asked, and cannot know whether it was done."""

    job: JobName
    attempt: int
    reason: str
    claimer: str | None = None
    """Whose request was not answered, where a claim guards it; empty: a look that found out nothing. None: whoever has the claim."""


@dataclass(frozen=True, slots=True)
class RecordStopSent:
    job: JobName
    attempt: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found out of one thing that is waited for."""

    job: JobName
    """Empty: the whole run waits for it."""
    number: int
    there: bool
    """False: it will never be."""
    run: str = ""
    version: int = 0
    outcome: str = ""
    """How the run, or the job of it, ended; empty for what can only be there or not."""
    reason: str = ""
    since: datetime | None = None
    """When the wait began that was looked at: a finding says nothing of one that began later."""


@dataclass(frozen=True, slots=True)
class RecordLook:
    """All that the run waits for outside was looked at."""

    findings: tuple[Finding, ...]
    """Of what nothing certain can be said yet there is none."""
    looked_at: datetime
    """When the look began: a deadline later than this is not judged by it."""


@dataclass(frozen=True, slots=True)
class CancelRun:
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CancelJob:
    job: JobName
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MarkJob:
    job: JobName
    outcome: Literal["succeeded", "failed", "skipped"]
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class DecideApproval:
    """Somebody says yes or no to a job that waits for that."""

    job: JobName
    verdict: Literal["approved", "rejected"]
    by: str
    role: Role | None
    """The greatest that they have on this workflow."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReopenRun:
    """A new round: the jobs named (or, with `failed`, all that ended badly) and everything that depends on them."""

    jobs: tuple[JobName, ...]
    failed: bool
    document: Digest
    document_version: int
    changes: tuple[str, ...]
    by: str
    reason: str = ""
    request: str = ""
    parameters: Mapping[str, Any] | None = None
    """By the document's schema, when they are not what the run has."""


@dataclass(frozen=True, slots=True)
class TakePlace:
    """The pool granted the place that the attempt waits for."""

    job: JobName
    attempt: int
    round: int
    pool: PoolName


RunCommand = (
    RequestRun
    | Advance
    | RecordClaim
    | ReleaseClaim
    | PostponeStart
    | AskAgain
    | RecordUnheard
    | RecordRefusal
    | RecordReport
    | RecordSilence
    | RecordStopSent
    | RecordLook
    | CancelRun
    | CancelJob
    | MarkJob
    | DecideApproval
    | ReopenRun
    | TakePlace
)

# --- to a workflow ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterWorkflow:
    """Make this document the live version."""

    workflow: WorkflowName
    document: Digest
    by: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class UnregisterWorkflow:
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PauseWorkflow:
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumeWorkflow:
    by: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Deal with every scheduled instant up to now, and let in who waits if there is room."""


@dataclass(frozen=True, slots=True)
class AdmitRun:
    """Let this run in, or have it wait for its turn; for workflows that limit how many are active."""

    request: RunRequested


@dataclass(frozen=True, slots=True)
class RefuseEvent:
    """Record that an event, which fits a trigger, cannot become a run."""

    run: RunId
    trigger: str
    event: str
    content: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropHeldRun:
    run: RunId
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseRun:
    """A run ended."""

    run: RunId
    outcome: Literal["succeeded", "failed", "cancelled", "lost"]


WorkflowCommand = (
    RegisterWorkflow
    | UnregisterWorkflow
    | PauseWorkflow
    | ResumeWorkflow
    | Tick
    | AdmitRun
    | RefuseEvent
    | DropHeldRun
    | ReleaseRun
)

# --- to a calendar ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterCalendar:
    """Make these the days of a calendar."""

    calendar: str
    days: tuple[str, ...]
    timezone: str | None
    description: str
    by: str
    source: str = ""


# --- to a pool --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetCapacity:
    pool: PoolName
    capacity: int
    by: str


@dataclass(frozen=True, slots=True)
class RequestPlace:
    """An attempt wants a place; asking twice is asking once."""

    pool: PoolName
    place: Place
    weight: int
    priority: int
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class ReleasePlace:
    """Whoever holds or awaits this place needs it no more."""

    place: Place
    reason: str = ""
    """Empty for the attempt's end."""


@dataclass(frozen=True, slots=True)
class GrantPlaces:
    """Go on granting while there is room."""


PoolCommand = SetCapacity | RequestPlace | ReleasePlace | GrantPlaces

# --- to an upload -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AcceptDocument:
    """`calendar` instead of `workflow` for what is a calendar."""

    upload: str
    workflow: WorkflowName
    document: Digest
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class RejectDocument:
    upload: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveDocument:
    upload: str


DocumentCommand = AcceptDocument | RejectDocument | RemoveDocument

# --- to a backfill ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestBackfill:
    """Run a stretch of a schedule; asking twice asks once."""

    backfill: BackfillId
    workflow: WorkflowName
    document: Digest
    document_version: int
    range_from: datetime
    range_until: datetime
    """Not included."""
    order: Literal["oldest", "newest"]
    which: Literal["all", "missing", "failed"]
    max_active: int
    parameters: Mapping[str, Any]
    previous_success_at: datetime | None
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the newest run of an instant."""

    number: int
    """Which of the instant's runs it is, from 1; 0 when there is none."""
    status: Literal["none", "active", "succeeded", "failed", "cancelled", "unreadable", "excluded"]
    reason: str = ""
    """Why the schedule's calendars exclude it."""


@dataclass(frozen=True, slots=True)
class AdvanceBackfill:
    """Go on with the next instants, as far as there is room and it is known what became of them."""

    looks: Mapping[datetime, Look]


@dataclass(frozen=True, slots=True)
class RecordRunEnd:
    """A run of the backfill ended, or is another's."""

    run: RunId
    outcome: Literal["succeeded", "failed", "cancelled", "taken"]


@dataclass(frozen=True, slots=True)
class PauseBackfill:
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumeBackfill:
    by: str


@dataclass(frozen=True, slots=True)
class CancelBackfill:
    by: str
    reason: str = ""


BackfillCommand = RequestBackfill | AdvanceBackfill | RecordRunEnd | PauseBackfill | ResumeBackfill | CancelBackfill

# --- to what is told of a stream ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanNotices:
    """These notices follow from the source's commits up to `until`; those of commits that were dealt with are passed over."""

    source: StreamName
    document: Digest
    until: int
    carry: Carry
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class RecordSent:
    """The channel took it."""

    notice: str
    receipt: str


@dataclass(frozen=True, slots=True)
class RecordNotSent:
    """The channel did not, at this attempt; `never`: nor will it."""

    notice: str
    attempt: int
    reason: str
    never: bool


NoticeCommand = PlanNotices | RecordSent | RecordNotSent
Command = (
    RunCommand | WorkflowCommand | RegisterCalendar | DocumentCommand | BackfillCommand | PoolCommand | NoticeCommand
)
