"""Where the torture happens: a home, the real `runfold up` on it as a process, people who ask, and a ledger of what programs did.

Every program of a job writes a line when it begins and one when it ends, into one file outside of the home: so what really ran is
known by other means than the engine's. `audit.py` holds the two against each other.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from local.home import Home, wake
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.errors import Conflict, NotFound, Rejected, StoreUnavailable
from shared.ids import JobName, RunId, WorkflowName, run_stream
from shared.state.run import Doubted, Run

UP_SECONDS = 60.0
ANSWER_SECONDS = 120.0
LOOK_SECONDS = 0.05
"""Between two looks at something that is waited for."""
BY = "torture"

_T = TypeVar("_T")


class Torn(Exception):
    """What was promised does not hold; the message says what."""


class Key(NamedTuple):
    """Which attempt."""

    run: str
    job: str
    attempt: int


class Line(NamedTuple):
    """Of the ledger."""

    word: str
    """`begin` or `end`."""
    key: Key
    code: int | None


class Answer(NamedTuple):
    """What one call of the command came to."""

    code: int
    out: str
    error: str
    seconds: float


class Nothing:
    """The engine finds by itself what commits of others led to."""

    def send(self, effects: Any, *, delay_seconds: float = 0) -> None:
        pass


class Ground:
    """One home and all that happens on it.

    `path`: an empty directory for the ledger, the engine's log and, unless `home` names another place, the home.
    """

    def __init__(self, path: Path, *, home: Path | None = None) -> None:
        self.path = path
        self.home = Home(home or path / "home")
        self.home.make()
        self.ledger = path / "ledger"
        self.ledger.touch()
        self.log = path / "engine.log"
        self.log.touch()
        self.environment: dict[str, str] = {}
        self.offset = timedelta(0)
        """Of the engine's wall clock, and so of the people's, from ours."""
        self.prefix: Sequence[str] = ()
        """Words before the engine's own command."""
        self.parts: LocalParts = local_parts(self.home.database, self.home.documents, Nothing(), now=self.now)
        self.engine: subprocess.Popen[bytes] | None = None
        self.kills: Counter[str] = Counter()
        self.wrappers_killed: set[Key] = set()
        self.programs_killed: set[Key] = set()
        self.asked: set[RunId] = set()
        """Runs whose request was acknowledged."""

    def now(self) -> datetime:
        return utc_now() + self.offset

    # --- the engine -----------------------------------------------------------------------------------------------------

    def spawn_engine(self) -> None:
        """Start `runfold up` and do not wait for it."""
        assert self.engine is None
        self._log_from = self.log.stat().st_size
        with self.log.open("ab") as log:
            self.engine = subprocess.Popen(
                [*self.prefix, *self._words("up", "--http", "off")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.engine_environment(),
            )

    def start_engine(self) -> float:
        """Start it and wait until it says that it is up; the seconds that took."""
        began = time.monotonic()
        self.spawn_engine()
        self.wait_until(self.is_up, "the engine to come up", seconds=UP_SECONDS)
        return time.monotonic() - began

    def is_up(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return b"Runfold is up" in log.read(1 << 16)

    def kill_engine(self) -> None:
        assert self.engine is not None
        self.engine.kill()
        self.engine.wait()
        self.engine = None
        self.kills["engine"] += 1

    def end_engine(self, *, seconds: float = ANSWER_SECONDS) -> int:
        """As a person ends it, with SIGTERM; its exit code."""
        assert self.engine is not None
        self.engine.terminate()
        code = self.engine.wait(seconds)
        self.engine = None
        return code

    def cpu_seconds(self) -> float:
        """Of the engine so far."""
        assert self.engine is not None
        fields = Path(f"/proc/{self.engine.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def said(self) -> str:
        """Everything the engines of this ground have told."""
        return self.log.read_text(errors="replace")

    # --- wrappers and programs ------------------------------------------------------------------------------------------

    def wrappers(self) -> list[tuple[int, Key]]:
        """Wrappers of this home and their attempts."""
        found = []
        for entry in os.listdir("/proc"):  # noqa: PTH208  (thousands of Path objects, many times)
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                    guard = os.fsdecode(words[words.index(b"-g") + 1]) if b"-g" in words else ""
                    # A wrapper leads its session; the subshell that it splits off does not.
                    if (key := self._key_of(guard)) and os.getsid(int(entry)) == int(entry):
                        found.append((int(entry), key))
        return sorted(found)

    def kill_wrapper(self, pid: int, key: Key) -> None:
        # Before the signal: who dies of it may be seen at once.
        self.wrappers_killed.add(key)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills["wrapper"] += 1

    def kill_program(self, wrapper: int, key: Key) -> None:
        """The wrapper's direct child, which is the job's own program."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()
            self.programs_killed.add(key)
            for child in children:
                os.kill(int(child), signal.SIGKILL)
                self.kills["program"] += 1

    def _key_of(self, guard: str) -> Key | None:
        runs = f"{self.home.path}/runs/"
        if not guard.startswith(runs):
            return None
        run, job, attempt = guard.removeprefix(runs).split("/")[:3]
        return Key(run, job, int(attempt))

    # --- people ---------------------------------------------------------------------------------------------------------

    def call(self, *words: str, seconds: float = ANSWER_SECONDS) -> Answer:
        """One call of the real command."""
        began = time.monotonic()
        done = subprocess.run(
            self._words(*words),
            env=self.engine_environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def register(self, name: str, jobs: Sequence[Mapping[str, Any]], **more: Any) -> None:
        document = {"name": name, "jobs": list(jobs), **more}
        self.persist(
            lambda: self.parts.control.register(json.dumps(document).encode(), name=f"{name}.json", by=BY),
            f"{name} to be registered",
        )
        wake(self.home)

    def request(self, workflow: str, key: str) -> RunId | None:
        """Ask once; the run when the answer came, None when the file could not be written. The same key is the same run."""
        try:
            run = self.parts.control.request_run(WorkflowName(workflow), {}, by=BY, key=key).run
        except (StoreUnavailable, Conflict):
            self.parts.transact.forget()
            return None
        self.asked.add(run)
        wake(self.home)
        return run

    def granted(self, workflow: str, key: str) -> RunId:
        """Ask until it is granted."""
        give_up = time.monotonic() + ANSWER_SECONDS
        while (run := self.request(workflow, key)) is None:
            if time.monotonic() > give_up:
                raise Torn(f"for {ANSWER_SECONDS:.0f} s nobody could ask for a run of {workflow}")
            time.sleep(LOOK_SECONDS)
        return run

    def ask(self, question: Callable[[], object]) -> bool:
        """Whether it was granted; that it is too late for it, or that the file cannot be written, is an answer as well."""
        try:
            question()
        except (Rejected, NotFound, StoreUnavailable, Conflict):
            self.parts.transact.forget()
            return False
        wake(self.home)
        return True

    def persist(self, act: Callable[[], _T], what: str) -> _T:
        give_up = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return act()
            except (StoreUnavailable, Conflict) as error:
                self.parts.transact.forget()
                if time.monotonic() > give_up:
                    raise Torn(f"waited {ANSWER_SECONDS:.0f} s for {what}: {error}") from error
                time.sleep(LOOK_SECONDS)

    def unregister(self, workflow: str) -> None:
        self.persist(lambda: self.parts.control.unregister(WorkflowName(workflow), by=BY), f"the end of {workflow}")
        wake(self.home)

    # --- what is there --------------------------------------------------------------------------------------------------

    def run(self, run: RunId) -> Run | None:
        state = self.parts.transact.current(run_stream(run)).state
        return state if isinstance(state, Run) else None

    def runs(self) -> list[RunId]:
        """Every run that has a history."""
        found: list[RunId] = []
        after = ""
        while names := self.parts.store.streams("run", after=after):
            found.extend(RunId(name.partition("#")[2]) for name in names)
            after = names[-1]
        return found

    def unfinished(self) -> list[Run]:
        states = (self.run(run) for run in self.runs())
        return [state for state in states if state is not None and not state.finished]

    def settle_doubts(self) -> int:
        """A person declares what nobody can know; how many."""
        settled = 0
        for state in self.unfinished():
            for name in list(state.live):
                if isinstance(state.jobs[name].phase, Doubted):
                    settled += self.mark(state.run, name)
        return settled

    def mark(self, run: RunId, job: JobName) -> bool:
        return self.ask(lambda: self.parts.control.mark(run, job, "succeeded", by=BY, reason="looked at it"))

    def lines(self) -> list[Line]:
        found = []
        for text in self.ledger.read_text().splitlines():
            word, run, job, attempt, *code = text.split()
            found.append(Line(word, Key(run, job, int(attempt)), int(code[0]) if code else None))
        return found

    def script(self, seconds: float, *, fails_until: int = 0, output_bytes: int = 0) -> list[str]:
        """A program that sleeps, and fails in attempts before `fails_until`."""
        me = '"$RUNFOLD_RUN" "$RUNFOLD_JOB" "$RUNFOLD_ATTEMPT"'
        noise = f"printf '%0{output_bytes}d\\n' 0; " if output_bytes else ""
        return [
            "sh",
            "-c",
            f"echo begin {me} >>{self.ledger}; {noise}sleep {seconds}; code=0; "
            f'test "$RUNFOLD_ATTEMPT" -ge {fails_until} || code=3; echo end {me} $code >>{self.ledger}; exit $code',
        ]

    # --- waiting and ending ---------------------------------------------------------------------------------------------

    def wait_until(self, holds: Callable[[], object], what: str, *, seconds: float = ANSWER_SECONDS) -> None:
        give_up = time.monotonic() + seconds
        while True:
            with contextlib.suppress(StoreUnavailable):
                if holds():
                    return
            if self.engine is not None and (code := self.engine.poll()) is not None:
                raise Torn(f"the engine ended by itself with {code}, waiting for {what}:\n{self.said()[-3000:]}")
            if time.monotonic() > give_up:
                raise Torn(f"waited {seconds:.0f} s for {what}:\n{self.said()[-3000:]}")
            time.sleep(LOOK_SECONDS)

    def finish(self, *, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until every run has ended, with a person who settles what is in doubt."""

        def ended() -> bool:
            self.settle_doubts()
            return not self.unfinished()

        try:
            self.wait_until(ended, "every run to end", seconds=seconds)
        except Torn as error:
            left = {state.run: {name: state.jobs[name].status for name in state.live} for state in self.unfinished()}
            raise Torn(f"{error}\nunfinished: {left}") from error

    def close(self) -> None:
        if self.engine is not None:
            self.kill_engine()
        for pid, _ in self.wrappers():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.parts.close()

    def _words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "cli.main", *words, "--home", str(self.home.path)]

    def engine_environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
        return {**mine, "RUNFOLD_USER": BY, "NO_COLOR": "1", **self.environment}
