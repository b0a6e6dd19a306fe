"""Starts, observes and stops containers as ECS tasks.

* The attempt's token is ECS's client token, so asking again finds the first task; ECS forgets tokens an hour after a task ended.
* Only the container named `main` says how the job ended; what others beside it (guards, agents) end with means nothing.
* What a task left comes from its workspace in S3, and only when its upload said that there is something to read.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws import AwsError, code_of, failure_of, message_of, tries_once
from shared.executors.ecs.definition import (
    BRING,
    KEEP,
    MAIN,
    EcsSettings,
    definition_of,
    overrides_of,
    placement_of,
)
from shared.executors.search import SECONDS_MAX, Clock, CutShort, Search, cut_short
from shared.executors.workspace import OUTPUTS_BYTES_MAX, Unfit, Workspace, read_result
from shared.ids import Handle, JobName, RunId, Token, attempt_token
from shared.ports import Reference, Report, Request

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

DESCRIBED_MAX = 100
"""Tasks in one DescribeTasks (AWS)."""
RESULT_BYTES_MAX = OUTPUTS_BYTES_MAX + 200_000
"""outputs.json and 200 paths of 512 characters before it."""
DEFINITIONS_KEPT_MAX = 5_000
PLAIN_GROUP = "runfold"
TIMED_GROUP = "runfold-timed"
"""Groups of tasks; those of the second have limits that count from when they run."""
_RESULT_WRITTEN = 64
_INPUT_WRONG = 66

_NO_ROOM = ("RESOURCE:", "AGENT", "Capacity is unavailable", "EMPTY CAPACITY PROVIDER", "LIMIT")
_QUOTA_WORDS = ("limit", "quota", "capacity is unavailable")
_HOST_WORDS = ("Host EC2", "Scaling activity", "agent disconnected", "Instance terminated", "deregistered")
_USER_START_WORDS = ("executable file not found", "no such file or directory", "exec format error", "permission denied")


TOKEN_SECONDS = 50 * 60.0
"""ECS remembers a client token for an hour after the task's life, and a task may have lived for seconds; ours is shorter because the
first request may have gone out a little before we wrote it down."""


class EcsExecutor:
    """`workspace` None: containers get and leave no files, and no outputs."""

    takes_token = True
    token_seconds: float | None = TOKEN_SECONDS
    runs_at_once = False

    def __init__(
        self,
        client: "ECSClient",
        settings: EcsSettings,
        workspace: Workspace | None,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._workspace = workspace
        self._definitions: dict[str, str] = {}
        self._registering = Lock()
        self._once = tries_once(client)
        self._clock = clock

    # --- the protocol -------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Handle:
        """See `Executor`. The handle is the task's ARN."""
        body = request.body
        if self._workspace is None and (request.inputs or request.outputs):
            raise TargetRefused("the deployment has no bucket for files, so containers can have no inputs and outputs")
        files = bool(request.inputs or request.outputs)
        definition = definition_of(body, self._settings, self._workspace, files)
        overrides, late = overrides_of(request, self._workspace, files)
        placement = placement_of(body, self._settings)
        if late is not None and self._workspace is not None:
            key = self._workspace.key(request.run, request.job, request.attempt, "inputs")
            self._workspace.put(key, late.encode())
        try:
            return self._run(request, self._registered(definition), overrides, placement)
        except TargetRefused as error:
            # Somebody tidied up, and the name kept here leads nowhere any more.
            if "TaskDefinition" not in str(error):
                raise
            if self._definitions.pop(definition["family"], None) is None:
                # Between registering and running it: no fault of the job, whose earlier request may have been taken.
                raise TargetUnavailable(str(error)) from error
            return self._run(request, self._registered(definition), overrides, placement)

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`."""
        by_cluster: dict[str, list[tuple[Reference, str]]] = {}
        reports: dict[Token, Report] = {}
        until = self._clock() + SECONDS_MAX
        for reference in references:
            try:
                arn = reference.handle or self._find(reference, Search(until, self._clock))
            except CutShort as error:
                reports[reference.token] = cut_short(reference, error)
                continue
            except (TargetUnavailable, TargetSilent, TargetRefused):
                continue
            if arn is None:
                reports[reference.token] = _report(reference, "missing")
            else:
                by_cluster.setdefault(_cluster_of(arn), []).append((reference, arn))
        for cluster, pairs in by_cluster.items():
            for start in range(0, len(pairs), DESCRIBED_MAX):
                for report in self._described(cluster, pairs[start : start + DESCRIBED_MAX]):
                    reports[report.token] = report
        return [reports[reference.token] for reference in references if reference.token in reports]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:  # noqa: ARG002
        """See `Executor`. The grace is the container's stop timeout, set when the task was defined."""
        try:
            arn = reference.handle or self._find(reference, Search(self._clock() + SECONDS_MAX, self._clock))
        except CutShort as error:
            raise TargetUnavailable(f"cannot find what to stop: {error}") from error
        if arn is None:
            return
        try:
            self._client.stop_task(cluster=_cluster_of(arn), task=arn, reason="runfold: stop requested")
        except AwsError as error:
            # A cluster can only go after its tasks.
            if code_of(error) == "ClusterNotFoundException":
                return
            if "not found" in message_of(error).lower():
                # ECS forgets a task an hour after its end, and right after its start it may not show it yet (fault 8).
                raise TargetUnavailable("ECS does not know the task, or not yet") from error
            raise failure_of(error, "stop the task", once=False) from error

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """What a state change of a task tells: the report, or nothing when the task is not one of ours (fault 33)."""
        task = event.get("detail")
        if not isinstance(task, Mapping):
            return []
        reference = _reference_in(task)
        if reference is None:
            return []
        task = {**task, "taskArn": reference.handle}
        main = _container(task, MAIN)
        if _ended(task) and (main is None or main.get("exitCode") is None):
            # Events leave out what a description tells.
            return self.observe([reference])
        report = self._report_of(reference, task)
        return [report] if report is not None else []

    # --- starting -------------------------------------------------------------------------------------------------------

    def _registered(self, definition: dict[str, Any]) -> str:
        """The ARN of the definition with this content, registered if it is not there. Nothing is started yet."""
        known = self._definitions.get(definition["family"])
        if known is not None:
            return known
        # Jobs that are started side by side often share a definition, which one of them is to register.
        with self._registering:
            return self._definitions.get(definition["family"]) or self._looked_up(definition)

    def _looked_up(self, definition: dict[str, Any]) -> str:
        family = definition["family"]
        try:
            try:
                answer: Any = self._client.describe_task_definition(taskDefinition=family)
                arn = answer["taskDefinition"]["taskDefinitionArn"]
                if answer["taskDefinition"].get("status", "ACTIVE") != "ACTIVE":
                    arn = None
            except AwsError as error:
                if code_of(error) != "ClientException":
                    raise
                arn = None
            if arn is None:
                answer = self._client.register_task_definition(
                    **definition, tags=[{"key": "runfold:managed", "value": "yes"}]
                )
                arn = answer["taskDefinition"]["taskDefinitionArn"]
        except AwsError as error:
            failure = failure_of(error, "register the task definition")
            if isinstance(failure, TargetSilent):
                # A definition starts nothing, so the job was surely not taken.
                raise TargetUnavailable(str(failure)) from error
            raise failure from error
        if len(self._definitions) >= DEFINITIONS_KEPT_MAX:
            self._definitions.clear()
        self._definitions[family] = arn
        return str(arn)

    def _run(self, request: Request, definition: str, overrides: dict[str, Any], placement: dict[str, Any]) -> Handle:
        try:
            answer: Any = self._client.run_task(
                taskDefinition=definition,
                count=1,
                clientToken=request.token,
                startedBy=request.token,
                overrides=overrides,  # type: ignore[arg-type]
                # By the group, EventBridge can tell apart the tasks of which it matters when they begin to run.
                group=TIMED_GROUP if request.body.get("timed") else PLAIN_GROUP,
                tags=[
                    {"key": "runfold:run", "value": request.run},
                    {"key": "runfold:job", "value": request.job},
                    {"key": "runfold:attempt", "value": str(request.attempt)},
                    {"key": "runfold:token", "value": request.token},
                ],
                **placement,
            )
        except AwsError as error:
            if (bound := _bound(error)) is not None:
                return bound
            raise self._not_run(error) from error
        if answer["tasks"]:
            return Handle(answer["tasks"][0]["taskArn"])
        # ECS answers 200 with a failure list when it finds no room for the task (fault 5).
        reasons = [
            " ".join(filter(None, (one.get("reason"), one.get("detail")))) or "no reason given"
            for one in answer.get("failures") or [{}]
        ]
        told = "ECS did not take the task: " + "; ".join(reasons)
        if all(reason.startswith(_NO_ROOM) for reason in reasons):
            raise TargetUnavailable(told)
        raise TargetRefused(told)

    def _not_run(self, error: Exception) -> Exception:
        code, message = code_of(error), message_of(error)
        if code == "ConflictException":
            return TargetSilent(f"ECS knows the token, and does not say which task it is: {message}")
        failure = failure_of(error, "start the task", once=self._once)
        if (
            isinstance(failure, TargetRefused)
            and code in ("ClientException", "InvalidParameterException", "LimitExceededException")
            and any(word in message.lower() for word in _QUOTA_WORDS)
        ):
            return TargetUnavailable(str(failure))
        return failure

    # --- observing ------------------------------------------------------------------------------------------------------

    def _find(self, reference: Reference, search: Search) -> str | None:
        """The task of a token, on the cluster that was asked for: one that runs, or one that ended within the last hour."""
        body = reference.request
        named = [str(body["cluster"])] if body is not None and body.get("cluster") else []
        everywhere = (self._settings.cluster, *(self._settings.clusters if body is None else ()))
        try:
            for cluster in named or dict.fromkeys(everywhere):
                try:
                    # ECS lets nothing else be asked together with it, so these are only the running ones.
                    found = self._client.list_tasks(cluster=cluster, startedBy=reference.token)["taskArns"]
                    arn = found[0] if found else self._ended_of(reference, cluster, search)
                except AwsError as error:
                    if code_of(error) == "ClusterNotFoundException":
                        continue
                    raise
                if arn is not None:
                    return arn
        except AwsError as error:
            raise failure_of(error, "look for the task", once=False) from error
        return None

    def _ended_of(self, reference: Reference, cluster: str, search: Search) -> str | None:
        """Among the ended tasks of the same definition, the one of the token."""
        body = reference.request
        if body is None:
            return None
        # Inputs change the definition, and are no part of the body.
        for files in (True,) if reference.outputs else (False, True):
            family = definition_of(body, self._settings, self._workspace, files)["family"]
            ended: Iterator[Any] = search.pages(
                lambda more, family=family: self._client.list_tasks(  # type: ignore[misc]
                    cluster=cluster, family=family, desiredStatus="STOPPED", **more
                ),
                "taskArns",
                asked="nextToken",
                answered="nextToken",
            )
            while arns := list(islice(ended, DESCRIBED_MAX)):
                for task in self._client.describe_tasks(cluster=cluster, tasks=arns)["tasks"]:
                    if task.get("startedBy") == reference.token:
                        return task["taskArn"]
        return None

    def _described(self, cluster: str, pairs: Sequence[tuple[Reference, str]]) -> Iterator[Report]:
        try:
            answer = self._client.describe_tasks(cluster=cluster, tasks=[arn for _, arn in pairs])
        except AwsError as error:
            if code_of(error) == "ClusterNotFoundException":
                for reference, _ in pairs:
                    yield _report(reference, "unknown", reason=f"the cluster {cluster} is not there any more")
            return
        tasks: dict[str, Mapping[str, Any]] = {str(task.get("taskArn")): task for task in answer["tasks"]}
        missing = {str(one.get("arn")) for one in answer.get("failures", []) if one.get("reason") == "MISSING"}
        for reference, arn in pairs:
            task = tasks.get(arn)
            if task is not None:
                report = self._report_of(reference, task)
                if report is not None:
                    yield report
            elif arn in missing or not answer.get("failures"):
                yield _report(reference, "missing", handle=reference.handle)

    def _report_of(self, reference: Reference, task: Mapping[str, Any]) -> Report | None:
        """None when it ended and what it left cannot be read now."""
        handle = Handle(str(task["taskArn"]))
        main, keep = _container(task, MAIN), _container(task, KEEP)
        times = {"started_at": _instant(task.get("startedAt")), "handle": handle}
        if not _ended(task):
            last = task.get("lastStatus")
            begun = last not in ("PROVISIONING", "PENDING", "ACTIVATING")
            return _report(reference, "running" if begun else "submitted", **times)
        times["ended_at"] = _instant(
            task.get("executionStoppedAt") or task.get("stoppedAt") or task.get("stoppingAt") or task.get("updatedAt")
        )
        code = main.get("exitCode") if main is not None else None
        kept = keep.get("exitCode") if keep is not None else 0
        if code == 0 and kept in (0, _RESULT_WRITTEN):
            try:
                outputs, files = self._left(reference) if kept else ({}, {})
                missed = next((one["path"] for one in reference.outputs if not one.get("optional")), None)
                if not kept and missed is not None and keep is not None:
                    raise Unfit(f"declared output {missed} is missing")
            except Unfit as error:
                return _report(reference, "failed", failure="user", exit_code=0, reason=str(error), **times)
            except (TargetUnavailable, TargetSilent):
                return None
            return _report(reference, "succeeded", exit_code=0, outputs=outputs, files=files, **times)
        status, failure, reason = _why(task, main, code, kept)
        return _report(reference, status, failure=failure, exit_code=code, reason=reason, **times)

    def _left(self, reference: Reference) -> tuple[Mapping[str, Any], dict[str, str]]:
        space = self._workspace
        if space is None:
            return {}, {}
        key = space.key(reference.run, reference.job, reference.attempt)
        data = space.get(f"{key}result", last_bytes=RESULT_BYTES_MAX)
        if data is None:
            raise TargetUnavailable("the result was written, and is not to be seen yet")
        addresses = {str(one["path"]): space.address(f"{key}files/{one['path']}") for one in reference.outputs}
        return read_result(data, reference.outputs, addresses)


def _bound(error: Exception) -> Handle | None:
    """The task that a token has already, asked for in other words (fault 7)."""
    if code_of(error) != "ConflictException":
        return None
    response: Mapping[str, Any] = getattr(error, "response", {})
    arns = response.get("resourceIds") or (response.get("Error") or {}).get("resourceIds") or ()
    return Handle(str(arns[0])) if arns else None


def _why(
    task: Mapping[str, Any], main: Mapping[str, Any] | None, code: int | None, kept: int | None
) -> tuple[Any, Any, str]:
    """How a task that did not succeed ended: status, class of failure, and words for people."""
    stop = str(task.get("stopCode") or "")
    told = str(task.get("stoppedReason") or "")
    own = str((main or {}).get("reason") or "")
    words = "; ".join(filter(None, (own, told))) or stop
    bring = _container(task, BRING)
    if stop == "SpotInterruption" or "spot" in told.lower():
        return "failed", "infrastructure", f"spot capacity was taken back: {words}"
    if stop == "UserInitiated":
        return "cancelled", None, words
    if stop == "TerminationNotice" or any(word in told for word in _HOST_WORDS):
        return "failed", "infrastructure", words
    if code not in (None, 0):
        return "failed", "user", f"exit code {code}" + (f": {own}" if own else "")
    if code == 0:
        return (
            "failed",
            "infrastructure",
            f"what the job left could not be kept (exit code {kept} of `{KEEP}`); {words}",
        )
    if bring is not None and bring.get("exitCode") not in (None, 0):
        failure = "user" if bring["exitCode"] == _INPUT_WRONG else "infrastructure"
        return "failed", failure, f"an input could not be brought: see the log of the container `{BRING}`; {words}"
    if "OutOfMemory" in words:
        return "failed", "user", words
    if "Capacity is unavailable" in words:
        return "failed", "capacity", words
    if any(word in words.lower() for word in _USER_START_WORDS) and "CannotPull" not in words:
        return "failed", "user", words
    if stop == "TaskFailedToStart" or words.startswith(("Cannot", "ResourceInitialization", "Timeout waiting")):
        return "failed", "infrastructure", words
    # It ran, and ECS does not say how it ended (fault 12).
    return "unknown", None, words or "ECS does not say how it ended"


def _ended(task: Mapping[str, Any]) -> bool:
    """Whether nothing of the job runs any more; the task itself takes its time to go."""
    if task.get("lastStatus") == "STOPPED":
        return True
    main, keep = _container(task, MAIN), _container(task, KEEP)
    if main is None or main.get("exitCode") is None:
        return False
    # A task that is being stopped says why only at its end.
    if keep is None or task.get("desiredStatus") == "STOPPED":
        return keep is not None and keep.get("exitCode") is not None and main["exitCode"] == 0
    return keep.get("exitCode") is not None


def _container(task: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((one for one in task.get("containers") or () if one.get("name") == name), None)


def _reference_in(task: Mapping[str, Any]) -> Reference | None:
    """Which attempt a task is, by the environment we gave it. The token proves that we did."""
    overrides = (task.get("overrides") or {}).get("containerOverrides") or ()
    named = {one.get("name"): one for one in overrides}
    variables = {one.get("name"): str(one.get("value", "")) for one in named.get(MAIN, {}).get("environment") or ()}
    run, job, attempt = (variables.get(f"RUNFOLD_{name}", "") for name in ("RUN", "JOB", "ATTEMPT"))
    if not (run and job and attempt.isdecimal()):
        return None
    token = attempt_token(RunId(run), JobName(job), int(attempt))
    if token != task.get("startedBy"):
        return None
    kept = next(
        (one["value"] for one in named.get(KEEP, {}).get("environment") or () if one["name"] == "RUNFOLD_KEEP"), ""
    )
    outputs = tuple({"path": path[1:], "optional": path.startswith("?")} for path in kept.splitlines())
    return Reference(token, RunId(run), JobName(job), int(attempt), Handle(str(task["taskArn"])), outputs)


def _cluster_of(arn: str) -> str:
    """From `arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID`."""
    parts = arn.split("/")
    return parts[1] if len(parts) == 3 else "default"


def _instant(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            return None
    return None


def _report(reference: Reference, status: Any, **more: Any) -> Report:
    return Report(reference.token, reference.run, reference.job, reference.attempt, status, **more)
