"""EMR: clusters that run their steps one after the other as real processes, and end with them or live on. No tokens: asking twice
starts twice."""

import copy
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.compute.answers import NotServed, Refused
from tests.compute.events import Events
from tests.compute.faults import Faults
from tests.compute.processes import Processes, signal_group

ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
STEP_ENDED = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")
PAGE = 50


@dataclass(slots=True)
class _Step:
    facts: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None


@dataclass(slots=True)
class _Cluster:
    facts: dict[str, Any]
    directory: Path
    keep: bool
    steps: list[_Step] = field(default_factory=list)
    changed: threading.Event = field(default_factory=threading.Event)
    request: dict[str, Any] = field(default_factory=dict)

    def ended(self) -> bool:
        return self.facts["Status"]["State"] in ENDED


class Emr:
    prefix = "ElasticMapReduce"

    def __init__(self, faults: Faults, events: Events, processes: Processes, base: dict[str, str]) -> None:
        self._faults = faults
        self._events = events
        self._processes = processes
        self._base = base
        self._lock = threading.RLock()
        self.clusters: dict[str, _Cluster] = {}

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            # Answers are written out while clusters go on.
            return copy.deepcopy(self._called(operation, body))

    def _called(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "RunJobFlow":
                return self._start(body)
            case "AddJobFlowSteps":
                return self._add(body)
            case "ListSteps":
                return self._steps(body)
            case "DescribeStep":
                return {"Step": self._step(body["ClusterId"], body["StepId"]).facts}
            case "DescribeCluster":
                return {"Cluster": self._cluster(body["ClusterId"]).facts}
            case "ListClusters":
                return self._clusters(body)
            case "CancelSteps":
                return self._cancel(body)
            case "TerminateJobFlows":
                for number in body["JobFlowIds"]:
                    self.terminate(number, "USER_REQUEST", "Terminated by user request")
                return {}
            case _:
                raise NotServed(operation)

    # --- what tests do to it --------------------------------------------------------------------------------------------

    def terminate(self, number: str, code: str, message: str, state: str = "TERMINATED_WITH_ERRORS") -> None:
        """The cluster ends; its pending steps never say so (fault 18)."""
        cluster = self._cluster(number)
        if cluster.ended():
            return
        for step in cluster.steps:
            if step.process is not None and step.process.poll() is None:
                signal_group(step.process, 9)
        final = "TERMINATED" if code in ("USER_REQUEST", "ALL_STEPS_COMPLETED") else state
        self._tell_cluster(cluster, final, code, message)

    # --- operations -----------------------------------------------------------------------------------------------------

    def _start(self, body: dict[str, Any]) -> dict[str, Any]:
        number = f"j-{uuid.uuid4().hex[:13].upper()}"
        directory = self._processes.directory / "clusters" / number
        directory.mkdir(parents=True)
        facts: dict[str, Any] = {
            "Id": number,
            "Name": body["Name"],
            "Status": {"State": "STARTING", "StateChangeReason": {}, "Timeline": {"CreationDateTime": time.time()}},
            "Tags": body.get("Tags", []),
            "ReleaseLabel": body.get("ReleaseLabel", ""),
            "ClusterArn": f"arn:aws:elasticmapreduce:eu-central-1:123456789012:cluster/{number}",
        }
        keep = bool(body["Instances"].get("KeepJobFlowAliveWhenNoSteps"))
        cluster = _Cluster(facts, directory, keep, request=body)
        with self._lock:
            self.clusters[number] = cluster
        self._append(cluster, body.get("Steps", []))
        threading.Thread(target=self._live, args=(cluster,), daemon=True).start()
        return {"JobFlowId": number, "ClusterArn": facts["ClusterArn"]}

    def _add(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body["JobFlowId"])
        if cluster.facts["Status"]["State"] in ("TERMINATING", *ENDED):
            words = "A job flow that is shutting down, terminated, or finished may not be modified."
            raise Refused("ValidationException", words)
        active = sum(step.facts["Status"]["State"] not in STEP_ENDED for step in cluster.steps)
        if active + len(body["Steps"]) > self._faults.steps_max:
            words = (
                "Maximum number of active steps(State = 'Running', 'Pending' or 'Cancel_Pending') for cluster exceeded."
            )
            raise Refused("ValidationException", words)
        return {"StepIds": self._append(cluster, body["Steps"])}

    def _append(self, cluster: _Cluster, given: list[dict[str, Any]]) -> list[str]:
        ids = []
        with self._lock:
            for one in given:
                if len(one["Name"]) > 256 or sum(map(len, one["HadoopJarStep"].get("Args", []))) > 10_240:
                    raise Refused("ValidationException", "a step is too long")
                facts = {
                    "Id": f"s-{uuid.uuid4().hex[:13].upper()}",
                    "Name": one["Name"],
                    "Config": {"Jar": one["HadoopJarStep"]["Jar"], "Args": one["HadoopJarStep"].get("Args", [])},
                    "ActionOnFailure": one.get("ActionOnFailure", "TERMINATE_CLUSTER"),
                    "Status": {"State": "PENDING", "Timeline": {"CreationDateTime": time.time()}},
                }
                cluster.steps.append(_Step(facts))
                ids.append(str(facts["Id"]))
        cluster.changed.set()
        return ids

    def _steps(self, body: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(body["ClusterId"])
        wanted = body.get("StepIds")
        if wanted and len(wanted) > 10:
            raise Refused("InvalidRequestException", "at most 10 step ids")
        found = [
            step.facts
            for step in cluster.steps[::-1]
            if (not wanted or step.facts["Id"] in wanted)
            and step.facts["Status"]["State"] in body.get("StepStates", [step.facts["Status"]["State"]])
        ]
        return _page("Steps", found, body)

    def _clusters(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [
            one.facts
            for one in list(self.clusters.values())[::-1]
            if one.facts["Status"]["State"] in body.get("ClusterStates", [one.facts["Status"]["State"]])
            and one.facts["Status"]["Timeline"]["CreationDateTime"] >= body.get("CreatedAfter", 0)
            and one.facts["Status"]["Timeline"]["CreationDateTime"] < body.get("CreatedBefore", float("inf"))
        ]
        return _page("Clusters", found, body)

    def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        told = []
        for number in body["StepIds"]:
            step = self._step(body["ClusterId"], number)
            told.append({"StepId": number, "Status": "SUBMITTED"})
            if self._faults.cancel_is_ignored:
                continue
            with self._lock:
                if step.facts["Status"]["State"] == "PENDING":
                    self._tell_step(self._cluster(body["ClusterId"]), step, "CANCELLED", "Cancelled by user")
                elif step.process is not None and step.facts["Status"]["State"] not in STEP_ENDED:
                    step.facts["Status"]["State"] = "CANCEL_PENDING"
                    signal_group(step.process, 15 if body.get("StepCancellationOption") != "TERMINATE_PROCESS" else 9)
        return {"CancelStepsInfoList": told}

    def _cluster(self, number: str) -> _Cluster:
        cluster = self.clusters.get(number)
        if cluster is None:
            raise Refused("InvalidRequestException", f"Cluster id '{number}' is not valid.")
        return cluster

    def _step(self, cluster: str, number: str) -> _Step:
        for step in self._cluster(cluster).steps:
            if step.facts["Id"] == number:
                return step
        raise Refused("InvalidRequestException", f"Step id '{number}' is not valid.")

    # --- the life of a cluster ------------------------------------------------------------------------------------------

    def _live(self, cluster: _Cluster) -> None:
        time.sleep(self._faults.delay_seconds.get("STARTING", 0))
        if not cluster.ended():
            self._tell_cluster(cluster, "RUNNING" if cluster.steps else "WAITING", "", "")
        while not cluster.ended():
            step = next((one for one in cluster.steps if one.facts["Status"]["State"] == "PENDING"), None)
            if step is not None:
                self._execute(cluster, step)
            elif not cluster.keep:
                failed = any(one.facts["Status"]["State"] == "FAILED" for one in cluster.steps)
                state = "TERMINATED_WITH_ERRORS" if failed else "TERMINATED"
                code = "STEP_FAILURE" if failed else "ALL_STEPS_COMPLETED"
                self._tell_cluster(cluster, state, code, "Steps completed")
            else:
                cluster.changed.wait(0.05)
                cluster.changed.clear()

    def _execute(self, cluster: _Cluster, step: _Step) -> None:
        config = step.facts["Config"]
        words = list(config["Args"]) if config["Jar"] == "command-runner.jar" else ["java", "-jar", config["Jar"]]
        environment = {"PATH": self._processes.path, "HOME": "/", **self._base}
        log = cluster.directory / f"{step.facts['Id']}.log"
        code = 1
        with self._lock:
            if step.facts["Status"]["State"] != "PENDING" or cluster.ended():
                return
            step.facts["Status"]["Timeline"]["StartDateTime"] = time.time()
            self._tell_step(cluster, step, "RUNNING", "Step is running")
            try:
                step.process = self._processes.start(words, environment, cluster.directory, log)
            except OSError:
                step.process = None
        if step.process is not None:
            code = self._processes.wait(step.process)
        with self._lock:
            self._ended(cluster, step, code)

    def _ended(self, cluster: _Cluster, step: _Step, code: int) -> None:
        if cluster.ended():
            return
        if step.facts["Status"]["State"] == "CANCEL_PENDING" and code:
            self._tell_step(cluster, step, "CANCELLED", "Cancelled by user")
        elif code == 0:
            self._tell_step(cluster, step, "COMPLETED", "Step completed")
        else:
            step.facts["Status"]["FailureDetails"] = {
                "Reason": "Unknown Error.",
                "Message": f"Exit with code {code}",
                "LogFile": f"s3://logs/{cluster.facts['Id']}/steps/{step.facts['Id']}/stderr.gz",
            }
            self._tell_step(cluster, step, "FAILED", "Step failed")
            action = step.facts["ActionOnFailure"]
            if action == "CANCEL_AND_WAIT":
                for other in cluster.steps:
                    if other.facts["Status"]["State"] == "PENDING":
                        self._tell_step(cluster, other, "CANCELLED", "Cancelled because an earlier step failed")
            elif action in ("TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"):
                self.terminate(cluster.facts["Id"], "STEP_FAILURE", "Shut down as step failed")

    def _tell_step(self, cluster: _Cluster, step: _Step, state: str, message: str) -> None:
        step.facts["Status"]["State"] = state
        step.facts["Status"]["StateChangeReason"] = {"Message": message} if state in STEP_ENDED else {}
        if state in STEP_ENDED:
            step.facts["Status"]["Timeline"]["EndDateTime"] = time.time()
        detail = {
            "severity": "ERROR" if state == "FAILED" else "INFO",
            "actionOnFailure": step.facts["ActionOnFailure"],
            "stepId": step.facts["Id"],
            "name": step.facts["Name"],
            "clusterId": cluster.facts["Id"],
            "state": state,
            "message": f"Step {step.facts['Id']} ({step.facts['Name']}) in Amazon EMR cluster {cluster.facts['Id']}: {message}",
        }
        self._events.emit("aws.emr", "EMR Step Status Change", detail, [])

    def _tell_cluster(self, cluster: _Cluster, state: str, code: str, message: str) -> None:
        with self._lock:
            cluster.facts["Status"]["State"] = state
            cluster.facts["Status"]["StateChangeReason"] = {"Code": code, "Message": message} if code else {}
            if state in ENDED:
                cluster.facts["Status"]["Timeline"]["EndDateTime"] = time.time()
        reason = f'{{"code":"{code}","message":"{message}"}}'
        detail = {
            "severity": "INFO",
            "stateChangeReason": reason,
            "name": cluster.facts["Name"],
            "clusterId": cluster.facts["Id"],
            "state": state,
            "message": f"Amazon EMR cluster {cluster.facts['Id']} is {state} at {datetime.now(UTC).isoformat()}",
        }
        self._events.emit("aws.emr", "EMR Cluster State Change", detail, [])


def _page(key: str, found: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    start = int(body.get("Marker", 0))
    answer: dict[str, Any] = {key: found[start : start + PAGE]}
    if start + PAGE < len(found):
        answer["Marker"] = str(start + PAGE)
    return answer
