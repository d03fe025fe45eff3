"""The probe reports whether the router is healthy, and why not. It raises for no slot fault.

The engine and `status`, which has no HTTP client, have one each; both report the same.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dagster_offload.cli.quick_probe import quick_probe
from dagster_offload.client.checkup import check_health
from dagster_offload.client.probe import probe as engine_probe
from dagster_offload.simulator.server import Router
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import ProbeResult, nearest_name
from dagster_offload.testing import ChangeTiming
from tests.faults.acts import says
from tests.faults.health_acts import (
    LiteLLM,
    busy_models,
    lm_studio,
    models,
    plain_health,
    slow_health,
    wants_another_key_for_health,
)
from tests.faults.raw_server import Act, Hits, RawServer, well
from tests.support.patience import PATIENCE_SECONDS

Probe = Callable[[SlotConfig], Awaitable[ProbeResult]]


async def _quick(slot: SlotConfig) -> ProbeResult:
    return await asyncio.to_thread(quick_probe, slot)


@pytest.fixture(params=[engine_probe, _quick], ids=["engine", "quick"])
def probe(request: pytest.FixtureRequest) -> Probe:
    found: Probe = request.param
    return found


async def test_a_router_with_a_healthy_status_is_healthy(probe: Probe, deep_slot: SlotConfig) -> None:
    result = await probe(deep_slot)
    assert result.healthy
    assert result.answered
    assert "200" in result.reason


@pytest.mark.parametrize(("mode", "reason"), [("cold", "upstream_cold"), ("warming", "warming")])
async def test_an_unhealthy_router_gives_its_reason_and_counts_as_answered(
    probe: Probe, router: Router, deep_slot: SlotConfig, mode: str, reason: str
) -> None:
    router.set(mode=mode)
    result = await probe(deep_slot)
    assert (result.healthy, result.reason, result.answered) == (False, reason, True)


async def test_a_busy_laptop_is_healthy(probe: Probe, router: Router, deep_slot: SlotConfig) -> None:
    router.set(mode="busy")
    assert (await probe(deep_slot)).healthy


@pytest.mark.rule("slot-11")
async def test_without_a_health_path_the_model_list_is_read_and_a_trial_decides_about_the_name(
    probe: Probe, router: Router, deep_slot: SlotConfig
) -> None:
    router.set(health="missing", api_key="sk-1")
    keyed = replace(deep_slot, api_key="sk-1")
    assert (await probe(keyed)).healthy
    without_key = await probe(deep_slot)
    assert not without_key.healthy
    assert "OFFLOAD_DEEP_API_KEY" in without_key.reason
    unlisted = await probe(replace(keyed, model="qwen-mac"))
    assert unlisted.healthy, "the server may answer to a name that it does not list"
    assert "does not list qwen-mac (the nearest name is qwen-macbook" in unlisted.reason
    assert "OFFLOAD_DEEP_MODEL" in unlisted.reason


@pytest.mark.parametrize(
    ("wanted", "names", "nearest"),
    [
        ("qwen3", ["llama3:latest", "qwen3:latest"], "qwen3:latest"),
        ("qwen3-27b", ["/models/other.gguf", "/models/qwen3-27b.gguf"], "/models/qwen3-27b.gguf"),
        ("qwen-macbok", ["gpt-4", "qwen-macbook"], "qwen-macbook"),
        ("qwen3", [], None),
        ("qwen3", ["x" * 10_000_000], "x" * 10_000_000),
        ("qwen3", [*(f"model-{n}" for n in range(100_000)), "qwen3:latest"], "qwen3:latest"),
    ],
)
def test_the_nearest_listed_name_is_the_intended_one(wanted: str, names: list[str], nearest: str | None) -> None:
    assert nearest_name(wanted, names) == nearest


async def test_a_name_in_the_model_list_is_shown_short_and_without_control_characters(
    probe: Probe, deep_slot: SlotConfig
) -> None:
    with RawServer(health=models("\x1b[31m" + "x" * 1_000_000)) as server:
        result = await probe(replace(deep_slot, url=server.url))
    assert "nearest name is" in result.reason
    assert len(result.reason) < 300
    assert result.reason.isprintable()


@pytest.mark.rule("slot-11")
async def test_a_server_that_delays_its_model_list_during_a_call_is_busy_not_unavailable(
    probe: Probe, deep_slot: SlotConfig, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    change_timing(models_limit=0.1)
    with RawServer(health=busy_models) as server:
        result = await probe(replace(deep_slot, url=server.url))
    assert (result.healthy, result.answered) == (True, True)
    assert "busy" in result.reason


@pytest.mark.rule("slot-13")
async def test_the_health_of_litellm_completes_no_call(probe: Probe, deep_slot: SlotConfig) -> None:
    litellm = LiteLLM(*(f"alias-{n}" for n in range(28)))
    with RawServer(health=litellm) as server:
        slot = replace(deep_slot, url=server.url)
        results = [await probe(slot) for _ in range(4)]  # a minute of a waiting sensor
    assert all(result.healthy for result in results)
    assert litellm.completions == 0
    assert "/health/readiness" in results[0].reason


@pytest.mark.rule("slot-13")
async def test_a_health_path_that_completed_calls_is_not_requested_again(deep_slot: SlotConfig) -> None:
    litellm = LiteLLM("a", "b", is_alive_shown=False)
    with RawServer(health=litellm) as server:
        slot = replace(deep_slot, url=server.url)
        results = [await engine_probe(slot) for _ in range(4)]
    assert all(result.healthy for result in results)
    assert litellm.completions == 2, "one request, which cost a call on each of two aliases"
    assert "set OFFLOAD_DEEP_HEALTH_PATH=/v1/models" in str(results[0].advice)


async def test_another_server_at_the_same_address_is_recognised(deep_slot: SlotConfig) -> None:
    with RawServer(health=LiteLLM("a")) as server:
        slot = replace(deep_slot, url=server.url)
        assert "LiteLLM" in (await engine_probe(slot)).reason
        server.health = models("qwen-macbook")
        assert "/v1/models lists qwen-macbook" in (await engine_probe(slot)).reason
        server.health = plain_health(b"OK")
        assert (await engine_probe(slot)).reason == "/health returned HTTP 200"


@pytest.mark.rule("slot-11")
@pytest.mark.parametrize(
    ("server_kind", "health", "healthy", "reason"),
    [
        ("llama.cpp", plain_health(b'{"status":"ok"}'), True, "/health returned HTTP 200"),
        (
            "llama.cpp, loading",
            says(503, {"error": {"message": "Loading model", "code": 503}}),
            False,
            '"Loading model"',
        ),
        ("mlx_lm", plain_health(b'{"status": "ok"}'), True, "/health returned HTTP 200"),
        ("LiteLLM", LiteLLM("qwen-macbook"), True, "/health/readiness returned HTTP 200"),
        ("llama-swap", plain_health(b"OK"), True, "/health returned HTTP 200"),
        ("Ollama", models("qwen-macbook"), True, "/v1/models lists qwen-macbook"),
        ("LM Studio", lm_studio("qwen-macbook"), True, "no /health; /v1/models lists qwen-macbook"),
        ("vLLM", plain_health(), True, "/health returned HTTP 200"),
        ("vLLM, its engine is dead", says(503), False, "HTTP 503"),
        ("llama-cpp-python", models("/models/qwen-macbook.gguf"), True, "nearest name is /models/qwen-macbook.gguf"),
    ],
)
async def test_the_health_path_of_each_server_is_found(
    probe: Probe, deep_slot: SlotConfig, server_kind: str, health: Act, healthy: bool, reason: str
) -> None:
    with RawServer(health=health) as server:
        result = await probe(replace(deep_slot, url=server.url))
    assert (result.healthy, result.answered) == (healthy, True), server_kind
    assert reason in result.reason


async def test_a_health_path_that_needs_another_key_is_healthy_and_names_the_path_to_set(
    probe: Probe, deep_slot: SlotConfig
) -> None:
    with RawServer(health=wants_another_key_for_health) as server:
        result = await probe(replace(deep_slot, url=server.url))
    assert result.healthy
    assert "OFFLOAD_DEEP_HEALTH_PATH=/v1/models" in str(result.advice)


async def test_a_configured_health_path_is_the_only_one_requested(probe: Probe, deep_slot: SlotConfig) -> None:
    litellm = LiteLLM("a")
    with RawServer(health=litellm) as server:
        result = await probe(replace(deep_slot, url=server.url, health_path="v1/models"))
    assert (result.healthy, litellm.paths) == (True, ["/v1/models"])


async def test_doctor_names_the_path_to_set_if_the_health_path_takes_too_long(
    deep_slot: SlotConfig, change_timing: ChangeTiming
) -> None:
    change_timing(probe_limit=0.5)
    with RawServer(health=slow_health) as server:
        check = await check_health(replace(deep_slot, url=server.url))
    assert not check.ok
    assert check.advice == "set OFFLOAD_DEEP_HEALTH_PATH=/v1/models"


async def test_an_unreachable_router_is_unhealthy(probe: Probe, deep_slot: SlotConfig) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound without listening, so that no other server gets the port
        result = await probe(replace(deep_slot, url=f"http://127.0.0.1:{bound.getsockname()[1]}"))
    assert (result.healthy, result.reason, result.answered) == (False, "connection refused", False)


async def test_a_host_without_a_connection_is_distinguished_from_one_without_an_answer(
    probe: Probe, deep_slot: SlotConfig, full_port: int
) -> None:
    result = await probe(replace(deep_slot, url=f"http://127.0.0.1:{full_port}", connect_timeout=0.2))
    assert (result.healthy, result.reason, result.answered) == (False, "no connection in time", False)


async def test_the_probe_of_a_frozen_router_ends_in_time(
    probe: Probe, router: Router, deep_slot: SlotConfig, change_timing: ChangeTiming
) -> None:
    change_timing(probe_limit=0.1)
    router.set(health="hang")
    result = await probe(deep_slot)
    assert (result.healthy, result.answered) == (False, False)
    assert "no answer" in result.reason


async def test_a_probe_sends_no_completion(probe: Probe, router: Router, deep_slot: SlotConfig) -> None:
    await probe(deep_slot)
    assert router.completions() == []


async def test_a_key_that_cannot_be_sent_gives_a_reason_not_an_error(probe: Probe, deep_slot: SlotConfig) -> None:
    result = await probe(replace(deep_slot, api_key="비밀"))
    assert not result.healthy
    assert "OFFLOAD_DEEP_API_KEY" in result.reason


async def test_a_socks_proxy_gives_a_reason_not_an_error(
    probe: Probe, deep_slot: SlotConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks://127.0.0.1:1080/")
    result = await probe(replace(deep_slot, url="http://router.example:1"))
    assert (result.healthy, result.answered, result.is_setting) == (False, False, True)
    assert "NO_PROXY" in result.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the server closed the connection before its answer was complete"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the server does not speak HTTP"),
    ],
)
async def test_a_server_that_does_not_speak_http_gives_a_reason(
    probe: Probe, deep_slot: SlotConfig, answer: bytes, reason: str
) -> None:
    is_closed = asyncio.Event()

    async def answer_so(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        is_closed.set()

    async with await asyncio.start_server(answer_so, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        result = await probe(replace(deep_slot, url=f"http://127.0.0.1:{port}"))
        await is_closed.wait()
    assert (result.healthy, result.answered) == (False, False)
    assert reason in result.reason


async def test_an_unknown_host_gives_a_reason(
    probe: Probe, deep_slot: SlotConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail_to_resolve)
    result = await probe(replace(deep_slot, url="http://no-such-host.invalid:1"))
    assert (result.healthy, result.reason, result.answered) == (False, "no such host", False)


@pytest.mark.parametrize("proxy", [None, "http://proxy.example:3128"], ids=["direct", "proxied"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("ask", [lambda slot: asyncio.run(engine_probe(slot)), quick_probe], ids=["engine", "quick"])
def test_a_name_lookup_that_hangs_does_not_outlast_the_probe(
    deep_slot: SlotConfig,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[SlotConfig], ProbeResult],
    scheme: str,
    proxy: str | None,
    change_timing: ChangeTiming,
) -> None:
    is_over = threading.Event()

    def hang(*_: object, **__: object) -> None:
        is_over.wait(PATIENCE_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    change_timing(probe_limit=0.1)
    if proxy is not None:
        monkeypatch.setenv(f"{scheme}_proxy", proxy)
    slot, seen = replace(deep_slot, url=f"{scheme}://laptop.example:8890"), list[ProbeResult]()
    asking = threading.Thread(target=lambda: seen.append(ask(slot)), daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    in_time = [(result.healthy, result.reason) for result in seen]
    is_over.set()
    asking.join(PATIENCE_SECONDS)
    assert in_time == [(False, "no answer within 0.1 s")]


@pytest.mark.parametrize("url", ["http://router:port", f"http://{'a' * 64}:1"])
async def test_an_invalid_address_gives_a_reason_not_an_error(probe: Probe, deep_slot: SlotConfig, url: str) -> None:
    assert not (await probe(replace(deep_slot, url=url))).healthy


async def test_certificates_are_checked_by_the_http_client(deep_slot: SlotConfig, router: Router) -> None:
    result = await _quick(replace(deep_slot, url=router.url.replace("http:", "https:")))
    assert (result.healthy, result.reason) == (False, "TLS handshake failed")


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize(
    "message", ["no such key: sesame-1", "no user 'me' with 'pass-word'", "bad header bWU6cGFzcy13b3Jk"]
)
async def test_a_key_or_password_that_the_server_echoes_is_not_shown(probe: Probe, message: str) -> None:
    refusal = says(401, {"error": {"message": message}})
    with RawServer(well, Hits.ALL, health=refusal) as server:
        keyed = SlotConfig("deep", server.url, "qwen-macbook", api_key="sesame-1\n")
        named = SlotConfig("deep", server.url.replace("://", "://me:pass%2Dword@"), "qwen-macbook")
        found = await probe(keyed if "sesame" in message else named)
    assert "HTTP 401" in found.reason
    assert not any(secret in found.reason for secret in ("sesame", "pass-word", "bWU6"))
