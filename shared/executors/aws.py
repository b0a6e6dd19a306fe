"""What the executors on AWS share: how an answer that is an error becomes one of ours, and how clients for them must be made.

The question behind every error is whether the work may have been taken. What AWS answered with a refusal, and what never left this
machine, was surely not; silence and 5xx prove nothing.
"""

from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
)

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable

AwsError = (ClientError, BotoCoreError)

CONNECT_SECONDS = 5
ANSWER_SECONDS = 25
"""Together half of what dispatch gives a claimer to send in (60 s)."""
SAFE_TRIES = 3
"""Of calls that may be sent twice; whatever fails after that is tried again by the sweep."""

_THROTTLES = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    }
)
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "RequestExpired",
        "UnrecognizedClientException",
    }
)
_SERVER = frozenset({"InternalFailure", "InternalServerError", "InternalServerException", "ServerException"})
_NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, ProxyConnectionError)

Failure = TargetUnavailable | TargetRefused | TargetSilent


def client_config(*, sent_twice_is_harmless: bool) -> Config:
    """How the clients of executors are made. Without a token a retry inside the SDK could start work twice, unseen."""
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"total_max_attempts": SAFE_TRIES if sent_twice_is_harmless else 1, "mode": "standard"},
    )


def tries_once(client: Any) -> bool:
    """Whether the SDK sends each request of this client once."""
    return bool((client.meta.config.retries or {}).get("total_max_attempts") == 1)


def code_of(error: Exception) -> str:
    """AWS's word for the error; empty when AWS did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def message_of(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) if isinstance(error, ClientError) else str(error)


def failure_of(error: Exception, what: str, *, once: bool = True) -> Failure:
    """Ours for theirs. `what` completes "cannot ..."; `once` is False when the SDK may have sent before, and been heard."""
    reason = f"cannot {what}: " + " ".join(filter(None, (code_of(error), message_of(error))))
    if isinstance(error, ClientError):
        code = code_of(error)
        facts = error.response.get("ResponseMetadata", {})
        if not once and facts.get("RetryAttempts"):
            return TargetSilent(reason)
        if code in _THROTTLES or code in _CREDENTIALS or "rate exceeded" in message_of(error).lower():
            return TargetUnavailable(reason)
        if code in _SERVER or int(facts.get("HTTPStatusCode", 500)) >= 500:
            return TargetSilent(reason)
        return TargetRefused(reason)
    if isinstance(error, ParamValidationError):
        return TargetRefused(reason)
    if once and isinstance(error, _NEVER_SENT):
        return TargetUnavailable(reason)
    return TargetSilent(reason)
