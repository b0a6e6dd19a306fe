"""The documentation holds together: every page is in the index, every link leads somewhere, and its commands and numbers are those of the code."""

import json
import re
from pathlib import Path

import pytest

from functions.api.service import BODY_BYTES_MAX
from infra.configuration import Configuration
from shared.decide.run import SLICE_BYTES
from shared.executors.workspace import OUTPUTS_BYTES_MAX
from shared.ports import COMMIT_BYTES_MAX, PAGE_MAX, SCANNED_MAX
from shared.usecases.bulk import RUNS_MAX, SECONDS_MAX
from shared.workflow.document import JOBS_MAX
from shared.workflow.parameters import SCHEMA_DEPTH_MAX, SCHEMA_SIZE_MAX, VALUES_SIZE_MAX
from shared.workflow.reading import RESOLVED_MAX
from shared.workflow.syntax import SIZE_MAX
from shared.workflow.timing import CATCHUP_MAX_DEFAULT, CATCHUP_MAX_LIMIT
from tests.cli.calling import Runfold

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
MIB = 1024 * 1024

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    return (DOCS / name).read_text()


def links_of(page: Path) -> list[str]:
    prose = _FENCE.sub("", page.read_text())
    # A picture may be the text of a link.
    return _LINK.findall(re.sub(r"\[!\[[^\]]*\]\(([^)]+)\)\]", r"![](\1) []", prose))


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_relative_link_leads_to_something(page: Path) -> None:
    broken = []
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    listed = {(DOCS / link.partition("#")[0]).resolve() for link in links_of(DOCS / "README.md")}
    pages = {page for page in DOCS.rglob("*") if page.suffix in (".md", ".json")} - {DOCS / "README.md"}
    assert {str(page.relative_to(DOCS)) for page in pages - listed} == set()


def test_the_commands_name_make_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([a-z][a-z-]*)`|^\$ make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE):
            name = "".join(target)
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), (page.name, name)


def test_every_page_names_the_same_release_of_the_cdk_s_command() -> None:
    named = {one for page in PAGES for one in re.findall(r"aws-cdk@([\d.]+)", page.read_text())}
    assert len(named) == 1
    (library,) = re.findall(r"^aws-cdk-lib==([\d.]+)", (ROOT / "requirements-infra.txt").read_text(), re.MULTILINE)
    assert f"`aws-cdk-lib` {library}" in text_of("deploy.md")


def test_the_settings_that_are_shown_can_be_read() -> None:
    blocks = re.findall(r"```json\n(.*?)```", text_of("deploy.md"), re.DOTALL)
    shown = next(one for one in map(json.loads, blocks) if isinstance(one, dict))
    assert Configuration.read(shown.get).stage == "prod"


def test_the_first_document_is_sound_and_is_due_at_once(runfold: Runfold) -> None:
    """What the command of the page makes of the example, without a shell."""
    (command,) = re.findall(r"^\$ \((cat .*?)\) \| aws s3 cp", text_of("deploy.md"), re.MULTILINE)
    added = re.search(r"^cat (examples/hello\.yaml); echo '(.*)'$", command)
    assert added is not None
    made = (ROOT / added.group(1)).read_text() + added.group(2) + "\n"
    assert runfold.good("plan", runfold.file("hello.yaml", made), "--json").json


def test_the_limits_that_are_promised_are_those_of_the_code() -> None:
    page = text_of("deploy.md")
    for promised in (
        f"{SIZE_MAX // MIB} MB as it is written, {RESOLVED_MAX // MIB} MB with every default filled in; {JOBS_MAX:,} jobs",
        f"as many as fit {SLICE_BYTES // 1000} KB",
        f"a commit has {COMMIT_BYTES_MAX // 1000} KB at most",
        f"{VALUES_SIZE_MAX:,} bytes; their schema {SCHEMA_SIZE_MAX // 1024} KB, {SCHEMA_DEPTH_MAX} levels",
        f"{OUTPUTS_BYTES_MAX // 1024} KB; more fails the attempt",
        f"{CATCHUP_MAX_DEFAULT} unless the document says another number, {CATCHUP_MAX_LIMIT:,} at most",
        f"| {BODY_BYTES_MAX // MIB} MB (",
        f"{RUNS_MAX}, or {SECONDS_MAX:.0f} seconds",
        f"{PAGE_MAX:,} a minute",
        f"{SCANNED_MAX:,}; the page may then be short",
    ):
        assert promised in page, promised
