"""What templates and expressions of a run may see: names to plain JSON-like values, looked up only when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from shared.decide.fan_out import gathered
from shared.events import RunRequested
from shared.ids import JobName
from shared.state.fan import Fan
from shared.state.run import Done, JobState


class _Lazy(Mapping[str, Any]):
    """A mapping that computes a value, of a name it has, when it is looked up: a run of 10,000 jobs is not copied for one name."""

    def __init__(self, names: Mapping[Any, Any], value: Callable[[Any], Any]) -> None:
        self._names = names
        self._value = value

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._value(name)

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
    fans: Mapping[JobName, Fan] | None = None,
    items: Mapping[JobName, JobState] | None = None,
    item: tuple[int, Any] | None = None,
) -> dict[str, Any]:
    """The names that a template of `job` may use, as documented in `docs/templates.md`.

    `fans` and `items` as in a run: later jobs see what the items of a job left as one list. `item`: the index and the value of the item
    that `job` is, where it is one.
    """

    def seen(name: JobName) -> dict[str, Any]:
        fan = fans.get(name) if fans is not None else None
        if fan is None or items is None:
            return _job_seen(jobs[name])
        return {"outputs": gathered(name, fan.count, items.get), "outcome": _outcome(jobs[name])}

    own = {} if item is None else {"item_index": item[0], "item": item[1]}
    return own | {
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
        "jobs": _Lazy(jobs, seen),
        "outcomes": _Lazy(jobs, lambda name: _outcome(jobs[name])),
    }


def _job_seen(state: JobState) -> dict[str, Any]:
    return {"outputs": dict(state.outputs or {}), "outcome": _outcome(state)}


def _outcome(state: JobState) -> str | None:
    return state.phase.outcome if isinstance(state.phase, Done) else None
