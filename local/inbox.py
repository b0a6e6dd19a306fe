"""Documents dropped into `<home>/workflows/` are registered, as an upload to S3 is on AWS.

Each file's content is dealt with once, however often it is seen: its upload stream remembers the hash. A bad document changes nothing
and its problems are kept; removing a file unregisters nothing.
"""

import logging
from pathlib import Path

from inotify_simple import INotify, flags

from shared.bootstrap import LocalParts
from shared.errors import InvalidInput, RunfoldError
from shared.ids import digest_of, document_stream
from shared.state.document import Upload

logger = logging.getLogger("runfold.inbox")

SUFFIXES = {".json", ".yaml", ".yml"}
FILES_MAX = 10_000
"""Files looked at in the folder."""
BYTES_MAX = 64 * 1024 * 1024
"""Never read more than this of a file; reading refuses documents far smaller than that, with the reason."""

_WRITTEN = flags.CLOSE_WRITE | flags.MOVED_TO | flags.DELETE | flags.MOVED_FROM


class Inbox:
    """Watches the folder; `fileno` becomes readable when something in it changed."""

    def __init__(self, folder: Path, parts: LocalParts) -> None:
        self._folder = folder
        self._parts = parts
        self._watch = INotify(nonblocking=True)
        self._watch.add_watch(str(folder), _WRITTEN)

    def fileno(self) -> int:
        return int(self._watch.fileno())

    def close(self) -> None:
        self._watch.close()

    def scan(self) -> None:
        """Deal with every file as it is now."""
        for number, path in enumerate(sorted(self._folder.iterdir())):
            if number >= FILES_MAX:
                logger.error("only the first %d files of %s are looked at", FILES_MAX, self._folder)
                return
            self._deal_with(path)

    def read(self) -> None:
        """Deal with the files that changed."""
        for name in dict.fromkeys(event.name for event in self._watch.read(timeout=0)):
            self._deal_with(self._folder / name)

    def _deal_with(self, path: Path) -> None:
        if path.suffix not in SUFFIXES or path.name.startswith("."):
            return
        try:
            self._register(path)
        except InvalidInput as invalid:
            logger.error("%s is not registered: %s", path.name, invalid)
        except RunfoldError as error:
            logger.error("%s is not registered for now: %s", path.name, error)
        except OSError as error:
            logger.error("%s cannot be read: %s", path.name, error.strerror)

    def _register(self, path: Path) -> None:
        control = self._parts.control
        known = self._parts.transact.current(document_stream(path.name)).state
        assert isinstance(known, Upload)
        try:
            with path.open("rb") as file:
                data = file.read(BYTES_MAX)
        except FileNotFoundError:
            if known.at is not None:
                control.upload_removed(path.name, "removed", by="inbox")
            return
        upload = digest_of(data)
        if known.upload == upload and not known.removed:
            return
        registered = control.upload(path.name, upload, data, by="inbox")
        if registered.changed:
            logger.info("%s: %s version %d is live", path.name, registered.workflow, registered.version)
