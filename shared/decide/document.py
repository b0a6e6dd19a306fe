"""The rules of an upload: each content of a key is accepted or rejected once, and both are remembered."""

from datetime import datetime
from typing import assert_never

from shared.decide.commands import AcceptDocument, DocumentCommand, RejectDocument, RemoveDocument
from shared.events import DocumentAccepted, DocumentRejected, DocumentRemoved, Event
from shared.secrecy import without_secrets
from shared.state.document import Upload, fold_document

PROBLEMS_TEXT_MAX = 50_000
"""Characters of problems that one event keeps: a document with more of them shows enough."""


def decide_document(state: Upload, command: DocumentCommand) -> list[Event]:
    match command:
        case AcceptDocument():
            if state.upload == command.upload and not state.problems and not state.removed:
                return []
            return [
                DocumentAccepted(
                    upload=command.upload,
                    workflow=command.workflow,
                    document=command.document,
                    calendar=command.calendar,
                )
            ]
        case RejectDocument():
            if state.upload == command.upload and not state.removed:
                return []
            return [DocumentRejected(upload=command.upload, problems=_bounded(command.problems))]
        case RemoveDocument():
            return [] if state.removed or state.at is None else [DocumentRemoved(upload=command.upload)]
        case _:
            assert_never(command)


class DocumentDraft:
    """As `RunDraft` is for a run."""

    def __init__(self, state: Upload, now: datetime) -> None:
        self.state = state
        self.now = now
        self.events: list[Event] = []
        self.truncated = False

    def decide(self, command: DocumentCommand) -> None:
        events = decide_document(self.state, command)
        self.state = fold_document(((self.now, event) for event in events), self.state)
        self.events.extend(events)


def _bounded(problems: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    size = 0
    for problem in map(without_secrets, problems):
        size += len(problem)
        if size > PROBLEMS_TEXT_MAX:
            kept.append(f"and {len(problems) - len(kept)} more")
            break
        kept.append(problem)
    return tuple(kept)
