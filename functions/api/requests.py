"""What callers may send: the models of query strings and bodies. What they do not know is refused, never ignored."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from functions.api.service import WAIT_SECONDS_MAX
from shared.decide.backfill import ACTIVE_MAX
from shared.errors import InvalidInput, Problem
from shared.ids import JOB_PATTERN, NAME_PATTERN
from shared.ports import GIVEN_FILE_BYTES_MAX, SCANNED_MAX
from shared.usecases.bulk import RUNS_MAX
from shared.usecases.queries import INSTANTS_MAX
from shared.workflow.document import POOL_CAPACITY_MAX
from shared.workflow.nearest import Nearest, shown
from shared.workflow.syntax import PROBLEMS_MAX, bounded, parse, path_of

LIST_MAX = 500
LOG_BYTES_MAX = 1 << 20
QUERY_FIELDS_MAX = 50
REASON_LENGTH_MAX = 1_000
FILES_MAX = 100
"""Given with one run."""
KEY_PATTERN = r"^[\x21-\x7e]{1,200}$"
"""Of an Idempotency-Key."""


def _written_out(value: Any) -> Any:
    # Pydantic would take a bare number for seconds since 1970; nobody who writes one here means that.
    if isinstance(value, str) and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", value):
        raise ValueError("must be an instant with its zone, such as 2026-03-29T02:30:00Z (in a URL a + is %2B)")
    return value


def _in_range(at: datetime) -> datetime:
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        at = at.replace(year=1)
    if not 1970 <= at.year < 9000:
        raise ValueError("must lie between the years 1970 and 9000")
    return at


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_range)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
JobName = Annotated[str, Field(pattern=JOB_PATTERN)]
Reason = Annotated[str, Field(max_length=REASON_LENGTH_MAX)]
Cursor = Annotated[
    str,
    Field(
        max_length=1_000,
        pattern=r"^[A-Za-z0-9_-]*$",
        description="The cursor of the page before; empty for the first page.",
    ),
]
Limit = Annotated[
    int, Field(ge=1, le=LIST_MAX, description="Rows at most; a page may hold fewer and still have a cursor.")
]
AsOfText = Annotated[
    str, Field(max_length=64, description="A version (`17`) or an instant with its zone: the state as it was then.")
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(min_length=1, max_length=1_024, description="As `upload` of a job's inputs names it.")]
Attention = Literal["doubt", "stop_flagged", "approval", "late", "deadline_missed"]
Status = Literal["waiting", "running", "succeeded", "failed", "cancelled"]


class _Query(BaseModel):
    # Each is built by the first call that sends one: none of the others waits for it.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class NoQuery(_Query):
    pass


class AtAMoment(_Query):
    as_of: AsOfText | None = None


class Page(_Query):
    cursor: Cursor = ""
    limit: Limit = 50


class PageOfRuns(Page):
    sort: Literal["newest", "oldest"] = Field(
        "newest", description="By the time they were asked for: newest or oldest first. A cursor goes with its sort."
    )
    workflow: str | None = Field(None, max_length=64, description="A list is kept for each.")
    status: Status | None = Field(None, description="A list is kept for each.")
    owner: str | None = Field(None, max_length=256, description="A list is kept for each.")
    tag: str | None = Field(
        None,
        max_length=256,
        description=f"Looked for row by row, as is the second of workflow, status and owner: {SCANNED_MAX:,} rows a page.",
    )
    attention: Attention | None = Field(None, description="Looked for row by row.")
    parent: str | None = Field(None, max_length=256, description="The run that they were started for; row by row.")
    since: Moment | None = Field(None, description="Asked for at or after.")
    until: Moment | None = Field(None, description="Asked for before.")


class PageOfAlerts(Page):
    workflow: str | None = Field(None, max_length=64, description="A list is kept for each.")
    since: Moment | None = Field(None, description="Told at or after.")


class PageOfBackfills(Page):
    workflow: str | None = Field(None, max_length=64, description="A list is kept for each.")


class PageOfInstants(_Query):
    after: Moment | None = Field(None, description="The last instant of the page before; left out for the first page.")
    limit: Limit = 50


class PageOfPlaces(_Query):
    after: int = Field(0, ge=0, le=1_000_000, description="Where the page begins, as the page before told.")
    limit: Limit = 50


class PageOfJobs(AtAMoment):
    after: str = Field("", max_length=64, description="The last job of the page before; empty for the first page.")
    limit: Limit = 50


class PageOfItems(AtAMoment):
    after: str = Field("", max_length=80, description="The last item of the page before; empty for the first page.")
    bad: bool = Field(False, description="Only those that ended badly.")
    limit: Limit = 50


class PageOfCommits(_Query):
    after: int = Field(0, ge=0, le=2**53, description="Only versions greater than this.")
    limit: Limit = 50


class Difference(_Query):
    old: int = Field(ge=1, le=10**9, description="The version before.")
    new: int = Field(ge=1, le=10**9, description="The version after.")


class Coming(_Query):
    after: Moment | None = Field(None, description="Instants later than this; now, if it is left out.")
    count: int = Field(10, ge=1, le=INSTANTS_MAX)


class Rehearsal(_Query):
    instants: int = Field(10, ge=0, le=1000, description="Coming instants to show.")


class PageOfOutput(_Query):
    stream: Literal["out", "err"] | None = Field(None, description="Standard output or standard error alone.")
    cursor: Cursor = ""
    bytes: int = Field(1 << 18, ge=1, le=LOG_BYTES_MAX, description="About so much text on a page.")
    wait: int = Field(
        0,
        ge=0,
        le=WAIT_SECONDS_MAX,
        description="Seconds to wait where nothing is new: answered as soon as there is more, or the attempt has begun or ended.",
    )


class OneFile(_Query):
    path: str = Field(min_length=1, max_length=1_024, description="As the document declares it.")
    job: str | None = Field(None, max_length=64, description="Needed only where several jobs left a file of that path.")


class Files(_Query):
    saved: bool = Field(False, description="Only those that the document saves as results.")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Because(_Body):
    reason: Reason = ""


class NoBody(_Body):
    pass


class SetPool(_Body):
    capacity: int = Field(ge=0, le=POOL_CAPACITY_MAX, description="Of all places together; 0 closes the pool.")


class Rollback(_Body):
    version: int = Field(ge=1, le=10**9, description="The earlier version whose document becomes the newest one.")


class FileToCome(_Body):
    size: int = Field(ge=0, le=GIVEN_FILE_BYTES_MAX, description="Bytes.")
    sha256: Sha256


class AskForUploads(_Body):
    workflow: Name
    files: dict[FileName, FileToCome] = Field(min_length=1, max_length=FILES_MAX)


class AskForRun(_Body):
    workflow: Name
    files: dict[FileName, Sha256] = Field(
        {}, max_length=FILES_MAX, description="Names to digests of files put before under the same Idempotency-Key."
    )
    parameters: dict[str, Any] = Field({}, description="Checked against the workflow's schema; defaults are filled in.")
    start_after: Moment | None = Field(None, description="Nothing starts before.")
    note: str = Field("", max_length=REASON_LENGTH_MAX)


MomentText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="A day or wall time of the schedule's own zone (`2026-01-31`), or an instant with its zone.",
    ),
]


class AskForBackfill(_Body):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=False)

    workflow: Name
    since: MomentText = Field(alias="from", description="The first moment that is meant.")
    until: MomentText = Field(description="The first moment that is not meant any more.")
    order: Literal["oldest", "newest"] = Field("oldest", description="Which instants come first.")
    which: Literal["missing", "failed", "all"] = Field(
        "missing",
        description="Instants without any run, those whose newest run failed or was cancelled, or all that have no active run.",
    )
    max_active: int = Field(1, ge=1, le=ACTIVE_MAX, description="Runs of it that may be active at once.")
    parameters: dict[str, Any] = Field({}, description="Of every run; as for a run.")
    reason: Reason = ""
    dry_run: bool = Field(False, description="Tell what it would do, and ask for nothing.")


class SendEvent(_Body):
    kind: Literal["bus", "queue"] = Field("bus", description="`queue`: as a message, whose body is `detail`.")
    id: str = Field("", max_length=256, description="What tells it from others; without one, what it says.")
    source: str = Field("", max_length=256, description="As a pattern's `source` means it.")
    detail_type: str = Field("", max_length=256, description="As a pattern's `detail-type` means it.")
    detail: Any = Field(None, description="What matters.")


class Cancel(_Body):
    job: JobName | None = Field(None, description="Only this job; the run if it is left out.")
    reason: Reason = ""


class Rerun(_Body):
    jobs: tuple[JobName, ...] = Field(
        (), max_length=1_000, description="Again from these on; those that failed if none is named."
    )
    failed: bool = Field(False, description="Also those that failed.")
    document: Literal["pinned", "latest"] | Annotated[int, Field(ge=1, le=10**9)] = "pinned"
    reason: Reason = ""


class Mark(_Body):
    job: JobName
    outcome: Literal["succeeded", "failed", "skipped"]
    reason: str = Field(min_length=1, max_length=REASON_LENGTH_MAX)


class Decide(_Body):
    job: Name
    reason: Reason = ""


class Where(_Body):
    """Which runs; at least one field must be given."""

    workflow: str | None = Field(None, max_length=64)
    status: Status | None = None
    owner: str | None = Field(None, max_length=256)
    tag: str | None = Field(None, max_length=256)
    attention: Attention | None = None
    parent: str | None = Field(None, max_length=256)
    since: Moment | None = None
    until: Moment | None = None


class _Bulk(_Body):
    where: Where
    dry_run: bool = Field(False, description="Tell what would be asked, and ask nothing.")
    limit: int = Field(100, ge=1, le=RUNS_MAX)
    cursor: Cursor = ""


class BulkCancel(_Bulk):
    reason: Reason = ""


class BulkRerun(_Bulk):
    document: Literal["pinned", "latest"] = "pinned"
    reason: Reason = ""


class BulkMark(_Bulk):
    job: JobName
    outcome: Literal["succeeded", "failed", "skipped"]
    reason: str = Field(min_length=1, max_length=REASON_LENGTH_MAX)


def query_of(model: type[BaseModel], text: str) -> BaseModel:
    """The query string as its model. `InvalidInput` with every problem."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise InvalidInput([Problem("", f"the query has more than {QUERY_FIELDS_MAX} fields")]) from None
    values: dict[str, Any] = {}
    problems = []
    for name, value in pairs:
        if name in values:
            problems.append(Problem(shown(name), "is given twice", "give it once"))
        values[name] = _as_declared(model, name, value)
    return _checked(model, lambda: model.model_validate(values, strict=False), problems)


def body_of(model: type[BaseModel], data: bytes) -> BaseModel:
    """A JSON body as its model; an empty one means an empty object. `InvalidInput` with every problem."""
    # What cannot be JSON, is too deep or says a thing twice is refused first, with its place in the text.
    text = json.dumps(parse(data, name="body.json")) if data else "{}"
    return _checked(model, lambda: model.model_validate_json(text, strict=True), [])


def _as_declared(model: type[BaseModel], name: str, text: str) -> Any:
    field = model.model_fields.get(name)
    annotation = field.annotation if field is not None else None
    if annotation is int and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if annotation is bool and text in ("true", "false"):
        return text == "true"
    # A list cannot be taken for a number or a truth value, so what is left is refused in the model's own words.
    return [text] if annotation in (int, bool) else text


def _checked(model: type[BaseModel], read: Callable[[], BaseModel], problems: list[Problem]) -> BaseModel:
    try:
        found = read()
    except ValidationError as error:
        nearest = Nearest()
        known = [*model.model_fields]
        for one in error.errors(include_url=False, include_input=False)[: PROBLEMS_MAX + 1]:
            path = path_of(tuple(one["loc"]))
            if one["type"] == "extra_forbidden":
                hint = "leave it out"
                if len(one["loc"]) == 1:
                    hint = nearest.hint(str(one["loc"][0]), known, hint)
                problems.append(Problem(path, "is not known here", hint))
            elif one["type"] == "missing":
                problems.append(Problem(path, "is missing"))
            else:
                problems.append(Problem(path, _words(one["msg"])))
        raise InvalidInput(bounded(problems)) from None
    if problems:
        raise InvalidInput(bounded(problems))
    return found


def _words(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return re.sub(r"^([A-Z])(?=[a-z])", lambda match: match[1].lower(), message)
