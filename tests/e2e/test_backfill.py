"""A backfill on the deployed engine: asked for, carried by queue and stream, paused, and over; and what a killed dispatcher does to it."""

from datetime import timedelta
from pathlib import Path

import pytest

from shared.bootstrap import utc_now
from shared.ids import BackfillId, WorkflowName, backfill_stream, scheduled_run
from shared.state.backfill import BackfillState
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, noted, workflow

pytestmark = pytest.mark.slow


def asked(deployed: Deployed, name: str, hours: int, *, max_active: int, which: str = "missing") -> BackfillId:
    """A backfill of the last so many hours."""
    now = utc_now()
    since = (now - timedelta(hours=hours)).replace(minute=30).isoformat()
    return deployed.parts.control.request_backfill(
        WorkflowName(name),
        since,
        now.isoformat(),
        by="ann",
        max_active=max_active,
        which=which,  # type: ignore[arg-type]
        now=now,
    ).backfill


def state_of(deployed: Deployed, backfill: BackfillId) -> BackfillState:
    state = deployed.parts.loader.load(backfill_stream(backfill)).state
    assert isinstance(state, BackfillState)
    return state


def hourly(name: str, tmp_path: Path) -> dict[str, object]:
    # Paused below, so that nothing but the backfill starts anything.
    return workflow(name, container("a", noted(tmp_path)), schedule={"cron": "0 * * * *"}, overlap="skip")


def test_a_backfill_runs_each_hour_once_while_its_workflow_is_paused(deployed: Deployed, tmp_path: Path) -> None:
    name = deployed.register(hourly("hourly", tmp_path))
    deployed.parts.control.pause(name, by="ann", reason="only the past")
    backfill = asked(deployed, "hourly", 5, max_active=2)
    count = state_of(deployed, backfill).request.count
    deployed.until(lambda: state_of(deployed, backfill).outcome, "the backfill ends")
    state = state_of(deployed, backfill)
    assert (state.outcome, state.succeeded, len(state.instants)) == ("succeeded", count, count)
    runs = [scheduled_run(name, at) for at in sorted(state.instants)]
    assert {shown["trigger"] for shown in deployed.ended(*runs)} == {"backfill"}
    assert len((tmp_path / "a").read_text().splitlines()) == count
    row = deployed.until(
        lambda: next((row for row in deployed.parts.views.backfills(name)[0] if row.finished_at is not None), None),
        "the list shows its end",
    )
    assert (row.backfill, row.status, row.succeeded) == (backfill, "succeeded", count)


def test_a_backfill_is_paused_goes_on_and_runs_again_what_is_asked_for(deployed: Deployed, tmp_path: Path) -> None:
    name = deployed.register(hourly("again", tmp_path))
    deployed.parts.control.pause(name, by="ann", reason="only the past")
    first = asked(deployed, "again", 3, max_active=3)
    deployed.parts.control.pause_backfill(first, by="ann", reason="lunch")
    deployed.settled()
    assert state_of(deployed, first).status in ("paused", "succeeded")
    if state_of(deployed, first).outcome is None:
        deployed.parts.control.resume_backfill(first, by="ann")
    deployed.until(lambda: state_of(deployed, first).outcome, "the first ends")
    second = asked(deployed, "again", 3, max_active=1, which="all")
    deployed.until(lambda: state_of(deployed, second).outcome, "the second ends")
    instants = state_of(deployed, second).instants
    assert all(one.run is not None and one.run.endswith(".2") for one in instants.values())
    assert len((tmp_path / "a").read_text().splitlines()) == 2 * len(instants)
