"""Fan-out: a job that is done once for each item of a list."""

from typing import Any

import pytest

from shared import codec, events
from shared.decide.commands import Advance, CancelJob, CancelRun, MarkJob, RecordReport
from shared.decide.fan_out import ITEMS_BYTES_MAX
from shared.effects import AdvanceRun, StartAttempt, effects_of_run, pending_of_run
from shared.errors import InvalidInput
from shared.ids import JobName, item_name, item_of
from shared.state.run import FannedOut
from shared.usecases.documents import read_document
from shared.usecases.rendering import Renderer
from shared.views.rows import run_row
from shared.workflow.fan_out import ITEMS_MAX
from tests.rules.sentences import (
    NOON,
    Fact,
    Says,
    Story,
    cancelled,
    document,
    fact,
    finished,
    given,
    job,
    marked,
    minutes,
    queued,
    ready,
    reopen,
    reopened,
    report,
    requested,
    settled,
    stop_requested,
    submitted,
    succeeded,
)
from tests.rules.sentences import failed as failed_at


def expanded(name: str, count: int, **fields: Any) -> Fact:
    return fact(events.ItemsExpanded, job=name, count=count, **fields)


def items_settled(name: str, count: int, outcome: str = "cancelled") -> Fact:
    return fact(events.ItemsSettled, job=name, outcome=outcome, count=count)


def joined(name: str, outcome: str, reason: Any = "") -> Fact:
    return fact(events.ItemsJoined, job=name, outcome=outcome, **({"reason": reason} if reason else {}))


def each(items: Any, **fields: Any) -> dict[str, Any]:
    """A job `load` for each of these items."""
    return job("load", for_each={"items": items, **fields})


def done(name: str, **fields: Any) -> RecordReport:
    return report(name, "succeeded", handle=f"h-{name}", **fields)


def broken(name: str, attempt: int = 1, **fields: Any) -> RecordReport:
    return report(name, "failed", attempt, handle=f"h-{name}-{attempt}", **fields)


# --- expanding --------------------------------------------------------------------------------------------------------


def test_a_job_for_each_of_three_items_starts_three_attempts_and_ends_when_the_last_of_them_has() -> None:
    plan = document(each(["a", "b", "b"]), job("tell", after=["load"]))
    begun = (
        given()
        .when(requested(plan))
        .then(
            fact(events.RunRequested, run="nightly@1", workflow="nightly", document=plan.digest, document_version=1),
            expanded("load", 3),
            queued("load:0"),
            queued("load:1"),
            queued("load:2"),
        )
    )
    story = begun.given(done("load:2"), done("load:0"))
    assert story.statuses == {"load": "running", "tell": "waiting"}
    story.when(done("load:1")).then(
        submitted("load:1", handle="h-load:1"), succeeded("load:1"), joined("load", "succeeded"), queued("tell")
    )


def test_a_list_without_items_is_done_at_once_and_what_comes_after_it_begins() -> None:
    """fault 54"""
    story = given(requested(each([]), job("tell", after=["load"])))
    assert [event.type for event in story.events[1:]] == ["ItemsExpanded", "ItemsJoined", "AttemptQueued"]
    assert story.statuses["load"] == "succeeded"


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_range_of_any_size_expands_with_one_event_of_the_same_few_bytes(count: int) -> None:
    """fault 54"""
    story = given(requested(each({"range": count}), parallelism=1))
    assert [event.type for event in story.events[1:]] == ["ItemsExpanded", "AttemptQueued"]
    assert len(codec.body_of(story.events[1:])) < 200
    assert len(story.run.items) == 1
    assert story.run.job(JobName(f"load:{count - 1}")) is not None
    assert story.run.find(JobName(f"load:{count}")) is None


@pytest.mark.parametrize(
    ("given_value", "says"),
    [
        (ITEMS_MAX + 1, "100,001 items"),
        (-1, "a number from 0"),
        ("many", "is a text"),
        (True, "true or false"),
        (2.5, "the number 2.5"),
    ],
)
def test_a_number_of_items_that_cannot_be_fails_the_job_with_the_reason(given_value: Any, says: str) -> None:
    """fault 54"""
    story = _expanding({"range": "{{ params.much }}"}, {"much": given_value})
    assert says in story.job("load").phase.reason  # type: ignore[union-attr]
    assert story.run.outcome == "failed"


@pytest.mark.parametrize(
    ("given_value", "says"),
    [
        ({"a": 1}, "is a mapping"),
        ("a", "is a text"),
        (None, "is none"),
        ([0] * (ITEMS_MAX + 1), "100,001 items"),
        (["x" * 1000] * 65, f"at most {ITEMS_BYTES_MAX:,}"),
    ],
)
def test_what_is_no_list_or_too_much_of_one_fails_the_job_with_the_reason(given_value: Any, says: str) -> None:
    """fault 54"""
    from shared.decide.fan_out import expansion
    from shared.errors import Rejected
    from shared.workflow.fan_out import ForEach

    for for_each in (ForEach(parameter="much"), ForEach(items="{{ params.much }}")):
        with pytest.raises(Rejected) as refused:
            expansion(for_each, {"much": given_value}, {"params": {"much": given_value}})
        assert says in str(refused.value)


def _expanding(items: Any, parameters: dict[str, Any]) -> Story:
    return given(requested(each(items), request={"parameters": parameters}))


def test_an_expression_that_fails_fails_the_job() -> None:
    story = _expanding("{{ params.much.more }}", {"much": {}})
    assert "for_each" in story.job("load").phase.reason  # type: ignore[union-attr]


def test_a_list_of_a_parameter_is_pinned_in_the_history() -> None:
    plan = document(job("load", for_each={"parameter": "files"}, args=["{{ item }}", "{{ item_index }}"]))
    story = given(requested(plan, request={"parameters": {"files": ["x", {"y": 1}]}}))
    assert story.events[1].items == ["x", {"y": 1}]  # type: ignore[union-attr]
    render = Renderer()
    assert render(story.run, JobName("load:0"), 1).body["args"] == ["x", "0"]
    assert render(story.run, JobName("load:1"), 1).body["args"] == ['{"y":1}', "1"]


def test_a_list_that_an_earlier_job_left_is_taken_as_it_was_then() -> None:
    story = given(
        requested(job("list"), job("load", after=["list"], for_each={"items": "{{ jobs.list.outputs.files }}"})),
        report("list", "succeeded", handle="h", outputs={"files": ["a", "b"]}),
    )
    assert story.run.fans[JobName("load")].items == ("a", "b")
    assert story.run.active == 2


def test_two_large_lists_do_not_come_in_one_commit() -> None:
    """fault 47"""
    big = ["x" * 600] * 100
    plan = document(job("one", for_each={"parameter": "big"}), job("two", for_each={"parameter": "big"}), parallelism=1)
    story = given(requested(plan, request={"parameters": {"big": big}}))
    assert story.truncated
    story = story.to_its_end()
    assert {name: fan.count for name, fan in story.run.fans.items()} == {"one": 100, "two": 100}
    assert [event.type for event in story.events].count("ItemsExpanded") == 2


# --- doing ------------------------------------------------------------------------------------------------------------


def test_no_more_items_are_under_way_than_the_job_allows() -> None:
    story = given(requested(each({"range": 5}, max_parallel=2), job("other")))
    assert _under_way(story) == ["load:0", "load:1", "other"]
    story.when(done("load:1")).then(submitted("load:1", handle="h-load:1"), succeeded("load:1"), queued("load:2"))


def test_no_more_items_are_under_way_than_the_run_allows() -> None:
    assert _under_way(given(requested(each({"range": 5}), parallelism=3))) == ["load:0", "load:1", "load:2"]


def _under_way(story: Story) -> list[str]:
    return sorted(name for name in story.run.live if story.run.job(name).is_open)


def test_an_item_is_tried_again_by_itself() -> None:
    story = given(requested(job("load", retry=2, for_each={"items": [1, 2]}), parallelism=1), broken("load:0"))
    assert story.run.job(JobName("load:0")).status == "backoff"
    story = story.given(done("load:1"), minutes(1))
    story.when(Advance()).then(ready("load:0"), queued("load:0", 2))


def test_an_item_is_late_by_itself_and_not_because_others_went_first() -> None:
    plan = document(job("load", for_each={"items": [1, 2]}, timeouts={"queue_minutes": 5}), parallelism=1)
    story = given(requested(plan), minutes(10), report("load:0", "succeeded", handle="h"))
    assert story.run.job(JobName("load:1")).is_open
    story.when(Advance()).then_nothing()


def test_what_is_pending_tells_of_the_items_under_way_and_looks_at_no_other() -> None:
    story = given(requested(each({"range": 100_000}), parallelism=2))
    told = pending_of_run(story.run, NOON, everything=True)
    assert told == [StartAttempt(story.run.run, item_name(JobName("load"), index), 1) for index in (0, 1)]
    assert run_row(story.run, 1).jobs == {"running": 1}


# --- ending -----------------------------------------------------------------------------------------------------------


def test_one_item_that_fails_fails_the_job_and_no_other_begins() -> None:
    story = given(requested(each({"range": 100_000}), parallelism=2))
    story = story.when(broken("load:1")).then(
        submitted("load:1", handle="h-load:1-1"), failed_at("load:1"), items_settled("load", 99_998)
    )
    story = story.when(done("load:0")).then(
        submitted("load:0", handle="h-load:0"),
        succeeded("load:0"),
        joined("load", "failed", Says("1 failed, 99,998 cancelled")),
        finished("failed"),
    )
    assert story.run.job(JobName("load:77777")).status == "cancelled"
    assert len(story.run.items) == 2


def test_what_rests_when_the_job_has_failed_is_not_tried_again() -> None:
    plan = document(job("load", retry=2, for_each={"items": [1, 2]}))
    story = given(requested(plan), broken("load:0"), broken("load:1"), minutes(1), Advance())
    story = story.when(broken("load:0", 2)).then(submitted("load:0", 2, handle="h-load:0-2"), failed_at("load:0", 2))
    story = story.when(broken("load:1", 2)).then(
        submitted("load:1", 2, handle="h-load:1-2"),
        failed_at("load:1", 2),
        joined("load", "failed"),
        finished("failed"),
    )


@pytest.mark.parametrize("tolerate", [{"count": 2}, {"percent": 50}])
def test_as_many_items_may_fail_as_is_said(tolerate: dict[str, Any]) -> None:
    story = given(requested(each({"range": 5}, tolerate=tolerate)), broken("load:0"), broken("load:1"))
    story = story.given(done("load:2"), done("load:3"))
    assert story.given(done("load:4")).run.outcome == "succeeded"
    assert story.given(broken("load:4")).run.outcome == "failed"


def test_what_the_items_left_is_one_list_to_those_who_come_after() -> None:
    plan = document(
        each({"range": 3}, tolerate={"count": 1}),
        job("sum", after=["load"], args=["{{ jobs.load.outputs }}", "{{ jobs.load.outputs | length }}"]),
        job("if", after=["load"], when="jobs.load.outputs[2].rows == 7"),
    )
    story = given(
        requested(plan),
        done("load:2", outputs={"rows": 7}),
        broken("load:1"),
        done("load:0", outputs={"rows": 1}),
    )
    assert Renderer()(story.run, JobName("sum"), 1).body["args"] == ['[{"rows":1},null,{"rows":7}]', "3"]
    assert story.job("if").is_open


def test_an_item_leaves_no_more_than_its_share() -> None:
    """fault 55"""
    story = given(requested(each({"range": 100_000}), parallelism=1))
    story = story.given(done("load:0", outputs={"text": "x" * 50}))
    assert "at most 40 are kept" in story.run.job(JobName("load:0")).attempts[0].reason


# --- people -----------------------------------------------------------------------------------------------------------


def test_cancelling_the_run_ends_every_item() -> None:
    story = given(requested(each({"range": 100_000}), job("tell", after=["load"]), parallelism=1))
    story = story.when(CancelRun("ada")).then(
        fact(events.RunCancelRequested, by="ada"),
        items_settled("load", 99_999),
        stop_requested("load:0"),
        settled("tell", "cancelled"),
    )
    story.when(report("load:0", "missing")).then(
        cancelled("load:0"), joined("load", "cancelled"), finished("cancelled")
    )


def test_cancelling_many_items_is_cut_into_slices_and_comes_to_its_end() -> None:
    """fault 47"""
    plan = document(each({"range": 2000}), parallelism=700)
    story = given(requested(plan)).to_its_end().given(CancelRun("ada")).to_its_end()
    assert story.run.stopping == 700
    assert not story.run.cancelling
    cancelled_job = given(requested(plan)).to_its_end().given(CancelJob(JobName("load"), "ada"))
    assert AdvanceRun(cancelled_job.run.run) in pending_of_run(cancelled_job.run, NOON)
    cancelled_job = cancelled_job.to_its_end()
    assert cancelled_job.run.stopping == 700
    for index in range(700):
        cancelled_job = cancelled_job.given(report(f"load:{index}", "missing"))
    assert cancelled_job.run.outcome == "failed"
    assert cancelled_job.statuses == {"load": "cancelled"}


def test_cancelling_the_job_ends_its_items_and_no_other_job() -> None:
    story = given(requested(each({"range": 4}), job("other"), parallelism=2))
    story = story.when(CancelJob(JobName("load"), "ada", "enough")).then(
        fact(events.ItemsCancelRequested, job="load", by="ada"),
        items_settled("load", 2),
        stop_requested("load:0"),
        stop_requested("load:1"),
    )
    story = story.given(report("load:0", "missing"))
    story.when(report("load:1", "missing")).then(cancelled("load:1"), joined("load", "cancelled"))


def test_one_item_is_cancelled_before_it_begins() -> None:
    story = given(requested(each({"range": 3}, tolerate={"count": 1}), parallelism=1))
    story = story.when(CancelJob(JobName("load:1"), "ada")).then(settled("load:1", "cancelled"))
    story.when(done("load:0")).then(submitted("load:0", handle="h-load:0"), succeeded("load:0"), queued("load:2"))


def test_an_item_is_marked_until_its_job_has_ended() -> None:
    story = given(requested(each({"range": 2}), parallelism=1), minutes(1))
    story = story.when(MarkJob(JobName("load:1"), "succeeded", "ada", "by hand")).then(marked("load:1", "succeeded"))
    story = story.given(broken("load:0"))
    assert story.run.outcome == "failed"
    mark = MarkJob(JobName("load:0"), "succeeded", "ada", "by hand")
    story.when(mark).then_rejected("mark load itself")
    after = story.given(MarkJob(JobName("load"), "succeeded", "ada", "by hand"))
    assert after.run.outcome == "succeeded"


def test_a_job_under_way_for_many_items_is_not_marked() -> None:
    given(requested(each([1]))).when(MarkJob(JobName("load"), "succeeded", "ada", "so")).then_rejected(
        "cancel it first"
    )


# --- again ------------------------------------------------------------------------------------------------------------


def _one_of_three_failed() -> tuple[Any, Story]:
    plan = document(each({"range": 3}, tolerate={"count": 0}), job("tell", after=["load"]), parallelism=3)
    story = given(requested(plan), done("load:0", outputs={"n": 0}), broken("load:1"), done("load:2"))
    assert story.run.outcome == "failed"
    return plan, story


def test_a_rerun_from_failed_does_the_failed_items_only() -> None:
    plan, story = _one_of_three_failed()
    story = story.when(reopen(plan, failed=True, request="once")).then(
        reopened(plan, failed=True, request="once"), queued("load:1", 2)
    )
    assert story.statuses == {"load": "running", "tell": "waiting"}
    assert story.run.job(JobName("load:0")).outputs == {"n": 0}
    story = story.given(report("load:1", "succeeded", 2, handle="x"))
    assert story.statuses["load"] == "succeeded"
    assert [one.attempt for one in story.run.job(JobName("load:1")).attempts] == [1, 2]


def test_a_rerun_of_an_item_does_that_item_only() -> None:
    plan, story = _one_of_three_failed()
    story.when(reopen(plan, "load:2", request="once")).then(
        reopened(plan, "load:2", request="once"), queued("load:2", 2)
    )
    story.when(reopen(plan, "load:3", request="once")).then_rejected("no job load:3")


def test_a_rerun_of_the_whole_job_expands_anew_and_numbers_attempts_on() -> None:
    plan, story = _one_of_three_failed()
    story.when(reopen(plan, "load", request="once")).then(
        reopened(plan, "load", request="once"),
        expanded("load", 3),
        queued("load:0", 2),
        queued("load:1", 2),
        queued("load:2", 2),
    )


def test_a_rerun_with_another_list_expands_anew() -> None:
    _, story = _one_of_three_failed()
    other = document(each({"range": 4}), job("tell", after=["load"]), parallelism=3)
    story.when(reopen(other, failed=True, request="once")).then(
        reopened(other, failed=True, request="once"),
        expanded("load", 4),
        queued("load:0", 2),
        queued("load:1", 2),
        queued("load:2", 2),
    )


def test_items_that_never_began_are_done_by_a_rerun_from_failed() -> None:
    plan = document(each({"range": 100_000}), parallelism=2)
    story = given(requested(plan), broken("load:0"), done("load:1"))
    assert story.run.outcome == "failed"
    story = story.when(reopen(plan, failed=True, request="once")).then(
        reopened(plan, failed=True, request="once"), queued("load:0", 2), queued("load:2")
    )
    assert story.run.fans[JobName("load")].left == 99_999


# --- the document -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("for_each", "place", "says"),
    [
        ({}, "jobs[1].for_each", "for each of what"),
        ({"items": [1], "parameter": "files"}, "jobs[1].for_each", "both"),
        ({"parameter": "file"}, "jobs[1].for_each.parameter", "no parameter `file`"),
        ({"items": {"range": -1}}, "jobs[1].for_each.items.range", "from 0 to 100,000"),
        ({"items": {"range": 100_001}}, "jobs[1].for_each.items.range", "100,001"),
        ({"items": [0] * 100_001}, "jobs[1].for_each.items", "100,001 items"),
        ({"items": {"from": 1}}, "jobs[1].for_each.items", "neither a list"),
        ({"items": 3}, "jobs[1].for_each.items", "neither a list"),
        ({"items": "files"}, "jobs[1].for_each.items", "no expression"),
        ({"items": "{{ jobs.lost.outputs.files }}"}, "jobs[1].for_each.items", "jobs.lost"),
        ({"items": [1], "tolerate": {}}, "jobs[1].for_each.tolerate", "either"),
        ({"items": [1], "tolerate": {"count": 1, "percent": 1}}, "jobs[1].for_each.tolerate", "either"),
        ({"items": [1], "max_parallel": 0}, "jobs[1].for_each.max_parallel", "1"),
    ],
)
def test_a_bad_for_each_is_told_with_its_place(for_each: Any, place: str, says: str) -> None:
    import json

    plain = {
        "name": "nightly",
        "parameters": {"type": "object", "properties": {"files": {"type": "array"}}},
        "jobs": [
            {"name": "list", "type": "ssm", "host": "h", "commands": ["true"]},
            {"name": "load", "type": "ssm", "host": "h", "commands": ["true"], "after": ["list"], "for_each": for_each},
        ],
    }
    with pytest.raises(InvalidInput) as refused:
        read_document(json.dumps(plain).encode(), name="nightly.json")
    assert [(one.path, says in one.message) for one in refused.value.problems] == [(place, True)]


def test_the_name_of_an_item_is_one_text_and_no_other() -> None:
    assert item_of("load:17") == ("load", 17)
    assert item_name(JobName("load"), 17) == "load:17"
    for wrong in ("load", "load:", "load:-1", "load:01", "load:1000000", ":1", "load:1:2", "load:¹"):
        assert item_of(wrong) is None


def test_effects_start_the_items_that_were_queued() -> None:
    story = given(requested(each([1, 2])))
    assert effects_of_run(story.run, story.events) == [
        StartAttempt(story.run.run, JobName("load:0"), 1),
        StartAttempt(story.run.run, JobName("load:1"), 1),
    ]
    assert isinstance(story.job("load").phase, FannedOut)
