"""`python -m tests.mutants [--list | --likely] [NAME...]`: put bugs in, one after the other, and see which level notices each.

NAME is a bug's name or its beginning; none means all. `--likely` runs only those tests that are likely to catch it, which is how one writes a
new bug; whatever survives them may still be caught elsewhere. Fails when one survives or is stale.
"""

import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, Stale
from tests.mutants.trial import LEVELS, ROOT, Copy, Trials, Verdict


def chosen(names: list[str]) -> list[Mutant]:
    return [mutant for mutant in MUTANTS if not names or any(mutant.name.startswith(name) for name in names)]


def told(verdict: Verdict) -> str:
    how = " (by time-out)" if verdict.timed_out else ""
    return f"| {verdict.mutant} | {verdict.level or 'SURVIVED'}{how} | {verdict.by} | {verdict.seconds:.0f} |"


def main(words: list[str]) -> int:
    mutants = chosen([word for word in words if not word.startswith("-")])
    if not mutants:
        print("no bug has such a name; --list names them", file=sys.stderr)
        return 2
    if "--list" in words:
        for mutant in mutants:
            print(f"{mutant.name:40} {mutant.file}")
        return 0
    began = time.monotonic()
    verdicts: list[Verdict] = []
    stale: list[str] = []
    commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), cwd=ROOT, check=True, capture_output=True)
    command = " ".join(("python -m tests.mutants", *words))
    print(f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.decode().strip()}, `{command}`\n")
    print("| bug | caught by | test | seconds |\n|---|---|---|---|", flush=True)
    with Copy() as copy:
        trials = Trials(copy, () if "--likely" in words else LEVELS)
        left = mutants
        while left:
            tried: list[Verdict] = []
            for mutant in left:
                try:
                    tried.append(trials(mutant))
                except Stale as error:
                    stale.append(str(error))
                    print(f"| {mutant.name} | STALE | | |", flush=True)
                    continue
                print(told(tried[-1]), flush=True)
            confirmed = trials.confirmed(tried)
            verdicts += confirmed
            # Caught by a test that fails anyway: not caught yet.
            known = {verdict.mutant for verdict in confirmed}
            left = [mutant for mutant in left if mutant.name in {verdict.mutant for verdict in tried} - known]
    survivors = [verdict.mutant for verdict in verdicts if not verdict.level]
    levels = Counter(verdict.level for verdict in verdicts if verdict.level)
    by_level = ", ".join(f"{level} {count}" for level, count in levels.most_common())
    print()
    for line in stale:
        print(line)
    for test in trials.unfit:
        print(f"left out, because it fails without any bug as well: {test}")
    print(
        f"{len(mutants)} bugs: {len(verdicts) - len(survivors)} caught ({by_level}), {len(survivors)} survived"
        + (f" ({', '.join(survivors)})" if survivors else "")
        + (f", {len(stale)} stale" if stale else "")
        + f"; {sum(verdict.timed_out for verdict in verdicts)} by time-out; {(time.monotonic() - began) / 60:.0f} minutes"
    )
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
