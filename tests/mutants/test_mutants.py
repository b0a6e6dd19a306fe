"""The deliberate bugs can still be put in, and the page tells of each. Whether tests notice them, `make mutants` finds out."""

import ast
import re
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, Stale
from tests.mutants.trial import caught_in

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_bug_replaces_is_there_exactly_once_and_it_can_be_read(mutant: Mutant) -> None:
    text = mutant.applied(ROOT)
    if mutant.file.endswith(".py"):
        ast.parse(text)


def test_the_page_tells_of_every_bug_and_of_no_other() -> None:
    page = (ROOT / "docs" / "mutants.md").read_text().partition("## The bugs")[2].partition("\n## ")[0]
    told = [name for name in re.findall(r"^\| ([a-z0-9-]+) \|", page, re.MULTILINE) if name not in ("bug", "---")]
    assert sorted(told) == sorted(mutant.name for mutant in MUTANTS)


def test_what_is_likely_to_catch_a_bug_exists() -> None:
    for mutant in MUTANTS:
        assert all((ROOT / path.partition("::")[0]).exists() for path in mutant.likely), mutant.name


def test_a_bug_whose_text_is_gone_or_there_twice_is_stale(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    with pytest.raises(Stale, match="2 times"):
        Mutant("twice", "a.py", "x = 1", "x = 2").applied(tmp_path)
    with pytest.raises(Stale, match="0 times"):
        Mutant("gone", "b.py", "x = 1", "x = 2").applied(tmp_path)


def test_the_test_that_failed_is_read_from_what_pytest_says() -> None:
    said = "F\n=== short test summary info ===\nFAILED tests/rules/test_a.py::test_b[x y] - assert 1 == 2\n1 failed"
    assert caught_in(said) == "tests/rules/test_a.py::test_b[x y]"
    assert caught_in("ERROR tests/rules/test_a.py - ImportError: x") == "tests/rules/test_a.py"
    assert caught_in("nothing of the kind") == ""
