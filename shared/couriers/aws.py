"""SES and SNS: the channels `email` and `sns` on AWS; and the secrets that webhooks are signed with."""

from collections.abc import Callable
from typing import Any

from shared.errors import TargetRefused
from shared.executors.aws import AwsError, failure_of
from shared.ports import Message

SUBJECT_MAX = 100
"""Characters of an SNS subject: ASCII, beginning with a letter, digit or punctuation mark."""


class Ses:
    """Mail through SES, from one verified identity."""

    def __init__(self, client: Any, sender: str) -> None:
        self._client = client
        self._sender = sender

    def send(self, message: Message) -> str:
        assert message.rule.email is not None
        if not self._sender:
            raise TargetRefused("this deployment sends no mail: name the sender in `notices.from` and deploy again")
        try:
            answer = self._client.send_email(
                FromEmailAddress=self._sender,
                Destination={"ToAddresses": [message.rule.email]},
                Content={
                    "Simple": {
                        "Subject": {"Data": " ".join(message.subject.split()), "Charset": "UTF-8"},
                        "Body": {"Text": {"Data": f"{message.text}\n\nNotice {message.id}\n", "Charset": "UTF-8"}},
                    }
                },
                EmailTags=[{"Name": "runfold-notice", "Value": message.id}],
            )
        except AwsError as error:
            raise failure_of(error, "send the mail", once=False) from error
        return str(answer["MessageId"])


class Sns:
    """Topics that the deployment may publish to."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, message: Message) -> str:
        assert message.rule.sns is not None
        # A FIFO topic passes the same id on once.
        fifo = {"MessageGroupId": message.workflow, "MessageDeduplicationId": message.id}
        try:
            answer = self._client.publish(
                TopicArn=message.rule.sns,
                Subject=_plain(message.subject),
                Message=message.text,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in (
                        ("notice", message.id),
                        ("on", message.on),
                        ("workflow", message.workflow),
                        ("run", message.run),
                    )
                    if value
                },
                **(fifo if message.rule.sns.endswith(".fifo") else {}),
            )
        except AwsError as error:
            raise failure_of(error, "publish the notice", once=False) from error
        return str(answer["MessageId"])


def _plain(subject: str) -> str:
    text = " ".join(subject.split()).encode("ascii", errors="replace").decode()
    return text[:SUBJECT_MAX]


def secrets_on_aws(secrets_manager: Callable[[], Any], parameters: Callable[[], Any]) -> Callable[[str], bytes]:
    """References are ARNs; the clients are made when first asked for."""

    def read(reference: str) -> bytes:
        kind = reference.split(":")[2] if reference.startswith("arn:") else ""
        try:
            if kind == "secretsmanager":
                found = secrets_manager().get_secret_value(SecretId=reference)
                text = found.get("SecretString")
                return str(text).encode() if text is not None else bytes(found["SecretBinary"])
            if kind == "ssm":
                name = "/" + reference.split(":parameter/", 1)[-1]
                return str(parameters().get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]).encode()
        except AwsError as error:
            raise failure_of(error, "read the secret", once=False) from error
        raise TargetRefused("on AWS a secret is named by the ARN of a secret or an SSM parameter")

    return read
