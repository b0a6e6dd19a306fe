"""The engine's HTTP server over real sockets: bounds on everything, slow and hostile peers, tokens, files, and its cost."""

import http.client
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from functions.api.embedded import serve_home
from local import http as server_module
from local.home import Home
from local.http import HttpServer, is_loopback, serve, token_of
from shared.bootstrap import local_parts
from shared.errors import Rejected, StoreUnavailable
from tests.functions.api_world import SALES, Nowhere


def echo(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(event),
        "isBase64Encoded": False,
    }


@contextmanager
def serving(handler: Callable[[dict[str, Any], Any], dict[str, Any]] = echo, **more: Any) -> Iterator[HttpServer]:
    with serve(handler, port=0, **more) as server:
        yield server


def talk(server: HttpServer, data: bytes, *, seconds: float = 5.0) -> bytes:
    """Send bytes as they are; everything that comes back until the server closes."""
    with socket.create_connection((server.host, server.port), timeout=seconds) as connection:
        connection.sendall(data)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(1 << 16):
        found += piece
    return found


def asked(
    server: HttpServer, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    try:
        connection.request(
            method, path, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    finally:
        connection.close()


# --- translation ------------------------------------------------------------------------------------------------------------


def test_a_request_becomes_an_event_of_payload_format_2() -> None:
    with serving() as server:
        status, headers, data = asked(
            server, "POST", "/v1/a%2Fb/c?x=1&y=%20", b"hello", X_Two="2", content_type="text/plain"
        )

    event = json.loads(data)
    assert status == 200
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/v1/a%2Fb/c", "x=1&y=%20")
    assert (event["body"], event["isBase64Encoded"]) == ("hello", False)
    assert event["headers"]["x-two"] == "2"
    assert event["requestContext"]["http"]["method"] == "POST"
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert event["requestContext"]["requestId"]
    assert headers["content-length"] == str(len(data))


def test_bytes_that_are_no_text_travel_as_base64() -> None:
    with serving() as server:
        event = json.loads(asked(server, "POST", "/", b"\xff\xfe")[2])
    assert (event["body"], event["isBase64Encoded"]) == ("//4=", True)


def test_one_connection_carries_many_requests() -> None:
    with serving() as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
        ports = set()
        for _ in range(5):
            connection.request("GET", "/")
            connection.getresponse().read()
            ports.add(connection.sock.getsockname()[1])
        connection.close()
    assert len(ports) == 1


def test_head_and_304_have_no_body_and_the_connection_stays_in_step() -> None:
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        head = event["requestContext"]["http"]["method"] == "HEAD"
        return {
            "statusCode": 200 if head else 304,
            "headers": {"Content-Length": "9"} if head else {},
            "body": "",
            "isBase64Encoded": False,
        }

    with serving(handler) as server:
        told = talk(
            server,
            b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
    assert told.count(b"HTTP/1.1 ") == 2
    assert told.endswith(b"\r\n\r\n")


def test_a_header_value_cannot_begin_another_header() -> None:
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"statusCode": 200, "headers": {"X-A": "a\r\nX-Evil: b"}, "body": "", "isBase64Encoded": False}

    with serving(handler) as server:
        _, headers, _ = asked(server)
    assert headers["x-a"] == "a X-Evil: b"
    assert "x-evil" not in headers


def test_a_large_file_is_sent_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(3_000_000))

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"statusCode": 200, "headers": {}, "body": "", "isBase64Encoded": False, "runfoldFile": str(file)}

    with serving(handler) as server:
        assert asked(server)[2] == file.read_bytes()
        assert asked(server, "HEAD")[1]["content-length"] == "3000000"
        file.unlink()
        assert asked(server)[0] == 404
        os.mkfifo(file)
        assert asked(server)[0] == 404


@pytest.mark.parametrize(
    ("error", "status"), [(StoreUnavailable("the disk is full"), 503), (ValueError("secret"), 500)]
)
def test_a_handler_that_cannot_answer_is_told_as_a_problem(error: Exception, status: int) -> None:
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        raise error

    with serving(handler) as server:
        told, headers, data = asked(server)
    assert (told, headers["content-type"]) == (status, "application/problem+json")
    assert b"secret" not in data


# --- bounds -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1, 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ],
)
def test_requests_beyond_the_bounds_are_refused_and_the_connection_ends(request_bytes: bytes, status: int) -> None:
    """fault 57"""
    with serving() as server:
        told = talk(server, request_bytes)
        assert told.startswith(b"HTTP/1.1 %d " % status), told[:200]
        assert asked(server)[0] == 200


def test_a_request_that_is_cut_off_is_never_carried_out() -> None:
    seen = []

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        seen.append(event)
        return echo(event, context)

    with serving(handler) as server:
        for cut in (
            b"DELETE /v1/workflows/a HTTP/1.1\r\nHost: localhost\r\nAuth",
            b"DELETE /v1/workflows/a HTTP/1.1\r\nHost: localhost\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
        ):
            with socket.create_connection((server.host, server.port), timeout=5) as connection:
                connection.sendall(cut)
                connection.shutdown(socket.SHUT_WR)
                assert rest(connection) == b""
    assert seen == []


def test_a_peer_that_drips_is_left_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    with serving() as server, socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: local")
        began = time.monotonic()
        told = rest(connection)
        assert time.monotonic() - began < 3
        assert told.startswith(b"HTTP/1.1 408 ")


def test_more_connections_than_the_bound_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 3)
    with serving() as server:
        idle = [socket.create_connection((server.host, server.port), timeout=5) for _ in range(3)]
        wait_until(lambda: len(server._connections) == 3)
        with socket.create_connection((server.host, server.port), timeout=5) as one_more:
            assert rest(one_more).startswith(b"HTTP/1.1 503 ")
        idle.pop().close()
        wait_until(lambda: len(server._connections) == 2)
        assert asked(server)[0] == 200
        for connection in idle:
            connection.close()


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_closing_ends_idle_connections_and_lets_answers_out() -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(event: dict[str, Any], context: Any) -> dict[str, Any]:
        began.set()
        go_on.wait(5)
        return echo(event, context)

    with ThreadPoolExecutor(1) as pool, serving(slow) as server:
        idle = socket.create_connection((server.host, server.port), timeout=5)
        answer = pool.submit(asked, server)
        assert began.wait(5)
        threading.Timer(0.05, go_on.set).start()
        server.close()
        assert answer.result(5)[0] == 200
        assert rest(idle) == b""
        idle.close()
        server.close = lambda: None  # type: ignore[method-assign]  # it is closed already
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("runfold-http")]


def test_an_address_that_is_taken_is_said_so() -> None:
    with serving() as server, pytest.raises(Rejected, match="another program has it"):
        serve(echo, port=server.port).__enter__()


# --- who may come in --------------------------------------------------------------------------------------------------------


def test_an_open_engine_answers_only_under_names_of_its_machine() -> None:
    """fault 57: a name that somebody else's DNS points to 127.0.0.1"""
    with serving() as server:
        assert asked(server, Host="evil.example")[0] == 421
        assert asked(server, Host=f"evil.example:{server.port}")[0] == 421
        for name in ("localhost", f"localhost:{server.port}", "127.0.0.1", "[::1]:80"):
            assert asked(server, Host=name)[0] == 200, name
    with serving(guarded=False) as server:
        assert asked(server, Host="runs.example")[0] == 200


def test_pages_of_other_origins_may_not_ask_for_anything() -> None:
    """fault 57: any page can make a browser call this machine"""
    with serving(origins=("https://runs.example",)) as server:
        own = f"http://127.0.0.1:{server.port}"
        assert asked(server, "POST", Origin="https://evil.example")[0] == 403
        assert asked(server, "DELETE", Origin="null")[0] == 403
        assert asked(server, "POST", Origin=own)[0] == 200
        assert asked(server, "POST", Origin="https://runs.example")[0] == 200
        assert asked(server, "POST")[0] == 200


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example", False), ("", False)])  # fmt: skip
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    parts = local_parts(home.database, home.documents, Nowhere(), synchronous="NORMAL")
    parts.control.register(json.dumps(SALES).encode(), name="document.json", by="ann")
    parts.close()
    return home


def test_the_token_is_made_once_and_only_its_owner_can_read_it(home: Home) -> None:
    token = token_of(home)

    assert token == token_of(home)
    assert len(token) >= 32
    assert stat.S_IMODE((home.path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize("spoil", ["readable", "short", "link"])
def test_a_token_that_is_no_secret_is_refused(home: Home, spoil: str, tmp_path: Path) -> None:
    token_of(home)
    file = home.path / "token"
    match spoil:
        case "readable":
            file.chmod(0o644)
        case "short":
            file.write_text("abc\n")
        case "link":
            file.rename(tmp_path / "elsewhere")
            file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Rejected):
        token_of(home)


def test_bound_to_this_machine_it_is_open_and_elsewhere_it_demands_the_token(home: Home) -> None:
    with serve_home(home, port=0, user="ann") as one:
        assert one.token is None
        assert asked(one.server, path="/v1/runs")[0] == 200
    with serve_home(home, host="0.0.0.0", port=0) as one:
        assert one.token == token_of(home)
        assert asked(one.server, path="/v1/health")[0] == 200
        assert asked(one.server, path="/v1/runs")[0] == 401
        assert asked(one.server, path="/v1/runs", Authorization="Bearer wrong")[0] == 401
        assert asked(one.server, path="/v1/runs", Authorization=f"Bearer {one.token}")[0] == 200


# --- the whole of it --------------------------------------------------------------------------------------------------------


def test_a_run_is_asked_for_and_watched_over_http(home: Home) -> None:
    with serve_home(home, port=0, user="ann") as one:
        body = json.dumps({"workflow": "sales"}).encode()
        status, headers, _ = asked(one.server, "POST", "/v1/runs", body, content_type="application/json")
        assert status == 201
        status, headers, data = asked(one.server, path=headers["location"])
        assert (status, json.loads(data)["requested_by"]) == (200, "ann")
        assert asked(one.server, path="/v1/runs", if_none_match=headers["etag"])[0] == 200
        assert asked(one.server, path=f"/v1/runs/{json.loads(data)['run']}", if_none_match=headers["etag"])[0] == 304


def test_many_callers_at_once_each_get_their_own_answer(home: Home) -> None:
    with serve_home(home, port=0) as one, ThreadPoolExecutor(16) as pool:

        def ask(number: int) -> bool:
            status, _, data = asked(one.server, path=f"/v1/workflows/none-{number}")
            return status == 404 and f"none-{number}" in json.loads(data)["detail"]

        assert all(pool.map(ask, range(200)))


def test_an_idle_server_uses_no_time_of_the_processor(home: Home) -> None:
    with serve_home(home, port=0) as one:
        asked(one.server, path="/v1/health")
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.02
