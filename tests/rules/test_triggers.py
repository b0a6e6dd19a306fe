"""Events from outside: which fit a trigger, what they come to, and that each has one fate."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from shared.decide.commands import AdmitRun, DropHeldRun, PauseWorkflow, RefuseEvent, ResumeWorkflow, UnregisterWorkflow
from shared.errors import InvalidInput
from shared.events import (
    HeldRunDropped,
    RunAdmitted,
    RunHeld,
    TriggerMissed,
    TriggerRefused,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.explain import why_run
from shared.ids import RunId, WorkflowName
from shared.state.run import NotRequested
from shared.state.workflow import HELD_MAX, TURNED_AWAY_KEPT
from shared.triggers import (
    Occurrence,
    bus_occurrence,
    fits,
    is_signed,
    is_timely,
    keys_of,
    listens,
    matches,
    outcome_occurrence,
    parameters_of,
    queue_occurrence,
    run_of,
    signature,
    webhook_occurrence,
)
from shared.usecases.documents import read_document
from shared.workflow.nearest import Nearest
from shared.workflow.trigger_checks import check_pattern
from shared.workflow.triggers import EventTrigger, QueueTrigger, S3Trigger, WebhookTrigger, WorkflowTrigger
from tests.rules.sentences import (
    NOON,
    WORKFLOW,
    document,
    ended,
    fact,
    given_workflow,
    job,
    register,
    request_of,
)

PAUSE, RESUME = PauseWorkflow("ada"), ResumeWorkflow("ada")
ONE, TWO = RunId("nightly@tone"), RunId("nightly@ttwo")
SCHEMA = {"type": "object", "properties": {"key": {"type": "string", "minLength": 3}}, "required": ["key"]}


def triggered(while_paused: str = "skip", **fields: Any) -> Any:
    trigger = {"name": "up", "type": "s3", "bucket": "landing", "while_paused": while_paused}
    return document(job("load"), triggers=[trigger], **fields)


def asked(plan: Any, run: RunId = ONE, **fields: Any) -> AdmitRun:
    told = {"trigger": "event", "trigger_name": "up", "trigger_event": "s3://landing/a", "admitted": True}
    return AdmitRun(request_of(plan, run, **told, **fields))


def refusal(run: RunId = ONE) -> RefuseEvent:
    return RefuseEvent(run, "up", "s3://landing/a", "{}", ("params.key: is missing",))


def refused(run: RunId = ONE, version: int = 1) -> Any:
    told = {"trigger": "up", "event": "s3://landing/a", "content": "{}", "document_version": version}
    return fact(TriggerRefused, run=run, problems=("params.key: is missing",), **told)


def missed(run: RunId = ONE) -> Any:
    return fact(TriggerMissed, run=run, trigger="up", event="s3://landing/a")


# --- fates ------------------------------------------------------------------------------------------------------------


def test_an_event_lets_a_run_in_once() -> None:
    plan = triggered(max_active_runs=2)
    given_workflow(register(plan)).when(asked(plan)).then(fact(RunAdmitted, run=ONE))


def test_an_event_waits_for_the_limit_as_any_run_does() -> None:
    plan = triggered(max_active_runs=1)
    held = given_workflow(register(plan), asked(plan)).when(asked(plan, TWO)).then(fact(RunHeld, run=TWO))
    assert held.workflow.held[0].reason == f"1 active at once: {ONE}"


def test_while_paused_an_event_is_recorded_as_missed_and_stays_so_when_told_again() -> None:
    plan = triggered()
    story = given_workflow(register(plan), PAUSE).when(asked(plan)).then(missed())
    assert [(one.run, one.how, one.reason) for one in story.workflow.turned_away] == [
        (ONE, "missed", "the workflow was paused")
    ]
    story.given(RESUME).when(asked(plan)).then_nothing()


def test_while_paused_an_event_may_wait_for_the_end_of_the_pause() -> None:
    plan = triggered("queue")
    held = given_workflow(register(plan), PAUSE).when(asked(plan)).then(fact(RunHeld, run=ONE))
    assert held.workflow.held[0].reason == "the workflow is paused"
    held.when(RESUME).then(fact(WorkflowResumed), fact(RunAdmitted, run=ONE))


def test_what_waited_for_a_limit_does_not_start_during_a_pause() -> None:
    plan = triggered("queue", max_active_runs=1)
    story = given_workflow(register(plan), asked(plan), asked(plan, TWO), PAUSE, ended(ONE))
    assert [one.run for one in story.workflow.held] == [TWO]
    story.when(RESUME).then(fact(WorkflowResumed), fact(RunAdmitted, run=TWO))


def test_too_many_waiting_events_are_recorded_and_not_lost_silently() -> None:
    plan = triggered("queue")
    story = given_workflow(register(plan), PAUSE)
    story = story.given(*(asked(plan, RunId(f"nightly@t{number}")) for number in range(HELD_MAX)))
    told = story.when(asked(plan)).then(missed())
    assert told.workflow.turned_away[-1].reason == f"{HELD_MAX} runs are waiting already"


def test_a_refused_event_is_recorded_once_and_judged_anew_under_another_document() -> None:
    plan = triggered()
    story = given_workflow(register(plan)).when(refusal()).then(refused())
    story.when(asked(plan)).then_nothing()
    better = triggered(description="takes it")
    mended = story.given(register(better))
    mended.when(asked(better)).then(fact(RunAdmitted, run=ONE))
    again = mended.when(refusal()).then(refused(version=2))
    assert len(again.workflow.turned_away) == 1


def test_an_event_that_is_a_run_already_is_not_refused_later() -> None:
    plan = triggered(max_active_runs=1)
    given_workflow(register(plan), asked(plan)).when(refusal()).then_nothing()


def test_a_waiting_run_that_was_dropped_does_not_come_back_with_its_event() -> None:
    plan = triggered("queue")
    story = given_workflow(register(plan), PAUSE, asked(plan))
    dropped = story.when(DropHeldRun(ONE, "ada", "not today")).then(fact(HeldRunDropped, run=ONE))
    assert dropped.workflow.turned_away[0].how == "dropped"
    dropped.given(RESUME).when(asked(plan)).then_nothing()


def test_an_event_whose_trigger_is_gone_is_missed() -> None:
    plan = triggered(max_active_runs=1)
    story = given_workflow(register(plan), register(document(job("load"), max_active_runs=1)))
    told = story.when(asked(plan)).then(missed())
    assert told.workflow.turned_away[0].reason == "its trigger is gone"


def test_unregistering_gives_up_what_waits() -> None:
    plan = triggered("queue")
    story = given_workflow(register(plan), PAUSE, asked(plan))
    story.when(UnregisterWorkflow("ada")).then(fact(WorkflowUnregistered), fact(HeldRunDropped, run=ONE))
    story.given(UnregisterWorkflow("ada")).when(asked(plan, TWO)).then_rejected("not registered any more")


def test_no_more_fates_are_remembered_than_fit() -> None:
    plan = triggered()
    story = given_workflow(register(plan))
    story = story.given(*(refusal(RunId(f"nightly@t{number}")) for number in range(TURNED_AWAY_KEPT + 5)))
    kept = story.workflow.turned_away
    assert len(kept) == TURNED_AWAY_KEPT
    assert kept[-1].run == f"nightly@t{TURNED_AWAY_KEPT + 4}"


@forall(st.lists(st.sampled_from(["one", "two", "refuse one", "pause", "resume"]), max_size=25))
def test_every_event_has_at_most_one_fate_under_one_document(steps: list[str]) -> None:
    plan = triggered("skip", max_active_runs=1)
    commands: dict[str, Any] = {
        "one": asked(plan),
        "two": asked(plan, TWO),
        "refuse one": refusal(),
        "pause": PAUSE,
        "resume": RESUME,
    }
    story = given_workflow(register(plan), *(commands[step] for step in steps))
    fates: dict[str, int] = {}
    for event in story.events:
        if isinstance(event, TriggerMissed | TriggerRefused | RunHeld) or (
            isinstance(event, RunAdmitted)
            and not any(isinstance(e, RunHeld) and e.run == event.run for e in story.events)
        ):
            fates[event.run] = fates.get(event.run, 0) + 1
    assert all(number == 1 for number in fates.values()), fates


# --- why --------------------------------------------------------------------------------------------------------------


def why(story: Any, plan: Any, run: RunId = ONE) -> Any:
    history = [(at, event) for at, events in story.history for event in events]
    (told,) = why_run(NotRequested(), run, story.now, workflow=story.workflow, plan=plan, history=history)
    return told


def test_why_tells_what_became_of_an_event() -> None:
    plan = triggered()
    told = why(given_workflow(register(plan), PAUSE, asked(plan)), plan)
    assert (told.code, "s3://landing/a" in told.message, "the workflow was paused" in told.message) == (
        "missed",
        True,
        True,
    )
    told = why(given_workflow(register(plan), refusal()), plan)
    assert (told.code, "params.key: is missing" in told.message) == ("refused", True)
    patient = triggered("queue")
    told = why(given_workflow(register(patient), PAUSE, asked(patient)), patient)
    assert (told.code, told.clears) == ("paused", f"runfold resume {WORKFLOW}")


# --- patterns ---------------------------------------------------------------------------------------------------------

EVENT = {
    "id": "e1",
    "source": "shop",
    "detail-type": "Order",
    "detail": {"state": "PAID", "amount": 12.5, "tags": ["eu", "big"], "none": None, "yes": True, "deep": {"n": 1}},
}


@pytest.mark.parametrize(
    ("detail", "fit"),
    [
        ({"state": ["PAID"]}, True),
        ({"state": ["OPEN", "PAID"]}, True),
        ({"state": ["OPEN"]}, False),
        ({"state": [{"prefix": "PA"}]}, True),
        ({"state": [{"suffix": "PA"}]}, False),
        ({"state": [{"equals-ignore-case": "paid"}]}, True),
        ({"state": [{"anything-but": ["PAID", "OPEN"]}]}, False),
        ({"state": [{"anything-but": "OPEN"}]}, True),
        ({"state": [{"anything-but": {"prefix": "PA"}}]}, False),
        ({"amount": [{"numeric": [">", 10, "<=", 12.5]}]}, True),
        ({"amount": [{"numeric": ["<", 10]}]}, False),
        ({"amount": ["12.5"]}, False),
        ({"tags": ["big"]}, True),
        ({"tags": ["small"]}, False),
        ({"none": [None]}, True),
        ({"absent": [None]}, False),
        ({"yes": [True]}, True),
        ({"yes": [1]}, False),
        ({"absent": [{"exists": False}]}, True),
        ({"absent": [{"exists": True}]}, False),
        ({"state": [{"exists": True}]}, True),
        ({"deep": {"n": [1]}}, True),
        ({"deep": {"m": [{"exists": False}]}}, True),
        ({"deep": [1]}, False),
        ({"state": {"n": [1]}}, False),
        ({"state": ["PAID"], "tags": ["small"]}, False),
    ],
)
def test_a_pattern_means_what_it_means_to_eventbridge(detail: dict[str, Any], fit: bool) -> None:
    pattern = {"source": ["shop"], "detail": detail}
    assert list(check_pattern(pattern, "pattern", Nearest())) == []
    assert matches(pattern, EVENT) is fit


@pytest.mark.parametrize(
    ("pattern", "path", "says"),
    [
        ({"source": "shop"}, "pattern.source", "must be a list"),
        ({"source": []}, "pattern.source", "is empty"),
        ({"detail": {}}, "pattern.detail", "is empty"),
        ({"source": [{"wildcard": "a*"}]}, "pattern.source[0].wildcard", "not a rule"),
        ({"source": [{"prefix": "a", "suffix": "b"}]}, "pattern.source[0]", "one rule"),
        ({"source": [{"numeric": [">"]}]}, "pattern.source[0].numeric", "comparisons"),
        ({"source": [{"exists": "no"}]}, "pattern.source[0].exists", "true or false"),
        ({"source": [{"anything-but": []}]}, "pattern.source[0].anything-but", "must be values"),
        ({"source": [["a"]]}, "pattern.source[0]", "not a list"),
        ({"$or": [{"source": ["a"]}]}, "pattern.$or", "not taken"),
        ({"source": ["a"] * 501}, "pattern", "more than 500"),
    ],
)
def test_a_pattern_that_is_not_understood_is_refused(pattern: dict[str, Any], path: str, says: str) -> None:
    problems = list(check_pattern(pattern, "pattern", Nearest()))
    assert [problem.path for problem in problems] == [path]
    assert says in problems[0].message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "detail"]), inner, max_size=3)
    ),
    max_leaves=12,
)
RULE = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text("ab", max_size=3)
    | st.builds(lambda text: {"prefix": text}, st.text("ab", min_size=1, max_size=2))
    | st.builds(lambda yes: {"exists": yes}, st.booleans())
    | st.builds(lambda one: {"anything-but": one}, st.integers(-5, 5))
    | st.builds(lambda number: {"numeric": ["<", number]}, st.integers(-5, 5))
)
PATTERN = st.recursive(
    st.dictionaries(
        st.sampled_from(["a", "b", "source"]), st.lists(RULE, min_size=1, max_size=3), min_size=1, max_size=2
    ),
    lambda inner: st.dictionaries(st.sampled_from(["detail", "a"]), inner, min_size=1, max_size=2),
    max_leaves=5,
)


@forall(PATTERN, JSON)
def test_matching_always_answers(pattern: dict[str, Any], event: Any) -> None:
    assert list(check_pattern(pattern, "pattern", Nearest())) == []
    assert matches(pattern, event) in (True, False)


@forall(PATTERN, st.sampled_from(["a", "b", "aws.s3"]), JSON)
def test_whatever_fits_is_found_under_one_of_its_keys(pattern: dict[str, Any], source: str, detail: Any) -> None:
    pattern = {**pattern, "source": [source]} if isinstance(pattern.get("source"), list) else pattern
    occurrence = bus_occurrence({"id": "1", "source": source, "detail-type": "Object Created", "detail": detail})
    trigger = EventTrigger(name="t", type="event", pattern=pattern)
    if fits(trigger, occurrence):
        assert set(listens(trigger)) & set(keys_of(occurrence))


# --- what an event comes to -------------------------------------------------------------------------------------------


def created(key: str = "in/a.csv", bucket: str = "landing", version: str | None = "v1", **more: Any) -> Occurrence:
    made = {"key": key, "etag": "e", "sequencer": "s1", **({"version-id": version} if version else {}), **more}
    detail = {"bucket": {"name": bucket}, "object": made}
    return bus_occurrence({"id": "1", "source": "aws.s3", "detail-type": "Object Created", "detail": detail})


UP = S3Trigger(
    name="up",
    type="s3",
    bucket="landing",
    prefix="in/",
    suffix=".csv",
    parameters={"key": "{{ event.detail.object.key }}"},
)


def test_an_object_starts_a_run_by_its_bucket_prefix_and_suffix() -> None:
    assert fits(UP, created())
    assert listens(UP) == ("s3:landing",)
    assert "s3:landing" in keys_of(created())
    assert not fits(UP, created("out/a.csv"))
    assert not fits(UP, created("in/a.txt"))
    assert not fits(UP, created(bucket="other"))
    assert not fits(UP, bus_occurrence({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}}))
    assert parameters_of(UP, created(), SCHEMA) == {"key": "in/a.csv"}
    assert created().subject == "s3://landing/in/a.csv"


def test_the_same_object_told_of_by_two_events_is_one_run_and_a_new_version_another() -> None:
    first = run_of(WORKFLOW, UP, created())
    again = Occurrence("bus", "another event", created().event)
    assert run_of(WORKFLOW, UP, again) == first
    assert run_of(WORKFLOW, UP, created(version="v2")) != first
    unversioned = created(version=None)
    assert run_of(WORKFLOW, UP, unversioned) != first
    assert run_of(WORKFLOW, UP, created(version=None, sequencer="s2")) != run_of(WORKFLOW, UP, unversioned)
    assert run_of(WorkflowName("other"), UP, created()) != first


def test_a_document_may_say_what_tells_events_apart() -> None:
    trigger = EventTrigger(name="t", type="event", pattern={"source": ["s"]}, deduplicate_by="{{ event.detail.order }}")
    one = bus_occurrence({"id": "1", "source": "s", "detail": {"order": 7}})
    two = bus_occurrence({"id": "2", "source": "s", "detail": {"order": 7}})
    other = bus_occurrence({"id": "3", "source": "s", "detail": {"order": 8}})
    assert run_of(WORKFLOW, trigger, one) == run_of(WORKFLOW, trigger, two) != run_of(WORKFLOW, trigger, other)
    with pytest.raises(InvalidInput, match="deduplicate_by"):
        run_of(WORKFLOW, trigger, bus_occurrence({"id": "4", "source": "s", "detail": {}}))


def test_what_an_event_comes_to_is_held_to_the_schema() -> None:
    with pytest.raises(InvalidInput, match="key"):
        parameters_of(UP, created("a"), SCHEMA)
    missing = UP.model_copy(update={"parameters": {"key": "{{ event.detail.nothing }}"}})
    with pytest.raises(InvalidInput, match="nothing"):
        parameters_of(missing, created(), SCHEMA)


def test_a_message_is_told_apart_by_its_id_and_read_as_json_or_text() -> None:
    trigger = QueueTrigger(name="q", type="queue", pattern={"detail": {"kind": ["load"]}})
    assert fits(trigger, queue_occurrence("m1", '{"kind": "load"}'))
    assert not fits(trigger, queue_occurrence("m1", "load"))
    assert queue_occurrence("m1", "load").event["detail"] == "load"
    assert run_of(WORKFLOW, trigger, queue_occurrence("m1", '{"kind": "load"}')) != run_of(
        WORKFLOW, trigger, queue_occurrence("m2", '{"kind": "load"}')
    )


def end(outcome: str, run: str = "first@1") -> Occurrence:
    named: dict[str, Any] = {"at": NOON, "scheduled_at": None, "parameters": {}, "chain": 0}
    return outcome_occurrence(RunId(run), WorkflowName("first"), outcome, **named)


@pytest.mark.parametrize(("wanted", "fit"), [("succeeded", [True, False, False]), ("any", [True, True, True])])
def test_an_end_fits_by_its_outcome(wanted: Any, fit: list[bool]) -> None:
    trigger = WorkflowTrigger(name="t", type="workflow", workflow="first", outcome=wanted)
    assert [fits(trigger, end(one)) for one in ("succeeded", "failed", "cancelled")] == fit
    assert keys_of(end("failed")) == listens(trigger)
    # After a rerun it ends a second time, and is the same event.
    assert run_of(WORKFLOW, trigger, end("failed")) == run_of(WORKFLOW, trigger, end("succeeded"))


def test_a_body_without_a_delivery_is_told_apart_by_what_it_says() -> None:
    trigger = WebhookTrigger(name="h", type="webhook", secret="env:HOOK")
    one, same = (webhook_occurrence("", b'{"n": 1}', NOON) for _ in range(2))
    assert run_of(WORKFLOW, trigger, one) == run_of(WORKFLOW, trigger, same)
    assert run_of(WORKFLOW, trigger, webhook_occurrence("d1", b'{"n": 1}', NOON)) != run_of(WORKFLOW, trigger, one)
    with pytest.raises(InvalidInput, match="not JSON"):
        webhook_occurrence("", b"{", NOON)


def test_what_is_kept_of_a_refused_event_is_bounded_and_holds_no_secret() -> None:
    key = "AKIA" + "Q" * 16
    told = bus_occurrence({"id": "1", "source": key, "detail": {"text": "x" * 10_000}})
    assert len(told.content) == 4_000
    assert key not in told.content
    assert key not in told.subject


# --- signatures -------------------------------------------------------------------------------------------------------


def test_a_signature_binds_address_time_delivery_and_body() -> None:
    asked = ("w", "t", "1700000000", "d1", b"body")
    right = signature(b"secret", *asked)
    assert is_signed(b"secret", *asked, right)
    assert not is_signed(b"", *asked, signature(b"", *asked))
    for position in range(5):
        other: list[Any] = list(asked)
        other[position] = other[position] + (b"x" if position == 4 else "x")
        address, trigger, timestamp, delivery, body = other
        assert not is_signed(b"secret", address, trigger, timestamp, delivery, body, right)
    assert not is_signed(b"other", *asked, right)
    assert not is_signed(b"secret", *asked, right + "0")
    assert not is_signed(b"secret", *asked, "")


@pytest.mark.parametrize(
    ("timestamp", "timely"),
    [("1000", True), ("701", True), ("700", True), ("699", False), ("1300", True), ("1301", False), ("", False),
     ("1e3", False), ("-1000", False), ("1000.0", False), ("９９９", False), ("9" * 400, False)],
)  # fmt: skip
def test_a_request_is_taken_near_its_time_alone(timestamp: str, timely: bool) -> None:
    assert is_timely(timestamp, datetime.fromtimestamp(1000, UTC), 300) is timely


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_document_names_everything_that_is_wrong_with_its_triggers() -> None:
    text = b"""
name: x
parameters: {type: object, properties: {key: {type: string}}, required: [key]}
triggers:
  - {name: up, type: s3, buckt: landing}
  - {name: hook, type: webhook, secret: "not a reference", parameters: {kei: "{{ evnt.detail.key }}"}}
  - {name: Hook, type: event, pattern: {source: a}, parameters: {key: k}, deduplicate_by: x}
  - {name: me, type: workflow, workflow: x, parameters: {key: "{{ event.detail.a }}"}}
  - {name: other, type: wrkflow}
jobs: [{name: a, type: ecs, image: x, command: ["true"]}]
"""
    with pytest.raises(InvalidInput) as raised:
        read_document(text, name="a.yaml")
    assert [problem.path for problem in raised.value.problems] == [
        "triggers[0].bucket",
        "triggers[0].buckt",
        "triggers[4].type",
        "triggers[1].parameters.kei",
        "triggers[1].parameters",
        "triggers[1].secret",
        "triggers[2].name",
        "triggers[2].pattern.source",
        "triggers[3].workflow",
        "triggers[1].parameters.kei",
        "triggers[2].deduplicate_by",
    ]
    assert "not a reference" not in str(raised.value).replace("is not a reference", "")
