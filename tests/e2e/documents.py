"""Documents that tests upload: short to write, and the same on every engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMAGE = "public.ecr.aws/docker/library/busybox:stable"


def workflow(name: str, *jobs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "jobs": list(jobs), **fields}


def container(
    name: str, script: str, *, after: Sequence[str] = (), args: Sequence[str] = (), **fields: Any
) -> dict[str, Any]:
    """An `ecs` job whose command is a line of shell."""
    command = ["sh", "-c", script, "sh", *args]
    return {"name": name, "type": "ecs", "image": IMAGE, "command": command, "after": list(after), **fields}


def steps(name: str, *scripts: str, after: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """An `emr` job: a cluster of its own with a step for each line of shell."""
    listed = [
        {"Name": f"step {number}", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["sh", "-c", script]}}
        for number, script in enumerate(scripts, 1)
    ]
    cluster = {"ReleaseLabel": "emr-7.5.0", "Instances": {"InstanceCount": 1, "MasterInstanceType": "m7g.xlarge"}}
    return {"name": name, "type": "emr", "cluster": cluster, "steps": listed, "after": list(after), **fields}


def script(name: str, *lines: str, guards: Path, after: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """An `ssm` job on the host `localhost`, which remembers under `guards` what it was asked to do."""
    commands = list(lines)
    return {
        "name": name,
        "type": "ssm",
        "host": "localhost",
        "commands": commands,
        "guard_directory": str(guards),
        "after": list(after),
        **fields,
    }


def noted(path: Path) -> str:
    """A line of shell that notes the attempt in a file of its job: each execution is one line."""
    return f'echo "$RUNFOLD_ATTEMPT" >> {path}/"$RUNFOLD_JOB"'
