"""Hostile names, shapes, sizes, shell text and templates at the doorways of a deployment: each is refused or means nothing, and
none fails the batch it came with, starts work, changes history, or leads to what is somebody else's (faults 51, 53 and 57).

The table in this folder's `__init__.py` says which doorway is tested where.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from functions.api.routes import ROUTES
from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.relay.handler import make_handler as relay_handler
from functions.scheduler.handler import make_handler as scheduler_handler
from functions.status.handler import make_handler as status_handler
from shared.errors import NotFound
from tests.cli.calling import Runfold, ssm
from tests.functions.conftest import Deployed
from tests.functions.test_doorways import NIGHTLY, Context, document, sqs_event, start_run, stream_event, uploaded
from tests.security.test_secrets_at_doorways import api_on
from tests.security.test_secrets_in_events import LOAD, Here, Quoting

NAMES: dict[str, str] = {
    "empty": "",
    "a dot": ".",
    "up": "../../../etc/passwd",
    "up inside": "nightly@1/../../other@1",
    "up encoded": "..%2f..%2fetc",
    "absolute": "/etc/passwd",
    "home": "~root",
    "backslash": "..\\..\\x",
    "quotes": "a'b\"c",
    "newline": "a\nb",
    "carriage return": "a\r\nX-Injected: yes",
    "NUL": "a\0b",
    "escape": "\x1b[2J",
    "shell": "$(touch pwned)`touch pwned`; rm -rf /",
    "systems manager": "{{ssm:secret}}",
    "template": "{{ ''.__class__.__mro__ }}",
    "SQL": "x' OR '1'='1",
    "separators": "run#nightly@1#x",
    "wildcard": "*",
    "another kind": "workflow#nightly",
    "right to left": "a\u202etxt.exe",
    "not composed": "e\u0301" * 30,
    "case": "NIGHTLY",
    "long": "x" * 5_000,
    "format": "%s%n{0.__class__}",
    "number": "9" * 400,
    "none": "null",
}
OTHERS: tuple[Any, ...] = (None, True, 1, 1.5, [], {}, [[]], {"a": {}})
"""Where a name is expected."""
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nested": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "NaN": b'{"name": NaN}',
    "infinity": b'{"name": 1e999}',
    "a key twice": b'{"name": "a", "name": "b"}',
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "invalid UTF-8": b'{"name": "\xff"}',
    "half a character": b'{"name": "\\ud800"}',
    "long number": b'{"name": ' + b"9" * 100_000 + b"}",
    "aliases": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    "a tag": b"name: !!python/object/apply:os.system ['touch pwned']\n",
    "prototype": b'{"__proto__": {"x": 1}, "__class__": "y", "constructor": 1}',
    "50 MB": b" " * 50_000_000,
}


def job(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "type": "ecs", "image": "i", **fields}


DOCUMENTS: dict[str, Any] = {
    "itself before itself": [job(after=["a"])],
    "a cycle": [job(after=["b"]), job(name="b", after=["a"])],
    "a job twice": [job(), job()],
    "names that differ in case": [job(name="A"), job(name="a")],
    "missing": [job(after=["nowhere"])],
    "no jobs": [],
    "jobs that are none": [1, None, "x", [], {}],
    "a path up": [job(outputs=[{"path": "../../x"}])],
    "an absolute path": [job(inputs=[{"path": "/etc/passwd", "content": "x"}])],
    "attributes": [job(command=["{{ params.__class__ }}"])],
    "a call": [job(command=["{{ run.upper() }}"])],
    "Systems Manager": [ssm("a", "echo {{ssm:secret}}")],
}


@pytest.fixture
def here() -> Here:
    return Here(Quoting(True))


@pytest.fixture
def reached(deployed: Deployed) -> Iterator[Deployed]:
    """A deployment with a run under way; afterwards its history is as it was, and nothing was asked of any target."""
    start_run(deployed)
    deployed.messages()
    items = everything(deployed)
    yield deployed
    assert everything(deployed) == items
    assert deployed.target.started == {}
    assert deployed.target.stopped == []


def everything(deployed: Deployed) -> list[Any]:
    dynamodb: Any = boto3.client("dynamodb")
    items = dynamodb.scan(TableName="events")["Items"]
    return sorted(items, key=lambda item: (item["stream"]["S"], int(item["version"]["N"])))


# --- uploads ----------------------------------------------------------------------------------------------------------


class Objects:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, key: str) -> tuple[bytes, str]:
        return self._data, "etag"


@pytest.mark.parametrize("what", NAMES)
def test_fault_57_an_uploads_name_is_only_a_name(here: Here, what: str) -> None:
    key = f"workflows/{NAMES[what]}.json"
    handler = register_handler(Objects(document(name="other")), here.node.control)
    assert handler(uploaded(key), Context()) == {"registered": "other", "version": 1}
    handler = register_handler(Objects(b"{"), here.node.control)
    assert handler(uploaded(key), Context()) == {"rejected": key, "problems": 1}
    assert sorted(here.world.store.streams("workflow")) == ["workflow#nightly", "workflow#other"]


@pytest.mark.parametrize("ending", ["json", "yaml"])
@pytest.mark.parametrize("what", TEXTS)
def test_fault_51_no_uploads_text_does_more_than_be_refused(here: Here, what: str, ending: str) -> None:
    key = f"workflows/x.{ending}"
    handler = register_handler(Objects(TEXTS[what]), here.node.control)
    assert handler(uploaded(key), Context())["rejected"] == key
    assert here.world.store.streams("workflow") == ["workflow#nightly"]
    assert len(here.world.store.read(here.world.store.streams("document")[0])[0].body) < 60_000


@pytest.mark.parametrize("what", DOCUMENTS)
def test_faults_51_and_53_no_uploads_jobs_do_more_than_be_refused(here: Here, what: str) -> None:
    data = json.dumps({"name": "x", "jobs": DOCUMENTS[what]}).encode()
    assert "rejected" in register_handler(Objects(data), here.node.control)(uploaded("workflows/x.json"), Context())
    assert here.world.store.streams("workflow") == ["workflow#nightly"]


@pytest.mark.parametrize("what", [name for name in NAMES if name != "case"])
def test_fault_51_no_document_gives_a_workflow_or_job_such_a_name(here: Here, what: str) -> None:
    for found in (
        {"name": NAMES[what], "jobs": [job()]},
        {"name": "x", "jobs": [job(name=NAMES[what])]},
        {"name": "x", "jobs": [job(environment={f"{NAMES[what]}=": "x"})]},
    ):
        handler = register_handler(Objects(json.dumps(found).encode()), here.node.control)
        if what in ("none", "long", "number") and handler(uploaded("workflows/x.json"), Context()).get("registered"):
            assert what == "none"
            continue
        assert "rejected" in handler(uploaded("workflows/x.json"), Context()), found


# --- messages, events, records, rings ---------------------------------------------------------------------------------


def effects(name: Any) -> list[Any]:
    return [
        {"effect": kind, "run": name, "job": name, "attempt": attempt, "workflow": name, "handle": name}
        for kind in ("StartAttempt", "StopAttempt", "ObserveAttempt")
        for attempt in (1, -1, 0, 2**70, "1", None)
    ] + [
        {"effect": "AdvanceRun", "run": name},
        {"effect": "OpenRun", "run": name},
        {"effect": "TellWorkflow", "run": name, "workflow": name},
        {"effect": "TickWorkflow", "workflow": name},
        {"effect": "CheckHolders", "workflow": name},
        {"effect": name},
        {"effect": "__class__", "run": name},
    ]


def test_faults_51_and_57_no_message_on_the_queue_does_harm(reached: Deployed) -> None:
    """fault 57: runs, jobs and workflows of nobody."""
    handler = dispatch_handler(reached.aws.work, reached.aws.effects)
    texts = [data.decode(errors="replace") for what, data in TEXTS.items() if what != "50 MB"]
    answer = handler(sqs_event(*texts), Context())
    harmless = {str(number) for number, text in enumerate(texts) if text == "[]"}
    failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
    assert failed == {str(number) for number in range(len(texts))} - harmless
    for name in (*NAMES.values(), *OTHERS):
        bodies = [json.dumps([effect]) for effect in effects(name)]
        handler(sqs_event(*bodies), Context())
    reached.messages()


def happened(name: Any) -> list[dict[str, Any]]:
    """Events of targets, in the shapes they have and in none."""
    task = {
        "taskArn": f"arn:aws:ecs:us-east-1:123456789012:task/x/{name}",
        "startedBy": name,
        "lastStatus": name,
        "containers": [{"name": name, "exitCode": name}],
        "tags": [{"key": "runfold:run", "value": name}, {"key": "runfold:job", "value": name}],
        "overrides": {"containerOverrides": [{"environment": [{"name": "RUNFOLD_RUN", "value": name}]}]},
        "group": name,
        "version": name,
    }
    return [
        {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": task},
        {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": name},
        {"source": "aws.emr", "detail-type": "EMR Step Status Change", "detail": {"stepId": name, "clusterId": name}},
        {"source": "aws.emr", "detail-type": "EMR Cluster State Change", "detail": {"clusterId": name, "name": name}},
        {
            "source": "aws.ssm",
            "detail-type": "EC2 Command Status-change Notification",
            "detail": {"command-id": name, "status": name},
        },
        {"source": name, "detail-type": name, "detail": {name if isinstance(name, str) else "x": name}},
        {
            "source": "aws.emr-serverless",
            "detail-type": "EMR Serverless Job Run State Change",
            "detail": {"jobRunId": name},
        },
    ]


def test_faults_51_and_57_no_event_of_a_target_does_harm(reached: Deployed) -> None:
    """Whoever may put events on the bus can make us look, and no more."""
    # The real ones, for they read events; what they ask of ECS, EMR and SSM is answered by moto, where there is nothing.
    del vars(reached.aws)["executors"]
    handler = status_handler(
        reached.aws.events, reached.aws.work.record, reached.aws.effects, side_by_side=reached.aws.side_by_side
    )
    texts = [data.decode(errors="replace") for what, data in TEXTS.items() if what != "50 MB"]
    assert handler(sqs_event(*texts), Context())["batchItemFailures"]
    for name in (*NAMES.values(), *OTHERS):
        handler(sqs_event(*(json.dumps(event) for event in happened(name))), Context())
    reached.messages()


def test_fault_57_no_record_of_the_stream_and_no_ring_does_harm(reached: Deployed) -> None:
    relay = relay_handler(reached.aws.reader, reached.aws.settle)
    names = [f"{kind}{name}" for name in NAMES.values() for kind in ("", "run#", "workflow#", "document#", "pool#")]
    relay(stream_event(*names), Context())
    scheduler = scheduler_handler(lambda: 0, lambda: 0, reached.aws.admission.tick)
    for name in (*NAMES.values(), *OTHERS):
        with suppress(NotFound):
            scheduler({"workflow": name}, Context())
    reached.messages()


# --- the API ----------------------------------------------------------------------------------------------------------


def test_faults_51_and_57_no_address_and_no_query_leads_astray(reached: Deployed) -> None:
    """Every parameter of every path and query, on the deployed engine's stores."""
    api = api_on(reached.aws.queries, reached.aws.control)
    run = quote(reached.aws.store.streams("run")[0].removeprefix("run#"), safe="")
    real = {"workflow": str(NIGHTLY), "run": run, "job": "extract", "attempt": "1", "version": "1", "digest": "0" * 64}
    real |= {"backfill": "nightly%40b1", "pool": "warehouse", "calendar": "holidays", "trigger": "hook"}
    for route in ROUTES:
        for name in NAMES.values():
            for part in route.parameters:
                filled = {**real, part: quote(name, safe="")}
                reply = api(route.method, route.path.format(**filled), {} if route.method == "POST" else None)
                assert reply.status < 500, (route.path, part, name, reply)
                assert b"root:x:" not in reply.data
            for field in (route.query.model_fields if route.query else ()) if route.method == "GET" else ():
                reply = api("GET", route.path.format(**real), query=f"{field}={quote(name, safe='')}")
                assert reply.status < 500, (route.path, field, name, reply)
                assert "X-Injected" not in reply.headers


def test_fault_51_no_body_is_a_failure_of_ours(reached: Deployed) -> None:
    api = api_on(reached.aws.queries, reached.aws.control)
    for what, data in TEXTS.items():
        for route in ROUTES:
            if route.method == "POST":
                path = route.path.format_map(defaultdict(lambda: "nowhere%401", workflow="nowhere"))
                reply = api("POST", path, raw=data, headers={"content-type": "application/json"})
                assert 400 <= reply.status < 500, (path, what, reply)
        for path in ("/v1/workflows", "/v1/plan"):
            reply = api("POST", path, raw=data, headers={"content-type": "application/yaml"})
            assert 400 <= reply.status < 500, (path, what, reply)


def test_faults_51_and_57_no_header_is_a_failure_of_ours(reached: Deployed) -> None:
    api = api_on(reached.aws.queries, reached.aws.control)
    for header in ("idempotency-key", "authorization", "if-none-match", "accept-encoding", "origin", "x-forwarded-for"):
        for name in NAMES.values():
            reply = api("GET", "/v1/runs", headers={header: name})
            assert reply.status in (200, 304), (header, name, reply)
            assert "X-Injected" not in str(reply.headers)
            reply = api("POST", "/v1/runs", {"workflow": "nowhere"}, headers={header: name})
            assert 400 <= reply.status < 500, (header, name, reply)


# --- what jobs leave, and values on their way to targets --------------------------------------------------------------


@pytest.mark.parametrize("what", NAMES)
def test_fault_53_a_value_is_never_read_as_a_template_or_command(what: str) -> None:
    """Given by a person, it reaches the target as one argument and one variable, as it is."""
    text = NAMES[what]
    made = {"args": ["--x", "{{ params.x }}"], "script": "/x", "commands": [], "environment": {"X": "{{ params.x }}"}}
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    here = Here(Quoting(True), job=made, more={"parameters": schema})
    here.run(x=text)
    (request,) = here.target.started
    assert request.body["args"] == ["--x", text]
    assert request.body["environment"] == {"X": text}
    assert request.body["script"] == "/x"


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 9999999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ params.x.__class__ }}",
        "{{ params['__class__'] }}",
        "{% for x in range(9**9) %}x{% endfor %}",
        "{{ params.x | attr('__class__') }}",
    ],
)
def test_fault_53_no_template_reaches_out_of_the_runs_own_values(text: str) -> None:
    """Also one that no registration has seen."""
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    here = Here(Quoting(True), job={"args": [text], "script": "/x", "commands": []}, more={"parameters": schema})
    run = here.run(x="y")
    asked = [request.body["args"] for request in here.target.started]
    assert asked in ([], [[text]])
    assert asked or here.state(run).jobs[LOAD].attempts[0].failure == "refused"
    assert "{{" not in text or not asked


@pytest.mark.parametrize("what", NAMES)
def test_faults_51_and_53_what_a_job_leaves_is_kept_as_it_is_or_not_at_all(what: str) -> None:
    text = NAMES[what]
    here = Here(Quoting(True))
    run = here.run()
    here.report(run, status="succeeded", outputs={text: [text], "x": {text: text}}, files={})
    kept = here.state(run).jobs[LOAD].outputs
    assert kept == {text: [text], "x": {text: text}}


@pytest.mark.parametrize(
    "outputs",
    [
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": "\ud800"},
        {"\ud800": 1},
        {"x": "y" * 300_000},
        {"x": [[1] * 1_000] * 1_000},
    ],
    ids=["NaN", "infinity", "half a character", "half a character for a name", "300 kB", "a million numbers"],
)
def test_fault_51_outputs_that_no_event_can_hold_fail_their_job_and_nothing_else(outputs: dict[str, Any]) -> None:
    here = Here(Quoting(True))
    run = here.run()
    here.report(run, status="succeeded", outputs=outputs)
    assert here.state(run).jobs[LOAD].attempts[0].failure == "user"
    assert here.state(run).outcome == "failed"


def test_fault_51_outputs_nested_without_end_fail_their_job_and_nothing_else() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    here = Here(Quoting(True))
    run = here.run()
    here.report(run, status="succeeded", outputs={"x": deep})
    assert "nested" in here.state(run).jobs[LOAD].attempts[0].reason


# --- the command ------------------------------------------------------------------------------------------------------


def test_fault_51_no_file_given_to_the_command_does_more_than_be_refused(runfold: Runfold) -> None:
    for what, data in TEXTS.items():
        for ending in ("json", "yaml"):
            path = runfold.file(f"bad.{ending}", data)
            for word in ("validate", "register"):
                answer = runfold(word, path)
                assert answer.code in (1, 2), (what, answer)
                assert len(answer.err + answer.out) < 20_000
    assert not (runfold.folder / "pwned").exists()
    assert not (runfold.home / "runfold.db").exists() or runfold.good("workflows", "--json").json == []


@pytest.mark.parametrize("name", ["a\nb", "-x", "a'b", "$(touch pwned)", "\x1b[2J", "é", "x" * 200])
def test_fault_57_a_files_name_is_only_a_name(runfold: Runfold, name: str) -> None:
    path = runfold.file(f"{name}.json", {"name": "demo", "jobs": [ssm("a", "true")]})
    answer = runfold.good("register", path)
    assert "\x1b" not in answer.out + answer.err
    assert runfold("register", runfold.file(f"{name}.yaml", "name: [")).code == 2
    assert not (runfold.folder / "pwned").exists()
    assert "\x1b" not in runfold.good("events", "workflow#demo").out
