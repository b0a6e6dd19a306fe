"""`python -m bench.cold`: how long each function's entry takes to import, beside the libraries it cannot do without.

A cold start pays for imports. The floor of a function is a fresh process that imports Python's boto3 with the clients that the function's
entry makes, pydantic with one model, and the parts of Powertools that the function uses; ours is a fresh process that imports its entry.
Both take turns, and the median of the rounds is shown, in CPU time: that is all an import takes once its files are cached, and what else the
machine does meanwhile counts less.

Some of ours waits for the first call that needs it, as pydantic's validators do. So that nothing is hidden there, the second half of the table
shows what an ordinary first call takes longer than the second because of that, and what both come to. Below it, what Lambda has to fetch:
the zip of all functions and the layer of some, packed for Lambda. Nothing is asserted.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from infra.packing import ROOT, ZIP_BYTES_MAX, pack
from shared.settings import Settings
from shared.workflow.reading import canonical, read
from shared.workflow.schema import EXAMPLE

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
    "scheduler": (("s3", "dynamodb", "sqs"), ()),
    "relay": (("s3", "dynamodb"), (_BATCH, _STREAM)),
    "dispatch": (("s3", "dynamodb", "sqs"), (_BATCH, _SQS)),
    "status": (("s3", "dynamodb", "sqs"), (_BATCH, _SQS)),
    "api": (("s3", "dynamodb", "sqs"), (_RESOLVER,)),
}
"""By function: the clients that its entry makes, and the parts of Powertools it uses beside telemetry. A test holds the clients to the entry."""

_DOCUMENT = canonical(read(json.dumps(EXAMPLE).encode(), name="example.json"))
_HISTORY = """[
    {"type": "RunRequested", "run": "r", "workflow": "nightly-sales", "document": "d", "document_version": 1},
    {"type": "JobsReady", "jobs": ["extract"]},
    {"type": "AttemptQueued", "job": "extract", "attempt": 1}
]"""
_READS_DOCUMENT = f"from shared.workflow.reading import load; load({_DOCUMENT!r})"
_READS_HISTORY = f"from shared.codec import events_in; events_in({_HISTORY!r})"
_TAKES_EFFECTS = """from shared.codec import effects_from_json
effects_from_json('[{"effect": "StartAttempt", "run": "r", "job": "extract", "attempt": 1}]')"""
_SENDS_EFFECTS = """from shared.codec import effects_to_json; from shared.effects import AdvanceRun, StartAttempt
effects_to_json([StartAttempt("r", "load", 1), AdvanceRun("r")])"""
_CHECKS_DOCUMENT = f"""from shared.usecases.documents import read_document; from shared.workflow.reading import canonical
canonical(read_document({json.dumps(EXAMPLE).encode()!r}, name="example.json"))"""
_TAKES_QUERY = "from functions.api.requests import PageOfJobs, query_of; query_of(PageOfJobs, 'limit=10')"


def _stores(*events: str) -> str:
    return f"from shared import events; from shared.codec import body_of; body_of([events.{', events.'.join(events)}])"


FIRST_CALLS: dict[str, tuple[str, ...]] = {
    "register": (
        _CHECKS_DOCUMENT,
        _stores(
            "WorkflowRegistered(workflow='w', document='d', version=1)",
            "DocumentAccepted(upload='u', workflow='w', document='d')",
        ),
    ),
    "scheduler": (
        _READS_HISTORY,
        _READS_DOCUMENT,
        _stores(
            "WatermarkMoved(until='2026-01-01T00:00:00Z')",
            "RunAdmitted(run='r', request=events.RunRequested(run='r', workflow='w', document='d', document_version=1))",
        ),
        _SENDS_EFFECTS,
    ),
    "relay": (_READS_HISTORY, _READS_DOCUMENT),
    "dispatch": (
        _TAKES_EFFECTS,
        _READS_HISTORY,
        _READS_DOCUMENT,
        _stores("AttemptSubmitted(job='extract', attempt=1, handle='h')"),
    ),
    "status": (
        _READS_HISTORY,
        _READS_DOCUMENT,
        _stores(
            "AttemptSucceeded(job='extract', attempt=1)",
            "JobsReady(jobs=('load',))",
            "AttemptQueued(job='load', attempt=1)",
        ),
        _SENDS_EFFECTS,
    ),
    "api": (_TAKES_QUERY, _READS_HISTORY, _READS_DOCUMENT),
}
"""By function: what an ordinary call reads and writes of ours, with the services left out. A scheduler that finds nothing due needs none of it."""

SETTINGS = Settings(
    stage="bench",
    events_table="events",
    views_table="views",
    documents_bucket="documents",
    artifacts_bucket="artifacts",
    effects_queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/effects",
    schedule_group="runfold",
)

_TIMED = """
import time
def timed(source):
    code = compile(source, "timed", "exec")
    begun = time.process_time()
    exec(code, {{}})
    return time.process_time() - begun
print(*(timed(source) for source in {!r}))
"""
_LOADED = "import sys; print('\\n'.join(sorted(n for n in ('sqlite3', 'jinja2', 'jsonschema_rs', 'yaml', 'ulid', 'zoneinfo') if n in sys.modules)))"


def floor_of(function: str) -> str:
    """Python source that imports the function's libraries and nothing of ours."""
    services, parts = FLOORS[function]
    clients = "; ".join(f"boto3.client({name!r})" for name in services)
    return "\n".join((_TELEMETRY, _PYDANTIC, *parts, f"import boto3; {clients}"))


def ours_of(function: str) -> str:
    """Python source that imports the function's entry, which makes its clients."""
    return f"import functions.{function}.entry"


def seconds(*sources: str) -> list[float]:
    """One after the other in a fresh process, without the interpreter's own start."""
    answer = subprocess.run(
        [sys.executable, "-c", _TIMED.format(sources)], env=_environment(), capture_output=True, text=True, check=True
    )
    return [float(word) for word in answer.stdout.split()]


def cold(function: str) -> tuple[float, float, float]:
    """Seconds: the floor, our entry, and what our entry left for the first call."""
    (floor,) = seconds(floor_of(function))
    call = "\n".join(FIRST_CALLS[function])
    entry, first, second = seconds(ours_of(function), call, call)
    return floor, entry, first - second


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
    table = Table(
        "function",
        "floor CPU ms",
        "entry CPU ms",
        "× floor",
        "reach",
        "left for first call ms",
        "both × floor",
        "loads also",
    )
    for function in words or FLOORS:
        rounds = [cold(function) for _ in range(ROUNDS)]
        floor, entry, left = (statistics.median(column) for column in zip(*rounds, strict=True))
        table.add_row(
            function,
            f"{1000 * floor:.0f}",
            f"{1000 * entry:.0f}",
            f"{statistics.median(entry / floor for floor, entry, _ in rounds):.2f}",
            f"≤ {REACH}",
            f"{1000 * left:.0f}",
            f"{statistics.median((entry + left) / floor for floor, entry, left in rounds):.2f}",
            ", ".join(extras_of(function)) or "nothing",
        )
    console.print(table)
    console.print(
        f"medians of {ROUNDS} rounds in fresh processes, taking turns; compiled files are there; left for the first call: reading a document, a "
        "history and the call's own message, and writing events and effects, the first time less the second"
    )
    console.print(_sizes())
    return 0


def _sizes() -> str:
    try:
        packages = pack("lambda", ROOT / "build" / "functions")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return f"not packed, so without the size of the zip: {error}"
    code, layer = (path.stat().st_size / 1e6 for path in (packages.functions, packages.layer))
    return (
        f"the functions' zip has {code:.2f} MB (reach ≤ {ZIP_BYTES_MAX / 1e6:.0f}); the JSON Schema engine, a layer of the functions that check "
        f"parameters, {layer:.2f} MB more, and is loaded only for documents that declare some"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
