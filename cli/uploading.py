"""Files that are given to a run of a home: copied into the run's own directory before the run is there."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cli.writing import Writing
from shared.bootstrap import new_ulid
from shared.errors import InvalidInput, Problem
from shared.ids import WorkflowName, fresh_run, keyed_run
from shared.usecases.control import Control

COPY_BYTES = 1 << 20


class Uploads:
    """Copies of the files that a run is given, under the run's own directory, there before the run is; gone if it is not made.

    The run's id is settled first, because the directory bears it: `control` makes no other. A copy lies in a directory of its own,
    so that asking again under the same key never touches what a run already uses.
    """

    def __init__(
        self, writing: Writing, wanted: set[str], workflow: WorkflowName, key: str, given: Mapping[str, str]
    ) -> None:
        ulid = new_ulid()
        run = keyed_run(workflow, key) if key else fresh_run(workflow, ulid)
        self.needed = False
        self.control = Control(writing.parts.transact, writing.parts.documents, new_id=lambda: ulid)
        self._given = given
        self._known = {name for name in given if name in wanted}
        self._under = f"runs/{run}/_uploads/{ulid.lower()}"
        self._directory: Path = writing.home.path / self._under
        # A name that no job takes is refused with the request; its file is not even looked at.
        self.addresses = {
            name: f"{self._under}/{number}" if name in self._known else "" for number, name in enumerate(given)
        }
        self._root = writing.home.path

    def __enter__(self) -> "Uploads":
        problems: list[Problem] = []
        try:
            for name in sorted(self._known):
                self._copy(name, problems)
            if problems:
                raise InvalidInput(problems)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.needed:
            self._remove()

    def _copy(self, name: str, problems: list[Problem]) -> None:
        source = Path(self._given[name])
        try:
            if not source.is_file():
                problems.append(Problem(f"--file {name}", f"there is no file {source}", "check the path"))
                return
            self._directory.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as reading, (self._root / self.addresses[name]).open("xb") as writing:
                shutil.copyfileobj(reading, writing, COPY_BYTES)
                writing.flush()
                # The run that names it is durable, so the file must be.
                os.fsync(writing.fileno())
        except OSError as error:
            problems.append(Problem(f"--file {name}", f"{source} cannot be copied: {error.strerror}", "check it"))

    def _remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        # Only what is empty goes: a run that exists keeps its directory.
        for directory in (self._directory.parent, self._directory.parent.parent):
            with contextlib.suppress(OSError):
                directory.rmdir()
