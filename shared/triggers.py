"""Whether something that happened outside starts a run, and which: matching, deduplication and parameters, the same on both engines.

What happened is an `Occurrence`, whose `event` has the shape of EventBridge's, wherever it comes from: `id`, `source`, `detail-type`,
`time`, and what matters in `detail`. All of it is somebody else's text: nothing here runs, keeps or follows it.

`keys_of` and `listens` are an index's two sides: whatever fits a trigger has a key of it. What they find is only where to look; whether
an event fits is always asked of the live document.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from shared import template
from shared.errors import InvalidInput, Problem, TemplateError
from shared.ids import RunId, WorkflowName, triggered_run
from shared.secrecy import without_secrets
from shared.workflow.parameters import fill
from shared.workflow.triggers import (
    AnyTrigger,
    EventTrigger,
    QueueTrigger,
    S3Trigger,
    WebhookTrigger,
    WorkflowTrigger,
)

Kind = Literal["bus", "queue", "webhook", "workflow"]
SUBJECT_LENGTH_MAX = 300
"""Characters of what an event is called for people."""
CONTENT_LENGTH_MAX = 4_000
"""Characters of an event that are kept when it is refused."""
CHAIN_MAX = 50
"""Runs that start each other in a row. Rings are refused at registration; this ends one that was registered from two sides at once."""
S3_CREATED = "Object Created"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened outside, and may start runs."""

    kind: Kind
    id: str
    """What its source tells occurrences apart by: the same id is the same occurrence."""
    event: Mapping[str, Any] = field(default_factory=dict)
    chain: int = 0
    """With kind `workflow`: how many runs in a row had started each other before."""

    @property
    def subject(self) -> str:
        """What it is called for people."""
        detail = self.event.get("detail")
        detail = detail if isinstance(detail, Mapping) else {}
        match self.kind:
            case "bus" if _is_created(self.event):
                text = f"s3://{_text(detail, 'bucket', 'name')}/{_text(detail, 'object', 'key')}"
            case "workflow":
                text = f"{detail.get('run', '')} {detail.get('outcome', '')}"
            case "bus":
                text = f"{self.event.get('source', '')} {self.event.get('detail-type', '')} {self.id}"
            case _:
                text = f"{self.kind} {self.id}"
        text = without_secrets("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text))
        return text[:SUBJECT_LENGTH_MAX]

    @property
    def content(self) -> str:
        """The event as text, for whoever looks at why it was refused; without what looks like a secret."""
        return without_secrets(json.dumps(self.event, ensure_ascii=False, default=str))[:CONTENT_LENGTH_MAX]


def bus_occurrence(envelope: Mapping[str, Any]) -> Occurrence:
    """An event as EventBridge delivers it."""
    return Occurrence("bus", str(envelope.get("id") or content_id(envelope)), envelope)


def sent_occurrence(kind: Literal["bus", "queue"], id_: str, source: str, detail_type: str, detail: Any) -> Occurrence:
    """An event that a person or program tells of. Without an id, what it says tells it apart."""
    envelope = {"source": source, "detail-type": detail_type, "detail": detail}
    id_ = id_ or content_id(envelope)
    if kind == "queue":
        return Occurrence("queue", id_, _envelope(id_, "runfold.queue", "Message", detail, None))
    return bus_occurrence({"id": id_, **envelope})


def queue_occurrence(message_id: str, body: str, sent_at: datetime | None = None) -> Occurrence:
    """A message; a body that is not JSON is a text."""
    try:
        detail = json.loads(body)
    except (ValueError, RecursionError):
        detail = body
    return Occurrence("queue", message_id, _envelope(message_id, "runfold.queue", "Message", detail, sent_at))


def webhook_occurrence(delivery: str, body: bytes, at: datetime) -> Occurrence:
    """A request whose signature holds. Without a delivery id, its body tells it apart. `InvalidInput` if the body is not JSON."""
    try:
        detail = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidInput([Problem("", "the body is not JSON")]) from None
    found = delivery or hashlib.sha256(body).hexdigest()
    return Occurrence("webhook", found, _envelope(found, "runfold.webhook", "Request", detail, at))


def outcome_occurrence(
    run: RunId,
    workflow: WorkflowName,
    outcome: str,
    *,
    at: datetime | None,
    scheduled_at: datetime | None,
    parameters: Mapping[str, Any],
    chain: int,
) -> Occurrence:
    """The end of a run. Ending again after a rerun, it is the same occurrence."""
    detail = {
        "workflow": workflow,
        "run": run,
        "outcome": outcome,
        "scheduled_at": scheduled_at.astimezone(UTC).isoformat() if scheduled_at is not None else None,
        "parameters": dict(parameters),
    }
    return Occurrence("workflow", run, _envelope(run, "runfold", "Run Ended", detail, at), chain)


def content_id(value: Any) -> str:
    """An id for what has none: what it says."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _envelope(id_: str, source: str, detail_type: str, detail: Any, at: datetime | None) -> dict[str, Any]:
    time = at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at is not None else None
    return {"id": id_, "source": source, "detail-type": detail_type, "time": time, "detail": detail}


# --- the index --------------------------------------------------------------------------------------------------------

ANY_SOURCE = "event"
QUEUE = "queue"


def listens(trigger: AnyTrigger) -> tuple[str, ...]:
    """The keys under which a trigger is to be found; none for a webhook, whose address names it."""
    match trigger:
        case S3Trigger():
            return (f"s3:{trigger.bucket}",)
        case EventTrigger():
            sources = trigger.pattern.get("source")
            if isinstance(sources, list | tuple) and all(isinstance(one, str) for one in sources):
                return tuple(dict.fromkeys(f"event:{one}" for one in sources))
            return (ANY_SOURCE,)
        case QueueTrigger():
            return (QUEUE,)
        case WorkflowTrigger():
            return (f"workflow:{trigger.workflow}",)
        case WebhookTrigger():
            return ()


def keys_of(occurrence: Occurrence) -> tuple[str, ...]:
    """Every key under which a trigger may be found that the occurrence fits."""
    match occurrence.kind:
        case "bus":
            source = occurrence.event.get("source")
            keys = [ANY_SOURCE, *([f"event:{source}"] if isinstance(source, str) else [])]
            if _is_created(occurrence.event):
                keys.append(f"s3:{_text(occurrence.event['detail'], 'bucket', 'name')}")
            return tuple(keys)
        case "queue":
            return (QUEUE,)
        case "workflow":
            detail = occurrence.event.get("detail")
            return (f"workflow:{detail.get('workflow') if isinstance(detail, Mapping) else ''}",)
        case "webhook":
            return ()


# --- matching ---------------------------------------------------------------------------------------------------------


def fits(trigger: AnyTrigger, occurrence: Occurrence) -> bool:
    """Whether the occurrence is what the trigger waits for."""
    event = occurrence.event
    match trigger:
        case S3Trigger():
            if occurrence.kind != "bus" or not _is_created(event):
                return False
            key = _text(event["detail"], "object", "key")
            bucket = _text(event["detail"], "bucket", "name")
            return bucket == trigger.bucket and key.startswith(trigger.prefix) and key.endswith(trigger.suffix)
        case EventTrigger():
            return occurrence.kind == "bus" and matches(trigger.pattern, event)
        case QueueTrigger():
            return occurrence.kind == "queue" and matches(trigger.pattern, event)
        case WebhookTrigger():
            return occurrence.kind == "webhook"
        case WorkflowTrigger():
            if occurrence.kind != "workflow":
                return False
            detail = event["detail"]
            return detail["workflow"] == trigger.workflow and trigger.outcome in ("any", detail["outcome"])


def matches(pattern: Mapping[str, Any], event: Any) -> bool:
    """Whether an event fits a pattern that `check_pattern` has passed: every field of the pattern must."""
    if isinstance(event, list | tuple):
        # As in EventBridge, a list of objects fits when one of them does.
        return any(matches(pattern, one) for one in event if isinstance(one, Mapping))
    if not isinstance(event, Mapping):
        event = {}
    for name, wanted in pattern.items():
        found = event.get(name, _ABSENT)
        if isinstance(wanted, Mapping):
            if not matches(wanted, found):
                return False
        elif not any(_rule_holds(rule, found) for rule in wanted):
            return False
    return True


_ABSENT: Any = object()


def _rule_holds(rule: Any, found: Any) -> bool:
    if isinstance(rule, Mapping) and "exists" in rule:
        # Of leaves only, as in EventBridge: an object is not a value.
        return (found is not _ABSENT and not isinstance(found, Mapping)) is bool(rule["exists"])
    if found is _ABSENT or isinstance(found, Mapping):
        return False
    if isinstance(found, list | tuple):
        return any(_value_holds(rule, one) for one in found if not isinstance(one, list | tuple | Mapping))
    return _value_holds(rule, found)


def _value_holds(rule: Any, value: Any) -> bool:
    if not isinstance(rule, Mapping):
        return _same(rule, value)
    ((name, given),) = rule.items()
    match name:
        case "prefix":
            return isinstance(value, str) and value.startswith(given)
        case "suffix":
            return isinstance(value, str) and value.endswith(given)
        case "equals-ignore-case":
            return isinstance(value, str) and value.casefold() == given.casefold()
        case "anything-but":
            if isinstance(given, Mapping):
                return isinstance(value, str) and not _value_holds(given, value)
            return not any(_same(one, value) for one in (given if isinstance(given, list | tuple) else [given]))
        case "numeric":
            if not _is_number(value):
                return False
            return all(_COMPARE[sign](value, number) for sign, number in zip(given[::2], given[1::2], strict=True))
        case _:
            return False


_COMPARE = {
    "<": lambda value, number: value < number,
    "<=": lambda value, number: value <= number,
    "=": lambda value, number: value == number,
    ">": lambda value, number: value > number,
    ">=": lambda value, number: value >= number,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    # True is not 1.
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _is_created(event: Mapping[str, Any]) -> bool:
    return (
        event.get("source") == "aws.s3"
        and event.get("detail-type") == S3_CREATED
        and isinstance(event.get("detail"), Mapping)
        and isinstance(event["detail"].get("object"), Mapping)
        and isinstance(event["detail"].get("bucket"), Mapping)
    )


def _text(value: Any, *names: str) -> str:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value) if value is not None else ""


# --- what it comes to -------------------------------------------------------------------------------------------------


def run_of(workflow: WorkflowName, trigger: AnyTrigger, occurrence: Occurrence) -> RunId:
    """The run that the occurrence is. `InvalidInput` where `deduplicate_by` comes to nothing; then it is told apart as without it."""
    return triggered_run(workflow, trigger.name, _key(trigger, occurrence))


def plain_run_of(workflow: WorkflowName, trigger: AnyTrigger, occurrence: Occurrence) -> RunId:
    """The same, told apart by what the source says alone."""
    return triggered_run(workflow, trigger.name, f"source:{_plain_key(trigger, occurrence)}")


def _key(trigger: AnyTrigger, occurrence: Occurrence) -> str:
    if trigger.deduplicate_by is None:
        return f"source:{_plain_key(trigger, occurrence)}"
    try:
        return f"said:{template.render_text(trigger.deduplicate_by, _context(occurrence))}"
    except TemplateError as error:
        raise InvalidInput([Problem("deduplicate_by", str(error))]) from None


def _plain_key(trigger: AnyTrigger, occurrence: Occurrence) -> str:
    if isinstance(trigger, S3Trigger):
        # EventBridge may give one object's creation two events; the object's version tells, and the sequencer where there is none.
        made = occurrence.event["detail"]["object"]
        version = _text(made, "version-id") or f"{_text(made, 'etag')}/{_text(made, 'sequencer')}"
        return json.dumps([trigger.bucket, _text(made, "key"), version])
    return occurrence.id


def parameters_of(trigger: AnyTrigger, occurrence: Occurrence, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the run is asked for with. `InvalidInput` with every problem."""
    try:
        given = template.render_tree(dict(trigger.parameters), _context(occurrence), path="parameters")
    except TemplateError as error:
        raise InvalidInput([Problem("", str(error))]) from None
    assert isinstance(given, dict), "a mapping stays one"
    return fill(schema, given)


def _context(occurrence: Occurrence) -> dict[str, object]:
    return {"event": occurrence.event}


# --- webhooks ---------------------------------------------------------------------------------------------------------

SIGNATURE_VERSION = "v1"
DELIVERY_LENGTH_MAX = 200


def signature(secret: bytes, workflow: str, trigger: str, timestamp: str, delivery: str, body: bytes) -> str:
    """What a request is signed with: HMAC-SHA256 over whom it is for, when, which delivery, and the body."""
    head = f"{SIGNATURE_VERSION}:{workflow}:{trigger}:{timestamp}:{delivery}:".encode()
    return f"{SIGNATURE_VERSION}={hmac.new(secret, head + body, hashlib.sha256).hexdigest()}"


def is_timely(timestamp: str, now: datetime, window_seconds: int) -> bool:
    """Whether a request's time, in seconds since 1970, is near enough to ours."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    return abs(now.timestamp() - int(timestamp)) <= window_seconds


def is_signed(
    secret: bytes, workflow: str, trigger: str, timestamp: str, delivery: str, body: bytes, given: str
) -> bool:
    """Compared in constant time, so that answers do not tell how much of a guess was right. An empty secret signs nothing."""
    right = signature(secret, workflow, trigger, timestamp, delivery, body)
    return hmac.compare_digest(right.encode(), given.encode("utf-8", "replace")) and bool(secret)
