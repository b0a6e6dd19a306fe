"""Live runs are looked at in a rhythm, so most commits need no due row of their own; none may be looked at too late for it."""

from datetime import datetime, timedelta

import pytest

from shared.bootstrap.aws import RHYTHM, Aws
from shared.bootstrap.origins import utc_now
from shared.effects import HANDOVER_SECONDS
from shared.ids import run_stream, workflow_stream
from shared.ports import Record
from shared.usecases.sweep import Sweep
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import NIGHTLY, dispatch, document, report, start_run


def sweep_at(deployed: Deployed, now: datetime) -> int:
    aws = deployed.aws
    return Sweep(aws.transact, aws.dues, aws.effects, aws.settle_again, now=lambda: now, rhythm=RHYTHM)()


def test_a_runs_jobs_write_no_due_rows_after_its_first(deployed: Deployed) -> None:
    run = start_run(deployed)
    first = deployed.aws.dues.get(run_stream(run))
    assert first is not None
    assert RHYTHM.every is not None
    assert first <= utc_now() + RHYTHM.every
    dispatch(deployed)
    assert deployed.aws.work.record([report(deployed, run, "extract", "succeeded")]) == []
    dispatch(deployed)
    assert deployed.target.asked == 2
    assert deployed.aws.dues.get(run_stream(run)) == first


def test_a_start_that_was_lost_is_handed_over_at_the_next_look(deployed: Deployed) -> None:
    """fault 58: killed between the commit and the hand-over, and nobody delivers the request again"""
    run = start_run(deployed)
    deployed.messages()
    row = deployed.aws.dues.get(run_stream(run))
    assert row is not None
    sweep_at(deployed, row - timedelta(seconds=1))
    dispatch(deployed)
    assert deployed.target.asked == 0
    sweep_at(deployed, row)
    dispatch(deployed)
    assert deployed.target.asked == 1


def test_a_container_that_tells_nothing_is_asked_at_the_next_look(deployed: Deployed) -> None:
    """fault 34"""
    run = start_run(deployed)
    dispatch(deployed)
    row = deployed.aws.dues.get(run_stream(run))
    assert row is not None
    sweep_at(deployed, row)
    assert any("ObserveAttempt" in message for message in deployed.messages())
    moved = deployed.aws.dues.get(run_stream(run))
    assert RHYTHM.every is not None
    assert moved == row + RHYTHM.every


@pytest.mark.parametrize("skew", [-RHYTHM.skew, timedelta(0), RHYTHM.skew])
def test_a_need_without_a_row_is_never_earlier_than_any_row_a_sweep_may_leave(skew: timedelta) -> None:
    """fault 59: the sweep's clock is ahead or behind"""
    now = utc_now()
    assert RHYTHM.every is not None
    latest_row = now + skew + RHYTHM.every
    assert latest_row <= now + RHYTHM.patience
    assert RHYTHM.covers(now + RHYTHM.patience, now)
    assert not RHYTHM.covers(now + RHYTHM.patience - timedelta(seconds=1), now)
    assert RHYTHM.covers(now + timedelta(seconds=HANDOVER_SECONDS) + RHYTHM.patience, now)


def test_a_sweep_that_saw_the_row_and_not_the_commit_removes_nothing(deployed: Deployed) -> None:  # fault 59
    """Its clock is ahead, so it looks at once at what was to be looked at in a minute, and takes its time to remove the row."""
    aws = deployed.aws
    aws.control.register(document(), name="nightly.json", by="ann")
    stream = workflow_stream(NIGHTLY)
    ahead = utc_now() + timedelta(minutes=2)
    sweep = Sweep(Aws(aws.settings).transact, aws.dues, aws.effects, aws.settle_again, now=lambda: ahead, rhythm=RHYTHM)
    sweep()
    assert aws.dues.get(stream) is None
    looked = []
    append = aws.store.append

    def meanwhile(record: Record) -> None:
        (row,) = aws.dues.due(ahead)
        looked.append(sweep._look_at(row, ahead))
        append(record)

    aws.store.append = meanwhile  # type: ignore[method-assign]
    aws.control.pause(NIGHTLY, by="bob")
    (found,) = looked
    assert found.loaded.version == 1
    sweep._move(found, ahead)
    assert aws.dues.get(stream) is not None
