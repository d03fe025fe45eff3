"""Host names and origins: is a request addressed to this UI, and does it come from one of its own pages? No I/O.

A web page on another site can make a browser send requests to this machine. Two headers that a page cannot forge expose
it: `Host` has the name in the browser's address bar (DNS rebinding: a name of the attacker that resolves to this machine),
and `Origin` has the site of the page that sent the request (RFC 6454, Fetch Standard).
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

DEFAULT_PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class HostPort:
    """A host name in lower case or an IP address, and a port. `port` is None if none was given."""

    name: str
    port: int | None

    @property
    def is_address(self) -> bool:
        """Whether the name is an IP address."""
        return _address(self.name) is not None


@dataclass(frozen=True)
class Origin:
    """A site: scheme, host and port, the default port filled in."""

    scheme: str
    host: HostPort


def parse_host(text: str) -> HostPort | None:
    """Parse a `Host` header: `localhost:3000`, `[::1]`. Returns None if it is malformed.

    Upper case and a trailing dot do not change a name. An IP address is returned in its shortest form.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    name = (found["ipv6"] or found["name"]).lower().removesuffix(".")
    address = _address(name)
    if not name or (found["ipv6"] is not None and address is None):
        return None
    port = None if found["port"] is None else int(found["port"])
    return HostPort(name if address is None else str(address), port)


def parse_origin(text: str) -> Origin | None:
    """Parse an `Origin` header: `http://localhost:3000`. Returns None for `null` and for everything else."""
    found = _ORIGIN.fullmatch(text)
    host = None if found is None else parse_host(found["host"])
    if found is None or host is None:
        return None
    scheme = found["scheme"].lower()
    return Origin(scheme, HostPort(host.name, host.port or DEFAULT_PORTS[scheme]))


def is_our_name(host: HostPort, names: Collection[str]) -> bool:
    """Whether a browser can only have reached this UI by that host, with `names` in lower case.

    An IP address is always ours: DNS rebinding needs a name. The port does not matter, because tunnels and containers
    change it.
    """
    return host.is_address or host.name in names


def is_same_site(origin: str, host: HostPort, proxy: Origin | None) -> bool:
    """Whether a page of `origin` belongs to this UI, which was addressed as `host`. `proxy` is the proxy's own origin.

    The scheme is not compared with ours, because a proxy may add TLS and keep the host.
    """
    sender = parse_origin(origin)
    if sender is None:
        return False
    if sender == proxy:
        return True
    port = host.port or DEFAULT_PORTS[sender.scheme]
    return sender.host == HostPort(host.name, port)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
