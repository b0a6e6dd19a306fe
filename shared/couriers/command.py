"""A program of this machine that is told: it reads the notice as JSON from its standard input, and its exit code is the answer.

It is started with the arguments of the document and nothing pasted into them; the notice's id is in the JSON and in `RUNFOLD_NOTICE`.
"""

import contextlib
import os
import signal
import subprocess  # the program is named by the document, as the commands of its jobs are
from collections.abc import Mapping

from shared.couriers.webhook import body_of
from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.ports import COURIER_SECONDS, Message

OUTPUT_MAX = 300
"""Characters of what it wrote to its error output that the reason quotes."""
TEMPORARY = 75
"""EX_TEMPFAIL of sysexits.h: try later."""


class Command:
    def __init__(self, environment: Mapping[str, str], *, seconds_max: float = COURIER_SECONDS) -> None:
        self._environment = dict(environment)
        self._seconds_max = seconds_max

    def send(self, message: Message) -> str:
        assert message.rule.command is not None
        environment = self._environment | {"RUNFOLD_NOTICE": message.id}
        try:
            process = subprocess.Popen(
                message.rule.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                # In a group of its own, to be ended with all it started; in our session, so that the engine leaves it to us.
                process_group=0,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise TargetRefused(f"{message.rule.command[0]} cannot be started: {error.strerror}") from error
        except OSError as error:
            raise TargetUnavailable(f"{message.rule.command[0]} cannot be started: {error.strerror}") from error
        try:
            _, told = process.communicate(body_of(message), timeout=self._seconds_max)
        except subprocess.TimeoutExpired as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            raise TargetSilent(f"{message.rule.command[0]} took longer than {self._seconds_max:g} seconds") from error
        code = process.returncode
        if code == 0:
            return "exit code 0"
        text = " ".join(told.decode(errors="replace").split())[-OUTPUT_MAX:]
        kind = TargetUnavailable if code == TEMPORARY else TargetRefused
        raise kind(f"{message.rule.command[0]} ended with exit code {code}{': ' + text if text else ''}")
