"""A slot: a place a completion can run. `deep` is big and only sometimes there, `primary` is small and always on."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

DEEP = "deep"
PRIMARY = "primary"
SLOT_NAMES = (DEEP, PRIMARY)


def variable(slot: str, field: str) -> str:
    """The environment variable behind a slot's field: `OFFLOAD_DEEP_URL`."""
    return f"OFFLOAD_{slot.upper()}_{field.upper()}"


@dataclass(frozen=True)
class SlotConfig:
    """Where a slot is and what we expect there. Times in seconds.

    `url` is the base without `/v1` and without a trailing slash; `concurrency` is the number of permits (N), or `auto`:
    it is found by trying, with calls that take `max_call_seconds` on average at most.
    """

    name: str
    url: str
    model: str
    expected_model: str | None = None
    api_key: str | None = None
    concurrency: int | Literal["auto"] = 1
    max_call_seconds: float = 120.0
    health_path: str = "/health"
    connect_timeout: float = 3.0
    read_timeout: float = 900.0
    ca_file: str | None = None  # PEM; trusted for this slot instead of the system's certificates
    context_tokens: int | None = None  # the model's context by the owner's word; None = ask its server
    extra_body: Mapping[str, Any] = field(
        default_factory=dict, hash=False
    )  # merged into each completion's; may hold secrets

    def __repr__(self) -> str:
        return f"SlotConfig(name={self.name!r}, url={self.shown_url!r}, model={self.model!r})"

    @property
    def shown_url(self) -> str:
        return without_password(self.url)

    def setting(self, field: str) -> str:
        """The environment variable behind a field, for messages: `slot.setting("url")` is `OFFLOAD_DEEP_URL`."""
        return variable(self.name, field)

    @property
    def fingerprint(self) -> str:
        """Changes whenever a setting changes that could mend a misconfigured slot. Holds no secret."""
        parts = [self.url, self.model, self.expected_model or "", self.api_key or "", self.health_path]
        if self.extra_body:
            parts.append(json.dumps(self.extra_body, sort_keys=True))
        if self.ca_file is not None:
            parts.append(f"ca_file={self.ca_file}")
        if self.context_tokens is not None:
            parts.append(f"context_tokens={self.context_tokens}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass
class Slots:
    """The configured slots: a list of them, and each by its name (None where it is not configured)."""

    primary: SlotConfig | None = None
    deep: SlotConfig | None = None

    def __iter__(self) -> Iterator[SlotConfig]:
        return iter([slot for slot in (self.deep, self.primary) if slot is not None])

    def for_prompt(self) -> SlotConfig | None:
        """The slot that deep work goes to: `deep`, or `primary` where no deep slot is configured."""
        return self.deep if self.deep is not None else self.primary


def without_password(url: str) -> str:
    """`url` as people and logs may see it: without user and password, also where those make it no URL at all."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # a password with a slash or the like in it ends up there, and raises
    except ValueError:
        return re.sub(r"//.*@", "//", url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


MAX_CONCURRENCY = 512
