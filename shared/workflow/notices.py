"""What a document says about the clock and about telling people: `deadline`, `late` and `notify`.

These models check and keep what was written; when something is late is decided in `shared/decide/lateness.py`, and what is told in
`shared/decide/occasions.py`. Every error is a sentence that says what is wrong and what would be right.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from shared.errors import Problem

MINUTES_MAX: Final = 60 * 24 * 365
"""A year: longer is a typo."""
RULES_MAX: Final = 20
"""Rules of one document: each may send a notice for each thing that happens."""

Minutes = Annotated[float, Field(gt=0, le=MINUTES_MAX)]
Occasion = Literal["started", "succeeded", "failed", "recovered", "late", "deadline", "missed", "doubt"]
Channel = Literal["email", "sns", "webhook", "command"]
CHANNELS: Final[tuple[Channel, ...]] = ("email", "sns", "webhook", "command")


def _wrong(problem: str) -> PydanticCustomError:
    # Passed as a value, not as the template: the user's own braces must not be taken for placeholders.
    return PydanticCustomError("notices", "{problem}", {"problem": problem})


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Deadline(_Model):
    """By when a run must have ended. Counted from its scheduled instant, or from the request where it has none; each round of a
    run that is done again is counted from when it was asked for."""

    minutes: Minutes
    """After the scheduled instant, or the request."""


class Late(_Model):
    """When a run is later than people are used to: nothing is stopped, it is told, once a round."""

    start_minutes: Minutes | None = None
    """Late when nothing of it has started so long after its scheduled instant, or the request."""
    expected_minutes: Minutes | None = None
    """Late when it takes longer than this from its first attempt."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.start_minutes is None and self.expected_minutes is None:
            raise _wrong('late says nothing: add "start_minutes", "expected_minutes" or both')
        return self


class Notify(_Model):
    """Whom to tell of what, by one channel. Each occasion of a run is told once by each rule."""

    on: Annotated[tuple[Occasion, ...], Field(max_length=8, json_schema_extra={"minItems": 1})]
    """`started`, `succeeded`, `failed`, `recovered` (the first success after a failure), `late`, `deadline` (missed), `missed` (a
    scheduled instant), `doubt`."""
    email: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}@[A-Za-z0-9.-]{1,190}$", max_length=254)] | None = (
        None
    )
    """An address: through SES, or SMTP on one machine."""
    sns: (
        Annotated[
            str, StringConstraints(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$")
        ]
        | None
    ) = None
    """The ARN of a topic."""
    webhook: Annotated[str, StringConstraints(pattern=r"^https?://[^\s@\\]+$", max_length=2048)] | None = None
    """An address that takes a POST with JSON; private addresses only where the deployment allows them."""
    secret: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """With `webhook`: what the POST is signed with (HMAC-SHA256), by reference."""
    command: (
        Annotated[tuple[Annotated[str, StringConstraints(max_length=4096)], ...], Field(min_length=1, max_length=100)]
        | None
    ) = None
    """On one machine: a program with its arguments, which reads the notice as JSON from its standard input."""

    @model_validator(mode="after")
    def _has_one_channel(self) -> Self:
        # Not a bound of the field: there only the words that are right would be counted.
        if not self.on:
            raise _wrong("on is empty: write at least one of " + ", ".join(get_args(Occasion)))
        given = [name for name in CHANNELS if getattr(self, name) is not None]
        if len(given) != 1:
            raise _wrong(
                f"a rule names exactly one of email, sns, webhook and command, and this one names "
                f"{' and '.join(given) if given else 'none'}: {'write a rule for each' if given else 'add one'}"
            )
        if self.secret is not None and self.webhook is None:
            raise _wrong("secret signs a webhook, and this rule has none: leave it out")
        return self

    @property
    def channel(self) -> Channel:
        return next(name for name in CHANNELS if getattr(self, name) is not None)

    @property
    def to(self) -> str:
        """The recipient, for people. Of a webhook only where it is: what follows may be what its owner keeps to himself."""
        match self.channel:
            case "webhook":
                assert self.webhook is not None
                return "/".join(self.webhook.split("/", 3)[:3]).partition("?")[0]
            case "command":
                assert self.command is not None
                return self.command[0]
            case channel:
                return str(getattr(self, channel))


_NEEDS: Final[Mapping[str, str]] = {"late": "late", "deadline": "deadline", "missed": "schedule"}
"""Occasions that only a document with this field can have."""


def check_notices(document: Mapping[str, Any], reference: Callable[[str], bool]) -> Iterator[Problem]:
    """What is wrong between fields, in a document as it was written; its shape is judged elsewhere. `reference`: whether a text names
    a secret instead of being one."""
    rules = document.get("notify")
    for position, rule in enumerate(rules if isinstance(rules, list) else ()):
        if not isinstance(rule, Mapping):
            continue
        path = f"notify[{position}]"
        occasions = rule.get("on")
        for place, occasion in enumerate(occasions if isinstance(occasions, list) else ()):
            needed = _NEEDS.get(occasion) if isinstance(occasion, str) else None
            if needed is not None and document.get(needed) is None:
                yield Problem(
                    f"{path}.on[{place}]",
                    f"`{occasion}` never comes without `{needed}`",
                    f"add `{needed}` or leave it out",
                )
        secret = rule.get("secret")
        if isinstance(secret, str) and not reference(secret):
            yield Problem(
                f"{path}.secret",
                "is not a reference, and must not be the secret itself",
                "the ARN of a secret or SSM parameter, env:NAME, or file:/path",
            )
    late, deadline = document.get("late"), document.get("deadline")
    if isinstance(late, Mapping) and isinstance(deadline, Mapping):
        start, minutes = late.get("start_minutes"), deadline.get("minutes")
        if isinstance(start, int | float) and isinstance(minutes, int | float) and start >= minutes:
            yield Problem(
                "late.start_minutes",
                "is not before the deadline, so it tells nothing new",
                "write less than `deadline.minutes`",
            )
