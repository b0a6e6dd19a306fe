"""Runs steps on EMR: on a cluster started for them, or on one that is there.

EMR takes no token, so the names of clusters and steps end with a marker that says token, run, job and attempt; whoever does not know
whether a request was heard looks for it. EMR's events may be lost and come in any order: they only say where to look.

* A cluster that ends takes its pending steps with it without ever saying so of the steps, so both are looked at.
* What steps leave lies in the attempt's workspace in S3, whose address they get in `RUNFOLD_WORKSPACE`.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws import ANSWER_SECONDS, AwsError, failure_of, message_of, tries_once
from shared.executors.search import SECONDS_MAX, Clock, CutShort, Search, asked_between, cut_short
from shared.executors.workspace import OUTPUTS_BYTES_MAX, Unfit, Workspace, inside, json_object
from shared.ids import Handle, JobName, RunId, Token, attempt_token, workflow_of
from shared.ports import Reference, Report, Request

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient

NAME_MAX = 256
"""Characters of the name of a step or cluster (AWS)."""
ARGUMENTS_MAX = 10_240
"""Characters of all arguments of a step (AWS)."""
STEP_IDS_MAX = 10
"""Steps asked for by id in one ListSteps (AWS)."""
DECLARED_BYTES_MAX = 200_000
"""200 paths of 512 characters."""

_MARKER = re.compile(r"#([a-z2-7]{32}) (\S+@\S+)/([A-Za-z0-9_.:-]+)/(\d+)$")
_ENDED_CLUSTERS = ("TERMINATED", "TERMINATED_WITH_ERRORS")
_ENDED_STEPS = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")
_FULL = ("maximum number of active steps", "maximum number of pending", "limit")


class EmrExecutor:
    """`client` must send each request once. `workspace` None: jobs get and leave no files."""

    takes_token = False
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(
        self,
        client: "EMRClient",
        workspace: Workspace | None,
        *,
        now: Callable[[], datetime],
        clock: Clock = time.monotonic,
        service_role: str = "",
        instance_profile: str = "",
    ) -> None:
        """`service_role` and `instance_profile` are those of clusters whose request names none."""
        if not tries_once(client):
            raise ValueError(
                "EMR takes no token: its client must be made with `client_config(sent_twice_is_harmless=False)`"
            )
        # The stubs demand literals where EMR takes what the user's document says.
        self._client: Any = client
        self._workspace = workspace
        self._now = now
        self._clock = clock
        given = {"ServiceRole": service_role, "JobFlowRole": instance_profile}
        self._roles = {key: value for key, value in given.items() if value}

    # --- the protocol -------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Handle:
        """See `Executor`. The handle is `j-CLUSTER` for a cluster of its own, `j-CLUSTER/s-STEP,s-STEP` for steps on one."""
        body = request.body
        if body.get("secrets"):
            raise TargetRefused("EMR hands no secrets to steps: let the program read the secret, and give it the ARN")
        steps = self._steps(request)
        inputs_brought(request, self._workspace)
        if request.send_before is not None and self._now() > request.send_before - timedelta(seconds=ANSWER_SECONDS):
            raise TargetUnavailable("bringing the inputs took too long; what was brought is there for the next time")
        try:
            if body.get("cluster") is not None:
                answer: Any = self._client.run_job_flow(**self._cluster(request, steps))
                return Handle(answer["JobFlowId"])
            cluster = str(body["cluster_id"])
            answer = self._client.add_job_flow_steps(JobFlowId=cluster, Steps=steps)
            return Handle(f"{cluster}/{','.join(answer['StepIds'])}")
        except AwsError as error:
            failure = failure_of(error, "start the steps")
            if isinstance(failure, TargetRefused) and any(word in message_of(error).lower() for word in _FULL):
                raise TargetUnavailable(str(failure)) from error
            raise failure from error

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`."""
        states: dict[str, Mapping[str, Any]] = {}
        reports = []
        until = self._clock() + SECONDS_MAX
        for reference in references:
            try:
                report = self._observed(reference, states, Search(until, self._clock))
            except (TargetUnavailable, TargetSilent):
                continue
            except CutShort as error:
                report = cut_short(reference, error)
            except AwsError as error:
                failure = failure_of(error, "observe the steps")
                if isinstance(failure, TargetRefused) and "is not valid" in message_of(error):
                    reports.append(_report(reference, "missing", handle=reference.handle))
                continue
            reports.append(report)
        return reports

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:  # noqa: ARG002
        """See `Executor`. Asked again while a step is being cancelled, it is ended without waiting for it."""
        try:
            handle = reference.handle or self._find(reference, self._search())
            if handle is None:
                return
            cluster, _, named = handle.partition("/")
            if not named:
                self._client.terminate_job_flows(JobFlowIds=[cluster])
                return
            state = self._client.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]["State"]
            if state in _ENDED_CLUSTERS:
                return
            steps = list(self._listed(cluster, named.split(",")))
            for option, wanted in (
                ("SEND_INTERRUPT", ("PENDING", "RUNNING")),
                ("TERMINATE_PROCESS", ("CANCEL_PENDING",)),
            ):
                ids = [step["Id"] for step in steps if step["Status"]["State"] in wanted]
                if ids:
                    # That it was accepted promises nothing (fault 20): what the steps say later counts.
                    self._client.cancel_steps(
                        ClusterId=cluster,
                        StepIds=ids,
                        StepCancellationOption=option,
                    )
        except CutShort as error:
            raise TargetUnavailable(f"cannot find what to stop: {error}") from error
        except AwsError as error:
            raise failure_of(error, "cancel the steps") from error

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """An event only says where to look; nothing when it is about something that is not ours (fault 33)."""
        detail = event.get("detail")
        reference = attempt_in(str(detail.get("name", "")), None) if isinstance(detail, Mapping) else None
        if reference is None or not isinstance(detail, Mapping):
            return []
        token = reference.token
        cluster, step = str(detail.get("clusterId", "")), detail.get("stepId")
        try:
            own = self._is_own(cluster, token) if step else True
            named = [] if own else self._together_with(cluster, str(step), token)
            if not own and not named:
                return []
            handle = Handle("/".join(filter(None, (cluster, ",".join(named)))))
        except CutShort:
            # An old step of a busy cluster: who looks for the attempt itself knows more than this hint.
            return []
        except AwsError as error:
            raise failure_of(error, "look at the steps of an event") from error
        return self.observe([with_declared(replace(reference, handle=handle), self._workspace)])

    # --- starting -------------------------------------------------------------------------------------------------------

    def _cluster(self, request: Request, steps: list[dict[str, Any]]) -> Any:
        """RunJobFlow with every field as the user wrote it, but for what makes it this attempt's."""
        given: Mapping[str, Any] = request.body["cluster"]
        tags = [{"Key": f"runfold:{key}", "Value": value} for key, value in _names(request).items()]
        return {
            **self._roles,
            **given,
            "Name": marked(str(given.get("Name") or f"{workflow_of(request.run)} {request.job}"), request),
            "Steps": steps,
            "Instances": {**(given.get("Instances") or {}), "KeepJobFlowAliveWhenNoSteps": False},
            "Tags": [*(given.get("Tags") or ()), *tags],
        }

    def _steps(self, request: Request) -> list[dict[str, Any]]:
        steps = []
        environment = dict(request.body.get("environment") or {})
        ours = {f"RUNFOLD_{key.upper()}": value for key, value in _names(request).items()}
        ours["RUNFOLD_WORKFLOW"] = workflow_of(request.run)
        if self._workspace is not None:
            place = self._workspace.address(self._workspace.key(request.run, request.job, request.attempt))
            ours |= {"RUNFOLD_WORKSPACE": place.rstrip("/"), "RUNFOLD_OUTPUTS": f"{place}outputs.json"}
        for given in request.body.get("steps") or request.body.get("cluster", {}).get("Steps") or ():
            step = {**given, "Name": marked(str(given["Name"]), request)}
            jar = {**given["HadoopJarStep"]}
            jar["Args"] = self._arguments(str(given["Name"]), jar, environment, ours)
            step["HadoopJarStep"] = jar
            steps.append(step)
        if not steps:
            raise TargetRefused("the job has no steps")
        return steps

    def _arguments(
        self, name: str, jar: Mapping[str, Any], environment: Mapping[str, str], ours: Mapping[str, str]
    ) -> list[str]:
        args = [str(one) for one in jar.get("Args") or ()]
        if str(jar["Jar"]).rpartition("/")[2] == "command-runner.jar" and args:
            variables = {**environment, **ours}
            conf = []
            if args[0] == "spark-submit":
                # In cluster mode the driver is elsewhere, and sees only what Spark hands over.
                for key, value in variables.items():
                    conf += ["--conf", f"spark.yarn.appMasterEnv.{key}={value}"]
                for key, value in environment.items():
                    conf += ["--conf", f"spark.executorEnv.{key}={value}"]
            # `env` takes each variable as an argument: no shell reads them.
            args = ["env", *(f"{key}={value}" for key, value in variables.items()), args[0], *conf, *args[1:]]
        elif environment:
            raise TargetRefused(
                f"step {name!r} runs a jar, which EMR gives no environment: use command-runner.jar, or Args"
            )
        size = sum(map(len, args))
        if size > ARGUMENTS_MAX:
            raise TargetRefused(
                f"the arguments of step {name!r} take {size:,} characters with the environment, and EMR takes {ARGUMENTS_MAX:,}"
            )
        return args

    # --- observing ------------------------------------------------------------------------------------------------------

    def _observed(self, reference: Reference, states: dict[str, Mapping[str, Any]], search: Search) -> Report:
        handle = reference.handle or self._find(reference, search)
        if handle is None:
            return _report(reference, "missing")
        cluster, _, named = handle.partition("/")
        ids = named.split(",") if named else []
        steps = self._steps_of(cluster, ids)
        if any(step["Status"]["State"] not in _ENDED_STEPS for step in steps) or not steps:
            if cluster not in states:
                states[cluster] = self._client.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]
            if states[cluster]["State"] in _ENDED_CLUSTERS:
                # The steps may have ended after they were listed, and the cluster with them.
                steps = self._steps_of(cluster, ids)
        times = {
            "handle": handle,
            "started_at": min(filter(None, (_time(step, "StartDateTime") for step in steps)), default=None),
        }
        if ids and len(steps) < len(ids):
            return _report(reference, "missing", handle=handle)
        open_steps = [step for step in steps if step["Status"]["State"] not in _ENDED_STEPS]
        complete = bool(steps) and all(step["Status"]["State"] == "COMPLETED" for step in steps)
        if not complete and cluster not in states:
            states[cluster] = self._client.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]
        cluster_status = states.get(cluster, {})
        gone = cluster_status.get("State") in _ENDED_CLUSTERS
        if (open_steps or not steps) and not gone:
            begun = times["started_at"] is not None
            return _report(reference, "running" if begun else "submitted", **times)
        if not complete and cluster_status.get("State") == "TERMINATING" and not _any_failed(steps):
            # Steps are cut off before the cluster says why it ends, and only that tells a broken host from a stop.
            return _report(reference, "running", **times)
        times["ended_at"] = max(filter(None, (_time(step, "EndDateTime") for step in steps)), default=None)
        times["ended_at"] = times["ended_at"] or _aware(cluster_status.get("Timeline", {}).get("EndDateTime"))
        failed = _any_failed(steps)
        reason_code = str(cluster_status.get("StateChangeReason", {}).get("Code", ""))
        why = ": ".join(filter(None, (reason_code, cluster_status.get("StateChangeReason", {}).get("Message"))))
        if failed is not None:
            if gone and reason_code in ("INSTANCE_FAILURE", "INTERNAL_ERROR", "INSTANCE_FLEET_TIMEOUT"):
                return _report(
                    reference, "failed", failure="infrastructure", reason=f"the cluster ended: {why}", **times
                )
            return _report(reference, "failed", failure="user", reason=_words_of(failed), **times)
        if not complete:
            if gone:
                status, failure = _end_of_cluster(reason_code, why)
                return _report(reference, status, failure=failure, reason=f"the cluster ended: {why}", **times)
            step = next(step for step in steps if step["Status"]["State"] != "COMPLETED")
            return _report(reference, "cancelled", reason=_words_of(step), **times)
        return self._succeeded(reference, times)

    def _succeeded(self, reference: Reference, times: Mapping[str, Any]) -> Report:
        try:
            outputs, files = outputs_left(reference, self._workspace)
        except Unfit as error:
            return _report(reference, "failed", failure="user", reason=str(error), **times)
        return _report(reference, "succeeded", outputs=outputs, files=files, **times)

    def _steps_of(self, cluster: str, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """These steps, or all of the cluster's, in the order in which they run."""
        if not ids:
            return list(self._all_steps(cluster, self._search()))[::-1]
        found = {str(step["Id"]): step for step in self._listed(cluster, ids)}
        # EMR lists the newest first, whatever was asked for.
        return [found[number] for number in ids if number in found]

    def _listed(self, cluster: str, ids: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(ids), STEP_IDS_MAX):
            answer: Any = self._client.list_steps(ClusterId=cluster, StepIds=list(ids[start : start + STEP_IDS_MAX]))
            yield from answer["Steps"]

    def _all_steps(self, cluster: str, search: Search) -> Iterator[Mapping[str, Any]]:
        """Newest first."""
        return search.pages(
            lambda more: self._client.list_steps(ClusterId=cluster, **more), "Steps", asked="Marker", answered="Marker"
        )

    # --- finding --------------------------------------------------------------------------------------------------------

    def _search(self) -> Search:
        return Search(self._clock() + SECONDS_MAX, self._clock)

    def _find(self, reference: Reference, search: Search) -> Handle | None:
        """What carries the token in its name: a cluster, or steps on the one that was asked for."""
        body = reference.request
        if body is None:
            raise CutShort("it is not known which cluster was asked for")
        after, before = asked_between(reference, self._now())
        if body.get("cluster") is None:
            cluster = str(body["cluster_id"])
            ids = self._ids_of(cluster, reference.token, after, search)
            return Handle(f"{cluster}/{','.join(ids)}") if ids else None
        window = {"CreatedAfter": after} | ({"CreatedBefore": before} if before is not None else {})
        clusters = search.pages(
            lambda more: self._client.list_clusters(**window, **more), "Clusters", asked="Marker", answered="Marker"
        )
        return next((Handle(one["Id"]) for one in clusters if is_marked(one["Name"], reference.token)), None)

    def _ids_of(self, cluster: str, token: str, since: datetime, search: Search) -> list[str]:
        """The steps of a token on a cluster, in order; those that were added last, if it was asked twice."""
        found = []
        for step in self._all_steps(cluster, search):
            created = _time(step, "CreationDateTime")
            if created is not None and created < since:
                break
            if is_marked(step["Name"], token):
                found.append(str(step["Id"]))
            elif found:
                # All steps of a job are added in one call, so that they stand together.
                break
        return found[::-1]

    def _together_with(self, cluster: str, step: str, token: str) -> list[str]:
        """The steps that were added in one call with this one, in order."""
        together: list[str] = []
        for one in self._all_steps(cluster, self._search()):
            if is_marked(one["Name"], token):
                together.append(str(one["Id"]))
            elif step in together:
                break
            else:
                together = []
        return together[::-1] if step in together else []

    def _is_own(self, cluster: str, token: str) -> bool:
        return is_marked(self._client.describe_cluster(ClusterId=cluster)["Cluster"]["Name"], token)


def inputs_brought(request: Request, space: Workspace | None) -> None:
    """Inputs into the workspace, where steps find them as `$RUNFOLD_WORKSPACE/inputs/PATH`."""
    if not request.inputs and not request.outputs:
        return
    if space is None:
        raise TargetRefused("the deployment has no bucket for files, so steps can have no inputs and outputs")
    place = space.key(request.run, request.job, request.attempt, "inputs/")
    # Large copies may have taken all the time there was, and are there by now.
    there = space.list(place) if request.inputs else {}
    for one in request.inputs:
        path = inside(str(one["path"]))
        key = f"{place}{path}"
        if path in there:
            continue
        if one.get("content") is not None:
            space.put(key, str(one["content"]).encode())
        elif one.get("s3") or one.get("artifact"):
            space.copy(space.address_of_artifact(str(one.get("s3") or one["artifact"])), key)
        else:
            raise TargetRefused(f"the input {one['path']}: for EMR only S3 and earlier jobs can be a source, not a URL")
    if request.outputs:
        # For whoever learns of the end from an event, which does not say what was to be left.
        declared = [{"path": one["path"], "optional": bool(one.get("optional"))} for one in request.outputs]
        space.put(space.key(request.run, request.job, request.attempt, "declared"), json.dumps(declared).encode())


def with_declared(reference: Reference, space: Workspace | None) -> Reference:
    """With the outputs that the attempt declared when it was started."""
    if space is None:
        return reference
    key = space.key(reference.run, reference.job, reference.attempt, "declared")
    data = space.get(key, last_bytes=DECLARED_BYTES_MAX)
    return replace(reference, outputs=tuple(json.loads(data))) if data else reference


def outputs_left(reference: Reference, space: Workspace | None) -> tuple[Mapping[str, Any], dict[str, str]]:
    """What steps wrote into the workspace. `Unfit` when it is not what was declared."""
    if space is None:
        return {}, {}
    key = space.key(reference.run, reference.job, reference.attempt)
    data = space.get(f"{key}outputs.json", last_bytes=OUTPUTS_BYTES_MAX + 1)
    outputs = json_object(data) if data else {}
    there = space.list(f"{key}files/") if reference.outputs else {}
    files = {}
    for one in reference.outputs:
        path = str(one["path"])
        if path in there:
            files[path] = there[path]
        elif not one.get("optional"):
            raise Unfit(f"declared output {path} is missing: steps write it to $RUNFOLD_WORKSPACE/files/{path}")
    return outputs, files


def attempt_in(name: str, handle: Handle | None) -> Reference | None:
    """Which attempt a name's marker says; None when it is not one of ours. The token proves that we wrote it."""
    found = _MARKER.search(name)
    if found is None:
        return None
    token, run, job, attempt = found.groups()
    if attempt_token(RunId(run), JobName(job), int(attempt)) != token:
        return None
    return Reference(Token(token), RunId(run), JobName(job), int(attempt), handle)


def _any_failed(steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((step for step in steps if step["Status"]["State"] == "FAILED"), None)


def _end_of_cluster(code: str, why: str) -> tuple[Any, Any]:
    """What the end of a cluster means for steps that had not ended (faults 18 and 22)."""
    if code == "USER_REQUEST":
        return "cancelled", None
    if "capacity" in why.lower():
        return "failed", "capacity"
    if code == "VALIDATION_ERROR":
        return "failed", "refused"
    if code == "BOOTSTRAP_FAILURE":
        return "failed", "user"
    return "failed", "infrastructure"


def _names(request: Request) -> dict[str, str]:
    return {"run": request.run, "job": request.job, "attempt": str(request.attempt), "token": request.token}


def marked(name: str, request: Request) -> str:
    """The user's name for it, with the marker behind."""
    marker = f" #{request.token} {request.run}/{request.job}/{request.attempt}"
    return name[: NAME_MAX - len(marker)] + marker


def is_marked(name: str, token: str) -> bool:
    found = _MARKER.search(name)
    return found is not None and found[1] == token


def _words_of(step: Mapping[str, Any]) -> str:
    status = step["Status"]
    details, change = status.get("FailureDetails") or {}, status.get("StateChangeReason") or {}
    name = _MARKER.sub("", str(step.get("Name", ""))).strip()
    told = ": ".join(filter(None, (details.get("Reason"), details.get("Message") or change.get("Message"))))
    log = f" (log: {details['LogFile']})" if details.get("LogFile") else ""
    return f"step {name!r} {status['State'].lower()}: {told}{log}".removesuffix(": ")


def _time(step: Mapping[str, Any], key: str) -> datetime | None:
    return _aware(step["Status"].get("Timeline", {}).get(key))


def _aware(value: Any) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _report(reference: Reference, status: Any, **more: Any) -> Report:
    return Report(reference.token, reference.run, reference.job, reference.attempt, status, **more)
