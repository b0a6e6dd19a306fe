"""The events table: append-only for every role, kept whatever happens, and the table that the stores were tested on."""

from collections.abc import Mapping
from typing import Any

import pytest

from shared.stores.dynamodb import EVENTS_SCHEMA, VIEWS_SCHEMA
from tests.infra.template import Template

TABLE = "AWS::DynamoDB::Table"
_ON_THE_STREAM = {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"}


def test_no_role_can_change_or_delete_history_or_read_it_but_by_its_keys(template: Template) -> None:
    events = template.named(TABLE, "Events")
    for statement in template.statements():
        for resource in statement.resources:
            if f"<{events}.StreamArn>" == resource:
                assert set(statement.actions) <= _ON_THE_STREAM
            elif events in resource:
                assert set(statement.actions) <= {"dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:Query"}, statement
            if resource == "*":
                assert {one for one in statement.actions if one.startswith("dynamodb:")} <= {"dynamodb:ListStreams"}


def test_the_relay_derives_and_therefore_only_reads_history(prod: Template) -> None:
    events = prod.named(TABLE, "Events")
    written = [one for one in prod.statements("relay") if "dynamodb:PutItem" in one.actions]
    assert all(events not in resource for one in written for resource in one.resources)


@pytest.mark.parametrize(("part", "schema"), [("Events", EVENTS_SCHEMA), ("Views", VIEWS_SCHEMA)])
def test_a_table_has_the_keys_and_indexes_that_the_contract_tests_run_on(
    prod: Template, part: str, schema: Mapping[str, Any]
) -> None:
    table = prod.all_of(TABLE)[prod.named(TABLE, part)]
    for name in ("BillingMode", "KeySchema", "GlobalSecondaryIndexes"):
        assert table[name] == schema[name]
    by_name = {one["AttributeName"]: one["AttributeType"] for one in table["AttributeDefinitions"]}
    assert by_name == {one["AttributeName"]: one["AttributeType"] for one in schema["AttributeDefinitions"]}


def test_history_survives_the_stack_and_mistakes_in_it(prod: Template) -> None:
    for table in prod.all_of(TABLE).values():
        assert table["DeletionProtectionEnabled"] is True
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    for kind in (TABLE, "AWS::S3::Bucket", "AWS::Logs::LogGroup", "AWS::Cognito::UserPool"):
        assert prod.policies_of(kind) == {"Retain"}, kind


def test_the_stage_dev_goes_without_a_trace(templates: dict[str, Template]) -> None:
    dev = templates["dev"]
    assert not any(table["DeletionProtectionEnabled"] for table in dev.all_of(TABLE).values())
    for kind in (TABLE, "AWS::S3::Bucket", "AWS::Logs::LogGroup", "AWS::Cognito::UserPool"):
        assert dev.policies_of(kind) == {"Delete"}, kind


def test_the_relay_sees_what_was_committed_so_that_it_can_leave_routine_to_later(prod: Template) -> None:
    streams = {name: one.get("StreamSpecification") for name, one in prod.all_of(TABLE).items()}
    assert streams == {
        prod.named(TABLE, "Events"): {"StreamViewType": "NEW_IMAGE"},
        prod.named(TABLE, "Views"): None,
    }
