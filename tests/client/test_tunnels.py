"""A slot behind a tunnel or a proxy that answers while its machine is asleep."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from dagster_offload.cli.quick_probe import quick_probe
from dagster_offload.client.ai_client import AIClient, call_deep_or_defer
from dagster_offload.client.faults import reason_with_words
from dagster_offload.client.probe import probe as engine_probe
from dagster_offload.client.trial import TrialVerdict, trial
from dagster_offload.errors import StageDeferred
from dagster_offload.slot.config import SlotConfig, Slots
from dagster_offload.slot.health import ProbeResult
from tests.faults.acts import says
from tests.faults.raw_server import Act, Hits, RawServer

TEXT = "text/plain; charset=utf-8"
NGROK = says(
    404,
    "The endpoint a.ngrok.app is offline.\r\n\r\nERR_NGROK_3200\r\n",
    content_type="text/plain",
    ngrok_error_code="ERR_NGROK_3200",
)
TRAEFIK_WITHOUT_ROUTER = says(404, "404 page not found\n", content_type=TEXT)
TRAEFIK_WITHOUT_SERVER = says(503, "no available server\n", content_type=TEXT)
CLOUDFLARE = says(530, "error code: 1033", content_type=TEXT)

Probe = Callable[[SlotConfig], Awaitable[ProbeResult]]


async def _quick(slot: SlotConfig) -> ProbeResult:
    return await asyncio.to_thread(quick_probe, slot)


async def verdict_behind(act: Act, *, has_answered: bool = False) -> TrialVerdict:
    with RawServer(act, Hits.ALL, health=act) as server:
        slot = SlotConfig("deep", server.url, "qwen-macbook")
        async with AIClient(Slots(deep=slot)) as client:
            return await trial(client, slot, has_answered=has_answered)


@pytest.mark.rule("slot-1", "slot-15")
async def test_a_machine_that_is_not_connected_to_ngrok_is_unavailable_not_misconfigured() -> None:
    reason = "HTTP 404: no machine is connected to ngrok under this name"
    words = ': "The endpoint a.ngrok.app is offline."'
    verdict = await verdict_behind(NGROK)
    assert (verdict.answered, verdict.misconfigured) == (False, False)
    assert verdict.reason == f"{reason} (check OFFLOAD_DEEP_URL){words}"
    assert (await verdict_behind(NGROK, has_answered=True)).reason == reason + words


@pytest.mark.rule("slot-3")
async def test_a_call_to_a_machine_that_is_not_connected_to_ngrok_is_deferred() -> None:
    with RawServer(NGROK, Hits.ALL) as server:
        async with AIClient(Slots(deep=SlotConfig("deep", server.url, "qwen-macbook"))) as client:
            with pytest.raises(StageDeferred) as raised:
                await call_deep_or_defer(client, "a document")
    assert isinstance(raised.value.__cause__, httpx.HTTPStatusError)


@pytest.mark.rule("slot-11", "wake-1")
@pytest.mark.parametrize("ask", [engine_probe, _quick], ids=["engine", "quick"])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (NGROK, "/health returned HTTP 404: no machine is connected to ngrok under this name (check OFFLOAD_DEEP_URL)"),
        (CLOUDFLARE, '/health returned HTTP 530 (check OFFLOAD_DEEP_URL): "error code: 1033"'),
    ],
)
async def test_a_tunnel_that_does_not_reach_the_machine_is_no_answer_of_the_slot(
    ask: Probe, act: Act, reason: str
) -> None:
    with RawServer(act, Hits.ALL, health=act) as server:
        found = await ask(SlotConfig("deep", server.url, "qwen-macbook"))
    assert (found.healthy, found.answered, found.is_unreached) == (False, True, True), "so its machine is woken"
    assert found.reason.startswith(reason)


@pytest.mark.rule("slot-15")
async def test_a_404_in_plain_text_says_that_a_proxy_may_answer() -> None:
    verdict = await verdict_behind(TRAEFIK_WITHOUT_ROUTER)
    assert verdict.reason == (
        "HTTP 404 (check OFFLOAD_DEEP_URL or OFFLOAD_DEEP_MODEL, or whether a proxy answers because the machine is "
        'asleep): "404 page not found"'
    )


@pytest.mark.rule("slot-14")
async def test_the_text_of_a_proxy_is_quoted_and_does_not_make_the_url_right() -> None:
    verdict = await verdict_behind(TRAEFIK_WITHOUT_SERVER)
    assert not verdict.misconfigured
    assert verdict.reason == 'HTTP 503 (check OFFLOAD_DEEP_URL): "no available server"'


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize("text", ["cannot read: your account 4471-22 was", "Forbidden: sesame-1"])
async def test_a_text_that_repeats_the_document_or_the_key_is_not_quoted(text: str) -> None:
    with RawServer(says(403, text, content_type=TEXT), Hits.ALL) as server:
        slot = SlotConfig("deep", server.url, "qwen-macbook", api_key="sesame-1")
        async with AIClient(Slots(deep=slot)) as client:
            with pytest.raises(httpx.HTTPStatusError) as raised:
                await client.call_deep("Sir, your account 4471-22 was charged 300 euros.")
    assert reason_with_words(raised.value) == "HTTP 403"


@pytest.mark.rule("slot-15")
async def test_a_redirect_shows_where_it_points_and_names_only_the_url() -> None:
    verdict = await verdict_behind(says(302, location="https://login.example/in?token=secret"))
    assert verdict.misconfigured
    assert verdict.reason == "HTTP 302: it redirects to https://login.example (check OFFLOAD_DEEP_URL)"
