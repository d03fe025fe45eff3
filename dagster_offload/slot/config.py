"""A slot: a place where a completion can run. `deep` is large and sometimes available, `primary` small and always on."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from dagster_offload.slot.hours import Hours
from dagster_offload.slot.waking import WakeConfig

DEEP = "deep"
PRIMARY = "primary"
SLOT_NAMES = (DEEP, PRIMARY)


def variable(slot: str, field: str) -> str:
    """The environment variable of a slot's field: `OFFLOAD_DEEP_URL`."""
    return f"OFFLOAD_{slot.upper()}_{field.upper()}"


@dataclass(frozen=True)
class SlotConfig:
    """One slot's configuration. Times are in seconds.

    `url` is the base URL without `/v1` and without a trailing slash. `concurrency` is the number of permits, or `auto`:
    the best number is measured, with an average call of at most `max_call_seconds`. Outside `hours`, and after
    `minutes_a_day` of calls, nothing is sent.
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
    context_tokens: int | None = None  # the model's context size; None = the server reports it
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)  # merged into each body; may hold secrets
    hours: Hours | None = None
    minutes_a_day: int | None = None
    wake: WakeConfig | None = None

    def __repr__(self) -> str:
        return f"SlotConfig(name={self.name!r}, url={self.shown_url!r}, model={self.model!r})"

    @property
    def shown_url(self) -> str:
        """The URL without user and password."""
        return without_password(self.url)

    def setting(self, field: str) -> str:
        """The environment variable of a field, for messages: `slot.setting("url")` is `OFFLOAD_DEEP_URL`."""
        return variable(self.name, field)

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that could fix a misconfigured slot. Contains no secret."""
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
    """The configured slots: iterable, and each by its name (None if it is not configured)."""

    primary: SlotConfig | None = None
    deep: SlotConfig | None = None

    def __iter__(self) -> Iterator[SlotConfig]:
        return iter([slot for slot in (self.deep, self.primary) if slot is not None])

    def for_prompt(self) -> SlotConfig | None:
        """The slot for deep work: `deep`, or `primary` if no deep slot is configured."""
        return self.deep if self.deep is not None else self.primary


def without_password(url: str) -> str:
    """`url` without user and password, for people and logs. Works even if the password makes the URL invalid."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if a character of the password, such as a slash, ends up in the port
    except ValueError:
        return re.sub(r"//.*@", "//", url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


MAX_CONCURRENCY = 512
