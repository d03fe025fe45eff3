"""Which feature of a request a server refused, from the text of the refusal. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_offload.slot.dialects import Feature

SERVER_ERROR = 500
LONGEST_MESSAGE = 4_000  # characters; the rest is not searched


@dataclass(frozen=True)
class _Rule:
    """A request for which `has_feature` is true was refused for this feature if status and text match."""

    feature: Feature
    has_feature: Callable[[Mapping[str, Any]], bool]
    text: re.Pattern[str]
    status_codes: frozenset[int] = frozenset({400, 422, SERVER_ERROR, 501})


# Groq's code for an answer outside the requested format, as a 400. The text of the answer follows.
_OF_ONE_ANSWER = "json_validate_failed"


def _has(key: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda body: key in body


def _has_system_message(body: Mapping[str, Any]) -> bool:
    return any(message.get("role") == "system" for message in body.get("messages", ()))


_RULES = (
    # The model's answer follows in the text, and any words may stand in it: so this rule comes first.
    _Rule(Feature.JSON, _has("response_format"), re.compile(_OF_ONE_ANSWER), frozenset({400, 422})),
    # The errors of chat templates (Gemma, Mistral, Ministral) as servers report them; mlx_lm reports them with a 404.
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
        _has("max_tokens"),
        re.compile(
            r"(?:unsupported|unknown|unrecognized|unexpected|invalid)\b.{0,40}\bmax_tokens\b"
            r"|max_tokens\W{0,4}(?:is )?(?:not supported|deprecated|no longer)"
            r"|use \W{0,2}max_completion_tokens\b"
            r"|max_tokens.{0,80}extra (?:inputs|fields) (?:are )?not permitted",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    # llama.cpp's 500 for an answer outside its grammar mentions a "peg-native format".
    _Rule(
        Feature.JSON,
        _has("response_format"),
        re.compile(
            r"response[_ ]format|json[_ ]schema|json[_ ]object|grammar|guided|structured|peg-native|\bschema\b"
            rf"|{_OF_ONE_ANSWER}",
            re.IGNORECASE,
        ),
    ),
    _Rule(
        Feature.NO_THINKING,
        _has("chat_template_kwargs"),
        re.compile(r"chat[_ ]template|enable_thinking", re.IGNORECASE),
    ),
    _Rule(Feature.NO_THINKING, _has("reasoning_effort"), re.compile(r"reasoning|\bthink", re.IGNORECASE)),
)


# OpenAI's message, which proxies quote; pydantic's; vLLM's.
_TOO_FEW_TOKENS = re.compile(
    r"max_(?:\w+_)?tokens\b.{0,60}?(?:below (?:the )?minimum|at least|>=|greater than or equal to)(?:\D{0,40}?(\d{1,6})\b)?",
    re.IGNORECASE | re.DOTALL,
)


def least_token_limit(status_code: int, text: str) -> int | None:
    """The least token limit that a server requires, if it refused one as too low; 0 if it names none, None for other
    refusals."""
    found = _TOO_FEW_TOKENS.search(text[:LONGEST_MESSAGE]) if status_code in {400, 422} else None
    return None if found is None else int(found[1] or 0)


def is_about_one_answer(status_code: int, text: str) -> bool:
    """Whether a refusal may be about the model's answer, so that the server may accept the same variant for another document."""
    return status_code == SERVER_ERROR or _OF_ONE_ANSWER in text[:LONGEST_MESSAGE]


def refused_feature(status_code: int, text: str, body: Mapping[str, Any]) -> Feature | None:
    """The feature of the request `body` that this refusal seems to be about, or None."""
    is_limit_known = least_token_limit(status_code, text) is not None
    for rule in _RULES:
        if rule.feature is Feature.TOKEN_LIMIT and is_limit_known:
            continue  # its value is refused, not its name
        if status_code in rule.status_codes and rule.has_feature(body) and rule.text.search(text[:LONGEST_MESSAGE]):
            return rule.feature
    return None
