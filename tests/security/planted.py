"""Secrets to plant, and the question whether one came through. Put together here, so that no scanner takes this file for a leak."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VALUES = {
    "an AWS access key": "AKIA" + "QWERTYUIOPASDFGH",
    "an AWS session token": "IQoJb3JpZ2lu" + "X2VjEPb//////////wEaCXVzLWVhc3QtMSJHMEUCIQDabcdefghij",
    "a private key": "-----BEGIN RSA PRIVATE "
    + "KEY-----\nMIIEowIBAAKCAQEAplanted\n-----END RSA PRIVATE "
    + "KEY-----",
    "a GitHub token": "ghp_" + "Planted0" * 5,
    "a fine-grained GitHub token": "github_pat_" + "Planted0" * 6,
    "a Slack token": "xoxb-" + "123456789012-planted-abcdef",
    "a Stripe key": "sk_live_" + "Planted0" * 3,
    "a Google API key": "AIza" + "Planted0" * 5,
    "a signed token": ".".join(("eyJ" + "hbGciOiJIUzI1NiJ9", "eyJ" + "zdWIiOiJwbGFudGVkIn0", "SflKxwRJSMeKKF2Q")),
}
"""That are known for what they are wherever they stand."""
NAMED = {
    "a password": ("DB_PASSWORD", "planted-0815"),
    "a password of several words": ("password", "planted horse staple"),
    "an AWS secret": ("aws_secret_access_key", "planted/K7MDENG+bPxRfiCY"),
    "an API key": ("API_KEY", "planted0815"),
    "a client secret": ("client_secret", "planted-0815"),
    "a token of high entropy": ("ACCESS_TOKEN", "pLanted0aB3dE6gH9jK2mN5p"),
    "a secret of high entropy": ("APP_SECRET", "pLanted0aB3dE6gH9jK2mN5p"),
}
"""That are known by the name beside them."""
ADDRESS = "postgres://app:" + "planted0815@db.example.com/x"
HEADER = "Authorization: Bearer " + "planted0815planted"

TEXTS = {
    **VALUES,
    **{what: f"{name}={value}" for what, (name, value) in NAMED.items() if " " not in value},
    "a password in an address": ADDRESS,
    "a header": HEADER,
}
"""As they stand in a line of text, such as an error's."""

_TELLING = {
    **{text: text for text in VALUES.values()},
    VALUES["a private key"]: "MIIEowIBAAKCAQEAplanted",
    ADDRESS: "planted0815@",
    HEADER: "planted0815planted",
}


def core_of(text: str) -> str:
    """The part of it that must be nowhere."""
    if text in _TELLING:
        return _TELLING[text]
    return next(value for name, value in NAMED.values() if text == f"{name}={value}" or text == value)


def assert_clean(text: str, where: Any, *more: Any) -> None:
    """None of these, as texts, as JSON or as files below a folder, holds the secret."""
    core = core_of(text)
    for one in _all_texts((where, *more)):
        at = one.find(core)
        assert at < 0, f"it came through: …{one[max(at - 60, 0) : at]}<here>…"


def _all_texts(found: Iterable[Any]) -> Iterable[str]:
    for one in found:
        match one:
            case str():
                yield one
                # As JSON in JSON, of which messages of queues and bodies of commits are made.
                yield one.replace('\\"', '"').replace("\\\\n", "\n")
            case bytes():
                yield one.decode(errors="replace")
            case Path():
                yield from (path.read_bytes().decode(errors="replace") for path in one.rglob("*") if path.is_file())
            case _:
                yield json.dumps(one, default=repr, ensure_ascii=False)
