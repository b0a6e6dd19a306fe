"""Runs that wait for other runs and for people, on the deployed engine."""

from pathlib import Path

import pytest

from shared.errors import NotAllowed
from shared.ids import JobName, RunId
from tests.e2e.deployed import Deployed, is_running
from tests.e2e.documents import container, noted, script, workflow

pytestmark = pytest.mark.slow


def test_a_run_of_another_workflow_and_a_decision_end_as_jobs(deployed: Deployed, tmp_path: Path) -> None:
    count = script("load", f"{noted(tmp_path)}; echo '{{\"rows\": 7}}' > $RUNFOLD_OUTPUTS", guards=tmp_path / "guards")
    deployed.register(workflow("inner", count))
    run = deployed.run(
        workflow(
            "outer",
            {"name": "call", "type": "workflow", "workflow": "inner", "outputs_from": "load"},
            {
                "name": "go",
                "type": "approval",
                "after": ["call"],
                "message": "Load {{ jobs.call.outputs.rows }} rows?",
                "by": ["ann"],
            },
            container("ship", noted(tmp_path), after=["go"]),
        )
    )
    asked = deployed.job_is(run, "go", "approval")
    assert asked["reason"] == "Load 7 rows?"
    with pytest.raises(NotAllowed):
        deployed.parts.control.decide(run, JobName("go"), "approved", by="eve", role="admin")
    deployed.parts.control.decide(run, JobName("go"), "approved", by="ann", role="viewer")
    (shown,) = deployed.ended(run)
    assert shown["status"] == "succeeded"
    (child,) = shown["children"]
    assert deployed.shown(RunId(child["run"]))["parent"] == {"run": run, "job": "call", "attempt": 1}
    assert (tmp_path / "load").read_text() == "1\n"
    assert (tmp_path / "ship").read_text() == "1\n"


def test_cancelling_a_run_ends_the_processes_of_its_children(deployed: Deployed, tmp_path: Path) -> None:
    """Invariant I12."""
    line = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    deployed.register(workflow("slow-inner", container("load", line, stop_grace_seconds=1)))
    run = deployed.run(workflow("slow-outer", {"name": "call", "type": "workflow", "workflow": "slow-inner"}))
    pid = deployed.written_pid(tmp_path / "pid")
    deployed.parts.control.cancel(run, by="ann", reason="wrong day")
    (shown,) = deployed.ended(run)
    assert shown["status"] == "cancelled"
    assert deployed.shown(RunId(shown["children"][0]["run"]))["status"] == "cancelled"
    deployed.until(lambda: not is_running(pid), "its process ends")
