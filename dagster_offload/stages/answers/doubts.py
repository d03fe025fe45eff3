"""Signs that a valid answer may be worthless. Pure.

A doubtful answer gets one more question. If that does not help, it is recorded with its marks, because a person may still
want to read it. Each sign is chosen so that good summaries do not show it: a doubt costs a call.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_offload.stages.prompts.languages import language_code
from dagster_offload.text.tokens import estimated_tokens


@dataclass(frozen=True)
class Doubt:
    """A sign, as a mark for the record (`repeats_itself`) and as a remark for the repair question."""

    mark: str
    remark: str


REPEATS_ITSELF = Doubt("repeats_itself", "it says the same thing again and again")
LONGER_THAN_DOCUMENT = Doubt("longer_than_document", "it is longer than the document")
VALUE_DROPPED = "value_dropped"  # the mark of a record without a value that does not fit its field
DROPPED_FIELDS = "value_dropped_of"  # the key of an answer to a part that lists these fields

# A summary of two lines may be longer than a note of five words.
LONGEST_UNDOUBTED_TOKENS = 80
LEAST_REPETITIONS = 4
LEAST_REPEATED_SHARE = 0.5
_SENTENCE = re.compile(r"[^.!?。！？\n]+")
_SHORTEST_SENTENCE = 8  # characters
_LONGEST_LOOP_WORDS = 20

LEAST_LETTERS = 40  # of a text whose language is judged
_SCRIPTS = {
    "latin": re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]"),
    "cyrillic": re.compile("[\u0400-\u052f]"),
    "greek": re.compile("[\u0370-\u03ff]"),
    "hebrew": re.compile("[\u0590-\u05ff]"),
    "arabic": re.compile("[\u0600-\u06ff]"),
    "devanagari": re.compile("[\u0900-\u097f]"),
    "thai": re.compile("[\u0e00-\u0e7f]"),
    "hangul": re.compile("[\uac00-\ud7a3]"),
    "kana": re.compile("[\u3040-\u30ff]"),
    "han": re.compile("[\u3400-\u9fff]"),
}
# The scripts in which a language is written. Names and quotes in other scripts may take up most of a text.
_SCRIPTS_OF = {
    "ko": ("hangul",),
    "ja": ("kana",),
    "zh": ("han",),
    "ru": ("cyrillic",),
    "uk": ("cyrillic",),
    "el": ("greek",),
    "he": ("hebrew",),
    "ar": ("arabic",),
    "hi": ("devanagari",),
    "th": ("thai",),
}
_LEAST_SHARE = 0.15  # of the letters that a language's own scripts must have
# Japanese is written with Han characters too, but never without kana.
_FOREIGN_SCRIPTS = {"zh": ("kana", "hangul")}

# Frequent words that the other languages here do not have.
_FREQUENT_WORDS = {
    "cs": "že jsou který podle není byl bylo pro také",
    "da": "og ikke af på blev efter også hvor jeg",
    "de": "der und ist nicht das mit für auf werden ein eine wurde bei zum",
    "en": "the and of is was with that this are from which has",
    "es": "el los las y una con por del como más fue pero",
    "fi": "ja on että ei ovat joka sekä mutta myös oli",
    "fr": "le les et une est des dans pour sur avec qui du au",
    "hu": "és az hogy nem egy van volt is meg szerint",
    "id": "yang dan untuk dengan pada tidak ini dari adalah dalam",
    "it": "il gli che di è per della con sono nel alla più",
    "nl": "het een van zijn niet voor met wordt ook naar door",
    "no": "og ikke av på ble etter også hvor jeg",
    "pl": "i nie jest się na przez oraz został dla są",
    "pt": "os uma não com para por do da em ao foi são mais",
    "ro": "și este care nu din pentru cu sunt prin fost",
    "sv": "och inte av på är efter också som det jag",
    "tr": "ve bir bu için ile olarak olan daha tarafından",
    "vi": "và của là không được các cho với trong những",
}
_WORDS = {code: frozenset(words.split()) for code, words in _FREQUENT_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_WORDS = 6  # frequent words of another language
_TIMES_MORE = 3


def doubts_about(record: Mapping[str, Any], text: str, language: str) -> tuple[Doubt, ...]:
    """The doubts about a summary of `text`. `language` is the owner's setting; empty = the document's own, not judged."""
    summary, points = record["summary"], record.get("key_points") or ()
    found = []
    if repeats_itself(summary):
        found.append(REPEATS_ITSELF)
    written = " ".join((summary, *points))
    wanted = language_code(language) if language.strip() else None
    if wanted is not None and is_another_language(written, wanted):
        found.append(Doubt("other_language", f"it is not written in {language.strip()}"))
    tokens = estimated_tokens(summary)
    if tokens > LONGEST_UNDOUBTED_TOKENS and tokens > estimated_tokens(text):
        found.append(LONGER_THAN_DOCUMENT)
    return tuple(found)


def doubt_about_dropped(faults: str) -> Doubt:
    """The doubt about an answer whose values with these faults were dropped."""
    return Doubt(VALUE_DROPPED, f"{faults}; answer null only where the document does not state the value")


def repeats_itself(text: str) -> bool:
    """Whether most of a text is one sentence, or one phrase, again and again."""
    found = _SENTENCE.findall(text)
    sentences = [" ".join(sentence.casefold().split()) for sentence in found if len(found) >= LEAST_REPETITIONS]
    sentences = [sentence for sentence in sentences if len(sentence) >= _SHORTEST_SENTENCE]
    if sentences:
        (_, times), *_ = Counter(sentences).most_common(1)
        if times >= LEAST_REPETITIONS and times >= LEAST_REPEATED_SHARE * len(sentences):
            return True
    return _ends_in_a_loop(text.casefold().split())


def _ends_in_a_loop(words: list[str]) -> bool:
    """Whether at least half of the words, at the end, are one phrase again and again."""
    for length in range(1, _LONGEST_LOOP_WORDS + 1):
        same = 0
        while same + length < len(words) and words[-1 - same] == words[-1 - same - length]:
            same += 1
        repeated = same + length
        if repeated >= LEAST_REPETITIONS * max(length, 3) and repeated >= LEAST_REPEATED_SHARE * len(words):
            return True
    return False


def is_another_language(text: str, wanted: str) -> bool:
    """Whether a text is certainly not in the language with this ISO 639-1 code; false for short and unclear ones."""
    counts = {script: len(letters.findall(text)) for script, letters in _SCRIPTS.items()}
    total = sum(counts.values())
    if total < LEAST_LETTERS:
        return False
    if (scripts := _SCRIPTS_OF.get(wanted)) is not None:
        foreign = sum(counts[script] for script in _FOREIGN_SCRIPTS.get(wanted, ()))
        return _share(counts, scripts) < _LEAST_SHARE or foreign > _LEAST_SHARE * total
    if wanted not in _WORDS:
        return False
    return counts["latin"] < _LEAST_SHARE * total or _is_another_latin_language(text, wanted)


def _share(counts: Mapping[str, int], scripts: Iterable[str]) -> float:
    return sum(counts[script] for script in scripts) / sum(counts.values())


def _is_another_latin_language(text: str, wanted: str) -> bool:
    words = Counter(_WORD.findall(text.casefold()))
    frequent = {code: sum(words[word] for word in known) for code, known in _WORDS.items()}
    return max(frequent.values()) >= max(_LEAST_WORDS, _TIMES_MORE * frequent[wanted] + 1)
