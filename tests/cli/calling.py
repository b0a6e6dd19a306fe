"""The command as users call it, on a home of the test's own, and documents to put into it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import call
from cli.session import Session

PYTHON_MAIN = "from cli.main import main; main()"
SECONDS_MAX = 20


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)


def ssm(name: str, *commands: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ssm", "host": "localhost", "commands": list(commands), **fields}


def document(name: str, *jobs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "jobs": list(jobs) or [ssm("only", "true")], **fields}


class Runfold:
    """Calls the command on one home: in this process, where it is quick, or as a process of its own, where that matters."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._capture = capture

    def __call__(self, *words: str) -> Answer:
        self._capture.readouterr()
        code = call(["--home", str(self.home), *words], Session())
        shown = self._capture.readouterr()
        assert "Traceback" not in shown.err
        assert "Traceback" not in shown.out
        return Answer(code, shown.out, shown.err)

    def good(self, *words: str) -> Answer:
        answer = self(*words)
        assert answer.code == 0, answer
        return answer

    def file(self, name: str, content: Any) -> str:
        path = self.folder / name
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def register(self, *jobs: dict[str, Any], name: str = "demo", **fields: Any) -> None:
        self.good("register", self.file(f"{name}.json", document(name, *jobs, **fields)))

    def run(self, name: str = "demo", *words: str) -> str:
        """Ask for a run; its id."""
        return str(self.good("run", name, "--json", *words).json["run"])

    def finished(self, name: str = "demo", *words: str) -> Any:
        """Ask for a run and wait for its end; the run as JSON."""
        return self.process("run", name, "--wait", "--json", *words).json

    def environment(self) -> dict[str, str]:
        return {**os.environ, "RUNFOLD_HOME": str(self.home), "PYTHONPATH": str(Path.cwd()), "PYTHONUNBUFFERED": "1"}

    def process(self, *words: str, stdin: bytes = b"") -> Answer:
        done = subprocess.run(
            [sys.executable, "-c", PYTHON_MAIN, *words],
            capture_output=True,
            cwd=self.folder,
            env=self.environment(),
            input=stdin,
            timeout=SECONDS_MAX,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in answer.err, answer.err
        return answer

    @contextmanager
    def begun(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A process of the command that goes on meanwhile; ended with the block."""
        process = subprocess.Popen(
            [sys.executable, "-c", PYTHON_MAIN, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment(),
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(SECONDS_MAX)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    @contextmanager
    def engine(self) -> Iterator[subprocess.Popen[str]]:
        """An engine that is up on the home."""
        with self.begun("up", "--json") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["kind"] == "up"
            yield process
