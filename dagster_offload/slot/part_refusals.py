"""Which part of a request a refusal is about, by the words that servers use for it. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_offload.slot.dialects import SERVER_ERROR, Feature

LONGEST_NOTICE = 4_000  # characters; what comes after them is not read


@dataclass(frozen=True)
class _Rule:
    """A request that `has_part` and ends in one of these statuses with these words was refused for that part."""

    wish: Feature
    has_part: Callable[[Mapping[str, Any]], bool]
    words: re.Pattern[str]
    status_codes: frozenset[int] = frozenset({400, 422, SERVER_ERROR, 501})


def _names(part: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda body: part in body


def _has_system_message(body: Mapping[str, Any]) -> bool:
    return any(message.get("role") == "system" for message in body.get("messages", ()))


_RULES = (
    # What a chat template raises, as servers pass it on: Gemma, Mistral, Ministral; mlx_lm answers it with a 404.
    _Rule(
        Feature.DOCUMENT,
        _has_system_message,
        re.compile(
            r"system (?:role|messages?|prompts?|instructions?)\b.{0,40}\b(?:not|n't|un)\s*(?:be )?(?:supported|allowed|enabled)"
            r"|(?:does not|doesn't|not) support\w* (?:the |a )?system"
            r"|only user(?:, | and )assistant.{0,40}roles? (?:are|is) supported"
            r"|(?:unsupported|unknown|invalid|unexpected) (?:message )?role\W{0,4}system"
            r"|roles must alternate user/assistant|developer instruction is not enabled",
            re.IGNORECASE | re.DOTALL,
        ),
        frozenset({400, 404, 422, SERVER_ERROR, 501}),
    ),
    _Rule(
        Feature.TOKEN_LIMIT,
        _names("max_tokens"),
        re.compile(
            r"(?:unsupported|unknown|unrecognized|unexpected|invalid)\b.{0,40}\bmax_tokens\b"
            r"|max_tokens\W{0,4}(?:is )?(?:not supported|deprecated|no longer)"
            r"|use \W{0,2}max_completion_tokens\b"
            r"|max_tokens.{0,80}extra (?:inputs|fields) (?:are )?not permitted",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    # llama.cpp's 500 for an answer outside its grammar speaks of a "peg-native format".
    _Rule(
        Feature.JSON,
        _names("response_format"),
        re.compile(
            r"response[_ ]format|json[_ ]schema|json[_ ]object|grammar|guided|structured|peg-native|\bschema\b",
            re.IGNORECASE,
        ),
    ),
    _Rule(
        Feature.NO_THINKING,
        _names("chat_template_kwargs"),
        re.compile(r"chat[_ ]template|enable_thinking", re.IGNORECASE),
    ),
    _Rule(Feature.NO_THINKING, _names("reasoning_effort"), re.compile(r"reasoning|\bthink", re.IGNORECASE)),
)


def refused_feature(status_code: int, text: str, body: Mapping[str, Any]) -> Feature | None:
    """The wish in `body` that this refusal seems to be about, or None."""
    for rule in _RULES:
        if status_code in rule.status_codes and rule.has_part(body) and rule.words.search(text[:LONGEST_NOTICE]):
            return rule.wish
    return None
