"""The stage summarize: text -> summary. Its instructions, its options and the parser of its answer."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from dagster_offload.slot.completion import RequestOptions
from dagster_offload.stages.answers.cleaning import BoundedPoints, BoundedSummary, Title
from dagster_offload.stages.answers.parsing import LanguageCode, Points, StageAnswer, parse_record
from dagster_offload.stages.prompts.languages import language_name
from dagster_offload.stages.prompts.long_documents import WholeReading

PROMPT_VERSION = 2

DOCUMENTS_OWN = "the document's own language"


def instruction(language: str) -> str:
    """Return the instruction. `language` is the owner's setting; empty means the document's own language."""
    return f"Summarize the document. {_form(language)}"


def whole_reading(language: str) -> WholeReading:
    """Return the instructions for a long document: each part is summarised, and the summaries are merged."""
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
    """Return an answer as the text that a merge reads, the most important first."""
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
    """A document's summary. `language` is the document's own. Only `summary` is required."""

    summary: Annotated[BoundedSummary, Field(min_length=1)]
    title: Title = None
    key_points: Annotated[Points, BoundedPoints] = ()
    language: LanguageCode = None


def options() -> RequestOptions:
    """Return the request options, with a JSON schema of the answer."""
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
    """Parse an answer into a record. Raises `UnusableAnswer`."""
    return parse_record(answer, Summary)
