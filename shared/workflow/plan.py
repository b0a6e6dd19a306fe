"""A workflow's graph, compiled once per document and shared by all its runs.

Everything here is derived from the document and read only; building it is linear in jobs and edges.
"""

from dataclasses import dataclass
from typing import TypeVar

from shared.ids import Digest, JobName, item_of
from shared.workflow.document import AnyJob, Workflow

_Value = TypeVar("_Value")


class ByJob(dict[JobName, _Value]):
    """What the document says of its jobs. An item of a job with `for_each`, asked for by its own name (`load:17`), has what its job has;
    iterating and `in` know the document's jobs only."""

    def __missing__(self, name: JobName) -> _Value:
        named = item_of(name)
        if named is None or named[0] not in self:
            raise KeyError(name)
        return self[named[0]]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`dependents` gives the jobs that name a job in their `after`; `rank` orders ready jobs: priority first, then
    the document's order."""

    workflow: Workflow
    digest: Digest
    jobs: ByJob[AnyJob]
    dependents: dict[JobName, tuple[JobName, ...]]
    waits: dict[JobName, int]
    """How many jobs each waits for."""
    rank: ByJob[int]
    by_rank: tuple[JobName, ...]

    def has(self, name: JobName) -> bool:
        """Whether it is a job of the document, or can be an item of one."""
        if name in self.jobs:
            return True
        named = item_of(name)
        return named is not None and named[0] in self.jobs and self.jobs[named[0]].for_each is not None

    def order(self, name: JobName) -> tuple[int, int]:
        """Sorts jobs and items: by rank, then by the place in the list."""
        named = item_of(name)
        return self.rank[name], -1 if named is None else named[1]

    def job(self, name: JobName) -> AnyJob:
        return self.jobs[name]

    def downstream(self, roots: tuple[JobName, ...]) -> frozenset[JobName]:
        """The jobs named and everything that depends on them, directly or not."""
        seen = set(roots)
        stack = list(roots)
        while stack:
            for dependent in self.dependents[stack.pop()]:
                if dependent not in seen:
                    seen.add(dependent)
                    stack.append(dependent)
        return frozenset(seen)

    def upstream(self, name: JobName) -> frozenset[JobName]:
        """Every job that must have ended before this one, directly or not; without the job itself."""
        seen: set[JobName] = set()
        stack = [name]
        while stack:
            for before in self.jobs[stack.pop()].after:
                if before not in seen:
                    seen.add(JobName(before))
                    stack.append(JobName(before))
        return frozenset(seen)


def compile_plan(workflow: Workflow, digest: Digest) -> Plan:
    """Compile a document that has been checked: names unique, `after` known, no cycles."""
    jobs = ByJob({JobName(job.name): job for job in workflow.jobs})
    dependents: dict[JobName, list[JobName]] = {name: [] for name in jobs}
    waits: dict[JobName, int] = {}
    for name, job in jobs.items():
        named = dict.fromkeys(job.after)
        waits[name] = len(named)
        for before in named:
            dependents[JobName(before)].append(name)
    by_rank = tuple(sorted(jobs, key=lambda name: -jobs[name].priority))
    return Plan(
        workflow=workflow,
        digest=digest,
        jobs=jobs,
        dependents={name: tuple(after) for name, after in dependents.items()},
        waits=waits,
        rank=ByJob({name: position for position, name in enumerate(by_rank)}),
        by_rank=by_rank,
    )
