"""Rows of the fault matrix below HTTP: connections that fail, break, fall silent or never end."""

from dagster_offload.ledger.core.rows import State
from tests.faults import acts
from tests.faults.acts import answers_with, cut, says, sends
from tests.faults.play import UNAVAILABLE
from tests.faults.raw_server import Connection, Hits, well
from tests.faults.rows import CLOSED, SILENT, SLOW, TRIAL_SLOW, Promise, Row, deferred, done, quarantined, twice

CUT = "answer cut: the connection ended during the answer"  # plain httpx reports the same error without any answer
RESET = "connection reset"
NO_HTTP = "the server does not speak HTTP"  # plain httpx does not show this
NOT_IN_ITS_ENCODING = "answer cut: the body does not match its Content-Encoding"
NOT_WHOLE = "its body is not complete JSON"


def _broken_connections() -> list[Row]:
    # The product's reasons for a closed and for a reset connection, and plain httpx's reason for a closed one.
    reasons = {
        "before": (CLOSED, RESET, CLOSED),
        "headers": (CLOSED, RESET, CLOSED),
        "length": (CUT, CUT, CLOSED),
        "chunked": (CUT, CUT, CLOSED),
        "until_close": (NOT_WHOLE, NOT_WHOLE, NOT_WHOLE),
    }
    rows: list[Row] = []
    for at, (closed, reset, plain_closed) in reasons.items():
        where = {"before": "before its answer", "headers": "inside the headers"}.get(at, f"inside a body ({at})")
        for does, ending, for_all, for_one, settings in (
            ("closes", Connection.close, deferred(closed, 2, plain_closed), quarantined(closed, plain_closed), {}),
            ("resets", Connection.reset, deferred(reset, 2, RESET), quarantined(reset, RESET), {}),
            ("falls silent", Connection.stay_silent, deferred(TRIAL_SLOW, 2), quarantined(SLOW), SILENT),
        ):
            rows += twice(f"{does} {where}", cut(at, ending), for_all, for_one, settings=settings, is_plain_too=True)
    return rows


CONNECTIONS: list[Row] = [
    Row("connection refused", well, Hits.ALL, deferred("connection refused", 0), port_state="shut", is_plain_too=True),
    Row("unknown host", well, Hits.ALL, deferred("no such host", 0), host="macbook.local", is_plain_too=True),
    Row(
        "black hole on connect", well, Hits.ALL, deferred("no connection in time", 0),
        port_state="full", settings={"deep_connect_timeout": 0.3}, is_plain_too=True,
    ),
    Row("https at a plain port", well, Hits.ALL, deferred("TLS handshake failed", 0), scheme="https", is_plain_too=True),
    *_broken_connections(),
    *twice(
        "TLS at a plain URL", sends(acts.TLS_ALERT),
        deferred(NO_HTTP, 2, CLOSED), quarantined(NO_HTTP, CLOSED), is_plain_too=True,
    ),
    *twice(
        "not HTTP", sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        deferred(NO_HTTP, 2, CLOSED), quarantined(NO_HTTP, CLOSED), is_plain_too=True,
    ),
    *twice(
        "a chunk without a size", sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
        deferred(NO_HTTP, 2, CLOSED), quarantined(NO_HTTP, CLOSED), is_plain_too=True,
    ),
    Row("HTTP/1.0 with close", acts.one_zero, Hits.ALL, done(), is_plain_too=True),
    Row("gzip", acts.zipped, Hits.ALL, done(), is_plain_too=True),
    *twice(
        "gzip that is none", says(200, b"no gzip at all", content_encoding="gzip"),
        deferred(NOT_IN_ITS_ENCODING, 2), quarantined(NOT_IN_ITS_ENCODING), is_plain_too=True,
    ),
    Row("headers of 20 kB", answers_with({"x-much": "a" * 20_000}), Hits.ALL, done(), is_plain_too=True),
    Row("blanks for ever", acts.drips_blanks, Hits.ALL, deferred(TRIAL_SLOW, 2), settings=SILENT),
    *twice("a body without end", acts.endless_answer, deferred("longer than 16 MiB", 2), quarantined("longer than 16 MiB")),
    *twice("a zip bomb", acts.bomb, deferred("longer than 16 MiB", 2), quarantined("longer than 16 MiB")),
    Row("closes kept connections on use", acts.closes_kept, Hits.ALL, Promise(State.DONE, "every_document_cut", UNAVAILABLE, 1)),
]  # fmt: skip
