"""Tasks of one batch side by side, for processes that wait for the network most of the time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

WORKERS = 8
"""Below the ten connections that a boto3 client keeps, so that none is opened and thrown away."""


class Threads:
    """Made with the process and kept by it: starting threads anew in every call would cost more than it gains."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="side-by-side")

    def __call__(self, tasks: Sequence[Callable[[], None]]) -> None:
        """All of them are done when this returns; raises what the first of them raised that raised anything."""
        if len(tasks) == 1:
            tasks[0]()
            return
        futures = [self._pool.submit(task) for task in tasks]
        wait(futures)
        for future in futures:
            future.result()
