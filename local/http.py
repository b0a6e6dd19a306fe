"""An HTTP/1.1 server for the embedded engine: gives each request to a handler as API Gateway would, in its payload format 2.0.

What it promises: a thread of its own that sleeps while nobody calls, and one for each open connection, of which there is a bounded number; every
request has a bound on its line, headers, body and time; a slow or hostile peer holds up only itself. Open to everybody who reaches it, it
answers only under names of this machine and not to pages of other origins, because any web page can make a browser call 127.0.0.1.
"""

import base64
import contextlib
import errno
import hashlib
import ipaddress
import itertools
import json
import logging
import os
import secrets
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedReader, RawIOBase
from typing import Any
from urllib.parse import urlsplit

from local.home import Home
from shared.errors import Rejected, RunfoldError

logger = logging.getLogger("runfold.http")

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]
"""From an event to an answer; called by several threads."""

PORT_DEFAULT = 8720
CONNECTIONS_MAX = 64
"""Open at once; others are told to come back."""
CROWDED = 48
"""From so many on, connections are closed after their answer instead of kept."""
BACKLOG = 128
LINE_BYTES_MAX = 16 * 1024
HEADER_BYTES_MAX = 32 * 1024
"""Of the request line and all headers together."""
BODY_BYTES_MAX = 6 * 1024 * 1024
"""What Lambda takes."""
REQUEST_SECONDS = 30.0
"""From the answer before, or the connection's beginning, until a request has come whole."""
SEND_SECONDS = 60.0
"""For an answer; for a file, between two pieces of it."""
JOIN_SECONDS = 2.0
"""How long closing waits for requests under way."""
PAUSE_SECONDS = 0.1
"""After a connection could not be taken because this process has too many files open."""
FILE_KEY = "runfoldFile"
"""In an answer: the path of a file that is the body."""
RECEIVE_KEY = "runfoldReceive"
"""In an answer to a PUT, whose body has not been read: the `path` to write it to, its `sha256`, and `bytes_max`."""
RECEIVE_SECONDS_MAX = 3_600.0
"""For a body that is written to a file, with no pause longer than `SEND_SECONDS`."""
PIECE_BYTES = 1 << 18
TOKEN_BYTES = 32

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_of(home: Home) -> str:
    """The home's token, made when there is none: whoever can read the file may use the engine. `Rejected` if others can."""
    path = home.path / "token"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise Rejected(f"cannot write {path}: {error.strerror}") from error
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Rejected(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(descriptor) as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise Rejected(f"others can read {path}: remove it, and a new one is made")
        token = file.read(1_000).strip()
    if len(token) < TOKEN_BYTES:
        raise Rejected(f"{path} holds no token: remove it, and a new one is made")
    return token


@contextmanager
def serve(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    port: int = PORT_DEFAULT,
    guarded: bool = True,
    origins: tuple[str, ...] = (),
) -> Iterator["HttpServer"]:
    """Serve while the block runs. Port 0 takes a free one. `Rejected` when the address cannot be had.

    `guarded`: nobody proves who they are, so answer only under names of this machine and refuse pages of other origins, but for
    `origins`. Pass False where the handler demands a token.
    """
    server = HttpServer(handler, host=host, port=port, guarded=guarded, origins=origins)
    try:
        yield server
    finally:
        server.close()


class HttpServer:
    """Serves from its making on, until `close`."""

    def __init__(self, handler: Handler, *, host: str, port: int, guarded: bool, origins: tuple[str, ...]) -> None:
        self.handler = handler
        self.guarded = guarded
        self.origins = frozenset(origins)
        self.names = _LOOPBACK_NAMES | {host}
        self._request_ids = itertools.count(1)
        self._life = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._closing = False
        self._listener = _listen(host, port)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="runfold-http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def crowded(self) -> bool:
        return self._closing or len(self._connections) >= CROWDED

    def request_id(self) -> str:
        return f"{self._life}-{next(self._request_ids)}"

    def close(self) -> None:
        """Take no more connections, end the idle ones, and wait a little for requests under way."""
        self._closing = True
        self._wake.send(b"x")
        self._thread.join()
        self._listener.close()
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now:
            with contextlib.suppress(OSError):
                # Reading ends; an answer that is being written still goes out.
                connection.shutdown(socket.SHUT_RD)
        give_up = time.monotonic() + JOIN_SECONDS
        for thread in open_now.values():
            thread.join(max(give_up - time.monotonic(), 0))
        self._wake.close()
        self._woken.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing:
                selector.select()
                if not self._closing:
                    self._take_one()

    def _take_one(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                logger.error("cannot take a connection: %s", error.strerror)
                time.sleep(PAUSE_SECONDS)
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(_BUSY)
            connection.close()
            return
        thread = threading.Thread(target=self._talk, args=(connection, peer), name="runfold-http-request", daemon=True)
        with self._lock:
            self._connections[connection] = thread
        thread.start()

    def _talk(self, connection: socket.socket, peer: Any) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(connection, peer, self)
        except OSError:
            # The peer went away, or was too slow.
            pass
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Rejected(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = "; another program has it, name another port" if error.errno == errno.EADDRINUSE else ""
        raise Rejected(f"cannot listen on {host}:{port}: {error.strerror}{hint}") from error
    return listener


class _Refused(Exception):
    """This request ends here, and so does the connection."""

    def __init__(self, status: HTTPStatus, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind


class _Deadline(RawIOBase):
    """Reads from a socket until a moment and up to a number of bytes, however slowly they drip."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until = 0.0
        self._left = 0
        self.inside = False
        """Whether a request has begun and not come whole: its end is no end then."""

    def begin(self, seconds: float, bytes_max: int) -> None:
        self._until = time.monotonic() + seconds
        self._left = bytes_max
        self.inside = False

    def more(self, bytes_max: int) -> None:
        self._left += bytes_max

    def longer(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            # Taken for the end, it would cut a header in two, and what follows would be read as another request.
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too-large", "the headers are too long")
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        if self.inside and not count:
            raise ConnectionResetError("the peer stopped in the middle of a request")
        return count


class _Connection(BaseHTTPRequestHandler):
    """One connection: its requests, one after the other."""

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, peer: Any, server: HttpServer) -> None:
        self._server = server
        self._request_id = ""
        self._refusing = False
        """The rest of this request is not read, so the connection cannot carry another."""
        super().__init__(connection, peer, server)  # type: ignore[arg-type]  # only handed back to us

    def setup(self) -> None:
        self.connection = self.request
        self._source = _Deadline(self.connection)
        self.rfile = BufferedReader(self._source, 16 * 1024)

    def finish(self) -> None:
        self.rfile.close()

    def handle_one_request(self) -> None:
        self._request_id = self._server.request_id()
        self._source.begin(REQUEST_SECONDS, HEADER_BYTES_MAX)
        self.close_connection = True
        self.requestline, self.request_version, self.command = "", self.protocol_version, ""
        try:
            self.raw_requestline = self.rfile.readline(LINE_BYTES_MAX + 1)
            if not self.raw_requestline.strip(b"\r\n"):
                return
            if len(self.raw_requestline) > LINE_BYTES_MAX:
                raise _Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "bad-request", "the address is too long")
            self._source.inside = True
            if not self.parse_request():
                return
            event = self._event()
        except _Refused as refused:
            self._refuse(refused.status, refused.kind, str(refused))
            return
        except TimeoutError:
            if self.requestline:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "bad-request", "the request did not come in time")
            return
        try:
            answer = self._server.handler(event, None)
        except RunfoldError as error:
            # The handler itself could not be made: the home is full, locked, or of another release.
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error), keep=True)
            return
        except Exception:
            logger.exception("request %s", self._request_id)
            told = f"This is our error. Its details are logged under request {self._request_id}."
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", told, keep=True)
            return
        self._send(answer)

    def handle_expect_100(self) -> bool:
        # What is refused is refused with or without its body; whoever waits for this word sends it only then.
        self.connection.settimeout(SEND_SECONDS)
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What the parser of the standard library refuses."""
        self._refuse(HTTPStatus(code), "bad-request", message or HTTPStatus(code).phrase)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        logger.debug(format, *args)

    # --- the request ----------------------------------------------------------------------------------------------------

    def _event(self) -> dict[str, Any]:
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        target = self.path
        if not target.startswith("/"):
            # The absolute form that proxies use; OPTIONS * is about the server as a whole.
            parts = urlsplit(target) if "://" in target else None
            target = f"{parts.path or '/'}?{parts.query}" if parts is not None else "/"
        path, _, query = target.partition("?")
        self._guard(headers)
        # A PUT is read when the handler has said where to.
        body = b"" if self.command == "PUT" else self._body(headers)
        peer = str(self.client_address[0])
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query.partition("#")[0],
            "headers": headers,
            "requestContext": {
                "http": {
                    "method": self.command,
                    "path": path,
                    "protocol": self.request_version,
                    "sourceIp": peer,
                    "userAgent": headers.get("user-agent", ""),
                },
                "domainName": headers.get("host", ""),
                "requestId": self._request_id,
                "stage": "$default",
            },
            "isBase64Encoded": False,
        }
        if body:
            try:
                event["body"] = body.decode()
            except UnicodeDecodeError:
                event |= {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
        return event

    def _guard(self, headers: dict[str, str]) -> None:
        if not self._server.guarded:
            return
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if name not in self._server.names:
            told = "this engine is open to its own machine, and answers only under names of it, such as localhost"
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "forbidden", told)
        origin = headers.get("origin")
        if origin is None or self.command in ("GET", "HEAD", "OPTIONS"):
            return
        if origin != f"http://{host}" and not self._server.origins & {origin, "*"}:
            raise _Refused(HTTPStatus.FORBIDDEN, "forbidden", "pages of other origins may not ask for anything here")

    def _body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "bad-request", "send the body with a Content-Length")
        length = _length_in(headers.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            told = f"the body has more than {BODY_BYTES_MAX:,} bytes"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", told)
        self._source.more(length)
        return self.rfile.read(length) if length else b""

    # --- the answer -----------------------------------------------------------------------------------------------------

    def _send(self, answer: dict[str, Any]) -> None:
        body = base64.b64decode(answer["body"]) if answer.get("isBase64Encoded") else _encoded(answer.get("body") or "")
        headers = {str(name): str(value) for name, value in answer["headers"].items()}
        if self.command == "PUT":
            to = answer.get(RECEIVE_KEY)
            if to is not None and not self._received(to):
                return
            # Nobody wants the body, so it is not read, and the connection cannot carry another request.
            self._refusing = to is None
        path = answer.get(FILE_KEY)
        if path is not None:
            self._send_file(answer["statusCode"], headers, path)
        else:
            self._write(answer["statusCode"], headers, body)
        if self._refusing:
            self._drain()

    def _received(self, to: dict[str, Any]) -> bool:
        """Write the body to where the handler says. False: the request was refused, and that was its answer."""
        try:
            if "transfer-encoding" in self.headers or "content-length" not in self.headers:
                raise _Refused(HTTPStatus.LENGTH_REQUIRED, "bad-request", "send the body with a Content-Length")
            length = _length_in(self.headers["content-length"])
            if length > to["bytes_max"]:
                told = f"the file has more than {to['bytes_max']:,} bytes"
                raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", told)
            if not self._written(to["path"], length, to["sha256"]):
                raise _Refused(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", "these are not the bytes of that digest"
                )
        except _Refused as refused:
            self._refuse(refused.status, refused.kind, str(refused))
            return False
        return True

    def _written(self, path: str, length: int, sha256: str) -> bool:
        """Whether the bytes came whole and are those; then they are there, and will be after a power cut."""
        folder, name = os.path.split(path)
        part = f"{path}.{secrets.token_hex(8)}"
        digest = hashlib.sha256()
        give_up = time.monotonic() + RECEIVE_SECONDS_MAX
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            with open(part, "xb") as file:  # noqa: PTH123
                self._source.more(length)
                while length:
                    self._source.longer(min(SEND_SECONDS, give_up - time.monotonic()))
                    piece = self.rfile.read(min(length, PIECE_BYTES))
                    digest.update(piece)
                    file.write(piece)
                    length -= len(piece)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                return False
            os.replace(part, path)  # noqa: PTH105
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            logger.error("cannot keep %s: %s", name, error)
            told = f"the file cannot be kept: {error.strerror}"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", told) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)  # noqa: PTH108
        return True

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.connection.settimeout(SEND_SECONDS)
        bodiless = self.command == "HEAD" or status in _BODILESS
        self.connection.sendall(self._head(status, headers, len(body)) + (b"" if bodiless else body))

    def _head(self, status: int, headers: dict[str, str], length: int) -> bytes:
        keep = self.request_version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"
        self.close_connection = self._refusing or not keep or self._server.crowded
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", f"Date: {self.date_time_string()}"]
        if status not in _BODILESS and "Content-Length" not in headers:
            lines.append(f"Content-Length: {length}")
        lines.append(f"Connection: {'close' if self.close_connection else 'keep-alive'}")
        # A line break inside a value would begin another header.
        lines += [f"{name}: {' '.join(value.split())}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _send_file(self, status: int, headers: dict[str, str], path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "not-found", "the file is gone", keep=True)
            return
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                self._refuse(HTTPStatus.NOT_FOUND, "not-found", "it is not a file", keep=True)
                return
            self.connection.settimeout(SEND_SECONDS)
            self.connection.sendall(self._head(status, headers, facts.st_size))
            if self.command != "HEAD" and facts.st_size:
                sent = self.connection.sendfile(file, count=facts.st_size)
                # Whoever was promised more must not take the next answer for the rest.
                self.close_connection = self.close_connection or sent != facts.st_size

    def _refuse(self, status: HTTPStatus, kind: str, detail: str, *, keep: bool = False) -> None:
        """Problem details, as the handler gives them; what is left of the request is not read, so the connection ends."""
        self._refusing = not keep
        problem = {
            "type": f"urn:runfold:problem:{kind}",
            "title": status.phrase,
            "status": int(status),
            "detail": detail,
            "request_id": self._request_id,
            "problems": [],
        }
        headers = {"Content-Type": "application/problem+json", "X-Request-Id": self._request_id}
        if not hasattr(self, "headers"):
            self.headers = self.MessageClass()
        self._write(status, headers, json.dumps(problem).encode())
        if not keep:
            self._drain()

    def _drain(self) -> None:
        # Closing with unread bytes resets the connection, and the peer may never see why it was refused.
        with contextlib.suppress(OSError, _Refused):
            self.connection.shutdown(socket.SHUT_WR)
            self._source.begin(1.0, BODY_BYTES_MAX)
            while self.rfile.read1(1 << 16):
                pass


def _length_in(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise _Refused(HTTPStatus.BAD_REQUEST, "bad-request", "Content-Length is no number")
    return int(text)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
