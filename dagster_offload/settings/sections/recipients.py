"""What sinks and channels have in common in the pipeline file: a name, one kind, an address and secrets."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from dagster_offload.errors import SettingsError
from dagster_offload.settings.sections.secrets import secret_from
from dagster_offload.settings.sections.section import AbsolutePath, Section
from dagster_offload.settings.sections.unset import Unset, needed
from dagster_offload.slot.addresses import has_address, is_allowed_in_header
from dagster_offload.text.suggestions import suggestion, use_one_of
from dagster_offload.text.validation import setting_in_words

SECRET_KEYS = ("secret", "token", "password")
ADDRESS_KEYS = ("webhook", "paperless", "ntfy")
FILE_KEYS = ("secret_file", "token_file", "password_file")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def _address(value: str) -> str:
    if not has_address(value) or urlsplit(value).scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://, followed by a host")
    return value


Address = Annotated[str, AfterValidator(_address)]


class WebhookKeys(Section):
    """The keys of a webhook, for records or for notifications."""

    webhook: Address | Unset = Field(
        repr=False, description="the address; it is never shown whole, because it may be a secret"
    )
    secret: SecretStr | Unset | None = Field(default=None, description="key of the signature (HMAC-SHA256)")
    secret_file: AbsolutePath | None = Field(default=None, description="file that contains the key of the signature")
    token: SecretStr | Unset | None = Field(default=None, description="bearer token")
    token_file: AbsolutePath | None = Field(default=None, description="file that contains the bearer token")


def kind_of(settings: Section, kinds: Mapping[str, type[Section]]) -> str:
    """The kind of a sink or channel: `command` or `webhook`, for example."""
    return next(kind for kind, model in kinds.items() if type(settings) is model)


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
        fault = error.errors(include_url=False)[0]
        key = str(fault["loc"][0]) if fault["loc"] else found[0]
        message = setting_in_words(fault)
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
