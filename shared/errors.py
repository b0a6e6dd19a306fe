"""What can go wrong, named for what the caller can do about it.

Every error that crosses a module boundary is one of these. None of them ever carries a secret: messages name
places, limits and names that the user wrote, never values taken from the environment, and what looks like a secret is withheld.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.secrecy import without_secrets


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with something a user gave us.

    `path` says where (`jobs[2].after[0]`, or empty for the whole), `message` what is wrong, `hint` what would be right.
    """

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{place}{self.message}" + (f" ({self.hint})" if self.hint else "")


class RunfoldError(Exception):
    """The root of everything we raise on purpose."""

    def __init__(self, message: str = "") -> None:
        # Many quote what a target, a document or a person said, and all of them are shown, logged or recorded (I13).
        super().__init__(without_secrets(message))


class InvalidInput(RunfoldError):
    """The user's input is wrong in the places listed: show every problem, change nothing."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(
            Problem(without_secrets(one.path), without_secrets(one.message), one.hint) for one in problems
        )
        super().__init__("; ".join(str(problem) for problem in problems))


class Rejected(RunfoldError):
    """The request is well formed, but the present state does not allow it: show the reason."""


class NotFound(Rejected):
    """What the request names does not exist."""


class NotAllowed(Rejected):
    """Whoever asks is not one of those who may: say who is."""


class TemplateError(RunfoldError):
    """A template or expression cannot be rendered with the values at hand: fail the attempt, say why."""


class Conflict(RunfoldError):
    """Somebody else appended to the stream first: reload and decide again."""


class TargetUnavailable(RunfoldError):
    """The target did not take the request for now and surely did nothing: try later."""


class TargetRefused(RunfoldError):
    """The target will never take this request: fail the attempt."""


class TargetSilent(RunfoldError):
    """We asked and got no usable answer: the work may or may not have been done. This is where doubt begins."""


class CorruptStream(RunfoldError):
    """The history contradicts itself, or its hash chain is broken: stop, touch nothing."""


class UnknownEvents(RunfoldError):
    """The stream holds events of a newer release: it can be shown, but not decided upon by this code."""


class StoreUnavailable(RunfoldError):
    """The event store cannot be reached or is throttled: try again with jitter."""


class EngineBusy(RunfoldError):
    """Another engine owns this home."""
