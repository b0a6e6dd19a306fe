"""From a request to what one machine runs for it: words, environment, user, and where.

Nothing is started or written here. What one machine can never do is refused with a sentence that says what would help.
Values stay arguments and environment variables: no text is ever pasted into a shell's (fault 53).
"""

import json
import os
import pwd
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shared.errors import TargetRefused
from shared.executors.process import containers
from shared.executors.process.system import MARKER_VARIABLE
from shared.ids import workflow_of
from shared.ports import Request
from shared.workflow.nearest import Nearest, shown

SECRET_BYTES_MAX = 65_536
"""Of a secret read from a file. Ours: as much as Secrets Manager keeps."""
PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMANDS_FILE = "commands.sh"

THIS_MACHINE = "localhost"
"""The host that is always known, unless the host list says something else of it."""
NAMES_SHOWN_MAX = 12

_FLAGS_OF_SPARK = {"--supervise", "--verbose", "-v", "--version", "--help", "-h", "--usage-error"}


@dataclass(frozen=True, slots=True)
class HostSettings:
    """A host that jobs may name."""

    ssh: str | None = None
    """`user@host` when it is reached over SSH; None when it is this machine."""
    port: int = 22
    identity: str | None = None
    """Path of the private key; SSH's own choice when absent."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One program. `header` is written to the output before it (empty: nothing)."""

    words: tuple[str, ...]
    header: str = ""
    action: str = "stop"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run for one attempt."""

    steps: tuple[Step, ...]
    environment: Mapping[str, str]
    """The job's own and its secrets; the base and our names are added by the executor."""
    user: str | None = None
    directory: str | None = None
    """Where it starts, absolute; the attempt's own work directory when None."""
    copy_to: str | None = None
    """Directory that gets a copy of the output at the end."""
    commands: str | None = None
    """Text of the shell file that `COMMANDS_FILE` in a word stands for."""
    hosts: tuple[str, ...] = ()
    """Names, when there are several: each gets its own process."""
    remotes: Mapping[str, HostSettings] = field(default_factory=dict)
    """Of these hosts (the empty name when the job runs on one alone) those that are reached over SSH."""
    guard_directory: str | None = None
    """On those hosts."""
    container: containers.Container | None = None
    """What the steps start, when it is not a process of this machine alone."""
    note: str | None = None
    """What the attempt's log must say before anything else."""


class Planner:
    """Reads requests with this machine's environment and hosts in view.

    `hosts`: None when there is no host list, and every name is this machine. `secret_variables` maps a secret's reference (an
    ARN) to the name of the variable that holds it here. `engine`: what runs the images of `ecs` jobs.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        hosts: Mapping[str, HostSettings] | None,
        secret_variables: Mapping[str, str],
        engine: Literal["none", "docker", "podman"] = "none",
    ) -> None:
        self._environment = environment
        self._hosts = hosts
        self._secret_variables = secret_variables
        self._engine = engine
        home = environment.get("HOME")
        user = environment.get("USER") or environment.get("LOGNAME")
        if not home or not user:
            entry = _user(os.geteuid())
            home, user = home or entry[1], user or entry[0]
        self.base: Mapping[str, str] = {
            "PATH": environment.get("PATH") or PATH_DEFAULT,
            "HOME": home,
            "LANG": environment.get("LANG") or "C.UTF-8",
            "TZ": "UTC",
            "USER": user,
        }

    def __call__(self, request: Request) -> Plan:
        """`TargetRefused` for what can never run here."""
        body = request.body
        match body.get("type"):
            case "ecs":
                plan = self._ecs(body)
            case "emr":
                plan = self._emr(body)
            case "ssm":
                plan = self._ssm(body)
            case other:
                raise TargetRefused(f"one machine runs jobs of type ecs, emr and ssm, not {other!r}")
        return plan

    def environment_of(self, request: Request, plan: Plan, *, host: str, outputs: str) -> dict[str, str]:
        """All that the job's process sees; nothing of the engine's environment leaks in but PATH, HOME, LANG and USER.

        With a container: what the container engine's own program sees, which passes on what it is told to.
        """
        environment = {**self.base, **plan.environment}
        if plan.container is not None:
            environment = self.client_environment(plan)
        if host not in plan.remotes and plan.user is not None and plan.user != environment["USER"]:
            environment["USER"] = plan.user
            try:
                environment["HOME"] = pwd.getpwnam(plan.user).pw_dir
            except KeyError as error:
                raise TargetRefused(f"run_as: this machine has no user {plan.user!r}") from error
        environment |= {
            "RUNFOLD_RUN": request.run,
            "RUNFOLD_JOB": request.job,
            "RUNFOLD_ATTEMPT": str(request.attempt),
            "RUNFOLD_WORKFLOW": workflow_of(request.run),
            "RUNFOLD_TOKEN": request.token,
            MARKER_VARIABLE: outputs,
        }
        if host:
            environment["RUNFOLD_HOST"] = host
        return environment

    def client_environment(self, plan: Plan | None = None) -> dict[str, str]:
        """Of the container engine's program, with the values that it passes on for `plan`."""
        return containers.client_environment(plan.environment if plan else {}, self.base, self._environment)

    def _ecs(self, body: Mapping[str, Any]) -> Plan:
        if self._engine != "none":
            return self._container(body)
        words = (*body.get("entry_point", ()), *body.get("command", ()))
        if not words:
            raise TargetRefused(
                "one machine does not know what the image would run: give the job a `command` (or an `entry_point`)"
            )
        environment = self._variables(body)
        environment["RUNFOLD_CPU"] = str(body.get("cpu", 256))
        environment["RUNFOLD_MEMORY"] = str(body.get("memory", 512))
        return Plan(steps=(Step(words),), environment=environment)

    def _container(self, body: Mapping[str, Any]) -> Plan:
        program = self._which(self._engine)
        if program is None:
            raise TargetRefused(
                f"settings.yaml says `containers: {self._engine}`, and there is no `{self._engine}` on the PATH: install it, "
                "or write `containers: none` to run the job's command without its image"
            )
        container = containers.Container(program, body, tuple(body.get("secrets") or ()))
        # Its words need the attempt's directory: the executor asks for them.
        return Plan(steps=(), environment=self._variables(body), container=container)

    def _emr(self, body: Mapping[str, Any]) -> Plan:
        given: Sequence[Mapping[str, Any]] = body.get("steps") or (body.get("cluster") or {}).get("Steps") or ()
        if not given:
            raise TargetRefused("the job has no steps: one machine starts no cluster that would do something by itself")
        steps = []
        for number, step in enumerate(given, start=1):
            name = str(step.get("Name", "")).replace("\n", " ")
            steps.append(
                Step(
                    words=self._step_words(name, step.get("HadoopJarStep") or {}),
                    header=f"step {number}/{len(given)} {name}",
                    action=str(step.get("ActionOnFailure", "CONTINUE")),
                )
            )
        return Plan(steps=tuple(steps), environment=self._variables(body))

    def _step_words(self, name: str, step: Mapping[str, Any]) -> tuple[str, ...]:
        jar = str(step.get("Jar", ""))
        words = tuple(str(word) for word in step.get("Args") or ())
        file = jar.rpartition("/")[2]
        if file in ("command-runner.jar", "script-runner.jar"):
            if not words:
                raise TargetRefused(f"step {name!r} has no Args: {file} runs what they name")
            if words[0] == "spark-submit":
                return (self._spark(name), *_local_spark_options(words[1:]))
            if words[0].startswith("s3:"):
                raise TargetRefused(f"step {name!r}: one machine runs scripts that lie on it, not {words[0]}")
            return words
        if "://" in jar and not jar.startswith("file://"):
            raise TargetRefused(f"step {name!r}: one machine runs jars that lie on it, not {jar}")
        jar = jar.removeprefix("file://")
        main = step.get("MainClass")
        properties = tuple(f"-D{one.get('Key', '')}={one.get('Value', '')}" for one in step.get("Properties") or ())
        if hadoop := self._which("hadoop"):
            return (hadoop, "jar", jar, *((str(main),) if main else ()), *properties, *words)
        if java := self._which("java"):
            return (java, *properties, *(("-cp", jar, str(main)) if main else ("-jar", jar)), *words)
        raise TargetRefused(f"step {name!r} needs `hadoop` or `java` on the PATH to run {jar}: install one of them")

    def _spark(self, name: str) -> str:
        home = self._environment.get("SPARK_HOME")
        found = self._which("spark-submit") or (self._which("spark-submit", f"{home}/bin") if home else None)
        if found is None:
            raise TargetRefused(
                f"step {name!r} needs a local Spark: install it (`pip install pyspark` and Java will do) "
                "so that `spark-submit` is on the PATH, or set SPARK_HOME"
            )
        return found

    def _ssm(self, body: Mapping[str, Any]) -> Plan:
        args = tuple(body.get("args", ()))
        script = body.get("script")
        commands = None
        if script:
            # A name without a slash would be looked for on the PATH.
            words = (script if "/" in script else f"./{script}", *args)
        elif body.get("commands"):
            words = ("/bin/sh", "-e", COMMANDS_FILE, *args)
            commands = "\n".join(body["commands"]) + "\n"
        else:
            raise TargetRefused("the job has neither `script` nor `commands`")
        for key in ("working_directory", "log_directory", "guard_directory"):
            if body.get(key) and not str(body[key]).startswith("/"):
                raise TargetRefused(f"{key} must begin with `/`: {body[key]!r}")
        names = self._hosts_of(body)
        unlisted = [name for name in names if name != THIS_MACHINE] if self._hosts is None else []
        # A tag names a group, also when it happens to have one member.
        several = len(names) > 1 or bool(body.get("tag"))
        return Plan(
            steps=(Step(words),),
            environment=self._variables(body),
            user=body.get("run_as"),
            directory=body.get("working_directory"),
            copy_to=body.get("log_directory"),
            commands=commands,
            hosts=names if several else (),
            remotes={
                name if several else "": host
                for name in names
                if (host := (self._hosts or {}).get(name)) is not None and host.ssh
            },
            guard_directory=body.get("guard_directory"),
            note=_note(unlisted) if unlisted else None,
        )

    def _hosts_of(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """Names without repeats; empty for this machine."""
        wanted = body.get("tag")
        if wanted:
            names = [
                name
                for name, host in sorted((self._hosts or {}).items())
                if all(host.tags.get(key) == value for key, value in wanted.items())
            ]
            if not names:
                tags = ", ".join(f"{key}={value}" for key, value in wanted.items())
                raise TargetRefused(f"no host carries the tags {tags}: add one under `hosts` in settings.yaml")
        elif body.get("hosts"):
            names = list(dict.fromkeys(body["hosts"]))
        else:
            names = [body["host"]] if body.get("host") else []
        for name in names:
            if "/" in name or name in (".", ".."):
                raise TargetRefused(f"{name!r} cannot be the name of a host")
            if self._hosts is not None and name not in self._hosts and name != THIS_MACHINE:
                raise TargetRefused(_unknown_host(name, self._hosts))
        return tuple(names)

    def _variables(self, body: Mapping[str, Any]) -> dict[str, str]:
        variables = dict(body.get("environment") or {})
        for name, reference in (body.get("secrets") or {}).items():
            variables[name] = secret_of(name, reference, self._environment, self._secret_variables)
        return variables

    def _which(self, program: str, path: str | None = None) -> str | None:
        return shutil.which(program, path=path or self.base["PATH"])


def _note(names: Sequence[str]) -> str:
    """A script meant for a warehouse must not run on somebody's laptop unnoticed."""
    told = ", ".join(names[:NAMES_SHOWN_MAX])
    return f"runfold: there is no host list (`hosts` in settings.yaml), so {told} is taken to be this machine"


def _unknown_host(name: str, hosts: Mapping[str, HostSettings]) -> str:
    known = sorted({*hosts, THIS_MACHINE})
    near = Nearest().to(name, known)
    some = ", ".join(known[:NAMES_SHOWN_MAX]) + (
        f" and {len(known) - NAMES_SHOWN_MAX} more" * (len(known) > NAMES_SHOWN_MAX)
    )
    return (
        f"the host {shown(name)} is not known here"
        + (f" (did you mean {near}?)" if near else "")
        + f": known are {some}. "
        f"Add it under `hosts` in settings.yaml, as `{shown(name)}: {{ssh: user@host}}`, or `{shown(name)}: {{}}` if it is this machine"
    )


_ENCODER = json.JSONEncoder(default=dict)


def request_text(request: Request, plan: Plan) -> str:
    """What is kept beside the attempt: the request, with the content of files left out. Secrets are references in it."""
    return _ENCODER.encode(
        {
            "token": request.token,
            "run": request.run,
            "job": request.job,
            "attempt": request.attempt,
            "hosts": plan.hosts,
            "body": request.body,
            "inputs": [{key: one[key] for key in one if key != "content"} for one in request.inputs],
            "outputs": request.outputs,
        }
    )


def secret_of(name: str, reference: str, environment: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """The secret that a reference means on one machine. `variables` maps references of AWS to names in `environment`. `TargetRefused`, which
    names the secret `name` and never repeats it."""
    variable = variables.get(reference)
    if variable is None and reference.startswith("env:"):
        variable = reference.removeprefix("env:")
    if variable is not None:
        if variable not in environment:
            raise TargetRefused(f"secret {name}: the engine's environment has no variable {variable}")
        return environment[variable]
    if reference.startswith("file:"):
        return _secret_in_file(name, reference.removeprefix("file:"))
    raise TargetRefused(
        f"secret {name}: one machine cannot read {reference}; use `env:NAME` or `file:/path`, "
        "or map the reference to a variable of the engine's environment"
    )


def _secret_in_file(name: str, path: str) -> str:
    if not path.startswith("/"):
        raise TargetRefused(f"secret {name}: `file:` needs a path that begins with `/`")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TargetRefused(f"secret {name}: {path} cannot be read ({error.strerror})") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise TargetRefused(f"secret {name}: {path} is not a file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o077:
            raise TargetRefused(f"secret {name}: {path} may be read by others than its owner; chmod 600 it")
        data = file.read(SECRET_BYTES_MAX + 1)
    if len(data) > SECRET_BYTES_MAX:
        raise TargetRefused(f"secret {name}: {path} is larger than {SECRET_BYTES_MAX} bytes")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise TargetRefused(f"secret {name}: {path} is not text in UTF-8") from error


def _local_spark_options(words: Sequence[str]) -> tuple[str, ...]:
    """The options of spark-submit with the cluster's master replaced by this machine; the application's stay untouched."""
    kept: list[str] = []
    master = "local[*]"
    index = 0
    while index < len(words) and words[index].startswith("-"):
        option, has_value = words[index], words[index] not in _FLAGS_OF_SPARK and "=" not in words[index]
        value = words[index + 1 : index + 2] if has_value else ()
        if option == "--master" and value and value[0].startswith("local"):
            master = value[0]
        elif option.partition("=")[0] not in ("--master", "--deploy-mode"):
            kept += [option, *value]
        index += 2 if has_value else 1
    return ("--master", master, *kept, *words[index:])


def _user(number: int) -> tuple[str, str]:
    try:
        entry = pwd.getpwuid(number)
    except KeyError:
        # Containers often run under a number that no user list knows.
        return str(number), str(Path("/"))
    return entry.pw_name, entry.pw_dir
