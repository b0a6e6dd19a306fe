"""Templates are synthesized in a process of their own, once for the same sources, so collecting these tests imports no CDK."""

from collections.abc import Mapping

import pytest

from tests.infra.template import Template

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "prod": {"stage": "prod"},
    "dev": {"stage": "dev"},
    "host": {"stage": "dev", "platform": "host"},
    # Everything that can be switched on.
    "full": {
        "stage": "test",
        "demo": True,
        "api_access": "jwt,iam",
        "cors_origins": "https://a.example",
        "iam_grants": {"arn:aws:sts::*:assumed-role/oncall/*": "operator:tag=sales viewer"},
        "grants_claim": "rights",
        "alarm_email": "oncall@example.com",
        "effects_window_seconds": 1,
        "reports_window_seconds": 1,
        "running_events": "all",
        "input_buckets": "lake",
        "log_buckets": "emr-output",
        "awaited_buckets": "landing,lake",
        "ec2_capacity_provider": "hosts",
        "ec2_spot_capacity_provider": "spot-hosts",
        "passed_roles": "arn:aws:iam::123456789012:role/EMR_DefaultRole",
        "emr_serverless_applications": "00f1abc",
        "oidc_issuer": "https://id.example/realms/data",
        "oidc_audience": "runfold",
        "trigger_buckets": "landing",
        "trigger_queue": True,
        "notices_sender": "runfold@example.com",
        "notices_topics": "arn:aws:sns:eu-central-1:123456789012:nights",
        "notices_secrets": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:runfold/notices-AbCdEf",
        "notices_private": True,
        "notices_address": "https://runfold.example",
        "webhook_secrets": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:runfold/hooks-*,"
        "arn:aws:ssm:eu-central-1:123456789012:parameter/runfold/hook",
        "emr_service_role": "arn:aws:iam::123456789012:role/runfold/test/emr",
        "emr_instance_profile": "runfold-emr",
        "emr_serverless_role_arn": "arn:aws:iam::123456789012:role/runfold/test/spark",
        "files_image": "registry.example/aws-cli:2",
        "restored_from": "2026-11-01T00:00:00Z",
        "hosts": {"warehouse": {"instance": "i-0123456789abcdef0"}},
        "tags": {"team": "data"},
    },
}


@pytest.fixture(scope="session")
def templates() -> dict[str, Template]:
    from infra.assembly import assemblies

    return {name: Template(folder, str(VARIANTS[name]["stage"])) for name, folder in assemblies(VARIANTS).items()}


@pytest.fixture(scope="session")
def prod(templates: dict[str, Template]) -> Template:
    return templates["prod"]


@pytest.fixture(scope="session")
def full(templates: dict[str, Template]) -> Template:
    return templates["full"]


@pytest.fixture(scope="session", params=sorted(VARIANTS))
def template(request: pytest.FixtureRequest, templates: dict[str, Template]) -> Template:
    return templates[request.param]
