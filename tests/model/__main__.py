"""`python -m tests.model [quick|large]`: explore, and print the table of `docs/model.md`."""

import sys
from time import process_time

from tests.model.settings import LARGE, QUICK, model_of
from tests.model.test_model import explored


def main(which: str) -> int:
    settings = QUICK if which == "quick" else LARGE if which == "large" else {**QUICK, **LARGE}
    print("| setting | states | transitions | depth | CPU s |\n|---|---|---|---|---|")
    wrong = 0
    for name, setting in settings.items():
        since = process_time()
        found = explored(model_of(setting))
        seconds = process_time() - since
        print(f"| {name} | {found.states:,} | {found.transitions:,} | {found.depth} | {seconds:.0f} |", flush=True)
        if found.wrong:
            wrong += 1
            print(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "all"))
