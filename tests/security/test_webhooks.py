"""Signed requests: whoever cannot sign starts nothing and learns nothing, and a request that was overheard is worth nothing."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.api.handler import make_handler
from functions.api.principals import gateway_principal
from functions.api.service import ApiService
from local.home import Home
from shared.bootstrap import LocalParts, local_parts
from shared.errors import NotFound, StoreUnavailable
from shared.ids import WorkflowName
from shared.usecases.queries import Queries
from shared.usecases.triggers import Triggers
from tests.functions.api_world import Nowhere, Reply, event_of, reply_of

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECRET = b"the secret of the hook, of some length"
DOCUMENT: dict[str, Any] = {
    "name": "hooked",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    "triggers": [
        {"name": "t", "type": "webhook", "secret": "env:HOOK", "parameters": {"n": "{{ event.detail.n }}"}},
        {"name": "narrow", "type": "webhook", "secret": "env:HOOK", "window_seconds": 10, "parameters": {"n": 1}},
        {"name": "broken", "type": "webhook", "secret": "env:GONE", "parameters": {"n": 1}},
        {"name": "other", "type": "event", "pattern": {"source": ["x"]}, "parameters": {"n": 1}},
    ],
    "jobs": [{"name": "a", "type": "ecs", "image": "x", "command": ["true"]}],
}


def right(body: bytes, *, at: datetime = NOW, delivery: str = "d-1", path: str = "hooked:t") -> dict[str, str]:
    """Headers as whoever knows the secret makes them, written out here a second time."""
    stamp = str(int(at.timestamp()))
    signed = hmac.new(SECRET, f"v1:{path}:{stamp}:{delivery}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "x-runfold-timestamp": stamp,
        "x-runfold-delivery": delivery,
        "x-runfold-signature": f"v1={signed}",
    }


@dataclass
class Hook:
    parts: LocalParts
    now: datetime = NOW
    asked: list[str] = field(default_factory=list)
    unavailable: bool = False

    def __post_init__(self) -> None:
        nothing: Any = None
        service = ApiService(
            queries=Queries(
                loader=self.parts.loader,
                events=self.parts.store,
                views=self.parts.views,
                logs=nothing,
                artifacts=nothing,
                now=lambda: self.now,
            ),
            control=self.parts.control,
            authenticate=gateway_principal(),
            now=lambda: self.now,
            triggers=lambda: Triggers(self.parts.transact, self.parts.views),
            read_secret=self.secret,
        )
        self.handler = make_handler(service)

    def secret(self, reference: str) -> bytes:
        self.asked.append(reference)
        if self.unavailable:
            raise StoreUnavailable("throttled")
        if reference != "env:HOOK":
            raise NotFound("there is no such secret")
        return SECRET

    def __call__(self, body: bytes, headers: dict[str, str], path: str = "hooked/t", method: str = "POST") -> Reply:
        made = event_of(method, f"/v1/webhooks/{path}", raw=body, headers=headers)
        return reply_of(self.handler(made, None))

    @property
    def runs(self) -> int:
        return len(self.parts.store.streams("run"))


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    home = Home(tmp_path / "home")
    home.make()
    parts = local_parts(home.database, home.documents, Nowhere(), synchronous="NORMAL")
    parts.control.register(json.dumps(DOCUMENT).encode(), name="d.json", by="ann")
    yield Hook(parts)
    parts.close()


BODY = b'{"n": 1}'


def test_a_signed_request_starts_a_run_and_the_same_delivery_again_none(hook: Hook) -> None:
    first = hook(BODY, right(BODY))
    assert (first.status, first.json["fate"]) == (200, "started")
    hook.now += timedelta(seconds=30)
    # Sent again by its sender, with a new time.
    again = hook(BODY, right(BODY, at=hook.now))
    assert (again.status, again.json["fate"], again.json["run"]) == (200, "known", first.json["run"])
    # Overheard and sent again as it was.
    assert hook(BODY, right(BODY)).json["fate"] == "known"
    assert hook.runs == 1


def _without(name: str) -> dict[str, str]:
    return {key: value for key, value in right(BODY).items() if key != name}


FORGED: dict[str, tuple[bytes, dict[str, str], str]] = {
    "no signature": (BODY, _without("x-runfold-signature"), "hooked/t"),
    "an empty signature": (BODY, {**right(BODY), "x-runfold-signature": ""}, "hooked/t"),
    "another body": (b'{"n": 2}', right(BODY), "hooked/t"),
    "another delivery": (BODY, {**right(BODY), "x-runfold-delivery": "d-2"}, "hooked/t"),
    "no delivery": (BODY, _without("x-runfold-delivery"), "hooked/t"),
    "another time": (BODY, {**right(BODY), "x-runfold-timestamp": str(int(NOW.timestamp()) + 1)}, "hooked/t"),
    "no time": (BODY, _without("x-runfold-timestamp"), "hooked/t"),
    "a time that is none": (BODY, {**right(BODY), "x-runfold-timestamp": "now"}, "hooked/t"),
    "too old": (BODY, right(BODY, at=NOW - timedelta(seconds=301)), "hooked/t"),
    "too far ahead": (BODY, right(BODY, at=NOW + timedelta(seconds=301)), "hooked/t"),
    "too old for this one": (BODY, right(BODY, at=NOW - timedelta(seconds=11), path="hooked:narrow"), "hooked/narrow"),
    "signed for another trigger": (BODY, right(BODY), "hooked/narrow"),
    "a trigger that is none of this kind": (BODY, right(BODY, path="hooked:other"), "hooked/other"),
    "no such trigger": (BODY, right(BODY, path="hooked:none"), "hooked/none"),
    "no such workflow": (BODY, right(BODY, path="none:t"), "none/t"),
    "no name of a workflow": (BODY, right(BODY, path="n ne:t"), "n%20ne/t"),
    "a path in a name": (BODY, right(BODY), "hooked/..%2ft"),
    "a secret that is gone": (BODY, right(BODY, path="hooked:broken"), "hooked/broken"),
    "a delivery with a separator": (BODY, right(BODY, delivery="d:1"), "hooked/t"),
    "an upper-case signature": (BODY, {**right(BODY), "x-runfold-signature": right(BODY)["x-runfold-signature"].upper()}, "hooked/t"),
    "a signature of nothing": (BODY, {**right(BODY), "x-runfold-signature": "v1=" + hmac.new(b"", BODY, "sha256").hexdigest()}, "hooked/t"),
    "letters of another alphabet": (BODY, {**right(BODY), "x-runfold-signature": "v1=ａｂｃ"}, "hooked/t"),
}  # fmt: skip


def test_every_other_request_is_refused_in_the_same_words_and_starts_nothing(hook: Hook) -> None:
    told = set()
    for name, (body, headers, path) in FORGED.items():
        reply = hook(body, headers, path)
        assert reply.status == 401, name
        told.add(json.dumps({key: value for key, value in reply.json.items() if key != "request_id"}))
    (words,) = told
    assert not any(word in words for word in ("hooked", "trigger", "secret", "time", "delivery"))
    assert hook.runs == 0
    assert hook.parts.control.workflow(WorkflowName("hooked")).turned_away == ()


def test_who_does_not_come_in_time_costs_no_look_at_secrets_or_histories(hook: Hook) -> None:
    for name in ("too old", "no time", "a delivery with a separator"):
        hook(*FORGED[name])
    hook(*FORGED["no such trigger"])
    assert hook.asked == []


def test_a_body_is_believed_only_after_its_signature(hook: Hook) -> None:
    bad = b"{"
    assert hook(bad, {**right(bad), "x-runfold-signature": "v1="}).status == 401
    assert hook(bad, right(bad)).status == 422
    assert hook.runs == 0


def test_what_is_signed_and_does_not_fit_is_refused_and_recorded_once(hook: Hook) -> None:
    body = b'{"n": "many"}'
    for _ in range(2):
        hook(body, right(body))
    (away,) = hook.parts.control.workflow(WorkflowName("hooked")).turned_away
    assert (away.how, "n" in away.reason) == ("refused", True)
    assert hook.runs == 0


def test_a_secret_that_cannot_be_read_for_now_asks_the_sender_to_come_again(hook: Hook) -> None:
    hook.unavailable = True
    assert hook(BODY, right(BODY)).status == 503
    hook.unavailable = False
    assert hook(BODY, right(BODY)).json["fate"] == "started"


def test_neither_secret_nor_signature_is_recorded_or_told(hook: Hook) -> None:
    headers = right(BODY)
    told = hook(BODY, headers).data + hook(b'{"n": "x"}', right(b'{"n": "x"}', delivery="d-2")).data
    records = [
        record.body
        for kind in ("run", "workflow")
        for stream in hook.parts.store.streams(kind)
        for record in hook.parts.store.read(stream)
    ]
    everything = told.decode() + "".join(records)
    assert SECRET.decode() not in everything
    assert headers["x-runfold-signature"][3:] not in everything


def test_only_a_post_is_taken(hook: Hook) -> None:
    assert hook(BODY, right(BODY), method="GET").status == 405
    assert hook.runs == 0
