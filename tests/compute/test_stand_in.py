"""The stand-in keeps what its users rely on: it is a process of its own, is steered over HTTP, and tells others what happens."""

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest

from tests.compute import Compute, Faults
from tests.compute.events import Events, to_event_bus, to_queue

KEYS = {"region_name": "eu-central-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
DEFINITION: dict[str, Any] = {
    "family": "f",
    "networkMode": "bridge",
    "containerDefinitions": [{"name": "main", "image": "i", "command": ["sh", "-c", "sleep 0.1; exit 3"]}],
}


@pytest.fixture
def ear() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]], threading.Event]]:
    """A server that hears what is sent to an event bus or queue."""
    heard: list[tuple[str, dict[str, Any]]] = []
    told = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.headers["X-Amz-Target"], body))
            if "STOPPED" in json.dumps(body):
                told.set()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", heard, told
    server.shutdown()
    server.server_close()
    thread.join()


def post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_it_is_a_process_that_is_steered_over_http() -> None:
    with subprocess.Popen([sys.executable, "-m", "tests.compute"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ecs: Any = boto3.client("ecs", endpoint_url=url, **KEYS)  # type: ignore[call-overload]
        post(f"{url}/_control/faults", {"room": [{"reason": "RESOURCE:CPU"}]})
        ecs.register_task_definition(**DEFINITION)
        assert ecs.run_task(taskDefinition="f")["failures"] == [{"reason": "RESOURCE:CPU"}]
        assert "RunTask" in post(f"{url}/_control/calls", {})
        process.terminate()
        assert process.wait(10) == 0


def test_it_tells_an_event_bus_and_a_queue_in_the_shapes_of_aws(
    ear: tuple[str, list[tuple[str, dict[str, Any]]], threading.Event],
) -> None:
    url, heard, told = ear
    with Compute() as compute:
        compute.events.listeners += [to_event_bus(url), to_queue(url, f"{url}/1/queue")]
        ecs: Any = boto3.client("ecs", endpoint_url=compute.url, **KEYS)  # type: ignore[call-overload]
        ecs.register_task_definition(**DEFINITION)
        arn = ecs.run_task(taskDefinition="f", startedBy="me")["tasks"][0]["taskArn"]
        assert told.wait(10)
    entries = [body["Entries"][0] for target, body in heard if target == "AWSEvents.PutEvents"]
    details = [json.loads(entry["Detail"]) for entry in entries]
    assert [detail["lastStatus"] for detail in details][-1] == "STOPPED"
    assert [detail["version"] for detail in details] == sorted({detail["version"] for detail in details})
    assert details[-1]["containers"][0]["exitCode"] == 3
    assert {entry["DetailType"] for entry in entries} == {"ECS Task State Change"}
    messages = [json.loads(body["MessageBody"]) for target, body in heard if target == "AmazonSQS.SendMessage"]
    assert all(message["source"] == "aws.ecs" for message in messages)
    assert {message["detail"]["taskArn"] for message in messages} == {arn}


def test_a_token_is_kept_to_its_request_and_forgotten_in_time() -> None:  # faults 6 and 7
    with Compute() as compute:
        compute.faults.token_seconds = 0.0
        ecs: Any = boto3.client("ecs", endpoint_url=compute.url, **KEYS)  # type: ignore[call-overload]
        ecs.register_task_definition(**DEFINITION)
        asked = {"taskDefinition": "f", "clientToken": "t"}
        first = ecs.run_task(**asked)["tasks"][0]["taskArn"]
        assert ecs.run_task(**asked)["tasks"][0]["taskArn"] == first
        with pytest.raises(ecs.exceptions.ConflictException) as raised:
            ecs.run_task(**asked, startedBy="else")
        assert raised.value.response["resourceIds"] == [first]
        while ecs.describe_tasks(tasks=[first])["tasks"][0]["lastStatus"] != "STOPPED":
            time.sleep(0.02)
        assert ecs.run_task(**asked)["tasks"][0]["taskArn"] != first


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"events_twice": True}, ["a", "a", "b", "b", "c", "c", "d", "d"]),
        ({"events_reversed": 2}, ["b", "a", "d", "c"]),
        ({"events_twice": True, "events_reversed": 4}, ["b", "b", "a", "a", "d", "d", "c", "c"]),
        ({"events_lost_that_say": ["b", "c"]}, ["a", "d"]),
        ({"events_lost": True}, []),
    ],
)
def test_state_changes_are_told_as_the_knobs_say(knobs: dict[str, Any], told: list[str]) -> None:
    """Faults 31, 32 and 34."""
    faults = Faults()
    faults.change(knobs)
    events = Events(faults)
    heard: list[str] = []
    events.listeners.append(lambda event: heard.append(event["detail"]["lastStatus"]))
    for status in "abcd":
        events.emit("aws.ecs", "ECS Task State Change", {"lastStatus": status}, [])
    # Sends what it was given before.
    events.close()
    assert heard == told
