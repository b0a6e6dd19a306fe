"""What templates and expressions of a run may see: names to plain JSON-like values, looked up only when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from shared.events import RunRequested
from shared.ids import JobName
from shared.state.run import Done, JobState


class _Lazy(Mapping[str, Any]):
    """A mapping that computes a value when it is looked up: a run of 10,000 jobs is not copied for one name."""

    def __init__(self, names: Mapping[Any, Any], value: Callable[[Any], Any]) -> None:
        self._names = names
        self._value = value

    def __getitem__(self, name: str) -> Any:
        return self._value(self._names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def context_of(
    request: RunRequested,
    requested_at: datetime,
    jobs: Mapping[JobName, JobState],
    *,
    job: JobName,
    attempt: int | None = None,
) -> dict[str, Any]:
    """The names that a template of `job` may use, as documented in `docs/templates.md`."""
    return {
        "run": request.run,
        "workflow": request.workflow,
        "job": job,
        "attempt": attempt,
        "params": request.parameters,
        "scheduled_at": request.scheduled_at or requested_at,
        "data_interval_start": request.interval_start,
        "data_interval_end": request.interval_end,
        "previous_success_at": request.previous_success_at,
        "requested_at": requested_at,
        "jobs": _Lazy(jobs, _job_seen),
        "outcomes": _Lazy(jobs, _outcome),
    }


def _job_seen(state: JobState) -> dict[str, Any]:
    return {"outputs": dict(state.outputs or {}), "outcome": _outcome(state)}


def _outcome(state: JobState) -> str | None:
    return state.phase.outcome if isinstance(state.phase, Done) else None
