"""What a deployed function is told by its environment: names of tables, buckets, queues and the like, never secrets.

Every function gets the same variables, so that there is one place that sets them and one that reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from shared.errors import InvalidInput, Problem

PREFIX = "RUNFOLD_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Read from variables named like the fields, in capitals, after `RUNFOLD_`."""

    stage: str
    """`dev`, `prod`, …: part of every name."""
    events_table: str
    views_table: str
    documents_bucket: str
    """Uploads under `workflows/`, pinned documents under `documents/`."""
    artifacts_bucket: str
    """Files and output of jobs, under `runs/`."""
    effects_queue_url: str
    schedule_group: str = ""
    """The EventBridge Scheduler group that holds one schedule for each trigger."""
    schedule_role_arn: str = ""
    schedule_target_arn: str = ""
    """The scheduler function."""
    schedule_dead_letter_arn: str = ""
    cluster: str = ""
    """The ECS cluster of jobs that name none."""
    subnets: str = ""
    """Comma-separated; of ECS jobs that name none."""
    security_groups: str = ""
    assign_public_ip: str = ""
    """`true`: ECS jobs in the default subnets get a public address, for subnets without a NAT gateway."""
    execution_role_arn: str = ""
    """What ECS needs to pull images, read secrets and write logs, for jobs that name none."""
    task_role_arn: str = ""
    ec2_capacity_provider: str = ""
    """Of ECS jobs with `"launch": "ec2"`; without one they run on the cluster's own instances."""
    ec2_spot_capacity_provider: str = ""
    """Of those that also take spot capacity."""
    emr_service_role: str = ""
    """Of clusters whose request names none, and the instance profile of theirs."""
    emr_instance_profile: str = ""
    emr_serverless_role_arn: str = ""
    """What jobs on EMR Serverless act as."""
    log_group: str = ""
    """Where containers and hosts write."""
    files_image: str = ""
    """The image that fetches and keeps workspace files beside a job's container."""
    hosts: str = ""
    """A JSON object: host names to what SSM knows them by, `{"warehouse": {"instance": "mi-…"}}`."""
    cors_origins: str = ""
    """Comma-separated origins that a browser may call the API from."""
    grants_claim: str = "runfold"
    """The claim of a JWT that holds grants, separated by spaces."""
    group_claims: str = "cognito:groups,groups"
    """Comma-separated claims that list groups; those named `runfold:` and a grant give it."""
    iam_grants: str = ""
    """A JSON object: patterns of callers' ARNs to grants, `{"arn:aws:sts::*:assumed-role/oncall/*": "operator"}`."""
    restored_from: str = ""
    """The instant to which the history was restored: before anything is started, targets are asked what they run since then."""
    notices_sender: str = ""
    """What mail comes from: an address of an identity that SES has verified. Empty: the channel `email` is not there."""
    notices_private: str = ""
    """`true`: webhooks may lead to addresses that are not public."""
    notices_address: str = ""
    """Where the API answers, for links in notices."""
    release: str = ""
    """What is deployed; the API tells it, and answers of another release are not taken for unchanged."""

    @staticmethod
    def read(environment: Mapping[str, str]) -> "Settings":
        """Raises `InvalidInput` with every variable that is missing."""
        values: dict[str, str] = {}
        problems: list[Problem] = []
        for field in fields(Settings):
            variable = PREFIX + field.name.upper()
            value = environment.get(variable)
            if value is not None:
                values[field.name] = value
            elif field.name in _REQUIRED:
                problems.append(Problem(variable, "is not set", "the stack sets it; deploy the function with it"))
        if problems:
            raise InvalidInput(problems)
        return Settings(**values)

    def environment(self) -> dict[str, str]:
        """The variables that give these settings; empty ones are left out."""
        return {
            PREFIX + field.name.upper(): value for field in fields(Settings) if (value := getattr(self, field.name))
        }

    def listed(self, name: str) -> tuple[str, ...]:
        """A comma-separated setting as its parts."""
        return tuple(part.strip() for part in getattr(self, name).split(",") if part.strip())


_REQUIRED = frozenset(
    {"stage", "events_table", "views_table", "documents_bucket", "artifacts_bucket", "effects_queue_url"}
)
