"""Whoever may register a document must not reach through its webhooks what only the engine can reach: the machine itself, its network,
instance metadata. Names, redirects, other ways of writing an address and names that change their mind lead nowhere."""

import socket
from collections.abc import Sequence

import pytest

from shared.couriers.addresses import is_public, permitted
from shared.couriers.webhook import Webhook
from shared.errors import TargetRefused, TargetUnavailable
from tests.contract.test_couriers import message, no_secret
from tests.receivers import Hook, hook

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:db8::1",
    "not an address",
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public_are_not_reached(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(TargetRefused, match="not a public address"):
        permitted("hooks.example.com", 443, private=False, resolve=lambda *_: [address])


@pytest.mark.parametrize("address", ["1.1.1.1", "52.94.236.248", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_reached(address: str) -> None:
    assert permitted("hooks.example.com", 443, private=False, resolve=lambda *_: [address]) == address


def test_a_name_that_stands_for_a_public_and_an_inner_address_is_refused() -> None:
    with pytest.raises(TargetRefused):
        permitted("both.example.com", 443, private=False, resolve=lambda *_: ["1.1.1.1", "10.0.0.1"])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "[::1]", "[::ffff:127.0.0.1]"],
)
def test_the_machine_itself_is_not_reached_however_it_is_written(host: str) -> None:
    with hook() as receiver, pytest.raises((TargetRefused, TargetUnavailable)):
        Webhook(no_secret).send(message(webhook=f"http://{host}:{receiver.port}/"))
    assert receiver.requests == []


def test_a_redirect_into_the_network_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with hook() as outside, hook() as inside:
        outside.answers, outside.location = [307], f"http://inner.example.com:{inside.port}/latest/meta-data"
        _public_is(monkeypatch, outside)
        with pytest.raises(TargetRefused, match=r"169\.254\.169\.254"):
            Webhook(no_secret, resolve=_names).send(message(webhook=f"http://hooks.example.com:{outside.port}/"))
        assert len(outside.requests) == 1
        assert inside.requests == []


def test_a_name_that_means_something_else_a_moment_later_is_reached_where_it_was_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the name is asked once for each connection, and the connection goes to the answer."""
    asked: list[str] = []

    def changing(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["1.1.1.1"] if len(asked) == 1 else ["127.0.0.1"]

    with hook() as outside, hook() as inside:
        _public_is(monkeypatch, outside)
        assert (
            Webhook(no_secret, resolve=changing).send(message(webhook=f"http://x.example.com:{inside.port}/")) == "200"
        )
        assert (len(outside.requests), inside.requests, asked) == (1, [], ["x.example.com"])


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with hook() as proxy, hook() as receiver:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        Webhook(no_secret, private=True).send(message(webhook=receiver.url))
        assert (len(receiver.requests), proxy.requests) == (1, [])


@pytest.mark.parametrize(
    "location", ["ftp://example.com/", "file:///etc/passwd", "http://u:p@example.com/", "http://[::1"]
)
def test_a_redirect_to_what_is_no_web_server_is_refused(location: str) -> None:
    with hook() as receiver:
        receiver.answers, receiver.location = [308], location
        with pytest.raises(TargetRefused):
            Webhook(no_secret, private=True).send(message(webhook=receiver.url))


def _names(host: str, _port: int) -> Sequence[str]:
    return ["169.254.169.254"] if host.startswith("inner") else ["1.1.1.1"]


def _public_is(monkeypatch: pytest.MonkeyPatch, receiver: Hook) -> None:
    """Lead connections to the public address of these tests to a receiver of this machine, and all others nowhere."""
    real = socket.create_connection

    def lead(address: tuple[str, int], timeout: float | None = None) -> socket.socket:
        assert address[0] == "1.1.1.1", "only what was judged may be connected to"
        return real(("127.0.0.1", receiver.port), timeout)

    monkeypatch.setattr(socket, "create_connection", lead)
