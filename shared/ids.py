"""Names of things, and how they are derived from each other.

Nothing here makes a new id out of thin air: fresh ids come from the doorways, so that the core stays a function of
its inputs. What is derived here is derived the same way for ever, because streams already written depend on it.
"""

import hashlib
import re
from base64 import b32encode
from datetime import UTC, datetime
from typing import NewType

WorkflowName = NewType("WorkflowName", str)
JobName = NewType("JobName", str)
PoolName = NewType("PoolName", str)
RunId = NewType("RunId", str)
StreamName = NewType("StreamName", str)
Digest = NewType("Digest", str)
Token = NewType("Token", str)
Handle = NewType("Handle", str)
CommitId = NewType("CommitId", str)
BackfillId = NewType("BackfillId", str)

NAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$"
"""Names of workflows and jobs: 1 to 64 characters. No `@`, `#`, `/` or space: they are parts of keys, paths and tags."""

TOKEN_LENGTH = 32
"""ECS allows 64 characters of client token, SSM 100 of comment, EMR step names 256: 32 of base32 fit them all."""

JOB_PATTERN = NAME_PATTERN[:-1] + r"(?::(?:0|[1-9][0-9]{0,5}))?$"
"""Names of jobs of a run: those of the document, and of items."""

_NAME = re.compile(NAME_PATTERN)
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and ".." not in text


def item_name(job: JobName, index: int) -> JobName:
    """The name of one item of a job with `for_each`, from 0: `load:17`. No job of a document can have it; shells, addresses and the tags
    of AWS take it as it is."""
    return JobName(f"{job}:{index}")


def item_of(name: str) -> tuple[JobName, int] | None:
    """The job and the index in an item's name; None for any other text."""
    job, colon, index = name.partition(":")
    # One text for each item: no sign, no zero before a digit.
    if not colon or not is_name(job) or _INDEX.fullmatch(index) is None:
        return None
    return JobName(job), int(index)


def is_job_name(text: str) -> bool:
    """Whether a job of a run can have that name: one of its document, or an item of one."""
    return is_name(text) or item_of(text) is not None


def run_stream(run: RunId) -> StreamName:
    return StreamName(f"run#{run}")


def workflow_stream(workflow: WorkflowName) -> StreamName:
    return StreamName(f"workflow#{workflow}")


def pool_stream(pool: PoolName) -> StreamName:
    return StreamName(f"pool#{pool}")


def document_stream(key: str) -> StreamName:
    return StreamName(f"document#{key}")


def backfill_stream(backfill: BackfillId) -> StreamName:
    return StreamName(f"backfill#{backfill}")


def calendar_stream(name: str) -> StreamName:
    return StreamName(f"calendar#{name}")


def notices_stream(source: StreamName) -> StreamName:
    """What is told of a stream, and what became of it."""
    return StreamName(f"notices#{source}")


def notice_id(source: StreamName, version: int, occasion: str, rule: int) -> str:
    """The name of one notice: the same fact told by the same rule is the same notice, whoever derives it, and how often."""
    return _short_hash(source, str(version), occasion, str(rule))[:26].lower()


def kind_of(stream: StreamName) -> str:
    """The part before the first `#`: `run`, `workflow`, `calendar`, `document`, `backfill`, `pool`, `notices`."""
    return stream.partition("#")[0]


def subject_of(stream: StreamName) -> str:
    """The part after it: a run id, a workflow's or pool's name, an upload's key, another stream's name."""
    return stream.partition("#")[2]


def scheduled_run(workflow: WorkflowName, at: datetime) -> RunId:
    """The run of one scheduled instant: the same instant delivered twice is the same run."""
    return RunId(f"{workflow}@{instant_text(at)}")


def keyed_run(workflow: WorkflowName, key: str) -> RunId:
    """The run that an idempotency key asks for: the same key twice is the same run."""
    return RunId(f"{workflow}@k{_short_hash(workflow, key)[:26].lower()}")


def triggered_run(workflow: WorkflowName, trigger: str, key: str) -> RunId:
    """The run that an event asks for through a trigger: the same event twice is the same run."""
    return RunId(f"{workflow}@t{_short_hash(workflow, trigger, key)[:26].lower()}")


def child_run(workflow: WorkflowName, token: Token) -> RunId:
    """The run that an attempt under this token asks for: asked for twice, it is the same run."""
    return RunId(f"{workflow}@c{token}")


def fresh_run(workflow: WorkflowName, ulid: str) -> RunId:
    return RunId(f"{workflow}@{ulid.lower()}")


def instant_run(workflow: WorkflowName, at: datetime, number: int) -> RunId:
    """The `number`-th run of one scheduled instant. Whoever makes an instant run again takes the next number, so that two who do so at the same
    time ask for the same run."""
    first = scheduled_run(workflow, at)
    return first if number == 1 else RunId(f"{first}.{number}")


def following_run(run: RunId) -> RunId | None:
    """The next run of the same instant; None for a run of no instant."""
    first, _, number = run.partition("Z.")
    at = scheduled_instant(RunId(f"{first}Z" if number else run))
    if at is None or not (number.isdecimal() or not number):
        return None
    return instant_run(workflow_of(run), at, int(number or 1) + 1)


def keyed_backfill(workflow: WorkflowName, key: str) -> BackfillId:
    """The backfill that an idempotency key asks for."""
    return BackfillId(f"{workflow}@b{_short_hash('backfill', workflow, key)[:26].lower()}")


def fresh_backfill(workflow: WorkflowName, ulid: str) -> BackfillId:
    return BackfillId(f"{workflow}@b{ulid.lower()}")


def is_backfill(text: str) -> bool:
    """Whether the text can be a backfill's id; what cannot is never looked for in a store."""
    workflow, _, rest = text.partition("@")
    return len(text) <= 128 and is_name(workflow) and re.fullmatch("b[0-9a-z]{1,32}", rest) is not None


def workflow_of_backfill(backfill: BackfillId) -> WorkflowName:
    return WorkflowName(backfill.partition("@")[0])


def workflow_of(run: RunId) -> WorkflowName:
    return WorkflowName(run.partition("@")[0])


def scheduled_instant(run: RunId) -> datetime | None:
    """The instant in a scheduled run's id; None for runs that were asked for otherwise."""
    text = run.partition("@")[2]
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def instant_text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def attempt_token(run: RunId, job: JobName, attempt: int) -> Token:
    """The name under which a target is asked to do an attempt. Attempt numbers never start again, so neither do tokens."""
    return Token(_short_hash(run, job, str(attempt))[:TOKEN_LENGTH].lower())


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def _short_hash(*parts: str) -> str:
    # The separator cannot occur in a name, so no two lists of parts give the same text.
    return b32encode(hashlib.sha256("\x1f".join(parts).encode()).digest()).decode()
