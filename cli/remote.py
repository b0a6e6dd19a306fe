"""An engine behind its HTTP API, on this machine or deployed; see `cli/reach.py`.

What it promises: every call has a bound on its time and size, and is repeated with growing, spread delays only when the engine could not
answer. Everything may be repeated: what is asked for is done once, by a key where the state alone would not tell. The token goes to that
address alone.
"""

import contextlib
import hashlib
import http.client
import json
import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote, urlencode, urlsplit

from cli.reach import (
    ENDED,
    Attempts,
    End,
    Moment,
    Object,
    Outcome,
    Page,
    Pin,
    Runs,
    Verdict,
    instant_of,
    is_their_page,
    tally_of,
)
from shared.errors import InvalidInput, NotFound, Problem, Rejected, RunfoldError, StoreUnavailable
from shared.ids import RunId, WorkflowName, is_name, scheduled_instant, scheduled_run
from shared.workflow.nearest import shown

if TYPE_CHECKING:
    from cli.following import ObjectWatched
    from cli.terminal import Terminal
    from shared.ports import RunFilter, RunSort
    from shared.workflow.calendar import Calendar
    from shared.workflow.document import Workflow

CONNECT_SECONDS = 10
ANSWER_SECONDS = 35
"""API Gateway gives up after 30."""
TRIES_MAX = 4
DELAY_SECONDS = 0.25
"""Before the second try at most; doubled with each."""
RETRY_AFTER_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
UPLOAD_PIECE_BYTES = 1 << 20
TOKEN_LENGTH_MAX = 16_384
PAGE_MAX = 500
"""Rows that the API gives at once."""
RUNS_SCANNED_MAX = 5_000
"""Looked at for one whose id begins or ends with what was given."""
WORKFLOWS_MAX = 1_000
POLL_SECONDS = (0.2, 3.0)
"""Between looks at a run that is waited for: soon after a change, and then less and less often."""
LOG_WAIT_SECONDS = 15
"""For which an API is asked to hold its answer while a log stands still."""
OUTAGE_SECONDS_MAX = 120.0
"""For so long an engine may be unreachable while a run is waited for."""
_AGAIN = frozenset({429, 502, 503, 504})
_OPEN = frozenset({"queued", "claimed", "submitted", "running", "doubt"})
_RUN_ENDED = frozenset({"succeeded", "failed", "cancelled"})
_AMBIGUOUS_SHOWN = 5
_SUFFIX_LENGTH_MIN = 4


def token_in(file: str | None, environment: Mapping[str, str]) -> str | None:
    """The token of `--token-file`, or of `RUNFOLD_TOKEN`; never of the command line, which others can read."""
    place, token = "RUNFOLD_TOKEN", environment.get("RUNFOLD_TOKEN", "").strip()
    if file is not None:
        place = "--token-file"
        try:
            with Path(file).open("rb") as opened:
                token = opened.read(TOKEN_LENGTH_MAX + 1).decode("ascii", "replace").strip()
        except OSError as error:
            raise InvalidInput(
                [Problem(place, f"{file} cannot be read: {error.strerror}", "check the path")]
            ) from error
    if not token and file is None:
        return None
    if not token or len(token) > TOKEN_LENGTH_MAX or not all("!" <= letter <= "~" for letter in token):
        raise InvalidInput([Problem(place, "holds no token", "one word of printable ASCII is expected")])
    return token


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    etag: str
    object: Any


class Client:
    """Asks one API. `sleep` and `spread` (0 to 1) are the pauses between tries."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.username or not url.isprintable():
            hint = "write http://127.0.0.1:8720 or https://….execute-api.eu-central-1.amazonaws.com"
            raise InvalidInput([Problem("--api", f"{shown(url)} is not the address of an API", hint)])
        self._tls = parts.scheme == "https"
        self._host: str = host
        self._port = port
        self._path = quote(parts.path, safe="/%")
        self._token = token
        self._sleep = sleep
        self._spread = spread
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        data: bytes | None = None,
        key: str = "",
        etag: str = "",
    ) -> Reply:
        """The answer, or the error that it tells. `StoreUnavailable` when there is none after `TRIES_MAX` tries."""
        headers = {"Accept-Encoding": "gzip", "Accept": "application/json"}
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        if etag:
            headers["If-None-Match"] = etag
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        target = f"{self._path}{path}{'?' + urlencode(given) if given else ''}"
        for number in range(1, TRIES_MAX + 1):
            pause = DELAY_SECONDS * 2 ** (number - 1) * self._spread()
            try:
                status, answered, content = self._once(method, target, headers, data)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                told = StoreUnavailable(f"{self.url} does not answer: {_words(error)}")
                if number == TRIES_MAX:
                    raise told from error
            else:
                if status < 400 or status not in _AGAIN or number == TRIES_MAX:
                    return self._reply(status, answered, content)
                with contextlib.suppress(ValueError):
                    pause = max(pause, min(float(answered.get("Retry-After", "0")), RETRY_AFTER_SECONDS_MAX))
            self._sleep(pause)
        raise AssertionError("the last try answers or raises")

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.ask("GET", path, query).object

    def post(self, path: str, body: Any, *, key: str = "") -> Any:
        return self.ask("POST", path, body=body, key=key).object

    @contextmanager
    def download(self, path: str) -> Iterator[IO[bytes]]:
        """The bytes of a file, from here or from where the API says they lie."""
        connection, response = self._begun_download(path)
        with contextlib.closing(connection):
            yield cast("IO[bytes]", _Whole(response, self.url))

    def _begun_download(self, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection: http.client.HTTPConnection | None = None
        try:
            connection = self._connect()
            connection.request("GET", f"{self._path}{path}", headers=self._authorized({}))
            response = connection.getresponse()
            if response.status == 302:
                # Elsewhere the address itself is the permission; our token is none of its business.
                there = urlsplit(response.headers.get("Location", ""))
                connection.close()
                connection = _connection(there.hostname or "", there.port, tls=there.scheme == "https")
                connection.request("GET", f"{there.path}?{there.query}" if there.query else there.path)
                response = connection.getresponse()
            if response.status == 200:
                return connection, response
            content = response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            raise StoreUnavailable(f"{self.url} does not answer: {_words(error)}") from error
        connection.close()
        self._reply(response.status, dict(response.headers.items()), content)
        raise RunfoldError(f"{self.url} answers {response.status} instead of the file")

    def upload(self, url: str, headers: Mapping[str, str], path: Path) -> None:
        """Put a file at an address of this API, or at one elsewhere that is the permission itself, without our token."""
        there = urlsplit(url)
        target = f"{there.path}?{there.query}" if there.query else there.path
        for number in range(1, TRIES_MAX + 1):
            connection: http.client.HTTPConnection | None = None
            try:
                connection = (
                    _connection(there.hostname, there.port, tls=there.scheme == "https")
                    if there.hostname
                    else self._connect()
                )
                sent = dict(headers) if there.hostname else self._authorized(dict(headers))
                with path.open("rb") as file:
                    connection.request(
                        "PUT", target if there.hostname else f"{self._path}{target}", body=file, headers=sent
                    )
                    response = connection.getresponse()
                    content = response.read(UPLOAD_PIECE_BYTES)
            except (OSError, http.client.HTTPException) as error:
                if number == TRIES_MAX:
                    raise StoreUnavailable(f"{path} cannot be put: {_words(error)}") from error
            else:
                if response.status < 300:
                    return
                if not there.hostname and response.status not in _AGAIN:
                    self._reply(response.status, dict(response.headers.items()), content)
                if number == TRIES_MAX or response.status not in _AGAIN | {500}:
                    raise Rejected(f"{path} was not taken: {there.hostname or self.url} answers {response.status}")
            finally:
                if connection is not None:
                    connection.close()
            self._sleep(DELAY_SECONDS * 2 ** (number - 1) * self._spread())

    def _connect(self) -> http.client.HTTPConnection:
        return _connection(self._host, self._port, tls=self._tls)

    def _authorized(self, headers: dict[str, str]) -> dict[str, str]:
        return {**headers, "Authorization": f"Bearer {self._token}"} if self._token else headers

    def _once(
        self, method: str, target: str, headers: dict[str, str], data: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, target, body=data, headers=self._authorized(headers))
        response = self._connection.getresponse()
        content = response.read(ANSWER_BYTES_MAX + 1)
        if len(content) > ANSWER_BYTES_MAX:
            self.close()
            raise RunfoldError(f"the answer of {self.url} is longer than {ANSWER_BYTES_MAX:,} bytes")
        if response.headers.get("Content-Encoding") == "gzip":
            try:
                unpacking = zlib.decompressobj(31)
                content = unpacking.decompress(content, ANSWER_BYTES_MAX)
            except zlib.error as error:
                raise RunfoldError(f"the answer of {self.url} cannot be unpacked") from error
            if unpacking.unconsumed_tail:
                raise RunfoldError(f"the answer of {self.url} is longer than {ANSWER_BYTES_MAX:,} bytes")
        return response.status, dict(response.headers.items()), content

    def _reply(self, status: int, headers: Mapping[str, str], content: bytes) -> Reply:
        try:
            answer = json.loads(content) if content else None
        except (ValueError, RecursionError):
            answer = None
        if status < 300 and isinstance(answer, dict | list):
            return Reply(status, headers.get("ETag", ""), answer)
        if status == 304:
            return Reply(status, headers.get("ETag", ""), None)
        told = answer if isinstance(answer, dict) else {}
        # The gateway has words of its own for whom it does not let through.
        detail = str(told.get("detail") or told.get("message") or told.get("Message") or f"answered {status}")
        match status:
            case 422 if told.get("problems"):
                raise InvalidInput(
                    [Problem(str(one["path"]), str(one["message"]), str(one["hint"])) for one in told["problems"]]
                )
            case 401:
                raise Rejected(f"{self.url}: {detail}; RUNFOLD_TOKEN or --token-file says who you are")
            case 404 if told.get("type"):
                raise NotFound(detail)
            case 404:
                raise NotFound(f"{self.url}: there is no Runfold API here ({detail})")
            case _ if status in _AGAIN:
                raise StoreUnavailable(f"{self.url}: {detail}")
            case _ if 400 <= status < 500:
                raise Rejected(detail if told.get("type") else f"{self.url}: {detail}")
            case _ if status < 400:
                raise RunfoldError(f"{self.url} does not answer as a Runfold API does")
        raise RunfoldError(f"{self.url}: {detail}")


class _Whole:
    """A body that is read to its end, or is an error."""

    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self._response = response
        self._url = url

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise StoreUnavailable(f"the download from {self._url} broke off: {_words(error)}") from error
        if not data and self._response.length:
            raise StoreUnavailable(
                f"the download from {self._url} broke off, {self._response.length:,} bytes too early"
            )
        return data


def _connection(host: str, port: int | None, *, tls: bool) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    connection = kind(host, port, timeout=CONNECT_SECONDS)
    connection.connect()
    connection.sock.settimeout(ANSWER_SECONDS)
    return connection


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError | socket.gaierror):
        return "no answer in time" if isinstance(error, TimeoutError) else "its name is not known"
    return str(getattr(error, "strerror", None) or str(error) or type(error).__name__)


# --- what commands ask ------------------------------------------------------------------------------------------------------


def _at(path: str, name: str, rest: str = "") -> str:
    return f"/v1/{path}/{quote(name, safe='')}{rest}"


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


class Remote:
    """Used within `with`. An API's engine is taken to be up."""

    up = True

    def __init__(self, url: str, token: str | None) -> None:
        self._client = Client(url, token)
        self._known: dict[str, Reply] = {}

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    # --- workflows ----------------------------------------------------------------------------------------------------

    def workflows(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        rows, following = self._pages("/v1/workflows", "workflows", {}, cursor, limit)
        found = []
        for row in rows:
            last = self._client.get("/v1/runs", {"workflow": row["workflow"], "limit": 1})["runs"]
            found.append(
                {
                    **row,
                    "last_run": last[0]["run"] if last else None,
                    "last_status": last[0]["status"] if last else None,
                    "last_requested_at": last[0]["requested_at"] if last else None,
                }
            )
        return found, following

    def workflow(self, name: str) -> Object:
        answer: Object = self._client.get(_at("workflows", name))
        return answer

    def parameters_of(self, name: str) -> Mapping[str, Any] | None:
        live = self.workflow(name)["live_version"]
        if live is None:
            raise Rejected(f"{name} was unregistered; register it again to run it")
        schema: Mapping[str, Any] | None = self._client.get(_at("workflows", name, f"/versions/{live}"))["content"].get(
            "parameters"
        )
        return schema

    def compared(self, document: "Workflow", instants: int) -> Object:
        from shared.workflow.reading import canonical

        answer = self._client.ask("POST", "/v1/plan", {"instants": instants}, data=canonical(document)).object
        told = ("change", "live_version", "next_version", "paused", "differences", "instants", "odd_days")
        return {name: answer[name] for name in told}

    def register(self, documents: "Sequence[tuple[str, Workflow]]") -> list[Object]:
        from shared.workflow.reading import canonical

        return [self._client.ask("POST", "/v1/workflows", data=canonical(one)).object for _, one in documents]

    def register_calendar(self, source: str, calendar: "Calendar") -> Object:  # noqa: ARG002
        from shared.workflow.calendar import canonical_calendar

        answer: Object = self._client.ask("POST", "/v1/calendars", data=canonical_calendar(calendar)).object
        return answer

    def calendars(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        return self._pages("/v1/calendars", "calendars", {}, cursor, limit)

    def calendar(self, name: str) -> Object:
        answer: Object = self._client.get(_at("calendars", name))
        return answer

    def go_back(self, name: str, version: int) -> Object:
        answer: Object = self._client.post(_at("workflows", name, "/rollback"), {"version": version})
        return answer

    def unregister(self, name: str, *, reason: str) -> None:
        self._client.ask("DELETE", _at("workflows", name), body={"reason": reason})

    def pause(self, name: str, *, reason: str) -> None:
        self._client.post(_at("workflows", name, "/pause"), {"reason": reason})

    def resume(self, name: str) -> None:
        self._client.post(_at("workflows", name, "/resume"), {})

    def send_event(
        self, kind: Literal["bus", "queue"], *, id_: str, source: str, detail_type: str, detail: Any
    ) -> list[Object]:
        body = {"kind": kind, "id": id_, "source": source, "detail_type": detail_type, "detail": detail}
        taken: list[Object] = self._client.post("/v1/events", body).object["taken"]
        return taken

    # --- pools --------------------------------------------------------------------------------------------------------

    def pools(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        answer = self._client.get("/v1/pools", {"cursor": cursor, "limit": limit})
        return answer["pools"], answer["cursor"]

    def pool(self, name: str) -> Object:
        answer: Object = self._client.get(_at("pools", name))
        return answer

    def holders(self, name: str, *, after: int, limit: int) -> tuple[list[Object], int | None]:
        answer = self._client.get(_at("pools", name, "/holders"), {"after": after, "limit": limit})
        return answer["holders"], answer["after"]

    def line(self, name: str, *, after: int, limit: int) -> tuple[list[Object], int | None]:
        answer = self._client.get(_at("pools", name, "/line"), {"after": after, "limit": limit})
        return answer["line"], answer["after"]

    def set_pool(self, name: str, capacity: int) -> Object:
        answer: Object = self._client.ask("PUT", _at("pools", name), body={"capacity": capacity}).object
        return answer

    # --- runs ---------------------------------------------------------------------------------------------------------

    def find_run(self, text: str, *, existing: bool = True) -> str:
        from shared.usecases.queries import is_run

        whole = is_run(text)
        if whole:
            with contextlib.suppress(NotFound):
                return str(self._run(text)["run"])
        if is_name(text) and (latest := self._latest_run(text, existing=existing)) is not None:
            return latest
        found = self._ending_or_beginning(text)
        if whole and not existing and (scheduled_instant(RunId(text)) is not None or not found):
            return text
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(found[:_AMBIGUOUS_SHOWN]) + (", …" if len(found) > _AMBIGUOUS_SHOWN else "")
            raise InvalidInput([Problem("RUN", f"{shown(text)} could be {several}", "give more of the id")])
        if whole and scheduled_instant(RunId(text)) is not None:
            raise NotFound(f"there is no run {text} (yet): `runfold why {text}` tells more")
        raise NotFound(f"there is no run {shown(text)}; `runfold runs` lists them")

    def _latest_run(self, name: str, *, existing: bool) -> str | None:
        rows = self._client.get("/v1/runs", {"workflow": name, "limit": 1})["runs"]
        found = [(instant_of(row["requested_at"]), row["run"]) for row in rows]
        try:
            workflow = self.workflow(name)
        except NotFound:
            return max(found)[1] if found else None
        found += [(instant_of(one["since"]), one["run"]) for one in workflow["held_runs"]]
        if not found and workflow["active_runs"]:
            return str(workflow["active_runs"][-1])
        if found:
            return str(max(found)[1])
        if existing:
            raise NotFound(f"{name} has no runs: `runfold run {name}` asks for one")
        next_at = workflow["next_at"]
        return None if next_at is None else scheduled_run(WorkflowName(name), instant_of(next_at))

    def _ending_or_beginning(self, text: str) -> list[str]:
        """Newest first, and of the newest alone: an API does not look through all of history for a few letters."""
        if not text or not text.isascii() or not text.isprintable():
            return []
        name = text.partition("@")[0] if "@" in text else None
        rows, _ = self._pages("/v1/runs", "runs", {"workflow": name}, "", RUNS_SCANNED_MAX)
        runs = [str(row["run"]) for row in rows]
        beginning = [run for run in runs if run.startswith(text)]
        if beginning or len(text) < _SUFFIX_LENGTH_MIN:
            return beginning
        return [run for run in runs if run.endswith(text) or run.partition("@")[2].startswith(text)]

    def runs(self, where: "RunFilter", *, sort: "RunSort", cursor: str, limit: int) -> Runs:
        query = {
            "sort": sort,
            "workflow": where.workflow,
            "status": where.status,
            "owner": where.owner,
            "tag": where.tag,
            "attention": where.attention,
            "parent": where.parent,
            "since": _text(where.since),
            "until": _text(where.until),
        }
        rows: list[Object] = []
        following, scanned = cursor, 0
        while True:
            asked = min(limit - len(rows), PAGE_MAX)
            page = self._client.get("/v1/runs", {**query, "cursor": following, "limit": asked})
            rows += page["runs"]
            following = page["cursor"]
            scan = page.get("scan") or {"rows": 0, "stopped": False}
            scanned += scan["rows"] or 0
            if not following or len(rows) >= limit or scan["stopped"]:
                break
        held = list(self._held_rows(where)) if is_their_page(sort, cursor, following) else []
        rows = sorted([*held, *rows], key=lambda row: instant_of(row["requested_at"]), reverse=sort == "newest")
        return Runs(rows, frozenset(row["run"] for row in held), following, scanned if scan["stopped"] else None)

    def _held_rows(self, where: "RunFilter") -> Iterator[Object]:
        """Runs that their workflows hold back, which no list of runs has yet."""
        if where.status not in (None, "waiting") or where.attention is not None:
            return
        if where.workflow is not None:
            one = self.workflow(where.workflow)
            workflows = [{**one, "held_runs": [held["run"] for held in one["held_runs"]]}]
        else:
            workflows, _ = self._pages("/v1/workflows", "workflows", {}, "", WORKFLOWS_MAX)
        for workflow in workflows:
            if where.owner not in (None, workflow["owner"]) or (where.tag and where.tag not in workflow["tags"]):
                continue
            for name in workflow["held_runs"]:
                try:
                    run = self._run(name)
                except NotFound:
                    continue
                if where.parent is not None and (run["parent"] or {}).get("run") != where.parent:
                    continue
                at = instant_of(run["requested_at"])
                if run["version"] or (where.since and at < where.since) or (where.until and at >= where.until):
                    continue
                yield _row_of(run, workflow)

    def run(self, run: str, as_of: Moment | None = None) -> Object:
        if as_of is None:
            return self._run(run)
        answer: Object = self._client.get(_at("runs", run), {"as_of": as_of.version or _text(as_of.at)})
        return answer

    def _run(self, run: str) -> Object:
        """As it is now; what is known already is not sent again."""
        path = _at("runs", run)
        known = self._known.get(path)
        reply = self._client.ask("GET", path, etag=known.etag if known is not None else "")
        if reply.status == 304 and known is not None:
            reply = known
        self._known[path] = reply
        answer: Object = reply.object
        return answer

    def why(self, run: str, job: str | None, as_of: Moment | None) -> Object:
        query = {} if as_of is None else {"as_of": as_of.version or _text(as_of.at)}
        path = _at("runs", run, "/why")
        if job is not None and self._begun(run):
            path = _at("runs", run, f"/jobs/{quote(job, safe='')}/why")
        return {**self._client.get(path, query), "job": job, "engine_up": self.up if as_of is None else None}

    def _begun(self, run: str) -> bool:
        try:
            return bool(self._run(run)["version"])
        except NotFound:
            return False

    def commits(self, text: str, *, after: int) -> Iterator[Object]:
        kind, mark, name = text.partition("#")
        if mark and kind == "document":
            hint = "what became of an upload is told by the engine's own home or tables"
            raise InvalidInput([Problem("STREAM", "the API shows runs and workflows", hint)])
        if mark and kind in ("workflow", "backfill"):
            path = _at(f"{kind}s", name, "/events")
        else:
            path = _at("runs", name if mark and kind == "run" else self.find_run(text), "/events")
        return self._commits(path, after)

    def _commits(self, path: str, after: int) -> Iterator[Object]:
        while True:
            page = self._client.get(path, {"after": after, "limit": PAGE_MAX})
            yield from page["commits"]
            after = page["after"]
            if len(page["commits"]) < PAGE_MAX:
                return

    def request_run(
        self,
        workflow: str,
        values: Mapping[str, Any],
        *,
        key: str,
        start_after: datetime | None,
        files: Mapping[str, str],
        note: str,
    ) -> Object:
        from shared.bootstrap import new_id

        # With a key of our own, a request whose answer was lost is repeated without asking for a second run.
        used = key or new_id()
        body = {"workflow": workflow, "parameters": dict(values), "start_after": _text(start_after), "note": note}
        if files:
            body["files"] = self._put_files(workflow, files, used)
        answer = self._client.post("/v1/runs", body, key=used)
        return {**answer, "new": answer["new"] or not key}

    def _put_files(self, workflow: str, files: Mapping[str, str], key: str) -> dict[str, str]:
        """Put them where the API says. Names to digests."""
        problems: list[Problem] = []
        described = {name: _described(name, path, problems) for name, path in files.items()}
        if problems:
            raise InvalidInput(problems)
        asked = {"workflow": workflow, "files": described}
        for place in self._client.post("/v1/uploads", asked, key=key)["files"]:
            self._client.upload(place["url"], place["headers"], Path(files[place["name"]]))
        return {name: str(one["sha256"]) for name, one in described.items()}

    def cancel(self, run: str, *, job: str | None, reason: str) -> None:
        self._client.post(_at("runs", run, "/cancel"), {"job": job, "reason": reason})

    def rerun(
        self, run: str, *, jobs: Sequence[str], failed: bool, document: Pin, reason: str, key: str
    ) -> tuple[str, ...]:
        body = {"jobs": list(jobs), "failed": failed, "document": document, "reason": reason}
        return tuple(self._client.post(_at("runs", run, "/rerun"), body, key=key)["changes"])

    def decide(self, run: str, job: str, verdict: Verdict, *, reason: str) -> None:
        word = "approve" if verdict == "approved" else "reject"
        self._client.post(_at("runs", run, f"/{word}"), {"job": job, "reason": reason})

    def mark(self, run: str, job: str, outcome: Outcome, *, reason: str) -> None:
        self._client.post(_at("runs", run, "/mark"), {"job": job, "outcome": outcome, "reason": reason})

    def follow(
        self, run: str, terminal: "Terminal | None", *, timeout_seconds: float | None
    ) -> tuple[End, Object | None]:
        from cli.following import ObjectWatched, Progress

        watched: ObjectWatched | None = None
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with Progress(terminal, lambda: watched) as progress:
            try:
                for found in self._looks(run, deadline):
                    watched = ObjectWatched(found, watched)
                    progress.changed()
                    if watched.status in _RUN_ENDED:
                        return "ended", found
            except KeyboardInterrupt:
                return "interrupted", _object(watched)
        return "timeout", _object(watched)

    def _looks(self, run: str, deadline: float | None) -> Iterator[Object]:
        """The run each time that it has changed, until the deadline."""
        delay, answered = POLL_SECONDS[0], time.monotonic()
        seen: Object | None = None
        while True:
            found = seen
            try:
                found = self._run(run)
                answered = time.monotonic()
            except StoreUnavailable:
                # What runs goes on without us, so a short outage is waited for.
                if time.monotonic() - answered > OUTAGE_SECONDS_MAX:
                    raise
            if found is not None and found is not seen:
                delay, seen = POLL_SECONDS[0], found
                yield found
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            time.sleep(delay if left is None else min(delay, left))
            delay = min(delay * 1.3, POLL_SECONDS[1])

    # --- notices ------------------------------------------------------------------------------------------------------

    def alerts(
        self, workflow: str | None, since: datetime | None, *, cursor: str, limit: int
    ) -> tuple[list[Object], str]:
        query = {"workflow": workflow, "since": None if since is None else since.isoformat()}
        return self._pages("/v1/alerts", "alerts", query, cursor, limit)

    # --- backfills ----------------------------------------------------------------------------------------------------

    def request_backfill(self, body: Mapping[str, Any], *, key: str) -> Object:
        from shared.bootstrap import new_id

        answer: Object = self._client.post("/v1/backfills", body, key=key or new_id())
        return answer

    def rehearse_backfill(self, body: Mapping[str, Any]) -> Object:
        answer: Object = self._client.post("/v1/backfills", {**body, "dry_run": True})
        return answer

    def backfills(self, workflow: str | None, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        return self._pages("/v1/backfills", "backfills", {"workflow": workflow}, cursor, limit)

    def backfill(self, backfill: str) -> Object:
        answer: Object = self._client.get(_at("backfills", backfill))
        return answer

    def backfill_instants(self, backfill: str) -> list[Object]:
        found: list[Object] = []
        after = ""
        while True:
            page = self._client.get(_at("backfills", backfill, "/instants"), {"after": after, "limit": PAGE_MAX})
            found += page["instants"]
            after = page["after"]
            if not after:
                return found

    def change_backfill(self, backfill: str, act: str, *, reason: str) -> None:
        self._client.post(_at("backfills", backfill, f"/{act}"), {} if act == "resume" else {"reason": reason})

    # --- output and files ---------------------------------------------------------------------------------------------

    def attempts(self, run: str, job: str) -> Attempts:
        one = self._client.get(_at("runs", run, f"/jobs/{quote(job, safe='')}"))
        known = tuple(attempt["attempt"] for attempt in one["attempts"])
        return Attempts(known, known[:-1] if one["status"] in _OPEN else known, one["status"] in ENDED)

    def output(
        self, run: str, job: str, attempt: int, *, stream: Literal["out", "err"] | None, cursor: str, wait: bool
    ) -> Page:
        path = _at("runs", run, f"/jobs/{quote(job, safe='')}/attempts/{attempt}/logs")
        seconds = LOG_WAIT_SECONDS if wait else None
        page = self._client.get(path, {"stream": stream, "cursor": cursor, "wait": seconds})
        if page["absent"]:
            raise NotFound(page["absent"])
        return Page(tuple(page["lines"]), page["cursor"], page["complete"])

    def files(self, run: str, *, saved_only: bool) -> list[Object]:
        found = self._client.get(_at("runs", run, "/files"), {"saved": "true" if saved_only else "false"})["files"]
        return [
            {
                "path": one["path"],
                "job": one["job"],
                "attempt": one["attempt"],
                "saved": one["saved"],
                "address": f"{self._client.url}{one['href']}",
                "size": one["size"],
            }
            for one in found
        ]

    @contextmanager
    def open_file(self, file: Object) -> Iterator[IO[bytes]]:
        with self._client.download(str(file["address"]).removeprefix(self._client.url)) as opened:
            yield opened

    def _pages(
        self, path: str, name: str, query: Mapping[str, Any], cursor: str, limit: int
    ) -> tuple[list[Object], str]:
        """So many rows, or all that there are, and the cursor after them."""
        rows: list[Object] = []
        while True:
            asked = min(limit - len(rows), PAGE_MAX)
            page = self._client.get(path, {**query, "cursor": cursor, "limit": asked})
            rows += page[name]
            cursor = page["cursor"]
            if not cursor or len(rows) >= limit:
                return rows, cursor


def _described(name: str, path: str, problems: list[Problem]) -> Object:
    """Its size and digest, or a problem."""
    digest, size = hashlib.sha256(), 0
    try:
        if not Path(path).is_file():
            problems.append(Problem(f"--file {name}", f"there is no file {path}", "check the path"))
            return {}
        with Path(path).open("rb") as file:
            while piece := file.read(UPLOAD_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        problems.append(Problem(f"--file {name}", f"{path} cannot be read: {error.strerror}", "check it"))
    return {"size": size, "sha256": digest.hexdigest()}


def _object(watched: "ObjectWatched | None") -> Object | None:
    return None if watched is None else watched.object


def _row_of(run: Object, workflow: Object) -> Object:
    return {
        **{name: run[name] for name in ("run", "workflow", "status", "scheduled_at", "requested_at", "started_at")},
        **{name: run[name] for name in ("finished_at", "duration_seconds", "version", "trigger")},
        "owner": workflow["owner"],
        "tags": workflow["tags"],
        "jobs": tally_of(run),
        "attention": run["attention"],
        "parent": run["parent"]["run"] if run["parent"] is not None else None,
    }
