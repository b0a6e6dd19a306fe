"""Commits and messages as text and back: nothing is lost, nothing is believed without being checked."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import (
    body_of,
    check_chain,
    commit_of,
    effects_from_json,
    effects_to_json,
    events_in,
    record_of,
)
from shared.effects import (
    AdvancePool,
    AdvanceRun,
    AskForPlace,
    CancelDisplaced,
    CheckHolders,
    CheckPlaces,
    Effect,
    GiveBackPlace,
    ObserveAttempt,
    OpenRun,
    StartAttempt,
    StopAttempt,
    TellOfPlace,
    TellWorkflow,
    TickWorkflow,
)
from shared.errors import CorruptStream
from shared.events import AttemptSucceeded, Event, RunRequested, UnknownEvent
from shared.ids import CommitId, Digest, Handle, JobName, PoolName, RunId, StreamName, WorkflowName
from shared.ports import FIRST_HASH, Record
from shared.state.pool import Place

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RUN, JOB, WORKFLOW = RunId("nightly@01h"), JobName("load"), WorkflowName("nightly")
POOL, PLACE = PoolName("warehouse"), Place(RUN, JOB, 2, 1)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def requested(parameters: dict[str, object]) -> RunRequested:
    return RunRequested(
        run=RUN, workflow=WORKFLOW, document=Digest("0" * 64), document_version=1, parameters=parameters
    )


def record(version: int, previous: str, events: list[Event]) -> Record:
    return record_of(
        StreamName(f"run#{RUN}"),
        version=version,
        commit_id=CommitId(f"c{version}"),
        at=NOON,
        by="test",
        cause="test",
        previous_hash=previous,
        events=events,
    )


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_events_come_back_as_they_were(values: dict[str, object]) -> None:
    events: list[Event] = [requested(values), AttemptSucceeded(job=JOB, attempt=1, exit_code=0, outputs=values)]
    assert list(events_in(body_of(events))) == events


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_effects_come_back_as_they_were(values: dict[str, object]) -> None:
    effects: list[Effect] = [
        StartAttempt(RUN, JOB, 1),
        StopAttempt(RUN, JOB, 2, Handle("h")),
        StopAttempt(RUN, JOB, 2),
        ObserveAttempt(RUN, JOB, 3),
        AdvanceRun(RUN),
        OpenRun(requested(values)),
        CancelDisplaced(RUN, RunId("nightly@02h")),
        TellWorkflow(WORKFLOW, RUN, "failed"),
        TickWorkflow(WORKFLOW),
        CheckHolders(WORKFLOW),
        AskForPlace(POOL, PLACE, 2, -1, NOON),
        GiveBackPlace(POOL, PLACE),
        TellOfPlace(POOL, PLACE),
        AdvancePool(POOL),
        CheckPlaces(POOL),
    ]
    assert effects_from_json(effects_to_json(effects)) == effects


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"effect": "Explode"}]', '[{"effect": "AdvanceRun"}]', "[{}]"])
def test_a_message_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        effects_from_json(text)


def test_an_event_of_a_newer_release_is_kept_whole() -> None:
    """fault 48"""
    body = '[{"type":"RunRetired","by":"ann","depth":{"of":[1]}},{"type":"RunOpened"}]'
    first, _ = events_in(body)
    assert first == UnknownEvent(type="RunRetired", fields={"by": "ann", "depth": {"of": [1]}})
    assert body_of(events_in(body)) == body


def test_a_field_of_a_newer_release_does_no_harm() -> None:
    assert events_in('[{"type":"RunOpened","why":"new"}]')[0].type == "RunOpened"


@pytest.mark.parametrize("body", ["", "{", "{}", "[1]", '[{"no":"type"}]', '[{"type":"AttemptQueued","job":"load"}]'])
def test_a_damaged_body_is_named_as_such(body: str) -> None:
    with pytest.raises(CorruptStream):
        events_in(body)


def test_a_commit_too_large_is_refused_before_it_is_stored() -> None:
    """Fault 47."""
    with pytest.raises(ValueError, match="exceeds"):
        body_of([AttemptSucceeded(job=JOB, attempt=1, outputs={"text": "ä" * 60_000})])


def test_the_chain_holds_and_every_change_to_it_shows() -> None:
    first = record(1, FIRST_HASH, [requested({})])
    second = record(2, first.hash, [AttemptSucceeded(job=JOB, attempt=1)])
    check_chain([first, second])
    assert commit_of(second).events == (AttemptSucceeded(job=JOB, attempt=1),)
    other = record(2, FIRST_HASH, [])
    for broken in ([second], [first, other], [first, first]):
        with pytest.raises(CorruptStream):
            check_chain(broken)


@pytest.mark.parametrize("field", ["stream", "commit_id", "at", "by", "cause", "body"])
def test_no_field_of_a_stored_commit_can_be_altered_unnoticed(field: str) -> None:
    whole = record(1, FIRST_HASH, [requested({})])
    changed = datetime(2026, 1, 1, tzinfo=UTC) if field == "at" else "[]" if field == "body" else "other"
    fields = {name: getattr(whole, name) for name in Record.__slots__} | {field: changed}
    with pytest.raises(CorruptStream, match="altered"):
        check_chain([Record(**fields)])
