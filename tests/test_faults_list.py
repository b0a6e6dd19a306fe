"""The page `docs/faults.md` is true: every fault is in it once, and what it names is there and is about that fault.

`python -m tests.test_faults_list` names test files that mention a fault in its row, where they are not yet.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.deployment import RESTORE
from tests.simulation.models import ecs, emr, ssm
from tests.simulation.play import LIKELY, OF_TARGETS, OUTAGES

ROOT = Path(__file__).resolve().parent.parent
FAULTS = range(1, 61)
TESTS = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__).resolve())

_SEPARATOR = r",\s+(?:and\s+)?|\s+and\s+|_and_|\s+to\s+|–"
_FAULT = re.compile(rf"(?<![a-z])faults?[ _](\d+(?:(?:{_SEPARATOR})\d+)*)", re.IGNORECASE)


def faults_in(text: str) -> set[int]:
    """The numbers that a text mentions: `fault 12`, `faults 2 and 3`, `faults 1 to 4, 6`, `test_..._fault_49`."""
    found: set[int] = set()
    for mention in _FAULT.findall(text):
        numbers = [int(number) for number in re.split(_SEPARATOR, mention)]
        found.update(numbers)
        for separator, first, last in zip(re.findall(_SEPARATOR, mention), numbers, numbers[1:], strict=False):
            if separator.strip() in ("to", "–"):
                found.update(range(first, last))
    return found


@cache
def rows() -> list[list[str]]:
    lines = (ROOT / "docs/faults.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if re.match(r"\| \d+ \|", line)]


def row_of(number: int) -> list[str]:
    return next(row for row in rows() if row[0] == str(number))


def named_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def mentions(path: Path) -> tuple[set[int], dict[str, set[int]]]:
    """What the file mentions outside of its tests, and what each of its tests does, with its decorators and comments."""
    text = path.read_text()
    lines = text.splitlines()
    tests: dict[str, set[int]] = {}
    inside: set[int] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min(node.lineno, *(one.lineno for one in node.decorator_list), node.lineno)
            span = range(first - 1, node.end_lineno or node.lineno)
            tests[node.name] = faults_in("\n".join(lines[line] for line in span))
            inside.update(span)
    return faults_in("\n".join(line for number, line in enumerate(lines) if number not in inside)), tests


def test_every_fault_is_listed_once_and_in_order() -> None:
    assert [row[0] for row in rows()] == [str(number) for number in FAULTS]
    assert {len(row) for row in rows()} == {5}
    assert all(what and ours for _, what, ours, _, _ in rows())


@pytest.mark.parametrize("number", FAULTS)
def test_what_a_fault_is_shown_by_is_there_and_is_about_it(number: int) -> None:
    _, _, ours, shown_by, _ = row_of(number)
    named = named_in(shown_by)
    wrong = []
    for name in named:
        path, _, test = name.partition("::")
        if not (ROOT / path).is_file():
            wrong.append(f"{name}: there is no such file")
            continue
        outside, tests = mentions(ROOT / path)
        if test and test not in tests:
            wrong.append(f"{name}: there is no such test")
        elif number not in outside | (tests[test] if test else set().union(*tests.values())):
            wrong.append(f"{name} does not say fault {number}")
    assert wrong == []
    assert any("::" in name for name in named) or "**Waits for**" in ours, "nothing shows it, and it waits for nothing"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_every_fault_that_a_test_mentions_leads_from_the_list_to_its_file(path: Path) -> None:
    outside, tests = mentions(path)
    name = str(path.relative_to(ROOT))
    mentioned = outside.union(*tests.values())
    assert mentioned <= set(FAULTS)
    listed = {
        number for number in mentioned if any(one.partition("::")[0] == name for one in named_in(row_of(number)[3]))
    }
    assert sorted(mentioned - listed) == [], (
        f"docs/faults.md: name `{name}` in these rows (`python -m tests.test_faults_list`)"
    )


def test_every_name_of_the_simulator_is_one() -> None:
    known = set(struck_by_name()) | {
        *LIKELY,
        *OUTAGES,
        RESTORE,
        *(f"{service} {what}" for service in ("ecs", "emr", "ssm") for what in OF_TARGETS),
        *(name for model in (ecs, emr, ssm) for name in (*model.FAULTS, *model.BRANCHES)),
    }
    unknown = {name for row in rows() for name in named_in(row[4])} - known
    assert unknown == set()


def struck_by_name() -> Iterator[str]:
    """What the simulator asks for, or counts, by a name that it says on the spot."""
    for path in (ROOT / "tests/simulation").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if node.func.attr in ("happens", "during", "sometimes") and isinstance(first, ast.Constant):
                    yield str(first.value)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("fault 12", {12}),
        ("Faults 2 and 3.", {2, 3}),
        ("faults 1 to 4, 6, and 8", {1, 2, 3, 4, 6, 8}),
        ("faults 39–40", {39, 40}),
        ("def test_faults_51_and_53_no_upload() -> None", {51, 53}),
        ("test_a_twin_conflicts_fault_42", {42}),
        ("fault 51: 50 MB", {51}),
        ("defaults 7", set()),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: set[int]) -> None:
    assert faults_in(text) == numbers


def name_files() -> None:
    """Puts every test file that mentions a fault into its row."""
    page = ROOT / "docs/faults.md"
    lines = page.read_text().splitlines(keepends=True)
    for path in TESTS:
        outside, tests = mentions(path)
        name = str(path.relative_to(ROOT))
        for number in outside.union(*tests.values()):
            index = next(index for index, line in enumerate(lines) if line.startswith(f"| {number} | "))
            before, shown_by, plays = lines[index].rsplit(" | ", 2)
            if all(one.partition("::")[0] != name for one in named_in(shown_by)):
                joined = ", " if "also in " in shown_by else "; also in " if shown_by else "in "
                lines[index] = f"{before} | {shown_by}{joined}`{name}` | {plays}"
    page.write_text("".join(lines))


if __name__ == "__main__":
    name_files()
