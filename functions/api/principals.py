"""Who asks: from what API Gateway has checked (a JWT, or IAM), or from the token of an embedded engine.

Grants are words: `role`, `role:workflow=NAME` or `role:tag=TAG`, with the roles viewer, operator, author and admin. In a JWT they stand
in the claim `runfold`, or in groups named `runfold:` and the word; a deployment may name other claims.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, get_args

from functions.api.problems import Unauthenticated
from functions.api.service import Authenticate, Event
from shared.decide.access import Grant, Principal, Role

GROUP_PREFIX = "runfold:"
CLAIM = "runfold"
GROUP_CLAIMS = ("cognito:groups", "groups")
NAME_CLAIMS = ("preferred_username", "cognito:username", "username", "email", "client_id", "sub")
NAME_LENGTH_MAX = 128
GRANTS_MAX = 100

_WORD = re.compile(r"(?P<role>\w+)(?::(?P<kind>workflow|tag)=(?P<value>[^\s,\[\]]{1,256}))?")


def grants_in(words: Iterable[str]) -> tuple[Grant, ...]:
    """The grants that words name. A word that is none grants nothing: a misspelt right must not become another one."""
    found = []
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None or match["role"] not in get_args(Role):
            continue
        role: Role = match["role"]  # type: ignore[assignment]  # checked in the line above
        value = match["value"]
        found.append(
            Grant(
                role,
                workflow=value if match["kind"] == "workflow" else None,
                tag=value if match["kind"] == "tag" else None,
            )
        )
        if len(found) == GRANTS_MAX:
            break
    return tuple(found)


def gateway_principal(
    iam_grants: Mapping[str, str] | None = None,
    *,
    claim: str = CLAIM,
    group_claims: tuple[str, ...] = GROUP_CLAIMS,
) -> Authenticate:
    """Recognises callers by what API Gateway put into the request after checking it, which a caller cannot put there.

    `iam_grants`: patterns of ARNs (`arn:aws:sts::*:assumed-role/oncall/*`) to grants; a caller by IAM has those of every pattern
    that fits, and none otherwise. `claim` holds the grants of a JWT, `group_claims` list groups.
    """

    def authenticate(event: Event) -> Principal:
        authorizer = event.get("requestContext", {}).get("authorizer") or {}
        if jwt := authorizer.get("jwt"):
            return _of_claims(jwt.get("claims") or {}, claim, group_claims)
        if iam := authorizer.get("iam"):
            arn = str(iam.get("userArn") or "")
            words = [
                word
                for pattern, given in (iam_grants or {}).items()
                if fnmatchcase(arn, pattern)
                for word in given.split()
            ]
            return Principal(_name(arn.rpartition(":")[2]), grants_in(words))
        raise Unauthenticated("no token and no signature was sent")

    return authenticate


def _of_claims(claims: Mapping[str, Any], claim: str, group_claims: tuple[str, ...]) -> Principal:
    name = next((str(claims[one]) for one in NAME_CLAIMS if claims.get(one)), "")
    words = _listed(claims.get(claim))
    for one in group_claims:
        words += [word.removeprefix(GROUP_PREFIX) for word in _listed(claims.get(one)) if word.startswith(GROUP_PREFIX)]
    return Principal(_name(name), grants_in(words))


def _listed(value: Any) -> list[str]:
    # HTTP APIs hand a list on as the text `[a b]`.
    if isinstance(value, list):
        return [str(one) for one in value]
    return re.split(r"[\s,]+", str(value or "").strip("[]"))


def local_principal(user: str, token: str | None) -> Authenticate:
    """Whoever reaches an embedded engine is its user and may do everything; with a token, only whoever brings it."""
    principal = Principal(_name(user), (Grant("admin"),))
    if token is None:
        return lambda event: principal  # noqa: ARG005

    def authenticate(event: Event) -> Principal:
        headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        # Compared in constant time, so that answers do not tell how much of a guess was right.
        right = hmac.compare_digest(sent.strip().encode(), token.encode())
        if scheme.lower() != "bearer" or not right:
            raise Unauthenticated(
                "send the token of this engine: Authorization: Bearer …; it lies in the file `token` of its home"
            )
        return principal

    return authenticate


def _name(name: str) -> str:
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return clean[:NAME_LENGTH_MAX] or "unnamed"
