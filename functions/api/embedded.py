"""The API of the embedded engine: the same handler, over the files of a home, behind a real HTTP server in a thread.

What it promises: it listens within milliseconds and costs nothing until the first request, which imports the handler and opens the home: one
connection that only reads, one for what callers ask for. Bound to this machine it is open, to its user; bound elsewhere it demands the
token in `<home>/token`.
"""

import contextlib
import getpass
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from local.home import Home, wake
from local.http import PORT_DEFAULT, HttpServer, is_loopback, serve, token_of
from local.metrics import CONTENT_TYPE as METRICS_TYPE
from local.settings import read_settings
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.errors import NotFound, RunfoldError
from shared.executors.process import ProcessExecutor
from shared.executors.process.plan import secret_of
from shared.ids import Digest, RunId
from shared.ports import LogLine, LogPage, LogSource, Place, StoredFile
from shared.stores.digests import checked
from shared.usecases.queries import Queries
from shared.usecases.triggers import Triggers
from shared.views.derive import derive

if TYPE_CHECKING:
    from functions.api.handler import Handler

STREAMS_MAX = 1_000
"""Streams whose rows are made anew right after one act; an engine does it for all that moved."""


METRICS_PATH = "/metrics"
FORGOTTEN_SECONDS = 24 * 3600
"""After which a file goes whose run nobody asked for."""


@dataclass(frozen=True, slots=True)
class Serving:
    url: str
    token: str | None
    """What callers must send as `Authorization: Bearer …`; None when it is open."""
    server: HttpServer


@contextmanager
def serve_home(
    home: Home,
    *,
    host: str = "127.0.0.1",
    port: int = PORT_DEFAULT,
    origins: tuple[str, ...] = (),
    demand_token: bool = False,
    user: str | None = None,
    wait_seconds_max: float | None = None,
    metrics: Callable[[], str] | None = None,
) -> Iterator[Serving]:
    """Serve the home's API while the block runs. Port 0 takes a free one.

    `metrics`: makes the page at `/metrics`; without it there is none. `wait_seconds_max`: how long calls may wait for news, if less than elsewhere. `origins`: of web pages that may call. `demand_token`: also when only this machine can reach it. `Rejected` when the address
    cannot be had, or the token's file is not fit.
    """
    token = token_of(home) if demand_token or not is_loopback(host) else None
    handler = _AtFirstRequest(home, user or _user(), token, origins, wait_seconds_max, metrics)
    try:
        with serve(handler, host=host, port=port, guarded=token is None, origins=origins) as server:
            try:
                yield Serving(server.url, token, server)
            finally:
                handler.closing.set()
    finally:
        handler.close()


class _AtFirstRequest:
    """Makes the real handler when somebody calls: an engine that nobody asks anything stays small."""

    def __init__(
        self,
        home: Home,
        user: str,
        token: str | None,
        origins: tuple[str, ...],
        wait_seconds_max: float | None,
        metrics: Callable[[], str] | None,
    ) -> None:
        self._metrics = metrics
        self.closing = threading.Event()
        self._wait_seconds_max = wait_seconds_max
        self._home = home
        self._user = user
        self._token = token
        self._origins = origins
        self._lock = threading.Lock()
        self._handler: Handler | None = None
        self._files: HomeFiles | None = None

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        # Here, so that whoever only looks at the figures every few seconds does not make a small engine large.
        if self._metrics is not None and event["rawPath"] == METRICS_PATH:
            return _metrics_page(self._metrics, self._token, event)
        handler = self._handler
        if handler is None:
            with self._lock:
                handler = self._handler = self._handler or self._make()
        return handler(event, context)

    def close(self) -> None:
        if self._files is not None:
            self._files.close()

    def _make(self) -> "Handler":
        from functions.api.handler import make_handler
        from functions.api.principals import local_principal
        from functions.api.service import WAIT_SECONDS_MAX, ApiService

        files = self._files = HomeFiles(self._home)
        return make_handler(
            ApiService(
                queries=files.queries(),
                control=files.written.control,
                authenticate=local_principal(self._user, self._token),
                now=utc_now,
                acting=files.acting,
                release=release(),
                given_files=lambda: HomeGivenFiles(self._home),
                triggers=lambda: Triggers(files.written.transact, files.written.views),
                read_secret=_secrets_of(self._home),
                cors_origins=self._origins,
                wait_seconds_max=WAIT_SECONDS_MAX if self._wait_seconds_max is None else self._wait_seconds_max,
                pause=self.closing.wait,
            )
        )


def _secrets_of(home: Home) -> Callable[[str], bytes]:
    """Reads secrets as jobs of this home get them, by its settings as they are when one is first asked for."""
    variables: list[Mapping[str, str]] = []

    def read(reference: str) -> bytes:
        if not variables:
            variables.append(read_settings(home.settings).secrets)
        return secret_of("of a webhook", reference, os.environ, variables[0]).encode()

    return read


def _metrics_page(page: Callable[[], str], token: str | None, event: dict[str, Any]) -> dict[str, Any]:
    from functions.api.principals import local_principal
    from functions.api.problems import Unauthenticated

    headers = {"Content-Type": METRICS_TYPE, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if event["requestContext"]["http"]["method"] not in ("GET", "HEAD"):
        return {"statusCode": 405, "headers": {"Allow": "GET, HEAD"}, "body": "", "isBase64Encoded": False}
    try:
        local_principal("metrics", token)(event)
    except Unauthenticated as error:
        headers |= {"Content-Type": "text/plain", "WWW-Authenticate": 'Bearer realm="runfold"'}
        return {"statusCode": 401, "headers": headers, "body": f"{error}\n", "isBase64Encoded": False}
    return {"statusCode": 200, "headers": headers, "body": page(), "isBase64Encoded": False}


class HomeFiles:
    """A home opened twice: to be read, and to be written for whoever asks."""

    def __init__(self, home: Home) -> None:
        self._home = home
        # First the one that makes or migrates the file, which the other only reads.
        self.written: LocalParts = local_parts(home.database, home.documents, _Nowhere())
        self.read: LocalParts = local_parts(home.database, home.documents, _Nowhere(), read_only=True)

    def close(self) -> None:
        self.read.close()
        self.written.close()

    def queries(self) -> Queries:
        return Queries(
            loader=self.read.loader,
            events=self.read.store,
            views=self.read.views,
            logs=HomeLogs(self._home),
            artifacts=HomeArtifacts(self._home),
            now=utc_now,
        )

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Around an act: afterwards the lists show it, and the engine knows. States are not kept: others write as well."""
        parts = self.written
        before = parts.store.position()
        try:
            yield
        finally:
            # What was asked is stored; all this only brings forward what an engine does anyway.
            with contextlib.suppress(RunfoldError):
                self._follow_up(before)
            # Also after an act that moved nothing: what is refused a thousand times has read a thousand runs.
            parts.transact.forget()

    def _follow_up(self, before: int) -> None:
        parts = self.written
        moved = parts.store.moved_since(before, STREAMS_MAX)
        if not moved:
            return
        wake(self._home)
        with parts.database.batch():
            for stream in dict.fromkeys(stream for _, stream in moved):
                loaded = parts.transact.current(stream)
                derive(parts.views, loaded.state, loaded.version, parts.plans)


class HomeLogs:
    """Output as the local executor keeps it."""

    def __init__(self, home: Home) -> None:
        self._executor = ProcessExecutor(home.path, environment={}, now=utc_now)

    def page(self, source: LogSource, *, stream: Literal["out", "err"] | None, cursor: str, bytes_max: int) -> LogPage:
        page = self._executor.read_log(
            source.run, source.job, source.attempt, stream=stream, after_cursor=cursor, limit_bytes=bytes_max
        )
        lines = tuple(LogLine(line.at, line.stream, line.text, line.host) for line in page.lines)
        return LogPage(lines, page.cursor, page.complete)


class HomeArtifacts:
    """Kept files below the home, each in its run's own directory."""

    def __init__(self, home: Home) -> None:
        self._root = os.path.realpath(home.path)

    def size(self, run: RunId, address: str) -> int | None:
        try:
            return self._path(run, address).stat().st_size
        except (NotFound, OSError):
            return None

    def fetch(self, run: RunId, address: str) -> StoredFile:
        return StoredFile(path=self._path(run, address))

    def _path(self, run: RunId, address: str) -> Path:
        """Addresses come from events, which what runs on targets can influence: nothing outside of the run is given out."""
        folder = os.path.join(self._root, "runs", run, "_files")  # noqa: PTH118  (strings, as realpath gives them)
        if "\0" not in address:
            path = os.path.realpath(os.path.join(self._root, address))  # noqa: PTH118
            if path.startswith(f"{folder}{os.sep}") and os.path.isfile(path):  # noqa: PTH113
                return Path(path)
        raise NotFound("the file is gone: it was removed since, or the run was pruned")


class HomeGivenFiles:
    """Files that runs are given, below a home: in `uploads/` until the run is asked for, then linked into the run's own directory.

    Those whose run nobody asked for are removed when others come a day later.
    """

    def __init__(self, home: Home) -> None:
        self._root = home.path

    def place(self, run: RunId, digest: Digest, size: int) -> Place:
        self._remove_forgotten()
        return Place(f"/v1/uploads/{quote(run, safe='')}/{digest}", {"Content-Length": str(size)})

    def receiver(self, run: RunId, digest: Digest) -> Path:
        return self._root / "uploads" / run / checked(digest)

    @contextmanager
    def kept(self, run: RunId, digests: Iterable[Digest]) -> Iterator[Mapping[Digest, str]]:
        addresses: dict[Digest, str] = {}
        made: list[Path] = []
        try:
            for digest in digests:
                address = f"runs/{run}/_uploads/{checked(digest)}"
                target = self._root / address
                if not target.exists():
                    source = self.receiver(run, digest)
                    if not source.is_file():
                        continue
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.hardlink_to(source)
                    made.append(target)
                addresses[digest] = address
            yield addresses
        except BaseException:
            for target in made:
                target.unlink(missing_ok=True)
            # Only what is empty goes: a run that exists keeps its directory.
            with contextlib.suppress(OSError):
                for directory in (f"runs/{run}/_uploads", f"runs/{run}"):
                    (self._root / directory).rmdir()
            raise
        shutil.rmtree(self._root / "uploads" / run, ignore_errors=True)

    def _remove_forgotten(self) -> None:
        long_ago = time.time() - FORGOTTEN_SECONDS
        with contextlib.suppress(OSError):
            for directory in (self._root / "uploads").iterdir():
                if directory.stat().st_mtime < long_ago:
                    shutil.rmtree(directory, ignore_errors=True)


class _Nowhere:
    """The engine hands over what follows from a commit when it is woken."""

    def send(self, effects: Iterable[Any], *, delay_seconds: float = 0) -> None:
        pass


def release() -> str:
    try:
        return version("runfold")
    except PackageNotFoundError:
        return "unknown"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
