"""Rows of the fault matrix by HTTP status, with the forms of error bodies and of `Retry-After`."""

from dataclasses import replace

from tests.faults import acts
from tests.faults.acts import says
from tests.faults.raw_server import Hits
from tests.faults.rows import HELD, WORD, Row, deferred, done, fails, quarantined, trial_failed, twice, waits, wrong

NO_KEY = wrong("HTTP 401 (check OFFLOAD_DEEP_API_KEY)")


def _statuses() -> list[Row]:
    rows: list[Row] = []
    for status in (408, 499, 502, 504, 520, 524):
        rows += twice(f"HTTP {status}", says(status), deferred(f"HTTP {status}", 2), quarantined(f"HTTP {status}"))
    for status in (423, 425, 503, 522, 529, 530):
        rows += twice(f"HTTP {status}", says(status), deferred(f"HTTP {status}", 1), waits(f"HTTP {status}"))
    for status in (424, 500, 526, 599, 999):
        rows += twice(f"HTTP {status}", says(status), trial_failed(f"HTTP {status}"), fails(f"HTTP {status}"))
        rows.append(Row(f"HTTP {status}", says(status), Hits.DOCUMENTS, wrong(HELD, 10)))
    rows += twice("HTTP 402", says(402), wrong("HTTP 402 (add credit", 1), waits("HTTP 402"))
    rows.append(Row("HTTP 402", says(402), Hits.DOCUMENTS, wrong("HTTP 402 (add credit", 1)))
    for status in (301, 302, 307, 308):
        elsewhere = says(status, location="http://elsewhere.invalid/v1")
        rows.append(Row(f"HTTP {status} to elsewhere", elsewhere, Hits.ALL, wrong(f"HTTP {status}")))
    for status, setting in (
        (400, "MODEL"),
        (401, "API_KEY"),
        (404, "URL or OFFLOAD_DEEP_MODEL"),
        (409, "URL"),
        (413, "URL"),
        (422, "MODEL"),
        (501, "URL"),
        (403, "API_KEY, or whether the server accepts the host name in OFFLOAD_DEEP_URL"),
    ):
        reason = f"HTTP {status} (check OFFLOAD_DEEP_{setting})"
        rows += twice(f"HTTP {status}", says(status), wrong(reason), fails(f"HTTP {status}"))
    return rows


SIX_HOURS = 21_600
TOO_LONG = {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192}}

# Tunnels and proxies that answer while the machine is asleep.
NGROK = says(404, "The endpoint is offline.", content_type="text/plain", ngrok_error_code="ERR_NGROK_3200")
TRAEFIK = says(404, "404 page not found", content_type="text/plain; charset=utf-8")

STATUSES: list[Row] = [
    *_statuses(),
    Row("400, context too long", says(400, TOO_LONG), Hits.ONE, fails("context_too_small")),  # and too short to split
    Row("400, context too long", says(400, TOO_LONG), Hits.DOCUMENTS, wrong(HELD, 5)),  # no trials
    *twice("ngrok without a machine", NGROK, deferred("HTTP 404: no machine", 1), waits("HTTP 404: no machine")),
    *twice("Traefik without a router", TRAEFIK, wrong('asleep): "404 page not found"'), fails("HTTP 404")),
    *twice("HTTP 429", says(429), deferred("busy", 3), waits("HTTP 429", 20)),
    Row("HTTP 429 with words", says(429, {"error": "50 requests a day"}), Hits.ALL, deferred('busy: "50 requests a day"', 3)),
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
            ("seconds, from two servers", "120, 120", 120),
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
