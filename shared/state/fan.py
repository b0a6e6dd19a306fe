"""A job with `for_each` while a run goes on: its items as ranges of numbers and counts, not as a hundred thousand objects.

What it promises: an item that nothing has happened to costs one bit. One that was begun has a `JobState` of its own beside this, under the
name `job:index`; the sets here say which may begin and which wait for a retry, so that finding the next one, and ending all that are
left, looks at no item.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.state.ranks import EMPTY, Ranks
from shared.workflow.document import Outcome

if TYPE_CHECKING:
    from shared.workflow.fan_out import ForEach

BAD_ITEMS = ("failed", "timed_out", "cancelled")
"""How items end badly."""


@dataclass(frozen=True, slots=True)
class Unstarted:
    """How the items ended that never began."""

    outcome: Outcome
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class FanCancel:
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Fan:
    """The items of one job."""

    since: datetime
    """When it expanded."""
    count: int
    items: tuple[Any, ...] | None
    """The list, where the run itself pins it; None: the document's, or the numbers of a range."""
    tolerated: int
    max_parallel: int | None
    todo: Ranks
    """Items that may begin an attempt."""
    resting: Ranks = EMPTY
    """Items that failed and wait for their retry."""
    active: int = 0
    """Attempts under way."""
    stopping: int = 0
    """Those of them that somebody wants to end."""
    left: int = 0
    """Items that have not ended."""
    tally: Mapping[str, int] | None = None
    """Items that ended, by outcome."""
    unstarted: Unstarted | None = None
    cancel: FanCancel | None = None
    bad_before: int = 0
    """Items that ended badly in an earlier round and are not done again: they count in the end, and keep no other from beginning."""
    joined: bool = False
    """Every item has ended, and so has the job."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        return self.tally or {}

    @property
    def bad(self) -> int:
        tally = self.outcomes
        return sum(tally.get(outcome, 0) for outcome in BAD_ITEMS)

    @property
    def exceeded(self) -> bool:
        """More items ended badly in this round than may."""
        return self.bad - self.bad_before > self.tolerated

    @property
    def startable(self) -> bool:
        return (
            self.todo != EMPTY
            and not self.joined
            and self.cancel is None
            and (self.max_parallel is None or self.active < self.max_parallel)
            and not self.exceeded
        )

    @property
    def undecided(self) -> bool:
        """Whether something is to be decided about the job as a whole: that it has ended, or that what is left of it is given up."""
        if self.joined:
            return False
        if self.left == 0:
            return True
        if self.cancel is None and not self.exceeded:
            return False
        return self.todo | self.resting != EMPTY or (self.cancel is not None and self.active > self.stopping)


def fresh(at: datetime, count: int, items: Sequence[Any] | None, *, tolerated: int, max_parallel: int | None) -> Fan:
    """Before any item has begun."""
    kept = tuple(items) if items is not None else None
    return Fan(at, count, kept, tolerated, max_parallel, todo=(1 << count) - 1, left=count, tally={})


def counted(fan: Fan, outcome: Outcome, by: int) -> Mapping[str, int]:
    """The outcomes with so many more of one."""
    tally = dict(fan.outcomes)
    tally[outcome] = tally.get(outcome, 0) + by
    if not tally[outcome]:
        del tally[outcome]
    return tally


def ended(fan: Fan, outcome: Outcome) -> Fan:
    """After one item more has ended."""
    return replace(fan, left=fan.left - 1, tally=counted(fan, outcome, 1))


def item_at(fan: Fan, for_each: "ForEach | None", index: int) -> Any:
    """The value of one item."""
    if fan.items is not None:
        return fan.items[index]
    given = for_each.items if for_each is not None else None
    return given[index] if isinstance(given, list | tuple) else index


def members(ranks: Ranks) -> Iterator[int]:
    """The numbers in a set, smallest first; linear in the largest."""
    for index, bit in enumerate(reversed(bin(ranks)[2:])):
        if bit == "1":
            yield index
