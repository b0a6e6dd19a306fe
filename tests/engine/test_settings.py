"""settings.yaml: what one machine is told beside the documents, or every problem at once."""

import os
import time
from pathlib import Path

import pytest

from local.engine import Engine
from local.home import Home
from local.settings import FILE_BYTES_MAX, LocalSettings, read_settings, settings_problems
from shared.errors import InvalidInput
from shared.executors.process import HostSettings

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:warehouse"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def refused(file: Path, text: str | bytes) -> list[str]:
    """The problems, as a person sees them."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InvalidInput) as refusal:
        read_settings(file)
    return [str(problem) for problem in refusal.value.problems]


@pytest.mark.parametrize("text", [None, "", "  \n", "# hosts: {}\n\n", "---\n# nothing yet\n", "{}"])
def test_no_file_and_a_file_that_says_nothing_mean_the_defaults(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)
    assert read_settings(file) == LocalSettings()
    assert read_settings(file).host_list({}) is None


def test_everything_can_be_said(file: Path) -> None:
    file.write_text(f"""
hosts:
  warehouse: {{ssh: etl@warehouse.example.com, port: 2222, identity: ~/.ssh/etl, tags: {{role: db}}}}
  six: {{ssh: "etl@fe80::1%eth0"}}
  alias: {{ssh: alias}}
  laptop:
secrets:
  "{ARN}": WAREHOUSE_PASSWORD
containers: podman
synchronous: NORMAL
""")
    settings = read_settings(file)
    assert settings.host_list({"HOME": "/home/me"}) == {
        "warehouse": HostSettings("etl@warehouse.example.com", 2222, "/home/me/.ssh/etl", {"role": "db"}),
        "six": HostSettings("etl@fe80::1%eth0"),
        "alias": HostSettings("alias"),
        "laptop": HostSettings(),
    }
    assert settings.secrets == {ARN: "WAREHOUSE_PASSWORD"}
    assert (settings.containers, settings.synchronous) == ("podman", "NORMAL")


def test_every_problem_is_told_at_once_with_its_place_and_what_was_meant(file: Path) -> None:
    assert refused(
        file,
        f"""
host: {{}}
hosts:
  far: {{ssh: "-oProxyCommand=x", port: 0, user: etl, tag: {{}}}}
  near: etl@near
  "a/b": {{}}
  other: {{ssh: "etl@other:22", identity: key, port: "22", tags: {{rack: 7}}}}
secrets:
  "{ARN}": "hunter2 hunter2"
containers: Docker
synchronous: off
""",
    ) == [
        "settings.yaml: hosts.far.ssh: `-oProxyCommand=x` is not an address "
        "(it looks like `user@host`; the port stands in `port`)",
        "settings.yaml: hosts.far.port: must be greater than or equal to 1",
        "settings.yaml: hosts.far.user: `user` is not a field of a host (did you mean `ssh`?)",
        "settings.yaml: hosts.far.tag: `tag` is not a field of a host (did you mean `tags`?)",
        "settings.yaml: hosts.near: must be an object (write {ssh: etl@near})",
        'settings.yaml: hosts["a/b"]: is not the name of a host '
        "(letters, digits, `.`, `_`, `:` and `-`, beginning with a letter or digit, at most 255)",
        "settings.yaml: hosts.other.ssh: `etl@other:22` is not an address "
        "(it looks like `user@host`; the port stands in `port`)",
        "settings.yaml: hosts.other.port: must be a whole number",
        "settings.yaml: hosts.other.identity: `key` is not the path of a file (it begins with `/` or `~/`)",
        'settings.yaml: hosts.other.tags.rack: must be text (put it in quotes: "7")',
        f'settings.yaml: secrets["{ARN[:60]}…"]: is not the name of an environment variable '
        "(letters, digits and `_`, not beginning with a digit)",
        "settings.yaml: containers: `Docker` is not one of none, docker or podman (did you mean `docker`?)",
        "settings.yaml: synchronous: `off` is not one of FULL or NORMAL",
        "settings.yaml: host: `host` is not a field of the settings (did you mean `hosts`?)",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"hosts: {a: {}, a: {}}", "is given twice"),
        (b"- a", "a list, not an object (it has hosts, secrets, containers, notices or synchronous)"),
        (b"hosts: !!python/object:os.system {}", "the tag"),
        (b"a: &a [*a]", "refers to what it is part of"),
        (b"a: &a [x,x]\nb: &b [*a,*a]\n" + b"c: [*b,*b]\n", "not a field"),
        (b"hosts: {\xff: {}}", "is not UTF-8"),
        (b"hosts: {a: \0}", "NUL"),
        (b"hosts: " + b"[" * 10_000, "nested more than"),
        (b"containers: .nan", "NaN"),
        (b"hosts: {}\n---\nhosts: {}", "a second YAML document"),
        (b"#" * (FILE_BYTES_MAX + 1), "has more than 1,048,576 bytes"),
    ],
)
def test_hostile_files_are_refused_as_documents_are(file: Path, text: bytes, told: str) -> None:  # fault 51
    began = time.process_time()
    (first, *_) = refused(file, text)
    assert told in first
    assert first.startswith("settings.yaml")
    assert "workflow" not in first
    assert time.process_time() - began < 1


def test_a_pipe_or_a_directory_in_its_place_is_refused_at_once(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(InvalidInput, match=r"settings\.yaml: is not a file"):
        read_settings(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(InvalidInput, match=r"settings\.yaml: is not a file"):
        read_settings(file)


def test_a_thousand_problems_are_listed_in_part(file: Path) -> None:
    hosts = "".join(f"  h{number}: 1\n" for number in range(1000))
    problems = refused(file, "hosts:\n" + hosts)
    assert len(problems) == 101
    assert "900 more problems" in problems[-1]


def test_a_secret_written_in_the_place_of_its_variable_is_not_repeated(file: Path) -> None:  # I13
    for value in ("hunter 2", "'1hunter'", "[hunter]", "{hunter: 1}", "1.5"):
        assert "hunter" not in "".join(refused(file, f"secrets: {{{ARN!r}: {value}}}"))


def test_what_the_settings_count_on_is_looked_for(file: Path, tmp_path: Path) -> None:
    (tmp_path / "open").write_text("key")
    (tmp_path / "open").chmod(0o644)
    file.write_text(f"""
hosts:
  a: {{ssh: a, identity: {tmp_path}/none}}
  b: {{ssh: b, identity: {tmp_path}/open}}
  c: {{identity: {tmp_path}/open}}
secrets: {{"{ARN}": NOT_HERE}}
containers: podman
""")
    problems = [str(problem) for problem in settings_problems(file, {"PATH": str(tmp_path)})]
    assert [problem.split(": ", 2)[1] for problem in problems] == [
        "hosts",
        "hosts.a.identity",
        "hosts.b.identity",
        "hosts.c.identity",
        f'secrets["{ARN[:60]}…"]',
        "containers",
    ]
    assert "chmod 600" in problems[2]
    file.write_text("hosts: {a: {}}")
    assert settings_problems(file, {}) == []
    file.write_text("hosts: {a: 1}")
    assert len(settings_problems(file, {})) == 1


def test_an_engine_does_not_start_on_settings_that_are_wrong(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    home.settings.write_text("hosts: [warehouse]")
    with pytest.raises(InvalidInput, match="must be an object"):
        Engine(home, environment={})
    assert not home.database.exists()
    home.settings.write_text("hosts: {warehouse: {}}")
    Engine(home, environment={"PATH": os.environ["PATH"], "HOME": "/", "USER": "root"}).close()
