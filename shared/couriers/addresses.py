"""Which addresses of the network a notice may be sent to.

A document names a webhook, and whoever may register documents must not thereby reach what only this engine can: instance metadata,
databases, the machine itself. So every address that a name stands for is judged, before each connection and after each redirect, and
the connection goes to the very address that was judged: a name that means something else a moment later changes nothing.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence

from shared.errors import TargetRefused, TargetUnavailable

Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a name, as text. Raises OSError when there is none."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


def resolve(host: str, port: int) -> list[str]:
    """Every address of the name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def is_public(address: str) -> bool:
    """Whether anybody in the world has this address. What cannot be read as an address is not public."""
    try:
        # A scope (`%eth0`) names a network of this machine.
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        inner = _inside(found)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast and not found.is_reserved


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of version 4 that one of version 6 leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _V4_COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def permitted(host: str, port: int, *, private: bool, resolve: Resolve = resolve) -> str:
    """An address of the host to connect to.

    Raises `TargetRefused` when any of its addresses is not public, unless private ones are allowed: a name that stands for both is
    somebody's attempt. `TargetUnavailable` when it has none for now.
    """
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise TargetUnavailable(f"{host} has no address: {error}") from error
    if not found:
        raise TargetUnavailable(f"{host} has no address")
    if not private:
        inside = [one for one in found if not is_public(one)]
        if inside:
            raise TargetRefused(
                f"{host} is at {inside[0]}, which is not a public address; a deployment may allow private ones (docs/configuration.md)"
            )
    return found[0]
