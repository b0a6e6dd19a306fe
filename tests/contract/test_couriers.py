"""What every channel owes: the notice arrives with its id, and each way of failing is told apart. Real servers, a real program, and the
services of AWS as moto plays them."""

import hashlib
import hmac
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from shared.couriers import Nowhere
from shared.couriers.aws import Ses, Sns, secrets_on_aws
from shared.couriers.command import Command
from shared.couriers.references import secrets_here
from shared.couriers.smtp import Smtp, SmtpServer
from shared.couriers.webhook import Webhook
from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.ports import Message
from shared.workflow.notices import Notify
from tests.receivers import Hook, Mailbox, hook, mailbox

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SENDER = "runfold@example.com"
REGION = "eu-central-1"


def message(attempt: int = 1, **rule: Any) -> Message:
    return Message(
        id="n0tice",
        on="failed",
        workflow="nightly",
        run="nightly@1",
        at=NOON,
        subject="[runfold] nightly@1 failed\nBcc: eve@example.com",
        text="nightly@1 failed.\nWhy: größe.",
        rule=Notify.model_validate({"on": ["failed"], **rule}),
        attempt=attempt,
    )


def clients(*names: str) -> list[Any]:
    return [boto3.client(name, region_name=REGION) for name in names]  # type: ignore[call-overload]


def no_secret(reference: str) -> bytes:
    raise AssertionError(reference)


@pytest.fixture
def receiver() -> Iterator[Hook]:
    with hook() as made:
        yield made


@pytest.fixture
def mails() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


# --- webhook ------------------------------------------------------------------------------------------------------------


def test_a_webhook_is_posted_json_with_the_notices_id(receiver: Hook) -> None:
    assert Webhook(no_secret, private=True).send(message(webhook=receiver.url + "?team=a")) == "200"
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?team=a"
    assert headers["runfold-notice"] == "n0tice"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "runfold-signature" not in headers
    told = json.loads(body)
    assert (told["id"], told["on"], told["run"], told["at"]) == (
        "n0tice",
        "failed",
        "nightly@1",
        "2026-03-02T12:00:00Z",
    )


def test_a_webhook_with_a_secret_is_signed_over_moment_and_body(receiver: Hook) -> None:
    courier = Webhook(lambda _: b"shared", private=True, now=lambda: 1_700_000_000)
    courier.send(message(webhook=receiver.url, secret="env:HOOK"))
    ((_, headers, body),) = receiver.requests
    signed = hmac.new(b"shared", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers["runfold-signature"] == f"t=1700000000,v1={signed}"


def test_a_notice_that_is_sent_again_is_the_same(receiver: Hook) -> None:
    for attempt in (1, 2):
        Webhook(no_secret, private=True).send(message(attempt, webhook=receiver.url))
    assert receiver.requests[0][2] == receiver.requests[1][2]


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (500, TargetUnavailable),
        (503, TargetUnavailable),
        (429, TargetUnavailable),
        (404, TargetRefused),
        (301, TargetRefused),
    ],
)
def test_what_a_webhook_answers_says_whether_to_try_again(receiver: Hook, status: int, raised: type[Exception]) -> None:
    receiver.answers = [status]
    with pytest.raises(raised, match=str(status)):
        Webhook(no_secret, private=True).send(message(webhook=receiver.url))


def test_a_webhook_that_nobody_answers_is_tried_later() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(TargetUnavailable, match="cannot be reached"):
            Webhook(no_secret, private=True).send(message(webhook=url))


def test_a_webhook_that_takes_the_post_and_says_nothing_may_have_taken_it() -> None:
    """It is cut off after a time of its own, however slowly the receiver drips."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip() -> None:
            taken, _ = server.accept()
            with taken:
                try:
                    taken.sendall(b"HTTP/1.1 200 OK\r\n")
                    while not stop.wait(0.05):
                        taken.sendall(b"X: y\r\n")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(TargetSilent):
            Webhook(no_secret, private=True, seconds_max=0.4).send(message(webhook=url))
        stop.set()
        thread.join()


def test_a_redirect_that_keeps_the_post_is_followed_and_a_circle_is_not(receiver: Hook) -> None:
    receiver.answers = [307]
    receiver.location = "/elsewhere"
    assert Webhook(lambda _: b"s", private=True).send(message(webhook=receiver.url, secret="env:S")) == "200"
    assert [path for path, _, _ in receiver.requests] == ["/hook", "/elsewhere"]
    assert "runfold-signature" in receiver.requests[1][1]
    receiver.answers = [308] * 20
    with pytest.raises(TargetRefused, match="leads on more than"):
        Webhook(no_secret, private=True).send(message(webhook=receiver.url))


def test_a_signature_is_for_whom_the_document_names_and_nobody_else(receiver: Hook) -> None:
    with hook() as other:
        receiver.answers, receiver.location = [307], other.url
        Webhook(lambda _: b"s", private=True).send(message(webhook=receiver.url, secret="env:S"))
        ((_, headers, _),) = other.requests
        assert "runfold-signature" not in headers


# --- email --------------------------------------------------------------------------------------------------------------


def smtp(mails: Mailbox, **fields: Any) -> Smtp:
    server = SmtpServer(**{"host": "127.0.0.1", "port": mails.port, "sender": SENDER, "tls": "none", **fields})
    return Smtp(server, no_secret)


def test_a_mail_arrives_with_the_notices_id_and_nothing_of_it_becomes_a_header(mails: Mailbox) -> None:
    receipt = smtp(mails).send(message(email="team@example.com"))
    ((recipient, mail),) = mails.mails
    assert recipient == "team@example.com"
    assert mail["Message-ID"] == receipt == "<n0tice@runfold>"
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[runfold] nightly@1 failed Bcc: eve@example.com"
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert "größe" in payload.decode()


@pytest.mark.parametrize(("answer", "raised"), [("550 nobody", TargetRefused), ("451 busy", TargetUnavailable)])
def test_what_a_mail_server_answers_says_whether_to_try_again(
    mails: Mailbox, answer: str, raised: type[Exception]
) -> None:
    mails.refuses = answer
    with pytest.raises(raised, match=answer.split()[1]):
        smtp(mails).send(message(email="team@example.com"))


def test_a_mail_server_that_is_not_there_is_tried_later_and_one_without_encryption_is_refused(mails: Mailbox) -> None:
    with pytest.raises(TargetRefused, match="STARTTLS"):
        smtp(mails, tls="starttls").send(message(email="team@example.com"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TargetUnavailable):
            smtp(mails, port=unused.getsockname()[1]).send(message(email="team@example.com"))


def test_ses_takes_the_mail_from_a_verified_identity_and_refuses_it_from_another() -> None:
    with mock_aws():
        client = boto3.client("sesv2", region_name=REGION)
        client.create_email_identity(EmailIdentity=SENDER)
        assert Ses(client, SENDER).send(message(email="team@example.com"))
        with pytest.raises(TargetRefused):
            Ses(client, "nobody@example.org").send(message(email="team@example.com"))
        with pytest.raises(TargetRefused, match="sends no mail"):
            Ses(client, "").send(message(email="team@example.com"))


# --- sns ----------------------------------------------------------------------------------------------------------------


def test_a_topic_passes_the_notice_on_with_its_id() -> None:
    with mock_aws():
        sns, sqs = clients("sns", "sqs")
        topic = sns.create_topic(Name="alerts")["TopicArn"]
        queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        assert Sns(sns).send(message(sns=topic))
        (taken,) = sqs.receive_message(QueueUrl=queue)["Messages"]
        told = json.loads(taken["Body"])
        assert told["Subject"] == "[runfold] nightly@1 failed Bcc: eve@example.com"
        assert told["MessageAttributes"]["notice"]["Value"] == "n0tice"
        assert "größe" in told["Message"]


def test_a_fifo_topic_passes_on_once_what_is_told_twice() -> None:
    with mock_aws():
        sns, sqs = clients("sns", "sqs")
        topic = sns.create_topic(Name="alerts.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
        queue = sqs.create_queue(QueueName="alerts.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        for attempt in (1, 2):
            Sns(sns).send(message(attempt, sns=topic))
        assert len(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]) == 1


def test_a_topic_that_is_not_there_is_refused() -> None:
    told = message(sns=f"arn:aws:sns:{REGION}:123456789012:nowhere")
    with mock_aws(), pytest.raises(TargetRefused):
        Sns(clients("sns")[0]).send(told)


# --- command ------------------------------------------------------------------------------------------------------------


def command(script: str, **fields: Any) -> tuple[Command, Message]:
    courier = Command({"PATH": os.environ["PATH"]}, **fields)
    return courier, message(command=[sys.executable, "-c", script, "$HOME; {{ x }}"])


def test_a_command_reads_the_notice_and_is_given_its_arguments_as_they_are(tmp_path: Path) -> None:
    script = (
        "import json,os,sys; told=json.load(sys.stdin); "
        f"open({str(tmp_path / 'told')!r},'w').write(json.dumps([told['id'], sys.argv[1], os.environ['RUNFOLD_NOTICE'], sorted(os.environ)]))"
    )
    courier, told = command(script)
    assert courier.send(told) == "exit code 0"
    notice, argument, variable, names = json.loads((tmp_path / "told").read_text())
    assert (notice, argument, variable) == ("n0tice", "$HOME; {{ x }}", "n0tice")
    assert set(names) <= {"LC_CTYPE", "PATH", "RUNFOLD_NOTICE"}


@pytest.mark.parametrize(("code", "raised"), [(1, TargetRefused), (75, TargetUnavailable)])
def test_the_exit_code_of_a_command_says_whether_to_try_again(code: int, raised: type[Exception]) -> None:
    courier, told = command(f"import sys; sys.stderr.write('no pager'); sys.exit({code})")
    with pytest.raises(raised, match=f"exit code {code}: no pager"):
        courier.send(told)


def goes_on(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = (
        "import subprocess,time; child=subprocess.Popen(['sleep','600']); "
        f"open({str(child)!r},'w').write(str(child.pid)); time.sleep(600)"
    )
    courier, told = command(script, seconds_max=2.0)
    with pytest.raises(TargetSilent, match="took longer"):
        courier.send(told)
    if child.exists():
        number = int(child.read_text())
        deadline = time.monotonic() + 30
        # That it is told to end is not yet that it has ended.
        while goes_on(number):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(TargetRefused, match="cannot be started"):
        Command({}).send(message(command=["/nowhere/pager"]))


# --- secrets and channels that are not there ----------------------------------------------------------------------------


def test_secrets_are_read_by_reference_on_aws() -> None:
    with mock_aws():
        manager, parameters = clients("secretsmanager", "ssm")
        arn = manager.create_secret(Name="hook", SecretString="shared")["ARN"]
        parameters.put_parameter(Name="/runfold/hook", Value="kept", Type="SecureString")
        read = secrets_on_aws(lambda: manager, lambda: parameters)
        assert read(arn) == b"shared"
        assert read(f"arn:aws:ssm:{REGION}:123456789012:parameter/runfold/hook") == b"kept"
        for wrong in ("env:HOOK", f"{arn}x"):
            with pytest.raises(TargetRefused):
                read(wrong)


def test_secrets_are_read_by_reference_on_one_machine(tmp_path: Path) -> None:
    kept = tmp_path / "secret"
    kept.write_text("shared\n")
    kept.chmod(0o600)
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hook"
    read = secrets_here({"HOOK": "here"}, {arn: "HOOK"})
    assert [read(one) for one in ("env:HOOK", f"file:{kept}", arn)] == [b"here", b"shared", b"here"]
    for wrong in ("env:NOWHERE", "file:/nowhere", "arn:aws:ssm:eu-central-1:1:parameter/x"):
        with pytest.raises(TargetRefused):
            read(wrong)


def test_a_channel_that_a_deployment_does_not_have_says_so() -> None:
    with pytest.raises(TargetRefused, match="no SNS"):
        Nowhere("one machine has no SNS").send(message(email="a@example.com"))
