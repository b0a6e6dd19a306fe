"""The text that a managed host is sent: quoted data, then the same few lines of shell for every job.

No value of a user is ever shell text: each stands in single quotes, and two braces never stand together, so that neither the shell
nor Systems Manager (`{{ssm:...}}`) reads anything into them (fault 53). The first line tells what the text is about, for whoever finds
the command in Systems Manager's history.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import TargetRefused
from shared.executors.workspace import Workspace, input_lines
from shared.ids import workflow_of
from shared.ports import Request

TEXT_BYTES_MAX = 64_000
"""Of the whole text. A document of Systems Manager may have 64 KB (AWS)."""
GUARDS = "/var/lib/runfold"

_HERE = Path(__file__).parent
_FACTS_PREFIX = "# runfold "
_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17}")
BEAT_STALE_SECONDS = 90
"""After this long without a heartbeat, every 5 seconds, the work is gone, whatever process has its number now."""

# Where there is no heartbeat, the process alone tells: it did not live to its first, or the host was suspended while one was written.
_BEATS = f"""rf_beats() {{
    rf_at=''
    {{ read -r rf_at <"$rf_g/beat"; }} 2>/dev/null
    [ -z "$rf_at" ] || [ $(($(date +%s) - rf_at)) -le {BEAT_STALE_SECONDS} ]
}}
"""
_TWO_BRACES = re.compile(r"\{(?=\{)")


@dataclass(frozen=True, slots=True)
class SsmHost:
    """A host that jobs may name: an instance (`i-…`, or `mi-…` when activated from elsewhere), or whichever carries the tags."""

    instance: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SsmSettings:
    hosts: Mapping[str, SsmHost] = field(default_factory=dict)
    guard_directory: str = GUARDS
    """On the hosts, absolute."""
    delivery_timeout_seconds: int = 600
    """How long a host may take to fetch the command; Systems Manager takes 30 to 2,592,000."""
    execution_timeout_seconds: int = 172_800
    """48 hours, the most that AWS-RunShellScript takes; jobs are bounded by their own timeouts."""
    log_group: str | None = None
    """CloudWatch log group for the output."""
    region: str = ""


def is_instance(name: str) -> bool:
    return _INSTANCE.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a command's first line says."""

    token: str
    run: str
    job: str
    attempt: int
    guard: str
    several: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    """Of instances, as the document calls them."""
    outputs: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    """With looks and stops: the command they are about."""


def facts_in(text: str) -> Facts | None:
    """None when the text is not ours."""
    line = text.partition("\n")[0]
    if not line.startswith(_FACTS_PREFIX):
        return None
    try:
        return Facts(**json.loads(line.removeprefix(_FACTS_PREFIX)))
    except (ValueError, TypeError):
        return None


def start_text(request: Request, facts: Facts, workspace: Workspace | None) -> str:
    """The whole command. `TargetRefused` for what no host can be given."""
    body = request.body
    place = ""
    if workspace is not None:
        place = workspace.address(workspace.key(request.run, request.job, request.attempt, "files"))
    elif request.outputs or any(one.get("artifact") for one in request.inputs):
        raise TargetRefused("the deployment has no bucket for files, so hosts can get and leave none")
    for key in ("working_directory", "log_directory", "guard_directory"):
        if body.get(key) and not str(body[key]).startswith("/"):
            raise TargetRefused(f"{key} must begin with `/`: {body[key]!r}")
    data = {
        "rf_directory": body.get("working_directory") or "",
        "rf_user": body.get("run_as") or "",
        "rf_copy": body.get("log_directory") or "",
        "rf_inputs": input_lines(request.inputs, workspace) if workspace and request.inputs else _lines_alone(request),
        "rf_keep": "".join(f"{'?' if one.get('optional') else '!'}{one['path']}\n" for one in request.outputs),
        "rf_place": place,
        "rf_several": "yes" if facts.several else "",
    }
    words = [str(one) for one in body.get("args", ())]
    written = _written("wrapper.sh", _stripped((_HERE.parent / "wrapper.sh").read_text()))
    if body.get("script"):
        script = str(body["script"])
        # A name without a slash would be looked for on the PATH.
        first = quoted(script if "/" in script else f"./{script}")
    elif body.get("commands"):
        first = '/bin/sh -e "$rf_g/commands.sh"'
        written += _written("commands.sh", "\n".join(body["commands"]) + "\n")
    else:
        raise TargetRefused("the job has neither `script` nor `commands`")
    secrets, exports = [], []
    for number, (name, reference) in enumerate(sorted((body.get("secrets") or {}).items())):
        secrets.append(_secret(number, name, str(reference)))
        exports.append(f'export {name}="$rf_secret_{number}"\n')
    environment = {
        **(body.get("environment") or {}),
        "RUNFOLD_RUN": request.run,
        "RUNFOLD_JOB": request.job,
        "RUNFOLD_ATTEMPT": str(request.attempt),
        "RUNFOLD_WORKFLOW": workflow_of(request.run),
        "RUNFOLD_TOKEN": request.token,
    }
    exports += [f"export {name}={quoted(value)}\n" for name, value in environment.items()]
    if facts.several:
        cases = "".join(
            f"{quoted(instance)}) RUNFOLD_HOST={quoted(name)} ;;\n" for instance, name in facts.names.items()
        )
        exports.append(
            f"RUNFOLD_HOST=${{AWS_SSM_INSTANCE_ID:-}}\ncase $RUNFOLD_HOST in\n{cases}esac\nexport RUNFOLD_HOST\n"
        )
    text = (
        _header(facts, data)
        + f"set -- {' '.join([first, *map(quoted, words)])}\n"
        + f"rf_write() {{\n:\n{written}}}\nrf_secrets() {{\n:\n{''.join(secrets)}}}\nrf_exports() {{\n:\n{''.join(exports)}}}\n"
        + _script("follow.sh")
    )
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise TargetRefused("an argument or variable is not text that UTF-8 can hold") from error
    if size > TEXT_BYTES_MAX:
        raise TargetRefused(
            f"the command takes {size:,} bytes with its arguments, and Systems Manager takes {TEXT_BYTES_MAX:,}: "
            "put large values into input files in S3, or the script on the host"
        )
    return text


def look_text(facts: Facts) -> str:
    return _header(facts, {}) + _script("look.sh")


def stop_text(facts: Facts, grace_seconds: float) -> str:
    return _header(facts, {"rf_grace": str(max(0, round(grace_seconds)))}) + _script("stop.sh")


def quoted(text: str) -> str:
    """One word for sh, whatever is in it, without two braces beside each other."""
    if "\0" in text:
        raise TargetRefused("an argument or variable holds a NUL character, which no process can be given")
    return _TWO_BRACES.sub("{''", shlex.quote(text))


def _header(facts: Facts, data: Mapping[str, str]) -> str:
    told = {
        "token": facts.token,
        "run": facts.run,
        "job": facts.job,
        "attempt": facts.attempt,
        "guard": facts.guard,
        "several": facts.several,
        "names": dict(facts.names),
        "outputs": [{"path": one["path"], "optional": bool(one.get("optional"))} for one in facts.outputs],
        "command": facts.command,
    }
    # Two braces beside each other can only be inside a text.
    line = re.sub(r"(?<=\{)\{", r"\\u007b", json.dumps(told))
    values = {"rf_token": facts.token, "rf_g": facts.guard, **data}
    return f"{_FACTS_PREFIX}{line}\n" + "".join(f"{name}={quoted(value)}\n" for name, value in values.items()) + _BEATS


def _lines_alone(request: Request) -> str:
    """Inputs of hosts without a workspace: none of them is an artifact."""
    return input_lines(request.inputs, Workspace(None, "", "")) if request.inputs else ""  # type: ignore[arg-type]


def _secret(number: int, name: str, reference: str) -> str:
    if ":secretsmanager:" in reference:
        call = f"secretsmanager get-secret-value --secret-id {quoted(reference)} --query SecretString"
    elif ":ssm:" in reference and ":parameter/" in reference:
        parameter = "/" + reference.partition(":parameter/")[2]
        call = f"ssm get-parameter --with-decryption --name {quoted(parameter)} --query Parameter.Value"
    else:
        raise TargetRefused(f"secret {name}: hosts read secrets by ARN, not {reference.partition(':')[0]}: references")
    return (
        f"rf_secret_{number}=$(aws {call} --output text) || "
        f"rf_problem infrastructure 'the host cannot read the secret {name}: it needs the aws command and the right to'\n"
    )


def _written(name: str, text: str) -> str:
    """Shell text that writes a file into the guard. It appears whole; an earlier delivery may be reading it."""
    return f'printf %s {quoted(text)} >"$rf_g/{name}.$$" && mv "$rf_g/{name}.$$" "$rf_g/{name}"\n'


def _script(name: str) -> str:
    return _stripped((_HERE / name).read_text())


def _stripped(text: str) -> str:
    """Without the comments, which every host would be sent each time."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
