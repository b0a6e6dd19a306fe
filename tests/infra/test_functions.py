"""The functions: packed small, told what their settings say, and the same for an emulator but for the platform."""

import ast
import json
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

from infra.packing import LOCK, ZIP_BYTES_MAX
from shared.settings import PREFIX, Settings
from tests.infra.template import Template, flat

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = {"register", "scheduler", "relay", "dispatch", "status", "api", "trigger"}
BUILT_IN = {"boto3", "botocore"}
"""What Lambda's runtime brings, as the emulator does."""


def test_there_is_a_function_for_every_doorway_on_the_same_code(template: Template) -> None:
    functions = template.functions()
    assert set(functions) == NAMES
    assert {one["Handler"] for one in functions.values()} == {f"functions.{name}.entry.handler" for name in NAMES}
    assert all((ROOT / "functions" / name / "handler.py").exists() for name in NAMES)


def test_every_function_can_read_its_settings_and_is_told_nothing_else(template: Template) -> None:
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    for function in template.functions().values():
        variables = {name: flat(value) for name, value in function["Environment"]["Variables"].items()}
        assert set(variables) <= known
        settings = Settings.read(variables)
        assert settings.stage == template.stage
        assert all((settings.schedule_group, settings.schedule_role_arn, settings.schedule_dead_letter_arn))
        assert settings.schedule_target_arn.endswith(f":function:runfold-{template.stage}-scheduler")


def test_what_is_configured_for_jobs_reaches_the_functions(full: Template) -> None:
    settings = Settings.read(
        {name: flat(value) for name, value in full.function("dispatch")["Environment"]["Variables"].items()}
    )
    assert all(getattr(settings, field.name) for field in fields(Settings)), "a setting that no deployment can have"
    assert settings.cluster == "runfold-test-demo"
    assert len(settings.listed("subnets")) == 2
    assert all((settings.security_groups, settings.execution_role_arn, settings.task_role_arn))
    assert json.loads(settings.hosts) == {"warehouse": {"instance": "i-0123456789abcdef0"}}
    assert settings.cors_origins == "https://a.example"
    assert json.loads(settings.iam_grants) == {"arn:aws:sts::*:assumed-role/oncall/*": "operator:tag=sales viewer"}
    assert (settings.grants_claim, settings.listed("group_claims")) == ("rights", ("cognito:groups", "groups"))
    assert settings.release


def test_functions_run_on_arm_with_logs_that_end_and_traces(prod: Template) -> None:
    groups = prod.all_of("AWS::Logs::LogGroup")
    for name, function in prod.functions().items():
        assert function["Runtime"] == "python3.13"
        assert function["Architectures"] == ["arm64"]
        assert function["TracingConfig"] == {"Mode": "Active"}
        group = groups[flat(function["LoggingConfig"]["LogGroup"]).strip("<>")]
        assert group["LogGroupName"] == f"/aws/lambda/runfold-prod-{name}"
    assert all(one["RetentionInDays"] in (30, 90) for one in groups.values())


def test_only_what_hands_over_to_itself_may_loop_through_its_queue(prod: Template) -> None:
    """Lambda ends other loops after about 16 turns, and a decision on 10,000 jobs goes on in more slices than that."""
    loops = {name for name, function in prod.functions().items() if function.get("RecursiveLoop") == "Allow"}
    assert loops == {"dispatch"}


def test_the_gateway_waits_longer_than_the_api_and_nothing_else_is_cut_short(prod: Template) -> None:
    timeouts = {name: one["Timeout"] for name, one in prod.functions().items()}
    assert timeouts["api"] < 30
    assert min(timeouts.values()) >= 29


def test_the_schema_engine_is_brought_to_those_that_read_documents(prod: Template) -> None:
    assert {name for name, one in prod.functions().items() if "Layers" in one} == {
        "register",
        "scheduler",
        "dispatch",
        "api",
        "trigger",
    }


def test_the_variant_for_an_emulator_differs_in_platform_only(templates: dict[str, Template]) -> None:
    differing = {"S3Key", "Architectures", "Runtime", "CompatibleArchitectures", "CompatibleRuntimes"}

    def without(value: object) -> object:
        match value:
            case dict():
                return {key: without(one) for key, one in value.items() if key not in differing | {"Metadata"}}
            case list():
                return [without(one) for one in value]
        return value

    def named_alike(template: Template) -> object:
        # A layer's logical name holds the hash of what is in it.
        (layer,) = template.all_of("AWS::Lambda::LayerVersion")
        return without(json.loads(json.dumps(template.body).replace(layer, "Layer")))

    assert named_alike(templates["host"]) == named_alike(templates["dev"])


def test_the_zip_is_small_and_holds_our_code_and_no_leftovers(prod: Template) -> None:
    code, layer = prod.archives()
    assert code.stat().st_size <= ZIP_BYTES_MAX == 5_000_000
    names = zipfile.ZipFile(code).namelist()
    assert {"shared/settings.py", "shared/executors/wrapper.sh", "functions/relay/entry.py"} <= set(names)
    assert not [one for one in names if one.endswith(".pyc") or ".dist-info/" in one or "/tests/" in one]
    assert {one.partition("/")[0] for one in names}.isdisjoint({"boto3", "botocore", "click", "rich", "jsonschema_rs"})
    assert all(one.startswith("python/jsonschema_rs/") for one in zipfile.ZipFile(layer).namelist())
    # ELF's number for AArch64.
    for archive in (code, layer):
        opened = zipfile.ZipFile(archive)
        for library in (one for one in opened.namelist() if one.endswith(".so")):
            assert opened.read(library)[18:20] == b"\xb7\x00", library


def test_the_zip_does_not_depend_on_when_it_was_packed(prod: Template) -> None:
    for archive in prod.archives():
        assert {entry.date_time for entry in zipfile.ZipFile(archive).infolist()} == {(2020, 1, 1, 0, 0, 0)}


def test_everything_that_is_imported_is_packed_or_brought_by_lambda(prod: Template) -> None:
    imported = set()
    packed = zipfile.ZipFile(prod.archives()[0])
    for name in packed.namelist():
        if name.startswith(("shared/", "functions/")) and name.endswith(".py"):
            for node in ast.walk(ast.parse(packed.read(name))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add((node.module or "").partition(".")[0])
    locked = {line.partition("==")[0].strip().lower() for line in LOCK.read_text().splitlines() if "==" in line}
    distributions = {"ulid": "python-ulid", "yaml": "pyyaml"}
    foreign = imported - set(sys.stdlib_module_names) - {"shared", "functions"} - BUILT_IN
    # Stubs are imported for type checkers only.
    foreign = {one for one in foreign if not one.startswith("mypy_boto3")}
    assert {distributions.get(one, one).replace("_", "-") for one in foreign} <= locked
