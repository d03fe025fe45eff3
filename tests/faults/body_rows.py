"""Rows of the fault matrix about the body of an answer with status 200."""

import gzip
import json

from dagster_offload.stages.graph import SUMMARIZE
from tests.faults import acts
from tests.faults.acts import answers_with, says, wraps, writes
from tests.faults.connection_rows import NOT_WHOLE
from tests.faults.raw_server import ALIAS, Hits
from tests.faults.rows import HELD, Row, deferred, done, fails, quarantined, trial_failed, twice, waits, wrong

HTML = "<!DOCTYPE html><html><body><form action=/login>Sign in</form></body></html>"
STREAM = 'data: {"choices": [{"delta": {"content": "{"}}]}\n\ndata: [DONE]\n\n'
COMMENT = ": wait\n\n"
OPENAI_ERROR = {"error": {"message": "the model is not there", "type": "server_error", "code": 503}}
PACKED = gzip.compress(json.dumps(OPENAI_ERROR).encode())
NO_CHOICES = {"choices": [], **OPENAI_ERROR}
NAMELESS_ERROR = {"error": "the model is not there"}
UNLOADED = {"error": "Model unloaded."}
# OpenRouter, whose provider failed after the status had been sent; and SGLang.
LOST = {
    "message": {"content": ""},
    "finish_reason": "error",
    "error": {"code": 502, "message": "Provider disconnected"},
}
REFUSED = {**LOST, "error": {"code": 503, "message": "No instances available"}}
ABORTED = {"message": {"content": '{"category": "other"}'}, "finish_reason": "abort"}
EXPECTING = {"deep_expected_model": "Qwen3"}
INFINITE = '{"category": "other", "confidence": 1e999}'
FELL_BACK = {"x-litellm-attempted-fallbacks": "1", "x-litellm-model-group": "tiny"}

BODIES: list[Row] = [
    *twice("200 with an empty body", says(200), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("200 with half a JSON", says(200, '{"choices": [{"mess'), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("204 without a body", says(204), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("an HTML log-in page", says(200, HTML, content_type="text/html"), deferred("HTML", 2), quarantined("HTML")),
    *twice("a stream that was not requested", says(200, STREAM), deferred("event stream", 2), quarantined("event stream")),
    *twice("a stream after a comment", says(200, COMMENT + STREAM), deferred("event stream", 2), quarantined("event stream")),
    *twice("JSON nested 100,000 deep", says(200, "[" * 100_000), deferred(NOT_WHOLE, 2), quarantined(NOT_WHOLE)),
    *twice("JSON without choices", says(200, {"ok": True}), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("choices that are empty", says(200, {"choices": []}), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("JSON that is a list", says(200, []), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("200 with an error that names a status", says(200, OPENAI_ERROR), deferred("HTTP 503", 1), waits("HTTP 503")),
    *twice("200 with an error and no choice", says(200, NO_CHOICES), deferred("HTTP 503", 1), waits("HTTP 503")),
    *twice("the same, compressed", says(200, PACKED, content_encoding="gzip"), deferred("HTTP 503", 1), waits("HTTP 503")),
    *twice("200 with an error", says(200, NAMELESS_ERROR), trial_failed("malformed_answer"), fails("malformed_answer")),
    *twice("200 for an unloaded model", says(200, UNLOADED), deferred("unloaded", 2), quarantined("unloaded")),
    *twice("a choice with a 502", answers_with(choices=[LOST]), deferred("HTTP 502", 2), quarantined("HTTP 502")),
    *twice("a choice with a 503", answers_with(choices=[REFUSED]), deferred("HTTP 503", 1), waits("HTTP 503")),
    *twice("an aborted choice", answers_with(choices=[ABORTED]), deferred("abort", 2), quarantined("abort")),
    *twice("a choice without message", says(200, {"choices": [{}]}), wrong(HELD, 10), fails("malformed_answer")),
    # Each is retried once without the schema, which may have prevented the answer.
    *twice("content null", writes(None), wrong(HELD, 10), fails("empty_answer", 6)),
    *twice("content empty", writes(""), wrong(HELD, 10), fails("empty_answer", 6)),
    # Five questions, one for each dialect of `do not think`, show that the server ignores them all.
    *twice("only thinking", writes("<think>\nHm.\n</think>\n"), wrong(HELD, 14), fails("empty_answer", 10)),
    *twice("unclosed thinking", writes("<think>\nHm."), wrong(HELD, 9), fails("unclosed_thinking", 7)),
    *twice("finish_reason length", writes('{"category": "other"}', "length"), wrong(HELD, 10), fails("cut_by_max_tokens", 6)),
    *twice("blanks to the token limit", writes("{" + "\n" * 500, "length"), wrong(HELD, 10), fails("blank_answer", 6)),
    Row("response_format unknown", acts.refuses("response_format"), Hits.ALL, done(4)),
    Row("no switch for thinking known", acts.refuses("chat_template_kwargs", "reasoning_effort"), Hits.ALL, done(4)),
    *twice("a stream lost behind a proxy", writes("", None), wrong(HELD, 10), fails("empty_answer", 6)),
    *twice("a class that does not exist", writes('{"category": "poem"}'), wrong(HELD, 10), fails("unknown_class", 6)),
    *twice("no JSON in the text", writes("I would rather not."), wrong(HELD, 10), fails("no_json", 6)),
    *twice("text nested 5,000 deep", writes("[" * 5_000), wrong(HELD, 10), fails("no_json", 6)),
    *twice("objects nested 5,000 deep", writes('{"a":' * 5_000), wrong(HELD, 10), fails("no_json", 6)),
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
