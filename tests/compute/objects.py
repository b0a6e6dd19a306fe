"""As much of S3 as jobs' files need, for tests that have no other: buckets spring into being, and nothing is checked."""

import threading
from html import escape
from urllib.parse import parse_qs, unquote, urlsplit


class Objects:
    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, place: str, data: bytes) -> None:
        """`place` is `bucket/key`."""
        with self._lock:
            self._objects[place] = data

    def get(self, place: str) -> bytes | None:
        return self._objects.get(place)

    def names(self) -> list[str]:
        return sorted(self._objects)

    def serve(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a request in path style."""
        parts = urlsplit(target)
        place = unquote(parts.path).lstrip("/")
        query = parse_qs(parts.query)
        if method == "GET" and "list-type" in query:
            return (
                200,
                {"Content-Type": "application/xml"},
                self._listed(place.rstrip("/"), query.get("prefix", [""])[0]),
            )
        if method == "PUT":
            source = headers.get("x-amz-copy-source")
            if source is not None:
                found = self.get(unquote(source).lstrip("/"))
                if found is None:
                    return _no_such_key()
                self.put(place, found)
                return 200, {"Content-Type": "application/xml"}, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"
            self.put(place, _unchunked(body) if "aws-chunked" in headers.get("content-encoding", "") else body)
            return 200, {"ETag": '"x"'}, b""
        data = self.get(place)
        if data is None:
            return _no_such_key()
        last = headers.get("range", "").removeprefix("bytes=-")
        if last.isdecimal() and data:
            data = data[-int(last) :]
        return 200, {"ETag": '"x"', "Content-Length": str(len(data))}, b"" if method == "HEAD" else data

    def _listed(self, bucket: str, prefix: str) -> bytes:
        keys = [name.partition("/")[2] for name in self.names() if name.startswith(f"{bucket}/{prefix}")]
        contents = "".join(f"<Contents><Key>{escape(key)}</Key><Size>0</Size></Contents>" for key in keys)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()


def _no_such_key() -> tuple[int, dict[str, str], bytes]:
    words = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
    return 404, {"Content-Type": "application/xml"}, words


def _unchunked(body: bytes) -> bytes:
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            break
        data, body = data + body[:length], body[length + 2 :]
    return data
