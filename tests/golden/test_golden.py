"""What any release has written, this one reads: golden streams are folded and compared with what they folded to when they were made."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from shared import codec
from shared.decide.commands import Advance
from shared.decide.run import decide
from shared.errors import UnknownEvents
from shared.events import DocumentEvent, RunEvent, UnknownEvent, WorkflowEvent
from shared.state.document import fold_document
from shared.state.run import evolve
from shared.state.workflow import evolve_workflow
from tests.golden.make import STORIES, outcome_of
from tests.rules.sentences import NOON, given, given_workflow, job, plans, register, requested
from tests.rules.sentences import document as a_document

GOLDEN = sorted(Path(__file__).parent.glob("*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_stream_written_by_any_release_folds_to_what_it_was(path: Path) -> None:
    """Fault 48, from the other side: rolling back never meets less than it wrote."""
    golden = read(path)
    assert outcome_of(path.stem.partition("-")[0], golden["documents"], golden["commits"]) == golden["outcome"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_is_read_is_written_again_as_it_was(path: Path) -> None:
    for commit in read(path)["commits"]:
        events = codec.events_in(json.dumps(commit["events"], ensure_ascii=False))
        assert json.loads(codec.body_of(events)) == commit["events"]


def test_every_story_is_frozen() -> None:
    assert {path.stem for path in GOLDEN} >= set(STORIES)


def test_every_event_occurs_in_a_golden_stream() -> None:
    known = {
        one.model_fields["type"].default
        for union in (RunEvent, WorkflowEvent, DocumentEvent)
        for one in get_args(union)
    }
    occurring = {event["type"] for path in GOLDEN for commit in read(path)["commits"] for event in commit["events"]}
    assert known == occurring


def test_an_event_of_a_newer_release_is_kept_as_it_is_and_refused_for_decisions() -> None:
    """Fault 48."""
    body = '[{"type":"JobTeleported","job":"load","deep":{"x":[1,null,"ü"]}},{"type":"RunOpened"}]'
    events = codec.events_in(body)
    assert events[0] == UnknownEvent(type="JobTeleported", fields={"job": "load", "deep": {"x": [1, None, "ü"]}})
    assert codec.body_of(events) == body
    story = given(requested(job("load")))
    with pytest.raises(UnknownEvents, match="JobTeleported"):
        evolve(story.run, events[0], NOON, plans)
    workflow = given_workflow(register(a_document()))
    with pytest.raises(UnknownEvents):
        evolve_workflow(workflow.workflow, events[0], NOON)
    with pytest.raises(UnknownEvents):
        fold_document([(NOON, events[0])])
    assert decide(story.run, Advance(), now=NOON, plans=plans) == []


def test_fields_of_a_newer_release_are_passed_over() -> None:
    """Fault 48."""
    assert codec.events_in('[{"type":"RunOpened","by_whom":"x"}]') == codec.events_in('[{"type":"RunOpened"}]')
