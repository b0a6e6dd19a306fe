"""The HTTP API: nothing is answered to strangers but health and the description, and what routes exist are the API's own."""

from functions.api.routes import ROUTES
from tests.infra.template import Template, flat, texts

ROUTE = "AWS::ApiGatewayV2::Route"
OPEN = {f"{route.method} {route.path}" for route in ROUTES if route.open}


def test_whoever_calls_is_asked_for_a_token_or_a_signature(template: Template) -> None:
    for route in template.all_of(ROUTE).values():
        if route["RouteKey"] in OPEN:
            assert route["AuthorizationType"] == "NONE"
        else:
            assert route["AuthorizationType"] in ("JWT", "AWS_IAM")
            assert ("AuthorizerId" in route) == (route["AuthorizationType"] == "JWT")
    assert {route["RouteKey"] for route in template.all_of(ROUTE).values()} >= OPEN


def test_every_operation_of_the_api_has_a_route(prod: Template) -> None:
    keys = {route["RouteKey"] for route in prod.all_of(ROUTE).values()}
    for route in ROUTES:
        assert route.path.startswith("/v1/")
        assert f"{route.method} /v1/{{path+}}" in keys


def test_people_come_from_cognito_unless_an_issuer_is_configured(prod: Template, full: Template) -> None:
    (authorizer,) = prod.all_of("AWS::ApiGatewayV2::Authorizer").values()
    (pool,) = prod.all_of("AWS::Cognito::UserPool")
    assert flat(authorizer["JwtConfiguration"]["Issuer"]).endswith(f"/<{pool}>")
    assert not full.all_of("AWS::Cognito::UserPool")
    (authorizer,) = full.all_of("AWS::ApiGatewayV2::Authorizer").values()
    assert authorizer["JwtConfiguration"] == {"Issuer": "https://id.example/realms/data", "Audience": ["runfold"]}


def test_nobody_signs_up_by_themselves_and_groups_are_grants(prod: Template) -> None:
    (pool,) = prod.all_of("AWS::Cognito::UserPool").values()
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert {one["GroupName"] for one in prod.all_of("AWS::Cognito::UserPoolGroup").values()} == {
        "runfold:viewer",
        "runfold:operator",
        "runfold:author",
        "runfold:admin",
    }


def test_both_kinds_of_access_are_two_apis_with_the_same_routes(full: Template) -> None:
    assert {one["Name"] for one in full.all_of("AWS::ApiGatewayV2::Api").values()} == {
        "runfold-test-jwt",
        "runfold-test-iam",
    }
    kinds = {route["AuthorizationType"] for route in full.all_of(ROUTE).values()}
    assert kinds == {"JWT", "AWS_IAM", "NONE"}


def test_calls_are_throttled_and_logged_without_what_they_carry(template: Template) -> None:
    for stage in template.all_of("AWS::ApiGatewayV2::Stage").values():
        assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == 50
        assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == 100
        logged = stage["AccessLogSettings"]["Format"]
        assert "$context.requestId" in logged
        assert "authorization" not in logged.lower().replace("$context.authorizer", "")
        assert "queryString" not in logged


def test_browsers_are_let_in_only_from_configured_origins(prod: Template, full: Template) -> None:
    assert not any("CorsConfiguration" in one for one in prod.all_of("AWS::ApiGatewayV2::Api").values())
    for api in full.all_of("AWS::ApiGatewayV2::Api").values():
        assert api["CorsConfiguration"]["AllowOrigins"] == ["https://a.example"]
        assert "AllowCredentials" not in api["CorsConfiguration"]


def test_its_address_is_an_output(full: Template) -> None:
    assert {"JwtApiUrl", "IamApiUrl"} <= set(full.body["Outputs"])
    assert "".join(texts(full.body["Outputs"]["JwtApiUrl"]["Value"]))
