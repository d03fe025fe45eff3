"""What makes the answers of a home: the recipe of each stage, and the settings behind it. Pure: no I/O."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from pydantic import SecretStr

from dagster_offload import __version__
from dagster_offload.settings import Settings
from dagster_offload.settings.leaves import LEAVES, leaves_of_slots
from dagster_offload.stage_spec.fields import Field
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.stages.catalog import recipes, stages_by_slot
from dagster_offload.text.plain_text import shortened

LIBRARY = "library.path"
# The settings of a stage that name other stages.
_RELATIONS = (".reads", ".when")
# The settings of a slot that a recipe depends on.
_OF_SLOTS = frozenset({"model", "expected_model", "extra_body"})
_PRIORITY = "priority"
_BETWEEN_SLOTS = ", "
LONGEST_SHOWN = 80  # characters of a value that a difference shows
MOST_NAMED = 5  # stages that a difference names; of more it gives the number


@dataclass(frozen=True)
class Pipeline:
    """The recipes by stage, and the settings that they depend on, by key; also the library and priorities. No value is a secret.

    `slots` of a stage are the names of the slots that may answer it, also if a person wrote `any`.
    """

    recipes: Mapping[str, str]
    settings: Mapping[str, str]
    version: str

    @property
    def relations(self) -> dict[str, str]:
        """Which stages each own stage needs, by the settings that name them."""
        return {key: value for key, value in self.settings.items() if key.endswith(_RELATIONS)}

    def slots_of(self, stage: str) -> str:
        """The slots that may answer a stage, comma-separated."""
        return self.settings.get(_slots_key(stage), "")

    def ranks_of(self, stage: str) -> dict[str, int]:
        """By slot that may answer a stage, how many levels of priority among them are below its own."""
        priorities = {
            slot: int(self.settings.get(_priority_key(slot)) or 0)
            for slot in self.slots_of(stage).split(_BETWEEN_SLOTS)
        }
        levels = sorted(set(priorities.values()))
        return {slot: levels.index(priority) for slot, priority in priorities.items()}


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline that these settings describe."""
    relevant = {
        leaf.dotted: _shown(leaf.value_in(settings))
        for leaf in (*LEAVES, *leaves_of_slots(settings.slots_section.further))
        if leaf.key[0] in ("stages", "language")
        or leaf.dotted == LIBRARY
        or (leaf.key[0] == "slots" and leaf.key[-1] in (*_OF_SLOTS, _PRIORITY))
    }
    for name, spec in settings.own_stages.items():
        relevant |= {
            f"stages.{name}.{field.alias or key}": _shown(getattr(spec, key))
            for key, field in StageSpec.model_fields.items()
        }
        relevant |= {f"stages.{name}.answer.{field.name}": field.form for field in spec.answer}
    current = recipes(settings)
    by_slot = stages_by_slot(settings, current)
    for stage in current:
        relevant[_slots_key(stage)] = _BETWEEN_SLOTS.join(
            slot for slot, answered in by_slot.items() if stage in answered
        )
    return Pipeline(current, relevant, __version__)


def difference(here: Pipeline, running: Pipeline) -> str | None:
    """What differs between two pipelines, or None: `stages.classify.classes is tax here and invoice there (classify)`.

    Each difference is named once, with the stages whose answers it changes.
    """
    found: dict[str, list[str]] = {}
    every = dict.fromkeys((*here.recipes, *running.recipes))
    for stage in every:
        is_same_recipe = here.recipes.get(stage) == running.recipes.get(stage)
        if is_same_recipe and here.ranks_of(stage) == running.ranks_of(stage):
            continue
        for what in _differences(here, running, stage):
            found.setdefault(what, []).append(stage)
    return "; ".join(f"{what} ({_named(stages, len(every))})" for what, stages in found.items()) or None


def _differences(here: Pipeline, running: Pipeline, stage: str) -> list[str]:
    """What makes this stage another one."""
    if stage not in running.recipes or stage not in here.recipes:
        return [f"a stage is only {'here' if stage in here.recipes else 'in the running pipeline'}"]
    priorities = _priorities_that_differ(here, running, stage)
    changed = [
        _both(key, here.settings.get(key) or "unset", running.settings.get(key) or "unset")
        for key in dict.fromkeys((*here.settings, *running.settings))
        if here.settings.get(key) != running.settings.get(key) and (_concerns(key, stage) or key in priorities)
    ]
    return changed or [f"dagster_offload is {here.version} here and {running.version} there"]


def _both(key: str, here: str, there: str) -> str:
    """Both values of a setting. Long ones, such as prompts, from shortly before the place where they begin to differ."""
    start = 0
    if max(len(here), len(there)) > LONGEST_SHOWN:
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
        start = max(0, alike - LONGEST_SHOWN // 4)
    shown_here, shown_there = (
        ("…" if start else "") + shortened(value[start:], LONGEST_SHOWN).replace("\n", " ") for value in (here, there)
    )
    return f"{key} is {shown_here} here and {shown_there} there"


def _priorities_that_differ(here: Pipeline, running: Pipeline, stage: str) -> set[str]:
    """The priorities of the stage's slots, by key, if they put the slots in another order."""
    ranks_here, ranks_there = here.ranks_of(stage), running.ranks_of(stage)
    is_same = ranks_here.keys() != ranks_there.keys() or ranks_here == ranks_there
    return set() if is_same else {_priority_key(slot) for slot in ranks_here}


def _named(stages: Sequence[str], every: int) -> str:
    """The stages by name, or their number if they are many."""
    return ", ".join(stages) if len(stages) <= MOST_NAMED else f"{len(stages)} of {every} stages"


def _slots_key(stage: str) -> str:
    return f"stages.{stage}.slots"


def _priority_key(slot: str) -> str:
    return f"slots.{slot}.{_PRIORITY}"


def _concerns(key: str, stage: str) -> bool:
    section, _, rest = key.partition(".")
    if section == "stages":
        return rest.startswith(f"{stage}.")
    return key != LIBRARY and not (section == "slots" and rest.endswith(f".{_PRIORITY}"))


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return f"sha256:{hashlib.sha256(value.get_secret_value().encode()).hexdigest()[:8]}"
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, tuple):
        return ", ".join(part.name if isinstance(part, Field) else str(part) for part in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)  # a schema of Python may hold dates
    return "" if value is None else str(value)
