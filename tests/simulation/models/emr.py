"""EMR in simulated time: clusters, their steps, and everything that EMR does not promise.

Kept, as AWS documents it:
* no call takes a token: asked twice, it is done twice (fault 17);
* a cluster goes STARTING, BOOTSTRAPPING, RUNNING or WAITING, TERMINATING, TERMINATED or TERMINATED_WITH_ERRORS, with an event each time;
* one step runs at a time, in the order in which they were added, whoever's they are; ListSteps tells the newest first, 50 a page;
* a cluster holds at most 256 steps that have not ended (fault 19), and takes none once it is going;
* a failed step does what its ActionOnFailure says, to other jobs' steps as well (fault 22);
* a cluster that ends leaves its pending steps PENDING for ever (fault 18); what becomes of the running one is not promised either;
* CancelSteps is accepted and promises nothing: the step may complete (fault 20), or need a second word;
* lists show new clusters and steps late, and how they were before.

A piece of work is what one call asked for: a cluster with its steps, or steps for a cluster that is there.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from shared.ids import Token
from tests.simulation.kernel import Kernel
from tests.simulation.models.model import Behaviour, Execution, Ledger, Model, error_of

FAULTS = (
    "emr lists late",
    "emr shows an old state",
    "emr cluster is full",
    "emr has no capacity",
    "emr bootstrap fails",
    "emr cluster dies",
    "emr shared cluster dies",
    "emr leaves the running step as it was",
    "emr cancels the pending steps of an ended cluster",
    "emr ends steps before their cluster",
    "emr cancel promises nothing",
    "emr step ignores the interrupt",
)
"""What `Kernel.happens` is asked for here, beside what `Client` asks."""

BRANCHES = (
    "emr: steps refused, too many",
    "emr: steps refused, cluster going",
    "emr: not listed yet",
    "emr: told how it was before",
    "emr: cluster never started",
    "emr: cluster died",
    "emr: step stays pending on an ended cluster",
    "emr: step stays running on an ended cluster",
    "emr: step interrupted by the end of its cluster",
    "emr: failed step ended its cluster",
    "emr: failed step cancelled others",
    "emr: pending step cancelled",
    "emr: running step cancelled",
    "emr: step never started",
    "emr: completed in spite of a cancel",
    "emr: completed in spite of a termination",
)
"""What `Kernel.sometimes` counts here."""

STEPS_MAX = 256
"""Steps of a cluster that have not ended."""
STEP_IDS_MAX = 10
NAME_MAX = 256
ARGUMENTS_MAX = 10_240
PAGE = 50
OLD_SECONDS = 10.0
"""So long after a change, a list may still say what was before."""
LATE_SECONDS = (2.0, 10.0, 60.0)
"""How long lists may not show what is new."""

STARTING_SECONDS = (60.0, 240.0)
BOOTSTRAPPING_SECONDS = (20.0, 90.0)
TERMINATING_SECONDS = (5.0, 60.0)
STEP_START_SECONDS = (0.5, 5.0)
INTERRUPT_SECONDS = (1.0, 20.0)

_ACCOUNT = "123456789012"
_REGION = "eu-central-1"
_MARKER = re.compile(r" #(?P<token>[a-z2-7]{32}) (?P<run>\S+)/(?P<job>[^/ ]+)/(?P<attempt>\d+)$")
_STEP_ENDED = frozenset({"COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED"})
_ENDED = frozenset({"TERMINATED", "TERMINATED_WITH_ERRORS"})
_NUMBERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(slots=True, eq=False)
class _Step:
    facts: dict[str, Any]
    work: "_Work"
    created_at: datetime
    shown_from: datetime
    before: dict[str, Any] | None = None
    changed_at: datetime | None = None

    @property
    def id(self) -> str:
        return str(self.facts["Id"])

    @property
    def state(self) -> str:
        return str(self.facts["Status"]["State"])


@dataclass(slots=True, eq=False)
class _Work:
    """What one call asked for."""

    seconds: float
    exit_code: int
    fate: str
    execution: Execution | None
    steps: list[_Step] = field(default_factory=list)
    begun: bool = False
    stop_asked: bool = False

    def odd(self) -> _Step:
        """The step that goes wrong, if one does: with others before and behind it where there are enough."""
        return self.steps[len(self.steps) // 2]


@dataclass(slots=True, eq=False)
class _Cluster:
    facts: dict[str, Any]
    keep: bool
    created_at: datetime
    shown_from: datetime
    own: _Work | None = None
    """The work it was started for."""
    steps: list[_Step] = field(default_factory=list)
    works: list[_Work] = field(default_factory=list)
    queue: deque[_Step] = field(default_factory=deque)
    running: _Step | None = None
    active: int = 0
    """Steps that have not ended."""
    before: dict[str, Any] | None = None
    changed_at: datetime | None = None

    @property
    def id(self) -> str:
        return str(self.facts["Id"])

    @property
    def state(self) -> str:
        return str(self.facts["Status"]["State"])

    def going(self) -> bool:
        return self.state == "TERMINATING" or self.state in _ENDED


class Emr(Model):
    """The calls of `EmrExecutor`, by the names and with the arguments of boto3. Answers are copies.

    `shared`: ids of clusters that are there from the beginning, and wait for steps.
    """

    service = "emr"

    def __init__(
        self,
        kernel: Kernel,
        ledger: Ledger,
        behaviour: Callable[[str, str, int], Behaviour],
        emit: Callable[[Mapping[str, Any]], None],
        *,
        shared: Iterable[str] = ("j-SHARED",),
        steps_max: int = STEPS_MAX,
    ) -> None:
        super().__init__(kernel, ledger, behaviour, emit)
        self.steps_max = steps_max
        self._clusters: dict[str, _Cluster] = {}
        for number in shared:
            cluster = self._cluster_made(number, "shared", [], keep=True)
            cluster.facts["Status"]["State"] = "WAITING"
            self._clusters[number] = cluster

    # --- starting -------------------------------------------------------------------------------------------------------

    def run_job_flow(self, **request: Any) -> dict[str, Any]:
        kernel = self.kernel
        given = request.get("Steps") or []
        self._fits(request["Name"], given, "RunJobFlow")
        keep = bool((request.get("Instances") or {}).get("KeepJobFlowAliveWhenNoSteps"))
        cluster = self._cluster_made(f"j-{self._number()}", request["Name"], request.get("Tags") or [], keep=keep)
        self._clusters[cluster.id] = cluster
        tags = {one["Key"].removeprefix("runfold:"): one["Value"] for one in request.get("Tags") or ()}
        cluster.own = self._work(tags if "token" in tags else _named(request["Name"]), cluster.id)
        self._tell_cluster(cluster)
        self._append(cluster, cluster.own, given)
        kernel.after(kernel.between(*STARTING_SECONDS), lambda: self._bootstrap(cluster))
        return {"JobFlowId": cluster.id, "ClusterArn": cluster.facts["ClusterArn"]}

    def add_job_flow_steps(self, *, JobFlowId: str, Steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        cluster = self._found(JobFlowId, "AddJobFlowSteps")
        self._fits("", Steps, "AddJobFlowSteps")
        if cluster.going():
            self.kernel.sometimes("emr: steps refused, cluster going")
            words = "A job flow that is shutting down, terminated, or finished may not be modified."
            raise _refused("ValidationException", words, "AddJobFlowSteps")
        if cluster.active + len(Steps) > self.steps_max or self.kernel.happens("emr cluster is full"):
            self.kernel.sometimes("emr: steps refused, too many")
            words = f"Maximum number of active steps(State = 'Running', 'Pending' or 'Cancel_Pending') for cluster exceeded: {self.steps_max}."
            raise _refused("ValidationException", words, "AddJobFlowSteps")
        work = self._work(_named(Steps[0]["Name"]), JobFlowId)
        ids = self._append(cluster, work, Steps)
        if work.execution is not None:
            work.execution.handle = f"{JobFlowId}/{','.join(ids)}"
        self._next_soon(cluster)
        return {"StepIds": ids}

    def _fits(self, name: str, steps: Sequence[Mapping[str, Any]], operation: str) -> None:
        if len(name) > NAME_MAX or len(steps) > STEPS_MAX:
            raise _refused("ValidationException", "Name or number of steps is too long.", operation)
        for step in steps:
            if len(step["Name"]) > NAME_MAX or sum(map(len, step["HadoopJarStep"].get("Args", ()))) > ARGUMENTS_MAX:
                raise _refused("ValidationException", "A step's name or arguments are too long.", operation)

    def _cluster_made(self, number: str, name: str, tags: Sequence[Mapping[str, Any]], *, keep: bool) -> _Cluster:
        now = self.kernel.now
        facts: dict[str, Any] = {
            "Id": number,
            "Name": name,
            "Status": {"State": "STARTING", "StateChangeReason": {}, "Timeline": {"CreationDateTime": now}},
            "Tags": list(tags),
            "ClusterArn": f"arn:aws:elasticmapreduce:{_REGION}:{_ACCOUNT}:cluster/{number}",
        }
        return _Cluster(facts, keep, now, self._shown_from())

    def _work(self, ours: Mapping[str, str], handle: str) -> _Work:
        """Work that is not ours has no execution, and ends well in a minute."""
        if "token" not in ours:
            return _Work(*Behaviour().of(1), execution=None)
        attempt = int(ours["attempt"])
        execution = Execution(Token(ours["token"]), self.kernel.now, handle)
        self.ledger.executions.append(execution)
        return _Work(*self.behaviour(ours["run"], ours["job"], attempt).of(attempt), execution=execution)

    def _append(self, cluster: _Cluster, work: _Work, given: Sequence[Mapping[str, Any]]) -> list[str]:
        cluster.works.append(work)
        shown_from = self._shown_from()
        for one in given:
            jar = one["HadoopJarStep"]
            facts = {
                "Id": f"s-{self._number()}",
                "Name": one["Name"],
                "Config": {"Jar": jar["Jar"], "Args": jar.get("Args", [])},
                "ActionOnFailure": one.get("ActionOnFailure", "TERMINATE_CLUSTER"),
                "Status": {
                    "State": "PENDING",
                    "StateChangeReason": {},
                    "Timeline": {"CreationDateTime": self.kernel.now},
                },
            }
            step = _Step(facts, work, self.kernel.now, shown_from)
            work.steps.append(step)
            cluster.steps.append(step)
            cluster.queue.append(step)
            cluster.active += 1
            self._tell_step(cluster, step, "Step was added")
        return [step.id for step in work.steps]

    def _shown_from(self) -> datetime:
        late = self.kernel.pick(LATE_SECONDS) if self.kernel.happens("emr lists late") else 0.0
        return self.kernel.now + timedelta(seconds=late)

    def _number(self) -> str:
        return "".join(self.kernel.random.choices(_NUMBERS, k=13))

    # --- describing -----------------------------------------------------------------------------------------------------

    def describe_cluster(self, *, ClusterId: str) -> dict[str, Any]:
        cluster = self._found(ClusterId, "DescribeCluster")
        return {"Cluster": self._as_told(cluster)}

    def describe_step(self, *, ClusterId: str, StepId: str) -> dict[str, Any]:
        step = self._step(self._found(ClusterId, "DescribeStep"), StepId)
        if step is None or not self._is_shown(step):
            raise _refused("InvalidRequestException", f"Step id '{StepId}' is not valid.", "DescribeStep")
        return {"Step": self._as_told(step)}

    def list_steps(
        self,
        *,
        ClusterId: str,
        StepIds: Sequence[str] | None = None,
        StepStates: Sequence[str] | None = None,
        Marker: str | None = None,
    ) -> dict[str, Any]:
        cluster = self._found(ClusterId, "ListSteps")
        if StepIds is not None and len(StepIds) > STEP_IDS_MAX:
            raise _refused("InvalidRequestException", "At most 10 step ids may be given.", "ListSteps")
        found = [
            step
            for step in reversed(cluster.steps)
            if (StepIds is None or step.id in StepIds)
            and (StepStates is None or step.state in StepStates)
            and self._is_shown(step)
        ]
        return self._page("Steps", found, Marker)

    def list_clusters(
        self,
        *,
        CreatedAfter: datetime | None = None,
        CreatedBefore: datetime | None = None,
        ClusterStates: Sequence[str] | None = None,
        Marker: str | None = None,
    ) -> dict[str, Any]:
        found = [
            cluster
            for cluster in reversed(self._clusters.values())
            if (CreatedAfter is None or cluster.created_at >= CreatedAfter)
            and (CreatedBefore is None or cluster.created_at <= CreatedBefore)
            and (ClusterStates is None or cluster.state in ClusterStates)
            and self._is_shown(cluster)
        ]
        return self._page("Clusters", found, Marker)

    def _page(self, key: str, found: Sequence[_Step | _Cluster], marker: str | None) -> dict[str, Any]:
        start = int(marker or 0)
        answer: dict[str, Any] = {key: [self._as_told(one) for one in found[start : start + PAGE]]}
        if start + PAGE < len(found):
            answer["Marker"] = str(start + PAGE)
        return answer

    def _found(self, number: str, operation: str) -> _Cluster:
        cluster = self._clusters.get(number)
        if cluster is None:
            raise _refused("InvalidRequestException", f"Cluster id '{number}' is not valid.", operation)
        return cluster

    def _step(self, cluster: _Cluster, number: str) -> _Step | None:
        return next((step for step in cluster.steps if step.id == number), None)

    def _is_shown(self, one: _Step | _Cluster) -> bool:
        if self.kernel.now >= one.shown_from:
            return True
        self.kernel.sometimes("emr: not listed yet")
        return False

    def _as_told(self, one: _Step | _Cluster) -> dict[str, Any]:
        young = one.changed_at is not None and (self.kernel.now - one.changed_at).total_seconds() < OLD_SECONDS
        if one.before is not None and young and self.kernel.happens("emr shows an old state"):
            self.kernel.sometimes("emr: told how it was before")
            return _copied(one.before)
        return _copied(one.facts)

    # --- stopping -------------------------------------------------------------------------------------------------------

    def cancel_steps(
        self, *, ClusterId: str, StepIds: Sequence[str], StepCancellationOption: str = "SEND_INTERRUPT"
    ) -> dict[str, Any]:
        cluster = self._found(ClusterId, "CancelSteps")
        told = []
        for number in StepIds:
            step = self._step(cluster, number)
            if step is None or step.state in _STEP_ENDED or cluster.going():
                words = "Step is not in a state that can be cancelled"
                told.append({"StepId": number, "Status": "FAILED", "Reason": words})
                continue
            told.append({"StepId": number, "Status": "SUBMITTED"})
            step.work.stop_asked = True
            if step.work.fate != "ignores stops" and not self.kernel.happens("emr cancel promises nothing"):
                self._cancel(cluster, step, killing=StepCancellationOption == "TERMINATE_PROCESS")
        return {"CancelStepsInfoList": told}

    def _cancel(self, cluster: _Cluster, step: _Step, *, killing: bool) -> None:
        if step.state == "PENDING":
            self.kernel.sometimes("emr: pending step cancelled")
            self._end_step(cluster, step, "CANCELLED", "Cancelled by user")
            self._next_soon(cluster)
            return
        if step.state == "RUNNING":
            self._step_becomes(cluster, step, "CANCEL_PENDING", "Cancelling")
            if not killing and self.kernel.happens("emr step ignores the interrupt"):
                return
        self.kernel.after(self.kernel.between(*INTERRUPT_SECONDS), lambda: self._cancelled(cluster, step))

    def _cancelled(self, cluster: _Cluster, step: _Step) -> None:
        if cluster.running is not step:
            return
        self.kernel.sometimes("emr: running step cancelled")
        cluster.running = None
        self._end_step(cluster, step, "CANCELLED", "Cancelled by user")
        self._next_soon(cluster)

    def terminate_job_flows(self, *, JobFlowIds: Sequence[str]) -> dict[str, Any]:
        for cluster in [self._found(number, "TerminateJobFlows") for number in JobFlowIds]:
            for work in cluster.works:
                work.stop_asked = True
            if cluster.own is not None and cluster.own.fate == "ignores stops" and cluster.active:
                # It is accepted, and takes so long that the steps are done before.
                continue
            self._shut(cluster, "USER_REQUEST", "Terminated by user request")
        return {}

    # --- the life of a cluster ------------------------------------------------------------------------------------------

    def terminate(self, number: str) -> None:
        """An instance fails, and the cluster with it (faults 18 and 26)."""
        self._die(self._clusters[number])

    def _bootstrap(self, cluster: _Cluster) -> None:
        if cluster.state != "STARTING":
            return
        if self.kernel.happens("emr has no capacity"):
            words = "The requested instance type is not available: insufficient capacity"
            self._never_starts(cluster, "VALIDATION_ERROR", words)
            return
        if cluster.own is not None and cluster.own.fate == "never starts":
            self._never_starts(cluster, "INTERNAL_ERROR", "Failed to provision hosts")
            return
        self._cluster_becomes(cluster, "BOOTSTRAPPING")
        self.kernel.after(self.kernel.between(*BOOTSTRAPPING_SECONDS), lambda: self._ready(cluster))

    def _never_starts(self, cluster: _Cluster, code: str, words: str) -> None:
        self.kernel.sometimes("emr: cluster never started")
        self._shut(cluster, code, words)

    def _ready(self, cluster: _Cluster) -> None:
        if cluster.state != "BOOTSTRAPPING":
            return
        if self.kernel.happens("emr bootstrap fails"):
            self._never_starts(cluster, "BOOTSTRAP_FAILURE", "On the master instance, bootstrap action 1 failed")
            return
        self._cluster_becomes(cluster, "RUNNING", at="ReadyDateTime")
        self._next(cluster)

    def _next_soon(self, cluster: _Cluster) -> None:
        self.kernel.after(self.kernel.between(*STEP_START_SECONDS), lambda: self._next(cluster))

    def _next(self, cluster: _Cluster) -> None:
        if cluster.running is not None or cluster.state not in ("RUNNING", "WAITING"):
            return
        while cluster.queue:
            step = cluster.queue.popleft()
            if step.state == "PENDING":
                if cluster.state == "WAITING":
                    self._cluster_becomes(cluster, "RUNNING")
                self._begin(cluster, step)
                return
        if not cluster.keep:
            failed = any(step.state == "FAILED" for step in cluster.steps)
            words = "Steps completed with errors" if failed else "Steps completed"
            if cluster.own is not None and cluster.own.stop_asked:
                self.kernel.sometimes("emr: completed in spite of a termination")
            self._shut(cluster, "ALL_STEPS_COMPLETED", words)
        elif cluster.state == "RUNNING":
            self._cluster_becomes(cluster, "WAITING")

    def _begin(self, cluster: _Cluster, step: _Step) -> None:
        kernel, work = self.kernel, step.work
        if work.fate == "never starts":
            kernel.sometimes("emr: step never started")
            self._fail(cluster, step, "Unable to fetch jar")
            return
        work.begun = True
        cluster.running = step
        self._step_becomes(cluster, step, "RUNNING", "Step is running", at="StartDateTime")
        seconds = work.seconds / len(work.steps)
        odd = step is work.odd()
        if kernel.happens("emr cluster dies" if cluster.own is work else "emr shared cluster dies") or (
            odd and work.fate == "vanishes"
        ):
            kernel.after(seconds * kernel.between(0.1, 0.9), lambda: self._die(cluster))
        elif not (odd and work.fate == "hangs"):
            kernel.after(seconds, lambda: self._ended_itself(cluster, step, work.exit_code if odd else 0))

    def _ended_itself(self, cluster: _Cluster, step: _Step, exit_code: int) -> None:
        if cluster.running is not step:
            return
        cluster.running = None
        if exit_code:
            self._fail(cluster, step, f"Exit with code {exit_code}")
            return
        if step.work.stop_asked:
            self.kernel.sometimes("emr: completed in spite of a cancel")
        self._end_step(cluster, step, "COMPLETED", "Step completed")
        self._next_soon(cluster)

    def _fail(self, cluster: _Cluster, step: _Step, words: str) -> None:
        log = f"s3://logs/{cluster.id}/steps/{step.id}/stderr.gz"
        details = {"Reason": "Unknown Error.", "Message": words, "LogFile": log}
        self._end_step(cluster, step, "FAILED", "Step failed", FailureDetails=details)
        action = step.facts["ActionOnFailure"]
        if action in ("TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"):
            self.kernel.sometimes("emr: failed step ended its cluster")
            self._shut(cluster, "STEP_FAILURE", "Shut down as step failed")
            return
        if action == "CANCEL_AND_WAIT":
            for other in list(cluster.queue):
                if other.state == "PENDING":
                    self.kernel.sometimes("emr: failed step cancelled others")
                    self._end_step(cluster, other, "CANCELLED", "Cancelled because an earlier step failed")
        self._next_soon(cluster)

    def _die(self, cluster: _Cluster) -> None:
        if not cluster.going():
            self.kernel.sometimes("emr: cluster died")
            self._shut(cluster, "INSTANCE_FAILURE", "The master node was terminated")

    def _shut(self, cluster: _Cluster, code: str, words: str) -> None:
        """Nothing of it works any more; what the steps say of that is another matter."""
        if cluster.going():
            return
        interrupted, cluster.running = cluster.running, None
        self._cluster_becomes(cluster, "TERMINATING", StateChangeReason={"Code": code, "Message": words})
        for work in cluster.works:
            if any(step.state == "FAILED" for step in work.steps):
                self._truth(work, "failed")
            elif code == "USER_REQUEST":
                self._truth(work, "stopped")
            else:
                self._truth(work, "vanished" if work.begun else "never started")
        if self.kernel.happens("emr ends steps before their cluster"):
            self._leave(cluster, interrupted)
            interrupted = None
        self.kernel.after(self.kernel.between(*TERMINATING_SECONDS), lambda: self._gone(cluster, interrupted))

    def _leave(self, cluster: _Cluster, interrupted: _Step | None) -> None:
        """What the steps say of the end of their cluster."""
        if interrupted is not None:
            if self.kernel.happens("emr leaves the running step as it was"):
                self.kernel.sometimes("emr: step stays running on an ended cluster")
            else:
                self.kernel.sometimes("emr: step interrupted by the end of its cluster")
                self._end_step(cluster, interrupted, "INTERRUPTED", "The cluster ended")
        waiting = [step for step in cluster.queue if step.state == "PENDING"]
        if waiting and self.kernel.happens("emr cancels the pending steps of an ended cluster"):
            for step in waiting:
                self._end_step(cluster, step, "CANCELLED", "The cluster ended")
            return
        for _ in waiting:
            self.kernel.sometimes("emr: step stays pending on an ended cluster")

    def _gone(self, cluster: _Cluster, interrupted: _Step | None) -> None:
        self._leave(cluster, interrupted)
        code = cluster.facts["Status"]["StateChangeReason"]["Code"]
        well = code in ("USER_REQUEST", "ALL_STEPS_COMPLETED")
        self._cluster_becomes(cluster, "TERMINATED" if well else "TERMINATED_WITH_ERRORS", at="EndDateTime")

    # --- changes --------------------------------------------------------------------------------------------------------

    def _end_step(self, cluster: _Cluster, step: _Step, state: str, words: str, **status: Any) -> None:
        cluster.active -= 1
        self._step_becomes(
            cluster, step, state, words, at="EndDateTime", StateChangeReason={"Message": words}, **status
        )
        work = step.work
        if any(one.state not in _STEP_ENDED for one in work.steps):
            return
        if any(one.state == "FAILED" for one in work.steps):
            self._truth(work, "failed" if work.fate != "never starts" else "never started")
        elif all(one.state == "COMPLETED" for one in work.steps):
            self._truth(work, "succeeded")
        else:
            self._truth(work, "stopped" if work.begun or work.stop_asked else "never started")

    def _truth(self, work: _Work, outcome: str) -> None:
        """Of the work; what was found out first holds."""
        execution = work.execution
        if execution is None or execution.ended_at is not None:
            return
        execution.ended_at = self.kernel.now
        execution.outcome = outcome
        if outcome in ("succeeded", "failed"):
            execution.exit_code = work.exit_code if outcome == "failed" else 0

    def _step_becomes(
        self, cluster: _Cluster, step: _Step, state: str, words: str, *, at: str | None = None, **status: Any
    ) -> None:
        self._becomes(step, state, at, status)
        self._tell_step(cluster, step, words)

    def _cluster_becomes(self, cluster: _Cluster, state: str, *, at: str | None = None, **status: Any) -> None:
        self._becomes(cluster, state, at, status)
        self._tell_cluster(cluster)

    def _becomes(self, one: _Step | _Cluster, state: str, at: str | None, status: Mapping[str, Any]) -> None:
        """`at`: under which name its time line tells of now."""
        one.before = _copied(one.facts)
        one.changed_at = self.kernel.now
        one.facts["Status"].update(status, State=state)
        if at is not None:
            one.facts["Status"]["Timeline"][at] = self.kernel.now

    def _tell_step(self, cluster: _Cluster, step: _Step, words: str) -> None:
        self._tell(
            "EMR Step Status Change",
            {
                "severity": "ERROR" if step.state == "FAILED" else "INFO",
                "actionOnFailure": step.facts["ActionOnFailure"],
                "stepId": step.id,
                "name": step.facts["Name"],
                "clusterId": cluster.id,
                "state": step.state,
                "message": f"Step {step.id} ({step.facts['Name']}) in Amazon EMR cluster {cluster.id}: {words}.",
            },
        )

    def _tell_cluster(self, cluster: _Cluster) -> None:
        reason = cluster.facts["Status"]["StateChangeReason"]
        self._tell(
            "EMR Cluster State Change",
            {
                "severity": "ERROR" if cluster.state == "TERMINATED_WITH_ERRORS" else "INFO",
                "stateChangeReason": f'{{"code":"{reason.get("Code", "")}"}}',
                "name": cluster.facts["Name"],
                "clusterId": cluster.id,
                "state": cluster.state,
                "message": f"Amazon EMR Cluster {cluster.id} is {cluster.state}.",
            },
        )

    def _tell(self, kind: str, detail: dict[str, Any]) -> None:
        self.emit(
            {
                "version": "0",
                "id": f"{self.kernel.random.getrandbits(128):032x}",
                "detail-type": kind,
                "source": "aws.emr",
                "account": _ACCOUNT,
                "time": self.kernel.now.isoformat().replace("+00:00", "Z"),
                "region": _REGION,
                "resources": [],
                "detail": detail,
            }
        )


def _named(name: str) -> Mapping[str, str]:
    """Token, run, job and attempt at the end of a name; nothing when it is not ours."""
    found = _MARKER.search(name)
    return found.groupdict() if found is not None else {}


def _copied(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Only the status changes after the start."""
    status = facts["Status"]
    return {**facts, "Status": {**status, "Timeline": dict(status["Timeline"])}}


def _refused(code: str, message: str, operation: str) -> ClientError:
    return error_of(code, message, operation, 400)
