"""Fault 41: ten thousand schedules of one midnight, by the use cases of both engines, in bounded batches; each is exactly one run.

The engines differ in how seldom they look: one to the second, the other once a minute and with patience.
"""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from shared.effects import Effect, OpenRun, TickWorkflow
from shared.ids import RunId, WorkflowName, run_stream, subject_of, workflow_of
from shared.state.run import Run
from shared.usecases.admission import Admission
from shared.usecases.control import Control
from shared.usecases.sweep import ROWS_MAX, Sweep
from shared.usecases.transact import TO_THE_SECOND, Rhythm, Transact
from tests.engine.fakes import World

MIDNIGHT = datetime(2026, 3, 3, tzinfo=UTC)
SCHEDULES = 10_000


class Outbox:
    """Effects as they are sent, and how many at once."""

    def __init__(self) -> None:
        self.waiting: list[Effect] = []
        self.largest = 0

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        sent = list(effects)
        self.largest = max(self.largest, len(sent))
        if not delay_seconds:
            self.waiting.extend(sent)


class Engine:
    """Registration, sweeps and admission; the jobs themselves are another matter."""

    def __init__(self, rhythm: Rhythm) -> None:
        self.world = World()
        self.world.clock.now = MIDNIGHT - timedelta(hours=6)
        self.outbox = Outbox()
        world = self.world
        self.transact = Transact(
            world.store, world.dues, world.loader(), self.outbox, now=world.clock, new_id=world.new_id, rhythm=rhythm
        )
        self.control = Control(self.transact, world.documents, new_id=world.new_id)
        self.admission = Admission(self.transact)
        self.sweep = Sweep(self.transact, world.dues, self.outbox, lambda _: None, now=world.clock, rhythm=rhythm)

    def register(self, number: int, *, overlap: str = "allow", **schedule: object) -> None:
        document = {
            "name": f"w-{number:05}",
            "overlap": overlap,
            "schedule": {"cron": "0 0 * * *", **schedule},
            "jobs": [{"name": "a", "type": "ssm", "host": "h", "commands": ["true"]}],
        }
        self.control.register(json.dumps(document).encode(), name="w.json", by="ada")

    def swept(self) -> int:
        """Sweep and carry out once; how many streams were looked at."""
        looked = self.sweep()
        waiting, self.outbox.waiting = self.outbox.waiting, []
        for effect in waiting:
            if isinstance(effect, TickWorkflow | OpenRun):
                self.admission(effect)
        # What ticking sent: the runs to open.
        waiting, self.outbox.waiting = self.outbox.waiting, []
        for effect in waiting:
            if isinstance(effect, TickWorkflow | OpenRun):
                self.admission(effect)
        self.outbox.waiting.clear()
        return looked

    def begun(self) -> dict[RunId, datetime]:
        """Every run, and when it begins."""
        found: dict[RunId, datetime] = {}
        after = ""
        while names := self.world.store.streams("run", after=after):
            for name in names:
                state = self.transact.loader.load(name).state
                assert isinstance(state, Run)
                found[RunId(subject_of(name))] = state.request.start_after or state.requested_at
            after = names[-1]
        return found


@pytest.mark.parametrize(
    ("schedules", "rhythm"),
    [(SCHEDULES, TO_THE_SECOND), (1_000, Rhythm(timedelta(minutes=5)))],
    ids=["one machine", "on AWS"],
)
def test_ten_thousand_schedules_of_one_midnight_are_each_one_run(schedules: int, rhythm: Rhythm) -> None:
    engine = Engine(rhythm)
    for number in range(schedules):
        engine.register(number)
    engine.outbox.waiting.clear()
    engine.world.clock.now = MIDNIGHT
    sweeps = 0
    while engine.world.dues.due(engine.world.clock.now, limit=1):
        assert engine.swept() <= ROWS_MAX
        sweeps += 1
        assert sweeps < 10 * schedules / ROWS_MAX + 50, "it never ends"
        # The last are dealt with a while later than the first, and that is not late enough to be missed.
        engine.world.clock.now += timedelta(seconds=1)
        if len(engine.world.store.streams("run", after=run_stream(RunId(f"w-{schedules - 1:05}")))) == 1:
            break
    runs = engine.begun()
    assert Counter(map(workflow_of, runs)) == {WorkflowName(f"w-{number:05}"): 1 for number in range(schedules)}
    assert {run.partition("@")[2] for run in runs} == {"2026-03-03T00:00:00Z"}
    assert engine.outbox.largest <= 2 * ROWS_MAX


def test_jitter_lets_them_begin_over_ten_minutes_and_not_at_once() -> None:
    """Faults 41 and 60: found three hours late, they are spread over the ten minutes after that."""
    for late in (timedelta(0), timedelta(hours=3)):
        engine = Engine(TO_THE_SECOND)
        for number in range(600):
            engine.register(number, jitter_seconds=600, catchup="latest")
        engine.world.clock.now = found = MIDNIGHT + late
        for _ in range(20):
            engine.swept()
        begins = sorted(at - found for at in engine.begun().values())
        assert len(begins) == 600
        assert timedelta(0) <= begins[0]
        assert begins[-1] <= timedelta(seconds=600)
        in_a_minute = Counter(int(after.total_seconds()) // 60 for after in begins)
        assert max(in_a_minute.values()) < 120


def test_a_tick_that_finds_no_room_for_whose_turn_has_come_asks_for_no_other() -> None:
    """Fault 60: the sweep comes again, and the end of a run lets in the next; nothing turns in a circle meanwhile."""
    engine = Engine(TO_THE_SECOND)
    engine.register(0, cron="*/10 * * * *", starts_per_minute=60, catchup="all", overlap="queue")
    engine.world.clock.now = MIDNIGHT
    engine.swept()
    engine.world.clock.now += timedelta(minutes=10)
    engine.swept()
    engine.outbox.waiting.clear()
    engine.admission(TickWorkflow(WorkflowName("w-00000")))
    assert not [effect for effect in engine.outbox.waiting if isinstance(effect, TickWorkflow)]
    state = engine.control.workflow(WorkflowName("w-00000"))
    assert len(state.holders) == 1
    assert state.held
