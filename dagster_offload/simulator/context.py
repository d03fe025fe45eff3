"""The stand-in router's context size: how it is reported, and how a request that does not fit is answered."""

from typing import Any

from dagster_offload.simulator.script import Behaviour

# Tokens left for the answer if the prompt fills the context.
ROOM_LEFT = 8
# Values of `too_long` for which an oversized request is answered with HTTP 200.
ANSWERED_ANYWAY = frozenset({"cut_answer", "cut_prompt", "empty"})


def reported(behaviour: Behaviour) -> dict[str, Any]:
    """Return the fields that `/v1/models` adds, as llama.cpp and vLLM do; none if the context is unlimited."""
    if behaviour.context_tokens is None or not behaviour.tells_context:
        return {}
    if behaviour.too_long == "vllm":
        return {"max_model_len": behaviour.context_tokens}
    return {"meta": {"n_ctx": behaviour.context_tokens}}


def refusal(behaviour: Behaviour, prompt_tokens: int, max_tokens: int) -> tuple[int, dict[str, Any]] | None:
    """Return status and error for a request that does not fit. None if it fits, or if it is answered with HTTP 200."""
    bound = behaviour.context_tokens
    if bound is None or behaviour.too_long in ANSWERED_ANYWAY:
        return None
    if behaviour.too_long == "vllm" and max_tokens > bound:
        message = (
            f"max_tokens={max_tokens} cannot be greater than max_model_len={bound}. Please request fewer output tokens."
        )
        return 400, {"message": message, "type": "BadRequestError", "code": 400}
    if behaviour.too_long == "vllm":
        if prompt_tokens + max_tokens <= bound:
            return None
        message = (
            f"This model's maximum context length is {bound} tokens. However, you requested "
            f"{prompt_tokens + max_tokens} tokens ({prompt_tokens} in the messages, {max_tokens} in the completion)."
        )
        return 400, {"message": message, "type": "BadRequestError", "code": "context_length_exceeded"}
    if prompt_tokens < bound:
        return None
    if behaviour.too_long == "proxy":
        return 413, {"message": "Payload Too Large"}
    if behaviour.too_long == "words":
        return 500, {"message": "input length exceeds the context length", "type": "api_error", "code": 500}
    message = f"request ({prompt_tokens} tokens) exceeds the available context size ({bound} tokens), try increasing it"
    numbers = {"n_prompt_tokens": prompt_tokens, "n_ctx": bound}
    return 400, {"message": message, "type": "exceed_context_size_error", "code": 400, **numbers}


def cut_to(behaviour: Behaviour, prompt_tokens: int) -> int | None:
    """Return how many prompt tokens are read if an oversized request is answered with HTTP 200; None means all."""
    bound = behaviour.context_tokens
    if bound is None or behaviour.too_long not in ANSWERED_ANYWAY or prompt_tokens <= bound - ROOM_LEFT:
        return None
    return {"cut_answer": bound - ROOM_LEFT, "cut_prompt": bound // 2, "empty": 0}[behaviour.too_long]
