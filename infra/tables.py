"""The two tables: `events`, which nobody may change, and `views`, which can be rebuilt from it.

Keys and indexes are those that the stores declare, so the deployed tables are the ones that the contract tests run on.
"""

from collections.abc import Mapping
from typing import Any

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.configuration import Configuration
from infra.permissions import allow
from shared.stores.dynamodb import EVENTS_SCHEMA, VIEWS_SCHEMA


class Tables(Construct):
    def __init__(self, scope: Construct, name: str, *, configuration: Configuration) -> None:
        super().__init__(scope, name)
        stage = configuration.stage
        # The relay needs to know which stream moved, and reads the rest itself; what the record holds tells it what can wait.
        self.events = _table(
            self, "Events", f"runfold-{stage}-events", EVENTS_SCHEMA, configuration, dynamodb.StreamViewType.NEW_IMAGE
        )
        self.views = _table(self, "Views", f"runfold-{stage}-views", VIEWS_SCHEMA, configuration)

    def allow_reading_history(self, role: iam.IRole) -> None:
        allow(role, "dynamodb:GetItem", "dynamodb:Query", on=[self.events.table_arn])
        allow(role, "dynamodb:Query", on=_indexes(self.events, EVENTS_SCHEMA))

    def allow_appending(self, role: iam.IRole) -> None:
        # PutItem, GetItem, Query and nothing else: history cannot be edited, even by us. That a put replaces nothing is the
        # condition of every put of the store; IAM has no key that could demand it.
        self.allow_reading_history(role)
        allow(role, "dynamodb:PutItem", on=[self.events.table_arn])

    def allow_keeping_views(self, role: iam.IRole) -> None:
        allow(
            role,
            "dynamodb:GetItem",
            "dynamodb:BatchGetItem",
            "dynamodb:Query",
            "dynamodb:PutItem",
            "dynamodb:DeleteItem",
            on=[self.views.table_arn],
        )
        allow(role, "dynamodb:Query", on=_indexes(self.views, VIEWS_SCHEMA))


def _table(
    scope: Construct,
    name: str,
    table_name: str,
    schema: Mapping[str, Any],
    configuration: Configuration,
    stream: dynamodb.StreamViewType | None = None,
) -> dynamodb.Table:
    types = {one["AttributeName"]: one["AttributeType"] for one in schema["AttributeDefinitions"]}

    def key(keys: list[dict[str, str]], kind: str) -> dynamodb.Attribute:
        found = next(one["AttributeName"] for one in keys if one["KeyType"] == kind)
        return dynamodb.Attribute(name=found, type=_TYPES[types[found]])

    table = dynamodb.Table(
        scope,
        name,
        table_name=table_name,
        partition_key=key(schema["KeySchema"], "HASH"),
        sort_key=key(schema["KeySchema"], "RANGE"),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        stream=stream,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=True
        ),
        deletion_protection=configuration.keeps_data,
        removal_policy=RemovalPolicy.RETAIN if configuration.keeps_data else RemovalPolicy.DESTROY,
    )
    for index in schema["GlobalSecondaryIndexes"]:
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}, index
        table.add_global_secondary_index(
            index_name=index["IndexName"],
            partition_key=key(index["KeySchema"], "HASH"),
            sort_key=key(index["KeySchema"], "RANGE"),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
    return table


def _indexes(table: dynamodb.Table, schema: Mapping[str, Any]) -> list[str]:
    return [f"{table.table_arn}/index/{index['IndexName']}" for index in schema["GlobalSecondaryIndexes"]]


_TYPES = {"S": dynamodb.AttributeType.STRING, "N": dynamodb.AttributeType.NUMBER}
