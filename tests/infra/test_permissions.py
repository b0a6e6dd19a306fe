"""What the functions may do: the least that their calls need, and nothing about data that jobs work on."""

from tests.infra.template import Statement, Template, texts

NOTHING_NARROWER = {
    "dynamodb:ListStreams",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTasks",
    "ecs:RegisterTaskDefinition",
    "elasticmapreduce:ListClusters",
    "elasticmapreduce:RunJobFlow",
    "ssm:CancelCommand",
    "ssm:DescribeInstanceInformation",
    "ssm:GetCommandInvocation",
    "ssm:ListCommandInvocations",
    "ssm:ListCommands",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}
"""Actions for which AWS's service authorization reference names no resource, or (ListTasks) only a condition helps."""


def of(template: Template, role: str, action: str) -> list[Statement]:
    return [one for one in template.statements(role) if action in one.actions]


def test_no_action_is_a_wildcard(template: Template) -> None:
    for statement in template.statements():
        assert statement.effect == "Allow"
        assert not any("*" in action for action in statement.actions), statement


def test_a_permission_on_everything_is_one_that_aws_cannot_narrow(template: Template) -> None:
    for statement in template.statements():
        if "*" in statement.resources:
            assert set(statement.actions) <= NOTHING_NARROWER, statement


def test_no_function_uses_a_managed_policy_or_shares_its_role(prod: Template) -> None:
    roles = [str(one["Role"]) for one in prod.functions().values()]
    assert len(set(roles)) == len(roles)
    assert not any("ManagedPolicyArns" in one for one in prod.all_of("AWS::IAM::Role").values())


def test_roles_are_passed_only_from_the_configured_path_and_only_to_the_services_that_run_jobs(prod: Template) -> None:
    """Fault 57."""
    (statement,) = of(prod, "dispatch", "iam:PassRole")
    assert statement.resources == ("arn:<AWS::Partition>:iam::<AWS::AccountId>:role/runfold/prod/*",)
    assert set(statement.conditions["StringEquals"]["iam:PassedToService"]) == {
        "ecs-tasks.amazonaws.com",
        "elasticmapreduce.amazonaws.com",
        "ec2.amazonaws.com",
        "emr-serverless.amazonaws.com",
    }


def test_single_roles_elsewhere_are_passed_when_configured(full: Template) -> None:
    (statement,) = of(full, "dispatch", "iam:PassRole")
    assert "arn:aws:iam::123456789012:role/EMR_DefaultRole" in statement.resources


def test_nobody_else_passes_a_role_but_the_one_that_schedules_ring_with(prod: Template) -> None:
    ring = prod.named("AWS::IAM::Role", "Schedules")
    for name in prod.functions():
        for statement in of(prod, name, "iam:PassRole"):
            if name != "dispatch":
                assert statement.resources == (f"<{ring}.Arn>",)
                assert statement.conditions == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}
    assert {name for name in prod.functions() if of(prod, name, "iam:PassRole")} == {"dispatch", "relay", "scheduler"}


def test_no_role_of_the_control_plane_lies_under_the_path_of_jobs(prod: Template) -> None:
    assert not any("Path" in one for one in prod.all_of("AWS::IAM::Role").values())


def test_tasks_run_only_from_definitions_of_ours_and_only_on_named_clusters(full: Template) -> None:
    (statement,) = of(full, "dispatch", "ecs:RunTask")
    assert statement.resources == (
        "arn:<AWS::Partition>:ecs:<AWS::Region>:<AWS::AccountId>:task-definition/runfold-*:*",
    )
    (cluster,) = statement.conditions["ArnLike"]["ecs:cluster"]
    assert "".join(texts(cluster)).endswith(":cluster/runfold-test-demo")


def test_only_clusters_that_were_started_for_a_job_are_terminated(prod: Template) -> None:
    (statement,) = of(prod, "dispatch", "elasticmapreduce:TerminateJobFlows")
    assert statement.actions == ("elasticmapreduce:TerminateJobFlows",)
    assert statement.conditions == {"StringLike": {"elasticmapreduce:ResourceTag/runfold:run": "*"}}


def test_commands_go_only_to_hosts_that_carry_the_stage_as_a_tag_and_only_through_one_document(prod: Template) -> None:
    artifacts = prod.named("AWS::S3::Bucket", "Artifacts")
    for name in ("dispatch", "status"):
        for statement in of(prod, name, "ssm:SendCommand"):
            if statement.conditions:
                assert statement.conditions == {"StringEquals": {"ssm:resourceTag/runfold": "prod"}}
            else:
                assert set(statement.resources) == {
                    "arn:<AWS::Partition>:ssm:<AWS::Region>::document/AWS-RunShellScript",
                    f"<{artifacts}.Arn>",
                }


def test_only_dispatch_starts_and_stops_work(prod: Template) -> None:
    starting = {"ecs:RunTask", "ecs:StopTask", "elasticmapreduce:RunJobFlow", "elasticmapreduce:TerminateJobFlows"}
    assert {name for name in prod.functions() if prod.actions(name) & starting} == {"dispatch"}


def test_only_the_api_reads_what_emr_copied_and_only_from_the_named_buckets(full: Template, prod: Template) -> None:
    readers = {
        (name, action, resource)
        for name in full.functions()
        for statement in full.statements(name)
        for action in statement.actions
        for resource in statement.resources
        if "emr-output" in resource
    }
    bucket = "arn:<AWS::Partition>:s3:::emr-output"
    assert readers == {("api", "s3:ListBucket", bucket), ("api", "s3:GetObject", f"{bucket}/*")}
    assert {"elasticmapreduce:DescribeCluster", "emr-serverless:GetApplication"} <= set(full.actions("api"))
    assert not any(action.startswith(("elasticmapreduce:", "emr-serverless:")) for action in prod.actions("api"))


def test_no_function_reads_secrets_but_the_api_those_of_webhooks_and_dispatch_those_that_sign_notices(
    template: Template,
) -> None:
    reading = {
        (name, action, resource)
        for name in template.functions()
        for statement in template.statements(name)
        for action in statement.actions
        for resource in statement.resources
        if action.startswith(("secretsmanager:", "kms:", "ssm:GetParameter"))
    }
    named = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:runfold/hooks-*"
    parameter = "arn:aws:ssm:eu-central-1:123456789012:parameter/runfold/hook"
    signing = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:runfold/notices-AbCdEf"
    allowed = {
        ("api", "secretsmanager:GetSecretValue", named),
        ("api", "ssm:GetParameter", parameter),
        ("dispatch", "secretsmanager:GetSecretValue", signing),
    }
    assert reading == (allowed if template.stage == "test" else set())


def test_only_who_registers_writes_documents_and_nobody_writes_uploads(prod: Template) -> None:
    bucket = prod.named("AWS::S3::Bucket", "Documents")
    writers = {
        name: {one for statement in of(prod, name, "s3:PutObject") for one in statement.resources if bucket in one}
        for name in prod.functions()
    }
    assert {name for name, resources in writers.items() if resources} == {"register", "api"}
    assert {one for resources in writers.values() for one in resources} == {f"<{bucket}.Arn>/documents/*"}
    assert not any("s3:DeleteObject" in prod.actions(name) for name in prod.functions())


def test_buckets_are_private_versioned_encrypted_and_refuse_plain_http(template: Template) -> None:
    buckets = template.all_of("AWS::S3::Bucket")
    for bucket in buckets.values():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        assert bucket["BucketEncryption"]
    refused = {
        str(policy["Bucket"])
        for policy in template.all_of("AWS::S3::BucketPolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and statement["Condition"].get("Bool") == {"aws:SecureTransport": "false"}
    }
    assert len(refused) == len(buckets)


def test_the_role_that_rings_serves_only_our_group_and_calls_only_the_scheduler(prod: Template) -> None:
    name = prod.named("AWS::IAM::Role", "Schedules")
    (trust,) = prod.all_of("AWS::IAM::Role")[name]["AssumeRolePolicyDocument"]["Statement"]
    arn = "".join(texts(trust["Condition"]["StringEquals"]["aws:SourceArn"]))
    assert arn.endswith(":schedule-group/runfold-prod")
    assert trust["Condition"]["StringEquals"]["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}
    invoked = [one for one in prod.statements() if one.role == name and "lambda:InvokeFunction" in one.actions]
    assert [one.resources for one in invoked] == [
        ("arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:function:runfold-prod-scheduler",)
    ]


def test_roles_of_the_demo_lie_under_the_path_of_jobs_and_keep_only_artifacts(full: Template) -> None:
    roles = {name: one for name, one in full.all_of("AWS::IAM::Role").items() if one.get("Path")}
    assert {one["Path"] for one in roles.values()} == {"/runfold/test/"}
    allowed = {one for statement in full.statements() if statement.role in roles for one in statement.actions}
    assert allowed == {"logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}
