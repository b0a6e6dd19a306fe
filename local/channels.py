"""The channels that one machine has, as its settings say."""

from collections.abc import Mapping

from local.settings import LocalSettings
from shared.couriers import Nowhere
from shared.ports import Courier, Message
from shared.workflow.notices import Channel

PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Variables that a command is given: the engine's own may hold secrets of jobs."""


def channels(settings: LocalSettings, environment: Mapping[str, str]) -> dict[Channel, Courier]:
    """Each is made when it is first used: most engines tell nobody."""
    return {
        "email": _Later("email", settings, environment),
        "webhook": _Later("webhook", settings, environment),
        "command": _Later("command", settings, environment),
        "sns": Nowhere("one machine has no SNS: deploy to AWS, or use another channel"),
    }


class _Later:
    def __init__(self, channel: Channel, settings: LocalSettings, environment: Mapping[str, str]) -> None:
        self._channel = channel
        self._settings = settings
        self._environment = environment
        self._courier: Courier | None = None

    def send(self, message: Message) -> str:
        if self._courier is None:
            self._courier = _made(self._channel, self._settings, self._environment)
        return self._courier.send(message)


def _made(channel: Channel, settings: LocalSettings, environment: Mapping[str, str]) -> Courier:
    from shared.couriers.command import Command
    from shared.couriers.references import secrets_here
    from shared.couriers.smtp import Smtp, SmtpServer
    from shared.couriers.webhook import Webhook

    notices = settings.notices
    secret = secrets_here(environment, settings.secrets)
    match channel:
        case "email" if notices.smtp is None:
            return Nowhere("this machine sends no mail: name a server under `notices.smtp` in settings.yaml")
        case "email":
            smtp = notices.smtp
            assert smtp is not None
            server = SmtpServer(smtp.host, smtp.port, smtp.sender, smtp.tls, smtp.user, smtp.password)
            return Smtp(server, secret)
        case "webhook":
            return Webhook(secret, private=notices.private_webhooks)
        case _:
            return Command({name: environment[name] for name in PASSED_ON if name in environment})
