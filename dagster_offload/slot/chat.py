"""One chat completion as JSON: builds the request body and reads the answer's body.

Pure: no sockets. This module checks which model answered; the stages decide whether the answer's text is usable.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from dagster_offload.errors import CutAnswer, ErrorAsAnswer, MalformedAnswer, WrongModel
from dagster_offload.slot.addresses import auth_headers, secrets_in
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions, Usage
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import (
    FIRST_VARIANTS,
    IN_USER_MESSAGE,
    MAX_COMPLETION_TOKENS,
    MAX_TOKENS,
    Feature,
    request_json,
    request_thinking,
)
from dagster_offload.slot.refusals import server_words, status_named_in
from dagster_offload.slot.thinking import split_thinking
from dagster_offload.text.lenient_json import located_objects, read_json

# The token limit of a call whose caller sets none.
DEFAULT_MAX_TOKENS = 4_096

# The most tokens added for thinking before the answer. Short answers get fewer, so that a trial stays short.
MOST_TOKENS_TO_THINK = 4_096

# The largest token count that is accepted from a server: the limit of the ledger's columns.
MOST_TOKENS = 2**31 - 1

# After a fallback, LiteLLM's proxy puts the requested alias into the body's `model` (since 1.85). These headers show how
# often it fell back and which model group answered (docs.litellm.ai/docs/proxy/response_headers).
FALLBACK_COUNT_HEADER = "x-litellm-attempted-fallbacks"
ANSWERING_GROUP_HEADER = "x-litellm-model-group"

CHARACTERS_PER_TOKEN = 3  # of thinking that the server did not count

STOP, LENGTH = "stop", "length"  # why an answer ended: it was complete, or it reached the token limit
# Why an answer ended if the server or its provider failed: OpenRouter; SGLang and vLLM; DeepSeek; z.AI.
FAILURES = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})
# Other words for `length`: Anthropic's and Mistral's behind a router, Gemini's.
_LIMITS = frozenset({"max_tokens", "model_length", "MAX_TOKENS"})
# Encodings of a body that a server may use.
_REQUESTED_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
# MiniMax answers 200 to everything. Its codes for a timeout, too many requests, a wrong key, no credit and its own faults
# (platform.minimax.io, error codes).
_STATUS_OF_MINIMAX = {
    **dict.fromkeys((1000, 1024, 1033), 503),
    1001: 504,
    **dict.fromkeys((1002, 1041, 2045, 2056), 429),  # requests, connections, growth and usage
    **dict.fromkeys((1004, 2049), 401),
    1008: 402,
}
_CODES_OF_SUCCESS = frozenset({"none", "0", "200", "ok", "success"})


class ChoiceWithoutMessage(MalformedAnswer):
    """The first of the `choices` has no `message`: enough of an answer for a trial, but not for a stage."""


class NamedStatus(Exception):  # noqa: N818 - the client turns it into a refusal with this status
    """The answer, or its choice, is an error that names a status. `body` is what a refusal with it would say; it may quote the
    document."""

    def __init__(self, status_code: int, body: object) -> None:
        super().__init__(status_code)
        self.status_code = status_code
        self.body = body


def request_body(
    slot: SlotConfig,
    prompt: str,
    system: str | None,
    options: RequestOptions | None,
    variants: Mapping[Feature, str | None] = FIRST_VARIANTS,
) -> dict[str, Any]:
    """The body of `POST /v1/chat/completions`, with the given variant of each feature.

    Not streamed: some proxies add a regular end to a stream that was cut.
    """
    options = options or RequestOptions()
    max_tokens = DEFAULT_MAX_TOKENS if options.max_tokens is None else options.max_tokens
    if options.thinking is not None and variants[Feature.NO_THINKING] is None:
        room = room_to_think(max_tokens)
        max_tokens += room if options.most_to_think is None else min(room, options.most_to_think)
    body: dict[str, Any] = {
        "model": slot.model,
        "messages": messages(prompt, system, variants[Feature.DOCUMENT]),
        "stream": False,
        variants[Feature.TOKEN_LIMIT] or MAX_TOKENS: max_tokens,
    }
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if options.thinking is not None:
        request_thinking(body, variants[Feature.NO_THINKING], wanted=options.thinking)
    if options.response_schema is not None:
        request_json(body, variants[Feature.JSON], options.response_schema)
    return body


def messages(prompt: str, system: str | None, variant: str | None) -> list[dict[str, str]]:
    """The system and the user message, or one user message for a chat template without a system role.

    The document always comes first, so that a prompt cache can keep it.
    """
    if system is None:
        return [{"role": "user", "content": prompt}]
    if variant == IN_USER_MESSAGE:
        return [{"role": "user", "content": f"{system}\n\n{prompt}"}]
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def token_limit_in(body: Mapping[str, Any]) -> int | None:
    """The token limit that a request sets for its answer, or None."""
    limit = body.get(MAX_COMPLETION_TOKENS, body.get(MAX_TOKENS))
    return limit if isinstance(limit, int) else None


def texts_in(body: Mapping[str, Any]) -> str:
    """The texts of a request's messages."""
    return "\n".join(str(message["content"]) for message in body.get("messages", ()))


def room_to_think(max_tokens: int) -> int:
    """The tokens added to the limit of an answer if thinking cannot be turned off."""
    return min(max_tokens * 20, MOST_TOKENS_TO_THINK)


def with_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with the keys of `extra`. Nested objects are merged; otherwise the value of `extra` wins."""
    merged = dict(body)
    for name, value in extra.items():
        inner = merged.get(name)
        merged[name] = with_extra(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def read_answer(
    slot: SlotConfig, content: bytes, headers: Mapping[str, str], seconds: float, sent: Mapping[str, Any] | None = None
) -> Answer:
    """The answer in the body of a 2xx. `headers` have lower-case names; `sent` is the body of the request.

    Raises `CutAnswer` if the body is not complete JSON or the generation failed, `NamedStatus` for an error that names a
    status (OpenRouter sends it if a model fails after the request was accepted), `MalformedAnswer` for other JSON that is not
    a chat completion, and `WrongModel` if another model than the expected one answered. No message of an error contains text
    of the body.
    """
    try:
        body = read_json(content)
    except ValueError:  # also raised if the body is not UTF-8
        raise CutAnswer(_what_is_not_json(content, headers.get("content-encoding", ""))) from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if isinstance(body, dict) and not choices:
        _refuse_error(body, f"{texts_in(sent or {})}\n{secrets_in(auth_headers(slot))}")
    if not isinstance(choices, list) or not choices:
        raise MalformedAnswer("the answer is JSON without choices: is this a chat completions server?")
    choice = choices[0] if isinstance(choices[0], dict) else {}
    finish_reason = choice.get("finish_reason")
    native = choice.get("native_finish_reason")  # of OpenRouter's provider, which failed although the reason is `stop`
    if isinstance(native, str) and native in FAILURES:
        finish_reason = native
    if finish_reason != STOP and finish_reason != LENGTH:
        _refuse_failed(choice, finish_reason, body)
        finish_reason = LENGTH if isinstance(finish_reason, str) and finish_reason in _LIMITS else finish_reason
    served_model, evidence = _who_answered(slot, body.get("model"))
    _check_model(slot, served_model, evidence, headers)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ChoiceWithoutMessage("the answer's first choice has no message: is this a chat completions server?")
    text, reasoning = _text_of(message.get("content")), _reasoning_of(message)
    usage = _usage_of(body.get("usage"))
    token_limit = token_limit_in(sent or {})
    if finish_reason == STOP and token_limit is not None and usage.completion_tokens == token_limit:
        finish_reason = LENGTH  # several servers report `stop` for an answer that was cut at the limit
    # LM Studio puts an answer that fits a schema into the reasoning field if the model can think.
    written = "" if text.strip() or finish_reason != STOP else reasoning
    place = next((place for place, _ in located_objects(written)), None)
    return Answer(
        text,
        served_model=None if served_model is None else _shown(served_model),
        model_evidence=evidence,
        usage=usage,
        seconds=seconds,
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        thinking_tokens=(
            _thinking_tokens(text, reasoning, body.get("usage"))
            if place is None
            else _tokens_of_thinking(written[: place.start])
        ),
        reasoning=written,
        is_in_reasoning=place is not None,
        is_refusal=bool(message.get("refusal")),
    )


def _refuse_error(body: Mapping[str, Any], sent: str) -> None:
    """Raise if a body without choices is an error: `{"error": ...}`, or `{"code": 404, "message": ...}` (vLLM behind RunPod)."""
    verdict = body.get("base_resp")
    if isinstance(verdict, dict) and isinstance(code := verdict.get("status_code"), int) and code:
        body = {"error": {"status": _STATUS_OF_MINIMAX.get(code), "message": verdict.get("status_msg")}}
    status_code = status_named_in(body.get("error"), body)
    if status_code is not None:
        raise NamedStatus(status_code, body)
    if _is_error(body):
        words = server_words(json.dumps(body), sent)
        raise ErrorAsAnswer("the answer is an error, although its status is HTTP 200", body, words)


def _is_error(body: Mapping[str, Any]) -> bool:
    """Whether a body says that it is an error. A message alone may be the model's answer in the form of another API, which no
    log may show."""
    if body.get("error") or body.get("detail") or body.get("success") is False:
        return True
    if any(body.get(name) == "error" for name in ("object", "status", "type")):
        return True
    return str(body.get("code", "ok")).lower() not in _CODES_OF_SUCCESS


def _refuse_failed(choice: Mapping[str, Any], finish_reason: object, body: Mapping[str, Any]) -> None:
    """Raise if the generation failed: the text is then only the beginning of an answer, although it may look complete."""
    failure = finish_reason if isinstance(finish_reason, str) and finish_reason in FAILURES else None
    error = choice.get("error") or (body.get("error") if failure else None)
    if not failure and not error:
        return
    status_code = status_named_in(error)
    if status_code is not None:
        # Without the text of the answer, in which a router's reason code would be looked for.
        raise NamedStatus(status_code, {"error": error})
    raise CutAnswer(f"the server ended it with the finish reason {failure or 'error'}")


def _what_is_not_json(content: bytes, encoding: str) -> str:
    begins = content.lstrip()
    if encoding.lower() not in _REQUESTED_ENCODINGS and not begins.startswith(b"{"):
        return f"its body is packed as {_shown(encoding)}, which was not requested"
    if begins.startswith(b"<"):
        return "its body is an HTML page"
    if begins.startswith((b"data:", b"event:", b": ")):
        return "its body is an event stream, and none was requested"
    return "its body is not complete JSON"


def matches_expected(slot: SlotConfig, name: str) -> bool:
    """Whether a model name matches `expected_model`, or there is no expectation."""
    return slot.expected_model is None or re.search(slot.expected_model, name) is not None


def _who_answered(slot: SlotConfig, name: object) -> tuple[str | None, ModelEvidence]:
    if not isinstance(name, str) or not name.strip():
        return None, ModelEvidence.ABSENT
    return name, ModelEvidence.ECHOED if name == slot.model else ModelEvidence.REPORTED


def _check_model(
    slot: SlotConfig, served_model: str | None, evidence: ModelEvidence, headers: Mapping[str, str]
) -> None:
    fallback = _fallback_model(slot, headers)
    if fallback is not None:
        raise WrongModel(f"the router fell back from {slot.model} to {fallback}")
    if evidence is ModelEvidence.REPORTED and served_model is not None and not matches_expected(slot, served_model):
        raise WrongModel(
            f"{_shown(served_model)} answered, but {slot.setting('expected_model')} is {slot.expected_model}"
        )


def _fallback_model(slot: SlotConfig, headers: Mapping[str, str]) -> str | None:
    """The model that the router fell back to, from its headers; None without a fallback."""
    group = headers.get(ANSWERING_GROUP_HEADER, "").strip()
    count = headers.get(FALLBACK_COUNT_HEADER, "").strip()
    if count:
        return None if count.lower() in {"0", "false", "none"} else _shown(group or "another model")
    if group and group != slot.model and not (slot.expected_model and matches_expected(slot, group)):
        return _shown(group)
    return None


def _shown(name: str) -> str:
    """A server's name for its model, safe for one line of a log."""
    return "".join(character if character.isprintable() else "?" for character in name[:200])


def _text_of(content: object) -> str:
    """`content` as text. Null becomes empty text, and the texts of a list are joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in parts if isinstance(text, str))
    return ""


def _reasoning_of(message: Mapping[str, Any]) -> str:
    # llama.cpp, DeepSeek and others name it `reasoning_content`; Ollama, OpenRouter and newer vLLM `reasoning`.
    return _text_of(message.get("reasoning_content")) or _text_of(message.get("reasoning"))


def _thinking_tokens(text: str, reasoning: str, usage: object) -> int:
    """The tokens of thinking before the answer: the server's count, else an estimate from the visible thinking."""
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    if isinstance(details, dict) and (counted := _count(details.get("reasoning_tokens"))):
        return counted
    return _tokens_of_thinking(reasoning or split_thinking(text)[0])


def _tokens_of_thinking(thought: str) -> int:
    return -(-len(thought.strip()) // CHARACTERS_PER_TOKEN)


def _usage_of(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: object) -> int | None:
    """A number of tokens, which some servers write as `12.0`; None for everything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None
