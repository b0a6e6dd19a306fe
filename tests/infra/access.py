"""What IAM would say to a call: which actions on which resources it needs, and whether a role's statements of the template allow them.

A small part of IAM, enough for a template that only allows: wildcards in resources, and the conditions that our statements use. What a call needs
follows AWS's service authorization reference. A call that is not known here is an error, so that a new one is thought about.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.compute.events import ACCOUNT, REGION
from tests.infra.template import Statement, Template, flat

EMR = {
    "AddJobFlowSteps": "JobFlowId",
    "CancelSteps": "ClusterId",
    "DescribeCluster": "ClusterId",
    "DescribeStep": "ClusterId",
    "ListSteps": "ClusterId",
}
"""Calls about one cluster, and where they name it."""
ANYWHERE = {
    "ecs:DescribeTaskDefinition",
    "elasticmapreduce:ListClusters",
    "ssm:CancelCommand",
    "ssm:DescribeInstanceInformation",
    "ssm:GetCommandInvocation",
    "ssm:ListCommandInvocations",
    "ssm:ListCommands",
}
"""Without a resource."""
ROLES_PASSED = {"taskRoleArn": "ecs-tasks", "executionRoleArn": "ecs-tasks"}


@dataclass(frozen=True)
class Call:
    """One call of a function, as botocore is about to send it."""

    role: str
    service: str
    operation: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def arn(service: str, name: str, *, region: str = REGION, account: str = ACCOUNT) -> str:
    return f"arn:aws:{service}:{region}:{account}:{name}"


def needs(call: Call) -> Iterator[Need]:
    """Everything that IAM asks about this call."""
    params, operation = call.params, call.operation
    match call.service:
        case "dynamodb":
            yield from _of_tables(operation, params)
        case "s3":
            yield from _of_objects(operation, params)
        case "sqs":
            assert operation in ("SendMessage", "SendMessageBatch"), call
            yield Need("sqs:SendMessage", arn("sqs", params["QueueUrl"].rpartition("/")[2]))
        case "scheduler":
            yield Need(f"scheduler:{operation}", arn("scheduler", f"schedule/{params['GroupName']}/{params['Name']}"))
            if "Target" in params:
                yield _passed(params["Target"]["RoleArn"], "scheduler")
        case "logs":
            stream = params.get("logStreamName", "")
            yield Need(f"logs:{operation}", arn("logs", f"log-group:{params['logGroupName']}:log-stream:{stream}"))
        case "ecs":
            yield from _of_containers(operation, params)
        case "emr":
            yield from _of_clusters(operation, params)
        case "emr-serverless":
            yield from _of_applications(operation, params)
        case "ssm":
            yield from _of_hosts(operation, params)
        case _:
            raise AssertionError(call)


def _passed(role: str, service: str) -> Need:
    return Need("iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"})


def _of_tables(operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    if operation == "BatchGetItem":
        for table in params["RequestItems"]:
            yield Need("dynamodb:BatchGetItem", arn("dynamodb", f"table/{table}"))
        return
    index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
    yield Need(f"dynamodb:{operation}", arn("dynamodb", f"table/{params['TableName']}{index}"))


def _of_objects(operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    match operation:
        case "GetObject" | "HeadObject":
            yield Need("s3:GetObject", f"{bucket}/{params['Key']}")
            if not params["Key"].startswith("documents/"):
                # Without it, what is not there looks like what may not be read. Pinned documents are always there.
                yield Need("s3:ListBucket", bucket)
        case "PutObject":
            yield Need("s3:PutObject", f"{bucket}/{params['Key']}")
        case "ListObjectsV2":
            yield Need("s3:ListBucket", bucket)
        case _:
            raise AssertionError(operation)


def _of_containers(operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    cluster = params.get("cluster", "default")
    name = cluster.rpartition("/")[2]
    on = {"ecs:cluster": arn("ecs", f"cluster/{name}")}
    match operation:
        case "DescribeTaskDefinition":
            yield Need("ecs:DescribeTaskDefinition", "*")
        case "RegisterTaskDefinition":
            yield Need("ecs:RegisterTaskDefinition", "*")
            for key, service in ROLES_PASSED.items():
                if params.get(key):
                    yield _passed(params[key], service)
            yield from _tagged(params, arn("ecs", f"task-definition/{params['family']}:1"), operation)
        case "RunTask":
            yield Need("ecs:RunTask", params["taskDefinition"], on)
            for key, service in ROLES_PASSED.items():
                if params.get("overrides", {}).get(key):
                    yield _passed(params["overrides"][key], service)
            yield from _tagged(params, arn("ecs", f"task/{name}/0123"), operation)
        case "ListTasks":
            yield Need("ecs:ListTasks", "*", on)
        case "DescribeTasks":
            for task in params["tasks"]:
                yield Need("ecs:DescribeTasks", task, on)
        case "StopTask":
            yield Need("ecs:StopTask", params["task"], on)
        case _:
            raise AssertionError(operation)


def _tagged(params: Mapping[str, Any], resource: str, operation: str) -> Iterator[Need]:
    if params.get("tags"):
        yield Need("ecs:TagResource", resource, {"ecs:CreateAction": operation})


def _of_clusters(operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    tagged = {f"elasticmapreduce:RequestTag/{tag['Key']}": tag["Value"] for tag in params.get("Tags", ())}
    if operation in EMR:
        yield Need(f"elasticmapreduce:{operation}", arn("elasticmapreduce", f"cluster/{params[EMR[operation]]}"))
    elif operation == "RunJobFlow":
        yield Need("elasticmapreduce:RunJobFlow", "*")
        if str(params.get("ServiceRole", "")).startswith("arn:"):
            yield _passed(params["ServiceRole"], "elasticmapreduce")
        if tagged:
            yield Need("elasticmapreduce:AddTags", arn("elasticmapreduce", "cluster/j-0"), tagged)
    elif operation == "TerminateJobFlows":
        # What we started for a job carries its run; nothing else is ever named here.
        for cluster in params["JobFlowIds"]:
            carries = {"elasticmapreduce:ResourceTag/runfold:run": "nightly@1"}
            yield Need("elasticmapreduce:TerminateJobFlows", arn("elasticmapreduce", f"cluster/{cluster}"), carries)
    else:
        assert f"elasticmapreduce:{operation}" in ANYWHERE, operation
        yield Need(f"elasticmapreduce:{operation}", "*")


def _of_applications(operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    application = f"/applications/{params['applicationId']}"
    run = f"{application}/jobruns/{params['jobRunId']}" if "jobRunId" in params else application
    yield Need(f"emr-serverless:{operation}", arn("emr-serverless", run))
    if operation == "StartJobRun":
        yield _passed(params["executionRoleArn"], "emr-serverless")
        if params.get("tags"):
            yield Need("emr-serverless:TagResource", arn("emr-serverless", f"{application}/jobruns/0"))


def _of_hosts(operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    action = f"ssm:{operation}"
    if operation != "SendCommand":
        assert action in ANYWHERE, operation
        yield Need(action, "*")
        return
    yield Need(action, arn("ssm", f"document/{params['DocumentName']}", account=""))
    # Hosts carry the stage, or they are none of the deployment's.
    carries = {"ssm:resourceTag/runfold": "test"}
    for host in params.get("InstanceIds", ()):
        kind = ("ssm", "managed-instance") if host.startswith("mi-") else ("ec2", "instance")
        yield Need(action, arn(kind[0], f"{kind[1]}/{host}"), carries)


# --- statements -------------------------------------------------------------------------------------------------------


class Access:
    """The statements of every role of a template, with `names` for what CloudFormation would put in: logical names to ARNs."""

    def __init__(self, template: Template, names: Mapping[str, str]) -> None:
        self._names = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT, **names}
        self._statements = {name: template.statements(name) for name in template.functions()}
        self._all = template.statements()

    def of_role(self, part: str) -> list[Statement]:
        """Of a role that is no function's, by a part of its logical name."""
        return [one for one in self._all if part in one.role]

    def refused(self, call: Call) -> list[Need]:
        """What the call needs and its role does not allow."""
        return [need for need in needs(call) if not self.allowed(self._statements[call.role], need)]

    def allowed(self, statements: list[Statement], need: Need) -> bool:
        return any(self._allows(one, need) for one in statements)

    def _allows(self, statement: Statement, need: Need) -> bool:
        return (
            statement.effect == "Allow"
            and need.action in statement.actions
            and any(fnmatchcase(need.resource, self._resolved(one)) for one in statement.resources)
            and all(self._holds(kind, conditions, need) for kind, conditions in statement.conditions.items())
        )

    def _holds(self, kind: str, conditions: Mapping[str, Any], need: Need) -> bool:
        assert kind in ("StringEquals", "StringLike", "ArnLike"), kind
        for key, wanted in conditions.items():
            value = need.context.get(key)
            patterns = [self._resolved(flat(one)) for one in (wanted if isinstance(wanted, list) else [wanted])]
            if value is None:
                return False
            if not any(value == one if kind == "StringEquals" else fnmatchcase(value, one) for one in patterns):
                return False
        return True

    def _resolved(self, text: str) -> str:
        return re.sub(r"<([^<>]+)>", lambda found: self._names.get(found[1], f"elsewhere:{found[1]}"), text)
