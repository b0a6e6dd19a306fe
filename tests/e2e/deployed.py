"""A deployment, as its users and its operators meet it: documents go into the bucket, requests to the API, and what became of them is
read from the tables.

Everything here goes over the wire to the emulator. What is read directly is read by the product's own adapters, with the settings that
the deployed functions were given.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZipFile

from shared.bootstrap import utc_now
from shared.bootstrap.aws import Aws
from shared.codec import events_in
from shared.effects import pending_of_run
from shared.events import Event
from shared.executors.aws import client_config
from shared.ids import RunId, StreamName, WorkflowName, digest_of, document_stream, run_stream, workflow_stream
from shared.ports import PAGE_MAX, Record
from shared.settings import Settings
from shared.state.document import Upload
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.stores.schedules import schedule_name
from shared.usecases.verify import Violation, verify
from shared.views.objects import run_object
from tests.e2e.emulator import Emulator
from tests.e2e.stack import Stack
from tests.e2e.watched import Watched
from tests.engine.fakes import derived

WAIT_SECONDS_MAX = 90.0
LOOK_EVERY_SECONDS = 0.05
QUIET_SECONDS = 0.5
"""Longer than anything takes from one queue to the next."""

SHOWN_AGAIN_SECONDS = 2
WORKED_OFF_SECONDS_MAX = 45.0
RECEIVES_WHILE_KILLED = 1000
"""A busy machine may need longer than `SHOWN_AGAIN_SECONDS` for a batch, which is then delivered again meanwhile; on AWS that time is
six times the longest a function may take. What is about deaths must not run out of receives for slowness."""
SET_ASIDE = ("effects-dead", "reports-dead", "triggers-dead", "undelivered", "parked")

FUNCTIONS = ("register", "scheduler", "relay", "dispatch", "status", "api", "trigger")

_Found = TypeVar("_Found")


def is_running(pid: int) -> bool:
    """Whether the process has not ended; one that nobody has waited for yet has."""
    try:
        return "\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Parts(Aws):
    """The adapters of a deployed function, with the emulator's address. Without `compute_url` it can do everything but ask targets."""

    def __init__(
        self, emulator: Emulator, settings: Settings, *, now: Callable[[], datetime] = utc_now, compute_url: str = ""
    ) -> None:
        super().__init__(settings, now=now)
        self._emulator = emulator
        self._compute_url = compute_url
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._emulator.client(service)
        return self._clients[service]

    def _target_client(self, service: str, *, sent_twice_is_harmless: bool) -> Any:
        assert self._compute_url, "tests leave targets to the functions"
        config = client_config(sent_twice_is_harmless=sent_twice_is_harmless)
        return self._emulator.client(service, self._compute_url, config)


class Deployed:
    """What users, operators, time and accidents do to a deployment."""

    def __init__(self, emulator: Emulator, stack: Stack, compute: Watched, stage: str = "dev") -> None:
        self.emulator = emulator
        self.stack = stack
        self.compute = compute
        self.stage = stage
        configuration = emulator.client("lambda").get_function_configuration(FunctionName=self.function("register"))
        self.settings = Settings.read(configuration["Environment"]["Variables"])
        self.parts = Parts(emulator, self.settings)
        self.client = self.parts.client

    def function(self, name: str) -> str:
        return f"runfold-{self.stage}-{name}"

    # --- what users do ----------------------------------------------------------------------------------------------------

    def upload(self, document: Mapping[str, Any] | bytes, *, key: str = "") -> str:
        """Put a document into the bucket; its key."""
        if isinstance(document, bytes):
            data = document
        else:
            key = key or f"workflows/{document['name']}.json"
            data = json.dumps(document).encode()
        self.client("s3").put_object(Bucket=self.settings.documents_bucket, Key=key, Body=data)
        return key

    def register(self, document: Mapping[str, Any]) -> WorkflowName:
        """Upload, and wait until it is live."""
        key = self.upload(document)
        name = WorkflowName(document["name"])
        # Other tests may have registered another document of that name.
        digest = digest_of(json.dumps(document).encode())
        self.until(lambda: self.uploaded(key).upload == digest, f"{name} is registered")
        assert not self.uploaded(key).problems
        return name

    def ask(self, workflow: str, key: str = "", **parameters: Any) -> RunId:
        return self.parts.control.request_run(WorkflowName(workflow), parameters, by="ann", key=key).run

    def run(self, document: Mapping[str, Any], **parameters: Any) -> RunId:
        """Upload the document and ask for a run of it."""
        return self.ask(self.register(document), **parameters)

    # --- what became of it ------------------------------------------------------------------------------------------------

    def workflow(self, name: str) -> WorkflowState | None:
        state = self.parts.loader.load(workflow_stream(WorkflowName(name))).state
        return state if isinstance(state, WorkflowState) else None

    def live_version(self, name: str) -> int:
        state = self.workflow(name)
        return state.live.number if state is not None and state.live is not None else 0

    def uploaded(self, key: str) -> Upload:
        state = self.parts.loader.load(document_stream(key)).state
        assert isinstance(state, Upload)
        return state

    def state(self, run: RunId) -> Run | None:
        state = self.parts.loader.load(run_stream(run)).state
        return state if isinstance(state, Run) else None

    def shown(self, run: RunId) -> dict[str, Any]:
        """The run as the API shows it, with its jobs by name."""
        loaded = self.parts.loader.load(run_stream(run))
        assert isinstance(loaded.state, Run), f"there is no run {run}"
        found = run_object(loaded.state, loaded.version)
        return {**found, "jobs": {job["name"]: job for job in found["jobs"]}}

    def records(self, stream: StreamName) -> list[Record]:
        found: list[Record] = []
        while page := self.parts.store.read(stream, after=len(found), limit=PAGE_MAX):
            found += page
        return found

    def events(self, run: RunId) -> list[Event]:
        return [event for record in self.records(run_stream(run)) for event in events_in(record.body)]

    def ended(self, *runs: RunId, seconds: float = WAIT_SECONDS_MAX) -> list[dict[str, Any]]:
        """Wait until all of them have ended; what they are then."""
        left = list(runs)

        def all_ended() -> bool:
            left[:] = [run for run in left if (state := self.state(run)) is None or not state.finished]
            return not left

        try:
            self.until(all_ended, f"{len(left)} runs end", seconds=seconds)
        except AssertionError as late:
            late.add_note("\n".join(self._told(run) for run in left[:3]))
            raise
        return [self.shown(run) for run in runs]

    def _told(self, run: RunId) -> str:
        if self.state(run) is None:
            return f"{run}: not begun"
        jobs = [f"{name}: {job['status']} {job['attempts'][-1:]}" for name, job in self.shown(run)["jobs"].items()]
        return "\n  ".join([f"{run}: due {self.parts.dues.get(run_stream(run))}", *jobs])

    def until(
        self, condition: Callable[[], _Found | None], what: str = "it", *, seconds: float = WAIT_SECONDS_MAX
    ) -> _Found:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {seconds:g} s\n{self.emulator.log()}")
            time.sleep(LOOK_EVERY_SECONDS)
        return found

    def job_is(self, run: RunId, job: str, *statuses: str, seconds: float = WAIT_SECONDS_MAX) -> dict[str, Any]:
        """Wait until the job has one of the statuses; the job."""

        def reached() -> dict[str, Any] | None:
            if self.state(run) is None:
                return None
            shown: dict[str, Any] = self.shown(run)["jobs"][job]
            return shown if shown["status"] in statuses else None

        found = self.until(reached, f"{job} of {run} is {' or '.join(statuses)}", seconds=seconds)
        assert found is not None
        return found

    def written_pid(self, path: Path) -> int:
        """Wait until a process has written its number."""
        return int(self.until(lambda: path.read_text().strip() if path.exists() else "", "it runs"))

    # --- what operators, and time, do -------------------------------------------------------------------------------------

    def invoke(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Call a function; `AssertionError` with what it said if it fails."""
        answer = self.client("lambda").invoke(FunctionName=self.function(name), Payload=json.dumps(event))
        payload: dict[str, Any] = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def warm(self) -> None:
        """Start every function once, side by side: a busy machine takes seconds for each."""
        nothing: dict[str, dict[str, Any]] = {
            "register": {"detail": {"object": {"key": "none"}}},
            "scheduler": {"sweep": True},
            **{name: {"Records": []} for name in ("dispatch", "relay", "status", "trigger")},
        }
        with ThreadPoolExecutor(len(nothing)) as pool:
            list(pool.map(self.invoke, nothing, nothing.values()))

    def release(self) -> None:
        """Deploy the same code as another release: a new package for every function."""
        functions = self.stack.resources("AWS::Lambda::Function").values()
        asset = str(next(iter(functions))["Properties"]["Code"]["S3Key"])
        code = BytesIO(self.client("s3").get_object(Bucket=self.stack.bucket, Key=asset)["Body"].read())
        with ZipFile(code, "a") as package:
            package.writestr(f"release-{time.time_ns()}", "")
        key = self.stack.put_asset(code.getvalue())
        for function in functions:
            function["Properties"]["Code"]["S3Key"] = key
        self.stack.update()

    def sweep(self) -> int:
        """Ring as the schedule of the sweep does: with its own target and input."""
        schedule = self.client("scheduler").get_schedule(GroupName=self.settings.schedule_group, Name="sweep")
        name = schedule["Target"]["Arn"].rpartition(":")[2]
        assert name == self.function("scheduler")
        return int(self.invoke("scheduler", json.loads(schedule["Target"]["Input"]))["looked_at"])

    def sweep_later(self, later: timedelta) -> int:
        """The sweep that comes so much later, now: the scheduler's own parts, with a clock that is ahead (fault 59)."""
        return Parts(self.emulator, self.settings, now=lambda: utc_now() + later).sweep()

    def work_later(self, run: RunId, later: timedelta) -> None:
        """What a dispatcher does that is told of the run so much later, now: its own parts, with a clock that is ahead."""
        parts = Parts(self.emulator, self.settings, now=lambda: utc_now() + later, compute_url=self.compute.url)
        state = parts.loader.load(run_stream(run)).state
        assert isinstance(state, Run)
        parts.work(pending_of_run(state, parts.now(), everything=True))

    def ring(self, workflow: str) -> None:
        """As EventBridge Scheduler does at an instant of the workflow."""
        self.invoke("scheduler", {"workflow": workflow, "scheduled_at": "<aws.scheduler.scheduled-time>"})

    def bell(self, workflow: str) -> dict[str, Any] | None:
        """The workflow's schedule in EventBridge Scheduler."""
        client = self.client("scheduler")
        try:
            found: dict[str, Any] = client.get_schedule(
                GroupName=self.settings.schedule_group, Name=schedule_name(WorkflowName(workflow))
            )
        except client.exceptions.ResourceNotFoundException:
            return None
        return found

    def redrive(self, queue: str) -> None:
        """Put the dead letters back onto their queue, as the console's redrive does."""
        client, dead = self.client("sqs"), self.queue_url(f"{queue}-dead")
        while messages := client.receive_message(QueueUrl=dead, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                client.send_message(QueueUrl=self.queue_url(queue), MessageBody=message["Body"])
                client.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])

    def letters(self, queue: str) -> list[str]:
        """What may be taken from a queue, left where it is."""
        client, url = self.client("sqs"), self.queue_url(queue)
        taken: list[dict[str, Any]] = []
        # What is taken is hidden, so that the next look shows the rest.
        while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages"):
            taken += found
        for one in taken:
            client.change_message_visibility(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0)
        return [str(one["Body"]) for one in taken]

    def set_aside(self) -> dict[str, list[str]]:
        """Everything that nobody could work off, by queue."""
        return {queue: self.letters(queue) for queue in SET_ASIDE if self.messages(queue)}

    @contextmanager
    def broken(self, function: str, **variables: str | None) -> Iterator[None]:
        """A function that was deployed with other variables (None: without), until it is mended."""
        client, name = self.client("lambda"), self.function(function)
        right = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        wrong = {key: value for key, value in {**right, **variables}.items() if value is not None}
        client.update_function_configuration(FunctionName=name, Environment={"Variables": wrong})
        try:
            yield
        finally:
            client.update_function_configuration(FunctionName=name, Environment={"Variables": right})

    @contextmanager
    def shown_again_at_once(self, queue: str, *, receives_max: int | None = RECEIVES_WHILE_KILLED) -> Iterator[None]:
        """What failed is delivered again after seconds, not after minutes; `receives_max` times, None: as often as deployed."""
        client, url = self.client("sqs"), self.queue_url(queue)
        names = ["VisibilityTimeout", "RedrivePolicy"]
        right = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        policy = json.loads(right["RedrivePolicy"])
        wrong = {
            "VisibilityTimeout": str(SHOWN_AGAIN_SECONDS),
            "RedrivePolicy": json.dumps({**policy, "maxReceiveCount": receives_max or policy["maxReceiveCount"]}),
        }
        client.set_queue_attributes(QueueUrl=url, Attributes=wrong)
        try:
            yield
            # What was taken meanwhile comes back in a moment. It is this test's, and must not trouble the next one.
            deadline = time.monotonic() + WORKED_OFF_SECONDS_MAX
            while self.messages(queue) or self.messages_taken(queue):
                if time.monotonic() > deadline:
                    # A poller of the emulator waits for a function that was killed as long as that may take. Sweeps have repaired all that
                    # these messages are about.
                    client.purge_queue(QueueUrl=url)
                    break
                time.sleep(LOOK_EVERY_SECONDS)
        finally:
            client.set_queue_attributes(QueueUrl=url, Attributes=right)

    def queue_url(self, name: str) -> str:
        return str(self.client("sqs").get_queue_url(QueueName=f"runfold-{self.stage}-{name}")["QueueUrl"])

    def messages(self, name: str) -> int:
        """That may be taken now: neither delayed nor taken already."""
        return self._counted(name, "ApproximateNumberOfMessages")

    def messages_taken(self, name: str) -> int:
        """That somebody has taken, and neither worked off nor given back."""
        return self._counted(name, "ApproximateNumberOfMessagesNotVisible")

    def _counted(self, queue: str, what: str) -> int:
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.queue_url(queue), AttributeNames=[what])
        return int(answer["Attributes"][what])

    def send(self, queue: str, body: str) -> None:
        self.client("sqs").send_message(QueueUrl=self.queue_url(queue), MessageBody=body)

    def violations(self) -> list[Violation]:
        """What the invariant checker finds in the tables."""

        rows = derived(self.parts.plans)
        return list(
            verify(
                self.parts.store,
                self.parts.plans,
                now=utc_now(),
                dues=self.parts.dues,
                views=self.parts.views,
                derive=rows,
            )
        )

    def settled(self, seconds: float = WAIT_SECONDS_MAX) -> None:
        """Wait until nothing is under way: no message to be taken, no function running. What a killed function had taken comes back
        after minutes, and is not waited for."""
        quiet_since = time.monotonic()

        def quiet() -> bool:
            nonlocal quiet_since
            if self.emulator.functions_running() or any(
                self.messages(queue) for queue in ("effects", "reports", "triggers")
            ):
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > QUIET_SECONDS

        self.until(quiet, "it is quiet", seconds=seconds)
