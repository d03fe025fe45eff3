"""Which sinks and channels send a secret, or something that is signed with one, unencrypted beyond this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dagster_offload.settings.sections import notify, sinks
from dagster_offload.settings.sections.notify import AnyChannel, NtfyChannel
from dagster_offload.settings.sections.sinks import AnySink, PaperlessSettings, WebhookKeys
from dagster_offload.slot.addresses import is_readable_on_its_way

if TYPE_CHECKING:
    from dagster_offload.settings.model import Settings


@dataclass(frozen=True)
class Exposed:
    """A sink or channel with a plain HTTP address. It has no secret in it, and not the path of the address."""

    noun: str  # sink or channel
    name: str
    setting: str  # of its address: on_record.archive.webhook
    host: str
    found: str  # what everyone on the network can do


def exposed(settings: "Settings") -> Iterator[Exposed]:
    """The sinks and channels whose token, password or signed messages everyone on the network can read."""
    for name, sink in settings.sinks.items():
        yield from _exposed("sink", name, sinks.SECTION, sink)
    for name, channel in settings.channels.items():
        yield from _exposed("channel", name, notify.SECTION, channel)


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
    yield Exposed(noun, name, f"{section}.{name}.{kind}", host, found)
