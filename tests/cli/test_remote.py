"""The same commands on a home and on the HTTP API before it: the same answers, the same exit codes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from cli.main import call
from cli.remote import TRIES_MAX, Client
from cli.session import Session
from functions.api.embedded import serve_home
from local.home import Home
from shared.errors import InvalidInput, NotFound, Rejected, RunfoldError, StoreUnavailable
from tests.cli.calling import Answer, Runfold, document, ssm

OUTPUT = 'echo one; echo wrong >&2; echo a,b > report.csv; echo \'{"rows": 3}\' > "$RUNFOLD_OUTPUTS"'


class Remote(Runfold):
    """The command, given an address instead of a home."""

    url = ""

    def __call__(self, *words: str) -> Answer:
        self._capture.readouterr()
        code = call(["--api", self.url, *words], Session())
        shown = self._capture.readouterr()
        assert "Traceback" not in shown.err + shown.out
        return Answer(code, shown.out, shown.err)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "RUNFOLD_HOME": str(self.folder / "none"), "RUNFOLD_API": self.url}


@pytest.fixture
def remote(
    runfold: Runfold, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Remote]:
    """Before the same home as `runfold`."""
    for name in ("RUNFOLD_API", "RUNFOLD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    home = Home(runfold.home)
    home.make()
    found = Remote(tmp_path, capfd)
    with serve_home(home, port=0, user="carol") as serving:
        found.url = serving.url
        yield found


def history(runfold: Runfold) -> tuple[str, str]:
    """A run that succeeded, and one of another workflow that failed."""
    runfold.register(
        ssm("first", OUTPUT, outputs=[{"path": "report.csv", "save": True}]),
        ssm("second", "true", after=["first"]),
        tags=["sales"],
        owner="ada",
        schedule={"cron": "0 2 * * *"},
    )
    runfold.register(ssm("bad", "exit 3"), ssm("never", "true", after=["bad"]), name="lab")
    good = runfold.finished()["run"]
    bad = runfold.process("run", "lab", "--wait", "--json").json["run"]
    return good, bad


def test_every_look_answers_alike_at_home_and_behind_the_api(runfold: Runfold, remote: Remote) -> None:
    good, bad = history(runfold)
    file = runfold.file("changed.json", document("demo", ssm("first", "true"), schedule={"cron": "0 3 * * *"}))
    for words in (
        ("workflows",),
        ("workflows", "--limit", "1"),
        ("workflows", "demo"),
        ("plan", file, "--next", "3"),
        ("plan", runfold.file("new.json", document("new"))),
        ("runs",),
        ("runs", "demo"),
        ("runs", "--status", "failed"),
        ("runs", "--tag", "sales", "--owner", "ada", "--since", "1h"),
        ("runs", "--until", "1h"),
        ("show", good),
        ("show", "lab"),
        ("show", good[:-6]),
        ("show", good[-8:]),
        ("show", "demo", "--as-of", "2"),
        ("events", good),
        ("events", good, "--after", "2", "--limit", "1"),
        ("events", "workflow#demo"),
        ("logs", "demo", "first"),
        ("logs", "demo", "first", "--stream", "err"),
        ("logs", "lab", "bad", "--attempt", "1"),
        ("results", "demo", "--get", "report.csv"),
        ("results", "lab"),
    ):
        for way in ((), ("--json",)):
            at_home, away = runfold(*words, *way), remote(*words, *way)
            assert (away.code, away.out) == (at_home.code, at_home.out), (words, away)
            assert at_home.code == 0, (words, at_home)
    for words in (
        ("why", good),
        ("why", bad, "never"),
        ("why", "demo@2030-01-01T02:00:00Z"),
        ("why", good, "--as-of", "2"),
    ):
        at_home, away = runfold(*words, "--json").json, remote(*words, "--json").json
        assert away["conditions"] == at_home["conditions"]
        assert away.keys() == at_home.keys()


def test_files_are_listed_with_where_they_are_and_fetched(runfold: Runfold, remote: Remote) -> None:
    history(runfold)
    (at_home,) = runfold.good("results", "demo", "--json").json
    (away,) = remote.good("results", "demo", "--json").json
    assert {**away, "address": ""} == {**at_home, "address": ""}
    assert away["address"].startswith(f"{remote.url}/v1/runs/")
    target = remote.folder / "fetched"
    assert remote.good("results", "demo", "--get", "report.csv", "-o", str(target)).code == 0
    assert target.read_text() == "a,b\n"


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nothing"),
        ("show", "demo@2030-01-01T02:00:00Z"),
        ("show", "demo", "--as-of", "99"),
        ("show", "demo", "--as-of", "never"),
        ("runs", "nothing"),
        ("workflows", "nothing"),
        ("logs", "demo"),
        ("logs", "demo", "third"),
        ("logs", "lab", "never"),
        ("logs", "demo", "first", "--attempt", "7"),
        ("events", "workflow#nothing"),
        ("results", "demo", "--get", "other.csv"),
        ("run", "nothing"),
        ("run", "demo", "--param", "x=1"),
        ("cancel", "nothing"),
        ("cancel", "demo", "third"),
        ("rerun", "demo", "--version", "77"),
        ("mark", "demo", "first", "failed", "--reason", " "),
        ("pause", "nothing"),
        ("resume", "../x"),
        ("unregister", "nothing"),
        ("register", "demo", "--version", "77"),
        ("register", "bad.json"),
    ],
)
def test_what_is_refused_at_home_is_refused_alike(shared_world: tuple[Runfold, Remote], words: tuple[str, ...]) -> None:
    runfold, remote = shared_world
    at_home, away = runfold(*words, "--json"), remote(*words, "--json")
    assert away.code == at_home.code in (1, 2), (at_home, away)
    assert away.out == at_home.out == ""
    assert away.error.keys() == at_home.error.keys()


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refused")


@pytest.fixture
def shared_world(
    shared_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Runfold, Remote]]:
    """One history for all that is refused: nothing changes it."""
    for name in ("RUNFOLD_HOME", "RUNFOLD_USER", "RUNFOLD_API", "RUNFOLD_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    runfold, remote = Runfold(shared_folder, capfd), Remote(shared_folder, capfd)
    if not runfold.home.exists():
        history(runfold)
        (shared_folder / "bad.json").write_text('{"name": "bad", "jobs": []}')
    monkeypatch.chdir(shared_folder)
    with serve_home(Home(runfold.home), port=0, user="carol") as serving:
        remote.url = serving.url
        yield runfold, remote


def test_what_is_asked_for_over_the_api_is_done_and_bears_the_callers_name(runfold: Runfold, remote: Remote) -> None:
    file = runfold.file(
        "demo.json",
        document("demo", ssm("a", "true"), ssm("b", "exit $1", args=["{{ params.code }}"]), parameters=CODE),
    )
    assert remote.good("register", file, "--json").json == [
        {"workflow": "demo", "version": 1, "changed": True, "differences": []}
    ]
    assert remote.good("pause", "demo", "--reason", "holiday", "--json").json["paused"]["by"] == "carol"
    assert remote.good("resume", "demo", "--json").json == runfold.good("workflows", "demo", "--json").json
    with runfold.engine():
        failed = remote("run", "demo", "--wait", "--json", "-p", "code=4", "--key", "once")
        assert failed.code == 1
        run = failed.json["run"]
        assert (failed.json["status"], failed.json["parameters"]) == ("failed", {"code": 4})
        again = remote.good("run", "demo", "--json", "--key", "once", "-p", "code=4").json
        assert (again["run"], again["new"]) == (run, False)
        assert remote("rerun", run, "--wait").code == 1
        marked = remote.good("mark", run, "b", "succeeded", "--reason", "by hand", "--json").json
        assert (marked["jobs"][1]["marked_by"], marked["jobs"][1]["status"]) == ("carol", "succeeded")
        other = remote.good("run", "demo", "--json").json
        assert (other["new"], other["held"]) == (True, False)
        remote("cancel", other["run"], "--reason", "enough")
    assert remote.good("unregister", "demo", "--json").json == {"workflow": "demo", "live_version": None}
    assert remote("run", "demo").code == 1
    assert remote.good("register", "demo", "--version", "1", "--json").json[0]["version"] == 2


CODE = {"type": "object", "properties": {"code": {"type": "integer", "default": 0}}}


def test_in_a_pipe_each_change_of_a_run_that_is_waited_for_is_a_line(runfold: Runfold, remote: Remote) -> None:
    runfold.register(ssm("a", "sleep 0.3"), ssm("b", "exit 3", after=["a"]))
    with runfold.engine():
        answer = remote("run", "demo", "--wait")
    assert answer.code == 1
    assert any("b failed" in line and "exit code 3" in line for line in answer.out.splitlines())
    assert "runfold logs" in answer.out


def test_output_is_followed_to_the_end_of_the_job(runfold: Runfold, remote: Remote) -> None:
    runfold.register(ssm("a", "echo one; sleep 0.5; echo two"))
    with runfold.engine():
        run = remote.good("run", "demo", "--json").json["run"]
        assert remote.good("logs", run, "a", "-f").out.splitlines() == ["one", "two"]


def test_waiting_stops_when_the_time_is_up_and_the_run_goes_on(runfold: Runfold, remote: Remote) -> None:
    runfold.register(ssm("a", "true"))
    answer = remote("run", "demo", "--wait", "--timeout", "1s", "--json")
    assert answer.code == 75
    assert answer.json["status"] == "running"


def test_runs_that_are_held_back_are_listed_and_found(runfold: Runfold, remote: Remote) -> None:
    runfold.register(ssm("a", "true"), max_active_runs=1, overlap="queue", tags=["sales"])
    first, held = runfold.run(), runfold.run()
    for words in (
        ("runs",),
        ("runs", "demo"),
        ("runs", "--status", "waiting"),
        ("runs", "--sort", "oldest"),
        ("runs", "--tag", "none"),
        ("show", "demo"),
    ):
        assert remote.good(*words, "--json").json == runfold.good(*words, "--json").json, words
    assert {row["run"] for row in remote.good("runs", "--json").json} == {first, held}
    assert remote.good("cancel", held, "--json").json == {"run": held, "status": "cancelled"}


@pytest.mark.parametrize("words", [("up",), ("prune", "--older-than", "30d"), ("rebuild",), ("verify",), ("doctor",)])
def test_what_works_on_the_files_of_a_home_says_so(remote: Remote, words: tuple[str, ...]) -> None:
    answer = remote(*words)
    assert answer.code == 2
    assert f"`runfold {words[0]}` works on the files of a home" in answer.err


def test_only_one_engine_can_be_meant_and_the_api_knows_who_asks(remote: Remote) -> None:
    assert remote("--home", str(remote.home), "runs").code == 2
    assert "by your token" in remote("runs", "--by", "ada").err


def test_the_environment_names_the_api_and_a_home_that_is_typed_goes_before_it(
    runfold: Runfold, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    runfold.register()
    monkeypatch.setenv("RUNFOLD_API", "http://127.0.0.1:1")
    assert runfold.good("workflows", "--json").json[0]["workflow"] == "demo"
    monkeypatch.setenv("RUNFOLD_API", remote.url)
    assert call(["workflows"], Session()) == 0


def test_a_token_is_sent_from_the_environment_or_a_file(
    runfold: Runfold, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    runfold.register()
    with serve_home(Home(runfold.home), port=0, demand_token=True) as serving:
        remote.url = serving.url
        assert serving.token
        refused = remote("workflows")
        assert (refused.code, "RUNFOLD_TOKEN" in refused.err) == (1, True)
        remote.good("workflows", "--token-file", str(runfold.home / "token"))
        monkeypatch.setenv("RUNFOLD_TOKEN", serving.token)
        remote.good("workflows")
    assert remote("workflows", "--token-file", str(runfold.folder / "none")).code == 2
    assert remote("workflows", "--token-file", runfold.file("empty", "")).code == 2
    monkeypatch.setenv("RUNFOLD_TOKEN", "two words")
    assert remote("workflows").code == 2


def test_a_token_that_expires_while_output_is_followed_ends_the_look_and_not_the_run(
    runfold: Runfold, remote: Remote
) -> None:
    """Fault 57: what was shown stays shown, nothing more comes, and the reason is told."""
    go = runfold.folder / "go"
    runfold.register(ssm("a", f"echo one; while [ ! -e {go} ]; do sleep 0.05; done; echo two"))
    with runfold.engine(), expiring(remote.url, b"one") as url:
        run = remote.good("run", "demo", "--json").json["run"]
        until(lambda: remote("logs", run, "a").out == "one\n")
        there, remote.url = remote.url, url
        answer = remote("logs", run, "a", "-f")
        remote.url = there
        assert (answer.code, answer.out) == (1, "one\n")
        assert "the token has expired; RUNFOLD_TOKEN or --token-file says who you are" in answer.err
        go.touch()
        until(lambda: remote.good("show", run, "--json").json["status"] == "succeeded")


@contextmanager
def expiring(there: str, after: bytes) -> Iterator[str]:
    """The address of a gateway before an API that lets nobody through any more once an answer held these words."""
    expired = threading.Event()

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 401, b'{"type": "urn:x", "detail": "the token has expired"}'
            if not expired.is_set():
                with urlopen(f"{there}{self.path}", timeout=10) as answer:
                    status, body = answer.status, answer.read()
            if after in body:
                expired.set()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://host", "http://", "http://host:port", "http://host?x", "http://u:p@host"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Client(url, None)


# --- an engine that cannot answer -------------------------------------------------------------------------------------------


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives these answers, the last one for ever; its address, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, headers, body = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.command, self.path, dict(self.headers), data))
            if status == 0:
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *words: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def client(url: str, pauses: list[float]) -> Client:
    return Client(url, "secret", sleep=pauses.append, spread=lambda: 1.0)


@pytest.mark.parametrize("status", [429, 502, 503, 504, 0])
def test_what_may_pass_is_asked_again_after_growing_pauses(status: int) -> None:
    pauses: list[float] = []
    with answering((status, {"Retry-After": "1"}, b""), (status, {}, b""), (200, {}, b'{"ok": 1}')) as (url, asked):
        assert client(url, pauses).ask("POST", "/v1/x", body={}, key="k").object == {"ok": 1}
    assert pauses == ([0.25, 0.5] if status == 0 else [1.0, 0.5])
    assert {headers["Idempotency-Key"] for _, _, headers, _ in asked} == {"k"}


def test_an_engine_that_never_answers_is_given_up_with_75(runfold: Runfold, remote: Remote) -> None:
    pauses: list[float] = []
    with answering((503, {"Retry-After": "999999"}, b"")) as (url, asked), pytest.raises(StoreUnavailable):
        client(url, pauses).get("/v1/x")
    assert len(asked) == TRIES_MAX
    assert max(pauses) <= 10
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        remote.url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        answer = remote("workflows")
    assert (answer.code, "does not answer" in answer.err) == (75, True)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b"", Rejected),
        (403, b'{"message": "Forbidden"}', Rejected),
        (404, b"<html>", NotFound),
        (404, b'{"type": "urn:x", "detail": "there is no run x"}', NotFound),
        (409, b'{"type": "urn:x", "detail": "it has ended"}', Rejected),
        (422, b'{"type": "urn:x", "problems": [{"path": "a", "message": "b", "hint": ""}]}', InvalidInput),
        (500, b"", RunfoldError),
        (200, b"<html>", RunfoldError),
        (200, b"[" * 100_000, RunfoldError),
        (301, b"", RunfoldError),
    ],
)
def test_what_will_not_pass_is_told_at_once(status: int, body: bytes, error: type[Exception]) -> None:
    with answering((status, {}, body)) as (url, asked), pytest.raises(error):
        client(url, []).get("/v1/x")
    assert len(asked) == 1


def test_a_bomb_of_compressed_nothing_is_refused() -> None:
    import gzip

    body = gzip.compress(b"\0" * (65 * 1024 * 1024), 9)
    with answering((200, {"Content-Encoding": "gzip"}, body)) as (url, _), pytest.raises(RunfoldError, match="longer"):
        client(url, []).get("/v1/x")


def test_the_token_is_not_sent_to_where_a_file_lies_and_a_broken_download_is_told() -> None:
    with answering((200, {}, b"data")) as (there, asked):
        moved = (302, {"Location": f"{there}/bucket/key?sig=1"}, b"")
        with answering(moved) as (url, first), client(url, []).download("/v1/x") as opened:
            assert opened.read() == b"data"
        assert first[0][2]["Authorization"] == "Bearer secret"
        assert asked[0][1] == "/bucket/key?sig=1"
        assert "Authorization" not in asked[0][2]
    with answering((200, {"Content-Length": "10"}, b"data")) as (url, _), client(url, []).download("/v1/x") as opened:
        assert opened.read(4) == b"data"
        with pytest.raises(StoreUnavailable):
            opened.read(4)


def test_a_run_is_given_files_over_the_api_as_at_home(runfold: Runfold, remote: Remote, tmp_path: Path) -> None:
    job = {**ssm("a", "cat rates.csv"), "inputs": [{"path": "rates.csv", "upload": "rates"}]}
    runfold.register(job)
    rates = tmp_path / "rates 1.csv"
    rates.write_text("eur;1\n")
    with runfold.engine():
        for asking in (remote, runfold):
            run = asking.good("run", "demo", "--file", f"rates={rates}", "--wait", "--json").json["run"]
            assert asking.good("logs", run, "a").out == "eur;1\n"
        first, again = (
            remote.good("run", "demo", "--file", f"rates={rates}", "--key", "k", "--json").json for _ in range(2)
        )
    assert (first["new"], again["new"], again["run"]) == (True, False, first["run"])


@pytest.mark.parametrize("given", ["rates=/nowhere/at/all", "other=/etc/hosts", "../x=/etc/hosts"])
def test_a_file_that_cannot_be_given_is_told_and_nothing_is_asked_for(
    runfold: Runfold, remote: Remote, given: str
) -> None:
    runfold.register({**ssm("a", "true"), "inputs": [{"path": "rates.csv", "upload": "rates"}]})
    assert remote("run", "demo", "--file", given).code == 2
    assert remote.good("runs", "--json").json == []
