"""A snapshot saves reading and changes nothing: what was dumped and loaded is and goes on as the state itself."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from immutables import Map

from shared.codec import events_in
from shared.decide.commands import ReopenRun
from shared.events import (
    Event,
    RunAdmitted,
    RunHeld,
    RunReleased,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowUnregistered,
)
from shared.ids import Digest, JobName, RunId, WorkflowName
from shared.state.run import NotRequested, Run, RunState, fold
from shared.state.snapshot import dump, dump_workflow, load, load_workflow
from shared.state.workflow import WorkflowState, fold_workflow
from tests.rules.walks import DOCUMENT, NOON, Walk, begun, fail, job, plan_of, random_walk, request_of, submit, succeed

SEEDS = range(12)


def seen(state: RunState) -> dict[str, Any]:
    """Everything of a state that can be compared."""
    if isinstance(state, NotRequested):
        return {}
    shown = {field.name: getattr(state, field.name) for field in fields(Run) if field.name != "plan"}
    shown["jobs"] = dict(state.jobs)
    shown["live"] = dict(state.live)
    shown["digest"] = state.plan.digest
    return shown


@pytest.mark.parametrize("seed", SEEDS)
def test_at_every_version_a_state_comes_back_as_it_was(seed: int) -> None:
    walk = random_walk(seed)
    state: RunState = NotRequested()
    for at, events in walk.commits:
        state = fold(((at, event) for event in events), walk.plans, state)
        assert isinstance(state, Run)
        assert seen(load(dump(state), walk.plans)) == seen(state)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_a_snapshot_and_without_the_rest_of_the_history_folds_to_the_same(seed: int) -> None:
    walk = random_walk(seed)
    pairs = [(record.at, event) for record in walk.records() for event in events_in(record.body)]
    whole = fold(pairs, walk.plans)
    for cut in range(1, len(pairs), max(len(pairs) // 7, 1)):
        early = fold(pairs[:cut], walk.plans)
        assert isinstance(early, Run)
        assert seen(fold(pairs[cut:], walk.plans, load(dump(early), walk.plans))) == seen(whole)


def test_the_same_state_gives_the_same_bytes() -> None:
    walk = random_walk(3)
    assert dump(walk.run) == dump(load(dump(walk.run), walk.plans))


def test_a_snapshot_with_any_byte_changed_is_refused_fault_49() -> None:
    walk = random_walk(5)
    body = dump(walk.run)
    for position in range(0, len(body), 37):
        damaged = bytearray(body)
        damaged[position] ^= 1
        with pytest.raises(ValueError, match="damaged"):
            load(bytes(damaged), walk.plans)


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * 31, b"\x80" * 400])
def test_bytes_that_never_were_a_snapshot_are_refused_fault_49(body: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        load(body, begun(job("a")).plans)
    with pytest.raises(ValueError, match="damaged"):
        load_workflow(body)


def test_a_snapshot_of_one_kind_is_refused_as_the_other() -> None:
    walk = begun(job("a"))
    with pytest.raises(ValueError, match="validation error"):
        load_workflow(dump(walk.run))


def test_a_snapshot_whose_document_has_other_jobs_is_refused() -> None:
    walk = begun(job("a"), job("b"))
    other = plan_of(job("a"), job("c"))
    with pytest.raises(ValueError, match="jobs are not those"):
        load(dump(walk.run), lambda digest: other)


def test_the_document_asked_for_is_the_one_of_the_latest_round() -> None:
    walk = begun(job("a"))
    asked: list[Digest] = []

    def plans(digest: Digest) -> Any:
        asked.append(digest)
        return walk.plan

    load(dump(walk.run), plans)
    assert asked == [DOCUMENT]


def test_attempts_of_jobs_that_a_newer_document_dropped_come_back_too() -> None:
    newer = plan_of(job("a"), digest=Digest("e" * 64))
    walk = begun(job("a"), job("b"))
    plans = {DOCUMENT: walk.plan, newer.digest: newer}
    walk.plans = plans.__getitem__  # type: ignore[method-assign, assignment]
    walk.do(succeed("a"), fail("b"), ReopenRun((JobName("a"),), False, newer.digest, 2, (), "ada"))
    assert list(walk.run.removed) == ["b"]
    assert seen(load(dump(walk.run), plans.__getitem__)) == seen(walk.run)


def test_executions_that_are_not_the_ones_bound_come_back_too() -> None:
    assert any(state.strays for seed in SEEDS for state in random_walk(seed).run.jobs.values())


def test_a_run_of_ten_thousand_jobs_comes_back_whole() -> None:
    walk: Walk = begun(*(job(f"j{number}") for number in range(10_000)), parallelism=8)
    walk.do(*(submit(f"j{number}") for number in range(8)))
    again = load(dump(walk.run), walk.plans)
    assert seen(again) == seen(walk.run)


def test_a_workflow_comes_back_as_it_was_at_every_version() -> None:
    plan = plan_of(job("a"))
    name = WorkflowName("nightly")
    first = request_of(plan, "nightly@2026-03-01T13:00:00Z", scheduled_at=NOON + timedelta(hours=1))
    second = request_of(plan, "nightly@2", parameters={"region": "eu"})
    history: list[Event] = [
        WorkflowRegistered(workflow=name, document=DOCUMENT, version=1, by="ada"),
        WatermarkMoved(until=NOON, next_at=NOON + timedelta(hours=1)),
        RunAdmitted(run=first.run, request=first),
        RunHeld(run=second.run, request=second, reason="1 active at once"),
        WorkflowPaused(by="ada", reason="migration"),
        RunReleased(run=RunId(first.run), outcome="succeeded", scheduled_at=first.scheduled_at),
        RunAdmitted(run=second.run, request=second),
        WorkflowUnregistered(by="ada"),
    ]
    state: Any = None
    for number in range(1, len(history) + 1):
        state = fold_workflow((NOON + timedelta(minutes=minute), history[minute]) for minute in range(number))
        again = load_workflow(dump_workflow(state))
        assert {one.name: getattr(again, one.name) for one in fields(WorkflowState)} == {
            one.name: getattr(state, one.name) for one in fields(WorkflowState)
        }
        assert isinstance(again.holders, Map)
