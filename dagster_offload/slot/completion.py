"""The options of a completion request, and its answer.

Plain values that the client, the stages and the ledger share. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ModelEvidence(StrEnum):
    """How far the response's `model` field proves which model answered."""

    REPORTED = "reported"  # the server sent another name than we did, so it names the model itself
    ECHOED = "echoed"  # the server repeated the name we sent, which proves nothing
    ABSENT = "absent"  # the server sent no name


@dataclass(frozen=True)
class RequestOptions:
    """The options of one completion. Only options that are set are sent."""

    max_tokens: int | None = None
    temperature: float | None = None
    thinking: bool | None = None  # False requests an answer without thinking
    response_schema: dict[str, Any] | None = None  # JSON schema; requested, but every answer is checked
    read_timeout_seconds: float | None = None  # overrides the slot's read timeout for this call
    most_to_think: int | None = None  # limits the tokens added if thinking cannot be turned off


@dataclass(frozen=True)
class Usage:
    """Token counts as the server reports them; None if it reports none."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Answer(str):
    """The answer's text (`choices[0].message.content`), with what the server reported about it.

    It is a `str`, so a caller that needs only the text can use it directly.

    - `seconds`: from the start of the request to the complete answer.
    - `thinking_tokens`: tokens of thinking before the answer, as counted by the server, else estimated.
    - `reasoning`: the content of the reasoning field if the text is empty.
    - `is_in_reasoning`: the reasoning field contains a JSON object.
    - `is_refusal`: the model refused to answer, and the refusal field holds its reason.
    - `is_worth_asking_otherwise`: the model thought although the request turned thinking off, and another variant of that
      request is left.
    - `variants`: the variant of each feature in the request.
    """

    served_model: str | None
    model_evidence: ModelEvidence
    usage: Usage
    seconds: float
    finish_reason: str | None
    thinking_tokens: int
    reasoning: str
    is_in_reasoning: bool
    is_refusal: bool
    is_worth_asking_otherwise: bool
    variants: Mapping[str, str | None]

    def __new__(
        cls,
        content: str,
        *,
        served_model: str | None = None,
        model_evidence: ModelEvidence = ModelEvidence.ABSENT,
        usage: Usage | None = None,
        seconds: float = 0.0,
        finish_reason: str | None = None,
        thinking_tokens: int = 0,
        reasoning: str = "",
        is_in_reasoning: bool = False,
        is_refusal: bool = False,
    ) -> "Answer":
        answer = super().__new__(cls, content)
        answer.served_model = served_model
        answer.model_evidence = model_evidence
        answer.usage = usage or Usage()
        answer.seconds = seconds
        answer.finish_reason = finish_reason
        answer.thinking_tokens = thinking_tokens
        answer.reasoning = reasoning
        answer.is_in_reasoning = is_in_reasoning
        answer.is_refusal = is_refusal
        answer.is_worth_asking_otherwise = False
        answer.variants = {}
        return answer


@dataclass(frozen=True)
class ContextOverflow:
    """A request exceeds the model's context. Token counts as the server reports them; None if it reports none.

    `is_guess`: the server reports no overflow. This passage is split, and the slot's context size stays as it is known.
    """

    context_tokens: int | None = None
    prompt_tokens: int | None = None
    is_guess: bool = False
