"""From a job to what ECS is asked with: a task definition for what is the same in every attempt, and overrides for the rest.

A definition's family is named after its own content, so equal jobs share one and a changed job never changes what another runs.
Three containers share a directory: `bring` fetches the inputs, `main` is the job's, `keep` uploads what it left. ECS refuses to wait
for the end of an essential container, so `keep` is the essential one. The job's image needs nothing of ours.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import TargetRefused
from shared.executors.workspace import Workspace, input_lines
from shared.ids import workflow_of
from shared.ports import Request

MAIN = "main"
BRING = "bring"
KEEP = "keep"
FAMILY_PREFIX = "runfold-"
OVERRIDES_CHARACTERS_MAX = 8_192
"""Of the overrides of a task, as JSON (AWS)."""
INLINE_INPUTS_MAX = 4_096
"""Characters of the list of inputs that travel in the overrides; longer ones through S3, which costs a request."""
WORK = "/runfold/work"
STOP_SECONDS = (2, 120)
"""What Fargate takes as a container's stop timeout."""

_HERE = Path(__file__).parent
_BRING_SCRIPT = (_HERE / "bring.sh").read_text()
_KEEP_SCRIPT = (_HERE / "keep.sh").read_text()


@dataclass(frozen=True, slots=True)
class EcsSettings:
    """What the deployment gives to jobs that do not say it themselves."""

    cluster: str = "default"
    clusters: tuple[str, ...] = ()
    """Further clusters that jobs may name, looked through when only a token is known."""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    assign_public_ip: bool = False
    role: str | None = None
    """ARN of the task role; it must be able to read and write the workspace's prefix."""
    execution_role: str | None = None
    aws_image: str = "public.ecr.aws/aws-cli/aws-cli:2.22.35"
    """An image with a shell, `aws`, `curl`, `base64` and `sha256sum`, of the job's architecture."""
    log_group: str | None = None
    region: str = ""
    """Of the log group."""
    ec2_capacity_provider: str | None = None
    ec2_spot_capacity_provider: str | None = None


def definition_of(
    body: Mapping[str, Any], settings: EcsSettings, workspace: Workspace | None, files: bool
) -> dict[str, Any]:
    """The arguments of RegisterTaskDefinition. `files`: the job has inputs or outputs, so it starts in the shared directory."""
    fargate = body.get("launch", "fargate") == "fargate"
    work = work_of(body, files)
    main: dict[str, Any] = {
        "name": MAIN,
        "image": body["image"],
        "essential": workspace is None,
        "stopTimeout": max(STOP_SECONDS[0], min(STOP_SECONDS[1], round(body.get("stop_grace_seconds", 30)))),
    }
    if body.get("entry_point"):
        main["entryPoint"] = list(body["entry_point"])
    if body.get("user"):
        main["user"] = body["user"]
    if files or body.get("working_directory"):
        main["workingDirectory"] = body.get("working_directory") or WORK
    if body.get("secrets"):
        main["secrets"] = [
            {"name": name, "valueFrom": _arn(name, ref)} for name, ref in sorted(body["secrets"].items())
        ]
    if body.get("gpu"):
        main["resourceRequirements"] = [{"type": "GPU", "value": str(body["gpu"])}]
    containers = [main]
    definition: dict[str, Any] = {
        "containerDefinitions": containers,
        "requiresCompatibilities": ["FARGATE" if fargate else "EC2"],
        "networkMode": "awsvpc" if fargate or body.get("subnets") or settings.subnets else "bridge",
        "cpu": str(body.get("cpu", 256)),
        "memory": str(body.get("memory", 512)),
    }
    if fargate:
        arm = body.get("architecture") == "arm64"
        definition["runtimePlatform"] = {
            "cpuArchitecture": "ARM64" if arm else "X86_64",
            "operatingSystemFamily": "LINUX",
        }
    if body.get("ephemeral_storage_gib"):
        definition["ephemeralStorage"] = {"sizeInGiB": body["ephemeral_storage_gib"]}
    for field, given in (
        ("taskRoleArn", body.get("role") or settings.role),
        ("executionRoleArn", body.get("execution_role") or settings.execution_role),
    ):
        if given:
            definition[field] = given
    if workspace is not None:
        mount = [{"sourceVolume": "work", "containerPath": work}]
        main["mountPoints"] = mount
        main["dependsOn"] = [{"containerName": BRING, "condition": "SUCCESS"}]
        shell = {"image": settings.aws_image, "entryPoint": ["/bin/sh", "-c"], "mountPoints": mount, "user": "0"}
        bring = {"name": BRING, "essential": False, "command": [_BRING_SCRIPT, BRING, work]}
        keep = {"name": KEEP, "essential": True, "command": [_KEEP_SCRIPT, KEEP, work]}
        ended = [{"containerName": MAIN, "condition": "COMPLETE"}]
        containers += [{**shell, **bring}, {**shell, **keep, "dependsOn": ended}]
        definition["volumes"] = [{"name": "work"}]
    if settings.log_group:
        for container in containers:
            container["logConfiguration"] = {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": settings.log_group,
                    "awslogs-region": settings.region,
                    "awslogs-stream-prefix": "runfold",
                },
            }
    text = json.dumps(definition, sort_keys=True)
    return {"family": FAMILY_PREFIX + hashlib.sha256(text.encode()).hexdigest()[:40], **definition}


def work_of(body: Mapping[str, Any], files: bool) -> str:
    """Where the shared directory appears. Without files an image keeps its own directory untouched."""
    return str(body["working_directory"]) if files and body.get("working_directory") else WORK


def overrides_of(request: Request, workspace: Workspace | None, files: bool) -> tuple[dict[str, Any], str | None]:
    """The overrides, and the list of inputs when it is too long for them: it must be in S3 before the task starts."""
    body = request.body
    environment = {
        **(body.get("environment") or {}),
        "RUNFOLD_RUN": request.run,
        "RUNFOLD_JOB": request.job,
        "RUNFOLD_ATTEMPT": str(request.attempt),
        "RUNFOLD_WORKFLOW": workflow_of(request.run),
        "RUNFOLD_TOKEN": request.token,
    }
    if workspace is not None:
        environment["RUNFOLD_OUTPUTS"] = f"{work_of(body, files)}/outputs.json"
    main: dict[str, Any] = {"name": MAIN, "environment": _pairs(environment)}
    if body.get("command"):
        main["command"] = list(body["command"])
    containers = [main]
    late: str | None = None
    if workspace is not None:
        place = workspace.address(workspace.key(request.run, request.job, request.attempt)).rstrip("/")
        bring = {}
        if request.inputs:
            lines = input_lines(request.inputs, workspace)
            if len(lines) > INLINE_INPUTS_MAX:
                late, bring = lines, {"RUNFOLD_INPUTS_AT": f"{place}/inputs"}
            else:
                bring = {"RUNFOLD_INPUTS": lines}
            containers.append({"name": BRING, "environment": _pairs(bring)})
        keep = {"RUNFOLD_WORKSPACE": place}
        if request.outputs:
            keep["RUNFOLD_KEEP"] = "".join(
                f"{'?' if one.get('optional') else '!'}{one['path']}\n" for one in request.outputs
            )
        containers.append({"name": KEEP, "environment": _pairs(keep)})
    overrides = {"containerOverrides": containers}
    size = len(json.dumps(overrides, ensure_ascii=False, separators=(",", ":")))
    if size > OVERRIDES_CHARACTERS_MAX:
        raise TargetRefused(
            f"command and environment (with ours) take {size:,} characters, and ECS takes {OVERRIDES_CHARACTERS_MAX:,}: "
            "hand large values over as an input file"
        )
    return overrides, late


def placement_of(body: Mapping[str, Any], settings: EcsSettings) -> dict[str, Any]:
    """Where the task runs: capacity and network, as arguments of RunTask."""
    fargate = body.get("launch", "fargate") == "fargate"
    spot = bool(body.get("spot"))
    placement: dict[str, Any] = {"cluster": body.get("cluster") or settings.cluster}
    provider = (
        ("FARGATE_SPOT" if spot else None)
        if fargate
        else (settings.ec2_spot_capacity_provider if spot else settings.ec2_capacity_provider)
    )
    if provider:
        placement["capacityProviderStrategy"] = [{"capacityProvider": provider, "weight": 1}]
    elif spot:
        raise TargetRefused(
            'spot with "launch": "ec2" needs a capacity provider of spot instances: name one in the settings'
        )
    else:
        placement["launchType"] = "FARGATE" if fargate else "EC2"
    subnets = list(body.get("subnets") or settings.subnets)
    groups = list(body.get("security_groups") or settings.security_groups)
    if fargate and not subnets:
        raise TargetRefused("Fargate needs subnets: give the job `subnets`, or the deployment a default")
    if subnets:
        network: dict[str, Any] = {"subnets": subnets}
        if groups:
            network["securityGroups"] = groups
        if fargate:
            public = body.get("assign_public_ip") or settings.assign_public_ip
            network["assignPublicIp"] = "ENABLED" if public else "DISABLED"
        placement["networkConfiguration"] = {"awsvpcConfiguration": network}
    return placement


def _pairs(environment: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in environment.items()]


def _arn(name: str, reference: str) -> str:
    if not reference.startswith("arn:"):
        raise TargetRefused(f"secret {name}: ECS reads secrets by ARN, not {reference.partition(':')[0]}: references")
    return reference
