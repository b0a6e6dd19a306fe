"""A deployed stack in simulated time: the real handlers on the real use cases and executors, as warm and cold sandboxes of six functions.

A sandbox has a memory and a clock of its own, serves one event at a time, and is gone when it is killed. Only what `infra/` sets is
repeated here: time-outs, batches, windows, how many may work at once.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.dispatch.handler import make_handler as dispatch_handler
from functions.register.handler import make_handler as register_handler
from functions.relay.handler import make_handler as relay_handler
from functions.scheduler.handler import make_handler as scheduler_handler
from functions.status.handler import make_handler as status_handler
from functions.telemetry import Handler
from functions.trigger.handler import make_handler as trigger_handler
from shared.bootstrap.aws import RHYTHM, Aws
from shared.errors import InvalidInput, NotFound, Rejected, StoreUnavailable, UnknownEvents
from shared.executors.aws_events import AwsEvents
from shared.executors.ecs import EcsExecutor, EcsSettings
from shared.executors.emr import EmrExecutor
from shared.executors.restored import LooksFirst
from shared.executors.ssm import SsmExecutor, SsmSettings
from shared.ids import StreamName, WorkflowName
from shared.ports import PAGE_MAX, Record
from shared.schedule import due
from shared.settings import Settings
from shared.usecases.control import Control
from shared.usecases.dispatch import Dispatch
from shared.usecases.rebuild import rebuild
from shared.usecases.transact import Transact
from shared.usecases.work import Work
from shared.workflow.notices import CHANNELS
from shared.workflow.timing import Schedule
from tests.engine.fakes import derived
from tests.simulation.kernel import BEGIN, Crash, Kernel, Turns
from tests.simulation.models.ecs import Ecs
from tests.simulation.models.emr import Emr
from tests.simulation.models.mail import Mail
from tests.simulation.models.model import Behaviour, Client, Ledger
from tests.simulation.models.ssm import Ssm
from tests.simulation.queues import EffectsPort, Queue, Rules, TableStream
from tests.simulation.stores import DuesPort, EventsPort, Port, Tables

SETTINGS = Settings("simulated", "events", "views", "documents", "artifacts", "effects")
HOST = "warehouse"
KEPT_MAX = (2, 6, 100)
"""Streams in a sandbox's memory: sometimes so few that they are forgotten and read again."""
SWEEP_EVERY = timedelta(minutes=1)
OLDER_RELEASE_LACKS = ("LateReported", "StopFlagged", "JobMarked")
"""Events that the older of two releases does not know."""


@dataclass(frozen=True, slots=True)
class Made:
    """A function as the stack makes it."""

    seconds_max: float
    at_once: int


FUNCTIONS = {
    "register": Made(60, 4),
    "scheduler": Made(120, 4),
    "relay": Made(60, 4),
    "dispatch": Made(120, 5),
    "status": Made(60, 2),
    "api": Made(29, 8),
    "trigger": Made(60, 4),
}
CLOCKS_DIFFER_BY = timedelta(minutes=5)
RESTORE = "restore to a point in time"
"""A fault whose end is when it happens, and whose beginning is the moment to which the tables are restored."""
CLOSED_SECONDS = 15 * 60.0
"""From the end of the old stage to the beginning of the new one: by then targets show what was begun."""
REBUILDS_MAX = 50
VISIBILITY = 6
"""Times the function's time-out until a message that was taken is shown again."""


class Context:
    """What Lambda passes beside the event."""

    function_name = "simulated"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:simulated"
    aws_request_id = "simulated"


class Sandbox(Aws):
    """A process of one function, with ports that fail, and a clock that is off by `skew`."""

    def __init__(self, deployment: "Deployment", function: str, number: int, skew: timedelta, *, older: bool) -> None:
        kernel, tables = deployment.kernel, deployment.tables
        super().__init__(SETTINGS, now=lambda: kernel.now + skew)
        self.busy = False
        name = f"{function}-{number}"
        events = EventsPort(tables)
        parts: dict[str, Any] = {
            "store": Port(
                kernel, "events", OlderRelease(events) if older else events, methods=("append", "read", "read_lately")
            ),
            "dues": Port(kernel, "dues", DuesPort(tables), methods=("get", "lower", "raise_to", "remove", "due")),
            "views": Port(
                kernel,
                "views",
                tables.views,
                methods=(
                    "put_run",
                    "get_run",
                    "put_workflow",
                    "put_notices",
                    "runs",
                    "put_backfill",
                    "put_listeners",
                    "listeners",
                ),
            ),
            "documents": Port(kernel, "documents", tables.documents, methods=("put", "get")),
            "snapshots": Port(kernel, "snapshots", tables.snapshots, methods=("put", "get")),
            "uploads": Uploads(tables),
            "effects": EffectsPort(kernel, deployment.effects),
            "waiters": Port(kernel, "waiters", tables.waiters, methods=("add", "remove", "of")),
            "bells": deployment.bells,
            "side_by_side": kernel.side_by_side,
        }
        vars(self).update(parts)
        vars(self)["transact"] = Transact(
            self.store,
            self.dues,
            self.loader,
            self.effects,
            now=self.now,
            new_id=deployment.new_id,
            kept_max=deployment.kernel.pick(KEPT_MAX),
            rhythm=RHYTHM,
            effects_wait=True,
        )
        vars(self)["control"] = Control(self.transact, self.documents, new_id=deployment.new_id)

        def clock() -> float:
            return (kernel.now - BEGIN).total_seconds()

        executors: dict[str, Any] = {
            "ecs": EcsExecutor(
                Client(deployment.ecs, kernel),  # type: ignore[arg-type]
                EcsSettings(subnets=("subnet-1",), execution_role="arn:aws:iam::1:role/pull"),
                None,
            ),
            "emr": EmrExecutor(Client(deployment.emr, kernel), None, now=self.now, clock=clock),  # type: ignore[arg-type]
            "ssm": SsmExecutor(
                Client(deployment.ssm, kernel),  # type: ignore[arg-type]
                SsmSettings(hosts=deployment.ssm.host_list),
                None,
                now=self.now,
                clock=clock,
            ),
        }
        # A lock of threads would stop the one thread that all processes share.
        vars(executors["ecs"])["_registering"] = Turns(kernel)
        if deployment.restored_from is not None:
            executors = {kind: LooksFirst(one, deployment.restored_from) for kind, one in executors.items()}
        vars(self)["executors"] = executors
        vars(self)["events"] = AwsEvents(executors)
        restored = deployment.restored_from is not None
        vars(self)["dispatch"] = Dispatch(self.transact, executors, now=self.now, claimer=name, restored=restored)
        vars(self.dispatch)["_claiming"] = Turns(kernel)
        vars(self)["couriers"] = dict.fromkeys(CHANNELS, deployment.mail)
        vars(self)["work"] = Work(
            self.transact,
            self.dispatch,
            self.admission,
            self.waits,
            deliver=self._deliver,
            side_by_side=kernel.side_by_side,
        )
        self.handle = self._handler(function)

    def _handler(self, function: str) -> Handler:
        match function:
            case "register":
                return register_handler(self.uploads, self.control)
            case "scheduler":
                return scheduler_handler(self.sweep, lambda: len(self.sweep.refused), self.admission.tick)
            case "relay":
                return relay_handler(self.reader, self.settle, self.is_awaited)
            case "dispatch":
                return dispatch_handler(self.work, self.effects)
            case "status":
                return status_handler(self.events, self.work.record, self.effects, side_by_side=self.side_by_side)
            case "trigger":
                return trigger_handler(self.triggers)
            case _:
                return lambda event, _: event["do"](self.control) or {}


class Uploads:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def read(self, key: str) -> tuple[bytes, str] | None:
        self._tables.kernel.point("uploads.read")
        return self._tables.uploads.get(key)


class OlderRelease:
    """Reads as a release does that does not know some events: whoever decides on such a stream is refused (fault 48)."""

    def __init__(self, events: EventsPort) -> None:
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)

    def read(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        return self._known(self._events.read(stream, after=after, limit=limit))

    def read_lately(self, stream: StreamName, *, after: int = 0, limit: int = PAGE_MAX) -> list[Record]:
        return self._known(self._events.read_lately(stream, after=after, limit=limit))

    def _known(self, records: list[Record]) -> list[Record]:
        for record in records:
            for unknown in OLDER_RELEASE_LACKS:
                if f'"{unknown}"' in record.body:
                    self._events.kernel.sometimes("an older release met a newer event")
                    raise UnknownEvents(f"{record.stream}: {unknown} is not known to this release")
        return records


class Bells:
    """EventBridge Scheduler: rings at a workflow's instants, mostly."""

    def __init__(self, kernel: Kernel, ring: Callable[[WorkflowName], None]) -> None:
        self._kernel = kernel
        self._ring = ring
        self._schedules: dict[WorkflowName, Schedule] = {}

    def reconcile(self, workflow: WorkflowName, schedule: Schedule | None) -> None:
        self._kernel.point("before bells.reconcile")
        known = self._schedules.get(workflow)
        if schedule is None:
            self._schedules.pop(workflow, None)
        elif schedule != known:
            self._schedules[workflow] = schedule
            self._arm(workflow, schedule)
        self._kernel.point("after bells.reconcile")

    def _arm(self, workflow: WorkflowName, schedule: Schedule) -> None:
        now = self._kernel.now
        following = due(schedule, now, now + timedelta(days=2), limit=1)
        if not following:
            return

        def fire() -> None:
            kernel = self._kernel
            if self._schedules.get(workflow) != schedule:
                # It was edited or deleted; a ring that was on its way comes all the same, at times (fault 37).
                if kernel.happens("a bell rings for a schedule that is gone"):
                    self._ring(workflow)
                return
            if not kernel.happens("a bell is lost"):
                late = 1200.0 if kernel.happens("a bell is late") else kernel.between(0, 1)
                for _ in range(2 if kernel.happens("a bell rings twice") else 1):
                    kernel.after(late, lambda: self._ring(workflow))
            self._arm(workflow, schedule)

        self._kernel.at(following[0].at, fire)


class Deployment:
    """Everything, and what happens in it by itself."""

    def __init__(
        self, kernel: Kernel, behaviour: Callable[[str, str, int], Behaviour], *, older_share: float = 0.0
    ) -> None:
        """`older_share` of the sandboxes belong to an older release."""
        self.kernel = kernel
        self.tables = Tables(kernel)
        self.mail = Mail(kernel)
        self.ledger = Ledger()
        self.skewed = "clocks differ" in kernel.faults
        self.older_share = older_share
        self._ids = random.Random(kernel.random.random())
        self._numbers = 0
        self._sandboxes: dict[str, list[Sandbox]] = {name: [] for name in FUNCTIONS}
        self.effects = self._queue("effects", "dispatch", batch_max=10)
        self.reports = self._queue("reports", "status", batch_max=100, window_seconds=2.0)
        self.stream = TableStream(kernel, self.invoke)
        self.tables.moved = self.stream.put
        self.rules = Rules(kernel, self.reports)
        self.bells = Bells(kernel, self._ring)
        self.ecs = Ecs(kernel, self.ledger, behaviour, self.rules.emit)
        self.emr = Emr(kernel, self.ledger, behaviour, self.rules.emit)
        self.ssm = Ssm(kernel, self.ledger, behaviour, self.rules.emit)
        self.restored_from: datetime | None = None
        self.restored_at: datetime | None = None
        self.lost: list[Record] = []
        """Commits that a restore lost."""
        self._closed = False
        self.errors: list[BaseException] = []
        """What functions raised: nothing but killed processes and stores that do not answer may end one."""
        self._swept_at = kernel.now + timedelta(seconds=kernel.between(-60, 0))
        self._sweep_at: datetime | None = None
        self._sweeps_planned = 0
        self.tables.row_lowered = self._plan_sweep

    def _queue(self, name: str, function: str, *, batch_max: int, window_seconds: float = 0.0) -> Queue:
        visibility = VISIBILITY * FUNCTIONS[function].seconds_max
        return Queue(self.kernel, name, function, self.invoke, visibility, batch_max, window_seconds)

    def new_id(self) -> str:
        return f"{self._ids.getrandbits(80):020x}"

    # --- functions --------------------------------------------------------------------------------------------------------

    def invoke(
        self, function: str, event: Mapping[str, Any], over: Callable[[Any, BaseException | None], None]
    ) -> bool:
        """Have a sandbox of the function handle the event; False when as many as may are at work."""
        made, warm = FUNCTIONS[function], self._sandboxes[function]
        if self._closed or sum(one.busy for one in warm) >= made.at_once:
            return False
        idle = [one for one in warm if not one.busy]
        # Which sandbox is taken, and whether a new one is begun, is nobody's to say.
        if not idle or (not self.kernel.orderly and self.kernel.random.random() < 0.1):
            sandbox = self._cold(function)
        else:
            sandbox = idle[0] if self.kernel.orderly else self.kernel.pick(idle)
        sandbox.busy = True
        answers: list[Any] = []

        def ended(error: BaseException | None) -> None:
            sandbox.busy = False
            if isinstance(error, Crash):
                # Unless a new release has replaced it meanwhile.
                self._sandboxes[function] = [one for one in self._sandboxes[function] if one is not sandbox]
            elif error is not None and not (
                function == "api" and isinstance(error, Rejected | NotFound | InvalidInput)
            ):
                self.errors.append(error)
            over(answers[0] if answers else None, error)

        self.kernel.spawn(
            function,
            lambda: answers.append(sandbox.handle(dict(event), Context())),
            seconds_max=made.seconds_max,
            over=ended,
        )
        return True

    def _cold(self, function: str) -> Sandbox:
        self._numbers += 1
        kernel = self.kernel
        skew = timedelta(seconds=kernel.random.uniform(-150, 150) if self.skewed and not kernel.orderly else 0)
        older = self.older_share > 0 and function != "api" and kernel.random.random() < self.older_share
        sandbox = Sandbox(self, function, self._numbers, skew, older=older)
        self._sandboxes[function].append(sandbox)
        return sandbox

    def everything_newer(self) -> None:
        """The rolling deployment is done."""
        self.older_share = 0.0
        self._sandboxes = {name: [] for name in FUNCTIONS}

    def call(self, do: Callable[[Control], Any], over: Callable[[Any, BaseException | None], None]) -> None:
        """A request to the API."""
        found: list[Any] = []
        taken = self.invoke(
            "api",
            {"do": lambda control: found.append(do(control))},
            lambda _, error: over(found[0] if found else None, error),
        )
        if not taken:
            self.kernel.after(1, lambda: self.call(do, over))

    def upload(self, key: str, data: bytes) -> None:
        """Put an object under `workflows/`; EventBridge tells of it at least once."""
        content = f"v{self.kernel.random.getrandbits(64):016x}"
        self.tables.uploads[key] = (data, content)
        event = {"id": content, "detail": {"object": {"key": key}, "requester": "ann"}}
        times = 2 if self.kernel.happens("an upload is told twice") else 1
        for _ in range(times):
            self.kernel.after(self.kernel.between(0.2, 3), lambda: self._asynchronously("register", event))

    def _asynchronously(self, function: str, event: Mapping[str, Any], tries: int = 0) -> None:
        """As Lambda takes events: with tries, and then set aside, from where an operator puts it back."""

        def over(_: Any, error: BaseException | None) -> None:
            if error is not None:
                if tries >= 2:
                    self.kernel.sometimes("an event was set aside")
                wait = 3600.0 if tries >= 2 else 60.0 * (tries + 1)
                self.kernel.after(wait, lambda: self._asynchronously(function, event, (tries + 1) % 3))

        if not self.invoke(function, event, over):
            self.kernel.after(1, lambda: self._asynchronously(function, event, tries))

    # --- time -------------------------------------------------------------------------------------------------------------

    def _ring(self, workflow: WorkflowName) -> None:
        self.invoke("scheduler", {"workflow": workflow}, lambda *_: None)

    def _sweep(self, planned: int) -> None:
        if planned != self._sweeps_planned:
            return
        kernel = self.kernel
        self._swept_at = kernel.now
        if not kernel.during("outage of the scheduler") and not kernel.happens("a sweep is missed"):
            self.invoke("scheduler", {"sweep": True}, lambda *_: None)
        self._plan_sweep(self.tables.dues.next_at() or datetime.max.replace(tzinfo=UTC))

    def _plan_sweep(self, due_at: datetime) -> None:
        """Plan the first minute in which this may be due by any clock. Others would change nothing, and are passed over."""
        following = self._swept_at + SWEEP_EVERY
        if due_at.year < BEGIN.year + 10:
            following += max(0, int((due_at - CLOCKS_DIFFER_BY - following) / SWEEP_EVERY)) * SWEEP_EVERY
        else:
            following += timedelta(days=3650)
        if self._sweep_at is None or self._sweep_at <= self.kernel.now or following < self._sweep_at:
            self._sweeps_planned += 1
            planned = self._sweeps_planned
            self._sweep_at = max(following, self.kernel.now)
            self.kernel.at(self._sweep_at, lambda: self._sweep(planned))

    # --- what operators do ------------------------------------------------------------------------------------------------

    def restore(self, moment: datetime, over: Callable[[], None]) -> None:
        """Lose all that was stored after that moment, and go on, as docs/operations.md says: stop everything, wait until targets show what
        was begun, copy what is left into new tables, make the lists, and look at each target before anything starts."""
        kernel = self.kernel
        kernel.injected[RESTORE] += 1
        kernel.end_everybody()
        self._closed = True
        self.lost += self.tables.restored(moment)
        self.stream.clear()
        # A little earlier rather than later: clocks differ.
        self.restored_from = moment - CLOCKS_DIFFER_BY
        self.restored_at = kernel.now

        def open_again() -> None:
            self._sandboxes = {name: [] for name in FUNCTIONS}
            operator = Sandbox(self, "scheduler", 0, timedelta(0), older=False)
            for _ in range(REBUILDS_MAX):
                # Outside processes nothing fails but the queue.
                with suppress(StoreUnavailable):
                    found = rebuild(
                        operator.store,
                        operator.loader,
                        operator.views,
                        operator.dues,
                        derive=derived(operator.plans),
                        settle=operator.settle,
                        now=kernel.now,
                        patience=RHYTHM.patience,
                    )
                    deque(found, maxlen=0)
                    break
            self._closed = False
            self._plan_sweep(kernel.now)
            over()

        kernel.after(CLOSED_SECONDS, open_again)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way between functions."""
        working = any(sandbox.busy for sandboxes in self._sandboxes.values() for sandbox in sandboxes)
        return not working and self.effects.idle and self.reports.idle and self.stream.idle

    def redrive(self) -> None:
        self.effects.redrive()
        self.reports.redrive()
