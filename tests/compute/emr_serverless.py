"""EMR Serverless: job runs whose entry point is a real process, with client tokens, over paths instead of targets."""

import subprocess
import threading
import time
import uuid
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from tests.compute.answers import NotServed, Refused
from tests.compute.events import ACCOUNT, REGION, Events
from tests.compute.processes import Processes, signal_group

PAGE = 50
ENDED = ("SUCCESS", "FAILED", "CANCELLED")


class EmrServerless:
    def __init__(self, events: Events, processes: Processes, base: dict[str, str]) -> None:
        self._events = events
        self._processes = processes
        self._base = base
        self._lock = threading.Lock()
        self.runs: dict[str, dict[str, Any]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def operation(method: str, path: str) -> str | None:
        """The operation of a request, None when it is not for this service."""
        if not path.startswith("/applications/"):
            return None
        if method == "GET" and path.partition("?")[0].endswith("/jobruns"):
            return "ListJobRuns"
        return {"POST": "StartJobRun", "GET": "GetJobRun", "DELETE": "CancelJobRun"}.get(method)

    def call(self, operation: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        parts = path.partition("?")[0].split("/")
        match operation:
            case "StartJobRun":
                return self._start(parts[2], body)
            case "ListJobRuns":
                return self._list(parts[2], parse_qs(path.partition("?")[2]))
            case "GetJobRun":
                return {"jobRun": self._run(parts[4])}
            case "CancelJobRun":
                return self._cancel(parts[4])
            case _:
                raise NotServed(operation)

    def _start(self, application: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            for run in self.runs.values():
                if run["clientToken"] == body["clientToken"]:
                    if run["request"] != body:
                        raise Refused("ConflictException", "the token was used with another request", status=409)
                    return {key: run[key] for key in ("applicationId", "jobRunId", "arn")}
            number = uuid.uuid4().hex[:16]
            run = {
                "applicationId": application,
                "jobRunId": number,
                "arn": f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:/applications/{application}/jobruns/{number}",
                "name": body.get("name", ""),
                "clientToken": body["clientToken"],
                "request": body,
                "jobDriver": body["jobDriver"],
                "createdBy": "me",
                "executionRole": body["executionRoleArn"],
                "releaseLabel": "emr-7.11.0",
                "createdAt": time.time(),
                "updatedAt": time.time(),
                "state": "SUBMITTED",
                "stateDetails": "",
            }
            self.runs[number] = run
        threading.Thread(target=self._live, args=(run,), daemon=True).start()
        return {key: run[key] for key in ("applicationId", "jobRunId", "arn")}

    def _run(self, number: str) -> dict[str, Any]:
        if number not in self.runs:
            raise Refused("ResourceNotFoundException", "JobRun does not exist", status=404)
        run = dict(self.runs[number])
        return {key: value for key, value in run.items() if key not in ("clientToken", "request")}

    def _list(self, application: str, query: dict[str, list[str]]) -> dict[str, Any]:
        """Newest first, as the service lists them."""
        after = datetime.fromisoformat(query["createdAtAfter"][0]).timestamp() if "createdAtAfter" in query else 0.0
        found = [
            {**self._run(number), "id": number}
            for number, run in list(self.runs.items())[::-1]
            if run["applicationId"] == application and run["createdAt"] >= after
        ]
        start = int(query.get("nextToken", ["0"])[0])
        answer: dict[str, Any] = {"jobRuns": found[start : start + PAGE]}
        if start + PAGE < len(found):
            answer["nextToken"] = str(start + PAGE)
        return answer

    def _cancel(self, number: str) -> dict[str, Any]:
        run = self._run(number)
        if run["state"] in ENDED:
            raise Refused("ValidationException", "Job run has ended")
        self._tell(self.runs[number], "CANCELLING")
        process = self._running.get(number)
        if process is not None:
            signal_group(process, 15)
        return {key: run[key] for key in ("applicationId", "jobRunId")}

    def _live(self, run: dict[str, Any]) -> None:
        submit = run["jobDriver"]["sparkSubmit"]
        directory = self._processes.directory / "jobruns" / run["jobRunId"]
        directory.mkdir(parents=True)
        environment = {"PATH": self._processes.path, "HOME": "/", **self._base}
        for one in run["request"].get("configurationOverrides", {}).get("applicationConfiguration", []):
            for key, value in one["properties"].items():
                if key.startswith("spark.emr-serverless.driverEnv."):
                    environment[key.removeprefix("spark.emr-serverless.driverEnv.")] = value
        run["startedAt"] = time.time()
        self._tell(run, "RUNNING")
        words = [submit["entryPoint"], *submit.get("entryPointArguments", [])]
        try:
            process = self._processes.start(words, environment, directory, directory / "log")
        except OSError as error:
            run["stateDetails"] = str(error)
            self._tell(run, "FAILED")
            return
        self._running[run["jobRunId"]] = process
        if run["state"] == "CANCELLING":
            signal_group(process, 15)
        code = self._processes.wait(process)
        run["endedAt"] = time.time()
        if code and run["state"] == "CANCELLING":
            self._tell(run, "CANCELLED")
        else:
            run["stateDetails"] = "" if code == 0 else f"Job failed, please check complete logs. exit code: {code}"
            self._tell(run, "SUCCESS" if code == 0 else "FAILED")

    def _tell(self, run: dict[str, Any], state: str) -> None:
        before, run["state"], run["updatedAt"] = run["state"], state, time.time()
        detail = {
            "jobRunId": run["jobRunId"],
            "applicationId": run["applicationId"],
            "arn": run["arn"],
            "jobRunName": run["name"],
            "releaseLabel": run["releaseLabel"],
            "previousState": before,
            "state": state,
        }
        self._events.emit("aws.emr-serverless", "EMR Serverless Job Run State Change", detail, [])
