"""What ECS, EMR and hosts tell of our work goes to the queue of reports. It is a hint: reading the target is the truth.

Every rule has a dead-letter queue, because EventBridge drops what it could not deliver for a day.
"""

from collections.abc import Mapping
from typing import Any, Literal

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.targets import cluster_arns
from infra.uploads_rule import TRIES
from shared.executors.ecs.executor import PLAIN_GROUP, TIMED_GROUP

FAMILY_GROUP = "family:runfold-"
"""The group of tasks that an earlier release started, which gave them none: their definition's family."""


class ReportsRules(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        reports: sqs.Queue,
        undelivered: sqs.Queue,
        clusters: tuple[str, ...],
        applications: tuple[str, ...],
        running: Literal["timed", "all"],
    ) -> None:
        """`clusters` of ECS by name, none: all; `applications` of EMR Serverless by id, none: none; `running`: of which containers
        it is told that they run."""
        super().__init__(scope, name)
        self._reports = reports
        self._undelivered = undelivered
        ours = [PLAIN_GROUP, TIMED_GROUP, {"prefix": FAMILY_GROUP}]
        on = {"clusterArn": cluster_arns(clusters)} if clusters else {}
        ended = {"lastStatus": ["STOPPED"], "group": ours, **on}
        self._rule("EcsTasks", "aws.ecs", ["ECS Task State Change"], ended)
        # Every event costs a send, a receive and more, and when a container began is told again with its end.
        begun = {"lastStatus": ["RUNNING"], "group": ours if running == "all" else [TIMED_GROUP], **on}
        self._rule("EcsTasksRunning", "aws.ecs", ["ECS Task State Change"], begun)
        self._rule("EmrSteps", "aws.emr", ["EMR Step Status Change"])
        self._rule("EmrClusters", "aws.emr", ["EMR Cluster State Change"])
        if applications:
            found = {"applicationId": list(applications)}
            self._rule("EmrServerless", "aws.emr-serverless", ["EMR Serverless Job Run State Change"], found)
        self._rule(
            "Hosts",
            "aws.ssm",
            ["EC2 Command Status-change Notification", "EC2 Command Invocation Status-change Notification"],
        )

    def _rule(self, name: str, source: str, detail_types: list[str], detail: Mapping[str, Any] | None = None) -> None:
        events.Rule(
            self,
            name,
            description=f"{detail_types[0]} to the queue of reports",
            event_pattern=events.EventPattern(source=[source], detail_type=detail_types, detail=detail),
            targets=[
                targets.SqsQueue(
                    self._reports,
                    dead_letter_queue=self._undelivered,
                    max_event_age=Duration.hours(24),
                    retry_attempts=TRIES,
                )
            ],
        )
