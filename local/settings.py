"""What one machine is told beside the documents: `<home>/settings.yaml`, which may be absent.

    hosts:                                # when given, a host that is not listed is refused
      warehouse: {ssh: etl@warehouse.example.com, port: 22, identity: ~/.ssh/etl, tags: {role: db}}
      laptop: {}                          # without `ssh`: this machine
    secrets:                              # a reference in documents: the variable that holds its value here
      "arn:aws:secretsmanager:eu-central-1:123456789012:secret:warehouse": WAREHOUSE_PASSWORD
    containers: none                      # or docker, or podman: what runs the images of ecs jobs
    notices:                              # how people are told, where documents ask for it
      smtp: {host: mail.example.com, port: 587, sender: runfold@example.com, tls: starttls, user: runfold, password: "env:SMTP_PASSWORD"}
      private_webhooks: false             # true: webhooks may lead to addresses that are not public
      address: https://runfold.example.com  # where this engine's API answers, for links
    synchronous: FULL                     # or NORMAL: faster, and a power cut may take the last commits

What it promises: the file is read as documents are (bounded, YAML 1.2, no key twice), every problem is told at once with its
place, and a file that is wrong keeps the engine from starting rather than being half obeyed. No message shows what stands
under `secrets`.
"""

import json
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from shared.errors import InvalidInput, Problem
from shared.executors.process import HostSettings
from shared.workflow.nearest import Nearest, listed, shown
from shared.workflow.syntax import bounded, parse, path_of

FILE_BYTES_MAX = 1 << 20
"""Of settings.yaml. Ours: ten thousand hosts."""

HOST_RULE = "letters, digits, `.`, `_`, `:` and `-`, beginning with a letter or digit, at most 255"
VARIABLE_RULE = "letters, digits and `_`, not beginning with a digit"

_HOST_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$"
# One colon would be somebody's port, which ssh takes for a part of the name; an IPv6 address has two at least.
_ADDRESS_PATTERN = (
    r"^(?:[A-Za-z0-9_][A-Za-z0-9._@-]{0,126}@)?"
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,254}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{0,39}(?:%[A-Za-z0-9._-]{1,32})?)$"
)
_VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _or_empty(value: Any) -> Any:
    """`laptop:` with nothing after it says as much as `laptop: {}`."""
    return {} if value is None else value


class HostEntry(_Model):
    """A host that `ssm` jobs may name."""

    ssh: Annotated[str, StringConstraints(pattern=_ADDRESS_PATTERN)] | None = None
    """`user@host`, or a name from the user's own SSH configuration; this machine when absent."""
    port: int = Field(default=22, ge=1, le=65_535)
    """With `ssh`."""
    identity: Annotated[str, StringConstraints(pattern=r"^(?:/|~/).", max_length=4096)] | None = None
    """With `ssh`: the private key's file, `/…` or `~/…`; SSH's own choice when absent."""
    tags: dict[Annotated[str, StringConstraints(min_length=1, max_length=128)], str] = {}
    """What a job's `tag` is compared with."""


class SmtpEntry(_Model):
    """The server that takes mail."""

    host: Annotated[str, StringConstraints(pattern=_HOST_PATTERN)]
    """Its name or address."""
    port: int = Field(default=587, ge=1, le=65_535)
    """587 for `starttls`, 465 for `tls`, 25 for `none` as a rule."""
    sender: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}@[A-Za-z0-9.-]{1,190}$")]
    """What mail comes from."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is encrypted; `none` only to a server that is near."""
    user: Annotated[str, StringConstraints(max_length=256)] = ""
    """To sign in as; nobody when empty."""
    password: Annotated[
        str, StringConstraints(pattern=r"^(?:$|env:[A-Za-z_][A-Za-z0-9_]{0,127}$|file:/)", max_length=2048)
    ] = ""
    """By reference: `env:NAME` or `file:/path`."""


class NoticeEntry(_Model):
    """How people are told."""

    smtp: SmtpEntry | None = None
    """None: the channel `email` is not there."""
    private_webhooks: bool = False
    """Whether webhooks may lead to addresses that are not public."""
    address: Annotated[str, StringConstraints(pattern=r"^(?:$|https?://[^\s@]+$)", max_length=512)] = ""
    """Where the API of this engine answers, for links in notices."""


class LocalSettings(_Model):
    """The whole file."""

    hosts: (
        dict[Annotated[str, StringConstraints(pattern=_HOST_PATTERN)], Annotated[HostEntry, BeforeValidator(_or_empty)]]
        | None
    ) = None
    """By name. None: there is no list, and every host that a document names is this machine."""
    secrets: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=2048)],
        Annotated[str, StringConstraints(pattern=_VARIABLE_PATTERN)],
    ] = {}
    """References to the names of environment variables of the engine."""
    containers: Literal["none", "docker", "podman"] = "none"
    """What runs the images of `ecs` jobs; with `none` their commands are processes of this machine."""
    notices: NoticeEntry = NoticeEntry()
    """How people are told, where documents ask for it."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """Of SQLite."""

    def host_list(self, environment: Mapping[str, str]) -> dict[str, HostSettings] | None:
        """As the executor takes it; `~` is the HOME of `environment`."""
        if self.hosts is None:
            return None
        return {
            name: HostSettings(
                ssh=host.ssh,
                port=host.port,
                identity=_identity(host.identity, environment) if host.identity else None,
                tags=dict(host.tags),
            )
            for name, host in self.hosts.items()
        }


def read_settings(path: Path) -> LocalSettings:
    """The settings in a file; the defaults when there is none, or nothing but comments in it. `InvalidInput` with every problem,
    each under `settings.yaml: <place>`."""
    try:
        data = _bytes_of(path)
        if data is None or _says_nothing(data):
            return LocalSettings()
        raw = _parsed(data, path.name)
        # Through JSON, because there pydantic is strict about numbers and texts.
        return LocalSettings.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        nearest = Nearest()
        problems = [_problem_of(one, nearest) for one in error.errors(include_url=False)]
    except InvalidInput as error:
        problems = list(error.problems)
    raise InvalidInput([_placed(path, problem) for problem in bounded(problems)])


def settings_problems(path: Path, environment: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the file, and with what it counts on: programs, keys and variables that are not there. Empty when all
    is well. Reads files, starts nothing, connects to nobody."""
    try:
        settings = read_settings(path)
    except InvalidInput as error:
        return list(error.problems)
    problems = [
        *_host_problems(settings, environment),
        *_secret_problems(settings, environment),
        *_notice_problems(settings, environment),
    ]
    if settings.containers != "none" and _which(settings.containers, environment) is None:
        hint = f"install it, or write `containers: none` to run commands without their images: {settings.containers}"
        problems.append(Problem("containers", f"`{settings.containers}` is not on the PATH", hint))
    return [_placed(path, problem) for problem in problems]


def _host_problems(settings: LocalSettings, environment: Mapping[str, str]) -> list[Problem]:
    problems = []
    hosts = settings.hosts or {}
    if any(host.ssh for host in hosts.values()) and _which("ssh", environment) is None:
        problems.append(Problem("hosts", "`ssh` is not on the PATH", "install an OpenSSH client"))
    for name, host in hosts.items():
        if host.identity is None:
            continue
        place = path_of(("hosts", name, "identity"))
        if host.ssh is None:
            problems.append(Problem(place, "is not used without `ssh`", "add `ssh: user@host`, or remove it"))
            continue
        file = Path(_identity(host.identity, environment))
        try:
            facts = file.stat()
        except OSError as error:
            problems.append(Problem(place, f"{shown(file, 200)}: {error.strerror}", "name the file of a private key"))
            continue
        if not stat.S_ISREG(facts.st_mode) or not os.access(file, os.R_OK):
            problems.append(Problem(place, f"{shown(file, 200)} is not a file that can be read"))
        elif facts.st_mode & 0o077:
            problems.append(Problem(place, "may be read by others than its owner, and ssh refuses it", "chmod 600 it"))
    return problems


def _secret_problems(settings: LocalSettings, environment: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(path_of(("secrets", reference)), "its variable is not set", "set it where the engine is started")
        for reference, variable in settings.secrets.items()
        if variable not in environment
    ]


def _notice_problems(settings: LocalSettings, environment: Mapping[str, str]) -> list[Problem]:
    smtp = settings.notices.smtp
    if smtp is None:
        return []
    problems = []
    name = smtp.password.removeprefix("env:")
    if smtp.password.startswith("env:") and name not in environment:
        problems.append(
            Problem("notices.smtp.password", "its variable is not set", "set it where the engine is started")
        )
    if smtp.user and not smtp.password:
        problems.append(
            Problem("notices.smtp.user", "has no password", "add `password: env:NAME`, or leave `user` out")
        )
    if smtp.user and smtp.tls == "none":
        problems.append(
            Problem("notices.smtp.tls", "would show the password to anybody on the way", "use starttls or tls")
        )
    return problems


# --- reading ----------------------------------------------------------------------------------------------------------


def _bytes_of(path: Path) -> bytes | None:
    try:
        # Opening a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput([Problem("", f"cannot be read: {error.strerror}")]) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput([Problem("", "is not a file")])
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise InvalidInput([Problem("", f"has more than {FILE_BYTES_MAX:,} bytes")])
    return data


def _says_nothing(data: bytes) -> bool:
    """Whether everything is a comment, as in a file that somebody prepared and has not used yet."""
    lines = (line.strip() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines())
    return all(not line or line.startswith(b"#") or line == b"---" for line in lines)


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    try:
        return parse(data, name=name)
    except InvalidInput as error:
        # What the reader says of documents, in words that fit a file of settings.
        raise InvalidInput([_reworded(problem) for problem in error.problems]) from None


def _reworded(problem: Problem) -> Problem:
    message = problem.message.replace("the document", "the file").replace("a document", "a file")
    if "not an object" in message:
        return Problem("", message, f"it has {listed(list(LocalSettings.model_fields))}")
    hint = problem.hint.replace("the document", "the file")
    about_documents = any(word in hint for word in ("workflow", "`defaults`", "a document", "parameters", "files"))
    return Problem(problem.path, message, "" if about_documents else hint)


def _placed(path: Path, problem: Problem) -> Problem:
    place = f"{path.name}: {problem.path}" if problem.path else path.name
    return Problem(place, problem.message, problem.hint)


# --- what the models refuse -------------------------------------------------------------------------------------------

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_CHOICES = {
    "synchronous": ("FULL", "NORMAL"),
    "containers": ("none", "docker", "podman"),
    "tls": ("starttls", "tls", "none"),
}
_HOST_WORDS = {
    "address": "ssh",
    "hostname": "ssh",
    "host": "ssh",
    "user": "ssh",
    "key": "identity",
    "identity_file": "identity",
    "identityfile": "identity",
    "private_key": "identity",
    "labels": "tags",
}


def _problem_of(error: ErrorDetails, nearest: Nearest) -> Problem:
    parts = tuple(part for part in error["loc"] if part != "[key]")
    path = path_of(parts)
    value = error.get("input")
    kind = error["type"]
    private = bool(parts) and (parts[0] == "secrets" or parts[-1] == "password")
    if kind == "extra_forbidden":
        return _unknown(path, parts, nearest)
    if kind == "string_pattern_mismatch" or (private and kind.startswith("string_")):
        return _ill_written(path, parts, is_key="[key]" in error["loc"], value=value)
    if kind == "literal_error":
        choices = _CHOICES[str(parts[-1])]
        hint = nearest.hint(value, choices) if isinstance(value, str) else ""
        return Problem(path, f"`{shown(value)}` is not one of {listed(choices)}", hint)
    if kind in _KINDS:
        hint = ""
        if value is None:
            hint = "leave it out to have its default"
        elif kind == "string_type" and isinstance(value, bool | int | float) and not private:
            hint = f'put it in quotes: "{shown(value)}"'
        elif kind.startswith(("dict", "model")) and len(parts) == 2 and isinstance(value, str):
            hint = f"write {{ssh: {shown(value)}}}"
        return Problem(path, f"must be {_KINDS[kind]}", hint)
    if kind == "string_too_short":
        return Problem(path, "is empty", "write a value or leave it out")
    return Problem(path, error["msg"].replace("Input should be", "must be").replace("Input should", "must"))


def _unknown(path: str, parts: tuple[int | str, ...], nearest: Nearest) -> Problem:
    in_host = len(parts) == 3 and parts[0] == "hosts"
    model: type[BaseModel] = HostEntry if in_host else _MODELS.get(parts[:-1], LocalSettings)
    fields: Collection[str] = list(model.model_fields)
    field = str(parts[-1])
    elsewhere = _HOST_WORDS.get(field.casefold().replace("-", "_")) if in_host else None
    hint = f"did you mean `{elsewhere}`?" if elsewhere else nearest.hint(field, fields, f"it has {listed(fields)}")
    return Problem(path, f"`{shown(field)}` is not a field of {'a host' if in_host else 'the settings'}", hint)


_MODELS: dict[tuple[int | str, ...], type[BaseModel]] = {("notices",): NoticeEntry, ("notices", "smtp"): SmtpEntry}


def _ill_written(path: str, parts: tuple[int | str, ...], *, is_key: bool, value: Any) -> Problem:
    if parts[0] == "secrets":
        if is_key:
            return Problem(path, "is not a reference", "1 to 2,048 characters, as documents write it")
        # Somebody may have put the secret itself here.
        return Problem(path, "is not the name of an environment variable", VARIABLE_RULE)
    if parts[0] == "notices":
        rules = {
            "password": "by reference: env:NAME or file:/path",
            "sender": "an address such as runfold@example.com",
            "address": "it begins with https:// or http://",
            "host": HOST_RULE,
        }
        return Problem(path, "is not written as it must be", rules.get(str(parts[-1]), ""))
    if is_key:
        return Problem(path, "is not the name of a host", HOST_RULE)
    if parts[-1] == "identity":
        return Problem(path, f"`{shown(value)}` is not the path of a file", "it begins with `/` or `~/`")
    return Problem(path, f"`{shown(value)}` is not an address", "it looks like `user@host`; the port stands in `port`")


def _identity(path: str, environment: Mapping[str, str]) -> str:
    home = environment.get("HOME")
    if not path.startswith("~/"):
        return path
    return f"{home}/{path[2:]}" if home else str(Path(path).expanduser())


def _which(program: str, environment: Mapping[str, str]) -> str | None:
    return shutil.which(program, path=environment.get("PATH") or os.defpath)
