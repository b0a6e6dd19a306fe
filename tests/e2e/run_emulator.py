"""What the emulator's own Python runs: ministack, with the two things that AWS does and it does not.

* Services announce state changes on the event bus under their own names (`aws.ecs`). Nobody else may, on AWS as here; but our
  stand-ins for these services are somebody else, so this emulator lets them.
* EventBridge Scheduler is looked at every second instead of every ten, so that a ring comes within its minute.

Whoever started it writes a line to its standard input and gets one at the descriptor named in the first argument: how many functions
are running. Started with `python -I`: nothing but the emulator's own packages may be found.
"""

import functools
import importlib
import os
import sys
import threading
from typing import Any


def main() -> None:
    bus: Any = importlib.import_module("ministack.services.eventbridge")
    bus._put_events = functools.partial(bus._put_events, allow_aws_source=True)
    scheduler: Any = importlib.import_module("ministack.services.scheduler")
    scheduler._SCHEDULE_TICK_INTERVAL = 1
    runtime: Any = importlib.import_module("ministack.core.lambda_runtime")
    threading.Thread(target=answer, args=(int(sys.argv.pop()), runtime), daemon=True).start()
    importlib.import_module("ministack.app").main()


def answer(descriptor: int, runtime: Any) -> None:
    for _ in sys.stdin:
        os.write(descriptor, f"{runtime.workers_in_use()}\n".encode())


if __name__ == "__main__":
    main()
