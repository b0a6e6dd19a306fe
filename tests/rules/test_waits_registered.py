"""Waits that can never be met are said when a document is registered, every one at once, each with its place."""

import json
from datetime import datetime
from typing import Any

import pytest

from shared.errors import InvalidInput, Problem
from shared.usecases.documents import read_document
from shared.usecases.waitable import check_waitable
from shared.workflow.document import Workflow
from shared.workflow.reading import canonical, load
from tests.rules.sentences import NOON

DAILY = {"cron": "0 2 * * *", "timezone": "Europe/Berlin"}
HOURLY = {"cron": "0 * * * *"}


def job(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ssm", "host": "h", "commands": ["true"], **fields}


def workflow(name: str, *jobs: dict[str, Any], schedule: Any = DAILY, **fields: Any) -> Workflow:
    return Workflow.model_validate({"name": name, "schedule": schedule, "jobs": list(jobs) or [job("load")], **fields})


def waiting(*waits: dict[str, Any], schedule: Any = DAILY, jobs: Any = (), **fields: Any) -> Workflow:
    return workflow("report", *jobs, schedule=schedule, waits_for=list(waits) or None, **fields)


def problems(document: Workflow, *others: Workflow, files: str = "/", now: datetime = NOON) -> list[Problem]:
    known = {one.name: one for one in others}
    return list(check_waitable(document, known.get, now, files=files, nearest=lambda _: ""))


def said(document: Workflow, *others: Workflow, **more: Any) -> list[tuple[str, str]]:
    return [(one.path, one.message) for one in problems(document, *others, **more)]


INGEST = workflow("ingest", job("fetch"), job("load", after=["fetch"]))


@pytest.mark.parametrize(
    "wait",
    [
        {"workflow": "ingest"},
        {"workflow": "ingest", "job": "fetch"},
        {"workflow": "ingest", "lag": "1 day"},
        {"workflow": "ingest", "lag": "1 week"},
        {"workflow": "ingest", "lag_instants": 3},
        {"workflow": "ingest", "latest_within_minutes": 60},
        {"workflow": "report", "lag_instants": 1},
        {"workflow": "report", "lag": "1 day"},
        {"file": "/in/{{ scheduled_at | date('%Y') }}.csv", "timeout_minutes": 5},
    ],
)
def test_what_can_be_met_is_taken(wait: dict[str, Any]) -> None:
    assert said(waiting(wait), INGEST) == []


def test_every_problem_is_said_at_once_with_its_place() -> None:
    document = waiting(
        {"workflow": "ingets"},
        {"workflow": "ingest", "job": "lod"},
        jobs=(job("load", waits_for=[{"workflow": "ingest", "lag_minutes": 30}]), job("mend")),
    )
    assert said(document, INGEST) == [
        ("waits_for[0].workflow", "there is no workflow `ingets`"),
        ("waits_for[1].job", "`ingest` has no job `lod`"),
        ("jobs[0].waits_for[0]", "`ingest` is never scheduled at the instant that is waited for"),
    ]


def test_a_schedule_that_has_the_instant_only_now_and_then_is_taken() -> None:
    weekly = workflow("ingest", schedule={"cron": "0 2 * * MON", "timezone": "Europe/Berlin"})
    assert said(waiting({"workflow": "ingest"}), weekly) == []


@pytest.mark.parametrize("schedule", [{"cron": "30 2 * * *"}, {"at": "2020-01-01T00:00:00Z"}, {"rate": "7 minutes"}])
def test_a_schedule_that_never_has_the_instant_is_said(schedule: Any) -> None:
    other = workflow("ingest", schedule=schedule)
    at = {"cron": "15 5 31 2 *"} if "rate" in schedule else {"cron": "0 2 * * *"}
    document = waiting({"workflow": "ingest"}, schedule=at)
    found = said(document, other)
    assert [place for place, _ in found] == ([] if "rate" in schedule else ["waits_for[0]"])


def test_who_has_no_schedule_waits_for_no_instant_and_is_waited_for_at_none() -> None:
    assert said(waiting({"workflow": "ingest"}, schedule=None), INGEST) == [
        ("waits_for[0]", "this workflow has no schedule, so its runs are of no instant")
    ]
    assert said(waiting({"workflow": "ingest"}), workflow("ingest", schedule=None)) == [
        ("waits_for[0].workflow", "`ingest` has no schedule, so no run of it has an instant")
    ]


def test_a_file_that_the_engine_cannot_look_for_is_said() -> None:
    wait = {"file": "s3://landing/sales.csv", "timeout_minutes": 5}
    assert [place for place, _ in said(waiting(wait), files="/")] == ["waits_for[0].file"]
    assert said(waiting(wait), files="s3://") == []


# --- cycles -----------------------------------------------------------------------------------------------------------


def test_two_that_wait_for_each_other_at_the_same_instant_are_said() -> None:
    other = workflow("ingest", waits_for=[{"workflow": "report"}])
    (problem,) = problems(waiting({"workflow": "ingest"}), other)
    assert problem.path == "waits_for[0]"
    assert "report.load -> ingest" in problem.message


def test_a_cycle_of_three_is_said_with_its_way() -> None:
    rates = workflow("rates", waits_for=[{"workflow": "report"}])
    ingest = workflow("ingest", job("load", waits_for=[{"workflow": "rates"}]))
    (problem,) = problems(waiting({"workflow": "ingest"}), ingest, rates)
    assert problem.message.count("->") == 3


def test_with_a_lag_they_may_wait_for_each_other() -> None:
    other = workflow("ingest", waits_for=[{"workflow": "report", "lag_instants": 1}])
    assert said(waiting({"workflow": "ingest"}), other) == []


def test_jobs_may_wait_for_jobs_in_both_directions_as_long_as_none_waits_for_itself() -> None:
    ingest = workflow("ingest", job("fetch"), job("load", waits_for=[{"workflow": "report", "job": "prepare"}]))
    apart = workflow("report", job("prepare"), job("publish", waits_for=[{"workflow": "ingest", "job": "load"}]))
    assert said(apart, ingest) == []
    knot = workflow("report", job("prepare", waits_for=[{"workflow": "ingest", "job": "load"}]), job("publish"))
    assert [place for place, _ in said(knot, ingest)] == ["jobs[0].waits_for[0]"]
    after = workflow(
        "report", job("first", waits_for=[{"workflow": "ingest"}]), job("prepare", after=["first"]), job("publish")
    )
    assert [place for place, _ in said(after, ingest)] == ["jobs[0].waits_for[0]"]


def test_a_cycle_of_others_is_no_fault_of_who_waits_for_them() -> None:
    ingest = workflow("ingest", waits_for=[{"workflow": "rates"}])
    rates = workflow("rates", waits_for=[{"workflow": "ingest"}])
    assert said(waiting({"workflow": "ingest"}), ingest, rates) == []


# --- by themselves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "place", "message"),
    [
        ({}, "waits_for[0]", "has neither"),
        ({"workflow": "a", "file": "/b", "timeout_minutes": 1}, "waits_for[0]", "has both"),
        ({"workflow": "report"}, "waits_for[0]", "is this very run"),
        ({"workflow": "report", "lag_minutes": 0}, "waits_for[0].lag_minutes", "is this very run"),
        ({"workflow": "report", "latest_within_minutes": 5}, "waits_for[0]", "a success of its own"),
        ({"workflow": "a", "lag": "1 day", "lag_instants": 1}, "waits_for[0]", "several lags"),
        ({"workflow": "a", "lag": "a day"}, "waits_for[0].lag", "is not a period"),
        ({"workflow": "a", "lag": "1 day", "latest_within_minutes": 5}, "waits_for[0].lag", "takes any"),
        ({"workflow": "a", "job": "b", "latest_within_minutes": 5}, "waits_for[0].job", "a whole run"),
        ({"workflow": "a", "on_failure": "wait"}, "waits_for[0].timeout_minutes", "is missing"),
        ({"workflow": "a", "on_timeout": "go_on"}, "waits_for[0].on_timeout", "no `timeout_minutes`"),
        ({"file": "/b"}, "waits_for[0].timeout_minutes", "is missing"),
        ({"file": "b", "timeout_minutes": 1}, "waits_for[0].file", "neither an absolute path nor"),
        ({"file": "/b", "timeout_minutes": 1, "job": "c"}, "waits_for[0].job", "is for waiting for a workflow"),
        ({"file": "/{{ job }}", "timeout_minutes": 1}, "waits_for[0].file", "job"),
    ],
)
def test_what_is_wrong_with_a_wait_by_itself_is_said(wait: dict[str, Any], place: str, message: str) -> None:
    text = {"name": "report", "schedule": DAILY, "jobs": [job("load")], "waits_for": [wait]}
    with pytest.raises(InvalidInput) as invalid:
        read_document(json.dumps(text).encode(), name="a.json")
    assert [(one.path, message in one.message) for one in invalid.value.problems] == [(place, True)]


def test_the_same_wait_twice_is_said() -> None:
    text = {"name": "r", "jobs": [job("load", waits_for=[{"workflow": "a"}, {"workflow": "a"}])]}
    with pytest.raises(InvalidInput, match=r"jobs\[0\].waits_for\[1\]: is the same as"):
        read_document(json.dumps(text).encode(), name="a.json")


def test_a_document_that_waits_for_nothing_is_stored_as_it_was_before_there_were_waits() -> None:
    document = workflow("report")
    assert b"waits_for" not in canonical(document)
    assert load(canonical(waiting({"workflow": "ingest"}))) == waiting({"workflow": "ingest"})
