"""The table's stream when it misbehaves: delivered twice, in the wrong order, with a record that nobody can read, or silent for a day.

And the events table when it does: a write that is throttled is made by whoever gets the message next.
"""

from datetime import timedelta
from typing import Any

import pytest

from functions.relay.handler import make_handler as relay_handler
from shared.bootstrap.aws import RHYTHM
from shared.bootstrap.origins import utc_now
from shared.effects import Effect, StartAttempt
from shared.errors import StoreUnavailable
from shared.ids import JobName, RunId, run_stream
from shared.ports import Record
from shared.usecases.sweep import Sweep
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import Context, dispatch, report, start_run, state_of

EXTRACT = JobName("extract")
POISON: dict[str, Any] = {"eventSource": "aws:dynamodb", "dynamodb": {"SequenceNumber": "0", "Keys": {}}}


def shown(record: Record, number: int) -> dict[str, Any]:
    """A record of the stream as Lambda is given it."""
    keys = {"stream": {"S": record.stream}, "version": {"N": str(record.version)}}
    image = {"version": {"N": str(record.version)}, "body": {"S": record.body}}
    return {
        "eventSource": "aws:dynamodb",
        "dynamodb": {"SequenceNumber": str(number), "Keys": keys, "NewImage": image},
    }


def told_of(deployed: Deployed, run: RunId) -> list[dict[str, Any]]:
    """Everything that the stream has of a run."""
    records = deployed.aws.store.read(run_stream(run))
    return [shown(record, number) for number, record in enumerate(records, 1)]


def finished(deployed: Deployed) -> RunId:
    """A run that went to its end, and of which the stream has told nobody."""
    run = start_run(deployed)
    work_to_the_end(deployed, run)
    return run


def work_to_the_end(deployed: Deployed, run: RunId) -> None:
    for job in ("extract", "load"):
        dispatch(deployed)
        assert deployed.aws.work.record([report(deployed, run, job, "succeeded", exit_code=0)]) == []
    assert state_of(deployed, run).outcome == "succeeded"


def test_a_batch_that_is_delivered_twice_or_after_a_newer_one_changes_nothing(deployed: Deployed) -> None:
    """fault 45"""
    run = start_run(deployed)
    early = told_of(deployed, run)
    work_to_the_end(deployed, run)
    relay = relay_handler(deployed.aws.reader, deployed.aws.settle)
    whole = told_of(deployed, run)
    assert relay({"Records": whole}, Context()) == {"batchItemFailures": []}
    row = deployed.aws.views.get_run(run)
    assert row is not None
    assert row.status == "succeeded"
    for again in (whole, early, whole[::-1], whole + whole):
        # Another sandbox: it knows nothing of what was told before.
        relay = relay_handler(deployed.aws.reader, deployed.aws.settle)
        assert relay({"Records": again}, Context()) == {"batchItemFailures": []}
        assert deployed.aws.views.get_run(run) == row


@pytest.mark.parametrize("place", [0, 1, 99])
def test_a_record_that_nobody_can_read_fails_alone_wherever_it_stands(deployed: Deployed, place: int) -> None:
    """fault 45"""
    first, second = finished(deployed), finished(deployed)
    batch = [*told_of(deployed, first), *told_of(deployed, second)]
    batch.insert(place, POISON)
    answer = relay_handler(deployed.aws.reader, deployed.aws.settle)({"Records": batch}, Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    statuses = {row.run: row.status for row in deployed.aws.views.runs().rows}
    assert statuses == {first: "succeeded", second: "succeeded"}


def test_what_the_stream_never_told_in_25_hours_the_sweep_puts_into_the_lists(deployed: Deployed) -> None:
    """fault 46: what was told in the first hour of it is gone for ever"""
    run = finished(deployed)
    assert deployed.aws.views.get_run(run) is None
    aws = deployed.aws
    later = utc_now() + timedelta(hours=25)
    Sweep(aws.transact, aws.dues, aws.effects, aws.settle_again, now=lambda: later, rhythm=RHYTHM)()
    row = aws.views.get_run(run)
    assert row is not None
    assert row.status == "succeeded"
    assert aws.dues.get(run_stream(run)) is None


def test_a_throttled_write_is_made_by_the_next_delivery_and_nothing_is_started_twice(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fault 44"""
    run = start_run(deployed)
    store = deployed.aws.store
    append, left = store.append, [2]

    def throttled(record: Record) -> None:
        if left[0]:
            left[0] -= 1
            raise StoreUnavailable("cannot append: ThrottlingException")
        append(record)

    monkeypatch.setattr(store, "append", throttled)
    effects: list[Effect] = [StartAttempt(run, EXTRACT, 1)]
    for _ in range(2):
        effects = deployed.aws.work(effects)
        assert effects, "what could not be stored goes back to the queue"
        assert state_of(deployed, run).jobs[EXTRACT].status == "queued"
    assert deployed.aws.work(effects) == []
    assert state_of(deployed, run).jobs[EXTRACT].status in ("submitted", "running")
    assert len(deployed.target.started) == 1, "what was taken is found by its token"
