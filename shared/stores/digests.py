"""Names of documents that come from outside: nothing else than a digest becomes part of a path or key."""

import re

from shared.errors import NotFound
from shared.ids import Digest

_DIGEST = re.compile(r"[0-9a-f]{64}")


def checked(digest: Digest) -> Digest:
    """The digest itself, or `NotFound` for what cannot be one: no document has such a name."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound("that is not the name of a document: 64 hexadecimal digits")
    return digest
