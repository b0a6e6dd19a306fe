"""Which workflows a document runs, and theirs: a workflow that ran itself would never end, so it is refused where that can be seen.

What it promises: bounded in how far it follows, and harmless where it cannot: at run time the depth of children is bounded too.
"""

from collections import deque
from collections.abc import Callable

from shared.errors import Problem
from shared.ids import WorkflowName
from shared.workflow.document import Workflow, WorkflowJob

FOLLOWED_MAX = 1_000
"""Documents read to look for a circle."""

LiveDocument = Callable[[WorkflowName], Workflow | None]


def circles(document: Workflow, live: LiveDocument) -> list[Problem]:
    """For each job through which the workflow runs itself, by whatever is live now: where, and by which way.

    A pinned version is not followed: what it runs does not change with what becomes live, so the circle ends at the bound of depth.
    """
    problems: list[Problem] = []
    found: dict[str, tuple[str, ...] | None] = {}
    for position, job in enumerate(document.jobs):
        if not isinstance(job, WorkflowJob) or job.version is not None:
            continue
        if job.workflow not in found:
            found[job.workflow] = _way(document.name, job.workflow, live)
        way = found[job.workflow]
        if way is None:
            continue
        if len(way) == 1:
            message = f"runs {document.name}, which is this workflow"
        else:
            message = f"leads back to this workflow: {' → '.join((document.name, *way))}"
        problems.append(
            Problem(
                f"jobs[{position}].workflow", message, "it would never end: run a workflow that does not run this one"
            )
        )
    return problems


def _way(name: str, start: str, live: LiveDocument) -> tuple[str, ...] | None:
    """From `start` to `name` by what is live; None where there is none."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = deque([start])
    followed = 0
    while queue and followed < FOLLOWED_MAX:
        here = queue.popleft()
        if here == name:
            return ways[here]
        followed += 1
        document = live(WorkflowName(here))
        for job in document.jobs if document is not None else ():
            if isinstance(job, WorkflowJob) and job.version is None and job.workflow not in ways:
                ways[job.workflow] = (*ways[here], job.workflow)
                queue.append(job.workflow)
    return None
