"""What is told of a run or a workflow: which notices were planned, and what became of each. Folded from `notices#<stream>`; the rules
stand in `decide/notices.py`.

Of notices that are over only the newest are kept here; all stand in the events.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from shared.errors import CorruptStream, UnknownEvents
from shared.events import Event, Notice, NoticeFailed, NoticeSent, NoticesPlanned, UnknownEvent
from shared.ids import Digest, StreamName

OVER_MAX = 100
"""Notices kept that are over."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A notice and how far it has come."""

    notice: Notice
    document: Digest
    planned_at: datetime
    status: Literal["open", "sent", "failed"] = "open"
    attempts: int = 0
    """Those that were answered, or given up."""
    retry_at: datetime | None = None
    """Not before this; None where it has not been tried."""
    ended_at: datetime | None = None
    reason: str = ""
    """Of the newest attempt that failed."""
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class NoticeLog:
    """The state of an empty stream has no `source` and tells nothing."""

    source: StreamName = StreamName("")  # noqa: RUF009  (a name)
    until: int = 0
    """Commits of the source that were looked at, as far as is recorded."""
    started: bool = False
    outcome: Literal["", "succeeded", "failed"] = ""
    doubts: int = 0
    at: datetime | None = None
    """Of the newest commit."""
    sending: tuple[Sending, ...] = ()
    """In the order of planning; all that are open, and the newest of the others."""

    @property
    def open(self) -> tuple[Sending, ...]:
        return tuple(one for one in self.sending if one.status == "open")

    def find(self, notice: str) -> Sending | None:
        return next((one for one in self.sending if one.notice.id == notice), None)


def fold_notices(events: Iterable[tuple[datetime, Event]], state: NoticeLog = NoticeLog()) -> NoticeLog:
    """Fold events, each with the time of its commit. Raises `CorruptStream`, `UnknownEvents`."""
    for at, event in events:
        match event:
            case NoticesPlanned():
                state = _planned(state, event, at)
            case NoticeSent():
                one = _open(state, event)
                sent = replace(
                    one, status="sent", attempts=event.attempt, ended_at=at, receipt=event.receipt, retry_at=None
                )
                state = _with(state, sent, at)
            case NoticeFailed():
                failed = replace(
                    _open(state, event), attempts=event.attempt, reason=event.reason, retry_at=event.retry_at
                )
                if event.retry_at is None:
                    failed = replace(failed, status="failed", ended_at=at)
                state = _with(state, failed, at)
            case UnknownEvent():
                raise UnknownEvents(f"an event of type {event.type} is newer than this code")
            case _:
                raise CorruptStream(f"{event.type} cannot stand in a stream of notices")
    return state


def _planned(state: NoticeLog, event: NoticesPlanned, at: datetime) -> NoticeLog:
    if event.until <= state.until or (state.source and state.source != event.source):
        raise CorruptStream("notices are planned once for each commit of one source")
    new = tuple(Sending(notice, event.document, at) for notice in event.notices)
    return NoticeLog(
        event.source,
        event.until,
        event.started,
        event.outcome,
        event.doubts,
        at,
        _kept((*state.sending, *new)),
    )


def _open(state: NoticeLog, event: NoticeSent | NoticeFailed) -> Sending:
    one = state.find(event.id)
    if one is None or one.status != "open" or event.attempt != one.attempts + 1:
        raise CorruptStream(f"{event.type}: no such attempt of the notice {event.id} is under way")
    return one


def _with(state: NoticeLog, changed: Sending, at: datetime) -> NoticeLog:
    sending = tuple(changed if one.notice.id == changed.notice.id else one for one in state.sending)
    return replace(state, sending=_kept(sending), at=at)


def _kept(sending: tuple[Sending, ...]) -> tuple[Sending, ...]:
    over = sum(one.status != "open" for one in sending)
    if over <= OVER_MAX:
        return sending
    kept = []
    for one in sending:
        if one.status != "open" and over > OVER_MAX:
            over -= 1
        else:
            kept.append(one)
    return tuple(kept)
