"""A workflow's graph, compiled once per document and shared by all its runs.

Everything here is derived from the document and read only; building it is linear in jobs and edges.
"""

from dataclasses import dataclass

from shared.ids import Digest, JobName
from shared.workflow.document import AnyJob, Workflow


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`dependents` gives the jobs that name a job in their `after`; `rank` orders ready jobs: priority first, then
    the document's order."""

    workflow: Workflow
    digest: Digest
    jobs: dict[JobName, AnyJob]
    dependents: dict[JobName, tuple[JobName, ...]]
    waits: dict[JobName, int]
    """How many jobs each waits for."""
    rank: dict[JobName, int]
    by_rank: tuple[JobName, ...]

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
    jobs = {JobName(job.name): job for job in workflow.jobs}
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
        rank={name: position for position, name in enumerate(by_rank)},
        by_rank=by_rank,
    )
