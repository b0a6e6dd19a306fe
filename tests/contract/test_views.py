"""What `Views` owes: the newest version of each row, in lists whose pages hold still while rows arrive."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.ids import BackfillId, RunId, WorkflowName
from shared.ports import PAGE_MAX, BackfillRow, RunFilter, RunPage, RunRow, RunSort, Views, WorkflowRow
from tests.contract.records import NOON, seconds

RUN = RunRow(
    run=RunId("nightly@2026-03-01T12:00:00Z"),
    workflow=WorkflowName("nightly"),
    version=3,
    status="running",
    owner="data-eng",
    tags=("sales", "größe"),
    trigger="schedule",
    requested_at=NOON + timedelta(microseconds=1),
    scheduled_at=NOON,
    started_at=NOON + seconds(1),
    finished_at=None,
    jobs={"running": 2, "waiting": 1},
    attention=("doubt",),
)
WORKFLOW = WorkflowRow(
    workflow=WorkflowName("nightly"),
    stream_version=4,
    live_version=2,
    owner="",
    tags=("sales",),
    paused=False,
    next_at=NOON,
    schedule="0 2 * * * Europe/Berlin",
    active_runs=("nightly@1",),
    held_runs=("nightly@2", "nightly@3"),
)


BACKFILL = BackfillRow(
    backfill=BackfillId("nightly@b1"),
    workflow=WorkflowName("nightly"),
    version=3,
    status="running",
    owner="data-eng",
    tags=("sales", "größe"),
    which="missing",
    order="newest",
    range_from_at=NOON - timedelta(days=31),
    range_until_at=NOON,
    requested_at=NOON + timedelta(microseconds=1),
    requested_by="ada",
    finished_at=None,
    count=31,
    max_active=4,
    active=2,
    succeeded=5,
    failed=1,
    cancelled=1,
    skipped=2,
)
SORTS: tuple[RunSort, ...] = ("newest", "oldest")
MakeViews = Callable[..., Views]


def a_run(number: int, **changes: Any) -> RunRow:
    return replace(RUN, run=RunId(f"nightly@{number:03}"), requested_at=NOON + seconds(number), **changes)


def all_pages(
    views: Views, where: RunFilter = RunFilter(), *, sort: RunSort = "newest", limit: int = 50
) -> list[RunRow]:
    rows, cursor, _ = views.runs(where, sort=sort, limit=limit)
    seen: set[str] = set()
    while cursor:
        assert cursor not in seen, "the pages go round in a circle"
        seen.add(cursor)
        more, cursor, _ = views.runs(where, sort=sort, cursor=cursor, limit=limit)
        assert len(more) <= limit
        rows += more
    return rows


def names(rows: list[RunRow]) -> list[int]:
    return [int(row.run.partition("@")[2]) for row in rows]


def test_a_run_is_given_back_as_it_was_put(views: Views) -> None:
    views.put_run(RUN)
    assert views.get_run(RUN.run) == RUN
    assert views.runs() == RunPage([RUN], "")


def test_a_run_that_has_only_been_asked_for_has_no_other_times(views: Views) -> None:
    row = replace(RUN, scheduled_at=None, started_at=None, owner="", tags=(), jobs={}, attention=())
    views.put_run(row)
    assert views.get_run(RUN.run) == row


def test_what_nobody_put_is_not_there(views: Views) -> None:
    assert views.get_run(RUN.run) is None
    assert views.get_workflow(WORKFLOW.workflow) is None
    assert views.runs() == RunPage([], "")
    assert views.workflows() == ([], "")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_put_of_a_version_not_greater_changes_nothing(views: Views, version: int) -> None:
    views.put_run(RUN)
    views.put_run(replace(RUN, version=version, status="failed", owner="somebody"))
    assert views.get_run(RUN.run) == RUN
    assert views.runs(RunFilter(status="failed")) == RunPage([], "")
    assert views.runs(RunFilter(owner="somebody")) == RunPage([], "")


def test_a_greater_version_moves_the_run_between_lists(views: Views) -> None:
    views.put_run(RUN)
    ended = replace(RUN, version=9, status="succeeded", finished_at=NOON + seconds(60))
    views.put_run(ended)
    assert views.runs(RunFilter(status="running")) == RunPage([], "")
    assert views.runs(RunFilter(status="succeeded")) == RunPage([ended], "")
    assert views.runs(RunFilter(workflow="nightly")) == RunPage([ended], "")


def test_the_newest_request_comes_first_and_equal_times_have_an_order(views: Views) -> None:
    for number in (2, 0, 3, 1):
        views.put_run(a_run(number))
    for number in (4, 5):
        views.put_run(replace(a_run(number), requested_at=NOON + seconds(3)))
    assert names(all_pages(views)) == [5, 4, 3, 2, 1, 0]
    assert names(all_pages(views, limit=1)) == [5, 4, 3, 2, 1, 0]
    assert names(all_pages(views, sort="oldest")) == [0, 1, 2, 3, 4, 5]
    assert names(all_pages(views, sort="oldest", limit=1)) == [0, 1, 2, 3, 4, 5]


def test_the_cursor_is_empty_exactly_when_nothing_follows(views: Views) -> None:
    for number in range(4):
        views.put_run(a_run(number))
    rows, cursor, _ = views.runs(limit=2)
    assert names(rows) == [3, 2]
    assert cursor
    rows, cursor, _ = views.runs(cursor=cursor, limit=2)
    assert names(rows) == [1, 0]
    assert not cursor


def test_a_page_larger_than_allowed_is_cut_to_the_bound(views: Views) -> None:
    views.put_run(RUN)
    views.put_workflow(WORKFLOW)
    assert views.runs(limit=PAGE_MAX * 1_000) == RunPage([RUN], "")
    assert views.workflows(limit=PAGE_MAX * 1_000) == ([WORKFLOW], "")


def test_a_cursor_holds_still_while_runs_arrive_change_and_go(views: Views) -> None:
    for number in range(6):
        views.put_run(a_run(number))
    rows, cursor, _ = views.runs(limit=2)
    assert names(rows) == [5, 4]
    views.put_run(a_run(9))
    views.put_run(replace(a_run(2), version=8, status="succeeded"))
    views.remove_run(a_run(4).run)
    views.remove_run(a_run(3).run)
    rows, cursor, _ = views.runs(cursor=cursor, limit=2)
    assert names(rows) == [2, 1]
    rows, cursor, _ = views.runs(cursor=cursor, limit=2)
    assert (names(rows), cursor) == ([0], "")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (RunFilter(workflow="weekly"), [6, 3, 0]),
        (RunFilter(status="failed"), [6, 4, 2, 0]),
        (RunFilter(owner="ops"), [4, 0]),
        (RunFilter(owner=""), [6, 5, 3, 2, 1]),
        (RunFilter(tag="even"), [6, 4, 2, 0]),
        (RunFilter(tag="eve"), []),
        (RunFilter(workflow="weekly", status="failed", owner="ops", tag="even"), [0]),
        (RunFilter(workflow="weekly", status="running"), [3]),
        (RunFilter(since=NOON + seconds(2)), [6, 5, 4, 3, 2]),
        (RunFilter(until=NOON + seconds(2)), [1, 0]),
        (RunFilter(since=NOON + seconds(1), until=NOON + seconds(5)), [4, 3, 2, 1]),
        (RunFilter(since=NOON + seconds(5), until=NOON + seconds(5)), []),
        (RunFilter(since=NOON + seconds(6), until=NOON + seconds(1)), []),
        (RunFilter(status="failed", since=NOON + seconds(1), until=NOON + seconds(6)), [4, 2]),
        (RunFilter(workflow="nobody's"), []),
    ],
)
def test_every_field_of_a_filter_must_hold(views: Views, where: RunFilter, expected: list[int]) -> None:
    for number in range(7):
        views.put_run(
            a_run(
                number,
                workflow="weekly" if number % 3 == 0 else "nightly",
                status="failed" if number % 2 == 0 else "running",
                owner="ops" if number % 4 == 0 else "",
                tags=("even", "x") if number % 2 == 0 else ("odd",),
            )
        )
    for limit in (1, 2, 50):
        assert names(all_pages(views, where, limit=limit)) == expected
        assert names(all_pages(views, where, sort="oldest", limit=limit)) == expected[::-1]


def test_with_the_oldest_first_runs_that_arrive_come_at_the_end(views: Views) -> None:
    for number in (1, 2, 3):
        views.put_run(a_run(number))
    rows, cursor, _ = views.runs(sort="oldest", limit=2)
    assert names(rows) == [1, 2]
    views.put_run(a_run(0))
    views.put_run(a_run(4))
    views.remove_run(a_run(2).run)
    rows, cursor, _ = views.runs(sort="oldest", cursor=cursor, limit=2)
    assert (names(rows), cursor) == ([3, 4], "")


def test_a_cursor_goes_with_the_sort_of_its_list(views: Views) -> None:
    for number in range(3):
        views.put_run(a_run(number))
    newest, oldest = (views.runs(sort=sort, limit=1).cursor for sort in SORTS)
    with pytest.raises(InvalidInput, match="cursor: is of a list sorted by newest, not by oldest"):
        views.runs(sort="oldest", cursor=newest)
    with pytest.raises(InvalidInput, match="cursor: is of a list sorted by oldest, not by newest"):
        views.runs(cursor=oldest)


@pytest.mark.parametrize("sort", ["newest", "oldest"])
@pytest.mark.parametrize("where", [RunFilter(tag="rare"), RunFilter(workflow="nightly", status="failed")])
def test_where_no_list_is_just_what_is_asked_for_a_page_ends_after_so_many_rows(
    make_views: MakeViews, where: RunFilter, sort: RunSort
) -> None:
    views = make_views(scanned_max=10)
    for number in range(25):
        rare = number in (0, 24)
        views.put_run(a_run(number, tags=("rare",) if rare else (), status="failed" if rare else "running"))
    first, last = (24, 0) if sort == "newest" else (0, 24)
    rows, cursor, scanned = views.runs(where, sort=sort)
    assert (names(rows), bool(cursor), scanned) == ([first], True, 10)
    rows, cursor, scanned = views.runs(where, sort=sort, cursor=cursor)
    assert (names(rows), bool(cursor), scanned) == ([], True, 10)
    rows, cursor, scanned = views.runs(where, sort=sort, cursor=cursor)
    assert (names(rows), cursor, scanned) == ([last], "", 5)
    assert views.runs(RunFilter(workflow="nightly"), sort=sort, limit=20).scanned == 0


@pytest.mark.parametrize("cursor", ["nonsense", "%%%", "W10", "WyIxIiwiMiJd", "ü", "W" * 5_000, "bnVsbA"])
def test_a_cursor_that_no_list_gave_is_the_users_mistake(views: Views, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        views.runs(cursor=cursor)
    with pytest.raises(InvalidInput, match="cursor"):
        views.workflows(cursor=cursor)


def test_a_removed_run_is_in_no_list_and_removing_it_again_is_no_error(views: Views) -> None:
    views.put_run(RUN)
    views.remove_run(RUN.run)
    views.remove_run(RUN.run)
    assert views.get_run(RUN.run) is None
    assert views.runs(RunFilter(workflow="nightly")) == RunPage([], "")


def test_a_removed_workflow_is_in_no_list_and_may_come_back_at_an_older_version(views: Views) -> None:
    views.put_workflow(replace(WORKFLOW, stream_version=9))
    views.remove_workflow(WORKFLOW.workflow)
    views.remove_workflow(WORKFLOW.workflow)
    assert views.get_workflow(WORKFLOW.workflow) is None
    assert views.workflows() == ([], "")
    views.put_workflow(WORKFLOW)
    assert views.workflows() == ([WORKFLOW], "")


def test_a_workflow_is_given_back_as_it_was_put_and_only_replaced_by_a_newer_version(views: Views) -> None:
    views.put_workflow(WORKFLOW)
    views.put_workflow(replace(WORKFLOW, paused=True))
    assert views.get_workflow(WORKFLOW.workflow) == WORKFLOW
    gone = replace(WORKFLOW, stream_version=5, live_version=None, next_at=None, schedule="", active_runs=())
    views.put_workflow(gone)
    assert views.get_workflow(WORKFLOW.workflow) == gone
    assert views.workflows() == ([gone], "")


def test_workflows_are_listed_by_name_page_by_page_while_others_arrive(views: Views) -> None:
    for name in ("d", "B", "a", "c"):
        views.put_workflow(replace(WORKFLOW, workflow=WorkflowName(name)))
    rows, cursor = views.workflows(limit=2)
    assert [row.workflow for row in rows] == ["B", "a"]
    views.put_workflow(replace(WORKFLOW, workflow=WorkflowName("A")))
    rows, cursor = views.workflows(cursor=cursor, limit=2)
    assert [row.workflow for row in rows] == ["c", "d"]
    assert not cursor


def test_cleared_views_are_empty_and_take_any_version_again(views: Views) -> None:
    for number in range(30):
        views.put_run(a_run(number))
    views.put_workflow(WORKFLOW)
    views.clear()
    assert views.runs() == RunPage([], "")
    assert views.workflows() == ([], "")
    views.put_run(replace(RUN, version=1))
    assert views.get_run(RUN.run) == replace(RUN, version=1)


_rows = st.builds(
    lambda number, second, workflow, status, owner, tags, version: replace(
        RUN,
        run=RunId(f"{workflow}@{number:03}"),
        workflow=WorkflowName(workflow),
        requested_at=NOON + seconds(second),
        status=status,
        owner=owner,
        tags=tags,
        version=version,
    ),
    st.integers(0, 9),
    st.integers(0, 4),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["running", "failed"]),
    st.sampled_from(["", "o"]),
    st.sampled_from([(), ("t",), ("t", "u")]),
    st.integers(1, 3),
)
_filters = st.builds(
    RunFilter,
    workflow=st.sampled_from([None, "a"]),
    status=st.sampled_from([None, "failed"]),
    owner=st.sampled_from([None, "o"]),
    tag=st.sampled_from([None, "t"]),
    since=st.sampled_from([None, NOON + seconds(1)]),
    until=st.sampled_from([None, NOON + seconds(4)]),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(_rows, max_size=14), where=_filters, sort=st.sampled_from(SORTS), limit=st.integers(1, 5))
def test_paging_shows_every_row_that_matches_once_and_in_order(
    make_views: MakeViews, rows: list[RunRow], where: RunFilter, sort: RunSort, limit: int
) -> None:
    views = make_views()
    newest: dict[RunId, RunRow] = {}
    for row in rows:
        views.put_run(row)
        if row.run not in newest or newest[row.run].version < row.version:
            newest[row.run] = row
    expected = [
        row
        for row in newest.values()
        if where.workflow in (None, row.workflow)
        and where.status in (None, row.status)
        and where.owner in (None, row.owner)
        and (where.tag is None or where.tag in row.tags)
        and (where.since is None or row.requested_at >= where.since)
        and (where.until is None or row.requested_at < where.until)
    ]
    expected.sort(key=lambda row: (row.requested_at, row.run), reverse=sort == "newest")
    assert all_pages(views, where, sort=sort, limit=limit) == expected


# --- who listens ------------------------------------------------------------------------------------------------------

FIRST, SECOND = WorkflowName("first"), WorkflowName("second")


def test_workflows_are_found_under_their_keys(views: Views) -> None:
    views.put_listeners(SECOND, 2, ["s3:landing", "queue"])
    views.put_listeners(FIRST, 2, ["s3:landing", "event:größe"])
    assert views.listeners("s3:landing") == [FIRST, SECOND]
    assert views.listeners("s3:landing", limit=1) == [FIRST]
    assert views.listeners("s3:landing", after=FIRST) == [SECOND]
    assert views.listeners("event:größe") == [FIRST]
    assert views.listeners("s3:land") == []


def test_a_newer_generation_is_found_under_its_keys_alone(views: Views) -> None:
    views.put_listeners(FIRST, 2, ["a", "b"])
    views.put_listeners(FIRST, 3, [])
    assert views.listeners("a") == []
    views.put_listeners(FIRST, 4, ["b", "c"])
    assert [views.listeners(key) for key in "abc"] == [[], [FIRST], [FIRST]]


def test_an_older_generation_that_comes_last_takes_nothing_away(views: Views) -> None:
    views.put_listeners(FIRST, 4, ["a"])
    views.put_listeners(FIRST, 3, [])
    views.put_listeners(FIRST, 2, ["b"])
    assert views.listeners("a") == [FIRST]


def test_who_listens_outlives_a_rebuild(views: Views) -> None:
    views.put_listeners(FIRST, 2, ["a"])
    views.clear()
    assert views.listeners("a") == [FIRST]
    views.put_listeners(FIRST, 2, ["a"])
    assert views.listeners("a") == [FIRST]


# --- backfills --------------------------------------------------------------------------------------------------------


def a_backfill(number: int, **changes: Any) -> BackfillRow:
    at = NOON + seconds(number)
    return replace(BACKFILL, backfill=BackfillId(f"nightly@b{number:03}"), requested_at=at, **changes)


def pages_of_backfills(views: Views, workflow: str | None = None, *, limit: int) -> list[int]:
    name = None if workflow is None else WorkflowName(workflow)
    rows, cursor = views.backfills(name, limit=limit)
    while cursor:
        more, cursor = views.backfills(name, cursor=cursor, limit=limit)
        assert len(more) <= limit
        rows += more
    return [int(row.backfill.partition("@b")[2]) for row in rows]


def test_a_backfill_is_given_back_as_it_was_put_in_its_newest_version(views: Views) -> None:
    assert views.get_backfill(BACKFILL.backfill) is None
    views.put_backfill(BACKFILL)
    views.put_backfill(replace(BACKFILL, version=3, status="paused"))
    views.put_backfill(replace(BACKFILL, version=2, status="paused"))
    assert views.get_backfill(BACKFILL.backfill) == BACKFILL
    ended = replace(BACKFILL, version=4, status="failed", finished_at=NOON + seconds(9))
    views.put_backfill(ended)
    assert views.get_backfill(BACKFILL.backfill) == ended
    assert views.backfills() == ([ended], "")


def test_backfills_are_listed_newest_first_of_all_workflows_or_of_one(views: Views) -> None:
    for number in (2, 0, 3, 1):
        views.put_backfill(a_backfill(number, workflow=WorkflowName("weekly" if number == 3 else "nightly")))
    for limit in (1, 2, 3, 4, 50):
        assert pages_of_backfills(views, limit=limit) == [3, 2, 1, 0]
        assert pages_of_backfills(views, "nightly", limit=limit) == [2, 1, 0]
    assert views.backfills(WorkflowName("hourly")) == ([], "")


def test_backfills_are_not_among_runs_or_workflows_and_go_with_the_rest(views: Views) -> None:
    views.put_backfill(BACKFILL)
    assert views.runs() == RunPage([], "")
    assert views.runs(RunFilter(workflow="nightly")) == RunPage([], "")
    assert views.workflows() == ([], "")
    views.put_backfill(a_backfill(7))
    views.remove_backfill(BACKFILL.backfill)
    assert pages_of_backfills(views, limit=5) == [7]
    views.clear()
    assert views.backfills() == ([], "")
