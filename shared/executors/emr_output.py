"""What attempts on EMR wrote, as people read it: files that EMR copies to S3 while steps run and after their end.

    <LogUri>/<cluster>/steps/<step>/stdout.gz stderr.gz controller.gz syslog.gz                     steps of a cluster
    <logUri>/applications/<application>/jobs/<job run>/SPARK_DRIVER/stdout.gz stderr.gz             of EMR Serverless

EMR copies every five minutes and replaces the whole file each time. A file only grows, so a place in its text stays right; its lines
carry the time of the copy that they were read from, because nothing else says when they were written.

What it promises: reading is bounded in files, lines and unpacked bytes, whatever was written; where there is nothing, the answer says
why, and when there may be something. Nothing here writes.
"""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from shared.errors import InvalidInput, NotFound, Problem, TargetUnavailable
from shared.executors.aws import AwsError, code_of, message_of
from shared.ports import LogLine, LogPage, LogSource

COPIED_EVERY = timedelta(minutes=5)
"""EMR's own rhythm."""
SETTLE = 2 * COPIED_EVERY
"""After an end, until when the last copy is surely there."""
STEPS_MAX = 16
"""Read for one attempt: each has four files, and a cursor, of at most 1,000 characters, says of each how far it was read."""
LISTED_MAX = 200
"""Files of a step looked at."""
LINE_BYTES_MAX = 1 << 16
"""A longer line is shown in pieces of this size."""
UNPACKED_BYTES_MAX = 1 << 26
"""Of one file: to read on, everything before has to be unpacked again."""
CHUNK_BYTES = 1 << 16
LINE_BYTES = 64
"""What a line costs beside its text, so that a page of empty lines is bounded too."""
KEPT_MAX = 1_000

_CLUSTER = re.compile(r"(j-[0-9A-Za-z]{1,40})(?:/(s-[0-9A-Za-z]{1,40}(?:,s-[0-9A-Za-z]{1,40})*))?")
_JOB_RUN = re.compile(r"arn:aws[a-z-]*:emr-serverless:[a-z0-9-]*:\d*:/applications/([0-9a-z]+)/jobruns/([0-9a-z]+)")
_BUCKET = re.compile(r"s3[an]?://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_FILES = ("stdout", "stderr", "controller", "syslog")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARK = re.compile(r"([0-9a-z][0-3])-([0-9a-z]{1,6})-([0-9a-z]{0,4})")
_FORBIDDEN = frozenset({"403", "AccessDenied", "AllAccessDisabled"})


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder of files in S3, and whose they are."""

    number: int
    bucket: str
    prefix: str
    label: str


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    """In a cursor: the number of its folder, and which of the four it is."""
    bucket: str
    key: str
    size: int
    at: datetime
    stream: Literal["out", "err"]
    label: str

    @property
    def copy(self) -> str:
        """Tells this copy from the ones before and after."""
        digest = hashlib.sha256(f"{self.size} {self.at.isoformat()}".encode()).digest()
        return _base36(int.from_bytes(digest[:4]))[-4:]

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the text of a file was read, and of which copy that was all; else empty."""

    offset: int = 0
    copy: str = ""


@dataclass(slots=True)
class _Read:
    lines: list[str] = field(default_factory=list)
    offset: int = 0
    bytes: int = 0
    whole: bool = False
    """Whether nothing follows in this copy."""


class EmrLogs:
    """`clients` makes boto3's by the name of the service: `emr`, `emr-serverless`, `s3`; each when it is first needed."""

    def __init__(self, clients: Callable[[str], Any], *, now: Callable[[], datetime]) -> None:
        self._clients = clients
        self._now = now
        self._uris: dict[str, str] = {}

    def page(self, source: LogSource, *, stream: Literal["out", "err"] | None, cursor: str, bytes_max: int) -> LogPage:
        """See `Logs`. `TargetUnavailable` when EMR or S3 does not answer."""
        marks = _marks_in(cursor)
        if source.handle is None:
            if source.ended_at is None:
                return LogPage((), cursor, complete=False)
            raise NotFound(
                f"no target is known to have taken attempt {source.attempt} of {source.job}, so it wrote nothing"
            )
        places, uri = self._places(source.handle)
        settled = source.ended_at is not None and self._now() >= source.ended_at + SETTLE
        files = [one for place in places for one in self._files(place)]
        if not files:
            if settled:
                raise NotFound(f"EMR copied no output to {uri}: it wrote none, or it was removed since")
            return LogPage((), cursor, complete=False, absent=self._expected(source, uri) if not cursor else "")
        lines: list[LogLine] = []
        left, unread = max(1, bytes_max), False
        for file in files:
            if stream is not None and file.stream != stream:
                continue
            mark = marks.get(file.name, _Mark())
            if mark.copy == file.copy:
                # It was read to the end, and no copy was made since.
                continue
            if left <= 0:
                unread = True
                break
            read = self._read(file, mark.offset, left, final=settled)
            marks[file.name] = _Mark(read.offset, file.copy if read.whole else "")
            lines += [LogLine(file.at, file.stream, text, file.label) for text in read.lines]
            left -= read.bytes
            unread = unread or not read.whole
        absent = self._expected(source, uri) if not lines and not cursor and not settled else ""
        return LogPage(tuple(lines), _cursor_of(marks), complete=settled and not unread, absent=absent)

    def _expected(self, source: LogSource, uri: str) -> str:
        by = (source.ended_at or self._now()) + COPIED_EVERY
        return (
            f"EMR copies output to {uri} every {COPIED_EVERY.total_seconds() / 60:.0f} minutes, and has copied none so far: "
            f"look again at {by.astimezone(UTC):%H:%M:%S} UTC"
        )

    # --- where ----------------------------------------------------------------------------------------------------------

    def _places(self, handle: str) -> tuple[list[_Place], str]:
        """The folders to read, and the address to name to people. `NotFound` says why there are none."""
        job_run = _JOB_RUN.fullmatch(handle)
        if job_run is not None:
            uri = self._kept(handle, lambda: self._uri_of_application(job_run[1], job_run[2]))
            where = f"applications/{job_run[1]}/jobs/{job_run[2]}/SPARK_DRIVER/"
            bucket, prefix = _split(uri)
            return [_Place(0, bucket, f"{prefix}{where}", "")], f"s3://{bucket}/{prefix}{where}"
        named = _CLUSTER.fullmatch(handle)
        if named is None:
            raise NotFound("what took the attempt is no step, cluster or job run of EMR")
        cluster = named[1]
        uri = self._kept(cluster, lambda: self._uri_of_cluster(cluster))
        bucket, prefix = _split(uri)
        steps = named[2].split(",")[:STEPS_MAX] if named[2] else self._steps(cluster)
        folder = f"{prefix}{cluster}/steps/"
        return [
            _Place(number, bucket, f"{folder}{step}/", f"step {number + 1}" if len(steps) > 1 else "")
            for number, step in enumerate(steps)
        ], f"s3://{bucket}/{folder}"

    def _kept(self, name: str, ask: Callable[[], str]) -> str:
        """Where a cluster or job run writes never changes, and EMR lets its questions be asked only now and then."""
        if name not in self._uris:
            uri = ask()
            if len(self._uris) >= KEPT_MAX:
                self._uris.clear()
            self._uris[name] = uri
        return self._uris[name]

    def _uri_of_cluster(self, cluster: str) -> str:
        try:
            facts = self._emr.describe_cluster(ClusterId=cluster)["Cluster"]
        except AwsError as error:
            if code_of(error) in ("InvalidRequestException", "ClusterNotFound", "ValidationException"):
                raise NotFound(f"EMR does not know the cluster {cluster} any more: it forgets them in time") from error
            raise _unavailable(error, f"look at the cluster {cluster}") from error
        uri = str(facts.get("LogUri") or "")
        if not uri:
            raise NotFound(f'the cluster {cluster} keeps no output: start it with a `LogUri`, "s3://…"')
        return uri

    def _uri_of_application(self, application: str, job_run: str) -> str:
        """Of the job run's own configuration, else the application's."""
        try:
            told = self._serverless.get_job_run(applicationId=application, jobRunId=job_run)["jobRun"]
            uri = _uri_in(told.get("configurationOverrides") or {})
            if not uri:
                uri = _uri_in(self._serverless.get_application(applicationId=application)["application"])
        except AwsError as error:
            if code_of(error) == "ResourceNotFoundException":
                raise NotFound(f"EMR Serverless does not know the job run {job_run} any more") from error
            raise _unavailable(error, f"look at the job run {job_run}") from error
        if not uri:
            raise NotFound(
                f"the application {application} keeps its output in storage of its own: give it an S3 monitoring configuration"
            )
        return uri

    def _steps(self, cluster: str) -> list[str]:
        """Of a cluster of its own: all of them, in the order in which they run."""
        found: list[str] = []
        more: dict[str, str] = {}
        # The newest come first, 50 in an answer, and a cluster of a job's own has at most 256.
        for _ in range(6):
            try:
                answer = self._emr.list_steps(ClusterId=cluster, **more)
            except AwsError as error:
                raise _unavailable(error, f"list the steps of {cluster}") from error
            found += [str(one["Id"]) for one in answer["Steps"]]
            if not answer.get("Marker"):
                break
            more = {"Marker": answer["Marker"]}
        return found[::-1][:STEPS_MAX]

    def _files(self, place: _Place) -> list[_File]:
        try:
            answer = self._s3.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix, MaxKeys=LISTED_MAX)
        except AwsError as error:
            if code_of(error) == "NoSuchBucket":
                raise NotFound(f"the bucket {place.bucket}, which EMR copies output to, is not there") from error
            raise self._not_read(error, place.bucket) from error
        there = {one["Key"]: one for one in answer.get("Contents", ())}
        files = []
        for which, kind in enumerate(_FILES):
            key = f"{place.prefix}{kind}.gz"
            if key not in there:
                continue
            helper = kind if kind in ("controller", "syslog") else ""
            files.append(
                _File(
                    f"{_DIGITS[place.number]}{which}",
                    place.bucket,
                    key,
                    there[key]["Size"],
                    there[key]["LastModified"].astimezone(UTC),
                    "out" if kind == "stdout" else "err",
                    " ".join(filter(None, (place.label, helper))),
                )
            )
        return files

    def _not_read(self, error: Exception, bucket: str) -> Exception:
        if code_of(error) in _FORBIDDEN:
            return NotFound(
                f"this deployment may not read the bucket {bucket}, which EMR copies output to: name it in `log_buckets`"
            )
        return _unavailable(error, f"read the bucket {bucket}")

    # --- what -----------------------------------------------------------------------------------------------------------

    def _read(self, file: _File, offset: int, bytes_max: int, *, final: bool) -> _Read:
        """Whole lines from a place in the text on. `final`: no other copy will be made, so that the last line needs no newline."""
        read = _Read(offset=offset)
        text = bytearray()
        over = True
        for part in self._unpacked(file, offset):
            text += part
            if len(text) > bytes_max + LINE_BYTES_MAX:
                over = False
                break
        start = 0
        while start < len(text) and read.bytes < bytes_max:
            end = text.find(b"\n", start, start + LINE_BYTES_MAX) + 1
            if end == 0:
                rest = len(text) - start
                if rest < LINE_BYTES_MAX and not (over and (final or offset + len(text) >= UNPACKED_BYTES_MAX)):
                    break
                end = start + min(rest, LINE_BYTES_MAX)
            line = text[start:end]
            read.lines.append(line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace"))
            read.bytes += len(line) + LINE_BYTES
            start = end
        read.offset = offset + start
        # A last line that may go on is read again with the next copy.
        read.whole = over and start == len(text)
        if read.whole and offset < UNPACKED_BYTES_MAX <= read.offset:
            mebibytes = UNPACKED_BYTES_MAX >> 20
            read.lines.append(f"[only the first {mebibytes} MiB are shown here; everything is in {file.address}]")
        return read

    def _unpacked(self, file: _File, offset: int) -> Iterator[bytes]:
        """The text from a place on, up to the bound; it ends where the file is damaged."""
        position = 0
        unpack = zlib.decompressobj(wbits=31)
        try:
            body = self._s3.get_object(Bucket=file.bucket, Key=file.key)["Body"]
            for packed in body.iter_chunks(CHUNK_BYTES):
                while packed:
                    part = unpack.decompress(packed, CHUNK_BYTES)
                    packed = unpack.unconsumed_tail
                    if unpack.eof:
                        # Files that were packed in pieces are one after the other.
                        packed, unpack = unpack.unused_data, zlib.decompressobj(wbits=31)
                    part = part[: UNPACKED_BYTES_MAX - position]
                    position += len(part)
                    if position > offset:
                        yield part[max(0, offset - (position - len(part))) :]
                    if position >= UNPACKED_BYTES_MAX:
                        return
        except zlib.error:
            return
        except AwsError as error:
            if code_of(error) == "NoSuchKey":
                return
            raise self._not_read(error, file.bucket) from error

    @cached_property
    def _emr(self) -> Any:
        return self._clients("emr")

    @cached_property
    def _serverless(self) -> Any:
        return self._clients("emr-serverless")

    @cached_property
    def _s3(self) -> Any:
        return self._clients("s3")


def _uri_in(facts: Any) -> str:
    monitoring = facts.get("monitoringConfiguration") or {}
    return str((monitoring.get("s3MonitoringConfiguration") or {}).get("logUri") or "")


def _split(uri: str) -> tuple[str, str]:
    """Bucket and prefix, which is empty or ends with the separator."""
    found = _BUCKET.fullmatch(uri)
    if found is None:
        raise NotFound(f"EMR copies output to {uri[:200]}, which is no place in S3")
    prefix = (found[2] or "").strip("/")
    return found[1], f"{prefix}/" if prefix else ""


def _marks_in(cursor: str) -> dict[str, _Mark]:
    found = {}
    for part in cursor.split("_") if cursor else ():
        match = _MARK.fullmatch(part)
        if match is None:
            raise InvalidInput(
                [Problem("cursor", "is none of this log", "send back the one that a page gave, or none")]
            )
        found[match[1]] = _Mark(min(int(match[2], 36), UNPACKED_BYTES_MAX), match[3])
    return found


def _cursor_of(marks: dict[str, _Mark]) -> str:
    return "_".join(f"{name}-{_base36(mark.offset)}-{mark.copy}" for name, mark in marks.items())


def _base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


def _unavailable(error: Exception, what: str) -> TargetUnavailable:
    return TargetUnavailable(f"cannot {what}: {code_of(error)} {message_of(error)}".strip())
