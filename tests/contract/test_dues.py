"""What `Dues` owes: a row is never later than anybody asked for, and goes only from where it was seen."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.ids import RunId, StreamName, run_stream
from shared.ports import PAGE_MAX, DueRow, Dues
from tests.contract.records import NOON, STREAM, seconds

OTHER = run_stream(RunId("other@1"))


def test_a_row_that_was_written_is_found_at_its_time_and_not_before(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    assert dues.get(STREAM) == NOON
    assert dues.due(NOON - timedelta(microseconds=1)) == []
    assert dues.due(NOON) == [DueRow(STREAM, NOON)]
    assert dues.due(NOON + seconds(1)) == [DueRow(STREAM, NOON)]


def test_without_rows_nothing_is_due(dues: Dues) -> None:
    assert dues.get(STREAM) is None
    assert dues.next_at() is None
    assert dues.due(NOON) == []


def test_lowering_moves_a_row_earlier_and_never_later(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    dues.lower(STREAM, NOON + seconds(5))
    assert dues.get(STREAM) == NOON
    dues.lower(STREAM, NOON - seconds(5))
    assert dues.get(STREAM) == NOON - seconds(5)
    assert dues.due(NOON + seconds(60)) == [DueRow(STREAM, NOON - seconds(5))]


def test_raising_works_only_from_where_the_row_was_seen(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    assert not dues.raise_to(STREAM, seen=NOON - seconds(1), at=NOON + seconds(9))
    assert dues.get(STREAM) == NOON
    assert dues.raise_to(STREAM, seen=NOON, at=NOON + seconds(9))
    assert dues.due(NOON + seconds(9)) == [DueRow(STREAM, NOON + seconds(9))]
    assert dues.due(NOON) == []


def test_a_row_lowered_meanwhile_is_neither_raised_nor_removed(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    seen = dues.get(STREAM)
    assert seen is not None
    dues.lower(STREAM, NOON - seconds(1))
    assert not dues.raise_to(STREAM, seen=seen, at=NOON + seconds(60))
    assert not dues.remove(STREAM, seen=seen)
    assert dues.get(STREAM) == NOON - seconds(1)


def test_removing_works_only_from_where_the_row_was_seen_and_once(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    assert not dues.remove(STREAM, seen=NOON + seconds(1))
    assert dues.remove(STREAM, seen=NOON)
    assert not dues.remove(STREAM, seen=NOON)
    assert dues.get(STREAM) is None
    assert dues.next_at() is None
    assert not dues.raise_to(STREAM, seen=NOON, at=NOON + seconds(1))
    assert dues.get(STREAM) is None


def test_a_row_may_come_back_after_it_was_removed(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    dues.remove(STREAM, seen=NOON)
    dues.lower(STREAM, NOON + seconds(7))
    assert dues.due(NOON + seconds(7)) == [DueRow(STREAM, NOON + seconds(7))]


def test_the_earliest_row_comes_first_and_the_page_is_bounded(dues: Dues) -> None:
    rows = [DueRow(StreamName(f"run#w@{number}"), NOON + seconds(number)) for number in range(9)]
    for row in rows[::-1]:
        dues.lower(row.stream, row.at)
    assert dues.next_at() == NOON
    assert dues.due(NOON + seconds(100), limit=4) == rows[:4]
    assert dues.due(NOON + seconds(5)) == rows[:6]
    assert dues.due(NOON + seconds(100), limit=PAGE_MAX * 10) == rows


def test_microseconds_count(dues: Dues) -> None:
    at = NOON + timedelta(microseconds=123_457)
    dues.lower(STREAM, at)
    assert dues.next_at() == at
    assert not dues.remove(STREAM, seen=at + timedelta(microseconds=1))
    assert dues.remove(STREAM, seen=at)


def test_of_many_that_raise_the_same_row_exactly_one_does(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    start = threading.Barrier(4)
    raised: list[datetime] = []

    def sweep(number: int) -> None:
        start.wait()
        at = NOON + seconds(60 + number)
        if dues.raise_to(STREAM, seen=NOON, at=at):
            raised.append(at)

    _together(sweep)
    assert [dues.get(STREAM)] == raised


def test_of_many_that_lower_at_once_the_earliest_stays(dues: Dues) -> None:
    dues.lower(STREAM, NOON)
    start = threading.Barrier(4)

    def lower(number: int) -> None:
        start.wait()
        for step in range(3):
            dues.lower(STREAM, NOON - seconds(number + 10 * step))

    _together(lower)
    assert dues.due(NOON) == [DueRow(STREAM, NOON - seconds(23))]


_instants = st.integers(0, 3).map(lambda number: NOON + seconds(number))
_streams = st.sampled_from([STREAM, OTHER])


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("lower"), _streams, _instants, _instants),
            st.tuples(st.just("raise"), _streams, _instants, _instants),
            st.tuples(st.just("remove"), _streams, _instants, _instants),
        ),
        max_size=15,
    )
)
def test_any_sequence_leaves_what_a_plain_table_would(
    make_dues: Callable[[], Dues], steps: list[tuple[str, StreamName, datetime, datetime]]
) -> None:
    dues = make_dues()
    table: dict[StreamName, datetime] = {}
    for step, stream, seen, at in steps:
        is_there = table.get(stream) == seen
        match step:
            case "lower":
                dues.lower(stream, at)
                table[stream] = min(table.get(stream, at), at)
            case "raise":
                assert dues.raise_to(stream, seen=seen, at=max(seen, at)) == is_there
                table |= {stream: max(seen, at)} if is_there else {}
            case _:
                assert dues.remove(stream, seen=seen) == is_there
                if is_there:
                    del table[stream]
    expected = sorted((at, stream) for stream, at in table.items())
    assert [(row.at, row.stream) for row in dues.due(NOON + seconds(10))] == expected
    assert dues.next_at() == (expected[0][0] if expected else None)


def _together(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
