"""From the settings of a channel to the channel. Secrets that cannot be read are named."""

from dagster_offload.errors import SettingsError
from dagster_offload.notify.channel_message import ChannelMessage
from dagster_offload.notify.mail import Mail
from dagster_offload.notify.ntfy import Ntfy
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.notify import SECTION, CommandChannel, EmailChannel, NtfyChannel, WebhookChannel
from dagster_offload.settings.sections.recipients import secret_of
from dagster_offload.settings.sections.unset import needed
from dagster_offload.sinks.command import Command
from dagster_offload.sinks.recipient import Recipient
from dagster_offload.sinks.webhook import Webhook

Channel = Recipient[ChannelMessage, None]


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
