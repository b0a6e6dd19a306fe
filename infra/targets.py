"""What may be done to ECS, EMR, EMR Serverless and hosts, and which roles may be handed to them.

Every call is the smallest its executor in `shared/executors/` makes. No permission reads a secret: targets do, with the roles of jobs.
"""

from aws_cdk import aws_iam as iam

from infra.configuration import Configuration
from infra.permissions import Conditions, allow, arn

FAMILY = "runfold-*"
"""Of task definitions that the ECS executor registers."""
DOCUMENT = "AWS-RunShellScript"
PASSED_TO = (
    "ecs-tasks.amazonaws.com",
    "elasticmapreduce.amazonaws.com",
    "ec2.amazonaws.com",
    "emr-serverless.amazonaws.com",
)
"""The services that jobs' roles are handed to; `ec2` for the instances of EMR clusters."""


def allow_running_jobs(role: iam.IRole, configuration: Configuration, clusters: tuple[str, ...]) -> None:
    """For dispatch: start, observe and stop. `clusters` are names; none: all of the account and region."""
    _ecs(role, clusters)
    _emr(role)
    _emr_serverless(role)
    _hosts(role, configuration)
    _roles(role, configuration)
    for bucket in configuration.input_buckets:
        allow(
            role,
            "s3:GetObject",
            on=[f"{arn('s3', bucket, region='', account='')}/*"],
            why="Documents name the objects; the deployment names the bucket.",
        )


def cluster_arns(clusters: tuple[str, ...]) -> list[str]:
    return [arn("ecs", f"cluster/{name}") for name in clusters or ("*",)]


def _ecs(role: iam.IRole, clusters: tuple[str, ...]) -> None:
    on_our_clusters: Conditions = {"ArnLike": {"ecs:cluster": cluster_arns(clusters)}}
    tasks = [arn("ecs", f"task/{name}/*") for name in clusters or ("*",)]
    allow(
        role,
        "ecs:RunTask",
        on=[arn("ecs", f"task-definition/{FAMILY}:*")],
        when=on_our_clusters,
        why="Definitions are named for their content; only those that the executor registered may run, on the named clusters.",
    )
    allow(
        role,
        "ecs:DescribeTasks",
        "ecs:StopTask",
        on=tasks,
        when=on_our_clusters,
        why="ECS chooses the ids of tasks.",
    )
    allow(role, "ecs:ListTasks", on=["*"], when=on_our_clusters, why=_NOTHING_NARROWER)
    # A definition runs nothing by itself, and which roles it may name is for iam:PassRole to say.
    allow(role, "ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition", on=["*"], why=_NOTHING_NARROWER)
    allow(
        role,
        "ecs:TagResource",
        on=[*tasks, arn("ecs", f"task-definition/{FAMILY}:*")],
        when={"StringEquals": {"ecs:CreateAction": ["RunTask", "RegisterTaskDefinition"]}},
        why="Tags are set with what they are on, never on anything that is there already.",
    )


def _emr(role: iam.IRole) -> None:
    clusters = [arn("elasticmapreduce", "cluster/*")]
    allow(
        role,
        "elasticmapreduce:AddJobFlowSteps",
        "elasticmapreduce:CancelSteps",
        "elasticmapreduce:DescribeCluster",
        "elasticmapreduce:DescribeStep",
        "elasticmapreduce:ListSteps",
        on=clusters,
        why="EMR chooses the ids of clusters, and documents may name clusters that are there.",
    )
    allow(
        role,
        "elasticmapreduce:TerminateJobFlows",
        on=clusters,
        # Only clusters that were started for a job: these carry its tags.
        when={"StringLike": {"elasticmapreduce:ResourceTag/runfold:run": "*"}},
        why="EMR chooses the ids of clusters.",
    )
    allow(
        role,
        "elasticmapreduce:AddTags",
        on=clusters,
        # RunJobFlow with tags needs it; nothing that is there already may be made to look like ours, and then be terminated.
        when={"StringLike": {"elasticmapreduce:RequestTag/runfold:run": "*"}},
        why="EMR chooses the ids of clusters.",
    )
    allow(role, "elasticmapreduce:ListClusters", "elasticmapreduce:RunJobFlow", on=["*"], why=_NOTHING_NARROWER)


def _emr_serverless(role: iam.IRole) -> None:
    allow(
        role,
        "emr-serverless:CancelJobRun",
        "emr-serverless:GetJobRun",
        "emr-serverless:ListJobRuns",
        "emr-serverless:StartJobRun",
        "emr-serverless:TagResource",
        on=[arn("emr-serverless", "/applications/*")],
        why="EMR Serverless chooses the ids of applications and job runs.",
    )


def _hosts(role: iam.IRole, configuration: Configuration) -> None:
    # One document, which AWS owns and nobody can change: a region's own copy has no account.
    allow(role, "ssm:SendCommand", on=[arn("ssm", f"document/{DOCUMENT}", account="")])
    tag = configuration.hosts_tag
    allow(
        role,
        "ssm:SendCommand",
        on=[arn("ec2", "instance/*"), arn("ssm", "managed-instance/*")],
        when={"StringEquals": {f"ssm:resourceTag/{tag}": configuration.stage}} if tag else None,
        why="AWS chooses the ids of hosts; the tag says which ones are meant.",
    )
    allow(
        role,
        "ssm:CancelCommand",
        "ssm:GetCommandInvocation",
        "ssm:ListCommandInvocations",
        "ssm:ListCommands",
        on=["*"],
        why=_NOTHING_NARROWER,
    )


def _roles(role: iam.IRole, configuration: Configuration) -> None:
    allow(
        role,
        "iam:PassRole",
        on=[arn("iam", f"role{configuration.passed_role_path}*", region=""), *configuration.passed_roles],
        when={"StringEquals": {"iam:PassedToService": list(PASSED_TO)}},
        why="Teams make the roles of their jobs under this path; the functions' own roles are not under it.",
    )


_NOTHING_NARROWER = "AWS defines no resource for these calls."
