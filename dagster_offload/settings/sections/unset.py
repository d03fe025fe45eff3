"""A `${VARIABLE}` of a sink, a channel or a slot that is not set. Only what sends to it needs the variable; all else goes on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import InstanceOf
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import ErrorDetails

from dagster_offload.errors import SettingsError

if TYPE_CHECKING:
    from dagster_offload.settings.model import Settings
    from dagster_offload.settings.sections.section import Section

T = TypeVar("T")


@dataclass(frozen=True)
class UnsetVariable:
    """Stands in the settings for a value whose variable is not set.

    `place` is where the value stands: `offload.yaml:4:13: on_record.hook.secret`. `missing` is what to do about it.
    """

    place: str
    missing: str

    def __str__(self) -> str:
        return f"{self.place}: {self.missing}"


# A person cannot write it, so it is not in the schema of the pipeline file.
Unset = SkipJsonSchema[Annotated[UnsetVariable, InstanceOf()]]


def without_unset(faults: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """The faults of a `ValidationError` without those that say that a value is no `UnsetVariable`: no person can write one."""
    return [fault for fault in faults if fault["type"] != "is_instance_of"]


def needed(value: T | UnsetVariable) -> T:
    """The value, for a sender. Raises `SettingsError`, which names the variable and its place, if that is not set."""
    if isinstance(value, UnsetVariable):
        raise SettingsError(str(value))
    return value


@dataclass(frozen=True)
class Incomplete:
    """A sink or a channel that can send nothing, because its variable is not set."""

    noun: str  # sink or channel
    name: str
    variable: UnsetVariable


def incomplete(settings: "Settings") -> Iterator[Incomplete]:
    """The sinks and channels with a variable that is not set, with the first of their variables."""
    for noun, sections in (("sink", settings.sinks), ("channel", settings.channels)):
        for name, variable in unset_in(sections).items():
            yield Incomplete(noun, name, variable)


def unset_in(sections: "Mapping[str, Section]") -> dict[str, UnsetVariable]:
    """By name, the first value whose variable is not set, of those sinks or channels that have one."""
    return {
        name: value
        for name, section in sections.items()
        if (value := next((each for _, each in section if isinstance(each, UnsetVariable)), None)) is not None
    }


def missing_in(unset: Mapping[str, UnsetVariable], name: str) -> str | None:
    """What is missing for this sink or channel where the command runs, and what to do; None if nothing is."""
    return unset[name].missing if name in unset else None


def unset_beside(reason: str | None, unset: Mapping[str, UnsetVariable], name: str) -> str:
    """What to add to a line about this sink or channel, such as `; here, the variable TOKEN is not set: ...`.

    Empty if nothing is missing, or if the `reason` for which it waits says so already.
    """
    if name not in unset or unset[name].place in (reason or ""):
        return ""
    return f"; here, {unset[name].missing}"
