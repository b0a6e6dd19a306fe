"""Documents at the command line: checked, planned, registered, rolled back; bad ones change nothing."""

import pytest

from tests.cli.calling import Runfold, document, ssm


def test_every_problem_of_every_file_is_told_and_nothing_is_registered(runfold: Runfold) -> None:
    good = runfold.file("good.json", document("good"))
    bad = runfold.file("bad.json", document("bad", ssm("a", "true", after=["b"]), ssm("a", "true"), ownr="me"))
    answer = runfold("register", good, bad)
    assert answer.code == 2
    for said in (bad, "ownr", "did you mean `owner`", "jobs[0].after[0]", "nothing was changed"):
        assert said in answer.err
    assert not (runfold.home / "runfold.db").exists()


def test_problems_are_json_on_standard_error_when_json_is_asked_for(runfold: Runfold) -> None:
    answer = runfold("register", "--json", runfold.file("bad.json", {"name": "x"}))
    assert answer.code == 2
    assert answer.out == ""
    assert "jobs" in [problem["path"] for problem in answer.error["problems"]]
    assert set(answer.error["problems"][0]) == {"path", "message", "hint"}


def test_validate_tells_good_from_bad_and_registers_neither(runfold: Runfold) -> None:
    good, bad = runfold.file("good.json", document("good")), runfold.file("bad.yaml", "name: [")
    answer = runfold("validate", good, bad, "--json")
    assert answer.code == 2
    assert [one["valid"] for one in answer.json] == [True, False]
    assert runfold("validate", good).code == 0
    assert not runfold.home.exists()


def test_a_document_comes_from_standard_input(runfold: Runfold) -> None:
    answer = runfold.process(
        "plan",
        "-",
        "--json",
        stdin=b'{"name": "piped", "jobs": [{"name": "a", "type": "ssm", "host": "localhost", "commands": ["true"]}]}',
    )
    assert answer.json["change"] == "new"
    assert answer.json["workflow"] == "piped"


def test_registering_again_changes_nothing_and_an_older_version_can_come_back(runfold: Runfold) -> None:
    runfold.register(ssm("a", "true"))
    assert runfold.good("register", runfold.file("demo.json", document("demo", ssm("a", "true"))), "--json").json[
        0
    ] == {
        "workflow": "demo",
        "version": 1,
        "changed": False,
        "differences": [],
    }
    changed = runfold.good("register", runfold.file("demo.json", document("demo", ssm("a", "false"))), "--json").json[0]
    assert changed["version"] == 2
    assert changed["differences"]
    back = runfold.good("register", "demo", "--version", "1", "--json").json[0]
    assert (back["version"], back["changed"]) == (3, True)
    shown = runfold.good("workflows", "demo", "--json").json
    assert shown["versions"][0]["document"] == shown["versions"][2]["document"]
    refused = runfold("register", "demo", "--version", "9")
    assert refused.code == 1
    assert "it has 1 to 3" in refused.err


def test_plan_says_what_would_change_and_changes_nothing(runfold: Runfold) -> None:
    runfold.register(ssm("a", "true"))
    same = runfold.file("same.json", document("demo", ssm("a", "true")))
    other = runfold.file("other.json", document("demo", ssm("a", "true"), ssm("b", "true", after=["a"])))
    assert runfold.good("plan", same, "--json").json["change"] == "unchanged"
    planned = runfold.good("plan", other, "--json").json
    assert (planned["change"], planned["next_version"], planned["jobs_by_type"]) == ("changed", 2, {"ssm": 2})
    assert any("job b added" in line for line in planned["differences"])
    assert "job b added" in runfold.good("plan", other).out
    assert runfold.good("workflows", "--json").json[0]["live_version"] == 1


def test_plan_shows_the_next_instants_and_the_odd_days_of_the_clocks(runfold: Runfold) -> None:
    schedule = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    planned = runfold.good(
        "plan", runfold.file("s.json", document("s", schedule=schedule)), "--json", "--next", "400"
    ).json
    assert len(planned["instants"]) == 400
    assert {one["note"] for one in planned["instants"]} == {"", "gap_shifted", "overlap_first"}


def test_plan_warns_of_a_schedule_that_never_comes_and_of_one_that_has_ended(runfold: Runfold) -> None:
    never = runfold.file("never.json", document("never", schedule={"cron": "0 0 30 2 *"}))
    ended = runfold.file("ended.json", document("ended", schedule={"cron": "0 0 * * *", "end": "2001-01-01T00:00:00"}))
    past = runfold.file("past.json", document("past", schedule={"at": "2001-01-01T00:00:00"}))
    assert "never comes" in runfold.good("plan", never).out
    assert "has ended" in runfold.good("plan", ended).out
    assert "it runs once" in runfold.good("plan", past).out


def test_a_workflow_is_taken_out_of_service_and_comes_back(runfold: Runfold) -> None:
    runfold.register()
    runfold.good("unregister", "demo", "--reason", "moved")
    assert runfold.good("workflows", "--json").json[0]["live_version"] is None
    refused = runfold("run", "demo")
    assert refused.code == 1
    assert "register it again" in refused.err
    runfold.register()
    assert runfold.good("workflows", "--json").json[0]["live_version"] == 2


def test_a_pause_shows_at_once_with_who_and_why(runfold: Runfold) -> None:
    runfold.register(schedule={"cron": "0 2 * * *"})
    runfold.good("pause", "demo", "--reason", "holiday", "--by", "ada")
    assert runfold.good("workflows", "--json").json[0]["paused"]
    paused = runfold.good("workflows", "demo", "--json").json["paused"]
    assert (paused["by"], paused["reason"]) == ("ada", "holiday")
    runfold.good("resume", "demo")
    assert not runfold.good("workflows", "--json").json[0]["paused"]


@pytest.mark.parametrize("command", ["pause", "resume", "unregister", "run"])
def test_a_misspelt_workflow_is_told_with_the_nearest_name(runfold: Runfold, command: str) -> None:
    runfold.register(name="nightly-sales")
    answer = runfold(command, "nightly-sale")
    assert answer.code == 1
    assert "did you mean nightly-sales?" in answer.err


def test_a_calendar_is_registered_beside_the_workflow_that_names_it_and_shown_with_its_days(runfold: Runfold) -> None:
    workflow = runfold.file(
        "a.json", document("a", schedule={"cron": "0 6 * * *", "exclude": {"calendars": ["days-off"]}})
    )
    days = runfold.file("days.yaml", "calendar: days-off\ndays: [saturday, 12-25]\n")
    refused = runfold("register", workflow)
    assert refused.code == 2
    assert "there is no calendar `days-off`" in refused.err
    done = runfold.good("register", workflow, days, "--json").json
    assert [one.get("calendar") or one["workflow"] for one in done] == ["days-off", "a"]
    assert runfold.good("register", days, "--json").json[0]["changed"] is False
    (listed,) = runfold.good("calendars", "--json").json
    assert (listed["calendar"], listed["version"], listed["days"]) == ("days-off", 1, ["saturday", "12-25"])
    assert "12-25" in runfold.good("calendars", "days-off").out
    assert "did you mean days-off?" in runfold("calendars", "day-off").err
    planned = runfold.good("plan", workflow, "--next", "10", "--json").json
    assert any("calendar days-off, version 1" in one["excluded"] for one in planned["instants"])
    assert [one["day"][5:] for one in planned["odd_days"]] == ["12-25"]
    assert "Odd days" in runfold.good("plan", workflow).out
    near = document("b", schedule={"cron": "0 6 * * *", "exclude": {"calendars": ["days-of"]}})
    assert "did you mean days-off?" in runfold("plan", runfold.file("b.json", near)).err
    assert runfold.good("validate", days, "--json").json[0]["calendar"] == "days-off"
    assert runfold("plan", days).code == 2
    assert '"CalendarRegistered"' in runfold.good("events", "calendar#days-off", "--json").out
    assert runfold("verify").code == 0
