"""The server's own words: which are quoted, and what is never quoted. And the setting that a refusal points to."""

import json
from dataclasses import replace

import pytest

from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import (
    LONGEST_WORDS,
    is_about_the_key,
    server_words,
    setting_behind_status,
)

SLOT = SlotConfig("deep", "http://macbook.local:8890", "qwen-macbook")
DOCUMENT = "Dear Ms Lovelace,\nyour account 4471-22 was charged 300 euros on 3 May."


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "Loading model"),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ({"detail": "Invalid API key"}, "Invalid API key"),
        ({"detail": [{"loc": ["body"], "msg": "Field required", "input": DOCUMENT}]}, "Field required"),
        ({"object": "error", "message": "does not exist", "code": 404}, "does not exist"),
        ([{"error": {"message": "no"}}], "no"),
        ({"error": {"code": 404, "status": "NOT_FOUND"}}, None),
        ({"input": DOCUMENT, "prompt": DOCUMENT}, None),
        ({"error": None}, None),
        ({"error": {"message": "   \n  second line"}}, "second line"),
        ({"error": {"message": "first\nTraceback: second"}}, "first"),
        ({"error": {"message": "red \x1b[31m, \u202eturned"}}, "red [31m, turned"),
        ("text", None),
    ],
)
def test_only_the_first_line_of_a_known_error_field_is_quoted(body: object, words: str | None) -> None:
    assert server_words(json.dumps(body)) == words


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize(
    "message",
    [
        f"cannot tokenize {DOCUMENT[:40]!r}",
        "cannot tokenize: your account 4471-22 was",
        "YOUR ACCOUNT 4471-22 WAS is no JSON",
        "near 'Dear Ms Lovelace,': bad token",
        "the key was secret-of-mine",
    ],
)
def test_words_that_repeat_a_part_of_the_request_are_not_quoted(message: str) -> None:
    sent = f"Rules.\n<document>\n{DOCUMENT}\n</document>\nsecret-of-mine"
    assert server_words(json.dumps({"error": {"message": message}}), sent) is None


def test_words_are_short_and_hide_keys_hashes_and_passwords() -> None:
    shown = server_words(json.dumps({"error": {"message": "x" * 1_000}}))
    assert shown is not None
    assert len(shown) == LONGEST_WORDS
    message = f"Received API Key = sk-...abcd, hash {'0123456789abcdef' * 4}, from http://me:pw@host/"
    assert server_words(json.dumps({"detail": message})) == "Received API Key = …, hash …, from http://…host/"


@pytest.mark.parametrize("words", ["No connected db.", "Authentication Error, No api key passed in.", "Unauthorized"])
def test_litellm_and_others_say_in_odd_ways_that_the_key_is_wrong(words: str) -> None:
    assert is_about_the_key(words)
    assert setting_behind_status(SLOT, 400, words) == "OFFLOAD_DEEP_API_KEY"


@pytest.mark.rule("slot-15")
@pytest.mark.parametrize(
    ("status_code", "words", "setting"),
    [
        (404, None, "OFFLOAD_DEEP_URL or OFFLOAD_DEEP_MODEL"),
        (404, "model 'x' not found", "OFFLOAD_DEEP_MODEL"),
        (500, None, "OFFLOAD_DEEP_URL"),
        (500, "model requires more system memory", None),
        (400, "the model is not loaded", "OFFLOAD_DEEP_MODEL"),
        (405, "Method Not Allowed", "OFFLOAD_DEEP_URL"),  # Open WebUI, whose API is elsewhere
        (421, "Misdirected Request", "OFFLOAD_DEEP_URL"),
        (407, None, "HTTP_PROXY or NO_PROXY"),
        (400, "Unsupported parameter: 'logit_bias' is not supported.", None),
        (422, "Extra inputs are not permitted", None),
    ],
)
def test_a_setting_that_is_right_is_not_named(status_code: int, words: str | None, setting: str | None) -> None:
    assert setting_behind_status(SLOT, status_code, words) == setting


@pytest.mark.rule("slot-15")
def test_a_403_without_a_key_may_be_about_the_host_name() -> None:
    shown = "OFFLOAD_DEEP_API_KEY, or whether the server accepts the host name in OFFLOAD_DEEP_URL"
    assert setting_behind_status(SLOT, 403) == shown  # Ollama behind a proxy
    assert setting_behind_status(SLOT, 403, "Invalid host header") == shown  # Jan
    assert setting_behind_status(SLOT, 403, "Invalid API key") == "OFFLOAD_DEEP_API_KEY"
    assert setting_behind_status(replace(SLOT, api_key="k"), 403) == "OFFLOAD_DEEP_API_KEY"


@pytest.mark.rule("slot-15")
def test_for_a_parameter_that_the_server_refuses_the_reason_names_the_setting_that_adds_parameters() -> None:
    adding = replace(SLOT, extra_body={"logit_bias": {}})
    assert setting_behind_status(adding, 400, "Unsupported parameter: 'logit_bias'") == "OFFLOAD_DEEP_EXTRA_BODY"
