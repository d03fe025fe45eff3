"""What sends a secret, or something that is signed with one, unencrypted beyond this machine: sinks, channels and the broker."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dagster_offload.settings.sections import notify, sinks
from dagster_offload.settings.sections.notify import AnyChannel, NtfyChannel
from dagster_offload.settings.sections.recipients import WebhookKeys
from dagster_offload.settings.sections.sinks import AnySink, PaperlessSettings
from dagster_offload.settings.sections.unset import UnsetVariable
from dagster_offload.slot.addresses import is_loopback, is_readable_on_its_way

if TYPE_CHECKING:
    from dagster_offload.settings.model import Settings


@dataclass(frozen=True)
class Exposed:
    """A sink, a channel or the broker, with an address that others can use or read. It has no secret and no path in it."""

    noun: str  # sink, channel or broker
    name: str
    setting: str  # of its address: on_record.archive.webhook
    host: str
    found: str  # what others can do
    advice: str


def exposed(settings: "Settings") -> Iterator[Exposed]:
    """The sinks and channels whose token, password or signed messages everyone on the network can read, and the broker."""
    for name, sink in settings.sinks.items():
        yield from _exposed("sink", name, sinks.SECTION, sink)
    for name, channel in settings.channels.items():
        yield from _exposed("channel", name, notify.SECTION, channel)
    if (broker := exposed_broker(settings)) is not None:
        yield broker


def exposed_broker(settings: "Settings") -> Exposed | None:
    """The broker, if others can read or write what is in it; None if they cannot, or if there is none.

    Dagster sends its workers the name of the code to run, and the address of Postgres with its password.
    """
    if settings.celery.broker is None:
        return None
    parts = urlsplit(settings.celery.broker.get_secret_value())
    host = parts.hostname or ""
    if not parts.password and "ssl_certfile" not in parts.query:
        found = f"no password: all who can reach {host} can run code as its workers and read the password of Postgres"
        advice = "give Redis a password (requirepass), and set {} to redis://:PASSWORD@HOST:6379/0"
    elif parts.scheme == "redis" and not is_loopback(host):
        found = (
            f"its password and that of Postgres are sent to {host} unencrypted: everyone on the network can read them, and "
            "run code as its workers"
        )
        advice = "use TLS, and set {} to its rediss:// address; or use a private network, such as WireGuard"
    else:
        return None
    return Exposed("broker", "Redis", "celery.broker", host, found, advice.format("OFFLOAD_CELERY_BROKER"))


def _exposed(noun: str, name: str, section: str, settings: AnySink | AnyChannel) -> Iterator[Exposed]:
    match settings:
        case WebhookKeys():
            kind, address = "webhook", settings.webhook
        case PaperlessSettings():
            kind, address = "paperless", settings.paperless
        case NtfyChannel():
            kind, address = "ntfy", settings.ntfy
        case _:
            return  # a program, or a mailbox, whose password is never sent unencrypted
    if isinstance(address, UnsetVariable):
        return
    parts = urlsplit(address)
    if not is_readable_on_its_way(address):
        return
    host, what = parts.hostname or "", "record" if noun == "sink" else "message"
    if settings.token or settings.token_file or parts.username:
        secret = "token" if settings.token or settings.token_file else "password"
        found = f"its {secret} is sent to {host} unencrypted: everyone on the network can read it and every {what}"
    elif isinstance(settings, WebhookKeys) and (settings.secret or settings.secret_file):
        found = (
            f"its signed {what}s are sent to {host} unencrypted: the signature does not keep anyone from reading them"
        )
    else:
        return
    setting = f"{section}.{name}.{kind}"
    advice = f"put a TLS proxy (Caddy, nginx) in front of {host}, then set {setting} to its https:// address"
    yield Exposed(noun, name, setting, host, found, advice)
