"""Tells people: derives notices from what happened, off the hot path, and hands them to their channels.

What it promises: each notice is planned exactly once, by the conditional write that also records how far its source was looked at;
planned and not answered, it stays due, so whatever dies, it is tried again, a bounded number of times. A channel that fails holds up
nobody: what became of each notice is an event, and the next one has nothing to do with it.

How far a source was looked at is remembered by this process as well, so that a long run without anything to tell is read once.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.codec import events_in
from shared.decide.commands import NoticeCommand, PlanNotices, RecordNotSent, RecordSent
from shared.decide.occasions import Carry, notices_of, occasions
from shared.effects import DeliverNotice, PlanNoticesOf
from shared.errors import RunfoldError, TargetRefused
from shared.events import Notice, RunFinished
from shared.ids import Digest, RunId, StreamName, kind_of, notices_stream, subject_of, workflow_of
from shared.ports import Courier, Message, RunFilter, Views
from shared.state.notices import NoticeLog
from shared.state.run import Plans, Run
from shared.state.workflow import WorkflowState
from shared.usecases.loading import Loaded
from shared.usecases.transact import Transact
from shared.workflow.document import Workflow
from shared.workflow.notices import Channel

logger = logging.getLogger("runfold.notices")

PLANNED_BYTES_MAX = 60_000
"""Of the notices in one commit."""
LOOKED_MAX = 2_000
"""Sources of which a process remembers how far it looked."""
EARLIER_MAX = 50
"""Runs looked at for the one before: those asked for last."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice that is to be handed over now."""

    stream: StreamName
    courier: Courier
    message: Message

    def attempt(self) -> NoticeCommand:
        """Hand it over; what is to be recorded. Touches nothing of the engine's, so it may be done in any thread."""
        notice, attempt = self.message.id, self.message.attempt
        try:
            return RecordSent(notice, self.courier.send(self.message))
        except TargetRefused as error:
            return RecordNotSent(notice, attempt, str(error), never=True)
        except RunfoldError as error:
            return RecordNotSent(notice, attempt, str(error), never=False)
        except Exception as error:
            # A bug of ours in one channel must not leave the notice without an answer, or hold up the others.
            logger.exception("the channel of notice %s fails", notice)
            return RecordNotSent(notice, attempt, f"{type(error).__name__}: {error}", never=False)


class Notices:
    def __init__(
        self,
        transact: Transact,
        views: Views,
        couriers: Mapping[Channel, Courier],
        *,
        now: Callable[[], datetime],
        address: str = "",
    ) -> None:
        """`address`: where the API answers, for links; empty when nobody knows."""
        self._transact = transact
        self._views = views
        self._couriers = couriers
        self._now = now
        self._address = address
        self._looked: OrderedDict[StreamName, tuple[int, Carry]] = OrderedDict()

    # --- what is to be told -------------------------------------------------------------------------------------------

    def are_due(self, loaded: Loaded) -> bool:
        """Whether there is anything to plan. Only reads."""
        return self._look(loaded, store=False)

    def plan(self, loaded: Loaded) -> bool:
        """Plan whatever follows from the stream up to this version and was not planned; whether there was any.

        Costs nothing where the document has no rules. Raises `Conflict`, `StoreUnavailable`.
        """
        return self._look(loaded, store=True)

    def plan_of(self, effect: PlanNoticesOf) -> None:
        self.plan(self._transact.current(effect.stream))

    def _look(self, loaded: Loaded, *, store: bool) -> bool:
        found = rules_of(loaded, self._transact.loader.plans)
        if found is None:
            return False
        digest, document = found
        source = loaded.stream
        log = self._transact.current(notices_stream(source)).state
        assert isinstance(log, NoticeLog)
        after, carry = log.until, Carry(log.started, log.outcome, log.doubts)
        looked = self._looked.get(source)
        if looked is not None and looked[0] >= after:
            after, carry = looked
        run = loaded.state if isinstance(loaded.state, Run) else None
        planned: list[Notice] = []
        size, until = 0, after
        any_planned = False
        for record in self._transact.loader.records(source, after=after):
            if record.version > loaded.version:
                break
            events = events_in(record.body)
            failed_before = (
                run is not None
                and not carry.outcome
                and any(isinstance(event, RunFinished) and event.outcome == "succeeded" for event in events)
                and any("recovered" in rule.on for rule in document.notify or ())
                and self._failed_before(run, record.at)
            )
            told, following = occasions(record.version, record.at, events, carry, failed_before=failed_before)
            new = notices_of(source, told, document, run if record.version == loaded.version else None, self._address)
            if new and not store:
                return True
            more = sum(len(notice.model_dump_json()) for notice in new)
            if planned and size + more > PLANNED_BYTES_MAX:
                any_planned = self._store(source, digest, until, carry, planned) or any_planned
                planned, size = [], 0
            planned += new
            size += more
            until, carry = record.version, following
        if planned:
            any_planned = self._store(source, digest, until, carry, planned) or any_planned
        self._remember(source, until, carry)
        return any_planned

    def _store(self, source: StreamName, digest: Digest, until: int, carry: Carry, planned: list[Notice]) -> bool:
        command = PlanNotices(source, digest, until, carry, tuple(planned))
        decided = self._transact(notices_stream(source), command, by="notices", cause=f"notices:{until}")
        return bool(decided.events)

    def _remember(self, source: StreamName, until: int, carry: Carry) -> None:
        self._looked[source] = (until, carry)
        self._looked.move_to_end(source)
        if len(self._looked) > LOOKED_MAX:
            self._looked.popitem(last=False)

    def forget(self) -> None:
        """What was planned may not be stored: look again from what is recorded."""
        self._looked.clear()

    def _failed_before(self, run: Run, at: datetime) -> bool:
        """Whether the run of this workflow that ended last before that moment failed. Lists may be a moment behind."""
        rows = self._views.runs(RunFilter(workflow=run.request.workflow), limit=EARLIER_MAX).rows
        ended = [
            (row.finished_at, row.status)
            for row in rows
            if row.run != run.run
            and row.finished_at is not None
            and row.finished_at <= at
            and row.status in ("succeeded", "failed")
        ]
        return bool(ended) and max(ended)[1] == "failed"

    # --- telling it ---------------------------------------------------------------------------------------------------

    def prepare(self, effect: DeliverNotice) -> Delivery | None:
        """What is to be handed over; None when it was, or is not to be yet."""
        state = self._transact.current(effect.stream).state
        assert isinstance(state, NoticeLog)
        one = state.find(effect.notice)
        if one is None or one.status != "open" or (one.retry_at is not None and one.retry_at > self._now()):
            return None
        notice = one.notice
        rules = self._transact.loader.plans(one.document).workflow.notify or ()
        name = subject_of(state.source)
        about_run = kind_of(state.source) == "run"
        message = Message(
            id=notice.id,
            on=notice.on,
            workflow=workflow_of(RunId(name)) if about_run else name,
            run=name if about_run else "",
            at=notice.at,
            subject=notice.subject,
            text=notice.text,
            rule=rules[notice.rule],
            attempt=one.attempts + 1,
        )
        return Delivery(effect.stream, self._couriers[notice.channel], message)

    def record(self, stream: StreamName, command: NoticeCommand) -> None:
        """Keep what became of an attempt."""
        notice = command.notice if isinstance(command, RecordSent | RecordNotSent) else ""
        self._transact(stream, command, by="notices", cause=f"notice:{notice}")

    def deliver(self, effect: DeliverNotice) -> None:
        delivery = self.prepare(effect)
        if delivery is not None:
            self.record(effect.stream, delivery.attempt())


def rules_of(loaded: Loaded, plans: Plans) -> tuple[Digest, Workflow] | None:
    """The document whose rules a stream's notices follow; None when there is nothing to tell anybody."""
    match loaded.state:
        case Run(plan=plan):
            digest, document = plan.digest, plan.workflow
        case WorkflowState(live=live, versions=versions):
            digest = (live or versions[-1]).document
            document = plans(digest).workflow
        case _:
            return None
    # Only a missed instant is told of a workflow itself, and each of its commits would be read for it.
    about = [rule for rule in document.notify or () if isinstance(loaded.state, Run) or "missed" in rule.on]
    return (digest, document) if about else None
