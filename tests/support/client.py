"""Slots and refusals for tests of the client without a socket."""

from typing import Any

import httpx

from dagster_offload.slot.config import SlotConfig

REQUEST = httpx.Request("POST", "http://router/v1/chat/completions")
DEEP_SLOT = SlotConfig(name="deep", url="http://router", model="qwen-macbook")
EXPECTING = SlotConfig(name="deep", url="http://router", model="qwen-macbook", expected_model=r"Qwen3\.6-27B")


def status_error(status_code: int, body: Any = None, **headers: str) -> httpx.HTTPStatusError:
    response = httpx.Response(status_code, json=body, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError("refused", request=REQUEST, response=response)
