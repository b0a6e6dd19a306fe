"""Systems Manager's Run Command in simulated time: hosts, commands, what agents make of them, and everything that is not promised.

Kept, as AWS documents it:
* no call takes a token: sent twice, it is two commands; what is the same work, only the text on the host can know;
* a command goes Pending, Delayed, InProgress, Cancelling, and ends Success, Failed, Cancelled or TimedOut, which its details tell apart;
* `TimeoutSeconds` bounds the delivery alone, and may strike though the script ran (fault 23); `executionTimeout` bounds the script;
* lists and invocations show what is new late (27), and how it was before; output is cut, and empty until the end (28);
* an agent may restart and run the document again, or never report (24); exit code 194 reboots the host and runs it again (25);
* hosts reboot, are away, and are terminated, to be replaced under another id (26); a tag may match none or many (29);
* cancelling promises nothing, and leaves processes behind (30).

Texts are told apart by what `shared.executors.ssm.script` writes into each, and no shell runs. A host keeps a guard for each directory that
a text names, and work begins where there is none; whatever comes later tells of the first. A text without the guard, or without its word
about 194, is treated as such a text would be by a shell and an agent, so that a mistake in it is seen.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from shared.executors.ssm import SsmHost
from shared.ids import Token
from tests.simulation.kernel import BEGIN, Kernel
from tests.simulation.models.model import Behaviour, Execution, Ledger, Model, error_of

FAULTS = (
    "ssm shows a command late",
    "ssm shows invocations late",
    "ssm shows an old state",
    "ssm cannot deliver",
    "ssm never delivers",
    "ssm delivers late",
    "ssm delivery times out though it ran",
    "ssm delivers twice",
    "ssm agent restarts",
    "ssm agent never reports",
    "ssm host is away",
    "ssm host reboots",
    "ssm host is terminated",
    "ssm output is long",
    "ssm tag matches no host",
    "ssm cancelled by hand",
    "ssm cancel promises nothing",
    "ssm work ignores SIGTERM",
)
"""What `Kernel.happens` is asked for here, beside what `Client` asks."""

BRANCHES = (
    "ssm: missing right after the send",
    "ssm: told how it was before",
    "ssm: not delivered",
    "ssm: delivery timed out",
    "ssm: began though its delivery timed out",
    "ssm: second delivery ran nothing",
    "ssm: document run again",
    "ssm: execution timed out",
    "ssm: host was away",
    "ssm: host rebooted under work",
    "ssm: host terminated under work",
    "ssm: nobody saw how it ended",
    "ssm: work never began",
    "ssm: output cut off",
    "ssm: look found nothing",
    "ssm: look found work going on",
    "ssm: look found an end",
    "ssm: look found a loss",
    "ssm: stopped before it began",
    "ssm: killed after the grace",
    "ssm: ended in spite of a stop",
    "ssm: cancelled before its delivery",
    "ssm: cancelled and begun all the same",
    "ssm: cancelled and the work survived",
)
"""What `Kernel.sometimes` counts here."""

OF_TAGS_BRANCHES = ("ssm: no host carries the tags",)
"""Those that only jobs reach whose hosts are found by tags."""

DOCUMENT = "AWS-RunShellScript"
INSTANCE = "i-0123456789abcdef0"
HOSTS: Mapping[str, SsmHost] = {"warehouse": SsmHost(INSTANCE, {"role": "etl"})}
SECRET_IN_OUTPUT = "password=correct-horse-battery"
"""In the output of jobs where it is long; nothing of that may show up in histories (I13)."""

TEXT_BYTES_MAX = 65_536
COMMENT_MAX = 100
HOSTS_MAX = 50
PAGE = 50
KEPT = timedelta(days=30)
OUTPUT_MAX = 2_500
"""Characters of output in a list of invocations."""
STDOUT_MAX = 24_000
"""Characters of output from GetCommandInvocation."""
REBOOTS_MAX = 3
OLD_SECONDS = 10.0
"""So long after a change, a list may still say what was before."""
LATE_SECONDS = (2.0, 10.0, 60.0)
LONG_OUTPUT = (3_000, 60_000)
AWAY_SECONDS = (30.0, 300.0, 1_800.0)

DELIVERY_SECONDS = (0.2, 3.0)
TAGS_SECONDS = (0.2, 4.0)
REPORT_SECONDS = (0.1, 2.0)
"""From the end of a script to the answer that tells of it."""
LATE_DELIVERY_SECONDS = (20.0, 900.0)
RESTART_SECONDS = (3.0, 60.0)
REBOOT_SECONDS = (40.0, 180.0)
REPLACED_SECONDS = (120.0, 900.0)
UNREGISTERED_SECONDS = (0.0, 60.0)
CANCEL_SECONDS = (0.5, 5.0)
SIGTERM_SECONDS = (0.2, 3.0)

_ACCOUNT = "123456789012"
_REGION = "eu-central-1"
_WAITING = frozenset({"Pending", "Delayed"})
_UNDER_WAY = frozenset({"InProgress", "Cancelling"})
_WORST = ("Failed", "TimedOut", "Cancelled")
_NOT_DELIVERED = ("Undeliverable", "Terminated", "RateExceeded", "AccessDenied", "InvalidPlatform")
_GRACE = re.compile(r"^rf_grace=(\d+)$", re.MULTILINE)
_START, _LOOK, _STOP = '"$rf_g/wrapper.sh" -g "$rf_g"', "rf_state=nothing", "rf_grace="
_GUARDED = 'if [ ! -e "$rf_g/pid" ]'
_KEEPS_194 = '[ "$rf_code" = 194 ] && exit 1'
_STOPPED_FIRST = "stopped before it began"
_KILLED = "killed after the grace"


@dataclass(frozen=True, slots=True)
class _Text:
    """What a shell would make of it."""

    kind: str
    """`start`, `look`, `stop`, or empty for what is none of ours."""
    token: str = ""
    guard: str = ""
    run: str = ""
    job: str = ""
    attempt: int = 1
    grace_seconds: float = 0.0
    guarded: bool = True
    keeps_194: bool = True


@dataclass(slots=True, eq=False)
class _Guard:
    """A guard directory: who began, whether anybody wants an end, and how it ended."""

    token: str
    pid: bool = False
    stop: bool = False
    stop_unheard: bool = False
    """Somebody asked for an end, and the host never hears of it."""
    exit: tuple[int, str] | None = None
    alive: bool = False
    seconds: float = 0.0
    exit_code: int = 0
    fate: str = ""
    output: str = ""
    execution: Execution | None = None
    followers: "list[tuple[_Invocation, int, _Text]]" = field(default_factory=list)
    """Scripts that wait for the end, each with the number of the agent's process that runs it."""


@dataclass(slots=True, eq=False)
class _Host:
    instance: str
    tags: Mapping[str, str]
    guards: dict[str, _Guard] = field(default_factory=dict)
    under_way: "list[_Invocation]" = field(default_factory=list)
    away_until: datetime = BEGIN
    boots: int = 0
    gone: bool = False


@dataclass(slots=True, eq=False)
class _Command:
    facts: dict[str, Any]
    text: _Text
    delivery_seconds: float
    execution_seconds: float
    requested_at: datetime
    shown_from: datetime
    invocations_shown_from: datetime
    invocations: "dict[str, _Invocation]" = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.facts["CommandId"])


@dataclass(slots=True, eq=False)
class _Invocation:
    command: _Command
    host: _Host
    status: str = "Pending"
    details: str = "Pending"
    plugin: dict[str, Any] = field(default_factory=lambda: {"Name": "aws:runShellScript", "ResponseCode": -1})
    stdout: str = ""
    agent: int = 0
    """The number of the agent's process whose word counts; what an earlier one ran is nobody's any more."""
    silent: bool = False
    """Nobody will ever hear of what its agent does."""
    reboots: int = 0
    before: dict[str, Any] | None = None
    changed_at: datetime = BEGIN

    @property
    def ended(self) -> bool:
        return self.status not in _WAITING and self.status not in _UNDER_WAY

    def shown(self) -> dict[str, Any]:
        facts = self.command.facts
        return {
            "CommandId": facts["CommandId"],
            "InstanceId": self.host.instance,
            "Comment": facts["Comment"],
            "DocumentName": facts["DocumentName"],
            "RequestedDateTime": facts["RequestedDateTime"],
            "Status": self.status,
            "StatusDetails": self.details,
            "CommandPlugins": [{**self.plugin, "Status": self.status, "StatusDetails": self.details}],
        }


class Ssm(Model):
    """The calls of `SsmExecutor`, by the names and with the arguments of boto3. Answers are copies."""

    service = "ssm"

    def __init__(
        self,
        kernel: Kernel,
        ledger: Ledger,
        behaviour: Callable[[str, str, int], Behaviour],
        emit: Callable[[Mapping[str, Any]], None],
        *,
        hosts: Mapping[str, SsmHost] = HOSTS,
    ) -> None:
        """`hosts` by the names that jobs give them; those without an instance are only names for tags."""
        super().__init__(kernel, ledger, behaviour, emit)
        self.host_list: dict[str, SsmHost] = dict(hosts)
        """For `SsmSettings.hosts`: as people keep it, with the host that replaced a terminated one."""
        self._hosts = {
            host.instance: _Host(host.instance, host.tags) for host in hosts.values() if host.instance is not None
        }
        self._commands: dict[str, _Command] = {}

    # --- what AWS offers ------------------------------------------------------------------------------------------------

    def send_command(
        self,
        *,
        DocumentName: str,
        Parameters: Mapping[str, Sequence[str]],
        TimeoutSeconds: int = 3600,
        Comment: str = "",
        InstanceIds: Sequence[str] = (),
        Targets: Sequence[Mapping[str, Any]] = (),
        **more: Any,
    ) -> dict[str, Any]:
        text = "\n".join(Parameters["commands"])
        execution = int(Parameters.get("executionTimeout", ("3600",))[0])
        self._check(DocumentName, text, Comment, TimeoutSeconds, execution, InstanceIds, Targets)
        kernel = self.kernel
        late = kernel.pick(LATE_SECONDS) if kernel.happens("ssm shows a command late") else 0.0
        later = kernel.pick(LATE_SECONDS) if kernel.happens("ssm shows invocations late") else 0.0
        bits = f"{kernel.random.getrandbits(128):032x}"
        facts = {
            "CommandId": f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}",
            "DocumentName": DocumentName,
            "Comment": Comment,
            "Parameters": Parameters,
            "InstanceIds": list(InstanceIds),
            "Targets": list(Targets),
            "RequestedDateTime": kernel.now,
            "Status": "Pending",
            "StatusDetails": "Pending",
            "TargetCount": len(InstanceIds),
            "TimeoutSeconds": TimeoutSeconds,
            **more,
        }
        command = _Command(
            facts=facts,
            text=_read(text),
            delivery_seconds=TimeoutSeconds,
            execution_seconds=execution,
            requested_at=kernel.now,
            shown_from=kernel.now + timedelta(seconds=late),
            invocations_shown_from=kernel.now + timedelta(seconds=late + later),
        )
        self._commands[command.id] = command
        if Targets:
            kernel.after(kernel.between(*TAGS_SECONDS), lambda: self._resolve(command))
        else:
            self._invoke(command, [self._hosts[one] for one in InstanceIds])
        return {"Command": self._command_facts(command)}

    def list_commands(
        self,
        *,
        CommandId: str | None = None,
        InstanceId: str | None = None,
        Filters: Sequence[Mapping[str, str]] = (),
        MaxResults: int = PAGE,
        NextToken: str | None = None,
    ) -> dict[str, Any]:
        if CommandId is not None:
            one = self._kept(CommandId)
            if one is None:
                raise _refused("InvalidCommandId", "", "ListCommands")
            return {"Commands": [self._command_facts(one)] if self._seen(one) else []}
        if not 1 <= MaxResults <= PAGE:
            raise _refused("ValidationException", "maxResults must be 1 to 50", "ListCommands")
        wanted = {one["key"]: one["value"] for one in Filters}
        after, before = (
            datetime.fromisoformat(wanted[key]) if key in wanted else None for key in ("InvokedAfter", "InvokedBefore")
        )
        found = []
        for command in reversed(self._commands.values()):
            if after is not None and command.requested_at < after:
                break
            if before is not None and command.requested_at >= before:
                continue
            if wanted.get("DocumentName", DOCUMENT) != command.facts["DocumentName"]:
                continue
            if self._kept(command.id) is None or not self._seen(command):
                continue
            if InstanceId is None or (InstanceId in command.invocations and self._invocations_seen(command)):
                found.append(command)
        start = int(NextToken or 0)
        answer: dict[str, Any] = {
            "Commands": [self._command_facts(command) for command in found[start : start + MaxResults]]
        }
        if start + MaxResults < len(found):
            answer["NextToken"] = str(start + MaxResults)
        return answer

    def list_command_invocations(
        self, *, CommandId: str, Details: bool = False, MaxResults: int = PAGE, NextToken: str | None = None
    ) -> dict[str, Any]:
        command = self._kept(CommandId)
        if command is None or not self._seen(command) or not self._invocations_seen(command):
            return {"CommandInvocations": []}
        start = int(NextToken or 0)
        every = list(command.invocations.values())
        found = []
        for invocation in every[start : start + MaxResults]:
            facts = invocation.shown()
            if (
                invocation.before is not None
                and (self.kernel.now - invocation.changed_at).total_seconds() < OLD_SECONDS
                and self.kernel.happens("ssm shows an old state")
            ):
                self.kernel.sometimes("ssm: told how it was before")
                facts = invocation.before
            found.append(facts if Details else {**facts, "CommandPlugins": []})
        answer: dict[str, Any] = {"CommandInvocations": found}
        if start + MaxResults < len(every):
            answer["NextToken"] = str(start + MaxResults)
        return answer

    def get_command_invocation(self, *, CommandId: str, InstanceId: str) -> dict[str, Any]:
        command = self._kept(CommandId)
        invocation = command.invocations.get(InstanceId) if command is not None else None
        if command is None or invocation is None or not self._seen(command) or not self._invocations_seen(command):
            raise _refused("InvocationDoesNotExist", "", "GetCommandInvocation")
        return {
            "CommandId": CommandId,
            "InstanceId": InstanceId,
            "Comment": command.facts["Comment"],
            "Status": invocation.status,
            "StatusDetails": invocation.details,
            "ResponseCode": invocation.plugin["ResponseCode"],
            # Nothing until the end.
            "StandardOutputContent": invocation.stdout[:STDOUT_MAX] if invocation.ended else "",
            "StandardErrorContent": "",
        }

    def cancel_command(self, *, CommandId: str, InstanceIds: Sequence[str] = ()) -> dict[str, Any]:
        """Accepted; what comes of it, nobody promises (fault 30)."""
        command = self._kept(CommandId)
        if command is None:
            raise _refused("InvalidCommandId", "", "CancelCommand")
        if not command.invocations and command.facts["Status"] == "Pending":
            command.facts["Status"] = command.facts["StatusDetails"] = "Cancelled"
        for instance, invocation in command.invocations.items():
            if not InstanceIds or instance in InstanceIds:
                self._cancel(invocation)
        return {}

    def describe_instance_information(
        self, *, Filters: Sequence[Mapping[str, Any]] = (), MaxResults: int = 50
    ) -> dict[str, Any]:
        wanted: Iterable[str] = self._hosts
        for one in Filters:
            if one["Key"] != "InstanceIds":
                raise _refused("InvalidInstanceInformationFilterValue", str(one["Key"]), "DescribeInstanceInformation")
            wanted = one["Values"]
        found = [self._hosts[instance] for instance in wanted if instance in self._hosts]
        return {
            "InstanceInformationList": [
                {
                    "InstanceId": host.instance,
                    "PingStatus": "ConnectionLost" if host.gone or self._away(host) else "Online",
                }
                for host in found[:MaxResults]
            ]
        }

    # --- what people and plays do -----------------------------------------------------------------------------------------

    def terminate(self, instance: str) -> None:
        """The host goes with everything on it (fault 26). After some minutes another takes over its tags and its name in the list."""
        host = self._hosts[instance]
        if host.gone:
            return
        host.gone = True
        for guard in host.guards.values():
            if guard.alive:
                self.kernel.sometimes("ssm: host terminated under work")
            self._lose(guard)
        for invocation in host.under_way:
            invocation.agent += 1
        self.kernel.after(self.kernel.between(*UNREGISTERED_SECONDS), lambda: self._unregister(instance))
        self.kernel.after(self.kernel.between(*REPLACED_SECONDS), lambda: self._replace(host))

    def reboot(self, instance: str) -> None:
        """Work ends unseen; what the agent was at, it runs again afterwards (fault 24)."""
        host = self._hosts.get(instance)
        if host is None or host.gone:
            return
        host.boots += 1
        host.away_until = self.kernel.now + timedelta(seconds=self.kernel.between(*REBOOT_SECONDS))
        for guard in host.guards.values():
            if guard.alive:
                self.kernel.sometimes("ssm: host rebooted under work")
            self._lose(guard)
        for invocation in host.under_way:
            self._restart(invocation)

    # --- what is known ------------------------------------------------------------------------------------------------------

    def _check(
        self,
        document: str,
        text: str,
        comment: str,
        delivery: int,
        execution: int,
        instances: Sequence[str],
        targets: Sequence[Mapping[str, Any]],
    ) -> None:
        def refuse(code: str, words: str) -> ClientError:
            return _refused(code, words, "SendCommand")

        if document != DOCUMENT:
            raise refuse("InvalidDocument", f"Document with name {document} does not exist.")
        if "{{" in text:
            raise refuse("InvalidParameters", "a parameter of the document cannot be resolved")
        if len(text) > TEXT_BYTES_MAX or len(text.encode()) > TEXT_BYTES_MAX:
            raise refuse("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB.")
        if len(comment) > COMMENT_MAX or not 30 <= delivery <= 2_592_000 or not 1 <= execution <= 172_800:
            raise refuse("ValidationException", "a value is out of its bounds")
        if bool(instances) == bool(targets) or len(instances) > HOSTS_MAX:
            raise refuse("ValidationException", f"either targets or 1 to {HOSTS_MAX} instances")
        if len(set(instances)) < len(instances):
            raise refuse("DuplicateInstanceId", "")
        for instance in instances:
            host = self._hosts.get(instance)
            if host is not None and self.kernel.happens("ssm host is away"):
                host.away_until = self.kernel.now + timedelta(seconds=self.kernel.pick(AWAY_SECONDS))
            if host is None or host.gone or self._away(host):
                if host is not None and not host.gone:
                    self.kernel.sometimes("ssm: host was away")
                raise refuse("InvalidInstanceId", f"Instances [[{instance}]] not in a valid state for account")

    def _away(self, host: _Host) -> bool:
        return self.kernel.now < host.away_until

    def _kept(self, command_id: str) -> _Command | None:
        command = self._commands.get(command_id)
        return command if command is not None and self.kernel.now - command.requested_at < KEPT else None

    def _seen(self, command: _Command) -> bool:
        if self.kernel.now < command.shown_from:
            self.kernel.sometimes("ssm: missing right after the send")
            return False
        return True

    def _invocations_seen(self, command: _Command) -> bool:
        return self.kernel.now >= command.invocations_shown_from

    def _command_facts(self, command: _Command) -> dict[str, Any]:
        facts = dict(command.facts)
        statuses = {one.status for one in command.invocations.values()}
        if statuses:
            if statuses <= _WAITING:
                status = "Pending"
            elif statuses & (_WAITING | _UNDER_WAY):
                status = "InProgress"
            else:
                status = next((one for one in _WORST if one in statuses), "Success")
            facts["Status"] = facts["StatusDetails"] = status
        return facts

    # --- delivery -----------------------------------------------------------------------------------------------------------

    def _resolve(self, command: _Command) -> None:
        """Find the hosts that carry the tags, each of them (fault 29)."""
        if command.facts["Status"] != "Pending":
            return
        hosts = [
            host
            for host in self._hosts.values()
            if not host.gone
            and all(host.tags.get(one["Key"].removeprefix("tag:")) in one["Values"] for one in command.facts["Targets"])
        ]
        if not hosts or self.kernel.happens("ssm tag matches no host"):
            self.kernel.sometimes("ssm: no host carries the tags")
            command.facts |= {"Status": "Failed", "StatusDetails": "NoInstancesInTag"}
            self._emit("EC2 Command Status-change Notification", command, "Failed", {})
            return
        command.facts["TargetCount"] = len(hosts)
        self._invoke(command, hosts)

    def _invoke(self, command: _Command, hosts: Iterable[_Host]) -> None:
        for host in hosts:
            invocation = _Invocation(command, host)
            command.invocations[host.instance] = invocation
            self._send(invocation)

    def _send(self, invocation: _Invocation) -> None:
        kernel, command, host = self.kernel, invocation.command, invocation.host
        seconds = kernel.between(*DELIVERY_SECONDS)
        guard = host.guards.get(command.text.guard)
        if command.text.kind == "stop" and guard is not None and guard.fate == "ignores stops":
            guard.stop_unheard = True
            self._leave_undelivered(invocation)
        elif kernel.happens("ssm cannot deliver"):
            kernel.after(seconds, lambda: self._refuse(invocation))
        elif kernel.happens("ssm never delivers"):
            self._leave_undelivered(invocation)
        elif kernel.happens("ssm delivery times out though it ran"):
            # What the agent says is lost; it may even fetch the command when nobody expects it to.
            invocation.silent = True
            self._leave_undelivered(invocation)
            kernel.after(kernel.between(seconds, 1.5 * command.delivery_seconds), lambda: self._deliver(invocation))
        else:
            if kernel.happens("ssm delivers late"):
                seconds = kernel.between(*LATE_DELIVERY_SECONDS)
                self._leave_undelivered(invocation)
            kernel.after(seconds, lambda: self._deliver(invocation))

    def _refuse(self, invocation: _Invocation) -> None:
        if invocation.status == "Pending":
            self.kernel.sometimes("ssm: not delivered")
            self._becomes(invocation, "Failed", self.kernel.pick(_NOT_DELIVERED))

    def _leave_undelivered(self, invocation: _Invocation) -> None:
        """Unless something else happens, its delivery times out."""

        def time_out() -> None:
            if invocation.status in _WAITING:
                self.kernel.sometimes("ssm: delivery timed out")
                self._becomes(invocation, "TimedOut", "DeliveryTimedOut")

        self.kernel.at(
            invocation.command.requested_at + timedelta(seconds=invocation.command.delivery_seconds), time_out
        )

    def _deliver(self, invocation: _Invocation) -> None:
        kernel, host = self.kernel, invocation.host
        if host.gone:
            self._leave_undelivered(invocation)
            return
        if self._away(host):
            if invocation.status == "Pending" and not invocation.silent:
                self._becomes(invocation, "Delayed", "Delayed")
            self._leave_undelivered(invocation)
            kernel.at(host.away_until + timedelta(seconds=1), lambda: self._deliver(invocation))
            return
        if not invocation.silent:
            if invocation.status not in _WAITING:
                return
            invocation.plugin["ResponseStartDateTime"] = kernel.now
            self._becomes(invocation, "InProgress", "InProgress")
            host.under_way.append(invocation)
            self._bound_execution(invocation)
            if kernel.happens("ssm agent never reports"):
                invocation.silent = True
            if kernel.happens("ssm delivers twice"):
                kernel.after(kernel.between(1, 120), lambda: self._again(invocation))
        self._run(invocation)

    def _bound_execution(self, invocation: _Invocation) -> None:
        def time_out() -> None:
            if invocation.status in _UNDER_WAY:
                self.kernel.sometimes("ssm: execution timed out")
                # The agent ends the script it started, and the work has a session of its own.
                self._becomes(invocation, "TimedOut", "ExecutionTimedOut")

        self.kernel.after(invocation.command.execution_seconds, time_out)

    def _restart(self, invocation: _Invocation) -> None:
        """The agent's process is gone, with the script and without the work; it runs the document again."""
        invocation.agent += 1
        agent = invocation.agent

        def rerun() -> None:
            if invocation.agent != agent or invocation.status != "InProgress" or invocation.host.gone:
                return
            if self._away(invocation.host):
                self.kernel.at(invocation.host.away_until, rerun)
            else:
                self._again(invocation)

        self.kernel.after(self.kernel.between(*RESTART_SECONDS), rerun)

    def _again(self, invocation: _Invocation) -> None:
        if not invocation.host.gone and not self._away(invocation.host):
            self.kernel.sometimes("ssm: document run again")
            self._run(invocation)

    def _cancel(self, invocation: _Invocation) -> None:
        kernel = self.kernel
        if invocation.status in _WAITING:
            kernel.sometimes("ssm: cancelled before its delivery")
            self._becomes(invocation, "Cancelled", "Cancelled")
            if kernel.happens("ssm cancel promises nothing") and not invocation.silent:
                invocation.silent = True
                kernel.after(kernel.between(*LATE_DELIVERY_SECONDS), lambda: self._deliver(invocation))
        elif invocation.status == "InProgress" and not kernel.happens("ssm cancel promises nothing"):
            self._becomes(invocation, "Cancelling", "Cancelling")

            def cancelled() -> None:
                if invocation.status != "Cancelling" or invocation.host.gone:
                    return
                guard = invocation.host.guards.get(invocation.command.text.guard)
                if guard is not None and guard.alive:
                    kernel.sometimes("ssm: cancelled and the work survived")
                self._becomes(invocation, "Cancelled", "Cancelled")

            kernel.after(kernel.between(*CANCEL_SECONDS), cancelled)

    # --- on a host ----------------------------------------------------------------------------------------------------------

    def _run(self, invocation: _Invocation) -> None:
        """The agent gives the text to a shell."""
        text, host = invocation.command.text, invocation.host
        if text.kind == "":
            self._answer(invocation, invocation.agent, 0, "")
            return
        guard = host.guards.get(text.guard)
        if guard is None or (text.kind == "start" and not text.guarded):
            guard = host.guards[text.guard] = _Guard(text.token)
        match text.kind:
            case "look":
                self._answer(invocation, invocation.agent, 0, self._look(guard))
            case "stop":
                self._stop(guard, host, text.grace_seconds)
                self._answer(invocation, invocation.agent, 0, "")
            case _:
                self._follow(invocation, guard, text)

    def _follow(self, invocation: _Invocation, guard: _Guard, text: _Text) -> None:
        if guard.pid:
            self.kernel.sometimes("ssm: second delivery ran nothing")
        elif not guard.stop:
            seconds, exit_code, fate = self.behaviour(text.run, text.job, text.attempt).of(text.attempt)
            if fate == "never starts":
                self.kernel.sometimes("ssm: work never began")
                words = f"runfold {guard.token} problem infrastructure the host has no user etl\n"
                self._answer(invocation, invocation.agent, 69, words)
                return
            self._begin(invocation, guard, seconds, exit_code, fate)
        if not guard.pid:
            self.kernel.sometimes("ssm: stopped before it began")
            self._answer(invocation, invocation.agent, 143, f"\nrunfold {guard.token} exit 143 {_STOPPED_FIRST}\n")
        elif guard.exit is not None:
            self._tell_end(invocation, invocation.agent, guard, text)
        elif guard.alive:
            guard.followers.append((invocation, invocation.agent, text))
        else:
            self.kernel.sometimes("ssm: nobody saw how it ended")
            self._answer(invocation, invocation.agent, 70, f"{guard.output}runfold {guard.token} unknown\n")

    def _begin(self, invocation: _Invocation, guard: _Guard, seconds: float, exit_code: int, fate: str) -> None:
        kernel, host = self.kernel, invocation.host
        guard.pid = guard.alive = True
        guard.seconds, guard.exit_code, guard.fate = seconds, exit_code, fate
        guard.execution = Execution(Token(guard.token), kernel.now, invocation.command.id)
        self.ledger.executions.append(guard.execution)
        if invocation.status == "Cancelled":
            kernel.sometimes("ssm: cancelled and begun all the same")
        elif invocation.status not in _UNDER_WAY:
            kernel.sometimes("ssm: began though its delivery timed out")
        if kernel.happens("ssm output is long"):
            guard.output = _noise(kernel.random.randint(*LONG_OUTPUT))
        part = seconds * kernel.between(0.1, 0.9)
        if fate == "vanishes" or kernel.happens("ssm host is terminated"):
            kernel.after(part, lambda: self._strike(host, guard, self.terminate))
        elif kernel.happens("ssm host reboots"):
            kernel.after(part, lambda: self._strike(host, guard, self.reboot))
        elif kernel.happens("ssm agent restarts"):
            kernel.after(part, lambda: self._restart(invocation) if not host.gone else None)
        elif kernel.happens("ssm cancelled by hand"):
            kernel.after(part, lambda: self._cancel(invocation))
        if fate != "hangs":
            kernel.after(seconds, lambda: self._end_itself(guard))

    def _strike(self, host: _Host, guard: _Guard, how: Callable[[str], None]) -> None:
        if guard.alive:
            how(host.instance)

    def _end_itself(self, guard: _Guard) -> None:
        if guard.alive:
            if guard.stop_unheard:
                self.kernel.sometimes("ssm: ended in spite of a stop")
            self._end(guard, guard.exit_code, "", "failed" if guard.exit_code else "succeeded")

    def _end(self, guard: _Guard, code: int, why: str, outcome: str) -> None:
        guard.alive = False
        guard.exit = (code, why)
        if guard.execution is not None:
            guard.execution.ended_at = self.kernel.now
            guard.execution.outcome = outcome
            guard.execution.exit_code = code
        followers, guard.followers = guard.followers, []
        for invocation, agent, text in followers:
            self._tell_end(invocation, agent, guard, text)

    def _lose(self, guard: _Guard) -> None:
        if guard.alive:
            guard.alive = False
            guard.followers = []
            assert guard.execution is not None
            guard.execution.ended_at = self.kernel.now
            guard.execution.outcome = "vanished"

    def _look(self, guard: _Guard) -> str:
        if not guard.pid:
            # What has not begun never will.
            guard.stop = True
        if guard.exit is not None:
            self.kernel.sometimes("ssm: look found an end")
            state = f"exit {guard.exit[0]} {guard.exit[1]}"
        elif guard.alive:
            self.kernel.sometimes("ssm: look found work going on")
            state = "running"
        elif guard.pid:
            self.kernel.sometimes("ssm: look found a loss")
            state = "unknown"
        else:
            self.kernel.sometimes("ssm: look found nothing")
            state = "nothing"
        return f"runfold {guard.token} {state}\n"

    def _stop(self, guard: _Guard, host: _Host, grace_seconds: float) -> None:
        guard.stop = True
        if not guard.pid or guard.exit is not None:
            return
        boots = host.boots

        def kill() -> None:
            if guard.exit is None and not host.gone and host.boots == boots:
                self.kernel.sometimes("ssm: killed after the grace")
                if guard.alive:
                    self._end(guard, 137, _KILLED, "stopped")
                else:
                    # The script on the host does not know that it was gone before.
                    guard.exit = (137, _KILLED)

        def end() -> None:
            if guard.alive:
                self._end(guard, 143, "", "stopped")

        if not guard.alive or self.kernel.happens("ssm work ignores SIGTERM"):
            self.kernel.after(grace_seconds, kill)
        else:
            self.kernel.after(self.kernel.between(*SIGTERM_SECONDS), end)

    def _unregister(self, instance: str) -> None:
        self._hosts.pop(instance, None)

    def _replace(self, host: _Host) -> None:
        instance = f"i-{self.kernel.random.getrandbits(68):017x}"
        self._hosts[instance] = _Host(instance, host.tags)
        for name, listed in self.host_list.items():
            if listed.instance == host.instance:
                self.host_list[name] = SsmHost(instance, listed.tags)

    # --- what is told -------------------------------------------------------------------------------------------------------

    def _tell_end(self, invocation: _Invocation, agent: int, guard: _Guard, text: _Text) -> None:
        assert guard.exit is not None
        code, why = guard.exit
        output = f"{guard.output}\nrunfold {guard.token} exit {code} {why}\n"
        self._answer(invocation, agent, 1 if code == 194 and text.keeps_194 else code, output)

    def _answer(self, invocation: _Invocation, agent: int, code: int, output: str) -> None:
        """A script has ended; its agent tells, if it is still the one that runs it, and anybody hears it."""

        def tell() -> None:
            if invocation.silent or invocation.agent != agent or invocation.status not in _UNDER_WAY:
                return
            if invocation.host.gone:
                return
            if code == 194 and invocation.reboots < REBOOTS_MAX:
                invocation.reboots += 1
                self.reboot(invocation.host.instance)
                return
            invocation.stdout = output
            shown = output
            if len(output) > OUTPUT_MAX:
                self.kernel.sometimes("ssm: output cut off")
                shown = output[: OUTPUT_MAX - 24] + "\n---Output truncated---"
            finished = {"ResponseCode": code, "ResponseFinishDateTime": self.kernel.now, "Output": shown}
            status = "Success" if code == 0 else "Failed"
            self._becomes(invocation, status, status, **finished)

        self.kernel.after(self.kernel.between(*REPORT_SECONDS), tell)

    def _becomes(self, invocation: _Invocation, status: str, details: str, **plugin: Any) -> None:
        if invocation.ended:
            return
        invocation.before = invocation.shown()
        invocation.changed_at = self.kernel.now
        invocation.status, invocation.details = status, details
        invocation.plugin |= plugin
        if status not in _WAITING and status not in _UNDER_WAY:
            # What its agent runs from now on is nobody's any more.
            invocation.agent += 1
            if invocation in invocation.host.under_way:
                invocation.host.under_way.remove(invocation)
        self._emit(
            "EC2 Command Invocation Status-change Notification",
            invocation.command,
            status,
            {"instance-id": invocation.host.instance},
        )

    def _emit(self, kind: str, command: _Command, status: str, more: Mapping[str, str]) -> None:
        now = _text(self.kernel.now)
        self.emit(
            {
                "version": "0",
                "id": f"{self.kernel.random.getrandbits(128):032x}",
                "detail-type": kind,
                "source": "aws.ssm",
                "account": _ACCOUNT,
                "time": now,
                "region": _REGION,
                "resources": [f"arn:aws:ec2:{_REGION}:{_ACCOUNT}:instance/{one}" for one in more.values()],
                "detail": {
                    "command-id": command.id,
                    "document-name": command.facts["DocumentName"],
                    "requested-date-time": _text(command.requested_at),
                    "status": status,
                    **more,
                },
            }
        )


def _read(text: str) -> _Text:
    """What a shell would take from it: the variables that stand after the first line, and which script follows."""
    header, _, rest = text.partition("\n")
    if not header.startswith("# runfold "):
        return _Text("")
    token_line, _, after = rest.partition("\n")
    guard_line = after.partition("\n")[0]
    told = json.loads(header.removeprefix("# runfold "))
    if _START in text:
        kind = "start"
    elif _LOOK in text:
        kind = "look"
    else:
        assert _STOP in text, text[:200]
        kind = "stop"
    grace = _GRACE.search(text) if kind == "stop" else None
    return _Text(
        kind,
        token=_value(token_line, "rf_token"),
        guard=_value(guard_line, "rf_g"),
        run=told["run"],
        job=told["job"],
        attempt=told["attempt"],
        grace_seconds=float(grace[1]) if grace is not None else 0.0,
        guarded=kind != "start" or _GUARDED in text,
        keeps_194=kind != "start" or _KEEPS_194 in text,
    )


def _value(line: str, name: str) -> str:
    words = shlex.split(line)
    assert len(words) == 1, line
    assert words[0].startswith(f"{name}="), line
    return words[0].removeprefix(f"{name}=")


def _noise(length: int) -> str:
    """Output of a job: so many characters, some of which were no text, and one line that nobody should print (fault 28)."""
    line = f"\ufffd loaded a part, {SECRET_IN_OUTPUT}\n"
    return (line * (length // len(line) + 1))[:length]


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _refused(code: str, words: str, operation: str) -> ClientError:
    return error_of(code, words, operation)
