"""Jobs that are a person's decision."""

from typing import Any, Literal

import pytest

from shared.decide.access import RANK, Grant, Principal, Resource, Role, role_on
from shared.decide.approvals import approvers, may_decide
from shared.decide.commands import Advance, CancelJob, CancelRun, DecideApproval, MarkJob
from shared.effects import due_of_run, pending_of_run
from shared.errors import NotAllowed
from shared.events import ApprovalAsked, ApprovalExpired, JobApproved, JobRejected
from shared.explain import why_job
from shared.ids import JobName
from shared.workflow.checks import ROLES
from shared.workflow.document import ApprovalJob
from tests.rules.sentences import (
    NOON,
    Fact,
    Says,
    Story,
    cancel_requested,
    document,
    fact,
    finished,
    given,
    hours,
    job,
    minutes,
    queued,
    reopen,
    reopened,
    report,
    requested,
    settled,
    submitted,
    succeeded,
)


def approval(name: str = "go", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "approval", **fields}


def asked(name: str = "go", **fields: Any) -> Fact:
    return fact(ApprovalAsked, job=name, **fields)


def decide(
    verdict: Literal["approved", "rejected"] = "approved",
    *,
    by: str = "anna",
    role: Role | None = "operator",
    reason: str = "",
    name: str = "go",
) -> DecideApproval:
    return DecideApproval(JobName(name), verdict, by, role, reason)


def waiting(*more: dict[str, Any], **fields: Any) -> Story:
    return given(requested(approval(**fields), job("load", after=["go"]), *more))


def test_a_decision_is_asked_for_when_the_jobs_before_it_have_ended() -> None:
    (
        given(requested(job("a"), approval(after=["a"], message="Load {{ jobs.a.outputs.rows }} rows?")))
        .when(report("a", "succeeded", handle="h1", outputs={"rows": 7}))
        .then(
            submitted("a"),
            succeeded("a", outputs={"rows": 7}),
            asked(message="Load 7 rows?"),
        )
    )


def test_who_may_says_yes_and_the_jobs_after_it_go_on() -> None:
    story = (
        waiting()
        .when(decide(reason="looks right"))
        .then(fact(JobApproved, job="go", by="anna", reason="looks right"), queued("load"))
    )
    assert story.job("go").outputs == {"approved_by": "anna", "at": "2026-03-02T12:00:00Z", "reason": "looks right"}
    assert story.run.asking == 0


def test_a_no_fails_the_job_and_what_depends_on_it() -> None:
    story = (
        waiting()
        .when(decide("rejected", reason="too few rows"))
        .then(
            fact(JobRejected, job="go", by="anna", reason="too few rows"),
            settled("load", "upstream_failed"),
            finished("failed"),
        )
    )
    assert story.statuses == {"go": "failed", "load": "upstream_failed"}


def test_a_decision_holds_no_place() -> None:
    story = given(requested(approval("one"), approval("two"), job("load"), parallelism=1))
    assert story.statuses == {"one": "approval", "two": "approval", "load": "queued"}
    assert (story.run.active, story.run.asking) == (1, 2)


def test_the_same_yes_from_another_person_changes_nothing() -> None:
    waiting().given(decide()).when(decide(by="bob")).then_nothing()


def test_who_was_too_late_with_another_opinion_is_told_so() -> None:
    waiting().given(decide("rejected", reason="no")).when(decide(by="bob")).then_rejected("ended already: failed")
    waiting().given(decide()).when(decide("rejected", by="bob")).then_rejected("ended already: succeeded")


@pytest.mark.parametrize(
    ("by", "name", "role", "may"),
    [
        ([], "anna", "operator", True),
        ([], "anna", "viewer", False),
        ([], "anna", None, False),
        (["anna"], "anna", "viewer", True),
        (["anna"], "bob", "admin", False),
        (["role:author"], "bob", "operator", False),
        (["role:author"], "bob", "author", True),
        (["role:author"], "bob", "admin", True),
        (["anna", "role:admin"], "anna", None, True),
        ([""], "", None, False),
    ],
)
def test_only_who_is_named_may_decide(by: list[str], name: str, role: Role | None, may: bool) -> None:
    job = ApprovalJob.model_construct(name="go", type="approval", by=tuple(by))
    assert may_decide(job, name, role) is may
    if by != [""]:
        story = waiting(by=by)
        if may:
            assert story.done(decide(by=name, role=role))[1]
        else:
            with pytest.raises(NotAllowed, match="to decide"):
                story.done(decide(by=name, role=role))


def test_nobody_who_is_not_named_approves_by_marking_the_job() -> None:
    marking = MarkJob(JobName("go"), "succeeded", "eve", "I am in a hurry")
    waiting(by=["anna"]).when(marking).then_rejected("is for anna to give")
    waiting(by=["anna"]).given(decide("rejected")).when(marking).then_rejected("is for anna to give")


def test_a_job_that_is_no_approval_or_not_up_yet_cannot_be_decided() -> None:
    waiting().when(decide(name="load")).then_rejected("is no approval")
    given(requested(job("a"), approval(after=["a"]))).when(decide()).then_rejected("does not wait for a decision yet")


@pytest.mark.parametrize(
    ("on_timeout", "outcome", "then"),
    [
        ("fail", "timed_out", [settled("load", "upstream_failed"), finished("failed")]),
        ("approve", "succeeded", [queued("load")]),
        ("skip", "skipped", [settled("load", "skipped"), finished("succeeded")]),
    ],
)
def test_a_deadline_that_passes_does_what_the_document_says(on_timeout: str, outcome: str, then: list[Fact]) -> None:
    story = waiting(timeouts={"run_minutes": 30}, on_timeout=on_timeout)
    assert due_of_run(story.run, NOON) == NOON + minutes(30)
    story.given(minutes(29)).when(Advance()).then_nothing()
    ended = story.given(minutes(30)).when(Advance()).then(fact(ApprovalExpired, job="go", outcome=outcome), *then)
    assert ended.run.asking == 0


def test_a_decision_after_the_deadline_is_too_late_though_nobody_has_looked_yet() -> None:
    story = waiting(timeouts={"run_minutes": 30}).given(minutes(30))
    story.when(decide()).then_rejected("ended at 2026-03-02 12:30:00")


def test_cancelling_the_run_or_the_job_ends_the_wait() -> None:
    waiting().when(CancelRun("ada")).then(
        cancel_requested(), settled("go", "cancelled"), settled("load", "cancelled"), finished("cancelled")
    )
    waiting().when(CancelJob(JobName("go"), "ada")).then(
        settled("go", "cancelled"), settled("load", "upstream_failed"), finished("failed")
    )


def test_a_rerun_asks_anew_and_the_yes_of_the_round_before_does_not_count() -> None:
    plan = document(approval(), job("load", after=["go"]))
    story = given(requested(plan), decide("rejected"))
    again = story.when(reopen(plan, failed=True)).then(reopened(plan, failed=True), asked(), again="has not finished")
    assert again.job("go").outputs is None
    again.when(decide()).then(fact(JobApproved, job="go", by="anna"), queued("load"))


def test_a_message_that_cannot_be_rendered_fails_the_job_at_once() -> None:
    given(requested(job("a"), approval(after=["a"], message="{{ jobs.a.outputs.rows }}"))).when(
        report("a", "succeeded", handle="h1")
    ).then(submitted("a"), succeeded("a"), settled("go", "failed", reason=Says("`message` cannot")), finished("failed"))


def test_why_names_who_decides_and_until_when() -> None:
    story = waiting(by=["anna", "role:author"], message="Ship it?", timeouts={"run_minutes": 60}, on_timeout="skip")
    (found,) = why_job(story.run, JobName("go"), NOON)
    assert found.code == "approval"
    assert "anna or anybody with the role author" in found.message
    assert "Ship it?" in found.message
    assert "it is skipped" in found.message
    assert found.clears_at == NOON + hours(1)
    assert "runfold approve nightly@1 go" in found.clears


def test_a_run_that_waits_for_a_person_is_looked_at_once_an_hour() -> None:
    story = waiting()
    assert due_of_run(story.run, NOON) == NOON + hours(1)
    assert pending_of_run(story.run, NOON + hours(1)) == []


def test_the_greatest_role_on_a_workflow_counts() -> None:
    somebody = Principal("bob", (Grant("viewer"), Grant("author", workflow="nightly"), Grant("admin", tag="other")))
    assert role_on(somebody, Resource("nightly")) == "author"
    assert role_on(somebody, Resource("weekly")) == "viewer"
    assert role_on(Principal("eve"), Resource("nightly")) is None


def test_who_may_decide_is_said_in_words() -> None:
    def said(*by: str) -> str:
        return approvers(ApprovalJob.model_construct(name="go", type="approval", by=by))

    assert said() == "anybody with the role operator"
    assert said("anna") == "anna"
    assert said("anna", "bob", "role:admin", "role:author") == "anna, bob or anybody with the role author"


def test_the_roles_of_a_document_are_those_of_the_api() -> None:
    assert set(ROLES) == set(RANK)
