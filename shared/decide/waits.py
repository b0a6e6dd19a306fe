"""The rules of `waits_for`: what a run or a job waits for has a name before it exists, the wait begins where the job could start
otherwise, and what a look finds ends it.

A wait that expires does so by a look alone, so that what ended just before the deadline, and was not heard of, still counts.
Nothing here looks at other streams: that is `usecases/waits.py`, which says what it found as a command.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared import schedule, template
from shared.decide.commands import Finding, RecordLook
from shared.decide.context import context_of
from shared.errors import TemplateError
from shared.events import Event, RunRequested, WaitBegun, WaitExpired, WaitFailed, WaitMet
from shared.ids import JobName, instant_text, scheduled_run
from shared.secrecy import shortened
from shared.state.run import Run
from shared.state.waits import WHOLE_RUN, Wait, failed, is_open, open_waits, waits_of
from shared.workflow.document import Outcome
from shared.workflow.plan import Plan
from shared.workflow.waiting import FILE_BYTES_MAX, WaitFor, earlier, zone_of

if TYPE_CHECKING:
    from shared.decide.run import RunDraft

LOOK_FIRST_SECONDS = 300
"""A run that waits is woken when what it waits for ends; this look repairs a wake-up that was lost."""
LOOK_LAST_SECONDS = 3_600
FILE_FIRST_SECONDS = 30
"""Nobody tells that a file came: it is looked for, more and more seldom."""
FILE_LAST_SECONDS = 600
REASON_MAX = 300

_SECOND = timedelta(seconds=1)
_BEGINNING = datetime.fromisoformat("1970-01-02T00:00:00+00:00")


def run_may_begin(draft: "RunDraft") -> bool:
    """Begin what the whole run waits for, unless it has begun; whether its jobs may be decided on."""
    fold = draft.fold
    if not waits_of(fold.plan, WHOLE_RUN):
        return True
    if WHOLE_RUN not in fold.gates:
        for event in _begun(draft, WHOLE_RUN):
            draft.emit(event)
    gate = fold.gates[WHOLE_RUN]
    return not is_open(gate) and failed(gate) is None


def why_not(draft: "RunDraft", name: JobName) -> tuple[Outcome, str] | None:
    """How the job, or every job of the run, ends because of a wait; None where none failed."""
    lost = failed(draft.fold.gates.get(name, ()))
    if lost is None:
        return None
    if lost.ended == "expired":
        return "timed_out", f"waited for {lost.awaited} until the deadline"
    return "upstream_failed", lost.reason or f"waited for {lost.awaited}"


def job_must_wait(draft: "RunDraft", name: JobName) -> bool:
    """Begin what the job waits for, unless it has begun; whether it is to be decided on later. One that need not wait after all
    is undecided again, and comes up once more."""
    fold = draft.fold
    if not waits_of(fold.plan, name):
        return False
    if name in fold.gates:
        return is_open(fold.gates[name])
    for event in _begun(draft, name):
        draft.emit(event)
    return True


def record_look(draft: "RunDraft", command: RecordLook) -> bool:
    """End the waits that a look decided; whether any ended."""
    run = draft.freeze()
    assert isinstance(run, Run)
    found = {(finding.job, finding.number): finding for finding in command.findings}
    before = len(draft.events)
    for name, number, wait in open_waits(run):
        if is_open(draft.fold.gates[name]):
            finding = found.get((name, number))
            if finding is not None and finding.since not in (None, wait.since):
                finding = None
            event = _ended(run, name, number, wait, finding, min(command.looked_at, draft.now))
            if event is not None:
                draft.emit(event)
    return len(draft.events) > before


def due_looks(run: Run, after: datetime) -> list[datetime]:
    """When each wait must be looked at next, after `after`; a deadline that passed is due already."""
    moments: list[datetime] = []
    for _, _, wait in open_waits(run):
        is_file = wait.awaited.startswith(("/", "s3://"))
        first, last = (FILE_FIRST_SECONDS, FILE_LAST_SECONDS) if is_file else (LOOK_FIRST_SECONDS, LOOK_LAST_SECONDS)
        moments.append(_next_look(wait.since, first, last, after))
        if wait.deadline_at is not None:
            moments.append(wait.deadline_at)
    return moments


def _next_look(since: datetime, first: int, last: int, after: datetime) -> datetime:
    age = max((after - since).total_seconds(), 0.0)
    # Every `first` seconds in the first ten periods, then every tenth of the age up to `last`.
    step = max(int(min(max(first, age / 10), last) // first), 1) * first
    return since + timedelta(seconds=(int(age // step) + 1) * step)


def _begun(draft: "RunDraft", name: JobName) -> Iterator[Event]:
    fold = draft.fold
    assert fold.run is not None
    for number, wait in enumerate(waits_of(fold.plan, name)):
        items, fans = fold.all_items()
        context = context_of(fold.run.request, fold.run.requested_at, fold.all_jobs(), job=name, fans=fans, items=items)
        awaited, settled = _awaited(wait, fold.run.request, fold.plan, context)
        deadline = None if wait.timeout_minutes is None else draft.now + timedelta(minutes=wait.timeout_minutes)
        yield WaitBegun(job=name, number=number, awaited=awaited, deadline_at=None if settled else deadline)
        if isinstance(settled, TemplateError):
            yield WaitFailed(job=name, number=number, reason=_short(f"its name cannot be made: {settled}"))
            return
        if settled:
            yield WaitMet(job=name, number=number, reason=settled)


def _awaited(
    wait: WaitFor, request: RunRequested, plan: Plan, context: dict[str, object]
) -> tuple[str, str | TemplateError]:
    """What is waited for, by name, and why there is nothing to wait for (or to name), if so."""
    if wait.file is not None:
        try:
            file = template.render_text(wait.file, context)
        except TemplateError as error:
            return wait.file, error
        if len(file.encode(errors="replace")) > FILE_BYTES_MAX or not file.isprintable():
            return wait.file, TemplateError(f"it is longer than {FILE_BYTES_MAX} bytes, or holds control characters")
        return file, ""
    assert wait.workflow is not None
    if wait.latest_within_minutes is not None:
        return wait.workflow, ""
    if request.scheduled_at is None:
        return wait.workflow, "the run is of no scheduled instant, so there is none to wait for"
    own = plan.workflow.schedule if wait.workflow == plan.workflow.name else None
    if wait.lag_instants is not None:
        if own is None:
            # By the schedule that the other workflow has when it is looked at.
            return wait.workflow, ""
        before = schedule.latest(own, _BEGINNING, request.scheduled_at - _SECOND, wait.lag_instants)
        if len(before) < wait.lag_instants:
            return wait.workflow, "its schedule has no earlier instant"
        return scheduled_run(request.workflow, before[0].at), ""
    instant = earlier(wait, request.scheduled_at, zone_of(plan.workflow.schedule))
    if own is not None and not schedule.due(own, instant - _SECOND, instant, limit=1):
        return scheduled_run(request.workflow, instant), f"its schedule has no instant {instant_text(instant)}"
    return scheduled_run(wait.workflow, instant), ""  # type: ignore[arg-type]


def _ended(
    run: Run, name: JobName, number: int, wait: Wait, finding: Finding | None, looked_at: datetime
) -> Event | None:
    document = waits_of(run.plan, name)[number]
    if finding is not None:
        there = finding.there and (document.until == "ended" or finding.outcome in ("", "succeeded"))
        # Of its own earlier instants nothing is missing that was skipped, missed or never due.
        if there or (not finding.there and document.workflow == run.request.workflow):
            return _told(WaitMet, name, number, finding, finding.reason)
        if document.on_failure == "go_on":
            return _told(WaitMet, name, number, finding, f"it goes on all the same; {finding.reason}")
        if document.on_failure == "fail":
            return _told(WaitFailed, name, number, finding, finding.reason)
    if wait.deadline_at is not None and wait.deadline_at <= looked_at:
        return WaitExpired(job=name, number=number, go_on=document.on_timeout == "go_on")
    return None


def _told(kind: type[WaitMet] | type[WaitFailed], name: JobName, number: int, finding: Finding, reason: str) -> Event:
    return kind(
        job=name,
        number=number,
        run=finding.run,
        version=finding.version,
        outcome=finding.outcome,
        reason=_short(reason),
    )


def _short(text: str) -> str:
    return shortened(text, REASON_MAX)
