"""The settings `OFFLOAD_UI_*`: who may open the UI, and under which address. `settings.py` reads them with all others."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator


class UISettings(BaseModel):
    """The fields of `Settings` whose names start with `ui_`."""

    ui_token: Literal["on", "off"] = Field("off", description="on: the UI asks for the token that `up` prints")
    ui_password_file: Path | None = Field(
        None, description="file of `dagster-offload password`: the UI asks for this password"
    )
    ui_proxy: str | None = Field(
        None, description="address of the UI at a reverse proxy that authenticates: https://offload.example.org"
    )
    ui_proxy_address: str = Field(
        "", description="IP addresses or networks that the proxy connects from, comma-separated, besides this machine"
    )
    ui_host_names: str = Field("", description="further host names of the UI, comma-separated")
    ui_path_prefix: str = Field("", description="path of the UI at a reverse proxy: /offload")

    @property
    def is_token_on(self) -> bool:
        """Whether the UI asks for a token."""
        return self.ui_token == "on"  # noqa: S105 - not a token

    @field_validator("ui_password_file")
    @classmethod
    def _absolute_file(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(os.path.abspath(value.expanduser()))

    @field_validator("ui_proxy")
    @classmethod
    def _site(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", value):
            raise ValueError("must be an address without a path: https://offload.example.org")
        return value

    @field_validator("ui_proxy_address")
    @classmethod
    def _networks(cls, value: str) -> str:
        for address in comma_separated(value):
            try:
                ip_network(address, strict=False)
            except ValueError:
                raise ValueError(f"{address} is not an IP address or network: 172.18.0.3, 172.18.0.0/16") from None
        return value

    @field_validator("ui_host_names")
    @classmethod
    def _names(cls, value: str) -> str:
        for name in comma_separated(value):
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise ValueError(f"{name} is not a host name: box.lan (without a scheme, a port or a path)")
        return value

    @field_validator("ui_path_prefix")
    @classmethod
    def _path(cls, value: str) -> str:
        # No segment starts with a dot, so none is `.` or `..`.
        if not re.fullmatch(r"((/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+)?", value):
            raise ValueError("must start with / and must not end with one: /offload")
        return value


def comma_separated(text: str) -> list[str]:
    """The entries of a setting with several values."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]
