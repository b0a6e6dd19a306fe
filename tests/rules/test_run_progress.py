"""How a run goes forward by itself: request, readiness, `when`, places, slices, the end."""

from typing import Any

import pytest

from shared.decide.commands import Advance, CancelJob, CancelRun, RequestRun
from shared.decide.run import PAYLOAD_BYTES_MAX, SLICE
from shared.effects import AdvanceRun, StartAttempt, TellWorkflow, due_of_run, effects_of_run, pending_of_run
from shared.errors import NotFound
from shared.events import AttemptQueued
from shared.ids import JobName
from shared.ports import COMMIT_BYTES_MAX
from tests.rules.sentences import (
    NOON,
    RUN,
    Fact,
    Says,
    Story,
    cancel_requested,
    cancelled,
    document,
    fact,
    failed,
    finished,
    given,
    hours,
    job,
    minutes,
    opened,
    queued,
    ready,
    report,
    request_of,
    requested,
    seconds,
    settled,
    submitted,
    succeeded,
)


def test_a_run_that_is_requested_queues_the_jobs_that_wait_for_nothing() -> None:
    command = requested(job("extract"), job("load", after=["extract"]), job("check"))
    given().when(command).then(fact_requested(command), queued("extract"), queued("check"))


def fact_requested(command: RequestRun) -> Fact:
    return fact(
        type(command.request), run=RUN, workflow="nightly", document=command.request.document, document_version=1
    )


def test_asking_for_a_run_again_starts_nothing_even_with_other_parameters() -> None:
    story = given(requested(job("load")))
    other = request_of(document(job("load")), parameters={"region": "us"})
    story.when(RequestRun(other)).then_nothing()


def test_parameters_too_large_for_a_commit_are_refused_with_what_to_do() -> None:
    """Fault 47."""
    command = requested(job("load"), request={"parameters": {"blob": "x" * PAYLOAD_BYTES_MAX}})
    given().when(command).then_rejected("put large values into a file")


def test_nothing_can_be_asked_of_a_run_that_nobody_requested() -> None:
    with pytest.raises(NotFound):
        given().done(Advance())


def test_nothing_starts_before_start_after() -> None:
    story = given(requested(job("load"), request={"start_after": NOON + hours(3)}))
    assert story.statuses == {"load": "waiting"}
    assert story.run.status == "waiting"
    assert due_of_run(story.run, story.now) == NOON + hours(3), "and nobody looks at it in vain before that"
    story.given(hours(2)).when(Advance()).then_nothing()
    story.given(hours(3)).when(Advance()).then(opened(), queued("load"))


def test_a_run_cancelled_before_it_could_start_ends_at_once() -> None:
    story = given(requested(job("load"), request={"start_after": NOON + hours(3)}))
    story.when(CancelRun("ada")).then(cancel_requested(), settled("load", "cancelled"), finished("cancelled"))


def test_a_run_whose_jobs_were_all_cancelled_does_not_wait_for_its_start() -> None:
    story = given(requested(job("load"), request={"start_after": NOON + hours(3)}))
    story.when(CancelJob(JobName("load"), "ada")).then(settled("load", "cancelled"), finished("failed"), again="")


def test_a_dependant_starts_in_the_same_breath_as_the_last_success_before_it() -> None:
    story = given(requested(job("a"), job("b"), job("c", after=["a", "b"])), report("a", "succeeded"))
    story.when(report("b", "succeeded")).then(succeeded("b"), queued("c"))


def test_a_job_that_names_the_same_job_twice_waits_for_it_once() -> None:
    story = given(requested(job("a"), job("b", after=["a", "a"])))
    story.when(report("a", "succeeded")).then(succeeded("a"), queued("b"))


def test_the_run_succeeds_with_its_last_job() -> None:
    given(requested()).when(report("load", "succeeded", exit_code=0)).then(succeeded("load"), finished("succeeded"))


def test_one_failed_job_fails_the_run_and_what_depends_on_it() -> None:
    story = given(requested(job("a"), job("b", after=["a"]), job("c", after=["b"])))
    story.when(report("a", "failed", exit_code=3)).then(
        failed("a", exit_code=3),
        settled("b", "upstream_failed", reason="a: failed"),
        settled("c", "upstream_failed", reason="b: upstream_failed"),
        finished("failed"),
    )


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "first", "second", "becomes"),
    [
        ("all_succeeded", "succeeded", "succeeded", "queued"),
        ("all_succeeded", "succeeded", "failed", "upstream_failed"),
        ("all_succeeded", "succeeded", "skipped", "skipped"),
        ("all_succeeded", "failed", "skipped", "upstream_failed"),
        ("all_done", "failed", "skipped", "queued"),
        ("any_succeeded", "succeeded", "failed", "queued"),
        ("any_succeeded", "failed", "failed", "upstream_failed"),
        ("any_succeeded", "skipped", "skipped", "skipped"),
        ("any_failed", "succeeded", "failed", "queued"),
        ("any_failed", "succeeded", "succeeded", "skipped"),
        ("any_failed", "skipped", "succeeded", "skipped"),
        ("outcomes.a == 'failed'", "failed", "succeeded", "queued"),
        ("outcomes.a == 'failed'", "succeeded", "succeeded", "skipped"),
        ("outcomes.a in ['succeeded', 'skipped'] and outcomes.b == 'succeeded'", "skipped", "succeeded", "queued"),
        ("outcomes.nobody == 'failed'", "succeeded", "succeeded", "failed"),
        ("1 / 0", "succeeded", "succeeded", "failed"),
    ],
)
def test_when_decides_from_the_outcomes_before(rule: str, first: str, second: str, becomes: str) -> None:
    skipper: dict[str, Any] = {"when": "any_failed", "after": ["gate"]}
    jobs = [job("gate")]
    jobs += [job(name, **(skipper if how == "skipped" else {})) for name, how in (("a", first), ("b", second))]
    story = given(requested(*jobs, job("then", after=["a", "b"], when=rule)))
    for name, how in (("gate", "succeeded"), ("a", first), ("b", second)):
        if how != "skipped":
            story = story.given(report(name, how))
    assert story.statuses["then"] == becomes


def test_a_condition_that_cannot_be_evaluated_fails_its_job_and_says_why() -> None:
    story = given(requested(job("a"), job("b", after=["a"], when="jobs.a.outputs.rows > 5")))
    story.when(report("a", "succeeded")).then(
        succeeded("a"), settled("b", "failed", reason=Says("cannot be evaluated")), finished("failed")
    )


def test_a_condition_sees_outputs_and_parameters() -> None:
    rule = "jobs.a.outputs.rows > params.least"
    story = given(requested(job("a"), job("b", after=["a"], when=rule), request={"parameters": {"least": 5}}))
    story.when(report("a", "succeeded", outputs={"rows": 6})).then(succeeded("a", outputs={"rows": 6}), queued("b"))


def test_a_job_without_upstream_obeys_its_condition_too() -> None:
    command = requested(job("full", when="params.full"), request={"parameters": {"full": False}})
    assert given(command).statuses == {"full": "skipped"}
    assert given(command).run.status == "succeeded"


# --- places -----------------------------------------------------------------------------------------------------------


def test_no_more_attempts_are_under_way_than_the_document_allows() -> None:
    story = given(requested(job("a"), job("b"), job("c"), parallelism=2))
    assert story.statuses == {"a": "queued", "b": "queued", "c": "ready"}
    story.when(report("b", "succeeded")).then(succeeded("b"), queued("c"))


def test_of_ready_jobs_the_one_with_the_higher_priority_goes_first_then_the_documents_order() -> None:
    jobs = [job("a"), job("low", priority=-1), job("same"), job("high", priority=5), job("same2")]
    story = given(requested(*jobs, parallelism=1))
    order = ["high"]
    for _ in range(4):
        story, decided = story.done(report(order[-1], "succeeded"))
        order += [event.job for event in decided if isinstance(event, AttemptQueued)]
    assert order == ["high", "a", "same", "same2", "low"]


def test_a_job_in_backoff_gives_its_place_away_and_queues_up_again() -> None:
    story = given(requested(job("a", retry=2), job("b"), parallelism=1))
    story = story.when(report("a", "failed")).then(failed("a", retry_at=NOON + minutes(1)), queued("b"))
    story = story.given(minutes(1)).when(Advance()).then(ready("a"))
    story.when(report("b", "succeeded")).then(succeeded("b"), queued("a", 2))


# --- slices -----------------------------------------------------------------------------------------------------------

LONG = "x" * 58


def _sliced(story: Story, command: object) -> tuple[Story, int]:
    """The story after a large decision, every commit of which `done` has checked to fit; and the number of commits."""
    commits = len(story.history)
    story = story.done(command)[0].to_its_end()  # type: ignore[arg-type]
    return story, len(story.history) - commits


@pytest.mark.parametrize("parallelism", [16, 10_000])
def test_ten_thousand_jobs_become_ready_in_commits_that_fit(parallelism: int) -> None:
    """Fault 47."""
    jobs = [job("first"), *(job(f"{LONG}-{n:05}", after=["first"]) for n in range(9_999))]
    outputs = {"blob": "x" * 65_000}
    story = given(requested(*jobs, parallelism=parallelism))
    story, commits = _sliced(story, report("first", "succeeded", outputs=outputs))
    assert 30 <= commits <= 60
    assert story.run.active == min(parallelism, 9_999)
    assert not pending_of_run(story.run, story.now), "and nothing is left over for the sweep"


def test_ten_thousand_jobs_are_cancelled_in_commits_that_fit() -> None:
    jobs = [job(f"{LONG}-{n:05}") for n in range(10_000)]
    story = given(requested(*jobs, parallelism=5_000)).to_its_end()
    assert story.run.active == 5_000
    story, commits = _sliced(story, CancelRun("a" * 1_000, "b" * 5_000))
    assert commits < 60
    assert set(story.statuses.values()) == {"queued", "cancelled"}
    assert not story.run.cancelling
    assert story.run.stopping == 5_000


def test_ten_thousand_jobs_are_skipped_in_commits_that_fit_whatever_their_condition_says() -> None:
    rule = "outcomes.first == 'failed' and '" + "ü" * 4_000 + "' != ''"
    jobs = [job("first"), *(job(f"j{n}", after=["first"], when=rule) for n in range(2_000))]
    story, commits = _sliced(given(requested(*jobs)), report("first", "succeeded"))
    assert commits >= 2_000 // SLICE
    assert story.run.status == "succeeded"


def test_ten_thousand_retries_that_are_due_at_once_fit_too() -> None:
    jobs = [job(f"{LONG}-{n:05}", retry={"attempts": 2}) for n in range(2_000)]
    story = given(requested(*jobs, parallelism=2_000)).to_its_end()
    for one in jobs:
        story = Story(story.done(report(one["name"], "failed"))[0].state, story.now)
    story, commits = _sliced(story.given(minutes(2)), Advance())
    assert commits >= 2_000 * len(LONG) // COMMIT_BYTES_MAX
    assert set(story.statuses.values()) == {"queued"}


def test_a_cut_decision_is_gone_on_with_even_if_nobody_is_told() -> None:
    jobs = [job("first"), *(job(f"j{n}", after=["first"]) for n in range(1_000))]
    story = given(requested(*jobs, parallelism=1_000)).done(report("first", "succeeded"))[0]
    assert story.truncated
    for _ in range(10):
        if AdvanceRun(RUN) not in pending_of_run(story.run, story.now):
            break
        story = story.done(Advance())[0]
    assert story.run.active == 1_000


def test_a_cut_cancellation_is_gone_on_with_even_if_nobody_is_told() -> None:
    story = (
        given(requested(*(job(f"j{n}") for n in range(1_000)), parallelism=1)).to_its_end().done(CancelRun("ada"))[0]
    )
    assert story.truncated
    assert story.run.cancelling
    assert AdvanceRun(RUN) in pending_of_run(story.run, story.now)
    story = story.to_its_end()
    assert story.run.unfinished == 1
    assert AdvanceRun(RUN) not in pending_of_run(story.run, story.now), "all have heard of it"


def test_a_cancelled_run_does_not_look_at_every_job_again_for_each_that_ends() -> None:
    story = given(requested(*(job(f"j{n}") for n in range(400)), parallelism=400)).to_its_end()
    story = story.done(CancelRun("ada"))[0].to_its_end()
    for n in range(399):
        story = Story(story.done(report(f"j{n}", "cancelled"))[0].state, story.now)
    story.when(report("j399", "cancelled")).then(cancelled("j399"), finished("cancelled"))


# --- effects ----------------------------------------------------------------------------------------------------------


def test_what_is_queued_is_handed_over_and_again_if_nothing_comes_of_it() -> None:
    story = given(requested())
    start = StartAttempt(RUN, JobName("load"), 1)
    assert effects_of_run(story.run, story.events) == [start]
    assert pending_of_run(story.run, story.now) == []
    assert pending_of_run(story.run, story.now, everything=True) == [start]
    assert pending_of_run(story.run, story.now + seconds(60)) == [start]


def test_the_end_of_an_admitted_run_is_told_to_its_workflow_until_it_is_heard() -> None:
    story = given(requested(request={"admitted": True})).given(report("load", "succeeded"))
    tell = TellWorkflow(request_of(document()).workflow, RUN, "succeeded")
    assert tell.outcome == "succeeded"
    assert [type(one) for one in effects_of_run(story.run, story.events)][-1] is TellWorkflow
    assert [type(one) for one in pending_of_run(story.run, story.now)] == [TellWorkflow]


def test_a_run_that_waits_for_a_retry_only_is_looked_at_when_it_is_due() -> None:
    story = given(requested(job("load", retry={"attempts": 2, "delay_seconds": 3_000}))).given(report("load", "failed"))
    assert due_of_run(story.run, story.now) == NOON + seconds(3_000)


def test_the_outcome_of_a_run_whose_cancellation_came_too_late_is_what_its_jobs_say() -> None:
    story = given(requested(), CancelRun("ada"))
    story.when(report("load", "succeeded", handle="h1")).then(
        submitted("load"), succeeded("load"), finished("succeeded")
    )
    story.when(report("load", "cancelled")).then(cancelled("load"), finished("cancelled"))
