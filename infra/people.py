"""The Cognito user pool for teams that have no identity provider of their own. Administrators make the users; groups are roles."""

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from infra.configuration import Configuration
from infra.permissions import acknowledge

GROUPS = ("runfold:viewer", "runfold:operator", "runfold:author", "runfold:admin")
"""What the API reads as grants on everything; narrower ones (`runfold:operator:tag=sales`) are for administrators to add."""


class People(Construct):
    def __init__(self, scope: Construct, name: str, *, configuration: Configuration) -> None:
        super().__init__(scope, name)
        pool = cognito.UserPool(
            self,
            "Pool",
            user_pool_name=f"runfold-{configuration.stage}",
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            password_policy=cognito.PasswordPolicy(
                min_length=14,
                require_lowercase=True,
                require_uppercase=True,
                require_digits=True,
                require_symbols=True,
                temp_password_validity=Duration.days(3),
            ),
            mfa=cognito.Mfa.OPTIONAL,
            mfa_second_factor=cognito.MfaSecondFactor(sms=False, otp=True),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=configuration.keeps_data,
            removal_policy=RemovalPolicy.RETAIN if configuration.keeps_data else RemovalPolicy.DESTROY,
        )
        acknowledge(
            pool,
            {
                "AwsSolutions-COG2": "A second factor is each person's choice: programs that use the API sign in here, too.",
                "AwsSolutions-COG8": "The plan with threat protection is priced per user; teams that need it bring their own issuer.",
            },
        )
        for group in GROUPS:
            name = group.rpartition(":")[2].capitalize()
            cognito.CfnUserPoolGroup(self, name, user_pool_id=pool.user_pool_id, group_name=group)
        client = pool.add_client(
            "Client",
            # The second flow lets whoever has the permission in IAM get a token from the command line.
            auth_flows=cognito.AuthFlow(user_srp=True, admin_user_password=True),
            generate_secret=False,
            prevent_user_existence_errors=True,
            access_token_validity=Duration.hours(1),
            id_token_validity=Duration.hours(1),
            refresh_token_validity=Duration.days(1),
        )
        self.issuer = f"https://cognito-idp.{Aws.REGION}.{Aws.URL_SUFFIX}/{pool.user_pool_id}"
        self.audience = (client.user_pool_client_id,)
        self.pool_id = pool.user_pool_id
