"""Who may do what over HTTP: recognised by API Gateway or by a token, and what they may not see does not exist (fault 57)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.api.principals import grants_in
from functions.api.routes import ROUTES
from shared.decide.access import Grant
from tests.functions.api_world import LAB, SALES, Api, at, copies, jwt, make_apart


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_apart(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def copy(made_home: Path, tmp_path: Path) -> Callable[[], Path]:
    return copies(made_home, tmp_path)


@pytest.fixture
def api(copy: Callable[[], Path]) -> Iterator[Api]:
    api = Api(copy(), gateway=True, iam={"arn:aws:sts::1:assumed-role/oncall/*": "operator:tag=finance"})
    yield api
    api.close()


def test_nobody_gets_anything_but_health_and_the_description(api: Api) -> None:
    assert api.get("/v1/health").status == 200
    assert api.get("/v1/openapi.json").status == 200
    for route in ROUTES:
        if route.open:
            continue
        path = route.path.format(
            workflow="sales",
            run=at(api.run).rpartition("/")[2],
            job="extract",
            attempt=1,
            version=1,
            digest="0" * 64,
            backfill="sales@b1",
            calendar="holidays",
            pool="warehouse",
        )
        told = api(route.method, path)
        assert told.status == 401, route.path
        assert told.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_forged_claim_in_the_request_itself_is_nothing(api: Api) -> None:
    told = api.get(
        "/v1/runs", authorization="Bearer x", x_amzn_claims="runfold=admin", event={"authorizer": jwt("admin")}
    )
    assert told.status == 401


def test_a_viewer_sees_and_changes_nothing(api: Api) -> None:
    viewer = jwt("viewer")

    assert len(api.get("/v1/runs", authorizer=viewer).json["runs"]) == 2
    for address, body in _acts(api):
        told = api.post(address, body, authorizer=viewer)
        assert told.status == 403, address
        assert "dora" in told.json["detail"]
    assert api("DELETE", "/v1/workflows/sales", {}, authorizer=viewer).status == 403
    assert (
        api.get(at(api.run), authorizer=viewer).json["version"]
        == api.get(at(api.run), authorizer=jwt("admin")).json["version"]
    )


def _acts(api: Api) -> list[tuple[str, Any]]:
    return [
        ("/v1/workflows", SALES),
        ("/v1/workflows/sales/rollback", {"version": 1}),
        ("/v1/workflows/sales/pause", {}),
        ("/v1/workflows/sales/resume", {}),
        ("/v1/runs", {"workflow": "sales"}),
        (f"{at(api.run)}/cancel", {}),
        (f"{at(api.run)}/rerun", {}),
        (f"{at(api.run)}/mark", {"job": "load", "outcome": "failed", "reason": "x"}),
    ]


def test_an_operator_runs_but_does_not_register(api: Api) -> None:
    operator = jwt("operator")

    made = api.post("/v1/runs", {"workflow": "sales"}, authorizer=operator)
    assert made.status == 201
    assert api.get(at(made.json["run"]), authorizer=operator).json["requested_by"] == "dora"
    assert api.post(f"{at(made.json['run'])}/cancel", authorizer=operator).status == 200
    assert api.post("/v1/workflows", SALES, authorizer=operator).status == 403


@pytest.mark.parametrize("word", ["admin:workflow=sales", "admin:tag=finance"])
def test_what_somebody_may_not_see_does_not_exist_in_the_same_words(api: Api, word: str) -> None:
    """Fault 57."""
    ann = jwt(word)
    hidden, absent = at(api.failed), at(api.failed.replace("@k", "@x"))

    for tail in ("", "/why", "/events", "/jobs", "/jobs/try", "/jobs/try/logs", "/files", "?as_of=99999", "/jobs/none"):
        seen, missing = api.get(hidden + tail, authorizer=ann), api.get(absent + tail, authorizer=ann)
        assert (seen.status, missing.status) == (404, 404), tail
        assert seen.json["detail"] == missing.json["detail"].replace("@x", "@k"), tail
    for act in ("cancel", "rerun"):
        assert api.post(f"{hidden}/{act}", authorizer=ann).status == 404
    for address in ("/v1/workflows/lab", "/v1/workflows/lab/versions/1", "/v1/workflows/lab/instants"):
        other = api.get(address.replace("lab", "abl"), authorizer=ann)
        told = api.get(address, authorizer=ann)
        assert (told.status, told.json["detail"]) == (404, other.json["detail"].replace("abl", "lab"))
    assert api.post("/v1/runs", {"workflow": "lab"}, authorizer=ann).status == 404


def test_lists_and_bulk_acts_hold_only_what_may_be_seen_and_done(api: Api) -> None:
    ann = jwt("operator:tag=finance", "viewer:workflow=lab")
    runs = [api.post("/v1/runs", {"workflow": name}, authorizer=jwt("admin")).json["run"] for name in ("sales", "lab")]

    assert {row["workflow"] for row in api.get("/v1/runs", authorizer=ann).json["runs"]} == {"sales", "lab"}
    assert {row["workflow"] for row in api.get("/v1/runs", authorizer=jwt("viewer:tag=finance")).json["runs"]} == {
        "sales"
    }
    assert [
        row["workflow"] for row in api.get("/v1/workflows", authorizer=jwt("viewer:tag=finance")).json["workflows"]
    ] == ["sales"]
    done = api.post("/v1/bulk/cancel", {"where": {"status": "running"}}, authorizer=ann).json
    assert done["done"] == [runs[0]]
    assert done["refused"] == []


def test_a_short_page_still_leads_to_the_next_one(api: Api) -> None:
    for _ in range(3):
        api.post("/v1/runs", {"workflow": "lab"}, authorizer=jwt("admin"))
    seen, cursor = [], ""
    for _ in range(10):
        page = api.get(f"/v1/runs?limit=1&cursor={cursor}", authorizer=jwt("viewer:tag=finance")).json
        seen += [row["run"] for row in page["runs"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert seen == [api.run]


def test_a_tag_in_a_document_does_not_take_over_anothers_workflow(api: Api) -> None:
    """fault 57"""
    ann = jwt("author:tag=finance")

    assert api.post("/v1/workflows", {**SALES, "owner": "eve"}, authorizer=ann).status == 201
    assert api.post("/v1/workflows", {**LAB, "tags": ["finance"]}, authorizer=ann).status == 403
    assert api.post("/v1/workflows", {**SALES, "tags": []}, authorizer=ann).status == 403
    assert api.post("/v1/workflows", {**SALES, "name": "fresh"}, authorizer=ann).status == 201
    assert api.post("/v1/plan", LAB, authorizer=ann).status == 403


def test_a_rollback_needs_the_right_on_what_comes_back(api: Api) -> None:
    admin, ann = jwt("admin"), jwt("author:tag=finance")
    api.post("/v1/workflows", {**SALES, "tags": ["secret"]}, authorizer=admin)
    api.post("/v1/workflows", {**SALES, "parallelism": 2}, authorizer=admin)

    assert api.post("/v1/workflows/sales/rollback", {"version": 2}, authorizer=ann).status == 403
    assert api.post("/v1/workflows/sales/rollback", {"version": 1}, authorizer=ann).status == 201


def test_callers_by_iam_have_what_their_role_was_given(api: Api) -> None:
    oncall = {"iam": {"userArn": "arn:aws:sts::1:assumed-role/oncall/eve", "accountId": "1"}}
    other = {"iam": {"userArn": "arn:aws:sts::1:assumed-role/other/eve", "accountId": "1"}}

    made = api.post("/v1/runs", {"workflow": "sales"}, authorizer=oncall)
    assert api.get(at(made.json["run"]), authorizer=oncall).json["requested_by"] == "assumed-role/oncall/eve"
    assert api.get("/v1/runs", authorizer=other).json["runs"] == []
    assert api.post("/v1/runs", {"workflow": "sales"}, authorizer=other).status == 404


def test_groups_of_a_user_pool_are_grants_as_well(api: Api) -> None:
    claims = {"sub": "8d5", "cognito:username": "eve", "cognito:groups": "[others runfold:operator:tag=finance]"}
    made = api.post("/v1/runs", {"workflow": "sales"}, authorizer={"jwt": {"claims": claims}})

    assert made.status == 201
    assert api.post("/v1/runs", {"workflow": "lab"}, authorizer={"jwt": {"claims": claims}}).status == 404


def test_words_that_are_no_grants_grant_nothing() -> None:
    assert grants_in(["viewer", "operator:workflow=sales", "author:tag=a-b"]) == (
        Grant("viewer"),
        Grant("operator", workflow="sales"),
        Grant("author", tag="a-b"),
    )
    assert grants_in(["root", "admin:", "admin:workflow=", "admin:wrokflow=x", "Admin", "", "admin tag=x"]) == ()


def test_a_token_opens_an_engine_and_nothing_near_it_does(copy: Callable[[], Path]) -> None:
    api = Api(copy(), token="right-token")
    statuses = [
        api.get("/v1/runs", authorization=sent).status
        for sent in (
            "Bearer right-token",
            "bearer right-token",
            "Bearer right-toke",
            "Bearer ",
            "Basic right-token",
            "Bearer é",
        )
    ]
    without = api.get("/v1/runs").status
    api.close()

    assert statuses == [200, 200, 401, 401, 401, 401]
    assert without == 401


def test_a_calendar_is_everybodys_to_read_and_takes_an_author_of_everything_to_change(api: Api) -> None:
    days = {"calendar": "days-off", "days": ["12-25", "saturday"]}
    for grants in (("viewer",), ("operator",), ("author:workflow=sales",), ("author:tag=finance",)):
        assert api.post("/v1/calendars", days, authorizer=jwt(*grants)).status == 403
    assert api.get("/v1/calendars/days-off", authorizer=jwt("admin")).status == 404
    made = api.post("/v1/calendars", days, authorizer=jwt("author"))
    assert (made.status, made.json) == (201, {"calendar": "days-off", "version": 1, "changed": True})
    assert api.post("/v1/calendars", days, authorizer=jwt("author")).status == 200
    for grants in (("viewer",), ("viewer:workflow=sales",)):
        shown = api.get("/v1/calendars/days-off", authorizer=jwt(*grants)).json
        assert (shown["days"], shown["version"]) == (days["days"], 1)
        assert [one["calendar"] for one in api.get("/v1/calendars", authorizer=jwt(*grants)).json["calendars"]] == [
            "days-off"
        ]
    wrong = api.post("/v1/calendars", {"calendar": "x", "days": ["someday"]}, authorizer=jwt("author"))
    assert wrong.problems.keys() == {"days[0]"}
    for name in ("a", "b"):
        api.post("/v1/calendars", {"calendar": name, "days": []}, authorizer=jwt("author"))
    first = api.get("/v1/calendars?limit=2", authorizer=jwt("viewer")).json
    second = api.get(f"/v1/calendars?limit=2&cursor={first['cursor']}", authorizer=jwt("viewer")).json
    assert [one["calendar"] for one in first["calendars"] + second["calendars"]] == ["a", "b", "days-off"]
    assert second["cursor"] == ""
    assert api.get("/v1/calendars?cursor=xx", authorizer=jwt("viewer")).status == 422
    unknown = {**SALES, "schedule": {"cron": "0 2 * * *", "exclude": {"calendars": ["days-of"]}}}
    refused = api.post("/v1/workflows", unknown, authorizer=jwt("admin"))
    assert refused.status == 422
    assert "did you mean days-off?" in str(refused.json)
