"""The API through the deployed gateway: tokens of the stack's own user pool, and what each role may do."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from shared.ids import RunId
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, noted, workflow

pytestmark = pytest.mark.slow

PASSWORD = "Long-enough-12345"
SECONDS_MAX = 60


class Answer(NamedTuple):
    status: int
    body: Any


Call = Callable[..., Answer]


@pytest.fixture
def call(deployed: Deployed) -> Call:
    """`call(role, method, path, body, **headers)`: a request by somebody with that role; None: without a token."""
    outputs = deployed.stack.outputs
    client = deployed.client("cognito-idp")
    tokens: dict[str, str] = {}

    def token(role: str) -> str:
        if role not in tokens:
            name, pool = f"{role}-{time.time_ns()}@example.com", outputs["UserPool"]
            client.admin_create_user(UserPoolId=pool, Username=name, TemporaryPassword=PASSWORD)
            client.admin_set_user_password(UserPoolId=pool, Username=name, Password=PASSWORD, Permanent=True)
            client.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=f"runfold:{role}")
            answer = client.admin_initiate_auth(
                UserPoolId=pool,
                ClientId=outputs["UserPoolClient"],
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD},
            )
            tokens[role] = answer["AuthenticationResult"]["AccessToken"]
        return tokens[role]

    # The emulator serves a stage under its own address; the template's says where AWS would.
    api = outputs["JwtApiUrl"].partition("//")[2].partition(".")[0]
    base = f"{deployed.emulator.url}/_aws/execute-api/{api}/$default"

    def request(role: str | None, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        wanted = urllib.request.Request(f"{base}{path}", method=method)
        if role is not None:
            wanted.add_header("Authorization", f"Bearer {token(role)}")
        if body is not None:
            wanted.data = json.dumps(body).encode()
            wanted.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            wanted.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(wanted, timeout=SECONDS_MAX) as answer:
                return Answer(answer.status, json.loads(answer.read() or b"null"))
        except urllib.error.HTTPError as refusal:
            return Answer(refusal.code, json.loads(refusal.read() or b"null"))

    return request


def test_a_run_asked_for_over_http_is_shown_to_its_end(deployed: Deployed, call: Call, tmp_path: Path) -> None:
    name = deployed.register(workflow("over-http", container("a", noted(tmp_path)), owner="ann"))
    wanted = {"workflow": name}
    first = call("operator", "POST", "/v1/runs", wanted, Idempotency_Key="order-66")
    again = call("operator", "POST", "/v1/runs", wanted, Idempotency_Key="order-66")
    assert first.status in (200, 201, 202), first
    assert again.body["run"] == first.body["run"]
    run = RunId(first.body["run"])
    deployed.ended(run)
    shown = call("viewer", "GET", f"/v1/runs/{quote(run)}")
    assert (shown.status, shown.body["status"]) == (200, "succeeded")
    assert (tmp_path / "a").read_text() == "1\n"

    def listed() -> list[str]:
        rows = call("viewer", "GET", f"/v1/runs?workflow={name}").body["runs"]
        return [row["run"] for row in rows if row["status"] == "succeeded"]

    assert deployed.until(listed, "the relay lists it") == [run]


def test_whoever_has_no_token_or_no_right_is_refused(deployed: Deployed, call: Call) -> None:
    """Fault 57."""
    name = deployed.register(workflow("guarded", container("a", "true")))
    assert call(None, "GET", "/v1/runs").status == 401
    refused = call("viewer", "POST", "/v1/runs", {"workflow": name})
    assert refused.status == 403, refused
    assert call("viewer", "GET", "/v1/runs/../../secret").status in (400, 403, 404)


def test_a_run_is_cancelled_over_http(deployed: Deployed, call: Call) -> None:
    run = deployed.run(workflow("stopped-over-http", container("a", "exec sleep 600", stop_grace_seconds=1)))
    deployed.job_is(run, "a", "submitted", "running")
    answer = call("operator", "POST", f"/v1/runs/{quote(run)}/cancel", {"reason": "wrong day"})
    assert answer.status in (200, 202), answer
    (shown,) = deployed.ended(run)
    assert shown["status"] == "cancelled"
    assert shown["cancel"]["reason"] == "wrong day"
