"""What may go wrong, as knobs. Set in this process as attributes, or over HTTP: `POST /_control/faults` with a JSON object.

Knobs that name an operation (`RunTask`) hold how often it happens; each time takes one away.
"""

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Faults:
    silent: dict[str, int] = field(default_factory=dict)
    """Operation to times: it is done, and the connection is closed without an answer."""
    broken: dict[str, int] = field(default_factory=dict)
    """Operation to times: nothing is done, and the answer is a 500."""
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Operation to `[code, message]` of a 400, until taken away."""
    throttled: dict[str, int] = field(default_factory=dict)
    """Operation to times: a ThrottlingException."""
    room: list[dict[str, str]] = field(default_factory=list)
    """`failures[]` of RunTask, inside 200 OK; while it is not empty no task starts."""
    missing_seconds: float = 0.0
    """How long after their start tasks and commands are not to be seen (eventual consistency)."""
    delay_seconds: dict[str, float] = field(default_factory=dict)
    """State to seconds: how long tasks are `PENDING`, clusters `STARTING`, commands `Pending`."""
    images_missing: list[str] = field(default_factory=list)
    exit_codes_lost: bool = False
    """Containers end without an exit code (fault 12)."""
    sidecar_code: int | None = None
    """Every task gets a container `guard` of somebody else's, which ends with this code (fault 11)."""
    token_seconds: float = 3600.0
    """How long after a task's end its client token is remembered."""
    stopped_seconds: float = 3600.0
    """How long after its end a task is described."""
    undelivered: list[str] = field(default_factory=list)
    """Instances to which nothing is delivered: commands wait."""
    delivery_times_out_after_running: list[str] = field(default_factory=list)
    """Instances that run what they get, while SSM believes that delivery timed out (fault 23)."""
    never_report: list[str] = field(default_factory=list)
    """Instances that run what they get and report nothing: InProgress for ever."""
    cancel_is_ignored: bool = False
    """CancelSteps is accepted and the step runs on (fault 20)."""
    steps_max: int = 256
    events_lost: bool = False
    events_lost_that_say: list[str] = field(default_factory=list)
    """Words: an event whose details hold one of them as a value is lost."""
    events_twice: bool = False
    events_reversed: int = 0
    """Events held back until there are so many, then sent newest first."""

    def change(self, given: dict[str, Any]) -> None:
        known = {one.name for one in fields(self)}
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"there is no fault {name}")
            setattr(self, name, value)

    def takes(self, knob: dict[str, int], operation: str) -> bool:
        left = knob.get(operation, 0)
        if left <= 0:
            return False
        knob[operation] = left - 1
        return True
