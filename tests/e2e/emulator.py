"""An emulator of AWS as a process of its own: on the loopback interface only, with a home and a temporary folder of its own, gone when
the test session is.

It lives in `.venv/e2e`, because it brings another boto3 than ours, and it runs the deployed functions in its own Python. They find the
services that compute where `AWS_ENDPOINT_URL_<SERVICE>` says, which the emulator's environment hands down to them: the template knows
nothing of it.
"""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.compute.events import ACCOUNT, REGION

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv" / "e2e" / "bin" / "python"
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 10
LOG_SHOWN = 8_000
COMPUTING = ("ECS", "EMR", "SSM")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Emulator:
    """`with Emulator(port, compute_url): ...`. `checks_access`: every call is held to IAM policies, over TLS."""

    def __init__(self, port: int, compute_url: str, *, checks_access: bool = False) -> None:
        assert PYTHON.exists(), "the emulator is not installed: run `make e2e-setup`"
        self.checks_access = checks_access
        self.url = f"{'https' if checks_access else 'http'}://127.0.0.1:{port}"
        self.folder = Path(tempfile.mkdtemp(prefix="runfold-e2e-"))
        self._log = self.folder / "emulator.log"
        (self.folder / "tmp").mkdir()
        environment = {
            "PATH": f"{PYTHON.parent}:{os.environ.get('PATH', '')}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "INFO",
            **{f"AWS_ENDPOINT_URL_{name}": compute_url for name in COMPUTING},
        }
        if checks_access:
            environment |= {"AUTH": "true", "USE_SSL": "1"}
        self._lock = threading.Lock()
        answers, answering = os.pipe()
        self._answers_of_emulator = os.fdopen(answers)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(PYTHON), "-I", str(Path(__file__).with_name("run_emulator.py")), str(answering)],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                pass_fds=[answering],
                stdout=log,
                stderr=subprocess.STDOUT,
                # With its functions in one group, so that all of them end with it.
                start_new_session=True,
            )
        os.close(answering)

    def __enter__(self) -> "Emulator":
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the emulator did not start:\n{self.log()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        # It keeps nothing, so there is nothing to wait for.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_SECONDS_MAX)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._answers_of_emulator.close()
        # Tens of thousands of files: every sandbox has unpacked its function.
        subprocess.run(["rm", "-rf", str(self.folder)], check=False)

    def functions_running(self) -> int:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
            return int(self._answers_of_emulator.readline())

    def kill_function(self, name: str) -> int:
        """End the processes of a function's sandboxes, as hard as it goes; how many there were."""
        killed = 0
        for process in Path("/proc").iterdir():
            # They may end while we look.
            with suppress(OSError):
                if not process.name.isdecimal() or os.getpgid(int(process.name)) != self._process.pid:
                    continue
                if f"AWS_LAMBDA_FUNCTION_NAME={name}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed

    def log(self) -> str:
        """The end of what it wrote, functions' own words included, but for what only says that all is well."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(line for line in text.splitlines() if "INFO" not in line and '"_aws"' not in line)[-LOG_SHOWN:]

    def client(self, service: str, url: str = "", config: Config | None = None) -> Any:
        """A client of the emulator, or of what answers at `url` in its stead."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=url or self.url,
            region_name=REGION,
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key="testing",
            verify=self._certificate(),
            config=config or Config(retries={"total_max_attempts": 1}, read_timeout=130),
        )

    def _certificate(self) -> str | None:
        """Its own, which it made for itself."""
        return str(next((self.folder / "tmp" / "ministack-tls").glob("*.crt"))) if self.checks_access else None

    def _answers(self) -> bool:
        if self.checks_access:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(self.url.rpartition(":")[2]))) == 0
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
