"""What `Documents` owe: the very bytes of a digest, or a clear no."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.errors import CorruptStream, NotFound, StoreUnavailable
from shared.ids import Digest, digest_of
from shared.ports import Documents
from shared.stores.directory import DirectoryDocuments
from shared.stores.s3 import S3Documents

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.parametrize("data", [b"", b'{"name": "nightly"}', bytes(range(256)) * 5_000])
def test_bytes_are_given_back_under_their_digest(documents: Documents, data: bytes) -> None:
    digest = documents.put(data)
    assert digest == digest_of(data)
    assert documents.get(digest) == data


def test_the_same_bytes_twice_are_one_document(documents: Documents) -> None:
    assert documents.put(b"once") == documents.put(b"once")
    assert documents.get(documents.put(b"once")) == b"once"


def test_a_document_nobody_put_is_not_found(documents: Documents) -> None:
    with pytest.raises(NotFound):
        documents.get(digest_of(b"never put"))


@pytest.mark.parametrize("digest", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest_names_no_document(documents: Documents, digest: str) -> None:
    with pytest.raises(NotFound):
        documents.get(Digest(digest))


def test_threads_that_put_the_same_document_do_not_disturb_each_other(documents: Documents) -> None:
    start = threading.Barrier(4)
    digests: list[Digest] = []

    def put() -> None:
        start.wait()
        digests.append(documents.put(b"wanted by all"))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [digest_of(b"wanted by all")] * 4
    assert documents.get(digests[0]) == b"wanted by all"


def test_a_file_that_was_altered_is_refused_and_the_next_put_heals_it(tmp_path: Path) -> None:
    documents = DirectoryDocuments(tmp_path)
    digest = documents.put(b"right")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.write_bytes(b"wrong")
    with pytest.raises(CorruptStream, match=digest):
        documents.get(digest)
    documents.put(b"right")
    assert documents.get(digest) == b"right"


def test_a_directory_leaves_nothing_but_documents_behind_that_only_the_owner_reads(tmp_path: Path) -> None:
    documents = DirectoryDocuments(tmp_path / "documents")
    for number in range(3):
        documents.put(b"%d" % number)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(file.name for file in files) == sorted(digest_of(b"%d" % number) for number in range(3))
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


def test_a_directory_that_cannot_be_written_is_unavailable_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "documents").write_text("a file is in the way")
    with pytest.raises(StoreUnavailable, match="check free space and permissions"):
        DirectoryDocuments(tmp_path / "documents").put(b"x")


def test_an_object_that_was_altered_is_refused(s3: "S3Client") -> None:
    documents = S3Documents(s3, "runfold", "altered/")
    digest = documents.put(b"right")
    s3.put_object(Bucket="runfold", Key=f"altered/{digest}", Body=b"wrong")
    with pytest.raises(CorruptStream, match=digest):
        documents.get(digest)


def test_a_versioned_bucket_keeps_one_version_of_a_document_put_often(s3: "S3Client") -> None:
    documents = S3Documents(s3, "runfold", "often/")
    for _ in range(3):
        documents.put(b"often")
    assert len(s3.list_object_versions(Bucket="runfold", Prefix="often/")["Versions"]) == 1


def test_a_bucket_that_is_not_there_is_unavailable(s3: Any) -> None:
    documents = S3Documents(s3, "no-such-bucket")
    with pytest.raises(StoreUnavailable, match="no-such-bucket"):
        documents.put(b"x")
    with pytest.raises(StoreUnavailable, match="no-such-bucket"):
        documents.get(digest_of(b"x"))
