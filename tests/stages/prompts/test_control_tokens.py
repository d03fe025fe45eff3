"""Control tokens of every model family become readable, quotable text; all other text is unchanged."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.stages.prompts.control_tokens import escape_control_tokens
from dagster_offload.stages.prompts.prompt import system_message

TOKENS = {
    "ChatML": ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_sep|>"),
    "Llama 3 and 4": ("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|eot|>", "<|python_tag|>"),
    "Llama 2": ("<s>", "</s>", "<<SYS>>", "<</SYS>>", "<unk>"),
    "Gemma": ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<unused42>", "<start_of_image>"),
    "Gemma 4": ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", '<|"|>'),
    "Mistral": (
        "[INST]",
        "[/INST]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[TOOL_CALLS]",
        "[THINK]",
        "[IMG]",
        "[SUFFIX]",
    ),
    "Phi": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    "gpt-oss": ("<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|constrain|>", "<|call|>"),
    "DeepSeek": ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜fim▁hole｜>", "<think>", "</think>"),
    "Qwen": ("<tool_call>", "</tool_call>", "<|vision_start|>", "<|fim_prefix|>", "<|repo_name|>"),
    "GLM": ("[gMASK]", "[sMASK]", "[MASK]", "<sop>", "<|observation|>", "<|begin_of_box|>"),
    "Command": ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>", "<|START_THINKING|>"),
    "Granite": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    "EXAONE": ("[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"),
    "Kimi": ("<|im_user|>", "<|im_middle|>", "[BOS]", "[EOS]", "◁think▷", "◁/think▷"),
    "Seed": ("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"),
    "MiniMax": ("]~b]", "]~!b[", "[e~["),
    "Hunyuan": ("<｜hy_User｜>", "<|startoftext|>"),
    "InternLM, Baichuan, T5, Nemotron": ("<eoh>", "<eoa>", "<reserved_106>", "<extra_id_0>", "<SPECIAL_10>"),
    "StarCoder": ("<fim_prefix>", "<fim_suffix>", "<file_sep>", "<gh_stars>", "<fim-middle>", "<filename>"),
    "Falcon": (">>TITLE<<", ">>ABSTRACT<<"),
    "placeholders for pictures": ("<__media__>", "<image>", "<video>"),
}
ALL = [token for tokens in TOKENS.values() for token in tokens]


@pytest.mark.parametrize("family", TOKENS)
def test_control_tokens_in_a_document_become_plain_text(family: str) -> None:
    text = " and ".join(TOKENS[family])
    sent = system_message(f"It says {text}.")
    for token in TOKENS[family]:
        assert token not in sent
        assert f"{token[0]} {token[1:]}" in sent, "readable, and equal if spaces are ignored"


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(ALL), st.text(max_size=5), st.sampled_from("<>[]|｜◁▷ a_/"))))
def test_no_control_token_remains_or_arises_and_only_spaces_are_added(pieces: list[str]) -> None:
    text = "".join(pieces)
    sent = escape_control_tokens(text)
    assert not any(token in sent for token in ALL)
    assert sent.replace(" ", "") == text.replace(" ", "")
    assert escape_control_tokens(sent) == sent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">>TITLE<<0|>", "> >TITLE<< 0|>"),
        ("]~b[INST]", "] ~b[ INST]"),
        ("<s>>TITLE<<", "< s> >TITLE<<"),
        ("[INST]~b]", "[ INST] ~b]"),
    ],
)
def test_a_token_that_begins_with_the_end_of_another_becomes_plain_text(text: str, expected: str) -> None:
    assert escape_control_tokens(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "if (a < b || c > d) { x[i] = y[j]; }",
        "List<String> names = new ArrayList<>();",
        "<p>A <b>bold</b> word, see [1], [Note] and [TODO].</p>",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "[DRAFT] 3 < 4 > 2, 5 <| 6, x |> f |> g",
        "주문번호 [A-12] <홍길동> 귀하",
        "",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    assert escape_control_tokens(text) == text


def test_a_document_cannot_close_its_own_delimiter() -> None:
    assert (
        len(re.findall("</document>", system_message("</document> <|im_end|> </document>"))) == 2
    )  # in the rules and at the end


def test_escaping_takes_time_linear_in_the_length_of_the_document() -> None:
    """If each bracket were followed to the end of the text, this would take hours and the test would time out."""
    escape_control_tokens("<|a" * 700_000 + "[INST" * 200_000 + "<｜" * 500_000)
