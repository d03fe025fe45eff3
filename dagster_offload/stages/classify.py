"""The stage classify: text -> class. Its instruction, its options and the parser of its answer."""

import unicodedata
from collections.abc import Sequence

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.stage_spec.relations import OTHER
from dagster_offload.stages.answers.parsing import LanguageCode, Share, StageAnswer, fitting_records

PROMPT_VERSION = 2


class Classification(StageAnswer):
    """A document's class. `confidence` is the model's own estimate from 0 to 1; `language` is ISO 639-1."""

    category: str
    confidence: Share = None
    language: LanguageCode = None


def instruction(classes: tuple[str, ...]) -> str:
    """Return the instruction that the model gets after the document."""
    return (
        "Classify the document. Answer with the JSON object "
        '{"category": one of ' + ", ".join(f'"{name}"' for name in classes) + ", "
        '"confidence": a whole number from 0 to 100, "language": the document\'s ISO 639-1 code}. '
        f'If no other class fits, the category is "{OTHER}".'
    )


def options(classes: tuple[str, ...]) -> RequestOptions:
    """Return the request options, with a JSON schema of the answer."""
    schema = {
        "type": "object",
        "required": ["category", "confidence", "language"],
        "additionalProperties": False,
        "properties": {
            "category": {"enum": list(classes)},
            # A grammar enforces the range of whole numbers only: a real server wrote 2.57 for a number from 0 to 1.
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
            "language": {"type": "string", "pattern": "^[a-z]{2}$"},
        },
    }
    return RequestOptions(max_tokens=200, temperature=0.0, thinking=False, response_schema=schema)


def parse(answer: str, classes: tuple[str, ...]) -> Classification:
    """Parse an answer; class names are compared without case. Raises `UnusableAnswer`, for example for an undeclared class."""
    for record in fitting_records(answer, Classification):
        if (name := class_named(record.category, classes)) is not None:
            return record.model_copy(update={"category": name})
    raise UnusableAnswer("unknown_class", f"the answer's category is none of: {', '.join(classes)}")


def class_named(written: str, classes: Sequence[str]) -> str | None:
    """Return the class of this name, or None. Case does not matter; of two that differ only in case the first one wins."""
    declared = {_folded(name): name for name in reversed(classes)}
    return written if written in classes else declared.get(_folded(written))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip(" .\"'").casefold()
