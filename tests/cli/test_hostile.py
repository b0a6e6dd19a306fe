"""Whatever is typed: a clear error, the right exit code, nothing changed, and never a traceback (faults 51, 53 and 57)."""

import json
from pathlib import Path

import pytest

from cli.commands.looking import harmless
from cli.main import COMMANDS, call
from cli.session import Session
from tests.cli.calling import Runfold, ssm

HOSTILE = [
    "",
    " ",
    "../../../../etc/passwd",
    "demo@../../../etc",
    "demo@..",
    "demo/../x",
    "'; DROP TABLE commits; --",
    "$(touch pwned)",
    "`touch pwned`",
    "{{ssm:secret}}",
    "%s%s%n",
    "\x1b[2J\x1b]0;pwned\x07",
    "a\nb",
    "a\0b",
    "é" * 40,
    "x" * 10_000,
    "@",
    "#",
    "run#",
    "workflow#../..",
    "demo@9999-99-99T99:99:99Z",
    "9" * 400,
    "-1",
    "\udcff",
    "~root",
    "*",
    "[bold red]x[/]",
]

ARGUMENTS: list[tuple[str, ...]] = [
    ("validate", "{}"),
    ("plan", "{}"),
    ("register", "{}"),
    ("register", "{}", "--version", "1"),
    ("register", "demo", "--version", "{}"),
    ("unregister", "{}"),
    ("workflows", "{}"),
    ("workflows", "--cursor", "{}"),
    ("pause", "{}"),
    ("resume", "{}"),
    ("run", "{}"),
    ("run", "demo", "--param", "{}"),
    ("run", "demo", "--param", "{}=1"),
    ("run", "demo", "--params-file", "{}"),
    ("run", "demo", "--file", "{}"),
    ("run", "demo", "--file", "{}=x"),
    ("run", "demo", "--at", "{}"),
    ("run", "demo", "--wait", "--timeout", "{}"),
    ("runs", "--cursor", "{}"),
    ("runs", "--since", "{}"),
    ("runs", "--limit", "{}"),
    ("show", "{}"),
    ("show", "demo", "--as-of", "{}"),
    ("why", "{}"),
    ("why", "demo", "{}"),
    ("events", "{}"),
    ("logs", "{}", "a"),
    ("logs", "demo", "{}"),
    ("logs", "demo", "a", "--attempt", "{}"),
    ("results", "{}"),
    ("results", "demo", "--get", "{}"),
    ("cancel", "{}"),
    ("cancel", "demo", "{}"),
    ("rerun", "{}"),
    ("rerun", "demo", "--job", "{}"),
    ("rerun", "demo", "--version", "{}"),
    ("mark", "{}", "a", "failed", "--reason", "x"),
    ("mark", "demo", "{}", "failed", "--reason", "x"),
    ("mark", "demo", "a", "{}", "--reason", "x"),
    ("prune", "--older-than", "{}"),
    ("verify", "{}"),
    ("completion", "{}"),
    ("{}",),
]


@pytest.mark.parametrize("words", ARGUMENTS, ids=" ".join)
def test_hostile_words_are_refused_in_a_line_and_change_nothing(
    runfold: Runfold, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runfold.folder)
    runfold.register(ssm("a", "true"))
    run = runfold.run("demo", "--at", "2h")
    before = runfold.good("events", run).out
    files = {path for path in runfold.folder.rglob("*") if "runfold.db" not in path.name}
    for hostile in HOSTILE:
        answer = runfold(*(word.replace("{}", hostile) for word in words))
        # What means nothing is an empty answer to some questions; it is never a crash.
        assert answer.code in (0, 1, 2), (hostile, answer)
        assert answer.code or words[0] not in ("register", "run", "mark", "cancel", "rerun", "unregister"), hostile
        # That documents are bad is the answer of `validate`; everything else is told as an error.
        told = answer.err or answer.out
        assert answer.code == 0 or told.startswith(("error: ", "Usage: ")) or ": 1 problem" in told, (hostile, answer)
        assert "\x1b[2J" not in answer.err + answer.out
        assert "\x07" not in answer.err + answer.out
        assert len(answer.err) < 5_000
    assert runfold.good("events", run).out == before
    assert len(runfold.good("runs", "--json").json) == 1
    assert {path for path in runfold.folder.rglob("*") if "runfold.db" not in path.name} == files


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_home_is_no_home(runfold: Runfold, hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runfold.folder)
    code = call(["--home", f"nowhere/{hostile}", "runs"], Session())
    assert code in (1, 2)
    assert not (runfold.folder / "nowhere").exists()


@pytest.mark.parametrize("hostile", [one for one in HOSTILE if not one.isprintable() and "\0" not in one])
def test_whoever_asks_has_a_printable_name(runfold: Runfold, hostile: str) -> None:
    answer = runfold("register", runfold.file("d.json", {"name": "d", "jobs": [ssm("a", "true")]}), "--by", hostile)
    assert answer.code == 2


def test_reasons_and_notes_with_control_characters_are_shown_and_not_obeyed(runfold: Runfold) -> None:
    runfold.register(ssm("a", "true"))
    run = runfold.run("demo", "--at", "2h", "--note", "\x1b[2Jnote")
    runfold.good("pause", "demo", "--reason", "\x1b]0;title\x07[bold]x[/bold]")
    runfold.good("cancel", run, "--reason", "\x1b[2Jreason")
    for words in (("show", run), ("workflows", "demo"), ("why", run), ("events", run), ("events", "workflow#demo")):
        shown = runfold.good(*words).out
        assert "\x1b" not in shown
        assert "\x07" not in shown
    assert "[bold]x[/bold]" in runfold.good("workflows", "demo").out


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\tb\rc", "a\tb\\x0dc"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_a_jobs_line_keeps_its_colours_and_nothing_else(line: str, shown: str) -> None:
    assert harmless(line, colours=True) == shown


def test_paths_in_results_lead_nowhere_else(runfold: Runfold) -> None:
    """Fault 57: only what a job declared and left can be named."""
    (runfold.folder / "secret").write_text("secret")
    runfold.register(ssm("a", "echo x > f", outputs=[{"path": "f", "save": True}]))
    runfold.finished()
    for path in ("../../../../secret", f"{runfold.folder}/secret", "f/../../secret", "a:../f", "./f", ""):
        answer = runfold("results", "demo", "--get", path)
        assert answer.code == 1, path
        assert "secret" not in answer.out
    target = runfold.folder / "there"
    target.write_text("mine")
    assert runfold("results", "demo", "--get", "f", "-o", str(target)).code == 2
    assert target.read_text() == "mine"


def test_a_home_that_is_not_there_is_said_and_not_made(runfold: Runfold) -> None:
    for words in (("runs",), ("workflows",), ("show", "x"), ("run", "x"), ("pause", "x"), ("verify",), ("rebuild",)):
        answer = runfold(*words)
        assert answer.code == 1, words
        assert "runfold register FILE" in answer.err
    assert not runfold.home.exists()


def test_another_programs_file_is_not_touched(runfold: Runfold) -> None:
    runfold.home.mkdir()
    (runfold.home / "runfold.db").write_text("not a database, and longer than a header " * 100)
    before = (runfold.home / "runfold.db").read_bytes()
    for words in (("runs",), ("register", runfold.file("d.json", {"name": "d", "jobs": [ssm("a", "true")]}))):
        assert runfold(*words).code == 1
    assert runfold("doctor").code == 1
    assert (runfold.home / "runfold.db").read_bytes() == before


def test_a_store_that_another_process_holds_is_to_be_tried_again(
    runfold: Runfold, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from shared.stores import sqlite

    runfold.register()
    monkeypatch.setattr(sqlite.SqliteDatabase.__init__, "__kwdefaults__", {**_defaults(sqlite), "busy_seconds": 0.05})
    holder = sqlite3.connect(runfold.home / "runfold.db", isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        answer = runfold("pause", "demo", "--json")
        assert answer.code == 75
        assert "try again" in answer.error["error"]
        # Reading goes on.
        assert runfold.good("workflows", "--json").json[0]["paused"] is False
    finally:
        holder.close()


def _defaults(sqlite: object) -> dict[str, object]:
    found: dict[str, object] = sqlite.SqliteDatabase.__init__.__kwdefaults__  # type: ignore[attr-defined]
    return found


def test_our_own_bug_is_one_line_with_a_report(runfold: Runfold, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.commands import looking

    runfold.register()

    def broken(*_words: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(looking, "_tell_runs", broken)
    answer = runfold("runs")
    assert answer.code == 70
    assert answer.err.count("\n") == 1
    report = Path(answer.err.split("written in ")[1].strip())
    assert report.parent == runfold.home / "crashes"
    assert "ZeroDivisionError: inside" in report.read_text()


@pytest.mark.parametrize("words", [(), ("--bogus",), ("bogus",), ("runs", "--bogus"), ("show",), ("mark", "a")])
def test_wrong_use_exits_with_2_and_points_to_the_help(runfold: Runfold, words: tuple[str, ...]) -> None:
    answer = runfold(*words)
    assert answer.code == 2
    assert "--help" in answer.err


def test_wrong_use_is_json_too_when_json_is_asked_for(runfold: Runfold) -> None:
    assert set(json.loads(runfold("runs", "--bogus", "--json").err)) == {"error", "problems"}
    assert set(json.loads(runfold("--json", "bogus").err)) == {"error", "problems"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(runfold: Runfold, name: str) -> None:
    shown = runfold.good(name, "--help").out
    assert shown.startswith(f"Usage: runfold {name} ")
    assert "Everywhere" in shown
