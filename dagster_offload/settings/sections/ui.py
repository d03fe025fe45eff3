"""The section `ui` of the pipeline file: who may open the UI, and under which address."""

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dagster_offload.settings.sections.section import AbsolutePath, Section, Variable
from dagster_offload.text.lists import comma_separated


class UISection(Section):
    """The UI: its log-in, and its address behind a reverse proxy."""

    token: Annotated[Literal["on", "off"], Variable("OFFLOAD_UI_TOKEN")] = Field(
        default="off", description="on: the UI asks for the token that `up` prints"
    )
    password_file: Annotated[AbsolutePath | None, Variable("OFFLOAD_UI_PASSWORD_FILE")] = Field(
        default=None, description="file of `dagster-offload password`: the UI asks for this password"
    )
    proxy: Annotated[str | None, Variable("OFFLOAD_UI_PROXY")] = Field(
        default=None, description="address of the UI at a reverse proxy that authenticates: https://offload.example.org"
    )
    proxy_address: Annotated[str, Variable("OFFLOAD_UI_PROXY_ADDRESS")] = Field(
        default="",
        description="IP addresses or networks that the proxy connects from, comma-separated, besides this machine",
    )
    host_names: Annotated[str, Variable("OFFLOAD_UI_HOST_NAMES")] = Field(
        default="", description="further host names of the UI, comma-separated"
    )
    path_prefix: Annotated[str, Variable("OFFLOAD_UI_PATH_PREFIX")] = Field(
        default="", description="path of the UI at a reverse proxy: /offload"
    )

    @property
    def is_token_on(self) -> bool:
        """Whether the UI asks for a token."""
        return self.token == "on"  # noqa: S105 - not a token

    @field_validator("proxy")
    @classmethod
    def _site(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", value):
            raise ValueError("must be an address without a path: https://offload.example.org")
        return value

    @field_validator("proxy_address")
    @classmethod
    def _networks(cls, value: str) -> str:
        for address in comma_separated(value):
            try:
                ip_network(address, strict=False)
            except ValueError:
                raise ValueError(f"{address} is not an IP address or network: 172.18.0.3, 172.18.0.0/16") from None
        return value

    @field_validator("host_names")
    @classmethod
    def _names(cls, value: str) -> str:
        for name in comma_separated(value):
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise ValueError(f"{name} is not a host name: box.lan (without a scheme, a port or a path)")
        return value

    @field_validator("path_prefix")
    @classmethod
    def _path(cls, value: str) -> str:
        # No segment starts with a dot, so none is `.` or `..`.
        if not re.fullmatch(r"((/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+)?", value):
            raise ValueError("must start with / and must not end with one: /offload")
        return value
