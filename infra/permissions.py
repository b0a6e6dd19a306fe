"""The one way in which a function is allowed something, so that every wildcard carries its reason into the template's audit.

cdk-nag reports each wildcard by itself; what is granted here without `why` therefore fails the synthesis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Aws, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import IConstruct

Conditions = Mapping[str, Mapping[str, Any]]


def arn(service: str, resource: str, *, region: str = Aws.REGION, account: str = Aws.ACCOUNT_ID) -> str:
    return f"arn:{Aws.PARTITION}:{service}:{region}:{account}:{resource}"


def allow(role: iam.IRole, *actions: str, on: Sequence[str], when: Conditions | None = None, why: str = "") -> None:
    """`on` are ARNs; `why` says why those that hold a `*` cannot be narrower."""
    role.add_to_principal_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(on), conditions=dict(when or {}))
    )
    for resource in on:
        if "*" in resource:
            assert why, f"{actions} on {resource} needs a reason"
            acknowledge(role, {f"AwsSolutions-IAM5[Resource::{_named(role, resource)}]": why})


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Findings of cdk-nag that are meant, each with its reason; `docs/security.md` has a line for every rule."""
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule, reason in reasons.items()))


def _named(scope: IConstruct, resource: str) -> str:
    """An ARN as cdk-nag writes it: references as `<Name>` and `<Name.Attribute>`."""
    return _flat(Stack.of(scope).resolve(resource))


def _flat(value: Any) -> str:
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(_flat(part) for part in parts)
    raise AssertionError(value)
