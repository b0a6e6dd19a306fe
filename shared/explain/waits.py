"""Why a run, or a job of it, waits for something outside: what that is, how it is doing, and what will clear it."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from shared.explain.conditions import Condition, time_of
from shared.ids import JobName, RunId
from shared.state.run import Run
from shared.state.waits import WHOLE_RUN, Wait, open_waits, waits_of
from shared.workflow.waiting import WaitFor

Upstream = Callable[[RunId], Sequence[Condition]]
"""What keeps another run, or how it is doing; nothing where that is not known."""
CHAIN_MAX = 5
"""Conditions of what is waited for that are shown."""


def nothing_known(_: RunId) -> Sequence[Condition]:
    return ()


def waits_outside(run: Run, subject: str, upstream: Upstream) -> list[Condition]:
    """Of a job, or under the run's own id of the run as a whole; a job waits for what its run waits for."""
    return [
        _condition(subject, waits_of(run.plan, name)[number], wait, upstream)
        for name, number, wait in open_waits(run)
        if name in (WHOLE_RUN, JobName(subject))
    ]


def _condition(subject: str, document: WaitFor, wait: Wait, upstream: Upstream) -> Condition:
    if wait.deadline_at is None:
        then = "It waits for as long as it takes."
    else:
        what = "goes on without it" if document.on_timeout == "go_on" else "gives up"
        then = f"At {time_of(wait.deadline_at)} it {what}."
    if document.file is not None:
        return Condition(
            "waits_for_file",
            subject,
            f"{subject} waits for the file {wait.awaited}, which was not there at the last look. {then}",
            since=wait.since,
            clears=f"when {wait.awaited} is there; it is looked for again and again, within ten minutes",
            clears_at=wait.deadline_at,
            holders=(wait.awaited,),
        )
    if document.latest_within_minutes is not None:
        window = timedelta(minutes=document.latest_within_minutes)
        return Condition(
            "waits_for_success",
            subject,
            f"{subject} waits for a scheduled run of {document.workflow} that succeeded, not more than {window} before it. {then}",
            since=wait.since,
            clears=f"when a run of {document.workflow} succeeds",
            clears_at=wait.deadline_at,
            holders=(wait.awaited,),
        )
    chain = tuple(upstream(RunId(wait.awaited)))[:CHAIN_MAX] if "@" in wait.awaited else ()
    what = f"job {document.job} of {wait.awaited}" if document.job else wait.awaited
    if "@" not in wait.awaited:
        what = str(document)
    told = f": {chain[0].message}" if chain else "."
    how = "ends" if document.until == "ended" else "succeeds"
    moments = [one.clears_at for one in chain if one.code == "before_its_time" and one.clears_at is not None]
    return Condition(
        "waits_for_run",
        subject,
        f"{subject} waits for {what}{told} {then}",
        since=wait.since,
        clears=f"when {what} {how}",
        clears_at=min(moments, default=wait.deadline_at),
        holders=(wait.awaited,),
        chain=chain,
    )
