"""What every function has in common: the only place for runtime, architecture, logs, tracing and environment.

A function has a role of its own that may write its own log, and nothing else until somebody grants it.
"""

import sys

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.configuration import Configuration
from infra.packing import PYTHON, Packages
from infra.permissions import acknowledge, allow, arn
from shared.settings import Settings


class Service(Construct):
    """The packed code and what all functions are told."""

    def __init__(self, scope: Construct, name: str, *, configuration: Configuration, packages: Packages) -> None:
        super().__init__(scope, name)
        self.configuration = configuration
        on_host = configuration.platform == "host"
        self.runtime = lambda_.Runtime(
            "python{}.{}".format(*sys.version_info) if on_host else f"python{PYTHON}", lambda_.RuntimeFamily.PYTHON
        )
        self.architecture = _host_architecture() if on_host else lambda_.Architecture.ARM_64
        self.code = lambda_.Code.from_asset(str(packages.functions))
        self.schema_layer = lambda_.LayerVersion(
            self,
            "Schema",
            code=lambda_.Code.from_asset(str(packages.layer)),
            compatible_runtimes=[self.runtime],
            compatible_architectures=[self.architecture],
            description="The JSON Schema engine, for the functions that read documents and parameters",
        )
        self.settings: Settings | None = None
        """Set by the stack once everything they name is there, before the first function is made."""

    def function_name(self, name: str) -> str:
        return f"runfold-{self.configuration.stage}-{name}"

    def function_arn(self, name: str) -> str:
        """Known before the function is made: settings tell every function the scheduler's, and the scheduler is one of them."""
        return arn("lambda", f"function:{self.function_name(name)}")


class ServiceFunction(Construct):
    """`functions/<name>`; its handler is `entry.handler`."""

    def __init__(
        self,
        service: Service,
        name: str,
        *,
        memory_mb: int,
        timeout: Duration,
        reads_documents: bool = False,
        feeds_itself: bool = False,
    ) -> None:
        super().__init__(service, name.capitalize())
        configuration = service.configuration
        assert service.settings is not None
        function_name = service.function_name(name)
        log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/lambda/{function_name}",
            retention=retention(configuration.log_retention_days),
            removal_policy=RemovalPolicy.RETAIN if configuration.keeps_data else RemovalPolicy.DESTROY,
        )
        # Not the managed policy, which lets a function write every log of the account.
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        allow(
            self.role,
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            on=[log_group.log_group_arn],
            why="A function's sandboxes write streams of their own in its one group.",
        )
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=function_name,
            runtime=service.runtime,
            architecture=service.architecture,
            code=service.code,
            layers=[service.schema_layer] if reads_documents else [],
            handler=f"functions.{name}.entry.handler",
            role=self.role,
            memory_size=memory_mb,
            timeout=timeout,
            # Lambda ends what looks like a loop after about 16 turns through a queue. One that goes on in slices is bounded by
            # the run that it works on.
            recursive_loop=lambda_.RecursiveLoop.ALLOW if feeds_itself else None,
            environment=service.settings.environment(),
            log_group=log_group,
            tracing=lambda_.Tracing.ACTIVE if configuration.tracing else lambda_.Tracing.DISABLED,
        )
        if configuration.tracing:
            acknowledge(
                self.role,
                {
                    "AwsSolutions-IAM5[Resource::*]": "X-Ray's PutTraceSegments and PutTelemetryRecords know no resources."
                },
            )
        behind = "One release behind the newest on purpose: supported until 2029, with wheels of every native library."
        acknowledge(
            self.function,
            {
                "AwsSolutions-L1": behind,
                "Serverless-LambdaLatestVersion": behind,
                "Serverless-LambdaDLQ": "What calls it keeps what failed: queues and the stream have dead letters, uploads an "
                "on-failure destination, a ring is repaired by the next sweep, and an answer tells the API's caller.",
            },
        )


def retention(days: int) -> logs.RetentionDays:
    return _RETENTION[days]


def _host_architecture() -> lambda_.Architecture:
    import platform

    return lambda_.Architecture.ARM_64 if platform.machine() in ("arm64", "aarch64") else lambda_.Architecture.X86_64


_RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
}
