"""What is read from the body and the headers of an answer, and which answers are refused."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.client.faults import is_cut, reason_with_words
from dagster_offload.errors import CutAnswer, ErrorAsAnswer, MalformedAnswer, WrongModel
from dagster_offload.slot.chat import ChoiceWithoutMessage, NamedStatus, read_answer
from dagster_offload.slot.completion import Answer, ModelEvidence
from dagster_offload.slot.config import SlotConfig
from tests.support.client import DEEP_SLOT, EXPECTING

FIXTURE = Path(__file__).parents[2] / "fixtures" / "qwen_router_chat_completion.json"


def test_a_handwritten_answer_of_a_qwen_router_is_read() -> None:
    content = FIXTURE.read_bytes()
    assert "_made_by_hand" in json.loads(content)
    answer = read_answer(EXPECTING, content, {}, 1.5)
    assert json.loads(answer)["category"] == "invoice"
    assert answer.served_model is not None
    assert "Qwen3.6-27B-8bit" in answer.served_model
    assert answer.model_evidence is ModelEvidence.REPORTED
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cached_tokens) == (1874, 23, 1792)
    assert (answer.seconds, answer.finish_reason) == (1.5, "stop")


def completion(model: object = "up/Qwen3.6-27B-8bit", **message: Any) -> bytes:
    body = {"choices": [{"message": {"role": "assistant", "content": "yes", **message}}], "model": model}
    return json.dumps(body).encode()


def read(slot: SlotConfig = DEEP_SLOT, content: bytes = completion(), **headers: str) -> Answer:
    return read_answer(slot, content, {name.replace("_", "-"): value for name, value in headers.items()}, 0.1)


@pytest.mark.parametrize("content", [b"", b"   ", completion()[:-20], b"<html>sign in</html>", b"\xff\xfe{}"])
def test_an_incomplete_json_body_is_a_cut_answer(content: bytes) -> None:
    with pytest.raises(CutAnswer):
        read(content=content)


def test_an_answer_in_an_encoding_that_was_not_requested_is_named() -> None:
    with pytest.raises(CutAnswer, match=r"^its body is packed as br, which was not requested$"):
        read(content=b"\x1b\x0a\xf8", content_encoding="br")
    with pytest.raises(CutAnswer, match="not complete JSON"):
        read(content=completion()[:-20], content_encoding="gzip")


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize(
    ("code", "status"), [(1001, 504), (1002, 429), (1004, 401), (1008, 402), (1033, 503), (2045, 429)]
)
def test_an_error_of_minimax_counts_as_the_status_that_its_code_means(code: int, status: int) -> None:
    body = {"choices": None, "base_resp": {"status_code": code, "status_msg": "no"}}
    with pytest.raises(NamedStatus) as raised:
        read(content=json.dumps(body).encode())
    assert raised.value.status_code == status


@pytest.mark.rule("slot-20")
def test_another_error_of_minimax_shows_its_words() -> None:
    body = {"choices": None, "base_resp": {"status_code": 2013, "status_msg": "invalid params"}}
    with pytest.raises(ErrorAsAnswer) as raised:
        read(content=json.dumps(body).encode())
    assert raised.value.words == "invalid params"
    with pytest.raises(MalformedAnswer):
        read(content=b'{"base_resp": {"status_code": []}}')
    answered = json.loads(completion()) | {"base_resp": {"status_code": 0, "status_msg": ""}}
    assert read(content=json.dumps(answered).encode()) == "yes"


@pytest.mark.parametrize("content", [b"{}", b"[]", b"null", b"3", b'{"choices": []}', b'{"choices": {"a": 1}}'])
def test_json_without_choices_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedAnswer) as raised:
        read(content=content)
    assert not isinstance(raised.value, ChoiceWithoutMessage)


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize(
    "body",
    [
        {"message": "The tenant owes three rents."},
        {"message": {"role": "assistant", "content": "The tenant owes three rents."}, "done": True},  # Ollama's own API
        {"code": 200, "msg": "success"},
        {"code": 0, "message": "ok", "data": None},
        {"code": None, "message": "The tenant owes three rents."},
    ],
)
def test_a_message_that_may_be_an_answer_is_neither_an_error_nor_quoted(body: object) -> None:
    with pytest.raises(MalformedAnswer) as raised:
        read(content=json.dumps(body).encode())
    assert not isinstance(raised.value, ErrorAsAnswer)
    assert reason_with_words(raised.value).endswith("is this a chat completions server?")


def test_an_error_with_200_is_quoted_unless_it_repeats_the_document() -> None:
    sent = {"messages": [{"role": "user", "content": "your account 4471-22 was charged"}]}
    with pytest.raises(ErrorAsAnswer) as quoted:
        read_answer(DEEP_SLOT, b'{"error": "Model unloaded."}', {}, 0.1, sent)
    assert reason_with_words(quoted.value).endswith(': "Model unloaded."')
    assert is_cut(pickle.loads(pickle.dumps(quoted.value)))  # noqa: S301 - our own error
    with pytest.raises(ErrorAsAnswer) as repeated:
        read_answer(DEEP_SLOT, b'{"error": "cannot read: your account 4471-22 was"}', {}, 0.1, sent)
    assert "4471" not in reason_with_words(repeated.value)


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize(
    ("body", "status_code"),
    [
        ({"error": {"message": "Rate limit exceeded", "code": 429}, "user_id": "u"}, 429),
        ({"error": {"message": "overloaded", "code": "server_error", "status": 529}}, 529),
        ({"error": {"message": "down", "code": "503"}}, 503),
        ({"error": "Bad Gateway", "statusCode": 502}, 502),
        ({"choices": [], "error": {"message": "down", "code": 503}}, 503),
        ({"choices": None, "error": {"message": "down", "code": 503}}, 503),
        ({"object": "error", "message": "The model does not exist", "code": 404}, 404),  # vLLM behind RunPod
    ],
)
def test_an_error_sent_with_200_counts_as_the_status_that_it_names(body: object, status_code: int) -> None:
    with pytest.raises(NamedStatus) as raised:
        read(content=json.dumps(body).encode())
    assert raised.value.status_code == status_code


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize("error", ["down", *({"code": code} for code in ("bad_request", 200, 1015, True, "9" * 5_000))])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_error_sent_with_200_that_names_no_status_is_malformed(error: object, encoding: str) -> None:
    with pytest.raises(ErrorAsAnswer) as raised:
        read(content=json.dumps({"error": error}).encode(encoding))
    assert raised.value.words == ("down" if error == "down" else None)


@pytest.mark.parametrize(
    "body",
    [
        {"code": "rate_limit_daily", "message": "come back"},
        {"detail": [{"msg": "come back"}]},
        {"object": "error", "message": "come back", "code": None},
        {"success": False, "msg": "come back"},
        {"status": "error", "message": "come back"},
        {"type": "error", "message": "come back"},
        {"error": True, "message": "come back"},
    ],
)
def test_a_message_in_place_of_an_answer_is_an_error_with_these_words(body: object) -> None:
    with pytest.raises(ErrorAsAnswer) as raised:
        read(content=json.dumps(body).encode())
    assert raised.value.words == "come back"


def test_an_answer_beside_an_error_is_read() -> None:
    body = json.loads(completion()) | {"error": {"code": 503}}
    assert read(content=json.dumps(body).encode()) == "yes"


@pytest.mark.parametrize(
    ("reported", "tokens"),
    [
        (12, 12),
        (12.0, 12),
        (12.5, None),
        (-1, None),
        (2**31, None),
        (1e999, None),
        (True, None),
        ("12", None),
        (None, None),
    ],
)
def test_a_count_of_tokens_is_a_whole_number(reported: object, tokens: int | None) -> None:
    body = json.loads(completion()) | {"usage": {"prompt_tokens": reported}}
    assert read(content=json.dumps(body).encode()).usage.prompt_tokens == tokens


@pytest.mark.parametrize("choice", ["{}", "null", '{"text": "old"}', '{"message": null}'])
def test_a_choice_without_a_message_is_malformed(choice: str) -> None:
    with pytest.raises(ChoiceWithoutMessage):
        read(content=f'{{"choices": [{choice}]}}'.encode())


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize(
    "reason", ["error", "abort", "insufficient_system_resource", "network_error"]
)  # OpenRouter; SGLang and vLLM; DeepSeek; z.AI
def test_a_choice_that_ended_with_a_failure_is_a_cut_answer_and_its_text_is_not_used(reason: str) -> None:
    choice = {"message": {"content": '{"category": "other"}'}, "finish_reason": reason}
    with pytest.raises(CutAnswer, match=reason) as raised:
        read(content=json.dumps({"choices": [choice]}).encode())
    assert is_cut(raised.value)
    assert "category" not in str(raised.value)


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize("content", ["", '{"category": "other"}'])
def test_a_failure_that_only_the_provider_names_is_a_cut_answer(content: str) -> None:
    choice = {"message": {"content": content}, "finish_reason": "stop", "native_finish_reason": "network_error"}
    with pytest.raises(CutAnswer, match="network_error"):
        read(content=json.dumps({"choices": [choice]}).encode())
    assert read(content=json.dumps({"choices": [choice | {"native_finish_reason": ["STOP"]}]}).encode()) == content


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize("finish_reason", [None, "something", ["abort"]])
def test_a_choice_with_an_error_is_a_cut_answer_unless_it_ended_as_usual(finish_reason: object) -> None:
    choice = {"message": {"content": "half"}, "finish_reason": finish_reason, "error": {"message": "lost the provider"}}
    with pytest.raises(CutAnswer):
        read(content=json.dumps({"choices": [choice]}).encode())
    choice["finish_reason"] = "stop"
    assert read(content=json.dumps({"choices": [choice]}).encode()) == "half"


@pytest.mark.parametrize("reason", ["max_tokens", "model_length", "MAX_TOKENS", "length"])
def test_every_word_for_the_token_limit_means_length(reason: str) -> None:
    choice = {"message": {"role": "assistant", "content": '{"category": "other"}'}, "finish_reason": reason}
    assert read(content=json.dumps({"choices": [choice]}).encode()).finish_reason == "length"


def test_null_content_is_empty_text_and_parts_are_joined() -> None:
    assert read(content=completion(content=None, reasoning_content="hm")) == ""
    assert read(content=completion(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "ab"


@pytest.mark.rule("slot-6")
@pytest.mark.parametrize(
    ("model", "evidence"),
    [
        ("up/Qwen3.6-27B-8bit", ModelEvidence.REPORTED),
        ("qwen-macbook", ModelEvidence.ECHOED),
        (None, ModelEvidence.ABSENT),
        ("", ModelEvidence.ABSENT),
        (7, ModelEvidence.ABSENT),
    ],
)
def test_the_served_model_is_kept_with_its_evidence(model: object, evidence: ModelEvidence) -> None:
    assert read(EXPECTING, completion(model)).model_evidence is evidence


def test_a_reported_model_that_does_not_match_is_refused() -> None:
    with pytest.raises(WrongModel, match=r"tiny-1b.*OFFLOAD_DEEP_EXPECTED_MODEL"):
        read(EXPECTING, completion("tiny-1b"))
    assert read(DEEP_SLOT, completion("tiny-1b")).served_model == "tiny-1b"  # no expectation is set


def test_the_expected_model_is_shown_as_it_was_written() -> None:
    with pytest.raises(WrongModel, match=re.escape(r"EXPECTED_MODEL is Qwen3\.6-27B") + "$"):
        read(replace(EXPECTING, expected_model=r"Qwen3\.6-27B"), completion("tiny-1b"))


@pytest.mark.parametrize(
    "headers",
    [
        {"x_litellm_attempted_fallbacks": "1"},
        {"x_litellm_attempted_fallbacks": "2", "x_litellm_model_group": "small"},
        {"x_litellm_model_group": "small"},
    ],
)
@pytest.mark.parametrize("slot", [DEEP_SLOT, EXPECTING])
def test_an_answer_after_a_router_fallback_is_refused(slot: SlotConfig, headers: dict[str, str]) -> None:
    with pytest.raises(WrongModel, match="fell back"):
        read(slot, completion(), **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_litellm_attempted_fallbacks": "0", "x_litellm_model_group": "production-alias"},
        {"x_litellm_model_group": "qwen-macbook"},
    ],
)
def test_headers_without_a_fallback_are_accepted(headers: dict[str, str]) -> None:
    assert read(EXPECTING, completion(), **headers) == "yes"


@pytest.mark.parametrize(
    ("message", "details", "tokens"),
    [
        ({"content": "yes"}, None, 0),
        ({"content": "yes", "reasoning_content": "Hm, let me see."}, None, 5),
        ({"content": "yes", "reasoning": "Hm, let me see."}, None, 5),
        ({"content": "yes", "reasoning_content": None, "reasoning": " \n"}, None, 0),
        ({"content": "<think>\n\n</think>\n\nyes"}, None, 0),
        ({"content": "<think>Hm.</think>yes"}, None, 1),
        ({"content": "Hm.</think>yes"}, None, 1),
        ({"content": "<think>Hm."}, None, 1),
        ({"content": '{"summary": "how <think> works"}'}, None, 0),
        ({"content": "yes"}, {"reasoning_tokens": 640}, 640),
        ({"content": "yes"}, {"reasoning_tokens": 0}, 0),
    ],
)
def test_thinking_is_counted_wherever_a_server_shows_it(
    message: dict[str, Any], details: dict[str, int] | None, tokens: int
) -> None:
    content = json.dumps({"choices": [{"message": message}], "usage": {"completion_tokens_details": details}}).encode()
    assert read(content=content).thinking_tokens == tokens
