"""The rules of notices: each is planned once, tried a bounded number of times, and what became of it is kept.

Telling is at least once: a channel that took a notice and whose answer was lost is asked again, with the same id in the message, by
which whoever receives it can tell.
"""

from datetime import datetime, timedelta
from typing import assert_never

from shared.decide.commands import NoticeCommand, PlanNotices, RecordNotSent, RecordSent
from shared.events import Event, NoticeFailed, NoticeSent, NoticesPlanned
from shared.secrecy import shortened
from shared.state.notices import NoticeLog, fold_notices

TRIES_MAX = 8
"""Of one notice."""
RETRY_FIRST_SECONDS = 10.0
RETRY_BACKOFF = 3.0
RETRY_LAST_SECONDS = 3600.0
"""10 s, 30 s, 90 s, 4.5 min, 13.5 min, 40 min, 1 h: two hours in all, and then it is given up."""
TEXT_MAX = 500
"""Characters of a reason or a receipt."""


def decide_notices(state: NoticeLog, command: NoticeCommand, *, now: datetime) -> list[Event]:
    """What happens because of `command`; nothing where it happened already."""
    match command:
        case PlanNotices():
            # Whoever looked at the source from further back planned the same notices: they are named by what they tell.
            new = tuple(notice for notice in command.notices if notice.version > state.until)
            if command.until <= state.until or not new:
                return []
            return [
                NoticesPlanned(
                    source=command.source,
                    document=command.document,
                    until=command.until,
                    started=command.carry.started,
                    outcome=command.carry.outcome,
                    doubts=command.carry.doubts,
                    notices=new,
                )
            ]
        case RecordSent():
            one = state.find(command.notice)
            if one is None or one.status != "open":
                return []
            return [NoticeSent(id=command.notice, attempt=one.attempts + 1, receipt=_short(command.receipt))]
        case RecordNotSent():
            one = state.find(command.notice)
            if one is None or one.status != "open" or one.attempts + 1 != command.attempt:
                return []
            over = command.never or command.attempt >= TRIES_MAX
            retry_at = None if over else now + retry_delay(command.attempt)
            return [
                NoticeFailed(
                    id=command.notice, attempt=command.attempt, reason=_short(command.reason), retry_at=retry_at
                )
            ]
        case _:
            assert_never(command)


def retry_delay(attempt: int) -> timedelta:
    """After how long a notice is tried again whose attempt of that number failed."""
    return timedelta(seconds=min(RETRY_FIRST_SECONDS * RETRY_BACKOFF ** (attempt - 1), RETRY_LAST_SECONDS))


class NoticesDraft:
    """As `RunDraft` is for a run."""

    truncated = False
    room = True

    def __init__(self, state: NoticeLog, now: datetime) -> None:
        self.state = state
        # Clocks differ; a commit is never earlier than the one before it.
        self.now = now if state.at is None else max(now, state.at)
        self.events: list[Event] = []

    def decide(self, command: NoticeCommand) -> None:
        events = decide_notices(self.state, command, now=self.now)
        self.state = fold_notices(((self.now, event) for event in events), self.state)
        self.events.extend(events)


def _short(text: str) -> str:
    return shortened(text.encode(errors="replace").decode(), TEXT_MAX)
