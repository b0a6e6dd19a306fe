"""What attempts on AWS wrote and left, as people read it: output from CloudWatch Logs, files from S3.

    <log group>  runfold/main/<task>                                     of a container; both streams in one, by ECS's log driver
                 <command>/<instance>/aws-runShellScript/stdout|stderr   of a command on hosts

What it promises: pages cost in proportion to what they show, cursors stay right for as long as the log is kept (AWS's own last a day), lines of
one stream stay in their order, and of several they are merged by time as far as they have come. Nothing here writes.
"""

import hashlib
import heapq
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from shared.errors import InvalidInput, NotFound, Problem, TargetUnavailable
from shared.executors.aws import AwsError, code_of, message_of
from shared.ids import RunId, attempt_token
from shared.ports import LogLine, LogPage, LogSource, StoredFile

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client

SETTLE = timedelta(seconds=15)
"""After an end, output may still come: agents send it every five seconds, and CloudWatch shows it some seconds later."""
STREAMS_MAX = 40
"""Read for one attempt, so twenty hosts: each page reads each of them, and CloudWatch takes 25 reads a second of an account."""
CALLS_MAX = 5
"""For one stream and page: pages of CloudWatch may be empty although more follows."""
EVENTS_MAX = 10_000
"""CloudWatch's own bound of one answer."""
LINE_BYTES = 64
"""What a line costs beside its text, so that a page of empty lines is bounded too."""
LINE_LENGTH_MAX = 1 << 16
"""A longer line is shown in pieces of so many characters; an event of CloudWatch's holds a megabyte."""
DOWNLOAD_SECONDS = 300

_GONE = frozenset({"404", "403", "NoSuchKey", "NotFound", "AccessDenied"})
"""Who may not list a bucket is told 403 for what is not there."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARK = re.compile(r"([0-9a-f]{6})-([0-9a-z]{1,9})-([0-9a-z]{1,5})")


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    stream: Literal["out", "err"]
    host: str = ""

    @property
    def short(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:6]


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far a stream was read: so many events of that millisecond, and all before it."""

    at: int = 0
    count: int = 0


@dataclass(slots=True)
class _Read:
    stream: _Stream
    events: list[tuple[int, str]] = field(default_factory=list)
    """Milliseconds since 1970, and text; in the stream's order."""
    whole: bool = False
    """Whether nothing follows so far."""


class CloudWatchLogs:
    """`group` empty: this deployment keeps no output."""

    def __init__(self, client: "CloudWatchLogsClient", group: str, *, now: Callable[[], datetime]) -> None:
        self._client = client
        self._group = group
        self._now = now

    def page(self, source: LogSource, *, stream: Literal["out", "err"] | None, cursor: str, bytes_max: int) -> LogPage:
        """See `Logs`. `TargetUnavailable` when CloudWatch does not answer."""
        marks = _marks_in(cursor)
        settled = source.ended_at is not None and self._now() >= source.ended_at + SETTLE
        streams = self._streams(source)
        if stream is not None:
            streams = [one for one in streams if one.stream == stream]
        tried = [self._read(one, marks.get(one.short, _Mark()), bytes_max) for one in streams]
        read = [one for one in tried if one is not None]
        if not read:
            if settled:
                raise NotFound(
                    f"attempt {source.attempt} of {source.job} wrote nothing, or it is older than the log group "
                    f"{self._group} keeps"
                )
            return LogPage((), cursor, complete=False)
        hidden = f"runfold {attempt_token(source.run, source.job, source.attempt)} "
        lines: list[LogLine] = []
        size = left = 0
        for number, (at, text) in _merged(read):
            if size >= bytes_max:
                left += 1
                break
            where = read[number].stream
            mark = marks.get(where.short, _Mark())
            marks[where.short] = _Mark(at, mark.count + 1 if mark.at == at else 1)
            for given in text.removesuffix("\n").split("\n"):
                line = given.removesuffix("\r")
                # What the wrapper says to us at the end is no output of the job.
                if line.startswith(hidden):
                    continue
                for start in range(0, max(len(line), 1), LINE_LENGTH_MAX):
                    piece = line[start : start + LINE_LENGTH_MAX]
                    lines.append(LogLine(_moment(at), where.stream, piece, where.host))
                    size += len(piece) + LINE_BYTES
        complete = settled and not left and all(one.whole for one in read)
        return LogPage(tuple(lines), _cursor_of(marks), complete)

    def _streams(self, source: LogSource) -> list[_Stream]:
        if not self._group:
            raise NotFound("this deployment keeps no output of jobs: it has no log group")
        if source.handle is None:
            if source.ended_at is None:
                return []
            raise NotFound(
                f"no target is known to have taken attempt {source.attempt} of {source.job}, so it wrote nothing"
            )
        if source.target == "ecs":
            return [_Stream(f"runfold/main/{source.handle.rpartition('/')[2]}", "out")]
        return self._streams_of_hosts(source.handle)

    def _streams_of_hosts(self, command: str) -> list[_Stream]:
        try:
            answer = self._client.describe_log_streams(
                logGroupName=self._group, logStreamNamePrefix=f"{command}/", limit=STREAMS_MAX
            )
        except AwsError as error:
            if code_of(error) == "ResourceNotFoundException":
                raise self._no_group() from error
            raise _unavailable(error, "list the output of hosts") from error
        found = [str(one["logStreamName"]).split("/") for one in answer.get("logStreams", [])]
        hosts = {parts[1] for parts in found if len(parts) == 4}
        return [
            _Stream("/".join(parts), "err" if parts[3] == "stderr" else "out", parts[1] if len(hosts) > 1 else "")
            for parts in found
            if len(parts) == 4 and parts[3] in ("stdout", "stderr")
        ]

    def _read(self, stream: _Stream, mark: _Mark, bytes_max: int) -> _Read | None:
        """From the mark on, about so much; None when there is no such stream."""
        found = _Read(stream)
        more: dict[str, Any] = {}
        skip, size = mark.count, 0
        for _ in range(CALLS_MAX):
            try:
                answer = self._client.get_log_events(
                    logGroupName=self._group,
                    logStreamName=stream.name,
                    startTime=mark.at,
                    startFromHead=True,
                    limit=min(max(bytes_max // LINE_BYTES + skip + 1, 1), EVENTS_MAX),
                    **more,
                )
            except AwsError as error:
                if code_of(error) == "ResourceNotFoundException":
                    return None
                raise _unavailable(error, f"read the output {stream.name}") from error
            for event in answer["events"]:
                at, text = event["timestamp"], event["message"]
                if skip and at == mark.at:
                    skip -= 1
                    continue
                found.events.append((at, text))
                size += len(text) + LINE_BYTES
            following = answer["nextForwardToken"]
            if following == more.get("nextToken"):
                found.whole = True
                break
            if size > bytes_max:
                break
            more = {"nextToken": following}
        return found

    def _no_group(self) -> NotFound:
        return NotFound(f"there is no log group {self._group}")


def _merged(read: list[_Read]) -> Iterator[tuple[int, tuple[int, str]]]:
    """Number of the stream and event, by time, up to where something not yet read of another stream might come between."""
    horizon = min((one.events[-1][0] for one in read if one.events and not one.whole), default=None)
    every = [[(at, number, index) for index, (at, _) in enumerate(one.events)] for number, one in enumerate(read)]
    for at, number, index in heapq.merge(*every):
        if horizon is not None and at > horizon:
            return
        yield number, read[number].events[index]


def _marks_in(cursor: str) -> dict[str, _Mark]:
    if not cursor:
        return {}
    found = {}
    for part in cursor.split("_"):
        match = _MARK.fullmatch(part)
        if match is None:
            raise InvalidInput(
                [Problem("cursor", "is none of this log", "send back the one that a page gave, or none")]
            )
        found[match[1]] = _Mark(int(match[2], 36), int(match[3], 36))
    return found


def _cursor_of(marks: Mapping[str, _Mark]) -> str:
    return "_".join(f"{short}-{_base36(mark.at)}-{_base36(mark.count)}" for short, mark in marks.items())


def _base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


class S3Artifacts:
    """Kept files below `prefix`, which ends with the separator; each in its run's own part."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "runs/") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def size(self, run: RunId, address: str) -> int | None:
        """See `Artifacts`. `TargetUnavailable` when S3 does not answer."""
        key = self._key(run, address)
        if key is None:
            return None
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
        except AwsError as error:
            if code_of(error) in _GONE:
                return None
            raise _unavailable(error, f"look at {address}") from error

    def fetch(self, run: RunId, address: str) -> StoredFile:
        """See `Artifacts`. The address is good for `DOWNLOAD_SECONDS`, or until our credentials end."""
        key = self._key(run, address)
        if key is None or self.size(run, address) is None:
            raise NotFound("the file is gone: it was removed since, or its time to be kept is over")
        name = quote(key.rpartition("/")[2], safe="")
        url = self._client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self._bucket,
                "Key": key,
                # What a job wrote is never a page: a browser saves it and runs nothing of it.
                "ResponseContentType": "application/octet-stream",
                "ResponseContentDisposition": f"attachment; filename*=UTF-8''{name}",
            },
            ExpiresIn=DOWNLOAD_SECONDS,
        )
        return StoredFile(url=url)

    def _key(self, run: RunId, address: str) -> str | None:
        """Addresses come from events, which what runs on targets can influence: nothing outside of the run is given out."""
        key = address.removeprefix(f"s3://{self._bucket}/")
        inside = key != address and key.startswith(f"{self._prefix}{run}/")
        plain = "\0" not in key and not any(part in ("", ".", "..") for part in key.split("/"))
        return key if inside and plain else None


def _unavailable(error: Exception, what: str) -> TargetUnavailable:
    return TargetUnavailable(f"cannot {what}: {code_of(error)} {message_of(error)}".strip())
