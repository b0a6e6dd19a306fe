"""`python -m tests.simulation [SEEDS [FIRST]]`: play so many seeds from a first one on, on all cores, and sum up in one line.

A seed that fails is shrunk: faults are taken away from it as long as it still fails. Its line says how to play it again.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.kernel import Fault
from tests.simulation.play import Played, faults_of, play

HASHES = "PYTHONHASHSEED"
SEEDS, FIRST = 200, 1
FAILURES_MAX = 10
"""After so many no more seeds are begun."""
SHRINK_SECONDS = 30
AHEAD = 8
"""Seeds handed out at a time, so that a failure is seen soon."""
console = Console(width=None if sys.stdout.isatty() else 260)


def tried(seed: int) -> Played | str:
    """What one seed came to, or what went wrong."""
    try:
        return play(seed)
    except Exception as error:  # noqa: BLE001  (whatever ends a play is what the seed found)
        return f"{type(error).__name__}: {error}"


def shrunk(seed: int) -> list[Fault]:
    """Faults of a failing seed without those that it does not need to fail, as far as half a minute goes."""
    faults, end = faults_of(seed), time.monotonic() + SHRINK_SECONDS
    for fault in list(faults):
        if time.monotonic() > end:
            break
        fewer = [one for one in faults if one is not fault]
        if _fails(seed, fewer):
            faults = fewer
    return faults


def _fails(seed: int, faults: list[Fault]) -> bool:
    try:
        play(seed, faults=faults)
    except Exception:  # noqa: BLE001
        return True
    return False


def played(seeds: range) -> Iterator[tuple[int, Played | str]]:
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        left = iter(seeds)
        under_way = {seed: pool.submit(tried, seed) for seed in islice(left, workers * AHEAD)}
        while under_way:
            seed = next(iter(under_way))
            yield seed, under_way.pop(seed).result()
            for following in islice(left, 1):
                under_way[following] = pool.submit(tried, following)


def table(total: Played) -> Table:
    """Faults that were injected, rare branches that were reached, events that were stored."""
    shown = Table(title="what happened", show_header=True)
    names = ("faults injected", "branches reached", "events", "invariants checked")
    for column in (column for name in names for column in (name, "times")):
        shown.add_column(column, justify="right" if column == "times" else "left", no_wrap=True)
    columns = [sorted(counter.items()) for counter in (total.injected, total.reached, total.events, total.checked)]
    for row in range(max(map(len, columns), default=0)):
        cells: list[str] = []
        for counted in columns:
            cells += [counted[row][0], f"{counted[row][1]:,}"] if row < len(counted) else ["", ""]
        shown.add_row(*cells)
    return shown


def add(total: Played, one: Played) -> None:
    total.injected += one.injected
    total.reached += one.reached
    total.events += one.events
    total.checked += one.checked
    total.runs += one.runs
    total.attempts += one.attempts
    total.executions += one.executions
    total.points += one.points


def main(words: list[str]) -> int:
    count = int(words[0]) if words else SEEDS
    first = int(words[1]) if len(words) > 1 else FIRST
    total, failures, began = Played(first, Counter()), dict[int, str](), time.monotonic()
    with Progress(
        TextColumn("seeds"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=count)
        done = 0
        for seed, outcome in played(range(first, first + count)):
            done += 1
            progress.advance(task)
            if not console.is_terminal and done % 1000 == 0:
                console.print(f"{done:,} of {count:,} seeds")
            if isinstance(outcome, Played):
                add(total, outcome)
                continue
            failures[seed] = outcome
            console.print(f"[red]seed {seed}[/] {outcome}", highlight=False)
            if len(failures) >= FAILURES_MAX:
                break
    console.print(table(total))
    for seed in failures:
        needs = ", ".join(fault.name for fault in shrunk(seed)) or "no fault at all"
        console.print(f"again: python -m tests.simulation 1 {seed}   (it needs {needs})", highlight=False)
    console.print(
        f"{done - len(failures):,} seeds passed, {len(failures)} failed, from {first}: {total.runs:,} runs, {total.attempts:,} attempts, "
        f"{total.executions:,} executions, {total.points:,} points, {sum(total.injected.values()):,} faults, "
        f"{time.monotonic() - began:.0f} s",
        highlight=False,
    )
    return 1 if failures else 0


if __name__ == "__main__":
    if os.environ.get(HASHES) != "0":
        # Persistent maps are walked in the order of hashes, which Python otherwise draws anew for each process: a seed would not play again.
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, HASHES: "0"}
        )
    sys.exit(main(sys.argv[1:]))
