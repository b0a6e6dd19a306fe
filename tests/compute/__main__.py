"""`python -m tests.compute --port 4599 [--storage URL] [--bus URL | --queue URL QUEUE]`: the stand-in as a process, until SIGTERM."""

import argparse
import signal
import threading

from tests.compute.events import to_event_bus, to_queue
from tests.compute.server import Compute


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compute")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--storage", help="the S3 that jobs use")
    parser.add_argument("--bus", help="where PutEvents is served: state changes go there")
    parser.add_argument("--queue", nargs=2, metavar=("URL", "QUEUE_URL"), help="an SQS queue that gets them instead")
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Compute(port=given.port, storage_url=given.storage) as compute:
        if given.bus:
            compute.events.listeners.append(to_event_bus(given.bus))
        if given.queue:
            compute.events.listeners.append(to_queue(*given.queue))
        print(compute.url, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
