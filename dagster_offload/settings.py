"""`OFFLOAD_*` from the environment or `.env` into one frozen `Settings`; the only reader of the environment."""

import dataclasses
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from dagster_offload.errors import SettingsError
from dagster_offload.ownership import belongs_to_other, me, others_may_write, stranger
from dagster_offload.slot.config import DEEP, MAX_CONCURRENCY, PRIMARY, SlotConfig, Slots

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


class Settings(BaseSettings):
    """Every option of dagster_offload. Use `load_settings`, which turns a wrong value into a `SettingsError`."""

    model_config = SettingsConfigDict(
        env_prefix="OFFLOAD_", env_file=".env", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    home: Path = Field(default_factory=default_home, description="where the ledger, Dagster's state and logs live")
    library: Path | None = Field(None, description="the folder of documents")
    library_cross_mounts: bool = Field(
        False, description="also read other file systems that are mounted below the library"
    )
    postgres_url: SecretStr | None = Field(None, description="your own Postgres; unset = an embedded one in the home")

    deep_url: str | None = Field(
        None, repr=False, description="the router in front of the deep slot, with or without /v1"
    )
    deep_model: str | None = Field(None, description="the model alias to ask the router for")
    deep_expected_model: str | None = Field(None, description="regular expression the served model must match")
    deep_api_key: SecretStr | None = Field(None, description="bearer token for the router")
    deep_concurrency: Concurrency = Field(1, description="completions open at once, over all workers; auto = find out")
    deep_max_call_seconds: float = Field(120.0, gt=0, description="what a call may take on average with `auto`")
    deep_health_path: str = Field("/health", description="the router's health probe")
    deep_connect_timeout: float = Field(3.0, gt=0, le=60, description="seconds")
    deep_read_timeout: float = Field(900.0, gt=0, description="seconds for one whole answer")
    deep_context_tokens: int | None = Field(
        None, ge=512, description="the model's context; unset = what its server tells, at most 32768"
    )
    deep_extra_body: SecretStr | None = Field(None, description="JSON object merged into each completion's body")

    primary_url: str | None = Field(None, repr=False, description="a small model that is always on (optional)")
    primary_model: str | None = Field(None, description="its model alias")
    primary_expected_model: str | None = Field(None, description="regular expression its served model must match")
    primary_api_key: SecretStr | None = Field(None, description="its bearer token")
    primary_concurrency: Concurrency = Field(1, description="completions open at once; auto = find out")
    primary_max_call_seconds: float = Field(120.0, gt=0, description="what a call may take on average with `auto`")
    primary_health_path: str = Field("/health", description="its health probe")
    primary_connect_timeout: float = Field(3.0, gt=0, le=60, description="seconds")
    primary_read_timeout: float = Field(900.0, gt=0, description="seconds for one whole answer")
    primary_context_tokens: int | None = Field(None, ge=512, description="its model's context")
    primary_extra_body: SecretStr | None = Field(None, description="JSON object merged into each completion's body")

    any_stages: str = Field("", description="stages that `primary` may do too, comma-separated: classify,summarize")
    classes: str = Field("", description="document classes, comma-separated; `other` is always added")
    language: str = Field(
        "", description="language records are written in: `ko`, `English`; unset = the document's own"
    )
    ocr: Literal["auto", "off"] = Field("auto", description="read pictures of text where Tesseract is installed")
    ocr_languages: str = Field(
        "kor+eng", pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$", description="Tesseract's names of languages, joined by +"
    )
    retry_after_minutes: float = Field(30.0, gt=0, le=360, description="the wait after a deferral that named no time")
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

    @field_validator("deep_url", "primary_url")
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

    @field_validator("deep_expected_model", "primary_expected_model")
    @classmethod
    def _regular_expression(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is not a regular expression: {error}") from error
        return value

    @field_validator("deep_extra_body", "primary_extra_body")
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

    @field_validator("home", "library")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        # Without its `..`, so that a path below it is seen to be one; links stay as the owner named them.
        return None if value is None else Path(os.path.abspath(value.expanduser()))

    @property
    def slots(self) -> Slots:
        """The configured slots. Raises `SettingsError` for a URL without a model, naming the variable."""
        return Slots(primary=self._slot(PRIMARY), deep=self._slot(DEEP))

    def _slot(self, name: str) -> SlotConfig | None:
        def get(field: str) -> Any:
            value = getattr(self, f"{name}_{field}")
            return value.get_secret_value() if isinstance(value, SecretStr) else value

        prefix = f"OFFLOAD_{name.upper()}"
        if get("url") is None:
            return None
        if get("model") is None:
            raise SettingsError(f"{prefix}_URL is set, {prefix}_MODEL is not: name the model alias to ask for")
        fields = [field.name for field in dataclasses.fields(SlotConfig) if field.name not in {"name", "extra_body"}]
        extra_body = json.loads(get("extra_body") or "{}")
        return SlotConfig(name=name, extra_body=extra_body, **{field: get(field) for field in fields})


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once; keyword arguments (a command's options) go before the environment.

    Raises `SettingsError` naming every variable that is wrong.
    """
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"OFFLOAD_{str(e['loc'][0]).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        ]
        raise SettingsError("; ".join(problems)) from None
    _ = settings.slots  # a URL without its model is told here, before anything starts
    refuse_home_of_others(settings.home)
    return settings


def refuse_home_of_others(home: Path) -> None:
    """Raise `SettingsError` where another user may have written into the home: Dagster's own settings lie there, and they
    name code to run. An empty folder is no danger; its mode is set when it is first used."""
    try:
        status = home.stat()
        names = os.listdir(home) if stat.S_ISDIR(status.st_mode) else []
    except OSError:  # not there yet, or of no use: whoever uses it says so
        return
    reason = belongs_to_other(status, me()) or (others_may_write(status, me()) if names else None)
    if reason is not None:
        raise SettingsError(
            f"OFFLOAD_HOME {home} {reason}, and what lies there is run as you: name a folder of your own, "
            f"or make sure of what is in it and take the right away (chmod go-w {home})"
        )
