"""What commands ask of an engine, whether its home is on this machine or its API is somewhere else.

What it promises: both answer with the same objects, those of `shared/views/objects.py`, and with the same errors. So a command is written once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from cli.terminal import Terminal
    from shared.ports import RunFilter, RunSort
    from shared.workflow.calendar import Calendar
    from shared.workflow.document import Workflow

Object = dict[str, Any]
Outcome = Literal["succeeded", "failed", "skipped"]
Verdict = Literal["approved", "rejected"]
Pin = Literal["pinned", "latest"] | int
End = Literal["ended", "interrupted", "timeout"]

ENDED = frozenset({"succeeded", "failed", "timed_out", "cancelled", "skipped", "upstream_failed"})
"""Statuses of a job that do not change by themselves."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What `--as-of` names: a version of the stream, or an instant."""

    version: int | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Of a job, as far as its output needs them."""

    known: tuple[int, ...]
    over: tuple[int, ...]
    """Those of them that have ended."""
    ended: bool
    """Whether the job has: no further attempt will come by itself."""


@dataclass(frozen=True, slots=True)
class Page:
    """Of output. `lines` have at, stream, host and text."""

    lines: tuple[Object, ...]
    cursor: str
    settled: bool
    """Whether nothing can follow, if the attempt has ended."""


@dataclass(frozen=True, slots=True)
class Runs:
    """A page of a list of runs."""

    rows: list[Object]
    held: frozenset[str]
    """Those of them that their workflows hold back."""
    cursor: str
    """Of the next page; empty at the end."""
    scanned: int | None = None
    """The page ended early after looking at so many rows."""


class Reach(Protocol):
    """Errors are those of `shared/errors.py`; `NotFound` for what is not there."""

    @property
    def up(self) -> bool:
        """Whether an engine is there that carries out what is asked for."""
        ...

    # Workflows.

    def workflows(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        """Rows with their last runs, and the next page's cursor."""
        ...

    def workflow(self, name: str) -> Object: ...

    def parameters_of(self, name: str) -> Mapping[str, Any] | None:
        """The schema of the live document's parameters. `Rejected` when it was unregistered."""
        ...

    def compared(self, document: "Workflow", instants: int) -> Object:
        """What registering it would do: `change`, `live_version`, `next_version`, `paused`, `differences`, and so many coming
        `instants` with the `odd_days` of the year. `InvalidInput` for a calendar that is not there."""
        ...

    def register(self, documents: "Sequence[tuple[str, Workflow]]") -> list[Object]:
        """Each with the name of its file."""
        ...

    def register_calendar(self, source: str, calendar: "Calendar") -> Object:
        """`calendar`, `version`, `changed`."""
        ...

    def calendars(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        """By name, and the next page's cursor."""
        ...

    def calendar(self, name: str) -> Object: ...

    def go_back(self, name: str, version: int) -> Object: ...

    def unregister(self, name: str, *, reason: str) -> None: ...

    def pause(self, name: str, *, reason: str) -> None: ...

    def resume(self, name: str) -> None: ...

    def send_event(
        self, kind: "Literal['bus', 'queue']", *, id_: str, source: str, detail_type: str, detail: Any
    ) -> list[Object]:
        """What became of it: `workflow`, `trigger`, `run`, `fate`, `reason` for each trigger that it fits."""
        ...

    # Pools.

    def pools(self, *, cursor: str, limit: int) -> "tuple[list[Object], str]": ...

    def pool(self, name: str) -> Object: ...

    def holders(self, name: str, *, after: int, limit: int) -> "tuple[list[Object], int | None]":
        """Who holds its places, and where the next page begins."""
        ...

    def line(self, name: str, *, after: int, limit: int) -> "tuple[list[Object], int | None]":
        """Who waits for them, and where the next page begins."""
        ...

    def set_pool(self, name: str, capacity: int) -> Object: ...

    # Runs.

    def find_run(self, text: str, *, existing: bool = True) -> str:
        """See `cli.finding.find_run`."""
        ...

    def runs(self, where: "RunFilter", *, sort: "RunSort", cursor: str, limit: int) -> "Runs":
        """`InvalidInput` for a cursor of another sort."""
        ...

    def run(self, run: str, as_of: Moment | None = None) -> Object:
        """A whole run, with `held`."""
        ...

    def why(self, run: str, job: str | None, as_of: Moment | None) -> Object: ...

    def commits(self, text: str, *, after: int) -> Iterator[Object]:
        """Of a run, or of the stream that is named."""
        ...

    def request_run(
        self,
        workflow: str,
        values: Mapping[str, Any],
        *,
        key: str,
        start_after: datetime | None,
        files: Mapping[str, str],
        note: str,
    ) -> Object: ...

    def cancel(self, run: str, *, job: str | None, reason: str) -> None: ...

    def rerun(
        self, run: str, *, jobs: Sequence[str], failed: bool, document: Pin, reason: str, key: str
    ) -> tuple[str, ...]:
        """What the newer document changes."""
        ...

    def decide(self, run: str, job: str, verdict: "Verdict", *, reason: str) -> None: ...

    def mark(self, run: str, job: str, outcome: Outcome, *, reason: str) -> None: ...

    def follow(
        self, run: str, terminal: "Terminal | None", *, timeout_seconds: float | None
    ) -> tuple[End, Object | None]:
        """Until it ends, Ctrl-C, or the time is up; what it is then."""
        ...

    # Notices.

    def alerts(
        self, workflow: str | None, since: datetime | None, *, cursor: str, limit: int
    ) -> tuple[list[Object], str]:
        """What was told of each run or workflow, and the next page's cursor."""
        ...

    # Backfills.

    def request_backfill(self, body: Mapping[str, Any], *, key: str) -> Object:
        """`body` is that of `POST /v1/backfills`; what it answers."""
        ...

    def rehearse_backfill(self, body: Mapping[str, Any]) -> Object: ...

    def backfills(self, workflow: str | None, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        """Rows, and the next page's cursor."""
        ...

    def backfill(self, backfill: str) -> Object: ...

    def backfill_instants(self, backfill: str) -> list[Object]:
        """Every instant that it has come to, oldest first."""
        ...

    def change_backfill(self, backfill: str, act: str, *, reason: str) -> None:
        """`pause`, `resume` or `cancel`."""
        ...

    # Output and files.

    def attempts(self, run: str, job: str) -> Attempts: ...

    def output(
        self, run: str, job: str, attempt: int, *, stream: Literal["out", "err"] | None, cursor: str, wait: bool
    ) -> Page:
        """`NotFound`, saying why, when there is none. `wait`: for more, or the attempt's end, some seconds at most."""
        ...

    def files(self, run: str, *, saved_only: bool) -> list[Object]:
        """With `size`, null for one that is gone, and the `address` where it lies."""
        ...

    def open_file(self, file: Object) -> AbstractContextManager[IO[bytes]]: ...


def is_their_page(sort: "RunSort", cursor: str, following: str) -> bool:
    """Whether the runs that workflows hold back stand on this page: they are the newest ones, and in no list yet."""
    return not cursor if sort == "newest" else not following


def at_of(text: str | None) -> datetime | None:
    """A moment in an object as a moment."""
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def instant_of(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def job_of(run: Object, name: str) -> str:
    """The name, if the run has that job. Raises `NotFound` with the nearest name."""
    from shared.errors import NotFound
    from shared.workflow.nearest import Nearest, shown

    names = [str(job["name"]) for job in run["jobs"]]
    if name in names:
        return name
    near = Nearest().hint(name, names, f"`runfold show {run['run']}` lists them")
    raise NotFound(f"{run['run']} has no job {shown(name)}; {near}")


def tally_of(run: Object) -> dict[str, int]:
    """How many of its jobs are in each status."""
    found: dict[str, int] = {}
    for job in run["jobs"]:
        found[job["status"]] = found.get(job["status"], 0) + 1
    return found
