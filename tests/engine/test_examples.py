"""Every example does what it says, run as a newcomer would: by the command, with real processes, in a fresh home.

The demo, the README's tour and the picture are examples as well; what the README shows is compared with what is answered.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shared.schedule import due
from shared.workflow.reading import read

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DOCUMENTS = sorted(
    [*EXAMPLES.glob("*.yaml"), *EXAMPLES.glob("waits/*.yaml"), *EXAMPLES.glob("*.json"), *EXAMPLES.glob("*/workflow.*")]
)
SECONDS_MAX = 60


class Home:
    """A home and the command that works on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "RUNFOLD_HOME": str(path),
            "RUNFOLD_USER": "ada",
            "LANG": "C.UTF-8",
        }

    def ask(self, *words: str, code: int = 0) -> Any:
        """The JSON answer of one command, which must end with `code`."""
        ended = subprocess.run(
            ["runfold", *words, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert ended.returncode == code, ended.stderr or ended.stdout
        return json.loads(ended.stdout)

    def run(self, workflow: str, code: int = 0, **parameters: object) -> "Ended":
        words = [word for name, value in parameters.items() for word in ("--param", f"{name}={value}")]
        return Ended(self, self.ask("run", workflow, *words, "--wait", code=code))


class Ended:
    """A run that has ended."""

    def __init__(self, home: Home, answer: Mapping[str, Any]) -> None:
        self.answer = answer
        self.jobs: dict[str, Any] = {job["name"]: job for job in answer["jobs"]}
        self.statuses = {name: job["status"] for name, job in self.jobs.items()}
        self._folder: Path = home.path / "runs" / answer["run"]

    def written(self, job: str) -> str:
        attempt: int = self.jobs[job]["attempts"][-1]["attempt"]
        return (self._folder / job / str(attempt) / "out").read_text()

    def kept(self, job: str, path: str) -> str:
        attempt: int = self.jobs[job]["attempts"][-1]["attempt"]
        return (self._folder / "_files" / job / str(attempt) / path).read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("examples") / "home")
    home.ask("register", *map(str, DOCUMENTS))
    return home


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(EXAMPLES).as_posix())
def test_every_example_is_named_in_the_list_of_examples(document: Path) -> None:
    name = document.relative_to(EXAMPLES).as_posix()
    assert f"]({name})" in (EXAMPLES / "README.md").read_text()


def test_hello_greets_whoever_is_named_whatever_the_name_holds(home: Home) -> None:
    assert home.run("hello").written("greet") == "Hello, world!\n"
    assert home.run("hello", name="Ada; echo 'and $HOME'").written("greet") == "Hello, Ada; echo 'and $HOME'!\n"


def test_arrivals_takes_in_each_thing_once_whatever_tells_of_it(home: Home, tmp_path: Path) -> None:
    def told(*event: str) -> Any:
        (one,) = home.ask("trigger", *event)
        return one

    first, again = (told("--object", "s3://landing/orders/a.csv") for _ in range(2))
    assert (first["fate"], again["fate"], again["run"]) == ("started", "known", first["run"])
    assert home.ask("trigger", "--object", "s3://landing/orders/a.txt") == []
    order = tmp_path / "order.json"
    for number, amount in enumerate((101, 102, 3)):
        detail = {"order": "o-7", "state": "PAID", "amount": amount}
        order.write_text(json.dumps({"id": str(number), "source": "shop", "detail-type": "Order", "detail": detail}))
        taken = home.ask("trigger", str(order))
        assert [one["fate"] for one in taken] == [["started"], ["known"], []][number]
    assert told("--object", "s3://landing/orders/a.csv")["fate"] == "known"


def test_notices_tell_of_a_failure_and_of_the_first_success_after_it(home: Home) -> None:
    home.run("notices", code=1, fail="true")
    home.run("notices")
    home.run("notices")
    told = [one for row in home.ask("alerts", "notices", "--since", "1h") for one in row["notices"]]
    assert [(one["on"], one["status"]) for one in told] == [("recovered", "sent"), ("failed", "sent")]


def test_nightly_runs_each_night_in_berlin_also_when_the_clocks_change() -> None:
    workflow = read((EXAMPLES / "nightly.yaml").read_bytes(), name="nightly.yaml")
    assert workflow.schedule is not None
    spring = due(workflow.schedule, datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC))
    assert [one.at.isoformat() for one in spring] == ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]
    autumn = due(workflow.schedule, datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 26, 12, tzinfo=UTC))
    assert [one.at.isoformat() for one in autumn] == ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]


def test_weekdays_keeps_its_days_off_and_says_why(home: Home) -> None:
    planned = home.ask("plan", str(EXAMPLES / "weekdays.yaml"), "--next", "400")
    working = [one["local"][:10] for one in planned["instants"] if not one["excluded"]]
    assert all(datetime.fromisoformat(day).weekday() < 5 for day in working)
    assert not {day[5:] for day in working} & {"01-01", "05-01"}
    assert any("calendar bank-holidays, version 1" in one["excluded"] for one in planned["instants"])
    assert any("calendar bank-holidays" in one["reason"] for one in planned["odd_days"])
    assert home.run("weekdays").written("report").startswith("the report of ")


@pytest.mark.slow
@pytest.mark.parametrize(("verdict", "code"), [("approve", 0), ("reject", 1)])
def test_release_runs_hello_and_goes_on_as_a_person_decides(home: Home, verdict: str, code: int) -> None:
    words = ["runfold", "run", "release", "--param", f"name={verdict}", "--key", verdict, "--wait", "--json"]
    running = subprocess.Popen(words, cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, text=True)
    try:
        deadline = datetime.now(UTC) + timedelta(seconds=SECONDS_MAX)
        while not (waiting := home.ask("runs", "release", "--attention", "approval")):
            assert datetime.now(UTC) < deadline
        run = waiting[0]["run"]
        (condition,) = [one for one in home.ask("why", run)["conditions"] if one["code"] == "approval"]
        assert f"{verdict} was greeted. Go on?" in condition["message"]
        (child,) = home.ask("runs", "--parent", run)
        assert Ended(home, home.ask("show", child["run"])).written("greet") == f"Hello, {verdict}!\n"
        home.ask(verdict, run, "go", "--reason", "as it should be")
        answer, _ = running.communicate(timeout=SECONDS_MAX)
    finally:
        running.kill()
    assert running.returncode == code
    ended = Ended(home, json.loads(answer))
    assert [(one["job"], one["run"]) for one in ended.answer["children"]] == [("greet", child["run"])]
    if verdict == "approve":
        assert ended.written("announce") == "ada said yes\n"
        assert ended.statuses["withdraw"] == "skipped"
    else:
        assert ended.written("withdraw") == "never mind\n"
        assert (ended.statuses["go"], ended.statuses["announce"]) == ("failed", "upstream_failed")


@pytest.mark.slow
def test_nightly_covers_the_interval_between_two_instants_when_the_schedule_starts_it(tmp_path: Path) -> None:
    # The same document, every second instead of every night.
    text = (EXAMPLES / "nightly.yaml").read_text()
    text = text.replace('cron: "30 2 * * *"', "rate: 1 second").replace("timezone: Europe/Berlin", "timezone: UTC")
    home = Home(tmp_path / "home")
    document = tmp_path / "nightly.yaml"
    document.write_text(text)
    home.ask("register", str(document))
    engine = subprocess.Popen(["runfold", "up"], cwd=ROOT, env=home.environment, stdout=-3, stderr=-3)
    try:
        deadline = datetime.now(UTC) + timedelta(seconds=SECONDS_MAX)
        while not (runs := [one for one in home.ask("runs") if one["status"] == "succeeded"]):
            assert datetime.now(UTC) < deadline
    finally:
        engine.terminate()
        engine.wait(SECONDS_MAX)
    ended = Ended(home, home.ask("show", runs[-1]["run"]))
    words = ended.written("load").split()
    start, end = datetime.fromisoformat(words[1]), datetime.fromisoformat(words[3])
    assert end - start == timedelta(seconds=1)
    assert end == datetime.fromisoformat(ended.answer["scheduled_at"])


def test_nightly_is_run_for_nights_of_before_as_a_backfill(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.ask("register", str(EXAMPLES / "nightly.yaml"))
    nights = ("backfill", "nightly", "--from", "2026-03-27", "--until", "2026-04-01")
    rehearsal = home.ask(*nights, "--dry-run")["rehearsal"]
    assert (rehearsal["to_run"], [odd["note"] for odd in rehearsal["odd"]]) == (5, ["gap_shifted"])
    engine = subprocess.Popen(["runfold", "up"], cwd=ROOT, env=home.environment, stdout=-3, stderr=-3)
    try:
        backfill = home.ask(*nights, "--max-active", "2")["backfill"]
        deadline = datetime.now(UTC) + timedelta(seconds=SECONDS_MAX)
        while (found := home.ask("backfill", backfill))["status"] == "running":
            assert datetime.now(UTC) < deadline
    finally:
        engine.terminate()
        engine.wait(SECONDS_MAX)
    assert (found["status"], found["succeeded"]) == ("succeeded", 5)
    run = found["instants"][2]["run"]
    assert run == "nightly@2026-03-29T01:00:00Z"
    words = Ended(home, home.ask("show", run)).written("load")
    assert words.startswith(
        "from 2026-03-28T01:30:00+00:00 to 2026-03-29T01:00:00+00:00 for Sunday, 29 March 2026 since "
    )
    assert home.ask("verify")["clean"]


def test_report_publishes_once_the_ingest_of_the_same_night_has_ended(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name in ("ingest", "report"):
        home.ask("register", str(EXAMPLES / "waits" / f"{name}.yaml"))
    engine = subprocess.Popen(["runfold", "up"], cwd=ROOT, env=home.environment, stdout=-3, stderr=-3)
    try:
        deadline = datetime.now(UTC) + timedelta(seconds=SECONDS_MAX)
        while len(ended := [one for one in home.ask("runs") if one["finished_at"]]) < 2:
            assert datetime.now(UTC) < deadline
    finally:
        engine.terminate()
        engine.wait(SECONDS_MAX)
    ingest, report = (Ended(home, home.ask("show", run)) for run in sorted(one["run"] for one in ended))
    assert ingest.answer["scheduled_at"] == report.answer["scheduled_at"]
    assert set(report.statuses.values()) == {"succeeded"}
    assert report.jobs["publish"]["attempts"][0]["queued_at"] >= ingest.answer["finished_at"]
    assert report.written("publish").startswith("the report of ")
    events = [one for commit in home.ask("events", report.answer["run"]) for one in commit["events"]]
    assert [one.get("job", "") for one in events if one["type"] == "WaitMet"] == ["", "publish"]


def test_nightly_that_is_asked_for_by_hand_covers_no_interval(home: Home) -> None:
    assert home.run("nightly").written("load").startswith("from the beginning to ")


def test_retries_spend_the_budget_of_their_class(home: Home) -> None:
    ended = home.run("retries")
    failures = {name: [one["failure_class"] for one in job["attempts"]] for name, job in ended.jobs.items()}
    assert failures == {
        "third-time-lucky": ["user", "user", None],
        "too-slow-once": ["timeout", None],
        "never-again": [None],
    }


def test_branches_run_one_side_and_skip_the_other(home: Home) -> None:
    assert home.run("branches").statuses == {
        "count": "succeeded",
        "load": "succeeded",
        "small": "skipped",
        "large": "succeeded",
        "call-somebody": "skipped",
        "clean-up": "succeeded",
    }
    broken = home.run("branches", code=1, broken="true", rows=7)
    assert broken.statuses == {
        "count": "succeeded",
        "load": "failed",
        "small": "succeeded",
        "large": "skipped",
        "call-somebody": "succeeded",
        "clean-up": "succeeded",
    }
    assert broken.written("call-somebody") == "load ended as failed\n"


def test_pools_share_a_capacity_and_the_heavy_job_takes_all_of_it(home: Home) -> None:
    home.ask("pools", "set", "warehouse", "2")
    ended = home.run("pools")
    assert set(ended.statuses.values()) == {"succeeded"}
    shown = home.ask("pools", "warehouse")
    assert (shown["capacity"], shown["used"], shown["waiting"]) == (2, 0, 0)


def test_shops_loads_each_shop_tolerates_the_closed_one_and_reports_on_all(home: Home) -> None:
    ended = home.run("shops")
    assert ended.statuses == {"list": "succeeded", "load": "succeeded", "report": "succeeded"}
    items = ended.jobs["load"]["items"]
    assert items["statuses"] == {"succeeded": 3, "failed": 1}
    assert items["bad"] == ["load:2"]
    assert ended.written("report") == '[{"rows":1},{"rows":2},null,{"rows":4}]\n'
    assert ended.jobs["report"]["outputs"] == {"shops": 4}
    run = ended.answer["run"]
    assert "loading paris" in (home.path / "runs" / run / "load:1" / "1" / "out").read_text()
    told = home.ask("why", run, "load:2")
    assert "load:2 failed" in told["conditions"][0]["message"]
    again = home.ask("rerun", run, "--job", "load:2", "--wait")
    assert {job["name"]: job["status"] for job in again["jobs"]}["load"] == "succeeded"
    assert again["jobs"][1]["items"]["statuses"] == {"succeeded": 3, "failed": 1}


def test_files_pass_files_and_values_on_and_save_the_letter(home: Home) -> None:
    ended = home.run("files")
    head, *rows = ended.kept("letter", "letter.txt").splitlines()
    assert head == f"Run {ended.answer['run']}: 2 cities, the largest is Lagos."
    assert sorted(rows) == ["Lagos,15", "Lima,11", "city,people"]
    assert [one["path"] for one in home.ask("results", ended.answer["run"])] == ["letter.txt"]


def test_script_hands_hostile_values_over_byte_for_byte_fault_53(home: Home) -> None:
    title = "$(touch owned); `id` & 'quoted' \"twice\" {{ run }} %s *"
    other = "-n \\ \u2028 é"
    for value, ended in ((title, home.run("script")), (other, home.run("script", title=other))):
        for job in ("by-script", "by-commands"):
            assert ended.kept(job, f"{job}.txt").split("\n") == ["2", value, "two words", value, ""]
    assert not list(home.path.rglob("owned"))


def test_steps_go_on_after_the_one_that_fails_and_the_job_fails_with_its_code(home: Home) -> None:
    assert "100 numbers" in home.run("steps").written("count")
    failed = Ended(home, home.ask("run", "steps", "--param", "code=7", "--wait", code=1))
    assert failed.jobs["count"]["attempts"][-1]["exit_code"] == 7
    assert "100 numbers" in failed.written("count")


@pytest.mark.skipif(shutil.which("spark-submit") is None, reason="there is no local Spark")
@pytest.mark.slow
def test_spark_runs_where_there_is_a_local_spark(home: Home) -> None:
    ended = home.run("spark-months", folder=EXAMPLES)
    assert len(ended.kept("months", "months.csv").splitlines()) == 13


@pytest.mark.skipif(shutil.which("spark-submit") is not None, reason="there is a local Spark")
def test_spark_is_refused_with_what_would_help_where_there_is_none(home: Home) -> None:
    ended = home.run("spark-months", code=1, folder=EXAMPLES)
    assert "pip install pyspark" in ended.jobs["months"]["reason"]
    assert ended.jobs["months"]["attempts"][-1]["failure_class"] == "refused"


# --- the demo and the picture -------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Counts what a page shows, and notices what is fetched from elsewhere or left open."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_demo_shows_where_to_look_and_its_report_and_picture_are_whole(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    # Twice: whoever tries it again must not meet what the first time left.
    _demo(home)
    told = _demo(home)
    ended = Ended(home, home.ask("show", "seattle-weather"))
    assert {name for name, status in ended.statuses.items() if status != "succeeded"} == {"all-quiet"}
    assert {job["type"] for job in ended.jobs.values()} == {"ecs", "emr", "ssm"}
    assert [one["exit_code"] for one in ended.jobs["fetch"]["attempts"]] == [1, 0]
    assert ended.written("message").startswith("Seattle, 2012-01-01 to 2015-12-31: 623 of 1461 days were wet")

    report = re.search(r"^ +(\S+/report\.html)$", told, re.MULTILINE)
    assert report is not None, told
    page = _Page()
    page.feed(Path(report[1]).read_text())
    page.close()
    assert page.open == []
    assert page.fetched == []
    # A bar and a calendar cell for each day.
    assert page.tags.count("rect") == 2 * 1461
    assert page.tags.count("tr") == 1 + 9

    commits = home.ask("events", ended.answer["run"])
    picture = ElementTree.fromstring(_picture_module().draw(commits))
    texts = ["".join(one.itertext()) for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert set(ended.jobs) <= set(texts)
    assert "skipped" in texts
    tips = [one.text or "" for one in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert [tip.partition(" after")[0] for tip in tips if tip.startswith("fetch,")] == [
        "fetch, attempt 1: failed",
        "fetch, attempt 2: succeeded",
    ]

    # What the demo says to try, works.
    for line in re.findall(r"^ +(?:\.venv/bin/)?runfold (.*?)(?:  .*)?$", told, re.MULTILINE):
        tried = subprocess.run(
            ["runfold", *line.split()], cwd=ROOT, env=home.environment, capture_output=True, text=True, check=False
        )
        assert tried.returncode == 0, line + tried.stderr
        assert tried.stdout


def _demo(home: Home) -> str:
    ended = subprocess.run(
        ["bash", str(EXAMPLES / "demo.sh")],
        cwd=ROOT,
        env=home.environment | {"RUNFOLD_DEMO_HOME": str(home.path), "DEMO_PACE_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _picture_module() -> Any:
    spec = importlib.util.spec_from_file_location("picture", EXAMPLES / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["picture"] = module
    spec.loader.exec_module(module)
    return module


# --- the README's tour --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tour_of_the_readme_answers_what_the_readme_shows(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    steps = [step for block in blocks for step in _steps(block) if not step[0].startswith("make ")]
    assert len(steps) >= 10
    # One shell for all of it, as it would be typed; a line in between tells the answers apart.
    script = "".join(f"{command}\necho '== {number}'\n" for number, (command, _) in enumerate(steps))
    told = subprocess.run(
        ["bash"],
        input=script,
        cwd=ROOT,
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    ).stdout
    answers = re.split(r"^== \d+\n", told, flags=re.MULTILINE)
    assert len(answers) == len(steps) + 1, told
    for (command, shown), answer in zip(steps, answers, strict=False):
        assert re.fullmatch(_pattern(shown), answer.strip(), re.DOTALL), (
            f"{command}\nshown:\n{shown}\nanswered:\n{answer}"
        )


def _steps(block: str) -> list[tuple[str, str]]:
    """Commands, and what is shown under each."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], (shown.strip() for shown in parts[2::2]), strict=True))


def _pattern(shown: str) -> str:
    """`…` stands for anything; so do the parts that no two runs share: ids, times, lengths of time; and runs of spaces for each other."""
    pattern = re.escape(shown)
    for volatile, anything in (
        ("…", r".*"),
        (r"@[0-9a-z]{26}", r"@[0-9a-z]{26}"),
        (r"\d\d\d\d\\-\d\d\\-\d\dT\d\d:\d\d:\d\d(?:\\\.\d+)?Z", r"[0-9T:.Z-]+"),
        (r"\d\d:\d\d:\d\d\\\.\d\d\d", r"[0-9:.]+"),
        (r"\d+\\\.\d\\ s\b", r"[0-9.]+ (?:s|min [0-9]+ s)"),
        (r"(?:\\ )+", r" +"),
    ):
        pattern = anything.join(re.split(volatile, pattern))
    return pattern


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "examples/README.md"])
def test_a_page_names_only_what_is_there(page: str) -> None:
    path = ROOT / page
    text = path.read_text()
    named = [path.parent / target for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    named += [ROOT / name for name in re.findall(r"`((?:shared|local|cli|functions|examples|docs)/[\w./-]*)`", text)]
    assert named
    assert [str(one) for one in named if not one.exists()] == []
