"""What telling people needs: dispatch plans notices and hands them over. Costs nothing while nobody is told."""

from aws_cdk import aws_iam as iam

from infra.configuration import Configuration
from infra.permissions import allow, arn


def allow_telling(role: iam.IRole, configuration: Configuration) -> None:
    """Mail from one identity, the topics that are named, and the secrets that webhooks are signed with; nothing where none is named."""
    sender = configuration.notices_sender
    if sender:
        # SES asks for the identity: the address itself where it was verified, its domain otherwise.
        identities = [arn("ses", f"identity/{sender}"), arn("ses", f"identity/{sender.rpartition('@')[2]}")]
        allow(role, "ses:SendEmail", on=identities, when={"StringEquals": {"ses:FromAddress": sender}})
    if configuration.notices_topics:
        allow(role, "sns:Publish", on=list(configuration.notices_topics))
    secrets = [one for one in configuration.notices_secrets if ":secretsmanager:" in one]
    if secrets:
        allow(role, "secretsmanager:GetSecretValue", on=secrets)
    parameters = [one for one in configuration.notices_secrets if ":ssm:" in one]
    if parameters:
        allow(role, "ssm:GetParameter", on=parameters)
