"""Deploys a cloud assembly into the emulator with nothing but CloudFormation: assets to their bucket, the template by its address."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from tests.e2e.emulator import Emulator

BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
BOOTSTRAP_VERSION = "30"
DEPLOY_SECONDS_MAX = 120


class Stack:
    """One stack of an assembly. `template` may be changed between `create` and `update`."""

    def __init__(self, emulator: Emulator, assembly: Path, name: str) -> None:
        self.name = name
        self.template: dict[str, Any] = json.loads((assembly / f"{name}.template.json").read_text())
        self.outputs: dict[str, str] = {}
        self._assembly = assembly
        self._cloudformation = emulator.client("cloudformation")
        self._s3 = emulator.client("s3")
        self._url = emulator.url
        account = emulator.client("sts").get_caller_identity()["Account"]
        region = self._cloudformation.meta.region_name
        self.bucket = f"cdk-hnb659fds-assets-{account}-{region}"
        # What `cdk bootstrap` leaves in an account, as far as the template asks for it.
        self._s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": region})
        emulator.client("ssm").put_parameter(Name=BOOTSTRAP_PARAMETER, Value=BOOTSTRAP_VERSION, Type="String")

    def create(self) -> None:
        for asset in self._assets():
            self._s3.put_object(Bucket=self.bucket, Key=asset.name.removeprefix("asset."), Body=asset.read_bytes())
        self._cloudformation.create_stack(**self._request())
        self.outputs = self._done("CREATE_COMPLETE")

    def update(self) -> None:
        self._cloudformation.update_stack(**self._request())
        self.outputs = self._done("UPDATE_COMPLETE")

    def put_asset(self, data: bytes) -> str:
        """The key under which the template can name it."""
        key = f"{hashlib.sha256(data).hexdigest()}.zip"
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return key

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: one for name, one in self.template["Resources"].items() if one["Type"] == kind}

    def _assets(self) -> list[Path]:
        files = json.loads((self._assembly / f"{self.name}.assets.json").read_text())["files"]
        paths = [one["source"]["path"] for one in files.values() if one["source"]["packaging"] == "file"]
        return [self._assembly / path for path in paths if path.endswith(".zip")]

    def _request(self) -> dict[str, Any]:
        body = json.dumps(self.template).encode()
        key = f"{hashlib.sha256(body).hexdigest()}.json"
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return {
            "StackName": self.name,
            # Larger than what fits a request.
            "TemplateURL": f"{self._url}/{self.bucket}/{key}",
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        }

    def _done(self, wanted: str) -> dict[str, str]:
        deadline = time.monotonic() + DEPLOY_SECONDS_MAX
        while True:
            stack = self._cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
            if stack["StackStatus"] == wanted:
                return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
            failed = stack["StackStatus"].endswith(("FAILED", "ROLLBACK_COMPLETE"))
            assert not failed, self._what_happened(stack)
            assert time.monotonic() < deadline, self._what_happened(stack)
            time.sleep(0.05)

    def _what_happened(self, stack: dict[str, Any]) -> str:
        events = self._cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        failed = [one for one in events if "FAILED" in one["ResourceStatus"]]
        lines = [f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason')}" for one in failed]
        return f"{stack['StackStatus']}: {stack.get('StackStatusReason')}\n" + "\n".join(lines)
