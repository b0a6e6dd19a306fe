"""What an explanation is made of, and how it is worded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.ids import instant_text

Code = Literal[
    # What a job waits for.
    "waits_for_job",
    "waits_for_run",
    "waits_for_success",
    "waits_for_file",
    "undecided",
    "parallelism",
    "pool",
    "about_to_start",
    "backoff",
    "approval",
    "cancelling",
    "items",
    "max_parallel",
    # An attempt under way.
    "queued",
    "claimed",
    "submitted",
    "running",
    "doubt",
    "stop_unconfirmed",
    # How a job ended.
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "skipped_by_rule",
    "upstream_failed",
    "marked",
    # A run.
    "late",
    "deadline",
    "deadline_missed",
    "before_its_time",
    "run_finished",
    "part_of_backfill",
    "held",
    "turn",
    "admitted",
    "active_runs",
    "paused",
    "workflow_paused",
    "due",
    "missed",
    "refused",
    "skipped",
    "excluded",
    "dropped",
    "not_a_run",
    "before_registration",
    "unknown_instant",
    "not_requested",
    "not_registered",
]
"""Stable words for machines. `paused` holds something back; `workflow_paused` only says so, what runs goes on. `not_a_run`: the
instant was dealt with and did not become a run, and the state does not say how."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One reason, in words for people and in fields for machines."""

    code: Code
    subject: str
    """The job or run that it is about."""
    message: str
    """A full sentence, or a few."""
    since: datetime | None = None
    clears: str = ""
    """The event that will clear it, or what a person can do; empty when there is nothing to clear."""
    clears_at: datetime | None = None
    """When it clears by itself, where that is known."""
    holders: tuple[str, ...] = ()
    """The jobs or runs that stand in the way; at most `NAMES_MAX` of them."""
    chain: tuple["Condition", ...] = ()
    """What those in the way are themselves waiting for, followed to the roots; bounded."""


NAMES_MAX = 20
"""Names in one condition; a sentence shows fewer."""
_SHOWN_MAX = 5


def time_of(at: datetime) -> str:
    return instant_text(at)


def names_of(names: Sequence[str], conjunction: str = "and") -> str:
    """`a, b and c`; the first few and a count when there are many."""
    if len(names) > _SHOWN_MAX:
        return f"{', '.join(names[:_SHOWN_MAX])} and {len(names) - _SHOWN_MAX} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


def count_of(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def with_reason(reason: str) -> str:
    """`: reason`, without the full stop that the sentence brings along."""
    reason = reason.strip().rstrip(".")
    return f": {reason}" if reason else ""


def by_whom(by: str) -> str:
    return f" by {by}" if by else ""


def first_of(names: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for name in names:
        if len(kept) == NAMES_MAX:
            break
        kept.append(name)
    return tuple(kept)
