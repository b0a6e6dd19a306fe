"""What holds for notices: each is planned once and under the name that follows from what it tells, has one end at most and no more tries than
are allowed (I3); and of a run that is over, everything that was to be told is planned (I7)."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from shared.decide.notices import TRIES_MAX
from shared.decide.occasions import Carry, occasions
from shared.events import Event, NoticeFailed, NoticeSent, NoticesPlanned, RunReopened
from shared.ids import StreamName, notice_id, notices_stream
from shared.state.run import Run
from shared.usecases.verify.violation import Found


class NoticesChecker:
    """Follows one stream of notices."""

    def __init__(self, stream: StreamName) -> None:
        self._stream = stream
        self._until = 0
        self._tries: dict[str, int] = {}
        self._over: set[str] = set()

    def check(self, event: Event) -> Iterator[Found]:
        match event:
            case NoticesPlanned():
                yield from self._planned(event)
            case NoticeSent() | NoticeFailed():
                yield from self._answered(event)
            case _:
                yield "I8", f"{event.type} does not belong into a stream of notices"

    def _planned(self, event: NoticesPlanned) -> Iterator[Found]:
        if notices_stream(event.source) != self._stream:
            yield "I8", f"the stream holds notices of {event.source}"
        for one in event.notices:
            if one.id in self._tries:
                yield "I3", f"notice {one.id} was planned twice"
            if one.id != notice_id(event.source, one.version, one.on, one.rule):
                yield "I8", f"notice {one.id} does not bear the name of what it tells"
            if not self._until < one.version <= event.until:
                yield "I3", f"notice {one.id} is about commit {one.version}, which was dealt with otherwise"
            self._tries[one.id] = 0
        self._until = max(self._until, event.until)

    def _answered(self, event: NoticeSent | NoticeFailed) -> Iterator[Found]:
        tries = self._tries.get(event.id)
        if tries is None:
            yield "I3", f"notice {event.id} was answered and never planned"
            return
        if event.id in self._over:
            yield "I3", f"notice {event.id} was over, and was answered again"
        if event.attempt != tries + 1:
            yield "I3", f"attempt {event.attempt} of notice {event.id} follows {tries}"
        if event.attempt > TRIES_MAX:
            yield "I3", f"notice {event.id} was tried {event.attempt} times"
        self._tries[event.id] = event.attempt
        if isinstance(event, NoticeSent) or event.retry_at is None:
            self._over.add(event.id)


def untold(
    run: Run,
    source: StreamName,
    commits: Iterable[tuple[int, datetime, tuple[Event, ...]]],
    planned: Iterable[Event],
) -> Iterator[Found]:
    """What was to be told of a run that is over, since its newest round began, and was not planned. Whether it is the first success after
    another run's failure is known by lists alone, and not asked here."""
    known = {one.id for event in planned if isinstance(event, NoticesPlanned) for one in event.notices}
    rules = run.plan.workflow.notify or ()
    wanted: dict[str, str] = {}
    carry = Carry()
    for version, at, events in commits:
        told, carry = occasions(version, at, events, carry)
        if any(isinstance(event, RunReopened) for event in events):
            # By other rules, perhaps, which nobody would look up any more.
            wanted.clear()
        for one in told:
            for position, rule in enumerate(rules):
                if one.on in rule.on:
                    wanted[notice_id(source, version, one.on, position)] = f"{one.on} at commit {version}"
    for name, what in wanted.items():
        if name not in known:
            yield "I7", f"nobody was told of {what}, as the document asks, and nobody will look at it"
