"""Which connections a request may use: only those without unread bytes.

aiohttp continues to read where it stopped. A surplus answer from a faulty router would be taken for the answer about the
next document. Bytes that arrive after the next request was sent cannot be distinguished from its answer.
"""

import select
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError


class UnsolicitedAnswer(aiohttp.ClientConnectionError):
    """The server sent bytes on a new connection before it received a request."""


class CleanConnector(aiohttp.TCPConnector):
    """Closes a kept connection with unread bytes and opens a new one."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection without unread bytes. Raises `UnsolicitedAnswer`, and what connecting raises."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or not _has_unread_bytes(protocol):
                return connection
            connection.close()
            if _is_new(protocol):
                raise UnsolicitedAnswer("the server sent an answer before it received a request")


def _has_unread_bytes(protocol: ResponseHandler) -> bool:
    return protocol.should_close or _is_within_an_answer(protocol) or _is_readable(protocol)


def _is_new(protocol: ResponseHandler) -> bool:
    return protocol._parser is None  # each request sets a parser, which remains


def _is_within_an_answer(protocol: ResponseHandler) -> bool:
    """Whether the parser of the last answer has read the beginning of another one."""
    if protocol._parser is None:
        return False
    try:
        return protocol._parser.feed_eof() is not None
    except HttpProcessingError:
        return True


def _is_readable(protocol: ResponseHandler) -> bool:
    """Whether the socket has bytes that the event loop has not read yet, or the server has closed it."""
    transport = protocol.transport
    if transport is None:
        return True
    if _is_new(protocol) and transport.get_extra_info("ssl_object") is not None:
        return False  # TLS 1.3 servers send session tickets after the handshake
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))
