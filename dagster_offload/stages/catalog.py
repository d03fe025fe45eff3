"""The stages by name, in declared order; which of them a drain may run; what each depends on. No I/O here."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pydantic import BaseModel

from dagster_offload.settings import Settings
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages import classify, summarize
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.stages.long_documents import WholeReading

# Raise when extraction gives other text than before for the same bytes.
EXTRACT_VERSION = 2


@dataclass(frozen=True)
class LLMStage:
    """One question about a document: what is asked, within which bounds, and what is accepted as an answer."""

    name: str
    instruction: str
    options: RequestOptions
    parse: Callable[[str], BaseModel]  # raises UnusableAnswer
    prompt_version: int
    primary_may_do_it: bool = False  # slots = any
    whole: WholeReading | None = (
        None  # how a long document is read to its end; None: its beginning is all this asks about
    )


def llm_stages(settings: Settings) -> dict[str, LLMStage]:
    """The LLM stages in declared order, with the owner's classes and slot choices in them."""
    any_stages = {name.strip() for name in settings.any_stages.split(",") if name.strip()}
    classes = classify.class_names(settings.classes)
    stages = (
        LLMStage(
            name=CLASSIFY,
            instruction=classify.instruction(classes),
            options=classify.options(classes),
            parse=lambda text: classify.parse(text, classes),
            prompt_version=classify.PROMPT_VERSION,
            primary_may_do_it=CLASSIFY in any_stages,
        ),
        LLMStage(
            name=SUMMARIZE,
            instruction=summarize.instruction(settings.language),
            options=summarize.options(),
            parse=summarize.parse,
            prompt_version=summarize.PROMPT_VERSION,
            primary_may_do_it=SUMMARIZE in any_stages,
            whole=summarize.whole_reading(settings.language),
        ),
    )
    return {stage.name: stage for stage in stages}


def recipes(settings: Settings) -> dict[str, str]:
    """Per stage the hash of what an answer depends on besides its input.

    Not how much of a document fits one request: that is the slot's, may change any day, and the record says what was
    read. For `deep` stages that includes `expected_model` if set, else the alias, and the extra body; for `any` stages no model.
    """
    slots = settings.slots
    found = {EXTRACT: _digest({"version": EXTRACT_VERSION})}
    for stage in llm_stages(settings).values():
        found[stage.name] = _digest(
            {
                "prompt": stage.prompt_version,
                "instruction": stage.instruction,
                "options": _asked_with(stage.options),
                "whole": stage.whole and (stage.whole.part_instruction, stage.whole.merge_instruction),
                **({} if stage.primary_may_do_it else _what_answers(slots.for_prompt())),
            }
        )
    return found


def _asked_with(options: RequestOptions) -> dict[str, object]:
    asked = asdict(options)
    del asked["most_to_think"]  # the slot's, like how much of a document fits
    return asked


def _what_answers(slot: SlotConfig | None) -> dict[str, object]:
    """The model, and what the owner adds to each of its requests."""
    if slot is None:
        return {"model": None}
    extra = {"extra_body": slot.extra_body} if slot.extra_body else {}
    return {"model": slot.expected_model or slot.model, **extra}


def _digest(value: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
