"""Triggers besides time on the deployed engine: S3, EventBridge, SQS, a signed request, the end of another run; each delivered twice."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from shared.events import RunRequested
from shared.ids import RunId
from shared.ports import RunFilter
from shared.triggers import signature
from tests.e2e.conftest import BUCKET
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, workflow

pytestmark = pytest.mark.slow

KEYED = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}


def waiting(name: str, **trigger: Any) -> dict[str, Any]:
    """A workflow that is started by one trigger, with the parameter `key`."""
    return workflow(name, container("a", "true"), parameters=KEYED, triggers=[{"name": "t", **trigger}])


def registered(deployed: Deployed, document: dict[str, Any]) -> str:
    """Wait until events find it, too."""
    name = deployed.register(document)
    deployed.until(lambda: deployed.parts.views.get_workflow(name), "the relay lists it")
    return name


def runs_of(deployed: Deployed, name: str, number: int = 1) -> list[RunId]:
    """Wait for so many of its runs to end, and for everything to be quiet; there must be no more."""

    def listed() -> list[RunId]:
        return [row.run for row in deployed.parts.views.runs(RunFilter(workflow=name)).rows]

    deployed.until(lambda: len(listed()) >= number, f"{number} runs of {name}")
    deployed.ended(*listed())
    deployed.settled()
    assert len(listed()) == number
    return listed()


def request_of(deployed: Deployed, run: RunId) -> RunRequested:
    first = deployed.events(run)[0]
    assert isinstance(first, RunRequested)
    return first


def test_a_new_object_starts_a_run_that_knows_which(deployed: Deployed) -> None:
    name = registered(
        deployed,
        waiting(
            "by-object", type="s3", bucket=BUCKET, prefix="in/", parameters={"key": "{{ event.detail.object.key }}"}
        ),
    )
    detail = {"bucket": {"name": BUCKET}, "object": {"key": "in/a.csv", "etag": "e1", "sequencer": "s1"}}
    entry = {"Source": "aws.s3", "DetailType": "Object Created", "Detail": json.dumps(detail)}
    elsewhere = {**entry, "Detail": json.dumps({**detail, "object": {"key": "out/a.csv"}})}
    # S3 tells of it twice, each time in an event of its own.
    for one in (entry, elsewhere, entry):
        deployed.client("events").put_events(Entries=[one])
    (run,) = runs_of(deployed, name)
    request = request_of(deployed, run)
    assert (request.trigger, request.trigger_name, request.trigger_event) == ("event", "t", "s3://landing/in/a.csv")
    assert request.parameters == {"key": "in/a.csv"}


def test_an_upload_to_a_bucket_that_is_listened_to_starts_a_run(deployed: Deployed) -> None:
    s3 = deployed.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}})
    name = registered(
        deployed,
        waiting(
            "by-upload", type="s3", bucket=BUCKET, prefix="up/", parameters={"key": "{{ event.detail.object.key }}"}
        ),
    )
    s3.put_object(Bucket=BUCKET, Key="up/größe + 1.csv", Body=b"1")
    (run,) = runs_of(deployed, name)
    assert request_of(deployed, run).parameters == {"key": "up/größe + 1.csv"}


def test_an_event_on_the_bus_starts_a_run_by_its_pattern(deployed: Deployed) -> None:
    pattern = {"source": ["shop"], "detail": {"state": ["PAID"], "amount": [{"numeric": [">", 10]}]}}
    name = registered(
        deployed,
        waiting(
            "by-event",
            type="event",
            pattern=pattern,
            parameters={"key": "{{ event.detail.order }}"},
            deduplicate_by="{{ event.detail.order }}",
        ),
    )
    bus = deployed.stack.outputs["EventBus"]

    def put(**detail: Any) -> None:
        entry = {"Source": "shop", "DetailType": "Order", "Detail": json.dumps(detail), "EventBusName": bus}
        assert deployed.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    for _ in range(2):
        put(order="o-1", state="PAID", amount=12)
    put(order="o-2", state="OPEN", amount=12)
    put(order="o-3", state="PAID", amount=9)
    (run,) = runs_of(deployed, name)
    assert request_of(deployed, run).parameters == {"key": "o-1"}
    # What cannot become a run is recorded, with why.
    put(order=7, state="PAID", amount=99)

    def refused() -> str:
        state = deployed.workflow(name)
        assert state is not None
        return state.turned_away[-1].reason if state.turned_away else ""

    assert "key" in deployed.until(refused, "it is refused")


def test_a_message_starts_a_run_and_one_for_nobody_is_set_aside(deployed: Deployed) -> None:
    pattern = {"detail": {"kind": ["load"]}}
    name = registered(
        deployed, waiting("by-message", type="queue", pattern=pattern, parameters={"key": "{{ event.detail.key }}"})
    )
    sent = {"MessageBody": json.dumps({"kind": "load", "key": "k"})}
    message = deployed.client("sqs").send_message(QueueUrl=deployed.stack.outputs["TriggersQueue"], **sent)
    (run,) = runs_of(deployed, name)
    record = {"messageId": message["MessageId"], "body": sent["MessageBody"], "attributes": {}, "receiptHandle": "r"}
    again = {**record, "eventSource": "aws:sqs", "eventSourceARN": "arn", "awsRegion": "r", "messageAttributes": {}}
    assert deployed.invoke("trigger", {"Records": [again]}) == {"batchItemFailures": []}
    strange = {**again, "messageId": "m-2", "body": "?"}
    assert deployed.invoke("trigger", {"Records": [strange]}) == {"batchItemFailures": [{"itemIdentifier": "m-2"}]}
    assert runs_of(deployed, name) == [run]


@pytest.fixture
def secret(deployed: Deployed) -> Iterator[tuple[str, bytes]]:
    client = deployed.client("secretsmanager")
    made = client.create_secret(Name="hooks-e2e", SecretString="a secret of some length")
    yield made["ARN"], b"a secret of some length"
    client.delete_secret(SecretId=made["ARN"], ForceDeleteWithoutRecovery=True)


def test_a_signed_request_starts_a_run_and_any_other_is_refused(deployed: Deployed, secret: tuple[str, bytes]) -> None:
    reference, key = secret
    name = registered(
        deployed,
        waiting("by-request", type="webhook", secret=reference, parameters={"key": "{{ event.detail.key }}"}),
    )
    # The emulator serves a stage under its own address; the template's says where AWS would.
    api = deployed.stack.outputs["JwtApiUrl"].partition("//")[2].partition(".")[0]
    url = f"{deployed.emulator.url}/_aws/execute-api/{api}/$default/v1/webhooks/{name}/t"

    def call(signed_with: bytes, delivery: str = "d-1") -> tuple[int, Any]:
        body, now = b'{"key": "k"}', str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Runfold-Timestamp": now,
            "X-Runfold-Delivery": delivery,
            "X-Runfold-Signature": signature(signed_with, name, "t", now, delivery, body),
        }
        asked = urllib.request.Request(url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    assert call(b"another")[0] == 401
    first, again = call(key), call(key)
    assert (first[0], first[1]["fate"]) == (200, "started")
    assert (again[0], again[1]["fate"], again[1]["run"]) == (200, "known", first[1]["run"])
    assert runs_of(deployed, name) == [first[1]["run"]]


def test_the_end_of_a_run_starts_another_once(deployed: Deployed) -> None:
    follower = workflow(
        "follows",
        container("a", "true"),
        parameters=KEYED,
        triggers=[
            {"name": "t", "type": "workflow", "workflow": "leads", "parameters": {"key": "{{ event.detail.run }}"}}
        ],
    )
    name = registered(deployed, follower)
    run = deployed.run(workflow("leads", container("a", "true")))
    deployed.ended(run)
    (started,) = runs_of(deployed, name)
    request = request_of(deployed, started)
    assert (request.parameters, request.chain) == ({"key": run}, 1)
    # A relay that is told again, and a sweep, tell again.
    loaded = deployed.parts.loader.load(f"run#{run}")  # type: ignore[arg-type]
    deployed.parts.settle(loaded)
    deployed.parts.settle_again(loaded)
    assert runs_of(deployed, name) == [started]
