"""`deadline`, `late` and `notify` as they are written: what the document takes, and what it says of what it does not take."""

from typing import Any

import pytest

from tests.rules.test_workflow_reading import refused, written

TEAM = {"on": ["failed"], "email": "data-eng@example.com"}
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alerts"


def test_each_channel_is_read_as_it_was_written() -> None:
    rules = [
        {"on": ["failed", "recovered"], "email": "data-eng@example.com"},
        {"on": ["failed"], "sns": TOPIC},
        {"on": ["doubt"], "webhook": "https://hooks.example.com/T1/secret-part", "secret": "env:HOOK"},
        {"on": ["succeeded"], "command": ["/usr/bin/logger", "-t", "runfold"]},
    ]
    read = written(notify=rules).notify
    assert read is not None
    assert [rule.channel for rule in read] == ["email", "sns", "webhook", "command"]
    assert [rule.to for rule in read] == ["data-eng@example.com", TOPIC, "https://hooks.example.com", "/usr/bin/logger"]


def test_a_document_without_these_fields_is_the_same_document_as_before_they_were_there() -> None:
    """Otherwise an upgrade would register every document as a new version."""
    assert written().model_dump(exclude_none=True).keys().isdisjoint({"deadline", "late", "notify"})


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ({"notify": [{"on": ["failed"]}]}, "notify[0]", "exactly one of email, sns, webhook and command"),
        ({"notify": [{**TEAM, "sns": TOPIC}]}, "notify[0]", "email and sns: write a rule for each"),
        ({"notify": [{**TEAM, "secret": "env:X"}]}, "notify[0]", "secret signs a webhook"),
        ({"notify": [{"on": [], "email": "a@example.com"}]}, "notify[0]", "on is empty"),
        ({"notify": [{"on": ["faild"], "email": "a@example.com"}]}, "notify[0].on[0]", "did you mean `failed`?"),
        ({"notify": [{"on": ["failed"], "email": "nobody"}]}, "notify[0].email", "an address such as"),
        (
            {"notify": [{"on": ["failed"], "email": "a@example.com\nBcc: b@example.com"}]},
            "notify[0].email",
            "an address",
        ),
        ({"notify": [{"on": ["failed"], "sns": "alerts"}]}, "notify[0].sns", "the ARN of a topic"),
        ({"notify": [{"on": ["failed"], "webhook": "file:///etc/passwd"}]}, "notify[0].webhook", "begins with https"),
        (
            {"notify": [{"on": ["failed"], "webhook": "https://u:p@example.com/"}]},
            "notify[0].webhook",
            "without a password",
        ),
        ({"notify": [{"on": ["failed"], "command": []}]}, "notify[0].command", "is empty"),
        ({"notify": [{"on": ["late"], "email": "a@example.com"}]}, "notify[0].on[0]", "never comes without `late`"),
        ({"notify": [{"on": ["deadline"], "email": "a@example.com"}]}, "notify[0].on[0]", "without `deadline`"),
        ({"notify": [{"on": ["missed"], "email": "a@example.com"}]}, "notify[0].on[0]", "without `schedule`"),
        ({"late": {}}, "late", "late says nothing"),
        ({"deadline": {"minutes": 0}}, "deadline.minutes", "greater than 0"),
        ({"deadline": {}}, "deadline.minutes", "is missing"),
        ({"late": {"start_minutes": 60}, "deadline": {"minutes": 60}}, "late.start_minutes", "before the deadline"),
        ({"notify": "me"}, "notify", "must be a list"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(fields: dict[str, Any], place: str, says: str) -> None:
    problems = refused(**fields)
    assert list(problems) == [place]
    assert says in problems[place]


def test_the_secret_of_a_webhook_is_named_and_never_written_out() -> None:
    problems = refused(notify=[{"on": ["failed"], "webhook": "https://example.com/", "secret": "hunter2hunter2"}])
    assert "is not a reference" in problems["notify[0].secret"]
    assert "hunter2" not in str(problems)


def test_every_problem_of_every_rule_is_told_at_once() -> None:
    rules = [{"on": ["late"], "email": "a@example.com"}, {"on": ["nope"], "sns": TOPIC}, {"on": ["failed"]}]
    assert sorted(refused(notify=rules)) == ["notify[0].on[0]", "notify[1].on[0]", "notify[2]"]
