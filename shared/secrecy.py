"""Texts that look like secrets: none is ever stored in an event, shown or logged (I13). A few patterns that seldom err, rather than
many that often do.

What it promises: what is found is named by its kind and its place, never repeated; each search costs time in proportion to the
text, whatever it holds, because texts come from jobs, targets and people.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

PLACES_MAX = 20
"""Places that are looked up one by one in a value; whoever has that many in it has been told."""


@dataclass(frozen=True, slots=True)
class _Kind:
    what: str
    pattern: str
    needles: tuple[str, ...]
    """One of them stands in every text that matches, in lower case: looking for them is some hundred times faster."""


_NOT_A_VALUE = (
    r"(?!arn:|env:|file:|ssm:|\{\{|\$|\*|<|`|\(withheld|null|none|true|false|/[\w.-]+/|\.{1,2}/)"
    # Without a quotation mark it may be code, such as `password=read(...)`, and behind a colon and a space prose.
    r"(?(quoted)|(?![A-Za-z_]\w{0,64}[.(\[]))(?:(?<!:\s)|(?=\S{0,64}[0-9]))"
)
_SET_TO = r"\\?[\"']?\s{0,3}[=:]\s{0,3}(?P<quoted>\\?[\"'])?"
_REST = r"(?(quoted)[^\"'\\\n]*|(?:[^\s\"'\\}\]),]|,(?!\s*\\?[\"']))*)"
"""What follows the beginning of a value: up to its quotation mark, or to the next space."""
_MIXED = r"(?=[\w+/=.~-]{0,64}[a-z])(?=[\w+/=.~-]{0,64}[A-Z])(?=[\w+/=.~-]{0,64}[0-9])"
_KINDS = (
    _Kind("an AWS access key", r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])", ("akia", "asia")),
    _Kind(
        "an AWS session token", r"(?:IQoJb3JpZ2lu|FwoGZXIvYXdz)[A-Za-z0-9+/=]{50,}", ("iqojb3jpz2lu", "fwogzxivyxdz")
    ),
    # Up to its last line, or the end of the text that it stands in; in JSON that is a quotation mark.
    _Kind(
        "a private key",
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY[^\"]*?(?:-----END [A-Z ]{0,20}KEY-----|(?=\\?\")|\Z)",
        ("private key",),
    ),
    _Kind(
        "a GitHub token",
        r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    ),
    _Kind("a Slack token", r"xox[abeprs]-[A-Za-z0-9-]{20,}", ("xox",)),
    _Kind("a Stripe key", r"[rs]k_live_[A-Za-z0-9]{20,}", ("k_live_",)),
    _Kind("a Google API key", r"AIza[A-Za-z0-9_-]{35,}", ("aiza",)),
    _Kind("a signed token", r"(?<![\w-])eyJ[\w-]{10,1000}\.eyJ[\w-]{10,1000}\.[\w-]{10,}", ("eyj",)),
    _Kind("a password in an address", r"(?P<kept>://)[^/\s:@\"'\\]{1,64}:[^/\s:@\"'\\{*]{3,128}(?=@)", ("://",)),
    _Kind(
        "a bearer token",
        rf"(?P<kept>(?i:authorization){_SET_TO})(?i:bearer|basic)\s{{1,3}}(?!\{{\{{|\$|<|\*)[\w+/=.~-]{{12,}}",
        ("authorization",),
    ),
    _Kind(
        "a password",
        rf"(?P<kept>(?i:password|passwd|secret_?access_?key|client_?secret|api_?key|auth_?token){_SET_TO})"
        rf"{_NOT_A_VALUE}[^\s\"'\\,;&}}\])]{{4}}{_REST}",
        ("passw", "secret", "api_key", "apikey", "auth_token", "authtoken"),
    ),
    # These names are also given to what is no secret: only a value that nobody would write by hand counts.
    _Kind(
        "a secret",
        rf"(?P<kept>(?i:secret|passphrase|(?:private|secret)_?key|(?:access|refresh|bearer|session|api|id)_?token){_SET_TO})"
        rf"{_NOT_A_VALUE}{_MIXED}[\w+/=.~-]{{20}}{_REST}",
        ("secret", "passphrase", "private", "token"),
    ),
)


def secrets_in(text: str) -> list[str]:
    """What kinds of secrets the text seems to hold."""
    return [kind.what for kind, pattern in _possible(text) if pattern.search(text)]


def without_secrets(text: str) -> str:
    """The text with a note of what stood there in the place of each. JSON stays JSON where the secret was a text."""
    for kind, pattern in _possible(text):
        kept = r"\g<kept>" if "kept" in pattern.groupindex else ""
        text = pattern.sub(f"{kept}(withheld: {kind.what})", text)
    return text


def secret_places(value: Any, root: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where in a JSON value, and of what kind; the first `PLACES_MAX`.

    A value is judged by the name that it is given. What shows only in the whole text, and in no member of it, is told of the whole.
    """
    whole = secrets_in(json.dumps(value, ensure_ascii=False))
    if not whole:
        return
    found = 0
    for place, text in _members(value, root):
        for what in secrets_in(text)[:1]:
            yield place, what
            found += 1
        if found == PLACES_MAX:
            return
    if not found:
        yield root, whole[0]


def _members(value: Any, root: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each number, text and name, with the place that can be told of it: a name that is a secret itself cannot."""
    stack: list[tuple[tuple[str | int, ...], str, Any]] = [(root, "", value)]
    while stack:
        place, name, one = stack.pop()
        match one:
            case Mapping():
                for key, held in reversed([*one.items()]):
                    if secrets_in(str(key)):
                        yield place, str(key)
                    else:
                        stack.append(((*place, str(key)), str(key), held))
            case list() | tuple():
                stack.extend(((*place, position), name, held) for position, held in reversed([*enumerate(one)]))
            case None | bool():
                pass
            case _:
                yield place, json.dumps({name: one}, ensure_ascii=False)


def _possible(text: str) -> Iterator[tuple[_Kind, re.Pattern[str]]]:
    lower = text.lower()
    for kind in _KINDS:
        if any(needle in lower for needle in kind.needles):
            yield kind, _compiled(kind.pattern)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # When a text calls for it: most processes meet none, and all of them take milliseconds.
    return re.compile(pattern)


def shortened(text: str, most: int) -> str:
    """The text without secrets, at most so many characters of it."""
    # Before it is cut, for half a secret is not known for one.
    text = without_secrets(text)
    return text if len(text) <= most else text[: most - 1] + "…"
