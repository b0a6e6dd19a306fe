"""`runfold doctor --stack`: what is missing in an AWS account for a deployment to work. It asks and never changes anything.

Each check asks on its own. One that may not ask, or gets no answer, says so as a finding, and the others go on.
"""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from cli.commands.keeping import Finding
from shared.bootstrap.account import Unanswered
from shared.errors import CorruptStream, InvalidInput, RunfoldError, UnknownEvents
from shared.settings import Settings
from shared.workflow.document import AnyJob, EcsJob, EmrJob, SsmJob

if TYPE_CHECKING:
    from shared.workflow.document import Workflow

FUNCTIONS = ("register", "scheduler", "relay", "dispatch", "status", "api")
UNQUEUED = ("register", "scheduler", "relay", "api")
"""Functions without a bound on how many run at once: each needs one place at least."""
SWEEP_LATE = timedelta(minutes=5)
"""The sweep comes every minute, and its metric a minute or two later."""
SWEEP_LOOKED_BACK = timedelta(hours=3)
NAMES_SHOWN = 5
CPU_UNITS_PER_VCPU = 1024
FARGATE_QUOTAS = {"Fargate": "L-3032A538", "Fargate Spot": "L-36FBB829"}
"""The vCPUs that tasks of a region may have at the same time."""
EMR_CLUSTERS = "L-1EE7982C"
EMR_SERVERLESS_VCPUS = "L-D05C8A75"
DYNAMODB_TABLES = "L-F98FE922"
DYNAMODB_TABLE_WRITES = "L-AB614373"
TABLES_TO_RESTORE = 3
"""The table that is restored, and the two of the stage that takes over."""
TABLE_WRITES_MIN = 4_000
"""What a new table on demand takes in a second, and what docs/deploy.md reckons with."""
_SCHEDULES_QUOTA = re.compile(r"number of schedules\b", re.IGNORECASE)
_COMMANDS_QUOTA = re.compile(r"concurrent\w*.*\bcommands?\b", re.IGNORECASE)
"""Quotas that are known by name: their codes stand in no list that AWS publishes."""
SERVICE_ROLES = {
    "ecs": ("AWSServiceRoleForECS", "ecs.amazonaws.com", "ECS starts no task without it"),
    "emr": ("AWSServiceRoleForEMRCleanup", "elasticmapreduce.amazonaws.com", "EMR starts no cluster without it"),
    "spot": ("AWSServiceRoleForEC2Spot", "spot.amazonaws.com", "only EMR clusters with spot instances need it"),
}

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<name>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_HOSTS_TAG = re.compile(r"ssm:resourceTag/([^\"\\]+)")
_INSTANCE = re.compile(r"m?i-[0-9a-f]{8,17}")
_SOUND = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")


class Asked(Protocol):
    """What the checks need of `shared.bootstrap.account.Account`."""

    region: str

    def ask(self, service: str, operation: str, *, region: str | None = None, **arguments: Any) -> dict[str, Any]: ...

    def listed(
        self, service: str, operation: str, key: str, *, region: str | None = None, **arguments: Any
    ) -> list[dict[str, Any]]: ...

    def live_documents(self, settings: Settings) -> "Iterator[tuple[str, Workflow]]": ...


@dataclass
class Deployment:
    """What the first checks learn and the others build on."""

    stack: str
    settings: Settings
    resources: dict[str, list[str]]
    """Physical ids by type."""
    hosts_tag: str
    """Empty: scripts are sent to every managed host."""
    jobs: list[tuple[str, AnyJob]] = field(default_factory=list)
    """Of all live documents, each with its workflow's name."""
    scheduled: int = 0
    """Live documents with a schedule."""

    def of_type(self, kind: str, ending: str = "") -> list[str]:
        return [name for name in self.resources.get(kind, []) if name.endswith(ending)]

    def function(self, name: str) -> str:
        return f"runfold-{self.settings.stage}-{name}"

    def containers(self) -> list[tuple[str, EcsJob]]:
        return [(workflow, job) for workflow, job in self.jobs if isinstance(job, EcsJob)]


def look_at_account(account: Asked, stack: str, *, now: datetime) -> Iterator[Finding]:
    """Findings, most fundamental first. Ends early only where nothing else can be asked: no credentials, no stack."""
    try:
        identity = account.ask("sts", "get_caller_identity")
    except Unanswered as error:
        yield Finding("account", "bad", str(error))
        return
    yield Finding("account", "good", f"{identity['Account']} in {account.region}, as {identity['Arn']}")
    try:
        found = account.ask("cloudformation", "describe_stacks", StackName=stack)["Stacks"][0]
        listed = account.listed("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack)
    except Unanswered as error:
        advice = "; deploy it as docs/deploy.md says, or name its region with --region"
        yield Finding("stack", "bad", f"{stack}: {error}{advice if _is_missing(error) else ''}")
        return
    yield from _stack(found, listed)
    resources: dict[str, list[str]] = {}
    for one in listed:
        resources.setdefault(one["ResourceType"], []).append(one.get("PhysicalResourceId", ""))
    template = yield from _template(account, stack)
    yield from _tried("bootstrap", _bootstrap(account, template))
    settings = yield from _settings(account, resources)
    if settings is None:
        return
    tags = _HOSTS_TAG.search(json.dumps(template))
    deployment = Deployment(stack, settings, resources, tags.group(1) if tags else "")
    yield from _tried("workflows", _workflows(account, deployment))
    for what, look in (
        ("functions", _functions(account, deployment)),
        ("concurrency", _concurrency(account, deployment)),
        ("service roles", _service_roles(account, deployment)),
        ("job roles", _job_roles(account, deployment)),
        ("permissions", _permissions(account, deployment)),
        ("quotas", _quotas(account, deployment)),
        ("quotas", _quotas_of_clusters(account, deployment)),
        ("quotas", _quotas_of_tables(account)),
        ("schedules", _schedules(account, deployment)),
        ("cluster", _cluster(account, deployment)),
        ("network", _network(account, deployment)),
        ("hosts", _hosts(account, deployment)),
        ("images", _images(account, deployment)),
        ("dead letters", _dead_letters(account, deployment)),
        ("alarms", _alarms(account, deployment)),
        ("sweep", _sweep(account, deployment, now)),
        ("uploads", _uploads(account, deployment)),
        ("backups", _backups(account, deployment)),
    ):
        yield from _tried(what, look)


def _tried(what: str, look: Iterator[Finding]) -> Iterator[Finding]:
    """A check, and as a finding why it could not go on."""
    try:
        yield from look
    except RunfoldError as error:
        yield Finding(what, "note", f"not looked at: {error}")


def _is_missing(error: Unanswered) -> bool:
    return error.kind == "missing"


def _some(names: Iterable[str]) -> str:
    every = sorted(set(names))
    more = f" and {len(every) - NAMES_SHOWN} more" if len(every) > NAMES_SHOWN else ""
    return ", ".join(every[:NAMES_SHOWN]) + more


# --- the stack --------------------------------------------------------------------------------------------------------


def _stack(found: Mapping[str, Any], resources: list[dict[str, Any]]) -> Iterator[Finding]:
    status = str(found["StackStatus"])
    failed = [one["LogicalResourceId"] for one in resources if str(one["ResourceStatus"]).endswith("_FAILED")]
    reason = f": {found['StackStatusReason']}" if found.get("StackStatusReason") else ""
    if failed:
        yield Finding("stack", "bad", f"{status}, and {_some(failed)} failed{reason}; deploy it again")
    elif status in _SOUND:
        yield Finding("stack", "good", f"{status}, {len(resources)} resources")
    elif status.endswith("_IN_PROGRESS"):
        yield Finding("stack", "note", f"{status}: what follows may be true no longer when that has ended")
    elif status == "UPDATE_ROLLBACK_COMPLETE":
        yield Finding("stack", "note", f"{status}: the last update failed{reason}; the release before it works")
    else:
        yield Finding("stack", "bad", f"{status}{reason}; see its events, mend the cause, deploy it again")


def _template(account: Asked, stack: str) -> Generator[Finding, None, dict[str, Any]]:
    try:
        body = account.ask("cloudformation", "get_template", StackName=stack)["TemplateBody"]
        template: dict[str, Any] = json.loads(body) if isinstance(body, str) else body
    except Unanswered as error:
        yield Finding("template", "note", f"not looked at: {error}; which tag hosts must carry is not known without it")
        return {}
    except ValueError:
        yield Finding("template", "bad", "it is no JSON: this stack was not made from infra/")
        return {}
    return template


def _bootstrap(account: Asked, template: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether `cdk bootstrap` made what this template needs, and recently enough."""
    parameter = template.get("Parameters", {}).get("BootstrapVersion", {}).get("Default")
    if parameter is None:
        return
    try:
        version = int(account.ask("ssm", "get_parameter", Name=parameter)["Parameter"]["Value"])
    except Unanswered as error:
        if not _is_missing(error):
            raise
        advice = "the next update cannot upload its files: run `npx aws-cdk@2.1148.1 bootstrap`"
        yield Finding("bootstrap", "bad", f"{parameter} is not there, so {advice}")
        return
    rules = json.dumps(template.get("Rules", {}).get("CheckBootstrapVersion", {}))
    # The rule lists the versions that are too old.
    too_old = max((int(number) for number in re.findall(r'"(\d+)"', rules)), default=0)
    if version <= too_old:
        advice = "run `npx aws-cdk@2.1148.1 bootstrap` before the next update"
        yield Finding("bootstrap", "bad", f"version {version}, and {too_old + 1} is needed: {advice}")
    else:
        yield Finding("bootstrap", "good", f"version {version}")


def _settings(account: Asked, resources: Mapping[str, list[str]]) -> Generator[Finding, None, Settings | None]:
    """What the functions are told, which names everything else."""
    functions = [name.rpartition("-")[2] for name in resources.get("AWS::Lambda::Function", [])]
    missing = [name for name in FUNCTIONS if name not in functions]
    if missing:
        yield Finding("functions", "bad", f"{_some(missing)} not in the stack: it is none of ours, or not complete")
    dispatch = next((name for name in resources.get("AWS::Lambda::Function", []) if name.endswith("-dispatch")), None)
    if dispatch is None:
        return None
    try:
        told = account.ask("lambda", "get_function_configuration", FunctionName=dispatch)
        return Settings.read(told.get("Environment", {}).get("Variables", {}))
    except Unanswered as error:
        yield Finding("settings", "note", f"nothing else can be looked at: {error}")
    except InvalidInput as error:
        yield Finding("settings", "bad", f"{dispatch}: {error}; deploy it again")
    return None


def _workflows(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    names = []
    try:
        for name, workflow in account.live_documents(deployment.settings):
            names.append(name)
            deployment.jobs += [(name, job) for job in workflow.jobs]
            deployment.scheduled += workflow.schedule is not None
    except (CorruptStream, UnknownEvents) as error:
        yield Finding("workflows", "bad", f"a history cannot be read by this release: {error}")
    if not names:
        place = f"s3://{deployment.settings.documents_bucket}/workflows/"
        yield Finding("workflows", "note", f"none is in service: put a document under {place}")
        return
    yield Finding("workflows", "good", f"{len(names)} in service, {len(deployment.jobs)} jobs")


# --- functions --------------------------------------------------------------------------------------------------------


def _functions(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    sound = True
    for name in FUNCTIONS:
        function = deployment.function(name)
        try:
            told = account.ask("lambda", "get_function_configuration", FunctionName=function)
        except Unanswered as error:
            if not _is_missing(error):
                raise
            sound = False
            yield Finding("functions", "bad", f"{function} is not there: deploy the stack again")
            continue
        if told.get("State", "Active") == "Failed" or told.get("LastUpdateStatus") == "Failed":
            sound = False
            reason = told.get("StateReason") or told.get("LastUpdateStatusReason") or "no reason given"
            yield Finding("functions", "bad", f"{function} cannot run: {reason}")
    for name in ("dispatch", "status", "relay"):
        mappings = _mappings(account, deployment, name)
        stopped = [one for one in mappings if one.get("State") not in ("Enabled", "Enabling", "Updating", "Creating")]
        if stopped or not mappings:
            sound = False
            what = f"is {stopped[0].get('State')}" if stopped else "is not there"
            source = "the events table's stream" if name == "relay" else "its queue"
            advice = "enable the event source mapping" if stopped else "deploy the stack again"
            yield Finding("functions", "bad", f"what reads {source} for {deployment.function(name)} {what}: {advice}")
    if sound:
        yield Finding("functions", "good", f"{len(FUNCTIONS)} are active and read their queues")


def _mappings(account: Asked, deployment: Deployment, name: str) -> list[dict[str, Any]]:
    function = deployment.function(name)
    return account.listed("lambda", "list_event_source_mappings", "EventSourceMappings", FunctionName=function)


def _concurrency(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    free = int(account.ask("lambda", "get_account_settings")["AccountLimit"]["UnreservedConcurrentExecutions"])
    polled = sum(
        int(one.get("ScalingConfig", {}).get("MaximumConcurrency", 0))
        for name in ("dispatch", "status")
        for one in _mappings(account, deployment, name)
    )
    needed = polled + len(UNQUEUED)
    text = (
        f"{free} executions at once are left to functions without a reservation; all of ours at full load use {needed}"
    )
    if free < polled:
        advice = "ask for more (Service Quotas, L-B99A9384), or lower effects_concurrency"
        yield Finding("concurrency", "bad", f"{text}, {polled} of them for the queues: {advice}")
    elif free < needed:
        advice = "under load some are refused and tried again: ask for more (Service Quotas, L-B99A9384)"
        yield Finding("concurrency", "note", f"{text}; {advice}")
    else:
        yield Finding("concurrency", "good", text)


# --- roles and quotas -------------------------------------------------------------------------------------------------


def _service_roles(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    used = {job.type for _, job in deployment.jobs}
    for kind, (role, service, why) in SERVICE_ROLES.items():
        try:
            account.ask("iam", "get_role", RoleName=role)
        except Unanswered as error:
            if not _is_missing(error):
                raise
            advice = f"`aws iam create-service-linked-role --aws-service-name {service}`"
            yield Finding("service roles", "bad" if kind in used else "note", f"{role} is not there; {why}: {advice}")
        else:
            yield Finding("service roles", "good", role)


def _job_roles(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    settings = deployment.settings
    named = {"execution_role_arn": settings.execution_role_arn, "task_role_arn": settings.task_role_arn}
    named |= {
        "emr_service_role": settings.emr_service_role,
        "emr_serverless_role_arn": settings.emr_serverless_role_arn,
    }
    gone = []
    looked = 0
    roles = {(f"{workflow} {job.name}", role) for workflow, job in deployment.containers() for role in _roles_of(job)}
    for place, arn in [*named.items(), *sorted(roles)]:
        if not arn or "{{" in arn:
            continue
        looked += 1
        try:
            account.ask("iam", "get_role", RoleName=arn.rpartition("/")[2])
        except Unanswered as error:
            if not _is_missing(error):
                raise
            gone.append(place)
            yield Finding("job roles", "bad", f"{place}: there is no role {arn}: make it, or name another")
    without = [f"{workflow} {job.name}" for workflow, job in deployment.containers() if not job.execution_role]
    if without and not settings.execution_role_arn:
        gone.append("execution_role_arn")
        yield Finding(
            "job roles",
            "bad",
            f"neither the deployment nor {_some(without)} names an execution role: ECS cannot write their logs",
        )
    if looked and not gone:
        yield Finding("job roles", "good", f"{looked} are there")


def _roles_of(job: EcsJob) -> list[str]:
    return [role for role in (job.role, job.execution_role) if role]


def _permissions(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    """Whether dispatch may hand the roles over that jobs name: without that their starts are refused."""
    settings = deployment.settings
    wanted = {
        (arn, "ecs-tasks.amazonaws.com")
        for arn in (
            settings.execution_role_arn,
            settings.task_role_arn,
            *(role for _, job in deployment.containers() for role in _roles_of(job)),
        )
    } | {
        (settings.emr_service_role, "elasticmapreduce.amazonaws.com"),
        (settings.emr_serverless_role_arn, "emr-serverless.amazonaws.com"),
    }
    # A name alone, or a template, is no ARN that could be asked about.
    passed = sorted((arn, service) for arn, service in wanted if arn.startswith("arn:") and "{{" not in arn)
    if not passed:
        return
    told = account.ask("lambda", "get_function_configuration", FunctionName=deployment.function("dispatch"))
    refused = False
    for arn, service in passed:
        answer = account.ask(
            "iam",
            "simulate_principal_policy",
            PolicySourceArn=told["Role"],
            ActionNames=["iam:PassRole"],
            ResourceArns=[arn],
            ContextEntries=[
                {
                    "ContextKeyName": "iam:PassedToService",
                    "ContextKeyValues": [service],
                    "ContextKeyType": "string",
                }
            ],
        )
        if any(one["EvalDecision"] != "allowed" for one in answer["EvaluationResults"]):
            refused = True
            advice = "give it a path under `role_path`, or name it in `passed_roles` (docs/configuration.md)"
            yield Finding("permissions", "bad", f"dispatch may not hand {arn} over to {service}: {advice}")
    if not refused:
        yield Finding("permissions", "good", f"dispatch may hand over the {len(passed)} roles that jobs use")


def _quotas_of_clusters(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    jobs = [job for _, job in deployment.jobs if isinstance(job, EmrJob)]
    own = sum(job.cluster is not None for job in jobs)
    if own:
        allowed = _quota(account, "elasticmapreduce", EMR_CLUSTERS)
        text = f"EMR: {allowed:g} clusters at once; {own} jobs start one of their own"
        more = f": the others wait for room; ask for more (Service Quotas, {EMR_CLUSTERS})" if allowed < own else ""
        yield Finding("quotas", "note" if more else "good", text + more)
    if any(":emr-serverless:" in (job.cluster_id or "") for job in jobs):
        allowed = _quota(account, "emr-serverless", EMR_SERVERLESS_VCPUS)
        yield Finding("quotas", "good" if allowed else "bad", f"EMR Serverless: {allowed:g} vCPU at once")
    if any(isinstance(job, SsmJob) for _, job in deployment.jobs):
        for one in _quotas_named(account, "ssm", _COMMANDS_QUOTA):
            yield Finding("quotas", "good", f"Systems Manager, {one['QuotaName']}: {one['Value']:g}")


def _quotas_of_tables(account: Asked) -> Iterator[Finding]:
    allowed = _quota(account, "dynamodb", DYNAMODB_TABLES)
    there = len(account.listed("dynamodb", "list_tables", "TableNames"))
    text = f"DynamoDB: {there} of {allowed:g} tables"
    if allowed - there < TABLES_TO_RESTORE:
        advice = f"a restore needs {TABLES_TO_RESTORE} more: ask for more (Service Quotas, {DYNAMODB_TABLES})"
        yield Finding("quotas", "note", f"{text}; {advice}")
    else:
        yield Finding("quotas", "good", text)
    writes = _quota(account, "dynamodb", DYNAMODB_TABLE_WRITES)
    text = f"DynamoDB: {writes:g} write units a second for a table"
    if writes < TABLE_WRITES_MIN:
        advice = f"under load some are refused and tried again: ask for more (Service Quotas, {DYNAMODB_TABLE_WRITES})"
        yield Finding("quotas", "note", f"{text}; {advice}")
    else:
        yield Finding("quotas", "good", text)


def _schedules(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    group = deployment.settings.schedule_group
    if not group:
        yield Finding("schedules", "note", "there is no group: runs start by the sweep alone, up to a minute late")
        return
    there = len(account.listed("scheduler", "list_schedules", "Schedules", GroupName=group))
    if there < deployment.scheduled:
        text = f"{there} ring for {deployment.scheduled} workflows with a schedule: the others are paused, or start up to a minute late"
        yield Finding(
            "schedules", "note", f"{text}; `runfold rebuild --stack {deployment.stack}` hangs what is missing"
        )
    else:
        yield Finding("schedules", "good", f"{there} ring for {deployment.scheduled} workflows with a schedule")
    for one in _quotas_named(account, "scheduler", _SCHEDULES_QUOTA):
        if one["Value"] <= deployment.scheduled:
            text = f"EventBridge Scheduler: {one['Value']:g} schedules, and {deployment.scheduled} workflows want one"
            yield Finding("quotas", "bad", f"{text}: ask for more (Service Quotas, {one['QuotaCode']})")
        else:
            yield Finding("quotas", "good", f"EventBridge Scheduler: {one['Value']:g} schedules")


def _quotas_named(account: Asked, service: str, name: re.Pattern[str]) -> list[dict[str, Any]]:
    listed = account.listed("service-quotas", "list_service_quotas", "Quotas", ServiceCode=service)
    if not any(name.search(one["QuotaName"]) for one in listed):
        # Nothing was ever changed for this account.
        listed = account.listed("service-quotas", "list_aws_default_service_quotas", "Quotas", ServiceCode=service)
    return [one for one in listed if name.search(one["QuotaName"])]


def _quotas(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    for name, code in FARGATE_QUOTAS.items():
        jobs = [
            job
            for _, job in deployment.containers()
            if job.launch == "fargate" and job.spot == (name == "Fargate Spot")
        ]
        needed = max((job.cpu for job in jobs), default=0) / CPU_UNITS_PER_VCPU
        allowed = _quota(account, "fargate", code)
        if allowed < needed:
            advice = f"ask for more (Service Quotas, {code})"
            yield Finding("quotas", "bad", f"{name}: {allowed:g} vCPU at once, and one job wants {needed:g}: {advice}")
        else:
            yield Finding("quotas", "good", f"{name}: {allowed:g} vCPU at once; the largest job wants {needed:g}")


def _quota(account: Asked, service: str, code: str) -> float:
    try:
        answer = account.ask("service-quotas", "get_service_quota", ServiceCode=service, QuotaCode=code)
    except Unanswered as error:
        if not _is_missing(error):
            raise
        # Nothing was ever changed for this account.
        answer = account.ask("service-quotas", "get_aws_default_service_quota", ServiceCode=service, QuotaCode=code)
    return float(answer["Quota"]["Value"])


# --- targets ----------------------------------------------------------------------------------------------------------


def _cluster(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    containers = deployment.containers()
    named = {job.cluster for _, job in containers if job.cluster and "{{" not in job.cluster}
    default = deployment.settings.cluster or "default"
    wanted = sorted(named | {default})
    answer = account.ask("ecs", "describe_clusters", clusters=wanted[:100])
    active = {
        name: one
        for one in answer["clusters"]
        if one["status"] == "ACTIVE"
        for name in (one["clusterName"], one["clusterArn"])
    }
    for name in wanted:
        users = [f"{workflow} {job.name}" for workflow, job in containers if (job.cluster or default) == name]
        if name not in active:
            what = f"{name} is not there or not active"
            advice = "make it, or set `cluster` (docs/configuration.md)"
            yield Finding("cluster", "bad" if users else "note", f"{what}: {advice}")
            continue
        spot = [
            job.name
            for _, job in containers
            if job.spot and job.launch == "fargate" and (job.cluster or default) == name
        ]
        if spot and "FARGATE_SPOT" not in active[name].get("capacityProviders", []):
            yield Finding("cluster", "bad", f"{name} has no FARGATE_SPOT, and {_some(spot)} want it: add the provider")
        else:
            yield Finding("cluster", "good", name)


def _network(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    containers = deployment.containers()
    subnets, groups = deployment.settings.listed("subnets"), deployment.settings.listed("security_groups")
    without = [f"{workflow} {job.name}" for workflow, job in containers if job.launch == "fargate" and not job.subnets]
    if not subnets:
        level: Any = "bad" if without else "note"
        others = f", and {_some(without)} name none either" if without else ""
        yield Finding("network", level, f"no default subnets{others}: set `subnets`; Fargate refuses tasks without")
    gone = False
    for kind, operation, argument, names in (
        ("subnet", "describe_subnets", "SubnetIds", subnets),
        ("security group", "describe_security_groups", "GroupIds", groups),
    ):
        for name in names:
            try:
                whom: dict[str, Any] = {argument: [name]}
                account.ask("ec2", operation, **whom)
            except Unanswered as error:
                if not _is_missing(error):
                    raise
                gone = True
                yield Finding("network", "bad", f"there is no {kind} {name}: set `{kind.replace(' ', '_')}s` anew")
    if subnets and not gone:
        yield Finding("network", "good", f"{len(subnets)} subnets, {len(groups)} security groups")
        unaddressed = [
            f"{workflow} {job.name}"
            for workflow, job in containers
            if job.launch == "fargate"
            and not job.subnets
            and not job.assign_public_ip
            and deployment.settings.assign_public_ip != "true"
        ]
        if unaddressed and (public := _without_nat(account, subnets)):
            yield Finding(
                "network",
                "bad",
                f"{_some(public)} reach the internet only with a public address, and {_some(unaddressed)} ask for none: images "
                "are not found unless the network has endpoints for their registry; set `assign_public_ip`, or say it in these jobs",
            )


def _without_nat(account: Asked, subnets: Iterable[str]) -> list[str]:
    """Those whose own route table leads out through an internet gateway."""
    found = []
    for subnet in subnets:
        where = [{"Name": "association.subnet-id", "Values": [subnet]}]
        tables = account.ask("ec2", "describe_route_tables", Filters=where)["RouteTables"]
        gateways = [
            str(route.get("GatewayId", ""))
            for table in tables
            for route in table.get("Routes", [])
            if route.get("DestinationCidrBlock") == "0.0.0.0/0"
        ]
        if any(gateway.startswith("igw-") for gateway in gateways):
            found.append(subnet)
    return found


def _hosts(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    named: dict[str, Any] = json.loads(deployment.settings.hosts) if deployment.settings.hosts else {}
    scripts = [(workflow, job) for workflow, job in deployment.jobs if isinstance(job, SsmJob)]
    if not named and not scripts:
        yield Finding("hosts", "good", "no job runs on hosts")
        return
    tag, stage = deployment.hosts_tag, deployment.settings.stage
    filters = [{"Key": f"tag:{tag}", "Values": [stage]}] if tag else []
    managed = {
        one["InstanceId"]: one
        for one in account.listed("ssm", "describe_instance_information", "InstanceInformationList", Filters=filters)
    }
    carrying = f" with the tag {tag}={stage}" if tag else ""
    wanted = {facts["instance"]: name for name, facts in named.items() if facts.get("instance")}
    for workflow, job in scripts:
        for name in filter(None, [job.host, *job.hosts]):
            if _INSTANCE.fullmatch(name):
                wanted.setdefault(name, f"{workflow} {job.name}")
            elif "{{" not in name and name not in named:
                advice = "add it to `hosts` (docs/configuration.md), or use an instance id"
                yield Finding(
                    "hosts", "bad", f"{workflow} {job.name} names {name}, which the deployment does not know: {advice}"
                )
    for instance, name in sorted(wanted.items()):
        if instance not in managed:
            advice = "check its agent, its role and its tags"
            yield Finding("hosts", "bad", f"{instance} ({name}) is not among the managed hosts{carrying}: {advice}")
    silent = [one for one in managed.values() if one.get("PingStatus") != "Online"]
    for one in silent[:NAMES_SHOWN]:
        instance = one["InstanceId"]
        who = f"{instance} ({wanted[instance]})" if instance in wanted else instance
        text = f"{who}: its agent says nothing since {one.get('LastPingDateTime')}: start the host, or amazon-ssm-agent on it"
        yield Finding("hosts", "bad" if instance in wanted else "note", text)
    if not managed:
        level: Any = "bad" if any(job.tag for _, job in scripts) else "note"
        yield Finding("hosts", level, f"no managed host{carrying}: docs/deploy.md says how a host becomes one")
    elif len(silent) < len(managed):
        yield Finding("hosts", "good", f"{len(managed) - len(silent)} online{carrying}")


def _images(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    for workflow, job in deployment.containers():
        users.setdefault(job.image, []).append(f"{workflow} {job.name}")
    there, elsewhere = 0, []
    for image, whose in sorted(users.items()):
        parts = _ECR.fullmatch(image)
        if parts is None:
            elsewhere.append(image)
            continue
        wanted = {"imageDigest": parts["digest"]} if parts["digest"] else {"imageTag": parts["tag"] or "latest"}
        try:
            account.ask(
                "ecr",
                "describe_images",
                region=parts["region"],
                registryId=parts["account"],
                repositoryName=parts["name"],
                imageIds=[wanted],
            )
        except Unanswered as error:
            if not _is_missing(error):
                yield Finding("images", "note", f"{image} is not looked at: {error}")
                continue
            yield Finding("images", "bad", f"{image} is not there ({_some(whose)}): push it, or mend the document")
        else:
            there += 1
    if there:
        yield Finding("images", "good", f"{there} are in ECR")
    if elsewhere:
        text = f"{_some(elsewhere)}: in other registries, or chosen by a template, and not looked at"
        yield Finding("images", "note", text)


# --- how it is doing --------------------------------------------------------------------------------------------------


def _dead_letters(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    found = False
    for ending in ("-dead", "-undelivered", "-parked"):
        for address in deployment.of_type("AWS::SQS::Queue", ending):
            asked = ["ApproximateNumberOfMessages"]
            answer = account.ask("sqs", "get_queue_attributes", QueueUrl=address, AttributeNames=asked)
            count = int(answer["Attributes"]["ApproximateNumberOfMessages"])
            if count:
                found = True
                queue = address.rpartition("/")[2]
                text = f"{count} in {queue}: read them, mend the cause, then redrive or delete them (docs/deploy.md)"
                yield Finding("dead letters", "bad", text)
    if not found:
        yield Finding("dead letters", "good", "none")


def _alarms(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    prefix = f"runfold-{deployment.settings.stage}-"
    alarms = account.listed("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix)
    if not alarms:
        yield Finding("alarms", "note", "there are none: nobody is told when work stands still (the setting `alarms`)")
        return
    ringing = [one for one in alarms if one["StateValue"] == "ALARM"]
    for one in ringing:
        yield Finding("alarms", "bad", f"{one['AlarmName']}: {one.get('AlarmDescription') or one.get('StateReason')}")
    if not ringing:
        yield Finding("alarms", "good", f"{len(alarms)}, none raised")
    for topic in deployment.of_type("AWS::SNS::Topic", "-alarms"):
        subscribed = account.listed("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=topic)
        if all(one["SubscriptionArn"] == "PendingConfirmation" for one in subscribed):
            what = "nobody has confirmed a subscription" if subscribed else "nobody is subscribed"
            yield Finding("alarms", "note", f"{what} to {topic}: set `alarm_email`, or subscribe")


def _sweep(account: Asked, deployment: Deployment, now: datetime) -> Iterator[Finding]:
    points = account.ask(
        "cloudwatch",
        "get_metric_statistics",
        Namespace=f"Runfold/{deployment.settings.stage}",
        MetricName="Sweeps",
        Dimensions=[{"Name": "service", "Value": "runfold-scheduler"}],
        StartTime=now - SWEEP_LOOKED_BACK,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    swept = [one["Timestamp"] for one in points if one["Sum"] > 0]
    advice = f"see the log of {deployment.function('scheduler')}, and its schedule `sweep`"
    if not swept:
        hours = SWEEP_LOOKED_BACK // timedelta(hours=1)
        text = f"none in {hours} hours: nothing is started by time, and nothing lost is repaired: {advice}"
        yield Finding("sweep", "bad", text)
        return
    age = now - max(swept)
    text = f"{age // timedelta(seconds=1)} s ago"
    if age > SWEEP_LATE:
        yield Finding("sweep", "bad", f"the last was {text}, and one comes every minute: {advice}")
    else:
        yield Finding("sweep", "good", text)


def _uploads(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    bucket = deployment.settings.documents_bucket
    answer = account.ask("s3", "get_bucket_notification_configuration", Bucket=bucket)
    if "EventBridgeConfiguration" in answer:
        yield Finding("uploads", "good", f"s3://{bucket}/workflows/ tells of documents")
    else:
        text = f"bucket {bucket} tells EventBridge of nothing, so uploads do nothing: deploy the stack again"
        yield Finding("uploads", "bad", text)


def _backups(account: Asked, deployment: Deployment) -> Iterator[Finding]:
    table = deployment.settings.events_table
    answer = account.ask("dynamodb", "describe_continuous_backups", TableName=table)
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") == "ENABLED":
        since = recovery.get("EarliestRestorableDateTime")
        yield Finding("backups", "good", f"{table} can be restored to any moment{f' since {since}' if since else ''}")
    else:
        yield Finding("backups", "bad", f"{table} cannot be restored to a point in time: deploy the stack again")
