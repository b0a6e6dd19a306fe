"""What `Waiters` owe: who was added is found by what he waits for, until he is removed."""

from shared.ids import RunId, WorkflowName
from shared.ports import Waiter, Waiters

INGEST = WorkflowName("ingest")
ONE, TWO = "ingest@2026-03-02T01:00:00Z", "ingest@2026-03-02T02:00:00Z"
REPORT, SALES = RunId("report@2026-03-02T01:00:00Z"), RunId("sales@kabc")


def test_without_anybody_nobody_waits(waiters: Waiters) -> None:
    assert waiters.of(INGEST) == []
    assert waiters.of(INGEST, awaited=ONE) == []


def test_who_was_added_is_found_by_the_workflow_and_by_what_exactly_he_waits_for(waiters: Waiters) -> None:
    wanted = [Waiter("ingest", "", SALES), Waiter(ONE, "", REPORT), Waiter(ONE, "load", SALES), Waiter(TWO, "", REPORT)]
    for waiter in (*reversed(wanted), Waiter("ingest2@2026-03-02T01:00:00Z", "", REPORT)):
        waiters.add(waiter)
    assert waiters.of(INGEST) == wanted
    assert waiters.of(INGEST, awaited=ONE) == wanted[1:3]
    assert waiters.of(INGEST, awaited="ingest") == wanted[:1]
    assert waiters.of(WorkflowName("ingest2")) == [Waiter("ingest2@2026-03-02T01:00:00Z", "", REPORT)]


def test_adding_twice_is_adding_once_and_removing_twice_is_removing_once(waiters: Waiters) -> None:
    waiters.add(Waiter(ONE, "", REPORT))
    waiters.add(Waiter(ONE, "", REPORT))
    waiters.add(Waiter(ONE, "", SALES))
    assert len(waiters.of(INGEST)) == 2
    waiters.remove(Waiter(ONE, "", REPORT))
    waiters.remove(Waiter(ONE, "", REPORT))
    assert waiters.of(INGEST) == [Waiter(ONE, "", SALES)]


def test_no_more_are_given_than_asked_for(waiters: Waiters) -> None:
    for number in range(30):
        waiters.add(Waiter(ONE, "", RunId(f"report@{number:02}")))
    assert [waiter.run for waiter in waiters.of(INGEST, limit=7)] == [f"report@{number:02}" for number in range(7)]
