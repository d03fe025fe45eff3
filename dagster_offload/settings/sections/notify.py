"""The section `notify` of the pipeline file: who is notified of what."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from dagster_offload.settings.sections.recipients import (
    Address,
    WebhookKeys,
    by_kind,
    mistake,
    refuse_unusual_names,
)
from dagster_offload.settings.sections.section import AbsolutePath, Arguments, Section
from dagster_offload.settings.sections.unset import Unset

SECTION = "notify"
Event = Literal["done", "needs_you", "misconfigured", "away"]
EVENTS: tuple[Event, ...] = ("done", "needs_you", "misconfigured", "away")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _listed(value: Any) -> Any:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class ChannelSettings(Section):
    """What every channel has."""

    events: Annotated[tuple[Event, ...], BeforeValidator(_listed), Field(min_length=1)] = Field(
        default=EVENTS, description="which events it is notified of: done, needs_you, misconfigured, away"
    )
    away_days: float = Field(
        default=3.0, gt=0, le=365, description="days that a slot is unavailable, with work due, before `away`"
    )
    names: bool = Field(default=True, description="false: messages count documents, and do not name them")
    timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds for one message")


class CommandChannel(ChannelSettings):
    """A program that gets each message as JSON on its standard input. No shell is involved."""

    command: Arguments = Field(min_length=1, description="the program and its arguments: [/usr/local/bin/notify-me]")


class WebhookChannel(WebhookKeys, ChannelSettings):
    """An address to which each message is posted as JSON, with a signature of the Standard Webhooks."""


class NtfyChannel(ChannelSettings):
    """A topic of an ntfy server, which shows each message on phones and desktops that subscribe to it."""

    ntfy: Address | Unset = Field(repr=False, description="address of the topic: https://ntfy.sh/TOPIC")
    token: SecretStr | Unset | None = Field(default=None, description="access token")
    token_file: AbsolutePath | None = Field(default=None, description="file that contains the access token")


class EmailChannel(ChannelSettings):
    """A mailbox that gets each message through an SMTP server."""

    email: str = Field(pattern=r"^[^@\s,<>]+@[^@\s,<>]+$", description="address of the recipient")
    server: str = Field(pattern=r"^[^\s/@]+$", description="host name of the SMTP server")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="its port; unset = 587, 465 with tls, 25 with none"
    )
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="how the connection is encrypted"
    )
    sender: str | None = Field(
        default=None, pattern=r"^[^@\s,<>]+@[^@\s,<>]+$", description="address of the sender; unset = the recipient's"
    )
    user: str | None = Field(default=None, description="user name at the server; unset = no log-in")
    password: SecretStr | Unset | None = Field(default=None, description="password of the user")
    password_file: AbsolutePath | None = Field(default=None, description="file that contains the password")

    @field_validator("server")
    @classmethod
    def _server_is_without_a_port(cls, server: str) -> str:
        host, _, port = server.rpartition(":")
        if port.isdecimal() and (":" not in host or host.endswith("]")):  # other colons belong to an IPv6 address
            host = f"'{host[1:-1]}'" if host.startswith("[") else host  # as YAML and the mail channel read it
            raise ValueError(f"must be a host name without a port: write server: {host}, port: {port}")
        return server

    @model_validator(mode="after")
    def _password_is_encrypted(self) -> "EmailChannel":
        if self.security == "none" and self.user is not None and self.server not in _LOOPBACK:
            raise mistake("with a user, security must be starttls or tls: the password would be readable on its way")
        return self


AnyChannel = CommandChannel | WebhookChannel | NtfyChannel | EmailChannel

CHANNEL_KINDS: Mapping[str, type[Section]] = {
    "command": CommandChannel,
    "webhook": WebhookChannel,
    "ntfy": NtfyChannel,
    "email": EmailChannel,
}


def _channel(written: Any) -> Section:
    return by_kind(written, CHANNEL_KINDS, "channel")


class NotifySection(Section):
    """The channels by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[AnyChannel, BeforeValidator(_channel)]] = Field(init=False)

    @model_validator(mode="after")
    def _names(self) -> "NotifySection":
        refuse_unusual_names(self.__pydantic_extra__, "channel")
        return self
