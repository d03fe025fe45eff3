"""Answers of the stand-in router: a plain extractive summary and a class by key words, so that a demo's records say
something about their documents. No model is behind it, and the served model's name says so."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

CLASSIFY = "classify"
SUMMARIZE = "summarize"
PART = "part"
MERGE = "merge"

# How an instruction says that the document is less, or something else, than a whole document.
LONG_DOCUMENT_WORDS = {PART: "one part of a longer one", MERGE: "summaries of the consecutive parts"}

# The delimiters stand on lines of their own; rules before them may name them in a sentence.
_DOCUMENT = re.compile(r"^<document>\n(.*)\n</document>", re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+(?![a-z])|\n+")  # not after "Ltd." in mid-sentence
_WORD = re.compile(r"[a-z']{3,}|[가-힣]{2,}")
_CLASSES_IN_INSTRUCTION = re.compile(r'"category": one of ((?:"[^"]+"(?:, )?)+)')

# Key words of the default classes; a class the owner declared is found by its own name.
KEY_WORDS: dict[str, tuple[str, ...]] = {
    "invoice": (
        "invoice",
        "amount due",
        "vat",
        "payment terms",
        "subtotal",
        "청구서",
        "세금계산서",
        "공급가액",
        "합계금액",
    ),
    "letter": ("dear ", "sincerely", "kind regards", "yours faithfully", "드림", "올림", "귀하", "안녕하십니까"),
    "contract": ("agreement", "hereinafter", "the parties", "termination", "계약서", "계약", "갑과 을", "제1조"),
    "report": ("report", "findings", "quarter", "results", "conclusion", "보고서", "분석", "실적", "결과"),
    "minutes": ("minutes", "attendees", "agenda", "action items", "회의록", "참석자", "안건", "회의"),
    "manual": ("manual", "step 1", "installation", "troubleshooting", "warning:", "설명서", "사용법", "설치"),
    "article": ("abstract", "researchers", "published", "according to", "기사", "논문", "연구"),
    "form": ("form", "applicant", "signature:", "date of birth", "please fill", "신청서", "서명", "성명", "양식"),
}


def document_in(messages: Sequence[dict[str, Any]]) -> str | None:
    """The text between the document's delimiters, wherever in the messages it stands."""
    for message in messages:
        found = _DOCUMENT.search(str(message.get("content") or ""))
        if found is not None:
            return found[1]
    return None


def asked_stage(messages: Sequence[dict[str, Any]], schema: dict[str, Any] | None) -> str | None:
    """Which stage asks: by its schema's fields, or by the instruction's where no schema came along."""
    named = schema.get("properties", {}) if schema is not None else _last_user_text(messages)
    for field, stage in (("category", CLASSIFY), ("summary", SUMMARIZE)):
        if (field if schema is not None else f'"{field}"') in named:
            return stage
    return None


def asked_about(messages: Sequence[dict[str, Any]]) -> str | None:
    """`part` or `merge` where a stage asks about a long document so; None for a whole one."""
    said = _last_user_text(messages)
    return next((what for what, words in LONG_DOCUMENT_WORDS.items() if words in said), None)


def answer(messages: Sequence[dict[str, Any]], schema: dict[str, Any] | None) -> str:
    """The answer's text: a stage's JSON, an object with a schema's fields, or a few plain words (a trial's)."""
    document = document_in(messages)
    stage = asked_stage(messages, schema)
    if stage == CLASSIFY:
        return json.dumps(classification(document or "", _classes(messages, schema)), ensure_ascii=False)
    if stage == SUMMARIZE:
        return json.dumps(summary(document or ""), ensure_ascii=False)
    if schema is not None:
        return json.dumps(dict.fromkeys(schema.get("properties", {}), "red"))
    return "ready" if document is None else summary(document)["summary"]


def language_of(text: str) -> str:
    """`ko` where Hangul makes up a good part of the letters, else `en`."""
    letters = [character for character in text if character.isalpha()]
    hangul = sum("가" <= character <= "힣" for character in letters)
    return "ko" if letters and hangul / len(letters) > 0.2 else "en"


def classification(text: str, classes: Sequence[str]) -> dict[str, Any]:
    """The class whose key words occur most; those in the title count three times."""
    body, head = text.lower(), text[:200].lower()
    scores = {}
    for name in classes:
        words = KEY_WORDS.get(name, (name.lower(),))
        scores[name] = sum(body.count(word) + 2 * head.count(word) for word in words)
    best = max(scores, key=lambda name: scores[name], default="other")
    if not scores.get(best):
        best = "other" if "other" in classes or not classes else classes[0]
    total = sum(scores.values())
    confidence = round(100 * scores[best] / total) if total else 30
    return {"category": best, "confidence": confidence, "language": language_of(text)}


def summary(text: str) -> dict[str, Any]:
    """Title: the first line. Summary: the sentences with the most frequent words, in the document's order."""
    lines = [line.strip(" #*\t") for line in text.splitlines() if line.strip(" #*\t")]
    title = lines[0][:120] if lines else "(empty document)"
    sentences = [part for line in _SENTENCE_END.split(text) if len(part := " ".join(line.split())) >= 20]
    frequency = Counter(_WORD.findall(text.lower()))

    def weight(index: int) -> float:
        words = _WORD.findall(sentences[index].lower())
        salience = sum(frequency[word] for word in words) / (len(words) + 3)
        return salience * (1.5 if index < 2 else 1.0)  # documents say first what they are about

    ranked = sorted(range(len(sentences)), key=weight, reverse=True)
    chosen = [sentences[index][:400] for index in sorted(ranked[:3])] or [title]
    points = [sentences[index][:200] for index in sorted(ranked[:5])]
    return {"title": title, "summary": " ".join(chosen), "key_points": points, "language": language_of(text)}


def _classes(messages: Sequence[dict[str, Any]], schema: dict[str, Any] | None) -> list[str]:
    if schema is not None:
        declared = schema["properties"]["category"].get("enum")
        if declared:
            return list(declared)
    found = _CLASSES_IN_INSTRUCTION.search(_last_user_text(messages))
    return re.findall(r'"([^"]+)"', found[1]) if found is not None else [*KEY_WORDS, "other"]


def _last_user_text(messages: Sequence[dict[str, Any]]) -> str:
    asked = [str(message.get("content") or "") for message in messages if message.get("role") == "user"]
    return _DOCUMENT.sub("", asked[-1]) if asked else ""
