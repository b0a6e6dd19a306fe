"""Runs at the command line, with real processes: asked for, watched, looked at, ended, done again."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.calling import Runfold, document, ssm

RUN_FIELDS = {"run", "workflow", "status", "scheduled_at", "started_at", "finished_at"}
ATTEMPT_FIELDS = {"attempt", "status", "handle", "exit_code", "failure_class"} | {
    "queued_at",
    "submitted_at",
    "started_at",
    "ended_at",
    "reason",
}
TRIES = 200


def eventually(look: Any, wanted: Any) -> Any:
    """Look again until it is so; the engine is another process."""
    found = None
    for _ in range(TRIES):
        found = look()
        if wanted(found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_a_run_is_waited_for_without_any_engine_and_answers_with_everything(runfold: Runfold) -> None:
    runfold.register(
        ssm("first", 'echo "hello $RUNFOLD_JOB"; echo \'{"rows": 3}\' > "$RUNFOLD_OUTPUTS"'),
        ssm("second", "test $RUNFOLD_ATTEMPT = 2", after=["first"], retry={"attempts": 2, "delay_seconds": 0}),
        ssm("third", "echo a,b > report.csv", after=["second"], outputs=[{"path": "report.csv", "save": True}]),
        tags=["sales"],
        owner="ada",
    )
    answer = runfold.process("run", "demo", "--wait", "--json", "--by", "grace", "--note", "by hand")
    assert answer.code == 0
    run = answer.json
    assert run["status"] == "succeeded"
    assert (run["workflow"], run["requested_by"], run["note"], run["version"] > 1) == ("demo", "grace", "by hand", True)
    assert [job["name"] for job in run["jobs"]] == ["first", "second", "third"]
    assert [job["status"] for job in run["jobs"]] == ["succeeded"] * 3
    failed, succeeded = run["jobs"][1]["attempts"]
    assert set(failed) >= ATTEMPT_FIELDS
    assert (failed["status"], failed["exit_code"], failed["failure_class"]) == ("failed", 1, "user")
    assert (succeeded["attempt"], succeeded["status"], succeeded["exit_code"]) == (2, "succeeded", 0)
    assert run["jobs"][0]["outputs"] == {"rows": 3}

    # Everything else is looked at afterwards, by several names of the same run.
    listed = runfold.good("runs", "--json").json
    assert set(listed[0]) >= RUN_FIELDS
    assert listed[0]["finished_at"]
    assert runfold.good("show", "demo", "--json").json["jobs"] == run["jobs"]
    assert runfold.good("show", run["run"][-8:], "--json").json["run"] == run["run"]
    assert runfold.good("show", run["run"][:-6], "--json").json["run"] == run["run"]
    asked = runfold.good("show", "demo", "--as-of", "1", "--json").json
    assert (asked["version"], asked["jobs"][0]["attempts"][0]["status"]) == (1, "queued")
    assert "hello first" in runfold.good("logs", "demo", "first").out
    assert runfold.good("logs", "demo", "first", "--json", "--stream", "err").json == []
    commits = runfold.good("events", "demo", "--json").json
    assert [one["version"] for one in commits] == list(range(1, run["version"] + 1))
    assert commits[0]["events"][0]["type"] == "RunRequested"
    assert runfold.good("events", "demo", "--json", "--after", "2").json == commits[2:]
    files = runfold.good("results", "demo", "--json").json
    assert [(one["path"], one["size"], one["job"]) for one in files] == [("report.csv", 4, "third")]
    assert runfold.process("results", "demo", "--get", "report.csv").out == "a,b\n"
    assert runfold.good("why", "demo", "--json").json["conditions"][0]["code"] == "run_finished"
    assert runfold.good("why", "demo", "second", "--json").json["conditions"][0]["code"] == "succeeded"
    assert runfold.good("verify", "--json").json["clean"]
    assert runfold.good("rebuild", "--json").json["equal"]
    for where, count in (
        (("--status", "succeeded"), 1),
        (("--status", "failed"), 0),
        (("--tag", "sales", "--owner", "ada"), 1),
        (("--tag", "other"), 0),
        (("--since", "1h"), 1),
        (("--until", "1h"), 0),
        (("--workflow", "demo"), 1),
    ):
        assert len(runfold.good("runs", "--json", *where).json) == count, where


def test_a_failed_run_exits_with_1_and_is_done_again_from_what_failed(runfold: Runfold) -> None:
    flag = runfold.folder / "mended"
    runfold.register(
        ssm("good", "true"), ssm("bad", f"test -e {flag}", after=["good"]), ssm("last", "true", after=["bad"])
    )
    failed = runfold.process("run", "demo", "--wait", "--json")
    assert failed.code == 1
    assert [job["status"] for job in failed.json["jobs"]] == ["succeeded", "failed", "upstream_failed"]
    assert "bad" in runfold.good("why", "demo", "last").out
    flag.touch()
    again = runfold.process("rerun", "demo", "--from-failed", "--wait", "--json")
    assert again.code == 0
    assert again.json["round"] == 2
    assert [len(job["attempts"]) for job in again.json["jobs"]] == [1, 2, 1]
    assert runfold.good("verify", "--json").json["clean"]


def test_in_a_pipe_each_change_is_a_line(runfold: Runfold) -> None:
    runfold.register(ssm("a", "sleep 0.3"), ssm("b", "exit 3", after=["a"]))
    answer = runfold.process("run", "demo", "--wait")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert re.fullmatch(r"demo@[0-9a-z]{26}", lines[0])
    assert any(line.endswith("a running (attempt 1)") for line in lines)
    assert any(line.endswith("b failed: exit code 3") for line in lines)
    assert "\x1b" not in answer.out


def test_parameters_and_files_reach_the_jobs_as_they_were_given(runfold: Runfold) -> None:
    """Fault 53: what looks like code stays text."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}, "count": {"type": "integer", "default": 2}}}
    runfold.register(
        ssm("say", 'printf "%s|%s" "$1" "$2"; cat given.txt', args=["{{ params.text }}", "{{ params.count }}"])
        | {"inputs": [{"path": "given.txt", "upload": "data"}]},
        parameters=schema,
    )
    hostile = "; touch pwned $(touch pwned) `touch pwned` {{ssm:x}} ${HOME} ' \" \\"
    given = runfold.folder / "given"
    given.write_text("from a file")
    values = runfold.file("values.yaml", "count: 5\ntext: overridden\n")
    run = runfold.process(
        "run", "demo", "--wait", "--json", "-p", f"text={hostile}", "--params-file", values, "--file", f"data={given}"
    ).json
    assert run["status"] == "succeeded"
    assert run["parameters"] == {"text": hostile, "count": 5}
    assert runfold.good("logs", "demo").out == f"{hostile}|5from a file\n"
    assert not list(runfold.home.rglob("pwned"))


def test_a_run_that_is_refused_leaves_no_files_behind(runfold: Runfold) -> None:
    runfold.register(ssm("a", "true", inputs=[{"path": "x", "upload": "data"}]))
    given = runfold.file("given", "x")
    for words in (
        (),
        ("--file", f"data={given}", "--file", f"other={given}"),
        ("--file", f"../../data={given}"),
        ("--file", f"data={given}.not-there"),
        ("--file", "data"),
        ("--file", f"data={given}", "-p", "nope=1"),
    ):
        answer = runfold("run", "demo", *words)
        assert answer.code == 2, words
    assert not list((runfold.home / "runs").rglob("*"))
    assert runfold.good("runs", "--json").json == []


def test_the_same_key_is_the_same_run_and_keeps_the_first_files(runfold: Runfold) -> None:
    runfold.register(ssm("a", "cat x", inputs=[{"path": "x", "upload": "data"}]))
    first = runfold.good("run", "demo", "--key", "k", "--file", f"data={runfold.file('1', 'one')}", "--json").json
    second = runfold.good("run", "demo", "--key", "k", "--file", f"data={runfold.file('2', 'two')}", "--json").json
    assert (first["run"], first["new"], second["new"]) == (second["run"], True, False)
    runfold.process("run", "demo", "--key", "k", "--file", f"data={runfold.file('3', 'three')}", "--wait")
    assert runfold.good("logs", "demo").out == "one\n"


def test_a_run_waits_for_its_time_and_says_so(runfold: Runfold) -> None:
    runfold.register()
    run = runfold.run("demo", "--at", "2h")
    assert runfold.good("show", run, "--json").json["status"] == "waiting"
    assert runfold.good("why", run, "--json").json["conditions"][0]["code"] == "before_its_time"
    runfold.good("cancel", run, "--reason", "not needed")
    assert runfold.good("show", run, "--json").json["status"] == "cancelled"
    assert runfold.good("runs", "--status", "cancelled", "--json").json[0]["run"] == run


def test_a_run_that_its_workflow_holds_back_is_shown_and_let_in_when_the_first_ends(runfold: Runfold) -> None:
    runfold.register(overlap="queue")
    first, second = runfold.run("demo", "--at", "2h"), runfold.run()
    assert [one["run"] for one in runfold.good("runs", "--json").json] == [second, first]
    assert runfold.good("show", second, "--json").json["held"]["reason"]
    assert runfold.good("show", "demo", "--json").json["run"] == second
    assert runfold.good("why", second, "--json").json["conditions"][0]["code"] == "held"
    assert "held" in runfold.good("runs").out
    runfold.good("cancel", first)
    # The first had not started, so it ends at once, and nobody but this command is there to let the second in.
    assert runfold.good("show", second, "--json").json["held"] is None
    assert runfold.process("run", "demo", "--wait", "--json").json["status"] == "succeeded"


def test_a_rerun_on_a_newer_document_has_the_parameters_that_it_declares(runfold: Runfold) -> None:
    integer = {"type": "integer", "default": 3}
    runfold.register(
        ssm("load", "false"), parameters={"type": "object", "properties": {"old": integer, "kept": integer}}
    )
    runfold.finished("demo", "--param", "kept=4")
    runfold.register(
        ssm("load", 'echo "$1"', args=["{{ params.kept }} {{ params.new }}"]),
        parameters={"type": "object", "properties": {"kept": integer, "new": {"type": "array", "default": [5]}}},
    )
    again = runfold.process("rerun", "demo", "--version", "latest", "--wait", "--json").json
    assert (again["status"], again["parameters"]) == ("succeeded", {"kept": 4, "new": [5]})
    assert runfold.good("logs", "demo", "load").out == "4 [5]\n"
    assert runfold.good("show", "demo", "--as-of", "1", "--json").json["parameters"] == {"old": 3, "kept": 4}
    assert runfold.good("verify").code == 0


def test_a_rerun_on_a_document_that_needs_what_the_run_was_never_given_is_refused(runfold: Runfold) -> None:
    runfold.register(ssm("load", "false"))
    run = runfold.finished()["run"]
    runfold.register(
        parameters={"type": "object", "properties": {"must": {"type": "integer"}}, "required": ["must"]},
    )
    before = runfold.good("events", run).out
    answer = runfold("rerun", run, "--version", "latest", "--job", "only")
    assert answer.code == 2
    assert (
        'params: "must" is a required property  → the run was asked for under another document: ask for a new one'
        in answer.err
    )
    runfold.good("unregister", "demo")
    assert "so no version is the latest" in runfold("rerun", run, "--version", "latest").err
    assert runfold.good("events", run).out == before


def test_what_changed_is_told_in_the_words_of_the_document(runfold: Runfold) -> None:
    runfold.register(ssm("load", "true"))
    runfold.file("in.json", "{}")
    changed = document("demo", ssm("load", "true", inputs=[{"path": "in.json", "upload": "in"}]))
    told = runfold.good("register", runfold.file("demo.json", changed)).out
    assert 'job load: inputs changed from none to [{"path": "in.json", "upload": "in"}]' in told


def test_why_says_that_no_engine_is_there_to_do_it(runfold: Runfold) -> None:
    runfold.register(ssm("only", "true"))
    run = runfold.run()
    assert "No engine is up" in runfold.good("why", run).out
    assert runfold.good("why", run, "--json").json["engine_up"] is False
    assert runfold.good("why", run, "--as-of", "1", "--json").json["engine_up"] is None
    runfold.finished()
    assert "No engine is up" not in runfold.good("why", "demo").out
    assert "No engine is up" not in runfold.good("why", "demo", "only").out
    assert "No engine is up" not in runfold.good("why", "nothing@2020-01-01T00:00:00Z").out


def test_why_a_workflow_does_not_run_is_answered_before_its_first_run(runfold: Runfold) -> None:
    runfold.register(schedule={"cron": "0 2 1 1 *"})
    runfold.good("pause", "demo", "--reason", "inventory")
    conditions = runfold.good("why", "demo", "--json").json["conditions"]
    assert [one["code"] for one in conditions] == ["before_its_time", "paused"]
    assert "inventory" in conditions[1]["message"]
    # Without a schedule nothing will come of itself.
    runfold.register(name="other")
    assert "`runfold run other` asks for one" in runfold("why", "other").err


def test_what_is_not_yet_past_cannot_be_looked_back_at(runfold: Runfold) -> None:
    runfold.register()
    run = runfold.run()
    for words in (("show", run), ("why", run)):
        answer = runfold(*words, "--as-of", "2999-01-01")
        assert answer.code == 2
        assert "2999-01-01 has not come" in answer.err


def test_a_run_that_was_pruned_is_not_said_to_have_never_been(runfold: Runfold) -> None:
    runfold.register()
    run = runfold.finished()["run"]
    runfold.good("prune", "--older-than", "0s")
    assert "or it was pruned" in runfold.good("why", run).out


def test_marking_needs_a_reason_and_records_who(runfold: Runfold) -> None:
    runfold.register(ssm("a", "exit 1"), ssm("b", "true", after=["a"]))
    run = runfold.finished()["run"]
    assert runfold("mark", run, "a", "succeeded").code == 2
    assert runfold("mark", run, "a", "succeeded", "--reason", " ").code == 2
    assert runfold("mark", run, "c", "succeeded", "--reason", "x").code == 1
    assert runfold("mark", run, "a", "perfect", "--reason", "x").code == 2


def test_what_is_marked_while_it_waits_counts(runfold: Runfold) -> None:
    runfold.register(ssm("a", "true"), ssm("b", "true", after=["a"]))
    run = runfold.run("demo", "--at", "2h")
    runfold.good("mark", run, "b", "skipped", "--reason", "done by hand", "--by", "ada")
    job = runfold.good("show", run, "--json").json["jobs"][1]
    assert (job["status"], job["marked_by"], job["reason"]) == ("skipped", "ada", "done by hand")


@pytest.mark.slow
def test_logs_are_followed_over_attempts_while_an_engine_runs_the_job(runfold: Runfold) -> None:
    runfold.register(
        ssm(
            "a",
            'echo "try $RUNFOLD_ATTEMPT"; sleep 0.4; test $RUNFOLD_ATTEMPT = 2',
            retry={"attempts": 2, "delay_seconds": 0.2},
        )
    )
    with runfold.engine() as engine:
        run = runfold.run()
        followed = runfold.process("logs", run, "a", "-f")
        assert followed.out.splitlines() == ["try 1", "try 2"]
        eventually(lambda: runfold.good("show", run, "--json").json["status"], lambda status: status == "succeeded")
        # Beside an engine that is up, waiting watches instead of running.
        assert runfold.process("run", "demo", "--wait", "--json").code == 0
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(20) == 0
        assert engine.stdout is not None
        told = [json.loads(line) for line in engine.stdout]
    assert {"kind": "run", "run": run, "status": "succeeded", "round": 1} in [
        {name: value for name, value in one.items() if name != "at"} for one in told
    ]


def test_two_engines_on_one_home_the_second_refuses_with_75(runfold: Runfold) -> None:
    with runfold.engine() as engine:
        refused = runfold.process("up", "--json")
        assert refused.code == 75
        assert str(engine.pid) in refused.error["error"]


@pytest.mark.slow
def test_an_engine_that_is_stopped_leaves_jobs_running_and_the_next_takes_them_up(runfold: Runfold) -> None:
    marker = runfold.folder / "done"
    runfold.register(ssm("a", f"sleep 1; echo once >> {marker}"))
    with runfold.engine() as engine:
        run = runfold.run()
        eventually(
            lambda: runfold.good("show", run, "--json").json["jobs"][0]["status"], lambda status: status == "running"
        )
        engine.send_signal(signal.SIGINT)
        assert engine.wait(20) == 0
        assert engine.stdout is not None
        assert json.loads(engine.stdout.readlines()[-1])["running"] == 1
    with runfold.engine():
        eventually(lambda: runfold.good("show", run, "--json").json["status"], lambda status: status == "succeeded")
    assert marker.read_text() == "once\n"


@pytest.mark.slow
def test_who_waits_becomes_the_engine_when_the_one_that_is_up_is_killed(runfold: Runfold) -> None:
    marker = runfold.folder / "done"
    runfold.register(ssm("a", f"sleep 0.6; echo a >> {marker}"), ssm("b", f"echo b >> {marker}", after=["a"]))
    with runfold.engine() as engine, runfold.begun("run", "demo", "--wait", "--json") as waiting:
        eventually(
            lambda: [one["status"] for one in runfold.good("runs", "--json").json], lambda found: found == ["running"]
        )
        engine.kill()
        out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 0
    assert json.loads(out)["status"] == "succeeded"
    assert marker.read_text() == "a\nb\n"


def test_an_engine_goes_on_when_nobody_reads_what_it_tells(runfold: Runfold) -> None:
    runfold.register()
    with runfold.engine() as engine:
        assert engine.stdout is not None
        engine.stdout.close()
        for _ in range(2):
            assert runfold.finished()["status"] == "succeeded"
        assert engine.poll() is None


@pytest.mark.slow
def test_who_stops_watching_leaves_the_run_going(runfold: Runfold) -> None:
    runfold.register(ssm("a", "sleep 1"))
    with runfold.begun("run", "demo", "--wait") as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            if "a running" in line:
                break
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert "goes on" in err
    assert "runfold up" in err
    assert runfold.good("show", "demo", "--json").json["status"] == "running"
    late = runfold.process("run", "demo", "--wait", "--timeout", "0.2")
    assert late.code == 75
    assert "goes on" in late.err


def test_a_command_that_nobody_reads_to_its_end_is_quiet(runfold: Runfold) -> None:
    runfold.register(ssm("a", "i=0; while [ $i -lt 4000 ]; do echo line of some length $i; i=$((i+1)); done"))
    runfold.finished()
    with runfold.begun("logs", "demo") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "line of some length 0\n"
        logs.stdout.close()
        assert logs.wait(20) == 141
        assert logs.stderr is not None
        assert logs.stderr.read() == ""


def test_pages_of_runs_follow_each_other_without_gaps(runfold: Runfold) -> None:
    runfold.register()
    asked = [runfold.run("demo", "--key", str(number)) for number in range(5)]
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        page = runfold.good("runs", "--limit", "2", "--json", "--cursor", cursor)
        seen += [one["run"] for one in page.json]
        cursor = json.loads(page.err)["cursor"] if page.err else ""
    assert seen == asked[::-1]
    assert cursor == ""


def test_runs_are_listed_oldest_first_where_that_is_asked_for(runfold: Runfold) -> None:
    runfold.register()
    asked = [runfold.run("demo", "--key", str(number)) for number in range(3)]
    page = runfold.good("runs", "--sort", "oldest", "--limit", "2", "--json")
    cursor = json.loads(page.err)["cursor"]
    rest = runfold.good("runs", "--sort", "oldest", "--json", "--cursor", cursor)
    assert [one["run"] for one in [*page.json, *rest.json]] == asked
    refused = runfold("runs", "--cursor", cursor)
    assert refused.code == 2
    assert "cursor: is of a list sorted by oldest, not by newest" in refused.err


def test_an_abbreviation_that_means_several_runs_is_refused_with_their_names(runfold: Runfold) -> None:
    runfold.register()
    runs = sorted((runfold.run("demo"), runfold.run("demo")))
    refused = runfold("show", "demo@")
    assert refused.code == 2
    assert all(run in refused.err for run in runs)


def test_prune_removes_what_ended_long_ago_with_its_files_and_nothing_else(runfold: Runfold) -> None:
    runfold.register(ssm("a", "echo x > f", outputs=[{"path": "f", "save": True}]))
    old = runfold.finished()["run"]
    waiting = runfold.run("demo", "--at", "2h")
    assert runfold.good("prune", "--older-than", "1h", "--json").json["pruned"] == []
    assert runfold.good("prune", "--older-than", "0s", "--dry-run", "--json").json["pruned"] == [old]
    assert (runfold.home / "runs" / old).is_dir()
    assert runfold.good("prune", "--older-than", "0s", "--json").json["pruned"] == [old]
    assert not (runfold.home / "runs" / old).exists()
    assert [one["run"] for one in runfold.good("runs", "--json").json] == [waiting]
    assert runfold("show", old).code == 1
    assert runfold.good("verify", "--json").json["clean"]


def test_rebuild_mends_lists_that_are_wrong_and_says_so(runfold: Runfold) -> None:
    import sqlite3

    runfold.register()
    run = runfold.run()
    before = runfold.good("runs", "--json").json
    with sqlite3.connect(runfold.home / "runfold.db") as database:
        database.execute("DELETE FROM runs")
        database.execute("INSERT INTO runs SELECT 'ghost@1', 1, 'ghost', 'failed', '', 1, '{}' WHERE 0")
    database.close()
    assert runfold.good("runs", "--json").json == []
    told = runfold.good("rebuild", "--json").json
    assert told["equal"] is False
    assert told["differences"] == [f"run#{run}: was not listed"]
    assert runfold.good("runs", "--json").json == before


def test_rebuild_brings_back_a_due_row_that_was_lost_and_a_dry_run_only_says_so(runfold: Runfold) -> None:
    """fault 34, of our own messages"""
    import sqlite3

    runfold.register(schedule={"cron": "0 2 * * *"})
    run = runfold.run()
    with sqlite3.connect(runfold.home / "runfold.db") as database:
        database.execute("DELETE FROM dues")
    database.close()
    assert {one["invariant"] for one in runfold("verify", "--json").json["violations"]} == {"I7"}
    told = runfold.good("rebuild", "--dry-run", "--json").json
    assert (told["due"], told["equal"], told["dry_run"]) == (2, False, True)
    assert runfold("verify", "--json").code == 1
    assert runfold.good("rebuild", "--json").json["due"] == 2
    assert runfold.good("verify", "--json").json["clean"]
    assert runfold.good("rebuild", "--json").json["equal"]
    with runfold.engine():
        eventually(lambda: runfold.good("show", run, "--json").json, lambda shown: shown["status"] == "succeeded")


def test_verify_looks_only_at_runs_of_late_when_asked_to(runfold: Runfold) -> None:
    runfold.register()
    runfold.run()
    assert runfold.good("verify", "--since", "1h", "--json").json["skipped"] == 0
    assert runfold.good("verify", "--since", "2999-01-01", "--json").json["skipped"] == 1
    assert "1 run of before left out" in runfold.good("verify", "--since", "2999-01-01").out
    assert runfold("verify", "--since", "soon").code == 2


def test_doctor_finds_what_is_wrong_with_the_settings(runfold: Runfold) -> None:
    runfold.register(ssm("a", "true"))
    (runfold.home / "settings.yaml").write_text("hots: {}\ncontainers: dockr\n")
    found = [one for one in runfold("doctor", "--json").json if one["what"] == "settings"]
    assert [one["level"] for one in found] == ["bad", "bad"]
    assert any("hosts" in one["message"] for one in found)


def test_doctor_finds_uploads_that_were_refused(runfold: Runfold) -> None:
    assert runfold.good("doctor", "--json").json[0]["what"] == "home"
    with runfold.engine():
        (runfold.home / "workflows" / "bad.json").write_text('{"name": "bad"}')
        eventually(
            lambda: [one for one in runfold("doctor", "--json").json if one["what"] == "parked"],
            lambda found: found and "bad.json" in found[0]["message"],
        )


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 100])
def test_on_a_terminal_lines_fit_its_width(runfold: Runfold, width: int) -> None:
    runfold.register(ssm("a-job-with-quite-a-long-name", "echo a; exit 1"), schedule={"cron": "0 2 * * *"})
    runfold.finished()
    for words in ("workflows", "runs", "doctor", "show demo", "why demo"):
        shown = on_a_terminal(runfold, width, *words.split())
        assert "\x1b[" in shown
        if words in ("workflows", "doctor"):
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
            assert max(len(line) for line in plain.splitlines()) <= max(width, 60)


def on_a_terminal(runfold: Runfold, width: int, *words: str) -> str:
    import os
    import pty
    import sys

    from tests.cli.calling import PYTHON_MAIN

    leader, follower = pty.openpty()
    environment = {**runfold.environment(), "TERM": "xterm-256color", "COLUMNS": str(width)}
    process = subprocess.Popen(
        [sys.executable, "-c", PYTHON_MAIN, *words],
        stdout=follower,
        stderr=follower,
        cwd=Path.cwd(),
        env=environment,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    process.wait(20)
    return shown.decode()
