"""`python -m tests.torture [SECTION...]`: torture the engine of one machine, and say what held. Sections: kills, disk, clock, locked,
processes; all of them when none is named. Exit code 0 when everything held, 1 when something did not, 2 when a section could not be
done on this machine.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.torture.audit import PROBLEMS_SHOWN
from tests.torture.clock import clock
from tests.torture.disk import disk
from tests.torture.ground import Ground, Torn
from tests.torture.kills import kills
from tests.torture.locked import locked
from tests.torture.processes import processes
from tests.torture.telling import Outcome, Teller, Unfit

SEED, KILLS, PROCESSES = 1, 500, 5_000

Section = Callable[[Ground, Teller], Outcome]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of random instants and loads; {SEED}")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of the engine, in the section of that name; {KILLS}")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"jobs at once; {PROCESSES}")
    parser.add_argument("--keep", action="store_true", help="leave the home of a section that failed")
    given = parser.parse_args()
    sections: dict[str, Section] = {
        "kills": partial(kills, seed=given.seed, count=given.kills),
        "disk": partial(disk, seed=given.seed),
        "clock": clock,
        "locked": locked,
        "processes": partial(processes, count=given.processes),
    }
    if unknown := set(given.sections) - set(sections):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    # Ended that way as well, it leaves no process and no file system behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"torture of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {given.seed}", flush=True)
    codes = [tortured(name, sections[name], keep=given.keep) for name in given.sections or sections]
    held = codes.count(0)
    print(f"{held} of {len(codes)} sections held", flush=True)
    return max(codes)


def tortured(name: str, section: Section, *, keep: bool) -> int:
    """One section on ground of its own; its exit code."""
    # World-readable: one section's engine is another user's.
    path = Path(tempfile.mkdtemp(prefix=f"runfold-torture-{name}-"))
    path.chmod(0o755)
    began = time.monotonic()
    ground = Ground(path)
    outcome = Outcome("", ["it was broken off"])
    try:
        outcome = section(ground, Teller(name))
    except Unfit as error:
        print(f"{name:>9}  CANNOT BE DONE HERE  {error}", flush=True)
        return 2
    except Torn as error:
        outcome = Outcome("", [str(error)])
    except Exception:  # noqa: BLE001  (the other sections are to be done all the same)
        outcome = Outcome("", [traceback.format_exc()])
    finally:
        ground.close()
        if keep and outcome.problems:
            print(f"left in {path}", flush=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
    for problem in outcome.problems[:PROBLEMS_SHOWN]:
        print(f"{name:>9}  {problem}", flush=True)
    if len(outcome.problems) > PROBLEMS_SHOWN:
        print(f"{name:>9}  … and {len(outcome.problems) - PROBLEMS_SHOWN} more", flush=True)
    word = "FAILED" if outcome.problems else "held"
    print(f"{name:>9}  {word} in {time.monotonic() - began:.0f} s: {outcome.summary}", flush=True)
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
