"""Separates an answer from thinking that a server leaves in its text, by the marks that the model writes.

The families of marks: `<think>` and similar (Qwen, DeepSeek, GLM, Seed), channels (gpt-oss, Gemma 4), `[THINK]`
(Mistral), `<|START_THINKING|>` (Command), `◁think▷` (Kimi), and marks before the answer (`<answer>`, `[BEGIN FINAL
RESPONSE]`). Pure.
"""

import re

from dagster_offload.text.lenient_json import located_objects

_TAG = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reflection)"
_ANSWER_BEGINS = (
    rf"</{_TAG}>",
    r"\[/THINK\]",
    # gpt-oss; it sends some answers in the channel for tools.
    r"<\|channel\|>\s*(?:final|commentary)\b[^<{]{0,80}(?:<\|constrain\|>[^<{]{0,40})?(?:<\|message\|>)?",
    r"<channel\|>",
    r"<\|END_THINKING\|>",
    r"<\|START_RESPONSE\|>",
    r"◁/think▷",
    r"<answer>",
    r"<\|begin_of_box\|>",
    r"\[BEGIN FINAL RESPONSE\]",
)
_THINKING_BEGINS = (
    rf"<{_TAG}>",
    r"\[THINK\]",
    r"<\|channel\|>",
    r"<\|channel>",
    r"<\|START_THINKING\|>",
    r"◁think▷",
)
_MARK = re.compile(rf"(?P<answer>{'|'.join(_ANSWER_BEGINS)})|{'|'.join(_THINKING_BEGINS)}")

# Every mark contains one of these. Nearly no answer has a mark, and this search is fast.
_SIGNS = ("<", "◁", "[THINK]", "[/THINK]", "[BEGIN FINAL RESPONSE]")

MOST_CHARACTERS = 1_000_000  # a longer text is not a plausible answer and is not searched


def split_thinking(text: str) -> tuple[str, str | None]:
    """The thinking, and the answer after the last mark; the answer is None if the thinking does not end.

    An answer may contain such marks itself: marks within a JSON object are ignored, and a broken object is not split.
    """
    if len(text) > MOST_CHARACTERS or not any(sign in text for sign in _SIGNS):
        return "", text.strip()
    marks = list(_MARK.finditer(text))
    if marks:
        objects = [place for place, _ in located_objects(text)]
        if _begins_with_a_broken_object(text, objects):
            return "", text.strip()
        marks = _outside(marks, objects)
    if not marks:
        return "", text.strip()
    last = marks[-1]
    if last["answer"] is None:
        return _MARK.sub("", text), None
    return _MARK.sub("", text[: last.start()]), text[last.end() :].strip()


def _begins_with_a_broken_object(text: str, objects: list[range]) -> bool:
    begins = text.lstrip()
    if not begins.startswith(("{", "```")):
        return False
    first = text.find("{")
    return not objects or first < objects[0].start


def _outside(marks: list[re.Match[str]], objects: list[range]) -> list[re.Match[str]]:
    """The marks outside all objects. Both lists are in text order."""
    kept, at = [], 0
    for mark in marks:
        while at < len(objects) and objects[at].stop <= mark.start():
            at += 1
        if at == len(objects) or mark.start() < objects[at].start:
            kept.append(mark)
    return kept
