"""Alarms and the dashboard: what is set aside is seen, what handlers count is what is watched, and silence is an alarm."""

import re
import subprocess
import sys
from pathlib import Path

from tests.infra.template import Template, flat

ALARM = "AWS::CloudWatch::Alarm"
ROOT = Path(__file__).resolve().parent.parent.parent
FUNCTIONS = ROOT / "functions"


def emitted(function: str) -> set[str]:
    """Names of metrics in a handler; those that hold the outcome of a run are spelled out."""
    source = (FUNCTIONS / function / "handler.py").read_text()
    found = set(re.findall(r'add_metric\(\s*f?"([^"]+)"', source))
    spelled = {f"Runs{outcome}" for outcome in ("Succeeded", "Failed", "Cancelled")}
    return {one for one in found if "{" not in one} | (spelled if any("Runs{" in one for one in found) else set())


def test_every_queue_of_what_failed_has_an_alarm(template: Template) -> None:
    queues = template.all_of("AWS::SQS::Queue")
    polled = {
        flat(one["EventSourceArn"]).strip("<>").partition(".")[0]
        for one in template.all_of("AWS::Lambda::EventSourceMapping").values()
    }
    watched = {
        flat(dimension["Value"]).strip("<>").partition(".")[0]
        for alarm in template.all_of(ALARM).values()
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
        for dimension in alarm["Dimensions"]
    }
    assert watched == set(queues) - polled


def test_polled_queues_functions_and_the_stream_have_alarms(template: Template) -> None:
    alarms = template.all_of(ALARM).values()
    counted = {name: sum(alarm["MetricName"] == name for alarm in alarms) for name in _COUNTED}
    more = {"ApproximateAgeOfOldestMessage": 3} if template.stage == "test" else {}
    assert counted == _COUNTED | more


_COUNTED = {"ApproximateAgeOfOldestMessage": 2, "Errors": 6, "Throttles": 6, "IteratorAge": 1}


def test_what_is_watched_is_what_handlers_count(template: Template) -> None:
    ours = [alarm for alarm in template.all_of(ALARM).values() if alarm.get("Namespace") == f"Runfold/{template.stage}"]
    assert {alarm["MetricName"] for alarm in ours} >= {"AttemptsInDoubt", "StopsUnconfirmed", "Sweeps"}
    for alarm in ours:
        service = next(one["Value"] for one in alarm["Dimensions"] if one["Name"] == "service")
        assert alarm["MetricName"] in emitted(service.removeprefix("runfold-"))


def test_a_stage_is_watched_by_its_own_metrics(prod: Template) -> None:
    script = "from functions.telemetry import NAMESPACE; print(NAMESPACE)"
    variables = {name: flat(value) for name, value in prod.function("relay")["Environment"]["Variables"].items()}
    told = subprocess.run([sys.executable, "-c", script], env=variables, cwd=ROOT, capture_output=True, check=True)
    assert told.stdout.decode().strip() == "Runfold/prod"


def test_a_scheduler_that_has_gone_silent_is_an_alarm(prod: Template) -> None:
    (alarm,) = [one for one in prod.all_of(ALARM).values() if one["MetricName"] == "Sweeps"]
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["Threshold"] == 1
    assert alarm["EvaluationPeriods"] * alarm["Period"] == 300


def test_every_other_alarm_is_quiet_while_nothing_runs_and_says_what_to_do(prod: Template) -> None:
    for alarm in prod.all_of(ALARM).values():
        assert len(alarm["AlarmActions"]) == len(alarm["OKActions"]) == 1
        assert ":" in alarm["AlarmDescription"]
        if alarm["MetricName"] != "Sweeps":
            assert alarm["TreatMissingData"] == "notBreaching"


def test_one_dashboard_shows_metrics_that_handlers_count(prod: Template) -> None:
    (dashboard,) = prod.all_of("AWS::CloudWatch::Dashboard").values()
    body = flat(dashboard["DashboardBody"])
    shown = re.findall(r'"Runfold/prod","(\w+)","service","runfold-(\w+)"', body)
    assert shown
    assert all(metric in emitted(function) for metric, function in shown)


def test_alarms_are_mailed_where_configured(full: Template) -> None:
    (subscription,) = full.all_of("AWS::SNS::Subscription").values()
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "oncall@example.com")


def test_alarms_may_publish_to_their_topic(prod: Template) -> None:
    (policy,) = prod.all_of("AWS::SNS::TopicPolicy").values()
    (allowed,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed["Action"] == "sns:Publish"
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
