"""Logs, metrics and traces, the same in every function: structured, with the run and job they are about, and never a value of a
parameter, an environment or a secret.
"""

import gc
import json
import os
from collections.abc import Callable
from traceback import format_exception
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics
from aws_lambda_powertools.tracing import Tracer

from shared.secrecy import secrets_in, without_secrets

# Stages side by side in one account must not answer for each other: a silent scheduler would go unnoticed.
NAMESPACE = f"Runfold/{os.environ.get('RUNFOLD_STAGE', 'local')}"

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]
"""What Lambda calls, with the event and its context."""


def logger_of(function: str) -> Logger:
    return Logger(
        service=f"runfold-{function}", level=os.environ.get("RUNFOLD_LOG_LEVEL", "INFO"), json_serializer=_discreet
    )


def _discreet(line: dict[str, Any]) -> str:
    """The line as text; an exception of others may quote whatever they were given (I13)."""
    return without_secrets(json.dumps(line, default=str, separators=(",", ":"), ensure_ascii=False))


def metrics_of(function: str) -> Metrics:
    return Metrics(namespace=NAMESPACE, service=f"runfold-{function}")


def tracer_of(function: str) -> Tracer:
    # Patching boto3 needs the X-Ray SDK and costs a cold start; Lambda's own segments show where the time goes.
    return Tracer(service=f"runfold-{function}", auto_patch=False)


def doorway(logger: Logger, metrics: Metrics, handle: Handler) -> Handler:
    """The handler with the invocation's id in every log line, and its metrics written when it ends, however it ends."""

    def measured(event: dict[str, Any], context: Any) -> dict[str, Any]:
        try:
            return handle(event, context)
        except Exception as error:
            # Lambda prints what escapes, past our logger (I13).
            if not secrets_in("".join(format_exception(error))):
                raise
            logger.exception("failed, and what it says is withheld in part")
            raise RuntimeError(f"{type(error).__name__}: {without_secrets(str(error))}") from None
        finally:
            # Powertools warns about an invocation without metrics; for most of ours that is the usual case.
            if metrics.metric_set:
                metrics.flush_metrics()

    if not gc.isenabled():
        # On Lambda, see `functions/__init__.py`: from here on garbage is looked for, but never among what was imported.
        gc.freeze()
        gc.enable()
    wrapped: Handler = logger.inject_lambda_context(measured)
    return wrapped
