"""Packs the functions: one zip with our code and its libraries, and one layer with the JSON Schema engine.

* The same sources and locks give the same bytes, so nothing is deployed again that has not changed.
* Wheels only, for the platform asked for, by their hashes: nothing is compiled, and no container engine is needed.
* The schema engine alone is larger, packed, than everything else together, and only functions that read documents or parameters
  load it, and only when there are some. So it is a layer of those functions.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Platform = Literal["lambda", "host"]

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-functions.txt"
SOURCES = ("shared", "functions")
LAYER = "jsonschema_rs"
ZIP_BYTES_MAX = 5_000_000
"""Of the functions' zip. A larger one is refused: it is a cold start that everybody waits for."""
PYTHON = "3.13"
# Amazon Linux 2023 has glibc 2.34, so wheels for 2.28 run on it.
_LAMBDA = ("--python-platform", "aarch64-manylinux_2_28", "--python-version", PYTHON)

_LEFT_OUT_SUFFIXES = (".pyc", ".pyi", ".c", ".h", ".pyx", ".pxd", ".md", ".dist-info")
_LEFT_OUT = (
    "bin/",
    "functions/api/embedded.py",  # the API in the embedded engine's server
    "pydantic/v1/",  # the old API
    "pydantic/mypy.py",
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/swagger-ui",  # JavaScript of a page we do not show
    "aws_lambda_powertools/utilities/kafka/",
    "aws_lambda_powertools/utilities/data_masking/",
    "aws_lambda_powertools/utilities/idempotency/",
)
KEPT_MAX = 8
"""Zips of earlier sources that are kept."""
_EPOCH = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Packages:
    functions: Path
    layer: Path


def pack(platform: Platform, folder: Path) -> Packages:
    """Zips in `folder`, named for what went into them; those that are there already are used as they are.

    Raises `CalledProcessError` when a library has no wheel for the platform, `ValueError` when the zip has grown too large.
    """
    digest = _digest(platform)
    packages = Packages(folder / f"functions-{platform}-{digest}.zip", folder / f"schema-{platform}-{digest}.zip")
    if packages.functions.exists() and packages.layer.exists():
        return packages
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        libraries = Path(temporary) / "libraries"
        _install(platform, libraries)
        layer = [(f"python/{name}", path) for name, path in _files(libraries) if _is_of_layer(name)]
        code = [(name, path) for name, path in _files(libraries) if not _is_of_layer(name)]
        code += [(name, path) for source in SOURCES for name, path in _files(ROOT / source, source)]
        _write(packages.layer, layer)
        _write(packages.functions, code)
    size = packages.functions.stat().st_size
    if size > ZIP_BYTES_MAX:
        packages.functions.unlink()
        raise ValueError(f"the functions' zip has {size} bytes, more than {ZIP_BYTES_MAX}")
    for old in sorted(folder.glob("*.zip"), key=lambda one: -one.stat().st_mtime)[KEPT_MAX:]:
        old.unlink(missing_ok=True)
    return packages


def _install(platform: Platform, target: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise FileNotFoundError("uv is missing: run `make infra-setup`")
    where = _LAMBDA if platform == "lambda" else ("--python", sys.executable)
    wheels_only = ("--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy")
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--target", str(target), *where, *wheels_only, "--requirement", str(LOCK)],
        check=True,
    )


def _files(folder: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        name = "/".join([prefix, *parts] if prefix else parts)
        dropped = any(part.endswith((".dist-info", "__pycache__")) for part in parts)
        if path.is_file() and not dropped and not name.endswith(_LEFT_OUT_SUFFIXES) and not name.startswith(_LEFT_OUT):
            yield name, path


def _is_of_layer(name: str) -> bool:
    return name.startswith(f"{LAYER}/")


def _write(target: Path, files: list[tuple[str, Path]]) -> None:
    # Renamed into place: whoever finds it under its name finds it whole.
    unfinished = target.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, path in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes(), compresslevel=9)
    unfinished.replace(target)


def _digest(platform: Platform) -> str:
    digest = hashlib.sha256(f"{platform} {sys.version_info[:2] if platform == 'host' else PYTHON}".encode())
    for path in (LOCK, Path(__file__)):
        digest.update(path.read_bytes())
    for source in SOURCES:
        for name, path in _files(ROOT / source, source):
            digest.update(name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
