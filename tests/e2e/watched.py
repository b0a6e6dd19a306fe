"""The services that compute, with moments at which a test may act."""

from collections.abc import Callable
from typing import Any, Literal

from tests.compute import Compute


class Watched(Compute):
    """Services that let a test act at the moment before, or after, they have done what they were asked for; or instead of doing it:
    then the request has never reached them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.moments: dict[tuple[Literal["before", "instead", "after"], str], Callable[[], object]] = {}

    def answer(self, method: str, path: str, target: str, body: dict[str, Any]) -> dict[str, Any]:
        operation = target.rpartition(".")[2]
        self.moments.pop(("before", operation), _nothing)()
        if instead := self.moments.pop(("instead", operation), None):
            instead()
            raise ConnectionResetError
        answered = super().answer(method, path, target, body)
        self.moments.pop(("after", operation), _nothing)()
        return answered


def _nothing() -> None:
    pass
