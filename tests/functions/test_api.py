"""The API through its handler, over a home where a run succeeded and one failed."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from functions.api import answers
from shared.ids import RunId, run_stream
from tests.functions.api_world import LAB, SALES, Api, Reply, at, copies, make_apart


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_apart(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def copy(made_home: Path, tmp_path: Path) -> Callable[[], Path]:
    return copies(made_home, tmp_path)


@pytest.fixture
def api(copy: Callable[[], Path]) -> Iterator[Api]:
    api = Api(copy())
    yield api
    api.close()


# --- reading ----------------------------------------------------------------------------------------------------------------


def test_a_run_is_shown_with_its_jobs_and_attempts(api: Api) -> None:
    shown = api.get(at(api.run))

    assert shown.status == 200
    assert shown.json["status"] == "succeeded"
    assert [job["name"] for job in shown.json["jobs"]] == ["extract", "load"]
    assert shown.json["jobs"][0]["outputs"] == {"rows": 2}
    assert shown.json["jobs"][0]["attempts"][0]["exit_code"] == 0
    assert shown.json["held"] is None


def test_a_run_is_shown_as_it_was_at_a_version_and_at_an_instant(api: Api) -> None:
    first = api.get(f"{at(api.run)}?as_of=1")
    commits = api.get(f"{at(api.run)}/events").json["commits"]

    assert first.json["version"] == 1
    assert first.json["status"] != "succeeded"
    assert api.get(f"{at(api.run)}?as_of={commits[0]['at']}").json == first.json


def test_a_moment_before_the_run_or_after_its_versions_is_not_found(api: Api) -> None:
    assert api.get(f"{at(api.run)}?as_of=2020-01-01T00:00:00Z").status == 404
    assert "it has" in api.get(f"{at(api.run)}?as_of=99999").json["detail"]


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-01", "0", "-1", "2026-01-01T00:00:00", "0001-01-01T00:00:00%2B23:00"]
)
def test_what_is_no_moment_is_refused_with_what_would_be_right(api: Api, text: str) -> None:
    assert api.get(f"{at(api.run)}?as_of={text}").problems.keys() == {"as_of"}


def test_lists_filter_by_every_field_and_page_without_gaps_or_repeats(api: Api) -> None:
    first = api.get("/v1/runs?limit=1").json
    second = api.get(f"/v1/runs?limit=1&cursor={first['cursor']}").json

    assert {first["runs"][0]["run"], second["runs"][0]["run"]} == {api.run, api.failed}
    assert second["cursor"] == ""
    for query in ("workflow=lab", "status=failed", "owner=bob", "tag=research"):
        assert [row["run"] for row in api.get(f"/v1/runs?{query}").json["runs"]] == [api.failed], query
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert api.get(f"/v1/runs?since={later}").json["runs"] == []
    assert len(api.get(f"/v1/runs?until={later}").json["runs"]) == 2


def test_pages_stay_right_while_runs_arrive(api: Api) -> None:
    first = api.get("/v1/runs?limit=1").json
    api.post("/v1/runs", {"workflow": "sales"})
    second = api.get(f"/v1/runs?limit=1&cursor={first['cursor']}").json

    assert {first["runs"][0]["run"], second["runs"][0]["run"]} == {api.run, api.failed}


def test_the_oldest_come_first_where_that_is_asked_for_and_new_runs_at_the_end(api: Api) -> None:
    newest = [row["run"] for row in api.get("/v1/runs").json["runs"]]
    first = api.get("/v1/runs?sort=oldest&limit=1").json
    new = api.post("/v1/runs", {"workflow": "sales"}).json["run"]
    rest = api.get(f"/v1/runs?sort=oldest&limit=5&cursor={first['cursor']}").json

    assert [row["run"] for row in first["runs"] + rest["runs"]] == [*newest[::-1], new]
    assert (rest["cursor"], rest["scan"]) == ("", None)


def test_a_cursor_of_another_sort_and_a_sort_that_is_none_are_refused(api: Api) -> None:
    cursor = api.get("/v1/runs?limit=1").json["cursor"]

    told = api.get(f"/v1/runs?sort=oldest&cursor={cursor}").problems
    assert told == {"cursor": "is of a list sorted by newest, not by oldest"}
    assert api.get("/v1/runs?sort=owner").problems.keys() == {"sort"}


def test_a_list_tells_how_many_runs_it_looked_through_where_none_is_kept_for_the_filter(api: Api) -> None:
    for query in ("tag=research", "workflow=lab&status=failed"):
        told = api.get(f"/v1/runs?{query}").json
        assert [row["run"] for row in told["runs"]] == [api.failed], query
        assert told["scan"]["rows"] in (1, 2), query
        assert not told["scan"]["stopped"], query
    for query in ("", "workflow=lab", "status=failed", "owner=bob", "since=2020-01-01T00:00:00Z"):
        assert api.get(f"/v1/runs?{query}").json["scan"] is None, query


def test_jobs_are_read_by_the_page(api: Api) -> None:
    first = api.get(f"{at(api.run)}/jobs?limit=1").json
    second = api.get(f"{at(api.run)}/jobs?limit=1&after={first['after']}").json

    assert [job["name"] for job in first["jobs"] + second["jobs"]] == ["extract", "load"]
    assert second["after"] == ""


def test_events_are_read_by_the_page_and_tell_what_is_new(api: Api) -> None:
    first = api.get(f"{at(api.run)}/events?limit=1").json
    rest = api.get(f"{at(api.run)}/events?after={first['after']}").json
    end = api.get(f"{at(api.run)}/events?after={rest['after']}").json

    versions = [one["version"] for one in first["commits"] + rest["commits"]]
    assert versions == list(range(1, len(versions) + 1))
    assert first["commits"][0]["events"][0]["type"] == "RunRequested"
    assert end == {"commits": [], "after": rest["after"]}


def test_output_tells_streams_apart_and_goes_on_where_it_ended(api: Api) -> None:
    address = f"{at(api.run)}/jobs/extract/attempts/1/logs"
    everything = api.get(address).json
    out = api.get(f"{address}?stream=out").json
    first = api.get(f"{address}?stream=out&bytes=1").json
    second = api.get(f"{address}?stream=out&bytes=1&cursor={first['cursor']}").json

    assert sorted(line["text"] for line in everything["lines"]) == ["one", "two", "wrong"]
    assert [line["text"] for line in out["lines"]] == ["one", "two"]
    assert [line["text"] for line in api.get(f"{address}?stream=err").json["lines"]] == ["wrong"]
    assert [line["text"] for line in first["lines"] + second["lines"]] == ["one", "two"]
    assert everything["complete"]
    assert api.get(f"{at(api.run)}/jobs/extract/logs").json["attempt"] == 1


def test_output_that_is_not_there_says_why(api: Api) -> None:
    told = api.get(f"{at(api.failed)}/jobs/tell/logs")

    assert told.status == 200
    assert "without being started" in told.json["absent"]
    assert told.json["complete"]
    assert api.get(f"{at(api.failed)}/jobs/tell/attempts/1/logs").status == 404


def test_who_waits_for_output_is_answered_when_there_is_more_or_the_attempt_ends(copy: Callable[[], Path]) -> None:
    looks: list[float] = []
    steps: list[Callable[[], object]] = []

    def pause(seconds: float) -> bool:
        looks.append(seconds)
        steps.pop(0)()
        return False

    api = Api(copy(), pause=pause)
    run = api.post("/v1/runs", {"workflow": "sales"}).json["run"]
    logs = f"{at(run)}/jobs/load/logs?wait=20"
    # Nothing runs here, so what happens is that somebody says how it ended.
    marked = {"job": "load", "outcome": "skipped", "reason": "test"}
    steps += [lambda: None, lambda: api.post(f"{at(run)}/mark", marked)]
    told = api.get(logs).json
    assert (told["complete"], told["attempt"]) == (True, None)
    assert len(looks) == 2
    assert all(0 < one <= 0.2 for one in looks)
    api.close()


def test_nobody_waits_where_there_is_output_or_none_can_follow_or_no_time_is_given(api: Api) -> None:
    began = time.monotonic()
    assert api.get(f"{at(api.run)}/jobs/extract/logs?wait=20").json["complete"]
    assert api.get(f"{at(api.failed)}/jobs/tell/logs?wait=20").json["absent"]
    run = api.post("/v1/runs", {"workflow": "sales"}).json["run"]
    assert not api.get(f"{at(run)}/jobs/extract/logs").json["complete"]
    assert time.monotonic() - began < 10
    assert api.get(f"{at(api.run)}/jobs/extract/logs?wait=21").problems.keys() == {"wait"}


def test_who_waits_holds_up_nobody_and_is_let_go_when_the_time_is_over_or_the_server_closes(
    copy: Callable[[], Path],
) -> None:
    others: list[int] = []

    def closing(_seconds: float) -> bool:
        others.append(world.get("/v1/health").status)
        return len(others) == 3

    world = Api(copy(), pause=closing)
    logs = f"{at(world.post('/v1/runs', {'workflow': 'sales'}).json['run'])}/jobs/load/logs"
    assert world.get(f"{logs}?wait=20").json["absent"] == "load has not been started, so it wrote nothing"
    assert others == [200, 200, 200]
    world.close()
    world = Api(world.home.path, wait_seconds_max=0.0)
    assert world.get(f"{logs}?wait=20").status == 200
    world.close()


def test_a_cursor_of_another_log_is_refused(api: Api) -> None:
    assert api.get(f"{at(api.run)}/jobs/extract/logs?cursor=zzz").problems.keys() == {"cursor"}
    assert api.get("/v1/runs?cursor=zzz").problems.keys() == {"cursor"}
    assert api.get("/v1/workflows?cursor=WzFd").problems.keys() == {"cursor"}


def test_results_are_listed_and_handed_to_the_server_as_files(api: Api) -> None:
    listed = api.get(f"{at(api.run)}/files?saved=true").json["files"]
    fetched = api.get(listed[0]["href"])

    assert [(one["path"], one["job"], one["size"]) for one in listed] == [("report.csv", "extract", 5)]
    assert Path(fetched.raw["runfoldFile"]).read_text() == "data\n"
    assert fetched.headers["Content-Disposition"].startswith("attachment")
    assert fetched.headers["Content-Security-Policy"] == "sandbox"


def test_a_file_that_leads_out_of_its_run_is_not_given_out(api: Api) -> None:
    """fault 57"""
    folder = api.home.path / "runs" / api.run / "_files" / "extract" / "1"
    (folder / "report.csv").unlink()
    (folder / "report.csv").symlink_to(api.home.database)

    assert api.get(f"{at(api.run)}/files/content?path=report.csv").status == 404
    assert api.get(f"{at(api.run)}/files").json["files"][0]["size"] is None
    assert api.get(f"{at(api.run)}/files/content?path=../../../../runfold.db").status == 404


def test_why_is_answered_of_runs_jobs_past_moments_and_runs_that_never_were(api: Api) -> None:
    assert api.get(f"{at(api.failed)}/why").json["conditions"][0]["code"] == "run_finished"
    assert api.get(f"{at(api.failed)}/jobs/tell/why").json["conditions"][0]["code"] == "upstream_failed"
    assert api.get(f"{at(api.failed)}/jobs/tell/why?as_of=1").json["conditions"][0]["code"] == "waits_for_job"
    assert api.get(f"{at('sales@2020-01-01T01:00:00Z')}/why").json["conditions"][0]["code"] == "before_registration"
    assert api.get(f"{at('sales@nothing')}/why").json["conditions"][0]["code"] == "not_requested"
    assert api.get(f"{at('nobody@nothing')}/why").status == 404


def test_coming_instants_show_the_odd_days_of_the_clocks(api: Api) -> None:
    after = "2026-10-24T12:00:00Z"
    told = api.get(f"/v1/workflows/sales/instants?after={after}&count=2").json

    assert [one["at"] for one in told["instants"]] == ["2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"]
    assert told["instants"][0]["note"] == "overlap_first"
    assert api.get("/v1/workflows/lab/instants").json["instants"] == []


def test_every_answer_has_the_shape_that_is_documented_and_no_field_more(api: Api) -> None:
    asked = {
        "/v1/health": "Health",
        "/v1/workflows": "WorkflowRows",
        "/v1/workflows/sales": "Workflow",
        "/v1/workflows/sales/versions": "Versions",
        "/v1/workflows/sales/versions/1": "VersionDocument",
        "/v1/workflows/sales/diff?old=1&new=1": "Differences",
        "/v1/workflows/sales/instants": "Instants",
        "/v1/workflows/sales/events": "Commits",
        "/v1/runs": "RunRows",
        at(api.failed): "Run",
        f"{at(api.failed)}/why": "Why",
        f"{at(api.failed)}/events": "Commits",
        f"{at(api.failed)}/jobs": "Jobs",
        f"{at(api.run)}/jobs/extract": "Job",
        f"{at(api.run)}/jobs/extract/why": "Why",
        f"{at(api.run)}/jobs/extract/logs": "Output",
        f"{at(api.run)}/jobs/extract/attempts/1": "Attempt",
        f"{at(api.run)}/files": "Files",
    }
    for address, name in asked.items():
        shape = getattr(answers, name)
        told = api.get(address)
        assert told.status == 200, (address, told)
        parsed = shape.model_validate(told.json, strict=True)
        assert not _unnamed(parsed), (address, _unnamed(parsed))


def _unnamed(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for one in value for name in _unnamed(one)]
    if not hasattr(value, "model_extra"):
        return []
    inside = [name for field in type(value).model_fields for name in _unnamed(getattr(value, field))]
    return [*(value.model_extra or {}), *inside]


# --- polling ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["/v1/runs", "/v1/workflows", "/v1/workflows/sales", "{run}", "{run}/jobs", "{run}/why"]
)
def test_an_unchanged_answer_costs_a_304(api: Api, address: str) -> None:
    address = address.format(run=at(api.run))
    etag = api.get(address).headers["ETag"]

    for sent in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        again = api.get(address, if_none_match=sent)
        assert (again.status, again.data, again.headers["ETag"]) == (304, b"", etag)
    assert api.get(address, if_none_match='"other"').status == 200


def test_a_change_changes_the_etag(api: Api) -> None:
    before = api.get(at(api.run)).headers["ETag"], api.get("/v1/runs").headers["ETag"]
    api.post(f"{at(api.run)}/rerun", {"jobs": ["load"]})

    assert api.get(at(api.run), if_none_match=before[0]).status == 200
    assert api.get("/v1/runs", if_none_match=before[1]).status == 200


def test_answers_are_compressed_for_whoever_accepts_it(api: Api) -> None:
    plain = api.get(at(api.run))
    small = api.get(at(api.run), accept_encoding="br, gzip;q=0.5")

    assert small.headers["Content-Encoding"] == "gzip"
    assert small.data == plain.data
    assert "Content-Encoding" not in api.get(at(api.run), accept_encoding="gzip;q=0, br").headers
    assert "Content-Encoding" not in api.get("/v1/health", accept_encoding="gzip").headers


def test_head_is_a_get_without_its_body(api: Api) -> None:
    got, head = api.get("/v1/runs"), api("HEAD", "/v1/runs")

    assert (head.status, head.data) == (200, b"")
    assert head.headers["ETag"] == got.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(got.data))


def test_pages_of_configured_origins_may_call(copy: Callable[[], Path]) -> None:
    api = Api(copy(), cors_origins=("https://runs.example",))
    preflight = api("OPTIONS", "/v1/runs", origin="https://runs.example")
    allowed = api.get("/v1/runs", origin="https://runs.example")
    refused = api.get("/v1/nothing", origin="https://runs.example")
    other = api.get("/v1/runs", origin="https://other.example")
    api.close()

    assert preflight.status == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://runs.example"
    assert "ETag" in allowed.headers["Access-Control-Expose-Headers"]
    assert refused.headers["Access-Control-Allow-Origin"] == "https://runs.example"
    assert "Access-Control-Allow-Origin" not in other.headers


# --- asking -----------------------------------------------------------------------------------------------------------------


def test_a_document_is_registered_once_and_a_changed_one_becomes_a_version(api: Api) -> None:
    again = api.post("/v1/workflows", SALES)
    changed = api.post("/v1/workflows", {**SALES, "owner": "eve"})

    assert (again.status, again.json["changed"]) == (200, False)
    assert (changed.status, changed.json["version"]) == (201, 2)
    assert changed.headers["Location"] == "/v1/workflows/sales/versions/2"
    assert changed.json["differences"] == ["owner changed from ann to eve"]
    assert api.get("/v1/workflows/sales/diff?old=1&new=2").json["differences"] == changed.json["differences"]
    assert api.get("/v1/workflows/sales").json["versions"][1]["by"] == "carol"


def test_documents_are_read_in_yaml_as_well(api: Api) -> None:
    text = "name: small\njobs:\n  - {name: a, type: ecs, image: i, command: [x]}\n"

    assert api.post("/v1/workflows", raw=text, content_type="application/yaml").status == 201
    assert api.post("/v1/plan", raw=text, content_type="text/yaml; charset=utf-8").json["change"] == "unchanged"


def test_a_bad_document_gets_every_problem_and_changes_nothing(api: Api) -> None:
    bad = {"name": "sales", "shedule": {}, "jobs": [{"name": "a", "type": "ecs", "after": ["b"]}]}
    told = api.post("/v1/workflows", bad)

    assert told.status == 422
    assert {"shedule", "jobs[0].image", "jobs[0].after[0]"} <= told.problems.keys()
    assert api.get("/v1/workflows/sales").json["live_version"] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a": ' * 10_000,
        b'"x"',
        b"\x00",
    ],
)
def test_hostile_bodies_are_refused_and_never_a_5xx(api: Api, data: bytes) -> None:
    """fault 51"""
    for address in ("/v1/workflows", "/v1/plan", "/v1/runs", "/v1/bulk/cancel"):
        assert api.post(address, raw=data, content_type="application/json").status == 422, address


def test_a_body_beyond_the_bound_is_413_and_one_of_another_type_415(api: Api) -> None:
    """fault 51: 50 MB"""
    assert api.post("/v1/workflows", raw="x" * 50_000_000, content_type="application/json").status == 413
    assert api.post("/v1/workflows", raw="<a/>", content_type="application/xml").status == 415
    assert api.post("/v1/runs", raw="workflow: sales", content_type="application/yaml").status == 415
    assert api.post("/v1/runs", raw=b"\x1f\x8b", content_type="application/json", content_encoding="gzip").status == 415


def test_a_plan_tells_what_would_happen_and_does_nothing(api: Api) -> None:
    plan = api.post("/v1/plan?instants=1", {**SALES, "parallelism": 2}).json

    assert (plan["change"], plan["live_version"], plan["next_version"]) == ("changed", 1, 2)
    assert plan["differences"] == ["parallelism changed from 16 to 2"]
    assert len(plan["instants"]) == 1
    assert api.post("/v1/plan", {**SALES, "name": "fresh"}).json["next_version"] == 1
    assert api.get("/v1/workflows/sales").json["version"] == 1


def test_an_earlier_version_is_made_live_again(api: Api) -> None:
    api.post("/v1/workflows", {**SALES, "owner": "eve"})
    back = api.post("/v1/workflows/sales/rollback", {"version": 1})

    assert (back.status, back.json["version"]) == (201, 3)
    assert api.get("/v1/workflows/sales").json["owner"] == "ann"
    assert api.post("/v1/workflows/sales/rollback", {"version": 9}).status == 404


def test_a_workflow_is_paused_resumed_and_taken_out_of_service(api: Api) -> None:
    paused = api.post("/v1/workflows/sales/pause", {"reason": "moving"}).json["paused"]

    assert (paused["by"], paused["reason"]) == ("carol", "moving")
    assert api.get("/v1/workflows").json["workflows"][1]["paused"] is True
    assert api.post("/v1/workflows/sales/resume").json["paused"] is None
    assert api("DELETE", "/v1/workflows/sales").json["live_version"] is None
    assert api.post("/v1/runs", {"workflow": "sales"}).status == 409


def test_the_same_key_twice_is_the_same_run(api: Api) -> None:
    body = {"workflow": "sales", "parameters": {"region": "us"}, "note": "by hand"}
    first = api.post("/v1/runs", body, idempotency_key="k-1")
    again = api.post("/v1/runs", body, idempotency_key="k-1")

    assert (first.status, again.status) == (201, 200)
    assert first.json["run"] == again.json["run"]
    shown = api.get(first.headers["Location"]).json
    assert (shown["parameters"], shown["requested_by"], shown["note"]) == ({"region": "us"}, "carol", "by hand")
    assert api.get("/v1/runs?limit=1").json["runs"][0]["run"] == first.json["run"]


NIGHTS = {"workflow": "sales", "from": "2026-03-27", "until": "2026-04-01", "max_active": 2}


def test_a_backfill_is_asked_for_once_and_rehearsed_without_writing(api: Api) -> None:
    before = api.get("/v1/backfills").json
    told = api.post("/v1/backfills", {**NIGHTS, "dry_run": True})
    assert (told.status, told.json["backfill"], told.json["count"]) == (200, None, 5)
    assert told.json["rehearsal"]["to_run"] == 5
    assert [one["note"] for one in told.json["rehearsal"]["odd"]] == ["gap_shifted"]
    assert api.get("/v1/backfills").json == before

    first = api.post("/v1/backfills", NIGHTS, idempotency_key="k-1")
    again = api.post("/v1/backfills", NIGHTS, idempotency_key="k-1")
    assert (first.status, again.status) == (201, 200)
    assert first.json["backfill"] == again.json["backfill"]
    assert api.get("/v1/backfills?workflow=sales").json["backfills"][0]["backfill"] == first.json["backfill"]
    assert api.get("/v1/backfills?workflow=lab").json["backfills"] == []


def test_a_backfill_is_shown_paused_resumed_and_cancelled(api: Api) -> None:
    address = api.post("/v1/backfills", NIGHTS, idempotency_key="k-1").headers["Location"]
    shown = api.get(address)
    assert (shown.json["status"], shown.json["count"], shown.json["requested_by"]) == ("running", 5, "carol")
    assert api.get(address, if_none_match=shown.headers["ETag"]).status == 304
    for name, shape in (("", "Backfill"), ("/instants", "InstantsOfBackfill"), ("/events", "Commits")):
        parsed = getattr(answers, shape).model_validate(api.get(address + name).json, strict=True)
        assert not _unnamed(parsed)
    paused = api.post(f"{address}/pause", {"reason": "lunch"}).json
    assert (paused["status"], paused["paused"]["by"]) == ("paused", "carol")
    assert "was paused by carol" in paused["waits_for"]
    assert api.post(f"{address}/resume").json["status"] == "running"
    assert api.post(f"{address}/cancel", {"reason": "wrong range"}).json["status"] in ("cancelling", "cancelled")
    assert api.post(f"{address}/resume").status == 409
    pages = [one["at"] for one in api.get(f"{address}/instants?limit=1").json["instants"]]
    assert len(pages) <= 1


def test_a_backfill_that_cannot_be_is_refused_with_every_problem(api: Api) -> None:
    wrong = api.post("/v1/backfills", {**NIGHTS, "from": "yesterday", "until": "soon"})
    assert (wrong.status, set(wrong.problems)) == (422, {"from", "until"})
    assert api.post("/v1/backfills", {**NIGHTS, "until": "2026-03-01"}).problems == {"until": "is not after `from`"}
    assert set(api.post("/v1/backfills", {**NIGHTS, "workflow": "lab"}).problems) == {"workflow"}
    assert api.post("/v1/backfills", {**NIGHTS, "workflow": "nobody"}).status == 404
    assert set(api.post("/v1/backfills", {**NIGHTS, "parameters": {"regoin": "x"}}).problems) == {"params.regoin"}
    for name in ("sales@b1", "nothing", "sales@../../x"):
        assert api.get(f"/v1/backfills/{quote(name, safe='')}").status == 404


def test_wrong_parameters_unknown_fields_and_bad_keys_are_all_told(api: Api) -> None:
    wrong = api.post("/v1/runs", {"workflow": "sales", "parameters": {"region": 3, "regoin": "x"}})
    unknown = api.post("/v1/runs", {"workflow": "sales", "paramters": {}, "note": 3})

    assert wrong.problems.keys() == {"params.region", "params.regoin"}
    assert unknown.problems.keys() == {"paramters", "note"}
    assert unknown.json["problems"][-1]["hint"] == "did you mean `parameters`?" or "parameters" in unknown.data.decode()
    assert api.post("/v1/runs", {"workflow": "sales"}, idempotency_key="two words").status == 422
    assert api.post("/v1/runs", {"workflow": "sale"}).status == 404


def test_a_run_that_its_workflow_holds_back_is_there_and_says_so(api: Api) -> None:
    first = api.post("/v1/runs", {"workflow": "lab"}).json
    second = api.post("/v1/runs", {"workflow": "lab"}).json

    assert (first["held"], second["held"]) == (False, True)
    shown = api.get(at(second["run"])).json
    assert (shown["version"], shown["status"]) == (0, "waiting")
    assert shown["held"]["since"]
    assert api.get(f"{at(second['run'])}/why").json["conditions"][0]["code"] in ("held", "active_runs")
    dropped = api.post(f"{at(second['run'])}/cancel", {"reason": "no"})
    assert (dropped.status, dropped.json["status"]) == (200, "cancelled")
    assert api.get(at(second["run"])).status == 404


def test_a_run_is_cancelled_done_again_and_marked_in_the_callers_name(api: Api) -> None:
    run = api.post("/v1/runs", {"workflow": "sales"}).json["run"]
    cancelled = api.post(f"{at(run)}/cancel", {"reason": "wrong day"})
    again = api.post(f"{at(api.failed)}/rerun", {}, idempotency_key="r1")
    twice = api.post(f"{at(api.failed)}/rerun", {}, idempotency_key="r1")

    assert cancelled.status == 200
    assert api.get(at(run)).json["cancel"]["by"] == "carol"
    assert (again.json["round"], twice.json["round"]) == (2, 2)
    assert twice.json["version"] == again.json["version"], "fault 56: a double click"
    marked = api.post(f"{at(api.failed)}/mark", {"job": "tell", "outcome": "skipped", "reason": "not needed"})
    assert marked.status == 200
    assert api.get(f"{at(api.failed)}/jobs/tell").json["marked_by"] == "carol"


def test_what_the_state_does_not_allow_is_a_409_with_the_reason(api: Api) -> None:
    assert "finished already" in api.post(f"{at(api.run)}/cancel").json["detail"]
    assert api.post(f"{at(api.run)}/rerun").status == 409
    assert api.post(f"{at(api.run)}/mark", {"job": "nothing", "outcome": "failed", "reason": "x"}).status == 404


# --- many runs --------------------------------------------------------------------------------------------------------------


def test_many_runs_are_rehearsed_then_cancelled_by_the_page(api: Api) -> None:
    asked = {api.post("/v1/runs", {"workflow": "sales"}).json["run"] for _ in range(5)}
    where = {"workflow": "sales"}
    plan = api.post("/v1/bulk/cancel", {"where": where, "dry_run": True}).json

    assert set(plan["done"]) == asked
    assert [one["run"] for one in plan["refused"]] == [api.run]
    assert all(api.get(at(run)).json["cancel"] is None for run in asked)

    first = api.post("/v1/bulk/cancel", {"where": where, "limit": 2, "reason": "all"}).json
    second = api.post("/v1/bulk/cancel", {"where": where, "limit": 100, "cursor": first["cursor"]}).json
    assert len(first["done"]) == 2
    assert {*first["done"], *second["done"]} == asked
    assert second["cursor"] == ""
    assert all(api.get(at(run)).json["cancel"]["by"] == "carol" for run in asked)


def test_many_runs_are_done_again_and_marked(api: Api) -> None:
    again = api.post("/v1/bulk/rerun", {"where": {"status": "failed"}}, idempotency_key="b").json
    mark = {"where": {"workflow": "lab"}, "job": "tell", "outcome": "succeeded", "reason": "by hand"}

    assert again["done"] == [api.failed]
    assert api.post("/v1/bulk/mark", mark).json["done"] == [api.failed]
    assert api.get(f"{at(api.failed)}/jobs/tell").json["status"] == "succeeded"
    missing = api.post("/v1/bulk/mark", {**mark, "where": {"workflow": "sales"}}).json
    assert [one["run"] for one in missing["refused"]] == [api.run]


def test_a_filter_that_names_nothing_is_refused(api: Api) -> None:
    assert api.post("/v1/bulk/cancel", {"where": {}}).problems.keys() == {"where"}
    assert api.post("/v1/bulk/cancel", {"where": {"status": None}}).problems.keys() == {"where"}
    assert api.post("/v1/bulk/cancel", {"where": {"workflow": "sales"}, "limit": 501}).problems.keys() == {"limit"}


# --- hostile and mistaken requests ------------------------------------------------------------------------------------------

HOSTILE = [
    "..",
    ".",
    "%2e%2e",
    "a%2Fb",
    "%00",
    "a%00b",
    "%0a",
    "x" * 5_000,
    "%",
    "%zz",
    "é",
    "%ff",
    "a b",
    "'\"",
    "#",
    "<>",
    "@",
    "a@",
    "@b",
    "a@..",
    "a@b@c",
    "a@b%2f..",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_addresses_are_not_found(api: Api, name: str) -> None:
    """fault 57"""
    for address in (
        f"/v1/runs/{name}",
        f"/v1/runs/{name}/why",
        f"/v1/runs/{name}/events",
        f"{at(api.run)}/jobs/{name}",
        f"{at(api.run)}/jobs/{name}/logs",
        f"{at(api.run)}/jobs/extract/attempts/{name}/logs",
        f"/v1/workflows/{name}",
        f"/v1/workflows/{name}/versions/1",
        f"/v1/workflows/sales/versions/{name}",
    ):
        assert api.get(address).status == 404, address
    assert api.post(f"/v1/runs/{name}/cancel").status == 404


def test_names_that_gateways_decode_or_leave_are_the_same(api: Api) -> None:
    assert api.get(f"/v1/runs/{api.run}").json == api.get(at(api.run)).json


def test_queries_are_checked_like_bodies(api: Api) -> None:
    told = api.get("/v1/runs?limit=0&limit=1&statsu=failed&since=1700000000&status=x")

    assert told.status == 422
    assert told.problems.keys() == {"limit", "statsu", "since", "status"}
    assert api.get("/v1/runs?limit=501").status == 422
    assert api.get("/v1/runs?limit=1e2").status == 422
    assert api.get("/v1/runs?" + "a=1&" * 1_000).status == 422
    assert api.get("/v1/runs?tag=%00&owner=%ff").json["runs"] == []


def test_addresses_and_methods_that_are_not_there_say_so(api: Api) -> None:
    assert api.get("/v2/runs").status == 404
    assert api.get("/").status == 404
    wrong = api("PUT", "/v1/runs")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, POST, HEAD, OPTIONS")
    assert api("PATCH", at(api.run)).status == 405
    assert api("OPTIONS", "/v1/runs").headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert api("BREW", "/v1/runs").status == 405


def test_every_answer_names_its_request_and_is_never_sniffed(api: Api) -> None:
    for answer in (api.get("/v1/runs"), api.get("/v1/nothing"), api.get("/v1/runs?x=1")):
        assert answer.headers["X-Request-Id"] == "request-1"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "private, no-cache"


def test_our_own_error_tells_nothing_but_where_it_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    (api.home.path / "runfold.db").rename(api.home.path / "gone")
    api.files.read.close()
    told = api.get("/v1/runs")

    assert told.status in (500, 503)
    assert "Traceback" not in told.data.decode()
    assert "request_id" in told.json


def test_an_answer_beyond_the_gateways_bound_says_how_to_get_it(copy: Callable[[], Path]) -> None:
    api = Api(copy(), answer_bytes_max=1_500)
    long, paged = api.get(at(api.run)), api.get(f"{at(api.run)}/jobs?limit=1")
    compressed = api.get(at(api.run), accept_encoding="gzip")
    api.close()

    assert (long.status, compressed.status, paged.status) == (413, 200, 200)
    assert "by the page" in long.json["detail"]


def test_a_body_that_the_gateway_garbled_is_refused(api: Api) -> None:
    told = api.post("/v1/runs", raw="!!", content_type="application/json", event={"isBase64Encoded": True})
    assert told.status == 422
    whole = base64.b64encode(json.dumps({"workflow": "sales"}).encode()).decode()
    assert (
        api.post("/v1/runs", raw=whole, content_type="application/json", event={"isBase64Encoded": True}).status == 201
    )


def test_the_two_workflows_are_there(api: Api) -> None:
    assert [row["workflow"] for row in api.get("/v1/workflows").json["workflows"]] == [LAB["name"], SALES["name"]]


def test_what_was_read_for_an_act_is_not_kept_whether_it_moved_anything_or_not(api: Api) -> None:
    transact = api.files.written.transact
    run = api.post("/v1/runs", {"workflow": "sales"}, idempotency_key="k").json["run"]
    acts: list[Callable[[], Reply]] = [
        lambda: api.post("/v1/runs", {"workflow": "sales"}, idempotency_key="k"),
        lambda: api.post(f"{at(run)}/cancel"),
        lambda: api.post(f"{at(api.run)}/cancel"),
        lambda: api.post(f"{at(api.run)}/mark", {"job": "extract", "outcome": "failed", "reason": "x"}),
        lambda: api.post("/v1/bulk/cancel", {"where": {"workflow": "sales"}}),
    ]
    for act in acts:
        assert act().status < 500
        kept = [stream for stream in (run, api.run, api.failed) if transact.kept(run_stream(RunId(stream)))]
        assert kept == []
