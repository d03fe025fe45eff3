"""Which stages a slot takes now. Pure.

A slot is in reserve for a stage while a slot of a higher priority that may answer the stage is available. Whether that one
is busy does not matter: a document waits for its turn there, and the reserve stays idle. A slot that holds a stage does not
take it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.counts import agreeing
from dagster_offload.text.lists import listed

# By stage that a slot may answer, the slots of a higher priority that may answer it, too.
Preferred = Mapping[str, Sequence[SlotConfig]]


def preferred_to(slot: SlotConfig, slots: Iterable[SlotConfig], stages: Mapping[str, Sequence[str]]) -> Preferred:
    """The slots that are preferred to `slot`, by stage. `stages`: by slot, the stages that it may answer."""
    higher = [other for other in slots if other.priority > slot.priority]
    return {
        stage: [other for other in higher if stage in stages.get(other.name, ())] for stage in stages.get(slot.name, ())
    }


def without_held(slot: str, preferred: Preferred, held: Mapping[str, Collection[str]]) -> Preferred:
    """What is left of `preferred` without the stages that `slot` holds, and without each other slot that holds the stage.

    `held`: by slot, the stages that it holds.
    """
    return {
        stage: [other for other in slots if stage not in held.get(other.name, ())]
        for stage, slots in preferred.items()
        if stage not in held.get(slot, ())
    }


def all_preferred(preferred: Preferred) -> list[SlotConfig]:
    """The slots that are preferred for at least one stage, each once."""
    return list({slot.name: slot for slots in preferred.values() for slot in slots}.values())


def stages_left(preferred: Preferred, available: Collection[str]) -> list[str]:
    """The stages that the slot takes now. `available`: the names of the slots that can be used now."""
    return [stage for stage, slots in preferred.items() if not any(slot.name in available for slot in slots)]


def reserve_for(preferred: Preferred, available: Collection[str]) -> list[str]:
    """The available slots that leave the slot no stage; empty if it takes one, or may answer none."""
    if not preferred or stages_left(preferred, available):
        return []
    return [slot.name for slot in all_preferred(preferred) if slot.name in available]


def describe_reserve(names: Sequence[str]) -> str:
    """`in reserve while studio is available`."""
    return f"in reserve while {listed(names)} {agreeing('are', len(names))} available"
