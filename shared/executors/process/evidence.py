"""What lies in an attempt's directory: how it is laid out, what the wrapper wrote, what the job left behind.

    <attempt>/                one process; or hosts/<name>/ of the same form for each of several hosts
        request.json          what was asked, without contents and secrets
        pid  job  exit  stop  the wrapper's evidence (see wrapper.sh)
        remote.json  container.json   where the work is, when the local process only stands for it
        answered              with either of them: the exit code is the work's own
        container             written by the container engine when there is a container
        problem.json          why preparing or recording failed, and its class
        out  err  times       output, and when it came (see logs.py)
        work/                 where the job starts; outputs.json and declared outputs are looked for here

Nothing the job writes is trusted: sizes are bounded, links that lead out of its directory and pipes are refused.
"""

# Strings instead of Path objects: each Path costs as much as the system call it is for.
# ruff: noqa: PTH101, PTH103, PTH105, PTH108, PTH110, PTH116, PTH120

import contextlib
import json
import os
import shutil
import signal
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

from shared.errors import TargetRefused

OUTPUTS_BYTES_MAX = 65_536
"""Of outputs.json. It becomes part of an event, and a commit stays under 100,000 bytes."""
SMALL_BYTES_MAX = 1 << 20
"""Files up to this size are copied where the engine waits for it (about a millisecond)."""

Failure = Literal["user", "infrastructure", "capacity", "timeout", "refused"]


class Unfit(Exception):
    """What the job left behind is not what it declared, or not what can be read."""


@dataclass(frozen=True, slots=True)
class End:
    """How a wrapper says that the work ended."""

    code: int
    why: str
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Began:
    """The wrapper's note of the program it was about to start."""

    step: int
    steps: int
    """0 when there is but one."""
    pid: int | None


def end_of(guard: str) -> End | None:
    """None while there is no exit code, or only part of one."""
    found = _read(f"{guard}/exit", 4096)
    if found is None or not found[0].endswith(b"\n"):
        return None
    code, _, why = found[0].decode(errors="replace").strip().partition(" ")
    return End(int(code), why, found[1].st_mtime) if code.isdigit() else None


def write_end(guard: str, code: int, why: str = "") -> None:
    """Record the code of work whose wrapper was killed."""
    _replace(f"{guard}/exit", f"{code} {why}".rstrip() + "\n")


def claim_of(guard: str) -> tuple[int | None, float] | None:
    """The wrapper that took the work (its number, None when it was not written whole) and when; None: nobody did."""
    found = _read(f"{guard}/pid", 64)
    if found is None:
        return None
    text = found[0]
    return (int(text) if text.endswith(b"\n") and text.strip().isdigit() else None), found[1].st_mtime


def began_of(guard: str) -> Began | None:
    """None: no program was about to be started."""
    found = _read(f"{guard}/job", 256)
    if found is None:
        return None
    place, _, pid = found[0].decode(errors="replace").strip().partition(" ")
    step, _, steps = place.partition("/")
    if not (step.isdigit() and steps.isdigit()):
        return Began(0, 0, None)
    return Began(int(step), int(steps), int(pid) if pid.isdigit() else None)


def release(guard: str) -> None:
    """Take back the claim of a wrapper that surely died before it began anything, so that another may begin."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{guard}/pid")


def stop_of(guard: str) -> tuple[float, float] | None:
    """When a stop was asked for (seconds since the epoch), and the grace in seconds."""
    found = _read(f"{guard}/stop", 64)
    if found is None:
        return None
    try:
        return found[1].st_mtime, float(found[0])
    except ValueError:
        return found[1].st_mtime, 0.0


def write_stop(guard: str, grace_seconds: float) -> None:
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(f"{guard}/stop", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{grace_seconds}\n")


def problem_of(guard: str) -> tuple[Failure | Literal["unknown"], str] | None:
    """Why the work could not be done, or (`unknown`) why nobody can tell whether it was."""
    found = _read(f"{guard}/problem.json", 65_536)
    if found is None:
        return None
    problem = json.loads(found[0])
    return problem["failure"], problem["reason"]


def write_problem(guard: str, failure: Failure, reason: str) -> None:
    _replace(f"{guard}/problem.json", json.dumps({"failure": failure, "reason": reason}))


def write_note(guard: str, text: str) -> None:
    """Begin the log with a line of ours. Nothing happens when the log has begun."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(f"{guard}/err", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")


def write_container(guard: str, program: str, name: str) -> None:
    _replace(f"{guard}/container.json", json.dumps({"program": program, "name": name}))


def container_of(guard: str) -> Mapping[str, str] | None:
    """The container engine's `program` and the container's `name`, when the work is to run in one."""
    found = _read(f"{guard}/container.json", 65_536)
    return cast(Mapping[str, str], json.loads(found[0])) if found else None


def has_container(guard: str) -> bool:
    """Whether the container engine has made it."""
    found = _read(f"{guard}/container", 256)
    return found is not None and bool(found[0])


def is_answered(guard: str) -> bool:
    """Whether what stood for the work lived to learn its exit code."""
    return os.path.exists(f"{guard}/answered")


def request_of(attempt: str) -> Mapping[str, Any]:
    """What was asked; empty when nothing was written yet."""
    found = _read(f"{attempt}/request.json", 1 << 26)
    try:
        return cast(Mapping[str, Any], json.loads(found[0])) if found else {}
    except ValueError:
        # The engine ended while it wrote: nothing was started from it.
        return {}


def describe(code: int, why: str) -> str:
    """`exit code 137 (SIGKILL)`, for people."""
    if why:
        return f"exit code {code}: {why}"
    if code == 127:
        return "exit code 127 (the program was not found)"
    if code == 126:
        return "exit code 126 (the program cannot be executed)"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"exit code {code} ({signal.Signals(code - 128).name})"
    return f"exit code {code}"


def json_outputs(work: str, *, bytes_max: int) -> Mapping[str, Any]:
    """The object in outputs.json, empty when there is none. `Unfit` says what is wrong with it (fault 55)."""
    try:
        # Opening a pipe would wait for its other end, and a link may lead anywhere.
        descriptor = os.open(f"{work}/outputs.json", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unfit(f"outputs.json cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unfit("outputs.json is not a file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise Unfit(f"outputs.json is larger than {bytes_max} bytes: write a file and declare it as an output instead")
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"outputs.json is not JSON: {str(error)[:200] or 'nested too deeply'}") from error
    if not isinstance(value, dict):
        raise Unfit('outputs.json must hold an object, such as {"rows": 3}')
    return value


def keep_outputs(work: str, declared: Sequence[Mapping[str, Any]], *, home: str, under: str) -> dict[str, str]:
    """Keep each declared output as `<home>/<under>/<path>`; doing it again changes nothing. Path to address below `home`.

    `Unfit` when one that is not optional is missing, is not a file, or lies outside of the working directory.
    """
    kept: dict[str, str] = {}
    root = os.path.realpath(work)
    for one in declared:
        path = one["path"]
        source = os.path.realpath(f"{root}/{path}")
        if not source.startswith(f"{root}/"):
            raise Unfit(f"declared output {path} leads out of the job's working directory")
        try:
            facts = os.stat(source)
        except OSError as error:
            if one.get("optional"):
                continue
            raise Unfit(f"declared output {path} is missing") from error
        if not stat.S_ISREG(facts.st_mode):
            raise Unfit(f"declared output {path} is not a file")
        address = f"{under}/{path}"
        if not os.access(source, os.R_OK):
            raise Unfit(f"declared output {path} cannot be read: it belongs to another user")
        _keep(source, facts, f"{home}/{address}")
        kept[path] = address
    return kept


def place_input(work: str, path: str, *, data: bytes | None = None, source: str | None = None) -> None:
    """Write one small input below `work`, with parents. `TargetRefused` for a path that leads out of it."""
    target = f"{work}/{inside(path)}"
    if "/" in path:
        os.makedirs(os.path.dirname(target), exist_ok=True)
    if source is not None:
        # A copy, because a job that changes its input in place would change what other jobs were given.
        shutil.copyfile(source, target)
        return
    assert data is not None
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    if data.startswith(b"#!"):
        os.chmod(target, 0o755)  # noqa: S103


def inside(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise TargetRefused(f"{path!r} does not name a file inside the job's working directory")
    return path


def _keep(source: str, facts: os.stat_result, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(target)
        if (there.st_ino, there.st_dev) == (facts.st_ino, facts.st_dev) or (
            there.st_size == facts.st_size and there.st_mtime_ns == facts.st_mtime_ns
        ):
            return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    partial = f"{target}.partial"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    try:
        os.link(source, partial)
    except OSError:
        # Another file system, or one without links.
        shutil.copy2(source, partial)
    os.replace(partial, target)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read(path: str, bytes_max: int) -> tuple[bytes, os.stat_result] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.read(descriptor, bytes_max), os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: str, text: str) -> None:
    partial = f"{path}.partial"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(partial, path)
