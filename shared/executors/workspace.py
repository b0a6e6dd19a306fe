"""Where an attempt's files lie in S3, for targets that share no disk with us.

    <prefix><run>/<job>/<attempt>/inputs      what the target must fetch, when it is too much for the request
                                  result      what it left: `found PATH` lines, an empty line, the text of outputs.json
                                  files/PATH  declared outputs
                                  inputs/PATH outputs.json   for EMR, whose steps read and write S3 themselves

Reading and writing here starts nothing, so every failure is `TargetUnavailable`: try later. Nothing that a job wrote is trusted.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from shared.errors import TargetRefused, TargetUnavailable
from shared.executors.aws import AwsError, code_of, message_of
from shared.ids import JobName, RunId

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LISTED_MAX = 1_000
"""Files of one attempt looked at; a job declares at most 200."""

OUTPUTS_BYTES_MAX = 65_536
"""Of outputs.json, as on one machine (a test compares them). Importing it from there would double a function's cold start."""


class Unfit(Exception):
    """What the job left behind is not what it declared, or not what can be read."""


class Workspace:
    """`prefix` ends with the separator."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "runs/") -> None:
        self._client = client
        self.bucket = bucket
        self.prefix = prefix

    def key(self, run: RunId, job: JobName, attempt: int, name: str = "") -> str:
        """Ids hold no `/`, so no run can be given a key that leads into another's."""
        return f"{self.prefix}{run}/{job}/{attempt}/{name}"

    def address(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def address_of_artifact(self, artifact: str) -> str:
        """An artifact is an address already, or a key below the prefix's bucket."""
        return artifact if artifact.startswith("s3://") else self.address(artifact)

    def put(self, key: str, data: bytes) -> None:
        try:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=data)
        except AwsError as error:
            raise _unavailable(error, f"write {self.address(key)}") from error

    def get(self, key: str, *, last_bytes: int) -> bytes | None:
        """The object, at most its last bytes; None when there is none."""
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes=-{last_bytes}")
            return answer["Body"].read()
        except AwsError as error:
            if code_of(error) in ("NoSuchKey", "404"):
                return None
            if code_of(error) == "InvalidRange":
                return b""
            raise _unavailable(error, f"read {self.address(key)}") from error

    def copy(self, source: str, key: str) -> None:
        """Copy `s3://bucket/key` here. `TargetRefused` when it is not there."""
        bucket, _, name = source.removeprefix("s3://").partition("/")
        try:
            self._client.copy_object(Bucket=self.bucket, Key=key, CopySource={"Bucket": bucket, "Key": name})
        except AwsError as error:
            if code_of(error) in ("NoSuchKey", "NoSuchBucket", "404"):
                raise TargetRefused(f"the input {source} is not there") from error
            raise _unavailable(error, f"copy {source}") from error

    def list(self, prefix: str) -> dict[str, str]:
        """What lies under a prefix: the rest of the key to the address."""
        try:
            answer = self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=LISTED_MAX)
        except AwsError as error:
            raise _unavailable(error, f"list {self.address(prefix)}") from error
        return {one["Key"].removeprefix(prefix): self.address(one["Key"]) for one in answer.get("Contents", [])}


def inside(path: str) -> str:
    """The path of a file in the job's directory; `TargetRefused` for one that leads out of it (fault 57)."""
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise TargetRefused(f"{path!r} does not name a file inside the job's working directory")
    return path


def input_lines(inputs: Sequence[Mapping[str, Any]], workspace: Workspace) -> str:
    """Four lines for each input: kind, source (content in base64), path, SHA-256 or nothing. `TargetRefused` if one has a line break."""
    lines: list[str] = []
    for one in inputs:
        path = inside(str(one["path"]))
        if one.get("content") is not None:
            kind, source = "content", b64encode(str(one["content"]).encode()).decode()
        elif one.get("url") is not None:
            kind, source = "url", str(one["url"])
        elif one.get("s3") is not None:
            kind, source = "s3", str(one["s3"])
        else:
            kind, source = "s3", workspace.address_of_artifact(str(one["artifact"]))
        if "\n" in source + path:
            raise TargetRefused(f"the input {path!r} has a line break in its path or address")
        lines += [kind, source, path, str(one.get("sha256") or "")]
    return "".join(f"{line}\n" for line in lines)


def read_result(
    data: bytes, declared: Sequence[Mapping[str, Any]], addresses: Mapping[str, str]
) -> tuple[Mapping[str, Any], dict[str, str]]:
    """From a `result` object: the outputs, and the declared files that were found with their addresses. `Unfit` if one is missing."""
    head, _, outputs = data.partition(b"\n\n")
    found = {
        line.removeprefix("found ") for line in head.decode(errors="replace").splitlines() if line.startswith("found ")
    }
    files = {}
    for one in declared:
        path = str(one["path"])
        if path in found:
            files[path] = addresses[path]
        elif not one.get("optional"):
            raise Unfit(f"declared output {path} is missing")
    return (json_object(outputs) if outputs.strip() else {}), files


def json_object(data: bytes) -> Mapping[str, Any]:
    """The object in outputs.json. `Unfit` says what is wrong with it (fault 55)."""
    if len(data) > OUTPUTS_BYTES_MAX:
        raise Unfit(f"outputs.json is larger than {OUTPUTS_BYTES_MAX} bytes: declare a file as an output instead")
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"outputs.json is not JSON: {str(error)[:200] or 'nested too deeply'}") from error
    if not isinstance(value, dict):
        raise Unfit('outputs.json must hold an object, such as {"rows": 3}')
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unavailable(error: Exception, what: str) -> TargetUnavailable:
    return TargetUnavailable(f"cannot {what}: {code_of(error)} {message_of(error)}".strip())
