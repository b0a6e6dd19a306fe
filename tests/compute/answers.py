"""What the services answer when they refuse."""

from typing import Any


class Refused(Exception):
    """An error of AWS: its code, words, and further members."""

    def __init__(self, code: str, message: str, *, status: int = 400, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.more = more


class NotServed(Exception):
    """An operation that this stand-in does not know."""
