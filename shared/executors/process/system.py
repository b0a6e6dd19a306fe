"""What the operating system knows of processes: sessions, families, and whose they are.

Everything here reads `/proc` and never fails because a process is gone: it answers None or leaves it out. Elsewhere than on
Linux the answers are empty, and only processes that are our own children are known.
"""

# Strings instead of Path objects: each Path costs as much as the system call it is for.
# ruff: noqa: PTH208

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

MARKER_VARIABLE = "RUNFOLD_OUTPUTS"
"""In the environment of every process of an attempt, so that those that left its session are found (fault 30). It holds a path,
which no other attempt on this machine has; a token may occur once in every home."""
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    state: str
    """`R`, `S`, `D`, `T` …; `Z` has ended and waits for its parent to learn how."""

    @property
    def ended(self) -> bool:
        return self.state in "ZX"


def become_subreaper() -> bool:
    """Make orphans among our descendants our own children, so that their exit codes reach us. False where that cannot be."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def process(pid: int) -> Process | None:
    text = _read(f"/proc/{pid}/stat")
    # The program's name stands in brackets and may itself hold spaces and brackets.
    fields = text[text.rfind(b")") + 1 :].split()
    if len(fields) < 4:
        return None
    return Process(pid, int(fields[1]), int(fields[3]), fields[0].decode())


def processes() -> list[Process]:
    """Every process there is. A few milliseconds: for stops and accidents only."""
    found = (process(int(name)) for name in _list("/proc") if name.isdigit())
    return [one for one in found if one is not None]


def descendants(pid: int) -> list[int]:
    """Children, and theirs, of a process; those whose parent has ended are not among them."""
    found: list[int] = []
    rest = [pid]
    while rest:
        one = rest.pop()
        children = [int(child) for child in _read(f"/proc/{one}/task/{one}/children").split()]
        found += children
        rest += children
    return found


def marker_of(pid: int) -> str | None:
    """Of the attempt that a process says it belongs to; None also where its environment may not be read."""
    environment = _read(f"/proc/{pid}/environ", bytes_max=1 << 22)
    marker = MARKER_VARIABLE.encode() + b"="
    for entry in environment.split(b"\0"):
        if entry.startswith(marker):
            return os.fsdecode(entry[len(marker) :])
    return None


def is_wrapper_of(pid: int, guard: str) -> bool:
    """Whether this process is a live wrapper of that guard, and not another one that got the number later."""
    words = _read(f"/proc/{pid}/cmdline", bytes_max=1 << 16).split(b"\0")
    return b"-g" in words and os.fsencode(guard) in words


def watch(pid: int) -> int | None:
    """A file descriptor that becomes readable when the process ends; None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def watched_max() -> int:
    """How many processes may be watched at once: half of the descriptors that this process may have, so that there are always some
    for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft // 2


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        # Gone already, or of a user we may not signal: the next look tells.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def booted_at() -> float:
    """Seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_name() -> str:
    """Changes with every boot of the machine."""
    return _read("/proc/sys/kernel/random/boot_id")[:8].decode() or "unknown"


def _read(path: str, *, bytes_max: int = 1 << 16) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, bytes_max)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
