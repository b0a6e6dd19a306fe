"""SSM's Run Command: hosts that run what they are sent as real shells, late, twice or never, and say little about it."""

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
from tests.compute.objects import Objects
from tests.compute.processes import Processes, signal_group

ENDED = ("Success", "Failed", "Cancelled", "TimedOut")
PAGE = 50
OUTPUT_MAX = 2_500
STDOUT_MAX = 24_000
STDERR_MAX = 8_000
REBOOTS_MAX = 3
GUARDS = "/var/lib/runfold"
"""What each host has for itself; everything else is this machine's."""


@dataclass(slots=True)
class Host:
    tags: dict[str, str] = field(default_factory=dict)
    online: bool = True


@dataclass(slots=True)
class _Invocation:
    facts: dict[str, Any]
    plugin: dict[str, Any]
    directory: Path
    process: "subprocess.Popen[bytes] | None" = None


@dataclass(slots=True)
class _Command:
    facts: dict[str, Any]
    invocations: dict[str, _Invocation] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)


class Ssm:
    prefix = "AmazonSSM"

    def __init__(
        self, faults: Faults, events: Events, processes: Processes, base: dict[str, str], objects: Objects
    ) -> None:
        self._faults = faults
        self._events = events
        self._processes = processes
        self._base = base
        self._objects = objects
        self._lock = threading.RLock()
        self.hosts: dict[str, Host] = {}
        self.commands: dict[str, _Command] = {}
        self.parameters: dict[str, str] = {}
        self.shell = ["sh"]
        """What the agent runs scripts by."""

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "SendCommand":
                return self._send(body)
            case "ListCommands":
                return self._list(body)
            case "ListCommandInvocations":
                return self._invocations(body)
            case "GetCommandInvocation":
                return self._invocation(body)
            case "CancelCommand":
                return self._cancel(body)
            case "DescribeInstanceInformation":
                return self._hosts(body)
            case "GetParameter":
                return {"Parameter": {"Name": body["Name"], "Value": self.parameters[body["Name"]]}}
            case _:
                raise NotServed(operation)

    # --- what tests do to it --------------------------------------------------------------------------------------------

    def restart_agent(self, command: str, instance: str, *, rerun: bool = True) -> None:
        """The agent dies with what it started, and runs the document again (fault 24)."""
        invocation = self.commands[command].invocations[instance]
        old, invocation.process = invocation.process, None
        if old is not None:
            signal_group(old, 9)
            old.wait()
        if rerun:
            threading.Thread(target=self._execute, args=(self.commands[command], invocation), daemon=True).start()

    # --- operations -----------------------------------------------------------------------------------------------------

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "\n".join(body["Parameters"]["commands"])
        if "{{" in text:
            raise Refused("InvalidParameters", "a parameter of the document cannot be resolved")
        if len(text.encode()) > 65_536:
            raise Refused("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB.")
        if "executionTimeout" not in body["Parameters"] or "TimeoutSeconds" not in body:
            raise Refused("InvalidParameters", "both timeouts are wanted by these tests")
        if len(body.get("Comment", "")) > 100:
            raise Refused("ValidationException", "comment too long")
        wanted = body.get("InstanceIds", [])
        for instance in wanted:
            if instance not in self.hosts or not self.hosts[instance].online:
                raise Refused("InvalidInstanceId", "Instances not in a valid state for account")
        for target in body.get("Targets", []):
            key = target["Key"].removeprefix("tag:")
            found = {name for name, host in self.hosts.items() if host.tags.get(key) in target["Values"]}
            wanted = sorted(found if not wanted else found & set(wanted))
        number = str(uuid.uuid4())
        status = {"Status": "Pending", "StatusDetails": "Pending"}
        if not wanted:
            status = {"Status": "Failed", "StatusDetails": "NoInstancesInTag"}
        facts = {
            "CommandId": number,
            "DocumentName": body["DocumentName"],
            "Comment": body.get("Comment", ""),
            "Parameters": body["Parameters"],
            "InstanceIds": body.get("InstanceIds", []),
            "Targets": body.get("Targets", []),
            "RequestedDateTime": time.time(),
            "TargetCount": len(wanted),
            "TimeoutSeconds": body["TimeoutSeconds"],
            "OutputS3BucketName": body.get("OutputS3BucketName", ""),
            "OutputS3KeyPrefix": body.get("OutputS3KeyPrefix", ""),
            **status,
        }
        command = _Command(facts)
        for instance in wanted:
            directory = self._processes.directory / "commands" / number / instance
            directory.mkdir(parents=True)
            plugin = {"Name": "aws:runShellScript", "Status": "Pending", "ResponseCode": -1, "Output": ""}
            seen = {
                "CommandId": number,
                "InstanceId": instance,
                "Comment": facts["Comment"],
                "RequestedDateTime": facts["RequestedDateTime"],
                "Status": "Pending",
                "StatusDetails": "Pending",
            }
            command.invocations[instance] = _Invocation(seen, plugin, directory)
        with self._lock:
            self.commands[number] = command
        answer = {"Command": dict(facts)}
        for invocation in command.invocations.values():
            threading.Thread(target=self._live, args=(command, invocation), daemon=True).start()
        return answer

    def _seen(self, command: _Command) -> bool:
        return time.monotonic() - command.began >= self._faults.missing_seconds

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        after, before = 0.0, float("inf")
        for one in body.get("Filters", []):
            if one["key"] == "DocumentName":
                continue
            at = datetime.strptime(one["value"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
            after, before = (at, before) if one["key"] == "InvokedAfter" else (after, at)
        found = [
            dict(command.facts)
            for number, command in list(self.commands.items())[::-1]
            if self._seen(command)
            and body.get("CommandId", number) == number
            and (not body.get("InstanceId") or body["InstanceId"] in command.invocations)
            and after <= command.facts["RequestedDateTime"] < before
        ]
        start = int(body.get("NextToken", 0))
        answer: dict[str, Any] = {"Commands": found[start : start + PAGE]}
        if start + PAGE < len(found):
            answer["NextToken"] = str(start + PAGE)
        return answer

    def _invocations(self, body: dict[str, Any]) -> dict[str, Any]:
        command = self.commands.get(body["CommandId"])
        if command is None or not self._seen(command):
            return {"CommandInvocations": []}
        found = []
        for invocation in command.invocations.values():
            plugin = [dict(invocation.plugin)] if body.get("Details") else []
            found.append({**invocation.facts, "CommandPlugins": plugin})
        return {"CommandInvocations": found}

    def _invocation(self, body: dict[str, Any]) -> dict[str, Any]:
        command = self.commands.get(body["CommandId"])
        if command is None or not self._seen(command):
            raise Refused("InvocationDoesNotExist", "")
        invocation = command.invocations[body["InstanceId"]]
        out, err = invocation.directory / "stdout", invocation.directory / "stderr"
        ended = invocation.facts["Status"] in ENDED
        return {
            "CommandId": body["CommandId"],
            "InstanceId": body["InstanceId"],
            "Status": invocation.facts["Status"],
            "StatusDetails": invocation.facts["StatusDetails"],
            "ResponseCode": invocation.plugin["ResponseCode"],
            # Nothing until the end.
            "StandardOutputContent": _text(out)[:STDOUT_MAX] if ended else "",
            "StandardErrorContent": _text(err)[:STDERR_MAX] if ended else "",
        }

    def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        command = self.commands.get(body["CommandId"])
        if command is None:
            raise Refused("InvalidCommandId", "")
        for instance, invocation in command.invocations.items():
            if body.get("InstanceIds") and instance not in body["InstanceIds"]:
                continue
            if invocation.facts["Status"] == "Pending":
                self._tell(command, invocation, "Cancelled")
            elif invocation.facts["Status"] == "InProgress" and invocation.process is not None:
                # Only what the agent started itself; what left its session survives (fault 30).
                signal_group(invocation.process, 9)
                self._tell(command, invocation, "Cancelled")
        return {}

    def _hosts(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted: list[str] | None = None
        for one in body.get("Filters", []):
            if one["Key"] == "InstanceIds":
                wanted = one["Values"]
        found = [
            {"InstanceId": name, "PingStatus": "Online" if host.online else "ConnectionLost"}
            for name, host in self.hosts.items()
            if wanted is None or name in wanted
        ]
        return {"InstanceInformationList": found}

    # --- on the host ----------------------------------------------------------------------------------------------------

    def _live(self, command: _Command, invocation: _Invocation) -> None:
        instance = invocation.facts["InstanceId"]
        time.sleep(self._faults.delay_seconds.get("Pending", 0))
        ours = command.facts["Comment"].partition(" ")[0] in ("look", "stop")
        if instance in self._faults.undelivered:
            return
        if invocation.facts["Status"] != "Pending":
            return
        if instance in self._faults.delivery_times_out_after_running and not ours:
            self._tell(command, invocation, "TimedOut", "DeliveryTimedOut")
            self._execute(command, invocation, silent=True)
            return
        self._execute(command, invocation, silent=instance in self._faults.never_report and not ours)

    def _execute(self, command: _Command, invocation: _Invocation, *, silent: bool = False) -> None:
        script = invocation.directory / "_script.sh"
        # Every host has a disk of its own.
        disk = self._processes.directory / "hosts" / invocation.facts["InstanceId"]
        text = "\n".join(command.facts["Parameters"]["commands"])
        script.write_text(text.replace(GUARDS, str(disk)))
        environment = {
            "PATH": self._processes.path,
            "HOME": "/root",
            "AWS_SSM_INSTANCE_ID": invocation.facts["InstanceId"],
            **self._base,
        }
        if not silent:
            invocation.plugin["ResponseStartDateTime"] = time.time()
            self._tell(command, invocation, "InProgress")
        out, err = invocation.directory / "stdout", invocation.directory / "stderr"
        code, process = -1, None
        for _ in range(REBOOTS_MAX):
            process = self._processes.start([*self.shell, str(script)], environment, invocation.directory, out, err)
            invocation.process = process
            code = self._processes.wait(process)
            # The agent reboots the host and runs the document again (fault 25).
            if code != 194:
                break
        # A stand-in that is being closed has taken its folder away.
        if silent or invocation.process is not process or invocation.facts["Status"] in ENDED or not out.exists():
            return
        key = f"{command.facts['OutputS3KeyPrefix']}/{command.facts['CommandId']}/{invocation.facts['InstanceId']}"
        if command.facts["OutputS3BucketName"]:
            place = f"{command.facts['OutputS3BucketName']}/{key}/awsrunShellScript/0.awsrunShellScript"
            self._objects.put(f"{place}/stdout", out.read_bytes())
            self._objects.put(f"{place}/stderr", err.read_bytes())
        shown = _text(out)
        if _text(err):
            shown += "\n----------ERROR-------\n" + _text(err)
        invocation.plugin |= {
            "ResponseCode": code,
            "ResponseFinishDateTime": time.time(),
            "Output": shown if len(shown) <= OUTPUT_MAX else shown[: OUTPUT_MAX - 22] + "\n---Output truncated---",
        }
        self._tell(command, invocation, "Success" if code == 0 else "Failed")

    def _tell(self, command: _Command, invocation: _Invocation, status: str, details: str = "") -> None:
        with self._lock:
            if invocation.facts["Status"] in ENDED:
                return
            for facts in (invocation.facts, invocation.plugin):
                facts["Status"], facts["StatusDetails"] = status, details or status
            every = {one.facts["Status"] for one in command.invocations.values()}
            if every <= set(ENDED):
                worst = next((one for one in ("Failed", "TimedOut", "Cancelled") if one in every), "Success")
                command.facts["Status"] = command.facts["StatusDetails"] = worst
            else:
                command.facts["Status"] = command.facts["StatusDetails"] = "InProgress"
        detail = {
            "command-id": command.facts["CommandId"],
            "document-name": command.facts["DocumentName"],
            "instance-id": invocation.facts["InstanceId"],
            "requested-date-time": datetime.fromtimestamp(command.facts["RequestedDateTime"], UTC).isoformat(),
            "status": status,
        }
        self._events.emit("aws.ssm", "EC2 Command Invocation Status-change Notification", detail, [])


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace") if path.exists() else ""
