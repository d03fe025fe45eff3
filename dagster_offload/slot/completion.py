"""What a completion is asked with besides its prompt, and what comes back.

Plain values shared by the client, the stages and the ledger; nothing here does I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ModelEvidence(StrEnum):
    """How far the response's `model` field proves which model answered."""

    REPORTED = "reported"  # the server named something other than what we asked for: it speaks for itself
    ECHOED = "echoed"  # the server repeated the name we sent: proves nothing
    ABSENT = "absent"  # no name at all


@dataclass(frozen=True)
class RequestOptions:
    """One completion's bounds. Only what is set is sent."""

    max_tokens: int | None = None
    temperature: float | None = None
    thinking: bool | None = None  # False asks the server's chat template not to think
    response_schema: dict[str, Any] | None = None  # JSON schema; asked for, never relied on
    read_timeout_seconds: float | None = None  # overrides the slot's own for this call
    most_to_think: int | None = None  # bounds the tokens added for a server that thinks whatever it is told


@dataclass(frozen=True)
class Usage:
    """Tokens as the server counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Answer(str):
    """The answer's text (`choices[0].message.content`), with what the server said around it.

    A `str`, so that a caller who wants only the text needs to know nothing else. `thinking_tokens` is what was thought
    before it, as the server counted, else estimated. `reasoning`: where the text is empty, what the server put in its field
    for thinking instead; `is_in_reasoning`: a JSON object stands there. `is_worth_asking_otherwise`: it thought though it
    was asked not to, and there is another variant to ask. `variants`: in which dialects it was asked, by feature.
    """

    served_model: str | None
    model_evidence: ModelEvidence
    usage: Usage
    seconds: float
    finish_reason: str | None
    thinking_tokens: int
    reasoning: str
    is_in_reasoning: bool
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
        answer.is_worth_asking_otherwise = False
        answer.variants = {}
        return answer


@dataclass(frozen=True)
class ContextOverflow:
    """A server's word that a request is more than its model's context holds. Tokens as it counted them; None where it
    did not say."""

    context_tokens: int | None = None
    prompt_tokens: int | None = None
