"""What may be done to ECS, EMR, EMR Serverless and hosts, and which roles may be handed to them.

Every call is the smallest its executor in `shared/executors/` makes. No permission reads a secret: targets do, with the roles of jobs.
"""

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

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


def allow_observing_jobs(
    role: iam.IRole, configuration: Configuration, clusters: tuple[str, ...], artifacts: s3.IBucket
) -> None:
    """For status: look at what targets tell of. `clusters` are names; none: all of the account and region."""
    allow(
        role,
        "ecs:DescribeTasks",
        on=_tasks(clusters),
        when=_on(clusters),
        why="ECS chooses the ids of tasks.",
    )
    allow(role, "ecs:ListTasks", on=["*"], when=_on(clusters), why=_NOTHING_NARROWER)
    allow(
        role,
        "elasticmapreduce:DescribeCluster",
        "elasticmapreduce:DescribeStep",
        "elasticmapreduce:ListSteps",
        on=_EMR_CLUSTERS,
        why="EMR chooses the ids of clusters, and documents may name clusters that are there.",
    )
    allow(role, "elasticmapreduce:ListClusters", on=["*"], why=_NOTHING_NARROWER)
    allow(
        role,
        # A script that says it runs long after it was sent may be on a host that is gone.
        "ssm:DescribeInstanceInformation",
        "ssm:GetCommandInvocation",
        "ssm:ListCommandInvocations",
        "ssm:ListCommands",
        on=["*"],
        why=_NOTHING_NARROWER,
    )
    # When Systems Manager cannot tell what became of a script, the host itself is asked, which is a command, too.
    _allow_commands(role, configuration, artifacts)
    if configuration.emr_serverless_applications:
        allow(
            role,
            "emr-serverless:GetJobRun",
            "emr-serverless:ListJobRuns",
            on=_applications(configuration),
            why="EMR Serverless chooses the ids of job runs.",
        )


def allow_running_jobs(
    role: iam.IRole, configuration: Configuration, clusters: tuple[str, ...], artifacts: s3.IBucket
) -> None:
    """For dispatch: start and stop, beside looking."""
    allow_observing_jobs(role, configuration, clusters, artifacts)
    definitions = [arn("ecs", f"task-definition/{FAMILY}:*")]
    allow(
        role,
        "ecs:RunTask",
        on=definitions,
        when=_on(clusters),
        why="Definitions are named for their content; only those that the executor registered may run, on the named clusters.",
    )
    allow(role, "ecs:StopTask", on=_tasks(clusters), when=_on(clusters), why="ECS chooses the ids of tasks.")
    # A definition runs nothing by itself, and which roles it may name is for iam:PassRole to say.
    allow(role, "ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition", on=["*"], why=_NOTHING_NARROWER)
    allow(
        role,
        "ecs:TagResource",
        on=[*_tasks(clusters), *definitions],
        when={"StringEquals": {"ecs:CreateAction": ["RunTask", "RegisterTaskDefinition"]}},
        why="Tags are set with what they are on, never on anything that is there already.",
    )
    allow(
        role,
        "elasticmapreduce:AddJobFlowSteps",
        "elasticmapreduce:CancelSteps",
        on=_EMR_CLUSTERS,
        why="EMR chooses the ids of clusters, and documents may name clusters that are there.",
    )
    allow(
        role,
        "elasticmapreduce:TerminateJobFlows",
        on=_EMR_CLUSTERS,
        # Only clusters that were started for a job: these carry its tags.
        when={"StringLike": {"elasticmapreduce:ResourceTag/runfold:run": "*"}},
        why="EMR chooses the ids of clusters.",
    )
    allow(
        role,
        "elasticmapreduce:AddTags",
        on=_EMR_CLUSTERS,
        # RunJobFlow with tags needs it.
        when={"StringLike": {"elasticmapreduce:RequestTag/runfold:run": "*"}},
        why="EMR chooses the ids of clusters.",
    )
    allow(role, "elasticmapreduce:RunJobFlow", on=["*"], why=_NOTHING_NARROWER)
    if configuration.emr_serverless_applications:
        allow(
            role,
            "emr-serverless:CancelJobRun",
            "emr-serverless:StartJobRun",
            "emr-serverless:TagResource",
            on=_applications(configuration),
            why="EMR Serverless chooses the ids of job runs.",
        )
    allow(role, "ssm:CancelCommand", on=["*"], why=_NOTHING_NARROWER)
    allow(
        role,
        "iam:PassRole",
        on=[arn("iam", f"role{configuration.passed_role_path}*", region=""), *configuration.passed_roles],
        when={"StringEquals": {"iam:PassedToService": list(PASSED_TO)}},
        why="Teams make the roles of their jobs under this path; the functions' own roles are not under it.",
    )
    for bucket in configuration.input_buckets:
        allow(
            role,
            "s3:GetObject",
            on=[f"{arn('s3', bucket, region='', account='')}/*"],
            why="Documents name the objects; the deployment names the bucket.",
        )


def allow_looking_for_files(role: iam.IRole, configuration: Configuration) -> None:
    """For dispatch: whether a file is there that a run waits for."""
    if not configuration.awaited_buckets:
        return
    buckets = [arn("s3", bucket, region="", account="") for bucket in configuration.awaited_buckets]
    # Who may not list a bucket is not told what is not there yet from what is forbidden.
    allow(role, "s3:ListBucket", on=buckets)
    allow(
        role,
        "s3:GetObject",
        on=[f"{bucket}/*" for bucket in buckets],
        why="Documents name the objects; the deployment names the bucket.",
    )


def allow_reading_output(role: iam.IRole, configuration: Configuration) -> None:
    """For the API: what EMR copied to the buckets that are named for it, and where each cluster and job run puts it."""
    if not configuration.log_buckets:
        return
    buckets = [arn("s3", bucket, region="", account="") for bucket in configuration.log_buckets]
    # Who may not list a bucket is not told what is not there yet from what is forbidden.
    allow(role, "s3:ListBucket", on=buckets)
    allow(
        role,
        "s3:GetObject",
        on=[f"{bucket}/*" for bucket in buckets],
        why="EMR chooses the names below where documents say that output goes; the deployment names the bucket.",
    )
    allow(
        role,
        "elasticmapreduce:DescribeCluster",
        "elasticmapreduce:ListSteps",
        on=_EMR_CLUSTERS,
        why="EMR chooses the ids of clusters, and documents may name clusters that are there.",
    )
    if configuration.emr_serverless_applications:
        allow(
            role,
            "emr-serverless:GetApplication",
            "emr-serverless:GetJobRun",
            on=_applications(configuration),
            why="EMR Serverless chooses the ids of job runs.",
        )


def cluster_arns(clusters: tuple[str, ...]) -> list[str]:
    return [arn("ecs", f"cluster/{name}") for name in clusters or ("*",)]


def _allow_commands(role: iam.IRole, configuration: Configuration, artifacts: s3.IBucket) -> None:
    # One document, which AWS owns and nobody can change: a region's own copy has no account. The bucket is where hosts put output.
    allow(role, "ssm:SendCommand", on=[arn("ssm", f"document/{DOCUMENT}", account=""), artifacts.bucket_arn])
    tag = configuration.hosts_tag
    allow(
        role,
        "ssm:SendCommand",
        on=[arn("ec2", "instance/*"), arn("ssm", "managed-instance/*")],
        when={"StringEquals": {f"ssm:resourceTag/{tag}": configuration.stage}} if tag else None,
        why="AWS chooses the ids of hosts; the tag says which ones are meant.",
    )


def _on(clusters: tuple[str, ...]) -> Conditions:
    return {"ArnLike": {"ecs:cluster": cluster_arns(clusters)}}


def _tasks(clusters: tuple[str, ...]) -> list[str]:
    return [arn("ecs", f"task/{name}/*") for name in clusters or ("*",)]


def _applications(configuration: Configuration) -> list[str]:
    names = configuration.emr_serverless_applications
    return [arn("emr-serverless", f"/applications/{name}{rest}") for name in names for rest in ("", "/jobruns/*")]


_EMR_CLUSTERS = [arn("elasticmapreduce", "cluster/*")]
_NOTHING_NARROWER = "AWS defines no resource for these calls."
