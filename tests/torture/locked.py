"""Another process holds the SQLite file exclusively for 1, 10 and 60 seconds, while jobs run and people ask."""

import subprocess
import sys
import time

from shared.stores.sqlite import BUSY_SECONDS
from tests.torture.audit import attempts_of, audit
from tests.torture.ground import Answer, Ground
from tests.torture.telling import Outcome, Teller

HOLDS_SECONDS = (1, 10, 60)
_HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""
ASK_AGAIN_SECONDS = 15.0
"""Between two questions while the file is held for long."""
CPU_SHARE_MAX = 0.05
"""Of the engine, while it can do nothing but wait."""
BACK_SECONDS = 20.0


def locked(ground: Ground, teller: Teller) -> Outcome:
    jobs = [
        {"name": f"j{number}", "type": "ecs", "image": "x", "command": ground.script(0.5 + number % 4)}
        for number in range(12)
    ]
    jobs += [
        {"name": f"k{number}", "type": "ecs", "image": "x", "command": ground.script(0.2), "after": [f"j{number}"]}
        for number in range(12)
    ]
    ground.register("work", jobs, parallelism=12)
    ground.start_engine()
    problems: list[str] = []
    told = []
    for seconds in HOLDS_SECONDS:
        ground.granted("work", f"before {seconds}")
        time.sleep(0.7)
        problems += _held(ground, seconds)
        began = time.monotonic()
        # The engine tries again every second, and each try waits for the file.
        ground.wait_until(lambda: not ground.unfinished(), "the engine to go on", seconds=BACK_SECONDS)
        told.append(f"{seconds} s: all done {time.monotonic() - began:.1f} s afterwards")
        teller.progress(f"held for {told[-1]}")
    problems += _ended_while_held(ground, teller)
    problems += audit(ground)
    said = ground.said()
    if "another process has been writing" not in said:
        problems.append("the engine never said that another process was writing")
    return Outcome(f"file held for {'; '.join(told)}; {len(attempts_of(ground))} attempts", problems)


def _held(ground: Ground, seconds: float) -> list[str]:
    """What goes wrong while the file is held for so long."""
    problems = []
    with _holding(ground, seconds) as holder:
        began, cpu = time.monotonic(), ground.cpu_seconds()
        keys: list[str] = []
        while holder.poll() is None:
            left = seconds - (time.monotonic() - began)
            key = f"while {seconds} {len(keys)}"
            answer = ground.call("run", "work", "--key", key)
            held_throughout = left > answer.seconds + 1
            problems += _judged(answer, f"asked {left:.0f} s before the end of {seconds} s", held_throughout)
            looked = ground.call("runs")
            if looked.code:
                problems.append(f"reading while the file is held ends with {looked.code}: {looked.error}")
            keys.append(key)
            time.sleep(min(ASK_AGAIN_SECONDS, max(seconds - (time.monotonic() - began), 0)))
        if seconds >= 10 and (share := (ground.cpu_seconds() - cpu) / (time.monotonic() - began)) > CPU_SHARE_MAX:
            problems.append(f"the engine used {share:.0%} of a processor while the file was held")
    # What was refused may be asked again under the same key, and what was granted is not done a second time.
    for key in keys:
        ground.granted("work", key)
    return problems


def _judged(answer: Answer, when: str, held_throughout: bool) -> list[str]:
    if answer.code == 0:
        return [f"{when}, granted although the file was held"] if held_throughout else []
    if answer.code != 75 or "another process has been writing" not in answer.error:
        return [f"{when}, answered {answer.code}: {answer.error}"]
    if answer.seconds > BUSY_SECONDS + 5:
        return [f"{when}, answered only after {answer.seconds:.1f} s"]
    return []


def _ended_while_held(ground: Ground, teller: Teller) -> list[str]:
    """SIGTERM while the file is held: the engine ends, and the next one goes on."""
    ground.granted("work", "last")
    time.sleep(0.5)
    with _holding(ground, 20):
        began = time.monotonic()
        code = ground.end_engine()
        seconds = time.monotonic() - began
    teller.progress(f"asked to end while the file is held: ended with {code} after {seconds:.1f} s")
    ground.start_engine()
    ground.finish()
    after = ground.end_engine()
    problems = (
        [] if code == 0 and seconds < 25 else [f"asked to end while the file was held: {code} after {seconds:.1f} s"]
    )
    return problems if after == 0 else [*problems, f"the engine ended with {after} when it was asked to end"]


def _holding(ground: Ground, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(ground.home.database), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder
