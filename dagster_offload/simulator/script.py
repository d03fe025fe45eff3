"""What the stand-in router does when asked: its behaviour as plain values, and scripts that change it as time goes on.

A script is a JSON list of steps, each `{"after_seconds": 5, "set": {...}}`; `after_refusals` and `after_answers` count
completions since the step before. Steps follow one another; a step without a condition applies at once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

DEFAULT_ALIAS = "qwen-macbook"
DEFAULT_SERVED_MODEL = "simulated/extractive-8bit"

# The router's own words for a refusal, by mode. The other modes are what hosts and proxies do besides.
ROUTER_REASONS = {"cold": "upstream_cold", "warming": "warming", "busy": "editor_busy"}


class Behaviour(BaseModel):
    """How completions and health are answered. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: Literal["awake", "cold", "warming", "busy", "refuse", "hang", "cut"] = "awake"
    # `follow`: green when awake or busy (the owner's laptop is up), else red. `missing`: 404.
    health: Literal["follow", "green", "red", "missing", "hang"] = "follow"
    status: int = Field(default=500, ge=300, le=599)  # what `refuse` answers
    retry_after: str | None = None  # header of every refusal: seconds or an HTTP date
    redirect_to: str = "/elsewhere"  # location of a 3xx
    cut: Literal["502", "mid_body", "before_answer", "not_json", "empty"] = "502"  # how a cut generation ends
    cut_documents: list[str] = []  # markers in a document, or fingerprints: its generation is always cut
    latency: float = Field(default=0.0, ge=0)  # of one completion
    read_tokens_per_second: float | None = Field(
        default=None, gt=0
    )  # adds the time to read what the prompt cache lacks
    width: int = Field(default=4, ge=1)  # places: completions worked on at once; more wait in line
    refuses_above: int | None = Field(default=None, ge=1)  # 429 where more completions than this are open
    tells_places: bool = False  # whether /props names the places, as llama.cpp's server does
    hold: bool = False  # completions are accepted, and answered once this is off again
    alias: str = DEFAULT_ALIAS  # what /v1/models lists
    model: str | None = DEFAULT_SERVED_MODEL  # the name in answers; `echo` repeats the request's, null names none
    headers: dict[str, str] = {}  # on answers, e.g. a router's fallback headers
    # `in_reasoning`: the content is empty and the field for thinking holds the answer. `channels`: as gpt-oss writes, with a
    # draft before it. `stops_at_limit`: cut at the token limit, and the finish reason says `stop`.
    answers: Literal[
        "good", "empty", "null", "thinking", "unclosed_thinking", "garbage", "length", "no_choices", "no_message",
        "in_reasoning", "channels", "stops_at_limit",
    ] = "good"  # fmt: skip
    system_role: bool = True  # whether the chat template knows one: without it, a system message is a 400
    context_tokens: int | None = Field(default=None, ge=16)  # what its model reads at once; null = anything
    tells_context: bool = True  # in /v1/models
    # What it says to a request beyond that. `words`: a 500 without numbers. `cut_answer`: 200, and a stub of an answer.
    # `cut_prompt`: 200, and an answer to half a context's worth of the prompt (Ollama). `empty`: 200 and no token (LM Studio).
    too_long: Literal["llama.cpp", "vllm", "words", "cut_answer", "cut_prompt", "empty"] = "llama.cpp"
    api_key: str | None = None  # 401 without it
    # What is done with a wish for JSON. `ignored`: prose and a fence around it. `blanks`: blanks up to the token limit.
    # `empty`: an answer without text.
    response_format: Literal["honoured", "ignored", "refused", "json_object_only", "blanks", "empty"] = "honoured"
    # Whether it thinks before it answers, and what it obeys where it is told not to.
    thinking: Literal["never", "obeys_template", "obeys_effort", "obeys_no_think", "always"] = "never"
    thinking_tokens: int = Field(default=300, ge=1)
    thinking_in_text: bool = False  # between tags in the answer's text, not in a field of its own
    refuses: list[str] = []  # parts of a request that end in a 400 that names them, e.g. `chat_template_kwargs`

    def with_changes(self, changes: dict[str, Any]) -> "Behaviour":
        """A copy with `changes`. Raises `ValueError` naming what is unknown or wrong."""
        try:
            return Behaviour.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            raise ValueError(_problems(error)) from None

    @property
    def is_healthy(self) -> bool:
        return self.health == "green" or (self.health == "follow" and self.mode in {"awake", "busy", "cut"})


class Step(BaseModel):
    """One step of a script: what to set, and when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: dict[str, Any] = Field(alias="set")
    after_seconds: float = Field(default=0.0, ge=0)
    after_refusals: int = Field(default=0, ge=0)
    after_answers: int = Field(default=0, ge=0)


def read_script(source: Path | Sequence[dict[str, Any]]) -> list[Step]:
    """Steps from a JSON file or from plain values. Raises `ValueError` that says what is wrong where."""
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
    """Walks through steps. Looked at whenever a request comes in, so it needs no timer of its own."""

    def __init__(self, steps: Sequence[Step], now: float) -> None:
        self._steps = list(steps)
        self._since = now
        self._refusals = 0
        self._answers = 0

    def due_changes(self, now: float, refusals: int, answers: int) -> list[dict[str, Any]]:
        """The changes of every step whose turn has come. `refusals` and `answers` count from the router's start."""
        due = []
        while self._steps:
            step = self._steps[0]
            if (
                now - self._since < step.after_seconds
                or refusals - self._refusals < step.after_refusals
                or answers - self._answers < step.after_answers
            ):
                break
            self._steps.pop(0)
            # A step by time starts when it was due; one by a count starts when the count was seen.
            is_counted = step.after_refusals or step.after_answers
            self._since = now if is_counted else self._since + step.after_seconds
            self._refusals, self._answers = refusals, answers
            due.append(step.changes)
        return due
