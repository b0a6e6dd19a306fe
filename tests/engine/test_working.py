"""A batch of effects and reports: what it is decided on, and that what could not be stored comes back. Faults 34, 44 and 48."""

from typing import Any

import pytest

from shared.codec import record_of
from shared.decide.commands import CancelJob, RecordReport
from shared.effects import CheckHolders, ObserveAttempt, StartAttempt
from shared.errors import StoreUnavailable
from shared.events import UnknownEvent
from shared.ids import CommitId, Handle, JobName, RunId, StreamName, attempt_token, run_stream, workflow_stream
from shared.ports import Record, Report
from shared.state.workflow import WorkflowState
from shared.stores.files import LocalFiles
from shared.stores.memory import MemoryWaiters
from shared.usecases.admission import Admission
from shared.usecases.dispatch import Dispatch
from shared.usecases.loading import Loader, PlanCache
from shared.usecases.transact import Transact
from shared.usecases.waits import Waits
from shared.usecases.work import Work
from tests.engine.fakes import Behaviour, Node, World
from tests.engine.test_deciding import FOR_EVER, RUN, SMALL, STREAM, asked_for

A = JobName("a")


def work_of(world: World, *, copied: int | None = None) -> Work:
    """A process that knows nothing yet. `copied`: the versions that a read which may lag shows of each stream."""

    def lately(stream: StreamName, *, after: int = 0, limit: int = 1_000) -> list[Record]:
        records = world.store.read(stream, after=after, limit=limit)
        return [record for record in records if copied is None or record.version <= copied]

    node = Node(world, recovers=False)
    loader = Loader(world.store, PlanCache(world.documents), lately=lately)
    transact = Transact(world.store, world.dues, loader, node.queue, now=world.clock, new_id=world.new_id)
    executors = dict.fromkeys(("ecs", "emr", "ssm"), world.targets)
    dispatch = Dispatch(transact, executors, now=world.clock, claimer="one")
    return Work(
        transact,
        dispatch,
        Admission(transact),
        Waits(transact, MemoryWaiters(), LocalFiles(), now=world.clock),
        deliver=lambda _: None,
    )


def told(status: Any) -> Report:
    return Report(attempt_token(RUN, A, 1), RUN, A, 1, status, handle=Handle("h1"))


def test_nothing_is_started_on_a_read_that_may_lag() -> None:
    """I12: it was cancelled a moment ago, and its end is recorded."""
    world = World({"a": FOR_EVER})
    asked_for(Node(world), "a")
    before = len(world.store.read(STREAM))
    person = Node(world)
    person.transact(STREAM, CancelJob(A, "ann"), by="ann", cause="test")
    person.transact(STREAM, RecordReport(A, 1, "missing"), by="test", cause="test")
    assert work_of(world, copied=before)([StartAttempt(RUN, A, 1)]) == []
    assert world.targets.executions == {}


def test_what_was_learnt_and_could_not_be_stored_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 44."""
    world = World({"a": FOR_EVER})
    asked_for(Node(world), "a")
    work = work_of(world)

    def throttled(_: object) -> None:
        raise StoreUnavailable("said the test")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "append", throttled)
        assert work([StartAttempt(RUN, A, 1)]) == [ObserveAttempt(RUN, A, 1)]
        assert work.record([told("succeeded")]) == [ObserveAttempt(RUN, A, 1)]
    assert work([ObserveAttempt(RUN, A, 1)]) == []
    assert world.runs()[RUN].jobs[A].status in ("submitted", "running")


# --- holders ------------------------------------------------------------------------------------------------------------


def admitted(world: World, *keys: str) -> list[RunId]:
    """Runs that hold places; none of them has been opened."""
    node = Node(world)
    runs = [asked_for(node, "a", max_active_runs=3)]
    runs += [node.control.request_run(SMALL, {}, by="ann", key=key).run for key in keys]
    assert holders(world) == {*runs}
    assert not world.runs()
    return runs


def holders(world: World) -> set[RunId]:
    state = world.loader().load(workflow_stream(SMALL)).state
    assert isinstance(state, WorkflowState)
    return {*state.holders}


def end(world: World, run: RunId) -> None:
    """As another process sees it, which tells nobody."""
    other = Node(world, recovers=False)
    other.transact(run_stream(run), CancelJob(A, "ann"), by="ann", cause="test")
    other.transact(run_stream(run), RecordReport(A, 1, "missing"), by="test", cause="test")
    assert world.runs()[run].finished


def test_a_run_that_was_admitted_and_never_opened_is_opened_by_the_look_at_holders() -> None:
    """Fault 58: it would hold its place for ever."""
    world = World({"a": Behaviour(seconds=1)})
    runs = admitted(world)
    work_of(world)([CheckHolders(SMALL)])
    assert {*world.runs()} == {*runs}


def test_the_look_at_holders_reads_the_runs_themselves() -> None:
    """Fault 34: what this process remembers of them is as old as the end that it never heard of."""
    world = World({"a": FOR_EVER})
    (run,) = admitted(world)
    work = work_of(world)
    work([CheckHolders(SMALL)])
    end(world, run)
    work([CheckHolders(SMALL)])
    assert holders(world) == set()


@pytest.mark.parametrize("unreadable", [0, 1], ids=["one", "the other"])
def test_a_holder_that_nobody_can_read_keeps_its_place_and_no_other(unreadable: int) -> None:
    """Fault 48. Whichever is looked at first, it may not end the look."""
    world = World({"a": FOR_EVER})
    runs = admitted(world, "two")
    work_of(world)([CheckHolders(SMALL)])
    for run in runs:
        end(world, run)
    stream = run_stream(runs[unreadable])
    newest = world.store.read(stream)[-1]
    strange = record_of(
        stream,
        version=newest.version + 1,
        commit_id=CommitId("newer"),
        at=newest.at,
        by="newer",
        cause="newer",
        previous_hash=newest.hash,
        events=[UnknownEvent(type="RunTeleported", fields={})],
    )
    world.store.append(strange)
    work_of(world)([CheckHolders(SMALL)])
    assert holders(world) == {runs[unreadable]}
