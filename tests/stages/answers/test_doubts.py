"""Doubts about summaries: what is doubtful, and that good summaries are not."""

from pathlib import Path

import pytest

from dagster_offload.simulator.answers import summary
from dagster_offload.stages.answers.doubts import doubts_about, is_another_language, repeats_itself

ROOT = Path(__file__).parents[3]
ENGLISH = (
    "The tenant pays the rent of 900 euros on the first day of each month, and the landlord is to mend the heating."
)
GERMAN = "Der Mieter zahlt die Miete nicht mit der Bank und wird auf das Konto für die Wohnung eine Summe einzahlen."
FRENCH = "Le locataire paie le loyer dans les délais et une caution est versée par chèque pour le logement du bailleur."
KOREAN = (
    "임차인은 매월 1일에 임대인에게 월세 90만 원을 지급하며, 임대인은 난방 설비를 수리하고 "
    "점검할 책임을 집니다. 계약은 2년입니다."
)
JAPANESE = "借主は毎月一日に家賃九万円を貸主に支払い、貸主は暖房設備を修理する責任を負います。契約期間は二年です。"
LONG = " ".join(f"Clause {n} names the party that pays for item {n}." for n in range(40))
TEXTS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "ko": KOREAN, "ja": JAPANESE}


def marks(text: str, document: str = LONG, language: str = "") -> list[str]:
    return [doubt.mark for doubt in doubts_about({"summary": text, "key_points": []}, document, language)]


@pytest.mark.parametrize(
    "text",
    [
        "The rent is due. " * 5,
        "It begins well. " + "The rent is due on Monday. " * 6,
        "집세는 매월 첫날에 내야 합니다. " * 5,
        "家賃は毎月一日に支払います。" * 5,
        "A contract about " + "the rent and the heating and " * 10,
        "It lists " + "and so on " * 30,
    ],
)
def test_one_sentence_or_phrase_again_and_again_is_doubtful(text: str) -> None:
    assert repeats_itself(text)
    assert "repeats_itself" in marks(text)


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS.values(),
        LONG,
        "Yes. " * 3,
        "",
        "Paid in May: 300 euros. Paid in June: 300 euros. Paid in July: 300 euros. Paid in August: 300 euros.",
        "The rent is due. The heating is cold. The rent is due. The lift is broken. The roof leaks.",
        "Rows: 1 1 1 1 1 1 of 40 rows, with the sums of each month and the names of those who paid for the room.",
    ],
)
def test_a_summary_with_similar_sentences_is_not(text: str) -> None:
    assert not repeats_itself(text)


@pytest.mark.parametrize("wanted", TEXTS)
@pytest.mark.parametrize("written", TEXTS)
def test_a_text_in_another_language_is_recognised(wanted: str, written: str) -> None:
    assert is_another_language(TEXTS[written], wanted) == (wanted != written)


def test_languages_that_are_unclear_are_not_doubted() -> None:
    assert not is_another_language("Rechnung 4471", "ko"), "too short"
    assert not is_another_language(ENGLISH, "sw"), "a language that is not known here"
    assert not is_another_language("삼성전자 Galaxy S24 Ultra 256GB Titanium Gray 보증서입니다. 구매일 기준 2년.", "ko")


def test_the_language_counts_only_if_the_owner_chose_one() -> None:
    assert marks(ENGLISH, language="Korean") == ["other_language"]
    assert marks(ENGLISH, language="") == []
    assert marks(ENGLISH, language="Klingon") == []


def test_a_summary_longer_than_its_document_is_doubtful_unless_both_are_short() -> None:
    assert marks(LONG, ENGLISH) == ["longer_than_document"]
    assert marks(ENGLISH, "Rent: 900") == []


def test_summaries_of_the_sample_library_are_not_doubtful() -> None:
    texts = [path.read_text() for path in (ROOT / "fixtures/library").rglob("*") if path.suffix == ".md"]
    assert len(texts) >= 3
    for text in filter(str.strip, texts):
        assert marks(summary(text)["summary"], text) == [], text[:40]
