"""Thousands of programs at once, an engine killed beside them and started again with few descriptors, and a user who may not fork.

Programs wait at a gate, a pipe, without using the processor: so all of them are there at the same moment, however slow the machine.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

from shared.ids import run_stream
from tests.torture.audit import attempts_of, audit
from tests.torture.ground import Ground, Torn
from tests.torture.telling import Outcome, Teller, Unfit

DESCRIPTORS = 1_024
"""What most systems give a process."""
BEGIN_SECONDS = 240.0
END_SECONDS = 300.0
QUIET_SECONDS = 10.0
MEGABYTES_MAX = 400
NOBODY = 54_321
"""A user's number that nobody has, so that its processes are ours alone."""
NPROC = 120
FEW_JOBS = 300
CAPACITY_SECONDS = 400.0


def processes(ground: Ground, teller: Teller, count: int) -> Outcome:
    thousands = _thousands(ground, teller, count)
    other = ground.path / "few"
    other.mkdir()
    few = Ground(other)
    try:
        refused = _few_allowed(few, teller)
    finally:
        few.close()
    return Outcome(f"{thousands.summary}; {refused.summary}", thousands.problems + refused.problems)


def _thousands(ground: Ground, teller: Teller, count: int) -> Outcome:
    ground.prefix = ["prlimit", f"--nofile={DESCRIPTORS}"]
    gate = _Gate(ground)
    ground.register("many", [_waiting(ground, gate, number) for number in range(count)], parallelism=count)
    ground.start_engine()
    began = time.monotonic()
    ground.granted("many", "one")
    reached = _climb(ground, teller, count)
    climbed, cpu = time.monotonic() - began, ground.cpu_seconds()
    high = _Use(ground)
    teller.progress(f"{reached} programs at once after {climbed:.0f} s; the engine {high.told()}")
    ground.kill_engine()
    up = ground.start_engine()
    # Until it has taken up all of them, and what it costs to watch them.
    quiet = ground.cpu_seconds()
    time.sleep(QUIET_SECONDS)
    share = (ground.cpu_seconds() - quiet) / QUIET_SECONDS
    again = _Use(ground)
    teller.progress(
        f"killed and up again after {up:.1f} s beside them; the engine {again.told()}, {share:.0%} of a processor"
    )
    began = time.monotonic()
    gate.open()
    ground.wait_until(lambda: gate.opened() and not ground.unfinished(), "every program to end", seconds=END_SECONDS)
    ended = time.monotonic() - began
    last = _Use(ground)
    code = ground.end_engine()
    problems = audit(ground)
    if code:
        problems.append(f"the engine ended with {code} when it was asked to end")
    for use in (high, again, last):
        if use.megabytes > MEGABYTES_MAX or use.descriptors > DESCRIPTORS:
            problems.append(f"the engine {use.told()}")
    if reached < count:
        problems.append(f"only {reached} of {count} were there at once")
    return Outcome(
        f"{reached} programs at once after {climbed:.0f} s ({1000 * cpu / max(reached, 1):.1f} ms of the engine's processor time "
        f"each), the engine {high.told()}; killed, up again beside them in {up:.1f} s with {DESCRIPTORS} descriptors allowed: "
        f"{again.told()}, {share:.0%} of a processor; all ended in {ended:.0f} s",
        problems,
    )


def _few_allowed(ground: Ground, teller: Teller) -> Outcome:
    """fork fails: in the engine with EAGAIN, in a wrapper as its shell says it."""
    gate = _Gate(ground)
    ground.register("few", [_waiting(ground, gate, number) for number in range(FEW_JOBS)], parallelism=FEW_JOBS)
    ground.prefix = _few_processes()
    if os.geteuid() == 0:
        for path in (ground.path, *ground.path.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    ground.start_engine()
    began = time.monotonic()
    ground.granted("few", "one")
    together = 0

    def ended() -> bool:
        nonlocal together
        lines = ground.lines()
        together = max(together, sum(1 if line.word == "begin" else -1 for line in lines))
        time.sleep(0.5)
        gate.open()
        return gate.opened() and not ground.unfinished()

    try:
        ground.wait_until(lambda: "cannot start it now" in _reasons(ground), "fork to fail", seconds=60)
        ground.wait_until(ended, "every program to run", seconds=CAPACITY_SECONDS)
    finally:
        gate.open()
    seconds = time.monotonic() - began
    code = ground.end_engine()
    problems = audit(ground)
    if code:
        problems.append(f"the engine ended with {code} when it was asked to end")
    attempts = attempts_of(ground)
    failed = [one for one in attempts if one.status == "failed"]
    classes = {str(one.failure) for one in failed}
    if classes != {"capacity"}:
        problems.append(f"what cannot be forked failed as {sorted(classes)}: {failed[0].reason if failed else ''}")
    succeeded = sum(one.status == "succeeded" for one in attempts)
    if succeeded != FEW_JOBS:
        problems.append(f"{succeeded} of {FEW_JOBS} programs ran where few processes are allowed")
    teller.progress(
        f"with {NPROC} processes allowed {FEW_JOBS} jobs ended in {seconds:.0f} s, {len(failed)} starts refused"
    )
    return Outcome(
        f"{FEW_JOBS} jobs with {NPROC} processes allowed: at most {together} at once, {len(failed)} starts refused as capacity, all "
        f"ran once, {seconds:.0f} s",
        problems,
    )


class _Gate:
    """Programs wait in front of it until it is open."""

    def __init__(self, ground: Ground) -> None:
        self.pipe = ground.path / "gate"
        self.mark = ground.path / "open"
        os.mkfifo(self.pipe)
        self.pipe.chmod(0o644)

    def open(self) -> None:
        self.mark.touch()

    def opened(self) -> bool:
        """Let go of those that were on their way to the gate when it was opened."""
        with contextlib.suppress(OSError):
            # Without somebody who reads, this fails, and nobody has to be let go.
            os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
        return True


def _waiting(ground: Ground, gate: _Gate, number: int) -> dict[str, object]:
    """A job of one process that waits at the gate; everything in it is built into the shell."""
    me = '"$RUNFOLD_RUN" "$RUNFOLD_JOB" "$RUNFOLD_ATTEMPT"'
    script = (
        f"echo begin {me} >>{ground.ledger}; [ -e {gate.mark} ] || read -r line <{gate.pipe}; "
        f"echo end {me} 0 >>{ground.ledger}; exit 0"
    )
    retry = {"capacity": {"attempts": 1000, "delay_seconds": 2}}
    return {"name": f"j{number}", "type": "ecs", "image": "x", "command": ["sh", "-c", script], "retry": retry}


def _climb(ground: Ground, teller: Teller, count: int) -> int:
    """How many programs there are at once, at most."""
    reached, since = 0, time.monotonic()
    give_up = since + BEGIN_SECONDS
    while reached < count and time.monotonic() < give_up:
        time.sleep(1)
        now = len(ground.ledger.read_bytes().splitlines())
        if now == reached and time.monotonic() - since > 60:
            # No more fit into this machine.
            break
        if now > reached:
            since = time.monotonic()
        if now // 1000 > reached // 1000:
            teller.progress(f"{now} programs wait")
        reached = now
        if ground.engine is None or ground.engine.poll() is not None:
            raise Torn(f"the engine ended by itself:\n{ground.said()[-2000:]}")
    return reached


class _Use:
    """Of the engine, now."""

    def __init__(self, ground: Ground) -> None:
        assert ground.engine is not None
        place = Path(f"/proc/{ground.engine.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        self.megabytes = int(status["VmHWM"].split()[0]) / 1024
        self.descriptors = len(list((place / "fd").iterdir()))

    def told(self) -> str:
        return f"used {self.megabytes:.0f} MB at most and has {self.descriptors} descriptors"


def _few_processes() -> list[str]:
    """Words that let the command after them have no more than `NPROC` processes."""
    if os.geteuid():
        # Others of the same user count as well.
        return ["prlimit", f"--nproc={_mine() + NPROC}"]
    if shutil.which("setpriv") is None:
        raise Unfit("root is not bound by RLIMIT_NPROC, and there is no setpriv to become somebody else")
    # Root is not bound by the limit. Whoever it becomes may still read and write everything, the interpreter's files among it.
    files = "-all,+dac_override"
    become = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", f"--inh-caps={files}", f"--ambient-caps={files}"]
    return [*become, "prlimit", f"--nproc={NPROC}"]


def _mine() -> int:
    me = os.getuid()
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found += len(list((entry / "task").iterdir())) if entry.stat().st_uid == me else 0
    return found


def _reasons(ground: Ground) -> str:
    return " ".join(record.body for run in ground.runs() for record in ground.parts.loader.records(run_stream(run)))
