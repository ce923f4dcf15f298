"""Public addresses: which ones can be registered with a broker, and which one this machine may have."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network
from typing import Final

from hybridbroker.errors import ConfigurationError

__all__ = ["own_public_address", "public_address"]

_PRIVATE: Final = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
_FAR: Final = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))


def public_address(text: str) -> str:
    """Return an IPv4 or IPv6 address in its usual spelling.

    Raises:
        ConfigurationError: It is none that the world can see.
    """
    try:
        found = ip_address(text.strip())
    except ValueError:
        found = None
    if found is None or not _is_public(str(found)):
        raise ConfigurationError(f"{text.strip()[:50]!r} is no public IP address, such as 203.0.113.7")
    return str(found)


def own_public_address() -> str:
    """Return the public address this machine itself bears, "" where it is behind another's; nothing is sent."""
    for far, family in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                here = str(probe.getsockname()[0])
        except OSError:
            continue
        if _is_public(here):
            return here
    return ""


def _is_public(text: str) -> bool:
    try:
        found = ip_address(text)
    except ValueError:
        return False
    local = found.is_loopback or found.is_unspecified or found.is_link_local or found.is_multicast
    return not local and not any(found.version == net.version and found in net for net in _PRIVATE)
