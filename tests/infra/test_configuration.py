"""What can be set: read as text or JSON, checked before anything is made, and documented."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from infra.configuration import Configuration
from shared.errors import InvalidInput

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "configuration.md"


def read(**context: object) -> Configuration:
    return Configuration.read(context.get)


def problems(**context: object) -> list[str]:
    with pytest.raises(InvalidInput) as raised:
        read(**context)
    return sorted(problem.path for problem in raised.value.problems)


def test_nothing_has_to_be_set() -> None:
    assert read() == Configuration()


def test_the_command_line_gives_text_and_cdk_json_gives_values() -> None:
    given = read(demo="true", effects_concurrency="7", clusters="a, b", hosts='{"w": {"instance": "i-1"}}')
    assert given == read(demo=True, effects_concurrency=7, clusters=["a", "b"], hosts={"w": {"instance": "i-1"}})


def test_numbers_come_as_fractions_from_the_cdk() -> None:
    assert read(effects_concurrency=7.0).effects_concurrency == 7


def test_every_problem_is_told_at_once() -> None:
    assert problems(demo="yes", effects_concurrency="many", hosts="[]", tags=3, stage="Prod!") == [
        "demo",
        "effects_concurrency",
        "hosts",
        "stage",
        "tags",
    ]
    assert problems(
        stage="Prod!",
        platform="mainframe",
        api_access="open",
        oidc_issuer="http://id.example",
        passed_roles="arn:aws:iam::1:role/*",
        restored_from="2026-11-22T02:00:00",
        reports_concurrency=1,
        log_retention_days=31,
    ) == sorted(
        [
            *("stage", "platform", "api_access", "oidc_issuer", "passed_roles", "restored_from"),
            *("reports_concurrency", "log_retention_days"),
        ]
    )


@pytest.mark.parametrize("words", ["", "owner", "operator:team=x", "viewer admin:", 3])
def test_a_grant_that_is_none_is_refused_before_anybody_misses_it(words: object) -> None:
    assert problems(iam_grants={"arn:aws:iam::1:user/ann": words}) == ["iam_grants"]


@pytest.mark.parametrize("path", ["/", "*", "roles", "/runfold"])
def test_a_path_that_would_hand_out_every_role_is_refused(path: str) -> None:
    assert problems(role_path=path) == ["role_path"]


def test_every_stage_but_dev_keeps_its_data() -> None:
    assert not read().keeps_data
    assert all(read(stage=stage).keeps_data for stage in ("prod", "test", "dev2"))


def test_every_setting_is_documented_and_nothing_else() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert documented == {field.name for field in fields(Configuration)}
