"""What starts runs besides time, as the user writes it: the `triggers` of a document, and event patterns.

These models check and keep what was written; whether an event fits, and what it comes to, is for `shared/triggers.py`. A pattern is
written as EventBridge has it, in the part of that language that `docs/workflow.md` lists; what is not in it is refused here, so that a
pattern never means something else than its author read elsewhere.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.ids import NAME_PATTERN

TRIGGERS_MAX = 50
"""Of one document. Ours: an event asks each of them."""
WINDOW_SECONDS_MAX = 3_600
WINDOW_SECONDS_DEFAULT = 300
"""How far a webhook's time may lie from ours."""
Text = Annotated[str, StringConstraints(max_length=1_024)]
TriggerName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class _Trigger(_Model):
    name: TriggerName
    """Unique among the triggers of the document, also when case is ignored."""
    description: Text = ""
    """For people."""
    parameters: dict[str, Any] = {}
    """The run's parameters, by name; templates see the event: `{{ event.detail.object.key }}`. What is left out has its default."""
    deduplicate_by: Annotated[str, StringConstraints(min_length=1, max_length=4_096)] | None = None
    """A template; events for which it comes to the same text are one run. Absent, what the source tells events apart by."""
    while_paused: Literal["skip", "queue"] = "skip"
    """What becomes of events while the workflow is paused: recorded as missed, or held until it goes on."""


class S3Trigger(_Trigger):
    """An object was created."""

    type: Literal["s3"]
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """The bucket; it must tell EventBridge of its objects, and the deployment must listen to it (`trigger_buckets`)."""
    prefix: Text = ""
    """Only keys that begin so."""
    suffix: Text = ""
    """Only keys that end so."""


class EventTrigger(_Trigger):
    """An event on the deployment's bus."""

    type: Literal["event"]
    pattern: dict[str, Any] = Field(min_length=1)
    """What the event must look like, in EventBridge's language."""


class QueueTrigger(_Trigger):
    """A message in the deployment's queue."""

    type: Literal["queue"]
    pattern: dict[str, Any] = Field(min_length=1)
    """Which messages: their body is the event's `detail`."""


class WebhookTrigger(_Trigger):
    """A signed request to `/v1/webhooks/{workflow}/{trigger}`."""

    type: Literal["webhook"]
    secret: Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
    """What requests are signed with, by reference (a secret's ARN, or on one machine `env:NAME` or `file:PATH`); never itself."""
    window_seconds: int = Field(default=WINDOW_SECONDS_DEFAULT, ge=1, le=WINDOW_SECONDS_MAX)
    """How old, or how far ahead, a request's time may be."""


class WorkflowTrigger(_Trigger):
    """A run of another workflow ended."""

    type: Literal["workflow"]
    workflow: Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
    """Whose runs."""
    outcome: Literal["succeeded", "failed", "any"] = "succeeded"
    """How they must have ended; `any` takes cancelled ones as well."""


AnyTrigger = S3Trigger | EventTrigger | QueueTrigger | WebhookTrigger | WorkflowTrigger
Trigger = Annotated[AnyTrigger, Field(discriminator="type")]
TRIGGER_MODELS: dict[str, type[_Trigger]] = {
    "s3": S3Trigger,
    "event": EventTrigger,
    "queue": QueueTrigger,
    "webhook": WebhookTrigger,
    "workflow": WorkflowTrigger,
}


def trigger_text(trigger: AnyTrigger) -> str:
    """A trigger in a few words, for people."""
    match trigger:
        case S3Trigger():
            return f"objects in s3://{trigger.bucket}/{trigger.prefix}{f'*{trigger.suffix}' if trigger.suffix else ''}"
        case EventTrigger():
            sources = trigger.pattern.get("source")
            told = [one for one in sources if isinstance(one, str)] if isinstance(sources, list) else []
            return f"events of {', '.join(told)}" if told else "events that fit a pattern"
        case QueueTrigger():
            return "messages in the queue"
        case WebhookTrigger():
            return "signed requests"
        case WorkflowTrigger():
            return f"runs of {trigger.workflow} that {'ended' if trigger.outcome == 'any' else trigger.outcome}"
