"""Mail through an SMTP server: the channel `email` on one machine.

The notice's id is in `Message-ID`, so that a mail that is sent twice is one for whoever sorts by it, and in `X-Runfold-Notice`.
"""

import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.ports import Message

SECONDS_MAX = 10.0
"""For each of connecting, greeting and the mail itself."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    host: str
    port: int
    sender: str
    tls: Literal["none", "starttls", "tls"]
    user: str = ""
    password: str = ""
    """A reference."""


class Smtp:
    def __init__(self, server: SmtpServer, secret: Callable[[str], bytes]) -> None:
        self._server = server
        self._secret = secret

    def send(self, message: Message) -> str:
        mail = mail_of(message, self._server.sender)
        password = self._secret(self._server.password).decode() if self._server.password else ""
        sent = False
        try:
            with self._connected() as server:
                if self._server.user:
                    server.login(self._server.user, password)
                sent = True
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _refusal(code, text) from error
        except smtplib.SMTPResponseException as error:
            raise _refusal(error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise TargetRefused(f"the mail server cannot do what is asked of it: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            failure = TargetSilent if sent else TargetUnavailable
            raise failure(f"the mail server did not answer: {type(error).__name__} {error}".rstrip()) from error
        return str(mail["Message-ID"])

    def _connected(self) -> smtplib.SMTP:
        server = self._server
        if server.tls == "tls":
            return smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS_MAX, context=ssl.create_default_context())
        connection = smtplib.SMTP(server.host, server.port, timeout=SECONDS_MAX)
        if server.tls == "starttls":
            try:
                connection.starttls(context=ssl.create_default_context())
            except BaseException:
                connection.close()
                raise
        return connection


def mail_of(message: Message, sender: str) -> EmailMessage:
    """The mail. What came from jobs and people stands in its text, where no line of it can become a header."""
    assert message.rule.email is not None
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = message.rule.email
    mail["Subject"] = " ".join(message.subject.split())
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}@runfold>"
    mail["X-Runfold-Notice"] = message.id
    # Holiday replies would go to whoever cannot read them.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text + "\n")
    return mail


def _refusal(code: int, text: bytes | str) -> TargetRefused | TargetUnavailable:
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    kind = TargetUnavailable if 400 <= code < 500 else TargetRefused
    return kind(f"the mail server answered {code} {said}")
