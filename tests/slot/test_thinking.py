"""Thinking in a text is separated from the answer after it, for every family of marks, complete or broken."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.slot.thinking import MOST_CHARACTERS, split_thinking

GOOD = '{"category": "letter"}'
DRAFT = '{"category": "draft"}'
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final <|constrain|>json<|message|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>commentary json<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<think>", "</think><answer>"),
    ("Here are my steps.", "[BEGIN FINAL RESPONSE]"),
)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        (GOOD, "", GOOD),
        (f"<think>Hm.</think>\n{GOOD}", "Hm.", GOOD),
        (f"<thinking>Hm.</thinking><think>Ha.</think>{GOOD}", "Hm.Ha.", GOOD),
        (f"Hm.</think>{GOOD}", "Hm.", GOOD),
        (f"Let me see. <think>Hm.</think>{GOOD}", "Let me see. Hm.", GOOD),
        (f"<think>{DRAFT}</think>{GOOD}", DRAFT, GOOD),
        (f"{DRAFT}</think>{GOOD}", DRAFT, GOOD),
        ("<think>Hm.", "Hm.", None),
        ("Let me see. <think>Hm.", "Let me see. Hm.", None),
        ("<|channel|>analysis<|message|>Hm.", "analysis<|message|>Hm.", None),
        ("Hm. <|chan", "", "Hm. <|chan"),
        ('{"summary": "It closes </think> and opens <think>."}', "", '{"summary": "It closes </think> and opens <think>."}'),
        ('{"summary": "broken </think> and', "", '{"summary": "broken </think> and'),
    ],
)  # fmt: skip
def test_thinking_in_the_text_is_separated_from_the_answer(text: str, thought: str, answer: str | None) -> None:
    assert split_thinking(text) == (thought, answer)


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_the_marks_of_each_family_are_recognised(opening: str, closing: str) -> None:
    thought, answer = split_thinking(f"{opening}A draft: {DRAFT}{closing}{GOOD}")
    assert answer == GOOD
    assert DRAFT in thought


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_marks_within_the_strings_of_an_answer_are_kept(opening: str, closing: str) -> None:
    text = json.dumps({"summary": f"It says {opening} and {closing}."})
    assert split_thinking(text) == ("", text)
    assert split_thinking(f"{opening}Hm.{closing}{text}")[1] == text


@settings(deadline=None)
@given(st.text(st.sampled_from('<|>[]/think{}"channelfinal:, '), max_size=200), st.sampled_from(MARKS))
def test_the_answer_after_the_last_mark_is_found_after_any_thinking(thought: str, marks: tuple[str, str]) -> None:
    opening, closing = marks
    answer = split_thinking(f"x {opening}{thought}\n{closing}{GOOD}")[1]
    assert answer is not None
    assert answer.endswith(GOOD)


@settings(deadline=None)
@given(st.text())
def test_splitting_adds_no_text(text: str) -> None:
    thought, answer = split_thinking(text)
    assert len(thought) + len(answer or "") <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "{" * MOST_CHARACTERS,
        '{"a":' * (MOST_CHARACTERS // 5),
        "<think>" + '{"a' * 300_000,
        "</think>" * 120_000,
        '<think>"' + "{}" * 400_000,
    ],
)
def test_a_malicious_text_is_split_in_linear_time(text: str) -> None:
    """If each brace were followed to the end, this would take hours and the test would time out."""
    split_thinking(text)
