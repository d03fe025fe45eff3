"""From the settings of a sink to the sink. Columns that records do not have, and secrets that are missing, are named."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from dagster_offload.errors import SettingsError
from dagster_offload.records.columns import columns, flat
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.recipients import secret_of
from dagster_offload.settings.sections.sinks import SECTION, CommandSettings, PaperlessSettings, WebhookSettings
from dagster_offload.settings.sections.unset import needed
from dagster_offload.sinks.command import Command
from dagster_offload.sinks.message import Message
from dagster_offload.sinks.paperless import Paperless
from dagster_offload.sinks.recipient import Recipient
from dagster_offload.sinks.webhook import Webhook
from dagster_offload.text.suggestions import use_one_of

RecordRecipient = Recipient[Message, Mapping[str, Any] | None]


class Sink(RecordRecipient, Protocol):
    """Takes records, one at a time."""

    def test(self, message: Message) -> str:
        """Try a sample, and return what is to be known. Raises `SinkFault`."""


def build(settings: Settings, name: str) -> Sink:
    """The sink of this name. Raises `SettingsError`."""
    sink = settings.sinks[name]
    match sink:
        case CommandSettings():
            return Command(sink.command, sink.timeout, settings.home)
        case WebhookSettings():
            section = f"{SECTION}.{name}"
            secret, token = secret_of(section, sink, "secret"), secret_of(section, sink, "token")
            return Webhook(needed(sink.webhook), secret, token, sink.timeout)
        case PaperlessSettings():
            return _paperless(settings, name, sink)


def _paperless(settings: Settings, name: str, sink: PaperlessSettings) -> Paperless:
    token = secret_of(f"{SECTION}.{name}", sink, "token")
    if not token:
        raise SettingsError(
            f"{SECTION}.{name} needs a token: set token to ${{VARIABLE}}, or token_file to a file that contains it"
        )
    every = columns(settings)
    types = {column.name: column.type for column in every}
    for key, column in sink.columns.items():
        if column not in types:
            hint = use_one_of(column, types)
            raise SettingsError(f"{SECTION}.{name}.{key}: records have no column {column!r}: {hint}")
    return Paperless(sink, token, settings.library, partial(flat, every=every), types)
