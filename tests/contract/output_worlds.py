"""Attempts that write, on each place where output is kept: what the suite of `Logs` runs on."""

import gzip
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from functions.api.embedded import HomeLogs
from local.home import Home
from shared.executors.aws_output import SETTLE, CloudWatchLogs
from shared.executors.emr_output import SETTLE as EMR_SETTLE
from shared.executors.emr_output import EmrLogs
from shared.ids import Handle, JobName, RunId
from shared.ports import LogLine, LogPage, Logs, LogSource

RUN = RunId("nightly@1")
JOB = JobName("load")
Stream = Literal["out", "err"]


class Writer:
    """Attempts of one job; what they write, and when they end. `settle` is how long after an end output may still come."""

    tells_apart = True
    """Whether standard output and error are."""
    bytes_pass = True
    """Whether what is written reaches the place as bytes; else only as text."""
    settle = timedelta()
    target = "ssm"

    def __init__(self) -> None:
        self.logs: Logs
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.ended: dict[int, datetime] = {}

    def handle(self, attempt: int) -> str | None:
        raise NotImplementedError

    def write(self, *lines: str, stream: Stream = "out", attempt: int = 1) -> None:
        raise NotImplementedError

    def end(self, attempt: int = 1) -> None:
        self.ended[attempt] = self.now

    def source(self, attempt: int = 1) -> LogSource:
        name = self.handle(attempt)
        return LogSource(RUN, JOB, attempt, self.target, Handle(name) if name else None, self.ended.get(attempt))

    def page(
        self, cursor: str = "", *, stream: Stream | None = None, attempt: int = 1, bytes_max: int = 1_000
    ) -> LogPage:
        return self.logs.page(self.source(attempt), stream=stream, cursor=cursor, bytes_max=bytes_max)

    def all(self, cursor: str = "", **more: Any) -> tuple[list[LogLine], LogPage]:
        """Page by page until one is empty."""
        lines: list[LogLine] = []
        for _ in range(2_000):
            page = self.page(cursor, **more)
            lines += page.lines
            moved, cursor = page.cursor != cursor, page.cursor
            if not page.lines or not moved:
                return lines, page
        raise AssertionError("it never ends")


class ProcessWriter(Writer):
    """Plain files of this machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._home = directory
        self.logs = HomeLogs(Home(directory))

    def _guard(self, attempt: int) -> Path:
        return self._home / "runs" / RUN / JOB / str(attempt)

    def handle(self, attempt: int) -> str | None:
        return "here" if self._guard(attempt).exists() else None

    def write(self, *lines: str, stream: Stream = "out", attempt: int = 1) -> None:
        guard = self._guard(attempt)
        if not guard.exists():
            guard.mkdir(parents=True)
            # The wrapper that took it, which is this process: it goes on.
            (guard / "pid").write_text(f"{os.getpid()}\n")
        with (guard / stream).open("ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    def end(self, attempt: int = 1) -> None:
        super().end(attempt)
        if self._guard(attempt).exists():
            (self._guard(attempt) / "exit").write_text("0\n")


class CloudWatchWriter(Writer):
    """What agents of hosts send: a stream for each of the two."""

    settle = SETTLE
    bytes_pass = False

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client
        self._group = f"/runfold/{uuid.uuid4().hex}"
        self._at: dict[str, int] = {}
        self._written: set[int] = set()
        client.create_log_group(logGroupName=self._group)
        self.logs = CloudWatchLogs(client, self._group, now=lambda: self.now)

    def handle(self, attempt: int) -> str | None:
        return f"command{attempt}" if attempt in self._written else None

    def name(self, stream: Stream, attempt: int) -> str:
        return f"command{attempt}/i-1/aws-runShellScript/std{stream}"

    def write(self, *lines: str, stream: Stream = "out", attempt: int = 1) -> None:
        self._written.add(attempt)
        name = self.name(stream, attempt)
        if name not in self._at:
            self._client.create_log_stream(logGroupName=self._group, logStreamName=name)
            self._at[name] = round((self.now - timedelta(minutes=10)).timestamp() * 1000)
        events = []
        for line in lines:
            self._at[name] += 1
            events.append({"timestamp": self._at[name], "message": line or "\n"})
        self._client.put_log_events(logGroupName=self._group, logStreamName=name, logEvents=events)


class ContainerWriter(CloudWatchWriter):
    """What the log driver of a container sends: both in one stream."""

    tells_apart = False
    target = "ecs"

    def handle(self, attempt: int) -> str | None:
        return f"arn:aws:ecs:eu-central-1:1:task/c/task{attempt}" if attempt in self._written else None

    def name(self, stream: Stream, attempt: int) -> str:
        return f"runfold/main/task{attempt}"


class EmrWriter(Writer):
    """What EMR copies: a packed file for each, put anew each time. Its answers are those of EMR's API."""

    settle = EMR_SETTLE
    target = "emr"

    def __init__(self, s3: Any, bucket: str, *, uri: str | None = None) -> None:
        super().__init__()
        self._s3 = s3
        self.bucket = bucket
        self.prefix = f"{uuid.uuid4().hex}/logs"
        self.uri = f"s3n://{bucket}/{self.prefix}/" if uri is None else uri
        self.steps: dict[int, list[str]] = {}
        self.text: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.logs = EmrLogs(lambda service: s3 if service == "s3" else self, now=lambda: self.now)

    # --- EMR's API

    def describe_cluster(self, *, ClusterId: str) -> Any:
        self.asked.append("DescribeCluster")
        return {"Cluster": {"Id": ClusterId} | ({"LogUri": self.uri} if self.uri else {})}

    def list_steps(self, *, ClusterId: str) -> Any:
        return {"Steps": [{"Id": step} for step in self.steps[int(ClusterId.removeprefix("j-"))][::-1]]}

    # --- the attempts

    def handle(self, attempt: int) -> str | None:
        return f"j-{attempt}/{','.join(self.steps[attempt])}" if attempt in self.steps else None

    def key(self, file: str, attempt: int = 1, step: int = 0) -> str:
        return f"{self.prefix}/j-{attempt}/steps/{self.steps[attempt][step]}/{file}.gz"

    def write(self, *lines: str, stream: Stream = "out", attempt: int = 1) -> None:
        self.steps.setdefault(attempt, ["s-1"])
        self.copy(self.key(f"std{stream}", attempt), "".join(f"{line}\n" for line in lines))

    def copy(self, key: str, more: str) -> None:
        """The file with more at its end; in pieces, as EMR's own are sometimes packed."""
        self.text[key] = self.text.get(key, b"") + gzip.compress(more.encode(errors="surrogateescape"))
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=self.text[key])


class OwnClusterWriter(EmrWriter):
    """A cluster started for the job, whose handle names no steps."""

    def handle(self, attempt: int) -> str | None:
        return f"j-{attempt}" if attempt in self.steps else None


class ServerlessWriter(EmrWriter):
    """Job runs of an application. `own`: the configuration is the job run's, not the application's."""

    own = False

    def handle(self, attempt: int) -> str | None:
        name = f"arn:aws:emr-serverless:eu-central-1:1:/applications/0app/jobruns/{attempt}"
        return name if attempt in self.steps else None

    def key(self, file: str, attempt: int = 1, step: int = 0) -> str:
        return f"{self.prefix}/applications/0app/jobs/{attempt}/SPARK_DRIVER/{file}.gz"

    def get_job_run(self, **_: str) -> Any:
        self.asked.append("GetJobRun")
        return {"jobRun": {"configurationOverrides": self._configuration() if self.own else {}}}

    def get_application(self, **_: str) -> Any:
        return {"application": {} if self.own or not self.uri else self._configuration()}

    def _configuration(self) -> Any:
        return {"monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": self.uri}}}


def texts(lines: Sequence[LogLine]) -> list[str]:
    return [line.text for line in lines]
