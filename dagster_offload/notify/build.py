"""From the settings of a channel to the channel. Secrets that cannot be read are named."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dagster_offload.errors import SettingsError
from dagster_offload.notify.channel_message import ChannelMessage
from dagster_offload.notify.mail import Mail
from dagster_offload.notify.ntfy import Ntfy
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.notify import SECTION, CommandChannel, EmailChannel, NtfyChannel, WebhookChannel
from dagster_offload.settings.sections.sinks import secret_of
from dagster_offload.settings.sections.unset import needed
from dagster_offload.sinks.command import Command
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.webhook import Webhook


class Channel(Protocol):
    """Takes messages, one at a time."""

    def send(self, message: ChannelMessage) -> None:
        """Return when the message has arrived. Raises `SinkFault`."""

    def cancel(self) -> None:
        """End a `send` in another thread early, where that is possible."""


def build(settings: Settings, name: str) -> Channel:
    """The channel of this name. Raises `SettingsError`."""
    channel, section = settings.channels[name], f"{SECTION}.{name}"
    match channel:
        case CommandChannel():
            return Command(channel.command, channel.timeout, settings.home)
        case WebhookChannel():
            secret, token = secret_of(section, channel, "secret"), secret_of(section, channel, "token")
            return Webhook(needed(channel.webhook), secret, token, channel.timeout)
        case NtfyChannel():
            return Ntfy(needed(channel.ntfy), secret_of(section, channel, "token"), channel.timeout)
        case EmailChannel():
            password = secret_of(section, channel, "password")
            if (password is None) != (channel.user is None):
                missing = (
                    "a password: set password to ${VARIABLE}, or password_file to a file" if channel.user else "a user"
                )
                raise SettingsError(f"{section} needs {missing}, or neither for a server without log-in")
            return Mail(channel, password)


@dataclass(frozen=True)
class Unbuilt:
    """A channel whose settings are wrong, or whose secret cannot be read. Its messages wait with that reason.

    It is built at a try, so a file with a secret that is there later is found.
    """

    settings: Settings
    name: str

    def send(self, message: ChannelMessage) -> None:
        """Send if the channel can be built now. Raises `SinkFault`."""
        try:
            self._built.send(message)
        except SinkFault as fault:
            if fault.blame is Blame.MISCONFIGURED:  # perhaps by what the file contained
                self.__dict__.pop("_built", None)
            raise

    def cancel(self) -> None:
        """End a `send` in another thread early, where that is possible."""
        if (built := self.__dict__.get("_built")) is not None:
            built.cancel()

    @cached_property
    def _built(self) -> Channel:
        try:
            return build(self.settings, self.name)
        except SettingsError as error:
            raise SinkFault(Blame.MISCONFIGURED, "; ".join(map(str, error.args))) from None
