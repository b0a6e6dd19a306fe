"""What the models of targets share: how a call may fail on its way, what was really executed, and how targets tell of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from shared.ids import Token
from tests.simulation.kernel import Kernel

TARGET_SECONDS = (0.05, 0.4)
"""What a call to a target takes."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the work of a job does at its target, by attempt; the last one for all that follow."""

    seconds: tuple[float, ...] = (60.0,)
    exit_codes: tuple[int, ...] = (0,)
    fates: tuple[str, ...] = ("ends",)
    """`ends` with its exit code; `vanishes` (the host or spot capacity is gone, or the cluster ended, part of the way); `never starts` (no image, no
    host); `hangs` (only a stop ends it); `ignores stops` (a stop is accepted, and it ends by itself all the same)."""

    def of(self, attempt: int) -> tuple[float, int, str]:
        def nth(values: tuple[Any, ...]) -> Any:
            return values[min(attempt, len(values)) - 1]

        return nth(self.seconds), nth(self.exit_codes), nth(self.fates)


@dataclass(slots=True)
class Execution:
    """Work that a target really did, or is doing. The truth that histories are checked against."""

    token: Token
    began_at: datetime
    """When it was taken over by the target; when its command began is the target's affair."""
    handle: str
    ended_at: datetime | None = None
    outcome: str = ""
    """`succeeded`, `failed`, `stopped`, `vanished` or `never started`; empty while it goes on."""
    exit_code: int | None = None


@dataclass
class Ledger:
    """Everything that was ever executed, of all targets."""

    executions: list[Execution] = field(default_factory=list)

    def of(self, token: Token) -> list[Execution]:
        return [one for one in self.executions if one.token == token]


class Model:
    """A target's API. Subclasses have a method for each call of the client, with its keyword arguments and its answer as a dict.

    `behaviour(token, run, job, attempt)` says what the work does; `emit(event)` gives an event to EventBridge's rules, which may lose,
    repeat, delay and reorder it; `emit` takes whole events (`source`, `detail-type`, `detail`, ...).
    """

    service = ""
    outage = "outage of targets"

    def __init__(
        self,
        kernel: Kernel,
        ledger: Ledger,
        behaviour: Callable[[str, str, int], Behaviour],
        emit: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """`behaviour` by run, job and attempt."""
        self.kernel = kernel
        self.ledger = ledger
        self.behaviour = behaviour
        self.emit = emit


class Client:
    """A boto3 client of a model: every call takes time, may fail before or after it was carried out, and is a point for its process."""

    def __init__(self, model: Model, kernel: Kernel) -> None:
        self._model = model
        self._kernel = kernel
        # Executors ask whether a client sends each request once.
        self.meta = SimpleNamespace(config=SimpleNamespace(retries={"total_max_attempts": 1}))

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._model, operation)
        kernel, service = self._kernel, self._model.service
        name = f"{service}.{operation}"

        def call(**arguments: Any) -> Any:
            if kernel.running is not None:
                kernel.calls += 1
                if kernel.fail_at is not None and kernel.fail_at[0] == kernel.calls:
                    return _failing(kernel.fail_at[1], service, operation, method, arguments)
            kernel.point(f"before {name}", seconds=TARGET_SECONDS)
            if kernel.during(self._model.outage) or kernel.happens(f"{service} unreachable"):
                raise EndpointConnectionError(endpoint_url=f"https://{service}.invalid")
            if kernel.happens(f"{service} throttles"):
                raise error_of("ThrottlingException", "Rate exceeded", operation, 400)
            if kernel.happens(f"{service} answers 500 and did nothing"):
                raise error_of("InternalFailure", "internal error", operation, 500)
            answer = method(**arguments)
            if kernel.happens(f"{service} answers 500 and did it"):
                raise error_of("InternalFailure", "internal error", operation, 500)
            kernel.point(f"after {name}", seconds=TARGET_SECONDS)
            if kernel.happens(f"{service} is silent after doing it"):
                raise ReadTimeoutError(endpoint_url=f"https://{service}.invalid")
            return answer

        return call


FAILURES = (
    "unreachable",
    "throttles",
    "answers 500 and did nothing",
    "answers 500 and did it",
    "is silent after doing it",
    "is silent and did nothing",
)
"""How one call may fail, where the failures of every call are enumerated."""


def _failing(how: str, service: str, operation: str, method: Any, arguments: dict[str, Any]) -> Any:
    if how in ("answers 500 and did it", "is silent after doing it"):
        method(**arguments)
    match how:
        case "unreachable":
            raise EndpointConnectionError(endpoint_url=f"https://{service}.invalid")
        case "throttles":
            raise error_of("ThrottlingException", "Rate exceeded", operation, 400)
        case "answers 500 and did nothing" | "answers 500 and did it":
            raise error_of("InternalFailure", "internal error", operation, 500)
        case _:
            raise ReadTimeoutError(endpoint_url=f"https://{service}.invalid")


def error_of(code: str, message: str, operation: str, status: int = 400) -> ClientError:
    """As botocore raises it for an answer with that code."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)
