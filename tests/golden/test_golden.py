"""What any release has written, this one reads: golden streams are folded and compared with what they folded to when they were made.

What a golden file must hold is asked of the types themselves, so that an event, a field, a word or a phase that is added without a golden stream fails
here.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

import pytest
from immutables import Map
from pydantic import BaseModel

from shared import codec
from shared.decide.commands import Advance
from shared.decide.run import decide
from shared.errors import UnknownEvents
from shared.events import (
    BackfillEvent,
    CalendarEvent,
    DocumentEvent,
    Event,
    NoticeEvent,
    PoolEvent,
    RunAdmitted,
    RunEvent,
    RunHeld,
    UnknownEvent,
    WorkflowEvent,
)
from shared.ids import CommitId, StreamName
from shared.ports import FIRST_HASH, Record, Snapshot
from shared.state.backfill import Admitted, BackfillState, InstantSeen
from shared.state.calendar import CalendarState
from shared.state.document import Upload, fold_document
from shared.state.fan import Fan, FanCancel, Unstarted
from shared.state.lateness import Pace
from shared.state.notices import NoticeLog, Sending
from shared.state.pool import Awaited, Line, PoolState
from shared.state.pool import Held as PoolHeld
from shared.state.run import (
    FOLD_VERSION,
    Attempt,
    Cancel,
    JobState,
    NotRequested,
    Phase,
    PoolUse,
    Run,
    Stop,
    evolve,
    fold,
)
from shared.state.snapshot import dump, load
from shared.state.workflow import Held, Holder, Pause, Version, WorkflowState, evolve_workflow
from shared.stores.memory import MemorySnapshots, MemoryStore
from shared.usecases import loading
from shared.usecases.loading import Loader, PlanCache
from tests.golden.make import (
    STORIES,
    changes_of,
    commits_of,
    kind_of,
    outcome_of,
    plans_of,
    snapshot_body,
    states_of,
)
from tests.golden.seen import differs, seen
from tests.rules.sentences import NOON, given, given_workflow, job, plans, register, requested, same
from tests.rules.sentences import document as a_document

HERE = Path(__file__).parent
GOLDEN = sorted(path for path in HERE.glob("*.json") if kind_of(path.stem) != "snapshots")
SNAPSHOTS = sorted(HERE.glob("snapshots-*.json"))
EVENTS: tuple[type[BaseModel], ...] = (
    *(
        one
        for union in (RunEvent, WorkflowEvent, DocumentEvent, BackfillEvent, PoolEvent, NoticeEvent)
        for one in get_args(union)
    ),
    CalendarEvent,
)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def golden_events() -> Iterator[Event]:
    """Every event of every golden stream, and the requests that stand in events of workflows."""
    for path in GOLDEN:
        for _, events in commits_of(read(path)):
            yield from events
            yield from (event.request for event in events if isinstance(event, RunAdmitted | RunHeld))


def golden_states() -> Iterator[Any]:
    """Every state, and everything it is made of, after each commit of every golden stream."""
    for path in GOLDEN:
        for state in states_of(kind_of(path.stem), read(path)):
            yield from _parts(state)


def _parts(part: Any) -> Iterator[Any]:
    if is_dataclass(part):
        yield part
        for field in fields(part):
            if field.name != "plan":
                yield from _parts(getattr(part, field.name))
    elif isinstance(part, Map | dict):
        for value in part.values():
            yield from _parts(value)
    elif isinstance(part, tuple):
        for value in part:
            yield from _parts(value)


# --- what was frozen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_stream_written_by_any_release_folds_to_what_it_was(path: Path) -> None:
    """Fault 48, from the other side: rolling back never meets less than it wrote."""
    golden = read(path)
    assert "outcome" in golden or "states" in golden
    if "outcome" in golden:
        assert outcome_of(kind_of(path.stem), golden["documents"], golden["commits"]) == golden["outcome"]
    if "states" in golden:
        now = [seen(state) for state in states_of(kind_of(path.stem), golden)]
        assert len(now) == len(golden["states"])
        told: dict[str, Any] = {}
        for version, (change, state) in enumerate(zip(golden["states"], now, strict=True), 1):
            jobs = {one["job"]: one for one in [*told.get("jobs", []), *change.get("jobs", [])]}
            told |= change
            if jobs:
                told["jobs"] = [jobs[one["job"]] for one in state["jobs"] if one["job"] in jobs]
                assert {name for name, one in jobs.items() if "gone" not in one} == {one["job"] for one in told["jobs"]}
            assert differs(told, state) == "", f"after commit {version}"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_is_read_is_written_again_as_it_was(path: Path) -> None:
    for commit in read(path)["commits"]:
        events = codec.events_in(json.dumps(commit["events"], ensure_ascii=False))
        assert json.loads(codec.body_of(events)) == commit["events"]


def test_every_story_is_frozen() -> None:
    assert {path.stem for path in GOLDEN} >= set(STORIES)


def test_what_differs_is_found_and_what_was_not_known_then_is_passed_over() -> None:
    told = {"a": 1, "jobs": [{"job": "x", "files": None}]}
    assert differs(told, {"a": 1, "b": 2, "jobs": [{"job": "x", "files": None, "new": 3}]}) == ""
    assert differs(told, {"a": 1, "jobs": [{"job": "x", "files": []}]}) == ".jobs[0].files: None is [] now"
    assert differs(told, {"a": 1, "jobs": []}) == ".jobs: [{'job': 'x', 'files': None}] is [] now"
    assert differs(told, {"jobs": told["jobs"]}) == ".a is gone"


# --- that everything is there -----------------------------------------------------------------------------------------


def test_every_event_occurs_in_a_golden_stream() -> None:
    occurring = {event.type for event in golden_events() if not isinstance(event, UnknownEvent)}
    assert {one.model_fields["type"].default for one in EVENTS} == occurring


def test_every_field_that_may_be_left_out_is_told_and_left_out_in_golden_streams() -> None:
    told, left_out = set[str](), set[str]()
    for event in golden_events():
        for name, field in type(event).model_fields.items():
            (left_out if getattr(event, name) == field.default else told).add(f"{event.type}.{name}")
    optional = {
        f"{one.__name__}.{name}"
        for one in EVENTS
        for name, field in one.model_fields.items()
        if name != "type" and not field.is_required()
    }
    assert optional - told == set(), "never told"
    assert optional - left_out == set(), "never left out"


def test_every_word_that_a_field_may_say_is_said_in_golden_streams() -> None:
    said = {
        (event.type, name, getattr(event, name)) for event in golden_events() for name in type(event).model_fields
        if isinstance(getattr(event, name), str)
    }  # fmt: skip
    sayable = {
        (one.__name__, name, word)
        for one in EVENTS
        for name, field in one.model_fields.items()
        for word in _words(field.annotation)
    }
    assert sayable - said == set()


def _words(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _words(one)


STATES = (
    Run,
    Pace,
    JobState,
    PoolUse,
    *get_args(Phase),
    Stop,
    Attempt,
    Cancel,
    Fan,
    FanCancel,
    Unstarted,
    WorkflowState,
    Version,
    Pause,
    Holder,
    Held,
    *(PoolState, PoolHeld, Awaited, Line),
    *(NoticeLog, Sending),
    Upload,
    BackfillState,
    InstantSeen,
    Admitted,
    CalendarState,
)


def test_every_phase_and_every_field_of_a_state_is_met_in_golden_streams() -> None:
    """Of states as well: what no golden stream leads to could fold to something else unseen."""
    met, filled = set[type[Any]](), set[str]()
    for part in golden_states():
        met.add(type(part))
        filled |= {
            f"{type(part).__name__}.{field.name}"
            for field in fields(part)
            if getattr(part, field.name) not in (None, "", (), 0, False, frozenset(), Map())
        }
    assert met >= set(STATES)
    wanted = {f"{one.__name__}.{field.name}" for one in STATES for field in fields(one)}
    assert wanted - filled == set()


def test_every_end_of_attempts_jobs_and_runs_is_met_in_golden_streams() -> None:
    parts = list(golden_states())
    attempts = {part.status for part in parts if isinstance(part, Attempt)}
    jobs = {part.status for part in parts if isinstance(part, JobState)}
    runs = {part.status for part in parts if isinstance(part, Run)}
    assert attempts == {"succeeded", "failed", "timed_out", "cancelled", "abandoned"}
    phases = {"waiting", "ready", "queued", "claimed", "submitted", "running", "doubt", "backoff", "approval"}
    assert jobs == phases | {"succeeded", "failed", "timed_out", "cancelled", "skipped", "upstream_failed"}
    assert runs == {"waiting", "running", "succeeded", "failed", "cancelled"}


def test_every_event_that_moves_an_attempt_is_met_in_every_phase_that_it_may_follow() -> None:
    """What an event makes of a phase differs by phase: `ClaimReleased` of a claim and of a start put off, a bond out of doubt, ..."""
    met: set[tuple[str, str]] = set()
    for path in GOLDEN:
        golden = read(path)
        if kind_of(path.stem) != "run":
            continue
        documents, state = plans_of(golden), cast("Any", NotRequested())
        for at, events in commits_of(golden):
            for event in events:
                if isinstance(event, UnknownEvent):
                    continue
                name = getattr(event, "job", None)
                before = type(state.job(name).phase).__name__ if name and isinstance(state, Run) else ""
                met.add((before, event.type))
                state = fold([(at, event)], documents, state)
    assert FOLLOWS - met == set()


FOLLOWS = {
    (phase, event)
    for event, phases in {
        "JobSettled": "Waiting Wanting Ready Backoff Asking",
        "PlaceWanted": "Waiting Ready Backoff",
        "PlaceTaken": "Wanting",
        "AttemptQueued": "Waiting Ready Backoff",
        "AttemptClaimed": "Queued Doubted",
        "ClaimReleased": "Claimed Queued",
        "StartAsked": "Queued",
        "AttemptSubmitted": "Queued Claimed Doubted",
        "AttemptStarted": "Submitted",
        "AttemptSucceeded": "Queued Claimed Submitted Doubted",
        "AttemptFailed": "Queued Claimed Submitted Doubted",
        "AttemptCancelled": "Queued Claimed Submitted Doubted",
        "AttemptDoubted": "Queued Claimed Submitted",
        "StopRequested": "Queued Claimed Submitted Doubted",
        "StopSent": "Queued Claimed Submitted Doubted",
        "StopFlagged": "Queued Claimed Submitted Doubted",
        "LateReported": "Queued Submitted Doubted Backoff Done",
        "JobMarked": "Waiting Wanting Ready Queued Claimed Submitted Doubted Backoff Asking Done",
        "ApprovalAsked": "Waiting",
        "JobApproved": "Asking",
        "JobRejected": "Asking",
        "ApprovalExpired": "Asking",
    }.items()
    for phase in phases.split()
} - {("Backoff", "AttemptQueued")}
"""A retry becomes ready first, in the same commit."""


# --- newer releases ---------------------------------------------------------------------------------------------------


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


def test_a_golden_stream_that_a_newer_release_went_on_with_is_refused_as_a_whole() -> None:
    """Fault 48."""
    golden = read(HERE / "run-a-newer-release.json")
    timed = [(at, event) for at, events in commits_of(golden) for event in events]
    with pytest.raises(UnknownEvents, match="JobTeleported"):
        fold(timed, plans_of(golden))
    assert isinstance(fold(timed[:-1], plans_of(golden)), Run)


def test_fields_of_a_newer_release_are_passed_over() -> None:
    """Fault 48."""
    assert codec.events_in('[{"type":"RunOpened","by_whom":"x"}]') == codec.events_in('[{"type":"RunOpened"}]')


# --- snapshots --------------------------------------------------------------------------------------------------------


def kept_by(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    for kept in read(path)["snapshots"]:
        yield kept, read(HERE / f"{kept['stream']}.json")


def test_every_fold_version_up_to_now_has_its_snapshots() -> None:
    """And the fold of today cannot give another state under the number that it has: see the next test."""
    assert [read(path)["fold_version"] for path in SNAPSHOTS] == list(range(1, FOLD_VERSION + 1)), (
        "run `python -m tests.golden.make`, which keeps the snapshots of this fold version"
    )


def test_a_snapshot_of_this_fold_version_is_what_its_stream_folds_to() -> None:
    """Fault 49: whoever changes what a fold gives, or how it is kept, changes `FOLD_VERSION` too."""
    path = HERE / f"snapshots-of-fold-{FOLD_VERSION}.json"
    streams = set()
    for kept, golden in kept_by(path):
        state = states_of("run", golden)[kept["version"] - 1]
        assert isinstance(state, Run)
        body = snapshot_body(kept)
        assert same(load(body, plans_of(golden)), state), (kept["stream"], kept["version"])
        assert dump(state) == body, (kept["stream"], kept["version"])
        streams.add(kept["stream"])
    assert streams <= {path.stem for path in GOLDEN if kind_of(path.stem) == "run"}


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_whatever_fold_version_left_a_snapshot_the_state_is_the_one_of_the_events(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 49: those that older releases left, in their own bytes."""
    monkeypatch.setattr(loading, "SNAPSHOT_EVERY", 1)
    for kept, golden in kept_by(path):
        loaded = _loaded(golden, kept["version"], read(path)["fold_version"], snapshot_body(kept))
        assert same(loaded, cast("Run", states_of("run", golden)[-1]))


def test_a_snapshot_of_another_fold_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 49: one that could be read, and says something else, as after a release that folds differently."""
    monkeypatch.setattr(loading, "SNAPSHOT_EVERY", 1)
    golden = read(HERE / "run-rounds.json")
    states = states_of("run", golden)
    other = states[3]
    assert isinstance(other, Run)
    assert same(_loaded(golden, len(states), FOLD_VERSION, dump(other)), other), "under our own number it is believed"
    for number in (*range(1, FOLD_VERSION), FOLD_VERSION + 1):
        assert same(_loaded(golden, len(states), number, dump(other)), cast("Run", states[-1])), number


def _loaded(golden: Any, version: int, fold_version: int, body: bytes) -> Any:
    """What a cold reader makes of the golden stream, of which there is that snapshot."""
    stream, store, snapshots = StreamName("run#nightly@1"), MemoryStore(), MemorySnapshots()
    hashes = _store(store, stream, golden, len(states_of("run", golden)))
    snapshots.put(Snapshot(stream, version, fold_version, hashes[version - 1], body))
    return Loader(store, cast("PlanCache", plans_of(golden)), snapshots).load(stream).state


def _store(store: MemoryStore, stream: StreamName, golden: Any, count: int) -> list[str]:
    previous, hashes = FIRST_HASH, []
    for version, (at, events) in enumerate(commits_of(golden)[:count], 1):
        record: Record = codec.record_of(
            stream,
            version=version,
            commit_id=CommitId(f"c-{version}"),
            at=at,
            by="",
            cause="",
            previous_hash=previous,
            events=events,
        )
        store.append(record)
        previous = record.hash
        hashes.append(previous)
    return hashes


def test_golden_changes_are_those_of_the_states() -> None:
    """The file says only what changed: put together again it is the last state."""
    golden = read(HERE / "run-rounds.json")
    states = states_of("run", golden)
    assert changes_of(states)[0]["jobs"] == seen(states[0])["jobs"]
    assert {"job": "e", "gone": True} in [job for change in changes_of(states) for job in change.get("jobs", [])]
