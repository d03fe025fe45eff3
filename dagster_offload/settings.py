"""`OFFLOAD_*` from the environment or `.env` into one frozen `Settings`; the only reader of the environment."""

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
from dagster_offload.slot.config import DEEP, MAX_CONCURRENCY, PRIMARY, SLOT_NAMES, SlotConfig, Slots, variable

# What `..._EXTRA_BODY` cannot change: whom to ask is a setting of its own, the question is ours, nothing is streamed.
KEYS_OF_OUR_OWN = frozenset({"model", "messages", "stream"})


class OwnEnvFile(DotEnvSettingsSource):
    """`.env` of the working folder, which may be anybody's: read only where no other user can have written the file."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            opened = file_path.open(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{file_path.absolute()} cannot be read: {error.strerror}") from error
        with opened as file:
            # The opened file is judged, so it cannot be another one by the time it is read.
            reason = stranger(os.fstat(file.fileno()), me())
            if reason is not None:
                raise SettingsError(
                    f"{file_path.absolute()} {reason}, and its settings would be used as yours: remove it, work in another "
                    f"folder, or check what is in it and make it your own (chown {os.geteuid()} .env; chmod go-w .env)"
                )
            return {name.lower(): value for name, value in dotenv_values(stream=file).items() if value}


def default_home() -> Path:
    """The platform's data folder; for root one that the unprivileged user behind its Postgres can reach."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/dagster-offload")
    return Path(platformdirs.user_data_dir("dagster-offload", appauthor=False))


Concurrency = Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | Literal["auto"]


class SlotSettings(BaseModel):
    """One slot's `OFFLOAD_<SLOT>_*`. Without a URL there is no such slot."""

    model_config = ConfigDict(frozen=True)

    url: str | None = Field(default=None, repr=False, description="the router or server, with or without /v1")
    model: str | None = Field(default=None, description="the model alias to ask it for")
    expected_model: str | None = Field(default=None, description="regular expression the served model must match")
    api_key: SecretStr | None = Field(default=None, description="bearer token")
    api_key_file: Path | None = Field(default=None, description="a file that holds the bearer token instead")
    ca_file: Path | None = Field(default=None, description="certificates (PEM) to trust instead of the system's")
    concurrency: Concurrency = Field(
        default=1, description="completions open at once, over all workers; auto = find out"
    )
    max_call_seconds: float = Field(default=120.0, gt=0, description="what a call may take on average with `auto`")
    health_path: str = Field(default="/health", description="the health probe")
    connect_timeout: float = Field(default=3.0, gt=0, le=60, description="seconds")
    read_timeout: float = Field(default=900.0, gt=0, description="seconds for one whole answer")
    context_tokens: int | None = Field(
        default=None, ge=512, description="the model's context; unset = what its server reports, at most 32768"
    )
    extra_body: SecretStr | None = Field(default=None, description="JSON object merged into each completion's body")

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
            raise ValueError("must start with http:// or https:// and name a host")
        try:
            parts = urlsplit(value)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:  # its words may quote a password
            is_address = False
        if not is_address:
            raise ValueError("must name a host and, if any, a port from 1 to 65535: http://macbook.local:8890")
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
            if ours := sorted(KEYS_OF_OUR_OWN & body.keys()):
                raise ValueError(f"must not hold {', '.join(ours)}: that is for this program to say")
        return value

    def config(self, name: str) -> SlotConfig | None:
        """The slot under this name; None without a URL. Raises `SettingsError` for a URL without a model."""
        if self.url is None:
            return None
        if self.model is None:
            url, model = variable(name, "url"), variable(name, "model")
            raise SettingsError(f"{url} is set, {model} is not: name the model alias to ask for")
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
            raise SettingsError(f"{variable(slot, 'api_key')} and {setting} are both set: unset one of them")
        try:
            return self.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{setting}: {self.api_key_file} cannot be read: {reason}") from None


class Settings(BaseSettings):
    """Every option of dagster_offload. Use `load_settings`, which turns a wrong value into a `SettingsError`."""

    model_config = SettingsConfigDict(
        env_prefix="OFFLOAD_",
        env_file=".env",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        env_nested_delimiter="_",  # OFFLOAD_DEEP_API_KEY is the field `api_key` of `deep`
        env_nested_max_split=1,
    )

    home: Path = Field(default_factory=default_home, description="where the ledger, Dagster's state and logs live")
    library: Path | None = Field(None, description="the folder of documents")
    library_cross_mounts: bool = Field(
        False, description="also read other file systems that are mounted below the library"
    )
    postgres_url: SecretStr | None = Field(None, description="your own Postgres; unset = an embedded one in the home")

    deep: SlotSettings = Field(SlotSettings(), description="the big model that is only sometimes there")
    primary: SlotSettings = Field(SlotSettings(), description="a small model that is always on (optional)")

    any_stages: str = Field("", description="stages that `primary` may do too, comma-separated: classify,summarize")
    classes: str = Field("", description="document classes, comma-separated; `other` is always added")
    language: str = Field(
        "", description="language records are written in: `ko`, `English`; unset = the document's own"
    )
    ocr: Literal["auto", "off"] = Field("auto", description="read pictures of text where Tesseract is installed")
    ocr_languages: str = Field(
        "kor+eng", pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$", description="Tesseract's names of languages, joined by +"
    )
    max_file_size: ByteSize = Field(
        ByteSize(512 * 1024**2),
        gt=0,
        description="a larger file is not read: it is a failed document (`2GiB`, `500MB`)",
    )
    retry_after_minutes: float = Field(30.0, gt=0, le=360, description="the wait after a deferral that named no time")
    prefork: Literal["auto", "off"] = Field(
        "auto", description="off: start run processes without the prefork server (docs/decisions/0004-prefork.md)"
    )
    scan_interval: float = Field(60.0, ge=1, description="seconds between two looks at the library")

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
        """The configured slots. Raises `SettingsError` for a URL without a model, naming the variable."""
        return Slots(primary=self.primary.config(PRIMARY), deep=self.deep.config(DEEP))


def _absolute_path(path: Path | None) -> Path | None:
    # Without its `..`, so that a path below it is seen to be one; links stay as the owner named them.
    return None if path is None else Path(os.path.abspath(path.expanduser()))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once; keyword arguments (a command's options) go before the environment.

    Raises `SettingsError` naming every variable that is wrong.
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
    """Raise `SettingsError` where another user may have written into the home.

    Dagster's own settings lie there, and they name code to run. An empty folder is harmless; its mode is set when it is
    first used.
    """
    try:
        status = home.stat()
        names = os.listdir(home) if stat.S_ISDIR(status.st_mode) else []
    except OSError:  # it does not exist yet, or cannot be used: the first command that uses it says so
        return
    reason = belongs_to_other(status, me()) or (others_may_write(status, me()) if names else None)
    if reason is not None:
        raise SettingsError(
            f"OFFLOAD_HOME {home} {reason}, and what is in it runs as you: name a folder of your own, "
            f"or check what is in it and take the right away (chmod go-w {home})"
        )


def _by_slot(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`deep_url=...` as `deep={"url": ...}`; None = not given."""
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
