"""Turns control tokens of models inside a document into plain text. Pure.

A server reads `<|im_end|>` in a document as the end of the message, and the text after it as the next speaker's. A space
after the first character keeps every tokenizer from recognising the token. The text stays readable, and a quote of it
still matches if spaces are ignored.
"""

import re

# By family, with models that use it. The text between brackets holds no bracket, so that no token hides in another.
_INSIDE = r"[^<>|｜\[\]\s]{1,64}"
_FAMILIES = (
    # ChatML (Qwen, Yi), Llama 3 and 4, Phi, GLM, gpt-oss, Command, Granite, OLMo, Kimi, StarCoder, LFM, Jamba; with
    # full-width bars DeepSeek and Hunyuan
    rf"<[|｜]{_INSIDE}[|｜]>",
    rf"<\|{_INSIDE}>|<{_INSIDE}\|>",  # Gemma 4: <|turn> and <turn|>
    rf"\[\|{_INSIDE}\|\]",  # EXAONE
    r"</?s>|<(?:bos|eos|pad|unk|mask|cls|sep|BOS|EOS|PAD|UNK|CLS|SEP|MASK|EOT|EOP|SOP|PRE|MID|SUF|sop|eop|eod|eoh|eoa)>",
    r"<(?:BOS|EOS|EOP|MASK|PAD)_TOKEN>",
    r"<(?:start|end)_of_(?:turn|image|audio)>|<(?:image|audio)_soft_token>",  # Gemma 2 and 3
    r"<(?:unused|reserved|reserved_|extra_id_|SPECIAL_|TOKENS_UNUSED_)\d{1,4}>",  # Gemma, Baichuan, T5, Nemotron, InternLM
    r"\[/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS)\]",  # Mistral
    r"\[(?:TOOL_CALLS|ARGS|CALL_ID|IMG|IMG_BREAK|IMG_END|PREFIX|MIDDLE|SUFFIX|AUDIO|BEGIN_AUDIO|STREAMING_PAD)\]",
    r"<</?SYS>>",  # Llama 2
    r"\[[gs]?MASK\]|\[(?:CLS|SEP|PAD|UNK|BOS|EOS|EOT)\]",  # GLM, BERT, Kimi
    r"</?(?:think|thinking|tool_call|tool_calls|tool_response|tools)>",  # Qwen, DeepSeek, GLM
    r"</?seed:[a-z_]{1,30}>",  # Seed
    r"<(?:fim|file|repo|gh|issue|jupyter|commit|empty|filename)[_-][a-z_]{1,30}>|<reponame>|<filename>",  # StarCoder
    r"◁/?[a-z_]{1,30}▷",  # Kimi
    r"\]~!?b\[|\]~b\]|\[e~\[",  # MiniMax
    r">>[A-Z]{4,20}<<",  # Falcon
    r"<__(?:media|image)__>|<(?:image|video|audio)>",  # placeholders for pictures: llama.cpp, LLaVA, vLLM
)
# Each form begins with a literal character, so that a search passes over the other characters quickly.
_TOKEN = re.compile("|".join(_FAMILIES))
# The first character of a token. The others are only looked at: the end of one token may be the beginning of another, as in
# `]~b[INST]`.
_FIRST = r"[<\[\]◁>]"
_BEGINNING = re.compile(rf"(?={_FIRST})(?={'|'.join(_FAMILIES)}){_FIRST}")


def escape_control_tokens(text: str) -> str:
    """Return `text` with a space after the first character of each control token. Takes time linear in its length."""
    if _TOKEN.search(text) is None:  # nearly every text
        return text
    return _BEGINNING.sub(lambda first: f"{first[0]} ", text)
