"""`runfold doctor --stack`: a sound account, everything that may be missing in one, and an account that answers nothing.

The account is scripted beneath boto3: what is asked and answered is held to AWS's own models of its calls, and nothing is sent.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple

import pytest
from botocore.validate import ParamValidator

from cli.commands.account import FUNCTIONS, look_at_account
from cli.commands.keeping import Finding
from shared.bootstrap.account import SECONDS_MAX, Account, Unanswered
from shared.errors import NotFound
from shared.settings import Settings
from shared.workflow.reading import read
from tests.cli.calling import Runfold, ssm

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STACK = "Runfold-test"
HOST = "mi-0123456789abcdef0"
ECR_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/load:7"
SETTINGS = Settings(
    stage="test",
    events_table="runfold-test-events",
    views_table="runfold-test-views",
    documents_bucket="documents",
    artifacts_bucket="artifacts",
    effects_queue_url="https://sqs.example/1/runfold-test-effects",
    cluster="jobs",
    subnets="subnet-0a1",
    security_groups="sg-0a1",
    execution_role_arn="arn:aws:iam::123456789012:role/runfold/test/execution",
    hosts=json.dumps({"warehouse": {"instance": HOST}}),
    schedule_group="runfold-test",
)
QUEUES = ("effects", "effects-dead", "reports", "reports-dead", "undelivered", "parked")


class Refusal(NamedTuple):
    """What AWS answers instead."""

    code: str
    message: str = "no"
    status: int = 400


Answer = dict[str, Any] | Refusal | Callable[[dict[str, Any]], dict[str, Any] | Refusal]


def container(name: str = "load", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs", "image": ECR_IMAGE, "assign_public_ip": True, **fields}


def functions(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "FunctionName": params["FunctionName"],
        "State": "Active",
        "Role": "arn:aws:iam::123456789012:role/dispatch",
        "Environment": {"Variables": SETTINGS.environment()},
    }


def decided(decision: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda params: {
        "EvaluationResults": [
            {
                "EvalActionName": params["ActionNames"][0],
                "EvalResourceName": params["ResourceArns"][0],
                "EvalDecision": decision,
            }
        ]
    }


def quota(**values: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """By service; what is not named here is plenty, but for the vCPUs of new accounts."""
    return lambda params: {"Quota": {"Value": {"fargate": 6.0, **values}.get(params["ServiceCode"], 40_000.0)}}


def quotas(params: dict[str, Any]) -> dict[str, Any]:
    names = {"scheduler": "Number of schedules", "ssm": "Concurrently executing commands"}
    return {"Quotas": [{"QuotaName": names[params["ServiceCode"]], "QuotaCode": "L-0", "Value": 1_000_000.0}]}


def sound() -> dict[str, Answer]:
    """Every answer of an account in which nothing is missing, by call."""
    resources = [("AWS::Lambda::Function", f"runfold-test-{name}") for name in FUNCTIONS] + [
        ("AWS::SQS::Queue", f"https://sqs.example/1/runfold-test-{name}") for name in QUEUES
    ]
    resources.append(("AWS::SNS::Topic", "arn:aws:sns:eu-central-1:123456789012:runfold-test-alarms"))
    return {
        "GetCallerIdentity": {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/ada"},
        "DescribeStacks": {"Stacks": [{"StackName": STACK, "CreationTime": NOW, "StackStatus": "UPDATE_COMPLETE"}]},
        "ListStackResources": {
            "StackResourceSummaries": [
                {
                    "LogicalResourceId": f"One{place}",
                    "PhysicalResourceId": name,
                    "ResourceType": kind,
                    "ResourceStatus": "CREATE_COMPLETE",
                    "LastUpdatedTimestamp": NOW,
                }
                for place, (kind, name) in enumerate(resources)
            ]
        },
        "GetTemplate": {
            "TemplateBody": json.dumps(
                {
                    "Parameters": {"BootstrapVersion": {"Default": "/cdk-bootstrap/hnb659fds/version"}},
                    "Rules": {"CheckBootstrapVersion": {"Assert": [{"Fn::Contains": [["1", "2", "3", "4", "5"]]}]}},
                    "Resources": {"Policy": {"StringEquals": {"ssm:resourceTag/runfold": "test"}}},
                }
            )
        },
        "GetParameter": {"Parameter": {"Value": "21"}},
        "GetFunctionConfiguration": functions,
        "ListEventSourceMappings": {
            "EventSourceMappings": [{"State": "Enabled", "ScalingConfig": {"MaximumConcurrency": 5}}]
        },
        "GetAccountSettings": {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}},
        "GetRole": lambda params: {
            "Role": {
                "Path": "/",
                "RoleName": params["RoleName"],
                "RoleId": "AROA0123456789ABCDEF",
                "Arn": "arn:aws:iam::123456789012:role/any",
                "CreateDate": NOW,
            }
        },
        "SimulatePrincipalPolicy": decided("allowed"),
        "GetServiceQuota": quota(),
        "ListServiceQuotas": quotas,
        "ListTables": {"TableNames": ["runfold-test-events", "runfold-test-views"]},
        "ListSchedules": {"Schedules": []},
        "DescribeClusters": {
            "clusters": [
                {
                    "clusterName": "jobs",
                    "clusterArn": "arn:aws:ecs:eu-central-1:123456789012:cluster/jobs",
                    "status": "ACTIVE",
                    "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
                }
            ]
        },
        "DescribeSubnets": {"Subnets": [{"SubnetId": "subnet-0a1"}]},
        "DescribeSecurityGroups": {"SecurityGroups": [{"GroupId": "sg-0a1"}]},
        "DescribeRouteTables": {
            "RouteTables": [{"Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-0a1"}]}]
        },
        "DescribeInstanceInformation": {
            "InstanceInformationList": [{"InstanceId": HOST, "PingStatus": "Online", "LastPingDateTime": NOW}]
        },
        "DescribeImages": {"imageDetails": [{"imageTags": ["7"]}]},
        "GetQueueAttributes": {"Attributes": {"ApproximateNumberOfMessages": "0"}},
        "DescribeAlarms": {"MetricAlarms": [{"AlarmName": "runfold-test-doubt", "StateValue": "OK"}]},
        "ListSubscriptionsByTopic": {"Subscriptions": [{"SubscriptionArn": "arn:aws:sns:eu-central-1:1:t:1"}]},
        "GetMetricStatistics": {"Datapoints": [{"Timestamp": NOW - timedelta(seconds=90), "Sum": 1.0}]},
        "GetBucketNotificationConfiguration": {"EventBridgeConfiguration": {}},
        "DescribeContinuousBackups": {
            "ContinuousBackupsDescription": {
                "ContinuousBackupsStatus": "ENABLED",
                "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"},
            }
        },
    }


class _Http(NamedTuple):
    status_code: int


def _remember(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["asked_with"] = params


def _answer(model: Any, context: dict[str, Any], **_: Any) -> tuple[_Http, dict[str, Any]]:
    return Scripted._asked_now.answer(model, context["asked_with"])


class Scripted(Account):
    """The real adapter, its calls answered by a script. A call that the script does not know is an error of the test."""

    _asked_now: "Scripted"
    _kept: ClassVar[dict[tuple[str, str], Any]] = {}
    """Clients take a tenth of a second to make, so all tests share them; whoever asks last is who is answered."""

    def __init__(
        self, answers: dict[str, Answer], *jobs: dict[str, Any], schedule: Any = None, **settings: Any
    ) -> None:
        super().__init__(region="eu-central-1", **settings)
        self.answers = answers
        self.asked: list[str] = []
        self._jobs = jobs
        self._schedule = schedule
        self._clients = self._kept
        self._session._session.set_credentials("testing", "testing")
        # Typed as if their answers were not used; botocore sends nothing where one of them answers.
        hooks: Any = self._session.events
        hooks.register("provide-client-params.*.*", _remember)
        hooks.register("before-call.*.*", _answer)
        Scripted._asked_now = self

    def answer(self, model: Any, params: dict[str, Any]) -> tuple[_Http, dict[str, Any]]:
        self.asked.append(model.name)
        answer = self.answers[model.name]
        if callable(answer):
            answer = answer(params)
        if isinstance(answer, Refusal):
            return _Http(answer.status), {"Error": {"Code": answer.code, "Message": answer.message}}
        # The template is text on the wire, which boto3 hands over as what it says.
        if model.name != "GetTemplate":
            report = ParamValidator().validate(answer, model.output_shape)
            assert not report.has_errors(), (model.name, report.generate_report())
        return _Http(200), {"ResponseMetadata": {}, **answer}

    def live_documents(self, settings: Settings) -> Any:
        assert settings == SETTINGS
        if self._jobs:
            timed = {"schedule": self._schedule} if self._schedule else {}
            yield "demo", read(json.dumps({"name": "demo", "jobs": list(self._jobs), **timed}).encode())


def findings(changed: dict[str, Answer], *jobs: dict[str, Any]) -> list[Finding]:
    return list(look_at_account(Scripted({**sound(), **changed}, *(jobs or (container(),))), STACK, now=NOW))


def wrong(changed: dict[str, Answer], *jobs: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.what, one.message) for one in findings(changed, *jobs) if one.level == "bad"]


def noted(changed: dict[str, Answer], *jobs: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.what, one.message) for one in findings(changed, *jobs) if one.level == "note"]


def test_nothing_is_wrong_with_a_sound_account_and_every_check_says_what_it_saw() -> None:
    found = findings(
        {}, container(), container("large", cpu=2048, memory=4096, spot=True), ssm("script", "true", host="warehouse")
    )
    assert [one for one in found if one.level != "good"] == []
    assert [one.what for one in found] == [
        *("account", "stack", "bootstrap", "workflows", "functions", "concurrency"),
        *("service roles", "service roles", "service roles", "job roles", "permissions", "quotas", "quotas"),
        *("quotas", "quotas", "quotas", "schedules", "quotas"),
        *("cluster", "network", "hosts", "images", "dead letters", "alarms", "sweep", "uploads", "backups"),
    ]
    assert found[1].message == "UPDATE_COMPLETE, 13 resources"
    assert "Fargate Spot: 6 vCPU at once; the largest job wants 2" in [one.message for one in found]


def test_an_account_that_cannot_be_entered_ends_it_with_one_finding() -> None:
    (only,) = findings({"GetCallerIdentity": Refusal("ExpiredToken")})
    assert (only.what, only.level) == ("account", "bad")
    assert "sign in again" in only.message


def test_a_stack_that_is_not_there_says_how_to_make_one_and_ends_it() -> None:
    refusal = Refusal("ValidationError", f"Stack with id {STACK} does not exist")
    *_, last = findings({"DescribeStacks": refusal})
    assert (last.what, last.level) == ("stack", "bad")
    assert "docs/deploy.md" in last.message
    assert "--region" in last.message


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("CREATE_COMPLETE", "good"),
        ("UPDATE_IN_PROGRESS", "note"),
        ("UPDATE_ROLLBACK_COMPLETE", "note"),
        ("ROLLBACK_COMPLETE", "bad"),
        ("UPDATE_ROLLBACK_FAILED", "bad"),
    ],
)
def test_what_the_last_deployment_came_to_is_told(status: str, level: str) -> None:
    stack = {"StackName": STACK, "CreationTime": NOW, "StackStatus": status, "StackStatusReason": "a reason"}
    found = findings({"DescribeStacks": {"Stacks": [stack]}})
    assert found[1].level == level
    assert status in found[1].message


def test_an_incomplete_stack_names_what_failed_and_what_is_not_there() -> None:
    resources = [
        {
            "LogicalResourceId": "Broken",
            "PhysicalResourceId": "runfold-test-dispatch",
            "ResourceType": "AWS::Lambda::Function",
            "ResourceStatus": "UPDATE_FAILED",
            "LastUpdatedTimestamp": NOW,
        }
    ]
    texts = dict(wrong({"ListStackResources": {"StackResourceSummaries": resources}}))
    assert "Broken failed" in texts["stack"]
    assert texts["functions"].startswith("api, register, relay, scheduler, status not in the stack")


def spark(name: str = "spark", **where: Any) -> dict[str, Any]:
    steps = [{"Name": "one", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", "s3://b/a.py"]}}]
    application = "arn:aws:emr-serverless:eu-central-1:123456789012:/applications/00f1abc"
    return {"name": name, "type": "emr", "steps": steps, **(where or {"cluster_id": application})}


MISSING: list[tuple[str, dict[str, Answer], list[dict[str, Any]], str]] = [
    ("bootstrap", {"GetParameter": {"Parameter": {"Value": "5"}}}, [], "version 5, and 6 is needed"),
    ("bootstrap", {"GetParameter": Refusal("ParameterNotFound")}, [], "is not there"),
    (
        "functions",
        {"ListEventSourceMappings": {"EventSourceMappings": [{"State": "Disabled"}]}},
        [],
        "the events table's stream for runfold-test-relay is Disabled",
    ),
    (
        "concurrency",
        {"GetAccountSettings": {"AccountLimit": {"UnreservedConcurrentExecutions": 9}}},
        [],
        "10 of them for the queues",
    ),
    ("service roles", {"GetRole": Refusal("NoSuchEntity")}, [], "create-service-linked-role --aws-service-name ecs"),
    ("job roles", {"GetRole": Refusal("NoSuchEntity")}, [], "there is no role arn:aws:iam::123456789012:role/runfold"),
    ("quotas", {}, [container(cpu=8192, memory=16384)], "Fargate: 6 vCPU at once, and one job wants 8"),
    (
        "permissions",
        {"SimulatePrincipalPolicy": decided("implicitDeny")},
        [],
        "may not hand arn:aws:iam::123456789012:role/runfold/test/execution over to ecs-tasks.amazonaws.com",
    ),
    ("quotas", {"GetServiceQuota": quota(**{"emr-serverless": 0})}, [spark()], "EMR Serverless: 0 vCPU at once"),
    ("cluster", {"DescribeClusters": {"clusters": []}}, [], "jobs is not there or not active"),
    (
        "cluster",
        {
            "DescribeClusters": {
                "clusters": [{"clusterName": "jobs", "clusterArn": "arn", "status": "ACTIVE", "capacityProviders": []}]
            }
        },
        [container(spot=True)],
        "no FARGATE_SPOT, and load want it",
    ),
    ("network", {"DescribeSubnets": Refusal("InvalidSubnetID.NotFound")}, [], "there is no subnet subnet-0a1"),
    ("network", {"DescribeSecurityGroups": Refusal("InvalidGroup.NotFound")}, [], "set `security_groups` anew"),
    ("network", {}, [container(assign_public_ip=False)], "set `assign_public_ip`"),
    (
        "hosts",
        {"DescribeInstanceInformation": {"InstanceInformationList": []}},
        [],
        f"{HOST} (warehouse) is not among the managed hosts with the tag runfold=test",
    ),
    (
        "hosts",
        {
            "DescribeInstanceInformation": {
                "InstanceInformationList": [
                    {"InstanceId": HOST, "PingStatus": "ConnectionLost", "LastPingDateTime": NOW}
                ]
            }
        },
        [],
        "amazon-ssm-agent",
    ),
    ("hosts", {}, [ssm("script", "true", host="warehose")], "warehose, which the deployment does not know"),
    ("images", {"DescribeImages": Refusal("ImageNotFoundException")}, [], f"{ECR_IMAGE} is not there (demo load)"),
    (
        "dead letters",
        {"GetQueueAttributes": {"Attributes": {"ApproximateNumberOfMessages": "3"}}},
        [],
        "3 in runfold-test-effects-dead",
    ),
    (
        "alarms",
        {
            "DescribeAlarms": {
                "MetricAlarms": [
                    {"AlarmName": "runfold-test-doubt", "StateValue": "ALARM", "AlarmDescription": "look at it"}
                ]
            }
        },
        [],
        "runfold-test-doubt: look at it",
    ),
    ("sweep", {"GetMetricStatistics": {"Datapoints": []}}, [], "none in 3 hours"),
    (
        "sweep",
        {"GetMetricStatistics": {"Datapoints": [{"Timestamp": NOW - timedelta(minutes=9), "Sum": 1.0}]}},
        [],
        "the last was 540 s ago",
    ),
    ("uploads", {"GetBucketNotificationConfiguration": {}}, [], "tells EventBridge of nothing"),
    (
        "backups",
        {"DescribeContinuousBackups": {"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "DISABLED"}}},
        [],
        "cannot be restored",
    ),
]


@pytest.mark.parametrize(("what", "changed", "jobs", "text"), MISSING, ids=[f"{one[0]}: {one[3]}" for one in MISSING])
def test_what_is_missing_is_found_and_says_what_to_do(
    what: str, changed: dict[str, Answer], jobs: list[dict[str, Any]], text: str
) -> None:
    told = wrong(changed, *jobs)
    assert any(found == what and text in message for found, message in told), told


def test_a_public_address_is_asked_for_only_where_the_way_out_needs_one() -> None:
    nat = {"RouteTables": [{"Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1"}]}]}
    assert wrong({"DescribeRouteTables": nat}, container(assign_public_ip=False)) == []


def test_a_quota_that_nobody_changed_is_aws_s_default() -> None:
    changed: dict[str, Answer] = {
        "GetServiceQuota": Refusal("NoSuchResourceException"),
        "GetAWSDefaultServiceQuota": {"Quota": {"Value": 1.0}},
    }
    assert "Fargate: 1 vCPU at once, and one job wants 2" in wrong(changed, container(cpu=2048, memory=4096))[0][1]


def test_quotas_that_only_slow_work_down_are_worth_knowing() -> None:
    clusters = [spark(f"own{number}", cluster={"ReleaseLabel": "emr-7.5.0"}) for number in range(2)]
    told = dict(enumerate(text for _, text in noted({"GetServiceQuota": quota(elasticmapreduce=1)}, *clusters)))
    assert any(text.startswith("EMR: 1 clusters at once; 2 jobs start one of their own: ") for text in told.values())
    told = dict(enumerate(text for _, text in noted({"GetServiceQuota": quota(dynamodb=3)})))
    assert any("2 of 3 tables; a restore needs 3 more" in text for text in told.values())
    assert any("3 write units a second for a table; under load" in text for text in told.values())


def test_workflows_without_their_schedule_are_worth_knowing_and_can_be_mended() -> None:
    account = Scripted(sound(), container(), schedule={"cron": "0 2 * * *"})
    (text,) = [one.message for one in look_at_account(account, STACK, now=NOW) if one.what == "schedules"]
    assert text.startswith("0 ring for 1 workflows with a schedule")
    assert "runfold rebuild --stack Runfold-test" in text


def test_images_in_other_registries_are_not_called_sound() -> None:
    told = noted({}, container(image="public.ecr.aws/docker/library/busybox:stable"))
    assert told == [
        (
            "images",
            "public.ecr.aws/docker/library/busybox:stable: in other registries, or chosen by a template, and not looked at",
        )
    ]


def test_alarms_that_nobody_hears_are_worth_knowing() -> None:
    assert "nobody is subscribed" in noted({"ListSubscriptionsByTopic": {"Subscriptions": []}})[0][1]


@pytest.mark.parametrize("call", sorted(set(sound()) - {"GetCallerIdentity", "DescribeStacks", "ListStackResources"}))
def test_a_permission_that_is_missing_is_a_finding_and_the_other_checks_go_on(call: str) -> None:
    found = findings({call: Refusal("AccessDeniedException", status=403)}, container(assign_public_ip=False))
    assert any(one.level == "note" and "you may not " in one.message for one in found), found
    assert found[-1].what in ("backups", "settings")
    assert all("you may not" not in one.message for one in found if one.level != "note")


def test_the_action_to_allow_is_named_as_iam_names_it() -> None:
    account = Scripted({"GetServiceQuota": Refusal("AccessDeniedException")})
    with pytest.raises(Unanswered, match="servicequotas:GetServiceQuota"):
        account.ask("service-quotas", "get_service_quota", ServiceCode="fargate", QuotaCode="L-1")
    account = Scripted({"GetBucketNotificationConfiguration": Refusal("AccessDenied")})
    with pytest.raises(Unanswered, match="s3:GetBucketNotification:"):
        account.ask("s3", "get_bucket_notification_configuration", Bucket="documents")


def test_all_questions_together_have_an_end() -> None:
    passed = [0.0]
    account = Scripted(sound(), container(), clock=lambda: passed[0])

    def slow(_params: dict[str, Any]) -> dict[str, Any]:
        passed[0] += SECONDS_MAX + 1
        return {"AccountLimit": {"UnreservedConcurrentExecutions": 1000}}

    account.answers["GetAccountSettings"] = slow
    found = list(look_at_account(account, STACK, now=NOW))
    assert found[-1] == Finding(
        "backups",
        "note",
        "not looked at: the 90 s for all questions were over before dynamodb:DescribeContinuousBackups",
    )
    assert account.asked[-1] == "GetAccountSettings"


@pytest.mark.usefixtures("_nowhere")
def test_a_service_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    account = Account(region="eu-central-1")
    with pytest.raises(Unanswered, match="sns:ListTopics: no answer"):
        account.ask("sns", "list_topics")
    with pytest.raises(Unanswered, match="sns:ListSubscriptions is not asked, because sns did not answer before"):
        account.ask("sns", "list_subscriptions")


def test_a_deployment_s_settings_are_those_that_its_functions_are_told() -> None:
    assert Scripted(sound()).settings(STACK) == SETTINGS
    with pytest.raises(NotFound, match="none of ours"):
        Scripted({**sound(), "ListStackResources": {"StackResourceSummaries": []}}).settings(STACK)
    with pytest.raises(Unanswered, match="does not exist"):
        Scripted({**sound(), "ListStackResources": Refusal("ValidationError", "it does not exist")}).settings(STACK)


def test_nothing_but_reading_is_ever_asked_for() -> None:
    account = Scripted(sound(), container())
    list(look_at_account(account, STACK, now=NOW))
    assert all(name.startswith(("Get", "List", "Describe", "Simulate")) for name in account.asked)


# --- at the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, and a network on which nothing answers."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")


@pytest.mark.usefixtures("_nowhere")
def test_without_credentials_the_command_says_so_and_fails(runfold: Runfold) -> None:
    answer = runfold("doctor", "--stack", STACK, "--region", "eu-central-1", "--json")
    assert answer.code == 1
    assert answer.json == [
        {
            "what": "account",
            "level": "bad",
            "message": "there are no credentials: set AWS_PROFILE, or name a profile with --profile",
        }
    ]


@pytest.mark.usefixtures("_nowhere")
def test_an_account_that_does_not_answer_is_told_in_words(runfold: Runfold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    answer = runfold("doctor", "--stack", STACK, "--region", "eu-central-1")
    assert answer.code == 1
    assert "sts:GetCallerIdentity: no answer" in " ".join(answer.out.split())


@pytest.mark.usefixtures("_nowhere")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--region", "eu-central-1"], "name it with --stack"),
        (["--stack", STACK], "no region is known"),
        (["--stack", STACK, "--profile", "nobody"], "nobody"),
    ],
)
def test_wrong_use_is_told_before_anything_is_asked(runfold: Runfold, words: list[str], text: str) -> None:
    for command in ("doctor", "verify", "rebuild"):
        answer = runfold(command, *words)
        assert answer.code == 2
        assert text in answer.err
