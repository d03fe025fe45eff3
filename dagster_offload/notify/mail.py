"""A mailbox as a channel, through an SMTP server. The key is in the Message-ID, so mail programs can recognize a repetition."""

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.utils import format_datetime

from dagster_offload.host.machine import host_name
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.notify.channel_message import ChannelMessage
from dagster_offload.settings.sections.notify import EmailChannel
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.slot.refusals import os_error_text

SERVICE_READY = 220  # the greeting of a server that takes mails: RFC 5321, 4.2.3
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Mail:
    """Sends messages to one mailbox. A connection is opened for each message: there are a few a day."""

    def __init__(self, settings: EmailChannel, password: str | None) -> None:
        self._settings = settings
        self._password = password
        self._connection: smtplib.SMTP | None = None

    def send(self, message: ChannelMessage) -> None:
        """Send a message. Raises `SinkFault`, whose reason contains no text of the server, except its code."""
        with _smtp_faults(), self._connected() as server:
            if self._settings.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self._settings.user is not None:
                server.login(self._settings.user, self._password or "")
            server.send_message(self._mail(message))

    def cancel(self) -> None:
        """End a `send` in another thread. Its message is sent again later."""
        connection = self._connection
        sock = None if connection is None else connection.sock  # read once: the sender sets it to None at its end
        if sock is not None:
            with suppress(OSError):
                # Not that of an SSLSocket, which ends the encryption first: a `send` meanwhile would go out as plain text.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        """A connection for at most `timeout` seconds in all: the limit of smtplib is one for each line."""
        settings = self._settings
        port = settings.port or _PORTS[settings.security]
        if settings.security == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                local_hostname=_own_name(), timeout=settings.timeout, context=context
            )
        else:
            server = smtplib.SMTP(local_hostname=_own_name(), timeout=settings.timeout)
        server._host = settings.server  # type: ignore[attr-defined] # the name that TLS checks; `connect` does not set it
        self._connection = server
        is_late = threading.Event()

        def end_late() -> None:
            is_late.set()
            self.cancel()

        deadline = threading.Timer(settings.timeout, end_late)
        deadline.daemon = True
        deadline.start()
        try:
            self._connect(server, port)
            yield server
            with suppress(smtplib.SMTPException):  # the message has arrived
                server.quit()
        except OSError as error:  # also an error of smtplib, which its time limit or the end at ours looks like
            if is_late.is_set() or isinstance(error.__context__, TimeoutError):
                raise TimeoutError from error
            raise
        finally:
            deadline.cancel()
            self._connection = None
            server.close()

    def _connect(self, server: smtplib.SMTP, port: int) -> None:
        """Connect to the first address that answers. smtplib does not limit the time to look the name up."""
        began = time.monotonic()
        looking = start_in_daemon_thread(socket.getaddrinfo, self._settings.server, port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys(str(entry[4][0]) for entry in looking.result(self._settings.timeout))
        for number, address in enumerate(addresses, start=1):
            left = self._settings.timeout - (time.monotonic() - began)
            server.timeout = max(left / (len(addresses) - number + 1), 1.0)
            try:
                _connect_to(server, address, port)
            except OSError:
                server.close()
                if number == len(addresses) or left <= 0:
                    raise
                continue
            server.timeout = left
            if server.sock is not None:
                server.sock.settimeout(max(left, 1.0))
            return

    def _mail(self, message: ChannelMessage) -> EmailMessage:
        sender = self._settings.sender or self._settings.email
        mail = EmailMessage()
        mail["From"] = f"dagster-offload <{sender}>"
        mail["To"] = self._settings.email
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(message.at)
        mail["Message-ID"] = f"<{message.key}@{sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.message)
        return mail


def _connect_to(server: smtplib.SMTP, address: str, port: int) -> None:
    """Connect, and read the greeting. Raises `OSError`, also for a greeting that refuses us."""
    code, greeting = server.connect(address, port)
    if code != SERVICE_READY:
        raise smtplib.SMTPConnectError(code, greeting)


def _own_name() -> str:
    """What we greet a server with. The default of smtplib may wait for a name server."""
    name = host_name()
    return name if "." in name else "[127.0.0.1]"


_DISCONNECTED = "the connection ended before the answer was complete"


@contextmanager
def _smtp_faults() -> Iterator[None]:
    """Turn errors of smtplib into `SinkFault`. A server's text may quote what was sent, so only codes and names are kept."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        raise SinkFault(Blame.MISCONFIGURED, f"SMTP {error.smtp_code}: check its user and password") from None
    except smtplib.SMTPNotSupportedError:
        raise SinkFault(
            Blame.MISCONFIGURED, "the server offers no STARTTLS or no log-in: check its port and its security"
        ) from None
    except UnicodeEncodeError:  # its message would quote the password
        raise SinkFault(Blame.MISCONFIGURED, "its user or password has characters beyond ASCII: change it") from None
    except ssl.SSLEOFError:
        raise SinkFault(Blame.UNAVAILABLE, _DISCONNECTED) from None
    except ssl.SSLError as error:
        raise SinkFault(
            Blame.MISCONFIGURED, f"no encrypted connection ({error.reason}): check its port, security and certificate"
        ) from None
    except smtplib.SMTPRecipientsRefused as error:
        code = next(iter(error.recipients.values()))[0]
        raise _by_code(code, Blame.MISCONFIGURED, ": check its email") from None
    except smtplib.SMTPSenderRefused as error:
        raise _by_code(error.smtp_code, Blame.MISCONFIGURED, ": check its user and its sender") from None
    except (smtplib.SMTPConnectError, smtplib.SMTPHeloError) as error:
        raise _by_code(error.smtp_code, Blame.MISCONFIGURED, ": check its server and its port") from None
    except smtplib.SMTPResponseException as error:
        raise _by_code(error.smtp_code, Blame.REFUSED, " about the message") from None
    except (smtplib.SMTPException, OSError) as error:
        late = "no answer in time" if isinstance(error, TimeoutError) else _DISCONNECTED
        raise SinkFault(Blame.UNAVAILABLE, os_error_text(error) or late) from None


def _by_code(code: int, blame: Blame, what: str) -> SinkFault:
    """RFC 5321: 4xx is temporary, 5xx is a refusal. `blame`: whose fault a refusal is."""
    if code < 500:
        return SinkFault(Blame.UNAVAILABLE, f"SMTP {code}")
    return SinkFault(blame, f"SMTP {code}{what}")
