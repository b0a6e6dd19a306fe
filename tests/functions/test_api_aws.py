"""The API as it is deployed: what Lambda imports, over tables, buckets and logs on moto, called as API Gateway calls it."""

import hashlib
import importlib
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import boto3
import pytest

from functions.dispatch.handler import make_handler as dispatch_handler
from shared.bootstrap import utc_now
from shared.errors import InvalidInput, NotFound
from shared.executors.aws_output import SETTLE, CloudWatchLogs, S3Artifacts
from shared.ids import Handle, JobName, RunId, attempt_token, run_stream
from shared.ports import LogLine, LogPage, LogSource, Report
from tests.functions.api_world import at, event_of, jwt, reply_of
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import Context, sqs_event

GROUP = "/runfold/test/jobs"
RUN = RunId("nightly@1")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOCUMENT = {
    "name": "nightly",
    "owner": "ann",
    "tags": ["finance"],
    "jobs": [
        {
            "name": "extract",
            "type": "ecs",
            "image": "x",
            "command": ["extract"],
            "outputs": [{"path": "report.csv", "save": True}, {"path": "gone.csv", "optional": True}],
        },
        {"name": "load", "type": "ecs", "image": "x", "command": ["load"], "after": ["extract"]},
    ],
}
Call = Callable[..., Any]


@pytest.fixture
def api(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The deployed handler; admin, unless an authorizer says otherwise."""
    settings = replace(
        deployed.aws.settings,
        log_group=GROUP,
        release="1.2",
        cors_origins="https://pages.example",
        iam_grants=json.dumps({"arn:aws:sts::*:assumed-role/oncall/*": "operator:tag=finance"}),
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    sys.modules.pop("functions.api.entry", None)
    handler = importlib.import_module("functions.api.entry").handler

    def call(method: str, path: str, body: Any = None, *, authorizer: Any = None, **headers: str) -> Any:
        authorizer = jwt("admin") if authorizer is None else authorizer
        return reply_of(handler(event_of(method, path, body, authorizer=authorizer, headers=headers), Context()))

    return call


def test_a_file_for_a_run_goes_to_the_bucket_by_an_address_that_takes_these_very_bytes_and_no_others(
    deployed: Deployed, api: Call
) -> None:
    data = b"eur;1\n"
    digest, checksum = hashlib.sha256(data).hexdigest(), b64encode(hashlib.sha256(data).digest()).decode()
    inputs = [{"path": "rates.csv", "upload": "rates"}]
    job = {"name": "extract", "type": "ecs", "image": "x", "command": ["extract"], "inputs": inputs}
    assert api("POST", "/v1/workflows", {**DOCUMENT, "jobs": [job]}).status == 201
    asked = {"workflow": "nightly", "files": {"rates": {"size": len(data), "sha256": digest}}}
    told = api("POST", "/v1/uploads", asked, idempotency_key="one").json
    (file,) = told["files"]
    place = urlsplit(file["url"])
    signed = parse_qs(place.query)["X-Amz-SignedHeaders"][0].split(";")

    assert place.path == f"/runs/{quote(told['run'], safe='')}/_uploads/{digest}"
    assert signed == ["content-length", "host", "x-amz-checksum-sha256"]
    assert file["headers"] == {"Content-Length": str(len(data)), "x-amz-checksum-sha256": checksum}
    wanted = {"workflow": "nightly", "files": {"rates": digest}}
    assert api("POST", "/v1/runs", wanted, idempotency_key="one").problems.keys() == {"files.rates"}
    assert api("PUT", f"/v1/uploads/{quote(told['run'], safe='')}/{digest}").status == 404

    key = unquote(place.path.removeprefix("/"))
    boto3.client("s3").put_object(Bucket="artifacts", Key=key, Body=data, ChecksumSHA256=checksum)
    assert api("POST", "/v1/runs", wanted, idempotency_key="one").json["run"] == told["run"]
    dispatch_handler(deployed.aws.work, deployed.aws.effects)(sqs_event(*deployed.messages()), Context())
    (request,) = deployed.target.started.values()
    assert request.inputs == ({"path": "rates.csv", "artifact": f"s3://artifacts/{key}"},)


def run_to_the_end_of_extract(deployed: Deployed, api: Call) -> str:
    """Everything through the API but what targets do."""
    assert api("POST", "/v1/workflows", DOCUMENT).status == 201
    run: str = api("POST", "/v1/runs", {"workflow": "nightly"}, idempotency_key="one").json["run"]
    dispatch_handler(deployed.aws.work, deployed.aws.effects)(sqs_event(*deployed.messages()), Context())
    (token,) = deployed.target.started
    address = f"s3://artifacts/runs/{run}/extract/1/files"
    files = {"report.csv": f"{address}/report.csv", "gone.csv": f"{address}/gone.csv"}
    boto3.client("s3").put_object(Bucket="artifacts", Key=f"runs/{run}/extract/1/files/report.csv", Body=b"1;2\n")
    report = Report(
        token, RunId(run), JobName("extract"), 1, "succeeded", handle=Handle(f"task/{token}"), exit_code=0, files=files
    )
    deployed.aws.work.record([report])
    for stream in ("workflow#nightly", run_stream(RunId(run))):
        deployed.aws.settle(deployed.aws.transact.current(stream))  # type: ignore[arg-type]
    return run


def test_a_run_is_asked_for_shown_explained_and_listed(deployed: Deployed, api: Call) -> None:
    run = run_to_the_end_of_extract(deployed, api)

    shown = api("GET", at(run))
    assert [job["status"] for job in shown.json["jobs"]] == ["succeeded", "queued"]
    assert api("GET", at(run), if_none_match=shown.headers["ETag"]).status == 304
    assert shown.headers["ETag"].endswith('-1.2"')
    assert api("GET", f"{at(run)}?as_of=1").json["jobs"][0]["attempts"][0]["status"] != "succeeded"
    assert [one["run"] for one in api("GET", "/v1/runs?workflow=nightly&limit=1").json["runs"]] == [run]
    assert api("GET", f"{at(run)}/jobs/load/why").json["conditions"]
    assert api("GET", f"{at(run)}/events").json["commits"][0]["by"] == "dora"
    assert api("GET", "/v1/health").json == {"status": "ok", "release": "1.2"}
    assert api("POST", f"{at(run)}/cancel", {"reason": "enough"}).json["run"] == run


def test_lists_are_read_by_the_page(deployed: Deployed, api: Call) -> None:
    run_to_the_end_of_extract(deployed, api)
    asked = {api("POST", "/v1/runs", {"workflow": "nightly"}).json["run"] for _ in range(2)}
    for run in asked:
        deployed.aws.settle(deployed.aws.transact.current(run_stream(RunId(run))))
    found, cursor = [], ""
    for _ in range(4):
        page = api("GET", f"/v1/runs?limit=1&cursor={cursor}").json
        found += [one["run"] for one in page["runs"]]
        if not (cursor := page["cursor"]):
            break
    assert len(found) == len(set(found)) == 3


def test_grants_come_from_claims_groups_and_arns(deployed: Deployed, api: Call) -> None:
    run = run_to_the_end_of_extract(deployed, api)
    group = {"jwt": {"claims": {"username": "eve", "cognito:groups": "[runfold:viewer:tag=finance other]"}}}
    on_call = {"iam": {"userArn": "arn:aws:sts::1:assumed-role/oncall/fred"}}
    stranger = {"iam": {"userArn": "arn:aws:sts::1:assumed-role/other/fred"}}

    assert api("GET", at(run), authorizer=group).status == 200
    assert api("POST", f"{at(run)}/cancel", {}, authorizer=group).status == 403
    assert api("GET", at(run), authorizer=stranger).status == 404
    assert api("POST", f"{at(run)}/cancel", {}, authorizer=on_call).status == 200
    assert api("GET", f"{at(run)}/events").json["commits"][-1]["by"] == "assumed-role/oncall/fred"
    assert api("GET", at(run), authorizer={}).status == 401


def test_pages_of_a_configured_origin_may_call(deployed: Deployed, api: Call) -> None:
    told = api("GET", "/v1/health", origin="https://pages.example")
    assert told.headers["Access-Control-Allow-Origin"] == "https://pages.example"
    assert "Access-Control-Allow-Origin" not in api("GET", "/v1/health", origin="https://evil.example").headers


def test_files_are_fetched_from_an_address_that_is_good_for_minutes(deployed: Deployed, api: Call) -> None:
    run = run_to_the_end_of_extract(deployed, api)
    files = api("GET", f"{at(run)}/files").json["files"]
    told = api("GET", files[0]["href"])
    url = urlsplit(told.headers["Location"])

    assert [(one["path"], one["size"]) for one in files] == [("report.csv", 4), ("gone.csv", None)]
    assert told.status == 302
    assert url.path.endswith(f"/runs/{run}/extract/1/files/report.csv".replace("@", "%40"))
    query = parse_qs(url.query)
    assert query["response-content-type"] == ["application/octet-stream"]
    assert int(query.get("X-Amz-Expires", ["300"])[0]) <= 300
    assert api("GET", files[1]["href"]).status == 404


def test_output_of_a_container_is_read_from_its_stream(deployed: Deployed, api: Call) -> None:
    run = run_to_the_end_of_extract(deployed, api)
    logs = Written()
    (token,) = [token for token, request in deployed.target.started.items() if request.job == "extract"]
    logs.write(f"runfold/main/{token}", "one", "two")
    address = f"{at(run)}/jobs/extract/logs"
    first = api("GET", f"{address}?bytes=1").json
    rest = api("GET", f"{address}?cursor={first['cursor']}").json

    assert [one["text"] for one in first["lines"] + rest["lines"]] == ["one", "two"]
    assert api("GET", f"{address}?cursor={rest['cursor']}").json["lines"] == []
    assert api("GET", f"{address}?cursor=nonsense").problems.keys() == {"cursor"}
    assert api("GET", f"{at(run)}/jobs/load/logs").json["complete"] is False


# --- the adapters by themselves ---------------------------------------------------------------------------------------------


class Written:
    """A log group that jobs write into."""

    def __init__(self) -> None:
        self.client: Any = boto3.client("logs")
        self.client.create_log_group(logGroupName=GROUP)
        self.at = utc_now().replace(microsecond=0) - timedelta(minutes=5)

    def write(self, stream: str, *lines: str, after: float = 0.0) -> None:
        """A millisecond apart, beginning so many seconds later."""
        if not self.client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=stream)["logStreams"]:
            self.client.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        begin = round((self.at.timestamp() + after) * 1000)
        events = [{"timestamp": begin + number, "message": line} for number, line in enumerate(lines)]
        self.client.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)

    def reader(self, *, now: datetime | None = None) -> CloudWatchLogs:
        return CloudWatchLogs(self.client, GROUP, now=lambda: now or self.at)


@pytest.fixture
def written(deployed: Deployed) -> Iterator[Written]:
    assert deployed.queue_url
    return Written()  # type: ignore[return-value]


def source(target: str = "ssm", handle: str | None = "c0ffee", *, ended_at: datetime | None = None) -> LogSource:
    return LogSource(RUN, JobName("extract"), 1, target, Handle(handle) if handle else None, ended_at)


def read(logs: CloudWatchLogs, source_: LogSource, cursor: str = "", **more: Any) -> LogPage:
    return logs.page(source_, **{"stream": None, "cursor": cursor, "bytes_max": 1_000, **more})


def texts(lines: tuple[LogLine, ...]) -> list[str]:
    return [line.text for line in lines]


def on_host(host: str, stream: str) -> str:
    return f"c0ffee/{host}/aws-runShellScript/std{stream}"


def test_output_of_hosts_is_told_apart_by_stream_and_host(written: Written) -> None:
    written.write(on_host("i-1", "out"), "one", "three")
    written.write(on_host("i-1", "err"), "two", after=0.0005)
    alone = read(written.reader(), source()).lines
    written.write(on_host("i-2", "out"), "four", after=1)
    both = read(written.reader(), source()).lines

    assert {line.host for line in alone} == {""}
    assert [line.host for line in both if line.text == "four"] == ["i-2"]
    assert [line.text for line in read(written.reader(), source(), stream="err").lines] == ["two"]


def test_pages_lose_and_repeat_nothing_while_streams_grow_and_appear(written: Written) -> None:
    logs, found, cursor = written.reader(), [], ""
    for number in range(6):
        written.write(on_host("i-1", "out"), f"a{number}", f"b{number}", after=number)
        # What another host sends may be older than what was read already.
        written.write(on_host(f"i-{number + 2}", "err"), f"c{number}", after=number - 2)
        page = read(logs, source(), cursor, bytes_max=1)
        found += texts(page.lines)
        cursor = page.cursor
    while (page := read(logs, source(), cursor, bytes_max=1)).lines:
        found += texts(page.lines)
        cursor = page.cursor

    assert sorted(found) == sorted(f"{letter}{number}" for letter in "abc" for number in range(6))
    assert [one for one in found if one[0] != "c"] == [f"{letter}{number}" for number in range(6) for letter in "ab"]


def test_many_lines_of_the_same_moment_are_read_by_the_page(written: Written) -> None:
    stream = on_host("i-1", "out")
    for number in range(5):
        written.write(stream, f"{number}")
    logs, cursor, found = written.reader(), "", []
    for _ in range(6):
        page = read(logs, source(), cursor, bytes_max=1)
        found += texts(page.lines)
        cursor = page.cursor
    assert found == ["0", "1", "2", "3", "4"]


def test_what_the_wrapper_tells_us_is_no_output(written: Written) -> None:
    token = attempt_token(RUN, JobName("extract"), 1)
    written.write(on_host("i-1", "out"), "done", f"runfold {token} exit 0")
    assert texts(read(written.reader(), source()).lines) == ["done"]


def test_output_is_complete_only_when_what_is_under_way_must_have_come(written: Written) -> None:
    written.write(on_host("i-1", "out"), "one")
    ended = source(ended_at=written.at)
    assert not read(written.reader(now=written.at + SETTLE / 2), ended).complete
    assert read(written.reader(now=written.at + SETTLE), ended).complete
    assert not read(written.reader(), source()).complete


@pytest.mark.parametrize(
    ("source_", "group", "reason"),
    [
        (source(ended_at=NOON), GROUP, "wrote nothing"),
        (source("ecs", "task/1", ended_at=NOON), GROUP, "wrote nothing"),
        (source(handle=None, ended_at=NOON), GROUP, "no target is known"),
        (source(), "", "keeps no output"),
        (source(), "/elsewhere", "no log group"),
    ],
)
def test_output_that_is_not_there_says_why(written: Written, source_: LogSource, group: str, reason: str) -> None:
    logs = CloudWatchLogs(written.client, group, now=lambda: written.at)
    with pytest.raises(NotFound, match=reason):
        read(logs, source_)


def test_an_attempt_under_way_may_have_written_nothing_so_far(written: Written) -> None:
    for one in (source(), source(handle=None), source("ecs", "task/1")):
        assert read(written.reader(), one) == LogPage((), "", complete=False)


def test_a_cursor_of_something_else_is_refused(written: Written) -> None:
    for cursor in ("x", "0123-1-1", "abcdef-1", "__"):
        with pytest.raises(InvalidInput):
            read(written.reader(), source(), cursor)


@pytest.mark.parametrize(
    "address",
    [
        "s3://artifacts/runs/other@1/a/1/files/secret",
        "s3://artifacts/runs/nightly@1/../other@1/a/1/files/secret",
        "s3://documents/runs/nightly@1/a/1/files/secret",
        "s3://artifacts/runs/nightly@10/a",
        "runs/nightly@1/a/1/files/secret",
        "/etc/passwd",
    ],
)
def test_no_address_leads_out_of_the_run(deployed: Deployed, address: str) -> None:
    """fault 57"""
    assert deployed.queue_url
    s3: Any = boto3.client("s3")
    for key in ("runs/other@1/a/1/files/secret", "runs/nightly@10/a"):
        s3.put_object(Bucket="artifacts", Key=key, Body=b"x")
    artifacts = S3Artifacts(s3, "artifacts")
    assert artifacts.size(RUN, address) is None
    with pytest.raises(NotFound):
        artifacts.fetch(RUN, address)
