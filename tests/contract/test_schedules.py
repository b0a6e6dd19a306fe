"""Bells in EventBridge Scheduler, on moto: they say what the document says, and go when it goes."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from shared.ids import WorkflowName
from shared.stores.schedules import NAME_LENGTH_MAX, SchedulerBells, bell_of, schedule_name
from shared.workflow.timing import Schedule

NIGHTLY = WorkflowName("nightly")
TARGET = "arn:aws:lambda:us-east-1:123456789012:function:scheduler"
ROLE = "arn:aws:iam::123456789012:role/scheduler"


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("scheduler", region_name="us-east-1")
        client.create_schedule_group(Name="runfold")
        yield client


@pytest.fixture
def bells(client: Any) -> SchedulerBells:
    return SchedulerBells(client, group="runfold", target=TARGET, role=ROLE)


def names(client: Any) -> list[str]:
    return [one["Name"] for one in client.list_schedules(GroupName="runfold")["Schedules"]]


@pytest.mark.parametrize(
    ("written", "expression"),
    [
        ({"cron": "0 2 * * *"}, "cron(0 2 * * ? *)"),
        ({"cron": "*/15 8-10 * * MON-FRI"}, "cron(0,15,30,45 8,9,10 ? * 2,3,4,5,6 *)"),
        ({"cron": "30 4 1,15 * *"}, "cron(30 4 1,15 * ? *)"),
        ({"cron": "0 0 * JAN 0"}, "cron(0 0 ? 1 1 *)"),
        ({"cron": "cron(0 12 L * ? *)"}, "cron(0 12 L * ? *)"),
        ({"at": "2026-12-24T18:00:00", "timezone": "Europe/Berlin"}, "at(2026-12-24T18:00:00)"),
        ({"at": "2026-12-24T17:00:00Z", "timezone": "Europe/Berlin"}, "at(2026-12-24T18:00:00)"),
    ],
)
def test_a_schedule_rings_at_the_instants_of_the_document(written: dict[str, Any], expression: str) -> None:
    bell = bell_of(Schedule(**written))
    assert bell is not None
    assert bell.expression == expression


@pytest.mark.parametrize(
    "written",
    [
        {"cron": "0 0 13 * FRI"},
        {"rate": "5 minutes"},
        {"interval": {"every": "1440 minutes", "anchor": "2026-01-01T00:00:00Z"}},
    ],
)
def test_what_eventbridge_cannot_say_is_left_to_the_sweep(written: dict[str, Any]) -> None:
    assert bell_of(Schedule(**written)) is None


def test_a_bell_is_made_changed_and_taken_away(client: Any, bells: SchedulerBells) -> None:
    bells.reconcile(NIGHTLY, Schedule(cron="0 2 * * *", timezone="Europe/Berlin"))
    bells.reconcile(NIGHTLY, Schedule(cron="0 3 * * *", timezone="Europe/Berlin"))
    there = client.get_schedule(GroupName="runfold", Name=schedule_name(NIGHTLY))
    assert there["ScheduleExpression"] == "cron(0 3 * * ? *)"
    assert there["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert there["Target"]["Arn"] == TARGET
    assert json.loads(there["Target"]["Input"])["workflow"] == NIGHTLY
    bells.reconcile(NIGHTLY, None)
    assert names(client) == []


def test_reconciling_again_changes_nothing(client: Any, bells: SchedulerBells) -> None:
    for _ in range(2):
        bells.reconcile(NIGHTLY, Schedule(cron="0 2 * * *"))
    assert names(client) == [schedule_name(NIGHTLY)]
    for _ in range(2):
        bells.reconcile(NIGHTLY, None)
    assert names(client) == []


def test_names_are_distinct_and_fit() -> None:
    long = WorkflowName("w" * 64)
    assert len(schedule_name(long)) <= NAME_LENGTH_MAX
    assert schedule_name(WorkflowName("Nightly")).lower() != schedule_name(WorkflowName("nightly")).lower()
