"""The page for Prometheus: true figures, a fixed number of lines, and nothing in them that a user wrote."""

import http.client
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from functions.api.embedded import Serving, serve_home
from local.engine import Engine
from local.home import Home
from local.metrics import Metrics
from local.queue import MemoryQueue
from shared.bootstrap import utc_now
from tests.engine.test_engine import ask, finished, job, run_until

LINE = re.compile(r'[a-z_]+(\{[a-z]+="[a-z]+"\})? [0-9][0-9.e+-]*')


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(Home(tmp_path / "home"), environment={"PATH": os.environ["PATH"]}, synchronous="NORMAL") as made:
        yield made


def figures(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines), lines
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def get(serving: Serving, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(urlsplit(serving.url).netloc, timeout=20)
    connection.request(method, "/metrics", headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.headers.get("Content-Type", ""), text


def test_the_ends_of_runs_are_counted_once_each_by_outcome(engine: Engine) -> None:
    before = figures(engine.metrics.page())
    good = ask(engine.parts, job("a", "true"), name="good")
    bad = ask(engine.parts, job("a", "exit 3"), name="bad")
    run_until(engine, finished(engine, good, bad))
    after = figures(engine.metrics.page())

    assert before['runfold_runs_ended_total{outcome="succeeded"}'] == 0
    assert after['runfold_runs_ended_total{outcome="succeeded"}'] == 1
    assert after['runfold_runs_ended_total{outcome="failed"}'] == 1
    assert after['runfold_runs_ended_total{outcome="cancelled"}'] == 0
    assert after['runfold_runs{status="running"}'] == 0
    assert after["runfold_sweeps_total"] > 0
    assert after["process_resident_memory_bytes"] > 1e6


def test_what_is_under_way_is_shown_while_it_is(engine: Engine, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    run = ask(engine.parts, job("a", f"while [ ! -e {go_on} ]; do sleep 0.05; done"))

    def is_shown() -> bool:
        told = figures(engine.metrics.page())
        return (told['runfold_runs{status="running"}'], told["runfold_processes"]) == (1, 1)

    run_until(engine, is_shown)
    go_on.touch()
    run_until(engine, finished(engine, run))
    assert figures(engine.metrics.page())['runfold_runs{status="running"}'] == 0


def test_names_values_and_numbers_of_runs_make_no_line_more(engine: Engine) -> None:
    names = set(figures(engine.metrics.page()))
    run = ask(engine.parts, job("a", "echo hunter2", environment={"SECRET": "hunter2"}), name="hostile-name")
    run_until(engine, finished(engine, run))
    page = engine.metrics.page()

    assert set(figures(page)) == names
    assert "hunter2" not in page
    assert "hostile" not in page
    assert len(names) < 40


def test_what_waits_fails_and_is_late_is_told() -> None:
    clock = [100.0]
    queue = MemoryQueue(lambda: clock[0])
    metrics = Metrics(queue, {"run#a@1": "damaged"}, now=utc_now)
    queue.send(["first", "second"])
    queue.send(["later"], delay_seconds=60)
    metrics.swept(utc_now() - timedelta(seconds=90))
    clock[0] += 7
    told = figures(metrics.page())

    assert (told["runfold_queue_messages"], told["runfold_queue_oldest_message_seconds"]) == (3, 7)
    assert 90 <= told["runfold_due_lag_seconds"] < 100
    assert (told["runfold_streams_left_alone"], told["runfold_dead_letters"]) == (1, 0)
    for _ in range(10):
        for receipt, _body in queue.receive(10):
            queue.failed(receipt, delay_seconds=0)
    assert figures(metrics.page())["runfold_dead_letters"] == 2


def test_the_page_is_served_without_making_the_engine_open_its_files_for_the_api(engine: Engine) -> None:
    with serve_home(engine.home, port=0, metrics=engine.metrics.page) as serving:
        status, kind, text = get(serving)
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert figures(text)["runfold_dead_letters"] == 0
        assert get(serving, "HEAD")[::2] == (200, "")
        assert get(serving, "POST")[0] == 405
        assert get(serving, Host="evil.example")[0] == 421
    with serve_home(engine.home, port=0) as serving:
        assert get(serving)[0] == 404


def test_where_the_engine_demands_a_token_so_does_the_page(engine: Engine) -> None:
    with serve_home(engine.home, port=0, demand_token=True, metrics=engine.metrics.page) as serving:
        status, _, text = get(serving)
        assert (status, "runfold_" in text) == (401, False)
        assert get(serving, Authorization=f"Bearer {serving.token}")[0] == 200


def test_every_figure_is_documented_and_every_documented_figure_is_there(engine: Engine) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    told = {name.partition("{")[0] for name in figures(engine.metrics.page())}
    assert set(re.findall(r"\b(?:runfold|process)_[a-z_]+", page)) == told
