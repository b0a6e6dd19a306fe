"""Runs Spark on EMR Serverless: an `emr` job whose `cluster_id` is the ARN of an application.

It takes tokens, so asking again is safe; `EmrTargets` stands before it and EMR on clusters, and hands each job to the one it names.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws import AwsError, code_of, failure_of, tries_once
from shared.executors.emr import (
    NAME_MAX,
    EmrExecutor,
    attempt_in,
    inputs_brought,
    is_marked,
    marked,
    outputs_left,
    with_declared,
)
from shared.executors.search import SECONDS_MAX, Clock, CutShort, Search, asked_between, cut_short
from shared.executors.workspace import Unfit, Workspace
from shared.ids import Handle, Token, workflow_of
from shared.ports import Reference, Report, Request

TIMEOUT_MINUTES = 10_080
"""A week, the most for a batch job; jobs are bounded by their own timeouts."""

_APPLICATION = re.compile(r"arn:aws[a-z-]*:emr-serverless:[a-z0-9-]*:\d*:/applications/([0-9a-z]+)")
_JOB_RUN = re.compile(_APPLICATION.pattern + r"/jobruns/([0-9a-z]+)")
_WAITING = ("SUBMITTED", "PENDING", "SCHEDULED", "QUEUED")
_FLAGS = ("--verbose", "-v", "--supervise")


class EmrServerlessExecutor:
    """`client` is botocore's for `emr-serverless`; `execution_role` the ARN that job runs act as."""

    takes_token = True
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(
        self,
        client: Any,
        workspace: Workspace | None,
        *,
        execution_role: str,
        now: Callable[[], datetime],
        clock: Clock = time.monotonic,
    ) -> None:
        self._client = client
        self._workspace = workspace
        self._execution_role = execution_role
        self._once = tries_once(client)
        self._now = now
        self._clock = clock

    def start(self, request: Request) -> Handle:
        """See `Executor`. The handle is the job run's ARN."""
        found = _APPLICATION.fullmatch(str(request.body.get("cluster_id", "")))
        if found is None:
            raise TargetRefused("`cluster_id` is no ARN of an application of EMR Serverless")
        if request.body.get("secrets"):
            raise TargetRefused("EMR hands no secrets to jobs: let the program read the secret, and give it the ARN")
        submit = _submit(request)
        inputs_brought(request, self._workspace)
        more: dict[str, Any] = {}
        properties = self._variables(request)
        if properties:
            spark = {"classification": "spark-defaults", "properties": properties}
            more["configurationOverrides"] = {"applicationConfiguration": [spark]}
        try:
            answer = self._client.start_job_run(
                applicationId=found[1],
                clientToken=request.token,
                executionRoleArn=self._execution_role,
                jobDriver={"sparkSubmit": submit},
                name=marked(str(request.body["steps"][0]["Name"]), request)[:NAME_MAX],
                executionTimeoutMinutes=TIMEOUT_MINUTES,
                tags={
                    "runfold:run": request.run,
                    "runfold:job": request.job,
                    "runfold:attempt": str(request.attempt),
                    "runfold:token": request.token,
                },
                **more,
            )
        except AwsError as error:
            if code_of(error) == "ConflictException":
                raise TargetSilent("EMR Serverless knows the token with another request") from error
            raise failure_of(error, "start the job run", once=self._once) from error
        return Handle(answer["arn"])

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`."""
        reports = []
        until = self._clock() + SECONDS_MAX
        for reference in references:
            try:
                found = _JOB_RUN.fullmatch(self._named(reference, Search(until, self._clock)) or "")
                if found is None:
                    reports.append(_report(reference, "missing"))
                    continue
                answer = self._client.get_job_run(applicationId=found[1], jobRunId=found[2])
                reports.append(self._report_of(reference, answer["jobRun"]))
            except AwsError as error:
                if code_of(error) == "ResourceNotFoundException":
                    reports.append(_report(reference, "missing", handle=reference.handle))
            except CutShort as error:
                reports.append(cut_short(reference, error))
            except (TargetUnavailable, TargetSilent):
                continue
        return reports

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        """See `Executor`."""
        try:
            found = _JOB_RUN.fullmatch(self._named(reference, Search(self._clock() + SECONDS_MAX, self._clock)) or "")
            if found is None:
                return
            self._client.cancel_job_run(
                applicationId=found[1], jobRunId=found[2], shutdownGracePeriodInSeconds=max(0, round(grace_seconds))
            )
        except CutShort as error:
            raise TargetUnavailable(f"cannot find what to stop: {error}") from error
        except AwsError as error:
            # What has ended cannot be cancelled.
            if code_of(error) not in ("ResourceNotFoundException", "ValidationException"):
                raise failure_of(error, "cancel the job run", once=False) from error

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """An event only says where to look; nothing when it is about something that is not ours (fault 33)."""
        detail = event.get("detail")
        if not isinstance(detail, Mapping):
            return []
        reference = attempt_in(str(detail.get("jobRunName", "")), Handle(str(detail.get("arn", ""))))
        if reference is None or _JOB_RUN.fullmatch(reference.handle or "") is None:
            return []
        return self.observe([with_declared(reference, self._workspace)])

    def _named(self, reference: Reference, search: Search) -> Handle | None:
        """The handle, or the job run of the application that carries the token in its name."""
        if reference.handle is not None:
            return reference.handle
        application = _APPLICATION.fullmatch(str((reference.request or {}).get("cluster_id", "")))
        if application is None:
            raise CutShort("it is not known which application was asked for")
        after, before = asked_between(reference, self._now())
        window = {"createdAtAfter": after} | ({"createdAtBefore": before} if before is not None else {})
        job_runs = search.pages(
            lambda more: self._client.list_job_runs(applicationId=application[1], **window, **more),
            "jobRuns",
            asked="nextToken",
            answered="nextToken",
        )
        return next((Handle(one["arn"]) for one in job_runs if is_marked(one.get("name", ""), reference.token)), None)

    def _variables(self, request: Request) -> dict[str, str]:
        """As Spark's properties, because there they need no quoting."""
        ours = {
            "RUNFOLD_RUN": request.run,
            "RUNFOLD_JOB": request.job,
            "RUNFOLD_ATTEMPT": str(request.attempt),
            "RUNFOLD_WORKFLOW": workflow_of(request.run),
            "RUNFOLD_TOKEN": request.token,
        }
        if self._workspace is not None:
            place = self._workspace.address(self._workspace.key(request.run, request.job, request.attempt))
            ours |= {"RUNFOLD_WORKSPACE": place.rstrip("/"), "RUNFOLD_OUTPUTS": f"{place}outputs.json"}
        environment = dict(request.body.get("environment") or {})
        properties = {f"spark.emr-serverless.driverEnv.{key}": value for key, value in (environment | ours).items()}
        return properties | {f"spark.executorEnv.{key}": value for key, value in environment.items()}

    def _report_of(self, reference: Reference, job_run: Mapping[str, Any]) -> Report:
        state, details = str(job_run["state"]), str(job_run.get("stateDetails") or "")
        times = {"handle": Handle(str(job_run["arn"])), "started_at": _aware(job_run.get("startedAt"))}
        if state in _WAITING:
            return _report(reference, "submitted", handle=times["handle"])
        if state in ("SUCCESS", "FAILED", "CANCELLED"):
            times["ended_at"] = _aware(job_run.get("endedAt") or job_run.get("updatedAt"))
        if state == "SUCCESS":
            try:
                outputs, files = outputs_left(reference, self._workspace)
            except Unfit as error:
                return _report(reference, "failed", failure="user", reason=str(error), **times)
            return _report(reference, "succeeded", outputs=outputs, files=files, **times)
        if state == "FAILED":
            failure = "capacity" if "capacity" in details.lower() else "user"
            return _report(reference, "failed", failure=failure, reason=details, **times)
        if state == "CANCELLED":
            return _report(reference, "cancelled", reason=details, **times)
        # RUNNING, CANCELLING, and whatever a later release of the service says.
        return _report(reference, "running", **times)


class EmrTargets:
    """`emr` jobs on clusters and on EMR Serverless. Claims are made for both: harmless where a token would do."""

    takes_token = False
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(self, clusters: EmrExecutor, serverless: EmrServerlessExecutor) -> None:
        self._clusters = clusters
        self._serverless = serverless

    def start(self, request: Request) -> Handle:
        """See `Executor`."""
        serverless = _APPLICATION.fullmatch(str(request.body.get("cluster_id", ""))) is not None
        return self._serverless.start(request) if serverless else self._clusters.start(request)

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`."""
        told: dict[Token, Report] = {}
        serverless = [one for one in references if _is_serverless(one)]
        clusters = [one for one in references if not _is_serverless(one)]
        for report in (*self._serverless.observe(serverless), *self._clusters.observe(clusters)):
            told[report.token] = report
        return [told[one.token] for one in references if one.token in told]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        """See `Executor`."""
        executor = self._serverless if _is_serverless(reference) else self._clusters
        executor.stop(reference, grace_seconds=grace_seconds)

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """See `shared.executors.aws_events.Told`."""
        executor = self._serverless if event.get("source") == "aws.emr-serverless" else self._clusters
        return executor.reports_of(event)


def _is_serverless(reference: Reference) -> bool:
    if reference.handle is not None:
        return reference.handle.startswith("arn:")
    return _APPLICATION.fullmatch(str((reference.request or {}).get("cluster_id", ""))) is not None


def _submit(request: Request) -> dict[str, Any]:
    """The one `spark-submit` step in the words of a job driver."""
    steps: Sequence[Mapping[str, Any]] = request.body.get("steps") or ()
    if len(steps) != 1:
        raise TargetRefused("EMR Serverless runs one thing at a time: give each step a job of its own")
    step = steps[0]["HadoopJarStep"]
    words = [str(one) for one in step.get("Args") or ()]
    if str(step["Jar"]).rpartition("/")[2] != "command-runner.jar" or words[:1] != ["spark-submit"]:
        raise TargetRefused("EMR Serverless runs `spark-submit` by command-runner.jar, and nothing else")
    position = 1
    while position < len(words) and words[position].startswith("-"):
        position += 1 if words[position] in _FLAGS or "=" in words[position] else 2
    options = words[1:position]
    if position >= len(words):
        raise TargetRefused("the step names no program to submit")
    if any(re.search(r"[\s'\"\\]", one) for one in options):
        raise TargetRefused("EMR Serverless takes options as one line: none may hold spaces or quotes")
    submit: dict[str, Any] = {"entryPoint": words[position], "entryPointArguments": words[position + 1 :]}
    if options:
        submit["sparkSubmitParameters"] = " ".join(options)
    return submit


def _aware(value: Any) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _report(reference: Reference, status: Any, **more: Any) -> Report:
    return Report(reference.token, reference.run, reference.job, reference.attempt, status, **more)
