"""What the emulator's own Python runs: ministack, with the two things that AWS does and it does not.

* Services announce state changes on the event bus under their own names (`aws.ecs`). Nobody else may, on AWS as here; but our
  stand-ins for these services are somebody else, so this emulator lets them.
* EventBridge Scheduler is looked at every second instead of every ten, so that a ring comes within its minute.

Started with `python -I`: nothing but the emulator's own packages may be found.
"""

import functools
import importlib


def main() -> None:
    bus = importlib.import_module("ministack.services.eventbridge")
    bus._put_events = functools.partial(bus._put_events, allow_aws_source=True)
    scheduler = importlib.import_module("ministack.services.scheduler")
    scheduler._SCHEDULE_TICK_INTERVAL = 1
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
