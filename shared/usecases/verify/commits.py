"""What holds for the commits of any stream: dense and chained (I9), each with a cause (I11), and without secrets (I13)."""

import re
from collections.abc import Iterator
from datetime import datetime

from shared.codec import hash_of
from shared.ids import StreamName
from shared.ports import FIRST_HASH, Record
from shared.secrecy import secrets_in
from shared.usecases.verify.violation import Found

_CAUSE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}(?::.+)?", re.DOTALL)
"""A kind, and behind a colon what exactly: `report`, `start:load:1`, `upload:…`."""


class CommitChecker:
    """Follows the commits of one stream."""

    def __init__(self, stream: StreamName, causes: frozenset[str] | None) -> None:
        self._stream = stream
        self._causes = causes
        self._version = 0
        self._hash = FIRST_HASH
        self._at: datetime | None = None

    def check(self, record: Record) -> Iterator[Found]:
        yield from self._chain(record)
        yield from self._cause(record)
        for what in secrets_in(record.body):
            yield (
                "I13",
                f"what looks like {what} is stored in an event; replace it where it is in use, and keep it out of documents",
            )

    def _chain(self, record: Record) -> Iterator[Found]:
        if record.stream != self._stream:
            yield "I9", f"a commit of {record.stream} stands among those of {self._stream}"
        if record.version != self._version + 1:
            yield "I9", f"version {record.version} follows version {self._version}"
        elif record.previous_hash != self._hash:
            yield "I9", "it does not name the hash of the commit before it"
        right = hash_of(
            record.stream,
            record.version,
            record.commit_id,
            record.at,
            record.by,
            record.cause,
            record.previous_hash,
            record.body,
        )
        if right != record.hash:
            yield "I9", "it was altered: its hash is not that of its content"
        if self._at is not None and record.at < self._at:
            yield "I9", f"it is dated {record.at.isoformat()}, before the commit that it follows"
        self._version, self._hash, self._at = record.version, record.hash, record.at

    def _cause(self, record: Record) -> Iterator[Found]:
        if not record.cause:
            yield "I11", "it names no cause"
        elif _CAUSE.fullmatch(record.cause) is None:
            yield "I11", f"its cause {record.cause[:80]!r} is not a kind, nor a kind and a name"
        elif self._causes is not None and kind_of_cause(record.cause) not in self._causes:
            yield "I11", f"causes of kind {kind_of_cause(record.cause)!r} are not known"


def kind_of_cause(cause: str) -> str:
    return cause.partition(":")[0]
