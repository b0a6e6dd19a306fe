"""Whatever is asked of a run with fan-outs, in whatever order: its counts are those of its items, and it comes to its end."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from shared.decide.commands import (
    Advance,
    CancelJob,
    CancelRun,
    MarkJob,
    RecordReport,
    RecordSilence,
    ReopenRun,
    RequestRun,
    RunCommand,
)
from shared.effects import AdvanceRun, ObserveAttempt, StartAttempt, StopAttempt, needs_advance, pending_of_run
from shared.errors import NotFound, Rejected
from shared.ids import JobName, item_name
from shared.state import snapshot
from shared.state.fan import BAD_ITEMS
from shared.state.run import Backoff, Claimed, Done, Doubted, Queued, Ready, Run, Submitted
from shared.usecases.verify.run import RunChecker
from shared.usecases.verify.violation import Handles
from tests.rules.sentences import same
from tests.rules.walks import DOCUMENT, NOON, Walk, job, plan_of, request_of

SEEDS = range(150)
STEPS = 60
TURNS_MAX = 300


def _plan(rng: random.Random) -> Any:
    jobs = []
    for number in range(rng.randint(1, 4)):
        fields: dict[str, Any] = {"retry": {"attempts": rng.randint(1, 3), "delay_seconds": rng.choice([0, 30])}}
        if rng.random() < 0.75:
            items: Any = rng.choice(
                [[], ["a"], ["a", "a", "b"], {"range": 7}, "{{ params.files }}", {"range": "{{ params.n }}"}]
            )
            for_each: dict[str, Any] = {"items": items} if rng.random() < 0.8 else {"parameter": "files"}
            if rng.random() < 0.5:
                for_each["max_parallel"] = rng.randint(1, 3)
            if rng.random() < 0.5:
                for_each["tolerate"] = rng.choice([{"count": 1}, {"percent": 50}])
            fields["for_each"] = for_each
        if rng.random() < 0.3:
            fields["timeouts"] = rng.choice([{"queue_minutes": 5}, {"run_minutes": 10}, {"total_minutes": 30}])
        if rng.random() < 0.3:
            fields["doubt"] = {"policy": rng.choice(["assume_lost", "ask"]), "after_minutes": 20}
        after = [f"j{before}" for before in range(number) if rng.random() < 0.4]
        jobs.append(job(f"j{number}", *after, when=rng.choice(["all_succeeded", "all_done", "any_failed"]), **fields))
    return plan_of(*jobs, parallelism=rng.randint(1, 5))


def _step(rng: random.Random, run: Run) -> RunCommand:
    names = [*run.plan.jobs, *run.items]
    for name, fan in run.fans.items():
        names += [item_name(name, rng.randrange(fan.count))] if fan.count else []
    names.sort()
    if run.finished:
        again = tuple(rng.sample(names, min(rng.randint(0, 2), len(names))))
        return ReopenRun(again, rng.random() < 0.5, DOCUMENT, 1, (), "ada", "again", str(rng.random()))
    chance = rng.random()
    if chance < 0.2:
        return Advance()
    if chance < 0.23:
        return CancelRun("ada")
    if chance < 0.28:
        return CancelJob(rng.choice(names), "ada", "not this one")
    if chance < 0.32:
        outcome: Any = rng.choice(["succeeded", "failed", "skipped"])
        return MarkJob(rng.choice(names), outcome, "ada", "looked at it")
    under_way = sorted(name for name in run.live if run.job(name).is_open)
    name = rng.choice(under_way or names)
    phase = run.job(name).phase
    attempt = phase.attempt if isinstance(phase, Queued | Claimed | Submitted | Doubted) else 1
    if chance < 0.36:
        return RecordSilence(name, attempt, "no answer")
    return _report(rng, name, attempt)


def _report(rng: random.Random, name: JobName, attempt: int) -> RecordReport:
    status: Any = rng.choice(["submitted", "running", "succeeded", "succeeded", "failed", "cancelled", "missing"])
    handle: Any = f"arn:{name}:{attempt}"
    outputs = {"n": rng.randint(0, 9)} if status == "succeeded" else {}
    return RecordReport(name, attempt, status, handle=handle if status != "missing" else None, outputs=outputs)


def _check(run: Run) -> None:
    """What is counted is what a look at every item counts."""
    pieces = 0
    for name, fan in run.fans.items():
        states = [run.job(item_name(name, index)) for index in range(fan.count)]
        done = [state.phase for state in states if isinstance(state.phase, Done)]
        assert Counter(phase.outcome for phase in done) == Counter(fan.outcomes)
        assert fan.left == fan.count - len(done)
        assert fan.active == sum(state.is_open for state in states)
        assert list(_bits(fan.todo)) == [index for index, one in enumerate(states) if isinstance(one.phase, Ready)]
        assert list(_bits(fan.resting)) == [index for index, one in enumerate(states) if isinstance(one.phase, Backoff)]
        stopping = [state.phase.stop for state in states if state.is_open]  # type: ignore[union-attr]
        assert fan.stopping == sum(stop is not None and stop.cause != "timeout" for stop in stopping)
        assert fan.max_parallel is None or fan.active <= fan.max_parallel
        assert fan.joined == isinstance(run.jobs[name].phase, Done)
        if fan.joined:
            assert fan.left == 0
            phase = run.jobs[name].phase
            assert isinstance(phase, Done)
            bad = sum(fan.outcomes.get(outcome, 0) for outcome in BAD_ITEMS)
            assert phase.marked_by or (phase.outcome == "succeeded") == (bad <= fan.tolerated)
        else:
            pieces += fan.left - 1
    assert run.fanned == pieces
    assert set(run.live) <= {*run.jobs, *run.items}
    assert not needs_advance(run, NOON) or run.finished is False
    loaded = snapshot.load(snapshot.dump(run), lambda _: run.plan)
    assert same(loaded, run)


def _bits(ranks: int) -> list[int]:
    return [index for index in range(ranks.bit_length()) if ranks >> index & 1]


def _to_its_end(walk: Walk) -> None:
    """Targets answer and time passes, driven by nothing but what is pending."""
    for _ in range(TURNS_MAX):
        if walk.run.finished:
            return
        walk.now += timedelta(minutes=5)
        for effect in pending_of_run(walk.run, walk.now, everything=True):
            if isinstance(effect, AdvanceRun):
                walk.do(Advance())
            elif isinstance(effect, StartAttempt | StopAttempt | ObserveAttempt):
                missing = RecordReport(effect.job, effect.attempt, "missing")
                ended = RecordReport(effect.job, effect.attempt, "succeeded", handle=None)
                walk.do(missing, ended)
    raise AssertionError(f"it never ends: {walk.run.status}")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_with_fan_outs_counts_right_stays_true_and_ends(seed: int) -> None:
    rng = random.Random(seed)
    plan = _plan(rng)
    parameters = {"files": ["x", "x", {"y": 1}], "n": rng.choice([0, 3, "three"])}
    walk = Walk(plan).do(RequestRun(request_of(plan, f"nightly@{seed}", parameters=parameters)))
    for _ in range(STEPS):
        walk.now += timedelta(seconds=rng.choice([0, 1, 20, 90, 900]))
        try:
            walk.do(_step(rng, walk.run))
        except (Rejected, NotFound):
            continue
        _check(walk.run)
    _to_its_end(walk)
    _check(walk.run)
    checker = RunChecker(walk.records()[0].stream, walk.plans, Handles())
    wrong = []
    for (at, events), cause in zip(walk.commits, walk.causes, strict=True):
        for event in events:
            wrong += list(checker.check(event, at, cause))
    assert wrong == []
