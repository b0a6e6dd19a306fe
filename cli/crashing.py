"""What is kept of a bug of ours: a file with all of it under the home's `crashes/`, and a line that says so.

What it promises: a home that cannot be written to loses no report, which then lies with the system's temporary files; and an
error that comes back, as every error of the engine's sweep does, fills no disk.
"""

import logging
import os
import sys
from pathlib import Path

from shared.secrecy import without_secrets

REPORTS_MAX = 20
"""Files that one process writes. Ours: who has read twenty has seen enough."""


def keep_report(home: Path, error: BaseException) -> str:
    """The file in which the error now lies; made below `home` if that is there."""
    # Most processes never need them.
    import tempfile
    import traceback
    from importlib.metadata import version

    folder = home / "crashes" if home.is_dir() else None
    text = f"runfold {version('runfold')}, Python {sys.version}\n\n{''.join(traceback.format_exception(error))}"
    try:
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)
        descriptor, name = tempfile.mkstemp(".txt", "runfold-", folder)
    except OSError:
        descriptor, name = tempfile.mkstemp(".txt", "runfold-")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        # It is made to be sent to others (I13).
        file.write(without_secrets(text))
    return name


class Reports:
    """Of what an engine logs: each bug is kept once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._kept: dict[str, str] = {}

    def line(self, record: logging.LogRecord) -> str:
        """The record in one line; of an error that nobody expected, its kind and where it is written."""
        message = without_secrets(record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return message
        same = f"{message}\n{type(error).__name__}: {error}"
        if same not in self._kept:
            if len(self._kept) == REPORTS_MAX:
                return f"{message}: a bug of Runfold ({type(error).__name__})"
            self._kept[same] = keep_report(self._home, error)
        return f"{message}: a bug of Runfold ({type(error).__name__}); what happened is written in {self._kept[same]}"
