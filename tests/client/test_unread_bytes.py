"""Surplus bytes after an answer are never read as the next answer. Real sockets and the real client."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trustme

from dagster_offload.client import transport
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import fault_reason, is_cut
from dagster_offload.errors import is_deferrable_error
from dagster_offload.slot.config import SlotConfig, Slots
from tests.faults.raw_server import CompletionRequest, Connection, RawServer, completion, reply
from tests.support.patience import PATIENCE_SECONDS


def plain(asked: CompletionRequest, content: str) -> bytes:
    return reply(200, completion(asked, content))


def chunked(asked: CompletionRequest, content: str) -> bytes:
    body = completion(asked, content)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def lie(asked: CompletionRequest) -> bytes:
    return plain(asked, "about another document")


Surplus = Callable[[CompletionRequest], bytes]
SURPLUS: dict[str, Surplus] = {
    "another answer": lie,
    "another answer in chunks": lambda asked: chunked(asked, "about another document"),
    "two more answers": lambda asked: lie(asked) * 2,
    "an answer's first byte": lambda asked: lie(asked)[:1],
    "half an answer's head": lambda asked: lie(asked)[:30],
    "an answer's head": lambda asked: lie(asked)[: lie(asked).index(b"{")],
    "half an answer": lambda asked: lie(asked)[:-10],
    "an interim answer": lambda _: b"HTTP/1.1 100 Continue\r\n\r\n",
    "bytes after the content length": lambda _: b"}" * 20,
}


class Surplusing:
    """Sends surplus bytes after the first answer: in the same packet, or after the client has read the answer."""

    def __init__(self, answer: Callable[[CompletionRequest, str], bytes], surplus: Surplus, *, at_once: bool) -> None:
        self.answer, self.surplus, self.at_once = answer, surplus, at_once
        self.was_read, self.was_sent = threading.Event(), threading.Event()

    def __call__(self, line: Connection, asked: CompletionRequest) -> bool:
        answer = self.answer(asked, f"answer {asked.number}")
        if asked.number > 1:
            line.send(answer)
        elif self.at_once:
            line.send(answer + self.surplus(asked))
        else:
            line.send(answer)
            self.was_read.wait(PATIENCE_SECONDS)
            line.send(self.surplus(asked))
            self.was_sent.set()
        return True


@pytest.mark.parametrize("answer", [plain, chunked])
@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
@pytest.mark.parametrize("is_read_before", [True, False], ids=["parsed", "in the socket"])
async def test_bytes_after_an_answer_never_become_the_next_one(
    answer: Callable[[CompletionRequest, str], bytes], surplus: Surplus, is_read_before: bool
) -> None:
    act = Surplusing(answer, surplus, at_once=False)
    with RawServer(act) as server:
        async with AIClient(Slots(deep=slot_at(server.url))) as client:
            assert await client.call_deep("first") == "answer 1"
            act.was_read.set()
            act.was_sent.wait(PATIENCE_SECONDS)  # blocks the event loop: the bytes stay in the socket
            if is_read_before:
                await let_the_event_loop_read()
            assert await client.call_deep("second") == "answer 2"
        assert [asked.connection for asked in server.requests] == [1, 1]


@pytest.mark.parametrize("answer", [plain, chunked])
@pytest.mark.parametrize("name", [name for name in SURPLUS if name != "bytes after the content length"])
async def test_bytes_in_the_packet_of_an_answer_never_become_the_next_one(
    answer: Callable[[CompletionRequest, str], bytes], name: str
) -> None:
    with RawServer(Surplusing(answer, SURPLUS[name], at_once=True)) as server:
        async with AIClient(Slots(deep=slot_at(server.url))) as client:
            assert await client.call_deep("first") == "answer 1"
            assert await client.call_deep("second") == "answer 2"
        assert [asked.connection for asked in server.requests] == [1, 1]


async def test_an_answer_longer_than_its_content_length_is_cut_and_the_next_one_is_its_own() -> None:
    act = Surplusing(plain, SURPLUS["bytes after the content length"], at_once=True)
    with RawServer(act) as server:
        async with AIClient(Slots(deep=slot_at(server.url))) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.call_deep("first")
            assert await client.call_deep("second") == "answer 2"


async def test_an_answer_sent_before_the_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(socket.socket):
        """Connects after the server's first bytes have arrived, as on a busy machine."""

        def connect(self, address: Any) -> None:
            self.setblocking(True)
            super().connect(address)
            self.recv(1, socket.MSG_PEEK)
            self.setblocking(False)

    def waiting_socket(address: Any) -> socket.socket:
        return Waiting(*address[:3])

    async def answer_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(200, b'{"choices": [{"message": {"content": "about any document"}}]}'))
        await writer.drain()
        await stop.wait()
        writer.close()  # else Python 3.13 closes it after the end of its loop, which is an error

    monkeypatch.setattr(transport, "keepalive_socket", waiting_socket)
    ready, stop = threading.Event(), asyncio.Event()
    port = []

    async def serve() -> None:
        async with await asyncio.start_server(answer_at_once, "127.0.0.1", 0) as server:
            port.append(server.sockets[0].getsockname()[1])
            ready.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        ready.wait(PATIENCE_SECONDS)
        async with AIClient(Slots(deep=slot_at(f"http://127.0.0.1:{port[0]}"))) as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.call_deep("question")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
    assert fault_reason(raised.value) == "the server sent an answer before it received a request"
    assert is_deferrable_error(raised.value)
    assert not is_cut(raised.value)  # no request was sent: no document is a suspect


@pytest.mark.parametrize("answer", [plain, chunked])
async def test_a_connection_without_unread_bytes_is_kept(answer: Callable[[CompletionRequest, str], bytes]) -> None:
    act = Surplusing(answer, lambda _: b"", at_once=True)
    with RawServer(act) as server:
        async with AIClient(Slots(deep=slot_at(server.url))) as client:
            for number in (1, 2, 3):
                assert await client.call_deep("question") == f"answer {number}"
        assert [asked.connection for asked in server.requests] == [1, 2, 3]


async def test_a_tls_connection_is_kept_and_its_unread_bytes_drop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trusting, connected = ssl.create_default_context(), list[int]()
    authority.configure_trust(trusting)
    monkeypatch.setattr(transport, "tls_context", lambda *_: trusting)
    go_on, was_sent = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(0)
        while head := await head_of(reader):
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            connected[-1] += 1
            writer.write(reply(200, b'{"choices": [{"message": {"content": "its own"}}]}'))
            if connected == [2]:
                await go_on.wait()
                writer.write(reply(200, b'{"choices": [{"message": {"content": "a lie"}}]}'))
                was_sent.set()
        writer.close()

    async with tls_server(authority, handle) as url, AIClient(Slots(deep=slot_at(url))) as client:
        assert await client.call_deep("first") == "its own"
        assert await client.call_deep("second") == "its own"
        go_on.set()
        await was_sent.wait()
        await let_the_event_loop_read()
        assert await client.call_deep("third") == "its own"
    assert connected == [2, 1]


def slot_at(url: str) -> SlotConfig:
    return SlotConfig(name="deep", url=url, model="qwen-macbook", connect_timeout=240.0, read_timeout=240.0)


async def let_the_event_loop_read() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def tls_server(authority: trustme.CA, handle: Callable[..., Any]) -> AsyncIterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
