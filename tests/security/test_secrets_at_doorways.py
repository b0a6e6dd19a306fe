"""A secret that comes to a doorway leaves no trace behind it: functions on AWS, the API, the command and its engine (I13)."""

import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from traceback import format_exception
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from cli.crashing import Reports, keep_report
from functions.api.handler import make_handler as api_handler
from functions.api.principals import local_principal
from functions.api.service import ApiService
from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.relay.handler import make_handler as relay_handler
from functions.scheduler.handler import make_handler as scheduler_handler
from functions.status.handler import make_handler as status_handler
from functions.telemetry import logger_of
from shared.bootstrap import utc_now
from shared.errors import StoreUnavailable, TargetRefused
from shared.ids import run_stream
from shared.ports import Report
from tests.cli.calling import Runfold, ssm
from tests.functions.api_world import event_of, reply_of
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import NIGHTLY, Context, document, sqs_event, start_run, stream_event, uploaded
from tests.security.planted import NAMED, TEXTS, VALUES, assert_clean

SOME = {what: TEXTS[what] for what in ("a GitHub token", "a private key", "a password", "a password in an address")}
"""Where the doorway is what is tested: one of each way of recognising them."""


def stored(deployed: Deployed) -> list[Any]:
    """Both tables, the documents bucket and the queue."""
    dynamodb: Any = boto3.client("dynamodb")
    s3: Any = boto3.client("s3")
    found: list[Any] = [dynamodb.scan(TableName=table)["Items"] for table in ("events", "views")]
    for one in s3.list_objects_v2(Bucket="documents").get("Contents", []):
        # What was uploaded lies there as its author left it.
        if not one["Key"].startswith("workflows/"):
            found.append(s3.get_object(Bucket="documents", Key=one["Key"])["Body"].read())
    return [*found, deployed.messages()]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the functions log: their handlers keep the stream that there was when they were imported."""
    stream, kept = io.StringIO(), []
    for name in ("api", "dispatch", "register", "relay", "scheduler", "status", "test"):
        for handler in logger_of(name).handlers:
            assert isinstance(handler, logging.StreamHandler)
            kept.append((handler, handler.setStream(stream)))
    yield stream
    for handler, before in kept:
        if before is not None:
            handler.setStream(before)


# --- functions --------------------------------------------------------------------------------------------------------


def test_i13_an_upload_with_a_secret_leaves_no_trace(deployed: Deployed, log: io.StringIO) -> None:
    s3: Any = boto3.client("s3")
    handler = register_handler(deployed.aws.uploads, deployed.aws.control)
    for text in SOME.values():
        data = document(description=text, owner=f"ann {text}")
        s3.put_object(Bucket="documents", Key="workflows/nightly.json", Body=data)
        answer = handler(uploaded("workflows/nightly.json"), Context())
        assert answer["rejected"] == "workflows/nightly.json"
        assert "description: holds what looks like" in log.getvalue()
        assert_clean(text, answer, log.getvalue(), *stored(deployed))


@pytest.mark.parametrize("what", SOME)
def test_i13_what_a_target_and_a_job_say_leaves_no_trace_on_aws(
    deployed: Deployed, what: str, log: io.StringIO
) -> None:
    text = SOME[what]
    dispatched = dispatch_handler(deployed.aws.work, deployed.aws.effects)
    relayed = relay_handler(deployed.aws.reader, deployed.aws.settle)
    reported = start_run(deployed)
    dispatched(sqs_event(*deployed.messages()), Context())
    request = next(iter(deployed.target.started.values()))
    outputs = {"said": f"it: {text}"}
    report = Report(request.token, reported, request.job, request.attempt, "succeeded", reason=text, outputs=outputs)
    handler = status_handler(
        lambda _: [report], deployed.aws.work.record, deployed.aws.effects, side_by_side=deployed.aws.side_by_side
    )
    handler(sqs_event("{}"), Context())
    refused = deployed.aws.control.request_run(NIGHTLY, {}, by="ann", note=text).run
    deployed.target.start = _raising(TargetRefused(f"no task with {text}"))  # type: ignore[method-assign]
    dispatched(sqs_event(*deployed.messages()), Context())
    relayed(stream_event(run_stream(reported), run_stream(refused)), Context())
    assert deployed.aws.loader.run(reported).outcome == "failed"
    found = stored(deployed)
    assert "no task with" in str(found)
    assert_clean(text, log.getvalue(), *found)


def _raising(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


class Registry:
    def __init__(self, error: Exception) -> None:
        self.upload = self.upload_removed = _raising(error)

    def read(self, key: str) -> tuple[bytes, str]:
        return b"{}", "etag"


def _one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


def escaping(function: str, error: Exception) -> Any:
    """A call of the function in which something that is no error of ours goes wrong."""
    fails: Any = _raising(error)
    nothing: Any = lambda *_, **__: []  # noqa: E731
    effect = '[{"effect":"AdvanceRun","run":"nightly@1"}]'
    match function:
        case "register":
            registry = Registry(error)
            return lambda: register_handler(registry, registry)(uploaded("workflows/a.json"), Context())
        case "dispatch":
            return lambda: dispatch_handler(fails, nothing)(sqs_event(effect), Context())
        case "status":
            handler = status_handler(nothing, fails, nothing, side_by_side=_one_by_one)
            return lambda: handler(sqs_event("{}"), Context())
        case "relay":
            handler = relay_handler(fails, nothing)
            return lambda: handler(stream_event("run#nightly@1"), Context())
        case _:
            handler = scheduler_handler(fails, lambda: 0, nothing)
            return lambda: handler({}, Context())


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("function", ["register", "dispatch", "status", "scheduler"])
def test_i13_what_escapes_a_function_is_neither_logged_nor_raised_with_its_secrets(
    function: str, what: str, log: io.StringIO
) -> None:
    """Lambda prints what escapes; the cause of an error is printed with it."""
    text = TEXTS[what]
    error = ValueError(f"bad value {text}")
    error.__cause__ = KeyError(f"because of {text}")
    with pytest.raises(RuntimeError, match=r"bad value .*\(withheld: ") as escaped:
        escaping(function, error)()
    assert "because of" in log.getvalue()
    assert_clean(text, log.getvalue(), "".join(format_exception(escaped.value)))


@pytest.mark.parametrize("what", TEXTS)
def test_i13_a_record_that_fails_alone_is_told_of_without_its_secrets(
    what: str, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = escaping("relay", ValueError(TEXTS[what]))()
    assert len(answer["batchItemFailures"]) == 1
    logged = capfd.readouterr()
    assert_clean(TEXTS[what], answer, log.getvalue(), logged.out, logged.err)


def test_i13_what_escapes_without_a_secret_is_raised_as_it_is() -> None:
    error = ZeroDivisionError("inside")
    with pytest.raises(ZeroDivisionError) as escaped:
        escaping("scheduler", error)()
    assert escaped.value is error


@pytest.mark.parametrize("what", [*VALUES, *NAMED, "a password in an address", "a header"])
def test_i13_log_lines_are_json_without_secrets(what: str, log: io.StringIO) -> None:
    name, value = NAMED.get(what) or ("said", TEXTS[what])
    logger = logger_of("test")
    with logger.append_context_keys(run="nightly@1"):
        logger.warning("it said %s", f"{name}='{value}'", extra={name: value})
        try:
            raise ValueError(f"{name}='{value}'")
        except ValueError:
            logger.exception("and failed")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["run"] for line in lines] == ["nightly@1", "nightly@1"]
    assert lines[0]["message"].startswith("it said ")
    assert_clean(value, lines)


def test_i13_metrics_hold_numbers_and_names_of_ours(deployed: Deployed, capfd: pytest.CaptureFixture[str]) -> None:
    run = start_run(deployed)
    deployed.messages()
    relay_handler(deployed.aws.reader, deployed.aws.settle)(stream_event(run_stream(run)), Context())
    handler = scheduler_handler(lambda: 1, lambda: 0, lambda _: None)
    handler({}, Context())
    for line in capfd.readouterr().out.splitlines():
        made = json.loads(line)
        if "_aws" in made:
            values = [value for name, value in made.items() if name not in ("_aws", "service")]
            assert all(isinstance(value, list | float | int) for value in values), made


# --- the API ----------------------------------------------------------------------------------------------------------


def api_on(queries: Any, control: Any, token: str | None = None) -> Any:
    handler = api_handler(
        ApiService(
            queries=queries,
            control=control,
            authenticate=local_principal("carol", token),
            now=utc_now,
            release="1",
        )
    )

    def call(method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = more.pop("headers", {})
        return reply_of(handler(event_of(method, path, body, headers=headers, **more), None))

    return call


def test_i13_whatever_a_caller_sends_comes_back_without_its_secrets(
    deployed: Deployed, log: io.StringIO, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    deployed.aws.control.register(document(), name="nightly.json", by="ann")
    run = quote(deployed.aws.control.request_run(NIGHTLY, {}, by="ann").run, safe="")
    deployed.messages()
    for text in SOME.values():
        replies = sent(api_on(deployed.aws.queries, deployed.aws.control), run, text)
        assert all(reply.status < 500 for reply in replies), replies
        assert sum(reply.status >= 400 for reply in replies) > 12
        logged = capfd.readouterr()
        told = [(reply.data, reply.headers) for reply in replies]
        assert_clean(text, *told, log.getvalue(), logged.out, logged.err, caplog.text, *stored(deployed))


def sent(api: Any, run: str, text: str) -> list[Any]:
    """Every part of a request, with that in it."""
    in_path = quote(text, safe="")
    return [
        api("GET", f"/v1/workflows/{in_path}"),
        api("GET", f"/v1/runs/{in_path}"),
        api("GET", f"/v1/runs/{run}/jobs/{in_path}"),
        api("GET", f"/v1/runs/{run}/jobs/{in_path}/logs"),
        api("GET", f"/v1/{in_path}"),
        api("GET", "/v1/runs", query=f"cursor={in_path}"),
        api("GET", "/v1/runs", query=f"status={in_path}"),
        api("GET", "/v1/runs", query=f"{in_path}=1"),
        api("GET", "/v1/runs", headers={"authorization": f"Bearer {text.splitlines()[0]}", "x-other": text}),
        api("POST", "/v1/runs", {"workflow": text}),
        api("POST", "/v1/runs", {"workflow": "nightly", "parameters": {"password": text}}),
        api("POST", "/v1/runs", {"workflow": "nightly", text: 1}),
        api("POST", "/v1/runs", {"workflow": "nightly"}, headers={"idempotency-key": text}),
        api("POST", "/v1/runs", raw=f"{{{text}"),
        api("POST", "/v1/workflows", json.loads(document(description=text))),
        api("POST", "/v1/workflows", {"name": text, "jobs": text}),
        api("POST", f"/v1/runs/{run}/cancel", {"reason": text, "job": text}),
        api("POST", "/v1/workflows/nightly/pause", {"reason": text}),
        api(text, "/v1/runs"),
    ]


@pytest.mark.parametrize("what", SOME)
@pytest.mark.parametrize("kind", [StoreUnavailable, ValueError])
def test_i13_what_fails_inside_is_told_and_logged_without_its_secrets(
    kind: type[Exception], what: str, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    text = SOME[what]

    class Queries:
        def __getattr__(self, name: str) -> Any:
            return _raising(kind(f"inside: {text}"))

    logger = logging.getLogger("runfold.api")
    # As the function's entry does.
    (handler,) = logger_of("api").handlers
    logger.addHandler(handler)
    propagates, logger.propagate = logger.propagate, False
    try:
        reply = api_on(Queries(), None)("GET", "/v1/runs")
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
    assert reply.status == (503 if kind is StoreUnavailable else 500)
    logged = capfd.readouterr()
    assert kind is StoreUnavailable or "inside: " in log.getvalue()
    assert_clean(text, reply.data, log.getvalue(), logged.out, logged.err)


@pytest.mark.parametrize("what", SOME)
def test_i13_a_wrong_token_is_not_repeated(
    what: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """fault 57"""
    text = SOME[what].splitlines()[0]
    api = api_on(None, None, token="the-right-one-" + "x" * 30)
    for header in (f"Bearer {text}", text, f"Basic {text}", f"bearer  {text}"):
        reply = api("GET", "/v1/runs", headers={"authorization": header})
        assert reply.status == 401
        logged = capfd.readouterr()
        assert text not in str((reply.data, reply.headers, logged.out, logged.err, caplog.text))


# --- the command and its engine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", SOME)
def test_i13_the_command_repeats_no_secret(runfold: Runfold, what: str) -> None:
    text = SOME[what]
    bad = {"name": "bad", "description": text, "jobs": [ssm("a", "true", environment={"X": text})]}
    runfold.register(ssm("a", "true"), parameters={"type": "object", "properties": {"p": {"type": "string"}}})
    run = runfold.run("demo", "--at", "2h", "--note", text)
    calls: Sequence[tuple[str, ...]] = [
        ("validate", runfold.file("bad.json", bad)),
        ("plan", runfold.file("bad.json", bad)),
        ("register", runfold.file("bad.json", bad)),
        ("register", runfold.file("bad.yaml", f"name: {text}\n")),
        ("run", "demo", "--param", f"p={text}"),
        ("run", "demo", "--param", text),
        ("run", "demo", "--params-file", runfold.file("p.json", {"p": text})),
        ("run", text),
        ("show", text),
        ("logs", run, text),
        ("mark", run, "a", "failed", "--reason", text),
        ("runs", "--cursor", text),
        ("pause", "demo", "--reason", text),
        ("cancel", run, "--reason", text),
        ("show", run),
        ("events", run),
        ("why", run),
        ("workflows", "demo"),
        ("--api", f"http://user:{text.split('=')[-1].splitlines()[0]}@127.0.0.1:1", "runs"),
    ]
    for words in calls:
        answer = runfold(*words)
        assert_clean(text, answer.out, answer.err)
    for name in ("bad.json", "bad.yaml", "p.json"):
        (runfold.folder / name).unlink()
    assert_clean(text, runfold.home)


def test_i13_what_a_job_prints_is_its_own_and_recorded_nowhere(
    runfold: Runfold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28: with real processes of the engine on one machine."""
    token, password = VALUES["a GitHub token"], NAMED["a password"][1]
    monkeypatch.setenv("PLANTED_TOKEN", token)
    monkeypatch.setenv("PLANTED_PASSWORD", password)
    secrets = {"T": "env:PLANTED_TOKEN", "P": "env:PLANTED_PASSWORD"}
    runfold.register(
        ssm("leaks", """printf '{"at": ["%s"]}' "$T" > "$RUNFOLD_OUTPUTS"; echo "printed $T" """, secrets=secrets),
        ssm("names", """printf '{"db_password": "%s"}' "$P" > "$RUNFOLD_OUTPUTS" """, secrets=secrets),
        ssm("fails", 'echo "password=$P" >&2; exit 3', secrets=secrets),
    )
    run = runfold.finished()
    assert [job["status"] for job in run["jobs"]] == ["failed", "failed", "failed"]
    assert "a GitHub token is in its outputs.at[0]" in run["jobs"][0]["reason"]
    assert "a password is in its outputs.db_password" in run["jobs"][1]["reason"]
    shown = [runfold.good(*words, run["run"]).out for words in (("show",), ("show", "--json"), ("events",), ("why",))]
    database = [path.read_bytes() for path in runfold.home.glob("runfold.db*")]
    assert database
    for secret in (token, password):
        assert_clean(secret, run, *shown, *database)
    assert f"printed {token}" in runfold.good("logs", run["run"], "leaks").out
    assert runfold("verify").code == 0


@pytest.mark.parametrize("what", TEXTS)
def test_i13_a_report_of_a_bug_holds_no_secret(tmp_path: Path, what: str) -> None:
    text = TEXTS[what]
    error = ValueError(f"inside: {text}")
    error.__cause__ = KeyError(text)
    assert "inside: " in Path(keep_report(tmp_path, error)).read_text()
    reports = Reports(tmp_path)
    lines = [
        reports.line(logging.LogRecord("runfold", logging.ERROR, "", 1, f"left alone: {text}", None, None)),
        reports.line(logging.LogRecord("runfold", logging.ERROR, "", 1, "%s", (text,), (ValueError, error, None))),
    ]
    assert_clean(text, tmp_path, *lines)
