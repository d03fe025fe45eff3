"""A slot: a place where a completion can run. `deep` is large and sometimes available, `primary` small and always on.

A pipeline file can add further slots beside `deep`. A stage names the slots that may answer it.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from dagster_offload.errors import SettingsError
from dagster_offload.slot.hours import Hours
from dagster_offload.slot.waking import WakeConfig

DEEP = "deep"
PRIMARY = "primary"
BUILT_IN_SLOTS = (DEEP, PRIMARY)
NO_SLOT = "no slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL"
NO_DEEP_SLOT = "no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL"


def variable(slot: str, field: str) -> str:
    """The setting of a slot's field, for messages: `OFFLOAD_DEEP_URL`; for a further slot its key, `slots.studio.url`."""
    return f"OFFLOAD_{slot.upper()}_{field.upper()}" if slot in BUILT_IN_SLOTS else key(slot, field)


def key(slot: str, field: str) -> str:
    """The key of a slot's field in the pipeline file."""
    return f"slots.{slot}.{field}"


@dataclass(frozen=True)
class SlotConfig:
    """One slot's configuration. Times are in seconds.

    `url` is the base URL without `/v1` and without a trailing slash. `concurrency` is the number of permits, or `auto`:
    the best number is measured, with an average call of at most `max_call_seconds`. Outside `hours`, and after
    `minutes_a_day` of calls, nothing is sent. Of the slots that may answer a stage, those of the highest `priority` that are
    available are used.
    """

    name: str
    url: str
    model: str
    expected_model: str | None = None
    api_key: str | None = None
    key_problem: str | None = None  # why its key is not known here: commands that send nothing to the slot go on
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
    priority: int = 0
    in_file: Collection[str] = field(default=(), compare=False)  # the fields whose place is the pipeline file

    def __repr__(self) -> str:
        return f"SlotConfig(name={self.name!r}, url={self.shown_url!r}, model={self.model!r})"

    @property
    def shown_url(self) -> str:
        """The URL without user and password."""
        return without_password(self.url)

    def setting(self, field: str) -> str:
        """The setting of a field where it was set, for messages: `OFFLOAD_DEEP_URL`, or `slots.deep.url`."""
        return key(self.name, field) if field in self.in_file else variable(self.name, field)

    def require_key(self) -> None:
        """Raise `SettingsError` if the slot's key is not known here. What sends to the slot, or registers it, calls this."""
        if self.key_problem is not None:
            raise SettingsError(self.key_problem)

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that could fix a misconfigured slot. Contains no secret. Raises `SettingsError` without
        its key."""
        self.require_key()
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
    """The configured slots: iterable, and each by its name (None if it is not configured).

    There are `further` slots only beside `deep`.
    """

    primary: SlotConfig | None = None
    deep: SlotConfig | None = None
    further: tuple[SlotConfig, ...] = ()

    def __iter__(self) -> Iterator[SlotConfig]:
        return iter([slot for slot in (self.deep, *self.further, self.primary) if slot is not None])

    def require_keys(self) -> None:
        """Raise `SettingsError` if the key of a slot is not known here."""
        for slot in self:
            slot.require_key()

    @property
    def of_drains(self) -> tuple[SlotConfig, ...]:
        """The slots at which a drain works: all but `primary`."""
        return tuple(slot for slot in self if slot.name != PRIMARY)

    def allowed(self, named: str | tuple[str, ...]) -> tuple[SlotConfig, ...]:
        """The configured slots that may answer a stage, the highest priority first and `primary` last. Without a deep slot it
        is `primary` alone.

        `named` is what the stage says: `any`, the name of one slot, or the names of several.
        """
        if self.deep is None or named == "any":
            names: tuple[str, ...] = tuple(slot.name for slot in self)
        else:
            names = (named,) if isinstance(named, str) else named
        found = (slot for slot in self if slot.name in names)
        return tuple(sorted(found, key=lambda slot: (slot.name == PRIMARY, -slot.priority)))

    def named(self, name: str) -> SlotConfig | None:
        """The slot of that name; None if it is not configured."""
        return next((slot for slot in self if slot.name == name), None)

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
