"""The HTTP in front of the stand-ins: AWS's JSON protocol by `X-Amz-Target`, S3 by path, and `/_control` for tests elsewhere.

POST /_control/faults       {"room": [{"reason": "RESOURCE:MEMORY"}]}     set knobs
POST /_control/hosts        {"i-0123456789abcdef0": {"tags": {"role": "web"}, "online": true}}
POST /_control/secrets      {"arn:...": "value"}
POST /_control/clusters     ["default", "other"]
POST /_control/interrupt    {"task": "arn:..."}                             spot capacity is taken back
POST /_control/terminate    {"cluster": "j-...", "code": "INSTANCE_FAILURE"}
POST /_control/restart_agent {"command": "...", "instance": "i-..."}
GET  /_control/calls        operations asked for so far, in order
"""

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.compute.answers import NotServed, Refused
from tests.compute.ecs import Ecs
from tests.compute.emr import Emr
from tests.compute.emr_serverless import EmrServerless
from tests.compute.events import Events
from tests.compute.faults import Faults
from tests.compute.objects import Objects
from tests.compute.processes import Processes
from tests.compute.ssm import Host, Ssm


class Compute:
    """`with Compute() as compute:` serves at `compute.url`. `storage_url`: the S3 that jobs use; the stand-in's own when None."""

    def __init__(self, *, port: int = 0, directory: Path | None = None, storage_url: str | None = None) -> None:
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="compute-"))
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.compute = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.faults = Faults()
        self.events = Events(self.faults)
        self.objects = Objects()
        self._processes = Processes(self.directory)
        base = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_S3": storage_url or f"{self.url}/_s3",
            "AWS_ENDPOINT_URL_SSM": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }
        self.ecs = Ecs(self.faults, self.events, self._processes, base)
        self.emr = Emr(self.faults, self.events, self._processes, base)
        self.emr_serverless = EmrServerless(self.events, self._processes, base)
        self.ssm = Ssm(self.faults, self.events, self._processes, base, self.objects)
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], Any]] = {}
        """Operation to what happens just before it is answered: for races that would otherwise be rare."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "Compute":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._processes.close()
        self.events.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def answer(self, method: str, path: str, target: str, body: dict[str, Any]) -> dict[str, Any]:
        prefix, _, operation = target.rpartition(".")
        by_path = EmrServerless.operation(method, path)
        operation = by_path or operation
        self.calls.append(operation)
        if operation in self.before:
            self.before[operation]()
        faults = self.faults
        if faults.takes(faults.throttled, operation):
            raise Refused("ThrottlingException", "Rate exceeded")
        if faults.takes(faults.broken, operation):
            raise Refused("ServerException", "Service unavailable", status=500)
        if operation in faults.refused:
            raise Refused(*faults.refused[operation])
        if by_path is not None:
            return self._done(operation, self.emr_serverless.call(operation, path, body))
        if prefix == "secretsmanager":
            return {"SecretString": self.ecs.secrets[body["SecretId"]]}
        for service in (self.ecs, self.emr, self.ssm):
            if prefix == service.prefix:
                return self._done(operation, service.call(operation, body))
        raise NotServed(target)

    def _done(self, operation: str, result: dict[str, Any]) -> dict[str, Any]:
        if self.faults.takes(self.faults.silent, operation):
            raise ConnectionResetError
        return result

    def control(self, name: str, given: Any) -> Any:
        match name:
            case "faults":
                self.faults.change(given)
            case "hosts":
                self.ssm.hosts |= {instance: Host(**facts) for instance, facts in given.items()}
            case "secrets":
                self.ecs.secrets |= given
            case "clusters":
                self.ecs.clusters |= set(given)
            case "interrupt":
                self.ecs.interrupt(given["task"])
            case "terminate":
                self.emr.terminate(given["cluster"], given["code"], given.get("message", ""))
            case "restart_agent":
                self.ssm.restart_agent(given["command"], given["instance"])
            case "calls":
                return self.calls
            case _:
                raise NotServed(name)
        return {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    compute: Compute


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Answers in two packets would wait 40 ms for each other.
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers.get("content-length", 0))
        if headers.get("expect"):
            pass
        body = self.rfile.read(length)
        compute = self.server.compute
        if self.path.startswith("/_s3"):
            status, more, data = compute.objects.serve(self.command, self.path.removeprefix("/_s3"), headers, body)
            self._send(status, data, more)
            return
        try:
            if self.path.startswith("/_control/"):
                answer = compute.control(self.path.removeprefix("/_control/"), json.loads(body or b"{}"))
            else:
                answer = compute.answer(
                    self.command, self.path, headers.get("x-amz-target", ""), json.loads(body or b"{}")
                )
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/x-amz-json-1.1"})
        except Refused as error:
            told = {"__type": error.code, "message": error.message, **error.more}
            self._send(error.status, json.dumps(told).encode(), {"x-amzn-ErrorType": error.code})
        except NotServed as error:
            told = {"__type": "UnknownOperationException", "message": str(error)}
            self._send(400, json.dumps(told).encode(), {})
        except ConnectionResetError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name != "Content-Length":
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Content-Length", str(len(data))))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve
