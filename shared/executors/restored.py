"""After a restore of the history to an earlier moment: targets may run what the history no longer knows, so each is asked before anything is started.

What it promises: an attempt whose work a target already has, or has had and still tells of, is bound to that work instead of being started again, on
targets that know no tokens as well, and on ECS when it has forgotten the token of a task that still runs. What a target has forgotten, nobody can find.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, cast

from shared.errors import TargetUnavailable
from shared.ids import Handle
from shared.ports import Executor, Reference, Report, Request


class _OnAws(Executor, Protocol):
    def reports_of(self, event: Mapping[str, Any]) -> list[Report]: ...


class LooksFirst:
    """An executor that looks for an attempt by its token, among all that was started from `restored_from` on, before it starts it."""

    def __init__(self, executor: _OnAws, restored_from: datetime) -> None:
        self._executor = executor
        self._restored_from = restored_from
        self.takes_token = executor.takes_token
        self.token_seconds = executor.token_seconds
        self.runs_at_once = executor.runs_at_once

    def start(self, request: Request) -> Handle:
        """See `Executor`. `TargetUnavailable` also when it could not be asked to the end: not knowing is no reason to start."""
        reference = Reference(
            request.token,
            request.run,
            request.job,
            request.attempt,
            None,
            request.outputs,
            request.body,
            self._restored_from,
        )
        found = self._executor.observe([reference])
        if not found:
            raise TargetUnavailable(
                "after a restore it is first looked for what may run already, and the target does not answer"
            )
        if found[0].handle is not None:
            return found[0].handle
        if found[0].status != "missing":
            raise TargetUnavailable(f"after a restore it is not known whether it runs already: {found[0].reason}")
        return self._executor.start(request)

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`."""
        return self._executor.observe(references)

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        """See `Executor`."""
        self._executor.stop(reference, grace_seconds=grace_seconds)

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """What a state change of the target's tells."""
        return self._executor.reports_of(event)


class AllLookFirst(Mapping[str, Executor]):
    """Executors by job type, each of which looks before it starts."""

    def __init__(self, executors: Mapping[str, Executor], restored_from: datetime) -> None:
        self._executors = executors
        self._restored_from = restored_from

    def __getitem__(self, kind: str) -> LooksFirst:
        # Every executor on AWS also says what an event about its work means.
        return LooksFirst(cast("_OnAws", self._executors[kind]), self._restored_from)

    def __iter__(self) -> Iterator[str]:
        return iter(self._executors)

    def __len__(self) -> int:
        return len(self._executors)
