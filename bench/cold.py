"""`python -m bench.cold`: how long each function's entry takes to import, beside the libraries it cannot do without.

A cold start pays for imports. The floor of a function is a fresh process that imports Python's boto3 (with the clients that the function makes
at once or at its first record), pydantic with one model, and the parts of Powertools that the function uses; ours is a fresh process that
imports its entry. Both take turns, and the median of the rounds is shown. Nothing is asserted.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared.settings import Settings

ROUNDS = 7
REACH = 1.3

_TELEMETRY = (
    "from aws_lambda_powertools import Logger; from aws_lambda_powertools.metrics import Metrics; "
    "from aws_lambda_powertools.tracing import Tracer; Logger(service='x'); Metrics(namespace='x', service='x')"
)
_PYDANTIC = "from pydantic import BaseModel, TypeAdapter\nclass M(BaseModel):\n    a: int = 0\n"
_BATCH = "from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType"
_SQS = "from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord"
_STREAM = "from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord"
_RESOLVER = "from aws_lambda_powertools.event_handler import APIGatewayHttpResolver"

FLOORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "register": (("s3", "dynamodb", "sqs"), ()),
    "scheduler": (("dynamodb", "sqs"), ()),
    "relay": (("dynamodb",), (_BATCH, _STREAM)),
    "dispatch": (("dynamodb", "sqs"), (_BATCH, _SQS)),
    "status": (("dynamodb", "sqs"), (_BATCH, _SQS)),
    "api": (("dynamodb", "sqs"), (_RESOLVER,)),
}
"""By function: the clients that its entry makes, and the parts of Powertools it uses beside telemetry."""

SETTINGS = Settings(
    stage="bench",
    events_table="events",
    views_table="views",
    documents_bucket="documents",
    artifacts_bucket="artifacts",
    effects_queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/effects",
    schedule_group="runfold",
)

_TIMED = "import time as _t; _b = _t.perf_counter()\n{}\nprint(_t.perf_counter() - _b)"
_LOADED = "import sys; print('\\n'.join(sorted(n for n in ('sqlite3', 'jinja2', 'jsonschema_rs', 'yaml', 'ulid', 'zoneinfo') if n in sys.modules)))"


def floor_of(function: str) -> str:
    """Python source that imports the function's libraries and nothing of ours."""
    services, parts = FLOORS[function]
    clients = "; ".join(f"boto3.client({name!r})" for name in services)
    return "\n".join((_TELEMETRY, _PYDANTIC, *parts, f"import boto3; {clients}"))


def ours_of(function: str) -> str:
    """Python source that imports the function's entry, which makes its clients."""
    return f"import functions.{function}.entry"


def seconds(source: str) -> float:
    """In a fresh process, without the interpreter's own start."""
    answer = subprocess.run(
        [sys.executable, "-c", _TIMED.format(source)], env=_environment(), capture_output=True, text=True, check=True
    )
    return float(answer.stdout.split()[-1])


def extras_of(function: str) -> list[str]:
    """Of the libraries that only rare paths need, those that importing the entry loads."""
    source = f"{ours_of(function)}\n{_LOADED}"
    answer = subprocess.run(
        [sys.executable, "-c", source], env=_environment(), capture_output=True, text=True, check=True
    )
    return answer.stdout.split()


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "POWERTOOLS_TRACE_DISABLED": "1",
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
    } | SETTINGS.environment()


def main(words: Sequence[str]) -> int:
    unknown = [word for word in words if word not in FLOORS]
    if unknown:
        print(f"there is no function {unknown[0]}; there are {', '.join(FLOORS)}")
        return 2
    console = Console(width=max(Console().width, 110))
    table = Table("function", "floor ms", "entry ms", "× floor", "reach", "beside the floor it loads")
    for function in words or [name for name in FLOORS if Path(f"functions/{name}/entry.py").exists()]:
        pairs = [(seconds(floor_of(function)), seconds(ours_of(function))) for _ in range(ROUNDS)]
        floor, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(our / bare for bare, our in pairs)
        extras = ", ".join(extras_of(function)) or "nothing"
        table.add_row(function, f"{1000 * floor:.0f}", f"{1000 * ours:.0f}", f"{ratio:.2f}", f"≤ {REACH}", extras)
    console.print(table)
    console.print(
        f"medians of {ROUNDS} rounds in fresh processes, taking turns; compiled files are there, as in the package"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
