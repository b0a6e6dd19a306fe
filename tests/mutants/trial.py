"""One bug in a copy of the tree: which tests are run against it, in which order, and what they say."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
SUITE_SECONDS_MAX = 600
"""For one level; far longer than any takes, also where others use the machine."""
TEST_SECONDS_MAX = 60
"""For one test, of which the longest honest one takes a quarter of it: a bug that makes a loop endless is caught by this."""
TRIES = 2
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
NOTHING_SELECTED = 5
"""pytest's answer when every test was left out."""


@dataclass(frozen=True, slots=True)
class Level:
    """Tests of one kind; `words` follow `python -m`."""

    name: str
    words: tuple[str, ...]


def _pytest(*words: str) -> tuple[str, ...]:
    options = ("-x", "-q", "--no-header", "--tb=no", "-rfE", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS_MAX}")
    return ("pytest", *options, *words)


LEVELS = (
    Level("rules", _pytest("-m", "not slow", "tests/rules")),
    Level("engine", _pytest("tests/engine/test_crash_points.py", "tests/engine/test_repairs.py")),
    Level("contract", _pytest("-m", "not slow", "tests/contract")),
    Level("functions", _pytest("tests/functions")),
    Level("model", _pytest("tests/model")),
    Level("simulation", _pytest("tests/simulation/test_crash_points.py")),
    Level("simulation", ("tests.simulation", "30", "1")),
)
"""What is left when nothing likely caught it, in this order."""


@dataclass(frozen=True, slots=True)
class Verdict:
    mutant: str
    level: str
    """Empty: it survived."""
    by: str
    """The test that failed."""
    seconds: float
    timed_out: bool = False


class Copy:
    """A copy of the tree as it is, with files that git does not know yet, in which bugs come and go."""

    def __init__(self, root: Path = ROOT) -> None:
        self._place = tempfile.mkdtemp(prefix="mutants-")
        self.tree = Path(self._place) / "tree"
        listed = subprocess.run(
            ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"), cwd=root, check=True, stdout=-1
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            source, target = root / name, self.tree / name
            # Deleted, and not committed yet.
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def __enter__(self) -> "Copy":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

    def write(self, file: str, text: str) -> None:
        path = self.tree / file
        path.write_text(text)
        # Python compares whole seconds and sizes, which a bug that came and went may not have changed.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def run(self, words: Sequence[str], seconds_max: float) -> tuple[int, str]:
        """Exit code and output; the code is -1 when it took too long."""
        # The environment's packages are shared, and among them is the way to the tree that this is a copy of.
        environment = os.environ | {"PYTHONPATH": str(self.tree), "HYPOTHESIS_STORAGE_DIRECTORY": self._place}
        process = subprocess.Popen(
            ("nice", "-n", "10", sys.executable, "-m", *words),
            cwd=self.tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group and no session: a test takes its own process for one that leads none.
            process_group=0,
        )
        try:
            said, _ = process.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return -1, said.decode(errors="replace")
        except BaseException:
            # Whoever stops this command stops the tests with it.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, said.decode(errors="replace")


def caught_in(said: str) -> str:
    """The test that failed, as pytest names it; empty when it names none."""
    found = FAILED.search(said)
    return found[1] if found else ""


class Trials:
    """Tries bugs in one copy. A test that fails on the tree as it is catches nothing, and is left out once that is known."""

    def __init__(self, copy: Copy, levels: Sequence[Level] = LEVELS) -> None:
        """`levels`: what is tried when nothing likely catches a bug."""
        self._copy = copy
        self._levels = levels
        self.unfit: list[str] = []
        """Tests that fail without any bug."""

    def __call__(self, mutant: Mutant) -> Verdict:
        """What becomes of one bug. Raises `Stale` when it cannot be put in."""
        began = time.monotonic()
        bad = mutant.applied(self._copy.tree)
        good = (self._copy.tree / mutant.file).read_text()
        likely = (Level(level_of(path), _pytest(path)) for path in mutant.likely)
        self._copy.write(mutant.file, bad)
        try:
            for level in (*likely, *self._levels):
                code, said = self._copy.run((*level.words, *self._left_out(level)), SUITE_SECONDS_MAX)
                if code not in (0, NOTHING_SELECTED):
                    by = caught_in(said) or _first_words(level, said)
                    timed_out = code == -1 or "Timeout (>" in said
                    return Verdict(mutant.name, level_of(by) or level.name, by, time.monotonic() - began, timed_out)
        finally:
            self._copy.write(mutant.file, good)
        return Verdict(mutant.name, "", "", time.monotonic() - began)

    def confirmed(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Those whose tests pass on the tree as it is; what the others are, `unfit` says afterwards."""
        caught = {verdict.by for verdict in verdicts if verdict.level}
        tests = sorted(one for one in caught if "::" in one or one.endswith(".py"))
        # A level that hung as a whole, and seeds.
        wholes = [
            level
            for level in self._levels
            if any(verdict.by not in tests and verdict.level == level.name for verdict in verdicts)
        ]
        failing = self._failing(tests)
        for level in wholes:
            if self._copy.run(level.words, SUITE_SECONDS_MAX)[0]:
                failing += [verdict.by for verdict in verdicts if verdict.level == level.name]
                self._levels = [one for one in self._levels if one is not level]
        self.unfit += failing
        return [verdict for verdict in verdicts if verdict.by not in failing]

    def _failing(self, tests: list[str]) -> list[str]:
        # Machines are shared: one that fails and passes the next time was only slow.
        for _ in range(TRIES):
            if not tests:
                break
            words = [word for word in _pytest(*tests) if word != "-x"]
            code, said = self._copy.run(words, SUITE_SECONDS_MAX)
            tests = FAILED.findall(said) or tests if code else []
        return tests

    def _left_out(self, level: Level) -> list[str]:
        return [f"--deselect={test}" for test in self.unfit] if level.words[0] == "pytest" else []


def level_of(path: str) -> str:
    """`rules` of `tests/rules/test_x.py::test_y`."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else ""


def _first_words(level: Level, said: str) -> str:
    seed = re.search(r"^seed \d+", said, re.MULTILINE)
    return seed[0] if seed else " ".join(word for word in level.words if "/" in word or "." in word)
