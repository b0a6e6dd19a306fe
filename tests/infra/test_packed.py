"""The zip and the layer as Lambda unpacks them: every function's entry is imported from them alone, with what its runtime brings.

Each import happens in a fresh interpreter that sees neither this checkout nor the libraries installed for it.
"""

import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.cold import FLOORS
from shared.workflow.reading import canonical, read
from tests.infra.template import Template, flat

pytestmark = pytest.mark.slow

RUNTIME = ("boto3", "botocore", "s3transfer", "dateutil", "urllib3", "six")
"""What Lambda's runtime brings and the zip does not hold."""
AS_LAMBDA_SETS = {
    "AWS_LAMBDA_FUNCTION_NAME": "packed",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
}


class Unpacked:
    """The host's variant, unpacked beside the runtime's own libraries."""

    def __init__(self, template: Template, folder: Path) -> None:
        self._folder = folder
        self.functions = template.functions()
        code, layer = template.archives()
        zipfile.ZipFile(code).extractall(folder / "code")
        zipfile.ZipFile(layer).extractall(folder / "layer")
        (folder / "runtime").mkdir()
        for name in RUNTIME:
            spec = find_spec(name)
            assert spec is not None, name
            assert spec.origin is not None, name
            origin = Path(spec.origin)
            installed = origin.parent if spec.submodule_search_locations else origin
            (folder / "runtime" / installed.name).symlink_to(installed)

    def answer(self, script: str, *, environment: dict[str, str], layer: bool) -> Any:
        """What a script prints as JSON, with these variables alone, and the layer only if the function has it."""
        paths = [self._folder / "code", *([self._folder / "layer/python"] if layer else []), self._folder / "runtime"]
        head = f"import json, sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
        # -S: no site-packages. -I: no folder of the caller's.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", head + script],
            cwd=self._folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def unpacked(templates: dict[str, Template], tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    return Unpacked(templates["host"], tmp_path_factory.mktemp("unpacked"))


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_an_entry_is_imported_from_what_is_packed_alone(unpacked: Unpacked, name: str) -> None:
    function = unpacked.functions[name]
    variables = {key: flat(value) for key, value in function["Environment"]["Variables"].items()}
    answer = unpacked.answer(
        f"""
import gc, importlib
import boto3
make, made = boto3.client, []
def recorded(service, **options):
    made.append(service)
    return make(service, **options)
boto3.client = recorded
entry = importlib.import_module({function["Handler"].removesuffix(".handler")!r})
files = [getattr(one, "__file__", None) or "" for one in list(sys.modules.values())]
print(json.dumps({{
    "callable": callable(entry.handler),
    "made": made,
    "collects": gc.isenabled(),
    "foreign": [file for file in files if "site-packages" in file and "/runtime/" not in file],
    "schema engine": "jsonschema_rs" in sys.modules,
}}))
""",
        environment=variables | AS_LAMBDA_SETS,
        layer="Layers" in function,
    )
    made = sorted(answer.pop("made"))
    assert answer == {"callable": True, "collects": True, "foreign": [], "schema engine": False}
    assert made == sorted(FLOORS[name][0]), "bench/cold.py compares with the clients that the entry makes"


def test_every_packed_module_of_ours_can_be_imported(unpacked: Unpacked) -> None:
    """Also those that a function imports only when it first needs them."""
    entries = {one["Handler"].removesuffix(".handler") for one in unpacked.functions.values()}
    answer = unpacked.answer(
        f"""
import importlib, pathlib
root = pathlib.Path("code")
names = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
         for source in ("shared", "functions") for path in sorted((root / source).rglob("*.py"))]
for name in names:
    if name not in {entries!r}:
        importlib.import_module(name)
print(json.dumps(names))
""",
        environment={},
        layer=True,
    )
    assert entries < set(answer)


def test_a_pinned_document_with_parameters_is_read_without_the_schema_engine(unpacked: Unpacked) -> None:
    """What relay and status do with documents; they have no layer."""
    text = b"""
        {"name": "sales", "parameters": {"type": "object", "properties": {"region": {"type": "string", "default": "eu"}}},
         "jobs": [{"name": "load", "type": "ecs", "image": "load", "command": ["{{ params.region }}"]}]}
    """
    script = f"""
from shared.workflow.plan import compile_plan
from shared.workflow.reading import load
print(json.dumps(list(compile_plan(load({canonical(read(text))!r}), "0" * 64).jobs)))
"""
    assert unpacked.answer(script, environment={}, layer=False) == ["load"]
