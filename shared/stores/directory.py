"""Documents in a directory, each in a file named for its digest.

A document is whole or not there at any instant, also after a power cut: it is written beside its place, synced, and then renamed into
it. What is read is checked against its name.
"""

import os
import tempfile
from pathlib import Path

from shared.errors import CorruptStream, NotFound, StoreUnavailable
from shared.ids import Digest, digest_of
from shared.stores.digests import checked


class DirectoryDocuments:
    """The directory is made when the first document is put. Only the owner of the process can read the files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        place = self._place(digest)
        try:
            if self._is_kept(place, data):
                # Whoever renamed it into place may not have synced the directory yet.
                _sync(place.parent)
                return digest
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write(place, data)
            _sync(place.parent)
            _sync(self._path)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot keep a document in {self._path}: {error.strerror}; check free space and permissions there"
            ) from error
        return digest

    def get(self, digest: Digest) -> bytes:
        place = self._place(checked(digest))
        try:
            data = place.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"there is no document {digest}") from error
        except OSError as error:
            raise StoreUnavailable(
                f"cannot read a document in {self._path}: {error.strerror}; check the permissions there"
            ) from error
        if digest_of(data) != digest:
            raise CorruptStream(f"document {digest} in {self._path} was altered; put the original file back")
        return data

    def _place(self, digest: Digest) -> Path:
        return self._path / digest[:2] / digest

    @staticmethod
    def _is_kept(place: Path, data: bytes) -> bool:
        # Comparing, and not only looking for the name, heals a document that was damaged.
        try:
            return place.read_bytes() == data
        except FileNotFoundError:
            return False

    @staticmethod
    def _write(place: Path, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(place)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
