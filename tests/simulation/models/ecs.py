"""ECS in simulated time: definitions, tasks, client tokens, and everything that ECS does not promise.

Kept, as AWS documents it:
* a client token is known for 24 hours or the task's life and an hour, whichever is shorter; then it starts another task (fault 6);
* the same token with another request is a ConflictException that names the task (fault 7);
* a task that ended less than an hour ago comes back for its token with ARN and status only, later it is forgotten (fault 9);
* what finds no room is answered with 200, no task, and `failures` (fault 5); the quota of provisioning tasks is a ClientException;
* whoever describes or lists a task too early, or stops it, is told that it is not there (fault 8), or how it was before;
* a task goes PROVISIONING, PENDING, RUNNING, DEPROVISIONING, STOPPED, with one event and one `version` more each time;
* images cannot be pulled (10), sidecars fail (11), exit codes are missing (12), spot capacity is taken back (13), clusters go (16);
* a stop is SIGTERM, and SIGKILL after the container's stop timeout; its agent may not hear of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from shared.ids import Token
from tests.simulation.kernel import Kernel
from tests.simulation.models.model import Behaviour, Execution, Ledger, Model, error_of

FAULTS = (
    "ecs has no room",
    "ecs is at its quota",
    "ecs definition deregistered",
    "ecs definition shows late",
    "ecs conflict names no task",
    "ecs shows a task late",
    "ecs shows an old state",
    "ecs cannot pull the image",
    "ecs sidecar fails",
    "ecs says no exit code",
    "ecs event leaves out the exit code",
    "ecs takes spot back",
    "ecs container ignores SIGTERM",
)
"""What `Kernel.happens` is asked for here, beside what `Client` asks."""

BRANCHES = (
    "ecs: no task in a 200",
    "ecs: quota reached",
    "ecs: definition was deregistered",
    "ecs: same token, same task",
    "ecs: same token, ended task",
    "ecs: same token, other request",
    "ecs: token expired, another task",
    "ecs: missing right after the start",
    "ecs: stopped task forgotten",
    "ecs: told how it was before",
    "ecs: task never started",
    "ecs: spot taken back",
    "ecs: host gone",
    "ecs: ended without exit code",
    "ecs: stop found no task yet",
    "ecs: stopped before it ran",
    "ecs: killed after SIGTERM",
    "ecs: ended in spite of a stop",
    "ecs: cluster deleted under tasks",
)
"""What `Kernel.sometimes` counts here."""

TOKEN_AGE_MAX = timedelta(hours=24)
FORGOTTEN_AFTER = timedelta(hours=1)
"""After a task's end: it is not described any more, and its token not known."""
DESCRIBED_MAX = 100
PAGE = 100
OLD_SECONDS = 10.0
"""So long after a change, a description may still say what was before."""
LATE_SECONDS = (2.0, 10.0, 60.0, 240.0)
"""How long a task may stay unseen; AWS advises to look for up to five minutes."""

PROVISIONING_SECONDS = (1.0, 4.0)
PENDING_SECONDS = (3.0, 40.0)
SIGTERM_SECONDS = (0.2, 3.0)
GOING_SECONDS = (1.0, 20.0)
"""Between the end of the containers and STOPPED."""
STOP_TIMEOUT_SECONDS = 30

_REGION = "eu-central-1"
_ACCOUNT = "123456789012"
_ARN = f"arn:aws:ecs:{_REGION}:{_ACCOUNT}"
_NO_ROOM = ({"reason": "RESOURCE:MEMORY"}, {"reason": "AGENT"}, {"reason": "Capacity is unavailable at this time."})
_MAIN = "main"


@dataclass(slots=True, eq=False)
class _Task:
    facts: dict[str, Any]
    """As DescribeTasks tells them."""
    request: Mapping[str, Any]
    created_at: datetime
    shown_from: datetime
    seconds: float
    exit_code: int
    fate: str
    spot: bool
    stop_timeout_seconds: float
    execution: Execution | None
    stop_asked: bool = False
    over: bool = False
    """Its containers have ended, or never will begin."""
    stopped_at: datetime | None = None
    before: dict[str, Any] | None = None
    changed_at: datetime | None = None

    @property
    def arn(self) -> str:
        return str(self.facts["taskArn"])

    def main(self) -> dict[str, Any]:
        containers: list[dict[str, Any]] = self.facts["containers"]
        return next((one for one in containers if one["name"] == _MAIN), containers[0])


class Ecs(Model):
    """The calls of `EcsExecutor`, by the names and with the arguments of boto3. Answers are copies."""

    service = "ecs"

    def __init__(
        self,
        kernel: Kernel,
        ledger: Ledger,
        behaviour: Callable[[str, str, int], Behaviour],
        emit: Callable[[Mapping[str, Any]], None],
        *,
        clusters: Iterable[str] = ("default",),
    ) -> None:
        super().__init__(kernel, ledger, behaviour, emit)
        self.clusters = set(clusters)
        self._definitions: dict[str, list[dict[str, Any]]] = {}
        self._tasks: dict[str, _Task] = {}
        self._tokens: dict[tuple[str, str], _Task] = {}

    # --- definitions ----------------------------------------------------------------------------------------------------

    def register_task_definition(self, **request: Any) -> dict[str, Any]:
        revisions = self._definitions.setdefault(request["family"], [])
        definition = {key: value for key, value in request.items() if key != "tags"} | {
            "revision": len(revisions) + 1,
            "status": "ACTIVE",
            "registeredAt": self.kernel.now,
            "taskDefinitionArn": f"{_ARN}:task-definition/{request['family']}:{len(revisions) + 1}",
        }
        revisions.append(definition)
        return {"taskDefinition": dict(definition)}

    def describe_task_definition(self, *, taskDefinition: str) -> dict[str, Any]:
        found = self._definition(taskDefinition)
        if (
            found is not None
            and self._young(found["registeredAt"])
            and self.kernel.happens("ecs definition shows late")
        ):
            found = None
        if found is None:
            raise _refused("ClientException", "Unable to describe task definition.", "DescribeTaskDefinition")
        return {"taskDefinition": dict(found)}

    def deregister_task_definition(self, *, taskDefinition: str) -> dict[str, Any]:
        """What somebody who tidies up does."""
        found = self._definition(taskDefinition)
        if found is None:
            raise _refused("ClientException", "Unable to describe task definition.", "DeregisterTaskDefinition")
        found["status"] = "INACTIVE"
        return {"taskDefinition": dict(found)}

    def _definition(self, name: str) -> dict[str, Any] | None:
        family, _, revision = name.rpartition("/")[2].partition(":")
        revisions = self._definitions.get(family, [])
        if revision:
            return next((one for one in revisions if str(one["revision"]) == revision), None)
        return next((one for one in reversed(revisions) if one["status"] == "ACTIVE"), None)

    # --- tasks ----------------------------------------------------------------------------------------------------------

    def run_task(self, **request: Any) -> dict[str, Any]:
        cluster = self._cluster(request.get("cluster"), "RunTask")
        token = request.get("clientToken")
        known = self._tokens.get((cluster, token)) if token else None
        if known is not None and self._token_known(known):
            return self._again(known, request)
        if known is not None:
            self.kernel.sometimes("ecs: token expired, another task")
        definition = self._definition_to_run(request)
        if self.kernel.happens("ecs is at its quota"):
            self.kernel.sometimes("ecs: quota reached")
            words = "You've reached the limit on the number of tasks you can provision."
            raise _refused("ClientException", words, "RunTask")
        if self.kernel.happens("ecs has no room"):
            self.kernel.sometimes("ecs: no task in a 200")
            return {"tasks": [], "failures": [dict(self.kernel.pick(_NO_ROOM))]}
        task = self._made(cluster, definition, request)
        self._tasks[task.arn] = task
        if token:
            self._tokens[(cluster, token)] = task
        self._tell(task)
        self.kernel.after(self.kernel.between(*PROVISIONING_SECONDS), lambda: self._pend(task))
        return {"tasks": [_copied(task.facts)], "failures": []}

    def describe_tasks(
        self, *, tasks: Sequence[str], cluster: str | None = None, include: Sequence[str] = ()
    ) -> dict[str, Any]:
        name = self._cluster(cluster, "DescribeTasks")
        if len(tasks) > DESCRIBED_MAX:
            raise _refused("InvalidParameterException", "Tasks cannot have more than 100 elements.", "DescribeTasks")
        found, failures = [], []
        for arn in tasks:
            task = self._seen(name, arn)
            if task is None:
                failures.append({"arn": arn, "reason": "MISSING"})
                continue
            facts = task.facts
            if (
                task.before is not None
                and self._young(task.changed_at)
                and self.kernel.happens("ecs shows an old state")
            ):
                self.kernel.sometimes("ecs: told how it was before")
                facts = task.before
            found.append(_copied(facts, tags="TAGS" in include))
        return {"tasks": found, "failures": failures}

    def list_tasks(
        self,
        *,
        cluster: str | None = None,
        family: str | None = None,
        startedBy: str | None = None,
        desiredStatus: str = "RUNNING",
        maxResults: int = PAGE,
        nextToken: str | None = None,
    ) -> dict[str, Any]:
        name = self._cluster(cluster, "ListTasks")
        if startedBy is not None and (family is not None or desiredStatus != "RUNNING"):
            raise _refused("InvalidParameterException", "startedBy must be the only filter.", "ListTasks")
        arns = [
            task.arn
            for task in list(self._tasks.values())
            if task.facts["desiredStatus"] == desiredStatus
            and (startedBy is None or task.facts["startedBy"] == startedBy)
            and (family is None or f"/{family}:" in task.facts["taskDefinitionArn"])
            and self._seen(name, task.arn) is not None
        ]
        start = int(nextToken or 0)
        answer: dict[str, Any] = {"taskArns": arns[start : start + maxResults]}
        if start + maxResults < len(arns):
            answer["nextToken"] = str(start + maxResults)
        return answer

    def stop_task(self, *, task: str, cluster: str | None = None, reason: str = "") -> dict[str, Any]:
        name = self._cluster(cluster, "StopTask")
        found = self._seen(name, task)
        if found is None:
            if task in self._tasks:
                self.kernel.sometimes("ecs: stop found no task yet")
            raise _refused("InvalidParameterException", "The referenced task was not found.", "StopTask")
        if not found.over and not found.stop_asked:
            self._stop(found, reason or "Task stopped by user")
        return {"task": _copied(found.facts)}

    def delete_cluster(self, name: str) -> None:
        """It goes with everything on it (fault 16). Add the name to `clusters` again, and it is an empty one."""
        self.clusters.discard(name)
        for task in [one for one in self._tasks.values() if f":task/{name}/" in one.arn]:
            if not task.over:
                self.kernel.sometimes("ecs: cluster deleted under tasks")
                task.over = True
                self._truth(task, "vanished", None)
            del self._tasks[task.arn]
        self._tokens = {key: task for key, task in self._tokens.items() if key[0] != name}

    # --- what is known --------------------------------------------------------------------------------------------------

    def _cluster(self, name: str | None, operation: str) -> str:
        short = (name or "default").rpartition("/")[2]
        if short not in self.clusters:
            raise _refused("ClusterNotFoundException", "Cluster not found.", operation)
        return short

    def _young(self, moment: datetime | None) -> bool:
        return moment is not None and (self.kernel.now - moment).total_seconds() < OLD_SECONDS

    def _seen(self, cluster: str, arn: str) -> _Task | None:
        """The task, where it is to be seen already, and still."""
        task = self._tasks.get(arn)
        if task is None or f":task/{cluster}/" not in arn:
            return None
        if task.stopped_at is not None and self.kernel.now - task.stopped_at >= FORGOTTEN_AFTER:
            self.kernel.sometimes("ecs: stopped task forgotten")
            del self._tasks[arn]
            return None
        if self.kernel.now < task.shown_from:
            self.kernel.sometimes("ecs: missing right after the start")
            return None
        return task

    def _token_known(self, task: _Task) -> bool:
        over = task.created_at + TOKEN_AGE_MAX
        if task.stopped_at is not None:
            over = min(over, task.stopped_at + FORGOTTEN_AFTER)
        return self.kernel.now < over

    def _again(self, task: _Task, request: Mapping[str, Any]) -> dict[str, Any]:
        if request != task.request:
            self.kernel.sometimes("ecs: same token, other request")
            error = _refused("ConflictException", "The request differs from the first one of its token.", "RunTask")
            if not self.kernel.happens("ecs conflict names no task"):
                error.response["resourceIds"] = [task.arn]  # type: ignore[typeddict-unknown-key]
            raise error
        if task.stopped_at is not None:
            self.kernel.sometimes("ecs: same token, ended task")
            return {"tasks": [{"taskArn": task.arn, "lastStatus": "STOPPED"}], "failures": []}
        self.kernel.sometimes("ecs: same token, same task")
        return {"tasks": [_copied(task.facts)], "failures": []}

    def _definition_to_run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        definition = self._definition(str(request["taskDefinition"]))
        if definition is None:
            raise _refused("ClientException", "TaskDefinition not found.", "RunTask")
        if self.kernel.happens("ecs definition deregistered"):
            definition["status"] = "INACTIVE"
        if definition["status"] != "ACTIVE":
            self.kernel.sometimes("ecs: definition was deregistered")
            raise _refused("ClientException", "TaskDefinition is inactive", "RunTask")
        if definition.get("networkMode") == "awsvpc" and "networkConfiguration" not in request:
            words = "Network Configuration must be provided when networkMode 'awsvpc' is specified."
            raise _refused("InvalidParameterException", words, "RunTask")
        return definition

    # --- the life of a task ---------------------------------------------------------------------------------------------

    def _made(self, cluster: str, definition: Mapping[str, Any], request: Mapping[str, Any]) -> _Task:
        kernel = self.kernel
        number = f"{kernel.random.getrandbits(128):032x}"
        arn = f"{_ARN}:task/{cluster}/{number}"
        strategy: Sequence[Mapping[str, Any]] = request.get("capacityProviderStrategy") or ({},)
        provider = str(strategy[0].get("capacityProvider", ""))
        given = list(definition["containerDefinitions"])
        containers = [
            {
                "containerArn": f"{_ARN}:container/{cluster}/{number}/{place}",
                "taskArn": arn,
                "name": one["name"],
                "image": one.get("image", ""),
                "lastStatus": "PENDING",
            }
            for place, one in enumerate(given)
        ]
        if kernel.happens("ecs sidecar fails"):
            containers.append({"taskArn": arn, "name": "aws-guardduty-agent", "image": "", "lastStatus": "PENDING"})
        facts: dict[str, Any] = {
            "taskArn": arn,
            "clusterArn": f"{_ARN}:cluster/{cluster}",
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "startedBy": request.get("startedBy", ""),
            "group": request.get("group") or f"family:{definition['family']}",
            "overrides": request.get("overrides", {}),
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "createdAt": kernel.now,
            "version": 1,
            "cpu": definition.get("cpu", ""),
            "memory": definition.get("memory", ""),
            "launchType": request.get("launchType") or ("FARGATE" if provider.startswith("FARGATE") else "EC2"),
            "containers": containers,
            "attachments": [],
            "tags": request.get("tags", []),
        }
        if provider:
            facts["capacityProviderName"] = provider
        ours = {one["key"].removeprefix("runfold:"): one["value"] for one in request.get("tags", ())}
        behaviour, execution = Behaviour(), None
        attempt = 1
        if "token" in ours:
            attempt = int(ours["attempt"])
            behaviour = self.behaviour(ours["run"], ours["job"], attempt)
            execution = Execution(Token(ours["token"]), kernel.now, arn)
            self.ledger.executions.append(execution)
        seconds, exit_code, fate = behaviour.of(attempt)
        spot = "spot" in provider.lower()
        if kernel.happens("ecs cannot pull the image"):
            fate = "never starts"
        elif spot and kernel.happens("ecs takes spot back"):
            fate = "vanishes"
        late = kernel.pick(LATE_SECONDS) if kernel.happens("ecs shows a task late") else 0.0
        main = next((one for one in given if one["name"] == _MAIN), given[0])
        return _Task(
            facts=facts,
            request=dict(request),
            created_at=kernel.now,
            shown_from=kernel.now + timedelta(seconds=late),
            seconds=seconds,
            exit_code=exit_code,
            fate=fate,
            spot=spot,
            stop_timeout_seconds=main.get("stopTimeout", STOP_TIMEOUT_SECONDS),
            execution=execution,
        )

    def _pend(self, task: _Task) -> None:
        if task.over:
            return
        self._becomes(task, lastStatus="PENDING")
        self.kernel.after(self.kernel.between(*PENDING_SECONDS), lambda: self._begin(task))

    def _begin(self, task: _Task) -> None:
        if task.over:
            return
        main = task.main()
        if task.fate == "never starts":
            self.kernel.sometimes("ecs: task never started")
            words = (
                f"CannotPullContainerError: pull image manifest has been retried 1 time(s): {main['image']}: not found"
            )
            self._truth(task, "never started", None)
            self._go(task, "TaskFailedToStart", words)
            return
        for one in task.facts["containers"]:
            one["lastStatus"] = "RUNNING"
        self._becomes(task, lastStatus="RUNNING", startedAt=self.kernel.now, pullStoppedAt=self.kernel.now)
        if task.fate == "vanishes":
            self.kernel.after(task.seconds * self.kernel.between(0.1, 0.9), lambda: self._lost(task))
        elif task.fate != "hangs":
            self.kernel.after(task.seconds, lambda: self._ended_itself(task))

    def _ended_itself(self, task: _Task) -> None:
        if task.over:
            return
        if task.stop_asked:
            self.kernel.sometimes("ecs: ended in spite of a stop")
        self._truth(task, "failed" if task.exit_code else "succeeded", task.exit_code)
        self._exit(task, task.exit_code)
        self._go(task, "EssentialContainerExited", "Essential container in task exited")

    def _lost(self, task: _Task) -> None:
        """Capacity or host is gone."""
        if task.over:
            return
        self._truth(task, "vanished", None)
        if task.spot:
            self.kernel.sometimes("ecs: spot taken back")
            self._exit(task, 143)
            self._go(task, "SpotInterruption", "Your Spot Task was interrupted.")
            return
        self.kernel.sometimes("ecs: host gone")
        self._go(task, "TerminationNotice", "Host EC2 (instance i-0123456789abcdef0) terminated.")

    def _stop(self, task: _Task, reason: str) -> None:
        task.stop_asked = True
        ran = "startedAt" in task.facts
        self._becomes(
            task,
            desiredStatus="STOPPED",
            stopCode="UserInitiated",
            stoppedReason=reason,
            stoppingAt=self.kernel.now,
        )
        if task.fate == "ignores stops":
            # The agent on its host does not hear of it before the work is done.
            return
        if ran and self.kernel.happens("ecs container ignores SIGTERM"):
            self.kernel.after(task.stop_timeout_seconds, lambda: self._stopped(task, 137))
        else:
            self.kernel.after(self.kernel.between(*SIGTERM_SECONDS), lambda: self._stopped(task, 143))

    def _stopped(self, task: _Task, exit_code: int) -> None:
        if task.over:
            return
        if "startedAt" in task.facts:
            if exit_code == 137:
                self.kernel.sometimes("ecs: killed after SIGTERM")
            self._truth(task, "stopped", exit_code)
            self._exit(task, exit_code)
        else:
            self.kernel.sometimes("ecs: stopped before it ran")
            self._truth(task, "stopped", None)
        self._go(task, "UserInitiated", "")

    def _exit(self, task: _Task, exit_code: int) -> None:
        """The containers' codes, where ECS learns them. Only the job's own means something."""
        for one in task.facts["containers"]:
            one["exitCode"] = 137 if one["name"] == "aws-guardduty-agent" else 0
        main = task.main()
        main["exitCode"] = exit_code
        if self.kernel.happens("ecs says no exit code"):
            self.kernel.sometimes("ecs: ended without exit code")
            del main["exitCode"]

    def _truth(self, task: _Task, outcome: str, exit_code: int | None) -> None:
        if task.execution is not None:
            task.execution.ended_at = self.kernel.now
            task.execution.outcome = outcome
            task.execution.exit_code = exit_code

    def _go(self, task: _Task, stop_code: str, reason: str) -> None:
        """Its containers have ended; the task itself takes its time. The first reason for a stop stays."""
        task.over = True
        for one in task.facts["containers"]:
            one["lastStatus"] = "STOPPED"
        self._becomes(
            task,
            lastStatus="DEPROVISIONING",
            desiredStatus="STOPPED",
            stopCode=task.facts.get("stopCode", stop_code),
            stoppedReason=task.facts.get("stoppedReason", reason),
            stoppingAt=task.facts.get("stoppingAt", self.kernel.now),
            executionStoppedAt=self.kernel.now,
        )
        self.kernel.after(self.kernel.between(*GOING_SECONDS), lambda: self._gone(task))

    def _gone(self, task: _Task) -> None:
        if task.arn not in self._tasks:
            return
        task.stopped_at = self.kernel.now
        self._becomes(task, lastStatus="STOPPED", stoppedAt=self.kernel.now)

    def _becomes(self, task: _Task, **facts: Any) -> None:
        task.before = _copied(task.facts, tags=True)
        task.changed_at = self.kernel.now
        task.facts.update(facts, version=task.facts["version"] + 1)
        self._tell(task)

    def _tell(self, task: _Task) -> None:
        now = _text(self.kernel.now)
        detail: dict[str, Any] = {
            key: _text(value) if isinstance(value, datetime) else value for key, value in _copied(task.facts).items()
        }
        detail["updatedAt"] = now
        if task.stopped_at is not None and self.kernel.happens("ecs event leaves out the exit code"):
            for one in detail["containers"]:
                one.pop("exitCode", None)
        self.emit(
            {
                "version": "0",
                "id": f"{self.kernel.random.getrandbits(128):032x}",
                "detail-type": "ECS Task State Change",
                "source": "aws.ecs",
                "account": _ACCOUNT,
                "time": now,
                "region": _REGION,
                "resources": [task.arn],
                "detail": detail,
            }
        )


def _copied(facts: Mapping[str, Any], *, tags: bool = False) -> dict[str, Any]:
    """Only containers change after the start; tags are told to those who ask for them."""
    copy = {**facts, "containers": [dict(one) for one in facts["containers"]]}
    if not tags:
        copy.pop("tags", None)
    return copy


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _refused(code: str, message: str, operation: str) -> ClientError:
    return error_of(code, message, operation, 400)
