"""Where time and ids come from: the one clock and the one source of randomness, which doorways pass on as arguments."""

import uuid
from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """Unique for ever, in any process."""
    return uuid.uuid4().hex


def new_ulid() -> str:
    """Unique, and sorted by time: for ids that people see in lists."""
    # Imported here because a Lambda that makes no run ids should not pay for it.
    from ulid import ULID

    return str(ULID())
