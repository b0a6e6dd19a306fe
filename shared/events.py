"""What happened: the storage format of everything.

Events are immutable facts in the past tense. Each carries the decision *and* what it led to, so that folding never
reads policy. Fields are only ever added, with a default; an event type is never renamed or removed, a better one is added beside
it. A new type needs its branch in `evolve` and a golden stream before anything emits it.

The moment of an event is the time of the commit that holds it; a field named `..._at` in an event is another moment
(when a target says that the work ended, when the next attempt may start).

Three kinds are told apart by each class's `kind`: **observed** (a target or clock told us), **commanded** (a person or
the API asked) and **decided** (ours). What-if replay keeps the first two and makes the third anew.
"""

from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.ids import BackfillId, Digest, Handle, JobName, PoolName, RunId, StreamName, WorkflowName
from shared.workflow.document import FailureClass, Outcome
from shared.workflow.notices import Channel, Occasion

Kind = Literal["observed", "commanded", "decided"]
Json = Any
"""A JSON value; recursive types cost pydantic more than they tell the reader."""


class _Event(BaseModel):
    # Each is built when it is first used: a process that starts needs few of them.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    kind: ClassVar[Kind] = "decided"


# --- a run ------------------------------------------------------------------------------------------------------------


class ParentJob(BaseModel):
    """The attempt that a run was started for, by a job of type `workflow`."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    run: RunId
    job: JobName
    attempt: int
    depth: int
    """How many runs stand above this one: 1 for the child of a run that is nobody's child."""


class RunRequested(_Event):
    """The first event of every run: what is to be done, pinned."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["RunRequested"] = "RunRequested"
    run: RunId
    workflow: WorkflowName
    document: Digest
    """The resolved document's SHA-256; its bytes lie in the document store for as long as the run does."""
    document_version: int
    """The workflow's version number that this document had."""
    parameters: dict[str, Json] = {}
    """Checked and filled with defaults."""
    trigger: Literal["manual", "schedule", "backfill", "event", "parent"] = "manual"
    scheduled_at: AwareDatetime | None = None
    interval_start: AwareDatetime | None = None
    interval_end: AwareDatetime | None = None
    previous_success_at: AwareDatetime | None = None
    """The scheduled instant of the latest run of this workflow that had succeeded when this one was admitted."""
    start_after: AwareDatetime | None = None
    """Nothing starts before this moment."""
    files: dict[str, str] = {}
    """Files given with the run: name to artifact address."""
    admitted: bool = False
    """Whether the workflow's stream admitted it and must hear of its end."""
    trigger_name: str = ""
    """With trigger `event`: which of the document's triggers."""
    trigger_event: str = ""
    """What that event was, for people: an object's address, a message's or delivery's id, the run that ended."""
    chain: int = 0
    """How many runs in a row started each other by their ends before this one."""
    requested_by: str = ""
    note: str = ""
    backfill: BackfillId | None = None
    """The backfill that it is a part of, which must hear of its end."""
    parent: ParentJob | None = None
    """Whose job this run is; that job ends as this run does."""


class RunOpened(_Event):
    """The moment before which nothing could start has come."""

    type: Literal["RunOpened"] = "RunOpened"


class WaitBegun(_Event):
    """The run, or a job that could start otherwise, waits for something outside the run: for one thing of its `waits_for`."""

    type: Literal["WaitBegun"] = "WaitBegun"
    job: JobName = JobName("")
    """Empty: the whole run waits."""
    number: int
    """Its place in `waits_for`, from 0."""
    awaited: str
    """A run's id, a workflow's name where the run is not known yet, or a file's address."""
    deadline_at: AwareDatetime | None = None


class WaitMet(_Event):
    """What was waited for is there, or need not be; with the evidence."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["WaitMet"] = "WaitMet"
    job: JobName = JobName("")
    number: int
    run: str = ""
    """The run that was looked at."""
    version: int = 0
    """Of that run's stream, by which it had ended so."""
    outcome: str = ""
    reason: str = ""
    """Why it need not be there, or what was found."""


class WaitFailed(_Event):
    """What was waited for ended otherwise, or will never be there."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["WaitFailed"] = "WaitFailed"
    job: JobName = JobName("")
    number: int
    run: str = ""
    version: int = 0
    outcome: str = ""
    reason: str = ""


class WaitExpired(_Event):
    """The deadline passed, and a look at that moment did not find it."""

    type: Literal["WaitExpired"] = "WaitExpired"
    job: JobName = JobName("")
    number: int
    go_on: bool = False
    """Without it, then; otherwise the run or job fails."""


class JobsReady(_Event):
    """These jobs' conditions hold; they wait for a place among the attempts under way."""

    type: Literal["JobsReady"] = "JobsReady"
    jobs: tuple[JobName, ...]


class JobSettled(_Event):
    """A job that will not run: its condition does not hold, or the run was cancelled before it began."""

    type: Literal["JobSettled"] = "JobSettled"
    job: JobName
    outcome: Outcome
    reason: str = ""


class ItemsExpanded(_Event):
    """A job with `for_each` began: so many items, each with attempts of its own under the name `job:index`."""

    type: Literal["ItemsExpanded"] = "ItemsExpanded"
    job: JobName
    count: int
    items: list[Json] | None = None
    """The list, where it came from a parameter or from what earlier jobs left; None: the document's list, or the numbers of a range."""
    tolerated: int = 0
    """So many items may end badly without failing the job."""
    max_parallel: int | None = None
    """Items under way at once."""


class ItemsSettled(_Event):
    """All items that are not under way end so: they will not start, or not again."""

    type: Literal["ItemsSettled"] = "ItemsSettled"
    job: JobName
    outcome: Literal["cancelled"]
    count: int
    """How many."""
    reason: str = ""


class ItemsCancelRequested(_Event):
    """A named person wants the whole job with `for_each` to end."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["ItemsCancelRequested"] = "ItemsCancelRequested"
    job: JobName
    by: str
    reason: str = ""


class ItemsJoined(_Event):
    """Every item has ended, and with them the job."""

    type: Literal["ItemsJoined"] = "ItemsJoined"
    job: JobName
    outcome: Literal["succeeded", "failed", "cancelled"]
    reason: str = ""


class AttemptQueued(_Event):
    """The decision to make an attempt; for targets that take a token it is the claim as well."""

    type: Literal["AttemptQueued"] = "AttemptQueued"
    job: JobName
    attempt: int


class AttemptClaimed(_Event):
    """One claimer may send this request, without looking, before `send_before`, and nobody else."""

    type: Literal["AttemptClaimed"] = "AttemptClaimed"
    job: JobName
    attempt: int
    claimer: str
    request: dict[str, Json]
    """What will be sent, frozen; large requests by address."""
    send_before: AwareDatetime


class ClaimReleased(_Event):
    """The target answered that it did not take the request: nothing was started under this claim."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["ClaimReleased"] = "ClaimReleased"
    job: JobName
    attempt: int
    reason: str
    retry_at: AwareDatetime
    """When the same attempt may be asked for again."""
    first: bool = False
    """Under a token: this answered the first request for the attempt, so that no earlier one may have been taken unheard."""


class StartAsked(_Event):
    """Under a token, after the target took none so far: one claimer asks again, and nobody else does before `not_before`.

    Without this a request that was taken, and whose sender died, could not be told from none at all once the target has forgotten the
    token.
    """

    kind: ClassVar[Kind] = "decided"
    type: Literal["StartAsked"] = "StartAsked"
    job: JobName
    attempt: int
    claimer: str
    """Who asks; empty when nobody does, and this only tells that somebody did."""
    not_before: AwareDatetime
    unheard: bool = False
    """What became of an earlier request is not known: it may have been taken."""


class AttemptSubmitted(_Event):
    """The target accepted the work and named it."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["AttemptSubmitted"] = "AttemptSubmitted"
    job: JobName
    attempt: int
    handle: Handle
    started_at: AwareDatetime | None = None
    """When the target said at once that it runs."""


class AttemptStarted(_Event):
    """The target says that the work is running."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["AttemptStarted"] = "AttemptStarted"
    job: JobName
    attempt: int
    started_at: AwareDatetime


class AttemptSucceeded(_Event):
    kind: ClassVar[Kind] = "observed"
    type: Literal["AttemptSucceeded"] = "AttemptSucceeded"
    job: JobName
    attempt: int
    exit_code: int | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    outputs: dict[str, Json] = {}
    """What the job wrote to `outputs.json`; bounded."""
    files: dict[str, str] = {}
    """Declared outputs: path to artifact address."""


class AttemptFailed(_Event):
    """An attempt ended without success; `retry_at` says whether and when there is another."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["AttemptFailed"] = "AttemptFailed"
    job: JobName
    attempt: int
    failure: FailureClass
    reason: str = ""
    exit_code: int | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    outputs: dict[str, Json] = {}
    retry_at: AwareDatetime | None = None
    """When the next attempt may start; None if this was the last one."""
    assumed: bool = False
    """Nobody saw it end: the doubt policy gave it up."""


class AttemptCancelled(_Event):
    """A stop that was asked for is confirmed, or the attempt had not been asked of anybody yet."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["AttemptCancelled"] = "AttemptCancelled"
    job: JobName
    attempt: int
    reason: str = ""
    exit_code: int | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    assumed: bool = False
    """Nobody saw it end: the doubt policy gave it up."""


class AttemptDoubted(_Event):
    """We asked, and cannot know whether it was done."""

    type: Literal["AttemptDoubted"] = "AttemptDoubted"
    job: JobName
    attempt: int
    reason: str
    policy: Literal["wait", "assume_lost", "ask"]
    resolve_at: AwareDatetime | None = None
    """When the policy gives the attempt up; None when only evidence or a person can."""


class StopRequested(_Event):
    """A person, a timeout or the run's cancellation wants this attempt to end."""

    type: Literal["StopRequested"] = "StopRequested"
    job: JobName
    attempt: int
    cause: Literal["cancel", "timeout", "mark"]
    reason: str = ""
    flag_at: AwareDatetime
    """When an unconfirmed stop is flagged for a person."""


class StopSent(_Event):
    """The target accepted the stop; the attempt ends when the target says so."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["StopSent"] = "StopSent"
    job: JobName
    attempt: int


class StopFlagged(_Event):
    """The stop was never confirmed: somebody should look. The attempt stays open until there is evidence."""

    type: Literal["StopFlagged"] = "StopFlagged"
    job: JobName
    attempt: int
    reason: str = ""


class LateReported(_Event):
    """A report about an attempt that had ended, recorded, changing nothing."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["LateReported"] = "LateReported"
    job: JobName
    attempt: int
    report: str
    handle: Handle | None = None


class JobMarked(_Event):
    """A named person declared the job's outcome."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["JobMarked"] = "JobMarked"
    job: JobName
    outcome: Literal["succeeded", "failed", "skipped"]
    by: str
    reason: str


class ApprovalAsked(_Event):
    """A job that is a person's decision is up: it waits for whoever may decide."""

    type: Literal["ApprovalAsked"] = "ApprovalAsked"
    job: JobName
    message: str = ""
    expires_at: AwareDatetime | None = None
    """When nobody's decision is waited for any longer; None: never."""


class JobApproved(_Event):
    """A named person, who may, said yes."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["JobApproved"] = "JobApproved"
    job: JobName
    by: str
    reason: str = ""


class JobRejected(_Event):
    """A named person, who may, said no."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["JobRejected"] = "JobRejected"
    job: JobName
    by: str
    reason: str = ""


class ApprovalExpired(_Event):
    """Nobody decided in time; what that means stood in the document."""

    type: Literal["ApprovalExpired"] = "ApprovalExpired"
    job: JobName
    outcome: Literal["timed_out", "succeeded", "skipped"]


class RunCancelRequested(_Event):
    kind: ClassVar[Kind] = "commanded"
    type: Literal["RunCancelRequested"] = "RunCancelRequested"
    by: str
    reason: str = ""


class RunReopened(_Event):
    """A new round of a finished run: some jobs are done again, with all that depends on them; the others are kept."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["RunReopened"] = "RunReopened"
    jobs: tuple[JobName, ...] = ()
    """Those that were named."""
    failed: bool = False
    """Also every job that ended badly; jobs that the document did not have before always start."""
    document: Digest
    document_version: int
    changes: tuple[str, ...] = ()
    """How this document differs from the one before, for people."""
    parameters: dict[str, Json] | None = None
    """What the run is given from now on, when this document declares other parameters than the one before."""
    by: str
    reason: str = ""
    request: str = ""
    """Names the request, so that a double click reopens once."""


class RunBecameLate(_Event):
    """The run is later than the document's `late` lets it be; told once a round."""

    type: Literal["RunBecameLate"] = "RunBecameLate"
    cause: Literal["start", "duration"]
    """Nothing of it had started, or it went on for longer than expected."""
    due_at: AwareDatetime
    """The moment after which it was late."""


class DeadlineMissed(_Event):
    """The run has not ended by its deadline; told once a round."""

    type: Literal["DeadlineMissed"] = "DeadlineMissed"
    due_at: AwareDatetime
    """The deadline."""


class PlaceWanted(_Event):
    """The job's conditions hold; its next attempt waits for a place in a pool."""

    type: Literal["PlaceWanted"] = "PlaceWanted"
    job: JobName
    attempt: int
    pool: PoolName
    weight: int = 1
    priority: int = 0


class PlaceTaken(_Event):
    """The pool's place that this attempt waited for is its own, until the attempt ends."""

    type: Literal["PlaceTaken"] = "PlaceTaken"
    job: JobName
    attempt: int


class RunFinished(_Event):
    type: Literal["RunFinished"] = "RunFinished"
    outcome: Literal["succeeded", "failed", "cancelled"]


# --- a workflow -------------------------------------------------------------------------------------------------------


class WorkflowRegistered(_Event):
    """A document became the live version; the same number again is a rollback to it."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["WorkflowRegistered"] = "WorkflowRegistered"
    workflow: WorkflowName
    document: Digest
    version: int
    """From 1; a rollback takes a new number with an old document."""
    by: str = ""
    source: str = ""
    """The upload it came from, or how it was asked for."""


class WorkflowUnregistered(_Event):
    kind: ClassVar[Kind] = "commanded"
    type: Literal["WorkflowUnregistered"] = "WorkflowUnregistered"
    by: str = ""
    reason: str = ""


class WorkflowPaused(_Event):
    kind: ClassVar[Kind] = "commanded"
    type: Literal["WorkflowPaused"] = "WorkflowPaused"
    by: str = ""
    reason: str = ""


class WorkflowResumed(_Event):
    kind: ClassVar[Kind] = "commanded"
    type: Literal["WorkflowResumed"] = "WorkflowResumed"
    by: str = ""


class WatermarkMoved(_Event):
    """Every scheduled instant up to here has become a run, a skip or a miss."""

    type: Literal["WatermarkMoved"] = "WatermarkMoved"
    until: AwareDatetime
    next_at: AwareDatetime | None = None
    """The next scheduled instant; None when there is none."""
    stalled: bool = False
    """As many runs wait as may, and `catchup: all` gives none up: what is due stays so until one is let in."""


class RunAdmitted(_Event):
    """This run starts now, under this id; starting it twice is starting it once."""

    type: Literal["RunAdmitted"] = "RunAdmitted"
    run: RunId
    request: RunRequested
    displaces: tuple[RunId, ...] = ()
    """Active runs that are cancelled to make way (`overlap: cancel_running`)."""
    next_start_at: AwareDatetime | None = None
    """No further scheduled run takes its turn before this (`starts_per_minute`); None without such a bound."""


class RunHeld(_Event):
    """This run waits until the limit on overlapping or active runs lets it in."""

    type: Literal["RunHeld"] = "RunHeld"
    run: RunId
    request: RunRequested
    reason: str


class HeldRunDropped(_Event):
    """A waiting run was cancelled before it was let in."""

    type: Literal["HeldRunDropped"] = "HeldRunDropped"
    run: RunId
    by: str = ""
    reason: str = ""
    parent: ParentJob | None = None
    """The attempt that it was to run for, and that hears of it."""


class TriggerRefused(_Event):
    """An event that a trigger waits for cannot become a run: what it comes to is not what the workflow takes."""

    type: Literal["TriggerRefused"] = "TriggerRefused"
    run: RunId
    """That it would have been."""
    trigger: str
    event: str
    """What it was, for people."""
    problems: tuple[str, ...]
    content: str = ""
    """The event itself, cut off where it is long."""
    document_version: int
    """Under another, the same event is judged anew."""


class TriggerMissed(_Event):
    """An event that a trigger waits for does not become a run, by policy or because too many wait."""

    type: Literal["TriggerMissed"] = "TriggerMissed"
    run: RunId
    trigger: str
    event: str
    reason: str


class InstantSkipped(_Event):
    """A scheduled instant that does not become a run, by policy."""

    type: Literal["InstantSkipped"] = "InstantSkipped"
    scheduled_at: AwareDatetime
    reason: str


class InstantsMissed(_Event):
    """Scheduled instants that passed while nothing could start them, given up by the catch-up policy."""

    type: Literal["InstantsMissed"] = "InstantsMissed"
    first_at: AwareDatetime
    last_at: AwareDatetime
    count: int
    reason: str


class InstantsExcluded(_Event):
    """Scheduled instants on one day that the schedule, or a calendar that it names, excludes: they become no runs."""

    type: Literal["InstantsExcluded"] = "InstantsExcluded"
    first_at: AwareDatetime
    last_at: AwareDatetime
    count: int
    day: date
    """The day that is excluded, in the zone of whoever names it."""
    calendar: str = ""
    """Empty when the schedule itself names the day."""
    calendar_version: int = 0
    """0 with a calendar: it was not there, so that nobody could know."""
    reason: str


class RunReleased(_Event):
    """A run ended: its place is free, and its success counts as the previous one from now on."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["RunReleased"] = "RunReleased"
    run: RunId
    outcome: Literal["succeeded", "failed", "cancelled", "lost"]
    scheduled_at: AwareDatetime | None = None


# --- a calendar -------------------------------------------------------------------------------------------------------


class CalendarRegistered(_Event):
    """These are the calendar's days from now on."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["CalendarRegistered"] = "CalendarRegistered"
    calendar: str
    version: int
    """From 1."""
    days: tuple[str, ...]
    """As `shared/workflow/days.py` reads them."""
    timezone: str | None = None
    description: str = ""
    by: str = ""
    source: str = ""
    """The upload it came from, or how it was asked for."""


# --- a pool -----------------------------------------------------------------------------------------------------------


class PoolResized(_Event):
    """A person set the capacity. What is held beyond it stays held; nothing new is granted until there is room."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["PoolResized"] = "PoolResized"
    pool: PoolName
    capacity: int
    by: str = ""


class PlaceRequested(_Event):
    """An attempt stands in the line."""

    type: Literal["PlaceRequested"] = "PlaceRequested"
    pool: PoolName
    run: RunId
    job: JobName
    attempt: int
    round: int = 1
    """Of the run. An attempt's number may be waited for again in a later round; the place of an earlier one is another place."""
    weight: int = 1
    priority: int = 0
    asked_at: AwareDatetime
    """When the run began to wait."""


class PlaceGranted(_Event):
    """An attempt of the line may go on."""

    type: Literal["PlaceGranted"] = "PlaceGranted"
    run: RunId
    job: JobName
    attempt: int
    round: int = 1
    weight: int = 1
    """Of the capacity; less than was asked for where that was more than the pool has."""


class PlaceReleased(_Event):
    """A place is free again: its attempt ended, or nobody wanted the place any more."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["PlaceReleased"] = "PlaceReleased"
    run: RunId
    job: JobName
    attempt: int
    round: int = 1
    reason: str = ""
    """Empty for the attempt's end."""


class PlaceWithdrawn(_Event):
    """An attempt left the line before its turn came."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["PlaceWithdrawn"] = "PlaceWithdrawn"
    run: RunId
    job: JobName
    attempt: int
    round: int = 1


# --- an upload --------------------------------------------------------------------------------------------------------


class DocumentAccepted(_Event):
    kind: ClassVar[Kind] = "observed"
    type: Literal["DocumentAccepted"] = "DocumentAccepted"
    upload: str
    """What identifies this very upload: an ETag, a version id, a content hash."""
    workflow: WorkflowName
    """Empty for a calendar."""
    document: Digest
    """Of the document as it is kept; for a calendar, of its text in that form."""
    calendar: str = ""
    """The calendar that it is, when it is no workflow."""


class DocumentRejected(_Event):
    """An upload that cannot be registered; the last good version stays live."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["DocumentRejected"] = "DocumentRejected"
    upload: str
    problems: tuple[str, ...]


class DocumentRemoved(_Event):
    kind: ClassVar[Kind] = "observed"
    type: Literal["DocumentRemoved"] = "DocumentRemoved"
    upload: str


# --- a backfill -------------------------------------------------------------------------------------------------------


class BackfillRequested(_Event):
    """The first event of every backfill: which instants of a workflow's schedule are to be run, and how."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["BackfillRequested"] = "BackfillRequested"
    backfill: BackfillId
    workflow: WorkflowName
    document: Digest
    """Of every run: the version that was live then. Its schedule says which instants there are."""
    document_version: int
    range_from: AwareDatetime
    """Included."""
    range_until: AwareDatetime
    """Not included, and no later than the request: what comes after is the schedule's business."""
    count: int
    """Instants in the range."""
    order: Literal["oldest", "newest"] = "oldest"
    which: Literal["all", "missing", "failed"] = "missing"
    max_active: int = 1
    """Runs of it that may be active at once, beside those of the schedule."""
    parameters: dict[str, Json] = {}
    """Of every run; checked and filled with defaults."""
    previous_success_at: AwareDatetime | None = None
    """The latest scheduled instant whose run had succeeded then."""
    by: str = ""
    reason: str = ""


class BackfillRunAdmitted(_Event):
    """This run of an instant begins now, under this id; beginning it twice is beginning it once."""

    type: Literal["BackfillRunAdmitted"] = "BackfillRunAdmitted"
    run: RunId
    scheduled_at: AwareDatetime
    interval_start: AwareDatetime
    interval_end: AwareDatetime
    previous_success_at: AwareDatetime | None = None


class BackfillInstantsSkipped(_Event):
    """Instants that need no run, one after the other in the backfill's order."""

    type: Literal["BackfillInstantsSkipped"] = "BackfillInstantsSkipped"
    instants: tuple[AwareDatetime, ...]
    reason: str


class BackfillRunEnded(_Event):
    """A run ended. `taken`: somebody else had asked for a run of that id first, so it is none of the backfill's."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["BackfillRunEnded"] = "BackfillRunEnded"
    run: RunId
    scheduled_at: AwareDatetime
    outcome: Literal["succeeded", "failed", "cancelled", "taken"]


class BackfillPaused(_Event):
    kind: ClassVar[Kind] = "commanded"
    type: Literal["BackfillPaused"] = "BackfillPaused"
    by: str = ""
    reason: str = ""


class BackfillResumed(_Event):
    kind: ClassVar[Kind] = "commanded"
    type: Literal["BackfillResumed"] = "BackfillResumed"
    by: str = ""


class BackfillCancelled(_Event):
    """No more runs are begun, and the active ones are cancelled."""

    kind: ClassVar[Kind] = "commanded"
    type: Literal["BackfillCancelled"] = "BackfillCancelled"
    by: str = ""
    reason: str = ""


class BackfillFinished(_Event):
    """Nothing is left to run and nothing is active; how the instants came out."""

    type: Literal["BackfillFinished"] = "BackfillFinished"
    outcome: Literal["succeeded", "failed", "cancelled"]
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    """Those whose run somebody else had begun included."""
    left: int = 0
    """Not come to, because it was cancelled."""


# --- what is told of a run or a workflow --------------------------------------------------------------------------------


class Notice(BaseModel):
    """One notice, as it is to be sent."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    id: str
    """Derived from what happened and the rule, so that whoever receives it twice can tell."""
    on: Occasion
    rule: int
    """Its place in the document's `notify`."""
    version: int
    """The commit of the source that it is about."""
    at: AwareDatetime
    """When that was."""
    channel: Channel
    to: str
    """The recipient, for people."""
    subject: str
    text: str


class NoticesPlanned(_Event):
    """These notices follow from the source's commits up to `until`; each was planned once and for all by this event."""

    type: Literal["NoticesPlanned"] = "NoticesPlanned"
    source: StreamName
    document: Digest
    """Whose rules these are."""
    until: int
    started: bool = False
    """Whether anything of the source's present round had started by then."""
    outcome: Literal["", "succeeded", "failed"] = ""
    """How the newest round that ended by then did, unless it was cancelled."""
    doubts: int = 0
    """How many notices of doubt there were by then."""
    notices: tuple[Notice, ...]


class NoticeSent(_Event):
    """The channel took it."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["NoticeSent"] = "NoticeSent"
    id: str
    attempt: int
    receipt: str = ""
    """What the channel calls it."""


class NoticeFailed(_Event):
    """The channel did not take it, or did not answer; `retry_at` says whether and when it is tried again."""

    kind: ClassVar[Kind] = "observed"
    type: Literal["NoticeFailed"] = "NoticeFailed"
    id: str
    attempt: int
    reason: str
    retry_at: AwareDatetime | None = None
    """None: it is given up."""


class UnknownEvent(_Event):
    """An event of a newer release, kept as it is; whoever meets one may show it but not decide."""

    type: str
    fields: dict[str, Json]


RunEvent = (
    RunRequested
    | RunOpened
    | WaitBegun
    | WaitMet
    | WaitFailed
    | WaitExpired
    | JobsReady
    | JobSettled
    | ItemsExpanded
    | ItemsSettled
    | ItemsCancelRequested
    | ItemsJoined
    | AttemptQueued
    | AttemptClaimed
    | ClaimReleased
    | StartAsked
    | AttemptSubmitted
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptCancelled
    | AttemptDoubted
    | StopRequested
    | StopSent
    | StopFlagged
    | LateReported
    | JobMarked
    | PlaceWanted
    | PlaceTaken
    | ApprovalAsked
    | JobApproved
    | JobRejected
    | ApprovalExpired
    | RunCancelRequested
    | RunReopened
    | RunBecameLate
    | DeadlineMissed
    | RunFinished
)
WorkflowEvent = (
    WorkflowRegistered
    | WorkflowUnregistered
    | WorkflowPaused
    | WorkflowResumed
    | WatermarkMoved
    | RunAdmitted
    | RunHeld
    | HeldRunDropped
    | TriggerRefused
    | TriggerMissed
    | InstantSkipped
    | InstantsMissed
    | InstantsExcluded
    | RunReleased
)
CalendarEvent = CalendarRegistered
PoolEvent = PoolResized | PlaceRequested | PlaceGranted | PlaceReleased | PlaceWithdrawn
DocumentEvent = DocumentAccepted | DocumentRejected | DocumentRemoved
NoticeEvent = NoticesPlanned | NoticeSent | NoticeFailed
BackfillEvent = (
    BackfillRequested
    | BackfillRunAdmitted
    | BackfillInstantsSkipped
    | BackfillRunEnded
    | BackfillPaused
    | BackfillResumed
    | BackfillCancelled
    | BackfillFinished
)
KnownEvent = Annotated[
    RunEvent | WorkflowEvent | CalendarEvent | DocumentEvent | BackfillEvent | PoolEvent | NoticeEvent,
    Field(discriminator="type"),
]
Event = (
    RunEvent | WorkflowEvent | CalendarEvent | DocumentEvent | BackfillEvent | UnknownEvent | PoolEvent | NoticeEvent
)
