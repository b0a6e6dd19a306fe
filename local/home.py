"""Where an engine keeps its things, and how two processes on one home find each other.

`runfold.db` holds the events and everything derived; `documents/` and `runs/` hold files; `workflows/` is where people drop documents;
`engine.lock` is held by the one engine that may run; `wake` is a FIFO that tells it that somebody else wrote.
"""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from shared.errors import EngineBusy, Rejected

LOOKS_MAX = 5
"""Tries to take the lock before another engine is believed to have it."""
LOOK_PAUSE_SECONDS = 0.01


class Home:
    """A home directory; `open` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "runfold.db"
        self.documents = self.path / "documents"
        self.workflows = self.path / "workflows"
        self.lock = self.path / "engine.lock"
        self.wake = self.path / "wake"
        self.settings = self.path / "settings.yaml"

    def make(self) -> None:
        """Make what is missing; readable by the owner only, because jobs' output and parameters lie here."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.workflows.mkdir(exist_ok=True)
            if self.wake.exists() and not self.wake.is_fifo():
                # A copy of a home has a file in its place.
                self.wake.unlink()
            if not self.wake.exists():
                with contextlib.suppress(FileExistsError):
                    os.mkfifo(self.wake, 0o600)
        except OSError as error:
            raise Rejected(
                f"cannot use {self.path} as home: {error.strerror}; name a directory of yours with --home"
            ) from error

    def exists(self) -> bool:
        return self.database.exists()


class EngineLock:
    """Held by the one engine of a home for as long as it lives; the system lets go of it however the engine ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises `EngineBusy`, naming the process, when another engine has it."""
        try:
            descriptor = os.open(self._home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Rejected(f"cannot open {self._home.lock}: {error.strerror}") from error
        try:
            _lock_exclusively(descriptor)
        except OSError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise Rejected(f"cannot lock {self._home.lock}: {error.strerror}") from error
            raise EngineBusy(
                f"another engine (process {owner or 'unknown'}) runs on {self._home.path}: "
                "use it, stop it first, or give this one its own --home"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock_exclusively(descriptor: int) -> None:
    for looked in range(LOOKS_MAX):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Whoever only asks whether there is an engine holds the lock for microseconds.
            if looked == LOOKS_MAX - 1:
                raise
            time.sleep(LOOK_PAUSE_SECONDS)
        else:
            return


def engine_process(home: Home) -> int | None:
    """The process number of the engine that runs on this home; None when there is none."""
    try:
        descriptor = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.read(descriptor, 32).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def wake(home: Home) -> bool:
    """Tell the engine that something was written; False when none is listening. Never blocks: a full FIFO has woken it already."""
    try:
        descriptor = os.open(home.wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, b"w")
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
