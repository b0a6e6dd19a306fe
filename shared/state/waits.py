"""What a run, or a job of it, waits for outside the run: a gate, which is a wait for each thing of its `waits_for`, in their order.

A gate is there from when its waits begin. It lets through when all are over and none failed; one that failed decides the gate.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from immutables import Map

from shared.errors import CorruptStream
from shared.events import WaitBegun, WaitExpired, WaitFailed, WaitMet
from shared.ids import JobName
from shared.workflow.plan import Plan
from shared.workflow.waiting import WaitFor

if TYPE_CHECKING:
    from shared.state.run import Run

WHOLE_RUN = JobName("")
"""Under this name stands the gate of the run itself."""


@dataclass(frozen=True, slots=True)
class Wait:
    awaited: str
    since: datetime
    deadline_at: datetime | None
    ended: Literal["", "met", "failed", "expired", "expired_and_on"] = ""
    """How it ended; empty while it goes on."""
    at: datetime | None = None
    """When it ended."""
    reason: str = ""


Gate = tuple[Wait, ...]
Gates = Map[JobName, Gate]


def failed(gate: Gate) -> Wait | None:
    """The wait that decides the gate, if one did."""
    return next((wait for wait in gate if wait.ended in ("failed", "expired")), None)


def is_open(gate: Gate) -> bool:
    """Whether it is still waited for."""
    return any(not wait.ended for wait in gate) and failed(gate) is None


def begun(gates: Gates, event: WaitBegun, at: datetime) -> Gates:
    gate = gates.get(event.job, ())
    if event.number != len(gate):
        raise CorruptStream(f"wait {event.number} of {event.job or 'the run'} cannot begin after {len(gate)}")
    return gates.set(event.job, (*gate, Wait(event.awaited, at, event.deadline_at)))


def ended(gates: Gates, event: WaitMet | WaitFailed | WaitExpired, at: datetime) -> Gates:
    gate = gates.get(event.job, ())
    if not 0 <= event.number < len(gate) or gate[event.number].ended:
        raise CorruptStream(f"wait {event.number} of {event.job or 'the run'} is not under way and cannot end")
    after = gate[event.number]
    match event:
        case WaitMet():
            after = replace(after, ended="met", at=at, reason=event.reason)
        case WaitFailed():
            after = replace(after, ended="failed", at=at, reason=event.reason)
        case WaitExpired():
            after = replace(after, ended="expired_and_on" if event.go_on else "expired", at=at)
    return gates.set(event.job, (*gate[: event.number], after, *gate[event.number + 1 :]))


def kept(gates: Gates, old: Plan, new: Plan) -> Gates:
    """Gates that a new round need not pass again: those that let through, where the document still asks for the same."""
    for name, gate in gates.items():
        if is_open(gate) or failed(gate) is not None or waits_of(old, name) != waits_of(new, name):
            gates = gates.delete(name)
    return gates


def waits_of(plan: Plan, name: JobName) -> tuple[WaitFor, ...]:
    """What the document says that the job, or the run, waits for."""
    if name == WHOLE_RUN:
        return plan.workflow.waits_for or ()
    job = plan.jobs.get(name)
    return (job.waits_for or ()) if job is not None else ()


def open_waits(run: "Run") -> list[tuple[JobName, int, Wait]]:
    """What the run waits for now, in a fixed order; nothing once it is cancelled or over, or the job that waited has ended."""
    if not run.gates or run.finished or run.cancel is not None:
        return []
    found: list[tuple[JobName, int, Wait]] = []
    for name in sorted(run.gates):
        gate = run.gates[name]
        if is_open(gate) and (name == WHOLE_RUN or run.jobs[name].status == "waiting"):
            found.extend((name, number, wait) for number, wait in enumerate(gate) if not wait.ended)
    return found
