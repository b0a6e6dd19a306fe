"""What is kept in S3 buckets: documents, each under its digest; what people upload; files that runs are given.

A put is one conditional request, so a versioned bucket keeps one version of each document; S3 checks what arrives, and we check what
we read.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import CorruptStream, NotFound, TargetRefused, TargetUnavailable
from shared.ids import Digest, RunId, digest_of
from shared.ports import Place
from shared.stores.aws import code_of, translated
from shared.stores.digests import checked

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Documents:
    def __init__(self, client: "S3Client", bucket: str, prefix: str = "documents/") -> None:
        """`prefix` ends with the separator, if one is wanted."""
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        with translated(f"keep a document in bucket {self._bucket}"):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + digest,
                    Body=data,
                    ChecksumSHA256=b64encode(bytes.fromhex(digest)).decode(),
                    IfNoneMatch="*",
                )
            except ClientError as error:
                # It is there already, and under this name only these bytes can be.
                if code_of(error) != "PreconditionFailed":
                    raise
        return digest

    def get(self, digest: Digest) -> bytes:
        key = self._prefix + checked(digest)
        with translated(f"read a document in bucket {self._bucket}"):
            try:
                response = self._client.get_object(Bucket=self._bucket, Key=key)
                data = response["Body"].read()
            except ClientError as error:
                if code_of(error) != "NoSuchKey":
                    raise
                raise NotFound(f"there is no document {digest}") from error
        if digest_of(data) != digest:
            raise CorruptStream(f"document {digest} was altered; restore its first version in bucket {self._bucket}")
        return data


class S3Files:
    """Objects that runs wait for, in whatever buckets the deployment may look at."""

    prefix = "s3://"

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def find(self, address: str) -> str | None:
        bucket, _, key = address.removeprefix(self.prefix).partition("/")
        if not address.startswith(self.prefix) or not bucket or not key:
            raise TargetRefused(f"files are looked for at s3://bucket/key, and {address} is none")
        try:
            found = self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # An answer to HEAD has no body, so the codes are bare numbers.
            if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            if code_of(error) in ("403", "AccessDenied", "400", "BadRequest"):
                raise TargetRefused(
                    f"{address} may not be looked at: name its bucket in `awaited_buckets` of the deployment"
                ) from error
            raise TargetUnavailable(f"{address} cannot be looked at for now") from error
        except BotoCoreError as error:
            raise TargetUnavailable(f"{address} cannot be looked at for now") from error
        return f"{found['ContentLength']:,} bytes, ETag {found['ETag']}"


class S3GivenFiles:
    """Files that runs are given: put by whoever has the address, which S3 holds to the digest and size that were signed."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "runs/") -> None:
        """`client` signs with version 4: version 2 leaves headers unsigned, and S3 would take any bytes."""
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def place(self, run: RunId, digest: Digest, size: int) -> Place:
        checksum = b64encode(bytes.fromhex(digest)).decode()
        url = self._client.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self._bucket,
                "Key": self._key(run, digest),
                "ChecksumSHA256": checksum,
                "ContentLength": size,
            },
            ExpiresIn=PLACE_SECONDS,
        )
        return Place(url, {"Content-Length": str(size), "x-amz-checksum-sha256": checksum})

    def receiver(self, run: RunId, digest: Digest) -> Path:
        raise NotFound(f"{digest} of {run} goes to the address that POST /v1/uploads answers with")

    @contextmanager
    def kept(self, run: RunId, digests: Iterable[Digest]) -> Iterator[Mapping[Digest, str]]:
        there = {digest: self._key(run, digest) for digest in digests if self._is_there(self._key(run, digest))}
        yield {digest: f"s3://{self._bucket}/{key}" for digest, key in there.items()}

    def _is_there(self, key: str) -> bool:
        with translated(f"look for {key} in bucket {self._bucket}"):
            try:
                self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if code_of(error) not in ("404", "NoSuchKey"):
                    raise
                return False
        return True

    def _key(self, run: RunId, digest: Digest) -> str:
        return f"{self._prefix}{run}/_uploads/{checked(digest)}"


PLACE_SECONDS = 900
"""How long a file may be put, or until our credentials end."""
UPLOAD_BYTES_MAX = 64 * 1024 * 1024
"""Never read more than this of an upload; reading a document refuses far smaller ones, with the reason."""


class S3Uploads:
    """Documents that people put into the bucket."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object as it is now, and what identifies this very content; None if there is none."""
        with translated(f"read {key} in bucket {self._bucket}"):
            try:
                response = self._client.get_object(Bucket=self._bucket, Key=key)
                data = response["Body"].read(UPLOAD_BYTES_MAX)
            except ClientError as error:
                if code_of(error) != "NoSuchKey":
                    raise
                return None
        # Content, not version: the same bytes uploaded again are no news.
        return data, digest_of(data)
