"""The servers of sinks and channels as attackers: answers that are false, endless, packed or slow. Real sockets."""

import contextlib
import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from dagster_offload.notify.channel_message import sample as channel_sample
from dagster_offload.notify.ntfy import Ntfy
from dagster_offload.sinks.faults import Blame, SinkFault, check_answer
from dagster_offload.sinks.http_server import MAX_ANSWER_BYTES, HttpServer
from dagster_offload.sinks.message import sample
from dagster_offload.sinks.webhook import Webhook
from tests.support.patience import PATIENCE_SECONDS

Act = Callable[[socket.socket, threading.Event], None]


@contextmanager
def acting(act: Act) -> Iterator[str]:
    """A server that reads a request, acts, and waits for the next one on the same connection. Yields its address."""
    is_over, threads = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(line: socket.socket) -> None:
            with line, contextlib.suppress(OSError):
                while line.recv(65_536):
                    act(line, is_over)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        is_over.set()
        listener.shutdown(socket.SHUT_RDWR)
    for thread in (accepting, *threads):
        thread.join(PATIENCE_SECONDS)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def fault_of(act: Act, timeout: float = 30.0) -> SinkFault:
    with acting(act) as address, pytest.raises(SinkFault) as caught:
        HttpServer({}, timeout).request("GET", address)
    return caught.value


def post_record(address: str) -> None:
    Webhook(address, None, None, 30.0).send(sample("hook", {"document": "a.txt"}))


def publish(address: str) -> None:
    Ntfy(address, None, 30.0).send(channel_sample("phone"))


def test_a_second_answer_never_becomes_that_of_the_next_request() -> None:
    numbers = iter(range(10))

    def act(line: socket.socket, _: threading.Event) -> None:
        line.sendall(answer(b"answer %d" % next(numbers)) + answer(b"about another document"))

    with acting(act) as address:
        server = HttpServer({}, 30.0)
        assert [server.request("GET", address).content for _ in range(3)] == [b"answer 0", b"answer 1", b"answer 2"]


def endless(status: str, sent: list[int]) -> Act:
    def act(line: socket.socket, _: threading.Event) -> None:
        line.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
        while True:  # until we hang up
            sent[0] += line.send(b" " * 65_536)

    return act


@pytest.mark.parametrize("status", ["200 OK", "422 Unprocessable Content"])
def test_an_endless_answer_is_cut(status: str) -> None:
    sent = [0]
    fault = fault_of(endless(status, sent))
    assert (fault.blame, fault.reason) == (
        Blame.MISCONFIGURED,
        "its answer is longer than 16 MiB: check its address",
    )
    assert sent[0] < 4 * MAX_ANSWER_BYTES


@pytest.mark.parametrize("send", [post_record, publish])
def test_the_status_of_an_endless_answer_of_which_nothing_is_needed_decides(send: Callable[[str], None]) -> None:
    sent = [0]
    with acting(endless("200 OK", sent)) as address:
        send(address)
    assert sent[0] < 4 * MAX_ANSWER_BYTES
    with acting(endless("422 Unprocessable Content", sent)) as address, pytest.raises(SinkFault) as caught:
        send(address)
    assert (caught.value.blame, caught.value.reason) == (Blame.REFUSED, "HTTP 422")


def trickling(status: str, body: bytes) -> Act:
    def act(line: socket.socket, is_over: threading.Event) -> None:
        line.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode() + body)
        while not is_over.wait(0.02):
            line.sendall(b" ")

    return act


def ending_early(status: str, body: bytes) -> Act:
    def act(line: socket.socket, _: threading.Event) -> None:
        line.sendall(answer(body, status=status)[:-1])
        line.shutdown(socket.SHUT_RDWR)

    return act


@pytest.mark.rule("sink-1")
@pytest.mark.parametrize("send", [post_record, publish])
@pytest.mark.parametrize("goes_on", [trickling, ending_early])
def test_a_body_that_trickles_or_breaks_off_repeats_nothing_that_the_receiver_has(
    send: Callable[[str], None], goes_on: Callable[[str, bytes], Act]
) -> None:
    with acting(goes_on("200 OK", b'{"ok": true}')) as address:
        send(address)
    refusal = goes_on("422 Unprocessable Content", b'{"title": "too long"}')
    with acting(refusal) as address, pytest.raises(SinkFault, match="HTTP 422") as caught:
        send(address)
    assert caught.value.blame is Blame.REFUSED


def test_a_compressed_answer_is_limited_by_its_real_size() -> None:
    packed = answer(gzip.compress(bytes(20 * MAX_ANSWER_BYTES)), "content-encoding: gzip")
    assert fault_of(lambda line, _: line.sendall(packed)).blame is Blame.MISCONFIGURED


@pytest.mark.parametrize("start", ["HTTP/1.1 200 OK\r\nx-slow: ", "HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"])
def test_an_answer_that_trickles_ends_at_the_time_limit_of_the_request(start: str) -> None:
    def act(line: socket.socket, is_over: threading.Event) -> None:
        line.sendall(start.encode())
        while not is_over.wait(0.02):  # each byte arrives long before a time limit for one read
            line.sendall(b"a")

    fault = fault_of(act, timeout=0.5)
    assert (fault.blame, fault.reason) == (Blame.UNAVAILABLE, "no complete answer within 0.5 s")
    assert fault.may_be_of_record, "the server may take so long over this record alone"


def test_a_connection_that_ends_within_the_answer_is_the_reason() -> None:
    def act(line: socket.socket, _: threading.Event) -> None:
        line.sendall(answer(b"all of it")[:-1])
        line.shutdown(socket.SHUT_RDWR)

    fault = fault_of(act)
    assert (fault.blame, fault.reason) == (
        Blame.UNAVAILABLE,
        "the server closed the connection before its answer was complete",
    )
    assert fault.may_be_of_record


def test_a_certificate_that_is_not_trusted_is_the_reason() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def shake_hands(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as line:
            line.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake_hands, args=(listener,))
        thread.start()
        with pytest.raises(SinkFault, match="TLS certificate not trusted") as caught:
            HttpServer({}, 30.0).request("GET", f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert caught.value.blame is Blame.MISCONFIGURED
    assert "SSL_CERT_FILE" in caught.value.reason


def test_a_certificate_file_that_is_mended_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def answer_twice(listener: socket.socket) -> None:
        for _ in range(2):
            with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as line:
                line.recv(10_000)
                line.sendall(answer(b"{}"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_twice, args=(listener,))
        thread.start()
        server, address = HttpServer({}, 30.0), f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(SinkFault, match=f"SSL_CERT_FILE: {file} cannot be used: No such file") as caught:
            server.request("GET", address)
        assert caught.value.blame is Blame.MISCONFIGURED
        trustme.CA().cert_pem.write_to_path(str(file))
        with pytest.raises(SinkFault, match="TLS certificate not trusted"):
            server.request("GET", address)
        authority.cert_pem.write_to_path(str(file))
        assert server.request("GET", address).json() == {}
        thread.join()


def test_a_refusal_of_brackets_in_brackets_is_still_a_refusal() -> None:
    def act(line: socket.socket, _: threading.Event) -> None:
        line.sendall(answer(b"[" * 200_000, status="422 Unprocessable Content"))

    with acting(act) as address, pytest.raises(SinkFault, match="HTTP 422") as caught:
        check_answer(HttpServer({}, 30.0).request("GET", address))
    assert caught.value.blame is Blame.REFUSED


def test_a_compressed_answer_is_read_once() -> None:
    packed = answer(gzip.compress(b'{"detail": []}'), "content-encoding: gzip")
    with acting(lambda line, _: line.sendall(packed)) as address:
        assert HttpServer({}, 30.0).request("GET", address).json() == {"detail": []}


def test_a_name_lookup_that_hangs_ends_at_the_time_limit_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over, ended, looked_up = threading.Event(), threading.Event(), list[object]()

    def hang(host: object, *_arguments: object, **_options: object) -> None:
        looked_up.append(host)
        is_over.wait(PATIENCE_SECONDS)
        ended.set()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(SinkFault, match="no complete answer within") as caught:
            HttpServer({}, 0.2).request("GET", "http://paperless.example")
        assert not ended.is_set(), "the request has not waited for the lookup"
    finally:
        is_over.set()
    assert caught.value.blame is Blame.UNAVAILABLE
    assert len(looked_up) == 1
    assert ended.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_certificates_of_the_environment_that_are_gone_are_a_wrong_setting_and_only_for_an_address_with_tls(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs such as conda leave SSL_CERT_FILE behind."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    server = HttpServer({}, PATIENCE_SECONDS)
    with pytest.raises(SinkFault, match=r"^SSL_CERT_FILE: .*gone\.pem cannot be used: No such file") as caught:
        server.request("GET", f"{scheme}://127.0.0.1:9")
    assert caught.value.blame is Blame.MISCONFIGURED
    with acting(lambda line, _: line.sendall(answer(b"yes"))) as address:
        assert server.request("GET", address).text == "yes"
