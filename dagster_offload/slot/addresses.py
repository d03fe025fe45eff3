"""The address, credentials and proxy of a slot's requests. Uses only the standard library."""

import contextlib
import ipaddress
from base64 import b64decode, b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from dagster_offload import __version__
from dagster_offload.errors import SettingsError
from dagster_offload.slot.config import SlotConfig

USER_AGENT = f"dagster-offload/{__version__}"


def endpoint(slot: SlotConfig, path: str) -> str:
    """The URL of `path` at the slot, without user and password: those are sent in a header and never logged."""
    return f"{origin(slot.url)}{urlsplit(slot.url).path.rstrip('/')}{path}"


def auth_headers(slot: SlotConfig) -> dict[str, str]:
    """The header with the bearer token if one is set, else with the URL's user and password.

    Raises `SettingsError` for a token that is not allowed in a header, and if the token is not known here.
    """
    slot.require_key()
    key = (slot.api_key or "").strip()  # keys read from files end in a newline
    if not is_allowed_in_header(key):
        raise SettingsError(f"{slot.setting('api_key')} contains characters that are not allowed in an HTTP header")
    if key:
        return {"authorization": f"Bearer {key}"}
    parts = urlsplit(slot.url)
    if parts.username is None:
        return {}
    return {"authorization": basic(unquote(parts.username), unquote(parts.password or ""))}


def is_allowed_in_header(text: str) -> bool:
    """Whether an HTTP header can have this value: ASCII, without control characters."""
    return text.isascii() and text.isprintable()


def basic(user: str, password: str) -> str:
    """The value of a header with a user and a password."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def secrets_in(headers: Mapping[str, str]) -> str:
    """The key or the password in the headers of a request, as sent and in clear, a line each. A server may echo them."""
    kind, _, sent = headers.get("authorization", "").partition(" ")
    if kind != "Basic":
        return sent
    try:
        in_clear = b64decode(sent).decode(errors="replace")
    except ValueError:  # not by this program
        return sent
    return f"{sent}\n{in_clear.partition(':')[2]}"


def origin(url: str) -> str:
    """Scheme, host and port of `url`, without user and password."""
    parts = urlsplit(url)
    # The interface of an IPv6 address: `%25en0` in a URL (RFC 6874), and `%en0` for the system.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].replace('%25', '%')}"


def proxy_for(url: str) -> str | None:
    """The proxy for `url` from the usual variables (`HTTP_PROXY`, `NO_PROXY`, ...), or None.

    A slot on this host or with an mDNS name is never reached through a proxy, which could not resolve it. Raises
    `SettingsError` for a proxy that does not speak HTTP, such as a SOCKS proxy, and for one that is no address.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if is_loopback(host) or host.endswith(".local") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or _is_excepted(host, proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    variable = f"{parts.scheme.upper()}_PROXY"
    if (kind := urlsplit(proxy).scheme) not in {"http", "https"}:
        raise SettingsError(
            f"the proxy for {host} is a {kind}:// proxy, and only HTTP proxies can be used: add {host} to NO_PROXY, or set "
            f"{variable} to an HTTP proxy"
        )
    if not has_address(proxy):
        raise SettingsError(f"the proxy for {host} is no address such as http://proxy:3128: correct {variable}")
    return proxy


def proxy_setting(slot: SlotConfig) -> str:
    """The variables that decide which proxy, if any, the slot's requests go through."""
    return f"{urlsplit(slot.url).scheme.upper()}_PROXY or NO_PROXY"


def _is_excepted(host: str, no_proxy: str) -> bool:
    """Whether `no_proxy` names `host` in a form that Python's `proxy_bypass` does not know, and Go does: `*.corp.example`, a
    network such as `10.0.0.0/8`, or IPv6 without brackets."""
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    if any(entry.startswith("*.") and host.lower().endswith(entry[1:]) for entry in entries):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in entries:
        with contextlib.suppress(ValueError):  # a name
            if address in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def has_address(url: str) -> bool:
    """Whether `url` has a host, and a port if any that is a number."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message may quote a password
        return False


def sends_key_unencrypted(slot: SlotConfig) -> bool:
    """Whether everyone on the network can read the slot's key or password and every document."""
    return is_readable_on_its_way(slot.url) and bool(auth_headers(slot))


def is_readable_on_its_way(url: str) -> bool:
    """Whether everyone on the network can read what is sent to `url`: plain HTTP beyond this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or an address of this machine's loopback interface."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
