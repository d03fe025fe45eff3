"""The stand-in router's context: what it tells about it, and what it says to a request that does not fit."""

from typing import Any

from dagster_offload.simulator.script import Behaviour

# Where the prompt leaves so much room and no more, the answer ends for want of context.
ROOM_LEFT = 8
ANSWERED_ALL_THE_SAME = frozenset({"cut_answer", "cut_prompt", "empty"})


def told(behaviour: Behaviour) -> dict[str, Any]:
    """What `/v1/models` tells of it, as llama.cpp and vLLM do; nothing where the context is without bound."""
    if behaviour.context_tokens is None or not behaviour.tells_context:
        return {}
    if behaviour.too_long == "vllm":
        return {"max_model_len": behaviour.context_tokens}
    return {"meta": {"n_ctx": behaviour.context_tokens}}


def refusal(behaviour: Behaviour, prompt_tokens: int, max_tokens: int) -> tuple[int, dict[str, Any]] | None:
    """Status and error of a request that does not fit; None where it does, or where the answer will be what is cut."""
    bound = behaviour.context_tokens
    if bound is None or behaviour.too_long in ANSWERED_ALL_THE_SAME:
        return None
    if behaviour.too_long == "vllm" and max_tokens > bound:
        words = (
            f"max_tokens={max_tokens} cannot be greater than max_model_len={bound}. Please request fewer output tokens."
        )
        return 400, {"message": words, "type": "BadRequestError", "code": 400}
    if behaviour.too_long == "vllm":
        if prompt_tokens + max_tokens <= bound:
            return None
        words = (
            f"This model's maximum context length is {bound} tokens. However, you requested "
            f"{prompt_tokens + max_tokens} tokens ({prompt_tokens} in the messages, {max_tokens} in the completion)."
        )
        return 400, {"message": words, "type": "BadRequestError", "code": "context_length_exceeded"}
    if prompt_tokens < bound:
        return None
    if behaviour.too_long == "words":
        return 500, {"message": "input length exceeds the context length", "type": "api_error", "code": 500}
    words = f"request ({prompt_tokens} tokens) exceeds the available context size ({bound} tokens), try increasing it"
    numbers = {"n_prompt_tokens": prompt_tokens, "n_ctx": bound}
    return 400, {"message": words, "type": "exceed_context_size_error", "code": 400, **numbers}


def cut_to(behaviour: Behaviour, prompt_tokens: int) -> int | None:
    """How many prompt tokens are read where the server answers HTTP 200 to more than fits; None: all of them."""
    bound = behaviour.context_tokens
    if bound is None or behaviour.too_long not in ANSWERED_ALL_THE_SAME or prompt_tokens <= bound - ROOM_LEFT:
        return None
    return {"cut_answer": bound - ROOM_LEFT, "cut_prompt": bound // 2, "empty": 0}[behaviour.too_long]
