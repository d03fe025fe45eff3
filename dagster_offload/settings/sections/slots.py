"""The section `slots` of the pipeline file: where completions run, when, and how a slot is woken."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from dagster_offload.errors import SettingsError
from dagster_offload.settings.sections.secrets import refuse_both, secret_from
from dagster_offload.settings.sections.section import AbsolutePath, Arguments, Section
from dagster_offload.settings.sections.unset import Unset, needed
from dagster_offload.slot.addresses import has_address
from dagster_offload.slot.config import BUILT_IN_SLOTS, DEEP, MAX_CONCURRENCY, PRIMARY, SlotConfig, variable
from dagster_offload.slot.hours import parse_hours
from dagster_offload.slot.waking import BROADCAST, PORT, WakeConfig
from dagster_offload.stage_spec.slots import WORDS, AllowedSlots
from dagster_offload.text.suggestions import no_such, suggestion

# Keys that `extra_body` cannot change: the model has its own setting, this program writes the messages, and nothing
# is streamed.
RESERVED_BODY_KEYS = frozenset({"model", "messages", "stream"})
MOST_PRIORITY = 1000
# The name of a further slot. It is part of settings, reasons and columns.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MAC = re.compile(r"[0-9a-f]{2}([:-]?[0-9a-f]{2}){5}", re.IGNORECASE)


def _body_as_text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _no_json(constant: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(constant)


Concurrency = Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | Literal["auto"]
Body = Annotated[
    SecretStr | None, BeforeValidator(_body_as_text), WithJsonSchema({"type": ["object", "string", "null"]})
]


class WakeSettings(Section):
    """How to wake a slot whose machine is off while work is due: by a program, or by a magic packet."""

    command: Arguments = Field(
        default=(), description="program that wakes the machine, and its arguments: [/usr/local/bin/wake, macbook]"
    )
    mac: str | None = Field(default=None, description="address of the network card, for a magic packet (Wake-on-LAN)")
    address: str = Field(default=BROADCAST, description="IP address to which the magic packet is sent")
    port: int = Field(default=PORT, ge=1, le=65535, description="UDP port to which the magic packet is sent")
    times_a_day: int = Field(default=3, ge=1, le=24, description="how often a day the machine is woken at most")
    timeout: float = Field(default=20.0, gt=0, le=45, description="seconds for the program")

    @field_validator("mac")
    @classmethod
    def _hardware_address(cls, value: str | None) -> str | None:
        if value is not None and not _MAC.fullmatch(value):
            raise ValueError("must be six bytes in hexadecimal: a4:83:e7:01:23:45")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> "WakeSettings":
        if self.command and self.mac:
            raise ValueError("has both `command` and `mac`: set one")
        return self

    @property
    def config(self) -> WakeConfig | None:
        """How to wake the slot; None if it is never woken."""
        return WakeConfig(**self.model_dump()) if self.command or self.mac else None


@dataclass(frozen=True)
class _Place:
    """Where settings were written, which makes no other settings. `in_file`: see `SlotConfig`."""

    in_file: frozenset[str] = field(default=frozenset(), compare=False)


class SlotSettings(Section):
    """One slot: a place where a completion can run. A slot without a URL is not configured."""

    url: str | None = Field(default=None, repr=False, description="URL of the router or server, with or without /v1")
    model: str | None = Field(default=None, description="model name to send in requests")
    expected_model: str | None = Field(default=None, description="regular expression that the served model must match")
    api_key: SecretStr | Unset | None = Field(default=None, description="bearer token")
    api_key_file: AbsolutePath | None = Field(default=None, description="file that contains the bearer token")
    ca_file: AbsolutePath | None = Field(
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
    extra_body: Body = Field(default=None, description="JSON object merged into each request body")
    hours: str | None = Field(
        default=None, description="when the slot may be used, in local time: `22:00-07:00, sat-sun`; unset = always"
    )
    minutes_a_day: int | None = Field(
        default=None, ge=1, description="minutes of calls a day at most; unset = no limit"
    )
    wake: WakeSettings = Field(default=WakeSettings(), description="how to wake the slot's machine while work is due")
    _place: _Place = PrivateAttr(default=_Place())

    def note_in_file(self, fields: Iterable[str]) -> None:
        """Note the fields whose place is the pipeline file, so that messages name their keys."""
        self._place = _Place(frozenset(fields))

    @field_validator("hours")
    @classmethod
    def _windows(cls, value: str | None) -> str | None:
        if value is not None:
            parse_hours(value)
        return value

    @field_validator("url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.match(r"^https?://[^/\s]+", value):
            raise ValueError("must start with http:// or https://, followed by a host")
        if not has_address(value):
            raise ValueError("must name a host, and if it names a port, one from 1 to 65535: http://macbook.local:8890")
        if "?" in value or "#" in value:
            # Each request has its own path below the URL, so a query would be lost. It may hold a key, and URLs are shown.
            raise ValueError(
                "must end before ? or #: requests are sent without a query (Azure needs no api-version at .../openai/v1), and "
                "a key is set as api_key"
            )
        return re.sub(r"/v1(/chat/completions)?$", "", value.rstrip("/"))

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
                body = json.loads(value.get_secret_value(), parse_constant=_no_json)
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
            raise SettingsError(
                f"{url} is set, but {model} is not: set it, or slots.{name}.model in offload.yaml, to the model name to "
                "send in requests"
            )
        key, problem = self._key(name)
        return SlotConfig(
            name=name,
            url=self.url,
            model=self.model,
            api_key=key,
            key_problem=problem,
            ca_file=None if self.ca_file is None else str(self.ca_file),
            extra_body={} if self.extra_body is None else json.loads(self.extra_body.get_secret_value()),
            hours=None if self.hours is None else parse_hours(self.hours),
            wake=self.wake.config,
            in_file=self._place.in_file,
            **self.model_dump(
                exclude={"url", "model", "api_key", "api_key_file", "ca_file", "extra_body", "hours", "wake"}
            ),
        )

    def _key(self, name: str) -> tuple[str | None, str | None]:
        """The bearer token, and why it is not known here: most commands do not need it. Raises `SettingsError` for two."""
        settings = variable(name, "api_key"), variable(name, "api_key_file")
        refuse_both(self.api_key, self.api_key_file, *settings)
        try:
            return secret_from(needed(self.api_key), self.api_key_file, *settings), None
        except SettingsError as error:
            return None, str(error)


class DrainSlotSettings(SlotSettings):
    """A slot at which drains work: `deep` or a further one."""

    priority: int = Field(
        default=0,
        ge=-MOST_PRIORITY,
        le=MOST_PRIORITY,
        description="a slot takes a stage only while no slot of a higher priority that may answer it is available, busy or not",
    )


class SlotsSection(Section):
    """The slots by name: `deep`, `primary`, and any number of further ones beside `deep`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, DrainSlotSettings] = Field(init=False)

    deep: DrainSlotSettings = Field(
        default=DrainSlotSettings(), description="the large model that is sometimes available"
    )
    primary: SlotSettings = Field(default=SlotSettings(), description="a small model that is always on (optional)")

    @property
    def further(self) -> Mapping[str, DrainSlotSettings]:
        """The further slots by name, in declared order."""
        return self.__pydantic_extra__ or {}

    def named(self, name: str) -> SlotSettings:
        """The settings of a slot. One that was removed since has none."""
        known = {DEEP: self.deep, PRIMARY: self.primary, **self.further}
        return known.get(name, SlotSettings())


def slot_mistakes(slots: SlotsSection, stages: Mapping[str, AllowedSlots]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the mistakes between the slots and the stages that name them, each with the key it is about.

    `stages`: by stage, the slots that may answer it.
    """
    known = (DEEP, *slots.further, PRIMARY)
    for stage, allowed in stages.items():
        if not isinstance(allowed, tuple):
            continue
        for name in allowed:
            if name not in known:
                yield ("stages", stage, "slots"), no_such("slot", name, known)
        if set(allowed) == {PRIMARY}:
            yield ("stages", stage, "slots"), f"a drain never works at {PRIMARY}: name another slot too"
    named = {name for allowed in stages.values() if isinstance(allowed, tuple) for name in allowed}
    for name in slots.further:
        yield from (
            (("slots", name), problem) for problem in _problems_of(name, slots, named, "any" in stages.values())
        )


def _problems_of(name: str, slots: SlotsSection, named: Collection[str], is_any_named: bool) -> Iterator[str]:
    hint, slot = suggestion(name, BUILT_IN_SLOTS), slots.further[name]
    if not _NAME.fullmatch(name):
        yield f"{name!r} is not a slot's name: use at most 40 lower-case letters, digits and _, and begin with a letter"
    if name in (*WORDS, "all") or hasattr(SlotsSection, name):
        yield f"{name!r} is a name that this program uses itself: choose another"
    if slot.url is None or slot.model is None:
        yield f"a further slot needs a url and a model{hint}"
    if slots.deep.url is None:
        yield f"there are further slots only beside {DEEP}: configure slots.{DEEP} too, or name this slot {DEEP}"
    for other in (DEEP, PRIMARY, *slots.further):
        if other == name:
            break
        that = slots.named(other)
        if slot.url is not None and (slot.url, slot.model) == (that.url, that.model):
            yield f"is the slot {other} again (the same url and model): list each slot once"
    if name not in named and not is_any_named:
        yield f"no stage names this slot, so it would never be used: add it to the `slots` of a stage{hint}"
