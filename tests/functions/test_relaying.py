"""What makes lists true: which records count, what is derived from, and what the sweep makes up for (I8)."""

import json
from typing import Any

import pytest

from functions.relay.handler import ROUTINE, ROUTINE_EVERY
from functions.relay.handler import make_handler as relay_handler
from shared import events
from shared.decide.commands import CancelRun
from shared.errors import CorruptStream, UnknownEvents
from shared.ids import StreamName, run_stream
from shared.ports import Record
from shared.usecases.loading import Loaded, Loader, PlanCache
from shared.usecases.transact import Reader
from tests.engine.fakes import Node, World
from tests.engine.test_deciding import STREAM, asked_for
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import Context, dispatch, report, start_run


def told(version: int, *types: str, stream: str = STREAM) -> dict[str, Any]:
    """A record of the table's stream, with the commit's image."""
    body = json.dumps([{"type": name} for name in types])
    image = {"version": {"N": str(version)}, "body": {"S": body}}
    keys = {"stream": {"S": stream}, "version": {"N": str(version)}}
    return {
        "eventSource": "aws:dynamodb",
        "dynamodb": {"SequenceNumber": str(version), "Keys": keys, "NewImage": image},
    }


@pytest.mark.parametrize(
    ("types", "counts"),
    [
        (("AttemptSucceeded", "AttemptQueued"), False),
        (("AttemptSucceeded", "RunFinished"), True),
        (("AttemptFailed",), True),
        (("AttemptSubmitted", "AnEventOfTheNextRelease"), True),
    ],
)
def test_only_what_every_job_goes_through_may_wait_for_the_next_record(types: tuple[str, ...], counts: bool) -> None:
    asked: list[int] = []

    def load(stream: StreamName, version: int = 0) -> Loaded:
        asked.append(version)
        return Loaded(stream, None, version, "", None)  # type: ignore[arg-type]

    handler = relay_handler(load, lambda _: None)
    version = ROUTINE_EVERY + 1
    assert handler({"Records": [told(version, *types)]}, Context()) == {"batchItemFailures": []}
    assert asked == ([version] if counts else [])


@pytest.mark.parametrize("error", [UnknownEvents("newer"), CorruptStream("damaged")])
def test_what_no_retry_can_mend_holds_nobody_up(error: Exception) -> None:
    """Faults 45 and 48."""
    settled: list[str] = []

    def load(stream: StreamName, version: int = 0) -> Loaded:
        if stream == STREAM:
            raise error
        return Loaded(stream, None, version, "", None)  # type: ignore[arg-type]

    handler = relay_handler(load, lambda loaded: settled.append(loaded.stream))
    records = [told(1, "RunRequested"), told(2, "RunFinished"), told(3, "RunFinished", stream="run#other@1")]
    assert handler({"Records": records}, Context()) == {"batchItemFailures": []}
    assert settled == ["run#other@1"]


def test_a_row_is_made_of_the_version_that_was_told_or_a_later_one() -> None:
    """A cheaper read may not know the newest commits; no later record would correct what is made of it."""
    world = World()
    node = Node(world)
    asked_for(node, "a")
    before = len(world.store.read(STREAM))

    def lately(stream: StreamName, *, after: int = 0, limit: int = 1_000) -> list[Record]:
        return [record for record in world.store.read(stream, after=after, limit=limit) if record.version <= before]

    reader = Reader(Loader(world.store, PlanCache(world.documents), lately=lately))
    assert reader(STREAM, before).version == before
    node.transact(STREAM, CancelRun("ann"), by="ann", cause="test")
    newest = len(world.store.read(STREAM))
    assert newest > before
    assert reader(STREAM, newest).version == newest


def test_the_sweep_makes_a_row_that_is_there_and_old_new_again(deployed: Deployed) -> None:
    """Faults 34 and 46: the record of the last version never came."""
    run = start_run(deployed)
    deployed.aws.settle(deployed.aws.loader.load(run_stream(run)))
    for job in ("extract", "load"):
        dispatch(deployed)
        assert deployed.aws.work.record([report(deployed, run, job, "succeeded")]) == []
    deployed.aws.settle_again(deployed.aws.loader.load(run_stream(run)))
    row = deployed.aws.views.get_run(run)
    assert row is not None
    assert row.status == "succeeded"


def test_the_names_of_what_is_routine_are_names_of_events() -> None:
    assert all(hasattr(events, name) for name in ROUTINE)
