"""Files that runs wait for, on this machine."""

import os
import stat
from datetime import UTC, datetime

from shared.errors import TargetRefused, TargetUnavailable


class LocalFiles:
    """Absolute paths. A directory is no file; a symbolic link is what it leads to."""

    prefix = "/"

    def find(self, address: str) -> str | None:
        if not address.startswith(self.prefix):
            raise TargetRefused(f"this machine looks for absolute paths, and {address} is none")
        try:
            found = os.stat(address)  # noqa: PTH116  (a path that is none raises here)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise TargetRefused(f"{address!r} is not a path: {error}") from error
        except OSError as error:
            raise TargetUnavailable(f"{address} cannot be looked at: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            return None
        at = datetime.fromtimestamp(found.st_mtime, UTC)
        return f"{found.st_size:,} bytes, changed {at:%Y-%m-%dT%H:%M:%SZ}"
