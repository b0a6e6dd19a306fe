"""Documents dropped into `<home>/workflows/` are registered, as an upload to S3 is on AWS.

Each file's content is dealt with once, however often it is seen: its upload stream remembers the hash. A bad document changes nothing
and its problems are kept; removing a file unregisters nothing.
"""

import contextlib
import errno
import logging
import os
import stat
from pathlib import Path

from inotify_simple import INotify, flags

from local.metrics import Metrics
from shared.bootstrap import LocalParts
from shared.errors import Conflict, InvalidInput, RunfoldError, StoreUnavailable
from shared.ids import digest_of, document_stream
from shared.state.document import Upload
from shared.usecases.calendars import RegisteredCalendar

logger = logging.getLogger("runfold.inbox")

SUFFIXES = {".json", ".yaml", ".yml"}
ORDER_TRIES_MAX = 10
"""Of documents that came together and need each other."""
FILES_MAX = 10_000
"""Files looked at in the folder."""
BYTES_MAX = 64 * 1024 * 1024
"""Never read more than this of a file; reading refuses documents far smaller than that, with the reason."""

_WRITTEN = flags.CLOSE_WRITE | flags.MOVED_TO | flags.DELETE | flags.MOVED_FROM
_FOLDER_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED | flags.UNMOUNT


class Inbox:
    """Watches the folder; `fileno` becomes readable when something in it changed."""

    def __init__(self, folder: Path, parts: LocalParts, metrics: Metrics) -> None:
        self._folder = folder
        self._parts = parts
        self._metrics = metrics
        self._put_off: dict[str, None] = {}
        self._watch = INotify(nonblocking=True)
        self._watched: int | None = None
        self._begin_watching()

    def fileno(self) -> int:
        return int(self._watch.fileno())

    def close(self) -> None:
        self._watch.close()

    @property
    def put_off(self) -> bool:
        """Whether some file could not be dealt with for now; `again` tries it once more."""
        return bool(self._put_off)

    def scan(self) -> None:
        """Deal with every file as it is now."""
        self._folder.mkdir(exist_ok=True)
        paths = sorted(self._folder.iterdir())
        if len(paths) > FILES_MAX:
            logger.error("only the first %d files of %s are looked at", FILES_MAX, self._folder)
        self._deal_with_all(paths[:FILES_MAX])

    def read(self) -> None:
        """Deal with the files that changed."""
        events = self._watch.read(timeout=0)
        if any(event.mask & _FOLDER_GONE for event in events):
            # Somebody replaced the folder itself, which says nothing about what it holds now.
            self._begin_watching()
            self.scan()
        elif any(event.mask & flags.Q_OVERFLOW for event in events):
            self.scan()
        else:
            self._deal_with_all([self._folder / name for name in dict.fromkeys(event.name for event in events)])

    def again(self) -> None:
        """Deal with what was put off."""
        put_off, self._put_off = self._put_off, {}
        self._deal_with_all([self._folder / name for name in put_off])

    def _begin_watching(self) -> None:
        self._folder.mkdir(exist_ok=True)
        before = self._watched
        self._watched = self._watch.add_watch(str(self._folder), _WRITTEN | flags.DELETE_SELF | flags.MOVE_SELF)
        if before not in (None, self._watched):
            # A folder that was deleted is no longer watched anyway.
            with contextlib.suppress(OSError):
                self._watch.rm_watch(before)

    def _deal_with_all(self, paths: list[Path]) -> None:
        """What one of them lacks, a workflow that it waits for or a calendar, may be among the others: then it is tried once more."""
        refused: dict[Path, InvalidInput] = {}
        for _ in range(ORDER_TRIES_MAX):
            before = len(paths)
            refused = {}
            for path in paths:
                if (invalid := self._deal_with(path)) is not None:
                    refused[path] = invalid
            paths = list(refused)
            if not refused or len(refused) == before:
                break
        for path, invalid in refused.items():
            self._metrics.documents_rejected += 1
            logger.error("%s is not registered: %s", path.name, invalid)

    def _deal_with(self, path: Path) -> InvalidInput | None:
        """What is wrong with the document, if anything is."""
        if path.suffix not in SUFFIXES or path.name.startswith("."):
            return None
        if path.name != _told(path):
            # Its stream is named after it, and the name of a stream is text.
            logger.error("%s is not registered: its name is not UTF-8 (rename it)", _told(path))
            return None
        try:
            self._register(path)
        except InvalidInput as invalid:
            return invalid
        except (StoreUnavailable, Conflict) as error:
            self._put_off[path.name] = None
            logger.error("%s is not registered for now: %s", path.name, error)
        except RunfoldError as error:
            logger.error("%s is not registered: %s", path.name, error)
        except OSError as error:
            logger.error("%s cannot be read: %s", path.name, error.strerror)
        return None

    def _register(self, path: Path) -> None:
        control = self._parts.control
        known = self._parts.transact.current(document_stream(path.name)).state
        assert isinstance(known, Upload)
        try:
            data = _content(path)
        except FileNotFoundError:
            if known.at is not None and not known.removed:
                control.upload_removed(path.name, "removed", by="inbox")
            return
        upload = digest_of(data)
        # What was refused may be right by now: what it lacked may have come.
        if known.upload == upload and not known.removed and not known.problems:
            return
        registered = control.upload(path.name, upload, data, by="inbox")
        if registered.changed:
            self._metrics.documents_registered += 1
            name = registered.calendar if isinstance(registered, RegisteredCalendar) else registered.workflow
            logger.info("%s: %s version %d is live", path.name, name, registered.version)


def _told(path: Path) -> str:
    return os.fsencode(path.name).decode(errors="replace")


def _content(path: Path) -> bytes:
    # Opening a pipe would wait for its other end, and the engine with it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        return file.read(BYTES_MAX)
