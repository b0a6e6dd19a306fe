"""Files that a run is given over the API: put before the run is there, bound to their digests, under no name that a person chose."""

import hashlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from functions.api.embedded import FORGOTTEN_SECONDS, Serving, serve_home
from local.home import Home
from shared.ports import GIVEN_FILE_BYTES_MAX

DOCUMENT = {
    "name": "sums",
    "jobs": [
        {
            "name": "add",
            "type": "ssm",
            "host": "here",
            "script": "wc -c rates.csv",
            "inputs": [{"path": "rates.csv", "upload": "rates"}],
        }
    ],
}
DATA = b"a;1\n" * 1_000_000
DIGEST = hashlib.sha256(DATA).hexdigest()
HOSTILE = ["../rates", "/etc/passwd", "..", "a/../../b", "x\0y", "rates\n", "$(id)", "r" * 1_024]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def serving(home: Home) -> Iterator[Serving]:
    with serve_home(home, port=0, user="ann") as serving:
        assert ask(serving, "POST", "/v1/workflows", DOCUMENT)[0] == 201
        yield serving


def ask(
    serving: Serving, method: str, path: str, body: Any = None, *, data: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(serving.url).netloc, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        data = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    connection.request(method, path, body=data, headers=sent)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def placed(serving: Serving, key: str = "k1", *, size: int = len(DATA), digest: str = DIGEST) -> Any:
    asked = {"workflow": "sums", "files": {"rates": {"size": size, "sha256": digest}}}
    status, answer = ask(serving, "POST", "/v1/uploads", asked, Idempotency_Key=key)
    assert status == 200, answer
    return answer


def ask_for_run(serving: Serving, key: str = "k1", **more: Any) -> tuple[int, Any]:
    asked = {"workflow": "sums", "files": {"rates": DIGEST}, **more}
    return ask(serving, "POST", "/v1/runs", asked, Idempotency_Key=key)


def files_below(home: Home) -> list[str]:
    return sorted(
        str(path.relative_to(home.path))
        for part in ("runs", "uploads")
        for path in (home.path / part).rglob("*")
        if path.is_file()
    )


def test_a_run_has_the_file_that_was_put_for_it_and_asking_again_is_the_same_run(home: Home, serving: Serving) -> None:
    place = placed(serving)
    (file,) = place["files"]
    assert (file["name"], file["method"]) == ("rates", "PUT")
    assert ask(serving, "PUT", file["url"], data=DATA, **file["headers"]) == (
        200,
        {"run": place["run"], "sha256": DIGEST},
    )
    status, asked = ask_for_run(serving)

    assert (status, asked["run"], asked["new"]) == (201, place["run"], True)
    assert files_below(home) == [f"runs/{place['run']}/_uploads/{DIGEST}"]
    assert (home.path / files_below(home)[0]).read_bytes() == DATA
    events = ask(serving, "GET", f"/v1/runs/{place['run']}/events")[1]["commits"][0]["events"]
    assert events[0]["files"] == {"rates": f"runs/{place['run']}/_uploads/{DIGEST}"}
    status, again = ask_for_run(serving)
    assert (status, again["run"], again["new"]) == (200, place["run"], False)


def test_a_file_that_never_came_is_told_and_nothing_is_left(home: Home, serving: Serving) -> None:
    status, told = ask_for_run(serving)

    assert status == 422
    assert [one["path"] for one in told["problems"]] == ["files.rates"]
    assert ask(serving, "GET", "/v1/runs")[1]["runs"] == []
    assert files_below(home) == []


def test_a_refused_request_keeps_what_was_put_for_the_next_one(home: Home, serving: Serving) -> None:
    (file,) = placed(serving)["files"]
    ask(serving, "PUT", file["url"], data=DATA)
    assert ask_for_run(serving, parameters={"none": 1})[0] == 422
    assert [path.partition("/")[0] for path in files_below(home)] == ["uploads"]
    assert ask_for_run(serving)[0] == 201


def test_a_run_with_files_needs_a_key(serving: Serving) -> None:
    for path, files in (("/v1/uploads", {"rates": {"size": 1, "sha256": DIGEST}}), ("/v1/runs", {"rates": DIGEST})):
        status, told = ask(serving, "POST", path, {"workflow": "sums", "files": files})
        assert (status, told["problems"][0]["path"]) == (422, "Idempotency-Key"), path


def test_other_bytes_than_those_of_the_digest_are_refused_and_not_kept(home: Home, serving: Serving) -> None:
    (file,) = placed(serving)["files"]
    for data in (DATA + b"x", DATA[:-1], b""):
        status, told = ask(serving, "PUT", file["url"], data=data)
        assert (status, told["type"]) == (422, "urn:runfold:problem:invalid-input")
    assert files_below(home) == []


def test_a_body_that_breaks_off_leaves_nothing(home: Home, serving: Serving) -> None:
    (file,) = placed(serving)["files"]
    connection = http.client.HTTPConnection(urlsplit(serving.url).netloc, timeout=20)
    connection.putrequest("PUT", file["url"])
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders(DATA[:1000])
    connection.close()
    give_up = time.monotonic() + 20
    while files_below(home) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert files_below(home) == []
    assert ask(serving, "PUT", file["url"], data=DATA)[0] == 200


def test_whoever_waits_to_be_told_to_go_on_is_told(home: Home, serving: Serving) -> None:
    (file,) = placed(serving)["files"]
    connection = http.client.HTTPConnection(urlsplit(serving.url).netloc, timeout=20)
    connection.request("PUT", file["url"], body=DATA, headers={"Expect": "100-continue"})
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_and_never_one_on_a_disk_fault_53(home: Home, serving: Serving, name: str) -> None:
    for path, given in (("/v1/uploads", {"size": 1, "sha256": DIGEST}), ("/v1/runs", DIGEST)):
        asked = {"workflow": "sums", "files": {name: given}}
        status, told = ask(serving, "POST", path, asked, Idempotency_Key="k")
        assert (status, told["type"]) == (422, "urn:runfold:problem:invalid-input")
    assert files_below(home) == []


@pytest.mark.parametrize(
    "path",
    [
        "sums%40x/../../x",
        "sums%40x/" + "0" * 63,
        "sums%40..%2f..%2fx/" + "0" * 64,
        "..%2fsums%40x/" + "0" * 64,
        "other%40x/" + "0" * 64,
        "sums%40x/" + "0" * 62 + "..",
    ],
)
def test_a_hostile_address_is_no_place_for_files_fault_53(home: Home, serving: Serving, path: str) -> None:
    assert ask(serving, "PUT", f"/v1/uploads/{path}", data=b"x")[0] == 404
    assert files_below(home) == []


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(serving: Serving) -> None:
    size = GIVEN_FILE_BYTES_MAX + 1
    asked = {"workflow": "sums", "files": {"rates": {"size": size, "sha256": DIGEST}}}
    status, told = ask(serving, "POST", "/v1/uploads", asked, Idempotency_Key="k")
    assert (status, told["problems"][0]["path"]) == (422, "files.rates.size")
    (file,) = placed(serving)["files"]
    status, told = ask(serving, "PUT", file["url"], data=b"x", Content_Length=str(size))
    assert (status, told["type"]) == (413, "urn:runfold:problem:too-large")


def test_a_body_for_an_address_that_takes_none_is_not_waited_for(serving: Serving) -> None:
    assert ask(serving, "PUT", "/v1/runs", data=b"x")[0] == 405


def test_files_of_runs_that_nobody_asked_for_go_after_a_day(home: Home, serving: Serving) -> None:
    (file,) = placed(serving)["files"]
    ask(serving, "PUT", file["url"], data=DATA)
    (kept,) = files_below(home)
    long_ago = time.time() - FORGOTTEN_SECONDS - 60
    os.utime((home.path / kept).parent, (long_ago, long_ago))
    placed(serving, "k2")
    assert files_below(home) == []
