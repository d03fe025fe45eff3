"""Long texts are counted, split and read in linear time, repeatably, without loss and without oversized parts."""

import base64
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.stages.prompts.long_documents import NOTE_CUT_MARK, Kind, Passage, Reading, WholeReading, merged
from dagster_offload.stages.prompts.splitting import Size, Sizes, split
from dagster_offload.text.tokens import estimated_tokens, text_tokens

ENGLISH = "The tenant shall pay the rent on the first day of every month to the landlord. "
CLAUSES = "".join(f"Clause {number}. {ENGLISH}" for number in range(700))
KOREAN = "세입자는 매월 첫째 날에 임대료를 집주인에게 지불해야 한다. "
SIZES: Sizes = (Size(0, 500),)


def note(answer: Mapping[str, Any]) -> str:
    return str(answer["summary"])


WHOLE = WholeReading("summarize this part", "merge these summaries", note)


def reading(text: str, sizes: Sizes = SIZES, answers: Mapping[str, Mapping[str, Any]] | None = None) -> Reading:
    return Reading(text, "summarize", WHOLE, sizes, answers or {})


def answer_all(read: Reading, summary: str = "what it says") -> list[Passage]:
    """Answer passages until the last one. Returns all of them, including the last."""
    passages = []
    while True:
        passage = read.next_passage()
        passages.append(passage)
        if passage.is_last:
            return passages
        read.answered(passage, {"summary": f"{summary} {passage.number}"})


# Counting. The true numbers were counted with Qwen's tokenizer.


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (ENGLISH * 10, 171),
        (KOREAN * 10, 251),
        ("Все люди рождаются свободными и равными в своем достоинстве и правах. " * 10, 202),
        ("يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. " * 10, 191),
        ("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ " * 10, 410),
        ("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。" * 10, 240),
        ("😀🎉🚀🥳" * 25, 100),
        ("1.234,56;7.890,12;3.456,78\n" * 10, 270),
    ],
    ids=["English", "Korean", "Russian", "Arabic", "Thai", "Japanese", "emoji", "numbers"],
)
def test_the_token_estimate_is_conservative_in_every_script(text: str, tokens: int) -> None:
    assert 0.85 * tokens <= estimated_tokens(text) <= 3.2 * tokens


def test_the_token_estimate_of_noise_is_high_enough() -> None:
    noise = base64.b64encode(random.Random(1).randbytes(30_000)).decode()
    assert estimated_tokens(noise) > 0.75 * len(noise) / 1.35


# Splitting


@pytest.mark.slow
@given(st.text(), st.integers(1, 60))
def test_the_parts_joined_are_the_text_and_each_fits(text: str, tokens: int) -> None:
    parts = split(text, (Size(0, tokens),))
    assert "".join(parts) == text
    assert all(estimated_tokens(part) <= max(tokens, 3) + 1 for part in parts)  # one character may be three tokens
    assert all(parts) or parts == [""]


@given(st.text(alphabet="ab1 .\n\f#。가😀", max_size=400), st.integers(1, 30), st.integers(1, 30), st.data())
def test_parts_before_a_smaller_size_do_not_change(text: str, tokens: int, less: int, data: st.DataObject) -> None:
    before = split(text, (Size(0, tokens),))
    kept = data.draw(st.integers(0, len(before) - 1))
    start = sum(map(len, before[:kept]))
    after = split(text, (Size(0, tokens), Size(start, less))) if start else split(text, (Size(0, less),))
    assert after[:kept] == before[:kept]
    assert "".join(after) == text


@pytest.mark.parametrize(
    ("heading", "mark"),
    [
        ("# The second chapter\n", "# The second"),
        ("Chapter 2\n", "Chapter 2"),
        ("제2장 임대료\n", "제2장"),
        ("第二章 租金\n", "第二章"),
        ("2.1 The rent\n", "2.1 The"),
        ("\fPage two begins.\n", "Page two"),
        ("\n<!-- PAGE 2 -->\n", "<!-- PAGE 2"),
    ],
)
def test_a_text_is_cut_at_boundaries_of_its_structure(heading: str, mark: str) -> None:
    text = f"{ENGLISH * 20}\n\n" * 2 + heading + "\n" + f"{ENGLISH * 3}\n\n" * 10
    parts = split(text, (Size(0, 1_300),))
    assert any(part.startswith(mark) for part in parts)


def test_a_paragraph_is_cut_between_sentences_and_a_sentence_between_words() -> None:
    for part in split(ENGLISH * 200, SIZES)[:-1]:
        assert part.endswith("landlord. ")
    for part in split(KOREAN * 200, SIZES)[:-1]:
        assert part.endswith("한다. ")
    for part in split("word " * 2_000, SIZES)[:-1]:
        assert part.endswith("word ")


def test_parts_are_as_full_as_their_structure_allows() -> None:
    text = f"{ENGLISH * 5}\n\n" * 200
    assert len(split(text, SIZES)) <= 1.35 * estimated_tokens(text) / 500
    uneven = (f"{ENGLISH}\n\n" + f"{ENGLISH * 14}\n\n") * 50  # short and nearly full paragraphs alternate
    assert len(split(uneven, SIZES)) <= 1.5 * estimated_tokens(uneven) / 500


# Reading


def test_a_document_that_fits_needs_one_request() -> None:
    read = reading("short")
    (passage,) = answer_all(read)
    assert (passage.kind, passage.instruction, passage.label, read.total) == (Kind.WHOLE, "summarize", None, None)


def test_each_part_is_asked_about_once_in_order_and_then_the_merges() -> None:
    passages = answer_all(reading(CLAUSES))
    parts = [passage for passage in passages if passage.kind is Kind.PART]
    assert "".join(passage.text for passage in parts) == CLAUSES
    assert [passage.number for passage in parts] == list(range(1, len(parts) + 1))
    assert parts[0].label == f"part 1 of {len(parts)}"
    assert [passage.is_last for passage in passages] == [False] * (len(passages) - 1) + [True]
    assert passages[-1].kind is Kind.MERGE


def test_merges_form_levels_within_the_size_until_one_is_left() -> None:
    passages = answer_all(reading(CLAUSES * 4), summary=ENGLISH * 3)
    merges = [passage for passage in passages if passage.kind is Kind.MERGE]
    totals = list(dict.fromkeys(passage.total for passage in merges))
    assert len(totals) >= 3
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] == 1
    assert all(estimated_tokens(passage.text) <= 500 for passage in merges)


def test_a_stage_that_reads_only_the_beginning_reads_the_first_part_of_other_stages() -> None:
    beginning = Reading(CLAUSES, "classify", None, SIZES, {})
    passage = beginning.next_passage()
    assert passage.is_last
    assert passage.text == reading(CLAUSES).next_passage().text
    assert (beginning.parts_read, beginning.parts) == (1, reading(CLAUSES).parts)
    assert passage.label == f"part 1 of {beginning.parts}"


@given(st.integers(0, 40))
def test_a_new_reading_resumes_with_exactly_the_unanswered_passages(done: int) -> None:
    first, answers = reading(CLAUSES), {}
    first_digests: list[str] = []
    for _ in range(done):
        passage = first.next_passage()
        if passage.is_last:
            break
        answers[passage.digest] = {"summary": f"{ENGLISH} {passage.number}"}
        first.answered(passage, answers[passage.digest])
        first_digests.append(passage.digest)
    second = reading(CLAUSES, answers=answers)
    second_digests = [passage.digest for passage in answer_all(second, summary=ENGLISH)]
    assert not set(first_digests) & set(second_digests)
    assert len(set(first_digests + second_digests)) == len(answer_all(reading(CLAUSES), summary=ENGLISH))


def test_identical_parts_are_asked_about_once() -> None:
    text = f"# Chapter\n{ENGLISH * 15}\n" * 10
    read = reading(text)
    assert read.parts == 10
    assert sum(passage.kind is Kind.PART for passage in answer_all(read)) == 1


def test_a_part_too_long_for_the_server_is_split_and_earlier_answers_are_kept() -> None:
    read = reading(CLAUSES)
    answered = []
    for _ in range(5):
        passage = read.next_passage()
        answered.append(passage.text)
        read.answered(passage, {"summary": "yes"})
    too_long = read.next_passage()
    assert read.split_smaller(too_long, ContextOverflow())
    smaller = read.next_passage()
    assert too_long.text.startswith(smaller.text)
    assert len(smaller.text) < 0.6 * len(too_long.text)
    assert (smaller.number, read.done) == (6, 5)
    assert split(CLAUSES, read.sizes)[:5] == answered


def test_a_dense_part_is_split_smaller_without_changing_other_parts() -> None:
    sizes = (Size(0, 1_500),)
    read, whole_sized = reading(CLAUSES, sizes), split(CLAUSES, sizes)
    for _ in range(5):
        read.answered(read.next_passage(), {"summary": "yes"})
    assert read.split_smaller(read.next_passage(), ContextOverflow())
    assert read.split_smaller(read.next_passage(), ContextOverflow()), "and smaller still"
    parts = split(CLAUSES, read.sizes)
    assert parts[:5] == whole_sized[:5]
    assert "".join(parts) == CLAUSES
    assert read.parts <= len(whole_sized) + 4
    longest = max(len(part) for part in parts[9:])
    assert longest >= 0.9 * max(map(len, whole_sized))


def test_a_first_part_that_is_too_long_makes_all_parts_smaller() -> None:
    read = reading(CLAUSES)
    before = read.parts
    assert read.split_smaller(read.next_passage(), ContextOverflow())
    assert read.parts >= 1.8 * before
    assert len(read.sizes) == 1


def test_token_counts_reported_by_the_server_are_used() -> None:
    read = Reading(ENGLISH * 2_000, "summarize", WHOLE, (Size(0, 30_000),), {})
    assert read.split_smaller(read.next_passage(), ContextOverflow(context_tokens=8_192, prompt_tokens=16_384))
    assert read.sizes == (Size(0, text_tokens(8_192)),)
    # The server counts twice the tokens of our estimate, so the estimate is corrected.
    assert read.split_smaller(read.next_passage(), ContextOverflow(context_tokens=8_192, prompt_tokens=2 * 6_192))
    assert 3_000 < read.sizes[0].tokens <= text_tokens(8_192) // 2
    assert read.split_smaller(
        read.next_passage(), ContextOverflow(context_tokens=8_192)
    )  # no new information: half the size
    assert read.sizes[0].tokens <= text_tokens(8_192) // 4


def test_a_merge_that_is_too_long_is_split_and_the_parts_are_kept() -> None:
    read = reading(CLAUSES, (Size(0, 2_000),))
    while (passage := read.next_passage()).kind is Kind.PART:
        read.answered(passage, {"summary": f"{ENGLISH * 2}{passage.number}"})
    assert read.split_smaller(passage, ContextOverflow())
    after = read.next_passage()
    assert after.kind is Kind.MERGE
    assert estimated_tokens(after.text) <= 0.6 * estimated_tokens(passage.text)
    assert read.done == read.parts


def test_a_part_is_not_split_below_the_smallest_size() -> None:
    read = reading(ENGLISH * 5)
    splits = 0
    while read.split_smaller(read.next_passage(), ContextOverflow()):
        splits += 1
        assert splits < 10
    assert read.sizes[-1].tokens >= 256


def test_notes_too_long_for_a_tiny_context_are_cut_with_a_mark_and_two_always_fit() -> None:
    (text,) = merged([ENGLISH * 50, ENGLISH * 50], 400)
    assert text.count(NOTE_CUT_MARK) == 2
    assert estimated_tokens(text) <= 400


@given(st.lists(st.integers(1, 12), min_size=2, max_size=60))
def test_each_level_of_merges_has_fewer_texts(lengths: list[int]) -> None:
    notes = [ENGLISH * length for length in lengths]
    texts = merged(notes, 600)
    assert len(texts) <= (len(notes) + 1) // 2
    assert all(estimated_tokens(text) <= 600 for text in texts)


def test_a_part_that_lacks_a_wrong_value_makes_no_combined_record_doubtful() -> None:
    """Another part may state the value. `combine` knows."""
    marked = {"one": {"summary": "a", "doubtful": ["value_dropped", "unsupported_values"]}}
    combining = WholeReading("part", "merge", note, combine=lambda answers: dict(answers[0]))
    assert Reading("text", "ask", combining, SIZES, dict(marked)).doubtful == ["unsupported_values"]
    assert Reading("text", "ask", WHOLE, SIZES, dict(marked)).doubtful == ["unsupported_values", "value_dropped"]
