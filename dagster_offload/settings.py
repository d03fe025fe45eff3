"""Reads `OFFLOAD_*` from the environment or `.env` into one frozen `Settings`. Nothing else reads the environment."""

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from dotenv import dotenv_values
from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dagster_offload.errors import SettingsError
from dagster_offload.host.ownership import belongs_to_other, me, others_may_write, stranger
from dagster_offload.library.sizes import DEFAULT_MAX_BYTES
from dagster_offload.slot.config import DEEP, MAX_CONCURRENCY, PRIMARY, SLOT_NAMES, SlotConfig, Slots, variable

# Enough for the answers of a night and for Postgres' write-ahead log (at most 256 MB).
DEFAULT_MIN_FREE_BYTES = 512 * 1024**2
# Keys that `..._EXTRA_BODY` cannot change: the model has its own setting, this program writes the messages, and nothing
# is streamed.
RESERVED_BODY_KEYS = frozenset({"model", "messages", "stream"})


class OwnEnvFile(DotEnvSettingsSource):
    """The `.env` of the working folder. It is read only if no other user can have written it."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            opened = file_path.open(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{file_path.absolute()} cannot be read: {error.strerror}") from error
        with opened as file:
            # The check uses the open file, so the file cannot be exchanged between check and read.
            reason = stranger(os.fstat(file.fileno()), me())
            if reason is not None:
                raise SettingsError(
                    f"{file_path.absolute()} {reason}, so another user can choose your settings: remove the file, work in "
                    f"another folder, or check its content and make it yours (chown {os.geteuid()} .env; chmod go-w .env)"
                )
            return {name.lower(): value for name, value in dotenv_values(stream=file).items() if value}


def default_home() -> Path:
    """The platform's data folder. For root, a folder that the unprivileged user of its Postgres can reach."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/dagster-offload")
    return Path(platformdirs.user_data_dir("dagster-offload", appauthor=False))


Concurrency = Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | Literal["auto"]


class SlotSettings(BaseModel):
    """The settings `OFFLOAD_<SLOT>_*` of one slot. A slot without a URL is not configured."""

    model_config = ConfigDict(frozen=True)

    url: str | None = Field(default=None, repr=False, description="URL of the router or server, with or without /v1")
    model: str | None = Field(default=None, description="model name to send in requests")
    expected_model: str | None = Field(default=None, description="regular expression that the served model must match")
    api_key: SecretStr | None = Field(default=None, description="bearer token")
    api_key_file: Path | None = Field(default=None, description="file that contains the bearer token")
    ca_file: Path | None = Field(
        default=None, description="certificates (PEM) to trust instead of the system's certificates"
    )
    concurrency: Concurrency = Field(
        default=1, description="completions open at once, over all workers; auto = find the best number"
    )
    max_call_seconds: float = Field(default=120.0, gt=0, description="longest average call, in seconds, with `auto`")
    health_path: str = Field(default="/health", description="path of the health probe")
    connect_timeout: float = Field(default=3.0, gt=0, le=60, description="seconds to connect")
    read_timeout: float = Field(default=900.0, gt=0, description="seconds for one complete answer")
    context_tokens: int | None = Field(
        default=None,
        ge=512,
        description="context size of the model, in tokens; unset = the size its server reports, at most 32768",
    )
    extra_body: SecretStr | None = Field(default=None, description="JSON object merged into each request body")

    @field_validator("api_key_file", "ca_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return _absolute_path(value)

    @field_validator("url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.match(r"^https?://[^/\s]+", value):
            raise ValueError("must start with http:// or https://, followed by a host")
        try:
            parts = urlsplit(value)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:  # its message may quote a password
            is_address = False
        if not is_address:
            raise ValueError("must name a host, and if it names a port, one from 1 to 65535: http://macbook.local:8890")
        return re.sub(r"/v1$", "", value.rstrip("/"))

    @field_validator("expected_model")
    @classmethod
    def _regular_expression(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is not a regular expression: {error}") from error
        return value

    @field_validator("extra_body")
    @classmethod
    def _extra_body(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                body = json.loads(value.get_secret_value())
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise ValueError("""must be a JSON object, such as '{"top_p": 0.8}'""")
            if reserved := sorted(RESERVED_BODY_KEYS & body.keys()):
                raise ValueError(f"must not contain {', '.join(reserved)}: this program sets them itself")
        return value

    def config(self, name: str) -> SlotConfig | None:
        """The slot's configuration, or None without a URL. Raises `SettingsError` for a URL without a model."""
        if self.url is None:
            return None
        if self.model is None:
            url, model = variable(name, "url"), variable(name, "model")
            raise SettingsError(f"{url} is set, but {model} is not: set it to the model name to send in requests")
        return SlotConfig(
            name=name,
            url=self.url,
            model=self.model,
            api_key=self._key(name),
            ca_file=None if self.ca_file is None else str(self.ca_file),
            extra_body={} if self.extra_body is None else json.loads(self.extra_body.get_secret_value()),
            **self.model_dump(exclude={"url", "model", "api_key", "api_key_file", "ca_file", "extra_body"}),
        )

    def _key(self, slot: str) -> str | None:
        if self.api_key_file is None:
            return None if self.api_key is None else self.api_key.get_secret_value()
        setting = variable(slot, "api_key_file")
        if self.api_key is not None:
            raise SettingsError(f"{variable(slot, 'api_key')} and {setting} are both set: unset one")
        try:
            return self.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{setting}: {self.api_key_file} cannot be read: {reason}") from None


class Settings(BaseSettings):
    """All settings of dagster_offload. Create them with `load_settings`, which raises `SettingsError` for wrong values."""

    model_config = SettingsConfigDict(
        env_prefix="OFFLOAD_",
        env_file=".env",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        env_nested_delimiter="_",  # OFFLOAD_DEEP_API_KEY is the field `api_key` of `deep`
        env_nested_max_split=1,
    )

    home: Path = Field(default_factory=default_home, description="folder of the ledger, Dagster's state and the logs")
    library: Path | None = Field(None, description="folder of documents")
    library_cross_mounts: bool = Field(False, description="also read file systems that are mounted below the library")
    postgres_url: SecretStr | None = Field(
        None, description="URL of your own Postgres; unset = an embedded Postgres in the home"
    )

    deep: SlotSettings = Field(SlotSettings(), description="the large model that is sometimes available")
    primary: SlotSettings = Field(SlotSettings(), description="a small model that is always on (optional)")

    any_stages: str = Field("", description="stages that `primary` may also run, comma-separated: classify,summarize")
    classes: str = Field("", description="document classes, comma-separated; `other` is always added")
    language: str = Field("", description="language of the records: `ko`, `English`; unset = the document's language")
    ocr: Literal["auto", "off"] = Field("auto", description="auto = read text in images if Tesseract is installed")
    ocr_languages: str = Field(
        "kor+eng", pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$", description="Tesseract language codes, joined by +"
    )
    max_file_size: ByteSize = Field(
        ByteSize(DEFAULT_MAX_BYTES),
        gt=0,
        description="a larger file is not read and its document fails (`2GiB`, `500MB`)",
    )
    min_free_disk: ByteSize = Field(
        ByteSize(DEFAULT_MIN_FREE_BYTES),
        ge=0,
        description="free space that the disk of the embedded Postgres must have before work is started",
    )
    keep_history_days: int = Field(
        365, ge=30, description="days for which calls, changes of state, workers and reported events are kept"
    )
    keep_history_rows: int = Field(
        10_000_000, ge=1_000, description="most calls, and most changes of state, that are kept"
    )
    keep_runs_days: int = Field(90, ge=1, description="days for which Dagster's runs and their logs are kept")
    keep_runs: int = Field(10_000, ge=100, description="most finished runs that are kept")
    keep_gone_days: int | None = Field(
        None, ge=1, description="days after which the results of a document that is gone are removed; unset = never"
    )
    retry_after_minutes: float = Field(
        30.0, gt=0, le=360, description="wait after a deferral for which the slot sent no time, in minutes"
    )
    prefork: Literal["auto", "off"] = Field(
        "auto", description="off: start run processes without the prefork server (docs/decisions/0004-prefork.md)"
    )
    scan_interval: float = Field(60.0, ge=1, description="seconds between two checks of the library for changes")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, OwnEnvFile(settings_cls)

    @field_validator("home", "library")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return _absolute_path(value)

    @property
    def slots(self) -> Slots:
        """The configured slots. Raises `SettingsError`, which names the variable, for a URL without a model."""
        return Slots(primary=self.primary.config(PRIMARY), deep=self.deep.config(DEEP))


def _absolute_path(path: Path | None) -> Path | None:
    # Removes `..`, so that prefix checks on paths below it work. Symbolic links are not resolved.
    return None if path is None else Path(os.path.abspath(path.expanduser()))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once. Keyword arguments (a command's options) override the environment.

    Raises `SettingsError`, which names every wrong variable.
    """
    try:
        settings = Settings(**_by_slot(overrides))
    except ValidationError as error:
        problems = [f"{_variable_of(e['loc'])}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise SettingsError("; ".join(problems)) from None
    _ = settings.slots  # a URL without its model is reported here, before anything starts
    refuse_home_of_others(settings.home)
    return settings


def refuse_home_of_others(home: Path) -> None:
    """Raise `SettingsError` if another user may have written into the home.

    The home holds Dagster's own settings, which name code to run. An empty folder is harmless; its mode is set on first
    use.
    """
    try:
        status = home.stat()
        names = os.listdir(home) if stat.S_ISDIR(status.st_mode) else []
    except OSError:  # it does not exist yet, or cannot be used: the first command that uses it reports that
        return
    reason = belongs_to_other(status, me()) or (others_may_write(status, me()) if names else None)
    if reason is not None:
        raise SettingsError(
            f"OFFLOAD_HOME {home} {reason}, and code named in it runs as you: choose a folder of your own, "
            f"or check its content and remove the write permission of others (chmod go-w {home})"
        )


def _by_slot(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Turns `deep_url=...` into `deep={"url": ...}`. A value of None means that the option was not given."""
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        slot, _, field = name.partition("_")
        if value is None:
            continue
        if slot in SLOT_NAMES and field:
            given.setdefault(slot, {})[field] = value
        else:
            given[name] = value
    return given


def _variable_of(location: Sequence[int | str]) -> str:
    parts = [str(part) for part in location[: 2 if location[0] in SLOT_NAMES else 1]]
    return f"OFFLOAD_{'_'.join(parts).upper()}"
