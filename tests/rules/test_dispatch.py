"""What dispatch makes of what targets answer: claims, looking for what nobody heard of, and asking again."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.decide.commands import CancelJob, PostponeStart, RecordSilence, RequestRun
from shared.decide.run import SECOND_LOOK_AFTER
from shared.effects import ObserveAttempt, StartAttempt, StopAttempt
from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.events import RunRequested
from shared.ids import Handle, JobName, RunId, WorkflowName, run_stream
from shared.ports import Reference, Report, Request
from shared.state.run import Backoff, Claimed, Done, Doubted, Phase, Queued, Run, Submitted
from shared.stores.memory import MemoryDocuments, MemoryDues, MemoryStore
from shared.usecases.dispatch import SEND_WITHIN, SENDING, STRAYS_WITHIN, Dispatch
from shared.usecases.loading import Loader, PlanCache
from shared.usecases.transact import Transact
from tests.rules.sentences import NOON, seconds

RUN = RunId("nightly@1")
LOAD = JobName("load")
START = StartAttempt(RUN, LOAD, 1)
OBSERVE = ObserveAttempt(RUN, LOAD, 1)
DOCUMENT = b"""{"name": "nightly", "owner": "ann", "jobs": [{"name": "load", "type": "emr", "cluster_id": "j-1",
"steps": [{"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}]}]}"""


class Target:
    """Answers what it is told to answer."""

    token_seconds: float | None = None
    runs_at_once = False

    def __init__(self, *, takes_token: bool = False) -> None:
        self.takes_token = takes_token
        self.started: list[Request] = []
        self.asked: list[Reference] = []
        self.stopped: list[Reference] = []
        self.answer: Callable[[Request], Handle] = lambda _: Handle("c/s")
        self.tells: dict[str, Any] | None = {"status": "missing"}
        self.stopping: Callable[[], object] = lambda: None

    def start(self, request: Request) -> Handle:
        self.started.append(request)
        return self.answer(request)

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        self.asked += references
        if self.tells is None:
            return []
        return [Report(one.token, one.run, one.job, one.attempt, **self.tells) for one in references]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        self.stopped.append(reference)
        self.stopping()


class Nowhere:
    def send(self, effects: Any, *, delay_seconds: float = 0) -> None:
        pass


class World:
    """One run of one job, on one target. `slow`: how long a write to the store takes."""

    def __init__(self, *, takes_token: bool = False, document: bytes = DOCUMENT) -> None:
        self.now = NOON
        self.slow = timedelta()
        self.target = Target(takes_token=takes_token)
        documents = MemoryDocuments()
        ids = iter(range(1_000))
        store = MemoryStore()
        self.transact = Transact(
            Slow(self, store),
            MemoryDues(),
            Loader(store, PlanCache(documents)),
            Nowhere(),
            now=lambda: self.now,
            new_id=lambda: f"id{next(ids)}",
        )
        self.dispatch = Dispatch(
            self.transact, dict.fromkeys(("ecs", "emr", "ssm"), self.target), now=lambda: self.now, claimer="one"
        )
        run = RunRequested(
            run=RUN, workflow=WorkflowName("nightly"), document=documents.put(document), document_version=1
        )
        self.learn([(RUN, RequestRun(run))])

    def learn(self, learnt: Sequence[tuple[RunId, Any]]) -> None:
        for run, command in learnt:
            self.transact(run_stream(run), command, by="test", cause="test")

    def phase(self) -> Phase:
        run = self.transact.current(run_stream(RUN)).state
        assert isinstance(run, Run)
        return run.jobs[LOAD].phase

    def in_doubt(self) -> Doubted:
        """Asked for, without an answer."""

        def silent(_: Request) -> Handle:
            raise TargetSilent("no answer in 25 seconds")

        self.target.answer = silent
        self.learn(self.dispatch.start(START))
        self.target.answer = lambda _: Handle("c/s")
        phase = self.phase()
        assert isinstance(phase, Doubted)
        return phase

    def look(self, after: timedelta, **tells: Any) -> Phase:
        """What the job is after the target told this, or nothing."""
        self.now += after
        self.target.tells = tells or None
        self.learn(self.dispatch.observe([OBSERVE]))
        return self.phase()


class Slow:
    """A store that takes its time to write."""

    def __init__(self, world: World, store: MemoryStore) -> None:
        self._world = world
        self._store = store

    def append(self, record: Any) -> None:
        self._world.now += self._world.slow
        self._store.append(record)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_what_is_found_at_the_second_look_is_bound_and_not_asked_for_again() -> None:  # fault 17
    world = World()
    world.in_doubt()
    assert isinstance(world.look(seconds(5), status="missing"), Doubted)
    phase = world.look(SECOND_LOOK_AFTER, status="running", handle=Handle("c/s"))
    assert isinstance(phase, Submitted)
    assert len(world.target.started) == 1


def test_what_could_not_be_looked_for_is_not_asked_for_again() -> None:
    world = World()
    world.in_doubt()
    assert isinstance(world.look(SECOND_LOOK_AFTER), Doubted)
    assert isinstance(world.look(SECOND_LOOK_AFTER, status="unknown", cut_short=True), Doubted)
    assert len(world.target.started) == 1


def test_what_was_looked_for_everywhere_and_not_found_is_asked_for_again() -> None:  # fault 3
    world = World()
    world.in_doubt()
    world.look(seconds(5), status="missing")
    assert len(world.target.started) == 1
    assert isinstance(world.look(SECOND_LOOK_AFTER, status="missing"), Submitted)
    assert len(world.target.started) == 2


def test_a_message_to_start_that_comes_again_does_not_send_what_is_in_doubt_again() -> None:
    """Delivered a second time, long after: it says nothing of what became of the first request."""
    world = World()
    world.in_doubt()
    world.now += 10 * SECOND_LOOK_AFTER
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), Doubted)
    assert len(world.target.started) == 1


def test_a_search_carries_the_request_of_the_claim_and_when_it_was_made() -> None:
    world = World()
    doubt = world.in_doubt()
    world.look(seconds(5), status="missing")
    (asked,) = world.target.asked
    assert asked.handle is None
    assert asked.request == world.target.started[0].body
    assert asked.request is not None
    assert asked.request["cluster_id"] == "j-1"
    assert (asked.asked_from, asked.asked_until) == (NOON, doubt.since)


def test_a_second_claim_does_not_forget_when_the_first_was_made() -> None:
    world = World()
    world.in_doubt()
    world.target.answer = lambda request: _raise(TargetSilent("no answer"))
    second = world.look(SECOND_LOOK_AFTER, status="missing")
    assert isinstance(second, Doubted)
    world.look(seconds(5), status="missing")
    asked = world.target.asked[-1]
    assert (asked.asked_from, asked.asked_until) == (NOON, second.since)


def test_what_a_token_guards_is_looked_for_with_the_same_request() -> None:
    world = World(takes_token=True)
    world.learn([(RUN, CancelJob(LOAD, "ada"))])
    world.target.tells = None
    world.dispatch.stop(StopAttempt(RUN, LOAD, 1))
    (asked,) = world.target.asked
    assert asked.request is not None
    assert asked.request["cluster_id"] == "j-1"
    assert (asked.asked_from, asked.asked_until) == (NOON, None)


def test_a_search_that_was_cut_short_ends_nothing_that_is_being_stopped() -> None:
    world = World()
    world.in_doubt()
    world.learn([(RUN, CancelJob(LOAD, "ada"))])
    world.now += 2 * SECOND_LOOK_AFTER
    world.target.tells = {"status": "unknown", "cut_short": True}
    world.learn(world.dispatch.stop(StopAttempt(RUN, LOAD, 1)))
    assert isinstance(world.phase(), Doubted)
    assert world.target.stopped
    world.target.tells = {"status": "missing"}
    world.learn(world.dispatch.stop(StopAttempt(RUN, LOAD, 1)))
    assert isinstance(world.phase(), Done)


def test_a_search_that_was_cut_short_leaves_a_claim_to_its_claimer() -> None:
    world = World()
    world.target.tells = {"status": "unknown", "cut_short": True}
    heard: list[Any] = []

    def asked_meanwhile(_: Request) -> Handle:
        heard.extend(world.dispatch.observe([OBSERVE]))
        world.learn([(RUN, CancelJob(LOAD, "ada"))])
        heard.extend(one for one in world.dispatch.stop(StopAttempt(RUN, LOAD, 1)) if isinstance(one[1], RecordSilence))
        return Handle("c/s")

    world.target.answer = asked_meanwhile
    world.learn(world.dispatch.start(START))
    assert heard == []
    assert isinstance(world.phase(), Submitted)


def test_an_expired_claim_that_cannot_be_looked_for_is_in_doubt() -> None:
    world = World()
    world.target.answer = lambda _: _raise(KeyboardInterrupt())  # the claimer dies
    with pytest.raises(KeyboardInterrupt):
        world.dispatch.start(START)
    assert isinstance(world.phase(), Claimed)
    phase = world.look(SEND_WITHIN, status="unknown", cut_short=True, reason="too much")
    assert isinstance(phase, Doubted)
    assert phase.reason == "too much"


def test_a_claim_that_took_long_to_be_stored_is_given_back_unsent() -> None:
    world = World()
    world.slow = SEND_WITHIN - SENDING + seconds(1)
    world.learn(world.dispatch.start(START))
    assert world.target.started == []
    assert isinstance(world.phase(), Queued)
    world.slow = timedelta()
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), Submitted)
    assert world.target.started[0].send_before == world.now + SEND_WITHIN


@pytest.mark.parametrize("takes_token", [True, False])
def test_ten_minutes_of_throttling_delay_the_attempt_and_cost_none(takes_token: bool) -> None:  # fault 15
    world = World(takes_token=takes_token)
    until = world.now + timedelta(minutes=10)

    def answer(_: Request) -> Handle:
        if world.now < until:
            raise TargetUnavailable("ThrottlingException: Rate exceeded")
        return Handle("c/s")

    world.target.answer = answer
    while not isinstance(phase := world.phase(), Submitted):
        assert isinstance(phase, Queued)
        world.now = phase.not_before or world.now
        world.learn(world.dispatch.start(START))
    assert phase.attempt == 1
    assert world.now - until <= timedelta(minutes=5)
    assert len(world.target.started) <= 21, "asked again, and not over and over"
    assert len({request.token for request in world.target.started}) == 1


def test_what_no_claim_can_hold_is_refused_before_it_is_asked_for() -> None:  # fault 47
    """Neither sent without a record of it, nor tried again for ever."""
    document = json.loads(DOCUMENT)
    step = document["jobs"][0]["steps"][0]
    step["HadoopJarStep"]["Args"] = ["x" * 10_000]
    document["jobs"][0]["steps"] = [step] * 20
    world = World(document=json.dumps(document).encode())
    world.learn(world.dispatch.start(START))
    phase = world.phase()
    assert isinstance(phase, Done)
    assert "at most 70,000 are recorded" in phase.reason
    assert world.target.started == []


# --- stops ------------------------------------------------------------------------------------------------------------


def test_what_takes_no_stop_because_its_host_is_gone_is_asked_how_it_is() -> None:  # fault 26
    world = World()
    world.learn(world.dispatch.start(START))
    world.learn([(RUN, CancelJob(LOAD, "ada"))])
    world.target.stopping = lambda: _raise(TargetUnavailable("the host is not there"))
    world.target.tells = None
    world.learn(world.dispatch.stop(StopAttempt(RUN, LOAD, 1)))
    assert isinstance(world.phase(), Submitted)
    world.target.tells = {"status": "unknown", "handle": "c/s"}
    world.learn(world.dispatch.stop(StopAttempt(RUN, LOAD, 1)))
    assert isinstance(world.phase(), Done)


def test_a_second_execution_that_cannot_be_told_to_end_yet_is_told_again_for_some_minutes() -> None:  # fault 8
    world = World(takes_token=True)
    world.learn(world.dispatch.start(START))
    world.target.stopping = lambda: _raise(TargetUnavailable("not to be seen yet"))
    stray = StopAttempt(RUN, LOAD, 1, Handle("c/other"))
    with pytest.raises(TargetUnavailable):
        world.dispatch.stop(stray)
    world.now += STRAYS_WITHIN
    assert world.dispatch.stop(stray) == []
    assert [one.handle for one in world.target.stopped] == ["c/other", "c/other"]


# --- with a token -----------------------------------------------------------------------------------------------------


def test_what_a_token_guards_is_asked_again_under_it_when_the_target_is_away() -> None:  # faults 2, 15 and 60
    """The first request was taken and never answered; the second never arrived; only the token can tell that it is one."""
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    for error in (TargetSilent("no answer"), TargetUnavailable("cannot connect"), TargetUnavailable("throttled")):
        world.target.answer = lambda _, error=error: _raise(error)  # type: ignore[misc]
        world.learn(world.dispatch.start(START))
        phase = world.phase()
        assert isinstance(phase, Queued)
        assert phase.attempt == 1
        world.now = phase.not_before or world.now
    world.target.answer = lambda _: Handle("c/s")
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), Submitted)
    assert len({request.token for request in world.target.started}) == 1


def stays_away(world: World) -> int:
    """A target that cannot be reached is asked until its token's window ends; how often it was asked."""
    world.target.answer = lambda _: _raise(TargetUnavailable("cannot connect"))
    world.target.tells = None
    end = NOON + seconds(3000)
    while world.now <= end:
        world.learn(world.dispatch.start(START))
        phase = world.phase()
        assert isinstance(phase, Queued)
        world.now = phase.not_before or world.now
    world.target.tells = {"status": "missing"}
    return len(world.target.started)


def test_a_target_that_stays_away_is_asked_ever_more_seldom_and_nothing_is_in_doubt() -> None:  # fault 60
    """It answered the first request, and every one since: nothing can have been begun."""
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    assert 10 < stays_away(world) < 20
    world.now += timedelta(hours=3)
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), Backoff)


def test_what_may_have_been_taken_before_the_target_went_away_is_looked_for() -> None:  # faults 9 and 60
    """Nobody handled the message within half a minute, so somebody may have handled it and died."""
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    world.now += seconds(31)
    stays_away(world)
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), Doubted)
    assert isinstance(world.look(seconds(1), status="missing"), Doubted)
    assert isinstance(world.look(SECOND_LOOK_AFTER, status="missing"), Backoff)


def test_a_look_by_a_clock_that_is_five_minutes_ahead_is_no_second_look() -> None:  # fault 59
    world = World()
    world.in_doubt()
    assert isinstance(world.look(timedelta(minutes=5, seconds=15), status="missing"), Doubted)
    assert len(world.target.started) == 1
    world.look(SECOND_LOOK_AFTER, status="missing")
    assert len(world.target.started) == 2


def test_a_look_that_comes_when_the_target_may_have_forgotten_proves_nothing() -> None:  # fault 9
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    world.now += seconds(31)
    stays_away(world)
    world.learn(world.dispatch.start(START))
    world.look(timedelta(hours=1), status="missing")
    assert isinstance(world.look(SECOND_LOOK_AFTER, status="missing"), Doubted)


def test_a_target_that_has_no_room_ends_nothing_since_the_same_request_may_be_on_its_way_to_it_twice() -> None:
    """Faults 5 and 14: there was none for this one, and a moment later there is for its twin."""
    world = World(takes_token=True)
    world.target.answer = lambda _: _raise(TargetUnavailable("no room"))
    world.learn(world.dispatch.start(START))
    phase = world.phase()
    assert isinstance(phase, Queued)
    world.target.answer = lambda _: Handle("c/s")
    world.now = phase.not_before or world.now
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), Submitted)
    first, again = world.target.started
    assert first.token == again.token


@pytest.mark.parametrize(
    ("tells", "becomes"),
    [({"status": "missing"}, Done), ({"status": "running", "handle": "c/s"}, Submitted), (None, Queued)],
)
def test_a_target_that_refuses_is_asked_whether_it_took_an_earlier_request(
    tells: dict[str, Any] | None, becomes: type[Phase]
) -> None:
    world = World(takes_token=True)
    world.target.tells = tells
    world.target.answer = lambda _: _raise(TargetRefused("the role is gone"))
    world.learn(world.dispatch.start(START))
    assert isinstance(world.phase(), becomes)


def silent_on_the_way(world: World) -> Sequence[tuple[RunId, Any]]:
    """What a twin of the first request's sender is about to say: he asked, and heard nothing."""
    world.target.answer = lambda _: _raise(TargetSilent("no answer in 25 seconds"))
    return world.dispatch.start(START)


def looked_for_hours_later(world: World) -> Phase:
    world.now += timedelta(hours=3)
    world.target.tells = {"status": "missing"}
    world.learn(world.dispatch.start(START))
    return world.phase()


@pytest.mark.parametrize("told_first", ["the silence", "the refusal"])
def test_of_two_that_ask_at_once_one_that_hears_nothing_may_have_been_taken(told_first: str) -> None:  # fault 14
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    unheard = silent_on_the_way(world)
    world.target.answer = lambda _: _raise(TargetUnavailable("no room"))
    refused = world.dispatch.start(START)
    for told in (unheard, refused) if told_first == "the silence" else (refused, unheard):
        world.learn(told)
    assert isinstance(looked_for_hours_later(world), Doubted)


def test_one_who_dies_while_he_asks_again_may_have_been_taken() -> None:  # faults 4 and 60
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    world.target.answer = lambda _: _raise(TargetUnavailable("no room"))
    world.learn(world.dispatch.start(START))
    world.now += seconds(31)
    world.target.answer = lambda _: _raise(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        world.dispatch.start(START)
    world.now += seconds(5)
    assert world.dispatch.start(START) == [], "nobody asks beside him"
    stays_away(world)
    assert isinstance(looked_for_hours_later(world), Doubted)


def test_after_a_restore_nobody_knows_that_every_request_was_turned_away() -> None:  # fault 50
    """What followed the last commit that is left, a request that was taken among it, is lost."""
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    world.target.answer = lambda _: _raise(TargetUnavailable("no room"))
    world.learn(world.dispatch.start(START))
    world.dispatch = Dispatch(
        world.transact, {"emr": world.target}, now=lambda: world.now, claimer="two", restored=True
    )
    assert isinstance(looked_for_hours_later(world), Doubted)


def test_one_who_dies_while_he_asks_first_may_have_been_taken() -> None:  # faults 4 and 14
    """His message comes again, to whom it is told that it is not the first time."""
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    world.target.answer = lambda _: _raise(TargetUnavailable("no room"))
    world.learn(world.dispatch.start(START))
    asked = len(world.target.started)
    world.learn(world.dispatch.start(START, redelivered=True))
    assert len(world.target.started) == asked
    assert isinstance(looked_for_hours_later(world), Doubted)


def test_an_answer_to_one_who_does_not_ask_any_more_says_nothing_of_him_who_does() -> None:  # fault 14
    world = World(takes_token=True)
    world.target.token_seconds = 3000.0
    world.target.answer = lambda _: _raise(TargetUnavailable("no room"))
    world.learn(world.dispatch.start(START))
    world.now += seconds(31)

    def late(_: Request) -> Handle:
        world.learn([(RUN, PostponeStart(LOAD, 1, "no room", 30.0, first=True, claimer="two"))])
        raise KeyboardInterrupt

    world.target.answer = late
    with pytest.raises(KeyboardInterrupt):
        world.dispatch.start(START)
    stays_away(world)
    assert isinstance(looked_for_hours_later(world), Doubted)


def _raise(error: BaseException) -> Handle:
    raise error
