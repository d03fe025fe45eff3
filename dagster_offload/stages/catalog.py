"""The LLM stages, built from the settings, and the recipe of every stage. No I/O here."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from dagster_offload.settings import Settings
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages import classify, summarize
from dagster_offload.stages.doubts import Doubt, doubts_about
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.stages.long_documents import WholeReading

# Increase when extraction gives a different text for the same bytes.
EXTRACT_VERSION = 2


@dataclass(frozen=True)
class LLMStage:
    """One question about a document: its instruction, its request options, and the parser of its answer."""

    name: str
    instruction: str
    options: RequestOptions
    parse: Callable[[str], BaseModel]  # raises UnusableAnswer
    prompt_version: int
    primary_may_do_it: bool = False  # true if the owner lists it in `any_stages`
    # How the stage reads a long document to its end. None: it reads only the beginning.
    whole: WholeReading | None = None
    # The doubts about a valid answer, given the text it is about. Not part of the recipe: they change no answer.
    doubts: Callable[[Mapping[str, Any], str], tuple[Doubt, ...]] = lambda _answer, _text: ()


def llm_stages(settings: Settings) -> dict[str, LLMStage]:
    """Return the LLM stages by name, in declared order, with the owner's classes, language and slot choices."""
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
            doubts=lambda answer, text: doubts_about(answer, text, settings.language),
        ),
    )
    return {stage.name: stage for stage in stages}


def recipes(settings: Settings) -> dict[str, str]:
    """Return per stage the recipe: a hash of what an answer depends on besides its input.

    The recipe of a `deep` stage includes `expected_model`, or the alias if it is not set, and the extra body. The recipe
    of an `any` stage includes no model. How much of a document fits one request is not part of it, because that belongs
    to the slot and may change any day; the record says what was read.
    """
    slots = settings.slots
    hashes = {EXTRACT: _digest({"version": EXTRACT_VERSION})}
    for stage in llm_stages(settings).values():
        hashes[stage.name] = _digest(
            {
                "prompt": stage.prompt_version,
                "instruction": stage.instruction,
                "options": _recipe_options(stage.options),
                "whole": stage.whole and (stage.whole.part_instruction, stage.whole.merge_instruction),
                **({} if stage.primary_may_do_it else _model_options(slots.for_prompt())),
            }
        )
    return hashes


def _recipe_options(options: RequestOptions) -> dict[str, object]:
    values = asdict(options)
    del values["most_to_think"]  # belongs to the slot, as does how much of a document fits
    return values


def _model_options(slot: SlotConfig | None) -> dict[str, object]:
    """The model, and the extra body that the owner adds to each request."""
    if slot is None:
        return {"model": None}
    extra = {"extra_body": slot.extra_body} if slot.extra_body else {}
    return {"model": slot.expected_model or slot.model, **extra}


def _digest(value: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
