"""The step of `doctor` that finds out how a slot's server is asked for JSON."""

from dataclasses import replace

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.check import Check
from dagster_offload.slot.chat import LENGTH
from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import USABLE, VARIANTS, Dialects, Feature, Finding, has_an_object, shown_of_json

RULES = "You answer short questions."  # a system message, as every document has one
# OpenAI and DeepSeek require the word "JSON" in the prompt for JSON mode; this question does not ask for a JSON answer.
JSON_QUESTION = "This tests JSON output. Name a colour of the rainbow, in one word."
PLAIN_JSON_QUESTION = 'This tests JSON output. Answer with this JSON object and nothing else: {"colour": "red"}'


async def check_json(client: AIClient, slot: SlotConfig, read_timeout_seconds: float) -> Check:
    """Which variant of the JSON request is obeyed. The question itself asks for no JSON, so one answer shows it.

    If none is obeyed, one more question asks for JSON by its text alone.
    """
    known = client.dialects_of(slot)
    schema = {
        "type": "object",
        "required": ["colour_of_the_rainbow"],
        "additionalProperties": False,
        "properties": {"colour_of_the_rainbow": {"enum": ["red", "green", "blue"]}},
    }
    options = RequestOptions(
        max_tokens=60,
        temperature=0.0,
        thinking=False,
        response_schema=schema,
        read_timeout_seconds=read_timeout_seconds,
    )
    while known.variant(Feature.JSON) is not None:
        reply = await client._request(slot, JSON_QUESTION, system=RULES, options=options)
        answer = reply if isinstance(reply, Answer) else Answer(reply)
        used, shown = answer.variants.get(Feature.JSON), shown_of_json(answer)
        if used is None:
            break
        if shown is None or (shown is Finding.EMPTY and answer.finish_reason == LENGTH):
            unusable = unusable_variants(known, Feature.JSON)
            return Check("json", True, f"the answer to {used} was cut or blank, so support is unknown{unusable}")
        if shown in USABLE:
            where = ", in its reasoning field" if shown is Finding.IN_REASONING else ""
            return Check("json", True, f"obeyed as {used}{where}{unusable_variants(known, Feature.JSON)}")
        known.note(Feature.JSON, used, shown)
    return await _by_the_prompt_alone(client, slot, replace(options, response_schema=None))


async def _by_the_prompt_alone(client: AIClient, slot: SlotConfig, options: RequestOptions) -> Check:
    """Whether the model answers with JSON if only the prompt asks for it."""
    reply = await client._request(slot, PLAIN_JSON_QUESTION, system=RULES, options=options)
    answer = reply if isinstance(reply, Answer) else Answer(reply)
    unusable = unusable_variants(client.dialects_of(slot), Feature.JSON)
    if answer.finish_reason != LENGTH and not answer.is_in_reasoning and not has_an_object(answer):
        return Check(
            "json",
            False,
            f"not one answer was JSON{unusable}",
            f"check which model and which chat template the server of {slot.name} has loaded; "
            "dagster-offload stage try classify FILE shows what the model writes",
            is_setting=True,
        )
    return Check("json", True, f"requested by the prompt alone, every answer is checked{unusable}")


def unusable_variants(known: Dialects, feature: Feature) -> str:
    """The variants that the server does not support, in brackets; empty if it supports the first."""
    findings = [(variant, known.finding(feature, variant)) for variant in VARIANTS[feature]]
    unusable = [f"{variant} {finding}" for variant, finding in findings if finding not in USABLE]
    return f" ({', '.join(unusable)})" if unusable else ""
