"""What the API stands on, and what one call and its answer are made of."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from functions.api.problems import Forbidden
from shared.decide.access import Action, Principal, Resource, may
from shared.errors import NotFound
from shared.ports import GivenFiles
from shared.usecases.control import Control
from shared.usecases.queries import AsOf, FoundBackfill, FoundRun, FoundWorkflow, Queries, Sees, as_of_in
from shared.usecases.triggers import ReadSecret, Triggers

BODY_BYTES_MAX = 6 * 1024 * 1024
"""What Lambda takes; the embedded server keeps to it too, so that documents do not outgrow the other engine unnoticed."""

WAIT_SECONDS_MAX = 20
"""How long a call may wait for news: API Gateway gives up after 30, and a look at the end takes its time as well."""
LOOK_EVERY_SECONDS = 0.2
"""Between looks of a call that waits."""

Event = Mapping[str, Any]
"""A request in API Gateway's payload format 2.0."""
Authenticate = Callable[[Event], Principal]
"""Who asks. Raises `Unauthenticated`."""


def _no_files() -> GivenFiles:
    raise NotFound("this engine has no place for files that runs are given")


def _no_triggers() -> Triggers:
    raise NotFound("this engine takes no events")


def _no_secrets(reference: str) -> bytes:  # noqa: ARG001
    raise NotFound("this engine reads no secrets")


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@dataclass(frozen=True, slots=True)
class ApiService:
    queries: Queries
    control: Control
    authenticate: Authenticate
    now: Callable[[], datetime]
    acting: Callable[[], AbstractContextManager[None]] = nullcontext
    """Wraps each act, to bring forward what follows from it."""
    given_files: Callable[[], GivenFiles] = _no_files
    """Called when they are first asked for."""
    triggers: Callable[[], Triggers] = _no_triggers
    """The same."""
    read_secret: ReadSecret = _no_secrets
    """What signed requests are signed with."""
    release: str = ""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call; `*` for any."""
    answer_bytes_max: int | None = None
    """Longer answers are refused with a hint, because the gateway would cut them off. None: no bound."""
    wait_seconds_max: float = WAIT_SECONDS_MAX
    look_every_seconds: float = LOOK_EVERY_SECONDS
    pause: Callable[[float], bool] = _slept
    """Sleeps for so many seconds. True: whoever waits is to be answered now, because the server closes."""


@dataclass(frozen=True, slots=True)
class Answer:
    body: Callable[[], Any] | None = None
    """Makes what is sent as JSON; called only if it is sent."""
    status: int = 200
    etag: str = ""
    """Names the state that was shown; without one, what was sent is hashed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    """Sent as it is, instead of a body."""
    receive: "Receive | None" = None
    """The server is to write the request's body there, before it answers."""
    waiting: str = ""
    """What stands still, when there is nothing new to show: who is willing to wait is answered when it is another, or empty."""


@dataclass(frozen=True, slots=True)
class Receive:
    path: Path
    sha256: str
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation, its parts read and checked."""

    service: ApiService
    principal: Principal
    path: Mapping[str, str]
    query: Any
    body: Any
    data: bytes
    content_type: str
    key: str
    """The Idempotency-Key."""
    headers: Mapping[str, str]
    """By their names in lower case."""

    @property
    def queries(self) -> Queries:
        return self.service.queries

    @property
    def control(self) -> Control:
        return self.service.control

    @property
    def by(self) -> str:
        return self.principal.name

    def sees(self, action: Action = "read") -> Sees | None:
        """A filter of lists; None for whoever may do that to everything."""
        if may(self.principal, action, Resource()):
            return None
        return lambda workflow, tags: may(self.principal, action, Resource(workflow, tags))

    def may(self, action: Action, resource: Resource, absent: str) -> None:
        """Raise unless it is allowed. What somebody may not see does not exist for them, in the very same words (fault 57)."""
        if not may(self.principal, "read", resource):
            raise NotFound(absent)
        self.must(action, resource)

    def must(self, action: Action, resource: Resource) -> None:
        if not may(self.principal, action, resource):
            raise Forbidden(f"{self.principal.name} may not {action} {resource.workflow or 'this'}")

    def workflow(self, action: Action = "read") -> FoundWorkflow:
        """The workflow that the path names."""
        name = self.path["workflow"]
        found = self.queries.workflow(name)
        self.may(action, resource_of_workflow(found), f"there is no workflow {name}")
        return found

    def backfill(self, action: Action = "read") -> FoundBackfill:
        """The backfill that the path names."""
        backfill = self.path["backfill"]
        found = self.queries.backfill(backfill)
        document = found.plan.workflow
        self.may(action, Resource(document.name, frozenset(document.tags)), f"there is no backfill {backfill}")
        return found

    def run(self, action: Action = "read") -> FoundRun:
        """The run that the path names, at the moment that the query names."""
        run = self.path["run"]
        found = self.queries.run(run)
        self.may(action, resource_of_run(found), f"there is no run {run}")
        as_of = self.as_of()
        return found if as_of is None else self.queries.run(run, as_of)

    def as_of(self) -> AsOf | None:
        text = getattr(self.query, "as_of", None)
        return None if text is None else as_of_in(text)


def resource_of_run(found: FoundRun) -> Resource:
    document = found.run.plan.workflow
    return Resource(document.name, frozenset(document.tags))


def resource_of_workflow(found: FoundWorkflow) -> Resource:
    return Resource(found.state.name, frozenset(found.plan.workflow.tags))
