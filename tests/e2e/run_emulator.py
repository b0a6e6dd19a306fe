"""What the emulator's own Python runs: ministack, with three things that AWS does and it does not.

* Services announce state changes on the event bus under their own names (`aws.ecs`). Nobody else may, on AWS as here; but our
  stand-ins for these services are somebody else, so this emulator lets them.
* Sending a batch to a queue needs the right to send, `sqs:SendMessage`; of rights to batches IAM knows nothing.
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
    actions: Any = importlib.import_module("ministack.core.iam_actions")
    extract = actions.extract_iam_action

    def known_to_iam(*given: Any, **named: Any) -> Any:
        action = extract(*given, **named)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    actions.extract_iam_action = known_to_iam
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
