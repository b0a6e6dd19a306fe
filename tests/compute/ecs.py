"""ECS: task definitions, tasks whose containers are real processes, client tokens, and an end that takes its time to be told.

Containers share a volume as a directory: where a definition mounts it, every mention of that path in commands and variables becomes
the directory's, which is what a mount would look like from inside.
"""

import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.compute.answers import NotServed, Refused
from tests.compute.events import ACCOUNT, REGION, Events
from tests.compute.faults import Faults
from tests.compute.processes import Processes, signal_group

ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
OVERRIDES_MAX = 8192
KILL_CODE = 137


@dataclass(slots=True)
class _Container:
    definition: dict[str, Any]
    facts: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Task:
    facts: dict[str, Any]
    directory: Path
    containers: dict[str, _Container] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None


class Ecs:
    prefix = "AmazonEC2ContainerServiceV20141113"

    def __init__(self, faults: Faults, events: Events, processes: Processes, base: dict[str, str]) -> None:
        self._faults = faults
        self._events = events
        self._processes = processes
        self._base = base
        self._lock = threading.RLock()
        self.definitions: dict[str, list[dict[str, Any]]] = {}
        self.tasks: dict[str, _Task] = {}
        self._tokens: dict[tuple[str, str], tuple[Any, str]] = {}
        self.clusters = {"default"}
        self.secrets: dict[str, str] = {}
        self.commands: dict[str, list[str]] = {}
        """Image to what it runs when nothing else is said; `true` for others."""

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "RegisterTaskDefinition":
                return self._register(body)
            case "DescribeTaskDefinition":
                return {"taskDefinition": self._definition(body["taskDefinition"])}
            case "DeregisterTaskDefinition":
                self._definition(body["taskDefinition"])["status"] = "INACTIVE"
                return {"taskDefinition": {}}
            case "RunTask":
                return self._run(body)
            case "DescribeTasks":
                return self._describe(body)
            case "StopTask":
                return self._stop(body)
            case "ListTasks":
                return self._list(body)
            case "TagResource":
                return {}
            case _:
                raise NotServed(operation)

    # --- what tests do to it --------------------------------------------------------------------------------------------

    def interrupt(self, arn: str) -> None:
        """Spot capacity is taken back (fault 13)."""
        self._begin_stop(self.tasks[arn], "SpotInterruption", "Your Spot Task was interrupted.")

    def forget(self, arn: str) -> None:
        """As an hour after its end: neither task nor token."""
        with self._lock:
            self.tasks.pop(arn)
            self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] != arn}

    def delete_cluster(self, name: str) -> None:
        self.clusters.discard(name)

    # --- operations -----------------------------------------------------------------------------------------------------

    def _register(self, body: dict[str, Any]) -> dict[str, Any]:
        essential = {one["name"] for one in body["containerDefinitions"] if one.get("essential", True)}
        if not essential:
            raise Refused("ClientException", "A task must have at least one essential container.")
        for one in body["containerDefinitions"]:
            for before in one.get("dependsOn", []):
                if before["condition"] in ("COMPLETE", "SUCCESS") and before["containerName"] in essential:
                    raise Refused("ClientException", "This condition can't be set on an essential container.")
        if "FARGATE" in body.get("requiresCompatibilities", []) and not (body.get("cpu") and body.get("memory")):
            raise Refused("ClientException", "Fargate requires that 'cpu' be defined at the task level.")
        with self._lock:
            revisions = self.definitions.setdefault(body["family"], [])
            number = len(revisions) + 1
            definition = {
                **body,
                "revision": number,
                "status": "ACTIVE",
                "taskDefinitionArn": f"{ARN}:task-definition/{body['family']}:{number}",
            }
            definition.pop("tags", None)
            revisions.append(definition)
        return {"taskDefinition": definition}

    def _definition(self, name: str) -> dict[str, Any]:
        family, _, revision = name.rpartition("/")[2].partition(":")
        revisions = self.definitions.get(family, [])
        if revision:
            found = [one for one in revisions if str(one["revision"]) == revision]
        else:
            found = [one for one in revisions if one["status"] == "ACTIVE"]
        if not found:
            raise Refused("ClientException", "Unable to describe task definition.")
        return found[-1]

    def _run(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body)
        token = body.get("clientToken")
        with self._lock:
            self._expire()
            known = self._tokens.get((cluster, token)) if token else None
            if known is not None:
                if known[0] != body:
                    raise Refused("ConflictException", "The request differs from the first.", resourceIds=[known[1]])
                first = self.tasks[known[1]]
                if first.ended is not None:
                    return {"tasks": [{"taskArn": known[1], "lastStatus": "STOPPED"}], "failures": []}
                return {"tasks": [_copied(first.facts)], "failures": []}
            try:
                definition = self._definition(body["taskDefinition"])
            except Refused as error:
                raise Refused("ClientException", "TaskDefinition not found.") from error
            if definition["status"] != "ACTIVE":
                raise Refused("ClientException", "TaskDefinition is inactive")
            if len(str(body.get("overrides", ""))) > OVERRIDES_MAX * 2:
                raise Refused("InvalidParameterException", "Container overrides length must be at most 8192.")
            if definition["networkMode"] == "awsvpc" and "networkConfiguration" not in body:
                raise Refused("InvalidParameterException", "Network Configuration must be provided for awsvpc.")
            if self._faults.room:
                return {"tasks": [], "failures": list(self._faults.room)}
            task = self._make(cluster, definition, body)
            arn = task.facts["taskArn"]
            self.tasks[arn] = task
            if token:
                self._tokens[(cluster, token)] = (body, arn)
            answer = {"tasks": [_copied(task.facts)], "failures": []}
        threading.Thread(target=self._live, args=(task,), daemon=True).start()
        return answer

    def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        self._cluster(body)
        found, failures = [], []
        with self._lock:
            self._expire()
            for arn in body["tasks"]:
                task = self.tasks.get(arn)
                if task is None or time.monotonic() - task.began < self._faults.missing_seconds:
                    failures.append({"arn": arn, "reason": "MISSING"})
                else:
                    found.append(_copied(task.facts))
        return {"tasks": found, "failures": failures}

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body)
        if "startedBy" in body and len(set(body) & {"family", "serviceName", "desiredStatus", "launchType"}):
            raise Refused("InvalidParameterException", "startedBy must be the only filter.")
        wanted = body.get("desiredStatus", "RUNNING")
        with self._lock:
            arns = [
                arn
                for arn, task in self.tasks.items()
                if f"/{cluster}/" in arn
                and task.facts["desiredStatus"] == wanted
                and ("family" not in body or f"/{body['family']}:" in task.facts["taskDefinitionArn"])
                and body.get("startedBy", task.facts["startedBy"]) == task.facts["startedBy"]
                and time.monotonic() - task.began >= self._faults.missing_seconds
            ]
        return {"taskArns": arns}

    def _stop(self, body: dict[str, Any]) -> dict[str, Any]:
        self._cluster(body)
        task = self.tasks.get(body["task"])
        if task is None:
            raise Refused("InvalidParameterException", "The referenced task was not found.")
        if task.ended is None:
            self._begin_stop(task, "UserInitiated", body.get("reason", "Task stopped by user"))
        return {"task": _copied(task.facts)}

    def _cluster(self, body: dict[str, Any]) -> str:
        name = str(body.get("cluster", "default")).rpartition("/")[2]
        if name not in self.clusters:
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        return name

    def _expire(self) -> None:
        now = time.monotonic()
        for arn, task in list(self.tasks.items()):
            if task.ended is not None and now - task.ended > self._faults.stopped_seconds:
                del self.tasks[arn]
        self._tokens = {
            key: kept
            for key, kept in self._tokens.items()
            if (told := self.tasks.get(kept[1])) is not None
            and (told.ended is None or now - told.ended <= self._faults.token_seconds)
        }

    # --- the life of a task ---------------------------------------------------------------------------------------------

    def _make(self, cluster: str, definition: dict[str, Any], body: dict[str, Any]) -> _Task:
        number = uuid.uuid4().hex
        directory = self._processes.directory / "tasks" / number
        directory.mkdir(parents=True)
        facts: dict[str, Any] = {
            "taskArn": f"{ARN}:task/{cluster}/{number}",
            "clusterArn": f"{ARN}:cluster/{cluster}",
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "startedBy": body.get("startedBy", ""),
            "group": body.get("group") or f"family:{definition['family']}",
            "overrides": body.get("overrides", {}),
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "createdAt": time.time(),
            "version": 1,
            "cpu": definition.get("cpu", ""),
            "memory": definition.get("memory", ""),
            "launchType": body.get("launchType", "FARGATE"),
            "tags": body.get("tags", []),
            "containers": [],
        }
        if "capacityProviderStrategy" in body:
            facts["capacityProviderName"] = body["capacityProviderStrategy"][0]["capacityProvider"]
        task = _Task(facts, directory)
        overrides = {one["name"]: one for one in facts["overrides"].get("containerOverrides", [])}
        for one in definition["containerDefinitions"]:
            name = one["name"]
            seen = {
                "name": name,
                "image": one["image"],
                "containerArn": f"{ARN}:container/{cluster}/{number}/{uuid.uuid4()}",
                "taskArn": facts["taskArn"],
                "lastStatus": "PENDING",
            }
            facts["containers"].append(seen)
            task.containers[name] = _Container({**one, "override": overrides.get(name, {})}, seen)
        if self._faults.sidecar_code is not None:
            facts["containers"].append(
                {"name": "guard", "lastStatus": "STOPPED", "exitCode": self._faults.sidecar_code, "image": "guard"}
            )
        return task

    def _live(self, task: _Task) -> None:
        self._tell(task, "PENDING")
        task.stopping.wait(self._faults.delay_seconds.get("PENDING", 0))
        for container in task.containers.values():
            image = container.definition["image"]
            if image in self._faults.images_missing:
                words = f"CannotPullContainerError: pull image manifest: {image}: not found"
                self._end(task, "TaskFailedToStart", words)
                return
            for one in container.definition.get("secrets", []):
                if one["valueFrom"] not in self.secrets:
                    words = f"ResourceInitializationError: unable to pull secrets: {one['valueFrom']}"
                    self._end(task, "TaskFailedToStart", words)
                    return
        if not task.stopping.is_set():
            task.facts["startedAt"] = time.time()
            self._tell(task, "RUNNING")
        threads = [
            threading.Thread(target=self._container, args=(task, one), daemon=True) for one in task.containers.values()
        ]
        for thread in threads:
            thread.start()
        for container in task.containers.values():
            if container.definition.get("essential", True):
                container.ended.wait()
        if task.facts.get("stopCode") is None:
            task.facts["stopCode"] = "EssentialContainerExited"
            task.facts["stoppedReason"] = "Essential container in task exited"
        task.stopping.set()
        self._end_processes(task)
        for thread in threads:
            thread.join()
        self._tell(task, "DEPROVISIONING")
        self._end(task, task.facts["stopCode"], task.facts["stoppedReason"])

    def _container(self, task: _Task, container: _Container) -> None:
        try:
            for before in container.definition.get("dependsOn", []):
                other = task.containers[before["containerName"]]
                while not other.ended.wait(0.01):
                    if task.stopping.is_set():
                        return
                if before["condition"] == "SUCCESS" and other.facts.get("exitCode") != 0:
                    container.facts["reason"] = f"dependency {before['containerName']} did not succeed"
                    container.facts["lastStatus"] = "STOPPED"
                    return
                if before["condition"] == "COMPLETE" and other.facts.get("exitCode") is None and other.process is None:
                    container.facts["lastStatus"] = "STOPPED"
                    return
            if task.stopping.is_set():
                return
            self._execute(task, container)
        finally:
            container.facts["lastStatus"] = "STOPPED"
            container.ended.set()

    def _execute(self, task: _Task, container: _Container) -> None:
        definition, override = container.definition, container.definition["override"]
        mounts = {
            mount["containerPath"]: str(task.directory / "volumes" / mount["sourceVolume"])
            for mount in definition.get("mountPoints", [])
        }
        for place in mounts.values():
            Path(place).mkdir(parents=True, exist_ok=True)

        def inside(text: str) -> str:
            for path, place in mounts.items():
                text = text.replace(path, place)
            return text

        environment = {"PATH": self._processes.path, "HOME": "/", **self._base}
        for one in [*definition.get("environment", []), *override.get("environment", [])]:
            environment[one["name"]] = inside(one["value"])
        for one in definition.get("secrets", []):
            environment[one["name"]] = self.secrets[one["valueFrom"]]
        command = override.get("command") or definition.get("command") or []
        words = [inside(word) for word in [*definition.get("entryPoint", []), *command]]
        words = words or self.commands.get(definition["image"], ["true"])
        directory = Path(inside(definition["workingDirectory"])) if "workingDirectory" in definition else task.directory
        log = task.directory / f"{definition['name']}.log"
        try:
            container.process = self._processes.start(words, environment, directory, log)
        except OSError as error:
            container.facts["reason"] = (
                f"CannotStartContainerError: failed to create task: exec: {words[0]!r}: executable file not found ({error})"
            )
            return
        container.facts["lastStatus"] = "RUNNING"
        if task.stopping.is_set():
            threading.Thread(target=self._end_processes, args=(task,), daemon=True).start()
        code = self._processes.wait(container.process)
        if not self._faults.exit_codes_lost:
            container.facts["exitCode"] = code

    def _begin_stop(self, task: _Task, code: str, reason: str) -> None:
        with self._lock:
            if task.facts.get("stopCode") is None:
                task.facts |= {"stopCode": code, "stoppedReason": reason, "stoppingAt": time.time()}
        task.facts["desiredStatus"] = "STOPPED"
        task.stopping.set()
        self._tell(task, "DEACTIVATING")
        threading.Thread(target=self._end_processes, args=(task,), daemon=True).start()

    def _end_processes(self, task: _Task) -> None:
        for container in task.containers.values():
            process = container.process
            if process is not None and process.poll() is None:
                signal_group(process, 15)
                grace = container.definition.get("stopTimeout", 30)
                if not container.ended.wait(grace):
                    signal_group(process, 9)

    def _end(self, task: _Task, code: str, reason: str) -> None:
        task.facts |= {
            "stopCode": code,
            "stoppedReason": reason,
            "desiredStatus": "STOPPED",
            "stoppedAt": time.time(),
            "executionStoppedAt": time.time(),
        }
        task.ended = time.monotonic()
        for container in task.facts["containers"]:
            container["lastStatus"] = "STOPPED"
        self._tell(task, "STOPPED")

    def _tell(self, task: _Task, status: str) -> None:
        with self._lock:
            task.facts["lastStatus"] = status
            task.facts["version"] += 1
            detail = _copied(task.facts)
        # Events say instants as text, and leave out what descriptions have.
        for key in ("createdAt", "startedAt", "stoppingAt", "stoppedAt", "executionStoppedAt"):
            if key in detail:
                detail[key] = datetime.fromtimestamp(detail[key], UTC).isoformat().replace("+00:00", "Z")
        detail.pop("tags")
        detail["updatedAt"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._events.emit("aws.ecs", "ECS Task State Change", detail, [detail["taskArn"]])


def _copied(facts: dict[str, Any]) -> dict[str, Any]:
    return {**facts, "containers": [dict(one) for one in facts["containers"]]}
