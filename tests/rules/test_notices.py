"""What is told, to whom, how often: notices as sentences, and each exactly once in whatever order and however often it is derived."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import settings
from hypothesis import strategies as st

from shared.decide.commands import Advance, PlanNotices, RecordNotSent, RecordSent, Tick
from shared.decide.notices import TRIES_MAX, decide_notices, retry_delay
from shared.decide.occasions import DOUBTS_TOLD_MAX, Carry, Told, notices_of, occasions
from shared.effects import DeliverNotice, due_of_notices, effects_of_notices, pending_of_notices
from shared.errors import CorruptStream
from shared.events import AttemptDoubted, Event, InstantsMissed, Notice, NoticeFailed, NoticeSent, NoticesPlanned
from shared.ids import Digest, JobName, StreamName, notice_id, notices_stream, run_stream, workflow_stream
from shared.state.notices import OVER_MAX, NoticeLog, fold_notices
from tests.rules.sentences import (
    NOON,
    RUN,
    WORKFLOW,
    Story,
    days,
    document,
    given,
    given_workflow,
    hours,
    job,
    minutes,
    register,
    reopen,
    report,
    requested,
    seconds,
)

SOURCE = run_stream(RUN)
STREAM = notices_stream(SOURCE)
TEAM = "data-eng@example.com"
AWS_KEY = "AKIA" + "QWERTYUIOPASDFGH"


def told_of(story: Story, *, failed_before: bool = False) -> list[tuple[str, int]]:
    return [(one.on, one.version) for one in all_told(story, failed_before=failed_before)]


def all_told(story: Story, *, failed_before: bool = False) -> list[Told]:
    carry, found = Carry(), []
    for version, (at, events) in enumerate(story.history, 1):
        told, carry = occasions(version, at, events, carry, failed_before=failed_before)
        found += told
    return found


def rules(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"notify": [*rules], **fields}


def email(*on: str) -> dict[str, Any]:
    return {"on": list(on), "email": TEAM}


# --- what is worth telling --------------------------------------------------------------------------------------------


def test_a_run_that_succeeds_started_and_succeeded() -> None:
    story = given(requested(job("load")), minutes(1), report("load", "succeeded"))
    assert told_of(story) == [("started", 1), ("succeeded", 2)]


def test_a_run_that_fails_is_told_as_failed_and_a_retry_is_not() -> None:
    story = given(requested(job("load", retry=2)), report("load", "failed"), minutes(1), Advance())
    assert told_of(story) == [("started", 1)]
    assert told_of(story.given(report("load", "failed", 2)))[1:] == [("failed", 4)]


def test_the_first_success_after_a_failure_has_recovered() -> None:
    plan = document(job("load"))
    story = given(requested(plan), report("load", "failed"), hours(1), reopen(plan, "load", request="r-1"))
    story = story.given(report("load", "succeeded", 2), hours(1), reopen(plan, "load", request="r-2"))
    story = story.given(report("load", "succeeded", 3))
    assert told_of(story) == [
        ("started", 1),
        ("failed", 2),
        ("started", 3),
        ("succeeded", 4),
        ("recovered", 4),
        ("started", 5),
        ("succeeded", 6),
    ]


def test_a_success_after_another_run_that_failed_has_recovered_as_well() -> None:
    story = given(requested(job("load")), report("load", "succeeded"))
    assert ("recovered", 2) in told_of(story, failed_before=True)
    assert ("recovered", 2) not in told_of(story)


def test_lateness_and_a_missed_deadline_are_told() -> None:
    story = given(requested(job("load"), late={"expected_minutes": 5}, deadline={"minutes": 10}))
    story = story.given(minutes(5), Advance(), minutes(5), Advance())
    assert told_of(story) == [("started", 1), ("late", 2), ("deadline", 3)]


def test_doubts_of_one_commit_are_told_together_and_after_a_while_no_more() -> None:
    at, carry, told = NOON, Carry(), []
    for version in range(1, DOUBTS_TOLD_MAX + 5):
        events = [
            AttemptDoubted(job=JobName(f"j{number}"), attempt=1, reason="silence", policy="ask") for number in range(40)
        ]
        some, carry = occasions(version, at, events, carry)
        told += some
    assert [one.on for one in told] == ["doubt"] * DOUBTS_TOLD_MAX
    assert "j0 (attempt 1): silence; j1" in told[0].why
    assert "and 35 more" in told[0].why
    assert "no further doubts" in told[-1].why


def test_scheduled_instants_that_were_missed_are_told() -> None:
    plan = document(job("load"), schedule={"cron": "0 * * * *", "catchup": "latest"})
    story = given_workflow(register(plan), hours(5), Tick())
    (told,) = all_told(story)
    assert (told.on, told.why.partition(":")[0]) == ("missed", "4 from 2026-03-02T13")
    assert isinstance(story.events[2], InstantsMissed)


# --- to whom ----------------------------------------------------------------------------------------------------------


def test_each_rule_tells_each_occasion_that_it_names() -> None:
    plan = document(job("load"), **rules(email("failed", "started"), email("failed"), email("succeeded")))
    story = given(requested(plan), report("load", "failed", reason="disk full"))
    notices = notices_of(SOURCE, all_told(story), plan.workflow, story.run, "https://runfold.example.com/")
    assert [(one.on, one.rule, one.version) for one in notices] == [
        ("started", 0, 1),
        ("failed", 0, 2),
        ("failed", 1, 2),
    ]
    assert len({one.id for one in notices}) == 3
    failed = notices[1]
    assert failed.id == notice_id(SOURCE, 2, "failed", 0)
    assert failed.to == TEAM
    assert failed.subject == "[runfold] nightly@1 failed"
    assert "- load: failed, disk full" in failed.text
    assert "https://runfold.example.com/v1/runs/nightly@1" in failed.text


def test_a_notice_never_tells_what_looks_like_a_secret() -> None:
    """Invariant 13: reasons come from jobs and targets."""
    plan = document(job("load"), **rules(email("doubt")))
    doubted = AttemptDoubted.model_construct(job=JobName("load"), attempt=1, reason=f"key {AWS_KEY}", policy="ask")
    told, _ = occasions(2, NOON, [doubted], Carry())
    (notice,) = notices_of(SOURCE, told, plan.workflow, None, "")
    assert AWS_KEY not in notice.text
    assert "withheld" in notice.text


def test_texts_are_bounded() -> None:
    many = [job(f"j{number:04}") for number in range(500)]
    plan = document(*many, parallelism=500, **rules(email("failed")))
    story = given(requested(plan)).to_its_end()
    for number in range(500):
        story = story.given(report(f"j{number:04}", "failed", reason="x" * 900))
    notices = notices_of(SOURCE, all_told(story), plan.workflow, story.run, "")
    assert [one.on for one in notices] == ["failed"]
    assert len(notices[0].text) <= 2_000
    assert "and 495 more" in notices[0].text


# --- each once ----------------------------------------------------------------------------------------------------------


def notice(version: int = 2, rule: int = 0, on: Any = "failed") -> Notice:
    return Notice(
        id=notice_id(SOURCE, version, on, rule),
        on=on,
        rule=rule,
        version=version,
        at=NOON,
        channel="email",
        to=TEAM,
        subject="s",
        text="t",
    )


def plan_of(*notices: Notice, until: int = 2) -> PlanNotices:
    return PlanNotices(SOURCE, Digest("d"), until, Carry(True, "failed"), notices)


def told_log(*commands: Any, now: datetime = NOON, state: NoticeLog = NoticeLog()) -> NoticeLog:
    for command in commands:
        state = then(state, command, now)
    return state


def then(state: NoticeLog, command: Any, now: datetime = NOON) -> NoticeLog:
    """The state after the command, which the second time gives nothing."""
    events = decide_notices(state, command, now=now)
    after = fold_notices([(now, event) for event in events], state)
    if not isinstance(command, RecordNotSent):
        assert decide_notices(after, command, now=now) == []
    return after


def test_what_was_planned_is_not_planned_again_whoever_looked_from_where() -> None:
    log = told_log(plan_of(notice(2)))
    (event,) = decide_notices(log, plan_of(notice(2), notice(5), until=6), now=NOON)
    assert isinstance(event, NoticesPlanned)
    assert [one.version for one in event.notices] == [5]
    assert decide_notices(log, plan_of(notice(1), until=1), now=NOON) == []


def test_a_look_that_found_nothing_is_not_worth_a_commit() -> None:
    assert decide_notices(told_log(plan_of(notice(2))), plan_of(until=900), now=NOON) == []


def test_a_planned_notice_is_handed_over_at_once_and_again_until_there_is_an_answer() -> None:
    command = plan_of(notice())
    events = decide_notices(NoticeLog(), command, now=NOON)
    log = fold_notices([(NOON, event) for event in events])
    deliver = DeliverNotice(STREAM, notice().id)
    assert effects_of_notices(log, events) == [deliver]
    assert pending_of_notices(log, NOON) == []
    assert pending_of_notices(log, NOON, everything=True) == [deliver]
    assert due_of_notices(log, NOON) == NOON + seconds(60)
    assert pending_of_notices(log, NOON + seconds(60)) == [deliver]
    sent = then(log, RecordSent(notice().id, "m-1"))
    assert pending_of_notices(sent, NOON + days(1), everything=True) == []
    assert due_of_notices(sent, NOON) is None


def test_a_notice_that_is_not_taken_is_tried_again_later_and_given_up_after_a_bounded_number_of_times() -> None:
    log, now = told_log(plan_of(notice())), NOON
    for attempt in range(1, TRIES_MAX):
        log = then(log, RecordNotSent(notice().id, attempt, "busy", never=False), now)
        assert due_of_notices(log, now) == now + retry_delay(attempt)
        assert pending_of_notices(log, now, everything=True) == [], "a start does not hurry it"
        now += retry_delay(attempt)
        assert pending_of_notices(log, now) == [DeliverNotice(STREAM, notice().id)]
    log = then(log, RecordNotSent(notice().id, TRIES_MAX, "busy", never=False), now)
    assert log.sending[0].status == "failed"
    assert due_of_notices(log, now) is None


def test_a_channel_that_will_never_take_it_is_not_asked_again() -> None:
    log = then(told_log(plan_of(notice())), RecordNotSent(notice().id, 1, "no such topic", never=True))
    assert (log.sending[0].status, log.sending[0].reason) == ("failed", "no such topic")


def test_the_failure_of_one_notice_has_nothing_to_do_with_another() -> None:
    log = told_log(plan_of(notice(rule=0), notice(rule=1)))
    log = then(log, RecordNotSent(notice(rule=0).id, 1, "busy", never=False))
    log = then(log, RecordSent(notice(rule=1).id, ""))
    assert [one.status for one in log.sending] == ["open", "sent"]


def test_an_answer_that_comes_twice_or_late_changes_nothing() -> None:
    log = told_log(plan_of(notice()), RecordSent(notice().id, "m-1"))
    assert decide_notices(log, RecordNotSent(notice().id, 1, "silence", never=False), now=NOON) == []
    log = told_log(plan_of(notice()))
    log = then(log, RecordNotSent(notice().id, 1, "busy", never=False))
    assert decide_notices(log, RecordNotSent(notice().id, 1, "busy", never=False), now=NOON) == []
    assert decide_notices(log, RecordSent("unheard-of", ""), now=NOON) == []


def test_reasons_of_channels_are_bounded_and_without_secrets() -> None:
    command = RecordNotSent(notice().id, 1, f"{AWS_KEY} " + "x" * 5000, never=True)
    log = then(told_log(plan_of(notice())), command)
    assert AWS_KEY not in log.sending[0].reason
    assert len(log.sending[0].reason) <= 500


def test_notices_that_are_over_are_not_kept_for_ever_and_open_ones_are() -> None:
    log = told_log(plan_of(notice(1), until=1))
    for version in range(2, OVER_MAX + 20):
        log = told_log(plan_of(notice(version), until=version), RecordSent(notice(version).id, ""), state=log)
    assert len(log.sending) == OVER_MAX + 1
    assert [one.notice.version for one in log.open] == [1]


@pytest.mark.parametrize(
    "impossible",
    [
        NoticeSent(id="unheard-of", attempt=1),
        NoticeSent(id=notice().id, attempt=2),
        NoticeFailed(id="unheard-of", attempt=1, reason="x"),
        NoticesPlanned(source=SOURCE, document=Digest("d"), until=2, notices=()),
        NoticesPlanned(source=StreamName("run#other@1"), document=Digest("d"), until=9, notices=()),
    ],
)
def test_a_history_that_cannot_have_happened_is_refused(impossible: Event) -> None:
    with pytest.raises(CorruptStream):
        fold_notices([(NOON, impossible)], told_log(plan_of(notice())))


@sampled(st.data())
@settings(max_examples=100)
def test_however_often_and_in_whatever_order_it_is_derived_each_notice_is_planned_exactly_once(
    data: st.DataObject,
) -> None:
    plan = document(
        job("load"),
        **rules(email("failed", "succeeded", "started"), email("recovered", "late")),
        late={"expected_minutes": 5},
    )
    story = given(requested(plan), minutes(6), Advance(), report("load", "failed"), reopen(plan, "load", request="r"))
    story = story.given(minutes(6), Advance(), report("load", "succeeded", 2))
    wanted = [one.id for one in _notices(story, plan.workflow, 0, len(story.history))]
    log, planned = NoticeLog(), list[str]()
    looks = data.draw(
        st.lists(st.tuples(st.integers(0, len(story.history)), st.integers(1, len(story.history))), max_size=12)
    )
    for after, until in [*looks, (0, len(story.history))]:
        # Nobody looks from further ahead than what is recorded; behind it, memories are of any age.
        after = min(after, log.until)
        carry = _carry(story, until)
        command = PlanNotices(SOURCE, plan.digest, until, carry, tuple(_notices(story, plan.workflow, after, until)))
        events = decide_notices(log, command, now=NOON)
        log = fold_notices([(NOON, event) for event in events], log)
        planned += [one.id for event in events if isinstance(event, NoticesPlanned) for one in event.notices]
    assert planned == wanted


def _carry(story: Story, until: int) -> Carry:
    carry = Carry()
    for version, (at, events) in enumerate(story.history[:until], 1):
        _, carry = occasions(version, at, events, carry)
    return carry


def _notices(story: Story, workflow: Any, after: int, until: int) -> Iterable[Notice]:
    for version, (at, events) in enumerate(story.history[:until], 1):
        if version > after:
            told, _ = occasions(version, at, events, _carry(story, version - 1))
            yield from notices_of(SOURCE, told, workflow, None, "")


def test_what_is_missed_is_told_of_the_workflow() -> None:
    plan = document(job("load"), schedule={"cron": "0 * * * *"}, **rules(email("missed")))
    story = given_workflow(register(plan), hours(5), Tick())
    (one,) = notices_of(workflow_stream(WORKFLOW), all_told(story), plan.workflow, None, "")
    assert one.subject == "[runfold] nightly missed a scheduled instant"
