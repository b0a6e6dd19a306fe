"""Nothing that is under way can vanish: every hop has tries, a place for what failed, and an alarm on that place."""

import json
from typing import Any

import pytest

from tests.infra.template import Template, flat

MAPPING = "AWS::Lambda::EventSourceMapping"
QUEUE = "AWS::SQS::Queue"
RULE = "AWS::Events::Rule"


def mappings(template: Template, source: str) -> dict[str, dict[str, Any]]:
    """By the name of the source."""
    found = {flat(one["EventSourceArn"]).strip("<>"): one for one in template.all_of(MAPPING).values()}
    return {name.partition(".")[0]: one for name, one in found.items() if name.endswith(source)}


def test_two_queues_are_polled_and_a_third_only_where_it_is_asked_for(template: Template) -> None:
    queues = template.all_of(QUEUE)
    polled = {queues[name]["QueueName"] for name in mappings(template, ".Arn") if name in queues}
    wanted = ["effects", "reports", *(["triggers"] if template.stage == "test" else [])]
    assert polled == {f"runfold-{template.stage}-{name}" for name in wanted}


def test_whatever_is_put_on_the_bus_and_new_objects_of_named_buckets_reach_the_triggers(
    full: Template, prod: Template
) -> None:
    def told(template: Template) -> list[tuple[str, Any]]:
        function = template.named("AWS::Lambda::Function", "FunctionsTrigger")
        return [
            ("default" if "EventBusName" not in rule else "own", rule["EventPattern"])
            for rule in template.all_of(RULE).values()
            if any(flat(target["Arn"]) == f"<{function}.Arn>" for target in rule["Targets"])
        ]

    objects = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": ["landing"]}}}
    events = ("own", {"account": [{"Ref": "AWS::AccountId"}]})
    assert sorted(told(full), key=lambda one: one[0]) == [("default", objects), events]
    assert told(prod) == [events]


def test_a_polled_queue_answers_item_by_item_and_gives_its_function_time_and_bounded_company(prod: Template) -> None:
    functions = {f"<{name}>": one for name, one in prod.all_of("AWS::Lambda::Function").items()}
    for name, mapping in mappings(prod, ".Arn").items():
        queue = prod.all_of(QUEUE)[name]
        timeout = functions[flat(mapping["FunctionName"])]["Timeout"]
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"]["MaximumConcurrency"] <= 5
        assert queue["VisibilityTimeout"] >= 6 * timeout


def test_what_waits_for_nobody_is_dispatched_at_once_and_reports_are_collected_for_two_seconds(prod: Template) -> None:
    batches = {
        prod.all_of(QUEUE)[name]["QueueName"]: (
            mapping["BatchSize"],
            mapping.get("MaximumBatchingWindowInSeconds", 0),
        )
        for name, mapping in mappings(prod, ".Arn").items()
    }
    assert batches == {"runfold-prod-effects": (10, 0), "runfold-prod-reports": (100, 2)}


def test_a_window_makes_larger_batches(full: Template) -> None:
    for name, mapping in mappings(full, ".Arn").items():
        window = mapping.get("MaximumBatchingWindowInSeconds", 0)
        assert (mapping["BatchSize"], window) == ((10, 0) if name.startswith("Messages") else (100, 1))


def test_a_message_that_keeps_failing_becomes_a_dead_letter_of_its_own_queue(template: Template) -> None:
    queues = template.all_of(QUEUE)
    for name in mappings(template, ".Arn"):
        redrive = queues[name]["RedrivePolicy"]
        dead = queues[flat(redrive["deadLetterTargetArn"]).strip("<>").partition(".")[0]]
        assert redrive["maxReceiveCount"] == 5
        assert dead["QueueName"] == f"{queues[name]['QueueName']}-dead"
        assert dead["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_queues_are_encrypted_and_refuse_plain_http(template: Template) -> None:
    queues = template.all_of(QUEUE)
    assert all(one["SqsManagedSseEnabled"] for one in queues.values())
    refusing = {
        flat(one["Queues"][0]).strip("<>")
        for one in template.all_of("AWS::SQS::QueuePolicy").values()
        if any(statement["Effect"] == "Deny" for statement in one["PolicyDocument"]["Statement"])
    }
    assert len(refusing) == len(queues)


def test_every_rule_tries_for_a_day_and_then_sets_aside(template: Template) -> None:
    undelivered = template.named(QUEUE, "Undelivered")
    rules = template.all_of(RULE)
    assert rules
    for rule in rules.values():
        for target in rule["Targets"]:
            assert flat(target["DeadLetterConfig"]["Arn"]) == f"<{undelivered}.Arn>"
            assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}


def test_reports_come_from_ecs_emr_and_hosts_through_the_queue(full: Template) -> None:
    reports = full.named(QUEUE, "ReportsQueue")
    told = {
        (source, kind)
        for rule in full.all_of(RULE).values()
        if flat(rule["Targets"][0]["Arn"]) == f"<{reports}.Arn>"
        for source in rule["EventPattern"].get("source", [])
        for kind in rule["EventPattern"]["detail-type"]
    }
    assert told == {
        ("aws.ecs", "ECS Task State Change"),
        ("aws.emr", "EMR Step Status Change"),
        ("aws.emr", "EMR Cluster State Change"),
        ("aws.emr-serverless", "EMR Serverless Job Run State Change"),
        ("aws.ssm", "EC2 Command Status-change Notification"),
        ("aws.ssm", "EC2 Command Invocation Status-change Notification"),
    }


def tasks_told_of(template: Template, status: str) -> dict[str, Any]:
    (detail,) = [
        one["EventPattern"]["detail"]
        for one in template.all_of(RULE).values()
        if one["EventPattern"].get("source") == ["aws.ecs"] and status in one["EventPattern"]["detail"]["lastStatus"]
    ]
    return dict(detail)


@pytest.mark.parametrize("status", ["RUNNING", "STOPPED"])
def test_only_tasks_that_runfold_started_on_its_clusters_are_told_of(full: Template, status: str) -> None:
    detail = tasks_told_of(full, status)
    assert detail["group"] == ["runfold", "runfold-timed", {"prefix": "family:runfold-"}]
    assert [flat(one).rpartition(":")[2] for one in detail["clusterArn"]] == ["cluster/runfold-test-demo"]


def test_that_a_task_runs_is_told_only_where_a_time_limit_counts_from_it_unless_configured(prod: Template) -> None:
    assert tasks_told_of(prod, "RUNNING")["group"] == ["runfold-timed"]


def test_uploads_reach_the_register_function_and_what_it_cannot_do_is_set_aside(prod: Template) -> None:
    (rule,) = [one for one in prod.all_of(RULE).values() if one["EventPattern"].get("source") == ["aws.s3"]]
    assert rule["EventPattern"]["detail-type"] == ["Object Created", "Object Deleted"]
    assert rule["EventPattern"]["detail"]["object"] == {"key": [{"prefix": "workflows/"}]}
    assert "Register" in flat(rule["Targets"][0]["Arn"])
    config = prod.all_of("AWS::Lambda::EventInvokeConfig")[prod.named("AWS::Lambda::EventInvokeConfig", "Register")]
    undelivered = prod.named(QUEUE, "Undelivered")
    assert flat(config["DestinationConfig"]["OnFailure"]["Destination"]) == f"<{undelivered}.Arn>"
    bucket = prod.all_of("AWS::S3::Bucket")[prod.named("AWS::S3::Bucket", "Documents")]
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_one_bad_record_of_the_stream_neither_holds_up_nor_loses_the_others(prod: Template) -> None:
    (mapping,) = mappings(prod, ".StreamArn").values()
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 0 < mapping["MaximumRetryAttempts"] <= 10
    assert 0 < mapping["MaximumRecordAgeInSeconds"] <= 24 * 3600
    parked = prod.named(QUEUE, "Parked")
    assert flat(mapping["DestinationConfig"]["OnFailure"]["Destination"]) == f"<{parked}.Arn>"


def test_a_sweep_comes_every_minute_and_a_late_one_is_dropped(prod: Template) -> None:
    (schedule,) = prod.all_of("AWS::Scheduler::Schedule").values()
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert json.loads(schedule["Target"]["Input"]) == {"sweep": True}
    assert schedule["Target"]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 60
    assert schedule["Target"]["DeadLetterConfig"]


def test_there_is_nothing_that_costs_by_the_hour(template: Template) -> None:
    kinds = {one["Type"] for one in template.body["Resources"].values()}
    by_the_hour = ("NatGateway", "LoadBalancer", "::EC2::Instance", "::ECS::Service", "RDS", "Cache", "::KMS::Key")
    assert not [kind for kind in kinds if any(word in kind for word in by_the_hour)]
    assert not any("ProvisionedConcurrencyConfig" in str(one) for one in template.functions().values())
