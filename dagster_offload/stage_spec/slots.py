"""Which slots may answer a stage, as a person writes it: `deep`, `any`, or a list of names."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from dagster_offload.text.lists import listed

# The slot `deep` alone, every slot, or the names of those that may answer.
AllowedSlots = Literal["deep", "any"] | tuple[str, ...]
WORDS = ("deep", "any")


def named_slots(value: Any) -> Any:
    """The word, or the names of the slots. Raises `ValueError` for a slot that is listed twice."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return value
    names = [name.strip() for name in names if name.strip()]
    if len(names) == 1 and names[0] in WORDS:
        return names[0]
    if not names:
        raise ValueError("names no slot: write `deep`, `any`, or a list of slots")
    if "any" in names:
        raise ValueError("`any` stands alone: it means every slot")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"lists {listed(twice)} twice: name each slot once")
    return tuple(names)


NamedSlots = Annotated[
    AllowedSlots,
    BeforeValidator(named_slots),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
