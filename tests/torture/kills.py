"""`kill -9` of the engine at many random instants, and of wrappers and programs, over a load of everything at once."""

import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any

from shared.bootstrap import utc_now
from shared.ids import JobName, RunId
from shared.state.run import Doubted
from tests.torture.audit import attempts_of, audit, dense, doubts_of, holders
from tests.torture.ground import BY, Ground
from tests.torture.telling import Outcome, Teller

VARIANTS = 5
LIVE_MAX = 20
"""Runs that are asked for at a time: more would starve a small machine."""
CLOCK_EVERY = timedelta(seconds=5)
WRAPPER_SHARE, PROGRAM_SHARE = 0.15, 0.15
"""Of the kills of the engine, those that come with the kill of a wrapper, or of a program."""
EARLY_SHARE = 0.15
"""Kills while the engine is still starting."""
UP_SECONDS_MAX = 0.9
END_SECONDS = 240.0


def kills(ground: Ground, teller: Teller, seed: int, count: int) -> Outcome:
    randomness = random.Random(seed)
    people = _People(ground, randomness)
    for number in range(VARIANTS):
        ground.register(f"work{number}", _jobs(ground, randomness), parallelism=8)
    steady = [{"name": "tick", "type": "ecs", "image": "x", "command": ground.script(0.3)}]
    rule = {"rate": f"{CLOCK_EVERY.total_seconds():.0f} seconds", "catchup": "all"}
    ground.register("clockwork", steady, schedule=rule, overlap="queue")
    hasty = [{"name": "tick", "type": "ecs", "image": "x", "command": ground.script(3.0)}]
    ground.register("hasty", hasty, schedule={"rate": "2 seconds", "catchup": "latest"}, overlap="skip")
    began = time.monotonic()
    starting = []
    for number in range(1, count + 1):
        if randomness.random() < EARLY_SHARE:
            ground.spawn_engine()
            time.sleep(randomness.uniform(0.0, 0.6))
        else:
            starting.append(ground.start_engine())
            people.busy_for(randomness.uniform(0.0, UP_SECONDS_MAX))
        _kill_with_company(ground, randomness)
        if randomness.random() < 0.2:
            # Dead for a while; people ask all the same, and programs end unseen.
            people.busy_for(randomness.uniform(0.0, 0.4))
        if number % 25 == 0:
            teller.progress(f"{number} kills in {time.monotonic() - began:.0f} s, {len(ground.asked)} runs asked for")
    ground.start_engine()
    for workflow in ("clockwork", "hasty"):
        ground.unregister(workflow)
    ground.finish(seconds=END_SECONDS)
    ground.wait_until(
        lambda: not holders(ground, "clockwork") + holders(ground, "hasty"), "the workflows to hear of it"
    )
    ground.finish(seconds=END_SECONDS)
    code = ground.end_engine()
    problems = audit(ground) + dense(ground, "clockwork", CLOCK_EVERY)
    if code:
        problems.append(f"the engine ended with {code} when it was asked to end")
    attempts = attempts_of(ground)
    ran = sum(
        (one.ended_at - one.started_at).total_seconds()
        for one in attempts
        if one.ended_at is not None and one.started_at is not None
    )
    ends = Counter(one.status for one in attempts)
    told = ", ".join(f"{number} {status}" for status, number in sorted(ends.items()))
    summary = (
        f"{ground.kills['engine']} kills of the engine, {ground.kills['wrapper']} of wrappers, {ground.kills['program']} of "
        f"programs in {time.monotonic() - began:.0f} s; {len(ground.runs())} runs, {len(attempts)} attempts ({told}), "
        f"{doubts_of(ground)} in doubt, {ran / 60:.0f} minutes of programs; {people.told()}; "
        f"up again after {sorted(starting)[len(starting) // 2]:.2f} s (median)"
    )
    return Outcome(summary, problems)


def _kill_with_company(ground: Ground, randomness: random.Random) -> None:
    draw = randomness.random()
    victims = ground.wrappers() if draw < WRAPPER_SHARE + PROGRAM_SHARE else []
    if not victims:
        ground.kill_engine()
        return
    wrapper, key = randomness.choice(victims)
    engine_first = randomness.random() < 0.5
    if engine_first:
        ground.kill_engine()
    if draw < WRAPPER_SHARE:
        ground.kill_wrapper(wrapper, key)
    else:
        ground.kill_program(wrapper, key)
    if not engine_first:
        # Between learning of it and noting it, at best.
        time.sleep(randomness.choice((0.0, 0.001, 0.005, 0.05)))
        ground.kill_engine()


def _jobs(ground: Ground, randomness: random.Random) -> list[dict[str, Any]]:
    """Twelve jobs in four layers; some fail at first, some may be assumed lost."""
    jobs: list[dict[str, Any]] = []
    for layer in range(4):
        for place in range(3):
            fails_until = randomness.choice((0, 0, 0, 2, 3))
            job: dict[str, Any] = {
                "name": f"j{layer}{place}",
                "type": "ecs",
                "image": "x",
                "command": ground.script(round(randomness.uniform(0.02, 5.0), 2), fails_until=fails_until),
                "after": [f"j{layer - 1}{place}", f"j{layer - 1}{(place + 1) % 3}"] if layer else [],
                "stop_grace_seconds": 1,
            }
            if fails_until:
                job["retry"] = {"attempts": 4, "delay_seconds": round(randomness.uniform(0.0, 1.0), 2)}
            if randomness.random() < 0.3:
                job["doubt"] = {"policy": "assume_lost", "after_minutes": 0.02}
            jobs.append(job)
    return jobs


class _People:
    """They ask for runs, take back what they asked, do again what failed, and settle doubts, at any moment."""

    def __init__(self, ground: Ground, randomness: random.Random) -> None:
        self._ground = ground
        self._randomness = randomness
        self._asked = 0
        self._live: list[RunId] = []
        self._over: list[RunId] = []
        self._granted: Counter[str] = Counter()

    def busy_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, self._randomness.uniform(0.02, 0.3)))
            self._act()

    def told(self) -> str:
        return "people: " + ", ".join(f"{number} {what}" for what, number in sorted(self._granted.items()))

    def _act(self) -> None:
        self._sort()
        draw = self._randomness.random()
        control = self._ground.parts.control
        if len(self._live) < LIVE_MAX and draw < 0.6:
            self._asked += 1
            run = self._ground.request(f"work{self._randomness.randrange(VARIANTS)}", f"k{self._asked}")
            if run is not None:
                self._live.append(run)
                self._granted["requests"] += 1
        elif self._live and 0.6 < draw < 0.63:
            run = self._randomness.choice(self._live)
            self._count("cancels of runs", lambda: control.cancel(run, by=BY))
        elif self._live and 0.63 < draw < 0.7:
            run = self._randomness.choice(self._live)
            job = JobName(f"j{self._randomness.randrange(4)}{self._randomness.randrange(3)}")
            self._count("cancels of jobs", lambda: control.cancel(run, job=job, by=BY))
        elif self._over and 0.7 < draw < 0.76:
            run = self._over.pop(self._randomness.randrange(len(self._over)))
            if self._count("reruns", lambda: control.rerun(run, by=BY, failed=True, request=f"again {utc_now()}")):
                self._live.append(run)
        elif 0.8 < draw < 0.86:
            self._settle_one()

    def _count(self, what: str, question: Any) -> bool:
        granted = self._ground.ask(question)
        self._granted[what] += granted
        return granted

    def _settle_one(self) -> None:
        for run in self._live:
            state = self._ground.run(run)
            for name in state.live if state is not None else ():
                if state is not None and isinstance(state.jobs[name].phase, Doubted):
                    self._granted["doubts settled"] += self._ground.mark(run, name)
                    return

    def _sort(self) -> None:
        for run in list(self._live):
            state = self._ground.run(run)
            if state is not None and state.finished:
                self._live.remove(run)
                self._over = [*self._over[-20:], run]
