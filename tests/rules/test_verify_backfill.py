"""`verify` of a backfill: silent about every history that could really be, and names what is wrong with one that could not."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.codec import record_of
from shared.events import (
    BackfillCancelled,
    BackfillFinished,
    BackfillInstantsSkipped,
    BackfillPaused,
    BackfillRequested,
    BackfillRunAdmitted,
    BackfillRunEnded,
    Event,
    RunOpened,
)
from shared.ids import BackfillId, CommitId, backfill_stream, instant_run
from shared.ports import FIRST_HASH, Record
from shared.usecases.verify import verify_stream
from tests.golden.make import STORIES
from tests.rules.sentences import NOON, WORKFLOW, document, job, plans

ID = BackfillId("nightly@b1")
PLAN = document(job("load"), schedule={"cron": "0 13 * * *"})


def at(day: int) -> datetime:
    return NOON.replace(month=2, day=day, hour=13)


def requested(**fields: Any) -> BackfillRequested:
    told: dict[str, Any] = {"backfill": ID, "workflow": WORKFLOW, "document": PLAN.digest, "document_version": 1}
    told |= {"range_from": at(1), "range_until": at(4), "count": 3, "max_active": 1, **fields}
    return BackfillRequested(**told)


def begun(day: int, number: int = 1) -> BackfillRunAdmitted:
    run, start = instant_run(WORKFLOW, at(day), number), at(day) - timedelta(days=1)
    return BackfillRunAdmitted(run=run, scheduled_at=at(day), interval_start=start, interval_end=at(day))


def ended(day: int, outcome: Any = "succeeded") -> BackfillRunEnded:
    return BackfillRunEnded(run=instant_run(WORKFLOW, at(day), 1), scheduled_at=at(day), outcome=outcome)


def skipped(*days: int) -> BackfillInstantsSkipped:
    return BackfillInstantsSkipped(instants=tuple(at(day) for day in days), reason="its run succeeded")


def finished(succeeded: int = 0, skipped: int = 0) -> BackfillFinished:
    return BackfillFinished(outcome="succeeded", succeeded=succeeded, skipped=skipped)


def history(commits: Sequence[tuple[datetime, Sequence[Event]]]) -> list[Record]:
    records: list[Record] = []
    previous = FIRST_HASH
    for version, (moment, events) in enumerate(commits, 1):
        record = record_of(
            backfill_stream(ID),
            version=version,
            commit_id=CommitId(f"c-{version}"),
            at=moment,
            by="",
            cause="backfill",
            previous_hash=previous,
            events=events,
        )
        records.append(record)
        previous = record.hash
    return records


def found(*events: Event) -> list[str]:
    records = history([(NOON, [event]) for event in events])
    return [f"{one.invariant} {one.message}" for one in verify_stream(records, plans)]


@pytest.mark.parametrize("name", [name for name in STORIES if name.startswith("backfill-")])
def test_every_history_that_the_rules_lead_to_is_sound(name: str) -> None:
    _, commits = STORIES[name]()
    assert verify_stream(history(commits), plans) == []


def test_a_history_of_every_kind_of_end_is_sound() -> None:
    events = (begun(1), ended(1), skipped(2), begun(3), ended(3, "taken"), finished(succeeded=1, skipped=2))
    assert found(requested(), *events) == []


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ((begun(1), begun(2)), "I5"),
        ((begun(2), ended(2), begun(1)), "after 2026-02-02T13:00:00Z, oldest first"),
        ((skipped(1, 1),), "twice"),
        ((begun(4),), "not an instant of its range"),
        ((ended(1),), "was not active for that instant"),
        ((BackfillPaused(), begun(1)), "although it was paused"),
        ((BackfillCancelled(), begun(1)), "although it was cancelled"),
        ((begun(1), finished()), "while 1 of its runs were active"),
        ((skipped(1, 2), finished(skipped=2)), "after 2 of its 3 instants"),
        ((skipped(1, 2, 3), finished(skipped=2)), "said that 2 instants skipped, and 3 did"),
        ((skipped(1, 2, 3), finished(skipped=3), BackfillPaused()), "follows its end"),
        ((requested(),), "asked for twice"),
        ((RunOpened(),), "does not belong"),
    ],
)
def test_what_could_not_be_is_named(events: Sequence[Event], says: str) -> None:
    assert any(says in one for one in found(requested(), *events)), found(requested(), *events)


def test_a_stream_begins_with_its_request_and_is_named_for_it() -> None:
    assert any("first event" in one for one in found(begun(1)))
    assert any("holds the backfill" in one for one in found(requested(backfill=BackfillId("nightly@b2"))))


def test_an_instant_that_the_schedule_does_not_have_is_named() -> None:
    event = begun(1).model_copy(update={"scheduled_at": at(1) + timedelta(hours=1)})
    assert any("not an instant" in one for one in found(requested(), event))
