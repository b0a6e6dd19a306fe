"""The functions as doorways: each translates, calls one use case, and answers for each record; together they run a workflow."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
import pytest

from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.relay.handler import make_handler as relay_handler
from functions.scheduler.handler import make_handler as scheduler_handler
from functions.status.handler import make_handler as status_handler
from shared.bootstrap import utc_now
from shared.effects import StartAttempt
from shared.errors import InvalidInput
from shared.ids import JobName, RunId, WorkflowName, run_stream
from shared.ports import Report, RunFilter
from shared.settings import Settings
from shared.state.run import Queued, Run
from shared.stores.schedules import schedule_name
from tests.functions.conftest import Deployed

NIGHTLY = WorkflowName("nightly")


@dataclass
class Context:
    function_name: str = "function"
    memory_limit_in_mb: int = 128
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function"
    aws_request_id: str = "request"


def document(**more: Any) -> bytes:
    jobs = [
        {"name": "extract", "type": "ecs", "image": "x", "command": ["extract"]},
        {"name": "load", "type": "ecs", "image": "x", "command": ["load"], "after": ["extract"]},
    ]
    return json.dumps({"name": "nightly", "jobs": jobs, **more}).encode()


def sqs_event(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {"messageId": str(number), "body": body, "eventSource": "aws:sqs", "attributes": {}}
            for number, body in enumerate(bodies)
        ]
    }


def uploaded(key: str) -> dict[str, Any]:
    return {"id": "1", "detail-type": "Object Created", "detail": {"object": {"key": key}, "requester": "ann"}}


def stream_event(*streams: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventSource": "aws:dynamodb",
                "dynamodb": {"SequenceNumber": str(number), "Keys": {"stream": {"S": stream}, "version": {"N": "1"}}},
            }
            for number, stream in enumerate(streams)
        ]
    }


def dispatch(deployed: Deployed) -> dict[str, Any]:
    """Everything on the queue, once."""
    handler = dispatch_handler(deployed.aws.work, deployed.aws.effects)
    return handler(sqs_event(*deployed.messages()), Context())


def state_of(deployed: Deployed, run: RunId) -> Run:
    return deployed.aws.loader.run(run)


def start_run(deployed: Deployed) -> RunId:
    deployed.aws.control.register(document(), name="nightly.json", by="ann")
    return deployed.aws.control.request_run(NIGHTLY, {}, by="ann").run


def report(deployed: Deployed, run: RunId, job: str, status: Any, **more: Any) -> Report:
    token = next(token for token, request in deployed.target.started.items() if request.job == job)
    request = deployed.target.started[token]
    return Report(token, run, request.job, request.attempt, status, **more)


def test_an_upload_becomes_a_workflow_with_a_bell(deployed: Deployed) -> None:
    s3: Any = boto3.client("s3")
    s3.put_object(Bucket="documents", Key="workflows/nightly.json", Body=document(schedule={"cron": "0 2 * * *"}))
    handler = register_handler(deployed.aws.uploads, deployed.aws.control)
    assert handler(uploaded("workflows/nightly.json"), Context()) == {"registered": "nightly", "version": 1}
    assert handler(uploaded("workflows/nightly.json"), Context()) == {"registered": "nightly", "version": 1}
    relay_handler(deployed.aws.reader, deployed.aws.settle)(stream_event("workflow#nightly"), Context())
    row = deployed.aws.views.get_workflow(NIGHTLY)
    assert row is not None
    assert row.live_version == 1
    scheduler: Any = boto3.client("scheduler")
    there = scheduler.get_schedule(GroupName="runfold", Name=schedule_name(NIGHTLY))
    assert there["ScheduleExpression"] == "cron(0 2 * * ? *)"


def test_a_bad_upload_changes_nothing_and_its_problems_are_kept(deployed: Deployed) -> None:
    """fault 52"""
    s3: Any = boto3.client("s3")
    handler = register_handler(deployed.aws.uploads, deployed.aws.control)
    s3.put_object(Bucket="documents", Key="workflows/nightly.json", Body=document())
    handler(uploaded("workflows/nightly.json"), Context())
    s3.put_object(Bucket="documents", Key="workflows/nightly.json", Body=document()[:-7])
    assert "rejected" in handler(uploaded("workflows/nightly.json"), Context())
    live = deployed.aws.loader.workflow(NIGHTLY).live
    assert live is not None
    assert live.number == 1


def test_an_object_that_is_gone_or_no_document_is_no_failure(deployed: Deployed) -> None:
    handler = register_handler(deployed.aws.uploads, deployed.aws.control)
    assert handler(uploaded("workflows/gone.json"), Context()) == {"removed": "workflows/gone.json"}
    assert handler(uploaded("workflows/readme.md"), Context()) == {"ignored": "workflows/readme.md"}


def test_a_run_goes_from_queue_to_target_to_report_to_the_next_job(deployed: Deployed) -> None:
    run = start_run(deployed)
    assert dispatch(deployed) == {"batchItemFailures": []}
    assert [request.job for request in deployed.target.started.values()] == ["extract"]
    handler = status_handler(
        lambda event: [report(deployed, run, event["job"], "succeeded", exit_code=0)],
        deployed.aws.work.record,
        deployed.aws.effects,
        side_by_side=deployed.aws.side_by_side,
    )
    # fault 32: the same event many times
    handler(sqs_event(*['{"job": "extract"}'] * 50), Context())
    dispatch(deployed)
    assert sorted(request.job for request in deployed.target.started.values()) == ["extract", "load"]
    handler(sqs_event('{"job": "load"}'), Context())
    assert state_of(deployed, run).outcome == "succeeded"
    relay_handler(deployed.aws.reader, deployed.aws.settle)(stream_event(run_stream(run)), Context())
    rows = deployed.aws.views.runs(RunFilter(status="succeeded")).rows
    assert [row.run for row in rows] == [run]


def test_the_same_effect_delivered_twice_starts_once(deployed: Deployed) -> None:
    """fault 14"""
    run = start_run(deployed)
    bodies = deployed.messages()
    handler = dispatch_handler(deployed.aws.work, deployed.aws.effects)
    handler(sqs_event(*bodies, *bodies), Context())
    handler(sqs_event(*bodies), Context())
    assert len(deployed.target.started) == 1
    assert state_of(deployed, run).active == 1


def test_a_message_that_is_not_ours_fails_alone(deployed: Deployed) -> None:
    """fault 45"""
    run = start_run(deployed)
    handler = dispatch_handler(deployed.aws.work, deployed.aws.effects)
    answer = handler(sqs_event("no effects at all", *deployed.messages()), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert len(deployed.target.started) == 1
    assert state_of(deployed, run).active == 1


def test_no_room_is_tried_again_without_burning_the_jobs_own_attempts(deployed: Deployed) -> None:
    """faults 5 and 15"""
    run = start_run(deployed)
    deployed.target.unavailable = 1
    dispatch(deployed)
    job = state_of(deployed, run).jobs[JobName("extract")]
    assert not job.attempts
    assert isinstance(job.phase, Queued)
    assert job.phase.not_before is not None
    assert deployed.delayed() == 1


def test_lost_effects_are_handed_over_again_by_the_sweep(deployed: Deployed) -> None:
    """fault 58: the function that committed died before it handed over"""
    run = start_run(deployed)
    assert len(deployed.messages()) == 1
    due = deployed.aws.dues.get(run_stream(run))
    assert due is not None
    later = Aws_at(deployed, due)
    assert later({}, Context())["looked_at"] >= 1
    dispatch(deployed)
    assert len(deployed.target.started) == 1


def Aws_at(deployed: Deployed, now: Any) -> Any:
    """The scheduler's handler, at that moment."""
    sweep = deployed.aws.sweep
    sweep._now = lambda: now
    return scheduler_handler(sweep, lambda: len(sweep.refused), deployed.aws.admission.tick)


def test_a_token_that_may_be_forgotten_is_not_used_again(deployed: Deployed) -> None:
    """fault 6: nobody answered for an hour, and the task may have come and gone meanwhile"""
    run = start_run(deployed)
    deployed.messages()
    deployed.target.token_seconds = 50 * 60.0
    effect = StartAttempt(run, JobName("extract"), 1)
    deployed.aws.dispatch._now = lambda: utc_now() + timedelta(minutes=51)
    assert deployed.aws.work([effect]) == []
    assert deployed.target.asked == 0
    assert state_of(deployed, run).doubted == 1


def test_a_token_that_is_old_still_finds_what_it_started(deployed: Deployed) -> None:
    """fault 6"""
    run = start_run(deployed)
    deployed.messages()
    effect = StartAttempt(run, JobName("extract"), 1)
    deployed.aws.dispatch.start(effect)
    deployed.target.token_seconds = 50 * 60.0
    deployed.aws.dispatch._now = lambda: utc_now() + timedelta(minutes=51)
    assert deployed.aws.work([effect]) == []
    assert deployed.target.asked == 1
    assert state_of(deployed, run).jobs[JobName("extract")].status == "running"


def test_a_ring_for_a_workflow_deals_with_its_due_instants_and_with_no_others(deployed: Deployed) -> None:
    """fault 37: early, twice, or for a workflow that is gone"""
    deployed.aws.control.register(document(schedule={"rate": "1 hour"}), name="nightly.json", by="ann")
    handler = scheduler_handler(deployed.aws.sweep, lambda: 0, deployed.aws.admission.tick)
    for workflow in ("nightly", "nightly", "gone"):
        assert handler({"workflow": workflow, "scheduled_at": "2026-11-22T02:00:00Z"}, Context()) == {
            "ticked": workflow
        }
    assert not deployed.aws.loader.workflow(NIGHTLY).holders


def test_a_stream_that_cannot_be_folded_does_not_hold_up_the_others(deployed: Deployed) -> None:
    """faults 45 and 48"""
    run = start_run(deployed)
    dynamodb: Any = boto3.client("dynamodb")
    dynamodb.put_item(
        TableName="events",
        Item={
            "stream": {"S": "run#broken@1"},
            "version": {"N": "1"},
            "commit_id": {"S": "x"},
            "at": {"S": "2026-11-22T12:00:00.000000Z"},
            "by": {"S": "x"},
            "cause": {"S": "x"},
            "previous_hash": {"S": "0" * 64},
            "hash": {"S": "0" * 64},
            "events": {"S": "[]"},
            "body": {"S": "[]"},
        },
    )
    relay = relay_handler(deployed.aws.reader, deployed.aws.settle)
    answer = relay(stream_event("run#broken@1", run_stream(run)), Context())
    assert run in [row.run for row in deployed.aws.views.runs()[0]]
    assert len(answer["batchItemFailures"]) <= 1


def test_settings_that_are_missing_are_all_named_at_once() -> None:
    with pytest.raises(InvalidInput) as raised:
        Settings.read({"RUNFOLD_STAGE": "dev"})
    assert {problem.path for problem in raised.value.problems} == {
        "RUNFOLD_EVENTS_TABLE",
        "RUNFOLD_VIEWS_TABLE",
        "RUNFOLD_DOCUMENTS_BUCKET",
        "RUNFOLD_ARTIFACTS_BUCKET",
        "RUNFOLD_EFFECTS_QUEUE_URL",
    }


def test_settings_come_back_from_the_environment_they_give(deployed: Deployed) -> None:
    assert Settings.read(deployed.aws.settings.environment()) == deployed.aws.settings


@pytest.mark.parametrize(
    ("limits", "timed"),
    [
        ({}, None),
        ({"queue_minutes": 5, "total_minutes": 9}, None),
        ({"run_minutes": 5}, True),
        ({"start_minutes": 1}, True),
    ],
)
def test_a_container_is_to_tell_that_it_runs_when_a_limit_counts_from_it(
    deployed: Deployed, limits: dict[str, int], timed: bool | None
) -> None:
    deployed.aws.control.register(document(defaults={"timeouts": limits}), name="nightly.json", by="ann")
    deployed.aws.control.request_run(NIGHTLY, {}, by="ann")
    dispatch(deployed)
    (request,) = deployed.target.started.values()
    assert request.body.get("timed") is timed
