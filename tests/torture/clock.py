"""The wall clock is set back an hour and forward an hour under a running engine, and between two engines.

The engine sees another wall clock through libfaketime (Debian's package `faketime`), whose offset is read from a file at every look
at the clock. Its monotonic clock is left alone, as the kernel's is. Programs and wrappers keep the machine's clock.
"""

import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

from shared.ids import RunId
from tests.torture.audit import attempts_of, audit, instants
from tests.torture.ground import BY, Ground, Torn
from tests.torture.telling import Outcome, Teller, Unfit

HOUR = timedelta(hours=1)
STEPS = (-HOUR, timedelta(0), HOUR, timedelta(0), -HOUR, HOUR)
"""Offsets of the engine's clock, one after another: back and forward, from where it began."""
KILL_BEFORE = (3, 5)
"""Before these steps the engine is killed; the next one starts under the new clock."""
STEADY_SECONDS = 6.0
"""Under each clock."""
SOON_SECONDS = 30.0
"""Far below an hour, far above what anything here takes on a busy machine."""
GRACE_SECONDS = 2
HOURLY = 60
"""Instants an hour, of the schedule that catches up with all."""
CPU_SHARE_MAX = 0.6


def clock(ground: Ground, teller: Teller) -> Outcome:
    offset = ground.path / "offset"
    _set(ground, offset, timedelta(0))
    ground.environment |= {
        "LD_PRELOAD": str(_library()),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    _check_the_trick(ground, offset)
    ground.register(
        "work",
        [
            {"name": "first", "type": "ecs", "image": "x", "command": ground.script(4)},
            {"name": "then", "type": "ecs", "image": "x", "command": ground.script(0.1), "after": ["first"]},
        ],
    )
    tick = [{"name": "tick", "type": "ecs", "image": "x", "command": ground.script(0.05)}]
    ground.register("pulse", tick, schedule={"rate": "2 seconds"})
    ground.register("minutely", tick, schedule={"rate": "1 minute", "catchup": "all"})
    stubborn = [
        "sh",
        "-c",
        f'trap "" TERM; echo begin "$RUNFOLD_RUN" "$RUNFOLD_JOB" "$RUNFOLD_ATTEMPT" >>{ground.ledger}; '
        "while :; do sleep 0.1; done",
    ]
    ground.register(
        "stubborn",
        [{"name": "s", "type": "ecs", "image": "x", "command": stubborn, "stop_grace_seconds": GRACE_SECONDS}],
    )
    ground.start_engine()
    time.sleep(STEADY_SECONDS)
    problems: list[str] = []
    told = []
    for number, step in enumerate(STEPS):
        hours = f"{step.total_seconds() / 3600:+.0f} h"
        before = Counter(instants(ground, "minutely") + instants(ground, "pulse"))
        work = ground.granted("work", f"before {number}")
        stop = ground.granted("stubborn", f"{number}")
        ground.wait_until(partial(_begun, ground, stop), "the stubborn program to begin", seconds=SOON_SECONDS)
        ground.parts.control.cancel(stop, by=BY)
        time.sleep(0.3)
        if number in KILL_BEFORE:
            ground.kill_engine()
        began = time.monotonic()
        _set(ground, offset, step)
        if number in KILL_BEFORE:
            ground.start_engine()
        cpu = ground.cpu_seconds()
        # What was under way goes on: a program's end, what follows it, the grace of a stop.
        for run, what in ((stop, "a stop"), (work, "a run"), (ground.granted("work", f"after {number}"), "a new run")):
            try:
                ground.wait_until(partial(_ended, ground, run), f"{what} across {hours}", seconds=SOON_SECONDS)
            except Torn as error:
                raise Torn(f"{error}\n{ground.call('why', str(run)).out}") from error
        told.append(f"{hours}: {time.monotonic() - began:.1f} s")
        time.sleep(STEADY_SECONDS)
        share = (ground.cpu_seconds() - cpu) / (time.monotonic() - began)
        if share > CPU_SHARE_MAX:
            problems.append(f"under {hours} the engine used {share:.0%} of a processor")
        new = Counter(instants(ground, "minutely") + instants(ground, "pulse")) - before
        teller.progress(
            f"clock at {hours}: what ran, stopped and was asked for ended {told[-1].partition(': ')[2]} after the step, "
            f"{sum(new.values())} scheduled runs, {share:.0%} of a processor"
        )
    for workflow in ("pulse", "minutely"):
        ground.unregister(workflow)
    ground.finish()
    code = ground.end_engine()
    if code:
        problems.append(f"the engine ended with {code} when it was asked to end")
    problems += audit(ground)
    for workflow in ("pulse", "minutely"):
        problems += [
            f"{workflow} ran {times} times for {at}"
            for at, times in Counter(instants(ground, workflow)).items()
            if times > 1
        ]
    whole_hour = instants(ground, "minutely")
    if len(whole_hour) < HOURLY:
        problems.append(
            f"the schedule that catches up ran {len(whole_hour)} times, over more than an hour of its clock"
        )
    said = ground.said()
    for words in ("the clock was set back", "the clock was set forward"):
        if words not in said:
            problems.append(f"the engine never said: {words}")
    return Outcome(
        f"{len(STEPS)} steps ({', '.join(told)}), {len(KILL_BEFORE)} of them with the engine killed; {len(whole_hour)} minutes and "
        f"{len(instants(ground, 'pulse'))} pulses, each once; {len(ground.runs())} runs, {len(attempts_of(ground))} attempts",
        problems,
    )


def _begun(ground: Ground, run: RunId) -> bool:
    return any(line.key.run == run for line in ground.lines())


def _ended(ground: Ground, run: RunId) -> bool:
    state = ground.run(run)
    return state is not None and state.finished


def _set(ground: Ground, offset: Path, step: timedelta) -> None:
    fresh = offset.with_suffix(".new")
    fresh.write_text(f"{step.total_seconds():+.0f}\n")
    fresh.rename(offset)
    ground.offset = step


def _library() -> Path:
    found = sorted(Path("/usr").glob("lib*/**/faketime/libfaketime.so.1"))
    if not found:
        raise Unfit("libfaketime is not there: apt-get install faketime")
    return found[0]


def _check_the_trick(ground: Ground, offset: Path) -> None:
    """That the library does move the wall clock, and does not touch the monotonic one."""
    _set(ground, offset, -HOUR)
    probe = "import time; print(time.time(), time.monotonic())"
    done = subprocess.run(
        [sys.executable, "-c", probe], env=ground.engine_environment(), capture_output=True, text=True, check=True
    )
    wall, monotonic = (float(word) for word in done.stdout.split())
    _set(ground, offset, timedelta(0))
    if abs(wall + HOUR.total_seconds() - time.time()) > 60 or abs(monotonic - time.monotonic()) > 60:
        raise Unfit(f"libfaketime does not do what is needed here: {done.stdout}")
