"""Rows of the fault matrix by server: a family of rows for each server that people run.

The answers are those of real servers or of their sources. Each row shows the reason that leads to the cure.
"""

from typing import Any

from dagster_offload.stages.graph import SUMMARIZE
from tests.faults import acts, health_acts
from tests.faults.acts import says, writes
from tests.faults.raw_server import ALIAS, Act, Hits, well
from tests.faults.rows import Promise, Row, deferred, done, fails, quarantined, trial_failed, twice, wrong

MODEL = "(check OFFLOAD_DEEP_MODEL: the server lists qwen3:latest, llama3:latest)"
LISTED = f"(the server lists {ALIAS})"
KEY = "(check OFFLOAD_DEEP_API_KEY)"
NAMES = ("llama3:latest", "qwen3:latest")
NO_SNAPSHOT = "Cannot find an appropriate cached snapshot folder for the specified revision on the local disk"
TOO_LONG = (
    "This model's maximum context length is 512 tokens. However, you requested 900 tokens (700 in the messages, 200 in the "
    "completion). Please reduce the length of the messages or completion."
)


def openai(status: int, message: object, **more: Any) -> Act:
    """An error in OpenAI's form."""
    return says(status, {"error": {"message": message, "code": status, **more}})


def explained(name: str, act: Act, for_all: Promise, for_one: str, health: Act | None = None) -> list[Row]:
    """Two rows of an error that ends at the server: the reason has the server's words, for the slot and for a document."""
    return twice(name, act, for_all, fails(for_one), health=health, is_mended_at_server=True)


def ended(name: str, act: Act, for_all: Promise, for_one: str, health: Act | None = None) -> list[Row]:
    """`explained` for a call that the server ended: other documents may have ended it, so the one becomes a suspect."""
    return twice(name, act, for_all, quarantined(for_one), health=health, is_mended_at_server=True)


UNLOADED = says(400, {"error": "Model unloaded."})
LITELLM = health_acts.LiteLLM(*(f"alias-{n}" for n in range(27)), ALIAS)

FAMILIES: list[Row] = [
    Row("LiteLLM: 28 aliases, calls work", well, Hits.ALL, done(), health=LITELLM, sensor=""),
    Row(
        "LiteLLM behind a proxy that hides its free paths", well, Hits.ALL, done(),
        health=health_acts.LiteLLM(ALIAS, is_alive_shown=False), sensor="",
    ),
    *explained(
        "LiteLLM: a wrong key", openai(400, "No connected db.", type="no_db_connection"),
        wrong(f'HTTP 400 {KEY}: "No connected db."'), 'HTTP 400: "No connected db."', LITELLM,
    ),
    *explained(
        "LiteLLM: no key", openai(500, "Authentication Error, No api key passed in."),
        wrong(f'HTTP 500 {KEY}: "Authentication Error, No api key passed in."'), "HTTP 500", LITELLM,
    ),
    *explained(
        "LiteLLM: no key, and a 500 in plain text", says(500, "Internal Server Error"),
        wrong("HTTP 500 (check OFFLOAD_DEEP_API_KEY: LiteLLM answers like this"), "http_500: HTTP 500", LITELLM,
    ),
    *explained(
        "LiteLLM: an unknown alias", openai(400, "/chat/completions: Invalid model name passed in model=qwen"),
        wrong(f"HTTP 400 {MODEL}: \"/chat/completions: Invalid model name"), "Invalid model name", health_acts.LiteLLM(*NAMES),
    ),
    *ended(
        "LiteLLM: an upstream that is refused",
        openai(500, "litellm.InternalServerError: OpenAIException - Connection error"),
        trial_failed('HTTP 500: "litellm.InternalServerError'), "OpenAIException - Connection error", LITELLM,
    ),
    *explained(
        "Ollama: a model that is not pulled", openai(404, f"model '{ALIAS}' not found"),
        wrong(f"HTTP 404 {MODEL}: \"model '{ALIAS}' not found\""), "not found", health_acts.models(*NAMES),
    ),
    *ended(
        "Ollama: memory", openai(500, "model requires more system memory (9.1 GiB) than is available (7.4 GiB)"),
        trial_failed('HTTP 500: "model requires more system memory (9.1 GiB)'), "system memory", health_acts.models(*NAMES),
    ),
    *ended(
        "Ollama: its runner crashed", openai(500, "model runner has unexpectedly stopped, this may be due to resource limits"),
        trial_failed('HTTP 500: "model runner has unexpectedly stopped'), "model runner has", health_acts.models(*NAMES),
    ),
    Row(
        "Ollama: its queue is full", openai(503, "server busy, please try again. maximum pending requests exceeded"),
        Hits.ALL, deferred('HTTP 503: "server busy, please try again.'), health=health_acts.models(*NAMES),
    ),
    Row("LM Studio: no health path, calls work", well, Hits.ALL, done(), health=health_acts.lm_studio(ALIAS), sensor=""),
    *ended(
        "LM Studio: no model loaded", openai(400, "No models loaded. Please load a model in the developer page."),
        wrong(f'HTTP 400 {LISTED}: "No models loaded.'), "No models loaded", health_acts.lm_studio(ALIAS),
    ),
    *ended(
        "LM Studio: the model crashed", says(400, {"error": "The model has crashed without additional information."}),
        wrong(f'HTTP 400 {LISTED}: "The model has crashed'), "The model has crashed", health_acts.lm_studio(ALIAS),
    ),
    Row("LM Studio: the model is unloaded now and then", UNLOADED, Hits.TENTH, done(3), health=health_acts.lm_studio(ALIAS)),
    *twice(
        "LM Studio: the model is unloaded at each call", UNLOADED,
        wrong(f'HTTP 400 {LISTED}: "Model unloaded."'), quarantined("HTTP 400"),
        health=health_acts.lm_studio(ALIAS), is_mended_at_server=True,
    ),
    Row("vLLM: an empty health answer, calls work", well, Hits.ALL, done(), health=health_acts.plain_health(), sensor=""),
    *explained(
        "vLLM: an unknown model", openai(404, f"The model `{ALIAS}` does not exist.", type="NotFoundError"),
        wrong(f"HTTP 404 {MODEL}: \"The model `{ALIAS}` does not exist.\""), "does not exist",
        health_acts.plain_health(b"", *NAMES),
    ),
    *explained("vLLM: no key", says(401, {"error": "Unauthorized"}), wrong(f'HTTP 401 {KEY}: "Unauthorized"'), "HTTP 401"),
    *ended(
        "vLLM: its engine died", openai(500, "EngineCore encountered an issue. See stack trace (above)"),
        trial_failed('HTTP 500: "EngineCore encountered an issue.'), "EngineCore", health_acts.plain_health(b"", ALIAS),
    ),
    Row("vLLM: its engine died, health red", well, Hits.ALL, done(), health=says(503), sensor="HTTP 503"),
    Row("llama-swap: calls work", well, Hits.ALL, done(), health=health_acts.plain_health(b"OK", ALIAS), sensor=""),
    *explained(
        "llama-swap: an unknown model", says(404, {"error": f"no router for model {ALIAS}"}),
        wrong(f"HTTP 404 {MODEL}: \"no router for model"), "no router", health_acts.plain_health(b"OK", *NAMES),
    ),
    Row(
        "llama.cpp: loading", openai(503, "Loading model", type="unavailable_error"), Hits.ALL,
        deferred('HTTP 503: "Loading model"'),
        health=openai(503, "Loading model"), sensor='/health returned HTTP 503: "Loading model"',
    ),
    *ended(
        "llama.cpp as a router: its model's process crashed", openai(500, "proxy error: Failed to read connection"),
        trial_failed('HTTP 500: "proxy error: Failed to read connection"'), "proxy error", health_acts.plain_health(b"{}", ALIAS),
    ),
    *explained(
        "llama.cpp: a wrong key", openai(401, "Invalid API Key", type="authentication_error"),
        wrong(f'HTTP 401 {KEY}: "Invalid API Key"'), "Invalid API Key",
    ),
    *explained(
        "mlx_lm: its thread died, and it lists the model", says(404, {"error": "generation thread died"}),
        wrong(f'HTTP 404 {LISTED}: "generation thread died"'), "generation thread died", health_acts.plain_health(b"{}", ALIAS),
    ),
    *explained(
        "mlx_lm: the name of no model", says(404, {"error": NO_SNAPSHOT}),
        wrong(f'HTTP 404 (check OFFLOAD_DEEP_MODEL: the server lists /models/qwen3): "{NO_SNAPSHOT}"'), NO_SNAPSHOT,
        health_acts.plain_health(b"{}", "/models/qwen3"),
    ),
    *explained(
        "mlx_lm: the name of no model, and a broken list", says(404, {"error": NO_SNAPSHOT}),
        wrong(f'HTTP 404 (check OFFLOAD_DEEP_URL or OFFLOAD_DEEP_MODEL): "{NO_SNAPSHOT}"'), NO_SNAPSHOT,
        health_acts.health_and_a_broken_list,
    ),
    Row("mlx_lm: a broken list, calls work", well, Hits.ALL, done(), health=health_acts.health_and_a_broken_list, sensor=""),
    Row("llama.cpp: answers outside its grammar", acts.leaves_its_grammar, Hits.ALL, done(4)),
    Row("llama-cpp-python: json_schema is a 500", acts.knows_only_json_object, Hits.ALL, done(2)),
    *twice(
        "llama-cpp-python: no key", says(401, {"detail": "Invalid API key"}),
        wrong(f'HTTP 401 {KEY}: "Invalid API key"'), fails("Invalid API key"), health=says(401, {"detail": "Invalid API key"}),
        is_mended_at_server=True,
    ),
    Row(
        "llama-cpp-python: too long, and too short to split",
        openai(400, TOO_LONG, param="messages", type="invalid_request_error"), Hits.ONE, fails("context_too_small"),
        health=health_acts.busy_models,
    ),
    Row(
        "llama-cpp-python: lists a path, and waits with its list", well, Hits.ALL, done(),
        health=health_acts.busy_models, sensor="",
    ),
    *explained(
        "llama-cpp-python: a wrong key", says(401, {"detail": "Invalid API key"}),
        wrong(f'HTTP 401 {KEY}: "Invalid API key"'), "Invalid API key", health_acts.busy_models,
    ),
    *twice("Groq: an answer outside its schema", acts.finds_the_answer_invalid, done(4), done(4)),
    *explained(
        "OpenAI: an unsupported parameter", openai(400, "Unsupported parameter: 'logit_bias' is not supported."),
        wrong("\"Unsupported parameter: 'logit_bias'"), "Unsupported parameter: 'logit_bias'",
    ),
    Row(
        "a health path that needs another key, calls work", well, Hits.ALL, done(),
        health=health_acts.wants_another_key_for_health, sensor="",
    ),
]  # fmt: skip

# Words of a server in their broken form: none of them reaches a reason.
WORDS: list[Row] = [
    *twice("an error of 5 MB", openai(400, "x" * 5_000_000), wrong("xxx…"), fails("xxx…")),
    *twice("an error with a stack trace", openai(400, "boom\n  File secret.py"), wrong('"boom"'), fails('"boom"')),
    *twice("an error in control characters", openai(400, "a\u202eb\x1b[31m"), wrong('"ab[31m"'), fails('"ab[31m"')),
    *twice("an error that is a list of objects", openai(400, [{"msg": "no"}]), wrong('"no"'), fails('"no"')),
    *twice("an error nested a thousand deep", says(400, '{"error":' * 1_000), wrong("HTTP 400"), fails("HTTP 400")),
    *twice("an error that is a number", openai(400, 7), wrong("HTTP 400"), fails("HTTP 400")),
    *twice("an error that shows a key", openai(401, "Received sk-abc123"), wrong('"Received …"'), fails('"Received …"')),
    Row("an error that quotes the document", acts.echoes_the_document, Hits.ONE, fails("http_400: HTTP 400")),
]  # fmt: skip

LOOP = '{"summary": "' + "The rent is due. " * 40 + '", "title": "Rent", "key_points": []}'
LONG = '{"summary": "' + " ".join(f"Sentence {n} says that clause {n} holds." for n in range(60)) + '"}'

DOUBTS: list[Row] = [
    Row("a summary that repeats one sentence", writes(LOOP), Hits.DOCUMENTS, done(2), stage=SUMMARIZE),
    Row("a summary longer than its document", writes(LONG), Hits.DOCUMENTS, done(2), stage=SUMMARIZE),
    Row(
        "a summary in another language", writes('{"summary": "' + "The tenant pays the rent on time. And more. " * 2 + '"}'),
        Hits.DOCUMENTS, done(2), stage=SUMMARIZE, settings={"language": "ko"},
    ),
]  # fmt: skip

SERVER_ROWS: list[Row] = [*FAMILIES, *WORDS, *DOUBTS]
