"""What a check finds, and what it remembers across streams."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from shared.ids import Handle, JobName, StreamName

Invariant = Literal["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I11", "I12", "I13", "I14"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that should not be."""

    invariant: Invariant
    stream: StreamName
    version: int
    """Of the commit where it shows; 0 when it is about the stream as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.stream} version {self.version}: {self.message}"


Found = tuple[Invariant, str]
"""A violation before it is known where it stands."""

HANDLES_MAX = 250_000
"""Handles remembered, about 220 bytes each; of a larger store, executions bound to two attempts further apart are not found."""


class Handles:
    """Which attempt each external execution is bound to, over all streams; the oldest are forgotten beyond `HANDLES_MAX`."""

    def __init__(self, most: int = HANDLES_MAX) -> None:
        self._most = most
        self._owners: OrderedDict[bytes, bytes] = OrderedDict()
        self.forgotten = 0

    def bind(self, handle: Handle, stream: StreamName, job: JobName, attempt: int) -> bool:
        """False if the handle is bound to another attempt already."""
        key, owner = _digest(handle), _digest(f"{stream}\x1f{job}\x1f{attempt}")
        known = self._owners.setdefault(key, owner)
        if len(self._owners) > self._most:
            self._owners.popitem(last=False)
            self.forgotten += 1
        return known == owner


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()
