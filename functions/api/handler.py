"""The HTTP API as one handler of API Gateway's payload format 2.0: parse, call one use case, answer.

What it promises: every answer is JSON of the documented shape or problem details with every problem; nothing that a caller sends
gives a 5xx; nothing is told of what a caller may not see. Importing this needs no environment.

Powertools' resolver routes, answers preflight requests and adds CORS headers. It keeps the request that it works on in a class
attribute, so calls take turns; why its validation is not used stands in docs/decisions/0004-api.md.
"""

import base64
import binascii
import gzip
import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from functions.api.problems import CONTENT_TYPE, HttpProblem, Unauthenticated, refusal, unsigned
from functions.api.requests import KEY_PATTERN, body_of, query_of
from functions.api.routes import PARAMETERS, ROUTES, Route
from functions.api.service import BODY_BYTES_MAX, Answer, ApiService, Call, Event
from shared.decide.access import Principal
from shared.errors import InvalidInput, NotFound, Problem, RunfoldError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("runfold.api")

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

FILE_KEY = "runfoldFile"
"""In an answer to the embedded server: the path of a file to be sent as the body, however large it is."""
RECEIVE_KEY = "runfoldReceive"
"""In an answer to the embedded server: where to write the body, which it has not read yet; the answer goes out when that is done."""
WAIT_KEY = "runfoldWait"
"""Within this file: the seconds that the caller waits, and what stands still until then."""
WAITING_MAX = 24
"""Calls that wait at once; others are answered as it is now. Half of what the embedded server keeps open."""
GZIP_BYTES_MIN = 1_024
"""Shorter answers do not become shorter."""
GZIP_LEVEL = 5
TURN_SECONDS_MAX = 20.0
"""How long a call waits for those before it."""
ORIGIN_ANY = "*"

_YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
_PARAMETER = re.compile(r"{(\w+)}")
_NOBODY = Principal("nobody")


def make_handler(service: ApiService) -> Handler:
    """The handler. It may be called by several threads; they take turns."""
    return _Api(service)


class _Api:
    def __init__(self, service: ApiService) -> None:
        self._service = service
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING_MAX)
        self._patterns = [(re.compile(_pattern(route.path)), route) for route in ROUTES]
        self._resolver = APIGatewayHttpResolver(cors=_cors(service.cors_origins), debug=False)
        for route in ROUTES:
            self._resolver.route(rule=_PARAMETER.sub(r"<\1>", route.path), method=route.method)(self._operation(route))
        self._resolver.not_found(self._not_found)
        self._resolver.exception_handler(Exception)(self._refused)

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        request_id = _request_id(event)
        head = _method(event) == "HEAD"
        try:
            answer = self._when_there_is_news(_as_get(event) if head else event, context)
        except StoreUnavailable as error:
            answer = _problem(error, request_id)
        except Exception as error:
            logger.exception("request %s failed outside of its operation", request_id)
            answer = _problem(error, request_id)
        return self._finished(answer, event, request_id, head=head)

    def _when_there_is_news(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Ask as often as it takes, a turn for each look: whoever waits holds up nobody."""
        answer, waiting = self._asked(event, context)
        if waiting is None or not self._waiting.acquire(blocking=False):
            return answer
        try:
            seconds, _, still = waiting.partition(" ")
            until = time.monotonic() + min(float(seconds), self._service.wait_seconds_max)
            while waiting is not None and waiting.partition(" ")[2] == still:
                left = until - time.monotonic()
                if left <= 0 or self._service.pause(min(left, self._service.look_every_seconds)):
                    break
                answer, waiting = self._asked(event, context)
        finally:
            self._waiting.release()
        return answer

    def _asked(self, event: dict[str, Any], context: Any) -> tuple[dict[str, Any], str | None]:
        with self._in_turn():
            answer = self._resolver.resolve(event, context)
        return answer, (answer.get("headers") or {}).pop(WAIT_KEY, None)

    @contextmanager
    def _in_turn(self) -> "Iterator[None]":
        if not self._turn.acquire(timeout=TURN_SECONDS_MAX):
            raise StoreUnavailable("too many requests are waiting; try again")
        try:
            yield
        finally:
            self._turn.release()

    # --- one call -----------------------------------------------------------------------------------------------------

    def _operation(self, route: Route) -> Callable[..., Response[Any]]:
        def operation(**path: str) -> Response[Any]:
            event = self._resolver.current_event.raw_event
            call = self._call(route, event, path)
            if route.writes:
                with self._service.acting():
                    return self._response(route.serve(call), event)
            answer = route.serve(call)
            response = self._response(answer, event)
            if answer.waiting and (seconds := getattr(call.query, "wait", 0)):
                response.headers[WAIT_KEY] = f"{seconds} {answer.waiting}"
            return response

        return operation

    def _call(self, route: Route, event: Event, path: Mapping[str, str]) -> Call:
        headers = _headers(event)
        principal = _NOBODY if route.open else self._service.authenticate(event)
        data, content_type = _data(route, event, headers)
        query = query_of(route.query, event.get("rawQueryString") or "")
        body = body_of(route.body, data) if isinstance(route.body, type) else None
        try:
            parts = {name: _part(name, text) for name, text in path.items()}
        except NotFound:
            if route.signed:
                # Whoever cannot sign is told the same of every address.
                raise unsigned() from None
            raise
        return Call(
            self._service,
            principal,
            parts,
            query,
            body,
            data,
            content_type,
            _key(headers) if route.keyed else "",
            headers,
        )

    def _response(self, answer: Answer, event: Event) -> Response[Any]:
        headers = dict(answer.headers)
        if answer.file is not None:
            # The body names the file; `_finished` takes it out of there.
            return Response(answer.status, "application/octet-stream", str(answer.file), {**headers, FILE_KEY: "yes"})
        if answer.body is None:
            return Response(answer.status, None, "", headers)
        if answer.receive is not None:
            to = {
                "path": str(answer.receive.path),
                "sha256": answer.receive.sha256,
                "bytes_max": answer.receive.bytes_max,
            }
            headers[RECEIVE_KEY] = json.dumps(to)
        get = _method(event) in ("GET", "HEAD")
        etag = f'W/"{answer.etag}-{self._service.release}"' if answer.etag else ""
        if get and etag and _unchanged(event, etag):
            return Response(304, None, "", {**headers, "ETag": etag})
        text = json.dumps(answer.body(), separators=(",", ":"), ensure_ascii=False)
        if get:
            etag = etag or f'W/"{hashlib.sha256(_bytes(text)).hexdigest()[:32]}"'
            headers["ETag"] = etag
            if _unchanged(event, etag):
                return Response(304, None, "", headers)
        return Response(answer.status, "application/json", text, headers)

    def _not_found(self, error: NotFoundError) -> Response[Any]:  # noqa: ARG002
        event = self._resolver.current_event.raw_event
        path, method = event.get("rawPath", ""), _method(event)
        methods = sorted({route.method for pattern, route in self._patterns if pattern.fullmatch(path)})
        # The resolver's own pattern leaves out some characters, which stand in no name of ours.
        if not methods or method in methods:
            return self._refused(NotFound("there is nothing at this address; /v1/openapi.json tells what there is"))
        allowed = [*methods, "HEAD"] if "GET" in methods else methods
        headers = {"Allow": ", ".join([*allowed, "OPTIONS"])}
        if method == "OPTIONS":
            return Response(204, None, "", headers)
        told = f"{method[:20]} is not a method of this address; it has {', '.join(allowed)}"
        return self._refused(HttpProblem(405, "method-not-allowed", told, headers))

    def _refused(self, error: Exception) -> Response[Any]:
        event = self._resolver.current_event.raw_event
        request_id = _request_id(event)
        told = refusal(error, request_id)
        if told.status == 500:
            logger.error("request %s: %s %s", request_id, _method(event), event.get("rawPath"), exc_info=error)
        elif not isinstance(error, RunfoldError | Unauthenticated):
            raise AssertionError("only our own errors are anything but internal")
        return Response(told.status, CONTENT_TYPE, json.dumps(told.body, ensure_ascii=False), told.headers)

    # --- the answer -----------------------------------------------------------------------------------------------------

    def _finished(self, answer: dict[str, Any], event: Event, request_id: str, *, head: bool) -> dict[str, Any]:
        """The headers that every answer has, and the body as it travels."""
        headers = {str(name): value for name, value in (answer.get("headers") or {}).items() if value is not None}
        answer = {**answer, "headers": headers, "statusCode": int(answer["statusCode"])}
        headers["X-Request-Id"] = request_id
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Cache-Control", "private, no-cache")
        headers["Vary"] = "Accept-Encoding, Authorization, Origin"
        if (to := headers.pop(RECEIVE_KEY, None)) is not None:
            answer[RECEIVE_KEY] = json.loads(to)
        if headers.pop(FILE_KEY, None):
            answer[FILE_KEY] = answer["body"]
            answer["body"] = ""
            return answer
        if answer["statusCode"] in (204, 304) or not answer.get("body"):
            headers.pop("Content-Type", None)
            answer["body"] = ""
            return answer
        data = _bytes(answer["body"])
        if len(data) >= GZIP_BYTES_MIN and _accepts_gzip(_headers(event).get("accept-encoding", "")):
            data = gzip.compress(data, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
            answer |= {"body": base64.b64encode(data).decode(), "isBase64Encoded": True}
        bytes_max = self._service.answer_bytes_max
        if bytes_max is not None and _is_longer(answer["body"], bytes_max):
            told = "the answer is longer than the gateway passes on; accept gzip, or ask for it by the page"
            large = _problem(HttpProblem(413, "too-large-an-answer", told), request_id)
            return self._finished(large, event, request_id, head=head)
        if head:
            headers["Content-Length"] = str(len(data))
            answer |= {"body": "", "isBase64Encoded": False}
        return answer


def _is_longer(body: str, bytes_max: int) -> bool:
    """As it travels: a text in JSON, in UTF-8. Measured only where it could be."""
    return len(body) * 6 > bytes_max and len(_bytes(json.dumps(body, ensure_ascii=False))) > bytes_max


def _problem(error: Exception, request_id: str) -> dict[str, Any]:
    told = refusal(error, request_id)
    return {
        "statusCode": told.status,
        "headers": {**told.headers, "Content-Type": CONTENT_TYPE},
        "body": json.dumps(told.body, ensure_ascii=False),
        "isBase64Encoded": False,
    }


# --- the request ------------------------------------------------------------------------------------------------------------


def _cors(origins: tuple[str, ...]) -> CORSConfig | None:
    if not origins:
        return None
    return CORSConfig(
        allow_origin=ORIGIN_ANY if ORIGIN_ANY in origins else origins[0],
        extra_origins=[] if ORIGIN_ANY in origins else list(origins[1:]),
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
        expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id"],
        max_age=600,
    )


def _pattern(path: str) -> str:
    return _PARAMETER.sub("[^/]+", re.sub(r"[.]", r"\\.", path))


def _method(event: Event) -> str:
    return str(event.get("requestContext", {}).get("http", {}).get("method", "")).upper()


def _as_get(event: Event) -> dict[str, Any]:
    context = event["requestContext"]
    return {**event, "requestContext": {**context, "http": {**context["http"], "method": "GET"}}}


def _request_id(event: Event) -> str:
    return str(event.get("requestContext", {}).get("requestId") or "unknown")


def _headers(event: Event) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}


def _part(name: str, text: str) -> str:
    """A part of the path, decoded. Gateways differ in whether they decode it themselves; no name holds a percent sign."""
    decoded = unquote(text)
    schema, _ = PARAMETERS[name]
    if len(decoded) > 256 or not decoded.isprintable() or "/" in decoded or "%" in decoded:
        raise NotFound(f"there is no {name} of that name")
    if schema["type"] == "integer" and not re.fullmatch(r"[1-9][0-9]{0,8}", decoded):
        raise NotFound(f"there is no such {name}")
    return decoded


def _data(route: Route, event: Event, headers: Mapping[str, str]) -> tuple[bytes, str]:
    """The body's bytes and its type; checked only where a body is read."""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if route.body in (None, "file"):
        return b"", content_type
    text = event.get("body") or ""
    if len(text) > BODY_BYTES_MAX * 4 // 3 + 4:
        raise _too_large()
    if event.get("isBase64Encoded"):
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput([Problem("", "the body is not base64, though the gateway says so")]) from None
    else:
        data = _bytes(text)
    if len(data) > BODY_BYTES_MAX:
        raise _too_large()
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise HttpProblem(415, "unsupported-media-type", "compressed bodies are not read; send it as it is")
    readable = content_type == "application/json" or (
        route.body in ("document", "calendar") and content_type in _YAML_TYPES
    )
    if not readable and (data or content_type):
        types = "application/json" + (" or application/yaml" if route.body in ("document", "calendar") else "")
        raise HttpProblem(415, "unsupported-media-type", f"send the body as {types}")
    return data, content_type or "application/json"


def _too_large() -> HttpProblem:
    return HttpProblem(413, "too-large", f"the body has more than {BODY_BYTES_MAX:,} bytes")


def _key(headers: Mapping[str, str]) -> str:
    key = headers.get("idempotency-key", "")
    if key and re.fullmatch(KEY_PATTERN.strip("^$"), key) is None:
        raise InvalidInput(
            [Problem("Idempotency-Key", "is not 1 to 200 printable ASCII characters without spaces", "send a UUID")]
        )
    return key


def _unchanged(event: Event, etag: str) -> bool:
    sent = _headers(event).get("if-none-match", "")
    # Comparison for If-None-Match is the weak one: W/ makes no difference.
    return sent.strip() == "*" or etag.removeprefix("W/") in re.findall(r'"[^"]*"', sent)


def _accepts_gzip(accepted: str) -> bool:
    for one in accepted.lower().split(","):
        name, _, weight = one.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return re.fullmatch(r"q=0(\.0{0,3})?", weight.strip()) is None
    return False


def _bytes(text: str) -> bytes:
    # Half a surrogate pair can stand in stored text; it must not turn an answer into an error.
    return text.encode("utf-8", "replace")
