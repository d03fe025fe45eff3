"""The stand-in router's behaviour as plain values, and scripts that change it over time.

A script is a JSON list of steps, each `{"after_seconds": 5, "set": {...}}`. `after_refusals` and `after_answers` count
completions since the previous step. Steps apply in order; a step without a condition applies at once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

DEFAULT_ALIAS = "qwen-macbook"
DEFAULT_SERVED_MODEL = "simulated/extractive-8bit"

# The router's reason for a refusal, by mode. The other modes imitate hosts and proxies.
ROUTER_REASONS = {"cold": "upstream_cold", "warming": "warming", "busy": "editor_busy"}


class Behaviour(BaseModel):
    """How the router answers completions and health requests. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: Literal["awake", "cold", "warming", "busy", "refuse", "hang", "cut"] = "awake"
    # `follow`: green when awake, busy or cut (the owner's laptop is on), else red. `missing`: 404.
    health: Literal["follow", "green", "red", "missing", "hang"] = "follow"
    status: int = Field(default=500, ge=300, le=599)  # status of the mode `refuse`
    retry_after: str | None = None  # header of every refusal: seconds or an HTTP date
    redirect_to: str = "/elsewhere"  # location of a 3xx
    cut: Literal["502", "mid_body", "before_answer", "not_json", "empty"] = "502"  # how a cut generation ends
    cut_documents: list[str] = []  # text in a document, or fingerprints: its generation is always cut
    latency: float = Field(default=0.0, ge=0)  # of one completion
    read_tokens_per_second: float | None = Field(
        default=None, gt=0
    )  # adds the time to read tokens that are not in the prompt cache
    concurrency: int = Field(default=4, ge=1)  # concurrency and prompt cache size; further completions wait
    refuses_above: int | None = Field(default=None, ge=1)  # 429 if more completions than this are open
    tells_cache_size: bool = False  # whether /props reports the prompt cache size, as llama.cpp's server does
    hold: bool = False  # while true, completions are accepted but not answered
    alias: str = DEFAULT_ALIAS  # the model that /v1/models lists
    model: str | None = DEFAULT_SERVED_MODEL  # the model named in answers; `echo` repeats the request's, null omits it
    headers: dict[str, str] = {}  # on answers, e.g. a router's fallback headers
    # `in_reasoning`: the content is empty and the reasoning field holds the answer. `channels`: in gpt-oss's format, after a
    # draft. `stops_at_limit`: cut at the token limit, with the finish reason `stop`. `invented`: the numbers in answers to
    # own stages are not those of their quotes.
    answers: Literal[
        "good", "empty", "null", "thinking", "unclosed_thinking", "garbage", "length", "no_choices", "no_message",
        "in_reasoning", "channels", "stops_at_limit", "invented",
    ] = "good"  # fmt: skip
    system_role: bool = True  # whether the chat template has a system role; if not, a system message gets a 400
    context_tokens: int | None = Field(default=None, ge=16)  # the model's context size; null = unlimited
    tells_context: bool = True  # whether /v1/models reports it
    # The answer to a request that does not fit. `words`: a 500 without numbers. `cut_answer`: 200 with the first tokens of an
    # answer. `cut_prompt`: 200, with half a context's worth of the prompt read (Ollama). `empty`: 200, no token (LM Studio).
    too_long: Literal["llama.cpp", "vllm", "words", "proxy", "cut_answer", "cut_prompt", "empty"] = "llama.cpp"
    api_key: str | None = None  # requests without it get a 401
    # How a requested JSON format is treated. `ignored`: the answer has prose and a code fence around the JSON. `blanks`:
    # white space up to the token limit. `empty`: an answer without text.
    response_format: Literal["honoured", "ignored", "refused", "json_object_only", "blanks", "empty"] = "honoured"
    # Whether the model thinks before it answers, and which way of turning thinking off it obeys.
    thinking: Literal["never", "obeys_template", "obeys_effort", "obeys_no_think", "always"] = "never"
    thinking_tokens: int = Field(default=300, ge=1)
    thinking_in_text: bool = False  # between tags in the answer's text, not in a separate field
    refuses: list[str] = []  # request fields that get a 400 naming them, e.g. `chat_template_kwargs`

    def with_changes(self, changes: dict[str, Any]) -> "Behaviour":
        """Return a copy with `changes`. Raises `ValueError` that names each unknown or invalid field."""
        try:
            return Behaviour.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            raise ValueError(_problems(error)) from None

    @property
    def is_healthy(self) -> bool:
        """Whether a health request that gets an answer is green."""
        return self.health == "green" or (self.health == "follow" and self.mode in {"awake", "busy", "cut"})


class Step(BaseModel):
    """One step of a script: its changes and its conditions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: dict[str, Any] = Field(alias="set")
    after_seconds: float = Field(default=0.0, ge=0)
    after_refusals: int = Field(default=0, ge=0)
    after_answers: int = Field(default=0, ge=0)


def read_script(source: Path | Sequence[dict[str, Any]]) -> list[Step]:
    """Read steps from a JSON file or plain values. Raises `ValueError` that names each invalid value."""
    raw = json.loads(source.read_text(encoding="utf-8")) if isinstance(source, Path) else list(source)
    try:
        steps = TypeAdapter(list[Step]).validate_python(raw)
    except ValidationError as error:
        raise ValueError(_problems(error)) from None
    behaviour = Behaviour()
    for step in steps:
        behaviour = behaviour.with_changes(step.changes)
    return steps


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in error.errors())


class Script:
    """The steps that are left to apply. The router checks them at each request, so no timer is needed."""

    def __init__(self, steps: Sequence[Step], now: float) -> None:
        self._steps = list(steps)
        self._step_started = now
        self._refusals = 0
        self._answers = 0

    def due_changes(self, now: float, refusals: int, answers: int) -> list[dict[str, Any]]:
        """Return the changes of every step that is due. `refusals` and `answers` count from the router's start."""
        due = []
        while self._steps:
            step = self._steps[0]
            if (
                now - self._step_started < step.after_seconds
                or refusals - self._refusals < step.after_refusals
                or answers - self._answers < step.after_answers
            ):
                break
            self._steps.pop(0)
            # The next step counts from when a timed step was due, or from when a counted step was noticed.
            is_counted = step.after_refusals or step.after_answers
            self._step_started = now if is_counted else self._step_started + step.after_seconds
            self._refusals, self._answers = refusals, answers
            due.append(step.changes)
        return due
