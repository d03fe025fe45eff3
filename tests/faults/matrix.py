"""The fault matrix: all its rows, and those about a server's restarts, cool-downs and health. `make faults` prints it.

Each row runs through the real engine against real sockets. If the fault hits every call, the promise is about the first
drain; then the server is repaired, and every document must be done. If it hits one document, drains follow until that
document has its final state, and all others must be done.
"""

from typing import Any

from dagster_offload.ledger.core.rows import State
from tests.faults import acts, health_acts
from tests.faults.acts import cut, says, sends, writes
from tests.faults.answer_rows import ANSWERS
from tests.faults.body_rows import BODIES
from tests.faults.connection_rows import CONNECTIONS
from tests.faults.play import FIRST, UNAVAILABLE
from tests.faults.raw_server import ALIAS, Act, Connection, Hits, well
from tests.faults.rows import (
    CLOSED,
    HELD,
    SILENT,
    TRIAL_SLOW,
    WORD,
    Promise,
    Row,
    deferred,
    done,
    fails,
    quarantined,
    trial_failed,
    twice,
    wrong,
)
from tests.faults.server_rows import SERVER_ROWS
from tests.faults.status_rows import STATUSES

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


def _ends_at_server(status: int, name: str, message: str, for_one: Promise | None = None) -> list[Row]:
    """Errors that look like wrong settings, and that end at the server without a changed setting."""
    error = says(status, {"error": {"message": message, "code": status}})
    for_all = wrong(f"HTTP {status} (check")
    return twice(f"{name}: {message}", error, for_all, for_one or fails(f"HTTP {status}"), is_mended_at_server=True)


SERVERS: list[Row] = [
    *_ends_at_server(404, "mlx_lm", "generation thread died"),
    *_ends_at_server(404, "Ollama", "model 'qwen-macbook' not found, try pulling it first"),
    *_ends_at_server(400, "LM Studio", "Failed to load model", quarantined("HTTP 400")),
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
    Row("no /health, and models that wait, calls work", well, Hits.ALL, done(), health=health_acts.busy_models, sensor=""),
    Row("nothing but completions, calls work", well, Hits.ALL, done(), health=says(404), sensor=""),
    Row("no /health, no models, calls work", well, Hits.ALL, done(), health=health_acts.models(), sensor=""),
    Row("no /health, alias not listed, calls work", well, Hits.ALL, done(), health=health_acts.models("b"), sensor=""),
    Row("no /health, alias listed", well, Hits.ALL, done(), health=health_acts.models("b", ALIAS), sensor=""),
    Row("health is an endless body", well, Hits.ALL, done(), health=acts.endless_answer, sensor="longer than 16 MiB"),
    Row(
        "health ok in a shutdown that never ends the call", SHUTTING_DOWN, Hits.ALL, deferred(TRIAL_SLOW, 2),
        settings=SILENT, sensor="",
    ),
    Row("trials answered, every document cut", cut("before", Connection.close), Hits.DOCUMENTS, EVERY_CUT),
    Row("trials answered, every document unusable", writes(""), Hits.DOCUMENTS, wrong(HELD, 10)),
    Row("trials answered, every document HTTP 503", says(503), Hits.DOCUMENTS, deferred("HTTP 503")),
    Row("every 10th call is dropped", cut("before", Connection.close), Hits.TENTH, done(3)),
    Row("answers that take their time", acts.answers_after(0.3), Hits.DOCUMENTS, done()),
]  # fmt: skip

MATRIX: list[Row] = [*CONNECTIONS, *BODIES, *STATUSES, *SERVERS, *HEALTH, *ANSWERS, *SERVER_ROWS]
