"""The section `on_record` of the pipeline file: where each finished record is sent."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from dagster_offload.settings.sections.recipients import (
    Address,
    WebhookKeys,
    by_kind,
    refuse_unusual_names,
)
from dagster_offload.settings.sections.section import AbsolutePath, Arguments, Section
from dagster_offload.settings.sections.unset import Unset
from dagster_offload.text.normal_form import in_nfc

SECTION = "on_record"

# In the form of Unicode that the names of fields have.
ColumnName = Annotated[str, AfterValidator(in_nfc)]


class SinkSettings(Section):
    """What every sink has."""

    timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds for one record")
    existing: bool = Field(default=True, description="also send the records that exist when the sink is added")


class CommandSettings(SinkSettings):
    """A program that gets each record as JSON on its standard input. No shell is involved."""

    command: Arguments = Field(
        min_length=1, description="the program and its arguments: [/usr/local/bin/file-it, --quiet]"
    )


class WebhookSettings(WebhookKeys, SinkSettings):
    """An address to which each record is posted as JSON, with a signature of the Standard Webhooks."""


class PaperlessSettings(SinkSettings):
    """A Paperless-ngx server: fields of a record become the metadata of the same document there.

    The values of `title` to `note` are names of columns of the records, such as `payment.due`.
    """

    paperless: Address | Unset = Field(repr=False, description="address of Paperless-ngx")
    token: SecretStr | Unset | None = Field(default=None, description="API token of a Paperless user")
    token_file: AbsolutePath | None = Field(default=None, description="file that contains the API token")
    match: Literal["checksum", "path"] = Field(
        default="checksum", description="find the document by the checksum of its file, or by its file name and path"
    )
    title: ColumnName | None = Field(default="title", description="column for the title")
    created: ColumnName | None = Field(default=None, description="column for the date")
    correspondent: ColumnName | None = Field(default=None, description="column for the correspondent")
    document_type: ColumnName | None = Field(default="category", description="column for the document type")
    tags: tuple[ColumnName, ...] = Field(default=(), description="columns whose values become tags")
    always_tags: tuple[str, ...] = Field(default=(), description="tags that every document gets")
    custom_fields: Mapping[str, ColumnName] = Field(default={}, description="custom fields by name, and their columns")
    note: ColumnName | None = Field(default=None, description="column for a note")
    create: bool = Field(default=True, description="create missing correspondents, types, tags and custom fields")
    overwrite: bool = Field(default=False, description="also replace what a person has set in Paperless")

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that are used, by the key that names them."""
        single = {key: getattr(self, key) for key in ("title", "created", "correspondent", "document_type", "note")}
        named = {key: column for key, column in single.items() if column is not None}
        listed = {f"tags.{index}": column for index, column in enumerate(self.tags)}
        return named | listed | {f"custom_fields.{name}": column for name, column in self.custom_fields.items()}


SINK_KINDS: Mapping[str, type[SinkSettings]] = {
    "command": CommandSettings,
    "webhook": WebhookSettings,
    "paperless": PaperlessSettings,
}


def _sink(written: Any) -> Section:
    return by_kind(written, SINK_KINDS, "sink")


AnySink = CommandSettings | WebhookSettings | PaperlessSettings


class SinksSection(Section):
    """The sinks by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[AnySink, BeforeValidator(_sink)]] = Field(init=False)

    @model_validator(mode="after")
    def _names(self) -> "SinksSection":
        refuse_unusual_names(self.__pydantic_extra__, "sink")
        return self
