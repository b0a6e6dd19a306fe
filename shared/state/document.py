"""An upload's state: what became of the newest content under a key. Folded from the stream `document#<key>`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from shared.errors import CorruptStream, UnknownEvents
from shared.events import DocumentAccepted, DocumentRejected, DocumentRemoved, Event, UnknownEvent
from shared.ids import WorkflowName


@dataclass(frozen=True, slots=True)
class Upload:
    """The state of an empty stream has no `upload` and was never seen."""

    upload: str = ""
    at: datetime | None = None
    workflow: WorkflowName | None = None
    """The workflow that the last good content registered; it stays live while newer content is bad."""
    problems: tuple[str, ...] = ()
    """Of the newest content; empty when it is good."""
    removed: bool = False
    calendar: str = ""
    """The calendar that the last good content is, when it is no workflow."""


def fold_document(events: Iterable[tuple[datetime, Event]], state: Upload = Upload()) -> Upload:
    """Fold events, each with the time of its commit. Raises `CorruptStream`, `UnknownEvents`."""
    for at, event in events:
        match event:
            case DocumentAccepted():
                state = Upload(event.upload, at, event.workflow or None, calendar=event.calendar)
            case DocumentRejected():
                state = Upload(event.upload, at, state.workflow, event.problems, calendar=state.calendar)
            case DocumentRemoved():
                state = Upload(event.upload, at, state.workflow, removed=True, calendar=state.calendar)
            case UnknownEvent():
                raise UnknownEvents(f"an event of type {event.type} is newer than this code")
            case _:
                raise CorruptStream(f"{event.type} cannot stand in an upload's stream")
    return state
