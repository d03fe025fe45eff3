"""The LLM stages, built from the settings, and the recipe of every stage. No I/O here."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from dagster_offload.settings import Settings
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stage_spec.relations import class_names
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.stages import classify, summarize
from dagster_offload.stages.answers.doubts import doubts_about
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, StageGraph
from dagster_offload.stages.llm_stage import LLMStage
from dagster_offload.stages.own import own_stage
from dagster_offload.stages.own_graph import with_own_stages
from dagster_offload.text.tokens import DEFAULT_CONTEXT_TOKENS, text_tokens

# Increase when extraction gives a different text for the same bytes.
EXTRACT_VERSION = 3


def llm_stages(settings: Settings) -> dict[str, LLMStage]:
    """Return the LLM stages by name, in the graph's order, with the owner's classes, language and slot choices."""
    configured = settings.stages
    classes = class_names(configured.classify.classes)
    stages = (
        LLMStage(
            name=CLASSIFY,
            instruction=classify.instruction(classes),
            options=classify.options(classes),
            parse=lambda text: classify.parse(text, classes),
            prompt_version=classify.PROMPT_VERSION,
            slots=configured.classify.slots,
        ),
        LLMStage(
            name=SUMMARIZE,
            instruction=summarize.instruction(settings.language),
            options=summarize.options(),
            parse=summarize.parse,
            prompt_version=summarize.PROMPT_VERSION,
            slots=configured.summarize.slots,
            whole=summarize.whole_reading(settings.language),
            doubts=lambda answer, text: doubts_about(answer, text, settings.language),
        ),
    )
    own = {name: own_stage(name, spec) for name, spec in settings.own_stages.items()}
    by_name = {stage.name: stage for stage in stages} | own
    return {name: by_name[name] for name in stage_graph(settings).drain_stages}


def stage_graph(settings: Settings) -> StageGraph:
    """Return the built-in stages and the owner's. Raises `SettingsError`, which names the stage and its mistake."""
    return with_own_stages(settings.own_stages)


def code_versions(settings: Settings) -> dict[str, str]:
    """Return per stage the code version that Dagster shows: it depends on the stage alone, not on the slot or the model.

    The UI and the ledger thus agree on which results a new prompt makes outdated.
    """
    versions = {EXTRACT: f"{EXTRACT}-{EXTRACT_VERSION}"}
    for stage in llm_stages(settings).values():
        version = str(stage.prompt_version)
        if stage.name in settings.own_stages:
            version = _digest(_of_stage(stage, settings))
        versions[stage.name] = f"{stage.name}-{version}"
    return versions


def recipes(settings: Settings) -> dict[str, str]:
    """Return per stage the recipe: a hash of what an answer depends on besides its input.

    The recipe of a stage includes what its slots have in common: `expected_model`, or the alias if it is not set, and the
    extra body. The recipe of an `any` stage includes no model. How much of a document fits one request is not part of it,
    because that belongs to the slot and may change any day; the record says what was read.
    """
    slots = settings.slots
    hashes = {EXTRACT: _digest({"version": EXTRACT_VERSION})}
    for stage in llm_stages(settings).values():
        model = {} if stage.slots == "any" else _in_common(slots.allowed(stage.slots))
        hashes[stage.name] = _digest(_of_stage(stage, settings) | model)
    return hashes


def stages_by_slot(settings: Settings, wanted: Collection[str]) -> dict[str, list[str]]:
    """The wanted stages that each configured slot may answer, by the slot's name. Slots and stages are in declared order."""
    slots = settings.slots
    found: dict[str, list[str]] = {slot.name: [] for slot in slots}
    for stage in llm_stages(settings).values():
        for slot in slots.allowed(stage.slots) if stage.name in wanted else ():
            found[slot.name].append(stage.name)
    return found


@dataclass(frozen=True)
class Splitting:
    """The stages that read a long document in parts, and how many tokens of a text one part holds."""

    stages: tuple[str, ...]
    part_tokens: int


PARTS_PER_MERGE = 3.0  # about so many answers about parts are merged by one call

IN_ONE_PART = Splitting((), text_tokens(DEFAULT_CONTEXT_TOKENS))


def splitting(settings: Settings) -> Splitting:
    """How long documents will be split, by the configured context of the first slot that may answer."""
    slot = settings.slots.for_prompt()
    context = (slot and slot.context_tokens) or DEFAULT_CONTEXT_TOKENS
    stages = tuple(stage.name for stage in llm_stages(settings).values() if stage.whole is not None)
    return Splitting(stages, text_tokens(context))


def _of_stage(stage: LLMStage, settings: Settings) -> dict[str, object]:
    return {
        "prompt": stage.prompt_version,
        "instruction": stage.instruction,
        "options": _recipe_options(stage.options),
        "whole": stage.whole and (stage.whole.part_instruction, stage.whole.merge_instruction),
        **_own_choices(settings.own_stages.get(stage.name)),
    }


def _own_choices(spec: StageSpec | None) -> dict[str, object]:
    """What an answer to an own stage depends on, besides its instruction and options."""
    if spec is None:
        return {}
    return {"reads": spec.reads, "quotes": spec.quotes, "merge": spec.merge}


def _recipe_options(options: RequestOptions) -> dict[str, object]:
    values = asdict(options)
    del values["most_to_think"]  # belongs to the slot, as does how much of a document fits
    return values


def _in_common(slots: Sequence[SlotConfig]) -> dict[str, object]:
    """What is the same at all these slots: an answer of one is as good as an answer of another."""
    if not slots:
        return {"model": None}
    first, *others = map(_model_options, slots)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _model_options(slot: SlotConfig) -> dict[str, object]:
    """The model, and the extra body that the owner adds to each request."""
    extra = {"extra_body": slot.extra_body} if slot.extra_body else {}
    return {"model": slot.expected_model or slot.model, **extra}


def _digest(value: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
