"""Runs that wait for others, on the deployed engine: begun by the end of what they wait for, which the table's stream tells."""

from datetime import timedelta

import pytest

from shared.bootstrap import utc_now
from shared.events import WaitMet
from shared.ids import RunId, WorkflowName, scheduled_run
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, workflow

pytestmark = pytest.mark.slow


def test_a_report_begins_when_the_ingest_of_the_same_instant_has_ended(deployed: Deployed) -> None:
    """Without a sweep: the relay wakes it."""
    at = (utc_now() - timedelta(hours=1)).replace(microsecond=0)
    bucket = deployed.settings.artifacts_bucket
    deployed.client("s3").put_object(Bucket=bucket, Key=f"in/{at:%Y}.csv", Body=b"1,2")
    rule = {"at": at.isoformat()}
    file = {"file": f"s3://{bucket}/in/{{{{ scheduled_at | date('%Y') }}}}.csv", "timeout_minutes": 5}
    deployed.register(workflow("ingest", container("fetch", "sleep 2"), container("tidy", "sleep 1"), schedule=rule))
    report = workflow(
        "report",
        container("early", "true", waits_for=[{"workflow": "ingest", "job": "tidy"}]),
        container("publish", "true", waits_for=[{"workflow": "ingest"}]),
        waits_for=[file],
        schedule=rule,
    )
    deployed.register(report)
    runs = [scheduled_run(WorkflowName(name), at) for name in ("ingest", "report")]
    ingest, published = deployed.ended(*runs)
    assert (ingest["status"], published["status"]) == ("succeeded", "succeeded")
    assert published["jobs"]["publish"]["attempts"][0]["queued_at"] >= ingest["finished_at"]
    met = [event for event in deployed.events(RunId(published["run"])) if isinstance(event, WaitMet)]
    assert [event.outcome for event in met if event.job == "publish"] == ["succeeded"]
    assert deployed.violations() == []


def test_what_can_never_be_waited_for_is_said_when_it_is_uploaded(deployed: Deployed) -> None:
    document = workflow(
        "lonely", container("a", "true", waits_for=[{"workflow": "nobody"}]), schedule={"cron": "0 2 * * *"}
    )
    key = deployed.upload(document)
    deployed.until(lambda: deployed.uploaded(key).problems, "it is refused")
    (problem,) = deployed.uploaded(key).problems
    assert "jobs[0].waits_for[0].workflow: there is no workflow `nobody`" in problem
    assert deployed.workflow("lonely") is None
