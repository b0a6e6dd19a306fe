"""The checkers: clean, and whatever they were told to leave alone is explained."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.infra.template import Template

ROOT = Path(__file__).resolve().parent.parent.parent
SECURITY = ROOT / "docs" / "security.md"


def test_cdk_nag_ran_and_found_nothing(template: Template) -> None:
    # A finding fails the synthesis; the report would also name rules that could not be evaluated.
    report = json.loads((template.folder / "validation-report.json").read_text())
    assert report["pluginReports"] == []
    assert "AwsSolutionsChecks(made), ServerlessChecks(made)" in (ROOT / "infra" / "app.py").read_text()


def test_every_rule_that_is_acknowledged_is_explained() -> None:
    acknowledged = {
        rule
        for path in (ROOT / "infra").glob("*.py")
        for rule in re.findall(r"\b((?:AwsSolutions|Serverless)-\w+)", path.read_text())
    }
    explained = set(re.findall(r"^\| `((?:AwsSolutions|Serverless)-\w+)` \|", SECURITY.read_text(), re.MULTILINE))
    assert acknowledged == explained


def test_every_check_of_checkov_that_is_left_out_is_explained() -> None:
    left_out = set(re.findall(r"CKV\w+", (ROOT / "scripts" / "checkov.sh").read_text()))
    explained = set(re.findall(r"^\| `(CKV\w+)` \|", SECURITY.read_text(), re.MULTILINE))
    assert left_out == explained


def test_cfn_lint_finds_nothing(templates: dict[str, Template]) -> None:
    paths = [str(one.path) for name, one in templates.items() if name in ("prod", "full")]
    lint = [str(Path(sys.executable).with_name("cfn-lint")), "--", *paths]
    done = subprocess.run(lint, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_can_be_tagged_says_whose_it_is(full: Template) -> None:
    for kind in ("AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::Lambda::Function", "AWS::S3::Bucket"):
        for resource in full.all_of(kind).values():
            tags = {one["Key"]: one["Value"] for one in resource["Tags"]}
            assert tags | {"application": "runfold", "stage": "test", "team": "data"} == tags


def test_collecting_these_tests_does_not_import_the_cdk() -> None:
    script = "import sys, infra.assembly, infra.packing, infra.configuration; assert 'aws_cdk' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == 0
