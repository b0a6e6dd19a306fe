"""Pools: who asks, who is granted, who gives back, and what the run makes of it."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given as example
from hypothesis import strategies as some

from shared import codec, events
from shared.decide.commands import (
    Advance,
    CancelJob,
    CancelRun,
    GrantPlaces,
    MarkJob,
    ReleasePlace,
    RequestPlace,
    SetCapacity,
    TakePlace,
)
from shared.decide.places import holds_place, wants_place
from shared.decide.pool import PATIENCE, decide_pool, grantable
from shared.effects import (
    CHECK_HOLDERS_SECONDS,
    HANDOVER_SECONDS,
    AdvancePool,
    AskForPlace,
    CheckPlaces,
    GiveBackPlace,
    TellOfPlace,
    due_of_pool,
    due_of_run,
    effects_of_pool,
    effects_of_run,
    pending_of_places,
    pending_of_pool,
    pending_of_run,
)
from shared.errors import InvalidInput
from shared.explain import pools_of, why_job, why_run
from shared.ids import CommitId, JobName, PoolName, RunId, StreamName
from shared.ports import FIRST_HASH
from shared.state import snapshot
from shared.state.pool import NoPool, Place, fold_pool
from shared.usecases.verify import verify_stream
from tests.rules.sentences import (
    NOON,
    RUN,
    Fact,
    Story,
    cancel_requested,
    document,
    fact,
    failed,
    finished,
    given,
    given_pool,
    job,
    minutes,
    plans,
    queued,
    reopen,
    report,
    requested,
    same,
    seconds,
    settled,
    submitted,
    succeeded,
)

POOL = PoolName("warehouse")


def place(run: str = RUN, name: str = "load", attempt: int = 1, round_: int = 1) -> Place:
    return Place(RunId(run), JobName(name), attempt, round_)


def size(capacity: int) -> SetCapacity:
    return SetCapacity(POOL, capacity, "ada")


def ask(run: str, weight: int = 1, priority: int = 0) -> RequestPlace:
    return RequestPlace(POOL, place(run), weight, priority, NOON)


def give_back(run: str, reason: str = "") -> ReleasePlace:
    return ReleasePlace(place(run), reason)


def resized(capacity: int) -> Fact:
    return fact(events.PoolResized, pool=POOL, capacity=capacity)


def in_line(run: str, weight: int = 1, priority: int = 0) -> Fact:
    told = {"pool": POOL, "run": run, "job": "load", "attempt": 1, "weight": weight, "priority": priority}
    return fact(events.PlaceRequested, **told, asked_at=NOON)


def granted(run: str, weight: int = 1) -> Fact:
    return fact(events.PlaceGranted, run=run, job="load", attempt=1, weight=weight)


def freed(run: str) -> Fact:
    return fact(events.PlaceReleased, run=run, job="load", attempt=1)


def withdrawn(run: str) -> Fact:
    return fact(events.PlaceWithdrawn, run=run, job="load", attempt=1)


def wanted(name: str = "load", attempt: int = 1, **fields: Any) -> Fact:
    return fact(events.PlaceWanted, job=name, attempt=attempt, pool=POOL, **fields)


def taken(name: str = "load", attempt: int = 1) -> Fact:
    return fact(events.PlaceTaken, job=name, attempt=attempt)


def take(name: str = "load", attempt: int = 1, round_: int = 1) -> TakePlace:
    return TakePlace(JobName(name), attempt, round_, POOL)


def pooled(name: str = "load", **fields: Any) -> dict[str, Any]:
    return job(name, **{"pool": POOL, **fields})


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_a_place_is_granted_as_soon_as_it_is_asked_for_when_there_is_room() -> None:
    given_pool(size(2)).when(ask("a@1")).then(in_line("a@1"), granted("a@1"))


def test_who_finds_no_room_stands_in_the_line_and_is_granted_what_is_given_back() -> None:
    (
        given_pool(size(1), ask("a@1"), ask("b@1"))
        .when(give_back("a@1"))
        .then(freed("a@1"), granted("b@1"))
        .when(give_back("b@1"))
        .then(freed("b@1"))
    )


def test_a_pool_that_nobody_declared_has_one_place() -> None:
    given_pool(ask("a@1")).when(ask("b@1")).then(in_line("b@1"))


def test_asking_twice_is_asking_once() -> None:
    given_pool(size(1), ask("a@1"), ask("b@1")).when(ask("b@1")).then_nothing().when(ask("a@1")).then_nothing()


def test_what_is_given_back_twice_or_was_never_held_changes_nothing() -> None:
    given_pool(size(1), ask("a@1"), give_back("a@1")).when(give_back("a@1")).then_nothing()
    given_pool().when(give_back("a@1")).then_nothing()


def test_who_leaves_the_line_is_passed_over() -> None:
    (
        given_pool(size(1), ask("a@1"), ask("b@1"), ask("c@1"))
        .when(give_back("b@1"))
        .then(withdrawn("b@1"))
        .when(give_back("a@1"))
        .then(freed("a@1"), granted("c@1"))
    )


def test_higher_priority_goes_first_and_among_equals_who_came_first() -> None:
    story = given_pool(size(1), ask("a@1"), ask("b@1"), ask("c@1", priority=5), ask("d@1", priority=5))
    order = []
    while story.pool.held:
        (holder,) = story.pool.held
        order.append(holder.run)
        story = story.given(ReleasePlace(holder))
    assert order == ["a@1", "c@1", "d@1", "b@1"]


def test_a_heavy_place_at_the_head_is_not_overtaken_by_light_ones() -> None:
    (
        given_pool(size(3), ask("a@1"), ask("b@1"), ask("heavy@1", weight=3))
        .when(ask("light@1"))
        .then(in_line("light@1"))
        .when(give_back("a@1"))
        .then(freed("a@1"))
        .when(give_back("b@1"))
        .then(freed("b@1"), granted("heavy@1", weight=3))
    )


def test_a_place_heavier_than_the_pool_takes_all_of_it_instead_of_waiting_for_ever() -> None:
    given_pool(size(2)).when(ask("a@1", weight=7)).then(in_line("a@1", weight=7), granted("a@1", weight=2))


def test_who_has_waited_for_an_hour_goes_before_every_priority() -> None:
    (
        given_pool(size(1), ask("a@1"), ask("low@1"), PATIENCE, ask("high@1", priority=9))
        .when(give_back("a@1"))
        .then(freed("a@1"), granted("low@1"))
    )


def test_a_lowered_capacity_takes_nothing_away_and_grants_nothing_new() -> None:
    (
        given_pool(size(3), ask("a@1"), ask("b@1"), ask("c@1"))
        .when(size(1))
        .then(resized(1))
        .when(ask("d@1"))
        .then(in_line("d@1"))
        .when(give_back("a@1"))
        .then(freed("a@1"))
        .when(give_back("b@1"))
        .then(freed("b@1"))
        .when(give_back("c@1"))
        .then(freed("c@1"), granted("d@1"))
    )


def test_a_raised_capacity_grants_to_those_who_wait() -> None:
    given_pool(size(0), ask("a@1"), ask("b@1")).when(size(2)).then(resized(2), granted("a@1"), granted("b@1"))


def test_a_capacity_of_nothing_closes_the_pool() -> None:
    given_pool(size(0)).when(ask("a@1")).then(in_line("a@1"))


@pytest.mark.parametrize("capacity", [-1, 10_001])
def test_a_capacity_out_of_bounds_is_refused(capacity: int) -> None:
    with pytest.raises(InvalidInput, match="capacity"):
        decide_pool(NoPool(), size(capacity), now=NOON)


def test_a_pool_that_no_stream_could_be_named_for_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pool"):
        decide_pool(NoPool(), SetCapacity(PoolName("a b"), 1, "ada"), now=NOON)


def test_the_same_attempt_in_another_round_is_another_place() -> None:
    # Fault 3: a release that comes late must not free what a later round holds.
    again = RequestPlace(POOL, place("a@1", round_=2), 1, 0, NOON)
    story = given_pool(size(1), ask("a@1"), give_back("a@1"), again)
    story.when(give_back("a@1")).then_nothing()
    assert place("a@1", round_=2) in story.pool.held


def test_a_thousand_grants_at_once_are_cut_and_go_on() -> None:
    story = given_pool(size(0), *(ask(f"r@{number}") for number in range(1_000)))
    story = story.given(size(1_000))
    assert pending_of_pool(story.pool, story.now)[0] == AdvancePool(POOL)
    commits = len(story.history)
    while story.truncated:
        story = story.given(GrantPlaces())
    assert len(story.history) > commits
    assert len(story.pool.held) == 1_000
    assert not story.pool.awaited


def test_the_place_in_the_line_is_known_without_counting_it_through() -> None:
    story = given_pool(size(0), ask("a@1"), ask("b@1"), ask("c@1"), ask("d@1", priority=1), give_back("a@1"))
    order = list(story.pool.in_line())
    assert [one.run for one in order] == ["d@1", "b@1", "c@1"]
    assert [story.pool.ahead_of(one) for one in order] == [0, 1, 2]


_STEPS = some.lists(
    some.tuples(
        some.sampled_from(["ask", "back", "size", "wait"]),
        some.integers(0, 7),
        some.integers(1, 4),
        some.integers(-1, 1),
    ),
    max_size=60,
)


@example(_STEPS)
def test_whatever_is_asked_no_more_is_granted_than_there_is_and_nobody_is_forgotten(steps: list[Any]) -> None:
    story = given_pool(size(3))
    for what, number, weight, priority in steps:
        match what:
            case "ask":
                command: Any = ask(f"r@{number}", weight, priority)
            case "back":
                command = give_back(f"r@{number}")
            case "size":
                command = size(weight)
            case _:
                command = minutes(number * 10)
        before = story
        # Who has waited long enough goes first, which is noticed at the next look.
        story = story.given(command, GrantPlaces())
        pool = story.pool
        assert pool.used == sum(one.weight for one in pool.held.values())
        if len(pool.held) > len(before.pool.held):
            assert pool.used <= pool.capacity
        # Nobody waits for a place that he could have.
        assert grantable(pool, story.now) is None
        order = list(pool.in_line())
        assert set(order) == set(pool.awaited)
        assert [pool.ahead_of(one) for one in order] == list(range(len(order)))
        assert not set(pool.held) & set(pool.awaited)
    assert same(fold_pool(((at, one) for at, commit in story.history for one in commit), NoPool()), story.pool)
    # The more so when everybody has gone.
    for _ in range(20):
        for holder in list(story.pool.held):
            story = story.given(ReleasePlace(holder))
    assert (len(story.pool.held), len(story.pool.awaited), story.pool.used) == (0, 0, 0)


# --- the run ----------------------------------------------------------------------------------------------------------


def test_a_job_with_a_pool_waits_for_its_place_and_takes_none_of_the_run() -> None:
    started = requested(pooled(), job("other"), parallelism=1)
    story = given(started)
    assert [type(one).__name__ for one in story.events] == ["RunRequested", "PlaceWanted", "AttemptQueued"]
    assert story.statuses == {"load": "ready", "other": "queued"}


def test_what_it_weighs_and_its_priority_go_with_the_wish() -> None:
    story = given(requested(job("load", pool={"name": POOL, "weight": 4}, priority=7)))
    (wish,) = [one for one in story.events if isinstance(one, events.PlaceWanted)]
    assert (wish.weight, wish.priority) == (4, 7)
    assert effects_of_run(story.run, story.events) == [AskForPlace(POOL, place(), 4, 7, NOON)]


def test_a_granted_place_starts_the_attempt() -> None:
    given(requested(pooled())).when(take()).then(taken(), queued("load"))


def test_a_granted_place_waits_with_the_job_when_the_run_has_no_room() -> None:
    story = given(requested(pooled(), job("other"), parallelism=1)).when(take()).then(taken())
    assert holds_place(story.run, POOL, place())
    story.given(queued_handle("other")).when(report("other", "succeeded")).then(succeeded("other"), queued("load"))


def queued_handle(name: str) -> Fact:
    return submitted(name, handle=f"h-{name}")


def test_a_run_asks_for_no_more_places_than_it_could_use() -> None:
    story = given(requested(pooled("a"), pooled("b"), pooled("c"), parallelism=2))
    assert [one.job for one in story.events if isinstance(one, events.PlaceWanted)] == ["a", "b"]
    story = story.given(take("a"), queued_handle("a"))
    story.when(report("a", "succeeded")).then(succeeded("a"), wanted("c"))


def test_jobs_that_wait_to_ask_do_not_hold_up_those_of_other_pools_or_none() -> None:
    story = given(requested(pooled("a"), pooled("b"), job("c", pool="other"), job("d"), parallelism=1))
    assert [one.job for one in story.events if isinstance(one, events.PlaceWanted)] == ["a", "c"]
    assert story.statuses["d"] == "queued"


def test_every_try_asks_anew_and_its_delay_holds_no_place() -> None:
    story = given(requested(pooled(retry=2)), take(), queued_handle("load"))
    story = story.when(report("load", "failed", exit_code=1)).then(failed("load", retry_at=NOON + minutes(1)))
    assert effects_of_run(story.run, story.events[-1:]) == [GiveBackPlace(POOL, place())]
    assert not holds_place(story.run, POOL, place())
    story.given(minutes(1)).when(Advance()).then(wanted(attempt=2)).when(take(attempt=2)).then(
        taken(attempt=2), queued("load", 2)
    )


def test_the_place_is_given_back_when_the_attempt_ends() -> None:
    story = given(requested(pooled()), take(), queued_handle("load"))
    assert holds_place(story.run, POOL, place())
    story = story.when(report("load", "succeeded")).then(succeeded("load"), finished("succeeded"))
    assert effects_of_run(story.run, story.events[-2:]) == [GiveBackPlace(POOL, place())]
    assert not holds_place(story.run, POOL, place())


def test_an_attempt_in_doubt_keeps_its_place() -> None:
    story = given(requested(pooled()), take(), queued_handle("load"))
    story = story.given(fact(events.AttemptDoubted, job="load", attempt=1, policy="wait", reason="", resolve_at=None))
    assert holds_place(story.run, POOL, place())


def test_a_stop_that_is_not_confirmed_keeps_the_place() -> None:
    story = given(requested(pooled()), take(), queued_handle("load"), CancelRun("ada"))
    assert holds_place(story.run, POOL, place())
    story = story.given(report("load", "cancelled"))
    assert not holds_place(story.run, POOL, place())


def test_a_grant_for_what_is_over_changes_nothing() -> None:
    story = given(requested(pooled()), CancelJob(JobName("load"), "ada"))
    story.when(take()).then_nothing()
    assert not holds_place(story.run, POOL, place())
    assert not wants_place(story.run, POOL, place())


def test_a_grant_of_another_attempt_pool_or_round_changes_nothing() -> None:
    story = given(requested(pooled()))
    story.when(take(attempt=2)).then_nothing()
    story.when(take(round_=2)).then_nothing()
    story.when(TakePlace(JobName("load"), 1, 1, PoolName("other"))).then_nothing()


def test_cancelling_leaves_the_line() -> None:
    story = given(requested(pooled()))
    story = story.when(CancelRun("ada")).then(cancel_requested(), settled("load", "cancelled"), finished("cancelled"))
    assert effects_of_run(story.run, story.events[-2:]) == [GiveBackPlace(POOL, place())]


def test_an_attempt_that_a_person_gave_up_gives_its_place_back() -> None:
    story = given(requested(pooled()), take(), queued_handle("load"))
    story = story.given(fact(events.AttemptDoubted, job="load", attempt=1, policy="wait", reason="", resolve_at=None))
    story = story.given(MarkJob(JobName("load"), "failed", "ada", "I looked"))
    assert GiveBackPlace(POOL, place()) in effects_of_run(story.run, story.events[-2:])
    assert not holds_place(story.run, POOL, place())


def test_a_line_that_takes_too_long_is_a_queue_timeout() -> None:
    story = given(requested(pooled(timeouts={"queue_minutes": 5})))
    story = story.given(minutes(5)).when(Advance()).then(settled("load", "timed_out"), finished("failed"))
    assert effects_of_run(story.run, story.events[-2:]) == [GiveBackPlace(POOL, place())]


def test_a_new_round_asks_under_its_own_number() -> None:
    plan = document(pooled())
    story = given(requested(plan), CancelRun("ada"), reopen(plan, "load"))
    assert wants_place(story.run, POOL, place(round_=2))
    assert not wants_place(story.run, POOL, place())
    story.when(take()).then_nothing()
    story.when(take(round_=2)).then(taken(), queued("load"))


def test_a_job_without_a_pool_asks_nobody() -> None:
    story = given(requested(job("load")))
    assert not story.run.pools
    assert not [one for one in effects_of_run(story.run, story.events) if isinstance(one, AskForPlace)]


# --- what was lost ----------------------------------------------------------------------------------------------------


def test_a_request_that_was_lost_is_made_again() -> None:
    story = given(requested(pooled()))
    due = due_of_run(story.run, story.now)
    assert due == NOON + seconds(HANDOVER_SECONDS)
    assert pending_of_run(story.run, NOON + seconds(HANDOVER_SECONDS)) == [AskForPlace(POOL, place(), 1, 0, NOON)]
    assert pending_of_run(story.run, NOON, everything=True) == [AskForPlace(POOL, place(), 1, 0, NOON)]


def test_a_grant_that_was_lost_is_told_again_to_whoever_asks_again() -> None:
    story = given_pool(size(1), ask("a@1"), ask("b@1"))
    assert effects_of_pool(story.pool, story.events) == [TellOfPlace(POOL, place("a@1"))]
    assert pending_of_places(story.pool, [place("a@1"), place("b@1")]) == [TellOfPlace(POOL, place("a@1"))]


def test_a_release_that_was_lost_is_found_by_looking_at_the_holders() -> None:
    story = given_pool(size(1), ask("a@1"))
    due = due_of_pool(story.pool, story.now)
    assert due == NOON + seconds(CHECK_HOLDERS_SECONDS)
    assert pending_of_pool(story.pool, NOON + timedelta(seconds=1)) == []
    assert pending_of_pool(story.pool, due) == [CheckPlaces(POOL)]
    assert pending_of_pool(story.pool, NOON, everything=True) == [CheckPlaces(POOL)]
    assert due_of_pool(story.given(give_back("a@1")).pool, NOON) is None
    assert due_of_pool(NoPool(), NOON) is None
    assert pending_of_pool(NoPool(), NOON) == []


def test_what_was_cut_goes_on_by_itself() -> None:
    pool = given_pool(size(0), ask("a@1")).given(resized(1)).pool
    assert pending_of_pool(pool, NOON) == [AdvancePool(POOL)]
    assert due_of_pool(pool, NOON) == NOON + seconds(1)


def test_a_snapshot_knows_who_waits_for_places() -> None:
    story = given(requested(pooled("a"), pooled("b"), pooled("c"), job("d"), parallelism=1), take("a"))
    story = story.given(fact(events.JobSettled, job="b", outcome="skipped"))
    assert same(snapshot.load(snapshot.dump(story.run), plans), story.run)


# --- verify -----------------------------------------------------------------------------------------------------------


def checked(story: Story, stream: str) -> list[str]:
    """What the checker finds in the story's history."""
    previous, records = FIRST_HASH, []
    for version, (at, committed) in enumerate(story.history, 1):
        record = codec.record_of(
            StreamName(stream),
            version=version,
            commit_id=CommitId(f"c{version}"),
            at=at,
            by="test",
            cause="test",
            previous_hash=previous,
            events=committed,
        )
        records.append(record)
        previous = record.hash
    found = verify_stream(records, plans)
    return [f"{one.invariant} {one.message}" for one in found]


def test_a_life_with_a_pool_is_found_to_be_right() -> None:
    story = given(requested(pooled(retry=2), job("other"), parallelism=1), take(), queued_handle("other"))
    story = story.given(report("other", "succeeded"), queued_handle("load"), report("load", "failed", exit_code=1))
    story = story.given(minutes(1), Advance(), take(attempt=2), submitted("load", 2), report("load", "succeeded", 2))
    assert story.run.finished
    assert checked(story, f"run#{RUN}") == []
    line = given_pool(size(2), ask("a@1"), ask("b@1", 5), ask("c@1"), give_back("c@1"), give_back("a@1"), size(1))
    assert checked(line, f"pool#{POOL}") == []


def test_more_held_than_there_is_is_found() -> None:
    """I5, at the very event."""
    story = given_pool(size(1), ask("a@1"), ask("b@1"), granted("b@1"))
    assert checked(story, f"pool#{POOL}") == ["I5 attempt 1 of load in b@1 makes 2 held, and the capacity is 1"]


def test_an_attempt_that_began_without_its_place_is_found() -> None:
    story = given(requested(pooled()), take())
    history = tuple((at, tuple(one for one in commit if one.type != "PlaceTaken")) for at, commit in story.history)
    (found, *_) = checked(Story(story.state, story.now, history), f"run#{RUN}")
    assert found == "I5 attempt 1 of load began without a place in its pool"


# --- why --------------------------------------------------------------------------------------------------------------


def test_why_names_the_pool_its_holders_the_place_in_the_line_and_the_expected_start() -> None:
    run = given(requested(pooled())).run
    ours = RequestPlace(POOL, place(), 1, 0, NOON)
    # It held its place for ten minutes before, and so will it now.
    line = given_pool(size(1), ask("etl@1"), minutes(10), give_back("etl@1"), ask("etl@2"), ask("etl@3"), ours)
    (told,) = why_job(run, JobName("load"), NOON, pools={POOL: line.pool})
    assert told.code == "pool"
    assert told.holders == ("load of etl@2",)
    assert told.message == (
        "load waits for a place in the pool warehouse: 1 of 1 is held by load of etl@2. 1 other stands in the line before it. "
        "Going by how long these jobs usually take, its turn comes at about 2026-03-02T12:30:00Z."
    )


def test_why_says_when_nothing_is_known_and_names_no_run_that_the_reader_may_not_see() -> None:
    run = given(requested(pooled())).run
    line = given_pool(ask("etl@1"), RequestPlace(POOL, place(), 1, 0, NOON))
    (told,) = why_run(run, RUN, NOON, workflow=None, plan=None, pools={POOL: line.pool}, names_others=False)
    assert "etl@1" not in str(told)
    assert "held by 1 job of other workflows" in told.message
    assert "Nobody has set its capacity, so it is 1." in told.message
    assert "When its turn comes is not known." in told.message


def test_why_says_that_a_pool_is_closed_or_has_not_heard_of_it_or_that_the_run_asks_for_no_more() -> None:
    run = given(requested(pooled("load"), pooled("next"), parallelism=1)).run
    assert pools_of(run) == [POOL]
    closed = given_pool(size(0), RequestPlace(POOL, place(), 1, 0, NOON)).pool
    (told,) = why_job(run, JobName("load"), NOON, pools={POOL: closed})
    assert "it is closed" in told.message
    assert told.clears == "runfold pools set warehouse CAPACITY"
    (told,) = why_job(run, JobName("load"), NOON)
    assert "has not heard of it yet" in told.message
    granted_one = given_pool(RequestPlace(POOL, place(), 1, 0, NOON)).pool
    (told,) = why_job(run, JobName("load"), NOON, pools={POOL: granted_one})
    assert "was granted a place" in told.message
    (told,) = why_job(run, JobName("next"), NOON)
    assert told.message.startswith("next needs a place in the pool warehouse, and 1 job of this run")
