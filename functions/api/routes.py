"""Every operation of the API: its address, what it reads and answers. The handler and the OpenAPI document both come from here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from functions.api import reading, requests, writing
from functions.api.service import Answer, Call
from shared.ids import JOB_PATTERN, NAME_PATTERN

Body = type[BaseModel] | Literal["document", "calendar", "file", "event"] | None

PARAMETERS: Mapping[str, tuple[dict[str, object], str]] = {
    "workflow": ({"type": "string", "pattern": NAME_PATTERN}, "A workflow's name."),
    "calendar": ({"type": "string", "pattern": NAME_PATTERN}, "A calendar's name."),
    "run": (
        {"type": "string", "minLength": 3, "maxLength": 256, "examples": ["nightly-sales@2026-03-29T00:30:00Z"]},
        "A run's id.",
    ),
    "backfill": (
        {"type": "string", "minLength": 3, "maxLength": 128, "examples": ["nightly-sales@b01kaf3k2mx8q"]},
        "A backfill's id.",
    ),
    "trigger": ({"type": "string", "pattern": NAME_PATTERN}, "A trigger's name in the document."),
    "pool": ({"type": "string", "pattern": NAME_PATTERN}, "A pool's name."),
    "job": ({"type": "string", "pattern": JOB_PATTERN}, "A job's name in the document, or an item's: `load:17`."),
    "version": ({"type": "integer", "minimum": 1, "maximum": 999_999_999}, "A version of the workflow's document."),
    "digest": ({"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The SHA-256 of a file."),
    "attempt": ({"type": "integer", "minimum": 1, "maximum": 999_999_999}, "An attempt's number, from 1."),
}
"""The parts of paths: schema and meaning."""


@dataclass(frozen=True, slots=True)
class Route:
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    operation: str
    summary: str
    serve: Callable[[Call], Answer]
    answers: Mapping[int, str]
    """Status to the name of a shape in `answers.py`; empty for a file, an address to go to, or a document."""
    query: type[BaseModel] = requests.NoQuery
    body: Body = None
    refusals: tuple[int, ...] = ()
    """Those that only some operations have: 404, 409."""
    keyed: bool = False
    """Whether an Idempotency-Key means something."""
    open: bool = False
    """Whether anybody may ask, recognised or not."""
    signed: bool = False
    """Whether what is sent bears a signature, which says all that needs to be known of who sends it."""

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def writes(self) -> bool:
        return self.method != "GET" and self.operation != "planWorkflow"


def _get(path: str, operation: str, summary: str, serve: Callable[[Call], Answer], shape: str, **more: object) -> Route:
    settings: dict[str, object] = {"refusals": (404,) if "{" in path else (), **more}
    return Route("GET", path, operation, summary, serve, {200: shape}, **settings)  # type: ignore[arg-type]


def _post(path: str, operation: str, summary: str, serve: Callable[[Call], Answer], shape: str, body: Body) -> Route:
    return Route("POST", path, operation, summary, serve, {200: shape}, body=body, refusals=(404, 409))


_WORKFLOW = "/v1/workflows/{workflow}"
_RUN = "/v1/runs/{run}"
_BACKFILL = "/v1/backfills/{backfill}"
_POOL = "/v1/pools/{pool}"
_JOB = f"{_RUN}/jobs/{{job}}"
_ATTEMPT = f"{_JOB}/attempts/{{attempt}}"

ROUTES: tuple[Route, ...] = (
    _get("/v1/health", "health", "Whether the engine can read its store", reading.health, "Health", open=True),
    _get("/v1/openapi.json", "openapi", "This description", reading.openapi, "", open=True),
    # Workflows.
    _get("/v1/workflows", "listWorkflows", "Workflows by name", reading.workflows, "WorkflowRows", query=requests.Page),
    Route(
        "POST",
        "/v1/workflows",
        "registerWorkflow",
        "Make a document the live version of its workflow",
        writing.register,
        {200: "Registered", 201: "Registered"},
        body="document",
        refusals=(409,),
    ),
    Route(
        "POST",
        "/v1/plan",
        "planWorkflow",
        "What registering a document would do; nothing is changed",
        reading.plan,
        {200: "Plan"},
        query=requests.Rehearsal,
        body="document",
    ),
    _get(_WORKFLOW, "showWorkflow", "A workflow", reading.workflow, "Workflow"),
    Route(
        "DELETE",
        _WORKFLOW,
        "unregisterWorkflow",
        "Take a workflow out of service; its runs and versions stay",
        writing.unregister,
        {200: "Workflow"},
        body=requests.Because,
        refusals=(404, 409),
    ),
    _get(f"{_WORKFLOW}/versions", "listVersions", "The versions of its document", reading.versions, "Versions"),
    _get(f"{_WORKFLOW}/versions/{{version}}", "showVersion", "One version", reading.version, "VersionDocument"),
    Route(
        "POST",
        f"{_WORKFLOW}/rollback",
        "rollbackWorkflow",
        "Make an earlier version live again, as a new version",
        writing.rollback,
        {200: "Registered", 201: "Registered"},
        body=requests.Rollback,
        refusals=(404, 409),
    ),
    _get(
        f"{_WORKFLOW}/diff",
        "diffVersions",
        "What changed from one version to another",
        reading.diff,
        "Differences",
        query=requests.Difference,
    ),
    _get(
        f"{_WORKFLOW}/instants",
        "listInstants",
        "When it is due next",
        reading.instants,
        "Instants",
        query=requests.Coming,
    ),
    _get(
        f"{_WORKFLOW}/events",
        "listWorkflowEvents",
        "Everything that happened to it",
        reading.workflow_events,
        "Commits",
        query=requests.PageOfCommits,
    ),
    _post(
        f"{_WORKFLOW}/pause",
        "pauseWorkflow",
        "Start no more scheduled runs",
        writing.pause,
        "Workflow",
        requests.Because,
    ),
    _post(f"{_WORKFLOW}/resume", "resumeWorkflow", "End a pause", writing.resume, "Workflow", requests.NoBody),
    # Calendars.
    _get("/v1/calendars", "listCalendars", "Calendars by name", reading.calendars, "Calendars", query=requests.Page),
    Route(
        "POST",
        "/v1/calendars",
        "registerCalendar",
        "Make these the days of a calendar; schedules that name it follow it from their next instant on",
        writing.register_calendar,
        {200: "RegisteredCalendar", 201: "RegisteredCalendar"},
        body="calendar",
        refusals=(409,),
    ),
    _get("/v1/calendars/{calendar}", "showCalendar", "A calendar and its days", reading.calendar, "Calendar"),
    # Runs.
    _get(
        "/v1/runs",
        "listRuns",
        "Runs in the order they were asked for",
        reading.runs,
        "RunRows",
        query=requests.PageOfRuns,
    ),
    Route(
        "POST",
        "/v1/runs",
        "requestRun",
        "Ask for a run; the same Idempotency-Key again gives the same run",
        writing.ask_for_run,
        {200: "RequestedRun", 201: "RequestedRun"},
        body=requests.AskForRun,
        refusals=(404, 409),
        keyed=True,
    ),
    Route(
        "POST",
        "/v1/uploads",
        "placeFiles",
        "Where to put the files that a run is given, before it is asked for under the same Idempotency-Key",
        writing.place_files,
        {200: "Uploads"},
        body=requests.AskForUploads,
        refusals=(404, 409),
        keyed=True,
    ),
    Route(
        "PUT",
        "/v1/uploads/{run}/{digest}",
        "putFile",
        "Put one, where `placeFiles` named this address",
        writing.put_file,
        {200: "PutFile"},
        body="file",
        refusals=(404, 411),
    ),
    _get(_RUN, "showRun", "A run and its jobs, now or at a past moment", reading.run, "Run", query=requests.AtAMoment),
    _get(
        f"{_RUN}/why",
        "whyRun",
        "Why it is not running, also for one that does not exist",
        reading.why,
        "Why",
        query=requests.AtAMoment,
    ),
    _get(
        f"{_RUN}/events",
        "listRunEvents",
        "Everything that happened to it",
        reading.run_events,
        "Commits",
        query=requests.PageOfCommits,
    ),
    _post(f"{_RUN}/cancel", "cancelRun", "Ask it, or one job, to end", writing.cancel, "ActedOn", requests.Cancel),
    Route(
        "POST",
        f"{_RUN}/rerun",
        "rerunRun",
        "Do it, or parts of it, again; the same Idempotency-Key does it once",
        writing.rerun,
        {200: "ActedOn"},
        body=requests.Rerun,
        refusals=(404, 409),
        keyed=True,
    ),
    _post(f"{_RUN}/mark", "markJob", "Declare how a job ended", writing.mark, "ActedOn", requests.Mark),
    _post(
        f"{_RUN}/approve",
        "approveJob",
        "Say yes to a job that waits for that, if its document names you",
        writing.approve,
        "ActedOn",
        requests.Decide,
    ),
    _post(f"{_RUN}/reject", "rejectJob", "Say no to it, and so fail it", writing.reject, "ActedOn", requests.Decide),
    _get(f"{_RUN}/jobs", "listJobs", "Its jobs, by the page", reading.jobs, "Jobs", query=requests.PageOfJobs),
    _get(_JOB, "showJob", "One job with its attempts", reading.job, "Job", query=requests.AtAMoment),
    _get(
        f"{_JOB}/items",
        "listItems",
        "The items of a job with `for_each`, by the page",
        reading.items,
        "ItemsPage",
        query=requests.PageOfItems,
    ),
    _get(f"{_JOB}/why", "whyJob", "Why it is not running", reading.why_job, "Why", query=requests.AtAMoment),
    _get(
        f"{_JOB}/logs",
        "readNewestLog",
        "What its newest attempt wrote",
        reading.output,
        "Output",
        query=requests.PageOfOutput,
    ),
    _get(_ATTEMPT, "showAttempt", "One attempt", reading.attempt, "Attempt", query=requests.AtAMoment),
    _get(
        f"{_ATTEMPT}/logs",
        "readLog",
        "What an attempt wrote",
        reading.output,
        "Output",
        query=requests.PageOfOutput,
    ),
    _get(f"{_RUN}/files", "listFiles", "The files its jobs left", reading.files, "Files", query=requests.Files),
    Route(
        "GET",
        f"{_RUN}/files/content",
        "downloadFile",
        "One of them: its bytes, or where they are for some minutes",
        reading.content,
        {200: "", 302: ""},
        query=requests.OneFile,
        refusals=(404,),
    ),
    # Notices.
    _get(
        "/v1/alerts",
        "listAlerts",
        "What people were told, the newest first",
        reading.alerts,
        "AlertRows",
        query=requests.PageOfAlerts,
    ),
    # Backfills.
    _get(
        "/v1/backfills",
        "listBackfills",
        "Backfills, the newest first",
        reading.backfills,
        "BackfillRows",
        query=requests.PageOfBackfills,
    ),
    Route(
        "POST",
        "/v1/backfills",
        "requestBackfill",
        "Run a stretch of a schedule; the same Idempotency-Key again gives the same backfill",
        writing.ask_for_backfill,
        {200: "RequestedBackfill", 201: "RequestedBackfill"},
        body=requests.AskForBackfill,
        refusals=(404, 409),
        keyed=True,
    ),
    _get(_BACKFILL, "showBackfill", "A backfill", reading.backfill, "Backfill"),
    _get(
        f"{_BACKFILL}/instants",
        "listBackfillInstants",
        "What became of the instants that it has come to, oldest first",
        reading.backfill_instants,
        "InstantsOfBackfill",
        query=requests.PageOfInstants,
    ),
    _get(
        f"{_BACKFILL}/events",
        "listBackfillEvents",
        "Everything that happened to it",
        reading.backfill_events,
        "Commits",
        query=requests.PageOfCommits,
    ),
    _post(
        f"{_BACKFILL}/pause",
        "pauseBackfill",
        "Begin no more of its runs; what is active goes on",
        writing.pause_backfill,
        "Backfill",
        requests.Because,
    ),
    _post(
        f"{_BACKFILL}/resume",
        "resumeBackfill",
        "End its pause",
        writing.resume_backfill,
        "Backfill",
        requests.NoBody,
    ),
    _post(
        f"{_BACKFILL}/cancel",
        "cancelBackfill",
        "Begin no more of its runs, and ask the active ones to end",
        writing.cancel_backfill,
        "Backfill",
        requests.Because,
    ),
    # Events.
    Route(
        "POST",
        "/v1/events",
        "sendEvent",
        "Tell of something that happened; the same id again is the same event",
        writing.send_event,
        {200: "Events"},
        body=requests.SendEvent,
    ),
    Route(
        "POST",
        "/v1/webhooks/{workflow}/{trigger}",
        "callWebhook",
        "Start a run by a signed request; the same delivery again is the same run",
        writing.call_webhook,
        {200: "TakenEvent"},
        body="event",
        refusals=(401,),
        open=True,
        signed=True,
    ),
    # Pools.
    _get("/v1/pools", "listPools", "Pools by name", reading.pools, "Pools", query=requests.Page),
    _get(_POOL, "showPool", "A pool in numbers", reading.pool, "Pool"),
    Route(
        "PUT",
        _POOL,
        "setPool",
        "Give a pool its capacity; it need not have been there before",
        writing.set_pool,
        {200: "Pool"},
        body=requests.SetPool,
        refusals=(404, 409),
    ),
    _get(
        f"{_POOL}/holders",
        "listHolders",
        "Who holds its places, longest first",
        reading.pool_holders,
        "HeldPlaces",
        query=requests.PageOfPlaces,
    ),
    _get(
        f"{_POOL}/line",
        "listLine",
        "Who waits for its places, in the order of their turns",
        reading.pool_line,
        "AwaitedPlaces",
        query=requests.PageOfPlaces,
    ),
    # Many runs.
    Route(
        "POST",
        "/v1/bulk/cancel",
        "cancelRuns",
        "Ask all runs that a filter finds to end",
        writing.bulk_cancel,
        {200: "BulkAnswer"},
        body=requests.BulkCancel,
    ),
    Route(
        "POST",
        "/v1/bulk/rerun",
        "rerunRuns",
        "Do what failed again, in all runs that a filter finds",
        writing.bulk_rerun,
        {200: "BulkAnswer"},
        body=requests.BulkRerun,
        keyed=True,
    ),
    Route(
        "POST",
        "/v1/bulk/mark",
        "markJobs",
        "Declare how a job ended, in all runs that a filter finds",
        writing.bulk_mark,
        {200: "BulkAnswer"},
        body=requests.BulkMark,
    ),
)
