"""`runfold backfill`: asking, rehearsing, listing, showing, pausing, cancelling; at home and, alike, behind the API."""

from collections.abc import Iterator
from typing import Any

import pytest

from functions.api.embedded import serve_home
from local.home import Home
from tests.cli.calling import Runfold, ssm
from tests.cli.test_remote import Remote

JANUARY = ("--from", "2026-01-01", "--until", "2026-02-01")


@pytest.fixture
def nightly(runfold: Runfold) -> Runfold:
    runfold.register(ssm("load", "true"), name="nightly", schedule={"cron": "0 2 * * *"})
    return runfold


@pytest.fixture
def remote(nightly: Runfold, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    for name in ("RUNFOLD_API", "RUNFOLD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    found = Remote(nightly.folder, capfd)
    with serve_home(Home(nightly.home), port=0, user="carol") as serving:
        found.url = serving.url
        yield found


def ask(runfold: Runfold, *words: str) -> Any:
    return runfold.good("backfill", *words, "--json").json


def test_a_rehearsal_tells_how_many_and_writes_nothing(nightly: Runfold) -> None:
    told = nightly.good("backfill", "nightly", *JANUARY, "--dry-run").out
    assert "31 instants, 2026-01-01T02:00:00Z to 2026-01-31T02:00:00Z" in told
    assert "31 would be run" in told
    assert ask(nightly) == []


def test_a_backfill_is_asked_for_listed_and_shown(nightly: Runfold) -> None:
    asked = ask(nightly, "nightly", *JANUARY, "--max-active", "2", "--reason", "late source", "--key", "k")
    assert (asked["new"], asked["count"]) == (True, 31)
    assert ask(nightly, "nightly", *JANUARY, "--max-active", "2", "--key", "k")["new"] is False
    (row,) = ask(nightly)
    assert (row["backfill"], row["status"], row["active"]) == (asked["backfill"], "running", 2)
    assert ask(nightly, "nightly") == [row]
    shown = ask(nightly, asked["backfill"])
    assert [one["status"] for one in shown["instants"]] == ["active", "active"]
    assert shown["reason"] == "late source"
    text = nightly.good("backfill", asked["backfill"]).out
    assert "0 of 31 (2 active)" in text
    assert "no more may be at once" in text
    assert "No engine is up" in text
    run = nightly.good("show", "nightly@2026-01-01T02:00:00Z").out
    assert f"a part of the backfill {asked['backfill']}" in run
    why = nightly.good("why", "nightly@2026-01-01T02:00:00Z", "--json").json["conditions"]
    assert [one["code"] for one in why][-1] == "part_of_backfill"
    events = nightly.good("events", f"backfill#{asked['backfill']}", "--json").json
    assert [event["type"] for commit in events for event in commit["events"]][:2] == [
        "BackfillRequested",
        "BackfillRunAdmitted",
    ]


def test_a_backfill_is_paused_resumed_and_cancelled(nightly: Runfold) -> None:
    backfill = ask(nightly, "nightly", *JANUARY)["backfill"]
    assert ask(nightly, backfill, "--pause", "--reason", "lunch")["status"] == "paused"
    assert ask(nightly, backfill, "--resume")["status"] == "running"
    assert ask(nightly, backfill, "--cancel")["status"] in ("cancelling", "cancelled")
    refused = nightly("backfill", backfill, "--resume")
    assert (refused.code, "cancelled" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nightly", "--from", "2026-01-01"), "--until"),
        (("--from", "2026-01-01", "--until", "2026-02-01"), "WORKFLOW"),
        (("nightly", "--dry-run"), "--dry-run goes with"),
        (("nightly@b1", "--pause", "--cancel"), "different things"),
        (("nightly", "--pause"), "name the backfill"),
        (("--wait",), "name the backfill"),
        (("nightly", *JANUARY, "--cancel"), "that is there"),
        (("nightly", *JANUARY, "--max-active", "0"), "max_active"),
        (("nightly", "--from", "soon", "--until", "later"), "neither a day nor an instant"),
        (("nightly", *JANUARY, "-p", "unknown=1"), "unknown"),
    ],
)
def test_wrong_use_is_told_and_changes_nothing(nightly: Runfold, words: tuple[str, ...], says: str) -> None:
    answer = nightly("backfill", *words)
    assert (answer.code, says in answer.err) == (2, True), answer
    assert ask(nightly) == []


def test_what_is_not_there_is_not_found(nightly: Runfold) -> None:
    for words in (("nightly@b1",), ("nightly@b1", "--pause"), ("nobody",), ("nobody", *JANUARY), ("no/thing@b1",)):
        assert nightly("backfill", *words).code == 1, words


def test_who_waits_sees_it_to_its_end(nightly: Runfold) -> None:
    with nightly.engine():
        done = nightly.process(
            "backfill", "nightly", "--from", "2026-01-01", "--until", "2026-01-04", "--wait", "--json"
        )
    assert (done.code, done.json["status"], done.json["succeeded"]) == (0, "succeeded", 3)
    assert nightly.good("verify").code == 0
    assert "equal" in nightly.good("rebuild", "--dry-run").out


def test_prune_keeps_what_later_runs_of_an_instant_are_numbered_by(nightly: Runfold) -> None:
    day = ("--from", "2026-01-01", "--until", "2026-01-02", "--wait")
    with nightly.engine():
        for words in ((), ("--which", "all")):
            assert nightly.process("backfill", "nightly", *day, *words).code == 0
    first, second = "nightly@2026-01-01T02:00:00Z", "nightly@2026-01-01T02:00:00Z.2"
    assert nightly.good("prune", "--older-than", "0s", "--json").json["pruned"] == [second]
    assert nightly.good("prune", "--older-than", "0s", "--json").json["pruned"] == [first]


def test_who_waits_without_an_engine_is_told_to_try_again(nightly: Runfold) -> None:
    waited = nightly("backfill", "nightly", *JANUARY, "--wait")
    assert (waited.code, "runfold up" in waited.err) == (75, True)


def test_it_answers_alike_at_home_and_behind_the_api(nightly: Runfold, remote: Remote) -> None:
    rehearsed = [one("backfill", "nightly", *JANUARY, "--dry-run", "--json").out for one in (nightly, remote)]
    assert rehearsed[0] == rehearsed[1]
    asked = remote.good("backfill", "nightly", *JANUARY, "--max-active", "3", "--json").json
    for words in ((), ("nightly",), (asked["backfill"],), (asked["backfill"], "--all")):
        told = [one("backfill", *words, "--json").json for one in (nightly, remote)]
        assert told[0] == told[1], words
    assert remote.good("backfill", asked["backfill"], "--pause", "--json").json["status"] == "paused"
    assert nightly.good("backfill", asked["backfill"], "--cancel", "--json").json["status"] == "cancelled"
    events = [one("events", f"backfill#{asked['backfill']}", "--json").json for one in (nightly, remote)]
    assert events[0] == events[1]
