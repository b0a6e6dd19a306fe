"""Whether what a document waits for can ever be there: what only the other workflows' documents tell, when one is registered.

What it promises: every problem at once, each with its place; a bounded number of other documents is read.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise

from shared import schedule
from shared.errors import Problem
from shared.ids import instant_text
from shared.workflow.document import AnyJob, Workflow
from shared.workflow.timing import Schedule
from shared.workflow.waiting import WaitFor, earlier, zone_of

Known = Callable[[str], Workflow | None]
"""The live document of a workflow; None where there is none."""
DOCUMENTS_MAX = 200
"""Documents that are followed from wait to wait, in search of a cycle."""
INSTANTS_TRIED = 400
"""Instants of the waiting schedule for which one of the other is looked for: more than a year of days."""
CYCLE_SHOWN_MAX = 8
_SECOND = timedelta(seconds=1)
_BEGINNING = datetime.fromisoformat("1970-01-02T00:00:00+00:00")


def check_waitable(
    document: Workflow, known: Known, now: datetime, *, files: str, nearest: Callable[[str], str]
) -> Iterator[Problem]:
    """What can never be met. `files`: how addresses begin that this engine looks for. `nearest`: the nearest name of a workflow, as a hint."""
    for path, wait in _waits(document):
        if wait.file is not None:
            if not wait.file.startswith(files):
                yield Problem(
                    f"{path}.file", f"this engine looks for files at {files}…", "a path on one machine, s3://… on AWS"
                )
        else:
            yield from _check_run(document, wait, path, known, now, nearest)
    found = _cycle(document, known)
    if found is not None:
        path, cycle = found
        if len(cycle) > CYCLE_SHOWN_MAX:
            cycle = [*cycle[: CYCLE_SHOWN_MAX - 1], f"… {len(cycle) - CYCLE_SHOWN_MAX} more …", cycle[-1]]
        yield Problem(
            path,
            f"these wait for each other at the same instant: {' -> '.join([*cycle, cycle[0]])}",
            "each arrow reads `waits for`; remove one of them, or give one a lag",
        )


def _waits(document: Workflow) -> Iterator[tuple[str, WaitFor]]:
    for place, wait in enumerate(document.waits_for or ()):
        yield f"waits_for[{place}]", wait
    for position, job in enumerate(document.jobs):
        for place, wait in enumerate(job.waits_for or ()):
            yield f"jobs[{position}].waits_for[{place}]", wait


def _check_run(
    document: Workflow, wait: WaitFor, path: str, known: Known, now: datetime, nearest: Callable[[str], str]
) -> Iterator[Problem]:
    assert wait.workflow is not None
    other = document if wait.workflow == document.name else known(wait.workflow)
    if other is None:
        hint = nearest(wait.workflow) or "register it first"
        yield Problem(f"{path}.workflow", f"there is no workflow `{wait.workflow}`", hint)
        return
    if wait.job is not None and all(job.name != wait.job for job in other.jobs):
        yield Problem(
            f"{path}.job", f"`{wait.workflow}` has no job `{wait.job}`", "name one of its jobs, or leave it out"
        )
    if other.schedule is None:
        yield Problem(
            f"{path}.workflow",
            f"`{wait.workflow}` has no schedule, so no run of it has an instant",
            "give it a schedule",
        )
    elif wait.is_exact and document.schedule is None:
        yield Problem(
            path, "this workflow has no schedule, so its runs are of no instant", "give it one, or wait for a success"
        )
    elif wait.is_exact and document.schedule is not None:
        tried = [one.at for one in schedule.upcoming(document.schedule, now, INSTANTS_TRIED)]
        if tried and not _ever(document, wait, tried, other.schedule):
            yield Problem(
                path,
                f"`{wait.workflow}` is never scheduled at the instant that is waited for",
                f"the next run, of {instant_text(tried[0])}, would wait for {_wanted(document, wait, tried[0])}",
            )


def _ever(document: Workflow, wait: WaitFor, tried: list[datetime], other: Schedule) -> bool:
    if wait.lag_instants is not None:
        before = schedule.latest(other, _BEGINNING, tried[-1] - _SECOND, wait.lag_instants)
        return len(before) == wait.lag_instants
    wanted = (earlier(wait, at, zone_of(document.schedule)) for at in tried)
    return any(schedule.due(other, at - _SECOND, at, limit=1) for at in wanted)


def _wanted(document: Workflow, wait: WaitFor, at: datetime) -> str:
    if wait.lag_instants is not None:
        return f"the {wait.lag_instants}. instant before"
    return instant_text(earlier(wait, at, zone_of(document.schedule)))


_Key = tuple[str, str]
"""Workflow, and job, or nothing for its end."""


def _cycle(document: Workflow, known: Known) -> tuple[str, list[str]] | None:
    """A cycle of waits at one instant through the document, and where its own wait stands. Jobs, not workflows: two workflows may wait for
    jobs of each other, in both directions, as long as no job ends up waiting for itself."""
    documents = _followed(document, known)
    jobs = {(name, job.name): job for name, one in documents.items() for job in one.jobs}
    edges = {node: tuple(_edges(node, documents, jobs)) for node in _nodes(documents)}
    done: set[_Key] = set()
    for root, first in edges.items():
        if root[0] != document.name or root in done:
            continue
        stack = [(root, iter(first))]
        on_way = {root: 0}
        while stack:
            _, rest = stack[-1]
            following = next((one for one in rest if one not in done), None)
            if following is None:
                node, _ = stack.pop()
                done.add(node)
                del on_way[node]
            elif following in on_way:
                cycle = [node for node, _ in stack[on_way[following] :]]
                # One that does not lead through this document is no fault of it.
                if any(workflow == document.name for workflow, _ in cycle):
                    return _told(document, cycle)
            elif following in edges:
                on_way[following] = len(stack)
                stack.append((following, iter(edges[following])))
    return None


def _followed(document: Workflow, known: Known) -> dict[str, Workflow]:
    documents = {document.name: document}
    queue = [document]
    while queue:
        for _, wait in _waits(queue.pop()):
            name = wait.workflow
            if name is not None and name not in documents and _is_at_once(wait) and len(documents) < DOCUMENTS_MAX:
                other = known(name)
                if other is not None:
                    documents[name] = other
                    queue.append(other)
    return documents


def _is_at_once(wait: WaitFor) -> bool:
    return wait.is_exact and not wait.has_lag


def _nodes(documents: Mapping[str, Workflow]) -> Iterator[_Key]:
    for name, document in documents.items():
        yield name, ""
        yield from ((name, job.name) for job in document.jobs)


def _edges(node: _Key, documents: Mapping[str, Workflow], jobs: Mapping[_Key, AnyJob]) -> Iterator[_Key]:
    workflow, name = node
    document = documents[workflow]
    if not name:
        yield from ((workflow, job.name) for job in document.jobs)
        return
    job = jobs[node]
    yield from ((workflow, before) for before in job.after)
    for wait in (*(document.waits_for or ()), *(job.waits_for or ())):
        if wait.workflow is not None and _is_at_once(wait):
            yield wait.workflow, wait.job or ""


def _told(document: Workflow, keys: list[_Key]) -> tuple[str, list[str]]:
    """As people read it, from the document's own wait on; what only leads on inside a workflow is left out."""
    keys = next(
        keys[at:] + keys[:at]
        for at, key in enumerate(keys)
        if key[0] == document.name and keys[(at + 1) % len(keys)][0] != document.name
    )
    path = next(
        path for path, wait in _waits(document) if _is_at_once(wait) and (wait.workflow, wait.job or "") == keys[1]
    )
    entered = [keys[0], *(key for before, key in pairwise(keys) if key[0] != before[0])]
    if entered[-1][0] == document.name:
        entered.pop()
    return path, [f"{workflow}.{job}" if job else workflow for workflow, job in entered]
