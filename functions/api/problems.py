"""Errors as whoever called sees them: problem details of RFC 9457, with every problem, and never a traceback."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import (
    Conflict,
    CorruptStream,
    InvalidInput,
    NotAllowed,
    NotFound,
    Problem,
    Rejected,
    RunfoldError,
    StoreUnavailable,
    TargetUnavailable,
    UnknownEvents,
)
from shared.secrecy import without_secrets

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 1


class Unauthenticated(RunfoldError):
    """We do not know who asks."""


class Forbidden(RunfoldError):
    """We know, and they may not."""


class HttpProblem(RunfoldError):
    """A request that HTTP itself finds wrong: method, size, type."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that says no."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def unsigned() -> Unauthenticated:
    """The one answer to a request that bears no signature that holds, whatever is wrong with it."""
    return Unauthenticated("the request is not signed as it must be")


TITLES = {
    "bad-request": "The request cannot be read",
    "unauthenticated": "Who asks is not known",
    "forbidden": "Not allowed",
    "not-found": "Not found",
    "method-not-allowed": "Not a method of this address",
    "rejected": "The present state does not allow it",
    "too-large": "Too large",
    "unsupported-media-type": "Not a type that is read here",
    "invalid-input": "The input is wrong",
    "too-large-an-answer": "The answer is too large",
    "internal": "Our own error",
    "damaged": "The stored history is damaged",
    "unavailable": "Try again",
}


def refusal(error: Exception, request_id: str) -> Refusal:
    """What an error becomes. Anything that is not ours is an internal error, of which nothing is told."""
    retry = {"Retry-After": str(RETRY_SECONDS)}
    match error:
        case HttpProblem():
            return _refusal(error.status, error.kind, str(error), request_id, headers=error.headers)
        case Unauthenticated():
            headers = {"WWW-Authenticate": 'Bearer realm="runfold"'}
            return _refusal(401, "unauthenticated", str(error), request_id, headers=headers)
        case Forbidden() | NotAllowed():
            return _refusal(403, "forbidden", str(error), request_id)
        case NotFound():
            return _refusal(404, "not-found", str(error), request_id)
        case Rejected():
            return _refusal(409, "rejected", str(error), request_id)
        case InvalidInput(problems=problems):
            count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}, nothing was changed"
            return _refusal(422, "invalid-input", count, request_id, problems=problems)
        case Conflict() | StoreUnavailable() | TargetUnavailable():
            return _refusal(503, "unavailable", str(error), request_id, headers=retry)
        case UnknownEvents():
            return _refusal(503, "unavailable", f"{error}; upgrade this engine", request_id, headers=retry)
        case CorruptStream():
            return _refusal(500, "damaged", str(error), request_id)
        case _:
            told = f"This is our error. Its details are logged under request {request_id}."
            return _refusal(500, "internal", told, request_id)


def _refusal(
    status: int,
    kind: str,
    detail: str,
    request_id: str,
    *,
    problems: tuple[Problem, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    body = {
        "type": f"urn:runfold:problem:{kind}",
        "title": TITLES[kind],
        "status": status,
        # What the caller sent is in many of them, and a problem ends in the logs of whoever asked.
        "detail": without_secrets(detail),
        "request_id": request_id,
        "problems": [{"path": one.path, "message": one.message, "hint": one.hint} for one in problems],
    }
    return Refusal(status, body, dict(headers or {}))
