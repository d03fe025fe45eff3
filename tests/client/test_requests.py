"""What is sent: options, the extra body, keys and passwords; and when a proxy is used."""

import asyncio
import gzip

import httpx
import pytest

from dagster_offload.client.transport import LONGEST_BODY_BYTES, Http, get
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.slot.addresses import auth_headers, basic, endpoint, proxy_for
from dagster_offload.slot.chat import request_body, with_extra
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig
from tests.support.client import DEEP_SLOT


@pytest.mark.rule("slot-10")
def test_only_set_options_are_sent_and_every_call_has_a_token_limit() -> None:
    assert request_body(DEEP_SLOT, "hi", None, None) == {
        "model": "qwen-macbook",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "max_tokens": 4096,
    }
    schema = {"type": "object", "properties": {}}
    options = RequestOptions(max_tokens=7, temperature=0.0, thinking=False, response_schema=schema)
    body = request_body(DEEP_SLOT, "hi", "rules", options)
    assert body["messages"][0] == {"role": "system", "content": "rules"}
    assert (body["max_tokens"], body["temperature"]) == (7, 0.0)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["response_format"]["json_schema"]["schema"] == schema


def test_the_extra_body_is_merged_into_the_request() -> None:
    body = {"temperature": 0.0, "chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 200}
    extra = {"temperature": 0.7, "top_p": 0.8, "chat_template_kwargs": {"preserve_thinking": True}}
    assert with_extra(body, extra) == {
        "temperature": 0.7,
        "chat_template_kwargs": {"enable_thinking": False, "preserve_thinking": True},
        "max_tokens": 200,
        "top_p": 0.8,
    }
    assert body["temperature"] == 0.0
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def keyed(key: str) -> SlotConfig:
    return SlotConfig(name="deep", url="http://router", model="m", api_key=key)


def test_a_key_is_sent_trimmed_and_never_shown() -> None:
    assert auth_headers(keyed("secret\n")) == {"authorization": "Bearer secret"}
    assert auth_headers(keyed("  ")) == {}
    assert "secret" not in repr(keyed("secret"))
    for bad in ("sec\nret", "비밀"):
        with pytest.raises(SettingsError, match="OFFLOAD_DEEP_API_KEY") as raised:
            auth_headers(keyed(bad))
        assert bad not in str(raised.value)


def test_user_and_password_of_the_url_are_sent_in_a_header() -> None:
    slot = SlotConfig(name="deep", url="https://us%40er:pass@router:1/base", model="m")
    assert endpoint(slot, "/health") == "https://router:1/base/health"
    assert auth_headers(slot) == {"authorization": "Basic dXNAZXI6cGFzcw=="}
    assert auth_headers(SlotConfig(name="deep", url="http://a:b@router", model="m", api_key="k")) == {
        "authorization": "Bearer k"
    }


@pytest.mark.parametrize("written", ["%25en0", "%en0"])
def test_the_interface_of_an_ipv6_address_is_named_as_the_system_names_it(written: str) -> None:
    slot = SlotConfig(name="deep", url=f"http://us%40er:pass@[fe80::1{written}]:1/base", model="m")
    assert endpoint(slot, "/health") == "http://[fe80::1%en0]:1/base/health"


def test_a_slot_on_this_host_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example")
    for url in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "http://macbook.local:1"):
        assert proxy_for(url) is None
    assert proxy_for("http://direct.example:1") is None
    assert proxy_for("http://router.example:1") == "http://proxy.example:3128"
    assert proxy_for("https://router.example") is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("corp.example, 10.0.0.0/8", "http://10.1.2.3:8890"),
        ("192.168.1.7/24", "http://192.168.1.20:8890"),
        ("fd00::/8", "http://[fd00::1]:8890"),
        ("fd00::1", "http://[fd00::1]:8890"),
        ("*.corp, localhost", "http://macbook.Corp:8890"),
        (".corp", "http://macbook.corp:8890"),
    ],
)
def test_a_host_that_no_proxy_names_in_a_usual_form_is_not_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_for(url) is None
    assert proxy_for("http://172.16.0.1:8890") == "http://proxy.example:3128"
    for other in ("http://router.example:8890", "http://notcorp:8890", "http://macbook.corp.test"):
        assert proxy_for(other) == "http://proxy.example:3128"


@pytest.mark.parametrize("proxy", ["http://us:pass@proxy:port", "http://", "proxy:99999"])
def test_a_proxy_that_is_no_address_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(
        SettingsError, match=r"the proxy for router\.example is no address .*: correct HTTP_PROXY"
    ) as raised:
        proxy_for("http://router.example:1")
    assert "pass" not in str(raised.value)


@pytest.mark.parametrize("proxy", ["socks://user:pass@127.0.0.1:1080/", "SOCKS5://127.0.0.1:1080", "socks4://proxy:1"])
def test_a_socks_proxy_is_a_wrong_setting_that_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    assert proxy_for("http://127.0.0.1:1") is None
    with pytest.raises(SettingsError, match=r"add router\.example to NO_PROXY, or set HTTPS_PROXY") as raised:
        proxy_for("https://router.example:1")
    assert "pass" not in str(raised.value)


async def test_a_proxy_gets_its_password_and_the_request_with_the_slots_key(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://us%40er:pass@127.0.0.1:{port}")
        async with Http([keyed("key")]) as http:
            response = await get(http, keyed("key"), "/health", 240)
    assert (response.status_code, response.content) == (200, b"{}")
    [request] = requests
    first, *headers = request.splitlines()
    assert first == "get http://router/health http/1.1"
    assert f"proxy-authorization: {basic('us@er', 'pass').lower()}" in headers
    assert "authorization: bearer key" in headers


async def test_a_proxy_that_tunnels_gets_its_password_and_not_the_slots_key(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    slot = SlotConfig(name="deep", url="https://router", model="m", api_key="key")
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("https_proxy", f"http://us%40er:pass@127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        async with Http([slot]) as http:
            with pytest.raises(httpx.ProxyError):
                await get(http, slot, "/health", 240)
    [request] = requests
    assert request.startswith("connect router:443 ")
    assert f"proxy-authorization: {basic('us@er', 'pass').lower()}" in request
    assert "bearer" not in request


async def test_a_body_that_decompresses_to_more_than_the_limit_is_refused() -> None:
    bomb = gzip.compress(b" " * (LONGEST_BODY_BYTES + 1))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(bomb), bomb))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        slot = SlotConfig(name="deep", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", model="m")
        async with Http([slot]) as http:
            with pytest.raises(CutAnswer, match="longer than 16 MiB"):
                await get(http, slot, "/health", 30)
