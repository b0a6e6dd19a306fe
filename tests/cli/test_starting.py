"""What a call costs before it does anything, and what shells complete."""

import shutil
import subprocess
import sys

import pytest

from tests.cli.calling import PYTHON_MAIN, Runfold, ssm

HEAVY = ("pydantic", "rich", "yaml", "sqlite3", "boto3", "jinja2", "jsonschema_rs")


def test_help_imports_nothing_heavy(runfold: Runfold) -> None:
    looking = "import sys; from cli.main import call; from cli.session import Session; call(['--help'], Session()); "
    looking += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", looking], capture_output=True, text=True, env=runfold.environment(), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_of_shells_are_printed(runfold: Runfold, shell: str) -> None:
    script = runfold.good("completion", shell).out
    assert "_RUNFOLD_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_workflows_run_ids_and_jobs(runfold: Runfold) -> None:
    runfold.register(ssm("extract", "true"), ssm("load", "true"), name="nightly")
    run = runfold.run("nightly", "--at", "2h")
    after = run.partition("@")[2]
    # Bash gives back what follows its last cut, which is at the @ of a run id.
    for line, wanted in (
        ("runfold wor", ["workflows"]),
        ("runfold run ni", ["nightly"]),
        ("runfold show nightly@", [after]),
        (f"runfold show {run[:12]}", [after]),
        (f"runfold logs {run} l", ["load"]),
        ("runfold logs nightly ", ["extract", "load"]),
        ("runfold show nothing-like-it", []),
        ("runfold --home /nowhere/at/all show ni", []),
    ):
        assert completed(runfold, line) == wanted, line


def completed(runfold: Runfold, line: str) -> list[str]:
    script = runfold.good("completion", "bash").out
    program = runfold.folder / "runfold"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{PYTHON_MAIN}' \"$@\"\n")
    program.chmod(0o755)
    asking = f"""
complete() {{ :; }}
compopt() {{ :; }}
{script}
COMP_LINE='{line}'; COMP_POINT={len(line)}
_runfold_completion '{program}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", asking], capture_output=True, text=True, env=runfold.environment(), check=True, timeout=20
    )
    assert done.stderr == ""
    return [one for one in done.stdout.splitlines() if one]
