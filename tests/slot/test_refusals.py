"""The server's own words: which are quoted, and what is never quoted. And the setting that a refusal points to."""

import json
from dataclasses import replace

import pytest

from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import (
    LONGEST_WORDS,
    is_about_the_key,
    plain_words,
    server_words,
    setting_behind_status,
    status_in_words,
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


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("404 page not found\n", "404 page not found"),
        ("Invalid host header", "Invalid host header"),
        ("The endpoint a.ngrok.app is offline.\r\n\r\nERR_NGROK_3200\r\n", "The endpoint a.ngrok.app is offline."),
        ("unknown key sk-abc123", "unknown key …"),
        ("", None),
        ("one\ntwo\nthree", None),
        ("x" * 201, None),
        ("red \x1b[31m", None),
        ("<html>no</html>", None),
        ('{"input": "anything"}', None),
        ("not read: your account 4471-22 was", None),
        ("not read:\nyour account 4471-22 was", None),
        ("the key was secret-of-mine", None),
    ],
)
def test_a_refusal_in_plain_text_is_quoted_if_it_is_short_and_repeats_nothing(body: str, words: str | None) -> None:
    sent = f"Rules.\n<document>\n{DOCUMENT}\n</document>\nsecret-of-mine"
    assert plain_words(body, "text/plain; charset=utf-8", sent) == words
    assert plain_words(body, "text/html", sent) is None
    assert plain_words(body, "", sent) is None


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://me:pw@login.example:444/in?token=secret", "HTTP 302: it redirects to https://login.example:444"),
        ("//login.example/in", "HTTP 302: it redirects to login.example"),
        ("/login?token=secret", "HTTP 302"),
        ("http://[", "HTTP 302"),
        ("", "HTTP 302"),
    ],
)
def test_the_reason_of_a_redirect_shows_only_the_host_that_it_points_to(location: str, reason: str) -> None:
    assert status_in_words(302, {"location": location}) == reason


@pytest.mark.rule("slot-15")
@pytest.mark.parametrize("body", ["404 page not found\n", "<!DOCTYPE html><html>Not Found</html>"])
def test_a_404_that_is_not_json_may_be_the_answer_of_a_proxy(body: str) -> None:
    named = setting_behind_status(SLOT, 404, body=body)
    assert named == ("OFFLOAD_DEEP_URL or OFFLOAD_DEEP_MODEL, or whether a proxy answers because the machine is asleep")
    assert setting_behind_status(SLOT, 404, body='{"detail": 1}') == "OFFLOAD_DEEP_URL or OFFLOAD_DEEP_MODEL"


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
        (407, "Authentication error: unauthorized", "HTTP_PROXY or NO_PROXY"),
        (302, None, "OFFLOAD_DEEP_URL"),
        (302, "the model has moved", "OFFLOAD_DEEP_URL"),
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
