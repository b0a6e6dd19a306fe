"""Real processes, each in a session of its own, and the `aws` command that containers and hosts find on their PATH."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
AWS_COMMAND = Path(__file__).parent / "aws_command.py"


class Processes:
    """`directory`: where everything lies that the processes see of us."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        bin_directory = directory / "bin"
        bin_directory.mkdir(parents=True, exist_ok=True)
        # Isolated: nothing of this machine's Python may matter to a container.
        program = bin_directory / "aws"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{AWS_COMMAND}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.path = f"{bin_directory}:{PATH}"
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], directory: Path, out: Path, err: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Raises `OSError` when the program cannot be run."""
        with out.open("ab") as stdout, (err or out).open("ab") as stderr:
            process = subprocess.Popen(
                list(words),
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        with self._lock:
            self._running.add(process)
        return process

    def wait(self, process: "subprocess.Popen[bytes]") -> int:
        """The exit code as a shell would say it."""
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        with self._lock:
            left = list(self._running)
        for process in left:
            signal_group(process, signal.SIGKILL)
            process.wait()
        # What left its session carries our directory in its PATH.
        mark = f"{self.directory}/bin".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(place.name) != os.getpid() and mark in (place / "environ").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)


def signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
