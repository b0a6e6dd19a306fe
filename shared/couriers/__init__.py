"""Channels that take notices to people and programs, one adapter a file, all held to `tests/contract/test_couriers.py`."""

from shared.errors import TargetRefused
from shared.ports import Message


class Nowhere:
    """A channel that this deployment does not have: every notice by it is given up at once, and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def send(self, message: Message) -> str:  # noqa: ARG002
        raise TargetRefused(self._reason)
