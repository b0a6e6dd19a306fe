"""What `Artifacts` owes, on the files of this machine and on S3."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from functions.api.embedded import HomeArtifacts
from local.home import Home
from shared.errors import NotFound
from shared.executors.aws_output import DOWNLOAD_SECONDS, S3Artifacts
from shared.ids import RunId
from shared.ports import Artifacts

RUN = RunId("nightly@2026-11-22T02:00:00Z")


@dataclass
class Kept:
    """A place where files are kept: `keep` puts one there and answers its address, as a report names it."""

    artifacts: Artifacts
    keep: Callable[[str, str, bytes], str]
    remove: Callable[[str, str], None]
    read: Callable[[Any], bytes]
    outside: tuple[str, ...]
    """Addresses that lead out of the run, or that the place does not know."""


@pytest.fixture(params=["home", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "home":
        return _home(tmp_path)
    return _s3(request.getfixturevalue("s3"))


def _home(root: Path) -> Kept:
    (root / "secret").write_bytes(b"secret")

    def keep(run: str, name: str, data: bytes) -> str:
        path = root / "runs" / run / "_files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"runs/{run}/_files/{name}"

    return Kept(
        HomeArtifacts(Home(root)),
        keep,
        lambda run, name: (root / "runs" / run / "_files" / name).unlink(),
        lambda stored: stored.path.read_bytes(),
        (str(root / "secret"), "secret", f"runs/{RUN}/../../secret", f"runs/{RUN}/_files/../../../secret"),
    )


def _s3(client: Any) -> Kept:
    prefix = f"{uuid.uuid4().hex}/"
    client.put_object(Bucket="runfold", Key=f"{prefix}secret", Body=b"secret")

    def keep(run: str, name: str, data: bytes) -> str:
        client.put_object(Bucket="runfold", Key=f"{prefix}{run}/{name}", Body=data)
        return f"s3://runfold/{prefix}{run}/{name}"

    def read(stored: Any) -> bytes:
        # What the address names, by whoever holds it: no network here, so the name is read and asked for.
        key = unquote(urlsplit(stored.url).path).removeprefix("/").removeprefix("runfold/")
        data: bytes = client.get_object(Bucket="runfold", Key=key)["Body"].read()
        return data

    inside = f"s3://runfold/{prefix}{RUN}"
    return Kept(
        S3Artifacts(client, "runfold", prefix),
        keep,
        lambda run, name: client.delete_object(Bucket="runfold", Key=f"{prefix}{run}/{name}"),
        read,
        (
            f"s3://runfold/{prefix}secret",
            f"{inside}/../secret",
            f"{inside}x/file",
            f"s3://elsewhere/{prefix}{RUN}/a",
            f"{prefix}{RUN}/a",
            "https://example.com/a",
        ),
    )


@pytest.mark.parametrize(
    "name", ["report.csv", "a/b/c", "with space", "ü.txt", "100%25.csv", "q?x=1&y#z", "'\"`$(id)", "-rf"]
)
def test_a_file_is_given_out_as_it_was_kept(kept: Kept, name: str) -> None:
    address = kept.keep(RUN, name, b"1;2\n")
    assert kept.artifacts.size(RUN, address) == 4
    assert kept.read(kept.artifacts.fetch(RUN, address)) == b"1;2\n"


def test_an_empty_file_is_there(kept: Kept) -> None:
    assert kept.artifacts.size(RUN, kept.keep(RUN, "empty", b"")) == 0


def test_a_file_that_was_removed_is_gone(kept: Kept) -> None:
    address = kept.keep(RUN, "report.csv", b"x")
    kept.remove(RUN, "report.csv")
    assert kept.artifacts.size(RUN, address) is None
    with pytest.raises(NotFound, match="gone"):
        kept.artifacts.fetch(RUN, address)


def test_a_file_of_another_run_is_not_given_out(kept: Kept) -> None:  # fault 57
    for other in ("other@1", f"{RUN}1", RUN[:-1]):
        address = kept.keep(other, "secret", b"x")
        assert kept.artifacts.size(RUN, address) is None
        with pytest.raises(NotFound):
            kept.artifacts.fetch(RUN, address)


def test_no_address_leads_out_of_the_run(kept: Kept) -> None:  # fault 57
    hostile = ("", ".", "..", "/", "/etc/passwd", "\0", "a\0b", "~", "file:///etc/passwd", "s3://", "//x")
    for address in (*hostile, *kept.outside):
        assert kept.artifacts.size(RUN, address) is None, address
        with pytest.raises(NotFound):
            kept.artifacts.fetch(RUN, address)


def test_a_folder_is_no_file(kept: Kept) -> None:
    address = kept.keep(RUN, "folder/file", b"x").removesuffix("/file")
    assert kept.artifacts.size(RUN, address) is None


def test_a_link_on_this_machine_does_not_lead_out(tmp_path: Path) -> None:  # fault 57
    kept = _home(tmp_path)
    address = kept.keep(RUN, "report", b"x")
    kept.remove(RUN, "report")
    (tmp_path / address).symlink_to(tmp_path / "secret")
    assert kept.artifacts.size(RUN, address) is None
    with pytest.raises(NotFound):
        kept.artifacts.fetch(RUN, address)


def test_an_address_of_s3_is_good_for_minutes_and_opens_nothing_in_a_browser(s3: Any) -> None:
    kept = _s3(s3)
    url = kept.artifacts.fetch(RUN, kept.keep(RUN, "page.html", b"<script>")).url
    query = parse_qs(urlsplit(url).query)
    assert query["response-content-type"] == ["application/octet-stream"]
    assert query["response-content-disposition"][0].startswith("attachment;")
    assert int(query.get("X-Amz-Expires", [str(DOWNLOAD_SECONDS)])[0]) <= DOWNLOAD_SECONDS
