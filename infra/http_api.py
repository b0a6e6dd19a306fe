"""An HTTP API in front of the api function: who may call is checked here, what they may do by the function.

One API has one kind of access. Where both are wanted there are two APIs with the same routes; neither costs anything while unused.
"""

import json
from typing import Literal

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_apigatewayv2 as http
from aws_cdk import aws_apigatewayv2_authorizers as authorizers
from aws_cdk import aws_apigatewayv2_integrations as integrations
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.configuration import Configuration
from infra.permissions import acknowledge, arn
from infra.service_function import ServiceFunction, retention

METHODS = [
    http.HttpMethod.GET,
    http.HttpMethod.HEAD,
    http.HttpMethod.POST,
    http.HttpMethod.PUT,
    http.HttpMethod.DELETE,
]
OPEN = (
    (http.HttpMethod.GET, "/v1/health", "it tells nothing of workflows or runs"),
    (http.HttpMethod.GET, "/v1/openapi.json", "the API's description is for everybody"),
    (
        http.HttpMethod.POST,
        "/v1/webhooks/{workflow}/{trigger}",
        "what is sent bears a signature, which the function checks",
    ),
)
"""What is answered without asking who calls, and why; a test holds the list to the API's own."""
BURST_TIMES_RATE = 2
_LOGGED = (
    "requestId",
    "requestTime",
    "httpMethod",
    "routeKey",
    "path",
    "status",
    "responseLength",
    "responseLatency",
    "integrationErrorMessage",
    "identity.sourceIp",
    "identity.userAgent",
    "authorizer.claims.sub",
    "identity.caller",
    "error.message",
)


class HttpApi(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        access: Literal["jwt", "iam"],
        api: ServiceFunction,
        configuration: Configuration,
        issuer: str = "",
        audience: tuple[str, ...] = (),
    ) -> None:
        super().__init__(scope, name)
        authorizer: http.IHttpRouteAuthorizer = (
            authorizers.HttpJwtAuthorizer("Jwt", issuer, jwt_audience=list(audience))
            if access == "jwt"
            else authorizers.HttpIamAuthorizer()
        )
        self.api = http.HttpApi(
            self,
            "Api",
            api_name=f"runfold-{configuration.stage}-{access}",
            create_default_stage=False,
            cors_preflight=_cors(configuration) if configuration.cors_origins else None,
        )
        integration = integrations.HttpLambdaIntegration("Function", api.function)
        self.api.add_routes(path="/v1/{path+}", methods=METHODS, integration=integration, authorizer=authorizer)
        for method, path, why in OPEN:
            for route in self.api.add_routes(
                path=path, methods=[method], integration=integration, authorizer=http.HttpNoneAuthorizer()
            ):
                acknowledge(route, {"AwsSolutions-APIG4": f"Open to everybody: {why}."})
        # This prefix shares one permission among all groups; others use up the account's few resource policies of CloudWatch.
        log_group = logs.LogGroup(
            self,
            "AccessLog",
            log_group_name=f"/aws/vendedlogs/runfold-{configuration.stage}-{access}",
            retention=retention(configuration.log_retention_days),
            removal_policy=RemovalPolicy.RETAIN if configuration.keeps_data else RemovalPolicy.DESTROY,
        )
        http.CfnStage(
            self,
            "Stage",
            api_id=self.api.api_id,
            stage_name="$default",
            auto_deploy=True,
            access_log_settings=http.CfnStage.AccessLogSettingsProperty(
                # Not the group's own ARN, which ends with a star that the gateway does not take.
                destination_arn=arn("logs", f"log-group:{log_group.log_group_name}"),
                format=json.dumps({field: f"$context.{field}" for field in _LOGGED}),
            ),
            default_route_settings=http.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=configuration.api_requests_per_second,
                throttling_burst_limit=configuration.api_requests_per_second * BURST_TIMES_RATE,
                detailed_metrics_enabled=False,
            ),
        )
        self.url = self.api.api_endpoint


def _cors(configuration: Configuration) -> http.CorsPreflightOptions:
    # Answered by the gateway, before the authorizer would refuse a preflight request, which carries no token.
    return http.CorsPreflightOptions(
        allow_origins=list(configuration.cors_origins),
        allow_headers=["authorization", "content-type", "idempotency-key", "if-none-match"],
        allow_methods=[http.CorsHttpMethod.GET, http.CorsHttpMethod.POST, http.CorsHttpMethod.DELETE],
        expose_headers=["etag", "location", "retry-after", "x-request-id"],
        max_age=Duration.hours(1),
    )
