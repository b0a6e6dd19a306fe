"""Runs scripts on managed hosts, through Systems Manager's Run Command.

Systems Manager takes no token, may deliver late or twice, and may never say how a command ended. So the text that hosts get guards
itself by a directory named after the token, the command's comment is the token, and where Systems Manager cannot know (a delivery that
timed out, an agent that died), the host is asked: a look is a small command of its own, whose answer a later `observe` reads.
"""

import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws import AwsError, code_of, failure_of, tries_once
from shared.executors.search import LOOK_BACK, SECONDS_MAX, Clock, CutShort, Search, asked_between, cut_short
from shared.executors.ssm.script import (
    Facts,
    SsmSettings,
    facts_in,
    is_instance,
    look_text,
    start_text,
    stop_text,
)
from shared.executors.workspace import OUTPUTS_BYTES_MAX, Unfit, Workspace, json_object
from shared.ids import Handle, JobName, RunId, attempt_token
from shared.ports import Reference, Report, Request

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

DOCUMENT = "AWS-RunShellScript"
PLUGIN_PATH = "awsrunShellScript/0.awsrunShellScript/stdout"
"""Where Systems Manager puts the output of this document below prefix, command and instance."""
HOSTS_MAX = 50
"""Hosts by id in one command (AWS)."""
LOOK_AGAIN = timedelta(seconds=60)
"""When the answer of a look is old enough to ask the host again."""
LOOK_KEPT = timedelta(hours=1)
"""How far back an answer is looked for: polls are never further apart than ten minutes, and a busy host's whole history is too long."""
LOOK_TIMEOUT_SECONDS = 120
GONE_AFTER = timedelta(minutes=2)
"""How long a command runs before its host is looked up, in case it is gone."""
OUTPUT_SHOWN = 2_400
"""Characters of output that come with an invocation (AWS shows 2,500); more may have been cut off."""
STDOUT_TAIL_BYTES = 400_000
"""Of the output in S3: 64 KiB outputs.json in base64, and 200 lines of files."""

_PENDING = ("Pending", "Delayed")
_RUNNING = ("InProgress", "Cancelling")
_OWN_CODES = (69, 70)
"""How the text ends for reasons that are not the job's. Where its words about them were cut off, the host is asked."""
_ORDER = ("missing", "submitted", "running", "unknown", "failed", "cancelled", "succeeded")


class SsmExecutor:
    """`client` must send each request once. `workspace` None: output stays in Systems Manager, and jobs get and leave no files."""

    takes_token = False
    token_seconds: float | None = None
    runs_at_once = False

    def __init__(
        self,
        client: "SSMClient",
        settings: SsmSettings,
        workspace: Workspace | None,
        *,
        now: Callable[[], datetime],
        clock: Clock = time.monotonic,
    ) -> None:
        if not tries_once(client):
            raise ValueError(
                "SSM takes no token: its client must be made with `client_config(sent_twice_is_harmless=False)`"
            )
        # The stubs demand literals where Systems Manager takes text.
        self._client: Any = client
        self._settings = settings
        self._workspace = workspace
        self._now = now
        self._clock = clock

    # --- the protocol -------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Handle:
        """See `Executor`. The handle is the command's id."""
        targets, several, names = self._targets(request.body)
        guard = (
            f"{str(request.body.get('guard_directory') or self._settings.guard_directory).rstrip('/')}/{request.token}"
        )
        facts = Facts(
            request.token, request.run, request.job, request.attempt, guard, several, names, tuple(request.outputs)
        )
        text = start_text(request, facts, self._workspace)
        settings = self._settings
        more: dict[str, Any] = {}
        if self._workspace is not None:
            key = self._workspace.key(request.run, request.job, request.attempt, "ssm")
            more |= {"OutputS3BucketName": self._workspace.bucket, "OutputS3KeyPrefix": key}
        if settings.log_group:
            more["CloudWatchOutputConfig"] = {
                "CloudWatchLogGroupName": settings.log_group,
                "CloudWatchOutputEnabled": True,
            }
        try:
            return Handle(
                self._sent(
                    text,
                    comment=request.token,
                    delivery=settings.delivery_timeout_seconds,
                    execution=settings.execution_timeout_seconds,
                    # One host that fails must not keep the others from beginning.
                    MaxConcurrency="100%",
                    MaxErrors="100%",
                    **targets,
                    **more,
                )
            )
        except AwsError as error:
            raise self._not_sent(error, targets) from error

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`. May send a look to a host, which runs nothing of the job."""
        reports = []
        until = self._clock() + SECONDS_MAX
        for reference in references:
            try:
                reports.append(self._observed(reference, Search(until, self._clock)))
            except CutShort as error:
                if reference.handle is None:
                    reports.append(cut_short(reference, error))
            except (TargetUnavailable, TargetSilent, TargetRefused):
                continue
            except AwsError:
                continue
        return reports

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        """See `Executor`. Cancels what was not delivered, and asks hosts to end what was: Systems Manager's own cancelling may
        leave processes behind (fault 30)."""
        try:
            command_id = reference.handle or self._find(reference, self._search())
            command = self._command(command_id) if command_id else None
            facts = _facts_of(command) if command is not None else None
            if command is None or facts is None:
                return
            facts = replace(facts, command=command["CommandId"])
            invocations = list(self._invocations(command["CommandId"], self._search()))
            alive = [one for one in invocations if one["Status"] not in ("Success", "Failed")]
            pending = [one["InstanceId"] for one in alive if one["Status"] in _PENDING]
            if pending or not invocations:
                self._client.cancel_command(CommandId=command["CommandId"], InstanceIds=pending)
            hosts = [one["InstanceId"] for one in alive if one["Status"] not in _PENDING]
            # An undelivered command must never begin, also when cancelling comes too late.
            for start in range(0, len(hosts + pending), HOSTS_MAX):
                chosen = (hosts + pending)[start : start + HOSTS_MAX]
                try:
                    self._sent(
                        stop_text(facts, grace_seconds),
                        comment=f"stop {reference.token}",
                        delivery=self._settings.delivery_timeout_seconds,
                        execution=max(LOOK_TIMEOUT_SECONDS, int(grace_seconds) + 60),
                        InstanceIds=chosen,
                    )
                except AwsError as error:
                    # A host that is not there cannot be told; what was cancelled before its delivery needs no telling.
                    if code_of(error) != "InvalidInstanceId" or any(one in hosts for one in chosen):
                        raise
        except CutShort as error:
            raise TargetUnavailable(f"cannot find what to stop: {error}") from error
        except AwsError as error:
            failure = failure_of(error, "stop the command")
            raise TargetUnavailable(str(failure)) from error

    def reports_of(self, event: Mapping[str, Any]) -> list[Report]:
        """An event only says where to look; nothing when it is about something that is not ours (fault 33)."""
        detail = event.get("detail")
        command_id = detail.get("command-id") if isinstance(detail, Mapping) else None
        if not command_id:
            return []
        try:
            command = self._command(str(command_id))
        except AwsError as error:
            raise failure_of(error, "look at the command of an event") from error
        facts = _facts_of(command) if command is not None else None
        if facts is None:
            return []
        token = attempt_token(RunId(facts.run), JobName(facts.job), facts.attempt)
        if token != facts.token:
            return []
        handle = Handle(facts.command or str(command_id))
        return self.observe(
            [Reference(token, RunId(facts.run), JobName(facts.job), facts.attempt, handle, tuple(facts.outputs))]
        )

    # --- starting -------------------------------------------------------------------------------------------------------

    def _sent(self, text: str, *, comment: str, delivery: int, execution: int, **more: Any) -> str:
        answer = self._client.send_command(
            DocumentName=DOCUMENT,
            Comment=comment,
            TimeoutSeconds=delivery,
            Parameters={"commands": [text], "executionTimeout": [str(execution)]},
            **more,
        )
        return str(answer["Command"]["CommandId"])

    def _targets(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool, dict[str, str]]:
        """Arguments of SendCommand, whether there may be several hosts, and the names of instances."""
        if body.get("tag"):
            return {"Targets": _by_tags(body["tag"])}, True, {}
        wanted = list(dict.fromkeys(body.get("hosts") or ([body["host"]] if body.get("host") else [])))
        if not wanted:
            raise TargetRefused("the job names no host")
        names: dict[str, str] = {}
        for name in wanted:
            if is_instance(name):
                names[name] = name
                continue
            host = self._settings.hosts.get(name)
            if host is None:
                raise TargetRefused(f"there is no host {name!r} in the host list, and it is no instance id")
            if host.instance is not None:
                names[host.instance] = name
            elif len(wanted) == 1 and host.tags:
                return {"Targets": _by_tags(host.tags)}, True, {}
            else:
                raise TargetRefused(f"the host {name!r} stands for tags: name it alone, or use `tag`")
        if len(names) > HOSTS_MAX:
            raise TargetRefused(
                f"a command goes to {HOSTS_MAX} hosts by name, and the job names {len(names)}: use `tag`"
            )
        return {"InstanceIds": list(names)}, len(wanted) > 1, names

    def _not_sent(self, error: Exception, targets: Mapping[str, Any]) -> Exception:
        failure = failure_of(error, "send the command")
        if code_of(error) != "InvalidInstanceId":
            return failure
        # The word covers a host that nobody knows and one that is only away for now.
        try:
            there = self._registered(targets.get("InstanceIds", ()))
        except AwsError:
            return TargetUnavailable(str(failure))
        unknown = [one for one in targets.get("InstanceIds", ()) if one not in there]
        if unknown:
            return TargetRefused(f"Systems Manager does not know the host {', '.join(unknown)}")
        return TargetUnavailable(f"not every host is online: {failure}")

    # --- observing ------------------------------------------------------------------------------------------------------

    def _observed(self, reference: Reference, search: Search) -> Report:
        command_id = reference.handle or self._find(reference, search)
        if command_id is None:
            return _report(reference, "missing")
        command = self._command(command_id)
        invocations = list(self._invocations(command_id, self._search()))
        handle = Handle(command_id)
        if command is None and not invocations:
            # Right after the send this proves nothing (fault 27); that is the run's to judge.
            return _report(reference, "missing", handle=reference.handle)
        details = str((command or {}).get("StatusDetails", ""))
        count = int((command or {}).get("TargetCount", 0))
        ended = (command or {}).get("Status") not in (*_PENDING, *_RUNNING, None)
        # Where there are hosts, their invocations may be to be seen later than the command's own end, and only they tell of it.
        if not invocations and ended and (details == "NoInstancesInTag" or count == 0):
            if details in ("Cancelled", "Canceled"):
                return _report(reference, "cancelled", handle=handle)
            return _report(reference, "failed", failure="refused", handle=handle, reason="no host carries the tags")
        facts = _facts_of(command) if command is not None else None
        if facts is None:
            return _report(reference, "submitted", handle=handle)
        each: dict[str, Report] = {}
        for invocation in invocations:
            name = facts.names.get(invocation["InstanceId"], invocation["InstanceId"])
            each[name] = self._of_host(reference, replace(facts, command=command_id), invocation)
        if len(each) < count or not each:
            # Hosts found by tag appear one after the other.
            begun = any(one.status != "submitted" for one in each.values())
            return _report(reference, "running" if begun else "submitted", handle=handle)
        combined = _combined(reference, each, facts.several)
        return replace(combined, handle=handle)

    def _of_host(self, reference: Reference, facts: Facts, invocation: Mapping[str, Any]) -> Report:
        # `Delivery Timed Out` in the documentation, `DeliveryTimedOut` in answers.
        status, details = invocation["Status"], str(invocation.get("StatusDetails", "")).replace(" ", "")
        plugin: Mapping[str, Any] = next(iter(invocation.get("CommandPlugins") or ()), {})
        times = {
            "started_at": _aware(plugin.get("ResponseStartDateTime")),
            "ended_at": _aware(plugin.get("ResponseFinishDateTime")),
        }
        if status in _PENDING:
            return _report(reference, "submitted")
        if status in _RUNNING:
            return self._while_running(reference, invocation, times)
        if status in ("Success", "Failed") and details in ("Success", "Failed", ""):
            told = self._told(reference, facts, invocation, plugin)
            if told is not None:
                return self._report_told(reference, facts, invocation["InstanceId"], told, times)
            code = int(plugin.get("ResponseCode", -1))
            if status == "Success" and code == 0:
                # Only the output in S3 would tell more, and there is none.
                return self._missed(reference, times) or _report(reference, "succeeded", exit_code=0, **times)
            if code > 0 and code not in _OWN_CODES:
                return _report(reference, "failed", failure="user", exit_code=code, reason=f"exit code {code}", **times)
        reason = f"Systems Manager says: {details or status}"
        if details == "Undeliverable" or details == "Terminated":
            return _report(reference, "failed", failure="infrastructure", reason=reason, **times)
        if details in ("InvalidPlatform", "AccessDenied"):
            return _report(reference, "failed", failure="refused", reason=reason, **times)
        if details == "RateExceeded":
            return _report(reference, "failed", failure="capacity", reason=reason, **times)
        if status == "Cancelled" and times["started_at"] is None:
            return _report(reference, "cancelled", reason=reason)
        # It may have run, or run still (faults 23, 24, 30): only the host knows.
        return self._looked(reference, facts, invocation, reason, cancelled=status == "Cancelled")

    def _while_running(self, reference: Reference, invocation: Mapping[str, Any], times: Mapping[str, Any]) -> Report:
        instance = invocation["InstanceId"]
        requested = _aware(invocation.get("RequestedDateTime"))
        if requested is not None and self._now() - requested > GONE_AFTER and not self._registered([instance]):
            if instance.startswith("mi-"):
                return _report(reference, "unknown", reason="the host is no longer registered, and may still run it")
            return _report(reference, "failed", failure="infrastructure", reason="the host is gone")
        return _report(reference, "running", started_at=times["started_at"])

    def _told(
        self, reference: Reference, facts: Facts, invocation: Mapping[str, Any], plugin: Mapping[str, Any]
    ) -> "_Told | None":
        """The last words of the text on the host, from the nearest place that has them (fault 28)."""
        status = invocation["Status"]
        output = str(plugin.get("Output") or "")
        told = _told_in(output, facts.token, status)
        if told is not None:
            return told
        if len(output) < OUTPUT_SHOWN:
            return None
        answer = self._client.get_command_invocation(
            CommandId=invocation["CommandId"], InstanceId=invocation["InstanceId"]
        )
        told = _told_in(str(answer.get("StandardOutputContent") or ""), facts.token, status)
        if told is not None or self._workspace is None:
            return told
        key = self._workspace.key(reference.run, reference.job, reference.attempt, "ssm")
        place = f"{key}/{invocation['CommandId']}/{invocation['InstanceId']}/{PLUGIN_PATH}"
        data = self._workspace.get(place, last_bytes=STDOUT_TAIL_BYTES)
        return _told_in(data.decode(errors="replace"), facts.token, status) if data is not None else None

    def _report_told(
        self, reference: Reference, facts: Facts, instance: str, told: "_Told", times: Mapping[str, Any]
    ) -> Report:
        match told.word:
            case "exit" if told.code == 0:
                try:
                    outputs = json_object(told.outputs) if told.outputs else {}
                    files = self._files(reference, facts, instance, told)
                except Unfit as error:
                    return _report(reference, "failed", failure="user", exit_code=0, reason=str(error), **times)
                return _report(reference, "succeeded", exit_code=0, outputs=outputs, files=files, **times)
            case "exit":
                reason = f"exit code {told.code}" + (f": {told.rest}" if told.rest else "")
                return _report(reference, "failed", failure="user", exit_code=told.code, reason=reason, **times)
            case "problem":
                failure, _, reason = told.rest.partition(" ")
                known = failure if failure in ("user", "infrastructure") else "infrastructure"
                return _report(reference, "failed", failure=known, reason=reason, **times)
            case "running":
                return _report(reference, "running", started_at=times.get("started_at"))
            case _:
                return _report(
                    reference, "unknown", reason="it began on the host, and nobody saw how it ended", **times
                )

    def _files(self, reference: Reference, facts: Facts, instance: str, told: "_Told") -> dict[str, str]:
        files = {}
        for one in reference.outputs:
            path = str(one["path"])
            if path in told.found and self._workspace is not None:
                name = f"files/{instance}/{path}" if facts.several else f"files/{path}"
                key = self._workspace.key(reference.run, reference.job, reference.attempt, name)
                files[path] = self._workspace.address(key)
            elif not one.get("optional"):
                raise Unfit(f"declared output {path} is missing")
        return files

    def _missed(self, reference: Reference, times: Mapping[str, Any]) -> Report | None:
        if all(one.get("optional") for one in reference.outputs):
            return None
        return _report(
            reference, "failed", failure="user", exit_code=0, reason="nothing tells where the outputs are", **times
        )

    # --- looking ----------------------------------------------------------------------------------------------------------

    def _looked(
        self, reference: Reference, facts: Facts, invocation: Mapping[str, Any], reason: str, *, cancelled: bool
    ) -> Report:
        """What the host says, if it was asked already and answered; otherwise it is asked now."""
        instance = invocation["InstanceId"]
        since = max(_aware(invocation.get("RequestedDateTime")) or self._now() - LOOK_BACK, self._now() - LOOK_KEPT)
        doubt = _report(reference, "unknown", reason=f"{reason}; the host is being asked")
        latest: Mapping[str, Any] | None = None
        for command in self._commands(self._search(), since, InstanceId=instance):
            if command.get("Comment") == f"look {reference.token}":
                latest = command
                break
        if latest is not None:
            answers = list(self._invocations(latest["CommandId"], self._search()))
            status = answers[0]["Status"] if answers else "Pending"
            plugin: Mapping[str, Any] = next(iter((answers or [{}])[0].get("CommandPlugins") or ()), {})
            asked_at = _aware(latest.get("RequestedDateTime")) or self._now()
            if status in (*_PENDING, *_RUNNING):
                return doubt
            told = self._told(reference, facts, answers[0], plugin) if status == "Success" else None
            if told is not None and told.word == "nothing":
                if cancelled:
                    return _report(reference, "cancelled", reason=reason)
                return _report(reference, "failed", failure="infrastructure", reason=f"{reason}; it never began")
            if told is not None and (told.word != "running" or self._now() - asked_at < LOOK_AGAIN):
                return self._report_told(reference, facts, instance, told, {})
            if self._now() - asked_at < LOOK_AGAIN:
                return doubt
            doubt = _report(reference, "running") if told is not None else doubt
        try:
            self._sent(
                look_text(facts),
                comment=f"look {reference.token}",
                delivery=LOOK_TIMEOUT_SECONDS,
                execution=LOOK_TIMEOUT_SECONDS,
                InstanceIds=[instance],
            )
        except AwsError:
            # A host that cannot be asked leaves the doubt as it is.
            return _report(reference, "unknown", reason=f"{reason}; the host cannot be asked")
        return doubt

    # --- asking Systems Manager -------------------------------------------------------------------------------------------

    def _search(self) -> Search:
        return Search(self._clock() + SECONDS_MAX, self._clock)

    def _find(self, reference: Reference, search: Search) -> str | None:
        """The command whose comment is the token."""
        after, before = asked_between(reference, self._now())
        host = self._first_host(reference.request)
        # On one host there are fewer to look through; but one that was not fetched yet may stand only in the list of all.
        for more in ({"InstanceId": host}, {}) if host is not None else ({},):
            for command in self._commands(search, after, before, **more):
                if command.get("Comment") == reference.token:
                    return str(command["CommandId"])
        return None

    def _first_host(self, body: Mapping[str, Any] | None) -> str | None:
        try:
            return next(iter(self._targets(body or {})[0].get("InstanceIds", ())), None)
        except TargetRefused:
            return None

    def _command(self, command_id: str) -> Mapping[str, Any] | None:
        try:
            return next(iter(self._client.list_commands(CommandId=command_id)["Commands"]), None)
        except AwsError as error:
            if code_of(error) == "InvalidCommandId":
                return None
            raise

    def _commands(
        self, search: Search, since: datetime, until: datetime | None = None, **more: Any
    ) -> Iterator[Mapping[str, Any]]:
        """Newest first."""
        # The filter knows whole seconds only.
        second = timedelta(seconds=1)
        filters = [("InvokedAfter", _text(since - second)), ("DocumentName", DOCUMENT)]
        if until is not None:
            filters.append(("InvokedBefore", _text(until + second)))
        asked = {"Filters": [{"key": key, "value": value} for key, value in filters], "MaxResults": 50, **more}
        return _paged(search, lambda page: self._client.list_commands(**asked, **page), "Commands")

    def _invocations(self, command_id: str, search: Search) -> Iterator[Mapping[str, Any]]:
        asked = {"CommandId": command_id, "Details": True, "MaxResults": 50}
        return _paged(search, lambda page: self._client.list_command_invocations(**asked, **page), "CommandInvocations")

    def _registered(self, instances: Sequence[str]) -> set[str]:
        answer = self._client.describe_instance_information(
            Filters=[{"Key": "InstanceIds", "Values": list(instances)}], MaxResults=50
        )
        return {one["InstanceId"] for one in answer["InstanceInformationList"]}


@dataclass(slots=True)
class _Told:
    """The last words about an attempt in the output of a command."""

    word: str
    code: int = -1
    rest: str = ""
    outputs: bytes = b""
    found: frozenset[str] = frozenset()


def _told_in(output: str, token: str, status: str) -> _Told | None:
    lines = re.findall(rf"^runfold {token} (.*)$", output, re.MULTILINE)
    last = next((line for line in reversed(lines) if not line.startswith(("found ", "outputs "))), None)
    if last is None:
        return None
    word, _, rest = last.strip().partition(" ")
    told = _Told(word, rest=rest)
    if word == "exit":
        code, _, told.rest = rest.partition(" ")
        if not code.isdecimal() or (len(code) > 3):
            return None
        told.code = int(code)
        # A job may print whatever it likes; the agent's word on success is its own.
        if told.code == 0 and status == "Failed":
            return None
    # The text repeats itself when it is delivered again; the last is as good as any.
    told.found = frozenset(line.removeprefix("found ") for line in lines if line.startswith("found "))
    coded = next((line for line in reversed(lines) if line.startswith("outputs ")), "")
    try:
        told.outputs = b64decode(coded.removeprefix("outputs "), validate=True)[: OUTPUTS_BYTES_MAX + 1]
    except ValueError:
        told.outputs = b"?"
    return told


def _combined(reference: Reference, each: Mapping[str, Report], several: bool) -> Report:
    """One report for all hosts: it succeeded iff it succeeded on each; while one runs, it runs."""
    if not several:
        return next(iter(each.values()))
    reports = list(each.values())
    status = next(one for one in _ORDER if one in {report.status for report in reports})
    told = {name: report for name, report in each.items() if report.status == status}
    first = next(iter(told.values()))
    started = [report.started_at for report in reports if report.started_at is not None]
    ended = [report.ended_at for report in reports if report.ended_at is not None]
    succeeded = status == "succeeded"
    return _report(
        reference,
        status,
        exit_code=first.exit_code,
        failure=first.failure,
        reason="; ".join(f"host {name}: {report.reason}" for name, report in told.items() if report.reason)[:2000],
        started_at=min(started, default=None),
        ended_at=max(ended, default=None) if len(ended) == len(reports) else None,
        outputs={name: report.outputs for name, report in each.items() if report.outputs} if succeeded else {},
        files={f"{name}/{path}": at for name, report in each.items() for path, at in report.files.items()}
        if succeeded
        else {},
    )


def _paged(search: Search, ask: Callable[[dict[str, str]], Any], key: str) -> Iterator[Mapping[str, Any]]:
    return search.pages(ask, key, asked="NextToken", answered="NextToken")


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _by_tags(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"Key": f"tag:{key}", "Values": [value]} for key, value in tags.items()]


def _facts_of(command: Mapping[str, Any]) -> Facts | None:
    texts = (command.get("Parameters") or {}).get("commands") or [""]
    return facts_in(str(texts[0]))


def _aware(value: Any) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _report(reference: Reference, status: Any, **more: Any) -> Report:
    return Report(reference.token, reference.run, reference.job, reference.attempt, status, **more)
