"""An `ecs` job in a container of this machine: the words that start one with Docker or Podman, and those that end it.

* The container's name comes from the attempt's token and its directory: the container engine itself refuses a second one.
* No value of a variable stands on a command line, where `ps` would show it, unless its name means something to the engine's own
  program; a secret under such a name is refused.
* The attempt's working directory appears where it does on AWS: in the job's `working_directory` when the job has files, otherwise in
  `/runfold/work`.

How it is run: `container.sh` waits for the program that stands for the container, and knows what its death means.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from shared.errors import TargetRefused
from shared.executors.process.system import MARKER_VARIABLE
from shared.ids import workflow_of
from shared.ports import Request

WORK = "/runfold/work"
SCRIPT = str(Path(__file__).parent / "container.sh")

# What the programs `docker` and `podman` read themselves: such a variable of a job must not reach them.
_CLIENT_NAMES = frozenset(
    (
        *("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "ENV", "BASH_ENV", "IFS"),
        *("GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK", "NOTIFY_SOCKET", "REGISTRY_AUTH_FILE"),
    )
)
_CLIENT_PREFIXES = ("DOCKER_", "CONTAINER_", "CONTAINERS_", "PODMAN_", "BUILDAH_", "XDG_", "DBUS_", "LD_", "RUNFOLD_")
_PROXIES = frozenset(("http_proxy", "https_proxy", "no_proxy", "all_proxy"))


@dataclass(frozen=True, slots=True)
class Container:
    """`program`: the container engine's, absolute. `body`: the job. `secrets`: names of its variables that are secret."""

    program: str
    body: Mapping[str, Any]
    secrets: tuple[str, ...]

    def words(self, request: Request, variables: Mapping[str, str], guard: str) -> tuple[str, ...]:
        """What runs under the wrapper. `TargetRefused` for what no container engine can be asked for."""
        body = self.body
        image = str(body.get("image", ""))
        if not image or image.startswith("-"):
            raise TargetRefused(f"{image!r} is not the name of an image")
        files = bool(request.inputs or request.outputs)
        wanted = body.get("working_directory")
        place = str(wanted) if files and wanted else WORK
        if not place.startswith("/"):
            raise TargetRefused(f"working_directory must begin with `/`: {place!r}")
        name = name_of(request.token, guard)
        words = [self.program, "run", "--rm", "--name", name, "--cidfile", f"{guard}/container"]
        # A colon in the run's name would end the source of `--volume`; this form is read as a line of CSV.
        words += ("--mount", _csv("type=bind", f"source={guard}/work", f"target={place}"))
        words += ("--workdir", str(wanted or WORK))
        words += ("--cpus", f"{body.get('cpu', 256) / 1024:.4g}", "--memory", f"{body.get('memory', 512)}m")
        if body.get("gpu"):
            words += ("--gpus", str(body["gpu"]))
        if body.get("user"):
            words += ("--user", str(body["user"]))
        for variable in variables:
            if not _is_of_client(variable):
                words += ("--env", variable)
            elif variable in self.secrets:
                raise TargetRefused(
                    f"the secret {variable} has a name that the container engine reads itself: give it another"
                )
            else:
                words += ("--env", f"{variable}={variables[variable]}")
        for variable, value in ours(request, f"{place}/outputs.json").items():
            words += ("--env", f"{variable}={value}")
        words += ("--env", f"RUNFOLD_CPU={body.get('cpu', 256)}", "--env", f"RUNFOLD_MEMORY={body.get('memory', 512)}")
        entry_point = tuple(str(word) for word in body.get("entry_point") or ())
        if entry_point:
            words += ("--entrypoint", entry_point[0])
        words += (image, *entry_point[1:], *(str(word) for word in body.get("command") or ()))
        return ("/bin/sh", SCRIPT, guard, name, *words)


def ours(request: Request, outputs: str) -> dict[str, str]:
    """What a job is told of itself; nothing secret, the same as on AWS."""
    return {
        "RUNFOLD_RUN": request.run,
        "RUNFOLD_JOB": request.job,
        "RUNFOLD_ATTEMPT": str(request.attempt),
        "RUNFOLD_WORKFLOW": workflow_of(request.run),
        "RUNFOLD_TOKEN": request.token,
        MARKER_VARIABLE: outputs,
    }


def name_of(token: str, guard: str) -> str:
    """Of the container. The same attempt of another home has the same token, and perhaps the same container engine."""
    return f"runfold-{token}-{sha256(os.fsencode(guard)).hexdigest()[:8]}".lower()


def client_environment(job: Mapping[str, str], base: Mapping[str, str], engine: Mapping[str, str]) -> dict[str, str]:
    """For the container engine's program: what it reads itself as the engine has it, and the job's values to pass on."""
    passed = {name: value for name, value in job.items() if not _is_of_client(name)}
    own = {name: value for name, value in engine.items() if _is_of_client(name) and not name.startswith("RUNFOLD_")}
    return {**passed, **own, **base}


def stop_words(program: str, name: str, grace_seconds: float) -> list[str]:
    """Asks the container to end, and ends it after the grace."""
    return [program, "stop", "-t", str(math.ceil(grace_seconds)), name]


def kill_words(program: str, name: str) -> list[str]:
    return [program, "kill", name]


def _is_of_client(name: str) -> bool:
    return name in _CLIENT_NAMES or name.startswith(_CLIENT_PREFIXES) or name.lower() in _PROXIES


def _csv(*fields: str) -> str:
    quoted = (
        '"' + field.replace('"', '""') + '"' if any(mark in field for mark in ',"\n') else field for field in fields
    )
    return ",".join(quoted)
