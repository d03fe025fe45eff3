"""The stand-in router's reply to one request: an answer in the form that `Behaviour` sets."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, StrictInt, ValidationError

from dagster_offload.simulator.answers import answer
from dagster_offload.simulator.fields import invented
from dagster_offload.simulator.request_log import count_tokens
from dagster_offload.simulator.script import Behaviour
from dagster_offload.text.validation import faults_in_words

THOUGHT = "Hmm."  # one token
CHANNELS_BEFORE = (
    '<|channel|>analysis<|message|>Perhaps {"category": "poem", "summary": "A draft."}?<|end|>'
    "<|start|>assistant<|channel|>final<|message|>"
)
ODD_ANSWERS: Mapping[str, str] = {
    "empty": "",
    "thinking": "<think>\nLet me look at this.\n</think>\n",
    "unclosed_thinking": "<think>\nLet me look at this.",
    "garbage": "I would rather not answer in JSON.",
}


LIMITS = ("max_completion_tokens", "max_tokens")


class _Format(BaseModel):
    type: str | None = None
    json_schema: dict[str, Any] = {}


class _Request(BaseModel):
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: StrictInt | None = None
    max_completion_tokens: StrictInt | None = None
    response_format: _Format | None = None
    chat_template_kwargs: dict[str, Any] | None = None


def problem_of(body: Any) -> str | None:
    """What is malformed in a request's body, in words; None if nothing is."""
    try:
        _Request.model_validate(body)
    except ValidationError as error:
        return faults_in_words(error.errors(include_url=False, include_input=False))
    return None


def token_limit(body: Mapping[str, Any], otherwise: int = 4096) -> int:
    """Return the request's limit of answer tokens, under either parameter name, or `otherwise`."""
    return next((int(body[name]) for name in LIMITS if body.get(name)), otherwise)


def requested_schema(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the request's JSON schema in any dialect, or None if it has none."""
    response_format = body.get("response_format") or {}
    schema = response_format.get("json_schema", {}).get("schema") or response_format.get("schema")
    return schema if isinstance(schema, dict) else None


def reply_to(body: Mapping[str, Any], behaviour: Behaviour) -> tuple[dict[str, Any], str]:
    """Return the assistant's message and its finish reason, within the request's `max_tokens`."""
    bound = token_limit(body)
    thought = THOUGHT * behaviour.thinking_tokens if _thinks(body, behaviour) else ""
    text, finish_reason = _text(body, behaviour, bound), "stop"
    if behaviour.answers == "length" or count_tokens(thought + text) > bound:
        room = bound - count_tokens(thought)
        thought = thought[: 4 * bound]
        text, finish_reason = text[: max(0, min(4 * room, len(text) // 2))], "length"
    if behaviour.answers == "in_reasoning":
        return {"role": "assistant", "content": "", "reasoning_content": text}, finish_reason
    if behaviour.answers == "channels":
        text = f"{CHANNELS_BEFORE}{text}"
    message: dict[str, Any] = {"role": "assistant", "content": None if behaviour.answers == "null" else text}
    if thought and behaviour.thinking_in_text:
        message["content"] = f"<think>\n{thought}\n" + (f"</think>\n\n{text}" if text else "")
    elif thought:
        message["reasoning_content"] = thought
    return message, finish_reason


def _text(body: Mapping[str, Any], behaviour: Behaviour, bound: int) -> str:
    if behaviour.answers in ODD_ANSWERS:
        return ODD_ANSWERS[behaviour.answers]
    if behaviour.response_format == "ignored":
        text = answer(body["messages"], None)
        return f"Here it is:\n```json\n{text}\n```" if "response_format" in body else text
    if behaviour.response_format == "blanks" and "response_format" in body:
        return "{" + "\n" * 4 * bound
    if behaviour.response_format == "empty" and "response_format" in body:
        return ""
    schema, text = requested_schema(body), answer(body["messages"], requested_schema(body))
    return invented(text) if behaviour.answers == "invented" and schema is not None else text


def _thinks(body: Mapping[str, Any], behaviour: Behaviour) -> bool:
    if behaviour.thinking in {"never", "always"}:
        return behaviour.thinking == "always"
    return not {
        "obeys_template": (body.get("chat_template_kwargs") or {}).get("enable_thinking") is False,
        "obeys_effort": body.get("reasoning_effort") in {"none", "minimal"},
        "obeys_no_think": str(body["messages"][-1]["content"]).endswith("/no_think"),
    }[behaviour.thinking]
