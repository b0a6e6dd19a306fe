"""Brings an attempt's larger inputs into its working directory, as the first step of the attempt's own process.

Run as a program (`python -I fetch.py ATTEMPT WORK HOME GUARD`) because a slow server must not hold up the engine. It reads the
attempt's `request.json`, and on failure leaves `problem.json` in the guard with the class of the failure: `user` for what will be
wrong again (404, another SHA-256, too large), `infrastructure` for what may pass (5xx, no connection, too slow). It imports
nothing of ours, so that it starts quickly and nothing in the working directory can take a module's place.
"""

import hashlib
import http.client
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

SECONDS_MAX = 900
"""For all inputs of an attempt together."""
SILENCE_SECONDS_MAX = 30
"""Without a byte."""
BYTES_MAX = 16 * 1024**3
"""Of one input."""
CHUNK_BYTES = 1 << 18
_MAY_PASS = (408, 425, 429)


class Problem(Exception):
    def __init__(self, failure: str, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason


def fetch(inputs: list[dict[str, Any]], work: Path, home: Path) -> None:
    """Each input under its final name only once it is whole and its SHA-256 is right. Raises `Problem`."""
    deadline = time.monotonic() + SECONDS_MAX
    for one in inputs:
        if "content" in one or not any(one.get(kind) for kind in ("url", "s3", "artifact")):
            continue
        target = work / one["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        name = f"input {one['path']}"
        try:
            source, length = _open(name, one, home)
            with source, partial.open("wb") as file:
                digest = _copy(name, source, file, length, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise Problem("infrastructure", f"{name}: {type(error).__name__}: {error}") from error
        wanted = one.get("sha256")
        if wanted and digest != wanted:
            partial.unlink()
            raise Problem("user", f"{name}: its SHA-256 is {digest}, not {wanted}")
        partial.rename(target)


def _open(name: str, one: dict[str, Any], home: Path) -> tuple[IO[bytes], int | None]:
    if one.get("artifact"):
        return _file(name, home / one["artifact"])
    if one.get("s3"):
        return _object(name, one["s3"])
    parts = urlsplit(one["url"])
    # Without user, password and query, which may be secret.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme == "file":
        return _file(name, Path(unquote(parts.path)))
    try:
        request = urllib.request.Request(one["url"], headers={"User-Agent": "runfold"})  # noqa: S310
        answer = urllib.request.urlopen(request, timeout=SILENCE_SECONDS_MAX)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        failure = "infrastructure" if error.code >= 500 or error.code in _MAY_PASS else "user"
        raise Problem(failure, f"{name}: {shown} answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise Problem("infrastructure", f"{name}: {shown} cannot be reached: {error.reason}") from error
    except ValueError as error:
        raise Problem("user", f"{name}: {shown} is not an address") from error
    length = answer.headers.get("Content-Length")
    return answer, int(length) if length and length.isdigit() else None


def _file(name: str, path: Path) -> tuple[IO[bytes], int | None]:
    if not path.is_file():
        raise Problem("user", f"{name}: there is no file {path}")
    return path.open("rb"), path.stat().st_size


def _object(name: str, address: str) -> tuple[IO[bytes], int | None]:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise Problem("user", f"{name}: boto3 is not installed, and {address} needs it") from error
    bucket, _, key = address.removeprefix("s3://").partition("/")
    try:
        answer = boto3.client("s3").get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        raise Problem("infrastructure" if status >= 500 else "user", f"{name}: {address}: {error}") from error
    except BotoCoreError as error:
        raise Problem("infrastructure", f"{name}: {address}: {error}") from error
    body: Any = answer["Body"]
    return body, answer["ContentLength"]


def _copy(name: str, source: IO[bytes], target: IO[bytes], length: int | None, deadline: float) -> str:
    digest = hashlib.sha256()
    copied = 0
    while chunk := source.read(CHUNK_BYTES):
        copied += len(chunk)
        if copied > BYTES_MAX:
            raise Problem("user", f"{name}: larger than {BYTES_MAX} bytes")
        if time.monotonic() > deadline:
            raise Problem("infrastructure", f"{name}: not here after {SECONDS_MAX} seconds")
        digest.update(chunk)
        target.write(chunk)
    if length is not None and copied != length:
        raise Problem("infrastructure", f"{name}: {copied} of {length} bytes arrived")
    return digest.hexdigest()


def main(words: list[str]) -> int:
    attempt, work, home, guard = (Path(word) for word in words)
    inputs = json.loads((attempt / "request.json").read_text())["inputs"]
    try:
        fetch(inputs, work, home)
    except Problem as problem:
        text = json.dumps({"failure": problem.failure, "reason": problem.reason})
        partial = guard / "problem.json.partial"
        partial.write_text(text)
        partial.rename(guard / "problem.json")
        sys.stderr.write(f"runfold: {problem.reason}\n")
        return 1
    if os.geteuid() == 0:
        # The job may run as another user: what lies in a directory belongs to whom the directory belongs.
        owner = work.stat()
        for one in inputs:
            if (work / one["path"]).exists():
                shutil.chown(work / one["path"], owner.st_uid, owner.st_gid)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
