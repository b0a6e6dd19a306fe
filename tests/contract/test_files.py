"""What `Files` owe, on this machine and on S3: what is there, nothing, later, or never."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from shared.errors import TargetRefused, TargetUnavailable
from shared.ports import Files
from shared.stores.files import LocalFiles
from shared.stores.s3 import S3Files
from tests.contract.conftest import AWS


@dataclass
class Place:
    files: Files
    address: str
    put: Callable[[], object]
    elsewhere: str


@pytest.fixture(params=["machine", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "machine":
        path = tmp_path / "größe 1.csv"
        return Place(LocalFiles(), str(path), lambda: path.write_bytes(b"12 bytes long"), "s3://runfold/a.csv")
    client: Any = request.getfixturevalue("s3")
    key = f"{uuid.uuid4().hex}/größe 1.csv"
    put = lambda: client.put_object(Bucket="runfold", Key=key, Body=b"12 bytes long")  # noqa: E731
    return Place(S3Files(client), f"s3://runfold/{key}", put, "/in/a.csv")


def test_what_is_not_there_is_not_found_and_what_is_there_is_described(place: Place) -> None:
    assert place.files.find(place.address) is None
    place.put()
    found = place.files.find(place.address)
    assert found is not None
    assert "13 bytes" in found


def test_an_address_of_another_kind_can_never_be_looked_at(place: Place) -> None:
    with pytest.raises(TargetRefused):
        place.files.find(place.elsewhere)
    assert place.address.startswith(place.files.prefix)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert LocalFiles().find(str(tmp_path)) is None
    assert LocalFiles().find(str(tmp_path / "gone" / "a.csv")) is None


def test_a_path_that_no_system_has_is_refused() -> None:
    with pytest.raises(TargetRefused):
        LocalFiles().find("/in/a\0b")


def test_a_bucket_that_may_not_be_looked_at_is_said(aws: None) -> None:
    from botocore.stub import Stubber

    client = boto3.client("s3", **AWS)  # type: ignore[call-overload]
    with Stubber(client) as answers:
        answers.add_client_error("head_object", "403", http_status_code=403)
        with pytest.raises(TargetRefused, match="awaited_buckets"):
            S3Files(client).find("s3://other/a.csv")
        answers.add_client_error("head_object", "503", http_status_code=503)
        with pytest.raises(TargetUnavailable):
            S3Files(client).find("s3://other/a.csv")
