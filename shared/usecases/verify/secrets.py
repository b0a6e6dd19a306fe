"""Texts that look like secrets (I13). A few patterns that seldom err, rather than many that often do; what they find is never shown.

Each costs time in proportion to the text, whatever it holds: commits contain what jobs wrote.
"""

import re

_NOT_A_VALUE = r"(?!arn:|env:|file:|ssm:|\{\{|\$|\*|<|null|none|true|false)"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("an AWS access key", re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])")),
    ("an AWS session token", re.compile(r"(?:IQoJb3JpZ2lu|FwoGZXIvYXdz)[A-Za-z0-9+/=]{50}")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY")),
    ("a GitHub token", re.compile(r"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40}")),
    ("a Slack token", re.compile(r"xox[abeprs]-[A-Za-z0-9-]{20}")),
    ("a Stripe key", re.compile(r"[rs]k_live_[A-Za-z0-9]{20}")),
    ("a Google API key", re.compile(r"AIza[A-Za-z0-9_-]{35}")),
    ("a signed token", re.compile(r"eyJ[\w-]{10,1000}\.eyJ[\w-]{10,1000}\.[\w-]{10}")),
    ("a password in an address", re.compile(r"://[^/\s:@\"'\\]{1,64}:[^/\s:@\"'\\{*]{3,128}@")),
    (
        "a password",
        re.compile(
            r"(?:password|passwd|secret_?access_?key|client_?secret|api_?key|auth_?token)\\?[\"']?\s{0,3}[=:]\s{0,3}\\?[\"']?"
            + _NOT_A_VALUE
            + r"[^\s\"'\\,;&}\])]{4}",
            re.IGNORECASE,
        ),
    ),
)


def secrets_in(text: str) -> list[str]:
    """What kinds of secrets the text seems to hold."""
    return [what for what, pattern in _PATTERNS if pattern.search(text)]
