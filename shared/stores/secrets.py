"""Secrets by reference, from Secrets Manager or Parameter Store. They are kept in memory for some minutes, and nowhere else."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from shared.errors import NotFound, StoreUnavailable
from shared.stores.aws import code_of

KEPT = timedelta(minutes=5)
"""A secret that was changed is believed for so long."""
KEPT_MAX = 100
_LATER = frozenset({"ThrottlingException", "InternalServiceError", "InternalServerError", "RequestLimitExceeded"})


class AwsSecrets:
    def __init__(self, client: Callable[[str], Any], *, now: Callable[[], datetime]) -> None:
        """`client` makes one by the service's name, when a secret is first asked of it."""
        self._client = client
        self._now = now
        self._clients: dict[str, Any] = {}
        self._kept: dict[str, tuple[datetime, bytes]] = {}

    def __call__(self, reference: str) -> bytes:
        """`NotFound` if it is not there, or may not be read; `StoreUnavailable` if it cannot be read for now."""
        now = self._now()
        kept = self._kept.get(reference)
        if kept is not None and kept[0] <= now < kept[0] + KEPT:
            return kept[1]
        service = reference.split(":")[2] if reference.startswith("arn:") else ""
        try:
            secret = self._read(service, reference)
        except ClientError as error:
            if code_of(error) in _LATER:
                raise StoreUnavailable(f"{service} does not answer for now: {code_of(error)}") from None
            raise NotFound(f"a secret cannot be read: {code_of(error)}") from None
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[reference] = (now, secret)
        return secret

    def _read(self, service: str, reference: str) -> bytes:
        match service:
            case "secretsmanager":
                answer = self._of(service).get_secret_value(SecretId=reference)
                return answer["SecretBinary"] if "SecretBinary" in answer else str(answer["SecretString"]).encode()
            case "ssm":
                answer = self._of(service).get_parameter(Name=reference, WithDecryption=True)
                return str(answer["Parameter"]["Value"]).encode()
            case _:
                raise NotFound("a reference of one machine means nothing here")

    def _of(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._client(service)
        return self._clients[service]
