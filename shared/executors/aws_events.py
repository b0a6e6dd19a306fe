"""State changes as EventBridge delivers them, as reports. Which executor's they are, only their source says; what they mean, only
that executor knows.

Events come late, twice, in any order, or never; none of that matters here, because a run judges reports by its own state.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from shared.ports import Report


class Told(Protocol):
    """An executor whose target also tells by itself."""

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """What the event tells of an attempt; nothing when it is not about one of ours. `TargetUnavailable` or `TargetSilent`
        when the target must be asked and does not answer: deliver the event again."""
        ...


_KINDS = {"aws.ecs": "ecs", "aws.emr": "emr", "aws.emr-serverless": "emr", "aws.ssm": "ssm"}
"""Job types by the source of what is told."""


class AwsEvents:
    """By job type: `ecs`, `emr`, `ssm`; one that is absent is not listened to."""

    def __init__(self, executors: Mapping[str, Told]) -> None:
        # Looked up when there is something to tell it: making one makes a client, and most deployments need one of three.
        self._executors = executors
        self._kinds = frozenset(executors)

    def __call__(self, event: Mapping[str, Any]) -> list[Report]:
        """Whatever the event holds, foreign and future ones included (faults 33 and 35)."""
        kind = _KINDS.get(str(event.get("source", "")))
        return self._executors[kind].reports_of(event) if kind in self._kinds and kind is not None else []
