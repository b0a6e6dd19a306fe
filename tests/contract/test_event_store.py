"""What an `EventStore` owes: commits dense, in order, unchanged, chained; one winner for each version."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import codec
from shared.errors import Conflict
from shared.events import AttemptFailed
from shared.ids import CommitId, JobName, RunId, StreamName, WorkflowName, run_stream, workflow_stream
from shared.ports import COMMIT_BYTES_MAX, PAGE_MAX, EventStore, Record
from tests.contract.records import STREAM, append_all, chain, commit_after, whole_stream


def test_what_was_appended_is_read_back_unchanged_and_its_chain_holds(store: EventStore) -> None:
    records = chain(5)
    append_all(store, records)
    assert store.read(STREAM) == records
    codec.check_chain(store.read(STREAM))


def test_a_stream_nobody_wrote_is_empty(store: EventStore) -> None:
    assert store.read(STREAM) == []
    assert store.streams("run") == []


def test_streams_do_not_see_each_other(store: EventStore) -> None:
    other = run_stream(RunId("nightly@2026-03-01T12:00:00Z2"))
    append_all(store, chain(3))
    append_all(store, chain(2, stream=other))
    assert [record.version for record in store.read(STREAM)] == [1, 2, 3]
    assert [record.version for record in store.read(other)] == [1, 2]


@pytest.mark.parametrize("page", [1, 2, 3, 7, 8])
def test_pages_follow_each_other_without_gap_or_repetition(store: EventStore, page: int) -> None:
    records = chain(7)
    append_all(store, records)
    assert whole_stream(store, page=page) == records
    assert store.read(STREAM, after=3, limit=2) == records[3:5]
    assert store.read(STREAM, after=7) == []


def test_a_page_larger_than_allowed_is_cut_to_the_bound(store: EventStore) -> None:
    append_all(store, chain(3))
    assert len(store.read(STREAM, limit=PAGE_MAX * 1_000)) == 3
    assert store.streams("run", limit=PAGE_MAX * 1_000) == [STREAM]
    with pytest.raises(AssertionError):
        store.read(STREAM, limit=0)


def test_putting_the_same_record_again_is_success_fault_43(store: EventStore) -> None:
    records = chain(3)
    append_all(store, records)
    for record in records:
        store.append(record)
    assert store.read(STREAM) == records


def test_a_twin_with_the_same_content_and_another_commit_id_conflicts_fault_42(store: EventStore) -> None:
    first = commit_after(None)
    store.append(first)
    with pytest.raises(Conflict):
        store.append(replace(first, commit_id=CommitId("twin")))
    assert store.read(STREAM) == [first]


def test_a_version_that_is_taken_conflicts_and_changes_nothing(store: EventStore) -> None:
    records = chain(3)
    append_all(store, records)
    with pytest.raises(Conflict):
        store.append(commit_after(records[0], commit_id="rival"))
    assert store.read(STREAM) == records


@pytest.mark.parametrize("length", [0, 1, 4])
def test_a_gap_conflicts_and_changes_nothing(make_store: Callable[[], EventStore], length: int) -> None:
    store = make_store()
    records = chain(length + 2)
    append_all(store, records[:length])
    with pytest.raises(Conflict):
        store.append(records[length + 1])
    assert store.read(STREAM) == records[:length]
    append_all(store, records[length:])
    assert store.read(STREAM) == records


def test_a_conflict_inside_a_batch_leaves_the_other_appends(store: EventStore) -> None:
    first = commit_after(None)
    store.append(first)
    other = run_stream(RunId("other@1"))
    with store.batch():
        append_all(store, chain(2, stream=other))
        with pytest.raises(Conflict):
            store.append(replace(first, commit_id=CommitId("rival")))
        store.append(commit_after(first))
    assert len(store.read(STREAM)) == 2
    assert len(store.read(other)) == 2


def test_what_a_batch_appended_is_read_inside_it(store: EventStore) -> None:
    with store.batch():
        records = chain(2)
        append_all(store, records)
        assert store.read(STREAM) == records


def test_a_commit_of_the_largest_size_with_every_script_is_kept(store: EventStore) -> None:
    """Fault 47."""
    failed = AttemptFailed(job=JobName("load"), attempt=1, failure="user", reason="")
    room = COMMIT_BYTES_MAX - len(codec.body_of([failed.model_copy(update={"reason": "xxx"})]))
    reason = "\x00\n" + "日本語🙂" * (room // 13 - 1)
    record = replace(commit_after(None), body=codec.body_of([failed.model_copy(update={"reason": reason})]))
    store.append(record)
    assert store.read(STREAM) == [record]


def test_of_threads_that_race_for_each_version_exactly_one_wins_fault_42(store: EventStore) -> None:
    versions = 5
    won: list[tuple[int, str]] = []
    start = threading.Barrier(4)

    def write(name: str) -> None:
        start.wait()
        seen: list[Record] = []
        while len(seen) < versions:
            record = commit_after(seen[-1] if seen else None, commit_id=f"{name}-{len(seen) + 1}")
            try:
                store.append(record)
            except Conflict:
                seen += store.read(STREAM, after=len(seen))
            else:
                won.append((record.version, record.commit_id))
                seen.append(record)

    threads = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(version for version, _ in won) == [1, 2, 3, 4, 5]
    assert sorted(won) == [(record.version, record.commit_id) for record in store.read(STREAM)]
    codec.check_chain(store.read(STREAM))


def test_streams_are_listed_by_kind_in_order_page_by_page(store: EventStore) -> None:
    runs = sorted(run_stream(RunId(f"nightly@{number}")) for number in range(12))
    for stream in (*runs, workflow_stream(WorkflowName("nightly")), StreamName("runner#1")):
        append_all(store, chain(2, stream=stream))
    listed: list[StreamName] = []
    while more := store.streams("run", after=listed[-1] if listed else "", limit=5):
        assert len(more) <= 5
        listed += more
    assert listed == runs
    assert store.streams("workflow") == ["workflow#nightly"]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(puts=st.lists(st.tuples(st.integers(1, 5), st.sampled_from("ab")), max_size=20))
def test_whatever_is_put_in_whatever_order_the_stream_is_dense_and_its_commits_stay(
    make_store: Callable[[], EventStore], puts: list[tuple[int, str]]
) -> None:
    store = make_store()
    expected: list[str] = []
    template = commit_after(None)
    for version, commit_id in puts:
        record = replace(template, version=version, commit_id=CommitId(commit_id))
        fits = version == len(expected) + 1
        is_own = version <= len(expected) and expected[version - 1] == commit_id
        if fits or is_own:
            store.append(record)
            expected += [commit_id] if fits else []
        else:
            with pytest.raises(Conflict):
                store.append(record)
    assert [(record.version, record.commit_id) for record in store.read(STREAM)] == list(enumerate(expected, start=1))
