"""Access control of the viewer by a request's Host and Origin headers.

Any web page that a user visits can send requests to servers on the same machine, and can make a
host name it controls resolve there (DNS rebinding). So a request is answered only if its Host is
one of our names or addresses and if its Origin, which browsers send with every WebSocket, is too.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Guard:
    """Decides from the headers of a request whether to answer it.

    Args:
        names: our host names, lower case; loopback is always allowed.
    any_address: whether every numeric address is allowed. Rebinding needs a name, so numbers are
            safe; behind routers and in containers we do not know which addresses are ours.
    """

    names: frozenset[str] = frozenset()
    any_address: bool = False

    @classmethod
    def for_host(cls, host: str) -> Guard:
        """The rules for a server that listens on `host`."""
        if is_loopback(host):
            return cls()
        own = {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(names=frozenset(own | {f"{name}.local" for name in own}), any_address=True)

    def refusal(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """The reason to refuse a request, or None.

        Args:
            hosts: all Host headers.
            origins: all Origin headers; only browsers send them.
        """
        if len(hosts) != 1 or not self._is_own(_hostname(f"//{hosts[0]}")):
            return "This viewer answers only to its own address."
        if not origins:
            return None
        if len(origins) != 1 or urlsplit(origins[0]).netloc.lower() != hosts[0].lower():
            return "This viewer answers only to its own page."
        return None

    def _is_own(self, name: str | None) -> bool:
        if not name:
            return False
        if is_loopback(name) or name in self.names:
            return True
        return self.any_address and _address(name) is not None


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine only."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _hostname(reference: str) -> str | None:
    """The host in a reference such as //host:port; None if it contains anything else."""
    try:
        parts = urlsplit(reference)
        rest = (parts.username, parts.path, parts.query, parts.fragment)
        has_good_port = parts.port is None or parts.port >= 0  # raises if it is not a number
        return parts.hostname if has_good_port and not any(rest) else None
    except ValueError:
        return None
