"""S3 uploads under `workflows/`: each becomes a registered workflow, or a list of everything that is wrong with it.

EventBridge delivers each upload at least once, in any order; the object is read as it is now, so what is registered is what lies there,
and the upload's own stream remembers what became of each content.
"""

from typing import Any, Protocol

from functions.telemetry import Handler, doorway, logger_of, metrics_of
from shared.errors import InvalidInput, Rejected
from shared.usecases.calendars import RegisteredCalendar

logger = logger_of("register")
metrics = metrics_of("register")

SUFFIXES = (".json", ".yaml", ".yml")


class Uploads(Protocol):
    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and what identifies this very content (its version id or ETag); None if it is gone."""
        ...


class Registry(Protocol):
    def upload(self, key: str, upload: str, data: bytes, *, by: str) -> Any: ...
    def upload_removed(self, key: str, upload: str, *, by: str) -> None: ...


LOOKS_MAX = 10
"""At one object in one invocation. Whoever overwrites it more often meanwhile is told of by an event of his own."""


def make_handler(uploads: Uploads, registry: Registry) -> Handler:
    def handle(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        # Not encoded, unlike the keys in S3's own notifications.
        key = str(event["detail"]["object"]["key"])
        by = f"s3:{event['detail'].get('requester', 'unknown')}"
        if not key.endswith(SUFFIXES):
            return {"ignored": key}
        with logger.append_context_keys(key=key):
            found = uploads.read(key)
            answer = _take(key, found, str(event.get("id", "removed")), by)
            for _ in range(LOOKS_MAX):
                # Of two uploads in one second, the older may have been read first and registered last: whoever registered last
                # sees what lies there now.
                before, found = found, uploads.read(key)
                if _identity(found) == _identity(before):
                    break
                answer = _take(key, found, str(event.get("id", "removed")), by)
            return answer

    def _take(key: str, found: tuple[bytes, str] | None, event: str, by: str) -> dict[str, Any]:
        if found is None:
            registry.upload_removed(key, event, by=by)
            return {"removed": key}
        data, upload = found
        try:
            registered = registry.upload(key, upload, data, by=by)
        except InvalidInput as invalid:
            # Not a failure of ours: the problems are kept with the upload, and the last good version stays live.
            metrics.add_metric("DocumentsRejected", "Count", 1)
            logger.warning("rejected", extra={"problems": [str(problem) for problem in invalid.problems[:20]]})
            return {"rejected": key, "problems": len(invalid.problems)}
        except Rejected as reason:
            logger.warning("refused: %s", reason)
            return {"rejected": key, "problems": 1}
        metrics.add_metric("DocumentsRegistered", "Count", 1)
        if isinstance(registered, RegisteredCalendar):
            return {"registered": registered.calendar, "version": registered.version}
        return {"registered": registered.workflow, "version": registered.version}

    return doorway(logger, metrics, handle)


def _identity(found: tuple[bytes, str] | None) -> str | None:
    return None if found is None else found[1]
