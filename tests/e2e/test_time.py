"""Schedules on the deployed engine: bells in EventBridge Scheduler, the sweep of every minute, and instants that are each dealt with
once whoever comes first."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from shared.bootstrap import utc_now
from shared.codec import events_in
from shared.events import InstantsExcluded
from shared.ids import RunId, workflow_stream
from tests.e2e.deployed import Deployed, is_running
from tests.e2e.documents import container, script, steps, workflow

pytestmark = pytest.mark.slow


def runs_of(deployed: Deployed, name: str) -> list[RunId]:
    return [
        RunId(stream.removeprefix("run#"))
        for stream in deployed.parts.store.streams("run", after=f"run#{name}@", limit=1000)
        if stream.startswith(f"run#{name}@")
    ]


def test_a_one_off_instant_starts_its_run_when_the_bell_rings(deployed: Deployed) -> None:
    at = (utc_now() + timedelta(seconds=4)).replace(microsecond=0)
    deployed.register(workflow("once", container("a", "true"), schedule={"at": at.isoformat()}))
    bell = deployed.until(lambda: deployed.bell("once"), "the relay hangs the bell")
    assert bell["ScheduleExpression"] == f"at({at:%Y-%m-%dT%H:%M:%S})"
    deployed.until(lambda: runs_of(deployed, "once"), "the bell rings")
    (shown,) = deployed.ended(*runs_of(deployed, "once"))
    assert shown["status"] == "succeeded"
    assert datetime.fromisoformat(shown["scheduled_at"]) == at


def test_an_instant_that_is_past_starts_its_run_at_once(deployed: Deployed) -> None:
    at = (utc_now() - timedelta(hours=1)).replace(microsecond=0)
    deployed.register(workflow("past", container("a", "true"), schedule={"at": at.isoformat()}))
    deployed.until(lambda: runs_of(deployed, "past"))
    (shown,) = deployed.ended(*runs_of(deployed, "past"))
    assert datetime.fromisoformat(shown["scheduled_at"]) == at


def test_rings_and_sweeps_that_come_together_start_each_instant_once(deployed: Deployed) -> None:
    """Fault 37: the same instant told twice, and late."""
    rule = {"rate": "1 second", "catchup": "all"}
    deployed.register(workflow("often", container("a", "true"), schedule=rule))
    with ThreadPoolExecutor(6) as pool:
        for _ in range(4):
            list(pool.map(deployed.ring, ["often"] * 3))
            pool.submit(deployed.sweep)
    deployed.parts.control.pause("often", by="ann", reason="enough")  # type: ignore[arg-type]
    deployed.settled()
    runs = runs_of(deployed, "often")
    instants = [datetime.fromisoformat(shown["scheduled_at"]) for shown in deployed.ended(*runs)]
    assert len(instants) >= 2
    assert Counter(instants).most_common(1)[0][1] == 1
    assert max(instants) - min(instants) == timedelta(seconds=len(instants) - 1)


def test_bells_follow_the_document_and_go_with_the_workflow(deployed: Deployed) -> None:
    rule = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    document = workflow("nightly", container("a", "true"), schedule=rule)
    name = deployed.register(document)
    assert deployed.until(lambda: deployed.bell(name))["ScheduleExpressionTimezone"] == "Europe/Berlin"
    deployed.upload({**document, "schedule": {"cron": "30 3 * * *"}})
    deployed.until(lambda: (bell := deployed.bell(name)) and "30 3" in bell["ScheduleExpression"], "the bell is moved")
    deployed.parts.control.pause(name, by="ann")
    deployed.until(lambda: deployed.bell(name) is None, "a paused workflow has no bell")
    deployed.parts.control.resume(name, by="ann")
    deployed.until(lambda: deployed.bell(name), "it has one again")
    deployed.parts.control.unregister(name, by="ann")
    deployed.until(lambda: deployed.bell(name) is None, "an unregistered workflow has no bell")


def test_runs_that_may_not_overlap_follow_one_another(deployed: Deployed) -> None:
    """Fault 40."""
    name = deployed.register(workflow("one-by-one", container("a", "sleep 0.2"), overlap="queue"))
    runs = [deployed.ask(name) for _ in range(3)]
    ended = deployed.ended(*runs)
    spans = sorted((run["started_at"], run["finished_at"]) for run in ended)
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans


@pytest.mark.parametrize("kind", ["ecs", "emr", "ssm"])
def test_a_job_that_takes_too_long_is_stopped_by_the_next_sweep(deployed: Deployed, tmp_path: Path, kind: str) -> None:
    line = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    job = {
        "ecs": container("a", line),
        "emr": steps("a", line),
        "ssm": script("a", line, guards=tmp_path / "guards"),
    }[kind]
    limits = {"timeouts": {"run_minutes": 1 / 60}, "retry": {"attempts": 1}, "stop_grace_seconds": 1}
    run = deployed.run(workflow(f"too-slow-{kind}", {**job, **limits}))
    pid = deployed.written_pid(tmp_path / "pid")

    def swept() -> bool:
        deployed.sweep()
        state = deployed.state(run)
        return state is not None and state.finished

    deployed.until(swept, "it is stopped")
    (shown,) = deployed.ended(run)
    (attempt,) = shown["jobs"]["a"]["attempts"]
    assert (shown["status"], attempt["status"], attempt["failure_class"]) == ("failed", "timed_out", "timeout")
    deployed.until(lambda: not is_running(pid), "its process ends")


def test_days_off_by_a_shared_calendar_hold_until_the_calendar_changes(deployed: Deployed) -> None:
    """Every instant is excluded, with the calendar named; then none is, and runs begin as the jitter says."""
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    off = json.dumps({"calendar": "days-off", "days": days}).encode()
    deployed.upload(off, key="workflows/days-off.json")
    deployed.until(lambda: deployed.parts.loader.calendar("days-off").version, "the calendar is there")
    rule = {"rate": "1 second", "exclude": {"calendars": ["days-off"]}, "jitter_seconds": 1, "starts_per_minute": 1000}
    name = deployed.register(workflow("rests", container("a", "true"), schedule=rule))

    def excluded() -> list[InstantsExcluded]:
        records = deployed.parts.store.read(workflow_stream(name))
        return [one for record in records for one in events_in(record.body) if isinstance(one, InstantsExcluded)]

    def swept(is_so: Callable[[], object]) -> Callable[[], object]:
        def look() -> object:
            deployed.sweep()
            return is_so()

        return look

    deployed.until(swept(excluded), "an instant is excluded")
    assert {(one.calendar, one.calendar_version) for one in excluded()} == {("days-off", 1)}
    assert runs_of(deployed, "rests") == []
    deployed.upload(json.dumps({"calendar": "days-off", "days": []}).encode(), key="workflows/days-off.json")
    deployed.until(swept(lambda: runs_of(deployed, "rests")), "a run begins")
    deployed.parts.control.pause(name, by="ann", reason="enough")
    run = runs_of(deployed, "rests")[0]
    (shown,) = deployed.ended(run)
    assert shown["status"] == "succeeded"
    instants = {one.first_at for one in excluded()} | {one.last_at for one in excluded()}
    assert datetime.fromisoformat(shown["scheduled_at"]) not in instants
