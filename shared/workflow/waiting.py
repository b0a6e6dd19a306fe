"""What a run, or a job of one, waits for outside itself, as the user writes it: the `waits_for` of a document.

The models check and keep what was written; what it means for one run (`shared/decide/waits.py`) and whether it can ever be met
(`shared/usecases/waitable.py`) is found out elsewhere.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.errors import Problem
from shared.ids import NAME_PATTERN
from shared.workflow.timing import Schedule, period_seconds

WAITS_MAX = 10
"""Waits of one job, or of all jobs together: each is an event of the commit that begins them."""
WAITING_JOBS_MAX = 100
"""Jobs of one document that wait for something outside: every look at the run goes through them."""
FILE_BYTES_MAX = 600
"""Of a file's address, rendered."""
_MINUTES_MAX = 60 * 24 * 365
_INSTANTS_MAX = 1_000

Minutes = Annotated[float, Field(gt=0, le=_MINUTES_MAX)]
_DAYS = re.compile(r"\s*([0-9]{1,5})\s*(day|week)s?\s*", re.IGNORECASE)


class WaitFor(BaseModel):
    """Something outside the run that must be there first: a run of a workflow, one job of that run, or a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    workflow: Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)] | None = None
    """The workflow whose run is waited for: that of the same scheduled instant, unless a lag or a window is given."""
    job: Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)] | None = None
    """Only this job of that run."""
    lag: Annotated[str, StringConstraints(max_length=32)] | None = None
    """The run so much earlier: `1 day`, `6 hours`. Days and weeks are those of the schedule's clock, all else is real time."""
    lag_minutes: int | None = Field(default=None, ge=0, le=_MINUTES_MAX)
    """The same in minutes of real time."""
    lag_instants: int | None = Field(default=None, ge=1, le=_INSTANTS_MAX)
    """The run so many scheduled instants of that workflow earlier; 1 is the one before."""
    latest_within_minutes: Minutes | None = None
    """No certain run: the latest scheduled one that succeeded, and it is at most so old."""
    file: Annotated[str, StringConstraints(min_length=1, max_length=FILE_BYTES_MAX)] | None = None
    """A file that must exist: an absolute path on one machine, `s3://bucket/key` on AWS; templates are rendered."""
    until: Literal["succeeded", "ended"] = "succeeded"
    """Whether what is waited for must have succeeded, or only have ended."""
    on_failure: Literal["fail", "go_on", "wait"] = "fail"
    """When it ends otherwise, or never becomes a run: fail, go on all the same, or wait for a rerun."""
    timeout_minutes: Minutes | None = None
    """How long to wait; without it, for as long as it takes."""
    on_timeout: Literal["fail", "go_on"] = "fail"
    """What to do then."""

    @property
    def is_exact(self) -> bool:
        """Whether it names one run by its scheduled instant."""
        return self.workflow is not None and self.latest_within_minutes is None

    @property
    def has_lag(self) -> bool:
        return bool(self.lag or self.lag_minutes or self.lag_instants)

    def __str__(self) -> str:
        what = f"job {self.job} of " if self.job else ""
        if self.file is not None:
            return self.file
        if self.latest_within_minutes is not None:
            return f"a success of {what}{self.workflow} in the last {self.latest_within_minutes:g} minutes"
        if self.lag_instants:
            number = "1 instant" if self.lag_instants == 1 else f"{self.lag_instants} instants"
            return f"{what}{self.workflow}, {number} earlier"
        if self.has_lag:
            return f"{what}{self.workflow}, {self.lag or f'{self.lag_minutes} minutes'} earlier"
        return f"{what}{self.workflow} at the same instant"


def earlier(wait: WaitFor, at: datetime, zone: ZoneInfo) -> datetime:
    """The instant that an exact wait without `lag_instants` means, for a run of the instant `at`; `zone`: of the run's schedule."""
    if wait.lag_minutes is not None:
        return at - timedelta(minutes=wait.lag_minutes)
    if wait.lag is None:
        return at
    days = _DAYS.fullmatch(wait.lag)
    if days is None:
        return at - timedelta(seconds=period_seconds(wait.lag))
    # Yesterday at two o'clock is 23 or 25 hours ago at times.
    back = timedelta(days=int(days.group(1)) * (7 if days.group(2).lower() == "week" else 1))
    local = at.astimezone(zone)
    return (local.replace(tzinfo=None) - back).replace(tzinfo=zone, fold=local.fold).astimezone(UTC)


def zone_of(schedule: Schedule | None) -> ZoneInfo:
    return schedule.zone if schedule is not None else ZoneInfo("UTC")


def all_problems(raw: object, by_job: Iterable[tuple[int, tuple[WaitFor, ...]]], workflow: object) -> Iterator[Problem]:
    """What is wrong with the waits of a document: `raw`, of the document as it was written, and those of its jobs by position."""
    name = workflow if isinstance(workflow, str) else None
    yield from check_waits(_understood(raw), "waits_for", name)
    jobs = list(by_job)
    if len(jobs) > WAITING_JOBS_MAX:
        yield Problem(
            f"jobs[{jobs[WAITING_JOBS_MAX][0]}].waits_for",
            f"{len(jobs):,} jobs wait for something outside, and at most {WAITING_JOBS_MAX} may",
            "let one job wait, and the others come after it",
        )
    for position, waits in jobs[:WAITING_JOBS_MAX]:
        yield from check_waits(waits, f"jobs[{position}].waits_for", name)


def _understood(raw: object) -> tuple[WaitFor, ...]:
    """The waits whose fields are right, if all are: of the others the models tell."""
    try:
        return (
            tuple(WaitFor.model_validate_json(json.dumps(one), strict=True) for one in raw)
            if isinstance(raw, list)
            else ()
        )
    except ValidationError:
        return ()


def check_waits(waits: tuple[WaitFor, ...], path: str, workflow: str | None) -> Iterator[Problem]:
    """What is wrong with waits by themselves. `workflow`: the document's own name."""
    for place, wait in enumerate(waits):
        here = f"{path}[{place}]"
        if (wait.workflow is None) == (wait.file is None):
            has = "neither" if wait.file is None else "both"
            yield Problem(
                here, f"needs one of `workflow` and `file`, and has {has}", 'for example "workflow": "ingest"'
            )
            continue
        yield from _check_file(wait, here) if wait.file is not None else _check_run(wait, here, workflow)
        if wait.on_timeout == "go_on" and wait.timeout_minutes is None:
            yield Problem(f"{here}.on_timeout", "there is no `timeout_minutes`", "say how long to wait")
        if wait in waits[:place]:
            yield Problem(here, f"is the same as {path}[{waits.index(wait)}]", "remove one")


def _check_file(wait: WaitFor, here: str) -> Iterator[Problem]:
    assert wait.file is not None
    for field in ("job", "lag", "lag_minutes", "lag_instants", "latest_within_minutes"):
        if getattr(wait, field) is not None:
            yield Problem(f"{here}.{field}", "is for waiting for a workflow, and this waits for a file", "remove it")
    if wait.until != "succeeded" or wait.on_failure != "fail":
        yield Problem(
            here, "a file neither succeeds nor fails", "remove `until` and `on_failure`; `on_timeout` is for files too"
        )
    if wait.timeout_minutes is None:
        yield Problem(f"{here}.timeout_minutes", "is missing", "a file is looked for until a deadline: say how long")
    if not wait.file.isprintable():
        yield Problem(f"{here}.file", "holds control characters or line breaks")
    elif not wait.file.startswith("/") and re.match(r"s3://[^/]+/.", wait.file) is None:
        yield Problem(
            f"{here}.file", "is neither an absolute path nor s3://bucket/key", "for example s3://landing/sales.csv"
        )


def _check_run(wait: WaitFor, here: str, workflow: str | None) -> Iterator[Problem]:
    lags = [name for name in ("lag", "lag_minutes", "lag_instants") if getattr(wait, name) is not None]
    if len(lags) > 1:
        yield Problem(here, f"has several lags: {', '.join(lags)}", "keep one of them")
    if wait.latest_within_minutes is not None:
        if lags:
            yield Problem(
                f"{here}.{lags[0]}", "names one run, and `latest_within_minutes` takes any", "keep one of them"
            )
        if wait.job is not None:
            yield Problem(f"{here}.job", "a success is that of a whole run", "remove it, or wait for a certain instant")
        if wait.until != "succeeded" or wait.on_failure != "fail":
            yield Problem(here, "the latest success cannot fail", "remove `until` and `on_failure`")
        if wait.workflow == workflow:
            yield Problem(
                here, f"`{workflow}` waits for a success of its own", "use `lag_instants` to follow the run before"
            )
    if wait.lag is not None:
        try:
            period_seconds(wait.lag)
        except ValueError as wrong:
            yield Problem(f"{here}.lag", str(wrong))
    if wait.workflow == workflow and wait.latest_within_minutes is None and not lags:
        yield Problem(here, "is this very run", 'add a lag, such as "lag_instants": 1; jobs wait for jobs with `after`')
    elif wait.workflow == workflow and wait.lag_minutes == 0:
        yield Problem(f"{here}.lag_minutes", "is this very run", "write at least 1")
    if wait.on_failure == "wait" and wait.timeout_minutes is None:
        yield Problem(f"{here}.timeout_minutes", "is missing", "waiting for a rerun needs a deadline")
