"""What the words on a command line mean: a run by any part of its id, a moment, a length of time, a file.

Every misunderstanding is an error that says what would be right; nothing here guesses between two possibilities.
"""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.bootstrap import LocalParts
from shared.errors import InvalidInput, NotFound, Problem
from shared.events import RunRequested
from shared.ids import (
    JobName,
    RunId,
    WorkflowName,
    is_name,
    run_stream,
    scheduled_instant,
    scheduled_run,
    subject_of,
    workflow_of,
    workflow_stream,
)
from shared.ports import RunFilter
from shared.state.run import NotRequested, Run, evolve
from shared.state.workflow import WorkflowState
from shared.usecases.loading import Loaded
from shared.workflow.nearest import Nearest, shown

RUNS_SCANNED_MAX = 200_000
"""Ids looked at for one that ends with what was given."""
SUFFIX_LENGTH_MIN = 4
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Never read more of a file than this; reading refuses documents far smaller, with the reason."""
_AMBIGUOUS_SHOWN = 5

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9_.:+-]*")
_LENGTH = re.compile(r"([0-9]{1,9})\s*(s|sec|m|min|h|d|w)(?:onds?|inutes?|ours?|ays?|eeks?)?")
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


# --- runs -------------------------------------------------------------------------------------------------------------


def find_run(parts: LocalParts, text: str, *, existing: bool = True) -> RunId:
    """The run that is meant: a whole id, a workflow's name for its latest run, or a part that only one id begins or ends with.

    Not `existing`: a whole id is taken as it is, because there is something to say about runs that do not exist, and a workflow
    that never ran means its next scheduled run. A run that is held back by its workflow exists. Raises `NotFound`; `InvalidInput` when several runs are meant.
    """
    if _RUN.fullmatch(text) and ".." not in text and len(text) <= 256:
        run = RunId(text)
        if parts.store.read(run_stream(run), limit=1) or pending_request(parts, run) is not None:
            return run
        if not existing and (scheduled_instant(run) is not None or not _beginning(parts, text)):
            return run
    if is_name(text) and (latest := latest_run(parts, WorkflowName(text))) is not None:
        return latest
    if not existing and is_name(text) and (coming := _next_run(parts, WorkflowName(text))) is not None:
        return coming
    found = _beginning(parts, text) or _ending(parts, text)
    if len(found) == 1:
        return RunId(found[0])
    if found:
        several = ", ".join(found[:_AMBIGUOUS_SHOWN]) + (", …" if len(found) > _AMBIGUOUS_SHOWN else "")
        raise InvalidInput([Problem("RUN", f"{shown(text)} could be {several}", "give more of the id")])
    raise NotFound(_no_run(parts, text))


def latest_run(parts: LocalParts, workflow: WorkflowName) -> RunId | None:
    """The run that was asked for last, also when the workflow still holds it back."""
    page = parts.views.runs(RunFilter(workflow=workflow), limit=1)
    found = [(row.requested_at, row.run) for row in page.rows]
    state = parts.loader.load(workflow_stream(workflow)).state
    if isinstance(state, WorkflowState):
        found += [(one.since, one.run) for one in state.held]
        found += [
            (holder.admitted_at, run) for run, holder in state.holders.items() if parts.views.get_run(run) is None
        ]
    return max(found)[1] if found else None


def _next_run(parts: LocalParts, workflow: WorkflowName) -> RunId | None:
    state = parts.loader.load(workflow_stream(workflow)).state
    if not isinstance(state, WorkflowState) or state.next_at is None:
        return None
    return scheduled_run(workflow, state.next_at)


def pending_request(parts: LocalParts, run: RunId) -> tuple[RunRequested, datetime, str] | None:
    """The request of a run that its workflow holds back, or has let in a moment ago: with since when, and why."""
    workflow = workflow_of(run)
    if not is_name(workflow):
        return None
    state = parts.loader.load(workflow_stream(workflow)).state
    if not isinstance(state, WorkflowState):
        return None
    for held in state.held:
        if held.run == run:
            return held.request, held.since, held.reason
    holder = state.holders.get(run)
    return None if holder is None else (holder.request, holder.admitted_at, "")


def load_run(parts: LocalParts, run: RunId, *, version: int | None = None, at: datetime | None = None) -> Loaded:
    """A run as it is, or was; one that is held back as it will be when it begins. Raises `NotFound`."""
    stream = run_stream(run)
    if version is None and at is None:
        loaded = parts.loader.load(stream)
    else:
        newest = parts.loader.load(stream)
        if version is not None and version > newest.version:
            raise NotFound(f"{run} has no version {version}; it has {newest.version}")
        loaded = parts.loader.load_as_of(stream, version=version, at=at)
        if not isinstance(loaded.state, Run) and isinstance(newest.state, Run):
            since = newest.state.requested_at.isoformat(timespec="seconds").replace("+00:00", "Z")
            raise NotFound(f"{run} did not exist then; it was asked for at {since}")
    if isinstance(loaded.state, Run):
        return loaded
    pending = pending_request(parts, run)
    if pending is None:
        raise NotFound(_no_run(parts, run))
    request, asked_at, _ = pending
    return Loaded(stream, evolve(NotRequested(), request, asked_at, parts.plans), 0, loaded.hash, asked_at)


def find_job(run: Run, name: str) -> JobName:
    """Raises `NotFound` with the nearest name."""
    if run.find(JobName(name)) is not None:
        return JobName(name)
    near = Nearest().hint(name, list(run.plan.jobs), f"`runfold show {run.run}` lists them")
    raise NotFound(f"{run.run} has no job {shown(name)}; {near}")


def _beginning(parts: LocalParts, text: str) -> list[str]:
    if not text or not text.isascii() or not text.isprintable():
        return []
    # Everything that begins with the text is greater than the text without its last letter's successor.
    before = f"run#{text[:-1]}{chr(ord(text[-1]) - 1)}\x7f"
    names = [subject_of(one) for one in parts.store.streams("run", after=before, limit=_AMBIGUOUS_SHOWN + 1)]
    return [name for name in names if name.startswith(text)]


def _ending(parts: LocalParts, text: str) -> list[str]:
    """Runs whose id ends with the text, or whose part after the @ begins with it."""
    if len(text) < SUFFIX_LENGTH_MIN:
        return []
    found: list[str] = []
    after, scanned = "", 0
    while scanned < RUNS_SCANNED_MAX and (names := parts.store.streams("run", after=after)):
        for name in map(subject_of, names):
            if name.endswith(text) or name.partition("@")[2].startswith(text):
                found.append(name)
        after, scanned = names[-1], scanned + len(names)
    return found


def _no_run(parts: LocalParts, text: str) -> str:
    run = RunId(text)
    if _RUN.fullmatch(text) and scheduled_instant(run) is not None:
        return f"there is no run {text} (yet): `runfold why {text}` tells more"
    name = workflow_of(run)
    if is_name(name) and parts.views.get_workflow(name) is not None and "@" not in text:
        return f"{name} has no runs: `runfold run {name}` asks for one"
    return f"there is no run {shown(text)}; `runfold runs` lists them"


# --- moments and lengths of time --------------------------------------------------------------------------------------


def moment_of(text: str, now: datetime, *, option: str, ahead: bool = False) -> datetime:
    """`2026-03-29T02:30Z`, `2026-03-29` (local time where no zone is given), or `2h`: that long ago, or with `ahead` from now."""
    stripped = text.strip()
    length = _LENGTH.fullmatch(stripped.removeprefix("+" if ahead else "-"))
    try:
        if length is not None:
            span = timedelta(seconds=int(length[1]) * _SECONDS[length[2]])
            return now + span if ahead else now - span
        # Local time is meant where no zone is written.
        return datetime.fromisoformat(stripped).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            [
                Problem(
                    option,
                    f"{shown(text)} is not a moment",
                    f"write 2026-03-29T02:30Z, 2026-03-29, or 2h for two hours {'from now' if ahead else 'ago'}",
                )
            ]
        ) from None


def version_or_moment(text: str, now: datetime) -> tuple[int | None, datetime | None]:
    """What `--as-of` names: a version of the stream (`17`), or a moment that has come."""
    if re.fullmatch(r"v?[0-9]{1,9}", text):
        version = int(text.removeprefix("v"))
        if version < 1:
            raise InvalidInput([Problem("--as-of", "versions begin at 1", "`runfold events` shows them")])
        return version, None
    at = moment_of(text, now, option="--as-of")
    if at > now:
        # What is known now would be shown as if it had been known then.
        raise InvalidInput([Problem("--as-of", f"{shown(text)} has not come", "leave it out to see what is so now")])
    return None, at


def seconds_of(text: str, *, option: str) -> float:
    """`90`, `90s`, `5m`, `30d`: a length of time in seconds."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text):
        return float(text)
    length = _LENGTH.fullmatch(text.strip())
    if length is None:
        raise InvalidInput([Problem(option, f"{shown(text)} is not a length of time", "write 90s, 5m, 12h or 30d")])
    return float(int(length[1]) * _SECONDS[length[2]])


# --- words and files --------------------------------------------------------------------------------------------------


def pairs_of(words: Sequence[str], *, option: str, form: str) -> dict[str, str]:
    """`name=value` of each word; the same name twice is an error, and so is a word without a name."""
    found: dict[str, str] = {}
    problems = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            problems.append(Problem(option, f"{shown(word)} has no name or no value", f"write {option} {form}"))
        elif name in found:
            problems.append(Problem(option, f"{shown(name)} is given twice", "give it once"))
        found[name] = value
    if problems:
        raise InvalidInput(problems)
    return found


def read_file(name: str, *, option: str = "") -> bytes:
    """The bytes of a file, or of standard input for `-`, up to a bound that no document reaches."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(FILE_BYTES_MAX)
        path = Path(name)
        if not name:
            raise InvalidInput([Problem(option, "the name of a file is empty", "check the quoting")])
        if path.is_dir():
            raise InvalidInput([Problem(option or name, "is a directory", "name the files: FILE...")])
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        place = f"{option} {name}".strip()
        raise InvalidInput([Problem(place, f"cannot be read: {error.strerror or error}", "check the path")]) from error
