"""What holds of waits for something outside a run: no job begins before all that it, and the run, waits for is over and let it (I4)."""

from collections.abc import Iterator
from datetime import datetime

from shared.events import WaitBegun, WaitExpired, WaitFailed, WaitMet
from shared.ids import JobName
from shared.usecases.verify.violation import Found
from shared.workflow.plan import Plan
from shared.workflow.waiting import WaitFor

WaitEvent = WaitBegun | WaitMet | WaitFailed | WaitExpired
WAIT_EVENTS = (WaitBegun, WaitMet, WaitFailed, WaitExpired)
_RUN = JobName("")


class WaitChecker:
    """Follows the waits of one run."""

    def __init__(self) -> None:
        self._going_on: dict[tuple[JobName, int], WaitBegun] = {}
        self._over: dict[JobName, set[int]] = {}
        self._lost: set[JobName] = set()

    def check(self, event: WaitEvent, at: datetime, plan: Plan) -> Iterator[Found]:
        key = (event.job, event.number)
        what = f"wait {event.number} of {event.job or 'the run'}"
        if isinstance(event, WaitBegun):
            if event.number >= len(_asked(plan, event.job)):
                yield "I4", f"{what} began, and the document has no such wait"
            if key in self._going_on or event.number in self._over.get(event.job, ()):
                yield "I3", f"{what} began twice"
            self._going_on[key] = event
            return
        begun = self._going_on.pop(key, None)
        if begun is None:
            yield "I3", f"{what} ended, and was not under way"
            return
        if isinstance(event, WaitExpired) and (begun.deadline_at is None or at < begun.deadline_at):
            yield "I4", f"{what} expired at {at.isoformat()}, before its deadline"
        if isinstance(event, WaitFailed) or (isinstance(event, WaitExpired) and not event.go_on):
            self._lost.add(event.job)
        else:
            self._over.setdefault(event.job, set()).add(event.number)

    def start(self, job: JobName, what: str, plan: Plan) -> Iterator[Found]:
        """Whether the job may begin."""
        for whose in (_RUN, job):
            left = set(range(len(_asked(plan, whose)))) - self._over.get(whose, set())
            if left:
                wait = _asked(plan, whose)[min(left)]
                yield "I4", f"{job} {what}, and {wait} was still waited for"

    def lost(self, job: JobName) -> bool:
        """Whether a wait decided that the job does not begin."""
        return job in self._lost or _RUN in self._lost

    def reopened(self, old: Plan, new: Plan) -> None:
        """A new round waits anew for what let nothing through, or is asked for otherwise now."""
        for job in {*self._over, *self._lost, *(job for job, _ in self._going_on)}:
            passed = job not in self._lost and self._over.get(job, set()) >= set(range(len(_asked(old, job))))
            if not passed or _asked(old, job) != _asked(new, job):
                self._over.pop(job, None)
                self._lost.discard(job)
        self._going_on.clear()


def _asked(plan: Plan, job: JobName) -> tuple[WaitFor, ...]:
    document = plan.jobs.get(job) if job else plan.workflow
    return (document.waits_for or ()) if document is not None else ()
