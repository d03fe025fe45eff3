"""The section `on_record` of the pipeline file: where each finished record is sent."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from dagster_offload.errors import SettingsError
from dagster_offload.settings.sections.secrets import secret_from
from dagster_offload.settings.sections.section import AbsolutePath, Section
from dagster_offload.settings.sections.unset import Unset, needed
from dagster_offload.slot.addresses import is_allowed_in_header
from dagster_offload.text.suggestions import suggestion, use_one_of

SECTION = "on_record"
SECRET_KEYS = ("secret", "token", "password")
ADDRESS_KEYS = ("webhook", "paperless", "ntfy")
FILE_KEYS = ("secret_file", "token_file", "password_file")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def _address(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message may quote a password
        is_address = False
    if not is_address:
        raise ValueError("must start with http:// or https://, followed by a host")
    return value


def _arguments(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_address)]
Arguments = Annotated[tuple[str, ...], BeforeValidator(_arguments), Field(min_length=1)]


class SinkSettings(Section):
    """What every sink has."""

    timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds for one record")
    existing: bool = Field(default=True, description="also send the records that exist when the sink is added")


class CommandSettings(SinkSettings):
    """A program that gets each record as JSON on its standard input. No shell is involved."""

    command: Arguments = Field(description="the program and its arguments: [/usr/local/bin/file-it, --quiet]")


class WebhookKeys(Section):
    """The keys of a webhook, for records or for notifications."""

    webhook: Address | Unset = Field(
        repr=False, description="the address; it is never shown whole, because it may be a secret"
    )
    secret: SecretStr | Unset | None = Field(default=None, description="key of the signature (HMAC-SHA256)")
    secret_file: AbsolutePath | None = Field(default=None, description="file that contains the key of the signature")
    token: SecretStr | Unset | None = Field(default=None, description="bearer token")
    token_file: AbsolutePath | None = Field(default=None, description="file that contains the bearer token")


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
    title: str | None = Field(default="title", description="column for the title")
    created: str | None = Field(default=None, description="column for the date")
    correspondent: str | None = Field(default=None, description="column for the correspondent")
    document_type: str | None = Field(default="category", description="column for the document type")
    tags: tuple[str, ...] = Field(default=(), description="columns whose values become tags")
    always_tags: tuple[str, ...] = Field(default=(), description="tags that every document gets")
    custom_fields: Mapping[str, str] = Field(default={}, description="custom fields by name, and their columns")
    note: str | None = Field(default=None, description="column for a note")
    create: bool = Field(default=True, description="create missing correspondents, types, tags and custom fields")
    overwrite: bool = Field(default=False, description="also replace what a person has set in Paperless")

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that are used, by the key that names them."""
        single = {key: getattr(self, key) for key in ("title", "created", "correspondent", "document_type", "note")}
        named = {key: column for key, column in single.items() if column is not None}
        listed = {f"tags.{index}": column for index, column in enumerate(self.tags)}
        return named | listed | {f"custom_fields.{name}": column for name, column in self.custom_fields.items()}


KINDS: Mapping[str, type[SinkSettings]] = {
    "command": CommandSettings,
    "webhook": WebhookSettings,
    "paperless": PaperlessSettings,
}


def kind_of(settings: SinkSettings) -> str:
    """The kind of a sink: command, webhook or paperless."""
    return next(kind for kind, model in KINDS.items() if type(settings) is model)


def by_kind(written: Any, kinds: Mapping[str, type[Section]], noun: str) -> Section:
    """The settings of one sink or channel, whose kind is the key that it has: `command` or `webhook`, for example.

    `noun` names it in errors: `sink`. Raises `PydanticCustomError`.
    """
    if not isinstance(written, Mapping):
        raise mistake(f"must be a section with one of the keys {', '.join(kinds)}")
    found = [kind for kind in kinds if written.get(kind) is not None]
    if len(found) != 1:
        hints = [hint for key in written if (hint := suggestion(str(key), kinds))]
        hint = hints[0] if hints and not found else ""
        raise mistake(f"must have exactly one of the keys {', '.join(kinds)}{hint}")
    model = kinds[found[0]]
    try:
        return model.model_validate(written)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        key = str(fault["loc"][0]) if fault["loc"] else found[0]
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            hint = use_one_of(key, model.model_fields)
            message = f"a {found[0]} {noun} has no key {key!r}: {hint}"
        raise mistake(message, *fault["loc"]) from None


def mistake(message: str, *path: str | int) -> PydanticCustomError:
    """An error at a key below the section that is validated."""
    return PydanticCustomError("sink", "{message}", {"message": message, "path": path})


def refuse_unusual_names(names: Iterable[str], noun: str) -> None:
    """Raise `PydanticCustomError` for a name that cannot be used in commands and columns."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise mistake(f"a {noun}'s name has at most 40 lower-case letters, digits, - and _", name)


def _sink(written: Any) -> Section:
    return by_kind(written, KINDS, "sink")


AnySink = CommandSettings | WebhookSettings | PaperlessSettings


class SinksSection(Section):
    """The sinks by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[AnySink, BeforeValidator(_sink)]] = Field(init=False)

    @model_validator(mode="after")
    def _names(self) -> "SinksSection":
        refuse_unusual_names(self.__pydantic_extra__, "sink")
        return self


def secret_of(section: str, settings: Section, key: str) -> str | None:
    """The secret `key` (`token`, for example) of a section, given as such or as a file; None if it is not set.

    Raises `SettingsError`, which names the section, or the variable that is not set.
    """
    given: SecretStr | None = needed(getattr(settings, key))
    file: Path | None = getattr(settings, f"{key}_file")
    where = f"{section}.{key}"
    found = secret_from(given, file, where, f"{where}_file")
    if found == "":
        raise SettingsError(f"{where}_file: {file} is empty" if file else f"{where} is empty: set it, or remove it")
    if key == "token" and found is not None and not is_allowed_in_header(found):
        raise SettingsError(f"{where} contains characters that are not allowed in an HTTP header")
    return found
