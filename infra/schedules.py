"""The group of schedules that ring for workflows, the role they ring with, and the sweep of every minute."""

import json

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.permissions import allow, arn

SWEEP_EVERY = "rate(1 minute)"
SWEEP_KEPT_SECONDS = 60
"""A sweep that comes later than the next one is worth nothing."""


class Schedules(Construct):
    def __init__(
        self, scope: Construct, name: str, *, group_name: str, function_arn: str, undelivered: sqs.IQueue
    ) -> None:
        """`function_arn` is the scheduler's; `undelivered` receives rings that nobody took."""
        super().__init__(scope, name)
        self.group = scheduler.CfnScheduleGroup(self, "Group", name=group_name)
        self._group_arn = arn("scheduler", f"schedule-group/{group_name}")
        self._group_name = group_name
        self._function_arn = function_arn
        self._undelivered = undelivered
        self.role = iam.Role(
            self,
            "Role",
            # Only schedules of our group may use it (the confused deputy).
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID, "aws:SourceArn": self._group_arn}},
            ),
        )
        allow(self.role, "lambda:InvokeFunction", on=[function_arn])
        allow(self.role, "sqs:SendMessage", on=[undelivered.queue_arn])

    def sweep(self, function: Construct) -> None:
        schedule = scheduler.CfnSchedule(
            self,
            "Sweep",
            # Workflows' schedules end with a digest, so none of them can be called this.
            name="sweep",
            group_name=self.group.ref,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            schedule_expression=SWEEP_EVERY,
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self._function_arn,
                role_arn=self.role.role_arn,
                input=json.dumps({"sweep": True}),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=SWEEP_KEPT_SECONDS, maximum_retry_attempts=1
                ),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=self._undelivered.queue_arn),
            ),
        )
        schedule.node.add_dependency(function, self.role)

    def allow_reconciling(self, role: iam.IRole) -> None:
        allow(
            role,
            "scheduler:CreateSchedule",
            "scheduler:DeleteSchedule",
            "scheduler:GetSchedule",
            "scheduler:UpdateSchedule",
            on=[arn("scheduler", f"schedule/{self._group_name}/*")],
            why="Schedules are named for workflows, and the group holds no others.",
        )
        allow(
            role,
            "iam:PassRole",
            on=[self.role.role_arn],
            when={"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
        )
