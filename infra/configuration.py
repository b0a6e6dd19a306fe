"""What can be set about a deployment: the context of `cdk.json`, or `-c name=value`.

Everything is checked before anything is made, and every problem is told at once. `docs/configuration.md` explains each name; a test
holds the two together.
"""

import json
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from shared.errors import InvalidInput, Problem

_STAGE = re.compile(r"[a-z][a-z0-9-]{0,15}")
_ROLE_PATH = re.compile(r"/([\x21-\x7e]+/)+")
_ADDRESS = re.compile(r"[!-~]{1,64}@[A-Za-z0-9.-]{1,190}")
_SECRET = re.compile(r"arn:aws[a-z-]*:(secretsmanager:[^:*]+:\d+:secret:[^*]+|ssm:[^:*]+:\d+:parameter/[^*]+)")
_GRANT = re.compile(r"(viewer|operator|author|admin)(:(workflow|tag)=[^\s,\[\]]{1,256})?")
_SECRET = re.compile(
    r"arn:aws[a-z-]*:(secretsmanager:[^:*]+:[0-9]{12}:secret:|ssm:[^:*]+:[0-9]{12}:parameter/)[^\s*]+\*?"
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BOUNDS = {
    "effects_concurrency": (2, 1000),
    "reports_concurrency": (2, 1000),
    "effects_window_seconds": (0, 300),
    "reports_window_seconds": (0, 300),
    "stream_window_seconds": (0, 300),
    "api_requests_per_second": (1, 10_000),
    "artifacts_days": (0, 36_500),
}
BATCH_MAX = 10
BATCH_MAX_WITH_WINDOW = 100
"""Messages of a queue in one batch. Lambda takes more than ten at once only with a window of a second or more."""
_RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827)
"""What CloudWatch takes, up to five years."""


@dataclass(frozen=True, slots=True)
class Configuration:
    stage: str = "dev"
    """Part of every name. Whatever is not called `dev` keeps its data when the stack is deleted."""
    platform: Literal["lambda", "host"] = "lambda"
    """`host`: functions packed for this machine, for an emulator that runs them in its own Python."""
    demo: bool = False
    """A VPC, an ECS cluster and roles, so that a new account can run the example."""
    tags: dict[str, str] = field(default_factory=dict)

    # --- what jobs use when they do not say it themselves -----------------------------------------------------------------
    cluster: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    assign_public_ip: bool = False
    """ECS tasks get a public address; always so in the demo's own subnets, which have no NAT gateway."""
    execution_role_arn: str = ""
    task_role_arn: str = ""
    ec2_capacity_provider: str = ""
    ec2_spot_capacity_provider: str = ""
    emr_service_role: str = ""
    emr_instance_profile: str = ""
    emr_serverless_role_arn: str = ""
    files_image: str = ""
    hosts: dict[str, Any] = field(default_factory=dict)
    restored_from: str = ""
    """The instant to which the history was restored, while work of before may still run: targets are asked before anything is started."""

    # --- what jobs may use ------------------------------------------------------------------------------------------------
    clusters: tuple[str, ...] = ()
    """ECS clusters, by name, that jobs may run on, beside `cluster`. Neither given: every cluster of the account and region."""
    role_path: str = ""
    """IAM path of the roles that jobs may be given; `/runfold/<stage>/` when empty."""
    passed_roles: tuple[str, ...] = ()
    """ARNs of single roles elsewhere that jobs may be given."""
    hosts_tag: str = "runfold"
    """Hosts that carry this tag with the stage as its value may be sent commands; empty: all of the account and region."""
    emr_serverless_applications: tuple[str, ...] = ()
    """Ids of the EMR Serverless applications that jobs may use."""
    input_buckets: tuple[str, ...] = ()
    """Buckets from which EMR jobs may take inputs."""
    log_buckets: tuple[str, ...] = ()
    """Buckets that EMR copies output to, so that the API may show it."""
    awaited_buckets: tuple[str, ...] = ()
    """Buckets with files that runs may wait for."""

    # --- triggers ---------------------------------------------------------------------------------------------------------
    trigger_buckets: tuple[str, ...] = ()
    """Buckets whose new objects may start runs; each must send its events to EventBridge."""
    trigger_queue: bool = False
    """A queue whose messages may start runs. It is polled, which costs a little even while nothing runs."""
    webhook_secrets: tuple[str, ...] = ()
    """ARNs of the secrets that webhooks are signed with, in Secrets Manager or Parameter Store; the API may read these and no others."""

    # --- telling people ---------------------------------------------------------------------------------------------------
    notices_sender: str = ""
    """The address that mail comes from; of an identity that SES has verified in this account and region."""
    notices_topics: tuple[str, ...] = ()
    """ARNs of the SNS topics that notices may be published to."""
    notices_secrets: tuple[str, ...] = ()
    """ARNs of the secrets, and SSM parameters, that webhooks are signed with."""
    notices_private: bool = False
    """Whether webhooks may lead to addresses that are not public."""
    notices_address: str = ""
    """Where the API answers, for links in notices."""

    # --- flow -------------------------------------------------------------------------------------------------------------
    effects_concurrency: int = 5
    reports_concurrency: int = 2
    effects_window_seconds: int = 0
    reports_window_seconds: int = 2
    stream_window_seconds: int = 2
    running_events: Literal["timed", "all"] = "timed"
    """Of which ECS tasks it is told that they run: those with limits that count from then, or all."""

    # --- the API ----------------------------------------------------------------------------------------------------------
    api_access: tuple[str, ...] = ("jwt",)
    oidc_issuer: str = ""
    """Empty: a Cognito user pool is made."""
    oidc_audience: tuple[str, ...] = ()
    grants_claim: str = "runfold"
    """The claim that holds grants, separated by spaces."""
    group_claims: tuple[str, ...] = ("cognito:groups", "groups")
    """Claims that list groups, of which `runfold:operator:tag=sales` and the like are grants."""
    iam_grants: dict[str, Any] = field(default_factory=dict)
    """Patterns of ARNs to grants, for callers by IAM."""
    cors_origins: tuple[str, ...] = ()
    api_requests_per_second: int = 50

    # --- keeping and watching ---------------------------------------------------------------------------------------------
    artifacts_days: int = 90
    """After which jobs' files are deleted; 0: never."""
    log_retention_days: int = 30
    job_log_retention_days: int = 90
    alarms: bool = True
    alarm_email: str = ""
    tracing: bool = True

    @property
    def keeps_data(self) -> bool:
        return self.stage != "dev"

    @property
    def passed_role_path(self) -> str:
        return self.role_path or f"/runfold/{self.stage}/"

    @staticmethod
    def read(context: Callable[[str], object]) -> "Configuration":
        """`context` answers None for what is not set. Raises `InvalidInput` with every problem."""
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for one in fields(Configuration):
            value = context(one.name)
            if value is None:
                continue
            try:
                default = one.default if one.default is not MISSING else {}
                values[one.name] = _as_typed(value, type(default))
            except ValueError as error:
                problems.append(Problem(one.name, str(error), "see docs/configuration.md"))
        # What could not be read stands at its default here, which has no problems.
        configuration = Configuration(**values)
        problems += configuration._problems()
        if problems:
            raise InvalidInput(problems)
        return configuration

    def _problems(self) -> list[Problem]:
        problems = []
        if not _STAGE.fullmatch(self.stage):
            problems.append(Problem("stage", f"{self.stage!r} is no stage", "use lower case, digits and -, 16 at most"))
        if self.running_events not in ("timed", "all"):
            problems.append(Problem("running_events", f"{self.running_events!r} is unknown", "use timed or all"))
        if self.platform not in ("lambda", "host"):
            problems.append(Problem("platform", f"{self.platform!r} is unknown", "use lambda or host"))
        if unknown := set(self.api_access) - {"jwt", "iam"}:
            problems.append(Problem("api_access", f"{sorted(unknown)} is unknown", "use jwt, iam or jwt,iam"))
        if self.oidc_issuer and not (self.oidc_issuer.startswith("https://") and self.oidc_audience):
            problems.append(
                Problem(
                    "oidc_issuer", "is no https address, or has no audience", "set both oidc_issuer and oidc_audience"
                )
            )
        if bad := [arn for arn, words in self.iam_grants.items() if not isinstance(words, str) or not _grants(words)]:
            hint = 'use {"arn:aws:sts::*:assumed-role/oncall/*": "operator:tag=sales viewer"}'
            problems.append(Problem("iam_grants", f"{', '.join(bad)} is given what is no grant", hint))
        if self.notices_sender and not _ADDRESS.fullmatch(self.notices_sender):
            problems.append(
                Problem("notices_sender", f"{self.notices_sender!r} is no address", "use runfold@example.com")
            )
        if any(not topic.startswith("arn:") or ":sns:" not in topic or "*" in topic for topic in self.notices_topics):
            problems.append(Problem("notices_topics", "not every entry is the ARN of one topic", "give whole ARNs"))
        if any(not _SECRET.fullmatch(secret) for secret in self.notices_secrets):
            hint = "give whole ARNs of secrets or SSM parameters"
            problems.append(Problem("notices_secrets", "not every entry is the ARN of one secret", hint))
        if self.notices_address and not self.notices_address.startswith("https://"):
            problems.append(
                Problem("notices_address", f"{self.notices_address!r} is no https address", "use https://…")
            )
        if self.restored_from and not _is_instant(self.restored_from):
            hint = "write it with its zone: 2026-11-22T02:00:00Z"
            problems.append(Problem("restored_from", f"{self.restored_from!r} is no instant", hint))
        if not _ROLE_PATH.fullmatch(self.passed_role_path):
            # A path of "/" would let jobs be given every role of the account.
            problems.append(
                Problem("role_path", f"{self.role_path!r} is too wide", "use a path such as /runfold/prod/")
            )
        if any(":role/" not in role or "*" in role for role in self.passed_roles):
            problems.append(Problem("passed_roles", "not every entry is the ARN of one role", "give whole ARNs"))
        if any(not _SECRET.fullmatch(secret) for secret in self.webhook_secrets):
            hint = "give whole ARNs of Secrets Manager or Parameter Store; only the end may be a *"
            problems.append(Problem("webhook_secrets", "not every entry is the ARN of secrets", hint))
        if any(not _BUCKET.fullmatch(bucket) for bucket in self.trigger_buckets):
            problems.append(
                Problem("trigger_buckets", "not every entry is the name of a bucket", "give names, not ARNs")
            )
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                problems.append(Problem(name, f"{getattr(self, name)} is out of bounds", f"use {least} to {most}"))
        for name in ("log_retention_days", "job_log_retention_days"):
            if getattr(self, name) not in _RETENTION_DAYS:
                problems.append(
                    Problem(name, "CloudWatch has no such period", f"use one of {', '.join(map(str, _RETENTION_DAYS))}")
                )
        return problems


def _grants(words: str) -> bool:
    # The API ignores a word that is no grant; here a misspelt one is told before anybody misses it.
    return bool(words.split()) and all(_GRANT.fullmatch(word) for word in words.split())


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _as_typed(value: object, kind: type) -> object:
    """`-c name=value` gives text, `cdk.json` gives JSON."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
        raise ValueError(f"{value!r} is neither true nor false")
    if kind is int:
        if isinstance(value, bool) or not re.fullmatch(
            r"\d{1,9}", f"{value:g}" if isinstance(value, float) else str(value)
        ):
            raise ValueError(f"{value!r} is no whole number")
        return int(str(value).removesuffix(".0"))
    if kind is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{value!r} is no list of texts")
        return tuple(part.strip() for part in parts if part.strip())
    if kind is dict:
        read = json.loads(value) if isinstance(value, str) else value
        if not isinstance(read, dict):
            raise ValueError(f"{value!r} is no JSON object")
        return read
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value
