"""What a function could not do now goes back to its queue, or fails its own message; an upload is read again after it was registered."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from functions.dispatch.handler import RETRY_DELAY_SECONDS
from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.status.handler import make_handler as status_handler
from shared.codec import effects_to_json
from shared.effects import Effect, ObserveAttempt
from shared.errors import TargetSilent
from shared.ids import JobName, RunId
from shared.ports import Report
from shared.usecases.work import one_by_one
from tests.functions.test_doorways import Context, sqs_event, uploaded

LOOK = ObserveAttempt(RunId("nightly@1"), JobName("load"), 1)


@dataclass
class Again:
    sent: list[Effect] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def send(self, effects: Iterable[Effect], *, delay_seconds: float = 0) -> None:
        self.sent += effects
        self.delays.append(delay_seconds)


def test_reports_that_could_not_be_stored_are_looked_at_again() -> None:
    """Fault 44."""
    again = Again()
    handler = status_handler(lambda _: [], lambda _: [LOOK], again, side_by_side=one_by_one)
    assert handler(sqs_event("{}"), Context()) == {"batchItemFailures": []}
    assert again.sent == [LOOK]


def test_an_event_whose_target_does_not_answer_is_delivered_again_and_no_other() -> None:
    def tell(event: Mapping[str, Any]) -> list[Report]:
        if event["id"] == "silent":
            raise TargetSilent("no answer")
        return []

    def commit(_: Sequence[Report]) -> list[Effect]:
        return []

    handler = status_handler(tell, commit, Again(), side_by_side=one_by_one)
    events = [json.dumps({"id": name}) for name in ("first", "silent", "last")]
    assert handler(sqs_event(*events), Context()) == {"batchItemFailures": [{"itemIdentifier": "1"}]}


def test_effects_that_could_not_be_carried_out_go_back_to_the_queue_a_little_later() -> None:
    """Fault 44."""
    again = Again()
    handler = dispatch_handler(lambda effects, _: list(effects), again)
    assert handler(sqs_event(effects_to_json([LOOK])), Context()) == {"batchItemFailures": []}
    assert again.sent == [LOOK]
    shortest, longest = RETRY_DELAY_SECONDS
    assert all(shortest <= delay <= longest for delay in again.delays)


@dataclass
class Uploads:
    """An object of which each look finds the next content, and at last the newest."""

    contents: list[tuple[bytes, str]]

    def read(self, key: str) -> tuple[bytes, str] | None:
        return self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]


@dataclass
class Registry:
    taken: list[str] = field(default_factory=list)

    def upload(self, key: str, upload: str, data: bytes, *, by: str) -> Any:
        self.taken.append(upload)
        return self

    def upload_removed(self, key: str, upload: str, *, by: str) -> None:
        raise AssertionError("it is there")

    workflow = "nightly"
    version = 1


def test_of_two_uploads_in_one_second_the_newer_is_registered_last() -> None:
    """Fault 52: overwritten while the older one was being registered."""
    registry = Registry()
    handler = register_handler(Uploads([(b"1", "older"), (b"2", "newer")]), registry)
    handler(uploaded("workflows/nightly.json"), Context())
    assert registry.taken == ["older", "newer"]
