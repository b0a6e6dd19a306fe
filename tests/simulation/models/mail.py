"""A channel that people are told by: it takes notices, loses its answers, is busy, and refuses some for good."""

from collections import Counter

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.ports import Message
from tests.simulation.kernel import Kernel

FAULTS = ("the mail is busy", "the mail takes it and is silent", "the mail refuses it")


class Mail:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.taken: Counter[str] = Counter()
        """How often each notice arrived."""
        self.refused: set[str] = set()

    def send(self, message: Message) -> str:
        self._kernel.point("before mail.send")
        if self._kernel.happens("the mail is busy"):
            raise TargetUnavailable("busy")
        if self._kernel.happens("the mail refuses it"):
            self.refused.add(message.id)
            raise TargetRefused("no such recipient")
        self.taken[message.id] += 1
        if self._kernel.happens("the mail takes it and is silent"):
            raise TargetSilent("no answer")
        self._kernel.point("after mail.send")
        return f"mail {self.taken[message.id]}"
