"""A mailbox: what a real SMTP server gets, and what its answers mean."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from dagster_offload.notify.channel_message import ChannelMessage
from dagster_offload.notify.mail import Mail
from dagster_offload.settings.sections.notify import EmailChannel
from dagster_offload.sinks.faults import Blame, SinkFault
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import held_port

MESSAGE = ChannelMessage(
    "key-1", "mail", "needs_you", "1 document needs you", "failed: 편지.pdf", "box", datetime.now(UTC)
)


class Mailbox:
    """What the server keeps, and what it says to a sender and to a recipient."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answers = {"sender": "250 OK", "recipient": "250 OK"}
        self.before_the_answer: Callable[[], None] = lambda: None

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.answers["sender"]

    async def handle_RCPT(  # noqa: N802 - a name that aiosmtpd calls
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.before_the_answer()
        envelope.rcpt_tos.append(address)
        return self.answers["recipient"]

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"me", b"right"), handled=False)


@contextmanager
def smtp_server(mailbox: Mailbox, **options: Any) -> Iterator[int]:
    with held_port() as port:
        controller = Controller(mailbox, hostname="127.0.0.1", port=port, ready_timeout=240.0, **options)
        controller.start()
        try:
            yield port
        finally:
            controller.stop()


def mail(port: int, password: str | None = None, **changes: Any) -> Mail:
    settings = EmailChannel(
        **{"email": "me@example.org", "server": "127.0.0.1", "port": port, "security": "none", **changes}
    )
    return Mail(settings, password)


def fault(channel: Mail) -> tuple[Blame, str]:
    with pytest.raises(SinkFault) as caught:
        channel.send(MESSAGE)
    return caught.value.blame, caught.value.reason


def test_a_mail_arrives_with_its_subject_its_text_and_its_key() -> None:
    mailbox = Mailbox()
    with smtp_server(mailbox) as port:
        mail(port, sender="box@example.net").send(MESSAGE)
    [got] = mailbox.mails
    assert got["Subject"] == "dagster-offload on box: 1 document needs you"
    assert (got["From"], got["To"]) == ("dagster-offload <box@example.net>", "me@example.org")
    assert got["Message-ID"] == "<key-1@example.net>"
    assert got.get_content().strip() == "failed: 편지.pdf"


@pytest.mark.parametrize(("password", "arrives"), [("right", True), ("wrong", False)])
def test_a_wrong_password_is_a_wrong_setting_and_is_not_repeated(password: str, arrives: bool) -> None:
    mailbox = Mailbox()
    with smtp_server(mailbox, authenticator=authenticate, auth_require_tls=False) as port:
        channel = mail(port, password, user="me")
        if arrives:
            channel.send(MESSAGE)
        else:
            assert fault(channel) == (Blame.MISCONFIGURED, "SMTP 535: check its user and password")
    assert len(mailbox.mails) == arrives


@pytest.mark.parametrize(
    ("refused", "answer", "expected"),
    [
        ("recipient", "550 no such user me@example.org", (Blame.MISCONFIGURED, "SMTP 550: check its email")),
        ("recipient", "451 try later", (Blame.UNAVAILABLE, "SMTP 451")),
        ("sender", "530 log in first", (Blame.MISCONFIGURED, "SMTP 530: check its user and its sender")),
        ("sender", "553 not your address", (Blame.MISCONFIGURED, "SMTP 553: check its user and its sender")),
        ("sender", "451 try later", (Blame.UNAVAILABLE, "SMTP 451")),
    ],
)
def test_the_code_of_the_server_says_whose_fault_it_is(refused: str, answer: str, expected: tuple[Blame, str]) -> None:
    mailbox = Mailbox()
    mailbox.answers[refused] = answer
    with smtp_server(mailbox) as port:
        assert fault(mail(port)) == expected


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        ("554 no service here", (Blame.MISCONFIGURED, "SMTP 554: check its server and its port")),
        ("421 too busy", (Blame.UNAVAILABLE, "SMTP 421")),
    ],
)
def test_a_server_that_greets_with_a_refusal_gets_nothing(greeting: str, expected: tuple[Blame, str]) -> None:
    got: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def refuse() -> None:
            with listening.accept()[0] as connection:
                connection.sendall(f"{greeting}\r\n".encode())
                got.append(connection.recv(1024))

        serving = threading.Thread(target=refuse, daemon=True)
        serving.start()
        assert fault(mail(listening.getsockname()[1])) == expected
        serving.join(PATIENCE_SECONDS)
    assert got == [b""], "the connection was closed"


def test_a_mail_that_is_cancelled_stays_encrypted_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: list[str | None] = []
    shutdown = socket.socket.shutdown

    def note_the_encryption(sock: socket.socket, how: int) -> None:
        if isinstance(sock, ssl.SSLSocket):
            versions.append(sock.version())
        shutdown(sock, how)

    monkeypatch.setattr(socket.socket, "shutdown", note_the_encryption)
    mailbox = Mailbox()
    with trusted_tls(monkeypatch) as context, smtp_server(mailbox, tls_context=context) as port:
        channel = mail(port, security="starttls", server="localhost")
        mailbox.before_the_answer = channel.cancel
        assert fault(channel)[0] is Blame.UNAVAILABLE
    assert versions == ["TLSv1.3"]


@contextmanager
def trusted_tls(monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """The encryption of a server with a certificate that this process trusts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with authority.cert_pem.tempfile() as file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
        yield context


def test_a_password_that_smtp_cannot_carry_is_a_wrong_setting_and_is_not_shown() -> None:
    with smtp_server(Mailbox(), authenticator=authenticate, auth_require_tls=False) as port:
        blame, reason = fault(mail(port, "pässword", user="me"))
    assert (blame, reason) == (Blame.MISCONFIGURED, "its user or password has characters beyond ASCII: change it")


def test_starttls_is_used_and_a_server_without_it_gets_no_message() -> None:
    mailbox = Mailbox()
    with smtp_server(mailbox) as port:
        blame, reason = fault(mail(port, security="starttls"))
    assert (blame, "security" in reason, mailbox.mails) == (Blame.MISCONFIGURED, True, [])


def test_a_mail_goes_through_tls_and_a_certificate_that_nobody_trusts_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    mailbox = Mailbox()
    with smtp_server(mailbox, tls_context=context) as port:
        blame, reason = fault(mail(port, security="starttls", server="localhost"))
        assert (blame, "certificate" in reason) == (Blame.MISCONFIGURED, True)
        with authority.cert_pem.tempfile() as file:
            monkeypatch.setenv("SSL_CERT_FILE", file)
            mail(port, security="starttls", server="localhost").send(MESSAGE)
    assert len(mailbox.mails) == 1


def test_nothing_that_listens_is_an_unavailable_server() -> None:
    with held_port() as port:
        assert fault(mail(port)) == (Blame.UNAVAILABLE, "connection refused")


def test_a_server_that_sends_one_byte_at_a_time_is_left_at_the_time_limit() -> None:
    over = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def drip() -> None:
            with listening.accept()[0] as connection:
                while not over.wait(0.05):  # each byte is in time for the limit of one read
                    try:
                        connection.sendall(b"2")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        try:
            late = (Blame.UNAVAILABLE, "no answer in time")
            assert fault(mail(listening.getsockname()[1], timeout=0.5)) == late
        finally:
            over.set()


def test_a_name_lookup_that_hangs_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over, ended = threading.Event(), threading.Event()

    def hang(*_arguments: object, **_options: object) -> None:
        is_over.wait(PATIENCE_SECONDS)
        ended.set()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert fault(mail(25, server="mail.example", timeout=0.2)) == (Blame.UNAVAILABLE, "no answer in time")
        assert not ended.is_set(), "the message has not waited for the lookup"
    finally:
        is_over.set()
    assert ended.wait(PATIENCE_SECONDS)


def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up, mailbox = socket.getaddrinfo, Mailbox()

    def two_addresses(host: str, *arguments: Any, **options: Any) -> Any:
        hosts = ["127.0.0.2", "127.0.0.1"] if host == "mail.example" else [host]
        return [entry for each in hosts for entry in look_up(each, *arguments, **options)]

    with smtp_server(mailbox) as port:  # at 127.0.0.1 only
        monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
        mail(port, server="mail.example").send(MESSAGE)
    assert len(mailbox.mails) == 1
