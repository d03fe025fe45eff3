"""A completion whose content does not matter: it asks for one token, or for the fewest that the server accepts."""

from dataclasses import replace

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import text_of
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.part_refusals import least_token_limit

TOKEN_LIMITS = {"max_tokens", "max_completion_tokens"}

# Some servers refuse 1 (GPT-5: at least 16); the answer stays short whatever they name.
ONE_TOKEN = 1
TOKENS_IF_MORE_ARE_REQUIRED = 16
MOST_TOKENS = 256

# By URL and model: the limit that a server of this process accepted after it had refused a lower one.
_accepted_limits: dict[tuple[str, str], int] = {}


async def short_answer(
    client: AIClient, slot: SlotConfig, prompt: str, *, system: str | None = None, read_seconds: float | None = None
) -> str:
    """The short answer to `prompt`. It is requested a second time if the server requires a higher token limit.

    Raises what a completion raises.
    """
    server, asked = (slot.url, slot.model), _without_token_limits(slot)
    limit = _accepted_limits.get(server, ONE_TOKEN)
    options = RequestOptions(max_tokens=limit, temperature=0.0, thinking=False, read_timeout_seconds=read_seconds)
    try:
        return await client._request(asked, prompt, system=system, options=options)
    except httpx.HTTPStatusError as error:
        least = least_token_limit(error.response.status_code, text_of(error.response))
        if least is None or limit > ONE_TOKEN:
            raise
    more = min(least if least > ONE_TOKEN else TOKENS_IF_MORE_ARE_REQUIRED, MOST_TOKENS)
    answer = await client._request(asked, prompt, system=system, options=replace(options, max_tokens=more))
    _accepted_limits[server] = more
    return answer


def _without_token_limits(slot: SlotConfig) -> SlotConfig:
    """`slot` without token limits in `extra_body`: those are for documents, and this answer stays short."""
    kept = {name: value for name, value in slot.extra_body.items() if name not in TOKEN_LIMITS}
    return slot if kept == slot.extra_body else replace(slot, extra_body=kept)
