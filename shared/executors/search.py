"""Looking for an attempt's work at a target by the mark we gave it, because nobody heard its handle.

Not finding it proves that it is not there only when everything was looked through. Histories of busy accounts are wide, so every
search is bounded in pages and time, and one that meets a bound says so (`CutShort`) instead of "nothing".
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from shared.ports import Reference, Report

PAGES_MAX = 40
"""For one attempt; pages of AWS hold 50 to 100 rows."""
SECONDS_MAX = 20.0
"""For all attempts of one `observe`, or one `stop`."""
SKEW = timedelta(minutes=15)
"""Between our clocks and the target's (fault 59), and for a request on its way."""
LOOK_BACK = timedelta(days=3)
"""Where nobody knows when it was asked for."""

Clock = Callable[[], float]


class CutShort(Exception):
    """A bound was met: what was looked for may be there or not."""


class Search:
    """What may still be read for one attempt. `until`: of `clock`, which counts seconds."""

    def __init__(self, until: float, clock: Clock = time.monotonic) -> None:
        self._until = until
        self._clock = clock
        self._pages = 0

    def pages(
        self, ask: Callable[[dict[str, str]], Any], key: str, *, asked: str, answered: str
    ) -> Iterator[Mapping[str, Any]]:
        """The rows of all pages: `ask` gets what leads to the next one, named `asked`, where the answer before said `answered`."""
        more: dict[str, str] = {}
        while True:
            if self._pages >= PAGES_MAX:
                raise CutShort(f"more than {PAGES_MAX} pages of {key} would have to be looked through")
            if self._clock() >= self._until:
                raise CutShort(f"looking through {key} takes more than {SECONDS_MAX:.0f} seconds")
            self._pages += 1
            answer = ask(more)
            yield from answer.get(key) or ()
            if not answer.get(answered):
                return
            more = {asked: answer[answered]}


def asked_between(reference: Reference, now: datetime) -> tuple[datetime, datetime | None]:
    """Within which instants of the target's clock its request must have come in; the second None: up to now."""
    after = reference.asked_from - SKEW if reference.asked_from is not None else now - LOOK_BACK
    before = reference.asked_until + SKEW if reference.asked_until is not None else None
    return after, before if before is not None and before < now else None


def cut_short(reference: Reference, error: CutShort) -> Report:
    return Report(
        reference.token,
        reference.run,
        reference.job,
        reference.attempt,
        "unknown",
        reason=f"it was not found, and not everything was looked through: {error}",
        cut_short=True,
    )
