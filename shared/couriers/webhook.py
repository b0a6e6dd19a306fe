"""Webhooks: a POST of JSON, signed so that the receiver knows who sends it, with the notice's id so that it can tell a second one.

    Runfold-Notice: <id>
    Runfold-Signature: t=<seconds since 1970>,v1=<hex of HMAC-SHA256 over "<t>.<body>">

What it promises: no connection to an address that is not allowed (`addresses.py`), whatever names, redirects or environment say; no
credentials, cookies or proxies; at most `COURIER_SECONDS` in all and a few kilobytes of answer, whatever the receiver does.
"""

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC
from urllib.parse import SplitResult, urljoin, urlsplit

from shared.couriers.addresses import Resolve, permitted
from shared.couriers.addresses import resolve as resolve_names
from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.ports import COURIER_SECONDS, Message

REDIRECTS_MAX = 3
CONNECT_SECONDS = 5.0
ANSWER_BYTES_MAX = 4_096
_AGAIN = frozenset({408, 425, 429})
"""Answers of the 400s that say: later."""
_KEEP_THE_POST = frozenset({307, 308})

Secret = Callable[[str], bytes]
"""The value behind a reference; `TargetRefused` when there is none."""


class Webhook:
    def __init__(
        self,
        secret: Secret,
        *,
        now: Callable[[], float] = time.time,
        private: bool = False,
        resolve: Resolve = resolve_names,
        context: ssl.SSLContext | None = None,
        seconds_max: float = COURIER_SECONDS,
    ) -> None:
        """`private`: whether addresses that are not public may be reached."""
        self._secret = secret
        self._now = now
        self._private = private
        self._resolve = resolve
        self._context = context
        self._seconds_max = seconds_max

    def send(self, message: Message) -> str:
        rule = message.rule
        assert rule.webhook is not None
        body = body_of(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "runfold",
            "Runfold-Notice": message.id,
            "Connection": "close",
        }
        if rule.secret is not None:
            headers["Runfold-Signature"] = signature(self._secret(rule.secret), body, int(self._now()))
        url = rule.webhook
        until = time.monotonic() + self._seconds_max
        for _ in range(REDIRECTS_MAX + 1):
            status, location = self._post(url, body, headers, until)
            if status in _KEEP_THE_POST and location:
                following = _joined(url, location)
                if _split(url).scheme == "https" and _split(following).scheme != "https":
                    raise TargetRefused("the webhook leads from https to a connection that anybody can read")
                if _origin(following) != _origin(url):
                    # Who is asked now was not named by the document, so nothing proves to him who we are.
                    headers.pop("Runfold-Signature", None)
                url = following
                continue
            return _judged(status)
        raise TargetRefused(f"the webhook leads on more than {REDIRECTS_MAX} times")

    def _post(self, url: str, body: bytes, headers: dict[str, str], until: float) -> tuple[int, str]:
        parts = _split(url)
        host, port = _host_and_port(parts)
        address = permitted(host, port, private=self._private, resolve=self._resolve)
        left = until - time.monotonic()
        if left <= 0:
            raise TargetSilent(f"the webhook took longer than {self._seconds_max:g} seconds")
        connection = _Pinned(host, port, address, min(CONNECT_SECONDS, left), self._tls(parts.scheme))
        path = parts.path or "/"
        try:
            connection.connect()
        except (OSError, ssl.SSLError) as error:
            connection.close()
            raise TargetUnavailable(f"the webhook cannot be reached: {error}") from error
        # A receiver that sends a byte now and then never times out by itself.
        watch = threading.Timer(max(until - time.monotonic(), 0.0), connection.cut)
        watch.daemon = True
        watch.start()
        try:
            connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
            if connection.was_cut:
                # What was read until then looks like a whole answer.
                raise TargetSilent(f"the webhook took longer than {self._seconds_max:g} seconds")
            return answer.status, answer.getheader("Location", "")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TargetSilent(f"the webhook did not answer: {type(error).__name__} {error}".rstrip()) from error
        finally:
            watch.cancel()
            connection.close()

    def _tls(self, scheme: str) -> ssl.SSLContext | None:
        if scheme == "http":
            return None
        if self._context is None:
            # When first needed: reading the certificates of the world takes milliseconds.
            self._context = ssl.create_default_context()
        return self._context


def body_of(message: Message) -> bytes:
    """What is posted, and what `command` reads: the same bytes at each attempt."""
    told = {
        "id": message.id,
        "on": message.on,
        "workflow": message.workflow,
        "run": message.run or None,
        "at": message.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "subject": message.subject,
        "text": message.text,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: bytes, body: bytes, at: int) -> str:
    signed = hmac.new(secret, str(at).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"


def _judged(status: int) -> str:
    if 200 <= status < 300:
        return str(status)
    if status >= 500 or status in _AGAIN:
        raise TargetUnavailable(f"the webhook answered {status}")
    raise TargetRefused(f"the webhook answered {status}")


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TargetRefused(f"the webhook's address cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise TargetRefused("the webhook leads to what is not an address of a web server")
    return host, port or (443 if parts.scheme == "https" else 80)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise TargetRefused(f"the webhook's address cannot be read: {error}") from error


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise TargetRefused(f"the webhook leads to what is not an address: {error}") from error


def _origin(url: str) -> tuple[str, str]:
    parts = _split(url)
    return parts.scheme, parts.netloc.lower()


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was judged, whatever its name means by now."""

    def __init__(self, host: str, port: int, address: str, timeout: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address
        self._tls = tls
        self.was_cut = False
        # `Host` leaves out a port that the scheme implies.
        self.default_port = 443 if tls is not None else 80

    def connect(self) -> None:
        made = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = made if self._tls is None else self._tls.wrap_socket(made, server_hostname=self.host)
        except BaseException:
            made.close()
            raise

    def cut(self) -> None:
        """From another thread: whatever waits on it fails at once."""
        self.was_cut = True
        sock = self.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It was closed meanwhile.
                return
