"""Commits as text and back: the only place that knows how events are written down.

What one release writes, every later release reads; an event of a newer release is kept whole as `UnknownEvent`. The text is
compact JSON that a person can read in a console.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from shared import effects as effect_types
from shared.effects import Effect
from shared.errors import CorruptStream
from shared.events import Event, KnownEvent, UnknownEvent
from shared.ids import CommitId, StreamName
from shared.ports import COMMIT_BYTES_MAX, FIRST_HASH, Record

_EVENTS: TypeAdapter[list[Any]] = TypeAdapter(list[KnownEvent], config=ConfigDict(defer_build=True))


@dataclass(frozen=True, slots=True)
class Commit:
    """A record with its events read."""

    record: Record
    events: tuple[Event, ...]

    @property
    def at(self) -> datetime:
        return self.record.at

    @property
    def version(self) -> int:
        return self.record.version


def body_of(events: Sequence[Event]) -> str:
    """The JSON text of a commit's events; fields at their default are left out, except the type.

    Raises `ValueError` when it would exceed `COMMIT_BYTES_MAX`: deciding must have cut the decision into slices.
    """
    body = "[" + ",".join(_text_of(event) for event in events) + "]"
    size = len(body) if body.isascii() else len(body.encode())
    if size > COMMIT_BYTES_MAX:
        raise ValueError(f"a commit of {size} bytes exceeds {COMMIT_BYTES_MAX}")
    return body


def events_in(body: str) -> tuple[Event, ...]:
    """Read a commit's events; those of a newer release come back as `UnknownEvent`."""
    try:
        return tuple(_EVENTS.validate_json(body))
    except ValidationError:
        return tuple(_read_one_by_one(body))


def _read_one_by_one(body: str) -> list[Event]:
    # Rare: a commit with an unknown event, or a damaged one; which of the two is told event by event.
    try:
        items = json.loads(body)
    except ValueError as error:
        raise CorruptStream(f"a commit's body is not JSON: {error}") from error
    if not isinstance(items, list):
        raise CorruptStream("a commit's body is not a list of events")
    events: list[Event] = []
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            raise CorruptStream("a commit holds something that is not an event")
        try:
            events += _EVENTS.validate_python([item], strict=False)
        except ValidationError as error:
            if error.errors()[0]["type"] != "union_tag_invalid":
                raise CorruptStream(f"an event of type {item['type']} cannot be read") from error
            fields = {name: value for name, value in item.items() if name != "type"}
            events.append(UnknownEvent(type=item["type"], fields=fields))
    return events


def _text_of(event: Event) -> str:
    if isinstance(event, UnknownEvent):
        return json.dumps({"type": event.type, **event.fields}, separators=(",", ":"), ensure_ascii=False)
    text = event.__pydantic_serializer__.to_json(event, exclude_defaults=True).decode()
    head = f'{{"type":"{event.type}"'
    return head + ("," + text[1:] if len(text) > 2 else "}")


def hash_of(
    stream: StreamName, version: int, commit_id: CommitId, at: datetime, by: str, cause: str, previous: str, body: str
) -> str:
    """The link of the tamper-evident chain: SHA-256 over every field of the record and the hash before it."""
    text = "\x1e".join((previous, stream, str(version), commit_id, at.isoformat(), by, cause, body))
    return hashlib.sha256(text.encode()).hexdigest()


def record_of(
    stream: StreamName,
    *,
    version: int,
    commit_id: CommitId,
    at: datetime,
    by: str,
    cause: str,
    previous_hash: str,
    events: Sequence[Event],
) -> Record:
    body = body_of(events)
    return Record(
        stream=stream,
        version=version,
        commit_id=commit_id,
        at=at,
        by=by,
        cause=cause,
        previous_hash=previous_hash,
        hash=hash_of(stream, version, commit_id, at, by, cause, previous_hash, body),
        body=body,
    )


def commit_of(record: Record) -> Commit:
    return Commit(record, events_in(record.body))


def check_chain(records: Sequence[Record], *, after_hash: str = FIRST_HASH, after_version: int = 0) -> None:
    """Raise `CorruptStream` unless the records continue densely from `after_version`, each hash being right (I9)."""
    previous, version = after_hash, after_version
    for record in records:
        if record.version != version + 1:
            raise CorruptStream(f"{record.stream}: version {record.version} follows {version}")
        if record.previous_hash != previous:
            raise CorruptStream(f"{record.stream}: commit {record.version} does not name the hash before it")
        right = hash_of(
            record.stream,
            record.version,
            record.commit_id,
            record.at,
            record.by,
            record.cause,
            record.previous_hash,
            record.body,
        )
        if right != record.hash:
            raise CorruptStream(f"{record.stream}: commit {record.version} was altered")
        previous, version = record.hash, record.version


# --- effects, as messages on a queue ----------------------------------------------------------------------------------

_EFFECTS: dict[str, type[Effect]] = {
    kind.__name__: kind
    for kind in (
        effect_types.StartAttempt,
        effect_types.StopAttempt,
        effect_types.ObserveAttempt,
        effect_types.AdvanceRun,
        effect_types.OpenRun,
        effect_types.CancelDisplaced,
        effect_types.TellWorkflow,
        effect_types.TellListener,
        effect_types.TellParent,
        effect_types.TickWorkflow,
        effect_types.CheckHolders,
        effect_types.AdvancePool,
        effect_types.AskForPlace,
        effect_types.CancelBackfilled,
        effect_types.CheckBackfill,
        effect_types.CheckPlaces,
        effect_types.ContinueBackfill,
        effect_types.DeliverNotice,
        effect_types.PlanNoticesOf,
        effect_types.GiveBackPlace,
        effect_types.LookAtWaits,
        effect_types.TellBackfill,
        effect_types.TellOfPlace,
    )
}


@cache
def _adapter_of(name: str) -> TypeAdapter[Any]:
    # Made when the first effect of a kind comes along: most functions meet two or three kinds, some none.
    return TypeAdapter(_EFFECTS[name])


def effects_to_json(effects: Sequence[Effect]) -> str:
    """One message: a list, because what one decision led to travels together."""
    parts = []
    for effect in effects:
        name = type(effect).__name__
        fields = _adapter_of(name).dump_json(effect, exclude_defaults=True).decode()
        parts.append(f'{{"effect":"{name}",{fields[1:]}')
    return "[" + ",".join(parts) + "]"


def effects_from_json(text: str) -> list[Effect]:
    """Raises `ValueError` for a message that is not ours, or of a newer release."""
    items = json.loads(text)
    if not isinstance(items, list):
        raise ValueError("a message must be a list of effects")
    effects: list[Effect] = []
    for item in items:
        name = str(item.pop("effect", "")) if isinstance(item, dict) else ""
        if name not in _EFFECTS:
            raise ValueError("a message holds something that is not an effect of this release")
        effects.append(_adapter_of(name).validate_python(item))
    return effects
