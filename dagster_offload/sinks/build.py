"""From the settings of a sink to the sink. Columns that records do not have, and secrets that are missing, are named."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

from dagster_offload.errors import SettingsError
from dagster_offload.records.columns import columns, flat
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.sinks import (
    SECTION,
    CommandSettings,
    PaperlessSettings,
    WebhookSettings,
    secret_of,
)
from dagster_offload.settings.sections.unset import needed
from dagster_offload.sinks.command import Command
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.message import Message
from dagster_offload.sinks.paperless import Paperless
from dagster_offload.sinks.webhook import Webhook
from dagster_offload.text.suggestions import nearest


class Sink(Protocol):
    """Takes records, one at a time."""

    def send(self, message: Message) -> Mapping[str, Any] | None:
        """Return when the record has arrived, with what was written elsewhere. Raises `SinkFault`."""

    def test(self, message: Message) -> str:
        """Try a sample, and return what is to be known. Raises `SinkFault`."""

    def cancel(self) -> None:
        """End a `send` in another thread early, where that is possible."""


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


@dataclass(frozen=True)
class Unbuilt:
    """A sink whose settings are wrong, or whose secret cannot be read. Its records wait with that reason.

    It is built at a try, so a file with a secret that is there later is found.
    """

    settings: Settings
    name: str

    def send(self, message: Message) -> Mapping[str, Any] | None:
        """Send if the sink can be built now. Raises `SinkFault`."""
        try:
            return self._built.send(message)
        except SinkFault as fault:
            if fault.blame is Blame.MISCONFIGURED:  # perhaps by what the file contained
                self.__dict__.pop("_built", None)
            raise

    def test(self, message: Message) -> str:
        """Try a sample if the sink can be built now. Raises `SinkFault`."""
        return self._built.test(message)

    def cancel(self) -> None:
        """End a `send` in another thread early, where that is possible."""
        if (built := self.__dict__.get("_built")) is not None:
            built.cancel()

    @cached_property
    def _built(self) -> Sink:
        """Kept once it works, because each TLS context takes longer than a request."""
        try:
            return build(self.settings, self.name)
        except SettingsError as error:
            raise SinkFault(Blame.MISCONFIGURED, "; ".join(map(str, error.args))) from None


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
            near = nearest(column, types)
            hint = f"did you mean {near}?" if near else f"use one of {', '.join(types)}"
            raise SettingsError(f"{SECTION}.{name}.{key}: records have no column {column!r}: {hint}")
    return Paperless(sink, token, settings.library, partial(flat, every=every), types)
