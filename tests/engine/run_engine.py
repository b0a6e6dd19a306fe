"""An engine as a process of its own, for tests that kill it: `python -m tests.engine.run_engine HOME`.

It says `up` on its standard output when it is about to work.
"""

import sys
from pathlib import Path

from local.engine import Engine
from local.home import Home


def main() -> None:
    with Engine(Home(Path(sys.argv[1]))) as engine:
        print("up", flush=True)
        engine.run()


if __name__ == "__main__":
    main()
