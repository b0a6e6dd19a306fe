"""What the AWS adapters share: an answer of AWS that is an error becomes one of ours, and no AWS word leaves them."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StoreUnavailable


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Around one call: refusals, throttling, 5xx, timeouts and missing credentials become `StoreUnavailable`.

    `what` completes the sentence "cannot ...". After it, nobody knows whether a write was done.
    """
    try:
        yield
    except ClientError as error:
        reason = error.response.get("Error", {})
        raise StoreUnavailable(f"cannot {what}: {reason.get('Code')}: {reason.get('Message')}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"cannot {what}: {error}") from error


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
