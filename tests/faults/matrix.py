"""The fault matrix: how a server misbehaves, which calls that hits, and the promised outcome. `make faults` prints it.

Each row runs through the real engine against real sockets. If the fault hits every call, the promise is about the first
drain; then the server is repaired, and every document must be done. If it hits one document, drains follow until that
document has its final state, and all others must be done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dagster_offload.ledger.core.rows import State
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.faults import acts
from tests.faults.acts import answers_with, cut, says, sends, wraps, writes
from tests.faults.play import FIRST, MISCONFIGURED, NOTHING_LEFT, UNAVAILABLE
from tests.faults.raw_server import ALIAS, Act, Connection, Hits, well


@dataclass(frozen=True)
class Promise:
    """The outcome that a row must have."""

    state: State  # of the first document, which the fault hits
    reason: str  # part of the slot's reason, or of the document's if one document is hit; "" = no reason
    exit_code: int
    most_calls: int  # completions in the first drain, with trials; if one document is hit, all of that document's
    attempts: int = 0
    wait_seconds: float | None = None  # the wait that the ledger stores for the slot's Retry-After
    plain_reason: str | None = None  # if the reason differs with plain httpx

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        wait = f", wait {self.wait_seconds} s" if self.wait_seconds is not None else ""
        return (
            f"{self.state}{reason}, attempts {self.attempts}, exit {self.exit_code}, calls <= {self.most_calls}{wait}"
        )


@dataclass(frozen=True)
class Row:
    """One kind of fault, the calls it hits, and the promise."""

    name: str
    act: Act
    hits: Hits
    promise: Promise
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_plain_too: bool = False  # faults below HTTP also run with plain httpx
    port_state: str = "open"
    health: Act | None = None
    host: str = "127.0.0.1"
    scheme: str = "http"
    stage: str = CLASSIFY
    is_mended_at_server: bool = False  # no setting changes: the fault ends at the server
    sensor: str | None = None  # with a closed breaker: why the drain sensor launches no drain; "" = it launches one

    @property
    def id(self) -> str:
        return f"{self.name}: {self.hits}"


def deferred(reason: str, calls: int = 1, plain: str | None = None) -> Promise:
    """A slot fault: the work is deferred and costs no attempt."""
    return Promise(State.DEFERRED, reason, UNAVAILABLE, calls, plain_reason=plain)


def trial_failed(reason: str, calls: int = 2) -> Promise:
    """A slot fault that a trial confirms."""
    return Promise(State.DEFERRED, reason, UNAVAILABLE, calls)


def wrong(reason: str, calls: int = 2) -> Promise:
    """A slot fault that needs a changed setting."""
    state = State.PENDING if reason.startswith(EVERY) else State.DEFERRED  # attempts are refunded
    return Promise(state, reason, MISCONFIGURED, calls)


def done(calls: int = 1) -> Promise:
    """The document is done."""
    return Promise(State.DONE, "", NOTHING_LEFT, calls)


def fails(reason: str, calls: int = 3) -> Promise:
    """A document fault: three attempts."""
    return Promise(State.FAILED, reason, NOTHING_LEFT, calls, attempts=3)


def quarantined(reason: str, plain: str | None = None) -> Promise:
    """One call beside others, then at most three alone."""
    return Promise(State.QUARANTINED, reason, NOTHING_LEFT, 4, plain_reason=plain)


def waits(reason: str, calls: int = 9) -> Promise:
    """Deferred while the slot refuses it. It runs after the others and costs no attempt."""
    return Promise(State.DEFERRED, reason, NOTHING_LEFT, calls)


SILENT = {"deep_read_timeout": 0.4, "deep_connect_timeout": 0.4}
SLOW, TRIAL_SLOW = "no answer in time", "no answer within 0.4 s"  # if every call is slow, the reason is the trial's
CLOSED = "the server closed the connection before its answer was complete"
CUT = "answer cut: the connection ended during the answer"  # plain httpx reports the same error without any answer
RESET = "connection reset"
NO_HTTP = "the server does not speak HTTP"  # plain httpx does not show this
NOT_IN_ITS_ENCODING = "answer cut: the body does not match its Content-Encoding"
NOT_WHOLE = "its body is not complete JSON"
EVERY = "every_document_refused"
HTML = "<!DOCTYPE html><html><body><form action=/login>Sign in</form></body></html>"
STREAM = 'data: {"choices": [{"delta": {"content": "{"}}]}\n\ndata: [DONE]\n\n'
OPENAI_ERROR = {"error": {"message": "the model is not there", "type": "server_error", "code": 503}}
WORD = "upstream_cold"
EXPECTING = {"deep_expected_model": "Qwen3"}
INFINITE = '{"category": "other", "confidence": 1e999}'
FELL_BACK = {"x-litellm-attempted-fallbacks": "1", "x-litellm-model-group": "tiny"}
NO_KEY = wrong("HTTP 401 (check OFFLOAD_DEEP_API_KEY)")


def twice(name: str, act: Act, for_all: Promise, for_one: Promise, **more: Any) -> list[Row]:
    """Two rows: the fault hits every call and is the slot's, or hits one document and is the document's."""
    return [Row(name, act, Hits.ALL, for_all, **more), Row(name, act, Hits.ONE, for_one, **more)]


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
    *twice("a body without end", acts.endless_answer, deferred("longer than 16 MB", 2), quarantined("longer than 16 MB")),
    *twice("a zip bomb", acts.bomb, deferred("longer than 16 MB", 2), quarantined("longer than 16 MB")),
    Row("closes kept connections on use", acts.closes_kept, Hits.ALL, Promise(State.DONE, "every_document_cut", UNAVAILABLE, 1)),
]  # fmt: skip

BODIES: list[Row] = [
    *twice("200 with an empty body", says(200), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("200 with half a JSON", says(200, '{"choices": [{"mess'), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("204 without a body", says(204), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("an HTML log-in page", says(200, HTML, content_type="text/html"), deferred("HTML", 2), quarantined("HTML")),
    *twice("a stream that was not requested", says(200, STREAM), deferred("event stream", 2), quarantined("event stream")),
    *twice("JSON nested 100,000 deep", says(200, "[" * 100_000), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("JSON without choices", says(200, {"ok": True}), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("choices that are empty", says(200, {"choices": []}), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("JSON that is a list", says(200, []), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("200 with an error object", says(200, OPENAI_ERROR), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("a choice without message", says(200, {"choices": [{}]}), wrong(EVERY, 10), fails("malformed_answer")),
    # Each is retried once without the schema, which may have prevented the answer.
    *twice("content null", writes(None), wrong(EVERY, 10), fails("empty_answer", 6)),
    *twice("content empty", writes(""), wrong(EVERY, 10), fails("empty_answer", 6)),
    # Five questions, one for each dialect of `do not think`, show that the server ignores them all.
    *twice("only thinking", writes("<think>\nHm.\n</think>\n"), wrong(EVERY, 14), fails("empty_answer", 10)),
    *twice("unclosed thinking", writes("<think>\nHm."), wrong(EVERY, 9), fails("unclosed_thinking", 7)),
    *twice("finish_reason length", writes('{"category": "other"}', "length"), wrong(EVERY, 10), fails("cut_by_max_tokens", 6)),
    *twice("blanks to the token limit", writes("{" + "\n" * 500, "length"), wrong(EVERY, 10), fails("blank_answer", 6)),
    Row("response_format unknown", acts.refuses("response_format"), Hits.ALL, done(4)),
    Row("no switch for thinking known", acts.refuses("chat_template_kwargs", "reasoning_effort"), Hits.ALL, done(4)),
    *twice("a stream lost behind a proxy", writes("", None), wrong(EVERY, 10), fails("empty_answer", 6)),
    *twice("a class that does not exist", writes('{"category": "poem"}'), wrong(EVERY, 10), fails("unknown_class", 6)),
    *twice("no JSON in the text", writes("I would rather not."), wrong(EVERY, 10), fails("no_json", 6)),
    *twice("text nested 5,000 deep", writes("[" * 5_000), wrong(EVERY, 10), fails("no_json", 6)),
    *twice("objects nested 5,000 deep", writes('{"a":' * 5_000), wrong(EVERY, 10), fails("no_json", 6)),
    Row("confidence of infinity", writes(INFINITE), Hits.ALL, done()),
    Row("a NUL in the summary", writes(r'{"summary": "a\u0000b", "title": "\u0000"}'), Hits.ALL, done(), stage=SUMMARIZE),
    Row("half a surrogate in the summary", writes(r'{"summary": "a\ud83d"}'), Hits.ALL, done(), stage=SUMMARIZE),
    Row("a NUL and half a surrogate in the prose", wraps("\0\ud83d ", ""), Hits.ALL, done()),
    Row("text around the JSON", wraps("Sure! {} Here it is:\n", "\nAnything else?"), Hits.ALL, done()),
    Row("the JSON in a fence", wraps("```json\n", "\n```"), Hits.ALL, done()),
    Row("thinking before the JSON", wraps("<think>{}</think>", ""), Hits.ALL, done()),
    Row("JSON twice", wraps("", '{"category": "letter"}'), Hits.ALL, done()),
    Row("content as parts", writes([{"type": "text", "text": '{"category": "other"}'}]), Hits.ALL, done()),  # type: ignore[arg-type]
    Row("a NUL in the model's name", answers_with(model="qwen\0"), Hits.ALL, done()),
    Row("half a surrogate in the model's name", answers_with(model="qwen\ud800"), Hits.ALL, done()),
    Row("usage beyond any integer", answers_with(usage={"prompt_tokens": 10**30, "completion_tokens": -1}), Hits.ALL, done()),
    Row("usage as text", answers_with(usage="much"), Hits.ALL, done()),
    Row("answer as another model", answers_with(model="some/tiny"), Hits.ALL, deferred("wrong_model", 1), settings=EXPECTING),
    Row("answer as another model", answers_with(model="some/tiny"), Hits.ONE, waits("wrong_model"), settings=EXPECTING),
    *twice("a fallback header", answers_with(FELL_BACK), deferred("wrong_model", 1), waits("wrong_model")),
    Row("the alias echoed", answers_with(model=ALIAS), Hits.ALL, done(), settings=EXPECTING),
    Row("no model named", answers_with(model=None), Hits.ALL, done(), settings=EXPECTING),
]  # fmt: skip


def _statuses() -> list[Row]:
    rows: list[Row] = []
    for status in (502, 504):
        rows += twice(f"HTTP {status}", says(status), deferred(f"HTTP {status}", 2), quarantined(f"HTTP {status}"))
    for status in (408, 503):
        rows += twice(f"HTTP {status}", says(status), deferred(f"HTTP {status}", 1), waits(f"HTTP {status}"))
    for status in (500, 529, 599, 999):
        rows += twice(f"HTTP {status}", says(status), trial_failed(f"HTTP {status}"), fails(f"HTTP {status}"))
        rows.append(Row(f"HTTP {status}", says(status), Hits.DOCUMENTS, wrong(EVERY, 10)))
    for status in (301, 302, 307, 308):
        elsewhere = says(status, location="http://elsewhere.invalid/v1")
        rows.append(Row(f"HTTP {status} to elsewhere", elsewhere, Hits.ALL, wrong(f"HTTP {status}")))
    for status, setting in (
        (400, "MODEL"),
        (401, "API_KEY"),
        (403, "API_KEY"),
        (404, "URL or OFFLOAD_DEEP_MODEL"),
        (409, "URL"),
        (413, "URL"),
        (422, "MODEL"),
        (501, "URL"),
    ):
        reason = f"HTTP {status} (check OFFLOAD_DEEP_{setting})"
        rows += twice(f"HTTP {status}", says(status), wrong(reason), fails(f"HTTP {status}"))
    return rows


SIX_HOURS = 21_600
TOO_LONG = {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192}}

STATUSES: list[Row] = [
    *_statuses(),
    Row("400, context too long", says(400, TOO_LONG), Hits.ONE, fails("context_too_small")),  # and too short to split
    Row("400, context too long", says(400, TOO_LONG), Hits.DOCUMENTS, wrong(EVERY, 5)),  # no trials
    *twice("HTTP 429", says(429), deferred("busy", 3), waits("HTTP 429", 20)),
    *twice("HTTP 429, Retry-After 1 (scaled)", says(429, retry_after="0.1"), deferred("busy", 3), waits("HTTP 429", 20)),
    *twice("HTTP 429, Retry-After 3600", says(429, retry_after="3600"), deferred("busy", 1), waits("HTTP 429")),
    Row("the right key is missing", acts.wants_key("k"), Hits.ALL, NO_KEY),
    Row("the key is wrong", acts.wants_key("k"), Hits.ALL, NO_KEY, settings={"deep_api_key": "x"}),
    Row("a key that ends in a newline", acts.wants_key("k"), Hits.ALL, done(), settings={"deep_api_key": "k\n"}),
    Row("error object as text", says(503, WORD), Hits.ALL, deferred(WORD)),
    Row("error object as object", says(503, {"error": {"message": f"away: {WORD}"}}), Hits.ALL, deferred(WORD)),
    Row("error object as list", says(503, [{"error": WORD}]), Hits.ALL, deferred(WORD)),
    Row("error object with a list", says(503, {"detail": [{"msg": WORD}]}), Hits.ALL, deferred(WORD)),
    Row("error object nested 100,000 deep", says(503, "[" * 100_000), Hits.ALL, deferred("HTTP 503")),
    Row("error page of 5 MB", says(503, "x" * 5_000_000), Hits.ALL, deferred("HTTP 503")),
    Row("502 in the router's own words", says(502, {"error": "warming"}), Hits.ALL, deferred("warming")),
    Row("a refusal that echoes the document", says(503, f"no room for {WORD}: " + "word " * 200), Hits.ALL, deferred("HTTP 503")),
    *(
        Row(f"Retry-After: {name}", says(503, retry_after=value), Hits.ALL, replace(deferred("HTTP 503"), wait_seconds=wait))
        for name, value, wait in (
            ("seconds", "120", 120),
            ("a date", "Fri, 31 Dec 2100 23:59:59 GMT", SIX_HOURS),
            ("a past date", "Fri, 31 Dec 1999 23:59:59 GMT", 5),
            ("a week", "604800", SIX_HOURS),
            ("for ever", "inf", SIX_HOURS),
            ("negative", "-1", 5),
            ("nonsense", "soon, perhaps", None),
            ("no number", "nan", None),
            ("a year of 11 digits", "Fri, 31 Dec 99999999999 23:59:59 GMT", None),
        )
    ),
]  # fmt: skip

SHUTTING_DOWN = sends(b"", Connection.stay_silent)
EVERY_CUT = Promise(State.DEFERRED, "every_document_cut", UNAVAILABLE, 6)


def and_after(name: str, all_act: Act, one_act: Act, for_all: Promise, for_one: Promise, **more: Any) -> list[Row]:
    """`twice` for a fault of one document that also hits the calls after it, trials included."""
    return [Row(name, all_act, Hits.ALL, for_all, **more), Row(name, one_act, Hits.ONE_AND_AFTER, for_one, **more)]


def _cools_down(status: int, name: str, for_all: Promise, retry_after: str | None = None) -> list[Row]:
    """A proxy refuses all clients after an error, for less and for more calls than a trial retries."""
    short, long, short_all, long_all = (
        acts.CoolsDown(status, calls, is_for_all=is_for_all, retry_after=retry_after)
        for is_for_all in (False, True)
        for calls in (1, 3)
    )
    error, first = f"HTTP {status}", f"HTTP {status} on {FIRST}"
    return [
        *and_after(f"{name}, then one 429", short_all, short, for_all, fails(error)),
        *and_after(f"{name}, then 429 for long", long_all, long, deferred(first, 4), quarantined(error)),
    ]


def _ends_at_server(status: int, name: str, message: str) -> list[Row]:
    """Errors that look like wrong settings, and that end at the server without a changed setting."""
    error = says(status, {"error": {"message": message, "code": status}})
    for_all, for_one = wrong(f"HTTP {status} (check"), fails(f"HTTP {status}")
    return twice(f"{name}: {message}", error, for_all, for_one, is_mended_at_server=True)


SERVERS: list[Row] = [
    *_ends_at_server(404, "mlx_lm", "generation thread died"),
    *_ends_at_server(404, "Ollama", "model 'qwen-macbook' not found, try pulling it first"),
    *_ends_at_server(400, "LM Studio", "No models loaded. Please load a model in the developer page"),
    *_ends_at_server(400, "LM Studio", "The model has crashed without additional information"),
    *_ends_at_server(400, "LM Studio", "Failed to load model"),
    *_ends_at_server(401, "vLLM, restarted without a key", "Unauthorized"),
    *and_after(
        "the server crashes and is restarted",
        acts.crashes, acts.crashes_on_one, deferred("connection refused", 1), quarantined(CLOSED),
    ),
    *_cools_down(404, "LiteLLM: HTTP 404", wrong("HTTP 404", 3)),
    *_cools_down(500, "LiteLLM: HTTP 500", trial_failed("HTTP 500", 3)),
    *_cools_down(400, "LiteLLM: HTTP 400 with Retry-After", wrong("HTTP 400", 3), retry_after="0.1"),
]  # fmt: skip

HEALTH: list[Row] = [
    Row("health green, all calls cut", cut("length", Connection.reset), Hits.ALL, deferred("answer cut", 2), sensor=""),
    Row("health red, calls work", well, Hits.ALL, done(), health=says(503, WORD), sensor=WORD),
    Row("health never ends, calls work", well, Hits.ALL, done(), health=SHUTTING_DOWN, sensor="no answer within"),
    Row("no /health, and models that wait, calls work", well, Hits.ALL, done(), health=acts.busy_models, sensor=""),
    Row("nothing but completions, calls work", well, Hits.ALL, done(), health=says(404), sensor=""),
    Row("no /health, no models, calls work", well, Hits.ALL, done(), health=acts.models(), sensor=""),
    Row("no /health, alias not listed, calls work", well, Hits.ALL, done(), health=acts.models("b"), sensor=""),
    Row("no /health, alias listed", well, Hits.ALL, done(), health=acts.models("b", ALIAS), sensor=""),
    Row("health is an endless body", well, Hits.ALL, done(), health=acts.endless_answer, sensor="longer than 16 MB"),
    Row(
        "health ok in a shutdown that never ends the call", SHUTTING_DOWN, Hits.ALL, deferred(TRIAL_SLOW, 2),
        settings=SILENT, sensor="",
    ),
    Row("trials answered, every document cut", cut("before", Connection.close), Hits.DOCUMENTS, EVERY_CUT),
    Row("trials answered, every document unusable", writes(""), Hits.DOCUMENTS, wrong(EVERY, 10)),
    Row("trials answered, every document HTTP 503", says(503), Hits.DOCUMENTS, deferred("HTTP 503")),
    Row("every 10th call is dropped", cut("before", Connection.close), Hits.TENTH, done(3)),
    Row("answers that take their time", acts.answers_after(0.3), Hits.DOCUMENTS, done()),
]  # fmt: skip

MATRIX: list[Row] = [*CONNECTIONS, *BODIES, *STATUSES, *SERVERS, *HEALTH]
