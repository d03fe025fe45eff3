"""Every single setting: its key in the file, its variable, its description. All are derived from the model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from dagster_offload.settings.model import Settings
from dagster_offload.settings.sections.section import AbsolutePath, Variable
from dagster_offload.slot.config import BUILT_IN_SLOTS, variable
from dagster_offload.stage_spec.stage import StageSpec

Key = tuple[str, ...]  # ("slots", "deep", "url")

_DEEP = ("slots", "deep")  # a further slot has the settings of this one

ANY_STAGES = "OFFLOAD_ANY_STAGES"  # names the stages whose `slots` is `any`
CONFIG = "OFFLOAD_CONFIG"  # the pipeline file
CONFIG_SNAPSHOT = "OFFLOAD_CONFIG_SNAPSHOT"  # internal: `up` sets it for its processes
# Variables of ours that are no settings of a pipeline. The last one is for this project's own tests.
OTHER_VARIABLES = frozenset({CONFIG, CONFIG_SNAPSHOT, "OFFLOAD_TEST_POSTGRES_URL"})


@dataclass(frozen=True)
class Leaf:
    """One setting. Several stages share one variable: `OFFLOAD_ANY_STAGES`."""

    key: Key
    variable: str
    field: FieldInfo

    @property
    def dotted(self) -> str:
        """The key as people write it: `slots.deep.url`."""
        return ".".join(self.key)

    @property
    def is_path(self) -> bool:
        """Whether the value is the path of a file or folder."""
        return not {Path, AbsolutePath}.isdisjoint(_types(self.field))

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be shown."""
        return SecretStr in _types(self.field)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list of names."""
        return get_origin(self.field.annotation) is tuple

    def value_in(self, settings: Settings) -> Any:
        """The value of this setting."""
        found: Any = settings
        for name in self.key:
            found = getattr(found, _field_name(type(found), name))
        return found


def _types(field: FieldInfo) -> tuple[Any, ...]:
    return (field.annotation, *get_args(field.annotation))


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _field_name(model: type[BaseModel], key: str) -> str:
    fields = model.model_fields.items()
    return next((name for name, field in fields if (field.alias or name) == key), key)  # or the name of a further slot


def _walk(model: type[BaseModel], above: Key) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        key = (*above, field.alias or name)
        if (section := _section(field)) is not None:
            yield from _walk(section, key)
            continue
        marked = next((mark.name for mark in field.metadata if isinstance(mark, Variable)), None)
        slot = key[1] if key[0] == "slots" else None
        yield Leaf(key, marked or (variable(slot, "_".join(key[2:])) if slot else f"OFFLOAD_{key[-1].upper()}"), field)


LEAVES = tuple(_walk(Settings, ()))
BY_KEY = {leaf.key: leaf for leaf in LEAVES}
VARIABLES = frozenset(leaf.variable for leaf in LEAVES)


def leaves_of_slots(names: Iterable[str]) -> tuple[Leaf, ...]:
    """The settings of further slots. No environment variable sets them, so `variable` is the key."""
    keys = [(leaf, ("slots", name, *leaf.key[2:])) for name in names for leaf in LEAVES if leaf.key[:2] == _DEEP]
    return tuple(replace(leaf, key=key, variable=".".join(key)) for leaf, key in keys)


def further_slots(values: Any) -> list[str]:
    """The names of the further slots in these values of a pipeline file."""
    slots = values.get("slots") if isinstance(values, dict) else None
    names = slots if isinstance(slots, dict) else ()
    return [name for name in names if isinstance(name, str) and name not in BUILT_IN_SLOTS]


def keys_below(key: Key) -> list[str]:
    """The keys that the section `key` may have; empty if it is no section."""
    if len(key) > 1 and key[0] == "slots" and key[1] not in BUILT_IN_SLOTS:
        key = (*_DEEP, *key[2:])
    if len(key) == 2 and key[0] == "stages" and key not in {leaf.key[:2] for leaf in LEAVES}:
        return [field.alias or name for name, field in StageSpec.model_fields.items()]
    model: type[BaseModel] | None = Settings
    for name in key:
        fields = {} if model is None else {field.alias or each: field for each, field in model.model_fields.items()}
        model = _section(fields[name]) if name in fields else None
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]
