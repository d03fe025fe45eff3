"""Who may open the UI: the log-ins and the host names of one `up`, from its settings and the address it listens on."""

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

from dagster_offload.errors import SettingsError
from dagster_offload.host.machine import host_name
from dagster_offload.service.ui.origins import Origin, parse_origin
from dagster_offload.service.ui.passwords import read_password_file
from dagster_offload.service.ui.sessions import Sessions, load_secret
from dagster_offload.settings.sections.ui import UISection
from dagster_offload.text.lists import comma_separated

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

LOGIN_PATH = "/login"
HEALTH_PATH = "/healthz"


@dataclass(frozen=True)
class Access:
    """Everything that decides about a request. `token` and `password` are None if that log-in is off."""

    home: Path  # its file `ui-secret` has the token, and the key of the sessions
    prefix: str  # empty, or `/offload`
    names: frozenset[str]  # host names of the UI, in lower case
    sessions: Sessions
    token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)  # the hash, as its file had it
    password_file: Path | None = None
    proxy: Origin | None = None
    peers: tuple[Network, ...] | None = None  # connections are accepted only from these; None: from everywhere

    @property
    def needs_login(self) -> bool:
        """Whether a browser must log in."""
        return self.token is not None or self.password is not None

    @property
    def health_paths(self) -> frozenset[str]:
        """Where the health check is answered: without the prefix too, because who asks may know only the port."""
        return frozenset({HEALTH_PATH, self.prefix + HEALTH_PATH})

    def is_peer(self, address: str) -> bool:
        """Whether a connection from this IP address is accepted."""
        if self.peers is None:
            return True
        try:
            peer = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None) or peer  # `::` accepts IPv4 connections as ::ffff:192.0.2.1
        return any(mapped in network for network in self.peers)


def decide_access(ui: UISection, home: Path, host: str) -> Access:
    """The access to a UI that listens on `host`, with these settings of the section `ui`.

    Creates the secret of this home on first use; the home must exist. Raises `SettingsError` if other machines could
    open the UI without any log-in, or if a file of secrets cannot be used.
    """
    is_local = is_loopback(host)
    if not is_local:
        refuse_without_login(ui, host)
    secret = load_secret(home)
    password = None if ui.password_file is None else read_password_file(ui.password_file)
    proxy = None if ui.proxy is None else parse_origin(ui.proxy)
    takes_any_peer = proxy is None or (_has_own_login(ui) and not ui.proxy_address)
    return Access(
        home=home,
        prefix=ui.path_prefix,
        names=_names(ui, host, proxy, is_local=is_local),
        sessions=Sessions(secret, password),
        token=secret if ui.is_token_on else None,
        password=password,
        password_file=ui.password_file,
        proxy=proxy,
        peers=None if takes_any_peer else _peers(ui.proxy_address),
    )


def refuse_without_login(ui: UISection, host: str) -> None:
    """Raise `SettingsError` if no log-in protects a UI that listens on `host`, beyond loopback."""
    if _has_own_login(ui):
        return
    if ui.proxy is None:
        raise SettingsError(
            f"--host {host} lets other machines open the UI, which shows your documents and starts runs. Choose a log-in: "
            "a token in the address (--token, or OFFLOAD_UI_TOKEN=on); a password (run `dagster-offload password`, then "
            "set OFFLOAD_UI_PASSWORD_FILE); or a reverse proxy that authenticates (--behind-proxy https://NAME, or "
            "OFFLOAD_UI_PROXY, with OFFLOAD_UI_PROXY_ADDRESS)"
        )
    if not ui.proxy_address:
        raise SettingsError(
            f"--host {host} lets other machines connect past the proxy {ui.proxy}: listen on 127.0.0.1 if the "
            "proxy runs on this machine, or set OFFLOAD_UI_PROXY_ADDRESS to the address that the proxy connects from"
        )


def _has_own_login(ui: UISection) -> bool:
    return ui.is_token_on or ui.password_file is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a server that listens on `host`. False for an unknown name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(info[4][0]).partition("%")[0]).is_loopback for info in found)


def token_address(address: str, token: str) -> str:
    """The address that logs a browser in."""
    return f"{address}{LOGIN_PATH}?token={token}"


def _names(ui: UISection, host: str, proxy: Origin | None, *, is_local: bool) -> frozenset[str]:
    names = {"localhost", host.lower(), *comma_separated(ui.host_names.lower())}
    if proxy is not None:
        names.add(proxy.host.name)
    if not is_local:
        machine = host_name().lower()
        names |= {machine, machine.partition(".")[0], f"{machine.partition('.')[0]}.local"}
    return frozenset(names)


def _peers(addresses: str) -> tuple[Network, ...]:
    return (*LOOPBACK, *(ipaddress.ip_network(address, strict=False) for address in comma_separated(addresses)))
