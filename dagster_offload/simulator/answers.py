"""Answers of the stand-in router: an extractive summary and a class by keywords.

The demo's records thus describe their documents. There is no model behind it, and the served model's name shows that.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dagster_offload.simulator.fields import filled_in

CLASSIFY = "classify"
SUMMARIZE = "summarize"
PART = "part"
MERGE = "merge"

# Phrases by which an instruction is recognised as one about a part of a document or a merge.
LONG_DOCUMENT_WORDS = {PART: "one part of a longer one", MERGE: "summaries of the consecutive parts"}

# The delimiters are on their own lines; the rules before them may mention them in a sentence.
_DOCUMENT = re.compile(r"^<document>\n(.*)\n</document>", re.DOTALL | re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+(?![a-z])|\n+")  # not after "Ltd." in mid-sentence
_HANGUL = re.compile("[가-힣]")
_OBJECT = re.compile(r"\{.*\}")
_WORD = re.compile(r"[a-z']{3,}|[가-힣]{2,}")
_OFFERED = re.compile(r'^Values of "([^"]+)" in other documents: (\[.*\])$', re.MULTILINE)
_CLASSES_IN_INSTRUCTION = re.compile(r'"category": one of ((?:"[^"]+"(?:, )?)+)')

# Keywords of the default classes. A class that the owner declared is found by its own name.
KEYWORDS: dict[str, tuple[str, ...]] = {
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
    """Return the text between the document's delimiters, or None if no message holds a document."""
    for message in messages:
        match = _DOCUMENT.search(str(message.get("content") or ""))
        if match is not None:
            return match[1]
    return None


def stage_of(messages: Sequence[dict[str, Any]], schema: dict[str, Any] | None) -> str | None:
    """Return the stage that sent a request, by the fields of its schema, or of its instruction if it has no schema."""
    fields = schema.get("properties", {}) if schema is not None else _last_user_text(messages)
    for field, stage in (("category", CLASSIFY), ("summary", SUMMARIZE)):
        if (field if schema is not None else f'"{field}"') in fields:
            return stage
    return None


def passage_kind(messages: Sequence[dict[str, Any]]) -> str | None:
    """Return `part` or `merge` for a request about a long document; None for one about a whole document."""
    instruction = _last_user_text(messages)
    return next((kind for kind, phrase in LONG_DOCUMENT_WORDS.items() if phrase in instruction), None)


def answer(messages: Sequence[dict[str, Any]], schema: dict[str, Any] | None) -> str:
    """Return the answer's text: a stage's JSON, an object with a schema's fields, or plain text (for a trial)."""
    document = document_in(messages)
    stage = stage_of(messages, schema)
    if stage == CLASSIFY:
        return json.dumps(classification(document or "", _classes(messages, schema)), ensure_ascii=False)
    if stage == SUMMARIZE:
        return json.dumps(summary(document or ""), ensure_ascii=False)
    if schema is not None and document is not None:
        return json.dumps(filled_in(schema, document) | _offered(messages, document), ensure_ascii=False)
    if schema is not None:
        return json.dumps(dict.fromkeys(schema.get("properties", {}), "red"))
    if document is None:
        shown = _OBJECT.search(_last_user_text(messages))  # as `doctor` asks for JSON
        return shown[0] if shown is not None else "ready"
    return str(summary(document)["summary"])


def language_of(text: str) -> str:
    """Return `ko` if more than a fifth of the letters are Hangul, else `en`."""
    hangul = len(_HANGUL.findall(text))
    return "ko" if hangul and hangul / sum(map(str.isalpha, text)) > 0.2 else "en"


def classification(text: str, classes: Sequence[str]) -> dict[str, Any]:
    """Return the class whose keywords occur most often. Keywords in the first 200 characters count three times."""
    body, head = text.lower(), text[:200].lower()
    scores = {}
    for name in classes:
        words = KEYWORDS.get(name, (name.lower(),))
        scores[name] = sum(body.count(word) + 2 * head.count(word) for word in words)
    best = max(scores, key=lambda name: scores[name], default="other")
    if not scores.get(best):
        best = "other" if "other" in classes or not classes else classes[0]
    total = sum(scores.values())
    confidence = round(100 * scores[best] / total) if total else 30
    return {"category": best, "confidence": confidence, "language": language_of(text)}


def summary(text: str) -> dict[str, Any]:
    """Return a summary record. Title: the first line. Summary: the sentences with the most frequent words, in order."""
    lines = [line.strip(" #*\t") for line in text.splitlines() if line.strip(" #*\t")]
    title = lines[0][:120] if lines else "(empty document)"
    sentences = [part for line in _SENTENCE_END.split(text) if len(part := " ".join(line.split())) >= 20]
    frequency = Counter(_WORD.findall(text.lower()))

    def weight(index: int) -> float:
        words = _WORD.findall(sentences[index].lower())
        salience = sum(frequency[word] for word in words) / (len(words) + 3)
        return salience * (1.5 if index < 2 else 1.0)  # documents state their subject first

    ranked = sorted(range(len(sentences)), key=weight, reverse=True)
    chosen = [sentences[index][:400] for index in sorted(ranked[:3])] or [title]
    points = [sentences[index][:200] for index in sorted(ranked[:5])]
    return {"title": title, "summary": " ".join(chosen), "key_points": points, "language": language_of(text)}


def _offered(messages: Sequence[dict[str, Any]], document: str) -> dict[str, str]:
    """By field, the first offered value whose first word occurs in the document."""
    words = document.casefold()
    found: dict[str, str] = {}
    for field, values in _OFFERED.findall(_last_user_text(messages)):
        meant = [value for value in json.loads(values) if value.split()[0].casefold() in words]
        found |= {field: meant[0]} if meant else {}
    return found


def _classes(messages: Sequence[dict[str, Any]], schema: dict[str, Any] | None) -> list[str]:
    if schema is not None:
        declared = schema["properties"]["category"].get("enum")
        if declared:
            return list(declared)
    match = _CLASSES_IN_INSTRUCTION.search(_last_user_text(messages))
    return re.findall(r'"([^"]+)"', match[1]) if match is not None else [*KEYWORDS, "other"]


def _last_user_text(messages: Sequence[dict[str, Any]]) -> str:
    user_texts = [str(message.get("content") or "") for message in messages if message.get("role") == "user"]
    return _DOCUMENT.sub("", user_texts[-1]) if user_texts else ""
