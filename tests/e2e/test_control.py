"""What people ask of the deployed engine: the same request twice, cancel, rerun, mark."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from shared.errors import Rejected
from shared.ids import JobName
from tests.e2e.deployed import Deployed, is_running
from tests.e2e.documents import container, noted, script, steps, workflow

pytestmark = pytest.mark.slow


def test_the_same_request_twice_is_one_run(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 56: a double click."""
    name = deployed.register(workflow("twice", container("a", noted(tmp_path))))
    with ThreadPoolExecutor(4) as pool:
        asked = set(pool.map(lambda _: deployed.ask(name, key="order-1"), range(4)))
    assert len(asked) == 1
    deployed.ended(*asked)
    assert (tmp_path / "a").read_text() == "1\n"


@pytest.mark.parametrize("kind", ["ecs", "emr", "ssm"])
def test_a_cancelled_run_ends_its_processes(deployed: Deployed, tmp_path: Path, kind: str) -> None:
    """Invariant I12: confirmed by the target, not only asked for."""
    line = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    job = {
        "ecs": container("a", line),
        "emr": steps("a", line),
        "ssm": script("a", line, guards=tmp_path / "guards"),
    }[kind]
    run = deployed.run(
        workflow(f"cancelled-{kind}", {**job, "stop_grace_seconds": 1}, container("b", "true", after=["a"]))
    )
    pid = deployed.written_pid(tmp_path / "pid")
    deployed.parts.control.cancel(run, by="ann", reason="wrong day")
    (shown,) = deployed.ended(run)
    assert shown["status"] == "cancelled"
    assert shown["jobs"]["a"]["status"] == "cancelled"
    assert shown["jobs"]["b"]["attempts"] == []
    deployed.until(lambda: not is_running(pid), "its process ends")


def test_a_failed_run_is_rerun_from_where_it_failed(deployed: Deployed, tmp_path: Path) -> None:
    """Invariant I14: what succeeded is not repeated."""
    fails_once = f"{noted(tmp_path)}; test -e {tmp_path}/mended"
    document = workflow(
        "mended",
        container("a", noted(tmp_path)),
        container("b", fails_once, after=["a"]),
        container("c", noted(tmp_path), after=["b"]),
    )
    run = deployed.run(document)
    (shown,) = deployed.ended(run)
    assert shown["status"] == "failed"
    (tmp_path / "mended").touch()
    deployed.parts.control.rerun(run, by="ann", request="once")
    deployed.until(lambda: deployed.shown(run)["round"] == 2)
    (shown,) = deployed.ended(run)
    assert shown["status"] == "succeeded"
    assert [(tmp_path / job).read_text().split() for job in "abc"] == [["1"], ["1", "2"], ["1"]]


def test_a_job_that_a_person_marks_lets_the_run_go_on(deployed: Deployed) -> None:
    run = deployed.run(workflow("marked", container("a", "exit 1"), container("b", "true", after=["a"])))
    deployed.ended(run)
    deployed.parts.control.mark(run, JobName("a"), "succeeded", by="ann", reason="done by hand")
    deployed.parts.control.rerun(run, by="ann")
    deployed.until(lambda: deployed.shown(run)["jobs"]["b"]["status"] == "succeeded")
    (shown,) = deployed.ended(run)
    assert shown["jobs"]["a"]["marked_by"] == "ann"


def test_a_cancel_that_meets_the_end_leaves_one_of_the_two(deployed: Deployed) -> None:
    """Fault 56: cancel races with success."""
    name = deployed.register(workflow("race", container("a", "true")))
    runs = [deployed.ask(name) for _ in range(6)]
    for run in runs:
        deployed.job_is(run, "a", "queued", "submitted", "running", "succeeded")
        with suppress(Rejected):
            deployed.parts.control.cancel(run, by="ann")
    assert {shown["status"] for shown in deployed.ended(*runs)} <= {"succeeded", "cancelled"}
