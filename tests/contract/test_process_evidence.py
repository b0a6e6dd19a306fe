"""What a directory of evidence proves, and what it does not: half a line, an end before its stop, a number that somebody else has now."""

import os
import subprocess
from pathlib import Path

import pytest

from shared.executors.process import evidence, system
from tests.contract.test_executor_process import World, world

__all__ = ["world"]


@pytest.mark.parametrize(("text", "code"), [("1", None), ("13", None), ("137", None), ("137\n", 137), ("", None)])
def test_an_exit_code_is_read_when_all_of_it_is_there(tmp_path: Path, text: str, code: int | None) -> None:
    (tmp_path / "exit").write_text(text)
    end = evidence.end_of(str(tmp_path))
    assert (end.code if end is not None else None) == code


@pytest.mark.parametrize(("stopped_after", "status"), [(5.0, "failed"), (-5.0, "cancelled")])
def test_what_ended_before_its_stop_was_asked_for_was_not_cancelled(
    world: World, stopped_after: float, status: str
) -> None:
    """Fault 56, I10."""
    request = world.shell("true")
    directory = world.directory(request)
    directory.mkdir(parents=True)
    for name, text in (("pid", "1\n"), ("job", "1/0 1\n"), ("exit", "3\n"), ("stop", "30\n")):
        (directory / name).write_text(text)
    ended_at = (directory / "exit").stat().st_mtime
    os.utime(directory / "stop", (ended_at + stopped_after, ended_at + stopped_after))
    report = world.look(request)
    assert (report.status, report.exit_code) == (status, 3)


def test_the_wrapper_of_another_attempt_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Numbers come back: the next process that gets one may well be another wrapper."""
    ours, others = str(tmp_path / "ours"), str(tmp_path / "others")
    words = ["/bin/sh", "-c", "echo begun; read -r line", "wrapper.sh", "-g", others]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"begun\n"
        assert system.is_wrapper_of(other.pid, others)
        assert not system.is_wrapper_of(other.pid, ours)
        other.communicate(b"\n")
