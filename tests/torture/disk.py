"""The disk fills up under load, again and again, with and without a kill while it is full, and is emptied again.

Real ENOSPC: the home lies on a small file system in memory of its own, which only root may mount. The ledger and the engine's log
lie elsewhere, so that they can tell what happened meanwhile.
"""

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.torture.audit import attempts_of, audit, doubts_of
from tests.torture.ground import Answer, Ground
from tests.torture.telling import Outcome, Teller, Unfit

MEGABYTES = 24
ROUNDS = 15
KILL_SHARE = 0.4
"""Rounds in which the engine is killed while the disk is full, and started again on it."""
LEFT_BYTES_MAX = 96 * 1024
"""Left free at most: how far a write comes differs."""
END_SECONDS = 60.0
_FULL = ("disk is full", "No space left")


def disk(ground: Ground, teller: Teller, seed: int) -> Outcome:
    place = ground.path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise Unfit(f"a small file system cannot be mounted, which needs root: {mounted.stderr.strip()}")
    beside = ground.path / "beside"
    beside.mkdir()
    try:
        small = Ground(beside, home=place / "home")
        try:
            return _filled(small, place / "ballast", teller, random.Random(seed))
        finally:
            small.close()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def _filled(ground: Ground, ballast: Path, teller: Teller, randomness: random.Random) -> Outcome:
    ground.register("work", _jobs(ground), parallelism=6)
    ground.start_engine()
    problems: list[str] = []
    answers: list[Answer] = []
    refused_starts = killed = 0
    for number in range(1, ROUNDS + 1):
        for more in range(2):
            ground.granted("work", f"{number} {more}")
        time.sleep(randomness.uniform(0.0, 1.2))
        _fill(ballast, randomness.choice((0, 0, randomness.randrange(LEFT_BYTES_MAX))))
        time.sleep(randomness.uniform(0.0, 1.5))
        ground.request("work", f"full {number}")
        answers += [ground.call("run", "work", "--key", f"full {number}"), ground.call("runs")]
        if randomness.random() < KILL_SHARE:
            killed += 1
            ground.kill_engine()
            ground.spawn_engine()
            assert ground.engine is not None
            until = time.monotonic() + 2.5
            while time.monotonic() < until and ground.engine.poll() is None:
                time.sleep(0.05)
            if (code := ground.engine.poll()) is not None:
                refused_starts += 1
                ground.engine = None
                if code != 75 or not any(words in ground.said()[-600:] for words in _FULL):
                    problems.append(f"started on a full disk, the engine ended with {code}:\n{ground.said()[-600:]}")
        ballast.unlink()
        if ground.engine is None:
            ground.start_engine()
        # What was refused may be asked again under the same key, and what was granted is not done a second time.
        ground.granted("work", f"full {number}")
        ground.finish(seconds=END_SECONDS)
        if number % 5 == 0:
            teller.progress(f"full and empty again {number} times, {len(attempts_of(ground))} attempts")
    code = ground.end_engine()
    if code:
        problems.append(f"the engine ended with {code} when it was asked to end")
    problems += [
        f"on a full disk a command answered {one.code}: {one.out}{one.error}"
        for one in answers
        if one.code and not (one.code == 75 and any(words in one.error for words in _FULL))
    ]
    if not any(words in ground.said() for words in _FULL):
        problems.append("the engine never said that the disk was full")
    problems += audit(ground)
    if len(ground.runs()) != 3 * ROUNDS:
        problems.append(f"{3 * ROUNDS} runs were asked for, and there are {len(ground.runs())}")
    refused = sum(one.code == 75 for one in answers)
    attempts = attempts_of(ground)
    failed = [one for one in attempts if one.status == "failed"]
    return Outcome(
        f"tmpfs of {MEGABYTES} MB full {ROUNDS} times; {killed} kills meanwhile, of the starts after them {refused_starts} ended "
        f"with 75; of {len(answers)} commands {refused} ended with 75; {len(ground.runs())} runs, {len(attempts)} attempts, "
        f"{len(failed)} failed ({', '.join(sorted({str(one.failure) for one in failed})) or 'none'}), {doubts_of(ground)} in doubt",
        problems,
    )


def _jobs(ground: Ground) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    for number in range(8):
        jobs.append(
            {
                "name": f"j{number}",
                "type": "ecs",
                "image": "x",
                "command": ground.script(0.2 + 0.15 * number, output_bytes=3000),
                "after": [f"j{number - 4}"] if number >= 4 else [],
                "retry": {kind: {"attempts": 10, "delay_seconds": 0.5} for kind in ("infrastructure", "capacity")},
            }
        )
    return jobs


def _fill(ballast: Path, left: int) -> None:
    """Until nothing more fits, but for so many bytes."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
        if left:
            os.ftruncate(file.fileno(), max(file.tell() - left, 0))
