"""Picks adapters and puts the use cases together: the only place that makes clients and opens files.

`aws` holds the deployed engine's parts and `local` one machine's. Each is imported only by whoever uses it: a function on AWS must not pay for
SQLite, nor the command for boto3.
"""

from typing import TYPE_CHECKING, Any

from shared.bootstrap.origins import new_id, new_ulid, utc_now

if TYPE_CHECKING:
    from shared.bootstrap.local import LOCAL_KEPT_MAX, LocalParts, local_parts

__all__ = ["LOCAL_KEPT_MAX", "LocalParts", "local_parts", "new_id", "new_ulid", "utc_now"]


def __getattr__(name: str) -> Any:
    if name in {"LOCAL_KEPT_MAX", "LocalParts", "local_parts"}:
        from shared.bootstrap import local

        return getattr(local, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
