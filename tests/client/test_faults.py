"""Each slot fault over real sockets and the real transport: its error, its reason, and whether it is a cut."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from dagster_offload.client import transport
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import fault_code, fault_reason, is_cut, reason_with_setting
from dagster_offload.errors import CutAnswer, MalformedAnswer, SettingsError, is_deferrable_error
from dagster_offload.simulator.server import Router
from dagster_offload.slot.config import SlotConfig, Slots
from tests.support.ports import held_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[SlotConfig]:
    """A slot whose server calls `handler` for each connection."""

    handling: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.append(task)
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield slot_at(server.sockets[0].getsockname()[1])
    await asyncio.gather(*handling)


def slot_at(port: int, **fields: Any) -> SlotConfig:
    limits = {"connect_timeout": 240.0, "read_timeout": 240.0, **fields}
    return SlotConfig(name="deep", url=f"http://127.0.0.1:{port}", model="qwen-macbook", **limits)


async def failure(slot: SlotConfig) -> Exception:
    async with AIClient(Slots(deep=slot)) as client:
        with pytest.raises(Exception) as raised:
            await client.call_deep("question")
    return raised.value


def assert_unavailable(error: Exception, kind: type[Exception], reason: str, *, cut: bool) -> None:
    assert type(error) is kind
    assert fault_reason(error) == reason
    assert is_cut(error) is cut
    assert is_deferrable_error(error)


async def test_a_refused_connection_is_named_and_is_no_cut() -> None:
    with held_port() as port:
        assert_unavailable(await failure(slot_at(port)), httpx.ConnectError, "connection refused", cut=False)


async def test_an_unknown_host_is_named_and_is_no_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    slot = SlotConfig(name="deep", url="http://macbook.local:8890", model="m")
    assert_unavailable(await failure(slot), httpx.ConnectError, "no such host", cut=False)


async def test_a_host_that_accepts_no_connection_is_named_and_is_no_cut(full_port: int) -> None:
    error = await failure(slot_at(full_port, connect_timeout=0.2))
    assert_unavailable(error, httpx.ConnectTimeout, "no connection in time", cut=False)


async def test_a_server_that_closes_before_it_answers_may_have_been_cut() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async with serving(close) as slot:
        error = await failure(slot)
    reason = "the server closed the connection before its answer was complete"
    assert_unavailable(error, httpx.RemoteProtocolError, reason, cut=True)


@pytest.mark.rule("slot-15")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the server closed the connection before its answer was complete"),
        (b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"', "answer cut: the connection ended during the answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the server does not speak HTTP (check OFFLOAD_DEEP_URL)"),
    ],
)
async def test_a_call_that_was_cut_names_the_url_only_if_the_server_speaks_no_http(answer: bytes, reason: str) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with serving(end) as slot:
        error = await failure(slot)
    assert reason_with_setting(slot, error) == reason


@pytest.mark.rule("slot-15")
async def test_a_refused_connection_names_the_url_only_while_the_slot_has_not_answered_there() -> None:
    with held_port() as port:
        slot = slot_at(port)
        error = await failure(slot)
    assert reason_with_setting(slot, error) == "connection refused (check OFFLOAD_DEEP_URL)"
    assert reason_with_setting(slot, error, has_answered=True) == "connection refused"


async def test_a_reset_before_the_answer_may_have_been_a_cut() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(reset) as slot:
        error = await failure(slot)
    assert_unavailable(error, httpx.ReadError, "connection reset", cut=True)


async def test_a_body_that_ends_early_is_a_cut() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"choices"')
        await writer.drain()

    async with serving(half) as slot:
        error = await failure(slot)
    assert_unavailable(error, httpx.ReadError, "answer cut: the connection ended during the answer", cut=True)


@pytest.mark.parametrize("body", [b"", b'{"choices": [{"mess'])
async def test_an_incomplete_body_that_a_proxy_ended_cleanly_is_a_cut(body: bytes) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async with serving(end) as slot:
        error = await failure(slot)
    assert_unavailable(error, CutAnswer, "answer cut: its body is not complete JSON", cut=True)


async def test_a_server_that_does_not_speak_http_is_named() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()

    async with serving(greet) as slot:
        error = await failure(slot)
    assert type(error) is httpx.RemoteProtocolError
    assert is_deferrable_error(error)


async def test_tls_to_a_plain_port_is_named_and_is_no_cut(router: Router) -> None:
    slot = SlotConfig(name="deep", url=router.url.replace("http:", "https:"), model="m")
    assert_unavailable(await failure(slot), httpx.ConnectError, "TLS handshake failed", cut=False)


async def test_a_refusal_in_an_unknown_charset_keeps_its_reason_code() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"error": "upstream_cold"}'
        head = b"HTTP/1.1 503 No\r\ncontent-type: application/json; charset=undefined\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)

    async with serving(refuse) as slot:
        error = await failure(slot)
    assert_unavailable(error, httpx.HTTPStatusError, "upstream_cold", cut=False)


async def test_a_call_without_an_answer_ends_at_the_read_timeout(router: Router) -> None:
    router.set(mode="hang")
    error = await failure(slot_at(router.port, read_timeout=0.1))
    assert_unavailable(error, httpx.ReadTimeout, "no answer in time", cut=True)


async def test_a_proxy_that_sends_blanks_does_not_defeat_the_read_timeout() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as slot:
        # The whole call may take as long as both together.
        error = await failure(slot_at(int(slot.url.rpartition(":")[2]), connect_timeout=1.0, read_timeout=0.1))
    assert_unavailable(error, httpx.ReadTimeout, "no answer in time", cut=True)


@pytest.mark.parametrize(
    ("mode", "reason"), [("cold", "upstream_cold"), ("busy", "editor_busy"), ("warming", "warming")]
)
async def test_the_reason_code_of_the_router_is_the_reason(
    router: Router, deep_slot: SlotConfig, mode: str, reason: str
) -> None:
    router.set(mode=mode)
    assert_unavailable(await failure(deep_slot), httpx.HTTPStatusError, reason, cut=False)


@pytest.mark.rule("slot-10")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_never_followed(router: Router, deep_slot: SlotConfig, status: int) -> None:
    router.set(mode="refuse", status=status, redirect_to="/v1/chat/completions")
    error = await failure(deep_slot)
    assert isinstance(error, httpx.HTTPStatusError)
    assert error.response.status_code == status
    assert not is_deferrable_error(error)
    assert len(router.completions()) == 1


async def test_a_slot_killed_during_an_answer_is_a_cut(router: Router, deep_slot: SlotConfig) -> None:
    router.set(hold=True)
    call = asyncio.create_task(failure(deep_slot))
    await asyncio.to_thread(router.wait, open=1)
    await asyncio.to_thread(router.stop)
    error = await call
    assert is_cut(error)
    assert is_deferrable_error(error)


async def test_no_error_contains_the_key_the_password_or_the_document(router: Router) -> None:
    router.set(mode="refuse", status=500)
    url = router.url.replace("http://", "http://someone:pass-word@")
    slot = SlotConfig(name="deep", url=url, model="qwen-macbook", api_key="sk-secret")
    async with AIClient(Slots(deep=slot)) as client:
        with pytest.raises(httpx.HTTPStatusError) as raised:
            await client.call_deep("a document's text")
    for text in (str(raised.value), repr(raised.value), fault_reason(raised.value)):
        assert not any(secret in text for secret in ("pass-word", "sk-secret", "document"))


@pytest.mark.rule("breaker-7")
async def test_sockets_detect_a_vanished_host(
    router: Router, deep_slot: SlotConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, int]] = []

    def watched(address: Any) -> socket.socket:
        found = original(address)
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        known = [name for name in names if hasattr(socket, name)]
        opened.append({name: found.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in known})
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return found

    original = transport.keepalive_socket
    monkeypatch.setattr(transport, "keepalive_socket", watched)
    async with AIClient(Slots(deep=deep_slot)) as client:
        await client.call_deep("one")
        await client.call_deep("two")
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 35_000}
    assert opened == [{name: value for name, value in wanted.items() if hasattr(socket, name)}]  # one, kept alive


def test_a_client_can_be_used_in_several_event_loops_in_turn(deep_slot: SlotConfig) -> None:
    client = AIClient(Slots(deep=deep_slot))

    async def ask() -> str:
        async with client:
            return await client.call_deep("question")

    assert asyncio.run(ask()) == asyncio.run(ask()) == "ready"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("the proxy for router.example: SOCKS is not supported"), "wrong_setting"),
        (MalformedAnswer("no choices"), "malformed_answer"),
        (httpx.ConnectError("refused"), "cannot_connect"),
        (httpx.RemoteProtocolError("disconnected"), "connection_closed"),
        (httpx.ProxyError("407"), "proxy_failed"),
    ],
)
def test_the_code_of_a_fault_is_short_and_no_sentence(error: Exception, code: str) -> None:
    assert fault_code(error) == code
