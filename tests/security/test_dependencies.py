"""What can be known of the dependencies without a network: everything is pinned with hashes, locks agree, licences are allowed. What is
known to be vulnerable only the internet knows: `make audit` asks it, and never passes for having got no answer."""

import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.txt"))
APART = {"requirements-checkov.txt", "requirements-e2e.txt", "requirements-audit.txt"}
"""For environments of their own, whose versions need not agree with ours."""
PINNED = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9_,-]+\])?==(?P<version>[0-9][A-Za-z0-9.+!-]*)"
    r"(?: ; [^\\\n]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)
LICENCES = re.compile(
    r"apache|\bmit\b|\bmit-0\b|\bbsd|\bisc\b|\bpsf|python software foundation|mpl|mozilla public", re.IGNORECASE
)
"""What may be linked and passed on with an Apache-licensed program."""
COPYLEFT = re.compile(r"\b[al]?gpl|general public", re.IGNORECASE)


def pins(lock: Path) -> dict[str, set[str]]:
    """Versions by name; several where they differ by Python or system."""
    found: dict[str, set[str]] = {}
    for match in PINNED.finditer(lock.read_text()):
        found.setdefault(match["name"], set()).add(match["version"])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_line_of_a_lock_is_pinned_with_hashes_and_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    rest = PINNED.sub("", "\n".join(line for line in text.splitlines() if not line.startswith("#")) + "\n")
    assert rest.strip() == ""
    assert len(pins(lock)) > 5
    assert "://" not in text


def test_locks_that_share_an_environment_agree() -> None:
    known: dict[str, set[str]] = {}
    for lock in LOCKS:
        if lock.name in APART:
            continue
        for name, versions in pins(lock).items():
            assert known.setdefault(name, versions) == versions, f"{lock.name}: {name}"


def test_everything_that_is_declared_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups: dict[str, list[str]] = {
        "requirements.txt": project["project"]["dependencies"],
        "requirements-infra.txt": project["project"]["optional-dependencies"]["infra"],
        **{
            f"requirements-{name}.txt": words for name, words in project["dependency-groups"].items() if name != "infra"
        },
    }
    assert set(groups) == {lock.name for lock in LOCKS}
    for lock, words in groups.items():
        locked = pins(ROOT / lock)
        for word in words:
            name = re.split(r"[\[<>=!~ ;]", word, maxsplit=1)[0].lower().replace("_", "-")
            assert name in locked, f"{lock}: {name}"


def test_what_we_are_shipped_with_has_a_licence_that_allows_it() -> None:
    for name in pins(ROOT / "requirements.txt"):
        try:
            found = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            # Of another system or Python.
            continue
        classifiers = [one for one in found.get_all("Classifier", []) if one.startswith("License ::")]
        written = [*found.get_all("License-Expression", []), *found.get_all("License", [])]
        told = " | ".join([*(one[:200] for one in written), *classifiers])
        assert LICENCES.search(told), f"{name}: {told}"
        assert not COPYLEFT.search(told), f"{name}: {told}"


def test_the_installed_versions_are_those_of_the_locks() -> None:
    for name, versions in pins(ROOT / "requirements.txt").items():
        try:
            assert importlib.metadata.version(name) in versions, name
        except importlib.metadata.PackageNotFoundError:
            continue


# --- make audit -------------------------------------------------------------------------------------------------------

AUDIT = ROOT / "scripts" / "audit.py"
FINE: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
HOLED: dict[str, Any] = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN: dict[str, Any] = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([FINE], 0, "1 packages, none known to be vulnerable"),
        ([FINE, HOLED], 1, "b 2: CVE-1, mended in 3"),
        ([FINE, UNKNOWN], 3, "not checked: no network, or no answer about c"),
        ([HOLED, UNKNOWN], 1, "not checked: no network, or no answer about c"),
        ([], 3, "not checked: no network, or no answer about anything"),
    ],
)
def test_an_audit_that_got_no_answer_is_no_success(found: list[Any], code: int, said: str) -> None:
    judged, lines = runpy.run_path(str(AUDIT))["verdict"](found)
    assert judged == code
    assert said in lines


@pytest.mark.parametrize(
    ("answer", "code"), [('{"dependencies": []}', 3), ("", 3), (json.dumps({"dependencies": [FINE]}), 0)]
)
def test_an_audit_ends_as_its_worst_lock(tmp_path: Path, answer: str, code: int) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    words = [sys.executable, str(AUDIT), str(program), "one.txt", "two.txt"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    assert done.stdout.count("not checked") == (2 if code else 0)
