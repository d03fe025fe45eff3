"""summarize: text -> summary. What is asked, and what is accepted as an answer."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from dagster_offload.slot.completion import RequestOptions
from dagster_offload.stages.answers import LanguageCode, Points, StageAnswer, parse_record
from dagster_offload.stages.cleaning import BoundedPoints, BoundedSummary, Title
from dagster_offload.stages.languages import language_name
from dagster_offload.stages.long_documents import WholeReading

PROMPT_VERSION = 2

DOCUMENTS_OWN = "the document's own language"


def instruction(language: str) -> str:
    """What is asked; `language` as the owner named it, empty for the document's own."""
    return f"Summarize the document. {_form(language)}"


def whole_reading(language: str) -> WholeReading:
    """A long document is summarised part by part, and the parts' summaries are merged."""
    return WholeReading(
        part_instruction=(
            "The document is one part of a longer one, which goes on before and after it. Summarize this part. "
            f"{_form(language)}"
        ),
        merge_instruction=(
            "The document holds the summaries of the consecutive parts of one longer document, in order. Write one "
            "summary of that longer document: what it is and what it says as a whole, without speaking of parts or of "
            f"summaries. {_form(language)}"
        ),
        note=note,
    )


def note(answer: Mapping[str, Any]) -> str:
    """A part's answer as a merge reads it, the most important first."""
    lines = [f"# {answer['title']}"] if answer.get("title") else []
    return "\n".join([*lines, answer["summary"], *(f"- {point}" for point in answer.get("key_points", ()))])


def _form(language: str) -> str:
    written_in = language_name(language) if language.strip() else DOCUMENTS_OWN
    return (
        "Answer with the JSON object "
        '{"title": a short title, "summary": three to six sentences that keep names, dates and amounts, '
        '"key_points": a list of at most seven short sentences, "language": the document\'s ISO 639-1 code}. '
        f"Write title, summary and key points in {written_in}."
    )


class Summary(StageAnswer):
    """A document's summary. `language` is the document's. Only `summary` is required."""

    summary: Annotated[BoundedSummary, Field(min_length=1)]
    title: Title = None
    key_points: Annotated[Points, BoundedPoints] = ()
    language: LanguageCode = None


def options() -> RequestOptions:
    schema = {
        "type": "object",
        "required": ["title", "summary", "key_points", "language"],
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string"},
            "summary": {"type": "string"},
            "key_points": {"type": "array", "items": {"type": "string"}, "maxItems": 7},
            "language": {"type": "string", "pattern": "^[a-z]{2}$"},
        },
    }
    return RequestOptions(max_tokens=1_500, temperature=0.2, thinking=False, response_schema=schema)


def parse(answer: str) -> Summary:
    """Raises `UnusableAnswer`."""
    return parse_record(answer, Summary)
